//! A node answers a peer only when it has stored durably that this life of the peer counts.
//!
//! A life counts as soon as somebody is answered in it: from then on what it acknowledges rests on those who answered. One that lost
//! its power before that was stored would believe an older copy of the peer afterwards. `witness` looks as the first answer to
//! each life leaves, at what the engine has called durable by then.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "lives";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Lives)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Lives, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Memory, check), Vec::<String>::new());
    }
}
