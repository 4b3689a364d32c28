//! Nodes whose data cannot be trusted any more begin anew and become full copies by themselves, with real processes and real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::copies::copy;
use crate::harness::{Node, ask, cluster_flags, eventually, free_port};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
pub(crate) const KEYS: usize = 50;

/// Three nodes in a directory, some of which run.
pub(crate) struct Three {
    dir: tempfile::TempDir,
    peers: Vec<u16>,
    nodes: Vec<Option<Node>>,
}

impl Three {
    /// All of them serve and have some keys.
    pub(crate) fn with_keys() -> Three {
        let dir = tempfile::tempdir().expect("a directory");
        let peers = NAMES.iter().map(|_| free_port()).collect();
        let mut three = Three { dir, peers, nodes: vec![None, None, None] };
        (0..3).for_each(|at| three.start(at));
        (0..3).for_each(|at| three.node(at).wait_ready());
        for number in 0..KEYS {
            let target = format!("/v1/kv/default/k{number}?consistency=all");
            assert_eq!(three.node(0).put(&target, value(number).as_bytes()).status, 204);
        }
        three
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("it runs")
    }

    pub(crate) fn home(&self, at: usize) -> PathBuf {
        self.dir.path().join(NAMES[at])
    }

    pub(crate) fn start(&mut self, at: usize) {
        let flags = cluster_flags(&self.peers, at, &[]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.nodes[at] = Some(Node::start(self.dir.path(), NAMES[at], &flags));
    }

    fn stop(&mut self, at: usize) {
        let node = self.nodes[at].take().expect("it runs");
        node.signal("-TERM");
        assert_eq!(node.wait().code(), Some(0));
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("it runs").kill();
    }

    /// A node is in the layout and has everything. While it starts again it does not answer.
    fn is_whole(&self, at: usize) {
        let node = self.node(at);
        let get = |path: &str| ask(node.port, &format!("GET {path}"), &[], b"").ok();
        eventually("a full copy", || {
            let cluster = get("/v1/cluster")?.json();
            let is_settled = cluster["settled"] == true && cluster["layout"]["nodes"] == 3;
            (is_settled && get("/v1/storage")?.json()["keys"] == KEYS).then_some(())
        });
    }

    /// A node that has begun anew has everything and counts: with it alone beside one other the quorum of every key is there.
    fn becomes_a_full_copy(&mut self, at: usize) {
        self.is_whole(at);
        assert!(self.home(at).join("set-aside/identity").exists(), "nothing was deleted");
        self.kill((at + 1) % 3);
        for number in 0..KEYS {
            let target = format!("/v1/kv/default/k{number}");
            eventually(&format!("k{number} with two of three"), || {
                let read = self.node(at).get(&target);
                assert_ne!(read.status, 404, "an acknowledged write is never called absent");
                (read.text() == value(number)).then_some(())
            });
        }
    }
}

fn says(node: &Node, words: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while !node.log().contains(words) {
        assert!(Instant::now() < until, "nothing of {words:?} in\n{}", node.log());
        sleep(Duration::from_millis(20));
    }
}

pub(crate) fn value(number: usize) -> String {
    format!("value-{number}-{}", "v".repeat(200))
}

/// The data files of a node, in order.
pub(crate) fn data_files(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join("data")).expect("the engine's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "data")).collect();
    files.sort();
    files
}

fn lose_a_file(home: &Path) {
    let files = data_files(home);
    fs::remove_file(files.last().expect("it has written")).expect("removed");
}

/// Flips one bit where a key stands, so that nobody knows what is gone.
fn damage(home: &Path) {
    let holds = |bytes: &[u8]| bytes.windows(8).position(|window| window == b"value-7-");
    let files = data_files(home).into_iter().map(|path| {
        let bytes = fs::read(&path).expect("readable");
        (path, bytes)
    });
    let (path, mut bytes) =
        files.into_iter().find(|(_, bytes)| holds(bytes).is_some()).expect("it is stored");
    let before =
        bytes[..holds(&bytes).expect("found")].windows(2).rposition(|window| window == b"k7");
    bytes[before.expect("its key is before it")] ^= 1;
    fs::write(&path, bytes).expect("writable");
}

#[test]
fn a_damaged_store_is_set_aside_and_its_node_becomes_a_full_copy() {
    let mut three = Three::with_keys();
    three.kill(0);
    damage(&three.home(0));
    three.start(0);
    says(three.node(0), "begins anew and takes its data from its peers");
    three.becomes_a_full_copy(0);
}

#[test]
fn a_store_that_has_lost_a_file_is_set_aside_too_but_not_twice_without_a_word_from_people() {
    let mut three = Three::with_keys();
    for is_first in [true, false] {
        three.kill(0);
        lose_a_file(&three.home(0));
        if !is_first {
            break;
        }
        three.start(0);
        three.is_whole(0);
    }
    let flags = cluster_flags(&three.peers, 0, &[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ended = Node::start_at(three.dir.path(), "alpha", free_port(), &flags).err();
    let ended = ended.expect("a disk that loses files again and again");
    assert!(ended.contains("what was set aside before is still in"), "{ended}");
    fs::remove_dir_all(three.home(0).join("set-aside")).expect("somebody has looked at it");
    three.start(0);
    three.becomes_a_full_copy(0);
}

/// Flips one bit in a record of a node's own.
fn damage_own(home: &Path, key: &[u8]) {
    let files = data_files(home).into_iter().rev();
    let mut damaged = files.filter_map(|path| {
        let mut bytes = fs::read(&path).expect("readable");
        // Of the layout's record the one that says that it is live begins alike.
        let is_it = |window: &[u8]| window.strip_prefix(key).is_some_and(|rest| rest != b"-");
        let at = bytes.windows(key.len() + 1).rposition(is_it)?;
        // Behind the key is the head, whose key a start knows all the same.
        bytes[at + key.len() + 6] ^= 1;
        Some(fs::write(&path, bytes))
    });
    damaged.next().expect("it has such a record").expect("writable");
}

#[test]
fn a_node_that_cannot_read_a_record_of_its_own_begins_anew_too() {
    let mut three = Three::with_keys();
    three.stop(0);
    damage_own(&three.home(0), b"\0lives");
    three.start(0);
    says(three.node(0), "a record that the node keeps for itself is lost");
    three.becomes_a_full_copy(0);
}

#[test]
fn a_node_that_cannot_read_the_layout_it_has_endorsed_begins_anew_too() {
    let mut three = Three::with_keys();
    three.stop(0);
    damage_own(&three.home(0), b"\0layout");
    three.start(0);
    says(three.node(0), "a record that the node keeps for itself is lost");
    three.becomes_a_full_copy(0);
}

#[test]
fn an_old_copy_that_was_put_back_is_set_aside_when_its_peers_tell_and_its_node_becomes_a_full_copy()
{
    let mut three = Three::with_keys();
    let (home, old) = (three.home(0), three.dir.path().join("old"));
    three.stop(0);
    copy(&home, &old);
    for number in 0..2 {
        three.start(0);
        three.node(0).wait_ready();
        let target = format!("/v1/kv/default/k{number}");
        assert_eq!(three.node(0).put(&target, value(number).as_bytes()).status, 204);
        three.stop(0);
    }
    fs::remove_dir_all(&home).expect("removed");
    fs::rename(&old, &home).expect("renamed");
    three.start(0);
    says(three.node(0), "its peers do not count this data directory");
    three.becomes_a_full_copy(0);
}

#[test]
fn nodes_that_all_begin_anew_at_once_form_no_empty_cluster() {
    let mut three = Three::with_keys();
    (0..3).for_each(|at| three.kill(at));
    for at in 0..3 {
        lose_a_file(&three.home(at));
    }
    (0..3).for_each(|at| three.start(at));
    for at in 0..3 {
        let node = three.node(at);
        eventually("it hears the two others, and waits", || {
            let ready = node.get("/ready");
            let status = node.get("/v1/status").json();
            let alive = status["members"].as_array()?.iter().filter(|one| one["state"] == "alive");
            (alive.count() == 3 && ready.text().contains("founds no cluster")).then_some(())
        });
        assert_eq!(node.get("/ready").status, 503);
        assert_eq!(node.get("/v1/kv/default/k1").status, 503, "and calls nothing absent");
    }
    // What was set aside is whole, and may be put back.
    for at in 0..3 {
        three.kill(at);
        assert!(three.home(at).join("set-aside/identity").exists());
    }
}
