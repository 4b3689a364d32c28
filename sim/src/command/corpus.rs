//! `corpus`: every kept scenario once more.

use std::fs;
use std::path::PathBuf;

use rondo_sim::carry::driver::Driver;
use rondo_sim::oracle::verdict::Verdict;
use rondo_sim::run;

use super::{load, tell, verdict_line};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
    /// The directory.
    #[arg(default_value = "sim/corpus")]
    directory: PathBuf,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let unreadable = |error| format!("{} cannot be read: {error}", self.directory.display());
        let entries = fs::read_dir(&self.directory).map_err(unreadable)?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        let mut worst = Verdict::Pass;
        for file in &files {
            let scenario = load(&file.to_string_lossy())?;
            let outcome = run::run_on(self.driver, &scenario, false);
            println!("{} {}", file.display(), verdict_line(&scenario, &outcome));
            tell(&outcome);
            worst = worst.min(outcome.verdict);
        }
        println!("{} scenarios, {}", files.len(), worst.word());
        Ok(worst.exit_code())
    }
}
