//! The commands against real nodes: what they print, and the code they end with.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::Value;

use crate::harness::{Node, cluster, eventually, free_port, rondo, run, run_in};

#[test]
fn kv_puts_gets_and_deletes_on_any_server_that_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let servers = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), node.port);
    let kv = |arguments: &[&str]| run(&[&["kv"], arguments, &["--server", &servers]].concat());
    let put = kv(&["put", "a/b ü", "a value"]);
    assert_eq!((put.code, put.stdout.as_str()), (Some(0), "OK\n"), "{}", put.stderr);
    let get = kv(&["get", "a/b ü", "--consistency", "all"]);
    assert_eq!((get.code, get.stdout.as_str()), (Some(0), "a value"), "{}", get.stderr);
    let json: Value =
        serde_json::from_str(&kv(&["get", "a/b ü", "-o", "json"]).stdout).expect("JSON");
    assert_eq!((&json["value"], &json["siblings"]), (&"a value".into(), &1.into()));
    let context = json["context"].as_str().expect("a token");
    let over = kv(&["put", "a/b ü", "newer", "--context", context, "-o", "json"]);
    assert_eq!(over.code, Some(0), "{}", over.stderr);
    let foreign = kv(&["put", "other", "x", "--context", context]);
    assert_eq!(foreign.code, Some(2));
    assert!(foreign.stderr.contains("another key"), "{}", foreign.stderr);
    assert_eq!(kv(&["delete", "a/b ü"]).code, Some(0));
    let gone = kv(&["get", "a/b ü"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(4), ""));
    assert_eq!(gone.stderr, "error: key not found\n");
    assert_eq!(kv(&["get", "k", "--consistency", "most"]).code, Some(2));
}

#[test]
fn a_cluster_without_a_quorum_is_exit_code_3_and_no_server_is_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = format!("127.0.0.1:{}", free_port());
    let node = Node::start(dir.path(), "alpha", &["--seeds", &nobody]);
    let server = format!("127.0.0.1:{}", node.port);
    for arguments in [&["kv", "get", "k"][..], &["kv", "put", "k", "v"]] {
        let ended = run(&[arguments, &["--server", &server, "--timeout", "500ms"]].concat());
        assert_eq!(ended.code, Some(3), "{ended:?}");
    }
    let ended = run(&["kv", "get", "k", "--server", &nobody]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no server answers"), "{}", ended.stderr);
    assert!(ended.stderr.contains("try:"), "{}", ended.stderr);
    assert_eq!(run(&["status", "--server", "a b"]).code, Some(2));
}

/// A server that does not know twice whether a write happened, and the attempts that it was asked for.
#[test]
fn a_write_that_may_have_happened_is_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in 0..3 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let head = BufReader::new(stream.try_clone().expect("the same")).lines();
            let head = head.map(|line| line.expect("text").to_lowercase());
            let head = head.take_while(|line| !line.is_empty());
            asked.push(head.filter(|line| line.starts_with("x-rondo-")).collect::<Vec<_>>());
            let status = match answer {
                2 => "204 No Content\r\netag: \"1\"",
                _ => "504 Gateway Timeout\r\nx-rondo-outcome: indeterminate\r\ncontent-length: 0",
            };
            write!(stream, "HTTP/1.1 {status}\r\n\r\n").expect("it is there");
        }
        asked
    });
    let address = format!("127.0.0.1:{port}");
    let put = run(&["kv", "put", "cart", "apples", "--server", &address]);
    assert_eq!((put.code, &put.stdout[..]), (Some(0), "OK\n"), "{}", put.stderr);
    let asked = server.join().expect("it has answered");
    for (at, headers) in asked.iter().enumerate() {
        assert!(headers.contains(&format!("x-rondo-attempt: {}", at + 1)), "{asked:?}");
        let id = |headers: &[String]| headers.iter().find(|line| line.contains("-id:")).cloned();
        assert!(id(headers).is_some() && id(headers) == id(&asked[0]), "{asked:?}");
    }
}

