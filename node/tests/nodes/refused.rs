//! Bad input, each with a clear error: on the command line, over HTTP, between nodes and in the data directory.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Node, cluster_flags, eventually, free_port, run, run_in};

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for (arguments, said) in [
        (&["--read-quorum", "4"][..], "read-quorum is 4, and there are 3 replicas"),
        (
            &["--replicas", "2", "--write-quorum", "3"],
            "write-quorum is 3, and there are 2 replicas",
        ),
        (&["--address", "0.0.0.0"], "no cluster secret"),
        (&["--engine", "btree"], "the engine `btree` is not built yet"),
        (&["--prot", "1"], "--port"),
        (&["serve", "--port", "x"], "port: `x` is not a number"),
        (&["--config", "/nowhere/rondo.toml"], "cannot read /nowhere/rondo.toml"),
        (&["--log", "a=b=c"], "log: `a=b=c`"),
        (&["--log", "debu"], "--log debug"),
        (&["kv", "get"], "Usage"),
        (&["kv", "get", "k", "--timeout", "1h"], "a time such as 500ms"),
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

/// What is checked before a start and what a start refuses is one thing: the same words, the same exit code.
#[test]
fn what_config_check_calls_good_starts_and_what_it_refuses_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("empty"), "\n").expect("written");
    fs::write(at("file"), "no directory").expect("written");
    fs::create_dir(at("directory")).expect("made");
    std::os::unix::fs::symlink("/nowhere/at/all", at("dangling")).expect("made");
    for name in ["kept", "headless"] {
        let node = Node::start(dir.path(), name, &["--cluster-name", "rondo"]);
        node.wait_ready();
        node.signal("-TERM");
        assert_eq!(node.wait().code(), Some(0));
    }
    fs::remove_file(at("headless").join("identity")).expect("removed");
    let used = Node::start(dir.path(), "used", &["--cluster-name", "rondo"]);
    used.wait_ready();
    let (port, taken) = (free_port().to_string(), used.port.to_string());
    let before = files_below(&at("kept"));
    let refused = [
        (&["--cluster-secret-file", "missing"][..], "cluster secret missing: No such file"),
        (&["--cluster-secret-file", "empty"], "cluster secret empty: 0 bytes, not 16 to 4096"),
        (&["--cluster-secret-file", "directory"], "cluster secret directory: Is a directory"),
        (&["--address", "192.0.2.77", "--insecure"], "cannot listen on 192.0.2.77"),
        (&["--seeds", "127.0.0.1:70000"], "seeds: `127.0.0.1:70000`"),
        (&["--seeds", "[::1]:7946"], "`[::1]:7946` cannot be reached from 127.0.0.1"),
        (&["--seeds", "0.0.0.0:7946"], "seeds: `0.0.0.0:7946`"),
        (&["--data-dir", "file"], "data directory file: it is not a directory"),
        (&["--data-dir", "file/below"], "data directory file/below: file: it is not a directory"),
        (&["--data-dir", "kept", "--engine", "memory"], "kept holds the data of a node"),
        (&["--data-dir", "dangling"], "dangling: it is a link to a place that is not there"),
        (
            &["--data-dir", "kept", "--node-id", "other"],
            "belongs to the node `kept`, not to `other`",
        ),
        (
            &["--data-dir", "kept", "--node-id", "kept", "--cluster-name", "other"],
            "belongs to the cluster `rondo`, not to `other`",
        ),
        (&["--data-dir", "headless"], "holds data, but the file \"identity\" is gone"),
        (&["--data-dir", "used"], "used is in use by another process"),
        (&["--peer-port", &taken], "cannot listen at 127.0.0.1 TCP port"),
        (&["--log", "debu"], "`debu` is no level; the levels are off, error, warn, info"),
        (&["--log", "rondo_net"], "`rondo_net` is no level"),
    ];
    for (arguments, said) in refused {
        let arguments = [arguments, &["--port", &port]].concat();
        let checked = run_in(dir.path(), &[&["config", "check"], &arguments[..]].concat());
        let started = run_in(dir.path(), &arguments);
        assert!(checked.stderr.contains(said), "{arguments:?}: {checked:?}");
        assert!(checked.stderr.contains("try:"), "{arguments:?}: {checked:?}");
        assert_eq!(checked.stdout, "", "{arguments:?}");
        assert_eq!(checked.code, started.code, "{arguments:?}: {started:?}");
        assert!(started.stderr.ends_with(&checked.stderr), "{arguments:?}: {started:?}");
        assert_ne!(checked.code, Some(0), "{arguments:?}");
    }
    assert_eq!(files_below(&at("kept")), before, "what was refused changed nothing");
    assert!(!at("rondo-data").exists(), "what was refused made nothing");
    let good = ["--node-id", "kept", "--data-dir", "kept", "--port", &port];
    let fresh = ["--node-id", "fresh", "--data-dir", "fresh", "--port", &port];
    for good in [good, fresh] {
        let checked = run_in(dir.path(), &[&["config", "check"], &good[..]].concat());
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), "OK\n"), "{checked:?}");
    }
    assert_eq!(files_below(&at("kept")), before, "what was called good is as it was");
    assert!(!at("fresh").exists(), "nothing was made");
}

