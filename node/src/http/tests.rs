//! What clients see, against a fake node behind a real inbox: golden transcripts, one for each way in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::admin::{
    AdminReply, AdminRequest, Change, Done, KeyspaceStatus, LayoutNode, Layouts, LiveLayout, Plan,
    PlannedNode, Refused, Why,
};
use rondo_core::budget::Memory;
use rondo_core::config::{MEMORY_BYTES_USUAL, VALUE_BYTES_MAX};
use rondo_core::engine::EngineStats;
use rondo_core::env::Wall;
use rondo_core::id::{ActorId, NodeId};
use rondo_core::inbox::{Arrival, Ask, Inbox, InboxReader};
use rondo_core::layout::keyspace::{Level, Policy};
use rondo_core::layout::{Quorums, Role};
use rondo_core::status::{
    ChangeStatus, Counters, HintCounters, HintStatus, HintTarget, LayoutStatus, MemberStatus,
    MemoryStatus, Served, Status, TakingStatus, TransferStatus,
};
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Stamp, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::{self, Action, By, Reply, Sibling};

use crate::http::answer::Answer;
use crate::http::claims::Claims;
use crate::http::front::Front;
use crate::http::head;
use crate::http::pieces::Body;
use crate::http::router::handle;
use crate::http::seats::{Seats, Taken};
use crate::http::visit::Visit;

/// A key's count of writes, and its value with the content type.
type Map = BTreeMap<Bytes, (u64, Option<(Bytes, Bytes, Option<u64>)>)>;

/// A node that keeps values in a map, counts versions up, and fails on the keys whose name says so.
async fn fake_node(mut reader: InboxReader) {
    let mut map = Map::new();
    loop {
        let mut batch = Vec::new();
        poll_fn(|context| reader.poll_batch(context, &mut batch, 64)).await;
        for arrival in batch {
            match arrival {
                Arrival::Client(Ask::Request(request, sink)) => {
                    if request.key.starts_with(b"silence") {
                        continue;
                    }
                    sink.reply(fake_reply(&mut map, &request));
                }
                Arrival::Client(Ask::Status(sink)) => sink(fake_status()),
                Arrival::Client(Ask::Admin(request, sink)) => sink(fake_admin(&request)),
                Arrival::Stop => return,
                _ => {}
            }
        }
    }
}

fn context(n: u64) -> Context {
    let clock = if n == 0 { vec![] } else { vec![(ActorId(0xa), n)] };
    Context { clock: VersionVector::new(clock), highest: Hlc(n) }
}

fn version(n: u64) -> Stamp {
    Stamp { hlc: Hlc(Hlc::at(Wall(1_700_000_000_000)).0 + n), actor: ActorId(0xa), step: 0 }
}

fn sibling(n: u64, value: Bytes, content_type: Bytes) -> Sibling {
    Sibling { version: version(n), digest: n, content_type, expires: None, value }
}

