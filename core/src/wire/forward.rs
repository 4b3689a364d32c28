//! A client's request that is passed on to a primary of its key, and what becomes of it there.
//!
//! A forward is fenced as every question about a key is, and its answer needs no fence (`ForwardMessage::Answer`). It is taken on
//! once however often it arrives (`request/forwards.rs`): other than those questions it is not idempotent.

use crate::error::Result;
use crate::id::{KeyspaceId, OpId};
use crate::layout::live::LayoutSet;
use crate::version::hlc::Hlc;
use crate::wire::client::{Reply, Request};
use crate::wire::frame::{Generation, Reader, Wire, Writer, table};

/// A message about a request that is passed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForwardMessage {
    /// A request for a primary to coordinate; never forwarded again.
    Ask {
        /// The forwarder's operation.
        op: OpId,
        /// The layouts that it lives under.
        layouts: LayoutSet,
        /// What its first node has fixed of it.
        fixed: Fixed,
        /// The request.
        request: Request,
    },
    /// What the primary made of it. It names no layouts, since it is no replica's word, which counts in each layout that it was given
    /// under: it is what a coordinator has found by questions and answers that were fenced. A write that has its quorums in all layouts
    /// that were live there has them, whatever the node that passed it on has taken up or dropped since; and if it did nothing,
    /// nothing was done.
    Answer {
        /// The forwarder's operation.
        op: OpId,
        /// What it is told.
        answer: ForwardAnswer,
    },
}

/// What the node that a client asks fixes of a request, whoever coordinates it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fixed {
    /// The keyspace that its name stood for. A name may stand for another one later, an id never.
    pub keyspace: KeyspaceId,
    /// When it came, by that node's clock as far as its peers' allow: what has expired is judged by this.
    pub at: Hlc,
}

/// What a primary made of a request that was passed on to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForwardAnswer {
    /// It was coordinated there.
    Done {
        /// The outcome.
        reply: Reply,
    },
    /// It was not taken on: nothing was done for it, and another primary may be asked.
    Refused {
        /// `Unavailable` or `Overloaded`, with the reason.
        reply: Reply,
    },
    /// The primary must not serve, and did nothing.
    Failed,
    /// The primary is not in the layout that the request was passed on under, and did nothing.
    StaleLayout,
}

impl ForwardMessage {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            ForwardMessage::Ask { request, .. } => request.weight(),
            ForwardMessage::Answer { answer, .. } => match answer {
                ForwardAnswer::Done { reply } | ForwardAnswer::Refused { reply } => reply.weight(),
                ForwardAnswer::Failed | ForwardAnswer::StaleLayout => 0,
            },
        }
    }
}

table!(enum ForwardMessage { 1 Ask { op, layouts, fixed, request }, 2 Answer { op, answer } });
table!(enum ForwardAnswer {
    1 Done { reply },
    2 Refused { reply },
    3 Failed,
    4 StaleLayout,
});

impl Wire for Fixed {
    fn put(&self, to: &mut Writer) {
        // The first generation says nothing of it, and the receiver fixes it itself.
        if to.generation() > Generation::First {
            (self.keyspace, self.at).put(to);
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let (keyspace, at) = match from.generation() {
            Generation::First => Default::default(),
            Generation::Second => Wire::take(from)?,
        };
        Ok(Fixed { keyspace, at })
    }
}
