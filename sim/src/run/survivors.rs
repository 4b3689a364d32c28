//! Whether a part of the cluster goes on while the rest is gone: healed itself, and big enough for every quorum.
//!
//! At the heal the nodes outside are killed or cut off, and stay so. Then a client calls every node that is left, and repeats
//! what fails: a get of each key at each node, then a put of each key. When all has been served, the states of each key at the
//! nodes that are left are compared, until they are equal. What came of it goes into the history; `liveness` judges it.
//!
//! It is asked only of a cluster that has shown it was formed, by an acknowledged write at `quorum` or `all`: W nodes have
//! the layout durably then, so one of them is among those that are left. Where nodes compare their copies by themselves, nobody reads
//! while the states are compared. Left out elsewhere: keys of which the nodes that are left hold more copies than a quorum reads, but
//! not all. Nobody makes those equal, since a quorum may leave one out, and `all` needs those who are gone.

use rondo_core::layout::keyspace::Level;
use rondo_core::status::LayoutStatus;

use crate::history::{Answer, Fate, Op, Served, Survivors};
use crate::rt::{self, Time};
use crate::run::inquiry::{owners, settled, states, submit, until};
use crate::scenario::{Action, Outside, Over, Scenario};
use crate::world::calls;
use crate::world::client;
use crate::world::{Shared, World};

/// How long a client repeats what fails, in milliseconds, besides what large records take to cross a link.
const SERVE_MS: u64 = 8_000;
/// How long states are compared, in milliseconds.
const EQUAL_MS: u64 = 30_000;
/// Between two tries, in milliseconds.
const PAUSE_MS: u64 = 100;

/// A call: what, of which key, at which node.
#[derive(Clone, Copy)]
struct Call {
    action: Action,
    level: Level,
    key: u32,
    node: u32,
}

/// The nodes that are to stay outside at the heal, when the others can be asked to go on.
#[must_use]
pub fn outside(world: &World) -> Option<Outside> {
    let is_proof =
        |op: &Op| op.writes() && op.level != Level::One && matches!(op.fate(), Fate::Acked(_));
    world.scenario.outside.clone().filter(|_| world.history.ops.iter().any(is_proof))
}

/// Lets those that are left go on, and notes what came of it.
pub async fn go_on(shared: &Shared, outside: &Outside) {
    let (nodes, keys) = {
        let mut world = shared.lock();
        let all = 0..world.scenario.cluster.nodes;
        let nodes: Vec<u32> = all.filter(|node| !outside.nodes.contains(node)).collect();
        let began = rt::now();
        let largest_record_ms = calls::largest_record_ms(&world.scenario);
        let nodes_left = nodes.clone();
        let survivors =
            Survivors { nodes: nodes_left, began, largest_record_ms, ..Survivors::default() };
        world.history.survivors = Some(survivors);
        (nodes, world.scenario.keys())
    };
    let all = (0..keys).flat_map(|key| nodes.iter().map(move |&node| (key, node)));
    let call = |action| move |(key, node)| Call { action, level: Level::Quorum, key, node };
    let gets = serve(shared, all.map(call(Action::Get)).collect()).await;
    let one = |key: u32| (key, nodes[key as usize % nodes.len()]);
    let put = call(Action::put(Over::Last));
    let puts = match gets {
        true => serve(shared, (0..keys).map(one).map(put).collect()).await,
        false => false,
    };
    if puts {
        become_equal(shared, &nodes, keys).await;
    }
}

/// Repeats each call until it is served; answers whether all were in time.
async fn serve(shared: &Shared, mut wanted: Vec<Call>) -> bool {
    let since = rt::now();
    let serve_ms = SERVE_MS + calls::largest_record_ms(&shared.lock().scenario);
    while !wanted.is_empty() && rt::now() <= since.plus_ms(serve_ms) {
        let ops = ask(shared, &wanted).await;
        wanted = not_served(&mut shared.lock(), wanted, &ops, since);
        if shared.lock().is_over() {
            return false;
        }
        pause(shared, &wanted).await;
    }
    let mut world = shared.lock();
    wanted.iter().for_each(|&call| note(&mut world, call, since, None));
    wanted.is_empty()
}

/// Notes the calls that were served; answers the others.
fn not_served(world: &mut World, calls: Vec<Call>, ops: &[usize], since: Time) -> Vec<Call> {
    let mut failed = Vec::new();
    for (call, &op) in calls.into_iter().zip(ops) {
        match world.history.ops.get(op).and_then(served_at) {
            Some(at) => note(world, call, since, Some(at)),
            None => failed.push(call),
        }
    }
    failed
}

