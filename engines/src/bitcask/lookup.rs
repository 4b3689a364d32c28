//! Reading: one key, a cold key in two parts, and pages in key order.
//!
//! A record is served only when its checksums fit and its key is the one asked for. When it would have
//! to wait for the device, the answer is a ticket. The ticket carries 64 more bits of a second
//! hash of the key that was asked, because the record behind a fingerprint may be another key's; where two
//! keys share a fingerprint the read just waits.
//!
//! A file that a compaction has removed stays open for the next few removals, so a ticket is good for the step
//! in which it was given, and much longer in fact; a read that has been started keeps the file open
//! itself. A ticket that is too old is answered `Full`: look the key up again.

use bytes::Bytes;
use rondo_core::engine::{Lookup, Page, ReadTicket, Record};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, ReadId};
use rondo_core::{buggify, sometimes};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keydir::Place;
use super::order::{Order, Source, Sources, Stop};
use super::{Bitcask, DataFile, Keys};
use crate::log::follow::Entry;
use crate::log::record::{self, DELETE, HEADER, Header, MARK};

/// Records up to this length are read whole even when only the head is asked for, in bytes.
const WHOLE_BYTES_MAX: usize = 4096;

/// As much of an old record is read to compare its key, in bytes: its head, most of the time.
const COMPARED_BYTES: usize = 256;

/// How much of a record is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    All,
}

