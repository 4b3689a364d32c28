//! The stage: a few nodes, the messages between them, disks whose syncs end when somebody says so, and a transcript of
//! everything. An input begins a line, its effects are indented below it; what no input caused came with time.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use rondo_core::admin::{AdminReply, AdminRequest};
use rondo_core::config::{Actors, NodeConfig};
use rondo_core::engine::{Batch, Change, Engine};
use rondo_core::env::{Address, Mono, Wall};
use rondo_core::id::{BootEpoch, ClientTag, Life, NodeId, SessionId};
use rondo_core::layout::LayoutRef;
use rondo_core::layout::live::LayoutSet;
use rondo_core::node::Node;
use rondo_core::probe::Probe;
use rondo_core::step::{Env, Input};
use rondo_core::version::context::Context;
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::{Action, Reply, Request};
use rondo_core::wire::forward::ForwardMessage;
use rondo_core::wire::frame::Generation;
use rondo_core::wire::key::{Ask, KeyMessage};
use rondo_core::wire::member::Gossip;
use rondo_core::wire::message::{self, Envelope, Message};
use rondo_core::wire::repair::RepairMessage;
use rondo_core::wire::swim::Datagram;
use rondo_core::wire::transfer::TransferMessage;

use crate::engine::SlowEngine;
use crate::node_config::node_config;
use crate::request::request;
use crate::words;

/// More messages and syncs than any script lets follow one event.
const TURNS_MAX: usize = 100_000;

/// What the clocks of the stage show at its beginning, in milliseconds.
pub(crate) const BEGIN_MS: u64 = 1_000_000;

/// What a process starts with.
pub(crate) struct Start {
    pub(crate) engine: RefCell<SlowEngine>,
    /// The lives that its directory has been through, the latest first: boot and session.
    pub(crate) earlier: Vec<(u64, u64)>,
    pub(crate) place: u128,
    pub(crate) actors: Actors,
    pub(crate) unlike: Unlike,
}

/// What a process is started with that is not as at the others.
#[derive(Clone, Default)]
pub(crate) struct Unlike {
    /// Another name than its number says.
    pub(crate) name: Option<String>,
    /// How many nodes it expects to found a cluster with.
    pub(crate) expect: Option<usize>,
    /// Where it meets others: `none`, or the address of this node.
    pub(crate) seeds: Option<String>,
}

#[derive(Default)]
struct Shared {
    mail: VecDeque<(usize, usize, Envelope)>,
    gossip: VecDeque<(String, Gossip)>,
    /// What failure detectors say: from, to, and what. Lost unless `detects`.
    swim: VecDeque<(usize, String, Datagram)>,
    log: String,
    replies: BTreeMap<u64, Vec<Reply>>,
    random: u64,
    /// Nodes that have no link to these: from, to.
    unlinked: Vec<(usize, usize)>,
    /// Nodes that know their links to these to be down.
    disconnected: Vec<(usize, usize)>,
}

struct ActorEnv<'a> {
    at: usize,
    now: Mono,
    wall: Wall,
    engine: &'a mut SlowEngine,
    shared: Rc<RefCell<Shared>>,
}

impl ActorEnv<'_> {
    /// Effects are told in their order: what the disk was made to do, then this.
    fn tell(&mut self, line: Option<&str>) {
        let mut shared = self.shared.borrow_mut();
        for note in self.engine.notes.drain(..) {
            writeln!(shared.log, "  n{} {note}", self.at + 1).unwrap();
        }
        if let Some(line) = line {
            writeln!(shared.log, "  {line}").unwrap();
        }
    }
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
        let (from, name) = (self.at + 1, words::message(&envelope.message));
        if self.shared.borrow().unlinked.contains(&(from, to + 1)) {
            self.tell(Some(&format!("n{from} ↛ n{} {name}", to + 1)));
            return false;
        }
        self.tell(Some(&format!("n{from} → n{} {name}", to + 1)));
        self.shared.borrow_mut().mail.push_back((self.at, to, envelope));
        true
    }
    fn is_connected(&self, node: NodeId) -> bool {
        !self.shared.borrow().disconnected.contains(&(self.at + 1, node.0 as usize))
    }
    fn datagram(&mut self, to: &Address, gossip: &Gossip) {
        self.shared.borrow_mut().gossip.push_back((to.0.clone(), gossip.clone()));
    }
    fn swim(&mut self, to: &Address, datagram: &Datagram) {
        self.shared.borrow_mut().swim.push_back((self.at + 1, to.0.clone(), datagram.clone()));
    }
    fn route(&mut self, node: NodeId, life: Life, name: &str, address: &Address) {
        let (me, boot, address) = (self.at + 1, life.boot.0, &address.0);
        let node = words::node(&node);
        let at = if node == *address { String::new() } else { format!(" as {address}") };
        let name = if name == node { String::new() } else { format!(" named {name}") };
        self.tell(Some(&format!("n{me} meets {node}{name}{at}, boot {boot}")));
    }
    fn reply(&mut self, client: ClientTag, reply: Reply) {
        self.tell(None);
        let mut shared = self.shared.borrow_mut();
        writeln!(shared.log, "client {} ← {}", client.0, words::outcome(&reply)).unwrap();
        shared.replies.entry(client.0).or_default().push(reply);
    }
}

