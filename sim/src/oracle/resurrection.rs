//! What was overwritten or deleted stays so: no later read at `quorum` or `all` shows it, and no replica ends with it.
//!
//! A write at `quorum` or `all` that was acknowledged has overwritten, for certain, what its context covers; without a context,
//! every write that had been acknowledged at these levels before it began, because its query round met it. What comes
//! back afterwards has risen from a replica that missed the news (Cassandra's zombie rows, CASSANDRA-1316).
//!
//! A deletion that some owners have purged may stay at the others beside what was written anew meanwhile: the write met
//! an owner that knew of it no more. It shows nothing, and goes with the next write that overwrites it.

use std::collections::BTreeSet;

use crate::history::{Final, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::{Index, OfKey};
use crate::oracle::overwritten::{self, First};

const NAME: &str = "resurrection";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for of in &index.keys {
        let gone = overwritten::must_be_gone(of, index.meets);
        wrong.extend(shown(index, of, &gone));
        for last in index.finals(of.key) {
            wrong.extend(kept(index, of, &gone, last));
        }
    }
    wrong
}

/// Old values that reads have shown.
fn shown(index: &Index<'_>, of: &OfKey, gone: &[First]) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (fact, told) in of.strict_reads() {
        for place in of.shown(told).iter().filter_map(|&old| index.place(of, old)) {
            let (at, by) = gone[place as usize];
            let is_met = |by: u32| index.meets.asks(fact.level, of.facts[by as usize].held);
            if at < fact.called && is_met(by) && of.facts[place as usize].happened() {
                let (key, id, old, by) = (of.key, fact.id, id(of, place), id(of, by));
                let what =
                    format!("k{key}: op {id} shows op {old}, which op {by} had overwritten before");
                wrong.push(Violation::safety(NAME, told.at, what));
            }
        }
    }
    wrong
}

/// Old versions that a replica ends with.
fn kept(index: &Index<'_>, of: &OfKey, gone: &[First], last: &Final) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let purged: BTreeSet<u32> =
        index.purged(of.key).flat_map(|state| index.held(of, state)).collect();
    let is_purged = |place| purged.contains(&place) && of.facts[place as usize].shows_nothing();
    for place in index.held(of, &last.state) {
        let (at, by) = gone[place as usize];
        if at < Stamp::NEVER && !is_purged(place) {
            let (key, node, old, by) = (of.key, last.node, id(of, place), id(of, by));
            let what = format!("k{key}: n{node} ends with op {old}, which op {by} had overwritten");
            wrong.push(Violation::safety(NAME, Stamp::NEVER, what));
        }
    }
    wrong
}

fn id(of: &OfKey, place: u32) -> u32 {
    of.facts[place as usize].id
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Purged};
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_value_that_comes_back_after_its_delete_is_found() {
        for blind in [true, false] {
            let mut made = Made::default();
            let put = made.put(0, 1, Some(2)).dot(7, 1).id();
            let delete = made.delete(0, 3, Some(4)).dot(8, 1);
            let delete = if blind { delete } else { delete.sent(clock(7, 1)) }.id();
            made.get(0, 5, 6, &[put]);
            made.ends(0, 2, &[(put, 7, 1), (delete, 8, 1)]);
            let told: Vec<String> =
                check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
            let expect = [
                "k0: op 2 shows op 0, which op 1 had overwritten before",
                "k0: n2 ends with op 0, which op 1 had overwritten",
            ];
            assert_eq!(told, expect, "blind: {blind}");
        }
    }

    #[test]
    fn a_deletion_that_was_purged_elsewhere_may_stay_and_a_value_may_not() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).dot(7, 1).id();
        let delete = made.delete(0, 3, Some(4)).dot(8, 1).id();
        made.put(0, 5, Some(6)).dot(8, 2);
        made.ends(0, 2, &[(put, 7, 1), (delete, 8, 1)]);
        let mut history = made.history();
        let told = |history: &History| check(&Index::of(history)).len();
        assert_eq!(told(&history), 2);
        let state = history.ends.read[0].state.clone();
        let stamp = Stamp(7);
        history.lives.purged.push(Purged { key: 0, node: 1, stamp, state });
        assert_eq!(told(&history), 1, "the value");
    }

    #[test]
    fn what_ran_beside_the_delete_or_is_not_covered_by_it_may_stay() {
        let mut made = Made::default();
        let beside = made.put(0, 1, Some(4)).dot(7, 1).id();
        made.delete(0, 3, Some(5)).dot(8, 1);
        made.delete(0, 6, Some(7)).sent(clock(9, 1)).dot(8, 2);
        made.get(0, 8, 9, &[beside]);
        made.ends(0, 0, &[(beside, 7, 1)]);
        let unknown = made.put(1, 1, Some(2)).dot(7, 3).id();
        made.delete(1, 3, None).dot(8, 1);
        made.get(1, 5, 6, &[unknown]);
        assert_eq!(check(&Index::of(&made.history())), []);
    }
}
