//! Hash trees that are stored in an engine: whatever was written, stored, compacted and killed in between, a tree that a start has
//! brought up to date is the one that it would have grown.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rondo_core::engine::{Batch, Change, Engine, Opening, Scale};
use rondo_core::env::DiskDone;
use rondo_core::id::{ActorId, GroupId, KeyspaceId, PartitionId, RequestId, SyncId, Unit};
use rondo_core::layout::keyspace::partition;
use rondo_core::repair::merkle::{entry, entry_of};
use rondo_core::replica::keys::{HINTS, data_key};
use rondo_core::replica::listing::list;
use rondo_core::replica::tree_row::removal;
use rondo_core::replica::trees::{Counts, Growth, Trees};
use rondo_core::version::dvv::{Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::key::KeyRef;
use rondo_core::wire::state::encode_state;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

const PARTITIONS: u16 = 2;
const GROUPS: u16 = 2;
const KEYS: u8 = 24;

fn units() -> impl Iterator<Item = Unit> {
    let of = |group| (0..PARTITIONS).map(move |at| (GroupId(group), PartitionId(at)));
    (0..GROUPS).flat_map(of).map(|(group, partition)| Unit { group, partition })
}

fn key(n: u8) -> (Unit, KeyRef) {
    let group = u16::from(n) % GROUPS;
    let key = KeyRef::new(KeyspaceId(1 + u32::from(group)), Bytes::from(n.to_string()));
    (Unit { group: GroupId(group), partition: partition(key.token(), PARTITIONS) }, key)
}

fn state(of: u8) -> VersionSet {
    let mut state = VersionSet::default();
    let version = Version::value(Hlc(9), RequestId(1), Bytes::new(), Bytes::from(vec![of; 40]));
    if of > 0 {
        state.put(&VersionVector::default(), ActorId(u64::from(of)), version);
    }
    state
}

fn write_all(changes: &[Change], engine: &mut dyn Engine) {
    engine.write(&Batch { changes: changes.into() }).unwrap();
}

/// A store, its disk, and the trees of its present life.
struct Store {
    kind: EngineKind,
    disk: MemDisk,
    engine: Box<dyn Engine>,
    trees: Trees,
    /// Over all lives.
    counts: Counts,
}

impl Store {
    fn new(kind: EngineKind) -> Store {
        let disk = MemDisk::new();
        let (engine, trees) = open(kind, &disk);
        Store { kind, disk, engine, trees, counts: Counts::default() }
    }

    fn write(&mut self, n: u8, of: u8) {
        let (unit, key) = key(n);
        let place = data_key(unit.group, &key);
        let end = [&place[..], &[0]].concat();
        let found = list(&place, &end, (1, 1), &mut *self.engine).unwrap().keys;
        let was = found.first().map_or(0, |found| entry_of(&key, found.digest));
        let (delta, (head, body)) = (was ^ entry(&key, &state(of)), encode_state(&state(of)));
        let change = match of {
            0 => Change::Delete { key: place.clone(), delta },
            _ => Change::Put { key: place.clone(), head, body, delta },
        };
        if delta != 0 {
            write_all(&[change], &mut *self.engine);
            self.trees.change(unit, &place, &key, delta);
        }
    }

    /// A record that nobody could read is replaced: nobody knows by how much the tree changes.
    fn replace(&mut self, n: u8, of: u8) {
        let (unit, key) = key(n);
        let (head, body) = encode_state(&state(of.max(1)));
        let (key, delta) = (data_key(unit.group, &key), entry(&key, &state(of.max(1))));
        let put = Change::Put { key, head, body, delta };
        write_all(&[put, removal(unit)], &mut *self.engine);
        self.trees.lose(unit);
    }

    fn grow(&mut self, steps: usize, log_bytes: u64) {
        for _ in 0..steps {
            if self.trees.is_growing() {
                let grown = self.trees.grow(log_bytes, &mut *self.engine).unwrap();
                assert!(!matches!(grown, Growth::Unreadable(..)), "nothing rots here");
            }
            self.trees.invariants();
        }
    }

    fn sync(&mut self) {
        self.engine.start_sync(SyncId(1)).unwrap();
        for done in self.disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only syncs") };
            self.engine.synced(id, result).unwrap();
        }
    }

    fn maintain(&mut self, budget: u64) {
        for _ in 0..20 {
            let progress = self.engine.maintain(budget).unwrap();
            if progress.waits_for.is_some() {
                self.sync();
            }
        }
    }

    fn check(&mut self) {
        let mut fresh = Trees::default();
        fresh.own(units(), PARTITIONS);
        while fresh.is_growing() {
            fresh.grow(1, &mut *self.engine).unwrap();
        }
        for unit in units() {
            let complete = self.trees.complete(unit);
            assert!(complete.is_none() || complete == fresh.complete(unit), "{unit:?}");
        }
    }

    /// The process ends; in all ways but the first the power goes, too.
    fn restart(&mut self, way: u8, seed: u64) {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        match way {
            0 => self.disk.kill(),
            1 => self.disk.crash_lose_all(),
            2 => {
                let kept = seed as usize % (self.disk.unsynced_count() + 1);
                self.disk.crash_keep_prefix(kept);
            }
            3 => self.disk.crash_random(&mut |n| dice.next_u32() as usize % n),
            _ => {
                self.trees.store_all(&mut *self.engine).unwrap();
                self.engine.close().unwrap();
            }
        }
        let now = self.trees.counts();
        self.counts.loaded += now.loaded;
        self.counts.refused += now.refused;
        self.counts.replayed += now.replayed;
        (self.engine, self.trees) = open(self.kind, &self.disk);
        self.trees.own(units(), PARTITIONS);
    }

    fn step(&mut self, (what, n, of, seed): (u8, u8, u8, u64)) {
        match what {
            0..12 | 26 | 28.. => self.write(n % KEYS, of % 4),
            12 => self.replace(n % KEYS, of % 4),
            13 => self.trees.begin_to_store(),
            27 => self.trees.owe_all(),
            14 => self.trees.store_some(&mut *self.engine).unwrap(),
            15 => self.sync(),
            16 => self.maintain(if of == 0 { 1 } else { 1 << 20 }),
            17 | 18 => self.grow(usize::from(n % 8), if of == 0 { 1 } else { 1 << 20 }),
            19 => self.trees.own(units().skip(usize::from(n % 4)), PARTITIONS),
            20 => self.trees.own(units(), PARTITIONS),
            21 => self.trees.regrow(key(n).0),
            22 => write_all(
                &[Change::put([HINTS, &[n]].concat().into(), "h".into(), Default::default())],
                &mut *self.engine,
            ),
            23..26 => self.restart(of % 5, seed),
        }
    }
}

