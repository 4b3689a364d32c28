//! What a node still has of units that it does not own any more: handed to their owners, and then deleted.
//!
//! The owners have taken what this node had of such a unit while they could; what was acknowledged at `quorum` they have in any case.
//! What nobody has taken, such as a write at level `one` of a node that was away, may be here alone. So nothing is deleted on the word of
//! a layout: of each key the owners are asked whether they hold what is here, whoever lacks it is sent it, and the record goes when as many
//! as a write needs hold it durably (<https://issues.apache.org/jira/browse/CASSANDRA-7069>). A key is deleted as
//! it was when they were asked; one that has changed is looked at anew.
//!
//! Invariants: nothing is handed over or deleted while a second layout is live, nor of a unit that this node owns; at most `BATCH_KEYS`
//! at a time; a record that cannot be read is neither deleted nor handed over, and says so.
//! Left out: keyspaces that were dropped, of which nothing is kept: see `dropped`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::config::{FETCH_BYTES_MAX, NodeConfig, PAGE_BYTES_MAX, QUARANTINED_MAX};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{Epoch, LayoutVersion, Life, NodeId, OpId, Unit};
use crate::layout::keyspace::Level;
use crate::layout::live::{LayoutSet, LiveLayout};
use crate::member::view::View;
use crate::quorum::{Members, Needs, Primaries, Tally};
use crate::replica::keys::{data_key, unit_range};
use crate::replica::listing::{Listed, Part, list};
use crate::version::dvv::VersionSet;
use crate::version::hlc::Hlc;
use crate::wire::key::{Answer, Ask, Has, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;

/// The bit of the operations of this machine among all of a node.
const LEAVING: u64 = 1 << 61;

/// Whether an operation of another node is one of this machine there: what it brings, nobody has asked for.
#[must_use]
pub const fn is_parted_with(op: OpId) -> bool {
    op.seq >> 61 == LEAVING >> 61
}

/// Keys that are handed over at a time.
const BATCH_KEYS: usize = 64;
/// How often it is looked what there is to do, in milliseconds.
const LOOK_MS: u64 = 50;
/// Units of which it is looked in one turn whether anything is left.
const UNITS_A_TURN: usize = 16;
/// So long answers are waited for, in milliseconds; then the rest is looked at anew.
const WAIT_MS: u64 = 2_000;
/// The longest pause after nothing could be handed over, in milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;
/// Units that were empty are looked at again after so long, in milliseconds: an operation that ended late may have written.
const ANEW_MS: u64 = 600_000;

/// A key on its way out.
#[derive(Debug)]
struct Parting {
    listed: Listed,
    holders: Tally,
    /// Who is alive and has neither answered nor taken what it lacked: enough others may hold it, and yet this is the last one to bring it.
    awaited: Members,
    /// Who has said that it lacks what is here.
    lack: Members,
    /// To whom it has been sent since.
    brought: Members,
}

/// Several keys of one unit.
#[derive(Debug)]
struct Batch {
    unit: Unit,
    primaries: Primaries,
    layouts: LayoutSet,
    keys: BTreeMap<u64, Parting>,
    /// Whether any of them was deleted.
    goes_on: bool,
    until: Mono,
}

/// The unit that is looked through.
#[derive(Debug)]
struct Walk {
    unit: Unit,
    /// Where it goes on; `None`: at the beginning.
    place: Option<Bytes>,
    /// Whether anything was found that is still here, as far as it is known.
    left: bool,
}

/// What comes of an owner's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// The owners of the unit hold what is here of a key: it can be deleted as it was listed.
    Held(Unit, Listed),
    /// An owner lacks what is here: it is to be read, and brought to it.
    Lacked(Unit, KeyRef),
    /// An owner refuses what is here, because it may have been purged.
    Refused(Unit, KeyRef),
}

