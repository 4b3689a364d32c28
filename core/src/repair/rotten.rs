//! Records that cannot be read here: their keys, and how each is replaced by what the other primaries hold.
//!
//! A rotten record is known by its key, and is never taken for "absent": until it is replaced this replica answers questions
//! about it as failed, merges are refused, and a dot that was to be issued here waits. The other primaries
//! are asked for their whole states. A write at `quorum` that counted this replica is on W - 1 of the N - 1 others, so what
//! N - W + 1 of them hold together has all such writes; that, merged, takes the place of the record. Dots that only this
//! replica knew are gone, so the actor of the partition is given up with it
//! (<https://github.com/basho/riak_kv/issues/679> is what issuing them again does).
//!
//! Invariants: fewer than N - W + 1 answers replace nothing; a round that does not end is begun anew after a
//! pause that doubles. Bounded: `KEYS_MAX` keys, `WAITING_MAX` dots for each; what does not fit is found again when it
//! is read again. Left out: level `one` with W = 1, which promised nothing that a lost disk would not take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::env::Mono;
use crate::id::{Life, NodeId, OpId, PartitionId};
use crate::layout::{Layout, keyspace};
use crate::message::{KeyRef, Message};
use crate::version::dvv::VersionSet;

/// Keys that are replaced at a time; more are found again later.
const KEYS_MAX: usize = 4096;
/// Rounds that are begun in one turn.
const ROUNDS_A_TURN: usize = 16;
/// Dots that wait for one key.
const WAITING_MAX: usize = 64;
/// The first pause between two rounds, in milliseconds, and the longest.
const PAUSE_MS: u64 = 100;
const PAUSE_MS_MAX: u64 = 10_000;
/// Marks the operations of this machine among all of a node.
const MARK: u64 = 1 << 63;

/// A key whose record cannot be read.
#[derive(Debug)]
struct Heal {
    round: u64,
    answered: BTreeSet<NodeId>,
    /// What the others hold together.
    state: VersionSet,
    next: Mono,
    pause_ms: u64,
    /// Dots that are to be issued when it can be read again.
    waiting: Vec<OpId>,
}

/// A state that may take the place of a rotten record.
#[derive(Debug)]
pub struct Replacement {
    /// The key.
    pub key: KeyRef,
    /// Its partition.
    pub partition: PartitionId,
    /// What N - W + 1 of the other primaries hold together.
    pub state: VersionSet,
}

/// The rotten records of this replica.
#[derive(Debug)]
pub struct Rotten {
    me: NodeId,
    life: Life,
    rounds: u64,
    keys: BTreeMap<KeyRef, Heal>,
    healed: u64,
}

impl Rotten {
    /// None is known yet.
    #[must_use]
    pub const fn new(me: NodeId, life: Life) -> Rotten {
        Rotten { me, life, rounds: 0, keys: BTreeMap::new(), healed: 0 }
    }

    /// How many keys cannot be read, as far as it is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether every record can be read, as far as it is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether some have been asked for several times in vain.
    #[must_use]
    pub fn lack_copies(&self) -> bool {
        self.keys.values().any(|heal| heal.pause_ms >= PAUSE_MS << 4)
    }

    /// How many were replaced since the start.
    #[must_use]
    pub const fn healed(&self) -> u64 {
        self.healed
    }

    /// The record of a key cannot be read. Said again, it changes nothing.
    pub fn found(&mut self, key: &KeyRef, now: Mono) {
        if self.keys.len() >= KEYS_MAX || self.keys.contains_key(key) {
            return;
        }
        let heal = Heal {
            round: 0,
            answered: BTreeSet::new(),
            state: VersionSet::default(),
            next: now,
            pause_ms: PAUSE_MS,
            waiting: Vec::new(),
        };
        self.keys.insert(key.clone(), heal);
    }

    /// A dot waits for the key; `false` when it cannot.
    pub fn wait(&mut self, key: &KeyRef, op: OpId, now: Mono) -> bool {
        self.found(key, now);
        match self.keys.get_mut(key) {
            Some(heal) if heal.waiting.len() < WAITING_MAX => {
                heal.waiting.push(op);
                true
            }
            _ => false,
        }
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.keys.values().map(|heal| heal.next).min()
    }

    /// Begins the rounds that are due.
    pub fn tick(&mut self, now: Mono, layout: &Layout, out: &mut VecDeque<(NodeId, Message)>) {
        let due = self.keys.iter_mut().filter(|(_, heal)| heal.next <= now);
        for (key, heal) in due.take(ROUNDS_A_TURN) {
            self.rounds += 1;
            heal.round = self.rounds | MARK;
            heal.answered.clear();
            heal.state = VersionSet::default();
            heal.next = now.plus_ms(heal.pause_ms);
            heal.pause_ms = (heal.pause_ms * 2).min(PAUSE_MS_MAX);
            let op = OpId { life: self.life, seq: heal.round };
            let partition = layout.partition(keyspace::token(key.keyspace, &key.key));
            for node in layout.primaries(partition).filter(|&node| node != self.me) {
                out.push_back((node, Message::Read { op, key: key.clone(), digest_only: false }));
            }
        }
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && op.seq & MARK != 0
    }

    /// Another primary tells its state; answers what may take a record's place.
    pub fn on_state(
        &mut self,
        from: NodeId,
        op: OpId,
        state: &VersionSet,
        layout: &Layout,
    ) -> Option<Replacement> {
        let (key, heal) = self.keys.iter_mut().find(|(_, heal)| heal.round == op.seq)?;
        let partition = layout.partition(keyspace::token(key.keyspace, &key.key));
        let is_primary = layout.primaries(partition).any(|node| node == from);
        if !is_primary || from == self.me || !heal.answered.insert(from) {
            return None;
        }
        heal.state.merge(state);
        let quorums = layout.quorums();
        let needed = usize::from(quorums.n).saturating_sub(usize::from(quorums.w)) + 1;
        let is_enough = heal.answered.len() >= needed;
        is_enough.then(|| Replacement { key: key.clone(), partition, state: heal.state.clone() })
    }

    /// The record has been replaced: the dots that waited for it.
    pub fn replaced(&mut self, key: &KeyRef) -> Vec<OpId> {
        let healed = self.keys.remove(key);
        self.healed += u64::from(healed.is_some());
        healed.map(|heal| heal.waiting).unwrap_or_default()
    }
}
