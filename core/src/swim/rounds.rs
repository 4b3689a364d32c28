//! Whom to probe next, and whom to tell: every node in turn, in an order that is shuffled anew after each round.
//!
//! Round-robin bounds the time until every node has been probed; the shuffle keeps nodes from probing the same one together. A
//! newcomer gets a random place. Invariant: each node stands in the order once.

use smallvec::SmallVec;

use crate::config::SWIM_HELPERS_MAX;
use crate::id::NodeId;
use crate::swim::outside::Outside;

/// In an order of this length all are looked at to find some; in a longer one a few places are tried.
const LOOKED_THROUGH_MAX: usize = 64;
/// So many places are tried for each node that is looked for.
const TRIES: usize = 4;

/// A few nodes.
pub type Few = SmallVec<[NodeId; SWIM_HELPERS_MAX]>;

/// The order of nodes.
#[derive(Debug, Default)]
pub struct Rounds {
    order: Vec<NodeId>,
    at: usize,
}

impl Rounds {
    /// The nodes, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.order.iter().copied()
    }

    /// A newcomer; it is not there yet.
    pub fn add(&mut self, node: NodeId, dice: &mut impl Outside) {
        let place = dice.below(self.order.len() + 1);
        self.order.insert(place, node);
        // Who stood there has its turn all the same.
        self.at += usize::from(place < self.at);
    }

    /// Somebody is gone.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(place) = self.order.iter().position(|&other| other == node) {
            self.order.remove(place);
            self.at -= usize::from(place < self.at);
        }
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(NodeId) -> bool) {
        let before = self.order.iter().take(self.at).filter(|&&node| is_wanted(node)).count();
        self.order.retain(|&node| is_wanted(node));
        self.at = before;
    }

    /// Who has its turn, of those that are wanted.
    pub fn next(
        &mut self,
        is_wanted: impl Fn(NodeId) -> bool,
        dice: &mut impl Outside,
    ) -> Option<NodeId> {
        for _ in 0..2 * self.order.len() {
            if self.at >= self.order.len() {
                let all = self.order.len();
                shuffle(&mut self.order, all, dice);
                self.at = 0;
            }
            let node = self.order[self.at];
            self.at += 1;
            if is_wanted(node) {
                return Some(node);
            }
        }
        None
    }

    /// Up to `max` different nodes of those that are wanted. Of many a few may be missed when hardly any is wanted.
    pub fn some(
        &self,
        max: usize,
        is_wanted: impl Fn(NodeId) -> bool,
        dice: &mut impl Outside,
    ) -> Few {
        if self.order.len() <= LOOKED_THROUGH_MAX {
            let mut wanted: Vec<NodeId> = self.iter().filter(|&node| is_wanted(node)).collect();
            shuffle(&mut wanted, max, dice);
            return wanted.into_iter().take(max).collect();
        }
        let mut some = Few::new();
        for _ in 0..TRIES * max {
            let node = self.order[dice.below(self.order.len())];
            if some.len() < max && !some.contains(&node) && is_wanted(node) {
                some.push(node);
            }
        }
        some
    }
}

/// Fisher and Yates, as far as the first `wanted` places: every order is equally likely.
fn shuffle(nodes: &mut [NodeId], wanted: usize, dice: &mut impl Outside) {
    for place in 0..wanted.min(nodes.len()) {
        let other = place + dice.below(nodes.len() - place);
        nodes.swap(place, other);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::env::{Address, Mono};
    use crate::wire::swim::{Claim, Datagram, Exchange};

    struct Dice(u64);

    impl Outside for Dice {
        fn now(&self) -> Mono {
            Mono(0)
        }
        fn random(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.0 >> 33
        }
        fn datagram(&mut self, _: &Address, _: &Datagram) {}
        fn exchange(&mut self, _: NodeId, _: Exchange) -> bool {
            true
        }
        fn changed(&mut self, _: NodeId, _: Claim) {}
    }

    fn rounds(nodes: u128, dice: &mut Dice) -> Rounds {
        let mut rounds = Rounds::default();
        (1..=nodes).for_each(|node| rounds.add(NodeId(node), dice));
        rounds
    }

    #[test]
    fn in_every_round_every_node_has_its_turn_once_whoever_comes_and_goes() {
        let mut dice = Dice(7);
        let mut rounds = rounds(10, &mut dice);
        let wanted = |node: NodeId| node != NodeId(3);
        for round in 0..50 {
            let mut seen = BTreeSet::new();
            for turn in 0..9 {
                let node = rounds.next(wanted, &mut dice).expect("there are some");
                assert!(wanted(node) && seen.insert(node), "round {round} turn {turn}: {node}");
                if turn == 4 {
                    rounds.add(NodeId(99), &mut dice);
                    rounds.remove(NodeId(99));
                }
            }
        }
        assert_eq!(rounds.next(|_| false, &mut dice), None);
    }

    #[test]
    fn orders_are_equally_likely() {
        let (mut dice, mut orders) = (Dice(1), BTreeMap::new());
        for _ in 0..6_000 {
            let mut order = [1, 2, 3].map(NodeId);
            shuffle(&mut order, 3, &mut dice);
            *orders.entry(order).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|&times| (900..1_100).contains(&times)), "{orders:?}");
    }

    #[test]
    fn some_are_different_and_wanted_of_few_and_of_many() {
        let mut dice = Dice(3);
        for nodes in [4, 5, 64, 65, 1_000] {
            let rounds = rounds(nodes, &mut dice);
            for _ in 0..20 {
                let some = rounds.some(3, |node| node.0 > 1, &mut dice);
                let different: BTreeSet<NodeId> = some.iter().copied().collect();
                assert_eq!((some.len(), different.len()), (3, 3), "of {nodes}");
                assert!(!different.contains(&NodeId(1)));
            }
        }
        assert_eq!(rounds(2, &mut dice).some(3, |_| true, &mut dice).len(), 2);
    }
}
