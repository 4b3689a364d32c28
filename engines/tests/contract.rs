//! What every engine promises, checked against the memory engine as the model: on a clean disk, on one
//! that loses power at each of its operations, and on one whose bits flip.
//!
//! The oracle of a crash is a prefix: what is recovered is the state after some number of batches,
//! no fewer than were durable, no more than were written.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::FileFailurePersistence;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rondo_core::engine::{
    Batch, Change, Compared, Engine, LogPlace, Logged, Lookup, MemoryEngine, Opened, Opening,
    Replay, Scale,
};
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::{Fault, MemDisk};

const KEYS: u8 = 12;

/// One step of a workload.
#[derive(Clone, Debug)]
enum Step {
    /// Each key with the length of its value, or `None` to delete it.
    Write(Vec<(u8, Option<u16>)>),
    Flush,
    /// Starts a sync, when none is under way.
    StartSync,
    /// Ends the sync that is under way.
    EndSync,
    Maintain(u64),
    Scan(u8, usize),
    /// One step of deleting the keys from one to another, at most so many.
    DeleteRange(u8, u8, usize),
    /// Deletes the first key if it has its head, or one that it never has, and writes the second with it.
    DeleteIfEqual(u8, bool, u8),
    /// Replays the last writes, so many, in pages of so many bytes.
    Replay(u64, u64),
    /// Closes and opens again.
    Reopen,
    /// The process ends; the operating system lives on.
    Kill,
}

fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let change = (0..KEYS, proptest::option::weighted(0.7, 0_u16..400));
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 1..4).prop_map(Step::Write),
        2 => Just(Step::Flush),
        3 => Just(Step::StartSync),
        3 => Just(Step::EndSync),
        6 => prop_oneof![Just(1_u64), Just(200), Just(100_000)].prop_map(Step::Maintain),
        1 => (0..KEYS, 1_usize..5).prop_map(|(key, limit)| Step::Scan(key, limit)),
        1 => (0..KEYS, 0..KEYS, 1_usize..5).prop_map(|(from, to, limit)| Step::DeleteRange(from, to, limit)),
        1 => (0..KEYS, any::<bool>(), 0..KEYS).prop_map(|(key, is_equal, with)| Step::DeleteIfEqual(key, is_equal, with)),
        1 => (0_u64..40, prop_oneof![Just(0_u64), Just(500), Just(1 << 20)])
            .prop_map(|(back, bytes)| Step::Replay(back, bytes)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..max)
}

/// Files so small that they change all the time, in bytes; compactions run all the time too.
const FILE_BYTES: u64 = 1500;

/// Which engine is opened, and how.
#[derive(Clone, Copy, Debug)]
enum How {
    Any(EngineKind),
    Bitcask(Options),
}

/// Bitcask, as any engine is opened.
const BITCASK: How = How::Any(EngineKind::Bitcask);

/// Tiny files too, and what only a Bitcask is told.
fn tiny() -> Options {
    Options {
        file_bytes_max: FILE_BYTES,
        allocate_bytes: 1024,
        buffer_bytes_max: 700,
        compact_dead_percent: 10,
        compact_dead_bytes_min: 0,
        accept_losses: true,
        ..Options::new(0x5eed)
    }
}

/// All keys collide in one of three fingerprints.
fn colliding() -> Options {
    Options {
        fingerprint: |key, _| key.last().map_or(0, |byte| u32::from(*byte)) % 3 * 0x7FFF_FFFF,
        ..tiny()
    }
}

/// Every engine, and a Bitcask whose keys collide.
fn hows() -> impl Strategy<Value = How> {
    let any = EngineKind::ALL.map(|kind| Just(How::Any(kind)).boxed());
    proptest::strategy::Union::new(any.into_iter().chain([Just(How::Bitcask(colliding())).boxed()]))
}

/// The engines that a power loss does not empty.
fn keepers() -> impl Iterator<Item = How> {
    EngineKind::ALL.into_iter().filter(|kind| kind.keeps()).map(How::Any)
}

fn key(n: u8) -> Bytes {
    // Some are of a node's own records.
    let own = if n.is_multiple_of(5) { "\0" } else { "" };
    Bytes::from(format!("{own}key-{n:02}"))
}

/// A value that names its key and the write it comes from.
fn change(serial: u64, n: u8, len: Option<u16>) -> Change {
    // Some say nothing to whoever replays them.
    let delta = if serial.is_multiple_of(3) { 0 } else { !serial };
    match len {
        None => Change::Delete { key: key(n), delta },
        Some(len) => {
            let first = Bytes::from(format!("{serial}:{n}:"));
            let rest = Bytes::from(vec![b'a' + (serial % 26) as u8; usize::from(len)]);
            let head = Bytes::from(format!("head {serial}"));
            Change::Put { key: key(n), head, body: [first, rest].into_iter().collect(), delta }
        }
    }
}

type Snapshot = BTreeMap<Bytes, (Bytes, Bytes)>;

