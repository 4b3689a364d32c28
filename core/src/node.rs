//! A node: its machines, and one match that says which of them an input is for.
//!
//! `step` is the only way in. It changes the node's state, and hands effects to its `Env`. Messages to this node itself go
//! the same way as those to others, so that a coordinator treats all replicas alike.
//!
//! Invariants: a message about a key is looked at only under the same layout (the fence); nothing that promises
//! durability is sent before the write it speaks of is durable; after an error `step` is not called again, except to
//! `abandon` what is in flight.

mod picture;

mod meeting;

mod healing;

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::budget::Shares;
use crate::buggify;
use crate::cluster::formation::Formation;
use crate::cluster::lives::Lives;
use crate::cluster::membership::Membership;
use crate::cluster::notes::Notes;
use crate::config::{MESSAGE_BYTES_MAX, NodeConfig, STOP_MS_MAX};
use crate::engine::{Engine, ReadTicket};
use crate::env::{Address, Mono};
use crate::error::Result;
use crate::held::{Held, Release};
use crate::id::{Life, NodeId, OpId, ReadId, SyncId};
use crate::layout::keyspace;
use crate::message::{Envelope, KeyRef, Message, Reply};
use crate::parked::{ColdRead, ColdReads, Parked, Parking};
use crate::repair::rotten::Rotten;
use crate::replica::{Replica, Trouble};
use crate::request::answers::Surroundings;
use crate::request::coordinator::Coordinator;
use crate::request::forwards::Forwards;
use crate::request::operation::Asker;
use crate::sometimes;
use crate::status::Counters;
use crate::step::{Env, Input};

/// How often the engine may do some background work, in milliseconds.
const MAINTAIN_MS: u64 = 50;
/// How long a node that stops still refuses what peers ask of it, before their goodbyes have reached everybody, in
/// milliseconds: what is only dropped would be waited for.
const GOODBYE_MS: u64 = 200;
/// How much of it, in bytes.
const MAINTAIN_BYTES: u64 = 1 << 20;

/// One node.
#[derive(Debug)]
pub struct Node {
    me: NodeId,
    name: String,
    cluster: String,
    life: Life,
    started: Mono,
    members: Membership,
    lives: Lives,
    /// Why this node must not serve, if it must not.
    barred: Option<String>,
    notes: Notes,
    formation: Formation,
    replica: Replica,
    held: Held,
    coordinator: Coordinator,
    forwards: Forwards,
    out: VecDeque<(NodeId, Message)>,
    /// Dots that wait for a cold read which has not been started.
    cold: Vec<(KeyRef, ReadTicket, OpId)>,
    /// Dots that wait for a record which cannot be read.
    unreadable: Vec<(KeyRef, OpId)>,
    rotten: Rotten,
    cold_reads: ColdReads,
    next_maintain: Mono,
    /// Whether background work goes on when the next sync has ended.
    maintain_waits: bool,
    stop_by: Option<Mono>,
    /// Until when a node that stops stays to refuse.
    stays_until: Mono,
    counters: Counters,
}

impl Node {
    /// A node on an open store. Reads its own records from `engine`.
    pub fn new(config: &NodeConfig, engine: &mut dyn Engine, now: Mono) -> Result<Node> {
        let shares = Shares::of(config.memory_bytes_max);
        let formation = Formation::load(config, engine)?;
        let lives = Lives::load(config, engine)?;
        Ok(Node {
            me: config.id,
            name: config.name.clone(),
            cluster: config.cluster.clone(),
            life: config.life,
            started: now,
            members: Membership::new(config),
            barred: lives.bars(formation.live().map(|(layout, _)| &**layout)),
            lives,
            notes: Notes::new(&config.name, &config.cluster),
            formation,
            replica: Replica::load(config, engine)?,
            held: Held::new(shares.held),
            coordinator: Coordinator::new(config),
            forwards: Forwards::default(),
            out: VecDeque::new(),
            cold: Vec::new(),
            unreadable: Vec::new(),
            rotten: Rotten::new(config.id, config.life),
            cold_reads: ColdReads::new(shares.parked),
            next_maintain: now,
            maintain_waits: false,
            stop_by: None,
            stays_until: now,
            counters: Counters::default(),
        })
    }

