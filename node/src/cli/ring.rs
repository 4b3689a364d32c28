//! `rondo ring`: who owns what.

use clap::Args;
use serde_json::Value;

use crate::cli::table::{table, text};
use crate::cli::{Client, Output, print};
use crate::failure::Result;

/// Who owns what.
#[derive(Args, Debug)]
pub struct Ring {
    /// Also show the owners of every partition
    #[arg(long)]
    partitions: bool,
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs it.
pub async fn run(command: Ring) -> Result<()> {
    let ring = command.client.servers()?.json("/v1/ring").await?;
    match command.output {
        Output::Json => print(&ring.to_string()),
        Output::Table => print(&show(&ring, command.partitions)),
    }
}

fn show(ring: &Value, partitions: bool) -> String {
    let quorums = &ring["quorums"];
    let head = format!(
        "Layout {}: {} partitions, N={} R={} W={}",
        ring["version"], ring["partitions"], quorums["n"], quorums["r"], quorums["w"]
    );
    let none = Vec::new();
    let nodes = ring["nodes"].as_array().unwrap_or(&none);
    let name = |node: &Value| node["name"].as_str().unwrap_or("?").to_owned();
    let mut rows = table(&["NODE", "ZONE", ">WEIGHT", ">PARTITIONS", ">FIRST", ">SHARE"]);
    for node in nodes {
        rows.add_row([
            name(node),
            node["zone"].as_str().filter(|zone| !zone.is_empty()).unwrap_or("-").to_owned(),
            node["weight"].to_string(),
            node["partitions"].to_string(),
            node["first"].to_string(),
            format!("{:.1}%", node["ownership"].as_f64().unwrap_or_default() * 100.0),
        ]);
    }
    let mut shown = format!("{head}\n\n{}", text(&rows));
    if partitions {
        let mut rows = table(&[">PARTITION", "OWNERS"]);
        for (partition, owners) in ring["owners"].as_array().unwrap_or(&none).iter().enumerate() {
            let owners =
                owners.as_array().unwrap_or(&none).iter().filter_map(|owner| {
                    nodes.get(usize::try_from(owner.as_u64()?).ok()?).map(name)
                });
            rows.add_row([partition.to_string(), owners.collect::<Vec<_>>().join(" ")]);
        }
        shown = format!("{shown}\n\n{}", text(&rows));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ring_for_people() {
        let node = |name: &str, zone: &str| json!({ "name": name, "zone": zone, "weight": 150, "partitions": 2, "first": 1, "ownership": 0.5 });
        let ring = json!({
            "version": 1,
            "partitions": 2,
            "quorums": { "n": 2, "r": 2, "w": 1 },
            "nodes": [node("alpha", ""), node("beta", "east")],
            "owners": [[0, 1], [1, 0]],
        });
        insta::assert_snapshot!(show(&ring, true));
    }
}
