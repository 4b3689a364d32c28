//! Clusters of real processes that get nodes and lose nodes while they hold data.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Answer, Node, ask, cluster, eventually, free_port, run};

/// How many keys there are before anything changes.
const KEYS: usize = 2_000;
/// By then a change must be over, on a machine that has nothing else to do.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

fn put(node: &Node, number: usize) {
    let target = format!("/v1/kv/default/k{number}");
    assert_eq!(node.put(&target, format!("v{number}").as_bytes()).status, 204, "{target}");
}

/// Reads all keys through a node.
fn has_all(node: &Node, level: &str) {
    for number in 0..KEYS {
        let read = node.get(&format!("/v1/kv/default/k{number}?consistency={level}"));
        assert_eq!(read.text(), format!("v{number}"), "k{number} at {level}\n{}", node.log());
    }
}

/// Starts a node that meets another one.
fn joins(dir: &Path, name: &str, seed: &Node, flags: &[&str]) -> Node {
    let seed = format!("127.0.0.1:{}", seed.port);
    Node::start(dir, name, &[&["--seeds", &seed], flags].concat())
}

/// Whether a node says that the layout has so many nodes and that the cluster is settled.
fn is_settled(node: &Node, count: usize) -> bool {
    let cluster = node.get("/v1/cluster").json();
    cluster["settled"] == true && cluster["layout"]["nodes"] == count
}

fn wait_settled(nodes: &[&Node], count: usize) {
    eventually(&format!("{count} nodes, settled"), || {
        nodes.iter().all(|node| is_settled(node, count)).then_some(())
    });
}

fn servers(nodes: &[&Node]) -> String {
    let list: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    list.join(",")
}

#[test]
fn a_node_alone_becomes_three_full_copies_and_one_of_them_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), "n1", &[]);
    first.wait_ready();
    (0..KEYS).for_each(|number| put(&first, number));
    let began = Instant::now();
    let second = joins(dir.path(), "n2", &first, &[]);
    let third = joins(dir.path(), "n3", &first, &[]);
    let all = [&first, &second, &third];
    wait_settled(&all, 3);
    let took = began.elapsed();
    assert!(took < SETTLED_WITHIN, "settled after {took:?}");
    for node in all {
        assert_eq!(node.get("/v1/storage").json()["keys"], KEYS, "a full copy");
    }
    has_all(&third, "all");

    let left = run(&["cluster", "leave", "n1", "--commit", "--wait", "-s", &servers(&[&second])]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    let stay = [&second, &third];
    wait_settled(&stay, 2);
    // It passes requests on as long as it runs.
    put(&first, 0);
    first.signal("-TERM");
    first.wait();
    stay.iter().for_each(|node| has_all(node, "quorum"));
    let status = run(&["status", "-s", &servers(&stay)]);
    assert!(status.stdout.starts_with("Health: 2 nodes, 2 alive, 0 dead"), "{}", status.stdout);
}

#[test]
fn a_node_of_the_same_name_with_an_empty_directory_becomes_a_full_copy() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), "n1", &[]);
    first.wait_ready();
    let second = joins(dir.path(), "n2", &first, &[]);
    let third = joins(dir.path(), "n3", &first, &[]);
    wait_settled(&[&first, &second, &third], 3);
    (0..KEYS).for_each(|number| put(&second, number));
    third.kill();
    std::fs::remove_dir_all(dir.path().join("n3")).expect("its disk is lost");
    let third = joins(dir.path(), "n3", &first, &[]);
    let has_it_all = |node: &Node| node.get("/v1/storage").json()["keys"] == KEYS;
    eventually(&format!("a full copy\n{}", third.log()), || {
        (is_settled(&third, 3) && has_it_all(&third)).then_some(())
    });
    has_all(&third, "all");
}

/// The first node of a cluster, with a peer port that it has at each start, and two more that have joined it.
fn three_that_grew(dir: &Path, peer_port: u16) -> [Node; 3] {
    let first = first_node(dir, peer_port);
    first.wait_ready();
    let second = joins(dir, "n2", &first, &[]);
    let third = joins(dir, "n3", &first, &[]);
    wait_settled(&[&first, &second, &third], 3);
    (0..KEYS).for_each(|number| put(&second, number));
    [first, second, third]
}

/// With the same flags each time, and no seeds.
fn first_node(dir: &Path, peer_port: u16) -> Node {
    Node::start(dir, "n1", &["--peer-port", &peer_port.to_string()])
}

fn becomes_a_full_copy(node: &Node) {
    // While it starts again it does not answer.
    let get = |path: &str| ask(node.port, &format!("GET {path}"), &[], b"").ok();
    eventually("a full copy", || {
        let cluster = get("/v1/cluster")?.json();
        let is_settled = cluster["settled"] == true && cluster["layout"]["nodes"] == 3;
        (is_settled && get("/v1/storage")?.json()["keys"] == KEYS).then_some(())
    });
    has_all(node, "all");
}

