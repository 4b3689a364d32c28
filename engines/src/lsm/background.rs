//! Background work: what is due next, and one bounded step of it. Memtables are written first, then lists of tables, then
//! logs are retired, then tables are compacted.
//!
//! **The order on the disk**: new tables are written; tables and their names are made durable; a list of tables with them is written,
//! and made durable with its name; only then the tables that it leaves out are removed, and the logs that it makes needless.
//! Each "made durable" is an errand of the next sync (`sync`). So whatever a power loss leaves, the newest list that is there names
//! tables that are there, and the logs behind it are whole.
//!
//! **Backpressure** has no cliff: when background work falls behind, each write does some of it, more of it the more there is to do.
//! Only when the device does not answer for very long, or nobody lets the engine work, writes are refused.

use rondo_core::engine::Progress;
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::compaction::{Compaction, Flush};
use super::manifest::{EXTENSION, Manifest};
use super::{Lsm, writer};
use crate::refusal::passes;

/// So many logs are kept to be told once more, however short they are.
const REPLAY_LOGS_MAX: usize = 8;
/// So many tables are moved at once: one list tells of all.
const MOVES_MAX: usize = 64;

/// What is under way.
pub(super) struct Work<F> {
    pub(super) flush: Option<Flush<F>>,
    pub(super) compaction: Option<Compaction<F>>,
    /// Tables with damage that nobody can name: they stay where they are.
    pub(super) stuck: Vec<u32>,
    pub(super) persist: Persist<F>,
    /// How many bytes are on a level that is too long for them.
    debt: u64,
    /// Work that writes still have to do, in bytes.
    owed: u64,
}

/// How the list of tables becomes durable.
pub(super) struct Persist<F> {
    /// The list that is durable, by its number.
    pub(super) list: u32,
    /// The last log that the durable list makes needless.
    pub(super) flushed_log: u32,
    /// Whether the tables are others than in the last list.
    pub(super) is_changed: bool,
    /// Tables that no errand has been sent for.
    pub(super) unsynced: Vec<F>,
    /// Tables that are in use no more.
    pub(super) obsolete: Vec<u32>,
    stage: Stage,
}

enum Stage {
    Idle,
    /// The tables of this list become durable. What it leaves out goes afterwards.
    Tables(Box<Manifest>, Vec<u32>),
    /// The list becomes durable.
    Listed {
        number: u32,
        flushed_log: u32,
        obsolete: Vec<u32>,
    },
    /// It is noted that these logs go.
    Retiring(Vec<u32>),
}

impl<F> Work<F> {
    pub(super) const fn new(persist: Persist<F>) -> Work<F> {
        Work { flush: None, compaction: None, stuck: Vec::new(), persist, debt: 0, owed: 0 }
    }
}

impl<F> Persist<F> {
    /// This list is durable.
    pub(super) const fn from(list: u32, flushed_log: u32) -> Persist<F> {
        Persist {
            list,
            flushed_log,
            is_changed: false,
            unsynced: Vec::new(),
            obsolete: Vec::new(),
            stage: Stage::Idle,
        }
    }

    /// Whether the durable list is not what there is.
    pub(super) fn is_behind(&self) -> bool {
        self.is_changed || !matches!(self.stage, Stage::Idle | Stage::Retiring(_))
    }

    /// What may be removed when a list of what there is now is durable: by number and extension.
    pub(super) fn needless(&self) -> Vec<(u32, &'static str)> {
        let mut tables = self.obsolete.clone();
        let mut lists = vec![self.list];
        match &self.stage {
            Stage::Tables(_, obsolete) => tables.extend(obsolete),
            Stage::Listed { number, obsolete, .. } => {
                tables.extend(obsolete);
                lists.push(*number);
            }
            Stage::Idle | Stage::Retiring(_) => {}
        }
        let tables = tables.into_iter().map(|number| (number, writer::EXTENSION));
        lists.into_iter().map(|number| (number, EXTENSION)).chain(tables).collect()
    }
}

impl<D: Disk> Lsm<D> {
    /// One step of whatever is to be done.
    pub(super) fn background_step(&mut self, budget: u64) -> Result<Progress> {
        let step = self.try_step(budget);
        match step {
            Err(Error::Disk(error)) if passes(&error) => {
                sometimes!(self.disk, BackgroundHadToWait);
                Ok(Progress::default())
            }
            Err(Error::Full(_) | Error::Corrupt { .. }) => Ok(Progress::default()),
            step => step,
        }
    }

    fn try_step(&mut self, budget: u64) -> Result<Progress> {
        let went_on = |bytes| Progress { bytes, more: true, waits_for: None };
        if !self.memory.frozen.is_empty() {
            return Ok(went_on(self.step_flush(budget)?));
        }
        if !self.syncing.has_errand() {
            self.note_log()?;
        }
        if self.syncing.has_errand() {
            // It is covered by a sync that starts now, whatever is durable already.
            return Ok(self.waiting());
        }
        if self.step_persist()? {
            return Ok(if self.syncing.has_errand() { self.waiting() } else { went_on(1) });
        }
        // Before compactions, which may find no room as long as these take it.
        if self.retire_logs()? {
            return Ok(self.waiting());
        }
        if self.work.compaction.is_some() {
            return Ok(went_on(self.step_compaction(budget)?));
        }
        if self.start_compactions() {
            return Ok(went_on(1));
        }
        self.freeze_for_room()
    }