struct Actor {
    id: NodeId,
    node: Node,
    engine: SlowEngine,
    wall_offset: i64,
    life: (u64, u64),
    earlier: Vec<(u64, u64)>,
    place: u128,
    unlike: Unlike,
    /// Its process has ended.
    is_gone: bool,
}

pub(crate) struct Stage {
    actors: Vec<Actor>,
    shared: Rc<RefCell<Shared>>,
    /// What all nodes are started with, but for their names.
    base: NodeConfig,
    pub(crate) now: Mono,
    /// The clients, and the nodes that they have asked.
    clients: Vec<usize>,
    /// Links that lose everything: from, to.
    pub(crate) cut: Vec<(usize, usize)>,
    pub(crate) gossip_off: bool,
    /// Whether datagrams of failure detectors arrive; they are not told.
    pub(crate) detects: bool,
    /// Nodes whose syncs do not end.
    pub(crate) stalled: Vec<usize>,
    /// Nodes whose datagrams are lost, both ways.
    pub(crate) deaf: Vec<usize>,
    /// To whom no datagram comes, though its own leave.
    pub(crate) unreached: Vec<usize>,
    /// What is sent to the address of a node that is gone comes to that one.
    pub(crate) reached_at: BTreeMap<usize, usize>,
    /// What each node has been told last by each: the same again is not told twice.
    heard: BTreeMap<(usize, usize), String>,
    /// The latest message that has arrived on each link.
    arrived: BTreeMap<(usize, usize), Envelope>,
    /// What a node speaks that is not of today.
    speaks: BTreeMap<usize, Generation>,
}

impl Stage {
    /// `nodes` nodes that have formed a cluster of N=3 R=2 W=2 with one partition.
    pub(crate) fn formed(nodes: usize) -> Stage {
        Stage::formed_with(nodes, usual(nodes))
    }

    pub(crate) fn formed_with(nodes: usize, base: NodeConfig) -> Stage {
        let mut stage = Stage::unformed_with(nodes, base);
        for _ in 0..20 {
            stage.pass(100);
        }
        stage.gossip_off = true;
        stage.transcript();
        stage
    }

    /// `nodes` nodes that have just started, with n1 as their seed.
    pub(crate) fn unformed(nodes: usize) -> Stage {
        Stage::unformed_with(nodes, usual(nodes))
    }

    pub(crate) fn unformed_with(nodes: usize, base: NodeConfig) -> Stage {
        let actors = (0..nodes).map(|at| {
            let mut engine = SlowEngine::default();
            let config = named(&base, at);
            let node = Node::new(&config, &mut engine, Mono(0)).expect("an empty store");
            Actor {
                id: config.id,
                node,
                engine,
                wall_offset: 0,
                life: (1, 1),
                earlier: Vec::new(),
                place: 0,
                unlike: Unlike::default(),
                is_gone: false,
            }
        });
        Stage {
            actors: actors.collect(),
            shared: Rc::default(),
            base,
            now: Mono(0),
            clients: Vec::new(),
            cut: Vec::new(),
            gossip_off: false,
            detects: false,
            stalled: Vec::new(),
            deaf: Vec::new(),
            unreached: Vec::new(),
            reached_at: BTreeMap::new(),
            heard: BTreeMap::new(),
            arrived: BTreeMap::new(),
            speaks: BTreeMap::new(),
        }
    }

