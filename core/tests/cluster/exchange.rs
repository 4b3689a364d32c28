//! Shards that compare their copies: they become equal whatever each of them missed, nothing is made of what cannot be read, and a key
//! among many costs little.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::{prop_assert, prop_assert_eq, proptest};
use rondo_core::config::NodeConfig;
use rondo_core::engine::{Batch, Change, Engine};
use rondo_core::id::{ActorId, GroupId, KeyspaceId, NodeId, OpId, RequestId, Unit};
use rondo_core::layout::keyspace::Level;
use rondo_core::member::view::View;
use rondo_core::repair::merkle::FORMAT;
use rondo_core::replica::keys::data_key;
use rondo_core::shard::Shard;
use rondo_core::version::dvv::{Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::Action;
use rondo_core::wire::frame::Generation;
use rondo_core::wire::key::KeyRef;
use rondo_core::wire::message::{self, Envelope, Message};
use rondo_core::wire::repair::{Compare, RepairMessage, Told};
use rondo_core::wire::state::encode_state;

use crate::engine::SlowEngine;
use crate::node_config::node_config;
use crate::transfer::{Trio, World};

/// Nodes that compare their copies every ten seconds.
fn comparing(nodes: u128, partitions: u16) -> Trio {
    let config = NodeConfig { repair_every_ms: 10_000, hint_bytes_max: 0, ..node_config() };
    let mut trio = Trio::with(nodes, partitions, &config, SlowEngine::default);
    trio.pass(1_500);
    trio.said.clear();
    trio
}

fn name(n: u8) -> String {
    format!("key{n}")
}

proptest! {
    /// Writes and deletions at level one that reach nobody, or some, and restarts: nobody reads, and all copies become equal.
    #[test]
    fn copies_become_equal_whatever_each_of_them_missed(
        steps in vec((1usize..4, 0u8..12, 0usize..5, 0u8..8), 1..40)
    ) {
        let mut trio = comparing(3, 4);
        for (n, (at, key, cut, what)) in steps.into_iter().enumerate() {
            let cut: Vec<usize> = match cut {
                0 => vec![],
                4 => (1..4).filter(|node| *node != at).collect(),
                one => [one].into_iter().filter(|node| *node != at).collect(),
            };
            match what {
                0 => trio.restart(at),
                1 => trio.pass(200),
                2 => trio.write(at, &name(key), Action::Delete { context: None }, Level::One, &cut),
                _ => trio.put(at, &name(key), &format!("v{n}"), Level::One, &cut),
            }
        }
        trio.pass(25_000);
        for key in (0..12).map(name) {
            let states = [1, 2, 3].map(|at| trio.state(at, &key));
            prop_assert!(states.windows(2).all(|two| two[0] == two[1]), "{key}: {states:?}");
        }
        // And nothing more is found to do.
        trio.said.clear();
        trio.pass(15_000);
        prop_assert_eq!(trio.count("Inner"), 0);
    }
}

fn ask(trio: &mut Trio, question: Compare, format: u8) -> Told {
    let mut told = None;
    let asks = |shard: &mut Shard, view: View<'_>, world: &mut World| {
        let (op, layouts) = (OpId::default(), view.layout_set.clone());
        let ask = RepairMessage::Ask { op, layouts, format, question };
        world.sent.clear();
        shard.on_repair(NodeId(2), ask, view, world)
    };
    trio.step(1, asks).expect("no disk fails");
    for (_, sent) in trio.peers[0].world.sent.drain(..) {
        if let Message::Repair(RepairMessage::Answer { told: says, .. }) = sent.message {
            told = Some(says);
        }
    }
    told.expect("it always answers")
}

#[test]
fn who_makes_its_trees_of_other_hashes_is_told_so_and_compared_with_nothing() {
    let mut trio = comparing(2, 1);
    let unit = Unit::default();
    assert_eq!(ask(&mut trio, Compare::Inner { unit }, FORMAT + 1), Told::OtherFormat);
    let all = vec![0; 32];
    assert_eq!(ask(&mut trio, Compare::Inner { unit }, FORMAT), Told::Hashes { hashes: all });
}

#[test]
fn a_unit_that_is_partial_takes_no_part() {
    let mut trio = comparing(3, 1);
    trio.put(1, "k", "x", Level::All, &[]);
    trio.wipe(1);
    trio.recover(1);
    trio.peers[1].is_gone = true;
    trio.peers[2].is_gone = true;
    trio.pass(5_000);
    assert!(!trio.is_whole(1), "nobody has given it anything");
    let unit = Unit::default();
    let roots = ask(&mut trio, Compare::Roots { units: vec![unit] }, FORMAT);
    assert_eq!(roots, Told::Roots { roots: Vec::new() }, "what it lacks would look deleted");
    for question in [Compare::Inner { unit }, Compare::Leaves { unit, inner: 1 }] {
        assert_eq!(ask(&mut trio, question, FORMAT), Told::NotCounted);
    }
}

