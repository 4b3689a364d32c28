//! What each fault does to the world, and how it ends.
//!
//! A fault that finds nothing to break (a node that is down already) does nothing. Everything that a fault
//! breaks is mended by its end or by the heal, whichever comes first.

use std::sync::MutexGuard;

use rondo_engines::mem_disk::MemDisk;

use crate::calls;
use crate::copies;
use crate::disk;
use crate::history::{Place, Spell, Trouble};
use crate::kill::{end_process, kill};
use crate::live_copies;
use crate::node;
use crate::rt::{self, Time};
use crate::scenario::{Away, Directory, DiskError, Fate, Kind, Mischief, Outside, Trigger};
use crate::stand_in::Step;
use crate::world::{Event, Node, Shared, World};

/// How long after a request to stop a node must have stopped, in milliseconds.
const STOP_MS: u64 = 10_000;
/// Between two looks at a node that has to end, in milliseconds.
const STEP_MS: u64 = 20;
/// How soon after the heal everything arrives that was held, in milliseconds: as late as a usual message may be.
pub const HURRY_MS: u64 = 1_000;

/// A fault strikes.
pub fn strike(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    if world.healed {
        return;
    }
    let kind = world.scenario.faults[fault].what.clone();
    let name = world.scenario.faults[fault].name().to_owned();
    world.note("fault", first_node(&kind), name.as_bytes(), || format!("{kind:?}"));
    *world.struck.entry(name).or_default() += 1;
    world.history.has_rotted |= matches!(kind, Kind::DiskError { what: DiskError::LastingRot, .. });
    follow(world, fault);
    let ends_after_ms = apply(world, fault, &kind);
    let spells = spells(&kind, ends_after_ms);
    world.history.spells.extend(spells);
    if let Some(ms) = ends_after_ms {
        world.agenda.push(rt::now().plus_ms(ms), Event::Undo(fault));
    }
}

/// What is wrong now, and until when. A clock that was set stays wrong, and whoever met an error of its disk is not counted again.
fn spells(kind: &Kind, ends_after_ms: Option<u64>) -> Vec<Spell> {
    let from = rt::now();
    let until = match kind {
        Kind::Jump { .. }
        | Kind::Steps { .. }
        | Kind::Freeze { .. }
        | Kind::Drift { .. }
        | Kind::DiskError { .. } => Time(u64::MAX),
        Kind::StallDisk { for_ms, .. } => from.plus_ms(*for_ms),
        Kind::Restart { down_ms, .. } | Kind::Move { down_ms, .. } => {
            from.plus_ms(down_ms + STOP_MS)
        }
        _ => from.plus_ms(ends_after_ms.unwrap_or(0)),
    };
    let places: Vec<Place> = match kind {
        Kind::Cut { links, .. }
        | Kind::Links { links, .. }
        | Kind::Reset { links }
        | Kind::HalfOpen { links } => {
            links.iter().map(|&(from, to)| Place::Link(from, to)).collect()
        }
        _ => kind.nodes().into_iter().map(Place::Node).collect(),
    };
    places.into_iter().map(|place| Spell { place, from, until }).collect()
}

/// The faults that were to come after this one get their time.
fn follow(world: &mut World, fault: usize) {
    for (at, next) in world.scenario.faults.iter().enumerate() {
        match next.when {
            Trigger::After { fault: before, ms } if before == fault => {
                world.agenda.push(rt::now().plus_ms(ms), Event::Strike(at));
            }
            _ => {}
        }
    }
}