    /// A process of node `of` starts on `engine`, as actor `at`: in the place of the one there, or beside the others.
    pub(crate) fn start(&mut self, at: usize, of: usize, life: (u64, u64), start: &Start) {
        let mut engine = start.engine.borrow_mut().copy();
        let known = |&(boot, session): &(u64, u64)| Life {
            boot: BootEpoch(boot),
            session: SessionId(session),
        };
        let config = NodeConfig {
            life: known(&life),
            earlier: start.earlier.iter().map(known).collect(),
            place: start.place,
            actors: start.actors,
            peer_address: Address(format!("n{at}")),
            name: start.unlike.name.clone().unwrap_or(format!("n{of}")),
            bootstrap_expect: start.unlike.expect.unwrap_or(self.base.bootstrap_expect),
            // Who starts beside one node that was alone joins it.
            seeds: match (of, start.unlike.seeds.as_deref()) {
                (_, Some("none")) => Vec::new(),
                (_, Some(seed)) => vec![Address(seed.to_owned())],
                (1, None) => self.base.seeds.clone(),
                (_, None) => vec![Address("n1".to_owned())],
            },
            ..named(&self.base, of - 1)
        };
        let node = match Node::new(&config, &mut engine, self.now) {
            Ok(node) => node,
            Err(error) => return self.tell(&format!("n{of} cannot start: {error}")),
        };
        let (earlier, place) = (start.earlier.clone(), start.place);
        let (id, wall_offset, is_gone) = (config.id, 0, false);
        let unlike = start.unlike.clone();
        let actor = Actor { id, node, engine, wall_offset, life, earlier, place, unlike, is_gone };
        if at > self.actors.len() {
            self.actors.push(actor);
        } else {
            self.actors[at - 1] = actor;
        }
    }

    /// What another process of a node starts with: all that it has written, or what a power loss leaves of it.
    pub(crate) fn directory(&self, node: usize, is_power_loss: bool, actors: Actors) -> Start {
        let Actor { engine, life, earlier, place, unlike, .. } = &self.actors[node - 1];
        let engine = if is_power_loss { engine.after_a_power_loss() } else { engine.copy() };
        let earlier = [*life].into_iter().chain(earlier.iter().copied()).collect();
        let (engine, unlike) = (RefCell::new(engine), unlike.clone());
        Start { engine, earlier, place: *place, actors, unlike }
    }

    /// What a new node starts with: an empty directory.
    pub(crate) fn nothing() -> Start {
        let (engine, unlike) = (RefCell::new(SlowEngine::default()), Unlike::default());
        Start { engine, earlier: Vec::new(), place: 0, actors: Actors::Fresh, unlike }
    }

    /// A new node starts beside those that are there, with n1 as its seed, and joins by itself.
    pub(crate) fn join(&mut self, node: usize) {
        self.start(node, node, (1, 1), &Stage::nothing());
    }

    /// A node is told where another one is.
    pub(crate) fn meet(&mut self, node: usize, other: usize) {
        self.actors[node - 1].node.add_seed(Address(format!("n{other}")));
    }

    /// The process of a node ends without a word.
    pub(crate) fn end(&mut self, node: usize) {
        self.actors[node - 1].is_gone = true;
        let mut waiting = self.unanswered();
        waiting.retain(|&client| self.clients[client - 1] == node);
        for client in waiting {
            self.tell(&format!("client {client} ← nothing: its node is gone"));
            self.shared.borrow_mut().replies.entry(client as u64).or_default();
        }
    }

    /// What has happened since the last call.
    pub(crate) fn transcript(&mut self) -> String {
        std::mem::take(&mut self.shared.borrow_mut().log)
    }

