//! The state of a run: nodes, network, clients, what will happen and what has happened.
//!
//! It is one value behind one lock that is never held across an await. Nodes reach it through what they
//! are given (`node`), faults change it (`faults`), one task empties its agenda (`drive`).
//! Every event goes into a rolling hash, so that two runs are equal exactly when their hashes are.

pub mod agenda;

pub mod client;

pub mod stand_in;

mod machine;

pub mod hinted;

pub mod witness;

pub mod views;

pub mod fullness;

pub mod calls;

pub mod kill;

pub mod copies;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use bytes::Bytes;
pub use machine::{Data, Device, Node, Part, Running};
use rondo_core::admin::Layouts;
use rondo_core::env::{Address, Class};
use rondo_core::id::NodeId;
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::Pending;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::carry::Carry;
use crate::carry::driver::Driver;
use crate::carry::streams::{self, Due, Luck, Streams, Told};
use crate::draw::Dice;
use crate::fault::directories::Step;
use crate::fault::disks::Failure;
use crate::fault::membership::Wanted;
use crate::fault::{AtOperation, Trigger};
use crate::history::{History, Lives, Op, Reshaping, STAND_INS, Stamp, Terms, Trouble};
use crate::rt::{self, Time};
use crate::scenario::{Operation, Scenario};
use crate::watch::describe;
use crate::watch::probes::Probes;
use crate::watch::trace::{Line, Trace};
use crate::world::agenda::Agenda;
use crate::world::client::Clients;

/// The cluster's secret: peers and context tokens are authenticated with it.
pub const SECRET: &[u8] = b"the simulated cluster's secret";

/// The most events of a run; a usual one has some thousands.
const EVENTS_MAX: u64 = 5_000_000;

/// A world that several hands hold.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

/// What will happen.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants say what their fields are")]
pub enum Event {
    /// A message arrives, at this life of the receiver where one is named.
    Deliver { from: u32, to: u32, life: Option<u32>, class: Class, bytes: Bytes },
    /// A datagram arrives.
    Datagram { from: u32, to: u32, bytes: Bytes },
    /// Something arrives on a stream.
    Stream(Due),
    /// An alarm rings, unless it has been set anew.
    Ring { alarm: u64, at: Time },
    /// A disk ends what a node's incarnation started.
    Disk { node: u32, epoch: u32, work: Pending },
    /// A client sends an attempt, from 0, of an operation.
    Call { op: usize, attempt: usize },
    /// A client stops waiting for an attempt.
    GiveUp { op: usize, attempt: usize },
    /// A fault strikes.
    Strike(usize),
    /// A fault ends.
    Undo(usize),
    /// Somebody starts a node, if it is down.
    Start(u32),
    /// A client vanishes while it waits for an attempt.
    Vanish { op: usize, attempt: usize },
    /// Somebody asks every node how it is.
    AskStatus,
}

/// Everything.
pub struct World {
    /// What is tried.
    pub scenario: Scenario,
    /// All luck.
    pub dice: Dice,
    /// What carries messages.
    pub carry: Carry,
    /// What the sites in the product's code did.
    pub probes: Probes,
    /// What will happen.
    pub agenda: Agenda<Event>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The machines on which each identity was started.
    pub ids: BTreeMap<NodeId, BTreeSet<u32>>,
    /// What clients do and know.
    pub clients: Asking,
    /// What has happened.
    pub history: History,
    /// What faults do.
    pub faults: AtWork,
    log: Log,
}

/// The clients, and what they wait for.
pub struct Asking {
    /// What they know.
    pub known: Clients,
    /// What is asked: that of the scenario, and the final reads.
    pub operations: Vec<Operation>,
    /// Attempts that they wait for: (operation, attempt).
    pub waiting: BTreeSet<(usize, usize)>,
    /// Operations whose client is gone.
    pub vanished: BTreeSet<usize>,
    /// Calls that stand in the agenda.
    pub calls_ahead: usize,
    /// Acknowledged writes so far.
    pub acks: u64,
    /// Whether nodes are asked how full they are.
    pub is_asked: bool,
}

