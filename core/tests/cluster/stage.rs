//! The stage: a few nodes, the messages between them, disks whose syncs end when the story says so, and a
//! transcript of everything.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use rondo_core::codec;
use rondo_core::config::{Actors, Durability, MEMORY_BYTES_USUAL, NodeConfig};
use rondo_core::engine::{
    Batch, Change, Engine, EngineStats, Lookup, MemoryEngine, Page, Progress, ReadTicket,
};
use rondo_core::env::{Address, Mono, Wall};
use rondo_core::error::{Error, Result};
use rondo_core::id::{
    BootEpoch, ClientTag, Life, Lsn, NodeId, ReadId, RequestId, SessionId, SyncId,
};
use rondo_core::message::{Action, Envelope, Gossip, Message, Reply, Request};
use rondo_core::node::Node;
use rondo_core::probe::Probe;
use rondo_core::step::{Env, Input};
use rondo_core::version::context::Context;
use rondo_core::version::dvv::VersionSet;
use rondo_core::version::hlc::Hlc;

/// An engine whose syncs take as long as the story wants, and whose reads are cold when it says so.
pub(crate) struct SlowEngine {
    inner: MemoryEngine,
    written: Lsn,
    durable: Lsn,
    syncing: Option<(SyncId, Lsn)>,
    pub(crate) cold: bool,
    /// So many reads more are cold, and those after them are not.
    pub(crate) cold_gets: usize,
    /// What was found at the moment of each ticket: that, and nothing newer, is what its read brings.
    tickets: Vec<Lookup>,
    reading: Vec<ReadId>,
}

impl SlowEngine {
    fn new() -> SlowEngine {
        SlowEngine {
            inner: MemoryEngine::new(),
            written: Lsn(0),
            durable: Lsn(0),
            syncing: None,
            cold: false,
            cold_gets: 0,
            tickets: Vec::new(),
            reading: Vec::new(),
        }
    }

    /// Another engine with all that is in this one.
    pub(crate) fn copy(&self) -> SlowEngine {
        let (inner, written) = (self.inner.clone(), self.written);
        SlowEngine { inner, written, durable: written, ..SlowEngine::new() }
    }
}

impl Engine for SlowEngine {
    fn head(&mut self, key: &[u8]) -> Result<Lookup> {
        self.get(key)
    }
    fn get(&mut self, key: &[u8]) -> Result<Lookup> {
        if self.cold || self.cold_gets > 0 {
            self.cold_gets = self.cold_gets.saturating_sub(1);
            self.tickets.push(self.inner.get(key)?);
            let file = self.tickets.len() as u64 - 1;
            return Ok(Lookup::Cold(ReadTicket { file, offset: 0, len: 0 }));
        }
        self.inner.get(key)
    }
    fn start_read(&mut self, id: ReadId, _: ReadTicket) -> Result<()> {
        self.reading.push(id);
        Ok(())
    }
    fn finish_read(&mut self, ticket: ReadTicket, _: Bytes) -> Result<Lookup> {
        Ok(self.tickets[ticket.file as usize].clone())
    }
    fn write(&mut self, batch: &Batch) -> Result<Lsn> {
        self.written = self.inner.write(batch)?;
        Ok(self.written)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>> {
        if self.written == self.durable {
            return Ok(None);
        }
        self.syncing = Some((id, self.written));
        Ok(Some(self.written))
    }
    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn> {
        let (running, lsn) = self.syncing.take().expect("a sync runs");
        assert_eq!(running, id, "the sync that ends is the one that runs");
        result.map_err(|_| Error::Poisoned)?;
        self.durable = lsn;
        Ok(lsn)
    }
    fn durable(&self) -> Lsn {
        self.durable
    }
    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page> {
        self.inner.scan_from(from, limit, bytes_max)
    }
    fn maintain(&mut self, _: u64) -> Result<Progress> {
        Ok(Progress::default())
    }
    fn checkpoint(&mut self, _: &str) -> Result<Lsn> {
        Err(Error::Poisoned)
    }
    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a process starts with.
pub(crate) struct Start {
    pub(crate) engine: RefCell<SlowEngine>,
    /// The lives that its directory has been through, the latest first: boot and session.
    pub(crate) earlier: Vec<(u64, u64)>,
    pub(crate) place: u128,
    pub(crate) actors: Actors,
}

#[derive(Default)]
struct Shared {
    mail: VecDeque<(usize, usize, Envelope)>,
    gossip: VecDeque<(String, Gossip)>,
    log: String,
    last: Option<Reply>,
    random: u64,
    /// Nodes that have no link to these: from, to.
    unlinked: Vec<(usize, usize)>,
}

struct ActorEnv<'a> {
    at: usize,
    now: Mono,
    wall: Wall,
    engine: &'a mut SlowEngine,
    shared: Rc<RefCell<Shared>>,
}

impl Probe for ActorEnv<'_> {}

impl Env for ActorEnv<'_> {
    fn mono(&self) -> Mono {
        self.now
    }
    fn wall(&self) -> Wall {
        self.wall
    }
    fn random(&mut self) -> u64 {
        let mut shared = self.shared.borrow_mut();
        shared.random += 1;
        0xA0 + shared.random
    }
    fn engine(&mut self) -> &mut dyn Engine {
        self.engine
    }
    fn send(&mut self, to: NodeId, envelope: Envelope) -> bool {
        let to = to.0 as usize - 1;
        let mut shared = self.shared.borrow_mut();
        let (from, name) = (self.at + 1, describe(&envelope.message));
        if shared.unlinked.contains(&(from, to + 1)) {
            writeln!(shared.log, "  n{from} ↛ n{} {name}", to + 1).unwrap();
            return false;
        }
        writeln!(shared.log, "  n{from} → n{} {name}", to + 1).unwrap();
        shared.mail.push_back((self.at, to, envelope));
        true
    }
    fn is_connected(&self, _: NodeId) -> bool {
        true
    }
    fn datagram(&mut self, to: &Address, gossip: &Gossip) {
        self.shared.borrow_mut().gossip.push_back((to.0.clone(), gossip.clone()));
    }
    fn route(&mut self, _: NodeId, _: Life, _: &str, _: &Address) {}
    fn reply(&mut self, client: ClientTag, reply: Reply) {
        let mut shared = self.shared.borrow_mut();
        writeln!(shared.log, "client {} ← {}", client.0, outcome(&reply)).unwrap();
        shared.last = Some(reply);
    }
}

