//! Storage engines over `rondo_core::env::Disk`, and the disks they stand on.
//!
//! Engines are synchronous and have no threads: background work is a bounded step, and an engine can
//! be crashed at each of its disk operations. Only `os_disk` touches the operating system. The
//! modules stand in reading order, which is import order: a module uses only modules above it.

pub mod mem_disk;

pub mod os_disk;

mod refusal;

mod log;

pub mod bitcask;

pub mod lsm;

pub mod kind;

pub mod data_dir;

pub mod open;
