//! What nodes take each other for: what their failure detectors say goes into the history, and whether all that run see the same.
//!
//! To agree, at one moment: each node that is there takes each other one for alive, by what it hears and by its failure detector, and
//! the newest live layout of all is one. Of those that are gone for good either nobody says so yet or everybody who knows them.
//! Who has left the layout and still runs is heard by no failure detector of the others, nor they by its: it is out of question there.

use std::collections::BTreeSet;

use rondo_core::probe;

use crate::history::{Sight, Stamp};
use crate::rt;
use crate::world::{Node, Part, World};

/// The failure detector of a node takes another one for something else than before.
pub fn sees(world: &mut World, node: u32, sight: probe::Sight) {
    let probe::Sight { node: id, boot, count, standing } = sight;
    // Nobody asks a copy what it sees.
    if world.teller(node) != node {
        return;
    }
    let own = world.nodes.iter().take(world.scenario.cluster.nodes as usize);
    let Some(of) = own.into_iter().position(|machine| machine.data.id == Some(id)) else {
        return;
    };
    let machine = &world.nodes[of];
    let of = of as u32;
    let runs = machine.is_up()
        && machine.part == Part::There
        && !machine.process.stopping
        && world.teller(of) == of;
    let incarnation = (boot.0, count);
    let detail = [&of.to_le_bytes()[..], standing.as_bytes()].concat();
    let stamp = world.note("view", node, &detail, || {
        format!("n{of} is {standing} in its life {} after speaking up {count} times", boot.0)
    });
    world.faults.views.entry(node).or_default().insert(of, standing);
    let at = rt::now();
    let sight = Sight { node, of, incarnation, standing, at, stamp, runs };
    world.history.lives.sights.push(sight);
}

/// A node begins another life, in which it has met nobody yet.
pub fn begins(world: &mut World, node: u32) {
    let (at, stamp) = (rt::now(), world.last());
    let forgotten = world.faults.views.remove(&node).unwrap_or_default();
    let unknown = forgotten.into_keys().map(|of| Sight {
        node,
        of,
        incarnation: (0, 0),
        standing: "unknown",
        at,
        stamp,
        runs: true,
    });
    world.history.lives.sights.extend(unknown);
}

/// In what the nodes that are there differ about each other, the first thing first; nothing when they agree.
pub fn differences(world: &World) -> impl Iterator<Item = String> {
    detected(world).chain(heard(world)).chain(layouts(world))
}

/// Who has left the layout.
fn left(world: &World) -> BTreeSet<u32> {
    let reshaping = world.history.lives.reshaping.as_ref();
    reshaping.map(|it| it.left(Stamp::NEVER)).unwrap_or_default()
}

/// Who does not take which other one for alive, by its failure detector.
fn detected(world: &World) -> impl Iterator<Item = String> {
    let left = left(world);
    pairs(world).filter_map(move |(node, other)| {
        if left.contains(&node) || left.contains(&other) {
            return None;
        }
        let views = world.faults.views.get(&node);
        let standing = views.and_then(|views| views.get(&other)).copied().unwrap_or("unknown");
        (standing != "alive").then(|| format!("n{node} takes n{other} for {standing}"))
    })
}

/// Who does not hear which other one, or is not heard by it.
fn heard(world: &World) -> impl Iterator<Item = String> {
    pairs(world).filter_map(|(node, other)| {
        let id = world.nodes[other as usize].data.id?.to_string();
        let status = world.nodes[node as usize].process.status.as_ref();
        let members = status.map_or(&[][..], |status| &status.members);
        let member = members.iter().find(|member| member.node == id);
        let state = member.map_or("unknown", |member| member.state);
        (state != "alive").then(|| format!("n{node} has n{other} {state}"))
    })
}

/// Who is gone for good and is dead to some and not to others.
pub fn gone(world: &World) -> impl Iterator<Item = String> {
    let is_gone = |machine: &Node| machine.part == Part::Gone && machine.data.id.is_some();
    let gone = (0..).zip(&world.nodes).filter(move |(_, machine)| is_gone(machine));
    let left = left(world);
    gone.filter_map(move |(of, _): (u32, _)| {
        if left.contains(&of) {
            return None;
        }
        let says = |node: u32| Some((node, *world.faults.views.get(&node)?.get(&of)?));
        let is_there = |(_, standing): &(u32, &str)| matches!(*standing, "alive" | "suspect");
        let stay = world.there().filter(|node| !left.contains(node));
        let (there, away): (Vec<_>, Vec<_>) = stay.filter_map(says).partition(is_there);
        let told = |(node, standing): &(u32, &str)| {
            format!("n{of}, which is gone, is {standing} at n{node}")
        };
        let (one, other) = (there.first()?, away.first()?);
        Some(format!("{} and {}", told(one), told(other)))
    })
}

/// Whose newest live layout is another one than that of the first.
fn layouts(world: &World) -> impl Iterator<Item = String> {
    let newest = |node: u32| {
        let status = world.nodes[node as usize].process.status.as_ref();
        status.and_then(|status| status.layout.as_ref())
    };
    let first = world.there().next();
    world.there().filter_map(move |node| {
        let (one, other) = (newest(first?), newest(node));
        let differs = one.map(|of| &of.digest) != other.map(|of| &of.digest);
        let told = |of: Option<u64>| of.map_or("none".to_owned(), |version| version.to_string());
        let versions = (told(one.map(|of| of.version)), told(other.map(|of| of.version)));
        differs.then(|| {
            format!("n{} has layout {} and n{node} {}", first.unwrap_or(0), versions.0, versions.1)
        })
    })
}

/// Each node that is there with each other one.
fn pairs(world: &World) -> impl Iterator<Item = (u32, u32)> {
    world
        .there()
        .flat_map(|node| world.there().map(move |other| (node, other)))
        .filter(|(node, other)| node != other)
}
