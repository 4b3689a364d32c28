//! The log told once more: whole from any write that it still has, with the deltas of its changes, also out of files of the
//! format before; and refused where a part is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::MEMORY_LOG_CHANGES_MAX;
use rondo_core::engine::{
    Batch, Change, Engine, LogPlace, Logged, Lookup, Opened, Opening, Replay, Scale,
};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;
use smallvec::SmallVec;

const START: LogPlace = LogPlace::after(Lsn(0));
/// Where a record's key lies behind its start, without and with a delta, in bytes.
const HEADER: usize = 28;

fn try_open(kind: EngineKind, disk: &MemDisk) -> Result<(Box<dyn Engine>, Opened)> {
    let how =
        Opening { salt: 7, scale: Scale::Eager(1500), accept_losses: false, held: Vec::new() };
    kind.open(Arc::new(disk.clone()), "data", &how)
}

fn open(kind: EngineKind, disk: &MemDisk) -> Box<dyn Engine> {
    let (engine, opened) = try_open(kind, disk).unwrap();
    assert_eq!(opened.lost, []);
    engine
}

fn keepers() -> impl Iterator<Item = EngineKind> {
    EngineKind::ALL.into_iter().filter(|kind| kind.keeps())
}

fn put(key: &str, delta: u64) -> Change {
    let body: SmallVec<[Bytes; 2]> = [Bytes::from(vec![b'x'; 100])].into_iter().collect();
    Change::Put { key: Bytes::from(key.to_owned()), head: Bytes::from_static(b"h"), body, delta }
}

fn delete(key: &str, delta: u64) -> Change {
    Change::Delete { key: Bytes::from(key.to_owned()), delta }
}

fn write(engine: &mut dyn Engine, changes: &[Change]) -> Lsn {
    engine.write(&Batch { changes: changes.into() }).unwrap()
}

