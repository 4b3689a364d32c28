//! A failing scenario made small: whatever is not needed for the failure is taken out.
//!
//! It is delta debugging (Zeller and Hildebrandt, 2002) over the scenario as a value: operations and faults go in chunks
//! that get smaller, then nodes, noise, skew and durations. A candidate counts when the *same oracle* complains of
//! it. The search knows no runner: it is given a function from a scenario to the name of the oracle that complains.
//! The candidates of one step are tried on several threads and the first in their order is taken, so the result does not
//! depend on the number of threads; only a deadline can make two searches differ.
//! What is left to dice moves when messages disappear, so where no candidate fails with the old seed, each is tried with a
//! few others: a small scenario with another seed is worth more than a large one with the first.

mod pieces;

mod simpler;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::scenario::Scenario;

/// How far a search may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads.
    pub jobs: usize,
    /// Candidates that are tried at most, about.
    pub tries_max: u64,
    /// When to stop; what was reached by then is the result.
    pub until: Option<Instant>,
}

/// Where a search stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The smallest scenario so far that fails as the first did.
    pub scenario: Scenario,
    /// Candidates tried so far. One that was tried for nothing, because an earlier one failed, is not counted.
    pub tries: u64,
}

/// How many runs one step may cost when no candidate fails with the scenario's own seed.
const RESEEDED_MAX: usize = 96;
/// How many other seeds are tried at most.
const SEEDS_MAX: usize = 12;
/// The whole sequence of steps is repeated while it helps, at most so often.
const ROUNDS_MAX: usize = 6;

/// Makes `scenario`, of which `oracle` complains, smaller.
///
/// `fails` runs a scenario and names the oracle that complains first; `moved` is shown every step forward.
pub fn shrink(
    scenario: &Scenario,
    oracle: &str,
    limits: Limits,
    fails: impl Fn(&Scenario) -> Option<String> + Sync,
    moved: impl FnMut(&Shrunk),
) -> Shrunk {
    let best = Shrunk { scenario: scenario.clone(), tries: 0 };
    let same = |candidate: &Scenario| fails(candidate).is_some_and(|name| name == oracle);
    let mut search = Search { best, limits, fails: same, moved };
    for _ in 0..ROUNDS_MAX {
        let before = search.best.scenario.clone();
        search.round();
        if search.best.scenario == before || search.is_over() {
            break;
        }
    }
    search.best
}

struct Search<F, M> {
    best: Shrunk,
    limits: Limits,
    fails: F,
    moved: M,
}

impl<F: Fn(&Scenario) -> bool + Sync, M: FnMut(&Shrunk)> Search<F, M> {
    /// Every kind of step once, those that take most away first.
    fn round(&mut self) {
        self.first_of(pieces::one_key);
        self.first_of(pieces::no_faults);
        self.first_of(simpler::ends_early);
        self.chunks(|scenario| scenario.operations.len(), pieces::without_operations);
        self.chunks(|scenario| scenario.faults.len(), pieces::without_faults);
        self.repeat(simpler::fewer_nodes);
        self.repeat(simpler::ends_early);
        self.repeat(simpler::less_noise);
        self.repeat(simpler::simpler_operations);
        self.repeat(simpler::simpler_faults);
    }

    fn is_over(&self) -> bool {
        self.best.tries >= self.limits.tries_max
            || self.limits.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Takes the first of the candidates that fails, if any does.
    fn first_of(&mut self, candidates: fn(&Scenario) -> Vec<Scenario>) -> bool {
        let candidates = candidates(&self.best.scenario);
        self.advance(candidates).is_some()
    }

    /// Takes candidates as long as one fails.
    fn repeat(&mut self, candidates: fn(&Scenario) -> Vec<Scenario>) {
        while self.first_of(candidates) {}
    }

    /// Takes out chunks of a list: all of it, halves, quarters and so on down to single items.
    fn chunks(&mut self, len: fn(&Scenario) -> usize, without: pieces::Without) {
        let mut size = len(&self.best.scenario);
        while size > 0 && !self.is_over() {
            let mut from = 0;
            while from < len(&self.best.scenario) {
                let scenario = &self.best.scenario;
                let starts = (from..len(scenario)).step_by(size);
                let candidates = starts.map(|at| without(scenario, at..at + size)).collect();
                match self.advance(candidates) {
                    // What followed the chunk stands in its place now.
                    Some(which) => from += which * size,
                    None => break,
                }
            }
            size /= 2;
        }
    }

    /// Goes on to the first of the candidates that fails, with this seed or else with another; says which it was.
    fn advance(&mut self, mut candidates: Vec<Scenario>) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let count = candidates.len();
        // What is no scenario, such as one with too few nodes, is no candidate.
        let usable = |candidate: &Scenario| candidate.check().is_ok();
        let seeds = (RESEEDED_MAX / count).min(SEEDS_MAX) as u64;
        for step in 0..=seeds {
            if self.is_over() {
                return None;
            }
            for candidate in &mut candidates {
                candidate.seed = candidate.seed.wrapping_add(u64::from(step > 0));
            }
            let found = first(&candidates, self.limits.jobs, |it| usable(it) && (self.fails)(it));
            self.best.tries += found.map_or(count, |which| which + 1) as u64;
            if let Some(which) = found {
                self.best.scenario = candidates.swap_remove(which);
                (self.moved)(&self.best);
                return Some(which);
            }
        }
        None
    }
}

