//! A copy of the whole store in another directory of its disk: a checkpoint.
//!
//! Tables are linked; of the logs that are not in tables yet the bytes are copied. A list of its own names them.

use rondo_core::env::Disk;
use rondo_core::error::Result;

use super::{Lsm, writer};
use crate::log::{copy_bytes, file_path, make_dir};

impl<D: Disk> Lsm<D> {
    /// Copies everything into another directory. The log is durable.
    pub(super) fn copy_to(&self, dir: &str) -> Result<()> {
        let disk = &*self.disk;
        make_dir(disk, dir)?;
        for (_, table) in self.tables.levels.all() {
            disk.sync_now(&table.file)?;
            let number = table.meta.number;
            disk.link(
                &self.path(number, writer::EXTENSION),
                &file_path(dir, number, writer::EXTENSION),
            )?;
        }
        for (&number, log) in &self.wal.logs {
            if number > self.tables.flushed_log {
                copy_bytes(disk, &log.file, &file_path(dir, number, "data"), log.end)?;
            }
        }
        let list = self.list().write(disk, dir, self.names.next_number)?;
        disk.sync_now(&list)?;
        Ok(disk.sync_dir(dir)?)
    }
}
