//! Who watches the stores: what each node writes and calls durable goes into the history, and a store that is opened
//! again is held against its model.
//!
//! No version leaves a node before it was stored there, so every version that ever existed is seen. Nothing here
//! touches a node's own disk: a store that is opened again is looked at in a copy of it.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::change::records::noted_live;
use rondo_core::config::{DRIFT_MS_MAX, HLC_AHEAD_MS_MAX, HLC_RESERVE_MS};
use rondo_core::engine::{Batch, Change, Engine};
use rondo_core::id::Lsn;
use rondo_core::layout::Role;
use rondo_core::member::lives;
use rondo_core::replica::keys;
use rondo_core::status::Status;
use rondo_core::version::dvv::{VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::state::decode_state;

use crate::history::{
    Alone, Breach, Cause, FarAhead, Kept, LayoutView, Promise, Purged, STAND_INS, Stamp, Trouble,
};
use crate::rt;
use crate::watch::describe;
use crate::watch::shadow::{self, Known};
use crate::watch::tap::{Observer, Seen};
use crate::world::client;
use crate::world::hinted;
use crate::world::{Node, Part, Shared, World};

/// What is told of a node's engine goes into the history.
#[must_use]
pub fn observer(shared: &Shared, node: u32) -> Observer {
    let shared = shared.clone();
    Arc::new(move |seen: Seen<'_>| {
        let mut world = shared.lock();
        match seen {
            Seen::Writes(batch) => writes(&mut world, node, batch),
            Seen::Wrote(lsn) => world.nodes[node as usize].data.shadow.wrote(lsn),
            Seen::Durable(lsn) => durable(&mut world, node, lsn),
            Seen::Maintains(is_inside) => {
                world.nodes[node as usize].device.fuse.is_inside(is_inside)
            }
        }
    })
}

/// A store that is opened again, by a copy of it: is it one that its node may have after its last life?
pub fn look(world: &mut World, node: u32, engine: &mut dyn Engine) {
    let content = match shadow::content(engine) {
        Ok(content) => content,
        Err(error) => {
            let what = format!("its store was opened and cannot be read: {error}");
            return breach(world, node, Promise::Prefix, what);
        }
    };
    let mark = content.get(keys::CLOCK_KEY).map(|(head, _)| keys::reservation(head));
    let mark = mark.and_then(Result::ok).unwrap_or_default();
    let known: Known = content
        .iter()
        .filter_map(|(key, (head, body))| {
            let number = client::key_number(&keys::parse_data_key(key)?.key)?;
            Some((number, decode_state(head, body).ok()?.clock()))
        })
        .collect();
    let machine = &mut world.nodes[node as usize];
    machine.data.lives_found = content.get(lives::LIVES_KEY).map(|(head, _)| head.clone());
    let live = noted_live(|key| content.get(key).map(|(head, _)| head.clone()));
    machine.data.shadow.holds_mark(mark);
    machine.data.shadow.knows(known);
    hinted::opened(world, node, &content);
    let machine = &mut world.nodes[node as usize];
    if let Err(what) = machine.data.shadow.opened(&content) {
        breach(world, node, Promise::Prefix, what);
    }
    // What was live without being noted durably it may take up again later; nobody has been told.
    if let Some(reshaping) = &mut world.history.lives.reshaping {
        reshaping.seen.retain(|(_, seen)| seen.node != node || seen.version <= live.0);
    }
}

fn keeps(world: &mut World, node: u32, known: Known) {
    // What a stand-in keeps goes with it.
    if world.teller(node) != node {
        return;
    }
    let stamp = Stamp(world.hash().0);
    let kept = known.into_iter().map(|(key, clock)| Kept { key, node, stamp, clock });
    world.history.kept.extend(kept);
}

