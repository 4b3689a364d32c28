//! The keys of one data file in order, in memory: for the file that is written, and for a sealed one
//! until its hint is written. A file is sealed when its table reaches a bound, so there are
//! at most a few of these, however many keys there are.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::log::follow::Entry;

/// About what an entry costs beside its key, in bytes: 24 of entry, 40 of key, and what a tree leaves empty.
const OVERHEAD: usize = 96;

/// A key, with its first bytes where the tree compares them without going to the rest: else most of what a look costs is to wait for
/// the memory of other keys.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    /// Zeros where the key is shorter. Where these differ they are ordered as the keys are; where they do not, `bytes` tell.
    first: [u64; 2],
    bytes: Cow<'a, [u8]>,
}

impl<'a> Key<'a> {
    fn of(bytes: impl Into<Cow<'a, [u8]>>) -> Key<'a> {
        let bytes = bytes.into();
        let word = |at: usize| {
            let mut word = [0; 8];
            let there = bytes.get(at..).unwrap_or_default();
            let length = there.len().min(word.len());
            word[..length].copy_from_slice(&there[..length]);
            u64::from_be_bytes(word)
        };
        Key { first: [word(0), word(8)], bytes }
    }
}

/// Keys in order.
#[derive(Default)]
pub(super) struct Table {
    /// Entries are in cells, so that a key that is only borrowed finds the one to be replaced.
    entries: BTreeMap<Key<'static>, Cell<Entry>>,
    bytes: usize,
    tombstones: u64,
}

impl Table {
    /// From all records of a file in the order they lie in it.
    pub(super) fn from_records(records: Vec<(Box<[u8]>, Entry)>) -> Table {
        // Of equal keys the last stays.
        let own = |(key, entry): (Box<[u8]>, _)| (Key::of(Vec::from(key)), Cell::new(entry));
        let entries: BTreeMap<Key, Cell<Entry>> = records.into_iter().map(own).collect();
        let bytes = entries.keys().map(|key| key.bytes.len() + OVERHEAD).sum();
        let tombstones = entries.values().filter(|entry| entry.get().deleted).count() as u64;
        Table { entries, bytes, tombstones }
    }

    pub(super) fn insert(&mut self, key: &[u8], entry: Entry) {
        self.tombstones += u64::from(entry.deleted);
        if let Some(there) = self.sorted().get(&Key::of(key)) {
            let old = there.replace(entry);
            self.tombstones -= u64::from(old.deleted);
        } else {
            self.bytes += key.len() + OVERHEAD;
            self.entries.insert(Key::of(key.to_vec()), Cell::new(entry));
        }
        assert!(self.tombstones <= self.len(), "a tombstone is an entry");
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        self.sorted().get(&Key::of(key)).map(Cell::get)
    }

    /// Entries at or after `from`.
    pub(super) fn from<'a>(&'a self, from: &'a [u8]) -> impl Iterator<Item = (&'a [u8], Entry)> {
        self.range((Bound::Included(from), Bound::Unbounded))
    }

    /// Entries after `key`, all when there is none.
    pub(super) fn after<'a>(
        &'a self,
        key: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Entry)> {
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

    fn range<'a>(
        &'a self,
        bounds: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = (&'a [u8], Entry)> {
        let bounds = (bounds.0.map(Key::of), bounds.1.map(Key::of));
        self.sorted().range(bounds).map(|(key, entry)| (&key.bytes[..], entry.get()))
    }

    /// The tree, to look into with a key that is only borrowed.
    fn sorted<'a>(&'a self) -> &'a BTreeMap<Key<'a>, Cell<Entry>> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::strategy::Strategy;
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    fn entry(offset: usize) -> Entry {
        Entry { lsn: 1, offset: offset as u32, len: 1, deleted: offset.is_multiple_of(3) }
    }

    /// Few keys, so that they come again, and of lengths about those that the tree compares first.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        (0_usize..18, vec(0_u8..2, 0..4)).prop_map(|(zeros, rest)| [vec![0; zeros], rest].concat())
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(all in vec(keys(), 0..80), from in keys()) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut records = Vec::new();
            for (at, key) in all.iter().enumerate() {
                table.insert(key, entry(at));
                model.insert(key.clone(), at as u32);
                records.push((key.clone().into_boxed_slice(), entry(at)));
            }
            let deleted = model.values().filter(|at| at.is_multiple_of(3)).count() as u64;
            let bytes: usize = model.keys().map(|key| key.len() + OVERHEAD).sum();
            for table in [table, Table::from_records(records)] {
                let told = |entries: &mut dyn Iterator<Item = (&[u8], Entry)>| {
                    entries.map(|(key, entry)| (key.to_vec(), entry.offset)).collect::<Vec<_>>()
                };
                let there = |range: (Bound<Vec<u8>>, Bound<Vec<u8>>)| {
                    model.range(range).map(|(key, at)| (key.clone(), *at)).collect::<Vec<_>>()
                };
                let unbounded = || Bound::Unbounded;
                prop_assert_eq!(told(&mut table.after(None)), there((unbounded(), unbounded())));
                let after = (Bound::Excluded(from.clone()), unbounded());
                prop_assert_eq!(told(&mut table.after(Some(&from))), there(after));
                let at = (Bound::Included(from.clone()), unbounded());
                prop_assert_eq!(told(&mut table.from(&from)), there(at));
                let found = table.get(&from).map(|entry| entry.offset);
                prop_assert_eq!(found, model.get(&from).copied());
                prop_assert_eq!((table.len(), table.tombstones()), (model.len() as u64, deleted));
                prop_assert_eq!(table.bytes(), bytes);
            }
        }
    }
}
