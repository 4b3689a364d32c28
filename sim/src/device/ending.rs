//! How a node's process ends by itself, as the product's own values: whether its disk explains an end is decided by
//! these and never by the words of an error.

use std::fmt;

use rondo_core::engine::Lost;
use rondo_core::error::Error;
use rondo_engines::data_dir::{DataDirError, IDENTITY_FILE};
use rondo_engines::open::StoreError;

/// Why a process ended.
#[derive(Debug)]
pub enum Ending {
    /// Its data directory did not open, or was not what it had been.
    Directory(DataDirError),
    /// Its engine did not open.
    Engine(Error),
    /// Its engine opened, and says what it lacks.
    Lost(Vec<Lost>),
    /// The world found that the start did what it must not.
    Wrong(String),
    /// It ran, and ended.
    Ran(Error),
    /// Its power has gone.
    NoPower,
    /// It was stopped, and could not say that it had been.
    Unmarked(DataDirError),
}

impl Ending {
    /// Whether it names this file as gone or unreadable.
    #[must_use]
    pub fn speaks_of(&self, file: &str) -> bool {
        match self {
            Ending::Directory(DataDirError::Lost(missing)) => {
                missing.iter().any(|missing| missing.file == file)
            }
            Ending::Directory(DataDirError::Unreadable { file: named, .. }) => *named == file,
            Ending::Directory(DataDirError::Unclaimed) => file == IDENTITY_FILE,
            Ending::Engine(Error::Corrupt(damage)) => damage.file == file,
            Ending::Lost(lost) => lost.iter().any(|lost| lost.file == file),
            _ => false,
        }
    }
}

impl From<StoreError> for Ending {
    fn from(error: StoreError) -> Ending {
        match error {
            StoreError::DataDir(error) => Ending::Directory(error),
            StoreError::Engine(error) => Ending::Engine(error),
            StoreError::Lost(lost) => Ending::Lost(lost),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Directory(error) => write!(f, "its data directory cannot be opened: {error}"),
            Ending::Engine(error) => write!(f, "its store cannot be opened: {error}"),
            Ending::Lost(lost) => {
                write!(f, "its store lost what was durable: {:?}", lost.first())
            }
            Ending::Wrong(what) => f.write_str(what),
            Ending::Ran(error) => write!(f, "ended: {error}"),
            Ending::NoPower => f.write_str("its power has gone"),
            Ending::Unmarked(error) => write!(f, "could not end cleanly: {error}"),
        }
    }
}
