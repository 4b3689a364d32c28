//! A disk without room: values are refused, everything else goes on, and so does a start.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::harness::{Node, ask, eventually};

/// A node on a file system of its own; `None`, said aloud, where nobody may mount one.
fn on_64_mib(dir: &Path) -> Option<Node> {
    let node = Node::start_on_small_disk(dir, "alpha", 64 << 20);
    if node.is_none() {
        eprintln!(
            "skipped: this system lets nobody mount a file system (it takes user namespaces)"
        );
    }
    node
}

fn target(number: usize) -> String {
    format!("/v1/kv/default/k{number}")
}

/// A full disk ended the node, and it did not start again (<https://github.com/basho/riak/issues/282>).
#[test]
fn a_full_disk_refuses_values_and_a_node_killed_on_it_starts_again_with_all_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(node) = on_64_mib(dir.path()) else { return };
    let value = vec![b'v'; 500_000];
    let full = (0..1_000).find(|&number| {
        let answer = node.put(&target(number), &value);
        if answer.status != 204 {
            assert!(answer.text().contains("the disk is nearly full"), "{}", answer.text());
            assert!(answer.text().contains("nothing was written"), "{}", answer.text());
        }
        answer.status != 204
    });
    let full = full.expect("the disk is full at last");
    assert!(full > 10, "{full} values of half a megabyte on 64 MiB");
    let said = |body: &str| assert!(body.contains("the disk is nearly full"), "{body}");
    said(&node.get("/health").text());
    said(&node.get("/v1/status").json()["troubles"].to_string());
    eventually("a line of the log", || {
        node.log().contains("the disk is nearly full").then_some(())
    });
    assert_eq!(
        node.log().matches("the disk is nearly full").count(),
        1,
        "once, as long as it lasts"
    );
    assert_eq!(node.get(&target(0)).body, value);
    assert_eq!(node.ask("DELETE /v1/kv/default/k1", &[], b"").status, 204);
    let boot = |node: &Node| node.get("/v1/status").json()["boot"].as_u64();
    let first = boot(&node);
    node.kill_on_small_disk();
    eventually(&format!("it is back\n{}", node.log()), || {
        ask(node.port, "GET /ready", &[], b"").ok().filter(|answer| answer.status == 200)
    });
    assert!(boot(&node) > first);
    assert_eq!(node.get(&target(1)).status, 404);
    for number in (0..full).filter(|&number| number != 1) {
        assert_eq!(node.get(&target(number)).body, value, "{number}");
    }
    // Room returns with deletes, and writes with the room.
    for number in 2..full {
        assert_eq!(node.ask(&format!("DELETE {}", target(number)), &[], b"").status, 204);
    }
    eventually(&format!("a write\n{}", node.log()), || {
        (node.put(&target(0), b"small").status == 204).then_some(())
    });
}

/// What the node keeps free somebody else may take: then there is not a single block for what a start must write.
#[test]
fn a_node_killed_on_a_disk_without_a_free_block_starts_and_reads_and_writes_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(node) = on_64_mib(dir.path()) else { return };
    let value = vec![b'v'; 500_000];
    let count = 60;
    for number in 0..count {
        assert_eq!(node.put(&target(number), &value).status, 204);
    }
    let hog = node.on_small_disk(&dir.path().join("alpha")).join("of-somebody-else");
    let fill = || {
        let mut file = OpenOptions::new().append(true).create(true).open(&hog).expect("a file");
        while let Ok(1..) = file.write(&[0; 4096]) {}
        let disk = rustix::fs::statvfs(&hog).expect("it is there");
        assert_eq!(disk.f_bavail, 0, "blocks are free");
    };
    fill();
    let boot = |node: &Node| node.get("/v1/status").json()["boot"].as_u64();
    let first = boot(&node);
    for life in 1..4 {
        node.kill_on_small_disk();
        eventually(&format!("it is back\n{}", node.log()), || {
            let ready = ask(node.port, "GET /ready", &[], b"").ok()?;
            (ready.status == 200 && boot(&node) == first.map(|boot| boot + life)).then_some(())
        });
        for number in 0..count {
            assert_eq!(node.get(&target(number)).body, value, "{number}");
        }
        let refused = node.put(&target(0), b"small");
        assert!(refused.status == 429 || refused.status == 503, "{}", refused.text());
        assert!(refused.text().contains("nothing was written"), "{}", refused.text());
        fill();
    }
    fs::remove_file(&hog).expect("it is there");
    eventually(&format!("a delete\n{}", node.log()), || {
        (node.ask(&format!("DELETE {}", target(0)), &[], b"").status == 204).then_some(())
    });
    let used = || node.get("/v1/storage").json()["engine"]["disk_bytes"].as_u64();
    let before = used();
    for number in 1..count - 1 {
        assert_eq!(node.ask(&format!("DELETE {}", target(number)), &[], b"").status, 204);
    }
    eventually("a compaction", || (used() < before.map(|before| before / 2)).then_some(()));
    eventually(&format!("a write\n{}", node.log()), || {
        (node.put(&target(0), &value).status == 204).then_some(())
    });
    assert_eq!(node.get(&target(count - 1)).body, value);
    assert_eq!(node.get(&target(1)).status, 404);
}
