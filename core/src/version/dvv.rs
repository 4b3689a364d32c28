//! Which versions of a key are there, and which did each writer know?
//!
//! The state of a key maps an actor to (K, L): K the numbers of its dots that are known here, L the versions of those
//! that are still there. A dot that is known and has no version is gone: somebody overwrote it. This is the
//! dotted version vector set of Almeida, Baquero, Gonçalves, Preguiça, Fonte, "Scalable and Accurate Causality
//! Tracking for Eventually Consistent Stores" (DAIS 2014), with K as runs where theirs is a counter, which
//! makes it the "dot store with causal context" of Almeida, Shoker, Baquero, "Delta state replicated data
//! types" (JPDC 2018). A counter cannot say "the second is gone, the first is not known here".
//!
//! Laws (tested in `tests/dvv.rs`, exhaustively on small cases):
//! - `merge` is commutative, associative and idempotent, and forgets nothing: not what is known, not what is gone.
//! - A version is in `merge(s, t)` iff it is in one of them and the other has not discarded it.
//! - After `put(ctx, v)` the versions are v and all that `ctx` does not cover.
//! - A version's dot never changes.
//! - Where a version is, everything that its writer's context covered is known. So replicas send each other whole states: a part of
//!   one, such as the versions of one actor, can hold a write without what that write did (`docs/decisions/0007-whole-states.md`).
//!
//! Only the actor's owner may call `event`; everybody else merges. Left out: pruning by size, which
//! creates siblings for ever (<https://github.com/basho/riak_core/issues/613>).

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{BODY_BYTES_MAX, DOT_MAX, REPLICAS_MAX, RUNS_MAX, SIBLINGS_MAX};
use crate::hash::Gathered;
use crate::id::{ActorId, RequestId};
use crate::version::hlc::Hlc;
use crate::version::runs::{Run, Runs};

/// The name of one write of one key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dot {
    /// Who issued it.
    pub actor: ActorId,
    /// Its number among the dots that this actor issued for the key, from 1.
    pub n: u64,
}

/// One write of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// When: orders it among concurrent versions, never against versions that knew of it.
    pub hlc: Hlc,
    /// The version it stands directly behind, for a conditional write; `None` for a plain one, which stands where its own HLC and
    /// actor say. Then `hlc` is that version's.
    pub behind: Option<Behind>,
    /// The request that wrote it.
    pub request: RequestId,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// From when on it counts as deleted; `None` for a version that stays.
    pub expires: Option<Hlc>,
    /// The value's media type; empty when none was given.
    pub content_type: Bytes,
    /// The value; empty in a tombstone.
    pub value: Bytes,
    /// Hash of content type and value, computed once by `Version::new`.
    pub digest: u64,
}

/// Where a conditional write stands: nothing fits between it and the version that it was made for, and a plain write that knew
/// neither stands before or behind both. (The carstamps of Burke, Cheng, Lloyd, "Gryff", NSDI 2020.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// The actor in the stamp of the version that it was made for.
    pub actor: ActorId,
    /// One more than the step of that version, so at least 1.
    pub step: u32,
}

/// A version's place among concurrent ones, and its name for people: the greatest is the newest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp {
    /// When it was written, or the version that it stands behind.
    pub hlc: Hlc,
    /// Who wrote that.
    pub actor: ActorId,
    /// How many conditional writes stand between that and this one, itself included; 0 for a plain write.
    pub step: u32,
}

/// As its entity tag: numbers that many clients could not hold are text.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.hlc.0, self.actor)?;
        if self.step > 0 { write!(f, "-{}", self.step) } else { Ok(()) }
    }
}

impl Version {
    /// Its place among concurrent versions, when `writer` is the actor of its dot.
    #[must_use]
    pub fn stamp(&self, writer: ActorId) -> Stamp {
        let Behind { actor, step } = self.behind.unwrap_or(Behind { actor: writer, step: 0 });
        Stamp { hlc: self.hlc, actor, step }
    }

