//! The numbers that people see, each against a count of its own: after puts, deletes and restarts, and with nodes away.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Node, cluster, eventually, run};

/// Keys that a client finds, and those that it was told are deleted, of `key-0` to `key-(all - 1)`.
fn counted(node: &Node, all: usize) -> (u64, u64) {
    let found = |number: &usize| {
        let answer = node.get(&format!("/v1/kv/default/key-{number}?consistency=all"));
        assert!([200, 404].contains(&answer.status), "{}", answer.text());
        answer.status == 200
    };
    let live = (0..all).filter(found).count() as u64;
    (live, all as u64 - live)
}

/// Every place where a node tells how many keys it has must tell the same; answers that.
fn told(node: &Node) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a number, not {value}"));
    let admin = node.get("/admin/status").json();
    let stats = node.get("/admin/stats").json();
    let (status, storage) = (node.get("/v1/status").json(), node.get("/v1/storage").json());
    let all = [
        (number(&status["keys"]), number(&status["deleted_keys"])),
        (number(&storage["keys"]), number(&storage["deleted_keys"])),
        (number(&admin["storage"]["active_keys"]), number(&admin["storage"]["deleted_keys"])),
        (number(&stats["active_keys"]), number(&stats["deleted_keys"])),
    ];
    assert!(all.iter().all(|other| *other == all[0]), "{all:?}");
    assert_eq!(number(&admin["keys"]), all[0].0);
    let table = run(&["status", "--server", &format!("127.0.0.1:{}", node.port)]).stdout;
    let name = status["name"].as_str().expect("a name");
    let row = table.lines().rfind(|line| line.starts_with(name)).expect("a row for each node");
    // The size of the storage has two words.
    let words: Vec<_> = row.split_whitespace().rev().skip(2).take(2).collect();
    assert_eq!(words, [all[0].1.to_string(), all[0].0.to_string()], "{table}");
    all[0]
}

fn start_again(dir: &Path, node: Node, kill: bool) -> Node {
    let port = node.port;
    if kill {
        node.kill();
    } else {
        node.signal("-TERM");
        assert_eq!(node.wait().code(), Some(0));
    }
    let node = Node::start_at(dir, "alpha", port, &[]).expect("it starts again");
    node.wait_ready();
    node
}

#[test]
fn keys_are_counted_as_a_client_counts_them_over_restarts_and_crashes() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(told(&node), (0, 0), "nobody has written anything");
    assert_eq!(node.put("/v1/kv/default/key-0", b"v").status, 204);
    assert_eq!(told(&node), (1, 0));
    for number in 1..10 {
        assert_eq!(node.put(&format!("/v1/kv/default/key-{number}"), b"v").status, 204);
    }
    assert_eq!(node.put("/v1/kv/default/key-3", b"over").status, 204);
    for number in [2, 3, 2] {
        node.ask(&format!("DELETE /v1/kv/default/key-{number}"), &[], b"");
    }
    assert_eq!((told(&node), counted(&node, 10)), ((8, 2), (8, 2)));
    let node = start_again(dir.path(), node, false);
    assert_eq!(told(&node), (8, 2));
    assert_eq!(node.put("/v1/kv/default/key-2", b"back").status, 204);
    node.ask("DELETE /v1/kv/default/key-9", &[], b"");
    node.ask("DELETE /v1/kv/default/key-8", &[], b"");
    let node = start_again(dir.path(), node, true);
    assert_eq!((told(&node), counted(&node, 10)), ((7, 3), (7, 3)));
}

#[test]
fn requests_are_counted_where_clients_sent_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    for number in 0..7 {
        assert_eq!(node.put(&format!("/kv/key-{number}"), b"v").status, 200);
    }
    for _ in 0..5 {
        assert_eq!(node.get("/kv/key-1").status, 200);
    }
    assert_eq!(node.get("/kv/nothing").status, 404);
    assert_eq!(node.ask("DELETE /kv/key-1", &[], b"").status, 200);
    let admin = node.get("/admin/status").json();
    assert_eq!(
        (&admin["storage"]["total_reads"], &admin["storage"]["total_writes"]),
        (&6.into(), &8.into())
    );
    let stats = node.get("/admin/stats").json();
    assert_eq!(stats["total_requests"], 14);
    let counters = node.get("/v1/status").json()["counters"].clone();
    assert_eq!((&counters["gets"], &counters["puts"]), (&6.into(), &8.into()));
    let server = format!("127.0.0.1:{}", node.port);
    let load = ["--keys", "40", "--clients", "2", "--duration", "200ms", "--warm-up", "10ms"];
    let bench = [&["bench", "put", "-o", "json", "--server", &server], &load[..]].concat();
    let bench: Value = serde_json::from_str(&run(&bench).stdout).expect("JSON");
    let puts = node.get("/v1/status").json()["counters"]["puts"].as_u64();
    assert!(puts >= bench["put"]["ok"].as_u64().map(|ok| ok + 8), "{bench}");
    assert!(told(&node).0 <= 6 + 40, "the keys of the load, and those from before");
}

