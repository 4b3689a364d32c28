//! What an engine does for whoever looks at heads: scans of heads alone, range deletes in bounded steps, conditional deletes.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::RANGE_KEYS_MAX;
use rondo_core::engine::{Batch, Change, Compared, Engine, Lookup, Opening, Scale};
use rondo_core::env::{Disk, DiskDone};
use rondo_core::error::Error;
use rondo_core::id::ReadId;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

/// Longer than what is read of a record for its head, in bytes.
const LONG: usize = 20_000;

fn open(kind: EngineKind, disk: &MemDisk) -> Box<dyn Engine> {
    let how =
        Opening { salt: 7, scale: Scale::Eager(100_000), accept_losses: false, held: Vec::new() };
    let (engine, opened) = kind.open(Arc::new(disk.clone()), "data", &how).unwrap();
    assert_eq!(opened.lost, []);
    engine
}

fn keepers() -> impl Iterator<Item = EngineKind> {
    EngineKind::ALL.into_iter().filter(|kind| kind.keeps())
}

fn key(n: usize) -> Bytes {
    Bytes::from(format!("key-{n:05}"))
}

fn put(key: Bytes, head: &'static str, len: usize) -> Batch {
    let body = [Bytes::from(vec![b'x'; len])].into_iter().collect();
    let change = Change::Put { key, head: Bytes::from(head), body, delta: 0 };
    Batch { changes: [change].into_iter().collect() }
}

fn write(engine: &mut dyn Engine, n: usize, len: usize) {
    engine.write(&put(key(n), "head", len)).unwrap();
}

fn keys(engine: &mut dyn Engine) -> Vec<Bytes> {
    let page = engine.scan_heads(b"", usize::MAX, usize::MAX).unwrap();
    assert_eq!(page.next, None);
    page.records.into_iter().map(|(key, _)| key).collect()
}

/// Deletes a range to its end; answers how many keys each step took.
fn delete_all(engine: &mut dyn Engine, from: &[u8], to: &[u8], limit: usize) -> Vec<usize> {
    let (mut from, mut steps) = (Bytes::copy_from_slice(from), Vec::new());
    loop {
        let erased = engine.delete_range(&from, to, limit).unwrap();
        assert_eq!(erased.lsn.is_some(), erased.keys > 0);
        steps.push(erased.keys);
        match erased.next {
            Some(next) => {
                assert!(next > from && next[..] < *to, "it goes on inside the range");
                from = next;
            }
            None => return steps,
        }
    }
}

#[test]
fn a_range_is_deleted_in_steps_and_its_end_stays() {
    for kind in EngineKind::ALL {
        let mut engine = open(kind, &MemDisk::new());
        (0..20).for_each(|n| write(&mut *engine, n, 10));
        assert_eq!(delete_all(&mut *engine, &key(3), &key(13), 4), [4, 4, 2], "{kind}");
        let left: Vec<Bytes> = (0..3).chain(13..20).map(key).collect();
        assert_eq!(keys(&mut *engine), left, "{kind}");
        assert_eq!(engine.stats().records, 10);
        assert_eq!(delete_all(&mut *engine, &key(3), &key(13), 4), [0], "nothing is left");
        assert_eq!(delete_all(&mut *engine, &key(9), &key(2), 4), [0], "the wrong way round");
        assert_eq!(delete_all(&mut *engine, &key(2), &key(2), 4), [0], "empty");
        assert_eq!(keys(&mut *engine), left, "{kind}");
    }
}

#[test]
fn no_step_takes_more_than_its_bounds() {
    for kind in EngineKind::ALL {
        let mut engine = open(kind, &MemDisk::new());
        (0..RANGE_KEYS_MAX + 10).for_each(|n| write(&mut *engine, n, 0));
        let steps = delete_all(&mut *engine, b"", b"z", usize::MAX);
        assert_eq!(steps, [RANGE_KEYS_MAX, 10], "{kind}");
        write(&mut *engine, 1, 0);
        assert_eq!(delete_all(&mut *engine, b"", b"z", 0), [1], "a step that may do nothing does");
    }
}

#[test]
fn a_range_that_was_deleted_stays_deleted() {
    for kind in keepers() {
        let disk = MemDisk::new();
        let mut engine = open(kind, &disk);
        (0..20).for_each(|n| write(&mut *engine, n, 10_000));
        delete_all(&mut *engine, &key(0), &key(19), 7);
        engine.close().unwrap();
        disk.crash_lose_all();
        for _ in 0..2 {
            let mut engine = open(kind, &disk);
            assert_eq!(keys(&mut *engine), [key(19)], "{kind}");
            while engine.maintain(1 << 20).unwrap().more {}
            engine.close().unwrap();
            disk.crash_lose_all();
        }
    }
}

/// Flips a bit in every file that holds these bytes, so far behind their start.
fn flip_in_each_file(disk: &MemDisk, wanted: &[u8], behind: u64) {
    for name in disk.list("data").unwrap() {
        let path = format!("data/{name}");
        let content = disk.content(&path).unwrap();
        if let Some(at) = content.windows(wanted.len()).position(|bytes| bytes == wanted) {
            disk.flip_bit(&path, at as u64 + behind, 0);
        }
    }
}