    /// Begins the next compaction, after moves of tables that need none; answers whether there was any of these.
    fn start_compactions(&mut self) -> bool {
        let is_short = self.has_little_room();
        let is_eager = is_short && self.may_give_back()
            || self.is_wasteful()
            || buggify!(self.disk, CompactionForLittle);
        for moved in 0..MOVES_MAX {
            let pick = self.tables.levels.pick(&self.options, is_eager, is_short);
            let is_stuck = |number: &u32| self.work.stuck.contains(number);
            let pick = pick.filter(|pick| !pick.numbers().iter().any(is_stuck));
            let Some(pick) = pick else { return moved > 0 };
            self.start_compaction(pick);
            if self.work.compaction.is_some() {
                break;
            }
        }
        true
    }

    pub(super) fn waiting(&self) -> Progress {
        Progress { waits_for: Some(Lsn(self.syncing.durable)), ..Progress::default() }
    }

    /// The tables are others.
    pub(super) fn tables_changed(&mut self) {
        self.work.persist.is_changed = true;
        self.work.debt = self.tables.levels.debt(&self.options);
    }

    /// What a write of `bytes` does for the work that waits.
    pub(super) fn work_along(&mut self, bytes: u64) -> Result<()> {
        let level_bytes = self.options.level_bytes.max(1);
        let share = match self.memory.frozen.len() {
            // Before the memtable that is written is full, that one is in a table.
            2.. => 4,
            _ => (4 * self.work.debt / level_bytes).min(16),
        };
        self.work.owed += share * bytes;
        let step = (self.options.memtable_bytes_max as u64 / 8).min(64 << 10);
        if share == 0 || self.work.owed < step {
            return Ok(());
        }
        sometimes!(self.disk, WriteWorkedAlong);
        let owed = std::mem::take(&mut self.work.owed);
        let result = self.background_step(owed);
        self.poison_on_error(result).map(drop)
    }

    /// One step on the way of the list of tables; answers whether there was one.
    fn step_persist(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.work.persist.stage, Stage::Idle) {
            Stage::Idle if !self.work.persist.is_changed => return Ok(false),
            Stage::Idle => {
                let (list, obsolete) =
                    (self.list(), std::mem::take(&mut self.work.persist.obsolete));
                self.work.persist.stage = Stage::Tables(Box::new(list), obsolete);
                self.work.persist.is_changed = false;
                let files = std::mem::take(&mut self.work.persist.unsynced);
                if !files.is_empty() {
                    self.syncing.send_errand(files, true);
                }
            }
            Stage::Tables(list, obsolete) => {
                let number = self.names.next_number;
                match list.write(&*self.disk, &self.names.dir, number) {
                    Ok(file) => self.syncing.send_errand(vec![file], true),
                    Err(error) => {
                        self.work.persist.stage = Stage::Tables(list, obsolete);
                        return Err(error.into());
                    }
                }
                self.names.next_number += 1;
                let flushed_log = list.flushed_log;
                self.work.persist.stage = Stage::Listed { number, flushed_log, obsolete };
            }
            Stage::Listed { number, flushed_log, obsolete } => {
                self.disk.remove(&self.path(self.work.persist.list, EXTENSION))?;
                for table in obsolete {
                    self.disk.remove(&self.path(table, writer::EXTENSION))?;
                }
                (self.work.persist.list, self.work.persist.flushed_log) = (number, flushed_log);
                self.syncing.send_errand(Vec::new(), true);
            }
            Stage::Retiring(logs) => {
                for number in logs {
                    self.disk.remove(&self.path(number, "data"))?;
                    self.wal.logs.remove(&number);
                }
                self.syncing.send_errand(Vec::new(), true);
            }
        }
        Ok(true)
    }

    /// What the list of tables says now.
    pub(super) fn list(&self) -> Manifest {
        let tables = self.tables.levels.all().map(|(level, table)| (level, table.meta.clone()));
        Manifest {
            salt: self.names.salt,
            flushed: self.tables.flushed,
            flushed_log: self.tables.flushed_log,
            totals: self.tables.totals,
            tables: tables.collect(),
        }
    }

    /// Notes that the oldest logs go that the durable list makes needless, but for the last `Options::replay_bytes` of them; answers
    /// whether there are any.
    fn retire_logs(&mut self) -> Result<bool> {
        let kept = if self.has_little_room() { 0 } else { self.options.replay_bytes };
        let (mut bytes, mut count, mut retired) = (0, 0, Vec::new());
        for (&number, log) in self.wal.logs.iter().rev() {
            if number > self.work.persist.flushed_log || number == self.wal.active.number {
                continue;
            }
            (bytes, count) = (bytes + log.end, count + 1);
            if bytes > kept || count > REPLAY_LOGS_MAX {
                retired.push(number);
            }
        }
        retired.reverse();
        if retired.is_empty() {
            return Ok(false);
        }
        sometimes!(self.disk, LogRetired);
        self.note_removals(&retired)?;
        self.syncing.send_errand(Vec::new(), true);
        self.work.persist.stage = Stage::Retiring(retired);
        Ok(true)
    }
}
