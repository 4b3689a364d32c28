//! What nodes say to each other about one key: a coordinator asks the key's primaries, and they answer.
//!
//! Every question about a key is an `Ask`, and a node looks at no `Ask` before the layout fence has let it through
//! (`node`). So a new question is fenced because it is one, and nobody has to remember it.

use bytes::Bytes;

use crate::error::Result;
use crate::id::{ActorId, Epoch, KeyspaceId, OpId, Token, Unit};
use crate::layout::keyspace;
use crate::layout::live::LayoutSet;
use crate::version::dvv::{VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::version::outline::Outline;
use crate::wire::frame::{Generation, Reader, Wire, Writer, table};
use crate::wire::state;

/// A key with its keyspace, and where it lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyRef {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The client's key.
    pub key: Bytes,
    /// Hashed once for all that is done with the key.
    token: Token,
}

impl KeyRef {
    /// The key of this name in a keyspace.
    #[must_use]
    pub fn new(keyspace: KeyspaceId, key: Bytes) -> KeyRef {
        let token = keyspace::token(keyspace, &key);
        KeyRef { keyspace, key, token }
    }

    /// The same key in memory of its own: one that was told is a part of a message, which may have a value with it.
    #[must_use]
    pub fn detached(&self) -> KeyRef {
        KeyRef { key: Bytes::copy_from_slice(&self.key), ..*self }
    }

    /// Where it lies.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }
}

impl Wire for KeyRef {
    fn put(&self, to: &mut Writer) {
        self.keyspace.put(to);
        self.key.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Ok(KeyRef::new(Wire::take(from)?, Wire::take(from)?))
    }
}

/// A message about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyMessage {
    /// A coordinator asks.
    Ask(Ask),
    /// A replica answers.
    Answer {
        /// The operation that asked.
        op: OpId,
        /// The layouts that were live at the replica when it answered.
        layouts: LayoutSet,
        /// What it is told.
        answer: Answer,
    },
}

/// A question to a replica about one key. All questions are idempotent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The operation that asks.
    pub op: OpId,
    /// The layouts that the operation lives under. A replica that lacks one of them does nothing.
    pub layouts: LayoutSet,
    /// The key.
    pub key: KeyRef,
    /// What is asked.
    pub question: Question,
}

/// What is asked of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// What versions does the key have? Asked before a write; the answer need not be durable.
    Query,
    /// What is the key's state, as far as it is durable at the replica?
    Read {
        /// Whether a digest is enough.
        digest_only: bool,
        /// The highest purge epoch of the unit that who asks has heard of.
        heard: Epoch,
    },
    /// Merge this state and make it durable: after a put, for a write-back or a repair.
    Merge {
        /// What to merge.
        state: VersionSet,
        /// The unit's purge epoch where and when this was read, or issued.
        epoch: Epoch,
    },
    /// Does the replica hold all of a state that was sent before? `MergeAck` when it is durable there, or `Lacks`.
    Holds {
        /// What was sent, without its values.
        outline: Outline,
    },
    /// Merge this, of which nothing is left but deletions: is it then exactly what is here, durably, and owed to nobody?
    Confirm {
        /// What is to be purged.
        state: VersionSet,
        /// As in `Merge`.
        epoch: Epoch,
    },
    /// All owners have confirmed this state: delete it, or what it knows of some actors, if it is what is here. `MergeAck` when that
    /// is durable, `Lacks` when something else is here.
    Purge {
        /// `VersionSet::digest` of the state.
        digest: u64,
        /// The unit's purge epoch from now on, at least.
        epoch: Epoch,
        /// The actors; none: all of the key.
        gone: Vec<ActorId>,
    },
}

impl Question {
    /// Whether the answer says what the replica has: one that has only a part of the unit does not count.
    #[must_use]
    pub const fn tells(&self) -> bool {
        match self {
            Question::Query | Question::Read { .. } => true,
            Question::Merge { .. }
            | Question::Holds { .. }
            | Question::Confirm { .. }
            | Question::Purge { .. } => false,
        }
    }
}

