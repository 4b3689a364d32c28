//! The files of a store as a start finds them: the list that counts, the logs, and what no list names.

use std::collections::{BTreeMap, BTreeSet};

use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};

use super::manifest::{self, Manifest};
use super::{NO_FILE, writer};
use crate::log::file_path;
use crate::log::record::{self, BadHeader, FILE_HEADER, FileHeader, MARK};
use crate::log::walk::{Item, Walk};

/// A log file.
pub(super) struct FoundLog<F> {
    pub(super) number: u32,
    pub(super) file: F,
    pub(super) len: u64,
    pub(super) header: Option<FileHeader>,
    /// It held something durable up to here at least, in bytes; 0 when nobody says so.
    pub(super) held: u64,
}

/// All of them.
pub(super) struct Directory<F> {
    /// The number of the list that counts; `NO_FILE` when there is none.
    pub(super) number: u32,
    pub(super) list: Manifest,
    /// Oldest first.
    pub(super) logs: Vec<FoundLog<F>>,
    /// Files that no list names, by number and extension: they were being written, or removed.
    pub(super) leftovers: Vec<(u32, &'static str)>,
    /// Whether there is any table.
    has_tables: bool,
    pub(super) next_number: u32,
    /// D of the rule.
    pub(super) durable: u64,
}

/// Names in a directory.
#[derive(Default)]
struct Listing {
    logs: BTreeSet<u32>,
    tables: BTreeSet<u32>,
    lists: BTreeSet<u32>,
    made: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    next_number: u32,
}

impl<F> Directory<F> {
    /// Whether nothing was ever promised here.
    pub(super) fn is_new(&self) -> bool {
        self.number == NO_FILE && self.logs.is_empty() && !self.has_tables
    }
}

/// Finds the files in `dir`. `salt` is that of a new store; `held` says how long logs were when the directory had listed them,
/// in bytes.
///
/// # Errors
/// The disk's, and `UnknownVersion` for files of a newer program.
pub(super) fn look<D: Disk>(
    disk: &D,
    dir: &str,
    salt: u64,
    held: &[(String, u64)],
) -> Result<Directory<D::File>> {
    let listing = list(disk, dir)?;
    let mut newest = None;
    for &number in listing.lists.iter().rev() {
        // Damage that a second reading does not find was the reading's.
        let read = match Manifest::read(disk, dir, number)? {
            None => Manifest::read(disk, dir, number)?,
            read => read,
        };
        if let Some(list) = read {
            newest = Some((number, list));
            break;
        }
    }
    let held: BTreeMap<&str, u64> = held.iter().map(|(path, len)| (&**path, *len)).collect();
    let held = |number: u32| {
        let listed = held.get(&*file_path(dir, number, "data")).copied().unwrap_or(0);
        let noted = if listing.made.contains(&number) { FILE_HEADER as u64 + 1 } else { 0 };
        if listing.gone.contains(&number) { 0 } else { listed.max(noted) }
    };
    let logs = listing.logs.iter().map(|&number| open_log(disk, dir, number, held(number)));
    let logs = logs.collect::<Result<Vec<_>>>()?;
    let salt = logs.iter().find_map(|log| log.header).map_or(salt, |header| header.salt);
    let (number, list) =
        newest.unwrap_or_else(|| (NO_FILE, Manifest { salt, ..Manifest::default() }));
    let named: BTreeSet<u32> = list.tables.iter().map(|(_, meta)| meta.number).collect();
    let lists = listing.lists.iter().filter(|other| **other != number);
    let lists = lists.map(|number| (*number, manifest::EXTENSION));
    let tables = listing.tables.difference(&named).map(|number| (*number, writer::EXTENSION));
    let durable = durable_named(disk, &list, &logs)?;
    Ok(Directory {
        number,
        leftovers: lists.chain(tables).collect(),
        list,
        logs,
        has_tables: !listing.tables.is_empty(),
        next_number: listing.next_number,
        durable,
    })
}

fn list<D: Disk>(disk: &D, dir: &str) -> Result<Listing> {
    let mut listing = Listing { next_number: 1, ..Listing::default() };
    for name in disk.list(dir)? {
        let parts = name.split_once('.');
        let Some((Ok(number), kind)) = parts.map(|(n, kind)| (n.parse::<u32>(), kind)) else {
            continue;
        };
        if number == u32::MAX {
            return Err(Error::Full("all file numbers of this store are used up"));
        }
        listing.next_number = listing.next_number.max(number + 1);
        match kind {
            "data" => drop(listing.logs.insert(number)),
            writer::EXTENSION => drop(listing.tables.insert(number)),
            manifest::EXTENSION => drop(listing.lists.insert(number)),
            "made" => drop(listing.made.insert(number)),
            "gone" => drop(listing.gone.insert(number)),
            _ => {}
        }
    }
    Ok(listing)
}

fn open_log<D: Disk>(disk: &D, dir: &str, number: u32, held: u64) -> Result<FoundLog<D::File>> {
    let file = disk.open(&file_path(dir, number, "data"), Open::Existing)?;
    let len = disk.len(&file)?;
    let mut bytes = [0; FILE_HEADER];
    let read = disk.read_at(&file, &mut bytes, 0)?;
    let header = match FileHeader::decode(&bytes[..read]) {
        Ok(header) => Some(header).filter(|header| header.number == number),
        Err(BadHeader::Damaged) => None,
        Err(BadHeader::Other(found)) => {
            return Err(Error::UnknownVersion { what: "a log file", found });
        }
    };
    Ok(FoundLog { number, file, len, header, held })
}

/// D of the rule.
fn durable_named<D: Disk>(disk: &D, list: &Manifest, logs: &[FoundLog<D::File>]) -> Result<u64> {
    let headed = logs.iter().filter_map(|log| log.header).map(|header| header.durable).max();
    let mut durable = list.flushed.max(headed.unwrap_or(0));
    // What is durable only grows, so the newest log names the most.
    for log in logs.iter().rev().take_while(|log| log.number > list.flushed_log) {
        let seed = record::seed(list.salt, log.number);
        let mut walk = Walk::new(disk, &log.file, seed, 0, log.len);
        while let Some(item) = walk.next()? {
            if let Item::Record { header, bytes, .. } = item
                && header.has(MARK)
            {
                durable = durable.max(header.marked(bytes));
            }
        }
        if log.header.is_some() {
            break;
        }
    }
    Ok(durable)
}
