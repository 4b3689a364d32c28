//! Bitcask: values in a log, and in memory only where they lie.
//!
//! Writes are appended to one active file through a buffer; the keydir maps a key's fingerprint to the
//! place of its newest record. A file that is full is sealed, and a hint (its keys in order) is
//! written for it. A compaction copies what is alive out of the oldest files and removes them.
//! After Sheehy and Smith, "Bitcask: a log-structured hash table for fast key/value data" (2010); it
//! differs in what it took to survive power losses (`follow`, `recovery`), in a keydir without keys
//! (`keydir`), in atomic batches, and in ordered scans (`hint`, `order`).
//!
//! Invariants:
//! - Lsns of batches are dense: 1, 2, 3, ... Log files in the order of their numbers hold them in order.
//! - A file is removed only when everything alive in it is durable elsewhere, name included.
//! - Hints are written only of durable data, and are checked before they are used.
//! - Memory: 20 to 25 bytes for each key, plus the keys of files without a hint, `TABLES_MAX` times
//!   `Options::index_bytes_max` at most, plus the write buffer.
//! - Nothing waits for the device, except `open`, `checkpoint` and `close` (`sync`).
//!
//! Cost: `write` copies into the buffer; overwriting also compares the key in the old record, which is
//! one read of a few bytes when that record is in a file with a hint. `get` is one read. A page of
//! a scan finds its start in each hint by bisection (a read of 16 KiB for each of
//! log2(keys / 400) steps), then reads each record.
//!
//! Left out: compression, reading through memory maps, resuming a half-finished compaction at open.

mod options;

mod keydir;

mod table;

mod hint;

mod order;

mod lookup;

mod sync;

mod log;

mod hinting;

mod copy;

mod notes;

mod unreadable;

mod room;

mod compaction;

mod background;

mod replay;

mod found;

mod recovery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{
    Batch, Engine, EngineStats, LogPlace, Lookup, Opened, Opening, Page, Progress, ReadTicket,
    Replay,
};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, ReadId, SyncId};

use self::hint::Hint;
use self::keydir::Keydir;
pub use self::options::Options;
use self::table::Table;
use crate::log::batch::check_limits;
use crate::log::file_path;
use crate::log::record::{FILE_HEADER, Kind, MARK_LEN};
use crate::log::syncing::Syncing;

/// Opens the store in `dir` as any engine is opened, or makes one there.
///
/// # Errors
/// As `Bitcask::open`.
pub fn open<D: Disk>(disk: Arc<D>, dir: &str, how: &Opening) -> Result<(Box<dyn Engine>, Opened)> {
    let options = Options::chosen(how, &*disk);
    let (engine, opened) = recovery::open(disk, dir, options, &how.held)?;
    Ok((Box::new(engine), opened))
}

/// The engine's name.
const NAME: &str = "bitcask";
/// So many full tables of keys may be in memory: the active file's, and those of sealed ones whose hints `maintain`
/// has not written yet.
const TABLES_MAX: usize = 3;
/// The room is looked at after so many bytes, and in each turn of background work.
const LOOK_BYTES: u64 = 1 << 20;
/// So many keys of rotten records are remembered until somebody asks; more are found when they are read.
const UNTOLD_MAX: usize = 4096;
/// The number of no file: there was no room for an active one.
const NO_FILE: u32 = 0;
/// Removed files that stay open, for reads that were announced as cold before.
const GRAVES_MAX: usize = 4;

/// A Bitcask in one directory of a disk.
pub struct Bitcask<D: Disk> {
    disk: Arc<D>,
    options: Options,
    names: Names,
    keydir: Keydir,
    files: BTreeMap<u32, DataFile<D::File>>,
    active: Active,
    syncing: Syncing<D::File>,
    background: Option<Background<D::File>>,
    room: Room,
    leftovers: Leftovers<D::File>,
    /// After a failure, and after the end: nothing more is done.
    poisoned: bool,
    counts: Counts,
}

/// Where the files are, and how they are called.
struct Names {
    dir: String,
    /// The store's salt: of its files where there are any.
    salt: u64,
    next_number: u32,
    /// Files with lower numbers were there when the store had been opened: a data directory may have listed them.
    listed_below: u32,
    /// The last log that is listed or noted.
    noted_log: u32,
}

