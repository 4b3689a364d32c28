//! A context does not lie: what it covers was shown to the client, or overwritten by a write that may have known it.
//!
//! A context that covers a write which its reader never saw lets the reader's next write destroy it unseen. Lost
//! writes hide behind exactly this, which is why it is checked on its own, for reads and for the contexts that
//! writes hand out. Deletes are not shown, so only puts are looked for; and a read of a key whose newest
//! version may be a delete shows nothing, whatever stands beside it.

use crate::history::{History, Op, Stamp};
use crate::oracle::Violation;
use crate::oracle::overwritten::Writes;
use crate::scenario::Action;

const NAME: &str = "coverage";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for key in 0..history.keys() {
        let writes = Writes::of(history, key);
        for (id, op) in history.of_key(key) {
            wrong.extend(hidden(&writes, id, op));
        }
    }
    wrong
}

/// The puts that an operation's contexts cover without having shown them.
fn hidden(writes: &Writes<'_>, id: usize, op: &Op) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let shown = op.read().map(|(_, values, _)| values);
    if shown.is_some_and(<[_]>::is_empty) && may_be_deleted(writes, op) {
        return wrong;
    }
    for (at, context) in op.contexts() {
        for (other_id, other) in writes.all() {
            let is_shown = shown.unwrap_or_default().iter().any(|seen| seen.op == Some(other_id));
            let is_put = matches!(other.action, Action::Put { .. });
            let covered = writes.dot(other).is_some_and(|dot| context.clock.covers(dot));
            let excused = other_id == id || is_shown || !is_put || !covered;
            if !excused && !writes.may_have_overwritten(other, at) {
                let key = op.key;
                let what = format!(
                    "k{key}: the context that op {id} was given covers op {other_id}, which it was \
                     not shown and nobody had overwritten"
                );
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    wrong
}

fn may_be_deleted(writes: &Writes<'_>, read: &Op) -> bool {
    let ended = read.read().map_or(Stamp::NEVER, |(ended, ..)| ended);
    writes.all().any(|(_, op)| matches!(op.action, Action::Delete { .. }) && op.called() < ended)
}

#[cfg(test)]
mod tests {
    use rondo_core::version::dvv::Clock;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_context_that_covers_a_hidden_sibling_is_found() {
        let mut made = Made::default();
        let one = made.put(0, 1, Some(2)).sent(Clock::default()).dot(7, 1).id();
        let two = made.put(0, 3, Some(4)).sent(Clock::default()).dot(7, 2).id();
        made.get(0, 5, 6, &[two, one]).knows(clock(7, 2));
        made.get(0, 7, 8, &[two]).knows(clock(7, 2));
        let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("k0: the context that op 3 was given covers op 0"), "{told:?}");
    }

    #[test]
    fn what_was_overwritten_need_not_be_shown() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).sent(Clock::default()).dot(7, 1);
        let two = made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(7, 2).knows(clock(7, 2)).id();
        made.get(0, 5, 6, &[two]).knows(clock(7, 2));
        assert_eq!(check(&made.history()), []);
    }

    #[test]
    fn a_write_that_is_told_more_than_it_knew_is_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).sent(Clock::default()).dot(7, 1);
        made.put(0, 3, Some(4)).sent(Clock::default()).dot(7, 2).knows(clock(7, 2));
        assert_eq!(check(&made.history()).len(), 1);
    }
}
