//! The consistency report of a run: what was tried, what each oracle says, what it took. Stable text.

pub mod staleness;

pub mod html;

use std::fmt::Write as _;

use rondo_core::layout::keyspace::Level;

use crate::history::{Agreement, Answer, History, Op, Served};
use crate::oracle;
use crate::oracle::views::{self, Judged};
use crate::report::staleness::Staleness;
use crate::run::Outcome;
use crate::scenario::{Action, Cluster, Links, Outside, Scenario};

/// The report.
#[must_use]
pub fn text(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut line = |title: &str, what: String| {
        let _ = writeln!(text, "{title:<11} {what}");
    };
    let history = &outcome.history;
    line("scenario", format!("seed {}, {}", scenario.seed, scenario.story));
    line("cluster", cluster(&scenario.cluster));
    line("network", links(&scenario.links));
    line("disks", disks(scenario, outcome));
    line("clocks", clocks(scenario));
    line("operations", operations(history));
    line("outcomes", outcomes(history));
    line("faults", faults(outcome));
    if let Some(outside) = &scenario.outside {
        line("outside", away(outside, history));
    }
    let counts = outcome.counts;
    line(
        "messages",
        format!(
            "{} sent, {} delivered, {} lost, {} cut, {} doubled, {} bytes",
            counts.sent, counts.delivered, counts.lost, counts.cut, counts.duplicated, counts.bytes
        ),
    );
    for (level, name) in [(Level::One, "one"), (Level::Quorum, "quorum"), (Level::All, "all")] {
        line("latency", format!("{name:<6} {}", latency(history, level)));
    }
    let stale = staleness::of(history);
    for (level, name) in [(Level::One, "one"), (Level::Quorum, "quorum"), (Level::All, "all")] {
        line("staleness", format!("{name:<6} {}", behind(&stale, level)));
    }
    line("siblings", siblings(history));
    line("views", seen(history));
    line("coverage", outcome.coverage.summary().replace("coverage ", ""));
    line("finale", format!("the final checks took {} simulated ms", outcome.finale_ms));
    for (name, _) in oracle::ALL {
        let found: Vec<&str> = outcome
            .violations
            .iter()
            .filter(|violation| violation.oracle == name)
            .map(|violation| violation.what.as_str())
            .collect();
        let verdict = match found.first() {
            None => "holds".to_owned(),
            Some(first) => format!("BROKEN {} times, first: {first}", found.len()),
        };
        line("oracle", format!("{name:<14} {verdict}"));
    }
    line("verdict", outcome.verdict.word().to_owned());
    text
}

/// One line about the scenario, for a failure.
#[must_use]
pub fn gist(scenario: &Scenario) -> String {
    let faults = scenario.faults.len();
    format!(
        "{}; {}; {} operations, {faults} faults",
        cluster(&scenario.cluster),
        clocks(scenario),
        scenario.operations.len()
    )
}

fn cluster(cluster: &Cluster) -> String {
    let Cluster { nodes, replicas, read_quorum, write_quorum, engine, .. } = cluster;
    let engine = format!("{engine:?}").to_lowercase();
    format!("{nodes} nodes, N={replicas} R={read_quorum} W={write_quorum}, {engine}")
}

fn away(outside: &Outside, history: &History) -> String {
    let nodes: Vec<String> = outside.nodes.iter().map(|node| format!("n{node}")).collect();
    let how = format!("{} {:?} at the heal", nodes.join(", "), outside.how).to_lowercase();
    let Some(survivors) = &history.survivors else {
        return format!("{how}, which was not tried: nothing was acknowledged before");
    };
    let slowest = |all: &[Served]| {
        let took = |one: &Served| one.at.map(|at| at.ms() - one.since.ms());
        let all: Option<Vec<u64>> = all.iter().map(took).collect();
        let max = all.map(|all| all.into_iter().max().unwrap_or(0));
        max.map_or("never all".to_owned(), |ms| format!("within {ms} ms"))
    };
    let (served, equal) = (slowest(&survivors.served), slowest(&survivors.equal));
    let (calls, keys) = (survivors.served.len(), survivors.equal.len());
    format!("{how}; the others served {calls} calls {served}, and {keys} keys were equal {equal}")
}

fn links(links: &Links) -> String {
    let Links { shape, delay_min_us, delay_mean_us, loss_ppm, duplicate_ppm, .. } = links;
    let shape = format!("{shape:?}").to_lowercase();
    format!(
        "{delay_min_us} us + {shape} {delay_mean_us} us, {loss_ppm} ppm lost, {duplicate_ppm} ppm \
         doubled, {} ppm late by up to {} ms",
        links.tail_ppm, links.tail_ms
    )
}

fn disks(scenario: &Scenario, outcome: &Outcome) -> String {
    let disks = &scenario.disks;
    format!(
        "syncs of {} to {} us, {} ppm of reads cold; {} syncs, {} unsynced operations lost",
        disks.sync_min_us,
        disks.sync_max_us,
        disks.cold_ppm,
        outcome.disks.syncs,
        outcome.disks.writes_lost
    )
}

