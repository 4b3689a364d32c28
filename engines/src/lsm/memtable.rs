//! The newest records in memory, in key order, until they are in a table.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use bytes::Bytes;

use super::block::{Item, Kind};

/// About what an entry costs beside its key, head and body, in bytes.
const OVERHEAD: usize = 96;

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) lsn: u64,
    pub(super) kind: Kind,
    head_len: u32,
    /// Head and body.
    value: Bytes,
}

/// Keys in order.
#[derive(Default)]
pub(super) struct Memtable {
    entries: BTreeMap<Box<[u8]>, Stored>,
    bytes: usize,
    /// The last write in it.
    pub(super) last: u64,
}

impl Stored {
    /// Head and body, in one piece of memory of their own: what a client sent in a larger piece is not kept alive.
    pub(super) fn put(lsn: u64, head: &[u8], body: &[impl AsRef<[u8]>]) -> Stored {
        let len = head.len() + body.iter().map(|piece| piece.as_ref().len()).sum::<usize>();
        let mut value = Vec::with_capacity(len);
        value.extend_from_slice(head);
        body.iter().for_each(|piece| value.extend_from_slice(piece.as_ref()));
        Stored { lsn, kind: Kind::Put, head_len: head.len() as u32, value: value.into() }
    }

    pub(super) const fn delete(lsn: u64) -> Stored {
        Stored { lsn, kind: Kind::Delete, head_len: 0, value: Bytes::new() }
    }

    /// A record whose body is damaged.
    pub(super) fn bodiless(lsn: u64, head: &[u8]) -> Stored {
        let value = Bytes::copy_from_slice(head);
        Stored { lsn, kind: Kind::Bodiless, head_len: head.len() as u32, value }
    }

    pub(super) fn head(&self) -> Bytes {
        self.value.slice(..self.head_len as usize)
    }

    pub(super) fn body(&self) -> Bytes {
        self.value.slice(self.head_len as usize..)
    }

    /// How long head and body are.
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }

    pub(super) fn item<'a>(&'a self, key: &'a [u8]) -> Item<'a> {
        let (head, body) = self.value.split_at(self.head_len as usize);
        Item { key, lsn: self.lsn, kind: self.kind, head, body }
    }
}

impl Memtable {
    pub(super) fn insert(&mut self, key: &[u8], stored: Stored) {
        self.last = self.last.max(stored.lsn);
        self.bytes += stored.len();
        if let Some(old) = self.entries.get_mut(key) {
            self.bytes -= old.len();
            *old = stored;
        } else {
            self.bytes += key.len() + OVERHEAD;
            self.entries.insert(key.into(), stored);
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.entries.get(key)
    }

    /// Entries at or after `from`.
    pub(super) fn from(&self, from: &[u8]) -> Range<'_, Box<[u8]>, Stored> {
        self.entries.range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
    }

    /// Entries after `key`, all when there is none.
    pub(super) fn after(&self, key: Option<&[u8]>) -> Range<'_, Box<[u8]>, Stored> {
        let bound = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<[u8], _>((bound, Bound::Unbounded))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About the memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