#[test]
fn availability_is_what_can_be_served_and_a_lost_quorum_is_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = cluster(dir.path(), &["alpha", "beta", "gamma"], &[]);
    for number in 0..20 {
        assert_eq!(nodes[0].put(&format!("/v1/kv/default/key-{number}"), b"v").status, 204);
    }
    for number in 0..5 {
        let line = format!("DELETE /v1/kv/default/key-{number}?consistency=all");
        assert!(nodes[1].ask(&line, &[], b"").status < 300);
    }
    let counts = counted(&nodes[2], 20);
    assert_eq!(counts, (15, 5));
    for node in &nodes {
        assert_eq!(told(node), counts);
    }
    let server = format!("127.0.0.1:{}", nodes[0].port);
    let first = |said: &str| {
        eventually(said, || {
            let shown = run(&["status", "--server", &server]).stdout;
            let (first, second) = shown.split_once('\n')?;
            format!("{first}\n{}", second.lines().next()?).starts_with(said).then_some(())
        });
    };
    first("Health: 3 nodes, 3 alive, 0 dead (100.0% availability)\n");
    nodes.pop().expect("three nodes").kill();
    first(
        "Health: 3 nodes, 2 alive, 1 dead (100.0% availability)\n\
         Degraded: 256 partitions of 256 without one of the replicas",
    );
    assert_eq!(nodes[0].put("/v1/kv/default/key-0", b"v").status, 204);
    nodes.pop().expect("two nodes").kill();
    first(
        "Health: 3 nodes, 1 alive, 2 dead (0.0% availability)\n\
         Unavailable: 256 partitions of 256 cannot be read and written at quorum",
    );
    let served = nodes[0].get("/v1/status").json()["served"].clone();
    assert_eq!((&served["partitions"], &served["quorum"]), (&256.into(), &0.into()));
    assert_eq!(nodes[0].put("/v1/kv/default/key-0?timeout=300ms", b"v").status / 100, 5);
    let lost = "the quorum of 256 of 256 partitions is lost: not reached: beta, gamma";
    let log = eventually("the lost quorum is logged", || {
        Some(nodes[0].log()).filter(|log| log.contains(lost))
    });
    assert!(log.contains("link ended node=\"gamma ("), "peers have names: {log}");
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    // A machine that is busy may lose and regain one in between.
    assert_eq!(count("is lost: not reached"), count("the quorum is back") + 1, "{log}");
}

/// A node that waits to be let in owns nothing: it is told of, passes requests on, and is none of the nodes that are counted.
#[test]
fn a_node_that_is_in_no_layout_is_no_node_of_the_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = cluster(dir.path(), &["alpha", "beta"], &[]);
    let known = nodes[0].get("/v1/cluster").json();
    let seed = known["members"][0]["peer_address"].as_str().expect("an address");
    let late = Node::start(dir.path(), "late", &["--seeds", seed, "--join", "manual"]);
    eventually("it is met", || {
        let health = nodes[0].get("/health").json();
        (health["strangers"] == 1).then(|| {
            assert_eq!((&health["nodes"], &health["alive"]), (&2.into(), &2.into()), "{health}");
            assert_eq!(health["status"], "ok");
        })
    });
    let size = |target: &str| nodes[0].get(target).json();
    assert_eq!(size("/admin/status")["cluster"]["size"], 2);
    assert_eq!(size("/gossip/status")["members"], 2);
    assert_eq!(size("/api/v1/cluster/status")["nodes"], 2);
    let server = format!("127.0.0.1:{}", nodes[0].port);
    let table = run(&["status", "--server", &server]).stdout;
    assert!(table.starts_with("Health: 2 nodes, 2 alive, 0 dead (100.0% availability)"), "{table}");
    let row = table.lines().find(|line| line.starts_with("late")).expect("it is shown");
    assert!(row.trim_end().ends_with("outside"), "{row}");
    late.wait_ready();
    // On a busy machine no primary may be reached for a moment.
    eventually("it passes a write on", || {
        (late.put("/v1/kv/default/k", b"passed on").status == 204).then_some(())
    });
    drop(late);
    eventually("it is away", || {
        let table = run(&["status", "--server", &server]).stdout;
        let is_away = table.lines().any(|line| line.starts_with("late") && line.contains("dead"));
        is_away.then(|| assert!(table.starts_with("Health: 2 nodes, 2 alive, 0 dead"), "{table}"))
    });
}
