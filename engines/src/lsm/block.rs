//! The bytes of a block of a table, encoded and decoded here and nowhere else.
//!
//! A block holds some keys in order. In front are the heads, behind them the bodies, so that a scan of heads reads no body. All
//! numbers are little-endian; a varint has seven bits a byte, the lowest first.
//!
//! | size | what |
//! |---|---|
//! | 4 | CRC-32 of bytes 4..16 and the heads, started from the table's seed and the block's place |
//! | 4 | length of the heads |
//! | 4 | length of the bodies |
//! | 4 | how many keys |
//! | | heads: entries, then the places of the restarts (4 bytes each, in the heads), then their count (4 bytes) |
//! | | bodies, one after another |
//!
//! Entry:
//!
//! | size | what |
//! |---|---|
//! | 1 | kind: 1 put, 2 delete, 3 put whose body is lost, 4 lost but for its key |
//! | varint | how many bytes of the key are those of the key before; 0 in every sixteenth entry, a restart |
//! | varint | length of the rest of the key |
//! | varint | Lsn of the write |
//! | varint | kinds 1 and 3: length of the head |
//! | varint, varint, 4 | kind 1: where the body starts in the bodies, its length, its CRC-32 |
//! | | rest of the key; kinds 1 and 3: head |
//!
//! The checksum of a body lies in what the block's own checksum covers, so bytes of another place are not taken for a body,
//! and one damaged body is the damage of one key. The names of a block are its keys alone, for when its heads are damaged:
//! CRC-32 of the rest and of the block's place, then for each key the first two varints of its entry and the rest of the key.

use bytes::Bytes;

use crate::log::record::{seeded, u32_at};

/// The length of what stands in front of the heads, in bytes.
pub(super) const BLOCK_HEADER: usize = 16;
/// A key is written whole once in so many entries.
const RESTART_EVERY: u32 = 16;

/// What a table knows of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It has a record.
    Put,
    /// It was deleted.
    Delete,
    /// It has a record whose body was damaged.
    Bodiless,
    /// It has a record that was damaged.
    Lost,
}

/// A key and what is to be kept of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) lsn: u64,
    pub(super) kind: Kind,
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// What a block says of one key. Places count from the block's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) lsn: u64,
    pub(super) head_at: u32,
    pub(super) head_len: u32,
    pub(super) body_at: u32,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Kind::Put => 1,
            Kind::Delete => 2,
            Kind::Bodiless => 3,
            Kind::Lost => 4,
        }
    }

    const fn of(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Put),
            2 => Some(Kind::Delete),
            3 => Some(Kind::Bodiless),
            4 => Some(Kind::Lost),
            _ => None,
        }
    }
}

/// Makes blocks, one after another.
#[derive(Default)]
pub(super) struct Builder {
    heads: Vec<u8>,
    bodies: Vec<u8>,
    names: Vec<u8>,
    restarts: Vec<u32>,
    first: Vec<u8>,
    last: Vec<u8>,
    count: u32,
}

/// A block that was made.
pub(super) struct Made {
    pub(super) first: Vec<u8>,
    pub(super) heads_len: u32,
    pub(super) bodies_len: u32,
    /// Its names, with their checksum.
    pub(super) names: Vec<u8>,
}

