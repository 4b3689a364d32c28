//! What waits for the disk: replies and acknowledgements that promise durability.
//!
//! Group commit without a timer in the common case: while one sync runs, everything written meanwhile waits for
//! the next, which starts at once when the first ends. A sync costs the processor 60 to 150 µs, so while many
//! replies wait, starts are at least `SYNC_GAP_NS` apart.
//!
//! Invariants: nothing is released before the write it depends on is durable; one sync runs at a time; a
//! failed sync releases nothing, ever: the node stops.

use std::collections::BTreeMap;
use std::io;

use crate::engine::Engine;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{Lsn, NodeId, SyncId};
use crate::message::Message;
use crate::version::hlc::Hlc;

/// With more waiting than this, sync starts keep their distance.
const CROWD: usize = 8;
/// The distance, in nanoseconds.
const SYNC_GAP_NS: u64 = 1_000_000;

/// What to do when a write is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    /// Send this message, perhaps to this node itself.
    Send(NodeId, Message),
    /// The hybrid clock's mark is on disk.
    ClockMark(Hlc),
    /// Nothing: somebody looks at `Engine::durable` himself.
    Nothing,
}

/// Everything that waits, by the write it waits for.
#[derive(Debug, Default)]
pub struct Held {
    waiting: BTreeMap<(Lsn, u64), Release>,
    sequence: u64,
    running: Option<SyncId>,
    last_start: Mono,
    syncs: u64,
}

impl Held {
    /// Keeps `release` until `lsn` is durable.
    pub fn until(&mut self, lsn: Lsn, release: Release) {
        self.sequence += 1;
        self.waiting.insert((lsn, self.sequence), release);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When `start` has something to do; `None` while a sync runs or nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.running.is_some() || self.waiting.is_empty() {
            return None;
        }
        let gap = if self.waiting.len() > CROWD { SYNC_GAP_NS } else { 0 };
        Some(Mono(self.last_start.0 + gap))
    }

    /// Starts a sync when it is time. What needs none comes back at once.
    pub fn start(&mut self, now: Mono, engine: &mut dyn Engine) -> Result<Vec<Release>> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(Vec::new());
        }
        let id = SyncId(self.syncs + 1);
        if engine.start_sync(id)?.is_none() {
            return Ok(self.up_to(engine.durable()));
        }
        self.syncs += 1;
        self.running = Some(id);
        self.last_start = now;
        Ok(Vec::new())
    }

    /// The sync ended: what is released by it.
    pub fn synced(
        &mut self,
        id: SyncId,
        result: io::Result<()>,
        engine: &mut dyn Engine,
    ) -> Result<Vec<Release>> {
        if self.running != Some(id) {
            return Err(Error::Malformed("a sync ended that was not started"));
        }
        self.running = None;
        let durable = engine.synced(id, result)?;
        Ok(self.up_to(durable))
    }

    fn up_to(&mut self, durable: Lsn) -> Vec<Release> {
        let later = self.waiting.split_off(&(Lsn(durable.0 + 1), 0));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }
}