/// Every file in a directory with its bytes.
fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn settings_are_shown_while_a_node_runs_and_only_a_start_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let used = Node::start(dir.path(), "used", &[]);
    used.wait_ready();
    let taken = used.port.to_string();
    let busy = ["--node-id", "used", "--data-dir", "used", "--port", &taken];
    let shown = run_in(dir.path(), &[&["config", "show"], &busy[..]].concat());
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    let checked = run_in(dir.path(), &[&["config", "check"], &busy[..]].concat());
    let said = format!("another program has port {taken}");
    assert!(checked.code == Some(1) && checked.stderr.contains(&said), "{checked:?}");
}

#[test]
fn config_check_refuses_a_place_where_nothing_can_be_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port().to_string();
    for place in ["/proc/rondo", "/sys/rondo"] {
        let arguments = ["--data-dir", place, "--port", &port];
        let checked = run(&[&["config", "check"], &arguments[..]].concat());
        let started = run(&arguments);
        assert_eq!((checked.code, started.code), (Some(1), Some(1)), "{checked:?} {started:?}");
        assert!(checked.stderr.contains(&format!("data directory {place}")), "{checked:?}");
    }
    let mount = format!("mount -t tmpfs -o size=64k tmpfs '{}'", dir.path().display());
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["-Urm", "sh", "-c", script, env!("CARGO_BIN_EXE_rondo")]);
        unshare.args(["config", "check", "--port", &port, "--data-dir"]);
        unshare.arg(dir.path().join("new")).output()
    };
    if !inside(&mount).is_ok_and(|output| output.status.success()) {
        // This system lets nobody mount a disk.
        return;
    }
    let fill = format!("head -c 1000000 /dev/zero > '{}/all' 2>/dev/null", dir.path().display());
    for (script, code) in [
        (format!("{mount} && \"$0\" \"$@\""), Some(0)),
        (format!("{mount}; {fill}; \"$0\" \"$@\""), Some(1)),
    ] {
        let checked = inside(&script).expect("it runs");
        assert_eq!(checked.status.code(), code, "{checked:?}");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(said.contains("make room on its disk"), code == Some(1), "{said}");
    }
}

#[test]
fn a_seed_without_an_address_and_a_secret_that_all_can_read_are_warnings() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    fs::write(&secret, "a secret of the cluster").expect("written");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("changed");
    let arguments = ["config", "check", "--cluster-secret-file", "secret"];
    let checked = run_in(dir.path(), &[&arguments[..], &["--seeds", "nowhere.invalid:1"]].concat());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let lines: Vec<_> = checked.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("can read the cluster secret: chmod 600 secret"), "{lines:?}");
    assert!(
        lines[1].starts_with("warning: the seed `nowhere.invalid:1` has no address now"),
        "{lines:?}"
    );
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("changed");
    assert_eq!(run_in(dir.path(), &arguments).stderr, "");
}

