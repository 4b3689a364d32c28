//! What happened in a run, as far as clients and those who watch the stores could see it: the oracles' only input.
//!
//! Everything carries a `Stamp`, its place in the run's single order of events, so no clock plays a part. A
//! write's value names its operation, so every value that is ever seen is traced to the one invocation that wrote it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use rondo_core::id::RequestId;
use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Dot, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::Sibling;

pub use crate::fault::Place;
use crate::rt::Time;
use crate::scenario::{Action, Change};

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

/// One run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients did. An operation's id is its index.
    pub ops: Vec<Op>,
    /// Every version of a key that any node stored, by key and dot; more than one sighting
    /// for a dot only when they differ.
    pub sightings: BTreeMap<(u32, Dot), Vec<Sighting>>,
    /// The states of each key at the end, at each of its primaries.
    pub finals: Vec<Final>,
    /// What was handed to links and what came out of them, in order; nothing where there are no links.
    pub carried: Vec<Carried>,
    /// What nodes knew durably, in order of time.
    pub kept: Vec<Kept>,
    /// N, R and W as the layout makes them; `None` when nobody knows.
    pub quorums: Option<Quorums>,
    /// The lives of nodes, in order of time.
    pub boots: Vec<Boot>,
    /// When a copy was in the place of a node's newest directory.
    pub stood_in: Vec<StoodIn>,
    /// The layouts that nodes have at the end.
    pub layouts: Vec<LayoutView>,
    /// Promises of single nodes that those who watch them saw broken.
    pub breaches: Vec<Breach>,
    /// What went wrong with the nodes themselves.
    pub troubles: Vec<Trouble>,
    /// Whether damage has struck a disk that nobody repaired as long as its node ran.
    pub has_rotted: bool,
    /// How a part of the cluster went on while the rest was gone; `None` when that was not tried.
    pub survivors: Option<Survivors>,
    /// When the heal was, and from when on everything had to succeed.
    pub healed: Stamp,
    /// What was wrong with nodes and links, and when.
    pub spells: Vec<Spell>,
    /// The deadline of requests in milliseconds, where links lose nothing by their own luck and no site takes a rare path; `None`
    /// elsewhere.
    pub plain_deadline_ms: Option<u64>,
}

/// For some time a copy was in the place of a node's newest directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoodIn {
    /// The node.
    pub node: u32,
    /// Since when.
    pub from: Stamp,
    /// Until when.
    pub until: Stamp,
}

/// For some time something was wrong here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spell {
    /// Where.
    pub place: Place,
    /// Since when.
    pub from: Time,
    /// Until when.
    pub until: Time,
}

/// A message at one end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// When it arrived; the event before, for one that was sent.
    pub stamp: Stamp,
    /// (from, to).
    pub link: (u32, u32),
    /// A hash of its bytes.
    pub hash: u64,
    /// Whether it came out of the link.
    pub has_arrived: bool,
}

/// One operation, over all its attempts.
#[derive(Clone, Debug)]
pub struct Op {
    /// The client.
    pub client: u32,
    /// The key.
    pub key: u32,
    /// The level.
    pub level: Level,
    /// What.
    pub action: Action,
    /// Its name on the wire. Another operation may use the same one again.
    pub request: RequestId,
    /// The number of its first attempt; above 1 no attempt of it may write.
    pub first_attempt: u32,
    /// The value it writes; empty when it writes none.
    pub value: Bytes,
    /// The context it sent, when it sent one; see `sent_by`.
    pub sent: Option<Context>,
    /// The attempts, in order; none when the run ended before.
    pub attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The node that was asked.
    pub node: u32,
    /// What was not as in the attempts before, though the request id was.
    pub change: Option<Change>,
    /// When it was asked.
    pub called: Stamp,
    /// The same, in time.
    pub called_at: Time,
    /// By when it had to end; pauses of the node are added. `None` when the node's process ended first.
    pub due: Option<Time>,
    /// The answer.
    pub end: Option<End>,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct End {
    /// When.
    pub stamp: Stamp,
    /// The same, in time.
    pub at: Time,
    /// What the client was told.
    pub answer: Answer,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The write is done.
    Stored {
        /// What the client knows now.
        context: Context,
        /// The write's HLC.
        version: Hlc,
    },
    /// Values, the answer first.
    Found {
        /// The values.
        values: Vec<Seen>,
        /// What the client knows now.
        context: Context,
    },
    /// No value.
    NotFound {
        /// The values that stand beside the delete.
        values: Vec<Seen>,
        /// What the client knows now.
        context: Context,
    },
    /// It may have happened.
    Indeterminate,
    /// The request did not happen, says the node.
    Refused(String),
    /// The request makes no sense, says the node, or its id names another one there. This attempt did not write.
    BadRequest(String),
    /// Nobody was there to ask.
    Unreached,
}

/// A value in an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The operation that wrote it, when the value names one and is its exact value.
    pub op: Option<usize>,
    /// Its HLC.
    pub version: Hlc,
}

