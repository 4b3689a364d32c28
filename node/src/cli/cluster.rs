//! `rondo cluster`: changes of the cluster, staged, planned and committed.
//!
//! `join`, `leave` and `replace` stage a change, which moves nothing; `plan` shows what it would move; `commit` makes it so, and
//! waits until the new layout is live, or with `--wait` until all data is where it belongs.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::silence;
use crate::cli::table::{table, text};
use crate::cli::watch::Watch;
use crate::cli::{Client, Output, duration, print};
use crate::client::{Servers, said};
use crate::failure::{Failure, Kind, Result};

/// How long a proposed layout may take to become live before the command gives up looking.
const LIVE_PATIENCE: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Changes of the cluster.
#[derive(Subcommand, Debug)]
pub enum Cluster {
    /// Show the layouts that are live, and what is staged
    Layout(Common),
    /// Stage that a running node gets a part of the data
    Join(Join),
    /// Stage that a member hands its data to the others
    Leave(Leave),
    /// Stage that a running node takes the place of a member
    Replace(Replace),
    /// Take back all that is staged
    Unstage(Common),
    /// Show what the staged changes would move
    Plan(Common),
    /// Make the staged changes
    Commit(Commit),
    /// Wait no longer for a dead node, while one layout takes the place of another
    SkipDead(SkipDead),
}

/// Whom to ask, and how to print.
#[derive(Args, Debug)]
pub struct Common {
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Whether a change is made at once.
#[derive(Args, Debug)]
pub struct Now {
    /// Commit this change at once, alone, and wait until its layout is live
    #[arg(long)]
    commit: bool,
    /// And wait until all data is where it belongs, at most this long
    #[arg(long, requires = "commit", value_parser = duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "10m")]
    wait: Option<Duration>,
}

/// `rondo cluster join`.
#[derive(Args, Debug)]
pub struct Join {
    /// The node's name, as `rondo status` shows it
    node: String,
    /// Its share of the data, relative to the others' [default: its own --vnodes]
    #[arg(long)]
    weight: Option<u32>,
    /// Its failure domain [default: its own --zone]
    #[arg(long)]
    zone: Option<String>,
    #[command(flatten)]
    now: Now,
    #[command(flatten)]
    common: Common,
}

/// `rondo cluster leave`.
#[derive(Args, Debug)]
pub struct Leave {
    /// The member's name
    node: String,
    #[command(flatten)]
    now: Now,
    #[command(flatten)]
    common: Common,
}

/// `rondo cluster replace`.
#[derive(Args, Debug)]
pub struct Replace {
    /// The member's name
    old: String,
    /// The name of the running node that takes its place
    new: String,
    #[command(flatten)]
    now: Now,
    #[command(flatten)]
    common: Common,
}

/// `rondo cluster commit`.
#[derive(Args, Debug)]
pub struct Commit {
    /// The version that `rondo cluster plan` has shown; another one is refused
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Wait until all data is where it belongs, at most this long
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "10m")]
    wait: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

