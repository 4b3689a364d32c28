//! What happened in a run, as far as clients and those who watch the stores could see it: the oracles' only input.
//!
//! Everything carries a `Stamp`, its place in the run's single order of events, so no clock plays a part. A
//! write's value names its operation, so every value that is ever seen is traced to the one invocation that wrote it.

mod op;

mod nodes;

mod trouble;

use std::collections::BTreeMap;
use std::fmt;

pub use nodes::{
    Agreement, Alone, Boot, Breach, Carried, FarAhead, Final, Kept, LayoutView, Lives, Place,
    Promise, Purged, Reshaping, Served, Sight, Sighting, Spell, StoodIn, Survivors,
};
pub use op::{Answer, Attempt, End, Fate, Op, Seen, other_context, value};
use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::{Dot, VersionSet};
use rondo_core::wire::client::Sibling;
pub use trouble::{Cause, Stuck, Trouble};

use crate::scenario::Change;

/// A place in the run's order of events. `Stamp::NEVER` is after all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// After everything.
    pub const NEVER: Stamp = Stamp(u64::MAX);
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Stamp::NEVER { f.write_str("the last") } else { write!(f, "{}", self.0) }
    }
}

/// The numbers of stand-ins, which are told apart from the nodes in whose place they are, are these and up.
pub const STAND_INS: u32 = 1_000;

/// How long the copies of a key may differ that nobody reads, once all works again, in milliseconds.
pub const UNREAD_MS: u64 = 15_000;

/// One run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients did. An operation's id is its index.
    pub ops: Vec<Op>,
    /// Every version of a key that any node stored, by key and dot; more than one sighting
    /// for a dot only when they differ.
    pub sightings: BTreeMap<(u32, Dot), Vec<Sighting>>,
    /// The states of keys at the end.
    pub ends: Ends,
    /// What was handed to links and what came out of them, in order; nothing where there are no links.
    pub carried: Vec<Carried>,
    /// What nodes knew durably, in order of time.
    pub kept: Vec<Kept>,
    /// The lives of nodes, and what was wrong meanwhile.
    pub lives: Lives,
    /// What nodes and links had promised beforehand.
    pub terms: Terms,
    /// The layouts that nodes have at the end.
    pub layouts: Vec<LayoutView>,
    /// Promises of single nodes that those who watch them saw broken.
    pub breaches: Vec<Breach>,
    /// What went wrong with the nodes themselves.
    pub troubles: Vec<Trouble>,
    /// How a part of the cluster went on while the rest was gone; `None` when that was not tried.
    pub survivors: Option<Survivors>,
    /// When the heal was, and from when on everything had to succeed.
    pub healed: Stamp,
}

/// The states of keys once everything works again, at each of their primaries.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Of each key, after all else.
    pub read: Vec<Final>,
    /// Of those keys whose primaries did not become equal before anybody read them.
    pub unread: Vec<Final>,
    /// Copies of which nothing was left but deletions and what had expired, for much longer than such things are kept, when all had
    /// had time to purge them.
    pub unpurged: Vec<Final>,
}

/// What is promised of a run before it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// N, R and W as the layout makes them; `None` when nobody knows.
    pub quorums: Option<Quorums>,
    /// The deadline of requests in milliseconds, where links lose nothing by their own luck, no site takes a rare path, and the nodes
    /// stay; `None` elsewhere.
    pub plain_deadline_ms: Option<u64>,
    /// The same where the cluster changes its shape and a deadline leaves time for some heartbeats.
    pub reshaped_deadline_ms: Option<u64>,
    /// By how much the hybrid clock of any node may be off from the time of the run, in milliseconds; `None` where clocks are set or
    /// stand still meanwhile, and nobody knows.
    pub clocks_apart_ms: Option<u64>,
    /// Whether who reaches no primary of a key takes its writes at `one` on.
    pub sloppy: bool,
    /// How long the largest record takes to cross a slow link, in milliseconds; 0 where all messages take the same time.
    pub crossing_ms: u64,
}

impl History {
    /// Whether a node may have stored a key that it does not own, because a client had asked it to write that at `one`.
    #[must_use]
    pub fn may_be_a_fallback(&self, key: u32, node: u32, by: Stamp) -> bool {
        let of_key = |op: &Op, attempt: &Attempt| match attempt.change {
            Some(Change::Key(other)) => other == key,
            _ => op.key == key,
        };
        let asked = |op: &&Op| {
            let mut attempts = op.attempts.iter();
            attempts.any(|one| one.node == node && one.called < by && of_key(op, one))
        };
        let mut loose = self.ops.iter().filter(|op| op.writes() && op.level == Level::One);
        self.terms.sloppy && loose.any(|op| asked(&op))
    }

    /// The keys that any operation names.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.ops.iter().map(|op| op.key + 1).max().unwrap_or(0)
    }

    /// Notes every version of a state that `node` stores. `place` is only asked for news.
    pub fn sight(
        &mut self,
        key: u32,
        state: &VersionSet,
        (node, stamp): (u32, Stamp),
        place: impl Fn() -> String,
    ) {
        for (dot, version) in state.versions() {
            let known = self.sightings.entry((key, dot)).or_default();
            let is_it = |sighting: &&mut Sighting| {
                sighting.request == version.request
                    && sighting.digest == version.digest
                    && sighting.hlc == version.hlc
                    && sighting.tombstone == version.tombstone
            };
            if let Some(seen) = known.iter_mut().find(is_it) {
                // Nobody else sees what a stand-in has.
                if seen.issuer != node && node < STAND_INS {
                    seen.shown = seen.shown.min(stamp);
                }
            } else {
                known.push(Sighting {
                    issuer: node,
                    shown: Stamp::NEVER,
                    request: version.request,
                    hlc: version.hlc,
                    tombstone: version.tombstone,
                    digest: version.digest,
                    stamp,
                    place: place(),
                });
            }
        }
    }

    /// The operation that a value names, when it is that operation's exact value.
    #[must_use]
    pub fn seen(&self, sibling: &Sibling) -> Seen {
        let named = std::str::from_utf8(&sibling.value)
            .ok()
            .and_then(|text| text.split('.').next()?.parse::<usize>().ok())
            .filter(|&id| self.ops.get(id).is_some_and(|op| op.value == sibling.value));
        Seen { op: named, version: sibling.version.hlc }
    }
}