fn clocks(scenario: &Scenario) -> String {
    let offsets = scenario.clocks.iter().map(|clock| clock.offset_ms);
    let apart = offsets.clone().max().unwrap_or(0) - offsets.min().unwrap_or(0);
    let drift = scenario.clocks.iter().map(|clock| clock.drift_ppm.abs()).max().unwrap_or(0);
    format!("clocks {apart} ms apart, drift up to {drift} ppm")
}

fn operations(history: &History) -> String {
    let count = |is: fn(&Op) -> bool| history.ops.iter().filter(|op| is(op)).count();
    let attempts: usize = history.ops.iter().map(|op| op.attempts.len()).sum();
    format!(
        "{} gets, {} puts, {} deletes on {} keys; {attempts} attempts",
        count(|op| op.action == Action::Get),
        count(|op| matches!(op.action, Action::Put { .. })),
        count(|op| matches!(op.action, Action::Delete { .. })),
        history.keys()
    )
}

fn outcomes(history: &History) -> String {
    let attempts = history.ops.iter().flat_map(|op| &op.attempts);
    let mut counts = [0; 6];
    for attempt in attempts {
        let class = match attempt.end.as_ref().map(|end| &end.answer) {
            Some(Answer::Stored { .. }) => 0,
            Some(Answer::Found { .. }) => 1,
            Some(Answer::NotFound { .. }) => 2,
            Some(Answer::Indeterminate) => 3,
            Some(Answer::Refused(_) | Answer::BadRequest(_) | Answer::Unreached) => 4,
            None => 5,
        };
        counts[class] += 1;
    }
    let [stored, found, missing, unsure, refused, silent] = counts;
    format!(
        "{stored} stored, {found} found, {missing} not found, {unsure} indeterminate, {refused} \
         refused, {silent} without an answer"
    )
}

fn faults(outcome: &Outcome) -> String {
    if outcome.struck.is_empty() {
        return "none".to_owned();
    }
    let told = outcome.struck.iter().map(|(family, count)| format!("{count} {family}"));
    told.collect::<Vec<_>>().join(", ")
}

/// The latencies of what was answered well.
fn latency(history: &History, level: Level) -> String {
    let ops = history.ops.iter().filter(|op| op.level == level);
    let all = ops.flat_map(|op| &op.attempts).filter_map(|attempt| {
        let end = attempt.end.as_ref()?;
        let is_good = matches!(
            end.answer,
            Answer::Stored { .. } | Answer::Found { .. } | Answer::NotFound { .. }
        );
        is_good.then_some((end.at.0 - attempt.called_at.0) / 1_000)
    });
    let all: Vec<u64> = all.collect();
    spread(all, ms).unwrap_or_else(|| "none".to_owned())
}

/// How far the reads of a level were behind: in writes, and in time.
fn behind(stale: &[Staleness], level: Level) -> String {
    let of = |number: fn(&Staleness) -> u64| {
        stale.iter().filter(|read| read.level == level).map(number).collect::<Vec<u64>>()
    };
    let writes = spread(of(|read| read.missing), |n| format!("{n} writes"));
    let time = spread(of(|read| read.behind_us), ms);
    writes.zip(time).map_or_else(|| "none".to_owned(), |(writes, time)| format!("{writes}; {time}"))
}

/// What nodes took each other for, and whether they agreed at last.
fn seen(history: &History) -> String {
    let Judged { convictions, of_running, echoes, seen_again } = views::judged(history);
    let agreed = match &history.lives.agreement {
        None => "not asked whether all see the same".to_owned(),
        Some(Agreement { since, at: Some(at), .. }) => {
            format!("all saw the same {} ms after the heal", at.ms() - since.ms())
        }
        Some(_) => "not all saw the same after the heal".to_owned(),
    };
    format!(
        "{convictions} convicted, {of_running} of them while they ran, which {echoes} more believed; {seen_again} times a pair saw each \
         other again; {agreed}"
    )
}

/// How many values a read showed that found any.
fn siblings(history: &History) -> String {
    let reads = history.ops.iter().filter_map(Op::read);
    let shown = reads.map(|(_, values, _)| values.len() as u64).filter(|&count| count > 0);
    spread(shown.collect(), |n| format!("{n} shown")).unwrap_or_else(|| "none".to_owned())
}

fn ms(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

/// The middle, the ninety-ninth of a hundred and the highest; `None` of nothing.
fn spread(mut all: Vec<u64>, spelt: impl Fn(u64) -> String) -> Option<String> {
    all.sort_unstable();
    let last = all.len().checked_sub(1)?;
    let at = |percent: usize| spelt(all[last * percent / 100]);
    Some(format!("p50 {}, p99 {}, max {} of {}", at(50), at(99), at(100), all.len()))
}
