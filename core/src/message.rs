//! Everything that crosses a wire between nodes, and what clients ask and are told.
//!
//! A message about a key carries the coordinator's layout (`Envelope::layout`): a replica that does not have that very
//! layout answers `StaleLayout` and does nothing. Bytes are made and read in `codec` alone.

use std::sync::Arc;

use bytes::Bytes;

use crate::env::{Address, Class, Wall};
use crate::id::{KeyspaceId, Life, Lsn, NodeId, OpId, RequestId};
use crate::layout::keyspace::Level;
use crate::layout::{Layout, LayoutRef};
use crate::version::context::Context;
use crate::version::dvv::{VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::version::outline::Outline;

/// A key with its keyspace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyRef {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The client's key.
    pub key: Bytes,
}

/// A message with the sender's layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sender's life: one that does not count is not heard.
    pub life: Life,
    /// The layout the sender acts under; `LayoutRef::default()` while it has none.
    pub layout: LayoutRef,
    /// Up to where the sender's store has everything durably; `Lsn(0)` says nothing.
    pub durable: Lsn,
    /// The message.
    pub message: Message,
}

/// What nodes say to each other over links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Asks what versions a key has, before a write. The answer need not be durable.
    Query {
        /// The operation this belongs to.
        op: OpId,
        /// The key.
        key: KeyRef,
    },
    /// Answers `Query`.
    QueryReply {
        /// The operation.
        op: OpId,
        /// All dots known.
        clock: VersionVector,
        /// The highest HLC of any version held.
        highest: Hlc,
    },
    /// Asks for a key's state, durable at the replica.
    Read {
        /// The operation.
        op: OpId,
        /// The key.
        key: KeyRef,
        /// Whether a digest is enough.
        digest_only: bool,
    },
    /// Answers `Read` with the whole state.
    ReadReply {
        /// The operation.
        op: OpId,
        /// The state; empty when the key was never written here.
        state: VersionSet,
    },
    /// Answers `Read` with the digest of the state.
    DigestReply {
        /// The operation.
        op: OpId,
        /// `VersionSet::digest`.
        digest: u64,
    },
    /// Brings a key's state: after a put, for a write-back or a repair. Merging is idempotent.
    Merge {
        /// The operation.
        op: OpId,
        /// The key.
        key: KeyRef,
        /// What to merge.
        state: VersionSet,
    },
    /// What `Merge` brought is durable here.
    MergeAck {
        /// The operation.
        op: OpId,
    },
    /// Asks whether a replica holds all of a state that was sent before: `MergeAck` when it is durable there, or `Lacks`.
    Holds {
        /// The operation.
        op: OpId,
        /// The key.
        key: KeyRef,
        /// What was sent, without its values.
        outline: Outline,
    },
    /// The replica does not hold what `Holds` asks for: it never arrived.
    Lacks {
        /// The operation.
        op: OpId,
    },
    /// The replica could not do what it was asked: a disk error, or a bound. Never means "absent".
    Failed {
        /// The operation.
        op: OpId,
    },
    /// The replica is not in the layout that the request was made under, and did nothing.
    StaleLayout {
        /// The operation.
        op: OpId,
    },
    /// A request for a primary to coordinate; never forwarded again.
    Forward {
        /// The forwarder's operation.
        op: OpId,
        /// The request.
        request: Request,
    },
    /// The outcome of a forwarded request.
    ForwardReply {
        /// The forwarder's operation.
        op: OpId,
        /// The outcome.
        reply: Reply,
    },
    /// A forwarded request was not taken on: nothing was done for it, and another primary may be asked.
    ForwardRefused {
        /// The forwarder's operation.
        op: OpId,
        /// `Unavailable` or `Overloaded`, with the reason.
        reply: Reply,
    },
    /// A layout to endorse or to learn.
    LayoutOffer {
        /// The layout.
        layout: Arc<Layout>,
    },
    /// Asks for the layout that the receiver has.
    LayoutRequest,
}

