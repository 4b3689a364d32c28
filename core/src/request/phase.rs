//! Where a request stands: in one of the two protocols, or with a primary that coordinates it.

use crate::id::NodeId;
use crate::request::attempts::{Attempt, Written};
use crate::request::fallback::Fallback;
use crate::request::get::ReadRound;
use crate::request::operation::{Facts, Next};
use crate::request::passing::Passing;
use crate::request::put::PutRound;
use crate::sometimes;
use crate::step::Env;
use crate::wire::client::Reply;
use crate::wire::forward::ForwardAnswer;
use crate::wire::key::Answer;

/// Where a request stands.
#[derive(Debug)]
pub enum Phase {
    /// A write is coordinated here.
    Put(PutRound),
    /// A read, or the search for an earlier attempt's dot.
    Read(Box<ReadRound>),
    /// Somebody else coordinates, or will.
    Forwarded(Passing),
    /// This node, which is no primary, answers because it reaches none.
    Fallback(Fallback),
}

impl Phase {
    /// A replica, perhaps this node itself, has answered a question about the key.
    pub fn on_answer(&mut self, from: NodeId, answer: Answer, facts: &Facts) -> Next {
        if let (Phase::Fallback(fallback), Answer::MergeAck) = (&*self, &answer) {
            return fallback.on_durable(from);
        }
        let Some(at) = facts.primaries.position(from) else {
            return Next::Wait;
        };
        match self {
            Phase::Fallback(_) => Next::Wait,
            Phase::Put(round) => match answer {
                Answer::Query { clock, highest, room } => {
                    round.on_query_reply(at, (&clock, highest), room)
                }
                Answer::MergeAck => round.on_merge_ack(at),
                Answer::Lacks => round.on_lacks(at),
                // Of a dot that is new it is not said: its time is above all that was purged, as far as its coordinator has heard.
                Answer::Failed
                | Answer::StaleLayout
                | Answer::NotCounted
                | Answer::Outdated { .. } => round.on_failed(at, facts),
                Answer::State { .. }
                | Answer::Digest { .. }
                | Answer::Confirmed { .. }
                | Answer::NotConfirmed { .. } => Next::Wait,
            },
            Phase::Read(round) => match answer {
                Answer::State { state, epoch } => round.on_state(at, (state, epoch), facts),
                Answer::Digest { digest } => round.on_digest(at, digest, facts),
                Answer::MergeAck => round.on_merge_ack(at, facts),
                Answer::Lacks => round.on_lacks(at),
                Answer::Failed | Answer::StaleLayout | Answer::NotCounted => {
                    round.on_failed(at, facts)
                }
                Answer::Outdated { epoch, .. } => round.on_outdated(epoch, facts),
                Answer::Query { .. } | Answer::Confirmed { .. } | Answer::NotConfirmed { .. } => {
                    Next::Wait
                }
            },
            Phase::Forwarded(passing) if passing.to().is_some() => Next::Wait,
            Phase::Forwarded(passing) => {
                passing.reach();
                match answer {
                    Answer::Query { .. } => {}
                    Answer::State { .. }
                    | Answer::Digest { .. }
                    | Answer::MergeAck
                    | Answer::Lacks
                    | Answer::Failed
                    | Answer::StaleLayout
                    | Answer::NotCounted
                    | Answer::Outdated { .. }
                    | Answer::Confirmed { .. }
                    | Answer::NotConfirmed { .. } => passing.pass_over(at),
                }
                Next::PassOn
            }
        }
    }

    /// The primary that a request was passed on to says what has become of it.
    pub fn on_forward_answer(&mut self, from: NodeId, answer: ForwardAnswer) -> Next {
        let passing = match self {
            Phase::Forwarded(passing) if passing.to() == Some(from) => passing,
            Phase::Forwarded(_) | Phase::Put(_) | Phase::Read(_) | Phase::Fallback(_) => {
                return Next::Wait;
            }
        };
        match answer {
            ForwardAnswer::Done { reply } => return Next::End(reply),
            ForwardAnswer::Refused { reply } => passing.refused(reply),
            ForwardAnswer::StaleLayout | ForwardAnswer::Failed => {
                let reason = "the primary that it was passed on to cannot serve it now";
                passing.refused(Reply::unavailable(reason));
            }
        }
        Next::PassOn
    }