fn open(kind: EngineKind, disk: &MemDisk) -> (Box<dyn Engine>, Trees) {
    let (salt, held) = (7, Vec::new());
    let how = Opening { salt, scale: Scale::Eager(4 << 10), accept_losses: false, held };
    let (mut engine, opened) = kind.open(Arc::new(disk.clone()), "data", &how).unwrap();
    assert_eq!(opened.lost, []);
    assert_eq!(engine.durable(), opened.last, "what survived is durable");
    let trees = Trees::load(&mut *engine, true).unwrap();
    (engine, trees)
}

fn keepers() -> impl Iterator<Item = EngineKind> {
    EngineKind::ALL.into_iter().filter(|kind| kind.keeps())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_tree_is_the_one_that_would_be_grown(
        steps in vec((0u8..40, any::<u8>(), any::<u8>(), any::<u64>()), 1..250)
    ) {
        for kind in keepers() {
            let mut store = Store::new(kind);
            store.trees.own(units(), PARTITIONS);
            for &step in &steps {
                store.step(step);
                store.check();
            }
            store.trees.own(units(), PARTITIONS);
            store.grow(1000, 1);
            assert!(!store.trees.is_growing(), "it comes to an end");
            store.check();
        }
    }
}

/// What the law above is worth: in lives that are killed trees are loaded, brought up to date from the log, and refused.
#[test]
fn stored_trees_are_loaded_brought_up_to_date_and_refused() {
    let mut counts = BTreeMap::new();
    for (at, kind) in keepers().enumerate() {
        let (mut store, mut dice) = (Store::new(kind), ChaCha8Rng::seed_from_u64(5));
        store.trees.own(units(), PARTITIONS);
        for _ in 0..6000 {
            let mut draw = || dice.next_u32() as u8;
            let step = (draw() % 40, draw(), draw());
            store.step((step.0, step.1, step.2, u64::from(dice.next_u32())));
        }
        store.check();
        counts.insert(at, (kind.name(), store.counts));
    }
    println!("{counts:?}");
    for (kind, counts) in counts.into_values() {
        assert!(counts.loaded > 50, "{kind}: {counts:?}");
        assert!(counts.replayed > 50, "{kind}: {counts:?}");
        assert!(counts.refused > 5, "{kind}: {counts:?}");
    }
}
