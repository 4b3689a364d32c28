//! Opening: from files as a crash left them to a store that takes writes.
//!
//! The newest sound list says which tables there are, and up to which write they hold everything. The logs behind it are read by the
//! rule of `log/follow`: what survived goes into the memtable, what was never promised is cut off, what is missing is lost. D of
//! the rule is the highest of what the list calls flushed, which was durable before the list was, and what headers and marks of logs
//! name.
//!
//! **Why twice is right.** Nothing is written with a new Lsn before the tail has been cut and synced and the new log's header, which
//! names all that was recovered, is durable. Files that no list names are removed; none of them was in use.
//!
//! **The list is written over itself.** What is read of it may be in the page cache alone: the process that wrote it may have been
//! killed. Before anything is removed that an older list named, it is durable.
//!
//! **Losses change nothing.** Files are only looked at until all are known to be whole; what cannot be read now may be
//! readable after a repair.

use std::collections::BTreeMap;
use std::sync::Arc;

use rondo_core::engine::{Engine as _, Lost, Opened};
use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::sometimes;

use super::background::{Persist, Work};
use super::cache::Cache;
use super::found::{Directory, FoundLog, look};
use super::levels::Levels;
use super::manifest::Manifest;
use super::memory::Memory;
use super::memtable::Stored;
use super::wal::{Active, Log, Wal};
use super::{Counts, Lsm, NAME, NO_FILE, Names, Options, Syncing, Tables, format};
use super::{table, writer};
use crate::log::follow::{Follow, Loaded};
use crate::log::record::{self, DELETE, FILE_HEADER, MARK};
use crate::log::tail::Tail;
use crate::log::walk::{Item, Walk};
use crate::log::{file_path, make_dir};

/// A log whose writes are not all in tables.
struct Live {
    number: u32,
    tail: Tail,
    loaded: Loaded,
}

/// See `Lsm::open`.
pub(super) fn open<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
    held: &[(String, u64)],
) -> Result<(Lsm<D>, Opened)> {
    make_dir(&*disk, dir)?;
    let mut found = look(&*disk, dir, options.salt, held)?;
    let is_new = found.is_new();
    if is_new {
        make_first_list(&*disk, dir, &mut found)?;
    }
    let mut opened =
        Opened { engine: NAME, keeps: true, salt: found.list.salt, ..Opened::default() };
    if found.number == NO_FILE {
        let (file, what) = (dir.to_owned(), "the list of tables is damaged or missing".to_owned());
        opened.lost.push(Lost { file, offset: 0, what });
    }
    let mut lsm = new_lsm(disk, dir, options, &found);
    lsm.open_tables(&found.list, &mut opened)?;
    let mut follow = Follow::new(found.durable);
    (follow.last, follow.known) = (found.list.flushed, true);
    let leftovers = std::mem::take(&mut found.leftovers);
    let list = found.list.clone();
    let live = lsm.take_logs(found, &mut follow, &mut opened)?;
    if follow.last < follow.durable {
        let what = format!("writes {} to {} are missing", follow.last + 1, follow.durable);
        opened.lost.push(Lost { file: dir.to_owned(), offset: 0, what });
    }
    sometimes!(lsm.disk, RecoveryFoundATornTail, follow.torn > 0);
    sometimes!(lsm.disk, RecoveryTookAnUnsyncedTail, follow.last > follow.durable);
    if !opened.lost.is_empty() && !options.accept_losses {
        lsm.poisoned = true;
        return Ok((lsm, opened));
    }
    lsm.syncing = Syncing::from(follow.durable.max(follow.last));
    lsm.look_again(&live)?;
    if lsm.work.persist.list != NO_FILE && !is_new {
        list.write_again(&*lsm.disk, dir, lsm.work.persist.list)?;
    }
    lsm.settle(live)?;
    lsm.remove_leftovers(&leftovers)?;
    lsm.start_first_log()?;
    lsm.remove_empty()?;
    lsm.names.listed_below = lsm.names.next_number;
    lsm.names.noted_log = lsm.wal.active.number;
    lsm.look_at_suspects();
    lsm.look_at_space();
    if opened.lost.is_empty() {
        lsm.invariants();
    }
    opened.torn_bytes = follow.torn;
    opened.last = Lsn(lsm.syncing.lsn);
    opened.files = lsm.wal.logs.keys().map(|number| lsm.path(*number, "data")).collect();
    Ok((lsm, opened))
}

