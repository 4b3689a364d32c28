//! How many of a key's primaries are needed, and have there been so many? Every quorum is counted here: of a read, of a write, of
//! what can be served, of what makes good for a lost copy.
//!
//! Answers are counted from replies, by distinct primaries, never from a view of who should be up
//! (<https://github.com/basho/riak_kv/issues/388>). A majority of the cluster means nothing: what is promised, R and W
//! promise for the primaries of one key.

use smallvec::SmallVec;

use crate::config::REPLICAS_MAX;
use crate::id::{NodeId, PartitionId};
use crate::layout::keyspace::Level;
use crate::layout::{Layout, Quorums};

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

/// How many of a key's primaries take part in what is asked at one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    read: usize,
    write: usize,
    out_of: usize,
}

impl Needs {
    /// Of a key whose partition has `quorums.n` primaries.
    #[must_use]
    pub fn at(level: Level, quorums: Quorums) -> Needs {
        let out_of = usize::from(quorums.n);
        let (read, write) = match level {
            Level::One => (1, 1),
            Level::Quorum => (usize::from(quorums.r), usize::from(quorums.w)),
            Level::All => (out_of, out_of),
        };
        Needs { read, write, out_of }
    }

    /// How many must hold a write.
    #[must_use]
    pub const fn to_write(self) -> usize {
        self.write
    }

    /// How many must be there for a read: those that tell, and those that hold what it answers.
    #[must_use]
    pub fn to_answer(self) -> usize {
        self.read.max(self.write)
    }

    /// Nobody has told yet: as many must as a read needs.
    #[must_use]
    pub fn readers(self) -> Tally {
        Tally::new(self.read, self.out_of)
    }

    /// Nobody holds it yet: as many must as a write needs.
    #[must_use]
    pub fn holders(self) -> Tally {
        Tally::new(self.write, self.out_of)
    }
}

/// What can be done with the keys of one partition at level `quorum`, with the nodes that are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Too few of the primaries are reached for a read, or for a write.
    TooFew,
    /// R and W of them are reached.
    Quorum,
    /// All of them are.
    Whole,
}

/// How much of a partition is reached.
#[must_use]
pub fn reach(layout: &Layout, partition: PartitionId, is_up: impl Fn(NodeId) -> bool) -> Reach {
    let needs = Needs::at(Level::Quorum, layout.quorums());
    let up = layout.primaries(partition).filter(|&node| is_up(node)).count();
    match up {
        up if up == needs.out_of => Reach::Whole,
        up if up >= needs.to_answer() => Reach::Quorum,
        _ => Reach::TooFew,
    }
}

/// How many other primaries hold, together, every write at `quorum` that one primary was counted for: such a write is on W - 1
/// of the N - 1 others. Where W is 1 all of them do not suffice.
#[must_use]
pub fn others_to_make_good(quorums: Quorums) -> usize {
    usize::from(quorums.n).saturating_sub(usize::from(quorums.w)) + 1
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
    use crate::layout::Role;
    use crate::layout::keyspace::Keyspace;

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

    #[test]
    fn a_level_says_how_many_of_the_primaries_take_part() {
        let quorums = Quorums { n: 3, r: 1, w: 3 };
        let needs = |level| Needs::at(level, quorums);
        let counts = |needs: Needs| (needs.readers().needed(), needs.to_write(), needs.to_answer());
        assert_eq!(counts(needs(Level::One)), (1, 1, 1));
        assert_eq!(counts(needs(Level::Quorum)), (1, 3, 3), "what a read answers is held by W");
        assert_eq!(counts(needs(Level::All)), (3, 3, 3));
        assert_eq!(others_to_make_good(quorums), 1, "each other one has every write");
        assert_eq!(others_to_make_good(Quorums { w: 2, ..quorums }), 2);
    }

    #[test]
    fn what_is_reached_is_counted_by_r_and_w_of_a_partition() {
        let role = |node| Role {
            node: NodeId(node),
            name: node.to_string(),
            weight: 1,
            zone: String::new(),
        };
        let layout = |wanted| {
            let roles = (1..=3).map(role).collect();
            Layout::first(1, wanted, roles, vec![Keyspace::default_keyspace()])
        };
        let reached =
            |layout: &Layout, up: u128| reach(layout, PartitionId(0), |node| node.0 <= up);
        let usual = layout(Quorums { n: 3, r: 2, w: 2 });
        let all = [Reach::TooFew, Reach::TooFew, Reach::Quorum, Reach::Whole];
        assert_eq!([0, 1, 2, 3].map(|up| reached(&usual, up)), all);
        let strict = layout(Quorums { n: 3, r: 1, w: 3 });
        assert_eq!(reached(&strict, 2), Reach::TooFew, "a majority is up, and nothing is served");
    }
}
