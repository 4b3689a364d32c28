//! A hash tree that is complete says what its node stores.
//!
//! Copies become equal where trees differ, so whatever a tree leaves out may stay different for ever. The comparison with the engine is
//! made by `run/trees` at the end.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "trees";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Trees)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Trees, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Hints, check), Vec::<String>::new());
    }
}
