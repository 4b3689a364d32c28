//! How old what readers saw was: no promise, but a number for the report, as probabilistically bounded staleness counts it.
//!
//! A read misses a write that had been acknowledged before the read was called and that the read's context does not cover. It is
//! behind by as many writes as it misses, and by the time since the first of them was acknowledged. Whoever finds nothing of what was
//! purged meanwhile misses nothing. At `quorum` and `all` both are zero, which the oracle `freshness` demands; at `one` they are what
//! the level costs.

use std::collections::BTreeMap;

use rondo_core::id::RequestId;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::{Dot, VersionVector};

use crate::history::{Answer, History, Op, Purged, Stamp};
use crate::rt::Time;

/// One read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Staleness {
    /// Its level.
    pub level: Level,
    /// How many acknowledged writes it missed.
    pub missing: u64,
    /// Since when the first of them had been acknowledged when it was called, in microseconds.
    pub behind_us: u64,
}

/// An acknowledged write.
struct Acked {
    key: u32,
    dot: Dot,
    stamp: Stamp,
    at: Time,
}

/// All reads that were answered, in their order.
#[must_use]
pub fn of(history: &History) -> Vec<Staleness> {
    let seen = history.sightings.iter();
    let seen = seen.flat_map(|(&(_, dot), all)| all.iter().map(move |one| (one.request, dot)));
    let dots: BTreeMap<RequestId, Dot> = seen.collect();
    let writes: Vec<Acked> = history.ops.iter().filter_map(|op| acked(op, &dots)).collect();
    history.ops.iter().filter_map(|op| staleness(op, &writes, &history.lives.purged)).collect()
}

fn acked(op: &Op, dots: &BTreeMap<RequestId, Dot>) -> Option<Acked> {
    let ends = op.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
    let stored = ends.filter(|end| matches!(end.answer, Answer::Stored { .. }));
    let end = stored.min_by_key(|end| end.stamp)?;
    Some(Acked { key: op.key, dot: *dots.get(&op.request)?, stamp: end.stamp, at: end.at })
}

fn staleness(op: &Op, writes: &[Acked], purged: &[Purged]) -> Option<Staleness> {
    let (ended, _, context) = op.read()?;
    let attempt = op.attempts.iter().rfind(|attempt| attempt.called < ended)?;
    let earlier = writes.iter().filter(|write| write.key == op.key && write.stamp < attempt.called);
    let gone = purged.iter().filter(|of| of.key == op.key && of.stamp < ended);
    let gone: Vec<VersionVector> = gone.map(|of| of.state.clock()).collect();
    let knows = |dot| context.clock.covers(dot) || gone.iter().any(|clock| clock.covers(dot));
    let missed = earlier.filter(|write| !knows(write.dot));
    let (mut missing, mut behind_us) = (0, 0);
    for write in missed {
        missing += 1;
        behind_us = behind_us.max(attempt.called_at.0.saturating_sub(write.at.0) / 1_000);
    }
    Some(Staleness { level: op.level, missing, behind_us })
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_read_is_behind_by_what_was_acknowledged_before_it_and_what_its_context_lacks() {
        let mut made = Made::default();
        let seen = made.put(0, 1, Some(2)).dot(7, 1).id();
        made.put(0, 3, Some(4)).dot(7, 2);
        made.put(0, 5, Some(8)).dot(8, 1);
        made.put(0, 5, Some(20)).dot(9, 1);
        made.put(1, 5, Some(6)).dot(7, 9);
        made.put(0, 5, None).dot(7, 3);
        made.get(0, 11, 12, &[seen]).at_one().knows(clock(7, 1));
        made.get(0, 11, 12, &[seen]).knows(VersionVector::new([
            (rondo_core::id::ActorId(7), 2),
            (rondo_core::id::ActorId(8), 1),
        ]));
        let stale = |level, missing, behind_us| Staleness { level, missing, behind_us };
        let expect = [stale(Level::One, 2, 7_000), stale(Level::Quorum, 0, 0)];
        assert_eq!(of(&made.history()), expect);
    }

    #[test]
    fn who_finds_nothing_of_what_was_purged_misses_nothing() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).dot(7, 1).id();
        let delete = made.delete(0, 3, Some(4)).dot(8, 1).id();
        made.get(0, 9, 10, &[]);
        made.ends(0, 2, &[(put, 7, 1), (delete, 8, 1)]);
        let mut history = made.history();
        assert_eq!(of(&history)[0].missing, 2);
        let state = history.ends.read[0].state.clone();
        history.lives.purged.push(Purged { key: 0, node: 1, stamp: Stamp(7), state });
        assert_eq!(of(&history)[0].missing, 0);
    }
}
