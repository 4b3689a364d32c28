//! A write on a node that is no primary of its key, or does not have all of its unit: passed on to one that can coordinate it, and
//! coordinated there or nowhere.
//!
//! A primary that cannot be reached, or that says it did nothing, is followed by the next one, each tried once. What
//! has left and is not refused stays with that primary: it may have been coordinated, and a second coordinator would
//! issue a second dot (<https://github.com/basho/riak_kv/issues/1046>). Nothing has happened before it has left.

use crate::id::NodeId;
use crate::quorum::Members;
use crate::request::operation::Facts;
use crate::wire::client::Reply;

/// A request that is passed on.
#[derive(Debug, Default)]
pub struct Passing {
    tried: Members,
    to: Option<NodeId>,
    /// Why the latest that was asked refused.
    refusal: Option<Reply>,
}

impl Passing {
    /// To any primary but the one at `me`, which is this node and does not have all of the key's unit.
    #[must_use]
    pub fn past(me: usize) -> Passing {
        let mut tried = Members::NONE;
        tried.add(me);
        let refusal = Reply::unavailable(
            "this node is still taking the key's partition from the key's other replicas, none of which can be reached; \
             nothing was sent",
        );
        Passing { tried, to: None, refusal: Some(refusal) }
    }

    /// The next primary to try, the preferred ones first; `None` when all that can be reached have been tried.
    pub fn next(
        &mut self,
        facts: &Facts,
        reachable: impl Fn(NodeId) -> bool,
        from_the_last: bool,
    ) -> Option<NodeId> {
        let nodes = facts.primaries.nodes();
        let fresh = |&at: &usize| !self.tried.has(at) && reachable(nodes[at]);
        let mut fresh = (0..nodes.len()).filter(fresh);
        let at = if from_the_last { fresh.next_back() } else { fresh.next() };
        self.to = at.map(|at| nodes[at]);
        if let Some(at) = at {
            self.tried.add(at);
        }
        self.to
    }

    /// Who has it now.
    #[must_use]
    pub const fn to(&self) -> Option<NodeId> {
        self.to
    }

    /// It did not leave: that primary has not seen it.
    pub const fn not_sent(&mut self) {
        self.to = None;
    }

    /// The primary that has it did nothing for it.
    pub fn refused(&mut self, refusal: Reply) {
        (self.to, self.refusal) = (None, Some(refusal));
    }

    /// What to say when nobody is left to try: nobody has done anything for this attempt.
    #[must_use]
    pub fn nobody(&mut self) -> Reply {
        self.refusal.take().unwrap_or_else(|| {
            Reply::unavailable("no primary of the key can be reached, and nothing was sent")
        })
    }

    /// The outcome when nothing more is waited for. Whoever has it may have coordinated it.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        facts.unknown()
    }
}
