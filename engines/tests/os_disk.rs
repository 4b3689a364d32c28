//! The real disk, in a temporary directory.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rondo_core::engine::{Batch, Change, Engine, Lookup};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::id::{ReadId, SyncId};
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::os_disk::OsDisk;
use tempfile::TempDir;

fn disk() -> (TempDir, OsDisk, Receiver<DiskDone>) {
    let dir = tempfile::tempdir().unwrap();
    let (send, done) = channel();
    let send = Mutex::new(send);
    let disk = OsDisk::open(
        &dir.path().join("data"),
        Arc::new(move |d| drop(send.lock().unwrap().send(d))),
    );
    (dir, disk.unwrap(), done)
}

#[test]
fn files_are_what_was_written() {
    let (_dir, disk, done) = disk();
    disk.create_dir("a/b").unwrap();
    let file = disk.open("a/b/f", Open::New).unwrap();
    assert!(disk.open("a/b/f", Open::New).is_err());
    disk.allocate(&file, 4096).unwrap();
    disk.write_at(&file, &[b"", b"one ", b"", b"two"], 10).unwrap();
    disk.write_at(&file, &[], 0).unwrap();
    let mut buf = [1; 20];
    assert_eq!(disk.read_at(&file, &mut buf, 8).unwrap(), 20);
    assert_eq!(&buf, b"\0\0one two\0\0\0\0\0\0\0\0\0\0\0");
    disk.set_len(&file, 17).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 17);
    assert_eq!(disk.read_at(&file, &mut buf, 14).unwrap(), 3);
    assert!(matches!(disk.try_read_at(&file, &mut buf, 14).unwrap(), Some(3) | None));
    let many = vec![&b"xy"[..]; 3000];
    disk.write_at(&file, &many, 17).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 6017);
    disk.sync_now(&file).unwrap();
    disk.link("a/b/f", "a/g").unwrap();
    disk.rename("a/g", "a/h").unwrap();
    disk.remove("a/b/f").unwrap();
    disk.sync_dir("a").unwrap();
    assert_eq!(disk.list("a").unwrap(), ["b", "h"]);
    assert!(disk.list("none").unwrap().is_empty());

    let wait = || done.recv_timeout(Duration::from_secs(60)).unwrap();
    disk.start_sync(SyncId(4), vec![file.clone()], Vec::new());
    assert!(matches!(wait(), DiskDone::Synced { id: SyncId(4), result: Ok(()) }));
    disk.start_read(ReadId(5), &file, 10, 7);
    match wait() {
        DiskDone::Read { id: ReadId(5), result: Ok(bytes) } => assert_eq!(&bytes[..], b"one two"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_path_leaves_the_directory() {
    let (_dir, disk, _done) = disk();
    for path in ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "a\0b"] {
        let error = disk.open(path, Open::New).unwrap_err();
        assert!(error.to_string().contains("no path below the data directory"), "{error}");
        assert!(disk.remove(path).is_err() && disk.create_dir(path).is_err());
    }
}

#[test]
fn one_process_owns_a_directory() {
    let (dir, disk, _done) = disk();
    disk.lock().unwrap();
    let root = dir.path().join("data");
    let other = OsDisk::open(&root, Arc::new(|_| {})).unwrap();
    let error = other.lock().unwrap_err().to_string();
    assert!(error.contains(&*disk.root().to_string_lossy()), "{error}");
    assert!(error.contains("stop that one, or give this node a directory of its own"), "{error}");
    drop(disk);
    other.lock().unwrap();
}

#[test]
fn bitcask_lives_on_it() {
    let (_dir, disk, done) = disk();
    let disk = Arc::new(disk);
    let open = || Bitcask::open(Arc::clone(&disk), "store", Options::new(1)).unwrap();
    let (mut engine, _) = open();
    let key = bytes::Bytes::from_static(b"key");
    let change = Change::Put {
        key: key.clone(),
        head: key.clone(),
        body: [key.clone()].into_iter().collect(),
        delta: 0,
    };
    let lsn = engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    assert_eq!(engine.start_sync(SyncId(1)).unwrap(), Some(lsn));
    let DiskDone::Synced { id, result } = done.recv_timeout(Duration::from_secs(60)).unwrap()
    else {
        panic!("a sync was started");
    };
    assert_eq!(engine.synced(id, result).unwrap(), lsn);
    drop(engine);
    let (mut engine, opened) = open();
    assert!(opened.lost.is_empty());
    // A record just written is in the page cache, unless the machine is very busy.
    assert!(matches!(engine.get(b"key").unwrap(), Lookup::Hit(_) | Lookup::Cold(_)));
    engine.close().unwrap();
}
