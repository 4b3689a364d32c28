//! Records that cannot be read, of keys that are known: they are told once to whoever asks (`Engine::take_damaged`), and reads of them
//! answer an error until they are written over.
//!
//! A start knows them of the log, a compaction of the tables that it reads. What a read finds, it answers itself.

use std::collections::BTreeSet;

use bytes::Bytes;
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_core::sometimes;

use super::Lsm;
use super::table::Part;

/// So many keys are remembered; more are found when they are read.
const KEYS_MAX: usize = 4096;

/// Keys of such records.
#[derive(Default)]
pub(super) struct Damage {
    known: BTreeSet<Bytes>,
    untold: Vec<Bytes>,
    /// Keys of which an old record may be meant.
    suspects: Vec<Bytes>,
}

impl Damage {
    /// A record of this key is damaged; it may not be the newest.
    pub(super) fn suspect(&mut self, key: &[u8]) {
        if self.suspects.len() < KEYS_MAX {
            self.suspects.push(Bytes::copy_from_slice(key));
        }
    }

    /// The key has been written over.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if !self.known.is_empty() {
            self.known.remove(key);
        }
    }

    pub(super) fn take_untold(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.untold)
    }

    /// How many are known.
    pub(super) fn count(&self) -> u64 {
        self.known.len() as u64
    }

    fn note(&mut self, key: Bytes) {
        if self.known.len() < KEYS_MAX && self.known.insert(key.clone()) {
            self.untold.push(key);
        }
    }
}

impl<D: Disk> Lsm<D> {
    /// Sees which of the suspects cannot be read.
    pub(super) fn look_at_suspects(&mut self) {
        for key in std::mem::take(&mut self.damage.suspects) {
            let is_damaged = matches!(self.look_up(&key, Part::All), Err(Error::Corrupt { .. }));
            sometimes!(self.disk, RecoveryFoundARottenRecord, is_damaged);
            if is_damaged {
                self.damage.note(key);
            }
        }
    }
}
