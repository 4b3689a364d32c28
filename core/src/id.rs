//! Names of things: one newtype for each kind of number, so that none can be taken for another.
//!
//! Nothing here is drawn from a clock: identities are random, counters are counted
//! (<https://issues.apache.org/jira/browse/CASSANDRA-4601> shows what file ids made of time do).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[derive(Serialize, Deserialize)]
        pub struct $name(pub $inner);
    };
}

number! {
    /// A node: 128 random bits, drawn when its data directory is made. The node's name is a label.
    NodeId(u128)
}
number! {
    /// One incarnation of one replica's right to issue dots for one unit: 64 random bits.
    ActorId(u64)
}
number! {
    /// A keyspace; assigned when its definition is committed and never used again.
    KeyspaceId(u32)
}
number! {
    /// One of the cluster's fixed partitions of the token space, `0..partitions`.
    PartitionId(u16)
}
number! {
    /// A group: all keyspaces of equal N and engine.
    GroupId(u16)
}
number! {
    /// Where a key lies: the first eight bytes of SHA-256(keyspace id, big endian | key).
    Token(u64)
}
number! {
    /// A committed layout; 1 is the first.
    LayoutVersion(u64)
}
number! {
    /// A position in an engine's order of writes; 0 is before the first write.
    Lsn(u64)
}
number! {
    /// A client's name for one request, kept over its attempts.
    RequestId(u128)
}
number! {
    /// A sync that the disk was asked for.
    SyncId(u64)
}
number! {
    /// A read that the disk was asked for because it would have blocked.
    ReadId(u64)
}
number! {
    /// Where the host finds the client that waits for a reply.
    ClientTag(u64)
}
number! {
    /// How often this data directory has been opened; durable before the node speaks.
    BootEpoch(u64)
}

number! {
    /// One life of a node's process: 64 random bits, drawn at its start.
    SessionId(u64)
}

/// The unit of replication: the keys of one group's keyspaces that lie in one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Unit {
    /// The group.
    pub group: GroupId,
    /// The partition.
    pub partition: PartitionId,
}

impl GroupId {
    /// The group that every cluster begins with.
    pub const FIRST: GroupId = GroupId(0);
}

/// One life of a node: which time its data directory was opened, and by whom. Two processes on copies of one directory
/// have equal boot epochs and different sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Life {
    /// How often the data directory has been opened.
    pub boot: BootEpoch,
    /// Which process opened it.
    pub session: SessionId,
}

/// One operation on its coordinator. The life keeps a late reply to an earlier one, or to a second process on a copy of
/// the node's directory, from being matched to a new request
/// (<https://issues.apache.org/jira/browse/CASSANDRA-12653>).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OpId {
    /// The coordinator's life.
    pub life: Life,
    /// Counts up within one life.
    pub seq: u64,
}

/// How far purging has come in a unit: each purge raises it. A state that was read under a lower one may lack what was purged since.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// What is taken from an owner that counts, into a unit that is not whole: nobody purges meanwhile, so it is never late.
    pub const TAKEN: Epoch = Epoch(u64::MAX);
}

impl NodeId {
    /// The first eight hex digits: enough for people, never for machines.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
