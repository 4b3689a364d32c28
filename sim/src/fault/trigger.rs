//! When a fault strikes. Random times miss windows of milliseconds; triggers hit them.

use serde::{Deserialize, Serialize};

use super::draw::{Aim, Entry, Room};
use crate::rng::Rng;

/// When a fault strikes. Random times miss windows of milliseconds; triggers hit them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// At a time.
    At {
        /// In milliseconds.
        ms: u64,
    },
    /// At once after the n-th acknowledged write of the run, from 1.
    OnAck {
        /// The number.
        n: u64,
    },
    /// While the n-th sync of a node is on its way, from 1.
    OnSyncPending {
        /// The node.
        node: u32,
        /// The number.
        n: u64,
    },
    /// While the n-th message of a kind between two nodes is on its way, from 1.
    OnMessage {
        /// The kind.
        kind: Said,
        /// Who sent it.
        from: u32,
        /// Who is to get it.
        to: u32,
        /// The number.
        n: u64,
    },
    /// Some time after another fault has struck.
    After {
        /// The other's place among the faults.
        fault: usize,
        /// How long after, in milliseconds.
        ms: u64,
    },
    /// In the n-th life of a node, from 1. A power loss or disk error comes after so many operations of its disk, which
    /// is in the midst of its recovery when they are few; other faults strike as the life begins.
    OnBoot {
        /// The node.
        node: u32,
        /// The number.
        n: u64,
        /// The disk's operations.
        ops: u64,
    },
    /// While a node merges, writes hints or removes files: at the k-th operation of its disk that is part of such work, over all
    /// its lives. A power loss comes at that very operation, other faults right after the turn that it is in.
    OnMaintenance {
        /// The node.
        node: u32,
        /// The disk's operations before.
        ops: u64,
    },
}

/// What a message says, as far as faults tell messages apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// A replica is asked for its highest version.
    Query,
    /// The answer.
    QueryReply,
    /// A replica is asked for a key, or for its digest.
    Read,
    /// The answer, whichever of the two.
    ReadReply,
    /// A replica is given a state.
    Merge,
    /// It has it.
    MergeAck,
    /// A coordinator hands a request on.
    Forward,
    /// The answer.
    ForwardReply,
    /// Layouts, and whatever says that something could not be done.
    Other,
    /// A datagram: heartbeats and membership.
    Datagram,
}

impl Said {
    /// Any kind, a merge more often.
    pub(super) fn draw(rng: &mut Rng) -> Said {
        rng.pick(&[
            Said::Query,
            Said::QueryReply,
            Said::Read,
            Said::ReadReply,
            Said::Merge,
            Said::Merge,
            Said::MergeAck,
            Said::Forward,
            Said::ForwardReply,
            Said::Datagram,
        ])
    }
}

impl Trigger {
    /// The nodes that it speaks of.
    pub(super) fn nodes(self) -> Vec<u32> {
        match self {
            Trigger::OnSyncPending { node, .. }
            | Trigger::OnBoot { node, .. }
            | Trigger::OnMaintenance { node, .. } => vec![node],
            Trigger::OnMessage { from, to, .. } => vec![from, to],
            Trigger::At { .. } | Trigger::OnAck { .. } | Trigger::After { .. } => Vec::new(),
        }
    }

    /// Whether it waits for a disk operation of background work.
    pub(super) const fn is_in_maintenance(self) -> bool {
        matches!(self, Trigger::OnMaintenance { .. })
    }

    /// A trigger for a fault of this entry that strikes `node`.
    pub(super) fn draw(rng: &mut Rng, room: &Room, entry: &Entry, node: u32) -> Trigger {
        let at = Trigger::At { ms: rng.between(room.window_ms.start / 3, room.window_ms.end) };
        let aimed_percent = match entry.aim {
            Aim::Recovery => {
                // A start takes some tens of operations; a later one is in the midst of the node's work.
                let ops_max = if rng.percent(30) { 2_000 } else { 120 };
                let (n, ops) = (rng.between(1, 3), rng.log(1, ops_max));
                return Trigger::OnBoot { node, n, ops };
            }
            Aim::Maintenance => return Trigger::OnMaintenance { node, ops: rng.log(1, 400) },
            // Recovery reads and writes most.
            Aim::Operations if rng.percent(25) => {
                let (n, ops) = (rng.between(1, 3), rng.log(1, 120));
                return Trigger::OnBoot { node, n, ops };
            }
            Aim::Operations => 50,
            Aim::Work { percent } => percent,
        };
        if !rng.percent(aimed_percent) {
            return at;
        }
        match rng.below(10) {
            // About half the operations are writes.
            0..5 => Trigger::OnAck { n: rng.between(1, (room.operations / 3).max(1)) },
            5..8 => Trigger::OnSyncPending { node, n: rng.log(2, room.operations.max(3)) },
            _ if room.nodes < 2 => at,
            _ => {
                let other = (node + 1 + rng.node(room.nodes - 1)) % room.nodes;
                let (from, to) = if rng.percent(50) { (node, other) } else { (other, node) };
                let n = rng.log(1, (room.operations / 4).max(2));
                Trigger::OnMessage { kind: Said::draw(rng), from, to, n }
            }
        }
    }
}
