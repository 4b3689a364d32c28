//! No acknowledged write is lost: at the end it is there, or a write that may have known it has overwritten it.
//!
//! This holds for every level, because the simulated disks keep what was synced. It is asked of the states that
//! the replicas hold at the end, deletes included.

use std::collections::BTreeSet;

use rondo_core::id::RequestId;

use crate::history::{Fate, History, Stamp};
use crate::oracle::Violation;
use crate::oracle::overwritten::Writes;

const NAME: &str = "no-lost-write";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for key in 0..history.keys() {
        let finals = history.finals.iter().filter(|last| last.key == key);
        let versions = finals.clone().flat_map(|last| last.state.versions());
        let there: BTreeSet<RequestId> = versions.map(|(_, version)| version.request).collect();
        if finals.count() == 0 {
            continue;
        }
        let writes = Writes::of(history, key);
        for (id, op) in writes.all() {
            let Fate::Acked(at) = op.fate() else {
                continue;
            };
            if !there.contains(&op.request) && !writes.may_have_overwritten(op, Stamp::NEVER) {
                let level = op.level;
                let what = format!("k{key}: op {id}, acknowledged at {level}, is gone at the end");
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use rondo_core::version::dvv::Clock;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn an_acknowledged_write_that_nobody_holds_is_found() {
        let mut made = Made::default();
        let lost = made.put(0, 1, Some(2)).dot(7, 1).id();
        made.put(0, 3, None).sent(Clock::default()).dot(7, 2);
        let there = made.put(0, 5, Some(6)).sent(Clock::default()).dot(8, 1).id();
        made.ends(0, 0, &[(there, 8, 1)]);
        made.ends(0, 1, &[]);
        let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
        assert_eq!(told, [format!("k0: op {lost}, acknowledged at quorum, is gone at the end")]);
    }

    #[test]
    fn what_a_later_write_covered_and_what_was_never_acknowledged_may_be_gone() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(0, 1, Some(2)).refused();
        let last = made.delete(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1).id();
        made.ends(0, 0, &[(last, 8, 1)]);
        assert_eq!(check(&made.history()), []);
    }

    #[test]
    fn a_delete_that_is_gone_is_lost_too() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).sent(Clock::default()).dot(7, 1).id();
        made.delete(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1);
        made.ends(0, 0, &[(put, 7, 1)]);
        assert_eq!(check(&made.history()).len(), 1);
    }
}
