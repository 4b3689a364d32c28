//! Opening: from files as a crash left them to a store that takes writes.
//!
//! Which files there are is found by `found`; which bytes are writes that survived, which were never promised and which are
//! lost is decided by `follow`. Here files are read by that rule, and then put in order: what was taken is made durable, what was never
//! promised is cut off (`log/tail`), hints are written, a new file is started, the keydir is filled.
//!
//! **Why twice is right.** Nothing is written with a new Lsn before the tail has been cut and synced
//! and the new file's header, which names all that was recovered, is durable. Until then a second
//! crash finds the same log, or less of its tail; after it, D covers everything and what is left of
//! the discarded files lies beyond a gap. (The names of the files come first: the last life may have ended before they were
//! durable.) Without the cut, a discarded record could later be covered
//! by rule 1, when its Lsn has been given to another write.
//!
//! **Losses change nothing.** Files are only looked at until all are known to be whole; what cannot be read now may be
//! readable after a repair. (Files that were never finished are removed before.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rondo_core::engine::{Engine as _, Lost, Opened};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::sometimes;

use super::found::{self, Directory, Found};
use super::keydir::{Keydir, Place};
use super::order::{Order, Source, Stop};
use super::table::Table;
use super::{
    Active, Bitcask, Counts, DataFile, Keys, Leftovers, NAME, NO_FILE, Names, Options, Room,
    Syncing, log,
};
use crate::log::follow::Entry;
use crate::log::follow::{Follow, Loaded, read_complete, read_unordered};
use crate::log::make_dir;
use crate::log::record::{self, END, FILE_HEADER, Kind};
use crate::log::tail::Tail;
use crate::log::walk::{Item, Walk};

/// Hints are read this many blocks at a time when the keydir is filled.
const BLOCKS_AT_ONCE: usize = 16;

/// Keys with their records.
type Records = Vec<(Box<[u8]>, Entry)>;

/// What opening has to do with a file whose records were read.
struct Read {
    number: u32,
    tail: Tail,
    /// The records that cannot be read, of keys that are known.
    unreadable: Records,
}

/// See `Bitcask::open`.
pub(super) fn open<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
    held: &[(String, u64)],
) -> Result<(Bitcask<D>, Opened)> {
    make_dir(&*disk, dir)?;
    let found = found::look(&*disk, dir, options.salt, held)?;
    let Directory { files: found, salt, next_number, durable } = found;
    let mut bitcask = new_bitcask(disk, dir, options, salt, next_number);
    let mut follow = Follow::new(durable);
    let mut opened = Opened { engine: NAME, keeps: true, salt, ..Opened::default() };
    let (mut empty, mut tails) = (Vec::new(), Vec::new());
    // For each log file its base; 0, which promises nothing, where the header is damaged.
    let bases: Vec<Option<u64>> = found
        .iter()
        .map(|found| match found.header {
            Some(header) => (header.kind == Kind::Log).then_some(header.base),
            None => Some(0),
        })
        .collect();
    let told = found.iter().filter(|found| found.is_told).map(|found| found.number);
    let told: Vec<u32> = told.collect();
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
    tails.iter().try_for_each(|tail| bitcask.look_again(tail))?;
    let has_tails = !tails.is_empty();
    let unreadable = tails.into_iter().map(|tail| bitcask.settle(tail));
    let unreadable = unreadable.collect::<Result<Vec<_>>>()?;
    if has_tails {
        bitcask.disk.sync_dir(&bitcask.names.dir)?;
    }
    bitcask.syncing = Syncing::from(follow.durable.max(follow.last));
    bitcask.write_hints()?;
    bitcask.start_first_log()?;
    bitcask.remove_empty(&empty)?;
    bitcask.names.listed_below = bitcask.names.next_number;
    bitcask.names.noted_log = bitcask.active.number;
    bitcask.fill_keydir()?;
    unreadable.into_iter().for_each(|(number, records)| bitcask.note_unreadable(number, &records));
    told.into_iter().try_for_each(|number| bitcask.look_over(number))?;
    if opened.lost.is_empty() {
        bitcask.invariants();
    }
    bitcask.look_at_space();
    opened.torn_bytes = follow.torn;
    opened.last = Lsn(bitcask.syncing.lsn);
    opened.files = bitcask.data_files();
    Ok((bitcask, opened))
}

