//! A hint is deleted only when its target holds durably what it lacked, or the owners of its key are owed it instead.
//!
//! A hint that goes too early is a write that one of its owners lacks for good when nobody reads it; the others know it, so that nobody
//! notices. The comparison is made by `hinted` as hints are deleted, over all lives. That hints are conserved, none uncounted, every node
//! asserts of itself after each step; that all have been handed over in the end, `run/finale` waits for.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "hints";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Hints)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Hints, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Memory, check), Vec::<String>::new());
    }
}
