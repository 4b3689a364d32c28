//! A part of the cluster that is whole and big enough for every quorum goes on: it serves within 8 s, and what its largest record
//! needs on a slow link; and it becomes equal within 30 s.
//!
//! A call counts from the first try; a client repeats what fails, because a node has to learn who is gone. Nothing is excused:
//! the nodes that are left are healed, and whoever is gone is gone for good as far as they know. Which keys have to become
//! equal is said in `survivors`.

use crate::history::{Served, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;

const NAME: &str = "liveness";
/// How long a client may have to repeat a call, in milliseconds.
const SERVED_MS: u64 = 8_000;
/// How long copies may differ, in milliseconds.
const EQUAL_MS: u64 = 30_000;

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let history = index.history;
    let Some(survivors) = history.survivors.as_ref().filter(|_| history.troubles.is_empty()) else {
        return Vec::new();
    };
    let left: Vec<String> = survivors.nodes.iter().map(|node| format!("n{node}")).collect();
    let left = left.join(", ");
    let in_time = |served: &&Served, ms| served.at.is_some_and(|at| at <= served.since.plus_ms(ms));
    let served_ms = SERVED_MS + survivors.largest_record_ms;
    let slow = survivors.served.iter().filter(|served| !in_time(served, served_ms));
    let slow = slow.map(|Served { what, key, node, .. }| {
        format!(
            "k{key}: with only {left} left, no {what} at n{node} succeeds within {served_ms} ms"
        )
    });
    let unequal = survivors.equal.iter().filter(|served| !in_time(served, EQUAL_MS));
    let unequal = unequal.map(|Served { key, .. }| {
        format!("k{key}: with only {left} left, its copies there differ after {EQUAL_MS} ms")
    });
    let violation =
        |what| Violation { oracle: NAME, verdict: Verdict::Liveness, at: Stamp::NEVER, what };
    slow.chain(unequal).map(violation).collect()
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Stuck, Survivors, Trouble};
    use crate::rt::Time;

    use super::*;

    fn history(served_ms: Option<u64>, equal_ms: Option<u64>) -> History {
        let since = Time::at_ms(5_000);
        let row = |what, ms: Option<u64>| {
            let at = ms.map(|ms| since.plus_ms(ms));
            vec![Served { what, key: 3, node: 1, since, at }]
        };
        let (served, equal) = (row("get", served_ms), row("equal", equal_ms));
        let survivors =
            Survivors { nodes: vec![0, 1], began: since, served, equal, ..Survivors::default() };
        History { survivors: Some(survivors), ..History::default() }
    }

    #[test]
    fn what_is_late_or_never_comes_is_found() {
        for late in [Some(8_001), None] {
            let told = check(&Index::of(&history(late, Some(1))));
            let what = "k3: with only n0, n1 left, no get at n1 succeeds within 8000 ms";
            assert_eq!((told.len(), told[0].what.as_str()), (1, what));
            assert_eq!(told[0].verdict, Verdict::Liveness);
        }
        for late in [Some(30_001), None] {
            let told = check(&Index::of(&history(Some(1), late)));
            let what = "k3: with only n0, n1 left, its copies there differ after 30000 ms";
            assert_eq!((told.len(), told[0].what.as_str()), (1, what));
        }
    }

    #[test]
    fn what_is_in_time_is_no_matter_and_a_run_that_was_cut_short_shows_nothing() {
        assert_eq!(check(&Index::of(&history(Some(8_000), Some(30_000)))), []);
        assert_eq!(check(&Index::of(&History::default())), []);
        let mut short = history(None, None);
        short.troubles.push(Trouble::Stuck(Stuck::Operation));
        assert_eq!(check(&Index::of(&short)), []);
    }
}