/// The first item, in the order of the items, that `is_it`; several threads look.
fn first<T: Sync>(items: &[T], jobs: usize, is_it: impl Fn(&T) -> bool + Sync) -> Option<usize> {
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let look = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= items.len() || at > found.load(Ordering::Relaxed) {
                return;
            }
            if is_it(&items[at]) {
                found.fetch_min(at, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(look);
        }
        look();
    });
    Some(found.into_inner()).filter(|&at| at < items.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator;
    use crate::scenario::Action;

    fn limits(jobs: usize) -> Limits {
        Limits { jobs, tries_max: 20_000, until: None }
    }

    /// A big scenario with everything in it.
    fn big() -> Scenario {
        let all = (0..200).map(generator::scenario);
        let fits = |it: &Scenario| it.faults.len() > 8 && it.cluster.nodes >= 5;
        all.filter(fits).max_by_key(|it| it.operations.len()).expect("some seed gives one")
    }

    /// Complains when one key is put by two operations and some fault speaks of node 1.
    fn planted(scenario: &Scenario) -> Option<String> {
        let is_put = |key| {
            let puts = scenario.operations.iter().filter(move |op| op.key == key);
            puts.filter(|op| matches!(op.action, Action::Put { .. })).count() >= 2
        };
        let struck = scenario.faults.iter().any(|fault| fault.nodes().contains(&1));
        (struck && (0..scenario.keys()).any(is_put)).then(|| "planted".to_owned())
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let big = big();
        assert_eq!(planted(&big).as_deref(), Some("planted"));
        let small = shrink(&big, "planted", limits(2), planted, |_| {}).scenario;
        assert_eq!((small.faults.len(), small.operations.len()), (1, 2), "{}", small.to_json());
        assert_eq!(small.cluster.nodes, 2);
        assert!(small.operations.iter().all(|op| op.retries.is_empty() && !op.named));
        assert_eq!(
            (small.links.loss_ppm, small.links.duplicate_ppm, small.links.tail_ppm),
            (0, 0, 0)
        );
        assert!(small.clocks.iter().all(|clock| clock.offset_ms == 0 && clock.drift_ppm == 0));
        small.check().expect("the result is a scenario");
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let results =
            [1, 2, 5].map(|jobs| shrink(&big(), "planted", limits(jobs), planted, |_| {}));
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
    }

    #[test]
    fn a_failure_of_another_oracle_does_not_count() {
        let big = big();
        let other = |_: &Scenario| Some("other".to_owned());
        let shrunk = shrink(&big, "planted", Limits { tries_max: 50, ..limits(2) }, other, |_| {});
        assert_eq!(shrunk.scenario, big);
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let count = AtomicUsize::new(0);
        let counted = |_: &Scenario| {
            count.fetch_add(1, Ordering::Relaxed);
            None
        };
        let few = Limits { tries_max: 1, ..limits(1) };
        shrink(&big(), "planted", few, counted, |_| {});
        assert!(count.load(Ordering::Relaxed) < 200, "one step and no more");
        count.store(0, Ordering::Relaxed);
        let late = Limits { until: Some(Instant::now()), ..limits(1) };
        shrink(&big(), "planted", late, counted, |_| {});
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_luck_has_moved_another_seed_is_tried() {
        let big = big();
        let lucky = |it: &Scenario| (it.seed % 5 == 3).then(|| "luck".to_owned());
        let small = shrink(&big, "luck", limits(2), lucky, |_| {}).scenario;
        assert_eq!((small.faults.len(), small.operations.len(), small.seed % 5), (0, 0, 3));
    }
}
