//! All requests that this node coordinates, and those it has passed on.
//!
//! Invariants: an operation ends exactly once, with an answer to everybody who asked; everybody is answered by his own
//! deadline; a question that may be lost is asked again (all questions are idempotent), each time after a longer pause.
//! How they begin is in `begin`.

use smallvec::SmallVec;

use crate::budget::{Gauge, Shares};
use crate::buggify;
use crate::config::NodeConfig;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{LayoutVersion, Life, NodeId, OpId};
use crate::layout::live::{LayoutSet, is_owner};
use crate::member::view::View;
use crate::replica::issue::is_clock_full;
use crate::replica::read::Trouble;
use crate::request::answers::{Surroundings, answer};
use crate::request::asking::{again, is_overtaken, send_on};
use crate::request::attempts::Attempts;
use crate::request::fallback;
use crate::request::get::ReadRound;
use crate::request::hedging::Hedging;
use crate::request::operation::{Facts, Next, Patience};
use crate::request::operations::{Operation, Operations};
use crate::request::phase::{Phase, meet_read, meet_timeout};
use crate::request::repairs::Repairs;
use crate::sometimes;
use crate::step::Env;
use crate::wire::client::Reply;
use crate::wire::forward::ForwardAnswer;
use crate::wire::key::Answer;
use crate::wire::message::Message;
use crate::wire::state::weight;

/// The requests in flight.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) me: NodeId,
    pub(super) life: Life,
    pub(super) sequence: u64,
    pub(super) patience: Patience,
    pub(super) operations: Operations,
    pub(super) attempts: Attempts,
    pub(super) hedging: Hedging,
    pub(super) repairs: Repairs,
    pub(super) stopping: bool,
}

impl Coordinator {
    /// Nothing in flight.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Coordinator {
        Coordinator {
            me: config.id,
            life: config.life,
            sequence: 0,
            patience: Patience::new(config),
            operations: Operations::new(Shares::of(config.memory_bytes_max).in_flight),
            attempts: Attempts::default(),
            hedging: Hedging::new(config.hedge_ms),
            repairs: Repairs::new(config.repair_bytes_per_s),
            stopping: false,
        }
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// How many bytes the requests in flight work with.
    #[must_use]
    pub const fn gauge(&self) -> Gauge {
        self.operations.gauge()
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Of the requests in flight: the oldest of the newest layouts that they began under, and when the first began.
    #[must_use]
    pub fn oldest(&self) -> (Option<LayoutVersion>, Option<Mono>) {
        (self.operations.oldest_layout(), self.operations.oldest_began())
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.operations.next_deadline()
    }

    /// Takes no more requests.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// A replica, perhaps this node itself, answers a question of an operation.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (id, layouts, answer): (OpId, &LayoutSet, Answer),
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        if id.life != self.life {
            return Ok(());
        }
        let answer = match answer {
            // As if the replica had refused: another one, or another time, may do.
            Answer::State { state, .. } if !self.operations.charge(id.seq, weight(&state)) => {
                Answer::Failed
            }
            answer => answer,
        };
        let Some(operation) = self.operations.get_mut(id.seq) else {
            sometimes!(env, StaleReplyIgnored);
            return Ok(());
        };
        // What a replica says that has dropped one of the operation's layouts since counts in none.
        // What is durable here is durable under whichever layouts the operation has moved on to.
        let is_own = from == self.me && matches!(answer, Answer::MergeAck);
        let is_under = is_own || layouts.answers_for(&operation.facts.layouts);
        let answer = if is_under { answer } else { Answer::StaleLayout };
        if matches!(answer, Answer::Lacks) {
            self.repairs.not_come((operation.facts.key.token(), from));
        }
        let next = operation.phase.on_answer(from, answer, &operation.facts);
        self.go_on(id, next, around, env)
    }

    /// A primary says what has become of a request that was passed on to it.
    pub fn on_forward_answer(
        &mut self,
        from: NodeId,
        (id, answer): (OpId, ForwardAnswer),
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        if id.life != self.life {
            return Ok(());
        }
        let Some(operation) = self.operations.get_mut(id.seq) else {
            return Ok(());
        };
        let next = operation.phase.on_forward_answer(from, answer);
        sometimes!(env, ForwardFenced, matches!(next, Next::PassOn));
        self.go_on(id, next, around, env)
    }

