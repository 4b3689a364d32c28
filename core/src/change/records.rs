//! How layouts lie in a node's store: two records for each of two rows, the layout and the mark that says that it is live.
//!
//! All keys below 1 are the node's own (see `replica`). Left out: what the records mean for each other: see `rows`.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::LAYOUTS_LIVE_MAX;
use crate::engine::{Batch, Change, Engine};
use crate::error::Result;
use crate::id::LayoutVersion;
use crate::wire::layout::decode_layout;

/// The engine keys of the older layout and of the newer one, and of the records that say that they are live. All keys below 1 are
/// the node's own (see `replica`).
pub(super) const KEYS: [(&[u8], &[u8]); LAYOUTS_LIVE_MAX] =
    [(b"\0layout", b"\0layout-live"), (b"\0layout-next", b"\0layout-next-live")];

/// The newest layout that a store says is live; version 0 when it says so of none. `record`: what it has under a key.
#[must_use]
pub fn noted_live(record: impl Fn(&[u8]) -> Option<Bytes>) -> LayoutVersion {
    let live = KEYS.iter().filter(|(_, mark)| record(mark).is_some());
    let layouts = live.filter_map(|(body, _)| decode_layout(&record(body)?).ok());
    layouts.map(|layout| layout.version()).max().unwrap_or_default()
}

pub(super) fn put(key: &'static [u8], head: Bytes) -> Change {
    Change::Put { key: Bytes::from_static(key), head, body: SmallVec::new(), delta: 0 }
}

pub(super) fn removal<const N: usize>(keys: [&'static [u8]; N]) -> Batch {
    let delete = |key| Change::Delete { key: Bytes::from_static(key), delta: 0 };
    Batch { changes: keys.map(delete).into_iter().collect() }
}

pub(super) fn stored(engine: &mut dyn Engine, key: &[u8]) -> Result<Option<Bytes>> {
    // A scan waits for the device where `get` would answer `Cold`.
    let page = engine.scan_from(key, 1, usize::MAX)?;
    let record = page.records.into_iter().find(|(found, _)| found == key);
    Ok(record.map(|(_, record)| record.head))
}
