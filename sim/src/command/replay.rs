//! `replay`: one scenario twice, every event of the first, and whether the second was the same.

use rondo_sim::carry::driver::Driver;
use rondo_sim::oracle::verdict::NOT_DETERMINISTIC;
use rondo_sim::run;

use super::{load, tell, verdict_line};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A saved scenario, or a seed.
    what: String,
    /// Print no events, only the verdict.
    #[arg(long)]
    quiet: bool,
    /// Print the events up to this one.
    #[arg(long, value_name = "EVENT")]
    until: Option<u64>,
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
}

impl Args {
    /// Runs a scenario twice; different hashes are a failure of their own.
    pub(crate) fn run(&self) -> Result<u8, String> {
        let scenario = load(&self.what)?;
        let first = run::run_on(self.driver, &scenario, !self.quiet);
        let until = self.until.unwrap_or(u64::MAX);
        for line in first.transcript.iter().take_while(|it| it.event.unwrap_or(0) <= until) {
            println!("{line}");
        }
        let again = run::run_on(self.driver, &scenario, false);
        println!("{}", verdict_line(&scenario, &first));
        tell(&first);
        if first.hash != again.hash {
            println!("not deterministic: the second run's hash is {:016x}", again.hash);
            return Ok(NOT_DETERMINISTIC);
        }
        Ok(first.verdict.exit_code())
    }
}
