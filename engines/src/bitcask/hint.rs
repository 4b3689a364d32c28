//! The keys of one sealed data file in order, and where their records lie: what makes opening short
//! and scans possible without keys in memory.
//!
//! A hint file is a row of blocks of 16 KiB and a last block, the trailer. Numbers are little-endian.
//!
//! | at | size | block |
//! |---|---|---|
//! | 0 | 4 | CRC-32 of the rest, started from the data file's seed and the block's number |
//! | 4 | 2 | number of entries |
//! | 6 | | entries, then zeroes |
//!
//! | at | size | entry |
//! |---|---|---|
//! | 0 | 8 | Lsn |
//! | 8 | 4 | first byte of the record |
//! | 12 | 4 | length of the record |
//! | 16 | 1 | 1 for a tombstone |
//! | 17 | 2 | length of the key |
//! | 19 | | key |
//!
//! The trailer has CRC and zero entries as above, then `rondohnt` and ten numbers of 8 bytes: the format, which is 2, those of
//! `Summary`, the number of blocks, and the kind of the data file (1 log, 2 compacted), which format 1 lacks. A key has one
//! entry, of its newest record in the file; keys go up strictly.
//!
//! A hint is never trusted: `open` reads all of it and checks every block, the order, and that each
//! entry lies inside the data file. What does not fit is as good as absent, and is built anew. It is
//! written under another name, synced, then renamed; and only when its data is durable.

use std::io;

use rondo_core::env::{Disk, Open};

use super::table::Table;
use crate::log::follow::Entry;
use crate::log::record::{FILE_HEADER, HEADER, Kind, seeded, u32_at, u64_at};

pub(super) const BLOCK: usize = 16 << 10;
const BLOCK_HEADER: usize = 6;
const ENTRY_HEADER: usize = 19;
const MAGIC: &[u8; 8] = b"rondohnt";
/// The format that is written; earlier ones are read.
const FORMAT: u64 = 2;
/// Blocks are read this many at a time while all of them are read.
const BLOCKS_AT_ONCE: usize = 16;

/// What is known about a data file as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Summary {
    /// Where the data ends.
    pub(super) end: u64,
    /// The lowest Lsn, `u64::MAX` when there is no record.
    pub(super) lsn_min: u64,
    /// The highest Lsn, 0 when there is no record.
    pub(super) lsn_max: u64,
    /// Keys with an entry.
    pub(super) entries: u64,
    /// How many of them are tombstones.
    pub(super) tombstones: u64,
    /// Whether records of it are lost: then it is read again at each open, and reported again.
    pub(super) damaged: bool,
    /// The highest durable Lsn that the data file names.
    pub(super) marked: u64,
    /// What the data file is; `None` in format 1.
    pub(super) kind: Option<Kind>,
}

/// A hint file that has been checked.
pub(super) struct Hint<F> {
    file: F,
    seed: u32,
    blocks: u32,
    pub(super) summary: Summary,
}

/// A place in a hint file.
pub(super) struct Cursor {
    /// The block to decode next.
    next: u32,
    /// Entries left in the block before it, and where the next one is.
    left: u16,
    at: usize,
    /// Blocks `first..first + bytes.len() / BLOCK`.
    bytes: Vec<u8>,
    first: u32,
    blocks_at_once: usize,
    key: Vec<u8>,
    entry: Option<Entry>,
}

/// Writes a hint file in steps.
pub(super) struct Writer<F> {
    file: F,
    seed: u32,
    blocks: u32,
    last_key: Option<Box<[u8]>>,
    /// What the trailer says, once it is written.
    summary: Option<Summary>,
}

impl<F: Clone> Writer<F> {
    /// Starts a hint file at `path`, over what may be there.
    pub(super) fn create<D: Disk<File = F>>(
        disk: &D,
        path: &str,
        seed: u32,
    ) -> io::Result<Writer<F>> {
        match disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(path, Open::New)?;
        Ok(Writer { file, seed, blocks: 0, last_key: None, summary: None })
    }

    /// The file.
    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Whether the trailer has been written.
    pub(super) fn is_ended(&self) -> bool {
        self.summary.is_some()
    }

