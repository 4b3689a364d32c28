//! A simulated node: the product's host, core and engine on this world's clock, network and disk.
//!
//! Each life of a node has an epoch. A future that was killed is dropped late, so whatever it still does is
//! ignored because its epoch is over. After each turn of the host the work it started on its disk is
//! collected and gets its duration here; a panic of the host ends the node, not the world.

pub mod wire;

pub mod port;

pub mod store;

pub mod live_copies;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use rondo_core::budget::Memory;
use rondo_core::config::{Actors, NodeConfig, REPAIR_BYTES_PER_S, TRANSFER_BYTES_PER_S};
use rondo_core::env::Address;
use rondo_core::host::{self, Ended, Parts};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;
use rondo_engines::data_dir::DataDir;
use rondo_engines::mem_disk::MemDisk;

use crate::carry::driver::Driver;
use crate::carry::executor::Executor;
use crate::device::clock::SkewedClock;
use crate::device::disk;
use crate::device::ending::Ending;
use crate::device::failing::Due;
use crate::draw::Stream;
use crate::fault::{AtOperation, Trigger};
use crate::history::{self, Cause, Promise, Trouble};
use crate::node::port::Port;
use crate::node::store::Store;
use crate::node::wire::{Who, Wire};
use crate::rt::{self, Process};
use crate::scenario::Cluster;
use crate::watch::tap::Tap;
use crate::world::calls;
use crate::world::copies;
use crate::world::{Event, Part, SECRET, Shared, World};
use crate::world::{views, witness};

/// For how long the calls of one turn may keep a node's thread where its disk is slow, in microseconds, beside the changes of
/// files that its own writes ask for.
const HELD_UP_US_MAX: u64 = 100_000;
/// After how long a node is started again that its disk has ended, in milliseconds.
const SUPERVISOR_MS: u64 = 500;

/// Starts a node that is down; nothing happens when it is up.
pub fn start(shared: &Shared, node: u32) {
    let (process, is_up) = {
        let mut world = shared.lock();
        let is_own = node < world.scenario.cluster.nodes;
        if is_own && world.nodes[node as usize].part != Part::There {
            return;
        }
        if !world.nodes[node as usize].is_up() && !live_copies::make_way(&mut world, node) {
            return;
        }
        world.carry.streams.power_on(node);
        let machine = &world.nodes[node as usize];
        (machine.process.handle, machine.is_up())
    };
    match process {
        _ if is_up => {}
        Some(process) => process.restart(),
        None => {
            let shared_too = shared.clone();
            let process =
                Process::start(&format!("n{node}"), move || life(shared_too.clone(), node));
            shared.lock().nodes[node as usize].process.handle = Some(process);
        }
    }
}

/// One life of a node's process, until it ends by itself; a killed one never gets to the end.
async fn life(shared: Shared, node: u32) {
    let epoch = shared.lock().nodes[node as usize].process.epoch;
    let driver = shared.lock().carry.driver;
    let executor = Executor::default();
    let main = process(shared.clone(), node, executor.clone());
    let ended = match driver {
        Driver::Sim => watched(&shared, node, main).await,
        Driver::Wire => watched(&shared, node, executor.run(main)).await,
    };
    let mut world = shared.lock();
    if world.nodes[node as usize].process.epoch != epoch {
        return;
    }
    let lost_power = world.nodes[node as usize].device.fuse.put_out();
    if lost_power.is_some() {
        world.carry.streams.on_power_loss(node);
    }
    world.stream(|streams, luck| streams.on_exit(luck, node));
    let was_asked = world.nodes[node as usize].process.stopping;
    world.note("exit", node, &[], || match &ended {
        Ok(Err(ending)) => ending.to_string(),
        ended => format!("{ended:?}"),
    });
    let lacks = world.nodes[node as usize].data.lacks.as_ref().map(|lack| lack.file.clone());
    let by_disk = match &ended {
        Ok(Err(ending)) => world.nodes[node as usize].device.failing.explains(ending),
        _ => None,
    };
    match ended {
        // The rest of the power loss strikes now: it ends what else it names and says when all come back.
        Ok(_) if lost_power.is_some() => {
            // What it has answered in the turn in which its power went, it has answered without power.
            let (place, from) = (history::Place::Node(node), rt::now());
            let spell = history::Spell { place, from, until: from.plus_ms(1) };
            world.history.lives.spells.push(spell);
            let strikes = lost_power.map(Event::Strike);
            strikes.into_iter().for_each(|strike| world.agenda.push(rt::now(), strike));
        }
        Ok(Ok(())) if was_asked => {}
        Ok(Err(_)) if let Some(due) = by_disk => recover(&mut world, node, due),
        Ok(Err(ending)) if lacks.is_some_and(|file| ending.speaks_of(&file)) => {
            copies::give_back(&mut world, node);
            recover(&mut world, node, Due::Failure);
        }
        Ok(Ok(())) => {
            world.trouble(node, Trouble::failed(node, Cause::Unasked));
        }
        Ok(Err(ending)) => {
            world.trouble(node, Trouble::failed(node, Cause::Ended(ending)));
        }
        Err(text) => world.trouble(node, Trouble::Panic { node, text }),
    }
    world.nodes[node as usize].died();
    calls::hang_up(&mut world, node);
}

