//! The heal: everything works from then on, and what was broken is mended, whatever broke it. Then the final checks begin.
//!
//! One thing may stay: damage on one node's disk that nobody repairs, where the other replicas have to replace what is gone. Nodes that a
//! scenario wants `outside` are gone for a while, and come back with `reunite`.

use crate::fault::Kind;
use crate::fault::power::Fate;
use crate::history::{Place, Spell};
use crate::node;
use crate::node::live_copies;
use crate::rt::{self, Time};
use crate::scenario::{Away, Outside};
use crate::world::copies;
use crate::world::kill::{self, kill};
use crate::world::witness;
use crate::world::{Event, Node, Part, Shared, World};

/// How soon after the heal everything arrives that was held, in milliseconds: as late as a usual message may be.
pub const HURRY_MS: u64 = 1_000;

/// Everything works from now on; nodes that are down are started. Those outside are gone, until `reunite`.
pub fn heal(shared: &Shared, outside: Option<&Outside>) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    world.history.healed = world.note("heal", 0, &[], String::new);
    world.faults.healed = true;
    world.carry.net.heal();
    world.probes.heal();
    // Nodes that are being stopped are started again by what remains of their fault.
    // What was held arrives soon, and disks that stood still go on.
    world.agenda.hurry(rt::now().plus_ms(HURRY_MS), |event| {
        matches!(
            event,
            Event::Deliver { .. } | Event::Datagram { .. } | Event::Stream(_) | Event::Disk { .. }
        )
    });
    world.carry.streams.hurry(rt::now().plus_ms(HURRY_MS));
    let faults = world.scenario.faults.clone();
    let is_killed = |node: &u32| {
        outside.is_some_and(|outside| outside.how == Away::Killed && outside.nodes.contains(node))
    };
    world.agenda.retain(|event| match event {
        Event::Strike(_) => false,
        Event::Undo(fault) => {
            faults[*fault].what.trouble().brings_back().is_some_and(|node| !is_killed(&node))
        }
        Event::Start(node) => !is_killed(node),
        _ => true,
    });
    end_clone(world);
    let nodes = 0..world.scenario.cluster.nodes;
    let rotten = rotten(world, outside);
    for node in nodes.clone() {
        if world.nodes[node as usize].device.fuse.put_out().is_some() {
            // Its power has gone and it has not noticed yet.
            kill::lose_power(world, node, Fate::LoseAll);
        }
        let machine = &mut world.nodes[node as usize];
        machine.device.fuse.wait_no_more();
        machine.device.slow_ms = 0;
        machine.process.turn_us = 0;
        machine.device.stalled_until = Time::default();
        machine.process.paused_until = Time::default();
        machine.device.failing.heal(rotten == Some(node));
        machine.clock.thaw(rt::now());
        machine.clock.drift(rt::now(), None);
        kill::resume(world, node);
        undo_directory(world, node);
    }
    if let Some(outside) = outside {
        world.note("outside", outside.nodes[0], &[], || format!("{outside:?}"));
        let links = links_between(world, &outside.nodes);
        world.carry.net.cut(&links);
        // What was called before has not ended: whoever is outside now is well no more.
        let cut = links.into_iter().map(|(from, to)| Place::Link(from, to));
        let (from, until) = (rt::now(), Time(u64::MAX));
        world.history.lives.spells.extend(cut.map(|place| Spell { place, from, until }));
    }
    nodes.clone().filter(is_killed).for_each(|node| kill(world, node));
    reshape(world);
    drop(guard);
    nodes.filter(|node| !is_killed(node)).for_each(|node| node::start(shared, node));
}

/// Whoever was to take the place of a node that is gone is there now, and nobody has the name of another any more.
fn reshape(world: &mut World) {
    for fault in world.scenario.faults.clone() {
        match fault.what {
            Kind::Replace(of) if world.nodes[of.node as usize].part == Part::Gone => {
                come(world, of.to);
            }
            Kind::Reuse(of) => go_for_good(world, of.node),
            _ => {}
        }
    }
}

/// A node that comes later is there from now on; whether it was not before.
pub fn come(world: &mut World, node: u32) -> bool {
    let machine = &mut world.nodes[node as usize];
    let comes = machine.part == Part::Later;
    if comes {
        machine.part = Part::There;
        world.note("come", node, &[], String::new);
        witness::reshapes(world);
    }
    comes
}

/// A node ends, and never starts again.
pub fn go_for_good(world: &mut World, node: u32) {
    kill(world, node);
    world.history.lives.gone.entry(node).or_insert(rt::now());
    world.nodes[node as usize].part = Part::Gone;
    witness::ends_alone(world, node);
    world.faults.layouts.remove(&node);
    world.note("gone", node, &[], String::new);
}

/// The node whose damage stays after the heal: one at most, where the others of a key are enough to replace what is gone.
fn rotten(world: &World, outside: Option<&Outside>) -> Option<u32> {
    if outside.is_some() || world.scenario.cluster.effective().w < 2 {
        return None;
    }
    let mut nodes = (0..).zip(&world.nodes);
    nodes.find(|(_, machine)| machine.device.failing.is_rotten()).map(|(node, _)| node)
}

/// Those outside are there again.
pub fn reunite(shared: &Shared, outside: &Outside) {
    let mut world = shared.lock();
    world.note("reunite", outside.nodes[0], &[], String::new);
    let links = links_between(&world, &outside.nodes);
    world.carry.net.mend(&links);
    drop(world);
    outside.nodes.iter().for_each(|&node| node::start(shared, node));
}

/// All links between these nodes and the others.
fn links_between(world: &World, nodes: &[u32]) -> Vec<(u32, u32)> {
    let others = (0..world.scenario.cluster.nodes).filter(|other| !nodes.contains(other));
    others
        .flat_map(|other| nodes.iter().flat_map(move |&node| [(node, other), (other, node)]))
        .collect()
}

/// The clone that there is ends.
pub fn end_clone(world: &mut World) {
    let host = world.scenario.cluster.nodes;
    if world.nodes.get(host as usize).is_some_and(Node::is_up) {
        kill(world, host);
    }
    live_copies::is_gone(world, host);
}

/// A node's newest directory is in its place, and whole.
fn undo_directory(world: &mut World, node: u32) {
    if world.nodes[node as usize].data.stand_in.is_some() {
        kill(world, node);
        copies::put_back(world, node);
        live_copies::is_gone(world, node);
    }
    copies::give_back(world, node);
}
