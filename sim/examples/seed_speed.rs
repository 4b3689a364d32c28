//! How many seeds one processor runs: 5 nodes, 60 simulated seconds and 1,000 operations each, under a little of every
//! fault, judged by all oracles.
//!
//! `cargo run --release -p sim --example seed_speed [SEEDS]` runs 200 seeds when nothing is said, on one thread, three times.

use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use rondo_sim::generator::{self, Size};
use rondo_sim::run;

/// The one of `rondo-sim`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SIZE: Size = Size { nodes: 5, heal_at_ms: 60_000, operations: 1_000 };

fn main() {
    let seeds = std::env::args().nth(1).map_or(Ok(200), |text| text.parse::<u64>());
    let seeds = seeds.expect("the argument is a number of seeds");
    let mut times = Vec::new();
    for _ in 0..3 {
        let (mut events, mut lived_ms, mut failed) = (0, 0, 0);
        let started = Instant::now();
        for seed in 0..seeds {
            let outcome = run::run(&generator::sized(seed, SIZE), false);
            events += outcome.events;
            lived_ms += outcome.lived.ms();
            failed += u64::from(!outcome.violations.is_empty());
        }
        let took = started.elapsed();
        println!("{}, {failed} failed", told(seeds, lived_ms, events, took));
        times.push(took);
    }
    times.sort_unstable();
    println!("median: {:.0} seeds a minute", 60.0 * seeds as f64 / times[1].as_secs_f64());
}

fn told(seeds: u64, lived_ms: u64, events: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    format!(
        "{seeds} seeds in {seconds:.1} s: {:.0} simulated seconds a second, {:.0} events a second",
        lived_ms as f64 / 1e3 / seconds,
        events as f64 / seconds
    )
}
