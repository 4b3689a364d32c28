//! What clients do: bursts of operations on one key, as dense as the network is slow, so that they overlap.
//!
//! Some runs have a hot key, some large values, some clients that vanish, some clients that delete and recreate.
//!
//! Keys are of three kinds. *Registers* are written at `quorum` and `all` in every way, and must be linearizable. *Sets* are
//! written with contexts only, so it is known exactly which siblings they must have. *Loose* keys are
//! mostly written at `one`.

use std::ops::Range;

use rondo_core::layout::keyspace::Level;

use crate::rng::Rng;
use crate::scenario::{Action, Cluster, Links, Operation, Over, Retry};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Register,
    Set,
    Loose,
}

/// All operations of a run, in order of time: `wanted`, and what is left of the last burst.
pub(super) fn operations(
    rng: &mut Rng,
    cluster: &Cluster,
    links: &Links,
    window_ms: Range<u64>,
    wanted: u64,
) -> Vec<Operation> {
    let keys = keys(rng);
    let clients = rng.between(2, 8) as u32;
    let habits = Habits::new(rng);
    let mut operations = Vec::new();
    while (operations.len() as u64) < wanted {
        let start_us = rng.between(window_ms.start * 1_000, window_ms.end * 1_000);
        // From one to some twenty network delays: long enough to meet a half-done write.
        let spread_us = (links.delay_min_us + links.delay_mean_us) * rng.log(1, 20);
        let key = if rng.percent(habits.hot) { 0 } else { rng.below(keys.len() as u64) as usize };
        for _ in 0..rng.between(2, 14) {
            let key = if rng.percent(92) { key } else { rng.below(keys.len() as u64) as usize };
            let at_us = start_us + rng.below(spread_us);
            let (client, kind) = (rng.below(u64::from(clients)) as u32, keys[key]);
            let mut made = operation(rng, cluster, at_us, client, (key as u32, kind));
            habits.change(rng, &mut made);
            if matches!(made.action, Action::Put { .. }) && rng.percent(habits.recreates) {
                operations.push(deleted_before(rng, &made));
            }
            operations.push(made);
        }
    }
    operations.sort_by_key(|operation| operation.at_us);
    operations
}

/// What is unusual about a run's clients, in percent.
struct Habits {
    /// Bursts on the first key.
    hot: u64,
    /// Puts of some KiB.
    large: u64,
    /// Clients that do not wait.
    vanish: u64,
    /// Puts that follow a delete.
    recreates: u64,
}

impl Habits {
    fn new(rng: &mut Rng) -> Habits {
        let mut sometimes = |runs, share| if rng.percent(runs) { share } else { 0 };
        Habits {
            hot: sometimes(20, 80),
            large: sometimes(12, 10),
            vanish: sometimes(25, 6),
            recreates: sometimes(20, 8),
        }
    }

    fn change(&self, rng: &mut Rng, operation: &mut Operation) {
        if matches!(operation.action, Action::Put { .. }) && rng.percent(self.large) {
            operation.bytes = rng.log(2 << 10, 16 << 10) as u32;
        }
        if rng.percent(self.vanish) {
            operation.vanishes_ms = rng.log(1, 50) as u32;
        }
    }
}

/// The same client's delete of the same key, shortly before.
fn deleted_before(rng: &mut Rng, operation: &Operation) -> Operation {
    let over = operation.action.over().unwrap_or(Over::Last);
    let at_us = operation.at_us.saturating_sub(rng.log(100, 20_000));
    Operation { at_us, action: Action::Delete { over }, bytes: 0, ..operation.clone() }
}

fn keys(rng: &mut Rng) -> Vec<Kind> {
    let mut keys = vec![Kind::Register; rng.between(1, 4) as usize];
    keys.extend(vec![Kind::Set; rng.between(0, 2) as usize]);
    keys.extend(vec![Kind::Loose; usize::from(rng.percent(40))]);
    keys
}

fn operation(
    rng: &mut Rng,
    cluster: &Cluster,
    at_us: u64,
    client: u32,
    (key, kind): (u32, Kind),
) -> Operation {
    let action = match rng.below(100) {
        0..45 => Action::Get,
        45..90 => Action::put(over(rng, kind)),
        _ => Action::Delete { over: over(rng, kind) },
    };
    let is_read = action == Action::Get;
    let level = match (kind, rng.below(100)) {
        (Kind::Loose, 0..70) => Level::One,
        (_, 70..78) => Level::All,
        (_, 0..6) if is_read => Level::One,
        _ => Level::Quorum,
    };
    let named = !is_read && rng.percent(40);
    let retries = match named {
        true => (0..rng.below(3)).map(|_| retry(rng, cluster)).collect(),
        false => Vec::new(),
    };
    let node = rng.node(cluster.nodes);
    Operation {
        at_us,
        client,
        node,
        key,
        level,
        action,
        named,
        same_id_as: None,
        attempt: 1,
        retries,
        bytes: 0,
        vanishes_ms: 0,
    }
}

fn retry(rng: &mut Rng, cluster: &Cluster) -> Retry {
    Retry { after_ms: rng.log(1, 1_000), node: rng.node(cluster.nodes), change: None, early: false }
}

fn over(rng: &mut Rng, kind: Kind) -> Over {
    match (kind, rng.below(100)) {
        (Kind::Set, 0..35) => Over::Nothing,
        (Kind::Set, 35..50) => Over::Stale,
        (Kind::Set, _) => Over::Last,
        (_, 0..60) => Over::Blind,
        (_, 60..84) => Over::Last,
        (_, 84..92) => Over::Stale,
        _ => Over::Nothing,
    }
}
