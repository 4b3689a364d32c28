//! All requests that this node coordinates, and those it has passed on.
//!
//! Invariants: an operation ends exactly once, with an answer to everybody who asked; it ends by its deadline; a
//! question that may be lost is asked again every `resend_ms` (all questions are idempotent). A put is coordinated by a
//! primary: another node passes it on, once, and the receiver coordinates it or nobody does
//! (<https://github.com/basho/riak_kv/issues/1046>).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::buggify;
use crate::cluster::membership::Membership;
use crate::config::{
    CONTENT_TYPE_BYTES_MAX, DEADLINE_MS_MAX, DRIFT_MS_MAX, KEY_BYTES_MAX, NodeConfig,
    REQUESTS_IN_FLIGHT_MAX, VALUE_BYTES_MAX,
};
use crate::engine::ReadTicket;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::held::Held;
use crate::id::{BootEpoch, NodeId, OpId};
use crate::layout::keyspace::Level;
use crate::layout::{Layout, LayoutRef, keyspace};
use crate::message::{Action, KeyRef, Message, Reply, Request};
use crate::replica::{Replica, Trouble};
use crate::request::attempts::{Attempt, Attempts};
use crate::request::get::ReadRound;
use crate::request::operation::{Asker, Facts, Next, Patience};
use crate::request::put::PutRound;
use crate::request::quorum::Primaries;
use crate::sometimes;
use crate::status::Counters;
use crate::step::Env;

/// The most askers of one operation: attempts of one request that meet.
const ASKERS_MAX: usize = 64;

/// Where an operation stands.
#[derive(Debug)]
enum Phase {
    Put(PutRound),
    Read(Box<ReadRound>),
    /// Somebody else coordinates.
    Forwarded(NodeId),
}

/// One request in flight.
#[derive(Debug)]
struct Operation {
    facts: Facts,
    askers: SmallVec<[Asker; 1]>,
    /// When something is to be done next: a hedge, a repetition, the end.
    timer: Mono,
    phase: Phase,
}

/// What the coordinator works with, of the other machines of its node.
pub struct Surroundings<'a> {
    /// The live layout, if there is one.
    pub layout: Option<(&'a Arc<Layout>, LayoutRef)>,
    /// Who seems to be up.
    pub members: &'a Membership,
    /// The local copy.
    pub replica: &'a mut Replica,
    /// What waits for the disk.
    pub held: &'a mut Held,
    /// Messages to send, to this node itself too.
    pub out: &'a mut VecDeque<(NodeId, Message)>,
    /// Dots to be issued once a cold read has ended.
    pub cold: &'a mut Vec<(KeyRef, ReadTicket, OpId)>,
    /// What was done.
    pub counters: &'a mut Counters,
}

/// The requests in flight.
#[derive(Debug)]
pub struct Coordinator {
    me: NodeId,
    boot: BootEpoch,
    sequence: u64,
    patience: Patience,
    operations: BTreeMap<u64, Operation>,
    timers: BTreeSet<(Mono, u64)>,
    attempts: Attempts,
    stopping: bool,
}

