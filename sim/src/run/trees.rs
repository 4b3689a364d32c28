//! Whether the hash trees of nodes say what they store: each complete one, asked for as an operator does, is the sum of the states in its
//! node's engine.
//!
//! A tree that leaves something out can hide that copies differ, and one that has too much is compared for nothing. Comparing finds
//! and mends many of them, so that copies become equal all the same; that no node has found one, `rest` asks.
//! Left out: nodes whose disk rotted or was misled, because what rots while nobody reads it stays in a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rondo_core::admin::{AdminReply, AdminRequest, Done};
use rondo_core::id::KeyspaceId;
use rondo_core::inbox::Ask;
use rondo_core::repair::merkle::entry;
use rondo_core::wire::key::KeyRef;

use crate::history::Promise;
use crate::run::inquiry::{place, states, until};
use crate::world::witness;
use crate::world::{Shared, World};

/// How often it is looked, and between two looks, in milliseconds: a write may lie between an answer and a look into the engine.
const TIMES: u32 = 3;
const PAUSE_MS: u64 = 500;

/// The roots that nodes told, each of a node and a partition.
type Told = Arc<Mutex<BTreeMap<(u32, u16), String>>>;

/// Notes every node whose trees are wrong.
pub async fn judge(shared: &Shared) {
    let mut wrong = BTreeMap::new();
    for look in 0..TIMES {
        let told = Told::default();
        ask(&shared.lock(), &told);
        until(shared, PAUSE_MS, |_| false).await;
        let world = shared.lock();
        if world.is_over() {
            return;
        }
        let now = all_wrong(&world, &told);
        wrong.retain(|at, _| now.contains_key(at));
        if look == 0 {
            wrong = now;
        }
        if wrong.is_empty() {
            break;
        }
    }
    let world = &mut *shared.lock();
    for ((node, _), what) in wrong {
        witness::breach(world, node, Promise::Trees, what);
    }
}

fn ask(world: &World, told: &Told) {
    for node in world.there() {
        let machine = &world.nodes[node as usize];
        let status = machine.process.status.as_ref().and_then(|status| status.layout.as_ref());
        let (Some(layout), Some(inbox)) = (status, &machine.process.inbox) else {
            continue;
        };
        let places: BTreeSet<u16> =
            (0..world.scenario.keys()).map(|key| place(key, layout.partitions)).collect();
        for partition in places {
            let told = told.clone();
            let sink = Box::new(move |reply: AdminReply| {
                let Ok(Done::Merkle(status)) = reply else {
                    return;
                };
                for tree in status.trees.into_iter().filter(|tree| tree.complete) {
                    let mut told = told.lock().expect("nobody panics while it is held");
                    told.insert((node, partition), tree.root);
                }
            });
            inbox.ask(Ask::Admin(AdminRequest::Merkle { partition }, sink));
        }
    }
}

/// What was told and is not what is stored, of each node and partition.
fn all_wrong(world: &World, told: &Told) -> BTreeMap<(u32, u16), String> {
    let told = told.lock().expect("nobody panics while it is held");
    let mut wrong = BTreeMap::new();
    for node in world.there().filter(|&node| is_sound(world, node)) {
        let layout = world.nodes[node as usize].process.status.as_ref();
        let layout = layout.and_then(|status| status.layout.as_ref());
        let (Some(layout), Ok(states)) = (layout, states(world, node)) else {
            continue;
        };
        let mut sums: BTreeMap<u16, u64> = BTreeMap::new();
        for (name, state) in states {
            let key = KeyRef::new(KeyspaceId(1), name);
            let partition =
                rondo_core::layout::keyspace::partition(key.token(), layout.partitions).0;
            *sums.entry(partition).or_default() ^= entry(&key, &state);
        }
        for (&(of, partition), root) in told.iter().filter(|((of, _), _)| *of == node) {
            let sum = format!("{:016x}", sums.get(&partition).copied().unwrap_or_default());
            if sum != *root {
                let what = format!(
                    "its tree of partition {partition} is {root}, and what it stores {sum}"
                );
                wrong.insert((of, partition), what);
            }
        }
    }
    wrong
}

fn is_sound(world: &World, node: u32) -> bool {
    let failing = &world.nodes[node as usize].device.failing;
    !failing.is_rotten() && !failing.was_misled()
}
