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

mod parking;

use std::collections::VecDeque;
use std::io;

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
use crate::id::{Life, Lsn, NodeId, OpId, SyncId};
use crate::layout::{LayoutRef, keyspace};
use crate::parked::{ColdReads, Parked};
use crate::repair::rotten::Rotten;
use crate::replica::{Replica, Trouble};
use crate::request::answers::Surroundings;
use crate::request::coordinator::Coordinator;
use crate::request::forwards::Forwards;
use crate::request::operation::Asker;
use crate::sometimes;
use crate::status::Counters;
use crate::step::{Env, Input};
use crate::wire::client::Reply;
use crate::wire::forward::{ForwardAnswer, ForwardMessage};
use crate::wire::key::{Answer, Ask, KeyMessage, KeyRef, Question};
use crate::wire::layout::LayoutMessage;
use crate::wire::message::{Envelope, Message};

/// How often the engine may do some background work, in milliseconds.
const MAINTAIN_MS: u64 = 50;
/// How long a node that stops still refuses what peers ask of it, before their goodbyes have reached everybody, in
/// milliseconds: what is only dropped would be waited for.
const GOODBYE_MS: u64 = 200;
/// How much of it, in bytes.
const MAINTAIN_BYTES: u64 = 1 << 20;

/// Why a question is not looked at.
#[derive(Clone, Copy)]
enum Refusal {
    /// It was asked under another layout.
    StaleLayout,
    /// This node must not serve.
    Failed,
}

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
        self.settle(env)?;
        if env.probed() {
            self.invariants();
            env.engine().invariants();
        }
        Ok(())
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
        self.members.invariants();
        self.lives.invariants();
        self.formation.invariants();
        self.replica.invariants();
        self.held.invariants();
        self.coordinator.invariants();
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
        if let Message::Forward(ForwardMessage::Ask { op, .. }) = &message
            && !self.forwards.take_on(from, *op)
        {
            sometimes!(env, ForwardRepeated);
            return Ok(());
        }
        match self.fence(&message, layout, env)? {
            Some(why) => self.turn_away(from, &message, why),
            None => self.on_message(from, message, env)?,
        }
        Ok(())
    }

    /// The fence: whatever asks something about a key is looked at only under the layout of this node, and only by a node
    /// that may serve.
    fn fence(
        &mut self,
        message: &Message,
        layout: LayoutRef,
        env: &mut impl Env,
    ) -> Result<Option<Refusal>> {
        match message {
            Message::Key(KeyMessage::Ask(_)) | Message::Forward(ForwardMessage::Ask { .. }) => {}
            // An answer belongs to an operation of this node. Whoever speaks of a layout may have another one.
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. })
            | Message::Layout(LayoutMessage::Offer { .. } | LayoutMessage::Request) => {
                return Ok(None);
            }
        }
        if buggify!(env, StaleLayoutSaid) || !self.formation.on_envelope(layout, env.engine())? {
            sometimes!(env, LayoutQuestionFenced, self.formation.live().is_none());
            self.counters.stale_layouts += 1;
            return Ok(Some(Refusal::StaleLayout));
        }
        Ok(self.barred.is_some().then_some(Refusal::Failed))
    }

    /// Tells whoever asks that nothing was done for it.
    fn turn_away(&mut self, to: NodeId, message: &Message, why: Refusal) {
        let refusal = match message {
            Message::Key(KeyMessage::Ask(ask)) => {
                let answer = match why {
                    Refusal::StaleLayout => Answer::StaleLayout,
                    Refusal::Failed => Answer::Failed,
                };
                Message::Key(KeyMessage::Answer { op: ask.op, answer })
            }
            Message::Forward(ForwardMessage::Ask { op, .. }) => {
                let answer = match why {
                    Refusal::StaleLayout => ForwardAnswer::StaleLayout,
                    Refusal::Failed => ForwardAnswer::Failed,
                };
                Message::Forward(ForwardMessage::Answer { op: *op, answer })
            }
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. })
            | Message::Layout(LayoutMessage::Offer { .. } | LayoutMessage::Request) => return,
        };
        self.out.push_back((to, refusal));
    }

    fn on_message(&mut self, from: NodeId, message: Message, env: &mut impl Env) -> Result<()> {
        match message {
            Message::Key(KeyMessage::Ask(ask)) => self.serve(from, ask, env),
            Message::Key(KeyMessage::Answer { op, answer }) if self.rotten.asked(op) => {
                self.on_rotten_answer(from, op, &answer, env)
            }
            Message::Key(KeyMessage::Answer { op, answer }) => {
                let (coordinator, mut around) = self.split();
                coordinator.on_answer(from, (op, answer), &mut around, env)
            }
            Message::Forward(ForwardMessage::Ask { op, .. }) if buggify!(env, ForwardRefused) => {
                let reply = Reply::unavailable("the primary refuses what is passed on to it");
                let answer = ForwardAnswer::Refused { reply };
                let message = Message::Forward(ForwardMessage::Answer { op, answer });
                self.out.push_back((from, message));
                Ok(())
            }
            Message::Forward(ForwardMessage::Ask { op, request }) => {
                let (coordinator, mut around) = self.split();
                coordinator.begin(Asker::Peer(from, op), request, &mut around, env)
            }
            Message::Forward(ForwardMessage::Answer { op, answer }) => {
                let (coordinator, mut around) = self.split();
                coordinator.on_forward_answer(from, (op, answer), &mut around, env)
            }
            Message::Layout(LayoutMessage::Offer { .. }) if buggify!(env, LayoutOfferIgnored) => {
                Ok(())
            }
            Message::Layout(LayoutMessage::Offer { layout }) => {
                self.formation.on_offer(layout, env.engine())
            }
            Message::Layout(LayoutMessage::Request) => {
                self.formation.on_request(from, env);
                Ok(())
            }
        }
    }

    fn tell(&mut self, to: NodeId, op: OpId, answer: Answer) {
        self.out.push_back((to, Message::Key(KeyMessage::Answer { op, answer })));
    }

    /// Serves a coordinator's question about a key from the local copy.
    fn serve(&mut self, from: NodeId, ask: Ask, env: &mut impl Env) -> Result<()> {
        let op = ask.op;
        if buggify!(env, QuestionRefused) {
            self.tell(from, op, Answer::Failed);
            return Ok(());
        }
        match self.consult(&ask, env) {
            Ok((answer, None)) => self.tell(from, op, answer),
            Ok((answer, Some(lsn))) => {
                if !self.held.answer(lsn, from, op, answer) {
                    sometimes!(env, NoRoomToHold);
                    self.tell(from, op, Answer::Failed);
                }
            }
            Err(Trouble::Cold(ticket)) => {
                sometimes!(env, ColdQuestion);
                let key = ask.key.clone();
                self.park(key, ticket, Parked::Ask(from, ask), env)?;
            }
            Err(Trouble::Failed(error)) => {
                self.note_rotten(&ask.key, &error, env);
                self.tell(from, op, Answer::Failed);
            }
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        Ok(())
    }

    /// The answer of the local copy, and the write that must be durable before it may leave.
    fn consult(
        &mut self,
        Ask { key, question, .. }: &Ask,
        env: &mut impl Env,
    ) -> Result<(Answer, Option<Lsn>), Trouble> {
        let (answer, lsn, is_read) = match question {
            Question::Query => {
                let (clock, highest) = self.replica.query(key, env.engine())?;
                return Ok((Answer::Query { clock, highest }, None));
            }
            Question::Read { digest_only } => {
                let loaded = self.replica.read(key, env.engine())?;
                let answer = if *digest_only && !buggify!(env, StateInsteadOfDigest) {
                    Answer::Digest { digest: loaded.state.digest() }
                } else {
                    Answer::State { state: loaded.state }
                };
                (answer, loaded.lsn, true)
            }
            Question::Merge { state } => {
                let Some((layout, _)) = self.formation.live() else {
                    return Ok((Answer::StaleLayout, None));
                };
                let partition = layout.partition(keyspace::token(key.keyspace, &key.key));
                (Answer::MergeAck, self.replica.merge(key, partition, state, env)?, false)
            }
            Question::Holds { outline } => {
                let loaded = self.replica.read(key, env.engine())?;
                let holds = outline.is_within(&loaded.state);
                sometimes!(env, RepeatedMergeLacked, !holds);
                if !holds {
                    return Ok((Answer::Lacks, None));
                }
                (Answer::MergeAck, loaded.lsn, false)
            }
        };
        let durable = env.engine().durable();
        sometimes!(env, ReadNotDurableYet, is_read && lsn > durable);
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
        Message::Key(KeyMessage::Ask(Ask { op, .. }))
        | Message::Forward(ForwardMessage::Ask { op, .. }) => Some(*op),
        Message::Key(KeyMessage::Answer { .. })
        | Message::Forward(ForwardMessage::Answer { .. })
        | Message::Layout(LayoutMessage::Offer { .. } | LayoutMessage::Request) => None,
    }
}
