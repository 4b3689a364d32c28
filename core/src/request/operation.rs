//! What every request in flight has: who asked, about which key, under which layout, until when.

use crate::config::NodeConfig;
use crate::env::Mono;
use crate::id::{ClientTag, NodeId, OpId, Unit};
use crate::layout::keyspace::{Level, Policy};
use crate::layout::live::LayoutSet;
use crate::quorum::{Needs, Primaries, Standing, Tally};
use crate::version::hlc::Hlc;
use crate::wire::client::{Reply, Request};
use crate::wire::key::{Answer, Ask, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;

/// Who waits for the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A client of this node.
    Client(ClientTag),
    /// A node that is no primary of the key, with its own operation.
    Peer(NodeId, OpId),
}

/// What does not change while a request is in flight.
#[derive(Debug)]
pub struct Facts {
    /// Its name in messages.
    pub id: OpId,
    /// What was asked.
    pub request: Request,
    /// The key.
    pub key: KeyRef,
    /// The key's unit.
    pub unit: Unit,
    /// The keyspace's policy.
    pub policy: Policy,
    /// The level asked for.
    pub level: Level,
    /// How many of its primaries take part.
    pub needs: Needs,
    /// When it came, by the clock of the node that its client asked, as far as its peers' allow.
    pub at: Hlc,
    /// The layouts it began under and ends under.
    pub layouts: LayoutSet,
    /// The key's primaries.
    pub primaries: Primaries,
    /// When it began.
    pub started: Mono,
    /// When it ends at the latest.
    pub deadline: Mono,
}

/// What is to be done with an operation after something happened to it.
#[derive(Debug)]
pub enum Next {
    /// Wait on.
    Wait,
    /// Ask the primaries at these positions this.
    Ask(Vec<(usize, Question)>),
    /// The query round is met: issue the dot.
    Issue,
    /// Pass it on to the next primary that can be reached.
    PassOn,
    /// It is over.
    End(Reply),
}

/// How patient operations are.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The deadline of requests that name none, in milliseconds.
    pub deadline_ms: u64,
    /// When to ask again, in milliseconds.
    pub resend_ms: u64,
}

impl Patience {
    /// As configured.
    #[must_use]
    pub const fn new(config: &NodeConfig) -> Patience {
        Patience { deadline_ms: config.deadline_ms, resend_ms: config.resend_ms }
    }
}

impl Facts {
    /// The message that asks a primary something for this request.
    #[must_use]
    pub fn ask(&self, question: Question) -> Message {
        let (op, layouts, key) = (self.id, self.layouts.clone(), self.key.clone());
        Message::Key(KeyMessage::Ask(Ask { op, layouts, key, question }))
    }

    /// The message by which this node answers itself.
    #[must_use]
    pub fn answer(&self, answer: Answer) -> Message {
        Message::Key(KeyMessage::Answer { op: self.id, layouts: self.layouts.clone(), answer })
    }

    /// The outcome of a write that may have happened, although nobody has said so.
    #[must_use]
    pub fn unknown(&self) -> Reply {
        let needed = u8::try_from(self.needs.to_write()).unwrap_or(u8::MAX);
        Reply::Indeterminate { acks: 0, needed }
    }

    /// How long its asker gives it, in milliseconds.
    #[must_use]
    pub const fn patience_ms(&self) -> u64 {
        self.deadline.ms_since(self.started)
    }

    /// The outcome of a question that too few answered.
    #[must_use]
    pub fn too_few(&self, answers: &Tally) -> Reply {
        let standing = answers.standing();
        Reply::unavailable(format!(
            "{} replicas answered, {}",
            counted(standing),
            lacking(standing)
        ))
    }
}

/// How many of a key's replicas have done something, in words.
#[must_use]
pub fn counted(standing: Standing) -> String {
    format!("{} of {}", standing.yes, standing.out_of)
}

/// How many would be enough, in words.
#[must_use]
pub fn lacking(Standing { needed, under, .. }: Standing) -> String {
    let under = under.map(|version| format!(" under layout {}", version.0)).unwrap_or_default();
    format!("{needed} {} needed{under}", are(needed))
}

/// The verb to `count` things.
#[must_use]
pub const fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}
