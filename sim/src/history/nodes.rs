//! What nodes did and held, as those who watch them saw it.

use std::collections::{BTreeMap, BTreeSet};

use rondo_core::id::RequestId;
use rondo_core::layout::Quorums;
use rondo_core::version::dvv::{VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;

pub use crate::fault::Place;
use crate::history::Stamp;
use crate::rt::Time;

/// The lives of nodes, and what was wrong meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    /// The lives of nodes, in order of time.
    pub boots: Vec<Boot>,
    /// When a copy was in the place of a node's newest directory.
    pub stood_in: Vec<StoodIn>,
    /// What was wrong with nodes and links, and when.
    pub spells: Vec<Spell>,
    /// Whether damage has struck a disk that nobody repaired as long as its node ran, or a node has replaced a record that it could
    /// not read by what the others hold: a write at `one` may have been in no other.
    pub has_rotted: bool,
    /// Writes at `one` that were acknowledged with a time far ahead of all clocks but one, in order of time.
    pub far_ahead: Vec<FarAhead>,
    /// What the failure detectors of nodes made of others, in order of time.
    pub sights: Vec<Sight>,
    /// The nodes that are gone for good, and since when.
    pub gone: BTreeMap<u32, Time>,
    /// Whether all nodes saw the same soon after the heal; `None` where the run did not come so far.
    pub agreement: Option<Agreement>,
    /// What they say otherwise of those that are gone, when that took too long.
    pub unburied: Option<Agreement>,
    /// What nodes have purged, in order of time.
    pub purged: Vec<Purged>,
    /// How the cluster was reshaped, where it was.
    pub reshaping: Option<Reshaping>,
}

/// The failure detector of a node takes another one for something else than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// Whose failure detector.
    pub node: u32,
    /// The other one.
    pub of: u32,
    /// The life of it that this is about, and how often it had spoken up in that.
    pub incarnation: (u64, u64),
    /// What it is taken for.
    pub standing: &'static str,
    /// When.
    pub at: Time,
    /// The event.
    pub stamp: Stamp,
    /// Whether the other one runs then, and has not been asked to stop.
    pub runs: bool,
}

/// Whether all nodes that are there saw the same soon after the last fault was healed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// When that was.
    pub since: Time,
    /// When they did; `None` when it took too long.
    pub at: Option<Time>,
    /// How long it may take, in milliseconds.
    pub within_ms: u64,
    /// In what they differed then.
    pub differ: Vec<String>,
}

/// A write at `one` was acknowledged whose time no clock but one has come near.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarAhead {
    /// The operation.
    pub op: u32,
    /// The node whose clock has shown the highest time.
    pub fastest: u32,
    /// When it was acknowledged.
    pub at: Time,
    /// By how much it is ahead of the highest time that any other node's clock has shown, in milliseconds.
    pub by_ms: u64,
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
    /// The life of the node that sent it, counted from 1; 0 for a message that nobody has sent.
    pub life: u64,
    /// A hash of its bytes.
    pub hash: u64,
    /// Whether it came out of the link.
    pub has_arrived: bool,
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

/// A node has purged a key, or what was known of some actors: it knows this no more, and all that it knew is told by nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Purged {
    /// The key.
    pub key: u32,
    /// The node.
    pub node: u32,
    /// When.
    pub stamp: Stamp,
    /// What it has no more.
    pub state: VersionSet,
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
    /// The failure domain of each node.
    pub zones: BTreeMap<u32, String>,
    /// How many nodes are in it.
    pub members: usize,
    /// The owners of each partition; `None` for one that is no node of this world.
    pub owners: Vec<Vec<Option<u32>>>,
}

/// How a cluster was reshaped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reshaping {
    /// The first event that may have led to another layout.
    pub began: Option<Stamp>,
    /// The newest live layout of each node whenever it was seen to be another one, in order of time.
    pub seen: Vec<(Stamp, LayoutView)>,
    /// The partition of each key.
    pub partitions: Vec<u16>,
    /// What each owner of a key held when the layouts had come to rest and nobody had read yet.
    pub held: Vec<Final>,
    /// What nodes that are gone for good knew when they ended and nobody else did.
    pub alone: Vec<Alone>,
    /// Those of them of which an operator has given that up.
    pub given_up: BTreeSet<u32>,
    /// Who held a key then that it does not own: node and key.
    pub left: Vec<(u32, u32)>,
}

/// Of a key a node that is gone for good knew more than all others together when it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alone {
    /// The node.
    pub node: u32,
    /// When it ended.
    pub stamp: Stamp,
    /// The key.
    pub key: u32,
    /// What it knew.
    pub knew: VersionVector,
    /// What the others knew.
    pub others: VersionVector,
}

impl Reshaping {
    /// The nodes that had a place in a layout and have none in the newest one, as it was seen up to then: they have left, and no failure
    /// detector of those who stay hears them again.
    #[must_use]
    pub fn left(&self, until: Stamp) -> BTreeSet<u32> {
        let seen = || self.seen.iter().filter(|(stamp, _)| *stamp <= until).map(|(_, of)| of);
        let stay = seen().max_by_key(|of| of.version);
        let has_left = |node: &u32| stay.is_some_and(|stay| !stay.zones.contains_key(node));
        seen().flat_map(|of| of.zones.keys().copied()).filter(has_left).collect()
    }

    /// The owners of a key in a layout, as far as they are nodes of this world.
    #[must_use]
    pub fn owners(&self, of: &LayoutView, key: u32) -> BTreeSet<u32> {
        let partition = self.partitions.get(key as usize);
        let owners = partition.and_then(|&partition| of.owners.get(usize::from(partition)));
        owners.into_iter().flatten().copied().flatten().collect()
    }
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
    /// It deletes no hint before its target holds what it lacked.
    Hints,
    /// Its hash trees say what it stores.
    Trees,
    /// Nothing that it keeps grows without end.
    Bounds,
    /// A token opens for the key that it was made for, and for no other.
    Tokens,
    /// What it keeps in memory stays below its budgets.
    Ceiling,
    /// Its own thread waits for no device.
    Waits,
    /// A peer's life counts there only once that is stored.
    Lives,
}

/// A part of the cluster that had to go on alone, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survivors {
    /// The nodes that were left.
    pub nodes: Vec<u32>,
    /// Since when.
    pub began: Time,
    /// How long the largest record takes to cross a slow link, in milliseconds: so much longer may a call take.
    pub largest_record_ms: u64,
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
