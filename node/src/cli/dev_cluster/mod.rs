//! `rondo dev-cluster`: several real nodes on this host, each a process of its own.
//!
//! Ctrl-C stops all of them. With `--detach` they go on, and `rondo dev-cluster stop` stops them later. A node that ends is
//! not started again by itself, because that is what an experiment with failures wants; `rondo dev-cluster restart`
//! brings it back, whichever way the cluster was started.

mod record;

mod grow;

mod again;

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::print;
use crate::client::{Ask, Connection};
use crate::failure::{Failure, Result};

use self::grow::{Add, Remove};
use self::record::{Started, cannot_write};

/// How long a cluster may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long nodes may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
/// Where the nodes keep their data, each below its name.
const DATA_DIR: &str = "rondo-data";
/// The first port for clients of a new cluster, and the first for peers.
const PORTS: (u16, u16) = (8081, 7947);
/// The flags that every node is given; what people give comes behind them.
const FIXED: [&str; 7] = [
    "--node-id",
    "--address",
    "--port",
    "--peer-port",
    "--bootstrap-expect",
    "--data-dir",
    "--seeds",
];
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Several nodes on this host.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevCluster {
    /// How many nodes a new cluster has; one that was stopped has those that it had
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Where the nodes keep their data, each below its name
    #[arg(long, default_value = DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
    /// The first node's HTTP port; the others follow [default: 8081, or as before]
    #[arg(long)]
    port: Option<u16>,
    /// The first node's peer port; the others follow [default: 7947, or as before]
    #[arg(long)]
    peer_port: Option<u16>,
    /// The first node's Redis port; the others follow
    #[arg(long, default_value_t = 6381)]
    resp_port: u16,
    /// Leave the nodes running
    #[arg(long)]
    detach: bool,
    /// More flags for every node, after `--`
    #[arg(last = true)]
    flags: Vec<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Stop all nodes, or one
    Stop(Which),
    /// End a node, or all, at once, as a crash would (kill -9)
    Kill(Which),
    /// Start a node again, or all that have ended; one that runs is stopped before
    Restart(Which),
    /// Start more nodes, which join the cluster and get their part of the data
    Add(Add),
    /// Have a node hand its data to the others, and stop it
    Remove(Remove),
}

