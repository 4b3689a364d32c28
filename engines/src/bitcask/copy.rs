//! A copy of the whole store in another directory of its disk: a checkpoint.
//!
//! Files that do not change any more are linked; of the active file the bytes are copied. What a compaction is writing is left
//! out: its records are in the files that it reads.

use rondo_core::env::Disk;
use rondo_core::error::Result;

use super::{Background, Bitcask};
use crate::log::{copy_bytes, file_path, make_dir};

impl<D: Disk> Bitcask<D> {
    /// Copies everything into another directory: links to what does not change, and bytes of the
    /// active file. Everything is durable and in files.
    pub(super) fn copy_to(&self, dir: &str) -> Result<()> {
        let disk = &*self.disk;
        make_dir(disk, dir)?;
        for (&number, file) in &self.files {
            if matches!(self.background, Some(Background::Compaction(ref compaction)) if compaction.writes(number))
            {
                continue;
            }
            let path = file_path(dir, number, "data");
            if number == self.active.number {
                copy_bytes(disk, &file.file, &path, file.end)?;
            } else {
                disk.link(&self.path(number, "data"), &path)?;
            }
            if file.is_sealed() {
                disk.link(&self.path(number, "hint"), &file_path(dir, number, "hint"))?;
            }
        }
        Ok(disk.sync_dir(dir)?)
    }
}
