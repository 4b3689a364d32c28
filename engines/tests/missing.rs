//! A data file that is gone, or of which nothing can be read, is named at the next start, whichever it is and however the last
//! life ended, and one that a compaction has removed is not missed.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Scale};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::id::{NodeId, SessionId, SyncId};
use rondo_engines::data_dir::NewIdentity;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::{Fate, Fault, MemDisk, Op};
use rondo_engines::open::{DATA_DIR as DATA, Wanted, open_store};

type Started = Box<dyn Engine>;

/// Starts as a node does. An error is what a node would not start with.
fn start(disk: &MemDisk) -> Result<Started, String> {
    let new = NewIdentity { node: NodeId(1), store: 2, name: "n1".into(), cluster: "c".into() };
    let (kind, scale) = (EngineKind::Bitcask, Scale::Eager(400));
    let wanted = Wanted { kind, scale, new, is_named: true, session: SessionId(1) };
    let opened = open_store(Arc::new(disk.clone()), &wanted);
    opened.map(|store| store.engine).map_err(|error| error.to_string())
}

fn sync(disk: &MemDisk, engine: &mut Started) {
    if engine.start_sync(SyncId(1)).unwrap().is_some() {
        for done in disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
            engine.synced(id, result).unwrap();
        }
    }
}

fn write(disk: &MemDisk, engine: &mut Started, key: &'static str, len: usize) {
    let (key, body) = (Bytes::from(key), [vec![b'x'; len].into()].into_iter().collect());
    let change = Change::Put { head: key.clone(), key, body, delta: 0 };
    engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    sync(disk, engine);
}

/// Background work until there is none, or until the disk fails.
fn maintain(disk: &MemDisk, engine: &mut Started) {
    while let Ok(progress) = engine.maintain(1 << 20) {
        if progress.waits_for.is_some() {
            let Ok(Some(_)) = engine.start_sync(SyncId(1)) else { return };
            for done in disk.run_pending() {
                let DiskDone::Synced { id, result } = done else { panic!("only syncs") };
                let _failed = engine.synced(id, result);
            }
        } else if !progress.more {
            return;
        }
    }
}

fn data_files(disk: &MemDisk) -> Vec<String> {
    let names = disk.list(DATA).unwrap().into_iter();
    names.filter(|name| name.ends_with(".data")).map(|name| format!("{DATA}/{name}")).collect()
}

/// Each file that is there now is named when it is gone at the next start.
fn assert_each_is_missed(disk: &MemDisk, when: &str) {
    start(&disk.fork()).unwrap_or_else(|error| panic!("{when}: {error}"));
    for file in data_files(disk) {
        let without = disk.fork();
        without.remove(&file).unwrap();
        let error = start(&without).err();
        let error = error.unwrap_or_else(|| panic!("{when}: {file} is gone, and nobody said so"));
        assert!(error.contains("gone") && error.contains(&file), "{when}: {error}");
    }
}

/// Nothing of a file can be read, nor of its hint: all its bytes are another file's, or zeroes.
fn wipe(disk: &MemDisk, file: &str, with: u8) {
    for path in [file.to_owned(), file.replace(".data", ".hint")] {
        if let Some(content) = disk.content(&path) {
            let file = disk.open(&path, Open::Existing).unwrap();
            disk.write_at(&file, &[&vec![with; content.len()]], 0).unwrap();
            disk.sync_now(&file).unwrap();
        }
    }
}

/// Of each of these files nothing is left: it is named at the next start, and is still there after it.
fn assert_each_is_not_taken_for_empty(disk: &MemDisk, files: &[String], when: &str) {
    for (file, with) in files.iter().flat_map(|file| [(file, 0), (file, 7)]) {
        let disk = disk.fork();
        wipe(&disk, file, with);
        for _ in 0..2 {
            let error = start(&disk).err();
            let error =
                error.unwrap_or_else(|| panic!("{when}: {file} was dropped without a word"));
            assert!(error.contains(file), "{when}: {error}");
        }
    }
}

/// Lives that all end with a kill.
fn lived(lives: usize) -> MemDisk {
    let disk = MemDisk::new();
    for life in 0..lives {
        let mut engine = start(&disk).unwrap();
        write(&disk, &mut engine, ["a", "b", "c", "d"][life % 4], 100);
        drop(engine);
        disk.crash_lose_all();
    }
    disk
}

#[test]
fn any_file_of_earlier_lives_and_the_one_that_the_last_life_wrote_is_missed() {
    for lives in 1..4 {
        assert_each_is_missed(&lived(lives), &format!("after {lives} lives"));
    }
}

#[test]
fn without_its_whole_directory_a_store_of_one_life_does_not_start() {
    let disk = lived(1);
    for file in disk.list(DATA).unwrap() {
        disk.remove(&format!("{DATA}/{file}")).unwrap();
    }
    assert!(start(&disk).err().is_some_and(|error| error.contains("0000000001.data is missing")));
}

