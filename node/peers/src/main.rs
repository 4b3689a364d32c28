//! `peers`: one closed-loop load generator for rondo, etcd and a bare HTTP server, so that all are measured alike.
//!
//! Everything is on loopback and shares the machine's cores with the load generator, so the stable figure is the
//! servers' processor time for each operation, summed over their processes; operations per second compare only within
//! one run. `compare.sh` beside this crate runs the comparison.

mod client;

mod floor;

mod load;

mod usage;

use clap::{Parser, Subcommand};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs clients against servers and prints one line of JSON.
    Load(load::Load),
    /// Serves a constant over HTTP with axum on one thread: what the framework alone costs.
    Floor {
        /// The port on 127.0.0.1.
        #[arg(long)]
        port: u16,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    match Arguments::parse().what {
        What::Load(load) => load::run(load).await,
        What::Floor { port } => floor::serve(port).await,
    }
}