impl Coordinator {
    /// Nothing in flight.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Coordinator {
        Coordinator {
            me: config.id,
            boot: config.boot,
            sequence: 0,
            patience: Patience::new(config),
            operations: BTreeMap::new(),
            timers: BTreeSet::new(),
            attempts: Attempts::default(),
            stopping: false,
        }
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.first().map(|&(time, _)| time)
    }

    /// Takes no more requests.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// Somebody asks.
    pub fn begin(
        &mut self,
        asker: Asker,
        request: Request,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let admitted = match buggify!(env, AdmissionRefused) {
            true => Err(overloaded("too many requests in flight, says the simulator")),
            false => self.admit(request, around, env.mono()),
        };
        let mut facts = match admitted {
            Ok(facts) => facts,
            Err(reply) => {
                sometimes!(env, RequestRefusedAtOnce, matches!(reply, Reply::Unavailable { .. }));
                around.counters.count(&reply);
                answer(asker, reply, around, env);
                return Ok(());
            }
        };
        if buggify!(env, DeadlineClose) {
            facts.deadline = env.mono().plus_ms(facts.deadline.ms_since(env.mono()) / 10 + 1);
        }
        let writes = !matches!(facts.request.action, Action::Get);
        if writes && facts.primaries.position(self.me).is_none() {
            self.forward(asker, facts, around, env);
            return Ok(());
        }
        let named = writes && facts.request.named;
        if named && buggify!(env, AttemptsFull) {
            let reply = overloaded("too many are remembered, says the simulator");
            around.counters.count(&reply);
            answer(asker, reply, around, env);
            return Ok(());
        }
        let begun = self.attempts.get(facts.request.id) == Some(&Attempt::NoneIssued);
        sometimes!(env, AttemptBegunAnew, named && begun);
        let find = match self.earlier_attempt(&facts, asker, named) {
            Earlier::Joined => {
                sometimes!(env, AttemptJoined);
                return Ok(());
            }
            Earlier::Known(reply) => {
                sometimes!(env, AttemptKnownAsStored);
                answer(asker, reply, around, env);
                return Ok(());
            }
            Earlier::Search => true,
            Earlier::None => named && buggify!(env, FirstAttemptSearched),
        };
        sometimes!(env, AttemptSearched, find && facts.request.attempt > 1);
        if named {
            self.attempts.begin(facts.request.id, facts.id);
        }
        self.open(asker, facts, find, around, env)
    }

    /// Begins the rounds of a request that is coordinated here; with `find`, by the search for an earlier attempt's dot.
    fn open(
        &mut self,
        asker: Asker,
        facts: Facts,
        find: bool,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let mut order = order(&facts, self.me, around.members, env.mono());
        if buggify!(env, RemoteAskedFirst) {
            order.reverse();
        }
        let writes = !matches!(facts.request.action, Action::Get);
        let (phase, next, patience) = if writes && !find {
            let round = PutRound::new(&facts);
            let next = round.begin(&facts);
            (Phase::Put(round), next, self.patience.resend_ms)
        } else {
            let mut round = ReadRound::new(find);
            let next = round.begin(&facts, &order);
            (Phase::Read(Box::new(round)), next, self.patience.hedge_ms)
        };
        let patience = if buggify!(env, HedgeAtOnce) { 0 } else { patience };
        let id = facts.id;
        let timer = env.mono().plus_ms(patience).min(facts.deadline);
        self.insert(Operation { facts, askers: [asker].into_iter().collect(), timer, phase });
        self.go_on(id, next, around, env)
    }

    /// A peer, or this node itself, answers a question of an operation.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        message: Message,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(id) = answered(&message).filter(|id| id.boot == self.boot) else {
            return Ok(());
        };
        let Some(operation) = self.operations.get_mut(&id.seq) else {
            sometimes!(env, StaleReplyIgnored);
            return Ok(());
        };
        let Operation { facts, phase, .. } = operation;
        let next = match (phase, message) {
            (Phase::Forwarded(to), Message::ForwardReply { reply, .. }) if *to == from => {
                Next::End(reply)
            }
            (Phase::Forwarded(to), Message::StaleLayout { .. } | Message::Failed { .. })
                if *to == from =>
            {
                sometimes!(env, ForwardFenced);
                Next::End(Reply::Unavailable {
                    reason: "the primary it was passed on to is not in this layout yet".to_owned(),
                })
            }
            (Phase::Forwarded(_), _) => Next::Wait,
            (phase, message) => {
                let Some(at) = facts.primaries.position(from) else {
                    return Ok(());
                };
                heard(phase, at, message, facts)
            }
        };
        self.go_on(id, next, around, env)
    }

    /// A cold read has ended: the dot can be issued.
    pub fn resume(
        &mut self,
        id: OpId,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        self.go_on(id, Next::Issue, around, env)
    }

    /// A cold read has failed: the dot cannot be issued here.
    pub fn refuse_issue(&mut self, id: OpId, around: &mut Surroundings<'_>, env: &mut impl Env) {
        self.end(id, unavailable("this replica cannot read its record of the key"), around, env);
    }

    /// Ends what is late, asks again where nobody answered.
    pub fn tick(&mut self, around: &mut Surroundings<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        self.attempts.forget(now);
        while let Some(&(time, sequence)) = self.timers.first() {
            if time > now {
                break;
            }
            self.timers.pop_first();
            let Some(operation) = self.operations.get_mut(&sequence) else {
                continue;
            };
            let Operation { facts, phase, timer, .. } = operation;
            let next = if now >= facts.deadline {
                meet_timeout(phase, env);
                Next::End(timed_out(phase, facts))
            } else {
                sometimes!(env, ReadHedged, matches!(phase, Phase::Read(_)));
                sometimes!(env, QuestionAskedAgain, matches!(phase, Phase::Put(_)));
                let resend_ms = self.patience.resend_ms;
                let resend_ms =
                    if buggify!(env, ResendEarly) { resend_ms / 10 + 1 } else { resend_ms };
                let resend_ms = if buggify!(env, ResendLate) { resend_ms * 10 } else { resend_ms };
                *timer = now.plus_ms(resend_ms).min(facts.deadline);
                self.timers.insert((*timer, sequence));
                match phase {
                    Phase::Put(round) => Next::Ask(round.unanswered(facts)),
                    Phase::Read(round) => Next::Ask(round.unanswered(facts)),
                    Phase::Forwarded(_) => Next::Wait,
                }
            };
            let id = facts.id;
            self.go_on(id, next, around, env)?;
        }
        Ok(())
    }

    /// The node stops at once: whatever is in flight ends with what is known of it.
    pub fn abandon(&mut self, around: &mut Surroundings<'_>, env: &mut impl Env) {
        let ids: Vec<OpId> = self.operations.values().map(|op| op.facts.id).collect();
        for id in ids {
            let Some(operation) = self.operations.get(&id.seq) else {
                continue;
            };
            sometimes!(env, RequestAbandoned);
            let reply = timed_out(&operation.phase, &operation.facts);
            self.end(id, reply, around, env);
        }
    }

    /// Checks a request and fixes what will not change while it is in flight.
    fn admit(
        &mut self,
        request: Request,
        around: &Surroundings<'_>,
        now: Mono,
    ) -> Result<Facts, Reply> {
        check(&request)?;
        if self.stopping {
            return Err(unavailable("the node is stopping; ask another"));
        }
        let Some((layout, reference)) = around.layout else {
            return Err(unavailable(
                "the cluster has no live layout yet; see /ready for what is missing",
            ));
        };
        let Some(keyspace) = layout.keyspace(&request.keyspace) else {
            let reason = format!("there is no keyspace {:?}", request.keyspace);
            return Err(Reply::BadRequest { reason });
        };
        if self.operations.len() >= REQUESTS_IN_FLIGHT_MAX {
            return Err(overloaded("too many requests in flight on this node"));
        }
        if request.named && !self.attempts.has_room() {
            return Err(overloaded(
                "too many named requests are remembered; try again in a minute",
            ));
        }
        self.sequence += 1;
        let key = KeyRef { keyspace: keyspace.id, key: request.key.clone() };
        let partition = layout.partition(keyspace::token(key.keyspace, &key.key));
        let deadline_ms = request.deadline_ms.unwrap_or(self.patience.deadline_ms);
        let facts = Facts {
            id: OpId { boot: self.boot, seq: self.sequence },
            level: request.level.unwrap_or(keyspace.level),
            policy: keyspace.policy,
            quorums: layout.quorums(),
            layout: reference,
            primaries: Primaries::new(layout.primaries(partition)),
            partition,
            key,
            request,
            started: now,
            deadline: now.plus_ms(deadline_ms.clamp(1, DEADLINE_MS_MAX)),
        };
        let alive = facts.primaries.nodes().iter();
        let alive = alive.filter(|&&node| around.members.is_alive(node, now)).count();
        let needed = match facts.request.action {
            Action::Get => facts.read_needs().max(facts.write_needs()),
            Action::Put { .. } | Action::Delete { .. } => facts.write_needs(),
        };
        if alive < needed {
            return Err(unavailable(&format!(
                "{alive} of the key's replicas are up, {needed} are needed"
            )));
        }
        let writes = !matches!(facts.request.action, Action::Get);
        if writes && facts.level == Level::One {
            check_clock(around.members.clock_ahead_ms(now))?;
        }
        Ok(facts)
    }

    fn forward(
        &mut self,
        asker: Asker,
        facts: Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) {
        let now = env.mono();
        let mut up =
            facts.primaries.nodes().iter().filter(|&&node| around.members.is_alive(node, now));
        let first = up.next();
        let first = if buggify!(env, ForwardToTheLast) { up.next_back().or(first) } else { first };
        let (Asker::Client(_), Some(&to)) = (asker, first) else {
            let reply = unavailable("no primary of the key can be reached");
            around.counters.count(&reply);
            return answer(asker, reply, around, env);
        };
        sometimes!(env, PutPassedOn);
        around.counters.forwards += 1;
        let mut request = facts.request.clone();
        request.deadline_ms = Some(facts.deadline.ms_since(now).max(1));
        around.out.push_back((to, Message::Forward { op: facts.id, request }));
        let (timer, phase) = (facts.deadline, Phase::Forwarded(to));
        self.insert(Operation { facts, askers: [asker].into_iter().collect(), timer, phase });
    }

    fn earlier_attempt(&mut self, facts: &Facts, asker: Asker, named: bool) -> Earlier {
        if !named {
            return Earlier::None;
        }
        match self.attempts.get(facts.request.id) {
            Some(Attempt::InFlight(op)) => {
                let operation = self.operations.get_mut(&op.seq);
                let operation = operation.expect("an attempt in flight has its operation");
                if operation.askers.len() >= ASKERS_MAX {
                    return Earlier::Known(overloaded("too many attempts of one request"));
                }
                operation.askers.push(asker);
                Earlier::Joined
            }
            Some(Attempt::Stored(reply)) => Earlier::Known(reply.clone()),
            Some(Attempt::Issued) => Earlier::Search,
            Some(Attempt::NoneIssued) => Earlier::None,
            None if facts.request.attempt <= 1 => Earlier::None,
            None => Earlier::Search,
        }
    }

    fn insert(&mut self, operation: Operation) {
        self.timers.insert((operation.timer, operation.facts.id.seq));
        self.operations.insert(operation.facts.id.seq, operation);
    }

    /// Does what a round asks for, until it waits or ends.
    fn go_on(
        &mut self,
        id: OpId,
        next: Next,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let mut next = next;
        loop {
            let Some(operation) = self.operations.get_mut(&id.seq) else {
                return Ok(());
            };
            let Operation { facts, phase, .. } = operation;
            match next {
                Next::Wait => return Ok(()),
                Next::Ask(asks) => {
                    let nodes = facts.primaries.nodes();
                    let asks = asks.into_iter().map(|(at, message)| (nodes[at], message));
                    let asks: SmallVec<[(NodeId, Message); 4]> = asks.collect();
                    if buggify!(env, QuestionAskedTwice) {
                        around.out.extend(asks.iter().cloned());
                    }
                    around.out.extend(asks);
                    return Ok(());
                }
                Next::End(reply) => {
                    self.end(id, reply, around, env);
                    return Ok(());
                }
                Next::Issue => {
                    let Phase::Put(round) = phase else {
                        return Ok(());
                    };
                    match round.issue(facts, self.me, around.replica, around.held, env) {
                        Ok(then) => next = then,
                        Err(Trouble::Fatal(error)) => {
                            // What the disk has of the write may be there after the next start.
                            let reply = unknown(facts);
                            self.end(id, reply, around, env);
                            return Err(error);
                        }
                        Err(Trouble::Cold(ticket)) => {
                            around.cold.push((facts.key.clone(), ticket, id));
                            return Ok(());
                        }
                        Err(Trouble::Failed(error)) => next = Next::End(refused(&error)),
                    }
                }
            }
        }
    }

    fn end(&mut self, id: OpId, reply: Reply, around: &mut Surroundings<'_>, env: &mut impl Env) {
        let Some(operation) = self.operations.remove(&id.seq) else {
            return;
        };
        let Operation { facts, askers, timer, phase } = operation;
        self.timers.remove(&(timer, id.seq));
        let now = env.mono();
        let micros = now.0.saturating_sub(facts.started.0) / 1_000;
        let writes = !matches!(facts.request.action, Action::Get);
        around.counters.count(&reply);
        match &phase {
            Phase::Read(round) => {
                meet_read(&reply, round.repaired(), writes, env);
                around.counters.gets += 1;
                around.counters.get_us += micros;
                around.counters.read_repairs += u64::from(round.repaired());
            }
            Phase::Put(_) => {
                around.counters.puts += 1;
                around.counters.put_us += micros;
            }
            Phase::Forwarded(_) => {
                let refused = matches!(reply, Reply::Unavailable { .. });
                sometimes!(env, ForwardAnsweredUnavailable, refused);
            }
        }
        if writes && facts.request.named && !matches!(phase, Phase::Forwarded(_)) {
            let outcome = match (&reply, &phase) {
                (Reply::Stored { .. }, _) => Attempt::Stored(reply.clone()),
                (_, Phase::Put(round)) if !round.issued() => Attempt::NoneIssued,
                _ => Attempt::Issued,
            };
            self.attempts.end(facts.request.id, outcome, now);
        }
        for asker in askers {
            answer(asker, reply.clone(), around, env);
        }
    }
}

