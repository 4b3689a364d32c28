//! Handing over what is owed, when its target is there again.
//!
//! The hints of a target are walked from the first to the last, a few at a time, and from the first again as long as there are any.
//! For each the state is read here, and the target is asked whether it holds that: it may have acknowledged too late. Only one that
//! lacks it is sent it, as an ordinary merge. Its acknowledgement comes after its sync; only then the hint is deleted
//! (<https://github.com/basho/riak_kv/issues/847> is what becomes of hints that are tried once). A key that becomes owed anew while
//! it is on its way keeps its hint.
//!
//! A hint whose target does not own the key under any live layout is owed to those who do: it becomes a hint for each of them
//! (<https://github.com/scylladb/scylladb/issues/24980>). So none is deleted because somebody has left.
//!
//! Invariants: at most `HANDED_MAX` at a time, `HANDED_A_TARGET_MAX` of one target, and states of about `FETCH_BYTES_MAX`; no faster
//! than units are taken; a target that fails is left alone for a pause that doubles, and tried for ever; nothing is handed over of
//! units that are not whole here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::config::{FETCH_BYTES_MAX, HANDED_A_TARGET_MAX, HANDED_MAX, NodeConfig};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::Result;
use crate::handoff::hints::{Done, Hints, Seen, look};
use crate::id::{Epoch, Life, Lsn, NodeId, OpId, Unit};
use crate::layout::live::{LayoutSet, is_owner};
use crate::member::view::View;
use crate::pace::Pace;
use crate::quorum::Primaries;
use crate::replica::keys::{hints_of, parse_hint_key};
use crate::transfer::units::Units;
use crate::version::dvv::VersionSet;
use crate::version::hlc::Hlc;
use crate::version::outline::Outline;
use crate::wire::key::{Answer, Ask, Has, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;
use crate::wire::state::weight;

/// The bit of the operations of this machine among all of a node.
const HANDING: u64 = 1 << 59;
/// How often it is looked what there is to do, in milliseconds.
const LOOK_MS: u64 = 50;
/// How often, as long as the start has not counted all, in milliseconds.
const COUNT_MS: u64 = 5;
/// So long an answer is waited for, in milliseconds.
const WAIT_MS: u64 = 2_000;
/// The longest pause after a target has failed, in milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;
/// What a question costs of the rate beside its key, in bytes.
const ASK_BYTES: u64 = 128;

/// Whether an operation of another node is one of this machine there: what it brings, nobody has asked for.
#[must_use]
pub const fn is_handed_over(op: OpId) -> bool {
    op.seq >> 59 == HANDING >> 59
}

/// What this machine works with, of the other ones of its shard.
pub struct Around<'a> {
    /// What is true of the node as a whole.
    pub view: View<'a>,
    /// Which units are not whole.
    pub units: &'a Units,
    /// The hints.
    pub hints: &'a mut Hints,
    /// The engine.
    pub engine: &'a mut dyn Engine,
}

/// How far the hints of one target have been walked.
#[derive(Debug)]
struct Walk {
    /// Where it goes on; `None`: at the first one.
    place: Option<Bytes>,
    /// Under which layouts it began, and under which it has come to the end once.
    under: LayoutSet,
    ended_under: Option<LayoutSet>,
    oldest_ms: u64,
    look_at: Mono,
    pause_ms: u64,
    /// Whether something has failed since it began: the pause is twice as long then, once.
    has_failed: bool,
}

/// A hint that is to be handed over.
#[derive(Debug)]
struct Todo {
    target: NodeId,
    hint: Bytes,
    key: KeyRef,
    unit: Unit,
}

/// A hint on its way.
#[derive(Debug)]
struct Delivery {
    what: Todo,
    layouts: LayoutSet,
    /// What is handed over, once it has been read, and under which purge epoch that was.
    state: Option<(VersionSet, Epoch)>,
    is_brought: bool,
    /// Whether the key has become owed to the target once more since it was read.
    is_renewed: bool,
    until: Mono,
}

/// Everything that is being handed over.
#[derive(Debug)]
pub struct Handing {
    me: NodeId,
    life: Life,
    sequence: u64,
    walks: BTreeMap<NodeId, Walk>,
    /// Whose turn is first.
    turn: usize,
    todo: VecDeque<Todo>,
    deliveries: BTreeMap<u64, Delivery>,
    /// Hints that are to be deleted.
    done: Vec<(Bytes, Done)>,
    /// Units that this node does not own, of which hints have been deleted: perhaps nobody is owed their keys any more.
    settled: BTreeSet<Unit>,
    look_at: Mono,
    pace: Pace,
}

