//! Which engines are held to the contract, and how each is opened.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy};
use rondo_core::engine::{Engine, Opened, Opening, Scale};
use rondo_core::error::Result;
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

/// Files so small that they change all the time, in bytes; compactions run all the time too.
pub(crate) const FILE_BYTES: u64 = 1500;

/// Which engine is opened, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Any(EngineKind),
    Bitcask(Options),
}

/// Bitcask, as any engine is opened.
pub(crate) const BITCASK: How = How::Any(EngineKind::Bitcask);

/// Tiny files too, and what only a Bitcask is told.
pub(crate) fn tiny() -> Options {
    Options {
        file_bytes_max: FILE_BYTES,
        allocate_bytes: 1024,
        buffer_bytes_max: 700,
        compact_dead_percent: 10,
        compact_dead_bytes_min: 0,
        accept_losses: true,
        ..Options::new(0x5eed)
    }
}

/// All keys collide in one of three fingerprints.
pub(crate) fn colliding() -> Options {
    Options {
        fingerprint: |key, _| key.last().map_or(0, |byte| u32::from(*byte)) % 3 * 0x7FFF_FFFF,
        ..tiny()
    }
}

/// Every engine, and a Bitcask whose keys collide.
pub(crate) fn hows() -> impl Strategy<Value = How> {
    let any = EngineKind::ALL.map(|kind| Just(How::Any(kind)).boxed());
    proptest::strategy::Union::new(any.into_iter().chain([Just(How::Bitcask(colliding())).boxed()]))
}

/// The engines that a power loss does not empty.
pub(crate) fn keepers() -> impl Iterator<Item = How> {
    EngineKind::ALL.into_iter().filter(|kind| kind.keeps()).map(How::Any)
}

pub(crate) fn open(disk: &MemDisk, how: How) -> Result<(Box<dyn Engine>, Opened)> {
    disk.forbid_waiting(false);
    open_in(disk, "store", how)
}

pub(crate) fn open_in(disk: &MemDisk, dir: &str, how: How) -> Result<(Box<dyn Engine>, Opened)> {
    let disk = Arc::new(disk.clone());
    match how {
        How::Any(kind) => {
            let scale = Scale::Eager(FILE_BYTES);
            kind.open(
                disk,
                dir,
                &Opening { salt: 0x5eed, scale, accept_losses: true, held: Vec::new() },
            )
        }
        How::Bitcask(options) => {
            let (engine, opened) = Bitcask::open(disk, dir, options)?;
            Ok((Box::new(engine), opened))
        }
    }
}
