//! What was well, and when: the nodes and links with which nothing was wrong for some time, as far as requests depend on them.
//!
//! Only worlds in which links lose nothing by their own luck, and no site takes a rare path on purpose, tell something: elsewhere
//! anything may be late.

use std::collections::BTreeMap;

use crate::history::{Answer, History, Op, Place};
use crate::oracle::index::Index;
use crate::rt::Time;
use crate::scenario::Over;

/// For how long all has to have been well before a request counts on it, in milliseconds: more than it takes to be held for dead, or
/// to be dialled again.
pub(super) const SETTLED_MS: u64 = 5_000;
/// How long an answer may take where all is well and no message is long, in milliseconds.
const ANSWER_MS: u64 = 2_000;
/// How often the largest record may have to cross links one after another before an answer is there: as a forward, as a merge, and
/// each of them behind another one.
const CROSSINGS: u64 = 4;
/// Writes of a key that overwrite nothing, above which it may be full.
const BESIDE_MAX: usize = 50;

/// What is known of a run in which nothing is late by luck.
pub(super) struct Well<'a> {
    pub(super) index: &'a Index<'a>,
    pub(super) deadline_ms: u64,
    /// From then on the cluster is known to have been formed.
    pub(super) began: Time,
    /// By key.
    primaries: BTreeMap<u32, Vec<u32>>,
}

/// What was wrong in some time.
pub(super) struct Wrong(Vec<Place>);

impl<'a> Well<'a> {
    /// `None` where a run tells nothing.
    pub(super) fn of(index: &'a Index<'a>) -> Option<Well<'a>> {
        let history = index.history;
        let deadline_ms =
            history.terms.plain_deadline_ms.filter(|_| history.troubles.is_empty())?;
        let served = history.ops.iter().flat_map(|op| &op.attempts).filter_map(|attempt| {
            let end = attempt.end.as_ref()?;
            is_success(&end.answer).then_some(end.at)
        });
        let began = served.min()?.plus_ms(SETTLED_MS);
        let mut primaries: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        history
            .ends
            .read
            .iter()
            .for_each(|last| primaries.entry(last.key).or_default().push(last.node));
        Some(Well { index, deadline_ms, began, primaries })
    }

    pub(super) fn history(&self) -> &History {
        self.index.history
    }

    /// The nodes that keep a key.
    pub(super) fn primaries(&self, key: u32) -> &[u32] {
        self.primaries.get(&key).map_or(&[], Vec::as_slice)
    }

    /// How long an answer may take where all is well, in milliseconds; `None` where the deadline does not leave the time for it that
    /// the largest record takes on its way.
    pub(super) fn within_ms(&self) -> Option<u64> {
        let crossings_ms = CROSSINGS * self.history().terms.crossing_ms;
        let within_ms = ANSWER_MS + crossings_ms;
        (crossings_ms <= self.deadline_ms).then(|| within_ms.min(self.deadline_ms))
    }

    /// Whether a request is one that any node would take: not wrong by itself, and not of a key that may be full of siblings.
    pub(super) fn is_usual(&self, op: &Op) -> bool {
        op.first_attempt == 1
            && op.action.over() != Some(Over::Foreign)
            && !self.index.shares_its_id(op)
            && !self.may_be_full(op.key)
    }

    /// What was wrong between two moments.
    pub(super) fn wrong(&self, from: Time, until: Time) -> Wrong {
        let spells = self.history().lives.spells.iter();
        let meanwhile = spells.filter(|spell| spell.from <= until && spell.until >= from);
        Wrong(meanwhile.map(|spell| spell.place).collect())
    }

    fn may_be_full(&self, key: u32) -> bool {
        let beside = |op: &&Op| {
            op.key == key && op.writes() && !matches!(op.action.over(), Some(Over::Last))
        };
        self.history().ops.iter().filter(beside).count() > BESIDE_MAX
    }
}

impl Wrong {
    /// Whether nothing was wrong with a node.
    pub(super) fn is_well(&self, node: u32) -> bool {
        !self.0.contains(&Place::Node(node))
    }

    /// Whether nothing was wrong with the links between two nodes, in both directions.
    pub(super) fn are_linked(&self, one: u32, other: u32) -> bool {
        let is_cut = |from, to| self.0.contains(&Place::Link(from, to));
        one == other || !(is_cut(one, other) || is_cut(other, one))
    }

    /// The nodes, of these, that were well, with their links to `node`.
    pub(super) fn reached(&self, node: u32, among: &[u32]) -> Vec<u32> {
        let counts = |&&other: &&u32| self.is_well(other) && self.are_linked(node, other);
        among.iter().filter(counts).copied().collect()
    }
}

/// Whether a request has had what it asked for.
pub(super) const fn is_success(answer: &Answer) -> bool {
    matches!(answer, Answer::Stored { .. } | Answer::Found { .. } | Answer::NotFound { .. })
}

/// So long before a moment.
pub(super) fn before(at: Time, ms: u64) -> Time {
    Time(at.0.saturating_sub(Time::at_ms(ms).0))
}
