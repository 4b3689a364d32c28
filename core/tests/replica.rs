//! The local copy of a node over several lives: an actor whose dots may be lost issues no more, not even after
//! a clean end. What a cold read may bring is told in `cluster/stories.rs`.

use bytes::Bytes;
use proptest::prelude::{prop, prop_assert_eq, proptest};
use rondo_core::codec;
use rondo_core::config::{Durability, MEMORY_BYTES_USUAL, NodeConfig};
use rondo_core::engine::{Batch, Change, Engine, MemoryEngine, Record};
use rondo_core::env::{Address, Mono, Wall};
use rondo_core::error::Error;
use rondo_core::id::{
    BootEpoch, ClientTag, KeyspaceId, Life, NodeId, PartitionId, RequestId, SessionId,
};
use rondo_core::message::{Envelope, Gossip, KeyRef, Reply};
use rondo_core::probe::Probe;
use rondo_core::replica::{Covers, Issued, Replica, Terms, Trouble, data_key};
use rondo_core::step::Env;
use rondo_core::version::dvv::{Clock, Version, VersionSet};
use rondo_core::version::hlc::Hlc;

const PARTITION: PartitionId = PartitionId(0);

/// A store, and numbers that are all different.
#[derive(Default)]
struct World {
    engine: MemoryEngine,
    random: u64,
}

impl Probe for World {}

impl Env for World {
    fn mono(&self) -> Mono {
        Mono(0)
    }
    fn wall(&self) -> Wall {
        Wall(1_000_000)
    }
    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }
    fn engine(&mut self) -> &mut dyn Engine {
        &mut self.engine
    }
    fn send(&mut self, _: NodeId, _: Envelope) -> bool {
        true
    }
    fn is_connected(&self, _: NodeId) -> bool {
        true
    }
    fn datagram(&mut self, _: &Address, _: &Gossip) {}
    fn route(&mut self, _: NodeId, _: &str, _: &Address) {}
    fn reply(&mut self, _: ClientTag, _: Reply) {}
}

impl World {
    /// The next life; `clean` when the last one was ended cleanly.
    fn start(&mut self, clean: bool) -> Replica {
        Replica::load(&config(clean), &mut self.engine).unwrap()
    }

    fn issue(&mut self, replica: &mut Replica, key: &KeyRef) -> Issued {
        let version = |hlc| Version::value(hlc, RequestId(1), Bytes::new(), "v".into());
        let covers = Covers::Only(Clock::default());
        replica.issue(key, PARTITION, terms(covers), version, self).unwrap()
    }

    fn delete(&mut self, replica: &mut Replica, key: &KeyRef) -> Issued {
        let covers = Covers::AndLocal(Clock::default());
        let version = |hlc| Version::tombstone(hlc, RequestId(2));
        replica.issue(key, PARTITION, terms(covers), version, self).unwrap()
    }

    /// A power loss takes a write that had been told to others.
    fn lose(&mut self, key: &KeyRef) {
        let changes = [Change::Delete { key: data_key(key) }].into_iter().collect();
        self.engine.write(&Batch { changes }).unwrap();
    }
}

fn config(clean: bool) -> NodeConfig {
    NodeConfig {
        id: NodeId(1),
        name: "n1".to_owned(),
        life: Life { boot: BootEpoch(1), session: SessionId(1) },
        earlier: Vec::new(),
        place: 0,
        clean,
        cluster: "c".to_owned(),
        peer_address: Address::default(),
        client_address: Address::default(),
        seeds: Vec::new(),
        bootstrap_expect: 1,
        partitions: 1,
        replicas: 3,
        read_quorum: 2,
        write_quorum: 2,
        weight: 1,
        zone: String::new(),
        deadline_ms: 1_000,
        hedge_ms: 10,
        resend_ms: 100,
        heartbeat_ms: 100,
        dead_ms: 1_000,
        durability: Durability::Batch,
        memory_bytes_max: MEMORY_BYTES_USUAL,
    }
}

fn terms(covers: Covers) -> Terms {
    Terms { covers, seen: Hlc(0), replicas: 3 }
}

fn key(name: &'static str) -> KeyRef {
    KeyRef { keyspace: KeyspaceId(0), key: Bytes::from_static(name.as_bytes()) }
}

#[test]
fn an_actor_lives_on_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(false);
    let first = world.issue(&mut replica, &key("k")).dot;
    let mut replica = world.start(true);
    let second = world.issue(&mut replica, &key("k")).dot;
    assert_eq!((second.actor, second.n), (first.actor, first.n + 1));
}

#[test]
fn an_actor_that_died_in_an_unclean_start_stays_dead_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(false);
    let lost = world.issue(&mut replica, &key("k")).dot;
    world.lose(&key("k"));
    drop(world.start(false));
    let mut replica = world.start(true);
    let next = world.issue(&mut replica, &key("k")).dot;
    assert_ne!(next, lost, "a dot was issued twice");
}

#[test]
fn an_actor_that_a_peer_has_outrun_stays_dead_after_a_clean_end() {
    let mut world = World::default();
    let mut replica = world.start(false);
    let told = world.issue(&mut replica, &key("k"));
    let other = world.issue(&mut replica, &key("other"));
    world.lose(&key("k"));
    world.lose(&key("other"));
    replica.merge(&key("k"), PARTITION, &told.delta, &mut world).unwrap();
    assert_eq!(replica.actors_replaced(), 1, "it was seen that dots are lost here");
    let mut replica = world.start(true);
    let next = world.issue(&mut replica, &key("other")).dot;
    assert_ne!(next, other.dot, "a dot was issued twice");
}

/// What a client would count: every record of a key, read and judged.
fn counted(engine: &mut MemoryEngine) -> (u64, u64) {
    let page = engine.scan_from(&[1], usize::MAX, usize::MAX).unwrap();
    let shows = |record: &Record| {
        let state = codec::decode_state(&record.head, &record.body).unwrap();
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
        let (mut replica, mut other) = (world.start(false), peer.start(false));
        let mut told: Vec<(KeyRef, VersionSet)> = Vec::new();
        for (step, at) in steps {
            let key = &names[at];
            match step {
                0 => drop(world.issue(&mut replica, key)),
                1 => drop(world.delete(&mut replica, key)),
                2 => told.push((key.clone(), peer.issue(&mut other, key).delta)),
                3 => told.push((key.clone(), peer.delete(&mut other, key).delta)),
                4 => {
                    if let Some((key, delta)) = told.get(at) {
                        replica.merge(key, PARTITION, delta, &mut world).unwrap();
                    }
                }
                _ => replica = world.start(at % 2 == 0),
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
    let mut replica = world.start(true);
    let first = world.issue(&mut replica, &key("k"));
    let known_elsewhere = replica.read(&key("k"), &mut world.engine).unwrap().state;
    world.issue(&mut replica, &key("k"));
    let change = Change::Put {
        key: data_key(&key("k")),
        head: Bytes::from_static(b"\xff\xff"),
        body: [].into_iter().collect(),
    };
    world.engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    let unreadable = replica.read(&key("k"), &mut world.engine);
    assert!(matches!(unreadable, Err(Trouble::Failed(Error::Corrupt { .. }))), "{unreadable:?}");
    replica.replace(&key("k"), PARTITION, &known_elsewhere, &mut world).unwrap();
    assert_eq!(replica.read(&key("k"), &mut world.engine).unwrap().state, known_elsewhere);
    let next = world.issue(&mut replica, &key("k"));
    assert_ne!(next.dot.actor, first.dot.actor);
}