/// Units that leave this node.
#[derive(Debug)]
pub struct Leaving {
    me: NodeId,
    life: Life,
    sequence: u64,
    /// The layout by which `units` were found, and when that was.
    found_by: Option<(LayoutVersion, Mono)>,
    /// Units that may have something left here.
    units: BTreeSet<Unit>,
    /// Keys that an owner has refused because they may have been purged: they stay, and nobody waits for them.
    refused: BTreeSet<KeyRef>,
    walk: Option<Walk>,
    batch: Option<Batch>,
    look_at: Mono,
    pause_ms: u64,
    progress: Progress,
}

/// What has been done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Units that may have something left here.
    pub units: u64,
    /// Keys that their owners hold and that were deleted here.
    pub keys: u64,
    /// Records that could not be read; each is counted as often as it is met.
    pub unreadable: u64,
}

impl Batch {
    /// An owner holds what is here of a key, or needs it no more.
    fn holds(&mut self, seq: u64, at: usize) -> Told {
        let Some(parting) = self.keys.get_mut(&seq) else {
            return Told::Nothing;
        };
        parting.holders.yes(at);
        self.settled(seq)
    }

    /// Enough owners hold what is here of a key, and nobody is waited for.
    fn settled(&mut self, seq: u64) -> Told {
        let is_settled = |parting: &Parting| parting.holders.met() && parting.awaited.count() == 0;
        if !self.keys.get(&seq).is_some_and(is_settled) {
            return Told::Nothing;
        }
        let held = self.keys.remove(&seq);
        held.map_or(Told::Nothing, |parting| Told::Held(self.unit, parting.listed))
    }
}

impl Leaving {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(config: &NodeConfig) -> Leaving {
        Leaving {
            me: config.id,
            life: config.life,
            sequence: 0,
            found_by: None,
            units: BTreeSet::new(),
            refused: BTreeSet::new(),
            walk: None,
            batch: None,
            look_at: Mono(0),
            pause_ms: LOOK_MS,
            progress: Progress { units: 0, keys: 0, unreadable: 0 },
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        if let Some(batch) = &self.batch {
            assert!(batch.keys.len() <= BATCH_KEYS, "few keys leave at a time");
            assert!(!batch.primaries.has(self.me), "nothing leaves an owner");
        }
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && is_parted_with(op)
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.batch.as_ref().map_or(self.look_at, |batch| batch.until)
    }

    /// Whether it has looked under an older layout than the one that is live alone: it must not say that all is handed over.
    #[must_use]
    pub fn is_behind(&self, layouts: &[LiveLayout]) -> bool {
        let [only] = layouts else {
            return false;
        };
        self.found_by.is_some_and(|(found, _)| found != only.reference.version)
    }

