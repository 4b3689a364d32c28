//! `rondo dev-cluster add` and `remove`: a cluster that runs gets more nodes, or fewer.
//!
//! A new node is given the others as seeds and joins by itself. One that is removed leaves first, and ends when the others
//! have its data. No name is used twice: the directory of a node that left stays, and it must not come back under it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use serde_json::json;

use crate::cli::cluster::settled;
use crate::cli::silence;
use crate::cli::{duration, print};
use crate::client::Servers;
use crate::failure::{Failure, Result};

use super::record::{self, Started};
use super::{DATA_DIR, LOOK, arguments, cannot_start, chosen, stop_all, wait_live};

/// How long one request to a node may take.
const REQUEST: Duration = Duration::from_secs(5);

/// `rondo dev-cluster add`.
#[derive(Args, Debug)]
pub(super) struct Add {
    /// How many nodes
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Where the nodes keep their data
    #[arg(long, default_value = DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
    /// How long they may take to get their part of the data
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    wait: Duration,
    /// More flags for the new nodes, after `--`
    #[arg(last = true)]
    flags: Vec<String>,
}

/// `rondo dev-cluster remove`.
#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The node, such as node-2 or 2
    node: String,
    /// Where the nodes keep their data
    #[arg(long, default_value = DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
    /// How long it may take to hand its data to the others
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    wait: Duration,
}

/// Starts more nodes, and waits until they have their part of the data.
pub(super) async fn add(command: &Add) -> Result<()> {
    let (mut nodes, _) = chosen(None, &command.data_dir)?;
    let data_dir = nodes[0].data_dir.parent().map(Path::to_owned).unwrap_or_default();
    let seeds: Vec<String> = nodes
        .iter()
        .filter(|node| node.is_running())
        .filter_map(|node| port_of(node, "--peer-port"))
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    if seeds.is_empty() {
        let hint = "rondo dev-cluster restart starts its nodes again";
        return Err(Failure::failed("no node of the cluster runs", hint));
    }
    let first = unused(&nodes, &data_dir);
    let (mut new, mut children) = (Vec::new(), Vec::new());
    for number in first..first + command.nodes {
        let mut node = planned(&nodes[0], number, &seeds, &data_dir, &command.flags)?;
        let child = node.command()?.spawn().map_err(|error| cannot_start(&node, &error))?;
        node.pid = i32::try_from(child.id()).unwrap_or_default();
        children.push(child);
        new.push(node);
    }
    nodes.extend(new.iter().cloned());
    record::write(&data_dir, &nodes)?;
    wait_live(&new, &mut children).await?;
    let servers = servers(&new)?;
    let names: Vec<String> = new.iter().map(|node| node.name.clone()).collect();
    let all_in = |there: &[String]| names.iter().all(|name| there.contains(name));
    newest_layout(&servers, command.wait, all_in).await?;
    settled(&servers, command.wait).await?;
    print(&format!("added {}; all data is where it belongs", names.join(" and ")))
}

/// Has a node hand its data to the others, and stops it.
pub(super) async fn remove(command: &Remove) -> Result<()> {
    let (nodes, meant) = chosen(Some(&command.node), &command.data_dir)?;
    let leaving = nodes[meant[0]].clone();
    let stay: Vec<Started> = nodes.into_iter().filter(|node| node.name != leaving.name).collect();
    let running: Vec<Started> = stay.iter().filter(|node| node.is_running()).cloned().collect();
    if running.is_empty() {
        return Err(Failure::failed(
            format!("no node but {} runs, so nobody could take its data", leaving.name),
            "rondo dev-cluster restart starts the others; rondo dev-cluster stop stops all",
        ));
    }
    let servers = servers(&running)?;
    silence::known(&servers, std::slice::from_ref(&leaving.name)).await;
    let change = json!({ "node": leaving.name });
    servers.send(Method::POST, "/v1/cluster/leave?commit=true", Some(&change)).await?;
    newest_layout(&servers, command.wait, |there| !there.contains(&leaving.name)).await?;
    settled(&servers, command.wait).await?;
    stop_all(std::slice::from_ref(&leaving), &mut []).await?;
    record::write(&command.data_dir, &stay)?;
    let name = &leaving.name;
    print(&format!(
        "removed {name}; the others have its data, and {} may be deleted",
        leaving.data_dir.display()
    ))
}

