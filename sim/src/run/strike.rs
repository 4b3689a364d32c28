//! A fault strikes, and ends: its trigger has come, and the world is what it acts upon.
//!
//! What each fault does is in `fault`; how the world does what a fault asks for is here. A fault that finds nothing to break does
//! nothing, and none strikes after the heal.

use rondo_engines::mem_disk::MemDisk;

use crate::fault::directories::{Replacement, Step};
use crate::fault::disks::Failure;
use crate::fault::links::Mischief;
use crate::fault::membership::Wanted;
use crate::fault::power::Fate;
use crate::fault::{Kind, STOP_MS, Stage, Trigger};
use crate::history::{Spell, Stuck, Trouble};
use crate::node;
use crate::node::live_copies;
use crate::rt::{self, Time};
use crate::run::{heal, orders};
use crate::world::calls;
use crate::world::copies;
use crate::world::kill;
use crate::world::{Event, Node, Part, Shared, World};

/// A fault strikes.
pub fn strike(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    if world.faults.healed {
        return;
    }
    let kind = world.scenario.faults[fault].what.clone();
    let name = world.scenario.faults[fault].name().to_owned();
    world.note("fault", first_node(&kind), name.as_bytes(), || format!("{kind:?}"));
    *world.faults.struck.entry(name).or_default() += 1;
    follow(world, fault);
    let (undone_after_ms, starts) =
        Hands::on(shared, world, fault, |stage| kind.trouble().strike(stage));
    let from = rt::now();
    let wrong_for_ms = kind.trouble().wrong_for(undone_after_ms);
    let until = wrong_for_ms.map_or(Time(u64::MAX), |ms| from.plus_ms(ms));
    let places = kind.places().into_iter();
    world.history.lives.spells.extend(places.map(|place| Spell { place, from, until }));
    if let Some(ms) = undone_after_ms {
        world.agenda.push(rt::now().plus_ms(ms), Event::Undo(fault));
    }
    drop(guard);
    starts.into_iter().for_each(|node| node::start(shared, node));
}

/// A fault ends, or has its next turn.
pub fn undo(shared: &Shared, fault: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    let kind = world.scenario.faults[fault].what.clone();
    world.note("mend", first_node(&kind), &[], || format!("fault {fault}"));
    let ((), starts) = Hands::on(shared, world, fault, |stage| kind.trouble().undo(stage));
    drop(guard);
    starts.into_iter().for_each(|node| node::start(shared, node));
}

fn first_node(kind: &Kind) -> u32 {
    kind.nodes().first().copied().unwrap_or(0)
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

/// The world in the hands of one fault.
struct Hands<'a> {
    shared: &'a Shared,
    world: &'a mut World,
    fault: usize,
    /// The nodes that are started when nobody holds the world any more.
    starts: Vec<u32>,
}

impl Hands<'_> {
    /// Lets a fault act; answers what it answers, and the nodes that are to be started.
    fn on<T>(
        shared: &Shared,
        world: &mut World,
        fault: usize,
        act: impl FnOnce(&mut dyn Stage) -> T,
    ) -> (T, Vec<u32>) {
        let mut hands = Hands { shared, world, fault, starts: Vec::new() };
        let output = act(&mut hands);
        (output, hands.starts)
    }

    fn node(&mut self, node: u32) -> &mut Node {
        &mut self.world.nodes[node as usize]
    }
}