fn new_bitcask<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
    salt: u64,
    next_number: u32,
) -> Bitcask<D> {
    let names = Names {
        dir: dir.to_owned(),
        salt,
        next_number,
        listed_below: next_number,
        noted_log: NO_FILE,
    };
    Bitcask {
        disk,
        options,
        names,
        keydir: Keydir::new(),
        files: BTreeMap::new(),
        active: Active { number: NO_FILE, buffer: Vec::new(), flushed: 0, allocated: 0 },
        syncing: Syncing::from(0),
        background: None,
        room: Room::default(),
        leftovers: Leftovers { graves: VecDeque::new(), untold: Vec::new() },
        poisoned: false,
        counts: Counts::default(),
    }
}

impl<D: Disk> Bitcask<D> {
    /// Takes what survived of one file. Nothing on the disk is changed.
    fn take_file(
        &self,
        found: Found<D::File>,
        next_base: Option<u64>,
        follow: &mut Follow,
        opened: &mut Opened,
    ) -> Result<(DataFile<D::File>, Option<Read>)> {
        let seed = record::seed(self.names.salt, found.number);
        let kind = match found.header {
            Some(header) => header.kind,
            None if self.has_end(&found, seed)? => Kind::Compacted,
            None => Kind::Log,
        };
        // Without a header nobody knows whether writes are missing that the hint does not know either. What it knows has to be there.
        let (hint, witness) = match found.header {
            Some(_) => (found.hint, None),
            None => (None, found.hint),
        };
        let mut file = DataFile::empty(found.file, kind, seed);
        sometimes!(self.disk, RecoveryUsedAHint, hint.is_some());
        sometimes!(self.disk, RecoveryFoundADamagedHeader, found.header.is_none());
        if let Some(hint) = hint {
            let summary = hint.summary;
            if kind == Kind::Log {
                let mut before = Loaded::new();
                follow.enter(found.header, &mut before);
                follow.last = follow.last.max(summary.lsn_max);
                report(opened, &self.path(found.number, "data"), before.losses);
            }
            (file.end, file.lsn_min, file.lsn_max) =
                (summary.end, summary.lsn_min, summary.lsn_max);
            file.tombstones = summary.tombstones;
            file.keys = Keys::Hint(hint);
            return Ok((file, None));
        }
        let walk = Walk::new(&*self.disk, &file.file, seed, 0, found.len);
        let mut loaded = match kind {
            Kind::Log => follow.read_log(walk, found.header, next_base, found.len)?,
            Kind::Compacted => read_unordered(walk, kind)?,
        };
        file.end = loaded.end.max(FILE_HEADER as u64);
        let tail = Tail::of(&mut loaded, file.end, found.len);
        loaded.records.iter().for_each(|(_, entry)| file.note_lsn(entry.lsn));
        let records = loaded.records.iter();
        let is_rotten = |(_, entry): &&(Box<[u8]>, Entry)| loaded.rotten.contains(&entry.offset);
        let unreadable = records.filter(is_rotten).cloned().collect();
        let read = Read { number: found.number, tail, unreadable };
        let table = Table::from_records(std::mem::take(&mut loaded.records));
        if table.len() == 0 && loaded.losses.is_empty() && loaded.end < found.held {
            loaded.miss(0, "nothing is left of it, and it held data");
        }
        let known = witness.map_or(0, |hint| hint.summary.entries as usize);
        if loaded.losses.is_empty() && (table.len() as usize) < known {
            let gone = known - table.len() as usize;
            loaded.miss(
                0,
                format!(
                    "its header and {gone} of the {known} keys that its hint names are damaged"
                ),
            );
        }
        file.damaged = !loaded.losses.is_empty();
        file.tombstones = table.tombstones();
        file.keys = Keys::Table(table);
        report(opened, &self.path(found.number, "data"), loaded.losses);
        Ok((file, Some(read)))
    }

