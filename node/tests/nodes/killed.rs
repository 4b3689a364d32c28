//! kill -9 at any moment: no acknowledged write is lost, and every start is quick.
//!
//! `RONDO_TEST_KILLS` says how often a single node is killed at full speed; the campaign in docs/internals/HACKING.md does
//! it 20 times. How long the slowest start took is printed (`--nocapture`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Node, ask, cluster_flags, eventually, free_port};

/// What was acknowledged: key to value. A writer owns its keys, so the last acknowledged value of a key is known.
type Acknowledged = Arc<Mutex<BTreeMap<String, u64>>>;

/// Writers that overwrite their own keys on any of `ports` until told to stop. A write that was not acknowledged may have
/// happened: its key is written again with a higher number before anybody reads it.
fn writers(
    ports: &[u16],
    count: usize,
    stop: &Arc<AtomicBool>,
) -> (Acknowledged, Vec<JoinHandle<()>>) {
    let acknowledged = Acknowledged::default();
    let threads = (0..count).map(|writer| {
        let (acknowledged, stop, ports) =
            (Arc::clone(&acknowledged), Arc::clone(stop), ports.to_vec());
        std::thread::spawn(move || {
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let key = format!("w{writer}-{}", number % 50);
                let port = ports[(writer + number as usize) % ports.len()];
                let line = format!("PUT /v1/kv/default/{key}?timeout=2s");
                let answer = ask(port, &line, &[], number.to_string().as_bytes());
                if answer.is_ok_and(|answer| answer.status == 204) {
                    acknowledged.lock().expect("no panic").insert(key, number);
                }
            }
        })
    });
    let threads = threads.collect();
    (acknowledged, threads)
}

/// Every key has its acknowledged value or a later one of the same writer, which was sent and not acknowledged.
fn check(node: &Node, acknowledged: &Acknowledged) -> usize {
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    for (key, number) in &acknowledged {
        let answer = node.get(&format!("/v1/kv/default/{key}"));
        assert_eq!(answer.status, 200, "{key} was acknowledged as {number}: {}", answer.text());
        let found: u64 = answer.text().parse().expect("a number was written");
        assert!(found >= *number, "{key}: {number} was acknowledged, {found} is there");
    }
    acknowledged.len()
}

fn total(acknowledged: &Acknowledged) -> u64 {
    acknowledged.lock().expect("no panic").values().sum()
}

fn wait_for_progress(acknowledged: &Acknowledged) {
    let before = total(acknowledged);
    eventually("writes are acknowledged", || (total(acknowledged) > before + 200).then_some(()));
}

#[test]
fn a_node_killed_at_full_speed_loses_nothing_and_starts_quickly() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let kills: u64 = std::env::var("RONDO_TEST_KILLS").map_or(4, |n| n.parse().expect("a number"));
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledged, threads) = writers(&[node.port], 4, &stop);
        wait_for_progress(&acknowledged);
        node.kill();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let start = Instant::now();
        node = Node::start(dir.path(), "alpha", &[]);
        node.wait_ready();
        slowest = slowest.max(start.elapsed());
        assert!(slowest < Duration::from_secs(10), "{slowest:?}");
        assert!(check(&node, &acknowledged) > 0);
    }
    println!("{kills} kills, the slowest start took {slowest:?}");
    assert_eq!(node.get("/v1/status").json()["boot"], kills + 1);
}

#[test]
fn nodes_of_a_cluster_killed_in_turn_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let peers = [free_port(), free_port(), free_port()];
    let mut nodes: Vec<_> = (0..3).map(|at| start(dir.path(), &peers, at, 0)).collect();
    let ports: Vec<_> = nodes.iter().map(|node| node.port).collect();
    nodes.iter().for_each(Node::wait_ready);
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, threads) = writers(&ports, 4, &stop);
    wait_for_progress(&acknowledged);
    for at in 0..3 {
        nodes.remove(at).kill();
        wait_for_progress(&acknowledged);
        nodes.insert(at, start(dir.path(), &peers, at, ports[at]));
        nodes[at].wait_ready();
        wait_for_progress(&acknowledged);
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    for node in &nodes {
        node.wait_ready();
        assert!(check(node, &acknowledged) > 0);
    }
}

fn start(dir: &Path, peers: &[u16], at: usize, port: u16) -> Node {
    let name = ["alpha", "beta", "gamma"][at];
    let flags = cluster_flags(peers, at, &[]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    if port == 0 {
        return Node::start(dir, name, &flags);
    }
    Node::start_at(dir, name, port, &flags).unwrap_or_else(|ended| panic!("{name}: {ended}"))
}