    /// The hint that has been written.
    pub(super) fn hint(&self) -> Hint<F> {
        let summary = self.summary.unwrap_or_default();
        Hint { file: self.file.clone(), seed: self.seed, blocks: self.blocks, summary }
    }

    /// Writes about `budget` bytes of `table`; answers the bytes written, 0 when all entries are. After an error it is as if
    /// nothing had been written.
    pub(super) fn step<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        table: &Table,
        budget: usize,
    ) -> io::Result<usize> {
        assert!(!self.is_ended(), "nothing follows the trailer");
        let before = self.blocks;
        let mut out = Vec::new();
        let mut block = Vec::new();
        let mut count = 0;
        let done = self.last_key.take();
        let mut last = done.as_deref();
        for (key, entry) in table.after(done.as_deref()) {
            if BLOCK_HEADER + block.len() + ENTRY_HEADER + key.len() > BLOCK {
                self.push_block(&mut out, &mut block, &mut count);
                if out.len() >= budget {
                    break;
                }
            }
            debug_assert!(last.is_none_or(|last| last < key), "keys go up strictly");
            put_entry(&mut block, key, entry);
            count += 1;
            last = Some(key);
        }
        let last: Option<Box<[u8]>> = last.map(Into::into);
        if count > 0 {
            self.push_block(&mut out, &mut block, &mut count);
        }
        if !out.is_empty() {
            let written = disk.write_at(&self.file, &[&out], u64::from(before) * BLOCK as u64);
            if let Err(error) = written {
                (self.blocks, self.last_key) = (before, done);
                return Err(error);
            }
        }
        self.last_key = last;
        Ok(out.len())
    }

    /// Writes the trailer.
    pub(super) fn end<D: Disk<File = F>>(&mut self, disk: &D, summary: Summary) -> io::Result<()> {
        assert!(self.summary.is_none(), "there is one trailer");
        assert!(summary.tombstones <= summary.entries, "a tombstone is an entry");
        let mut trailer = vec![0; BLOCK];
        let numbers = [
            FORMAT,
            summary.end,
            summary.lsn_min,
            summary.lsn_max,
            summary.entries,
            summary.tombstones,
            u64::from(summary.damaged),
            summary.marked,
            u64::from(self.blocks),
            summary.kind.map_or(0, |kind| u64::from(kind.code())),
        ];
        trailer[BLOCK_HEADER..BLOCK_HEADER + 8].copy_from_slice(MAGIC);
        for (at, number) in numbers.iter().enumerate() {
            let at = BLOCK_HEADER + 8 + at * 8;
            trailer[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        seal(&mut trailer, self.seed, self.blocks);
        disk.write_at(&self.file, &[&trailer], u64::from(self.blocks) * BLOCK as u64)?;
        self.summary = Some(summary);
        Ok(())
    }

    fn push_block(&mut self, out: &mut Vec<u8>, entries: &mut Vec<u8>, count: &mut u16) {
        assert!(BLOCK_HEADER + entries.len() <= BLOCK, "an entry that does not fit waits");
        let start = out.len();
        out.resize(start + BLOCK, 0);
        let block = &mut out[start..];
        block[4..6].copy_from_slice(&count.to_le_bytes());
        block[BLOCK_HEADER..BLOCK_HEADER + entries.len()].copy_from_slice(entries);
        seal(block, self.seed, self.blocks);
        self.blocks += 1;
        entries.clear();
        *count = 0;
    }
}

impl<F: Clone> Hint<F> {
    /// Opens and checks all of a hint file for a data file of `data_len` bytes. `None` when it is absent
    /// or anything in it does not fit; errors are only of the disk.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        path: &str,
        seed: u32,
        data_len: u64,
    ) -> io::Result<Option<Hint<F>>> {
        let file = match disk.open(path, Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let len = disk.len(&file)?;
        let blocks = len / BLOCK as u64;
        if len % BLOCK as u64 != 0 || blocks == 0 || blocks > u64::from(u32::MAX) {
            return Ok(None);
        }
        let blocks = (blocks - 1) as u32;
        let mut hint = Hint { file, seed, blocks, summary: Summary::default() };
        let Some(summary) = hint.read_trailer(disk)? else {
            return Ok(None);
        };
        hint.summary = summary;
        let fits = summary.end <= data_len && hint.check_entries(disk)?;
        Ok(fits.then_some(hint))
    }

    fn read_trailer<D: Disk<File = F>>(&self, disk: &D) -> io::Result<Option<Summary>> {
        let mut block = vec![0; BLOCK];
        if !self.read_blocks(disk, self.blocks, &mut block)? {
            return Ok(None);
        }
        let number = |at: usize| u64_at(&block, BLOCK_HEADER + 8 + at * 8);
        let known = block[BLOCK_HEADER..BLOCK_HEADER + 8] == *MAGIC
            && (1..=FORMAT).contains(&number(0))
            && number(8) == u64::from(self.blocks);
        let summary = Summary {
            end: number(1),
            lsn_min: number(2),
            lsn_max: number(3),
            entries: number(4),
            tombstones: number(5),
            damaged: number(6) != 0,
            marked: number(7),
            // Format 1 has zeroes here.
            kind: u8::try_from(number(9)).ok().and_then(Kind::of),
        };
        Ok(known.then_some(summary))
    }

    fn check_entries<D: Disk<File = F>>(&self, disk: &D) -> io::Result<bool> {
        let mut cursor = self.start(BLOCKS_AT_ONCE);
        let mut last: Option<Vec<u8>> = None;
        let mut entries = 0;
        loop {
            match cursor.advance(disk, self) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                other => other?,
            }
            let Some((key, entry)) = cursor.current() else {
                break;
            };
            let inside = entry.offset as usize >= FILE_HEADER
                && entry.len as usize >= HEADER + key.len()
                && u64::from(entry.offset) + u64::from(entry.len) <= self.summary.end;
            if !inside || last.as_deref().is_some_and(|last| last >= key) {
                return Ok(false);
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            entries += 1;
        }
        Ok(entries == self.summary.entries)
    }

    /// A cursor before the first entry, that reads `blocks` blocks at a time.
    pub(super) fn start(&self, blocks: usize) -> Cursor {
        Cursor {
            next: 0,
            left: 0,
            at: 0,
            bytes: Vec::new(),
            first: 0,
            blocks_at_once: blocks,
            key: Vec::new(),
            entry: None,
        }
    }

    /// A cursor at the first entry at or after `from`.
    pub(super) fn seek<D: Disk<File = F>>(&self, disk: &D, from: &[u8]) -> io::Result<Cursor> {
        let mut cursor = self.start(1);
        // The last block whose first key is not above `from`.
        let (mut low, mut high) = (0, self.blocks);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            cursor.jump(middle);
            cursor.advance(disk, self)?;
            if cursor.current().is_some_and(|(key, _)| key <= from) {
                low = middle;
            } else {
                high = middle;
            }
        }
        cursor.jump(low);
        cursor.advance(disk, self)?;
        while cursor.current().is_some_and(|(key, _)| key < from) {
            cursor.advance(disk, self)?;
        }
        Ok(cursor)
    }

    /// Reads whole blocks from `first` on; `false` when one of them is damaged.
    fn read_blocks<D: Disk<File = F>>(
        &self,
        disk: &D,
        first: u32,
        bytes: &mut [u8],
    ) -> io::Result<bool> {
        let found = disk.read_at(&self.file, bytes, u64::from(first) * BLOCK as u64)?;
        if found < bytes.len() {
            return Ok(false);
        }
        let sound = |(at, block): (usize, &[u8])| {
            u32_at(block, 0) == seeded(self.seed ^ (first + at as u32), &block[4..])
        };
        Ok(bytes.chunks_exact(BLOCK).enumerate().all(sound))
    }
}

