//! A log of writes: its bytes, how it is read, and which of its writes survived. Bitcask keeps its data in one; the LSM engine
//! writes ahead to one.
//!
//! A log is files with rising numbers. Each begins with a header and holds records in the order of their dense Lsns (`record`).
//! After a crash `follow` says which of them count, which were never promised and which are lost, and `tail` makes a file so.
//! Left out: which file is written, when the next is begun, and what the records are for. That is their engine's.

pub(crate) mod record;

pub(crate) mod batch;

pub(crate) mod walk;

pub(crate) mod follow;

pub(crate) mod tail;

pub(crate) mod replay;

use rondo_core::env::Disk;
use rondo_core::error::Result;

/// Makes a directory whose name, with those above it, is durable.
pub(crate) fn make_dir<D: Disk>(disk: &D, dir: &str) -> Result<()> {
    disk.create_dir(dir)?;
    let mut below = dir;
    while !below.is_empty() {
        below = below.rsplit_once('/').map_or("", |(above, _)| above);
        disk.sync_dir(below)?;
    }
    Ok(())
}

/// Where file `number` lies: ten digits, so that names sort as numbers do.
pub(crate) fn file_path(dir: &str, number: u32, extension: &str) -> String {
    let name = format!("{number:010}.{extension}");
    if dir.is_empty() { name } else { format!("{dir}/{name}") }
}
