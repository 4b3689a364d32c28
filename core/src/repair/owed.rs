//! What writes owe when they have ended: their keys, to the primaries that have not acknowledged them.
//!
//! Every put ends here, whatever its outcome, once its dot is issued. In a healthy cluster the last primary acknowledges it a few
//! milliseconds after the W-th, so what is owed is kept in memory first: its late acknowledgement settles it, and the store is not
//! asked to write anything. What no acknowledgement comes for in `OWED_MS`, and what is owed to somebody who is not alive, is *due*: it
//! becomes a hint (`handoff`).
//!
//! Only the key is kept, never the state: this node is a primary of the key and holds it, and what it holds when the hint is handed
//! over has everything that is owed.
//!
//! Invariants: what is owed is due, settled or refused, each once; at most `OWED_MAX` writes and the bytes of their budget are kept, and
//! what finds no room is refused and said so. Left out: write-backs of reads, and dots that a later attempt drives to W: whoever
//! lacks those lacked them before, so it is not this node that owes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::SmallVec;

use crate::budget::Gauge;
use crate::config::{OWED_MAX, OWED_MS};
use crate::env::Mono;
use crate::id::{NodeId, Unit};
use crate::wire::key::KeyRef;

/// A write that has ended, and who has not said that it holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    /// The key.
    pub key: KeyRef,
    /// Its unit.
    pub unit: Unit,
    /// The primaries that have not acknowledged it, of all layouts it lived under.
    pub silent: SmallVec<[NodeId; 3]>,
}

impl Owed {
    /// The bytes that it keeps in memory, about.
    fn weight(&self) -> usize {
        size_of::<Owed>() + size_of::<(Mono, u64)>() + self.key.key.len()
    }
}

/// What is owed, and not settled yet.
#[derive(Debug)]
pub struct Debts {
    /// By the number of the operation that wrote it, which its late acknowledgements name.
    waiting: BTreeMap<u64, Owed>,
    /// When each is due; what was settled meanwhile is still among them.
    order: VecDeque<(Mono, u64)>,
    /// What is to become hints.
    due: VecDeque<Owed>,
    bytes: Gauge,
    /// Units of which something was refused since somebody took this, and how many copies that were.
    refused: (BTreeSet<Unit>, u64),
}

