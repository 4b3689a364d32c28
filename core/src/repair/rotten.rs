//! Records that cannot be read here: their keys, and how each is replaced by what the other primaries hold.
//!
//! A rotten record is known by its key, and is never taken for "absent": until it is replaced this replica answers questions
//! about it as failed, merges are refused, and a dot that was to be issued here waits. The other primaries
//! are asked for their whole states. A write at `quorum` that counted this replica is on W - 1 of the N - 1 others, so what
//! N - W + 1 of them hold together has all such writes; that, merged, takes the place of the record. Others may hold more that was
//! promised nothing, so all of them are waited for as long as the record has not failed in `PATIENT_FAILURES` rounds. Dots that only
//! this replica knew are gone, so the actor of the unit is given up with it
//! (<https://github.com/basho/riak_kv/issues/679> is what issuing them again does).
//!
//! A read may go astray once and find the record whole the next time. So a record is replaced only when this replica has
//! failed to read it in `FAILURES` rounds: it asks itself, too, as often as it asks the others.
//!
//! Invariants: fewer than N - W + 1 answers replace nothing, and as few only after `PATIENT_FAILURES`; what can be read
//! again is not replaced; a round that does not end is begun anew after a pause that doubles. Bounded: `KEYS_MAX` keys,
//! `WAITING_MAX` dots for each; what does not fit is found again when it is read again. Left out: level `one` with W = 1,
//! which promised nothing that a lost disk would not take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::env::Mono;
use crate::id::{Epoch, Life, NodeId, OpId, Unit};
use crate::layout::Layout;
use crate::layout::live::{LayoutSet, LiveLayout};
use crate::quorum;
use crate::version::dvv::VersionSet;
use crate::wire::key::{Ask, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;

/// Keys that are replaced at a time; more are found again later.
const KEYS_MAX: usize = 4096;
/// Rounds that are begun in one turn.
const ROUNDS_A_TURN: usize = 16;
/// Dots that wait for one key.
const WAITING_MAX: usize = 64;
/// The first pause between two rounds, in milliseconds, and the longest.
const PAUSE_MS: u64 = 100;
const PAUSE_MS_MAX: u64 = 10_000;
/// Rounds in which a record must have been unreadable before it is replaced.
const FAILURES: u32 = 4;
/// Rounds after which N - W + 1 of the others are enough although more exist: some 6 s after the record was found.
const PATIENT_FAILURES: u32 = 7;
/// The bit of the operations of this machine among all of a node.
const HEALING: u64 = 1 << 63;

/// A key whose record cannot be read.
#[derive(Debug)]
struct Heal {
    round: u64,
    /// The latest round in which this replica could not read it, and how many there were.
    failed_in: u64,
    failures: u32,
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
    /// Its unit.
    pub unit: Unit,
    /// What all other primaries hold together, or in the end N - W + 1 of them.
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

    /// The record of a key could not be read. Counts once a round.
    pub fn found(&mut self, key: &KeyRef, now: Mono) {
        if let Some(heal) = self.keys.get_mut(key) {
            if heal.failed_in < heal.round {
                heal.failed_in = heal.round;
                heal.failures += 1;
            }
            return;
        }
        if self.keys.len() >= KEYS_MAX {
            return;
        }
        let heal = Heal {
            round: 0,
            failed_in: 0,
            failures: 0,
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

    /// A key's record was deleted, and nobody asks for it any more: no request is in flight for it.
    pub fn forget(&mut self, key: &KeyRef) {
        self.keys.remove(key);
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.keys.values().map(|heal| heal.next).min()
    }

    /// Begins the rounds that are due.
    pub fn tick(
        &mut self,
        now: Mono,
        (live, layouts): (&[LiveLayout], &LayoutSet),
        out: &mut VecDeque<(NodeId, Message)>,
    ) {
        if live.is_empty() {
            return;
        }
        let due = self.keys.iter_mut().filter(|(_, heal)| heal.next <= now);
        for (key, heal) in due.take(ROUNDS_A_TURN) {
            self.rounds += 1;
            heal.round = self.rounds | HEALING;
            heal.answered.clear();
            heal.state = VersionSet::default();
            heal.next = now.plus_ms(heal.pause_ms);
            heal.pause_ms = (heal.pause_ms * 2).min(PAUSE_MS_MAX);
            let op = OpId { life: self.life, seq: heal.round };
            let Some((layout, unit)) = home(live, self.me, key) else {
                continue;
            };
            for node in layout.primaries(unit) {
                let digest_only = node == self.me;
                let question = Question::Read { digest_only, heard: Epoch::default() };
                let (layouts, key) = (layouts.clone(), key.clone());
                let ask = Ask { op, layouts, key, question };
                out.push_back((node, Message::Key(KeyMessage::Ask(ask))));
            }
        }
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && op.seq & HEALING != 0
    }

    /// Another primary tells its state; answers what may take a record's place.
    pub fn on_state(
        &mut self,
        from: NodeId,
        op: OpId,
        state: &VersionSet,
        live: &[LiveLayout],
    ) -> Option<Replacement> {
        let (key, heal) = self.keys.iter_mut().find(|(_, heal)| heal.round == op.seq)?;
        let (layout, unit) = home(live, self.me, key)?;
        let quorums = layout.group(unit.group)?.quorums;
        if !layout.is_primary(from, unit) || from == self.me || !heal.answered.insert(from) {
            return None;
        }
        heal.state.merge(state);
        let needed = quorum::others_to_make_good(quorums);
        let others = layout.primaries(unit).filter(|node| *node != self.me).count();
        let needed = if heal.failures < PATIENT_FAILURES { others.max(needed) } else { needed };
        let is_enough = heal.answered.len() >= needed && heal.failures >= FAILURES;
        is_enough.then(|| Replacement { key: key.clone(), unit, state: heal.state.clone() })
    }

    /// This replica could read it again: the dots that waited for it.
    pub fn readable(&mut self, op: OpId) -> Vec<OpId> {
        let key =
            self.keys.iter().find(|(_, heal)| heal.round == op.seq).map(|(key, _)| key.clone());
        let read = key.and_then(|key| self.keys.remove(&key));
        read.map(|heal| heal.waiting).unwrap_or_default()
    }

    /// The record has been replaced: the dots that waited for it.
    pub fn replaced(&mut self, key: &KeyRef) -> Vec<OpId> {
        let healed = self.keys.remove(key);
        self.healed += u64::from(healed.is_some());
        healed.map(|heal| heal.waiting).unwrap_or_default()
    }
}

/// The oldest live layout under which this node owns a key, and the key's unit: its owners there have all of it, which those under
/// a newer one may not have yet. The newest, when it owns it under none.
fn home<'a>(live: &'a [LiveLayout], me: NodeId, key: &KeyRef) -> Option<(&'a Layout, Unit)> {
    let unit = |layout: &Layout| layout.unit(key.keyspace, key.token());
    let layouts = live.iter().map(|live| &*live.layout);
    let all = layouts.filter_map(|layout| Some((layout, unit(layout)?)));
    let owned = all.clone().find(|(layout, unit)| layout.is_primary(me, *unit));
    owned.or_else(|| all.clone().next_back())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::{BootEpoch, KeyspaceId};
    use crate::layout::keyspace::Keyspace;
    use crate::layout::{LayoutRef, Quorums, Role};

    const ME: NodeId = NodeId(1);

    fn live() -> Vec<LiveLayout> {
        live_with(2)
    }

    fn live_with(w: u8) -> Vec<LiveLayout> {
        let role = |node| Role {
            node: NodeId(node),
            name: node.to_string(),
            weight: 1,
            zone: String::new(),
        };
        let wanted = Quorums { n: 3, r: 2, w };
        let roles = (1..=3).map(role).collect();
        let layout = Layout::first(1, wanted, roles, vec![Keyspace::default_keyspace()]);
        vec![LiveLayout { layout: Arc::new(layout), reference: LayoutRef::default() }]
    }

    /// The operation of the round that begins at `now`.
    fn round(rotten: &mut Rotten, now: Mono) -> OpId {
        let mut out = VecDeque::new();
        rotten.tick(now, (&live(), &LayoutSet::default()), &mut out);
        let asked: BTreeSet<NodeId> = out.iter().map(|(node, _)| *node).collect();
        assert_eq!(asked, [1, 2, 3].map(NodeId).into(), "the others, and this node itself");
        match &out[0].1 {
            Message::Key(KeyMessage::Ask(ask)) => ask.op,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_is_replaced_only_when_it_could_not_be_read_again_and_again() {
        let life = Life { boot: BootEpoch(1), ..Life::default() };
        let mut rotten = Rotten::new(ME, life);
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        assert!(rotten.wait(&key, OpId::default(), Mono(0)));
        for pass in 1..=FAILURES {
            let now = rotten.next_deadline().expect("it is asked for");
            let op = round(&mut rotten, now);
            let state = VersionSet::default();
            assert!(rotten.on_state(NodeId(2), op, &state, &live()).is_none(), "one of two");
            assert!(rotten.on_state(ME, op, &state, &live()).is_none(), "not an answer of another");
            rotten.found(&key, now);
            rotten.found(&key, now);
            let replaced = rotten.on_state(NodeId(3), op, &state, &live());
            assert_eq!(replaced.is_some(), pass == FAILURES, "round {pass}");
        }
        let now = rotten.next_deadline().expect("nobody has said that it is replaced");
        let op = round(&mut rotten, now);
        assert_eq!(rotten.readable(op), [OpId::default()], "the dot that waited");
        assert!(rotten.is_empty() && rotten.healed() == 0);
    }

    /// With W = N any one of the others has what was promised; the other may have more.
    #[test]
    fn others_that_are_not_needed_are_waited_for_too_but_not_for_ever() {
        let mut rotten = Rotten::new(ME, Life { boot: BootEpoch(1), ..Life::default() });
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        rotten.found(&key, Mono(0));
        for pass in 1..=PATIENT_FAILURES {
            let now = rotten.next_deadline().expect("it is asked for");
            let op = round(&mut rotten, now);
            rotten.found(&key, now);
            let state = VersionSet::default();
            let replaced = rotten.on_state(NodeId(2), op, &state, &live_with(3));
            assert_eq!(replaced.is_some(), pass == PATIENT_FAILURES, "round {pass}, one of two");
            if (FAILURES..PATIENT_FAILURES).contains(&pass) {
                let both = rotten.on_state(NodeId(3), op, &state, &live_with(3));
                assert!(both.is_some(), "round {pass}, both");
            }
        }
    }
}
