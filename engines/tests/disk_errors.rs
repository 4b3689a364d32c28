//! What Bitcask promises on a disk that fails and then works again: what was durable stays, what was not is never called
//! durable, and what cannot be read is neither absent nor taken for something else.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opened};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::mem_disk::{Fault, MemDisk, Op};

fn options() -> Options {
    Options { file_bytes_max: 1_500, allocate_bytes: 0, ..Options::new(7) }
}

fn open(disk: &MemDisk) -> Result<(Bitcask<MemDisk>, Opened)> {
    Bitcask::open(Arc::new(disk.clone()), "store", options())
}

fn put(key: &'static str, value: String) -> Batch {
    let body = [Bytes::from(value)].into_iter().collect();
    let change =
        Change::Put { key: Bytes::from(key), head: Bytes::from_static(b"h"), body, delta: 0 };
    Batch { changes: [change].into_iter().collect() }
}

fn value(engine: &mut Bitcask<MemDisk>, key: &str) -> Result<Option<String>> {
    Ok(match engine.get(key.as_bytes())? {
        Lookup::Hit(record) => Some(String::from_utf8_lossy(&record.body).into_owned()),
        Lookup::Miss => None,
        Lookup::Cold(_) => panic!("no read is cold here"),
    })
}

/// Makes all that was written durable.
fn sync(disk: &MemDisk, engine: &mut Bitcask<MemDisk>, id: u64) -> Result<()> {
    if engine.start_sync(SyncId(id))?.is_some() {
        for done in disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
            engine.synced(id, result)?;
        }
    }
    Ok(())
}

/// Background work, with the syncs that it asks for, until there is none.
fn maintain(disk: &MemDisk, engine: &mut Bitcask<MemDisk>) {
    for id in 0..1_000 {
        let progress = engine.maintain(1 << 20).unwrap();
        if progress.waits_for.is_some() {
            sync(disk, engine, 1_000 + id).unwrap();
        } else if !progress.more {
            return;
        }
    }
    panic!("background work never ends");
}

fn is_refused(op: &Op) -> bool {
    matches!(op, Op::Write { .. } | Op::Allocate(_) | Op::Create | Op::CreateDir | Op::Link)
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_durable_after_the_next_start_or_gone() {
    for first in [false, true] {
        let disk = MemDisk::new();
        let (mut engine, _) = open(&disk).unwrap();
        if first {
            engine.write(&put("a", "old".to_owned())).unwrap();
            sync(&disk, &mut engine, 1).unwrap();
        }
        engine.write(&put("b", "doomed".to_owned())).unwrap();
        disk.set_fault_hook(|_, _, op| (*op == Op::Sync).then_some(Fault::Fail(ErrorKind::Other)));
        sync(&disk, &mut engine, 2).unwrap_err();
        disk.clear_hooks();
        disk.kill();
        let (mut engine, opened) = open(&disk).unwrap();
        let told = value(&mut engine, "b").unwrap();
        assert!(engine.durable() >= opened.last, "what a start finds it calls durable");
        engine.write(&put("c", "later".to_owned())).unwrap();
        sync(&disk, &mut engine, 3).unwrap();
        disk.crash_lose_all();
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost, []);
        assert_eq!(value(&mut engine, "b").unwrap(), told);
        assert_eq!(value(&mut engine, "c").unwrap().as_deref(), Some("later"));
    }
}

#[test]
fn a_start_that_misses_something_leaves_the_disk_as_it_is() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    for n in 0..8 {
        engine.write(&put("key", format!("{n}:{}", "x".repeat(100)))).unwrap();
        sync(&disk, &mut engine, n + 1).unwrap();
    }
    drop(engine);
    disk.kill();
    let path = "store/0000000001.data";
    let sound = disk.content(path).unwrap();
    for byte in (60..sound.len() as u64).step_by(40) {
        disk.flip_bit(path, byte, 1);
        let spoilt = disk.content(path).unwrap();
        let (mut engine, opened) = open(&disk).unwrap();
        if opened.lost.is_empty() {
            // Only what names the writes that are durable is damaged, or what no later write names.
            return;
        }
        assert_eq!(disk.content(path).unwrap(), spoilt, "damage at {byte}");
        assert!(matches!(value(&mut engine, "key"), Err(Error::Poisoned)));
        disk.flip_bit(path, byte, 1);
        disk.kill();
    }
    let (mut engine, opened) = open(&disk).unwrap();
    assert_eq!((opened.lost.len(), opened.last.0), (0, 8));
    assert!(value(&mut engine, "key").unwrap().unwrap().starts_with("7:"));
}