/// Everything behind a place, in pages; `None` when it is gone.
fn replay(engine: &mut dyn Engine, from: LogPlace, bytes_max: u64) -> Result<Option<Vec<Logged>>> {
    let (mut all, mut from) = (Vec::new(), Some(from));
    while let Some(at) = from {
        match engine.replay(at, bytes_max)? {
            Replay::Page { changes, next } => {
                all.extend(changes);
                from = next;
            }
            Replay::Gone => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Thirty writes in several files, and what is to be told of them.
fn written(engine: &mut dyn Engine) -> Vec<Logged> {
    let mut all = Vec::new();
    for n in 1..=30_u64 {
        let (a, b) = (format!("a{}", n % 7), format!("b{n}"));
        let lsn = write(engine, &[put(&a, 1), put(&b, n), delete(&a, n << 60)]);
        assert_eq!(lsn, Lsn(n));
        let told =
            |key: String, is_delete, delta| Logged { lsn, key: Bytes::from(key), is_delete, delta };
        all.extend([told(b, false, n), told(a, true, n << 60)]);
    }
    all
}

fn behind(all: &[Logged], after: u64) -> Vec<Logged> {
    all.iter().filter(|logged| logged.lsn.0 > after).cloned().collect()
}

fn assert_told_from_everywhere(engine: &mut dyn Engine, all: &[Logged], when: &str) {
    for after in 0..=30 {
        for bytes_max in [0, 300, u64::MAX] {
            let found = replay(engine, LogPlace::after(Lsn(after)), bytes_max).unwrap();
            assert_eq!(found, Some(behind(all, after)), "{when}, after {after}, {bytes_max}");
        }
    }
    assert_eq!(replay(engine, LogPlace::after(Lsn(31)), 9).unwrap(), None, "{when}: not written");
}

#[test]
fn the_log_is_told_from_any_write_on() {
    for kind in EngineKind::ALL {
        let disk = MemDisk::new();
        let mut engine = open(kind, &disk);
        let all = written(&mut *engine);
        assert_told_from_everywhere(&mut *engine, &all, &format!("{kind}, at once"));
        engine.close().unwrap();
        disk.crash_lose_all();
        if kind.keeps() {
            let mut engine = open(kind, &disk);
            assert_told_from_everywhere(&mut *engine, &all, &format!("{kind}, opened again"));
            let more = write(&mut *engine, &[put("c", 5)]);
            let last = replay(&mut *engine, LogPlace::after(Lsn(30)), 0).unwrap().unwrap();
            assert_eq!(last.len(), 1, "{kind}");
            assert_eq!((last[0].lsn, last[0].delta), (more, 5), "{kind}");
        }
    }
}

#[test]
fn a_page_looks_at_about_as_many_bytes_as_it_may() {
    let mut engine = open(EngineKind::Bitcask, &MemDisk::new());
    let all = written(&mut *engine);
    let (mut from, mut pages) = (Some(START), 0);
    while let Some(at) = from {
        let Replay::Page { changes, next } = engine.replay(at, 300).unwrap() else { panic!() };
        assert!(changes.len() <= 4, "two writes, each of more than 150 bytes: {changes:?}");
        (from, pages) = (next, pages + 1);
    }
    assert!(pages >= all.len() / 4, "{pages}");
    // Where no page has led to, the way is read in pages without changes.
    let Replay::Page { changes, next } = engine.replay(LogPlace::after(Lsn(4)), 1).unwrap() else {
        panic!()
    };
    assert_eq!(changes, []);
    assert!(next.is_some_and(|next| next.after == Lsn(4) && next.near > 0), "{next:?}");
}

fn sync(disk: &MemDisk, engine: &mut dyn Engine) {
    engine.start_sync(SyncId(1)).unwrap();
    for done in disk.run_pending() {
        let DiskDone::Synced { id, result } = done else { panic!("only syncs") };
        engine.synced(id, result).unwrap();
    }
}

fn maintain_all(disk: &MemDisk, engine: &mut dyn Engine) {
    sync(disk, engine);
    for _ in 0..1000 {
        let progress = engine.maintain(1 << 20).unwrap();
        if !progress.more && progress.waits_for.is_none() {
            return;
        }
        sync(disk, engine);
    }
    panic!("background work never ends");
}

#[test]
fn what_a_compaction_has_taken_is_gone_and_what_comes_after_is_told() {
    for kind in keepers() {
        let disk = MemDisk::new();
        let mut engine = open(kind, &disk);
        let all = written(&mut *engine);
        maintain_all(&disk, &mut *engine);
        assert_eq!(replay(&mut *engine, START, 9).unwrap(), None, "{kind}");
        let told = |after| behind(&all, after);
        let first = (0..=30).find_map(|after| {
            Some((after, replay(&mut *engine, LogPlace::after(Lsn(after)), 9).unwrap()?))
        });
        let (after, found) = first.expect("at least what is written now");
        assert!(after > 0 && found == told(after), "{kind}: after {after}");
        let lsn = write(&mut *engine, &[delete("b3", 9)]);
        let last = replay(&mut *engine, LogPlace::after(Lsn(30)), 9).unwrap();
        let key = Bytes::from_static(b"b3");
        assert_eq!(last, Some(vec![Logged { lsn, key, is_delete: true, delta: 9 }]), "{kind}");
    }
}

#[test]
fn the_memory_engine_tells_its_last_changes() {
    let mut engine = open(EngineKind::Memory, &MemDisk::new());
    for n in 0..MEMORY_LOG_CHANGES_MAX as u64 / 2 + 3 {
        write(&mut *engine, &[put("a", n), put("b", n)]);
    }
    assert_eq!(replay(&mut *engine, LogPlace::after(Lsn(2)), 9).unwrap(), None);
    let found = replay(&mut *engine, LogPlace::after(Lsn(3)), 9).unwrap().unwrap();
    assert_eq!(found.len(), MEMORY_LOG_CHANGES_MAX);
    assert_eq!((found[0].lsn, found[0].delta), (Lsn(4), 3));
}

/// A closed store, and what is to be told of it.
fn closed(kind: EngineKind) -> (MemDisk, Vec<Logged>) {
    let disk = MemDisk::new();
    let mut engine = open(kind, &disk);
    let all = written(&mut *engine);
    engine.close().unwrap();
    disk.crash_lose_all();
    (disk, all)
}

fn data_files(disk: &MemDisk) -> Vec<String> {
    let names = disk.list("data").unwrap().into_iter();
    names.filter(|name| name.ends_with(".data")).map(|name| format!("data/{name}")).collect()
}

#[test]
fn a_write_that_is_damaged_is_not_passed_over() {
    let (disk, all) = closed(EngineKind::Bitcask);
    let (path, at) = data_files(&disk)
        .into_iter()
        .find_map(|path| {
            let content = disk.content(&path).unwrap();
            Some((path, content.windows(3).position(|bytes| bytes == b"b15")?))
        })
        .expect("write 15 is there");
    disk.flip_bit(&path, at as u64, 0);
    let mut engine = open(EngineKind::Bitcask, &disk);
    let corrupt = |found: Result<_>| matches!(found, Err(Error::Corrupt { .. }));
    assert!(corrupt(replay(&mut *engine, START, u64::MAX)));
    assert!(corrupt(replay(&mut *engine, LogPlace::after(Lsn(14)), u64::MAX)));
    let found = replay(&mut *engine, LogPlace::after(Lsn(20)), u64::MAX).unwrap();
    assert_eq!(found, Some(behind(&all, 20)), "what comes after it is whole");
}

/// Gives a data file another format version.
fn set_version(disk: &MemDisk, path: &str, version: u8) {
    let mut header = disk.content(path).unwrap()[..40].to_vec();
    header[7] = version;
    let crc = crc32fast::hash(&header).to_le_bytes();
    let file = disk.open(path, Open::Existing).unwrap();
    disk.write_at(&file, &[&header, &crc], 0).unwrap();
    disk.sync_now(&file).unwrap();
}

/// The format versions of the data files.
fn versions(disk: &MemDisk) -> BTreeSet<u8> {
    data_files(disk).iter().map(|path| disk.content(path).unwrap()[7]).collect()
}

/// Version 2 had no deltas, and is the same apart from that. A directory of it is opened, read, written to, opened as it is then,
/// compacted, and opened again.
#[test]
fn files_of_the_format_before_are_read_beside_new_ones_and_compacted_into_them() {
    let disk = MemDisk::new();
    let mut engine = open(EngineKind::Bitcask, &disk);
    for n in 1..=20 {
        write(&mut *engine, &[put(&format!("k{n:02}"), 0), delete("gone", 0)]);
    }
    engine.close().unwrap();
    drop(engine);
    disk.crash_lose_all();
    data_files(&disk).iter().for_each(|path| set_version(&disk, path, 2));
    assert_eq!(versions(&disk), [2].into());
    let mut engine = open(EngineKind::Bitcask, &disk);
    assert_all_there(&mut *engine, 20);
    let told = replay(&mut *engine, START, 99).unwrap().expect("nothing was compacted");
    assert!(told.len() == 40 && told.iter().all(|logged| logged.delta == 0));
    for n in 11..=40 {
        write(&mut *engine, &[put(&format!("k{n:02}"), n)]);
    }
    engine.close().unwrap();
    drop(engine);
    disk.crash_lose_all();
    assert_eq!(versions(&disk), [2, 3].into());
    // Once with the hints of both, and once from the files themselves.
    drop(open(EngineKind::Bitcask, &disk.fork()));
    for name in disk.list("data").unwrap().iter().filter(|name| name.ends_with(".hint")) {
        disk.remove(&format!("data/{name}")).unwrap();
    }
    let mut engine = open(EngineKind::Bitcask, &disk);
    assert_all_there(&mut *engine, 40);
    let told = replay(&mut *engine, LogPlace::after(Lsn(19)), 99).unwrap().unwrap();
    let deltas: Vec<u64> = told.iter().map(|logged| logged.delta).collect();
    assert_eq!(deltas, [0, 0].into_iter().chain(11..=40).collect::<Vec<u64>>());
    for n in 1..=10 {
        write(&mut *engine, &[put(&format!("k{n:02}"), n)]);
    }
    maintain_all(&disk, &mut *engine);
    assert_eq!(versions(&disk), [3].into(), "all that was in old files is dead or copied");
    engine.close().unwrap();
    drop(engine);
    disk.crash_lose_all();
    assert_all_there(&mut *open(EngineKind::Bitcask, &disk), 40);
}

fn assert_all_there(engine: &mut dyn Engine, count: u64) {
    for n in 1..=count {
        let found = engine.get(format!("k{n:02}").as_bytes()).unwrap();
        let Lookup::Hit(record) = found else { panic!("k{n:02}: {found:?}") };
        assert_eq!((&record.head[..], record.body.len()), (&b"h"[..], 100), "k{n:02}");
    }
    assert_eq!(engine.stats().records, count);
}

#[test]
fn files_of_a_version_that_nobody_knows_are_refused() {
    for version in [1, 4] {
        let (disk, _) = closed(EngineKind::Bitcask);
        set_version(&disk, &data_files(&disk)[0], version);
        let error = try_open(EngineKind::Bitcask, &disk).err().expect("it is not known");
        assert!(matches!(error, Error::UnknownVersion { found, .. } if found == version));
    }
}

/// A delta is a part of what is checked, and none of what is read.
#[test]
fn a_damaged_delta_is_a_damaged_record() {
    let disk = MemDisk::new();
    let mut engine = open(EngineKind::Bitcask, &disk);
    write(&mut *engine, &[put("only", u64::from_le_bytes(*b"a delta!"))]);
    let Lookup::Hit(record) = engine.get(b"only").unwrap() else { panic!("it is there") };
    assert_eq!((&record.head[..], record.body.len()), (&b"h"[..], 100));
    engine.close().unwrap();
    disk.crash_lose_all();
    let path = data_files(&disk).remove(0);
    let content = disk.content(&path).unwrap();
    let at = content.windows(8).position(|bytes| bytes == b"a delta!").expect("as it was given");
    assert_eq!(content[at + 8..at + 12], *b"only", "the key is behind it");
    assert_eq!(content[at - HEADER + 23] & 16, 16, "it is flagged");
    disk.flip_bit(&path, at as u64, 0);
    let mut engine = open(EngineKind::Bitcask, &disk);
    assert!(matches!(engine.get(b"only"), Err(Error::Corrupt { .. })));
}