/// What is known of earlier attempts of a request.
enum Earlier {
    /// Nothing speaks against issuing a dot.
    None,
    /// One is in flight, and this one waits for it.
    Joined,
    /// The outcome.
    Known(Reply),
    /// One may have issued a dot: look for it.
    Search,
}

fn heard(phase: &mut Phase, at: usize, message: Message, facts: &Facts) -> Next {
    match (phase, message) {
        (Phase::Put(round), Message::QueryReply { clock, highest, .. }) => {
            round.on_query_reply(at, &clock, highest)
        }
        (Phase::Put(round), Message::MergeAck { .. }) => round.on_merge_ack(at),
        (Phase::Put(round), Message::Failed { .. } | Message::StaleLayout { .. }) => {
            round.on_failed(at, facts)
        }
        (Phase::Read(round), Message::ReadReply { state, .. }) => round.on_state(at, state, facts),
        (Phase::Read(round), Message::DigestReply { digest, .. }) => {
            round.on_digest(at, digest, facts)
        }
        (Phase::Read(round), Message::MergeAck { .. }) => round.on_merge_ack(at, facts),
        (Phase::Read(round), Message::Failed { .. } | Message::StaleLayout { .. }) => {
            round.on_failed(at, facts)
        }
        _ => Next::Wait,
    }
}

