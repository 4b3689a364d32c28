//! `rondo keyspace`: named sets of keys with their own n, R and W.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::cli::cluster::{live, when_free};
use crate::cli::table::{table, text};
use crate::cli::{Client, Output, print};
use crate::client::said;
use crate::failure::Result;

/// Keyspaces.
#[derive(Subcommand, Debug)]
pub enum Keyspace {
    /// Make a keyspace, or change the level, policy or ttl of one
    Create(Create),
    /// List the keyspaces
    List(List),
    /// Drop a keyspace with all its keys
    Drop(Drop),
}

/// `rondo keyspace create`.
#[derive(Args, Debug)]
pub struct Create {
    /// Its name
    name: String,
    /// Replicas of each key [default: as in the keyspace `default`]
    #[arg(short)]
    n: Option<u8>,
    /// Replicas that answer a read [default: a majority]
    #[arg(short)]
    r: Option<u8>,
    /// Replicas that hold a write [default: a majority]
    #[arg(short)]
    w: Option<u8>,
    /// The level of requests that name none: one, quorum or all
    #[arg(long)]
    level: Option<String>,
    /// What becomes of concurrent versions: newest or siblings
    #[arg(long)]
    policy: Option<String>,
    /// How long what is put stays when the request does not say, such as 90s, 15m, 24h; 0 for ever [default: for ever]
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// While none of a key's replicas is reached, the node that is asked takes writes at level one on for them. Fixed when a keyspace is
    /// made
    #[arg(long)]
    sloppy: bool,
    #[command(flatten)]
    client: Client,
}

/// `rondo keyspace list`.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// `rondo keyspace drop`.
#[derive(Args, Debug)]
pub struct Drop {
    /// Its name
    name: String,
    #[command(flatten)]
    client: Client,
}

/// Runs it.
pub async fn run(command: Keyspace) -> Result<()> {
    match command {
        Keyspace::Create(command) => create(&command).await,
        Keyspace::List(command) => {
            let all = command.client.servers()?.json("/v1/keyspaces").await?;
            match command.output {
                Output::Json => print(&all.to_string()),
                Output::Table => print(&show(&all)),
            }
        }
        Keyspace::Drop(command) => {
            let servers = command.client.servers()?;
            let target = format!("/v1/keyspaces/{}", command.name);
            when_free(&servers).await;
            let proposed = servers.send(Method::DELETE, &target, None).await?;
            live(&servers, &proposed).await?;
            print(&format!("the keyspace {} is dropped", command.name))
        }
    }
}

async fn create(command: &Create) -> Result<()> {
    let mut wanted = Map::new();
    for (field, number) in [("n", command.n), ("r", command.r), ("w", command.w)] {
        number.into_iter().for_each(|number| drop(wanted.insert(field.to_owned(), number.into())));
    }
    for (field, word) in [("level", &command.level), ("policy", &command.policy)] {
        let word = word.iter().map(|word| word.to_ascii_lowercase());
        word.for_each(|word| drop(wanted.insert(field.to_owned(), word.into())));
    }
    if let Some(ttl) = &command.ttl {
        wanted.insert("ttl".to_owned(), ttl.as_str().into());
    }
    if command.sloppy {
        wanted.insert("sloppy".to_owned(), true.into());
    }
    let servers = command.client.servers()?;
    let target = format!("/v1/keyspaces/{}", command.name);
    when_free(&servers).await;
    let proposed = servers.send(Method::PUT, &target, Some(&json!(wanted))).await?;
    live(&servers, &proposed).await?;
    print(&format!("the keyspace {} is there; its keys are at /v1/kv/{0}/KEY", command.name))
}

fn show(all: &Value) -> String {
    let mut rows = table(&["KEYSPACE", ">N", ">R", ">W", "LEVEL", "POLICY", ">TTL", "SLOPPY"]);
    for keyspace in all["keyspaces"].as_array().into_iter().flatten() {
        let number = |name: &str| match (&keyspace["quorums"][name], &keyspace["wanted"][name]) {
            (now, wanted) if now == wanted => now.to_string(),
            (now, wanted) => format!("{now} of {wanted}"),
        };
        rows.add_row([
            said(&keyspace["name"]),
            number("n"),
            number("r"),
            number("w"),
            said(&keyspace["level"]),
            said(&keyspace["policy"]),
            ttl(keyspace["ttl_ms"].as_u64().unwrap_or(0)),
            if keyspace["sloppy"] == true { "yes" } else { "no" }.to_owned(),
        ]);
    }
    text(&rows)
}

/// How long values stay, in the largest unit that tells it whole.
fn ttl(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    match units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => "for ever".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_for_people() {
        let quorums = |n: u8, r: u8, w: u8| json!({ "n": n, "r": r, "w": w });
        let keyspace = |name: &str, now: Value, wanted: Value| json!({ "name": name, "quorums": now, "wanted": wanted, "level": "quorum", "policy": "newest" });
        let all = json!({ "keyspaces": [
            keyspace("carts", quorums(2, 2, 2), quorums(5, 3, 3)),
            keyspace("default", quorums(3, 2, 2), quorums(3, 2, 2)),
        ] });
        insta::assert_snapshot!(show(&all));
    }
}
