//! What a fault does in a running world: one small scenario with it and without it, and the difference that can be seen.
//!
//! The oracles must be silent in all of them: the product promises to live through each. What is drawn, not written, is in
//! the generator; that every kind is drawn is tested in `catalogue`.

use rondo_core::config::HINT_BYTES_MAX;
use rondo_core::layout::keyspace::Level;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::INJECTED;
use rondo_sim::fault::clocks::Jump;
use rondo_sim::fault::directories::{Directory, Replacement};
use rondo_sim::fault::disks::{DiskError, Failure, StallDisk};
use rondo_sim::fault::links::Reset;
use rondo_sim::fault::partitions::Cut;
use rondo_sim::fault::power::{Fate, PowerLoss};
use rondo_sim::fault::processes::{CrashLoop, Move, Restart, SlowCpu};
use rondo_sim::fault::{Fault, Kind, Said, Trigger};
use rondo_sim::oracle::verdict::Verdict;
use rondo_sim::rt::Time;
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::{
    Action, Away, Cluster, Disks, Links, Operation, Outside, Over, Scenario, Shape, Skew, VERSION,
};
use rondo_sim::watch::trace::Line;

/// When the faults of these scenarios strike that wait for nothing, in milliseconds.
const AT_MS: u64 = 3_000;

/// Three nodes, little delay, and in turn a put and a get of a few keys every 25 ms at node 0 and node 1.
fn world(faults: Vec<Fault>) -> Scenario {
    let operations = (0..120).map(|n| Operation {
        at_us: (2_000 + 25 * u64::from(n)) * 1_000,
        client: n % 2,
        node: n / 2 % 2,
        key: n / 2 % 3,
        level: Level::Quorum,
        action: if n % 2 == 0 { Action::put(Over::Blind) } else { Action::Get },
        named: false,
        same_id_as: None,
        attempt: 1,
        retries: Vec::new(),
        bytes: 600,
        vanishes_ms: 0,
    });
    Scenario {
        version: VERSION,
        story: "a fault by itself".to_owned(),
        seed: 1,
        cluster: Cluster {
            nodes: 3,
            replicas: 3,
            read_quorum: 2,
            write_quorum: 2,
            partitions: 8,
            engine: EngineKind::Bitcask,
            deadline_ms: 1_000,
            hedge_ms: 20,
            resend_ms: 50,
            heartbeat_ms: 100,
            dead_ms: 500,
            zones: Vec::new(),
            weights: Vec::new(),
            later: Vec::new(),
            memory_mib: 512,
            repair_ms: 0,
            grace_ms: 0,
            sloppy: false,
            hint_bytes: HINT_BYTES_MAX,
        },
        links: Links {
            shape: Shape::Uniform,
            delay_min_us: 500,
            delay_mean_us: 200,
            loss_ppm: 0,
            duplicate_ppm: 0,
            tail_ppm: 0,
            tail_ms: 1,
        },
        disks: Disks { sync_min_us: 2_000, sync_max_us: 3_000, cold_ppm: 0, file_kib: 32 },
        clocks: vec![Skew { offset_ms: 0, drift_ppm: 0 }; 3],
        operations: operations.collect(),
        faults,
        buggify: Vec::new(),
        outside: None,
        heal_at_ms: 6_000,
    }
}

fn fault(when: Trigger, what: Kind) -> Fault {
    Fault { when, what }
}

fn at(what: Kind) -> Vec<Fault> {
    vec![fault(Trigger::At { ms: AT_MS }, what)]
}

/// A disk error of node 0.
fn disk(what: Failure, times: u32) -> Kind {
    DiskError { node: 0, what, times, for_ms: 1_200 }.into()
}

/// The same while node 0 starts again.
fn at_start(what: Failure, times: u32) -> Vec<Fault> {
    let restart = fault(Trigger::At { ms: AT_MS }, Restart { node: 0, down_ms: 50 }.into());
    vec![restart, fault(Trigger::OnBoot { node: 0, n: 2, ops: 0 }, disk(what, times))]
}

