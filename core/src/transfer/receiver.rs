//! Taking units from those who have them: the receiver knows what it lacks, so it asks.
//!
//! A source is *walked*: it is asked for a page of keys with the digests of their states; those that differ from what is here are
//! asked for and merged here; and when all of a page is durable here the next one is asked for. A source that has nothing new costs its
//! digests alone, so the walks that follow the first one verify it. A walk that was broken off goes on where it was.
//!
//! States are asked for and merged by the questions that everybody asks (`Read` of the source, `Merge` of this node itself): they
//! pass the fence, wait for cold reads and for the disk, and are bounded as all others are.
//!
//! Invariants: at most `TRANSFERS_MAX` units, each from one source at a time; a walk goes past a key only when what the source had of
//! it is durable here; what a source refuses or cannot read is asked for again, and after some failures another source comes first; no
//! more than the configured rate is taken. A walk belongs to the layouts that it began under, and is begun anew under others.
//! Left out: walking down a tree of hashes, which would save the digests of what is equal.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::{
    FETCH_BYTES_MAX, FETCH_KEYS_MAX, NodeConfig, PAGE_BYTES_MAX, PAGE_KEYS_MAX, TRANSFERS_MAX,
    WALK_STORED_BYTES,
};
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{Epoch, Life, NodeId, OpId, Unit};
use crate::layout::Layout;
use crate::layout::live::{LayoutSet, is_owner};
use crate::member::view::View;
use crate::pace::Pace;
use crate::replica::keys::unit_range;
use crate::replica::listing::list;
use crate::sometimes;
use crate::step::Env;
use crate::transfer::patience::{Patience, Trouble};
use crate::transfer::units::{Partial, Source, Units, Walked};
use crate::wire::key::{Answer, Ask, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;
use crate::wire::state::weight;
use crate::wire::transfer::{Digested, Listing, TransferMessage};

/// The bit of the operations of this machine among all of a node.
const TAKING: u64 = 1 << 62;
/// How often units are looked for that nobody is asked for, in milliseconds.
const LOOK_MS: u64 = 100;
/// After so many failures in a row another source comes first.
const FAILURES_MAX: u32 = 3;
/// For so long a source that has failed is left alone, in milliseconds.
const LEFT_ALONE_MS: u64 = 5_000;

/// What a walk works with, of the other machines of its shard.
pub struct Around<'a> {
    /// What is true of the node as a whole.
    pub view: View<'a>,
    /// Whether units may be taken from their owners now.
    pub may_pull: bool,
    /// Which units are partial.
    pub units: &'a mut Units,
    /// Messages to send, to this node itself too.
    pub out: &'a mut VecDeque<(NodeId, Message)>,
}

/// What has been taken since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Units that have become whole.
    pub units: u64,
    /// States that were merged.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A key that is asked for, or that is being stored.
#[derive(Debug)]
struct Fetch {
    wanted: Digested,
    /// The source has told it, and this node merges it.
    is_told: bool,
}

/// A source that is being walked.
#[derive(Debug)]
struct Walk {
    source: NodeId,
    layouts: LayoutSet,
    /// Where the page begins that is at work; empty: at the beginning of the unit.
    place: Bytes,
    /// The question for the page; `None` once it is there.
    asked: Option<u64>,
    todo: VecDeque<Digested>,
    fetching: BTreeMap<u64, Fetch>,
    next: Option<Bytes>,
    /// Bytes that were taken since `place` was stored.
    unstored: u64,
    patience: Patience,
}

/// All walks of a node.
#[derive(Debug)]
pub struct Receiver {
    me: NodeId,
    life: Life,
    sequence: u64,
    walks: BTreeMap<Unit, Walk>,
    /// Who was walked in vain last, why, and until when it is left alone.
    failed: BTreeMap<Unit, (NodeId, Trouble, Mono)>,
    look_at: Mono,
    pace: Pace,
    taken: Taken,
}

