//! The log told once more, from a write on.
//!
//! A log file holds its writes in order and without a gap, until it is retired: its writes are in tables then, which do not tell of
//! them. The oldest are retired first. A file with losses is not told.

use rondo_core::engine::{LogPlace, Replay};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};

use super::Lsm;
use crate::log::replay::{Told, page};

impl<D: Disk> Lsm<D> {
    /// One page of the log behind a place. Everything is handed over.
    pub(super) fn replay_from(&self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        let (next, newest) = (from.after.0 + 1, self.syncing.lsn);
        if from.after.0 == newest {
            return Ok(Replay::Page { changes: Vec::new(), next: None });
        }
        let log = self.wal.logs.iter().find(|(_, log)| log.last >= next);
        let Some((&number, log)) = log.filter(|(_, log)| log.base < next && !log.damaged) else {
            return Ok(Replay::Gone);
        };
        let told = Told { number, file: &log.file, seed: log.seed, end: log.end, last: log.last };
        page(&*self.disk, &told, from, newest, bytes_max)?.map_err(|at| {
            let what = "the log cannot be told once more: a write is damaged";
            Error::corrupt(self.path(number, "data"), at, what)
        })
    }
}
