//! `shrink`: a failing scenario made small and saved.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rondo_sim::carry::driver::Driver;
use rondo_sim::oracle::verdict::NOT_DETERMINISTIC;
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::Scenario;
use rondo_sim::shrink::{self, Limits};
use serde_json::Value;
use serde_json::json;

use super::{all_processors, duration, load, tell, verdict_line};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A saved scenario, or a seed.
    what: String,
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
    /// Threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// How long to try, as in 30s or 10m.
    #[arg(long, value_parser = duration, default_value = "60s")]
    time: Duration,
    /// How many scenarios to try.
    #[arg(long, default_value_t = 20_000)]
    tries: u64,
    /// Print one line of JSON and nothing else.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let scenario = load(&self.what)?;
        let driver = self.driver;
        let outcome = run::run_on(driver, &scenario, false);
        if outcome.violations.is_empty() {
            println!("{}", verdict_line(&scenario, &outcome));
            return Err(format!("{} does not fail, so there is nothing to shrink", self.what));
        }
        let stem = Path::new(&self.what).file_stem().map(|stem| stem.to_string_lossy());
        let name = stem.unwrap_or_default().trim_end_matches(".min").to_owned();
        let limits = limits(self.jobs.unwrap_or_else(all_processors), self.tries, self.time);
        let small = save_small(driver, &scenario, &outcome, &name, limits)?;
        if self.json {
            println!("{}", small.json());
            return Ok(outcome.verdict.exit_code());
        }
        println!("{}  {}", small.told, small.file.display());
        let run = || run::run_on(driver, &small.scenario, false);
        let (first, again) = (run(), run());
        println!("{}", verdict_line(&small.scenario, &first));
        tell(&first);
        let (flag, file) = (driver.flag(), small.file.display());
        println!("replay    cargo run --release -p sim -- replay{flag} {file}");
        let is_same = first.hash == again.hash;
        Ok(if is_same { first.verdict.exit_code() } else { NOT_DETERMINISTIC })
    }
}

/// A scenario that was made small.
pub(super) struct Small {
    pub(super) scenario: Scenario,
    pub(super) file: PathBuf,
    /// `shrunk 54 faults, 1020 ops -> 2 faults, 3 ops (1.2 s)`.
    pub(super) told: String,
    took: Duration,
}

impl Small {
    fn json(&self) -> Value {
        let Scenario { faults, operations, .. } = &self.scenario;
        let ms = self.took.as_millis() as u64;
        json!({"file": self.file, "faults": faults.len(), "operations": operations.len(), "ms": ms})
    }
}

pub(super) fn limits(jobs: usize, tries_max: u64, time: Duration) -> Limits {
    Limits { jobs, tries_max, until: Some(Instant::now() + time) }
}

/// Shrinks a failure, with a bar on stderr, and saves the result in `target/sim`.
pub(super) fn save_small(
    driver: Driver,
    scenario: &Scenario,
    outcome: &Outcome,
    name: &str,
    limits: Limits,
) -> Result<Small, String> {
    let oracle = outcome.violations.first().map_or("", |violation| violation.oracle);
    let started = Instant::now();
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{spinner} shrinking · {msg} · {elapsed}");
    let bar = ProgressBar::with_draw_target(None, target)
        .with_style(style.expect("the template is right"));
    let fails = |candidate: &Scenario| {
        let outcome = run::run_on(driver, candidate, false);
        bar.tick();
        // A small scenario often breaks a second promise too, and the order of the two says little.
        let same = outcome.violations.iter().find(|violation| violation.oracle == oracle);
        same.map(|violation| violation.oracle.to_owned())
    };
    let shrunk = shrink::shrink(scenario, oracle, limits, fails, |best| {
        bar.set_message(format!("{}, {} tries", size(&best.scenario), best.tries));
    });
    bar.finish_and_clear();
    let file = PathBuf::from(format!("target/sim/{name}.min.json"));
    save(&file, &shrunk.scenario.to_json())?;
    let took = started.elapsed();
    let (from, to) = (size(scenario), size(&shrunk.scenario));
    let told = format!("shrunk {from} -> {to} ({:.1} s)", took.as_secs_f64());
    Ok(Small { scenario: shrunk.scenario, file, told, took })
}

/// Writes a file and the directories above it.
pub(super) fn save(file: &Path, text: &str) -> Result<(), String> {
    let directory = file.parent().unwrap_or(Path::new("."));
    let saved = fs::create_dir_all(directory).and_then(|()| fs::write(file, text));
    saved.map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn size(scenario: &Scenario) -> String {
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    format!("{}, {}", count(scenario.faults.len(), "fault"), count(scenario.operations.len(), "op"))
}
