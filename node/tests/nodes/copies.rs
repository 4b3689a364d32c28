//! Data directories that were put back, copied, moved or mistaken for another's, with real processes and real files.

use std::fs;
use std::path::Path;

use crate::harness::{Node, cluster_flags, eventually, free_port, run_in};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Starts the node at `at` below `dir`.
fn start(dir: &Path, peers: &[u16], at: usize) -> Node {
    let flags = cluster_flags(peers, at, &["--recover", "manual"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Node::start(dir, NAMES[at], &flags)
}

/// Three nodes that serve, and their peer ports.
fn three(dir: &Path) -> (Vec<u16>, Vec<Node>) {
    let peers: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let nodes: Vec<Node> = (0..3).map(|at| start(dir, &peers, at)).collect();
    nodes.iter().for_each(Node::wait_ready);
    (peers, nodes)
}

fn stop(node: Node) {
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).expect("an entry");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

fn refused(node: &Node, why: &str) {
    eventually(&format!("{why}\n{}", node.log()), || {
        let ready = node.get("/ready");
        (ready.status == 503 && ready.text().contains(why)).then_some(())
    });
    assert_eq!(node.put("/v1/kv/default/k", b"of a copy").status, 503);
    eventually("the reason is in the log", || node.log().contains(why).then_some(()));
}

#[test]
fn a_directory_that_was_put_back_is_refused_and_the_newest_one_serves_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (peers, mut nodes) = three(dir.path());
    let (data, old) = (dir.path().join("alpha"), dir.path().join("old"));
    stop(nodes.remove(0));
    copy(&data, &old);
    for value in [b"one", b"two"] {
        let alpha = start(dir.path(), &peers, 0);
        alpha.wait_ready();
        assert_eq!(alpha.put("/v1/kv/default/k", value).status, 204);
        stop(alpha);
    }
    fs::rename(&data, dir.path().join("newest")).expect("renamed");
    fs::rename(&old, &data).expect("renamed");
    for _ in 0..3 {
        // However often somebody starts it.
        let alpha = start(dir.path(), &peers, 0);
        refused(&alpha, "does not count any more");
        assert_eq!(alpha.get("/health").json()["status"], "refused");
        stop(alpha);
    }
    for node in &nodes {
        assert_eq!(node.get("/v1/kv/default/k").body, b"two");
    }
    fs::rename(&data, &old).expect("renamed");
    fs::rename(dir.path().join("newest"), &data).expect("renamed");
    let alpha = start(dir.path(), &peers, 0);
    alpha.wait_ready();
    assert_eq!(alpha.get("/v1/kv/default/k").body, b"two");
}

#[test]
fn of_two_processes_on_copies_the_second_is_refused_and_all_say_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (mut peers, mut nodes) = three(dir.path());
    stop(nodes.remove(0));
    copy(&dir.path().join("alpha"), &elsewhere.path().join("alpha"));
    let alpha = start(dir.path(), &peers, 0);
    alpha.wait_ready();
    peers[0] = free_port();
    let twin = start(elsewhere.path(), &peers, 0);
    refused(&twin, "does not count any more");
    eventually("a peer names the node that it refuses", || {
        let status = nodes[0].get("/v1/status").json();
        status["notes"]
            .as_array()?
            .iter()
            .find(|note| note.as_str().is_some_and(|note| note.contains("alpha")))?;
        Some(())
    });
    // The copy dials the others for as long as it runs, and takes no link of the first away.
    let since = nodes[0].log().len();
    for number in 0..300 {
        let target = format!("/v1/kv/default/k{number}?consistency=all");
        assert_eq!(nodes[number % 2].put(&target, b"v").status, 204, "{target}");
    }
    assert_eq!(alpha.put("/v1/kv/default/k", b"v").status, 204, "the first goes on");
    let log = nodes[0].log().split_off(since);
    assert!(!log.contains("link ended") && !log.contains("link open"), "{log}");
    assert!(nodes[0].log().contains("this process of alpha"), "{}", nodes[0].log());
}

#[test]
fn a_stopped_nodes_directory_may_be_moved_as_a_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (peers, mut nodes) = three(dir.path());
    assert_eq!(nodes[0].put("/v1/kv/default/k", b"v").status, 204);
    stop(nodes.remove(0));
    copy(&dir.path().join("alpha"), &elsewhere.path().join("alpha"));
    fs::remove_dir_all(dir.path().join("alpha")).expect("removed");
    let alpha = start(elsewhere.path(), &peers, 0);
    alpha.wait_ready();
    assert_eq!(alpha.get("/v1/kv/default/k").body, b"v");
    assert_eq!(alpha.put("/v1/kv/default/k", b"w").status, 204);
}

#[test]
fn a_node_whose_data_files_are_gone_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(node.put("/v1/kv/default/k", b"v").status, 204);
    let port = node.port;
    stop(node);
    let (data, aside) = (dir.path().join("alpha/data"), dir.path().join("aside"));
    fs::rename(&data, &aside).expect("renamed");
    let ended = Node::start_at(dir.path(), "alpha", port, &[]).err().expect("it does not start");
    assert!(ended.contains("acknowledged data is gone: data/"), "{ended}");
    assert!(ended.contains("start it again with --seeds HOST:PORT"), "{ended}");
    fs::rename(&aside, &data).expect("renamed");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(node.get("/v1/kv/default/k").body, b"v");
}

#[test]
fn two_nodes_of_one_name_form_no_cluster_and_both_say_why() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let peers = [free_port(), free_port()];
    let nodes = [0, 1].map(|at| {
        let flags = cluster_flags(&peers, at, &[]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Node::start(dirs[at].path(), "alpha", &flags)
    });
    for node in &nodes {
        eventually("the name is named", || {
            let ready = node.get("/ready");
            (ready.status == 503 && ready.text().contains("have one name, alpha")).then_some(())
        });
    }
}

#[test]
fn a_host_of_another_name_beside_several_nodes_is_asked_which_is_meant() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["once", "twice"] {
        fs::create_dir_all(dir.path().join("rondo-data")).expect("a directory");
        let node = Node::start(&dir.path().join("rondo-data"), name, &[]);
        node.wait_ready();
        stop(node);
    }
    let ended = run_in(dir.path(), &["--port", &free_port().to_string()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("holds the nodes once, twice"), "{}", ended.stderr);
}
