//! The engines as they are tried: files so small that two long values fill one, and eager background work.

use std::sync::Arc;

use rondo_core::engine::{Engine, Opening, Scale};
use rondo_core::env::Disk;
use rondo_core::error::Result;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

use crate::workload::{DIR, Opened};

/// Two long values fill a file, in bytes.
const FILE_BYTES: u64 = 1000;

/// The engine that is tried.
#[derive(Clone, Copy)]
pub(crate) struct Subject(pub(crate) EngineKind);

impl Subject {
    /// Opens the store in a directory, or makes one.
    pub(crate) fn open(self, disk: &MemDisk, dir: &str) -> Result<Opened> {
        let how = Opening {
            salt: 0x5eed,
            scale: Scale::Eager(FILE_BYTES),
            accept_losses: false,
            held: Vec::new(),
        };
        let (engine, opened): (Box<dyn Engine>, _) =
            self.0.open(Arc::new(disk.clone()), dir, &how)?;
        let lost = opened.lost.into_iter().map(|lost| format!("{}: {}", lost.file, lost.what));
        Ok((engine, lost.collect()))
    }

    /// Whether anything outlives a process.
    pub(crate) fn keeps(self) -> bool {
        self.0.keeps()
    }

    /// Removes what an engine must be able to make anew: hints are made of the data.
    pub(crate) fn forget(self, disk: &MemDisk) {
        for name in disk.list(DIR).expect("no fault is set") {
            if name.ends_with("hint") {
                disk.remove(&format!("{DIR}/{name}")).expect("listed just now");
            }
        }
    }
}
