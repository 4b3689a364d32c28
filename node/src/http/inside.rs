//! Looking inside: what versions a key has, and how the hash trees of a node stand.
//!
//! | | |
//! |---|---|
//! | `GET /v1/keys/{keyspace}/{key}/clock` | the version vector of a key and its siblings, without their values |
//! | `GET /api/v1/vector-clock?key=` | the same, of the keyspace `default` (dialect A) |
//! | `GET /api/v1/merkle-tree` | the roots of all trees of this node; with `?partition=` as `/v1/merkle/{partition}` (dialect A) |
//!
//! A clock is read as a value is, at the level that is asked for: replicas that differ are made equal.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use rondo_core::admin::{AdminRequest, Done};
use rondo_core::version::context::Context;
use rondo_core::wire::client::Sibling;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::address;
use crate::http::admin;
use crate::http::answer::{self, Answer, Problem};
use crate::http::front::Front;
use crate::http::kv::{self, Options, Outcome, Target};
use crate::http::visit::Visit;

/// What a key's replicas know, without values.
#[derive(Serialize)]
struct Clock {
    keyspace: String,
    key: String,
    /// Whether a read would answer a value.
    found: bool,
    /// By actor the highest number of its dots that is known.
    clock: BTreeMap<String, u64>,
    /// The numbers that are known of actors of which some below the highest are not: runs, from and to.
    gaps: BTreeMap<String, Vec<(u64, u64)>>,
    /// The latest time that any version was written at, in milliseconds since 1970.
    highest_ms: u64,
    siblings: Vec<Version>,
}

/// One sibling.
#[derive(Serialize)]
struct Version {
    /// As in `ETag`: when, as 64 bits, and by which actor.
    version: String,
    written_ms: u64,
    expires_ms: Option<u64>,
    bytes: usize,
    /// Of the value, 16 hex digits.
    digest: String,
}

/// `GET /v1/keys/{keyspace}/{key}/clock`.
pub async fn clock(
    visit: Visit<'_>,
    target: &Target,
    options: &Options,
) -> Result<Answer, Problem> {
    let (found, siblings, known) = match kv::get(visit, target, options).await? {
        Outcome::Found(siblings, known) => (true, siblings, known),
        Outcome::NotFound(siblings, known) => (false, siblings, known),
        Outcome::Stored(..) => unreachable!("a get stores nothing"),
    };
    let context = known.context;
    let clock = Clock {
        keyspace: target.keyspace.to_string(),
        key: String::from_utf8_lossy(&target.key).into_owned(),
        found,
        clock: highest(&context),
        gaps: gaps(&context),
        highest_ms: context.highest.wall_ms(),
        siblings: siblings.iter().map(version).collect(),
    };
    Ok(answer::json(StatusCode::OK, &clock))
}

fn highest(context: &Context) -> BTreeMap<String, u64> {
    let entries = context.clock.entries().iter();
    entries.map(|(actor, runs)| (actor.to_string(), runs.highest())).collect()
}

fn gaps(context: &Context) -> BTreeMap<String, Vec<(u64, u64)>> {
    let entries = context.clock.entries().iter();
    let runs = entries.map(|(actor, runs)| {
        let runs: Vec<_> = runs.list().iter().map(|run| (run.from, run.to)).collect();
        (actor.to_string(), runs)
    });
    runs.filter(|(_, runs)| runs.len() > 1 || runs.iter().any(|&(from, _)| from > 1)).collect()
}

fn version(sibling: &Sibling) -> Version {
    Version {
        version: sibling.version.to_string(),
        written_ms: sibling.version.hlc.wall_ms(),
        expires_ms: sibling.expires.map(|expires| expires.wall_ms()),
        bytes: sibling.value.len(),
        digest: format!("{:016x}", sibling.digest),
    }
}

/// `GET /api/v1/vector-clock?key=`.
pub async fn vector_clock(visit: Visit<'_>, query: &str) -> Result<Answer, Problem> {
    let mut options = Options { attempt: 1, ..Options::default() };
    let mut key = None;
    for parameter in address::parameters(query, &["key", "consistency"]) {
        match parameter? {
            ("key", given) => key = Some(given.into_owned()),
            (_, level) => options.level = Some(kv::level(&level)?),
        }
    }
    let hint = "GET /api/v1/vector-clock?key=cart: each key has a clock of its own";
    let key = key.ok_or_else(|| Problem::bad("no key is named", hint))?;
    let (keyspace, id) = visit.front.keyspace(rondo_core::layout::keyspace::DEFAULT).await?;
    clock(visit, &Target::new(keyspace, id, key.as_bytes())?, &options).await
}

/// `GET /api/v1/merkle-tree`.
pub async fn merkle_tree(front: &Front, query: &str) -> Result<Answer, Problem> {
    let mut partition = None;
    for parameter in address::parameters(query, &["partition"]) {
        partition = Some(parameter?.1.into_owned());
    }
    if let Some(partition) = partition {
        return admin::act(front, admin::Admin::Merkle(&partition), (&Method::GET, ""), b"").await;
    }
    let status = front.status().await?;
    let partitions = status.layout.as_ref().map_or(0, |layout| layout.partitions);
    let mut roots: Vec<Value> = Vec::new();
    for partition in 0..partitions {
        let Done::Merkle(trees) = admin::ask(front, AdminRequest::Merkle { partition }).await?
        else {
            unreachable!("trees were asked for");
        };
        roots.extend(trees.trees.iter().map(|tree| {
            json!({
                "partition": partition, "group": tree.group, "complete": tree.complete, "root": tree.root,
            })
        }));
    }
    let all = json!({ "node_id": status.name, "partitions": partitions, "roots": roots });
    Ok(answer::json(StatusCode::OK, &all))
}
