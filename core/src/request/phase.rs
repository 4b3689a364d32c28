//! Where a request stands: in one of the two protocols, or with a primary that coordinates it.

use crate::id::NodeId;
use crate::message::{Message, Reply};
use crate::request::attempts::Attempt;
use crate::request::get::ReadRound;
use crate::request::operation::{Facts, Next};
use crate::request::passing::Passing;
use crate::request::put::PutRound;
use crate::sometimes;
use crate::step::Env;

/// Where a request stands.
#[derive(Debug)]
pub enum Phase {
    /// A write is coordinated here.
    Put(PutRound),
    /// A read, or the search for an earlier attempt's dot.
    Read(Box<ReadRound>),
    /// Somebody else coordinates, or will.
    Forwarded(Passing),
}

impl Phase {
    /// A peer, or this node itself, has answered.
    pub fn on_answer(&mut self, from: NodeId, message: Message, facts: &Facts) -> Next {
        if let Phase::Forwarded(passing) = self {
            return if passing.to() == Some(from) { passed(passing, message) } else { Next::Wait };
        }
        let Some(at) = facts.primaries.position(from) else {
            return Next::Wait;
        };
        match (self, message) {
            (Phase::Put(round), Message::QueryReply { clock, highest, .. }) => {
                round.on_query_reply(at, &clock, highest)
            }
            (Phase::Put(round), Message::MergeAck { .. }) => round.on_merge_ack(at),
            (Phase::Put(round), Message::Failed { .. } | Message::StaleLayout { .. }) => {
                round.on_failed(at, facts)
            }
            (Phase::Read(round), Message::ReadReply { state, .. }) => {
                round.on_state(at, state, facts)
            }
            (Phase::Read(round), Message::DigestReply { digest, .. }) => {
                round.on_digest(at, digest, facts)
            }
            (Phase::Put(round), Message::Lacks { .. }) => round.on_lacks(at, facts),
            (Phase::Read(round), Message::MergeAck { .. }) => round.on_merge_ack(at, facts),
            (Phase::Read(round), Message::Lacks { .. }) => round.on_lacks(at, facts),
            (Phase::Read(round), Message::Failed { .. } | Message::StaleLayout { .. }) => {
                round.on_failed(at, facts)
            }
            _ => Next::Wait,
        }
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
            Phase::Put(round) => match round.stop_waiting() {
                true => Next::Issue,
                false => Next::Ask(round.unanswered(facts)),
            },
            Phase::Read(round) => Next::Ask(round.unanswered(facts)),
            Phase::Forwarded(_) => Next::Wait,
        }
    }

    /// The outcome when the last asker's time is up, and nothing more will be done.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        match self {
            Phase::Put(round) => round.timed_out(facts),
            Phase::Read(round) => round.timed_out(facts),
            Phase::Forwarded(passing) => passing.timed_out(facts),
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

    /// What is to be remembered of a named write that ended with this reply.
    #[must_use]
    pub fn outcome(&self, reply: &Reply) -> Option<Attempt> {
        let is_stored = matches!(reply, Reply::Stored { .. });
        let written = match self {
            Phase::Put(round) => match round.written() {
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

/// What a primary said of a request that was passed on to it.
fn passed(passing: &mut Passing, message: Message) -> Next {
    match message {
        Message::ForwardReply { reply, .. } => Next::End(reply),
        Message::ForwardRefused { reply, .. } => {
            passing.refused(reply);
            Next::PassOn
        }
        Message::StaleLayout { .. } | Message::Failed { .. } => {
            let reason = "the primary that it was passed on to cannot serve it now";
            passing.refused(Reply::unavailable(reason));
            Next::PassOn
        }
        _ => Next::Wait,
    }
}
