//! What the end of a run asks of a cluster: calls of a client that has seen nothing yet, and the states in the engines.

use std::collections::BTreeMap;

use bytes::Bytes;
use rondo_core::engine::Engine;
use rondo_core::error::Error;
use rondo_core::id::{KeyspaceId, NodeId};
use rondo_core::layout::keyspace::{self, Level};
use rondo_core::replica::keys;
use rondo_core::status::LayoutStatus;
use rondo_core::version::dvv::VersionSet;
use rondo_core::wire::state::decode_state;

use crate::history::Cause;
use crate::rt;
use crate::run::drive::pump;
use crate::scenario::{Action, Operation};
use crate::world::client;
use crate::world::{Event, Shared, World};

/// How long what was in flight may take to end, in milliseconds.
const SETTLE_MS: u64 = 60_000;

/// Lets the world go on for so long, or until `enough`; answers whether it was enough.
pub async fn until(shared: &Shared, ms: u64, enough: impl Fn(&World) -> bool) -> bool {
    pump(shared, rt::now().plus_ms(ms), enough).await
}

/// Lets everything that clients wait for end; answers whether it did.
pub async fn settled(shared: &Shared) -> bool {
    until(shared, SETTLE_MS, |world| {
        world.clients.waiting.is_empty() && world.clients.calls_ahead == 0
    })
    .await
}

/// A client that has done nothing before the heal calls a node; answers the operation's id.
pub fn submit(world: &mut World, level: Level, action: Action, key: u32, node: u32) -> usize {
    let at_us = rt::now().0 / 1_000;
    let client = world.scenario.clients();
    let op = world.clients.operations.len();
    world.clients.operations.push(Operation {
        at_us,
        client,
        node,
        key,
        level,
        action,
        named: false,
        same_id_as: None,
        attempt: 1,
        retries: Vec::new(),
        bytes: 0,
        vanishes_ms: 0,
    });
    world.clients.calls_ahead += 1;
    world.agenda.push(rt::now(), Event::Call { op, attempt: 0 });
    op
}

/// The partition of a key, of so many.
#[must_use]
pub fn place(key: u32, partitions: u16) -> u16 {
    let token = keyspace::token(KeyspaceId(1), &client::key(key));
    keyspace::partition(token, partitions).0
}

/// The nodes, of these, that keep a key.
#[must_use]
pub fn owners(world: &World, layout: &LayoutStatus, key: u32, among: &[u32]) -> Vec<u32> {
    let roles = layout.owners[usize::from(place(key, layout.partitions))].iter();
    let owners: Vec<NodeId> = roles.map(|&role| layout.roles[usize::from(role)].node).collect();
    let keeps =
        |node: &u32| world.nodes[*node as usize].data.id.is_some_and(|id| owners.contains(&id));
    among.iter().copied().filter(keeps).collect()
}

/// Whether a node keeps the client's key of this place, as far as it knows.
fn owns(world: &World, node: u32, place: &Bytes) -> bool {
    let status = world.nodes[node as usize].process.status.as_ref();
    let layout = status.and_then(|status| status.layout.as_ref());
    let key = keys::parse_data_key(place).and_then(|of| client::key_number(&of.key));
    match (layout, key) {
        (Some(layout), Some(key)) => !owners(world, layout, key, &[node]).is_empty(),
        _ => true,
    }
}

/// All keys in the engine of a node that is up, with their states. A record of the node's own that has rotted is passed over: it
/// is in memory, and no client's; and so is one of a key that the node does not own: nobody else may have what a fallback had.
pub fn states(world: &World, node: u32) -> Result<BTreeMap<Bytes, VersionSet>, Cause> {
    let Some(mut engine) = world.nodes[node as usize].data.tap.clone() else {
        return Err(Cause::Down);
    };
    let mut states = BTreeMap::new();
    let mut from = Some(Bytes::new());
    while let Some(at) = from {
        let page = match engine.scan_from(&at, 1_024, 1 << 20) {
            Err(Error::Corrupt { .. }) if at.first() == Some(&0) || !owns(world, node, &at) => {
                from = Some([&at[..], &[0]].concat().into());
                continue;
            }
            page => page.map_err(Cause::Engine)?,
        };
        for (key, record) in &page.records {
            if let Some(key) = keys::parse_data_key(key) {
                let state = decode_state(&record.head, &record.body).map_err(Cause::Engine)?;
                states.insert(key.key, state);
            }
        }
        from = page.next;
    }
    Ok(states)
}
