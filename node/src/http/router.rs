//! Which handler a request goes to.
//!
//! Paths are cut by hand, the ones of keys first: that costs tens of nanoseconds, and a key may hold anything, `/`
//! included (`a%2Fb` and `a/b` are the same key).

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderValue,
};
use hyper::{Method, StatusCode};
use rondo_core::config::VALUE_BYTES_MAX;
use rondo_core::layout::keyspace;

use crate::http::admin::{self, Admin};
use crate::http::answer::{self, Answer, Problem};
use crate::http::body::too_large;
use crate::http::dialects::{self, Dialect};
use crate::http::front::Front;
use crate::http::head::{Framing, Head};
use crate::http::kv::{Options, Target};
use crate::http::limits::{ADMIN_BODY_BYTES_MAX, JSON_BODY_BYTES_MAX};
use crate::http::views::{self, View};
use crate::http::visit::Visit;
use crate::http::{address, inside, native};
use crate::nearest::nearest;

/// Where a path leads.
#[derive(Clone, Copy)]
enum Route<'a> {
    Native { keyspace: &'a str, key: &'a str },
    Dialect(Dialect, &'a str),
    Clock { keyspace: &'a str, key: &'a str },
    VectorClock,
    MerkleTree,
    View(View),
    Admin(Admin<'a>),
    NotBuilt(&'static str),
}

const KEY: &str = "GET, HEAD, PUT, DELETE";
const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";
const STAGE: &str = "POST, DELETE";
const KEYSPACE: &str = "GET, HEAD, PUT, DELETE";

const VIEWS: &[(&str, View)] = &[
    ("/", View::Welcome),
    ("/live", View::Live),
    ("/ready", View::Ready),
    ("/health", View::Health),
    ("/v1/status", View::Status),
    ("/v1/cluster", View::Cluster),
    ("/v1/cluster/members", View::Members),
    ("/v1/transfers", View::Transfers),
    ("/v1/hints", View::Hints),
    ("/v1/ring", View::Ring),
    ("/v1/storage", View::Storage),
    ("/api/v1/status", View::Status),
    ("/api/v1/cluster", View::Cluster),
    ("/api/v1/ring", View::Ring),
    ("/api/v1/storage", View::Storage),
    ("/gossip/members", View::GossipMembers),
    ("/gossip/status", View::GossipStatus),
    ("/admin/status", View::AdminStatus),
    ("/admin/ring", View::Ring),
    ("/admin/stats", View::AdminStats),
    ("/api/v1/cluster/status", View::ClusterStatus),
    ("/api/v1/cluster/nodes", View::ClusterNodes),
];

const ADMIN: &[(&str, Admin<'static>, &str)] = &[
    ("/v1/cluster/layout", Admin::Layout, READ),
    ("/v1/cluster/layout/stage", Admin::Stage, STAGE),
    ("/v1/cluster/layout/plan", Admin::Plan, WRITE),
    ("/v1/cluster/layout/commit", Admin::Commit, WRITE),
    ("/v1/cluster/layout/skip-dead", Admin::SkipDead, WRITE),
    ("/v1/repair", Admin::Repair, WRITE),
    ("/v1/cluster/join", Admin::StageOf("join"), WRITE),
    ("/v1/cluster/leave", Admin::StageOf("leave"), WRITE),
    ("/v1/cluster/replace", Admin::StageOf("replace"), WRITE),
    ("/v1/cluster/plan", Admin::Plan, WRITE),
    ("/v1/cluster/commit", Admin::Commit, WRITE),
    ("/v1/keyspaces", Admin::Keyspaces, READ),
    ("/gossip/join", Admin::JoinNow, WRITE),
    ("/gossip/leave", Admin::LeaveNow, WRITE),
    ("/api/v1/cluster/members", Admin::JoinNow, WRITE),
];

const NOT_BUILT: &[(&str, &str, &str)] = &[
    ("/api/v1/kv", "listing keys", READ),
    ("/admin/keys", "listing keys", READ),
    ("/v1/batch", "the batch route", WRITE),
    ("/v1/events", "the event stream", READ),
    ("/ws", "the event stream", READ),
    ("/metrics", "the Prometheus exporter", READ),
    ("/v1/openapi.json", "the OpenAPI document", READ),
];

const NOT_BUILT_BELOW: &[(&str, &str, &str)] = &[("/debug/pprof/", "profiling", READ)];

/// Answers one request.
pub async fn handle(visit: Visit<'_>, head: &Head, sent: Bytes) -> Answer {
    let mut answer = match dispatch(visit, head, sent).await {
        Ok(answer) => answer,
        Err(problem) => problem.answer(),
    };
    if let Some(origin) = visit.front.cors_origin() {
        allow_origin(answer.headers_mut(), origin);
    }
    answer
}

/// Whether the head alone leads somewhere.
pub fn check(head: &Head) -> Result<(), Problem> {
    find(head.uri.path(), &head.method)?;
    match head.framing {
        Framing::Length(length) if length > most(head) as u64 => Err(too_large(Some(length))),
        _ => Ok(()),
    }
}

/// How long the body of this request may be, in bytes.
#[must_use]
pub fn most(head: &Head) -> usize {
    match find(head.uri.path(), &head.method) {
        Ok(Route::Native { .. }) => VALUE_BYTES_MAX,
        Ok(Route::Admin(_)) => ADMIN_BODY_BYTES_MAX,
        _ => JSON_BODY_BYTES_MAX,
    }
}

/// Whether this is one of the questions that are answered however many connections there are.
#[must_use]
pub fn tells_how_the_node_is(head: &Head) -> bool {
    matches!(head.uri.path(), "/health" | "/live" | "/ready")
        && matches!(head.method, Method::GET | Method::HEAD)
}

async fn dispatch(visit: Visit<'_>, head: &Head, sent: Bytes) -> Result<Answer, Problem> {
    if head.method == Method::OPTIONS && visit.front.cors_origin().is_some() {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    match find(head.uri.path(), &head.method)? {
        Route::Native { keyspace, key } => {
            let target = target(visit.front, keyspace, key).await?;
            native::key(visit, &target, head, sent).await
        }
        Route::Dialect(dialect, key) => {
            let target = target(visit.front, keyspace::DEFAULT, key).await?;
            dialects::key(dialect, visit, &target, head, sent).await
        }
        Route::Clock { keyspace, key } => {
            let target = target(visit.front, keyspace, key).await?;
            inside::clock(visit, &target, &Options::read(head)?).await
        }
        Route::VectorClock => {
            inside::vector_clock(visit, head.uri.query().unwrap_or_default()).await
        }
        Route::MerkleTree => {
            inside::merkle_tree(visit.front, head.uri.query().unwrap_or_default()).await
        }
        Route::View(view) => {
            let view = asked(view, head.uri.query().unwrap_or_default())?;
            views::show(visit.front, view).await
        }
        Route::Admin(admin) => {
            let query = head.uri.query().unwrap_or_default();
            admin::act(visit.front, admin, (&head.method, query), &sent).await
        }
        Route::NotBuilt(what) => Err(Problem::not_built(what, "GET / lists what there is")),
    }
}

/// The picture that a query asks for.
fn asked(view: View, query: &str) -> Result<View, Problem> {
    let known: &[_] = if view == View::Ready { &["partitions"] } else { &[] };
    let parameters = address::parameters(query, known);
    let mut view = view;
    for parameter in parameters {
        view = match &*parameter?.1 {
            "any" => View::Ready,
            "all" => View::ReadyForAll,
            other => {
                let message = format!("`{other}` are no partitions that could be asked for");
                return Err(Problem::bad(message, "?partitions=any or ?partitions=all"));
            }
        };
    }
    Ok(view)
}

async fn target(front: &Front, keyspace: &str, key: &str) -> Result<Target, Problem> {
    let (keyspace, id) = front.keyspace(keyspace).await?;
    Target::new(keyspace, id, &address::decode(key)?)
}

/// The route of a path, when the method is one of its own.
fn find<'a>(path: &'a str, method: &Method) -> Result<Route<'a>, Problem> {
    let (route, methods) = route(path).ok_or_else(|| unknown(path))?;
    if methods.split(", ").any(|allowed| allowed == method.as_str()) {
        return Ok(route);
    }
    Err(Problem {
        allow: methods,
        ..Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not possible on {path}"),
            format!("this route takes {methods}"),
        )
    })
}

fn route(path: &str) -> Option<(Route<'_>, &'static str)> {
    if let Some(rest) = path.strip_prefix("/v1/kv/") {
        return Some(match rest.split_once('/') {
            Some((keyspace, key)) => (Route::Native { keyspace, key }, KEY),
            None => (Route::NotBuilt("listing keys"), READ),
        });
    }
    for (prefix, dialect) in
        [("/kv/", Dialect::B), ("/api/v1/kv/", Dialect::C), ("/api/v1/data/", Dialect::A)]
    {
        if let Some(key) = path.strip_prefix(prefix) {
            return Some((Route::Dialect(dialect, key), KEY));
        }
    }
    if let Some((_, view)) = VIEWS.iter().find(|(known, _)| *known == path) {
        return Some((Route::View(*view), READ));
    }
    if let Some((_, admin, methods)) = ADMIN.iter().find(|(known, _, _)| *known == path) {
        return Some((Route::Admin(*admin), methods));
    }
    if let Some((keyspace, key)) = clock_of(path) {
        return Some((Route::Clock { keyspace, key }, READ));
    }
    match path {
        "/api/v1/vector-clock" => return Some((Route::VectorClock, READ)),
        "/api/v1/merkle-tree" => return Some((Route::MerkleTree, READ)),
        _ => {}
    }
    if let Some(partition) = path.strip_prefix("/v1/merkle/") {
        return Some((Route::Admin(Admin::Merkle(partition)), READ));
    }
    if let Some(name) = path.strip_prefix("/v1/keyspaces/") {
        return Some((Route::Admin(Admin::Keyspace(name)), KEYSPACE));
    }
    let exact = NOT_BUILT.iter().find(|(known, _, _)| *known == path);
    let below = || NOT_BUILT_BELOW.iter().find(|(known, _, _)| path.starts_with(known));
    exact.or_else(below).map(|(_, what, methods)| (Route::NotBuilt(what), *methods))
}

/// The keyspace and the key of `/v1/keys/{keyspace}/{key}/clock`.
fn clock_of(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/v1/keys/")?.strip_suffix("/clock")?.split_once('/')
}

fn unknown(path: &str) -> Problem {
    let views = VIEWS.iter().map(|(known, _)| *known).filter(|known| known.len() > 1);
    let known = views.chain(ADMIN.iter().map(|(known, _, _)| *known));
    let hint = match nearest(path, known) {
        Some(near) => format!("did you mean {near}? GET / lists the routes"),
        None => "GET / lists the routes; a key is at /v1/kv/{keyspace}/{key}".to_owned(),
    };
    Problem::new(StatusCode::NOT_FOUND, format!("there is no route {path}"), hint)
}

/// Lets browsers on pages from `origin` call this node.
fn allow_origin(headers: &mut HeaderMap, origin: &str) {
    let value =
        |text: &str| HeaderValue::from_str(text).expect("settings allow visible ASCII only");
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value(origin));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, value("GET, HEAD, PUT, POST, DELETE"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        value("content-type, x-rondo-context, x-rondo-request-id, x-rondo-attempt"),
    );
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        value("etag, x-rondo-context, x-rondo-siblings, x-rondo-outcome"),
    );
}
