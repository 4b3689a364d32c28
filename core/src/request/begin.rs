//! How a request begins on its coordinator, or is passed on, or is another attempt of one that has begun.
//!
//! A named write is looked up before anything may refuse it, so that a refusal is true of the request and not only of
//! the attempt at hand.

use crate::buggify;
use crate::config::{ASKERS_MAX, DEADLINE_MS_MAX};
use crate::env::Mono;
use crate::error::Result;
use crate::id::{NodeId, OpId};
use crate::member::membership::Membership;
use crate::quorum::{Needs, Primaries};
use crate::request::admission;
use crate::request::answers::{Surroundings, answer, refuse, turn_away};
use crate::request::attempts::{Attempt, Earlier};
use crate::request::coordinator::Coordinator;
use crate::request::fallback::{self, Fallback};
use crate::request::fingerprint::Fingerprint;
use crate::request::get::{Aim, ReadRound};
use crate::request::operation::{Asker, Facts, Next};
use crate::request::operations::Operation;
use crate::request::passing::Passing;
use crate::request::phase::Phase;
use crate::request::put::{self, PutRound};
use crate::sometimes;
use crate::step::Env;
use crate::version::hlc::Hlc;
use crate::wire::client::{Reply, Request};
use crate::wire::forward::Fixed;
use crate::wire::key::KeyRef;

impl Coordinator {
    /// Somebody asks.
    pub fn begin(
        &mut self,
        asker: Asker,
        (request, fixed): (Request, Option<Fixed>),
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let now = (env.mono(), around.replica.time(env));
        let mut facts = match self.facts(&request, fixed, around, now) {
            Ok(place) => place(request),
            Err(reply) => {
                refuse(asker, &request, reply, around, env);
                return Ok(());
            }
        };
        if buggify!(env, DeadlineClose) {
            facts.deadline = env.mono().plus_ms(facts.patience_ms() / 10 + 1);
        }
        let is_client = matches!(asker, Asker::Client(_));
        if is_client
            && fallback::reaches_nobody(&facts, around.view, env.mono())
            && fallback::may_be(self.me, &facts, around.view)
        {
            return self.begin_here(asker, facts, around, env);
        }
        let coordinates = !facts.request.writes() || self.issues_for(&facts, around);
        if coordinates && facts.request.writes() && facts.request.named {
            return self.begin_named(asker, facts, Role::Primary, around, env);
        }
        if let Err(reply) = self.admit(&facts, Role::Primary, around, env) {
            refuse(asker, &facts.request, reply, around, env);
            return Ok(());
        }
        match coordinates {
            true if facts.request.writes() => self.open_put(asker, facts, around, env),
            true => self.open_read(asker, facts, Aim::State, around, env),
            false => self.pass_on(asker, facts, around, env),
        }
    }

    /// A write that was to be passed on, and that nobody has got: this node takes it on itself.
    pub(super) fn fall_back(
        &mut self,
        id: OpId,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(Operation { facts, askers, .. }) = self.operations.remove(id.seq) else {
            return Ok(());
        };
        // A peer's request is not passed on, and so has exactly one client.
        let Some(asker) = askers.first().map(|waiting| waiting.asker) else {
            return Ok(());
        };
        sometimes!(env, FallbackAfterAll);
        self.begin_here(asker, facts, around, env)
    }

    /// Begins a request for which this node is a fallback.
    fn begin_here(
        &mut self,
        asker: Asker,
        facts: Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        if facts.request.writes() && facts.request.named {
            return self.begin_named(asker, facts, Role::Fallback, around, env);
        }
        match self.admit(&facts, Role::Fallback, around, env) {
            Ok(()) => self.open_here(asker, facts, around, env),
            Err(reply) => {
                refuse(asker, &facts.request, reply, around, env);
                Ok(())
            }
        }
    }

    fn open_here(
        &mut self,
        asker: Asker,
        facts: Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let phase = Phase::Fallback(Fallback::new(self.me));
        self.open(asker, facts, (phase, Next::Issue, self.patience.resend_ms), around, env)
    }