fn fake_reply(map: &mut Map, request: &client::Request) -> Reply {
    let reason = || "2 of 3 replicas do not answer".to_owned();
    match &request.key[..] {
        b"slow" => return Reply::Indeterminate { acks: 1, needed: 2 },
        b"gone" => return Reply::unavailable(reason()),
        b"barred" => {
            return Reply::unavailable("this data directory does not count any more").lasting();
        }
        b"full" => return Reply::overloaded("the key has too many siblings").lasting(),
        b"busy" => {
            return Reply::overloaded("16384 requests are in flight");
        }
        b"odd" => {
            return Reply::BadRequest { reason: "the key is odd".to_owned() };
        }
        b"twins" => {
            let twins = vec![
                sibling(2, "two".into(), "text/plain".into()),
                sibling(1, vec![0xff, 0].into(), Bytes::new()),
            ];
            return Reply::Found { siblings: twins, context: context(2), by: By::Primaries };
        }
        b"beside" => {
            let values = vec![sibling(1, "beside a delete".into(), "text/plain".into())];
            return Reply::NotFound { siblings: values, context: context(2), by: By::Primaries };
        }
        b"echo" => {
            let said = format!(
                "named={} id={} attempt={} level={:?} deadline={:?}",
                request.named, request.id, request.attempt, request.level, request.deadline_ms
            );
            return Reply::Found {
                siblings: vec![sibling(1, said.into(), Bytes::new())],
                context: context(1),
                by: By::Primaries,
            };
        }
        _ => {}
    }
    let slot = map.entry(request.key.clone()).or_default();
    match &request.action {
        Action::Put { value, content_type, context: seen, ttl_ms } => {
            if seen.as_ref().is_some_and(|seen| *seen != context(slot.0)) {
                return Reply::BadRequest { reason: "the fake node knows a newer context".into() };
            }
            *slot = (slot.0 + 1, Some((value.clone(), content_type.clone(), *ttl_ms)));
            Reply::Stored { context: context(slot.0), version: version(slot.0), by: By::Primaries }
        }
        Action::Delete { .. } => {
            *slot = (slot.0 + 1, None);
            Reply::Stored { context: context(slot.0), version: version(slot.0), by: By::Primaries }
        }
        Action::Get => match slot {
            (n, Some((value, kind, ttl_ms))) => {
                let found = sibling(*n, value.clone(), kind.clone());
                let expires = ttl_ms.map(|ms| found.version.hlc.plus_ms(ms));
                let siblings = vec![Sibling { expires, ..found }];
                Reply::Found { siblings, context: context(*n), by: By::Primaries }
            }
            (n, None) => {
                Reply::NotFound { siblings: Vec::new(), context: context(*n), by: By::Primaries }
            }
        },
    }
}

fn member(name: &str, number: u16, state: &'static str) -> MemberStatus {
    MemberStatus {
        node: NodeId(u128::from(number)).to_string(),
        name: name.to_owned(),
        peer_address: format!("127.0.0.1:{}", 7946 + number),
        client_address: format!("127.0.0.1:{}", 8080 + number),
        state,
        last_heard_ms: Some(40),
        durable: None,
        me: number == 1,
        in_layout: true,
        role: "member",
    }
}

fn fake_hints() -> HintStatus {
    HintStatus {
        targets: vec![HintTarget {
            node: NodeId(2).to_string(),
            name: "beta".to_owned(),
            state: "dead",
            hints: 3,
            bytes: 300,
            oldest_ms: 61_000,
        }],
        stored: 3,
        bytes: 300,
        counters: HintCounters { written: 4, delivered: 1, ..HintCounters::default() },
        ..HintStatus::default()
    }
}

fn fake_status() -> Status {
    let role = |number: u128, name: &str| Role {
        node: NodeId(number),
        name: name.to_owned(),
        weight: 150,
        zone: String::new(),
    };
    let quorums = Quorums { n: 2, r: 2, w: 1 };
    Status {
        node: NodeId(1).to_string(),
        name: "alpha".to_owned(),
        cluster: "rondo".to_owned(),
        boot: 3,
        uptime_ms: 61_500,
        clock_ahead_ms: -3,
        ready: true,
        waiting: Vec::new(),
        barred: None,
        denied: false,
        troubles: Vec::new(),
        damaged_keys: 0,
        notes: Vec::new(),
        layout: Some(LayoutStatus {
            version: 1,
            digest: "00ff".to_owned(),
            partitions: 4,
            quorums,
            wanted: Quorums { n: 3, r: 2, w: 2 },
            roles: vec![role(1, "alpha"), role(2, "beta")],
            owners: vec![vec![0, 1], vec![1, 0], vec![0, 1], vec![1, 0]],
            keyspaces: vec!["default".to_owned()],
        }),
        change: ChangeStatus { live: vec![1], units: 4, ..ChangeStatus::default() },
        repairs: rondo_core::status::RepairStatus::default(),
        purges: Default::default(),
        transfers: TransferStatus {
            taking: vec![TakingStatus {
                group: 0,
                partition: 3,
                from: Some("beta".to_owned()),
                done: 0,
                needed: 1,
                trouble: Some("it does not answer"),
            }],
            taken_units: 3,
            taken_keys: 7,
            taken_bytes: 900,
            ..TransferStatus::default()
        },
        hints: fake_hints(),
        members: vec![member("alpha", 1, "alive"), member("beta", 2, "dead")],
        served: Some(Served { partitions: 4, quorum: 0, whole: 0 }),
        keys: 7,
        deleted_keys: 2,
        engine: EngineStats {
            name: "bitcask",
            records: 12,
            own_records: 3,
            tombstones: 1,
            disk_bytes: 4096,
            reads: 20,
            writes: 10,
            ..EngineStats::default()
        },
        counters: Counters { gets: 4, puts: 2, get_us: 400, put_us: 900, ..Counters::default() },
        in_flight: 0,
        memory: MemoryStatus::default(),
    }
}