/// What a replica answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To `Query`.
    Query {
        /// All dots known.
        clock: VersionVector,
        /// The highest HLC of any version held.
        highest: Hlc,
        /// Whether the replica takes values now.
        room: Room,
    },
    /// To `Read`: the whole state.
    State {
        /// The state; empty when the key was never written here, or was purged.
        state: VersionSet,
        /// The unit's purge epoch at the replica when it was read.
        epoch: Epoch,
    },
    /// To `Read`: the digest of the state.
    Digest {
        /// `VersionSet::digest`.
        digest: u64,
    },
    /// What `Merge` brought, or `Holds` asked for, is durable here.
    MergeAck,
    /// The replica does not hold what `Holds` asks for: it never arrived.
    Lacks,
    /// The replica could not do what it was asked: a disk error, or a bound. Never means "absent".
    Failed,
    /// The replica does not have a layout that the question was asked under, and did nothing.
    StaleLayout,
    /// The replica does not own the key under any live layout, or does not have all of it yet, and did nothing: its word counts in
    /// no quorum.
    NotCounted,
    /// To `Merge` and `Confirm`: something was purged since this was read, and it may be a part of that. Nothing was merged.
    Outdated {
        /// The key's unit.
        unit: Unit,
        /// Its purge epoch at the replica.
        epoch: Epoch,
        /// What the replica has of the key.
        has: Has,
    },
    /// To `Confirm`: exactly this is here, durably.
    Confirmed {
        /// The unit's purge epoch at the replica.
        epoch: Epoch,
        /// The actor that the replica issues with; `None`: it will draw one.
        actor: Option<ActorId>,
    },
    /// To `Confirm`: not now.
    NotConfirmed {
        /// Why.
        why: Blocked,
    },
}

/// What a replica has of a key whose state it has refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Has {
    /// Nothing at all.
    Nothing,
    /// Every version that was refused is known there, and is there or gone.
    All,
    /// Not all of them, or it cannot say.
    Less,
}

/// Why an owner does not let a key be purged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Blocked {
    /// It holds something else.
    Differs,
    /// It owes the key to somebody.
    Owed,
    /// It does not have all of the unit.
    Partial,
    /// It is not there, or does not answer. Nobody says this of himself.
    Absent,
    /// It has other layouts. Nobody says this of himself.
    OtherLayouts,
    /// It cannot read its record, or has no room. Nobody says this of himself.
    Failed,
}

/// Whether a replica has room for values. One of the generation before does not say, and is taken to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room(pub bool);

impl Wire for Room {
    fn put(&self, to: &mut Writer) {
        if to.generation() > Generation::First {
            self.0.put(to);
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let has_room = from.generation() == Generation::First || Wire::take(from)?;
        Ok(Room(has_room))
    }
}

/// The generation before does not say it, and has purged nothing.
impl Wire for Epoch {
    fn put(&self, to: &mut Writer) {
        if to.generation() > Generation::First {
            self.0.put(to);
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let has_epochs = from.generation() > Generation::First;
        Ok(Epoch(if has_epochs { Wire::take(from)? } else { 0 }))
    }
}

impl KeyMessage {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            KeyMessage::Ask(ask) => ask.weight(),
            KeyMessage::Answer { answer, .. } => answer.weight(),
        }
    }
}

impl Ask {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let carried = match &self.question {
            Question::Query | Question::Read { .. } => 0,
            Question::Merge { state, .. } | Question::Confirm { state, .. } => state::weight(state),
            Question::Purge { gone, .. } => size_of_val(&gone[..]),
            Question::Holds { outline } => {
                size_of_val(outline.known.entries()) + size_of_val(&outline.held[..])
            }
        };
        self.key.key.len() + carried
    }
}

impl Answer {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Answer::Query { clock, .. } => size_of_val(clock.entries()),
            Answer::State { state, .. } => state::weight(state),
            Answer::Digest { .. }
            | Answer::MergeAck
            | Answer::Lacks
            | Answer::Failed
            | Answer::StaleLayout
            | Answer::NotCounted
            | Answer::Outdated { .. }
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. } => 0,
        }
    }
}

table!(struct Ask { op, layouts, key, question });
table!(enum KeyMessage { 1 Ask(ask), 2 Answer { op, layouts, answer } });
table!(enum Question {
    1 Query,
    2 Read { digest_only, heard },
    3 Merge { state, epoch },
    4 Holds { outline },
    5 Confirm { state, epoch },
    6 Purge { digest, epoch, gone },
});
table!(enum Answer {
    1 Query { clock, highest, room },
    2 State { state, epoch },
    3 Digest { digest },
    4 MergeAck,
    5 Lacks,
    6 Failed,
    7 StaleLayout,
    8 NotCounted,
    9 Outdated { unit, epoch, has },
    10 Confirmed { epoch, actor },
    11 NotConfirmed { why },
});
table!(enum Has { 1 Nothing, 2 All, 3 Less });
table!(enum Blocked { 1 Differs, 2 Owed, 3 Partial, 4 Absent, 5 OtherLayouts, 6 Failed });
