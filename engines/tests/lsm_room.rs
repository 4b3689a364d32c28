//! An LSM engine on a disk with little room: writes are refused and harm nothing, reads go on, deletes give space back, and when
//! there is room again everything goes on. A flush or a compaction that finds no room is tried again.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opening, Scale};
use rondo_core::env::{Disk, DiskDone};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::kind::EngineKind;
use rondo_engines::lsm::{Lsm, Options};
use rondo_engines::mem_disk::{Fault, MemDisk, Op};

const BODY: usize = 10_000;

fn key(n: u32) -> Bytes {
    Bytes::from(format!("k{n:06}"))
}

fn value(n: u32, len: usize) -> Bytes {
    Bytes::from(n.to_le_bytes().repeat(len / 4))
}

fn write(engine: &mut dyn Engine, n: u32, len: Option<usize>) -> Result<Lsn> {
    let change = match len {
        Some(len) => Change::put(key(n), Bytes::new(), [value(n, len)].into_iter().collect()),
        None => Change::delete(key(n)),
    };
    engine.write(&Batch { changes: [change].into_iter().collect() })
}

fn sync(disk: &MemDisk, engine: &mut dyn Engine) {
    if engine.start_sync(SyncId(1)).unwrap().is_some() {
        for done in disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only syncs") };
            engine.synced(id, result).unwrap();
        }
    }
}

/// Background work with the syncs it asks for, until there is none.
fn settle(disk: &MemDisk, engine: &mut dyn Engine) {
    for _ in 0..100_000 {
        let progress = engine.maintain(1 << 20).unwrap();
        engine.invariants();
        if progress.waits_for.is_some() {
            sync(disk, engine);
        } else if !progress.more {
            return;
        }
    }
    panic!("background work never ends");
}

fn is_there(engine: &mut dyn Engine, n: u32) -> bool {
    match engine.get(&key(n)).unwrap() {
        Lookup::Hit(record) => {
            assert!(record.body == value(n, record.body.len()), "it is what was written");
            true
        }
        other => {
            assert_eq!(other, Lookup::Miss);
            false
        }
    }
}

