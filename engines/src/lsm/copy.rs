//! A copy of the whole store in another directory of its disk: a checkpoint.
//!
//! Tables are linked; of the logs that are not in tables yet the bytes are copied. A list of its own names them.

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};

use super::{Lsm, writer};
use crate::log::{file_path, make_dir};

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

fn copy_bytes<D: Disk>(disk: &D, from: &D::File, to: &str, len: u64) -> Result<()> {
    let copy = disk.open(to, Open::New)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let wanted = buf.len().min((len - at) as usize);
        let read = disk.read_at(from, &mut buf[..wanted], at)?;
        if read < wanted {
            return Err(Error::Disk(std::io::ErrorKind::UnexpectedEof.into()));
        }
        disk.write_at(&copy, &[&buf[..read]], at)?;
        at += read as u64;
    }
    Ok(disk.sync_now(&copy)?)
}
