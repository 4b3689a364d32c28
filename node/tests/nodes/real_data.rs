//! Real records through HTTP from many clients while nodes are killed: every acknowledged one is read back, equal, from
//! every node.
//!
//! The records are lines of the Unicode Character Database. `cargo test` uses the excerpt beside this file; the campaign in
//! docs/internals/HACKING.md gives the whole file by `RONDO_TEST_DATASET`.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Node, ask, cluster_flags, eventually, free_port};

const CLIENTS: usize = 16;
const EXCERPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/unicode-excerpt.txt");

struct Record {
    key: String,
    value: String,
}

fn records() -> Vec<Record> {
    let path = std::env::var("RONDO_TEST_DATASET").unwrap_or_else(|_| EXCERPT.to_owned());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let record = |line: &str| {
        let code = line.split(';').next().expect("a line has a first field");
        Record { key: format!("U%2B{code}"), value: line.to_owned() }
    };
    text.lines().map(record).collect()
}

/// Writes one record, on whichever node takes it, until it is acknowledged.
fn write(record: &Record, ports: &[u16], first: usize) {
    let line = format!("PUT /v1/kv/default/{}", record.key);
    let mut at = first;
    eventually(&record.key, || {
        at += 1;
        let answer = ask(ports[at % ports.len()], &line, &[], record.value.as_bytes()).ok()?;
        (answer.status == 204).then_some(())
    });
}

#[test]
fn real_records_survive_nodes_killed_while_they_are_loaded() {
    let records = records();
    let dir = tempfile::tempdir().expect("a directory");
    let peers = [free_port(), free_port(), free_port()];
    let start = |at: usize, port: u16| {
        let flags = cluster_flags(&peers, at, &[]);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let name = ["alpha", "beta", "gamma"][at];
        let started = Node::start_at(dir.path(), name, port, &flags);
        started.unwrap_or_else(|ended| panic!("{name}: {ended}"))
    };
    let ports = [free_port(), free_port(), free_port()];
    let mut nodes: Vec<Node> = (0..3).map(|at| start(at, ports[at])).collect();
    nodes.iter().for_each(Node::wait_ready);

    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (records, done) = (&records, &done);
            scope.spawn(move || {
                for record in records.iter().skip(client).step_by(CLIENTS) {
                    write(record, &ports, client);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (part, at) in [(1, 0), (2, 1)] {
            let reached =
                || (done.load(Ordering::Relaxed) >= records.len() * part / 3).then_some(());
            eventually("part of the records is written", reached);
            nodes.remove(at).kill();
            nodes.insert(at, start(at, ports[at]));
            nodes[at].wait_ready();
        }
    });

    assert_eq!(done.load(Ordering::Relaxed), records.len());
    std::thread::scope(|scope| {
        for node in &nodes {
            let records = &records;
            scope.spawn(move || {
                for Record { key, value } in records {
                    let answer = node.get(&format!("/v1/kv/default/{key}"));
                    assert_eq!(
                        (answer.status, answer.text().as_str()),
                        (200, value.as_str()),
                        "{key}"
                    );
                }
            });
        }
    });
}