/// What is known of the room on the disk.
#[derive(Default)]
struct Room {
    /// Whether the last write found none.
    is_full: bool,
    /// Whether there was less than `Options::low_water_bytes` when it was looked at last.
    is_low: bool,
    /// Whether what was left then is for compactions.
    is_reserved: bool,
    /// Whether there was none for a hint: compactions come first.
    hints_wait: bool,
    /// Bytes handed over since it was looked at.
    since_look: u64,
}

/// What has been removed or lost and is still of use to somebody.
struct Leftovers<F> {
    /// Removed files that stay open.
    graves: VecDeque<(u32, F)>,
    /// Keys of rotten records that nobody has been told of.
    untold: Vec<Bytes>,
}

/// What people are shown.
#[derive(Default)]
struct Counts {
    /// How many keys in the keydir start with a zero byte.
    own_records: u64,
    reads: u64,
    writes: u64,
    syncs: u64,
}

/// A data file and what is known about it.
struct DataFile<F> {
    file: F,
    kind: Kind,
    seed: u32,
    /// Where the data ends, the write buffer included.
    end: u64,
    /// Bytes of records that the keydir points to.
    live: u64,
    lsn_min: u64,
    lsn_max: u64,
    tombstones: u64,
    /// Something of it is lost, and nobody knows what: a compaction leaves it, and everything younger, alone.
    damaged: bool,
    /// Where records lie that are alive and cannot be read, as far as they have been met. A compaction waits until they
    /// are written over.
    rotten: BTreeSet<u32>,
    keys: Keys<F>,
}

enum Keys<F> {
    Table(Table),
    Hint(Hint<F>),
}

/// The file that is written.
struct Active {
    number: u32,
    /// What is not yet written to the operating system; it starts at byte `flushed`.
    buffer: Vec<u8>,
    flushed: u64,
    allocated: u64,
}

/// Work that `maintain` does in steps.
enum Background<F> {
    /// The hint of a file; it gets its name when it is durable.
    Hint(u32, hint::Writer<F>),
    Compaction(compaction::Compaction<F>),
}

impl<D: Disk> Bitcask<D> {
    /// Opens the store in `dir`, or makes one there.
    ///
    /// # Errors
    /// The disk's, and `UnknownVersion` for files of another version of the format. Damage is no error: see
    /// `Opened::lost` and `Options::accept_losses`.
    pub fn open(disk: Arc<D>, dir: &str, options: Options) -> Result<(Bitcask<D>, Opened)> {
        recovery::open(disk, dir, options, &[])
    }

    /// The files with data, the one that is written included, by their paths.
    fn data_files(&self) -> Vec<String> {
        self.files.keys().map(|number| self.path(*number, "data")).collect()
    }

    fn path(&self, number: u32, extension: &str) -> String {
        file_path(&self.names.dir, number, extension)
    }

    fn fingerprint(&self, key: &[u8]) -> u32 {
        (self.options.fingerprint)(key, self.names.salt)
    }

    /// Answers `Poisoned` after a failure.
    fn check_sound(&self) -> Result<()> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// After an error nothing in memory is sure to be on disk, except after a refusal: then nothing has happened.
    fn poison_on_error<T>(&mut self, result: Result<T>) -> Result<T> {
        self.poisoned |= matches!(&result, Err(error) if !error.is_refusal());
        result
    }
}

