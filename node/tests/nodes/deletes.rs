//! Deletes that go for good, with real processes and real files.

use crate::harness::{Node, cluster, eventually};

/// Keys that are written and deleted in each round, and rounds: some thousands of purges.
const KEYS: usize = 250;
const ROUNDS: usize = 12;

/// The records in a node's store: those of clients and its own.
fn records(node: &Node) -> (u64, u64) {
    let engine = node.get("/v1/status").json()["engine"].clone();
    let number = |name: &str| engine[name].as_u64().expect("a number");
    let own = number("own_records");
    (number("records") - own, own)
}

/// The same keys are written, deleted and purged again and again by all nodes: nothing of them is left, and what a node keeps does not
/// grow. At last one is written anew, and read by all.
#[test]
fn what_is_deleted_and_purged_thousands_of_times_leaves_nothing_that_grows() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = cluster(dir.path(), &["a", "b", "c"], &["--grace", "1s"]);
    let mut own = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..KEYS {
            let target = format!("/v1/kv/default/k{number}");
            let node = &nodes[(round + number) % 3];
            assert_eq!(node.put(&target, b"v").status, 204);
            let other = &nodes[(round + number / 3) % 3];
            assert_eq!(other.ask(&format!("DELETE {target}"), &[], b"").status, 204);
        }
        eventually("nothing is left", || {
            nodes.iter().all(|node| records(node).0 == 0).then_some(())
        });
        own.push(nodes.iter().map(|node| records(node).1).collect::<Vec<u64>>());
        for node in &nodes {
            let storage = node.get("/v1/storage").json();
            assert_eq!((&storage["keys"], &storage["deleted_keys"]), (&0.into(), &0.into()));
        }
    }
    assert_eq!(own[2], own[ROUNDS - 1], "a row for each partition, and no more");
    let purged = |node: &Node| node.get("/v1/status").json()["purges"]["purged_keys"].as_u64();
    let purged: u64 = nodes.iter().filter_map(purged).sum();
    assert!(purged >= (KEYS * ROUNDS) as u64, "{purged}");
    let target = "/v1/kv/default/k7";
    let gone = nodes[0].get(target);
    let (nothing, never) = (gone.header("x-rondo-context"), nodes[0].get("/v1/kv/default/never"));
    let length = |token: Option<&str>| token.map(str::len);
    assert_eq!((gone.status, length(nothing)), (404, length(never.header("x-rondo-context"))));
    assert_eq!(nodes[1].put(target, b"anew").status, 204);
    for node in &nodes {
        let read = node.get(target);
        assert_eq!(read.text(), "anew");
        assert!(read.header("x-rondo-context").is_some_and(|token| token.len() < 100));
    }
}
