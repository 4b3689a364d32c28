//! How an engine is opened, whichever it is, and what its opening found.
//!
//! What is chosen here every engine understands; what only one of them knows stays in that engine. An engine sees its own
//! files alone. Whether they are those that the last close left is known to the data directory that they lie in.

use crate::id::Lsn;

/// How large an engine's files are, and how eager its background work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// For a node: fitted to the room on its disk.
    Disk,
    /// Files of at most so many bytes, so that a short run fills and compacts some.
    Files(u64),
    /// Files of at most so many bytes, and background work for the smallest gain. For tests.
    Eager(u64),
}

/// How an engine is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// A random number of the store. It is used for new stores; older ones know theirs.
    pub salt: u64,
    /// How large its files are.
    pub scale: Scale,
    /// Whether to go on with what is left when acknowledged data is gone. Else nothing on the disk is touched then, so that
    /// somebody may still repair it, and the engine is of no use.
    pub accept_losses: bool,
    /// Files that were listed before (`Opened::files`), by their paths, with their lengths then, in bytes. All of that was
    /// durable: of a file that is still there, and that the engine has not noted as gone, nothing may be missing. Empty when
    /// nobody lists files.
    pub held: Vec<(String, u64)>,
}

/// Acknowledged data that is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The file, relative to the disk's root.
    pub file: String,
    /// Where the damage starts, in bytes.
    pub offset: u64,
    /// What is missing.
    pub what: String,
}

/// What opening an engine found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// The engine's name, as in its `stats`.
    pub engine: &'static str,
    /// Whether what it holds outlives its process. `false`: it begins empty each time.
    pub keeps: bool,
    /// Whether it is exactly what the last close left, where that left it. The engine says no; its data directory knows.
    pub clean: bool,
    /// The store's number that its files bear.
    pub salt: u64,
    /// The last write that survived; everything up to it is durable now.
    pub last: Lsn,
    /// Writes that had not been synced before a power loss and are gone, in bytes: no damage.
    pub torn_bytes: u64,
    /// Damage to data that was durable. When there is any, the engine is poisoned, unless losses are accepted: then older
    /// versions of the lost records may have come back, and the caller must treat the store as one that was not closed.
    pub lost: Vec<Lost>,
    /// The files with data, the one that is written included, by their paths. Whoever lists them learns of later ones, and
    /// of those that are removed, from empty files with `.made` and `.gone` for `.data` in their names, and removes these
    /// when the list is made anew.
    pub files: Vec<String>,
}
