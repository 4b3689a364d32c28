//! A sorted table: how it is opened, and how its blocks are read.
//!
//! **Damage is the damage of named keys.** A body that is damaged is its key's alone. When the heads of a block are damaged, its
//! names say which keys are lost, each of which then answers an error and is never absent. When index, filter or footer are damaged
//! they are made anew of the blocks. Only two pieces of damage that hide each other leave keys that nobody can name: the
//! whole block answers errors then, and where a start finds it, it is a loss.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::{buggify, sometimes};

use super::block::{BLOCK_HEADER, Block, Cursor, names};
use super::bloom::{self, Bloom};
use super::cache::Cache;
use super::format::{FOOTER, Footer, Index, Place, TABLE_HEADER};
use crate::log::record::{self, seeded};

/// A block that is not longer is read whole, even when only heads are asked for, in bytes.
const WHOLE_BYTES_MAX: u64 = 16 << 10;
/// The longest index or filter that is read, in bytes.
const SECTION_BYTES_MAX: u64 = 1 << 30;

/// What the list of tables says of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) number: u32,
    /// The file's length, in bytes.
    pub(super) len: u64,
    pub(super) blocks_end: u64,
    pub(super) count: u64,
    pub(super) tombstones: u64,
    pub(super) lsn_max: u64,
    /// The bytes of its keys, heads and bodies.
    pub(super) payload: u64,
    /// What the file has before this key counts no more; the numbers above tell of the whole file.
    pub(super) smallest: Box<[u8]>,
    pub(super) largest: Box<[u8]>,
}

/// An open table.
pub(super) struct Table<F> {
    pub(super) meta: Meta,
    pub(super) file: F,
    pub(super) path: String,
    seed: u32,
    pub(super) index: Index,
    filter: Bloom,
}

/// What reading blocks needs.
pub(super) struct Shelf<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) cache: &'a mut Cache,
}

/// How much of a block is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Head,
    All,
}

impl<F> Table<F> {
    /// From what a writer has made.
    pub(super) fn new(
        meta: Meta,
        file: F,
        path: String,
        salt: u64,
        index: Index,
        filter: Bloom,
    ) -> Table<F> {
        let seed = record::seed(salt, meta.number);
        Table { meta, file, path, seed, index, filter }
    }

    /// The same table without its keys up to `key`. What was without some stays without them.
    pub(super) fn behind(&self, key: &[u8]) -> Table<F>
    where
        F: Clone,
    {
        let smallest: Box<[u8]> = [key, b"\0"].concat().into();
        let smallest = smallest.max(self.meta.smallest.clone());
        let meta = Meta { smallest, ..self.meta.clone() };
        let (file, path, seed) = (self.file.clone(), self.path.clone(), self.seed);
        Table { meta, file, path, seed, index: self.index.clone(), filter: self.filter.clone() }
    }

    /// Whether a part of it counts no more.
    pub(super) fn is_cut(&self) -> bool {
        self.index.key(0) < &*self.meta.smallest
    }

    /// Whether `key` lies between the first and the last key.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        *self.meta.smallest <= *key && *key <= *self.meta.largest
    }

    /// Whether any key of it lies from `smallest` to `largest`.
    pub(super) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        *self.meta.smallest <= *largest && *smallest <= *self.meta.largest
    }

    /// `false`: the key with this hash is not there.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.filter.may_have(hash)
    }

    /// About the memory it takes.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.bytes() + self.filter.bytes().len()
    }

    pub(super) fn corrupt(&self, at: u64, what: &str) -> Error {
        Error::corrupt(self.path.clone(), at, what)
    }
}

/// Opens the table of `meta`; `Err(what)` when acknowledged data in it is gone.
pub(super) fn open<D: Disk>(
    disk: &D,
    file: D::File,
    path: String,
    salt: u64,
    meta: Meta,
) -> Result<Result<Table<D::File>, &'static str>> {
    let len = disk.len(&file)?;
    if len < meta.blocks_end {
        return Ok(Err("the table ends inside its blocks"));
    }
    let seed = record::seed(salt, meta.number);
    let read = read_sections(disk, &file, salt, seed, &meta, len)?;
    sometimes!(disk, RecoveryRebuiltAnIndex, read.is_none());
    let (index, filter) = match read {
        Some(read) => read,
        None => {
            let mut rebuilt = rebuild(disk, &file, salt, seed, &meta)?;
            if rebuilt.is_none() {
                // Damage that a second reading does not find was the reading's.
                rebuilt = rebuild(disk, &file, salt, seed, &meta)?;
            }
            match rebuilt {
                Some(rebuilt) => rebuilt,
                None => return Ok(Err("the index of a table and a block of it are damaged")),
            }
        }
    };
    Ok(Ok(Table::new(meta, file, path, salt, index, filter)))
}

