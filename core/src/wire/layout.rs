//! Layouts on their way between nodes, and as the record that a node keeps of its own.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::LAYOUTS_LIVE_MAX;
use crate::error::{Error, Result};
use crate::id::GroupId;
use crate::layout::keyspace::{Keyspace, Policy};
use crate::layout::live::LayoutSet;
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
    /// Asks for the layout that the receiver has.
    Request,
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

table!(enum LayoutMessage { 1 Offer { layout }, 2 Request });
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
table!(enum Policy { 1 Newest, 2 Siblings });
table!(struct Group { id, wanted, quorums, owners });

impl Wire for Keyspace {
    fn put(&self, to: &mut Writer) {
        self.id.put(to);
        self.name.put(to);
        self.policy.put(to);
        self.level.put(to);
        match to.generation() {
            Generation::First => to.leave_out(self.group == GroupId::FIRST),
            Generation::Second => self.group.put(to),
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let id = Wire::take(from)?;
        let name = Wire::take(from)?;
        let policy = Wire::take(from)?;
        let level = Wire::take(from)?;
        let group = match from.generation() {
            Generation::First => GroupId::FIRST,
            Generation::Second => Wire::take(from)?,
        };
        Ok(Keyspace { id, name, group, policy, level })
    }
}

impl Wire for Layout {
    fn put(&self, to: &mut Writer) {
        let LayoutParts { version, partitions, roles, keyspaces, groups } = self.parts();
        version.put(to);
        partitions.put(to);
        if to.generation() == Generation::First {
            // There is one group, whose fields stand between the others.
            let [Group { id: GroupId::FIRST, wanted, quorums, owners }] = &groups[..] else {
                return to.leave_out(false);
            };
            wanted.put(to);
            quorums.put(to);
            roles.put(to);
            keyspaces.put(to);
            return owners.put(to);
        }
        roles.put(to);
        keyspaces.put(to);
        groups.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let version = Wire::take(from)?;
        let partitions = Wire::take(from)?;
        let parts = if from.generation() == Generation::First {
            let wanted = Wire::take(from)?;
            let quorums = Wire::take(from)?;
            let roles = Wire::take(from)?;
            let keyspaces = Wire::take(from)?;
            let owners = Wire::take(from)?;
            let groups = vec![Group { id: GroupId::FIRST, wanted, quorums, owners }];
            LayoutParts { version, partitions, roles, keyspaces, groups }
        } else {
            let roles = Wire::take(from)?;
            let keyspaces = Wire::take(from)?;
            LayoutParts { version, partitions, roles, keyspaces, groups: Wire::take(from)? }
        };
        Layout::from_parts(parts).ok_or(Error::Malformed("not a sound layout"))
    }
}
