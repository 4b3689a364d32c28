//! Writes one table, in bounded steps.

use std::io;

use rondo_core::env::{Disk, Open};

use super::block::{Builder, Item, Kind};
use super::bloom::{self, Bloom};
use super::format::{self, FOOTER, Footer, Index, Place, TABLE_HEADER};
use super::table::{Meta, Table};
use crate::log::file_path;
use crate::log::record::{self, seeded};

/// Handed to the operating system when so much has gathered, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A table that is being written. After an error of the disk it is of no use but to be discarded.
pub(super) struct Writer<F> {
    number: u32,
    file: F,
    path: String,
    salt: u64,
    block_bytes: usize,
    /// What the operating system has, in bytes; the buffer comes behind it.
    written: u64,
    buffer: Vec<u8>,
    block: Builder,
    blocks: Blocks,
    meta: Meta,
}

/// What is known of the blocks that were written.
#[derive(Default)]
struct Blocks {
    index: Index,
    names: Vec<u8>,
    hashes: Vec<u64>,
}

/// How a table is called while it is written, and afterwards.
pub(super) const EXTENSION: &str = "table";

impl<F: Clone> Writer<F> {
    /// Makes the file. After an error it is not there.
    pub(super) fn create<D: Disk<File = F>>(
        disk: &D,
        dir: &str,
        number: u32,
        salt: u64,
        block_bytes: usize,
    ) -> io::Result<Writer<F>> {
        let path = file_path(dir, number, EXTENSION);
        let file = disk.open(&path, Open::New)?;
        let (smallest, largest) = (Box::default(), Box::default());
        let meta = Meta {
            number,
            len: 0,
            blocks_end: 0,
            count: 0,
            tombstones: 0,
            lsn_max: 0,
            payload: 0,
            smallest,
            largest,
        };
        let (buffer, block, blocks) =
            (format::header(number).to_vec(), Builder::default(), Blocks::default());
        let written = 0;
        Ok(Writer { number, file, path, salt, block_bytes, written, buffer, block, blocks, meta })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// About how long the table is so far, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.written + (self.buffer.len() + self.block.bytes()) as u64
    }

    /// Adds a key, which is behind those before it.
    pub(super) fn add(&mut self, item: &Item<'_>) {
        let is_whole = self.block.bytes() > 0
            && self.block.bytes() + item.head.len() + item.body.len() > self.block_bytes;
        if is_whole {
            self.end_block();
        }
        if self.meta.count == 0 {
            self.meta.smallest = item.key.into();
        }
        self.meta.count += 1;
        self.meta.payload += (item.key.len() + item.head.len() + item.body.len()) as u64;
        self.meta.tombstones += u64::from(item.kind == Kind::Delete);
        self.meta.lsn_max = self.meta.lsn_max.max(item.lsn);
        self.blocks.hashes.push(bloom::hash(item.key, self.salt));
        self.block.add(item);
        if self.block.bytes() >= self.block_bytes {
            self.end_block();
        }
        self.meta.largest = item.key.into();
    }

    /// Hands over what has gathered, when that is much; answers how much it was.
    pub(super) fn write<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<u64> {
        if self.buffer.len() < BUFFER_BYTES { Ok(0) } else { self.hand_over(disk) }
    }

    /// Ends the table.
    pub(super) fn finish<D: Disk<File = F>>(mut self, disk: &D) -> io::Result<Table<F>> {
        assert!(self.meta.count > 0, "a table has a key");
        self.end_block();
        let seed = record::seed(self.salt, self.number);
        let blocks_end = self.written + self.buffer.len() as u64;
        self.buffer.append(&mut self.blocks.names);
        let index_at = self.written + self.buffer.len() as u64;
        let mut index = self.blocks.index;
        index.move_names(blocks_end);
        self.buffer.extend_from_slice(&index.encode(seed));
        let filter_at = self.written + self.buffer.len() as u64;
        let filter = Bloom::of(&self.blocks.hashes);
        self.buffer.extend_from_slice(&seeded(seed, filter.bytes()).to_le_bytes());
        self.buffer.extend_from_slice(filter.bytes());
        let Meta { number, count, tombstones, lsn_max, .. } = self.meta;
        let salt = self.salt;
        let footer =
            Footer { number, salt, blocks_end, index_at, filter_at, count, tombstones, lsn_max };
        self.buffer.extend_from_slice(&footer.encode());
        let len = self.written + self.buffer.len() as u64;
        disk.write_at(&self.file, &[&self.buffer], self.written)?;
        assert!(len > blocks_end + FOOTER as u64, "a table ends with its footer");
        let meta = Meta { len, blocks_end, ..self.meta };
        Ok(Table::new(meta, self.file, self.path, salt, index, filter))
    }

    fn end_block(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let at = self.written + self.buffer.len() as u64;
        assert!(at >= TABLE_HEADER as u64, "blocks stand behind the header");
        let seed = record::seed(self.salt, self.number);
        let made = self.block.finish(seed, at, &mut self.buffer);
        // Counted from the end of the blocks, until that is known.
        let (names_at, names_len) = (self.blocks.names.len() as u64, made.names.len() as u32);
        let (heads_len, bodies_len) = (made.heads_len, made.bodies_len);
        let place = Place { at, heads_len, bodies_len, names_at, names_len };
        self.blocks.index.push(place, &made.first);
        self.blocks.names.extend_from_slice(&made.names);
    }

    fn hand_over<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<u64> {
        disk.write_at(&self.file, &[&self.buffer], self.written)?;
        let len = self.buffer.len() as u64;
        self.written += len;
        self.buffer.clear();
        Ok(len)
    }
}
