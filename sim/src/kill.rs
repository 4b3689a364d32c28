//! How a process ends when nobody has asked it to.
//!
//! Its system closes its connections and keeps what it has written; a power loss, which takes that too, is in `faults`.

use crate::calls;
use crate::world::World;

/// Kills a node's process, if it lives.
pub fn kill(world: &mut World, node: u32) {
    end_process(world, node);
    world.nodes[node as usize].disk.kill();
}

/// Ends a process, and nothing of its disk.
pub fn end_process(world: &mut World, node: u32) {
    let machine = &mut world.nodes[node as usize];
    if let Some(process) = machine.process {
        process.kill();
    }
    machine.died();
    world.stream(|streams, luck| streams.on_exit(luck, node));
    calls::hang_up(world, node);
}
