//! Nodes that join a running cluster: each becomes a full copy, whatever is written meanwhile.

use bytes::Bytes;
use rondo_core::layout::keyspace::Level;
use rondo_core::wire::client::{Reply, Request};

use crate::stage::{Stage, get, put};

fn named(request: Request, n: usize) -> Request {
    Request { key: Bytes::from(format!("key{n}")), ..request }
}

/// The nodes of the newest layout that a node serves under, and which version that is.
fn layout(stage: &Stage, node: usize) -> (u64, usize) {
    let layout = stage.status(node).layout.expect("a live layout");
    (layout.version, layout.roles.len())
}

/// Lets time pass until all of these nodes have all that they own under a layout of all of them; says how many milliseconds it took.
fn settled(stage: &mut Stage, nodes: usize) -> usize {
    for turn in 0..200 {
        let is_settled = (1..=nodes).all(|node| {
            let status = stage.status(node);
            let roles = status.layout.map_or(0, |layout| layout.roles.len());
            status.change.partial == 0 && roles == nodes
        });
        if is_settled {
            return turn * 100;
        }
        stage.pass(100);
    }
    let pictures = (1..=nodes).map(|node| stage.status(node)).map(|it| (it.change, it.transfers));
    panic!("{:?}", pictures.collect::<Vec<_>>());
}

/// A client writes, and is answered within the pauses after which questions are asked again.
fn write(stage: &mut Stage, node: usize, request: Request) {
    let client = stage.ask(node, request);
    stage.settle();
    for _ in 0..4 {
        if let Some(reply) = stage.replies(client).pop() {
            assert!(matches!(reply, Reply::Stored { .. }), "{reply:?}");
            return;
        }
        stage.pass(100);
    }
    panic!("no answer in 400 ms: {}", stage.transcript());
}

#[test]
fn a_node_alone_then_two_that_join_are_three_full_copies() {
    let mut stage = Stage::formed(1);
    stage.gossip_off = false;
    for n in 0..50 {
        stage.stored(1, named(put("v"), n));
    }
    stage.join(2);
    let ms = settled(&mut stage, 2);
    assert!(ms < 10_000, "{ms}");
    assert_eq!(stage.status(2).keys, 50);
    for n in 50..60 {
        stage.stored(2, named(put("v"), n));
    }
    stage.join(3);
    settled(&mut stage, 3);
    assert_eq!((1..=3).map(|node| stage.status(node).keys).collect::<Vec<_>>(), [60; 3]);
    assert_eq!(layout(&stage, 1), layout(&stage, 3));
    // Each of them can lose one of the others.
    for n in [0, 55] {
        let request = Request { level: Some(Level::Quorum), ..named(get(), n) };
        let client = stage.ask(3, request);
        stage.settle();
        let reply = stage.replies(client).pop();
        assert!(matches!(reply, Some(Reply::Found { .. })), "{reply:?}");
    }
}

#[test]
fn what_is_written_while_a_node_joins_is_on_it_too_and_no_write_fails() {
    let mut stage = Stage::formed(1);
    stage.gossip_off = false;
    for n in 0..20 {
        stage.stored(1, named(put("v"), n));
    }
    stage.join(2);
    for turn in 0..60 {
        stage.pass(100);
        stage.transcript();
        write(&mut stage, 1, named(put("w"), turn % 30));
        if stage.status(2).layout.is_some() {
            write(&mut stage, 2, named(put("x"), turn % 40));
        }
    }
    settled(&mut stage, 2);
    assert_eq!((stage.status(1).keys, stage.status(2).keys), (40, 40));
}
