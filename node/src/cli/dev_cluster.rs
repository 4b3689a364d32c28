//! `rondo dev-cluster`: several real nodes on this host, each a process of its own.
//!
//! Ctrl-C stops all of them. With `--detach` they go on, and `rondo dev-cluster stop` stops them later: which they are
//! is written beside their data, and a process is only told to stop when it still is that node's.

use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::print;
use crate::client::{Ask, Connection};
use crate::failure::{Failure, Result};

/// How long a cluster may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long nodes may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Several nodes on this host.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevCluster {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Where the nodes keep their data, each below its name
    #[arg(long, default_value = "rondo-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The first node's HTTP port; the others follow
    #[arg(long, default_value_t = 8081)]
    port: u16,
    /// The first node's peer port; the others follow
    #[arg(long, default_value_t = 7947)]
    peer_port: u16,
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
    /// Stop the nodes that were started with --detach
    Stop {
        /// Where the nodes keep their data
        #[arg(long, default_value = "rondo-data", value_name = "DIR")]
        data_dir: PathBuf,
    },
}

/// A node that was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Started {
    name: String,
    pid: i32,
    http: String,
    data_dir: PathBuf,
}

/// Runs it.
pub async fn run(command: DevCluster) -> Result<()> {
    match &command.action {
        Some(Action::Stop { data_dir }) => stop(data_dir).await,
        None => start(&command).await,
    }
}

async fn start(command: &DevCluster) -> Result<()> {
    for (flag, first) in
        [("port", command.port), ("peer-port", command.peer_port), ("resp-port", command.resp_port)]
    {
        if first == 0 || first.checked_add(command.nodes - 1).is_none() {
            let message = format!("--{flag} {first}: there are not enough ports behind it");
            return Err(Failure::usage(message, format!("give another --{flag}")));
        }
    }
    let record = record_path(&command.data_dir);
    if read_record(&record)?.iter().any(is_running) {
        return Err(Failure::failed(
            format!("a cluster is running in {}", command.data_dir.display()),
            "stop it with `rondo dev-cluster stop`, or give another --data-dir",
        ));
    }
    fs::create_dir_all(&command.data_dir)
        .map_err(|error| cannot_write(&command.data_dir, &error))?;
    let mut children = Vec::new();
    let mut started = Vec::new();
    for number in 0..command.nodes {
        let (child, node) = spawn(command, number)?;
        children.push(child);
        started.push(node);
    }
    if command.detach {
        write_record(&record, &started)?;
    }
    let outcome = wait_ready(&started, &mut children).await;
    if outcome.is_err() || !command.detach {
        let outcome = match outcome {
            Ok(()) => {
                print(&banner(command, &started))?;
                wait_for_end(&mut children, &started).await
            }
            Err(failure) => Err(failure),
        };
        end_all(&started, &mut children).await;
        return outcome;
    }
    print(&banner(command, &started))
}

fn spawn(command: &DevCluster, number: u16) -> Result<(Child, Started)> {
    let name = format!("node-{}", number + 1);
    let data_dir = command.data_dir.join(&name);
    let http = format!("127.0.0.1:{}", command.port + number);
    let seeds: Vec<_> = (0..command.nodes)
        .filter(|other| *other != number)
        .map(|other| format!("127.0.0.1:{}", command.peer_port + other))
        .collect();
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed(format!("cannot find this program: {error}"), "start it by its full path")
    })?;
    let mut node = std::process::Command::new(program);
    node.arg("serve").args(["--node-id", &name, "--address", "127.0.0.1"]);
    node.args(["--port", &(command.port + number).to_string()]);
    node.args(["--peer-port", &(command.peer_port + number).to_string()]);
    node.args(["--bootstrap-expect", &command.nodes.to_string()]);
    node.arg("--data-dir").arg(&data_dir);
    if !seeds.is_empty() {
        node.args(["--seeds", &seeds.join(",")]);
    }
    node.args(&command.flags);
    // Variables meant for one node would give all of them one port.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RONDO_"))
    {
        node.env_remove(name);
    }
    let log_path = command.data_dir.join(format!("{name}.log"));
    let log = File::options().create(true).append(true).open(&log_path);
    let log = log.map_err(|error| cannot_write(&log_path, &error))?;
    // In a group of its own: a Ctrl-C reaches this program alone, which then stops all nodes in order.
    node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let child = Command::from(node).kill_on_drop(!command.detach).spawn().map_err(|error| {
        Failure::failed(format!("cannot start {name}: {error}"), "check the limits of this process")
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    Ok((child, Started { name, pid, http, data_dir }))
}

fn banner(command: &DevCluster, started: &[Started]) -> String {
    let mut lines = vec![format!("A cluster of {} nodes is ready.\n", started.len())];
    for (number, node) in (0u16..).zip(started) {
        let peer = command.peer_port + number;
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
    lines.push(format!("           rondo status --server {}", first.http));
    lines.push(match command.detach {
        true => {
            format!("  stop     rondo dev-cluster stop --data-dir {}", command.data_dir.display())
        }
        false => "  stop     Ctrl-C".to_owned(),
    });
    lines.join("\n")
}

/// Waits until every node is ready; fails when one ends before.
async fn wait_ready(started: &[Started], children: &mut [Child]) -> Result<()> {
    let all = async {
        for (at, node) in started.iter().enumerate() {
            while !is_ready(&node.http).await {
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
            let log = node.data_dir.with_extension("log");
            let text = fs::read_to_string(&log).unwrap_or_default();
            let said =
                text.lines().rev().find(|line| line.starts_with("error:")).unwrap_or_default();
            return Some(Failure::failed(
                format!("{} ended ({status}): {said}", node.name),
                format!("read {}", log.display()),
            ));
        }
    }
    None
}

async fn is_ready(http: &str) -> bool {
    let ask = Ask::new(Method::GET, "/ready");
    match Connection::open(http).await {
        Ok(mut connection) => {
            connection.ask(&ask, 1 << 20).await.is_ok_and(|answer| answer.status == StatusCode::OK)
        }
        Err(_) => false,
    }
}

/// Waits for Ctrl-C. A node that ends by itself is said and not started again: that is what a test of failures wants.
async fn wait_for_end(children: &mut [Child], started: &[Started]) -> Result<()> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}"), ""))
    };
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut gone = vec![false; children.len()];
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        for (at, child) in children.iter_mut().enumerate() {
            if let (false, Ok(Some(status))) = (gone[at], child.try_wait()) {
                gone[at] = true;
                eprintln!("{} ended ({status})", started[at].name);
            }
        }
        if gone.iter().all(|gone| *gone) {
            return Err(Failure::failed("all nodes have ended", "read the logs beside the data"));
        }
    }
}

