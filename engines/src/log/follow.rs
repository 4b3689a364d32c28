//! The rule: which bytes of the log are writes that survived, which were never promised, which are lost.
//!
//! A power loss keeps any part of what was written since the last sync: an earlier write may be gone
//! and a later one there, in one file or over several. What is recovered must be a prefix of the
//! writes, batch by batch, that contains everything synced; and damage to synced data must be reported,
//! not taken for the end of the log.
//!
//! **The rule.** Let D be the highest Lsn that anything sound in the directory names as durable: file
//! headers, marks (each run of writes that follows a sync starts with one, and closing ends with one),
//! and hints, which are written of durable data only.
//! 1. Records with Lsns up to D are taken wherever they are sound. What is missing of them is lost, and
//!    reported: Lsns are dense, and a batch counts its records, so every gap is seen.
//! 2. Beyond D, batches are taken one by one while each is whole and its Lsn follows the one before.
//!    The first gap ends the log; everything behind it was never promised and is cut off.
//!
//! **Why it is right.** Let T be the highest Lsn whose sync had ended. Only Lsns that are durable are ever
//! named, so D <= T. What is synced is on the disk: without damage, rule 1 finds all of 1..D and rule
//! 2 meets no gap in D+1..T, so it ends at T or later, with a prefix. A hole that reordering made lies
//! above T >= D, so it is never reported as lost. Damage at or below D is always reported. What cannot
//! be told from a torn tail is damage in D+1..T, which is what the last sync covered when nothing
//! was written after it; closing cleanly leaves nothing in that state.
//!
//! **Where the log starts.** Its oldest file says which Lsn came before it. Its header is durable before anything is written
//! behind it, and before a compaction removes a file that was older (what was in the active file then is durable first); so
//! when it cannot be read and something stands there, it is damaged. Only a sound record right behind it says what came
//! before. And a file without a header may be a compacted one that has lost its end too: in it, what is out of order is a loss.
//!
//! Compacted files have no order and are complete before they get their names: all sound records in them
//! are taken, and all damage is a loss.
//!
//! **A record of which only the body is damaged** is no loss where it was durable: its key is known, so it is taken, and
//! whoever reads it is told that it cannot be read. It is never absent, and no older version takes its place. Beyond D it is a torn
//! write, and in a file without a header it is damage as any other.

use std::collections::BTreeSet;

use rondo_core::env::Disk;
use rondo_core::error::Result;

use super::record::{self, DELETE, END, FILE_HEADER, FileHeader, Header, Kind, LAST, MARK};
use super::walk::{Item, Walk};

/// At most this many losses are listed for one file.
const LOSSES_MAX: usize = 16;

/// Where a record lies in its file, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) lsn: u64,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) deleted: bool,
}

/// What a data file turned out to hold.
pub(crate) struct Loaded {
    pub(crate) records: Vec<(Box<[u8]>, Entry)>,
    /// Where the data ends.
    pub(crate) end: u64,
    /// Records of them that cannot be read: where they lie.
    pub(crate) rotten: BTreeSet<u32>,
    /// Sound records, marks included, that may not be durable: where they lie, and their bytes.
    pub(crate) uncertain: Vec<(u64, Vec<u8>)>,
    /// What lies behind the end and was never promised.
    pub(crate) behind: Remains,
    pub(crate) losses: Vec<(u64, String)>,
}

/// Says of two readings of the same bytes whether they found the same in them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Remains(u32);

/// How far the log has been followed, over all its files.
pub(crate) struct Follow {
    /// D: up to here everything was durable.
    pub(crate) durable: u64,
    /// The last Lsn taken, or known to have been taken by compacted files.
    pub(crate) last: u64,
    /// Whether `last` is known; before the first log file it is not.
    pub(crate) known: bool,
    /// Whether the log has ended.
    broken: bool,
    /// Bytes that were never promised.
    pub(crate) torn: u64,
}

/// A batch that is being read.
#[derive(Default)]
struct Partial {
    lsn: u64,
    next_index: u32,
    whole: bool,
    records: Vec<(Box<[u8]>, Entry)>,
    bytes: Vec<(u64, Vec<u8>)>,
}

impl Follow {
    /// Starts before the first file.
    pub(crate) fn new(durable: u64) -> Follow {
        Follow { durable, last: 0, known: false, broken: false, torn: 0 }
    }

