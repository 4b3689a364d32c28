//! What is said about a unit that one node takes from another: which keys the source has of it, and in which states.
//!
//! The states themselves are asked for as anybody asks for one (`Question::Read`), so that they pass the same fence, wait for the
//! same disk, and are bounded by the same budgets.

use bytes::Bytes;

use crate::id::{Epoch, OpId, Unit};
use crate::layout::live::LayoutSet;
use crate::version::hlc::Hlc;
use crate::wire::frame::table;
use crate::wire::key::KeyRef;

/// A message about a unit that is taken from a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransferMessage {
    /// Which keys do you have of this unit? Idempotent.
    Ask {
        /// The receiver's operation.
        op: OpId,
        /// The layouts that are live at the receiver. A source that lacks one of them does nothing.
        layouts: LayoutSet,
        /// The unit.
        unit: Unit,
        /// From which place of the unit's order on; empty: from its beginning.
        from: Bytes,
    },
    /// What the source says.
    Answer {
        /// The receiver's operation.
        op: OpId,
        /// The layouts that were live at the source when it answered.
        layouts: LayoutSet,
        /// What it says.
        listing: Listing,
    },
}

/// What a source says of a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listing {
    /// Its next keys.
    Keys {
        /// At most `PAGE_KEYS_MAX`, in order.
        keys: Vec<Digested>,
        /// Where to go on; `None`: these were the last.
        next: Option<Bytes>,
        /// Its purge epoch of the unit, and its purge floor.
        purged: (Epoch, Hlc),
    },
    /// It cannot tell yet: operations of its own go on that began under older layouts.
    NotYet,
    /// The record at this place cannot be read there. It tells no more before that is replaced.
    Unreadable,
    /// It does not have a layout that it was asked under.
    StaleLayout,
    /// It does not own the unit, or does not have all of it itself.
    NotCounted,
    /// It must not serve, or its disk failed.
    Failed,
}

/// A key, and which state it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digested {
    /// The key.
    pub key: KeyRef,
    /// `VersionSet::digest` of its state.
    pub digest: u64,
    /// How many bytes its values have together.
    pub bytes: u64,
}

impl TransferMessage {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            TransferMessage::Ask { from, .. } => from.len(),
            TransferMessage::Answer { listing, .. } => match listing {
                Listing::Keys { keys, .. } => {
                    size_of_val(&keys[..]) + keys.iter().map(|one| one.key.key.len()).sum::<usize>()
                }
                Listing::NotYet
                | Listing::Unreadable
                | Listing::StaleLayout
                | Listing::NotCounted
                | Listing::Failed => 0,
            },
        }
    }
}

table!(struct Digested { key, digest, bytes });
table!(enum TransferMessage {
    1 Ask { op, layouts, unit, from },
    2 Answer { op, layouts, listing },
});
table!(enum Listing {
    1 Keys { keys, next, purged },
    2 NotYet,
    3 Unreadable,
    4 StaleLayout,
    5 NotCounted,
    6 Failed,
});
