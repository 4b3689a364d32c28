//! Records that are damaged and whose keys are known: a store opens with them, tells whose they are, and answers an error for each
//! until it is written over. What nobody knows by name is a loss, and a loss is no store.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opened};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::error::Error;
use rondo_core::id::SyncId;
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::mem_disk::MemDisk;

/// The length of a value in bytes.
const BODY: usize = 300;

type Store = Bitcask<MemDisk>;

fn open(disk: &MemDisk) -> (Store, Opened) {
    let options = Options {
        file_bytes_max: 8_000,
        compact_dead_percent: 10,
        compact_dead_bytes_min: 0,
        ..Options::new(7)
    };
    Bitcask::open(Arc::new(disk.clone()), "store", options).unwrap()
}

fn sync(disk: &MemDisk, engine: &mut Store) {
    if engine.start_sync(SyncId(1)).unwrap().is_some() {
        for done in disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
            engine.synced(id, result).unwrap();
        }
    }
}

/// Writes a value that says whose it is, and which, and makes it durable.
fn put(disk: &MemDisk, engine: &mut Store, key: &'static str, serial: u8) {
    let mut body = format!("{key}:{serial}:").into_bytes();
    body.resize(BODY, b'x');
    let (key, body) = (Bytes::from(key), [body.into()].into_iter().collect());
    let change = Change::Put { head: key.clone(), key, body, delta: 0 };
    engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    sync(disk, engine);
}

fn delete(disk: &MemDisk, engine: &mut Store, key: &'static str) {
    let change = Change::Delete { key: Bytes::from(key), delta: 0 };
    engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    sync(disk, engine);
}

/// Which value of a key is there; `None` when the key is absent.
fn serial(engine: &mut Store, key: &str) -> Result<Option<u8>, Error> {
    Ok(match engine.get(key.as_bytes())? {
        Lookup::Hit(record) => Some(record.body[key.len() + 1] - b'0'),
        Lookup::Miss => None,
        Lookup::Cold(_) => panic!("nothing is cold here"),
    })
}

fn is_unreadable(engine: &mut Store, key: &str) -> bool {
    matches!(serial(engine, key), Err(Error::Corrupt { .. }))
}

fn maintain(disk: &MemDisk, engine: &mut Store) {
    loop {
        let progress = engine.maintain(1 << 20).unwrap();
        match progress.waits_for {
            Some(_) => sync(disk, engine),
            None if progress.more => {}
            None => return,
        }
    }
}

fn files(disk: &MemDisk, kind: &str) -> Vec<String> {
    let names = disk.list("store").unwrap().into_iter().filter(|name| name.ends_with(kind));
    names.map(|name| format!("store/{name}")).collect()
}

/// The file in which this value lies, and where.
fn find(disk: &MemDisk, value: &str) -> (String, u64) {
    let at = |path: &String| {
        let content = disk.content(path).unwrap();
        content.windows(value.len()).position(|bytes| bytes == value.as_bytes())
    };
    let found = files(disk, ".data").into_iter().find_map(|path| Some((at(&path)? as u64, path)));
    let (at, path) = found.unwrap_or_else(|| panic!("{value} is in no file"));
    (path, at)
}

/// Bytes of another place lie over the start of a file.
fn cover_start(disk: &MemDisk, path: &str, len: usize) {
    let file = disk.open(path, Open::Existing).unwrap();
    disk.write_at(&file, &[&vec![7; len]], 0).unwrap();
    disk.sync_now(&file).unwrap();
}

#[test]
fn a_value_that_rots_in_a_file_without_a_hint_is_unreadable_and_the_rest_is_there() {
    let disk = MemDisk::new();
    let mut engine = open(&disk).0;
    for (key, n) in [("a", 1), ("b", 1), ("b", 2), ("c", 1), ("d", 1)] {
        put(&disk, &mut engine, key, n);
    }
    drop(engine);
    disk.crash_lose_all();
    assert_eq!(files(&disk, ".hint"), [""; 0]);
    let (path, at) = find(&disk, "b:2");
    disk.flip_bit(&path, at + 100, 3);
    for _ in 0..2 {
        let (mut engine, opened) = open(&disk);
        assert_eq!((opened.lost, opened.last.0), (Vec::new(), 5));
        assert!(is_unreadable(&mut engine, "b"), "neither absent nor what it was before");
        for key in ["a", "c", "d"] {
            assert_eq!(serial(&mut engine, key).unwrap(), Some(1), "{key}");
        }
        drop(engine);
        // Once from the file itself, and once from the hint that the start has written.
        disk.crash_lose_all();
    }
    let (mut engine, _) = open(&disk);
    put(&disk, &mut engine, "b", 3);
    maintain(&disk, &mut engine);
    assert_eq!(disk.content(&path), None, "nothing holds its compaction up");
    assert_eq!(serial(&mut engine, "b").unwrap(), Some(3));
}

