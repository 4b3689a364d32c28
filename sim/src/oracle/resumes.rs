//! A request that a cut of links held up goes on when the cut is over: who asks asks again, and sends again what has not arrived.
//!
//! Asked of first attempts at a primary of the key, at `quorum` and `all`, that began when all had been well for some time, and met
//! nothing but troubles of links. Questions are repeated, each time after a pause about as long as all before together; so once the
//! links are well a request is over after as long again, and a second, if its deadline is not earlier. Left out: what is passed on,
//! which is sent once; and the product's links, which dial again in their own time.

use rondo_core::layout::keyspace::Level;

use crate::history::{Attempt, Op, Place, Spell};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::oracle::well::{SETTLED_MS, Well, before, is_success};
use crate::rt::Time;

const NAME: &str = "resumes";
/// How long a request may take beside the repetition that a cut has put off, in milliseconds.
const ANSWER_MS: u64 = 1_000;

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let Some(well) = Well::of(index).filter(|_| index.history.carried.is_empty()) else {
        return Vec::new();
    };
    let ops = index.history.ops.iter().enumerate();
    ops.filter_map(|(id, op)| stuck(&well, id, op)).collect()
}

fn stuck(well: &Well<'_>, id: usize, op: &Op) -> Option<Violation> {
    let attempt = op.attempts.first()?;
    let primaries = well.primaries(op.key);
    let is_judged = op.level != Level::One
        && attempt.called_at >= well.began
        && attempt.called < well.history().healed
        && attempt.due.is_some()
        && attempt.change.is_none()
        && primaries.contains(&attempt.node);
    if !is_judged {
        return None;
    }
    let due = attempt.called_at.plus_ms(well.deadline_ms);
    let (mended, spells) = held_up(well, attempt, primaries, due)?;
    let held_up = Time(mended.0 - attempt.called_at.0);
    let by = Time(mended.0 + held_up.0).plus_ms(ANSWER_MS);
    let is_served = attempt.end.as_ref().is_some_and(|end| end.at <= by && is_success(&end.answer));
    if by > due || is_served || !well.is_usual(op) {
        return None;
    }
    let (key, node, called, mended) =
        (op.key, attempt.node, attempt.called_at.text(), mended.text());
    let what = format!(
        "k{key}: op {id}, sent to n{node} at {called}, did not succeed by {}, although {spells} links that were cut meanwhile \
         had been well since {mended}, and nothing else was wrong",
        by.text()
    );
    Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: attempt.called, what })
}

/// Since when the links between a key's primaries are well again that were not during an attempt, and how many they were; `None`
/// when there were none, or when something else was wrong.
fn held_up(
    well: &Well<'_>,
    attempt: &Attempt,
    primaries: &[u32],
    due: Time,
) -> Option<(Time, usize)> {
    let from = before(attempt.called_at, SETTLED_MS);
    let concerns = |spell: &&Spell| match spell.place {
        Place::Node(node) => primaries.contains(&node),
        Place::Link(from, to) => primaries.contains(&from) && primaries.contains(&to),
    };
    let spells = well.history().lives.spells.iter();
    let spells: Vec<&Spell> =
        spells.filter(|spell| spell.from <= due && spell.until >= from).filter(concerns).collect();
    let is_short_cut =
        |spell: &&Spell| matches!(spell.place, Place::Link(..)) && spell.from >= attempt.called_at;
    if !spells.iter().all(is_short_cut) {
        return None;
    }
    let mended = spells.iter().map(|spell| spell.until).max().filter(|&until| until <= due)?;
    Some((mended, spells.len()))
}

#[cfg(test)]
mod tests {
    use rondo_core::layout::Quorums;

    use crate::oracle::made::Made;

    use super::*;

    /// A put at 9 s that never ends, with a deadline of 2 s, and these troubles.
    fn told(spells: &[(Place, u64, u64)]) -> usize {
        let mut made = Made::default();
        made.put(0, 3_000, Some(3_010));
        made.put(0, 9_000, None);
        (0..3).for_each(|node| made.ends(0, node, &[(0, 7, 1)]));
        let mut history = made.history();
        history.terms.quorums = Some(Quorums { n: 3, r: 2, w: 2 });
        history.terms.plain_deadline_ms = Some(2_000);
        history.healed = crate::history::Stamp(20_000);
        let spell = |&(place, from, until)| Spell {
            place,
            from: Time::at_ms(from),
            until: Time::at_ms(until),
        };
        history.lives.spells = spells.iter().map(spell).collect();
        check(&Index::of(&history)).len()
    }

    #[test]
    fn a_request_that_a_short_cut_stops_for_ever_is_found() {
        assert_eq!(told(&[(Place::Link(0, 1), 9_001, 9_050)]), 1);
        let both = [(Place::Link(0, 1), 9_001, 9_050), (Place::Link(2, 0), 9_100, 9_400)];
        assert_eq!(told(&both), 1);
    }

    #[test]
    fn long_cuts_earlier_ones_and_other_troubles_explain_it() {
        assert_eq!(told(&[(Place::Link(0, 1), 9_001, 9_600)]), 0, "no time is left");
        assert_eq!(told(&[(Place::Link(0, 1), 8_900, 9_050)]), 0, "a peer may be held for dead");
        let node = (Place::Node(2), 9_000, 9_020);
        assert_eq!(told(&[(Place::Link(0, 1), 9_001, 9_050), node]), 0);
        assert_eq!(told(&[]), 0, "that is for another oracle");
    }
}
