//! The files of a store as a start finds them: which there are, what each says of itself, and what was said of it before.
//!
//! **A file that held data is not empty.** After a power loss a log file may have its name and nothing in it: nobody was
//! promised anything, so opening drops it. A file whose only block has been written elsewhere looks the same. Two things
//! tell them apart. A file has its `.made` only when something in it is durable (`notes`): all of a compacted file, the first
//! write of a log. And the data directory lists how long each file was, all of it durable. A file with a `.gone` holds nothing any more.
//!
//! **A header that is damaged** is known from the hint, which is written of files that do not change any more: what kind of file it
//! is, and for a log the first write, so the one before it too. Of records that are damaged with it the hint has the keys
//! (`unreadable`).
//!
//! Left out: a log that is neither listed nor noted. What is missing of it the rule sees, as far as its writes were named as
//! durable (`follow`).

use std::collections::{BTreeMap, BTreeSet};

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::{buggify, sometimes};

use super::hint::{Hint, Summary};
use crate::log::file_path;
use crate::log::record::{self, BadHeader, FILE_HEADER, FileHeader, Kind, MARK};
use crate::log::walk::{Item, Walk};

/// A data file.
pub(super) struct Found<F> {
    pub(super) number: u32,
    pub(super) file: F,
    pub(super) len: u64,
    pub(super) header: Option<FileHeader>,
    pub(super) hint: Option<Hint<F>>,
    /// Whether the header was damaged, and the hint has told what it said.
    pub(super) is_told: bool,
    /// It held something durable up to here at least, in bytes; 0 when nobody says so.
    pub(super) held: u64,
}

/// All of them.
pub(super) struct Directory<F> {
    /// Oldest first.
    pub(super) files: Vec<Found<F>>,
    /// The store's salt.
    pub(super) salt: u64,
    /// The first number that no file has had.
    pub(super) next_number: u32,
    /// D of the rule.
    pub(super) durable: u64,
}

/// Names in a directory.
struct Listing {
    data: BTreeSet<u32>,
    made: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    next_number: u32,
}

/// Finds the files in `dir`. `salt` is that of a store without files; `listed` says how long files were when the directory
/// had listed them, in bytes.
///
/// # Errors
/// The disk's, and `UnknownVersion` for files of another version of the format.
pub(super) fn look<D: Disk>(
    disk: &D,
    dir: &str,
    salt: u64,
    listed: &[(String, u64)],
) -> Result<Directory<D::File>> {
    let Listing { data, made, gone, next_number } = clear_remains(disk, dir)?;
    let listed: BTreeMap<&str, u64> = listed.iter().map(|(path, len)| (&**path, *len)).collect();
    let held = |number: u32| {
        let listed = listed.get(&*file_path(dir, number, "data")).copied().unwrap_or(0);
        let noted = if made.contains(&number) { FILE_HEADER as u64 + 1 } else { 0 };
        if gone.contains(&number) { 0 } else { listed.max(noted) }
    };
    let mut files = Vec::new();
    for number in data {
        files.push(open_file(disk, dir, number, held(number))?);
    }
    let salt = files.iter().find_map(|file| file.header).map_or(salt, |header| header.salt);
    for found in &mut files {
        let path = file_path(dir, found.number, "hint");
        let hint = Hint::open(disk, &path, record::seed(salt, found.number), found.len)?;
        // A damaged file is read, and reported, again. Where the header is gone only the hint says that there was something.
        let is_needed = found.header.is_none();
        found.hint = hint
            .filter(|hint| !hint.summary.damaged && (is_needed || !buggify!(disk, HintDistrusted)));
        if is_needed {
            found.header =
                found.hint.as_ref().and_then(|hint| told_header(found.number, salt, hint));
            found.is_told = found.header.is_some();
        }
    }
    assert!(files.iter().all(|found| found.number < next_number), "numbers are new");
    let durable = durable_named(disk, salt, &files)?;
    Ok(Directory { files, salt, next_number, durable })
}

/// Removes what was being written when the process ended.
fn clear_remains<D: Disk>(disk: &D, dir: &str) -> Result<Listing> {
    let [mut data, mut made, mut gone] = [const { BTreeSet::new() }; 3];
    let mut others = Vec::new();
    let mut next_number = 1;
    for name in disk.list(dir)? {
        let parts = name.split_once('.');
        let Some((Ok(number), kind)) = parts.map(|(n, kind)| (n.parse::<u32>(), kind)) else {
            continue;
        };
        if number == u32::MAX {
            return Err(Error::Full("all file numbers of this store are used up"));
        }
        next_number = next_number.max(number + 1);
        match kind {
            "data" => drop(data.insert(number)),
            "made" => drop(made.insert(number)),
            "gone" => drop(gone.insert(number)),
            "hint" => others.push((number, "hint")),
            "hint-new" => others.push((number, "hint-new")),
            "merge" => others.push((number, "merge")),
            _ => {}
        }
    }
    others.retain(|(number, kind)| *kind != "hint" || !data.contains(number));
    for (number, kind) in &others {
        disk.remove(&file_path(dir, *number, kind))?;
    }
    sometimes!(disk, RecoveryRemovedRemains, !others.is_empty());
    if !others.is_empty() {
        disk.sync_dir(dir)?;
    }
    Ok(Listing { data, made, gone, next_number })
}

fn open_file<D: Disk>(disk: &D, dir: &str, number: u32, held: u64) -> Result<Found<D::File>> {
    let file = disk.open(&file_path(dir, number, "data"), Open::Existing)?;
    let len = disk.len(&file)?;
    let mut bytes = [0; FILE_HEADER];
    let read = disk.read_at(&file, &mut bytes, 0)?;
    let header = match FileHeader::decode(&bytes[..read]) {
        Ok(header) => Some(header).filter(|header| header.number == number),
        Err(BadHeader::Damaged) => None,
        Err(BadHeader::Other(found)) => {
            return Err(Error::UnknownVersion { what: "a Bitcask data file", found });
        }
    };
    Ok(Found { number, file, len, header, hint: None, is_told: false, held })
}

/// What the header of a file said, as far as its hint knows it. A file without records has none.
fn told_header<F>(number: u32, salt: u64, hint: &Hint<F>) -> Option<FileHeader> {
    let Summary { kind, entries, lsn_min, .. } = hint.summary;
    let kind = kind.filter(|_| entries > 0)?;
    let base = if kind == Kind::Log { lsn_min.checked_sub(1)? } else { 0 };
    Some(FileHeader { kind, number, salt, base, durable: 0 })
}

/// D of the rule.
fn durable_named<D: Disk>(disk: &D, salt: u64, found: &[Found<D::File>]) -> Result<u64> {
    let hints = found.iter().filter_map(|found| found.hint.as_ref());
    let hinted = hints.map(|hint| hint.summary.lsn_max.max(hint.summary.marked)).max();
    let headed = found.iter().filter_map(|found| found.header).map(|header| header.durable).max();
    let mut durable = hinted.max(headed).unwrap_or(0);
    // What is durable only grows, so the newest log names the most. A compacted file is newer than the log that is written on beside it.
    for found in found.iter().rev().filter(|found| found.hint.is_none()) {
        let seed = record::seed(salt, found.number);
        let mut walk = Walk::new(disk, &found.file, seed, 0, found.len);
        while let Some(item) = walk.next()? {
            if let Item::Record { header, bytes, .. } = item
                && header.has(MARK)
            {
                durable = durable.max(header.marked(bytes));
            }
        }
        if found.header.is_some_and(|header| header.kind == Kind::Log) {
            break;
        }
    }
    Ok(durable)
}
