//! Giving space back when there is little left.
//!
//! Of the room below `Options::low_water_bytes` deletes may use a quarter. The rest is for the tables that give their space back. When
//! the disk is nearly full, no log is kept for replays; the memtable is written, and tables are compacted for any deletion in
//! them, as soon as half a memtable's worth is dead; and a compaction ends with each table that it has written, so that what
//! it has replaced goes before it writes the next (`compaction`). So the room of a few tables is enough, however many overlap. With
//! room or without, all of this is done when most of what tables have is dead.

use rondo_core::engine::{Batch, Change, Progress};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::sometimes;

use super::{Lsm, NO_FILE};

/// So many logs may stand for one memtable: each life begins one.
const LIVE_LOGS_MAX: usize = 8;

/// What is known of the room on the disk.
#[derive(Default)]
pub(super) struct Room {
    /// Whether the last write found none.
    pub(super) is_full: bool,
    /// Whether there was less than `Options::low_water_bytes` when it was looked at last.
    pub(super) is_low: bool,
    /// Whether what was left then is for background work.
    is_reserved: bool,
    /// Bytes handed over since it was looked at.
    pub(super) since_look: u64,
}

impl<D: Disk> Lsm<D> {
    /// Sees how much room is left, without that of the tables into which memtables have to be written before their logs give any
    /// back. A disk that does not say has enough.
    pub(super) fn look_at_space(&mut self) {
        self.room.since_look = 0;
        let low = self.options.low_water_bytes;
        if low > 0 {
            let free = self.disk.space().map_or(u64::MAX, |space| space.free);
            let free = free.saturating_sub(self.memory.bytes() as u64);
            self.room.is_low = free < low;
            self.room.is_reserved = free < low / 4 * 3;
            sometimes!(self.disk, DiskNearlyFull, self.room.is_low);
        }
    }

    pub(super) const fn has_little_room(&self) -> bool {
        self.room.is_low || self.room.is_full
    }

    /// Whether so much of what tables have was replaced or deleted that it is worth looking for.
    pub(super) fn may_give_back(&self) -> bool {
        let slack = self.options.memtable_bytes_max as u64 / 2;
        self.payload() > self.counts.totals.live_bytes + slack
    }

    fn payload(&self) -> u64 {
        self.tables.levels.all().map(|(_, table)| table.meta.payload).sum()
    }

    /// Whether most of what tables have was replaced or deleted. Once all of it has been compacted nothing is.
    pub(super) fn is_wasteful(&self) -> bool {
        let slack = 2 * self.options.memtable_bytes_max as u64;
        self.payload() > 2 * self.counts.totals.live_bytes + slack
    }

    /// Whether a batch has to wait until background work has given space back. The node's own records may use the reserve.
    pub(super) fn has_to_wait(&self, batch: &Batch) -> bool {
        let is_own = |change: &Change| change.key().first() == Some(&0);
        self.room.is_reserved && !batch.changes.iter().all(is_own)
    }

    /// Ends the memtable when what it deletes and replaces would give space back.
    pub(super) fn freeze_for_room(&mut self) -> Result<Progress> {
        let is_much = self.memory.log_bytes > self.options.memtable_bytes_max as u64 / 4;
        // A log that is longer than it should be waits for the next write to be ended, which may not come.
        let live = self.wal.logs.range(self.tables.flushed_log + 1..).count();
        let is_over =
            self.memory.log_bytes >= self.options.memtable_bytes_max as u64 || live > LIVE_LOGS_MAX;
        let is_short = self.has_little_room() && (is_much || self.may_give_back());
        let is_worth = is_over || self.is_wasteful() || is_short;
        if !is_worth || self.memory.active.is_empty() || self.wal.active.number == NO_FILE {
            return Ok(Progress::default());
        }
        self.look_at_space();
        match self.freeze() {
            Err(Error::Full(_)) => Ok(Progress::default()),
            result => {
                result?;
                Ok(Progress { bytes: 1, more: true, waits_for: None })
            }
        }
    }
}
