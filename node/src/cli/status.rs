//! `rondo status`: health first, then the nodes, then what they do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::{Method, StatusCode};
use rondo_core::config::MEETING_MS_MAX;
use serde_json::{Value, json};

use crate::cli::table::{bytes, grouped, micros, table, text};
use crate::cli::{Client, Output, duration, print};
use crate::client::{Ask, Servers};
use crate::failure::{Failure, Kind, Result};

/// When a member has been silent for longer than this, a new node of its name has taken its place or needs somebody's word, in
/// milliseconds.
const TAKEN_BY_ITSELF_MS: u64 = 20_000;
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
    /// Wait first until every server named is ready and reaches the others, at most this long
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
    // Without a layout there is no ring.
    let ring = servers.json("/v1/ring").await.unwrap_or_default();
    let mut nodes = Vec::new();
    for member in cluster["members"].as_array().into_iter().flatten() {
        let status = match (member["state"].as_str(), member["client_address"].as_str()) {
            (Some("alive" | "deaf" | "unlinked"), Some(address)) => {
                status_of(address, &servers).await
            }
            _ => Value::Null,
        };
        nodes.push(json!({ "member": member, "status": status }));
    }
    let availability = availability(&ring, &nodes);
    let all = json!({ "cluster": cluster, "nodes": nodes, "availability": availability });
    match command.output {
        Output::Json => print(&all.to_string()),
        Output::Table => print(&show(&all)),
    }
}

/// Which of the servers this one does not reach: one that has just started serves before all others reach it.
async fn away(server: &str, servers: &Servers, patience: Duration) -> Vec<String> {
    let cluster = match Servers::parse(server, patience) {
        Ok(one) => one.json("/v1/cluster").await.unwrap_or_default(),
        Err(_) => Value::Null,
    };
    let named = |member: &&Value| {
        servers.list().iter().any(|server| member["client_address"] == server.as_str())
    };
    let members = cluster["members"].as_array().into_iter().flatten().filter(named);
    members
        .filter(|member| member["state"] != "alive")
        .map(|member| text_of(&member["name"]))
        .collect()
}

