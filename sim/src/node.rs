//! A simulated node: the product's host, core and engine on this world's clock, network and disk.
//!
//! Each life of a node has an epoch. A future that was killed is dropped late, so whatever it still does is
//! ignored because its epoch is over. After each turn of the host the work it started on its disk is
//! collected and gets its duration here; a panic of the host ends the node, not the world.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use rondo_core::budget::Memory;
use rondo_core::config::{Actors, Durability, MEMORY_BYTES_USUAL, NodeConfig};
use rondo_core::engine::{Engine, MemoryEngine};
use rondo_core::host::{self, Parts};
use rondo_core::id::{BootEpoch, NodeId, SessionId};
use rondo_core::inbox::Inbox;
use rondo_engines::bitcask::{self, Bitcask};
use rondo_engines::data_dir::{DataDir, NewIdentity, OpenedEngine};
use rondo_engines::mem_disk::MemDisk;

use crate::calls;
use crate::clock::SkewedClock;
use crate::copies;
use crate::crew::Crew;
use crate::disk;
use crate::draw::Stream;
use crate::driver::Driver;
use crate::history::{self, Trouble};
use crate::port::{Port, address};
use crate::rt::{self, Process};
use crate::scenario::{Disks, EngineName, Kind, Trigger};
use crate::tap::Tap;
use crate::wire::{Who, Wire};
use crate::witness;
use crate::world::{Event, SECRET, Shared, World};

const CLUSTER: &str = "simulated";
/// Where the engine keeps its files.
const DATA: &str = "data";
/// After how long a node is started again that its disk has ended, in milliseconds.
const SUPERVISOR_MS: u64 = 500;

/// Starts a node that is down; nothing happens when it is up.
pub fn start(shared: &Shared, node: u32) {
    let (process, is_up) = {
        let mut world = shared.lock();
        world.streams.power_on(node);
        let machine = &world.nodes[node as usize];
        (machine.process, machine.is_up())
    };
    match process {
        _ if is_up => {}
        Some(process) => process.restart(),
        None => {
            let shared_too = shared.clone();
            let process =
                Process::start(&format!("n{node}"), move || life(shared_too.clone(), node));
            shared.lock().nodes[node as usize].process = Some(process);
        }
    }
}

/// One life of a node's process, until it ends by itself; a killed one never gets to the end.
async fn life(shared: Shared, node: u32) {
    let epoch = shared.lock().nodes[node as usize].epoch;
    let driver = shared.lock().driver;
    let crew = Crew::default();
    let main = process(shared.clone(), node, crew.clone());
    let ended = match driver {
        Driver::Sim => watched(&shared, node, main).await,
        Driver::Wire => watched(&shared, node, crew.run(main)).await,
    };
    let mut world = shared.lock();
    if world.nodes[node as usize].epoch != epoch {
        return;
    }
    let lost_power = world.nodes[node as usize].fuse.put_out();
    if lost_power.is_some() {
        world.streams.on_power_loss(node);
    }
    world.stream(|streams, luck| streams.on_exit(luck, node));
    let was_asked = world.nodes[node as usize].stopping;
    world.note("exit", node, &[], || format!("{ended:?}"));
    let lacks = world.nodes[node as usize].lacks.as_ref().map(|lack| lack.file.clone());
    let by_disk = match &ended {
        Ok(Err(text)) => world.nodes[node as usize].failing.explains(text),
        _ => None,
    };
    match ended {
        // The rest of the power loss strikes now: it ends what else it names and says when all come back.
        Ok(_) if lost_power.is_some() => {
            let strikes = lost_power.map(Event::Strike);
            strikes.into_iter().for_each(|strike| world.agenda.push(rt::now(), strike));
        }
        Ok(Ok(())) if was_asked => {}
        Ok(Err(_)) if let Some(damaged) = by_disk => recover(&mut world, node, damaged),
        Ok(Err(text)) if lacks.is_some_and(|file| text.contains(&file)) => {
            copies::give_back(&mut world, node);
            recover(&mut world, node, false);
        }
        Ok(Ok(())) => {
            let text = "it ended although nobody asked".to_owned();
            world.trouble(node, Trouble::Error { node, text });
        }
        Ok(Err(text)) => world.trouble(node, Trouble::Error { node, text }),
        Err(text) => world.trouble(node, Trouble::Panic { node, text }),
    }
    world.nodes[node as usize].died();
    calls::hang_up(&mut world, node);
}

