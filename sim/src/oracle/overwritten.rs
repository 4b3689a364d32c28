//! Which write may have overwritten which: what the other oracles accept as the reason that a value is gone.
//!
//! A write with a context overwrites exactly what its context covers. A blind write overwrites what its coordinator
//! found, which nobody outside knows: it may be any write that was invoked before the blind one ended. So the
//! answer is exact for keys that are written with contexts only, and generous for others.

use std::collections::BTreeMap;

use rondo_core::id::RequestId;
use rondo_core::version::dvv::Dot;

use crate::history::{Fate, History, Op, Stamp};

/// The writes of one key.
pub(super) struct Writes<'a> {
    writes: Vec<(usize, &'a Op)>,
    dots: BTreeMap<RequestId, Dot>,
}

impl<'a> Writes<'a> {
    /// The writes of `key` that may have happened.
    pub(super) fn of(history: &'a History, key: u32) -> Writes<'a> {
        let happened = |op: &Op| op.writes() && op.fate() != Fate::Refused;
        let writes = history.of_key(key).filter(|(_, op)| happened(op)).collect();
        let range = (key, LOWEST)..=(key, HIGHEST);
        let sightings = history.sightings.range(range);
        let dots = sightings.flat_map(|(&(_, dot), all)| all.iter().map(move |s| (s.request, dot)));
        Writes { writes, dots: dots.collect() }
    }

    /// The writes with their ids.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &'a Op)> + '_ {
        self.writes.iter().copied()
    }

    /// The dot of a write, when it was ever seen.
    pub(super) fn dot(&self, op: &Op) -> Option<Dot> {
        self.dots.get(&op.request).copied()
    }

    /// Whether some other write that was invoked before `until` may have overwritten this one.
    pub(super) fn may_have_overwritten(&self, op: &Op, until: Stamp) -> bool {
        self.writes.iter().any(|(_, other)| {
            other.request != op.request && other.called() < until && self.may_cover(other, op)
        })
    }

    /// Whether `other` may have covered `op`.
    fn may_cover(&self, other: &Op, op: &Op) -> bool {
        match &other.sent {
            Some(context) => self.dot(op).is_some_and(|dot| context.clock.covers(dot)),
            None => match other.fate() {
                Fate::Acked(ended) => op.called() < ended,
                Fate::Unknown => true,
                Fate::Refused => false,
            },
        }
    }
}

/// The dots between which all dots of a key are.
pub(super) const LOWEST: Dot = Dot { actor: rondo_core::id::ActorId(0), n: 0 };
/// See `LOWEST`.
pub(super) const HIGHEST: Dot = Dot { actor: rondo_core::id::ActorId(u64::MAX), n: u64::MAX };

#[cfg(test)]
mod tests {
    use crate::history::Stamp;
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_context_overwrites_what_it_covers_and_a_blind_write_what_it_may_have_met() {
        let mut made = Made::default();
        let early = made.put(0, 1, Some(2)).dot(7, 1).id();
        let late = made.put(0, 10, Some(12)).dot(7, 2).id();
        let narrow = made.put(0, 13, Some(14)).sent(clock(7, 1)).dot(8, 1).id();
        let history = made.history();
        let writes = Writes::of(&history, 0);
        let gone = |id: usize, until| writes.may_have_overwritten(&history.ops[id], Stamp(until));
        assert!(gone(early, 20), "the blind write came later and the narrow one covers it");
        assert!(!gone(early, 10), "nothing had been invoked yet");
        assert!(!gone(late, 20), "the first ended before it and the last does not cover it");
        assert!(!gone(narrow, 20));
    }

    #[test]
    fn a_write_that_was_refused_overwrites_nothing_and_an_unknown_one_may_overwrite_anything() {
        for (ended, expect) in [(Some(6), false), (None, true)] {
            let mut made = Made::default();
            let first = made.put(0, 1, Some(2)).dot(7, 1).id();
            let second = made.put(0, 5, ended);
            if ended.is_some() {
                second.refused();
            }
            let history = made.history();
            let writes = Writes::of(&history, 0);
            assert_eq!(writes.may_have_overwritten(&history.ops[first], Stamp::NEVER), expect);
        }
    }
}