impl Builder {
    /// Adds a key, which is behind those before it.
    pub(super) fn add(&mut self, item: &Item<'_>) {
        assert!(self.count == 0 || self.last[..] < *item.key, "keys come in order");
        let shared = if self.count.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(self.heads.len() as u32);
            0
        } else {
            self.last.iter().zip(item.key).take_while(|(a, b)| a == b).count()
        };
        if self.count == 0 {
            self.first = item.key.to_vec();
        }
        let rest = &item.key[shared..];
        self.heads.push(item.kind.code());
        for list in [&mut self.heads, &mut self.names] {
            put_varint(list, shared as u64);
            put_varint(list, rest.len() as u64);
        }
        self.names.extend_from_slice(rest);
        put_varint(&mut self.heads, item.lsn);
        let has_head = matches!(item.kind, Kind::Put | Kind::Bodiless);
        if has_head {
            put_varint(&mut self.heads, item.head.len() as u64);
        }
        if item.kind == Kind::Put {
            put_varint(&mut self.heads, self.bodies.len() as u64);
            put_varint(&mut self.heads, item.body.len() as u64);
            self.heads.extend_from_slice(&crc32fast::hash(item.body).to_le_bytes());
            self.bodies.extend_from_slice(item.body);
        }
        self.heads.extend_from_slice(rest);
        if has_head {
            self.heads.extend_from_slice(item.head);
        }
        self.last.clear();
        self.last.extend_from_slice(item.key);
        self.count += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// About the length of the block now, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.heads.len() + self.bodies.len()
    }

    /// Ends the block, which will start at `at` in its file, appends it to `out`, and begins the next.
    pub(super) fn finish(&mut self, seed: u32, at: u64, out: &mut Vec<u8>) -> Made {
        assert!(!self.is_empty(), "a block has a key");
        for restart in &self.restarts {
            self.heads.extend_from_slice(&restart.to_le_bytes());
        }
        self.heads.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        let (heads_len, bodies_len) = (self.heads.len() as u32, self.bodies.len() as u32);
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        for number in [heads_len, bodies_len, self.count] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.heads);
        let crc = seeded(placed(seed, at), &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.bodies);
        let crc = seeded(!placed(seed, at), &self.names);
        let names = [&crc.to_le_bytes(), &self.names[..]].concat();
        let first = std::mem::take(&mut self.first);
        self.heads.clear();
        self.bodies.clear();
        self.names.clear();
        self.restarts.clear();
        self.count = 0;
        Made { first, heads_len, bodies_len, names }
    }
}

/// The lengths of heads and bodies that a block's first bytes name, unchecked.
pub(super) fn lengths(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.len() >= BLOCK_HEADER).then(|| (u32_at(bytes, 4), u32_at(bytes, 8)))
}

/// The keys that the names of the block at `at` name; `None` when they are damaged.
pub(super) fn names(seed: u32, at: u64, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (crc, mut rest) = bytes.split_first_chunk::<4>()?;
    if seeded(!placed(seed, at), rest) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut keys: Vec<Vec<u8>> = Vec::new();
    while !rest.is_empty() {
        let shared = take_varint(&mut rest)? as usize;
        let len = take_varint(&mut rest)? as usize;
        let (own, behind) = rest.split_at_checked(len)?;
        let before = keys.last().map_or(&[][..], |key| key).get(..shared)?;
        let key = [before, own].concat();
        keys.push(key);
        rest = behind;
    }
    Some(keys)
}

/// A block in memory, checked; its bodies may be missing.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    /// Where the bodies start.
    bodies_at: usize,
    restarts_at: usize,
    restarts: usize,
}

impl Block {
    /// From bytes that were read at `at`, with the bodies or without. `None`: they are not that block.
    pub(super) fn check(seed: u32, at: u64, bytes: Bytes) -> Option<Block> {
        let (heads_len, bodies_len) = lengths(&bytes)?;
        let bodies_at = BLOCK_HEADER.checked_add(heads_len as usize)?;
        let is_long = bytes.len() == bodies_at || bytes.len() == bodies_at + bodies_len as usize;
        if !is_long || heads_len < 4 {
            return None;
        }
        if seeded(placed(seed, at), &bytes[4..bodies_at]) != u32_at(&bytes, 0) {
            return None;
        }
        let restarts = u32_at(&bytes, bodies_at - 4) as usize;
        let restarts_at = (bodies_at - 4).checked_sub(restarts.checked_mul(4)?)?;
        let fits = restarts > 0 && restarts_at >= BLOCK_HEADER;
        fits.then_some(Block { bytes, bodies_at, restarts_at, restarts })
    }

