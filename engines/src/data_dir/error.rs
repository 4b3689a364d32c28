//! Why a data directory was not opened, and what its owner may do. None of it advises to go on with less: a copy made
//! earlier, or an empty directory, lacks what this node has acknowledged, and its peers would count its answers all the same.

use std::fmt;
use std::io;

use rondo_core::config::NAME_BYTES_MAX;
use rondo_core::id::Lsn;

/// So many missing files are named; the others are counted.
const NAMED_MAX: usize = 4;

/// A file that is gone or too short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The file, relative to the data directory.
    pub file: String,
    /// How long it was, in bytes; 0 when nobody knows.
    pub was: u64,
    /// How long it is; `None` when it is gone.
    pub is: Option<u64>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is {
            None if self.was == 0 => write!(f, "{} is missing", self.file),
            None => write!(f, "{} is missing ({} bytes)", self.file, self.was),
            Some(is) => write!(f, "{} has {is} of {} bytes", self.file, self.was),
        }
    }
}

/// Why a data directory was not opened. Unless it says otherwise, nothing in it was changed.
#[derive(Debug)]
pub enum DataDirError {
    /// It belongs to a node of another name.
    OtherName {
        /// Its node's name.
        found: String,
        /// The name asked for.
        asked: String,
    },
    /// It belongs to a node of another cluster.
    OtherCluster {
        /// Its cluster's name.
        found: String,
        /// The name asked for.
        asked: String,
    },
    /// Another engine keeps the data in it.
    OtherEngine {
        /// The engine's name.
        found: String,
        /// The name asked for.
        asked: String,
    },
    /// One of its files cannot be read.
    Unreadable {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A newer program wrote it.
    NewerFormat {
        /// The file.
        file: &'static str,
        /// Its format.
        format: u8,
    },
    /// There is data, but nothing says whose it is.
    Unclaimed,
    /// Files with acknowledged data are gone, or shorter than they were.
    Lost(Vec<Missing>),
    /// The engine ends before what was durable in an earlier life. Only the count of lives was changed.
    WentBack {
        /// Its last write.
        last: Lsn,
        /// The last one that was durable.
        durable: Lsn,
    },
    /// The engine's files are those of another store. Only the count of lives was changed.
    OtherStore,
    /// A name is empty or too long.
    BadName,
    /// The disk failed.
    Disk(io::Error),
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::OtherName { found, asked } => write!(
                f,
                "the data directory belongs to node {found:?}, not {asked:?}; start it with --node-id {found} or \
                 give another --data-dir"
            ),
            DataDirError::OtherCluster { found, asked } => write!(
                f,
                "the data directory belongs to cluster {found:?}, not {asked:?}; start it with --cluster-name {found} \
                 or give another --data-dir"
            ),
            DataDirError::OtherEngine { found, asked } => write!(
                f,
                "the data directory was written by the engine {found}, not {asked}; start it with --engine {found} \
                 or give another --data-dir"
            ),
            DataDirError::Unreadable { file, why } => {
                write!(f, "the file {file:?} of the data directory cannot be read: {why}")
            }
            DataDirError::NewerFormat { file, format } => write!(
                f,
                "the file {file:?} of the data directory has format {format}, which a newer version of rondo wrote; \
                 use that version"
            ),
            DataDirError::Unclaimed => write!(
                f,
                "the data directory holds data, but the file \"identity\" is gone; {STAY_DOWN}"
            ),
            DataDirError::Lost(missing) => {
                write!(f, "acknowledged data is gone: ")?;
                name_some(missing, f)
            }
            DataDirError::WentBack { last, durable } => write!(
                f,
                "acknowledged data is gone: the log ends with write {}, and write {} was durable",
                last.0, durable.0
            ),
            DataDirError::OtherStore => write!(
                f,
                "the engine's files in the data directory are those of another node; {STAY_DOWN}"
            ),
            DataDirError::BadName => {
                write!(f, "the node's and the cluster's name have 1 to {NAME_BYTES_MAX} bytes")
            }
            DataDirError::Disk(error) => write!(f, "the data directory cannot be used: {error}"),
        }
    }
}

/// What to do about a store that is not whole.
const STAY_DOWN: &str = "put back the very files that were here if somebody moved them away, and otherwise leave \
     this node down: the others go on without it while enough of them are up; an older copy or an empty directory lacks \
     what this node has acknowledged";

fn name_some(missing: &[Missing], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, file) in missing.iter().take(NAMED_MAX).enumerate() {
        write!(f, "{}{file}", if at == 0 { "" } else { ", " })?;
    }
    match missing.len().saturating_sub(NAMED_MAX) {
        0 => Ok(()),
        1 => write!(f, ", and 1 file more"),
        more => write!(f, ", and {more} files more"),
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DataDirError::Disk(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for DataDirError {
    fn from(error: io::Error) -> Self {
        DataDirError::Disk(error)
    }
}