#[derive(Args, Debug)]
struct Which {
    /// The node, such as node-2 or 2; all when it is left out
    node: Option<String>,
    /// Where the nodes keep their data
    #[arg(long, default_value = DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Runs it.
pub async fn run(command: DevCluster) -> Result<()> {
    match &command.action {
        Some(Action::Stop(which)) => stop(which).await,
        Some(Action::Kill(which)) => kill(which).await,
        Some(Action::Restart(which)) => restart(which).await,
        Some(Action::Add(command)) => grow::add(command).await,
        Some(Action::Remove(command)) => grow::remove(command).await,
        None => start(&command).await,
    }
}

/// The HTTP addresses of a cluster that runs below the usual directory: what commands ask when nobody names a server.
#[must_use]
pub fn nearby() -> Vec<String> {
    let started = record::read(Path::new(DATA_DIR)).unwrap_or_default();
    started.into_iter().filter(Started::is_running).map(|node| node.http).collect()
}

async fn start(command: &DevCluster) -> Result<()> {
    let (port, peer_port) = command.ports();
    for (flag, first) in
        [("port", port), ("peer-port", peer_port), ("resp-port", command.resp_port)]
    {
        if first == 0 || first.checked_add(command.nodes - 1).is_none() {
            let message = format!("--{flag} {first}: there are not enough ports behind it");
            return Err(Failure::usage(message, format!("give another --{flag}")));
        }
    }
    let before = record::read(&command.data_dir)?;
    if before.iter().any(Started::is_running) {
        return Err(Failure::failed(
            format!("a cluster is running in {}", command.data_dir.display()),
            "stop it with `rondo dev-cluster stop`, or give another --data-dir",
        ));
    }
    fs::create_dir_all(&command.data_dir)
        .map_err(|error| cannot_write(&command.data_dir, &error))?;
    let data_dir = fs::canonicalize(&command.data_dir);
    let data_dir = data_dir.map_err(|error| cannot_write(&command.data_dir, &error))?;
    let again = again::nodes(command, before)?;
    let is_new = again.is_none();
    let mut started = match again {
        Some(nodes) => {
            eprintln!(
                "the cluster in {} was stopped: starting its {} again; another --data-dir makes a new cluster",
                command.data_dir.display(),
                said(&nodes)
            );
            nodes
        }
        None => (0..command.nodes)
            .map(|number| founder(command, &data_dir, number))
            .collect::<Result<Vec<_>>>()?,
    };
    let mut children = Vec::new();
    for node in &mut started {
        children.push(spawn(node, !command.detach)?);
    }
    record::write(&data_dir, &started)?;
    let outcome = wait_ready(&started, &mut children).await;
    if outcome.is_ok() && command.detach {
        return print(&banner(command, &started));
    }
    let outcome = match outcome {
        Ok(()) => {
            print(&banner(command, &started))?;
            wait_for_end(&mut children, &started, &data_dir).await
        }
        Err(failure) => Err(failure),
    };
    if std::io::stderr().is_terminal() {
        eprintln!("\nstopping {} nodes", started.len());
    }
    // Others than the first processes, when nodes were started again.
    let mut now = record::read(&data_dir)?;
    stop_all(&now, &mut children).await?;
    // With other ports the next attempt may do.
    if is_new && outcome.is_err() {
        record::remove(&data_dir)?;
        return outcome;
    }
    now.iter_mut().for_each(|node| node.stopped = true);
    record::write(&data_dir, &now)?;
    outcome
}

impl DevCluster {
    /// Where a new cluster begins: for clients, and for peers.
    fn ports(&self) -> (u16, u16) {
        (self.port.unwrap_or(PORTS.0), self.peer_port.unwrap_or(PORTS.1))
    }
}

/// A node of a new cluster.
fn founder(command: &DevCluster, data_dir: &Path, number: u16) -> Result<Started> {
    let (port, peer_port) = command.ports();
    let name = format!("node-{}", number + 1);
    let seeds: Vec<_> = (0..command.nodes)
        .filter(|other| *other != number)
        .map(|other| format!("127.0.0.1:{}", peer_port + other))
        .collect();
    let own = data_dir.join(&name);
    let ports = (port + number, peer_port + number);
    let mut arguments = arguments(&name, ports, &seeds, command.nodes, &own);
    arguments.extend(command.flags.iter().cloned());
    let directory = std::env::current_dir().map_err(|error| cannot_write(data_dir, &error))?;
    let http = format!("127.0.0.1:{}", port + number);
    Ok(Started { name, pid: 0, http, data_dir: own, directory, arguments, stopped: false })
}

fn spawn(node: &mut Started, ends_with_us: bool) -> Result<Child> {
    let child = Command::from(node.command()?).kill_on_drop(ends_with_us).spawn();
    let child = child.map_err(|error| cannot_start(node, &error))?;
    node.pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    node.stopped = false;
    Ok(child)
}

/// The flags of a node.
fn arguments(
    name: &str,
    (port, peer_port): (u16, u16),
    seeds: &[String],
    expect: u16,
    data_dir: &Path,
) -> Vec<String> {
    let (port, peer_port, expect) = (port.to_string(), peer_port.to_string(), expect.to_string());
    let data_dir = data_dir.display().to_string();
    let mut pairs = vec![
        ["--node-id", name],
        ["--address", "127.0.0.1"],
        ["--port", &port],
        ["--peer-port", &peer_port],
        ["--bootstrap-expect", &expect],
        ["--data-dir", &data_dir],
    ];
    let seeds = seeds.join(",");
    if !seeds.is_empty() {
        pairs.push(["--seeds", &seeds]);
    }
    pairs.into_iter().flatten().map(str::to_owned).collect()
}

fn cannot_start(node: &Started, error: &std::io::Error) -> Failure {
    let hint = "check the limits of this process";
    Failure::failed(format!("cannot start {}: {error}", node.name), hint)
}

fn banner(command: &DevCluster, started: &[Started]) -> String {
    let mut lines = vec![format!("A cluster of {} nodes is ready.\n", started.len())];
    for node in started {
        let peer = grow::port_of(node, "--peer-port").unwrap_or_default();
        lines.push(format!("  {:<8} http://{}   peers 127.0.0.1:{peer}", node.name, node.http));
    }
    let log = command.data_dir.join("node-*.log");
    lines.push(format!(
        "  Redis    the protocol is not built yet; {} stays closed",
        command.resp_port
    ));
    lines.push(format!("  logs     {}\n", log.display()));
    let (first, last) = (&started[0], &started[started.len() - 1]);
    lines
        .push(format!("  try      curl -X PUT http://{}/v1/kv/default/hello -d world", first.http));
    lines.push(format!("           curl http://{}/v1/kv/default/hello", last.http));
    lines.push(
        match fs::canonicalize(DATA_DIR).ok() == first.data_dir.parent().map(Path::to_owned) {
            true => "           rondo status".to_owned(),
            false => format!("           rondo status --server {}", first.http),
        },
    );
    let dir = match command.data_dir.as_os_str() == DATA_DIR {
        true => String::new(),
        false => format!(" --data-dir {}", command.data_dir.display()),
    };
    lines.push(format!("  fail     rondo dev-cluster kill {}{dir}", last.name));
    lines.push(format!("           rondo dev-cluster restart {}{dir}", last.name));
    lines.push(match command.detach {
        true => {
            format!("  stop     rondo dev-cluster stop{dir}")
        }
        false => "  stop     Ctrl-C".to_owned(),
    });
    lines.join("\n")
}

/// Waits until every node is ready; fails when one ends before.
async fn wait_ready(started: &[Started], children: &mut [Child]) -> Result<()> {
    let all = async {
        for (at, node) in started.iter().enumerate() {
            while !answers(&node.http, "/ready").await {
                if let Some(failure) = ended_early(started, children) {
                    return Err(failure);
                }
                tokio::time::sleep(LOOK).await;
            }
            tracing::debug!(at, "ready");
        }
        Ok(())
    };
    tokio::time::timeout(READY_PATIENCE, all).await.unwrap_or_else(|_| {
        Err(Failure::failed(
            format!("the cluster was not ready within {} s", READY_PATIENCE.as_secs()),
            "read the logs beside the data; an older cluster of another size may lie there",
        ))
    })
}

fn ended_early(started: &[Started], children: &mut [Child]) -> Option<Failure> {
    for (node, child) in started.iter().zip(children) {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(Failure::failed(
                format!("{} ended ({status}): {}", node.name, node.last_words()),
                format!("read {}", node.log().display()),
            ));
        }
    }
    None
}