/// What the fake node has staged is what it was asked last; it proposes layout 2, and refuses by name.
fn fake_admin(request: &AdminRequest) -> AdminReply {
    let staged = match request {
        AdminRequest::Layout | AdminRequest::Unstage | AdminRequest::SkipDead { .. } => Vec::new(),
        AdminRequest::Stage(Change::Leave { node }) if node == "nobody" => {
            let hint = "rondo status lists the nodes";
            return Err(Refused::new(Why::Unknown, "there is no node `nobody`", hint));
        }
        AdminRequest::Stage(change) => vec![change.clone()],
        AdminRequest::Plan => return Ok(Done::Plan(fake_plan())),
        AdminRequest::Repair => {
            return Ok(Done::Repairs(rondo_core::status::RepairStatus::default()));
        }
        AdminRequest::Merkle { partition } => {
            let (name, trees) = ("node-1".to_owned(), Vec::new());
            let (partition, format) = (*partition, 1);
            return Ok(Done::Merkle(rondo_core::status::MerkleStatus {
                name,
                partition,
                format,
                trees,
            }));
        }
        AdminRequest::Commit { expected: Some(1) } => {
            let hint = "look at `rondo cluster plan` again";
            return Err(Refused::new(Why::Conflict, "layout 1 is live already", hint));
        }
        AdminRequest::Commit { .. } | AdminRequest::Apply(_) => {
            return Ok(Done::Proposed { proposed: 2, digest: "2d".repeat(16) });
        }
    };
    let node = LayoutNode {
        name: "alpha".to_owned(),
        node: NodeId(1).to_string(),
        weight: 150,
        zone: String::new(),
    };
    let keyspace = KeyspaceStatus {
        name: "default".to_owned(),
        id: 1,
        quorums: Quorums { n: 1, r: 1, w: 1 },
        wanted: Quorums { n: 3, r: 2, w: 2 },
        level: Level::Quorum,
        policy: Policy::Newest,
        ttl_ms: 0,
        sloppy: false,
    };
    let live = LiveLayout { version: 1, digest: "00ff".to_owned(), nodes: vec![node] };
    let (live, given_up, keyspaces) = (vec![live], Vec::new(), vec![keyspace]);
    Ok(Done::Layouts(Layouts { live, proposed: None, staged, given_up, keyspaces }))
}

fn fake_plan() -> Plan {
    let node = |name: &str, number: u128, owns, will_own, gets| PlannedNode {
        name: name.to_owned(),
        node: NodeId(number).to_string(),
        zone: String::new(),
        owns,
        will_own,
        gets,
    };
    let changes = vec![Change::Join { node: "beta".to_owned(), weight: Some(150), zone: None }];
    let nodes = vec![node("alpha", 1, 4, 4, 0), node("beta", 2, 0, 4, 4)];
    Plan { version: 2, changes, nodes, moves: 4, replicas: 8 }
}

/// A body, whether it comes at once or in pieces.
async fn all_of(body: Body) -> Bytes {
    let mut pieces = match body {
        Body::Whole(bytes) => return bytes,
        Body::Pieces(pieces) => pieces,
    };
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|context| pieces.source.poll_next(context)).await {
        all.extend_from_slice(&piece.expect("it does not break off"));
    }
    all.into()
}

/// A client that writes down everything that is said.
struct Session {
    front: Arc<Front>,
    claims: Arc<Claims>,
    taken: Taken,
    inbox: Inbox,
    transcript: String,
    last_context: Option<String>,
}

const SHOWN: &[&str] = &[
    "content-type",
    "etag",
    "x-rondo-siblings",
    "x-rondo-outcome",
    "allow",
    "connection",
    "retry-after",
    "access-control-allow-origin",
];

impl Session {
    fn start() -> Session {
        Session::with_cors(None)
    }

