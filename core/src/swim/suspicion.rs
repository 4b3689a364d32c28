//! How long may a suspect take to speak up? Long when one node alone suspects it, which may be the slow one; shorter with everyone
//! who confirms it (Lifeguard).
//!
//! The longest time shrinks to the shortest by the logarithm of confirmations. Only others than the first count, each once: a
//! suspicion that comes back as an echo confirms nothing (<https://github.com/hashicorp/memberlist/commit/59781de>).

use std::collections::BTreeSet;

use crate::config::{
    SWIM_CONFIRMATIONS_MAX, SWIM_PROBE_MS, SWIM_SUSPICION_PROBES, SWIM_SUSPICION_STRETCH,
};
use crate::env::Mono;
use crate::id::NodeId;

/// ln(c + 1) / ln(k + 1) in thousandths, for k expected confirmations and c that have come.
const SHRUNK: [[u64; SWIM_CONFIRMATIONS_MAX + 1]; SWIM_CONFIRMATIONS_MAX + 1] =
    [[1000, 1000, 1000], [0, 1000, 1000], [0, 631, 1000]];

/// A suspicion that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspicion {
    since: Mono,
    shortest_ms: u64,
    expected: usize,
    by: BTreeSet<NodeId>,
}

impl Suspicion {
    /// `by` suspects a node, of a cluster of `nodes` that are present.
    #[must_use]
    pub fn new(by: NodeId, nodes: usize, since: Mono) -> Suspicion {
        // The suspect itself and the first to suspect it confirm nothing.
        let expected = nodes.saturating_sub(2).min(SWIM_CONFIRMATIONS_MAX);
        Suspicion { since, shortest_ms: shortest_ms(nodes), expected, by: [by].into() }
    }

    /// Another node says the same. Whether that is news.
    pub fn confirm(&mut self, by: NodeId) -> bool {
        self.by.len() <= self.expected && self.by.insert(by)
    }

    /// How many have confirmed what the first said.
    #[must_use]
    pub fn confirmations(&self) -> usize {
        self.by.len() - 1
    }

    /// When the suspect is taken for dead.
    #[must_use]
    pub fn ends(&self) -> Mono {
        let longest_ms = self.shortest_ms * SWIM_SUSPICION_STRETCH;
        let shrunk = SHRUNK[self.expected][self.confirmations().min(SWIM_CONFIRMATIONS_MAX)];
        let shorter_ms = (longest_ms - self.shortest_ms) * shrunk / 1000;
        self.since.plus_ms(longest_ms - shorter_ms)
    }
}

/// The shortest time of a suspicion, in milliseconds: a rumour and its refutation take longer in a large cluster.
fn shortest_ms(nodes: usize) -> u64 {
    let nodes = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
    let thousandths = (nodes.log10() * 1000.0).max(1000.0) as u64;
    SWIM_SUSPICION_PROBES * SWIM_PROBE_MS * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_ms(nodes: usize, confirmations: &[u128]) -> u64 {
        let mut suspicion = Suspicion::new(NodeId(1), nodes, Mono(0));
        for &by in confirmations {
            suspicion.confirm(NodeId(by));
        }
        suspicion.ends().ms_since(Mono(0))
    }

    #[test]
    fn a_suspicion_shrinks_with_each_other_that_confirms_it() {
        assert_eq!(ends_ms(5, &[]), 24_000);
        assert_eq!(ends_ms(5, &[2]), 24_000 - 20_000 * 631 / 1000);
        assert_eq!(ends_ms(5, &[2, 3]), 4_000);
        assert_eq!(ends_ms(5, &[2, 3, 4]), 4_000, "more make it no shorter");
        assert_eq!(ends_ms(3, &[2]), 4_000, "there is one other that can confirm");
        assert_eq!(ends_ms(2, &[]), 4_000, "there is none");
    }

    #[test]
    fn an_echo_confirms_nothing() {
        assert_eq!(ends_ms(5, &[1, 1, 1]), 24_000);
        assert_eq!(ends_ms(5, &[2, 1, 2]), ends_ms(5, &[2]));
    }

    #[test]
    fn it_takes_longer_in_a_large_cluster() {
        assert_eq!(ends_ms(100, &[2, 3]), 8_000);
        assert_eq!(ends_ms(1_000, &[2, 3]), 12_000);
        assert_eq!(ends_ms(1_000, &[]), 72_000);
    }

    /// The table is what it says it is.
    #[test]
    fn the_table_has_the_logarithms() {
        for (expected, row) in SHRUNK.iter().enumerate().skip(1) {
            for (come, &told) in row.iter().enumerate().take(expected + 1) {
                let of = |n: usize| f64::from(u32::try_from(n + 1).expect("small")).ln();
                assert_eq!(told, (1000.0 * of(come) / of(expected)).round() as u64);
            }
        }
    }
}
