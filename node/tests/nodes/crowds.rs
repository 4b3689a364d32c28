//! Many clients that do not behave: the node's memory, its descriptors and its end do not depend on them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Node, eventually};

/// What a node may hold with all its clients at their worst, in MiB; half of what a whole node may use.
const MEMORY_MIB_MAX: u64 = 256;

fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(("127.0.0.1", node.port)).expect("it listens")
}

/// Sends all of it, or as much as the node takes.
fn push(stream: &mut TcpStream, mut bytes: &[u8]) {
    stream.set_nonblocking(true).expect("a socket");
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The node takes no more, or has hung up.
            Err(_) => return,
        }
    }
}

#[test]
fn bodies_that_never_end_take_a_bounded_amount_of_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let head = "PUT /api/v1/data/k HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 6000000\r\n\r\n{\"value\":\"";
    let part = vec![b'a'; 1 << 20];
    let mut clients: Vec<_> = (0..500).map(|_| connect(&node)).collect();
    for client in &mut clients {
        push(client, head.as_bytes());
    }
    for _ in 0..5 {
        for client in &mut clients {
            push(client, &part);
        }
    }
    // One that behaves is served among them.
    assert_eq!(node.get("/health").status, 200);
    eventually("a write among them", || {
        (node.put("/v1/kv/default/good", &part).status == 204).then_some(())
    });
    let most = node.most_memory_mib();
    assert!(most < MEMORY_MIB_MAX, "{most} MiB");
    drop(clients);
    assert_eq!(node.get("/v1/kv/default/good").body, part);
}

#[test]
fn answers_that_nobody_reads_take_a_bounded_amount_of_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let value = vec![b'v'; 1 << 20];
    assert_eq!(node.put("/v1/kv/default/big", &value).status, 204);
    let gets = "GET /v1/kv/default/big HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut clients: Vec<_> = (0..300).map(|_| connect(&node)).collect();
    for client in &mut clients {
        push(client, gets.as_bytes());
    }
    eventually("a read among them", || {
        let answer = node.get("/v1/kv/default/big");
        (answer.status == 200).then(|| assert_eq!(answer.body, value))
    });
    assert_eq!(node.get("/health").status, 200);
    let most = node.most_memory_mib();
    assert!(most < MEMORY_MIB_MAX, "{most} MiB");
}

#[test]
fn a_node_with_few_descriptors_serves_among_silent_connections() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_with_descriptors(dir.path(), "alpha", 64);
    let silent: Vec<_> = (0..200).map(|_| connect(&node)).collect();
    for number in 0..50 {
        assert_eq!(node.get("/health").status, 200);
        let target = format!("/v1/kv/default/k{number}");
        // Until the first of them count as silent there may be no place but the one for words.
        eventually("a write", || match node.put(&target, &[b'v'; 100_000]) {
            answer if answer.status == 503 => {
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert_eq!(answer.header("connection"), Some("close"));
                None
            }
            answer => {
                assert_eq!(answer.status, 204, "{}", answer.text());
                Some(())
            }
        });
    }
    drop(silent);
    let first = node.get("/v1/kv/default/k0");
    assert_eq!((first.status, first.body.len()), (200, 100_000));
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_signal_ends_a_node_within_five_seconds_whatever_its_clients_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(node.put("/v1/kv/default/big", &vec![b'v'; 1 << 20]).status, 204);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&node)).collect();
    let half_head = "GET /v1/kv";
    let half_body = "PUT /v1/kv/default/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf";
    let unread = "GET /v1/kv/default/big HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    for (client, bytes) in clients.iter_mut().zip([half_head, half_body, &unread]) {
        push(client, bytes.as_bytes());
    }
    // Asked and answered: now it idles.
    let idle = clients.last_mut().expect("four");
    idle.write_all(b"GET /live HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    assert!(idle.read(&mut [0; 64]).expect("an answer") > 0);
    let start = Instant::now();
    node.signal("-TERM");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).expect("the end");
    let idle_ended = start.elapsed();
    assert_eq!(node.wait().code(), Some(0));
    let ended = start.elapsed();
    assert!(ended < Duration::from_secs(5), "{ended:?}");
    assert!(idle_ended < Duration::from_secs(1), "it has nothing to wait for: {idle_ended:?}");
}

/// A pipe takes 64 KiB, and then whoever writes into it waits for its reader.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_with_unread_log(dir.path(), "alpha", &["--log", "trace"]);
    // Each connection of a stranger to the peer port, and each request, is a line or more at this level.
    for number in 0..3_000 {
        let answer = node.put(&format!("/v1/kv/default/k{number}?no-such=1"), b"v");
        assert_eq!(answer.status, 400);
    }
    assert_eq!(node.put("/v1/kv/default/k", b"v").status, 204);
    let start = Instant::now();
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