/// A new store has an empty list, which is durable before anything else is there.
fn make_first_list<D: Disk>(disk: &D, dir: &str, found: &mut Directory<D::File>) -> Result<()> {
    for (number, extension) in std::mem::take(&mut found.leftovers) {
        disk.remove(&file_path(dir, number, extension))?;
    }
    let list = found.list.write(disk, dir, found.next_number)?;
    disk.sync_now(&list)?;
    disk.sync_dir(dir)?;
    found.number = found.next_number;
    found.next_number += 1;
    Ok(())
}

fn new_lsm<D: Disk>(
    disk: Arc<D>,
    dir: &str,
    options: Options,
    found: &Directory<D::File>,
) -> Lsm<D> {
    let Manifest { salt, flushed, flushed_log, totals, .. } = found.list;
    let next_number = found.next_number;
    Lsm {
        disk,
        names: Names {
            dir: dir.to_owned(),
            salt,
            next_number,
            listed_below: next_number,
            noted_log: NO_FILE,
        },
        wal: Wal {
            active: Active { number: NO_FILE, buffer: Vec::new(), flushed: 0, allocated: 0 },
            logs: BTreeMap::new(),
        },
        memory: Memory::default(),
        tables: Tables {
            levels: Levels::new(),
            cache: Cache::new(options.cache_bytes),
            flushed,
            flushed_log,
            totals,
        },
        work: Work::new(Persist::from(found.number, flushed_log)),
        syncing: Syncing::from(0),
        room: super::room::Room::default(),
        damage: super::damage::Damage::default(),
        counts: Counts { totals, reads: 0, writes: 0, syncs: 0 },
        options,
        poisoned: false,
    }
}

