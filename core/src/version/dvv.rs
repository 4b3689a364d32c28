//! Dotted version vector sets: which versions of a key are there, and which did each writer know?
//!
//! After Almeida, Baquero, Gonçalves, Preguiça, Fonte, "Scalable and Accurate Causality Tracking for
//! Eventually Consistent Stores" (DAIS 2014). The state of a key maps an actor to (n, L): n dots were issued, and
//! L holds the versions of the newest |L| of them, newest first. The *discard floor* d = n - |L| says that
//! the versions of dots 1..=d are known and gone. A missing actor is (0, []).
//!
//! Laws (tested in `tests/dvv.rs`, exhaustively on small cases):
//! - `merge` is commutative, associative and idempotent, and never lowers an n or a d.
//! - A version is in `merge(s, t)` iff it is in one of them and the other has not discarded it.
//! - After `put(ctx, v)` the versions are v and all that `ctx` does not cover.
//! - A version's dot never changes: (actor, n - index).
//!
//! Only the actor's owner may call `event`; everybody else merges. Left out: pruning by size, which
//! creates siblings for ever (<https://github.com/basho/riak_core/issues/613>).

use bytes::Bytes;
use smallvec::SmallVec;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::config::DOT_MAX;
use crate::id::{ActorId, RequestId};
use crate::version::hlc::Hlc;

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
    /// The request that wrote it.
    pub request: RequestId,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// The value's media type; empty when none was given.
    pub content_type: Bytes,
    /// The value; empty in a tombstone.
    pub value: Bytes,
    /// Hash of content type and value, computed once by `Version::new`.
    pub digest: u64,
}

impl Version {
    /// A version that stores a value.
    #[must_use]
    pub fn value(hlc: Hlc, request: RequestId, content_type: Bytes, value: Bytes) -> Version {
        let digest = xxh3_64(&value) ^ xxh3_64(&content_type).rotate_left(1);
        Version { hlc, request, tombstone: false, content_type, value, digest }
    }

    /// A version that deletes.
    #[must_use]
    pub const fn tombstone(hlc: Hlc, request: RequestId) -> Version {
        Version {
            hlc,
            request,
            tombstone: true,
            content_type: Bytes::new(),
            value: Bytes::new(),
            digest: 0,
        }
    }
}

/// What one actor wrote: (n, L).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The actor.
    pub actor: ActorId,
    /// How many dots it issued, as far as is known here.
    pub n: u64,
    /// The versions of its newest dots, newest first; at most n.
    pub versions: SmallVec<[Version; 1]>,
}

impl Entry {
    /// The dots 1..=floor are known and their versions gone.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.n - self.versions.len() as u64
    }

    /// Whether anything changed. What is here already is neither copied nor moved.
    fn merge(&mut self, other: &Entry) -> bool {
        let gone = self.floor().max(other.floor());
        let before = (self.n, self.versions.len());
        if self.n >= other.n {
            self.versions.truncate(self.n.saturating_sub(gone) as usize);
        } else {
            let keep = other.n.saturating_sub(gone) as usize;
            self.versions = other.versions[..keep].into();
            self.n = other.n;
        }
        before != (self.n, self.versions.len())
    }
}

/// A version vector: for each actor, how many of its dots are known. Sorted by actor, no zeroes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    entries: Vec<(ActorId, u64)>,
}

impl Clock {
    /// A clock of these entries, in any order; the highest counts where an actor is there twice.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (ActorId, u64)>) -> Clock {
        let mut clock = Clock::default();
        for (actor, n) in entries {
            clock.raise(actor, n);
        }
        clock
    }

    /// The entries, sorted by actor.
    #[must_use]
    pub fn entries(&self) -> &[(ActorId, u64)] {
        &self.entries
    }

    /// How many dots of `actor` are known.
    #[must_use]
    pub fn get(&self, actor: ActorId) -> u64 {
        self.entries.binary_search_by_key(&actor, |e| e.0).map_or(0, |at| self.entries[at].1)
    }

    /// Learns that `actor` issued at least `n` dots.
    pub fn raise(&mut self, actor: ActorId, n: u64) {
        match self.entries.binary_search_by_key(&actor, |e| e.0) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(n),
            Err(at) if n > 0 => self.entries.insert(at, (actor, n)),
            Err(_) => {}
        }
    }

    /// Learns everything `other` knows.
    pub fn join(&mut self, other: &Clock) {
        for &(actor, n) in &other.entries {
            self.raise(actor, n);
        }
    }

    /// Whether the dot is known.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.n
    }

    /// Whether everything in `other` is known here.
    #[must_use]
    pub fn dominates(&self, other: &Clock) -> bool {
        other.entries.iter().all(|&(actor, n)| self.get(actor) >= n)
    }
}

