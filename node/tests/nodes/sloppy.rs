//! A sloppy keyspace with real processes: all owners of a key are killed, and another node takes its writes at `one` on for them.

use std::path::Path;

use crate::harness::{Node, cluster_flags, eventually, free_port};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn start(dir: &Path, peers: &[u16], at: usize) -> Node {
    let flags = cluster_flags(peers, at, &[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Node::start(dir, NAMES[at], &flags)
}

/// The keys in a node's store.
fn keys(node: &Node) -> u64 {
    let engine = node.get("/v1/status").json()["engine"].clone();
    let number = |name: &str| engine[name].as_u64().expect("a number");
    number("records") - number("own_records")
}

/// A key of a keyspace none of whose owners is up, as a node sees it that is none of them.
fn without_owners(node: &Node, keyspace: &str) -> String {
    let mut targets = (0..2_000).map(|n| format!("/v1/kv/{keyspace}/k{n}?consistency=one"));
    targets
        .find(|target| node.get(target).status == 503)
        .expect("one key of ten has these three owners")
}

#[test]
fn what_a_node_takes_on_for_owners_that_are_down_they_have_when_they_are_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let peers: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let mut nodes: Vec<Node> = (0..5).map(|at| start(dir.path(), &peers, at)).collect();
    nodes.iter().for_each(Node::wait_ready);
    assert_eq!(nodes[0].put("/v1/keyspaces/logs", br#"{"sloppy":true}"#).status, 202);
    eventually("all know the keyspace, and nothing changes any more", || {
        let is_there = |node: &Node| {
            let shown = node.get("/v1/keyspaces/logs");
            shown.status == 200
                && shown.json()["sloppy"] == true
                && node.get("/v1/cluster").json()["settled"] == true
        };
        nodes.iter().all(is_there).then_some(())
    });
    let again = nodes[1].put("/v1/keyspaces/logs", br#"{"sloppy":false}"#);
    assert_eq!(again.status, 400);
    assert!(again.text().contains("is sloppy and stays it"), "{}", again.text());

    nodes.drain(2..).for_each(Node::kill);
    let first = &nodes[0];
    let (strict, sloppy) = (without_owners(first, "default"), without_owners(first, "logs"));
    assert_eq!(first.put(&strict, b"v").status, 503, "nobody stands in for its owners");
    let nothing = first.get(&sloppy);
    assert_eq!(nothing.status, 503, "what is not kept is not called absent");
    let stored = first.put(&sloppy, b"v");
    assert_eq!((stored.status, stored.header("x-rondo-fallback")), (204, Some("true")));
    let read = first.get(&sloppy);
    assert_eq!((read.status, &*read.text()), (200, "v"));
    assert_eq!(read.header("x-rondo-fallback"), Some("true"));
    assert_eq!(first.get(&sloppy.replace("one", "quorum")).status, 503, "it counts in no quorum");
    assert_eq!(nodes[1].get(&sloppy).status, 503, "nobody else has it");
    assert_eq!(first.get("/v1/status").json()["counters"]["fallbacks"], 1);
    assert_eq!(keys(first), 1);

    nodes.extend((2..5).map(|at| start(dir.path(), &peers, at)));
    nodes.iter().for_each(Node::wait_ready);
    eventually("the owners have it, and who took it on has nothing of it", || {
        let has = |node: &Node| keys(node) == 1;
        (keys(&nodes[0]) == 0 && nodes[2..].iter().all(has)).then_some(())
    });
    for node in &nodes {
        let read = node.get(&sloppy);
        assert_eq!((read.status, &*read.text()), (200, "v"));
        assert_eq!(read.header("x-rondo-fallback"), None);
    }
}
