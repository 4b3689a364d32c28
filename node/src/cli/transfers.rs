//! `rondo transfers`: which data moves, from whom to whom, and how far it is.
//!
//! On a terminal it shows the progress until all data is where it belongs; elsewhere it looks once. Every node is asked for
//! what it takes itself.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::table::{bytes, grouped, table, text};
use crate::cli::{Client, Output, print};
use crate::client::{Servers, said};
use crate::failure::Result;

/// How often to look.
const LOOK: Duration = Duration::from_millis(500);

/// Which data moves.
#[derive(Args, Debug)]
pub struct Transfers {
    /// Look once, on a terminal too
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs it.
pub async fn run(command: Transfers) -> Result<()> {
    let servers = command.client.servers()?;
    let watches = io::stdout().is_terminal() && !command.once && command.output == Output::Table;
    let mut all = look(&servers).await?;
    if watches && partial(&all) > 0 {
        watch(&servers, &mut all).await?;
    }
    match command.output {
        Output::Json => print(&all.to_string()),
        Output::Table => print(&show(&all)),
    }
}

/// Shows a bar until nothing is taken any more.
async fn watch(servers: &Servers, all: &mut Value) -> Result<()> {
    let most = partial(all);
    let bar = ProgressBar::new(most);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} partitions  {msg}");
    bar.set_style(style.expect("a sound template"));
    while partial(all) > 0 {
        // More may have been added by another change.
        bar.set_length(most.max(partial(all)));
        bar.set_position(bar.length().unwrap_or_default() - partial(all));
        bar.set_message(waits(all));
        tokio::time::sleep(LOOK).await;
        *all = look(servers).await?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// What every node says that can be reached.
async fn look(servers: &Servers) -> Result<Value> {
    let cluster = servers.json("/v1/cluster").await?;
    let all = servers.each_node(&cluster, "/v1/transfers").await.into_iter();
    let nodes = all.map(
        |(member, says)| json!({ "name": member["name"], "role": member["role"], "says": says }),
    );
    Ok(json!({ "change": cluster["change"], "nodes": nodes.collect::<Vec<_>>() }))
}

fn nodes(all: &Value) -> impl Iterator<Item = &Value> {
    all["nodes"].as_array().into_iter().flatten()
}

/// How many partitions still move, to all nodes together.
fn partial(all: &Value) -> u64 {
    nodes(all).filter_map(|node| node["says"]["change"]["partial"].as_u64()).sum()
}

fn waits(all: &Value) -> String {
    all["change"]["waits"].as_str().unwrap_or_default().to_owned()
}

fn show(all: &Value) -> String {
    let two_live = all["change"]["live"].as_array().is_some_and(|live| live.len() > 1);
    let silent: Vec<String> = nodes(all)
        .filter(|node| node["says"].is_null() && node["role"] != "outside")
        .map(|node| said(&node["name"]))
        .collect();
    if partial(all) == 0 && !two_live && silent.is_empty() {
        return "Nothing moves: all data is where it belongs".to_owned();
    }
    let mut rows =
        table(&["NODE", "ROLE", ">OWNS", ">LACKS", ">KEYS TAKEN", ">BYTES TAKEN", ">TO GIVE"]);
    for node in nodes(all) {
        let (change, transfers) = (&node["says"]["change"], &node["says"]["transfers"]);
        let number = |of: &Value, name: &str| of[name].as_u64();
        let shown = |number: Option<u64>| number.map_or("-".to_owned(), grouped);
        rows.add_row([
            said(&node["name"]),
            said(&node["role"]),
            shown(number(change, "units")),
            shown(number(change, "partial")),
            shown(number(transfers, "taken_keys")),
            number(transfers, "taken_bytes").map_or("-".to_owned(), bytes),
            shown(number(transfers, "leaving_units")),
        ]);
    }
    let mut lines = vec![text(&rows), String::new()];
    lines.extend(nodes(all).flat_map(troubles));
    if !silent.is_empty() {
        lines.push(format!("not reached: {}", silent.join(", ")));
    }
    lines.push(match (two_live, waits(all)) {
        (true, waits) if !waits.is_empty() => waits,
        (true, _) => "the older layout is about to be dropped".to_owned(),
        (false, _) => format!("{} partitions are being taken", grouped(partial(all))),
    });
    lines.join("\n")
}

/// What a node cannot take, and why, a line each.
fn troubles(node: &Value) -> Vec<String> {
    let taking = node["says"]["transfers"]["taking"].as_array().into_iter().flatten();
    let stuck = taking.filter_map(|one| {
        let from = one["from"].as_str().unwrap_or("its sources");
        let trouble = one["trouble"].as_str()?;
        let (name, partition) = (said(&node["name"]), &one["partition"]);
        Some(format!("{name} does not get partition {partition} from {from}: {trouble}"))
    });
    stuck.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_for_people() {
        let says = |partial: u64, taking: Value| {
            json!({
                "change": { "units": 192, "partial": partial },
                "transfers": { "taken_keys": 12_000, "taken_bytes": 3 << 20, "leaving_units": 0, "taking": taking },
            })
        };
        let stuck = json!([{ "partition": 7, "from": "node-2", "trouble": "it does not answer" }]);
        let mut all = json!({
            "change": { "live": [1, 2], "waits": "layout 2 waits for node-4 to have the keys that they own" },
            "nodes": [
                { "name": "node-1", "role": "member", "says": says(0, json!([])) },
                { "name": "node-2", "role": "member", "says": null },
                { "name": "node-4", "role": "joining", "says": says(12, stuck) },
            ],
        });
        insta::assert_snapshot!(show(&all));
        all["change"] = json!({ "live": [2] });
        all["nodes"] = json!([{ "name": "node-1", "role": "member", "says": says(0, json!([])) }]);
        assert_eq!(show(&all), "Nothing moves: all data is where it belongs");
    }
}