/// Faults, and how far they have come.
#[derive(Default)]
pub struct AtWork {
    /// How often each fault that works by turns has had its turn.
    pub turns: BTreeMap<usize, u32>,
    /// How far each fault of a directory has come.
    pub steps: BTreeMap<usize, Step>,
    /// The machines that run a copy of a node's last life, and whether it has started; see `live_copies`.
    pub live_copies: BTreeMap<u32, bool>,
    /// Faults by name that struck.
    pub struck: BTreeMap<String, u64>,
    /// The changes that operators have asked for and a node has taken on, by fault.
    pub orders: BTreeSet<(usize, Wanted)>,
    /// What each node last said of its layouts, where the cluster is reshaped.
    pub layouts: BTreeMap<u32, Layouts>,
    /// What each node's failure detector takes each other one for, in this life.
    pub views: BTreeMap<u32, BTreeMap<u32, &'static str>>,
    /// Whether the heal has come.
    pub healed: bool,
    /// Unsynced disk operations that power losses took.
    pub writes_lost: u64,
}

/// Every event, as a number, a hash, and a line where lines are kept.
struct Log {
    events: u64,
    hash: u64,
    trace: Option<Trace>,
}

impl Shared {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(scenario: Scenario, driver: Driver, with_transcript: bool) -> Shared {
        let nodes: Vec<Node> =
            (0..scenario.hosts()).map(|node| Node::new(&scenario, node)).collect();
        let mut agenda = Agenda::default();
        for (op, operation) in scenario.operations.iter().enumerate() {
            agenda.push(Time(operation.at_us * 1_000), Event::Call { op, attempt: 0 });
        }
        for (at, fault) in scenario.faults.iter().enumerate() {
            if let Trigger::At { ms } = fault.when {
                agenda.push(Time::at_ms(ms), Event::Strike(at));
            }
        }
        let probes = Probes::new(&scenario);
        for (node, machine) in nodes.iter().enumerate() {
            machine.device.disk.set_watch(probes.of(node as u32));
        }
        for (at, fault) in scenario.faults.iter().enumerate() {
            if let Trigger::OnMaintenance { node, ops } = fault.when {
                let is_power = fault.what.trouble().at_operation() == AtOperation::PowerGoes;
                nodes[node as usize].device.fuse.wait(at, ops, is_power);
            }
        }
        if scenario.is_reshaped() {
            agenda.push(Time::default(), Event::AskStatus);
        }
        let world = World {
            dice: Dice::new(scenario.seed),
            carry: Carry::new(&scenario, driver),
            probes,
            agenda,
            nodes,
            ids: BTreeMap::new(),
            clients: Asking {
                known: Clients::new(SECRET.to_vec()),
                operations: scenario.operations.clone(),
                waiting: BTreeSet::new(),
                vanished: BTreeSet::new(),
                calls_ahead: scenario.operations.len(),
                acks: 0,
                is_asked: scenario.may_fill_memory(),
            },
            history: History {
                terms: Terms {
                    quorums: Some(scenario.cluster.effective()),
                    plain_deadline_ms: (scenario.is_plain() && !scenario.is_reshaped())
                        .then_some(scenario.cluster.deadline_ms),
                    reshaped_deadline_ms: scenario.reshaped_deadline_ms(),
                    sloppy: scenario.cluster.sloppy,
                    clocks_apart_ms: scenario.clocks_apart_ms(),
                    crossing_ms: match driver {
                        Driver::Sim => 0,
                        Driver::Wire => calls::largest_record_ms(&scenario),
                    },
                },
                lives: Lives {
                    reshaping: scenario.is_reshaped().then(Reshaping::default),
                    ..Lives::default()
                },
                ..History::default()
            },
            faults: AtWork::default(),
            log: Log {
                events: 0,
                hash: scenario.seed,
                trace: with_transcript.then(Trace::default),
            },
            scenario,
        };
        Shared(Arc::new(Mutex::new(world)))
    }

    /// Drops what lies in a world that has ended, its disks above all. The runtime never drops what starts its processes, and that
    /// holds the world; and a disk's fault hook holds the disk. Thousands of runs of one program would need gigabytes.
    pub fn empty(&self) {
        let mut world = self.lock();
        world.nodes.iter().for_each(|node| node.device.disk.clear_hooks());
        let lies = (mem::take(&mut world.nodes), mem::take(&mut world.agenda));
        let known = mem::take(&mut world.clients.operations);
        drop(world);
        // What is dropped may ask the world for something.
        drop((lies, known));
    }