/// The operation that a message answers; `None` for what is no answer.
fn answered(message: &Message) -> Option<OpId> {
    match message {
        Message::QueryReply { op, .. }
        | Message::ReadReply { op, .. }
        | Message::DigestReply { op, .. }
        | Message::MergeAck { op }
        | Message::Failed { op }
        | Message::StaleLayout { op }
        | Message::ForwardReply { op, .. } => Some(*op),
        _ => None,
    }
}

/// Tells the simulator in which state an operation ran out of time.
fn meet_timeout(phase: &Phase, env: &impl Env) {
    sometimes!(env, ForwardTimedOut, matches!(phase, Phase::Forwarded(_)));
    sometimes!(env, ReadTimedOut, matches!(phase, Phase::Read(_)));
    if let Phase::Put(round) = phase {
        sometimes!(env, PutTimedOutWithADot, round.issued());
        sometimes!(env, PutTimedOutWithoutADot, !round.issued());
    }
}

/// Tells the simulator how a read, or the search for a dot, ended.
fn meet_read(reply: &Reply, repaired: bool, searched: bool, env: &impl Env) {
    sometimes!(env, ReadRepaired, repaired);
    sometimes!(env, SearchedDotFound, matches!(reply, Reply::Stored { .. }));
    sometimes!(env, SearchedDotNotFound, searched && matches!(reply, Reply::Indeterminate { .. }));
    sometimes!(env, ReadFoundNothing, matches!(reply, Reply::NotFound { .. }));
    if let Reply::Found { siblings, .. } = reply {
        sometimes!(env, ReadSawSiblings, siblings.len() > 1);
    }
}