/// A node ended because of its disk: somebody repairs what is damaged and starts it again, as often as it takes.
fn recover(world: &mut World, node: u32, damaged: bool) {
    let machine = &world.nodes[node as usize];
    machine.disk.kill();
    if damaged {
        machine.failing.mend();
        world.note("repair", node, &[], || "its data is put back".to_owned());
    }
    world.agenda.push(rt::now().plus_ms(SUPERVISOR_MS), Event::Start(node));
}

/// What a process does, in the order of the product's own.
async fn process(shared: Shared, node: u32, crew: Crew) -> Result<(), String> {
    let Booted { parts, directory, wire } = boot(&shared, node, &crew)?;
    let last = host::run(parts).await.map_err(|error| format!("ended: {error}"))?;
    if let Some(wire) = wire {
        wire.links.stop().await;
    }
    directory.mark_clean(last).map_err(|error| format!("could not end cleanly: {error}"))
}

/// A node that is ready to run.
struct Booted {
    parts: Parts<SkewedClock, Port>,
    directory: DataDir<MemDisk>,
    wire: Option<Wire>,
}

/// Waits between two turns of a slow processor.
type Nap = Pin<Box<dyn Future<Output = ()>>>;

/// Runs a node's future; the text of its panic when it panics.
async fn watched<F: Future>(shared: &Shared, node: u32, future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    let mut nap: Option<Nap> = None;
    std::future::poll_fn(|context: &mut Context<'_>| {
        if let Some(nap) = &mut nap {
            std::task::ready!(nap.as_mut().poll(context));
        }
        let turn = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        collect_disk_work(shared, node);
        // A slow processor gives the next turn late.
        let turn_us = shared.lock().nodes[node as usize].turn_us;
        nap = (turn_us > 0).then(|| Box::pin(rt::sleep_until(rt::now().plus_us(turn_us))) as Nap);
        match turn {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(rt::panic_text(&*panic))),
        }
    })
    .await
}

/// Gives the disk work that a node started in its last turn an end.
fn collect_disk_work(shared: &Shared, node: u32) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    for work in world.nodes[node as usize].disk.take_pending() {
        let machine = &mut world.nodes[node as usize];
        let (epoch, slow_ms, is_sync) = (machine.epoch, machine.slow_ms, work.is_sync());
        machine.syncs += u64::from(is_sync);
        let n = machine.syncs;
        let stalled_until = machine.stalled_until;
        let at = disk::done_at(&world.scenario.disks, &mut world.dice, node, rt::now(), slow_ms);
        let at = at.max(stalled_until);
        world.agenda.push(at, Event::Disk { node, epoch, work });
        if is_sync {
            world.trigger(|when| when == Trigger::OnSyncPending { node, n });
        }
    }
}