/// `rondo cluster skip-dead`.
#[derive(Args, Debug)]
pub struct SkipDead {
    /// The member's name
    node: String,
    /// Only for a node that is destroyed: nor wait for its vote, or for what its disk alone may have had: those writes are lost. If it
    /// still runs, cut off from here, it is outside of the cluster afterwards, and what it acknowledges meanwhile is no part of it
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs it.
pub async fn run(command: Cluster) -> Result<()> {
    match command {
        Cluster::Layout(common) => {
            let layouts = common.client.servers()?.json("/v1/cluster/layout").await?;
            common.show(&layouts, show_layouts)
        }
        Cluster::Join(Join { node, weight, zone, now, common }) => {
            let mut change = json!({ "node": node });
            weight.into_iter().for_each(|weight| change["weight"] = weight.into());
            zone.into_iter().for_each(|zone| change["zone"] = zone.into());
            common.stage("/v1/cluster/join", &change, &now).await
        }
        Cluster::Leave(Leave { node, now, common }) => {
            common.gone(std::slice::from_ref(&node), &now).await?;
            common.stage("/v1/cluster/leave", &json!({ "node": node }), &now).await
        }
        Cluster::Replace(Replace { old, new, now, common }) => {
            common.gone(std::slice::from_ref(&old), &now).await?;
            common.stage("/v1/cluster/replace", &json!({ "old": old, "new": new }), &now).await
        }
        Cluster::Unstage(common) => {
            let servers = common.client.servers()?;
            let layouts = servers.send(Method::DELETE, "/v1/cluster/layout/stage", None).await?;
            common.show(&layouts, |_| "nothing is staged any more".to_owned())
        }
        Cluster::Plan(common) => {
            let servers = common.client.servers()?;
            let plan = servers.send(Method::POST, "/v1/cluster/plan", None).await?;
            common.show(&plan, show_plan)
        }
        Cluster::Commit(command) => commit(&command).await,
        Cluster::SkipDead(SkipDead { node, accept_loss, common }) => {
            let servers = common.client.servers()?;
            let body = json!({ "node": node, "accept_loss": accept_loss });
            let target = "/v1/cluster/layout/skip-dead";
            let layouts = servers.send(Method::POST, target, Some(&body)).await?;
            common.show(&layouts, |_| skipped(&node, accept_loss))
        }
    }
}

/// What comes of it, in words.
fn skipped(node: &str, accept_loss: bool) -> String {
    let waits = format!("Nobody waits for {node} while this layout comes");
    match accept_loss {
        true => format!(
            "{waits}. Acknowledged writes that only {node} had are lost, and nothing tells which: a key shows what the \
             others have. This is for a node that is destroyed: should {node} run, cut off from here, it is outside of the cluster \
             from now on, and what it acknowledges is no part of it: stop it"
        ),
        false => format!(
            "{waits}. Where `rondo status` says that partitions wait for writes that only {node} may have, start it, or \
             give them up with `--accept-loss`. A layout that is proposed needs more than half of the nodes all the same"
        ),
    }
}

impl Common {
    /// Before these go at once: whether they run.
    async fn gone(&self, nodes: &[String], now: &Now) -> Result<()> {
        if now.commit {
            silence::known(&self.client.servers()?, nodes).await;
        }
        Ok(())
    }

    async fn stage(&self, target: &str, change: &Value, now: &Now) -> Result<()> {
        let servers = self.client.servers()?;
        if now.commit {
            let target = format!("{target}?commit=true");
            let proposed = servers.send(Method::POST, &target, Some(change)).await?;
            return self.wait(&servers, &proposed, now.wait).await;
        }
        let layouts = servers.send(Method::POST, target, Some(change)).await?;
        self.show(&layouts, |layouts| {
            if list(&layouts["staged"]).next().is_none() {
                return "Nothing is staged: that is so already".to_owned();
            }
            format!(
                "{}\n\nNothing has moved yet: `rondo cluster plan` shows what would, `rondo cluster commit` does it",
                show_staged(layouts)
            )
        })
    }

    /// Waits for a layout that was proposed.
    async fn wait(
        &self,
        servers: &Servers,
        proposed: &Value,
        patience: Option<Duration>,
    ) -> Result<()> {
        let version = proposed["proposed"].as_u64().unwrap_or_default();
        live(servers, proposed).await?;
        if let Some(patience) = patience {
            settled(servers, patience).await?;
        }
        self.show(&json!({ "live": version }), |_| match patience {
            Some(_) => format!("layout {version} is live, and all data is where it belongs"),
            None => format!("layout {version} is live; `rondo transfers` shows how the data moves"),
        })
    }

