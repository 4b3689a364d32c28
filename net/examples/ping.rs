//! How much a message costs: two processes play ping-pong over real links.
//!
//! `cargo run --release -p net --example ping` starts a second process that echoes, keeps 1 and then 64
//! messages of 100 bytes and 1 KiB outstanding, and prints messages per second (a message and its echo
//! count as one), the round trip and the processor time of each side per message.

use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rondo_core::budget::Memory;
use rondo_core::config::MEMORY_BYTES_USUAL;
use rondo_core::env::{Address, Class, Network, Outbound};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::{Arrival, Inbox, InboxReader};
use rondo_net::status::LinkState;
use rondo_net::tcp::{Options, TcpNetwork};
use smallvec::smallvec;

const PING: NodeId = NodeId(1);
const PONG: NodeId = NodeId(2);
const ROUND: Duration = Duration::from_secs(2);
/// The kernel counts processor time in hundredths of a second (`sysconf(_SC_CLK_TCK)`).
const TICK_US: f64 = 10_000.0;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args().nth(1) {
        Some(address) => runtime.block_on(echo(&Address(address))),
        None => runtime.block_on(ping()),
    }
}

fn start(node: NodeId) -> io::Result<(TcpNetwork, InboxReader)> {
    let (inbox, reader) = Inbox::new(Memory::new(MEMORY_BYTES_USUAL));
    let options = Options {
        listen: Address("127.0.0.1:0".into()),
        next_free: false,
        node,
        life: Life::default(),
        cluster: "ping".into(),
        secret: None,
        heartbeat_ms: 100,
        silence_ms: 1000,
        handshake_ms: 5000,
    };
    Ok((TcpNetwork::start(options, inbox, [node.0 as u8; 32])?, reader))
}

/// Sends back what arrives, until the process is killed.
async fn echo(ping: &Address) -> io::Result<()> {
    let (network, mut reader) = start(PONG)?;
    network.route(PING, Life::default(), "ping", ping);
    println!("{}", network.address());
    io::stdout().flush()?;
    let mut batch = Vec::new();
    loop {
        poll_fn(|context| reader.poll_batch(context, &mut batch, usize::MAX)).await;
        for arrival in batch.drain(..) {
            if let Arrival::Peer(from, bytes) = arrival {
                network.send(from, |_| {
                    Some(Outbound { class: Class::Reply, parts: smallvec![bytes] })
                });
            }
        }
    }
}

async fn ping() -> io::Result<()> {
    let (network, mut reader) = start(PING)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(network.address().to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address)?;
    network.route(PONG, Life::default(), "pong", &Address(address.trim().into()));
    while network.links().iter().any(|link| link.state != LinkState::Open || !link.hears) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("outstanding  bytes  messages/s  round trip us  cpu us/message here  there");
    for (outstanding, bytes) in [(1, 100), (1, 1024), (64, 100), (64, 1024)] {
        round(&network, &mut reader, &child, outstanding, bytes).await?;
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

async fn round(
    network: &TcpNetwork,
    reader: &mut InboxReader,
    child: &Child,
    outstanding: usize,
    bytes: usize,
) -> io::Result<()> {
    let message = || {
        let parts = smallvec![Bytes::from(vec![7; bytes])];
        Outbound { class: Class::Request, parts }
    };
    for _ in 0..outstanding {
        network.send(PONG, |_| Some(message()));
    }
    let (begin, cpu) = (Instant::now(), [cpu_us("self")?, cpu_us(&child.id().to_string())?]);
    let (mut count, mut batch) = (0u64, Vec::new());
    let mut owed = outstanding;
    while owed > 0 {
        poll_fn(|context| reader.poll_batch(context, &mut batch, usize::MAX)).await;
        let go_on = begin.elapsed() < ROUND;
        for _ in batch.drain(..) {
            count += 1;
            owed -= 1;
            if go_on {
                network.send(PONG, |_| Some(message()));
                owed += 1;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let here = (cpu_us("self")? - cpu[0]) / count as f64;
    let there = (cpu_us(&child.id().to_string())? - cpu[1]) / count as f64;
    let (rate, trip) = (count as f64 / seconds, seconds * 1e6 * outstanding as f64 / count as f64);
    println!("{outstanding:11}  {bytes:5}  {rate:10.0}  {trip:13.1}  {here:19.2}  {there:5.2}");
    Ok(())
}

/// Processor time of a process so far, in microseconds.
fn cpu_us(process: &str) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() * TICK_US)
}
