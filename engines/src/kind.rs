//! Which engines there are. To add one is its folder, its variant here, its place in `ALL` and its line in `line`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rondo_core::engine::{Engine, MemoryEngine, Opened, Opening};
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bitcask;
use crate::lsm;
use crate::os_disk::OsDisk;

/// Which engine keeps the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// A log with an index in memory. The default of the product.
    Bitcask,
    /// A log-structured merge tree: records sorted by key, so memory does not grow with the number of keys as fast.
    Lsm,
    /// A sorted map in memory: everything is lost with the process. For tests and demonstrations.
    Memory,
}

/// An engine, and what was found.
type Started = (Box<dyn Engine>, Opened);

/// All that is to be known of an engine from outside.
struct Line<D> {
    name: &'static str,
    open: fn(Arc<D>, &str, &Opening) -> Result<Started>,
    /// Opens one of which nothing outlives its process: it needs no disk.
    in_memory: Option<fn(&Opening) -> Started>,
}

impl EngineKind {
    /// All engines.
    pub const ALL: [EngineKind; 3] = [EngineKind::Bitcask, EngineKind::Lsm, EngineKind::Memory];

    fn line<D: Disk>(self) -> Line<D> {
        match self {
            EngineKind::Bitcask => Line { name: "bitcask", open: bitcask::open, in_memory: None },
            EngineKind::Lsm => Line { name: "lsm", open: lsm::open, in_memory: None },
            EngineKind::Memory => {
                Line { name: "memory", open: |_, _, how| Ok(memory(how)), in_memory: Some(memory) }
            }
        }
    }

    /// As people and settings call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        // The same over every disk.
        self.line::<OsDisk>().name
    }

    /// Whether what it holds outlives its process.
    #[must_use]
    pub fn keeps(self) -> bool {
        self.line::<OsDisk>().in_memory.is_none()
    }

    /// Opens the engine without a disk; `None` when it keeps anything.
    #[must_use]
    pub fn open_in_memory(self, how: &Opening) -> Option<Started> {
        self.line::<OsDisk>().in_memory.map(|open| open(how))
    }

    /// Opens the engine in the directory `dir` of a disk, or makes it there. Whose data it is, is not asked here: see
    /// `open_store`.
    ///
    /// # Errors
    /// The disk's, and `UnknownVersion` for files of a newer program. Damage is no error: see `Opened::lost`.
    pub fn open<D: Disk>(self, disk: Arc<D>, dir: &str, how: &Opening) -> Result<Started> {
        (self.line::<D>().open)(disk, dir, how)
    }
}

fn memory(how: &Opening) -> Started {
    let (engine, opened) = MemoryEngine::open(how);
    (Box::new(engine), opened)
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = EngineKind::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or(Error::Malformed("there is no engine of this name"))
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::engine::Scale;

    use super::*;
    use crate::mem_disk::MemDisk;

    #[test]
    fn an_engine_is_what_its_line_says() {
        let how =
            Opening { salt: 7, scale: Scale::Files(4_096), accept_losses: false, held: Vec::new() };
        for kind in EngineKind::ALL {
            assert_eq!(kind.to_string().parse::<EngineKind>().unwrap(), kind);
            let disk = Arc::new(MemDisk::new());
            let (engine, opened) = kind.open(Arc::clone(&disk), "data", &how).unwrap();
            assert_eq!((engine.stats().name, opened.engine), (kind.name(), kind.name()));
            assert_eq!((opened.keeps, opened.salt), (kind.keeps(), 7));
            assert_eq!(disk.list("data").unwrap().is_empty(), !kind.keeps());
            assert_eq!(kind.open_in_memory(&how).is_some(), !kind.keeps());
        }
        assert!("rocks".parse::<EngineKind>().is_err());
    }
}
