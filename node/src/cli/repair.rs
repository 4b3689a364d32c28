//! `rondo repair`: has all nodes compare their copies now, and tells what came of it; with `--dry-run` which copies differ, without
//! changing anything.
//!
//! A partition that differs is looked at a second time, because writes arrive at their owners one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cli::table::{grouped, table, text};
use crate::cli::{Client, Output, print};
use crate::client::{Servers, said};
use crate::failure::{Failure, Result};

/// How often to look.
const LOOK: Duration = Duration::from_millis(500);
/// So often nothing must have been compared, one time after another, before it is over.
const QUIET: u32 = 6;
/// How often to look at most.
const LOOKS_MAX: u32 = 1_200;

/// Compares copies.
#[derive(Args, Debug)]
pub struct Repair {
    /// Only tell which partitions differ
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs it.
pub async fn run(command: Repair) -> Result<()> {
    let mut asked = Asked::find(&command.client.servers()?).await?;
    let (report, told) = if command.dry_run {
        let report = differing(&mut asked).await;
        let told = tell_differing(&report);
        (report, told)
    } else {
        let before = look(&asked.nodes).await;
        asked.begin().await;
        let after = wait(&asked.nodes).await;
        let report = json!({ "before": before, "after": after, "not_reached": asked.missed, "troubles": asked.troubles });
        let told = tell(&report);
        (report, told)
    };
    match command.output {
        Output::Json => print(&report.to_string())?,
        Output::Table => print(&told)?,
    }
    unknown(&report)
}

/// What a script is told by the exit code: whether all copies are known to be equal.
fn unknown(report: &Value) -> Result<()> {
    let count = |name: &str| report[name].as_array().map_or(0, Vec::len);
    let (differ, missed) = (count("differ"), count("not_reached"));
    let message = match (differ, count("incomplete"), missed) {
        (0, 0, 0) => return Ok(()),
        (1.., ..) => format!("{differ} partitions differ"),
        (_, 1.., _) => "not all copies could be compared yet".to_owned(),
        _ => "not all nodes were reached: what they hold is not known".to_owned(),
    };
    let hint = match differ {
        0 => "ask again when all nodes are there and have read their keys",
        _ => "`rondo repair` makes them equal",
    };
    Err(Failure::failed(message, hint))
}

/// The nodes that have data, and which of them can be asked.
struct Asked {
    nodes: Vec<(String, Servers)>,
    partitions: u64,
    /// Names of those that could not be asked: what they hold is not known.
    missed: BTreeSet<String>,
    /// What nodes say is wrong with their data, each with the node's name.
    troubles: Vec<String>,
}

impl Asked {
    /// All that have a role in the layout.
    async fn find(servers: &Servers) -> Result<Asked> {
        let cluster = servers.json("/v1/cluster").await?;
        let partitions = cluster["layout"]["partitions"].as_u64().unwrap_or_default();
        let mut asked =
            Asked { nodes: Vec::new(), partitions, missed: BTreeSet::new(), troubles: Vec::new() };
        for member in cluster["members"].as_array().into_iter().flatten() {
            let (name, address) = (said(&member["name"]), member["client_address"].as_str());
            let server = Servers::parse(address.unwrap_or_default(), servers.timeout());
            match server {
                _ if member["in_layout"] != true => {}
                Ok(server) if member["state"] == "alive" => asked.nodes.push((name, server)),
                _ => drop(asked.missed.insert(name)),
            }
        }
        asked.look_at_data().await;
        Ok(asked)
    }

    /// Leaves out those that do not answer, and notes what the others say of their data.
    async fn look_at_data(&mut self) {
        for (name, server) in std::mem::take(&mut self.nodes) {
            let Ok(says) = server.json("/v1/storage").await else {
                self.missed.insert(name);
                continue;
            };
            let troubles = says["troubles"].as_array().into_iter().flatten();
            self.troubles.extend(troubles.map(|trouble| format!("{name}: {}", said(trouble))));
            self.nodes.push((name, server));
        }
    }

