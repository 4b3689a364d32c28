//! The model of an engine: a sorted map in memory. Every other engine is held against it.
//!
//! It loses everything with its process, and its opening says that it keeps nothing; everything it holds counts as durable
//! at once.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;

use crate::config::MEMORY_LOG_CHANGES_MAX;
use crate::error::{Error, Result};
use crate::id::{Lsn, ReadId, SyncId};

use super::contract::{
    Batch, Change, Engine, EngineStats, LogPlace, Logged, Lookup, Page, Progress, ReadTicket,
    Record, Replay,
};
use super::opened::{Opened, Opening};

/// Its name.
const NAME: &str = "memory";

/// A sorted map.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    records: BTreeMap<Bytes, Record>,
    lsn: Lsn,
    /// The last changes, of whole writes.
    log: VecDeque<Logged>,
    /// The last write that is not in `log` any more.
    log_after: Lsn,
    reads: u64,
    writes: u64,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine, opened as others are.
    #[must_use]
    pub fn open(how: &Opening) -> (Self, Opened) {
        let opened = Opened { engine: NAME, salt: how.salt, ..Opened::default() };
        (Self::new(), opened)
    }

    /// Remembers what a replay tells of a write, and forgets the oldest ones.
    fn log(&mut self, batch: &Batch) {
        let lsn = self.lsn;
        self.log.extend(batch.last_of_each_key().into_iter().map(|change| match change {
            Change::Put { key, delta, .. } => {
                Logged { lsn, key: key.clone(), is_delete: false, delta: *delta }
            }
            Change::Delete { key, delta } => {
                Logged { lsn, key: key.clone(), is_delete: true, delta: *delta }
            }
        }));
        while self.log.len() > MEMORY_LOG_CHANGES_MAX {
            self.log_after = self.log.front().map_or(self.lsn, |oldest| oldest.lsn);
            while self.log.front().is_some_and(|oldest| oldest.lsn <= self.log_after) {
                self.log.pop_front();
            }
        }
    }

    fn scan(&self, from: &[u8], limit: usize, max: usize, part: fn(&Record) -> Record) -> Page {
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes = 0;
        for (key, record) in self.records.range(Bytes::copy_from_slice(from)..) {
            if page.records.len() >= limit || (bytes > 0 && bytes >= max) {
                page.next = Some(key.clone());
                break;
            }
            let record = part(record);
            bytes += key.len() + record.head.len() + record.body.len();
            page.records.push((key.clone(), record));
        }
        page
    }
}

impl Engine for MemoryEngine {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.get(key)
    }

    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        self.reads += 1;
        Ok(self.records.get(key).map_or(Lookup::Miss, |record| Lookup::Hit(record.clone())))
    }

    fn start_read(&mut self, _: ReadId, _: ReadTicket) -> Result<()> {
        Err(Error::Malformed("the memory engine gives no read tickets"))
    }

    fn finish_read(&mut self, _: ReadTicket, _: Bytes) -> Result<Lookup> {
        Err(Error::Malformed("the memory engine gives no read tickets"))
    }

    fn write(&mut self, batch: &Batch) -> Result<Lsn> {
        if batch.changes.is_empty() {
            return Ok(self.lsn);
        }
        self.lsn.0 += 1;
        self.writes += batch.changes.len() as u64;
        self.log(batch);
        for change in &batch.changes {
            match change {
                Change::Put { key, head, body, .. } => {
                    let record =
                        Record { lsn: self.lsn, head: head.clone(), body: body.concat().into() };
                    self.records.insert(key.clone(), record);
                }
                Change::Delete { key, .. } => {
                    self.records.remove(key);
                }
            }
        }
        Ok(self.lsn)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn start_sync(&mut self, _: SyncId) -> Result<Option<Lsn>> {
        Ok(None)
    }

    fn synced(&mut self, _: SyncId, _: io::Result<()>) -> Result<Lsn> {
        Ok(self.lsn)
    }

    fn durable(&self) -> Lsn {
        self.lsn
    }

    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        Ok(self.scan(from, limit, bytes_max, Record::clone))
    }

    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        let head = |record: &Record| Record { body: Bytes::new(), ..record.clone() };
        Ok(self.scan(from, limit, bytes_max, head))
    }

    fn replay(&mut self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        if from.after < self.log_after || from.after > self.lsn {
            return Ok(Replay::Gone);
        }
        let (mut changes, mut bytes): (Vec<Logged>, u64) = (Vec::new(), 0);
        for logged in self.log.iter().filter(|logged| logged.lsn > from.after) {
            let last = changes.last().map(|last| last.lsn);
            if bytes >= bytes_max && last.is_some_and(|last| last < logged.lsn) {
                return Ok(Replay::Page { changes, next: last.map(LogPlace::after) });
            }
            bytes += logged.key.len() as u64;
            changes.push(logged.clone());
        }
        Ok(Replay::Page { changes, next: None })
    }

    fn maintain(&mut self, _: u64) -> Result<Progress> {
        Ok(Progress::default())
    }

    fn checkpoint(&mut self, _: &str) -> Result<Lsn> {
        Err(Error::Malformed("the memory engine has no files to copy; choose another engine"))
    }

    fn stats(&self) -> EngineStats {
        let bytes =
            |(key, record): (&Bytes, &Record)| key.len() + record.head.len() + record.body.len();
        EngineStats {
            name: NAME,
            records: self.records.len() as u64,
            own_records: self.records.range(..Bytes::from_static(&[1])).count() as u64,
            live_bytes: self.records.iter().map(bytes).sum::<usize>() as u64,
            reads: self.reads,
            writes: self.writes,
            ..EngineStats::default()
        }
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