    /// Of what has happened since the last call, what clients asked and were told.
    pub(crate) fn told(&mut self) -> String {
        let transcript = self.transcript();
        let told = transcript.lines().filter(|line| line.starts_with("client"));
        told.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.shared.borrow_mut().log, "{line}").unwrap();
    }

    /// Adds lines to the transcript.
    pub(crate) fn say(&mut self, lines: &str) {
        self.shared.borrow_mut().log += lines;
    }

    pub(crate) fn nodes(&self) -> usize {
        self.actors.len()
    }

    pub(crate) fn engine(&mut self, node: usize) -> &mut SlowEngine {
        &mut self.actors[node - 1].engine
    }

    /// What a client was told, each answer.
    pub(crate) fn replies(&self, client: u64) -> Vec<Reply> {
        self.shared.borrow().replies.get(&client).cloned().unwrap_or_default()
    }

    /// The clients that still wait.
    pub(crate) fn unanswered(&self) -> Vec<usize> {
        let shared = self.shared.borrow();
        let all = 1..=self.clients.len();
        all.filter(|&client| !shared.replies.contains_key(&(client as u64))).collect()
    }

    /// The first client that was told more than one outcome.
    pub(crate) fn answered_twice(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        shared.replies.iter().find(|(_, replies)| replies.len() > 1).map(|(&client, _)| client)
    }

    /// From now on this node has no link to these, and learns it when it sends.
    pub(crate) fn unlink(&mut self, from: usize, to: &[usize]) {
        let unlinked = &mut self.shared.borrow_mut().unlinked;
        unlinked.retain(|&(node, _)| node != from);
        unlinked.extend(to.iter().map(|&to| (from, to)));
    }

    /// From now on this node knows that its links to these are down.
    pub(crate) fn disconnect(&mut self, from: usize, to: &[usize]) {
        let disconnected = &mut self.shared.borrow_mut().disconnected;
        disconnected.retain(|&(node, _)| node != from);
        disconnected.extend(to.iter().map(|&to| (from, to)));
    }

    pub(crate) fn set_wall_offset(&mut self, node: usize, ms: i64) {
        self.actors[node - 1].wall_offset = ms;
    }

    /// One input for a node, and the tick that ends the batch. A node whose disk fails answers what is in flight, and ends.
    /// An operator asks at a node.
    pub(crate) fn admin(&mut self, node: usize, request: AdminRequest) -> AdminReply {
        let at = node - 1;
        let Actor { node: machine, engine, wall_offset, .. } = &mut self.actors[at];
        let wall = Wall((BEGIN_MS + self.now.0 / 1_000_000).saturating_add_signed(*wall_offset));
        let shared = Rc::clone(&self.shared);
        let mut env = ActorEnv { at, now: self.now, wall, engine, shared };
        let reply = machine.admin(request, &mut env).expect("no disk fails");
        env.tell(None);
        reply
    }

    /// The last thing that the process of a node does: its store is settled and closed.
    pub(crate) fn close(&mut self, node: usize) {
        let Actor { node: machine, engine, .. } = &mut self.actors[node - 1];
        machine.settle_store(engine).expect("there is room");
        let notes = std::mem::take(&mut engine.notes);
        notes.iter().for_each(|note| self.tell(&format!("  n{node} {note}")));
        self.end(node);
    }

    pub(crate) fn step(&mut self, node: usize, input: Input) {
        let at = node - 1;
        let Actor { node: machine, engine, wall_offset, is_gone, .. } = &mut self.actors[at];
        if *is_gone {
            return;
        }
        let wall = Wall((BEGIN_MS + self.now.0 / 1_000_000).saturating_add_signed(*wall_offset));
        let shared = Rc::clone(&self.shared);
        let mut env = ActorEnv { at, now: self.now, wall, engine, shared };
        let stepped = machine.step(input, &mut env).and_then(|()| {
            machine.invariants();
            machine.step(Input::Tick, &mut env)
        });
        match stepped {
            Ok(()) => machine.invariants(),
            Err(error) => {
                env.tell(Some(&format!("n{node} must stop: {error}")));
                machine.abandon(&mut env);
                env.engine.has_failed = true;
            }
        }
        env.tell(None);
        let has_stopped = machine.stopped(self.now);
        if has_stopped {
            env.tell(Some(&format!("n{node} has stopped")));
        }
        if has_stopped || engine.has_failed {
            self.end(node);
        }
    }

    /// A client asks node `node`.
    pub(crate) fn ask(&mut self, node: usize, request: Request) -> u64 {
        self.clients.push(node);
        let client = self.clients.len() as u64;
        self.tell(&format!("client {client} → n{node} {}", words::request(&request)));
        self.step(node, Input::Request(ClientTag(client), request));
        client
    }

    /// A client writes at node `node`, everything settles, and the write was stored: the context that it was given.
    pub(crate) fn stored(&mut self, node: usize, request: Request) -> Context {
        let client = self.ask(node, request);
        self.settle();
        match self.replies(client).pop() {
            Some(Reply::Stored { context, .. }) => context,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and nothing is delivered or synced.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for node in 1..=self.actors.len() {
            self.step(node, Input::Tick);
        }
    }

    /// An earlier life of a node has reserved times up to so far ahead, in milliseconds. Only before anything has happened.
    pub(crate) fn leap(&mut self, node: usize, ms: u64) {
        let at = node - 1;
        let engine = &mut self.actors[at].engine;
        let mark = Hlc::at(Wall(BEGIN_MS + ms));
        let change = Change::Put {
            key: Bytes::from_static(b"\0clock"),
            head: Bytes::copy_from_slice(&mark.0.to_be_bytes()),
            body: Default::default(),
            delta: 0,
        };
        engine.write(&Batch { changes: [change].into_iter().collect() }).expect("memory");
        engine.notes.clear();
        let config = named(&self.base, at);
        let actor = &mut self.actors[at];
        actor.node = Node::new(&config, &mut actor.engine, Mono(0)).expect("it starts");
    }

    /// Delivers the oldest message of the link, as it is or under another layout; `false` when there is none.
    pub(crate) fn deliver(&mut self, from: usize, to: usize, layout: Option<LayoutRef>) -> bool {
        let found = {
            let mail = &self.shared.borrow().mail;
            mail.iter().position(|(f, t, _)| (*f + 1, *t + 1) == (from, to))
        };
        let Some(found) = found else { return false };
        let (_, _, envelope) = self.shared.borrow_mut().mail.remove(found).expect("just found");
        let speaks = |node| self.speaks.get(&node).copied().unwrap_or(Generation::NEWEST);
        let Some(outbound) = message::encode(&envelope, speaks(from).min(speaks(to))) else {
            let name = words::message(&envelope.message);
            self.tell(&format!("n{from} cannot say {name} to n{to}"));
            return true;
        };
        let parts = outbound.parts.concat();
        let mut envelope =
            message::decode(&Bytes::from(parts)).expect("what is encoded can be decoded");
        self.arrived.insert((from, to), envelope.clone());
        if let Some(layout) = layout {
            ask_under(&mut envelope.message, LayoutSet::one(layout));
        }
        self.arrive(from, to, envelope);
        true
    }

    /// Says that a node is of the generation before, on its links and on its disk.
    pub(crate) fn is_older(&mut self, node: usize) {
        self.speaks.insert(node, Generation::First);
        self.engine(node).generation = Some(Generation::First);
    }

    /// Delivers the latest message that has arrived on the link once more; `false` when there is none.
    pub(crate) fn deliver_again(&mut self, from: usize, to: usize) -> bool {
        let envelope = self.arrived.get(&(from, to)).cloned();
        envelope.map(|envelope| self.arrive(from, to, envelope)).is_some()
    }

    fn arrive(&mut self, from: usize, to: usize, envelope: Envelope) {
        let name = words::message(&envelope.message);
        if self.actors[to - 1].is_gone {
            return self.tell(&format!("n{from} → n{to} {name} finds nobody"));
        }
        self.tell(&format!("n{to} ← n{from} {name}"));
        self.step(to, Input::Peer(self.actors[from - 1].id, envelope));
    }

    /// Loses the messages of the link that are on their way: the oldest so many.
    pub(crate) fn lose(&mut self, from: usize, to: usize, count: usize) {
        let mut mail = std::mem::take(&mut self.shared.borrow_mut().mail);
        let mut left = count;
        mail.retain(|(f, t, envelope)| {
            let is_lost = left > 0 && (*f + 1, *t + 1) == (from, to);
            if is_lost {
                left -= 1;
                let name = words::message(&envelope.message);
                writeln!(self.shared.borrow_mut().log, "n{from} → n{to} {name} is lost").unwrap();
            }
            !is_lost
        });
        self.shared.borrow_mut().mail = mail;
    }

    /// Ends the sync that runs on a node; `false` when none does.
    pub(crate) fn sync(&mut self, node: usize, is_well: bool) -> bool {
        let Some((id, _)) = self.engine(node).syncing else { return false };
        self.tell(&format!("n{node} {}", if is_well { "has synced" } else { "fails to sync" }));
        let result = if is_well { Ok(()) } else { Err(io::Error::other("the disk is gone")) };
        self.step(node, Input::Synced(id, result));
        true
    }

    /// Ends the cold reads of a node.
    pub(crate) fn end_reads(&mut self, node: usize, is_well: bool) {
        self.engine(node).cold = false;
        for id in std::mem::take(&mut self.engine(node).reading) {
            self.tell(&format!("n{node} {}", if is_well { "has read" } else { "fails to read" }));
            let result =
                if is_well { Ok(Bytes::new()) } else { Err(io::Error::other("no sector")) };
            self.step(node, Input::ReadDone(id, result));
        }
    }

    /// Delivers and syncs until nothing is on its way: nodes that answer each other for ever are a bug.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let next = self.shared.borrow().mail.front().map(|(f, t, _)| (*f + 1, *t + 1));
            if let Some((from, to)) = next {
                if self.cut.contains(&(from, to)) {
                    self.lose(from, to, usize::MAX);
                } else {
                    self.deliver(from, to, None);
                }
                continue;
            }
            let stalled = self.stalled.clone();
            let mut nodes = (1..=self.actors.len()).filter(|n| !stalled.contains(n));
            let syncing = nodes.find(|&n| {
                let Actor { engine, is_gone, .. } = &self.actors[n - 1];
                !is_gone && engine.syncing.is_some()
            });
            match syncing {
                Some(node) => _ = self.sync(node, true),
                None => return,
            }
        }
        panic!("after {TURNS_MAX} messages and syncs there is always another one");
    }

    /// Lets time pass for everybody, with the gossip that it brings, and settles.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for node in 1..=self.actors.len() {
            self.step(node, Input::Tick);
        }
        while let Some((to, gossip)) = { self.shared.borrow_mut().gossip.pop_front() } {
            let number = |address: &str| address.strip_prefix('n').and_then(|n| n.parse().ok());
            let to: usize = number(&to).expect("an address");
            let to = self.reached_at.get(&to).copied().unwrap_or(to);
            let from: usize = number(&gossip.me.peer_address.0).expect("an address");
            let is_heard = ![from, to].iter().any(|node| self.deaf.contains(node))
                && !self.unreached.contains(&to);
            if !self.gossip_off && is_heard && to <= self.actors.len() {
                self.hear(from, to, gossip);
            }
        }
        while let Some((from, to, datagram)) = { self.shared.borrow_mut().swim.pop_front() } {
            let to: usize = to.trim_start_matches('n').parse().expect("an address");
            let is_deaf = [from, to].iter().any(|node| self.deaf.contains(node));
            if self.detects && !is_deaf {
                self.step(to, Input::Swim(datagram));
            }
        }
        self.settle();
    }

    /// A datagram arrives. One that says what the last one said is told when something comes of it.
    fn hear(&mut self, from: usize, to: usize, gossip: Gossip) {
        let said = words::gossip(&gossip);
        let before = self.transcript();
        self.step(to, Input::Gossip(gossip));
        let effects = std::mem::replace(&mut self.shared.borrow_mut().log, before);
        let is_old = self.heard.get(&(from, to)) == Some(&said);
        if !(is_old && effects.is_empty()) {
            self.tell(&format!("n{to} ← n{from} {said}"));
        }
        self.shared.borrow_mut().log += &effects;
        self.heard.insert((from, to), said);
    }

    pub(crate) fn status(&self, node: usize) -> rondo_core::status::Status {
        self.actors[node - 1].node.status(self.now, &self.actors[node - 1].engine)
    }
}

