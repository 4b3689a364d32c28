//! An engine that somebody else may look into: every write is shown as it is made, and at the end the states are
//! read without asking the node.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rondo_core::engine::{
    Batch, Engine, EngineStats, LogPlace, Lookup, Page, Progress, ReadTicket, Replay,
};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, ReadId, SyncId};

/// Is told what an engine is given and what it promises.
pub type Observer = Arc<dyn Fn(Seen<'_>) + Send + Sync>;

/// What is told.
pub enum Seen<'a> {
    /// This batch is written next.
    Writes(&'a Batch),
    /// It is written.
    Wrote(Lsn),
    /// Everything up to here survives a power loss.
    Durable(Lsn),
    /// Background work begins, or has ended.
    Maintains(bool),
}

/// An engine in two hands: the node's and the observer's. Clones are the same engine.
#[derive(Clone)]
pub struct Tap {
    engine: Arc<Mutex<Box<dyn Engine>>>,
    observer: Observer,
}

impl Tap {
    /// Shares an engine.
    #[must_use]
    pub fn new(engine: Box<dyn Engine>, observer: Observer) -> Tap {
        Tap { engine: Arc::new(Mutex::new(engine)), observer }
    }

    /// An engine may make things durable whenever it is called: some need no sync, some wait for one.
    fn tell_durable(&self) {
        let durable = self.engine().durable();
        (self.observer)(Seen::Durable(durable));
    }

    fn engine(&self) -> MutexGuard<'_, Box<dyn Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Tap {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.engine().head(key)
    }

    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        self.engine().get(key)
    }

    fn start_read(&mut self, id: ReadId, ticket: ReadTicket) -> Result<()> {
        self.engine().start_read(id, ticket)
    }

    fn finish_read(&mut self, ticket: ReadTicket, bytes: Bytes) -> Result<Lookup> {
        self.engine().finish_read(ticket, bytes)
    }

    fn write(&mut self, batch: &Batch) -> Result<Lsn> {
        let written = self.engine().write(batch);
        if let Err(Error::Full(_) | Error::Busy(_) | Error::Corrupt { .. } | Error::Malformed(_)) =
            written
        {
            // Nothing has changed.
            return written;
        }
        (self.observer)(Seen::Writes(batch));
        let lsn = written?;
        (self.observer)(Seen::Wrote(lsn));
        self.tell_durable();
        Ok(lsn)
    }

    fn flush(&mut self) -> Result<()> {
        self.engine().flush()
    }

    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>> {
        let started = self.engine().start_sync(id);
        self.tell_durable();
        started
    }

    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        let durable = self.engine().synced(id, result);
        self.tell_durable();
        durable
    }

    fn durable(&self) -> Lsn {
        self.engine().durable()
    }

    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.engine().scan_from(from, limit, bytes_max)
    }

    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.engine().scan_heads(from, limit, bytes_max)
    }

    fn replay(&mut self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        self.engine().replay(from, bytes_max)
    }

    fn maintain(&mut self, budget: u64) -> Result<Progress> {
        (self.observer)(Seen::Maintains(true));
        let progress = self.engine().maintain(budget);
        (self.observer)(Seen::Maintains(false));
        self.tell_durable();
        progress
    }

    fn is_nearly_full(&self) -> bool {
        self.engine().is_nearly_full()
    }

    fn take_damaged(&mut self) -> Vec<Bytes> {
        self.engine().take_damaged()
    }

    fn checkpoint(&mut self, dir: &str) -> Result<Lsn> {
        self.engine().checkpoint(dir)
    }

    fn stats(&self) -> EngineStats {
        self.engine().stats()
    }

    fn close(&mut self) -> Result<()> {
        let closed = self.engine().close();
        match &closed {
            Ok(()) => (self.observer)(Seen::Durable(Lsn(u64::MAX))),
            Err(_) => self.tell_durable(),
        }
        closed
    }
}