#[test]
fn no_number_of_a_question_is_believed() {
    let mut trio = comparing(2, 1);
    let unit = Unit::default();
    let keys =
        |leaves: Vec<u16>, from: &'static str| Compare::Keys { unit, leaves, from: from.into() };
    assert_eq!(ask(&mut trio, keys(vec![1024], ""), FORMAT), Told::Failed, "no such leaf");
    assert_eq!(ask(&mut trio, keys(vec![0; 257], ""), FORMAT), Told::Failed, "too many");
    assert_eq!(ask(&mut trio, keys(vec![0], "\u{2}z"), FORMAT), Told::Failed, "no place of it");
    let units = vec![unit; 513];
    assert_eq!(ask(&mut trio, Compare::Roots { units }, FORMAT), Told::Failed);
}

#[test]
fn a_record_whose_head_cannot_be_read_ends_a_comparison_and_is_taken_for_absent_by_nobody() {
    let mut trio = comparing(2, 1);
    trio.put(1, "k", "x", Level::One, &[2]);
    trio.put(2, "k", "y", Level::One, &[1]);
    trio.peers[1].world.engine.heads_rotten = true;
    trio.pass(30_000);
    assert!(trio.count("n2 → n1 Unreadable") > 0, "it says so");
    assert_eq!(trio.values(1, "k"), ["x"], "nothing was brought, and nothing taken");
    trio.peers[1].world.engine.heads_rotten = false;
    trio.pass(30_000);
    assert_eq!(trio.state(1, "k"), trio.state(2, "k"));
    assert_eq!(trio.values(1, "k").len(), 2);
}

/// Writes a record past the shard, so that its tree does not know of it.
fn write_past(trio: &mut Trio, at: usize, key: &str, state: &VersionSet) {
    let key = KeyRef::new(KeyspaceId(1), Bytes::copy_from_slice(key.as_bytes()));
    let (head, body) = encode_state(state);
    let change = Change::put(data_key(GroupId(0), &key), head, body);
    let batch = Batch { changes: [change].into_iter().collect() };
    trio.peers[at - 1].world.engine.write(&batch).expect("memory");
}

#[test]
fn a_tree_that_does_not_say_what_is_stored_is_made_anew_on_both_sides() {
    let mut trio = comparing(2, 1);
    trio.put(1, "k", "x", Level::One, &[2]);
    let state = trio.state(1, "k");
    write_past(&mut trio, 2, "k", &state);
    trio.pass(40_000);
    let said = std::mem::take(&mut trio.said);
    let count = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("Regrow"), count("Merge")), (1, 0), "once, and no state travels");
    trio.pass(25_000);
    assert_eq!(trio.count("Inner"), 0, "the trees are equal now");
}

/// So many keys in one store, or two equal ones.
fn filled(keys: u32) -> SlowEngine {
    let mut engine = SlowEngine::default();
    for n in 0..keys {
        let key = KeyRef::new(KeyspaceId(1), Bytes::from(format!("key{n:07}")));
        let mut state = VersionSet::default();
        let value = Bytes::from_static(b"a value of some bytes");
        let version = Version::value(Hlc(9), RequestId(1), Bytes::new(), value);
        state.put(&VersionVector::default(), ActorId(7), version);
        let (head, body) = encode_state(&state);
        let changes = [Change::put(data_key(GroupId(0), &key), head, body)];
        engine.write(&Batch { changes: changes.into_iter().collect() }).expect("memory");
    }
    engine.copy()
}

/// Of 20,000 keys in 256 partitions: everything that two nodes say to each other until one
/// that differs is equal.
#[test]
fn one_key_among_many_that_differs_costs_little() {
    let keys = 20_000;
    // A hint would bring what one lacks before the trees are compared.
    let config = NodeConfig { repair_every_ms: 3_600_000, hint_bytes_max: 0, ..node_config() };
    let mut trio = Trio::with(2, 256, &config, || filled(keys));
    for _ in 0..1_000_000 {
        trio.pass(50);
        if trio.peers.iter().all(|peer| peer.shard.is_compared()) {
            break;
        }
    }
    trio.put(1, "key0000007", "another", Level::One, &[2]);
    assert_ne!(trio.state(1, "key0000007"), trio.state(2, "key0000007"));
    trio.said.clear();
    trio.peers[0].shard.compare_soon(trio.now);
    let mut bytes = 0;
    for _ in 0..200 {
        trio.now = trio.now.plus_ms(50);
        for at in [1, 2] {
            let tick = |shard: &mut Shard, view: View<'_>, world: &mut World| {
                shard.tick_requests(view, world)?;
                shard.maintain(view, world)
            };
            trio.step(at, tick).expect("no disk fails");
        }
        let size = std::cell::Cell::new(0);
        trio.deliver(usize::MAX, |_, _, message| {
            let envelope = Envelope {
                life: Default::default(),
                durable: Default::default(),
                message: message.clone(),
            };
            let sent = message::encode(&envelope, Generation::NEWEST).expect("the newest says all");
            size.set(size.get() + sent.parts.iter().map(Bytes::len).sum::<usize>());
            false
        });
        bytes += size.get();
    }
    assert_eq!(trio.state(1, "key0000007"), trio.state(2, "key0000007"));
    println!("{keys} keys: {bytes} bytes in {} messages", trio.said.len());
    assert!(trio.count("Keys") > 0, "it was found by comparing trees");
    assert!(bytes < 40 << 10, "{bytes} bytes");
}
