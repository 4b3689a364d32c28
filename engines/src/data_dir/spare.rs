//! The file of boots, written where there is no room for anything new: over a spare file that has its room already.
//!
//! A start must count itself durably before anybody hears of it, also on a disk without a single free block. So beside the
//! file there is a spare one of the same length. The new contents are written over the spare, in place, and synced; then
//! the two change names, and the old file is the next spare. Nothing is allocated, and no block is given up that another
//! program could take.
//!
//! **The file that counts is never written over.** When the spare is, all names are durable: what has the name of the file
//! has it after a power loss too, and the spare is another file. Until the names have changed durably the old file
//! counts, afterwards the new one, and both are whole. In between the old file has a third name (`boot.old`), so that its
//! room stays ours whichever of the names a power loss leaves. Then zeros are written over it: there is one file of boots that can be
//! read, so that no misdirected read finds an older one.
//!
//! Without a spare (a new directory, one of an earlier version, a file system without links) the file is written as any
//! small file, which takes room, and a spare is made for the next time when there is room for one.
//! Left out: file systems that never write in place (btrfs, ZFS): there the spare is no help.

use std::io;

use rondo_core::env::{Disk, Open};
use rondo_core::sometimes;

use super::sealed::{self, Kind, seal};
use crate::refusal::lacks_room;

/// What the next contents are written over.
pub(super) const SPARE: &str = "boot.spare";
/// The file that counted before, until it is the spare.
pub(super) const OLD: &str = "boot.old";

/// Writes `kind`, whose contents always have the same length, so that it is there as it was or as it is to be. The names in
/// the directory are durable.
pub(super) fn write<D: Disk>(disk: &D, kind: &Kind, parts: &[&[u8]]) -> io::Result<()> {
    let bytes = seal(kind, parts);
    let spare = find(disk, kind, bytes.len() as u64)?;
    sometimes!(disk, BootWrittenOverASpare, spare.is_some());
    match spare {
        Some(file) => write_over(disk, kind, &file, &bytes),
        None => {
            sealed::write(disk, kind, parts)?;
            make(disk, bytes.len())
        }
    }
}

/// The spare, when there is one that has its room.
fn find<D: Disk>(disk: &D, kind: &Kind, length: u64) -> io::Result<Option<D::File>> {
    let names = disk.list("")?;
    let has = |name: &str| names.iter().any(|known| known == name);
    let name = match (has(SPARE), has(OLD)) {
        (true, _) => SPARE,
        (false, true) => OLD,
        (false, false) => return Ok(None),
    };
    let file = disk.open(name, Open::Existing)?;
    if has(OLD) {
        // The last change of names was cut off.
        if name == OLD {
            disk.rename(OLD, SPARE)?
        } else {
            disk.remove(OLD)?
        }
        disk.sync_dir("")?;
    }
    // A power loss may have kept both names of what was renamed.
    let is_spare = !has(kind.name) || disk.place(SPARE)? != disk.place(kind.name)?;
    if is_spare && disk.len(&file)? == length {
        return Ok(Some(file));
    }
    drop(file);
    // It takes room as long as it is open, and until its name is durably gone.
    disk.remove(SPARE)?;
    disk.sync_dir("")?;
    Ok(None)
}

fn write_over<D: Disk>(disk: &D, kind: &Kind, file: &D::File, bytes: &[u8]) -> io::Result<()> {
    let old = match disk.open(kind.name, Open::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old?),
    };
    disk.write_at(file, &[bytes], 0)?;
    disk.sync_now(file)?;
    // Where a file cannot have a second name, or there is none yet, its room is given up.
    let is_kept = disk.link(kind.name, OLD).is_ok();
    disk.rename(SPARE, kind.name)?;
    disk.sync_dir("")?;
    let Some(old) = old.filter(|_| is_kept) else {
        return make(disk, bytes.len());
    };
    // What counts no more is no file of boots either: a read that the disk misdirects there must not find one.
    disk.write_at(&old, &[&vec![0; bytes.len()]], 0)?;
    disk.sync_now(&old)?;
    disk.rename(OLD, SPARE)
}

/// Makes a spare when there is room for it. Zeros are written, since some file systems reserve nothing otherwise.
fn make<D: Disk>(disk: &D, length: usize) -> io::Result<()> {
    let made = disk.open(SPARE, Open::New).and_then(|file| {
        disk.write_at(&file, &[&vec![0; length]], 0)?;
        disk.sync_now(&file)
    });
    match made {
        Err(error) if lacks_room(&error) => match disk.remove(SPARE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        made => made,
    }
}