    fn with_cors(origin: Option<String>) -> Session {
        let (inbox, reader) = Inbox::new(Memory::new(MEMORY_BYTES_USUAL));
        tokio::spawn(fake_node(reader));
        let front = Arc::new(Front::new(inbox.clone(), b"secret".to_vec(), 7, origin));
        let seats = Seats::new();
        let taken = seats.take();
        let claims = Claims::new(inbox.memory().clients.clone(), seats);
        Session { front, claims, taken, inbox, transcript: String::new(), last_context: None }
    }

    async fn say(&mut self, line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> u16 {
        let body: Bytes = body.into();
        let mut request = format!("{line} HTTP/1.1\r\nHost: h\r\n");
        let mut shown = String::new();
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").expect("text");
            if !name.starts_with("x-rondo-context") {
                write!(shown, " [{name}: {value}]").expect("text");
            }
        }
        if !body.is_empty() {
            let cut = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            write!(shown, " {cut}").expect("text");
        }
        let answer = self.answer(&format!("{request}\r\n"), body).await;
        let (parts, body) = answer.into_parts();
        let body = all_of(body).await;
        writeln!(self.transcript, "> {line}{shown}\n{}", parts.status).expect("text");
        for name in SHOWN {
            if let Some(value) = parts.headers.get(*name) {
                writeln!(self.transcript, "{name}: {}", value.to_str().expect("text"))
                    .expect("text");
            }
        }
        let token = parts.headers.get("x-rondo-context");
        self.last_context = token.map(|token| token.to_str().expect("text").to_owned());
        if token.is_some() {
            writeln!(self.transcript, "x-rondo-context: (a token)").expect("text");
        }
        let mut text = String::from_utf8_lossy(&body).into_owned();
        if let Some(token) = &self.last_context {
            text = text.replace(token, "(a token)");
        }
        writeln!(self.transcript, "{text}\n").expect("text");
        parts.status.as_u16()
    }

    async fn answer(&self, request: &str, body: Bytes) -> Answer {
        let claim = Arc::new(self.claims.open(&self.taken.seat));
        let visit = Visit { front: &self.front, claim: &claim, source: 0 };
        match head::parse(request.as_bytes()) {
            Ok(head) => handle(visit, &head.expect("a whole head").0, body).await,
            Err(problem) => problem.answer(),
        }
    }

    async fn get(&mut self, target: &str) -> u16 {
        self.say(&format!("GET {target}"), &[], "").await
    }
}