struct Actor {
    id: NodeId,
    node: Node,
    engine: SlowEngine,
    wall_offset: i64,
}

pub(crate) struct Stage {
    actors: Vec<Actor>,
    shared: Rc<RefCell<Shared>>,
    pub(crate) now: Mono,
    clients: u64,
    /// Links that lose everything: from, to.
    pub(crate) cut: Vec<(usize, usize)>,
    pub(crate) gossip_off: bool,
    /// Nodes whose syncs do not end.
    pub(crate) stalled: Vec<usize>,
    /// Nodes whose datagrams are lost, both ways.
    pub(crate) deaf: Vec<usize>,
    /// To whom no datagram comes, though its own leave.
    pub(crate) unreached: Vec<usize>,
}

impl Stage {
    /// `nodes` nodes that have formed a cluster of N=3 R=2 W=2 with one partition.
    pub(crate) fn formed(nodes: usize) -> Stage {
        let mut stage = Stage::unformed(nodes);
        for _ in 0..20 {
            stage.pass(100);
        }
        stage.gossip_off = true;
        stage.transcript();
        stage
    }

    /// `nodes` nodes that have just started, with n1 as their seed.
    pub(crate) fn unformed(nodes: usize) -> Stage {
        let actors = (0..nodes).map(|at| {
            let mut engine = SlowEngine::new();
            let node = Node::new(&config(at, nodes), &mut engine, Mono(0)).expect("an empty store");
            Actor { id: NodeId(at as u128 + 1), node, engine, wall_offset: 0 }
        });
        Stage {
            actors: actors.collect(),
            shared: Rc::default(),
            now: Mono(0),
            clients: 0,
            cut: Vec::new(),
            gossip_off: false,
            stalled: Vec::new(),
            deaf: Vec::new(),
            unreached: Vec::new(),
        }
    }

    /// A process of node `of` starts on `engine`, as actor `at`: in the place of the one there, or beside the others.
    pub(crate) fn start(&mut self, at: usize, of: usize, life: (u64, u64), config: &Start) {
        let Start { engine, earlier, place, actors } = config;
        let mut engine = engine.borrow_mut().copy();
        let known = |&(boot, session): &(u64, u64)| Life {
            boot: BootEpoch(boot),
            session: SessionId(session),
        };
        let config = NodeConfig {
            life: known(&life),
            earlier: earlier.iter().map(known).collect(),
            place: *place,
            actors: *actors,
            peer_address: Address(format!("n{at}")),
            ..self::config(of - 1, 3)
        };
        let node = Node::new(&config, &mut engine, self.now).expect("a sound store");
        let actor = Actor { id: NodeId(of as u128), node, engine, wall_offset: 0 };
        if at > self.actors.len() {
            self.actors.push(actor);
        } else {
            self.actors[at - 1] = actor;
        }
    }

