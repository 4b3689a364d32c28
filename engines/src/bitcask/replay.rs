//! The log told once more, from a write on.
//!
//! A log file holds its writes in order and without a gap, until a compaction takes it: what is copied out of it has no
//! order, and what was dead is gone. So a replay begins only where the write behind its place is still in a log file, and
//! the log files after that one are there too, because compactions take the oldest first. A file with losses is not told.
//!
//! A file has no index of Lsns. The way to a place that no earlier page has led to is read, within the bounds of the pages on it.
//! A mark that a crash has torn held no write; any other damage breaks the sequence, and is told.

use rondo_core::engine::{LogPlace, Logged, Replay};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;

use super::{Bitcask, DataFile};
use crate::log::follow::Sequence;
use crate::log::record::{DELETE, Kind, LAST, MARK};
use crate::log::walk::{Item, Walk};

impl<D: Disk> Bitcask<D> {
    /// One page of the log behind a place. Everything is handed over.
    pub(super) fn replay_from(&self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        let after = from.after.0;
        if after == self.syncing.lsn {
            return Ok(Replay::Page { changes: Vec::new(), next: None });
        }
        let Some((number, file)) = self.log_with(after + 1) else {
            return Ok(Replay::Gone);
        };
        let start = if (from.near >> 32) as u32 == number { from.near & 0xFFFF_FFFF } else { 0 };
        let mut walk = Walk::new(&*self.disk, &file.file, file.seed, start, file.end);
        let (begun, mut sequence) = (walk.offset(), Sequence::before(after + 1));
        let (mut changes, mut last) = (Vec::new(), after);
        loop {
            let at = walk.offset();
            let Some(item) = walk.next()? else { break };
            let Item::Record { header, bytes, .. } = item else { continue };
            if header.has(MARK) {
                continue;
            }
            if header.lsn > after {
                if !sequence.take(&header) {
                    return Err(self.broken(number, at));
                }
                let key = bytes::Bytes::copy_from_slice(header.key(bytes));
                let (is_delete, delta) = (header.has(DELETE), header.delta(bytes));
                changes.push(Logged { lsn: Lsn(header.lsn), key, is_delete, delta });
                last = header.lsn;
            }
            if header.has(LAST) && walk.offset() - begun >= bytes_max && last < self.syncing.lsn {
                let near = u64::from(number) << 32 | walk.offset();
                return Ok(Replay::Page {
                    changes,
                    next: Some(LogPlace { after: Lsn(last), near }),
                });
            }
        }
        if !sequence.is_at(file.lsn_max) {
            return Err(self.broken(number, walk.offset()));
        }
        let next = (last < self.syncing.lsn).then_some(LogPlace::after(Lsn(last)));
        Ok(Replay::Page { changes, next })
    }

    /// The log file in which a write lies.
    fn log_with(&self, lsn: u64) -> Option<(u32, &DataFile<D::File>)> {
        let mut logs = self.files.iter().filter(|(_, file)| file.kind == Kind::Log);
        let (&number, file) = logs.find(|(_, file)| file.lsn_max >= lsn)?;
        (file.lsn_min <= lsn && !file.damaged).then_some((number, file))
    }

    fn broken(&self, number: u32, offset: u64) -> Error {
        let what = "the log cannot be told once more: a write is damaged";
        Error::corrupt(self.path(number, "data"), offset, what)
    }
}