    /// One input. `Err`: the disk failed, and the node must stop.
    pub fn step(&mut self, input: Input, env: &mut impl Env) -> Result<()> {
        self.members.look_at_clock(env);
        match input {
            Input::Request(tag, request) => {
                let (coordinator, mut around) = self.split();
                coordinator.begin(Asker::Client(tag), request, &mut around, env)?;
            }
            Input::Peer(from, envelope) => self.on_envelope(from, envelope, env)?,
            Input::Gossip(gossip) => {
                self.on_gossip(gossip, env)?;
                self.trust(env.mono());
            }
            Input::Foreign(from, gossip) => self.on_foreign(from, gossip, env),
            Input::Malformed => self.counters.malformed += 1,
            Input::Synced(id, result) => self.on_synced(id, result, env)?,
            Input::ReadDone(id, result) => self.on_read_done(id, result, env)?,
            Input::Tick => self.tick(env)?,
            Input::Stop => {
                sometimes!(env, StopWithRequestsInFlight, !self.coordinator.is_empty());
                self.coordinator.stop();
                self.stop_by = Some(env.mono().plus_ms(STOP_MS_MAX));
                let endorsed = self.formation.endorsement(env.engine().durable());
                if self.members.leave(endorsed, self.formation.live().is_some(), &self.lives, env) {
                    self.stays_until = env.mono().plus_ms(GOODBYE_MS);
                }
            }
        }
        self.settle(env)
    }

