//! The power goes before any operation of the disk, and again during recovery. The oracle is a prefix: what is recovered is the state
//! after some number of batches, no fewer than were durable, no more than were written.

use proptest::prelude::{ProptestConfig, any, proptest};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rondo_core::engine::{Batch, Lookup};
use rondo_core::env::Disk;
use rondo_engines::mem_disk::{Fault, MemDisk};

use crate::pair::{Pair, Snapshot, maintain_all, snapshot};
use crate::subject::{How, keepers, open};
use crate::workload::{FAILURES, Step, busy_workload, change, steps};

/// What was there when the power went.
pub(crate) struct Crashed {
    history: Vec<Snapshot>,
    durable: usize,
}

/// Runs a workload on a disk whose power goes before operation `k`; `None` when it never got there.
pub(crate) fn run_until(k: u64, steps: &[Step], how: How) -> Option<(MemDisk, Crashed)> {
    let disk = MemDisk::new();
    disk.set_fault_hook(move |number, _, _| (number == k).then_some(Fault::PowerOff));
    let nothing = Crashed { history: vec![Snapshot::new()], durable: 0 };
    let mut pair = match Pair::new(disk.clone(), how) {
        Err(_) => return Some((disk, nothing)),
        Ok(pair) => pair,
    };
    let failed = steps.iter().any(|step| pair.step(step).is_err());
    failed.then_some((disk, Crashed { history: pair.history, durable: pair.durable }))
}

/// Opens after a crash and holds the result against the oracle; then goes on writing and opens again.
pub(crate) fn check_recovery(disk: &MemDisk, crashed: &Crashed, how: How) {
    disk.clear_hooks();
    let (mut engine, opened) = open(disk, how).unwrap();
    assert_eq!(opened.lost, [], "nothing that was durable is gone");
    let found = snapshot(&mut *engine).unwrap();
    let last = opened.last.0 as usize;
    assert!(last >= crashed.durable, "{last} < {}", crashed.durable);
    assert!(last < crashed.history.len(), "{last}");
    assert_eq!(found, crashed.history[last], "the state after {last} batches");
    for (key, (head, body)) in &found {
        match engine.get(key).unwrap() {
            Lookup::Hit(record) => assert_eq!((&record.head, &record.body), (head, body)),
            other => panic!("{other:?}"),
        }
    }
    // Life goes on: what was cut off never comes back, not even when its Lsns are given again and
    // every hint is lost.
    for n in 0..4 {
        let batch = Batch { changes: [change(900, n, Some(3)), change(900, n + 4, None)].into() };
        engine.write(&batch).unwrap();
    }
    let expected = snapshot(&mut *engine).unwrap();
    engine.close().unwrap();
    disk.crash_lose_all();
    for name in disk.list("store").unwrap().iter().filter(|name| name.ends_with("hint")) {
        disk.remove(&format!("store/{name}")).unwrap();
    }
    let (mut engine, opened) = open(disk, how).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(snapshot(&mut *engine).unwrap(), expected);
    disk.forbid_waiting(true);
    maintain_all(disk, &mut *engine);
    assert_eq!(snapshot(&mut *engine).unwrap(), expected);
    drop(engine);
    disk.crash_lose_all();
    let (mut engine, opened) = open(disk, how).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(snapshot(&mut *engine).unwrap(), expected);
}

/// The ways in which a power loss keeps what was not synced.
fn crash(disk: &MemDisk, way: u64, seed: u64) {
    match way {
        0 => disk.crash_lose_all(),
        1 => disk.crash_keep_all(),
        2 => {
            let count = disk.unsynced_count();
            disk.crash_keep_prefix(seed as usize % (count + 1));
        }
        _ => {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            disk.crash_random(&mut |n| dice.next_u32() as usize % n);
        }
    }
}

/// The power goes before each operation of a workload, in each way, and again during recovery.
fn crash_everywhere(steps: &[Step], how: How, again: bool) {
    let mut k = 0;
    while run_until(k, steps, how).is_some() {
        for way in 0..5 {
            let (disk, crashed) = run_until(k, steps, how).expect("the same run");
            crash(&disk, way, k * 31 + way);
            if again {
                crash_in_recovery(&disk, how, k, way);
            }
            check_recovery(&disk, &crashed, how);
        }
        k += 1;
    }
    assert!(k > 20, "the workload has operations: {k}");
}

/// Three times the power goes somewhere in recovery.
fn crash_in_recovery(disk: &MemDisk, how: How, k: u64, way: u64) {
    for round in 0..3 {
        let at = disk.operations() + (k * 7 + way * 5 + round * 11) % 23;
        disk.set_fault_hook(move |number, _, _| (number == at).then_some(Fault::PowerOff));
        let _ = open(disk, how);
        disk.clear_hooks();
        crash(disk, (way + round) % 5, k + round);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: Some(Box::new(FAILURES)), ..ProptestConfig::default() })]

    #[test]
    fn a_power_loss_leaves_a_prefix(steps in steps(60), at in 0_u64..400, way in 0_u64..8, seed in any::<u64>()) {
        for how in keepers() {
            let Some((disk, crashed)) = run_until(at, &steps, how) else { continue };
            crash(&disk, way, seed);
            if seed % 2 == 0 {
                crash_in_recovery(&disk, how, seed % 1000, way);
            }
            check_recovery(&disk, &crashed, how);
        }
    }
}

#[test]
fn the_power_may_go_before_any_operation() {
    keepers().for_each(|how| crash_everywhere(&busy_workload(), how, false));
}

#[test]
fn the_power_may_go_again_during_recovery() {
    keepers().for_each(|how| crash_everywhere(&busy_workload(), how, true));
}
