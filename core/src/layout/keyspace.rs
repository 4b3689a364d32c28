//! Keyspaces: named sets of keys with their own rules, and where a key of one lies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::id::{GroupId, KeyspaceId, PartitionId, Token};

/// The keyspace that always exists.
pub const DEFAULT: &str = "default";

/// How many replicas must take part before a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// One replica: always available, may be stale.
    One,
    /// R to read, W to write, with R + W > N: a linearizable register for each key.
    Quorum,
    /// All N replicas: as `Quorum`, and survives N - 1 losses.
    All,
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Level, Error> {
        match text.to_ascii_lowercase().as_str() {
            "one" => Ok(Level::One),
            "quorum" => Ok(Level::Quorum),
            "all" => Ok(Level::All),
            _ => Err(Error::Malformed("the consistency level is one, quorum or all")),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::One => "one",
            Level::Quorum => "quorum",
            Level::All => "all",
        })
    }
}

/// What a write without a context overwrites, and what a read shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// A blind write overwrites all that its query round saw; a read answers the newest version.
    Newest,
    /// A blind write overwrites nothing; a read answers all versions.
    Siblings,
}

/// One keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its id, part of every token.
    pub id: KeyspaceId,
    /// Its name, part of every URL.
    pub name: String,
    /// The group whose owners have its keys.
    pub group: GroupId,
    /// What happens to concurrent versions.
    pub policy: Policy,
    /// The level of requests that name none.
    pub level: Level,
    /// How long what is put stays when the request does not say, in milliseconds: 0 for ever, `TTL_MS_MAX` at most.
    pub ttl_ms: u64,
    /// Whether a node that is no primary takes on what is written at level `one` when no primary is reached. Fixed when it is made: what
    /// may hold something of a key is asked before the key is purged.
    pub sloppy: bool,
}

impl Keyspace {
    /// The keyspace `default`.
    #[must_use]
    pub fn default_keyspace() -> Keyspace {
        Keyspace {
            id: KeyspaceId(1),
            name: DEFAULT.to_owned(),
            group: GroupId::FIRST,
            policy: Policy::Newest,
            level: Level::Quorum,
            ttl_ms: 0,
            sloppy: false,
        }
    }
}

/// The highest id of these; 0 when there is none.
#[must_use]
pub fn highest_id(keyspaces: &[Keyspace]) -> KeyspaceId {
    keyspaces.iter().map(|one| one.id).max().unwrap_or_default()
}

/// Where a key lies.
#[must_use]
pub fn token(keyspace: KeyspaceId, key: &[u8]) -> Token {
    let hash = Sha256::new().chain_update(keyspace.0.to_be_bytes()).chain_update(key).finalize();
    Token(u64::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes")))
}

/// The partition a token lies in, when there are `partitions` (a power of two).
#[must_use]
pub const fn partition(token: Token, partitions: u16) -> PartitionId {
    let bits = partitions.trailing_zeros();
    PartitionId(if bits == 0 { 0 } else { (token.0 >> (64 - bits)) as u16 })
}