/// Index and filter, as they were written; `None` when they are damaged.
fn read_sections<D: Disk>(
    disk: &D,
    file: &D::File,
    salt: u64,
    seed: u32,
    meta: &Meta,
    len: u64,
) -> Result<Option<(Index, Bloom)>> {
    if len != meta.len || len < FOOTER as u64 || buggify!(disk, IndexDistrusted) {
        return Ok(None);
    }
    let mut bytes = [0; FOOTER];
    let read = disk.read_at(file, &mut bytes, len - FOOTER as u64)?;
    let footer = Footer::decode(&bytes[..read]).filter(|footer| {
        let is_it = footer.number == meta.number && footer.salt == salt;
        let fits = footer.blocks_end == meta.blocks_end && footer.index_at >= footer.blocks_end;
        is_it && fits && footer.filter_at >= footer.index_at
    });
    let Some(footer) = footer else { return Ok(None) };
    let filter_end = len - FOOTER as u64;
    if filter_end < footer.filter_at || filter_end - footer.index_at > SECTION_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; (filter_end - footer.index_at) as usize];
    if disk.read_at(file, &mut bytes, footer.index_at)? < bytes.len() {
        return Ok(None);
    }
    let (index, filter) = bytes.split_at((footer.filter_at - footer.index_at) as usize);
    let index = Index::decode(seed, index, footer.blocks_end, footer.index_at);
    let filter = filter.split_first_chunk::<4>().and_then(|(crc, rest)| {
        let is_sound = seeded(seed, rest) == u32::from_le_bytes(*crc);
        Bloom::from_bytes(rest.to_vec()).filter(|_| is_sound)
    });
    Ok(index.zip(filter))
}

/// Index and filter, made anew of the blocks; `None` when one of these is damaged too.
fn rebuild<D: Disk>(
    disk: &D,
    file: &D::File,
    salt: u64,
    seed: u32,
    meta: &Meta,
) -> Result<Option<(Index, Bloom)>> {
    let (mut index, mut hashes, mut at) = (Index::default(), Vec::new(), TABLE_HEADER as u64);
    let names_at = meta.blocks_end;
    while at < meta.blocks_end {
        let mut bytes = [0; BLOCK_HEADER];
        let read = disk.read_at(file, &mut bytes, at)?;
        let Some((heads_len, bodies_len)) = super::block::lengths(&bytes[..read]) else {
            return Ok(None);
        };
        let place = Place { at, heads_len, bodies_len, names_at, names_len: 0 };
        if place.end() > meta.blocks_end {
            return Ok(None);
        }
        let heads = read_exactly(disk, file, at, place.heads_end())?;
        let Some(block) = heads.and_then(|bytes| Block::check(seed, at, bytes)) else {
            return Ok(None);
        };
        let mut cursor = Cursor::default();
        cursor.first(&block);
        index.push(place, &cursor.key);
        while cursor.entry.is_some() {
            hashes.push(bloom::hash(&cursor.key, salt));
            cursor.advance(&block);
        }
        at = place.end();
    }
    let is_all = hashes.len() as u64 == meta.count;
    Ok(is_all.then(|| (index, Bloom::of(&hashes))))
}

/// So many bytes; `None` when the file ends before.
fn read_exactly<D: Disk>(disk: &D, file: &D::File, at: u64, len: u64) -> Result<Option<Bytes>> {
    let mut bytes = vec![0; len as usize];
    let read = disk.read_at(file, &mut bytes, at)?;
    Ok((read as u64 == len).then(|| bytes.into()))
}

impl<D: Disk> Shelf<'_, D> {
    /// A block, with its bodies when it is short or they are wanted and `keep` is not set. `keep`: remembers it for the next reader.
    pub(super) fn block(
        &mut self,
        table: &Table<D::File>,
        number: usize,
        keep: bool,
    ) -> Result<Block> {
        if let Some(block) = self.cache.get(table.meta.number, number) {
            return Ok(block);
        }
        let place = table.index.place(number).ok_or(Error::Malformed("there is no such block"))?;
        let is_whole = !keep || place.len() <= WHOLE_BYTES_MAX;
        let len = if is_whole { place.len() } else { place.heads_end() };
        // Damage that a second reading does not find was the reading's.
        for _ in 0..2 {
            let bytes = read_exactly(self.disk, &table.file, place.at, len)?;
            if let Some(block) = bytes.and_then(|b| Block::check(table.seed, place.at, b)) {
                if keep {
                    self.cache.put(table.meta.number, number, block.clone());
                }
                return Ok(block);
            }
        }
        let lost = match place.names_len {
            0 => None,
            len => read_exactly(self.disk, &table.file, place.names_at, u64::from(len))?
                .and_then(|bytes| names(table.seed, place.at, &bytes))
                .and_then(|keys| Block::of_lost(&keys)),
        };
        sometimes!(self.disk, BlockKnownByItsNames, lost.is_some());
        lost.ok_or_else(|| table.corrupt(place.at, "a block and the names of its keys are damaged"))
    }

    /// The body of an entry of a block.
    pub(super) fn body(
        &self,
        table: &Table<D::File>,
        number: usize,
        block: &Block,
        entry: &super::block::Entry,
    ) -> Result<Bytes> {
        let place = table.index.place(number).ok_or(Error::Malformed("there is no such block"))?;
        let at = place.at + block.body_at(entry);
        if let Some(Ok(body)) = block.body(entry) {
            return Ok(body);
        }
        for _ in 0..2 {
            let body = read_exactly(self.disk, &table.file, at, u64::from(entry.body_len))?;
            if let Some(body) = body.filter(|body| crc32fast::hash(body) == entry.body_crc) {
                return Ok(body);
            }
        }
        Err(table.corrupt(at, "the checksum of the body does not fit"))
    }
}

