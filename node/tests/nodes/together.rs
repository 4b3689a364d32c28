//! Three nodes: they form a cluster, and a write on one is read on the others.

use crate::harness::{Node, cluster, cluster_flags, eventually, free_port};

#[test]
fn three_nodes_form_a_cluster_and_a_write_on_one_is_read_on_all_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = cluster(dir.path(), &["alpha", "beta", "gamma"], &[]);
    for (at, writer) in nodes.iter().enumerate() {
        let value = format!("from {at}");
        let put = writer.put("/api/v1/data/user:1", format!(r#"{{"value":"{value}"}}"#).as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
        for reader in &nodes {
            assert_eq!(reader.get("/kv/user:1?consistency=quorum").json()["value"], value.as_str());
            assert_eq!(reader.get("/api/v1/kv/user:1").text(), value);
            assert_eq!(reader.get("/v1/kv/default/user:1?consistency=all").text(), value);
        }
    }
    for node in &nodes {
        let cluster = node.get("/v1/cluster").json();
        assert_eq!(cluster["settled"], true);
        assert_eq!(cluster["members"].as_array().expect("a list").len(), 3);
        assert_eq!(cluster["layout"]["quorums"], serde_json::json!({ "n": 3, "r": 2, "w": 2 }));
    }
    let digests: Vec<_> =
        nodes.iter().map(|node| node.get("/v1/ring").json()["digest"].clone()).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "one layout: {digests:?}");
}

#[test]
fn a_seed_may_be_an_http_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let expect = ["--bootstrap-expect", "2"];
    let alpha = Node::start(dir.path(), "alpha", &expect);
    let seed = format!("127.0.0.1:{}", alpha.port);
    let beta = Node::start(dir.path(), "beta", &[&expect[..], &["--seeds", &seed]].concat());
    alpha.wait_ready();
    beta.wait_ready();
    assert_eq!(alpha.put("/v1/kv/default/k", b"v").status, 204);
    assert_eq!(beta.get("/v1/kv/default/k").body, b"v");
}

#[test]
fn a_node_with_seeds_never_forms_a_cluster_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = format!("127.0.0.1:{}", free_port());
    let node = Node::start(dir.path(), "alpha", &["--seeds", &nobody]);
    let waiting = eventually("it says what it waits for", || {
        let ready = node.get("/ready");
        assert_eq!(ready.status, 503);
        ready.json()["waiting"].as_array().filter(|reasons| !reasons.is_empty()).cloned()
    });
    assert!(!waiting.is_empty());
    let put = node.put("/v1/kv/default/k", b"v");
    assert_eq!(put.status, 503, "{}", put.text());
    assert_eq!(put.header("retry-after"), Some("1"));
    assert_eq!(node.get("/live").status, 200);
    assert_eq!(node.get("/v1/ring").status, 503);
}

#[test]
fn a_cluster_serves_without_one_node_and_not_without_two() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = cluster(dir.path(), &["alpha", "beta", "gamma"], &[]);
    assert_eq!(nodes[0].put("/v1/kv/default/k", b"three").status, 204);
    nodes.pop().expect("three").kill();
    assert_eq!(nodes[0].put("/v1/kv/default/k", b"two").status, 204);
    eventually("its health tells of the node that is away", || {
        (nodes[0].get("/health").json()["status"] == "degraded").then_some(())
    });
    assert_eq!(nodes[1].get("/v1/kv/default/k").body, b"two");
    let all = nodes[0].put("/v1/kv/default/k?consistency=all&timeout=500ms", b"all");
    assert!(matches!(all.status, 503 | 504), "{}", all.text());
    nodes.pop().expect("two").kill();
    let alone = &nodes[0];
    let said = eventually("its health tells of the lost quorum", || {
        let health = alone.get("/health").json();
        (health["status"] == "unavailable").then_some(health)
    });
    assert!(said["reasons"].to_string().contains("is not reached"), "{said}");
    let get = alone.get("/v1/kv/default/k?timeout=500ms");
    assert_eq!(get.status, 503, "{}", get.text());
    let put = alone.put("/v1/kv/default/k?timeout=500ms", b"one");
    assert!(matches!(put.status, 503 | 504), "{}", put.text());
    assert_eq!(put.header("x-rondo-outcome").is_some(), put.status == 504);
    assert_eq!(alone.get("/v1/kv/default/k?consistency=one").status, 200);
    eventually("not ready without a quorum of peers", || {
        (alone.get("/ready").status == 503).then_some(())
    });
}

#[test]
fn a_later_node_joins_by_itself_while_the_cluster_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let peers = [free_port(), free_port(), free_port()];
    let start = |at: usize, name: &str, expect: &[u16]| {
        let flags = cluster_flags(expect, at, &[]);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Node::start(dir.path(), name, &flags)
    };
    let two = [start(0, "alpha", &peers[..2]), start(1, "beta", &peers[..2])];
    two.iter().for_each(Node::wait_ready);
    let late = start(2, "late", &peers);
    eventually("it has a role", || {
        assert_eq!(two[0].put("/v1/kv/default/k", b"v").status, 204, "the cluster goes on");
        let cluster = late.get("/v1/cluster").json();
        (cluster["layout"]["nodes"] == 3 && cluster["settled"] == true).then_some(())
    });
    assert_eq!(late.get("/v1/kv/default/k?consistency=all").body, b"v");
    assert_eq!(late.get("/ready").status, 200);
}