    /// Reads a log file by the rule.
    pub(crate) fn read_log<D: Disk>(
        &mut self,
        mut walk: Walk<'_, D>,
        header: Option<FileHeader>,
        next_base: Option<u64>,
        len: u64,
    ) -> Result<Loaded> {
        let mut loaded = Loaded::new();
        self.enter(header, &mut loaded);
        loaded.doubt_header(header);
        let is_headed = header.is_some();
        let mut partial = Partial { whole: true, ..Partial::default() };
        let mut damage_at = None;
        while let Some(item) = walk.next()? {
            let (at, behind) = (item.offset(), loaded.behind.and(&item));
            match item {
                Item::Rotten { offset, header, bytes }
                    if is_headed && header.lsn <= self.durable =>
                {
                    let at = damage_at.take().unwrap_or(offset);
                    let record = Record { offset, header, bytes };
                    if self.take_durable(&record, at, &mut partial, &mut loaded) {
                        loaded.rotten.insert(offset as u32);
                    }
                }
                Item::Damage { from: at, .. } | Item::Rotten { offset: at, .. } => {
                    damage_at = damage_at.or(Some(at));
                }
                Item::Record { offset, header, bytes } if header.has(MARK) => {
                    if !self.broken && partial.whole && damage_at.is_none() {
                        loaded.end = offset + bytes.len() as u64;
                        loaded.doubt(offset, bytes);
                    }
                }
                Item::Record { offset, header, bytes } => {
                    let at = damage_at.unwrap_or(offset);
                    let record = Record { offset, header, bytes };
                    if header.lsn <= self.durable {
                        let taken = self.take_durable(&record, at, &mut partial, &mut loaded);
                        if !taken && !is_headed {
                            loaded.miss(at, "out of order in a file without its header");
                        }
                    } else {
                        self.take_tail(&record, at, &mut partial, &mut loaded);
                    }
                    damage_at = None;
                }
            }
            loaded.behind = if at < loaded.end { Remains::default() } else { behind };
        }
        let is_damaged = damage_at.is_some();
        self.finish_durable(walk.offset(), is_damaged, next_base, &partial, &mut loaded);
        self.broken |= !partial.whole && partial.lsn > self.durable;
        assert!(loaded.end <= len.max(FILE_HEADER as u64), "data ends inside its file");
        debug_assert!(loaded.records.is_sorted_by_key(|(_, entry)| entry.lsn), "a log is in order");
        if self.broken {
            self.torn += walk.offset().min(len).saturating_sub(loaded.end);
        }
        Ok(loaded)
    }

    /// A log file says which Lsn it starts after.
    pub(crate) fn enter(&mut self, header: Option<FileHeader>, loaded: &mut Loaded) {
        let Some(header) = header else { return };
        if !self.known {
            self.last = header.base;
            self.known = true;
        }
        let base = header.base.min(self.durable);
        if base > self.last {
            loaded.lose(0, self.last + 1, base);
            self.last = base;
        }
    }

    /// Rule 1; answers whether the record is of this log.
    fn take_durable(
        &mut self,
        record: &Record<'_>,
        at: u64,
        partial: &mut Partial,
        loaded: &mut Loaded,
    ) -> bool {
        let Header { lsn, index, .. } = record.header;
        self.begin(record, at, loaded);
        let follows = lsn == partial.lsn && u32::from(index) == partial.next_index;
        let starts = index == 0 && partial.whole && lsn == self.last + 1;
        if lsn < self.last || (lsn == self.last && !follows && partial.whole) {
            // Left over from another time: not in order, so not of this log.
            return false;
        }
        if !follows && !starts {
            let first = if partial.whole { self.last + 1 } else { self.last };
            loaded.lose(at, first, if index == 0 { lsn - 1 } else { lsn });
        }
        loaded.take(record.key(), record.entry());
        loaded.end = record.end();
        loaded.uncertain.clear();
        self.last = lsn;
        *partial = Partial {
            lsn,
            next_index: u32::from(index) + 1,
            whole: record.header.has(LAST),
            ..Partial::default()
        };
        true
    }

