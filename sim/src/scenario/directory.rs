//! What people do to a node's data directory, as values that stand in a scenario: they put back an old copy, start one twice,
//! lose files of it, or empty it. Whatever it is, it bears the node's name and is not the directory that ran last.
//!
//! After a while the operator puts the newest directory back, unchanged; then the node has to be as it was. What each does to
//! the world is in `copies`.

use serde::{Deserialize, Serialize};

/// What becomes of a node's data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Directory {
    /// A copy is made while the node is down for a moment. Later the node ends, and the copy is started in its place.
    OldCopy {
        /// Whether the node is asked to stop, both times; else it is killed.
        orderly: bool,
        /// How long it runs between, in milliseconds.
        age_ms: u64,
        /// Whether the copy lies where the newest directory lay, as when a whole disk is set back; else it lies elsewhere.
        #[serde(default, skip_serializing_if = "is_false")]
        in_place: bool,
        /// Whether the copy is made while the node runs, which goes on.
        #[serde(default, skip_serializing_if = "is_false")]
        live: bool,
    },
    /// The node ends, and starts with an empty directory.
    Wiped {
        /// Whether the node is asked to stop; else it is killed.
        orderly: bool,
    },
    /// A copy is made while the node is down for a moment. Later it is started at another address, beside the node.
    Cloned {
        /// Whether the node is asked to stop; else it is killed.
        orderly: bool,
        /// How long the node runs alone, in milliseconds.
        age_ms: u64,
        /// Whether the node ends before the copy starts, and comes back half way.
        returns: bool,
        /// Whether the copy is made while the node runs, which goes on.
        #[serde(default, skip_serializing_if = "is_false")]
        live: bool,
    },
    /// The node stops in order, one of its files goes or loses its last byte, and it starts.
    LostFile {
        /// Which of the files without which it must not start: counted round.
        file: u32,
        /// Whether the file is there and too short.
        cut: bool,
        /// Instead, the node is killed, and its newest log file loses half of what it holds: for a while it starts as from a copy.
        #[serde(default, skip_serializing_if = "is_false")]
        newest: bool,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Directory {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Directory::OldCopy { .. } => "old copy",
            Directory::Wiped { .. } => "wiped node",
            Directory::Cloned { .. } => "cloned directory",
            Directory::LostFile { .. } => "lost file",
        }
    }

    /// Whether the node is asked to stop before, or killed.
    #[must_use]
    pub const fn is_orderly(self) -> bool {
        match self {
            Directory::OldCopy { orderly, .. }
            | Directory::Wiped { orderly }
            | Directory::Cloned { orderly, .. } => orderly,
            Directory::LostFile { newest, .. } => !newest,
        }
    }

    /// Whether it is a copy that is made while the node runs.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Directory::OldCopy { live: true, .. } | Directory::Cloned { live: true, .. })
    }

    /// Whether it lies where the newest directory lay.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Directory::OldCopy { in_place: true, .. } | Directory::LostFile { .. })
    }
}
