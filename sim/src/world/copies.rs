//! Data directories that are not a node's newest one: how they come into its place, and how the newest one comes back.
//!
//! An old copy is put in only when all other nodes have stored durably that the node has had a later life, or run and have heard that
//! its last life had more durably than the copy. Else nobody could
//! tell, and the product promises nothing: an isolated node may have lived, served at level `one` and ended unseen. From
//! then on the copy must not serve, and nothing that it says may count; the oracles see to the rest. A node that lacks a
//! file must not start, and say which; then the file is put back.

use std::io;

use rondo_core::env::{Disk as _, Open};
use rondo_core::member::lives;
use rondo_engines::mem_disk::MemDisk;

use crate::fault::directories::Replacement;
use crate::history::{Place, Spell, Stamp, StoodIn};
use crate::rt::{self, Time};
use crate::world::stand_in::{Lack, StandIn};
use crate::world::{Event, World};

/// The device of what does not lie where the newest directory lay; each has one of its own.
const ELSEWHERE: u64 = 1_000;

/// A copy of a node's whole disk, all of it durable.
#[must_use]
pub fn copy(world: &World, node: u32) -> MemDisk {
    let copy = world.nodes[node as usize].device.disk.fork();
    copy.crash_keep_all();
    copy
}

/// Puts another directory into the place of a node's newest one, which is down; answers whether that was possible.
/// `begins`: the last write that it will begin with, if that is known.
pub fn put_in(
    world: &mut World,
    fault: usize,
    (node, what): (u32, Replacement),
    (disk, begins): (&MemDisk, Option<u64>),
) -> bool {
    let is_copy = !matches!(what, Replacement::Wiped { .. });
    // Before that the cluster may not have been formed, and an empty directory would become one of its nodes.
    let is_formed = world.clients.acks > 0;
    let is_old = is_older(world, node, disk);
    let is_told = !is_copy || is_old || is_behind(world, node, begins);
    if !is_formed || !is_outlived(world, node) || !is_told {
        return false;
    }
    if is_copy && !is_old {
        world.faults.live_copies.insert(node, false);
    }
    let from = world.note("put in", node, &[], || what.name().to_owned());
    world.agenda.retain(|event| !matches!(event, Event::Deliver { to, .. } if *to == node));
    let machine = &mut world.nodes[node as usize];
    let newest = machine.device.disk.fork();
    machine.device.disk.set_back(disk);
    if !what.is_in_place() {
        machine.device.disk.move_to(ELSEWHERE + fault as u64);
    }
    let shadow = machine.data.shadow.of_a_copy();
    let shadow = std::mem::replace(&mut machine.data.shadow, shadow);
    let durable = std::mem::take(&mut machine.data.durable);
    let since = rt::now();
    machine.data.stand_in =
        Some(StandIn { newest, shadow, durable, id: machine.data.id, since, from, is_copy });
    true
}

/// Puts the newest directory of a node, which is down, back into its place.
pub fn put_back(world: &mut World, node: u32) {
    let Some(was) = world.nodes[node as usize].data.stand_in.take() else {
        return;
    };
    let until = world.note("put back", node, &[], || "its newest directory".to_owned());
    world.agenda.retain(|event| !matches!(event, Event::Deliver { to, .. } if *to == node));
    let machine = &mut world.nodes[node as usize];
    machine.device.disk.set_back(&was.newest);
    machine.device.disk.move_to(0);
    machine.data.shadow = was.shadow;
    machine.data.durable = was.durable;
    machine.data.id = was.id;
    let place = Place::Node(node);
    world.history.lives.spells.push(Spell { place, from: was.since, until: rt::now() });
    if was.is_copy {
        world.history.lives.stood_in.push(StoodIn { node, from: was.from, until });
    }
}

/// Puts a copy of a node's directory on the machine that is no node's own; answers which, when that was possible.
pub fn clone(
    world: &mut World,
    fault: usize,
    node: u32,
    (disk, begins): (&MemDisk, Option<u64>),
) -> Option<u32> {
    let host = world.scenario.cluster.nodes;
    let is_free = world.nodes.get(host as usize).is_some_and(|machine| !machine.is_up());
    let is_old = is_older(world, node, disk);
    let is_told = is_old || is_behind(world, node, begins);
    if !is_free || world.clients.acks == 0 || !is_outlived(world, node) || !is_told {
        return None;
    }
    if !is_old {
        world.faults.live_copies.insert(host, false);
    }
    let shadow = world.nodes[node as usize].data.shadow.of_a_copy();
    let machine = &mut world.nodes[host as usize];
    machine.device.disk.set_back(disk);
    machine.device.disk.move_to(ELSEWHERE + fault as u64);
    (machine.data.shadow, machine.data.durable, machine.data.id) = (shadow, 0, None);
    machine.data.clone_of = Some(node);
    let from = world.note("clone", node, &[], || format!("a copy is started at n{host}"));
    let until = Stamp::NEVER;
    world.history.lives.stood_in.push(StoodIn { node: host, from, until });
    let place = Place::Node(host);
    world.history.lives.spells.push(Spell { place, from: Time::default(), until: Time(u64::MAX) });
    Some(host)
}