fn writes(world: &mut World, node: u32, batch: &Batch) {
    let mut known = Known::new();
    let is_purge = batch.changes.iter().any(|change| is_row(change.key()));
    for change in &batch.changes {
        if is_purge {
            purges(world, node, change);
        }
        let number =
            |key: &Bytes| keys::parse_data_key(key).and_then(|of| client::key_number(&of.key));
        let (key, head, body) = match change {
            Change::Put { key, head, body, .. } => (key, head, body),
            Change::Delete { key, .. } => {
                if let Some(number) = number(key) {
                    world.nodes[node as usize].data.shadow.forgets(number);
                }
                continue;
            }
        };
        if &key[..] == keys::CLOCK_KEY {
            marks(world, node, head);
        }
        let Some(number) = number(key) else {
            continue;
        };
        match decode_state(head, &Bytes::from(body.concat())) {
            Ok(state) => {
                known.push((number, state.clock()));
                stores(world, node, number, &state);
            }
            Err(error) => {
                world.trouble(node, Trouble::failed(node, Cause::Stored(error)));
            }
        }
    }
    world.nodes[node as usize].device.written_bytes +=
        batch.changes.iter().map(bytes_of).sum::<u64>();
    for what in hinted::writes(world, node, batch) {
        breach(world, node, Promise::Hints, what);
    }
    let shrunk = world.nodes[node as usize].data.shadow.writes(batch, known);
    // What takes the place of a rotten record is what the others know.
    let failing = &world.nodes[node as usize].device.failing;
    let is_rotten = failing.is_rotten() || failing.was_misled();
    if let Some(key) = shrunk.filter(|_| !is_rotten) {
        let what = format!("what it stores of k{key} knows less than what was there");
        breach(world, node, Promise::Memory, what);
    }
}

/// Whether a record is what a purge leaves of a unit.
fn is_row(key: &Bytes) -> bool {
    key.starts_with(b"\0purge/")
}

/// A purge changes a record: it takes it away, or what is known of some actors out of it.
fn purges(world: &mut World, node: u32, change: &Change) {
    let place = change.key();
    let number = keys::parse_data_key(place).and_then(|of| client::key_number(&of.key));
    let Some(key) = number else {
        return;
    };
    let data = &mut world.nodes[node as usize].data;
    data.shadow.forgets(key);
    let Some((head, body)) = data.shadow.newest(place) else {
        return;
    };
    let Ok(before) = decode_state(&head, &body) else {
        return;
    };
    let left = match change {
        Change::Put { head, body, .. } => decode_state(head, &Bytes::from(body.concat())).ok(),
        Change::Delete { .. } => None,
    };
    let left = left.unwrap_or_default();
    let has = |actor| left.entries().iter().any(|entry| entry.actor == actor);
    let gone = before.entries().iter().filter(|entry| !has(entry.actor)).cloned().collect();
    let state = VersionSet::from_entries(gone).expect("they were in order");
    let stamp = world.note("purge", node, &state.digest().to_le_bytes(), || {
        format!("k{key} {}", describe::state(&state))
    });
    // What a stand-in purges goes with it.
    if world.teller(node) == node {
        world.history.lives.purged.push(Purged { key, node, stamp, state });
    }
}

/// Of a change, what its engine has to write down.
fn bytes_of(change: &Change) -> u64 {
    let bytes = match change {
        Change::Put { key, head, body, .. } => {
            key.len() + head.len() + body.iter().map(Bytes::len).sum::<usize>()
        }
        Change::Delete { key, .. } => key.len(),
    };
    bytes as u64
}

fn stores(world: &mut World, node: u32, number: u32, state: &VersionSet) {
    let stamp = world.note("store", node, &state.digest().to_le_bytes(), || {
        format!("k{number} {}", describe::state(state))
    });
    let teller = world.teller(node);
    world.history.sight(number, state, (teller, stamp), || match teller == node {
        true => format!("stored by n{node}"),
        false => format!("stored by a stand-in of n{}", teller - STAND_INS),
    });
}

