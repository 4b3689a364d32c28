//! Unusual loads and clusters: each is put on top of a scenario that is made otherwise, so that one may come or go and the
//! scenarios without it stay as they are.
//!
//! A load stands in the table with the share of the scenarios that have it. One whose promise is not kept yet has no share.

use rondo_core::config::MEMORY_BYTES_MIN;
use rondo_core::layout::keyspace::Level;

use crate::fault::Fault;
use crate::generator::{fallback, outside, purged, reshaped, split};
use crate::rng::Rng;
use crate::scenario::{Action, Change, Operation, Over, Retry, Scenario};

/// A load: how many scenarios of a hundred have it, and what it does.
type Load = (u64, fn(&mut Rng, &mut Scenario));

/// The loads, each with dice of its own.
const LOADS: [(&str, Load); 15] = [
    ("quorums", (20, quorums)),
    ("zones and weights", (12, zones)),
    ("attempts that change", (6, attempts_that_change)),
    ("ids used again", (8, ids_used_again)),
    ("chains of tokens", (8, chains)),
    ("foreign tokens", (6, foreign_tokens)),
    ("huge values", (3, huge_values)),
    ("many siblings", (4, many_siblings)),
    ("impatient clients", (8, impatient)),
    ("reshaped clusters", (12, reshaped::reshaped)),
    ("reshaped in peace", (4, reshaped::in_peace)),
    ("long splits", (6, split::long)),
    ("expiry", (10, expiry)),
    ("fallbacks", (10, fallback::fallbacks)),
    ("missed deletes", (10, purged::missed_deletes)),
];

/// Puts on a scenario what its seed gives it.
pub(super) fn put_on(seed: u64, made: &mut Scenario) {
    for (stream, (_, (percent, change))) in (100..).zip(LOADS) {
        let mut rng = Rng::new(seed, stream);
        if rng.percent(percent) {
            change(&mut rng, made);
        }
    }
    made.sort_operations();
}

/// Any N, R and W, also more replicas than there are nodes.
fn quorums(rng: &mut Rng, made: &mut Scenario) {
    let replicas = rng.pick(&[1, 2, 3, 3, 3, 4, 5, 6, 7]);
    let read_quorum = rng.between(1, replicas);
    let write_quorum = rng.between(1, replicas);
    let cluster = &mut made.cluster;
    (cluster.replicas, cluster.read_quorum, cluster.write_quorum) =
        (replicas as u8, read_quorum as u8, write_quorum as u8);
    made.outside = outside(rng, cluster);
}

/// Some failure domains, and shares of different sizes.
fn zones(rng: &mut Rng, made: &mut Scenario) {
    let zones = rng.between(1, 4);
    let each = 0..made.cluster.nodes;
    if rng.percent(70) {
        made.cluster.zones = each.clone().map(|_| rng.below(zones) as u32).collect();
    }
    if rng.percent(70) {
        made.cluster.weights = each.map(|_| rng.log(1, 8) as u32).collect();
    }
}

/// The least that a node takes, in MiB.
const MEMORY_MIB_LEAST: u32 = (MEMORY_BYTES_MIN >> 20) as u32;

/// Later attempts ask for something else, and some come without those before them.
fn attempts_that_change(rng: &mut Rng, made: &mut Scenario) {
    let (keys, deadline_ms) = (u64::from(made.keys()), made.cluster.deadline_ms);
    let free = |op: &&mut Operation| op.named && op.same_id_as.is_none();
    for operation in made.operations.iter_mut().filter(free) {
        if rng.percent(15) {
            operation.attempt = rng.between(2, 3) as u32;
        }
        for retry in &mut operation.retries {
            if rng.percent(50) {
                let change = change(rng, operation.level, keys, deadline_ms);
                // What asks for the same as before is no change.
                let is_same = match (change, operation.action) {
                    (Change::Key(key), _) => key == operation.key,
                    (Change::Value, Action::Delete { .. }) => true,
                    _ => false,
                };
                retry.change = Some(change).filter(|_| !is_same);
                // The node that was asked first knows most of the request.
                retry.node = if rng.percent(60) { operation.node } else { retry.node };
            }
        }
    }
}

