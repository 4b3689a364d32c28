//! HTTP byte by byte: requests that are nearly right, and answers that must come all the same.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Node, PATIENCE};

/// A client that sends what it is told to.
struct Raw(TcpStream);

impl Raw {
    fn open(node: &Node) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", node.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Raw(stream)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("sent");
    }

    /// One answer without a body, or with all of it: status and text.
    fn answer(&mut self) -> (u16, String) {
        let mut bytes = Vec::new();
        let (mut head, mut length) = (None, 0);
        while head.is_none_or(|head| bytes.len() < head + length) {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes));
            });
            bytes.push(byte[0]);
            if head.is_none() && bytes.ends_with(b"\r\n\r\n") {
                head = Some(bytes.len());
                let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                let line = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                length = line.map_or(0, |line| line.parse().expect("a length"));
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (text[9..12].parse().expect("a status"), text)
    }

    /// All that comes until the node hangs up.
    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the end, and no reset");
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn put(key: &str, more: &str) -> String {
    format!("PUT /v1/kv/default/{key} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n{more}\r\nv")
}

fn get(key: &str) -> String {
    format!("GET /v1/kv/default/{key} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn an_answer_leaves_whatever_else_was_sent_by_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let mut client = Raw::open(&node);
    client.send(put("k", "") + "\r\n");
    assert_eq!(client.answer().0, 204, "an empty line waits behind it");
    client.send(get("k") + "GET /v1/kv/def");
    let (status, text) = client.answer();
    assert_eq!((status, text.ends_with("\r\n\r\nv")), (200, true), "half a request waits: {text}");
    client.send("ault/k HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().0, 200, "the other half came");
    client.send(get("k") + "\u{16}\u{3}");
    assert_eq!(client.answer().0, 200, "what waits is no request");
    assert_eq!(client.answer().0, 400);
    assert_eq!(client.rest(), "");
}

#[test]
fn what_cannot_be_read_as_a_request_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let long = "k".repeat(70_000);
    let host = "HTTP/1.1\r\nHost: h\r\n";
    let key = "/v1/kv/default/k";
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"PING\r\n\r\n".to_vec(), 400, ""),
        (b"\x16\x03\x01\x02\x00".to_vec(), 400, "without TLS"),
        (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400, "percent-encode"),
        (format!("GET {key}\0 {host}\r\n").into(), 400, "percent-encode"),
        (format!("GET {key} HTTP/1.1\r\n\r\n").into(), 400, "Host is missing"),
        (format!("GET {key}#1 {host}\r\n").into(), 400, "%23"),
        (format!("GET {key} {host}Host: h\r\n\r\n").into(), 400, "given twice"),
        (put("k", "X-Rondo-Context: a\r\nX-Rondo-Context: b\r\n").into(), 400, "given twice"),
        (put("k", "X-Rondo-Attempt: 1\r\nx-rondo-attempt: 2\r\n").into(), 400, "given twice"),
        (put("k", "Transfer-Encoding: chunked\r\n").into(), 400, "Transfer-Encoding beside"),
        (
            format!("PUT {key} {host}Transfer-Encoding: chunked\r\n\r\nfive\r\n").into(),
            400,
            "size is no number",
        ),
        (format!("PUT {key} {host}Content-Length: 17000000\r\n\r\nx").into(), 413, "17000000"),
        (format!("GET /{long} {host}\r\n").into(), 414, "shorter key"),
        (format!("GET https://h{key} {host}\r\n").into(), 421, "not https"),
        (put("k", "Expect: a-miracle\r\n").into(), 417, "100-continue"),
        (format!("GET {key} {host}X: {long}\r\n\r\n").into(), 431, "32768 bytes"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, "HTTP/1.1"),
    ];
    for (request, expected, said) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let mut client = Raw::open(&node);
        client.send(&request);
        let (status, text) = client.answer();
        assert_eq!(status, expected, "{shown:?}: {text}");
        assert!(text.contains("connection: close"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], expected);
        assert!(body.to_string().contains(said), "{shown:?}: {body}");
        assert_eq!(client.rest(), "", "{shown:?}");
    }
    let json = ["Content-Type: application/json", "Content-Encoding: gzip"];
    let encoded = node.ask("PUT /kv/k", &json, b"\x1f\x8b");
    assert_eq!(encoded.status, 415, "{}", encoded.text());
    assert_eq!(node.get("/v1/kv/default/k").status, 404, "none of them was stored");
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_408() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    let mut slow = Raw::open(&node);
    slow.send("GET /live HTTP/1.1\r\nHos");
    let start = Instant::now();
    let (status, text) = slow.answer();
    assert_eq!(status, 408, "{text}");
    assert!(start.elapsed() > Duration::from_secs(5), "it had time");
    assert_eq!(slow.rest(), "");
}

