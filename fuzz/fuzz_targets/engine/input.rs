//! What the fuzzer draws: which engine, how it is opened, and the steps of its lives.

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use rondo_core::engine::{Engine, Opened, Opening, Scale};
use rondo_core::error::Error;
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

#[derive(Arbitrary, Debug)]
pub(crate) struct Input {
    /// One of all engines, or else a Bitcask as the numbers below say.
    pub(crate) any: Option<u8>,
    pub(crate) file_bytes: u16,
    pub(crate) index_bytes: u16,
    pub(crate) allocate_bytes: u16,
    pub(crate) buffer_bytes: u16,
    pub(crate) collide: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Step {
    Write(AnyChange, Vec<AnyChange>),
    Flush,
    StartSync,
    EndSync {
        fails: bool,
    },
    Get {
        key: u8,
        cold: bool,
    },
    Scan {
        from: u8,
        limit: u8,
    },
    Maintain {
        budget: u16,
    },
    Checkpoint,
    Close,
    Kill,
    Crash {
        fates: Vec<AnyFate>,
        rot: Vec<Rot>,
    },
    /// The operation after so many others fails; with `power`, the power goes with it.
    Fault {
        after: u8,
        cut: Option<u8>,
        power: bool,
    },
}

#[derive(Arbitrary, Debug)]
pub(crate) struct AnyChange {
    pub(crate) key: u8,
    /// Deletes when absent.
    pub(crate) lens: Option<(u8, u16)>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum AnyFate {
    Kept,
    Lost,
    Torn(u8),
    Sectors(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Rot {
    pub(crate) file: u8,
    pub(crate) byte: u32,
    pub(crate) bit: u8,
}

/// Which engine is opened, and how.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Any(EngineKind),
    Bitcask(Options),
}

impl How {
    pub(crate) fn open(
        self,
        disk: &MemDisk,
        dir: &str,
    ) -> Result<(Box<dyn Engine>, Opened), Error> {
        let disk = Arc::new(disk.clone());
        match self {
            How::Any(kind) => {
                let scale = Scale::Eager(900);
                kind.open(
                    disk,
                    dir,
                    &Opening { salt: 7, scale, accept_losses: true, held: Vec::new() },
                )
            }
            How::Bitcask(options) => {
                let (engine, opened) = Bitcask::open(disk, dir, options)?;
                Ok((Box::new(engine), opened))
            }
        }
    }

    pub(crate) fn keeps(self) -> bool {
        match self {
            How::Any(kind) => kind.keeps(),
            How::Bitcask(_) => true,
        }
    }
}

impl Input {
    /// The engine that it asks for.
    pub(crate) fn how(&self) -> How {
        let mut options = Options::new(7);
        options.file_bytes_max = 200 + u64::from(self.file_bytes % 4096);
        options.index_bytes_max = 64 + usize::from(self.index_bytes % 2048);
        options.allocate_bytes = u64::from(self.allocate_bytes % 1024);
        options.buffer_bytes_max = usize::from(self.buffer_bytes % 1024);
        options.compact_dead_bytes_min = 64;
        options.accept_losses = true;
        if self.collide {
            options.fingerprint = |key, _| key.first().map_or(0, |first| u32::from(first % 3));
        }
        let all = EngineKind::ALL;
        let any = self.any.map(|number| How::Any(all[usize::from(number) % all.len()]));
        any.unwrap_or(How::Bitcask(options))
    }
}

pub(crate) fn key(number: u8) -> Bytes {
    let number = number % 24;
    Bytes::from(vec![number; 1 + usize::from(number % 5)])
}
