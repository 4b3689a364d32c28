//! A sloppy cluster of which one node reaches no other for a while, and clients at that node who write at level `one` all the same.
//!
//! Of some keys it is no owner, so it is their fallback. Other clients write and delete the same keys meanwhile, and may have read at the
//! fallback what they overwrite elsewhere.

use rondo_core::layout::keyspace::Level;

use crate::fault::partitions::Cut;
use crate::fault::{Fault, Trigger};
use crate::generator::{OPERATIONS_FROM_MS, loads, outside};
use crate::rng::Rng;
use crate::scenario::{Action, Over, Retry, Scenario};

/// Cuts a node off, once or twice, and has clients ask it.
pub(super) fn fallbacks(rng: &mut Rng, made: &mut Scenario) {
    made.cluster.sloppy = true;
    let nodes = made.cluster.nodes;
    if nodes < 2 {
        return;
    }
    if !made.is_reshaped() && u32::from(made.cluster.replicas) >= nodes {
        // Somebody must own nothing of some key.
        let replicas = (nodes - 1).min(3) as u8;
        let majority = replicas / 2 + 1;
        let cluster = &mut made.cluster;
        (cluster.replicas, cluster.read_quorum, cluster.write_quorum) =
            (replicas, majority, majority);
        made.outside = outside(rng, cluster);
    }
    let fallback = rng.node(made.cluster.founders());
    let dead_ms = made.cluster.dead_ms;
    for _ in 0..rng.between(1, 2) {
        let for_ms = dead_ms + rng.log(500, 5_000);
        let last_ms = made.heal_at_ms.saturating_sub(for_ms / 2).max(OPERATIONS_FROM_MS + 1);
        let from_ms = rng.between(OPERATIONS_FROM_MS, last_ms);
        cut_off(made, fallback, (from_ms, for_ms));
        ask(rng, made, fallback, (from_ms, from_ms + for_ms));
    }
}

fn cut_off(made: &mut Scenario, fallback: u32, (from_ms, for_ms): (u64, u64)) {
    let others = (0..made.cluster.nodes).filter(|&node| node != fallback);
    let links = others.flat_map(|node| [(fallback, node), (node, fallback)]).collect();
    let cut = Cut { name: "isolate".to_owned(), links, for_ms };
    made.faults.push(Fault { when: Trigger::At { ms: from_ms }, what: cut.into() });
}

fn ask(rng: &mut Rng, made: &mut Scenario, fallback: u32, (from_ms, until_ms): (u64, u64)) {
    let (client, keys) = (made.clients() + 1, rng.between(1, 4));
    let first = made.keys();
    for _ in 0..rng.between(20, 60) {
        let over = rng.pick(&[Over::Blind, Over::Blind, Over::Last, Over::Own, Over::Nothing]);
        let action = match rng.below(100) {
            0..30 => Action::Get,
            30..80 => Action::put(over),
            _ => Action::Delete { over },
        };
        let who = (client + rng.below(3) as u32, first + rng.below(keys) as u32);
        let at_us = rng.between(1_000 * from_ms, 1_000 * (until_ms + 500));
        let mut operation = loads::another(rng, made, at_us, who, action);
        if rng.percent(75) {
            (operation.node, operation.level) = (fallback, Level::One);
            operation.named = rng.percent(40);
            if operation.named && rng.percent(50) {
                let node = if rng.percent(60) { fallback } else { rng.node(made.cluster.nodes) };
                let after_ms = rng.log(20, 2_000);
                operation.retries.push(Retry { after_ms, node, change: None, early: false });
            }
        }
        made.operations.push(operation);
    }
}
