//! A history sorted once, so that every oracle is nearly linear: what they ask of an operation lies side by side, key by key.
//!
//! Building it is one pass over the operations and one over the sightings; after that an oracle goes through one key at a
//! time, in memory that fits a cache. Actors have small numbers here, each key its own (*slots*), so a clock is a
//! short list of (slot, n). Operations that were never invoked have no place in it, because nothing can have seen them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use rondo_core::id::{ActorId, RequestId};
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Dot, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::runs::Run;
use xxhash_rust::xxh3::xxh3_64;

use crate::check::Mixed;
use crate::history::{Answer, Fate, Final, History, Op, Purged, Seen, Sighting, Stamp};
use crate::oracle::fact::{Fact, Kind, Span, Told, expires_from};
use crate::oracle::given_up::GivenUp;
use crate::oracle::meets::Meets;
use crate::rt::Time;
use crate::scenario::Action;

/// No operation, or a value that nobody wrote.
pub(super) const NOBODY: u32 = u32::MAX;

/// How many clock entries an operation usually has, in what it sent and in what it was told.
const CLOCK_ENTRIES: usize = 5;

/// A history, by key.
pub struct Index<'a> {
    /// Which levels meet.
    pub(super) meets: Meets,
    pub(super) history: &'a History,
    pub(super) keys: Vec<OfKey>,
    /// For each sighting, in their order: the operation that wrote it, or `NOBODY`.
    pub(super) writers: Vec<u32>,
    /// For each operation its place among its key's.
    places: Vec<u32>,
    /// The states at the end, by key.
    finals: BTreeMap<u32, Vec<&'a Final>>,
    /// The writes by their requests.
    requests: HashMap<RequestId, u32, BuildHasherDefault<Mixed>>,
    /// The later writes that used a request's id again, in order.
    again: BTreeMap<RequestId, Vec<u32>>,
}

/// What is known of one key. A *place* is the index of an operation's fact.
#[derive(Default)]
pub(super) struct OfKey {
    pub(super) key: u32,
    pub(super) facts: Vec<Fact>,
    /// Every context that was handed out, in order of time.
    pub(super) told: Vec<Told>,
    /// The dots of each slot, in order, with the places of those who wrote them.
    pub(super) dots: Vec<Vec<(u64, u32)>>,
    /// The deletes that were ever seen: HLC, dot and who wrote it; sorted.
    pub(super) deletes: Vec<(Hlc, (u32, u64), u32)>,
    /// Whether stores were watched: then what was never seen was never written.
    pub(super) is_watched: bool,
    /// From when on a value of it may have expired; `None` where all stay.
    expires_from: Option<Time>,
    /// The dots of writes that may be lost with a node; of these it is not known whether they took place.
    pub(super) given_up: Vec<(u32, u64)>,
    actors: Vec<ActorId>,
    /// The actors with their slots, sorted.
    slots: Vec<(ActorId, u32)>,
    clocks: Vec<(u32, Run)>,
    shown: Vec<u32>,
}

impl<'a> Index<'a> {
    /// Sorts a history.
    #[must_use]
    pub fn of(history: &'a History) -> Index<'a> {
        let mut counts = vec![0; history.keys() as usize];
        history.ops.iter().for_each(|op| counts[op.key as usize] += 1);
        let mut keys: Vec<OfKey> = (0..).zip(counts).map(OfKey::with_capacity).collect();
        let apart_ms = history.terms.clocks_apart_ms;
        for op in &history.ops {
            let first = &mut keys[op.key as usize].expires_from;
            *first = [*first, expires_from(op, apart_ms)].into_iter().flatten().min();
        }
        let mut places = vec![NOBODY; history.ops.len()];
        for (id, op) in history.ops.iter().enumerate().filter(|(_, op)| !op.attempts.is_empty()) {
            let of = &mut keys[op.key as usize];
            places[id] = of.facts.len() as u32;
            of.add(id as u32, op, (apart_ms, &history.lives.purged));
        }
        let writes = history.ops.iter().enumerate().filter(|(_, op)| op.writes());
        let mut requests = HashMap::default();
        let mut again: BTreeMap<RequestId, Vec<u32>> = BTreeMap::new();
        requests.reserve(history.ops.len() / 2);
        for (id, op) in writes {
            let first = *requests.entry(op.request).or_insert(id as u32);
            if first != id as u32 {
                again.entry(op.request).or_default().push(id as u32);
            }
        }
        let mut finals: BTreeMap<u32, Vec<&Final>> = BTreeMap::new();
        history.ends.read.iter().for_each(|last| finals.entry(last.key).or_default().push(last));
        let writers = Vec::new();
        let meets = Meets::new(
            history.terms.quorums,
            // Whoever gives a key away may be the only one that holds a write at `one`, until it has handed it over.
            history.lives.has_rotted || history.lives.reshaping.is_some(),
        );
        let mut index = Index { meets, history, keys, writers, places, finals, requests, again };
        index.find_writers();
        let given_up = GivenUp::of(history);
        for of in &mut index.keys {
            of.give_up(&given_up);
            of.is_watched = !history.sightings.is_empty();
            of.finish();
        }
        index
    }

    /// The states of a key that were purged. Whoever finds nothing of it since knows what they said.
    pub(super) fn purged(&self, key: u32) -> impl Iterator<Item = &'a VersionSet> {
        self.history.lives.purged.iter().filter(move |of| of.key == key).map(|of| &of.state)
    }