impl Receiver {
    /// Nobody is walked.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Receiver {
        Receiver {
            me: config.id,
            life: config.life,
            sequence: 0,
            walks: BTreeMap::new(),
            failed: BTreeMap::new(),
            look_at: Mono(0),
            pace: Pace::new(config.transfer_bytes_per_s),
            taken: Taken::default(),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.walks.len() <= TRANSFERS_MAX, "few units are taken at a time");
        for walk in self.walks.values() {
            assert_ne!(walk.source, self.me, "nobody takes from itself");
            assert!(walk.fetching.len() <= FETCH_KEYS_MAX, "few keys are asked for at a time");
            assert!(walk.todo.len() + walk.fetching.len() <= PAGE_KEYS_MAX, "those of one page");
            assert!(walk.asked.is_none() || walk.fetching.is_empty(), "one page at a time");
        }
    }

    /// Whether an answer is one to this machine.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && op.seq >> 62 == TAKING >> 62
    }

    /// When `tick` has something to do, while units are partial.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.walks.values().map(|walk| walk.patience.again).fold(self.look_at, Mono::min)
    }

    /// What has been taken since the start.
    #[must_use]
    pub const fn taken(&self) -> Taken {
        self.taken
    }

    /// How many bytes a second are taken now.
    #[must_use]
    pub fn bytes_per_s(&self, now: Mono) -> u64 {
        self.pace.bytes_per_s(now)
    }

    /// Whom a unit is taken from now, and why that does not go on, if it does not.
    #[must_use]
    pub fn stands(&self, unit: Unit) -> (Option<NodeId>, Option<Trouble>) {
        let failed = self.failed.get(&unit).map(|&(_, trouble, _)| trouble);
        match self.walks.get(&unit) {
            Some(walk) => (Some(walk.source), walk.patience.trouble.or(failed)),
            None => (None, failed),
        }
    }

    /// Begins walks, asks again, and forgets what is no longer to be taken.
    pub fn tick(&mut self, around: &mut Around<'_>, env: &mut impl Env) -> Result<()> {
        let (view, now) = (around.view, env.mono());
        if view.layouts.is_empty() || around.units.all_whole() {
            self.walks.clear();
            self.failed.clear();
            return Ok(());
        }
        let used = view.newest().map(Layout::used_groups).unwrap_or_default();
        let is_owned =
            |unit: Unit| used.contains(&unit.group) && is_owner(view.layouts, self.me, unit);
        around.units.retain(is_owned, env.engine())?;
        let units = &*around.units;
        self.walks.retain(|unit, walk| {
            units.get(*unit).is_some() && walk.layouts == *view.layout_set && view.barred.is_none()
        });
        self.failed.retain(|unit, _| units.get(*unit).is_some());
        let due = self.walks.iter().filter(|(_, walk)| walk.patience.again <= now);
        for unit in due.map(|(&unit, _)| unit).collect::<Vec<_>>() {
            self.again(unit, around, env)?;
        }
        if now >= self.look_at {
            self.look_at = now.plus_ms(LOOK_MS);
            if around.may_pull && view.barred.is_none() {
                self.begin(around, now);
            }
        }
        Ok(())
    }

    /// Begins as many walks as there may be.
    fn begin(&mut self, around: &mut Around<'_>, now: Mono) {
        let waiting = around.units.partial().filter(|(unit, _)| !self.walks.contains_key(unit));
        let can_begin = waiting.filter_map(|(unit, partial)| {
            let source = self.choose(unit, partial, around.view, now)?;
            Some((unit, source))
        });
        let room = TRANSFERS_MAX - self.walks.len();
        for (unit, (source, place)) in can_begin.take(room).collect::<Vec<_>>() {
            let walk = Walk {
                source,
                layouts: around.view.layout_set.clone(),
                place,
                asked: None,
                todo: VecDeque::new(),
                fetching: BTreeMap::new(),
                next: None,
                unstored: 0,
                patience: Patience::new(now),
            };
            self.walks.insert(unit, walk);
            self.ask_page(unit, around, now);
        }
    }

    /// The next source of a unit, and how far it has been walked: one that is reached and owns the unit, not the one that has just
    /// failed while there is another.
    fn choose(
        &self,
        unit: Unit,
        partial: &Partial,
        view: View<'_>,
        now: Mono,
    ) -> Option<(NodeId, Bytes)> {
        let can_tell =
            |node| view.members.is_alive(node, now) && is_owner(view.layouts, node, unit);
        let undone: Vec<&Source> =
            partial.undone().filter(|source| can_tell(source.node)).collect();
        let failed = self.failed.get(&unit);
        let has_failed = |node| failed.is_some_and(|&(last, _, _)| last == node);
        let other = undone.iter().find(|source| !has_failed(source.node));
        let left_alone = failed.is_some_and(|&(_, _, until)| until > now);
        let found = other.or_else(|| undone.first().filter(|_| !left_alone))?;
        match &found.walked {
            Walked::UpTo(place) => Some((found.node, place.clone())),
            Walked::All => None,
        }
    }

    fn name(&mut self) -> OpId {
        self.sequence += 1;
        OpId { life: self.life, seq: self.sequence | TAKING }
    }

    fn ask_page(&mut self, unit: Unit, around: &mut Around<'_>, now: Mono) {
        let op = self.name();
        let Some(walk) = self.walks.get_mut(&unit) else {
            return;
        };
        walk.asked = Some(op.seq);
        walk.patience.wait(now);
        let (layouts, from) = (walk.layouts.clone(), walk.place.clone());
        let ask = TransferMessage::Ask { op, layouts, unit, from };
        around.out.push_back((walk.source, Message::Transfer(ask)));
    }

    /// A walk has waited long enough: for an answer, or for the rate.
    fn again(&mut self, unit: Unit, around: &mut Around<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        let Some(walk) = self.walks.get_mut(&unit) else {
            return Ok(());
        };
        if std::mem::take(&mut walk.patience.is_paced) {
            return self.fill(unit, around, env);
        }
        walk.patience.failures += 1;
        let trouble = *walk.patience.trouble.get_or_insert(Trouble::Silent);
        if walk.patience.failures >= FAILURES_MAX {
            sometimes!(env, TransferSourceLeft);
            self.failed.insert(unit, (walk.source, trouble, now.plus_ms(LEFT_ALONE_MS)));
            self.walks.remove(&unit);
            self.look_at = now;
            return Ok(());
        }
        if walk.asked.is_some() {
            self.ask_page(unit, around, now);
            return Ok(());
        }
        let unanswered = std::mem::take(&mut walk.fetching);
        unanswered.into_values().for_each(|fetch| walk.todo.push_front(fetch.wanted));
        self.fill(unit, around, env)
    }

    /// The unit that a source is asked about by this operation.
    #[must_use]
    pub fn walks(&self, from: NodeId, op: OpId) -> Option<Unit> {
        let is_it = |walk: &Walk| walk.source == from && walk.asked == Some(op.seq);
        self.walks.iter().find(|(_, walk)| is_it(walk)).map(|(&unit, _)| unit)
    }

    /// A source says what it has, or why it does not say it.
    pub fn on_listing(
        &mut self,
        from: NodeId,
        (op, layouts, listing): (OpId, &LayoutSet, Listing),
        around: &mut Around<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let is_it = |walk: &Walk| walk.source == from && walk.asked == Some(op.seq);
        let Some((&unit, walk)) = self.walks.iter_mut().find(|(_, walk)| is_it(walk)) else {
            return Ok(());
        };
        let listing = match layouts.answers_for(&walk.layouts) {
            true => listing,
            false => Listing::StaleLayout,
        };
        let trouble = match listing {
            Listing::Keys { keys, next, .. } => {
                let forward = next.as_ref().is_none_or(|next| *next > walk.place);
                if forward && keys.len() <= PAGE_KEYS_MAX {
                    return self.on_keys(unit, keys, next, around, env);
                }
                Trouble::Refused
            }
            Listing::NotYet => Trouble::NotYet,
            Listing::Unreadable => Trouble::Unreadable,
            Listing::StaleLayout | Listing::NotCounted | Listing::Failed => Trouble::Refused,
        };
        sometimes!(env, TransferNotYet, trouble == Trouble::NotYet);
        sometimes!(env, TransferMetDamage, trouble == Trouble::Unreadable);
        // It is asked again when its time has come.
        walk.patience.trouble = Some(trouble);
        Ok(())
    }

    /// A page has come: what differs from what is here is asked for.
    fn on_keys(
        &mut self,
        unit: Unit,
        keys: Vec<Digested>,
        next: Option<Bytes>,
        around: &mut Around<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let (Some(layout), Some(walk)) = (around.view.newest(), self.walks.get_mut(&unit)) else {
            return Ok(());
        };
        let (start, end) = unit_range(unit, layout.partitions());
        let from = if walk.place.is_empty() { &start } else { &walk.place };
        let here = digests(from, next.as_ref().unwrap_or(&end), env)?;
        let is_of_unit = |key: &KeyRef| layout.unit(key.keyspace, key.token()) == Some(unit);
        let differs = |one: &Digested| here.get(&one.key) != Some(&one.digest);
        walk.asked = None;
        walk.next = next;
        walk.todo = keys.into_iter().filter(|one| is_of_unit(&one.key) && differs(one)).collect();
        walk.patience.goes_on(env.mono());
        self.fill(unit, around, env)
    }

    /// Asks for as much as may be on its way; goes on to the next page when nothing is left of this one.
    fn fill(&mut self, unit: Unit, around: &mut Around<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        while let Some(walk) = self.walks.get_mut(&unit) {
            let on_its_way: u64 = walk.fetching.values().map(|fetch| fetch.wanted.bytes).sum();
            let Some(wanted) = walk.todo.front() else {
                break;
            };
            let fits = walk.fetching.is_empty() || on_its_way + wanted.bytes <= FETCH_BYTES_MAX;
            if walk.fetching.len() >= FETCH_KEYS_MAX || !fits {
                return Ok(());
            }
            if self.pace.must_wait(now) {
                walk.patience.is_paced = walk.fetching.is_empty();
                walk.patience.again = match walk.patience.is_paced {
                    true => self.pace.used_until(),
                    false => walk.patience.again,
                };
                return Ok(());
            }
            let op = OpId { life: self.life, seq: (self.sequence + 1) | TAKING };
            self.sequence += 1;
            walk.patience.wait(now);
            if let Some(wanted) = walk.todo.pop_front() {
                let (layouts, key) = (walk.layouts.clone(), wanted.key.clone());
                let question = Question::Read { digest_only: false, heard: Epoch::default() };
                let ask = KeyMessage::Ask(Ask { op, layouts, key, question });
                around.out.push_back((walk.source, Message::Key(ask)));
                walk.fetching.insert(op.seq, Fetch { wanted, is_told: false });
            }
        }
        match self.walks.get(&unit) {
            Some(walk) if walk.fetching.is_empty() => self.page_is_here(unit, around, env),
            _ => Ok(()),
        }
    }

    /// Everything that a page lists is durable here.
    fn page_is_here(
        &mut self,
        unit: Unit,
        around: &mut Around<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let now = env.mono();
        let Some(walk) = self.walks.get_mut(&unit) else {
            return Ok(());
        };
        if let Some(next) = walk.next.take() {
            let store = walk.unstored >= WALK_STORED_BYTES;
            walk.unstored = if store { 0 } else { walk.unstored };
            walk.place = next.clone();
            around.units.advance((unit, walk.source), next, store, env.engine())?;
            self.ask_page(unit, around, now);
            return Ok(());
        }
        match around.units.walked(unit, walk.source, env.engine()) {
            Ok(is_whole) => {
                sometimes!(env, UnitTaken, is_whole);
                self.taken.units += u64::from(is_whole);
            }
            Err(error) if error.wrote_nothing() => {
                // The last page is asked for again when there may be room.
                walk.asked = Some(0);
                walk.patience.wait(now);
                walk.patience.trouble = Some(Trouble::NotStored);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.walks.remove(&unit);
        self.failed.remove(&unit);
        self.look_at = now;
        Ok(())
    }

    /// A source tells a state, or this node has merged one.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        around: &mut Around<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let found = self.walks.iter_mut().find(|(_, walk)| walk.fetching.contains_key(&op.seq));
        let Some((&unit, walk)) = found else {
            return Ok(());
        };
        let Some(fetch) = walk.fetching.get_mut(&op.seq) else {
            return Ok(());
        };
        let is_expected = from == if fetch.is_told { self.me } else { walk.source };
        if !is_expected {
            return Ok(());
        }
        let answer = if layouts.answers_for(&walk.layouts) { answer } else { Answer::StaleLayout };
        let trouble = match answer {
            Answer::State { state, .. } if !fetch.is_told => {
                let bytes = weight(&state) as u64;
                fetch.is_told = true;
                walk.unstored += bytes;
                let (layouts, key) = (walk.layouts.clone(), fetch.wanted.key.clone());
                let question = Question::Merge { state, epoch: Epoch::TAKEN };
                let ask = Ask { op, layouts, key, question };
                around.out.push_back((self.me, Message::Key(KeyMessage::Ask(ask))));
                walk.patience.wait(env.mono());
                self.taken.bytes += bytes;
                self.pace.charge(bytes, env.mono());
                return Ok(());
            }
            Answer::MergeAck if fetch.is_told => {
                walk.fetching.remove(&op.seq);
                walk.patience.goes_on(env.mono());
                self.taken.keys += 1;
                return self.fill(unit, around, env);
            }
            Answer::Failed if fetch.is_told => Trouble::NotStored,
            Answer::Failed => Trouble::Unreadable,
            Answer::StaleLayout | Answer::NotCounted => Trouble::Refused,
            Answer::State { .. }
            | Answer::MergeAck
            | Answer::Digest { .. }
            | Answer::Query { .. }
            | Answer::Lacks
            | Answer::Outdated { .. }
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. } => return Ok(()),
        };
        // It is asked for again when its time has come.
        walk.patience.trouble = Some(trouble);
        Ok(())
    }
}

/// The digests of what is here between two places. A key whose record cannot be read here is not among them; nor are those behind it,
/// when it is the first.
fn digests(from: &[u8], to: &[u8], env: &mut impl Env) -> Result<BTreeMap<KeyRef, u64>> {
    let bounds = (2 * PAGE_KEYS_MAX, 2 * PAGE_BYTES_MAX);
    match list(from, to, bounds, env.engine()) {
        Ok(part) => Ok(part.keys.into_iter().map(|one| (one.key, one.digest)).collect()),
        Err(Error::Corrupt { .. } | Error::Disk(_)) => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}
