//! A value that is told to stay for some time is told of for that time, and not after it.
//!
//! The node that a client asks fixes when a value ends, by its clock as far as its peers' allow, and the node that a reader asks judges by
//! its own. How far these may be from the time of the run is known where no clock is set meanwhile (`Terms::clocks_apart_ms`); only then is
//! anything judged.
//! That no value ends too early is asked by `linearizable`: until a value may have ended, a read that finds nothing needs a delete.
//! Afterwards such a read may have met the end of any such value of its key, and says nothing of the order of writes.

use crate::history::{Attempt, History, Op};
use crate::oracle::Violation;
use crate::oracle::index::{Index, OfKey};
use crate::rt::Time;

const NAME: &str = "expiry";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let Some(apart_ms) = index.history.terms.clocks_apart_ms else {
        return Vec::new();
    };
    index.keys.iter().flat_map(|of| told_too_late(index.history, of, apart_ms)).collect()
}

fn told_too_late(history: &History, of: &OfKey, apart_ms: u64) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for told in &of.told {
        let reader = of.facts[told.place as usize].id;
        let Some(read_at) = history.ops[reader as usize].attempts.first().map(|one| one.called_at)
        else {
            continue;
        };
        for &old in of.shown(told) {
            let Some(end) = history.ops.get(old as usize).and_then(last_end) else {
                continue;
            };
            if read_at > end.plus_ms(2 * apart_ms) {
                let (key, ttl_ms) =
                    (of.key, history.ops[old as usize].action.ttl_ms().unwrap_or(0));
                let (at, since) = (read_at.text(), end.text());
                let what = format!(
                    "k{key}: op {reader}, called at {at}, is told of op {old}, which was to stay for {ttl_ms} ms and had ended at {since}"
                );
                wrong.push(Violation::safety(NAME, told.at, what));
            }
        }
    }
    wrong
}

/// When its value ends at the latest, by a right clock; `None` where it stays, or a node may still take on an attempt that has no end.
fn last_end(op: &Op) -> Option<Time> {
    let taken_on = |attempt: &Attempt| Some(attempt.end.as_ref()?.at);
    let all: Option<Vec<Time>> = op.attempts.iter().map(taken_on).collect();
    let last = all?.into_iter().max()?;
    Some(last.plus_ms(u64::from(op.action.ttl_ms()?)))
}

#[cfg(test)]
mod tests {
    use crate::oracle::linearizable;
    use crate::oracle::made::Made;

    use super::*;

    /// A value that is put for 5 s from 1 to 2 ms, where clocks are 100 ms apart.
    fn made() -> (Made, usize) {
        let mut made = Made::default();
        made.clocks_apart(100);
        let put = made.put(0, 1, Some(2)).dot(7, 1).stays(5_000).id();
        (made, put)
    }

    #[test]
    fn a_value_that_is_told_long_after_its_end_is_found() {
        let (mut made, put) = made();
        made.get(0, 5_100, 5_101, &[put]);
        made.get(0, 5_300, 5_301, &[put]);
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("k0: op 2, called at "), "{told:?}");
    }

    #[test]
    fn a_read_that_finds_nothing_needs_a_delete_until_the_value_may_have_ended() {
        for (at, is_wrong) in [(4_000, true), (4_900, false), (6_000, false)] {
            let (mut made, _) = made();
            made.miss(0, at, at + 1, Some(0));
            let history = made.history();
            let wrong = linearizable::check(&Index::of(&history));
            assert_eq!(!wrong.is_empty(), is_wrong, "at {at}: {wrong:?}");
        }
    }
}
