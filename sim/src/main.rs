//! `rondo-sim`: runs seeds, replays scenarios, tells what happened.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rondo_sim::campaign;
use rondo_sim::generator;
use rondo_sim::report;
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::Scenario;
use rondo_sim::verdict::{NOT_DETERMINISTIC, Verdict};
use serde_json::json;

/// Whole clusters in a simulated world: a seed is a scenario, a scenario is a run, always the same.
///
/// Exit codes: 0 passed, 10 a promise was broken, 11 something did not come to pass in time, 12 a crash,
/// 13 not deterministic, 14 undecided.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a range of seeds.
    Run {
        /// `from..to`, the end excluded; or one seed.
        #[arg(long, value_parser = range)]
        seeds: (u64, u64),
        /// Threads; as many as there are processors when absent.
        #[arg(long)]
        jobs: Option<usize>,
        /// One JSON object a seed, in the order of the seeds, and a summary.
        #[arg(long)]
        json: bool,
        /// Stop at the first seed that fails.
        #[arg(long)]
        until_fail: bool,
    },
    /// Runs one scenario twice and prints every event.
    Replay {
        /// A saved scenario, or a seed.
        what: String,
        /// Print no events, only the verdict.
        #[arg(long)]
        quiet: bool,
    },
    /// Prints the consistency report of a saved scenario or a seed.
    Report {
        /// A saved scenario, or a seed.
        what: String,
    },
    /// Prints the scenario of a seed.
    Scenario {
        /// The seed.
        seed: u64,
    },
    /// Replays every scenario in a directory; each must pass.
    Corpus {
        /// The directory.
        #[arg(default_value = "sim/corpus")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run { seeds, jobs, json, until_fail } => {
            let jobs =
                jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
            Campaign::new(seeds, json, until_fail).run(jobs)
        }
        Command::Replay { what, quiet } => load(&what).map(|scenario| replay(&scenario, quiet)),
        Command::Report { what } => load(&what).map(|scenario| {
            let outcome = run::run(&scenario, false);
            print!("{}", report::text(&scenario, &outcome));
            outcome.verdict.exit_code()
        }),
        Command::Scenario { seed } => {
            print!("{}", generator::scenario(seed).to_json());
            Ok(0)
        }
        Command::Corpus { directory } => corpus(&directory),
    };
    code.map_or_else(
        |error| {
            eprintln!("rondo-sim: {error}");
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text:?} is not a seed: seeds are numbers, as in 0..500"))
    };
    match text.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if from < to {
                Ok((from, to))
            } else {
                Err("the range is empty: write from..to".to_owned())
            }
        }
        None => number(text).map(|seed| (seed, seed + 1)),
    }
}

/// A saved scenario, or that of a seed.
fn load(what: &str) -> Result<Scenario, String> {
    if let Ok(seed) = what.parse() {
        return Ok(generator::scenario(seed));
    }
    let text =
        fs::read_to_string(what).map_err(|error| format!("{what} cannot be read: {error}"))?;
    Scenario::from_json(&text).map_err(|error| format!("{what}: {error}"))
}

/// Runs a scenario twice; different hashes are a failure of their own.
fn replay(scenario: &Scenario, quiet: bool) -> u8 {
    let first = run::run(scenario, !quiet);
    for line in &first.transcript {
        println!("{line}");
    }
    let again = run::run(scenario, false);
    println!("{}", verdict_line(scenario, &first));
    tell(&first);
    if first.hash != again.hash {
        println!("not deterministic: the second run's hash is {:016x}", again.hash);
        return NOT_DETERMINISTIC;
    }
    first.verdict.exit_code()
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

fn corpus(directory: &Path) -> Result<u8, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut worst = Verdict::Pass;
    for file in &files {
        let scenario = load(&file.to_string_lossy())?;
        let outcome = run::run(&scenario, false);
        println!("{} {}", file.display(), verdict_line(&scenario, &outcome));
        tell(&outcome);
        worst = worst.min(outcome.verdict);
    }
    println!("{} scenarios, {}", files.len(), worst.word());
    Ok(worst.exit_code())
}

/// A run over many seeds, and what it has shown so far.
struct Campaign {
    seeds: (u64, u64),
    json: bool,
    until_fail: bool,
    bar: ProgressBar,
    started: Instant,
    passed: u64,
    failed: u64,
    lived_ms: u64,
    worst: Verdict,
}

impl Campaign {
    fn new(seeds: (u64, u64), json: bool, until_fail: bool) -> Campaign {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} · {msg}");
        let bar = ProgressBar::with_draw_target(Some(seeds.1 - seeds.0), target)
            .with_style(style.expect("the template is right"));
        let (passed, failed, lived_ms, worst) = (0, 0, 0, Verdict::Pass);
        Campaign {
            seeds,
            json,
            until_fail,
            bar,
            started: Instant::now(),
            passed,
            failed,
            lived_ms,
            worst,
        }
    }

    fn run(mut self, jobs: usize) -> Result<u8, String> {
        let (from, to) = self.seeds;
        if !self.json {
            println!("seeds {from}..{to} on {jobs} threads, until_fail={}", self.until_fail);
        }
        let mut error = None;
        campaign::run_seeds(self.seeds, jobs, |scenario, outcome| {
            error = self.count(scenario, &outcome).err();
            error.is_none() && !(self.until_fail && self.failed > 0)
        });
        self.bar.finish_and_clear();
        self.summary();
        error.map_or(Ok(self.worst.exit_code()), Err)
    }

    fn count(&mut self, scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
        self.lived_ms += outcome.lived.ms();
        self.worst = self.worst.min(outcome.verdict);
        if self.json {
            let first = outcome.violations.first();
            let line = json!({
                "seed": scenario.seed,
                "verdict": outcome.verdict.word(),
                "hash": format!("{:016x}", outcome.hash),
                "events": outcome.events,
                "oracle": first.map(|violation| violation.oracle),
                "evidence": first.map(|violation| &violation.what),
            });
            println!("{line}");
        }
        if outcome.verdict == Verdict::Pass {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.fail(scenario, outcome)?;
        }
        self.bar.set_message(format!("{} sim-s · {} failed", self.lived_ms / 1_000, self.failed));
        self.bar.inc(1);
        Ok(())
    }

    /// Saves the scenario of a failure and says how to see it again.
    fn fail(&self, scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
        let file = PathBuf::from(format!("target/sim/{}.json", scenario.seed));
        let saved =
            fs::create_dir_all("target/sim").and_then(|()| fs::write(&file, scenario.to_json()));
        saved.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
        if self.json {
            return Ok(());
        }
        self.bar.suspend(|| {
            let first = outcome.violations.first();
            let evidence = first.map_or("", |violation| violation.what.as_str());
            let oracle = first.map_or("", |violation| violation.oracle);
            println!("FAIL seed {}  {oracle}  {evidence}", scenario.seed);
            println!("  scenario  {}  hash {:016x}", report::gist(scenario), outcome.hash);
            println!("  replay    cargo run --release -p sim -- replay {}", file.display());
        });
        Ok(())
    }

    fn summary(&self) {
        let (seeds, seconds) = (self.passed + self.failed, self.started.elapsed().as_secs_f64());
        let simulated = self.lived_ms / 1_000;
        if self.json {
            let line = json!({
                "seeds": seeds, "failed": self.failed, "simulated_s": simulated, "seconds": seconds,
                "verdict": self.worst.word(),
            });
            println!("{line}");
            return;
        }
        let failed = self.failed;
        println!("{seeds} seeds, {failed} failed; {simulated} simulated s in {seconds:.1} s");
    }
}
