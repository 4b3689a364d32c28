//! A cluster of real processes under everything that hurts: kill -9, SIGSTOP, SIGTERM, cuts, slow links, full disks, lost and
//! old directories, nodes that join and leave. Afterwards all copies must become equal without being read. Writes down what clients
//! saw, for `rondo-sim check` to judge.
//!
//! ```text
//! cargo build --release -p node -p sim
//! cargo run --release -p node --example chaos -- --minutes 10 --history target/chaos.edn
//! target/release/rondo-sim check --format jepsen-edn --initial 0 target/chaos.edn
//! cargo run --release -p node --example chaos -- --nodes 5 --partition 30
//! cargo run --release -p node --example chaos -- --nodes 5 --minutes 10 --steady
//! cargo run --release -p node --example chaos -- --away 10000
//! ```
//! Each node has a network namespace and a file system of its own, so it needs root, `ip`, `nft` and `mount`. Linux only.
//! Values are unique and nothing is deleted, so a key that is not found reads as 0, the initial value: a lost write is
//! a stale read, and an invented one a read of a value that nobody wrote.
//! Left out: clocks that are wrong, which processes of one machine share.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::clients::Client;
use crate::cluster::Cluster;
use crate::faults::Struck;
use crate::history::History;

mod away;
mod clients;
mod cluster;
mod faults;
mod history;
mod hosts;
mod views;

/// How long after the last fault copies may differ.
const EQUAL_WITHIN: Duration = Duration::from_secs(15);
/// How long the healed cluster may take until it serves everywhere.
const HEALED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Options {
    /// How long faults go on.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Clients that ask at the same time.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// In the place of faults: no fault at all, and nobody may be held for dead.
    #[arg(long, conflicts_with = "partition")]
    steady: bool,
    /// In the place of faults: fewer than half of the nodes are cut off from the others for so many seconds, and then all must see all
    /// again.
    #[arg(long, value_name = "SECONDS")]
    partition: Option<u64>,
    /// In the place of faults: a node is away while so many keys are written, then loses its directory, then has a bit of it flipped, and
    /// each time becomes equal to the others by itself.
    #[arg(long, value_name = "KEYS")]
    away: Option<u64>,
    /// Where luck begins: the same number draws the same faults, though not at the same moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary of the nodes.
    #[arg(long, default_value = "target/release/rondo")]
    rondo: PathBuf,
    /// Where the history goes.
    #[arg(long, default_value = "target/chaos.edn")]
    history: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything that this program can judge by itself was right.
fn run(options: &Options) -> io::Result<bool> {
    let dir = tempfile::tempdir()?;
    println!("{} nodes below {}, {} minutes", options.nodes, dir.path().display(), options.minutes);
    let mut cluster = Cluster::start(&options.rondo, dir.path(), options.nodes)?;
    cluster.wait_ready(HEALED_WITHIN)?;

    if let Some(keys) = options.away {
        let wrong = away::strike(&mut cluster, keys)?;
        wrong.iter().for_each(|what| println!("WRONG: {what}"));
        return Ok(wrong.is_empty());
    }

    let history = Arc::new(History::create(&options.history)?);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..options.clients as u64)
        .map(|number| {
            let client = Client::new(cluster.addresses(), options.seed ^ (number + 1));
            let (history, over) = (Arc::clone(&history), Arc::clone(&over));
            thread::spawn(move || client.run(&history, &over))
        })
        .collect();

    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let struck = match options.partition {
        Some(seconds) => split(&cluster, Duration::from_secs(seconds)),
        None if options.steady => Ok(stay_well(&cluster, until)),
        None => faults::strike(&mut cluster, options.seed, until),
    };
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    let mut struck = struck?;
    struck.breaches.extend(views::become_equal(&cluster, struck.last, EQUAL_WITHIN)?);

    cluster.wait_ready(HEALED_WITHIN)?;
    let keys = history.read_all(&cluster.addresses())?;
    println!("faults: {}", struck.told);
    println!("clients: {}; {keys} keys read back through every node", history.summary());
    println!(
        "judge it: rondo-sim check --format jepsen-edn --initial 0 {}",
        options.history.display()
    );
    for breach in &struck.breaches {
        println!("WRONG: {breach}");
    }
    Ok(struck.breaches.is_empty())
}

/// Nothing strikes.
fn stay_well(cluster: &Cluster, until: Instant) -> Struck {
    let seen = views::stay_well(cluster, until);
    let (convicted, suspected): (Vec<String>, Vec<String>) =
        seen.into_iter().partition(|what| what.ends_with("is dead"));
    suspected.iter().for_each(|what| println!("{what}"));
    let told = format!("none; {} times a node was not seen as alive", suspected.len());
    Struck { told, breaches: convicted, last: Instant::now() }
}

/// One partition strikes.
fn split(cluster: &Cluster, lasts: Duration) -> io::Result<Struck> {
    let wrong = views::split(cluster, lasts)?;
    let told = format!("a partition of {lasts:?}");
    Ok(Struck { told, breaches: wrong.into_iter().collect(), last: Instant::now() })
}
