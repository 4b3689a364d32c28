//! The commands, one a file: its arguments, and what it prints. What they share is here.
//!
//! A command's `run` gives the exit code, or an error that says what to do, which ends with 2.

mod again;
pub(crate) mod check;
pub(crate) mod corpus;
pub(crate) mod coverage;
pub(crate) mod faults;
pub(crate) mod mutants;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod shrink;

use std::fs;
use std::time::Duration;

use rondo_sim::generator;
use rondo_sim::run::Outcome;
use rondo_sim::scenario::Scenario;

/// A saved scenario, or that of a seed.
fn load(what: &str) -> Result<Scenario, String> {
    if let Ok(seed) = what.parse() {
        return Ok(generator::scenario(seed));
    }
    let text =
        fs::read_to_string(what).map_err(|error| format!("{what} cannot be read: {error}"))?;
    Scenario::from_json(&text).map_err(|error| format!("{what}: {error}"))
}

fn verdict_line(scenario: &Scenario, outcome: &Outcome) -> String {
    let (word, hash, events) = (outcome.verdict.word(), outcome.hash, outcome.events);
    format!(
        "seed {} {word} hash {hash:016x} events {events} ({} simulated ms)",
        scenario.seed,
        outcome.lived.ms()
    )
}

fn tell(outcome: &Outcome) {
    for violation in &outcome.violations {
        println!("  {} at event {}: {}", violation.oracle, violation.at, violation.what);
    }
}

fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// `500ms`, `30s`, `10m`, `2h`; a number alone is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let ms = number.parse::<u64>().ok().zip(unit_ms).and_then(|(n, unit)| n.checked_mul(unit));
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a time: write 500ms, 30s, 10m or 2h"))
}