async fn end_all(started: &[Started], children: &mut [Child]) {
    if std::io::stderr().is_terminal() {
        eprintln!("\nstopping {} nodes", started.len());
    }
    for (node, child) in started.iter().zip(children.iter_mut()) {
        if let (Ok(None), Some(pid)) = (child.try_wait(), Pid::from_raw(node.pid)) {
            // It may end in between; then there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    for (node, child) in started.iter().zip(children) {
        if tokio::time::timeout(STOP_PATIENCE, child.wait()).await.is_err() {
            eprintln!("{} does not stop: killing it", node.name);
            if let Err(error) = child.kill().await {
                eprintln!("{} cannot be killed: {error}", node.name);
            }
        }
    }
}

async fn stop(data_dir: &Path) -> Result<()> {
    let record = record_path(data_dir);
    let running: Vec<_> = read_record(&record)?.into_iter().filter(is_running).collect();
    if running.is_empty() {
        return Err(Failure::failed(
            format!("no cluster was started in {} with --detach", data_dir.display()),
            "name its --data-dir",
        ));
    }
    for node in &running {
        if let Some(pid) = Pid::from_raw(node.pid) {
            // As above: it may end in between.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let all_gone = async {
        while running.iter().any(is_running) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(STOP_PATIENCE, all_gone).await.is_err() {
        let names: Vec<_> =
            running.iter().filter(|node| is_running(node)).map(|node| node.name.as_str()).collect();
        let message = format!("still running: {}", names.join(", "));
        return Err(Failure::failed(message, "read the logs beside the data"));
    }
    fs::remove_file(&record).map_err(|error| cannot_write(&record, &error))?;
    print(&format!("stopped {} nodes", running.len()))
}

/// Whether the process lives and still is that node: process ids are used again.
fn is_running(node: &Started) -> bool {
    let Some(pid) = Pid::from_raw(node.pid) else { return false };
    if test_kill_process(pid).is_err() {
        return false;
    }
    let command = match fs::read(format!("/proc/{}/cmdline", node.pid)) {
        Ok(command) => command,
        Err(_) => {
            let ps = std::process::Command::new("ps");
            let output = { ps }.args(["-o", "command=", "-p", &node.pid.to_string()]).output();
            output.map(|output| output.stdout).unwrap_or_default()
        }
    };
    let dir = node.data_dir.as_os_str().as_encoded_bytes();
    command.windows(dir.len()).any(|window| window == dir)
}

fn record_path(data_dir: &Path) -> PathBuf {
    data_dir.join("dev-cluster.json")
}

fn read_record(path: &Path) -> Result<Vec<Started>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(
                format!("{} is broken: {error}", path.display()),
                "stop the nodes by hand and remove the file",
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::failed(message, "check who owns it"))
        }
    }
}

fn write_record(path: &Path, started: &[Started]) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(started).expect("names and numbers");
    fs::write(path, bytes).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()), "give another --data-dir")
}