    /// Whether it is a value, and has not expired at this time.
    #[must_use]
    pub fn is_there_at(&self, at: Hlc) -> bool {
        !self.tombstone && self.expires.is_none_or(|expires| at < expires)
    }

    /// A version that stores a value.
    #[must_use]
    pub fn value(hlc: Hlc, request: RequestId, content_type: Bytes, value: Bytes) -> Version {
        let digest = xxh3_64(&value) ^ xxh3_64(&content_type).rotate_left(1);
        Version {
            hlc,
            behind: None,
            request,
            tombstone: false,
            expires: None,
            content_type,
            value,
            digest,
        }
    }

    /// A version that deletes.
    #[must_use]
    pub const fn tombstone(hlc: Hlc, request: RequestId) -> Version {
        Version {
            hlc,
            behind: None,
            request,
            tombstone: true,
            expires: None,
            content_type: Bytes::new(),
            value: Bytes::new(),
            digest: 0,
        }
    }
}

impl Version {
    /// Bit 0: it deletes. Bit 1: it expires. Bit 2: it stands behind another one.
    const DELETES: u8 = 1;
    const EXPIRES: u8 = 1 << 1;
    const BEHIND: u8 = 1 << 2;

    /// Which of its parts are there, as a byte: in records, in messages and in digests. Later versions may use the other bits.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        let deletes = if self.tombstone { Version::DELETES } else { 0 };
        let expires = if self.expires.is_some() { Version::EXPIRES } else { 0 };
        let behind = if self.behind.is_some() { Version::BEHIND } else { 0 };
        deletes | expires | behind
    }

    /// What the flags say: whether it deletes, expires, and stands behind another one. `None` for bits that mean nothing yet.
    #[must_use]
    pub const fn read_flags(flags: u8) -> Option<(bool, bool, bool)> {
        if flags & !(Version::DELETES | Version::EXPIRES | Version::BEHIND) != 0 {
            return None;
        }
        Some((
            flags & Version::DELETES != 0,
            flags & Version::EXPIRES != 0,
            flags & Version::BEHIND != 0,
        ))
    }
}

/// What one actor wrote: (K, L).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The actor.
    pub actor: ActorId,
    /// The numbers of its dots that are known here.
    pub known: Runs,
    /// The versions that are there, with their numbers, newest first; all of them are known.
    pub versions: Vec<(u64, Version)>,
}

impl Entry {
    /// Whether the version of number `n` is there.
    #[must_use]
    pub fn holds(&self, n: u64) -> bool {
        self.versions.binary_search_by(|(held, _)| n.cmp(held)).is_ok()
    }

    /// Whether the version of number `n` is known and gone.
    #[must_use]
    pub fn gone(&self, n: u64) -> bool {
        self.known.has(n) && !self.holds(n)
    }

    /// The numbers up to `n` that are known and gone.
    fn gone_up_to(&self, n: u64) -> Runs {
        let mut gone = Runs::default();
        for run in self.known.list() {
            let mut from = run.from;
            for &(held, _) in self.versions.iter().rev() {
                if (from..=run.to).contains(&held) {
                    gone.add(Run { from, to: (held - 1).min(n) });
                    from = held + 1;
                }
            }
            gone.add(Run { from, to: run.to.min(n) });
        }
        gone
    }

    /// Whether anything changed. What is here already is neither copied nor moved.
    fn merge(&mut self, other: &Entry) -> bool {
        let here = self.versions.len();
        self.versions.retain(|(n, _)| !other.gone(*n));
        let dropped = self.versions.len() < here;
        let kept = self.versions.len();
        let news = other.versions.iter().filter(|(n, _)| !self.known.has(*n));
        self.versions.extend(news.cloned());
        if self.versions.len() > kept {
            self.versions.sort_by(|(one, _), (other, _)| other.cmp(one));
        }
        self.known.join(&other.known) || dropped
    }

    fn is_sound(&self) -> bool {
        let newest_first = self.versions.windows(2).all(|pair| pair[0].0 > pair[1].0);
        newest_first
            && !self.known.is_empty()
            && self.known.highest() <= DOT_MAX
            && self.versions.iter().all(|(n, _)| self.known.has(*n))
    }
}

