//! Reading: one key, and pages in key order.
//!
//! A key is looked for in the memtables, the newest first, and then in the tables that cover it, level by level: the first that knows
//! it has the newest. A filter says of most tables that they do not, without a read. A page merges all of them.
//!
//! Left out: answers that a read would wait for the device (`Lookup::Cold`). A table has several places where a key could be, and
//! a ticket names one. What is not in the page cache is waited for.

use std::collections::btree_map::Range;

use bytes::Bytes;
use rondo_core::engine::{Lookup, Page, Record};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::block::Kind;
use super::bloom;
use super::memtable::Stored;
use super::table::{Part, Run, Shelf};
use super::{Lsm, Tables};

/// What is wrong with a record of which only a part is left.
const BODY_LOST: &str = "the body of the record was damaged";
const RECORD_LOST: &str = "the record was damaged";

impl<D: Disk> Lsm<D> {
    /// The record of a key, or its head.
    pub(super) fn look_up(&mut self, key: &[u8], part: Part) -> Result<Lookup> {
        if let Some(stored) = self.memory.get(key) {
            return match stored.kind {
                Kind::Delete => Ok(Lookup::Miss),
                Kind::Put => Ok(Lookup::Hit(in_memory(stored, part))),
                Kind::Bodiless if part == Part::Head => Ok(Lookup::Hit(in_memory(stored, part))),
                Kind::Bodiless => Err(self.rotten_in_log(BODY_LOST)),
                Kind::Lost => Err(self.rotten_in_log(RECORD_LOST)),
            };
        }
        let hash = bloom::hash(key, self.names.salt);
        let Tables { levels, cache, .. } = &mut self.tables;
        let mut shelf = Shelf { disk: &*self.disk, cache };
        for table in levels.of_key(key) {
            if !table.may_have(hash) {
                continue;
            }
            let number = table.index.find(key);
            let block = shelf.block(table, number, true)?;
            let Some(entry) = block.find(key) else {
                sometimes!(self.disk, FilterLetAKeyPass);
                continue;
            };
            let body = match (entry.kind, part) {
                (Kind::Delete, _) => return Ok(Lookup::Miss),
                (Kind::Put, Part::All) => shelf.body(table, number, &block, &entry)?,
                (Kind::Put | Kind::Bodiless, Part::Head) => Bytes::new(),
                (Kind::Bodiless, Part::All) => return Err(table.corrupt(0, BODY_LOST)),
                (Kind::Lost, _) => return Err(table.corrupt(0, RECORD_LOST)),
            };
            let record = Record { lsn: Lsn(entry.lsn), head: block.head(&entry), body };
            return Ok(Lookup::Hit(record));
        }
        Ok(Lookup::Miss)
    }

    /// How many bytes the record of a key has; `None` when there is none. Its body is not read.
    pub(super) fn bytes_of(&mut self, key: &[u8]) -> Result<Option<u64>> {
        let len = |value: usize| Some((key.len() + value) as u64);
        if let Some(stored) = self.memory.get(key) {
            return Ok(if stored.kind == Kind::Delete { None } else { len(stored.len()) });
        }
        let hash = bloom::hash(key, self.names.salt);
        let Tables { levels, cache, .. } = &mut self.tables;
        let mut shelf = Shelf { disk: &*self.disk, cache };
        for table in levels.of_key(key) {
            if !table.may_have(hash) {
                continue;
            }
            let block = shelf.block(table, table.index.find(key), true)?;
            match block.find(key) {
                None => {}
                Some(entry) if entry.kind == Kind::Delete => return Ok(None),
                Some(entry) => return Ok(len((entry.head_len + entry.body_len) as usize)),
            }
        }
        Ok(None)
    }

    fn rotten_in_log(&self, what: &str) -> Error {
        Error::corrupt(self.names.dir.clone(), 0, what)
    }