#[test]
fn a_key_whose_old_record_cannot_be_read_is_not_written_beside_it() {
    let mut refused = 0;
    for bits in 0..24 {
        let disk = MemDisk::new();
        let (mut engine, _) = open(&disk).unwrap();
        engine.write(&put("key", "old".to_owned())).unwrap();
        engine.close().unwrap();
        let (mut engine, _) = open(&disk).unwrap();
        // From one of the files, some sectors on.
        let elsewhere = ((bits / 4) << 16) | (bits % 4);
        disk.set_fault_hook(move |_, _, op| {
            (*op == Op::Read).then_some(Fault::Elsewhere(elsewhere))
        });
        let written = engine.write(&put("key", "new".to_owned()));
        disk.clear_hooks();
        let expected = if written.is_ok() { "new" } else { "old" };
        refused += u32::from(matches!(&written, Err(error) if error.wrote_nothing()));
        if written.is_ok() {
            engine.close().unwrap();
        }
        disk.kill();
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost, []);
        assert_eq!(value(&mut engine, "key").unwrap().as_deref(), Some(expected), "{bits}");
    }
    assert!(refused > 4, "{refused}");
}

#[test]
fn a_read_that_goes_astray_at_a_start_spoils_nothing_for_good() {
    // Eight writes fill two files, so the last is alone in one, and nothing says yet that it is durable.
    let workload = |disk: &MemDisk| {
        let (mut engine, _) = open(disk).unwrap();
        for n in 0..9 {
            engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))).unwrap();
            sync(disk, &mut engine, n + 1).unwrap();
        }
        drop(engine);
        disk.kill();
    };
    let mut refused = 0;
    for at in 0..60 {
        for bits in 0..24 {
            let disk = MemDisk::new();
            workload(&disk);
            // From one of the files, its own among them, some sectors on.
            let (start, elsewhere) = (disk.operations(), ((bits / 6) << 16) | (bits % 6));
            disk.set_fault_hook(move |number, _, op| {
                (number == start + at && *op == Op::Read).then_some(Fault::Elsewhere(elsewhere))
            });
            refused += u32::from(open(&disk).is_err());
            disk.clear_hooks();
            disk.crash_lose_all();
            let (mut engine, opened) = open(&disk).unwrap();
            assert_eq!(opened.lost, [], "the read at {at} went to {bits}");
            let found = value(&mut engine, "key").unwrap().unwrap();
            assert!(found.starts_with("8:"), "{at} {bits} {found:.2}");
            engine.write(&put("key", "new".to_owned())).unwrap();
            engine.close().unwrap();
            assert_eq!(open(&disk).unwrap().1.lost, []);
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn a_record_is_believed_only_where_it_was_written() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    engine.write(&put("one", "1".to_owned())).unwrap();
    engine.write(&put("two", "2".to_owned())).unwrap();
    engine.close().unwrap();
    // The header of a second file says that both are durable.
    open(&disk).unwrap().0.close().unwrap();
    // A block of the first is read where the one before it should be: the second record comes a sector too late.
    let path = "store/0000000001.data";
    let content = disk.content(path).unwrap();
    let second = content.windows(3).position(|bytes| bytes == b"two").expect("it is stored") - 28;
    let mut shifted = content[..second].to_vec();
    shifted.resize(second + 512, 1);
    shifted.extend_from_slice(&content[second..]);
    let file = disk.open(path, Open::Existing).unwrap();
    disk.write_at(&file, &[&shifted], 0).unwrap();
    disk.remove("store/0000000001.hint").unwrap();
    let (_, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost.len(), 1, "the second is missing");
    assert!(opened.lost[0].what.contains("write 2"), "{:?}", opened.lost);
}

#[test]
fn a_log_whose_start_is_damaged_has_lost_something_unless_its_first_record_stands() {
    for (spoilt, is_marked) in
        [40, 60, 100, 700, 1_300].iter().flat_map(|n| [(*n, true), (*n, false)])
    {
        let disk = MemDisk::new();
        let (mut engine, _) = open(&disk).unwrap();
        for n in 0..8 {
            engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))).unwrap();
            if is_marked || n == 7 {
                sync(&disk, &mut engine, n + 1).unwrap();
            }
        }
        drop(engine);
        disk.kill();
        let path = "store/0000000001.data";
        let sound = disk.content(path).unwrap();
        let file = disk.open(path, Open::Existing).unwrap();
        disk.write_at(&file, &[&vec![b'?'; spoilt.min(sound.len())]], 0).unwrap();
        let (_, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost.is_empty(), spoilt < 44, "{spoilt} bytes: {:?}", opened.lost);
        assert!(spoilt > 44 || opened.last.0 == 8);
        disk.kill();
        disk.write_at(&disk.open(path, Open::Existing).unwrap(), &[&sound], 0).unwrap();
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!((opened.lost.len(), opened.last.0), (0, 8));
        assert!(value(&mut engine, "key").unwrap().unwrap().starts_with("7:"));
    }
}

