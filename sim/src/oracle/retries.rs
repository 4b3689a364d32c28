//! Who wrote for a request knows it: a later attempt at the node that issued the request's dot, while that life of it remembers the
//! request, is told that the write is stored, whoever has overwritten it since.
//!
//! The node holds the dot itself, so once all has been well for some time nothing can keep it from finding it and bringing it to
//! as many as its level asks for. "Indeterminate" would be legal, and would leave a client for ever in doubt about a write that is there.
//! A request is remembered for twice its deadline after its end. Left out: attempts that changed what they asked for, and those that did
//! not wait for the end of the one before.

use rondo_core::layout::keyspace::Level;

use crate::history::{Attempt, Op, Sighting, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::oracle::well::{Well, before, is_success};

const NAME: &str = "retries";
/// For how long all has to have been well before, in milliseconds: nobody is held for dead any more.
const SETTLED_MS: u64 = 3_000;
/// How much earlier a node may forget a request than was said, in milliseconds: its clock drifts.
const FORGETS_MS: u64 = 100;

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let Some(well) = Well::of(index) else {
        return Vec::new();
    };
    let ops = index.history.ops.iter().enumerate();
    let named = ops.filter(|(_, op)| op.writes() && op.attempts.len() > 1 && well.is_usual(op));
    named.flat_map(|(id, op)| failed(&well, id, op)).collect()
}

fn failed(well: &Well<'_>, id: usize, op: &Op) -> Option<Violation> {
    let written = written(well, id, op)?;
    let pairs = op.attempts.iter().zip(&op.attempts[1..]);
    let attempt = pairs
        .filter(|(earlier, attempt)| is_known(well, (earlier, attempt), written))
        .map(|(_, attempt)| attempt)
        .find(|attempt| is_unserved(well, op, attempt))?;
    let (key, node, called) = (op.key, attempt.node, attempt.called_at.text());
    let what = format!(
        "k{key}: op {id}, tried again at n{node} at {called}, was not told that it is stored, although that node has written \
         it in this life, and all had been well for {SETTLED_MS} ms"
    );
    Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: attempt.called, what })
}

/// The version that a request wrote.
fn written<'a>(well: &Well<'a>, id: usize, op: &Op) -> Option<&'a Sighting> {
    let dot = well.index.dot(op.key, id as u32)?;
    let all = well.index.history.sightings.get(&(op.key, dot))?;
    all.iter().find(|seen| seen.request == op.request)
}

/// Whether the node that an attempt asks remembers what it wrote for the one before.
fn is_known(well: &Well<'_>, (earlier, attempt): (&Attempt, &Attempt), written: &Sighting) -> bool {
    let Some(end) = &earlier.end else {
        return false;
    };
    let latest = attempt.end.as_ref().map_or(Stamp::NEVER, |end| end.stamp);
    let lives = &well.history().lives.boots;
    let is_one_life = !lives
        .iter()
        .any(|boot| boot.node == attempt.node && boot.stamp > written.stamp && boot.stamp < latest);
    let is_unchanged = earlier.change.is_none() && attempt.change.is_none();
    is_unchanged
        && attempt.node == written.issuer
        && earlier.node == written.issuer
        && (earlier.called..end.stamp).contains(&written.stamp)
        && attempt.called > end.stamp
        && attempt.called_at <= end.at.plus_ms((2 * well.deadline_ms).saturating_sub(FORGETS_MS))
        && is_one_life
}

/// Whether an attempt had no success, although all was well.
fn is_unserved(well: &Well<'_>, op: &Op, attempt: &Attempt) -> bool {
    let Some(within_ms) = well.within_ms() else {
        return false;
    };
    let due = attempt.called_at.plus_ms(within_ms);
    let is_served =
        attempt.end.as_ref().is_some_and(|end| end.at <= due && is_success(&end.answer));
    let Some(quorums) = well.history().terms.quorums.filter(|_| !is_served) else {
        return false;
    };
    let until = attempt.end.as_ref().map_or(due, |end| end.at.min(due));
    let wrong = well.wrong(before(attempt.called_at, SETTLED_MS), until);
    let reached = wrong.reached(attempt.node, well.primaries(op.key));
    let needed = match op.level {
        Level::All => quorums.n,
        Level::Quorum | Level::One => quorums.r.max(quorums.w),
    };
    attempt.due.is_some()
        && attempt.called < well.history().healed
        && reached.contains(&attempt.node)
        && reached.len() >= usize::from(needed)
}

#[cfg(test)]
mod tests {
    use rondo_core::layout::Quorums;

    use crate::history::{Answer, Boot, End, History, Place, Spell};
    use crate::oracle::made::Made;
    use crate::rt::Time;

    use super::*;

    /// A put that its first attempt wrote, and did not bring to enough; the second one, at the same node, is answered so.
    fn tried_again(answer: Answer, change: impl Fn(&mut History)) -> usize {
        let mut made = Made::default();
        made.put(0, 3_000, Some(3_010));
        made.put(0, 9_000, Some(10_000)).dot(7, 1);
        (0..3).for_each(|node| made.ends(0, node, &[(0, 7, 2)]));
        let mut history = made.history();
        let seen = history.sightings.values_mut().flatten().find(|seen| seen.stamp == Stamp(9_000));
        seen.expect("it was stored").stamp = Stamp(9_001);
        let op = &mut history.ops[1];
        op.attempts[0].end.as_mut().expect("it ended").answer = Answer::Indeterminate;
        let end = Some(End { stamp: Stamp(10_510), at: Time::at_ms(10_510), answer });
        let (called, called_at) = (Stamp(10_500), Time::at_ms(10_500));
        op.attempts.push(Attempt { called, called_at, end, ..op.attempts[0].clone() });
        history.terms.quorums = Some(Quorums { n: 3, r: 2, w: 2 });
        history.terms.plain_deadline_ms = Some(1_000);
        history.healed = Stamp(20_000);
        change(&mut history);
        check(&Index::of(&history)).len()
    }

    #[test]
    fn an_attempt_that_does_not_find_what_its_node_wrote_is_told() {
        assert_eq!(tried_again(Answer::Indeterminate, |_| {}), 1);
        assert_eq!(tried_again(Answer::Refused("no".to_owned()), |_| {}), 1);
    }

    #[test]
    fn what_is_found_elsewhere_forgotten_or_cut_off_is_no_matter() {
        let stored = Answer::Stored {
            context: Default::default(),
            version: Default::default(),
            by: Default::default(),
        };
        assert_eq!(tried_again(stored, |_| {}), 0);
        let unknown = |change: fn(&mut History)| tried_again(Answer::Indeterminate, change);
        assert_eq!(unknown(|history| history.ops[1].attempts[1].node = 2), 0, "another node");
        let boot = Boot { node: 0, stamp: Stamp(10_200), epoch: 2 };
        let over = unknown(|_| {})
            - tried_again(Answer::Indeterminate, |history| {
                history.lives.boots.push(boot);
            });
        assert_eq!(over, 1, "another life");
        let cut = |history: &mut History, other| {
            let (from, until) = (Time::at_ms(10_400), Time::at_ms(10_600));
            history.lives.spells.push(Spell { place: Place::Link(0, other), from, until });
        };
        let cut_off = tried_again(Answer::Indeterminate, |history| {
            cut(history, 1);
            cut(history, 2);
        });
        assert_eq!(cut_off, 0);
        assert_eq!(tried_again(Answer::Indeterminate, |history| cut(history, 1)), 1, "n2 is there");
    }
}