impl Cursor {
    /// The entry the cursor is at; `None` before the first `advance` and at the end.
    pub(super) fn current(&self) -> Option<(&[u8], Entry)> {
        self.entry.map(|entry| (&self.key[..], entry))
    }

    /// Goes to the next entry. `InvalidData` when the hint is damaged.
    pub(super) fn advance<D: Disk>(&mut self, disk: &D, hint: &Hint<D::File>) -> io::Result<()> {
        while self.left == 0 {
            if self.next >= hint.blocks {
                self.entry = None;
                return Ok(());
            }
            self.next_block(disk, hint)?;
        }
        let rest = &self.bytes[self.at..];
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let fixed = rest.get(..ENTRY_HEADER).ok_or_else(damaged)?;
        let key_len = u16::from_le_bytes([fixed[17], fixed[18]]) as usize;
        let key = rest.get(ENTRY_HEADER..ENTRY_HEADER + key_len).ok_or_else(damaged)?;
        self.entry = Some(Entry {
            lsn: u64_at(fixed, 0),
            offset: u32_at(fixed, 8),
            len: u32_at(fixed, 12),
            deleted: fixed[16] == 1,
        });
        self.key.clear();
        self.key.extend_from_slice(key);
        self.at += ENTRY_HEADER + key_len;
        self.left -= 1;
        Ok(())
    }