#[test]
fn a_compacted_file_without_its_header_is_read_although_its_hint_is_sound() {
    let disk = MemDisk::new();
    let options = Options { compact_dead_bytes_min: 0, compact_dead_percent: 1, ..options() };
    let (mut engine, _) = Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap();
    // One batch of two, and a write that follows it: Lsns that would be dense without the second of the batch.
    let two = [put("one", "1".to_owned()), put("two", "2".to_owned())];
    let changes = two.into_iter().flat_map(|batch| batch.changes).collect();
    engine.write(&Batch { changes }).unwrap();
    engine.write(&put("three", "3".to_owned())).unwrap();
    for n in 0..8 {
        engine.write(&put("dead", format!("{n}:{}", "x".repeat(300)))).unwrap();
    }
    sync(&disk, &mut engine, 1).unwrap();
    for n in 0..200 {
        engine.maintain(1 << 20).unwrap();
        sync(&disk, &mut engine, n + 2).unwrap();
    }
    engine.close().unwrap();
    let compacted = disk.list("store").unwrap().into_iter().find_map(|name| {
        let path = format!("store/{name}");
        let content = disk.content(&path).filter(|_| name.ends_with(".data"))?;
        let at = content.windows(3).position(|bytes| bytes == b"two")?;
        (content[8] == 2).then_some((path, at as u64))
    });
    let (path, at) = compacted.expect("a compaction has copied what is alive");
    disk.flip_bit(&path, 20, 1);
    disk.kill();
    let (_, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost, [], "all records stand");
    disk.flip_bit(&path, at, 1);
    disk.kill();
    let (mut engine, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost, [], "the hint names what is gone");
    assert!(matches!(value(&mut engine, "two"), Err(Error::Corrupt { .. })));
    assert_eq!(value(&mut engine, "three").unwrap().as_deref(), Some("3"));
    disk.remove(&path.replace(".data", ".hint")).unwrap();
    disk.kill();
    let (_, opened) = open(&disk).unwrap();
    assert!(!opened.lost.is_empty());
}

#[test]
fn a_compaction_leaves_a_file_alone_whose_end_reads_as_zeroes() {
    let disk = MemDisk::new();
    let options = Options { compact_dead_bytes_min: 0, compact_dead_percent: 10, ..options() };
    let (mut engine, _) = Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap();
    // The first file: mostly dead at the end, with one record alive, its last.
    for n in 0..3 {
        engine.write(&put("dead", format!("{n}:{}", "x".repeat(300)))).unwrap();
    }
    engine.write(&put("alive", "a".repeat(300))).unwrap();
    for n in 0..12 {
        engine.write(&put("dead", format!("{n}:{}", "x".repeat(300)))).unwrap();
    }
    sync(&disk, &mut engine, 1).unwrap();
    let path = "store/0000000001.data";
    let sound = disk.content(path).unwrap();
    let at = sound.windows(5).position(|bytes| bytes == b"alive").expect("it is in the first file");
    let file = disk.open(path, Open::Existing).unwrap();
    disk.write_at(&file, &[&vec![0; sound.len() - at + 28]], at as u64 - 28).unwrap();
    for _ in 0..200 {
        engine.maintain(1 << 20).unwrap();
    }
    assert!(matches!(value(&mut engine, "alive"), Err(Error::Corrupt { .. })));
    disk.write_at(&file, &[&sound], 0).unwrap();
    assert_eq!(value(&mut engine, "alive").unwrap(), Some("a".repeat(300)));
    disk.sync_now(&file).unwrap();
    drop(engine);
    disk.crash_lose_all();
    let (mut engine, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(value(&mut engine, "alive").unwrap(), Some("a".repeat(300)));
}

/// basho/riak#282, etcd-io/etcd#4220: a full disk ended nodes for good.
#[test]
fn a_full_disk_refuses_writes_and_harms_nothing() {
    let mut refused = 0;
    for from in 0..400 {
        let disk = MemDisk::new();
        let (mut engine, _) = open(&disk).unwrap();
        let before = disk.operations();
        disk.set_fault_hook(move |number, _, op| {
            (number >= before + from && is_refused(op))
                .then_some(Fault::Cut(9, ErrorKind::StorageFull))
        });
        let mut written = None;
        for n in 0..12 {
            match engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))) {
                Ok(_) => written = Some(n),
                Err(Error::Full(_)) => refused += 1,
                Err(error) => panic!("full from {from} on: {error}"),
            }
            sync(&disk, &mut engine, n + 1).unwrap();
            while engine.maintain(1 << 20).unwrap().more {}
        }
        let told = value(&mut engine, "key").unwrap();
        // There is room again: what was taken becomes durable.
        disk.clear_hooks();
        maintain(&disk, &mut engine);
        sync(&disk, &mut engine, 100).unwrap();
        assert_eq!(value(&mut engine, "key").unwrap(), told);
        disk.crash_lose_all();
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost, [], "full from {from} on");
        assert_eq!(value(&mut engine, "key").unwrap(), told, "full from {from} on");
        let found = told.map(|text| text.split(':').next().unwrap().parse().unwrap());
        assert_eq!(found, written, "full from {from} on");
        if written == Some(11) && disk.operations() < before + from {
            assert!(refused > 100, "{refused}");
            return;
        }
    }
    panic!("the workload never ended");
}