    /// The states of a key at the end; none when it was not asked for.
    pub(super) fn finals(&self, key: u32) -> &[&'a Final] {
        self.finals.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The place of an operation of this key; `None` for one of another key, or that was never invoked.
    pub(super) fn place(&self, of: &OfKey, id: u32) -> Option<u32> {
        let place = *self.places.get(id as usize)?;
        of.facts.get(place as usize).filter(|fact| fact.id == id).map(|_| place)
    }

    /// The dot of an operation of this key, the highest one it was seen with.
    pub(super) fn dot(&self, key: u32, id: u32) -> Option<Dot> {
        let of = self.keys.get(key as usize)?;
        let (slot, n) = of.facts[self.place(of, id)? as usize].dot?;
        Some(Dot { actor: of.actor(slot), n })
    }

    /// The write that made a version of this key under this request: of several with one id the one that writes just that.
    pub(super) fn writer(
        &self,
        key: u32,
        request: RequestId,
        (tombstone, written): (bool, u64),
    ) -> Option<u32> {
        let first = self.requests.get(&request).copied()?;
        let Some(again) = self.again.get(&request) else {
            return Some(first);
        };
        let is_it = |&&id: &&u32| {
            let op = &self.history.ops[id as usize];
            let deletes = matches!(op.action, Action::Delete { .. });
            op.key == key && deletes == tombstone && (tombstone || digest(op) == written)
        };
        Some(again.iter().find(is_it).copied().unwrap_or(first))
    }

    /// Whether several operations have the request id of this one.
    pub(super) fn shares_its_id(&self, op: &Op) -> bool {
        self.again.contains_key(&op.request)
    }

    /// The places of the writes of this key whose versions a state holds.
    pub(super) fn held<'b>(
        &'b self,
        of: &'b OfKey,
        state: &'b VersionSet,
    ) -> impl Iterator<Item = u32> + 'b {
        let content = |version: &Version| (version.tombstone, version.digest);
        let writers = state
            .versions()
            .filter_map(move |(_, version)| self.writer(of.key, version.request, content(version)));
        writers.filter_map(|id| self.place(of, id))
    }

    /// Who wrote each sighting; an operation's dot is the one that its version was seen with.
    fn find_writers(&mut self) {
        self.writers.reserve(self.history.sightings.len());
        for (&(key, dot), all) in &self.history.sightings {
            for Sighting { request, hlc, tombstone, digest, stamp, .. } in all {
                let id = self.writer(key, *request, (*tombstone, *digest)).unwrap_or(NOBODY);
                self.writers.push(id);
                let Some(of) = self.keys.get_mut(key as usize) else {
                    continue;
                };
                let dot = (of.slot(dot.actor), dot.n);
                if *tombstone && id != NOBODY {
                    of.deletes.push((*hlc, dot, id));
                }
                let place = self.places.get(id as usize).copied().unwrap_or(NOBODY);
                if let Some(fact) = of.facts.get_mut(place as usize).filter(|fact| fact.id == id) {
                    (fact.dot, fact.hlc) = (Some(dot), *hlc);
                    fact.seen = fact.seen.min(*stamp);
                }
            }
        }
    }
}

impl OfKey {
    fn with_capacity((key, ops): (u32, usize)) -> OfKey {
        OfKey {
            key,
            facts: Vec::with_capacity(ops),
            told: Vec::with_capacity(ops),
            clocks: Vec::with_capacity(CLOCK_ENTRIES * ops),
            shown: Vec::with_capacity(ops),
            ..OfKey::default()
        }
    }

