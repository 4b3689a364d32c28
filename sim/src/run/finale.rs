//! The end of every run: everything is healed, then the cluster must serve, and all replicas must become equal.
//!
//! In some runs a part of it has to go on alone first (`survivors`). Then every node has to become ready and whatever is in
//! flight has to end; then every key is read at `all`, which merges and writes back (there is no other repair yet), then at
//! `quorum` through every node; then all have to come to rest (`rest`), and the states of all primaries are taken from their
//! engines. What does not come to pass in time is a `Stuck`.

use rondo_core::layout::keyspace::Level;

use crate::history::{Final, Stuck, Trouble};
use crate::rt;
use crate::run::heal;
use crate::run::inquiry::{owners, settled, states, submit, until};
use crate::run::rest;
use crate::run::survivors;
use crate::scenario::Action;
use crate::world::client;
use crate::world::witness;
use crate::world::{Event, Node, Shared, World};

/// How long the healed cluster may take to become ready, in milliseconds.
const READY_MS: u64 = 30_000;
/// Between two tries of a read, in milliseconds.
const PAUSE_MS: u64 = 100;
/// How long one read of every key may take, repetitions included, in milliseconds.
const READ_MS: u64 = 20_000;

/// Heals the world and brings the run to its end.
pub async fn finish(shared: &Shared) {
    let outside = survivors::outside(&shared.lock());
    heal::heal(shared, outside.as_ref());
    shared.lock().agenda.push(rt::now(), Event::AskStatus);
    if let Some(outside) = outside {
        survivors::go_on(shared, &outside).await;
        heal::reunite(shared, &outside);
    }
    if !until(shared, READY_MS, all_ready).await {
        let waits = what_is_missing(&shared.lock());
        return stuck(shared, waits);
    }
    if !settled(shared).await {
        return stuck(shared, Stuck::Operation);
    }
    outwait_what_was_held(shared).await;
    let (nodes, keys) = {
        let world = shared.lock();
        (world.scenario.cluster.nodes, world.scenario.keys())
    };
    let once = (0..keys).map(|key| (key, key % nodes)).collect();
    read(shared, Level::All, once).await;
    let everywhere = (0..keys).flat_map(|key| (0..nodes).map(move |node| (key, node))).collect();
    read(shared, Level::Quorum, everywhere).await;
    rest::wait(shared).await;
    if !shared.lock().is_over() {
        dump(&mut shared.lock());
    }
}

/// A put that its client has given up may still be on its way, in a message that was held or behind one. It would be coordinated
/// during the last reads, and the replicas be looked at while it is under way. So what was held arrives first and ends.
async fn outwait_what_was_held(shared: &Shared) {
    let deadline_ms = shared.lock().scenario.cluster.deadline_ms;
    until(shared, heal::HURRY_MS + deadline_ms, |_| false).await;
}

/// Notes that the healed cluster did not do what it had to; a node that failed says more than that.
fn stuck(shared: &Shared, what: Stuck) {
    let mut world = shared.lock();
    if !world.is_over() {
        world.trouble(0, Trouble::Stuck(what));
    }
}

fn all_ready(world: &World) -> bool {
    let is_ready = |node: &Node| node.process.status.as_ref().is_some_and(|status| status.ready);
    let own = world.nodes.iter().take(world.scenario.cluster.nodes as usize);
    own.into_iter().all(|node| !node.process.stopping && is_ready(node))
}

fn what_is_missing(world: &World) -> Stuck {
    let waits = |machine: &Node| machine.process.status.as_ref().map(|is| is.waiting.clone());
    Stuck::NotReady((0..).zip(world.nodes.iter().map(waits)).collect())
}

/// Reads each (key, node) until it has been read.
async fn read(shared: &Shared, level: Level, mut wanted: Vec<(u32, u32)>) {
    let give_up = rt::now().plus_ms(READ_MS);
    while !wanted.is_empty() {
        let first = shared.lock().clients.operations.len();
        for &(key, node) in &wanted {
            submit(&mut shared.lock(), level, Action::Get, key, node);
        }
        settled(shared).await;
        if shared.lock().is_over() {
            return;
        }
        wanted = unread(&shared.lock(), first);
        if let Some(&(key, node)) = wanted.first().filter(|_| rt::now() >= give_up) {
            return stuck(shared, Stuck::Unread { key, level, node });
        }
        if !wanted.is_empty() {
            // A node that refuses does so at once: without a pause no time would ever pass.
            until(shared, PAUSE_MS, |_| false).await;
        }
    }
}

/// What the operations from the `first` on meant to read and did not.
fn unread(world: &World, first: usize) -> Vec<(u32, u32)> {
    let ops = world.history.ops[first..].iter().filter(|op| op.read().is_none());
    ops.map(|op| (op.key, op.attempts[0].node)).collect()
}

/// Takes the state of every key at each of its primaries.
fn dump(world: &mut World) {
    world.history.layouts = witness::layouts(world);
    let status = world.nodes[0].process.status.clone().expect("every node was ready");
    let layout = status.layout.expect("a node that is ready has a layout");
    for node in 0..world.scenario.cluster.nodes {
        let states = match states(world, node) {
            Ok(states) => states,
            Err(cause) => return world.trouble(node, Trouble::failed(node, cause)),
        };
        for key in 0..world.scenario.keys() {
            if owners(world, &layout, key, &[node]).is_empty() {
                continue;
            }
            let state = states.get(&client::key(key)).cloned().unwrap_or_default();
            let stamp = world.note("final", node, &state.digest().to_le_bytes(), || {
                format!("k{key} {}", crate::watch::describe::state(&state))
            });
            world.history.sight(key, &state, (node, stamp), || format!("the end of n{node}"));
            world.history.finals.push(Final { key, node, state });
        }
    }
}