/// Whether all others have stored that the last life of a node's newest directory counts, and nothing is wrong with its disk.
fn is_outlived(world: &World, node: u32) -> bool {
    let machine = &world.nodes[node as usize];
    let (Some(id), Some(life)) = (machine.data.id, machine.data.life) else {
        return false;
    };
    let own = world.nodes.iter().take(world.scenario.cluster.nodes as usize);
    let others = (0..).zip(own).filter(|&(other, _)| other != node);
    let mut counted = others.map(|(_, other)| {
        let head = other.data.shadow.durable_head(lives::LIVES_KEY);
        other.data.stand_in.is_none() && head.is_some_and(|head| lives::counts(head, id, life))
    });
    let is_whole = machine.data.stand_in.is_none() && machine.data.lacks.is_none();
    is_whole
        && world.scenario.cluster.nodes > 1
        && !machine.device.failing.may_mislead()
        && counted.all(|is| is)
}

/// Whether the node has lived on since a copy was made. Else the copy is the newest directory as soon as it runs.
fn is_older(world: &World, node: u32, copy: &MemDisk) -> bool {
    // Behind the magic word and the format: see `data_dir`.
    let boot = copy.content("boot").and_then(|bytes| Some(*bytes.get(8..)?.first_chunk::<8>()?));
    let life = world.nodes[node as usize].data.life;
    let lived_on = |boot| life.is_some_and(|life| life.boot.0 > u64::from_le_bytes(boot));
    copy.content("identity").is_some() && boot.is_some_and(lived_on)
}

/// Whether all others run and have heard that the node's last life had more durably than a copy begins with. What they hear
/// only rises as long as they run.
fn is_behind(world: &World, node: u32, begins: Option<u64>) -> bool {
    let (Some(id), Some(begins)) = (world.nodes[node as usize].data.id, begins) else {
        return false;
    };
    let own = world.nodes.iter().take(world.scenario.cluster.nodes as usize);
    let mut others = (0..).zip(own).filter(|&(other, _)| other != node);
    others.all(|(_, other)| other.process.heard.get(&id).is_some_and(|&heard| heard > begins))
}

/// A node's disk, which is down, with half of what its newest log file holds. To its engine that is a write that was not finished;
/// a file that is gone it would name.
#[must_use]
pub fn with_half_a_log(world: &World, node: u32) -> MemDisk {
    let disk = copy(world, node);
    let files = disk.list("data").unwrap_or_default();
    let is_merged = |number: &str| files.contains(&format!("{number}.hint"));
    let logs =
        files.iter().filter(|name| name.strip_suffix(".data").is_some_and(|n| !is_merged(n)));
    if let Some(newest) = logs.max() {
        let path = format!("data/{newest}");
        let bytes = disk.content(&path).unwrap_or_default();
        let held = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        // Nothing is wrong with a copy: what it cannot do shows when the store is opened.
        drop(cut_to(&disk, &path, held as u64 / 2));
    }
    disk
}

/// Takes a file, or the last byte of one, from a node that was stopped in order; answers whether that was possible.
pub fn take_file(world: &mut World, node: u32, which: u32, cut: bool) -> bool {
    let machine = &mut world.nodes[node as usize];
    let was_closed = machine.device.disk.content("clean").is_some();
    let is_whole = machine.data.stand_in.is_none() && machine.data.lacks.is_none();
    if !was_closed || !is_whole || machine.device.failing.may_mislead() {
        return false;
    }
    let whole = machine.device.disk.fork();
    let mut files = vec!["identity".to_owned(), "boot".to_owned()];
    let data = whole.list("data").unwrap_or_default().into_iter();
    files.extend(data.filter(|name| name.ends_with(".data")).map(|name| format!("data/{name}")));
    let file = files.swap_remove(which as usize % files.len());
    if take(&machine.device.disk, &file, cut).is_err() {
        machine.device.disk.set_back(&whole);
        return false;
    }
    machine.data.lacks = Some(Lack { file: file.clone(), whole });
    world.note("lose file", node, &[], || format!("{file}{}", if cut { ", a byte" } else { "" }));
    true
}

fn take(disk: &MemDisk, file: &str, cut: bool) -> io::Result<()> {
    if !cut {
        disk.remove(file)?;
        return disk.sync_dir(file.rsplit_once('/').map_or("", |(dir, _)| dir));
    }
    let len = disk.len(&disk.open(file, Open::Existing)?)?;
    cut_to(disk, file, len.saturating_sub(1))
}

fn cut_to(disk: &MemDisk, file: &str, len: u64) -> io::Result<()> {
    let open = disk.open(file, Open::Existing)?;
    disk.set_len(&open, len)?;
    disk.sync_now(&open)
}

/// Puts back what a node lacks; answers whether it lacked something.
pub fn give_back(world: &mut World, node: u32) -> bool {
    let machine = &mut world.nodes[node as usize];
    let Some(lack) = machine.data.lacks.take() else {
        return false;
    };
    machine.device.disk.set_back(&lack.whole);
    world.note("repair", node, &[], || format!("{} is put back", lack.file));
    true
}