    /// The world, for a moment: never across an await.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        // A node may panic while it calls out; the world stays whole because nothing in it panics half-way.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The world, unless somebody holds it: for what is dropped when a process is killed, for whoever kills holds the world.
    #[must_use]
    pub fn unless_held(&self) -> Option<MutexGuard<'_, World>> {
        match self.0.try_lock() {
            Ok(world) => Some(world),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl World {
    /// A disk begins to fail, after so many operations.
    ///
    /// A compaction of the LSM engine takes the keys of damaged records along into new files, where no heal puts them right. So rot
    /// lasts there; and where W is 1, and nobody replaces what cannot be read, there is none.
    pub fn fail_disk(
        &mut self,
        node: u32,
        (fault, how, times): (usize, Failure, u32),
        spared: u64,
    ) {
        let cluster = &self.scenario.cluster;
        let is_rot = matches!(how, Failure::Rot | Failure::LastingRot);
        let is_carried = is_rot && cluster.engine == EngineKind::Lsm;
        if is_carried && cluster.effective().w < 2 {
            return;
        }
        self.history.lives.has_rotted |= is_carried || how == Failure::LastingRot;
        self.nodes[node as usize].device.failing.begin(fault, how, times, spared);
    }

    /// Notes an event: it gets a place in the order, goes into the hash, and into the transcript.
    pub fn note(
        &mut self,
        kind: &str,
        node: u32,
        detail: &[u8],
        text: impl FnOnce() -> String,
    ) -> Stamp {
        self.log.events += 1;
        assert!(self.log.events <= EVENTS_MAX, "after {EVENTS_MAX} events the run has not ended");
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&rt::now().0.to_le_bytes());
        bytes[8..12].copy_from_slice(&node.to_le_bytes());
        bytes[12..20].copy_from_slice(&xxh3_64(kind.as_bytes()).to_le_bytes());
        bytes[20..].copy_from_slice(&xxh3_64(detail).to_le_bytes());
        self.log.hash = xxh3_64_with_seed(&bytes, self.log.hash);
        if let Some(trace) = &mut self.log.trace {
            let ahead_ms =
                self.nodes.get(node as usize).map_or(0, |node| node.clock.ahead_ms(rt::now()));
            trace.noted(self.log.events, rt::now(), (node, ahead_ms), kind, text());
        }
        Stamp(self.log.events)
    }

    /// The last event so far.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        Stamp(self.log.events)
    }

