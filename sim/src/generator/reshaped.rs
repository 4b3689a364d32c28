//! Clusters that change their shape: nodes that come, go and take the place of others, while everything else goes on.
//!
//! Other faults stay as far as what was synced stays too: power that goes, and disks that fail, are slow or full. Damage of what was
//! durable, and other directories, do not: what a cluster promises of a node that is gone for good it does not promise of a second one
//! at the same time.

use std::ops::Range;

use crate::fault::membership::{Beside, Join, Order, Replace, Reuse, Wanted};
use crate::fault::{self, Entry, Fault, Kind, Trigger};
use crate::rng::Rng;
use crate::scenario::{NODES_MAX, Scenario, Skew};

/// How much later everything is healed, in milliseconds: what changes the cluster needs some seconds.
const LONGER_MS: u64 = 8_000;
/// When a cluster that changes in peace begins to do so at the earliest, in milliseconds: it has formed, and has been well for a while.
const PEACE_FROM_MS: u64 = 8_000;
/// The families whose faults stay.
const STAY: [&str; 6] = ["partition", "link", "process", "power", "disk", "clock"];
/// Those of them that do not: they take what was durable.
const DAMAGE: [&str; 5] =
    ["bit rot", "lasting rot", "rot in maintenance", "misdirected write", "misdirected read"];

/// Makes of a scenario one whose cluster changes.
pub(super) fn reshaped(rng: &mut Rng, made: &mut Scenario) {
    made.outside = None;
    for at in (0..made.faults.len()).rev() {
        let leaves = made.faults.get(at).is_some_and(|fault| !stays(fault));
        if leaves {
            made.remove_fault(at);
        }
    }
    let founders = made.cluster.nodes;
    // Most clusters have formed by a quarter of the time.
    let window_ms = made.heal_at_ms / 4..made.heal_at_ms + LONGER_MS / 4;
    made.heal_at_ms += LONGER_MS;
    let mut is_replaced = false;
    for _ in 0..rng.between(1, 3) {
        let what = match rng.below(6) {
            0 | 1 => come(rng, made, None).map(|node| Join { node }.into()),
            2 => Some(leave(rng, founders)),
            // Of those who may leave beside it at least one other is left.
            3 if made.cluster.engine.keeps() && founders > 3 && !is_replaced => {
                is_replaced = true;
                replace(rng, made, founders)
            }
            // Both others may leave, and then all that there was would be gone with it.
            4 if made.cluster.engine.keeps() && founders > 2 => reuse(rng, made, founders),
            _ => Some(two_at_once(rng, founders)),
        };
        let Some(what) = what else {
            continue;
        };
        let skips = matches!(what, Kind::Replace(_)) && rng.percent(30);
        let node = what.nodes()[0];
        // Who has a part in a cluster is gone for good only once that has formed: a layout is live when something was acknowledged.
        let when = match what {
            Kind::Replace(_) | Kind::Reuse(_) => {
                Trigger::OnAck { n: rng.log(1, (made.operations.len() as u64 / 3).max(1)) }
            }
            _ => some_time(rng, &window_ms),
        };
        made.faults.push(Fault { when, what });
        if skips {
            let accepts_loss = made.cluster.effective().w == 1 && rng.percent(50);
            let what = Wanted::SkipDead { node, accepts_loss };
            made.faults.push(skip(rng, made.faults.len() - 1, what, founders));
        }
    }
}

/// Makes of a scenario one whose cluster changes while nothing else is wrong, and while clients ask all the time: nothing may stand
/// still for it.
pub(super) fn in_peace(rng: &mut Rng, made: &mut Scenario) {
    if made.is_reshaped() {
        return;
    }
    (made.outside, made.faults) = (None, Vec::new());
    made.buggify.clear();
    (made.links.loss_ppm, made.links.tail_ppm) = (0, 0);
    let founders = made.cluster.nodes;
    made.heal_at_ms = made.heal_at_ms.max(PEACE_FROM_MS) + LONGER_MS;
    let window_ms = PEACE_FROM_MS..made.heal_at_ms - LONGER_MS / 2;
    for _ in 0..rng.between(1, 3) {
        let what = match rng.below(3) {
            0 => come(rng, made, None).map(|node| Join { node }.into()),
            1 => Some(leave(rng, founders)),
            _ => Some(two_at_once(rng, founders)),
        };
        let when = some_time(rng, &window_ms);
        made.faults.extend(what.map(|what| Fault { when, what }));
    }
    for operation in &mut made.operations {
        operation.at_us = 1_000 * rng.between(1_500, made.heal_at_ms);
    }
}