impl Handing {
    /// Nothing is on its way.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Handing {
        Handing {
            me: config.id,
            life: config.life,
            sequence: 0,
            walks: BTreeMap::new(),
            turn: 0,
            todo: VecDeque::new(),
            deliveries: BTreeMap::new(),
            done: Vec::new(),
            settled: BTreeSet::new(),
            look_at: Mono(0),
            pace: Pace::new(config.transfer_bytes_per_s),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(
            self.todo.len() + self.deliveries.len() <= HANDED_MAX,
            "few are handed over at a time"
        );
        assert!(self.done.len() <= 2 * HANDED_MAX, "what is done is deleted");
        let targets = self.walks.keys().map(|&target| self.count(target));
        assert!(
            targets.max().unwrap_or(0) <= HANDED_A_TARGET_MAX,
            "nobody is handed much at a time"
        );
        assert!(self.deliveries.values().all(|one| one.what.target != self.me));
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && is_handed_over(op)
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self, hints: &Hints) -> Option<Mono> {
        let is_idle =
            hints.targets().is_empty() && self.deliveries.is_empty() && self.done.is_empty();
        let looks = (hints.is_counting() || !is_idle).then_some(self.look_at);
        self.deliveries.values().map(|one| one.until).chain(looks).min()
    }

    /// The key that an operation hands over.
    #[must_use]
    pub fn key(&self, op: OpId) -> Option<KeyRef> {
        self.deliveries.get(&op.seq).map(|one| one.what.key.clone())
    }