    /// Something is here of a unit that this node does not own, which nobody may be owed any more: it is looked at soon.
    pub fn look_at(&mut self, unit: Unit, now: Mono) {
        // Before it has looked at all it will.
        if self.found_by.is_some() {
            self.units.insert(unit);
            (self.pause_ms, self.look_at) = (LOOK_MS, self.look_at.min(now.plus_ms(LOOK_MS)));
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { units: self.units.len() as u64, ..self.progress }
    }

    /// Looks for what is left, and asks the owners about it.
    pub fn tick(
        &mut self,
        view: View<'_>,
        now: Mono,
        engine: &mut dyn Engine,
        out: &mut VecDeque<(NodeId, Message)>,
    ) -> Result<()> {
        let is_of = |batch: &Batch| batch.layouts == *view.layout_set && batch.until > now;
        if self.batch.as_ref().is_some_and(|batch| !is_of(batch)) {
            self.end_batch(now, false);
        }
        if self.batch.is_some() || now < self.look_at && !self.is_behind(view.layouts) {
            return Ok(());
        }
        self.look_at = now.plus_ms(LOOK_MS);
        let ([only], None) = (view.layouts, view.barred) else {
            return Ok(());
        };
        let by = only.reference.version;
        let is_old =
            |(found, at): (LayoutVersion, Mono)| found != by || now.ms_since(at) >= ANEW_MS;
        if self.found_by.is_none_or(is_old) {
            let units = only.layout.units();
            self.units = units.filter(|&unit| !only.layout.is_primary(self.me, unit)).collect();
            (self.found_by, self.walk, self.pause_ms) = (Some((by, now)), None, LOOK_MS);
            self.refused.clear();
        }
        for _ in 0..UNITS_A_TURN {
            let unit = self.walk.as_ref().map(|walk| walk.unit).or(self.units.first().copied());
            let Some(unit) = unit else {
                // A change of the layout is seen soon enough.
                self.look_at = now.plus_ms(20 * LOOK_MS);
                return Ok(());
            };
            let walk = self.walk.take().unwrap_or(Walk { unit, place: None, left: false });
            if self.go_on(walk, view, (now, engine), out)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks the owners about the next keys of a unit. `false`: there is none, and the next unit may be looked through.
    fn go_on(
        &mut self,
        mut walk: Walk,
        view: View<'_>,
        (now, engine): (Mono, &mut dyn Engine),
        out: &mut VecDeque<(NodeId, Message)>,
    ) -> Result<bool> {
        let (Some(layout), unit) = (view.newest(), walk.unit) else {
            return Ok(true);
        };
        let (start, end) = unit_range(unit, layout.partitions());
        let from = walk.place.take().unwrap_or(start);
        let mut part = match list(&from, &end, (BATCH_KEYS, PAGE_BYTES_MAX), engine) {
            Ok(part) => part,
            Err(Error::Corrupt { .. } | Error::Disk(_)) => {
                self.progress.unreadable += 1;
                let next = Some(Bytes::from([&from[..], &[0]].concat()));
                walk.left = true;
                Part { keys: Vec::new(), next }
            }
            Err(error) => return Err(error),
        };
        // Those are deleted as they are.
        let is_refused = |one: &Listed| self.refused.contains(&one.key);
        part.keys.retain(|one| !layout.has_dropped(one.key.keyspace) && !is_refused(one));
        cut(&mut part, unit);
        walk.left |= !part.keys.is_empty();
        if part.keys.is_empty() && part.next.is_none() {
            if walk.left {
                self.rest(unit, now);
                return Ok(true);
            }
            self.units.remove(&unit);
            return Ok(false);
        }
        walk.place = part.next;
        // After the last keys it is looked from the beginning whether any is left.
        self.walk = Some(walk).filter(|walk| walk.place.is_some());
        if !part.keys.is_empty() {
            self.begin(unit, part.keys, view, now, out);
        }
        Ok(true)
    }

    /// Something of a unit stays for now: others come first.
    fn rest(&mut self, unit: Unit, now: Mono) {
        self.pause_ms = (self.pause_ms * 2).clamp(LOOK_MS, PAUSE_MS_MAX);
        self.look_at = now.plus_ms(self.pause_ms);
        let next = self.units.range((Bound::Excluded(unit), Bound::Unbounded)).next();
        self.walk = next.map(|&unit| Walk { unit, place: None, left: false });
    }

    fn begin(
        &mut self,
        unit: Unit,
        keys: Vec<Listed>,
        view: View<'_>,
        now: Mono,
        out: &mut VecDeque<(NodeId, Message)>,
    ) {
        let primaries = Primaries::under(view.layouts, unit);
        let holders = Needs::at(Level::Quorum, &primaries, view.reads_at).holders();
        let layouts = view.layout_set.clone();
        let until = now.plus_ms(WAIT_MS);
        let mut awaited = Members::NONE;
        let alive = |(_, node): &(usize, &NodeId)| view.members.is_alive(**node, now);
        primaries.nodes().iter().enumerate().filter(alive).for_each(|(at, _)| _ = awaited.add(at));
        let mut batch =
            Batch { unit, primaries, layouts, keys: BTreeMap::new(), goes_on: false, until };
        for listed in keys {
            self.sequence += 1;
            let op = OpId { life: self.life, seq: self.sequence | LEAVING };
            let question = Question::Holds { outline: listed.outline.clone() };
            for &node in batch.primaries.nodes() {
                out.push_back((node, ask(op, &batch.layouts, &listed.key, question.clone())));
            }
            let holders = holders.clone();
            batch.keys.insert(
                op.seq,
                Parting { listed, holders, awaited, lack: Members::NONE, brought: Members::NONE },
            );
        }
        self.batch = Some(batch);
    }

    /// An owner holds what is here, or lacks it. What can be deleted by that.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        time: Hlc,
    ) -> Told {
        let Some(batch) = self.batch.as_mut().filter(|batch| layouts.answers_for(&batch.layouts))
        else {
            return Told::Nothing;
        };
        let (Some(at), Some(parting)) =
            (batch.primaries.position(from), batch.keys.get_mut(&op.seq))
        else {
            return Told::Nothing;
        };
        let is_dead = parting.listed.dead_since.is_some_and(|since| since <= time);
        if answer != Answer::Lacks {
            parting.awaited.remove(at);
        }
        match answer {
            Answer::MergeAck => batch.holds(op.seq, at),
            Answer::Outdated { has: Has::All, .. } => batch.holds(op.seq, at),
            // It was purged there: what is here deletes nothing any more.
            Answer::Outdated { has: Has::Nothing, .. } if is_dead => batch.holds(op.seq, at),
            Answer::Lacks if parting.lack.add(at) => {
                Told::Lacked(batch.unit, parting.listed.key.clone())
            }
            Answer::Outdated { .. } => {
                let key = parting.listed.key.clone();
                if self.refused.len() < QUARANTINED_MAX {
                    self.refused.insert(key.clone());
                }
                Told::Refused(batch.unit, key)
            }
            // It is asked again with the next look.
            Answer::Lacks => Told::Nothing,
            Answer::Failed
            | Answer::StaleLayout
            | Answer::NotCounted
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. }
            | Answer::Query { .. }
            | Answer::State { .. }
            | Answer::Digest { .. } => batch.settled(op.seq),
        }
    }

    /// Brings a state that has been read here to those who lack it, each once.
    pub fn bring(
        &mut self,
        op: OpId,
        (state, epoch): (&VersionSet, Epoch),
        out: &mut VecDeque<(NodeId, Message)>,
    ) {
        let Some(batch) = &mut self.batch else {
            return;
        };
        let Some(parting) = batch.keys.get_mut(&op.seq) else {
            return;
        };
        for (at, &node) in batch.primaries.nodes().iter().enumerate() {
            if parting.lack.has(at) && parting.brought.add(at) {
                let question = Question::Merge { state: state.clone(), epoch };
                out.push_back((node, ask(op, &batch.layouts, &parting.listed.key, question)));
            }
        }
    }

    /// A key has been deleted here, or had changed, or is owed to somebody; when it was the last of its batch the next one may begin:
    /// at once, if any of the batch is gone.
    pub fn erased(&mut self, is_gone: bool, now: Mono) {
        self.progress.keys += u64::from(is_gone);
        let Some(batch) = &mut self.batch else {
            return;
        };
        batch.goes_on |= is_gone;
        if batch.keys.is_empty() {
            let goes_on = batch.goes_on;
            self.end_batch(now, goes_on);
        }
    }

    /// What is left of a batch is looked at anew, after the rest of its unit.
    fn end_batch(&mut self, now: Mono, is_done: bool) {
        let unit = self.batch.take().map(|batch| batch.unit);
        if is_done {
            (self.pause_ms, self.look_at) = (LOOK_MS, now);
        } else if let Some(unit) = unit {
            // Its owners do not answer, or have other layouts.
            self.rest(unit, now);
        }
    }
}

fn ask(op: OpId, layouts: &LayoutSet, key: &KeyRef, question: Question) -> Message {
    let (layouts, key) = (layouts.clone(), key.clone());
    Message::Key(KeyMessage::Ask(Ask { op, layouts, key, question }))
}

/// Cuts a part where its values would be too many to bring them to others at once.
fn cut(part: &mut Part, unit: Unit) {
    let mut bytes = 0;
    let fits = part.keys.iter().take_while(|one| {
        bytes += one.bytes;
        bytes <= FETCH_BYTES_MAX
    });
    let fits = fits.count().max(1);
    if let Some(beyond) = part.keys.get(fits) {
        part.next = Some(data_key(unit.group, &beyond.key));
        part.keys.truncate(fits);
    }
}
