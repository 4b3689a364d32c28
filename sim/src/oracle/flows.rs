//! Nothing stands still while a cluster changes its shape: a request that began when nothing had been wrong for 5 s, and met nothing
//! wrong, is answered within 2 s, and its outcome is known. It may be refused: who acts under another layout refuses, and its client
//! asks again. But an answer that never comes costs a client its deadline, and is legal to every oracle of safety.
//!
//! A node that goes for good or is started again is something wrong, as everywhere; one that comes for the first time, is given a part
//! or loses it is not. Only requests that are tried once, at nodes that run, are judged, where links lose nothing by
//! their own luck, no site takes a rare path, and a deadline leaves time for the heartbeats by which nodes hear of a layout.
//! Left out: levels other than `quorum`, and clusters of which a founder is gone for good.

use rondo_core::layout::keyspace::Level;

use crate::history::{Answer, Attempt, Op, Place, Spell};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::oracle::well::{SETTLED_MS, before, is_success};
use crate::rt::Time;

const NAME: &str = "flows";
/// How long an answer may take, in milliseconds, beside what the largest record takes on its way.
const ANSWER_MS: u64 = 2_000;

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let history = index.history;
    let deadline_ms = history.terms.reshaped_deadline_ms.filter(|_| history.troubles.is_empty());
    let (Some(deadline_ms), Some(began)) = (deadline_ms, served_at(index)) else {
        return Vec::new();
    };
    let within_ms = ANSWER_MS + 4 * history.terms.crossing_ms;
    let judged = |(id, op): (usize, &Op)| {
        let attempt = op.attempts.first()?;
        let due = attempt.called_at.plus_ms(within_ms);
        let is_judged = op.level == Level::Quorum
            && op.first_attempt == 1
            && op.attempts.len() == 1
            && attempt.called_at >= began
            && attempt.called < history.healed
            && attempt.due.is_some();
        if !is_judged || !stood_still(attempt, due, within_ms.min(deadline_ms)) {
            return None;
        }
        let until = attempt.end.as_ref().map_or(due, |end| end.at.max(due));
        let since = before(attempt.called_at, SETTLED_MS);
        let meanwhile = |spell: &&Spell| spell.from <= until && spell.until >= since;
        if history.lives.spells.iter().filter(meanwhile).any(is_a_reason) {
            return None;
        }
        let (key, node, called) = (op.key, attempt.node, attempt.called_at.text());
        let what = format!(
            "k{key}: op {id}, sent to n{node} at {called}, had no known outcome within {within_ms} ms, although nothing had been wrong for \
             {SETTLED_MS} ms but that the cluster changed its shape"
        );
        Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: attempt.called, what })
    };
    history.ops.iter().enumerate().filter_map(judged).collect()
}

/// Whether what is wrong may hold requests up. A node that comes for the first time was missed by nobody, and nothing is wrong with one
/// that an operator asks.
fn is_a_reason(spell: &Spell) -> bool {
    let comes = matches!(spell.place, Place::Node(_)) && spell.from == Time::default();
    !comes && spell.from < spell.until
}

/// Whether an attempt was not answered in time, or was told that its outcome is not known.
fn stood_still(attempt: &Attempt, due: Time, within_ms: u64) -> bool {
    let Some(end) = &attempt.end else {
        return true;
    };
    // A deadline that is shorter ends what stands still, as a refusal or without an outcome.
    let is_at_its_end = end.at >= attempt.called_at.plus_ms(within_ms);
    end.at > due
        || matches!(end.answer, Answer::Indeterminate)
        || (is_at_its_end && !is_success(&end.answer))
}

/// From then on the cluster is known to have been formed, and to have had time to settle.
fn served_at(index: &Index<'_>) -> Option<Time> {
    let attempts = index.history.ops.iter().flat_map(|op| &op.attempts);
    let ends = attempts.filter_map(|attempt| attempt.end.as_ref());
    let served = ends.filter(|end| is_success(&end.answer)).map(|end| end.at).min()?;
    Some(served.plus_ms(SETTLED_MS))
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Stamp};
    use crate::oracle::made::Made;

    use super::*;

    /// A put that shows that the cluster is there, and one at 9 s that is not answered before `ended`.
    fn history(ended: Option<u64>) -> History {
        let mut made = Made::default();
        made.put(0, 3_000, Some(3_010));
        made.put(0, 9_000, ended);
        let mut history = made.history();
        history.healed = Stamp(20_000);
        history.terms.reshaped_deadline_ms = Some(5_000);
        history
    }

    fn told(history: &History) -> usize {
        check(&Index::of(history)).len()
    }

    #[test]
    fn what_is_answered_late_or_never_is_found_and_what_is_in_time_is_not() {
        let found = [None, Some(11_001), Some(10_999)].map(|ended| told(&history(ended)));
        assert_eq!(found, [1, 1, 0]);
    }

    #[test]
    fn a_refusal_is_an_answer_unless_it_comes_with_the_deadline() {
        let refused = |at| {
            let mut made = Made::default();
            made.put(0, 3_000, Some(3_010));
            made.put(0, 9_000, Some(at)).refused();
            let mut history = made.history();
            history.healed = Stamp(20_000);
            history.terms.reshaped_deadline_ms = Some(1_000);
            told(&history)
        };
        assert_eq!((refused(9_010), refused(10_000)), (0, 1));
    }

    #[test]
    fn a_node_that_starts_or_a_cut_is_a_reason_and_a_cluster_that_stays_is_judged_elsewhere() {
        let mut struck = history(None);
        let (from, until) = (Time::at_ms(8_000), Time::at_ms(8_100));
        struck.lives.spells.push(Spell { place: Place::Node(2), from, until });
        assert_eq!(told(&struck), 0);
        let mut stays = history(None);
        stays.terms.reshaped_deadline_ms = None;
        assert_eq!(told(&stays), 0);
    }
}