#[test]
fn status_ring_and_bench_show_a_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = cluster(dir.path(), &["alpha", "beta", "gamma"], &[]);
    let servers: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let servers = servers.join(",");
    let short = [
        "--duration",
        "300ms",
        "--warm-up",
        "50ms",
        "--keys",
        "50",
        "--clients",
        "4",
        "-o",
        "json",
    ];
    let bench = run(&[&["bench", "mix", "--server", &servers], &short[..]].concat());
    assert_eq!(bench.code, Some(0), "{}", bench.stderr);
    let report: Value = serde_json::from_str(&bench.stdout).expect("JSON");
    for op in ["get", "put"] {
        assert!(report[op]["ok"].as_u64() > Some(0), "{report}");
        assert_eq!(report[op]["broken"], 0, "{report}");
        assert!(report[op]["latency_us"]["p99.9"].as_u64() > Some(0), "{report}");
    }
    let status = run(&["status", "--server", &servers]);
    let first = status.stdout.lines().next();
    assert_eq!(first, Some("Health: 3 nodes, 3 alive, 0 dead (100.0% availability)"));
    let ring = run(&["ring", "--server", &servers, "--partitions"]);
    assert!(ring.stdout.starts_with("Layout 1: 256 partitions, N=3 R=2 W=2\n"), "{}", ring.stdout);
    assert_eq!(ring.stdout.lines().count(), 1 + 1 + 1 + 3 + 1 + 1 + 256);
    let ring: Value =
        serde_json::from_str(&run(&["ring", "--server", &servers, "-o", "json"]).stdout)
            .expect("JSON");
    assert_eq!(ring["nodes"].as_array().map(Vec::len), Some(3));
}

#[test]
fn config_show_says_where_each_value_came_from() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("rondo.yaml"), "zone: east\nport: 1\n").expect("written");
    let output = rondo()
        .current_dir(dir.path())
        .env("RONDO_PORT", "9000")
        .args(["config", "show", "--origin", "--config", "rondo.yaml", "--log", "warn"])
        .output()
        .expect("the binary starts");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |name: &str| {
        let line =
            shown.lines().find(|line| line.starts_with(name)).expect("every setting is shown");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("port "), "port 9000 environment RONDO_PORT");
    assert_eq!(line("zone "), "zone east file rondo.yaml");
    assert_eq!(line("log "), "log warn flag --log");
    assert_eq!(line("join "), "join auto default");
    assert_eq!(line("read-quorum "), "read-quorum 2 a majority of --replication 3");
    assert_eq!(line("advertise "), "advertise 127.0.0.1:7946 the address");
    assert_eq!(line("seeds "), "seeds none default");
    assert_eq!(run_in(dir.path(), &["config", "check", "--port", "x"]).code, Some(2));
}

#[test]
fn config_show_tells_what_it_can_work_out_and_what_a_start_would_refuse() {
    let dir = tempfile::tempdir().expect("a directory");
    let show = |arguments: &[&str]| {
        run_in(dir.path(), &[&["config", "show", "--origin", "-o", "json"], arguments].concat())
    };
    fs::write(dir.path().join("secret"), "a secret of the cluster").expect("written");
    fs::write(dir.path().join("same"), "a secret of the cluster\n").expect("written");
    fs::write(dir.path().join("other"), "another secret of a cluster").expect("written");
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&show(arguments).stdout).expect("JSON")
    };
    let named = json(&["--node-id", "n1", "--replication", "5"]);
    assert_eq!(named["data-dir"]["value"], "rondo-data/n1");
    assert_eq!(named["write-quorum"]["value"], "3");
    assert_eq!(named["seeds"], Value::Null);
    let host = json(&[]);
    let name = host["node-id"]["value"].as_str().expect("every host has a name");
    assert_eq!(host["node-id"]["origin"], "the host's name");
    assert_eq!(host["data-dir"]["value"], format!("rondo-data/{name}"));
    let print = |file: &str| json(&["--cluster-secret-file", file])["cluster-secret-print"].clone();
    assert_eq!(print("secret"), print("same"));
    assert_ne!(print("secret"), print("other"));
    let refused = show(&["--cluster-secret-file", "missing"]);
    assert_eq!(refused.code, Some(0));
    let said = "warning: a node would not start with these: cluster secret missing";
    assert!(refused.stderr.starts_with(said), "{}", refused.stderr);
    assert!(refused.stdout.contains("rondo-data/"), "{}", refused.stdout);
}

