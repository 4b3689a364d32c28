//! One node: every way in, and an orderly end.

use serde_json::json;

use crate::harness::{Node, ask, eventually, free_port, run};

#[test]
fn a_node_stores_a_value_and_every_dialect_reads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let put = node.put("/api/v1/data/user:1", br#"{"value":"x"}"#);
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(put.json()["status"], "ok");
    let version = put.json()["version"].as_u64().expect("a number");
    assert!(version > 1 << 53);
    let etag = put.header("etag").expect("a version has a tag").to_owned();
    assert!(etag.starts_with(&format!("\"{version:016x}-")), "{etag}: its time and its actor");

    assert_eq!(node.get("/api/v1/data/user:1").json()["value"], "x");
    assert_eq!(
        node.get("/kv/user:1").json(),
        json!({ "key": "user:1", "value": "x", "version": version })
    );
    assert_eq!(node.get("/api/v1/kv/user:1").body, b"x");
    let native = node.get("/v1/kv/default/user:1");
    assert_eq!((native.status, native.text().as_str()), (200, "x"));
    assert_eq!(native.header("etag"), Some(etag.as_str()), "one version, one tag");

    assert_eq!(
        node.ask("DELETE /kv/user:1", &[], b"").json(),
        json!({ "status": "ok", "key": "user:1" })
    );
    for target in
        ["/api/v1/data/user:1", "/kv/user:1", "/api/v1/kv/user:1", "/v1/kv/default/user:1"]
    {
        assert_eq!(node.get(target).status, 404, "{target}");
    }
    assert!(node.get("/v1/kv/default/user:1").header("x-rondo-context").is_some());
}

#[test]
fn an_attempt_that_is_repeated_is_applied_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let first = ["X-Rondo-Request-Id: order-1"];
    let again = ["X-Rondo-Request-Id: order-1", "X-Rondo-Attempt: 2"];
    let put = node.ask("PUT /v1/kv/default/k", &first, b"one");
    assert_eq!(put.status, 204);
    assert_eq!(node.put("/v1/kv/default/k", b"two").status, 204);
    let repeated = node.ask("PUT /v1/kv/default/k", &again, b"one");
    assert_eq!(repeated.status, 204, "{}", repeated.text());
    assert_eq!(repeated.header("etag"), put.header("etag"));
    assert_eq!(node.get("/v1/kv/default/k").body, b"two");
}

#[test]
fn a_restarted_node_has_its_values_and_its_identity() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(node.put("/v1/kv/default/kept", b"value").status, 204);
    let before = node.get("/v1/status").json();
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));

    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let after = node.get("/v1/status").json();
    assert_eq!(before["node"], after["node"]);
    assert_eq!(after["boot"], 2);
    assert_eq!(node.get("/v1/kv/default/kept").body, b"value");
}

#[test]
fn a_node_comes_back_on_the_peer_port_that_it_found_before() {
    eventually("a port that nobody else takes in between", || {
        let dir = tempfile::tempdir().expect("a directory");
        let peer_port = |node: &Node| {
            let address = node.get("/v1/status").json()["members"][0]["peer_address"].clone();
            address.as_str().and_then(|text| text.rsplit(':').next()?.parse::<u16>().ok())
        };
        let node = Node::start(dir.path(), "alpha", &[]);
        let found = peer_port(&node);
        node.signal("-TERM");
        assert_eq!(node.wait().code(), Some(0));
        let kept = std::fs::read_to_string(dir.path().join("alpha/peer-port")).expect("kept");
        assert_eq!(kept.trim().parse().ok(), found);
        // Another port than the usual one, so that only what was kept can lead to it.
        let other = free_port();
        std::fs::write(dir.path().join("alpha/peer-port"), other.to_string()).expect("written");
        let node = Node::start(dir.path(), "alpha", &[]);
        (peer_port(&node) == Some(other)).then_some(())
    });
}

#[test]
fn the_banner_says_where_to_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &["--read-quorum", "1", "--write-quorum", "1"]);
    let banner =
        eventually("the banner", || Some(node.printed()).filter(|text| text.contains("stop")));
    let url = format!("http://127.0.0.1:{}", node.port);
    assert!(banner.contains(&format!("HTTP     {url}\n")), "{banner}");
    assert!(
        banner.contains(&format!("curl -X PUT {url}/v1/kv/default/hello -d world")),
        "{banner}"
    );
    assert!(banner.contains("port 6380 stays closed"), "{banner}");
    assert!(banner.contains("N=1 R=1 W=1"), "{banner}");
    assert!(node.log().contains("R + W = 2 is not above N = 3"), "{}", node.log());
}

