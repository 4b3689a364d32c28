//! `run`: many seeds, told in their order, and how to see each failure again.

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rondo_sim::campaign;
use rondo_sim::report;
use rondo_sim::run::Outcome;
use rondo_sim::scenario::Scenario;
use rondo_sim::verdict::Verdict;
use serde_json::json;

use super::all_processors;

#[derive(clap::Args)]
pub(crate) struct Args {
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
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let jobs = self.jobs.unwrap_or_else(all_processors);
        Campaign::new(self.seeds, self.json, self.until_fail).run(jobs)
    }
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
