//! `rondo repair`: has all nodes compare their copies now, and tells what came of it; with `--dry-run` which copies differ, without
//! changing anything.
//!
//! A partition that differs is looked at a second time, because writes arrive at their owners one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::table::{grouped, table, text};
use crate::cli::{Client, Output, print};
use crate::client::{Servers, said};
use crate::failure::Result;

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
    let nodes = nodes(&command.client.servers()?).await?;
    let (report, told) = if command.dry_run {
        let report = differing(&nodes).await?;
        let told = tell_differing(&report);
        (report, told)
    } else {
        let before = look(&nodes).await;
        for (_, server) in &nodes {
            server.send(Method::POST, "/v1/repair", None).await?;
        }
        let after = wait(&nodes).await;
        let told = tell(&before, &after);
        (json!({ "before": before, "after": after }), told)
    };
    match command.output {
        Output::Json => print(&report.to_string()),
        Output::Table => print(&told),
    }
}

/// The nodes that can be reached, by name.
async fn nodes(servers: &Servers) -> Result<Vec<(String, Servers)>> {
    let cluster = servers.json("/v1/cluster").await?;
    let members = cluster["members"].as_array().into_iter().flatten();
    let alive = members.filter(|member| member["state"] == "alive" && member["in_layout"] == true);
    let server = |member: &Value| {
        let address = member["client_address"].as_str().unwrap_or_default();
        Some((said(&member["name"]), Servers::parse(address, servers.timeout()).ok()?))
    };
    Ok(alive.filter_map(server).collect())
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

fn tell(before: &Value, after: &Value) -> String {
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
    lines.join("\n")
}

/// The partitions whose trees differ both times, with the nodes and how many of their 32 parts differ; and those that could not be
/// compared.
async fn differing(nodes: &[(String, Servers)]) -> Result<Value> {
    let Some((_, first)) = nodes.first() else {
        return Ok(json!({ "partitions": 0, "differ": [], "incomplete": [] }));
    };
    let ring = first.json("/v1/ring").await?;
    let partitions = ring["partitions"].as_u64().unwrap_or_default();
    let (mut differ, mut incomplete) = (Vec::new(), BTreeSet::new());
    for partition in 0..partitions {
        let found = compare(nodes, partition, &mut incomplete).await;
        if found.is_empty() {
            continue;
        }
        tokio::time::sleep(LOOK).await;
        let again = compare(nodes, partition, &mut incomplete).await;
        differ.extend(again.into_iter().filter(|(group, _)| found.contains_key(group)).map(
            |(group, (parts, names))| {
                json!({ "group": group, "partition": partition, "parts": parts, "nodes": names })
            },
        ));
    }
    Ok(json!({ "partitions": partitions, "differ": differ, "incomplete": incomplete }))
}

/// By group: how many parts of a partition differ, and between which nodes.
async fn compare(
    nodes: &[(String, Servers)],
    partition: u64,
    incomplete: &mut BTreeSet<u64>,
) -> BTreeMap<u64, (usize, Vec<String>)> {
    let mut trees: BTreeMap<u64, Vec<(String, Vec<String>)>> = BTreeMap::new();
    for (name, server) in nodes {
        let says = server.json(&format!("/v1/merkle/{partition}")).await.unwrap_or_default();
        for tree in says["trees"].as_array().into_iter().flatten() {
            if tree["complete"] != true {
                incomplete.insert(partition);
                continue;
            }
            let parts = tree["nodes"].as_array().into_iter().flatten().map(said).collect();
            let of = trees.entry(tree["group"].as_u64().unwrap_or_default()).or_default();
            of.push((name.clone(), parts));
        }
    }
    let differ = |all: &Vec<(String, Vec<String>)>| {
        let parts = all.first().map_or(0, |(_, parts)| parts.len());
        let part =
            |at: usize| all.iter().map(move |(_, parts)| parts.get(at)).collect::<BTreeSet<_>>();
        (0..parts).filter(|at| part(*at).len() > 1).count()
    };
    let found = trees.into_iter().map(|(group, all)| (group, differ(&all), all));
    found
        .filter(|(_, parts, _)| *parts > 0)
        .map(|(group, parts, all)| {
            (group, (parts, all.into_iter().map(|(name, _)| name).collect()))
        })
        .collect()
}

fn tell_differing(report: &Value) -> String {
    let differ = report["differ"].as_array().map_or(&[][..], Vec::as_slice);
    let incomplete = report["incomplete"].as_array().map_or(0, Vec::len);
    let mut lines = Vec::new();
    if differ.is_empty() {
        lines.push(format!("All copies are equal, of {} partitions", report["partitions"]));
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
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_for_people() {
        let mut report = json!({ "partitions": 8, "differ": [], "incomplete": [] });
        assert_eq!(tell_differing(&report), "All copies are equal, of 8 partitions");
        report["differ"] =
            json!([{ "group": 0, "partition": 5, "parts": 2, "nodes": ["node-1", "node-2"] }]);
        report["incomplete"] = json!([3]);
        insta::assert_snapshot!(tell_differing(&report));
    }

    #[test]
    fn what_was_made_equal_for_people() {
        let node = |rounds: u64, keys: u64, unequal: Value| json!({ "rounds": rounds, "found_keys": keys, "taken_keys": keys / 2, "brought_keys": keys, "unequal": unequal });
        let silent =
            json!([{ "partition": 5, "with": "node-3", "outcome": "the other did not answer" }]);
        let before = json!({ "node-1": node(7, 10, json!([])), "node-2": node(1, 0, json!([])) });
        let after = json!({ "node-1": node(9, 1_210, json!([])), "node-2": node(2, 0, silent) });
        insta::assert_snapshot!(tell(&before, &after));
    }
}