#[test]
fn a_mistake_in_a_file_names_the_key_that_was_meant() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("rondo.toml"), "replicsa = 3\n").expect("written");
    let ended = run_in(dir.path(), &["--config", "rondo.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("unknown key `replicsa`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("did you mean `replicas`?"), "{}", ended.stderr);
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = run_in(dir.path(), &["--port", &port]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("another program has port {port}")), "{}", ended.stderr);
    let other = free_port().to_string();
    let ended = run_in(dir.path(), &["--port", &other, "--peer-port", &port]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("TCP port {port}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("--peer-port"), "{}", ended.stderr);
}

#[test]
fn a_data_directory_belongs_to_one_node_and_one_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let data = dir.path().join("alpha");
    let data = data.to_str().expect("UTF-8");
    let port = free_port().to_string();
    let ended = run(&["--node-id", "alpha", "--data-dir", data, "--port", &port]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("in use by another process"), "{}", ended.stderr);
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));

    let ended = run(&["--node-id", "beta", "--data-dir", data, "--port", &port]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("belongs to the node `alpha`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("try:"), "{}", ended.stderr);
}

#[test]
fn a_data_directory_that_is_a_file_or_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").expect("written");
    let port = free_port().to_string();
    let ended = run(&["--data-dir", file.to_str().expect("UTF-8"), "--port", &port]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("file"), "{}", ended.stderr);
}

#[test]
fn a_directory_in_the_place_of_a_file_and_a_broken_identity_are_named_with_the_way_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |name: &str| {
        let ended = Node::start_at(dir.path(), name, free_port(), &[]).err();
        ended.expect("it does not start")
    };
    for file in ["identity", "held", "lock"] {
        let node = Node::start(dir.path(), file, &[]);
        node.wait_ready();
        node.kill();
        let path = dir.path().join(file).join(file);
        // It is there in a life that has ended without a word.
        fs::remove_file(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        fs::create_dir(&path).expect("made");
        let said = refused(file);
        assert!(said.contains(&format!("{file} is a directory")), "{said}");
        assert!(said.contains("put it aside") && !said.contains("--data-dir"), "{said}");
    }
    let identity = dir.path().join("identity/identity");
    fs::remove_dir(&identity).expect("removed");
    fs::write(&identity, "ron").expect("written");
    let said = refused("identity");
    assert!(said.contains("identity") && said.contains("--seeds"), "{said}");
    assert!(said.contains("what only this disk had is lost"), "{said}");
}

#[test]
fn a_secret_that_is_missing_or_short_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("short"), "12345\n").expect("written");
    let missing = run_in(dir.path(), &["--cluster-secret-file", "missing"]);
    assert!(missing.stderr.contains("cluster secret missing"), "{}", missing.stderr);
    let short = run_in(dir.path(), &["--cluster-secret-file", "short"]);
    assert!(short.stderr.contains("5 bytes, not 16 to 4096"), "{}", short.stderr);
    assert_eq!((missing.code, short.code), (Some(1), Some(2)));
}

#[test]
fn a_node_with_another_secret_stays_outside_and_both_say_why() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, secret) in [("one", "a secret of the cluster"), ("two", "some other, wrong secret")]
    {
        fs::write(dir.path().join(name), secret).expect("written");
    }
    let peers = [free_port(), free_port()];
    let start = |at: usize, name: &str, secret: &str| {
        let secret = dir.path().join(secret);
        let flags = ["--cluster-secret-file", secret.to_str().expect("UTF-8")];
        let flags = cluster_flags(&peers, at, &flags);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Node::start(dir.path(), name, &flags)
    };
    let alpha = start(0, "alpha", "one");
    let beta = start(1, "beta", "two");
    for node in [&alpha, &beta] {
        eventually("datagrams that cannot be read are counted", || {
            (node.get("/v1/status").json()["counters"]["malformed"].as_u64()? > 0).then_some(())
        });
        let ready = node.get("/ready");
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains("waiting"), "{}", ready.text());
        assert_eq!(node.put("/v1/kv/default/k", b"v").status, 503);
    }
}

