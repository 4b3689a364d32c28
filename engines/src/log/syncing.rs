//! What one sync (an fsync of each file that needs it) covers, and who waits for it: nobody on this thread, but at the start and the
//! end.
//!
//! A sync that is started covers the log files written since the last one, oldest first, then what background work has
//! asked for with an errand, then the names in the directory when files have been made, renamed or removed. It ends good only when all
//! of that is durable, in this order. Background work writes ahead by at most `AHEAD_BYTES_MAX`; then it asks for a sync with
//! an errand and does nothing until one has ended that was started after it asked.

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_core::sometimes;

/// Background work asks for a sync when it has written so much since the last one, in bytes.
const AHEAD_BYTES_MAX: u64 = 8 << 20;

/// How far writes have come on their way to the device.
pub(crate) struct Syncing<F> {
    /// The last write.
    pub(crate) lsn: u64,
    /// The last write of which the operating system has all.
    pub(crate) handed_over: u64,
    pub(crate) durable: u64,
    /// The highest durable Lsn that the log names.
    pub(crate) marked: u64,
    /// Whether names were made that no sync has been started for.
    pub(crate) names_dirty: bool,
    /// Logs with writes that no sync has been started for, oldest first.
    dirty: Vec<u32>,
    running: Option<Sync>,
    /// What background work waits for.
    errand: Option<Errand<F>>,
    /// What background work has written and not asked a sync for, in bytes.
    ahead: u64,
}

/// A sync under way.
pub(crate) struct Sync {
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
    pub(crate) const fn from(last: u64) -> Syncing<F> {
        Syncing {
            lsn: last,
            handed_over: last,
            durable: last,
            marked: last,
            names_dirty: false,
            dirty: Vec::new(),
            running: None,
            errand: None,
            ahead: 0,
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub(crate) fn invariants(&self) {
        let Syncing { lsn, handed_over, durable, marked, .. } = self;
        assert!(durable <= lsn && handed_over <= lsn, "writes come in order");
        assert!(marked <= durable, "the log names only what is durable");
        assert!(self.dirty.is_sorted(), "older files are synced first");
    }

    /// Whether background work waits for a sync.
    pub(crate) const fn has_errand(&self) -> bool {
        self.errand.is_some()
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A log has been written to.
    pub(crate) fn note(&mut self, number: u32) {
        if !self.dirty.contains(&number) {
            self.dirty.push(number);
        }
    }

    /// Background work goes on when these files, and what it waits for already, and then the names in the directory are durable.
    pub(crate) fn send_errand(&mut self, mut files: Vec<F>, mut has_names: bool) {
        assert!(has_names || !files.is_empty(), "an errand asks for something");
        self.ahead = 0;
        if let Some(errand) = self.errand.take() {
            files.extend(errand.files);
            has_names |= errand.has_names;
        }
        self.errand = Some(Errand { files, has_names, sync: None });
    }

    /// Background work has written so many more bytes into a file. It may have to wait.
    pub(crate) fn write_ahead(&mut self, file: &F, bytes: u64) {
        self.ahead += bytes;
        if self.ahead >= AHEAD_BYTES_MAX && self.errand.is_none() {
            self.send_errand(vec![file.clone()], false);
        }
    }

    /// Starts a sync of all that has been handed to the operating system, unless that is durable. `there`: the file of a log; one that
    /// was removed meanwhile was durable, and is durable elsewhere.
    pub(crate) fn begin<D: Disk<File = F>>(
        &mut self,
        id: SyncId,
        (disk, dir): (&D, &str),
        there: impl Fn(u32) -> Option<F>,
    ) -> Option<Lsn> {
        if self.durable == self.handed_over && self.errand.is_none() {
            sometimes!(disk, NothingToSync);
            return None;
        }
        assert!(self.running.is_none(), "one sync runs at a time");
        assert!(self.durable <= self.handed_over, "only what was written is durable");
        let logs = std::mem::take(&mut self.dirty);
        let mut has_names = std::mem::take(&mut self.names_dirty);
        let mut handles: Vec<F> = logs.iter().filter_map(|&number| there(number)).collect();
        sometimes!(disk, SyncCoveredTwoFiles, logs.len() > 1);
        if let Some(errand) = &mut self.errand {
            handles.extend(errand.files.iter().cloned());
            errand.sync = Some(id);
            has_names |= errand.has_names;
        }
        let dirs = if has_names { vec![dir.to_owned()] } else { Vec::new() };
        disk.start_sync(id, handles, dirs);
        self.running = Some(Sync { id, lsn: self.handed_over, logs, has_names });
        Some(Lsn(self.handed_over))
    }

    /// The sync of this name has ended: what it covered, if it is the one under way.
    pub(crate) fn take(&mut self, id: SyncId) -> Result<Sync> {
        let sync = self.running.take_if(|sync| sync.id == id);
        sync.ok_or(Error::Malformed("this sync was not started here"))
    }

    /// It has ended well.
    pub(crate) fn covered(&mut self, sync: &Sync) -> Lsn {
        assert!(sync.lsn <= self.handed_over, "it covered what had been written");
        self.durable = self.durable.max(sync.lsn);
        if self.errand.as_ref().is_some_and(|errand| errand.sync == Some(sync.id)) {
            self.errand = None;
        }
        Lsn(self.durable)
    }

    /// Makes all of the log durable that the operating system has, names included, and waits for it. What an errand asks for is
    /// still to be done.
    pub(crate) fn wait<D: Disk<File = F>>(
        &mut self,
        (disk, dir): (&D, &str),
        there: impl Fn(u32) -> Option<F>,
    ) -> Result<()> {
        // What a sync under way covers is not durable yet either.
        let under_way = self.running.iter().flat_map(|sync| &sync.logs);
        let mut numbers: Vec<u32> = under_way.chain(&self.dirty).copied().collect();
        numbers.dedup();
        for file in numbers.into_iter().filter_map(there) {
            disk.sync_now(&file)?;
        }
        let under_way = self.running.as_ref().is_some_and(|sync| sync.has_names);
        let asked_for = self.errand.as_ref().is_some_and(|errand| errand.has_names);
        if self.names_dirty || under_way || asked_for {
            disk.sync_dir(dir)?;
        }
        self.dirty.clear();
        self.names_dirty = false;
        self.durable = self.handed_over;
        Ok(())
    }
}
