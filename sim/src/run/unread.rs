//! Whether copies become equal although nobody reads them: where nodes compare their copies by themselves, they have so long for it
//! after everything works again, and no client asks for anything meanwhile.
//!
//! Left out: nodes of which a record cannot be read and that have not met it yet. Nobody looks for those, so the reads that follow find
//! them.

use rondo_core::config::DRIFT_MS_MAX;
use rondo_core::version::dvv::VersionSet;

use crate::history::{Final, UNREAD_MS};
use crate::rt;
use crate::run::inquiry::{owners, states, until};
use crate::world::client;
use crate::world::{Shared, World};

/// Between two looks, in milliseconds.
const PAUSE_MS: u64 = 500;
/// So long after its time a key may still be there: it is looked for in passes, and tried again.
const SLACK_MS: u64 = 8_000;

/// Waits until all copies are equal, and notes those that are not in the end.
pub async fn wait(shared: &Shared) {
    let has_repairs = shared.lock().scenario.cluster.repair_ms > 0;
    for _ in 0..if has_repairs { UNREAD_MS / PAUSE_MS } else { 0 } {
        let is_done = unequal(&shared.lock()).is_empty() && unpurged(&shared.lock()).is_empty();
        if is_done || shared.lock().is_over() {
            return;
        }
        until(shared, PAUSE_MS, |_| false).await;
    }
    let world = &mut *shared.lock();
    if has_repairs && !world.is_over() {
        world.history.ends.unread = unequal(world);
        world.history.ends.unpurged = unpurged(world);
    }
}

/// The copies of keys of which nothing is left but deletions and what has expired, and which should have been purged.
#[must_use]
pub fn unpurged(world: &World) -> Vec<Final> {
    let grace_ms = world.scenario.cluster.grace_ms;
    // By the slowest clock of all, and no clock may be believed by more than this.
    let walls = world.there().map(|node| world.nodes[node as usize].clock.wall_at(rt::now()).0);
    let Some(now_ms) = walls.min().filter(|_| grace_ms > 0) else {
        return Vec::new();
    };
    let is_old = |state: &VersionSet| {
        let since = state.dead_since();
        since.is_some_and(|since| since.wall_ms() + grace_ms + DRIFT_MS_MAX + SLACK_MS < now_ms)
    };
    let old = copies(world).into_iter().flatten();
    old.filter(|last| is_old(&last.state)).collect()
}

/// The copies of keys that are not all equal.
#[must_use]
pub fn unequal(world: &World) -> Vec<Final> {
    let unequal = copies(world).into_iter();
    let differ = |of: &Vec<Final>| of.windows(2).any(|pair| pair[0].state != pair[1].state);
    unequal.filter(differ).flatten().collect()
}

/// The copies of each key at its owners.
fn copies(world: &World) -> Vec<Vec<Final>> {
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
    let mut found = Vec::new();
    for key in 0..world.scenario.keys() {
        let owners = owners(world, &layout, key, &nodes);
        let of = all.iter().filter(|(node, _)| owners.contains(node));
        let copies: Vec<Final> = of
            .map(|(node, states)| {
                let state = states.get(&client::key(key)).cloned().unwrap_or_default();
                Final { key, node: *node, state }
            })
            .collect();
        found.push(copies);
    }
    found
}
