//! The end of every run: everything is healed, then the cluster must serve, and all replicas must become equal.
//!
//! In some runs a part of it has to go on alone first (`survivors`). Then every node has to become ready and whatever is in
//! flight has to end; then copies become equal unread, where nodes compare them (`unread`); then every key is read at `all`, which
//! merges and writes back, then at
//! `quorum` through every node; then all have to come to rest (`rest`), and the states of all primaries are taken from their
//! engines. What does not come to pass in time is a `Stuck`.

use rondo_core::layout::keyspace::Level;

use crate::history::{Agreement, Final, Stuck, Trouble};
use crate::oracle::views::sees_ms;
use crate::rt;
use crate::run::drive::pump;
use crate::run::inquiry::{owners, place, settled, states, submit, until};
use crate::run::rest;
use crate::run::survivors;
use crate::run::trees;
use crate::run::unread;
use crate::run::{heal, orders};
use crate::scenario::Action;
use crate::world::client;
use crate::world::{Event, Node, Shared, World};
use crate::world::{views, witness};

/// How long the healed cluster may take to become ready, in milliseconds.
const READY_MS: u64 = 30_000;
/// How long until they agree about those that are gone, in milliseconds: a suspicion that nobody confirms lasts 24 s, and before it a
/// probe has to fail.
const GONE_MS: u64 = 30_000;
/// How long the layouts may take to come to rest, and their transfers, in milliseconds.
const RESHAPE_MS: u64 = 120_000;
/// How often operators clear up, and how long they wait each time, in milliseconds.
const CLEAR_UP_TIMES: u64 = RESHAPE_MS / CLEAR_UP_MS;
const CLEAR_UP_MS: u64 = 2_000;
/// How long nodes may take until they have handed over what they owe, in milliseconds: a target that has failed often is left alone for
/// half a minute.
const HINTS_MS: u64 = 90_000;
/// Between two tries of a read, in milliseconds.
const PAUSE_MS: u64 = 100;
/// How long one read of every key may take, repetitions included, in milliseconds.
const READ_MS: u64 = 20_000;

/// Heals the world and brings the run to its end.
pub async fn finish(shared: &Shared) {
    let outside = survivors::outside(&shared.lock());
    heal::heal(shared, outside.as_ref());
    if shared.lock().history.lives.reshaping.is_none() {
        shared.lock().agenda.push(rt::now(), Event::AskStatus);
    }
    if let Some(outside) = outside {
        survivors::go_on(shared, &outside).await;
        heal::reunite(shared, &outside);
    }
    agree(shared).await;
    clear_up(shared).await;
    if !until(shared, READY_MS, all_ready).await {
        let waits = what_is_missing(&shared.lock());
        return stuck(shared, waits);
    }
    if !settled(shared).await {
        return stuck(shared, Stuck::Operation);
    }
    bury(shared).await;
    outwait_what_was_held(shared).await;
    if shared.lock().history.lives.reshaping.is_some() && !reshaped(shared).await {
        let waits = live_layouts(&shared.lock());
        return stuck(shared, Stuck::Reshapes(waits));
    }
    if !until(shared, HINTS_MS, |world| owing(world).is_empty()).await {
        let owing = owing(&shared.lock());
        return stuck(shared, Stuck::Owes(owing));
    }
    unread::wait(shared).await;
    let (nodes, keys) = {
        let world = shared.lock();
        (world.there().collect::<Vec<u32>>(), world.scenario.keys())
    };
    let once = (0..keys).map(|key| (key, nodes[key as usize % nodes.len()])).collect();
    read(shared, Level::All, once).await;
    let everywhere = (0..keys).flat_map(|key| nodes.iter().map(move |&node| (key, node))).collect();
    read(shared, Level::Quorum, everywhere).await;
    rest::wait(shared).await;
    trees::judge(shared).await;
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
    let mut own = world.there().map(|node| &world.nodes[node as usize]);
    own.all(|node| !node.process.stopping && is_ready(node))
}

fn what_is_missing(world: &World) -> Stuck {
    let waits = |machine: &Node| machine.process.status.as_ref().map(|is| is.waiting.clone());
    Stuck::NotReady(world.there().map(|n| (n, waits(&world.nodes[n as usize]))).collect())
}

/// Waits until all nodes see the same, and notes whether that took too long. Nothing ends for it: `views` judges that.
async fn agree(shared: &Shared) {
    let since = rt::now();
    let agrees = |world: &World| views::differences(world).next().is_none();
    let within_ms = sees_ms(shared.lock().there().count());
    let at = until(shared, within_ms, agrees).await.then(rt::now);
    let mut guard = shared.lock();
    let world = &mut *guard;
    if !world.is_over() {
        let differ = if at.is_none() { views::differences(world).collect() } else { Vec::new() };
        world.history.lives.agreement = Some(Agreement { since, at, within_ms, differ });
    }
}

/// Waits until all nodes say the same of those that are gone for good, and notes when they do not.
async fn bury(shared: &Shared) {
    let since = shared.lock().history.lives.agreement.as_ref().map(|agreement| agreement.since);
    let since = since.unwrap_or_default();
    let until = since.plus_ms(GONE_MS).max(rt::now());
    let agrees = pump(shared, until, |world| views::gone(world).next().is_none()).await;
    let world = &mut *shared.lock();
    if !agrees && !world.is_over() {
        let differ = views::gone(world).collect();
        world.history.lives.unburied =
            Some(Agreement { since, at: None, within_ms: GONE_MS, differ });
    }
}