#[test]
fn a_store_opens_on_a_full_disk_again_and_again_and_leaves_no_files_behind() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    for n in 0..12 {
        engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))).unwrap();
        sync(&disk, &mut engine, n + 1).unwrap();
    }
    drop(engine);
    let mut names = None;
    for life in 0..5 {
        disk.crash_lose_all();
        disk.set_capacity(Some(0));
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost, []);
        assert!(value(&mut engine, "key").unwrap().unwrap().starts_with("11:"));
        let refused = engine.write(&put("key", "no".to_owned())).unwrap_err();
        assert!(refused.to_string().contains("the disk is full"), "{refused}");
        while engine.maintain(1 << 20).unwrap().more {}
        let now = disk.list("store").unwrap();
        assert_eq!(*names.get_or_insert(now.clone()), now, "life {life}");
        if life == 4 {
            disk.set_capacity(None);
            engine.write(&put("key", "room".to_owned())).unwrap();
            sync(&disk, &mut engine, 1).unwrap();
            maintain(&disk, &mut engine);
        }
    }
    disk.crash_lose_all();
    let (mut engine, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(value(&mut engine, "key").unwrap().as_deref(), Some("room"));
}

/// A life that wrote nothing leaves an empty file, which has no hint where there is no room for one.
#[test]
fn an_empty_file_without_a_hint_is_removed_on_a_full_disk() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    engine.write(&put("key", "durable".to_owned())).unwrap();
    sync(&disk, &mut engine, 1).unwrap();
    drop(engine);
    for capacity in [None, Some(0)] {
        disk.crash_lose_all();
        disk.set_capacity(capacity);
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost, []);
        assert_eq!(value(&mut engine, "key").unwrap().as_deref(), Some("durable"));
    }
}

/// basho/riak#282: what there is no room for at the end is gone, as after a power loss; everything else is there.
#[test]
fn a_store_closes_on_a_full_disk_and_keeps_what_was_durable() {
    for is_synced in [false, true] {
        let disk = MemDisk::new();
        let (mut engine, _) = open(&disk).unwrap();
        engine.write(&put("key", "durable".to_owned())).unwrap();
        sync(&disk, &mut engine, 1).unwrap();
        engine.write(&put("other", "handed over".to_owned())).unwrap();
        engine.flush().unwrap();
        if is_synced {
            sync(&disk, &mut engine, 2).unwrap();
        } else {
            engine.write(&put("last", "too much".to_owned())).unwrap();
        }
        disk.set_capacity(Some(0));
        // Where only the mark of the last sync has no room, all writes are durable and yet nothing is said of them.
        assert!(matches!(engine.close(), Err(Error::Full(_))), "synced: {is_synced}");
        assert_eq!(engine.durable(), Lsn(2), "synced: {is_synced}");
        assert!(matches!(engine.get(b"key"), Err(Error::Poisoned)), "it is closed");
        drop(engine);
        disk.set_capacity(None);
        disk.crash_lose_all();
        let (mut engine, opened) = open(&disk).unwrap();
        assert_eq!((opened.lost, opened.last), (vec![], Lsn(2)), "synced: {is_synced}");
        assert_eq!(value(&mut engine, "key").unwrap().as_deref(), Some("durable"));
        assert_eq!(value(&mut engine, "other").unwrap().as_deref(), Some("handed over"));
        assert_eq!(value(&mut engine, "last").unwrap(), None);
    }
}

