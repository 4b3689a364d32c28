//! After the heal all primaries of a key hold the very same state: where nodes compare their copies, before anybody reads it; and
//! everywhere after one read of each key at `all`.

use crate::history::{Final, Stamp, UNREAD_MS};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::watch::describe;

const NAME: &str = "convergence";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let read = index.history.ends.read.iter().map(|last| known(index, last));
    let finals = unequal(&read.collect::<Vec<Final>>());
    let finals = finals.into_iter().map(|what| Violation::safety(NAME, Stamp::NEVER, what));
    let unread = unequal(&index.history.ends.unread).into_iter().map(|what| {
        let what = format!("{what}, {UNREAD_MS} ms after all was well and before anybody read it");
        Violation { oracle: NAME, verdict: Verdict::Liveness, at: Stamp::NEVER, what }
    });
    finals.chain(unread).collect()
}

/// A copy with what was purged of its key: a purge may be under way when all is looked at, and goes on until all have done it.
fn known(index: &Index<'_>, last: &Final) -> Final {
    let mut known = last.clone();
    for state in index.purged(last.key) {
        known.state.merge(state);
    }
    known
}

/// Each two copies that follow each other and differ.
fn unequal(copies: &[Final]) -> Vec<String> {
    let differ = |pair: &[&Final]| pair[0].key == pair[1].key && pair[0].state != pair[1].state;
    let mut copies: Vec<&Final> = copies.iter().collect();
    copies.sort_by_key(|last| (last.key, last.node));
    let told = |pair: &[&Final]| {
        let state = |last: &Final| format!("n{} {}", last.node, describe::state(&last.state));
        format!("k{}: {} but {}", pair[0].key, state(pair[0]), state(pair[1]))
    };
    copies.windows(2).filter(|pair| differ(pair)).map(told).collect()
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::Made;

    use super::*;

    #[test]
    fn primaries_that_differ_are_found() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).id();
        let other = made.put(1, 1, Some(2)).id();
        made.ends(0, 0, &[(put, 7, 1)]);
        made.ends(1, 0, &[(other, 7, 1)]);
        made.ends(0, 1, &[(put, 7, 1)]);
        made.ends(1, 1, &[]);
        let mut history = made.history();
        let told = check(&Index::of(&history));
        assert_eq!(told.len(), 1);
        assert!(
            told[0].what.starts_with("k1: n0 {0000:1-1[1=1@2.0]} but n1 {}"),
            "{}",
            told[0].what
        );
        history.ends.unread = std::mem::take(&mut history.ends.read);
        let told = check(&Index::of(&history));
        assert_eq!((told.len(), told[0].verdict), (1, Verdict::Liveness));
        assert!(told[0].what.ends_with("before anybody read it"), "{}", told[0].what);
        history.ends.unread.truncate(2);
        assert_eq!(check(&Index::of(&history)), [], "equal copies");
    }
}
