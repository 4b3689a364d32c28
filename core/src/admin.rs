//! What an operator asks of a cluster through one of its nodes, and what the node answers.
//!
//! Changes are staged, planned and committed: staging changes nothing by itself, `Plan` computes the next layout and shows what would
//! move, `Commit` proposes that layout to the other nodes. So an answer to `Commit` says what is on its way; what is in force is
//! in `Layout`. People name nodes by their names, here as everywhere; an id, or the beginning of one that only one node has, will
//! do where two nodes have one name.
//!
//! Left out: how a change becomes a layout (`layout`), and who may ask: whoever reaches the port of clients may.

use serde::{Deserialize, Serialize};

use crate::layout::keyspace::{Level, Policy};
use crate::layout::{LayoutRef, Quorums};
use crate::status::{MerkleStatus, RepairStatus};

/// What an operator asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminRequest {
    /// Which layouts are live or proposed, and what is staged.
    Layout,
    /// Stages a change, in the place of an earlier one of the same node or keyspace.
    Stage(Change),
    /// Takes back all that is staged.
    Unstage,
    /// What would the next layout be, and what would move?
    Plan,
    /// Makes a layout of all that is staged, and proposes it.
    Commit {
        /// The version that the operator was shown by `Plan`: another one is refused. `None`: whatever it is.
        expected: Option<u64>,
    },
    /// Stages a change and proposes a layout with this one alone; what else is staged stays so.
    Apply(Change),
    /// The hash trees of a partition at this node.
    Merkle {
        /// The partition.
        partition: u16,
    },
    /// Compares copies with those of other owners now.
    Repair,
    /// Waits no longer for a dead node, while one layout takes the place of another.
    SkipDead {
        /// The node.
        node: String,
        /// Nor for what it alone may have of the data: whatever it was is lost.
        accepts_loss: bool,
    },
}

impl AdminRequest {
    /// The bytes that it keeps, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            AdminRequest::Stage(change) | AdminRequest::Apply(change) => change.weight(),
            AdminRequest::SkipDead { node, .. } => node.len(),
            AdminRequest::Layout
            | AdminRequest::Unstage
            | AdminRequest::Plan
            | AdminRequest::Merkle { .. }
            | AdminRequest::Repair
            | AdminRequest::Commit { .. } => 0,
        }
    }
}

/// A change of the cluster. What is left out is chosen by the node, which shows all of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A node that runs gets a part of the data. Of a member: another share or zone.
    Join {
        /// The node.
        node: String,
        /// Its share of the data, relative to the others'; what the node itself says when it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
        /// Its failure domain; what the node itself says when it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// A member hands its data to the others. It may be dead: then they get it from each other.
    Leave {
        /// The node.
        node: String,
    },
    /// A node that runs takes the place of a member, which nobody waits for.
    Replace {
        /// The member.
        old: String,
        /// The node that takes its place.
        new: String,
    },
    /// There is such a keyspace.
    Keyspace {
        /// Its name.
        name: String,
        /// How it is to be.
        #[serde(default)]
        wanted: KeyspaceWish,
    },
    /// There is no such keyspace any more, and no key of it.
    DropKeyspace {
        /// Its name.
        name: String,
    },
}

impl Change {
    fn weight(&self) -> usize {
        match self {
            Change::Join { node, zone, .. } => node.len() + zone.as_ref().map_or(0, String::len),
            Change::Replace { old, new } => old.len() + new.len(),
            Change::Leave { node: name }
            | Change::Keyspace { name, .. }
            | Change::DropKeyspace { name } => name.len(),
        }
    }
}

/// How a keyspace is to be. What is left out is as it was, and in a new one as in `default`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyspaceWish {
    /// Replicas of each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// Replicas that must answer a read; a majority of n in a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r: Option<u8>,
    /// Replicas that must hold a write; a majority of n in a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub w: Option<u8>,
    /// The level of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What happens to concurrent versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// How long what is put stays when the request does not say, in milliseconds; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether a node that is no primary takes on what is written at level `one` when no primary is reached. A keyspace that is there
    /// stays as it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sloppy: Option<bool>,
}

