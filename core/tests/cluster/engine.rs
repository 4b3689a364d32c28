//! The disk of a node on the stage: its syncs and cold reads end when somebody says so, it can be full or rotten, and a
//! power loss takes what no sync has covered. It notes what it is made to do, so that a transcript tells of it.

use std::io;

use bytes::Bytes;
use rondo_core::engine::{
    Batch, Change, Engine, EngineStats, LogPlace, Lookup, MemoryEngine, Page, Progress, ReadTicket,
    Replay,
};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, ReadId, SyncId};
use rondo_core::replica::keys::{HINTS, parse_data_key, parse_hint_key};
use rondo_core::wire::frame::Generation;
use rondo_core::wire::state::{decode_state, encode_state_in};
use smallvec::SmallVec;

use crate::words;

/// How much room a disk has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Room {
    #[default]
    Enough,
    /// Deletes go, values do not.
    Little,
    /// Nothing goes.
    None,
}

/// An engine whose syncs take as long as the story wants, and whose reads are cold when it says so.
#[derive(Default)]
pub(crate) struct SlowEngine {
    inner: MemoryEngine,
    /// What a power loss leaves.
    on_disk: MemoryEngine,
    written: Lsn,
    durable: Lsn,
    pub(crate) syncing: Option<(SyncId, Lsn)>,
    covered: MemoryEngine,
    pub(crate) cold: bool,
    /// So many reads more are cold, and those after them are not.
    pub(crate) cold_gets: usize,
    /// Clients' records cannot be read.
    pub(crate) rotten: bool,
    /// Not even their heads.
    pub(crate) heads_rotten: bool,
    /// This record of the node's own cannot be read.
    pub(crate) own_rotten: Option<&'static [u8]>,
    pub(crate) room: Room,
    /// The log is told from here on.
    log_from: Lsn,
    /// In which bytes clients' records are written; `None`: in those of today.
    pub(crate) generation: Option<Generation>,
    /// Its node must end.
    pub(crate) has_failed: bool,
    /// What was found at the moment of each ticket: that, and nothing newer, is what its read brings.
    tickets: Vec<Lookup>,
    pub(crate) reading: Vec<ReadId>,
    /// What it was made to do since somebody took this.
    pub(crate) notes: Vec<String>,
}

impl SlowEngine {
    /// Another engine with all that is in this one.
    pub(crate) fn copy(&self) -> SlowEngine {
        let (room, own_rotten, log_from) = (self.room, self.own_rotten, self.log_from);
        SlowEngine {
            room,
            own_rotten,
            log_from,
            ..SlowEngine::of(self.inner.clone(), self.written)
        }
    }

    /// Another engine with what is durable in this one.
    pub(crate) fn after_a_power_loss(&self) -> SlowEngine {
        SlowEngine::of(self.on_disk.clone(), self.durable)
    }

    fn of(inner: MemoryEngine, written: Lsn) -> SlowEngine {
        let on_disk = inner.clone();
        SlowEngine { inner, on_disk, written, durable: written, ..SlowEngine::default() }
    }

    /// The hints that are here cannot be made out any more.
    pub(crate) fn rot_hints(&mut self) {
        let page = self.inner.scan_from(HINTS, 1024, 1 << 20).expect("memory");
        let hints = page.records.into_iter().filter(|(key, _)| parse_hint_key(key).is_some());
        let rotten = |(key, _)| Change::put(key, Bytes::from_static(b"?"), SmallVec::new());
        let changes = hints.map(rotten).collect();
        self.written = self.inner.write(&Batch { changes }).expect("memory");
    }

    /// The log does not reach back before this.
    pub(crate) fn forget_log(&mut self) {
        self.log_from = self.written;
    }

    /// What a client's key has here, whether it can be read or not.
    pub(crate) fn record(&mut self, key: &[u8]) -> Option<(Lsn, String)> {
        match self.inner.get(key).expect("memory") {
            Lookup::Hit(record) => Some((record.lsn, words::record(&record.head, &record.body))),
            Lookup::Miss | Lookup::Cold(_) => None,
        }
    }
}

