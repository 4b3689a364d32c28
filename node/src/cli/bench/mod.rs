//! `rondo bench`: a closed loop over HTTP, and what came of it.
//!
//! Every client waits for its answer before it asks again, so the latencies are those of a server that is never asked
//! more than it answers: for the tail under a fixed rate an open loop is needed, which is not built yet.

pub mod keys;

pub mod wire;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cli::bench::keys::{Distribution, Keys, fraction};
use crate::cli::bench::wire::Wire;
use crate::cli::table::{grouped, micros, table, text};
use crate::cli::{Client, Output, duration, print};
use crate::failure::{Failure, Result};
use crate::http::kv;

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// How long a client waits before it connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Workload {
    /// Write only.
    Put,
    /// Read only, after all keys were written once.
    Get,
    /// Both, after all keys were written once.
    #[default]
    Mix,
}

/// A measurement.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    #[command(flatten)]
    client: Client,
    /// What clients do
    #[arg(value_enum, default_value_t)]
    workload: Workload,
    /// Connections, spread over the servers
    #[arg(long, short, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// For how long
    #[arg(long, short, default_value = "10s", value_parser = duration, value_name = "TIME")]
    duration: Duration,
    /// For how long before anything counts
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    warm_up: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_size: u32,
    /// Different keys
    #[arg(long, short, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,
    /// How keys are chosen
    #[arg(long, value_enum, default_value_t)]
    distribution: Distribution,
    /// The share of reads in a mix, from 0 to 1
    #[arg(long, default_value_t = 0.5)]
    reads: f64,
    /// How many replicas take part: one, quorum or all
    #[arg(long, default_value = "quorum", value_name = "LEVEL")]
    consistency: String,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Get,
    Put,
}

/// What one client, or all of them, saw of one kind of operation.
#[derive(Clone, Debug)]
struct Tally {
    latencies: Histogram<u64>,
    ok: u64,
    not_found: u64,
    refused: u64,
    indeterminate: u64,
    broken: u64,
}

impl Tally {
    fn new() -> Tally {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Tally {
            latencies: latencies.expect("the bounds are sound"),
            ok: 0,
            not_found: 0,
            refused: 0,
            indeterminate: 0,
            broken: 0,
        }
    }

    fn count(&mut self, outcome: &io::Result<u16>, took: Duration) {
        match outcome {
            Ok(200 | 204) => {
                self.ok += 1;
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(us.max(1));
            }
            Ok(404) => self.not_found += 1,
            Ok(504) => self.indeterminate += 1,
            Ok(_) => self.refused += 1,
            Err(_) => self.broken += 1,
        }
    }

    fn add(&mut self, other: &Tally) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        self.ok += other.ok;
        self.not_found += other.not_found;
        self.refused += other.refused;
        self.indeterminate += other.indeterminate;
        self.broken += other.broken;
    }
}

/// Runs it.
pub async fn run(command: Bench) -> Result<()> {
    let servers = command.client.servers()?;
    kv::level(&command.consistency)
        .map_err(|problem| Failure::usage(problem.message, problem.hint))?;
    if !(0.0..=1.0).contains(&command.reads) {
        return Err(Failure::usage("--reads is a share from 0 to 1", "--reads 0.95"));
    }
    for server in servers.list() {
        Wire::open(server).await.map_err(|error| {
            Failure::failed(
                format!("no server answers at {server}: {error}"),
                "start one with `rondo`, or name others with --server a,b",
            )
        })?;
    }
    if command.workload != Workload::Put {
        load(&command, servers.list()).await?;
    }
    let begin = Instant::now() + command.warm_up;
    let end = begin + command.duration;
    let mut clients = JoinSet::new();
    for number in 0..command.clients {
        let server = servers.list()[number as usize % servers.list().len()].clone();
        clients.spawn(client(command.clone(), server, number, begin, end));
    }
    let bar = progress(command.warm_up + command.duration);
    let (mut gets, mut puts) = (Tally::new(), Tally::new());
    let mut done = 0;
    while done < command.clients {
        tokio::select! {
            Some(finished) = clients.join_next() => {
                let (their_gets, their_puts) = finished.map_err(|error| {
                    Failure::failed(format!("a client ended early: {error}"), "report this")
                })?;
                gets.add(&their_gets);
                puts.add(&their_puts);
                done += 1;
            }
            () = tokio::time::sleep(Duration::from_millis(200)) => bar.inc(200),
        }
    }
    bar.finish_and_clear();
    let report = report(&command, servers.list(), &gets, &puts);
    match command.output {
        Output::Json => print(&report.to_string()),
        Output::Table => print(&show(&command, servers.list(), &gets, &puts)),
    }
}

fn progress(time: Duration) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(ms), target);
    let style = ProgressStyle::with_template("{bar:40} {percent}% {eta} left");
    bar.with_style(style.expect("the template is sound"))
}

/// Writes every key once.
async fn load(command: &Bench, servers: &[String]) -> Result<()> {
    let mut clients = JoinSet::new();
    let count = u64::from(command.clients.min(64));
    for number in 0..count {
        let command = command.clone();
        let server = servers[number as usize % servers.len()].clone();
        clients.spawn(async move {
            let mut wire = Wire::open(&server).await?;
            let value = value(&mut ChaCha8Rng::seed_from_u64(number), command.value_size);
            let mut request = Vec::new();
            for key in (number..command.keys).step_by(count as usize) {
                put_request(&mut request, &server, key, "quorum", &value);
                let status = wire.round(&request).await?;
                if !matches!(status, 200 | 204) {
                    return Err(io::Error::other(format!("a write was answered with {status}")));
                }
            }
            Ok(())
        });
    }
    while let Some(loaded) = clients.join_next().await {
        loaded.map_err(io::Error::other).and_then(|loaded| loaded).map_err(|error| {
            Failure::failed(
                format!("cannot write the keys first: {error}"),
                "`rondo status` says whether the cluster is ready",
            )
        })?;
    }
    Ok(())
}

