//! Lives of an engine, a few steps long, and what each of them has promised when the power goes.
//!
//! Every write stores its serial number, so that no two states of a store are equal by accident and a
//! mixed or invented value equals none. What fails may have happened: the history has it either way.

use std::collections::BTreeMap;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Compared, Engine};
use rondo_core::env::DiskDone;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::mem_disk::MemDisk;

use crate::subject::Subject;

/// Where the store lies on its disk.
pub(crate) const DIR: &str = "store";
/// Longer than a sector, so that one write of it can be torn.
const LONG: usize = 700;

/// An engine, and what it calls lost.
pub(crate) type Opened = (Box<dyn Engine>, Vec<String>);

/// One step of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    PutA,
    PutB,
    /// Fills a file, so that the next is begun.
    LongA,
    DeleteA,
    /// One batch: a put of one key and a deletion of the other.
    Both,
    /// A range delete of all keys, a key a step.
    DeleteRange,
    /// A deletion of one key if its head is what it is, and a put of the other with it.
    DeleteIfEqual,
    Flush,
    /// Started, and left to run beside what comes.
    StartSync,
    EndSync,
    Sync,
    /// Background work up to where it waits for a sync.
    MaintainAhead,
    /// All background work there is, with the syncs that it asks for.
    Maintain,
    Checkpoint,
    /// Closes and opens again.
    Reopen,
}

/// All steps.
pub(crate) const ALPHABET: [Step; 15] = [
    Step::PutA,
    Step::PutB,
    Step::LongA,
    Step::DeleteA,
    Step::Both,
    Step::DeleteRange,
    Step::DeleteIfEqual,
    Step::Flush,
    Step::StartSync,
    Step::EndSync,
    Step::Sync,
    Step::MaintainAhead,
    Step::Maintain,
    Step::Checkpoint,
    Step::Reopen,
];

/// What a life begins with. No power is lost in it: it is there to be lost, compacted or hidden.
pub(crate) const BEGINNINGS: [&[Step]; 3] = [
    &[],
    // Sealed files with hints, closed cleanly.
    &[Step::LongA, Step::PutB, Step::LongA, Step::Reopen],
    // A sealed file full of dead records, a tombstone in the next, nothing compacted yet.
    &[Step::PutB, Step::LongA, Step::LongA, Step::DeleteA, Step::LongA, Step::Both, Step::Sync],
];

/// What a store holds: for each key its head and body.
pub(crate) type Content = BTreeMap<Bytes, (Bytes, Bytes)>;

/// What must be found after a power loss.
#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expected {
    /// The state after what is synced, and after each later write.
    pub(crate) states: Vec<Content>,
    /// Directories with finished checkpoints, and what they hold.
    pub(crate) copies: Vec<(String, Content)>,
}

/// A life under way.
pub(crate) struct Life {
    pub(crate) disk: MemDisk,
    subject: Subject,
    engine: Box<dyn Engine>,
    /// The state after each write; the Lsn where the write has returned.
    history: Vec<(Option<Lsn>, Content)>,
    /// So many of the writes are durable.
    synced: usize,
    copies: Vec<(String, Content)>,
    syncs: u64,
}

impl Life {
    pub(crate) fn start(subject: Subject, disk: MemDisk) -> Result<Life> {
        let (engine, _) = subject.open(&disk, DIR)?;
        let history = vec![(Some(engine.durable()), Content::new())];
        Ok(Life { disk, subject, engine, history, synced: 0, copies: Vec::new(), syncs: 0 })
    }