impl Stage for Hands<'_> {
    fn come_again(&mut self, after_ms: u64) {
        self.world.agenda.push(rt::now().plus_ms(after_ms), Event::Undo(self.fault));
    }

    fn turn(&mut self) -> u32 {
        let turns = self.world.faults.turns.entry(self.fault).or_default();
        *turns += 1;
        *turns
    }

    fn is_healed(&self) -> bool {
        self.world.faults.healed
    }

    fn cut(&mut self, links: &[(u32, u32)]) {
        self.world.carry.net.cut(links);
    }

    fn mend(&mut self, links: &[(u32, u32)]) {
        self.world.carry.net.mend(links);
    }

    fn spoil(&mut self, links: &[(u32, u32)], how: Mischief, for_ms: u64) {
        let now = rt::now();
        self.world.carry.net.spoil(self.fault, links, how, (now, now.plus_ms(for_ms)));
        if how == Mischief::Refuse {
            self.world.stream(|streams, luck| streams.reset(luck, links));
        }
    }

    fn calm(&mut self) {
        self.world.carry.net.calm(self.fault);
    }

    fn break_connections(&mut self, links: &[(u32, u32)], both_learn_it: bool) {
        self.world.agenda.retain(|event| match event {
            Event::Deliver { from, to, .. } | Event::Datagram { from, to, .. } => {
                !links.contains(&(*from, *to))
            }
            _ => true,
        });
        self.world.stream(|streams, luck| match both_learn_it {
            true => streams.reset(luck, links),
            false => streams.halve(luck, links),
        });
    }

    fn is_up(&self, node: u32) -> bool {
        self.world.nodes[node as usize].is_up()
    }

    fn kill(&mut self, node: u32) {
        kill::kill(self.world, node);
    }

    fn stop(&mut self, node: u32) -> bool {
        kill::stop(self.world, node)
    }

    fn is_stopping(&self, node: u32) -> bool {
        self.world.nodes[node as usize].process.stopping
    }

    fn is_stuck(&mut self, node: u32) -> bool {
        let is_stuck = rt::now() > self.node(node).process.stop_by;
        if is_stuck {
            self.world.trouble(node, Trouble::Stuck(Stuck::Runs(node)));
        }
        is_stuck
    }

    fn start(&mut self, node: u32) {
        self.starts.push(node);
    }

    fn pause(&mut self, node: u32, for_ms: u64) -> bool {
        let machine = self.node(node);
        let Some(process) = machine.process.handle.filter(|_| machine.process.inbox.is_some())
        else {
            return false;
        };
        process.pause();
        machine.process.paused_until = machine.process.paused_until.max(rt::now().plus_ms(for_ms));
        // One that is stopping has its time to stop after the pause.
        machine.process.stop_by =
            machine.process.stop_by.max(machine.process.paused_until.plus_ms(STOP_MS));
        calls::put_off(self.world, node, for_ms);
        true
    }

    fn resume(&mut self, node: u32) {
        kill::resume(self.world, node);
    }

    fn slow_cpu(&mut self, node: u32, by_us: u64) {
        self.node(node).process.turn_us = by_us;
    }

    fn give_address(&mut self, node: u32) {
        if self.node(node).is_up() {
            return;
        }
        self.node(node).move_on(node);
        // What was on its way to the node does not arrive.
        self.world.agenda.retain(|event| match event {
            Event::Deliver { to, .. } | Event::Datagram { to, .. } => *to != node,
            _ => true,
        });
        let address = self.world.address(node);
        self.world.note("move", node, &[], || format!("to {}", address.0));
    }

    fn come(&mut self, node: u32) {
        if heal::come(self.world, node) {
            self.starts.push(node);
        }
    }

    fn go_for_good(&mut self, node: u32) {
        // What it alone held is gone with it.
        self.world.history.lives.has_rotted |= self.world.nodes[node as usize].part == Part::There;
        heal::go_for_good(self.world, node);
    }

    fn order(&mut self, node: u32, what: Wanted) {
        orders::give(self.shared, self.world, (self.fault, what), node);
    }

    fn is_done(&self, what: Wanted) -> bool {
        self.world.faults.orders.contains(&(self.fault, what))
    }

    fn next_to(&self, node: u32, places: u32) -> u32 {
        (node + places) % self.world.scenario.cluster.nodes
    }

    fn lose_power(&mut self, node: u32, fate: Fate) {
        kill::lose_power(self.world, node, fate);
    }

    fn slow_disk(&mut self, node: u32, by_ms: u64) {
        self.node(node).device.slow_ms = by_ms;
    }

    fn stall_disk(&mut self, node: u32, for_ms: u64) {
        let machine = self.node(node);
        machine.device.stalled_until = machine.device.stalled_until.max(rt::now().plus_ms(for_ms));
    }

    fn fail_disk(&mut self, node: u32, how: Failure, times: u32) {
        let fault = self.fault;
        self.world.fail_disk(node, (fault, how, times), 0);
    }

    fn fail_disk_no_more(&mut self, node: u32) {
        let fault = self.fault;
        self.node(node).device.failing.end(fault);
    }

    fn set_clock(&mut self, node: u32, by_ms: i64) {
        self.node(node).clock.jump(by_ms);
    }

    fn freeze_clock(&mut self, node: u32, is_frozen: bool) {
        match is_frozen {
            true => self.node(node).clock.freeze(rt::now()),
            false => self.node(node).clock.thaw(rt::now()),
        }
    }

    fn bend_clock(&mut self, node: u32, ppm: Option<i32>) {
        self.node(node).clock.drift(rt::now(), ppm);
    }

    fn keep(&mut self, step: Step) {
        self.world.faults.steps.insert(self.fault, step);
    }

    fn kept(&mut self) -> Option<Step> {
        self.world.faults.steps.remove(&self.fault)
    }

    fn runs_on_its_newest(&self, node: u32) -> bool {
        let machine = &self.world.nodes[node as usize];
        machine.is_up() && !machine.process.stopping && machine.data.stand_in.is_none()
    }

    fn copy(&mut self, node: u32) -> MemDisk {
        copies::copy(self.world, node)
    }

    fn ask_around(&mut self) {
        live_copies::ask(self.shared, self.world);
    }

    fn put_in(&mut self, node: u32, what: Replacement, disk: &MemDisk) -> bool {
        let begins = live_copies::begins_with(self.world, node, disk);
        copies::put_in(self.world, self.fault, (node, what), (disk, begins))
    }

    fn put_back(&mut self, node: u32) {
        kill::kill(self.world, node);
        copies::put_back(self.world, node);
        live_copies::is_gone(self.world, node);
    }

    fn lose_file(&mut self, node: u32, what: Replacement) -> Option<MemDisk> {
        live_copies::lose_file(self.shared, self.world, node, what)
    }

    fn clone_beside(&mut self, node: u32, copy: &MemDisk) -> Option<u32> {
        let begins = live_copies::begins_with(self.world, node, copy);
        match self.world.faults.healed {
            true => None,
            false => copies::clone(self.world, self.fault, node, (copy, begins)),
        }
    }

    fn end_clone(&mut self) {
        heal::end_clone(self.world);
    }
}