#[test]
fn a_signal_ends_a_node_after_the_requests_in_flight() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &["--log-format", "json"]);
    node.wait_ready();
    let port = node.port;
    // Writers that go on until the node is gone: what was acknowledged must be there afterwards.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            std::thread::spawn(move || {
                (0u32..)
                    .map(|n| format!("{writer}-{n}"))
                    .take_while(|key| {
                        ask(port, &format!("PUT /v1/kv/default/{key}"), &[], key.as_bytes())
                            .is_ok_and(|answer| answer.status == 204)
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    eventually("some writes", || {
        (node.get("/v1/status").json()["counters"]["puts"].as_u64()? > 50).then_some(())
    });
    node.signal("-INT");
    let acknowledged: Vec<_> =
        writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect();
    let log = dir.path().join("alpha.log");
    assert_eq!(node.wait().code(), Some(0));
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(
        log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{log}"
    );

    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert!(acknowledged.len() > 50);
    for key in acknowledged {
        assert_eq!(node.get(&format!("/v1/kv/default/{key}")).text(), key);
    }
}

#[test]
fn a_request_that_is_half_sent_when_the_signal_comes_is_answered() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port)).expect("it listens");
    let head = "PUT /v1/kv/default/half HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = BufReader::new(stream.try_clone().expect("a handle"));
    let mut line = String::new();
    answer.read_line(&mut line).expect("an answer");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n", "now the node reads the body");
    node.signal("-TERM");
    eventually("no new connections", || {
        std::net::TcpStream::connect(("127.0.0.1", node.port)).is_err().then_some(())
    });
    stream.write_all(b"ok").expect("sent");
    let mut rest = String::new();
    answer.read_to_string(&mut rest).expect("an answer, then the end");
    assert!(rest.contains("HTTP/1.1 204"), "{rest}");
    assert_eq!(node.wait().code(), Some(0));

    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    assert_eq!(node.get("/v1/kv/default/half").body, b"ok");
}

#[test]
fn the_redis_port_and_a_weaker_durability_are_accepted_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["--resp-port", "6390", "--durability", "interval:100"];
    let node = Node::start(dir.path(), "alpha", &flags);
    node.wait_ready();
    assert!(node.log().contains("the Redis protocol is not built yet"), "{}", node.log());
    assert!(node.log().contains("runs as `batch`, which is stricter"), "{}", node.log());
    assert_eq!(node.put("/v1/kv/default/k", b"v").status, 204);
}

#[test]
fn several_requests_may_share_a_connection_and_a_packet() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port)).expect("it listens");
    let put = "PUT /v1/kv/default/p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n7";
    let get = "GET /v1/kv/default/p HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /v1/kv/default/p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{put}{get}{last}").as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("three answers, then the end");
    assert_eq!(answers.matches("HTTP/1.1 20").count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\n7").count(), 2, "{answers}");
}

#[test]
fn help_and_version_are_answers() {
    let version = run(&["--version"]);
    assert_eq!((version.code, version.stdout.starts_with("rondo 0.")), (Some(0), true));
    assert_eq!(run(&["version"]).stdout, version.stdout);
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["serve", "dev-cluster", "kv", "status", "ring", "bench", "config", "--seeds"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[test]
fn a_node_without_a_layout_calls_no_keyspace_absent() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = format!("127.0.0.1:{}", free_port());
    let node = Node::start(dir.path(), "alpha", &["--seeds", &nobody]);
    for line in [
        "GET /v1/kv/carts/mine",
        "PUT /v1/kv/carts/mine",
        "DELETE /v1/kv/carts/mine",
        "GET /v1/kv/default/mine",
        "GET /v1/keyspaces/carts",
        "PUT /v1/keyspaces/carts",
        "DELETE /v1/keyspaces/carts",
        "GET /v1/keyspaces",
    ] {
        let answer = node.ask(line, &[], b"");
        assert_eq!(answer.status, 503, "{line}: {}", answer.text());
        assert!(answer.text().contains("layout"), "{line}: {}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("1"), "{line}: {}", answer.head);
    }
}