fn durable(world: &mut World, node: u32, lsn: Lsn) {
    let known = world.nodes[node as usize].data.shadow.durable(lsn);
    keeps(world, node, known);
}

/// A node reserves times up to `mark` for its clock: never more than the drift bound ahead of what its own clock has shown,
/// or of what an earlier life had reserved.
fn marks(world: &mut World, node: u32, head: &Bytes) {
    let Ok(mark) = keys::reservation(head) else {
        return;
    };
    let machine = &mut world.nodes[node as usize];
    let (before, held) = machine.data.shadow.marks(mark);
    if let Some(what) = wrong_mark(mark, machine.clock.highest_shown().0, before, held) {
        breach(world, node, Promise::ClockBound, what);
    }
}

/// What is wrong with a mark, after a wall clock that has shown `shown_ms` and never more.
fn wrong_mark(mark: Hlc, shown_ms: u64, before: Hlc, held: Hlc) -> Option<String> {
    if mark < held {
        return Some(format!("it reserves times up to {mark}, but had reserved them up to {held}"));
    }
    let bound = (shown_ms + DRIFT_MS_MAX).max(before.wall_ms()) + HLC_RESERVE_MS + 1;
    let by = mark.wall_ms().saturating_sub(bound);
    (by > 0).then(|| format!("it reserves times up to {mark}, {by} ms beyond the bound"))
}

/// A node sends a message. What answers a peer's life may leave only once the node has stored durably that this life counts. Looked
/// at with the first answer to each life: what is stored stays.
pub fn answers(world: &mut World, (node, to): (u32, u32), message: &Bytes) {
    let (machine, peer) = (&world.nodes[node as usize], &world.nodes[to as usize]);
    let (Some(id), Some(life)) = (peer.data.id, peer.data.life) else {
        return;
    };
    let is_known = node == to || machine.data.has_answered.contains(&(to, life));
    let are_own = world.teller(node) == node && world.teller(to) == to;
    if is_known || !are_own || describe::answered(message) != Some(life) {
        return;
    }
    let found = machine.data.lives_found.as_ref();
    let stored = [machine.data.shadow.durable_head(lives::LIVES_KEY), found];
    let counts = stored.into_iter().flatten().any(|head| lives::counts(head, id, life));
    world.nodes[node as usize].data.has_answered.insert((to, life));
    if !counts {
        let what = format!(
            "it answers n{to} in its life {} before it has stored that it counts",
            life.boot.0
        );
        breach(world, node, Promise::Lives, what);
    }
}

/// A write at `one` is acknowledged with this time: is it far ahead of what the clocks of all nodes but one have shown?
pub fn acknowledges(world: &mut World, op: usize, version: Hlc) {
    let shown = world.nodes.iter().map(|machine| machine.clock.highest_shown().0);
    let mut shown: Vec<(u64, u32)> = shown.zip(0..).collect();
    shown.sort_unstable();
    let Some((_, fastest)) = shown.pop() else {
        return;
    };
    let others = shown.pop().map_or(0, |(shown, _)| shown);
    let by_ms = version.wall_ms().saturating_sub(others);
    if by_ms > HLC_AHEAD_MS_MAX {
        let (op, at) = (op as u32, rt::now());
        world.history.lives.far_ahead.push(FarAhead { op, fastest, at, by_ms });
    }
}

/// A node has broken a promise of its own.
pub fn breach(world: &mut World, node: u32, of: Promise, what: String) {
    let stamp = world.note("breach", node, &[], || what.clone());
    world.history.breaches.push(Breach { node, stamp, of, what });
}

/// The newest live layout of every node that is there, as far as it has one.
#[must_use]
pub fn layouts(world: &World) -> Vec<LayoutView> {
    let has = |node| Some((node, world.nodes[node as usize].process.status.as_ref()?));
    world.there().filter_map(has).filter_map(|(node, status)| view(world, node, status)).collect()
}

