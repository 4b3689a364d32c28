//! Giving space back when there is little left.
//!
//! Of the room below `Options::low_water_bytes` deletes may use three sixteenths. The rest is for compactions, which need the room of
//! one file, for hints, which may be as long as the deletes, and for the few records with which the node keeps itself in
//! order. Else deletes could use up what the compaction needs that would give their space back, and nothing would ever be written
//! again. When the disk is nearly full, the file that is written is ended as soon as it would pay to compact it, and files
//! that nothing points to go first, since nothing has to be written for that. Removed files are not kept open for reads then.
//!
//! Left out: files without a hint, where there is no room for one; their turn comes when there is.

use rondo_core::engine::{Batch, Change, Progress};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::sometimes;

use super::{Background, Bitcask, DataFile, NO_FILE};

/// Of the low-water mark, what deletes may not use.
const RESERVED_SIXTEENTHS: u64 = 13;

impl<D: Disk> Bitcask<D> {
    /// Sees how much room is left. A disk that does not say has enough.
    pub(super) fn look_at_space(&mut self) {
        self.room.since_look = 0;
        let low = self.options.low_water_bytes;
        if low > 0 {
            let free = self.disk.space().map_or(u64::MAX, |space| space.free);
            self.room.is_low = free < low;
            // What a compaction has taken of the reserve it gives back.
            let lent = match &self.background {
                Some(Background::Compaction(compaction)) => compaction.output(),
                _ => None,
            };
            let lent = lent.and_then(|number| self.files.get(&number)).map_or(0, |file| file.end);
            self.room.is_reserved = free.saturating_add(lent) < low / 16 * RESERVED_SIXTEENTHS;
            sometimes!(self.disk, DiskNearlyFull, self.room.is_low);
        }
    }

    pub(super) const fn has_little_room(&self) -> bool {
        self.room.is_low || self.room.is_full
    }

    /// Whether a batch has to wait until compactions have given space back. The node's own records may use the reserve.
    pub(super) fn has_to_wait(&self, batch: &Batch) -> bool {
        let is_own = |change: &Change| change.key().first() == Some(&0);
        self.room.is_reserved && !batch.changes.iter().all(is_own)
    }

    /// The oldest of these files, as far as nothing points to them and nothing in them hides what remains.
    pub(super) fn wholly_dead(&self, files: &[(u32, &DataFile<D::File>)]) -> Vec<u32> {
        let mut dead = Vec::new();
        for &(number, file) in files {
            let is_older = |(other, of): (&u32, &DataFile<D::File>)| {
                *other == number || dead.contains(other) || of.lsn_min > file.lsn_max
            };
            if file.live > 0 || !self.files.iter().all(is_older) {
                break;
            }
            dead.push(number);
        }
        dead
    }

    /// Ends the file that is written when a compaction of it would pay; goes on when the next one is durable. Without room for
    /// that it is tried again.
    pub(super) fn end_log_for_room(&mut self) -> Result<Progress> {
        // They take room. A read that was announced before looks its key up again.
        self.leftovers.graves.clear();
        self.look_at_space();
        let number = self.active.number;
        if !self.has_little_room()
            || number == NO_FILE
            || self.syncing.is_running()
            || !self.pays(&self.files[&number])
        {
            return Ok(Progress::default());
        }
        match self.rotate() {
            Err(Error::Full(_)) => return Ok(Progress::default()),
            result => result?,
        }
        let file = self.files[&self.active.number].file.clone();
        self.syncing.send_errand(vec![file], true);
        Ok(self.waiting())
    }

    fn pays(&self, file: &DataFile<D::File>) -> bool {
        let (dead, percent) = (file.dead(), self.options.compact_dead_percent);
        let enough = dead > 0 && dead >= self.options.compact_dead_bytes_min;
        !file.is_empty() && enough && dead.saturating_mul(100) >= percent.saturating_mul(file.end)
    }
}
