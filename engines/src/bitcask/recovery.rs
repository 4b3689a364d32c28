//! Opening: which bytes of the log are writes that survived, which were never promised, which are lost.
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
//! **Why twice is right.** Nothing is written with a new Lsn before the tail has been cut and synced
//! and the new file's header, which names all that was recovered, is durable. Until then a second
//! crash finds the same log, or less of its tail; after it, D covers everything and what is left of
//! the discarded files lies beyond a gap. Without the cut, a discarded record could later be covered
//! by rule 1, when its Lsn has been given to another write.
//!
//! **Why what is read is written again.** After a failed sync the page cache shows writes that are not on the disk and
//! that no later sync covers. A process that ended then, and starts again with the cache still there, would take
//! them, call them durable and lose them. So of each log file every sound record behind the last one up to D is
//! written anew before the file is synced, from the bytes that were checked: what is read twice may differ.
//!
//! **Losses change nothing.** Files are only looked at until all are known to be whole; what cannot be read now may be
//! readable after a repair. (Files that were never finished are removed before.)
//!
//! Merged files have no order and are complete before they get their names: all sound records in them
//! are taken, and all damage is a loss.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::hint::Hint;
use super::keydir::{Keydir, Place};
use super::order::{Order, Source, Stop};
use super::record::{
    self, BadHeader, DELETE, END, FILE_HEADER, FileHeader, Header, Kind, LAST, MARK,
};
use super::table::{Entry, Table};
use super::walk::{Item, Walk};
use super::{Active, Bitcask, DataFile, Keys, Lost, Opened, Options, file_path, log, make_dir};

/// At most this many losses are listed for one file.
const LOSSES_MAX: usize = 16;
/// Hints are read this many blocks at a time when the keydir is filled.
const BLOCKS_AT_ONCE: usize = 16;

/// A data file as it was found.
struct Found<F> {
    number: u32,
    file: F,
    len: u64,
    header: Option<FileHeader>,
    hint: Option<Hint<F>>,
}

/// What a data file turned out to hold.
struct Loaded {
    records: Vec<(Box<[u8]>, Entry)>,
    /// Where the data ends.
    end: u64,
    /// Sound records, marks included, that may not be durable: where they lie, and their bytes.
    uncertain: Vec<(u64, Vec<u8>)>,
    losses: Vec<(u64, String)>,
}

/// What opening has to do with a file whose records were read.
struct Tail {
    number: u32,
    /// Write these bytes again.
    again: Vec<(u64, Vec<u8>)>,
    /// Cut what was never promised.
    cut: bool,
}

/// How far the log has been followed, over all its files.
struct Follow {
    /// D: up to here everything was durable.
    durable: u64,
    /// The last Lsn taken, or known to have been taken by merged files.
    last: u64,
    /// Whether `last` is known; before the first log file it is not.
    known: bool,
    /// Whether the log has ended.
    broken: bool,
    /// Bytes that were never promised.
    torn: u64,
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

/// See `Bitcask::open`.
pub(super) fn open<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
) -> Result<(Bitcask<D>, Opened)> {
    make_dir(&*disk, dir)?;
    let (numbers, next_number) = clear_remains(&*disk, dir)?;
    let (found, salt) = find_files(&*disk, dir, &numbers, options.salt)?;
    let durable = durable_named(&*disk, salt, &found)?;
    let mut bitcask = new_bitcask(disk, dir, options, salt, next_number);
    let mut follow = Follow { durable, last: 0, known: false, broken: false, torn: 0 };
    let mut opened = Opened::default();
    let (mut empty, mut tails) = (Vec::new(), Vec::new());
    // For each log file its base; 0, which promises nothing, where the header is damaged.
    let bases: Vec<Option<u64>> = found
        .iter()
        .map(|found| match found.header {
            Some(header) => (header.kind == Kind::Log).then_some(header.base),
            None => Some(0),
        })
        .collect();
    for (at, found) in found.into_iter().enumerate() {
        let next_base = bases[at + 1..].iter().flatten().next().copied();
        let number = found.number;
        let (file, tail) = bitcask.take_file(found, next_base, &mut follow, &mut opened)?;
        tails.extend(tail);
        if file.is_empty() && !file.damaged {
            empty.push(number);
        }
        bitcask.files.insert(number, file);
    }
    sometimes!(bitcask.disk, RecoveryFoundATornTail, follow.torn > 0);
    sometimes!(bitcask.disk, RecoveryFoundAnEmptyFile, !empty.is_empty());
    sometimes!(bitcask.disk, RecoveryTookAnUnsyncedTail, follow.last > follow.durable);
    bitcask.report_missing_end(&follow, bases.iter().flatten().count(), &mut opened);
    if !opened.lost.is_empty() && !options.accept_losses {
        bitcask.poisoned = true;
        return Ok((bitcask, opened));
    }
    tails.into_iter().try_for_each(|tail| bitcask.settle(tail))?;
    bitcask.lsn = follow.durable.max(follow.last);
    bitcask.durable = bitcask.lsn;
    bitcask.marked = bitcask.lsn;
    while bitcask.write_hint_at_once(true)? > 0 {}
    bitcask.start_first_log()?;
    bitcask.remove_empty(&empty)?;
    bitcask.fill_keydir()?;
    opened.torn_bytes = follow.torn;
    opened.last = Lsn(bitcask.lsn);
    Ok((bitcask, opened))
}