    /// A block that knows of each of these keys only that it is lost.
    pub(super) fn of_lost(keys: &[Vec<u8>]) -> Option<Block> {
        if keys.is_empty() || !keys.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let (mut builder, mut bytes) = (Builder::default(), Vec::new());
        for key in keys {
            builder.add(&Item { key, lsn: 0, kind: Kind::Lost, head: &[], body: &[] });
        }
        builder.finish(0, 0, &mut bytes);
        Block::check(0, 0, bytes.into())
    }

    /// What the block says of `key`.
    pub(super) fn find(&self, key: &[u8]) -> Option<Entry> {
        let mut cursor = Cursor::default();
        cursor.seek(self, key);
        cursor.entry.filter(|_| cursor.key == key)
    }

    /// The body of an entry, when it is here; `Err` when it is damaged.
    pub(super) fn body(&self, entry: &Entry) -> Option<Result<Bytes, ()>> {
        let start = self.bodies_at + entry.body_at as usize;
        let end = start + entry.body_len as usize;
        if entry.body_len > 0 && end > self.bytes.len() {
            return None;
        }
        let body = if entry.body_len == 0 { Bytes::new() } else { self.bytes.slice(start..end) };
        Some(if crc32fast::hash(&body) == entry.body_crc { Ok(body) } else { Err(()) })
    }

    /// Where the body of an entry starts, from the block's start.
    pub(super) fn body_at(&self, entry: &Entry) -> u64 {
        self.bodies_at as u64 + u64::from(entry.body_at)
    }

    pub(super) fn head(&self, entry: &Entry) -> Bytes {
        let start = entry.head_at as usize;
        self.bytes.slice(start..start + entry.head_len as usize)
    }

    fn restart(&self, at: usize) -> usize {
        BLOCK_HEADER + u32_at(&self.bytes, self.restarts_at + 4 * at) as usize
    }

    /// The whole key of a restart.
    fn restart_key(&self, at: usize) -> Option<&[u8]> {
        let start = self.restart(at) + 1;
        let mut rest = self.bytes.get(start..self.restarts_at)?;
        let _shared = take_varint(&mut rest)?;
        let len = take_varint(&mut rest)? as usize;
        let kind = Kind::of(self.bytes[start - 1])?;
        let fields = match kind {
            Kind::Put => 4,
            Kind::Bodiless => 2,
            Kind::Delete | Kind::Lost => 1,
        };
        for _ in 0..fields {
            take_varint(&mut rest)?;
        }
        rest.get(if kind == Kind::Put { 4 } else { 0 }..)?.get(..len)
    }
}

/// A place in a block.
#[derive(Default)]
pub(super) struct Cursor {
    next: usize,
    pub(super) key: Vec<u8>,
    pub(super) entry: Option<Entry>,
}

impl Cursor {
    /// Goes to the first key.
    pub(super) fn first(&mut self, block: &Block) {
        self.next = BLOCK_HEADER;
        self.advance(block);
    }

    /// Goes to the first key at or after `key`.
    pub(super) fn seek(&mut self, block: &Block, key: &[u8]) {
        let (mut low, mut high) = (0, block.restarts);
        while low < high {
            let middle = usize::midpoint(low, high);
            match block.restart_key(middle) {
                Some(found) if found <= key => low = middle + 1,
                _ => high = middle,
            }
        }
        self.next = block.restart(low.saturating_sub(1));
        self.advance(block);
        while self.entry.is_some() && self.key[..] < *key {
            self.advance(block);
        }
    }

    /// Goes to the next key. Bytes that passed their checksum and are no entry end the block.
    pub(super) fn advance(&mut self, block: &Block) {
        self.entry = self.read(block);
    }