/// Waits for a line of the node's log with all of these words.
fn said(node: &Node, words: &[&str]) {
    eventually(&format!("{words:?} in\n{}", node.log()), || {
        let log = node.log();
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(|_| ())
    });
}

/// One node forms a cluster alone, the other dials it: the one that is dialled has never asked for it.
#[test]
fn the_one_that_dials_and_the_one_that_is_dialled_name_each_other_and_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, secret) in [("one", "a secret of the cluster"), ("two", "some other, wrong secret")]
    {
        fs::write(dir.path().join(name), secret).expect("written");
    }
    let secret = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (one, two) = (secret("one"), secret("two"));
    let other_secret = ["has another cluster secret than this node", "--cluster-secret-file"];
    let other_name = ["belongs to the cluster", "--cluster-name"];
    for (called, caller, words) in [
        (["--cluster-secret-file", &one], ["--cluster-secret-file", &two], other_secret),
        (["--cluster-name", "harbour"], ["--cluster-name", "harbor"], other_name),
    ] {
        let (peer, own) = (free_port().to_string(), free_port().to_string());
        let scratch = tempfile::tempdir().expect("a directory");
        let flags = [&["--peer-port", &peer][..], &called].concat();
        let alpha = Node::start(scratch.path(), "alpha", &flags);
        let seed = format!("127.0.0.1:{peer}");
        let flags = ["--peer-port", &own, "--seeds", &seed, "--bootstrap-expect", "2"];
        let beta = Node::start(scratch.path(), "beta", &[&flags[..], &caller].concat());
        said(&alpha, &[&[&format!("beta at 127.0.0.1:{own}")[..]][..], &words].concat());
        said(&beta, &[&[&format!("alpha at {seed}")[..]][..], &words].concat());
        assert_eq!(alpha.get("/ready").status, 200, "it goes on");
        assert!(beta.get("/ready").text().contains(words[0]), "{}", beta.get("/ready").text());
    }
}

#[test]
fn an_address_that_nobody_reaches_and_seeds_that_do_not_answer_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let peers = [free_port(), free_port()];
    let (nowhere, silent) = (free_port(), free_port());
    let start = |at: usize, name: &str, flags: &[&str]| {
        let flags = cluster_flags(&peers, at, flags);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Node::start(dir.path(), name, &flags)
    };
    let advertised = format!("127.0.0.1:{nowhere}");
    let alpha = start(0, "alpha", &["--advertise", &advertised]);
    let beta = start(1, "beta", &[]);
    for node in [&alpha, &beta] {
        said(node, &["one of the two cannot connect", &advertised, "--advertise"]);
    }
    let seed = format!("127.0.0.1:{silent}");
    let lonely = Node::start(dir.path(), "gamma", &["--seeds", &seed, "--bootstrap-expect", "2"]);
    said(&lonely, &[&seed, "nobody listens", "--seeds"]);
    // Something listens there, and it is no node.
    let _listener = TcpListener::bind(&seed).expect("it is free");
    let advertised = format!("127.0.0.1:{}", free_port());
    let flags = ["--seeds", &seed, "--bootstrap-expect", "2", "--advertise", &advertised];
    let unheard = Node::start(dir.path(), "delta", &flags);
    said(&unheard, &[&seed, "no datagram of it comes back", &advertised, "--advertise"]);
}