    fn add(&mut self, id: u32, op: &Op, (clocks_apart_ms, purged): (Option<u64>, &[Purged])) {
        let place = self.facts.len() as u32;
        let mut has_answer = false;
        for (at, attempt) in op.attempts.iter().enumerate() {
            let Some(end) = attempt.end.as_ref().filter(|_| attempt.is_of_the_request()) else {
                continue;
            };
            let (context, values, reads) = match &end.answer {
                Answer::Stored { context, .. } => (context, &[][..], false),
                Answer::Found { values, context } => (context, values.as_slice(), true),
                Answer::NotFound { context, values } => (context, values.as_slice(), true),
                Answer::Indeterminate
                | Answer::Refused(_)
                | Answer::BadRequest(_)
                | Answer::Unreached => continue,
            };
            let is_read = reads && !has_answer;
            has_answer |= reads;
            // Of several attempts the last one was answered, and it began last.
            let later = op.attempts[at..].iter().rfind(|other| other.called < end.stamp);
            let began = later.map_or(attempt.called, |other| other.called);
            let purged = purged.iter().filter(|of| of.key == op.key && of.stamp < end.stamp);
            let known = knows(context, purged.filter(|_| reads).map(|of| &of.state));
            let told = self.told(end.stamp, place, &known, values);
            let is_found = matches!(end.answer, Answer::Found { .. });
            let may_be_expired = !is_found && self.expires_from.is_some_and(|from| end.at >= from);
            let time = end.at;
            self.told.push(Told { time, began, is_read, may_be_expired, is_found, ..told });
        }
        let kind = match op.action {
            Action::Get => Kind::Get,
            Action::Delete { .. } => Kind::Delete,
            Action::Put { .. } => Kind::Put,
        };
        let fate = match op.read().filter(|_| kind == Kind::Get) {
            Some((at, ..)) => Fate::Acked(at),
            None => op.fate(),
        };
        let sent = op.sent.as_ref().map(|context| self.keep(&context.clock));
        let (called, level) = (op.called(), op.level);
        let held = Some(level).filter(|_| op.fallback().is_none());
        let (dot, seen, hlc, read) = (None, Stamp::NEVER, Hlc(0), NOBODY);
        let expires = expires_from(op, clocks_apart_ms);
        self.facts.push(Fact {
            id,
            kind,
            level,
            held,
            called,
            fate,
            dot,
            seen,
            hlc,
            sent,
            expires,
            read,
        });
    }

    /// What was lost with a node as it may be is a write whose outcome nobody knows.
    fn give_up(&mut self, given_up: &GivenUp<'_>) {
        for fact in &mut self.facts {
            let Some((slot, n)) = fact.dot else {
                continue;
            };
            let dot = Dot { actor: self.actors[slot as usize], n };
            if given_up.has(self.key, dot, fact.level) {
                fact.fate = Fate::Unknown;
                self.given_up.push((slot, n));
            }
        }
    }

    fn told(&mut self, at: Stamp, place: u32, context: &Context, values: &[Seen]) -> Told {
        let clock = self.keep(&context.clock);
        let shown = Span { from: self.shown.len() as u32, len: values.len() as u32 };
        let op = |seen: &Seen| seen.op.map_or(NOBODY, |id| id as u32);
        self.shown.extend(values.iter().map(op));
        let highest = context.highest;
        let (time, is_read, may_be_expired, is_found) = (Time(0), false, false, false);
        Told {
            at,
            time,
            began: at,
            place,
            clock,
            highest,
            shown,
            is_read,
            may_be_expired,
            is_found,
        }
    }

    fn keep(&mut self, clock: &VersionVector) -> Span {
        let from = self.clocks.len() as u32;
        for (actor, runs) in clock.entries() {
            let slot = self.slot(*actor);
            self.clocks.extend(runs.list().iter().map(|&run| (slot, run)));
        }
        Span { from, len: self.clocks.len() as u32 - from }
    }

    fn slot(&mut self, actor: ActorId) -> u32 {
        match self.slots.binary_search_by_key(&actor, |&(known, _)| known) {
            Ok(at) => self.slots[at].1,
            Err(at) => {
                let slot = self.actors.len() as u32;
                self.actors.push(actor);
                self.slots.insert(at, (actor, slot));
                slot
            }
        }
    }

