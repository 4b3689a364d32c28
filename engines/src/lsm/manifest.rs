//! The list of tables: its bytes, encoded and decoded here and nowhere else. All numbers are little-endian.
//!
//! Each list is a file of its own, `N.list`, written once. The newest sound one counts; the one before is removed when it is
//! durable. A file has the list twice, each time filled up with zeroes to a multiple of 4096 bytes, so that damage
//! of one is no damage.
//!
//! | size | what |
//! |---|---|
//! | 4 | CRC-32 of all behind it, zeroes not included |
//! | 4 | length of what it covers |
//! | 7 | `rondols` |
//! | 1 | format version, 1 |
//! | 4 | the file's number, as in its name |
//! | 8 | salt of the store |
//! | 8 | flushed: all writes up to this Lsn are in tables |
//! | 4 | the last log file with none but such writes; 0 when there is none |
//! | 8, 8, 8 | records then, how many of them are the node's own, their bytes |
//! | 4 | how many tables |
//!
//! and for each table, those of level 0 from the oldest on:
//!
//! | size | what |
//! |---|---|
//! | 1 | level |
//! | 4 | the file's number |
//! | 8, 8, 8, 8, 8 | length of the file, where its blocks end, keys, deletions among them, highest Lsn |
//! | 8 | bytes of the keys, heads and bodies in it |
//! | 2, 2 | length of the first key that counts and of the last one |
//! | | these keys |

use std::io;

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};

use super::format::take;
use super::levels::LEVELS;
use super::table::Meta;
use crate::log::file_path;
use crate::log::record::{u32_at, u64_at};

pub(super) const EXTENSION: &str = "list";
const VERSION: u8 = 1;
const MAGIC: &[u8; 7] = b"rondols";
/// Copies start at multiples of this, in bytes.
const PAGE: usize = 4096;
/// The longest list that is read, in bytes: a million tables.
const LIST_BYTES_MAX: u64 = 512 << 20;

/// What a list says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Manifest {
    pub(super) salt: u64,
    pub(super) flushed: u64,
    pub(super) flushed_log: u32,
    pub(super) totals: Totals,
    pub(super) tables: Vec<(usize, Meta)>,
}

/// How many records there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) own_records: u64,
    pub(super) live_bytes: u64,
}