/// A node ended because of its disk: somebody repairs what is damaged and starts it again, as often as it takes.
fn recover(world: &mut World, node: u32, due: Due) {
    let machine = &world.nodes[node as usize];
    machine.device.disk.kill();
    if due == Due::Damage {
        machine.device.failing.mend();
        world.note("repair", node, &[], || "its data is put back".to_owned());
    }
    world.agenda.push(rt::now().plus_ms(SUPERVISOR_MS), Event::Start(node));
}

/// What a process does, in the order of the product's own.
async fn process(shared: Shared, node: u32, executor: Executor) -> Result<(), Ending> {
    let Booted { parts, directory, wire } = boot(&shared, node, &executor)?;
    let ended = host::run(parts).await.map_err(Ending::Ran)?;
    if let Some(wire) = wire {
        wire.links.stop().await;
    }
    match ended {
        Ended::Whole(last) => directory.mark_clean(last).map(drop).map_err(Ending::Unmarked),
        Ended::NoRoom => Ok(()),
    }
}

/// A node that is ready to run.
struct Booted {
    parts: Parts<SkewedClock, Port>,
    directory: DataDir<MemDisk>,
    wire: Option<Wire>,
}

/// Waits between two turns of a slow processor.
type Nap = Pin<Box<dyn Future<Output = ()>>>;

/// What came of a process: how it ended, or the text of its panic.
type Came = Result<Result<(), Ending>, String>;

/// Runs a node's future. It ends with the turn in which its disk lost its power: nothing takes its failed reads for damage.
async fn watched(
    shared: &Shared,
    node: u32,
    future: impl Future<Output = Result<(), Ending>>,
) -> Came {
    let mut future = pin!(future);
    let mut nap: Option<Nap> = None;
    std::future::poll_fn(|context: &mut Context<'_>| {
        if let Some(nap) = &mut nap {
            std::task::ready!(nap.as_mut().poll(context));
        }
        let turn = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let (turn_us, has_power) = after_turn(&mut shared.lock(), node);
        nap = (turn_us > 0).then(|| Box::pin(rt::sleep_until(rt::now().plus_us(turn_us))) as Nap);
        match turn {
            Ok(Poll::Pending) if !has_power => Poll::Ready(Ok(Err(Ending::NoPower))),
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(rt::panic_text(&*panic))),
        }
    })
    .await
}

/// What a turn leaves behind: after how many microseconds the next one comes at the soonest, because a slow processor or the disk keeps
/// the thread, and whether there is power for it.
fn after_turn(world: &mut World, node: u32) -> (u64, bool) {
    collect_disk_work(world, node);
    let turn_us = held_up_us(world, node) + world.nodes[node as usize].process.turn_us;
    (turn_us, !world.nodes[node as usize].device.fuse.has_blown())
}

