//! One node's copy of its keys: local reads and writes, merged under each key's version set.
//!
//! Invariants: all changes of one write are one atomic batch; a dot is issued once: after an unclean end an actor goes on above
//! every number that an earlier life may have issued, and it is replaced when a peer knows more of this life's dots
//! than are here (<https://github.com/basho/riak_kv/issues/679>); nothing is stored that could not be read; an unreadable
//! record is an error, never "absent". Actors are random and belong to
//! one partition of one node (<https://github.com/basho/riak_kv/issues/1865>).
//! Each write tells the hash tree of its unit by how much its key's entry changes; what the key was before has been read anyway.
//! Left out: counting while this node recovers.

pub mod actors;

pub mod keys;

pub mod queried;

pub mod listing;

pub mod tree_row;

pub mod trees;

pub mod stored;

pub mod read;

pub mod purged;

pub mod merge;

pub mod issue;

pub mod erase;

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::SmallVec;

use self::actors::OwnActors;
use self::keys::{CLOCK_KEY, DELETED_KEY, HINTS, OWN_KIND, data_key, number, own_number};
use self::purged::Purged;
use self::queried::Queried;
use self::read::Trouble;
use self::trees::Trees;
use crate::config::{
    Actors, BODY_BYTES_MAX, DRIFT_MS_MAX, HEAD_BYTES_MAX, NodeConfig, PARTITIONS_MAX,
};
use crate::engine::{Batch, Change, Engine, EngineStats, Lookup, ReadTicket};
use crate::env::{Mono, Wall};
use crate::error::{Error, Result};
use crate::id::{ActorId, Lsn, Unit};
use crate::repair::merkle::entry;
use crate::step::Env;
use crate::version::dvv::VersionSet;
use crate::version::hlc::{Hlc, HybridClock};
use crate::wire::key::KeyRef;
use crate::wire::state::encode_state;

/// The local copy.
#[derive(Debug)]
pub struct Replica {
    clock: HybridClock,
    /// What the peers' clocks showed and when: this node's own counts that far and no further.
    peers_wall: Option<(Wall, Mono)>,
    actors: OwnActors,
    /// Keys that were found cold and have not been written since, each with the ticket that was given for it.
    awaited: BTreeMap<KeyRef, ReadTicket>,
    /// A record that a cold read brought, for the inputs that waited for it.
    warm: Option<(KeyRef, Lookup)>,
    queried: Queried,
    trees: Trees,
    purged: Purged,
    /// Dead actors that a full disk has not taken off yet; they go with the next write.
    unwritten: SmallVec<[Change; 2]>,
    actors_replaced: u64,
    /// Keys here of which all versions are deletions.
    deleted: u64,
}

