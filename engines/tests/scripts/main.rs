//! Scripts of one store on a disk in memory: write, lose power, look into the files, open again.
//!
//! What a command does to the disk is indented below it, call by call; reads are not told. The form of a script is that of
//! core's: see `docs/internals/scripts.md`.

mod dump;

#[path = "../../../core/tests/cluster/format.rs"]
mod format;

mod store;

use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

#[test]
fn bitcask() {
    format::check(&Path::new(FOLDER).join("bitcask"), store::bitcask);
}

#[test]
fn lsm() {
    format::check(&Path::new(FOLDER).join("lsm"), store::lsm);
}