/// Opens a node's store and gives it what it needs to run.
fn boot(shared: &Shared, node: u32, crew: &Crew) -> Result<Booted, String> {
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
    machine.failing.new_life();
    light_fuse(world, node, life);
    look(world, node, draws);
    let Store { engine, directory, actors, .. } = open_whole(world, node, draws)?;
    if let Some(lack) = world.nodes[node as usize].lacks.take() {
        return Err(format!("it started, although something is wrong with {}", lack.file));
    }
    if world.nodes[node as usize].shadow.is_lost() {
        look_again(world, node, draws);
    }
    let machine = &mut world.nodes[node as usize];
    let (id, boot) = (directory.node, directory.life.boot);
    let tap = Tap::new(engine, witness::observer(shared, node));
    let (inbox, reader) = Inbox::new(Memory::new(MEMORY_BYTES_USUAL));
    machine.id = Some(id);
    machine.tap = Some(tap.clone());
    machine.inbox = Some(inbox.clone());
    machine.clock = machine.clock.rebooted(draws[4] >> 24);
    let (clock, epoch) = (machine.clock.clone(), machine.epoch);
    let stamp = world.note("boot", node, &[], || format!("life {epoch}, boot {}", boot.0));
    if world.nodes[node as usize].stand_in.is_none() {
        world.nodes[node as usize].life = Some(directory.life);
        world.history.boots.push(history::Boot { node, stamp, epoch: boot.0 });
    }
    let (place, from) = (history::Place::Node(node), world.nodes[node as usize].down_since);
    world.history.spells.push(history::Spell { place, from, until: rt::now() });
    let watch = world.probes.of(node);
    let wire = (world.driver == Driver::Wire).then(|| {
        let who = who(world, node, id, boot);
        Wire::start(shared, world, who, crew, inbox)
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

fn who(world: &mut World, node: u32, id: NodeId, boot: BootEpoch) -> Who {
    let mut seed = [0; 32];
    for bytes in seed.chunks_mut(8) {
        bytes.copy_from_slice(&world.dice.next(Stream::Boot, node, 2).bits().to_le_bytes());
    }
    Who { node, id, boot, cluster: CLUSTER.to_owned(), secret: SECRET.to_vec(), seed }
}

/// Looks at what a node's disk holds, before the node does. The memory engine keeps nothing.
fn look(world: &mut World, node: u32, draws: [u64; 5]) {
    let (engine, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    if engine != EngineName::Bitcask {
        return;
    }
    let machine = &world.nodes[node as usize];
    if machine.lacks.is_some() {
        // It must not start: what it held, it holds when it is given back.
        return;
    }
    // A store that cannot be opened, or says that it has lost something, is the node's own trouble.
    let is_sound = !machine.failing.may_mislead();
    let store = is_sound.then(|| open(engine, disks, machine.disk.fork(), node, draws).ok());
    match store.flatten() {
        Some(mut store) => witness::look(world, node, store.engine.as_mut()),
        None => world.nodes[node as usize].shadow.lose_sight(),
    }
}

/// Looks at what a node that could not be foretold has made of its disk. All of it is durable, also what is hidden by damage.
fn look_again(world: &mut World, node: u32, draws: [u64; 5]) {
    let (engine, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    let disk = mended(&world.nodes[node as usize].disk);
    if let Ok(mut store) = open(engine, disks, disk, node, draws) {
        witness::look(world, node, store.engine.as_mut());
    }
}

/// A life begins: the faults that wait for it strike, or lie in wait for an operation of its disk.
fn light_fuse(world: &mut World, node: u32, life: u64) {
    let begins = |when: Trigger| matches!(when, Trigger::OnBoot { node: of, n, .. } if (of, n) == (node, life));
    if world.healed {
        return;
    }
    for (at, fault) in
        world.scenario.faults.iter().enumerate().filter(|(_, fault)| begins(fault.when))
    {
        match (&fault.what, fault.when) {
            (Kind::PowerLoss { .. }, Trigger::OnBoot { ops, .. }) => {
                world.nodes[node as usize].fuse.light(at, ops);
            }
            (Kind::DiskError { node: of, what, times, .. }, Trigger::OnBoot { ops, .. }) => {
                let machine = &world.nodes[*of as usize];
                machine.failing.begin(at, *what, *times, ops);
                world.agenda.push(rt::now(), Event::Strike(at));
            }
            _ => world.agenda.push(rt::now(), Event::Strike(at)),
        }
    }
}

/// An open store, and the directory that is marked when it has been closed.
struct Store {
    engine: Box<dyn Engine>,
    directory: DataDir<MemDisk>,
    actors: Actors,
    /// The last write in it; `None` when it keeps nothing.
    last: Option<u64>,
}

/// Opens a node's store, which has to hold all that its engine has ever called durable.
///
/// Damage to what was synced last, with no mark behind it, is to an engine a write that the last life did not finish. It cuts
/// it off, also when it fails after that. Then the disk is put back as it was. Left out: how much the marks that are not
/// damaged name; so while a disk may mislead, a start that cuts more than it may is put back too.
fn open_whole(world: &mut World, node: u32, draws: [u64; 5]) -> Result<Store, String> {
    let kind = world.scenario.cluster.engine;
    let machine = &mut world.nodes[node as usize];
    let (disk, durable, disks) = (&machine.disk, machine.durable, &world.scenario.disks);
    let before = machine.failing.may_mislead().then(|| disk.fork());
    let open = |disk: MemDisk| open(kind, disks, disk, node, draws);
    let forgot = |store: &Store| store.last.filter(|&last| last < durable);
    let mut opened = open(disk.clone());
    if let Some(before) = before {
        let is_open = opened.is_ok();
        let has_cut = match &opened {
            Ok(store) => forgot(store).is_some(),
            Err(_) => match open(mended(disk)) {
                Ok(store) => forgot(&store).is_some(),
                Err(_) => open(mended(&before)).is_ok(),
            },
        };
        if has_cut {
            disk.set_back(&before);
            if is_open {
                machine.failing.mend();
                opened = open(disk.clone());
            }
            let what = || "the end of its log was damaged: put back".to_owned();
            world.note("repair", node, &[], what);
        }
    }
    let store = opened?;
    match forgot(&store) {
        Some(last) => Err(format!("its store ends with write {last}, but {durable} was durable")),
        None => Ok(store),
    }
}

/// A copy of a disk, without its damage.
fn mended(disk: &MemDisk) -> MemDisk {
    let copy = disk.fork();
    copy.mend();
    copy
}

/// Opens what is on the disk, or makes it. `draws` become identities when there are none.
fn open(
    kind: EngineName,
    disks: &Disks,
    disk: MemDisk,
    node: u32,
    draws: [u64; 5],
) -> Result<Store, String> {
    let disk = Arc::new(disk);
    let new = NewIdentity {
        node: NodeId(u128::from(draws[0]) << 64 | u128::from(draws[1])),
        store: u128::from(draws[2]) << 64 | u128::from(draws[3]),
        name: format!("n{node}"),
        cluster: CLUSTER.to_owned(),
    };
    let session = SessionId(draws[4]);
    let mut directory = DataDir::open(Arc::clone(&disk), &new, session, &[DATA])
        .map_err(|error| format!("its data directory cannot be opened: {error}"))?;
    match kind {
        EngineName::Memory => {
            let engine = Box::new(MemoryEngine::new());
            Ok(Store { engine, directory, actors: Actors::Fresh, last: None })
        }
        EngineName::Bitcask => {
            let options = small_files(directory.store() as u64, disks.file_kib);
            let (engine, opened) = Bitcask::open(disk, DATA, options)
                .map_err(|error| format!("its store cannot be opened: {error}"))?;
            if let Some(lost) = opened.lost.first() {
                return Err(format!("its store lost what was durable: {lost:?}"));
            }
            directory
                .take_stock(&OpenedEngine::of(&engine, opened.last))
                .map_err(|error| format!("its store lost what was durable: {error}"))?;
            let last = Some(opened.last.0);
            Ok(Store { engine: Box::new(engine), actors: directory.actors(), directory, last })
        }
    }
}

/// Files so small that a short run fills and merges some.
fn small_files(salt: u64, kib: u32) -> bitcask::Options {
    let bytes = u64::from(kib) << 10;
    bitcask::Options {
        file_bytes_max: bytes,
        allocate_bytes: bytes / 8,
        buffer_bytes_max: (bytes / 16) as usize,
        merge_dead_bytes_min: bytes / 2,
        ..bitcask::Options::new(salt)
    }
}

fn config(world: &World, node: u32, directory: &DataDir<MemDisk>, actors: Actors) -> NodeConfig {
    let cluster = &world.scenario.cluster;
    NodeConfig {
        id: directory.node,
        name: format!("n{node}"),
        life: directory.life,
        earlier: directory.earlier.clone(),
        place: directory.place,
        actors,
        cluster: CLUSTER.to_owned(),
        peer_address: address(node),
        client_address: address(node),
        seeds: if cluster.nodes == 1 { Vec::new() } else { vec![address(0), address(1)] },
        bootstrap_expect: cluster.nodes as usize,
        partitions: cluster.partitions,
        replicas: cluster.replicas,
        read_quorum: cluster.read_quorum,
        write_quorum: cluster.write_quorum,
        weight: cluster.weights.get(node as usize).copied().unwrap_or(1),
        zone: cluster.zones.get(node as usize).map(ToString::to_string).unwrap_or_default(),
        deadline_ms: cluster.deadline_ms,
        hedge_ms: cluster.hedge_ms,
        resend_ms: cluster.resend_ms,
        heartbeat_ms: cluster.heartbeat_ms,
        dead_ms: cluster.dead_ms,
        durability: Durability::Batch,
        memory_bytes_max: MEMORY_BYTES_USUAL,
    }
}