    fn show(&self, answer: &Value, show: impl Fn(&Value) -> String) -> Result<()> {
        match self.output {
            Output::Json => print(&answer.to_string()),
            Output::Table => print(&show(answer)),
        }
    }
}

async fn commit(command: &Commit) -> Result<()> {
    let servers = command.common.client.servers()?;
    let plan = servers.send(Method::POST, "/v1/cluster/plan", None).await?;
    let goes = list(&plan["changes"]).filter_map(|change| match change["change"].as_str()? {
        "leave" => change["node"].as_str(),
        "replace" => change["old"].as_str(),
        _ => None,
    });
    silence::known(&servers, &goes.map(str::to_owned).collect::<Vec<_>>()).await;
    let version = match command.version {
        Some(version) => json!(version),
        None => plan["version"].clone(),
    };
    let body = json!({ "version": version });
    let proposed = servers.send(Method::POST, "/v1/cluster/commit", Some(&body)).await?;
    command.common.wait(&servers, &proposed, command.wait).await
}

/// Waits until a layout that was proposed is live: more than half of the nodes have endorsed it. Another layout of its version may
/// have got their votes.
pub async fn live(servers: &Servers, proposed: &Value) -> Result<()> {
    let version = proposed["proposed"].as_u64().unwrap_or_default();
    let end = Instant::now() + LIVE_PATIENCE;
    loop {
        // A server that does not answer now may answer later.
        let layouts = servers.json("/v1/cluster/layout").await.unwrap_or_default();
        match outcome(&layouts, version, &proposed["digest"]) {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(Failure {
                    kind: Kind::Failed,
                    message: format!(
                        "layout {version} is live, and it is another one: somebody else committed at the same time"
                    ),
                    hint: "what you wanted is still staged: `rondo cluster plan` shows it, `rondo cluster commit` does it".to_owned(),
                });
            }
            None => {}
        }
        if Instant::now() > end {
            return Err(Failure {
                kind: Kind::Quorum,
                message: format!(
                    "layout {version} is proposed, and not live after {} s: too few nodes have endorsed it",
                    LIVE_PATIENCE.as_secs()
                ),
                hint: "it becomes live by itself when more than half of the nodes are up; `rondo status` shows who is away, \
                       and `rondo cluster skip-dead --accept-loss` is for one that is destroyed"
                    .to_owned(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the layout that was proposed is live, or another one of its version; `None` while none is.
fn outcome(layouts: &Value, version: u64, digest: &Value) -> Option<bool> {
    let number = |live: &Value| live["version"].as_u64();
    let same = list(&layouts["live"]).find(|live| number(live) == Some(version));
    let later = || list(&layouts["live"]).any(|live| number(live) > Some(version));
    // Where a later one has taken its place nobody can tell any more.
    same.map(|live| live["digest"] == *digest).or_else(|| later().then_some(true))
}

/// Waits for a change that is under way, since one follows the other; not longer than one usually takes. Who asks then is told what
/// it waits for.
pub async fn when_free(servers: &Servers) {
    let end = Instant::now() + LIVE_PATIENCE;
    let mut is_told = false;
    // A server that does not answer now may answer the question itself.
    while let Ok(cluster) = servers.json("/v1/cluster").await {
        if cluster["settled"] == true || Instant::now() > end {
            return;
        }
        if !std::mem::replace(&mut is_told, true) {
            eprintln!("waiting for the change before this one");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until one layout is live, and all data is where it belongs.
pub async fn settled(servers: &Servers, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    let mut watch = Watch::new(servers);
    loop {
        let cluster = watch.look("/v1/cluster").await?;
        if cluster["settled"] == true {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Failure {
                kind: Kind::Quorum,
                message: format!("not all data is where it belongs after {} s", patience.as_secs()),
                hint: "it goes on; `rondo transfers` shows how far it is, and `rondo status` who waits for whom".to_owned(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn show_layouts(layouts: &Value) -> String {
    let mut shown = Vec::new();
    for live in list(&layouts["live"]) {
        let mut rows = table(&["NODE", "ZONE", ">WEIGHT"]);
        for node in list(&live["nodes"]) {
            let zone = said(&node["zone"]);
            let zone = if zone.is_empty() { "-".to_owned() } else { zone };
            rows.add_row([said(&node["name"]), zone, node["weight"].to_string()]);
        }
        shown.push(format!("Layout {} is live\n\n{}", live["version"], text(&rows)));
    }
    if shown.is_empty() {
        shown.push("No layout is live".to_owned());
    }
    if let Some(proposed) = layouts["proposed"].as_u64() {
        shown.push(format!("Layout {proposed} is proposed, and not live yet"));
    }
    shown.push(show_staged(layouts));
    shown.join("\n\n")
}

fn show_staged(layouts: &Value) -> String {
    let lines: Vec<String> = list(&layouts["staged"]).map(in_words).collect();
    if lines.is_empty() {
        return "Nothing is staged".to_owned();
    }
    format!("Staged:\n{}", lines.join("\n"))
}

/// A change, in words.
fn in_words(change: &Value) -> String {
    let name = |field: &str| said(&change[field]);
    let words = match change["change"].as_str().unwrap_or_default() {
        "join" => {
            let weight = change["weight"].as_u64().map(|weight| format!(", weight {weight}"));
            let zone = change["zone"].as_str().filter(|zone| !zone.is_empty());
            let zone = zone.map(|zone| format!(", zone {zone}"));
            format!(
                "{} joins{}{}",
                name("node"),
                weight.unwrap_or_default(),
                zone.unwrap_or_default()
            )
        }
        "leave" => format!("{} leaves", name("node")),
        "replace" => format!("{} takes the place of {}", name("new"), name("old")),
        "keyspace" => format!("the keyspace {} is made or changed", name("name")),
        "drop-keyspace" => format!("the keyspace {} is dropped, with all its keys", name("name")),
        other => other.to_owned(),
    };
    format!("  {words}")
}

fn show_plan(plan: &Value) -> String {
    let changes: Vec<String> = list(&plan["changes"]).map(in_words).collect();
    let mut rows = table(&["NODE", "ZONE", ">OWNS", ">WILL OWN", ">GETS"]);
    for node in list(&plan["nodes"]) {
        let zone = said(&node["zone"]);
        rows.add_row([
            said(&node["name"]),
            if zone.is_empty() { "-".to_owned() } else { zone },
            node["owns"].to_string(),
            node["will_own"].to_string(),
            node["gets"].to_string(),
        ]);
    }
    let version = &plan["version"];
    format!(
        "Layout {version} would have these changes:\n{}\n\n{}\n\n{} of {} replicas of partitions move\n\
         `rondo cluster commit --version {version}` makes it so",
        changes.join("\n"),
        text(&rows),
        plan["moves"],
        plan["replicas"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_for_people() {
        let node = |name: &str, owns: u64, will_own: u64, gets: u64| json!({ "name": name, "zone": "", "owns": owns, "will_own": will_own, "gets": gets });
        let plan = json!({
            "version": 3, "moves": 192, "replicas": 768,
            "changes": [
                { "change": "join", "node": "node-4", "weight": 150, "zone": "" },
                { "change": "join", "node": "node-5", "weight": 75, "zone": "east" },
                { "change": "leave", "node": "node-1" },
                { "change": "replace", "old": "node-2", "new": "node-6" },
                { "change": "keyspace", "name": "carts", "wanted": {} },
                { "change": "drop-keyspace", "name": "old" },
            ],
            "nodes": [node("node-1", 256, 0, 0), node("node-4", 0, 192, 192)],
        });
        insta::assert_snapshot!(show_plan(&plan));
    }

    #[test]
    fn layouts_for_people() {
        let node = |name: &str| json!({ "name": name, "zone": "", "weight": 150 });
        let layouts = json!({
            "live": [
                { "version": 1, "nodes": [node("alpha")] },
                { "version": 2, "nodes": [node("alpha"), node("beta")] },
            ],
            "proposed": 3,
            "staged": [{ "change": "leave", "node": "alpha" }],
        });
        insta::assert_snapshot!(show_layouts(&layouts));
        let live = json!({ "live": [
            { "version": 4, "digest": "aa" }, { "version": 5, "digest": "bb" },
        ] });
        assert_eq!(outcome(&live, 5, &json!("bb")), Some(true));
        assert_eq!(outcome(&live, 5, &json!("cc")), Some(false), "somebody else's has won");
        assert_eq!(outcome(&live, 6, &json!("cc")), None, "not yet");
        assert_eq!(outcome(&live, 3, &json!("cc")), Some(true), "others have followed since");
        assert_eq!(show_layouts(&json!({})), "No layout is live\n\nNothing is staged");
    }
}