/// A fault ends, or has its next turn.
pub fn undo(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    let kind = world.scenario.faults[fault].what.clone();
    world.note("mend", first_node(&kind), &[], || format!("fault {fault}"));
    match kind {
        Kind::Cut { links, .. } => world.net.mend(&links),
        Kind::Links { .. } => world.net.calm(fault),
        Kind::SlowDisk { node, .. } => world.nodes[node as usize].slow_ms = 0,
        Kind::SlowCpu { node, .. } => world.nodes[node as usize].turn_us = 0,
        Kind::DiskError { node, .. } => world.nodes[node as usize].failing.end(fault),
        Kind::Freeze { node, .. } => world.nodes[node as usize].clock.thaw(rt::now()),
        Kind::Drift { node, .. } => world.nodes[node as usize].clock.drift(rt::now(), None),
        Kind::Steps { node, by_ms, times, every_ms } => {
            world.nodes[node as usize].clock.jump(by_ms);
            if turn(world, fault) + 1 < times {
                world.agenda.push(rt::now().plus_ms(every_ms), Event::Undo(fault));
            }
        }
        Kind::Pause { node, .. } => resume(world, node),
        Kind::Jump { .. } | Kind::Reset { .. } | Kind::HalfOpen { .. } | Kind::StallDisk { .. } => {
        }
        Kind::PowerLoss { nodes, .. } => {
            drop(guard);
            nodes.into_iter().for_each(|node| node::start(shared, node));
        }
        Kind::Kill { node, .. } => {
            drop(guard);
            node::start(shared, node);
        }
        Kind::CrashLoop { node, times, up_ms, down_ms } => {
            let starts = !world.nodes[node as usize].is_up();
            let is_last = starts && turn(world, fault) >= times;
            if !is_last {
                let ms = if starts { up_ms } else { down_ms };
                world.agenda.push(rt::now().plus_ms(ms), Event::Undo(fault));
            }
            if starts {
                drop(guard);
                node::start(shared, node);
            } else {
                kill(world, node);
            }
        }
        Kind::Directory { node, what, for_ms } => {
            drop(guard);
            step(shared, fault, (node, what, for_ms));
        }
        Kind::Restart { node, .. } | Kind::Move { node, .. } => {
            let machine = &world.nodes[node as usize];
            if machine.stopping && rt::now() > machine.stop_by {
                let text = format!("n{node} was asked to stop and did not");
                world.trouble(node, Trouble::Stuck(text));
            } else if machine.stopping {
                world.agenda.push(rt::now().plus_ms(20), Event::Undo(fault));
            } else {
                if matches!(kind, Kind::Move { .. }) {
                    give_address(world, node);
                }
                drop(guard);
                node::start(shared, node);
            }
        }
    }
}

/// Everything works from now on; nodes that are down are started. Those outside are gone, until `reunite`.
pub fn heal(shared: &Shared, outside: Option<&Outside>) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    world.history.healed = world.note("heal", 0, &[], String::new);
    world.healed = true;
    world.net.heal();
    world.probes.heal();
    // Nodes that are being stopped are started again by what remains of their fault.
    // What was held arrives soon, and disks that stood still go on.
    world.agenda.hurry(rt::now().plus_ms(HURRY_MS), |event| {
        matches!(
            event,
            Event::Deliver { .. } | Event::Datagram { .. } | Event::Stream(_) | Event::Disk { .. }
        )
    });
    world.streams.hurry(rt::now().plus_ms(HURRY_MS));
    let faults = world.scenario.faults.clone();
    let is_killed = |node: &u32| {
        outside.is_some_and(|outside| outside.how == Away::Killed && outside.nodes.contains(node))
    };
    world.agenda.retain(|event| match event {
        Event::Strike(_) => false,
        Event::Undo(fault) => {
            matches!(
                &faults[*fault].what,
                Kind::Restart { node, .. } | Kind::Directory { node, .. } | Kind::Move { node, .. }
                    if !is_killed(node)
            )
        }
        Event::Start(node) => !is_killed(node),
        _ => true,
    });
    end_clone(world);
    let nodes = 0..world.scenario.cluster.nodes;
    let rotten = rotten(world, outside);
    for node in nodes.clone() {
        if world.nodes[node as usize].fuse.put_out().is_some() {
            // Its power has gone and it has not noticed yet.
            lose_power(world, node, Fate::LoseAll);
        }
        let machine = &mut world.nodes[node as usize];
        machine.fuse.wait_no_more();
        machine.slow_ms = 0;
        machine.turn_us = 0;
        machine.stalled_until = Time::default();
        machine.paused_until = Time::default();
        machine.failing.heal(rotten == Some(node));
        machine.clock.thaw(rt::now());
        machine.clock.drift(rt::now(), None);
        resume(world, node);
        undo_directory(world, node);
    }
    if let Some(outside) = outside {
        world.note("outside", outside.nodes[0], &[], || format!("{outside:?}"));
        let links = links_between(world, &outside.nodes);
        world.net.cut(&links);
        // What was called before has not ended: whoever is outside now is well no more.
        let cut = links.into_iter().map(|(from, to)| Place::Link(from, to));
        let (from, until) = (rt::now(), Time(u64::MAX));
        world.history.spells.extend(cut.map(|place| Spell { place, from, until }));
    }
    nodes.clone().filter(is_killed).for_each(|node| kill(world, node));
    drop(guard);
    nodes.filter(|node| !is_killed(node)).for_each(|node| node::start(shared, node));
}

