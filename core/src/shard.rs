//! A shard: everything that a node knows and does about the keys of one engine.
//!
//! It has the local copy of its keys, the requests it coordinates, what waits for its disk, and the records that cannot be read.
//! What is true of the node as a whole it is shown, read-only, in each call (`View`).
//!
//! Invariants: a shard has no way to another shard, and decides nothing about the cluster; nothing that promises durability
//! leaves before the write it speaks of is durable. A node has one shard so far. With several, a request and a question belong
//! to the shard of their key's token, and an answer to the shard whose operation it names.

mod maintenance;

mod parking;

mod healing;

mod owning;

mod serve;

mod transferring;

mod handing;
mod purging;
mod repairing;

mod picture;

use std::collections::VecDeque;
use std::io;

use self::handing::Handoff;
use self::maintenance::Maintenance;
use self::repairing::Repairs;
use self::transferring::Transfers;
use crate::budget::Shares;
use crate::buggify;
use crate::config::{MESSAGE_BYTES_MAX, NodeConfig};
use crate::engine::{Engine, ReadTicket};
use crate::env::{Mono, Wall};
use crate::error::Result;
use crate::held::{Held, Release};
use crate::id::{Lsn, NodeId, OpId, SyncId, Unit};
use crate::member::view::View;
use crate::parked::{ColdReads, Parked};
use crate::replica::Replica;
use crate::request::answers::Surroundings;
use crate::request::coordinator::Coordinator;
use crate::request::forwards::Forwards;
use crate::request::operation::Asker;
use crate::sometimes;
use crate::status::Counters;
use crate::step::Env;
use crate::wire::client::{Reply, Request};
use crate::wire::forward::{ForwardAnswer, ForwardMessage};
use crate::wire::key::{Answer, Ask, KeyMessage, KeyRef};
use crate::wire::message::{Envelope, Message};

/// One shard.
#[derive(Debug)]
pub struct Shard {
    me: NodeId,
    replica: Replica,
    transfers: Transfers,
    held: Held,
    coordinator: Coordinator,
    begun: Begun,
    /// Messages to send, to this node itself too, so that a coordinator treats all replicas alike.
    out: VecDeque<(NodeId, Message)>,
    cold_reads: ColdReads,
    handoff: Handoff,
    repairs: Repairs,
    maintenance: Maintenance,
    counters: Counters,
}

/// Requests that were taken on here, and those of them whose dots wait.
#[derive(Debug, Default)]
struct Begun {
    forwards: Forwards,
    put_off: PutOff,
}

/// Dots that cannot be issued before their key's record has been read.
#[derive(Debug, Default)]
struct PutOff {
    /// For these a cold read has to be started.
    cold: Vec<(KeyRef, ReadTicket, OpId)>,
    /// The records of these cannot be read.
    unreadable: Vec<(KeyRef, OpId)>,
    /// The clocks of these are full.
    full: Vec<(KeyRef, Unit)>,
}

