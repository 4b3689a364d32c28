//! The bytes of a data file, encoded and decoded here and nowhere else.
//!
//! A data file is a file header and then records, without gaps; behind them an active file reads as
//! zeroes (it is allocated ahead). All numbers are little-endian.
//!
//! File header, 44 bytes:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 7 | `rondobc` |
//! | 7 | 1 | format version, 3; 2 is read too |
//! | 8 | 1 | kind: 1 log, 2 compacted |
//! | 9 | 3 | zero |
//! | 12 | 4 | the file's number, as in its name |
//! | 16 | 8 | salt of the store |
//! | 24 | 8 | base: the last Lsn before this file (0 in compacted files) |
//! | 32 | 8 | the Lsn that was known durable when the file was made |
//! | 40 | 4 | CRC-32 of bytes 0..40 |
//!
//! Record, 28 bytes, perhaps a delta, and key, head, body:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 4 | CRC-32 of bytes 4..28, delta, key and head, started from the file's seed and the record's place |
//! | 4 | 4 | CRC-32 of the body |
//! | 8 | 8 | Lsn of the batch |
//! | 16 | 4 | length of the body |
//! | 20 | 3 | length of the head |
//! | 23 | 1 | flags: 1 delete, 2 last of its batch, 4 mark, 8 end, 16 a delta follows |
//! | 24 | 2 | length of the key |
//! | 26 | 2 | place in its batch, from 0 |
//! | 28 | 0 or 8 | delta; there when it is flagged |
//! | | | key, head, body |
//!
//! The seed is a hash of the file number with the store's salt, and the place is where in the file the record starts: bytes of
//! another place, file or store, and bytes that a client made to look like a record, are not taken for one. (Version 1
//! left the place out; a block that a device had read from elsewhere in the same file was believed. Version 2 is this one
//! without deltas.) Two checksums let
//! the versions of a key be read and trusted without its values. A mark has no key, and its head is the
//! Lsn known durable when it was written (8 bytes); a mark that is also flagged `end` is the last
//! record of a finished compacted file.

use bytes::Bytes;
use rondo_core::config::{BODY_BYTES_MAX, ENGINE_KEY_BYTES_MAX, HEAD_BYTES_MAX};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) const FILE_HEADER: usize = 44;
pub(crate) const HEADER: usize = 28;
/// A mark's length in bytes.
pub(crate) const MARK_LEN: usize = HEADER + 8;
/// The longest record in bytes: nothing longer is taken for one.
pub(crate) const RECORD_BYTES_MAX: usize =
    HEADER + DELTA_LEN + ENGINE_KEY_BYTES_MAX + HEAD_BYTES_MAX + BODY_BYTES_MAX;
pub(crate) const VERSION: u8 = 3;
/// The oldest version that is read.
const VERSION_MIN: u8 = 2;

pub(crate) const DELETE: u8 = 1;
pub(crate) const LAST: u8 = 2;
pub(crate) const MARK: u8 = 4;
pub(crate) const END: u8 = 8;
const DELTA: u8 = 16;
/// The length of a delta in bytes.
pub(crate) const DELTA_LEN: usize = 8;

const MAGIC: &[u8; 7] = b"rondobc";

const _: () = assert!(HEAD_BYTES_MAX < 1 << 24, "the head's length has three bytes");
const _: () = assert!(ENGINE_KEY_BYTES_MAX <= u16::MAX as usize);

/// Where the records of a file come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Writes, in their order, with dense Lsns.
    Log,
    /// What a compaction kept.
    Compacted,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileHeader {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    pub(crate) salt: u64,
    pub(crate) base: u64,
    pub(crate) durable: u64,
}

/// Why bytes are not a file header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadHeader {
    Damaged,
    /// Of a version that this program does not know.
    Other(u8),
}

/// The fixed part of a record; its lengths are within limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) body_crc: u32,
    pub(crate) lsn: u64,
    pub(crate) body_len: usize,
    pub(crate) head_len: usize,
    pub(crate) flags: u8,
    pub(crate) key_len: usize,
    pub(crate) index: u16,
}

/// What to encode: a header without lengths and checksums, and the parts.
pub(crate) struct Parts<'a> {
    pub(crate) lsn: u64,
    pub(crate) index: u16,
    pub(crate) flags: u8,
    /// What a replay tells of the change; 0 takes no room.
    pub(crate) delta: u64,
    pub(crate) key: &'a [u8],
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [Bytes],
}

/// The seed of a file's checksums.
pub(crate) fn seed(salt: u64, number: u32) -> u32 {
    xxh3_64_with_seed(&number.to_le_bytes(), salt) as u32
}

impl Kind {
    /// Its number in a file.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Kind::Log => 1,
            Kind::Compacted => 2,
        }
    }

    pub(crate) const fn of(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Log),
            2 => Some(Kind::Compacted),
            _ => None,
        }
    }
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = VERSION;
        bytes[8] = self.kind.code();
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::decode(&bytes), Ok(*self), "what is written can be read");
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<FileHeader, BadHeader> {
        let intact = bytes.len() >= FILE_HEADER
            && bytes[..7] == *MAGIC
            && u32_at(bytes, 40) == crc32fast::hash(&bytes[..40]);
        if !intact {
            return Err(BadHeader::Damaged);
        }
        if !(VERSION_MIN..=VERSION).contains(&bytes[7]) {
            return Err(BadHeader::Other(bytes[7]));
        }
        let kind = Kind::of(bytes[8]).ok_or(BadHeader::Damaged)?;
        Ok(FileHeader {
            kind,
            number: u32_at(bytes, 12),
            salt: u64_at(bytes, 16),
            base: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
        })
    }
}