/// For how long a node's disk keeps its own thread after the last turn. From the end of its start until it is asked to stop
/// it must not wait for the device itself, nor ask so much at once that everybody else waits.
fn held_up_us(world: &mut World, node: u32) -> u64 {
    let machine = &mut world.nodes[node as usize];
    let (calls, written) =
        (machine.device.disk.take_calls(), std::mem::take(&mut machine.device.written_bytes));
    let (disks, slow_ms) = (&world.scenario.disks, machine.device.slow_ms);
    let held_us = disk::held_up_us(disks, &calls, slow_ms);
    let held_us_max = HELD_UP_US_MAX + disk::filling_us(disks, written, slow_ms);
    if std::mem::take(&mut machine.process.starting) {
        // Whoever calls it finds it open already.
        return 0;
    }
    let is_running = machine.is_up() && !machine.process.stopping;
    let what = match calls.waits {
        _ if !is_running => return held_us,
        0 if held_us <= held_us_max => return held_us,
        0 => format!("one turn asked so much of its disk that it took {} ms", held_us / 1_000),
        waits => format!("it waited for its device on its own thread, {waits} times in one turn"),
    };
    witness::breach(world, node, Promise::Waits, what);
    held_us
}

/// Gives the disk work that a node started in its last turn an end.
fn collect_disk_work(world: &mut World, node: u32) {
    for fault in world.nodes[node as usize].device.fuse.take_due() {
        world.agenda.push(rt::now(), Event::Strike(fault));
    }
    for work in world.nodes[node as usize].device.disk.take_pending() {
        let machine = &mut world.nodes[node as usize];
        let (epoch, slow_ms, is_sync) =
            (machine.process.epoch, machine.device.slow_ms, work.is_sync());
        machine.device.syncs += u64::from(is_sync);
        let n = machine.device.syncs;
        let stalled_until = machine.device.stalled_until;
        let at = disk::done_at(&world.scenario.disks, &mut world.dice, node, rt::now(), slow_ms);
        let at = at.max(stalled_until);
        world.agenda.push(at, Event::Disk { node, epoch, work });
        if is_sync {
            world.trigger(|when| when == Trigger::OnSyncPending { node, n });
        }
    }
}

/// Opens a node's store and gives it what it needs to run.
fn boot(shared: &Shared, node: u32, executor: &Executor) -> Result<Booted, Ending> {
    let mut guard = shared.lock();
    let world = &mut *guard;
    let mut bits = || world.dice.next(Stream::Boot, node, 1).bits();
    let draws: [u64; 5] = std::array::from_fn(|_| bits());
    let mut seed = [0; 32];
    for (bytes, draw) in seed.chunks_mut(8).zip(draws) {
        bytes.copy_from_slice(&draw.to_le_bytes());
    }
    let machine = &mut world.nodes[node as usize];
    machine.lives += 1;
    let life = machine.lives;
    machine.device.failing.new_life();
    light_fuse(world, node, life);
    let is_seen = store::look(world, node, draws);
    let Store { engine, directory, actors, .. } = store::open_whole(world, node, draws)?;
    if let Some(lack) = world.nodes[node as usize].data.lacks.take() {
        let what = format!("it started, although something is wrong with {}", lack.file);
        return Err(Ending::Wrong(what));
    }
    if !is_seen {
        store::look_again(world, node, draws);
    }
    views::begins(world, node);
    let machine = &mut world.nodes[node as usize];
    let (id, boot) = (directory.node, directory.life.boot);
    let tap = Tap::new(engine, witness::observer(shared, node));
    let (inbox, reader) = Inbox::new(Memory::new(memory_bytes(&world.scenario.cluster)));
    machine.data.id = Some(id);
    world.ids.entry(id).or_default().insert(node);
    machine.data.tap = Some(tap.clone());
    machine.process.inbox = Some(inbox.clone());
    machine.process.starting = true;
    machine.clock = machine.clock.rebooted(draws[4] >> 24);
    let (clock, epoch) = (machine.clock.clone(), machine.process.epoch);
    let stamp = world.note("boot", node, &[], || format!("life {epoch}, boot {}", boot.0));
    if world.teller(node) == node {
        world.nodes[node as usize].data.life = Some(directory.life);
        world.history.lives.boots.push(history::Boot { node, stamp, epoch: boot.0 });
    }
    let (place, from) = (history::Place::Node(node), world.nodes[node as usize].process.down_since);
    world.history.lives.spells.push(history::Spell { place, from, until: rt::now() });
    let watch = world.probes.of(node);
    let wire = (world.carry.driver == Driver::Wire).then(|| {
        let who = who(world, node, id, directory.life);
        Wire::start(shared, world, who, executor, inbox)
    });
    let links = wire.as_ref().map(|wire| wire.links.clone());
    let parts = Parts {
        config: config(world, node, &directory, actors),
        secret: SECRET.to_vec(),
        engine: Box::new(tap),
        clock,
        network: Port { shared: shared.clone(), node, epoch, watch, links },
        seed,
        inbox: reader,
    };
    Ok(Booted { parts, directory, wire })
}