/// Whether a node answers 200 there.
async fn answers(http: &str, target: &str) -> bool {
    let ask = Ask::new(Method::GET, target);
    match Connection::open(http).await {
        Ok(mut connection) => {
            connection.ask(&ask, 1 << 20).await.is_ok_and(|answer| answer.status == StatusCode::OK)
        }
        Err(_) => false,
    }
}

/// Waits for Ctrl-C. A node that ends is said, and so is one that somebody has started again.
async fn wait_for_end(children: &mut [Child], started: &[Started], data_dir: &Path) -> Result<()> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}"), ""))
    };
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let name = |node: &Started| (node.name.clone(), true);
    let mut up: BTreeMap<String, bool> = started.iter().map(name).collect();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        // What has ended must be waited for, or the system keeps its number.
        children.iter_mut().for_each(|child| drop(child.try_wait()));
        let now = record::read(data_dir)?;
        if now.iter().all(|node| node.stopped) {
            eprintln!("the cluster was stopped by another command");
            return Ok(());
        }
        for node in &now {
            let up = up.entry(node.name.clone()).or_insert(true);
            if std::mem::replace(up, node.is_running()) != *up {
                eprintln!(
                    "{}",
                    match *up {
                        true => format!("{} runs again", node.name),
                        false => format!(
                            "{0} ended; `rondo dev-cluster restart {0}` starts it again",
                            node.name
                        ),
                    }
                );
            }
        }
    }
}

/// Tells nodes to stop, and kills those that do not.
async fn stop_all(nodes: &[Started], children: &mut [Child]) -> Result<()> {
    nodes.iter().for_each(|node| node.signal(Signal::TERM));
    if gone(nodes, children, STOP_PATIENCE).await {
        return Ok(());
    }
    for node in nodes.iter().filter(|node| node.is_running()) {
        eprintln!("{} does not stop: killing it", node.name);
        node.signal(Signal::KILL);
    }
    if gone(nodes, children, STOP_PATIENCE).await {
        return Ok(());
    }
    let names = nodes.iter().filter(|node| node.is_running()).map(|node| node.name.as_str());
    let message = format!("still running: {}", names.collect::<Vec<_>>().join(", "));
    Err(Failure::failed(message, "read the logs beside the data"))
}