    /// A question or a request that is passed on has not left this node.
    pub fn on_not_sent(
        &mut self,
        to: NodeId,
        id: OpId,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(operation) = self.operations.get_mut(id.seq).filter(|_| id.life == self.life)
        else {
            return Ok(());
        };
        self.repairs.not_come((operation.facts.key.token(), to));
        // A link may come any moment: no longer pauses until it is there.
        operation.repeats = 0;
        let next = operation.phase.on_not_sent(to, &operation.facts);
        sometimes!(env, ForwardNotSent, matches!(next, Next::PassOn));
        self.go_on(id, next, around, env)
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        self.operations.invariants();
        self.attempts.invariants();
        self.repairs.invariants();
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
        self.end(
            id,
            Reply::unavailable("this replica cannot read its record of the key"),
            around,
            env,
        );
    }

    /// Ends what is late, asks again where nobody answered.
    pub fn tick(&mut self, around: &mut Surroundings<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        self.attempts.forget(now);
        while let Some(operation) = self.operations.due(now) {
            let (id, deadline) = (operation.facts.id, operation.facts.deadline);
            if now >= deadline {
                meet_timeout(&operation.phase, env);
                let reply = operation.phase.timed_out(&operation.facts);
                self.end(id, reply, around, env);
                continue;
            }
            let overdue = operation.take_overdue(now);
            sometimes!(env, AskerLeftAnother, !overdue.is_empty());
            for waiting in overdue {
                let reply = operation.phase.still_running(&operation.facts);
                around.counters.count(&reply);
                answer(waiting.asker, reply, around, env);
            }
            if is_overtaken(operation, around) {
                self.read_anew(id.seq, around, env)?;
                continue;
            }
            let next = if now >= operation.again {
                again(operation, (&mut self.hedging, self.patience.resend_ms), around, env)
            } else {
                Next::Wait
            };
            self.operations.set_timer(id.seq);
            self.go_on(id, next, around, env)?;
        }
        Ok(())
    }

    /// The node stops at once: whatever is in flight ends with what is known of it.
    pub fn abandon(&mut self, around: &mut Surroundings<'_>, env: &mut impl Env) {
        for id in self.operations.ids() {
            let Some(operation) = self.operations.get_mut(id.seq) else {
                continue;
            };
            sometimes!(env, RequestAbandoned);
            let reply = operation.phase.timed_out(&operation.facts);
            self.end(id, reply, around, env);
        }
    }

