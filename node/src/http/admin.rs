//! What operators ask over HTTP: the layout, changes of it, and keyspaces. The node decides; here bodies become requests.
//!
//! | route | body | does |
//! |---|---|---|
//! | `GET /v1/cluster/layout` | | shows what is live, proposed and staged |
//! | `POST /v1/cluster/layout/stage` | `{"change": "join", "node": …}` | stages a change; `DELETE` takes all back |
//! | `POST /v1/cluster/{join,leave,replace}` | `{"node": …}`, `{"old": …, "new": …}` | stages that change |
//! | with `?commit=true` | | stages it and commits it alone |
//! | `POST /v1/cluster/plan`, `/v1/cluster/layout/plan` | | shows the next layout |
//! | `POST /v1/cluster/commit`, `/v1/cluster/layout/commit` | `{"version": n}` or none | proposes it |
//! | `POST /v1/cluster/layout/skip-dead` | `{"node": …, "accept_loss": true}` | waits no longer for a dead node, or its data |
//! | `GET /v1/merkle/{partition}` | | the hash trees of a partition at this node |
//! | `POST /v1/repair` | | compares copies with those of other owners now |
//! | `GET`, `PUT`, `DELETE /v1/keyspaces/{name}` | `{"n": …, "r": …, "w": …, "level": …, "policy": …, "ttl": …}` | a keyspace |
//!
//! Dialects A and C join and leave with one request, which stages and commits that change alone: `POST /gossip/join`,
//! `POST /gossip/leave` (this node itself, when the body names none) and `POST /api/v1/cluster/members`.

