//! Stories of requests that are asked more than once, or passed on: nothing is written twice, and nobody is told that
//! nothing was written when it may have been.

use insta::assert_snapshot;
use rondo_core::id::RequestId;
use rondo_core::layout::keyspace::Level;
use rondo_core::message::{Action, Request};
use rondo_core::step::Input;

use crate::stage::{Stage, get, put, request};

fn named(value: &'static str, attempt: u32) -> Request {
    Request { named: true, attempt, ..put(value) }
}

/// A cluster of four, and the one of them that is no primary.
fn with_an_outsider() -> (Stage, usize, Vec<usize>) {
    let stage = Stage::formed(4);
    let owners = stage.status(1).layout.unwrap().owners[0].clone();
    let owners: Vec<usize> = owners.iter().map(|&at| usize::from(at) + 1).collect();
    let outsider = (1..=4).find(|node| !owners.contains(node)).unwrap();
    (stage, outsider, owners)
}

#[test]
fn an_id_names_one_request_as_long_as_it_is_known() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.say("another key, value, action or level under the same id, in flight and after");
    stage.ask(1, named("y", 1));
    stage.settle();
    stage.ask(1, named("y", 1));
    stage.ask(1, named("y", 2));
    stage.ask(1, Request { key: "other".into(), ..named("x", 1) });
    stage.ask(1, Request { level: Some(Level::All), ..named("x", 2) });
    let delete = request(Action::Delete { context: None });
    stage.ask(1, Request { named: true, ..delete });
    stage.say("the same is answered from memory");
    stage.ask(1, Request { level: Some(Level::Quorum), ..named("x", 2) });
    stage.say("when it is forgotten, the id is free");
    stage.pass(2_000);
    stage.ask(1, named("y", 1));
    stage.settle();
    stage.ask(1, get());
    stage.settle();
    assert_snapshot!(stage.told());
}

#[test]
fn what_another_request_wrote_under_the_same_id_is_not_found() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.settle();
    stage.transcript();
    stage.say("n2 knows nothing of the id: it looks for a dot, and finds that of another request");
    stage.ask(2, named("y", 2));
    stage.settle();
    let delete = request(Action::Delete { context: None });
    stage.ask(3, Request { named: true, attempt: 2, ..delete });
    stage.settle();
    assert_snapshot!(stage.told());
}

#[test]
fn a_first_attempt_of_an_ended_id_is_a_new_write() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.settle();
    stage.ask(2, put("over it"));
    stage.settle();
    stage.transcript();
    stage.say("a later attempt of the first is stored, whatever came over it");
    stage.ask(1, named("x", 2));
    stage.ask(1, named("x", 1));
    stage.say("while it is in flight, another first attempt waits with it");
    stage.ask(1, named("x", 1));
    stage.settle();
    stage.ask(3, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_dot_that_was_overwritten_was_written_all_the_same() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.say("the dot is issued, and nobody acknowledges it in time");
    stage.cut = vec![(2, 1), (3, 1)];
    stage.pass(1_000);
    stage.cut = Vec::new();
    stage.ask(2, put("over it"));
    stage.settle();
    stage.transcript();
    stage.ask(1, named("x", 2));
    stage.settle();
    assert_snapshot!(stage.told());
}

#[test]
fn a_refusal_is_true_of_the_request_and_not_of_the_attempt() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.settle();
    let never_issued = |attempt| Request { id: RequestId(9), ..named("y", attempt) };
    stage.cut = vec![(2, 1), (3, 1)];
    stage.ask(2, never_issued(1));
    stage.cut = vec![(2, 1), (2, 3)];
    stage.pass(1_000);
    stage.cut = Vec::new();
    stage.transcript();
    for node in [2, 3] {
        stage.step(node, Input::Stop).unwrap();
    }
    stage.say("n3 stops: of a first attempt it is known that nothing was written");
    stage.ask(3, Request { id: RequestId(8), ..named("x", 1) });
    stage.say("of a later one it is not");
    stage.ask(3, named("x", 2));
    stage.say("n2 stops, and knows that no dot was issued for the request");
    stage.ask(2, never_issued(2));
    stage.say("reads change nothing");
    stage.ask(3, get());
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_search_that_cannot_be_done_says_neither_yes_nor_no() {
    let mut stage = Stage::formed(3);
    stage.ask(1, named("x", 1));
    stage.settle();
    stage.cut = vec![(2, 1), (2, 3)];
    stage.transcript();
    stage.ask(2, named("x", 2));
    stage.pass(1_000);
    assert_snapshot!(stage.told());
}

#[test]
fn whoever_joins_keeps_his_own_deadline() {
    let mut stage = Stage::formed(3);
    stage.cut = vec![(1, 2), (1, 3)];
    let within = |attempt, deadline_ms| {
        let deadline_ms = Some(deadline_ms);
        Request { deadline_ms, ..named("x", attempt) }
    };
    stage.ask(1, within(1, 300));
    stage.ask(1, within(2, 100));
    stage.ask(1, within(3, 1_000));
    stage.transcript();
    for ms in [100, 200, 500] {
        stage.say(&format!("{ms} ms more"));
        stage.pass(ms);
        stage.cut = if ms == 200 { Vec::new() } else { stage.cut.clone() };
    }
    assert_snapshot!(stage.told());
}

#[test]
fn a_write_at_all_asks_every_replica_whatever_r_is() {
    let mut stage = Stage::formed(3);
    stage.ask(1, Request { level: Some(Level::All), ..put("x") });
    stage.deliver(1, 2);
    stage.deliver(2, 1);
    stage.say("R = 2 have answered: not enough");
    stage.sync(1);
    stage.deliver(1, 3);
    stage.deliver(3, 1);
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn what_cannot_leave_goes_to_the_next_primary() {
    let (mut stage, outsider, owners) = with_an_outsider();
    stage.unlink(outsider, &owners[..2]);
    stage.ask(outsider, put("x"));
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn with_no_primary_in_reach_nothing_was_sent_and_that_is_said_at_once() {
    let (mut stage, outsider, owners) = with_an_outsider();
    stage.unlink(outsider, &owners);
    stage.ask(outsider, named("x", 1));
    stage.say("of a later attempt it is not known");
    stage.ask(outsider, named("x", 2));
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_primary_that_takes_nothing_on_is_followed_by_the_next_each_tried_once() {
    let (mut stage, outsider, owners) = with_an_outsider();
    stage.step(owners[0], Input::Stop).unwrap();
    stage.ask(outsider, put("x"));
    stage.settle();
    for &owner in &owners[1..] {
        stage.step(owner, Input::Stop).unwrap();
    }
    stage.ask(outsider, put("y"));
    stage.settle();
    assert_snapshot!(stage.transcript());
}

#[test]
fn a_read_whose_question_cannot_leave_asks_another_at_once() {
    let mut stage = Stage::formed(3);
    stage.ask(1, put("x"));
    stage.settle();
    stage.transcript();
    stage.unlink(1, &[3]);
    stage.ask(1, get());
    stage.settle();
    assert_snapshot!(stage.transcript());
}
