//! What a node keeps in memory on behalf of others stays below its budgets, also while disks stall and values are large.
//!
//! The bounds are the product's own (`core/src/budget.rs`); what is measured, and when, is in `fullness`.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "ceiling";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Ceiling)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Ceiling, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Waits, check), Vec::<String>::new());
    }
}