/// A set of dots: what somebody knows. Nearly always a version vector. Sorted by actor, without empty entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionVector {
    entries: Vec<(ActorId, Runs)>,
}

impl VersionVector {
    /// The clock that knows the first n dots of each of these actors; the highest counts where one is there twice.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (ActorId, u64)>) -> VersionVector {
        let mut clock = VersionVector::default();
        for (actor, n) in entries {
            clock.raise(actor, n);
        }
        clock
    }

    /// A clock from outside; `None` unless it is sorted by actor, counts from 1 to `DOT_MAX` and has at most `RUNS_MAX` runs.
    #[must_use]
    pub fn from_entries(entries: Vec<(ActorId, Runs)>) -> Option<VersionVector> {
        let sorted = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let sound = entries.iter().all(|(_, k)| (1..=DOT_MAX).contains(&k.highest()));
        let clock = VersionVector { entries };
        (sorted && sound && clock.runs() <= RUNS_MAX).then_some(clock)
    }

    /// The entries, sorted by actor.
    #[must_use]
    pub fn entries(&self) -> &[(ActorId, Runs)] {
        &self.entries
    }

    /// How many runs it is made of: its size. At least one for each actor.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.entries.iter().map(|(_, runs)| runs.list().len()).sum()
    }

    /// The highest number known of `actor`'s dots; 0 when none is.
    #[must_use]
    pub fn highest(&self, actor: ActorId) -> u64 {
        self.position(actor).map_or(0, |at| self.entries[at].1.highest())
    }

    /// What is known of `actor`'s dots; `None` when none is.
    #[must_use]
    pub fn of(&self, actor: ActorId) -> Option<&Runs> {
        self.position(actor).ok().map(|at| &self.entries[at].1)
    }

    /// Learns the first `n` dots of `actor`.
    pub fn raise(&mut self, actor: ActorId, n: u64) {
        self.learn(actor, &Runs::up_to(n));
    }

    /// Learns one dot.
    pub fn add(&mut self, dot: Dot) {
        let mut runs = Runs::default();
        runs.add(Run { from: dot.n, to: dot.n });
        self.learn(dot.actor, &runs);
    }

    /// What is known here and one more dot, unless that makes more runs than a token holds.
    #[must_use]
    pub fn with_own(&self, dot: Dot) -> VersionVector {
        let mut more = self.clone();
        more.add(dot);
        if more.runs() <= RUNS_MAX { more } else { self.clone() }
    }

    /// Learns these dots of `actor`.
    pub fn learn(&mut self, actor: ActorId, runs: &Runs) {
        match self.position(actor) {
            Ok(at) => {
                self.entries[at].1.join(runs);
            }
            Err(at) if !runs.is_empty() => self.entries.insert(at, (actor, runs.clone())),
            Err(_) => {}
        }
    }

    /// Learns everything `other` knows.
    pub fn join(&mut self, other: &VersionVector) {
        for (actor, runs) in &other.entries {
            self.learn(*actor, runs);
        }
    }

    /// Whether the dot is known.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.position(dot.actor).is_ok_and(|at| self.entries[at].1.has(dot.n))
    }

    /// Whether everything in `other` is known here.
    #[must_use]
    pub fn dominates(&self, other: &VersionVector) -> bool {
        let knows = |(actor, runs): &(ActorId, Runs)| {
            self.position(*actor).is_ok_and(|at| self.entries[at].1.has_all(runs))
        };
        other.entries.iter().all(knows)
    }

    fn position(&self, actor: ActorId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |e| e.0)
    }
}

/// The state of one key. Sorted by actor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionSet {
    entries: SmallVec<[Entry; 1]>,
}

impl VersionSet {
    /// A set of these entries, from outside; `None` unless they are sorted by actor, count from 1 to `DOT_MAX`, know what
    /// they hold, and have at most `RUNS_MAX` runs and `SIBLINGS_MAX` versions of each of `REPLICAS_MAX` coordinators together.
    #[must_use]
    pub fn from_entries(entries: SmallVec<[Entry; 1]>) -> Option<VersionSet> {
        let sorted = entries.windows(2).all(|pair| pair[0].actor < pair[1].actor);
        let sound = entries.iter().all(Entry::is_sound);
        let set = VersionSet { entries };
        (sorted && sound && set.fits()).then_some(set)
    }

