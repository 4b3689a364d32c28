//! Who watches hints: a hint is deleted when its target has held durably, at some time, all that its node knew of the key as the hint
//! was written last, or when those who own the key now have hints instead of it.
//!
//! Looked at as each node writes its batches. Left out: clusters of one node, targets that are gone, records that rotted here, and nodes
//! that have no state of the key any more: then nothing is owed.

use bytes::Bytes;
use rondo_core::engine::{Batch, Change};
use rondo_core::id::NodeId;
use rondo_core::replica::keys::parse_hint_key;
use rondo_core::version::dvv::VersionVector;

use crate::history::Kept;
use crate::watch::shadow::Content;
use crate::world::World;
use crate::world::client;

/// The target and the number of the key of a hint.
fn hint(key: &Bytes) -> Option<(NodeId, u32)> {
    let (target, _, of) = parse_hint_key(key)?;
    Some((target, client::key_number(&of.key)?))
}

/// A node writes this next. What is wrong with it.
pub fn writes(world: &mut World, node: u32, batch: &Batch) -> Vec<String> {
    let mut deleted = Vec::new();
    let mut moved = Vec::new();
    for change in &batch.changes {
        let Some((target, key)) = hint(change.key()) else {
            continue;
        };
        let data = &mut world.nodes[node as usize].data;
        match change {
            Change::Put { .. } => {
                let knows = data.shadow.clocks().get(&key).cloned().unwrap_or_default();
                data.owed.insert((target, key), knows);
                moved.push(key);
            }
            Change::Delete { .. } => {
                let owed = data.owed.remove(&(target, key));
                deleted.extend(owed.map(|owed| (target, key, owed)));
            }
        }
    }
    deleted.retain(|(_, key, _)| !moved.contains(key));
    let lost = |(target, key, owed)| lost(world, node, target, key, &owed);
    deleted.into_iter().filter_map(lost).collect()
}

/// What is lost when the hint is deleted.
fn lost(
    world: &World,
    node: u32,
    target: NodeId,
    key: u32,
    owed: &VersionVector,
) -> Option<String> {
    let machine = &world.nodes[node as usize];
    let is_rotten = machine.device.failing.is_rotten() || machine.device.failing.was_misled();
    let to = world.nodes.iter().position(|other| other.data.id == Some(target))? as u32;
    let layout = machine.process.status.as_ref().and_then(|status| status.layout.as_ref());
    if layout.is_some_and(|layout| layout.quorums.n == 1 && layout.roles.len() == 1) {
        // Whoever is left owes nothing to anybody.
        return None;
    }
    let is_known = machine.data.shadow.clocks().contains_key(&key);
    if is_rotten || !is_known || world.teller(node) != node || world.teller(to) != to {
        return None;
    }
    let held = |kept: &Kept| (kept.key, kept.node) == (key, to);
    // The last first: it nearly always knows all.
    let kept = world.history.kept.iter().rev().filter(|kept| held(kept));
    let mut knows = VersionVector::default();
    let has_held = kept.into_iter().any(|kept| {
        knows.join(&kept.clock);
        knows.dominates(owed)
    });
    let is_empty = VersionVector::default().dominates(owed);
    (!has_held && !is_empty)
        .then(|| format!("it deletes the hint that n{to} lacks k{key}, which n{to} has never held"))
}

/// A store that is opened again holds these hints.
pub fn opened(world: &mut World, node: u32, content: &Content) {
    let data = &mut world.nodes[node as usize].data;
    let clocks = data.shadow.clocks();
    let owed = content.keys().filter_map(hint).map(|(target, key)| {
        let knows = clocks.get(&key).cloned().unwrap_or_default();
        ((target, key), knows)
    });
    data.owed = owed.collect();
}