    /// Begins a write that its client has named and that is coordinated here.
    fn begin_named(
        &mut self,
        asker: Asker,
        facts: Facts,
        role: Role,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let (id, is_first) = (facts.request.id, facts.request.attempt <= 1);
        let fingerprint = Fingerprint::of(&facts.request, facts.level);
        let earlier = self.attempts.earlier(id, fingerprint);
        let sought = match earlier {
            Earlier::Another => {
                sometimes!(env, AttemptOfAnother);
                answer(asker, names_another(), around, env);
                return Ok(());
            }
            Earlier::Same(Attempt::InFlight(op)) => {
                self.join(op, asker, &facts, around, env);
                return Ok(());
            }
            Earlier::Same(Attempt::Stored(written)) if !is_first => {
                sometimes!(env, AttemptKnownAsStored);
                let stored = put::stored(&facts.request, written);
                let stored = if role == Role::Fallback { stored.by_a_fallback() } else { stored };
                answer(asker, stored, around, env);
                return Ok(());
            }
            Earlier::Same(Attempt::Issued(written)) if !is_first => Some(written),
            Earlier::Nothing if !is_first => Some(None),
            _ => None,
        };
        if role == Role::Fallback && sought.is_some() {
            // Who could tell whether an earlier attempt has written is not reached.
            around.counters.count(&facts.unknown());
            answer(asker, facts.unknown(), around, env);
            return Ok(());
        }
        let source = source(asker, &facts.request);
        let admitted = self.admit(&facts, role, around, env);
        let admitted = admitted.and_then(|()| self.remember(&facts, source, env));
        if let Err(refusal) = admitted {
            let is_new = matches!(earlier, Earlier::Nothing | Earlier::Same(Attempt::NoneIssued));
            let is_client = matches!(asker, Asker::Client(_));
            if is_first && is_new && is_client && self.attempts.has_room(id, source) {
                // Nobody else takes it on: a later attempt may write, because it is known here that none has.
                let until = facts.started.plus_ms(2 * facts.patience_ms());
                self.attempts.begin(id, fingerprint, facts.id, source);
                self.attempts.end(id, Attempt::NoneIssued, until);
            } else if is_first {
                // Another primary may take this new write on.
                self.attempts.renounce(id);
            }
            match earlier {
                Earlier::Same(Attempt::NoneIssued) => turn_away(asker, refusal, around, env),
                _ => refuse(asker, &facts.request, refusal, around, env),
            }
            return Ok(());
        }
        self.attempts.begin(id, fingerprint, facts.id, source);
        let anew = earlier == Earlier::Same(Attempt::NoneIssued);
        sometimes!(env, AttemptBegunAnew, anew);
        sometimes!(env, AttemptSearched, sought.is_some());
        match sought {
            _ if role == Role::Fallback => self.open_here(asker, facts, around, env),
            Some(written) => self.open_read(asker, facts, Aim::Write(written), around, env),
            None if buggify!(env, FirstAttemptSearched) => {
                self.open_read(asker, facts, Aim::Write(None), around, env)
            }
            None => self.open_put(asker, facts, around, env),
        }
    }

    /// One more waits for what is in flight.
    fn join(
        &mut self,
        op: OpId,
        asker: Asker,
        facts: &Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) {
        let operation = self.operations.get_mut(op.seq).expect("an attempt in flight has one");
        if operation.askers.len() >= ASKERS_MAX {
            around.counters.count(&facts.unknown());
            return answer(asker, facts.unknown(), around, env);
        }
        sometimes!(env, AttemptJoined);
        self.operations.join(op.seq, asker, facts.deadline);
    }

    /// Fixes what will not change while a request is in flight: a function from the request to that.
    fn facts(
        &mut self,
        request: &Request,
        fixed: Option<Fixed>,
        around: &Surroundings<'_>,
        (started, reading): (Mono, Hlc),
    ) -> Result<impl FnOnce(Request) -> Facts + use<>, Reply> {
        let (layout, keyspace) = admission::check(request, around.view.newest())?;
        let fixed = fixed.filter(|fixed| *fixed != Fixed::default());
        if fixed.is_some_and(|fixed| fixed.keyspace != keyspace.id) {
            return Err(Reply::unavailable(
                "the keyspace was made anew while the request was on its way",
            ));
        }
        let at = fixed.map_or(reading, |fixed| fixed.at);
        self.sequence += 1;
        let id = OpId { life: self.life, seq: self.sequence };
        let key = KeyRef::new(keyspace.id, request.key.clone());
        let unit = layout.unit(key.keyspace, key.token()).expect("the keyspace is of this layout");
        let deadline_ms = request.deadline_ms.unwrap_or(self.patience.deadline_ms);
        let deadline = started.plus_ms(deadline_ms.clamp(1, DEADLINE_MS_MAX));
        let (level, policy) = (request.level.unwrap_or(keyspace.level), keyspace.policy);
        let usual_ttl_ms = Some(keyspace.ttl_ms).filter(|&ttl_ms| ttl_ms > 0);
        let primaries = Primaries::under(around.view.layouts, unit);
        let needs = Needs::at(level, &primaries, around.view.reads_at);
        let layouts = around.view.layout_set.clone();
        Ok(move |request: Request| Facts {
            id,
            request: request.staying(usual_ttl_ms),
            key,
            unit,
            policy,
            level,
            needs,
            at,
            layouts,
            primaries,
            started,
            deadline,
        })
    }