impl<D: Disk> Lsm<D> {
    /// Opens the tables that the list names.
    fn open_tables(&mut self, list: &Manifest, opened: &mut Opened) -> Result<()> {
        for (level, meta) in &list.tables {
            let path = self.path(meta.number, writer::EXTENSION);
            let lost = |what: &str| Lost { file: path.clone(), offset: 0, what: what.to_owned() };
            let file = match self.disk.open(&path, Open::Existing) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    opened.lost.push(lost("the table is missing"));
                    continue;
                }
                file => file?,
            };
            let mut header = [0; format::TABLE_HEADER];
            let read = self.disk.read_at(&file, &mut header, 0)?;
            match format::version(&header[..read]) {
                Some(found) if found != format::VERSION => {
                    return Err(Error::UnknownVersion { what: "a table", found });
                }
                _ => {}
            }
            let salt = self.names.salt;
            match table::open(&*self.disk, file, path.clone(), salt, meta.clone())? {
                Ok(table) => self.tables.levels.add(*level, table.into()),
                Err(what) => opened.lost.push(lost(what)),
            }
        }
        Ok(())
    }

    /// Takes what survived of the logs. Nothing on the disk is changed.
    fn take_logs(
        &mut self,
        found: Directory<D::File>,
        follow: &mut Follow,
        opened: &mut Opened,
    ) -> Result<Vec<Live>> {
        let bases: Vec<Option<u64>> =
            found.logs.iter().map(|log| log.header.map(|header| header.base)).collect();
        let mut live = Vec::new();
        for (at, log) in found.logs.into_iter().enumerate() {
            let next_base = bases.get(at + 1).copied();
            if log.number <= found.list.flushed_log {
                // It is only there to be told once more.
                let last = match next_base {
                    None => Some(found.list.flushed),
                    Some(base) => base,
                };
                let (base, damaged) =
                    (bases[at].unwrap_or(0), bases[at].is_none() || last.is_none());
                let seed = record::seed(self.names.salt, log.number);
                let last = last.unwrap_or(base).max(base);
                let kept = Log { file: log.file, seed, base, last, end: log.len, damaged };
                self.wal.logs.insert(log.number, kept);
                continue;
            }
            // A base that nobody can read promises nothing.
            let next_base = next_base.map(|base| base.unwrap_or(0));
            live.push(self.take_log(log, next_base, follow, opened)?);
        }
        Ok(live)
    }

    fn take_log(
        &mut self,
        found: FoundLog<D::File>,
        next_base: Option<u64>,
        follow: &mut Follow,
        opened: &mut Opened,
    ) -> Result<Live> {
        let number = found.number;
        let seed = record::seed(self.names.salt, number);
        let base = follow.last;
        let walk = Walk::new(&*self.disk, &found.file, seed, 0, found.len);
        let mut loaded = follow.read_log(walk, found.header, next_base, found.len)?;
        sometimes!(self.disk, RecoveryFoundADamagedHeader, found.header.is_none());
        let end = loaded.end.max(FILE_HEADER as u64);
        let tail = Tail::of(&mut loaded, end, found.len);
        if loaded.records.is_empty() && loaded.losses.is_empty() && loaded.end < found.held {
            loaded.miss(0, "nothing is left of it, and it held data");
        }
        let path = self.path(number, "data");
        let lost = |(offset, what)| Lost { file: path.clone(), offset, what };
        let damaged = !loaded.losses.is_empty();
        opened.lost.extend(std::mem::take(&mut loaded.losses).into_iter().map(lost));
        let last = loaded.records.last().map_or(base, |(_, entry)| entry.lsn);
        let base = loaded.records.first().map_or(base, |(_, entry)| entry.lsn - 1);
        self.wal.logs.insert(number, Log { file: found.file, seed, base, last, end, damaged });
        Ok(Live { number, tail, loaded })
    }

    /// See `Tail::look_again`.
    fn look_again(&self, live: &[Live]) -> Result<()> {
        live.iter().try_for_each(|Live { number, tail, .. }| {
            let log = &self.wal.logs[number];
            tail.look_again(&*self.disk, &log.file, log.seed, || self.path(*number, "data"))
        })
    }

    /// Makes durable what survived of the logs, and puts it into the memtable.
    fn settle(&mut self, live: Vec<Live>) -> Result<()> {
        let is_any = !live.is_empty();
        for Live { number, tail, loaded } in live {
            self.replay_into_memory(number, &loaded)?;
            tail.settle(&*self.disk, &self.wal.logs[&number].file)?;
        }
        if is_any {
            self.disk.sync_dir(&self.names.dir)?;
        }
        Ok(())
    }

    fn replay_into_memory(&mut self, number: u32, loaded: &Loaded) -> Result<()> {
        let disk = Arc::clone(&self.disk);
        let log = &self.wal.logs[&number];
        let (file, seed, end) = (log.file.clone(), log.seed, log.end);
        let mut walk = Walk::new(&*disk, &file, seed, 0, end);
        let mut taken = loaded.records.iter().map(|(_, entry)| u64::from(entry.offset)).peekable();
        while let Some(item) = walk.next()? {
            let (Item::Record { offset, header, bytes } | Item::Rotten { offset, header, bytes }) =
                item
            else {
                continue;
            };
            if header.has(MARK) || taken.next_if_eq(&offset).is_none() {
                continue;
            }
            let (key, is_rotten) = (header.key(bytes), loaded.rotten.contains(&(offset as u32)));
            let head = &bytes[header.key_at() + header.key_len..header.body_at()];
            let body = &bytes[header.body_at()..];
            let stored = match (header.has(DELETE), is_rotten) {
                (true, _) => Stored::delete(header.lsn),
                (false, true) => Stored::bodiless(header.lsn, head),
                (false, false) => Stored::put(header.lsn, head, &[body]),
            };
            // Where nobody can say, it is counted as new.
            let old = self.bytes_of(key).unwrap_or(None);
            let new = (!header.has(DELETE)).then(|| (key.len() + stored.len()) as u64);
            self.counts.totals.change(key, old, new);
            if is_rotten {
                self.damage.suspect(key);
            }
            self.memory.active.insert(key, stored);
        }
        self.memory.log_bytes += end;
        if taken.peek().is_some() {
            let what =
                "it was read twice and was not the same; nothing was changed, so start again";
            return Err(Error::corrupt(self.path(number, "data"), 0, what));
        }
        Ok(())
    }

    /// Removes what no list names.
    fn remove_leftovers(&mut self, leftovers: &[(u32, &'static str)]) -> Result<()> {
        sometimes!(self.disk, RecoveryRemovedRemains, !leftovers.is_empty());
        for (number, extension) in leftovers {
            self.disk.remove(&self.path(*number, extension))?;
        }
        if leftovers.is_empty() { Ok(()) } else { Ok(self.disk.sync_dir(&self.names.dir)?) }
    }

    /// Makes the first log of this life; its header, which names all that was recovered, is durable. Where there is no room for it
    /// the store can be read all the same, and the first write tries again.
    fn start_first_log(&mut self) -> Result<()> {
        let number = self.names.next_number;
        let (active, log) = match self.start_log(number) {
            Err(Error::Full(_)) => {
                sometimes!(self.disk, OpenedOnAFullDisk);
                return Ok(());
            }
            other => other?,
        };
        self.names.next_number += 1;
        self.disk.sync_now(&log.file)?;
        self.disk.sync_dir(&self.names.dir)?;
        self.wal.active = active;
        self.wal.logs.insert(number, log);
        Ok(())
    }

    /// Removes logs in which nothing survived: what was never promised must not be met again. Such a file becomes its own note.
    fn remove_empty(&mut self) -> Result<()> {
        let is_empty = |number: u32, log: &Log<D::File>| {
            number != self.wal.active.number && log.is_empty() && !log.damaged
        };
        let empty = self.wal.logs.iter().filter(|(number, log)| is_empty(**number, log));
        let empty: Vec<u32> = empty.map(|(number, _)| *number).collect();
        sometimes!(self.disk, RecoveryFoundAnEmptyFile, !empty.is_empty());
        for number in &empty {
            self.wal.logs.remove(number);
            self.disk.rename(&self.path(*number, "data"), &self.path(*number, "gone"))?;
        }
        if empty.is_empty() { Ok(()) } else { Ok(self.disk.sync_dir(&self.names.dir)?) }
    }

    /// Closes the log, and then writes what is in memory into tables, so that the next start reads none of it. Where that
    /// cannot be, the log has it.
    pub(super) fn close_all(&mut self) -> Result<()> {
        let closed = self.close_log();
        if closed.is_ok() {
            match self.write_everything() {
                Err(Error::Disk(error)) if crate::refusal::passes(&error) => {}
                Err(Error::Corrupt { .. } | Error::Full(_)) => {}
                other => other?,
            }
        }
        closed
    }

    fn write_everything(&mut self) -> Result<()> {
        let Some(&log) = self.wal.logs.keys().last() else { return Ok(()) };
        if !self.memory.active.is_empty() {
            let table = Arc::new(std::mem::take(&mut self.memory.active));
            let (last, totals) = (self.syncing.lsn, self.counts.totals);
            self.memory.frozen.push_back(super::memory::Frozen { table, last, log, totals });
        }
        while !self.memory.frozen.is_empty() {
            self.step_flush(u64::MAX)?;
        }
        if !self.work.persist.is_behind() {
            return Ok(());
        }
        for (_, table) in self.tables.levels.all() {
            self.disk.sync_now(&table.file)?;
        }
        self.disk.sync_dir(&self.names.dir)?;
        let number = self.names.next_number;
        let list = self.list().write(&*self.disk, &self.names.dir, number)?;
        self.disk.sync_now(&list)?;
        self.disk.sync_dir(&self.names.dir)?;
        for (number, extension) in self.work.persist.needless() {
            self.disk.remove(&self.path(number, extension))?;
        }
        Ok(self.disk.sync_dir(&self.names.dir)?)
    }
}
