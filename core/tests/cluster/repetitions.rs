//! Stories of what is repeated: questions that may be lost, and never so much that a stall is made worse.

use insta::assert_snapshot;
use rondo_core::message::Request;

use crate::stage::{Stage, get, put};

#[test]
fn in_a_stall_a_write_is_sent_once_and_asked_for_ever_more_seldom() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("first"));
    stage.settle();
    stage.transcript();
    stage.stalled = vec![1, 2, 3];
    stage.ask(1, Request { deadline_ms: Some(10_000), ..put("second") });
    for _ in 0..500 {
        stage.pass(10);
    }
    let transcript = stage.transcript();
    let count = |what: &str| transcript.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count(" Merge "), 2, "one for each of the other replicas");
    assert_eq!(count(" Holds"), 2 * 6, "after 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2 s");
    stage.stalled = Vec::new();
    stage.settle();
    assert_snapshot!(stage.told(), @"client 2 ← Stored, knows {a1:2}");
}

#[test]
fn what_was_lost_is_asked_for_and_brought_again() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("first"));
    stage.settle();
    stage.ask(1, put("x"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.lose(1, 2);
    stage.lose(1, 3);
    stage.settle();
    stage.transcript();
    stage.say("the merges were lost");
    stage.pass(100);
    assert_snapshot!(stage.transcript());
}

#[test]
fn what_could_not_leave_is_brought_at_the_next_repetition() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("first"));
    stage.settle();
    stage.ask(1, put("x"));
    stage.deliver(1, 2);
    stage.unlink(1, &[2, 3]);
    stage.deliver(2, 1);
    stage.settle();
    stage.unlink(1, &[]);
    stage.transcript();
    stage.say("there was no link");
    stage.pass(100);
    assert_snapshot!(stage.transcript());
}

#[test]
fn no_repetition_shows_a_dot_before_the_mark_of_the_clock_is_durable() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.stalled = vec![1];
    for _ in 0..5 {
        stage.pass(100);
    }
    let transcript = stage.transcript();
    assert!(!transcript.contains("Merge") && !transcript.contains("Holds"), "{transcript}");
    stage.stalled = Vec::new();
    stage.settle();
    assert_snapshot!(stage.told(), @"client 1 ← Stored, knows {a1:1}");
}

#[test]
fn a_write_back_too_is_sent_once() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("old"));
    stage.settle();
    stage.ask(1, put("new"));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.lose(1, 2);
    stage.lose(1, 3);
    stage.sync(1);
    stage.cut = vec![(1, 2), (1, 3)];
    stage.pass(1_000);
    stage.cut = Vec::new();
    stage.transcript();
    stage.stalled = vec![2, 3];
    stage.ask(1, Request { deadline_ms: Some(10_000), ..get() });
    for _ in 0..300 {
        stage.pass(10);
    }
    let transcript = stage.transcript();
    let merges = transcript.lines().filter(|line| line.contains(" Merge ")).count();
    assert_eq!(merges, 2, "{transcript}");
    stage.stalled = Vec::new();
    stage.settle();
    assert_snapshot!(stage.told(), @"client 3 ← Found new, knows {a1:2}");
}