fn timed_out(phase: &Phase, facts: &Facts) -> Reply {
    match phase {
        Phase::Put(round) => round.timed_out(facts),
        Phase::Read(round) => round.timed_out(facts),
        Phase::Forwarded(_) => unknown(facts),
    }
}

/// The outcome of a write that may have happened, although nobody has said so.
fn unknown(facts: &Facts) -> Reply {
    let needed = u8::try_from(facts.write_needs()).unwrap_or(u8::MAX);
    Reply::Indeterminate { acks: 0, needed }
}

/// Positions of the primaries, the best to ask first: this node, then those that are up, then the rest.
fn order(facts: &Facts, me: NodeId, members: &Membership, now: Mono) -> Vec<usize> {
    let nodes = facts.primaries.nodes();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&at| (nodes[at] != me, !members.is_alive(nodes[at], now)));
    order
}

fn check(request: &Request) -> Result<(), Reply> {
    let bad = |reason: String| Err(Reply::BadRequest { reason });
    if request.key.is_empty() || request.key.len() > KEY_BYTES_MAX {
        return bad(format!("a key has 1 to {KEY_BYTES_MAX} bytes, not {}", request.key.len()));
    }
    if let Action::Put { value, content_type, .. } = &request.action {
        if value.len() > VALUE_BYTES_MAX {
            return bad(format!(
                "a value has at most {VALUE_BYTES_MAX} bytes, not {}",
                value.len()
            ));
        }
        if content_type.len() > CONTENT_TYPE_BYTES_MAX {
            return bad(format!("a content type has at most {CONTENT_TYPE_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// At level `one` nobody is asked for the key's highest HLC, so a clock that is far off would order writes wrongly
/// for good.
fn check_clock(ahead_ms: i64) -> Result<(), Reply> {
    if ahead_ms.unsigned_abs() <= DRIFT_MS_MAX {
        return Ok(());
    }
    Err(unavailable(&format!(
        "this node's clock is {ahead_ms} ms ahead of its peers': set it right, or write at quorum"
    )))
}

fn unavailable(reason: &str) -> Reply {
    Reply::Unavailable { reason: reason.to_owned() }
}

fn overloaded(reason: &str) -> Reply {
    Reply::Overloaded { reason: reason.to_owned() }
}

/// The local copy refused to issue: nothing has happened.
fn refused(error: &Error) -> Reply {
    match error {
        Error::Full(what) => overloaded(what),
        error => unavailable(&format!("this replica cannot read its record: {error}")),
    }
}

fn answer(asker: Asker, reply: Reply, around: &mut Surroundings<'_>, env: &mut impl Env) {
    match asker {
        Asker::Client(tag) => env.reply(tag, reply),
        Asker::Peer(node, op) => around.out.push_back((node, Message::ForwardReply { op, reply })),
    }
}
