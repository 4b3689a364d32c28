//! On a nearly full disk the store gives space back by itself, whoever filled it, and a power loss on the way harms nothing.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup};
use rondo_core::env::DiskDone;
use rondo_core::error::{Error, Result};
use rondo_core::id::SyncId;
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::mem_disk::{Fault, MemDisk};

const FILE: u64 = 400_000;
const CAPACITY: u64 = 3 * FILE;

/// A disk of three files, of which two are kept free.
fn options() -> Options {
    Options {
        file_bytes_max: FILE,
        allocate_bytes: 0,
        buffer_bytes_max: 1_000,
        compact_dead_bytes_min: FILE / 4,
        low_water_bytes: 2 * FILE,
        ..Options::new(7)
    }
}

fn open(disk: &MemDisk) -> Bitcask<MemDisk> {
    let (engine, opened) = Bitcask::open(Arc::new(disk.clone()), "store", options()).unwrap();
    assert_eq!(opened.lost, []);
    engine
}

fn sync(disk: &MemDisk, engine: &mut Bitcask<MemDisk>) -> Result<()> {
    if engine.start_sync(SyncId(1))?.is_some() {
        for done in disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
            engine.synced(id, result)?;
        }
    }
    Ok(())
}

fn maintain(disk: &MemDisk, engine: &mut Bitcask<MemDisk>) -> Result<()> {
    for _ in 0..1_000 {
        let progress = engine.maintain(1 << 20)?;
        if progress.waits_for.is_some() {
            sync(disk, engine)?;
        } else if !progress.more {
            return Ok(());
        }
    }
    panic!("background work never ends");
}

fn batch(change: Change) -> Batch {
    Batch { changes: [change].into_iter().collect() }
}

fn put(engine: &mut Bitcask<MemDisk>, key: &str) -> Result<()> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let body = [Bytes::from(vec![b'x'; 9_000])].into_iter().collect();
    engine.write(&batch(Change::Put { head: key.clone(), key, body, delta: 0 })).map(drop)
}

fn delete(engine: &mut Bitcask<MemDisk>, key: &str) -> Result<()> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    engine.write(&batch(Change::Delete { key, delta: 0 })).map(drop)
}

/// Writes values until there is little room; answers how many.
fn fill(disk: &MemDisk, engine: &mut Bitcask<MemDisk>) -> usize {
    for n in 0..1_000 {
        maintain(disk, engine).unwrap();
        if engine.is_nearly_full() {
            return n;
        }
        put(engine, &format!("key {n}")).unwrap();
        sync(disk, engine).unwrap();
    }
    panic!("the disk never fills")
}

#[test]
fn what_was_deleted_in_the_file_that_is_written_is_given_back_without_a_restart() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(CAPACITY));
    let mut engine = open(&disk);
    let count = fill(&disk, &mut engine);
    assert!(count > 10);
    (0..count).for_each(|n| delete(&mut engine, &format!("key {n}")).unwrap());
    sync(&disk, &mut engine).unwrap();
    maintain(&disk, &mut engine).unwrap();
    assert!(!engine.is_nearly_full(), "{:?}", engine.stats());
    put(&mut engine, "again").unwrap();
}

#[test]
fn deletes_leave_the_room_that_compactions_need() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(CAPACITY));
    let mut engine = open(&disk);
    let count = fill(&disk, &mut engine);
    let mut refused = false;
    for n in 0..2_000 {
        match delete(&mut engine, &format!("{n:0100} is not there")) {
            Ok(()) => sync(&disk, &mut engine).unwrap(),
            Err(error) => {
                assert!(matches!(error, Error::Full(_)), "{error}");
                refused = true;
                break;
            }
        }
    }
    assert!(refused, "deletes do not use all of it");
    maintain(&disk, &mut engine).unwrap();
    for n in 0..count {
        delete(&mut engine, &format!("key {n}")).unwrap();
        sync(&disk, &mut engine).unwrap();
        maintain(&disk, &mut engine).unwrap();
    }
    assert!(!engine.is_nearly_full(), "{:?}", engine.stats());
}

#[test]
fn with_no_room_at_all_what_nothing_points_to_is_given_back() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(1 << 30));
    let mut engine = open(&disk);
    for n in 0..100 {
        put(&mut engine, &format!("key {n}")).unwrap();
    }
    sync(&disk, &mut engine).unwrap();
    maintain(&disk, &mut engine).unwrap();
    for n in 0..100 {
        delete(&mut engine, &format!("key {n}")).unwrap();
    }
    sync(&disk, &mut engine).unwrap();
    let before = engine.stats().disk_bytes;
    disk.set_capacity(Some(0));
    maintain(&disk, &mut engine).unwrap();
    assert!(engine.stats().disk_bytes < before / 2, "{before}: {:?}", engine.stats());
}

/// The power goes at each operation of that work.
#[test]
fn a_power_loss_while_space_is_given_back_brings_nothing_back_and_loses_nothing() {
    for at in 0.. {
        let mut was_cut = false;
        for keep in [false, true] {
            let disk = MemDisk::new();
            disk.set_capacity(Some(CAPACITY));
            let mut engine = open(&disk);
            let count = fill(&disk, &mut engine);
            (1..count).for_each(|n| delete(&mut engine, &format!("key {n}")).unwrap());
            sync(&disk, &mut engine).unwrap();
            let from = disk.operations();
            disk.set_fault_hook(move |number, _, _| {
                (number == from + at).then_some(Fault::PowerOff)
            });
            let end = maintain(&disk, &mut engine);
            was_cut |= disk.operations() > from + at;
            assert!(end.is_ok() || was_cut);
            drop(engine);
            disk.clear_hooks();
            if keep {
                disk.crash_keep_all();
            } else {
                disk.crash_lose_all();
            }
            let mut engine = open(&disk);
            for n in 0..count {
                let found = matches!(engine.get(format!("key {n}").as_bytes()), Ok(Lookup::Hit(_)));
                assert_eq!(found, n == 0, "key {n}, cut at {at}, kept {keep}");
            }
        }
        if !was_cut {
            break;
        }
    }
}
