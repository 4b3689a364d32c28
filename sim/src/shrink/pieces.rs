//! Scenarios with some operations or faults taken out.
//!
//! Faults that wait for the n-th acknowledgement or sync are aimed anew when operations go, so that they strike about
//! where they did.

use std::ops::Range;

use crate::fault::Trigger;
use crate::scenario::Scenario;

/// A scenario without a range of some list; the range may reach over the end.
pub(super) type Without = fn(&Scenario, Range<usize>) -> Scenario;

/// For each key, the scenario with nothing but that key.
pub(super) fn one_key(scenario: &Scenario) -> Vec<Scenario> {
    let keys = scenario.keys();
    let only = |key| keep_operations(scenario, |_, of| of == key);
    // One key alone is what there is already.
    (0..keys).filter(|_| keys > 1).map(only).filter(|it| !it.operations.is_empty()).collect()
}

/// The scenario with no fault, with only one, and with half of them.
pub(super) fn no_faults(scenario: &Scenario) -> Vec<Scenario> {
    let count = scenario.faults.len();
    let only = |keep: Range<usize>| {
        let faults = scenario.faults[keep].to_vec();
        Scenario { faults, ..scenario.clone() }
    };
    let singles = (0..count).filter(|_| count > 1).map(|at| only(at..at + 1));
    (0..count.min(1)).map(|_| only(0..0)).chain(singles).collect()
}

/// The scenario without some operations.
pub(super) fn without_operations(scenario: &Scenario, gone: Range<usize>) -> Scenario {
    keep_operations(scenario, |at, _| !gone.contains(&at))
}

/// The scenario without some faults.
pub(super) fn without_faults(scenario: &Scenario, gone: Range<usize>) -> Scenario {
    let mut less = scenario.clone();
    less.faults.drain(gone.start..gone.end.min(scenario.faults.len()));
    less
}

/// Keeps operations by their place and key.
fn keep_operations(scenario: &Scenario, keep: impl Fn(usize, u32) -> bool) -> Scenario {
    let mut less = scenario.clone();
    let writes =
        scenario.operations.iter().enumerate().filter(|(_, op)| op.action.over().is_some());
    let kept: Vec<bool> = writes.map(|(at, op)| keep(at, op.key)).collect();
    less.retain_operations(|at, op| keep(at, op.key));
    for fault in &mut less.faults {
        match &mut fault.when {
            Trigger::OnAck { n } => *n = aim(*n, &kept),
            Trigger::OnSyncPending { n, .. } => {
                let left = kept.iter().filter(|&&keeps| keeps).count() as u64;
                *n = (*n * left / (kept.len() as u64).max(1)).max(1);
            }
            _ => {}
        }
    }
    less
}

/// How many of the first n writes are kept, 1 at least.
fn aim(n: u64, kept: &[bool]) -> u64 {
    let first = kept.iter().take(n as usize).filter(|&&keeps| keeps).count() as u64;
    let beyond = n.saturating_sub(kept.len() as u64);
    (first + beyond).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_counts_only_the_writes_that_are_left() {
        assert_eq!(aim(4, &[true, false, true, true, true]), 3);
        assert_eq!(aim(2, &[false, false, true]), 1, "triggers count from 1");
        assert_eq!(aim(5, &[true, false]), 4, "more acknowledgements than writes: retries");
    }
}
