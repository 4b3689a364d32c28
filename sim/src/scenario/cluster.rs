//! The nodes and their settings, and those of them that are gone for a while.

use rondo_core::config::{HINT_BYTES_MAX, MEMORY_BYTES_USUAL};
use rondo_core::layout::Quorums;
use rondo_engines::kind::EngineKind;
use serde::{Deserialize, Serialize};

/// What a node may hold in memory where a scenario does not say it, in MiB.
pub const MEMORY_MIB_USUAL: u32 = (MEMORY_BYTES_USUAL >> 20) as u32;

/// The nodes and their settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How many, 1 to 7.
    pub nodes: u32,
    /// Replicas of each key.
    pub replicas: u8,
    /// Replicas that answer a quorum read.
    pub read_quorum: u8,
    /// Replicas that hold a quorum write.
    pub write_quorum: u8,
    /// Partitions of the token space, a power of two.
    pub partitions: u16,
    /// What stores the records.
    pub engine: EngineKind,
    /// Deadline of a request in milliseconds.
    pub deadline_ms: u64,
    /// When a coordinator asks the other replicas too, in milliseconds.
    pub hedge_ms: u64,
    /// When a question is asked again, in milliseconds.
    pub resend_ms: u64,
    /// Between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// When a silent peer is taken for dead, in milliseconds.
    pub dead_ms: u64,
    /// What a node may hold in memory, in MiB.
    #[serde(default = "usual_memory", skip_serializing_if = "is_usual_memory")]
    pub memory_mib: u32,
    /// How often nodes compare their copies, in milliseconds; 0: they do not.
    #[serde(default, skip_serializing_if = "is_never")]
    pub repair_ms: u64,
    /// How long what is deleted or has expired is kept, in milliseconds; 0: for ever.
    #[serde(default, skip_serializing_if = "is_never")]
    pub grace_ms: u64,
    /// Whether nodes that are no primaries take writes at level `one` when they reach none.
    #[serde(default, skip_serializing_if = "is_not")]
    pub sloppy: bool,
    /// What the hints for one node may take at another, in bytes.
    #[serde(default = "usual_hints", skip_serializing_if = "are_usual_hints")]
    pub hint_bytes: u64,
    /// The failure domain of each node; none where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<u32>,
    /// The share of each node; equal ones where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
    /// The last of the nodes, which do not found the cluster: each comes when a fault says so. For each whose name it has: its own
    /// number, or that of a node before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<u32>,
}

const fn is_never(ms: &u64) -> bool {
    *ms == 0
}

const fn is_not(sloppy: &bool) -> bool {
    !*sloppy
}

const fn usual_memory() -> u32 {
    MEMORY_MIB_USUAL
}

const fn is_usual_memory(mib: &u32) -> bool {
    *mib == MEMORY_MIB_USUAL
}

const fn usual_hints() -> u64 {
    HINT_BYTES_MAX
}

const fn are_usual_hints(bytes: &u64) -> bool {
    *bytes == HINT_BYTES_MAX
}

/// Nodes that are gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// The nodes: so few that every quorum of every key is among the others.
    pub nodes: Vec<u32>,
    /// In which way.
    pub how: Away,
}

/// How a node is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// Its process has ended.
    Killed,
    /// Nobody reaches it and it reaches nobody.
    Isolated,
}

impl Cluster {
    pub(super) fn check(&self) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let each = |list: &[u32]| list.is_empty() || list.len() == self.nodes as usize;
        says(each(&self.zones), "there is one zone for each node, or none")?;
        says(each(&self.weights), "there is one weight for each node, or none")?;
        let founders = self.founders();
        says(
            founders >= 1 && self.nodes as usize >= self.later.len(),
            "somebody founds a cluster",
        )?;
        says(
            (founders..).zip(&self.later).all(|(node, &name)| name <= node),
            "who comes later has its own name, or that of a node before it",
        )?;
        says(self.weights.iter().all(|weight| (1..=100).contains(weight)), "weights are 1 to 100")
    }

    /// How many nodes found the cluster.
    #[must_use]
    pub fn founders(&self) -> u32 {
        self.nodes.saturating_sub(self.later.len() as u32)
    }

    /// The node whose name a node has.
    #[must_use]
    pub fn named(&self, node: u32) -> u32 {
        let later = node.checked_sub(self.founders()).and_then(|at| self.later.get(at as usize));
        later.copied().unwrap_or(node)
    }

    /// N, R and W as the first layout makes them.
    #[must_use]
    pub fn effective(&self) -> Quorums {
        let Cluster { replicas: n, read_quorum: r, write_quorum: w, .. } = *self;
        Quorums { n, r, w }.effective(self.founders() as usize)
    }

    /// How many nodes may be gone, whichever, so that every key has a quorum for reads and writes. None where quorums do not
    /// meet: nobody knows then whether those who are left have heard of the layout.
    #[must_use]
    pub fn spare(&self) -> u32 {
        let Cluster { nodes, replicas, read_quorum, write_quorum, .. } = *self;
        let meet = u32::from(read_quorum) + u32::from(write_quorum) > u32::from(replicas);
        match meet && nodes >= u32::from(replicas) {
            true => u32::from(replicas.saturating_sub(read_quorum.max(write_quorum))),
            false => 0,
        }
    }
}
