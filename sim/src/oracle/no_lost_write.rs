//! No acknowledged write is lost: at the end it is there, or a write that may have known it has overwritten it.
//!
//! What was purged was there until everybody had it.
//!
//! This holds for every level, because the simulated disks keep what was synced; where rot has lasted, of level `one` only what
//! a second replica heard of, so nothing is asked of that level then. It is asked of the states that the replicas hold at the end,
//! deletes included.

use rondo_core::layout::keyspace::Level;

use crate::history::Stamp;
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::overwritten;

const NAME: &str = "no-lost-write";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for of in &index.keys {
        let finals = index.finals(of.key);
        if finals.is_empty() {
            continue;
        }
        let gone = overwritten::may_be_gone(of);
        let mut is_there = vec![false; of.facts.len()];
        let states = finals.iter().map(|last| &last.state).chain(index.purged(of.key));
        for place in states.flat_map(|state| index.held(of, state)) {
            is_there[place as usize] = true;
        }
        for (place, fact) in of.facts.iter().enumerate().filter(|(_, fact)| fact.happened()) {
            let is_acked = fact.acked() < Stamp::NEVER
                && !(index.history.lives.has_rotted && fact.level == Level::One);
            if is_acked && gone[place].0 == Stamp::NEVER && !is_there[place] {
                let (key, id, level) = (of.key, fact.id, fact.level);
                let what = format!("k{key}: op {id}, acknowledged at {level}, is gone at the end");
                wrong.push(Violation::safety(NAME, fact.acked(), what));
            }
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
    fn an_acknowledged_write_that_nobody_holds_is_found() {
        let mut made = Made::default();
        let lost = made.put(0, 1, Some(2)).dot(7, 1).id();
        made.put(0, 3, None).sent(VersionVector::default()).dot(7, 2);
        let there = made.put(0, 5, Some(6)).sent(VersionVector::default()).dot(8, 1).id();
        made.ends(0, 0, &[(there, 8, 1)]);
        made.ends(0, 1, &[]);
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        assert_eq!(told, [format!("k0: op {lost}, acknowledged at quorum, is gone at the end")]);
    }

    #[test]
    fn what_a_later_write_covered_and_what_was_never_acknowledged_may_be_gone() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(0, 1, Some(2)).refused();
        let last = made.delete(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1).id();
        made.ends(0, 0, &[(last, 8, 1)]);
        assert_eq!(check(&Index::of(&made.history())), []);
    }

    #[test]
    fn a_delete_that_is_gone_is_lost_too() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1).id();
        made.delete(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1);
        made.ends(0, 0, &[(put, 7, 1)]);
        assert_eq!(check(&Index::of(&made.history())).len(), 1);
    }
}
