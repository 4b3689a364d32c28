//! Reads a data file from front to back, and finds the next sound record behind damage.
//!
//! A short read is no end: the file's length is asked once, and anything shorter is an error
//! (basho/bitcask e3ae214 took a full last chunk for the end). Damage is reported as a range of bytes;
//! a record whose head is sound and whose body is not is damage of exactly its length, so that bytes
//! inside a value are never looked at as records while its head stands; it is told apart, since its key is known.

use std::io;

use rondo_core::env::Disk;

use super::record::{self, FILE_HEADER, HEADER, Header, MARK, RECORD_BYTES_MAX};

const CHUNK: usize = 1 << 20;

/// What lies next in a file.
pub(crate) enum Item<'a> {
    /// A sound record; `bytes` is all of it.
    Record { offset: u64, header: Header, bytes: &'a [u8] },
    /// A record whose body is damaged, and whose head, key and Lsn are sound; `bytes` is all of it.
    Rotten { offset: u64, header: Header, bytes: &'a [u8] },
    /// Bytes that are no sound record and not only zeroes; something sound follows, or the end.
    Damage { from: u64, what: &'static str },
}

impl Item<'_> {
    /// Where it starts.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Item::Record { offset, .. }
            | Item::Rotten { offset, .. }
            | Item::Damage { from: offset, .. } => *offset,
        }
    }
}

/// A header, when that is sound, and what is not.
type Unsound = (Option<Header>, &'static str);

/// A place in a file.
pub(crate) struct Walk<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    seed: u32,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    read: u64,
    blank: bool,
}

impl<'a, D: Disk> Walk<'a, D> {
    /// Starts at `from`, or behind the file header where that is more, and ends at `end`.
    pub(crate) fn new(disk: &'a D, file: &'a D::File, seed: u32, from: u64, end: u64) -> Self {
        let at = from.max(FILE_HEADER as u64);
        Walk { disk, file, seed, at, end, window: Vec::new(), window_at: at, read: 0, blank: false }
    }

    /// Where the next item starts.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// Whether zeroes were left when `next` found no more. Where a file is known to be full, they are damage.
    pub(crate) fn ended_in_zeroes(&self) -> bool {
        self.blank
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The next item; `None` when only zeroes are left.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let from = self.at;
        let what = match self.record_at(from)? {
            Ok(header) => {
                self.at = from + header.len() as u64;
                let bytes = self.bytes(from, header.len())?;
                return Ok(Some(Item::Record { offset: from, header, bytes }));
            }
            Err((Some(header), what)) => {
                let to = self.end.min(from + header.len() as u64);
                self.at = to;
                if to < from + header.len() as u64 || header.has(MARK) {
                    return Ok(Some(Item::Damage { from, what }));
                }
                let bytes = self.bytes(from, header.len())?;
                return Ok(Some(Item::Rotten { offset: from, header, bytes }));
            }
            Err((None, what)) => what,
        };
        let (to, blank) = self.find_record(from + 1)?;
        self.at = to;
        if blank && self.all_zero(from)? {
            self.blank = true;
            return Ok(None);
        }
        Ok(Some(Item::Damage { from, what }))
    }

    /// The sound record at `at`, or why there is none, with its header when that is sound.
    fn record_at(&mut self, at: u64) -> io::Result<Result<Header, Unsound>> {
        let seed = self.seed;
        let fixed = self.bytes(at, HEADER)?;
        if fixed.len() < HEADER {
            return Ok(Err((None, "the file ends inside a record's header")));
        }
        let Some(header) = Header::decode(fixed) else {
            return Ok(Err((None, "impossible lengths or flags")));
        };
        let bytes = self.bytes(at, header.len())?;
        if let Err(what) = record::check_head(seed, at, bytes) {
            return Ok(Err((None, what)));
        }
        Ok(record::check_body(&header, bytes).map(|()| header).map_err(|what| (Some(header), what)))
    }

    /// The first sound record at or after `from`, or the end and `true`.
    fn find_record(&mut self, from: u64) -> io::Result<(u64, bool)> {
        let mut at = from;
        while at + HEADER as u64 <= self.end {
            let chunk = self.bytes(at, CHUNK)?;
            let len = chunk.len();
            match chunk.iter().position(|byte| *byte != 0) {
                // A header has bytes that are not zero, so none starts further ahead than this.
                None => at += (len + 1 - HEADER.min(len)) as u64,
                Some(ahead) if ahead >= HEADER => at += (ahead + 1 - HEADER) as u64,
                Some(_) => {
                    if self.record_at(at)?.is_ok() {
                        return Ok((at, false));
                    }
                    at += 1;
                }
            }
        }
        Ok((self.end, true))
    }

    fn all_zero(&mut self, from: u64) -> io::Result<bool> {
        let mut at = from;
        while at < self.end {
            let chunk = self.bytes(at, CHUNK)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += chunk.len() as u64;
        }
        Ok(true)
    }

    /// `len` bytes at `at`, fewer only at the end.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        debug_assert!(len <= CHUNK.max(RECORD_BYTES_MAX), "lengths are checked before");
        let len = len.min((self.end - at.min(self.end)) as usize);
        let inside =
            at >= self.window_at && at + len as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let wanted = len.max(CHUNK).min((self.end - at) as usize);
            self.window.resize(wanted, 0);
            self.window_at = at;
            let found = self.disk.read_at(self.file, &mut self.window, at)?;
            self.read += found as u64;
            if found < wanted {
                self.window.clear();
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file became shorter while it was read",
                ));
            }
        }
        let start = (at - self.window_at) as usize;
        Ok(&self.window[start..start + len])
    }
}
