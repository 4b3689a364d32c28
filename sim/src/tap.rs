//! An engine that somebody else may look into: every write is shown as it is made, and at the end the states are
//! read without asking the node.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rondo_core::engine::{Batch, Engine, EngineStats, Lookup, Page, Progress, ReadTicket};
use rondo_core::error::Result;
use rondo_core::id::{Lsn, ReadId, SyncId};

/// Is shown each batch just before it is written.
pub type Observer = Arc<dyn Fn(&Batch) + Send + Sync>;

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
        (self.observer)(batch);
        self.engine().write(batch)
    }

    fn flush(&mut self) -> Result<()> {
        self.engine().flush()
    }

    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>> {
        self.engine().start_sync(id)
    }

    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        self.engine().synced(id, result)
    }

    fn durable(&self) -> Lsn {
        self.engine().durable()
    }

    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.engine().scan_from(from, limit, bytes_max)
    }

    fn maintain(&mut self, budget: u64) -> Result<Progress> {
        self.engine().maintain(budget)
    }

    fn checkpoint(&mut self, dir: &str) -> Result<Lsn> {
        self.engine().checkpoint(dir)
    }

    fn stats(&self) -> EngineStats {
        self.engine().stats()
    }

    fn close(&mut self) -> Result<()> {
        self.engine().close()
    }
}
