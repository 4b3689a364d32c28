//! A write on a node that is no primary of its key, or does not have all of its unit: passed on to one that can coordinate it, and
//! coordinated there or nowhere.
//!
//! A primary that cannot be reached, or that says it did nothing, is followed by the next one, each tried once. What
//! has left and is not refused stays with that primary: it may have been coordinated, and a second coordinator would
//! issue a second dot (<https://github.com/basho/riak_kv/issues/1046>). Nothing has happened before it has left.
//!
//! So nothing is given to a primary that may stand still: it would keep the write until it is held for dead. Whoever has said something
//! just now gets it. When none has, as in a cluster at rest, all are asked what they know of the key, which changes nothing, and the
//! first that answers gets it.

use crate::id::NodeId;
use crate::quorum::Members;
use crate::request::operation::Facts;
use crate::wire::client::Reply;

/// A request that is passed on.
#[derive(Debug, Default)]
pub struct Passing {
    tried: Members,
    to: Option<NodeId>,
    /// Whether any primary has said anything.
    is_reached: bool,
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
        Passing { tried, refusal: Some(refusal), ..Passing::default() }
    }

    /// The primaries that can be reached and have not been tried, by their positions, the preferred ones first.
    pub fn untried(&self, facts: &Facts, reachable: impl Fn(NodeId) -> bool) -> Vec<usize> {
        let nodes = facts.primaries.nodes();
        let untried = |&at: &usize| !self.tried.has(at) && reachable(nodes[at]);
        (0..nodes.len()).filter(untried).collect()
    }

    /// The primary at this position gets it.
    pub fn give_to(&mut self, at: usize, facts: &Facts) -> NodeId {
        let node = facts.primaries.nodes()[at];
        self.tried.add(at);
        self.to = Some(node);
        node
    }

    /// The primary at this position has said that it can do nothing for the key.
    pub fn pass_over(&mut self, at: usize) {
        self.tried.add(at);
    }

    /// A primary has said something.
    pub const fn reach(&mut self) {
        self.is_reached = true;
    }

    /// Whether nobody has got it or said anything: as if it had not been tried.
    #[must_use]
    pub const fn is_unreached(&self) -> bool {
        !self.is_reached && self.to.is_none()
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
        (self.to, self.refusal, self.is_reached) = (None, Some(refusal), true);
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
        if self.to.is_some() {
            return facts.unknown();
        }
        let reason = "no primary of the key has answered, and nothing was sent";
        facts.request.refused(Reply::unavailable(reason))
    }
}