fn run_it(scenario: &Scenario) -> Outcome {
    scenario.check().expect("a good scenario");
    let outcome = run::run(scenario, true);
    assert_eq!(outcome.verdict, Verdict::Pass, "{:?}: {:?}", scenario.faults, outcome.violations);
    outcome
}

fn lines<'a>(outcome: &'a Outcome, kind: &'a str, node: u32) -> impl Iterator<Item = &'a Line> {
    outcome.transcript.iter().filter(move |line| line.kind == kind && line.node == node)
}

/// Whether node 0 said something with this text when it ended.
fn ended(outcome: &Outcome, text: &str) -> bool {
    lines(outcome, "exit", 0).any(|line| line.text.contains(text))
}

fn boots(outcome: &Outcome) -> usize {
    lines(outcome, "boot", 0).count()
}

/// Whether node 0 refused somebody's question about a key, at the moment.
fn failed_a_question(outcome: &Outcome) -> bool {
    let all = outcome.transcript.iter().filter(|line| line.kind == "message");
    all.into_iter().any(|line| line.text.starts_with("from n0") && line.text.ends_with(" failed"))
}

/// The longest time between two such lines of node 0, in milliseconds.
fn gap_ms(outcome: &Outcome, kind: &str) -> u64 {
    let times: Vec<u64> = lines(outcome, kind, 0)
        .map(|line| line.at.ms())
        .filter(|ms| (2_100..5_000).contains(ms))
        .collect();
    times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(u64::MAX)
}