/// The node whose damage stays after the heal: one at most, where the others of a key are enough to replace what is gone.
fn rotten(world: &World, outside: Option<&Outside>) -> Option<u32> {
    if outside.is_some() || world.scenario.cluster.effective().w < 2 {
        return None;
    }
    let mut nodes = (0..).zip(&world.nodes);
    nodes.find(|(_, machine)| machine.failing.is_rotten()).map(|(node, _)| node)
}

/// Those outside are there again.
pub fn reunite(shared: &Shared, outside: &Outside) {
    let mut world = shared.lock();
    world.note("reunite", outside.nodes[0], &[], String::new);
    let links = links_between(&world, &outside.nodes);
    world.net.mend(&links);
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

/// Breaks what the fault breaks; answers after how many milliseconds that ends.
fn apply(world: &mut World, fault: usize, kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Cut { links, for_ms, .. } => {
            world.net.cut(links);
            Some(*for_ms)
        }
        Kind::Links { links, how, for_ms } => {
            spoil(world, fault, links, *how, *for_ms);
            Some(*for_ms)
        }
        Kind::Reset { links } | Kind::HalfOpen { links } => {
            break_connections(world, links, matches!(kind, Kind::Reset { .. }));
            None
        }
        Kind::PowerLoss { nodes, fate, down_ms } => {
            nodes.iter().for_each(|&node| lose_power(world, node, *fate));
            Some(*down_ms)
        }
        Kind::Kill { node, down_ms } | Kind::CrashLoop { node, down_ms, .. } => {
            kill(world, *node);
            Some(*down_ms)
        }
        Kind::Restart { node, down_ms } => stop(world, *node).then_some(*down_ms),
        Kind::Move { node, orderly: true, down_ms } => stop(world, *node).then_some(*down_ms),
        Kind::Move { node, down_ms, .. } => {
            kill(world, *node);
            Some(*down_ms)
        }
        Kind::Directory { node, what, .. } => begin(world, fault, *node, *what),
        Kind::Pause { node, for_ms } => {
            let machine = &mut world.nodes[*node as usize];
            machine.process.filter(|_| machine.inbox.is_some())?.pause();
            machine.paused_until = machine.paused_until.max(rt::now().plus_ms(*for_ms));
            // One that is stopping has its time to stop after the pause.
            machine.stop_by = machine.stop_by.max(machine.paused_until.plus_ms(STOP_MS));
            calls::put_off(world, *node, *for_ms);
            Some(*for_ms)
        }
        Kind::Jump { node, .. }
        | Kind::Steps { node, .. }
        | Kind::Freeze { node, .. }
        | Kind::Drift { node, .. }
        | Kind::SlowCpu { node, .. }
        | Kind::StallDisk { node, .. }
        | Kind::SlowDisk { node, .. }
        | Kind::DiskError { node, .. } => disturb(&mut world.nodes[*node as usize], fault, kind),
    }
}

