//! Copies of a node's last life: live backups, and a directory that has lost the end of its log.
//!
//! Such a copy begins like a restart; its peers know better as long as they run, because they have heard how far the store was durable
//! (`lives` in `core`). So until it has stored durably that it does not count, the operator takes it away before anything starts,
//! the copy itself included; then it says so itself, and everybody may start. What it sent before may still be on its way to a
//! peer that knows nothing any more: that is lost.

use rondo_core::inbox::Ask;
use rondo_core::member::lives;
use rondo_core::status::Status;
use rondo_engines::mem_disk::MemDisk;

use crate::fault::directories::Replacement;
use crate::node::store;
use crate::world::copies;
use crate::world::kill::kill;
use crate::world::{Event, Shared, World};

/// Asks every node that lives what it has heard of the others.
pub fn ask(shared: &Shared, world: &World) {
    for (node, machine) in world.nodes.iter().enumerate() {
        let (back, epoch) = (shared.clone(), machine.process.epoch);
        let sink = Box::new(move |status: Status| {
            let mut world = back.lock();
            if world.nodes[node].process.epoch == epoch {
                hears(&mut world, node, &status);
            }
        });
        if let Some(inbox) = &machine.process.inbox {
            inbox.ask(Ask::Status(sink));
        }
    }
}

fn hears(world: &mut World, node: usize, status: &Status) {
    let ids: Vec<_> = world.nodes.iter().filter_map(|machine| machine.data.id).collect();
    for id in ids {
        let told = status.members.iter().find(|member| member.node == id.to_string());
        if let Some(durable) = told.and_then(|member| member.durable) {
            world.nodes[node].process.heard.insert(id, durable);
        }
    }
}

/// The last write that a node would begin with on this disk, if it can be opened.
#[must_use]
pub fn begins_with(world: &World, node: u32, disk: &MemDisk) -> Option<u64> {
    disk.content("identity")?;
    store::begins_with(world, node, disk)
}

/// A node that is down loses a file, or is to start for a while on what is left of its disk, and the others are asked.
pub fn lose_file(
    shared: &Shared,
    world: &mut World,
    node: u32,
    what: Replacement,
) -> Option<MemDisk> {
    match what {
        Replacement::LostFile { newest: true, .. } => {
            ask(shared, world);
            return Some(copies::with_half_a_log(world, node));
        }
        Replacement::LostFile { file, cut, .. } => {
            copies::take_file(world, node, file, cut);
        }
        _ => {}
    }
    None
}

/// A node is about to start; answers whether it may.
pub fn make_way(world: &mut World, node: u32) -> bool {
    let copies: Vec<(u32, bool)> =
        world.faults.live_copies.iter().map(|(&at, &ran)| (at, ran)).collect();
    let mut may = true;
    for (host, has_run) in copies {
        silence(world, host);
        let is_denied =
            world.nodes[host as usize].data.shadow.durable_head(lives::DENIED_KEY).is_some();
        if !is_denied && (host != node || has_run) {
            kill(world, host);
            copies::put_back(world, host);
            is_gone(world, host);
            may &= host != node || host < world.scenario.cluster.nodes;
        }
    }
    if let Some(has_run) = world.faults.live_copies.get_mut(&node) {
        *has_run = true;
    }
    may
}

/// What was a copy there is one no more.
pub fn is_gone(world: &mut World, host: u32) {
    silence(world, host);
    world.faults.live_copies.remove(&host);
}

/// What a copy has said of itself and is on its way is lost.
fn silence(world: &mut World, host: u32) {
    if world.faults.live_copies.contains_key(&host) {
        let is_its = |event: &Event| matches!(event, Event::Datagram { from, .. } if *from == host);
        world.agenda.retain(|event| !is_its(event));
    }
}