/// Lets some time pass when there is more to do: a node that refuses does so at once.
async fn pause<T>(shared: &Shared, more: &[T]) {
    if !more.is_empty() {
        until(shared, PAUSE_MS, |_| false).await;
    }
}

fn note(world: &mut World, call: Call, since: Time, at: Option<Time>) {
    let Call { action, key, node, .. } = call;
    let what = if action == Action::Get { "get" } else { "put" };
    if let Some(survivors) = &mut world.history.survivors {
        survivors.served.push(Served { what, key, node, since, at });
    }
}

/// Calls, and waits for the ends; answers the operations.
async fn ask(shared: &Shared, calls: &[Call]) -> Vec<usize> {
    let ops = {
        let mut world = shared.lock();
        let submit = |call: &Call| submit(&mut world, call.level, call.action, call.key, call.node);
        calls.iter().map(submit).collect()
    };
    settled(shared).await;
    ops
}

/// When an operation was answered as it should be.
fn served_at(op: &Op) -> Option<Time> {
    let ends = op.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
    let is_good = |answer: &Answer| {
        matches!(answer, Answer::Stored { .. } | Answer::Found { .. } | Answer::NotFound { .. })
    };
    ends.filter(|end| is_good(&end.answer)).map(|end| end.at).min()
}

/// Waits until the states of each key are equal; where nobody compares them, it is read meanwhile.
async fn become_equal(shared: &Shared, nodes: &[u32], keys: u32) {
    let began = rt::now();
    let mut wanted = comparable(&shared.lock(), nodes, keys);
    while !wanted.is_empty() && rt::now() <= began.plus_ms(EQUAL_MS) {
        ask(shared, &wanted.iter().filter_map(|copies| copies.read).collect::<Vec<_>>()).await;
        wanted = not_equal(&mut shared.lock(), wanted, began);
        if shared.lock().is_over() {
            return;
        }
        pause(shared, &wanted).await;
    }
    if let Some(survivors) = &mut shared.lock().history.survivors {
        survivors.equal.extend(wanted.iter().map(|copies| copies.equal(began, None)));
    }
}

/// The copies of a key that must become equal: by reads, or by themselves.
struct Copies {
    key: u32,
    read: Option<Call>,
    owners: Vec<u32>,
}

impl Copies {
    fn equal(&self, since: Time, at: Option<Time>) -> Served {
        Served { what: "equal", key: self.key, node: self.owners[0], since, at }
    }
}

fn comparable(world: &World, nodes: &[u32], keys: u32) -> Vec<Copies> {
    let Some(layout) = nodes.iter().find_map(|&node| layout_of(world, node)) else {
        return Vec::new();
    };
    let copies = |key| {
        let owners = owners(world, &layout, key, nodes);
        let node = *owners.first()?;
        if world.scenario.cluster.repair_ms > 0 {
            return Some(Copies { key, read: None, owners });
        }
        let level = level(&world.scenario, owners.len())?;
        let read = Some(Call { action: Action::Get, level, key, node });
        Some(Copies { key, read, owners })
    };
    (0..keys).filter_map(copies).collect()
}

/// Notes the keys whose copies are equal; answers the others.
fn not_equal(world: &mut World, wanted: Vec<Copies>, began: Time) -> Vec<Copies> {
    let is_equal = |copies: &Copies| are_equal(world, copies.key, &copies.owners);
    let (equal, rest): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_equal);
    if let Some(survivors) = &mut world.history.survivors {
        survivors.equal.extend(equal.iter().map(|copies| copies.equal(began, Some(rt::now()))));
    }
    rest
}

fn layout_of(world: &World, node: u32) -> Option<LayoutStatus> {
    world.nodes[node as usize].process.status.as_ref()?.layout.clone()
}

/// The level of a read that makes so many copies equal; `None` when there is none.
fn level(scenario: &Scenario, copies: usize) -> Option<Level> {
    let cluster = &scenario.cluster;
    let quorum = usize::from(cluster.read_quorum.max(cluster.write_quorum));
    match copies {
        _ if copies == usize::from(cluster.replicas) => Some(Level::All),
        _ if copies == quorum => Some(Level::Quorum),
        _ => None,
    }
}

fn are_equal(world: &World, key: u32, owners: &[u32]) -> bool {
    let name = client::key(key);
    let state = |&node: &u32| states(world, node).ok().map(|all| all.get(&name).cloned());
    let all: Option<Vec<_>> = owners.iter().map(state).collect();
    all.is_some_and(|all| all.windows(2).all(|two| two[0] == two[1]))
}
