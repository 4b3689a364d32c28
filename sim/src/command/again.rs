//! The same seed again, in another process: whatever differs there was decided by something else than the seed.
//!
//! A second run in the same process is not enough. Inside a run the executor answers for the clock and for the operating system's
//! randomness, so a `RandomState` and `SystemTime::now` are the same each time; what leaks is what it does not answer for:
//! addresses, which differ from process to process and are the seed of some hashers, process numbers, files that tell
//! the time. Those are the same twice in one process, or nearly so.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rondo_sim::carry::driver::Driver;
use rondo_sim::run::Outcome;
use serde_json::Value;

/// Which seeds are run again, and by what.
#[derive(clap::Args)]
pub(super) struct Again {
    /// Run every n-th seed again in a second process, which must tell the same hash; none for 0.
    #[arg(long, default_value_t = 20, value_name = "N")]
    again_every: u64,
    /// Ask this program instead of the same one.
    #[arg(long, hide = true)]
    again_with: Option<PathBuf>,
}

impl Again {
    /// What is different in another process, when this seed is one that is run again.
    ///
    /// # Errors
    /// The second process cannot be started, or tells nothing.
    pub(super) fn differs(
        &self,
        seed: u64,
        driver: Driver,
        outcome: &Outcome,
    ) -> Result<Option<String>, String> {
        if self.again_every == 0 || !seed.is_multiple_of(self.again_every) {
            return Ok(None);
        }
        let (here, there) = (format!("{:016x}", outcome.hash), self.hash(seed, driver)?);
        let differs = here != there;
        let told = || format!("the hash is {here} here and {there} in another process");
        Ok(differs.then(told))
    }

    fn hash(&self, seed: u64, driver: Driver) -> Result<String, String> {
        let program = match &self.again_with {
            Some(program) => program.clone(),
            None => std::env::current_exe()
                .map_err(|error| format!("this program does not know where it is: {error}"))?,
        };
        let seeds = format!("{seed}..{}", seed + 1);
        let arguments = ["run", "--json", "--jobs", "1", "--again-every", "0", "--seeds", &seeds];
        let mut command = Command::new(&program);
        command.args(arguments).args(["--driver", driver.name()]);
        let output = command.stdin(Stdio::null()).output();
        let output =
            output.map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let hash = first.as_ref().and_then(|line| line.get("hash")?.as_str());
        // A process that dies has not told the same either.
        Ok(hash.unwrap_or("none").to_owned())
    }
}
