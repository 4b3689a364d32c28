//! Which keys are purged, and when: a paced look through the heads of all units of which this node is the first owner.
//!
//! A pass looks at a page of one unit at a time. A key is a candidate when nothing is left of it but deletions and values that have
//! expired, each for longer than the grace; or when it knows more actors than it has owners. A pass is followed by the next one when
//! the first of the others that it has seen may be purged, and soon when something was in the way.
//!
//! The first owner under the newest live layout does it, and nobody else: two of them would only raise each other's epochs. While it is
//! away nothing is purged, as while any other owner is, and of a sloppy keyspace as while any member is.
//!
//! Invariants: at most `PURGES_MAX` keys at a time; nothing is asked while an owner of the unit is away, or when this node itself must
//! not serve; under other layouts everything begins anew.
//! Left out: what one key takes (`run`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::config::{NodeConfig, PAGE_BYTES_MAX, PAGE_KEYS_MAX, PURGES_MAX};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{ActorId, Epoch, Life, NodeId, OpId, Unit};
use crate::layout::Layout;
use crate::layout::live::LayoutSet;
use crate::member::view::View;
use crate::purge::run::{Aim, Asked, Next, Run};
use crate::quorum::Primaries;
use crate::replica::keys::unit_range;
use crate::replica::listing::{Listed, list};
use crate::transfer::units::Units;
use crate::version::dvv::VersionSet;
use crate::version::hlc::Hlc;
use crate::wire::key::{Answer, Ask, Blocked, KeyMessage, KeyRef};
use crate::wire::message::Message;

/// The bit of the operations of this machine among all of a node.
const PURGING: u64 = 1 << 58;
/// Between two pages, in milliseconds.
const PAGE_MS: u64 = 20;
/// The shortest pause between two passes and the longest after something was in the way, in milliseconds.
const PASS_MS_MIN: u64 = 100;
const PASS_MS_MAX: u64 = 60_000;

/// What this machine works with, of the other ones of its shard.
pub struct Around<'a> {
    /// What is true of the node as a whole.
    pub view: View<'a>,
    /// Which units are not whole.
    pub units: &'a Units,
    /// The engine.
    pub engine: &'a mut dyn Engine,
    /// Messages to send, to this node itself too.
    pub out: &'a mut VecDeque<(NodeId, Message)>,
    /// The time by which it is judged how old something is.
    pub time: Hlc,
    /// The latest reading of the hybrid clock.
    pub clock: Hlc,
    /// Now.
    pub now: Mono,
}

/// What was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Keys that are gone at all owners.
    pub keys: u64,
    /// Keys from which dead actors were taken.
    pub compacted: u64,
    /// Keys that were in the way of something, each time.
    pub blocked: u64,
    /// Keys that some owners have deleted, and others have not been reached.
    pub unfinished: u64,
}

/// A look through the units.
#[derive(Debug, Default)]
struct Pass {
    units: VecDeque<Unit>,
    /// Where it goes on in the first of them; `None`: at its beginning.
    place: Option<Bytes>,
    /// Since when the key is dead that may be purged next, of those that have been seen.
    earliest: Option<Hlc>,
    /// Whether something of the first unit is to be purged.
    is_wanted: bool,
}

/// When the next page is looked at.
#[derive(Debug)]
struct Timing {
    due: Mono,
    /// Something was in the way since the last pass ended.
    is_blocked: bool,
    pause_ms: u64,
    is_stopped: bool,
}

/// All that is being purged.
#[derive(Debug)]
pub struct Purger {
    me: NodeId,
    life: Life,
    grace_ms: u64,
    sequence: u64,
    layouts: LayoutSet,
    pass: Pass,
    timing: Timing,
    todo: VecDeque<(KeyRef, Unit, Aim)>,
    runs: BTreeMap<u64, Run>,
    seen: Seen,
}

/// What is known of units by what became of their keys.
#[derive(Debug, Default)]
struct Seen {
    tally: Tally,
    /// What was in the way last.
    blocked: BTreeMap<Unit, Blocked>,
    /// What their owners issue with, as they have said last.
    registered: BTreeMap<Unit, BTreeSet<ActorId>>,
}

