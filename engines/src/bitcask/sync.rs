//! What one sync (an fsync of each file that needs it) covers, and who waits for it: nobody on this thread, but at the start and the
//! end.
//!
//! A sync that is started covers the log files written since the last one, oldest first, then what background work has
//! asked for, then the names in the directory when files have been made, renamed or removed. It ends good only when all of
//! that is durable, in this order. Background work writes ahead by at most `AHEAD_BYTES_MAX`; then it asks for a sync with
//! an errand and does nothing until one has ended that was started after it asked.

use std::io;

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_core::sometimes;

use super::Bitcask;

/// Background work asks for a sync when it has written so much since the last one, in bytes.
const AHEAD_BYTES_MAX: u64 = 8 << 20;

/// A sync under way.
pub(super) struct Sync {
    id: SyncId,
    lsn: u64,
    files: Vec<u32>,
    has_names: bool,
}

/// What background work waits for.
pub(super) struct Errand<F> {
    pub(super) files: Vec<F>,
    has_names: bool,
    /// The sync that covers it, once one has been started.
    sync: Option<SyncId>,
}

impl<D: Disk> Bitcask<D> {
    /// Starts a sync of all that has been handed to the operating system, unless that is durable.
    pub(super) fn begin_sync(&mut self, id: SyncId) -> Option<Lsn> {
        if self.syncing.durable == self.syncing.handed_over && self.syncing.errand.is_none() {
            sometimes!(self.disk, NothingToSync);
            return None;
        }
        assert!(self.syncing.running.is_none(), "one sync runs at a time");
        assert!(
            self.syncing.durable <= self.syncing.handed_over,
            "only what was written is durable"
        );
        let files = std::mem::take(&mut self.syncing.dirty);
        let mut has_names = std::mem::take(&mut self.syncing.names_dirty);
        // A file that a compaction has removed meanwhile was durable, and is durable elsewhere.
        let there = |number| self.files.get(number).map(|file| file.file.clone());
        let mut handles: Vec<D::File> = files.iter().filter_map(there).collect();
        sometimes!(self.disk, SyncCoveredTwoFiles, files.len() > 1);
        if let Some(errand) = &mut self.syncing.errand {
            handles.extend(errand.files.iter().cloned());
            errand.sync = Some(id);
            has_names |= errand.has_names;
        }
        let dirs = if has_names { vec![self.names.dir.clone()] } else { Vec::new() };
        self.disk.start_sync(id, handles, dirs);
        self.syncing.running = Some(Sync { id, lsn: self.syncing.handed_over, files, has_names });
        Some(Lsn(self.syncing.handed_over))
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

    /// Background work goes on when these files, and then the names in the directory, are durable.
    pub(super) fn send_errand(&mut self, files: Vec<D::File>, has_names: bool) {
        assert!(has_names || !files.is_empty(), "an errand asks for something");
        self.syncing.ahead = 0;
        self.syncing.errand = Some(Errand { files, has_names, sync: None });
    }

    /// Background work has written so many more bytes into a file. It may have to wait.
    pub(super) fn write_ahead(&mut self, file: &D::File, bytes: u64) {
        self.syncing.ahead += bytes;
        if self.syncing.ahead >= AHEAD_BYTES_MAX {
            self.send_errand(vec![file.clone()], false);
        }
    }

    /// Makes everything written durable, names included, and waits for it.
    pub(super) fn make_durable(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.wait_for_device()
    }

    /// Makes everything durable that the operating system has, names included, and waits for it.
    pub(super) fn wait_for_device(&mut self) -> Result<()> {
        // What a sync under way covers is not durable yet either.
        let under_way = self.syncing.running.iter().flat_map(|sync| &sync.files);
        let mut numbers: Vec<u32> = under_way.chain(&self.syncing.dirty).copied().collect();
        numbers.dedup();
        for number in numbers {
            // A file that a compaction removed meanwhile was durable elsewhere before.
            if let Some(file) = self.files.get(&number) {
                self.disk.sync_now(&file.file)?;
            }
        }
        let under_way = self.syncing.running.as_ref().is_some_and(|sync| sync.has_names);
        let asked_for = self.syncing.errand.as_ref().is_some_and(|errand| errand.has_names);
        if self.syncing.names_dirty || under_way || asked_for {
            self.disk.sync_dir(&self.names.dir)?;
        }
        self.syncing.dirty.clear();
        self.syncing.names_dirty = false;
        self.syncing.durable = self.syncing.handed_over;
        Ok(())
    }
}

/// Adds a file to the dirty ones, once.
pub(super) fn note(dirty: &mut Vec<u32>, number: u32) {
    if !dirty.contains(&number) {
        dirty.push(number);
    }
}