impl Message {
    /// Whether a message answers another.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Message::QueryReply { .. }
            | Message::ReadReply { .. }
            | Message::DigestReply { .. }
            | Message::MergeAck { .. }
            | Message::Lacks { .. }
            | Message::Failed { .. }
            | Message::StaleLayout { .. }
            | Message::ForwardReply { .. }
            | Message::ForwardRefused { .. } => Class::Reply,
            Message::Query { .. }
            | Message::Read { .. }
            | Message::Merge { .. }
            | Message::Holds { .. }
            | Message::Forward { .. }
            | Message::LayoutOffer { .. }
            | Message::LayoutRequest => Class::Request,
        }
    }

    /// The bytes that it keeps in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let carried = match self {
            Message::Query { key, .. } | Message::Read { key, .. } => key.key.len(),
            Message::QueryReply { clock, .. } => size_of_val(clock.entries()),
            Message::ReadReply { state, .. } => weight(state),
            Message::Merge { key, state, .. } => key.key.len() + weight(state),
            Message::Forward { request, .. } => request.weight(),
            _ => 0,
        };
        size_of::<Message>() + carried
    }

    /// The operation that it asks for or answers; `None` for layouts.
    #[must_use]
    pub const fn op(&self) -> Option<OpId> {
        match self {
            Message::Query { op, .. }
            | Message::QueryReply { op, .. }
            | Message::Read { op, .. }
            | Message::ReadReply { op, .. }
            | Message::DigestReply { op, .. }
            | Message::Merge { op, .. }
            | Message::MergeAck { op }
            | Message::Holds { op, .. }
            | Message::Lacks { op }
            | Message::Failed { op }
            | Message::StaleLayout { op }
            | Message::Forward { op, .. }
            | Message::ForwardRefused { op, .. }
            | Message::ForwardReply { op, .. } => Some(*op),
            Message::LayoutOffer { .. } | Message::LayoutRequest => None,
        }
    }
}

/// The bytes that a state keeps in memory, about.
#[must_use]
pub fn weight(state: &VersionSet) -> usize {
    let versions = state.versions().map(|(_, version)| {
        size_of_val(version) + version.value.len() + version.content_type.len()
    });
    size_of_val(state.entries()) + versions.sum::<usize>()
}

/// What a client asks about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for the request, or a random one.
    pub id: RequestId,
    /// Whether the client named it, so that another attempt may follow.
    pub named: bool,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Who asks, as a number that one client keeps: a hash of its address. What is remembered for a while is shared out by it.
    pub source: u64,
    /// The keyspace's name.
    pub keyspace: Arc<str>,
    /// The key: 1 to `KEY_BYTES_MAX` bytes.
    pub key: Bytes,
    /// The level; the keyspace's when absent.
    pub level: Option<Level>,
    /// How long it may take, in milliseconds; the node's default when absent.
    pub deadline_ms: Option<u64>,
    /// What to do.
    pub action: Action,
}

impl Request {
    /// The bytes that it keeps in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let (value, context) = match &self.action {
            Action::Put { value, content_type, context } => {
                (value.len() + content_type.len(), context.as_ref())
            }
            Action::Delete { context } => (0, context.as_ref()),
            Action::Get => (0, None),
        };
        let seen = context.map_or(0, |context| size_of_val(context.clock.entries()));
        size_of::<Request>() + self.key.len() + value + seen
    }

    /// Whether it may change the key.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    /// What a refusal of this attempt, before anything was done for it, means for the request. "Nothing was written" is
    /// true of a first attempt; of a later one nobody knows, because an earlier one may have written.
    #[must_use]
    pub fn refused(&self, refusal: Reply) -> Reply {
        match refusal {
            Reply::Unavailable { .. } | Reply::Overloaded { .. }
                if self.writes() && self.attempt > 1 =>
            {
                Reply::Indeterminate { acks: 0, needed: 1 }
            }
            refusal => refusal,
        }
    }
}

/// What to do with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stores a value.
    Put {
        /// The value, at most `VALUE_BYTES_MAX` bytes.
        value: Bytes,
        /// Its media type; may be empty.
        content_type: Bytes,
        /// What the client has seen and means to overwrite; blind when absent.
        context: Option<Context>,
    },
    /// Deletes: stores a tombstone.
    Delete {
        /// What the client has seen and means to delete; blind when absent.
        context: Option<Context>,
    },
    /// Reads.
    Get,
}