fn change(rng: &mut Rng, level: Level, keys: u64, deadline_ms: u64) -> Change {
    match rng.below(7) {
        0 => Change::Key(rng.below(keys + 1) as u32),
        1 | 2 => Change::Value,
        3 => Change::Action,
        4 => Change::Level(if level == Level::All { Level::Quorum } else { Level::All }),
        5 => Change::Context,
        _ => Change::Deadline(rng.between(deadline_ms / 4, deadline_ms)),
    }
}

/// Some puts bear the id of an earlier write, as if its client did not draw a new one.
fn ids_used_again(rng: &mut Rng, made: &mut Scenario) {
    let named: Vec<usize> = (0..made.operations.len())
        .filter(|&at| made.operations[at].named && made.operations[at].action.over().is_some())
        .collect();
    for at in 0..made.operations.len() {
        let earlier: Vec<usize> = named.iter().copied().filter(|&one| one < at).collect();
        let is_put = matches!(made.operations[at].action, Action::Put { .. });
        if !is_put || earlier.is_empty() || !rng.percent(12) {
            continue;
        }
        // The latest ones are still remembered, or in flight.
        let back = rng.log(1, earlier.len() as u64) as usize;
        let first = earlier[earlier.len() - back];
        let node = made.operations[first].node;
        let operation = &mut made.operations[at];
        (operation.named, operation.same_id_as, operation.attempt) = (true, Some(first), 1);
        operation.retries.clear();
        operation.node = if rng.percent(60) { node } else { operation.node };
    }
}

/// A client writes a key many times, each time with the token of its last write, while others may write it too.
fn chains(rng: &mut Rng, made: &mut Scenario) {
    let client = made.clients() + 1;
    let key = rng.below(u64::from(made.keys())) as u32;
    // Long ones show what a chain leaves behind: a key has room for 64 siblings.
    let length = if rng.percent(30) { 75 } else { rng.between(3, 20) };
    let every_us = rng.log(2_000, 60_000);
    let from_us = first_us(made) + rng.below(500_000);
    for place in 0..length {
        let action = Action::put(Over::Own);
        made.operations.push(another(rng, made, from_us + place * every_us, (client, key), action));
    }
}

/// Some clients send the token of another key.
fn foreign_tokens(rng: &mut Rng, made: &mut Scenario) {
    let client = made.clients();
    if made.operations.is_empty() {
        return;
    }
    for _ in 0..rng.between(1, 6) {
        let at = rng.below(made.operations.len() as u64) as usize;
        let near = made.operations[at].clone();
        let key = (near.key + 1) % made.keys();
        let who = (near.client.min(client), key);
        let action = Action::put(Over::Foreign);
        made.operations.push(another(rng, made, near.at_us + 1, who, action));
    }
}

/// A few values of 100 KiB to 1 MiB.
fn huge_values(rng: &mut Rng, made: &mut Scenario) {
    made.cluster.memory_mib = MEMORY_MIB_LEAST;
    let puts: Vec<usize> = (0..made.operations.len())
        .filter(|&at| matches!(made.operations[at].action, Action::Put { .. }))
        .collect();
    made.disks.file_kib = made.disks.file_kib.max(256);
    for _ in 0..rng.between(2, 6).min(puts.len() as u64) {
        made.operations[rng.pick(&puts)].bytes = rng.log(100 << 10, 1 << 20) as u32;
    }
}

/// More writes that overwrite nothing than a key has room for.
fn many_siblings(rng: &mut Rng, made: &mut Scenario) {
    let client = made.clients() + 1;
    let key = made.keys();
    let (from_us, every_us) = (first_us(made), rng.log(500, 20_000));
    for place in 0..rng.between(66, 80) {
        let over = if rng.percent(95) { Over::Nothing } else { Over::Last };
        let action = if rng.percent(95) { Action::put(over) } else { Action::Delete { over } };
        made.operations.push(another(rng, made, from_us + place * every_us, (client, key), action));
    }
    let read = another(rng, made, from_us + 90 * every_us, (client, key), Action::Get);
    made.operations.push(read);
}

