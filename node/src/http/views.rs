//! Pictures of the node and its cluster as JSON, native and in the dialects' shapes.
//!
//! Everything is made from one `Status`. The native names are stable: dashboards and scripts read them.

use hyper::StatusCode;
use rondo_core::status::{LayoutStatus, MemberStatus, Status};
use serde_json::{Value, json};

use crate::http::answer::{self, Answer, Problem};
use crate::http::front::Front;
use crate::http::ring;

/// A picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// `/`: where to go.
    Welcome,
    /// `/live`: the process answers.
    Live,
    /// `/ready`: the node serves requests, or what it waits for.
    Ready,
    /// `/ready?partitions=all`: the node could serve a request for any key.
    ReadyForAll,
    /// `/health`.
    Health,
    /// `/v1/status`.
    Status,
    /// `/v1/cluster`.
    Cluster,
    /// `/v1/cluster/members`.
    Members,
    /// `/v1/transfers`.
    Transfers,
    /// `/v1/hints`.
    Hints,
    /// `/v1/ring`.
    Ring,
    /// `/v1/storage`.
    Storage,
    /// Dialect A: `/gossip/members`.
    GossipMembers,
    /// Dialect A: `/gossip/status`.
    GossipStatus,
    /// Dialect B: `/admin/status`.
    AdminStatus,
    /// Dialect B: `/admin/stats`.
    AdminStats,
    /// Dialect C: `/api/v1/cluster/status`.
    ClusterStatus,
    /// Dialect C: `/api/v1/cluster/nodes`.
    ClusterNodes,
}

const WELCOME: &str = "rondo: a replicated key-value store\n
  curl -X PUT  http://THIS/v1/kv/default/hello -d world
  curl         http://THIS/v1/kv/default/hello
  curl         http://THIS/v1/status    what this node does
  curl         http://THIS/v1/cluster   who is there
  curl         http://THIS/v1/ring      who owns what
  curl         http://THIS/ready        whether it serves requests\n
Also: /live /health /v1/storage /v1/cluster/layout /v1/keyspaces; /api/v1/data/{key}, /kv/{key}, /api/v1/kv/{key}\n";

/// One picture.
pub async fn show(front: &Front, view: View) -> Result<Answer, Problem> {
    match view {
        View::Welcome => {
            return Ok(answer::with_body(StatusCode::OK, answer::TEXT, WELCOME.into()));
        }
        View::Live => return Ok(answer::json(StatusCode::OK, &json!({ "status": "live" }))),
        View::Ready | View::ReadyForAll if front.is_stopping() => return Ok(stopping()),
        _ => {}
    }
    let status = front.status().await?;
    let body = match view {
        View::Welcome | View::Live => unreachable!("answered above"),
        View::Ready => return Ok(ready(&status, false)),
        View::ReadyForAll => return Ok(ready(&status, true)),
        View::Health => health(front, &status),
        View::Status => whole(front, &status),
        View::Cluster => cluster(&status),
        View::Transfers => json!({
            "node": status.node,
            "name": status.name,
            "change": status.change,
            "transfers": status.transfers,
            "repairs": status.repairs,
        "purges": status.purges,
        }),
        View::Hints => json!({
            "node": status.node,
            "name": status.name,
            "hints": status.hints,
        }),
        View::Members => json!({ "members": status.members }),
        View::Ring => return ring::show(status.layout),
        View::Storage => {
            json!({
                "node": status.node,
                "name": status.name,
                "keys": status.keys,
                "deleted_keys": status.deleted_keys,
                "damaged_keys": status.damaged_keys,
                "troubles": status.troubles,
                "engine": status.engine,
            })
        }
        View::GossipMembers => {
            json!({ "members": nodes(&status), "count": counted(&status).count() })
        }
        View::GossipStatus => json!({
            "node_id": status.name,
            "members": counted(&status).count(),
            "alive": alive(&status),
            "dead": counted(&status).count() - alive(&status),
        }),
        View::AdminStatus => admin_status(&status),
        View::AdminStats => admin_stats(&status),
        View::ClusterStatus => json!({
            "status": health(front, &status)["status"].as_str().map(|word| match word {
                "ok" => "healthy",
                word => word,
            }),
            "node_id": status.name,
            "cluster": status.cluster,
            "nodes": counted(&status).count(),
            "alive": alive(&status),
            "replication_factor": status.layout.as_ref().map(|layout| layout.quorums.n),
        }),
        View::ClusterNodes => json!({ "nodes": nodes(&status) }),
    };
    Ok(answer::json(StatusCode::OK, &body))
}

/// The nodes that count: those of the layout, and everybody while there is none. Strangers own nothing.
fn counted(status: &Status) -> impl Iterator<Item = &MemberStatus> {
    status.members.iter().filter(|member| member.in_layout || status.layout.is_none())
}

/// How many of them are alive.
fn alive(status: &Status) -> usize {
    counted(status).filter(|member| member.state == "alive").count()
}

