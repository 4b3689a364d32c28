//! The world's one task: it takes what is due from the agenda, does it, and sleeps until the next.
//!
//! Between two of its turns the nodes run until they have nothing left to do, so that all nodes together are
//! always at one moment. Nothing else moves time.

use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rondo_core::env::{Class, DiskDone};
use rondo_core::inbox::Ask;
use rondo_engines::mem_disk::Pending;

use crate::node;
use crate::rt::{self, Time};
use crate::run::{orders, strike};
use crate::watch::describe;
use crate::world::calls;
use crate::world::witness;
use crate::world::{Event, Shared, World};

/// How often nodes are asked for their status while somebody waits for them, in milliseconds.
const STATUS_MS: u64 = 100;

/// Lets the world go on until `until`, or until it is over, or until `enough`; answers whether it was enough.
pub async fn pump(shared: &Shared, until: Time, enough: impl Fn(&World) -> bool) -> bool {
    loop {
        let event = {
            let mut world = shared.lock();
            if enough(&world) {
                return true;
            }
            let now = rt::now();
            if world.is_over() || now >= until {
                return false;
            }
            world.agenda.pop_due(now)
        };
        match event {
            Some(event) => happen(shared, event),
            None => idle(shared, until).await,
        }
    }
}

/// Sleeps until something is due, or until `until`.
async fn idle(shared: &Shared, until: Time) {
    let next = shared.lock().agenda.next_at().map_or(until, |at| at.min(until));
    let mut sleep = pin!(rt::sleep_until(next));
    std::future::poll_fn(|context: &mut Context<'_>| {
        let mut world = shared.lock();
        if world.is_over() || world.agenda.next_at().is_some_and(|at| at < next) {
            return Poll::Ready(());
        }
        world.agenda.wake_before(next, context.waker().clone());
        drop(world);
        sleep.as_mut().poll(context)
    })
    .await;
}

fn happen(shared: &Shared, event: Event) {
    match event {
        Event::Deliver { to, life: Some(life), .. } if life != epoch(shared, to) => {}
        Event::Deliver { from, to, class, bytes, .. } => {
            deliver(&mut shared.lock(), from, to, class, bytes);
        }
        Event::Datagram { from, to, bytes } => datagram(&mut shared.lock(), from, to, bytes),
        Event::Stream(due) => {
            shared.lock().stream(|streams, luck| streams.happen(luck, due));
        }
        Event::Ring { alarm, at } => shared.lock().carry.alarms.ring(alarm, at),
        Event::Disk { node, epoch, work } => disk_done(&mut shared.lock(), node, epoch, work),
        Event::Call { op, attempt } => calls::call(shared, op, attempt),
        Event::GiveUp { op, attempt } => calls::give_up_when_due(&mut shared.lock(), op, attempt),
        Event::Vanish { op, attempt } => calls::vanish(&mut shared.lock(), op, attempt),
        Event::Strike(fault) => strike::strike(shared, fault),
        Event::Undo(fault) => strike::undo(shared, fault),
        Event::Start(node) => node::start(shared, node),
        Event::AskStatus => ask_status(shared),
    }
}

fn epoch(shared: &Shared, node: u32) -> u32 {
    shared.lock().nodes[node as usize].process.epoch
}

fn deliver(world: &mut World, from: u32, to: u32, class: Class, bytes: Bytes) {
    let Some(sender) = world.nodes[from as usize].data.id else {
        return;
    };
    if !world.carry.net.deliver(rt::now(), from, to) {
        return;
    }
    world.note("message", to, &bytes, || format!("from n{from}: {}", describe::message(&bytes)));
    if let Some(inbox) = &world.nodes[to as usize].process.inbox {
        inbox.peer(sender, class, bytes);
    }
}

fn datagram(world: &mut World, from: u32, to: u32, bytes: Bytes) {
    if !world.carry.net.deliver(rt::now(), from, to) {
        return;
    }
    world.note("datagram", to, &bytes, || format!("from n{from}"));
    if let Some(inbox) = &world.nodes[to as usize].process.inbox {
        inbox.datagram(world.address(from), bytes);
    }
}

fn disk_done(world: &mut World, node: u32, epoch: u32, work: Pending) {
    let machine = &world.nodes[node as usize];
    if machine.process.epoch != epoch {
        return;
    }
    let is_sync = work.is_sync();
    let done = machine.device.disk.complete(work);
    let failed = matches!(
        &done,
        DiskDone::Synced { result: Err(_), .. } | DiskDone::Read { result: Err(_), .. }
    );
    let astray = if is_sync && !failed { machine.device.failing.synced() } else { None };
    if let Some(inbox) = &machine.process.inbox {
        inbox.disk(done);
    }
    world.note("disk", node, &[u8::from(failed)], || match astray {
        Some(places) => format!("done, and a block went astray: {places}"),
        None => if failed { "failed" } else { "done" }.to_owned(),
    });
}

/// Asks every node that lives how it is, again and again.
fn ask_status(shared: &Shared) {
    let mut world = shared.lock();
    for (node, machine) in world.nodes.iter().enumerate() {
        let (back, epoch) = (shared.clone(), machine.process.epoch);
        let sink = Box::new(move |status| {
            let mut world = back.lock();
            if world.nodes[node].process.epoch == epoch {
                witness::hears(&mut world, node as u32, &status);
                world.nodes[node].process.status = Some(status);
            }
        });
        if let Some(inbox) = &machine.process.inbox {
            inbox.ask(Ask::Status(sink));
        }
    }
    if world.history.lives.reshaping.is_some() {
        orders::ask_layouts(shared, &world);
    }
    world.agenda.push(rt::now().plus_ms(STATUS_MS), Event::AskStatus);
}
