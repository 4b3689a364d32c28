//! What must hold of every run: one promise a file, each judged from the history alone.
//!
//! Oracles know no faults and no clocks, and faults know no oracles. Each has a test that it fires on a bad history made by hand.

use crate::history::{History, Stamp};
use crate::verdict::Verdict;

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

impl Violation {
    /// The simulator itself panicked.
    #[must_use]
    pub fn of_the_simulator(what: String) -> Violation {
        Violation {
            oracle: "simulator",
            verdict: Verdict::Crash,
            at: Stamp::NEVER,
            what,
        }
    }
}

/// All violations in a history, in no particular order.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let _ = history;
    Vec::new()
}
