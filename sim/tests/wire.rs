//! The product's links on simulated streams: what a link says from its first byte to its next life, and what each fault
//! of a stream does to a running cluster.

use rondo_sim::carry::driver::Driver;
use rondo_sim::fault::{Said, Trigger};
use rondo_sim::oracle::verdict::Verdict;
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::Scenario;
use rondo_sim::watch::trace::Line;
use serde_json::{Value, json};

/// When faults strike, in milliseconds: the cluster has been ready for a while.
const STRIKES_MS: u64 = 4_000;

/// Two nodes, a write every 20 ms, and this fault.
fn world(what: &Value, writes: u64) -> Scenario {
    let write = |n: u64| {
        json!({
            "at_us": 3_500_000 + n * 20_000, "client": 0, "node": 0, "key": n % 3, "level": "quorum",
            "action": {"put": {"over": "last"}}, "named": false,
        })
    };
    let operations: Vec<Value> = (0..writes).map(write).collect();
    let scenario = json!({
        "version": 1, "story": "two nodes and one fault", "seed": 5,
        "cluster": {
            "nodes": 2, "replicas": 2, "read_quorum": 1, "write_quorum": 2, "partitions": 16,
            "engine": "bitcask", "deadline_ms": 800, "hedge_ms": 20, "resend_ms": 100,
            "heartbeat_ms": 100, "dead_ms": 600,
        },
        "links": {
            "shape": "uniform", "delay_min_us": 500, "delay_mean_us": 200, "loss_ppm": 0,
            "duplicate_ppm": 0, "tail_ppm": 0, "tail_ms": 0,
        },
        "disks": {"sync_min_us": 100, "sync_max_us": 300, "cold_ppm": 0},
        "clocks": [{"offset_ms": 0, "drift_ppm": 0}, {"offset_ms": 0, "drift_ppm": 0}],
        "operations": operations,
        "faults": [{"when": {"at": {"ms": STRIKES_MS}}, "what": what}],
        "heal_at_ms": 8_000,
    });
    Scenario::from_json(&scenario.to_string()).expect("it is one")
}

fn run(what: &Value, writes: u64) -> Outcome {
    let outcome = run::run_on(Driver::Wire, &world(what, writes), true);
    assert_eq!(outcome.verdict, Verdict::Pass, "{what}: {:?}", outcome.violations);
    outcome
}

/// What a node sees of its streams and messages within so many milliseconds after the fault.
fn seen(outcome: &Outcome, node: u32, kind: &str, within_ms: u64) -> Vec<String> {
    let after = |line: &&Line| {
        let ms = line.at.ms();
        (STRIKES_MS..STRIKES_MS + within_ms).contains(&ms) && line.node == node
    };
    let lines = outcome.transcript.iter().filter(after).filter(|line| line.kind == kind);
    lines.map(|line| line.text.clone()).collect()
}

fn has(lines: &[String], what: &str) -> bool {
    lines.iter().any(|line| line.contains(what))
}

