//! The keys of one data file in order, in memory: for the file that is written, and for a sealed one
//! until its hint is written. A file is sealed when its table reaches a bound, so there are
//! at most a few of these, however many keys there are.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::log::follow::Entry;

/// About what an entry costs beside its key, in bytes: 24 of entry, 16 of key, and the tree.
const OVERHEAD: usize = 64;

/// Keys in order.
#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<Box<[u8]>, Entry>,
    bytes: usize,
    tombstones: u64,
}

impl Table {
    /// From all records of a file in the order they lie in it.
    pub(super) fn from_records(records: Vec<(Box<[u8]>, Entry)>) -> Table {
        // Of equal keys the last stays.
        let entries: BTreeMap<Box<[u8]>, Entry> = records.into_iter().collect();
        let bytes = entries.keys().map(|key| key.len() + OVERHEAD).sum();
        let tombstones = entries.values().filter(|entry| entry.deleted).count() as u64;
        Table { entries, bytes, tombstones }
    }

    pub(super) fn insert(&mut self, key: &[u8], entry: Entry) {
        self.tombstones += u64::from(entry.deleted);
        if let Some(old) = self.entries.get_mut(key) {
            self.tombstones -= u64::from(old.deleted);
            *old = entry;
        } else {
            self.bytes += key.len() + OVERHEAD;
            self.entries.insert(key.into(), entry);
        }
        assert!(self.tombstones <= self.len(), "a tombstone is an entry");
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        self.entries.get(key).copied()
    }

    /// Entries at or after `from`.
    pub(super) fn from(&self, from: &[u8]) -> impl Iterator<Item = (&[u8], Entry)> {
        self.range((Bound::Included(from), Bound::Unbounded))
    }

    /// Entries after `key`, all when there is none.
    pub(super) fn after(&self, key: Option<&[u8]>) -> impl Iterator<Item = (&[u8], Entry)> {
        self.range((key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// About the memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> impl Iterator<Item = (&[u8], Entry)> {
        self.entries.range::<[u8], _>(bounds).map(|(key, entry)| (&key[..], *entry))
    }
}
