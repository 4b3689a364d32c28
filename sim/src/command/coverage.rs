//! `coverage`: how often each site in the product's code was reached; one that never was is a failure.

use rondo_sim::carry::driver::Driver;
use rondo_sim::run::campaign;
use rondo_sim::watch::probes::Coverage;

use super::run::range;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `from..to`, the end excluded; or one seed.
    #[arg(long, value_parser = range, default_value = "0..2000")]
    seeds: (u64, u64),
    /// What carries messages: sim (message by message) or wire (the product's links on streams of bytes).
    #[arg(long, default_value = "sim")]
    driver: Driver,
    /// Threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let all = || std::thread::available_parallelism().map_or(1, Into::into);
        let mut coverage = Coverage::default();
        campaign::run_seeds(
            self.seeds,
            self.driver,
            self.jobs.unwrap_or_else(all),
            |_, outcome| {
                coverage.add(&outcome.coverage);
                true
            },
        );
        for (site, count) in coverage.met() {
            println!("sometimes {count:>10}  {:<34} {}", site.name, site.why);
        }
        for (site, count) in coverage.fired() {
            println!("buggify   {count:>10}  {:<34} {}", site.name, site.why);
        }
        let never = coverage.never();
        for name in &never {
            println!("never reached: {name}");
        }
        println!("seeds {}..{}, {}", self.seeds.0, self.seeds.1, coverage.summary());
        Ok(u8::from(!never.is_empty()))
    }
}