use hyper::{Method, StatusCode};
use rondo_core::admin::{AdminRequest, Change, Done, KeyspaceStatus, KeyspaceWish, Refused, Why};
use rondo_core::config::NAME_BYTES_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::http::address;
use crate::http::answer::{self, Answer, Problem};
use crate::http::front::Front;
use crate::http::kv;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admin<'a> {
    /// What is live and staged.
    Layout,
    /// Stages the change that the body names, or takes all back.
    Stage,
    /// Stages a change of this kind.
    StageOf(&'static str),
    /// Shows the next layout.
    Plan,
    /// Proposes it.
    Commit,
    /// Waits no longer for a dead node.
    SkipDead,
    /// The hash trees of a partition.
    Merkle(&'a str),
    /// Compares copies now.
    Repair,
    /// All keyspaces.
    Keyspaces,
    /// One of them.
    Keyspace(&'a str),
    /// Dialects A and C: a node joins at once.
    JoinNow,
    /// Dialect A: a node leaves at once.
    LeaveNow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    #[serde(default)]
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skipped {
    node: String,
    #[serde(default)]
    accept_loss: bool,
}

/// Answers one request.
pub async fn act(
    front: &Front,
    admin: Admin<'_>,
    (method, query): (&Method, &str),
    sent: &[u8],
) -> Result<Answer, Problem> {
    let commits = commits(admin, query)?;
    let request = match admin {
        Admin::Layout => AdminRequest::Layout,
        Admin::Stage if method == Method::DELETE => AdminRequest::Unstage,
        Admin::Stage if commits => AdminRequest::Apply(staged(sent)?),
        Admin::Stage => AdminRequest::Stage(staged(sent)?),
        Admin::StageOf(kind) if commits => AdminRequest::Apply(change(kind, sent)?),
        Admin::StageOf(kind) => AdminRequest::Stage(change(kind, sent)?),
        Admin::Plan => AdminRequest::Plan,
        Admin::Commit if sent.is_empty() => AdminRequest::Commit { expected: None },
        Admin::Commit => {
            let Version { version } = body(sent, "send {\"version\": n}, or no body")?;
            AdminRequest::Commit { expected: version }
        }
        Admin::SkipDead => {
            let Skipped { node, accept_loss } = body(sent, NODE)?;
            AdminRequest::SkipDead { node, accepts_loss: accept_loss }
        }
        Admin::Merkle(partition) => {
            let partition = partition.parse().map_err(|_| {
                Problem::bad(format!("`{partition}` is no partition"), "GET /v1/ring tells them")
            })?;
            AdminRequest::Merkle { partition }
        }
        Admin::Repair => AdminRequest::Repair,
        Admin::JoinNow => AdminRequest::Apply(change("join", sent)?),
        Admin::LeaveNow => AdminRequest::Apply(leave(front, sent).await?),
        Admin::Keyspaces => {
            let keyspaces = live_keyspaces(front).await?;
            return Ok(answer::json(StatusCode::OK, &json!({ "keyspaces": keyspaces })));
        }
        Admin::Keyspace(name) => return keyspace(front, name, method, sent).await,
    };
    let is_dialect = matches!(admin, Admin::JoinNow | Admin::LeaveNow);
    let done = ask(front, request).await?;
    Ok(match done {
        Done::Proposed { proposed, .. } if is_dialect => {
            answer::json(StatusCode::OK, &json!({ "status": "ok", "proposed": proposed }))
        }
        // It is on its way: more than half of the nodes endorse it.
        Done::Proposed { .. } | Done::Repairs(_) => answer::json(StatusCode::ACCEPTED, &done),
        Done::Layouts(_) | Done::Plan(_) | Done::Merkle(_) => answer::json(StatusCode::OK, &done),
    })
}

/// Whether a change is to be committed at once, alone.
fn commits(admin: Admin<'_>, query: &str) -> Result<bool, Problem> {
    let stages = matches!(admin, Admin::Stage | Admin::StageOf(_));
    let known: &[_] = if stages { &["commit"] } else { &[] };
    let mut commits = false;
    for parameter in address::parameters(query, known) {
        commits = match &*parameter?.1 {
            "true" => true,
            "false" => false,
            other => return Err(Problem::bad(format!("`commit` is `{other}`"), "true or false")),
        };
    }
    Ok(commits)
}

const STAGE: &str = "send {\"change\": \"join\", \"node\": \"node-4\"}; the changes are join, leave, replace, keyspace and \
    drop-keyspace";
const NODE: &str = "send {\"node\": \"node-4\"}";
const REPLACE: &str = "send {\"old\": \"node-2\", \"new\": \"node-4\"}";
/// What a keyspace cannot have yet, and what to do without it.
const UNBUILT: [(&str, &str); 2] = [
    ("engine", "leave it out: all keyspaces of a node lie in the engine that `--engine` names"),
    ("mode", "leave it out: all keyspaces are `quorum`"),
];
const KEYSPACE: &str = "send {\"n\": 3, \"r\": 2, \"w\": 2, \"level\": \"quorum\", \"policy\": \"newest\", \"ttl\": \"24h\", \
    \"sloppy\": true}; what is left out is chosen";

/// The outcome of a request, or why there is none.
pub async fn ask(front: &Front, request: AdminRequest) -> Result<Done, Problem> {
    front.admin(request).await?.map_err(|refused: Refused| {
        let status = match refused.why {
            Why::Bad => StatusCode::BAD_REQUEST,
            Why::Unknown => StatusCode::NOT_FOUND,
            Why::Conflict => StatusCode::CONFLICT,
            Why::NotNow => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, refused.message, refused.hint)
    })
}

fn body<T: DeserializeOwned>(sent: &[u8], hint: &str) -> Result<T, Problem> {
    serde_json::from_slice(sent)
        .map_err(|error| Problem::bad(format!("the body does not say what to do: {error}"), hint))
}

/// A change of any kind.
fn staged(sent: &[u8]) -> Result<Change, Problem> {
    Ok(match body(sent, STAGE)? {
        Change::Keyspace { name, wanted } => Change::Keyspace { name: new_name(name)?, wanted },
        change => change,
    })
}

fn change(kind: &str, sent: &[u8]) -> Result<Change, Problem> {
    let hint = if kind == "replace" { REPLACE } else { NODE };
    let mut fields: serde_json::Map<String, serde_json::Value> = body(sent, hint)?;
    for alias in ["id", "node_id", "name"] {
        if let (false, Some(name)) = (fields.contains_key("node"), fields.remove(alias)) {
            fields.insert("node".to_owned(), name);
        }
    }
    // Dialect C sends it along; a node says itself where it is reached.
    fields.remove("address");
    fields.insert("change".to_owned(), kind.into());
    serde_json::from_value(fields.into())
        .map_err(|error| Problem::bad(format!("the body does not say what to do: {error}"), hint))
}

/// Who leaves: this node, when nobody is named.
async fn leave(front: &Front, sent: &[u8]) -> Result<Change, Problem> {
    if sent.is_empty() {
        return Ok(Change::Leave { node: front.status().await?.node });
    }
    change("leave", sent)
}

/// The keyspaces of the newest live layout.
async fn live_keyspaces(front: &Front) -> Result<Vec<KeyspaceStatus>, Problem> {
    match ask(front, AdminRequest::Layout).await? {
        Done::Layouts(layouts) if layouts.live.is_empty() => {
            front.knows_the_layout().await.map(|()| layouts.keyspaces)
        }
        Done::Layouts(layouts) => Ok(layouts.keyspaces),
        Done::Plan(_) | Done::Proposed { .. } | Done::Merkle(_) | Done::Repairs(_) => {
            unreachable!("the layout was asked for")
        }
    }
}

async fn keyspace(
    front: &Front,
    name: &str,
    method: &Method,
    sent: &[u8],
) -> Result<Answer, Problem> {
    let name = named(name)?;
    let change = match *method {
        Method::PUT => Change::Keyspace { name: new_name(name)?, wanted: wanted(sent)? },
        Method::DELETE => Change::DropKeyspace { name },
        _ => return shown(front, &name).await,
    };
    Ok(answer::json(StatusCode::ACCEPTED, &ask(front, AdminRequest::Apply(change)).await?))
}

/// How a keyspace is to be; `conflict` is another name of its policy.
fn wanted(sent: &[u8]) -> Result<KeyspaceWish, Problem> {
    if sent.is_empty() {
        return Ok(KeyspaceWish::default());
    }
    let mut fields: serde_json::Map<String, serde_json::Value> = body(sent, KEYSPACE)?;
    let unbuilt = UNBUILT.iter().find(|(name, _)| fields.contains_key(*name));
    if let Some((name, hint)) = unbuilt {
        return Err(Problem::not_built(&format!("`{name}` of a keyspace"), *hint));
    }
    if let (false, Some(policy)) = (fields.contains_key("policy"), fields.remove("conflict")) {
        fields.insert("policy".to_owned(), policy);
    }
    if let Some(ttl) = fields.remove("ttl") {
        let ttl = ttl.as_str().map_or_else(|| ttl.to_string(), str::to_owned);
        fields.insert("ttl_ms".to_owned(), kv::ttl_ms(&ttl)?.into());
    }
    serde_json::from_value(fields.into()).map_err(|error| {
        Problem::bad(format!("the body does not say what to do: {error}"), KEYSPACE)
    })
}

async fn shown(front: &Front, name: &str) -> Result<Answer, Problem> {
    let keyspaces = live_keyspaces(front).await?;
    let found = keyspaces.iter().find(|keyspace| keyspace.name == name);
    found.map(|keyspace| answer::json(StatusCode::OK, keyspace)).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no keyspace `{name}`"),
            "GET /v1/keyspaces lists them; PUT makes one",
        )
    })
}

/// The name of a keyspace in a path.
fn named(piece: &str) -> Result<String, Problem> {
    let bytes = address::decode(piece)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=NAME_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(allowed) {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Err(Problem::bad(
        format!("`{piece}` is no name of a keyspace"),
        format!("up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"),
    ))
}

/// A name that a new keyspace may have.
fn new_name(name: String) -> Result<String, Problem> {
    // In a path these two mean the directory and the one above, and clients take them out.
    if matches!(&*name, "." | "..") {
        let hint =
            "clients take it out of paths, so nobody could reach its keys: give another name";
        return Err(Problem::bad(format!("`{name}` cannot be the name of a keyspace"), hint));
    }
    named(&name)
}
