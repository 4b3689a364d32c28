//! The stories. Each is a scenario that a simpler design gets wrong.

use insta::assert_snapshot;
use rondo_core::config::DRIFT_MS_MAX;
use rondo_core::layout::keyspace::Level;
use rondo_core::message::{Action, Request};
use rondo_core::version::context::Context;

use crate::stage::{Stage, get, put, request};

#[test]
fn three_nodes_form_a_cluster_and_only_then_serve() {
    let mut stage = Stage::unformed(3);
    stage.ask(1, put("early"));
    for _ in 0..20 {
        stage.pass(100);
    }
    let ready: Vec<bool> = (1..=3).map(|node| stage.status(node).ready).collect();
    assert_eq!(ready, [true, true, true]);
    let digests: Vec<_> = (1..=3).map(|node| stage.status(node).layout.unwrap().digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "one layout");
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_node_with_seeds_never_forms_a_cluster_alone() {
    let mut stage = Stage::unformed(3);
    // n1 hears nobody: its seeds are up, but every datagram is lost.
    stage.gossip_off = true;
    for _ in 0..50 {
        stage.pass(100);
    }
    let status = stage.status(1);
    assert!(!status.ready && status.layout.is_none());
    assert_snapshot!(status.waiting.join("\n"), @"waiting for 3 nodes, 1 is here");
}

#[test]
fn a_put_asks_then_issues_then_waits_for_two_disks() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.say("the query round is met by n1 itself and n2");
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.say("the dot may not leave before the clock's first mark is durable");
    stage.sync(1);
    stage.deliver(1, 2);
    stage.say("n2 has merged but not synced: no acknowledgement yet");
    assert!(!stage.deliver(2, 1));
    stage.sync(2);
    stage.deliver(2, 1);
    assert_snapshot!(stage.transcript());
}

