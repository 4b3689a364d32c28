//! What a crash does to the disk in memory: each promise of its head comment has a story here.

use std::io;

use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::id::{ReadId, SyncId};
use rondo_engines::mem_disk::{Fate, Fault, MemDisk, MemFile, Op};

/// A disk with one durable name and no content behind it.
fn disk_with_file() -> (MemDisk, MemFile) {
    let disk = MemDisk::new();
    let file = disk.open("a", Open::New).unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

fn content(disk: &MemDisk, path: &str) -> String {
    String::from_utf8(disk.content(path).unwrap()).unwrap().replace('\0', "_")
}

#[test]
fn what_is_not_synced_is_lost() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"saf", b"e"], 0).unwrap();
    disk.sync_now(&file).unwrap();
    disk.write_at(&file, &[b"gone"], 4).unwrap();
    assert_eq!(content(&disk, "a"), "safegone");
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "safe");
}

#[test]
fn write_back_happens_in_any_order() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"one"], 0).unwrap();
    disk.write_at(&file, &[b"two"], 3).unwrap();
    disk.crash(&mut |point| {
        if point.index == 1 { Fate::Kept } else { Fate::Lost }
    });
    assert_eq!(content(&disk, "a"), "___two");
}

#[test]
fn a_torn_write_ends_at_a_sector() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[&[b'x'; 1200]], 100).unwrap();
    disk.crash(&mut |_| Fate::Torn(2));
    assert_eq!(disk.content("a").unwrap().len(), 1024);

    let file = disk.open("a", Open::Existing).unwrap();
    disk.write_at(&file, &[&[b'y'; 2048]], 0).unwrap();
    disk.crash(&mut |_| Fate::Sectors(0b1010));
    let found: Vec<u8> = disk.content("a").unwrap().chunks(512).map(|part| part[200]).collect();
    assert_eq!(found, [b'x', b'y', 0, b'y'], "sectors 1 and 3 are new, the length is");
}

#[test]
fn lengths_are_lost_apart_from_content() {
    let (disk, file) = disk_with_file();
    disk.allocate(&file, 8).unwrap();
    disk.write_at(&file, &[b"ab"], 0).unwrap();
    disk.set_len(&file, 4).unwrap();
    assert_eq!(content(&disk, "a"), "ab__");
    disk.crash(&mut |point| {
        if point.op == Op::SetLen(4) { Fate::Lost } else { Fate::Kept }
    });
    assert_eq!(content(&disk, "a"), "ab______");
}

#[test]
fn names_are_lost_apart_from_content() {
    let disk = MemDisk::new();
    disk.create_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    let file = disk.open("d/new", Open::New).unwrap();
    disk.write_at(&file, &[b"synced"], 0).unwrap();
    disk.sync_now(&file).unwrap();
    disk.rename("d/new", "d/old").unwrap();
    disk.crash(&mut |point| {
        if point.op == Op::Create { Fate::Kept } else { Fate::Lost }
    });
    assert_eq!(disk.list("d").unwrap(), ["new"], "the rename is lost, the first name is not");
    assert_eq!(content(&disk, "d/new"), "synced");
    disk.link("d/new", "d/again").unwrap();
    disk.remove("d/new").unwrap();
    disk.sync_dir("d").unwrap();
    disk.crash_lose_all();
    assert_eq!(disk.list("d").unwrap(), ["again"]);
    assert_eq!(content(&disk, "d/again"), "synced");
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let disk = MemDisk::new();
    disk.create_dir("d/e").unwrap();
    let _file = disk.open("d/e/f", Open::New).unwrap();
    disk.sync_dir("d/e").unwrap();
    disk.sync_dir("d").unwrap();
    disk.crash_lose_all();
    assert_eq!(disk.list("").unwrap(), Vec::<String>::new());
    assert!(disk.open("d/e/f", Open::Existing).is_err());
}

#[test]
fn a_sync_covers_what_was_written_before_its_start() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"before"], 0).unwrap();
    disk.start_sync(SyncId(7), vec![file.clone()], Vec::new());
    disk.write_at(&file, &[b"after"], 6).unwrap();
    let pending = disk.take_pending().pop().unwrap();
    assert!(pending.is_sync() && pending.files() == 1);
    match disk.complete(pending) {
        DiskDone::Synced { id: SyncId(7), result: Ok(()) } => {}
        other => panic!("{other:?}"),
    }
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "before");
}

#[test]
fn a_sync_that_has_not_ended_promises_nothing() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"before"], 0).unwrap();
    disk.start_sync(SyncId(7), vec![file], Vec::new());
    let pending = disk.take_pending().pop().unwrap();
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "");
    match disk.complete(pending) {
        DiskDone::Synced { result: Err(error), .. } => assert!(error.to_string().contains("stale")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_failed_sync_a_second_one_covers_nothing_of_the_first() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"first"], 0).unwrap();
    disk.set_fault_hook(|_, _, op| (*op == Op::Sync).then_some(Fault::Fail(io::ErrorKind::Other)));
    disk.sync_now(&file).unwrap_err();
    disk.clear_hooks();
    disk.write_at(&file, &[b"second"], 5).unwrap();
    disk.sync_now(&file).unwrap();
    assert_eq!(disk.unsynced_count(), 1);
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "_____second");
}