    /// Has all of them begin.
    async fn begin(&mut self) {
        for (name, server) in &self.nodes {
            if server.send(Method::POST, "/v1/repair", None).await.is_err() {
                self.missed.insert(name.clone());
            }
        }
    }
}

/// What each node says of comparing.
async fn look(nodes: &[(String, Servers)]) -> Value {
    let mut all = serde_json::Map::new();
    for (name, server) in nodes {
        let says = server.json("/v1/transfers").await.unwrap_or_default();
        all.insert(name.clone(), says["repairs"].clone());
    }
    all.into()
}

/// Looks until nothing has been compared for a while.
async fn wait(nodes: &[(String, Servers)]) -> Value {
    let mut quiet = 0;
    let mut last = Value::Null;
    for _ in 0..LOOKS_MAX {
        tokio::time::sleep(LOOK).await;
        let now = look(nodes).await;
        let counts = |all: &Value| sum(all, "exchanges") + sum(all, "waiting");
        let is_quiet = counts(&now) == 0 && sum(&now, "found_keys") == sum(&last, "found_keys");
        quiet = if is_quiet { quiet + 1 } else { 0 };
        last = now;
        if quiet >= QUIET {
            break;
        }
    }
    last
}

fn sum(all: &Value, name: &str) -> u64 {
    let nodes = all.as_object().into_iter().flat_map(|nodes| nodes.values());
    nodes.filter_map(|node| node[name].as_u64()).sum()
}

fn tell(report: &Value) -> String {
    let (before, after) = (&report["before"], &report["after"]);
    let since = |name: &str| sum(after, name).saturating_sub(sum(before, name));
    let mut lines = vec![format!(
        "{} rounds of comparing: {} keys differed, {} states taken, {} brought",
        grouped(since("rounds")),
        grouped(since("found_keys")),
        grouped(since("taken_keys")),
        grouped(since("brought_keys")),
    )];
    for (name, node) in after.as_object().into_iter().flatten() {
        for one in node["unequal"].as_array().into_iter().flatten() {
            lines.push(format!(
                "{name}: partition {} with {}: {}",
                one["partition"],
                said(&one["with"]),
                said(&one["outcome"])
            ));
        }
    }
    lines.extend(shortcomings(report));
    lines.join("\n")
}

/// What was not compared, and what nodes say is wrong with their data.
fn shortcomings(report: &Value) -> Vec<String> {
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let missed: Vec<String> = list("not_reached").iter().map(said).collect();
    let mut lines: Vec<String> =
        list("troubles").iter().map(|trouble| format!("Trouble: {}", said(trouble))).collect();
    if !missed.is_empty() {
        let missed = missed.join(", ");
        lines.push(format!("Not reached, so that nobody knows what they lack: {missed}"));
    }
    lines
}

/// A partition of a group.
type Unit = (u64, u64);

/// The trees of the nodes: by partition and group, what each node's has in its parts.
type Trees = BTreeMap<Unit, BTreeMap<String, Vec<String>>>;

/// The partitions whose trees differ both times, with the nodes and how many of their 32 parts differ; and those that could not be
/// compared.
async fn differing(asked: &mut Asked) -> Value {
    let all: Vec<u64> = (0..asked.partitions).collect();
    let (first, mut incomplete) = trees(asked, &all).await;
    let found: BTreeSet<Unit> =
        first.iter().filter(|(_, of)| parts_apart(of) > 0).map(|(unit, _)| *unit).collect();
    let compared = first.values().filter(|of| of.len() > 1).count();
    let mut differ = Vec::new();
    if !found.is_empty() {
        tokio::time::sleep(LOOK).await;
        let again: BTreeSet<u64> = found.iter().map(|&(partition, _)| partition).collect();
        let (again, more) = trees(asked, &again.into_iter().collect::<Vec<_>>()).await;
        incomplete.extend(more);
        for (unit @ (partition, group), of) in &again {
            let parts = parts_apart(of);
            if parts > 0 && found.contains(unit) {
                let nodes: Vec<&String> = of.keys().collect();
                differ.push(json!({ "group": group, "partition": partition, "parts": parts, "nodes": nodes }));
            }
        }
    }
    json!({
        "partitions": asked.partitions,
        "compared": compared,
        "differ": differ,
        "incomplete": incomplete,
        "not_reached": asked.missed,
        "troubles": asked.troubles,
    })
}

/// The trees of these partitions at all nodes, which are asked at the same time, and the partitions of which some node has none. Whoever
/// does not answer is not asked further.
async fn trees(asked: &mut Asked, partitions: &[u64]) -> (Trees, BTreeSet<u64>) {
    let (mut trees, mut incomplete) = (Trees::new(), BTreeSet::new());
    let mut tasks = JoinSet::new();
    for (name, server) in asked.nodes.clone() {
        let partitions = partitions.to_vec();
        tasks.spawn(async move {
            let mut said = Vec::new();
            for partition in partitions {
                match server.json(&format!("/v1/merkle/{partition}")).await {
                    Ok(says) => said.push((partition, says)),
                    Err(_) => return (name, None),
                }
            }
            (name, Some(said))
        });
    }
    while let Some(told) = tasks.join_next().await {
        let (name, told) = told.expect("asking does not panic");
        let Some(told) = told else {
            asked.nodes.retain(|(one, _)| *one != name);
            asked.missed.insert(name);
            continue;
        };
        for (partition, says) in told {
            for tree in says["trees"].as_array().into_iter().flatten() {
                if tree["complete"] != true {
                    incomplete.insert(partition);
                    continue;
                }
                let parts = tree["nodes"].as_array().into_iter().flatten().map(said).collect();
                let group = tree["group"].as_u64().unwrap_or_default();
                trees.entry((partition, group)).or_default().insert(name.clone(), parts);
            }
        }
    }
    (trees, incomplete)
}

/// How many parts of the trees of one unit are not the same everywhere.
fn parts_apart(of: &BTreeMap<String, Vec<String>>) -> usize {
    let parts = of.values().map(Vec::len).max().unwrap_or(0);
    let kinds = |at: usize| of.values().map(|parts| parts.get(at)).collect::<BTreeSet<_>>().len();
    (0..parts).filter(|&at| kinds(at) > 1).count()
}

fn tell_differing(report: &Value) -> String {
    let differ = report["differ"].as_array().map_or(&[][..], Vec::as_slice);
    let incomplete = report["incomplete"].as_array().map_or(0, Vec::len);
    let mut lines = Vec::new();
    if differ.is_empty() {
        let missed = report["not_reached"].as_array().is_some_and(|missed| !missed.is_empty());
        let which = if missed { "All copies that could be compared" } else { "All copies" };
        lines.push(match (missed, report["compared"].as_u64()) {
            (true, Some(0)) => "No copies could be compared".to_owned(),
            _ => format!("{which} are equal, of {} partitions", report["partitions"]),
        });
    } else {
        let mut rows = table(&[">PARTITION", ">PARTS OF 32", "NODES"]);
        for one in differ {
            let names = one["nodes"].as_array().into_iter().flatten().map(said);
            let names = names.collect::<Vec<_>>().join(", ");
            rows.add_row([one["partition"].to_string(), one["parts"].to_string(), names]);
        }
        lines.push(text(&rows));
        lines.push(format!("{} partitions differ; `rondo repair` makes them equal", differ.len()));
    }
    if incomplete > 0 {
        lines.push(format!(
            "{incomplete} partitions could not be compared at all of their owners yet"
        ));
    }
    lines.extend(shortcomings(report));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_for_people() {
        let mut report = json!({ "partitions": 8, "differ": [], "incomplete": [] });
        assert_eq!(tell_differing(&report), "All copies are equal, of 8 partitions");
        report["not_reached"] = json!(["node-3"]);
        assert!(tell_differing(&report).starts_with("All copies that could be compared are equal"));
        report["differ"] =
            json!([{ "group": 0, "partition": 5, "parts": 2, "nodes": ["node-1", "node-2"] }]);
        report["incomplete"] = json!([3]);
        report["not_reached"] = json!(["node-3"]);
        report["troubles"] = json!(["node-1: a record of a key cannot be read"]);
        insta::assert_snapshot!(tell_differing(&report));
    }

    #[test]
    fn what_was_made_equal_for_people() {
        let node = |rounds: u64, keys: u64, unequal: Value| json!({ "rounds": rounds, "found_keys": keys, "taken_keys": keys / 2, "brought_keys": keys, "unequal": unequal });
        let silent =
            json!([{ "partition": 5, "with": "node-3", "outcome": "the other did not answer" }]);
        let before = json!({ "node-1": node(7, 10, json!([])), "node-2": node(1, 0, json!([])) });
        let after = json!({ "node-1": node(9, 1_210, json!([])), "node-2": node(2, 0, silent) });
        let report =
            json!({ "before": before, "after": after, "not_reached": ["node-3"], "troubles": [] });
        insta::assert_snapshot!(tell(&report));
    }
}
