//! Is a register's history linearizable? By search, for histories in which values are not unique.
//!
//! After Wing and Gong (1993) with Lowe's memory of visited states (2017): an operation may come next when no
//! other that is left ended before it was invoked. A read that may come next and agrees is taken at once,
//! because taking it changes nothing. The number of states is bounded; beyond it the answer is `None`.

use std::collections::BTreeSet;

use crate::history::Stamp;

/// One operation on a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    /// When it was invoked.
    pub(super) called: Stamp,
    /// When it ended; `Stamp::NEVER` when it may take place at any time, or never.
    pub(super) ended: Stamp,
    /// What it did.
    pub(super) what: What,
}

/// What an operation did. `None` is the absence of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// It wrote.
    Write(Option<usize>),
    /// It read.
    Read(Option<usize>),
}

/// Whether some order of the steps agrees with real time and with a register that starts absent; `None` when
/// `states_max` states did not suffice.
pub(super) fn is_linearizable(steps: &[Step], states_max: usize) -> Option<bool> {
    let mut steps = steps.to_vec();
    steps.sort_by_key(|step| step.called);
    let mut visited = BTreeSet::new();
    let mut open = vec![State { done: vec![0; steps.len().div_ceil(64)], value: None }];
    while let Some(mut state) = open.pop() {
        take_reads(&steps, &mut state);
        if steps.iter().enumerate().all(|(at, step)| state.has(at) || step.ended == Stamp::NEVER) {
            return Some(true);
        }
        if visited.len() >= states_max {
            return None;
        }
        if !visited.insert(state.clone()) {
            continue;
        }
        for at in state.candidates(&steps) {
            if let What::Write(value) = steps[at].what {
                let mut next = state.clone();
                next.take(at);
                next.value = value;
                open.push(next);
            }
        }
    }
    Some(false)
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    done: Vec<u64>,
    value: Option<usize>,
}

impl State {
    fn has(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn take(&mut self, at: usize) {
        self.done[at / 64] |= 1 << (at % 64);
    }

    /// The steps that may come next: sorted by invocation, up to the first end of one that is left.
    fn candidates(&self, steps: &[Step]) -> Vec<usize> {
        let mut candidates = Vec::new();
        let mut first_end = Stamp::NEVER;
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| !self.has(*at)) {
            if step.called > first_end {
                break;
            }
            first_end = first_end.min(step.ended);
            candidates.push(at);
        }
        candidates
    }
}

fn take_reads(steps: &[Step], state: &mut State) {
    loop {
        let agrees = |at: &usize| steps[*at].what == What::Read(state.value);
        let Some(read) = state.candidates(steps).into_iter().find(agrees) else {
            return;
        };
        state.take(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(called: u64, ended: u64, what: What) -> Step {
        Step { called: Stamp(called), ended: Stamp(ended), what }
    }

    #[test]
    fn a_stale_read_is_found_and_a_concurrent_one_is_not() {
        let write = |called, ended, value| step(called, ended, What::Write(Some(value)));
        let stale = [write(1, 2, 1), write(3, 4, 2), step(5, 6, What::Read(Some(1)))];
        assert_eq!(is_linearizable(&stale, 1_000), Some(false));
        let concurrent = [write(1, 2, 1), write(3, 9, 2), step(5, 6, What::Read(Some(1)))];
        assert_eq!(is_linearizable(&concurrent, 1_000), Some(true));
        assert_eq!(is_linearizable(&concurrent, 1), None, "one state is not enough");
    }

    #[test]
    fn a_write_that_never_ended_may_take_place_or_not() {
        let delete = step(3, u64::MAX, What::Write(None));
        let put = step(1, 2, What::Write(Some(1)));
        for seen in [None, Some(1)] {
            let steps = [put, delete, step(5, 6, What::Read(seen))];
            assert_eq!(is_linearizable(&steps, 1_000), Some(true));
        }
        let back = [put, delete, step(5, 6, What::Read(None)), step(7, 8, What::Read(Some(1)))];
        assert_eq!(is_linearizable(&back, 1_000), Some(false), "what is deleted stays deleted");
    }
}