    fn finish(&mut self) {
        self.told.sort_by_key(|told| told.at);
        for (at, told) in (0..).zip(&self.told) {
            if told.is_read && !told.may_be_expired {
                self.facts[told.place as usize].read = at;
            }
        }
        self.dots = vec![Vec::new(); self.actors.len()];
        for (place, fact) in (0..).zip(&self.facts) {
            if let (Some((slot, n)), true) = (fact.dot, fact.happened()) {
                self.dots[slot as usize].push((n, place));
            }
        }
        self.dots.iter_mut().for_each(|dots| dots.sort_unstable());
        self.deletes.sort_unstable();
    }

    /// How many actors ever wrote it, as far as anybody saw.
    pub(super) fn actors(&self) -> usize {
        self.actors.len()
    }

    /// The actor of a slot.
    pub(super) fn actor(&self, slot: u32) -> ActorId {
        self.actors[slot as usize]
    }

    /// The runs of a clock.
    pub(super) fn clock(&self, span: Span) -> &[(u32, Run)] {
        &self.clocks[span.from as usize..][..span.len as usize]
    }

    /// The operation whose value is a read's answer; `None` when it answered that there is none.
    pub(super) fn answer(&self, told: &Told) -> Option<u32> {
        self.shown(told).first().copied().filter(|_| told.is_found)
    }

    /// The operations whose values were shown, the newest first; `NOBODY` for a value that nobody wrote.
    pub(super) fn shown(&self, told: &Told) -> &[u32] {
        &self.shown[told.shown.from as usize..][..told.shown.len as usize]
    }

    /// Whether a clock covers a dot.
    pub(super) fn covers(&self, clock: Span, (slot, n): (u32, u64)) -> bool {
        self.clock(clock).iter().any(|&(of, run)| of == slot && (run.from..=run.to).contains(&n))
    }

    /// The answers of reads at `quorum` and `all`, with the reads.
    pub(super) fn strict_reads(&self) -> impl Iterator<Item = (&Fact, &Told)> {
        let strict = self.facts.iter().filter(|fact| fact.level != Level::One);
        strict.filter_map(|fact| Some((fact, self.told.get(fact.read as usize)?)))
    }

    /// Whether all that was ever written was written at `quorum` or `all`.
    pub(super) fn is_strict(&self) -> bool {
        self.facts.iter().all(|fact| fact.kind == Kind::Get || fact.level != Level::One)
    }
}

/// What a reader knows by what it was told, and by what it was not told any more.
fn knows<'a>(context: &Context, purged: impl Iterator<Item = &'a VersionSet>) -> Context {
    let mut known = context.clone();
    for state in purged {
        known.clock.join(&state.clock());
        // It found nothing, and so the last delete.
        if context.highest == Hlc(0) {
            known.highest = known.highest.max(state.highest_hlc());
        }
    }
    known
}

/// The digest of the version that it wrote, without making one.
pub(super) fn digest(op: &Op) -> u64 {
    xxh3_64(&op.value) ^ xxh3_64(&[]).rotate_left(1)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn facts_answers_and_dots_are_found_by_key() {
        let mut made = Made::default();
        let other = made.put(0, 1, Some(2)).dot(7, 1).id();
        let put = made.put(1, 3, Some(4)).sent(clock(9, 2)).dot(7, 5).id();
        let read = made.get(1, 5, 6, &[put]).knows(clock(7, 5)).id();
        let history = made.history();
        let index = Index::of(&history);
        let of = &index.keys[1];
        assert_eq!((index.place(of, put as u32), index.place(of, other as u32)), (Some(0), None));
        let fact = &of.facts[0];
        let (slot, n) = fact.dot.expect("it was seen");
        assert_eq!((of.actor(slot), n, fact.acked()), (ActorId(7), 5, Stamp(4)));
        let sent = of.clock(fact.sent.expect("it sent one"));
        assert_eq!((of.actor(sent[0].0), sent[0].1), (ActorId(9), Run { from: 1, to: 2 }));
        let (of_read, told) = of.strict_reads().next().expect("a read");
        assert_eq!((of_read.id as usize, told.began, told.at), (read, Stamp(5), Stamp(6)));
        assert_eq!((of.shown(told), of.covers(told.clock, (slot, 5))), (&[put as u32][..], true));
        assert_eq!(index.writers, [other as u32, put as u32]);
    }
}