impl Purger {
    /// Nothing has been looked at.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Purger {
        Purger {
            me: config.id,
            life: config.life,
            grace_ms: config.grace_ms,
            sequence: 0,
            layouts: LayoutSet::default(),
            pass: Pass::default(),
            timing: Timing {
                due: Mono(0),
                is_blocked: false,
                pause_ms: PASS_MS_MIN,
                is_stopped: false,
            },
            todo: VecDeque::new(),
            runs: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.runs.len() <= PURGES_MAX, "few keys are purged at a time");
        assert!(self.todo.len() <= PURGES_MAX + PAGE_KEYS_MAX, "candidates are those of a page");
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && op.seq >> 58 == PURGING >> 58
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        if self.grace_ms == 0 || self.timing.is_stopped {
            return Mono(u64::MAX);
        }
        self.runs.values().map(|run| run.until).fold(self.timing.due, Mono::min)
    }

    /// How long what is deleted is kept, in milliseconds; 0: for ever.
    #[must_use]
    pub const fn grace_ms(&self) -> u64 {
        self.grace_ms
    }

    /// Nothing more is purged.
    pub const fn stop(&mut self) {
        self.timing.is_stopped = true;
    }

    /// What was done since the start.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.seen.tally
    }

    /// The units in which something waits to be purged, and what is in the way.
    #[must_use]
    pub const fn blocked(&self) -> &BTreeMap<Unit, Blocked> {
        &self.seen.blocked
    }

    /// How many keys are on their way out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.runs.len() + self.todo.len()
    }

    /// A write of this key was refused because its clock is full: its dead actors are taken out first.
    pub fn compact(&mut self, key: &KeyRef, unit: Unit, now: Mono) {
        if !self.is_known(key) && self.todo.len() < PURGES_MAX {
            self.todo.push_front((key.detached(), unit, Aim::Actors));
            self.timing.due = self.timing.due.min(now);
        }
    }

    fn is_known(&self, key: &KeyRef) -> bool {
        let todo = self.todo.iter().map(|(key, ..)| key);
        todo.chain(self.runs.values().map(|run| &run.key)).any(|one| one == key)
    }

    /// Takes note of what is not answered, and looks at the next page.
    pub fn tick(&mut self, around: &mut Around<'_>) -> Result<()> {
        let (view, now) = (around.view, around.now);
        let Some(layout) = view.newest().filter(|_| view.barred.is_none() && self.grace_ms > 0)
        else {
            self.timing.due = now.plus_ms(PASS_MS_MIN);
            return Ok(());
        };
        if self.layouts != *view.layout_set {
            self.layouts = view.layout_set.clone();
            self.todo.clear();
            self.seen = Seen { tally: self.seen.tally, ..Seen::default() };
            self.runs.clear();
            self.begin_pass(layout);
        }
        let late = self.runs.iter().filter(|(_, run)| run.until <= now);
        for seq in late.map(|(&seq, _)| seq).collect::<Vec<_>>() {
            let next = self.runs.get_mut(&seq).map(|run| run.late(now));
            self.after(seq, next.unwrap_or(Next::Wait), around);
        }
        if now < self.timing.due || !self.todo.is_empty() {
            return Ok(());
        }
        self.timing.due = now.plus_ms(PAGE_MS);
        if self.pass.units.is_empty() {
            self.begin_pass(layout);
        }
        self.look(layout, around)
    }

    fn begin_pass(&mut self, layout: &Layout) {
        let used = layout.used_groups();
        let is_mine = |unit: &Unit| {
            used.contains(&unit.group) && layout.primaries(*unit).next() == Some(self.me)
        };
        self.pass = Pass { units: layout.units().filter(is_mine).collect(), ..Pass::default() };
    }

    /// Looks at the next page of the pass, or ends it.
    fn look(&mut self, layout: &Layout, around: &mut Around<'_>) -> Result<()> {
        let Some(&unit) = self.pass.units.front() else {
            self.end_pass(around);
            return Ok(());
        };
        let (start, end) = unit_range(unit, layout.partitions());
        let from = self.pass.place.take().unwrap_or(start);
        let next = match list(&from, &end, (PAGE_KEYS_MAX, PAGE_BYTES_MAX), around.engine) {
            Ok(part) => {
                for one in &part.keys {
                    self.consider(unit, one, layout, around);
                }
                part.next
            }
            // It is met by others, and replaced.
            Err(Error::Corrupt { .. } | Error::Disk(_)) => {
                let next = Bytes::from([&from[..], &[0]].concat());
                Some(next).filter(|next| *next < end)
            }
            Err(error) if error.is_refusal() => Some(from),
            Err(error) => return Err(error),
        };
        self.pass.place = next;
        if self.pass.place.is_none() {
            self.pass.units.pop_front();
            if !std::mem::take(&mut self.pass.is_wanted) {
                // What was in the way is in the way of nothing: the keys were written anew.
                self.seen.blocked.remove(&unit);
            }
        }
        if self.pass.units.is_empty() {
            self.end_pass(around);
        }
        Ok(())
    }

    /// Whether a key that was found is to be purged.
    fn consider(&mut self, unit: Unit, one: &Listed, layout: &Layout, around: &Around<'_>) {
        if layout.unit(one.key.keyspace, one.key.token()) != Some(unit) {
            return;
        }
        let owners = layout.primaries(unit).count();
        let aim = match one.dead_since {
            Some(since) if since.plus_ms(self.grace_ms) <= around.time => Aim::Key,
            Some(since) => {
                let earliest = self.pass.earliest.map_or(since, |earliest| earliest.min(since));
                self.pass.earliest = Some(earliest);
                return;
            }
            None if self.has_dead_actors(unit, one, owners, around.time) => Aim::Actors,
            None => return,
        };
        self.pass.is_wanted = true;
        match self.obstacle((&one.key, unit), around) {
            None if self.is_known(&one.key) => {}
            None => self.todo.push_back((one.key.detached(), unit, aim)),
            Some(why) => self.block(unit, why, around.now),
        }
    }

    /// Whether somebody has written a key who is no owner of it, as far as it is known. Not while it is written: each time its unit's
    /// floor would rise to the latest of its writes.
    fn has_dead_actors(&self, unit: Unit, one: &Listed, owners: usize, time: Hlc) -> bool {
        let known = one.outline.known.entries();
        let registered = self.seen.registered.get(&unit);
        let is_dead = |actor: &ActorId| {
            registered.is_none_or(|registered| !registered.contains(actor))
                && !one.outline.held.iter().any(|dot| dot.actor == *actor)
        };
        known.len() > owners
            && one.highest.plus_ms(self.grace_ms) <= time
            && known.iter().any(|(actor, _)| is_dead(actor))
    }

    /// What is in the way of purging a key, as far as this node can see.
    fn obstacle(&self, what: (&KeyRef, Unit), around: &Around<'_>) -> Option<Blocked> {
        let (view, (_, unit)) = (around.view, what);
        let is_away = |node: NodeId| node != self.me && !view.members.is_alive(node, around.now);
        if asked(what, view).all().any(is_away) {
            return Some(Blocked::Absent);
        }
        around.units.get(unit).map(|_| Blocked::Partial)
    }

    fn block(&mut self, unit: Unit, why: Blocked, now: Mono) {
        self.seen.tally.blocked += 1;
        self.seen.blocked.insert(unit, why);
        self.again(now);
    }

    /// Something is left to be purged: the next pass comes sooner.
    fn again(&mut self, now: Mono) {
        self.timing.is_blocked = true;
        if self.pass.units.is_empty() {
            self.timing.due = self.timing.due.min(now.plus_ms(self.timing.pause_ms));
        }
    }

    /// All units have been looked through.
    fn end_pass(&mut self, around: &Around<'_>) {
        let Pass { earliest, .. } = std::mem::take(&mut self.pass);
        // What is deleted from now on is looked at when it can be purged.
        let earliest = earliest.map_or(around.time, |since| since.min(around.time));
        let at = earliest.plus_ms(self.grace_ms).wall_ms();
        let in_ms = at.saturating_sub(around.time.wall_ms()).max(self.grace_ms / 8);
        let is_blocked = std::mem::take(&mut self.timing.is_blocked);
        self.timing.pause_ms = match is_blocked {
            true => (2 * self.timing.pause_ms).min(self.grace_ms.clamp(PASS_MS_MIN, PASS_MS_MAX)),
            false => PASS_MS_MIN,
        };
        let in_ms = if is_blocked { in_ms.min(self.timing.pause_ms) } else { in_ms };
        self.timing.due = around.now.plus_ms(in_ms.max(PASS_MS_MIN));
    }

    /// The next key whose state is to be read.
    pub fn start(&mut self, view: View<'_>, now: Mono) -> Option<(OpId, KeyRef, Unit)> {
        if self.runs.len() >= PURGES_MAX {
            return None;
        }
        let (key, unit, aim) = self.todo.pop_front()?;
        self.sequence += 1;
        let op = OpId { life: self.life, seq: self.sequence | PURGING };
        let asked = asked((&key, unit), view);
        let what = (key.clone(), unit, aim);
        let run = Run::new(what, (self.me, asked), self.layouts.clone(), now);
        self.runs.insert(op.seq, run);
        Some((op, key, unit))
    }

    /// A key's state has been read, durable, under this purge epoch. It may be another one than was found.
    pub fn read(&mut self, op: OpId, (state, epoch): (VersionSet, Epoch), around: &mut Around<'_>) {
        let Some(run) = self.runs.get_mut(&op.seq) else {
            return;
        };
        let since = state.dead_since().map(|since| since.plus_ms(self.grace_ms));
        let is_wanted = match run.aim {
            Aim::Key => since.is_some_and(|since| since <= around.time),
            Aim::Actors => !state.is_empty(),
        };
        if !is_wanted {
            self.runs.remove(&op.seq);
            return;
        }
        let next = run.read(state, epoch, around.now);
        self.after(op.seq, next, around);
    }

    /// It cannot be read now.
    pub fn give_up(&mut self, op: OpId, now: Mono) {
        if let Some(run) = self.runs.remove(&op.seq) {
            self.block(run.unit, Blocked::Failed, now);
        }
    }

    /// An owner has answered.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        around: &mut Around<'_>,
    ) {
        let Some(run) = self.runs.get_mut(&op.seq) else {
            return;
        };
        let next = run.on_answer(from, (layouts, answer), Epoch(around.clock.0), around.now);
        self.after(op.seq, next, around);
    }

    /// What comes of a step of a run.
    fn after(&mut self, seq: u64, next: Next, around: &mut Around<'_>) {
        let is_last = match next {
            Next::Wait => return,
            Next::Ask(nodes, question) => {
                let Some(run) = self.runs.get(&seq) else {
                    return;
                };
                let op = OpId { life: self.life, seq };
                for node in nodes {
                    let (layouts, key) = (run.layouts().clone(), run.key.clone());
                    let ask = Ask { op, layouts, key, question: question.clone() };
                    around.out.push_back((node, Message::Key(KeyMessage::Ask(ask))));
                }
                return;
            }
            last => last,
        };
        let Some(run) = self.runs.remove(&seq) else {
            return;
        };
        match is_last {
            Next::Done => {
                match run.aim {
                    Aim::Key => self.seen.tally.keys += 1,
                    Aim::Actors => self.seen.tally.compacted += 1,
                }
                self.seen.blocked.remove(&run.unit);
                self.seen.registered.insert(run.unit, run.registered().clone());
            }
            Next::Blocked(why) => self.block(run.unit, why, around.now),
            Next::Unfinished => {
                self.seen.tally.unfinished += 1;
                self.again(around.now);
            }
            Next::Wait | Next::Ask(..) => {}
        }
    }
}

/// Who must confirm that a key can be purged: its owners, and where it is of a sloppy keyspace every other member, because each may have
/// taken a write of it for them.
fn asked((key, unit): (&KeyRef, Unit), view: View<'_>) -> Asked {
    let owners = Primaries::under(view.layouts, unit).nodes().to_vec();
    let mut others = BTreeSet::new();
    if view.layouts.iter().any(|live| live.layout.is_sloppy(key.keyspace)) {
        let roles = view.layouts.iter().flat_map(|live| live.layout.roles());
        others.extend(roles.map(|role| role.node).filter(|node| !owners.contains(node)));
    }
    Asked { owners, others: others.into_iter().collect() }
}
