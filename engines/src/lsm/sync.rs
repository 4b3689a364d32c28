//! What one sync covers, and who waits for it: nobody on this thread, but at the start and the end.
//!
//! A sync that is started covers the log files written since the last one, oldest first, then what background work has
//! asked for with an errand, then the names in the directory when files have been made, renamed or removed. It ends good only when all
//! of that is durable, in this order. Background work that has to wait does nothing until a sync has ended that was started
//! after it asked.

use std::io;

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_core::sometimes;

use super::Lsm;

/// Background work asks for a sync when it has written so much since the last one, in bytes.
const AHEAD_BYTES_MAX: u64 = 8 << 20;

/// How far writes have come on their way to the device.
pub(super) struct Syncing<F> {
    /// The last write.
    pub(super) lsn: u64,
    /// The last write of which the operating system has all.
    pub(super) handed_over: u64,
    pub(super) durable: u64,
    /// The highest durable Lsn that the log names.
    pub(super) marked: u64,
    /// Logs with writes that no sync has been started for, oldest first.
    pub(super) dirty: Vec<u32>,
    /// Whether names were made that no sync has been started for.
    pub(super) names_dirty: bool,
    running: Option<Sync>,
    /// What background work waits for.
    errand: Option<Errand<F>>,
    /// What background work has written and not asked a sync for, in bytes.
    ahead: u64,
}

/// A sync under way.
struct Sync {
    id: SyncId,
    lsn: u64,
    logs: Vec<u32>,
    has_names: bool,
}

/// What background work waits for.
struct Errand<F> {
    files: Vec<F>,
    has_names: bool,
    /// The sync that covers it, once one has been started.
    sync: Option<SyncId>,
}

impl<F: Clone> Syncing<F> {
    /// All writes up to `last` are durable.
    pub(super) fn from(last: u64) -> Syncing<F> {
        Syncing {
            lsn: last,
            handed_over: last,
            durable: last,
            marked: last,
            dirty: Vec::new(),
            names_dirty: false,
            running: None,
            errand: None,
            ahead: 0,
        }
    }

    /// Whether background work waits for a sync.
    pub(super) const fn has_errand(&self) -> bool {
        self.errand.is_some()
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Background work goes on when these files, and then the names in the directory, are durable.
    pub(super) fn send_errand(&mut self, mut files: Vec<F>, mut has_names: bool) {
        self.ahead = 0;
        if let Some(errand) = self.errand.take() {
            files.extend(errand.files);
            has_names |= errand.has_names;
        }
        self.errand = Some(Errand { files, has_names, sync: None });
    }

    /// Background work has written so many more bytes into a file. It may have to wait.
    pub(super) fn write_ahead(&mut self, file: &F, bytes: u64) {
        self.ahead += bytes;
        if self.ahead >= AHEAD_BYTES_MAX && self.errand.is_none() {
            self.send_errand(vec![file.clone()], false);
        }
    }

    /// A log has been written to.
    pub(super) fn note(&mut self, number: u32) {
        if !self.dirty.contains(&number) {
            self.dirty.push(number);
        }
    }
}

impl<D: Disk> Lsm<D> {
    /// Starts a sync of all that has been handed to the operating system, unless that is durable.
    pub(super) fn begin_sync(&mut self, id: SyncId) -> Option<Lsn> {
        let syncing = &mut self.syncing;
        if syncing.durable == syncing.handed_over && syncing.errand.is_none() {
            sometimes!(self.disk, NothingToSync);
            return None;
        }
        assert!(syncing.running.is_none(), "one sync runs at a time");
        assert!(syncing.durable <= syncing.handed_over, "only what was written is durable");
        let logs = std::mem::take(&mut syncing.dirty);
        let mut has_names = std::mem::take(&mut syncing.names_dirty);
        // A log that was removed meanwhile was durable, and is in durable tables.
        let there = |number| self.wal.logs.get(number).map(|log| log.file.clone());
        let mut handles: Vec<D::File> = logs.iter().filter_map(there).collect();
        sometimes!(self.disk, SyncCoveredTwoFiles, logs.len() > 1);
        if let Some(errand) = &mut syncing.errand {
            handles.extend(errand.files.iter().cloned());
            errand.sync = Some(id);
            has_names |= errand.has_names;
        }
        let dirs = if has_names { vec![self.names.dir.clone()] } else { Vec::new() };
        self.disk.start_sync(id, handles, dirs);
        syncing.running = Some(Sync { id, lsn: syncing.handed_over, logs, has_names });
        Some(Lsn(syncing.handed_over))
    }

    /// The sync under way has ended.
    pub(super) fn end_sync(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        match self.syncing.running.take() {
            Some(sync) if sync.id == id => {
                let result = result.map_err(Error::Disk);
                self.poison_on_error(result)?;
                assert!(sync.lsn <= self.syncing.handed_over, "it covered what had been written");
                self.counts.syncs += 1;
                self.syncing.durable = self.syncing.durable.max(sync.lsn);
                if self.syncing.errand.as_ref().is_some_and(|errand| errand.sync == Some(id)) {
                    self.syncing.errand = None;
                }
                Ok(Lsn(self.syncing.durable))
            }
            other => {
                self.syncing.running = other;
                Err(Error::Malformed("this sync was not started here"))
            }
        }
    }

    /// Makes everything written durable, names included, and waits for it.
    pub(super) fn make_durable(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.wait_for_device()
    }

    /// Makes all of the log durable that the operating system has, names included, and waits for it. What an errand asks for is
    /// still to be done.
    pub(super) fn wait_for_device(&mut self) -> Result<()> {
        // What a sync under way covers is not durable yet either.
        let under_way = self.syncing.running.iter().flat_map(|sync| &sync.logs);
        let mut numbers: Vec<u32> = under_way.chain(&self.syncing.dirty).copied().collect();
        numbers.dedup();
        for number in numbers {
            if let Some(log) = self.wal.logs.get(&number) {
                self.disk.sync_now(&log.file)?;
            }
        }
        let under_way = self.syncing.running.as_ref().is_some_and(|sync| sync.has_names);
        if self.syncing.names_dirty || under_way {
            self.disk.sync_dir(&self.names.dir)?;
        }
        self.syncing.dirty.clear();
        self.syncing.names_dirty = false;
        self.syncing.durable = self.syncing.handed_over;
        Ok(())
    }
}
