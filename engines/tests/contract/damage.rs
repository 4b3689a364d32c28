//! Bits flip at rest: damaged bytes are never served, what is lost is reported, and the rest is there.

use rondo_core::engine::Lookup;
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_engines::bitcask::Options;
use rondo_engines::mem_disk::MemDisk;

use crate::pair::{Pair, Snapshot, snapshot};
use crate::subject::{BITCASK, How, open, tiny};
use crate::workload::{KEYS, Step, busy_workload, key};

/// A closed store, and what it holds.
fn closed_store() -> (MemDisk, Snapshot) {
    let disk = MemDisk::new();
    let mut pair = Pair::new(disk.clone(), BITCASK).unwrap();
    for step in &busy_workload()[..40] {
        pair.step(step).unwrap();
    }
    pair.disk.forbid_waiting(false);
    pair.engine.close().unwrap();
    (disk, pair.history.pop().unwrap())
}

/// One flipped bit: each key has its value, or an error, or the loss has been reported.
fn check_flipped(path: &str, byte: u64, with_hints: bool) {
    let (disk, expected) = closed_store();
    disk.flip_bit(path, byte, (byte % 8) as u8);
    if !with_hints {
        for name in disk.list("store").unwrap().iter().filter(|name| name.ends_with("hint")) {
            disk.remove(&format!("store/{name}")).unwrap();
        }
    }
    let (mut engine, opened) = open(&disk, BITCASK).unwrap();
    for round in 0..2 {
        for n in 0..KEYS {
            match engine.get(&key(n)) {
                Ok(Lookup::Hit(record)) if opened.lost.is_empty() => {
                    let (head, body) = &expected[&key(n)];
                    assert_eq!((&record.head, &record.body), (head, body), "{path} at {byte}");
                }
                // Something is lost, and said so: an older version may show, never a broken one.
                Ok(Lookup::Hit(record)) => {
                    assert!(record.head.starts_with(b"head "), "{path} at {byte}");
                    assert!(record.body.ends_with(&record.body[record.body.len() - 1..]));
                }
                Ok(Lookup::Miss) => {
                    let gone = !expected.contains_key(&key(n)) || !opened.lost.is_empty();
                    assert!(gone, "{path} at {byte}: {:?} is missing in silence", key(n));
                }
                Err(Error::Corrupt { .. }) => assert!(path.ends_with("data")),
                other => panic!("{other:?}"),
            }
        }
        if round == 0 {
            // A compaction meets the damage too, and must keep what it cannot read.
            for _ in 0..200 {
                engine.maintain(1 << 20).unwrap();
            }
        }
    }
    if path.ends_with("hint") {
        assert_eq!(opened.lost, [], "hints can always be made anew");
        assert_eq!(snapshot(&mut *engine).unwrap(), expected);
    }
}

#[test]
fn a_flipped_bit_is_never_served() {
    let (disk, _) = closed_store();
    for name in disk.list("store").unwrap() {
        let path = format!("store/{name}");
        let len = disk.content(&path).unwrap().len() as u64;
        let step = if name.ends_with("hint") { 61 } else { 3 };
        for byte in (0..len).step_by(step) {
            check_flipped(&path, byte, true);
            if name.ends_with("data") {
                check_flipped(&path, byte, false);
            }
        }
    }
}

#[test]
fn damage_in_the_middle_is_reported_and_the_rest_is_there() {
    let disk = MemDisk::new();
    let how = How::Bitcask(Options { file_bytes_max: 1 << 20, ..tiny() });
    let mut pair = Pair::new(disk.clone(), how).unwrap();
    for n in 0..6 {
        pair.step(&Step::Write(vec![(n, Some(100))])).unwrap();
    }
    pair.disk.forbid_waiting(false);
    pair.engine.close().unwrap();
    disk.remove("store/0000000001.hint").unwrap();
    let at = disk.content("store/0000000001.data").unwrap();
    let at = at.windows(4).position(|w| w == b"3:2:").unwrap() as u64;
    // In the head, which lies before the value: nobody knows whose it was.
    disk.flip_bit("store/0000000001.data", at - 1, 0);
    for _ in 0..2 {
        let (mut engine, opened) = open(&disk, how).unwrap();
        assert_eq!(opened.lost.len(), 1, "{:?}", opened.lost);
        assert_eq!(opened.lost[0].file, "store/0000000001.data");
        assert_eq!(opened.lost[0].what, "write 3 is damaged or missing");
        assert_eq!(snapshot(&mut *engine).unwrap().len(), 5);
        assert_eq!(engine.get(&key(2)).unwrap(), Lookup::Miss);
        disk.kill();
    }
}
