//! `replay`: one scenario twice, every event of the first, and whether the second was the same.

use rondo_sim::run;
use rondo_sim::verdict::NOT_DETERMINISTIC;

use super::{load, tell, verdict_line};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A saved scenario, or a seed.
    what: String,
    /// Print no events, only the verdict.
    #[arg(long)]
    quiet: bool,
}

impl Args {
    /// Runs a scenario twice; different hashes are a failure of their own.
    pub(crate) fn run(&self) -> Result<u8, String> {
        let scenario = load(&self.what)?;
        let first = run::run(&scenario, !self.quiet);
        for line in &first.transcript {
            println!("{line}");
        }
        let again = run::run(&scenario, false);
        println!("{}", verdict_line(&scenario, &first));
        tell(&first);
        if first.hash != again.hash {
            println!("not deterministic: the second run's hash is {:016x}", again.hash);
            return Ok(NOT_DETERMINISTIC);
        }
        Ok(first.verdict.exit_code())
    }
}