/// A node ends, so that another directory comes into the place of its own; answers when to look after it.
fn begin(world: &mut World, fault: usize, node: u32, what: Directory) -> Option<u64> {
    let machine = &world.nodes[node as usize];
    if !machine.is_up() || machine.stopping || machine.stand_in.is_some() {
        return None;
    }
    if what.is_live()
        && let Directory::OldCopy { age_ms, .. } | Directory::Cloned { age_ms, .. } = what
    {
        let copy = copies::copy(world, node);
        world.steps.insert(fault, Step::Copied(copy));
        return Some(age_ms);
    }
    let step = match what {
        Directory::OldCopy { .. } | Directory::Cloned { .. } => Step::Copies,
        Directory::Wiped { .. } => Step::Ends(Some(MemDisk::new())),
        Directory::LostFile { .. } => Step::Ends(None),
    };
    world.steps.insert(fault, step);
    end(world, node, what.is_orderly());
    Some(STEP_MS)
}

/// The next step of a fault of a directory, once its node has ended where it has to.
fn step(shared: &Shared, fault: usize, (node, what, for_ms): (u32, Directory, u64)) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    let machine = &world.nodes[node as usize];
    if machine.stopping {
        if rt::now() > machine.stop_by {
            let text = format!("n{node} was asked to stop and did not");
            return world.trouble(node, Trouble::Stuck(text));
        }
        return world.agenda.push(rt::now().plus_ms(STEP_MS), Event::Undo(fault));
    }
    let is_up = machine.is_up();
    let next = match world.steps.remove(&fault) {
        Some(Step::Copied(copy)) => {
            live_copies::ask(shared, world);
            world.steps.insert(fault, Step::Runs(copy));
            return world.agenda.push(rt::now().plus_ms(STEP_MS), Event::Undo(fault));
        }
        Some(Step::Runs(copy)) if let Directory::Cloned { returns: false, .. } = what => {
            return begin_clone(guard, shared, (fault, node, for_ms), &copy, Step::Beside);
        }
        Some(Step::Ends(Some(copy))) if let Directory::Cloned { .. } = what => {
            return begin_clone(guard, shared, (fault, node, for_ms / 2), &copy, Step::Returns);
        }
        Some(Step::Beside) => {
            end_clone(world);
            None
        }
        Some(Step::Runs(copy)) if !world.healed => {
            end(world, node, what.is_orderly());
            world.steps.insert(fault, Step::Ends(Some(copy)));
            return world.agenda.push(rt::now().plus_ms(STEP_MS), Event::Undo(fault));
        }
        Some(Step::Stands) if !world.healed => {
            kill(world, node);
            copies::put_back(world, node);
            live_copies::is_gone(world, node);
            None
        }
        Some(Step::Returns) if !world.healed => Some((Step::Beside, for_ms / 2)),
        // Somebody else has started it.
        _ if is_up || world.healed => None,
        Some(Step::Copies) => match what {
            Directory::OldCopy { age_ms, .. } | Directory::Cloned { age_ms, .. } => {
                Some((Step::Runs(copies::copy(world, node)), age_ms))
            }
            _ => None,
        },
        Some(Step::Ends(Some(disk))) => {
            let begins = live_copies::begins_with(world, node, &disk);
            let is_in = copies::put_in(world, fault, (node, what), (&disk, begins));
            is_in.then_some((Step::Stands, for_ms))
        }
        Some(Step::Ends(None))
            if let Some(disk) = live_copies::lose_file(shared, world, node, what) =>
        {
            world.steps.insert(fault, Step::Ends(Some(disk)));
            return world.agenda.push(rt::now().plus_ms(STEP_MS), Event::Undo(fault));
        }
        _ => None,
    };
    if let Some((step, after_ms)) = next {
        world.steps.insert(fault, step);
        world.agenda.push(rt::now().plus_ms(after_ms), Event::Undo(fault));
    }
    drop(guard);
    node::start(shared, node);
}

/// A node that is down has another address from now on; what was on its way there does not arrive.
fn give_address(world: &mut World, node: u32) {
    if world.nodes[node as usize].is_up() {
        return;
    }
    world.nodes[node as usize].moves += 1;
    world.agenda.retain(|event| match event {
        Event::Deliver { to, .. } | Event::Datagram { to, .. } => *to != node,
        _ => true,
    });
    let address = world.address(node);
    world.note("move", node, &[], || format!("to {}", address.0));
}

