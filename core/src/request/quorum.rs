//! Who of a key's primaries has answered? Counted from replies, by distinct primaries, never from a view of who
//! should be up (<https://github.com/basho/riak_kv/issues/388>).

use smallvec::SmallVec;

use crate::config::REPLICAS_MAX;
use crate::id::NodeId;

const _: () = assert!(REPLICAS_MAX <= 32, "the bits of a set of primaries");

/// A set of a key's primaries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Members(u32);

impl Members {
    /// Nobody.
    pub const NONE: Members = Members(0);

    /// Adds the primary at `at`; `false` when it was there.
    pub const fn add(&mut self, at: usize) -> bool {
        let new = self.0 & (1 << at) == 0;
        self.0 |= 1 << at;
        new
    }

    /// Takes the primary at `at` out.
    pub const fn remove(&mut self, at: usize) {
        self.0 &= !(1 << at);
    }

    /// Whether the primary at `at` is in the set.
    #[must_use]
    pub const fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }

    /// How many are in the set.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// A key's primaries, in order of preference.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Primaries(SmallVec<[NodeId; 3]>);

impl Primaries {
    /// These nodes, which are distinct and at most `REPLICAS_MAX`.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Primaries {
        let nodes: SmallVec<[NodeId; 3]> = nodes.into_iter().collect();
        assert!(
            nodes.len() <= REPLICAS_MAX,
            "a layout has at most {REPLICAS_MAX} owners a partition"
        );
        Primaries(nodes)
    }

    /// Where a node stands among the primaries; `None` when it is none.
    #[must_use]
    pub fn position(&self, node: NodeId) -> Option<usize> {
        self.0.iter().position(|&primary| primary == node)
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.position(node).is_some()
    }

    /// The nodes, in order of preference.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.0
    }
}

/// Answers to one question that was put to a key's primaries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    needed: usize,
    out_of: usize,
    yes: Members,
    no: Members,
}

impl Tally {
    /// No answers yet; `needed` of `out_of` primaries must say yes.
    #[must_use]
    pub fn new(needed: usize, out_of: usize) -> Tally {
        assert!(needed >= 1 && needed <= out_of, "a quorum is between one and all");
        Tally { needed, out_of, yes: Members::default(), no: Members::default() }
    }

    /// The primary at `at` did it. Counts once, however often it says so.
    pub const fn yes(&mut self, at: usize) {
        self.yes.add(at);
    }

    /// The primary at `at` could not do it. A later yes still counts.
    pub const fn no(&mut self, at: usize) {
        self.no.add(at);
    }

    /// Whether the primary at `at` has said yes.
    #[must_use]
    pub const fn has(&self, at: usize) -> bool {
        self.yes.has(at)
    }

    /// How many have said yes.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.yes.count()
    }

    /// How many must say yes.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// Whether enough have said yes.
    #[must_use]
    pub const fn met(&self) -> bool {
        self.yes.count() >= self.needed
    }

    /// Whether each has said either.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        ((self.yes.0 | self.no.0).count_ones() as usize) == self.out_of
    }

    /// Whether so many could not that the rest is too few.
    #[must_use]
    pub const fn hopeless(&self) -> bool {
        let refused = self.no.0 & !self.yes.0;
        self.out_of - (refused.count_ones() as usize) < self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_w_of_n_is_enough() {
        let mut tally = Tally::new(2, 3);
        tally.yes(1);
        tally.yes(1);
        assert!(!tally.met(), "one primary, twice, is one primary");
        tally.yes(2);
        assert!(tally.met(), "W acks are enough, not W + 1");
    }

    #[test]
    fn refusals_end_the_question_when_the_rest_is_too_few() {
        let mut tally = Tally::new(2, 3);
        tally.no(0);
        assert!(!tally.hopeless());
        tally.no(1);
        assert!(tally.hopeless());
        tally.yes(1);
        assert!(!tally.hopeless(), "a primary that recovered counts");
    }
}
