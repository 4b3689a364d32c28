//! Which forwarded requests were taken on already: a link may bring one twice, and a put that is coordinated
//! twice has two dots, of which the second comes back after somebody has overwritten the first.
//!
//! Each forwarder numbers its operations upward within one boot. The latest numbers are remembered; one
//! that is older than all of them, or of an earlier boot, is taken for a repetition, which is safe: a
//! forward that is dropped was coordinated by nobody, and its forwarder answers `Indeterminate`.
//! What this incarnation remembers is enough, because a connection does not outlive either end.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{BootEpoch, NodeId, OpId};

/// How many numbers of one forwarder are remembered.
const REMEMBERED_MAX: usize = 1024;

/// The forwards of this incarnation.
#[derive(Debug, Default)]
pub struct Forwards {
    by: BTreeMap<NodeId, Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    boot: BootEpoch,
    /// Numbers up to here are forgotten.
    forgotten: u64,
    numbers: BTreeSet<u64>,
}

impl Forwards {
    /// Takes on a forward; `false` when it may be a repetition.
    pub fn take_on(&mut self, from: NodeId, op: OpId) -> bool {
        let taken = self.by.entry(from).or_default();
        if op.life.boot < taken.boot {
            return false;
        }
        if op.life.boot > taken.boot {
            *taken = Taken { boot: op.life.boot, ..Taken::default() };
        }
        if op.seq <= taken.forgotten || !taken.numbers.insert(op.seq) {
            return false;
        }
        if taken.numbers.len() > REMEMBERED_MAX {
            taken.forgotten = taken.numbers.pop_first().unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Life;

    const FROM: NodeId = NodeId(1);

    fn op(boot: u64, seq: u64) -> OpId {
        OpId { life: Life { boot: BootEpoch(boot), ..Life::default() }, seq }
    }

    #[test]
    fn a_forward_is_taken_on_once_in_any_order() {
        let mut forwards = Forwards::default();
        for seq in [3, 1, 2] {
            assert!(forwards.take_on(FROM, op(1, seq)));
            assert!(!forwards.take_on(FROM, op(1, seq)), "number {seq} again");
        }
        assert!(forwards.take_on(NodeId(2), op(1, 3)), "another node's numbers are its own");
    }

    #[test]
    fn numbers_begin_anew_with_a_boot_and_an_earlier_boot_is_over() {
        let mut forwards = Forwards::default();
        assert!(forwards.take_on(FROM, op(1, 5)));
        assert!(forwards.take_on(FROM, op(2, 5)));
        assert!(!forwards.take_on(FROM, op(1, 6)));
    }

    #[test]
    fn what_is_forgotten_is_not_taken_on_again() {
        let mut forwards = Forwards::default();
        let count = REMEMBERED_MAX as u64 + 10;
        assert!((1..=count).all(|seq| forwards.take_on(FROM, op(1, seq))));
        assert!((1..=count).all(|seq| !forwards.take_on(FROM, op(1, seq))));
        assert_eq!(forwards.by[&FROM].numbers.len(), REMEMBERED_MAX);
    }
}