    /// Does what a round asks for, until it waits or ends.
    pub(super) fn go_on(
        &mut self,
        id: OpId,
        next: Next,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let mut next = next;
        loop {
            let Some(operation) = self.operations.get_mut(id.seq) else {
                return Ok(());
            };
            let Operation { facts, phase, .. } = operation;
            next = match next {
                Next::Wait => return Ok(()),
                Next::Ask(mut asks) => {
                    if matches!(phase, Phase::Read(_)) {
                        self.repairs.spare(facts, &mut asks, env);
                    }
                    let nodes = facts.primaries.nodes();
                    let asks =
                        asks.into_iter().map(|(at, question)| (nodes[at], facts.ask(question)));
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
                Next::PassOn => match send_on(facts, phase, around, env) {
                    Ok(()) => return Ok(()),
                    Err(_)
                        if is_for_a_fallback(self.me, (facts, phase), around.view, env.mono()) =>
                    {
                        return self.fall_back(id, around, env);
                    }
                    Err(refusal) => Next::End(facts.request.refused(refusal)),
                },
                Next::Issue => match self.issue(id, around, env)? {
                    Some(then) => then,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Issues the dot, or does what a fallback does. `None`: it has ended, or waits for its record.
    fn issue(
        &mut self,
        id: OpId,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<Option<Next>> {
        let me = self.me;
        let Some(Operation { facts, phase, .. }) = self.operations.get_mut(id.seq) else {
            return Ok(None);
        };
        // It began before the key was given to others.
        let is_its = match phase {
            Phase::Put(_) => is_owner(around.view.layouts, me, facts.unit),
            Phase::Fallback(_) => fallback::may_be(me, facts, around.view),
            Phase::Read(_) | Phase::Forwarded(_) => return Ok(None),
        };
        if !is_its {
            sometimes!(env, OwnedNoMoreAtTheIssue);
            return Ok(Some(Next::End(Reply::unavailable(OWNERS_CHANGED.to_owned()))));
        }
        let issued = match phase {
            Phase::Put(round) => round.issue(facts, me, around.replica, around.held, env),
            Phase::Fallback(fallback) => fallback.act(facts, around, env),
            Phase::Read(_) | Phase::Forwarded(_) => return Ok(None),
        };
        match issued {
            Ok(then) => Ok(Some(then)),
            Err(Trouble::Fatal(error)) => {
                // What the disk has of the write may be there after the next start.
                let reply = facts.unknown();
                self.end(id, reply, around, env);
                Err(error)
            }
            Err(Trouble::Cold(ticket)) => {
                around.cold.push((facts.key.clone(), ticket, id));
                Ok(None)
            }
            Err(Trouble::Failed(Error::Corrupt { .. } | Error::Disk(_)))
                if matches!(phase, Phase::Put(_)) =>
            {
                around.unreadable.push((facts.key.clone(), id));
                Ok(None)
            }
            Err(Trouble::Failed(error)) => Ok(Some(Next::End(not_issued(&error, facts, around)))),
        }
    }

    /// How long a read took tells how long the next ones wait. One that found replicas different took longer for that.
    fn learn(&mut self, round: &ReadRound, facts: &Facts, reply: &Reply, env: &impl Env) {
        let is_answered = matches!(reply, Reply::Found { .. } | Reply::NotFound { .. });
        let me = facts.primaries.position(self.me);
        if is_answered && !round.repaired() && round.asked_others(me) {
            self.hedging.on_answered(env.mono().ms_since(facts.started));
        }
    }

    fn end(&mut self, id: OpId, reply: Reply, around: &mut Surroundings<'_>, env: &mut impl Env) {
        let Some(Operation { facts, askers, phase, .. }) = self.operations.remove(id.seq) else {
            return;
        };
        let now = env.mono();
        let micros = now.0.saturating_sub(facts.started.0) / 1_000;
        around.counters.count(&reply);
        match &phase {
            Phase::Read(round) => {
                meet_read(&reply, round.repaired(), facts.request.writes(), env);
                around.counters.gets += 1;
                around.counters.get_us += micros;
                around.counters.read_repairs += u64::from(round.repaired());
                self.learn(round, &facts, &reply, env);
                self.repairs.bring(round, &facts, around, env);
            }
            Phase::Put(round) => {
                if let Some(owed) = round.owes(&facts) {
                    around.counters.owed_copies += owed.silent.len() as u64;
                    let members = around.view.members;
                    around.debts.owe(id.seq, owed, |node| members.is_alive(node, now), now);
                }
                around.counters.puts += 1;
                around.counters.put_us += micros;
            }
            Phase::Fallback(_) => match facts.request.writes() {
                true => {
                    (around.counters.puts, around.counters.put_us) =
                        (around.counters.puts + 1, around.counters.put_us + micros)
                }
                false => {
                    (around.counters.gets, around.counters.get_us) =
                        (around.counters.gets + 1, around.counters.get_us + micros)
                }
            },
            Phase::Forwarded(_) => {
                let refused = matches!(reply, Reply::Unavailable { .. });
                sometimes!(env, ForwardAnsweredUnavailable, refused);
            }
        }
        if facts.request.writes()
            && facts.request.named
            && let Some(outcome) = phase.outcome(&reply)
        {
            let until = now.plus_ms(2 * facts.patience_ms());
            self.attempts.end(facts.request.id, outcome, until);
        }
        for waiting in askers {
            answer(waiting.asker, reply.clone(), around, env);
        }
    }
}

/// Whether a write that nobody has got, of those it could have been passed on to, is one for this node itself.
fn is_for_a_fallback(
    me: NodeId,
    (facts, phase): (&Facts, &Phase),
    view: View<'_>,
    now: Mono,
) -> bool {
    matches!(phase, Phase::Forwarded(passing) if passing.is_unreached())
        && fallback::may_be(me, facts, view)
        && fallback::reaches_nobody(facts, view, now)
}

/// Why a node does not write what it began to write.
const OWNERS_CHANGED: &str =
    "the key was given to other nodes meanwhile; nothing was written, try again";

/// The local copy refused to issue: nothing has happened. A clock that is full is made shorter, if that can be.
fn not_issued(error: &Error, facts: &Facts, around: &mut Surroundings<'_>) -> Reply {
    let makes_room = is_clock_full(error)
        && is_owner(around.view.layouts, around.view.members.me().node, facts.unit);
    if makes_room {
        around.full.push((facts.key.clone(), facts.unit));
    }
    match error {
        Error::Full(what) if makes_room => Reply::overloaded(*what),
        Error::Full(what) => Reply::overloaded(*what).lasting(),
        Error::Busy(what) => Reply::overloaded(*what),
        error => Reply::unavailable(format!("this replica cannot read its record: {error}")),
    }
}