#[test]
fn a_started_sync_can_be_made_to_fail() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"first"], 0).unwrap();
    disk.start_sync(SyncId(1), vec![file.clone()], Vec::new());
    let done = disk.fail(disk.take_pending().pop().unwrap(), io::ErrorKind::Other);
    assert!(matches!(done, DiskDone::Synced { result: Err(_), .. }));
    disk.sync_now(&file).unwrap();
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "");
}

#[test]
fn open_files_end_with_a_crash_or_a_kill_but_only_a_crash_loses() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"page cache"], 0).unwrap();
    disk.kill();
    assert!(disk.len(&file).unwrap_err().to_string().contains("stale incarnation"));
    assert_eq!(content(&disk, "a"), "page cache");
    let again = disk.open("a", Open::Existing).unwrap();
    assert_eq!(disk.len(&again).unwrap(), 10);
    disk.crash_lose_all();
    assert!(disk.len(&again).is_err());
    assert_eq!(content(&disk, "a"), "");
}

#[test]
fn the_power_can_go_before_any_operation() {
    let (disk, file) = disk_with_file();
    let next = disk.operations();
    disk.set_fault_hook(move |number, _, _| (number == next + 1).then_some(Fault::PowerOff));
    disk.write_at(&file, &[b"in the cache"], 0).unwrap();
    disk.sync_now(&file).unwrap_err();
    disk.sync_now(&file).unwrap_err();
    disk.clear_hooks();
    disk.len(&file).unwrap_err();
    disk.crash_keep_prefix(1);
    assert_eq!(content(&disk, "a"), "in the cache");
    disk.open("a", Open::Existing).unwrap();
}

#[test]
fn a_write_can_be_cut_short() {
    let (disk, file) = disk_with_file();
    disk.set_fault_hook(|_, path, op| {
        assert_eq!(path, "a");
        assert_eq!(*op, Op::Write { offset: 0, len: 4 });
        Some(Fault::Cut(2, io::ErrorKind::StorageFull))
    });
    let error = disk.write_at(&file, &[b"full"], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a"), "fu");
}

#[test]
fn cold_reads_are_decided_by_the_caller() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"warm and cold"], 0).unwrap();
    disk.set_cold_hook(|_, offset, _| offset > 5);
    let mut buf = [0; 4];
    assert_eq!(disk.try_read_at(&file, &mut buf, 0).unwrap(), Some(4));
    assert_eq!(disk.try_read_at(&file, &mut buf, 9).unwrap(), None);
    disk.start_read(ReadId(3), &file, 9, 100);
    match disk.run_pending().pop().unwrap() {
        DiskDone::Read { id: ReadId(3), result: Ok(bytes) } => assert_eq!(&bytes[..], b"cold"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"x"], 0).unwrap();
    disk.remove("a").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.len(&file).unwrap(), 1);
    assert_eq!(disk.open("a", Open::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_flipped_bit_is_there_before_and_after_a_crash() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"a"], 0).unwrap();
    disk.sync_now(&file).unwrap();
    disk.flip_bit("a", 0, 1);
    assert_eq!(content(&disk, "a"), "c");
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "c");
}

#[test]
fn wrong_names_are_errors() {
    let (disk, _file) = disk_with_file();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(disk.open("a", Open::New).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("no/a", Open::New).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open("a/b", Open::New).map(drop)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename("no", "b")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("no")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.link("a", "a")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.sync_dir("no")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create_dir("a/b")), io::ErrorKind::NotADirectory);
    assert!(disk.list("no").unwrap().is_empty());
}

/// Numbers under what is asked.
fn dice(mut bits: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (bits >> 33) % n
    }
}

#[test]
fn pages_are_lost_as_a_whole() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[&[b'x'; 12_288]], 0).unwrap();
    disk.crash(&mut |_| Fate::Pages(0b101));
    let left = disk.content("a").unwrap();
    let page = |n: usize| left[n * 4_096..(n + 1) * 4_096].iter().all(|byte| *byte == b'x');
    assert_eq!([page(0), page(1), page(2)], [true, false, true]);
}

#[test]
fn what_is_written_anew_after_a_failed_sync_is_what_stays() {
    for fate in [Fate::Kept, Fate::Lost] {
        let (disk, file) = disk_with_file();
        disk.write_at(&file, &[b"first"], 0).unwrap();
        disk.start_sync(SyncId(1), vec![file.clone()], Vec::new());
        let _ = disk.fail(disk.take_pending().pop().unwrap(), io::ErrorKind::Other);
        disk.write_at(&file, &[b"FIRST"], 0).unwrap();
        disk.sync_now(&file).unwrap();
        disk.crash(&mut |_| fate);
        assert_eq!(content(&disk, "a"), "FIRST");
    }
}

