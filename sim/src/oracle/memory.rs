//! What a replica knows of a key never shrinks: the clock of each state that it stores covers the one that it replaces.
//!
//! A replica that forgets a dot may issue it again, or take back a value that was overwritten; most of the time another
//! replica still knows, and nobody notices. The comparison is made by `witness` as states are written, over all lives: after
//! a start with what the store holds then. Left out: stores that nobody could look into because they are damaged,
//! and lives that met damage: what takes the place of a record that cannot be read is what enough others know
//! (`core/src/repair/rotten.rs`), and a dot that only this replica knew, which no quorum acknowledged, is gone with it. What was
//! acknowledged is asked for all the same, by `acks` and `no-lost-write`.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "memory";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Memory)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Memory, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Prefix, check), Vec::<String>::new());
    }
}
