//! Changes of a scenario that keep what its parts say of each other: faults that follow faults, operations that use an id again.

use crate::fault::Trigger;
use crate::scenario::{Operation, Scenario};

impl Scenario {
    /// Takes a fault out, and with it those that were to follow it.
    pub fn remove_fault(&mut self, at: usize) {
        self.faults.remove(at);
        let mut orphans = Vec::new();
        for (index, fault) in self.faults.iter_mut().enumerate() {
            if let Trigger::After { fault: before, .. } = &mut fault.when {
                if *before == at {
                    orphans.push(index);
                } else if *before > at {
                    *before -= 1;
                }
            }
        }
        // A follower stands behind what it follows, so the last one is removed first and moves no other orphan.
        orphans.into_iter().rev().for_each(|orphan| self.remove_fault(orphan));
    }

    /// Puts the operations in order of time; who uses an id again still stands behind whose it is, or uses its own.
    pub fn sort_operations(&mut self) {
        let mut order: Vec<usize> = (0..self.operations.len()).collect();
        order.sort_by_key(|&at| self.operations[at].at_us);
        let kept: Vec<Operation> = order.iter().map(|&at| self.operations[at].clone()).collect();
        let mut new_place = vec![None; order.len()];
        (0..).zip(&order).for_each(|(new, &old)| new_place[old] = Some(new));
        self.operations = kept;
        self.rename_operations(|old| new_place[old]);
    }

    /// Keeps the operations that `keeps` names by their place.
    pub fn retain_operations(&mut self, keeps: impl Fn(usize, &Operation) -> bool) {
        let all = std::mem::take(&mut self.operations);
        let mut new_place = vec![None; all.len()];
        for (old, operation) in all.into_iter().enumerate() {
            if keeps(old, &operation) {
                new_place[old] = Some(self.operations.len());
                self.operations.push(operation);
            }
        }
        self.rename_operations(|old| new_place[old]);
    }

    /// Operations have new places; what named one that is gone, or stands behind it now, names none.
    fn rename_operations(&mut self, new_place: impl Fn(usize) -> Option<usize>) {
        for (at, operation) in self.operations.iter_mut().enumerate() {
            let earlier = operation.same_id_as.and_then(&new_place);
            operation.same_id_as = earlier.filter(|&earlier| earlier < at);
        }
    }
}
