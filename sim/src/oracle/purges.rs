//! What is deleted and expired goes for good: where nodes purge and compare their copies, nothing of it is left some time after all
//! is well.
//!
//! That nothing goes too early, or comes back, the others ask: `no-lost-write` and `linearizable` of values, `resurrection` of what was
//! deleted, `readings` of numbers that are used twice.

use crate::history::Stamp;
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::watch::describe;

const NAME: &str = "purges";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let left = index.history.ends.unpurged.iter().map(|last| {
        let state = describe::state(&last.state);
        let what =
            format!("k{}: n{} still has {state}, and should have purged it", last.key, last.node);
        Violation { oracle: NAME, verdict: Verdict::Liveness, at: Stamp::NEVER, what }
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use crate::history::Final;
    use crate::oracle::made::Made;

    use super::*;

    #[test]
    fn what_is_left_is_told() {
        let mut history = Made::default().history();
        assert_eq!(check(&Index::of(&history)), []);
        history.ends.unpurged.push(Final { key: 3, node: 1, state: Default::default() });
        let told = check(&Index::of(&history));
        assert_eq!((told.len(), told[0].verdict), (1, Verdict::Liveness));
        assert!(told[0].what.starts_with("k3: n1 still has"), "{}", told[0].what);
    }
}