impl Replica {
    /// Reads the node's own records.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Replica> {
        // First: it fixes where what earlier lives have written ends.
        let trees = Trees::load(engine, config.actors != Actors::Fresh)?;
        let mut reservation = Hlc(0);
        let mut actors = OwnActors::new(config);
        let (mut deleted, mut purged) = (None, Purged::default());
        let mut changes = SmallVec::new();
        let mut from = Bytes::from_static(&[OWN_KIND]);
        // Hints stand behind them, and may be many; and the rows of trees.
        let is_read = |key: &Bytes| key[0] == OWN_KIND && key[..] < *HINTS;
        loop {
            let page = engine.scan_from(&from, 1024, 1 << 20)?;
            for (key, record) in page.records.iter().take_while(|(key, _)| is_read(key)) {
                if key == CLOCK_KEY {
                    reservation = keys::reservation(&record.head)?;
                } else if key == DELETED_KEY {
                    deleted = Some(own_number(&record.head)?);
                } else if purged.load(key, &record.head, record.lsn)?.is_none() {
                    changes.extend(actors.load(key, &record.head)?);
                }
            }
            let past = page.records.last().is_some_and(|(key, _)| !is_read(key));
            match page.next.filter(|next| !past && is_read(next)) {
                Some(next) => from = next,
                None => break,
            }
        }
        let mut unwritten = SmallVec::new();
        if !changes.is_empty() {
            // Also on disk: after a clean end of this life the next one would take them as they were.
            let batch = Batch { changes };
            match engine.write(&batch) {
                Err(error) if error.wrote_nothing() => unwritten = batch.changes,
                written => drop(written?),
            }
        }
        Ok(Replica {
            clock: HybridClock::new(reservation),
            peers_wall: None,
            actors,
            awaited: BTreeMap::new(),
            warm: None,
            queried: Queried::default(),
            trees,
            purged,
            unwritten,
            actors_replaced: 0,
            deleted: deleted.unwrap_or(0),
        })
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.warm.is_none(), "what a cold read brought is old after its step");
        self.trees.invariants();
        let waits = self.unwritten.len();
        assert!(
            waits <= usize::from(PARTITIONS_MAX),
            "each partition has one actor: {waits} wait for room"
        );
    }

    /// What the median of the peers' clocks shows now; `None` while no peer is heard, and nothing bounds this node's own.
    pub fn trust(&mut self, peers: Option<Wall>, now: Mono) {
        self.peers_wall = peers.map(|wall| (wall, now));
    }

    /// How far the hybrid clock is ahead of the peers' clocks, in milliseconds. What an earlier life has reserved counts: a clock
    /// that once jumped may stay ahead of its own wall.
    #[must_use]
    pub fn ahead_of_peers_ms(&self, now: Mono) -> u64 {
        let Some((wall, at)) = self.peers_wall else {
            return 0;
        };
        let theirs = wall.0.saturating_add(now.ms_since(at));
        self.clock.last().wall_ms().saturating_sub(theirs)
    }

    /// The time by which it is fixed and judged when a value expires: this node's own wall, no further off than its peers' clocks allow.
    /// Not the hybrid clock, which stays ahead for as long as its wall once was: whatever expires before that would be gone here.
    #[must_use]
    pub fn time(&self, env: &impl Env) -> Hlc {
        let wall = self.wall(env);
        let least = self.peers_wall.map_or(0, |(peers, at)| {
            peers.0.saturating_add(env.mono().ms_since(at)).saturating_sub(DRIFT_MS_MAX)
        });
        Hlc::at(wall.max(Wall(least)))
    }

    /// This node's own wall, as far as its peers' allow: a jump forward would be kept for ever by the reservation.
    fn wall(&self, env: &impl Env) -> Wall {
        let own = env.wall();
        let Some((peers, at)) = self.peers_wall else {
            return own;
        };
        let bound = peers.0.saturating_add(env.mono().ms_since(at)).saturating_add(DRIFT_MS_MAX);
        Wall(own.0.min(bound))
    }

    /// This node becomes an owner of a unit, perhaps not for the first time: it issues with a new actor. On disk with the next write;
    /// a life that ends before it goes on above every number of this one.
    pub fn renounce(&mut self, unit: Unit) {
        self.unwritten.extend(self.actors.give_up(unit));
    }

    /// The latest reading of the hybrid clock.
    #[must_use]
    pub const fn latest(&self) -> Hlc {
        self.clock.last()
    }

    /// The actor that it issues with in a unit.
    #[must_use]
    pub fn actor(&self, unit: Unit) -> Option<ActorId> {
        self.actors.get(unit).map(|own| own.actor)
    }

    /// The latest reading of the hybrid clock, in milliseconds.
    #[must_use]
    pub const fn latest_ms(&self) -> u64 {
        self.clock.last().wall_ms()
    }

    /// The clock's reservation is on disk.
    pub fn clock_reserved(&mut self, reservation: Hlc) {
        self.clock.reserved(reservation);
    }

    /// The hash trees of the units.
    #[must_use]
    pub const fn trees(&self) -> &Trees {
        &self.trees
    }

    /// The same, to be grown.
    pub const fn trees_mut(&mut self) -> &mut Trees {
        &mut self.trees
    }

    /// How many actors were replaced because a peer knew dots of them that were lost here.
    #[must_use]
    pub const fn actors_replaced(&self) -> u64 {
        self.actors_replaced
    }

    /// How many keys have a version that is no deletion, and how many have deletions only.
    #[must_use]
    pub fn keys(&self, engine: &EngineStats) -> (u64, u64) {
        let all = engine.records.saturating_sub(engine.own_records);
        (all.saturating_sub(self.deleted), self.deleted)
    }

    /// The count of deleted keys once a key has this state; when it is another, it is written with the key.
    fn count_deleted(
        &self,
        was: bool,
        state: &VersionSet,
        changes: &mut SmallVec<[Change; 2]>,
    ) -> u64 {
        let count = match (was, is_deleted(state)) {
            (false, true) => self.deleted + 1,
            (true, false) => self.deleted.saturating_sub(1),
            _ => return self.deleted,
        };
        changes.push(number(DELETED_KEY, count));
        count
    }

    fn write(
        &mut self,
        (unit, key): (Unit, &KeyRef),
        changes: SmallVec<[Change; 2]>,
        env: &mut impl Env,
    ) -> Result<Lsn, Trouble> {
        self.awaited.remove(key);
        self.warm = None;
        self.queried.take(key);
        let changes = match self.unwritten.is_empty() {
            true => changes,
            // First, so that an actor that comes in their place stays.
            false => self.unwritten.iter().cloned().chain(changes).collect(),
        };
        let batch = Batch { changes };
        let lsn = env.engine().write(&batch).map_err(|error| match error {
            Error::Full(_) | Error::Busy(_) | Error::Corrupt { .. } => Trouble::Failed(error),
            error => Trouble::Fatal(error),
        })?;
        self.unwritten.clear();
        self.trees.wrote(batch.changes.iter().map(Change::bytes).sum());
        // Only now: a write that was refused changes no tree.
        for change in &batch.changes {
            self.trees.change(unit, change.key(), key, change.delta());
        }
        Ok(lsn)
    }

    /// Before the store is closed: what could not be written while the disk was full.
    pub fn settle(&mut self, engine: &mut dyn Engine) -> Result<()> {
        if !self.unwritten.is_empty() {
            engine.write(&Batch { changes: std::mem::take(&mut self.unwritten) })?;
        }
        Ok(())
    }
}

/// What little room is left is for deletes and for what gives space back.
const NEARLY_FULL: Error =
    Error::Full("the disk is nearly full: nothing was written; delete something, or give it room");

/// Whether all its versions are deletions, and there are any.
#[must_use]
pub fn is_deleted(state: &VersionSet) -> bool {
    let mut versions = state.versions().peekable();
    versions.peek().is_some() && versions.all(|(_, version)| version.tombstone)
}

/// The record of a key in this state, when its entry in the unit's hash tree has been `was`.
fn store(key: &KeyRef, unit: Unit, was: u64, state: &VersionSet) -> Result<Change> {
    let (head, body) = encode_state(state);
    let body_bytes: usize = body.iter().map(Bytes::len).sum();
    // Never what could not be read back.
    if !state.fits() || head.len() > HEAD_BYTES_MAX || body_bytes > BODY_BYTES_MAX {
        return Err(Error::Full("the key's versions do not fit in one record"));
    }
    let delta = was ^ entry(key, state);
    Ok(Change::Put { key: data_key(unit.group, key), head, body, delta })
}
