//! `run`: many seeds, told in their order, and how to see each failure again.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rondo_sim::carry::driver::Driver;
use rondo_sim::oracle::verdict::{NOT_DETERMINISTIC, Verdict};
use rondo_sim::report;
use rondo_sim::report::html;
use rondo_sim::run::campaign;
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::Scenario;
use rondo_sim::watch::probes::Coverage;
use serde_json::json;

use super::again::Again;
use super::shrink::{limits, save, save_small};
use super::{all_processors, duration};

/// How many failures of a run are shrunk, and how long each may take.
const SHRUNK_MAX: u64 = 3;
const SHRINK_TIME: Duration = Duration::from_secs(20);
const SHRINK_TRIES: u64 = 5_000;
/// What finds that two processes differ.
const DETERMINISM: &str = "determinism";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `from..to`, the end excluded; or one seed. With --time and without seeds: 0 and on.
    #[arg(long, value_parser = range, required_unless_present = "time")]
    seeds: Option<(u64, u64)>,
    /// Start no further seed after this time, as in 30s or 10m.
    #[arg(long, value_parser = duration)]
    time: Option<Duration>,
    /// Threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
    /// One JSON object a seed, in the order of the seeds, and a summary. Shrinks nothing.
    #[arg(long)]
    json: bool,
    /// Stop at the first seed that fails.
    #[arg(long)]
    until_fail: bool,
    /// Leave failures as large as they are.
    #[arg(long)]
    no_shrink: bool,
    #[command(flatten)]
    again: Again,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        Campaign::new(self).run()
    }

    fn range(&self) -> (u64, u64) {
        self.seeds.unwrap_or((0, u64::MAX))
    }
}

pub(crate) fn range(text: &str) -> Result<(u64, u64), String> {
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
struct Campaign<'a> {
    args: &'a Args,
    jobs: usize,
    bar: ProgressBar,
    started: Instant,
    passed: u64,
    failed: u64,
    lived_ms: u64,
    coverage: Coverage,
    worst: Verdict,
    /// Seeds whose second process told another hash.
    wavering: u64,
}

