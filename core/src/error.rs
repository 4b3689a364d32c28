//! The one error type of this crate: what went wrong, whether state changed, whether to try again.

use std::{fmt, io};

/// Why a call into this crate did not do what was asked.
#[derive(Debug)]
pub enum Error {
    /// Bytes from outside break the format or a limit. Nothing changed; the same bytes fail again.
    Malformed(&'static str),
    /// A version byte of a newer program. Nothing changed; a newer program can read it.
    UnknownVersion {
        /// What kind of thing carries the version.
        what: &'static str,
        /// The version found.
        found: u8,
    },
    /// The disk failed. Whether the write took place is unknown: the caller must not acknowledge it.
    Disk(io::Error),
    /// A stored record fails its checksum. Nothing changed; other replicas may hold it.
    Corrupt(Box<Damage>),
    /// A bound was reached. Nothing changed, and waiting alone does not help.
    Full(&'static str),
    /// A bound was reached for now. Nothing changed; try again when there is less to do.
    Busy(&'static str),
    /// The engine stopped after a failed sync: nothing it holds in memory can be trusted to be on disk.
    Poisoned,
}

/// What is wrong with a stored record. Boxed, because every result has room for an error and nearly none is one.
#[derive(Debug)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
}

/// The result of a call into this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A stored record in `file` fails its checksum, or is no record.
    #[must_use]
    pub fn corrupt(file: String, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt(Box::new(Damage { file, offset, what: what.into() }))
    }

    /// A bound refused the call, for now or for longer: nothing changed, and what was called goes on.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Full(_) | Error::Busy(_))
    }

    /// Of a write: it was not done, nothing changed, and it may be tried again later. A bound refused it, or the record that it was to
    /// replace cannot be read now.
    #[must_use]
    pub fn wrote_nothing(&self) -> bool {
        self.is_refusal() || matches!(self, Error::Corrupt { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(what) => write!(f, "malformed: {what}"),
            Error::UnknownVersion { what, found } => {
                write!(f, "{what} has version {found}, which this program does not know")
            }
            Error::Disk(error) => write!(f, "disk: {error}"),
            Error::Corrupt(damage) => {
                let Damage { file, offset, what } = &**damage;
                write!(f, "corrupt record in {file} at byte {offset}: {what}")
            }
            Error::Full(what) => write!(f, "full: {what}"),
            Error::Busy(what) => write!(f, "busy: {what}"),
            Error::Poisoned => {
                write!(f, "the engine stopped after a failed sync; restart the node")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Disk(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Disk(error)
    }
}