/// Waits until every server is ready, and reaches the others.
async fn wait(servers: &Servers, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    for server in servers.list() {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let ready = Servers::parse(server, left)?.ask(&Ask::new(Method::GET, "/ready")).await;
            let why = match &ready {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let away = away(server, servers, left).await;
                    if away.is_empty() {
                        break;
                    }
                    format!("it does not reach {}", away.join(", "))
                }
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

/// How much can be served: for each partition of the ring, how many of its owners serve.
///
/// A node that answers says itself whether it does; of one that does not, it is believed what the others hear.
fn availability(ring: &Value, nodes: &[Value]) -> Value {
    let serves = |id: &Value| {
        let node = nodes.iter().find(|node| node["member"]["node"] == *id);
        node.is_some_and(|node| match node["status"]["ready"].as_bool() {
            Some(ready) => ready,
            None => node["member"]["state"] == "alive",
        })
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let up: Vec<bool> = list(&ring["nodes"]).iter().map(|node| serves(&node["node"])).collect();
    let needed = ring["quorums"]["r"].as_u64().max(ring["quorums"]["w"].as_u64()).unwrap_or(1);
    let (mut served, mut whole) = (0, 0);
    let partitions = list(&ring["owners"]);
    for owners in &partitions {
        let owners: Vec<usize> =
            list(owners).iter().filter_map(Value::as_u64).map(|owner| owner as usize).collect();
        let serving = owners.iter().filter(|&&owner| up.get(owner) == Some(&true)).count();
        served += u64::from(serving as u64 >= needed);
        whole += u64::from(serving == owners.len());
    }
    json!({ "partitions": partitions.len(), "served": served, "whole": whole })
}

fn show(all: &Value) -> String {
    let none = Vec::new();
    let nodes = all["nodes"].as_array().unwrap_or(&none);
    let mut who = table(&["NODE", "STATE", ">LAST SEEN", "REACHED", "CLIENTS", "PEERS", "ROLE"]);
    let mut what = table(&[
        "NODE",
        ">REQUESTS",
        ">GETS",
        ">MEAN GET",
        ">PUTS",
        ">MEAN PUT",
        ">FAILED",
        ">KEYS",
        ">DELETED",
        ">STORAGE",
    ]);
    for node in nodes {
        let name = called(&node["member"], nodes).0;
        who.add_row(who_row(&name, node));
        what.add_row(what_row(&name, &node["status"]));
    }
    let mut notes = notes(all, nodes).join("\n");
    if !notes.is_empty() {
        notes.push('\n');
    }
    format!("{}\n{notes}\n{}\n\n{}", health(all, nodes), text(&who), text(&what))
}

/// The first line: how many nodes the layout has, and how much of the data can be read and written.
fn health(all: &Value, nodes: &[Value]) -> String {
    let members: Vec<&Value> = nodes.iter().map(|node| &node["member"]).collect();
    let is_in = |member: &&&Value| member["in_layout"] == true;
    // Before there is a layout everybody may become a member.
    let formed = members.iter().any(|member| is_in(&member));
    let members: Vec<_> = members.iter().filter(|member| !formed || is_in(member)).collect();
    let alive = members.iter().filter(|member| member["state"] == "alive").count();
    let number = |name: &str| all["availability"][name].as_u64().unwrap_or_default();
    let share = number("served") as f64 * 100.0 / number("partitions").max(1) as f64;
    let known = match number("served") {
        0 if is_too_early(number("partitions"), nodes) => "availability not known yet".to_owned(),
        _ => format!("{share:.1}% availability"),
    };
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for state in members.iter().filter_map(|member| member["state"].as_str()) {
        *others.entry(state).or_default() += 1;
    }
    let dead = others.remove("dead").unwrap_or_default();
    let others = others.into_iter().filter(|(state, _)| *state != "alive");
    let others: String = others.map(|(state, number)| format!(", {number} {state}")).collect();
    format!(
        "Health: {}, {alive} alive, {dead} dead{others} ({known})",
        count(members.len(), "node")
    )
}

/// Whether nobody can say yet what is served: there is no ring, or those that answer have just started.
fn is_too_early(partitions: u64, nodes: &[Value]) -> bool {
    let uptime = |node: &Value| node["status"]["uptime_ms"].as_u64();
    let mut answered = nodes.iter().filter_map(uptime).peekable();
    partitions == 0 || answered.peek().is_some() && answered.all(|ms| ms < MEETING_MS_MAX)
}

/// What is not as it should be, a line each.
fn notes(all: &Value, nodes: &[Value]) -> Vec<String> {
    let mut notes = Vec::new();
    let number = |name: &str| all["availability"][name].as_u64().unwrap_or_default();
    let (partitions, served, whole) = (number("partitions"), number("served"), number("whole"));
    if partitions > 0 && served == 0 && is_too_early(partitions, nodes) {
        notes.push("Starting: the nodes have not all met each other yet".to_owned());
    } else if served < partitions {
        let cannot = count(partitions - served, "partition");
        notes.push(format!(
            "Unavailable: {cannot} of {partitions} cannot be read and written at quorum"
        ));
    } else if whole < partitions {
        let lack = count(partitions - whole, "partition");
        notes.push(format!("Degraded: {lack} of {partitions} without one of the replicas"));
    }
    let asked = &all["cluster"];
    notes.extend(changes(&asked["change"], nodes));
    notes.extend(namesakes(nodes));
    let waiting = |name: &str, status: &Value, notes: &mut Vec<String>| {
        let reasons = status["waiting"].as_array().into_iter().flatten().filter_map(Value::as_str);
        notes.extend(reasons.map(|reason| format!("Not ready: {name}: {reason}")));
    };
    let answered = |node: &&Value| !node["status"].is_null();
    if !nodes.iter().any(|node| node["member"]["me"] == true && answered(&node)) {
        waiting(&text_of(&asked["name"]), asked, &mut notes);
    }
    for node in nodes.iter().filter(answered) {
        let name = text_of(&node["member"]["name"]);
        waiting(&name, &node["status"], &mut notes);
        notes.extend(listed(&node["status"]["troubles"], &format!("Trouble: {name}")));
        notes.extend(listed(&node["status"]["notes"], &format!("Note: {name}")));
        notes.extend(partial(&name, &node["status"]["change"]));
        notes.extend(deaf_to(&name, &node["status"]));
        notes.extend(clock(&name, &node["status"]));
        notes.extend(purges(&name, &node["status"]["purges"]));
    }
    notes
}

/// What of the cluster is changing, as the node sees it that was asked.
fn changes(change: &Value, nodes: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    let live: Vec<String> =
        change["live"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if live.len() > 1 {
        let waits = change["waits"].as_str().unwrap_or("nobody is waited for");
        lines.push(format!("Changing: layouts {} are live; {waits}", live.join(" and ")));
        let awaited = |member: &Value| {
            let mut ids = change["awaited"].as_array().into_iter().flatten();
            ids.any(|id| *id == member["node"])
        };
        let is_away = |member: &&Value| {
            matches!(member["state"].as_str(), Some("dead" | "left")) && awaited(member)
        };
        for away in nodes.iter().map(|node| &node["member"]).filter(is_away) {
            let (name, word) = called(away, nodes);
            lines.push(format!(
                "Waiting: {name} is {}; start it, or `rondo cluster skip-dead {word}` if it will not come back",
                text_of(&away["state"])
            ));
        }
    }
    if let Some(proposed) = change["proposed"].as_u64() {
        let too_few = "too few nodes have endorsed it yet";
        lines.push(format!("Proposed: layout {proposed} is not live: {too_few}"));
    }
    let staged = change["staged"].as_u64().unwrap_or_default();
    if staged > 0 {
        let staged = count(staged, "change");
        lines.push(format!("Staged: {staged}; `rondo cluster plan` shows what would move"));
    }
    lines
}

/// What people call a node, and the word that means it in a command: of two with one name the beginning of its id.
fn called(member: &Value, nodes: &[Value]) -> (String, String) {
    let name = text_of(&member["name"]);
    let same = nodes.iter().filter(|node| node["member"]["name"] == member["name"]).count();
    if same < 2 {
        return (name.clone(), name);
    }
    let short: String = text_of(&member["node"]).chars().take(8).collect();
    (format!("{name} ({short})"), short)
}

/// That a node which runs has no role and the name of a dead member, whose place it does not always take by itself.
fn namesakes(nodes: &[Value]) -> Vec<String> {
    let members = || nodes.iter().map(|node| &node["member"]);
    let outside = members().filter(|one| one["role"] == "outside" && one["state"] == "alive");
    let dead = |name: &Value| {
        members()
            .find(|one| one["name"] == *name && one["role"] == "member" && one["state"] == "dead")
    };
    let lines = outside.filter_map(|new| {
        let dead = dead(&new["name"])?;
        let is_long = dead["last_heard_ms"].as_u64().is_none_or(|ms| ms > TAKEN_BY_ITSELF_MS);
        let how = match is_long {
            true => "it does not take its place by itself where W is 1, with `--join manual`, and while half of the nodes are away:",
            false => "it takes its place in some seconds; if it does not,",
        };
        let (old, new) = (called(dead, nodes), called(new, nodes));
        Some(format!(
            "Waiting: {} has the name of {}, which is dead; {how} `rondo cluster replace {} {}` and then `rondo cluster commit`",
            new.0, old.0, old.1, new.1
        ))
    });
    lines.collect()
}

/// That a node has not all that it owns.
fn partial(name: &str, change: &Value) -> Option<String> {
    let partial = change["partial"].as_u64().filter(|partial| *partial > 0)?;
    let all = change["units"].as_u64().unwrap_or_default().max(partial);
    Some(format!("Moving: {name} still lacks {partial} of the {all} partitions that it owns"))
}

/// The lines of a list, each behind these words.
fn listed(lines: &Value, words: &str) -> Vec<String> {
    let lines = lines.as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.map(|line| format!("{words}: {line}")).collect()
}

/// Whom a node hears without being heard: a way that works in one direction only.
fn deaf_to(name: &str, status: &Value) -> Option<String> {
    let members = status["members"].as_array().into_iter().flatten();
    let deaf: Vec<_> = members
        .filter(|member| member["state"] == "deaf")
        .map(|member| text_of(&member["name"]))
        .collect();
    (!deaf.is_empty()).then(|| format!("One way only: {name} is not heard by {}", deaf.join(", ")))
}

/// What is in the way of purging what is deleted, a line for each reason, and what a node keeps that nobody may take.
fn purges(name: &str, purges: &Value) -> Vec<String> {
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let reasons = purges["waiting"].as_array().into_iter().flatten();
    for why in reasons.filter_map(|unit| unit["why"].as_str()) {
        *waiting.entry(why).or_default() += 1;
    }
    let waits = waiting
        .into_iter()
        .map(|(why, units)| format!("Not purged: {name}: in {} {why}", count(units, "partition")));
    let kept = purges["quarantined"].as_u64().filter(|kept| *kept > 0).map(|kept| {
        format!(
            "Quarantine: {name} keeps {} that it does not own any more: their owners refuse them, because something of them was purged",
            count(kept, "key")
        )
    });
    waits.chain(kept).collect()
}

/// Beyond this a clock is worth a line, in milliseconds.
const CLOCK_MS: u64 = rondo_core::config::DRIFT_MS_MAX;

fn clock(name: &str, status: &Value) -> Option<String> {
    let ahead = status["clock_ahead_ms"].as_i64().unwrap_or_default();
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let off = grouped(ahead.unsigned_abs());
    (ahead.unsigned_abs() > CLOCK_MS).then(|| {
        format!("Clock: {name} is {off} ms {side} the others; it takes no writes at `one`")
    })
}

fn count(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(number)) }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn who_row(name: &str, node: &Value) -> [String; 7] {
    let (member, status) = (&node["member"], &node["status"]);
    let seen = match (member["me"].as_bool(), member["last_heard_ms"].as_u64()) {
        (Some(true), _) => "now".to_owned(),
        (_, Some(ms)) => format!("{} ago", micros(ms.saturating_mul(1000))),
        _ => "never".to_owned(),
    };
    let reached = match member["state"].as_str() {
        _ if member["me"] == true => "self",
        Some("alive") => "both ways",
        Some("deaf") => "from it only",
        Some("unlinked") => "no link",
        _ => "no",
    };
    let state = match (member["state"].as_str(), status["ready"].as_bool()) {
        (Some("alive"), Some(false)) => "alive, not ready".to_owned(),
        _ => text_of(&member["state"]),
    };
    [
        name.to_owned(),
        state,
        seen,
        reached.to_owned(),
        text_of(&member["client_address"]),
        text_of(&member["peer_address"]),
        role(member),
    ]
}

/// What a node is in the layouts that are live. `member` is said by nodes that know of layouts at all.
fn role(member: &Value) -> String {
    match (member["role"].as_str(), member["in_layout"] == true) {
        (Some(role), _) => role.to_owned(),
        (None, true) => "member".to_owned(),
        (None, false) => "outside".to_owned(),
    }
}

fn what_row(name: &str, status: &Value) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    if status.is_null() {
        row.resize(10, "-".to_owned());
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
        grouped(status["keys"].as_u64().unwrap_or_default()),
        grouped(status["deleted_keys"].as_u64().unwrap_or_default()),
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
                "node": name, "name": name, "state": state, "last_heard_ms": 40, "me": name == "alpha",
                "in_layout": true,
                "client_address": "127.0.0.1:8081", "peer_address": "127.0.0.1:7947",
            },
            "status": status,
        })
    }

    /// Two partitions of three nodes; with four nodes a third, of the last three.
    fn ring(names: &[&str]) -> Value {
        let nodes: Vec<_> = names.iter().map(|name| json!({ "node": name })).collect();
        let all = [[0, 1, 2], [2, 1, 0], [1, 2, 3]];
        let owners = if names.len() > 3 { &all[..] } else { &all[..2] };
        json!({ "quorums": { "n": 3, "r": 2, "w": 2 }, "nodes": nodes, "owners": owners })
    }

    fn shown(ring: &Value, nodes: Vec<Value>, cluster: Value) -> String {
        let availability = availability(ring, &nodes);
        show(&json!({ "cluster": cluster, "nodes": nodes, "availability": availability }))
    }

    #[test]
    fn health_comes_first() {
        let busy = json!({
            "ready": true, "counters": { "gets": 12_000, "puts": 3_000, "unavailable": 2, "indeterminate": 1 },
            "mean_get_us": 210, "mean_put_us": 1_500, "keys": 3_000, "deleted_keys": 12,
            "engine": { "records": 3_100, "disk_bytes": 5 << 20 },
        });
        let waits = |partition: u16| json!({ "group": 0, "partition": partition, "why": "an owner does not answer" });
        let purges = json!({ "waiting": [waits(1), waits(7)], "quarantined": 1 });
        let nodes = vec![
            node("alpha", "alive", busy),
            node("beta", "alive", json!({ "ready": true, "purges": purges })),
            node("gamma", "dead", Value::Null),
        ];
        insta::assert_snapshot!(shown(&ring(&["alpha", "beta", "gamma"]), nodes, json!({})));
    }

    #[test]
    fn two_of_three_nodes_that_answer_503_make_the_data_unavailable() {
        let off = json!({ "ready": false, "waiting": ["1 of 3 nodes are up: no key has R=2 and W=2 of its 3 replicas"] });
        let mut slow = node("beta", "alive", off.clone());
        slow["member"]["state"] = json!("deaf");
        slow["status"]["clock_ahead_ms"] = json!(-1_200);
        slow["status"]["members"] = json!([{ "name": "alpha", "state": "deaf" }]);
        let nodes = vec![
            node("alpha", "alive", json!({ "ready": true })),
            slow,
            node("gamma", "alive", off),
        ];
        insta::assert_snapshot!(shown(&ring(&["alpha", "beta", "gamma"]), nodes, json!({})));
    }

    #[test]
    fn a_node_without_a_role_makes_nothing_unavailable() {
        let ready = || json!({ "ready": true });
        let mut stranger = node("old", "dead", Value::Null);
        stranger["member"]["in_layout"] = json!(false);
        let names = ["alpha", "beta", "gamma"];
        let mut nodes: Vec<_> = names.iter().map(|name| node(name, "alive", ready())).collect();
        nodes.push(stranger);
        let text = shown(&ring(&names), nodes, json!({}));
        assert!(
            text.starts_with("Health: 3 nodes, 3 alive, 0 dead (100.0% availability)\n\n"),
            "{text}"
        );
    }

    #[test]
    fn a_share_of_the_partitions_is_told_when_not_all_can_be_served() {
        let ready = || json!({ "ready": true });
        let nodes = vec![
            node("alpha", "alive", ready()),
            node("beta", "alive", ready()),
            node("gamma", "dead", Value::Null),
            node("delta", "dead", Value::Null),
        ];
        let text = shown(&ring(&["alpha", "beta", "gamma", "delta"]), nodes, json!({}));
        let first: Vec<_> = text.lines().take(2).collect();
        assert_eq!(
            first,
            [
                "Health: 4 nodes, 2 alive, 2 dead (66.7% availability)",
                "Unavailable: 1 partition of 3 cannot be read and written at quorum",
            ]
        );
    }

    #[test]
    fn a_change_is_told_while_it_goes_on() {
        let change = json!({
            "live": [3, 4], "proposed": null, "staged": 1, "units": 2, "partial": 0,
            "waits": "layout 4 waits for delta to have the keys that they own", "awaited": ["delta"],
        });
        let with = |name: &str, role: &str, partial: u64| {
            let change = json!({ "units": 2, "partial": partial });
            let mut node = node(name, "alive", json!({ "ready": true, "change": change }));
            node["member"]["role"] = json!(role);
            node["member"]["in_layout"] = json!(role != "leaving");
            node
        };
        let nodes = vec![
            with("alpha", "leaving", 0),
            with("beta", "member", 0),
            with("gamma", "member", 0),
            with("delta", "joining", 1),
        ];
        let mut away = nodes.clone();
        away[3]["member"]["state"] = json!("dead");
        let said = notes(&json!({ "cluster": { "change": &change } }), &away);
        assert!(said.contains(&"Waiting: delta is dead; start it, or `rondo cluster skip-dead delta` if it will not come back".to_owned()));
        let ring = ring(&["beta", "gamma", "delta"]);
        insta::assert_snapshot!(shown(&ring, nodes, json!({ "change": change })));
    }

    fn twin(id: &str, state: &str, role: &str) -> Value {
        let mut twin = node("n2", state, Value::Null);
        twin["member"]["node"] = json!(id);
        twin["member"]["role"] = json!(role);
        twin
    }

    #[test]
    fn of_two_nodes_of_one_name_the_advice_is_about_the_one_that_is_awaited() {
        let nodes = [twin("1111111122", "dead", "leaving"), twin("3333333344", "dead", "joining")];
        let waits = "layout 4 waits for n2 to have the keys that they own";
        let change = json!({ "live": [3, 4], "waits": waits, "awaited": ["3333333344"] });
        let said = changes(&change, &nodes);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[1].contains("n2 (33333333) is dead") && said[1].contains("skip-dead 33333333")
        );
    }

    #[test]
    fn who_has_the_name_of_a_dead_member_is_told_how_to_take_its_place() {
        let nodes = [twin("1111111122", "dead", "member"), twin("3333333344", "alive", "outside")];
        let said = namesakes(&nodes);
        assert!(said[0].contains("`rondo cluster replace 11111111 33333333`"), "{said:?}");
        assert!(said[0].contains("in some seconds"), "{said:?}");
        let mut later = nodes.clone();
        later[0]["member"]["last_heard_ms"] = json!(180_000);
        assert!(!namesakes(&later)[0].contains("seconds"), "it is minutes");
        let table = show(&json!({ "nodes": nodes }));
        assert!(table.contains(" n2 (11111111)") && table.contains(" n2 (33333333)"), "{table}");
        assert!(namesakes(&nodes[..1]).is_empty() && namesakes(&nodes[1..]).is_empty());
    }

    #[test]
    fn right_after_a_start_nobody_says_that_nothing_is_served() {
        let not_ready = |ms: u64| json!({ "ready": false, "uptime_ms": ms, "waiting": ["it meets the others"] });
        let all = ["alpha", "beta", "gamma"];
        let text = |ms: u64| {
            let nodes = all.iter().map(|name| node(name, "alive", not_ready(ms))).collect();
            shown(&ring(&all), nodes, json!({}))
        };
        assert!(text(800).contains("(availability not known yet)\nStarting:"), "{}", text(800));
        assert!(text(60_000).contains("(0.0% availability)\nUnavailable: 2 partitions"));
    }

    #[test]
    fn a_node_that_waits_says_for_what() {
        let cluster = json!({ "name": "alpha", "waiting": ["2 more nodes"] });
        let text = shown(&Value::Null, vec![node("alpha", "alive", Value::Null)], cluster);
        let said = "Health: 1 node, 1 alive, 0 dead (availability not known yet)\nNot ready: alpha: 2 more nodes\n";
        assert!(text.starts_with(said), "{text}");
    }
}