impl Engine for SlowEngine {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.get(key)
    }
    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        if self.rotten && parse_data_key(&Bytes::copy_from_slice(key)).is_some() {
            return Err(rot());
        }
        if self.cold || self.cold_gets > 0 {
            self.cold_gets = self.cold_gets.saturating_sub(1);
            self.tickets.push(self.inner.get(key)?);
            let file = self.tickets.len() as u64 - 1;
            return Ok(Lookup::Cold(ReadTicket { file, offset: 0, len: 0 }));
        }
        self.inner.get(key)
    }
    fn start_read(&mut self, id: ReadId, _: ReadTicket) -> Result<()> {
        self.notes.push("starts a read".to_owned());
        self.reading.push(id);
        Ok(())
    }
    fn finish_read(&mut self, ticket: ReadTicket, _: Bytes) -> Result<Lookup> {
        Ok(self.tickets[ticket.file as usize].clone())
    }
    fn write(&mut self, batch: &Batch) -> Result<Lsn> {
        let what = words::batch(batch);
        if self.room == Room::None {
            self.notes.push(format!("has no room to store {what}"));
            return Err(Error::Full("the disk is full"));
        }
        self.written = match self.generation {
            None => self.inner.write(batch)?,
            Some(generation) => self.inner.write(&in_bytes_of(generation, batch))?,
        };
        self.notes.push(format!("stores {what}"));
        Ok(self.written)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>> {
        if self.written == self.durable {
            return Ok(None);
        }
        self.syncing = Some((id, self.written));
        self.covered = self.inner.clone();
        self.notes.push("starts a sync".to_owned());
        Ok(Some(self.written))
    }
    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        let (running, lsn) = self.syncing.take().expect("a sync runs");
        assert_eq!(running, id, "the sync that ends is the one that runs");
        result.map_err(|_| Error::Poisoned)?;
        self.durable = lsn;
        self.on_disk = std::mem::take(&mut self.covered);
        Ok(lsn)
    }
    fn durable(&self) -> Lsn {
        self.durable
    }
    fn is_nearly_full(&self) -> bool {
        self.room != Room::Enough
    }
    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        let page = self.inner.scan_from(from, limit, bytes_max)?;
        let first = page.records.first();
        match first.filter(|(key, _)| self.own_rotten == Some(&key[..]) && key == from) {
            Some(_) => Err(rot()),
            None => Ok(page),
        }
    }

    fn replay(&mut self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        if from.after < self.log_from {
            return Ok(Replay::Gone);
        }
        self.inner.replay(from, bytes_max)
    }

    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        let page = self.inner.scan_heads(from, limit, bytes_max)?;
        let first = page.records.first();
        match first.filter(|(key, _)| self.heads_rotten && parse_data_key(key).is_some()) {
            Some(_) => Err(rot()),
            None => Ok(page),
        }
    }
    fn maintain(&mut self, _: u64) -> Result<Progress> {
        Ok(Progress::default())
    }
    fn checkpoint(&mut self, _: &str) -> Result<Lsn> {
        Err(Error::Poisoned)
    }
    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A batch as a node of this generation writes it.
fn in_bytes_of(generation: Generation, batch: &Batch) -> Batch {
    let changes = batch.changes.iter().map(|change| match change {
        Change::Put { key, head, body, delta } if parse_data_key(key).is_some() => {
            let state = decode_state(head, &Bytes::from(body.concat())).expect("a state");
            let (head, body) = encode_state_in(generation, &state);
            assert_eq!(head[0], 2, "the bytes of the generation before");
            Change::Put { key: key.clone(), head, body, delta: *delta }
        }
        Change::Put { .. } | Change::Delete { .. } => change.clone(),
    });
    Batch { changes: changes.collect() }
}

/// What a rotten record is met with.
pub(crate) fn rot() -> Error {
    Error::corrupt("1.data".to_owned(), 44, "its checksum")
}