    /// What has happened since the last call.
    pub(crate) fn transcript(&mut self) -> String {
        std::mem::take(&mut self.shared.borrow_mut().log)
    }

    /// Of what has happened since the last call, what clients asked and were told.
    pub(crate) fn told(&mut self) -> String {
        let transcript = self.transcript();
        let told = transcript.lines().filter(|line| line.starts_with(['c', '#']));
        told.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.shared.borrow_mut().log, "# {line}").unwrap();
    }

    pub(crate) fn engine(&mut self, node: usize) -> &mut SlowEngine {
        &mut self.actors[node - 1].engine
    }

    /// From now on this node has no link to these, and knows it.
    pub(crate) fn unlink(&mut self, from: usize, to: &[usize]) {
        self.shared.borrow_mut().unlinked = to.iter().map(|&to| (from, to)).collect();
    }

    pub(crate) fn set_wall_offset(&mut self, node: usize, ms: i64) {
        self.actors[node - 1].wall_offset = ms;
    }

    /// One input for a node, and the tick that ends the batch.
    pub(crate) fn step(&mut self, node: usize, input: Input) -> Result<()> {
        let at = node - 1;
        let Actor { node, engine, wall_offset, .. } = &mut self.actors[at];
        let wall = Wall((1_000_000 + self.now.0 / 1_000_000).saturating_add_signed(*wall_offset));
        let shared = Rc::clone(&self.shared);
        let mut env = ActorEnv { at, now: self.now, wall, engine, shared };
        node.step(input, &mut env)?;
        node.invariants();
        node.step(Input::Tick, &mut env)?;
        node.invariants();
        Ok(())
    }

    pub(crate) fn abandon(&mut self, node: usize) {
        let at = node - 1;
        let Actor { node, engine, .. } = &mut self.actors[at];
        let shared = Rc::clone(&self.shared);
        let mut env = ActorEnv { at, now: self.now, wall: Wall(1_000_000), engine, shared };
        node.abandon(&mut env);
    }

    /// A client asks node `node`.
    pub(crate) fn ask(&mut self, node: usize, request: Request) -> u64 {
        self.clients += 1;
        let what = match &request.action {
            Action::Put { value, context, .. } => {
                let how = if context.is_some() { "with context" } else { "blind" };
                format!("put {} {how}", text(value))
            }
            Action::Delete { .. } => "delete".to_owned(),
            Action::Get => "get".to_owned(),
        };
        let key = text(&request.key);
        writeln!(self.shared.borrow_mut().log, "client {} → n{node} {what} {key}", self.clients)
            .unwrap();
        self.step(node, Input::Request(ClientTag(self.clients), request)).expect("no disk fails");
        self.clients
    }

    /// A client writes at node `node`, everything settles, and the write was stored: the context that it was given.
    pub(crate) fn stored(&mut self, node: usize, request: Request) -> Context {
        self.ask(node, request);
        self.settle();
        match self.shared.borrow_mut().last.take() {
            Some(Reply::Stored { context, .. }) => context,
            other => panic!("{other:?}"),
        }
    }

    /// As `stored`: the time of the write.
    pub(crate) fn stored_at(&mut self, node: usize, request: Request) -> Hlc {
        self.ask(node, request);
        self.settle();
        match self.shared.borrow_mut().last.take() {
            Some(Reply::Stored { version, .. }) => version,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and nothing is delivered or synced.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for node in 1..=self.actors.len() {
            self.step(node, Input::Tick).expect("no disk fails");
        }
    }

    /// An earlier life of a node has reserved times up to what its clock shows now.
    pub(crate) fn leap(&mut self, node: usize) {
        let at = node - 1;
        let Actor { engine, wall_offset, .. } = &mut self.actors[at];
        let mark = Hlc::at(Wall(1_000_000u64.saturating_add_signed(*wall_offset)));
        let change = Change::Put {
            key: Bytes::from_static(b"\0clock"),
            head: Bytes::copy_from_slice(&mark.0.to_be_bytes()),
            body: Default::default(),
        };
        engine.write(&Batch { changes: [change].into_iter().collect() }).expect("memory");
        let nodes = self.actors.len();
        let actor = &mut self.actors[at];
        actor.node = Node::new(&config(at, nodes), &mut actor.engine, Mono(0)).expect("it starts");
    }

    /// Delivers the oldest message of the link; `false` when there is none.
    pub(crate) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let found = {
            let mail = &self.shared.borrow().mail;
            mail.iter().position(|(f, t, _)| (*f + 1, *t + 1) == (from, to))
        };
        let Some(found) = found else { return false };
        let (_, _, envelope) = self.shared.borrow_mut().mail.remove(found).expect("just found");
        let parts = codec::encode(&envelope).parts.concat();
        let envelope = codec::decode(&Bytes::from(parts)).expect("what is encoded can be decoded");
        self.step(to, Input::Peer(self.actors[from - 1].id, envelope)).expect("no disk fails");
        true
    }

    /// Loses all messages of the link that are on their way.
    pub(crate) fn lose(&mut self, from: usize, to: usize) {
        self.shared.borrow_mut().mail.retain(|(f, t, _)| (*f + 1, *t + 1) != (from, to));
    }

    /// Ends the sync that runs on a node.
    pub(crate) fn sync(&mut self, node: usize) {
        if let Some((id, _)) = self.engine(node).syncing {
            writeln!(self.shared.borrow_mut().log, "  n{node} synced").unwrap();
            self.step(node, Input::Synced(id, Ok(()))).expect("no disk fails");
        }
    }

    pub(crate) fn fail_sync(&mut self, node: usize) -> Result<()> {
        let (id, _) = self.engine(node).syncing.expect("a sync runs");
        self.step(node, Input::Synced(id, Err(io::Error::other("the disk is gone"))))
    }

    /// Ends the cold reads of a node.
    pub(crate) fn end_reads(&mut self, node: usize) {
        self.engine(node).cold = false;
        for id in std::mem::take(&mut self.engine(node).reading) {
            writeln!(self.shared.borrow_mut().log, "  n{node} has read").unwrap();
            self.step(node, Input::ReadDone(id, Ok(Bytes::new()))).expect("no disk fails");
        }
    }

    /// Delivers and syncs until nothing is on its way.
    pub(crate) fn settle(&mut self) {
        loop {
            let next = self.shared.borrow().mail.front().map(|(f, t, _)| (*f + 1, *t + 1));
            if let Some((from, to)) = next {
                if self.cut.contains(&(from, to)) {
                    self.lose(from, to);
                } else {
                    self.deliver(from, to);
                }
                continue;
            }
            let stalled = self.stalled.clone();
            let mut nodes = (1..=self.actors.len()).filter(|n| !stalled.contains(n));
            let syncing = nodes.find(|&n| self.engine(n).syncing.is_some());
            match syncing {
                Some(node) => self.sync(node),
                None => return,
            }
        }
    }

    /// Lets time pass for everybody, with the gossip that it brings, and settles.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for node in 1..=self.actors.len() {
            self.step(node, Input::Tick).expect("no disk fails");
        }
        while let Some((to, gossip)) = { self.shared.borrow_mut().gossip.pop_front() } {
            let to: usize = to.strip_prefix('n').and_then(|n| n.parse().ok()).expect("an address");
            let from = gossip.me.peer_address.0.strip_prefix('n').and_then(|n| n.parse().ok());
            let is_heard =
                !from.is_some_and(|from| self.deaf.contains(&from)) && !self.deaf.contains(&to);
            let is_heard = is_heard && !self.unreached.contains(&to);
            if !self.gossip_off && is_heard && to <= self.actors.len() {
                self.step(to, Input::Gossip(gossip)).expect("no disk fails");
            }
        }
        self.settle();
    }

    pub(crate) fn status(&self, node: usize) -> rondo_core::status::Status {
        self.actors[node - 1].node.status(self.now, &self.actors[node - 1].engine)
    }
}

