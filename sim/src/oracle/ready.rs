//! A node that has what a request needs serves it, also while faults last: a put or get at `quorum` at a node with links in both
//! directions to as many primaries as its level asks for succeeds within 2 s, or within its deadline where that is shorter. Where
//! long messages take longer, the largest record has four times as long as it takes to cross a slow link on top; where the
//! deadline is too short for that, nothing is judged.
//!
//! Links and nodes count when nothing has been wrong with them for 5 s, which is more than it takes to be held for dead, or to be
//! dialled again. A node that is no primary passes the request on, so there all primaries have to count. Only first attempts are
//! judged, and only where nothing is lost by the links' own luck and no site takes a rare path on purpose: those are
//! delays that nobody can avoid. A refusal, a timeout and a late answer are the same here; safety oracles call all of them legal.
//! Left out: requests that are wrong by themselves (ids used again, tokens of other keys), and keys that are full of siblings.

use rondo_core::layout::keyspace::Level;

use crate::history::{Attempt, End, Op};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::oracle::well::{SETTLED_MS, Well, before, is_success};
use crate::rt::Time;

const NAME: &str = "ready";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let Some(well) = Well::of(index) else {
        return Vec::new();
    };
    let Some(within_ms) = well.within_ms() else {
        return Vec::new();
    };
    let judge = Judge { within_ms, well };
    let ops = index.history.ops.iter().enumerate();
    ops.filter_map(|(id, op)| judge.failed(id, op)).collect()
}

struct Judge<'a> {
    well: Well<'a>,
    within_ms: u64,
}

