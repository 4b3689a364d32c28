//! The end of every run: everything is healed, then the cluster must serve, and all replicas must become equal.
//!
//! First every node has to become ready and whatever is in flight has to end; then every key is read at `all`, which merges and
//! writes back (there is no other repair yet), then at `quorum` through every node; then the states of all primaries are
//! taken from their engines. What does not come to pass in time is a `Stuck`.

use std::collections::BTreeMap;

use bytes::Bytes;
use rondo_core::codec;
use rondo_core::engine::Engine;
use rondo_core::id::{KeyspaceId, Token};
use rondo_core::layout::keyspace::{self, Level};
use rondo_core::replica;
use rondo_core::status::LayoutStatus;
use rondo_core::version::dvv::VersionSet;

use crate::client;
use crate::drive::pump;
use crate::faults;
use crate::history::{Final, Trouble};
use crate::rt;
use crate::scenario::{Action, Operation};
use crate::world::{Event, Node, Shared, World};

/// How long the healed cluster may take to become ready, in milliseconds.
const READY_MS: u64 = 30_000;
/// How long what was in flight may take to end, in milliseconds.
const SETTLE_MS: u64 = 60_000;
/// Between two tries of a read, in milliseconds.
const PAUSE_MS: u64 = 100;
/// How long one read of every key may take, repetitions included, in milliseconds.
const READ_MS: u64 = 20_000;

/// Heals the world and brings the run to its end.
pub async fn finish(shared: &Shared) {
    faults::heal(shared);
    shared.lock().agenda.push(rt::now(), Event::AskStatus);
    if !until(shared, READY_MS, all_ready).await {
        let waits = what_is_missing(&shared.lock());
        return stuck(shared, format!("not every node became ready: {waits}"));
    }
    if !until(shared, SETTLE_MS, |world| world.waiting.is_empty() && world.calls_ahead == 0).await {
        return stuck(shared, "some operation never ended".to_owned());
    }
    let (nodes, keys) = {
        let world = shared.lock();
        (world.scenario.cluster.nodes, world.scenario.keys())
    };
    let once = (0..keys).map(|key| (key, key % nodes)).collect();
    read(shared, Level::All, once).await;
    let everywhere = (0..keys).flat_map(|key| (0..nodes).map(move |node| (key, node))).collect();
    read(shared, Level::Quorum, everywhere).await;
    if !shared.lock().is_over() {
        dump(&mut shared.lock());
    }
}

async fn until(shared: &Shared, ms: u64, enough: impl Fn(&World) -> bool) -> bool {
    pump(shared, rt::now().plus_ms(ms), enough).await
}

/// Notes that the healed cluster did not do what it had to; a node that failed says more than that.
fn stuck(shared: &Shared, what: String) {
    let mut world = shared.lock();
    if !world.is_over() {
        world.trouble(0, Trouble::Stuck(what));
    }
}

fn all_ready(world: &World) -> bool {
    let is_ready = |node: &Node| node.status.as_ref().is_some_and(|status| status.ready);
    world.nodes.iter().all(|node| !node.stopping && is_ready(node))
}

fn what_is_missing(world: &World) -> String {
    let told = world.nodes.iter().enumerate().map(|(node, machine)| match &machine.status {
        None => format!("n{node} says nothing"),
        Some(status) => format!("n{node} waits for {:?}", status.waiting),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Reads each (key, node) until it has been read.
async fn read(shared: &Shared, level: Level, mut wanted: Vec<(u32, u32)>) {
    let give_up = rt::now().plus_ms(READ_MS);
    while !wanted.is_empty() {
        let first = shared.lock().operations.len();
        for &(key, node) in &wanted {
            submit(&mut shared.lock(), level, key, node);
        }
        let ended = |world: &World| world.waiting.is_empty() && world.calls_ahead == 0;
        until(shared, SETTLE_MS, ended).await;
        if shared.lock().is_over() {
            return;
        }
        wanted = unread(&shared.lock(), first);
        if let Some((key, node)) = wanted.first().filter(|_| rt::now() >= give_up) {
            return stuck(shared, format!("k{key} cannot be read at {level} through n{node}"));
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

fn submit(world: &mut World, level: Level, key: u32, node: u32) {
    let at_us = rt::now().0 / 1_000;
    let client = world.scenario.clients();
    let (action, named, retries) = (Action::Get, false, Vec::new());
    let op = world.operations.len();
    world.operations.push(Operation {
        at_us,
        client,
        node,
        key,
        level,
        action,
        named,
        retries,
        bytes: 0,
        vanishes_ms: 0,
    });
    world.calls_ahead += 1;
    world.agenda.push(rt::now(), Event::Call { op, attempt: 0 });
}

/// Takes the state of every key at each of its primaries.
fn dump(world: &mut World) {
    let status = world.nodes[0].status.clone().expect("every node was ready");
    let layout = status.layout.expect("a node that is ready has a layout");
    for node in 0..world.scenario.cluster.nodes {
        let machine = &world.nodes[node as usize];
        let mut tap = machine.tap.clone().expect("every node is up");
        let id = machine.id.expect("every node was started");
        let states = match states(&mut tap) {
            Ok(states) => states,
            Err(text) => return world.trouble(node, Trouble::Error { node, text }),
        };
        for key in 0..world.scenario.keys() {
            let name = client::key(key);
            let mut owners = owners(&layout, keyspace::token(KeyspaceId(1), &name));
            if owners.any(|owner| layout.roles[usize::from(owner)].node == id) {
                let state = states.get(&name).cloned().unwrap_or_default();
                let stamp = world.note("final", node, &state.digest().to_le_bytes(), || {
                    format!("k{key} {}", crate::describe::state(&state))
                });
                world.history.sight(key, &state, stamp, || format!("the end of n{node}"));
                world.history.finals.push(Final { key, node, state });
            }
        }
    }
}

fn owners(layout: &LayoutStatus, token: Token) -> impl Iterator<Item = u16> + '_ {
    let partition = keyspace::partition(token, layout.partitions);
    layout.owners[usize::from(partition.0)].iter().copied()
}

/// All keys of an engine with their states.
fn states(engine: &mut impl Engine) -> Result<BTreeMap<Bytes, VersionSet>, String> {
    let told = |error: rondo_core::error::Error| format!("its engine cannot be read: {error}");
    let mut states = BTreeMap::new();
    let mut from = Some(Bytes::new());
    while let Some(at) = from {
        let page = engine.scan_from(&at, 1_024, 1 << 20).map_err(told)?;
        for (key, record) in &page.records {
            if let Some(key) = replica::parse_data_key(key) {
                let state = codec::decode_state(&record.head, &record.body).map_err(told)?;
                states.insert(key.key, state);
            }
        }
        from = page.next;
    }
    Ok(states)
}
