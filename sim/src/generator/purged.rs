//! Keys that are deleted while one owner hears too little of it: some links carry nothing for longer than what is deleted is kept, its
//! coordinator has no room for hints, and nobody compares. Whoever purges then without the consent of that owner meets the value again.
//!
//! Other scenarios have hints or comparing that mend such an owner before the grace has passed.

use rondo_core::config::GRACE_MS_MIN;

use crate::fault::partitions::Cut;
use crate::fault::{Fault, Trigger};
use crate::generator::loads;
use crate::rng::Rng;
use crate::scenario::{Action, Over, Scenario};

/// How long a key may still be there after its grace, in milliseconds: by how much clocks may differ, and some passes.
const AFTER_MS: u64 = 4_000;

/// Makes of a scenario one in which owners miss deletes and are not told of them.
pub(super) fn missed_deletes(rng: &mut Rng, made: &mut Scenario) {
    let nodes = made.cluster.founders();
    if nodes < 2 || made.cluster.replicas < 2 {
        return;
    }
    let grace_ms = rng.log(GRACE_MS_MIN, 1_500);
    made.cluster.grace_ms = grace_ms;
    if rng.percent(70) {
        made.cluster.repair_ms = 0;
    }
    if rng.percent(70) {
        made.cluster.hint_bytes = rng.log(1, 300);
    }
    // A clock that is far ahead or behind lets purges wait for it.
    for clock in &mut made.clocks {
        clock.offset_ms = clock.offset_ms.clamp(-200, 200);
    }
    let from_ms = rng.between(2_000, 4_000);
    let for_ms = grace_ms + rng.between(1_000, AFTER_MS);
    let until_ms = from_ms + for_ms + rng.between(500, AFTER_MS);
    made.heal_at_ms = made.heal_at_ms.max(until_ms);
    let links = links(rng, nodes);
    let cut = Cut { name: "random links".to_owned(), links, for_ms };
    made.faults.push(Fault { when: Trigger::At { ms: from_ms }, what: cut.into() });
    let first = made.keys();
    for key in first..first + rng.between(2, 6) as u32 {
        life(rng, made, key, from_ms, until_ms);
    }
}

/// A pair of nodes that do not reach each other, or one of them not the other; or a node that reaches nobody, though others reach it.
fn links(rng: &mut Rng, nodes: u32) -> Vec<(u32, u32)> {
    let node = rng.node(nodes);
    let other = (node + rng.between(1, u64::from(nodes) - 1) as u32) % nodes;
    match rng.below(4) {
        0 => (0..nodes).filter(|&to| to != node).map(|to| (node, to)).collect(),
        1 => vec![(node, other)],
        _ => vec![(node, other), (other, node)],
    }
}

/// A key that is written before the cut, deleted while it lasts, and read or written again later.
fn life(rng: &mut Rng, made: &mut Scenario, key: u32, from_ms: u64, until_ms: u64) {
    let over = Over::Blind;
    let mut actions = vec![
        (from_ms - rng.between(50, 450), Action::put(over)),
        (from_ms + rng.between(20, 300), Action::Delete { over }),
    ];
    for _ in 0..rng.between(1, 4) {
        let action = match rng.below(100) {
            0..75 => Action::Get,
            75..90 => Action::put(over),
            _ => Action::Delete { over },
        };
        actions.push((rng.between(from_ms + 300, until_ms), action));
    }
    let client = made.clients();
    for (ms, action) in actions {
        let at_us = ms * 1_000 + rng.below(1_000);
        made.operations.push(loads::another(rng, made, at_us, (client, key), action));
    }
}