    /// Rule 2.
    fn take_tail(
        &mut self,
        record: &Record<'_>,
        at: u64,
        partial: &mut Partial,
        loaded: &mut Loaded,
    ) {
        if self.broken {
            return;
        }
        let Header { lsn, index, .. } = record.header;
        self.begin(record, at, loaded);
        if index == 0 {
            if self.last < self.durable {
                loaded.lose(at, self.last + 1, self.durable);
            }
            self.miss_rest_of(partial, at, loaded);
            let whole = partial.whole || partial.lsn <= self.durable;
            let expected = self.last.max(self.durable) + 1;
            self.broken = !whole || lsn != expected;
            *partial = Partial { lsn, next_index: 0, whole: false, ..Partial::default() };
        }
        self.broken |= lsn != partial.lsn || u32::from(index) != partial.next_index;
        if self.broken {
            return;
        }
        partial.next_index += 1;
        partial.records.push((record.key().into(), record.entry()));
        partial.bytes.push((record.offset, record.bytes.to_vec()));
        if record.header.has(LAST) {
            partial.whole = true;
            loaded.records.append(&mut partial.records);
            loaded.end = record.end();
            partial.bytes.drain(..).for_each(|(at, bytes)| loaded.doubt(at, &bytes));
            (self.last, self.known) = (lsn, true);
        }
    }

    /// The first record of a log whose oldest file does not say what came before: right behind the header it is the first one;
    /// else others stood where the damage is.
    fn begin(&mut self, record: &Record<'_>, at: u64, loaded: &mut Loaded) {
        if self.known {
            return;
        }
        let Header { lsn, index, .. } = record.header;
        if at < record.offset || index > 0 {
            loaded.miss(0, format!("the log's start, before write {lsn}, is damaged"));
        }
        (self.last, self.known) = (lsn - 1, true);
    }

    /// Of a durable batch nothing more comes: its end is damaged when it is not whole.
    fn miss_rest_of(&self, partial: &Partial, at: u64, loaded: &mut Loaded) {
        if !partial.whole && partial.lsn > 0 && partial.lsn <= self.durable {
            loaded.lose(at, partial.lsn, partial.lsn);
        }
    }

    /// At the end of a file: what it should have held and does not.
    fn finish_durable(
        &mut self,
        at: u64,
        is_damaged: bool,
        next_base: Option<u64>,
        partial: &Partial,
        loaded: &mut Loaded,
    ) {
        self.miss_rest_of(partial, at, loaded);
        if !self.known && (self.durable > 0 || is_damaged) {
            loaded.miss(0, "the log's start is damaged or missing");
        }
        let expected = next_base.unwrap_or(self.durable).min(self.durable);
        if self.known && self.last < expected {
            loaded.lose(at, self.last + 1, expected);
            self.last = expected;
        }
    }
}

/// A sound record.
struct Record<'a> {
    offset: u64,
    header: Header,
    bytes: &'a [u8],
}

impl Record<'_> {
    fn key(&self) -> &[u8] {
        self.header.key(self.bytes)
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn entry(&self) -> Entry {
        Entry {
            lsn: self.header.lsn,
            offset: self.offset as u32,
            len: self.bytes.len() as u32,
            deleted: self.header.has(DELETE),
        }
    }
}

impl Remains {
    /// What a walk finds.
    pub(crate) fn of<D: Disk>(mut walk: Walk<'_, D>) -> Result<Remains> {
        let mut remains = Remains::default();
        while let Some(item) = walk.next()? {
            remains = remains.and(&item);
        }
        Ok(remains)
    }

    /// Damage has no content: nothing in it would ever be taken.
    fn and(self, item: &Item<'_>) -> Remains {
        let content = if let Item::Record { bytes, .. } = item { *bytes } else { &[] };
        let place = record::seeded(self.0, &item.offset().to_le_bytes());
        Remains(record::seeded(place, content))
    }
}

impl Loaded {
    /// Of a file without records.
    pub(crate) fn new() -> Loaded {
        Loaded {
            records: Vec::new(),
            end: FILE_HEADER as u64,
            rotten: BTreeSet::new(),
            uncertain: Vec::new(),
            behind: Remains::default(),
            losses: Vec::new(),
        }
    }

    fn take(&mut self, key: &[u8], entry: Entry) {
        self.records.push((key.into(), entry));
    }

    /// The file's header is durable only if a record behind it is.
    fn doubt_header(&mut self, header: Option<FileHeader>) {
        self.uncertain.extend(header.map(|header| (0, header.encode().to_vec())));
    }