fn who(world: &mut World, node: u32, id: NodeId, life: Life) -> Who {
    let mut seed = [0; 32];
    for bytes in seed.chunks_mut(8) {
        bytes.copy_from_slice(&world.dice.next(Stream::Boot, node, 2).bits().to_le_bytes());
    }
    Who { node, id, life, cluster: store::CLUSTER.to_owned(), secret: SECRET.to_vec(), seed }
}

/// A life begins: the faults that wait for it strike, or lie in wait for an operation of its disk.
fn light_fuse(world: &mut World, node: u32, life: u64) {
    let begins = |when: Trigger| matches!(when, Trigger::OnBoot { node: of, n, .. } if (of, n) == (node, life));
    if world.faults.healed {
        return;
    }
    let mut fails = Vec::new();
    for (at, fault) in
        world.scenario.faults.iter().enumerate().filter(|(_, fault)| begins(fault.when))
    {
        match (fault.what.trouble().at_operation(), fault.when) {
            (AtOperation::PowerGoes, Trigger::OnBoot { ops, .. }) => {
                world.nodes[node as usize].device.fuse.light(at, ops);
            }
            (AtOperation::Fails { node: of, how, times }, Trigger::OnBoot { ops, .. }) => {
                fails.push((of, (at, how, times), ops));
                world.agenda.push(rt::now(), Event::Strike(at));
            }
            _ => world.agenda.push(rt::now(), Event::Strike(at)),
        }
    }
    for (of, what, ops) in fails {
        world.fail_disk(of, what, ops);
    }
}

fn memory_bytes(cluster: &Cluster) -> usize {
    (cluster.memory_mib as usize) << 20
}

/// Whom a node asks first: the first two of those who found the cluster. Whoever founds it alone asks nobody.
fn seeds(cluster: &Cluster, node: u32) -> Vec<Address> {
    let founders = cluster.founders();
    let is_alone = founders == 1 && node == 0;
    if is_alone { Vec::new() } else { (0..founders.min(2)).map(World::seed).collect() }
}

fn config(world: &World, node: u32, directory: &DataDir<MemDisk>, actors: Actors) -> NodeConfig {
    let (cluster, settings) = (&world.scenario.cluster, world.named(node));
    NodeConfig {
        id: directory.node,
        name: format!("n{settings}"),
        life: directory.life,
        earlier: directory.earlier.clone(),
        place: directory.place,
        actors,
        cluster: store::CLUSTER.to_owned(),
        peer_address: world.address(node),
        client_address: world.address(node),
        seeds: seeds(cluster, node),
        joins: world.scenario.is_reshaped(),
        // Whoever comes later, and not in the place of a founder, only joins.
        bootstrap_expect: if settings < cluster.founders() {
            cluster.founders() as usize
        } else {
            1
        },
        partitions: cluster.partitions,
        replicas: cluster.replicas,
        read_quorum: cluster.read_quorum,
        write_quorum: cluster.write_quorum,
        sloppy: cluster.sloppy,
        weight: cluster.weights.get(settings as usize).copied().unwrap_or(1),
        zone: cluster.zones.get(settings as usize).map(ToString::to_string).unwrap_or_default(),
        deadline_ms: cluster.deadline_ms,
        hedge_ms: cluster.hedge_ms,
        resend_ms: cluster.resend_ms,
        heartbeat_ms: cluster.heartbeat_ms,
        dead_ms: cluster.dead_ms,
        memory_bytes_max: memory_bytes(cluster),
        transfer_bytes_per_s: TRANSFER_BYTES_PER_S,
        hint_bytes_max: cluster.hint_bytes,
        repair_every_ms: cluster.repair_ms,
        repair_bytes_per_s: REPAIR_BYTES_PER_S,
        grace_ms: cluster.grace_ms,
    }
}