#[test]
fn a_first_node_whose_directory_was_emptied_joins_its_cluster_with_the_same_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let peer_port = free_port();
    let [first, second, _third] = three_that_grew(dir.path(), peer_port);
    first.kill();
    std::fs::remove_dir_all(dir.path().join("n1")).expect("its disk is lost");
    let first = first_node(dir.path(), peer_port);
    becomes_a_full_copy(&first);
    wait_settled(&[&first, &second], 3);
}

#[test]
fn a_first_node_whose_data_is_gone_begins_anew_without_seeds() {
    let dir = tempfile::tempdir().expect("a directory");
    let peer_port = free_port();
    let [first, second, _third] = three_that_grew(dir.path(), peer_port);
    let home = dir.path().join("n1");
    eventually("it has kept where the others are", || {
        let kept = std::fs::read_to_string(home.join("peers")).ok()?;
        (kept.lines().count() == 2).then_some(())
    });
    first.kill();
    for entry in std::fs::read_dir(home.join("data")).expect("the engine's directory") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let first = first_node(dir.path(), peer_port);
    becomes_a_full_copy(&first);
    assert!(home.join("set-aside/identity").exists(), "nothing else was deleted");
    wait_settled(&[&first, &second], 3);
}

#[test]
fn a_node_that_has_left_comes_back_under_its_name_with_an_empty_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let [first, second, third] = three_that_grew(dir.path(), free_port());
    let at = servers(&[&first, &second]);
    let left = run(&["cluster", "leave", "n3", "--commit", "--wait", "-s", &at]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    wait_settled(&[&first, &second], 2);
    third.signal("-TERM");
    third.wait();
    std::fs::remove_dir_all(dir.path().join("n3")).expect("removed");
    let third = joins(dir.path(), "n3", &first, &[]);
    becomes_a_full_copy(&third);
    wait_settled(&[&first, &second, &third], 3);
}

#[test]
fn two_clusters_that_were_founded_apart_stay_two_when_they_meet() {
    let dir = tempfile::tempdir().expect("a directory");
    let peer_port = free_port();
    let first = first_node(dir.path(), peer_port);
    let second = Node::start(dir.path(), "n2", &[]);
    for (node, value) in [(&first, "one"), (&second, "two")] {
        node.wait_ready();
        assert_eq!(node.put("/v1/kv/default/k", value.as_bytes()).status, 204);
    }
    second.signal("-TERM");
    second.wait();
    let seed = format!("127.0.0.1:{peer_port}");
    let second = Node::start(dir.path(), "n2", &["--seeds", &seed]);
    for (node, other) in [(&first, "n2"), (&second, "n1")] {
        eventually("both say it", || {
            let status = node.get("/v1/status").text();
            let met = "serves another layout: two clusters have met";
            (status.contains(met) && status.contains(other)).then_some(())
        });
    }
    let join = run(&["cluster", "join", "n2", "--commit", "-s", &servers(&[&first])]);
    assert_ne!(join.code, Some(0), "{}", join.stdout);
    assert!(join.stderr.contains("serves another cluster's layout"), "{}", join.stderr);
    for (node, value) in [(&first, "one"), (&second, "two")] {
        assert!(is_settled(node, 1), "{}", node.get("/v1/cluster").text());
        assert_eq!(node.get("/v1/kv/default/k").text(), value, "each goes on with its own");
    }
}

#[test]
fn a_member_that_was_killed_a_moment_ago_leaves_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = cluster(dir.path(), &["n1", "n2", "n3", "n4"], &[]);
    nodes.pop().expect("four").kill();
    let at = servers(&[&nodes[0]]);
    let left = run(&["cluster", "leave", "n4", "--commit", "--wait", "20s", "-s", &at]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    wait_settled(&nodes.iter().collect::<Vec<_>>(), 3);
}

#[test]
fn a_flag_to_replace_a_node_that_names_nobody_is_told_and_one_that_is_left_over_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), "n1", &[]);
    first.wait_ready();
    let second = joins(dir.path(), "n2", &first, &[]);
    wait_settled(&[&first, &second], 2);
    let third = joins(dir.path(), "n3", &first, &["--replace", "node2"]);
    eventually("it says that it waits", || {
        let why = "--replace node2: the layout has no node of that name";
        let is_told = third.get("/ready").text().contains(why) && third.log().contains(why);
        is_told.then_some(())
    });
    let status = run(&["status", "-s", &servers(&[&first])]);
    assert!(status.stdout.contains("Note: n3: --replace node2"), "{}", status.stdout);
    third.kill();
    std::fs::remove_dir_all(dir.path().join("n3")).expect("it was outside");

    let third = joins(dir.path(), "n3", &first, &[]);
    wait_settled(&[&first, &second, &third], 3);
    third.kill();
    // The name that the flag says was another node's, long ago.
    for name in ["n4", "n3"] {
        std::fs::remove_dir_all(dir.path().join("n3")).expect("its disk is lost");
        let third = joins(dir.path(), "n3", &first, &["--replace", name]);
        wait_settled(&[&first, &second, &third], 3);
        third.kill();
    }
}