    /// Does something with the streams, notes what nodes could see of it, and sees to what becomes due.
    pub fn stream<T>(&mut self, act: impl FnOnce(&mut Streams, &mut Luck<'_>) -> T) -> T {
        let (dice, net) = (&mut self.dice, &mut self.carry.net);
        let mut luck = Luck { now: rt::now(), dice, net, due: Vec::new(), told: Vec::new() };
        let output = act(&mut self.carry.streams, &mut luck);
        let streams::Luck { due, told, .. } = luck;
        for (at, due) in due {
            self.agenda.push(at, Event::Stream(due));
        }
        for (node, told) in told {
            let bytes = if let Told::Bytes { bytes, .. } = &told { bytes } else { &Vec::new() };
            self.note("stream", node, bytes, || told.to_string());
        }
        output
    }

    /// The number under which is told what a node's store does.
    #[must_use]
    pub fn teller(&self, node: u32) -> u32 {
        let machine = &self.nodes[node as usize];
        match machine.data.clone_of {
            Some(of) => STAND_INS + of,
            None if machine.data.stand_in.is_some() => STAND_INS + node,
            None => node,
        }
    }

    /// Where a node is.
    #[must_use]
    pub fn address(&self, node: u32) -> Address {
        self.nodes[node as usize].address.clone()
    }

    /// The name of a node among the seeds: whoever asks is told where it is now.
    #[must_use]
    pub fn seed(node: u32) -> Address {
        Address(format!("seed{node}"))
    }

    /// The node that was given an address, whether it is still there or not.
    #[must_use]
    pub fn once_at(address: &Address) -> Option<u32> {
        address.0.strip_prefix('n')?.split('.').next()?.parse().ok()
    }

    /// The node at an address.
    #[must_use]
    pub fn at(&self, address: &Address) -> Option<u32> {
        let there = self.nodes.iter().position(|machine| machine.address == *address);
        let named = || address.0.strip_prefix("seed").and_then(|number| number.parse().ok());
        there.map(|node| node as u32).or_else(named)
    }

    /// The node whose name and settings a machine's process has.
    #[must_use]
    pub fn named(&self, host: u32) -> u32 {
        let clone_of = self.nodes[host as usize].data.clone_of;
        clone_of.unwrap_or_else(|| self.scenario.cluster.named(host))
    }

    /// The node that clients find by a node's name: another one, when that is gone and its name is not.
    #[must_use]
    pub fn with_its_name(&self, node: u32) -> u32 {
        if self.nodes[node as usize].part != Part::Gone {
            return node;
        }
        let mut others = self.there();
        others.find(|&other| self.named(other) == self.named(node)).unwrap_or(node)
    }

    /// The nodes that are there, whether their processes run or not.
    pub fn there(&self) -> impl Iterator<Item = u32> {
        let own = self.nodes.iter().take(self.scenario.cluster.nodes as usize);
        (0..).zip(own).filter(|(_, machine)| machine.part == Part::There).map(|(node, _)| node)
    }

    /// The machine on which a clone of a node's directory runs.
    #[must_use]
    pub fn clone_of(&self, node: u32) -> Option<u32> {
        let is_it = |machine: &Node| machine.data.clone_of == Some(node) && machine.is_up();
        self.nodes.iter().position(is_it).map(|host| host as u32)
    }

    /// Notes that a node or the cluster did what it must not.
    pub fn trouble(&mut self, node: u32, trouble: Trouble) {
        self.note("trouble", node, &[], || match &trouble {
            Trouble::Panic { text, .. } => format!("panic: {text}"),
            Trouble::Failed { cause, .. } => cause.to_string(),
            Trouble::Stuck(stuck) => stuck.to_string(),
        });
        self.history.troubles.push(trouble);
    }

    /// Lets the faults strike whose trigger `is_met`. None strikes after the heal.
    pub fn trigger(&mut self, is_met: impl Fn(Trigger) -> bool) {
        if self.faults.healed {
            return;
        }
        for (at, fault) in self.scenario.faults.iter().enumerate() {
            if is_met(fault.when) {
                self.agenda.push(rt::now(), Event::Strike(at));
            }
        }
    }

    /// Whether something happened that ends the run at once.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.history.troubles.is_empty()
    }

    /// The record of an operation, made when it is first called.
    pub fn op(&mut self, id: usize) -> &mut Op {
        // Ids are given in order of time, and calls come in that order.
        while self.history.ops.len() <= id {
            let next = self.history.ops.len();
            let operation = &self.clients.operations[next];
            let earlier = operation.same_id_as.map(|earlier| self.history.ops[earlier].request);
            let op = self.clients.known.begin(next, operation, earlier, &mut self.dice);
            self.history.ops.push(op);
        }
        &mut self.history.ops[id]
    }

    /// Events so far, and the hash of all of them.
    #[must_use]
    pub const fn hash(&self) -> (u64, u64) {
        (self.log.events, self.log.hash)
    }

    /// A message was handed to the network, which has decided when its copies arrive.
    pub fn trace_sent(&mut self, link: (u32, u32), arrivals: &[Time], event: impl Fn() -> Event) {
        if let Some(trace) = &mut self.log.trace
            && let Event::Deliver { bytes, .. } = event()
        {
            trace.sent(link, rt::now(), arrivals, describe::message(&bytes));
        }
    }

    /// A message arrives now that was handed to its link at `at`.
    pub fn trace_arrived(&mut self, link: (u32, u32), at: Time, bytes: &Bytes) {
        if let Some(trace) = &mut self.log.trace {
            trace.sent(link, at, &[rt::now()], describe::message(bytes));
        }
    }

    /// The transcript, when one was kept.
    pub fn take_transcript(&mut self) -> Vec<Line> {
        self.log.trace.take().map(|trace| trace.into_lines(rt::now())).unwrap_or_default()
    }
}