fn new_bitcask<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
    salt: u64,
    next_number: u32,
) -> Bitcask<D> {
    Bitcask {
        disk,
        dir: dir.to_owned(),
        options,
        salt,
        keydir: Keydir::new(),
        files: BTreeMap::new(),
        active: Active { number: 0, buffer: Vec::new(), flushed: 0, allocated: 0 },
        next_number,
        lsn: 0,
        durable: 0,
        marked: 0,
        dirty: Vec::new(),
        sync: None,
        background: None,
        graves: VecDeque::new(),
        poisoned: false,
        closed: false,
        reads: 0,
        writes: 0,
        syncs: 0,
    }
}

/// Removes what was being written when the process ended; answers the data files and the first number
/// that no file has had.
fn clear_remains<D: Disk>(disk: &D, dir: &str) -> Result<(BTreeSet<u32>, u32)> {
    let mut numbers = BTreeSet::new();
    let mut others = Vec::new();
    let mut next = 1;
    for name in disk.list(dir)? {
        let parts = name.split_once('.');
        let Some((Ok(number), kind)) = parts.map(|(n, kind)| (n.parse::<u32>(), kind)) else {
            continue;
        };
        if number == u32::MAX {
            return Err(Error::Full("all file numbers of this store are used up"));
        }
        next = next.max(number + 1);
        match kind {
            "data" => drop(numbers.insert(number)),
            "hint" => others.push((number, "hint")),
            "hint-new" => others.push((number, "hint-new")),
            "merge" => others.push((number, "merge")),
            _ => {}
        }
    }
    others.retain(|(number, kind)| *kind != "hint" || !numbers.contains(number));
    for (number, kind) in &others {
        disk.remove(&file_path(dir, *number, kind))?;
    }
    sometimes!(disk, RecoveryRemovedRemains, !others.is_empty());
    if !others.is_empty() {
        disk.sync_dir(dir)?;
    }
    Ok((numbers, next))
}

/// Opens data files and their hints, oldest first, and answers the store's salt.
fn find_files<D: Disk>(
    disk: &D,
    dir: &str,
    numbers: &BTreeSet<u32>,
    salt: u64,
) -> Result<(Vec<Found<D::File>>, u64)> {
    let mut files = Vec::new();
    for &number in numbers {
        let file = disk.open(&file_path(dir, number, "data"), Open::Existing)?;
        let len = disk.len(&file)?;
        let mut bytes = [0; FILE_HEADER];
        let read = disk.read_at(&file, &mut bytes, 0)?;
        let header = match FileHeader::decode(&bytes[..read]) {
            Ok(header) => Some(header).filter(|header| header.number == number),
            Err(BadHeader::Damaged) => None,
            Err(BadHeader::Newer(found)) => {
                return Err(Error::UnknownVersion { what: "a Bitcask data file", found });
            }
        };
        files.push(Found { number, file, len, header, hint: None });
    }
    let salt = files.iter().find_map(|file| file.header).map_or(salt, |header| header.salt);
    for found in &mut files {
        let path = file_path(dir, found.number, "hint");
        let hint = Hint::open(disk, &path, record::seed(salt, found.number), found.len)?;
        // A damaged file is read, and reported, again.
        found.hint = hint.filter(|hint| !hint.summary.damaged && !buggify!(disk, HintDistrusted));
    }
    Ok((files, salt))
}

