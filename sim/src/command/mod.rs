//! The commands, one a file: its arguments, and what it prints. What they share is here.
//!
//! A command's `run` gives the exit code, or an error that says what to do, which ends with 2.

pub(crate) mod corpus;
pub(crate) mod faults;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scenario;

use std::fs;

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
