//! Compactions keep what is alive, bring nothing back, and say what they wait for.

use std::sync::Arc;

use rondo_core::engine::{Batch, Engine};
use rondo_core::env::{Disk, Open};
use rondo_core::id::Lsn;
use rondo_engines::bitcask::Bitcask;
use rondo_engines::mem_disk::MemDisk;

use crate::pair::{Pair, maintain_all, sync_all};
use crate::power_loss::{check_recovery, run_until};
use crate::subject::{BITCASK, tiny};
use crate::workload::{Step, change, key};

/// Values in one file, their deletions in the next, and what replaced others not yet synced.
fn workload_of_a_compaction() -> Vec<Step> {
    let mut steps: Vec<Step> = (0..4).map(|n| Step::Write(vec![(n, Some(330))])).collect();
    steps.extend((0..3).map(|n| Step::Write(vec![(n, None), (n + 5, Some(330))])));
    steps.push(Step::Reopen);
    steps.push(Step::Write(vec![(3, None)]));
    steps.push(Step::Flush);
    steps.extend((0..12).map(|_| Step::Maintain(100_000)));
    for _ in 0..12 {
        steps.extend([Step::StartSync, Step::EndSync]);
        steps.extend((0..3).map(|_| Step::Maintain(100_000)));
    }
    steps
}

/// basho/bitcask#82, exhaustively: at each operation, with each subset of what was not synced.
#[test]
fn a_compaction_brings_nothing_back() {
    let steps = workload_of_a_compaction();
    let mut compacted = Pair::new(MemDisk::new(), BITCASK).unwrap();
    steps.iter().for_each(|step| compacted.step(step).unwrap());
    assert!(compacted.disk.content("store/0000000001.data").is_none(), "the compaction has run");
    let mut k = 0;
    while let Some((disk, _)) = run_until(k, &steps, BITCASK) {
        for kept in 0..1_u32 << disk.unsynced_count().min(7) {
            let (disk, crashed) = run_until(k, &steps, BITCASK).expect("the same run");
            disk.crash(&mut |point| match kept >> point.index.min(31) & 1 {
                1 => rondo_engines::mem_disk::Fate::Kept,
                _ => rondo_engines::mem_disk::Fate::Lost,
            });
            check_recovery(&disk, &crashed, BITCASK);
        }
        k += 1;
    }
}

/// A record without a delta, so that its key lies where the header ends.
fn put_key(engine: &mut dyn Engine, n: u8) -> Lsn {
    engine.write(&Batch { changes: [change(3, n, Some(300))].into_iter().collect() }).unwrap()
}

/// A crash may tear a mark and keep the writes behind it. Nothing is lost then, and the file can still be compacted; damage
/// that may have been a write stays where it is.
#[test]
fn a_compaction_passes_damage_that_held_no_write() {
    // Three writes, with a mark before each but the first; whether the file is compacted without a part of it.
    let is_merged_without = |gone: fn(&[usize]) -> std::ops::Range<usize>| {
        let disk = MemDisk::new();
        let mut engine = Bitcask::open(Arc::new(disk.clone()), "store", tiny()).unwrap().0;
        for n in [0, 1, 0] {
            put_key(&mut engine, n);
            sync_all(&disk, &mut engine);
        }
        engine.close().unwrap();
        let path = "store/0000000001.data";
        let content = disk.content(path).unwrap();
        let is_key =
            |at: &usize| [key(0), key(1)].iter().any(|key| content[*at..].starts_with(key));
        let writes: Vec<usize> = (0..content.len()).filter(is_key).map(|at| at - 28).collect();
        assert_eq!(writes.len(), 3);
        let gone = gone(&writes);
        let file = disk.open(path, Open::Existing).unwrap();
        disk.write_at(&file, &[&vec![b'?'; gone.len()]], gone.start as u64).unwrap();
        let mut engine = Bitcask::open(Arc::new(disk.clone()), "store", tiny()).unwrap().0;
        put_key(&mut engine, 2);
        sync_all(&disk, &mut engine);
        maintain_all(&disk, &mut engine);
        disk.content(path).is_none()
    };
    assert!(is_merged_without(|writes| writes[2] - 36..writes[2]), "a mark");
    assert!(is_merged_without(|writes| writes[1] - 20..writes[1]), "a part of one");
    assert!(!is_merged_without(|writes| writes[1]..writes[1] + 9), "the head of a write");
    assert!(!is_merged_without(|writes| writes[1] + 99..writes[1] + 100), "in a value");
    assert!(!is_merged_without(|writes| writes[2]..writes[2] + 9), "the last write");
}

/// Where nobody writes any more no sync would come by itself, and the space would never be given back.
#[test]
fn a_compaction_that_waits_for_a_sync_says_so() {
    let disk = MemDisk::new();
    let mut engine = Bitcask::open(Arc::new(disk.clone()), "store", tiny()).unwrap().0;
    for _ in 0..9 {
        put_key(&mut engine, 0);
    }
    sync_all(&disk, &mut engine);
    put_key(&mut engine, 0);
    let before = engine.stats().disk_bytes;
    let waits_for = loop {
        let progress = engine.maintain(1 << 20).unwrap();
        assert!(progress.more || progress.waits_for.is_some(), "it says what it waits for");
        if let Some(lsn) = progress.waits_for {
            break lsn;
        }
    };
    assert_eq!(engine.maintain(1 << 20).unwrap().waits_for, Some(waits_for), "and does nothing");
    maintain_all(&disk, &mut engine);
    assert!(engine.stats().disk_bytes < before / 2, "{before}");
}