#[test]
fn a_development_cluster_goes_on_detached_until_it_is_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = StopGuard(dir.path());
    let started = eventually("free ports in a row", || {
        let (http, peer) = (free_port().to_string(), free_port().to_string());
        let ports = ["--port", &http, "--peer-port", &peer, "--resp-port", "1"];
        let arguments = [&["dev-cluster", "--nodes", "3", "--detach"], &ports[..]].concat();
        let ended = run_in(dir.path(), &arguments);
        if ended.stderr.contains("in use") || ended.stderr.contains("another program has") {
            return None;
        }
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        Some((http.parse::<u16>().expect("a number"), ended.stdout))
    });
    let (port, banner) = started;
    assert!(banner.contains("A cluster of 3 nodes is ready."), "{banner}");
    assert!(banner.contains(&format!("node-3   http://127.0.0.1:{}", port + 2)), "{banner}");
    let (first, last) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 2));
    assert_eq!(run(&["kv", "put", "k", "v", "--server", &first]).code, Some(0));
    assert_eq!(run(&["kv", "get", "k", "--server", &last]).stdout, "v");
    let again = run_in(dir.path(), &["dev-cluster"]);
    assert!(again.stderr.contains("a cluster is running"), "{}", again.stderr);

    let stopped = run_in(dir.path(), &["dev-cluster", "stop"]);
    assert_eq!(
        (stopped.code, stopped.stdout.as_str()),
        (Some(0), "stopped 3 nodes\n"),
        "{}",
        stopped.stderr
    );
    assert!(TcpStream::connect(&first).is_err());
    let twice = run_in(dir.path(), &["dev-cluster", "stop"]);
    assert_eq!(twice.code, Some(1));
    assert!(twice.stderr.contains("was stopped before"), "{}", twice.stderr);

    // It is the same cluster, with the same nodes, whatever number is asked for.
    let again = run_in(dir.path(), &["dev-cluster", "--nodes", "2", "--detach"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("A cluster of 3 nodes is ready."), "{}", again.stdout);
    assert_eq!(run(&["kv", "get", "k", "--server", &last]).stdout, "v");
}

#[test]
fn a_node_of_a_development_cluster_that_was_killed_is_brought_back_and_ends_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = StopGuard(dir.path());
    let command = |arguments: &[&str]| run_in(dir.path(), arguments);
    let mut cluster = eventually("free ports in a row", || {
        let (http, peer) = (free_port().to_string(), free_port().to_string());
        let mut child = rondo()
            .current_dir(dir.path())
            .args(["dev-cluster", "--nodes", "2", "--port", &http, "--peer-port", &peer])
            .stdout(fs::File::create(dir.path().join("banner")).expect("a file"))
            .stderr(fs::File::create(dir.path().join("said")).expect("a file"))
            .spawn()
            .expect("the binary starts");
        eventually("a cluster, or the end of the attempt", || {
            // Before the command itself has seen them ready, a node that ends is a failed start.
            let up = fs::read_to_string(dir.path().join("banner")).expect("readable");
            if up.contains("is ready") {
                return Some(true);
            }
            child.try_wait().expect("a child").map(|_| false)
        })
        .then_some(child)
    });
    let said = || fs::read_to_string(dir.path().join("said")).expect("readable");
    assert_eq!(command(&["kv", "put", "k", "v"]).code, Some(0), "it is found without --server");
    assert_eq!(command(&["dev-cluster", "kill", "node-1"]).stdout, "killed node-1\n");
    let ended = "node-1 ended; `rondo dev-cluster restart node-1` starts it again\n";
    eventually("the end is said", || said().contains(ended).then_some(()));
    assert_eq!(command(&["dev-cluster", "restart", "1"]).stdout, "started node-1\n");
    eventually("the start is said", || said().contains("node-1 runs again\n").then_some(()));
    assert_eq!(command(&["status", "--wait"]).code, Some(0));
    assert_eq!(command(&["kv", "get", "k", "--consistency", "all"]).stdout, "v");
    let unknown = command(&["dev-cluster", "restart", "node-9"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("there is no node `node-9`"), "{}", unknown.stderr);

    let killed = std::process::Command::new("kill").arg(cluster.id().to_string()).status();
    assert!(killed.expect("kill is there").success());
    let end = eventually("the end of the cluster", || cluster.try_wait().expect("a child"));
    assert_eq!(end.code(), Some(0), "{}", said());
    assert_eq!(command(&["kv", "get", "k"]).code, Some(1), "all of them have ended");
    assert_eq!(command(&["dev-cluster", "restart"]).stdout, "started 2 nodes\n");
    assert_eq!(command(&["status", "--wait"]).code, Some(0));
    assert_eq!(command(&["kv", "get", "k"]).stdout, "v");
    assert_eq!(command(&["dev-cluster", "stop"]).stdout, "stopped 2 nodes\n");
}

/// Stops a detached cluster whatever became of the test.
struct StopGuard<'a>(&'a std::path::Path);

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        run_in(self.0, &["dev-cluster", "stop"]);
    }
}