#[test]
fn deletes_give_the_space_of_a_nearly_full_disk_back() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(48 << 20));
    let how = Opening { salt: 7, scale: Scale::Disk, accept_losses: false, held: Vec::new() };
    let mut engine = EngineKind::Lsm.open(Arc::new(disk.clone()), "data", &how).unwrap().0;
    let mut count = 0;
    for round in 0..3 {
        let mut n = 0;
        while !engine.is_nearly_full() {
            write(&mut *engine, n, Some(BODY)).unwrap();
            n += 1;
            if n % 20 == 0 {
                engine.flush().unwrap();
                let progress = engine.maintain(1 << 20).unwrap();
                if progress.waits_for.is_some() {
                    sync(&disk, &mut *engine);
                }
            }
        }
        assert!(n > 1_000 && (count == 0 || n > count / 2), "round {round}: {n} of {count}");
        count = count.max(n);
        sync(&disk, &mut *engine);
        assert!((0..n).all(|n| is_there(&mut *engine, n)), "reads go on");
        for at in 0..n {
            match write(&mut *engine, at, None) {
                Ok(_) => {}
                Err(Error::Full(_)) => {
                    settle(&disk, &mut *engine);
                    write(&mut *engine, at, None).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        sync(&disk, &mut *engine);
        settle(&disk, &mut *engine);
        assert!(!engine.is_nearly_full(), "round {round}: {:?}", engine.stats());
        assert!((0..n).all(|n| !is_there(&mut *engine, n)));
        assert!(engine.stats().disk_bytes < 10 << 20, "{:?}", engine.stats());
    }
}

/// Every table overlaps every other where keys come in no order, so a compaction of whole levels would need the room of whole levels.
#[test]
fn deletes_of_scattered_keys_give_the_space_of_a_full_disk_back() {
    let mib = 1 << 20;
    for (capacity, body, budget, taken) in [
        (64 * mib, 200_000, mib, false),
        (96 * mib, 20_000, mib, false),
        (64 * mib, 100_000, mib, true),
        // Background work falls behind.
        (64 * mib, 200_000, mib / 8, false),
        (64 * mib, 200_000, mib / 64, true),
    ] {
        let disk = MemDisk::new();
        disk.set_capacity(Some(capacity));
        let how = Opening { salt: 7, scale: Scale::Disk, accept_losses: false, held: Vec::new() };
        let mut engine = EngineKind::Lsm.open(Arc::new(disk.clone()), "data", &how).unwrap().0;
        let scattered = |n: u32| n.wrapping_mul(2_654_435_761) % 1_000_000;
        let mut count = 0;
        while !engine.is_nearly_full() {
            match write(&mut *engine, scattered(count), Some(body)) {
                Ok(_) => count += 1,
                Err(error) => assert!(matches!(error, Error::Busy(_)), "{error}"),
            }
            engine.flush().unwrap();
            let progress = engine.maintain(budget).unwrap();
            engine.invariants();
            if progress.waits_for.is_some() {
                sync(&disk, &mut *engine);
            }
        }
        sync(&disk, &mut *engine);
        if taken {
            // Somebody else takes all that is left for a while.
            let free = disk.space().unwrap().free;
            disk.set_capacity(Some(capacity - free));
            assert!(engine.maintain(mib).is_ok() && engine.is_nearly_full());
            settle(&disk, &mut *engine);
            disk.set_capacity(Some(capacity));
        }
        for round in 0..20 {
            settle(&disk, &mut *engine);
            let refused = (0..count).filter(|&n| {
                matches!(write(&mut *engine, scattered(n), None), Err(Error::Full(_)))
            });
            let refused = refused.count();
            sync(&disk, &mut *engine);
            settle(&disk, &mut *engine);
            if refused == 0 {
                break;
            }
            assert!(round < 19, "{refused} of {count} are refused: {:?}", engine.stats());
        }
        assert!(!engine.is_nearly_full(), "{:?}", engine.stats());
        assert!((0..count).all(|n| !is_there(&mut *engine, scattered(n))));
        assert!(engine.stats().disk_bytes < capacity / 5, "{:?}", engine.stats());
    }
}

fn tiny(disk: &MemDisk) -> Lsm<MemDisk> {
    let options = Options {
        memtable_bytes_max: 4_000,
        table_bytes_max: 4_000,
        level_bytes: 16_000,
        block_bytes: 512,
        young_tables: 2,
        allocate_bytes: 0,
        buffer_bytes_max: 1_000,
        replay_bytes: 0,
        ..Options::new(7)
    };
    Lsm::open(Arc::new(disk.clone()), "data", options).unwrap().0
}

/// Each call that takes room fails once for want of it, in turn: nothing is lost, and it is made up for.
#[test]
fn any_call_may_find_no_room_once() {
    let takes_room =
        |op: &Op| matches!(op, Op::Write { .. } | Op::Create | Op::Allocate(_) | Op::Link);
    let mut failed_at = 0;
    loop {
        let disk = MemDisk::new();
        let mut engine = tiny(&disk);
        let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        disk.set_fault_hook(move |_, _, op| {
            let at =
                takes_room(op).then(|| counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            (at == Some(failed_at)).then_some(Fault::Fail(io::ErrorKind::StorageFull))
        });
        for n in 0..60 {
            match write(&mut engine, n % 40, Some(400)) {
                Err(Error::Full(_)) => drop(write(&mut engine, n % 40, Some(400)).unwrap()),
                result => drop(result.unwrap()),
            }
            if n % 7 == 0 {
                match write(&mut engine, (n + 20) % 40, None) {
                    Err(Error::Full(_)) => drop(write(&mut engine, (n + 20) % 40, None).unwrap()),
                    result => drop(result.unwrap()),
                }
            }
            if n % 5 == 0 {
                engine.start_sync(SyncId(2)).unwrap();
                for done in disk.run_pending() {
                    let DiskDone::Synced { id, result } = done else { panic!("only syncs") };
                    engine.synced(id, result).unwrap();
                }
                engine.maintain(3_000).unwrap();
            }
        }
        settle(&disk, &mut engine);
        settle(&disk, &mut engine);
        let before: Vec<bool> = (0..40).map(|n| is_there(&mut engine, n)).collect();
        sync(&disk, &mut engine);
        disk.clear_hooks();
        disk.crash_lose_all();
        let mut engine = tiny(&disk);
        let after: Vec<bool> = (0..40).map(|n| is_there(&mut engine, n)).collect();
        assert_eq!(before, after, "failed at {failed_at}");
        if seen.load(std::sync::atomic::Ordering::Relaxed) <= failed_at {
            break;
        }
        failed_at += 1;
    }
    assert!(failed_at > 60, "{failed_at}");
}

/// Each life begins a log. Many short ones do not leave as many behind.
#[test]
fn many_short_lives_leave_few_files() {
    let disk = MemDisk::new();
    for n in 0..60 {
        let mut engine = tiny(&disk);
        write(&mut engine, n % 3, Some(8)).unwrap();
        sync(&disk, &mut engine);
        settle(&disk, &mut engine);
        assert!(engine.stats().files <= 20, "{n}: {:?}", engine.stats());
        drop(engine);
        disk.crash_lose_all();
    }
    let mut engine = tiny(&disk);
    assert!((0..3).all(|n| is_there(&mut engine, n)));
}
