//! Layouts on their way between nodes, and as the record that a node keeps of its own.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::LAYOUTS_LIVE_MAX;
use crate::error::{Error, Result};
use crate::id::GroupId;
use crate::layout::keyspace::{self, Keyspace, Policy};
use crate::layout::live::LayoutSet;
use crate::layout::staged::{Definition, Staged, Stamped, Subject, WISHES_MAX, Wish, WishStamp};
use crate::layout::{Group, Layout, LayoutParts, LayoutRef, Quorums, Role};
use crate::wire::frame::{Generation, Reader, Wire, Writer, put_all, read_of, table, take_all};

/// The number of the first generation of layouts.
const FIRST: u8 = 2;

/// A message about the layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LayoutMessage {
    /// A layout to endorse or to learn.
    Offer {
        /// The layout.
        layout: Arc<Layout>,
    },
    /// Asks for the layouts that the receiver has.
    Request,
    /// A layout that is live, for a node that does not know it.
    Live {
        /// The layout.
        layout: Arc<Layout>,
    },
    /// What is staged at the sender.
    Staged {
        /// All of it.
        staged: Arc<Staged>,
    },
}

/// A layout as bytes. Equal layouts have equal bytes, whatever program writes them, because nodes name a layout by its bytes: it is
/// written in the first generation that has a place for all of it.
#[must_use]
pub fn encode_layout(layout: &Layout) -> Bytes {
    let written = |generation: Generation| {
        let mut to = Writer::of(generation, &[generation.number(FIRST)]);
        layout.put(&mut to);
        to.is_whole().then(|| Bytes::from(to.finish().0))
    };
    let first = written(Generation::First);
    first
        .or_else(|| written(Generation::NEWEST))
        .expect("the newest generation has a place for all")
}

/// The layout in `bytes`, when it keeps the invariants of layouts.
pub fn decode_layout(bytes: &Bytes) -> Result<Layout> {
    let version = *bytes.first().ok_or(Error::Malformed("a layout is empty"))?;
    read_of(Generation::of("a layout", version, FIRST)?, bytes.slice(1..), Bytes::new())
}

/// What is staged, as a node keeps it.
#[must_use]
pub fn encode_staged(staged: &Staged) -> Bytes {
    let mut to = Writer::of(Generation::NEWEST, &[Generation::NEWEST.number(FIRST)]);
    staged.put(&mut to);
    Bytes::from(to.finish().0)
}

/// What is staged, in `bytes`.
pub fn decode_staged(bytes: &Bytes) -> Result<Staged> {
    let version = *bytes.first().ok_or(Error::Malformed("what is staged is empty"))?;
    let generation = Generation::of("what is staged", version, FIRST)?;
    read_of(generation, bytes.slice(1..), Bytes::new())
}

