//! `faults`: every kind of trouble that the generator makes.

use rondo_sim::scenario::catalogue;

#[derive(clap::Args)]
pub(crate) struct Args {}

impl Args {
    #[expect(clippy::unnecessary_wraps, reason = "every command answers alike")]
    pub(crate) fn run(&self) -> Result<u8, String> {
        print!("{}", catalogue::text());
        Ok(0)
    }
}