/// A closed store with one long record and a short one behind it; where the body of the long one lies on the disk.
fn rotten(kind: EngineKind, from_its_start: u64) -> MemDisk {
    let disk = MemDisk::new();
    let mut engine = open(kind, &disk);
    write(&mut *engine, 1, LONG);
    write(&mut *engine, 2, 10);
    engine.close().unwrap();
    flip_in_each_file(&disk, b"xxxxxxxx", from_its_start);
    disk
}

#[test]
fn a_scan_of_heads_reads_no_body() {
    for kind in keepers() {
        let disk = rotten(kind, LONG as u64 - 1);
        let mut engine = open(kind, &disk);
        assert!(matches!(engine.get(&key(1)), Err(Error::Corrupt { .. })), "the body is damaged");
        let page = engine.scan_heads(b"", 10, 30).unwrap();
        assert_eq!(page.records.len(), 2, "{kind}: the body counts for nothing");
        let is_head = |(_, record): &(Bytes, rondo_core::engine::Record)| {
            record.head == "head" && record.body.is_empty()
        };
        assert!(page.records.iter().all(is_head), "{kind}");
    }
}

/// Damage in front of the body is in what the first checksum covers: head and key cannot be trusted.
#[test]
fn a_range_with_a_record_that_cannot_be_read_is_deleted_all_the_same() {
    for kind in keepers() {
        let disk = rotten(kind, 0);
        flip_in_each_file(&disk, b"head", 0);
        let mut engine = open(kind, &disk);
        assert!(matches!(engine.scan_heads(&key(1), 9, 999), Err(Error::Corrupt { .. })));
        let steps = delete_all(&mut *engine, b"a", b"z", 10);
        assert_eq!(steps.iter().sum::<usize>(), 2, "{kind}: {steps:?}");
        assert!(keys(&mut *engine).is_empty(), "{kind}");
        assert!(matches!(engine.get(&key(1)), Ok(Lookup::Miss)), "{kind}");
    }
}

#[test]
fn a_key_is_deleted_if_its_head_is_the_one_that_was_seen() {
    for kind in EngineKind::ALL {
        let mut engine = open(kind, &MemDisk::new());
        engine.write(&put(key(1), "one", 10)).unwrap();
        let epoch = put(Bytes::from_static(b"\0epoch"), "2", 0);
        let ask = |engine: &mut dyn Engine, n, head: &[u8]| {
            engine.delete_if_equal(&key(n), head, 0, &epoch).unwrap()
        };
        for other in [&b"on"[..], b"one ", b"", b"two"] {
            assert_eq!(ask(&mut *engine, 1, other), Compared::Differs, "{kind}");
        }
        assert_eq!(ask(&mut *engine, 2, b""), Compared::Differs, "{kind}: there is no such key");
        assert_eq!(keys(&mut *engine), [key(1)], "{kind}: nothing has changed");
        let Compared::Deleted(lsn) = ask(&mut *engine, 1, b"one") else { panic!("{kind}") };
        assert_eq!(keys(&mut *engine), [&b"\0epoch"[..]], "{kind}: both in one batch");
        let Lookup::Hit(with) = engine.get(b"\0epoch").unwrap() else { panic!("{kind}") };
        assert_eq!(with.lsn, lsn);
        assert_eq!(ask(&mut *engine, 1, b"one"), Compared::Differs, "{kind}: it is gone");
        engine.write(&put(key(1), "one", 10)).unwrap();
        let with = put(key(1), "two", 0);
        let found = engine.delete_if_equal(&key(1), b"one", 0, &with).unwrap();
        assert!(matches!(found, Compared::Deleted(_)));
        assert_eq!(engine.get(&key(1)).unwrap(), Lookup::Miss, "{kind}: the deletion comes last");
    }
}

#[test]
fn a_head_that_is_not_in_memory_is_waited_for_and_nothing_is_deleted_before() {
    let disk = MemDisk::new();
    let mut engine = open(EngineKind::Bitcask, &disk);
    write(&mut *engine, 1, LONG);
    engine.flush().unwrap();
    disk.set_cold_hook(|_, _, _| true);
    let found = engine.delete_if_equal(&key(1), b"head", 0, &Batch::default()).unwrap();
    let Compared::Cold(ticket) = found else { panic!("{found:?}") };
    assert_eq!(engine.stats().records, 1);
    engine.start_read(ReadId(1), ticket).unwrap();
    assert!(matches!(disk.run_pending()[..], [DiskDone::Read { .. }]));
    disk.clear_hooks();
    let found = engine.delete_if_equal(&key(1), b"head", 0, &Batch::default()).unwrap();
    assert!(matches!(found, Compared::Deleted(_)), "{found:?}");
    assert_eq!(engine.get(&key(1)).unwrap(), Lookup::Miss);
}