impl Debts {
    /// Nothing is owed. `bytes_max`: what may be kept.
    #[must_use]
    pub fn new(bytes_max: usize) -> Debts {
        let bytes = Gauge { max: bytes_max, ..Gauge::default() };
        Debts {
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            due: VecDeque::new(),
            bytes,
            refused: (BTreeSet::new(), 0),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        let kept = self.waiting.values().chain(&self.due);
        let bytes: usize = kept.clone().map(Owed::weight).sum();
        assert_eq!(bytes, self.bytes.used, "what is owed weighs what was charged for it");
        assert!(kept.clone().all(|owed| !owed.silent.is_empty()), "somebody lacks what is owed");
        assert!(kept.count() <= OWED_MAX, "few writes are owed at a time");
        assert!(self.waiting.len() <= self.order.len(), "each is due some time");
        assert!(self.order.len() <= 2 * OWED_MAX, "what is settled is forgotten");
    }

    /// What is kept, in bytes.
    #[must_use]
    pub const fn gauge(&self) -> Gauge {
        self.bytes
    }

    /// How many writes are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.due.len()
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a key is owed to anybody.
    #[must_use]
    pub fn has(&self, key: &KeyRef) -> bool {
        self.waiting.values().chain(&self.due).any(|owed| owed.key == *key)
    }

    /// The write of operation `seq` has ended. What is owed to who is not alive is due at once.
    pub fn owe(&mut self, seq: u64, owed: Owed, is_alive: impl Fn(NodeId) -> bool, now: Mono) {
        let Owed { key, unit, silent } = owed;
        if silent.is_empty() {
            return;
        }
        let (slow, away): (SmallVec<_>, SmallVec<_>) =
            silent.into_iter().partition(|&node| is_alive(node));
        let key = key.detached();
        for (silent, is_due) in [(slow, false), (away, true)] {
            let owed = Owed { key: key.clone(), unit, silent };
            if owed.silent.is_empty() {
                continue;
            }
            if !self.charge(owed.weight()) {
                self.refused.0.insert(unit);
                self.refused.1 += owed.silent.len() as u64;
            } else if is_due {
                self.due.push_back(owed);
            } else {
                self.waiting.insert(seq, owed);
                self.order.push_back((now.plus_ms(OWED_MS), seq));
                if self.order.len() > 2 * OWED_MAX {
                    self.order.retain(|(_, seq)| self.waiting.contains_key(seq));
                }
            }
        }
    }

    fn charge(&mut self, bytes: usize) -> bool {
        if self.len() >= OWED_MAX || self.bytes.used + bytes > self.bytes.max {
            return false;
        }
        self.bytes.used += bytes;
        self.bytes.peak = self.bytes.peak.max(self.bytes.used);
        true
    }

    /// A primary holds what operation `seq` wrote. Whether anything was owed by that.
    pub fn settle(&mut self, seq: u64, from: NodeId) -> bool {
        let Some(owed) = self.waiting.get_mut(&seq) else {
            return false;
        };
        owed.silent.retain(|node| *node != from);
        if owed.silent.is_empty()
            && let Some(owed) = self.waiting.remove(&seq)
        {
            self.bytes.used -= owed.weight();
        }
        self.forget_settled();
        true
    }

    fn forget_settled(&mut self) {
        while self.order.front().is_some_and(|(_, seq)| !self.waiting.contains_key(seq)) {
            self.order.pop_front();
        }
    }

    /// When `take_due` has something to give.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if !self.due.is_empty() || self.refused.1 > 0 {
            return Some(Mono(0));
        }
        self.order.front().map(|&(due, _)| due)
    }

    /// Takes out what is due, at most so many.
    pub fn take_due(&mut self, now: Mono, count: usize) -> Vec<Owed> {
        while let Some(&(due, seq)) = self.order.front()
            && due <= now
        {
            self.order.pop_front();
            self.due.extend(self.waiting.remove(&seq));
        }
        self.forget_settled();
        let count = count.min(self.due.len());
        let taken: Vec<Owed> = self.due.drain(..count).collect();
        self.bytes.used -= taken.iter().map(Owed::weight).sum::<usize>();
        taken
    }

    /// Takes out everything, at most so many at a time: this node ends.
    pub fn take_all(&mut self, count: usize) -> Vec<Owed> {
        self.order.clear();
        self.due.extend(std::mem::take(&mut self.waiting).into_values());
        self.take_due(Mono(0), count)
    }

    /// Units of which something was refused since this was asked last, and how many copies that were.
    pub fn take_refused(&mut self) -> (BTreeSet<Unit>, u64) {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::KeyspaceId;

    fn owed(key: &str, silent: &[u128]) -> Owed {
        let key = KeyRef::new(KeyspaceId(1), Bytes::copy_from_slice(key.as_bytes()));
        Owed { key, unit: Unit::default(), silent: silent.iter().copied().map(NodeId).collect() }
    }

    const ALIVE: fn(NodeId) -> bool = |_| true;

    #[test]
    fn a_late_acknowledgement_settles_what_is_owed_and_nothing_is_due() {
        let mut debts = Debts::new(1 << 20);
        debts.owe(5, owed("k", &[2, 3]), ALIVE, Mono(0));
        assert_eq!(debts.next_deadline(), Some(Mono(0).plus_ms(OWED_MS)));
        assert!(debts.settle(5, NodeId(2)) && !debts.is_empty(), "the other still lacks it");
        assert!(debts.settle(5, NodeId(3)) && debts.is_empty());
        assert!(!debts.settle(5, NodeId(3)), "once");
        debts.invariants();
        assert_eq!((debts.next_deadline(), debts.gauge().used), (None, 0));
        assert!(debts.take_due(Mono(u64::MAX), 9).is_empty());
    }

    #[test]
    fn what_nobody_acknowledges_is_due_and_what_is_owed_to_the_dead_is_due_at_once() {
        let mut debts = Debts::new(1 << 20);
        debts.owe(5, owed("k", &[2, 3]), |node| node == NodeId(2), Mono(0));
        assert_eq!(debts.take_due(Mono(0), 9), [owed("k", &[3])]);
        assert!(debts.take_due(Mono(0).plus_ms(OWED_MS - 1), 9).is_empty());
        assert_eq!(debts.take_due(Mono(0).plus_ms(OWED_MS), 9), [owed("k", &[2])]);
        debts.invariants();
    }

    #[test]
    fn what_is_owed_is_bounded_in_count_and_in_bytes_and_says_what_it_refused() {
        let mut debts = Debts::new(64 << 20);
        for seq in 0..2 * OWED_MAX as u64 {
            debts.owe(seq, owed("k", &[2]), ALIVE, Mono(0));
        }
        debts.invariants();
        assert_eq!((debts.len(), debts.take_refused().1), (OWED_MAX, OWED_MAX as u64));
        let mut debts = Debts::new(1 << 10);
        for seq in 0..100 {
            debts.owe(seq, owed(&"k".repeat(100), &[2]), ALIVE, Mono(0));
        }
        assert!(debts.gauge().peak <= debts.gauge().max && debts.len() > 2, "{debts:?}");
        assert_eq!(debts.len() as u64 + debts.take_refused().1, 100);
        debts.invariants();
    }

    #[test]
    fn one_that_is_never_settled_keeps_no_others_in_the_order() {
        let mut debts = Debts::new(64 << 20);
        debts.owe(0, owed("k", &[2]), ALIVE, Mono(0));
        for seq in 1..5 * OWED_MAX as u64 {
            debts.owe(seq, owed("k", &[2]), ALIVE, Mono(0));
            assert!(debts.settle(seq, NodeId(2)));
        }
        debts.invariants();
    }
}
