//! How a process ends: killed, with the power of its machine, or because it was asked to stop; and how a paused one goes on.
//!
//! Whoever is killed leaves its files as they are, and its system closes its connections; a power loss takes what was not synced.

use crate::device::disk;
use crate::fault::STOP_MS;
use crate::fault::power::Fate;
use crate::rt;
use crate::world::World;
use crate::world::calls;

/// Kills a node's process, if it lives.
pub fn kill(world: &mut World, node: u32) {
    end_process(world, node);
    world.nodes[node as usize].device.disk.kill();
}

/// Ends a process, and nothing of its disk.
fn end_process(world: &mut World, node: u32) {
    let machine = &mut world.nodes[node as usize];
    if let Some(process) = machine.process.handle {
        process.kill();
    }
    machine.died();
    world.stream(|streams, luck| streams.on_exit(luck, node));
    calls::hang_up(world, node);
}

/// A node's power goes.
pub fn lose_power(world: &mut World, node: u32, fate: Fate) {
    world.carry.streams.on_power_loss(node);
    end_process(world, node);
    let disk = world.nodes[node as usize].device.disk.clone();
    world.faults.writes_lost += disk::lose_power(&disk, fate, &mut world.dice, node);
}

/// Asks a node to stop; whether it ran and had not been asked.
pub fn stop(world: &mut World, node: u32) -> bool {
    let machine = &mut world.nodes[node as usize];
    let Some(inbox) = machine.process.inbox.as_ref().filter(|_| !machine.process.stopping) else {
        return false;
    };
    inbox.stop();
    machine.process.stopping = true;
    machine.process.stop_by = rt::now().max(machine.process.paused_until).plus_ms(STOP_MS);
    true
}

/// A paused node goes on, unless it has to pause longer.
pub fn resume(world: &mut World, node: u32) {
    let machine = &world.nodes[node as usize];
    if let Some(process) = machine.process.handle
        && machine.process.paused_until <= rt::now()
    {
        process.resume();
    }
}
