//! What waits for the disk: replies and acknowledgements that promise durability.
//!
//! Group commit without a timer in the common case: while one sync runs, everything written meanwhile waits for
//! the next, which starts at once when the first ends. A sync costs the processor 60 to 150 µs, so while many
//! replies wait, starts are at least `SYNC_GAP_NS` apart.
//!
//! While a disk stalls, clients give up and ask again, and each question would leave one more answer here, values and all. So
//! what waits is bounded in bytes: an answer that finds no room is refused, an answer that waits already is not kept a second
//! time, and of one state of one key there is one copy, however many wait for it
//! (<https://github.com/valyala/fasthttp/issues/173>).
//!
//! Invariants: nothing is released before the write it depends on is durable; one sync runs at a time; a
//! failed fsync releases nothing, ever: the node stops.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::budget::Gauge;
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{Lsn, NodeId, OpId, SyncId};
use crate::layout::live::LayoutSet;
use crate::version::dvv::VersionSet;
use crate::version::hlc::Hlc;
use crate::wire::key::{Answer, KeyMessage};
use crate::wire::message::Message;
use crate::wire::state;

/// With more waiting than this, sync starts keep their distance.
const CROWD: usize = 8;
/// The distance, in nanoseconds.
const SYNC_GAP_NS: u64 = 1_000_000;
/// How long a disk without room is left alone before it is asked again, in milliseconds.
const FULL_PAUSE_MS: u64 = 50;

/// What to do when a write is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    /// Send this message, perhaps to this node itself.
    Send(NodeId, Message),
    /// The hybrid clock's reservation is on disk.
    Reserved(Hlc),
    /// Nothing: somebody looks at `Engine::durable` himself.
    Nothing,
}

/// What waits already: an answer of one kind to one operation of one node.
type Name = (Lsn, NodeId, OpId, Discriminant);
/// Which kind of answer: states and digests answer the same operation.
type Discriminant = u8;

/// Something that waits, and what it weighs in bytes.
#[derive(Debug)]
struct Waiting {
    release: Release,
    weight: usize,
}

/// Everything that waits, by the write it waits for.
#[derive(Debug)]
pub struct Held {
    waiting: BTreeMap<(Lsn, u64), Waiting>,
    answers: BTreeSet<Name>,
    /// The states in answers that wait, by their write and digest.
    states: BTreeMap<(Lsn, u64), VersionSet>,
    bytes: Gauge,
    sequence: u64,
    running: Option<SyncId>,
    last_start: Mono,
    /// The disk had no room for what waits.
    paused_until: Mono,
    syncs: u64,
}

impl Held {
    /// Nothing waits. `bytes_max`: what may wait.
    #[must_use]
    pub fn new(bytes_max: usize) -> Held {
        Held {
            waiting: BTreeMap::new(),
            answers: BTreeSet::new(),
            states: BTreeMap::new(),
            bytes: Gauge { max: bytes_max, ..Gauge::default() },
            sequence: 0,
            running: None,
            paused_until: Mono::default(),
            last_start: Mono(0),
            syncs: 0,
        }
    }

    /// Keeps `release` until `lsn` is durable, whether there is room or not: for what belongs to a write of this node's
    /// own, which `has_room` has admitted.
    pub fn until(&mut self, lsn: Lsn, release: Release) {
        let weight = size_of::<Waiting>()
            + match &release {
                Release::Send(_, message) => message.weight(),
                Release::Reserved(_) | Release::Nothing => 0,
            };
        self.keep(lsn, release, weight);
    }

    /// Keeps an answer until `lsn` is durable. `false`: there is no room, and it was not kept.
    pub fn answer(
        &mut self,
        lsn: Lsn,
        to: NodeId,
        (op, layouts): (OpId, LayoutSet),
        mut answer: Answer,
    ) -> bool {
        let name = (lsn, to, op, kind(&answer));
        if self.answers.contains(&name) {
            return true;
        }
        let mut weight = size_of::<Waiting>() + size_of::<Name>() + size_of::<Message>();
        let mut first = None;
        if let Answer::State { state, .. } = &mut answer {
            let name = (lsn, state.digest());
            match self.states.get(&name) {
                Some(same) => *state = same.clone(),
                None => {
                    weight += state::weight(state);
                    first = Some((name, state.clone()));
                }
            }
        }
        if self.bytes.used + weight > self.bytes.max {
            return false;
        }
        self.answers.insert(name);
        self.states.extend(first);
        let message = Message::Key(KeyMessage::Answer { op, layouts, answer });
        self.keep(lsn, Release::Send(to, message), weight);
        true
    }

