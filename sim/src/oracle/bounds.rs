//! Nothing grows without end: when a cluster has been healed and has come to rest, no node has a request in flight, and its store is
//! not much larger than what it holds.
//!
//! What is measured, and the bounds, are in `rest`. Left out: what is bounded by a constant of the product (lanes, parked
//! requests, remembered requests), which refuses more by itself; the memory engine; disks that were damaged in this life,
//! because a file with damage is left alone until somebody repairs it.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "bounds";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Bounds)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Bounds, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Memory, check), Vec::<String>::new());
    }
}