impl Wire for LayoutMessage {
    fn put(&self, to: &mut Writer) {
        match self {
            LayoutMessage::Offer { layout } => {
                1u8.put(to);
                layout.put(to);
            }
            LayoutMessage::Request => 2u8.put(to),
            LayoutMessage::Live { .. } | LayoutMessage::Staged { .. }
                if to.generation() == Generation::First =>
            {
                // A node of the first generation has one layout and never another.
                to.leave_out(false);
            }
            LayoutMessage::Live { layout } => {
                3u8.put(to);
                layout.put(to);
            }
            LayoutMessage::Staged { staged } => {
                4u8.put(to);
                staged.put(to);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let tag: u8 = Wire::take(from)?;
        match tag {
            1 => Ok(LayoutMessage::Offer { layout: Wire::take(from)? }),
            2 => Ok(LayoutMessage::Request),
            3 if from.generation() > Generation::First => {
                Ok(LayoutMessage::Live { layout: Wire::take(from)? })
            }
            4 if from.generation() > Generation::First => {
                Ok(LayoutMessage::Staged { staged: Wire::take(from)? })
            }
            _ => Err(Error::Malformed("an unknown kind of LayoutMessage")),
        }
    }
}

impl Wire for Staged {
    fn put(&self, to: &mut Writer) {
        let wishes: Vec<(Subject, Stamped)> =
            self.wishes().map(|(subject, stamped)| (subject.clone(), stamped.clone())).collect();
        wishes.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let wishes: Vec<(Subject, Stamped)> = take_all(from, WISHES_MAX)?;
        let mut staged = Staged::default();
        for (subject, stamped) in wishes {
            staged.learn(subject, stamped);
        }
        Ok(staged)
    }
}

table!(enum Subject { 1 Node(node), 2 Keyspace(name), 3 Wait(node) });
table!(struct WishStamp { at, by });
table!(struct Stamped { stamp, wish });
/// A keyspace's policy, and whether it is sloppy, as one number: one that is not sloppy has the bytes, and its layout the name, that
/// they had before there were sloppy ones.
#[derive(Clone, Copy)]
enum Manner {
    Newest,
    Siblings,
    SloppyNewest,
    SloppySiblings,
}

table!(enum Manner { 1 Newest, 2 Siblings, 3 SloppyNewest, 4 SloppySiblings });

impl Manner {
    const fn of(policy: Policy, sloppy: bool) -> Manner {
        match (policy, sloppy) {
            (Policy::Newest, false) => Manner::Newest,
            (Policy::Siblings, false) => Manner::Siblings,
            (Policy::Newest, true) => Manner::SloppyNewest,
            (Policy::Siblings, true) => Manner::SloppySiblings,
        }
    }

    const fn parts(self) -> (Policy, bool) {
        match self {
            Manner::Newest => (Policy::Newest, false),
            Manner::Siblings => (Policy::Siblings, false),
            Manner::SloppyNewest => (Policy::Newest, true),
            Manner::SloppySiblings => (Policy::Siblings, true),
        }
    }
}

impl Wire for Definition {
    fn put(&self, to: &mut Writer) {
        self.quorums.put(to);
        Manner::of(self.policy, self.sloppy).put(to);
        self.level.put(to);
        self.ttl_ms.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let quorums = Wire::take(from)?;
        let (policy, sloppy) = Manner::take(from)?.parts();
        let (level, ttl_ms) = (Wire::take(from)?, Wire::take(from)?);
        Ok(Definition { quorums, policy, level, ttl_ms, sloppy })
    }
}

table!(enum Wish {
    1 Nothing,
    2 Role { role, replaces, by_itself },
    3 Removed,
    4 Keyspace(definition),
    5 Dropped,
    6 Skipped(version),
    7 GivenUp(version)
});
table!(struct LayoutRef { version, digest });

impl Wire for LayoutSet {
    fn put(&self, to: &mut Writer) {
        // The first generation has one, in the envelope.
        match to.generation() {
            Generation::First => to.leave_out(self.references().len() <= 1),
            Generation::Second => put_all(self.references(), to),
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        if from.generation() == Generation::First {
            return Ok(from.layouts());
        }
        let references: SmallVec<[LayoutRef; 1]> = take_all(from, LAYOUTS_LIVE_MAX)?;
        LayoutSet::from_references(&references).ok_or(Error::Malformed("not a set of layouts"))
    }
}

table!(struct Quorums { n, r, w });
table!(struct Role { node, name, weight, zone });
table!(struct Group { id, wanted, quorums, owners });

impl Wire for Keyspace {
    fn put(&self, to: &mut Writer) {
        self.id.put(to);
        self.name.put(to);
        Manner::of(self.policy, self.sloppy).put(to);
        self.level.put(to);
        match to.generation() {
            Generation::First => {
                to.leave_out(self.group == GroupId::FIRST && self.ttl_ms == 0 && !self.sloppy);
            }
            Generation::Second => (self.group, self.ttl_ms).put(to),
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let id = Wire::take(from)?;
        let name = Wire::take(from)?;
        let (policy, sloppy) = Manner::take(from)?.parts();
        let level = Wire::take(from)?;
        let (group, ttl_ms) = match from.generation() {
            Generation::First => (GroupId::FIRST, 0),
            Generation::Second => Wire::take(from)?,
        };
        Ok(Keyspace { id, name, group, policy, level, ttl_ms, sloppy })
    }
}

impl Wire for Layout {
    fn put(&self, to: &mut Writer) {
        let LayoutParts { version, partitions, roles, keyspaces, groups, .. } = self.parts();
        let LayoutParts { previous, founding, gone, removed, last_keyspace, .. } = self.parts();
        version.put(to);
        partitions.put(to);
        if to.generation() == Generation::First {
            // There is one group, whose fields stand between the others.
            let [Group { id: GroupId::FIRST, wanted, quorums, owners }] = &groups[..] else {
                return to.leave_out(false);
            };
            // It has no place for what only layouts after the first have.
            to.leave_out(version.0 == 1 && gone.is_empty() && removed.is_empty());
            to.leave_out(*last_keyspace == keyspace::highest_id(keyspaces));
            wanted.put(to);
            quorums.put(to);
            roles.put(to);
            keyspaces.put(to);
            return owners.put(to);
        }
        roles.put(to);
        keyspaces.put(to);
        groups.put(to);
        (*previous, *founding).put(to);
        gone.put(to);
        removed.put(to);
        last_keyspace.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let version = Wire::take(from)?;
        let partitions = Wire::take(from)?;
        let parts = if from.generation() == Generation::First {
            let wanted = Wire::take(from)?;
            let quorums = Wire::take(from)?;
            let roles = Wire::take(from)?;
            let keyspaces: Vec<Keyspace> = Wire::take(from)?;
            let owners = Wire::take(from)?;
            let group = Group { id: GroupId::FIRST, wanted, quorums, owners };
            LayoutParts { version, ..LayoutParts::alone(partitions, roles, keyspaces, group) }
        } else {
            let roles = Wire::take(from)?;
            let keyspaces = Wire::take(from)?;
            let groups = Wire::take(from)?;
            let (previous, founding) = Wire::take(from)?;
            let (gone, removed) = (Wire::take(from)?, Wire::take(from)?);
            let last_keyspace = Wire::take(from)?;
            LayoutParts {
                version,
                partitions,
                roles,
                keyspaces,
                groups,
                previous,
                founding,
                gone,
                removed,
                last_keyspace,
            }
        };
        Layout::from_parts(parts).ok_or(Error::Malformed("not a sound layout"))
    }
}