    /// A message to this node has not left: it will never be answered.
    pub fn on_not_sent(&mut self, to: NodeId, facts: &Facts) -> Next {
        match (self, facts.primaries.position(to)) {
            (Phase::Forwarded(passing), _) if passing.to() == Some(to) => {
                passing.not_sent();
                Next::PassOn
            }
            (Phase::Read(round), Some(at)) => round.on_not_sent(at, facts),
            (Phase::Put(round), Some(at)) => {
                round.on_not_sent(at);
                Next::Wait
            }
            _ => Next::Wait,
        }
    }

    /// What to ask again of those who have not answered.
    pub fn unanswered(&mut self, facts: &Facts) -> Next {
        match self {
            Phase::Put(round) => match round.stored() {
                // So it is by those that hold it, since its layouts have changed.
                Some(reply) => Next::End(reply),
                None if round.stop_waiting() => Next::Issue,
                None => Next::Ask(round.unanswered(facts)),
            },
            Phase::Read(round) => Next::Ask(round.unanswered(facts)),
            Phase::Forwarded(_) | Phase::Fallback(_) => Next::Wait,
        }
    }

    /// The outcome when the last asker's time is up, and nothing more will be done.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        match self {
            Phase::Put(round) => round.timed_out(facts),
            Phase::Read(round) => round.timed_out(facts),
            Phase::Forwarded(passing) => passing.timed_out(facts),
            Phase::Fallback(fallback) => fallback.timed_out(facts),
        }
    }

    /// What an asker is told whose time is up while others wait on: the write may still happen.
    #[must_use]
    pub fn still_running(&self, facts: &Facts) -> Reply {
        match self.timed_out(facts) {
            Reply::Unavailable { .. } if facts.request.writes() => facts.unknown(),
            reply => reply,
        }
    }

    /// The dot that was issued here, if one was.
    fn written(&self) -> Option<Written> {
        match self {
            Phase::Put(round) => round.written(),
            Phase::Fallback(fallback) => fallback.written(),
            Phase::Read(_) | Phase::Forwarded(_) => None,
        }
    }

    /// What is to be remembered of a named write that ended with this reply.
    #[must_use]
    pub fn outcome(&self, reply: &Reply) -> Option<Attempt> {
        let is_stored = matches!(reply, Reply::Stored { .. });
        let written = match self {
            Phase::Put(_) | Phase::Fallback(_) => match self.written() {
                None => return Some(Attempt::NoneIssued),
                written => written,
            },
            Phase::Read(round) => round.written(),
            Phase::Forwarded(_) => return None,
        };
        Some(match written.filter(|_| is_stored) {
            Some(written) => Attempt::Stored(written),
            None => Attempt::Issued(written),
        })
    }
}

/// Tells the simulator in which state an operation ran out of time.
pub fn meet_timeout(phase: &Phase, env: &impl Env) {
    sometimes!(env, ForwardTimedOut, matches!(phase, Phase::Forwarded(_)));
    sometimes!(env, ReadTimedOut, matches!(phase, Phase::Read(_)));
    if let Phase::Put(round) = phase {
        sometimes!(env, PutTimedOutWithADot, round.written().is_some());
        sometimes!(env, PutTimedOutWithoutADot, round.written().is_none());
    }
}

/// Tells the simulator how a read, or the search for a dot, ended.
pub fn meet_read(reply: &Reply, repaired: bool, searched: bool, env: &impl Env) {
    sometimes!(env, ReadRepaired, repaired);
    sometimes!(env, SearchedDotFound, matches!(reply, Reply::Stored { .. }));
    sometimes!(env, SearchedDotNotFound, searched && matches!(reply, Reply::Indeterminate { .. }));
    sometimes!(env, ReadFoundNothing, matches!(reply, Reply::NotFound { .. }));
    if let Reply::Found { siblings, .. } = reply {
        sometimes!(env, ReadSawSiblings, siblings.len() > 1);
    }
}
