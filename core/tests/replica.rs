//! The local copy of a node over several lives: an actor whose dots may be lost issues no more, not even after
//! a clean end. What a cold read may bring is told by scripts (`scripts/cold`).

#[path = "fixtures/node_config.rs"]
mod node_config;

#[path = "fixtures/world.rs"]
mod world;

use bytes::Bytes;
use proptest::prelude::{prop, prop_assert_eq, proptest};
use rondo_core::config::{Actors, LIFE_DOTS, NodeConfig, RUNS_MAX, issue_runs_max};
use rondo_core::engine::{Batch, Change, Engine, Lookup, MemoryEngine, Record};
use rondo_core::env::Mono;
use rondo_core::error::Error;
use rondo_core::id::{
    ActorId, BootEpoch, GroupId, KeyspaceId, Life, PartitionId, RequestId, SessionId, Unit,
};
use rondo_core::repair::merkle::{Tree, entry};
use rondo_core::replica::Replica;
use rondo_core::replica::actors::Heard;
use rondo_core::replica::erase::Gone;
use rondo_core::replica::issue::{Covers, Issued};
use rondo_core::replica::keys::data_key;
use rondo_core::replica::read::Trouble;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Dot, Version, VersionSet, VersionVector};
use rondo_core::wire::key::KeyRef;
use rondo_core::wire::state::decode_state;

use self::node_config::node_config;
use self::world::World;

const UNIT: Unit = Unit { group: GroupId(0), partition: PartitionId(0) };

impl World {
    /// The next life, a millisecond later: the first has boot 1.
    fn start(&mut self, actors: Actors) -> Replica {
        self.now = self.now.plus_ms(1);
        let boot = self.now.ms_since(Mono(0));
        Replica::load(&config(boot, actors), &mut self.engine).unwrap()
    }

    fn issue(&mut self, replica: &mut Replica, key: &KeyRef) -> Issued {
        let version = |hlc| Version::value(hlc, RequestId(1), Bytes::new(), "v".into());
        let covers = Covers::Only(VersionVector::default());
        replica.issue(key, UNIT, covers, &Heard::default(), version, self).unwrap()
    }

    fn delete(&mut self, replica: &mut Replica, key: &KeyRef) -> Issued {
        let covers = Covers::AndLocal(VersionVector::default());
        let version = |hlc| Version::tombstone(hlc, RequestId(2));
        replica.issue(key, UNIT, covers, &Heard::default(), version, self).unwrap()
    }

    /// A power loss takes a write that had been told to others.
    fn lose(&mut self, key: &KeyRef) {
        let changes =
            [Change::Delete { key: data_key(UNIT.group, key), delta: 0 }].into_iter().collect();
        self.engine.write(&Batch { changes }).unwrap();
    }
}

fn config(boot: u64, actors: Actors) -> NodeConfig {
    let life = Life { boot: BootEpoch(boot), session: SessionId(1) };
    NodeConfig { life, actors, ..node_config() }
}

fn key(name: &'static str) -> KeyRef {
    KeyRef::new(KeyspaceId(0), Bytes::from_static(name.as_bytes()))
}

#[test]
fn an_actor_lives_on_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let first = world.issue(&mut replica, &key("k")).dot;
    let mut replica = world.start(Actors::Continue);
    let second = world.issue(&mut replica, &key("k")).dot;
    assert_eq!((second.actor, second.n), (first.actor, first.n + 1));
}

#[test]
fn an_actor_of_an_older_store_is_found_under_its_partition_and_moved_to_its_unit() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let first = world.issue(&mut replica, &key("k")).dot;
    let (now, older) = (b"\0actor/\0\0\0\0".as_slice(), b"\0actor/\0\0".as_slice());
    let record = match world.engine.get(now).expect("no disk fails") {
        Lookup::Hit(record) => record,
        other => panic!("{other:?}"),
    };
    let put = Change::Put {
        key: older.into(),
        head: record.head,
        body: [record.body].into_iter().collect(),
        delta: 0,
    };
    let moved_back = [Change::Delete { key: now.into(), delta: 0 }, put];
    world.engine.write(&Batch { changes: moved_back.into_iter().collect() }).expect("room");
    let mut replica = world.start(Actors::Continue);
    let second = world.issue(&mut replica, &key("k")).dot;
    assert_eq!((second.actor, second.n), (first.actor, first.n + 1));
    assert!(matches!(world.engine.get(older), Ok(Lookup::Miss)));
    assert!(matches!(world.engine.get(now), Ok(Lookup::Hit(_))));
}

