//! `rondo status`: health first, then the nodes, then what they do.

use std::time::{Duration, Instant};

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::cli::table::{bytes, grouped, micros, table, text};
use crate::cli::{Client, Output, duration, print};
use crate::client::{Ask, Servers};
use crate::failure::{Failure, Kind, Result};

/// How often to look whether a server is ready.
const LOOK: Duration = Duration::from_millis(50);

/// The health of the cluster.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Wait first until every server named is ready, at most this long
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "30s")]
    wait: Option<Duration>,
}

/// Runs it.
pub async fn run(command: Status) -> Result<()> {
    let servers = command.client.servers()?;
    if let Some(patience) = command.wait {
        wait(&servers, patience).await?;
    }
    let cluster = servers.json("/v1/cluster").await?;
    let mut nodes = Vec::new();
    for member in cluster["members"].as_array().into_iter().flatten() {
        let status = match (member["state"].as_str(), member["client_address"].as_str()) {
            (Some("alive"), Some(address)) => status_of(address, &servers).await,
            _ => Value::Null,
        };
        nodes.push(json!({ "member": member, "status": status }));
    }
    let all = json!({ "cluster": cluster, "nodes": nodes });
    match command.output {
        Output::Json => print(&all.to_string()),
        Output::Table => print(&show(&all)),
    }
}

/// Waits until every server is ready.
async fn wait(servers: &Servers, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    for server in servers.list() {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let ready = Servers::parse(server, left)?.ask(&Ask::new(Method::GET, "/ready")).await;
            let why = match &ready {
                Ok(answer) if answer.status == StatusCode::OK => break,
                Ok(answer) => reasons(&answer.body),
                Err(failure) => failure.message.clone(),
            };
            if left < LOOK {
                let message = format!("{server} is not ready after {}: {why}", shown(patience));
                let hint = "read its log, or wait longer with --wait TIME";
                return Err(Failure { kind: Kind::Quorum, message, hint: hint.to_owned() });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// What a node that is not ready waits for.
fn reasons(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let waiting = body["waiting"].as_array().into_iter().flatten().filter_map(Value::as_str);
    waiting.collect::<Vec<_>>().join("; ")
}

fn shown(time: Duration) -> String {
    micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// A node's own status; null where it does not answer.
async fn status_of(address: &str, servers: &Servers) -> Value {
    match Servers::parse(address, servers.timeout()) {
        Ok(server) => server.json("/v1/status").await.unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

fn show(all: &Value) -> String {
    let none = Vec::new();
    let nodes = all["nodes"].as_array().unwrap_or(&none);
    let alive = nodes.iter().filter(|node| node["member"]["state"] == "alive").count();
    let share = if nodes.is_empty() { 0.0 } else { alive as f64 * 100.0 / nodes.len() as f64 };
    let health = format!(
        "Health: {}, {alive} alive, {} dead ({share:.1}% availability)",
        if nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", nodes.len()) },
        nodes.len() - alive,
    );
    let waiting: Vec<_> = all["cluster"]["waiting"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|reason| format!("Not ready: {reason}\n"))
        .collect();
    let mut who = table(&["NODE", "STATE", ">LAST SEEN", "CLIENTS", "PEERS", "LAYOUT"]);
    let mut what = table(&[
        "NODE",
        ">REQUESTS",
        ">GETS",
        ">MEAN GET",
        ">PUTS",
        ">MEAN PUT",
        ">FAILED",
        ">KEYS",
        ">STORAGE",
    ]);
    for node in nodes {
        who.add_row(who_row(&node["member"]));
        what.add_row(what_row(&node["member"], &node["status"]));
    }
    format!("{health}\n{}\n{}\n\n{}", waiting.concat(), text(&who), text(&what))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn who_row(member: &Value) -> [String; 6] {
    let seen = match (member["me"].as_bool(), member["last_heard_ms"].as_u64()) {
        (Some(true), _) => "now".to_owned(),
        (_, Some(ms)) => format!("{} ago", micros(ms.saturating_mul(1000))),
        _ => "never".to_owned(),
    };
    [
        text_of(&member["name"]),
        text_of(&member["state"]),
        seen,
        text_of(&member["client_address"]),
        text_of(&member["peer_address"]),
        if member["in_layout"] == true { "in" } else { "out" }.to_owned(),
    ]
}

fn what_row(member: &Value, status: &Value) -> Vec<String> {
    let mut row = vec![text_of(&member["name"])];
    if status.is_null() {
        row.resize(9, "-".to_owned());
        return row;
    }
    let counter = |name: &str| status["counters"][name].as_u64().unwrap_or_default();
    let mean = |name: &str| status[name].as_u64().map_or("-".to_owned(), micros);
    let failed = counter("unavailable") + counter("indeterminate") + counter("overloaded");
    row.extend([
        grouped(counter("gets") + counter("puts")),
        grouped(counter("gets")),
        mean("mean_get_us"),
        grouped(counter("puts")),
        mean("mean_put_us"),
        grouped(failed),
        grouped(status["engine"]["keys"].as_u64().unwrap_or_default()),
        bytes(status["engine"]["disk_bytes"].as_u64().unwrap_or_default()),
    ]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, state: &str, status: Value) -> Value {
        json!({
            "member": {
                "name": name, "state": state, "last_heard_ms": 40, "me": name == "alpha", "in_layout": true,
                "client_address": "127.0.0.1:8081", "peer_address": "127.0.0.1:7947",
            },
            "status": status,
        })
    }

    #[test]
    fn health_comes_first() {
        let busy = json!({
            "counters": { "gets": 12_000, "puts": 3_000, "unavailable": 2, "indeterminate": 1 },
            "mean_get_us": 210, "mean_put_us": 1_500,
            "engine": { "keys": 3_000, "disk_bytes": 5 << 20 },
        });
        let all = json!({
            "cluster": { "waiting": [] },
            "nodes": [node("alpha", "alive", busy), node("beta", "alive", json!({})), node("gamma", "dead", Value::Null)],
        });
        insta::assert_snapshot!(show(&all));
    }

    #[test]
    fn a_node_that_waits_says_for_what() {
        let all = json!({
            "cluster": { "waiting": ["2 more nodes"] },
            "nodes": [node("alpha", "alive", Value::Null)],
        });
        let shown = show(&all);
        assert!(shown.starts_with(
            "Health: 1 node, 1 alive, 0 dead (100.0% availability)\nNot ready: 2 more nodes\n"
        ));
    }
}
