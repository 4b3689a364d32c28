//! A refusal is true of the request: "nothing was written" means by none of its attempts.
//!
//! Whoever is told that nothing was written goes another way, and a write that is there all the same comes as a ghost. So when an
//! attempt is refused, no version with that id and that content may have been stored by then, nor be stored before the client
//! sends another attempt. And an attempt that asks for another write under an id that was used is never answered as stored.
//!
//! Left out: requests whose id another request used, because nobody can tell then which of them a node speaks of; and nobody there
//! to ask, which says nothing of earlier attempts. And a bad request after an attempt that asked for something else under the id: a
//! node that met that one first takes the id for its name, and says so (`docs/internals/consistency.md`); of the request that
//! came first elsewhere it knows nothing, and claims nothing.

use std::collections::BTreeMap;

use crate::history::{Answer, Attempt, Op, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::scenario::Change;

const NAME: &str = "refusal";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let stored = first_stored(index);
    let mut wrong = Vec::new();
    for (id, op) in index.history.ops.iter().enumerate() {
        wrong.extend(op.attempts.iter().filter_map(|attempt| another_write(id, op, attempt)));
        if index.shares_its_id(op) {
            continue;
        }
        if let Some(&since) = stored.get(&(id as u32)) {
            wrong.extend((0..op.attempts.len()).filter_map(|at| untrue(id, op, at, since)));
        }
    }
    wrong
}

/// When each operation's own version was first stored.
fn first_stored(index: &Index<'_>) -> BTreeMap<u32, Stamp> {
    let mut first: BTreeMap<u32, Stamp> = BTreeMap::new();
    let sightings = index.history.sightings.values().flatten();
    for (&op, sighting) in index.writers.iter().zip(sightings) {
        let known = first.entry(op).or_insert(Stamp::NEVER);
        *known = sighting.stamp.min(*known);
    }
    first
}

/// An attempt that asks for another write under the same id, and is told that it was done.
fn another_write(id: usize, op: &Op, attempt: &Attempt) -> Option<Violation> {
    let change = attempt.change.filter(|change| change.is_another_write())?;
    let end = attempt.end.as_ref()?;
    let is_stored = matches!(end.answer, Answer::Stored { .. });
    is_stored.then(|| {
        let (key, node) = (op.key, attempt.node);
        let what = format!(
            "k{key}: an attempt of op {id} that asked for another write ({change:?}) was \
             acknowledged by n{node}"
        );
        Violation::safety(NAME, end.stamp, what)
    })
}

/// The attempt at `at` was refused, although the write is stored.
fn untrue(id: usize, op: &Op, at: usize, since: Stamp) -> Option<Violation> {
    let attempt = &op.attempts[at];
    let end = attempt.end.as_ref().filter(|_| asks_the_same(attempt))?;
    let was_another = !op.attempts[..at].iter().all(asks_the_same);
    let reason = match &end.answer {
        Answer::Refused(reason) => reason,
        Answer::BadRequest(reason) if !was_another => reason,
        _ => return None,
    };
    // A later attempt may write what this one did not.
    let next = op.attempts.get(at + 1).map_or(Stamp::NEVER, |next| next.called);
    (since < next).then(|| {
        let (key, number) = (op.key, op.first_attempt as usize + at);
        let what = format!(
            "k{key}: op {id} was told at attempt {number} that nothing was written ({reason}), but it is \
             stored since {since}"
        );
        Violation::safety(NAME, end.stamp, what)
    })
}

/// Whether an attempt asks what its request asks. How long its client waits is its own affair.
fn asks_the_same(attempt: &Attempt) -> bool {
    attempt.change.is_none_or(|change| matches!(change, Change::Deadline(_)))
}

#[cfg(test)]
mod tests {
    use crate::history::{End, History};
    use crate::oracle::made::Made;
    use crate::rt::Time;

    use super::*;

    /// A put of which the first attempt ended unknown, and another one in this way, while it was stored at 1, or never.
    fn history(answer: Answer, change: Option<Change>, is_stored: bool) -> History {
        let mut made = Made::default();
        let put = made.put(0, 1, None);
        if is_stored {
            put.dot(7, 1);
        }
        let mut history = made.history();
        let first = history.ops[0].attempts[0].clone();
        let end = Some(End { stamp: Stamp(9), at: Time::at_ms(9), answer });
        history.ops[0].attempts.push(Attempt { called: Stamp(8), change, end, ..first });
        history
    }

    fn told(history: &History) -> Vec<String> {
        check(&Index::of(history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn nothing_was_written_is_untrue_when_an_earlier_attempt_wrote() {
        let refused = || Answer::Refused("too few".to_owned());
        let expect = "k0: op 0 was told at attempt 2 that nothing was written (too few), but it is \
                      stored since 1";
        assert_eq!(told(&history(refused(), None, true)), [expect]);
        assert_eq!(told(&history(refused(), None, false)), Vec::<String>::new());
        assert_eq!(told(&history(Answer::Unreached, None, true)), Vec::<String>::new());
        assert_eq!(told(&history(Answer::Indeterminate, None, true)), Vec::<String>::new());
        let sooner = history(refused(), Some(Change::Deadline(7)), true);
        assert_eq!(told(&sooner), [expect], "how long a client waits makes no other request");
        let changed = history(refused(), Some(Change::Value), true);
        assert_eq!(told(&changed), Vec::<String>::new(), "of the other write it is true");
    }

    #[test]
    fn a_bad_request_says_nothing_of_the_request_where_its_id_named_another_before() {
        let bad = || Answer::BadRequest("another".to_owned());
        let mut history = history(bad(), None, true);
        assert_eq!(told(&history).len(), 1, "nobody used the id for another");
        history.ops[0].attempts[0].change = Some(Change::Key(3));
        assert_eq!(told(&history), Vec::<String>::new());
    }

    #[test]
    fn what_a_later_attempt_wrote_was_not_written_before() {
        let mut history = history(Answer::Indeterminate, None, true);
        let end = End {
            stamp: Stamp(5),
            at: Time::at_ms(5),
            answer: Answer::Refused("too many".to_owned()),
        };
        history.ops[0].attempts[0].end = Some(end);
        assert_eq!(told(&history).len(), 1, "it was stored before the next attempt");
        for all in history.sightings.values_mut() {
            all[0].stamp = Stamp(8);
        }
        assert_eq!(told(&history), Vec::<String>::new());
    }

    #[test]
    fn another_write_under_the_same_id_is_never_acknowledged() {
        let stored = || Answer::Stored {
            context: Default::default(),
            version: Default::default(),
            by: Default::default(),
        };
        for change in [Change::Key(3), Change::Value, Change::Action] {
            let told = told(&history(stored(), Some(change), true));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains("that asked for another write"), "{told:?}");
        }
        for change in [Change::Deadline(5), Change::Context] {
            assert_eq!(told(&history(stored(), Some(change), true)), Vec::<String>::new());
        }
    }
}