    /// Whether one more write of this node may wait.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.bytes.used < self.bytes.max
    }

    /// How many bytes wait.
    #[must_use]
    pub const fn gauge(&self) -> Gauge {
        self.bytes
    }

    fn keep(&mut self, lsn: Lsn, release: Release, weight: usize) {
        self.sequence += 1;
        self.bytes.used += weight;
        self.bytes.peak = self.bytes.peak.max(self.bytes.used);
        self.waiting.insert((lsn, self.sequence), Waiting { release, weight });
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

    /// For how long a sync has been running, in milliseconds; `None` while none does.
    #[must_use]
    pub fn syncing_for_ms(&self, now: Mono) -> Option<u64> {
        self.running.map(|_| now.ms_since(self.last_start))
    }

    /// When `start` has something to do; `None` while a sync runs or nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.running.is_some() || self.waiting.is_empty() {
            return None;
        }
        let gap = if self.waiting.len() > CROWD { SYNC_GAP_NS } else { 0 };
        Some(Mono(self.last_start.0 + gap).max(self.paused_until))
    }

    /// Starts a sync when it is time. What needs none comes back at once.
    pub fn start(&mut self, now: Mono, engine: &mut dyn Engine) -> Result<Vec<Release>> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(Vec::new());
        }
        let id = SyncId(self.syncs + 1);
        if engine.start_sync(id)?.is_none() {
            let released = self.up_to(engine.durable());
            if !self.waiting.is_empty() {
                self.paused_until = now.plus_ms(FULL_PAUSE_MS);
            }
            return Ok(released);
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

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        let bytes: usize = self.waiting.values().map(|waiting| waiting.weight).sum();
        assert_eq!(bytes, self.bytes.used, "what waits weighs what was charged for it");
        assert!(self.answers.len() <= self.waiting.len(), "an answer that is known waits");
        assert!(self.states.len() <= self.answers.len(), "a shared state is some answer's");
        assert!(
            self.running.is_none_or(|id| id.0 == self.syncs),
            "the last sync is the one that runs"
        );
    }

    fn up_to(&mut self, durable: Lsn) -> Vec<Release> {
        let next = Lsn(durable.0 + 1);
        let later = self.waiting.split_off(&(next, 0));
        self.states = self.states.split_off(&(next, 0));
        self.answers.retain(|&(lsn, ..)| lsn >= next);
        let released = std::mem::replace(&mut self.waiting, later).into_values();
        let release = |Waiting { release, weight }| {
            self.bytes.used -= weight;
            release
        };
        released.map(release).collect()
    }
}

const fn kind(answer: &Answer) -> Discriminant {
    match answer {
        Answer::State { .. } => 0,
        Answer::Digest { .. } => 1,
        Answer::MergeAck => 2,
        Answer::Confirmed { .. } => 4,
        Answer::Query { .. }
        | Answer::Lacks
        | Answer::Failed
        | Answer::StaleLayout
        | Answer::NotCounted
        | Answer::Outdated { .. }
        | Answer::NotConfirmed { .. } => 3,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{ActorId, Epoch, RequestId};
    use crate::version::dvv::{Version, VersionVector};

    const ROOM: usize = 1 << 20;

    fn op(seq: u64) -> OpId {
        OpId { seq, ..OpId::default() }
    }

    fn named(seq: u64) -> (OpId, LayoutSet) {
        (op(seq), LayoutSet::default())
    }

    /// A state with a value of 100 KiB, in memory of its own.
    fn state(n: u8) -> VersionSet {
        let mut state = VersionSet::default();
        let value = Bytes::from(vec![n; 100 << 10]);
        let version = Version::value(Hlc(1 << 20), RequestId(u128::from(n)), Bytes::new(), value);
        state.put(&VersionVector::default(), ActorId(1), version);
        state
    }

    fn read(n: u8) -> Answer {
        Answer::State { state: state(n), epoch: Epoch::default() }
    }

    #[test]
    fn a_stall_under_one_hot_key_keeps_its_value_once() {
        let mut held = Held::new(ROOM);
        assert!((0..1_000).all(|seq| held.answer(Lsn(5), NodeId(1), named(seq), read(1))));
        let used = held.gauge().used;
        assert!(used < 1 << 20, "{used} bytes, and no thousand values");
        let values: BTreeSet<*const u8> = held
            .up_to(Lsn(5))
            .iter()
            .filter_map(|release| match release {
                Release::Send(
                    _,
                    Message::Key(KeyMessage::Answer {
                        answer: Answer::State { state, .. }, ..
                    }),
                ) => state.versions().next().map(|(_, version)| version.value.as_ptr()),
                _ => None,
            })
            .collect();
        assert_eq!(values.len(), 1, "all share the same memory");
        assert_eq!(held.gauge().used, 0);
        assert!(held.states.is_empty() && held.answers.is_empty());
    }

    #[test]
    fn a_question_that_is_repeated_waits_once() {
        let mut held = Held::new(ROOM);
        for _ in 0..100 {
            assert!(held.answer(Lsn(5), NodeId(1), named(1), read(1)));
            assert!(held.answer(Lsn(5), NodeId(1), named(1), Answer::MergeAck));
        }
        assert_eq!(held.len(), 2);
        assert!(
            held.answer(Lsn(6), NodeId(1), named(1), read(1)),
            "a later write is another answer"
        );
        assert_eq!(held.up_to(Lsn(5)).len(), 2);
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn an_answer_that_finds_no_room_is_refused_and_one_may_wait_again_later() {
        let mut held = Held::new(ROOM);
        let kept =
            (0..100).filter(|&n| held.answer(Lsn(u64::from(n)), NodeId(1), named(1), read(n)));
        assert_eq!(kept.count(), 10);
        let gauge = held.gauge();
        assert!(gauge.peak <= gauge.max && held.has_room(), "{gauge:?}");
        let large = Message::Key(KeyMessage::Answer {
            op: op(2),
            layouts: LayoutSet::default(),
            answer: read(99),
        });
        held.until(Lsn(99), Release::Send(NodeId(2), large));
        assert!(!held.has_room(), "what belongs to a write counts all the same");
        held.up_to(Lsn(4));
        assert!(held.has_room() && held.answer(Lsn(50), NodeId(1), named(3), read(50)));
    }
}
