//! Bits flip at rest in an LSM store: each key has its value, or an error, or the loss has been reported. Nothing else is served, nothing
//! is missing in silence, and what cannot be read can be deleted.

use std::collections::BTreeMap;

use bytes::Bytes;
use rondo_core::engine::{Engine, Lookup, Record};
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

use crate::pair::{Pair, Snapshot, maintain_all};
use crate::subject::{How, open};
use crate::workload::{KEYS, Step, busy_workload, key};

const LSM: How = How::Any(EngineKind::Lsm);

/// A store with tables on several levels and a log, and its state after each write. `is_closed`: nothing is in the log alone.
fn lived(is_closed: bool) -> (MemDisk, Vec<Snapshot>) {
    let disk = MemDisk::new();
    let mut pair = Pair::new(disk.clone(), LSM).unwrap();
    let steps = busy_workload();
    for step in &steps {
        pair.step(step).unwrap();
    }
    disk.forbid_waiting(false);
    maintain_all(&disk, &mut *pair.engine);
    for step in &steps[..9] {
        pair.step(step).unwrap();
    }
    // Two syncs, so that a mark names what the first has made durable.
    for _ in 0..2 {
        pair.step(&Step::Write(vec![(1, Some(90)), (2, None)])).unwrap();
        pair.step(&Step::EndSync).unwrap();
        pair.step(&Step::StartSync).unwrap();
        pair.step(&Step::EndSync).unwrap();
    }
    disk.forbid_waiting(false);
    if is_closed {
        pair.engine.close().unwrap();
    }
    disk.crash_lose_all();
    (disk, pair.history)
}

/// What a key has; `None` when that cannot be read.
type Found = BTreeMap<Bytes, Option<Option<(Bytes, Bytes)>>>;

fn by_get(engine: &mut dyn Engine) -> Found {
    let value = |record: Record| Some((record.head, record.body));
    let found = |n| match engine.get(&key(n)) {
        Ok(Lookup::Hit(record)) => (key(n), Some(value(record))),
        Ok(Lookup::Miss) => (key(n), Some(None)),
        Err(Error::Corrupt { .. }) => (key(n), None),
        other => panic!("{other:?}"),
    };
    (0..KEYS).map(found).collect()
}

/// The same, as a scan tells it to whoever goes on behind a key that cannot be read.
fn by_scan(engine: &mut dyn Engine) -> Found {
    let mut found: Found = (0..KEYS).map(|n| (key(n), Some(None))).collect();
    let mut from = Bytes::new();
    for _ in 0..100 {
        let page = match engine.scan_from(&from, 3, 1 << 20) {
            Ok(page) => page,
            Err(Error::Corrupt { .. }) => {
                found.insert(from.clone(), None);
                from = [&from[..], &[0]].concat().into();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for (key, record) in page.records {
            found.insert(key, Some(Some((record.head, record.body))));
        }
        match page.next {
            Some(next) => from = next,
            None => return found,
        }
    }
    panic!("a scan does not end");
}

/// Looks at a damaged store; answers how many keys could not be read, or `None` when it has said that something is lost.
fn look(disk: &MemDisk, history: &[Snapshot], what: &str) -> Option<usize> {
    let (mut engine, opened) = open(disk, LSM).unwrap();
    if !opened.lost.is_empty() {
        return None;
    }
    let expected = &history[opened.last.0 as usize];
    let mut unreadable = 0;
    for round in 0..2 {
        let (got, scanned) = (by_get(&mut *engine), by_scan(&mut *engine));
        assert_eq!(got, scanned, "{what}: a scan and gets differ");
        for (key, found) in &got {
            if let Some(found) = found {
                assert_eq!(found.as_ref(), expected.get(key), "{what}: {key:?}");
            }
        }
        unreadable = got.values().filter(|found| found.is_none()).count();
        if round == 0 {
            maintain_all(disk, &mut *engine);
        }
    }
    let mut from = Some(Bytes::new());
    while let Some(at) = from {
        from = engine.delete_range(&at, b"z", 5).unwrap().next;
    }
    assert!(by_get(&mut *engine).values().all(|found| *found == Some(None)), "{what}: deleted");
    engine.close().unwrap();
    Some(unreadable)
}

fn flip_everywhere(is_closed: bool, step: usize) {
    let (disk, history) = lived(is_closed);
    let names = disk.list("store").unwrap();
    assert!(names.iter().filter(|name| name.ends_with(".table")).count() > 2, "{names:?}");
    let (mut unreadable, mut lost, mut harmless) = (0, 0, 0);
    for name in &names {
        let path = format!("store/{name}");
        let len = disk.content(&path).unwrap().len();
        for byte in (0..len).step_by(if name.ends_with(".list") { 61 } else { step }) {
            let disk = disk.fork();
            disk.flip_bit(&path, byte as u64, (byte % 8) as u8);
            match look(&disk, &history, &format!("{path} at {byte}")) {
                None => {
                    lost += 1;
                    assert!(name.ends_with(".data") && !is_closed, "{path} at {byte} is lost");
                }
                Some(0) => harmless += 1,
                Some(keys) => unreadable += usize::from(keys > 0),
            }
        }
    }
    assert!(unreadable > 50 && harmless > 50, "{unreadable} {lost} {harmless}");
    assert!(is_closed || lost > 0, "{lost}");
}

#[test]
fn a_flipped_bit_in_a_closed_store_loses_no_name() {
    flip_everywhere(true, 3);
}

#[test]
fn a_flipped_bit_in_a_store_that_was_killed_is_noticed() {
    flip_everywhere(false, 3);
}

/// Whole sectors read as zeroes, or as what lies elsewhere in the same file.
#[test]
fn a_sector_of_another_place_is_not_believed() {
    let (disk, history) = lived(true);
    let mut tried = 0;
    for name in disk.list("store").unwrap() {
        let path = format!("store/{name}");
        let content = disk.content(&path).unwrap();
        for to in (0..content.len()).step_by(512) {
            for from in [None, Some(0), Some(512)] {
                let disk = disk.fork();
                let len = 512.min(content.len() - to);
                let bytes = match from {
                    None => vec![0; len],
                    Some(from) if from != to && from + len <= content.len() => {
                        content[from..from + len].to_vec()
                    }
                    Some(_) => continue,
                };
                let file = disk.open(&path, rondo_core::env::Open::Existing).unwrap();
                disk.write_at(&file, &[&bytes], to as u64).unwrap();
                disk.sync_now(&file).unwrap();
                look(&disk, &history, &format!("{path} at {to} from {from:?}"));
                tried += 1;
            }
        }
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn a_table_or_a_list_that_is_gone_is_a_loss() {
    let (whole, history) = lived(true);
    for name in whole.list("store").unwrap() {
        for is_cut in [false, true] {
            let disk = whole.fork();
            let path = format!("store/{name}");
            if is_cut {
                let file = disk.open(&path, rondo_core::env::Open::Existing).unwrap();
                let len = disk.len(&file).unwrap();
                disk.set_len(&file, len / 2).unwrap();
                disk.sync_now(&file).unwrap();
            } else {
                disk.remove(&path).unwrap();
            }
            let is_lost = look(&disk, &history, &path).is_none();
            // Of a list half is a whole copy, and of a table it may be all blocks; logs of a closed store are only there to be
            // told once more.
            let is_named = name.ends_with(".table") || name.ends_with(".list");
            let is_needed = is_named && !is_cut;
            assert!(is_lost == is_needed || is_cut && name.ends_with(".table"), "{path}, {is_cut}");
        }
    }
}