    /// See `Tail::look_again`.
    fn look_again(&self, read: &Read) -> Result<()> {
        let file = &self.files[&read.number];
        let path = || self.path(read.number, "data");
        read.tail.look_again(&*self.disk, &file.file, file.seed, path)
    }

    /// See `Tail::settle`. Answers what of the file cannot be read.
    fn settle(&self, read: Read) -> Result<(u32, Records)> {
        read.tail.settle(&*self.disk, &self.files[&read.number].file)?;
        Ok((read.number, read.unreadable))
    }

    /// Whether a file whose header is damaged ends as a compacted file does.
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
        opened.lost.push(Lost { file: self.names.dir.clone(), offset: 0, what: missing });
    }

    /// Makes the first active file; its header, which names all that was recovered, is durable. Where there is no room for it
    /// the store can be read all the same, and the first write tries again.
    fn start_first_log(&mut self) -> Result<()> {
        let number = self.names.next_number;
        let (active, file) = match log::start_log(self, number) {
            Err(Error::Full(_)) => {
                sometimes!(self.disk, OpenedOnAFullDisk);
                return Ok(());
            }
            other => other?,
        };
        self.names.next_number += 1;
        self.disk.sync_now(&file.file)?;
        self.disk.sync_dir(&self.names.dir)?;
        self.active = active;
        self.files.insert(number, file);
        Ok(())
    }

    fn fill_keydir(&mut self) -> Result<()> {
        let mut keydir = Keydir::new();
        let mut own_records = 0;
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        let result = self.each_newest(&mut |key, file, entry| {
            if !entry.deleted {
                let place = Place { file, offset: entry.offset, len: entry.len };
                keydir.insert(self.fingerprint(key), place);
                own_records += u64::from(key.first() == Some(&0));
                *live.entry(file).or_default() += u64::from(entry.len);
            }
        });
        result.map_err(|stop| self.stopped(stop))?;
        self.keydir = keydir;
        self.counts.own_records = own_records;
        for (number, bytes) in live {
            self.add_live(number, bytes as i64);
        }
        Ok(())
    }

    fn each_newest(&self, take: &mut dyn FnMut(&[u8], u32, Entry)) -> Result<(), Stop> {
        let mut sources = Vec::new();
        for (&number, file) in &self.files {
            let source = match &file.keys {
                Keys::Table(table) => Source::Table(Box::new(table.from(&[]))),
                Keys::Hint(hint) => {
                    let mut cursor = hint.start(BLOCKS_AT_ONCE);
                    let first = cursor.advance(&*self.disk, hint);
                    first.map_err(|error| Stop::new(number, error))?;
                    Source::Hint(hint, cursor)
                }
            };
            sources.push((number, source));
        }
        let mut order = Order::new(&*self.disk, sources)?;
        while let Some(newest) = order.next()? {
            take(&newest.key, newest.file, newest.entry);
            order.recycle(newest.key);
        }
        Ok(())
    }

    /// Reads a sealed file again, so that its hint is written anew. What cannot be read must not be missing in the new hint.
    pub(super) fn rebuild_hint(&mut self, number: u32) -> Result<()> {
        let file = self.files.get_mut(&number).expect("a file whose hint was read");
        let walk = Walk::new(&*self.disk, &file.file, file.seed, 0, file.end);
        let loaded = match file.kind {
            Kind::Log => read_complete(walk, file.lsn_min, file.lsn_max)?,
            Kind::Compacted => read_unordered(walk, file.kind)?,
        };
        if let Some((offset, what)) = loaded.losses.into_iter().next() {
            let file = self.path(number, "data");
            return Err(Error::corrupt(file, offset, what));
        }
        file.keys = Keys::Table(Table::from_records(loaded.records));
        Ok(())
    }
}

/// Adds what is lost of a file.
fn report(opened: &mut Opened, file: &str, losses: Vec<(u64, String)>) {
    let lost = |(offset, what)| Lost { file: file.to_owned(), offset, what };
    opened.lost.extend(losses.into_iter().map(lost));
}
