//! The log told once more, from a write on.
//!
//! A log file holds its writes in order and without a gap, until a compaction takes it: what is copied out of it has no
//! order, and what was dead is gone. So a replay begins only where the write behind its place is still in a log file, and
//! the log files after that one are there too, because compactions take the oldest first. A file with losses is not told.

use rondo_core::engine::{LogPlace, Replay};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};

use super::{Bitcask, DataFile};
use crate::log::record::Kind;
use crate::log::replay::{Told, page};

impl<D: Disk> Bitcask<D> {
    /// One page of the log behind a place. Everything is handed over.
    pub(super) fn replay_from(&self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        let newest = self.syncing.lsn;
        if from.after.0 == newest {
            return Ok(Replay::Page { changes: Vec::new(), next: None });
        }
        let Some((number, of)) = self.log_with(from.after.0 + 1) else {
            return Ok(Replay::Gone);
        };
        let told = Told { number, file: &of.file, seed: of.seed, end: of.end, last: of.lsn_max };
        page(&*self.disk, &told, from, newest, bytes_max)?.map_err(|at| {
            let what = "the log cannot be told once more: a write is damaged";
            Error::corrupt(self.path(number, "data"), at, what)
        })
    }

    /// The log file in which a write lies.
    fn log_with(&self, lsn: u64) -> Option<(u32, &DataFile<D::File>)> {
        let mut logs = self.files.iter().filter(|(_, file)| file.kind == Kind::Log);
        let (&number, file) = logs.find(|(_, file)| file.lsn_max >= lsn)?;
        (file.lsn_min <= lsn && !file.damaged).then_some((number, file))
    }
}