    fn jump(&mut self, block: u32) {
        self.next = block;
        self.left = 0;
    }

    fn next_block<D: Disk>(&mut self, disk: &D, hint: &Hint<D::File>) -> io::Result<()> {
        let buffered = self.first..self.first + (self.bytes.len() / BLOCK) as u32;
        if !buffered.contains(&self.next) {
            let count = self.blocks_at_once.min((hint.blocks - self.next) as usize);
            self.bytes.resize(count * BLOCK, 0);
            self.first = self.next;
            if !hint.read_blocks(disk, self.next, &mut self.bytes)? {
                self.bytes.clear();
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let start = (self.next - self.first) as usize * BLOCK;
        self.left = u16::from_le_bytes([self.bytes[start + 4], self.bytes[start + 5]]);
        self.at = start + BLOCK_HEADER;
        self.next += 1;
        Ok(())
    }
}

fn put_entry(out: &mut Vec<u8>, key: &[u8], entry: Entry) {
    out.extend_from_slice(&entry.lsn.to_le_bytes());
    out.extend_from_slice(&entry.offset.to_le_bytes());
    out.extend_from_slice(&entry.len.to_le_bytes());
    out.push(u8::from(entry.deleted));
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
}

fn seal(block: &mut [u8], seed: u32, number: u32) {
    let crc = seeded(seed ^ number, &block[4..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_disk::MemDisk;

    const SEED: u32 = 5;

    /// A hint of one key, written in this format.
    fn written(disk: &MemDisk, format: u64) -> Summary {
        let entry = Entry { lsn: 3, offset: 44, len: 40, deleted: false };
        let table = Table::from_records(vec![(b"k"[..].into(), entry)]);
        let mut writer = Writer::create(disk, "hint", SEED).unwrap();
        writer.step(disk, &table, usize::MAX).unwrap();
        let summary = Summary {
            end: 84,
            lsn_min: 3,
            lsn_max: 3,
            entries: 1,
            kind: Some(Kind::Compacted),
            ..Summary::default()
        };
        writer.end(disk, summary).unwrap();
        let mut trailer = disk.content("hint").unwrap().split_off(BLOCK);
        let at = |number: usize| BLOCK_HEADER + 8 + number * 8;
        trailer[at(0)..at(1)].copy_from_slice(&format.to_le_bytes());
        if format == 1 {
            trailer[at(9)..at(10)].fill(0);
        }
        seal(&mut trailer, SEED, 1);
        disk.write_at(writer.file(), &[&trailer], BLOCK as u64).unwrap();
        summary
    }

    #[test]
    fn hints_of_this_format_and_the_one_before_are_read() {
        for format in 0..=3 {
            let disk = MemDisk::new();
            let summary = written(&disk, format);
            let found = Hint::open(&disk, "hint", SEED, 84).unwrap().map(|hint| hint.summary);
            let expected = match format {
                1 => Some(Summary { kind: None, ..summary }),
                2 => Some(summary),
                _ => None,
            };
            assert_eq!(found, expected, "format {format}");
        }
    }
}
