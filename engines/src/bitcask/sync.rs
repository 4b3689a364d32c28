//! Syncs of the log, by the rules of `log::syncing`.

use std::io;

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};

use super::Bitcask;

impl<D: Disk> Bitcask<D> {
    /// Starts a sync of all that has been handed to the operating system, unless that is durable.
    pub(super) fn begin_sync(&mut self, id: SyncId) -> Option<Lsn> {
        let files = &self.files;
        let there = |number| files.get(&number).map(|file| file.file.clone());
        self.syncing.begin(id, (&*self.disk, &self.names.dir), there)
    }

    /// The sync under way has ended.
    pub(super) fn end_sync(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        let sync = self.syncing.take(id)?;
        self.poison_on_error(result.map_err(Error::Disk))?;
        self.counts.syncs += 1;
        Ok(self.syncing.covered(&sync))
    }

    /// Makes everything written durable, names included, and waits for it.
    pub(super) fn make_durable(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.wait_for_device()
    }

    /// Makes everything durable that the operating system has, names included, and waits for it.
    pub(super) fn wait_for_device(&mut self) -> Result<()> {
        let files = &self.files;
        let there = |number| files.get(&number).map(|file| file.file.clone());
        self.syncing.wait((&*self.disk, &self.names.dir), there)
    }
}