fn snapshot(engine: &mut dyn Engine) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    let mut from = Bytes::new();
    loop {
        let page = engine.scan_from(&from, 3, 1 << 20)?;
        for (key, record) in page.records {
            found.insert(key, (record.head, record.body));
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(found),
        }
    }
}

/// All that is told of the log behind a place; `None` when it is gone.
fn replayed(engine: &mut dyn Engine, from: LogPlace, bytes: u64) -> Result<Option<Vec<Logged>>> {
    let (mut all, mut from) = (Vec::new(), Some(from));
    while let Some(at) = from {
        match engine.replay(at, bytes)? {
            Replay::Page { changes, next } => {
                assert!(next.is_none_or(|next| next.after >= at.after && next != at), "{next:?}");
                all.extend(changes);
                from = next;
            }
            Replay::Gone => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// An engine beside its model, and the model's state after each batch.
struct Pair {
    disk: MemDisk,
    how: How,
    engine: Box<dyn Engine>,
    model: MemoryEngine,
    history: Vec<Snapshot>,
    durable: usize,
    serial: u64,
    syncs: u64,
}

impl Pair {
    fn new(disk: MemDisk, how: How) -> Result<Pair> {
        let (engine, _) = open(&disk, how)?;
        // From here on no step but the last may wait for the device.
        disk.forbid_waiting(true);
        Ok(Pair {
            disk,
            how,
            engine,
            model: MemoryEngine::new(),
            history: vec![Snapshot::new()],
            durable: 0,
            serial: 0,
            syncs: 0,
        })
    }

    /// Lsns are the number of the batch, because both engines count from 1.
    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Write(changes) => {
                self.serial += 1;
                let serial = self.serial;
                let changes = changes.iter().map(|(n, len)| change(serial, *n, *len)).collect();
                let batch = Batch { changes };
                // What fails may have happened: the history has it either way.
                self.model.write(&batch)?;
                self.history.push(snapshot(&mut self.model)?);
                let lsn = self.engine.write(&batch)?;
                assert_eq!(lsn, Lsn(self.history.len() as u64 - 1), "Lsns are dense");
            }
            Step::Flush => self.engine.flush()?,
            Step::StartSync => {
                self.syncs += 1;
                match self.engine.start_sync(SyncId(self.syncs)) {
                    Err(Error::Busy(_)) => self.syncs -= 1,
                    other => drop(other?),
                }
            }
            Step::EndSync => self.end_sync()?,
            Step::Maintain(budget) => drop(self.engine.maintain(*budget)?),
            Step::Scan(from, limit) => {
                let from = key(*from);
                let page = self.engine.scan_from(&from, *limit, 300)?;
                assert_eq!(page, self.model.scan_from(&from, *limit, 300)?);
                let heads = self.engine.scan_heads(&from, *limit, 30)?;
                assert_eq!(heads, self.model.scan_heads(&from, *limit, 30)?);
                assert!(heads.records.iter().all(|(_, record)| record.body.is_empty()));
            }
            Step::DeleteRange(from, to, limit) => {
                let (from, to) = (key(*from), key(*to));
                let expected = self.model.delete_range(&from, &to, *limit)?;
                if expected.lsn.is_some() {
                    self.history.push(snapshot(&mut self.model)?);
                }
                assert_eq!(self.engine.delete_range(&from, &to, *limit)?, expected);
            }
            Step::Replay(back, bytes) => self.replay(*back, *bytes)?,
            Step::DeleteIfEqual(n, is_equal, with) => self.delete_if_equal(*n, *is_equal, *with)?,
            Step::Reopen => {
                self.disk.forbid_waiting(false);
                self.engine.close()?;
                self.durable = self.history.len() - 1;
                self.open()?;
                assert_eq!(self.engine.durable(), Lsn(self.durable as u64));
            }
            Step::Kill => {
                self.engine.flush()?;
                self.disk.kill();
                self.open()?;
            }
        }
        Ok(())
    }

    fn delete_if_equal(&mut self, n: u8, is_equal: bool, with: u8) -> Result<()> {
        self.serial += 1;
        let found = self.model.head(&key(n))?;
        let head = match found {
            Lookup::Hit(record) if is_equal => record.head,
            _ => Bytes::from_static(b"a head that nobody has"),
        };
        let with = Batch { changes: [change(self.serial, with, Some(9))].into_iter().collect() };
        let expected = self.model.delete_if_equal(&key(n), &head, self.serial, &with)?;
        if matches!(expected, Compared::Deleted(_)) {
            self.history.push(snapshot(&mut self.model)?);
        }
        assert_eq!(self.engine.delete_if_equal(&key(n), &head, self.serial, &with)?, expected);
        Ok(())
    }

    fn replay(&mut self, back: u64, bytes: u64) -> Result<()> {
        let from = LogPlace::after(Lsn((self.history.len() as u64 - 1).saturating_sub(back)));
        let expected = replayed(&mut self.model, from, u64::MAX)?.expect("it remembers so many");
        match replayed(&mut *self.engine, from, bytes)? {
            Some(found) => assert_eq!(found, expected),
            None => assert!(
                self.disk.content("store/0000000001.data").is_none(),
                "without a compaction all of it is there"
            ),
        }
        Ok(())
    }

    fn end_sync(&mut self) -> Result<()> {
        for done in self.disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only syncs are started") };
            let durable = self.engine.synced(id, result)?;
            assert_eq!(durable, self.engine.durable());
            self.durable = self.durable.max(durable.0 as usize);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        self.disk.kill();
        let (engine, opened) = open(&self.disk, self.how)?;
        self.engine = engine;
        if !opened.keeps {
            (self.model, self.history) = (MemoryEngine::new(), vec![Snapshot::new()]);
        }
        assert_eq!(opened.lost, [], "nothing is lost on a disk that loses nothing");
        assert_eq!(opened.last, Lsn(self.history.len() as u64 - 1));
        self.durable = self.history.len() - 1;
        self.disk.forbid_waiting(true);
        Ok(())
    }

    fn check(&mut self) {
        let expected = self.history.last().expect("there is a first state");
        assert_eq!(&snapshot(&mut *self.engine).unwrap(), expected);
        for n in 0..KEYS {
            let found = self.engine.get(&key(n)).unwrap();
            assert_eq!(found, self.model.get(&key(n)).unwrap(), "{:?}", key(n));
            match (found, self.engine.head(&key(n)).unwrap()) {
                (Lookup::Hit(all), Lookup::Hit(head)) => {
                    assert_eq!((all.lsn, all.head), (head.lsn, head.head));
                }
                (Lookup::Miss, Lookup::Miss) => {}
                other => panic!("{other:?}"),
            }
        }
        let stats = self.engine.stats();
        assert_eq!(stats.records, expected.len() as u64);
        let own = expected.iter().filter(|(key, _)| key.first() == Some(&0)).count();
        assert_eq!(stats.own_records, own as u64);
        assert!(stats.files == 0 || stats.live_bytes <= stats.disk_bytes, "{stats:?}");
    }
}

fn open(disk: &MemDisk, how: How) -> Result<(Box<dyn Engine>, Opened)> {
    disk.forbid_waiting(false);
    open_in(disk, "store", how)
}

fn open_in(disk: &MemDisk, dir: &str, how: How) -> Result<(Box<dyn Engine>, Opened)> {
    let disk = Arc::new(disk.clone());
    match how {
        How::Any(kind) => {
            let scale = Scale::Eager(FILE_BYTES);
            kind.open(
                disk,
                dir,
                &Opening { salt: 0x5eed, scale, accept_losses: true, held: Vec::new() },
            )
        }
        How::Bitcask(options) => {
            let (engine, opened) = Bitcask::open(disk, dir, options)?;
            Ok((Box::new(engine), opened))
        }
    }
}

/// What was there when the power went.
struct Crashed {
    history: Vec<Snapshot>,
    durable: usize,
}

/// Runs a workload on a disk whose power goes before operation `k`; `None` when it never got there.
fn run_until(k: u64, steps: &[Step], how: How) -> Option<(MemDisk, Crashed)> {
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
fn check_recovery(disk: &MemDisk, crashed: &Crashed, how: How) {
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

/// Overwrites, deletions, atomic batches, group commit, rotation, compactions.
fn busy_workload() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..6_u8 {
        for n in 0..4_u8 {
            let a = (n + round) % KEYS;
            let deleted = if (n + round) % 3 == 0 { None } else { Some(150) };
            steps.push(Step::Write(vec![(a, Some(120)), ((a + 5) % KEYS, deleted)]));
            if n == 1 {
                steps.push(Step::StartSync);
            }
        }
        steps.push(Step::EndSync);
        steps.push(Step::StartSync);
        steps.push(Step::Maintain(400));
        steps.push(Step::EndSync);
        for _ in 0..8 {
            steps.push(Step::Maintain(100_000));
        }
    }
    steps
}

/// Cases that failed once are kept here, and are run first.
const FAILURES: FileFailurePersistence =
    FileFailurePersistence::Direct("tests/contract.regressions");

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
    disk.flip_bit("store/0000000001.data", at, 0);
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

fn sync_all(disk: &MemDisk, engine: &mut dyn Engine) {
    engine.start_sync(SyncId(1)).unwrap();
    for done in disk.run_pending() {
        let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
        engine.synced(id, result).unwrap();
    }
}

/// Maintains, with the syncs that this asks for, until nothing more is done.
fn maintain_all(disk: &MemDisk, engine: &mut dyn Engine) {
    for _ in 0..1000 {
        let progress = engine.maintain(1 << 20).unwrap();
        if progress.waits_for.is_some() {
            sync_all(disk, engine);
        } else if !progress.more {
            return;
        }
    }
    panic!("background work never ends");
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
