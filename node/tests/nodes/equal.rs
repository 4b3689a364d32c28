//! Copies that become equal although nobody reads them, with real processes and real files.

use std::fs;

use serde_json::Value;

use crate::anew::{KEYS, Three, data_files, value};
use crate::harness::{eventually, run};

/// What `rondo repair` says, as data. Its exit code says whether all copies are known to be equal.
fn repair(three: &Three, flags: &[&str]) -> Value {
    let server = format!("127.0.0.1:{}", three.node(1).port);
    let arguments = [&["repair", "--server", &server, "-o", "json"], flags].concat();
    let ended = run(&arguments);
    let said: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let is_empty = |name: &str| said[name].as_array().is_none_or(Vec::is_empty);
    let is_known = ["differ", "incomplete", "not_reached"].into_iter().all(is_empty);
    assert_eq!(ended.code, Some(i32::from(!is_known)), "{}", ended.stderr);
    said
}

/// Every node is in the layout, has this many keys, and the trees of all partitions are complete and equal.
fn become_equal(three: &Three, keys: usize) {
    eventually("equal copies", || {
        let has_all = |at: usize| {
            let (ready, storage) =
                (three.node(at).get("/ready"), three.node(at).get("/v1/storage"));
            ready.status == 200 && storage.json()["keys"] == keys
        };
        if !(0..3).all(has_all) {
            return None;
        }
        let found = repair(three, &["--dry-run"]);
        let is_empty = |name: &str| found[name].as_array().is_some_and(Vec::is_empty);
        (is_empty("differ") && is_empty("incomplete")).then_some(())
    });
}

/// Keys that were brought to others or taken from them since the nodes started.
fn compared(three: &Three) -> u64 {
    let of = |at: usize| {
        let repairs = &three.node(at).get("/v1/status").json()["repairs"];
        repairs["taken_keys"].as_u64().expect("a number")
            + repairs["brought_keys"].as_u64().expect("a number")
    };
    (0..3).map(of).sum()
}

/// Whoever coordinated the writes that one node missed loses its disk, and with it the hints: the third one is all that is left of them.
#[test]
fn a_node_that_was_away_becomes_equal_by_itself_when_the_hints_for_it_are_lost() {
    let mut three = Three::with_keys();
    become_equal(&three, KEYS);
    three.kill(2);
    for number in 0..10 {
        let target = format!("/v1/kv/default/k{number}");
        let deleted = three.node(0).ask(&format!("DELETE {target}"), &[], b"");
        assert_eq!(deleted.status, 204);
    }
    for number in KEYS..KEYS + 20 {
        let target = format!("/v1/kv/default/k{number}");
        assert_eq!(three.node(0).put(&target, value(number).as_bytes()).status, 204);
    }
    three.kill(0);
    fs::remove_dir_all(three.home(0)).expect("removed");
    three.start(2);
    three.start(0);
    become_equal(&three, KEYS + 10);
    assert!(compared(&three) >= 30, "what nobody has read and nobody owed");
    let again = repair(&three, &[]);
    let found = |when: &str| {
        let nodes = again[when].as_object().expect("the nodes").values();
        nodes.map(|node| node["found_keys"].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(found("before"), found("after"), "nothing more is found to do");
}

#[test]
fn a_value_that_rotted_is_replaced_by_itself_and_copies_are_equal() {
    let mut three = Three::with_keys();
    three.kill(0);
    let holds = |bytes: &[u8]| bytes.windows(8).position(|window| window == b"value-7-");
    let mut damaged = data_files(&three.home(0)).into_iter().filter_map(|path| {
        let mut bytes = fs::read(&path).expect("readable");
        let at = holds(&bytes)?;
        bytes[at + 20] ^= 1;
        Some(fs::write(&path, bytes))
    });
    damaged.next().expect("it is stored").expect("writable");
    three.start(0);
    eventually("the record is replaced", || {
        let storage = three.node(0).get("/v1/status").json();
        (storage["counters"]["records_healed"] == 1).then_some(())
    });
    become_equal(&three, KEYS);
    let read = three.node(0).get("/v1/kv/default/k7?consistency=one");
    assert_eq!(read.text(), value(7));
}