impl<D: Disk> Bitcask<D> {
    /// The record of a key, or its head.
    pub(super) fn look_up(&self, key: &[u8], part: Part) -> Result<Lookup> {
        let places: SmallVec<[Place; 2]> = self.keydir.find(self.fingerprint(key)).collect();
        let may_be_cold = places.len() == 1;
        let mut damage = None;
        for place in places {
            let bytes = match self.fetch(place, part, may_be_cold) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(Lookup::Cold(self.ticket(place, key))),
                Err(error @ Error::Corrupt { .. }) => {
                    damage = damage.or(self.unless_of_another(place, key, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.parse(place, &bytes) {
                Ok((found, record)) if found == key => return Ok(Lookup::Hit(record)),
                Ok(_) => {}
                Err(error) => damage = damage.or(self.unless_of_another(place, key, error)),
            }
        }
        // A damaged record may have been this key's.
        damage.map_or(Ok(Lookup::Miss), Err)
    }

    pub(super) fn start_cold_read(&self, id: ReadId, ticket: ReadTicket) -> Result<()> {
        let number = ticket.file as u32;
        let grave =
            || self.leftovers.graves.iter().find(|(n, _)| *n == number).map(|(_, file)| file);
        let file = self.files.get(&number).map(|file| &file.file).or_else(grave);
        let file = file.ok_or(Error::Full("the record has moved; look the key up again"))?;
        let offset = ticket.offset & 0xFFFF_FFFF;
        self.disk.start_read(id, file, offset, ticket.len as usize);
        Ok(())
    }

    pub(super) fn finish_cold_read(&self, ticket: ReadTicket, bytes: &Bytes) -> Result<Lookup> {
        let (file, offset) = (ticket.file as u32, ticket.offset as u32);
        let place = Place { file, offset, len: ticket.len };
        let (key, record) = self.parse(place, bytes)?;
        let same = self.ticket(place, &key) == ticket;
        Ok(if same { Lookup::Hit(record) } else { Lookup::Miss })
    }

    /// File and offset have 32 bits each; above them are the halves of a second hash of the key.
    fn ticket(&self, place: Place, key: &[u8]) -> ReadTicket {
        let check = xxh3_64_with_seed(key, !self.names.salt);
        ReadTicket {
            file: u64::from(place.file) | check >> 32 << 32,
            offset: u64::from(place.offset) | check << 32,
            len: place.len,
        }
    }

    /// The slot of exactly this key.
    pub(super) fn find_place(&self, fingerprint: u32, key: &[u8]) -> Result<Option<Place>> {
        for place in self.keydir.find(fingerprint) {
            if self.is_key(place, key)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether the record at `place` is of `key`. Of one that cannot be read the hint knows it, so that a rotten record can be
    /// written over. Where there is no hint that is an error: taken for another key's the record would stay behind, and
    /// come back when it can be read again.
    fn is_key(&self, place: Place, key: &[u8]) -> Result<bool> {
        match self.is_read_as(place, key) {
            Err(error) => {
                sometimes!(self.disk, RottenRecordWrittenOver);
                self.is_hinted(place, key).ok_or_else(|| match error {
                    Error::Disk(error) => self.corrupt(place, &error.to_string()),
                    error => error,
                })
            }
            known => known,
        }
    }

    /// Whether the hint says that the record at `place` is of `key`; `None` when there is no hint that can be read.
    fn is_hinted(&self, place: Place, key: &[u8]) -> Option<bool> {
        let Keys::Hint(hint) = &self.files.get(&place.file)?.keys else {
            return None;
        };
        let cursor = hint.seek(&*self.disk, key).ok()?;
        let is_it = |(found, entry): (&[u8], Entry)| found == key && entry.offset == place.offset;
        Some(cursor.current().is_some_and(is_it))
    }

    /// The error, unless it is known that the damaged record is another key's.
    fn unless_of_another(&self, place: Place, key: &[u8], error: Error) -> Option<Error> {
        (self.is_hinted(place, key) != Some(false)).then_some(error)
    }

    fn is_read_as(&self, place: Place, key: &[u8]) -> Result<bool> {
        let file = self.file(place)?;
        if let Keys::Table(table) = &file.keys {
            return Ok(table.get(key).is_some_and(|entry| entry.offset == place.offset));
        }
        let mut bytes: SmallVec<[u8; 256]> = SmallVec::new();
        let mut len = COMPARED_BYTES.max(HEADER + key.len()).min(place.len as usize);
        loop {
            bytes.resize(len, 0);
            let read = self.disk.read_at(&file.file, &mut bytes, u64::from(place.offset))?;
            let header = if read == len { Header::decode(&bytes) } else { None };
            let header = header.ok_or_else(|| self.corrupt(place, "no record is there"))?;
            let has_key = bytes.get(header.key_at()..).is_some_and(|rest| rest.starts_with(key));
            if has_key && header.key_len == key.len() {
                return Ok(true);
            }
            if len >= header.body_at() || len == place.len as usize {
                break;
            }
            len = header.body_at().min(place.len as usize);
        }
        let other = record::check_head(file.seed, u64::from(place.offset), &bytes);
        other.map(|_| false).map_err(|what| self.corrupt(place, what))
    }

    /// The bytes of a record, or of its head; `None` when it is cold.
    fn fetch(&self, place: Place, part: Part, may_be_cold: bool) -> Result<Option<Bytes>> {
        let len = place.len as usize;
        if part == Part::All || len <= WHOLE_BYTES_MAX {
            return self.read(place, len, may_be_cold);
        }
        let Some(bytes) = self.read(place, WHOLE_BYTES_MAX, may_be_cold)? else {
            return Ok(None);
        };
        match Header::decode(&bytes) {
            Some(header) if header.body_at() > bytes.len() => {
                self.read(place, header.body_at().min(len), may_be_cold)
            }
            _ => Ok(Some(bytes)),
        }
    }

    /// The first `len` bytes at `place`; `None` when they are cold.
    fn read(&self, place: Place, len: usize, may_be_cold: bool) -> Result<Option<Bytes>> {
        let file = self.file(place)?;
        let offset = u64::from(place.offset);
        if place.file == self.active.number && offset >= self.active.flushed {
            let start = (offset - self.active.flushed) as usize;
            assert!(
                start + len <= self.active.buffer.len(),
                "a record is in the buffer as a whole"
            );
            sometimes!(self.disk, BufferRead);
            return Ok(Some(Bytes::copy_from_slice(&self.active.buffer[start..start + len])));
        }
        if may_be_cold && buggify!(self.disk, ReadForcedCold) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let read = if may_be_cold {
            self.disk.try_read_at(&file.file, &mut bytes, offset)?
        } else {
            Some(self.disk.read_at(&file.file, &mut bytes, offset)?)
        };
        match read {
            Some(read) if read < len => Err(self.corrupt(place, "the file ends inside a record")),
            Some(_) => Ok(Some(bytes.into())),
            None => Ok(None),
        }
    }

    /// Checks a record, whole or without its body, and answers its key and content.
    fn parse(&self, place: Place, bytes: &Bytes) -> Result<(Bytes, Record)> {
        let seed = record::seed(self.names.salt, place.file);
        let checked = record::check_head(seed, u64::from(place.offset), bytes).and_then(|header| {
            let whole = bytes.len() >= header.len();
            if whole {
                record::check_body(&header, bytes)?;
            }
            let fits = header.len() == place.len as usize && !header.has(DELETE | MARK);
            if fits { Ok((header, whole)) } else { Err("the record is not the one expected") }
        });
        let (header, whole) = checked.map_err(|what| self.corrupt(place, what))?;
        let key_end = header.key_at() + header.key_len;
        let body = if whole { bytes.slice(header.body_at()..header.len()) } else { Bytes::new() };
        let head = bytes.slice(key_end..header.body_at());
        Ok((bytes.slice(header.key_at()..key_end), Record { lsn: Lsn(header.lsn), head, body }))
    }

    fn file(&self, place: Place) -> Result<&DataFile<D::File>> {
        self.files.get(&place.file).ok_or_else(|| self.corrupt(place, "the file is gone"))
    }

    pub(super) fn corrupt(&self, place: Place, what: &str) -> Error {
        Error::corrupt(self.path(place.file, "data"), u64::from(place.offset), what)
    }

    /// One page of a scan. A damaged record ends the page before it; when it is the first, the answer is
    /// an empty page that goes on at it, or, when it is `from` itself, the error: whoever wants to
    /// go on after that asks from that key with a zero byte appended.
    pub(super) fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        bytes_max: usize,
        part: Part,
    ) -> Result<Page> {
        let damaged = match self.scan_once(from, limit, bytes_max, part) {
            Ok(result) => return result,
            Err(Stop::Disk(error)) => return Err(error.into()),
            Err(Stop::Damaged(number)) => number,
        };
        // A hint went bad since it was checked: the data itself says what it should hold.
        self.rebuild_hint(damaged)?;
        self.scan_once(from, limit, bytes_max, part).unwrap_or_else(|stop| match stop {
            Stop::Disk(error) => Err(error.into()),
            Stop::Damaged(number) => {
                let what = "the hint is damaged again after it was rebuilt";
                Err(Error::corrupt(self.path(number, "hint"), 0, what))
            }
        })
    }

    fn scan_once(
        &self,
        from: &[u8],
        limit: usize,
        bytes_max: usize,
        part: Part,
    ) -> Result<Result<Page>, Stop> {
        let mut order = Order::new(&*self.disk, self.sources(from)?)?;
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes = 0;
        while let Some(newest) = order.next()? {
            let (key, entry) = (newest.key, newest.entry);
            let place = Place { file: newest.file, offset: entry.offset, len: entry.len };
            // The keydir decides: this also passes over keys that were deleted in memory only.
            let alive = !entry.deleted
                && self.keydir.find(self.fingerprint(&key)).any(|other| other == place);
            if !alive {
                sometimes!(self.disk, ScanPassedADeadEntry);
                order.recycle(key);
                continue;
            }
            if page.records.len() >= limit
                || (!page.records.is_empty() && buggify!(self.disk, ScanPageOfOne))
                || (bytes > 0 && bytes >= bytes_max)
            {
                page.next = Some(key.into());
                break;
            }
            let read = self.fetch(place, part, false);
            let read = read.and_then(|found| self.parse(place, &found.unwrap_or_default()));
            match read {
                Ok((found, mut record)) => {
                    if part == Part::Head {
                        // A short record was read whole.
                        record.body = Bytes::new();
                    }
                    bytes += key.len() + record.head.len() + record.body.len();
                    page.records.push((found, record));
                    order.recycle(key);
                }
                Err(Error::Corrupt { .. }) if key != from => {
                    page.next = Some(key.into());
                    break;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(page))
    }

    fn sources<'a>(&'a self, from: &'a [u8]) -> Result<Sources<'a, D::File>, Stop> {
        let source = |(&number, file): (&u32, &'a DataFile<D::File>)| {
            let source = match &file.keys {
                Keys::Table(table) => Source::Table(Box::new(table.from(from))),
                Keys::Hint(hint) => {
                    let cursor = hint.seek(&*self.disk, from);
                    Source::Hint(hint, cursor.map_err(|error| Stop::new(number, error))?)
                }
            };
            Ok((number, source))
        };
        self.files.iter().map(source).collect()
    }
}
