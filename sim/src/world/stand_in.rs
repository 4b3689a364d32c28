//! What stands in the place of a node's newest data directory, and how far a fault has come that puts it there.
//!
//! Whoever watches a node's store watches its newest directory. What a stand-in stores and promises is told under a number
//! of its own (`STAND_INS` and up), so that nobody counts it for the node: a stand-in holds nothing that anybody may rely on.

use rondo_core::id::NodeId;
use rondo_engines::mem_disk::MemDisk;

use crate::history::Stamp;
use crate::rt::Time;
use crate::watch::shadow::Shadow;

/// What is known of a node's newest directory while something else is in its place.
pub struct StandIn {
    /// The newest directory.
    pub newest: MemDisk,
    /// What its engine has to hold.
    pub shadow: Shadow,
    /// The last write that its engine has called durable.
    pub durable: u64,
    /// Whose it is.
    pub id: Option<NodeId>,
    /// Since when.
    pub since: Time,
    /// The same, in the order of events.
    pub from: Stamp,
    /// Whether it is the node's own identity, so that it must not serve.
    pub is_copy: bool,
}

/// A file without which a node must not start.
pub struct Lack {
    /// Its path.
    pub file: String,
    /// The disk as it was before.
    pub whole: MemDisk,
}
