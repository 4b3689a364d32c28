//! After the heal, and one read of each key at `all`, all primaries of a key hold the very same state.

use crate::history::{Final, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::watch::describe;

const NAME: &str = "convergence";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let differ = |pair: &[&Final]| pair[0].key == pair[1].key && pair[0].state != pair[1].state;
    let mut finals: Vec<&Final> = index.history.finals.iter().collect();
    finals.sort_by_key(|last| (last.key, last.node));
    let told = |pair: &[&Final]| {
        let state = |last: &Final| format!("n{} {}", last.node, describe::state(&last.state));
        format!("k{}: {} but {}", pair[0].key, state(pair[0]), state(pair[1]))
    };
    let pairs = finals.windows(2).filter(|pair| differ(pair));
    pairs.map(|pair| Violation::safety(NAME, Stamp::NEVER, told(pair))).collect()
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
        let told = check(&Index::of(&made.history()));
        assert_eq!(told.len(), 1);
        assert!(
            told[0].what.starts_with("k1: n0 {0000:1-1[1=1@2.0]} but n1 {}"),
            "{}",
            told[0].what
        );
    }
}