/// D of the rule.
fn durable_named<D: Disk>(disk: &D, salt: u64, found: &[Found<D::File>]) -> Result<u64> {
    let hints = found.iter().filter_map(|found| found.hint.as_ref());
    let hinted = hints.map(|hint| hint.summary.lsn_max.max(hint.summary.marked)).max();
    let headed = found.iter().filter_map(|found| found.header).map(|header| header.durable).max();
    let mut durable = hinted.max(headed).unwrap_or(0);
    // What is durable only grows, so the newest file that names it names the most.
    for found in found.iter().rev().filter(|found| found.hint.is_none()) {
        let seed = record::seed(salt, found.number);
        let mut walk = Walk::new(disk, &found.file, seed, 0, found.len);
        let mut named = found.header.is_some();
        while let Some(item) = walk.next()? {
            if let Item::Record { header, bytes, .. } = item
                && header.has(MARK)
            {
                durable = durable.max(header.marked(bytes));
                named = true;
            }
        }
        if named {
            break;
        }
    }
    Ok(durable)
}

impl<D: Disk> Bitcask<D> {
    /// Takes what survived of one file. Nothing on the disk is changed.
    fn take_file(
        &self,
        found: Found<D::File>,
        next_base: Option<u64>,
        follow: &mut Follow,
        opened: &mut Opened,
    ) -> Result<(DataFile<D::File>, Option<Tail>)> {
        let seed = record::seed(self.salt, found.number);
        let kind = match found.header {
            Some(header) => header.kind,
            None if found.hint.is_none() && self.has_end(&found, seed)? => Kind::Merged,
            None => Kind::Log,
        };
        let mut file = DataFile::empty(found.file, kind, seed);
        sometimes!(self.disk, RecoveryUsedAHint, found.hint.is_some());
        sometimes!(self.disk, RecoveryFoundADamagedHeader, found.header.is_none());
        if let Some(hint) = found.hint {
            let summary = hint.summary;
            if kind == Kind::Log {
                let mut before = Loaded::new();
                follow.enter(found.header, &mut before);
                if follow.known {
                    follow.last = follow.last.max(summary.lsn_max);
                }
                opened.report(&self.path(found.number, "data"), before.losses);
            }
            (file.end, file.lsn_min, file.lsn_max) =
                (summary.end, summary.lsn_min, summary.lsn_max);
            file.tombstones = summary.tombstones;
            file.keys = Keys::Hint(hint);
            return Ok((file, None));
        }
        let walk = Walk::new(&*self.disk, &file.file, seed, 0, found.len);
        let loaded = match kind {
            Kind::Log => follow.read_log(walk, found.header, next_base, found.len)?,
            Kind::Merged => read_unordered(walk, kind)?,
        };
        let mut again = loaded.uncertain;
        again.retain(|(at, _)| *at < loaded.end);
        let tail = Tail { number: found.number, again, cut: loaded.end < found.len };
        file.end = loaded.end.max(FILE_HEADER as u64);
        file.damaged = !loaded.losses.is_empty();
        loaded.records.iter().for_each(|(_, entry)| file.note_lsn(entry.lsn));
        let table = Table::from_records(loaded.records);
        file.tombstones = table.tombstones();
        file.keys = Keys::Table(table);
        opened.report(&self.path(found.number, "data"), loaded.losses);
        Ok((file, Some(tail)))
    }

    /// Makes durable what was taken of a file, and cuts off what was never promised.
    fn settle(&self, tail: Tail) -> Result<()> {
        let Tail { number, again, cut } = tail;
        let file = &self.files[&number].file;
        if cut {
            self.disk.set_len(file, self.files[&number].end)?;
        }
        for (at, bytes) in again {
            self.disk.write_at(file, &[&bytes], at)?;
        }
        // Also what only the operating system held: from here on all of it counts as durable.
        Ok(self.disk.sync_now(file)?)
    }

