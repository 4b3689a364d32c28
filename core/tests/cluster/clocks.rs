//! Stories of a key whose coordinator ends uncleanly again and again: its clock does not grow with its lives.

use std::cell::RefCell;

use rondo_core::config::{Actors, OWN_RUNS_USUAL, issue_runs_max};
use rondo_core::engine::{Engine, Record};
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::VersionSet;
use rondo_core::wire::client::{Action, Request};
use rondo_core::wire::state::decode_state;

use crate::request::request;
use crate::stage::{Stage, Start, put};

/// Node 1 is killed and started again, and everybody has heard of it.
fn restart(stage: &mut Stage, boot: u64, actors: Actors) {
    let engine = RefCell::new(stage.engine(1).copy());
    let earlier = vec![(boot - 1, boot - 1)];
    let start = Start { engine, earlier, actors, ..Stage::nothing() };
    stage.start(1, 1, (boot, boot), &start);
    stage.gossip_off = false;
    (0..4).for_each(|_| stage.pass(100));
    stage.gossip_off = true;
    stage.transcript();
}

fn copies(stage: &mut Stage) -> Vec<VersionSet> {
    let read = |node| {
        let page = stage.engine(node).scan_from(&[1], 10, 1 << 20).unwrap();
        let record = page.records.first();
        let decode = |record: &Record| decode_state(&record.head, &record.body).unwrap();
        record.map(|(_, record)| decode(record)).unwrap_or_default()
    };
    (1..=3).map(read).collect()
}

/// A put at node 1, which may wait for the first repetition.
fn told(stage: &mut Stage, request: Request) -> String {
    stage.ask(1, request);
    stage.settle();
    stage.pass(100);
    stage.told()
}

#[test]
fn a_key_that_is_written_in_400_lives_has_a_short_clock_and_can_be_deleted() {
    let mut stage = Stage::formed(3);
    for boot in 2..=401 {
        restart(&mut stage, boot, Actors::Jump);
        let Context { clock, .. } = stage.stored(1, put("x"));
        assert_eq!(clock.entries().len(), 1, "one actor");
        assert!(clock.runs() <= OWN_RUNS_USUAL + 1, "{} runs", clock.runs());
    }
    let delete = Request { level: Some(Level::All), ..request(Action::Delete { context: None }) };
    let knows = stage.stored(1, delete).clock;
    assert_eq!(knows.runs(), 1, "all have answered: {knows:?}");
    stage.settle();
    let copies = copies(&mut stage);
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    let sealed = Context { clock: knows, ..Context::default() };
    sealed.seal(b"secret", rondo_core::id::KeyspaceId(0), b"k").expect("a token");
}

#[test]
fn while_a_replica_is_away_a_key_fills_up_and_says_what_makes_room() {
    let mut stage = Stage::formed(3);
    let full = issue_runs_max(3) as u64;
    let away = vec![(1, 3), (3, 1)];
    for boot in 2..2 + full {
        restart(&mut stage, boot, Actors::Jump);
        stage.cut.clone_from(&away);
        let told = told(&mut stage, put("x"));
        assert!(told.contains("Stored"), "boot {boot}: {told}");
        stage.cut = Vec::new();
    }
    restart(&mut stage, 2 + full, Actors::Jump);
    let before = copies(&mut stage);
    stage.cut = away;
    let refused = told(&mut stage, put("more"));
    assert!(refused.contains("as soon as all of its replicas answer"), "{refused}");
    assert_eq!(copies(&mut stage), before, "nothing was written");
    stage.cut = Vec::new();
    let knows = stage.stored(1, put("room")).clock;
    assert_eq!(knows.runs(), 1, "{knows:?}");
}

/// What is lost of an earlier life and still held by a peer is never called gone.
#[test]
fn a_version_that_only_a_peer_kept_outlives_the_closing_of_gaps() {
    let mut stage = Stage::formed(3);
    stage.stored(1, put("first"));
    let before = RefCell::new(stage.engine(1).copy());
    let kept = stage.stored(1, put("kept"));
    let (engine, earlier, actors) = (before, vec![(1, 1)], Actors::Jump);
    let start = Start { engine, earlier, actors, ..Stage::nothing() };
    stage.start(1, 1, (2, 2), &start);
    stage.gossip_off = false;
    (0..4).for_each(|_| stage.pass(100));
    stage.gossip_off = true;
    let only = Context::default();
    let value = bytes::Bytes::from_static(b"sibling");
    let action =
        Action::Put { value, content_type: bytes::Bytes::new(), context: Some(only), ttl_ms: None };
    let knows = stage.stored(1, Request { level: Some(Level::All), ..request(action) }).clock;
    let (actor, runs) = &kept.clock.entries()[0];
    let dot = rondo_core::version::dvv::Dot { actor: *actor, n: runs.highest() };
    assert!(!knows.covers(dot), "{knows:?} {dot:?}");
    let held = |copy: &VersionSet| copy.versions().any(|(held, _)| held == dot);
    assert!(held(&copies(&mut stage)[1]));
}