impl Judge<'_> {
    fn failed(&self, id: usize, op: &Op) -> Option<Violation> {
        let attempt = op.attempts.first()?;
        let due = attempt.called_at.plus_ms(self.within_ms);
        let is_judged = op.level == Level::Quorum
            && attempt.called_at >= self.well.began
            && attempt.called < self.well.history().healed
            && attempt.due.is_some();
        let is_late = |attempt: &Attempt| match &attempt.end {
            Some(end) => end.at > due || !is_success(&end.answer),
            None => true,
        };
        if !is_judged || !is_late(attempt) || !self.well.is_usual(op) {
            return None;
        }
        let until = attempt.end.as_ref().map_or(due, |end| end.at.min(due));
        if !self.has_enough(op, attempt, until) {
            return None;
        }
        let (key, node, called) = (op.key, attempt.node, attempt.called_at.text());
        let what = format!(
            "k{key}: op {id}, sent to n{node} at {called}, did not succeed within {} ms, although enough \
             primaries and the links to them had been well for {SETTLED_MS} ms",
            self.within_ms
        );
        Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: attempt.called, what })
    }

    /// Whether as many primaries as the level asks for, and the links between them and the node, were well until `until`.
    fn has_enough(&self, op: &Op, attempt: &Attempt, until: Time) -> bool {
        let Some(quorums) = self.well.history().terms.quorums else {
            return false;
        };
        let primaries = self.well.primaries(op.key);
        let wrong = self.well.wrong(before(attempt.called_at, SETTLED_MS), until);
        let well = wrong.reached(attempt.node, primaries);
        // A read, too, ends only when W are known to hold what it answers.
        let needed = usize::from(quorums.w.max(quorums.r));
        let here = wrong.is_well(attempt.node);
        let is_whole = well.iter().all(|&a| well.iter().all(|&b| wrong.are_linked(a, b)));
        match primaries.contains(&attempt.node) {
            // A node that needs nobody else has learned from others that there is a layout.
            true => here && well.len() >= needed && (well.len() > 1 || self.has_served(attempt)),
            false => here && !primaries.is_empty() && well.len() == primaries.len() && is_whole,
        }
    }

    /// Whether the node of an attempt had served a request before.
    fn has_served(&self, of: &Attempt) -> bool {
        let attempts = self.well.history().ops.iter().flat_map(|op| &op.attempts);
        let is_earlier = |end: &End| end.at < of.called_at && is_success(&end.answer);
        let mut here = attempts.filter(|attempt| attempt.node == of.node);
        here.any(|attempt| attempt.end.as_ref().is_some_and(is_earlier))
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::layout::Quorums;

    use crate::history::{History, Place, Spell};
    use crate::oracle::made::Made;

    use super::*;

    /// Three primaries; a put that shows that the cluster is there, and one at 9 s that is refused.
    fn refused() -> History {
        let mut made = Made::default();
        made.put(0, 3_000, Some(3_010));
        made.put(0, 9_000, Some(9_001)).refused();
        (0..3).for_each(|node| made.ends(0, node, &[(0, 7, 1)]));
        let mut history = made.history();
        history.terms.quorums = Some(Quorums { n: 3, r: 2, w: 2 });
        history.healed = crate::history::Stamp(20_000);
        history.terms.plain_deadline_ms = Some(1_000);
        history
    }

    fn with(spells: &[(Place, u64, u64)]) -> usize {
        let spell = |&(place, from, until)| Spell {
            place,
            from: Time::at_ms(from),
            until: Time::at_ms(until),
        };
        let mut history = refused();
        history.lives.spells = spells.iter().map(spell).collect();
        check(&Index::of(&history)).len()
    }

    #[test]
    fn a_refusal_that_nothing_explains_is_found() {
        let told = check(&Index::of(&refused()));
        assert_eq!(told.len(), 1);
        assert!(told[0].what.starts_with("k0: op 1, sent to n0 at 9000.000ms"), "{told:?}");
        assert_eq!(told[0].verdict, Verdict::Liveness);
    }

    #[test]
    fn one_primary_may_be_gone_and_two_may_not() {
        let gone = |node| (Place::Node(node), 8_000, 12_000);
        assert_eq!((with(&[gone(1)]), with(&[gone(1), gone(2)]), with(&[gone(0)])), (1, 0, 0));
    }

    /// With N = 1 n0 needs nobody; n1 has shown that the cluster is there.
    #[test]
    fn who_needs_nobody_is_judged_from_its_first_answer_on() {
        let refused = |first| {
            let mut made = Made::default();
            made.put(0, 3_000, Some(3_010));
            made.put(0, 9_000, Some(9_001)).refused();
            made.ends(0, 0, &[(0, 7, 1)]);
            let mut history = made.history();
            history.ops[0].attempts[0].node = first;
            history.terms.quorums = Some(Quorums { n: 1, r: 1, w: 1 });
            history.healed = crate::history::Stamp(20_000);
            history.terms.plain_deadline_ms = Some(1_000);
            check(&Index::of(&history)).len()
        };
        assert_eq!((refused(0), refused(1)), (1, 0), "n0 may never have heard of a layout");
    }

    #[test]
    fn links_count_in_both_directions_and_what_is_over_for_long_is_no_excuse() {
        let cut = |from, to, since| (Place::Link(from, to), since, since + 500);
        assert_eq!(with(&[cut(0, 1, 8_000), cut(2, 0, 8_000)]), 0, "one way each");
        assert_eq!(with(&[cut(0, 1, 8_000), cut(2, 1, 8_000)]), 1, "n2 is there");
        assert_eq!(with(&[cut(0, 1, 3_000), cut(2, 0, 3_000)]), 1, "long over");
    }

    #[test]
    fn a_record_that_is_long_on_its_way_is_waited_for() {
        let failed_after = |end_ms: u64, crossing_ms: u64| {
            let mut made = Made::default();
            made.put(0, 3_000, Some(3_010));
            made.put(0, 9_000, Some(end_ms));
            (0..3).for_each(|node| made.ends(0, node, &[(0, 7, 1)]));
            let mut history = made.history();
            history.healed = crate::history::Stamp(20_000);
            history.terms.quorums = Some(Quorums { n: 3, r: 2, w: 2 });
            history.terms.plain_deadline_ms = Some(5_000);
            history.terms.crossing_ms = crossing_ms;
            check(&Index::of(&history)).len()
        };
        assert_eq!((failed_after(11_100, 0), failed_after(11_100, 100)), (1, 0));
        assert_eq!((failed_after(11_500, 100), failed_after(13_900, 1_000)), (1, 0));
        assert_eq!(failed_after(14_100, 1_250), 1);
        assert_eq!(failed_after(14_100, 1_251), 0, "the deadline leaves no time for it");
    }

    #[test]
    fn luck_of_the_links_and_a_success_are_no_matter() {
        let mut history = refused();
        history.terms.plain_deadline_ms = None;
        assert_eq!(check(&Index::of(&history)), []);
        let mut made = Made::default();
        made.put(0, 3_000, Some(3_010));
        made.put(0, 9_000, Some(9_800));
        (0..3).for_each(|node| made.ends(0, node, &[(0, 7, 1)]));
        let mut history = made.history();
        history.terms.plain_deadline_ms = Some(1_000);
        assert_eq!(check(&Index::of(&history)), []);
    }
}