/// redis/redis#246, hashicorp/consul#7527: a process without descriptors.
#[test]
fn without_descriptors_the_active_file_goes_on() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    disk.set_fault_hook(|_, _, op| {
        matches!(op, Op::Create | Op::Open).then_some(Fault::Fail(ErrorKind::ResourceBusy))
    });
    for n in 0..40 {
        engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))).unwrap();
        sync(&disk, &mut engine, n + 1).unwrap();
        while engine.maintain(1 << 20).unwrap().more {}
    }
    assert_eq!(engine.stats().files, 1);
    disk.clear_hooks();
    engine.write(&put("key", "new file".to_owned())).unwrap();
    sync(&disk, &mut engine, 100).unwrap();
    maintain(&disk, &mut engine);
    assert_eq!(engine.stats().files, 2);
    disk.crash_lose_all();
    let (mut engine, opened) = open(&disk).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(value(&mut engine, "key").unwrap().as_deref(), Some("new file"));
}

/// All keys of a store.
fn keys(engine: &mut Bitcask<MemDisk>) -> Result<Vec<Bytes>> {
    let page = engine.scan_from(b"", 1_000, u64::MAX as usize)?;
    assert!(page.next.is_none(), "a page holds them all");
    Ok(page.records.into_iter().map(|(key, _)| key).collect())
}

#[test]
fn a_hint_that_is_damaged_while_the_store_is_open_is_made_anew_from_its_file() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    for key in ["a", "b", "c", "d", "e", "f"] {
        engine.write(&put(key, "x".repeat(600))).unwrap();
    }
    engine.close().unwrap();
    let (mut engine, _) = open(&disk).unwrap();
    let all = keys(&mut engine).unwrap();
    assert_eq!(all.len(), 6);
    let hint = "store/0000000001.hint";
    let sound = disk.content(hint).unwrap();
    disk.flip_bit(hint, 22, 3);
    assert_eq!(keys(&mut engine).unwrap(), all, "its records are all still there");
    engine.write(&put("g", "y".to_owned())).unwrap();
    maintain(&disk, &mut engine);
    assert!(disk.content(hint).unwrap() == sound, "and so is the hint, in time");
    // Where the file is damaged too, nothing is left to make it from.
    disk.flip_bit(hint, 22, 3);
    disk.flip_bit("store/0000000001.data", 60, 0);
    assert!(matches!(keys(&mut engine), Err(Error::Corrupt { .. })));
}

/// A rotten record is written over without being read, and then the compaction that stopped at it goes on.
#[test]
fn a_rotten_record_is_known_by_its_key_and_can_be_written_over() {
    let disk = MemDisk::new();
    let options = Options { compact_dead_percent: 10, compact_dead_bytes_min: 0, ..options() };
    let open = |disk: &MemDisk| Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap();
    let (mut engine, _) = open(&disk);
    engine.write(&put("rotten", "r".repeat(300))).unwrap();
    for n in 0..12 {
        engine.write(&put("other", format!("{n}:{}", "x".repeat(300)))).unwrap();
    }
    engine.close().unwrap();
    disk.flip_bit("store/0000000001.data", 80, 3);
    let (mut engine, opened) = open(&disk);
    assert_eq!(opened.lost, [], "hints say what is there");
    assert!(matches!(value(&mut engine, "rotten"), Err(Error::Corrupt { .. })));
    maintain(&disk, &mut engine);
    assert_eq!(engine.take_damaged(), [Bytes::from_static(b"rotten")]);
    assert!(engine.take_damaged().is_empty(), "it is told once");
    assert!(disk.content("store/0000000001.data").is_some(), "the record may be repaired yet");
    assert_eq!(engine.stats().damaged, 1);
    engine.write(&put("rotten", "new".to_owned())).unwrap();
    assert_eq!(engine.stats().damaged, 0);
    sync(&disk, &mut engine, 5_000).unwrap();
    maintain(&disk, &mut engine);
    assert!(disk.content("store/0000000001.data").is_none(), "nothing holds the compaction up");
    disk.crash_lose_all();
    let (mut engine, opened) = open(&disk);
    assert_eq!(opened.lost, []);
    assert_eq!(value(&mut engine, "rotten").unwrap().as_deref(), Some("new"));
    assert!(value(&mut engine, "other").unwrap().unwrap().starts_with("11:"));
}

