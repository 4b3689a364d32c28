//! What must hold of every run: one promise a file, each judged from the history alone.
//!
//! Oracles know no faults and no clocks, and faults know no oracles. Each has a test that it fires on a bad
//! history made by hand, and one that it keeps silent on a good one.

pub mod verdict;

mod meets;

mod given_up;

mod fact;

pub mod index;

mod overwritten;

mod nodes;

mod no_invention;

mod dots_unique;

mod coverage;

mod no_lost_write;

mod linearizable;

mod expiry;

mod freshness;

mod siblings;

mod resurrection;

mod convergence;

mod acks;

mod refusal;

mod tokens;

mod readings;

mod stand_ins;

mod times;

mod order;

mod layout;

mod reshaping;

mod prefix;

mod clock_bound;

mod memory;

mod hints;

mod trees;

mod purges;

mod bounds;

mod ceiling;

mod waits;

mod deadlines;

mod liveness;

mod well;

mod flows;
mod ready;

mod retries;

mod resumes;

mod lives;

pub mod views;

mod far_ahead;

mod transport;

#[cfg(test)]
pub(crate) mod made;

use crate::history::{Breach, History, Promise, Stamp};
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;

/// A promise that was broken, with the evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which oracle says so.
    pub oracle: &'static str,
    /// What kind of failure it is.
    pub verdict: Verdict,
    /// When it showed.
    pub at: Stamp,
    /// The evidence.
    pub what: String,
}

type Oracle = (&'static str, fn(&Index<'_>) -> Vec<Violation>);

/// The oracles, in the order in which their evidence is clearest.
pub const ALL: [Oracle; 39] = [
    ("nodes", nodes::check),
    ("transport", transport::check),
    ("prefix", prefix::check),
    ("layout", layout::check),
    ("reshaping", reshaping::check),
    ("acks", acks::check),
    ("dots-unique", dots_unique::check),
    ("no-invention", no_invention::check),
    ("refusal", refusal::check),
    ("tokens", tokens::check),
    ("readings", readings::check),
    ("stand-ins", stand_ins::check),
    ("coverage", coverage::check),
    ("no-lost-write", no_lost_write::check),
    ("linearizable", linearizable::check),
    ("expiry", expiry::check),
    ("freshness", freshness::check),
    ("siblings", siblings::check),
    ("resurrection", resurrection::check),
    ("times", times::check),
    ("order", order::check),
    ("convergence", convergence::check),
    ("clock-bound", clock_bound::check),
    ("memory", memory::check),
    ("hints", hints::check),
    ("trees", trees::check),
    ("purges", purges::check),
    ("bounds", bounds::check),
    ("ceiling", ceiling::check),
    ("waits", waits::check),
    ("deadlines", deadlines::check),
    ("liveness", liveness::check),
    ("ready", ready::check),
    ("flows", flows::check),
    ("retries", retries::check),
    ("resumes", resumes::check),
    ("lives", lives::check),
    ("views", views::check),
    ("far-ahead", far_ahead::check),
];

impl Violation {
    fn safety(oracle: &'static str, at: Stamp, what: String) -> Violation {
        Violation { oracle, verdict: Verdict::Safety, at, what }
    }

    /// The simulator itself panicked.
    #[must_use]
    pub fn of_the_simulator(what: String) -> Violation {
        Violation { oracle: "simulator", verdict: Verdict::Crash, at: Stamp::NEVER, what }
    }
}

/// All violations in a history, by oracle. What a run that was cut short could not show is not held against it.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let index = Index::of(history);
    ALL.iter().flat_map(|(_, oracle)| oracle(&index)).collect()
}

/// The verdict that violations come to: the worst of theirs.
#[must_use]
pub fn worst(violations: &[Violation]) -> Verdict {
    violations.iter().map(|violation| violation.verdict).min().unwrap_or(Verdict::Pass)
}

/// What those who watch the nodes saw of one promise.
fn breaches(oracle: &'static str, index: &Index<'_>, of: Promise) -> Vec<Violation> {
    let breaches = index.history.breaches.iter().filter(|breach| breach.of == of);
    let told = |breach: &Breach| {
        Violation::safety(oracle, breach.stamp, format!("n{}: {}", breach.node, breach.what))
    };
    breaches.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::made::{Made, clock};
    use super::*;

    #[test]
    fn a_history_that_breaks_a_promise_ends_with_its_code() {
        let mut made = Made::default();
        let old = made.put(0, 1, Some(2)).dot(7, 1).knows(clock(7, 1)).id();
        made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(7, 2).knows(clock(7, 2));
        made.get(0, 5, 6, &[old]).knows(clock(7, 1));
        let wrong = check(&made.history());
        assert!(wrong.iter().any(|violation| violation.oracle == "linearizable"), "{wrong:?}");
        assert_eq!(worst(&wrong).exit_code(), 10, "a stale read is a broken promise");
        assert_eq!(worst(&[]).exit_code(), 0);
    }
}