fn config(at: usize, nodes: usize) -> NodeConfig {
    NodeConfig {
        id: NodeId(at as u128 + 1),
        name: format!("n{}", at + 1),
        life: Life { boot: BootEpoch(1), session: SessionId(1) },
        earlier: Vec::new(),
        place: 0,
        actors: Actors::Fresh,
        cluster: "story".to_owned(),
        peer_address: Address(format!("n{}", at + 1)),
        client_address: Address(String::new()),
        seeds: if nodes > 1 { vec![Address("n1".to_owned())] } else { Vec::new() },
        bootstrap_expect: nodes,
        partitions: 1,
        replicas: 3,
        read_quorum: 2,
        write_quorum: 2,
        weight: 1,
        zone: String::new(),
        deadline_ms: 1_000,
        hedge_ms: 10,
        resend_ms: 100,
        heartbeat_ms: 100,
        dead_ms: 1_000_000,
        durability: Durability::Batch,
        memory_bytes_max: MEMORY_BYTES_USUAL,
    }
}

pub(crate) fn request(action: Action) -> Request {
    Request {
        id: RequestId(7),
        named: false,
        attempt: 1,
        source: 0,
        keyspace: "default".into(),
        key: Bytes::from_static(b"k"),
        level: None,
        deadline_ms: None,
        action,
    }
}

