//! What each fault does to the world, and how it ends.
//!
//! A fault that finds nothing to break (a node that is down already) does nothing. Everything that a fault
//! breaks is mended by its end or by the heal, whichever comes first.

use crate::calls;
use crate::disk;
use crate::history::Trouble;
use crate::node;
use crate::rt::{self, Time};
use crate::scenario::Kind;
use crate::world::{Event, Shared, World};

/// How long after a request to stop a node must have stopped, in milliseconds.
const STOP_MS: u64 = 10_000;

/// A fault strikes.
pub fn strike(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    if world.healed {
        return;
    }
    let kind = world.scenario.faults[fault].what.clone();
    let family = world.scenario.faults[fault].family().to_owned();
    world.note("fault", first_node(&kind), family.as_bytes(), || format!("{kind:?}"));
    *world.struck.entry(family).or_default() += 1;
    let ends_after_ms = apply(world, &kind);
    if let Some(ms) = ends_after_ms {
        world.agenda.push(rt::now().plus_ms(ms), Event::Undo(fault));
    }
}

/// A fault ends.
pub fn undo(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    let kind = world.scenario.faults[fault].what.clone();
    world.note("mend", first_node(&kind), &[], || format!("fault {fault}"));
    match kind {
        Kind::Cut { links, .. } => world.net.mend(&links),
        Kind::SlowDisk { node, .. } => world.nodes[node as usize].slow_ms = 0,
        Kind::Pause { node, .. } => resume(world, node),
        Kind::Jump { .. } => {}
        Kind::PowerLoss { nodes, .. } => {
            drop(guard);
            nodes.into_iter().for_each(|node| node::start(shared, node));
        }
        Kind::Kill { node, .. } => {
            drop(guard);
            node::start(shared, node);
        }
        Kind::Restart { node, .. } => {
            let machine = &world.nodes[node as usize];
            if machine.stopping && rt::now() > machine.stop_by {
                let text = format!("n{node} was asked to stop and did not");
                world.trouble(node, Trouble::Stuck(text));
            } else if machine.stopping {
                world.agenda.push(rt::now().plus_ms(20), Event::Undo(fault));
            } else {
                drop(guard);
                node::start(shared, node);
            }
        }
    }
}

/// Everything works from now on; nodes that are down are started.
pub fn heal(shared: &Shared) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    world.history.healed = world.note("heal", 0, &[], String::new);
    world.healed = true;
    world.net.heal();
    // Nodes that are being stopped are started again by what remains of their fault.
    let faults = world.scenario.faults.clone();
    world.agenda.retain(|event| match event {
        Event::Strike(_) => false,
        Event::Undo(fault) => matches!(faults[*fault].what, Kind::Restart { .. }),
        _ => true,
    });
    let nodes = 0..world.scenario.cluster.nodes;
    for node in nodes.clone() {
        world.nodes[node as usize].slow_ms = 0;
        world.nodes[node as usize].paused_until = Time::default();
        resume(world, node);
    }
    drop(guard);
    nodes.for_each(|node| node::start(shared, node));
}

/// Breaks what the fault breaks; answers after how many milliseconds that ends.
fn apply(world: &mut World, kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Cut { links, for_ms, .. } => {
            world.net.cut(links);
            Some(*for_ms)
        }
        Kind::PowerLoss { nodes, fate, down_ms } => {
            for &node in nodes {
                end_process(world, node);
                let disk = world.nodes[node as usize].disk.clone();
                world.writes_lost += disk::lose_power(&disk, *fate, &mut world.dice, node);
            }
            Some(*down_ms)
        }
        Kind::Kill { node, down_ms } => {
            end_process(world, *node);
            world.nodes[*node as usize].disk.kill();
            Some(*down_ms)
        }
        Kind::Restart { node, down_ms } => stop(world, *node).then_some(*down_ms),
        Kind::Pause { node, for_ms } => {
            let machine = &mut world.nodes[*node as usize];
            machine.process.filter(|_| machine.inbox.is_some())?.pause();
            machine.paused_until = machine.paused_until.max(rt::now().plus_ms(*for_ms));
            calls::put_off(world, *node, *for_ms);
            Some(*for_ms)
        }
        Kind::Jump { node, by_ms } => {
            world.nodes[*node as usize].clock.jump(*by_ms);
            None
        }
        Kind::SlowDisk { node, by_ms, for_ms } => {
            world.nodes[*node as usize].slow_ms = *by_ms;
            Some(*for_ms)
        }
    }
}

fn end_process(world: &mut World, node: u32) {
    let machine = &mut world.nodes[node as usize];
    if let Some(process) = machine.process {
        process.kill();
    }
    machine.died();
    calls::hang_up(world, node);
}

fn stop(world: &mut World, node: u32) -> bool {
    let machine = &mut world.nodes[node as usize];
    let Some(inbox) = machine.inbox.as_ref().filter(|_| !machine.stopping) else {
        return false;
    };
    inbox.stop();
    machine.stopping = true;
    machine.stop_by = rt::now().max(machine.paused_until).plus_ms(STOP_MS);
    true
}

fn resume(world: &mut World, node: u32) {
    let machine = &world.nodes[node as usize];
    if let Some(process) = machine.process
        && machine.paused_until <= rt::now()
    {
        process.resume();
    }
}

fn first_node(kind: &Kind) -> u32 {
    match kind {
        Kind::Cut { links, .. } => links.first().map_or(0, |link| link.0),
        Kind::PowerLoss { nodes, .. } => nodes.first().copied().unwrap_or(0),
        Kind::Kill { node, .. }
        | Kind::Restart { node, .. }
        | Kind::Pause { node, .. }
        | Kind::Jump { node, .. }
        | Kind::SlowDisk { node, .. } => *node,
    }
}
