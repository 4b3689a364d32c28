//! Nobody who reads at `quorum` or `all` falls behind: the answer knows all that was known when the read began.
//!
//! Whatever context an acknowledged write or an answered read at `quorum` or `all` has handed out is held by W replicas, so
//! every later read of the key at these levels meets one of them and its context covers it. Reading your own writes and
//! reading ever newer states, for one client and for all of them together, are special cases of this.
//! Where quorums do not meet, this holds of what `all` and anybody else have in common: a read at `all` knows what any write was
//! told, at `one` too. Left out: reads at `one`, which are promised nothing of the kind; their staleness is a number in the report.

use rondo_core::layout::keyspace::Level;

use rondo_core::version::runs::{Run, Runs};

use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind, Told};
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "freshness";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let of_key = |of| {
        [Level::Quorum, Level::All].into_iter().flat_map(move |level| of_level(index, of, level))
    };
    index.keys.iter().flat_map(of_key).collect()
}

/// The reads of one level.
fn of_level(index: &Index<'_>, of: &OfKey, level: Level) -> Vec<Violation> {
    let is_met = |told: &&Told| match of.facts[told.place as usize] {
        // What a read at `one` saw is held by nobody for certain, what another saw by W.
        Fact { kind: Kind::Get, level: Level::One, .. } => false,
        Fact { kind: Kind::Get, .. } => index.meets.asks(level, Some(Level::Quorum)),
        Fact { held, .. } => index.meets.asks(level, held),
    };
    let mut told = of.told.iter().filter(is_met).peekable();
    let of_level = of.strict_reads().filter(|(read, _)| read.level == level);
    let mut reads: Vec<(&Fact, &Told)> = of_level.collect();
    reads.sort_by_key(|(_, read)| read.began);
    // What was known when the read began, and what the read knows, by slot.
    let mut known = vec![Runs::default(); of.actors()];
    let mut knows = vec![Runs::default(); of.actors()];
    let mut wrong = Vec::new();
    for (fact, read) in reads {
        while let Some(earlier) = told.next_if(|told| told.at < read.began) {
            for &(slot, run) in of.clock(earlier.clock) {
                known[slot as usize].add(run);
            }
        }
        knows.fill(Runs::default());
        for &(slot, run) in of.clock(read.clock) {
            knows[slot as usize].add(run);
        }
        for &(slot, n) in &of.given_up {
            knows[slot as usize].add(Run { from: n, to: n });
        }
        if let Some(slot) = (0..known.len()).find(|&slot| !knows[slot].has_all(&known[slot])) {
            let (key, id, actor) = (of.key, fact.id, of.actor(slot as u32));
            let (has, n) = (knows[slot].highest(), known[slot].highest());
            let what = format!(
                "k{key}: the read op {id} knows dots of {actor} up to {has}, but they were known up to \
                 {n} before it began"
            );
            wrong.push(Violation::safety(NAME, read.at, what));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use rondo_core::version::dvv::VersionVector;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_read_that_knows_less_than_an_earlier_answer_is_found() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).knows(clock(7, 2)).id();
        made.get(0, 3, 4, &[put]).knows(clock(7, 1));
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        let expect = "k0: the read op 1 knows dots of 0000000000000007 up to 1, but they were known up to 2 \
                      before it began";
        assert_eq!(told, [expect]);
    }

    #[test]
    fn what_was_not_known_yet_and_what_level_one_says_is_no_measure() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).knows(clock(7, 1)).id();
        made.get(0, 3, 9, &[put]).knows(clock(7, 1));
        made.put(0, 4, Some(5)).knows(clock(7, 2));
        made.put(0, 4, Some(5)).at_one().knows(clock(8, 1));
        made.get(0, 10, 11, &[put]).at_one().knows(VersionVector::default());
        made.get(0, 10, 11, &[put]).knows(clock(7, 2));
        made.get(1, 10, 11, &[]).knows(VersionVector::default());
        assert_eq!(check(&Index::of(&made.history())), []);
    }
}