#[test]
fn damage_is_done_at_rest_and_can_be_mended() {
    for seed in 0..200 {
        let (disk, file) = disk_with_file();
        let mut below = dice(seed);
        assert_eq!(disk.rot(&mut below), None, "nothing is at rest yet");
        let old: Vec<u8> = (0..2_000_u32).map(|at| (at / 8) as u8).collect();
        disk.write_at(&file, &[&old], 0).unwrap();
        disk.sync_now(&file).unwrap();
        disk.write_at(&file, &[&[b'n'; 600]], 2_000).unwrap();
        disk.start_sync(SyncId(1), vec![file.clone()], Vec::new());
        let _ = disk.run_pending();
        let sound = disk.content("a").unwrap();
        disk.rot(&mut below).unwrap();
        let bits = |one: &[u8], two: &[u8]| {
            one.iter().zip(two).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
        };
        assert_eq!(bits(&sound, &disk.content("a").unwrap()), 1);
        disk.crash_lose_all();
        assert_eq!(bits(&sound, &disk.content("a").unwrap()), 1, "it is on the device");
        assert!(disk.is_damaged());
        disk.mend();
        assert!(!disk.is_damaged());
        assert_eq!(disk.content("a").unwrap(), sound);
    }
}

#[test]
fn a_block_that_went_astray_is_missing_here_and_covers_another_there() {
    let mut astray = [0; 2];
    for seed in 0..100 {
        let (disk, file) = disk_with_file();
        let old = vec![b'o'; 8_192];
        disk.write_at(&file, &[&old], 0).unwrap();
        disk.sync_now(&file).unwrap();
        let other = disk.open("b", Open::New).unwrap();
        disk.write_at(&other, &[&old], 0).unwrap();
        disk.sync_now(&other).unwrap();
        disk.sync_dir("").unwrap();
        disk.write_at(&file, &[&[b'n'; 1_024]], 8_192).unwrap();
        disk.start_sync(SyncId(1), vec![file.clone()], Vec::new());
        let _ = disk.run_pending();
        let sound = disk.content("a").unwrap();
        let damage = disk.misdirect(&mut dice(seed));
        let spoilt = disk.content("a").unwrap();
        if let [here, there] = &damage[..] {
            astray[usize::from(there.path == "b")] += 1;
            assert_eq!(spoilt[here.offset as usize], 0, "a part of the new bytes is missing");
            let victim = disk.content(&there.path).unwrap();
            assert_eq!(victim[there.offset as usize], b'n', "it lies elsewhere");
        }
        disk.mend();
        assert_eq!(disk.content("a").unwrap(), sound);
        assert_eq!(disk.content("b").unwrap(), old);
    }
    assert!(astray[0] > 20 && astray[1] > 20, "in its own file and in another: {astray:?}");
}

#[test]
fn what_was_written_over_damage_is_not_undone_with_it() {
    for seed in 0..200 {
        let (disk, file) = disk_with_file();
        disk.write_at(&file, &[b"damaged"], 0).unwrap();
        disk.sync_now(&file).unwrap();
        disk.rot(&mut dice(seed)).unwrap();
        disk.write_at(&file, &[b"new"], 0).unwrap();
        let synced = seed % 2 == 0;
        if synced {
            disk.sync_now(&file).unwrap();
        }
        disk.mend();
        assert_eq!(content(&disk, "a"), "newaged");
        disk.crash_lose_all();
        assert_eq!(content(&disk, "a"), if synced { "newaged" } else { "damaged" });
    }
}

#[test]
fn a_read_that_goes_astray_answers_with_other_bytes_once() {
    let (disk, file) = disk_with_file();
    let other = disk.open("b", Open::New).unwrap();
    disk.write_at(&file, &[&[b'a'; 600]], 0).unwrap();
    disk.write_at(&other, &[&[b'b'; 600]], 0).unwrap();
    let mut bytes = [0; 600];
    disk.set_fault_hook(|_, _, op| (*op == Op::Read).then_some(Fault::Elsewhere(1)));
    assert_eq!(disk.read_at(&file, &mut bytes, 0).unwrap(), 600);
    assert_eq!(bytes, [b'b'; 600]);
    disk.clear_hooks();
    disk.read_at(&file, &mut bytes, 0).unwrap();
    assert_eq!(bytes, [b'a'; 600]);
}

#[test]
fn a_disk_is_set_back_to_what_it_was() {
    let (disk, file) = disk_with_file();
    disk.write_at(&file, &[b"first"], 0).unwrap();
    let before = disk.fork();
    disk.write_at(&file, &[b"second"], 0).unwrap();
    disk.remove("a").unwrap();
    disk.set_back(&before);
    assert_eq!(content(&disk, "a"), "first");
    disk.crash_lose_all();
    assert_eq!(content(&disk, "a"), "");
}
