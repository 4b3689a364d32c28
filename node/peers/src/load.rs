//! Closed loop: each client has one operation under way, always. Prints throughput, latencies and what the
//! servers' processes used.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use crate::Outcome;
use crate::client::{self, Action, Client, Http};
use crate::usage::{cpu_micros, resident_kib};

/// etcd connections shared by all clients.
const ETCD_CONNECTIONS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http,
    Etcd,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Put,
    Get,
    GetLocal,
}

#[derive(Args)]
pub(crate) struct Load {
    /// Who is measured; only a name in the output.
    #[arg(long)]
    label: String,
    #[arg(long, value_enum)]
    protocol: Protocol,
    #[arg(long, value_enum)]
    operation: Operation,
    /// host:port, separated by commas; clients take turns.
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<String>,
    /// HTTP path, `{k}` is the key.
    #[arg(long, default_value = "/kv/{k}")]
    path: String,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1)]
    warm: u64,
    /// Processes whose time and memory are counted.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

struct Measured {
    latencies: Histogram<u64>,
    errors: u64,
    last_error: String,
    recording: bool,
    over: bool,
}

/// Runs the load and prints one line of JSON.
pub(crate) async fn run(load: Load) -> Outcome<()> {
    let load = Rc::new(load);
    let measured = Rc::new(RefCell::new(Measured {
        latencies: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        errors: 0,
        last_error: String::new(),
        recording: false,
        over: false,
    }));
    let mut shared = Vec::new();
    if load.protocol == Protocol::Etcd {
        for at in 0..ETCD_CONNECTIONS {
            let server = &load.servers[at % load.servers.len()];
            shared.push(client::etcd(server, Duration::from_secs(5)).await?);
        }
    }
    let local = tokio::task::LocalSet::new();
    for at in 0..load.clients {
        let (load, measured) = (Rc::clone(&load), Rc::clone(&measured));
        let etcd = shared.get(at % ETCD_CONNECTIONS).cloned();
        local.spawn_local(async move { one_client(at, &load, etcd, &measured).await });
    }
    local.run_until(measure(&load, &measured)).await
}

async fn measure(load: &Load, measured: &RefCell<Measured>) -> Outcome<()> {
    tokio::time::sleep(Duration::from_secs(load.warm)).await;
    let used = || load.pids.iter().map(|&pid| cpu_micros(pid)).sum::<u64>();
    let (used_before, own_before) = (used(), cpu_micros(std::process::id()));
    let started = Instant::now();
    measured.borrow_mut().recording = true;
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let mut measured = measured.borrow_mut();
    (measured.recording, measured.over) = (false, true);
    let seconds = started.elapsed().as_secs_f64();
    let operations = measured.latencies.len();
    let each = |micros: u64| round(micros as f64 / operations.max(1) as f64);
    let memory: u64 = load.pids.iter().map(|&pid| resident_kib(pid)).sum();
    println!(
        "{}",
        serde_json::json!({
            "label": load.label,
            "clients": load.clients,
            "value_bytes": load.value,
            "ops_per_s": (operations as f64 / seconds).round(),
            "p50_us": measured.latencies.value_at_quantile(0.5),
            "p99_us": measured.latencies.value_at_quantile(0.99),
            "p999_us": measured.latencies.value_at_quantile(0.999),
            "max_us": measured.latencies.max(),
            "errors": measured.errors,
            "last_error": measured.last_error,
            "server_cpu_us_per_op": each(used() - used_before),
            "client_cpu_us_per_op": each(cpu_micros(std::process::id()) - own_before),
            "server_rss_mib": memory / 1024,
        })
    );
    Ok(())
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

async fn one_client(
    at: usize,
    load: &Load,
    etcd: Option<etcd_client::KvClient>,
    measured: &RefCell<Measured>,
) {
    let action = match load.operation {
        Operation::Put => Action::Put,
        Operation::Get => Action::Get,
        Operation::GetLocal => Action::GetLocal,
    };
    let mut dice = at as u64 + 1;
    let value: Vec<u8> = (0..load.value).map(|_| b'a' + (roll(&mut dice) % 26) as u8).collect();
    let mut server = at;
    let mut connection = None;
    while !measured.borrow().over {
        let client = match &mut connection {
            Some(client) => client,
            None => match connect(load, &etcd, server).await {
                Ok(client) => connection.insert(client),
                Err(error) => {
                    failed(measured, &*error);
                    server += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        let key = format!("key{:09}", roll(&mut dice) % load.keys);
        let started = Instant::now();
        match client.run(action, &key, &value).await {
            Ok(()) => {
                let mut measured = measured.borrow_mut();
                if measured.recording {
                    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    measured.latencies.saturating_record(micros);
                }
            }
            Err(error) => {
                failed(measured, &*error);
                (connection, server) = (None, server + 1);
            }
        }
    }
}

async fn connect(
    load: &Load,
    etcd: &Option<etcd_client::KvClient>,
    server: usize,
) -> Outcome<Client> {
    if let Some(etcd) = etcd {
        return Ok(Client::Etcd(etcd.clone()));
    }
    let address = &load.servers[server % load.servers.len()];
    Ok(Client::Http(Http::connect(address, &load.path).await?))
}

fn failed(measured: &RefCell<Measured>, error: &(dyn std::error::Error + Send + Sync)) {
    let mut measured = measured.borrow_mut();
    measured.errors += 1;
    measured.last_error = error.to_string();
}

/// xorshift64: the same keys in the same order in every run.
fn roll(dice: &mut u64) -> u64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice
}