/// A version with its dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The request that wrote it.
    pub request: RequestId,
    /// Its HLC.
    pub hlc: Hlc,
    /// Whether it deletes.
    pub tombstone: bool,
    /// The hash of its content.
    pub digest: u64,
    /// When it was first seen.
    pub stamp: Stamp,
    /// The node that stored it first: it issued the dot, because nothing leaves a node that was not stored there.
    pub issuer: u32,
    /// When another node first stored it; `Stamp::NEVER` when none did.
    pub shown: Stamp,
    /// Where it was first seen, for people.
    pub place: String,
}

/// A key's state at one of its primaries at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Final {
    /// The key.
    pub key: u32,
    /// The node.
    pub node: u32,
    /// What it holds.
    pub state: VersionSet,
}

/// A part of the cluster that had to go on alone, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survivors {
    /// The nodes that were left.
    pub nodes: Vec<u32>,
    /// Since when.
    pub began: Time,
    /// Calls, each with its first success.
    pub served: Vec<Served>,
    /// Keys whose copies at these nodes had to become equal.
    pub equal: Vec<Served>,
}

/// Something that had to come to pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// What, in a word.
    pub what: &'static str,
    /// The key.
    pub key: u32,
    /// The node that was asked, where one was.
    pub node: u32,
    /// Since when it was tried.
    pub since: Time,
    /// When it came to pass; `None` when it did not.
    pub at: Option<Time>,
}

/// From some moment on a node knows these dots of a key, whatever happens to its power.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The key.
    pub key: u32,
    /// The node.
    pub node: u32,
    /// The last event before.
    pub stamp: Stamp,
    /// The dots.
    pub clock: VersionVector,
}

/// A life of a node begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boot {
    /// The node.
    pub node: u32,
    /// When.
    pub stamp: Stamp,
    /// The boot epoch that its directory was opened with.
    pub epoch: u64,
}

/// A node's live layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutView {
    /// The node.
    pub node: u32,
    /// The layout's version.
    pub version: u64,
    /// Its digest.
    pub digest: String,
    /// Effective n, R and W.
    pub quorums: Quorums,
    /// What was asked for.
    pub wanted: Quorums,
    /// The owners of each partition; `None` for one that is no node of this world.
    pub owners: Vec<Vec<Option<u32>>>,
}

/// A promise of a single node that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// The node.
    pub node: u32,
    /// When it showed.
    pub stamp: Stamp,
    /// Which promise.
    pub of: Promise,
    /// The evidence.
    pub what: String,
}

/// What a single node promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Its store is a prefix of what was written, with everything that was durable.
    Prefix,
    /// Its clock is never further ahead than the drift bound allows.
    ClockBound,
    /// What it knows of a key never shrinks.
    Memory,
    /// Nothing that it keeps grows without end.
    Bounds,
    /// A token opens for the key that it was made for, and for no other.
    Tokens,
    /// What it keeps in memory stays below its budgets.
    Ceiling,
    /// Its own thread waits for no device.
    Waits,
}

