//! What was in a data directory at one moment, so that a later start knows what is missing.
//!
//! Stock is taken twice in a life: when the engine has been opened (`held`) and when it has been closed (`clean`). Behind a
//! close everything has to be there as it was. Behind an opening the engine goes on: it adds files, and merges take away the
//! oldest. So of the files that were sealed then, those that are gone must be the oldest ones, and none may be shorter.
//! What is lost among the files that a life has made itself is seen by the engine's own log, as far as it names what was
//! durable.

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
    Kind { name, magic: b"rondost", format: 1, bytes_max: STOCK_BYTES_MAX }
}

/// The longest file of an engine that nothing was written to, in bytes: a header.
const EMPTY_BYTES_MAX: u64 = 64;

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
    /// Whether the engine had been closed.
    pub(super) closed: bool,
    /// The files, with their lengths: sorted when the engine had been closed, else the sealed ones, the oldest first.
    pub(super) files: Vec<(String, u64)>,
}

impl Stock {
    pub(super) fn write<D: Disk>(&self, disk: &D, kind: &Kind) -> io::Result<()> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.boot.0.to_le_bytes());
        bytes.extend_from_slice(&self.place.to_le_bytes());
        bytes.extend_from_slice(&self.last.0.to_le_bytes());
        bytes.push(u8::from(self.closed));
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
            found => Ok(Stock::decode(&found?.1)),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Stock> {
        let mut rest = bytes;
        let store = u128::from_le_bytes(take(&mut rest)?);
        let boot = BootEpoch(u64::from_le_bytes(take(&mut rest)?));
        let place = u128::from_le_bytes(take(&mut rest)?);
        let last = Lsn(u64::from_le_bytes(take(&mut rest)?));
        let [closed] = take(&mut rest)?;
        let mut files = Vec::new();
        while !rest.is_empty() {
            let name = take_name(&mut rest)?;
            files.push((name, u64::from_le_bytes(take(&mut rest)?)));
        }
        Some(Stock { store, boot, place, last, closed: closed != 0, files })
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
        if self.closed {
            // An opening that did not get to its end may have removed what nothing was written to.
            let full = |(name, was): &&(String, u64)| is_data(name) && *was > EMPTY_BYTES_MAX;
            return missing(self.files.iter().filter(full), now);
        }
        let merged = self.files.iter().take_while(|(name, _)| !now.contains_key(name)).count();
        missing(self.files[merged..].iter(), now)
    }
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
    name.ends_with(".data")
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
