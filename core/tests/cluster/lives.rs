//! Stories of directories that went back, ran twice or were moved: which life of a node counts.

use std::cell::RefCell;

use crate::stage::{Stage, Start, get, put};

/// What node `node` has now, started after these lives.
fn copy_of(stage: &mut Stage, node: usize, earlier: &[(u64, u64)]) -> Start {
    let engine = RefCell::new(stage.engine(node).copy());
    Start { engine, earlier: earlier.to_vec(), ..Stage::nothing() }
}

fn pass(stage: &mut Stage) {
    stage.gossip_off = false;
    for _ in 0..10 {
        stage.pass(100);
    }
    stage.transcript();
}

fn waiting(stage: &Stage, node: usize) -> String {
    stage.status(node).waiting.join("\n")
}

/// What a client is told, in one line.
fn answer(stage: &mut Stage, node: usize, request: rondo_core::wire::client::Request) -> String {
    stage.transcript();
    stage.ask(node, request);
    stage.settle();
    // Whom nobody counts does not answer either: then another is asked.
    (0..5).for_each(|_| stage.pass(50));
    let all = stage.transcript();
    all.lines().filter(|line| line.contains(" ← ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_older_copy_is_told_so_by_its_peers_and_serves_no_more_in_any_later_life() {
    let mut stage = Stage::formed(3);
    let old = copy_of(&mut stage, 1, &[(1, 1)]);
    let newest = copy_of(&mut stage, 1, &[(1, 1)]);
    stage.start(1, 1, (2, 22), &newest);
    pass(&mut stage);
    let later = copy_of(&mut stage, 1, &[(2, 22), (1, 1)]);
    stage.start(1, 1, (3, 33), &later);
    pass(&mut stage);
    assert_eq!(waiting(&stage, 1), "", "a restarted node counts");
    assert!(answer(&mut stage, 1, put("new")).contains("Stored"));

    stage.start(1, 1, (2, 99), &old);
    pass(&mut stage);
    insta::assert_snapshot!(waiting(&stage, 1));
    insta::assert_snapshot!(stage.status(2).notes.join("\n"));
    assert!(answer(&mut stage, 1, put("lost")).contains("Unavailable"), "it coordinates nothing");
    assert!(answer(&mut stage, 1, get()).contains("Unavailable"), "and reads nothing");
    let read = answer(&mut stage, 2, get());
    assert!(read.contains("new"), "the others go on without it: {read}");

    let told = copy_of(&mut stage, 1, &[(2, 99), (1, 1)]);
    stage.start(1, 1, (9, 5), &told);
    assert!(!waiting(&stage, 1).is_empty(), "what it was told it still knows");
    stage.start(1, 1, (9, 6), &Start { earlier: vec![(8, 5), (2, 99), (1, 1)], ..old });
    pass(&mut stage);
    let apart = waiting(&stage, 1);
    assert!(
        apart.contains("this directory was not there"),
        "restarts do not make it newer: {apart}"
    );
}

#[test]
fn of_two_processes_on_copies_of_one_directory_the_second_is_refused() {
    let mut stage = Stage::formed(3);
    let (first, second) = (copy_of(&mut stage, 1, &[(1, 1)]), copy_of(&mut stage, 1, &[(1, 1)]));
    stage.start(1, 1, (2, 10), &first);
    pass(&mut stage);
    stage.start(4, 1, (2, 20), &second);
    pass(&mut stage);
    insta::assert_snapshot!(waiting(&stage, 4));
    insta::assert_snapshot!(stage.status(1).notes.join("\n"));
    insta::assert_snapshot!(stage.status(3).notes.join("\n"));
    assert_eq!(waiting(&stage, 1), "", "the first goes on");
    assert!(answer(&mut stage, 1, put("x")).contains("Stored"));
    assert!(answer(&mut stage, 4, put("y")).contains("Unavailable"));
}

/// What node 1 had before its last acknowledged write, and what it has: made in one life, and no heartbeat between them.
fn backup_and_newest(stage: &mut Stage) -> (Start, Start) {
    stage.gossip_off = true;
    assert!(answer(stage, 2, put("old")).contains("Stored"));
    let behind = copy_of(stage, 1, &[(1, 1)]);
    assert!(answer(stage, 2, put("new")).contains("Stored"));
    (behind, copy_of(stage, 1, &[(1, 1)]))
}

/// What a live backup is, and what a directory is whose newest file was lost after a crash: it begins like a restart.
#[test]
fn a_store_that_begins_with_less_than_its_last_life_had_made_durable_is_refused() {
    let mut stage = Stage::formed(3);
    let (behind, newest) = backup_and_newest(&mut stage);
    pass(&mut stage);

    stage.start(1, 1, (2, 22), &behind);
    pass(&mut stage);
    insta::assert_snapshot!(waiting(&stage, 1));
    insta::assert_snapshot!(stage.status(2).notes.join("\n"));
    assert!(answer(&mut stage, 1, get()).contains("Unavailable"), "it answers nothing");
    assert!(answer(&mut stage, 2, get()).contains("Found new"), "and nobody takes its word");

    stage.start(1, 1, (2, 23), &newest);
    pass(&mut stage);
    assert_eq!(waiting(&stage, 1), "", "the newest directory lacks nothing");
    assert!(answer(&mut stage, 1, get()).contains("Found new"));
}

/// The acknowledgement itself says what it vouches for: whoever was killed behind it has sent no heartbeat since.
#[test]
fn what_a_node_has_acknowledged_its_peer_knows_at_once() {
    let mut stage = Stage::formed(3);
    let (behind, newest) = backup_and_newest(&mut stage);
    stage.start(1, 1, (2, 22), &behind);
    pass(&mut stage);
    assert!(waiting(&stage, 1).contains("had made"), "{}", waiting(&stage, 1));
    stage.start(1, 1, (2, 23), &newest);
    pass(&mut stage);
    assert_eq!(waiting(&stage, 1), "");
}

/// Peers that were restarted know little: the others tell them, and a copy that has been told of itself says so.
#[test]
fn peers_that_were_restarted_do_not_count_a_copy_of_the_last_life() {
    let mut stage = Stage::formed(3);
    let (behind, newest) = backup_and_newest(&mut stage);
    pass(&mut stage);

    stage.deaf = vec![1];
    let second = copy_of(&mut stage, 2, &[(1, 1)]);
    stage.start(2, 2, (2, 20), &second);
    pass(&mut stage);
    stage.deaf = vec![3];
    stage.start(1, 1, (2, 22), &behind);
    pass(&mut stage);
    let told = waiting(&stage, 1);
    assert!(told.contains("had made"), "n3 has told n2: {told}");

    let third = copy_of(&mut stage, 2, &[(2, 20), (1, 1)]);
    stage.start(2, 2, (3, 30), &third);
    pass(&mut stage);
    insta::assert_snapshot!(stage.status(2).notes.join("\n"));

    stage.deaf = Vec::new();
    stage.start(1, 1, (2, 23), &newest);
    pass(&mut stage);
    assert_eq!(waiting(&stage, 1), "", "and the newest directory is welcome");
}

#[test]
fn a_moved_directory_serves_when_enough_peers_have_counted_it() {
    let mut stage = Stage::formed(3);
    let moved = Start { place: 7, ..copy_of(&mut stage, 1, &[(1, 1)]) };
    stage.start(1, 1, (2, 10), &moved);
    stage.deaf = vec![3];
    pass(&mut stage);
    insta::assert_snapshot!(waiting(&stage, 1));
    assert!(answer(&mut stage, 1, get()).contains("Unavailable"));
    stage.deaf = Vec::new();
    pass(&mut stage);
    assert_eq!(waiting(&stage, 1), "");
    assert!(answer(&mut stage, 1, put("x")).contains("Stored"));
    let again = Start { place: 7, ..copy_of(&mut stage, 1, &[(2, 10), (1, 1)]) };
    stage.start(1, 1, (3, 11), &again);
    assert!(!waiting(&stage, 1).contains("another place"), "it has not moved since");
}

#[test]
fn a_node_that_forgot_its_peers_in_a_restart_still_knows_their_lives() {
    let mut stage = Stage::formed(3);
    let old = copy_of(&mut stage, 1, &[(1, 1)]);
    let newest = copy_of(&mut stage, 1, &[(1, 1)]);
    stage.start(1, 1, (2, 10), &newest);
    pass(&mut stage);
    for node in [2, 3] {
        let start = copy_of(&mut stage, node, &[(1, 1)]);
        stage.start(node, node, (2, 10), &start);
    }
    stage.start(1, 1, (2, 20), &old);
    pass(&mut stage);
    assert!(waiting(&stage, 1).contains("another process"), "{}", waiting(&stage, 1));
}

#[test]
fn a_peer_that_is_heard_and_hears_nothing_is_told_of_where_it_is_sent_to() {
    let mut stage = Stage::unformed(2);
    stage.unreached = vec![2];
    pass(&mut stage);
    assert_eq!(stage.status(1).notes, [""; 0], "a moment is nothing");
    (0..4).for_each(|_| pass(&mut stage));
    insta::assert_snapshot!(stage.status(1).notes.join("\n"));
    stage.unreached = Vec::new();
    pass(&mut stage);
    assert_eq!(stage.status(1).notes, [""; 0]);
}

/// What a life has said may still wait for a cold read when a later one counts, which may have been told other things since.
#[test]
fn what_an_earlier_life_asked_is_not_done_when_its_cold_read_ends() {
    let mut stage = Stage::formed(3);
    assert!(answer(&mut stage, 1, put("first")).contains("Stored"));
    stage.engine(2).cold = true;
    assert!(answer(&mut stage, 1, put("second")).contains("Stored"), "by the two others");
    let start = copy_of(&mut stage, 1, &[(1, 1)]);
    stage.start(1, 1, (2, 22), &start);
    pass(&mut stage);
    stage.end_reads(2, true);
    stage.settle();
    insta::assert_snapshot!(stage.transcript());
    let read = answer(&mut stage, 1, get());
    assert!(read.contains("second"), "{read}");
}
