//! A set of the numbers of one actor's dots, as runs.
//!
//! Nearly always it is one run from 1: a plain counter. A gap is there where somebody knows a later dot and not the one
//! below it: a client that has seen its own write but not the one before it, or an actor that went on after an unclean
//! end without knowing what it had issued last. A counter alone cannot say that, and would have to claim too
//! much (and destroy what nobody saw) or too little (and keep a sibling for ever).
//!
//! Invariants: runs are sorted, not empty, from 1 on, and neither overlap nor touch; so equal sets are equal lists.

use smallvec::SmallVec;

/// The numbers `from..=to`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Run {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// A set of numbers from 1 on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Runs(SmallVec<[Run; 1]>);

impl Runs {
    /// The numbers 1..=n.
    #[must_use]
    pub fn up_to(n: u64) -> Runs {
        let mut runs = Runs::default();
        runs.add(Run { from: 1, to: n });
        runs
    }

    /// These runs, from outside; `None` unless they keep the invariants.
    #[must_use]
    pub fn from_list(runs: SmallVec<[Run; 1]>) -> Option<Runs> {
        let apart = runs.windows(2).all(|pair| pair[0].to < pair[1].from.saturating_sub(1));
        let sound = runs.iter().all(|run| 1 <= run.from && run.from <= run.to);
        (apart && sound).then_some(Runs(runs))
    }

    /// The runs, sorted.
    #[must_use]
    pub fn list(&self) -> &[Run] {
        &self.0
    }

    /// The numbers 1..=n that are not in the set.
    #[must_use]
    pub fn lacks_up_to(&self, n: u64) -> Runs {
        let mut lacks = Runs::default();
        let mut from = 1;
        for run in &self.0 {
            lacks.add(Run { from, to: (run.from - 1).min(n) });
            from = run.to.saturating_add(1);
        }
        lacks.add(Run { from, to: n });
        lacks
    }

    /// Whether no number is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number; 0 of an empty set.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.0.last().map_or(0, |run| run.to)
    }

    /// Whether `n` is in the set.
    #[must_use]
    pub fn has(&self, n: u64) -> bool {
        let at = self.0.partition_point(|run| run.to < n);
        self.0.get(at).is_some_and(|run| run.from <= n)
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn has_all(&self, other: &Runs) -> bool {
        other.0.iter().all(|run| {
            let at = self.0.partition_point(|own| own.to < run.from);
            self.0.get(at).is_some_and(|own| own.from <= run.from && run.to <= own.to)
        })
    }

    /// Adds the numbers of a run; an empty run or number 0 adds nothing. Whether anything was new.
    pub fn add(&mut self, run: Run) -> bool {
        let Run { from, to } = run;
        if from == 0 || to < from {
            return false;
        }
        // Those that overlap it or touch it become one with it.
        let first = self.0.partition_point(|own| own.to < from.saturating_sub(1));
        let last = self.0.partition_point(|own| own.from <= to.saturating_add(1));
        let Some(near) = self.0.get(first..last).filter(|near| !near.is_empty()) else {
            self.0.insert(first, run);
            return true;
        };
        let joined = Run { from: from.min(near[0].from), to: to.max(near[near.len() - 1].to) };
        let changed = near.len() > 1 || near[0] != joined;
        self.0[first] = joined;
        self.0.drain(first + 1..last);
        changed
    }

    /// Adds all of `other`. Whether anything was new.
    pub fn join(&mut self, other: &Runs) -> bool {
        let mut changed = false;
        for &run in &other.0 {
            changed |= self.add(run);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::{Run, Runs};

    fn plain(runs: &Runs) -> BTreeSet<u64> {
        runs.list().iter().flat_map(|run| run.from..=run.to).collect()
    }

    #[test]
    fn runs_that_touch_become_one() {
        let mut runs = Runs::up_to(2);
        assert!(runs.add(Run { from: 5, to: 6 }));
        assert!(runs.add(Run { from: 9, to: 9 }));
        assert!(!runs.add(Run { from: 5, to: 6 }) && !runs.add(Run { from: 3, to: 2 }));
        assert_eq!(runs.list().len(), 3);
        assert!(runs.add(Run { from: 3, to: 8 }));
        assert_eq!(runs, Runs::up_to(9));
        assert_eq!(runs.highest(), 9);
    }

    #[test]
    fn what_breaks_the_form_is_refused() {
        let list = |runs: &[(u64, u64)]| {
            let runs = runs.iter().map(|&(from, to)| Run { from, to });
            Runs::from_list(runs.collect()).is_some()
        };
        assert!(list(&[]) && list(&[(1, 1), (3, 9)]));
        for bad in
            [&[(0, 1)][..], &[(2, 1)], &[(1, 1), (2, 2)], &[(4, 5), (1, 2)], &[(1, 4), (3, 9)]]
        {
            assert!(!list(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_sets(
            one in prop::collection::vec((0u64..24, 0u64..5), 0..8),
            other in prop::collection::vec((0u64..24, 0u64..5), 0..8),
        ) {
            let build = |list: &[(u64, u64)]| {
                let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
                for &(from, more) in list {
                    let run = Run { from, to: from + more };
                    let before = set.len();
                    if from > 0 {
                        set.extend(from..=from + more);
                    }
                    assert_eq!(runs.add(run), set.len() > before);
                }
                (runs, set)
            };
            let ((mut runs, mut set), (more, more_set)) = (build(&one), build(&other));
            prop_assert_eq!(plain(&runs), set.clone());
            prop_assert_eq!(Runs::from_list(runs.list().into()), Some(runs.clone()));
            prop_assert_eq!(runs.has_all(&more), set.is_superset(&more_set));
            let news = !set.is_superset(&more_set);
            prop_assert_eq!(runs.join(&more), news);
            set.extend(&more_set);
            prop_assert_eq!(plain(&runs), set.clone());
            prop_assert_eq!(runs.highest(), set.last().copied().unwrap_or(0));
            for n in [0, 7, 40] {
                let lacks: BTreeSet<u64> = (1..=n).filter(|n| !set.contains(n)).collect();
                prop_assert_eq!(plain(&runs.lacks_up_to(n)), lacks);
            }
            for n in 0..32 {
                prop_assert_eq!(runs.has(n), set.contains(&n));
            }
        }
    }
}