/// Something that must not happen to a node, or to the cluster once it is healed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A node panicked.
    Panic {
        /// The node.
        node: u32,
        /// The panic's text.
        text: String,
    },
    /// A node ended with an error, or could not start.
    Error {
        /// The node.
        node: u32,
        /// The error.
        text: String,
    },
    /// The healed cluster did not do in time what it had to.
    Stuck(String),
}

/// How a write ended, over all attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was acknowledged, first at this stamp.
    Acked(Stamp),
    /// Every attempt was refused: it did not happen and never will.
    Refused,
    /// It may have happened, or may happen later.
    Unknown,
}

impl Op {
    /// When the operation was first invoked; `Stamp::NEVER` when it never was.
    #[must_use]
    pub fn called(&self) -> Stamp {
        self.attempts.first().map_or(Stamp::NEVER, |attempt| attempt.called)
    }

    /// Whether it writes.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.action.over().is_some()
    }

    /// How a write ended. What was changed in an attempt is no part of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let stored = |end: &&End| matches!(end.answer, Answer::Stored { .. });
        let own = || self.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        let ends = || own().filter_map(|attempt| attempt.end.as_ref());
        if let Some(end) = ends().filter(stored).min_by_key(|end| end.stamp) {
            return Fate::Acked(end.stamp);
        }
        let refused = |attempt: &Attempt| {
            let answer = attempt.end.as_ref().map(|end| &end.answer);
            matches!(answer, Some(Answer::Refused(_) | Answer::BadRequest(_) | Answer::Unreached))
        };
        let cannot_write = self.first_attempt > 1;
        if cannot_write || own().all(refused) { Fate::Refused } else { Fate::Unknown }
    }

    /// A read's answer: when it ended, the values (none when the key has none) and the context.
    #[must_use]
    pub fn read(&self) -> Option<(Stamp, &[Seen], &Context)> {
        self.attempts.iter().filter_map(|attempt| attempt.end.as_ref()).find_map(|end| {
            match &end.answer {
                Answer::Found { values, context } => Some((end.stamp, values.as_slice(), context)),
                Answer::NotFound { context, .. } => Some((end.stamp, &[][..], context)),
                _ => None,
            }
        })
    }

    /// The context that one of its attempts sent.
    #[must_use]
    pub fn sent_by(&self, attempt: &Attempt) -> Option<Context> {
        match attempt.change {
            Some(Change::Context) => other_context(self.sent.as_ref()),
            _ => self.sent.clone(),
        }
    }

    /// The contexts that were handed out for it.
    pub fn contexts(&self) -> impl Iterator<Item = (Stamp, &Context)> {
        let own = self.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        let ends = own.filter_map(|attempt| attempt.end.as_ref());
        ends.filter_map(|end| match &end.answer {
            Answer::Stored { context, .. }
            | Answer::Found { context, .. }
            | Answer::NotFound { context, .. } => Some((end.stamp, context)),
            _ => None,
        })
    }
}

/// What an attempt sends that changes the context: none where there was one, and the empty one where there was none.
#[must_use]
pub fn other_context(context: Option<&Context>) -> Option<Context> {
    if context.is_some() { None } else { Some(Context::default()) }
}

impl Attempt {
    /// Whether it asks what the attempts before it asked, as far as its answer can tell of them.
    #[must_use]
    pub fn is_of_the_request(&self) -> bool {
        !self
            .change
            .is_some_and(|change| change.is_another_write() || matches!(change, Change::Level(_)))
    }
}

impl History {
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
        Seen { op: named, version: sibling.version }
    }
}

/// The value that operation `id` of `client` writes, `bytes` long at least. No other operation writes it.
#[must_use]
pub fn value(id: usize, client: u32, bytes: usize) -> Bytes {
    let mut text = format!("{id}.c{client}.");
    while text.len() < bytes {
        text.push('~');
    }
    Bytes::from(text)
}