/// The log that is written on beside a compaction names more as durable than what the compaction has written, whose number is higher.
#[test]
fn a_compacted_file_without_its_hint_hides_no_mark_of_an_older_log() {
    let disk = MemDisk::new();
    let options = Options { compact_dead_percent: 10, compact_dead_bytes_min: 0, ..options() };
    let open = |disk: &MemDisk| Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap();
    let (mut engine, _) = open(&disk);
    engine.write(&put("alive", "z".to_owned())).unwrap();
    for n in 0..9 {
        engine.write(&put("key", format!("{n}:{}", "x".repeat(300)))).unwrap();
        sync(&disk, &mut engine, n + 1).unwrap();
    }
    maintain(&disk, &mut engine);
    for (n, key) in ["lost", "later"].into_iter().enumerate() {
        engine.write(&put(key, "y".to_owned())).unwrap();
        sync(&disk, &mut engine, 100 + n as u64).unwrap();
    }
    drop(engine);
    disk.kill();
    let paths = |kind: &str| -> Vec<String> {
        let names = disk.list("store").unwrap().into_iter().filter(|name| name.ends_with(kind));
        names.map(|name| format!("store/{name}")).collect()
    };
    let has = |path: &String| disk.content(path).unwrap().windows(4).position(|at| at == b"lost");
    let data = paths("data");
    let log = data.iter().position(|path| has(path).is_some()).unwrap();
    assert!(log + 1 < data.len(), "a compaction has written a newer file: {data:?}");
    paths("hint").iter().for_each(|hint| disk.flip_bit(hint, 22, 3));
    disk.flip_bit(&data[log], has(&data[log]).unwrap() as u64, 1);
    let (_, opened) = open(&disk);
    assert_ne!(opened.lost, [], "a mark behind it names the write that is gone");
}

/// The last record of a batch is damaged. What follows is beyond what is known to be durable, and does not make the batch whole.
#[test]
fn a_durable_batch_that_lost_its_end_is_missed_whatever_follows() {
    let disk = MemDisk::new();
    let (mut engine, _) = open(&disk).unwrap();
    let mut both = put("kept", "1".to_owned());
    both.changes.extend(put("gone", "1".to_owned()).changes);
    engine.write(&both).unwrap();
    sync(&disk, &mut engine, 1).unwrap();
    // A mark that names the batch comes before this write, which nothing names.
    engine.write(&put("later", "1".to_owned())).unwrap();
    sync(&disk, &mut engine, 2).unwrap();
    drop(engine);
    disk.kill();
    let log = format!("store/{}", disk.list("store").unwrap()[0]);
    let at = disk.content(&log).unwrap().windows(4).position(|at| at == b"gone").unwrap();
    disk.flip_bit(&log, at as u64, 1);
    let before = disk.content(&log);
    let (_, opened) = open(&disk).unwrap();
    assert_ne!(opened.lost, [], "a mark names the batch of which a part is gone");
    assert_eq!(disk.content(&log), before, "and nothing was changed");
}

/// Writes are refused before anything fails, deletes and compactions go on, and the room comes back.
#[test]
fn a_store_says_that_its_disk_is_nearly_full_before_it_is() {
    let disk = MemDisk::new();
    let options = Options {
        compact_dead_percent: 10,
        compact_dead_bytes_min: 0,
        file_bytes_max: 20_000,
        low_water_bytes: 100_000,
        ..options()
    };
    disk.set_capacity(Some(400_000));
    let (mut engine, _) = Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap();
    let key = |n: u32| &*Box::leak(format!("key {n}").into_boxed_str());
    let mut written = Vec::new();
    for key in (0..400).map(key) {
        if engine.is_nearly_full() {
            break;
        }
        engine.write(&put(key, "x".repeat(900))).unwrap();
        written.push(key);
        sync(&disk, &mut engine, written.len() as u64).unwrap();
        engine.maintain(1 << 20).unwrap();
    }
    assert!(engine.is_nearly_full() && written.len() > 8, "{}", written.len());
    for key in written {
        let change = Change::Delete { key: Bytes::from(key), delta: 0 };
        engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    }
    sync(&disk, &mut engine, 6_000).unwrap();
    maintain(&disk, &mut engine);
    assert!(!engine.is_nearly_full(), "{:?}", engine.stats());
    engine.write(&put("a", "room".to_owned())).unwrap();
}
