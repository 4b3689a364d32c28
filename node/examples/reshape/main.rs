//! A cluster of real processes that changes its shape under load: 2 -> 3 -> 5 -> 4 nodes. Tells the longest interval without a
//! successful write, the share of requests that failed, how long each change took, and whether anything acknowledged was lost.
//!
//! ```text
//! cargo build --release -p node
//! cargo run --release -p node --example reshape
//! cargo run --release -p node --example reshape -- --failures 5
//! ```
//! With `--failures` the shape stays and nodes fail: see `failures`.
//! Every writer writes keys of its own, each once, so that a key that is missing or has another value is a lost write. When a node
//! is to stop, its clients are sent elsewhere first, as a load balancer would.
//! Left out: failures on the way, which `chaos` and the simulator have.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::nodes::Nodes;
use crate::writers::{Load, Writer};

mod failures;
mod nodes;
mod wire;
mod writers;

#[derive(Parser)]
struct Options {
    /// Clients that write at the same time.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Keys that are there before the first change.
    #[arg(long, default_value_t = 2_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// How long the load goes on between changes, in seconds.
    #[arg(long, default_value_t = 3)]
    rest: u64,
    /// The first node's HTTP port; the others follow.
    #[arg(long, default_value_t = 18_080)]
    port: u16,
    /// In the place of changes: so many failures of each kind, in clusters of three and of five nodes.
    #[arg(long)]
    failures: Option<usize>,
    /// The binary of the nodes.
    #[arg(long, default_value = "target/release/rondo")]
    rondo: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.failures {
        Some(runs) => failures::run(&options, runs),
        None => run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reshape: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was lost.
fn run(options: &Options) -> io::Result<bool> {
    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::start(&options.rondo, dir.path(), options.port, 2)?;
    nodes.wait_settled(2)?;
    let load = Arc::new(Load::new(nodes.addresses(), options.value));
    let mut first = Writer::new(&load, u64::MAX);
    for _ in 0..options.keys {
        first.write();
    }
    let writers: Vec<_> = (0..options.writers as u64)
        .map(|number| {
            let load = Arc::clone(&load);
            thread::spawn(move || Writer::new(&load, number).run())
        })
        .collect();
    println!("step            took     longest without a write   writes   failed");
    let rest = Duration::from_secs(options.rest);
    step(&load, "2 nodes", rest, || Ok(()))?;
    step(&load, "2 -> 3", rest, || {
        nodes.add(1)?;
        nodes.wait_settled(3)
    })?;
    load.reach(nodes.addresses());
    step(&load, "3 -> 5", rest, || {
        nodes.add(2)?;
        nodes.wait_settled(5)
    })?;
    load.reach(nodes.addresses());
    step(&load, "5 -> 4", rest, || {
        nodes.leave(0)?;
        nodes.wait_settled(4)
    })?;
    load.reach(nodes.addresses());
    step(&load, "one stops", rest, || nodes.stop_left())?;
    load.end();
    let mut acknowledged = first.acknowledged;
    for writer in writers {
        acknowledged.extend(writer.join().expect("a writer does not panic"));
    }
    let lost = nodes.lost(&acknowledged, options.value)?;
    let (writes, failed) = load.totals();
    let share = failed as f64 * 100.0 / (writes + failed).max(1) as f64;
    println!("\n{writes} writes acknowledged, {failed} requests failed ({share:.3} %)");
    println!("{} keys read, through all nodes in turn: {lost} lost", acknowledged.len());
    Ok(lost == 0)
}

/// A change under load, and some time after it.
fn step(
    load: &Load,
    name: &str,
    rest: Duration,
    change: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    load.begin_step();
    let began = Instant::now();
    change()?;
    let took = began.elapsed();
    thread::sleep(rest);
    let seen = load.end_step();
    println!(
        "{name:<12} {:>7.2} s {:>22.1} ms {:>10} {:>8}",
        took.as_secs_f64(),
        seen.longest.as_secs_f64() * 1e3,
        seen.writes,
        seen.failed
    );
    Ok(())
}