/// What nodes of the stage are started with: N=3 R=2 W=2, one partition.
pub(crate) fn usual(nodes: usize) -> NodeConfig {
    NodeConfig {
        id: NodeId(0),
        name: String::new(),
        cluster: "story".to_owned(),
        seeds: if nodes > 1 { vec![Address("n1".to_owned())] } else { Vec::new() },
        bootstrap_expect: nodes,
        dead_ms: 1_000_000,
        ..node_config()
    }
}

fn named(base: &NodeConfig, at: usize) -> NodeConfig {
    NodeConfig {
        id: NodeId(at as u128 + 1),
        name: format!("n{}", at + 1),
        peer_address: Address(format!("n{}", at + 1)),
        ..base.clone()
    }
}

pub(crate) fn put(value: &'static str) -> Request {
    request(Action::Put {
        value: Bytes::from_static(value.as_bytes()),
        content_type: Bytes::new(),
        context: None,
        ttl_ms: None,
    })
}

pub(crate) fn get() -> Request {
    request(Action::Get)
}

/// Has a question asked under other layouts.
fn ask_under(message: &mut Message, other: LayoutSet) {
    match message {
        Message::Key(KeyMessage::Ask(Ask { layouts, .. }))
        | Message::Forward(ForwardMessage::Ask { layouts, .. })
        | Message::Transfer(
            TransferMessage::Ask { layouts, .. } | TransferMessage::Answer { layouts, .. },
        )
        | Message::Repair(
            RepairMessage::Ask { layouts, .. } | RepairMessage::Answer { layouts, .. },
        ) => *layouts = other,
        Message::Key(KeyMessage::Answer { layouts, .. }) => *layouts = other,
        Message::Forward(ForwardMessage::Answer { .. }) | Message::Layout(_) | Message::Swim(_) => {
            panic!("no layout plays a part in {message:?}")
        }
    }
}