/// Values that stay for some seconds, on a key of their own and among those that stay; in most of these scenarios clocks are apart, but not
/// set meanwhile, so that it is known when a value may have ended.
fn expiry(rng: &mut Rng, made: &mut Scenario) {
    if rng.percent(80) {
        while let Some(at) = made.faults.iter().position(Fault::is_of_a_clock) {
            made.remove_fault(at);
        }
        for clock in &mut made.clocks {
            clock.offset_ms = clock.offset_ms.clamp(-400, 400);
        }
    }
    if rng.percent(30) {
        for operation in made.operations.iter_mut().filter(|op| is_put(op)) {
            if rng.percent(15) {
                operation.action = operation.action.staying(rng.log(200, 8_000) as u32);
            }
        }
    }
    let (client, key, from_us) = (made.clients() + 1, made.keys(), first_us(made));
    let until_us = (made.heal_at_ms * 1_000).max(from_us + 1);
    for _ in 0..rng.between(10, 40) {
        let over = if rng.percent(60) { Over::Blind } else { Over::Last };
        let action = match rng.below(100) {
            0..45 => Action::Get,
            45..90 => Action::put(over),
            _ => Action::Delete { over },
        };
        let who = (client + rng.below(3) as u32, key);
        let mut operation = {
            let at_us = rng.between(from_us, until_us);
            another(rng, made, at_us, who, action)
        };
        if is_put(&operation) && rng.percent(75) {
            operation.action = operation.action.staying(rng.log(200, 8_000) as u32);
        }
        made.operations.push(operation);
    }
}

const fn is_put(operation: &Operation) -> bool {
    matches!(operation.action, Action::Put { .. })
}

/// Some clients send a request again before its first attempt has ended, as one does whose own patience is shorter than the
/// node's. Both attempts may be in flight at one coordinator, each with a deadline of its own.
fn impatient(rng: &mut Rng, made: &mut Scenario) {
    let (nodes, deadline_ms) = (made.cluster.nodes, made.cluster.deadline_ms);
    let free = |op: &&mut Operation| op.action.over().is_some() && op.same_id_as.is_none();
    for operation in made.operations.iter_mut().filter(free) {
        if !rng.percent(30) {
            continue;
        }
        operation.named = true;
        let node = if rng.percent(70) { operation.node } else { rng.node(nodes) };
        let shorter = Change::Deadline(rng.log(20, deadline_ms));
        let change = rng.percent(60).then_some(shorter);
        let retry = Retry { after_ms: rng.log(1, deadline_ms), node, change, early: true };
        operation.retries.insert(0, retry);
    }
}

fn first_us(made: &Scenario) -> u64 {
    made.operations.first().map_or(2_000_000, |op| op.at_us)
}

/// One more operation at `quorum`, at any node.
pub(super) fn another(
    rng: &mut Rng,
    made: &Scenario,
    at_us: u64,
    (client, key): (u32, u32),
    action: Action,
) -> Operation {
    // What begins after the heal would meet the final reads.
    let at_us = at_us.min(made.heal_at_ms.saturating_sub(300) * 1_000);
    Operation {
        at_us,
        client,
        node: rng.node(made.cluster.nodes),
        key,
        level: Level::Quorum,
        action,
        named: false,
        same_id_as: None,
        attempt: 1,
        retries: Vec::new(),
        bytes: 0,
        vanishes_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::generator;

    use super::*;

    #[test]
    fn every_load_can_be_put_on_a_scenario_without_operations() {
        for (name, (_, change)) in LOADS {
            for seed in 0..60 {
                let mut made = generator::scenario(seed);
                made.operations.clear();
                change(&mut Rng::new(seed, 99), &mut made);
                made.sort_operations();
                made.check().unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            }
        }
    }

    #[test]
    fn every_load_keeps_the_bounds_and_changes_something() {
        for (name, (_, change)) in LOADS {
            let mut changed = 0;
            for seed in 0..60 {
                let before = generator::scenario(seed);
                let mut made = before.clone();
                change(&mut Rng::new(seed, 99), &mut made);
                made.sort_operations();
                made.check().unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
                changed += usize::from(made != before);
            }
            assert!(changed > 30, "{name} changed {changed} of 60");
        }
    }
}
