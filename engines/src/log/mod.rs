//! A log of writes: its bytes, how it is read, and which of its writes survived. Bitcask keeps its data in one; the LSM engine
//! writes ahead to one.
//!
//! A log is files with rising numbers. Each begins with a header and holds records in the order of their dense Lsns (`record`).
//! After a crash `follow` says which of them count, which were never promised and which are lost, and `tail` makes a file so.
//! `syncing` says what a sync covers and who waits for it.
//! Left out: which file is written, when the next is begun, and what the records are for. That is their engine's.

pub(crate) mod record;

pub(crate) mod batch;

pub(crate) mod walk;

pub(crate) mod follow;

pub(crate) mod tail;

pub(crate) mod replay;

pub(crate) mod syncing;

use std::io::ErrorKind;

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};

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

/// Copies the first bytes of a file into a new one, which is durable then; its name is not.
pub(crate) fn copy_bytes<D: Disk>(disk: &D, from: &D::File, to: &str, len: u64) -> Result<()> {
    let copy = disk.open(to, Open::New)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let wanted = buf.len().min((len - at) as usize);
        let read = disk.read_at(from, &mut buf[..wanted], at)?;
        if read < wanted {
            return Err(Error::Disk(ErrorKind::UnexpectedEof.into()));
        }
        disk.write_at(&copy, &[&buf[..read]], at)?;
        at += read as u64;
    }
    Ok(disk.sync_now(&copy)?)
}
