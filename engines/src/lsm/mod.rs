//! A log-structured merge tree: records sorted by key, in memory first, then in tables that are merged level by level.
//!
//! A write goes to a log and into a memtable. A full memtable is frozen, and written into a table on level 0, which replaces
//! its part of the log. Tables are compacted downwards: on each level below 0 a key is in one table at most, and each level is ten
//! times as long as the one above it. After O'Neil, Cheng, Gawlick and O'Neil, "The log-structured merge-tree" (1996), with
//! the levels of LevelDB; it differs in what it does with damage (`table`), in heads that lie apart from bodies (`block`), and
//! in background work that is a bounded step and waits for nothing (`background`).
//!
//! Invariants:
//! - Lsns of batches are dense: 1, 2, 3, ... Log files in the order of their numbers hold them in order.
//! - What is above is newer: memtable, frozen ones, level 0 from its end, level 1, ...
//! - All writes up to `flushed` of the durable list are in durable tables, and all behind it in logs.
//! - A file is removed only when a list without it is durable.
//! - Memory: the memtables (`FROZEN_MAX` and one more), the cache, and for each block of a table its place, its first key and 10 bits
//!   for each of its keys.
//! - Nothing waits for the device, except `open`, `checkpoint`, `close`, and reads that the page cache does not have.
//!
//! Cost: `write` looks whether the key is there, because numbers of records are exact: a filter for each table that covers the key,
//! and where one says yes a block. `get` the same, and the body. A page of a scan finds its start in each table and level.
//!
//! Left out: compression, snapshots, indexes and filters that are read in parts.

mod options;

mod block;

mod bloom;

mod format;

mod memtable;

mod cache;

mod table;

mod writer;

mod levels;

mod manifest;

mod memory;

mod compaction;

mod background;

mod sync;

mod wal;

mod lookup;

mod damage;

mod notes;

mod room;

mod replay;

mod copy;

mod found;

mod recovery;

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

use self::background::Work;
use self::cache::Cache;
use self::levels::Levels;
use self::manifest::Totals;
use self::memory::Memory;
pub use self::options::Options;
use self::room::Room;
use self::table::Part;
use self::wal::Wal;
use crate::log::batch::check_limits;
use crate::log::file_path;
use crate::log::syncing::Syncing;

/// Opens the store in `dir` as any engine is opened, or makes one there.
///
/// # Errors
/// As `Lsm::open`.
pub fn open<D: Disk>(disk: Arc<D>, dir: &str, how: &Opening) -> Result<(Box<dyn Engine>, Opened)> {
    let options = Options::chosen(how, &*disk);
    let (engine, opened) = recovery::open(disk, dir, options, &how.held)?;
    Ok((Box::new(engine), opened))
}

/// The engine's name.
const NAME: &str = "lsm";
/// The room is looked at after so many bytes, and in each turn of background work.
const LOOK_BYTES: u64 = 1 << 20;
/// The number of no file.
const NO_FILE: u32 = 0;

/// An LSM engine in one directory of a disk.
pub struct Lsm<D: Disk> {
    disk: Arc<D>,
    options: Options,
    names: Names,
    wal: Wal<D::File>,
    memory: Memory,
    tables: Tables<D::File>,
    work: Work<D::File>,
    syncing: Syncing<D::File>,
    room: Room,
    damage: damage::Damage,
    counts: Counts,
    /// After a failure, and after the end: nothing more is done.
    poisoned: bool,
}

/// Where the files are, and how they are called.
struct Names {
    dir: String,
    /// The store's salt.
    salt: u64,
    next_number: u32,
    /// Logs with lower numbers were there when the store had been opened: a data directory may have listed them.
    listed_below: u32,
    /// The last log that is listed or noted.
    noted_log: u32,
}

/// What is in tables.
struct Tables<F> {
    levels: Levels<F>,
    cache: Cache,
    /// All writes up to here are.
    flushed: u64,
    /// The last log with none but such writes.
    flushed_log: u32,
    /// What there was then.
    totals: Totals,
}

/// What people are shown.
struct Counts {
    totals: Totals,
    reads: u64,
    writes: u64,
    syncs: u64,
}

impl<D: Disk> Lsm<D> {
    /// Opens the store in `dir`, or makes one there.
    ///
    /// # Errors
    /// The disk's, and `UnknownVersion` for files of another version of the format. Damage is no error: see
    /// `Opened::lost` and `Options::accept_losses`.
    pub fn open(disk: Arc<D>, dir: &str, options: Options) -> Result<(Lsm<D>, Opened)> {
        recovery::open(disk, dir, options, &[])
    }

    fn path(&self, number: u32, extension: &str) -> String {
        file_path(&self.names.dir, number, extension)
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

impl<D: Disk> Engine for Lsm<D> {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.check_sound()?;
        self.counts.reads += 1;
        self.look_up(key, Part::Head)
    }

    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        self.check_sound()?;
        self.counts.reads += 1;
        self.look_up(key, Part::All)
    }

    fn start_read(&mut self, _: ReadId, _: ReadTicket) -> Result<()> {
        Err(Error::Malformed("the LSM engine gives no read tickets"))
    }

    fn finish_read(&mut self, _: ReadTicket, _: Bytes) -> Result<Lookup> {
        Err(Error::Malformed("the LSM engine gives no read tickets"))
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
        self.scan(from, limit, bytes_max, Part::All)
    }

    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.check_sound()?;
        self.scan(from, limit, bytes_max, Part::Head)
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
        self.damage.take_untold()
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
        let lsn = self.syncing.lsn;
        let has_active = self.wal.logs.contains_key(&self.wal.active.number);
        assert!(has_active || self.wal.active.number == NO_FILE, "the log that is written is one");
        assert!(
            self.wal.logs.keys().all(|number| *number < self.names.next_number),
            "numbers are new"
        );
        assert!(self.wal.logs.values().all(|log| log.last <= lsn), "no log is ahead");
        assert!(self.tables.flushed <= lsn, "tables are not ahead of the log");
        assert!(
            self.work.persist.flushed_log <= self.tables.flushed_log,
            "lists come after tables"
        );
        self.tables.levels.invariants();
    }

    fn stats(&self) -> EngineStats {
        let Totals { records, own_records, live_bytes } = self.counts.totals;
        let logs: u64 = self.wal.logs.values().map(|log| log.end).sum();
        let disk_bytes = logs + self.tables.levels.bytes();
        let live_bytes = live_bytes.min(disk_bytes);
        let tables = || self.tables.levels.all().map(|(_, table)| table);
        let index: usize = tables().map(|table| table.index_bytes()).sum();
        EngineStats {
            name: NAME,
            records,
            own_records,
            tombstones: tables().map(|table| table.meta.tombstones).sum(),
            live_bytes,
            dead_bytes: disk_bytes - live_bytes,
            disk_bytes,
            files: (self.wal.logs.len() + tables().count()) as u64,
            damaged: self.damage.count(),
            index_bytes: (index + self.memory.bytes() + self.tables.cache.bytes()) as u64,
            reads: self.counts.reads,
            writes: self.counts.writes,
            syncs: self.counts.syncs,
        }
    }

    fn close(&mut self) -> Result<()> {
        self.check_sound()?;
        let result = self.close_all();
        self.poisoned = true;
        self.poison_on_error(result)
    }
}