#[test]
fn a_body_comes_whole_in_chunks_or_after_leave() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let mut client = Raw::open(&node);
    let head = "PUT /v1/kv/default/c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for piece in [head, "3\r", "\nabc\r\n", "4;x=y\r\nde", "fg\r\n0\r\nTrailer: t\r\n", "\r\n"] {
        client.send(piece);
    }
    assert_eq!(client.answer().0, 204);
    client.send(get("c"));
    assert!(client.answer().1.ends_with("abcdefg"));

    let asks = "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("PUT /v1/kv/default/e HTTP/1.1\r\nHost: h\r\n{asks}"));
    assert_eq!(client.answer(), (100, "HTTP/1.1 100 Continue\r\n\r\n".to_owned()));
    client.send("ok");
    assert_eq!(client.answer().0, 204);
    // What is refused anyhow gets no leave.
    client.send(format!("PUT /nowhere HTTP/1.1\r\nHost: h\r\n{asks}"));
    assert_eq!(client.answer().0, 404);
    assert_eq!(client.rest(), "");
    let mut client = Raw::open(&node);
    let asks = "Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("PUT /v1/kv/default/e HTTP/1.1\r\nHost: h\r\n{asks}"));
    assert_eq!(client.answer().0, 413, "what is too large gets none either");
    assert_eq!(client.rest(), "");

    let mut client = Raw::open(&node);
    client.send("PUT /v1/kv/default/big HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("40000\r\n{}\r\n", "x".repeat(0x40000));
    for _ in 0..5 {
        client.send(&chunk);
    }
    client.send("0\r\n\r\n".to_owned() + &get("e"));
    assert_eq!(client.answer().0, 413, "read to its end");
    assert!(client.answer().1.ends_with("ok"), "and the connection goes on");
}

#[test]
fn a_value_comes_back_as_it_was_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let kind = ["Content-Type: text/plain", "Content-Encoding: gzip"];
    assert_eq!(node.ask("PUT /v1/kv/default/gz", &kind, b"\x1f\x8b\xff").status, 204);
    for target in ["/v1/kv/default/gz", "/api/v1/kv/gz"] {
        let found = node.get(target);
        assert_eq!(found.header("content-type"), Some("text/plain"));
        assert_eq!(found.header("content-encoding"), Some("gzip"));
        assert_eq!(found.body, b"\x1f\x8b\xff");
    }
    let head = node.ask("HEAD /v1/kv/default/gz", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("3"));
    assert_eq!(node.get("/kv/gz").json()["content_encoding"], "gzip");

    for key in ["a//b", "/a", "a%2F%2Fb%00", "%FF%00", "item%231", "a+b", "."] {
        let target = format!("/v1/kv/default/{key}");
        assert_eq!(node.put(&target, key.as_bytes()).status, 204, "{key}");
        assert_eq!(node.get(&target).text(), key);
    }
    assert_eq!(node.get("/v1/kv/default/a%2F/b").text(), "a//b", "the same key");
    let json = ["Content-Type: application/json"];
    for value in ["null", "123456789012345678901234567890", "1.10", "1E5", r#"{"a":1,"a":2}"#] {
        let body = format!(r#"{{"value":{value}}}"#);
        assert_eq!(node.ask("PUT /kv/j", &json, body.as_bytes()).status, 200);
        let shown = node.get("/api/v1/data/j").text();
        assert!(shown.contains(&format!(r#""value":{value},"#)), "{shown}");
    }
}