/// A compaction takes the files of earlier lives away, and the power goes at each of its operations.
#[test]
fn what_a_compaction_has_removed_is_not_missed_and_what_it_has_not_is() {
    let mut has_removed = false;
    for at in 0.. {
        let mut was_cut = false;
        for keep in [false, true] {
            let disk = lived(4);
            let before = data_files(&disk);
            let mut engine = start(&disk).unwrap();
            write(&disk, &mut engine, "a", 10);
            write(&disk, &mut engine, "b", 10);
            let from = disk.operations();
            disk.set_fault_hook(move |number, _, _| {
                (number == from + at).then_some(Fault::PowerOff)
            });
            maintain(&disk, &mut engine);
            was_cut |= disk.operations() > from + at;
            drop(engine);
            disk.clear_hooks();
            if keep {
                disk.crash_keep_all();
            } else {
                disk.crash_lose_all();
            }
            let after = data_files(&disk);
            has_removed |= before.iter().any(|file| !after.contains(file));
            start(&disk.fork()).unwrap_or_else(|error| panic!("cut at {at}, kept {keep}: {error}"));
            // What a compaction has noted as gone, and not removed yet, may go.
            let is_noted = |file: &String| disk.content(&file.replace(".data", ".gone")).is_some();
            for file in after.iter().filter(|file| before.contains(file) && !is_noted(file)) {
                let without = disk.fork();
                without.remove(file).unwrap();
                let error = start(&without).err();
                assert!(error.is_some_and(|error| error.contains(file)), "cut at {at}: {file}");
            }
        }
        if !was_cut {
            break;
        }
    }
    assert!(has_removed, "a compaction has removed files of the list");
}

#[test]
fn the_notes_of_a_compaction_go_when_the_directory_has_listed_its_files_anew() {
    let disk = lived(4);
    let mut engine = start(&disk).unwrap();
    write(&disk, &mut engine, "a", 10);
    maintain(&disk, &mut engine);
    drop(engine);
    disk.crash_lose_all();
    let notes = |disk: &MemDisk| {
        disk.list(DATA).unwrap().into_iter().filter(|name| name.ends_with(".gone")).count()
    };
    assert!(notes(&disk) > 0);
    drop(start(&disk).unwrap());
    assert_eq!(notes(&disk), 0);
    assert_each_is_missed(&disk, "after the compaction");
}

#[test]
fn files_that_the_last_life_has_made_are_missed_logs_and_compacted_ones() {
    let disk = lived(1);
    let mut engine = start(&disk).unwrap();
    let first = data_files(&disk);
    for key in ["p", "q", "p", "q", "p", "q"] {
        write(&disk, &mut engine, key, 120);
        maintain(&disk, &mut engine);
    }
    drop(engine);
    disk.kill();
    let made = data_files(&disk).into_iter().filter(|file| !first.contains(file)).count();
    let compacted =
        disk.list(DATA).unwrap().into_iter().filter(|name| name.ends_with(".gone")).count();
    assert!(made > 1 && compacted > 0, "{:?}", disk.list(DATA));
    assert_each_is_missed(&disk, "after rotations and compactions");
    assert_each_is_not_taken_for_empty(
        &disk,
        &data_files(&disk),
        "after rotations and compactions",
    );
    // The directory has listed them, and has removed their notes.
    let listed = data_files(&disk);
    drop(start(&disk).unwrap());
    let there = |name: &str| disk.list(DATA).unwrap().iter().any(|other| other.ends_with(name));
    assert!(!there(".made") && !there(".gone"), "{:?}", disk.list(DATA));
    assert_each_is_not_taken_for_empty(&disk, &listed, "after a start");
}

#[test]
fn of_a_closed_store_no_file_is_taken_for_empty() {
    let disk = lived(3);
    let mut engine = start(&disk).unwrap();
    write(&disk, &mut engine, "p", 120);
    engine.close().unwrap();
    drop(engine);
    disk.crash_lose_all();
    drop(start(&disk).unwrap());
    assert_each_is_not_taken_for_empty(&disk, &data_files(&disk)[..4], "closed, and started again");
}

/// A power loss may leave a name with nothing behind it, and a life without writes leaves a header or a mark.
#[test]
fn a_file_in_which_nothing_was_durable_is_dropped_as_ever() {
    let disk = MemDisk::new();
    let mut engine = start(&disk).unwrap();
    write(&disk, &mut engine, "a", 10);
    let (key, body) = (Bytes::from("b"), [vec![b'x'; 500].into()].into_iter().collect());
    let change = Change::Put { head: key.clone(), key, body, delta: 0 };
    engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    drop(engine);
    disk.crash(&mut |point| match point.op {
        Op::Create => Fate::Kept,
        _ => Fate::Lost,
    });
    assert_eq!(
        data_files(&disk).len(),
        2,
        "the name of a second log has survived, and nothing in it"
    );
    for _ in 0..3 {
        drop(start(&disk).unwrap());
        assert!(data_files(&disk).len() <= 2, "{:?}", data_files(&disk));
    }
}