#[test]
fn the_second_put_leaves_while_the_local_sync_runs() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.settle();
    stage.transcript();
    stage.ask(1, put("y"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.say("n1 has not synced, yet n2 merges, syncs and acknowledges: two are needed");
    stage.deliver(1, 2);
    stage.sync(2);
    stage.deliver(2, 1);
    stage.sync(1);
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_read_of_a_half_written_value_writes_it_back_before_it_answers() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("old"));
    stage.settle();
    stage.say("the new value reaches n1 only");
    stage.cut = vec![(1, 2), (1, 3)];
    stage.ask(2, get());
    stage.settle();
    stage.cut = Vec::new();
    stage.ask(1, put("new"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.lose(1, 2);
    stage.lose(1, 3);
    stage.sync(1);
    stage.lose(1, 2);
    stage.lose(1, 3);
    stage.transcript();
    stage.say("n2 reads from n1 and itself");
    stage.ask(2, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn clocks_apart_a_later_write_wins() {
    let mut stage = Stage::formed(3);
    stage.set_wall_offset(1, 400);
    stage.set_wall_offset(2, -400);
    stage.ask(1, put("first"));
    stage.settle();
    stage.ask(2, put("second"));
    stage.settle();
    stage.transcript();
    stage.ask(3, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_clock_far_off_stops_writes_at_one_and_nothing_else() {
    let mut stage = Stage::formed(3);
    stage.gossip_off = false;
    stage.set_wall_offset(1, 60_000);
    stage.pass(200);
    stage.transcript();
    let one = || Request { level: Some(Level::One), ..put("x") };
    stage.ask(1, one());
    stage.ask(2, one());
    stage.settle();
    stage.say("at quorum any clock will do, and its time is not catching");
    stage.ask(1, put("from the future"));
    stage.settle();
    stage.ask(2, put("later"));
    stage.settle();
    stage.ask(3, get());
    stage.settle();
    assert_eq!([1, 2, 3].map(|node| stage.status(node).clock_ahead_ms), [60_000, 0, 0]);
    assert_snapshot!(stage.transcript());
}

/// A repetition before the clock's mark is durable would show a time to which the clock goes back after a power loss.
#[test]
fn a_dot_is_not_sent_again_before_the_mark_above_it_is_durable() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.transcript();
    stage.say("the first sync of n1 takes long; it asks again");
    stage.tick(150);
    stage.tick(150);
    let sent = stage.transcript();
    assert!(!sent.contains("n1 → n2 Merge {"), "{sent}");
    stage.sync(1);
    let sent = stage.transcript();
    assert!(sent.contains("n1 → n2 Merge {"), "{sent}");
}

/// The node's clock runs ahead for a moment, and is set right again. What it has shown meanwhile is kept by the durable mark, so a
/// jump must not be believed while there are peers to compare with (<https://github.com/yugabyte/yugabyte-db/issues/31160>).
#[test]
fn a_jump_of_the_own_clock_is_not_kept() {
    let mut stage = Stage::formed(3);
    stage.gossip_off = false;
    stage.pass(100);
    stage.set_wall_offset(1, 20_000);
    let version = stage.stored_at(1, put("in the future"));
    assert!(version.wall_ms() <= 1_000_000 + stage.now.0 / 1_000_000 + DRIFT_MS_MAX, "{version}");
    stage.set_wall_offset(1, 0);
    stage.pass(1_000);
    let later = Request { level: Some(Level::One), ..put("later") };
    stage.stored(1, later);
}

/// Alone nothing tells a node that its clock is wrong. When it hears its peers again, its hybrid clock is still ahead, although its
/// wall is right: a write at `one` would hide all later ones for as long.
#[test]
fn a_hybrid_clock_that_is_ahead_stops_writes_at_one_although_the_wall_is_right() {
    for (ahead_ms, passes) in [(20_000, true), (86_400_000, false)] {
        a_hybrid_clock_is_ahead(ahead_ms, passes);
    }
}

/// `passes`: whether a client is told that asking again helps.
fn a_hybrid_clock_is_ahead(ahead_ms: i64, passes: bool) {
    let mut stage = Stage::unformed(3);
    stage.gossip_off = true;
    stage.set_wall_offset(1, ahead_ms);
    stage.leap(1);
    stage.set_wall_offset(1, 0);
    stage.gossip_off = false;
    for _ in 0..20 {
        stage.pass(100);
    }
    stage.transcript();
    stage.ask(1, Request { level: Some(Level::One), ..put("x") });
    let told = stage.transcript();
    let told = told.lines().rfind(|line| line.starts_with("client")).unwrap();
    let what = if passes { "Unavailable" } else { "Unavailable for good" };
    assert!(told.contains(&format!("{what}: this node's hybrid clock is")), "{told}");
    stage.stored(1, put("at quorum"));
}

#[test]
fn a_stale_context_makes_a_sibling_and_nothing_is_lost() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("a"));
    stage.settle();
    let empty = Context::default();
    stage.ask(
        2,
        request(Action::Put {
            value: "b".into(),
            content_type: bytes::Bytes::new(),
            context: Some(empty),
        }),
    );
    stage.settle();
    stage.transcript();
    stage.ask(3, get());
    stage.settle();
    stage.say("a blind write covers all that its query round saw");
    stage.ask(3, put("c"));
    stage.settle();
    stage.ask(1, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_second_attempt_never_writes_twice() {
    let named = |attempt| Request { named: true, attempt, ..put("x") };
    let mut stage = Stage::formed(3);
    stage.say("the reply to the first attempt is lost on its way; the client asks the same node");
    stage.ask(1, named(1));
    stage.settle();
    stage.ask(1, named(2));
    stage.say("another coordinator finds the dot by the request's id");
    stage.ask(2, named(3));
    stage.settle();
    stage.say("a request nobody has seen may still be on its way: not written, not denied");
    stage.ask(2, Request { id: rondo_core::id::RequestId(8), ..named(2) });
    stage.settle();
    stage.ask(3, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_found_attempt_is_told_only_what_it_knew() {
    let empty = || Some(Context::default());
    let with = |value: &'static str, id, attempt| Request {
        id: rondo_core::id::RequestId(id),
        named: true,
        attempt,
        ..request(Action::Put {
            value: value.into(),
            content_type: bytes::Bytes::new(),
            context: empty(),
        })
    };
    let mut stage = Stage::formed(3);
    stage.ask(1, with("x", 7, 1));
    stage.settle();
    stage.say("somebody else writes a sibling that the first writer never sees");
    stage.ask(2, with("y", 8, 1));
    stage.settle();
    stage.transcript();
    stage.ask(3, with("x", 7, 2));
    stage.settle();
    let told = stage.transcript();
    let told = told.lines().find(|line| line.starts_with("client 3 ←")).unwrap();
    assert_snapshot!(told, @"client 3 ← Stored, knows {a1:1}");
}

#[test]
fn too_few_replicas_before_the_event_is_unavailable_and_after_it_indeterminate() {
    let mut stage = Stage::formed(3);
    stage.cut = vec![(1, 2), (1, 3)];
    stage.ask(1, put("never issued"));
    stage.pass(1_000);
    stage.cut = Vec::new();
    stage.ask(1, put("issued"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.cut = vec![(1, 2), (1, 3)];
    stage.pass(1_000);
    stage.cut = Vec::new();
    stage.say("later the indeterminate write turns out to have happened");
    stage.ask(1, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_failed_sync_stops_the_node_and_releases_nothing() {
    let mut stage = Stage::formed(3);
    stage.cut = vec![(1, 2), (1, 3)];
    stage.ask(1, Request { level: Some(Level::One), ..put("x") });
    assert!(stage.fail_sync(1).is_err());
    stage.abandon(1);
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_cold_record_is_read_elsewhere_while_the_node_goes_on() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.settle();
    stage.transcript();
    for node in [2, 3] {
        stage.engine(node).cold = true;
    }
    stage.ask(1, get());
    let asked = if stage.deliver(1, 2) { 2 } else { 3 };
    stage.deliver(1, asked);
    assert!(!stage.deliver(asked, 1), "it waits for its device");
    stage.end_reads(asked);
    stage.deliver(asked, 1);
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_cold_read_that_a_write_has_overtaken_is_not_shown() {
    let empty = Some(Context::default());
    let (value, content_type) = ("mine".into(), bytes::Bytes::new());
    let mine = request(Action::Put { value, content_type, context: empty });
    let mut stage = Stage::formed(3);
    // So long that what the query reads is not kept for the write.
    let (value, content_type) = (vec![b'o'; 5_000].into(), bytes::Bytes::new());
    stage.ask(1, request(Action::Put { value, content_type, context: None }));
    stage.settle();
    stage.ask(1, mine);
    stage.engine(1).cold = true;
    // Issued and acknowledged elsewhere; its merge waits at n1 for the device.
    let write_elsewhere = |stage: &mut Stage, at: usize, value| {
        let other = 5 - at;
        stage.ask(at, put(value));
        stage.lose(at, 1);
        stage.deliver(at, other);
        stage.deliver(other, at);
        stage.sync(at);
        stage.deliver(at, other);
        stage.sync(other);
        stage.deliver(other, at);
        assert!(stage.deliver(at, 1), "the merge");
    };
    write_elsewhere(&mut stage, 2, "first");
    // Between the two merges, n1's own put comes to wait for the same read.
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    write_elsewhere(&mut stage, 3, "second");
    // The put is found cold once more, and the second merge right after it is not.
    stage.engine(1).cold_gets = 1;
    stage.end_reads(1);
    stage.end_reads(1);
    stage.settle();
    stage.transcript();
    stage.ask(1, Request { level: Some(Level::One), ..get() });
    assert_snapshot!(stage.transcript(), @r"
    client 5 → n1 get k
    client 5 ← Found mine | second, knows {a1:2 a2:1 a3:1}
    ");
}

#[test]
fn a_delete_is_a_write_and_leaves_a_context() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.settle();
    stage.ask(2, request(Action::Delete { context: None }));
    stage.settle();
    stage.transcript();
    stage.ask(3, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

/// What a client writes with the token that it was given.
fn over(value: &'static str, context: &Context) -> Request {
    let context = Some(context.clone());
    request(Action::Put { value: value.into(), content_type: bytes::Bytes::new(), context })
}

/// The delete wins, and what was written beside it is told of by the answer whose context covers it; otherwise the next write
/// with that context would destroy what nobody was ever shown.
#[test]
fn a_value_beside_a_winning_delete_is_told() {
    let mut stage = Stage::formed(3);
    let first = stage.stored(1, put("first"));
    stage.stored(1, over("beside", &first));
    stage.stored(2, request(Action::Delete { context: Some(first) }));
    stage.transcript();
    stage.ask(3, get());
    stage.settle();
    let told = stage.transcript();
    let told = told.lines().rfind(|line| line.starts_with("client")).unwrap();
    assert_snapshot!(told, @"client 4 ← NotFound beside beside, knows {a1:2 a2:1}");
}

/// Each write of one client overwrites its last one, although another's stands unseen below them.
#[test]
fn a_client_that_chains_its_tokens_leaves_one_value_beside_the_unseen_one() {
    let mut stage = Stage::formed(3);
    stage.stored(1, put("unseen"));
    let mut token = Context::default();
    for n in 0..100 {
        token = stage.stored(n / 3 % 3 + 1, over("chained", &token));
    }
    stage.stored(1, over("last", &token));
    stage.transcript();
    stage.ask(2, get());
    stage.settle();
    let told = stage.transcript();
    let told = told.lines().rfind(|line| line.starts_with("client")).unwrap();
    assert_snapshot!(told, @"client 103 ← Found last | unseen, knows {a1:36 a2:33 a3:33}");
}

#[test]
fn a_node_that_is_no_primary_passes_a_put_on_once() {
    let mut stage = Stage::formed(4);
    let owners = stage.status(1).layout.unwrap().owners[0].clone();
    let outsider = (0..4).find(|at| !owners.contains(at)).unwrap() as usize + 1;
    stage.ask(outsider, put("x"));
    stage.settle();
    stage.transcript();
    stage.say("any node may coordinate a read");
    stage.ask(outsider, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}