impl Header {
    /// Reads the fixed part; `None` when a length or flag cannot be.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        let lens = u32_at(bytes, 20);
        let header = Header {
            body_crc: u32_at(bytes, 4),
            lsn: u64_at(bytes, 8),
            body_len: u32_at(bytes, 16) as usize,
            head_len: (lens & 0xFF_FFFF) as usize,
            flags: (lens >> 24) as u8,
            key_len: u16::from_le_bytes([bytes[24], bytes[25]]) as usize,
            index: u16::from_le_bytes([bytes[26], bytes[27]]),
        };
        let possible = header.lsn > 0
            && header.body_len <= BODY_BYTES_MAX
            && header.head_len <= HEAD_BYTES_MAX
            && header.key_len <= ENGINE_KEY_BYTES_MAX
            && header.flags & !(DELETE | LAST | MARK | END | DELTA) == 0
            && (!header.has(MARK) || header.head_len == 8 && !header.has(DELTA));
        possible.then_some(header)
    }

    /// The whole record's length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.body_at() + self.body_len
    }

    /// Where the body starts: the end of what the first checksum covers.
    pub(crate) fn body_at(&self) -> usize {
        self.key_at() + self.key_len + self.head_len
    }

    /// Where the key starts.
    pub(crate) fn key_at(&self) -> usize {
        HEADER + if self.has(DELTA) { DELTA_LEN } else { 0 }
    }

    /// The key of the record at the start of `bytes`.
    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.key_at()..self.key_at() + self.key_len]
    }

    /// The delta of the record at the start of `bytes`.
    pub(crate) fn delta(&self, bytes: &[u8]) -> u64 {
        if self.has(DELTA) { u64_at(bytes, HEADER) } else { 0 }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The durable Lsn that a mark names. `bytes` starts with the record.
    pub(crate) fn marked(&self, bytes: &[u8]) -> u64 {
        u64_at(bytes, HEADER)
    }
}

/// Appends a record that will start at `at` in its file, and answers its length.
pub(crate) fn encode(buffer: &mut Vec<u8>, seed: u32, at: u64, parts: &Parts<'_>) -> usize {
    let start = buffer.len();
    let body_len: usize = parts.body.iter().map(Bytes::len).sum();
    assert!(parts.lsn > 0 && at >= FILE_HEADER as u64, "no record has Lsn 0 or lies in the header");
    assert!(parts.key.len() <= ENGINE_KEY_BYTES_MAX, "keys are checked before");
    assert!(parts.head.len() <= HEAD_BYTES_MAX && body_len <= BODY_BYTES_MAX, "values are, too");
    assert!(at + RECORD_BYTES_MAX as u64 <= u64::from(u32::MAX), "places have 32 bits");
    let body_crc = if body_len == 0 { 0 } else { crc_of(parts.body) };
    let has_delta = parts.delta != 0;
    let flags = parts.flags | if has_delta { DELTA } else { 0 };
    let lens = parts.head.len() as u32 | u32::from(flags) << 24;
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&body_crc.to_le_bytes());
    header[8..16].copy_from_slice(&parts.lsn.to_le_bytes());
    header[16..20].copy_from_slice(&(body_len as u32).to_le_bytes());
    header[20..24].copy_from_slice(&lens.to_le_bytes());
    header[24..26].copy_from_slice(&(parts.key.len() as u16).to_le_bytes());
    header[26..28].copy_from_slice(&parts.index.to_le_bytes());
    buffer.extend_from_slice(&header);
    if has_delta {
        buffer.extend_from_slice(&parts.delta.to_le_bytes());
    }
    buffer.extend_from_slice(parts.key);
    buffer.extend_from_slice(parts.head);
    let crc = seeded(placed(seed, at), &buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    for part in parts.body {
        buffer.extend_from_slice(part);
    }
    let len = buffer.len() - start;
    let read = Header::decode(&header).map(|read| (read.lsn, read.flags, read.len()));
    assert_eq!(read, Some((parts.lsn, flags, len)), "what is written can be read");
    len
}

/// Appends a mark that names `durable` and will start at `at` in its file.
pub(crate) fn encode_mark(
    buffer: &mut Vec<u8>,
    seed: u32,
    at: u64,
    durable: u64,
    flags: u8,
) -> usize {
    let head = durable.to_le_bytes();
    let lsn = durable.max(1);
    let (flags, delta) = (MARK | flags, 0);
    let parts = Parts { lsn, index: 0, flags, delta, key: &[], head: &head, body: &[] };
    encode(buffer, seed, at, &parts)
}

/// Checks header, key and head of the record at the start of `bytes`, which were read at `at`. The body may be missing.
pub(crate) fn check_head(seed: u32, at: u64, bytes: &[u8]) -> Result<Header, &'static str> {
    if bytes.len() < HEADER {
        return Err("the file ends inside a record's header");
    }
    let header = Header::decode(bytes).ok_or("impossible lengths or flags")?;
    let covered = bytes.get(4..header.body_at()).ok_or("the file ends inside a record")?;
    if seeded(placed(seed, at), covered) != u32_at(bytes, 0) {
        return Err("the checksum of the head does not fit");
    }
    Ok(header)
}

/// Checks the body of a record whose head is sound.
pub(crate) fn check_body(header: &Header, bytes: &[u8]) -> Result<(), &'static str> {
    let body =
        bytes.get(header.body_at()..header.len()).ok_or("the file ends inside a record's body")?;
    if crc32fast::hash(body) != header.body_crc {
        return Err("the checksum of the body does not fit");
    }
    Ok(())
}

/// The seed of the record at `at`. Two that differ never give the same checksum of the same bytes.
fn placed(seed: u32, at: u64) -> u32 {
    seed ^ at as u32
}

/// CRC-32 of `bytes`, started from `seed`.
pub(crate) fn seeded(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn crc_of(pieces: &[Bytes]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}
