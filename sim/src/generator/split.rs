//! Clusters of which a part is apart for so long that each side takes the other for dead, also while the cluster changes its shape.
//!
//! Other faults last some seconds at most, which convicts nobody. In half of these scenarios the split lasts until the heal, so that
//! the final checks ask whether all see each other soon; in half of them nothing is lost or late by luck, so that who was taken
//! for dead, and whether rightly, can be judged.

use crate::fault::partitions::LONG_SPLIT;
use crate::fault::{self, Fault, Room, Trigger};
use crate::generator::reshaped;
use crate::rng::Rng;
use crate::scenario::Scenario;

/// How long a cluster may go on after a split, in milliseconds: long enough to settle before the heal.
const AFTER_MS: u64 = 12_000;

/// Makes of a scenario one in which a part of the cluster is apart for long.
pub(super) fn long(rng: &mut Rng, made: &mut Scenario) {
    if !made.is_reshaped() && rng.percent(50) {
        reshaped::reshaped(rng, made);
    }
    if rng.percent(50) {
        (made.links.loss_ppm, made.links.tail_ppm) = (0, 0);
        made.buggify.clear();
    }
    let window_ms = made.heal_at_ms / 4..made.heal_at_ms * 3 / 4;
    let founders = made.cluster.founders();
    let (operations, keeps_data) = (made.operations.len() as u64, made.cluster.engine.keeps());
    // Who comes later may not be there yet: those who found the cluster are split.
    let room = Room { nodes: founders, operations, window_ms: window_ms.clone(), keeps_data };
    let split = fault::entries().find(|entry| entry.name == LONG_SPLIT);
    let Some(entry) = split.filter(|entry| entry.is_possible(&room)) else {
        return;
    };
    let mut fault = Fault::draw(rng, &room, entry);
    let from_ms = rng.between(window_ms.start, window_ms.end);
    fault.when = Trigger::At { ms: from_ms };
    let for_ms = fault.what.trouble().needs().unwrap_or(0);
    let until_ms = from_ms + for_ms + if rng.percent(50) { AFTER_MS } else { 0 };
    made.heal_at_ms = made.heal_at_ms.max(until_ms);
    made.faults.push(fault);
    if made.is_reshaped() && rng.percent(50) {
        reshaped::ask(rng, made, &(from_ms..from_ms + for_ms));
    }
    for operation in &mut made.operations {
        if rng.percent(40) {
            operation.at_us = 1_000 * rng.between(from_ms, made.heal_at_ms - 300);
        }
    }
}