    /// Whether a file whose header is damaged ends as a merged file does.
    fn has_end(&self, found: &Found<D::File>, seed: u32) -> Result<bool> {
        let mut walk = Walk::new(&*self.disk, &found.file, seed, 0, found.len);
        let mut ended = false;
        while let Some(item) = walk.next()? {
            ended = matches!(item, Item::Record { header, .. } if header.has(END));
        }
        Ok(ended)
    }

    fn report_missing_end(&self, follow: &Follow, logs: usize, opened: &mut Opened) {
        let missing = if logs == 0 && follow.durable > 0 {
            "there is no log file left".to_owned()
        } else if follow.known && follow.last < follow.durable {
            format!("writes {} to {} are missing", follow.last + 1, follow.durable)
        } else {
            return;
        };
        opened.lost.push(Lost { file: self.dir.clone(), offset: 0, what: missing });
    }

    /// Makes the first active file; its header, which names all that was recovered, is durable.
    fn start_first_log(&mut self) -> Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let (active, file) = log::start_log(self, number)?;
        self.disk.sync_now(&file.file)?;
        self.active = active;
        self.files.insert(number, file);
        Ok(())
    }

    /// Removes files in which nothing survived: what was never promised must not be met again.
    fn remove_empty(&mut self, numbers: &[u32]) -> Result<()> {
        for number in numbers {
            self.files.remove(number);
            self.disk.remove(&self.path(*number, "data"))?;
            self.disk.remove(&self.path(*number, "hint"))?;
        }
        if !numbers.is_empty() {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn fill_keydir(&mut self) -> Result<()> {
        let mut keydir = Keydir::new();
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        let result = self.each_newest(&mut |key, file, entry| {
            if !entry.deleted {
                let place = Place { file, offset: entry.offset, len: entry.len };
                keydir.insert(self.fingerprint(key), place);
                *live.entry(file).or_default() += u64::from(entry.len);
            }
        });
        result.map_err(|stop| match stop {
            Stop::Disk(error) => Error::Disk(error),
            Stop::Damaged(number) => Error::Corrupt {
                file: self.path(number, "hint"),
                offset: 0,
                what: "the hint changed while it was read; open the store again".to_owned(),
            },
        })?;
        self.keydir = keydir;
        for (number, bytes) in live {
            self.add_live(number, bytes as i64);
        }
        Ok(())
    }

    fn each_newest(&self, take: &mut dyn FnMut(&[u8], u32, Entry)) -> Result<(), Stop> {
        let mut sources = Vec::new();
        for (&number, file) in &self.files {
            if let Keys::Hint(hint) = &file.keys {
                let mut cursor = hint.start(BLOCKS_AT_ONCE);
                let first = cursor.advance(&*self.disk, hint);
                first.map_err(|error| Stop::new(number, error))?;
                sources.push((number, Source::Hint(hint, cursor)));
            }
        }
        let mut order = Order::new(&*self.disk, sources)?;
        while let Some(newest) = order.next()? {
            take(&newest.key, newest.file, newest.entry);
            order.recycle(newest.key);
        }
        Ok(())
    }

    /// Reads a sealed file again and writes its hint anew. What cannot be read must not be missing in the new hint.
    pub(super) fn rebuild_hint(&mut self, number: u32) -> Result<()> {
        let file = self.files.get_mut(&number).expect("a file whose hint was read");
        let walk = Walk::new(&*self.disk, &file.file, file.seed, 0, file.end);
        let loaded = read_unordered(walk, file.kind)?;
        if let Some((offset, what)) = loaded.losses.into_iter().next() {
            let file = self.path(number, "data");
            return Err(Error::Corrupt { file, offset, what });
        }
        file.keys = Keys::Table(Table::from_records(loaded.records));
        while self.write_hint_at_once(false)? > 0 {}
        Ok(())
    }
}

impl Follow {
    /// Reads a log file by the rule.
    fn read_log<D: Disk>(
        &mut self,
        mut walk: Walk<'_, D>,
        header: Option<FileHeader>,
        next_base: Option<u64>,
        len: u64,
    ) -> Result<Loaded> {
        let mut loaded = Loaded::new();
        self.enter(header, &mut loaded);
        loaded.doubt_header(header);
        let mut partial = Partial { whole: true, ..Partial::default() };
        let mut damage_at = None;
        while let Some(item) = walk.next()? {
            match item {
                Item::Damage { from, .. } => damage_at = damage_at.or(Some(from)),
                Item::Record { offset, header, bytes } if header.has(MARK) => {
                    if !self.broken && partial.whole {
                        loaded.end = offset + bytes.len() as u64;
                        loaded.doubt(offset, bytes);
                    }
                }
                Item::Record { offset, header, bytes } => {
                    let at = damage_at.unwrap_or(offset);
                    let record = Record { offset, header, bytes };
                    if header.lsn <= self.durable {
                        self.take_durable(&record, at, &mut partial, &mut loaded);
                    } else {
                        self.take_tail(&record, at, &mut partial, &mut loaded);
                    }
                    damage_at = None;
                }
            }
        }
        self.finish_durable(walk.offset(), next_base, &partial, &mut loaded);
        self.broken |= !partial.whole && partial.lsn > self.durable;
        if self.broken {
            self.torn += walk.offset().min(len).saturating_sub(loaded.end);
        }
        Ok(loaded)
    }

    /// A log file says which Lsn it starts after.
    fn enter(&mut self, header: Option<FileHeader>, loaded: &mut Loaded) {
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

    /// Rule 1.
    fn take_durable(
        &mut self,
        record: &Record<'_>,
        at: u64,
        partial: &mut Partial,
        loaded: &mut Loaded,
    ) {
        let Header { lsn, index, .. } = record.header;
        if !self.known {
            (self.last, self.known) = (lsn - 1, true);
        }
        let follows = lsn == partial.lsn && u32::from(index) == partial.next_index;
        let starts = index == 0 && partial.whole && lsn == self.last + 1;
        if lsn < self.last || (lsn == self.last && !follows && partial.whole) {
            // Left over from another time: not in order, so not of this log.
            return;
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
        if index == 0 {
            if self.known && self.last < self.durable {
                loaded.lose(at, self.last + 1, self.durable);
            }
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

    /// At the end of a file: what it should have held and does not.
    fn finish_durable(
        &mut self,
        at: u64,
        next_base: Option<u64>,
        partial: &Partial,
        loaded: &mut Loaded,
    ) {
        if !partial.whole && partial.lsn > 0 && partial.lsn <= self.durable {
            loaded.lose(at, partial.lsn, partial.lsn);
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
        &self.bytes[record::HEADER..record::HEADER + self.header.key_len]
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

impl Opened {
    fn report(&mut self, file: &str, losses: Vec<(u64, String)>) {
        let lost = |(offset, what)| Lost { file: file.to_owned(), offset, what };
        self.lost.extend(losses.into_iter().map(lost));
    }
}

impl Loaded {
    fn new() -> Loaded {
        let (end, uncertain) = (FILE_HEADER as u64, Vec::new());
        Loaded { records: Vec::new(), end, uncertain, losses: Vec::new() }
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
        if self.losses.len() < LOSSES_MAX {
            self.losses.push((at, what));
        }
    }
}

/// Takes all sound records of a file that was complete once, whatever their order. Only a merged one says where it ends.
fn read_unordered<D: Disk>(mut walk: Walk<'_, D>, kind: Kind) -> Result<Loaded> {
    let mut loaded = Loaded::new();
    let mut ended = false;
    while let Some(item) = walk.next()? {
        match item {
            Item::Damage { from, what } => {
                if loaded.losses.len() < LOSSES_MAX {
                    loaded.losses.push((from, what.to_owned()));
                }
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
    }
    if walk.ended_in_zeroes() {
        loaded.losses.push((loaded.end, "zeroes where records were".to_owned()));
    }
    if kind == Kind::Merged && !ended && loaded.losses.is_empty() {
        loaded.losses.push((walk.offset(), "the end of a merged file is missing".to_owned()));
    }
    Ok(loaded)
}