fn stopping() -> Answer {
    let body = json!({ "ready": false, "waiting": ["the node is stopping"] });
    answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// Whether the node serves; `for_all`: every partition.
fn ready(status: &Status, for_all: bool) -> Answer {
    let mut waiting = status.waiting.clone();
    let lacking = status.served.filter(|served| for_all && served.lacking() > 0);
    // What a node that is not ready waits for says it already, or says more.
    if let Some(served) = lacking.filter(|_| status.ready) {
        let (lacking, all) = (served.lacking(), served.partitions);
        waiting.push(format!("{lacking} of {all} partitions lack a quorum"));
    }
    let is_ready = status.ready && lacking.is_none();
    let body = json!({
        "ready": is_ready,
        "checks": {
            "engine": true,
            "layout": status.layout.is_some(),
            "quorum": status.served.is_some_and(|served| served.quorum > 0),
            "quorum_of_all": status.served.is_some_and(|served| served.lacking() == 0),
        },
        "waiting": waiting,
        "notes": status.notes,
    });
    let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(code, &body)
}

/// How the node is, in a word, and why. It has been `starting` when it is ready for the first time, and never again;
/// `refused` is a data directory that does not count any more, whatever is waited for.
fn health(front: &Front, status: &Status) -> Value {
    let ready = status.ready && !front.is_stopping();
    let away = status.members.iter().filter(|member| member.in_layout && member.state != "alive");
    let mut reasons: Vec<_> =
        away.map(|member| format!("{} is not reached", member.name)).collect();
    reasons.extend(status.troubles.iter().cloned());
    if !ready {
        reasons.extend(status.waiting.iter().cloned());
    }
    let word = match ready {
        _ if front.is_stopping() => "stopping",
        _ if status.denied => "refused",
        true if reasons.is_empty() => "ok",
        true => "degraded",
        false if front.was_ready() => "unavailable",
        false => "starting",
    };
    json!({
        "status": word,
        "reasons": reasons,
        "notes": status.notes,
        "ready": ready,
        "node_id": status.name,
        "nodes": counted(status).count(),
        "alive": alive(status),
        "strangers": status.members.len() - counted(status).count(),
        "uptime_seconds": status.uptime_ms / 1000,
    })
}

fn whole(front: &Front, status: &Status) -> Value {
    let counters = &status.counters;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": status.node,
        "name": status.name,
        "cluster": status.cluster,
        "boot": status.boot,
        "uptime_ms": status.uptime_ms,
        "clock_ahead_ms": status.clock_ahead_ms,
        "ready": status.ready && !front.is_stopping(),
        "waiting": status.waiting,
        "notes": status.notes,
        "troubles": status.troubles,
        "layout": status.layout.as_ref().map(layout),
        "change": status.change,
        "hints": status.hints,
        "repairs": status.repairs,
        "purges": status.purges,
        "served": status.served,
        "members": status.members,
        "keys": status.keys,
        "deleted_keys": status.deleted_keys,
        "damaged_keys": status.damaged_keys,
        "engine": status.engine,
        "memory": status.memory,
        "counters": counters,
        "mean_get_us": counters.get_us.checked_div(counters.gets),
        "mean_put_us": counters.put_us.checked_div(counters.puts),
        "in_flight": status.in_flight,
    })
}

fn layout(layout: &LayoutStatus) -> Value {
    json!({
        "version": layout.version,
        "digest": layout.digest,
        "partitions": layout.partitions,
        "quorums": layout.quorums,
        "wanted": layout.wanted,
        "nodes": layout.roles.len(),
        "keyspaces": layout.keyspaces,
    })
}

fn cluster(status: &Status) -> Value {
    json!({
        "cluster": status.cluster,
        "node": status.node,
        "name": status.name,
        "settled": status.change.is_settled(),
        "layout": status.layout.as_ref().map(layout),
        "change": status.change,
        "served": status.served,
        "members": status.members,
        "waiting": status.waiting,
    })
}

fn nodes(status: &Status) -> Vec<Value> {
    let node = |member: &MemberStatus| {
        json!({
            "id": member.name,
            "address": member.client_address,
            "peer_address": member.peer_address,
            "state": member.state,
        })
    };
    counted(status).map(node).collect()
}

fn my_address(status: &Status) -> &str {
    let me = status.members.iter().find(|member| member.me);
    me.map_or("", |member| member.client_address.as_str())
}

fn admin_status(status: &Status) -> Value {
    let nodes = counted(status).map(|member| {
        json!({ "id": member.name, "address": member.client_address, "state": member.state })
    });
    json!({
        "node_id": status.name,
        "address": my_address(status),
        "uptime": status.uptime_ms / 1000,
        "keys": status.keys,
        "storage": {
            "active_keys": status.keys,
            "deleted_keys": status.deleted_keys,
            "data_file_size_bytes": status.engine.disk_bytes,
            // What clients asked of this node: the engine also counts what nodes ask each other.
            "total_reads": status.counters.gets,
            "total_writes": status.counters.puts,
        },
        "cluster": { "size": counted(status).count(), "nodes": nodes.collect::<Vec<_>>() },
    })
}

fn admin_stats(status: &Status) -> Value {
    let counters = &status.counters;
    json!({
        "node_id": status.name,
        "total_requests": counters.gets + counters.puts,
        "gets": counters.gets,
        "puts": counters.puts,
        "unavailable": counters.unavailable,
        "indeterminate": counters.indeterminate,
        "overloaded": counters.overloaded,
        "in_flight": status.in_flight,
        "active_keys": status.keys,
        "deleted_keys": status.deleted_keys,
        "data_file_size_bytes": status.engine.disk_bytes,
    })
}
