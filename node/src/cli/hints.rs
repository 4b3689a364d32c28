//! `rondo hints`: which nodes owe others what those have missed, and how much.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::table::{bytes, grouped, table, text};
use crate::cli::{Client, Output, print};
use crate::client::{Servers, said};
use crate::failure::Result;

/// Writes that nodes have missed, and who keeps them for them.
#[derive(Args, Debug)]
pub struct Hints {
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs it.
pub async fn run(command: Hints) -> Result<()> {
    let all = look(&command.client.servers()?).await?;
    match command.output {
        Output::Json => print(&all.to_string()),
        Output::Table => print(&show(&all)),
    }
}

/// What every node says that can be reached.
async fn look(servers: &Servers) -> Result<Value> {
    let cluster = servers.json("/v1/cluster").await?;
    let all = servers.each_node(&cluster, "/v1/hints").await.into_iter();
    let nodes = all.map(|(member, says)| json!({ "name": member["name"], "hints": says["hints"] }));
    Ok(json!({ "nodes": nodes.collect::<Vec<_>>() }))
}

fn show(all: &Value) -> String {
    let nodes = || all["nodes"].as_array().into_iter().flatten();
    let mut rows = table(&["NODE", "OWES TO", "WHICH IS", ">KEYS", ">BYTES", ">OLDEST"]);
    let mut count = 0;
    for node in nodes() {
        for of in node["hints"]["targets"].as_array().into_iter().flatten() {
            count += 1;
            let number = |name: &str| of[name].as_u64().unwrap_or_default();
            rows.add_row([
                said(&node["name"]),
                said(&of["name"]),
                said(&of["state"]),
                grouped(number("hints")),
                bytes(number("bytes")),
                format!("{} s", grouped(number("oldest_ms") / 1_000)),
            ]);
        }
    }
    let mut lines = match count {
        0 => {
            vec!["Nobody owes anything: no node has missed a write that is kept for it".to_owned()]
        }
        _ => vec![text(&rows)],
    };
    for node in nodes() {
        let (name, hints) = (said(&node["name"]), &node["hints"]);
        let number = |of: &str| hints[of].as_u64().unwrap_or_default();
        if hints.is_null() {
            lines.push(format!("not reached: {name}"));
        }
        if number("unreadable") > 0 {
            lines
                .push(format!("{name} cannot read {} hints, and keeps them", number("unreadable")));
        }
        if number("behind") > 0 {
            let behind = grouped(number("behind"));
            lines.push(format!(
                "{name} had no room for hints of {behind} partitions: reads repair those"
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_for_people() {
        let target = json!({ "name": "node-2", "state": "dead", "hints": 12_000, "bytes": 3 << 20, "oldest_ms": 61_500 });
        let mut all = json!({ "nodes": [
            { "name": "node-1", "hints": { "targets": [target], "unreadable": 1, "behind": 4 } },
            { "name": "node-2", "hints": null },
        ] });
        insta::assert_snapshot!(show(&all));
        all["nodes"] = json!([{ "name": "node-1", "hints": { "targets": [] } }]);
        assert!(show(&all).starts_with("Nobody owes anything"));
    }
}