#[tokio::test]
async fn the_native_routes_store_raw_bytes() {
    let mut session = Session::start();
    session.get("/v1/kv/default/user:1").await;
    let json = [("content-type", "application/json; charset=utf-8")];
    session.say("PUT /v1/kv/default/user:1?consistency=all", &json, r#"{"a":1}"#).await;
    session.get("/v1/kv/default/user:1").await;
    session.say("HEAD /v1/kv/default/user:1", &[], "").await;
    session.say("PUT /v1/kv/default/a%2Fb", &[], "no type").await;
    session.get("/v1/kv/default/a/b").await;
    session.say("PUT /v1/kv/default/empty", &[], "").await;
    session.get("/v1/kv/default/empty").await;
    session.say("DELETE /v1/kv/default/user:1", &[], "").await;
    session.get("/v1/kv/default/user:1").await;
    session.get("/v1/kv/default/twins").await;
    session.get("/v1/kv/default/twins?siblings=true").await;
    session.get("/v1/kv/default/beside").await;
    session.get("/v1/kv/default/beside?siblings=true").await;
    session.get("/kv/beside").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn a_context_goes_out_and_comes_back_for_its_own_key_only() {
    let mut session = Session::start();
    session.say("PUT /v1/kv/default/one", &[], "1").await;
    let token = session.last_context.clone().expect("a put answers a context");
    let seen = [("x-rondo-context", token.as_str())];
    assert_eq!(session.say("PUT /v1/kv/default/one", &seen, "2").await, 204);
    assert_eq!(session.say("PUT /v1/kv/default/one", &seen, "3").await, 400, "it was old");
    assert_eq!(session.say("PUT /v1/kv/default/other", &seen, "2").await, 400);
    assert!(session.transcript.contains("belongs to another key"));
    let forged = [("x-rondo-context", "AAAA")];
    assert_eq!(session.say("DELETE /v1/kv/default/one", &forged, "").await, 400);
    let body = format!(r#"{{"value": "by hand", "context": "{token}"}}"#);
    assert_eq!(session.say("PUT /kv/other", &[], body).await, 400, "in a body too");
}

#[tokio::test]
async fn options_reach_the_node() {
    let mut session = Session::start();
    let id = [("x-rondo-request-id", "000000000000000000000000000000ff")];
    session.say("GET /v1/kv/default/echo?consistency=one&timeout=2s", &id, "").await;
    let token = [("x-rondo-request-id", "order 12"), ("x-rondo-attempt", "2")];
    session.say("GET /v1/kv/default/echo?consistency=ALL&timeout=250", &token, "").await;
    session.say("GET /v1/kv/default/echo?timeout=250ms", &[], "").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_hint() {
    let mut session = Session::start();
    for (line, header) in [
        ("GET /v1/kv/default/k?consistancy=one", ("a", "b")),
        ("GET /v1/kv/default/k?consistency=most", ("a", "b")),
        ("GET /v1/kv/default/k?timeout=1h", ("a", "b")),
        ("GET /v1/kv/default/k?timeout=31s", ("a", "b")),
        ("GET /v1/kv/default/k?siblings=maybe", ("a", "b")),
        ("PUT /v1/kv/default/k?ttl=60", ("a", "b")),
        ("PUT /v1/kv/default/k?ttl=0s", ("a", "b")),
        ("PUT /v1/kv/default/k?ttl=40000d", ("a", "b")),
        ("GET /v1/kv/default/k?ttl=60s", ("a", "b")),
        ("DELETE /v1/kv/default/k?ttl=60s", ("a", "b")),
        ("GET /v1/kv/default/k?explain=true", ("a", "b")),
        ("PUT /v1/kv/default/k", ("if-match", "\"1\"")),
        ("PUT /v1/kv/default/k", ("if-none-match", "*")),
        ("DELETE /v1/kv/default/k", ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")),
        ("PUT /v1/kv/default/k", ("content-range", "bytes 0-3/10")),
        ("PUT /kv/k", ("content-range", "bytes 0-3/10")),
        ("PUT /v1/kv/default/k", ("x-rondo-attempt", "0")),
        ("PUT /v1/kv/default/k", ("x-rondo-attempt", "2")),
        ("PUT /v1/kv/default/k", ("x-rondo-request-id", "")),
        ("GET /v1/kv/default/k?timeout=1s&timeout=2s", ("a", "b")),
        ("GET /v1/kv/default/item#1", ("a", "b")),
        ("GET /v1/kv/default/%zz", ("a", "b")),
        ("GET /v1/kv/default/", ("a", "b")),
        ("GET /v1/kv/default", ("a", "b")),
        ("GET /v1/kv/other/k", ("a", "b")),
        ("GET /v1/statsu", ("a", "b")),
        ("GET /nowhere/at/all", ("a", "b")),
        ("GET /v1/status?verbose=1", ("a", "b")),
        ("POST /v1/kv/default/k", ("a", "b")),
        ("PUT /v1/status", ("a", "b")),
        ("GET /v1/hints", ("a", "b")),
        ("POST /v1/cluster/join", ("a", "b")),
        ("PUT /v1/cluster/join", ("a", "b")),
        ("POST /v1/cluster/commti", ("a", "b")),
        ("POST /v1/cluster/plan?dry=true", ("a", "b")),
        ("GET /v1/keyspaces/default", ("a", "b")),
        ("GET /api/v1/kv", ("a", "b")),
        ("GET /admin/keys", ("a", "b")),
    ] {
        session.say(line, &[header], "").await;
    }
    insta::assert_snapshot!(session.transcript.replace(" [a: b]", ""));
}

#[tokio::test]
async fn every_class_of_outcome_has_its_status() {
    let mut session = Session::start();
    for key in ["slow", "gone", "busy", "barred", "full", "odd"] {
        session.say(&format!("PUT /v1/kv/default/{key}"), &[], "x").await;
    }
    session.get("/v1/kv/default/barred").await;
    session.say("PUT /kv/slow", &[], r#"{"value":"x"}"#).await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn a_key_or_value_above_its_bound_is_413_and_at_its_bound_is_stored() {
    let mut session = Session::start();
    let key = "k".repeat(4096);
    assert_eq!(session.say(&format!("PUT /v1/kv/default/{key}"), &[], "x").await, 204);
    assert_eq!(session.say(&format!("PUT /v1/kv/default/{key}k"), &[], "x").await, 413);
    assert!(session.transcript.contains("the key has 4097 bytes; a key has at most 4096"));
    let value = vec![b'v'; VALUE_BYTES_MAX];
    assert_eq!(session.say("PUT /v1/kv/default/big", &[], value.clone()).await, 204);
    let longer = vec![b'v'; VALUE_BYTES_MAX + 1];
    for target in ["/v1/kv/default/big", "/kv/big", "/api/v1/kv/big", "/api/v1/data/big"] {
        assert_eq!(session.say(&format!("PUT {target}"), &[], longer.clone()).await, 413);
    }
    assert_eq!(session.say("PUT /kv/big", &[], value).await, 200);
    // A value of the allowed length whose JSON is six times as long.
    let escaped = format!(r#"{{"value":"{}"}}"#, "\\u0001".repeat(VALUE_BYTES_MAX));
    assert_eq!(session.say("PUT /kv/big", &[], escaped).await, 200);
    let kind = "x".repeat(257);
    let long = [("content-type", kind.as_str())];
    assert_eq!(session.say("PUT /v1/kv/default/k", &long, "x").await, 400);
}

#[tokio::test]
async fn dialect_a() {
    let mut session = Session::start();
    session.say("PUT /api/v1/data/user:1", &[], r#"{"value":"x"}"#).await;
    session.get("/api/v1/data/user:1").await;
    let raw = [("content-type", "application/octet-stream")];
    session.say("PUT /api/v1/data/raw", &raw, vec![0xff, b'x']).await;
    session.get("/api/v1/data/raw").await;
    session.say("DELETE /api/v1/data/user:1", &[], "").await;
    session.get("/api/v1/data/user:1").await;
    session.get("/api/v1/vector-clock?key=raw").await;
    session.get("/api/v1/vector-clock?key=user:1&consistency=all").await;
    session.get("/api/v1/vector-clock").await;
    session.get("/api/v1/merkle-tree").await;
    session.get("/api/v1/merkle-tree?partition=1").await;
    session.get("/v1/keys/default/raw/clock?consistency=one").await;
    session.get("/v1/keys/default/a%2Fb/clock").await;
    session.get("/v1/keys/nowhere/raw/clock").await;
    session.get("/v1/keys/default/raw").await;
    session.say("PUT /v1/keys/default/raw/clock", &[], "x").await;
    for target in ["status", "ring", "storage", "cluster"] {
        session.get(&format!("/api/v1/{target}")).await;
    }
    session.get("/gossip/members").await;
    session.get("/gossip/status").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn dialect_b() {
    let mut session = Session::start();
    let json = [("content-type", "application/json")];
    session.say("PUT /kv/user:1", &json, r#"{"value":"x","consistency":"all"}"#).await;
    session.get("/kv/user:1?consistency=one").await;
    session.get("/kv/nobody").await;
    session.say("PUT /kv/number", &json, r#"{"value": {"a": [1, null]}}"#).await;
    session.get("/kv/number").await;
    session.get("/v1/kv/default/number").await;
    for value in ["null", "12345678901234567890123", "1.10", "1E5", r#"{"a":1, "a":2}"#, "[ ]"] {
        session.say("PUT /kv/exact", &json, format!(r#"{{"value": {value} }}"#)).await;
        session.get("/kv/exact").await;
        let shown = format!("\"key\":\"exact\",\"value\":{value},\"version\":");
        assert!(session.transcript.contains(&shown), "{value}: {}", session.transcript);
    }
    session.say("DELETE /kv/user:1", &[], "").await;
    session.get("/kv/user:1").await;
    session.get("/health").await;
    session.get("/admin/status").await;
    session.get("/admin/ring").await;
    session.get("/admin/stats").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn dialect_c() {
    let mut session = Session::start();
    session.say("PUT /api/v1/kv/user:1", &[], "hello").await;
    session.get("/api/v1/kv/user:1").await;
    session.say("PUT /api/v1/kv/user:1", &[], r#"{"value":"in JSON"}"#).await;
    session.get("/api/v1/kv/user:1").await;
    let json = [("content-type", "application/json")];
    session.say("PUT /api/v1/kv/doc", &json, r#"{"name":"a document"}"#).await;
    session.get("/api/v1/kv/doc").await;
    session.say("DELETE /api/v1/kv/user:1", &[], "").await;
    session.get("/api/v1/kv/user:1").await;
    session.get("/api/v1/cluster/status").await;
    session.get("/api/v1/cluster/nodes").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn a_value_that_expires_says_when() {
    let mut session = Session::start();
    let json = [("content-type", "application/json")];
    session.say("PUT /v1/kv/default/k?ttl=90s", &[], "x").await;
    session.get("/v1/kv/default/k").await;
    session.say("PUT /v1/kv/default/k?ttl=100h", &[], "x").await;
    session.get("/v1/kv/default/k").await;
    session.say("PUT /v1/kv/default/k", &[], "x").await;
    session.get("/v1/kv/default/k").await;
    session.say("PUT /kv/k", &json, r#"{"value":"x","ttl":"15m"}"#).await;
    session.get("/kv/k").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn a_json_body_that_cannot_be_meant_is_refused() {
    let mut session = Session::start();
    let json = [("content-type", "application/json")];
    let form = [("content-type", "application/x-www-form-urlencoded")];
    session.say("PUT /kv/k", &json, r#"{"value": "#).await;
    session.say("PUT /kv/k", &json, "[1]").await;
    session.say("PUT /kv/k", &json, "").await;
    session.say("PUT /kv/k", &form, r#"{"valeu":"x"}"#).await;
    session.say("PUT /kv/k", &json, r#"{"value":"x","ttl":5}"#).await;
    session.say("PUT /kv/k", &json, r#"{"value":"x","consistncy":"one"}"#).await;
    session.say("PUT /kv/k", &json, r#"{"value":"x","consistency":"qourum"}"#).await;
    session.say("PUT /kv/k", &json, r#"{"value":"x","consistency":1}"#).await;
    session.say("PUT /api/v1/data/k", &json, r#"{"name":"x"}"#).await;
    // Broken JSON under a content type that says nothing is a raw value.
    session.say("PUT /kv/k", &form, "{not json").await;
    session.get("/kv/k").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn pictures_of_the_node() {
    let mut session = Session::start();
    for target in ["/", "/live", "/ready", "/v1/status", "/v1/cluster", "/v1/ring", "/v1/storage"] {
        session.get(target).await;
    }
    // The fake node is ready, and none of its partitions has a quorum.
    assert_eq!(session.get("/ready?partitions=any").await, 200);
    assert_eq!(session.get("/ready?partitions=all").await, 503);
    assert_eq!(session.get("/ready?partitions=most").await, 400);
    assert_eq!(session.get("/health?partitions=all").await, 400);
    session.front.stop();
    session.get("/ready").await;
    session.get("/health").await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn operators_stage_plan_and_commit() {
    let mut session = Session::start();
    session.get("/v1/cluster/layout").await;
    let stage = "POST /v1/cluster/layout/stage";
    session.say(stage, &[], r#"{"change":"join","node":"beta","zone":"east"}"#).await;
    let all = r#"{"change":"keyspace","name":"carts","wanted":{"n":3,"policy":"siblings"}}"#;
    session.say(stage, &[], all).await;
    session.say(stage, &[], r#"{"change":"drop-keyspace","name":"carts"}"#).await;
    session.say("DELETE /v1/cluster/layout/stage", &[], "").await;
    session.say("POST /v1/cluster/join", &[], r#"{"node":"beta","weight":75}"#).await;
    session.say("POST /v1/cluster/leave", &[], r#"{"node":"alpha"}"#).await;
    session.say("POST /v1/cluster/replace", &[], r#"{"old":"alpha","new":"beta"}"#).await;
    session.say("POST /v1/cluster/leave?commit=true", &[], r#"{"node":"alpha"}"#).await;
    session.say("POST /v1/cluster/plan", &[], "").await;
    session.say("POST /v1/cluster/layout/commit", &[], r#"{"version":2}"#).await;
    session.say("POST /v1/cluster/commit", &[], "").await;
    session.say("POST /v1/cluster/layout/skip-dead", &[], r#"{"node":"beta"}"#).await;
    let accepts = r#"{"node":"beta","accept_loss":true}"#;
    session.say("POST /v1/cluster/layout/skip-dead", &[], accepts).await;
    session.get("/v1/cluster/members").await;
    session.get("/v1/transfers").await;
    session.get("/v1/hints").await;
    session.get("/v1/keyspaces").await;
    session.get("/v1/keyspaces/default").await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"n":3,"r":2,"w":2,"level":"all"}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], "").await;
    session.say("DELETE /v1/keyspaces/carts", &[], "").await;
    session.say("POST /gossip/join", &[], r#"{"node_id":"beta"}"#).await;
    session.say("POST /gossip/leave", &[], "").await;
    let member = r#"{"id":"beta","address":"127.0.0.1:8082"}"#;
    session.say("POST /api/v1/cluster/members", &[], member).await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn what_an_operator_cannot_mean_is_refused_with_a_hint() {
    let mut session = Session::start();
    let stage = "POST /v1/cluster/layout/stage";
    session.say(stage, &[], "").await;
    session.say(stage, &[], r#"{"change":"jion","node":"beta"}"#).await;
    session.say(stage, &[], r#"{"change":"join","node":"beta","wieght":3}"#).await;
    session.say(stage, &[], r#"{"change":"keyspace","name":"carts","wanted":{"rf":3}}"#).await;
    session.say("POST /v1/cluster/replace", &[], r#"{"node":"beta"}"#).await;
    session.say("POST /v1/cluster/leave", &[], r#"{"node":"nobody"}"#).await;
    session.say("POST /v1/cluster/leave?commit=maybe", &[], r#"{"node":"alpha"}"#).await;
    session.say("POST /v1/cluster/commit?commit=true", &[], "").await;
    session.say("POST /v1/cluster/commit", &[], r#"{"version":1}"#).await;
    session.say("POST /v1/cluster/commit", &[], r#"{"expected":2}"#).await;
    session.get("/v1/keyspaces/nowhere").await;
    session.get("/v1/keyspaces/a%2Fb").await;
    session.say("PUT /v1/keyspaces/..", &[], "").await;
    session.say(stage, &[], r#"{"change":"keyspace","name":"."}"#).await;
    session.say(stage, &[], r#"{"change":"keyspace","name":"a/b"}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"n":300}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"n":3,"ttl":60}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"engine":"lsm"}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"mode":"raft"}"#).await;
    session.say("PUT /v1/keyspaces/carts", &[], r#"{"conflict":"nobody"}"#).await;
    insta::assert_snapshot!(session.transcript);
}

#[tokio::test]
async fn browsers_may_call_from_the_allowed_origin_only() {
    let mut session = Session::with_cors(Some("https://example.org".to_owned()));
    assert_eq!(session.say("OPTIONS /v1/kv/default/k", &[], "").await, 204);
    assert_eq!(session.get("/v1/statsu").await, 404);
    assert_eq!(session.transcript.matches("allow-origin: https://example.org").count(), 2);
    let mut closed = Session::start();
    assert_eq!(closed.say("OPTIONS /v1/kv/default/k", &[], "").await, 405);
    assert!(!closed.transcript.contains("allow-origin"));
}

#[tokio::test]
async fn a_node_that_stops_leaves_writes_undecided_and_reads_unanswered() {
    let mut session = Session::start();
    let inbox = session.inbox.clone();
    let (written, ()) = tokio::join!(
        session.say("PUT /v1/kv/default/silence", &[], "x"),
        async move { inbox.stop() }
    );
    assert_eq!(written, 504, "nobody knows whether it happened");
    assert!(session.transcript.contains("x-rondo-outcome: indeterminate"));
    // Now nobody takes from the inbox any more.
    assert_eq!(session.say("PUT /v1/kv/default/k", &[], "x").await, 503);
    assert_eq!(session.get("/v1/status").await, 503);
}