type Row = (&'static str, Vec<Fault>, fn(&Outcome) -> bool);

/// Each fault alone shows what nothing shows in the same world without it.
fn show(rows: Vec<Row>) {
    let quiet = run_it(&world(Vec::new()));
    for (name, faults, shows) in rows {
        assert_eq!(faults.last().expect("a fault").name(), name);
        let outcome = run_it(&world(faults));
        assert!(outcome.struck.contains_key(name), "{name} struck nothing");
        assert!(shows(&outcome), "{name} shows nothing: {:?}", outcome.struck);
        assert!(!shows(&quiet), "{name} shows without the fault");
    }
}

#[test]
fn an_error_of_the_disk_ends_a_node_or_a_read_and_it_comes_back() {
    let stops = |outcome: &Outcome| ended(outcome, INJECTED) && boots(outcome) >= 2;
    let refuses = |outcome: &Outcome| {
        ended(outcome, "cannot be opened") && ended(outcome, INJECTED) && boots(outcome) >= 2
    };
    let waits = |outcome: &Outcome| {
        let tries = lines(outcome, "exit", 0).filter(|line| line.text.contains(INJECTED)).count();
        tries >= 2 && boots(outcome) >= 2
    };
    let refuses_and_goes_on = |outcome: &Outcome| {
        let refused = lines(outcome, "answer", 0).any(|line| line.text.contains("nearly full"));
        refused && boots(outcome) == 1
    };
    let starts_and_refuses = |outcome: &Outcome| {
        let refused =
            lines(outcome, "answer", 0).any(|line| line.text.contains("the disk is full"));
        refused && boots(outcome) == 2
    };
    show(vec![
        ("read error", at(disk(Failure::Read, 20)), failed_a_question),
        ("write error", at(disk(Failure::Write, 1)), stops),
        ("sync error", at(disk(Failure::Sync, 1)), stops),
        ("rename error", at_start(Failure::Rename, 1), refuses),
        ("directory error", at_start(Failure::Directory, 1), refuses),
        ("full disk", at(disk(Failure::Full, 1)), refuses_and_goes_on),
        ("nearly full disk", at_start(Failure::NearlyFull, 1), starts_and_refuses),
        ("no descriptors", at_start(Failure::NoDescriptors, 1), refuses),
        ("read-only disk", at(disk(Failure::ReadOnly, 1)), waits),
        ("short write", at(disk(Failure::ShortWrite, 1)), stops),
    ]);
}

#[test]
fn damage_is_noticed_and_repaired() {
    let repaired = |outcome: &Outcome| lines(outcome, "repair", 0).count() > 0;
    let misled = |outcome: &Outcome| failed_a_question(outcome) || ended(outcome, "corrupt");
    let astray = |outcome: &Outcome| lines(outcome, "disk", 0).any(|l| l.text.contains("astray"));
    show(vec![
        ("bit rot", at_start(Failure::Rot, 30), repaired),
        ("misdirected write", at(disk(Failure::WriteAstray, 3)), astray),
        ("misdirected read", at(disk(Failure::ReadAstray, 30)), misled),
        (
            "torn pages",
            vec![fault(
                Trigger::OnSyncPending { node: 0, n: 20 },
                PowerLoss { nodes: vec![0], fate: Fate::TornPages, down_ms: 100 }.into(),
            )],
            |outcome| outcome.disks.writes_lost > 0,
        ),
    ]);
}

#[test]
fn processes_and_disks_are_slow_or_end_again_and_again() {
    let crash_loop = CrashLoop { node: 0, times: 3, up_ms: 60, down_ms: 40 }.into();
    let slow = SlowCpu { node: 0, by_us: 150_000, for_ms: 1_500 }.into();
    show(vec![
        ("crash loop", at(crash_loop), |outcome| boots(outcome) >= 4),
        ("slow cpu", at(slow), |outcome| gap_ms(outcome, "answer") > 120),
        ("stalled disk", at(StallDisk { node: 0, for_ms: 700 }.into()), |outcome| {
            gap_ms(outcome, "disk") >= 650
        }),
    ]);
}

#[test]
fn a_reset_loses_what_is_on_its_way_and_nothing_later() {
    let when = Trigger::OnMessage { kind: Said::Merge, from: 0, to: 1, n: 3 };
    let reset = fault(when, Reset { links: vec![(0, 1)] }.into());
    show(vec![("reset", vec![reset], |outcome| {
        let merge =
            |line: &&Line| line.text.contains("from n0: #") && line.text.contains(" merge k");
        let lost: Vec<Time> = lines(outcome, "lost", 1).filter(merge).map(|line| line.at).collect();
        let after = |at| lines(outcome, "message", 1).filter(merge).any(|line| line.at > at);
        lost.len() == 1 && after(lost[0])
    })]);
}

#[test]
fn a_client_that_vanishes_learns_nothing() {
    let mut scenario = world(Vec::new());
    scenario.operations[40].vanishes_ms = 1;
    let outcome = run_it(&scenario);
    assert_eq!(outcome.transcript.iter().filter(|line| line.kind == "vanish").count(), 1);
    let answered = |op: usize| outcome.history.ops[op].attempts[0].end.is_some();
    assert!(!answered(40) && answered(38) && answered(42));
}

/// The line of the fault, and the lines before and after it.
fn around(outcome: &Outcome) -> (&[Line], &Line, &[Line]) {
    let place = outcome.transcript.iter().position(|line| line.kind == "fault").expect("it struck");
    let (before, rest) = outcome.transcript.split_at(place);
    (before, &rest[0], &rest[1..])
}

/// Whether both are the same moment: the world's task gets its turn some nanoseconds later.
fn is_same(one: Time, two: Time) -> bool {
    one.0.abs_diff(two.0) < 20_000
}

/// A fault that changes nothing, so that only its time is seen.
fn mark(when: Trigger) -> Fault {
    fault(when, Jump { node: 2, by_ms: 0 }.into())
}

#[test]
fn a_fault_strikes_when_its_trigger_says() {
    let outcome = run_it(&world(vec![mark(Trigger::OnAck { n: 5 })]));
    let (before, strike, _) = around(&outcome);
    let is_ack = |line: &&Line| line.kind == "answer" && line.text.contains("stored");
    let acks: Vec<&Line> = before.iter().filter(is_ack).collect();
    assert!(acks.len() == 5 && is_same(acks[4].at, strike.at));

    let outcome = run_it(&world(vec![mark(Trigger::OnSyncPending { node: 0, n: 4 })]));
    let (before, strike, after) = around(&outcome);
    let is_end = |line: &&Line| line.kind == "disk" && line.node == 0;
    assert_eq!(before.iter().filter(is_end).count(), 3, "three syncs have ended");
    let end = after.iter().find(is_end).expect("the fourth ends");
    assert!((2_000..=3_000).contains(&((end.at.0 - strike.at.0) / 1_000)), "it had just begun");

    let when = Trigger::OnMessage { kind: Said::Merge, from: 0, to: 1, n: 2 };
    let outcome = run_it(&world(vec![mark(when)]));
    let (before, strike, after) = around(&outcome);
    let is_merge = |line: &&Line| {
        let text = &line.text;
        line.kind == "message"
            && line.node == 1
            && text.starts_with("from n0")
            && text.contains(" merge k")
    };
    assert_eq!(before.iter().filter(is_merge).count(), 1, "one has arrived");
    let second = after.iter().find(is_merge).expect("the second arrives");
    let sent = second.sent.expect("it was sent").1;
    assert!(is_same(sent, strike.at), "it had just been sent: {sent:?}, {:?}", strike.at);

    let first = Trigger::At { ms: AT_MS };
    let outcome = run_it(&world(vec![mark(first), mark(Trigger::After { fault: 0, ms: 70 })]));
    let strikes: Vec<u64> = lines(&outcome, "fault", 2).map(|line| line.at.ms()).collect();
    assert_eq!(strikes, [AT_MS, AT_MS + 70]);

    let restart = fault(first, Restart { node: 0, down_ms: 50 }.into());
    let boot = mark(Trigger::OnBoot { node: 0, n: 2, ops: 0 });
    let outcome = run_it(&world(vec![restart, boot]));
    let second = lines(&outcome, "boot", 0).nth(1).expect("a second life");
    let strike = lines(&outcome, "fault", 2).next().expect("it struck");
    assert!(is_same(second.at, strike.at));
}

#[test]
fn those_that_are_left_go_on_alone_and_those_that_are_gone_come_back() {
    for how in [Away::Killed, Away::Isolated] {
        let outside = Some(Outside { nodes: vec![2], how });
        let outcome = run_it(&Scenario { outside, ..world(Vec::new()) });
        let survivors = outcome.history.survivors.as_ref().expect("it was tried");
        assert_eq!((survivors.served.len(), survivors.equal.len()), (3 * 2 + 3, 3));
        let reunited = outcome.transcript.iter().position(|line| line.kind == "reunite");
        let (alone, after) = outcome.transcript.split_at(reunited.expect("they come back"));
        let gone = alone.iter().position(|line| line.kind == "outside").expect("they are gone");
        let has_2 = |line: &Line| line.node == 2 && line.kind == "message";
        let from_2 = |line: &Line| line.kind == "message" && line.text.starts_with("from n2");
        assert!(!alone[gone..].iter().any(|line| has_2(line) || from_2(line)), "{how:?}");
        assert!(after.iter().any(from_2), "{how:?}");
        assert_eq!(outcome.history.ends.read.len(), 9, "all replicas are there at the end");
    }
}

#[test]
fn too_few_that_are_left_are_found_not_to_go_on() {
    let outside = Some(Outside { nodes: vec![1, 2], how: Away::Isolated });
    let scenario = Scenario { outside, ..world(Vec::new()) };
    scenario.check().expect_err("nobody promises that");
    let outcome = run::run(&scenario, false);
    assert_eq!(outcome.verdict, Verdict::Liveness);
    let told: Vec<&str> = outcome.violations.iter().map(|found| found.oracle).collect();
    assert_eq!(told, ["liveness"; 3], "no key can be read: {:?}", outcome.violations);
}

#[test]
fn a_cluster_that_never_acknowledged_anything_is_not_asked_to_go_on() {
    let links = (0..3).flat_map(|a| (0..3).filter(move |&b| a != b).map(move |b| (a, b)));
    let what = Cut { name: "split".to_owned(), links: links.collect(), for_ms: 60_000 }.into();
    let outside = Some(Outside { nodes: vec![2], how: Away::Isolated });
    let faults = vec![fault(Trigger::At { ms: 0 }, what)];
    let outcome = run_it(&Scenario { outside, ..world(faults) });
    assert_eq!(outcome.history.survivors, None);
}

/// Node 0, its directory, and the newest one again after so many milliseconds.
fn directory(what: Replacement, for_ms: u64) -> Vec<Fault> {
    at(Directory { node: 0, what, for_ms }.into())
}

/// Whether node 0 was served by nothing but its newest directory, which something else had replaced.
fn was_replaced(outcome: &Outcome) -> bool {
    let times = |kind| lines(outcome, kind, 0).map(|line| line.at.ms()).collect::<Vec<_>>();
    let (from, until) = (times("put in"), times("put back"));
    let refused = |line: &Line| line.text.contains("refused: this data directory");
    from.len() == 1
        && until.len() == 1
        && lines(outcome, "answer", 0)
            .any(|line| (from[0]..until[0]).contains(&line.at.ms()) && refused(line))
}

#[test]
fn a_directory_that_is_not_the_newest_serves_nobody_and_the_newest_one_comes_back() {
    let old = |orderly| {
        directory(
            Replacement::OldCopy { orderly, age_ms: 700, in_place: false, live: false },
            1_000,
        )
    };
    let cloned = directory(
        Replacement::Cloned { orderly: true, age_ms: 700, returns: false, live: false },
        1_000,
    );
    let wiped = directory(Replacement::Wiped { orderly: true }, 1_000);
    let lost = |file, cut| directory(Replacement::LostFile { file, cut, newest: false }, 0);
    let misses = |outcome: &Outcome| {
        ended(outcome, "acknowledged data is gone: data/") && boots(outcome) == 2
    };
    let unclaimed = |outcome: &Outcome| ended(outcome, "the file \"identity\" is gone");
    show(vec![
        ("old copy", old(true), was_replaced),
        ("old copy", old(false), was_replaced),
        ("wiped node", wiped, |outcome| {
            lines(outcome, "boot", 0).filter(|line| line.text.ends_with("boot 1")).count() == 2
        }),
        ("cloned directory", cloned, |outcome| {
            lines(outcome, "answer", 3)
                .any(|line| line.text.contains("refused: this data directory"))
        }),
        ("lost file", lost(2, false), misses),
        ("lost file", lost(2, true), misses),
        ("lost file", lost(0, false), unclaimed),
    ]);
}

#[test]
fn a_node_is_found_at_another_address_and_after_many_lives() {
    let moves = |orderly| at(Move { node: 0, orderly, down_ms: 50 }.into());
    let lives = at(CrashLoop { node: 0, times: 30, up_ms: 20, down_ms: 5 }.into());
    let moved = |outcome: &Outcome| {
        lines(outcome, "move", 0).count() == 1
            && lines(outcome, "answer", 0)
                .any(|line| line.at.ms() > AT_MS + 1_000 && line.text.contains("stored"))
            && boots(outcome) == 2
    };
    show(vec![
        ("another address", moves(true), moved),
        ("another address", moves(false), moved),
        ("many lives", lives, |outcome| boots(outcome) > 30),
    ]);
}

/// Values rot in a log that has no hint yet. Their keys are known, so the next start needs nobody's repair.
#[test]
fn a_node_starts_although_values_in_its_log_have_rotted() {
    let text = include_str!("../corpus/rot-before-a-start.json");
    let outcome = run_it(&Scenario::from_json(text).expect("a scenario"));
    assert_eq!((boots(&outcome), lines(&outcome, "exit", 0).count()), (2, 0));
    assert_eq!(lines(&outcome, "repair", 0).count(), 0);
    assert!(failed_a_question(&outcome), "what cannot be read is not absent");
}