/// An operator asks for one change more, in this time.
pub(super) fn ask(rng: &mut Rng, made: &mut Scenario, window_ms: &Range<u64>) {
    let founders = made.cluster.founders();
    let what = if rng.percent(70) { leave(rng, founders) } else { two_at_once(rng, founders) };
    made.faults.push(Fault { when: some_time(rng, window_ms), what });
}

/// Leaves out of a scenario whose cluster changes what would ask too much of it: more than what changes it and what stays beside that.
pub(super) fn keep_to_promises(made: &mut Scenario) {
    made.outside = None;
    let changes = |fault: &Fault| {
        use Kind::{Join, Order, Replace, Reuse};
        matches!(fault.what, Join(_) | Replace(_) | Reuse(_) | Order(_))
    };
    for at in (0..made.faults.len()).rev() {
        let leaves = made.faults.get(at).is_some_and(|fault| !stays(fault) && !changes(fault));
        if leaves {
            made.remove_fault(at);
        }
    }
}

fn stays(fault: &Fault) -> bool {
    let is_it = |entry: &&Entry| entry.name == fault.name();
    let stays = |entry: &Entry| STAY.contains(&entry.family) && !DAMAGE.contains(&entry.name);
    fault::entries().find(is_it).is_some_and(stays)
}

fn some_time(rng: &mut Rng, window_ms: &Range<u64>) -> Trigger {
    Trigger::At { ms: rng.between(window_ms.start, window_ms.end) }
}

/// One more node, with the name of another or its own, where there is room.
fn come(rng: &mut Rng, made: &mut Scenario, name: Option<u32>) -> Option<u32> {
    let node = made.cluster.nodes;
    if node >= NODES_MAX {
        return None;
    }
    made.cluster.nodes += 1;
    made.cluster.later.push(name.unwrap_or(node));
    made.clocks.push(Skew { offset_ms: rng.log(1, 200) as i64 - 1, drift_ppm: 0 });
    for list in [&mut made.cluster.zones, &mut made.cluster.weights] {
        // Whatever another node has.
        let like = list.first().copied();
        list.extend(like);
    }
    Some(node)
}

fn leave(rng: &mut Rng, founders: u32) -> Kind {
    let what = match rng.percent(70) {
        true => Wanted::Leave { node: rng.node(founders) },
        false => Wanted::Join { node: rng.node(founders), weight: rng.log(1, 8) as u32 },
    };
    Order { node: rng.node(founders), what, beside: None, for_ms: rng.between(2_000, 10_000) }
        .into()
}

fn two_at_once(rng: &mut Rng, founders: u32) -> Kind {
    let weight = rng.log(1, 8) as u32;
    let what = Wanted::Join { node: rng.node(founders), weight };
    let beside = Some(Beside { node: rng.node(founders), what });
    let what = Wanted::Leave { node: rng.node(founders) };
    Order { node: rng.node(founders), what, beside, for_ms: rng.between(2_000, 10_000) }.into()
}

fn replace(rng: &mut Rng, made: &mut Scenario, founders: u32) -> Option<Kind> {
    let node = rng.node(founders);
    let to = come(rng, made, Some(node))?;
    Some(Replace { node, to, down_ms: rng.log(5, 3_000) }.into())
}

/// Nobody waits for a node that a fault has taken.
fn skip(rng: &mut Rng, fault: usize, what: Wanted, founders: u32) -> Fault {
    let when = Trigger::After { fault, ms: rng.log(1_000, 5_000) };
    let asked = rng.node(founders);
    Fault { when, what: Order { node: asked, what, beside: None, for_ms: 5_000 }.into() }
}

fn reuse(rng: &mut Rng, made: &mut Scenario, founders: u32) -> Option<Kind> {
    let name = rng.node(founders);
    let node = come(rng, made, Some(name))?;
    Some(Reuse { node, for_ms: rng.between(500, 5_000) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator;

    #[test]
    fn what_is_made_keeps_its_bounds_and_has_each_kind() {
        let mut names = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut made = generator::scenario(seed);
            reshaped(&mut Rng::new(seed, 0), &mut made);
            made.check().expect("the load keeps every bound");
            names.extend(made.faults.iter().map(|fault| fault.name().to_owned()));
        }
        let kinds = ["join", "leave", "replace", "name reuse", "two changes at once"];
        assert!(kinds.iter().all(|kind| names.contains(*kind)), "{names:?}");
        assert!(["power loss", "sync error", "slow disk"].iter().all(|name| names.contains(*name)));
        assert!(!names.contains("bit rot") && !names.contains("old copy"), "{names:?}");
    }
}
