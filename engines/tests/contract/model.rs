//! On a disk that keeps what it is given, or fails and says so, every engine does what the model does.

use proptest::prelude::{ProptestConfig, proptest};
use rondo_core::engine::Lookup;
use rondo_core::env::DiskDone;
use rondo_core::error::Error;
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::bitcask::Options;
use rondo_engines::mem_disk::{Fault, MemDisk};

use crate::pair::{Pair, maintain_all, snapshot};
use crate::subject::{BITCASK, How, colliding, hows, open_in, tiny};
use crate::workload::{FAILURES, KEYS, Step, busy_workload, key, steps};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: Some(Box::new(FAILURES)), ..ProptestConfig::default() })]

    #[test]
    fn it_equals_the_model(steps in steps(80), how in hows()) {
        let mut pair = Pair::new(MemDisk::new(), how).unwrap();
        for step in &steps {
            pair.step(step).unwrap();
        }
        pair.check();
        pair.step(&Step::Reopen).unwrap();
        while pair.engine.maintain(1 << 20).unwrap().more {}
        pair.check();
        pair.step(&Step::Reopen).unwrap();
        pair.check();
    }
}

#[test]
fn after_a_failure_nothing_is_promised() {
    let write = [(0, Some(10))].to_vec();
    let (disk, how) = (MemDisk::new(), BITCASK);
    let mut pair = Pair::new(disk.clone(), how).unwrap();
    pair.step(&Step::Write(write.clone())).unwrap();
    pair.step(&Step::StartSync).unwrap();
    let pending = disk.take_pending().pop().unwrap();
    let DiskDone::Synced { id, result } = disk.fail(pending, std::io::ErrorKind::Other) else {
        panic!("a sync was started");
    };
    assert!(matches!(pair.engine.synced(id, result), Err(Error::Disk(_))));
    assert!(matches!(pair.engine.get(&key(0)), Err(Error::Poisoned)));
    assert!(matches!(pair.engine.start_sync(SyncId(9)), Err(Error::Poisoned)));
    assert!(matches!(pair.engine.flush(), Err(Error::Poisoned)));
    assert!(matches!(pair.engine.close(), Err(Error::Poisoned)));
    assert_eq!(pair.engine.durable(), Lsn(0));

    let mut pair = Pair::new(MemDisk::new(), how).unwrap();
    pair.step(&Step::Write(write)).unwrap();
    pair.disk.set_fault_hook(|_, _, op| match op {
        rondo_engines::mem_disk::Op::Write { .. } => Some(Fault::Cut(7, std::io::ErrorKind::Other)),
        _ => None,
    });
    assert!(matches!(pair.engine.flush(), Err(Error::Disk(_))));
    assert!(matches!(pair.engine.maintain(1), Err(Error::Poisoned)));
}

#[test]
fn cold_records_are_read_in_two_parts() {
    for how in [BITCASK, How::Bitcask(colliding())] {
        let mut pair = Pair::new(MemDisk::new(), how).unwrap();
        for n in 0..KEYS {
            pair.step(&Step::Write(vec![(n, Some(300))])).unwrap();
        }
        pair.step(&Step::Reopen).unwrap();
        pair.disk.set_cold_hook(|_, _, _| true);
        for n in 0..KEYS {
            let found = match pair.engine.get(&key(n)).unwrap() {
                Lookup::Cold(ticket) => {
                    pair.engine.start_read(rondo_core::id::ReadId(1), ticket).unwrap();
                    // Meanwhile the key is overwritten and its file compacted away.
                    pair.step(&Step::Write(vec![(n, Some(1))])).unwrap();
                    for _ in 0..30 {
                        pair.engine.maintain(1 << 20).unwrap();
                    }
                    let Some(DiskDone::Read { result, .. }) = pair.disk.run_pending().pop() else {
                        panic!("a read was started");
                    };
                    pair.engine.finish_read(ticket, result.unwrap()).unwrap()
                }
                // Keys that share a fingerprint are read at once.
                found => found,
            };
            let Lookup::Hit(record) = found else { panic!("{found:?}") };
            assert_eq!(record.head, pair.history[usize::from(n) + 1][&key(n)].0);
        }
    }
}

#[test]
fn a_checkpoint_is_a_store() {
    let mut pair = Pair::new(MemDisk::new(), BITCASK).unwrap();
    for step in &busy_workload()[..30] {
        pair.step(step).unwrap();
    }
    pair.disk.forbid_waiting(false);
    let lsn = pair.engine.checkpoint("backup/one").unwrap();
    let expected = pair.history.last().unwrap().clone();
    for n in 0..KEYS {
        pair.step(&Step::Write(vec![(n, None)])).unwrap();
    }
    pair.disk.forbid_waiting(false);
    pair.disk.crash_lose_all();
    let (mut copy, opened) = open_in(&pair.disk, "backup/one", BITCASK).unwrap();
    assert_eq!((opened.last, opened.lost), (lsn, vec![]));
    assert_eq!(snapshot(&mut *copy).unwrap(), expected);
}

/// A device that never answers holds nobody up: writes, reads, scans, compactions, hints and changes of files go on or wait
/// for a sync, and nothing is called durable. (fdatasync on the thread that serves is what etcd warns of:
/// <https://github.com/etcd-io/etcd/issues/10414>.)
#[test]
fn nobody_waits_for_the_device() {
    let options = Options { file_bytes_max: 4_000, ..tiny() };
    let (disk, how) = (MemDisk::new(), How::Bitcask(options));
    let mut pair = Pair::new(disk.clone(), how).unwrap();
    for round in 0..60_u8 {
        for n in 0..KEYS {
            pair.step(&Step::Write(vec![(n, Some(200)), ((n + round) % KEYS, None)])).unwrap();
            pair.step(&Step::Maintain(1_000)).unwrap();
        }
        if round % 4 == 0 {
            pair.step(&Step::StartSync).unwrap();
        }
        if round % 4 == 2 {
            pair.step(&Step::EndSync).unwrap();
        }
        pair.check();
    }
    let stats = pair.engine.stats();
    assert!(stats.syncs > 10 && stats.files > 3, "{stats:?}");
    disk.forbid_waiting(true);
    maintain_all(&disk, &mut *pair.engine);
    assert!(pair.engine.stats().disk_bytes < stats.disk_bytes, "{stats:?}");
    pair.check();
    pair.step(&Step::Reopen).unwrap();
    pair.check();
}
