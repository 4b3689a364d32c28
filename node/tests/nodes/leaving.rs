//! One of five nodes ends, by kill -9 or in order: no put at the others waits for it.
//!
//! Keys have three primaries each, so many puts must be passed on, and some of them to the node that is gone. It is noticed by
//! its links, at once, and a goodbye comes before them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Node, cluster};

/// Far below the deadline of a request and the silence after which a peer is given up.
const PROMPT: Duration = Duration::from_millis(700);

fn five(dir: &Path) -> Vec<Node> {
    cluster(dir, &["alpha", "beta", "gamma", "delta", "epsilon"], &[])
}

/// Puts of many keys at all nodes, one after another, and each ends well at once.
fn puts_go_on(nodes: &[Node], round: &str) {
    for at in 0..60 {
        let node = &nodes[at % nodes.len()];
        let begin = Instant::now();
        let put = node.put(&format!("/v1/kv/default/{round}-{at}"), b"v");
        let took = begin.elapsed();
        let (status, text) = (put.status, put.text());
        assert!(status == 204 && took < PROMPT, "put {at}: {status} after {took:?}: {text}");
    }
}

#[test]
fn puts_in_the_first_second_after_a_kill_go_to_the_next_primary() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = five(dir.path());
    puts_go_on(&nodes, "before");
    nodes.pop().expect("five").kill();
    puts_go_on(&nodes, "killed");
}

#[test]
fn puts_while_and_after_a_node_stops_go_to_the_next_primary() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = five(dir.path());
    let last = nodes.pop().expect("five");
    last.signal("-TERM");
    puts_go_on(&nodes, "stopping");
    assert!(last.wait().success());
    puts_go_on(&nodes, "stopped");
}