#[test]
fn an_actor_goes_on_above_all_it_may_have_issued_after_an_unclean_end() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let first = world.issue(&mut replica, &key("k"));
    let lost = world.issue(&mut replica, &key("lost"));
    world.lose(&key("lost"));
    let mut replica = world.start(Actors::Jump);
    let second = world.issue(&mut replica, &key("k")).dot;
    assert_eq!((second.actor, second.n), (first.dot.actor, 2 * LIFE_DOTS + 1));
    let next = world.issue(&mut replica, &key("lost")).dot;
    assert_eq!(next.actor, lost.dot.actor);
    assert!(next.n > lost.dot.n, "a dot was issued twice");
    replica.merge(&key("lost"), UNIT, &lost.state, &mut world).unwrap();
    assert_eq!(replica.actors_replaced(), 0, "what an earlier life has lost is no surprise");
    let mut replica = world.start(Actors::Continue);
    let third = world.issue(&mut replica, &key("k")).dot;
    assert_eq!((third.actor, third.n), (first.dot.actor, second.n + 1));
}

#[test]
fn the_actor_of_a_store_that_moved_is_not_taken_up_although_its_end_was_lost() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let first = world.issue(&mut replica, &key("k")).dot;
    let moved = |boot| NodeConfig { place: 7, ..config(boot, Actors::Jump) };
    let mut replica = Replica::load(&moved(2), &mut world.engine).unwrap();
    assert_ne!(world.issue(&mut replica, &key("k")).dot.actor, first.actor);
    let mut replica = Replica::load(&moved(3), &mut world.engine).unwrap();
    assert_ne!(world.issue(&mut replica, &key("k")).dot.actor, first.actor);
}

#[test]
fn what_no_reader_would_take_is_never_stored() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let sparse = |odd: u64| {
        let mut clock = VersionVector::default();
        (1..=RUNS_MAX as u64)
            .for_each(|n| clock.add(Dot { actor: ActorId(1 << 40), n: 2 * n + odd }));
        let mut state = VersionSet::default();
        state.discard(&clock);
        state
    };
    replica.merge(&key("k"), UNIT, &sparse(0), &mut world).unwrap();
    let mut other = VersionSet::default();
    other.discard(&VersionVector::new([(ActorId(2 << 40), 1)]));
    let refused = replica.merge(&key("k"), UNIT, &other, &mut world);
    assert!(matches!(refused, Err(Trouble::Failed(Error::Full(_)))), "{refused:?}");
    let loaded = replica.read(&key("k"), UNIT, &mut world.engine).expect("it can be read");
    assert_eq!(loaded.state, sparse(0));
    replica.merge(&key("k"), UNIT, &sparse(1), &mut world).expect("closes the gaps");
}

/// Two sides of a network that is cut, each as large as one coordinator lets it grow: they come together.
#[test]
fn what_each_coordinator_accepts_comes_together_in_one_record() {
    let mut states = Vec::new();
    for side in 0..3 {
        let mut world = World { random: side << 32, ..World::default() };
        let mut replica = world.start(Actors::Fresh);
        let heard = Heard { replicas: 3, answered: 2, ..Heard::default() };
        let mut refused = None;
        while refused.is_none() {
            let covers = Covers::AndLocal(VersionVector::default());
            let version = |hlc| Version::tombstone(hlc, RequestId(2));
            refused = replica.issue(&key("k"), UNIT, covers, &heard, version, &mut world).err();
            replica = world.start(Actors::Fresh);
        }
        assert!(matches!(refused, Some(Trouble::Failed(Error::Full(_)))), "{refused:?}");
        let state = replica.read(&key("k"), UNIT, &mut world.engine).unwrap().state;
        assert_eq!(state.runs(), issue_runs_max(3));
        states.push(state);
    }
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    for state in &states {
        replica.merge(&key("k"), UNIT, state, &mut world).unwrap();
    }
    let all = replica.read(&key("k"), UNIT, &mut world.engine).unwrap().state;
    let context = Context { clock: all.clock(), highest: all.highest_hlc() };
    context.seal(b"secret", KeyspaceId(0), b"k").expect("a token holds it");
}

#[test]
fn an_actor_that_died_in_an_unclean_start_stays_dead_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let lost = world.issue(&mut replica, &key("k")).dot;
    world.lose(&key("k"));
    drop(world.start(Actors::Fresh));
    let mut replica = world.start(Actors::Continue);
    let next = world.issue(&mut replica, &key("k")).dot;
    assert_ne!(next, lost, "a dot was issued twice");
}

#[test]
fn an_actor_that_a_peer_has_outrun_stays_dead_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Fresh);
    let told = world.issue(&mut replica, &key("k"));
    let other = world.issue(&mut replica, &key("other"));
    world.lose(&key("k"));
    world.lose(&key("other"));
    replica.merge(&key("k"), UNIT, &told.state, &mut world).unwrap();
    assert_eq!(replica.actors_replaced(), 1, "it was seen that dots are lost here");
    let mut replica = world.start(Actors::Continue);
    let next = world.issue(&mut replica, &key("other")).dot;
    assert_ne!(next, other.dot, "a dot was issued twice");
}