/// The tables of a level that is in order, one after another, from a key on.
pub(super) struct Run<F> {
    tables: Vec<Arc<Table<F>>>,
    table: usize,
    number: usize,
    block: Option<Block>,
    cursor: Cursor,
    /// Whether blocks that it reads are remembered.
    keep: bool,
    /// Bytes of blocks that were read.
    pub(super) read: u64,
}

impl<F: Clone> Run<F> {
    /// Starts before the first key; `keep` is that of `Shelf::block`.
    pub(super) fn new(tables: Vec<Arc<Table<F>>>, keep: bool) -> Run<F> {
        let cursor = Cursor::default();
        Run { tables, table: 0, number: 0, block: None, cursor, keep, read: 0 }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.cursor.key
    }

    pub(super) fn entry(&self) -> Option<super::block::Entry> {
        self.cursor.entry
    }

    /// Goes to the first key.
    pub(super) fn first<D: Disk<File = F>>(&mut self, shelf: &mut Shelf<'_, D>) -> Result<()> {
        self.table = 0;
        self.begin(shelf)
    }

    /// Goes to the first key at or after `key`.
    pub(super) fn seek<D: Disk<File = F>>(
        &mut self,
        shelf: &mut Shelf<'_, D>,
        key: &[u8],
    ) -> Result<()> {
        self.table = self.tables.partition_point(|table| *table.meta.largest < *key);
        let Some(table) = self.tables.get(self.table).cloned() else {
            self.cursor.entry = None;
            return Ok(());
        };
        let key = key.max(&table.meta.smallest);
        self.number = table.index.find(key);
        let block = self.load(shelf, &table)?;
        self.cursor.seek(&block, key);
        self.block = Some(block);
        if self.cursor.entry.is_none() { self.leave(shelf) } else { Ok(()) }
    }

    /// Goes to the next key.
    pub(super) fn advance<D: Disk<File = F>>(&mut self, shelf: &mut Shelf<'_, D>) -> Result<()> {
        if let Some(block) = &self.block {
            self.cursor.advance(block);
        }
        if self.cursor.entry.is_none() { self.leave(shelf) } else { Ok(()) }
    }

    /// The head of the entry that it stands at.
    pub(super) fn head(&self) -> Bytes {
        let entry = self.cursor.entry.as_ref();
        self.block.as_ref().zip(entry).map_or_else(Bytes::new, |(block, entry)| block.head(entry))
    }

    /// The body of the entry that it stands at.
    pub(super) fn body<D: Disk<File = F>>(&self, shelf: &Shelf<'_, D>) -> Result<Bytes> {
        match (&self.block, &self.cursor.entry, self.tables.get(self.table)) {
            (Some(block), Some(entry), Some(table)) => shelf.body(table, self.number, block, entry),
            _ => Ok(Bytes::new()),
        }
    }

    /// What is wrong with the entry that it stands at.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        let place = |table: &Arc<Table<F>>| table.index.place(self.number).map_or(0, |p| p.at);
        match self.tables.get(self.table) {
            Some(table) => table.corrupt(place(table), what),
            None => Error::Malformed("a run that has ended has no damage"),
        }
    }

    /// Behind the end of a block.
    fn leave<D: Disk<File = F>>(&mut self, shelf: &mut Shelf<'_, D>) -> Result<()> {
        self.number += 1;
        if self.tables.get(self.table).is_some_and(|table| self.number >= table.index.len()) {
            self.table += 1;
            return self.begin(shelf);
        }
        let Some(table) = self.tables.get(self.table).cloned() else {
            (self.block, self.cursor.entry) = (None, None);
            return Ok(());
        };
        let block = self.load(shelf, &table)?;
        self.cursor.first(&block);
        self.block = Some(block);
        Ok(())
    }

    /// Goes to the first key of a table.
    fn begin<D: Disk<File = F>>(&mut self, shelf: &mut Shelf<'_, D>) -> Result<()> {
        match self.tables.get(self.table).map(|table| table.meta.smallest.clone()) {
            Some(smallest) => self.seek(shelf, &smallest),
            None => {
                (self.block, self.cursor.entry) = (None, None);
                Ok(())
            }
        }
    }

    fn load<D: Disk<File = F>>(
        &mut self,
        shelf: &mut Shelf<'_, D>,
        table: &Table<F>,
    ) -> Result<Block> {
        self.read += table.index.place(self.number).map_or(0, |place| place.len());
        shelf.block(table, self.number, self.keep)
    }
}