/// Who still owes something to others, and how many hints it has. Whoever has left keeps for good what the owners refuse because
/// something was purged since.
fn owing(world: &World) -> Vec<(u32, u64)> {
    let owes = |node: u32| {
        let Node { process, data, .. } = &world.nodes[node as usize];
        let status = process.status.as_ref()?;
        let layout = status.layout.as_ref();
        let is_member =
            layout.is_none_or(|layout| layout.roles.iter().any(|role| Some(role.node) == data.id));
        let owners = u64::from(world.scenario.cluster.replicas);
        let kept = if is_member { 0 } else { status.purges.quarantined * owners };
        let hints = &status.hints;
        let is_done = !hints.counting && hints.owed + hints.in_flight == 0 && hints.stored <= kept;
        (!is_done).then_some((node, hints.stored + hints.owed))
    };
    world.there().filter_map(owes).collect()
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
    for Final { key, node, state } in held(world) {
        let stamp = world.note("final", node, &state.digest().to_le_bytes(), || {
            format!("k{key} {}", crate::watch::describe::state(&state))
        });
        world.history.sight(key, &state, (node, stamp), || format!("the end of n{node}"));
        world.history.ends.read.push(Final { key, node, state });
    }
}

/// The state of every key at each of its primaries.
fn held(world: &mut World) -> Vec<Final> {
    let nodes: Vec<u32> = world.there().collect();
    let status = world.nodes[nodes[0] as usize].process.status.clone();
    let layout = status.expect("every node was ready").layout;
    let layout = layout.expect("a node that is ready has a layout");
    let mut held = Vec::new();
    for node in nodes {
        let states = match states(world, node) {
            Ok(states) => states,
            Err(cause) => {
                world.trouble(node, Trouble::failed(node, cause));
                break;
            }
        };
        for key in 0..world.scenario.keys() {
            if owners(world, &layout, key, &[node]).is_empty() {
                continue;
            }
            let state = states.get(&client::key(key)).cloned().unwrap_or_default();
            held.push(Final { key, node, state });
        }
    }
    held
}

/// Who holds a key that it does not own, when these are what owners hold.
fn left(world: &World, held: &[Final]) -> Vec<(u32, u32)> {
    let owns = |node, key| held.iter().any(|of| (of.node, of.key) == (node, key));
    let mut left = Vec::new();
    for node in world.there() {
        let states = states(world, node).unwrap_or_default();
        let keys = 0..world.scenario.keys();
        let strange =
            keys.filter(|&key| states.contains_key(&client::key(key)) && !owns(node, key));
        left.extend(strange.map(|key| (node, key)));
    }
    left
}

/// Operators see to nodes that are gone for good, until one layout is left without them; how long that takes is not judged here.
async fn clear_up(shared: &Shared) {
    let is_reshaped = shared.lock().history.lives.reshaping.is_some();
    if is_reshaped {
        // Who is gone is heard of for a while, and may be let in by itself.
        let dead_ms = shared.lock().scenario.cluster.dead_ms;
        until(shared, dead_ms + CLEAR_UP_MS, |_| false).await;
    }
    for _ in 0..if is_reshaped { CLEAR_UP_TIMES } else { 0 } {
        orders::clear_up(shared, &mut shared.lock());
        if until(shared, CLEAR_UP_MS, has_one_layout).await {
            return;
        }
    }
}

/// Waits until all nodes have one live layout, the same, and nothing else is proposed; notes what its owners hold then. Whether it
/// came to that.
async fn reshaped(shared: &Shared) -> bool {
    if !until(shared, RESHAPE_MS, has_one_layout).await {
        return false;
    }
    let world = &mut *shared.lock();
    let held = held(world);
    let left = left(world, &held);
    let layout = world.there().find_map(|node| world.nodes[node as usize].process.status.clone());
    let partitions = layout.and_then(|status| status.layout).map_or(1, |layout| layout.partitions);
    let places = (0..world.scenario.keys()).map(|key| place(key, partitions)).collect();
    if let Some(reshaping) = &mut world.history.lives.reshaping {
        (reshaping.held, reshaping.left, reshaping.partitions) = (held, left, places);
    }
    true
}

fn has_one_layout(world: &World) -> bool {
    let is_left = |node: u32| {
        let status = world.nodes[node as usize].process.status.as_ref();
        status.is_some_and(|status| status.transfers.leaving_units > 0)
    };
    if world.there().any(is_left) {
        // What was acknowledged may still be with those who hand it over.
        return false;
    }
    let mut digests = world.there().map(|node| {
        let layouts = world.faults.layouts.get(&node)?;
        let is_at_rest = layouts.live.len() == 1 && layouts.proposed.is_none();
        is_at_rest.then(|| layouts.live[0].digest.clone())
    });
    let first = digests.next().flatten();
    first.is_some() && digests.all(|digest| digest == first) && !orders::has_gone(world)
}

/// The versions of the layouts that are live at each node, as far as it says so.
fn live_layouts(world: &World) -> Vec<(u32, Vec<u64>)> {
    let live = |node: u32| {
        let layouts = world.faults.layouts.get(&node);
        layouts.map_or_else(Vec::new, |it| it.live.iter().map(|live| live.version).collect())
    };
    world.there().map(|node| (node, live(node))).collect()
}