#[test]
fn a_start_tells_of_what_is_alive_and_of_nothing_else() {
    let disk = MemDisk::new();
    let mut engine = open(&disk).0;
    for (key, n) in [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("d", 1)] {
        put(&disk, &mut engine, key, n);
    }
    delete(&disk, &mut engine, "c");
    put(&disk, &mut engine, "e", 1);
    drop(engine);
    disk.crash_lose_all();
    for value in ["a:1", "b:1", "c:1"] {
        let (path, at) = find(&disk, value);
        disk.flip_bit(&path, at + 9, 0);
    }
    let (mut engine, opened) = open(&disk);
    assert_eq!(opened.lost, []);
    assert_eq!(engine.take_damaged(), [Bytes::from("b")]);
    assert!(engine.take_damaged().is_empty(), "each is told once");
    assert_eq!(serial(&mut engine, "a").unwrap(), Some(2));
    assert_eq!(serial(&mut engine, "c").unwrap(), None);
    assert_eq!(engine.stats().damaged, 1);
}

#[test]
fn damage_in_a_head_without_a_hint_is_a_loss() {
    let disk = MemDisk::new();
    let mut engine = open(&disk).0;
    for key in ["a", "b", "c", "d"] {
        put(&disk, &mut engine, key, 1);
    }
    drop(engine);
    disk.crash_lose_all();
    let (path, at) = find(&disk, "b:1");
    // The head, which is the key, lies right before the value.
    disk.flip_bit(&path, at - 1, 3);
    let (_, opened) = open(&disk);
    assert!(opened.lost.iter().any(|lost| lost.what.contains("write 2")), "{:?}", opened.lost);
}

/// A store of four keys that was closed.
fn closed_with_four() -> MemDisk {
    let disk = MemDisk::new();
    let mut engine = open(&disk).0;
    for key in ["a", "b", "c", "d"] {
        put(&disk, &mut engine, key, 1);
    }
    engine.close().unwrap();
    drop(engine);
    disk.crash_lose_all();
    disk
}

/// What went astray onto the start of a file has taken its header and its first records.
#[test]
fn what_a_hint_knows_is_unreadable_when_the_start_of_its_file_is_gone() {
    let disk = closed_with_four();
    let (path, at) = find(&disk, "b:1");
    cover_start(&disk, &path, at as usize + 5);
    assert_unreadable_and_mended(&disk, &path, &["a", "b"], &["c", "d"]);
}

#[test]
fn a_compacted_file_is_no_log_when_its_start_or_all_of_it_is_gone() {
    for is_all in [false, true] {
        let disk = MemDisk::new();
        let mut engine = open(&disk).0;
        put(&disk, &mut engine, "a", 1);
        put(&disk, &mut engine, "c", 1);
        (1..=30).for_each(|n| put(&disk, &mut engine, "b", n % 10));
        maintain(&disk, &mut engine);
        put(&disk, &mut engine, "d", 1);
        engine.close().unwrap();
        drop(engine);
        disk.crash_lose_all();
        let compacted = |path: &String| disk.content(path).unwrap()[8] == 2;
        let path = files(&disk, ".data").into_iter().find(compacted).expect("a compaction has run");
        assert_eq!(find(&disk, "c:1").0, path);
        let len = disk.content(&path).unwrap().len();
        cover_start(&disk, &path, if is_all { len } else { 60 });
        let (gone, there): (&[_], &[_]) =
            if is_all { (&["a", "c"], &["d"]) } else { (&["a"], &["c", "d"]) };
        assert_unreadable_and_mended(&disk, &path, gone, there);
    }
}

/// `gone` can be told, and not read; `there` can be read; and all is well when `gone` has been written over.
fn assert_unreadable_and_mended(disk: &MemDisk, path: &str, gone: &[&'static str], there: &[&str]) {
    for _ in 0..2 {
        let (mut engine, opened) = open(disk);
        assert_eq!(opened.lost, []);
        assert_eq!(
            engine.take_damaged(),
            gone.iter().map(|key| Bytes::from(*key)).collect::<Vec<_>>()
        );
        assert!(gone.iter().all(|key| is_unreadable(&mut engine, key)));
        assert!(there.iter().all(|key| serial(&mut engine, key).unwrap() == Some(1)));
        drop(engine);
        disk.crash_lose_all();
    }
    let (mut engine, _) = open(disk);
    gone.iter().for_each(|key| put(disk, &mut engine, key, 2));
    maintain(disk, &mut engine);
    assert_eq!(disk.content(path), None, "nothing holds its compaction up");
    drop(engine);
    disk.crash_lose_all();
    let (mut engine, opened) = open(disk);
    assert_eq!((opened.lost, engine.take_damaged()), (Vec::new(), Vec::new()));
    assert!(gone.iter().all(|key| serial(&mut engine, key).unwrap() == Some(2)));
    assert!(there.iter().all(|key| serial(&mut engine, key).unwrap() == Some(1)));
}

/// Without a hint nobody knows what stood there.
#[test]
fn the_start_of_a_file_without_a_hint_is_a_loss() {
    let disk = closed_with_four();
    let (path, at) = find(&disk, "b:1");
    disk.remove(&path.replace(".data", ".hint")).unwrap();
    cover_start(&disk, &path, at as usize + 5);
    assert_ne!(open(&disk).1.lost, []);
}
