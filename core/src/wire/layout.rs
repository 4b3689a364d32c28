//! Layouts on their way between nodes, and as the record that a node keeps of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::LAYOUTS_LIVE_MAX;
use crate::error::{Error, Result};
use crate::layout::keyspace::{Keyspace, Policy};
use crate::layout::live::LayoutSet;
use crate::layout::{Layout, LayoutParts, LayoutRef, Quorums, Role};
use crate::wire::frame::{
    Generation, Reader, Wire, Writer, check_version, put_all, read, table, take_all,
};

/// The version of layouts.
const VERSION: u8 = 2;

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

/// A layout as bytes. Equal layouts have equal bytes.
#[must_use]
pub fn encode_layout(layout: &Layout) -> Bytes {
    let mut to = Writer::after(&[VERSION]);
    layout.put(&mut to);
    let (bytes, _) = to.finish();
    Bytes::from(bytes)
}

/// The layout in `bytes`, when it keeps the invariants of layouts.
pub fn decode_layout(bytes: &Bytes) -> Result<Layout> {
    let version = *bytes.first().ok_or(Error::Malformed("a layout is empty"))?;
    check_version("a layout", version, VERSION)?;
    read(bytes.slice(1..), Bytes::new())
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
        LayoutSet::from_references(take_all(from, LAYOUTS_LIVE_MAX)?)
            .ok_or(Error::Malformed("not a set of layouts"))
    }
}

table!(struct Quorums { n, r, w });
table!(struct Role { node, name, weight, zone });
table!(enum Policy { 1 Newest, 2 Siblings });
table!(struct Keyspace { id, name, policy, level });
table!(struct LayoutParts { version, partitions, wanted, quorums, roles, keyspaces, owners });

impl Wire for Layout {
    fn put(&self, to: &mut Writer) {
        self.to_parts().put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Layout::from_parts(Wire::take(from)?).ok_or(Error::Malformed("not a sound layout"))
    }
}
