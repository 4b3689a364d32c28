//! A node's own thread waits for no device: whoever asks it for something small is answered, however slow its disk is and whatever
//! background work goes on.
//!
//! Each call of a disk has a price where the disk is slow (`disk`), and it is the node's next turn that pays it. From the end
//! of its start until it is asked to stop a node must leave syncs to whoever may wait, and its calls of one turn must not keep
//! it for more than 100 ms, on a disk that adds up to 400 ms to a sync. What comes on top is only what its own writes take to
//! change files: the simulator's hold a few KiB, so that many requests in one turn fill many (`disk::filling_us`). Left out:
//! starts and orderly ends, when nobody is served.

use crate::history::Promise;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "waits";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    super::breaches(NAME, index, Promise::Waits)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made;

    use super::*;

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Waits, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Bounds, check), Vec::<String>::new());
    }
}