    fn doubt(&mut self, at: u64, bytes: &[u8]) {
        match self.uncertain.last_mut() {
            Some((from, last)) if *from + last.len() as u64 == at => last.extend_from_slice(bytes),
            _ => self.uncertain.push((at, bytes.to_vec())),
        }
    }

    fn lose(&mut self, at: u64, first: u64, last: u64) {
        let what = if first >= last {
            format!("write {last} is damaged or missing")
        } else {
            format!("writes {first} to {last} are damaged or missing")
        };
        self.miss(at, what);
    }

    pub(crate) fn miss(&mut self, at: u64, what: impl Into<String>) {
        if self.losses.len() < LOSSES_MAX {
            self.losses.push((at, what.into()));
        }
    }
}

/// How far the writes of a log file that was complete once have been seen, one after the other.
///
/// A crash may tear a mark and keep the writes behind it. Damage between two writes that follow each other held none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sequence {
    lsn: u64,
    next_index: u32,
    whole: bool,
}

impl Sequence {
    /// Before the first write of a file.
    pub(crate) fn before(lsn_min: u64) -> Sequence {
        Sequence { lsn: lsn_min.saturating_sub(1), next_index: 0, whole: true }
    }

    /// Takes a record that is no mark; answers whether it follows the one before.
    pub(crate) fn take(&mut self, header: &Header) -> bool {
        let index = u32::from(header.index);
        let follows = match self.whole {
            true => header.lsn == self.lsn + 1 && index == 0,
            false => header.lsn == self.lsn && index == self.next_index,
        };
        (self.lsn, self.next_index, self.whole) = (header.lsn, index + 1, header.has(LAST));
        follows
    }

    /// Whether the last write has been seen.
    pub(crate) fn is_at(&self, lsn_max: u64) -> bool {
        self.whole && self.lsn == lsn_max
    }
}

/// Takes the records of a log file that is known to hold all writes from `lsn_min` to `lsn_max`.
pub(crate) fn read_complete<D: Disk>(
    mut walk: Walk<'_, D>,
    lsn_min: u64,
    lsn_max: u64,
) -> Result<Loaded> {
    let (mut loaded, mut hole) = (Loaded::new(), None);
    let mut sequence = Sequence::before(lsn_min);
    while let Some(item) = walk.next()? {
        match item {
            Item::Damage { from, what } => hole = hole.or(Some((from, what))),
            Item::Record { header, .. } if header.has(MARK) => {}
            Item::Record { offset, header, bytes } | Item::Rotten { offset, header, bytes } => {
                let follows = sequence.take(&header);
                if let Some((from, what)) = hole.take().filter(|_| !follows) {
                    loaded.miss(from, what);
                }
                let record = Record { offset, header, bytes };
                loaded.take(record.key(), record.entry());
            }
        }
    }
    if !sequence.is_at(lsn_max) {
        let (at, what) = hole.unwrap_or((walk.offset(), "the last writes of the file are missing"));
        loaded.miss(at, what);
    }
    Ok(loaded)
}

/// Takes all sound records of a file that was complete once, whatever their order. Only a compacted one says where it ends.
pub(crate) fn read_unordered<D: Disk>(mut walk: Walk<'_, D>, kind: Kind) -> Result<Loaded> {
    let mut loaded = Loaded::new();
    let mut ended = false;
    while let Some(item) = walk.next()? {
        let (at, behind) = (item.offset(), loaded.behind.and(&item));
        match item {
            Item::Damage { from, what } => {
                loaded.miss(from, what);
            }
            Item::Rotten { offset, header, bytes } => {
                let record = Record { offset, header, bytes };
                loaded.end = record.end();
                loaded.take(record.key(), record.entry());
                loaded.rotten.insert(offset as u32);
            }
            Item::Record { offset, header, bytes } => {
                let record = Record { offset, header, bytes };
                loaded.end = record.end();
                if header.has(MARK) {
                    ended |= header.has(END);
                } else {
                    loaded.take(record.key(), record.entry());
                }
            }
        }
        loaded.behind = if at < loaded.end { Remains::default() } else { behind };
    }
    if walk.ended_in_zeroes() {
        loaded.miss(loaded.end, "zeroes where records were");
    }
    if kind == Kind::Compacted && !ended && loaded.losses.is_empty() {
        loaded.miss(walk.offset(), "the end of a compacted file is missing");
    }
    Ok(loaded)
}