/// The outcome of a request. Every class says whether anything may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The write is held by as many replicas as its level promises.
    Stored {
        /// What the client knows of the key now.
        context: Context,
        /// The HLC of the write: the key's version number for people and dialects.
        version: Hlc,
    },
    /// The key has values.
    Found {
        /// The values, the newest first; in a `Newest` keyspace the first is the answer.
        siblings: Vec<Sibling>,
        /// What the client knows of the key now.
        context: Context,
    },
    /// The key has no value: never written, or deleted.
    NotFound {
        /// Values that stand beside the delete which won, the newest first: written concurrently, and there until somebody
        /// who has been told of them overwrites them.
        siblings: Vec<Sibling>,
        /// What the client knows of the key now; not empty after a delete.
        context: Context,
    },
    /// The write may or may not have happened, now or later. Never to be reported as failed.
    Indeterminate {
        /// Replicas known to hold it.
        acks: u8,
        /// Replicas needed.
        needed: u8,
    },
    /// No attempt of the request has written anything: too few replicas, or no layout yet.
    Unavailable {
        /// Why, for people.
        reason: String,
        /// Whether it may pass by itself, so that asking again helps.
        passes: bool,
    },
    /// A bound was reached; no attempt of the request has written anything.
    Overloaded {
        /// Which bound, for people.
        reason: String,
        /// Whether it may pass by itself, so that asking again helps.
        passes: bool,
    },
    /// The request makes no sense, or its id names another one here. This attempt has written nothing; of others it says nothing.
    BadRequest {
        /// Why, for people.
        reason: String,
    },
}

impl Reply {
    /// Nothing was done, for lack of nodes, and that may pass by itself.
    pub fn unavailable(reason: impl Into<String>) -> Reply {
        Reply::Unavailable { reason: reason.into(), passes: true }
    }

    /// Nothing was done, for lack of room, and that may pass by itself.
    pub fn overloaded(reason: impl Into<String>) -> Reply {
        Reply::Overloaded { reason: reason.into(), passes: true }
    }

    /// The same refusal, which stays until somebody changes what its reason names.
    #[must_use]
    pub fn lasting(mut self) -> Reply {
        if let Reply::Unavailable { passes, .. } | Reply::Overloaded { passes, .. } = &mut self {
            *passes = false;
        }
        self
    }
}

/// One value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sibling {
    /// When it was written.
    pub version: Hlc,
    /// The hash of its content.
    pub digest: u64,
    /// Its media type; may be empty.
    pub content_type: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A datagram: what its sender knows about itself and its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gossip {
    /// Only nodes of the same cluster listen.
    pub cluster: String,
    /// The sender.
    pub me: Introduction,
    /// The sender's wall time, so that clocks can be compared.
    pub wall: Wall,
    /// The layout the sender has endorsed, durably.
    pub layout: LayoutRef,
    /// Whether that layout is live as far as the sender knows.
    pub live: bool,
    /// The nodes the sender hears now, itself included, sorted.
    pub hears: Vec<NodeId>,
    /// The sender's goodbye: it stops, and takes on nothing more in this life.
    pub leaves: bool,
    /// The sender has been told that its data directory does not count any more.
    pub denied: bool,
    /// The lives that the sender's data directory has been through, the latest first.
    pub earlier: Vec<Life>,
    /// Up to where the sender's store had everything when this life began.
    pub began: Lsn,
    /// Up to where it has everything durably now.
    pub durable: Lsn,
    /// The lives of other nodes that count at the sender, the receiver's among them if it knows any.
    pub lives: Vec<Counted>,
    /// Introductions of other nodes, so that one seed is enough to meet everybody.
    pub others: Vec<Introduction>,
}

/// A life that counts at the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Whose it is.
    pub node: NodeId,
    /// Which.
    pub life: Life,
    /// Up to where it has told that its store has everything durably.
    pub durable: Lsn,
}

/// How a node introduces itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// Its label.
    pub name: String,
    /// Where peers reach it.
    pub peer_address: Address,
    /// Where clients reach it.
    pub client_address: Address,
    /// How many nodes it expects to form the first layout with.
    pub expect: u32,
    /// Its share of the data.
    pub weight: u32,
    /// Its failure domain.
    pub zone: String,
}
