//! Whether copies become equal although nobody reads them: where nodes compare their copies by themselves, they have so long for it
//! after everything works again, and no client asks for anything meanwhile.
//!
//! Left out: nodes of which a record cannot be read and that have not met it yet. Nobody looks for those, so the reads that follow find
//! them.

use crate::history::{Final, UNREAD_MS};
use crate::run::inquiry::{owners, states, until};
use crate::world::client;
use crate::world::{Shared, World};

/// Between two looks, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Waits until all copies are equal, and notes those that are not in the end.
pub async fn wait(shared: &Shared) {
    let has_repairs = shared.lock().scenario.cluster.repair_ms > 0;
    for _ in 0..if has_repairs { UNREAD_MS / PAUSE_MS } else { 0 } {
        if unequal(&shared.lock()).is_empty() || shared.lock().is_over() {
            return;
        }
        until(shared, PAUSE_MS, |_| false).await;
    }
    let world = &mut *shared.lock();
    if has_repairs && !world.is_over() {
        world.history.ends.unread = unequal(world);
    }
}

/// The copies of keys that are not all equal.
#[must_use]
pub fn unequal(world: &World) -> Vec<Final> {
    let layout = world.there().find_map(|node| {
        let status = world.nodes[node as usize].process.status.as_ref()?;
        status.layout.clone()
    });
    let Some(layout) = layout else {
        return Vec::new();
    };
    let all: Vec<_> =
        world.there().filter_map(|node| Some((node, states(world, node).ok()?))).collect();
    let nodes: Vec<u32> = all.iter().map(|(node, _)| *node).collect();
    let mut unequal = Vec::new();
    for key in 0..world.scenario.keys() {
        let owners = owners(world, &layout, key, &nodes);
        let of = all.iter().filter(|(node, _)| owners.contains(node));
        let copies: Vec<Final> = of
            .map(|(node, states)| {
                let state = states.get(&client::key(key)).cloned().unwrap_or_default();
                Final { key, node: *node, state }
            })
            .collect();
        if copies.windows(2).any(|pair| pair[0].state != pair[1].state) {
            unequal.extend(copies);
        }
    }
    unequal
}
