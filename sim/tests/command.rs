//! The command line as people use it: two processes agree, a failure can be replayed, bad input is told.

use std::path::Path;
use std::process::{Command, Output};

fn rondo_sim(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo-sim"));
    command.current_dir(directory).args(arguments).output().expect("the program starts")
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn two_processes_give_the_same_hashes_in_the_order_of_the_seeds() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |driver, jobs| {
        let arguments = ["run", "--seeds", "0..24", "--json", "--driver", driver, "--jobs", jobs];
        rondo_sim(directory.path(), &arguments)
    };
    let all = ["sim", "wire"].map(|driver| agree(&run(driver, "1"), &run(driver, "3")));
    assert_ne!(all[0], all[1], "drivers are worlds of their own");
}

/// Both gave 24 hashes, all different, and the same.
fn agree(one: &Output, other: &Output) -> Vec<String> {
    assert_eq!(one.status.code(), Some(0), "{}", told(one));
    let hashes = |output: &Output| -> Vec<String> {
        told(output).lines().filter(|line| line.contains("hash")).map(str::to_owned).collect()
    };
    assert_eq!(hashes(one).len(), 24);
    assert_eq!(hashes(one), hashes(other));
    let mut different = hashes(one);
    different.sort();
    different.dedup_by_key(|line| line.split("\"hash\":").nth(1).map(str::to_owned));
    assert_eq!(different.len(), 24, "each seed is a run of its own");
    hashes(one)
}

#[test]
fn a_second_process_that_tells_another_hash_is_a_failure_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let other = directory.path().join("other");
    let script = "#!/bin/sh\necho '{\"seed\":20,\"hash\":\"0123456789abcdef\"}'\n";
    std::fs::write(&other, script).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&other, executable).expect("allowed");
    let run = |more: &[&str]| {
        rondo_sim(directory.path(), &[&["run", "--seeds", "19..22"], more].concat())
    };
    let same = run(&[]);
    assert_eq!(same.status.code(), Some(0), "{}", told(&same));
    let with = other.to_str().expect("text");
    let differs = run(&["--again-with", with]);
    assert_eq!(differs.status.code(), Some(13), "{}", told(&differs));
    assert!(
        told(&differs).contains("FAIL seed 20  determinism  the hash is "),
        "{}",
        told(&differs)
    );
    assert!(told(&differs).contains("3 seeds, 1 failed"), "{}", told(&differs));
    let json = run(&["--again-with", with, "--json"]);
    assert!(told(&json).contains(r#""oracle":"determinism""#), "{}", told(&json));
    let never = run(&["--again-with", with, "--again-every", "0"]);
    assert_eq!(never.status.code(), Some(0), "{}", told(&never));
}

#[test]
fn a_saved_scenario_replays_to_the_hash_of_its_seed() {
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = rondo_sim(directory.path(), &["scenario", "5"]);
    std::fs::write(directory.path().join("five.json"), &scenario.stdout).expect("saved");
    let by_seed = rondo_sim(directory.path(), &["replay", "5", "--quiet"]);
    let by_file = rondo_sim(directory.path(), &["replay", "five.json", "--quiet"]);
    assert!(told(&by_seed).contains("seed 5 pass hash "), "{}", told(&by_seed));
    assert_eq!(told(&by_seed), told(&by_file));
}

/// An attempt whose node counts its 20 s with a clock that is slower by a tenth is answered 2 s late, whatever the node does.
#[test]
fn a_run_that_breaks_a_promise_says_so_and_ends_with_its_code() {
    let scenario = serde_json::json!({
        "version": 1, "story": "a slow clock and a long deadline", "seed": 5,
        "cluster": {
            "nodes": 2, "replicas": 2, "read_quorum": 1, "write_quorum": 2, "partitions": 16,
            "engine": "bitcask", "deadline_ms": 20_000, "hedge_ms": 20, "resend_ms": 100,
            "heartbeat_ms": 100, "dead_ms": 600,
        },
        "links": {
            "shape": "uniform", "delay_min_us": 500, "delay_mean_us": 200, "loss_ppm": 0,
            "duplicate_ppm": 0, "tail_ppm": 0, "tail_ms": 0,
        },
        "disks": {"sync_min_us": 100, "sync_max_us": 300, "cold_ppm": 0},
        "clocks": [{"offset_ms": 0, "drift_ppm": 0}, {"offset_ms": 0, "drift_ppm": 0}],
        "operations": [{
            "at_us": 4_000_000, "client": 0, "node": 0, "key": 0, "level": "quorum",
            "action": {"put": {"over": "last"}}, "named": false,
        }],
        "faults": [
            {"when": {"at": {"ms": 3_000}},
                "what": {"drift": {"node": 0, "ppm": -100_000, "for_ms": 30_000}}},
            {"when": {"at": {"ms": 3_999}},
                "what": {"cut": {"name": "isolate", "links": [[0, 1], [1, 0]], "for_ms": 30_000}}},
        ],
        "heal_at_ms": 30_000,
    });
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("late.json"), scenario.to_string()).expect("saved");
    let output = rondo_sim(directory.path(), &["replay", "late.json", "--quiet"]);
    assert_eq!(output.status.code(), Some(11), "{}", told(&output));
    assert!(told(&output).contains("deadlines at event"), "{}", told(&output));
}

#[test]
fn bad_input_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = told(&rondo_sim(directory.path(), &["scenario", "5"]));
    let file = |name: &str, text: String| {
        std::fs::write(directory.path().join(name), text).expect("saved");
    };
    file("broken.json", "{".to_owned());
    file("newer.json", scenario.replace("\"version\": 1", "\"version\": 9"));
    file("stranger.json", scenario.replace("\"node\":0", "\"node\":77"));
    file("extra.json", scenario.replace("\"version\": 1", "\"version\": 1, \"wings\": 2"));
    for (arguments, expect) in [
        (["run", "--seeds", "5..5"].as_slice(), "the range is empty"),
        (&["run", "--seeds", "a..b"], "is not a seed"),
        (&["replay", "nowhere.json"], "cannot be read"),
        (&["replay", "broken.json"], "not a scenario"),
        (&["replay", "newer.json"], "another version"),
        (&["replay", "stranger.json"], "a node that is not there"),
        (&["replay", "extra.json"], "unknown field `wings`"),
    ] {
        let output = rondo_sim(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expect), "{arguments:?}: {error}");
    }
}