    /// One page of a scan. A record that cannot be read ends the page before it; when it is that of `from` itself, the answer is the
    /// error.
    pub(super) fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        bytes_max: usize,
        part: Part,
    ) -> Result<Page> {
        let Tables { levels, cache, .. } = &mut self.tables;
        let mut shelf = Shelf { disk: &*self.disk, cache };
        let memory = self.memory.newest_first();
        let memory = memory.map(|table| Source::Memory(Reader::new(table.from(from))));
        let mut sources: Vec<Source<'_, D::File>> = memory.collect();
        let young = levels.level(0).iter().rev().map(|table| vec![table.clone()]);
        let old = (1..super::levels::LEVELS).map(|level| levels.level(level).to_vec());
        for tables in young.chain(old).filter(|tables| !tables.is_empty()) {
            let mut run = Run::new(tables, true);
            run.seek(&mut shelf, from)?;
            sources.push(Source::Run(Box::new(run)));
        }
        let mut merge = Merge { sources };
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes = 0;
        while let Some(at) = merge.newest() {
            if merge.sources[at].kind() == Some(Kind::Delete) {
                sometimes!(self.disk, ScanPassedADeadEntry);
                merge.pass(at, &mut shelf)?;
                continue;
            }
            let key = Bytes::copy_from_slice(merge.sources[at].key().unwrap_or_default());
            let is_full = page.records.len() >= limit
                || (!page.records.is_empty() && buggify!(self.disk, ScanPageOfOne))
                || (bytes > 0 && bytes >= bytes_max);
            if is_full {
                page.next = Some(key);
                break;
            }
            match merge.sources[at].record(&shelf, part, &self.names.dir) {
                Ok(record) => {
                    bytes += key.len() + record.head.len() + record.body.len();
                    page.records.push((key, record));
                }
                Err(Error::Corrupt { .. }) if key != from => {
                    page.next = Some(key);
                    break;
                }
                Err(error) => return Err(error),
            }
            merge.pass(at, &mut shelf)?;
        }
        Ok(page)
    }
}

fn in_memory(stored: &Stored, part: Part) -> Record {
    let body = if part == Part::All { stored.body() } else { Bytes::new() };
    Record { lsn: Lsn(stored.lsn), head: stored.head(), body }
}

/// Where records come from, in key order.
enum Source<'a, F> {
    Memory(Reader<'a>),
    Run(Box<Run<F>>),
}

/// A place in a memtable.
struct Reader<'a> {
    rest: Range<'a, Box<[u8]>, Stored>,
    now: Option<(&'a [u8], &'a Stored)>,
}

/// Several of them, the newest first.
struct Merge<'a, F> {
    sources: Vec<Source<'a, F>>,
}

impl<'a> Reader<'a> {
    fn new(mut rest: Range<'a, Box<[u8]>, Stored>) -> Reader<'a> {
        let now = rest.next().map(|(key, stored)| (&**key, stored));
        Reader { rest, now }
    }
}

impl<F: Clone> Source<'_, F> {
    /// The key that it stands at; `None` at the end.
    fn key(&self) -> Option<&[u8]> {
        match self {
            Source::Memory(reader) => reader.now.map(|(key, _)| key),
            Source::Run(run) => run.entry().map(|_| run.key()),
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Source::Memory(reader) => reader.now.map(|(_, stored)| stored.kind),
            Source::Run(run) => run.entry().map(|entry| entry.kind),
        }
    }

    fn record<D: Disk<File = F>>(
        &self,
        shelf: &Shelf<'_, D>,
        part: Part,
        dir: &str,
    ) -> Result<Record> {
        match self {
            Source::Memory(reader) => match reader.now {
                Some((_, stored)) if is_readable(stored.kind, part) => Ok(in_memory(stored, part)),
                _ => Err(Error::corrupt(dir.to_owned(), 0, RECORD_LOST)),
            },
            Source::Run(run) => match run.entry() {
                Some(entry) if is_readable(entry.kind, part) => {
                    let body = if part == Part::All { run.body(shelf)? } else { Bytes::new() };
                    Ok(Record { lsn: Lsn(entry.lsn), head: run.head(), body })
                }
                _ => Err(run.corrupt(RECORD_LOST)),
            },
        }
    }

    fn advance<D: Disk<File = F>>(&mut self, shelf: &mut Shelf<'_, D>) -> Result<()> {
        match self {
            Source::Memory(reader) => {
                reader.now = reader.rest.next().map(|(key, stored)| (&**key, stored));
            }
            Source::Run(run) => run.advance(shelf)?,
        }
        Ok(())
    }
}

fn is_readable(kind: Kind, part: Part) -> bool {
    kind == Kind::Put || (kind == Kind::Bodiless && part == Part::Head)
}

impl<F: Clone> Merge<'_, F> {
    /// The source with the lowest key, of equal ones the newest.
    fn newest(&self) -> Option<usize> {
        let mut lowest: Option<(usize, &[u8])> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let Some(key) = source.key() else { continue };
            if lowest.is_none_or(|(_, other)| key < other) {
                lowest = Some((at, key));
            }
        }
        lowest.map(|(at, _)| at)
    }

    /// Goes behind the key of the source `at`, in all of them.
    fn pass<D: Disk<File = F>>(&mut self, at: usize, shelf: &mut Shelf<'_, D>) -> Result<()> {
        for other in at + 1..self.sources.len() {
            let [newest, older] = self.sources.get_disjoint_mut([at, other]).expect("two of them");
            if older.key().is_some() && older.key() == newest.key() {
                older.advance(shelf)?;
            }
        }
        self.sources[at].advance(shelf)
    }
}