/// Waits until the names of the nodes of the newest live layout are as they should be.
async fn newest_layout(
    servers: &Servers,
    patience: Duration,
    is_right: impl Fn(&[String]) -> bool,
) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        // A node that has just started knows no layout.
        let layouts = servers.json("/v1/cluster/layout").await.unwrap_or_default();
        let newest = layouts["live"].as_array().and_then(|live| live.last()).unwrap_or_default();
        let nodes = newest["nodes"].as_array().into_iter().flatten();
        let names: Vec<String> =
            nodes.filter_map(|node| node["name"].as_str().map(str::to_owned)).collect();
        if !names.is_empty() && is_right(&names) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Failure::failed(
                format!("the layout has not changed after {} s", patience.as_secs()),
                "`rondo status` shows who is away and who waits for whom; the change may still come",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn servers(nodes: &[Started]) -> Result<Servers> {
    let list: Vec<&str> = nodes.iter().map(|node| node.http.as_str()).collect();
    Servers::parse(&list.join(","), REQUEST)
}

/// The first number that no node of the cluster has had.
fn unused(nodes: &[Started], data_dir: &Path) -> u16 {
    let is_used = |number: u16| {
        let name = format!("node-{number}");
        data_dir.join(&name).exists() || nodes.iter().any(|node| node.name == name)
    };
    let last = (1..=u16::MAX).rev().find(|&number| is_used(number));
    last.map_or(1, |last| last.saturating_add(1))
}

/// A node as it will be started: its ports follow those of `first` as its number follows.
fn planned(
    first: &Started,
    number: u16,
    seeds: &[String],
    data_dir: &Path,
    flags: &[String],
) -> Result<Started> {
    let name = format!("node-{number}");
    let own = data_dir.join(&name);
    let place = |flag: &str| {
        let base = port_of(first, flag)?.checked_sub(number_of(first)?)?;
        base.checked_add(number)
    };
    let (Some(port), Some(peer_port)) = (place("--port"), place("--peer-port")) else {
        let message = format!("there is no port for {name} behind those of {}", first.name);
        return Err(Failure::failed(message, "start a cluster at lower ports"));
    };
    let mut arguments = arguments(&name, (port, peer_port), seeds, 1, &own);
    arguments.extend(flags.iter().cloned());
    let (http, directory) = (format!("127.0.0.1:{port}"), first.directory.clone());
    Ok(Started { name, pid: 0, http, data_dir: own, directory, arguments, stopped: false })
}

/// What a node was given for a port.
pub(super) fn port_of(node: &Started, flag: &str) -> Option<u16> {
    let at = node.arguments.iter().position(|argument| argument == flag)?;
    node.arguments.get(at + 1)?.parse().ok()
}

/// The number in a node's name.
pub(super) fn number_of(node: &Started) -> Option<u16> {
    node.name.strip_prefix("node-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_those_of_the_first_node_and_names_are_not_used_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let given = arguments("node-2", (9002, 7002), &[], 3, &dir.path().join("node-2"));
        let first = Started {
            name: "node-2".to_owned(),
            pid: 0,
            http: "127.0.0.1:9002".to_owned(),
            data_dir: dir.path().join("node-2"),
            directory: PathBuf::new(),
            arguments: given,
            stopped: false,
        };
        std::fs::create_dir(dir.path().join("node-4")).expect("a directory");
        let nodes = std::slice::from_ref(&first);
        assert_eq!(unused(nodes, dir.path()), 5, "node-4 was there and has left");
        let seeds = ["127.0.0.1:7002".to_owned()];
        let node = planned(&first, 5, &seeds, dir.path(), &[]).expect("there are ports");
        assert_eq!((&*node.name, &*node.http), ("node-5", "127.0.0.1:9005"));
        assert_eq!(port_of(&node, "--peer-port"), Some(7005));
        assert!(node.arguments.windows(2).any(|pair| pair == ["--seeds", "127.0.0.1:7002"]));
    }
}
