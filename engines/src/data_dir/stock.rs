//! What was in a data directory at one moment, so that a later start knows what is missing.
//!
//! Stock is taken twice in a life: when the engine has been opened (`held`) and when it has been closed (`clean`). Behind a
//! close everything has to be there as it was. Behind an opening the engine goes on: it adds files, and removes some. Of
//! each file that was there then and that it has removed since, it has left a note in its place (`N.gone` for `N.data`), before
//! it did. So a file is there, and is no shorter, or its note is there, or it is missing. The file that is written is among
//! them, with the length that it had at its beginning. Beside a file that it has made since stands another note (`N.made`):
//! without that file the engine would have removed the note too. What is lost of such a file, or at the end of the one that
//! is written, is seen by the engine's own log, as far as it names what was durable.

use std::collections::BTreeMap;
use std::io;

use rondo_core::env::{Disk, Open};
use rondo_core::id::{BootEpoch, Lsn};

use super::error::{DataDirError, Missing};
use super::sealed::{self, Kind, put_name, take, take_name};

/// The most bytes of a stock: some hundred thousand files.
const STOCK_BYTES_MAX: u64 = 16 << 20;

/// What was there when the engine had been closed.
pub(super) const CLEAN: Kind = kind("clean");
/// What was there when the engine had been opened, or closed before that.
pub(super) const HELD: Kind = kind("held");

/// Both look alike: the one becomes the other by a rename.
const fn kind(name: &'static str) -> Kind {
    Kind { name, magic: b"rondost", format: 2, bytes_max: STOCK_BYTES_MAX }
}

/// How the names of an engine's notes end, `N.made` and `N.gone` on `N.data`.
pub(super) const MADE: &str = ".made";
pub(super) const GONE: &str = ".gone";
const DATA: &str = ".data";

/// Files by their paths, with their lengths in bytes.
pub(super) type Files = BTreeMap<String, u64>;

/// What was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stock {
    /// Whose it was.
    pub(super) store: u128,
    /// In which life.
    pub(super) boot: BootEpoch,
    /// Where the identity lay.
    pub(super) place: u128,
    /// The last write that was durable.
    pub(super) last: Lsn,
    /// The files, with their lengths: all when the engine had been closed, else those with data.
    pub(super) files: Vec<(String, u64)>,
}

impl Stock {
    pub(super) fn write<D: Disk>(&self, disk: &D, kind: &Kind) -> io::Result<()> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.boot.0.to_le_bytes());
        bytes.extend_from_slice(&self.place.to_le_bytes());
        bytes.extend_from_slice(&self.last.0.to_le_bytes());
        for (name, length) in &self.files {
            put_name(&mut bytes, name)?;
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        if bytes.len() as u64 + 64 > STOCK_BYTES_MAX {
            return Err(io::Error::other("the engine has more files than can be listed"));
        }
        sealed::write(disk, kind, &[&bytes])
    }

    /// One that cannot be read says nothing; what it would have said, the engine's log may say too.
    pub(super) fn read<D: Disk>(disk: &D, kind: &Kind) -> Result<Option<Stock>, DataDirError> {
        match sealed::read(disk, kind) {
            Err(DataDirError::Unreadable { .. }) => Ok(None),
            found => {
                let (format, bytes) = found?;
                Ok(Stock::decode(format, &bytes))
            }
        }
    }

    fn decode(format: u8, bytes: &[u8]) -> Option<Stock> {
        let mut rest = bytes;
        let store = u128::from_le_bytes(take(&mut rest)?);
        let boot = BootEpoch(u64::from_le_bytes(take(&mut rest)?));
        let place = u128::from_le_bytes(take(&mut rest)?);
        let last = Lsn(u64::from_le_bytes(take(&mut rest)?));
        // Format 1 says whether the engine had been closed. Otherwise it may have removed files since and left no notes.
        let [closed] = if format == 1 { take(&mut rest)? } else { [1] };
        let mut files = Vec::new();
        while !rest.is_empty() {
            let name = take_name(&mut rest)?;
            files.push((name, u64::from_le_bytes(take(&mut rest)?)));
        }
        if closed == 0 {
            files.clear();
        }
        Some(Stock { store, boot, place, last, files })
    }

    /// Whether exactly this is there now.
    pub(super) fn is_all(&self, now: &Files) -> bool {
        self.files.len() == now.len()
            && self.files.iter().all(|(name, was)| now.get(name) == Some(was))
    }

    /// What is gone that must be there when nothing has happened since.
    pub(super) fn missing_at_once(&self, now: &Files) -> Vec<Missing> {
        missing(self.files.iter().filter(|(name, _)| is_data(name)), now)
    }

    /// What is gone that no later work of the engine can have taken away.
    pub(super) fn missing_meanwhile(&self, now: &Files) -> Vec<Missing> {
        let wanted = |(name, _): &&(String, u64)| {
            let number = name.strip_suffix(DATA);
            number.is_some_and(|number| now.contains_key(name) || !is_gone(number, now))
        };
        missing(self.files.iter().filter(wanted), now)
    }
}

/// The files that have been made since the list was, and are missing. How long they were, nobody says.
pub(super) fn noted_and_gone(now: &Files) -> impl Iterator<Item = Missing> {
    let made = now.keys().filter_map(|name| name.strip_suffix(MADE));
    let missing =
        made.filter(|number| !is_gone(number, now)).map(|number| format!("{number}{DATA}"));
    missing.filter(|file| !now.contains_key(file)).map(|file| Missing { file, was: 0, is: None })
}

/// Whether the engine has said that it removes this file.
fn is_gone(number: &str, now: &Files) -> bool {
    now.contains_key(&format!("{number}{GONE}"))
}

fn missing<'a>(files: impl Iterator<Item = &'a (String, u64)>, now: &Files) -> Vec<Missing> {
    let gone = |(name, was): &(String, u64)| {
        let (file, is) = (name.clone(), now.get(name).copied());
        is.is_none_or(|is| is < *was).then_some(Missing { file, was: *was, is })
    };
    files.filter_map(gone).collect()
}

/// Everything else can be made anew of the data, or was never finished.
fn is_data(name: &str) -> bool {
    name.ends_with(DATA)
}

/// What lies in these directories now.
pub(super) fn files_in<D: Disk>(disk: &D, dirs: &[&str]) -> io::Result<Files> {
    let mut files = Files::new();
    for dir in dirs {
        for name in disk.list(dir)? {
            let path = format!("{dir}/{name}");
            match disk.open(&path, Open::Existing) {
                Ok(file) => drop(files.insert(path, disk.len(&file)?)),
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(files)
}