    /// When `Input::Tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let timers = [self.coordinator.next_deadline(), self.held.next_deadline()];
        let always = self.members.next_deadline().min(self.next_maintain);
        timers.into_iter().flatten().fold(always, Mono::min)
    }

    /// Whether the node was asked to stop and has nothing more to wait for.
    #[must_use]
    pub fn stopped(&self, now: Mono) -> bool {
        let idle = self.coordinator.is_empty() && self.held.is_empty() && now >= self.stays_until;
        self.stop_by.is_some_and(|by| idle || now >= by)
    }

    /// Answers whatever is in flight with what is known of it, because the node stops now.
    pub fn abandon(&mut self, env: &mut impl Env) {
        let (coordinator, mut around) = self.split();
        coordinator.abandon(&mut around, env);
    }

    /// The last thing before the store is closed. `Err`: it must not be marked as closed cleanly.
    pub fn settle_store(&mut self, engine: &mut dyn Engine) -> Result<()> {
        self.replica.settle(engine)
    }

    /// One more address to meet nodes at.
    pub fn add_seed(&mut self, seed: Address) {
        self.members.add_seed(seed);
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.out.is_empty(), "every message has been sent or served");
        self.cold_reads.invariants();
        for gauge in [self.cold_reads.gauge(), self.held.gauge(), self.coordinator.gauge()] {
            assert!(gauge.used <= gauge.max + MESSAGE_BYTES_MAX, "a budget is kept: {gauge:?}");
        }
    }

    fn tick(&mut self, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        self.members.look_at_links(env);
        let (coordinator, mut around) = self.split();
        coordinator.tick(&mut around, env)?;
        if now >= self.members.next_deadline() {
            self.formation.tick(&self.members, env)?;
            let durable = env.engine().durable();
            if let Some(stored) = self.formation.waits_for(durable) {
                self.held.until(stored, Release::Nothing);
            }
            if let Some(stored) = self.lives.waits_for(durable) {
                self.held.until(stored, Release::Nothing);
            }
            let live = self.formation.live().is_some();
            self.trust(now);
            self.members.tick(self.formation.endorsement(durable), live, &self.lives, env);
            let members = self.formation.members();
            self.members.forget_strangers(&members, now);
            if !members.is_empty() {
                let peers = self.members.peers();
                self.lives.retain(|node| members.contains(&node) || peers.contains_key(&node));
            }
            self.notes.forget(now);
            self.look_at_myself(env)?;
        }
        if now >= self.next_maintain {
            healing::flush(env.engine())?;
            let budget = if buggify!(env, MaintainBudgetOfOne) { 1 } else { MAINTAIN_BYTES };
            let progress = env.engine().maintain(budget)?;
            // When something waits already, a sync comes by itself; if it does not cover this, the next turn asks again.
            if let Some(lsn) = progress.waits_for.filter(|_| self.held.is_empty()) {
                self.held.until(lsn, Release::Nothing);
            }
            self.maintain_waits = progress.waits_for.is_some();
            let more = progress.more || buggify!(env, MaintainAtOnce);
            self.next_maintain = now.plus_ms(if more { 1 } else { MAINTAIN_MS });
            self.tick_rotten(env);
            if buggify!(env, MaintainPutOff) {
                self.next_maintain = now.plus_ms(10 * MAINTAIN_MS);
            }
        }
        self.settle(env)?;
        sometimes!(env, CrowdWaitedForASync, self.held.next_deadline().is_some_and(|at| at > now));
        if buggify!(env, SyncPutOff) {
            return Ok(());
        }
        let released = self.held.start(now, env.engine())?;
        self.release(released);
        Ok(())
    }

    fn on_envelope(&mut self, from: NodeId, envelope: Envelope, env: &mut impl Env) -> Result<()> {
        let Envelope { life, layout, durable, message } = envelope;
        if !self.lives.counts(from, life, env.engine().durable()) {
            sometimes!(env, MessageOfNoLife);
            self.counters.lives_refused += 1;
            return Ok(());
        }
        self.lives.hear_end(from, durable);
        let fenced = match &message {
            Message::Query { op, .. }
            | Message::Read { op, .. }
            | Message::Merge { op, .. }
            | Message::Holds { op, .. } => Some(*op),
            Message::Forward { op, .. } if !self.forwards.take_on(from, *op) => {
                sometimes!(env, ForwardRepeated);
                return Ok(());
            }
            Message::Forward { op, .. } => Some(*op),
            _ => None,
        };
        if let Some(op) = fenced
            && (buggify!(env, StaleLayoutSaid)
                || !self.formation.on_envelope(layout, env.engine())?)
        {
            sometimes!(env, LayoutQuestionFenced, self.formation.live().is_none());
            self.counters.stale_layouts += 1;
            self.out.push_back((from, Message::StaleLayout { op }));
            return Ok(());
        }
        if let Some(op) = fenced.filter(|_| self.barred.is_some()) {
            self.out.push_back((from, Message::Failed { op }));
            return Ok(());
        }
        self.on_message(from, message, env)
    }

    fn on_message(&mut self, from: NodeId, message: Message, env: &mut impl Env) -> Result<()> {
        match message {
            Message::Query { .. }
            | Message::Read { .. }
            | Message::Merge { .. }
            | Message::Holds { .. } => self.serve(from, message, env),
            Message::Forward { op, .. } if buggify!(env, ForwardRefused) => {
                let reply = Reply::unavailable("the primary refuses what is passed on to it");
                self.out.push_back((from, Message::ForwardRefused { op, reply }));
                Ok(())
            }
            Message::Forward { op, request } => {
                let (coordinator, mut around) = self.split();
                coordinator.begin(Asker::Peer(from, op), request, &mut around, env)
            }
            Message::LayoutOffer { .. } if buggify!(env, LayoutOfferIgnored) => Ok(()),
            Message::LayoutOffer { layout } => self.formation.on_offer(layout, env.engine()),
            Message::LayoutRequest => {
                self.formation.on_request(from, env);
                Ok(())
            }
            Message::ReadReply { op, .. } | Message::DigestReply { op, .. }
                if self.rotten.asked(op) =>
            {
                self.on_rotten_answer(from, op, &message, env)
            }
            answer => {
                let (coordinator, mut around) = self.split();
                coordinator.on_answer(from, answer, &mut around, env)
            }
        }
    }

    /// Serves a coordinator's question about a key from the local copy.
    fn serve(&mut self, from: NodeId, message: Message, env: &mut impl Env) -> Result<()> {
        let (op, key) = match &message {
            Message::Query { op, key } | Message::Read { op, key, .. } => (*op, key),
            Message::Merge { op, key, .. } | Message::Holds { op, key, .. } => (*op, key),
            _ => return Ok(()),
        };
        if buggify!(env, QuestionRefused) {
            self.out.push_back((from, Message::Failed { op }));
            return Ok(());
        }
        match self.consult(&message, env) {
            Ok((answer, None)) => self.out.push_back((from, answer)),
            Ok((answer, Some(lsn))) => {
                if !self.held.answer(lsn, from, answer) {
                    sometimes!(env, NoRoomToHold);
                    self.out.push_back((from, Message::Failed { op }));
                }
            }
            Err(Trouble::Cold(ticket)) => {
                sometimes!(env, ColdQuestion);
                let key = key.clone();
                self.park(key, ticket, Parked::Message(from, message), env)?;
            }
            Err(Trouble::Failed(error)) => {
                self.note_rotten(&key.clone(), &error, env);
                self.out.push_back((from, Message::Failed { op }));
            }
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        Ok(())
    }

    /// The answer of the local copy, and the write that must be durable before it may leave.
    fn consult(
        &mut self,
        message: &Message,
        env: &mut impl Env,
    ) -> Result<(Message, Option<crate::id::Lsn>), Trouble> {
        let (answer, lsn) = match message {
            Message::Query { op, key } => {
                let (clock, highest) = self.replica.query(key, env.engine())?;
                return Ok((Message::QueryReply { op: *op, clock, highest }, None));
            }
            Message::Read { op, key, digest_only } => {
                let loaded = self.replica.read(key, env.engine())?;
                let answer = if *digest_only && !buggify!(env, StateInsteadOfDigest) {
                    Message::DigestReply { op: *op, digest: loaded.state.digest() }
                } else {
                    Message::ReadReply { op: *op, state: loaded.state }
                };
                (answer, loaded.lsn)
            }
            Message::Merge { op, key, state } => {
                let Some((layout, _)) = self.formation.live() else {
                    return Ok((Message::StaleLayout { op: *op }, None));
                };
                let partition = layout.partition(keyspace::token(key.keyspace, &key.key));
                let lsn = self.replica.merge(key, partition, state, env)?;
                (Message::MergeAck { op: *op }, lsn)
            }
            Message::Holds { op, key, outline } => {
                let loaded = self.replica.read(key, env.engine())?;
                let holds = outline.is_within(&loaded.state);
                sometimes!(env, RepeatedMergeLacked, !holds);
                if !holds {
                    return Ok((Message::Lacks { op: *op }, None));
                }
                (Message::MergeAck { op: *op }, loaded.lsn)
            }
            _ => unreachable!("only questions about a key are served"),
        };
        let durable = env.engine().durable();
        let merged = matches!(message, Message::Merge { .. } | Message::Holds { .. });
        sometimes!(env, ReadNotDurableYet, !merged && lsn > durable);
        Ok((answer, (lsn > durable).then_some(lsn)))
    }

    fn on_synced(&mut self, id: SyncId, result: io::Result<()>, env: &mut impl Env) -> Result<()> {
        let released = self.held.synced(id, result, env.engine())?;
        if std::mem::take(&mut self.maintain_waits) {
            self.next_maintain = self.next_maintain.min(env.mono().plus_ms(1));
        }
        sometimes!(env, SyncCoveredSeveral, released.len() > 1);
        sometimes!(env, SyncLeftSomeWaiting, !self.held.is_empty());
        self.release(released);
        Ok(())
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

    fn park(
        &mut self,
        key: KeyRef,
        ticket: ReadTicket,
        parked: Parked,
        env: &mut impl Env,
    ) -> Result<()> {
        let parking = match buggify!(env, ParkingFull) {
            true => Parking::Full,
            false => self.cold_reads.park(key.clone(), ticket, parked),
        };
        sometimes!(env, ColdReadShared, parking == Parking::Shared);
        match parking {
            Parking::Full => self.replica.forget(&key),
            Parking::Shared => {}
            Parking::Start(id) => env.engine().start_read(id, ticket)?,
        }
        Ok(())
    }

    /// A cold read ended: whatever waited for it is served as if it had just arrived.
    fn on_read_done(
        &mut self,
        id: ReadId,
        result: io::Result<Bytes>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(ColdRead { key, ticket, parked }) = self.cold_reads.take(id) else {
            return Ok(());
        };
        let engine = env.engine();
        match result.map_err(Into::into).and_then(|bytes| engine.finish_read(ticket, bytes)) {
            Ok(found) => {
                let wanted = self.replica.warm_up(&key, ticket, found);
                sometimes!(env, ColdReadOvertaken, !wanted);
            }
            Err(error) => {
                self.replica.forget(&key);
                self.note_rotten(&key, &error, env);
                return self.refuse(&key, parked, env);
            }
        }
        for parked in parked {
            match parked {
                // Its life has ended since, and the next one may have been told what is known here.
                Parked::Message(from, message) if self.is_past(from, &message) => {
                    sometimes!(env, MessageOfAnEarlierLife);
                }
                Parked::Message(from, message) => self.serve(from, message, env)?,
                Parked::Issue(op) => {
                    let (coordinator, mut around) = self.split();
                    coordinator.resume(op, &mut around, env)?;
                }
            }
        }
        self.replica.cool_down();
        Ok(())
    }

    /// Whether a question is of a life of a peer that counts no more.
    fn is_past(&self, from: NodeId, message: &Message) -> bool {
        from != self.me && asks(message).is_some_and(|op| self.lives.known(from) != Some(op.life))
    }

    /// Sends what is to be sent, and serves what this node says to itself, until nothing is left.
    fn settle(&mut self, env: &mut impl Env) -> Result<()> {
        loop {
            for (key, ticket, op) in std::mem::take(&mut self.cold) {
                sometimes!(env, ColdIssue);
                self.park(key, ticket, Parked::Issue(op), env)?;
            }
            self.put_off_dots(env);
            let Some((to, message)) = self.out.pop_front() else {
                return Ok(());
            };
            if to == self.me {
                self.on_message(to, message, env)?;
            } else {
                let layout =
                    self.formation.live().map(|(_, reference)| reference).unwrap_or_default();
                let asks = asks(&message);
                let durable = env.engine().durable();
                let left = env.send(to, Envelope { life: self.life, layout, durable, message });
                if let Some(op) = asks.filter(|_| !left) {
                    let (coordinator, mut around) = self.split();
                    coordinator.on_not_sent(to, op, &mut around, env)?;
                }
            }
        }
    }

    /// This node's own clock counts as far as those of its peers allow, while it hears any.
    fn trust(&mut self, now: Mono) {
        self.replica.trust(self.members.peers_wall(now), now);
    }

    fn split(&mut self) -> (&mut Coordinator, Surroundings<'_>) {
        let around = Surroundings {
            barred: self.barred.as_deref(),
            layout: self.formation.live(),
            members: &self.members,
            replica: &mut self.replica,
            held: &mut self.held,
            out: &mut self.out,
            cold: &mut self.cold,
            unreadable: &mut self.unreadable,
            counters: &mut self.counters,
        };
        (&mut self.coordinator, around)
    }
}

/// The operation of this node that a message asks something for.
const fn asks(message: &Message) -> Option<OpId> {
    match message {
        Message::Query { op, .. }
        | Message::Read { op, .. }
        | Message::Merge { op, .. }
        | Message::Holds { op, .. }
        | Message::Forward { op, .. } => Some(*op),
        _ => None,
    }
}