/// What the node has done, or knows.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Done {
    /// What is live and staged, now that it is done.
    Layouts(Layouts),
    /// The next layout.
    Plan(Plan),
    /// The trees of a partition.
    Merkle(MerkleStatus),
    /// How comparing stands; a round with each other owner begins soon.
    Repairs(RepairStatus),
    /// A layout was proposed, and is live when more than half of the nodes have endorsed it durably.
    Proposed {
        /// Its version.
        proposed: u64,
        /// Its digest, 32 hex digits: when another layout of this version is live, that one had more votes, and what was
        /// wanted is still staged.
        digest: String,
    },
}

impl Done {
    /// A layout is proposed, or in force already.
    #[must_use]
    pub fn proposed(LayoutRef { version, digest }: LayoutRef) -> Done {
        Done::Proposed { proposed: version.0, digest: format!("{digest:032x}") }
    }
}

/// Which layouts there are, and what is staged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Layouts {
    /// The layouts that requests are served under, the oldest first; two while one takes the place of the other.
    pub live: Vec<LiveLayout>,
    /// A layout that this node has endorsed and that is not live yet.
    pub proposed: Option<u64>,
    /// What is staged, by node and keyspace.
    pub staged: Vec<Change>,
    /// The nodes of which it is given up what they alone may have, while the newest layout comes.
    pub given_up: Vec<String>,
    /// The keyspaces of the newest live layout, by name.
    pub keyspaces: Vec<KeyspaceStatus>,
}

/// A layout that is live.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LiveLayout {
    /// Its version.
    pub version: u64,
    /// Its digest, 32 hex digits.
    pub digest: String,
    /// The nodes in it, by name.
    pub nodes: Vec<LayoutNode>,
}

/// A node in a layout.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct LayoutNode {
    /// Its name.
    pub name: String,
    /// 32 hex digits.
    pub node: String,
    /// Its share of the data, relative to the others'.
    pub weight: u32,
    /// Its failure domain.
    pub zone: String,
}

/// A keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KeyspaceStatus {
    /// Its name.
    pub name: String,
    /// Its id, which is in no other keyspace's keys.
    pub id: u32,
    /// The n, R and W in force.
    pub quorums: Quorums,
    /// Those that were asked for: a cluster of fewer than n nodes has fewer in force.
    pub wanted: Quorums,
    /// The level of requests that name none.
    pub level: Level,
    /// What happens to concurrent versions.
    pub policy: Policy,
    /// How long what is put stays when the request does not say, in milliseconds; 0 for ever.
    pub ttl_ms: u64,
    /// Whether a node that is no primary takes on what is written at level `one` when no primary is reached.
    pub sloppy: bool,
}

/// The layout that a commit would make.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Its version.
    pub version: u64,
    /// What of the staged makes it.
    pub changes: Vec<Change>,
    /// What becomes of each node, by name.
    pub nodes: Vec<PlannedNode>,
    /// How many replicas of partitions get another owner, in all groups.
    pub moves: u64,
    /// How many there are.
    pub replicas: u64,
}

/// What a plan does to a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedNode {
    /// Its name.
    pub name: String,
    /// 32 hex digits.
    pub node: String,
    /// Its zone.
    pub zone: String,
    /// How many replicas of partitions it owns now.
    pub owns: u64,
    /// How many it will own.
    pub will_own: u64,
    /// How many of those it does not own now, and fetches.
    pub gets: u64,
}

/// Why it was not done. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What kind of reason it is.
    pub why: Why,
    /// What is wrong, for people.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It makes no sense.
    Bad,
    /// There is no such node or keyspace.
    Unknown,
    /// It does not fit what is staged or live now.
    Conflict,
    /// It cannot be done now; later it may.
    NotNow,
}

/// What a node answers.
pub type AdminReply = std::result::Result<Done, Refused>;

impl Refused {
    /// A reason with what to do next.
    #[must_use]
    pub fn new(why: Why, message: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused { why, message: message.into(), hint: hint.into() }
    }
}