    /// How many are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.deliveries.len()
    }

    fn count(&self, target: NodeId) -> usize {
        let of = self.deliveries.values().map(|one| &one.what).chain(&self.todo);
        of.filter(|what| what.target == target).count()
    }

    fn bytes(&self) -> usize {
        self.deliveries
            .values()
            .filter_map(|one| one.state.as_ref())
            .map(|(state, _)| weight(state))
            .sum()
    }

    /// Takes note of what is not answered, deletes what is done, and looks for more. The last write that is to become durable.
    pub fn tick(&mut self, around: &mut Around<'_>, now: Mono) -> Result<Option<Lsn>> {
        let view = around.view;
        let is_late = |one: &Delivery| one.until <= now;
        let late = self.deliveries.values().filter(|one| is_late(one));
        for target in late.map(|one| one.what.target).collect::<Vec<_>>() {
            self.fail(target, now);
        }
        self.deliveries.retain(|_, one| !is_late(one) && one.layouts == *view.layout_set);
        if now < self.look_at {
            return Ok(None);
        }
        let pause_ms = if around.hints.is_counting() { COUNT_MS } else { LOOK_MS };
        self.look_at = now.plus_ms(pause_ms);
        if !self.done.is_empty() && around.hints.delete(&self.done, around.engine)? {
            for (hint, _) in std::mem::take(&mut self.done) {
                self.settled.extend(
                    unit_of(&hint, view).filter(|&unit| !is_owner(view.layouts, self.me, unit)),
                );
            }
        }
        if around.hints.is_counting() || view.layouts.is_empty() || view.barred.is_some() {
            return Ok(None);
        }
        self.walks.retain(|target, _| around.hints.targets().contains_key(target));
        let mut targets: Vec<NodeId> = around.hints.targets().keys().copied().collect();
        if !targets.is_empty() {
            let first = self.turn % targets.len();
            targets.rotate_left(first);
            self.turn = first + 1;
        }
        let mut last = None;
        for target in targets {
            last = self.walk(target, around, now)?.or(last);
        }
        Ok(last)
    }

    /// Looks at the next hints of a target.
    fn walk(&mut self, target: NodeId, around: &mut Around<'_>, now: Mono) -> Result<Option<Lsn>> {
        let view = around.view;
        let is_member = view.layouts.iter().any(|live| live.layout.has(target));
        let is_there = is_member && view.members.is_alive(target, now);
        let free = HANDED_A_TARGET_MAX.saturating_sub(self.count(target));
        let free = free.min(HANDED_MAX - self.todo.len() - self.deliveries.len());
        let free = free.min(HANDED_MAX.saturating_sub(self.done.len()));
        let walk = self.walks.entry(target).or_insert_with(|| Walk {
            place: None,
            under: view.layout_set.clone(),
            ended_under: None,
            oldest_ms: u64::MAX,
            look_at: now,
            pause_ms: LOOK_MS,
            has_failed: false,
        });
        if is_member && !is_there {
            walk.pause_ms = LOOK_MS;
            if walk.ended_under.as_ref() == Some(view.layout_set) {
                return Ok(None);
            }
        }
        if walk.has_failed && walk.under != *view.layout_set {
            // Who refused under the layouts of before has no reason to do so under these.
            (walk.pause_ms, walk.look_at, walk.place) = (LOOK_MS, now, None);
        }
        if now < walk.look_at || free == 0 {
            return Ok(None);
        }
        let (begin, end) = hints_of(target);
        let from = walk.place.take().unwrap_or_else(|| {
            (walk.under, walk.oldest_ms) = (view.layout_set.clone(), u64::MAX);
            walk.has_failed = false;
            begin
        });
        let (seen, next) = look(&from, &end, free, around.engine)?;
        let is_end = next.is_none();
        walk.place = next;
        if is_end {
            walk.look_at = now.plus_ms(walk.pause_ms);
        }
        let mut last = None;
        for one in seen {
            match one {
                Seen::Unreadable(hint) => around.hints.quarantine(&hint),
                Seen::Hint(hint, since) => {
                    let walk = self.walks.get_mut(&target).expect("it is walked");
                    walk.oldest_ms = walk.oldest_ms.min(since);
                    if !self.is_known(&hint) {
                        last = self.take_up((hint, since), is_there, around)?.or(last);
                    }
                }
            }
        }
        if let Some(walk) = self.walks.get_mut(&target).filter(|_| is_end) {
            around.hints.looked(target, walk.oldest_ms);
            walk.ended_under = Some(walk.under.clone());
        }
        Ok(last)
    }

    /// Units that this node does not own, of which hints have been deleted since somebody asked.
    pub fn take_settled(&mut self) -> BTreeSet<Unit> {
        std::mem::take(&mut self.settled)
    }

    fn is_known(&self, hint: &Bytes) -> bool {
        let of = self.deliveries.values().map(|one| &one.what).chain(&self.todo);
        of.map(|what| &what.hint)
            .chain(self.done.iter().map(|(hint, _)| hint))
            .any(|one| one == hint)
    }

    /// What becomes of a hint: it is handed over, or owed to others, or nothing is owed any more.
    fn take_up(
        &mut self,
        (hint, since): (Bytes, u64),
        is_there: bool,
        around: &mut Around<'_>,
    ) -> Result<Option<Lsn>> {
        let (Some((target, _, key)), layouts) = (parse_hint_key(&hint), around.view.layouts) else {
            return Ok(None);
        };
        let units = layouts.iter().rev().map(|live| live.layout.unit(key.keyspace, key.token()));
        let Some(unit) = units.flatten().next() else {
            // Its keyspace is gone.
            self.done.push((hint, Done::GivenUp));
            return Ok(None);
        };
        if !is_owner(layouts, target, unit) {
            let mut owners = Primaries::under(layouts, unit).nodes().to_vec();
            owners.retain(|&owner| owner != self.me);
            return around.hints.move_to((&hint, since), &owners, around.engine);
        }
        if is_there && around.units.counts(unit) {
            self.todo.push_back(Todo { target, hint, key, unit });
        }
        Ok(None)
    }

    /// The next one that may be read, to be handed over.
    pub fn start(&mut self, view: View<'_>, now: Mono) -> Option<(OpId, KeyRef, Unit)> {
        let is_much = self.bytes() as u64 >= FETCH_BYTES_MAX;
        if is_much || self.pace.must_wait(now) {
            return None;
        }
        let what = self.todo.pop_front()?;
        self.sequence += 1;
        let op = OpId { life: self.life, seq: self.sequence | HANDING };
        let (key, unit) = (what.key.clone(), what.unit);
        let delivery = Delivery {
            what,
            layouts: view.layout_set.clone(),
            state: None,
            is_brought: false,
            is_renewed: false,
            until: now.plus_ms(WAIT_MS),
        };
        self.deliveries.insert(op.seq, delivery);
        Some((op, key, unit))
    }

    /// What is here of a key that is on its way: its target is asked whether it holds that. With nothing here nothing is owed.
    pub fn read(
        &mut self,
        op: OpId,
        (state, epoch): (VersionSet, Epoch),
        now: Mono,
        out: &mut VecDeque<(NodeId, Message)>,
    ) {
        let Some(one) = self.deliveries.get_mut(&op.seq) else {
            return;
        };
        if state.is_empty() {
            let gone = self.deliveries.remove(&op.seq).filter(|one| !one.is_renewed);
            self.done.extend(gone.map(|one| (one.what.hint, Done::GivenUp)));
            return;
        }
        let question = Question::Holds { outline: Outline::of(&state) };
        self.pace.charge(one.what.key.key.len() as u64 + ASK_BYTES, now);
        out.push_back((one.what.target, one.ask(op, question)));
        one.state = Some((state, epoch));
    }

    /// A target holds what it lacked, or says that it lacks it, or that it can do nothing.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        (time, now): (Hlc, Mono),
        out: &mut VecDeque<(NodeId, Message)>,
    ) {
        let asked = self.deliveries.get_mut(&op.seq);
        let Some(one) = asked.filter(|one| one.what.target == from) else {
            return;
        };
        match answer {
            Answer::MergeAck if layouts.answers_for(&one.layouts) => {
                let held = self.deliveries.remove(&op.seq).filter(|one| !one.is_renewed);
                self.done.extend(held.map(|one| (one.what.hint, Done::Delivered)));
                self.goes_on(from, now);
            }
            Answer::Lacks if layouts.answers_for(&one.layouts) => {
                let state = one.state.clone().filter(|_| !one.is_brought);
                if let Some((state, epoch)) = state {
                    one.is_brought = true;
                    self.pace.charge(weight(&state) as u64, now);
                    out.push_back((from, one.ask(op, Question::Merge { state, epoch })));
                }
            }
            // It lacks nothing, or it was purged there, and what is here deletes nothing any more.
            Answer::Outdated { has, .. }
                if has == Has::All || has == Has::Nothing && one.is_dead(time) =>
            {
                let gone = self.deliveries.remove(&op.seq).filter(|one| !one.is_renewed);
                self.done.extend(gone.map(|one| (one.what.hint, Done::GivenUp)));
                self.goes_on(from, now);
            }
            Answer::MergeAck
            | Answer::Lacks
            | Answer::Failed
            | Answer::StaleLayout
            | Answer::NotCounted
            | Answer::Outdated { .. }
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. }
            | Answer::Query { .. }
            | Answer::State { .. }
            | Answer::Digest { .. } => {
                self.give_back(op, now);
            }
        }
    }

    /// It cannot be handed over now: later.
    pub fn give_back(&mut self, op: OpId, now: Mono) {
        if let Some(one) = self.deliveries.remove(&op.seq) {
            self.fail(one.what.target, now);
        }
    }

    /// A target has failed: it is left alone for twice as long as the last time.
    fn fail(&mut self, target: NodeId, now: Mono) {
        // What fails may be the answer of a moment later, when the walk has ended.
        if let Some(walk) = self.walks.get_mut(&target).filter(|walk| !walk.has_failed) {
            walk.has_failed = true;
            walk.pause_ms = (walk.pause_ms * 2).min(PAUSE_MS_MAX);
            walk.look_at = walk.look_at.max(now.plus_ms(walk.pause_ms));
        }
    }

    /// A target has taken something: it gets more, before it has nothing to do.
    fn goes_on(&mut self, target: NodeId, now: Mono) {
        let is_little = self.count(target) <= HANDED_A_TARGET_MAX / 2;
        if let Some(walk) = self.walks.get_mut(&target) {
            walk.pause_ms = LOOK_MS;
            if is_little {
                self.look_at = self.look_at.min(now);
                if walk.place.is_some() {
                    walk.look_at = now;
                }
            }
        }
    }

    /// These have become owed to their targets once more: what is on its way to them may not have that.
    pub fn renew(&mut self, hint: &Bytes) -> bool {
        let mut is_renewed = false;
        for one in self.deliveries.values_mut().filter(|one| one.what.hint == *hint) {
            (one.is_renewed, is_renewed) = (true, true);
        }
        let before = self.done.len();
        self.done.retain(|(done, _)| done != hint);
        is_renewed || self.done.len() < before
    }
}

/// The unit of a hint's key, if its keyspace is there.
fn unit_of(hint: &Bytes, view: View<'_>) -> Option<Unit> {
    let (_, _, key) = parse_hint_key(hint)?;
    view.newest()?.unit(key.keyspace, key.token())
}

impl Delivery {
    /// Whether nothing is left of its key but deletions and what has expired.
    fn is_dead(&self, time: Hlc) -> bool {
        let since = self.state.as_ref().and_then(|(state, _)| state.dead_since());
        since.is_some_and(|since| since <= time)
    }

    fn ask(&self, op: OpId, question: Question) -> Message {
        let (layouts, key) = (self.layouts.clone(), self.what.key.clone());
        Message::Key(KeyMessage::Ask(Ask { op, layouts, key, question }))
    }
}