impl<D: Disk> Engine for Bitcask<D> {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.check_sound()?;
        self.counts.reads += 1;
        self.look_up(key, lookup::Part::Head)
    }

    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        self.check_sound()?;
        self.counts.reads += 1;
        self.look_up(key, lookup::Part::All)
    }

    fn start_read(&mut self, id: ReadId, ticket: ReadTicket) -> Result<()> {
        self.check_sound()?;
        self.start_cold_read(id, ticket)
    }

    fn finish_read(&mut self, ticket: ReadTicket, bytes: Bytes) -> Result<Lookup> {
        self.check_sound()?;
        self.finish_cold_read(ticket, &bytes)
    }

    fn write(&mut self, batch: &Batch) -> Result<Lsn> {
        self.check_sound()?;
        check_limits(batch)?;
        self.append(batch)
    }

    fn flush(&mut self) -> Result<()> {
        self.check_sound()?;
        let result = self.write_buffer();
        self.poison_on_error(result)
    }

    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>> {
        match self.flush() {
            Err(error) if !error.is_refusal() => return Err(error),
            // What was handed over before can be made durable.
            _ => {}
        }
        if self.syncing.is_running() {
            return Err(Error::Busy("a sync is under way; wait for it"));
        }
        Ok(self.begin_sync(id))
    }

    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        self.check_sound()?;
        self.end_sync(id, result)
    }

    fn durable(&self) -> Lsn {
        Lsn(self.syncing.durable)
    }

    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.check_sound()?;
        self.scan(from, limit, bytes_max, lookup::Part::All)
    }

    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.check_sound()?;
        self.scan(from, limit, bytes_max, lookup::Part::Head)
    }

    fn replay(&mut self, from: LogPlace, bytes_max: u64) -> Result<Replay> {
        self.flush()?;
        self.replay_from(from, bytes_max)
    }

    fn is_nearly_full(&self) -> bool {
        self.has_little_room()
    }

    fn maintain(&mut self, budget: u64) -> Result<Progress> {
        self.check_sound()?;
        self.look_at_space();
        let result = self.background_step(budget);
        self.poison_on_error(result)
    }

    fn take_damaged(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.leftovers.untold)
    }

    fn checkpoint(&mut self, dir: &str) -> Result<Lsn> {
        self.check_sound()?;
        let result = self.make_durable();
        self.poison_on_error(result)?;
        self.copy_to(dir)?;
        Ok(Lsn(self.syncing.lsn))
    }

    fn invariants(&self) {
        if self.poisoned {
            return;
        }
        self.syncing.invariants();
        let has_active = self.files.contains_key(&self.active.number);
        assert!(has_active || self.active.number == NO_FILE, "the file that is written is one");
        assert!(
            self.files.keys().all(|&number| number < self.names.next_number),
            "numbers are new"
        );
        for file in self.files.values() {
            assert!(file.live <= file.end, "no more is alive than there is");
            assert!(file.lsn_max <= self.syncing.lsn, "no file is ahead of the log");
        }
        assert!(
            self.leftovers.graves.len() <= GRAVES_MAX && self.leftovers.untold.len() <= UNTOLD_MAX,
            "bounds hold"
        );
    }

    fn stats(&self) -> EngineStats {
        let sum = |of: fn(&DataFile<D::File>) -> u64| self.files.values().map(of).sum::<u64>();
        let tables = self.files.values().map(|file| match &file.keys {
            Keys::Table(table) => table.bytes() as u64,
            Keys::Hint(_) => 0,
        });
        EngineStats {
            name: NAME,
            records: self.keydir.len(),
            own_records: self.counts.own_records,
            tombstones: sum(|file| file.tombstones),
            live_bytes: sum(|file| file.live),
            dead_bytes: sum(DataFile::dead),
            disk_bytes: sum(|file| file.end),
            files: self.files.len() as u64,
            index_bytes: self.keydir.bytes() + tables.sum::<u64>(),
            damaged: sum(|file| file.rotten.len() as u64),
            reads: self.counts.reads,
            writes: self.counts.writes,
            syncs: self.counts.syncs,
        }
    }

    fn close(&mut self) -> Result<()> {
        self.check_sound()?;
        let result = self.close_log();
        self.poisoned = true;
        self.poison_on_error(result)
    }
}

impl<F> DataFile<F> {
    /// Bytes of records that nothing points to, tombstones among them.
    fn dead(&self) -> u64 {
        // The mark that ends a compacted file cannot be saved by compacting again.
        let fixed = FILE_HEADER + if self.kind == Kind::Compacted { MARK_LEN } else { 0 };
        self.end.saturating_sub(fixed as u64).saturating_sub(self.live)
    }

    fn is_sealed(&self) -> bool {
        matches!(self.keys, Keys::Hint(_))
    }

    /// A live record of it cannot be read.
    fn note_rotten(&mut self, offset: u32, key: &[u8], untold: &mut Vec<Bytes>) {
        if self.rotten.insert(offset) && untold.len() < UNTOLD_MAX {
            untold.push(Bytes::copy_from_slice(key));
        }
    }

    /// Whether the file holds no record at all.
    fn is_empty(&self) -> bool {
        self.lsn_max == 0
    }

    fn note_lsn(&mut self, lsn: u64) {
        self.lsn_min = self.lsn_min.min(lsn);
        self.lsn_max = self.lsn_max.max(lsn);
    }
}
