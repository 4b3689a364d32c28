//! One operation of one client, with what the client does when it does not end well.

use rondo_core::layout::keyspace::Level;
use serde::{Deserialize, Serialize};

/// One operation of one client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// When, in microseconds.
    pub at_us: u64,
    /// Who. Contexts are remembered for each client and key.
    pub client: u32,
    /// The node that is asked.
    pub node: u32,
    /// The key's number.
    pub key: u32,
    /// The level.
    pub level: Level,
    /// What.
    pub action: Action,
    /// Whether the request is named; only then may another attempt follow.
    pub named: bool,
    /// The operation before it whose request id it uses again, as if it were a new request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_id_as: Option<usize>,
    /// The number of its first attempt: above 1 the attempts before it were sent to nobody.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// What the client does when an attempt does not end well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<Retry>,
    /// How long its value is at least, in bytes; 0 leaves it at the usual length.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u32,
    /// After how many milliseconds the client vanishes: it learns no answer and never tries again. 0: it stays.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vanishes_ms: u32,
}

/// Another attempt with the same name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// After the attempt before it ended, in milliseconds; or after that was sent, where this one is `early`.
    pub after_ms: u64,
    /// The node that is asked.
    pub node: u32,
    /// What is not as it was in the attempts before, though the request id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Whether it does not wait for the end of the attempt before it. An attempt that has been served has none after it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub early: bool,
}

/// What a client changes in an attempt, which it must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It names this key.
    Key(u32),
    /// It brings another value.
    Value,
    /// A put becomes a delete, a delete a put.
    Action,
    /// It asks for this level.
    Level(Level),
    /// It leaves its context out, or brings an empty one where it had none.
    Context,
    /// It has so many milliseconds: that alone is its right.
    Deadline(u64),
}

impl Change {
    /// Whether what would be written is another write.
    #[must_use]
    pub const fn is_another_write(self) -> bool {
        matches!(self, Change::Key(_) | Change::Value | Change::Action)
    }
}

/// What an operation does. Every value written is unique to its operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Reads.
    Get,
    /// Stores a value.
    Put {
        /// What it overwrites.
        over: Over,
        /// How long its value stays, in milliseconds; 0 for ever.
        #[serde(default, skip_serializing_if = "is_zero")]
        ttl_ms: u32,
    },
    /// Deletes.
    Delete {
        /// What it overwrites.
        over: Over,
    },
}

impl Action {
    /// What a write overwrites; `None` for a read.
    #[must_use]
    pub const fn over(self) -> Option<Over> {
        match self {
            Action::Get => None,
            Action::Put { over, .. } | Action::Delete { over } => Some(over),
        }
    }

    /// Stores a value that stays.
    #[must_use]
    pub const fn put(over: Over) -> Action {
        Action::Put { over, ttl_ms: 0 }
    }

    /// How long what it stores stays, in milliseconds; `None` for what stays for ever, and for what is no put.
    #[must_use]
    pub const fn ttl_ms(self) -> Option<u32> {
        match self {
            Action::Put { ttl_ms, .. } if ttl_ms > 0 => Some(ttl_ms),
            Action::Get | Action::Put { .. } | Action::Delete { .. } => None,
        }
    }

    /// The same, but what a put stores stays so long.
    #[must_use]
    pub const fn staying(self, ttl_ms: u32) -> Action {
        match self {
            Action::Put { over, .. } => Action::Put { over, ttl_ms },
            Action::Get | Action::Delete { .. } => self,
        }
    }
}

/// What a write says that it has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// No context: it overwrites whatever the coordinator finds.
    Blind,
    /// The empty context: it overwrites nothing.
    Nothing,
    /// The client's last context of the key; the empty one when there is none.
    Last,
    /// The client's first context of the key; the empty one when there is none.
    Stale,
    /// The context that the client's last write of the key was answered with; the empty one when there is none.
    Own,
    /// The client's last context of another key, which is refused; the empty one when there is none.
    Foreign,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(is: &bool) -> bool {
    !*is
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_first(number: &u32) -> bool {
    *number == 1
}

const fn first() -> u32 {
    1
}