impl Manifest {
    fn encode(&self, number: u32) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.flushed.to_le_bytes());
        bytes.extend_from_slice(&self.flushed_log.to_le_bytes());
        let Totals { records, own_records, live_bytes } = self.totals;
        for number in [records, own_records, live_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.tables.len() as u32).to_le_bytes());
        for (level, meta) in &self.tables {
            bytes.push(*level as u8);
            bytes.extend_from_slice(&meta.number.to_le_bytes());
            let Meta { len, blocks_end, count, tombstones, lsn_max, payload, .. } = *meta;
            for number in [len, blocks_end, count, tombstones, lsn_max, payload] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for key in [&meta.smallest, &meta.largest] {
                bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            }
            bytes.extend_from_slice(&meta.smallest);
            bytes.extend_from_slice(&meta.largest);
        }
        let len = (bytes.len() - 8) as u32;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        bytes
    }

    /// One copy. `Ok(None)`: it is damaged.
    fn decode(number: u32, bytes: &[u8]) -> Result<Option<Manifest>> {
        let len = if bytes.len() >= 16 { u32_at(bytes, 4) as usize } else { return Ok(None) };
        let Some(covered) = bytes.get(4..len.saturating_add(8)) else { return Ok(None) };
        if crc32fast::hash(covered) != u32_at(bytes, 0) || !covered[4..].starts_with(MAGIC) {
            return Ok(None);
        }
        match covered[11] {
            VERSION => Ok(Manifest::decode_rest(number, &covered[12..])),
            found => Err(Error::UnknownVersion { what: "a list of tables", found }),
        }
    }

    fn decode_rest(number: u32, mut rest: &[u8]) -> Option<Manifest> {
        let rest = &mut rest;
        if u32::from_le_bytes(take(rest)?) != number {
            return None;
        }
        let [salt, flushed] = [take(rest)?, take(rest)?].map(u64::from_le_bytes);
        let flushed_log = u32::from_le_bytes(take(rest)?);
        let [records, own_records, live_bytes] =
            [take(rest)?, take(rest)?, take(rest)?].map(u64::from_le_bytes);
        let totals = Totals { records, own_records, live_bytes };
        let count = u32::from_le_bytes(take(rest)?);
        let mut tables = Vec::new();
        for _ in 0..count {
            let [level] = take(rest)?;
            let number = u32::from_le_bytes(take(rest)?);
            let numbers: [u8; 48] = take(rest)?;
            let [len, blocks_end, count, tombstones, lsn_max, payload] =
                [0, 1, 2, 3, 4, 5].map(|at| u64_at(&numbers, 8 * at));
            let [smallest, largest] = [take(rest)?, take(rest)?].map(u16::from_le_bytes);
            let (smallest, behind) = rest.split_at_checked(usize::from(smallest))?;
            let (largest, behind) = behind.split_at_checked(usize::from(largest))?;
            *rest = behind;
            let (smallest, largest) = (smallest.into(), largest.into());
            let meta = Meta {
                number,
                len,
                blocks_end,
                count,
                tombstones,
                lsn_max,
                payload,
                smallest,
                largest,
            };
            let level = usize::from(level);
            tables.push((level, meta));
            if level >= LEVELS {
                return None;
            }
        }
        rest.is_empty().then_some(Manifest { salt, flushed, flushed_log, totals, tables })
    }

    /// Writes it into a new file. After an error that is not there.
    pub(super) fn write<D: Disk>(&self, disk: &D, dir: &str, number: u32) -> io::Result<D::File> {
        let path = file_path(dir, number, EXTENSION);
        let file = disk.open(&path, Open::New)?;
        let bytes = self.encode(number);
        match disk.write_at(&file, &[&bytes, &bytes], 0) {
            Ok(()) => Ok(file),
            Err(error) => {
                disk.remove(&path)?;
                Err(error)
            }
        }
    }

    /// Writes it over itself, and makes it and its name durable.
    ///
    /// What was read may be in the page cache alone, also after a sync that failed. And a copy that is damaged is whole again.
    pub(super) fn write_again<D: Disk>(&self, disk: &D, dir: &str, number: u32) -> io::Result<()> {
        let file = disk.open(&file_path(dir, number, EXTENSION), Open::Existing)?;
        let bytes = self.encode(number);
        disk.write_at(&file, &[&bytes, &bytes], 0)?;
        disk.sync_now(&file)?;
        disk.sync_dir(dir)
    }

    /// Reads a file. `None`: both copies are damaged.
    ///
    /// # Errors
    /// The disk's, and `UnknownVersion` for a list of a newer program.
    pub(super) fn read<D: Disk>(disk: &D, dir: &str, number: u32) -> Result<Option<Manifest>> {
        let file = disk.open(&file_path(dir, number, EXTENSION), Open::Existing)?;
        let len = disk.len(&file)?.min(LIST_BYTES_MAX);
        let mut bytes = vec![0; len as usize];
        let read = disk.read_at(&file, &mut bytes, 0)?;
        bytes.truncate(read);
        let second = bytes.len() / 2 / PAGE * PAGE;
        match Manifest::decode(number, &bytes)? {
            Some(manifest) => Ok(Some(manifest)),
            None => Manifest::decode(number, &bytes[second..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_disk::MemDisk;

    fn list() -> Manifest {
        let table = |n: u32| Meta {
            number: n,
            len: 900 + u64::from(n),
            blocks_end: 700,
            count: 9,
            tombstones: 2,
            lsn_max: 77,
            payload: 600,
            smallest: (*b"a").into(),
            largest: vec![b'z'; n as usize].into(),
        };
        let totals = Totals { records: 7, own_records: 2, live_bytes: 500 };
        let tables = (1..200).map(|n| (n as usize % LEVELS, table(n))).collect();
        Manifest { salt: 5, flushed: 70, flushed_log: 3, totals, tables }
    }

    #[test]
    fn damage_anywhere_in_one_copy_is_no_damage() {
        let disk = MemDisk::new();
        disk.create_dir("d").unwrap();
        list().write(&disk, "d", 8).unwrap();
        assert_eq!(Manifest::read(&disk, "d", 8).unwrap(), Some(list()));
        let path = file_path("d", 8, EXTENSION);
        let len = disk.content(&path).unwrap().len() as u64;
        for at in (0..len).step_by(37) {
            let disk = disk.fork();
            disk.flip_bit(&path, at, 3);
            assert_eq!(Manifest::read(&disk, "d", 8).unwrap(), Some(list()), "{at}");
            disk.flip_bit(&path, at % (len / 2), 3);
            disk.flip_bit(&path, at % (len / 2) + len / 2, 3);
            let found = Manifest::read(&disk, "d", 8).unwrap();
            assert!(found.is_none_or(|found| found == list()), "{at}");
        }
    }
}
