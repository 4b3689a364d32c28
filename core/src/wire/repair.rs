//! What two owners of a unit say to each other when they compare its copies by their hash trees, level by level.
//!
//! Who compares asks; who is asked says what it has, and keeps nothing of it. The states themselves are asked for and brought by the
//! questions that everybody asks (`Question::Read`, `Question::Merge`).

use bytes::Bytes;

use crate::id::{OpId, Unit};
use crate::layout::live::LayoutSet;
use crate::wire::frame::table;
use crate::wire::transfer::Digested;

/// A message about the hash trees of units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RepairMessage {
    /// A question. All are idempotent.
    Ask {
        /// The operation of who asks.
        op: OpId,
        /// The layouts that are live there. Who lacks one of them does nothing.
        layouts: LayoutSet,
        /// Which hashes its trees are made of. Who has others compares nothing.
        format: u8,
        /// What is asked.
        question: Compare,
    },
    /// What was found.
    Answer {
        /// The operation that asked.
        op: OpId,
        /// The layouts that were live at who answers.
        layouts: LayoutSet,
        /// Which hashes its trees are made of.
        format: u8,
        /// What it says.
        told: Told,
    },
}

/// What is asked about trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// The roots of these units: at most `REPAIR_ROOTS_MAX`.
    Roots {
        /// The units.
        units: Vec<Unit>,
    },
    /// The nodes below the root.
    Inner {
        /// The unit.
        unit: Unit,
    },
    /// The leaves below some nodes.
    Leaves {
        /// The unit.
        unit: Unit,
        /// A bit for each node that is meant.
        inner: u32,
    },
    /// The keys of some leaves, with the digests of their states.
    Keys {
        /// The unit.
        unit: Unit,
        /// The leaves: at most `REPAIR_LEAVES_MAX`, in order.
        leaves: Vec<u16>,
        /// From which place of the unit's order on; empty: from its beginning.
        from: Bytes,
    },
    /// All keys and states were equal, and leaves were not: the tree of the unit is to be made anew.
    Regrow {
        /// The unit.
        unit: Unit,
    },
    /// Please begin to compare soon: something may be missing at one of us.
    Begin,
}

/// What is said about trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// The roots of those units whose trees are complete there.
    Roots {
        /// Each with its hash.
        roots: Vec<Rooted>,
    },
    /// The hashes that were asked for, in order.
    Hashes {
        /// Of nodes or of leaves.
        hashes: Vec<u64>,
    },
    /// The next keys of the leaves that were asked for.
    Keys {
        /// In order.
        keys: Vec<Digested>,
        /// Where to go on; `None`: these were the last.
        next: Option<Bytes>,
    },
    /// It was done, or will be.
    Done,
    /// A record there cannot be read, and is taken for absent by nobody.
    Unreadable,
    /// It does not have a layout that it was asked under.
    StaleLayout,
    /// It does not own the unit, or does not have all of it, or its tree is not complete yet.
    NotCounted,
    /// Its trees are made of other hashes.
    OtherFormat,
    /// It must not serve, or its disk failed.
    Failed,
}

/// The root of a unit's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rooted {
    /// The unit.
    pub unit: Unit,
    /// Its hash.
    pub root: u64,
}

impl RepairMessage {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            RepairMessage::Ask { question, .. } => match question {
                Compare::Roots { units } => size_of_val(&units[..]),
                Compare::Keys { leaves, from, .. } => size_of_val(&leaves[..]) + from.len(),
                Compare::Inner { .. }
                | Compare::Leaves { .. }
                | Compare::Regrow { .. }
                | Compare::Begin => 0,
            },
            RepairMessage::Answer { told, .. } => match told {
                Told::Roots { roots } => size_of_val(&roots[..]),
                Told::Hashes { hashes } => size_of_val(&hashes[..]),
                Told::Keys { keys, .. } => {
                    size_of_val(&keys[..]) + keys.iter().map(|one| one.key.key.len()).sum::<usize>()
                }
                Told::Done
                | Told::Unreadable
                | Told::StaleLayout
                | Told::NotCounted
                | Told::OtherFormat
                | Told::Failed => 0,
            },
        }
    }
}

table!(struct Rooted { unit, root });
table!(enum RepairMessage {
    1 Ask { op, layouts, format, question },
    2 Answer { op, layouts, format, told },
});
table!(enum Compare {
    1 Roots { units },
    2 Inner { unit },
    3 Leaves { unit, inner },
    4 Keys { unit, leaves, from },
    5 Regrow { unit },
    6 Begin,
});
table!(enum Told {
    1 Roots { roots },
    2 Hashes { hashes },
    3 Keys { keys, next },
    4 Done,
    5 Unreadable,
    6 StaleLayout,
    7 NotCounted,
    8 OtherFormat,
    9 Failed,
});