pub(crate) fn put(value: &'static str) -> Request {
    request(Action::Put {
        value: Bytes::from_static(value.as_bytes()),
        content_type: Bytes::new(),
        context: None,
    })
}

pub(crate) fn get() -> Request {
    request(Action::Get)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A counter as its number, and gaps as the runs between them.
fn numbers(runs: &rondo_core::version::runs::Runs) -> String {
    let run = |run: &rondo_core::version::runs::Run| match *run {
        rondo_core::version::runs::Run { from: 1, to } => format!("{to}"),
        rondo_core::version::runs::Run { from, to } => format!("{from}-{to}"),
    };
    runs.list().iter().map(run).collect::<Vec<_>>().join(",")
}

/// A state as `actor:n[values]`.
fn state(state: &VersionSet) -> String {
    let entry = |entry: &rondo_core::version::dvv::Entry| {
        let value = |(_, v): &(u64, rondo_core::version::dvv::Version)| {
            if v.tombstone { "†".to_owned() } else { text(&v.value) }
        };
        let values: Vec<String> = entry.versions.iter().map(value).collect();
        format!("{:x}:{}[{}]", entry.actor.0, numbers(&entry.known), values.join(" "))
    };
    let entries: Vec<String> = state.entries().iter().map(entry).collect();
    format!("{{{}}}", entries.join(" "))
}

fn clock(clock: &rondo_core::version::dvv::VersionVector) -> String {
    let entries = clock.entries().iter();
    let entries = entries.map(|(actor, runs)| format!("{:x}:{}", actor.0, numbers(runs)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}

fn describe(message: &Message) -> String {
    match message {
        Message::Query { .. } => "Query".to_owned(),
        Message::QueryReply { clock: known, .. } => format!("QueryReply {}", clock(known)),
        Message::Read { digest_only: true, .. } => "Read digest".to_owned(),
        Message::Read { .. } => "Read".to_owned(),
        Message::ReadReply { state: told, .. } => format!("ReadReply {}", state(told)),
        Message::DigestReply { .. } => "DigestReply".to_owned(),
        Message::Merge { state: told, .. } => format!("Merge {}", state(told)),
        Message::MergeAck { .. } => "MergeAck".to_owned(),
        Message::Holds { .. } => "Holds".to_owned(),
        Message::Lacks { .. } => "Lacks".to_owned(),
        Message::Failed { .. } => "Failed".to_owned(),
        Message::StaleLayout { .. } => "StaleLayout".to_owned(),
        Message::Forward { .. } => "Forward".to_owned(),
        Message::ForwardReply { reply, .. } => format!("ForwardReply {}", outcome(reply)),
        Message::ForwardRefused { reply, .. } => format!("ForwardRefused {}", outcome(reply)),
        Message::LayoutOffer { .. } => "LayoutOffer".to_owned(),
        Message::LayoutRequest => "LayoutRequest".to_owned(),
    }
}

fn outcome(reply: &Reply) -> String {
    match reply {
        Reply::Stored { context, .. } => format!("Stored, knows {}", clock(&context.clock)),
        Reply::Found { siblings, context } => {
            let values: Vec<String> = siblings.iter().map(|s| text(&s.value)).collect();
            format!("Found {}, knows {}", values.join(" | "), clock(&context.clock))
        }
        Reply::NotFound { siblings, context } if siblings.is_empty() => {
            format!("NotFound, knows {}", clock(&context.clock))
        }
        Reply::NotFound { siblings, context } => {
            let values: Vec<String> = siblings.iter().map(|s| text(&s.value)).collect();
            format!("NotFound beside {}, knows {}", values.join(" | "), clock(&context.clock))
        }
        Reply::Indeterminate { acks, needed } => format!("Indeterminate {acks} of {needed}"),
        Reply::Unavailable { reason, passes: true } => format!("Unavailable: {reason}"),
        Reply::Unavailable { reason, passes: false } => format!("Unavailable for good: {reason}"),
        Reply::Overloaded { reason, .. } => format!("Overloaded: {reason}"),
        Reply::BadRequest { reason } => format!("BadRequest: {reason}"),
    }
}
