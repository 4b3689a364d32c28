//! The table of all requests in flight, and when each wants to be looked at.
//!
//! Invariants: every operation has one timer; every asker has its own deadline and is in one operation; an operation
//! lives until the latest of them; what it weighs is charged once and given back with it.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::budget::Gauge;
use crate::env::Mono;
use crate::id::{LayoutVersion, OpId};
use crate::request::operation::{Asker, Facts};
use crate::request::phase::Phase;

/// A question is repeated after at most so many doublings of the first pause.
const DOUBLINGS_MAX: u32 = 6;

/// Somebody who waits for the outcome, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Who.
    pub asker: Asker,
    /// Then it is told what is known.
    pub deadline: Mono,
}

/// One request in flight.
#[derive(Debug)]
pub struct Operation {
    /// What does not change, except that the deadline is the latest of those who ask.
    pub facts: Facts,
    /// Who waits for it.
    pub askers: SmallVec<[Waiting; 1]>,
    /// Where it stands.
    pub phase: Phase,
    /// When to ask again.
    pub again: Mono,
    /// How often it has asked again.
    pub repeats: u32,
    /// When it is to be looked at: the next repetition, or somebody's deadline.
    timer: Mono,
    /// What it works with weighs so many bytes.
    weight: usize,
}

impl Operation {
    /// A request that somebody waits for, to be looked at again `after_ms`.
    #[must_use]
    pub fn new(asker: Asker, facts: Facts, phase: Phase, again: Mono) -> Operation {
        let askers = [Waiting { asker, deadline: facts.deadline }].into_iter().collect();
        let weight = facts.request.weight();
        Operation { facts, askers, phase, again, repeats: 0, timer: again, weight }
    }

    /// Takes out those whose time is up.
    pub fn take_overdue(&mut self, now: Mono) -> SmallVec<[Waiting; 1]> {
        let (overdue, rest) = self.askers.drain(..).partition(|waiting| waiting.deadline <= now);
        self.askers = rest;
        overdue
    }

    /// The pause before the next repetition, in milliseconds: twice as long each time, because whoever is slow is not
    /// helped by more to do.
    pub fn pause_ms(&mut self, first_ms: u64) -> u64 {
        let pause = first_ms << self.repeats.min(DOUBLINGS_MAX);
        self.repeats += 1;
        pause
    }

    fn wanted(&self) -> Mono {
        let deadlines = self.askers.iter().map(|waiting| waiting.deadline);
        deadlines.fold(self.again, Mono::min)
    }
}

/// The requests in flight.
#[derive(Debug)]
pub struct Operations {
    all: BTreeMap<u64, Operation>,
    bytes: Gauge,
    timers: BTreeSet<(Mono, u64)>,
}

impl Operations {
    /// None. `bytes_max`: what all may work with.
    #[must_use]
    pub fn new(bytes_max: usize) -> Operations {
        let bytes = Gauge { max: bytes_max, ..Gauge::default() };
        Operations { all: BTreeMap::new(), bytes, timers: BTreeSet::new() }
    }

    /// What all of them work with, in bytes.
    #[must_use]
    pub const fn gauge(&self) -> Gauge {
        self.bytes
    }

    /// Charges an operation for so many bytes more. `false`: there is no room, and nothing was charged.
    #[must_use]
    pub fn charge(&mut self, sequence: u64, bytes: usize) -> bool {
        if self.bytes.used + bytes > self.bytes.max {
            return false;
        }
        if let Some(operation) = self.all.get_mut(&sequence) {
            operation.weight += bytes;
            self.add(bytes);
        }
        true
    }

    fn add(&mut self, bytes: usize) {
        self.bytes.used += bytes;
        self.bytes.peak = self.bytes.peak.max(self.bytes.used);
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert_eq!(self.timers.len(), self.all.len(), "every operation has one timer");
        for (&sequence, operation) in &self.all {
            assert_eq!(operation.facts.id.seq, sequence, "an operation has its own number");
            assert!(self.timers.contains(&(operation.timer, sequence)), "its timer is its own");
            assert!(operation.timer <= operation.facts.deadline, "it is looked at in time");
            assert!(!operation.askers.is_empty(), "somebody waits for it");
        }
        let bytes: usize = self.all.values().map(|operation| operation.weight).sum();
        assert_eq!(bytes, self.bytes.used, "the bytes charged are theirs");
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The names of all.
    #[must_use]
    pub fn ids(&self) -> Vec<OpId> {
        self.all.values().map(|operation| operation.facts.id).collect()
    }

    /// The oldest of the newest layouts that they began under.
    #[must_use]
    pub fn oldest_layout(&self) -> Option<LayoutVersion> {
        let began = self.all.values().map(|operation| &operation.facts.layouts);
        began.map(|layouts| layouts.newest().unwrap_or_default().version).min()
    }

    /// When the oldest of them began.
    #[must_use]
    pub fn oldest_began(&self) -> Option<Mono> {
        self.all.values().map(|operation| operation.facts.started).min()
    }

    /// When the next is to be looked at.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.first().map(|&(time, _)| time)
    }

    /// Adds one.
    pub fn insert(&mut self, mut operation: Operation) {
        operation.timer = operation.wanted();
        self.add(operation.weight);
        self.timers.insert((operation.timer, operation.facts.id.seq));
        self.all.insert(operation.facts.id.seq, operation);
    }

    /// The operation of this number in this boot.
    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut Operation> {
        self.all.get_mut(&sequence)
    }

    /// Takes one out.
    pub fn remove(&mut self, sequence: u64) -> Option<Operation> {
        let operation = self.all.remove(&sequence)?;
        self.timers.remove(&(operation.timer, sequence));
        self.bytes.used -= operation.weight;
        Some(operation)
    }

    /// One more waits for an operation: until its own deadline.
    pub fn join(&mut self, sequence: u64, asker: Asker, deadline: Mono) {
        if let Some(operation) = self.all.get_mut(&sequence) {
            operation.askers.push(Waiting { asker, deadline });
            operation.facts.deadline = operation.facts.deadline.max(deadline);
        }
        self.set_timer(sequence);
    }

    /// One whose time has come, to be given back with `set_timer`.
    pub fn due(&mut self, now: Mono) -> Option<&mut Operation> {
        let (time, sequence) = *self.timers.first()?;
        if time > now {
            return None;
        }
        self.all.get_mut(&sequence)
    }

    /// Sets the timer of an operation by what it waits for now.
    pub fn set_timer(&mut self, sequence: u64) {
        if let Some(operation) = self.all.get_mut(&sequence) {
            self.timers.remove(&(operation.timer, sequence));
            operation.timer = operation.wanted();
            self.timers.insert((operation.timer, sequence));
        }
    }
}