/// The state of one key: a dotted version vector set. Sorted by actor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionSet {
    entries: SmallVec<[Entry; 1]>,
}

impl VersionSet {
    /// A set of these entries, from outside; `None` unless they are sorted by actor, each with n from 1
    /// to `DOT_MAX` and at most n versions.
    #[must_use]
    pub fn from_entries(entries: SmallVec<[Entry; 1]>) -> Option<VersionSet> {
        let sorted = entries.windows(2).all(|pair| pair[0].actor < pair[1].actor);
        let counts = |e: &Entry| (1..=DOT_MAX).contains(&e.n) && e.versions.len() as u64 <= e.n;
        let sound = entries.iter().all(counts);
        (sorted && sound).then_some(VersionSet { entries })
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
    pub fn clock(&self) -> Clock {
        Clock { entries: self.entries.iter().map(|e| (e.actor, e.n)).collect() }
    }

    /// All versions with their dots, by actor, newest first.
    pub fn versions(&self) -> impl Iterator<Item = (Dot, &Version)> {
        self.entries.iter().flat_map(|e| {
            let dot = |at: usize| Dot { actor: e.actor, n: e.n - at as u64 };
            e.versions.iter().enumerate().map(move |(at, version)| (dot(at), version))
        })
    }

    /// The version everybody agrees on: the greatest (HLC, actor). Only the winner is asked whether it
    /// is a tombstone.
    #[must_use]
    pub fn winner(&self) -> Option<(Dot, &Version)> {
        self.versions().max_by_key(|(dot, version)| (version.hlc, dot.actor, dot.n))
    }

    /// The highest HLC of any version held; `Hlc(0)` when there is none.
    #[must_use]
    pub fn highest_hlc(&self) -> Hlc {
        self.versions().map(|(_, version)| version.hlc).max().unwrap_or_default()
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

    /// Drops the versions that `context` covers. Its actors are learnt even when they are new here, so
    /// that a version which arrives later is known to be gone.
    pub fn discard(&mut self, context: &Clock) {
        for &(actor, n) in context.entries() {
            let gone = Entry { actor, n, versions: SmallVec::new() };
            match self.position(actor) {
                Ok(at) => {
                    self.entries[at].merge(&gone);
                }
                Err(at) => self.entries.insert(at, gone),
            }
        }
    }

    /// Issues the next dot of `actor` for `version`. Only the actor's owner may do this.
    pub fn event(&mut self, actor: ActorId, version: Version) -> Dot {
        let at = match self.position(actor) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, Entry { actor, n: 0, versions: SmallVec::new() });
                at
            }
        };
        let entry = &mut self.entries[at];
        entry.n += 1;
        entry.versions.insert(0, version);
        Dot { actor, n: entry.n }
    }

    /// Overwrites what `context` covers with `version`: `discard`, then `event`. The other order would
    /// discard the new version whenever the context knows the dot.
    pub fn put(&mut self, context: &Clock, actor: ActorId, version: Version) -> Dot {
        self.discard(context);
        self.event(actor, version)
    }

    /// What a replica needs to know of a put: everything in `context` as (c, []), and the whole entry of
    /// the issuing actor. Sending only the new dot would delete its acknowledged siblings there.
    #[must_use]
    pub fn delta(&self, context: &Clock, actor: ActorId) -> VersionSet {
        let mut delta = VersionSet::default();
        delta.discard(context);
        if let Some(own) = self.entry(actor) {
            match delta.position(actor) {
                Ok(at) => delta.entries[at] = own.clone(),
                Err(at) => delta.entries.insert(at, own.clone()),
            }
        }
        delta
    }

    /// A hash of the logical state: what is known and what is there, independent of how it is stored
    /// and of the current time. Equal states have equal digests.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        for entry in &self.entries {
            hash.update(&entry.actor.0.to_le_bytes());
            hash.update(&entry.n.to_le_bytes());
            hash.update(&(entry.versions.len() as u64).to_le_bytes());
            for version in &entry.versions {
                hash.update(&version.hlc.0.to_le_bytes());
                hash.update(&version.request.0.to_le_bytes());
                hash.update(&[u8::from(version.tombstone)]);
                hash.update(&version.digest.to_le_bytes());
            }
        }
        hash.digest()
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
        let entry = |n| Entry { actor: ActorId(1), n, versions: SmallVec::new() };
        assert!(VersionSet::from_entries([entry(DOT_MAX)].into_iter().collect()).is_some());
        for n in [0, DOT_MAX + 1, u64::MAX] {
            assert!(VersionSet::from_entries([entry(n)].into_iter().collect()).is_none(), "{n}");
        }
    }
}