impl Shard {
    /// A shard on an open store. Reads its own records from `engine`.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine, now: Mono) -> Result<Shard> {
        let shares = Shares::of(config.memory_bytes_max);
        Ok(Shard {
            me: config.id,
            replica: Replica::load(config, engine)?,
            transfers: Transfers::load(config, engine)?,
            held: Held::new(shares.held),
            coordinator: Coordinator::new(config),
            begun: Begun::default(),
            out: VecDeque::new(),
            cold_reads: ColdReads::new(shares.parked),
            handoff: Handoff::new(config, shares.owed),
            repairs: Repairs::new(config),
            maintenance: Maintenance::new(now),
            counters: Counters::default(),
        })
    }

    /// When it has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let hints = self.handoff.next_deadline();
        let timers = [self.coordinator.next_deadline(), self.held.next_deadline(), hints];
        let always = self.maintenance.next.min(self.transfers.next_deadline());
        let always = always.min(self.repairs_deadline()).min(self.repairs.purger.next_deadline());
        timers.into_iter().flatten().fold(always, Mono::min)
    }

    /// Whether nothing is in flight and nothing waits for the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.coordinator.is_empty() && self.held.is_empty()
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.out.is_empty(), "every message has been sent or served");
        self.replica.invariants();
        self.transfers.invariants();
        self.repairs.rounds.invariants();
        self.repairs.purger.invariants();
        self.held.invariants();
        self.coordinator.invariants();
        self.handoff.invariants();
        self.cold_reads.invariants();
        let (parked, owed) = (self.cold_reads.gauge(), self.handoff.debts.gauge());
        for gauge in [parked, owed, self.held.gauge(), self.coordinator.gauge()] {
            assert!(gauge.used <= gauge.max + MESSAGE_BYTES_MAX, "a budget is kept: {gauge:?}");
        }
    }

    /// A client of this node asks, or a peer passes the request of one on.
    pub fn begin(
        &mut self,
        asker: Asker,
        request: Request,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let (coordinator, mut around) = self.split(view);
        coordinator.begin(asker, (request, None), &mut around, env)
    }

    /// A peer, or this node itself, asks or answers something about a key. It has passed the fence.
    pub fn on_key(
        &mut self,
        from: NodeId,
        message: KeyMessage,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        if let KeyMessage::Answer { answer: Answer::Outdated { unit, epoch, .. }, .. } = &message {
            self.hear_of(*unit, *epoch, view, env);
        }
        match message {
            KeyMessage::Ask(ask) => self.serve(from, ask, view, env),
            KeyMessage::Answer { op, answer, .. } if self.repairs.rotten.asked(op) => {
                self.on_rotten_answer(from, op, &answer, view, env)
            }
            KeyMessage::Answer { op, layouts, answer } if self.transfers.asked(op) => {
                self.on_taken(from, (op, layouts, answer), view, env)
            }
            KeyMessage::Answer { op, layouts, answer } if self.handoff.handing.asked(op) => {
                self.on_handed(from, (op, &layouts, answer), view, env);
                Ok(())
            }
            KeyMessage::Answer { op, layouts, answer } if self.repairs.rounds.asked(op) => {
                self.on_repaired(from, (op, layouts, answer), view, env)
            }
            KeyMessage::Answer { op, layouts, answer } if self.repairs.purger.asked(op) => {
                self.on_purged(from, (op, layouts, answer), view, env)
            }
            // Of a write that has ended: its last primaries acknowledge it now.
            KeyMessage::Answer { op, answer: Answer::MergeAck, .. } if self.settles(from, op) => {
                sometimes!(env, OwedSettled);
                Ok(())
            }
            KeyMessage::Answer { op, layouts, answer } => {
                let (coordinator, mut around) = self.split(view);
                coordinator.on_answer(from, (op, &layouts, answer), &mut around, env)
            }
        }
    }

    /// Whether a request that is passed on arrives for the first time: it is taken on once.
    pub fn takes_on(&mut self, from: NodeId, op: OpId, env: &impl Env) -> bool {
        let is_new = self.begun.forwards.take_on(from, op);
        sometimes!(env, ForwardRepeated, !is_new);
        is_new
    }

    /// A peer passes a request on, or says what has become of one. It has passed the fence.
    pub fn on_forward(
        &mut self,
        from: NodeId,
        message: ForwardMessage,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        match message {
            ForwardMessage::Ask { op, .. } if buggify!(env, ForwardRefused) => {
                let reply = Reply::unavailable("the primary refuses what is passed on to it");
                let answer = ForwardAnswer::Refused { reply };
                let message = Message::Forward(ForwardMessage::Answer { op, answer });
                self.out.push_back((from, message));
                Ok(())
            }
            ForwardMessage::Ask { op, fixed, request, .. } => {
                let (coordinator, mut around) = self.split(view);
                coordinator.begin(Asker::Peer(from, op), (request, Some(fixed)), &mut around, env)
            }
            ForwardMessage::Answer { op, answer } => {
                let (coordinator, mut around) = self.split(view);
                coordinator.on_forward_answer(from, (op, answer), &mut around, env)
            }
        }
    }

    /// Ends the requests that are late, asks again where nobody answered, takes units that are partial, and compares others.
    pub fn tick_requests(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        self.tick_transfers(view, env)?;
        self.tick_hints(view, env)?;
        self.tick_repairs(view, env)?;
        self.tick_purges(view, env)?;
        let (coordinator, mut around) = self.split(view);
        coordinator.tick(&mut around, env)
    }

    /// This node's own clock counts as far as those of its peers allow, while it hears any.
    pub fn trust(&mut self, peers_wall: Option<Wall>, now: Mono) {
        self.replica.trust(peers_wall, now);
    }

    /// Makes sure that a write of the node's own records becomes durable.
    pub fn wait_for(&mut self, lsn: Lsn) {
        self.held.until(lsn, Release::Nothing);
    }

    /// Starts a sync, when something waits for one and it is time.
    pub fn start_sync(&mut self, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        sometimes!(env, CrowdWaitedForASync, self.held.next_deadline().is_some_and(|at| at > now));
        if buggify!(env, SyncPutOff) {
            return Ok(());
        }
        let released = self.held.start(now, env.engine())?;
        self.release(released);
        Ok(())
    }

    /// A sync ended. `Err`: it failed, and the node must stop.
    pub fn on_synced(
        &mut self,
        id: SyncId,
        result: io::Result<()>,
        env: &mut impl Env,
    ) -> Result<()> {
        let released = self.held.synced(id, result, env.engine())?;
        self.maintenance.synced(env.mono());
        sometimes!(env, SyncCoveredSeveral, released.len() > 1);
        sometimes!(env, SyncLeftSomeWaiting, !self.held.is_empty());
        self.release(released);
        Ok(())
    }

    /// Takes no more requests.
    pub fn stop(&mut self, env: &impl Env) {
        sometimes!(env, StopWithRequestsInFlight, !self.coordinator.is_empty());
        self.coordinator.stop();
        self.repairs.stop();
        self.repairs.purger.stop();
    }

    /// Answers whatever is in flight with what is known of it.
    pub fn abandon(&mut self, view: View<'_>, env: &mut impl Env) {
        let (coordinator, mut around) = self.split(view);
        coordinator.abandon(&mut around, env);
    }

    /// The last thing before the store is closed. `Err`: it must not be marked as closed cleanly.
    pub fn settle_store(&mut self, engine: &mut dyn Engine) -> Result<()> {
        self.settle_hints(engine)?;
        self.replica.settle(engine)?;
        self.replica.trees_mut().store_all(engine)
    }

    /// Sends what is to be sent, and serves what this node says to itself, until nothing is left.
    pub fn settle(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        loop {
            for (key, ticket, op) in std::mem::take(&mut self.begun.put_off.cold) {
                sometimes!(env, ColdIssue);
                self.park(key, ticket, Parked::Issue(op), env)?;
            }
            self.put_off_dots(view, env);
            for (key, unit) in std::mem::take(&mut self.begun.put_off.full) {
                self.repairs.purger.compact(&key, unit, env.mono());
            }
            let Some((to, mut message)) = self.out.pop_front() else {
                return Ok(());
            };
            self.tell_epoch(&mut message, view);
            if to != self.me {
                self.send(to, message, view, env)?;
                continue;
            }
            match message {
                Message::Key(message) => self.on_key(to, message, view, env)?,
                Message::Forward(message) => self.on_forward(to, message, view, env)?,
                Message::Transfer(message) => self.on_transfer(to, message, view, env)?,
                Message::Repair(message) => self.on_repair(to, message, view, env)?,
                Message::Layout(_) | Message::Swim(_) => {
                    unreachable!("a shard speaks of keys alone")
                }
            }
        }
    }

    fn send(
        &mut self,
        to: NodeId,
        message: Message,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let durable = env.engine().durable();
        let asks = asks(&message);
        let left = env.send(to, Envelope { life: view.life, durable, message });
        let Some(op) = asks.filter(|_| !left) else {
            return Ok(());
        };
        let (coordinator, mut around) = self.split(view);
        coordinator.on_not_sent(to, op, &mut around, env)
    }

    fn release(&mut self, released: Vec<Release>) {
        for release in released {
            match release {
                Release::Send(to, message) => self.out.push_back((to, message)),
                Release::Reserved(reservation) => self.replica.clock_reserved(reservation),
                Release::Nothing => {}
            }
        }
    }

    fn split<'a>(&'a mut self, view: View<'a>) -> (&'a mut Coordinator, Surroundings<'a>) {
        let around = Surroundings {
            view,
            replica: &mut self.replica,
            units: &self.transfers.units,
            held: &mut self.held,
            out: &mut self.out,
            cold: &mut self.begun.put_off.cold,
            unreadable: &mut self.begun.put_off.unreadable,
            full: &mut self.begun.put_off.full,
            debts: &mut self.handoff.debts,
            hints: &mut self.handoff.hints,
            handing: &mut self.handoff.handing,
            counters: &mut self.counters,
        };
        (&mut self.coordinator, around)
    }
}

/// The operation of this node that a message asks something for.
const fn asks(message: &Message) -> Option<OpId> {
    match message {
        Message::Key(KeyMessage::Ask(Ask { op, .. }))
        | Message::Forward(ForwardMessage::Ask { op, .. }) => Some(*op),
        Message::Key(KeyMessage::Answer { .. })
        | Message::Forward(ForwardMessage::Answer { .. })
        | Message::Transfer(_)
        | Message::Repair(_)
        | Message::Layout(_)
        | Message::Swim(_) => None,
    }
}
