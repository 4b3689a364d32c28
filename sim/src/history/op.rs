//! What clients did and were told: operations, their attempts and answers.

use bytes::Bytes;
use rondo_core::id::RequestId;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::By;

use crate::history::Stamp;
use crate::rt::Time;
use crate::scenario::{Action, Change};

/// One operation, over all its attempts.
#[derive(Clone, Debug)]
pub struct Op {
    /// The client.
    pub client: u32,
    /// The key.
    pub key: u32,
    /// The level.
    pub level: Level,
    /// What.
    pub action: Action,
    /// Its name on the wire. Another operation may use the same one again.
    pub request: RequestId,
    /// The number of its first attempt; above 1 no attempt of it may write.
    pub first_attempt: u32,
    /// The value it writes; empty when it writes none.
    pub value: Bytes,
    /// The context it sent, when it sent one; see `sent_by`.
    pub sent: Option<Context>,
    /// The attempts, in order; none when the run ended before.
    pub attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The node that was asked.
    pub node: u32,
    /// What was not as in the attempts before, though the request id was.
    pub change: Option<Change>,
    /// When it was asked.
    pub called: Stamp,
    /// The same, in time.
    pub called_at: Time,
    /// By when it had to end; pauses of the node are added. `None` when the node's process ended first.
    pub due: Option<Time>,
    /// The answer.
    pub end: Option<End>,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct End {
    /// When.
    pub stamp: Stamp,
    /// The same, in time.
    pub at: Time,
    /// What the client was told.
    pub answer: Answer,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The write is done.
    Stored {
        /// What the client knows now.
        context: Context,
        /// The write's HLC.
        version: Hlc,
        /// Who holds it, as the answer says.
        by: By,
    },
    /// Values, the answer first.
    Found {
        /// The values.
        values: Vec<Seen>,
        /// What the client knows now.
        context: Context,
    },
    /// No value.
    NotFound {
        /// The values that stand beside the delete.
        values: Vec<Seen>,
        /// What the client knows now.
        context: Context,
    },
    /// It may have happened.
    Indeterminate,
    /// The request did not happen, says the node.
    Refused(String),
    /// The request makes no sense, says the node, or its id names another one there. This attempt did not write.
    BadRequest(String),
    /// Nobody was there to ask.
    Unreached,
}

/// A value in an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The operation that wrote it, when the value names one and is its exact value.
    pub op: Option<usize>,
    /// Its HLC.
    pub version: Hlc,
}

/// How a write ended, over all attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was acknowledged, first at this stamp.
    Acked(Stamp),
    /// Every attempt was refused: it did not happen and never will.
    Refused,
    /// It may have happened, or may happen later.
    Unknown,
}

impl Op {
    /// When the operation was first invoked; `Stamp::NEVER` when it never was.
    #[must_use]
    pub fn called(&self) -> Stamp {
        self.attempts.first().map_or(Stamp::NEVER, |attempt| attempt.called)
    }

    /// Whether it writes.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.action.over().is_some()
    }

    /// How a write ended. What was changed in an attempt is no part of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let stored = |end: &&End| matches!(end.answer, Answer::Stored { .. });
        let own = || self.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        let ends = || own().filter_map(|attempt| attempt.end.as_ref());
        if let Some(end) = ends().filter(stored).min_by_key(|end| end.stamp) {
            return Fate::Acked(end.stamp);
        }
        let refused = |attempt: &Attempt| {
            let answer = attempt.end.as_ref().map(|end| &end.answer);
            matches!(answer, Some(Answer::Refused(_) | Answer::BadRequest(_) | Answer::Unreached))
        };
        let cannot_write = self.first_attempt > 1;
        if cannot_write || own().all(refused) { Fate::Refused } else { Fate::Unknown }
    }

    /// The node that acknowledged a write as a fallback, where one did.
    #[must_use]
    pub fn fallback(&self) -> Option<u32> {
        let is_by_one = |end: &End| matches!(end.answer, Answer::Stored { by: By::Fallback, .. });
        let own = self.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        let mut own = own.filter(|attempt| attempt.end.as_ref().is_some_and(is_by_one));
        own.next().map(|attempt| attempt.node)
    }

    /// A read's answer: when it ended, the values (none when the key has none) and the context.
    #[must_use]
    pub fn read(&self) -> Option<(Stamp, &[Seen], &Context)> {
        self.attempts.iter().filter_map(|attempt| attempt.end.as_ref()).find_map(|end| {
            match &end.answer {
                Answer::Found { values, context } => Some((end.stamp, values.as_slice(), context)),
                Answer::NotFound { context, .. } => Some((end.stamp, &[][..], context)),
                _ => None,
            }
        })
    }

    /// The context that one of its attempts sent.
    #[must_use]
    pub fn sent_by(&self, attempt: &Attempt) -> Option<Context> {
        match attempt.change {
            Some(Change::Context) => other_context(self.sent.as_ref()),
            _ => self.sent.clone(),
        }
    }

    /// The contexts that were handed out for it.
    pub fn contexts(&self) -> impl Iterator<Item = (Stamp, &Context)> {
        let own = self.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        let ends = own.filter_map(|attempt| attempt.end.as_ref());
        ends.filter_map(|end| match &end.answer {
            Answer::Stored { context, .. }
            | Answer::Found { context, .. }
            | Answer::NotFound { context, .. } => Some((end.stamp, context)),
            _ => None,
        })
    }
}

/// What an attempt sends that changes the context: none where there was one, and the empty one where there was none.
#[must_use]
pub fn other_context(context: Option<&Context>) -> Option<Context> {
    if context.is_some() { None } else { Some(Context::default()) }
}

impl Attempt {
    /// Whether it asks what the attempts before it asked, as far as its answer can tell of them.
    #[must_use]
    pub fn is_of_the_request(&self) -> bool {
        !self
            .change
            .is_some_and(|change| change.is_another_write() || matches!(change, Change::Level(_)))
    }
}

/// The value that operation `id` of `client` writes, `bytes` long at least. No other operation writes it.
#[must_use]
pub fn value(id: usize, client: u32, bytes: usize) -> Bytes {
    let mut text = format!("{id}.c{client}.").into_bytes();
    let long = text.len().max(bytes);
    text.resize(long, b'~');
    Bytes::from(text)
}