    /// Whether a request may begin here and now.
    fn admit(
        &self,
        facts: &Facts,
        role: Role,
        around: &Surroundings<'_>,
        env: &impl Env,
    ) -> Result<(), Reply> {
        if buggify!(env, AdmissionRefused) {
            return Err(Reply::overloaded("too many requests in flight, says the simulator"));
        }
        let gauge = self.operations.gauge();
        admission::room(self.operations.len(), gauge, self.stopping, around.view.barred)?;
        let (members, now) = (around.view.members, env.mono());
        // Whoever passes a write on does not stamp it.
        let stamps =
            facts.request.writes() && (role == Role::Fallback || self.issues_for(facts, around));
        if role == Role::Primary {
            admission::prospects(facts, members, now)?;
        }
        if stamps { admission::stamping(facts, members, around.replica, now) } else { Ok(()) }
    }

    /// Whether this node coordinates writes of the key: it is a primary, and has all of the key's unit.
    fn issues_for(&self, facts: &Facts, around: &Surroundings<'_>) -> bool {
        facts.primaries.has(self.me) && around.units.counts(facts.unit)
    }

    /// Whether there is room to remember a named write.
    fn remember(&self, facts: &Facts, source: u64, env: &impl Env) -> Result<(), Reply> {
        if self.attempts.has_room(facts.request.id, source) && !buggify!(env, AttemptsFull) {
            return Ok(());
        }
        Err(Reply::overloaded(
            "too many named requests of this client are remembered: each is for twice its deadline",
        ))
    }

    /// Begins the query round of a write.
    fn open_put(
        &mut self,
        asker: Asker,
        facts: Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let mut round = PutRound::new(&facts);
        let next = round.begin(&facts);
        self.open(asker, facts, (Phase::Put(round), next, self.patience.resend_ms), around, env)
    }

    /// Begins a read, or the search for an earlier attempt's dot.
    fn open_read(
        &mut self,
        asker: Asker,
        facts: Facts,
        aim: Aim,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let (is_whole, now) = (around.units.counts(facts.unit), env.mono());
        let mut order = order(&facts, (self.me, is_whole), around.view.members, now);
        if buggify!(env, RemoteAskedFirst) {
            order.reverse();
        }
        let mut round = ReadRound::new(aim, &facts);
        let next = round.begin(&facts, &order);
        let phase = Phase::Read(Box::new(round));
        self.hedging.on_read();
        let patience_ms = self.hedging.after_ms().min(self.patience.resend_ms);
        self.open(asker, facts, (phase, next, patience_ms), around, env)
    }

    /// Passes a write on to a primary.
    fn pass_on(
        &mut self,
        asker: Asker,
        facts: Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let me = facts.primaries.position(self.me);
        if let Asker::Peer(..) = asker {
            let refusal = Reply::unavailable(match me {
                Some(_) => "a replica of the key is still taking its partition from the others",
                None => "this node is no primary of the key",
            });
            refuse(asker, &facts.request, refusal, around, env);
            return Ok(());
        }
        sometimes!(env, PutPassedOn);
        sometimes!(env, PutPassedOnByAnOwner, me.is_some());
        around.counters.forwards += 1;
        let phase = Phase::Forwarded(me.map_or_else(Passing::default, Passing::past));
        self.open(asker, facts, (phase, Next::PassOn, self.patience.resend_ms), around, env)
    }

    fn open(
        &mut self,
        asker: Asker,
        facts: Facts,
        (phase, next, patience_ms): (Phase, Next, u64),
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let patience_ms = if buggify!(env, HedgeAtOnce) { 0 } else { patience_ms };
        let (id, again) = (facts.id, env.mono().plus_ms(patience_ms));
        self.operations.insert(Operation::new(asker, facts, phase, again));
        self.go_on(id, next, around, env)
    }
}

/// As what this node serves a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// As one that may be a primary of its key, and reaches some.
    Primary,
    /// As one that is none, and reaches none.
    Fallback,
}

/// Who asks: a client of this node, or a client of a node that passes its request on.
fn source(asker: Asker, request: &Request) -> u64 {
    match asker {
        Asker::Client(_) => request.source,
        Asker::Peer(node, _) => request.source ^ (node.0 >> 64) as u64 ^ node.0 as u64,
    }
}

fn names_another() -> Reply {
    let reason = "the request id already names another request: one with another key, action, value, content type, ttl, \
                  context or level; a new request needs a new id"
        .to_owned();
    Reply::BadRequest { reason }
}

/// Positions of the primaries, the best to ask first: this node, then those that have spoken just now, those that are up, and the
/// rest. When this node does not have all of the unit it is asked last.
pub(super) fn order(
    facts: &Facts,
    (me, is_whole): (NodeId, bool),
    members: &Membership,
    now: Mono,
) -> Vec<usize> {
    let nodes = facts.primaries.nodes();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    let rank = |at: usize| match nodes[at] == me {
        true => (!is_whole, !is_whole, !is_whole),
        false => {
            let node = nodes[at];
            (true, !members.is_alive(node, now), !members.is_prompt(node, now))
        }
    };
    order.sort_by_key(|&at| (rank(at), nodes[at] == me));
    order
}
