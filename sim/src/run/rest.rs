//! What a node still keeps when the healed cluster has come to rest.
//!
//! Requests end with their deadlines, whoever has given them up. A compaction begins when 35 % of the sealed files is dead and at
//! least half a file (`node`: the options of simulated stores), so what is dead is less than that, or in the youngest files, which
//! compactions leave alone. The constants are generous; what grows without end passes any.

use rondo_core::engine::{Engine, EngineStats};

use crate::history::Promise;
use crate::run::inquiry::until;
use crate::world::witness;
use crate::world::{Node, Shared, World};

/// Files beyond those that the bytes need: small ones are compacted when there are more than 32.
const FILES: u64 = 40;
/// Files whose dead records no compaction has to give back.
const YOUNG_FILES: u64 = 6;
/// How long maintenance may take after the last request, in milliseconds.
const MAINTAIN_MS: u64 = 2_000;

/// Waits until every node is at rest, and notes which does not come to it.
pub async fn wait(shared: &Shared) {
    let deadline_ms = shared.lock().scenario.cluster.deadline_ms;
    let limit_ms = deadline_ms + MAINTAIN_MS;
    wrong_trees(&mut shared.lock());
    if until(shared, limit_ms, |world| restless(world).is_none()).await {
        return;
    }
    let mut world = shared.lock();
    if let Some((node, what)) = restless(&world).filter(|_| !world.is_over()) {
        witness::breach(&mut world, node, Promise::Bounds, format!("at rest {what}"));
    }
}

/// A hash tree that does not say what is stored is a fault of its node, though both sides make it anew when they notice.
fn wrong_trees(world: &mut World) {
    for node in world.there().collect::<Vec<u32>>() {
        let status = world.nodes[node as usize].process.status.as_ref();
        let wrong = status.map_or(0, |status| status.repairs.wrong_trees);
        if wrong > 0 && !world.is_over() {
            let what = format!("{wrong} times copies were equal and their hash trees were not");
            witness::breach(world, node, Promise::Bounds, what);
        }
    }
}

/// A node that keeps too much, and what.
fn restless(world: &World) -> Option<(u32, String)> {
    let file_bytes = u64::from(world.scenario.disks.file_kib) << 10;
    let has_files = world.scenario.cluster.engine.keeps();
    let told = |(node, machine): (usize, &Node)| {
        let in_flight = machine.process.status.as_ref().map_or(0, |status| status.in_flight);
        if in_flight > 0 {
            return Some((node as u32, format!("{in_flight} requests are in flight")));
        }
        let stats = machine.data.tap.as_ref()?.stats();
        // A file with damage is left alone until somebody repairs it and starts the node again.
        if !has_files || machine.device.failing.was_misled() {
            return None;
        }
        Some((node as u32, too_large(&stats, file_bytes)?))
    };
    world.nodes.iter().enumerate().find_map(told)
}

/// What is wrong with the size of a store.
fn too_large(stats: &EngineStats, file_bytes: u64) -> Option<String> {
    let EngineStats { live_bytes, disk_bytes, files, .. } = *stats;
    let bytes_max = 2 * live_bytes + YOUNG_FILES * file_bytes;
    if disk_bytes > bytes_max {
        let what = format!("its files have {disk_bytes} bytes, of which {live_bytes} are alive");
        return Some(what);
    }
    let files_max = FILES + 2 * bytes_max / file_bytes;
    (files > files_max).then(|| format!("it has {files} files for {live_bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_be_twice_what_it_holds_and_some_files_more() {
        let stats = |live_bytes, disk_bytes, files| EngineStats {
            live_bytes,
            disk_bytes,
            files,
            ..EngineStats::default()
        };
        assert_eq!(too_large(&stats(10_000, 20_000 + 6 * 1_000, 66), 1_000), None);
        assert!(too_large(&stats(10_000, 20_001 + 6 * 1_000, 66), 1_000).is_some());
        assert!(too_large(&stats(10_000, 20_000, 40 + 53), 1_000).is_some());
    }
}