    /// Whether it can be stored and sent: what is read back is held to the same bounds. Whatever each coordinator of a key
    /// accepted by its own bounds fits together.
    #[must_use]
    pub fn fits(&self) -> bool {
        let bytes: usize = self.versions().map(|(_, version)| version.value.len()).sum();
        self.runs() <= RUNS_MAX
            && self.versions().count() <= SIBLINGS_MAX * REPLICAS_MAX
            && bytes <= BODY_BYTES_MAX
    }

    /// What each actor wrote, sorted by actor.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of one actor.
    #[must_use]
    pub fn entry(&self, actor: ActorId) -> Option<&Entry> {
        self.position(actor).ok().map(|at| &self.entries[at])
    }

    /// Everything known: what a reader may say it has seen.
    #[must_use]
    pub fn clock(&self) -> VersionVector {
        VersionVector { entries: self.entries.iter().map(|e| (e.actor, e.known.clone())).collect() }
    }

    /// How many runs its clock is made of.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.entries.iter().map(|e| e.known.list().len()).sum()
    }

    /// The highest number known of `actor`'s dots; 0 when none is.
    #[must_use]
    pub fn highest(&self, actor: ActorId) -> u64 {
        self.entry(actor).map_or(0, |entry| entry.known.highest())
    }

    /// All versions with their dots, by actor, newest first.
    pub fn versions(&self) -> impl Iterator<Item = (Dot, &Version)> {
        self.entries.iter().flat_map(|e| {
            e.versions.iter().map(|(n, version)| (Dot { actor: e.actor, n: *n }, version))
        })
    }

    /// The version everybody agrees on: the one with the greatest stamp. Only the winner is asked whether it
    /// is a tombstone.
    #[must_use]
    pub fn winner(&self) -> Option<(Dot, &Version)> {
        self.versions().max_by_key(|(dot, version)| (version.stamp(dot.actor), dot.n))
    }

    /// The highest HLC of any version held; `Hlc(0)` when there is none.
    #[must_use]
    pub fn highest_hlc(&self) -> Hlc {
        self.versions().map(|(_, version)| version.hlc).max().unwrap_or_default()
    }

    /// Since when nothing is left of it but deletions and what has expired; `None` when something stays, or nothing was ever written.
    #[must_use]
    pub fn dead_since(&self) -> Option<Hlc> {
        let dead = |version: &Version| match (version.tombstone, version.expires) {
            (true, _) => Some(version.hlc),
            (false, expires) => expires.map(|expires| expires.max(version.hlc)),
        };
        let since: Option<Vec<Hlc>> = self.versions().map(|(_, version)| dead(version)).collect();
        since.and_then(|since| since.into_iter().max())
    }

    /// The actors of which no version is there, without these.
    pub fn without_versions<'a>(
        &'a self,
        but: &'a BTreeSet<ActorId>,
    ) -> impl Iterator<Item = ActorId> + 'a {
        let is_gone = |entry: &&Entry| entry.versions.is_empty() && !but.contains(&entry.actor);
        self.entries.iter().filter(is_gone).map(|entry| entry.actor)
    }

    /// Forgets what is known of these actors, where no version of them is there. For a state that all owners of its key have.
    pub fn forget(&mut self, actors: &[ActorId]) {
        self.entries.retain(|entry| !entry.versions.is_empty() || !actors.contains(&entry.actor));
    }

    /// Learns everything `other` knows. Whether anything was new here.
    pub fn merge(&mut self, other: &VersionSet) -> bool {
        let mut changed = false;
        for theirs in &other.entries {
            match self.position(theirs.actor) {
                Ok(at) => changed |= self.entries[at].merge(theirs),
                Err(at) => {
                    self.entries.insert(at, theirs.clone());
                    changed = true;
                }
            }
        }
        changed
    }

    /// Drops the versions that `context` covers. Its dots are learnt even when they are new here, so
    /// that a version which arrives later is known to be gone.
    pub fn discard(&mut self, context: &VersionVector) {
        for (actor, known) in context.entries() {
            let gone = Entry { actor: *actor, known: known.clone(), versions: Vec::new() };
            match self.position(*actor) {
                Ok(at) => {
                    self.entries[at].merge(&gone);
                }
                Err(at) => self.entries.insert(at, gone),
            }
        }
    }

    /// Issues the next dot of `actor` for `version`: above everything known of the actor, and above `base`. Only the actor's
    /// owner may do this.
    pub fn event(&mut self, actor: ActorId, base: u64, version: Version) -> Dot {
        let at = match self.position(actor) {
            Ok(at) => at,
            Err(at) => {
                let (known, versions) = (Runs::default(), Vec::new());
                self.entries.insert(at, Entry { actor, known, versions });
                at
            }
        };
        let entry = &mut self.entries[at];
        let n = entry.known.highest().max(base) + 1;
        entry.known.add(Run { from: n, to: n });
        entry.versions.reserve_exact(1);
        entry.versions.insert(0, (n, version));
        Dot { actor, n }
    }

    /// Overwrites what `context` covers with `version`: `discard`, then `event`. The other order would
    /// discard the new version whenever the context knows the dot.
    pub fn put(&mut self, context: &VersionVector, actor: ActorId, version: Version) -> Dot {
        self.discard(context);
        self.event(actor, 0, version)
    }

    /// What the writer of `dot` knows after its write here: what it had seen when it wrote, its own dot, and what is gone of
    /// the same actor, which others have overwritten. Never a version that is still there and that it was not told of. The
    /// gone ones make one run of many, so that a client which overwrites its own writes for ever has a short token.
    #[must_use]
    pub fn known_to_writer(&self, seen: &VersionVector, dot: Dot) -> VersionVector {
        let mut knows = seen.clone();
        knows.add(dot);
        if let Some(entry) = self.entry(dot.actor) {
            knows.learn(dot.actor, &entry.gone_up_to(dot.n));
        }
        if knows.runs() <= RUNS_MAX {
            return knows;
        }
        // So many gaps do not fit. To know less makes a sibling at worst; to know more would destroy one.
        seen.with_own(dot)
    }

    /// A hash of the logical state: what is known and what is there, independent of how it is stored
    /// and of the current time. Equal states have equal digests.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut bytes = Gathered::new();
        for entry in &self.entries {
            bytes.push(entry.actor.0.to_le_bytes());
            bytes.push((entry.known.list().len() as u64).to_le_bytes());
            for run in entry.known.list() {
                bytes.push(run.from.to_le_bytes());
                bytes.push(run.to.to_le_bytes());
            }
            bytes.push((entry.versions.len() as u64).to_le_bytes());
            for (n, version) in &entry.versions {
                bytes.push(n.to_le_bytes());
                bytes.push(version.hlc.0.to_le_bytes());
                bytes.push(version.request.0.to_le_bytes());
                bytes.push([version.flags()]);
                if let Some(Behind { actor, step }) = version.behind {
                    bytes.push(actor.0.to_le_bytes());
                    bytes.push(step.to_le_bytes());
                }
                if let Some(expires) = version.expires {
                    bytes.push(expires.0.to_le_bytes());
                }
                bytes.push(version.digest.to_le_bytes());
            }
        }
        xxh3_64(bytes.bytes())
    }

    fn position(&self, actor: ActorId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |e| e.actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_from_outside_that_could_overflow_is_refused() {
        let entry = |n| {
            let known = Runs::up_to(n);
            Entry { actor: ActorId(1), known, versions: Vec::new() }
        };
        assert!(VersionSet::from_entries([entry(DOT_MAX)].into_iter().collect()).is_some());
        for n in [0, DOT_MAX + 1, u64::MAX] {
            assert!(VersionSet::from_entries([entry(n)].into_iter().collect()).is_none(), "{n}");
        }
    }
}