#[test]
fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    for garbage in [&b"\x00\x01\x02\x03 garbage\r\n\r\n"[..], b"GET\r\n\r\n", &[0xff; 4096]] {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).expect("it listens");
        stream.write_all(garbage).expect("sent");
        let mut answer = Vec::new();
        // The connection may also be reset, because it ends with bytes unread.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(node.get("/ready").status, 200);
}

#[test]
fn frames_that_are_none_end_a_link_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let peer = free_port();
    let node = Node::start(dir.path(), "alpha", &["--peer-port", &peer.to_string()]);
    node.wait_ready();
    for garbage in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[0; 7]] {
        let mut stream = TcpStream::connect(("127.0.0.1", peer)).expect("it listens");
        stream.write_all(garbage).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("still open");
        let mut rest = Vec::new();
        // Read to the end: the node hangs up, perhaps with a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 4096);
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("some port is free");
        udp.send_to(garbage, ("127.0.0.1", peer)).expect("sent");
    }
    eventually("the datagrams are counted", || {
        (node.get("/v1/status").json()["counters"]["malformed"].as_u64()? >= 3).then_some(())
    });
    assert_eq!(node.get("/ready").status, 200);
}

#[test]
fn an_oversized_value_is_413_for_a_client_that_sends_it_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "alpha", &[]);
    node.wait_ready();
    let value = vec![b'v'; (1 << 20) + 1];
    let answer = node.put("/v1/kv/default/big", &value);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("a value has at most 1048576"), "{}", answer.text());
    assert_eq!(node.put("/v1/kv/default/big", &value[1..]).status, 204);
    assert_eq!(node.get("/v1/kv/default/big").body.len(), 1 << 20);
    let key = "k".repeat(4097);
    assert_eq!(node.put(&format!("/v1/kv/default/{key}"), b"v").status, 413);
    assert_eq!(node.get("/no/such/route").status, 404);
    let broken = node.ask("PUT /kv/k", &["Content-Type: application/json"], br#"{"value":"#);
    assert_eq!(broken.status, 400, "{}", broken.text());
}

/// A killed node with fifty values, of which one byte, found by `place`, is another.
fn damaged(dir: &std::path::Path, place: impl Fn(&[u8]) -> usize) -> u16 {
    let node = Node::start(dir, "alpha", &[]);
    node.wait_ready();
    for number in 10..60 {
        assert_eq!(node.put(&format!("/v1/kv/default/k{number}"), &[b'v'; 200]).status, 204);
    }
    let port = node.port;
    node.kill();
    let data = dir.join("alpha").join("data");
    let files = std::fs::read_dir(&data).expect("the engine's directory");
    let file = files.map(|file| file.expect("a file").path());
    let file = file.filter(|path| path.extension().is_some_and(|kind| kind == "data")).max();
    let file = file.expect("a data file");
    let mut bytes = std::fs::read(&file).expect("readable");
    let at = place(&bytes);
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    port
}

#[test]
fn a_store_that_cannot_name_what_is_damaged_is_not_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = |bytes: &[u8]| bytes.windows(3).position(|w| w == b"k25").expect("a key");
    let port = damaged(dir.path(), key);
    let ended = Node::start_at(dir.path(), "alpha", port, &[]).err().expect("it does not start");
    assert!(ended.contains("is damaged"), "{ended}");
    assert!(ended.contains("start it again with --seeds HOST:PORT"), "{ended}");
}

#[test]
fn a_store_of_which_a_value_is_damaged_is_served_and_that_key_is_never_called_absent() {
    let dir = tempfile::tempdir().expect("a directory");
    let value =
        |bytes: &[u8]| bytes.windows(200).position(|w| w == [b'v'; 200]).expect("a value") + 100;
    let port = damaged(dir.path(), value);
    let node = Node::start_at(dir.path(), "alpha", port, &[]).expect("it starts");
    node.wait_ready();
    let status = |number| node.get(&format!("/v1/kv/default/k{number}")).status;
    let statuses: Vec<u16> = (10..60).map(status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 49, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 503).count(), 1, "{statuses:?}");
}
