//! No node adopts a time beyond the drift bound: what it reserves for its hybrid clock is at most that far ahead of what its own
//! wall clock has shown, or of what an earlier life of it had reserved. And no clock goes back: a reservation is never below the one
//! that the store holds, also after a restart with a wall clock that has gone back.
//!
//! Reservations are seen as they are written; the bound is computed in `witness`. That no message and no version is refused for
//! its time needs no oracle of its own: what is refused is missing at the end, or answered with an error after the heal.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "clock-bound";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::ClockBound)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::ClockBound, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Prefix, check), Vec::<String>::new());
    }
}