async fn client(
    command: Bench,
    server: String,
    number: u32,
    begin: Instant,
    end: Instant,
) -> (Tally, Tally) {
    let mut dice = ChaCha8Rng::seed_from_u64(command.seed);
    dice.set_stream(u64::from(number));
    let keys = Keys::new(command.keys, command.distribution);
    let value = value(&mut dice, command.value_size);
    let reads = match command.workload {
        Workload::Put => 0.0,
        Workload::Get => 1.0,
        Workload::Mix => command.reads,
    };
    let (mut gets, mut puts) = (Tally::new(), Tally::new());
    let mut wire = None;
    let mut request = Vec::new();
    loop {
        let started = Instant::now();
        if started >= end {
            return (gets, puts);
        }
        let op = if fraction(&mut dice) < reads { Op::Get } else { Op::Put };
        let key = keys.next(&mut dice);
        match op {
            Op::Get => get_request(&mut request, &server, key, &command.consistency),
            Op::Put => put_request(&mut request, &server, key, &command.consistency, &value),
        }
        let patience = command.client.timeout;
        let outcome = tokio::time::timeout(patience, round(&mut wire, &server, &request)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let finished = Instant::now();
        if begin <= started && finished <= end {
            let tally = if op == Op::Get { &mut gets } else { &mut puts };
            tally.count(&outcome, finished - started);
        }
        if outcome.is_err() {
            wire = None;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn round(wire: &mut Option<Wire>, server: &str, request: &[u8]) -> io::Result<u16> {
    if wire.is_none() {
        *wire = Some(Wire::open(server).await?);
    }
    match wire {
        Some(wire) => wire.round(request).await,
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

fn get_request(request: &mut Vec<u8>, server: &str, key: u64, level: &str) {
    request.clear();
    let head = format_args!(
        "GET /v1/kv/default/bench-{key}?consistency={level} HTTP/1.1\r\nHost: {server}\r\n\r\n"
    );
    io::Write::write_fmt(request, head).expect("a Vec takes all bytes");
}

fn put_request(request: &mut Vec<u8>, server: &str, key: u64, level: &str, value: &[u8]) {
    request.clear();
    let length = value.len();
    let head = format_args!(
        "PUT /v1/kv/default/bench-{key}?consistency={level} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n"
    );
    io::Write::write_fmt(request, head).expect("a Vec takes all bytes");
    request.extend_from_slice(value);
}

/// A value of letters, so that it can be read where it turns up.
fn value(dice: &mut ChaCha8Rng, size: u32) -> Vec<u8> {
    (0..size).map(|_| b'a' + (dice.next_u32() % 26) as u8).collect()
}

const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

fn report(command: &Bench, servers: &[String], gets: &Tally, puts: &Tally) -> Value {
    let seconds = command.duration.as_secs_f64();
    let one = |tally: &Tally| {
        let latencies: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|(name, at)| ((*name).to_owned(), json!(tally.latencies.value_at_percentile(*at))))
            .chain([("max".to_owned(), json!(tally.latencies.max()))])
            .collect();
        json!({
            "ok": tally.ok,
            "per_second": tally.ok as f64 / seconds,
            "not_found": tally.not_found,
            "refused": tally.refused,
            "indeterminate": tally.indeterminate,
            "broken": tally.broken,
            "latency_us": latencies,
        })
    };
    json!({
        "servers": servers,
        "loop": "closed",
        "clients": command.clients,
        "seconds": seconds,
        "value_bytes": command.value_size,
        "keys": command.keys,
        "consistency": command.consistency,
        "get": one(gets),
        "put": one(puts),
    })
}

fn show(command: &Bench, servers: &[String], gets: &Tally, puts: &Tally) -> String {
    let seconds = command.duration.as_secs_f64();
    let mut shown = format!(
        "{} clients in a closed loop on {} for {seconds} s, {} B values, {} keys, level {}\n\n",
        command.clients,
        servers.join(", "),
        command.value_size,
        grouped(command.keys),
        command.consistency
    );
    let mut rows =
        table(&["OP", ">OPS/S", ">OK", ">P50", ">P90", ">P99", ">P99.9", ">MAX", ">ERRORS"]);
    let mut troubles = String::new();
    for (name, tally) in [("get", gets), ("put", puts)] {
        let errors = tally.not_found + tally.refused + tally.indeterminate + tally.broken;
        if tally.ok + errors == 0 {
            continue;
        }
        let mut row =
            vec![name.to_owned(), grouped((tally.ok as f64 / seconds) as u64), grouped(tally.ok)];
        for (_, at) in PERCENTILES {
            row.push(micros(tally.latencies.value_at_percentile(at)));
        }
        row.extend([micros(tally.latencies.max()), grouped(errors)]);
        rows.add_row(row);
        if errors > 0 {
            write!(
                troubles,
                "\n{name}: {} not found, {} refused, {} indeterminate, {} broken connections",
                tally.not_found, tally.refused, tally.indeterminate, tally.broken
            )
            .expect("a String takes all text");
        }
    }
    write!(shown, "{}{troubles}", text(&rows)).expect("a String takes all text");
    shown
}