    fn read(&mut self, block: &Block) -> Option<Entry> {
        let mut rest = block.bytes.get(self.next..block.restarts_at)?;
        let kind = Kind::of(*rest.first()?)?;
        rest = &rest[1..];
        let shared = take_varint(&mut rest)? as usize;
        let len = take_varint(&mut rest)? as usize;
        let lsn = take_varint(&mut rest)?;
        let has_head = matches!(kind, Kind::Put | Kind::Bodiless);
        let head_len = if has_head { take_varint(&mut rest)? as u32 } else { 0 };
        let (mut body_at, mut body_len, mut body_crc) = (0, 0, 0);
        if kind == Kind::Put {
            body_at = take_varint(&mut rest)? as u32;
            body_len = take_varint(&mut rest)? as u32;
            let (crc, behind) = rest.split_first_chunk::<4>()?;
            (body_crc, rest) = (u32::from_le_bytes(*crc), behind);
        }
        let own = rest.get(..len)?;
        rest.get(len..len.checked_add(head_len as usize)?)?;
        let head_at = (block.restarts_at - rest.len() + len) as u32;
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.next = head_at as usize + head_len as usize;
        Some(Entry { kind, lsn, head_at, head_len, body_at, body_len, body_crc })
    }
}

/// The seed of the block at `at`.
fn placed(seed: u32, at: u64) -> u32 {
    seed ^ at as u32 ^ (at >> 32) as u32
}

fn put_varint(list: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        list.push(number as u8 | 0x80);
        number >>= 7;
    }
    list.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in rest.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7F) << (7 * at as u32).min(63);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Vec<u8> {
        format!("key-{:03}", n * 2).into_bytes()
    }

    fn made(count: u32) -> (Vec<u8>, Made) {
        let (mut builder, mut bytes) = (Builder::default(), Vec::new());
        for n in 0..count {
            let kind = match n % 7 {
                3 => Kind::Delete,
                5 => Kind::Bodiless,
                _ => Kind::Put,
            };
            let (key, head, body) = (key(n), vec![n as u8; n as usize % 4], vec![!n as u8; 9]);
            builder.add(&Item { key: &key, lsn: 1 << n, kind, head: &head, body: &body });
        }
        let made = builder.finish(5, 77, &mut bytes);
        (bytes, made)
    }

    #[test]
    fn every_key_is_found_and_none_between() {
        for count in [1, 2, 15, 16, 17, 33, 60] {
            let (bytes, made) = made(count);
            let block = Block::check(5, 77, Bytes::from(bytes.clone())).expect("sound");
            for n in 0..count {
                let entry = block.find(&key(n)).expect("it is there");
                assert_eq!(entry.lsn, 1 << n);
                if entry.kind == Kind::Put {
                    assert_eq!(block.head(&entry)[..], vec![n as u8; n as usize % 4]);
                    assert_eq!(block.body(&entry).unwrap().unwrap()[..], [!n as u8; 9]);
                }
                assert!(block.find(format!("key-{:03}", n * 2 + 1).as_bytes()).is_none());
            }
            assert!(block.find(b"").is_none() && block.find(b"z").is_none());
            let names = names(5, 77, &made.names).expect("sound");
            assert_eq!(names, (0..count).map(key).collect::<Vec<_>>());
            let lost = Block::of_lost(&names).expect("there are keys");
            assert!((0..count).all(|n| lost.find(&key(n)).unwrap().kind == Kind::Lost));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let (bytes, made) = made(20);
        let heads_end = BLOCK_HEADER + made.heads_len as usize;
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            match Block::check(5, 77, bytes.into()) {
                // The length of the bodies alone says nothing of the heads.
                None => assert!(at < heads_end, "{at}"),
                Some(block) => {
                    assert!(at >= heads_end, "{at}");
                    let is_sound = |n: &u32| {
                        let entry = block.find(&key(*n)).expect("heads are sound");
                        entry.kind != Kind::Put || block.body(&entry) != Some(Err(()))
                    };
                    assert_eq!((0..20).filter(is_sound).count(), 19, "one key is damaged");
                }
            }
        }
        assert!(Block::check(5, 78, bytes.clone().into()).is_none(), "of another place");
        assert!(Block::check(6, 77, bytes.into()).is_none(), "of another table");
    }
}
