//! `report`: the consistency report of one run.

use std::path::PathBuf;

use rondo_sim::carry::driver::Driver;
use rondo_sim::report;
use rondo_sim::report::html;
use rondo_sim::run;

use super::load;
use super::shrink::save;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A saved scenario, or a seed.
    what: String,
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
    /// Write a page with a picture of the run to this file too.
    #[arg(long)]
    html: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let scenario = load(&self.what)?;
        let outcome = run::run_on(self.driver, &scenario, self.html.is_some());
        print!("{}", report::text(&scenario, &outcome));
        if let Some(file) = &self.html {
            let is_seed = self.what.parse::<u64>().is_ok();
            let name = if is_seed { format!("seed {}", self.what) } else { self.what.clone() };
            save(file, &html::page(&name, &scenario, &outcome))?;
        }
        Ok(outcome.verdict.exit_code())
    }
}