    /// What may be found when nothing has ever been written.
    pub(crate) fn nothing() -> Expected {
        Expected { states: vec![Content::new()], copies: Vec::new() }
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<()> {
        let result = self.try_step(step);
        // Also in a step that failed: what an engine calls durable must be found.
        let durable = self.engine.durable();
        let covered = self.history.iter().rposition(|(lsn, _)| lsn.is_some_and(|l| l <= durable));
        self.synced = self.synced.max(covered.unwrap_or(0));
        result
    }

    pub(crate) fn expected(&self) -> Expected {
        if !self.subject.keeps() {
            return Life::nothing();
        }
        let states = self.history[self.synced..].iter().map(|(_, state)| state.clone());
        Expected { states: states.collect(), copies: self.copies.clone() }
    }

    fn try_step(&mut self, step: Step) -> Result<()> {
        let serial = self.history.len();
        match step {
            Step::PutA => self.write(&[put("a", serial, 0)]),
            Step::PutB => self.write(&[put("b", serial, 0)]),
            Step::LongA => self.write(&[put("a", serial, LONG)]),
            Step::DeleteA => self.write(&[delete("a")]),
            Step::Both => self.write(&[put("a", serial, 0), delete("b")]),
            Step::DeleteRange => self.delete_range(),
            Step::DeleteIfEqual => self.delete_if_equal(serial),
            Step::Flush => self.engine.flush(),
            Step::StartSync => self.start_sync(),
            Step::EndSync => self.end_sync(),
            Step::Sync => {
                self.end_sync()?;
                self.start_sync()?;
                self.end_sync()
            }
            Step::MaintainAhead => maintain(&mut *self.engine).map(drop),
            Step::Maintain => {
                for _ in 0..100 {
                    if !maintain(&mut *self.engine)? {
                        break;
                    }
                    self.end_sync()?;
                    self.start_sync()?;
                    self.end_sync()?;
                }
                Ok(())
            }
            // There are no files to copy.
            Step::Checkpoint if !self.subject.keeps() => Ok(()),
            Step::Checkpoint => {
                let dir = format!("copy-{}", self.copies.len());
                self.engine.checkpoint(&dir)?;
                self.copies.push((dir, self.state().clone()));
                Ok(())
            }
            Step::Reopen => {
                // A store is closed with nothing under way.
                self.end_sync()?;
                self.engine.close()?;
                self.synced = self.history.len() - 1;
                self.disk.kill();
                (self.engine, _) = self.subject.open(&self.disk, DIR)?;
                if !self.subject.keeps() {
                    self.history = vec![(Some(self.engine.durable()), Content::new())];
                    self.synced = 0;
                }
                Ok(())
            }
        }
    }

    fn state(&self) -> &Content {
        &self.history.last().expect("there is a first state").1
    }

    fn delete_range(&mut self) -> Result<()> {
        let mut from = Some(Bytes::from_static(b"a"));
        while let Some(at) = from {
            let first = self.state().range(at.clone()..).next().map(|(key, _)| key.clone());
            if let Some(key) = &first {
                let state = after(self.state(), &[Change::Delete { key: key.clone(), delta: 0 }]);
                self.history.push((None, state));
            }
            let erased = self.engine.delete_range(&at, b"c", 1)?;
            assert_eq!(erased.keys, usize::from(first.is_some()), "one step, one key");
            if let Some(last) = self.history.last_mut().filter(|_| erased.lsn.is_some()) {
                last.0 = erased.lsn;
            }
            from = erased.next;
        }
        Ok(())
    }

    fn delete_if_equal(&mut self, serial: usize) -> Result<()> {
        let key = Bytes::from_static(b"a");
        let head = self.state().get(&key).map(|(head, _)| head.clone());
        let with = put("b", serial, 0);
        if head.is_some() {
            let changes = [with.clone(), Change::Delete { key: key.clone(), delta: 0 }];
            self.history.push((None, after(self.state(), &changes)));
        }
        let batch = Batch { changes: [with].into_iter().collect() };
        match self.engine.delete_if_equal(&key, head.as_deref().unwrap_or(b"none"), 0, &batch)? {
            Compared::Deleted(lsn) => {
                let last = self.history.last_mut().filter(|_| head.is_some());
                last.expect("only a key that is there is equal").0 = Some(lsn);
            }
            other => assert!(head.is_none(), "{other:?}"),
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Result<()> {
        self.history.push((None, after(self.state(), changes)));
        let lsn = self.engine.write(&Batch { changes: changes.into() })?;
        self.history.last_mut().expect("pushed just now").0 = Some(lsn);
        Ok(())
    }

    fn start_sync(&mut self) -> Result<()> {
        self.syncs += 1;
        match self.engine.start_sync(SyncId(self.syncs)) {
            // One is under way.
            Err(Error::Busy(_)) => Ok(()),
            started => started.map(drop),
        }
    }

    fn end_sync(&mut self) -> Result<()> {
        for done in self.disk.run_pending() {
            if let DiskDone::Synced { id, result } = done {
                self.engine.synced(id, result)?;
            }
        }
        Ok(())
    }
}

/// Background work until there is none, or none before the next sync: then `true`.
pub(crate) fn maintain(engine: &mut dyn Engine) -> Result<bool> {
    for _ in 0..100 {
        let progress = engine.maintain(1 << 20)?;
        engine.invariants();
        if !progress.more {
            return Ok(progress.waits_for.is_some());
        }
    }
    Ok(false)
}

/// A store's content after `changes`.
pub(crate) fn after(content: &Content, changes: &[Change]) -> Content {
    let mut content = content.clone();
    for change in changes {
        match change {
            Change::Put { key, head, body, .. } => {
                content.insert(key.clone(), (head.clone(), body.concat().into()));
            }
            Change::Delete { key, .. } => drop(content.remove(key)),
        }
    }
    content
}

/// A put that says which write it is, at both ends.
pub(crate) fn put(key: &'static str, serial: usize, filler: usize) -> Change {
    let body = format!("{serial}{}{key}{serial}", ".".repeat(filler));
    Change::Put {
        key: Bytes::from_static(key.as_bytes()),
        head: Bytes::from(format!("h{serial}")),
        body: [Bytes::from(body)].into_iter().collect(),
        delta: 0,
    }
}

pub(crate) fn delete(key: &'static str) -> Change {
    Change::Delete { key: Bytes::from_static(key.as_bytes()), delta: 0 }
}
