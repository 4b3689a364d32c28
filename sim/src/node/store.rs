//! A simulated node's store: opened as the product opens it, and looked at before, in a copy of its disk.
//!
//! A start is judged here by what was on the disk before it. The excuse that damage gives is bounded: see `open_whole`.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::Actors;
use rondo_core::engine::{Batch, Change, Engine, Scale};
use rondo_core::id::{NodeId, SessionId};
use rondo_engines::data_dir::{DataDir, NewIdentity};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;
use rondo_engines::open::{DATA_DIR, Wanted, open_store};
use smallvec::smallvec;

use crate::device::ending::Ending;
use crate::history::Promise;
use crate::scenario::Disks;
use crate::watch::marks::Marks;
use crate::world::World;
use crate::world::witness;

/// The name of the simulated cluster.
pub const CLUSTER: &str = "simulated";

/// Looks at what a node's disk holds, before the node does; answers whether it could. Some engines keep nothing.
pub fn look(world: &mut World, node: u32, draws: [u64; 5]) -> bool {
    let engine = world.scenario.cluster.engine;
    if !engine.keeps() {
        return true;
    }
    let machine = &world.nodes[node as usize];
    if machine.data.lacks.is_some() {
        // It must not start: what it held, it holds when it is given back.
        return true;
    }
    // A store that cannot be opened, or says that it has lost something, is the node's own trouble.
    let is_sound = !machine.device.failing.may_mislead();
    if is_sound && engine == EngineKind::Lsm && world.history.lives.has_rotted {
        give_back_own(world, node, draws);
    }
    let (engine, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    let machine = &world.nodes[node as usize];
    let store = is_sound
        .then(|| open(engine, disks, machine.device.disk.fork(), world.named(node), draws).ok());
    match store.flatten() {
        Some(mut store) => {
            witness::look(world, node, store.engine.as_mut());
            true
        }
        None => false,
    }
}

/// Gives a node back those of its own records that a compaction took for damaged and carried along. Where no other replica can make a
/// record good, the product begins anew as another node; here somebody has kept what it noted of itself.
fn give_back_own(world: &mut World, node: u32, draws: [u64; 5]) {
    let (engine, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    let machine = &world.nodes[node as usize];
    let disk = machine.device.disk.fork();
    let Ok(mut store) = open(engine, disks, disk.clone(), world.named(node), draws) else {
        return;
    };
    let last = store.engine.durable();
    let own = machine.data.shadow.own(last).into_iter();
    let lost: Vec<_> = own.filter(|(key, _)| store.engine.get(key).is_err()).collect();
    if lost.is_empty() {
        return;
    }
    let put = |(key, (head, body)): (Bytes, (Bytes, Bytes))| Change::Put {
        key,
        head,
        body: smallvec![body],
        delta: 0,
    };
    let count = lost.len();
    let batch = Batch { changes: lost.into_iter().map(put).collect() };
    let written = store.engine.write(&batch).and_then(|_| store.engine.flush());
    drop(store);
    if written.is_ok() {
        disk.crash_keep_all();
        world.nodes[node as usize].device.disk.set_back(&disk);
        world.note("repair", node, &[], || format!("{count} of its own records are given back"));
    }
}

/// Looks at what a node that could not be foretold has made of its disk, also at what damage hides from it. What was there
/// before, as far as it was durable, has to be there.
pub fn look_again(world: &mut World, node: u32, draws: [u64; 5]) {
    let (engine, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    let disk = mended(&world.nodes[node as usize].device.disk);
    match open(engine, disks, disk, world.named(node), draws) {
        Ok(mut store) => witness::look(world, node, store.engine.as_mut()),
        Err(ending) => {
            let what = format!("it opened a store that cannot be opened once more: {ending}");
            witness::breach(world, node, Promise::Prefix, what);
        }
    }
}

/// An open store, and the directory that is marked when it has been closed.
pub struct Store {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// The directory.
    pub directory: DataDir<MemDisk>,
    /// What becomes of earlier lives' actors.
    pub actors: Actors,
    /// The last write in it; `None` when it keeps nothing.
    last: Option<u64>,
}

/// Opens a node's store, which has to hold all that its engine has ever called durable.
///
/// Damage to what was synced last, with no mark behind it, is to an engine a write that the last life did not finish. It cuts
/// it off, also when it fails after that. Then the disk is put back as it was. What an intact mark or header names is no such
/// thing, whatever damage there is: a start that takes it away has done so by itself.
pub fn open_whole(world: &mut World, node: u32, draws: [u64; 5]) -> Result<Store, Ending> {
    let kind = world.scenario.cluster.engine;
    let name = world.named(node);
    let machine = &mut world.nodes[node as usize];
    let (disk, durable, disks) =
        (&machine.device.disk, machine.data.durable, &world.scenario.disks);
    let before = machine.device.failing.may_mislead().then(|| disk.fork());
    let open = |disk: MemDisk| open(kind, disks, disk, name, draws);
    let forgot = |store: &Store| store.last.filter(|&last| last < durable);
    let mut opened = open(disk.clone());
    if let Some(before) = before {
        let after = match &opened {
            Ok(store) => Some(store.last),
            Err(_) => open(mended(disk)).ok().map(|store| store.last),
        };
        let marks = Marks::on(&before, DATA_DIR);
        if let Some(what) = marks.broken_by(&Marks::on(&disk.fork(), DATA_DIR), after.flatten()) {
            return Err(Ending::Wrong(what));
        }
        let has_cut = match after {
            Some(last) => last.is_some_and(|last| last < durable),
            None => open(mended(&before)).is_ok(),
        };
        if has_cut {
            disk.set_back(&before);
            if opened.is_ok() {
                machine.device.failing.mend();
                opened = open(disk.clone());
            }
            let what = || "the end of its log was damaged: put back".to_owned();
            world.note("repair", node, &[], what);
        }
    }
    let store = opened?;
    match forgot(&store) {
        Some(last) => {
            let what = format!("its store ends with write {last}, but {durable} was durable");
            Err(Ending::Wrong(what))
        }
        None => Ok(store),
    }
}

/// A copy of a disk, without its damage.
fn mended(disk: &MemDisk) -> MemDisk {
    let copy = disk.fork();
    copy.mend();
    copy
}

/// The last write with which a node would begin on a disk, if it can be opened.
#[must_use]
pub fn begins_with(world: &World, node: u32, disk: &MemDisk) -> Option<u64> {
    let (kind, disks) = (world.scenario.cluster.engine, &world.scenario.disks);
    let opened = open(kind, disks, disk.fork(), world.named(node), [0; 5]).ok()?;
    opened.last.map(|_| opened.engine.durable().0)
}

/// Opens what is on the disk, or makes it. `draws` become identities when there are none.
fn open(
    kind: EngineKind,
    disks: &Disks,
    disk: MemDisk,
    node: u32,
    draws: [u64; 5],
) -> Result<Store, Ending> {
    let new = NewIdentity {
        node: NodeId(u128::from(draws[0]) << 64 | u128::from(draws[1])),
        store: u128::from(draws[2]) << 64 | u128::from(draws[3]),
        name: format!("n{node}"),
        cluster: CLUSTER.to_owned(),
    };
    // Files so small that a short run fills and compacts some.
    let scale = Scale::Files(u64::from(disks.file_kib) << 10);
    let wanted = Wanted { kind, scale, new, is_named: true, session: SessionId(draws[4]) };
    let store = open_store(Arc::new(disk), &wanted)?;
    let last = store.opened.keeps.then_some(store.opened.last.0);
    Ok(Store { engine: store.engine, directory: store.dir, actors: store.actors, last })
}
