//! What is to be passed on, and how often it has been.
//!
//! A datagram takes along what was passed on least, of equals the newest. Each rumour leaves `SWIM_RETRANSMIT` times the
//! decimal digits of the number of nodes; with a high probability it has reached everybody by then. Then it is dropped, so that a quiet
//! cluster is silent.
//!
//! Invariant: at most one rumour about each node waits, the latest, so their number is bounded by that of the nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::config::SWIM_RETRANSMIT;
use crate::id::NodeId;
use crate::wire::swim::Rumour;

/// No rumour about a random id is shorter, in bytes: there is no use in looking for one that fits.
const SHORTEST_BYTES: usize = 20;

#[derive(Debug)]
struct Queued {
    rumour: Rumour,
    bytes: usize,
    sent: u32,
    number: u64,
}

/// The queue of rumours.
#[derive(Debug, Default)]
pub struct Rumours {
    queued: BTreeMap<NodeId, Queued>,
    /// How often it was passed on, which one it was, and whom it is about.
    order: BTreeSet<(u32, Reverse<u64>, NodeId)>,
    pushed: u64,
}

impl Rumours {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert_eq!(self.order.len(), self.queued.len());
        for (&node, queued) in &self.queued {
            assert_eq!(node, queued.rumour.node());
            assert!(self.order.contains(&queued.key()), "each has its place");
        }
    }

    /// Whether there is nothing to pass on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// What waits to be passed on about a node.
    #[must_use]
    pub fn about(&self, node: NodeId) -> Option<&Rumour> {
        self.queued.get(&node).map(|queued| &queued.rumour)
    }

    /// One more to pass on, in the place of what was said of the same node before.
    pub fn push(&mut self, rumour: Rumour) {
        let (node, bytes) = (rumour.node(), rumour.encoded_len());
        self.forget(node);
        self.pushed += 1;
        let queued = Queued { rumour, bytes, sent: 0, number: self.pushed };
        self.order.insert(queued.key());
        self.queued.insert(node, queued);
    }

    /// Says no more of a node.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(queued) = self.queued.remove(&node) {
            self.order.remove(&queued.key());
        }
    }

    /// Those that go along with one datagram to `to` that has so many bytes left, in a cluster of `nodes`. Nobody is told how
    /// it is itself by this: that goes first, and is not counted.
    pub fn take(&mut self, to: Option<NodeId>, mut room: usize, nodes: usize) -> Vec<Rumour> {
        let mut taken = Vec::new();
        for &(_, _, node) in &self.order {
            let Some(queued) = self.queued.get(&node).filter(|_| Some(node) != to) else {
                continue;
            };
            if queued.bytes <= room {
                room -= queued.bytes;
                taken.push(node);
            }
            if room < SHORTEST_BYTES {
                break;
            }
        }
        taken.into_iter().filter_map(|node| self.pass_on(node, nodes)).collect()
    }

    fn pass_on(&mut self, node: NodeId, nodes: usize) -> Option<Rumour> {
        let mut queued = self.queued.remove(&node)?;
        self.order.remove(&queued.key());
        let rumour = queued.rumour.clone();
        queued.sent += 1;
        if queued.sent < SWIM_RETRANSMIT * digits(nodes) {
            self.order.insert(queued.key());
            self.queued.insert(node, queued);
        }
        Some(rumour)
    }
}

impl Queued {
    const fn key(&self) -> (u32, Reverse<u64>, NodeId) {
        (self.sent, Reverse(self.number), self.rumour.node())
    }
}

/// ceil(log10(nodes + 1)): how many decimal digits the number has.
fn digits(nodes: usize) -> u32 {
    nodes.checked_ilog10().map_or(1, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootEpoch;
    use crate::wire::swim::Incarnation;

    fn dead(node: u128, boot: u64) -> Rumour {
        let incarnation = Incarnation { boot: BootEpoch(boot), count: 0 };
        Rumour::Dead { node: NodeId(node << 64), incarnation }
    }

    #[test]
    fn a_rumour_is_passed_on_four_times_the_digits_of_the_number_of_nodes() {
        for (nodes, times) in [(1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (1_000, 16)] {
            let mut rumours = Rumours::default();
            rumours.push(dead(1, 1));
            let sent = (0..100).map(|_| rumours.take(None, 1_000, nodes).len()).sum::<usize>();
            assert_eq!((sent, rumours.is_empty()), (times, true), "{nodes} nodes");
            rumours.invariants();
        }
    }

    #[test]
    fn what_was_passed_on_least_goes_first_and_of_equals_the_newest() {
        let mut rumours = Rumours::default();
        let bytes = dead(1, 1).encoded_len();
        rumours.push(dead(1, 1));
        rumours.push(dead(2, 1));
        let mut next = || rumours.take(None, bytes, 5);
        assert_eq!(next(), [dead(2, 1)]);
        assert_eq!(next(), [dead(1, 1)]);
        assert_eq!(next(), [dead(2, 1)]);
        rumours.push(dead(1, 2));
        assert_eq!(rumours.take(None, bytes, 5), [dead(1, 2)], "the later word, counted anew");
        assert_eq!(rumours.take(None, 2 * bytes, 5).len(), 2, "as many as fit");
        assert_eq!(rumours.take(Some(NodeId(2 << 64)), 2 * bytes, 5), [dead(1, 2)]);
        assert_eq!(rumours.take(None, bytes - 1, 5), []);
        rumours.invariants();
    }
}