/// What a client would count: every record of a key, read and judged.
fn counted(engine: &mut MemoryEngine) -> (u64, u64) {
    let page = engine.scan_from(&[1], usize::MAX, usize::MAX).unwrap();
    let shows = |record: &Record| {
        let state = decode_state(&record.head, &record.body).unwrap();
        state.versions().any(|(_, version)| !version.tombstone)
    };
    let live = page.records.iter().filter(|(_, record)| shows(record)).count() as u64;
    (live, page.records.len() as u64 - live)
}

proptest! {
    /// Puts, deletes, merges from a peer in any order and restarts: the counts of keys are those of a scan, and none of
    /// this node's own records is among them.
    #[test]
    fn keys_and_deleted_keys_are_counted_as_a_scan_counts_them(
        steps in prop::collection::vec((0..6_u8, 0..4_usize), 1..60),
    ) {
        let names = ["a", "b", "c", "d"].map(key);
        let (mut world, mut peer) = (World::default(), World { random: 1 << 32, ..World::default() });
        let (mut replica, mut other) = (world.start(Actors::Fresh), peer.start(Actors::Fresh));
        let mut told: Vec<(KeyRef, VersionSet)> = Vec::new();
        for (step, at) in steps {
            let key = &names[at];
            match step {
                0 => drop(world.issue(&mut replica, key)),
                1 => drop(world.delete(&mut replica, key)),
                2 => told.push((key.clone(), peer.issue(&mut other, key).state)),
                3 => told.push((key.clone(), peer.delete(&mut other, key).state)),
                4 => {
                    if let Some((key, delta)) = told.get(at) {
                        replica.merge(key, UNIT, delta, &mut world).unwrap();
                    }
                }
                _ => replica = world.start([Actors::Continue, Actors::Jump, Actors::Fresh][at % 3]),
            }
            let stats = world.engine.stats();
            prop_assert_eq!(replica.keys(&stats), counted(&mut world.engine));
        }
    }
}

/// Bytes that pass their checksum and are malformed are damage too. What others hold takes their place, and dots that may be
/// lost are never issued again.
#[test]
fn a_record_that_cannot_be_read_is_replaced_and_its_actor_given_up() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Continue);
    let first = world.issue(&mut replica, &key("k"));
    let known_elsewhere = replica.read(&key("k"), UNIT, &mut world.engine).unwrap().state;
    world.issue(&mut replica, &key("k"));
    let change = Change::Put {
        key: data_key(UNIT.group, &key("k")),
        head: Bytes::from_static(b"\xff\xff"),
        body: [].into_iter().collect(),
        delta: 0,
    };
    world.engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    let unreadable = replica.read(&key("k"), UNIT, &mut world.engine);
    assert!(matches!(unreadable, Err(Trouble::Failed(Error::Corrupt { .. }))), "{unreadable:?}");
    replica.replace(&key("k"), UNIT, &known_elsewhere, &mut world).unwrap();
    assert_eq!(replica.read(&key("k"), UNIT, &mut world.engine).unwrap().state, known_elsewhere);
    let next = world.issue(&mut replica, &key("k"));
    assert_ne!(next.dot.actor, first.dot.actor);
}

/// Keys of a dropped keyspace are deleted many at a time, past all that a write does.
#[test]
fn a_complete_tree_is_that_of_what_is_stored_also_when_keys_are_deleted_or_replaced() {
    let mut world = World::default();
    let mut replica = world.start(Actors::Continue);
    let root = |replica: &mut Replica, world: &mut World| {
        replica.trees_mut().own([UNIT].into_iter(), 1);
        while replica.trees().is_growing() {
            replica.trees_mut().grow(1, &mut world.engine).unwrap();
        }
        replica.trees().complete(UNIT).map(Tree::root)
    };
    assert_eq!(root(&mut replica, &mut world), Some(0));
    for name in ["a", "b", "c"] {
        world.issue(&mut replica, &key(name));
    }
    world.delete(&mut replica, &key("b"));
    let state = replica.read(&key("b"), UNIT, &mut world.engine).unwrap().state;
    let gone = |name, entry| Gone {
        place: data_key(UNIT.group, &key(name)),
        key: key(name),
        unit: UNIT,
        is_deleted: false,
        entry,
    };
    let told = gone("b", Some(entry(&key("b"), &state)));
    assert!(replica.erase_all(&[told], &mut world.engine).unwrap());
    let kept = root(&mut replica, &mut world);
    replica.trees_mut().store_all(&mut world.engine).unwrap();
    assert_eq!(replica.trees().counts().stored, 1);
    assert!(replica.erase_all(&[gone("c", None)], &mut world.engine).unwrap());
    let unread = root(&mut replica, &mut world);
    world.issue(&mut replica, &key("a"));
    let last = root(&mut replica, &mut world);
    let mut again = world.start(Actors::Continue);
    assert_eq!(root(&mut again, &mut world), last, "as a scan of what is left finds it");
    assert_eq!(again.trees().counts().loaded, 0, "the row went with what nobody could read");
    assert!(last != unread && unread != kept && kept != Some(0), "each is another");
}