#[test]
fn a_wiped_node_goes_back_to_the_cluster_of_its_seed_though_another_one_knows_its_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let (peer_port, third_port) = (free_port(), free_port().to_string());
    let first = first_node(dir.path(), peer_port);
    first.wait_ready();
    let second = joins(dir.path(), "n2", &first, &[]);
    let at = ["--peer-port", third_port.as_str()];
    let third = joins(dir.path(), "n3", &first, &at);
    wait_settled(&[&first, &second, &third], 3);
    (0..KEYS).for_each(|number| put(&second, number));
    let other = Node::start(dir.path(), "b1", &[]);
    other.wait_ready();
    other.signal("-TERM");
    other.wait();
    // Nobody of the one cluster introduces its nodes to the other: it is told both addresses.
    let seeds = format!("127.0.0.1:{peer_port},127.0.0.1:{third_port}");
    let other = Node::start(dir.path(), "b1", &["--seeds", &seeds]);
    eventually("the other cluster hears n3", || {
        other.get("/v1/status").text().contains("n3 at ").then_some(())
    });
    third.kill();
    std::fs::remove_dir_all(dir.path().join("n3")).expect("its disk is lost");
    let third = joins(dir.path(), "n3", &first, &at);
    becomes_a_full_copy(&third);
    wait_settled(&[&first, &second, &third], 3);
    has_all(&third, "all");
    assert!(is_settled(&other, 1), "{}", other.get("/v1/cluster").text());
    let staged = other.get("/v1/cluster/layout").json();
    assert_eq!(staged["staged"].as_array().map(Vec::len), Some(0), "{staged}");
}

#[test]
fn a_node_that_joins_by_hand_waits_for_it_and_keyspaces_come_and_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), "n1", &[]);
    first.wait_ready();
    let second = joins(dir.path(), "n2", &first, &["--join", "manual"]);
    let at = servers(&[&first]);
    let command = |words: &[&str]| {
        let ended = run(&[words, &["-s", &at]].concat());
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.stderr);
        ended.stdout
    };
    eventually("n2 is known", || {
        let status = first.get("/v1/status").json();
        let mut members = status["members"].as_array()?.iter();
        members.any(|member| member["name"] == "n2" && member["state"] == "alive").then_some(())
    });
    assert!(command(&["cluster", "join", "n2"]).contains("n2 joins"));
    let plan = command(&["cluster", "plan"]);
    assert!(plan.contains("Layout 2 would have these changes:\n  n2 joins"), "{plan}");
    assert_eq!(first.get("/v1/ring").json()["nodes"].as_array().map(Vec::len), Some(1));
    let done = command(&["cluster", "commit", "--wait"]);
    assert_eq!(done, "layout 2 is live, and all data is where it belongs\n");
    wait_settled(&[&first, &second], 2);

    // One right after the other: the second waits for the first.
    command(&["keyspace", "create", "carts", "-n", "1", "-r", "1", "-w", "1"]);
    command(&["keyspace", "create", "trolleys"]);
    command(&["keyspace", "drop", "trolleys"]);
    assert!(command(&["keyspace", "list"]).contains("carts"));
    let in_carts = |node: &Node| -> Answer { node.get("/v1/kv/carts/mine") };
    eventually("both know the keyspace", || {
        let stored = second.put("/v1/kv/carts/mine", b"bread").status == 204;
        (stored && in_carts(&first).body == b"bread").then_some(())
    });
    assert_eq!(first.get("/v1/kv/default/mine").status, 404, "another keyspace, another key");
    wait_settled(&[&first, &second], 2);
    assert_eq!(
        in_carts(&first).body,
        b"bread",
        "the front end keeps for a moment that it is there"
    );
    command(&["keyspace", "drop", "carts"]);
    // Each route says the same from the first moment on.
    for line in ["PUT /v1/kv/carts/mine", "GET /v1/kv/carts/mine", "DELETE /v1/kv/carts/mine"] {
        let gone = first.ask(line, &[], b"");
        assert_eq!(gone.status, 404, "{line}: {}", gone.text());
        assert!(gone.text().contains("there is no keyspace"), "{line}: {}", gone.text());
    }
    for line in ["GET /v1/keyspaces/carts", "DELETE /v1/keyspaces/carts"] {
        eventually("the change is done", || {
            let gone = first.ask(line, &[], b"");
            (gone.status == 404).then_some(())
        });
    }
    eventually("its keys are deleted", || {
        let dropped =
            |node: &Node| node.get("/v1/transfers").json()["transfers"]["dropped_keys"].as_u64();
        (dropped(&first)? + dropped(&second)? == 1).then_some(())
    });
}
