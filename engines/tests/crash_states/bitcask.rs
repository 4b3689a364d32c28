//! Bitcask as it is tried: files so small that two long values fill one.

use std::sync::Arc;

use rondo_core::env::Disk;
use rondo_core::error::Result;
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::mem_disk::MemDisk;

use crate::workload::{DIR, Opened, Subject};

/// Bitcask with tiny files, no fixed limit of dead bytes, and a buffer of a few records.
pub(crate) const BITCASK: Subject = Subject { open, forget };

fn open(disk: &MemDisk, dir: &str) -> Result<Opened> {
    let options = Options {
        file_bytes_max: 1000,
        allocate_bytes: 512,
        buffer_bytes_max: 400,
        compact_dead_percent: 10,
        compact_dead_bytes_min: 0,
        ..Options::new(0x5eed)
    };
    let (engine, opened) = Bitcask::open(Arc::new(disk.clone()), dir, options)?;
    let lost = opened.lost.into_iter().map(|lost| format!("{}: {}", lost.file, lost.what));
    Ok((Box::new(engine), lost.collect()))
}

/// Hints are made of the data.
fn forget(disk: &MemDisk) {
    for name in disk.list(DIR).expect("no fault is set") {
        if name.ends_with("hint") {
            disk.remove(&format!("{DIR}/{name}")).expect("listed just now");
        }
    }
}
