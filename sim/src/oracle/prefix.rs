//! A store that is opened again holds a prefix of what its node wrote, batch by batch, with everything that was called durable.
//!
//! The comparison is `shadow`'s, made when the store is opened, with the node's own records as well as clients' keys. Left
//! out: the memory engine, which keeps nothing, and stores that report a loss themselves.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "prefix";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Prefix)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Prefix, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::ClockBound, check), Vec::<String>::new());
    }
}