#[test]
fn a_link_from_its_first_byte_to_its_next_life() {
    let corrupt =
        json!({"links": {"links": [[0, 1]], "how": {"corrupt": {"ppm": 1_000_000}}, "for_ms": 60}});
    let outcome = run(&corrupt, 0);
    // The first connection that the node dials, and the next, without most of the heartbeats between.
    let shown = |line: &&Line| {
        matches!(line.kind.as_str(), "stream" | "fault" | "mend")
            && (line.at.ms() < 210 || (STRIKES_MS - 10..4_600).contains(&line.at.ms()))
    };
    let told =
        |line: &Line| format!("{:>12} n{} {} {}", line.at.text(), line.node, line.kind, line.text);
    let lines: Vec<String> = outcome.transcript.iter().filter(shown).map(told).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn corruption_is_noticed_and_the_link_is_dialled_anew_and_nothing_corrupt_is_delivered() {
    let corrupt =
        json!({"links": {"links": [[0, 1]], "how": {"corrupt": {"ppm": 300_000}}, "for_ms": 800}});
    let outcome = run(&corrupt, 100);
    assert!(outcome.counts.corrupted > 5, "{:?}", outcome.counts);
    let here = seen(&outcome, 0, "stream", 1_000);
    assert!(has(&here, "wrong checksum"), "it is told why: {here:#?}");
    assert!(has(&here, "is there"), "{here:#?}");
    assert!(!has(&seen(&outcome, 1, "message", 1_000), "unreadable"));
}

#[test]
fn a_reset_is_told_to_both_and_the_link_is_back_soon() {
    let outcome = run(&json!({"reset": {"links": [[0, 1]]}}), 100);
    for node in 0..2 {
        assert!(has(&seen(&outcome, node, "stream", 1), "is broken"), "n{node}");
    }
    assert!(has(&seen(&outcome, 0, "stream", 100), "is there"), "dialled anew");
    assert!(has(&seen(&outcome, 1, "message", 100), "merge"));
}

#[test]
fn a_half_open_connection_is_known_to_the_dialler_alone() {
    let outcome = run(&json!({"half_open": {"links": [[0, 1]]}}), 100);
    assert!(has(&seen(&outcome, 0, "stream", 1), "is broken"));
    assert!(!has(&seen(&outcome, 1, "stream", 4_000), "is broken"));
    assert!(has(&seen(&outcome, 1, "message", 100), "merge"), "over a new one");
}

#[test]
fn refused_connections_stop_messages_and_no_datagrams() {
    let refuse = json!({"links": {"links": [[0, 1], [1, 0]], "how": "refuse", "for_ms": 1_000}});
    // The last of the writes is sent 2.5 s after the fault began: who has been refused for 1 s may wait as long before he dials again.
    let outcome = run(&refuse, 150);
    let tries = seen(&outcome, 0, "stream", 1_000);
    assert!(tries.iter().filter(|line| line.contains("is broken")).count() > 3, "{tries:#?}");
    assert!(!has(&tries, "is there"));
    assert_eq!(seen(&outcome, 1, "message", 1_000), [""; 0]);
    assert!(has(&seen(&outcome, 1, "datagram", 1_000), "from n0"));
    // Meanwhile no write is sent into the void: whoever has no connection is not up.
    assert!(has(&seen(&outcome, 0, "answer", 1_000), "refused: 1 of the key's 2 replicas is up"));
    assert!(has(&seen(&outcome, 1, "message", 4_000), "merge"), "later they come");
}

#[test]
fn a_killed_process_is_noticed_at_once_and_a_machine_without_power_by_its_silence() {
    let killed = run(&json!({"kill": {"node": 1, "down_ms": 1_500}}), 100);
    let told = seen(&killed, 0, "stream", 20);
    assert!(has(&told, "ended by n1") || has(&told, "is broken"), "{told:#?}");
    let dark =
        run(&json!({"power_loss": {"nodes": [1], "fate": "lose_all", "down_ms": 1_500}}), 100);
    assert_eq!(seen(&dark, 0, "stream", 1_400), [""; 0], "nobody says anything");
    assert!(has(&seen(&dark, 0, "stream", 4_000), "is there"));
}

#[test]
fn what_a_short_cut_holds_up_comes_on_the_same_connection() {
    let cut = json!({"cut": {"name": "split", "links": [[0, 1], [1, 0]], "for_ms": 150}});
    let outcome = run(&cut, 100);
    assert_eq!(seen(&outcome, 1, "message", 150), [""; 0]);
    assert!(has(&seen(&outcome, 1, "message", 1_000), "merge"));
    for node in 0..2 {
        let told = seen(&outcome, node, "stream", 3_000);
        assert!(!has(&told, "hello") && !has(&told, "is broken"), "{told:#?}");
    }
}

#[test]
fn a_held_message_holds_what_comes_behind_it_and_loss_is_delay() {
    let hold =
        json!({"links": {"links": [[0, 1]], "how": {"hold": {"kind": "merge"}}, "for_ms": 300}});
    let outcome = run(&hold, 100);
    assert!(!has(&seen(&outcome, 1, "message", 300), "merge"));
    assert!(has(&seen(&outcome, 1, "message", 400), "merge"));
    let lose =
        json!({"links": {"links": [[0, 1]], "how": {"lose": {"ppm": 400_000}}, "for_ms": 500}});
    let outcome = run(&lose, 100);
    assert!(outcome.counts.lost > 3, "{:?}", outcome.counts);
    assert!(!has(&seen(&outcome, 1, "stream", 1_500), "is broken"));
}

#[test]
fn an_orderly_restart_says_goodbye() {
    let outcome = run(&json!({"restart": {"node": 1, "down_ms": 500}}), 100);
    let told = seen(&outcome, 0, "stream", 600);
    assert!(has(&told, "the node stops"), "{told:#?}");
}

#[test]
fn where_there_are_no_streams_a_broken_connection_is_a_loss_of_messages() {
    let refuse = json!({"links": {"links": [[0, 1]], "how": "refuse", "for_ms": 1_000}});
    let outcome = run::run(&world(&refuse, 100), true);
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.violations);
    assert_eq!(seen(&outcome, 1, "message", 1_000), [""; 0]);
    assert!(has(&seen(&outcome, 1, "datagram", 1_000), "from n0"));

    let mut scenario = world(&json!({"half_open": {"links": [[0, 1]]}}), 100);
    scenario.faults[0].when = Trigger::OnMessage { kind: Said::Merge, from: 0, to: 1, n: 5 };
    let outcome = run::run(&scenario, true);
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.violations);
    let lost = |line: &&Line| line.kind == "lost" && line.text.contains("merge");
    assert_eq!(outcome.transcript.iter().filter(lost).count(), 1, "the one that was on its way");
}

/// It failed when the replicas were looked at while the put was under way.
#[test]
fn a_put_that_was_held_for_long_is_waited_for_before_replicas_are_compared() {
    let scenario = Scenario::from_json(include_str!("wire/late-forward.json")).expect("it is one");
    let outcome = run::run_on(Driver::Wire, &scenario, false);
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.violations);
}
