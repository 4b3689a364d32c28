//! An engine that somebody else may look into: how states are read at the end without asking the node.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rondo_core::engine::{Batch, Engine, EngineStats, Lookup, Page, Progress, ReadTicket};
use rondo_core::error::Result;
use rondo_core::id::{Lsn, ReadId, SyncId};

/// An engine in two hands: the node's and the observer's. Clones are the same engine.
#[derive(Clone)]
pub struct Tap(Arc<Mutex<Box<dyn Engine>>>);

impl Tap {
    /// Shares an engine.
    #[must_use]
    pub fn new(engine: Box<dyn Engine>) -> Tap {
        Tap(Arc::new(Mutex::new(engine)))
    }

    fn engine(&self) -> MutexGuard<'_, Box<dyn Engine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