/// A copy of a node's directory starts on another machine, and is looked after later; the node itself where it cannot.
fn begin_clone(
    mut guard: MutexGuard<'_, World>,
    shared: &Shared,
    (fault, node, for_ms): (usize, u32, u64),
    copy: &MemDisk,
    step: Step,
) {
    let world = &mut *guard;
    let begins = live_copies::begins_with(world, node, copy);
    let host = match world.healed {
        true => None,
        false => copies::clone(world, fault, node, (copy, begins)),
    };
    if host.is_some() {
        world.steps.insert(fault, step);
        world.agenda.push(rt::now().plus_ms(for_ms), Event::Undo(fault));
    }
    drop(guard);
    node::start(shared, host.unwrap_or(node));
}

/// The clone that there is ends.
fn end_clone(world: &mut World) {
    let host = world.scenario.cluster.nodes;
    if world.nodes.get(host as usize).is_some_and(Node::is_up) {
        kill(world, host);
    }
    live_copies::is_gone(world, host);
}

/// A node's newest directory is in its place, and whole.
fn undo_directory(world: &mut World, node: u32) {
    if world.nodes[node as usize].stand_in.is_some() {
        kill(world, node);
        copies::put_back(world, node);
        live_copies::is_gone(world, node);
    }
    copies::give_back(world, node);
}

fn end(world: &mut World, node: u32, orderly: bool) {
    if orderly {
        stop(world, node);
    } else {
        kill(world, node);
    }
}

/// Does something to a node's clock, processor or disk, while its process goes on.
fn disturb(machine: &mut Node, fault: usize, kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Jump { by_ms, .. } => {
            machine.clock.jump(*by_ms);
            None
        }
        // The first step comes at once, the others as turns.
        Kind::Steps { by_ms, times, every_ms, .. } => {
            machine.clock.jump(*by_ms);
            (*times > 1).then_some(*every_ms)
        }
        Kind::Freeze { for_ms, .. } => {
            machine.clock.freeze(rt::now());
            Some(*for_ms)
        }
        Kind::Drift { ppm, for_ms, .. } => {
            machine.clock.drift(rt::now(), Some(*ppm));
            Some(*for_ms)
        }
        Kind::SlowCpu { by_us, for_ms, .. } => {
            machine.turn_us = *by_us;
            Some(*for_ms)
        }
        Kind::StallDisk { for_ms, .. } => {
            machine.stalled_until = machine.stalled_until.max(rt::now().plus_ms(*for_ms));
            None
        }
        Kind::DiskError { what, times, for_ms, .. } => {
            machine.failing.begin(fault, *what, *times, 0);
            Some(*for_ms)
        }
        Kind::SlowDisk { by_ms, for_ms, .. } => {
            machine.slow_ms = *by_ms;
            Some(*for_ms)
        }
        _ => None,
    }
}

fn spoil(world: &mut World, fault: usize, links: &[(u32, u32)], how: Mischief, for_ms: u64) {
    let now = rt::now();
    world.net.spoil(fault, links, how, (now, now.plus_ms(for_ms)));
    if how == Mischief::Refuse {
        world.stream(|streams, luck| streams.reset(luck, links));
    }
}

/// What is on its way is lost, with the connections that it travels on.
fn break_connections(world: &mut World, links: &[(u32, u32)], both_learn_it: bool) {
    world.agenda.retain(|event| match event {
        Event::Deliver { from, to, .. } | Event::Datagram { from, to, .. } => {
            !links.contains(&(*from, *to))
        }
        _ => true,
    });
    world.stream(|streams, luck| match both_learn_it {
        true => streams.reset(luck, links),
        false => streams.halve(luck, links),
    });
}

/// Counts a turn of a fault that works by turns; answers how many it has had.
fn turn(world: &mut World, fault: usize) -> u32 {
    let turns = world.turns.entry(fault).or_default();
    *turns += 1;
    *turns
}

fn lose_power(world: &mut World, node: u32, fate: Fate) {
    world.streams.on_power_loss(node);
    end_process(world, node);
    let disk = world.nodes[node as usize].disk.clone();
    world.writes_lost += disk::lose_power(&disk, fate, &mut world.dice, node);
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
    kind.nodes().first().copied().unwrap_or(0)
}