impl Campaign<'_> {
    fn new(args: &Args) -> Campaign<'_> {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let (len, template) = match args.seeds {
            Some((from, to)) => (Some(to - from), "{bar:30} {pos}/{len} · {msg}"),
            None => (None, "{spinner} {pos} · {msg}"),
        };
        let style = ProgressStyle::with_template(template).expect("the template is right");
        Campaign {
            args,
            jobs: args.jobs.unwrap_or_else(all_processors),
            bar: ProgressBar::with_draw_target(len, target).with_style(style),
            started: Instant::now(),
            passed: 0,
            failed: 0,
            lived_ms: 0,
            coverage: Coverage::default(),
            worst: Verdict::Pass,
            wavering: 0,
        }
    }

    fn run(mut self) -> Result<u8, String> {
        let Args { json, until_fail, no_shrink, time, driver, .. } = *self.args;
        if !json {
            let seeds =
                self.args.seeds.map_or("0..".to_owned(), |(from, to)| format!("{from}..{to}"));
            let time = time.map_or(String::new(), |time| format!(", {} s", time.as_secs_f64()));
            let jobs = self.jobs;
            println!(
                "seeds {seeds}{time} on {jobs} threads, driver={} until_fail={until_fail} shrink={}",
                driver.name(),
                !no_shrink
            );
        }
        let mut error = None;
        campaign::run_seeds(self.args.range(), driver, self.jobs, |scenario, outcome| {
            error = self.count(scenario, &outcome).err();
            let is_late = time.is_some_and(|time| self.started.elapsed() >= time);
            error.is_none() && !is_late && !(until_fail && self.failed > 0)
        });
        self.bar.finish_and_clear();
        self.summary();
        // Whatever else was found may not be found again.
        let code = if self.wavering > 0 { NOT_DETERMINISTIC } else { self.worst.exit_code() };
        error.map_or(Ok(code), Err)
    }

    fn count(&mut self, scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
        self.lived_ms += outcome.lived.ms();
        self.coverage.add(&outcome.coverage);
        self.worst = self.worst.min(outcome.verdict);
        let differs = self.args.again.differs(scenario.seed, self.args.driver, outcome)?;
        if self.args.json {
            let (oracle, evidence) = told(outcome, differs.as_deref());
            let verdict = outcome.verdict.word();
            let line = json!({
                "seed": scenario.seed,
                "verdict": if differs.is_some() { "not deterministic" } else { verdict },
                "hash": format!("{:016x}", outcome.hash),
                "events": outcome.events,
                "oracle": oracle,
                "evidence": evidence,
            });
            println!("{line}");
        }
        if let Some(differs) = differs {
            self.failed += 1;
            self.wavering += 1;
            save(&failed_file(scenario), &scenario.to_json())?;
            if !self.args.json {
                let seed = scenario.seed;
                self.bar.suspend(|| println!("FAIL seed {seed}  {DETERMINISM}  {differs}"));
            }
        } else if outcome.verdict == Verdict::Pass {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.fail(scenario, outcome)?;
        }
        self.bar.set_message(format!("{} · {} failed", simulated(self.lived_ms), self.failed));
        self.bar.inc(1);
        Ok(())
    }

    /// Saves the scenario of a failure and says how to see it again.
    fn fail(&self, scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
        let file = failed_file(scenario);
        save(&file, &scenario.to_json())?;
        if self.args.json {
            return Ok(());
        }
        let first = outcome.violations.first();
        let evidence = first.map_or("", |violation| violation.what.as_str());
        let oracle = first.map_or("", |violation| violation.oracle);
        let (gist, commit) = (report::gist(scenario), commit());
        let flag = self.args.driver.flag();
        self.bar.suspend(|| {
            println!("FAIL seed {}  {oracle}  {evidence}", scenario.seed);
            println!("  scenario  {gist}  commit {commit}  hash {:016x}", outcome.hash);
            println!("  replay    cargo run --release -p sim -- replay{flag} {}", file.display());
        });
        if !self.args.no_shrink && self.failed <= SHRUNK_MAX {
            let limits = limits(self.jobs, SHRINK_TRIES, SHRINK_TIME);
            let (name, driver) = (scenario.seed.to_string(), self.args.driver);
            let small = save_small(driver, scenario, outcome, &name, limits)?;
            let page = PathBuf::from(format!("target/sim/{}.html", scenario.seed));
            let run = run::run_on(driver, &small.scenario, true);
            let name = format!("seed {}, shrunk", scenario.seed);
            save(&page, &html::page(&name, &small.scenario, &run))?;
            let (file, page) = (small.file.display(), page.display());
            self.bar.suspend(|| println!("  {}  {file}  report {page}", small.told));
        }
        Ok(())
    }

    fn summary(&self) {
        let (seeds, took) = (self.passed + self.failed, self.started.elapsed().as_secs_f64());
        if self.args.json {
            let line = json!({
                "seeds": seeds, "failed": self.failed, "simulated_s": self.lived_ms / 1_000,
                "seconds": took, "verdict": self.worst.word(),
                "never_reached": self.coverage.never(),
            });
            println!("{line}");
            return;
        }
        let (failed, lived) = (self.failed, simulated(self.lived_ms));
        println!("{seeds} seeds, {failed} failed; {lived} in {took:.1} s");
        println!("{}", self.coverage.summary());
    }
}

/// Where the scenario of a failure is kept.
fn failed_file(scenario: &Scenario) -> PathBuf {
    PathBuf::from(format!("target/sim/{}.json", scenario.seed))
}

/// The first that was found, and by which oracle.
fn told<'a>(
    outcome: &'a Outcome,
    differs: Option<&'a str>,
) -> (Option<&'static str>, Option<&'a str>) {
    let first = outcome.violations.first();
    match differs {
        Some(differs) => (Some(DETERMINISM), Some(differs)),
        None => (
            first.map(|violation| violation.oracle),
            first.map(|violation| violation.what.as_str()),
        ),
    }
}

/// Simulated time as people say it.
fn simulated(ms: u64) -> String {
    match ms {
        0..600_000 => format!("{} sim-s", ms / 1_000),
        600_000..36_000_000 => format!("{} sim-min", ms / 60_000),
        _ => format!("{} sim-h", ms / 3_600_000),
    }
}

/// The commit of the working directory, for whoever reads the failure later.
fn commit() -> String {
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let told = git.ok().filter(|output| output.status.success());
    let text = told.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
