//! `scenario`: what the generator makes of a seed.

use rondo_sim::generator;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seed.
    seed: u64,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        print!("{}", generator::scenario(self.seed).to_json());
        Ok(0)
    }
}