fn view(world: &World, node: u32, status: &Status) -> Option<LayoutView> {
    let layout = status.layout.as_ref()?;
    let number = |id| world.nodes.iter().position(|node| node.data.id == Some(id));
    let named = |&owner: &u16| {
        let role = layout.roles.get(usize::from(owner))?;
        number(role.node).map(|node| node as u32)
    };
    let owners = layout.owners.iter().map(|of| of.iter().map(named).collect()).collect();
    let zone = |role: &Role| Some((number(role.node)? as u32, role.zone.clone()));
    Some(LayoutView {
        node,
        zones: layout.roles.iter().filter_map(zone).collect(),
        version: layout.version,
        digest: layout.digest.clone(),
        quorums: layout.quorums,
        wanted: layout.wanted,
        members: layout.roles.len(),
        owners,
    })
}

/// A node says how it is: where the cluster is reshaped, another layout than it had goes into the history.
pub fn hears(world: &mut World, node: u32, status: &Status) {
    let Some(layout) = status.layout.as_ref().filter(|_| world.history.lives.reshaping.is_some())
    else {
        return;
    };
    let before = world.nodes[node as usize].process.status.as_ref();
    let before = before.and_then(|before| before.layout.as_ref());
    if before.is_some_and(|before| before.digest == layout.digest) {
        return;
    }
    let seen = view(world, node, status);
    let stamp = world.note("layout", node, layout.digest.as_bytes(), || {
        format!("version {} is live: {}", layout.version, layout.digest)
    });
    if let Some(reshaping) = &mut world.history.lives.reshaping {
        reshaping.seen.extend(seen.map(|seen| (stamp, seen)));
    }
}

/// A node is gone for good: what it knew of keys and nobody else does goes into the history.
pub fn ends_alone(world: &mut World, node: u32) {
    let stamp = world.last();
    let left = world.nodes.iter().filter(|machine| machine.part == Part::There);
    let left: Vec<&Node> = left.collect();
    let alone =
        world.nodes[node as usize].data.shadow.clocks().iter().filter_map(|(&key, knew)| {
            let mut others = VersionVector::default();
            let theirs = left.iter().filter_map(|machine| machine.data.shadow.clocks().get(&key));
            theirs.for_each(|theirs| others.join(theirs));
            let knew = knew.clone();
            (!others.dominates(&knew)).then_some(Alone { node, stamp, key, knew, others })
        });
    let alone: Vec<Alone> = alone.collect();
    if let Some(reshaping) = &mut world.history.lives.reshaping {
        reshaping.alone.extend(alone);
    }
}

/// Something happens that may lead to another layout.
pub fn reshapes(world: &mut World) {
    let now = world.last();
    if let Some(reshaping) = &mut world.history.lives.reshaping {
        reshaping.began.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_may_be_ahead_by_the_drift_bound_and_the_reserve_or_follow_an_earlier_one() {
        let ahead = |mark, shown, before| wrong_mark(mark, shown, before, Hlc(0));
        let (shown, most) = (1_000_000, DRIFT_MS_MAX + HLC_RESERVE_MS + 1);
        let mark = |ahead_ms: u64| Hlc((shown + ahead_ms) << 16);
        assert_eq!(ahead(mark(most), shown, Hlc(0)), None);
        let told = ahead(mark(most + 7), shown, Hlc(0)).expect("too far ahead");
        assert!(told.ends_with("7 ms beyond the bound"), "{told}");
        assert_eq!(ahead(mark(most + 7), shown, mark(most)), None, "an earlier life was there");
    }

    #[test]
    fn a_mark_below_the_one_that_the_store_holds_is_wrong() {
        let told = wrong_mark(Hlc(5 << 16), 9, Hlc(0), Hlc(6 << 16)).expect("it went back");
        assert!(told.contains("but had reserved them"), "{told}");
        assert_eq!(wrong_mark(Hlc(6 << 16), 9, Hlc(0), Hlc(6 << 16)), None);
    }
}