/// Waits until none of them runs; `false` when it takes too long.
async fn gone(nodes: &[Started], children: &mut [Child], patience: Duration) -> bool {
    let all_gone = async {
        loop {
            children.iter_mut().for_each(|child| drop(child.try_wait()));
            if !nodes.iter().any(Started::is_running) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(patience, all_gone).await.is_ok()
}

/// The whole cluster, and which of its nodes are meant.
fn chosen(name: Option<&str>, data_dir: &Path) -> Result<(Vec<Started>, Vec<usize>)> {
    let nodes = record::read(data_dir)?;
    if nodes.is_empty() {
        return Err(Failure::failed(
            format!("no cluster was started in {}", data_dir.display()),
            "rondo dev-cluster starts one; --data-dir names another directory",
        ));
    }
    let Some(name) = name else {
        let all = (0..nodes.len()).collect();
        return Ok((nodes, all));
    };
    let meant = |node: &Started| node.name == name || node.name == format!("node-{name}");
    match nodes.iter().position(meant) {
        Some(at) => Ok((nodes, vec![at])),
        None => Err(Failure::usage(
            format!("there is no node `{name}`"),
            format!("{} to {}", nodes[0].name, nodes[nodes.len() - 1].name),
        )),
    }
}

async fn stop(which: &Which) -> Result<()> {
    let (mut nodes, meant) = chosen(which.node.as_deref(), &which.data_dir)?;
    if meant.iter().all(|&at| nodes[at].stopped && !nodes[at].is_running()) {
        return Err(Failure::failed(
            format!("{} was stopped before", which.node.as_deref().unwrap_or("the cluster")),
            "rondo dev-cluster restart starts it again",
        ));
    }
    let running: Vec<Started> =
        meant.iter().map(|&at| nodes[at].clone()).filter(Started::is_running).collect();
    stop_all(&running, &mut []).await?;
    meant.iter().for_each(|&at| nodes[at].stopped = true);
    record::write(&which.data_dir, &nodes)?;
    print(&format!("stopped {}", said(&running)))
}

async fn kill(which: &Which) -> Result<()> {
    let (nodes, meant) = chosen(which.node.as_deref(), &which.data_dir)?;
    let running: Vec<Started> =
        meant.iter().map(|&at| nodes[at].clone()).filter(Started::is_running).collect();
    running.iter().for_each(|node| node.signal(Signal::KILL));
    if !gone(&running, &mut [], STOP_PATIENCE).await {
        return Err(Failure::failed("a node was killed and does not end", "check the disk"));
    }
    print(&format!("killed {}", said(&running)))
}

async fn restart(which: &Which) -> Result<()> {
    let (mut nodes, meant) = chosen(which.node.as_deref(), &which.data_dir)?;
    let meant: Vec<usize> =
        meant.into_iter().filter(|&at| which.node.is_some() || !nodes[at].is_running()).collect();
    let before: Vec<Started> = meant.iter().map(|&at| nodes[at].clone()).collect();
    stop_all(&before, &mut []).await?;
    again::seed(&mut nodes);
    let mut children = Vec::new();
    for &at in &meant {
        let child = nodes[at].command()?.spawn();
        let child = child.map_err(|error| cannot_start(&nodes[at], &error))?;
        nodes[at].pid = i32::try_from(child.id()).unwrap_or_default();
        nodes[at].stopped = false;
        children.push(child);
    }
    record::write(&which.data_dir, &nodes)?;
    let started: Vec<Started> = meant.iter().map(|&at| nodes[at].clone()).collect();
    wait_live(&started, &mut children).await?;
    print(&format!("started {}", said(&started)))
}

/// Waits until each of them answers; fails when one ends before.
async fn wait_live(nodes: &[Started], children: &mut [process::Child]) -> Result<()> {
    for (node, child) in nodes.iter().zip(children) {
        let end = tokio::time::Instant::now() + READY_PATIENCE;
        let failed = |how: String| {
            let hint = format!("read {}", node.log().display());
            Err(Failure::failed(format!("{} {how}", node.name), hint))
        };
        while !answers(&node.http, "/live").await {
            if let Ok(Some(status)) = child.try_wait() {
                return failed(format!("ended ({status}): {}", node.last_words()));
            }
            if tokio::time::Instant::now() > end {
                return failed("does not answer".to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// One by its name, more by their number.
fn said(nodes: &[Started]) -> String {
    match nodes {
        [one] => one.name.clone(),
        more => format!("{} nodes", more.len()),
    }
}
