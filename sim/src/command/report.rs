//! `report`: the consistency report of one run.

use rondo_sim::report;
use rondo_sim::run;

use super::load;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A saved scenario, or a seed.
    what: String,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let scenario = load(&self.what)?;
        let outcome = run::run(&scenario, false);
        print!("{}", report::text(&scenario, &outcome));
        Ok(outcome.verdict.exit_code())
    }
}
