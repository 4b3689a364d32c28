//! The bytes of a table around its blocks, encoded and decoded here and nowhere else. All numbers are little-endian.
//!
//! A table is a header, blocks (`block`), the names of the blocks, the index, the filter and a footer, without gaps.
//!
//! Header, 16 bytes: `rondotb` (7), format version 1 (1), the file's number (4), CRC-32 of the 12 bytes before.
//!
//! Index: CRC-32 of the rest, started from the table's seed; how many blocks (4); for each block the lengths of its heads, its bodies
//! and its names (4 each), the length of its first key (2), and that key. Blocks follow each other from byte 16 on, names from where
//! the blocks end on.
//!
//! Filter: CRC-32 of the rest, started from the table's seed, and the bytes of `bloom`.
//!
//! Footer, the last 88 bytes:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 7 | `rondotb` |
//! | 7 | 1 | format version, 1 |
//! | 8 | 4 | the file's number, as in its name |
//! | 12 | 4 | zero |
//! | 16 | 8 | salt of the store |
//! | 24 | 8 | where the blocks end |
//! | 32 | 8 | where the names end and the index starts |
//! | 40 | 8 | where the index ends and the filter starts |
//! | 48 | 8 | how many keys |
//! | 56 | 8 | how many of them were deleted |
//! | 64 | 8 | the highest Lsn in it |
//! | 72 | 12 | zero |
//! | 84 | 4 | CRC-32 of bytes 0..84 |
//!
//! Index, filter and footer only say again what blocks and the list of tables say: when one is damaged it is made anew of them.

use crate::log::record::{seeded, u32_at, u64_at};

pub(super) const TABLE_HEADER: usize = 16;
pub(super) const FOOTER: usize = 88;
pub(super) const VERSION: u8 = 1;

const MAGIC: &[u8; 7] = b"rondotb";

/// Where a block lies, and how long its parts are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) heads_len: u32,
    pub(super) bodies_len: u32,
    pub(super) names_at: u64,
    /// 0 when there are none.
    pub(super) names_len: u32,
}

/// The blocks of a table, in order, with their first keys.
#[derive(Clone, Default)]
pub(super) struct Index {
    places: Vec<Place>,
    keys: Vec<u8>,
    /// Where each key ends in `keys`.
    ends: Vec<u32>,
}

/// What a footer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Footer {
    pub(super) number: u32,
    pub(super) salt: u64,
    pub(super) blocks_end: u64,
    pub(super) index_at: u64,
    pub(super) filter_at: u64,
    pub(super) count: u64,
    pub(super) tombstones: u64,
    pub(super) lsn_max: u64,
}

/// The first bytes of a table.
pub(super) fn header(number: u32) -> [u8; TABLE_HEADER] {
    let mut bytes = [0; TABLE_HEADER];
    bytes[..7].copy_from_slice(MAGIC);
    bytes[7] = VERSION;
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The version that a sound header names.
pub(super) fn version(bytes: &[u8]) -> Option<u8> {
    let is_sound = bytes.len() >= TABLE_HEADER
        && bytes.starts_with(MAGIC)
        && crc32fast::hash(&bytes[..12]) == u32_at(bytes, 12);
    is_sound.then(|| bytes[7])
}

impl Index {
    pub(super) fn push(&mut self, place: Place, first: &[u8]) {
        self.places.push(place);
        self.keys.extend_from_slice(first);
        self.ends.push(self.keys.len() as u32);
    }

    /// The names start at `by` and not at 0.
    pub(super) fn move_names(&mut self, by: u64) {
        self.places.iter_mut().for_each(|place| place.names_at += by);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn place(&self, block: usize) -> Option<Place> {
        self.places.get(block).copied()
    }

    /// The first key of a block.
    pub(super) fn key(&self, block: usize) -> &[u8] {
        let start = if block == 0 { 0 } else { self.ends[block - 1] as usize };
        &self.keys[start..self.ends[block] as usize]
    }

    /// The only block that may hold `key`, the first for a key before all.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.places.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.places.len() * (size_of::<Place>() + 4) + self.keys.len()
    }

    pub(super) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&(self.places.len() as u32).to_le_bytes());
        for (block, place) in self.places.iter().enumerate() {
            for len in [place.heads_len, place.bodies_len, place.names_len] {
                bytes.extend_from_slice(&len.to_le_bytes());
            }
            let key = self.key(block);
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            bytes.extend_from_slice(key);
        }
        let crc = seeded(seed, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None`: it is damaged, or does not fit a table whose blocks end at `blocks_end` and whose names end at `names_end`.
    pub(super) fn decode(
        seed: u32,
        bytes: &[u8],
        blocks_end: u64,
        names_end: u64,
    ) -> Option<Index> {
        let (crc, mut rest) = bytes.split_first_chunk::<4>()?;
        if seeded(seed, rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let count = u32::from_le_bytes(take(&mut rest)?);
        let (mut index, mut at, mut names_at) = (Index::default(), TABLE_HEADER as u64, blocks_end);
        for _ in 0..count {
            let [heads_len, bodies_len, names_len] =
                [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?].map(u32::from_le_bytes);
            let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (key, behind) = rest.split_at_checked(len)?;
            let place = Place { at, heads_len, bodies_len, names_at, names_len };
            index.push(place, key);
            rest = behind;
            at = place.end();
            names_at += u64::from(names_len);
        }
        let fits = count > 0 && rest.is_empty() && at == blocks_end && names_at == names_end;
        fits.then_some(index)
    }
}

impl Place {
    /// Where the block ends.
    pub(super) fn end(&self) -> u64 {
        self.at + self.heads_end() + u64::from(self.bodies_len)
    }

    /// The length of a block without its bodies.
    pub(super) fn heads_end(&self) -> u64 {
        super::block::BLOCK_HEADER as u64 + u64::from(self.heads_len)
    }

    /// The length of a block.
    pub(super) fn len(&self) -> u64 {
        self.end() - self.at
    }
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER] {
        let mut bytes = [0; FOOTER];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = VERSION;
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        let numbers = [
            self.salt,
            self.blocks_end,
            self.index_at,
            self.filter_at,
            self.count,
            self.tombstones,
            self.lsn_max,
        ];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[16 + 8 * at..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..FOOTER - 4]);
        bytes[FOOTER - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Footer> {
        let is_sound = bytes.len() == FOOTER
            && bytes.starts_with(MAGIC)
            && bytes[7] == VERSION
            && crc32fast::hash(&bytes[..FOOTER - 4]) == u32_at(bytes, FOOTER - 4);
        is_sound.then(|| Footer {
            number: u32_at(bytes, 8),
            salt: u64_at(bytes, 16),
            blocks_end: u64_at(bytes, 24),
            index_at: u64_at(bytes, 32),
            filter_at: u64_at(bytes, 40),
            count: u64_at(bytes, 48),
            tombstones: u64_at(bytes, 56),
            lsn_max: u64_at(bytes, 64),
        })
    }
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
