//! Records that a start finds damaged, of keys that are known: they are told to whoever asks (`Engine::take_damaged`), and reads of
//! them answer an error. They are never absent.
//!
//! A key is known from the head of its record when only the body is damaged (`follow`), or from the hint. A hint that is sound
//! is believed without reading its file, and then the first read of a record, or a compaction, finds out. Only a file whose
//! header is damaged is looked over at the start, because what took the header may have taken more.
//!
//! Left out: damage in the head of a record in a file without a hint. Nobody knows whose it was, so it is a loss.

use std::ops::Range;

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::sometimes;

use super::keydir::Place;
use super::order::Stop;
use super::{Bitcask, Keys};
use crate::log::follow::Entry;
use crate::log::walk::{Item, Walk};

/// So many damaged parts of a file are told apart; behind them all of it counts as damaged.
const HOLES_MAX: usize = 4096;
/// Hints are read this many blocks at a time.
const BLOCKS_AT_ONCE: usize = 16;

impl<D: Disk> Bitcask<D> {
    /// Notes which of these records of a file are alive: they cannot be read.
    pub(super) fn note_unreadable(&mut self, number: u32, records: &[(Box<[u8]>, Entry)]) {
        for (key, entry) in records {
            let place = Place { file: number, offset: entry.offset, len: entry.len };
            let is_alive = self.keydir.find(self.fingerprint(key)).any(|other| other == place);
            sometimes!(self.disk, RecoveryFoundARottenRecord, is_alive);
            if let Some(file) = self.files.get_mut(&number).filter(|_| is_alive) {
                file.note_rotten(entry.offset, key, &mut self.leftovers.untold);
            }
        }
    }

    /// Reads all of a file with a hint, and notes what is alive in it and cannot be read.
    pub(super) fn look_over(&mut self, number: u32) -> Result<()> {
        let holes = self.holes_in(number)?;
        let Keys::Hint(hint) = &self.files[&number].keys else {
            return Ok(());
        };
        let mut records = Vec::new();
        let mut cursor = hint.start(BLOCKS_AT_ONCE);
        loop {
            let next = cursor.advance(&*self.disk, hint);
            next.map_err(|error| self.stopped(Stop::new(number, error)))?;
            let Some((key, entry)) = cursor.current() else {
                break;
            };
            let before = holes.partition_point(|hole| hole.end <= u64::from(entry.offset));
            let is_in = |hole: &Range<u64>| hole.contains(&u64::from(entry.offset));
            if !entry.deleted && holes.get(before).is_some_and(is_in) {
                records.push((key.into(), entry));
            }
        }
        self.note_unreadable(number, &records);
        Ok(())
    }

    /// The damaged parts of a file, in order.
    fn holes_in(&self, number: u32) -> Result<Vec<Range<u64>>> {
        let file = &self.files[&number];
        let mut walk = Walk::new(&*self.disk, &file.file, file.seed, 0, file.end);
        let mut holes = Vec::new();
        loop {
            let from = walk.offset();
            let is_sound = match walk.next()? {
                Some(Item::Record { .. }) => true,
                Some(Item::Damage { .. } | Item::Rotten { .. }) => false,
                None => {
                    // A sealed file ends with its last record: zeroes before that were a record.
                    if from < file.end {
                        holes.push(from..file.end);
                    }
                    return Ok(holes);
                }
            };
            if !is_sound && holes.len() + 1 == HOLES_MAX {
                holes.push(from..file.end);
                return Ok(holes);
            }
            if !is_sound {
                holes.push(from..walk.offset());
            }
        }
    }

    /// Why a start cannot go on when a hint that was sound is not any more.
    pub(super) fn stopped(&self, stop: Stop) -> Error {
        match stop {
            Stop::Disk(error) => Error::Disk(error),
            Stop::Damaged(number) => {
                let what = "the hint changed while it was read; open the store again";
                Error::corrupt(self.path(number, "hint"), 0, what)
            }
        }
    }
}
