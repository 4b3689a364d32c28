//! All keys of several data files in order, each once, with its newest record: the one way in which
//! opening fills the keydir and scans find their keys.
//!
//! Keys are compared whole, so neither needs the fingerprints. Of equal Lsns (a record that a merge
//! copied and whose old file is still there) the file with the higher number wins.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use rondo_core::env::Disk;

use super::hint::{Cursor, Hint};
use crate::log::follow::Entry;

/// The keys of one file.
pub(super) enum Source<'a, F> {
    /// A cursor that has been advanced to its first entry.
    Hint(&'a Hint<F>, Cursor),
    /// Entries in memory.
    Table(Box<dyn Iterator<Item = (&'a [u8], Entry)> + 'a>),
}

/// Files with their keys.
pub(super) type Sources<'a, F> = Vec<(u32, Source<'a, F>)>;

/// Why the next key cannot be told.
#[derive(Debug)]
pub(super) enum Stop {
    /// The hint of this file is damaged.
    Damaged(u32),
    /// The disk failed.
    Disk(io::Error),
}

/// Sources merged in key order.
pub(super) struct Order<'a, D: Disk> {
    disk: &'a D,
    sources: Sources<'a, D::File>,
    heads: BinaryHeap<Reverse<Head>>,
    /// Spare keys, so that none is allocated for each step.
    spare: Vec<Vec<u8>>,
}

/// In the order of the heap: by key, then the newest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: Vec<u8>,
    age: Reverse<(u64, u32)>,
    source: usize,
    place: (u32, u32, bool),
}

/// A key with its newest record.
pub(super) struct Newest {
    pub(super) key: Vec<u8>,
    pub(super) file: u32,
    pub(super) entry: Entry,
}

impl<'a, D: Disk> Order<'a, D> {
    /// Starts with files and their keys.
    pub(super) fn new(disk: &'a D, sources: Sources<'a, D::File>) -> Result<Order<'a, D>, Stop> {
        let count = sources.len();
        let mut order = Order { disk, sources, heads: BinaryHeap::new(), spare: Vec::new() };
        (0..count).try_for_each(|source| order.push(source))?;
        Ok(order)
    }

    /// The next key.
    pub(super) fn next(&mut self) -> Result<Option<Newest>, Stop> {
        let Some(Reverse(head)) = self.heads.pop() else {
            return Ok(None);
        };
        self.push(head.source)?;
        while self.heads.peek().is_some_and(|Reverse(other)| other.key == head.key) {
            let Some(Reverse(older)) = self.heads.pop() else {
                break;
            };
            self.spare.push(older.key);
            self.push(older.source)?;
        }
        let Head { key, age: Reverse((lsn, file)), place: (offset, len, deleted), .. } = head;
        Ok(Some(Newest { key, file, entry: Entry { lsn, offset, len, deleted } }))
    }

    /// Gives a key back for use in later steps.
    pub(super) fn recycle(&mut self, key: Vec<u8>) {
        self.spare.push(key);
    }

    fn push(&mut self, source: usize) -> Result<(), Stop> {
        let mut key = self.spare.pop().unwrap_or_default();
        key.clear();
        let (file, from) = &mut self.sources[source];
        let entry = match from {
            Source::Table(entries) => entries.next().map(|(bytes, entry)| {
                key.extend_from_slice(bytes);
                entry
            }),
            Source::Hint(hint, cursor) => {
                let entry = cursor.current().map(|(bytes, entry)| {
                    key.extend_from_slice(bytes);
                    entry
                });
                cursor.advance(self.disk, hint).map_err(|error| Stop::new(*file, error))?;
                entry
            }
        };
        if let Some(Entry { lsn, offset, len, deleted }) = entry {
            let age = Reverse((lsn, *file));
            self.heads.push(Reverse(Head { key, age, source, place: (offset, len, deleted) }));
        }
        Ok(())
    }
}

impl Stop {
    pub(super) fn new(file: u32, error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::InvalidData => Stop::Damaged(file),
            _ => Stop::Disk(error),
        }
    }
}
