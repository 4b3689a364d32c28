//! One node's copy of its keys: local reads and writes, merged under each key's version set.
//!
//! Engine keys: `0 | name` for the node's own records, `1 | group u16 | token u64 | keyspace u32 | key` for clients' keys
//! (integers big endian), so that a partition is one contiguous range.
//!
//! Invariants: all changes of one write are one atomic batch; a dot is issued once: after an unclean end an actor goes on above
//! every number that an earlier life may have issued, and it is replaced when a peer knows more of this life's dots
//! than are here (<https://github.com/basho/riak_kv/issues/679>); nothing is stored that could not be read; an unreadable
//! record is an error, never "absent". Actors are random and belong to
//! one partition of one node (<https://github.com/basho/riak_kv/issues/1865>).
//! Left out: Merkle deltas, purge and its floors, counting while this node recovers.

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::buggify;
use crate::config::{
    BODY_BYTES_MAX, DRIFT_MS_MAX, HEAD_BYTES_MAX, NodeConfig, PARTITIONS_MAX, SIBLINGS_MAX,
    issue_runs_max, state_bytes_max,
};
use crate::engine::{Batch, Change, Engine, EngineStats, Lookup, ReadTicket};
use crate::env::{Mono, Wall};
use crate::error::{Error, Result};
use crate::id::{ActorId, KeyspaceId, Lsn, PartitionId, Token};
use crate::layout::keyspace;
use crate::own_actors::{Heard, Own, OwnActors};
use crate::queried::Queried;
use crate::sometimes;
use crate::step::Env;
use crate::version::dvv::{Dot, Version, VersionSet, VersionVector};
use crate::version::hlc::{Hlc, HybridClock};
use crate::wire::key::KeyRef;
use crate::wire::state::{decode_state, encode_state};

const OWN_KIND: u8 = 0;
const DATA_KIND: u8 = 1;
/// All keyspaces of equal N and engine are one group; there is one so far.
const GROUP: u16 = 0;
const DATA_PREFIX_BYTES: usize = 1 + 2 + 8 + 4;
/// The engine key of the time up to which the node has reserved readings for its hybrid clock; see `reservation`.
pub const CLOCK_KEY: &[u8] = b"\0clock";
/// How many keys show nothing because all their versions are deletions. In the batch of the write that changes it, so
/// that it is right after any crash; a write that changes it not costs nothing.
const DELETED_KEY: &[u8] = b"\0deleted";

/// Why the local copy could not answer.
#[derive(Debug)]
pub enum Trouble {
    /// The record must be read from the device first.
    Cold(ReadTicket),
    /// The record is damaged or unreadable, or a bound would be broken. Nothing changed.
    Failed(Error),
    /// The engine could not write. Nobody knows what is stored: the node must stop.
    Fatal(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

/// A key's state with the write that stored it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// The state; empty when the key was never written here.
    pub state: VersionSet,
    /// The write that stored it; `Lsn(0)` when there is none.
    pub lsn: Lsn,
}

/// A write of this node's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The new dot.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
    /// The key's state with it, which the other replicas must merge.
    pub state: VersionSet,
    /// What the writer knows after it.
    pub known: VersionVector,
    /// The local write.
    pub lsn: Lsn,
    /// The hybrid clock's reservation that is part of the write. While it is not durable the dot must stay here.
    pub reservation: Option<Hlc>,
}

/// What a write means to overwrite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Covers {
    /// This, and no more: a client's context.
    Only(VersionVector),
    /// This, and whatever is here at the moment of the event: a blind write of a `Newest` keyspace.
    AndLocal(VersionVector),
}

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
    /// Dead actors that a full disk has not taken off yet; they go with the next write.
    unwritten: SmallVec<[Change; 2]>,
    actors_replaced: u64,
    /// Keys here of which all versions are deletions.
    deleted: u64,
}

impl Replica {
    /// Reads the node's own records.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Replica> {
        let mut reservation = Hlc(0);
        let mut actors = OwnActors::new(config);
        let mut deleted = None;
        let mut changes = SmallVec::new();
        let mut from = Bytes::from_static(&[OWN_KIND]);
        loop {
            let page = engine.scan_from(&from, 1024, 1 << 20)?;
            for (key, record) in page.records.iter().take_while(|(key, _)| key[0] == OWN_KIND) {
                if key == CLOCK_KEY {
                    reservation = self::reservation(&record.head)?;
                } else if key == DELETED_KEY {
                    deleted = Some(own_number(&record.head)?);
                } else {
                    changes.extend(actors.load(key, &record.head)?);
                }
            }
            let past = page.records.last().is_some_and(|(key, _)| key[0] != OWN_KIND);
            match page.next.filter(|_| !past) {
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
            unwritten,
            actors_replaced: 0,
            deleted: deleted.unwrap_or(0),
        })
    }

    /// A key's state here, durable or not.
    pub fn read(&mut self, key: &KeyRef, engine: &mut dyn Engine) -> Result<Loaded, Trouble> {
        let found = match &self.warm {
            Some((warm, found)) if warm == key => found.clone(),
            _ => engine.get(&data_key(key))?,
        };
        match found {
            Lookup::Hit(record) => {
                // Bytes that pass their checksum and are malformed are damage like any other.
                let state = decode_state(&record.head, &record.body).map_err(|error| {
                    let what = format!("its versions are malformed: {error}");
                    Error::Corrupt { file: "the key's record".to_owned(), offset: 0, what }
                })?;
                Ok(Loaded { state, lsn: record.lsn })
            }
            Lookup::Miss => Ok(Loaded::default()),
            Lookup::Cold(ticket) => {
                // From here on, not from the start of the read: a write may come in between.
                self.awaited.entry(key.clone()).or_insert(ticket);
                Err(Trouble::Cold(ticket))
            }
        }
    }

    /// What a write must know of a key before it is issued: the dots here and the highest HLC. The write is expected soon.
    pub fn query(
        &mut self,
        key: &KeyRef,
        engine: &mut dyn Engine,
    ) -> Result<(VersionVector, Hlc), Trouble> {
        let Loaded { state, lsn } = self.read(key, engine)?;
        let told = (state.clock(), state.highest_hlc());
        self.queried.keep(key, (state, lsn));
        Ok(told)
    }

    fn read_to_write(&mut self, key: &KeyRef, engine: &mut dyn Engine) -> Result<Loaded, Trouble> {
        match self.queried.take(key) {
            Some((state, lsn)) => Ok(Loaded { state, lsn }),
            None => self.read(key, engine),
        }
    }

    /// A cold read brought this. It is shown to `read` until `cool_down`, unless the key has been written
    /// since the ticket was given: then it may be old, and whoever waits asks the engine again. Says whether it is shown.
    pub fn warm_up(&mut self, key: &KeyRef, ticket: ReadTicket, found: Lookup) -> bool {
        let wanted = self.awaited.remove(key) == Some(ticket);
        if wanted {
            self.warm = Some((key.clone(), found));
        }
        wanted
    }

    /// A cold read brought nothing.
    pub fn forget(&mut self, key: &KeyRef) {
        self.awaited.remove(key);
    }

    /// All inputs that waited for the cold read have been served.
    pub fn cool_down(&mut self) {
        self.warm = None;
    }

    /// Merges what a peer knows. Answers the write after which all of it is here.
    pub fn merge(
        &mut self,
        key: &KeyRef,
        partition: PartitionId,
        incoming: &VersionSet,
        env: &mut impl Env,
    ) -> Result<Lsn, Trouble> {
        let Loaded { mut state, lsn } = self.read_to_write(key, env.engine())?;
        let outrun = self
            .actors
            .get(partition)
            .is_some_and(|own| incoming.highest(own.actor) > own.issued(&state));
        let was_deleted = is_deleted(&state);
        self.clock.observe(incoming.highest_hlc(), self.wall(env));
        sometimes!(env, DriftNotAdopted, self.clock.last() < incoming.highest_hlc());
        if !state.merge(incoming) {
            sometimes!(env, MergeBroughtNothing);
            sometimes!(env, MergeNotDurableYet, lsn > env.engine().durable());
            sometimes!(env, MergeWasOutdated, state.digest() != incoming.digest());
            return Ok(lsn);
        }
        sometimes!(env, MergeMadeSiblings, state.versions().count() > 1);
        let mut changes = SmallVec::new();
        if outrun {
            self.actors_replaced += 1;
            changes.extend(self.actors.give_up(partition));
        }
        // What several coordinators accepted must come together: only a record's own bounds count here.
        let is_refused = env.engine().is_nearly_full() && has_values(incoming);
        sometimes!(env, MergeRefusedForRoom, is_refused);
        let stored = if is_refused { Err(NEARLY_FULL) } else { store(key, &state) };
        match stored {
            Ok(change) => changes.push(change),
            Err(error) if outrun => {
                self.write(key, changes, env)?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        let deleted = self.count_deleted(was_deleted, &state, &mut changes);
        let lsn = self.write(key, changes, env)?;
        self.deleted = deleted;
        Ok(lsn)
    }

    /// Puts what other replicas hold in the place of a record that cannot be read. Dots that only this replica knew are gone
    /// with it, so the partition gets a new actor.
    pub fn replace(
        &mut self,
        key: &KeyRef,
        partition: PartitionId,
        state: &VersionSet,
        env: &mut impl Env,
    ) -> Result<(), Trouble> {
        match self.read(key, env.engine()) {
            // Somebody has put the bytes back.
            Ok(_) => return self.merge(key, partition, state, env).map(drop),
            Err(Trouble::Fatal(error)) => return Err(Trouble::Fatal(error)),
            Err(Trouble::Failed(_) | Trouble::Cold(_)) => {}
        }
        let mut changes = SmallVec::new();
        if let Some(change) = self.actors.give_up(partition) {
            self.actors_replaced += 1;
            changes.push(change);
        }
        changes.push(match state.is_empty() {
            true => Change::Delete { key: data_key(key), delta: 0 },
            false => store(key, state)?,
        });
        self.write(key, changes, env).map(drop)
    }

    /// Whether a write of the key should wait until all its primaries have answered: this node's own actor has so many
    /// gaps that they must be closed.
    #[must_use]
    pub fn wants_all(&self, partition: PartitionId, heard: &Heard) -> bool {
        !heard.is_all() && self.actors.get(partition).is_some_and(|own| own.wants_closing(heard))
    }

    /// Issues a dot for a write of a key that this node is a primary of. Its HLC is above the highest that anybody told of
    /// and above everything here. When all primaries have answered, the gaps in what is known of this node's own earlier lives
    /// are closed: see `own_actors`.
    pub fn issue(
        &mut self,
        key: &KeyRef,
        partition: PartitionId,
        covers: Covers,
        heard: &Heard,
        version: impl FnOnce(Hlc) -> Version,
        env: &mut impl Env,
    ) -> Result<Issued, Trouble> {
        let Loaded { mut state, .. } = self.read_to_write(key, env.engine())?;
        let mut known = match covers {
            Covers::Only(context) => context,
            Covers::AndLocal(mut context) => {
                context.join(&state.clock());
                context
            }
        };
        let (own, fresh) = self.own_actor(partition, &known, heard, &state, env);
        let actor = own.actor;
        if heard.is_all() {
            let nowhere = own.nowhere(&known, &heard.clock, &state);
            sometimes!(env, GapsClosed, !nowhere.is_empty());
            known.learn(actor, &nowhere);
        }
        let wall = self.wall(env);
        let was_deleted = is_deleted(&state);
        let hlc = self.clock.tick_above(heard.highest.max(state.highest_hlc()), wall);
        state.discard(&known);
        let dot = state.event(actor, own.base, version(hlc));
        check_bounds(&state, heard.replicas)?;
        let is_value =
            state.versions().any(|(other, version)| other == dot && !version.value.is_empty());
        if is_value && env.engine().is_nearly_full() {
            return Err(NEARLY_FULL.into());
        }
        sometimes!(env, KeyBroughtBack, was_deleted && !is_deleted(&state));
        sometimes!(
            env,
            TombstoneOverNothing,
            is_deleted(&state) && dot.n == 1 && known.entries().is_empty()
        );
        sometimes!(env, DotAboveTheClock, hlc > self.clock.last());
        sometimes!(env, ClockBehindItsLastReading, Hlc::at(wall).wall_ms() < hlc.wall_ms());
        sometimes!(env, ClockCounted, hlc.0 & 0xffff != 0);
        sometimes!(env, ActorJumped, own.base > 0 && dot.n == own.base + 1);
        sometimes!(env, ActorBorn, self.actors.get(partition).is_none());

        let reservation = self.clock.reservation(self.clock.last());
        let again = reservation.is_none() && buggify!(env, ReservationRepeated);
        // Never a lower one than one that is on its way to the disk.
        let reservation = if again {
            HybridClock::new(Hlc(0)).reservation(self.clock.last())
        } else {
            reservation
        };
        let mut changes = SmallVec::new();
        changes.push(store(key, &state)?);
        if fresh {
            changes.push(self.actors.record(partition, own));
        }
        if let Some(reservation) = reservation {
            changes.push(number(CLOCK_KEY, reservation.0));
        }
        let deleted = self.count_deleted(was_deleted, &state, &mut changes);
        let lsn = self.write(key, changes, env)?;
        self.deleted = deleted;
        self.actors.set(partition, own);
        let known = state.known_to_writer(&known, dot);
        Ok(Issued { dot, hlc, state, known, lsn, reservation })
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.warm.is_none(), "what a cold read brought is old after its step");
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

    /// This node's own wall, as far as its peers' allow: a jump forward would be kept for ever by the reservation.
    fn wall(&self, env: &impl Env) -> Wall {
        let own = env.wall();
        let Some((peers, at)) = self.peers_wall else {
            return own;
        };
        let bound = peers.0.saturating_add(env.mono().ms_since(at)).saturating_add(DRIFT_MS_MAX);
        Wall(own.0.min(bound))
    }

    /// The actor to issue with, and whether it is new. The one there stays until the new one is stored in its place: the write
    /// may be refused.
    fn own_actor(
        &mut self,
        partition: PartitionId,
        known: &VersionVector,
        heard: &Heard,
        state: &VersionSet,
        env: &mut impl Env,
    ) -> (Own, bool) {
        let own = self.actors.to_issue(partition, known, &heard.clock, state);
        // A store replaces an actor a few times in its life, and nothing takes the old ones out of a clock: not until it is full.
        let runs = state.runs().max(heard.clock.runs());
        let is_rare = 2 * runs < issue_runs_max(heard.replicas.max(1));
        if let Some(own) = own.filter(|_| !(is_rare && buggify!(env, ActorReplaced))) {
            return (own, false);
        }
        self.actors_replaced += u64::from(self.actors.get(partition).is_some());
        (Own { actor: ActorId(env.random()), base: 0 }, true)
    }

    /// The clock's reservation is on disk.
    pub fn clock_reserved(&mut self, reservation: Hlc) {
        self.clock.reserved(reservation);
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
        key: &KeyRef,
        changes: SmallVec<[Change; 2]>,
        env: &mut impl Env,
    ) -> Result<Lsn, Trouble> {
        self.awaited.remove(key);
        self.warm = None;
        self.queried.take(key);
        // First, so that an actor that comes in their place stays.
        let changes = self.unwritten.iter().cloned().chain(changes).collect();
        let lsn = env.engine().write(&Batch { changes }).map_err(|error| match error {
            Error::Full(_) | Error::Busy(_) | Error::Corrupt { .. } => Trouble::Failed(error),
            error => Trouble::Fatal(error),
        })?;
        self.unwritten.clear();
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

fn has_values(state: &VersionSet) -> bool {
    state.versions().any(|(_, version)| !version.value.is_empty())
}

fn is_deleted(state: &VersionSet) -> bool {
    let mut versions = state.versions().peekable();
    versions.peek().is_some() && versions.all(|(_, version)| version.tombstone)
}

/// The engine key of a client's key.
#[must_use]
pub fn data_key(key: &KeyRef) -> Bytes {
    let Token(token) = keyspace::token(key.keyspace, &key.key);
    let mut bytes = Vec::with_capacity(DATA_PREFIX_BYTES + key.key.len());
    bytes.push(DATA_KIND);
    bytes.extend_from_slice(&GROUP.to_be_bytes());
    bytes.extend_from_slice(&token.to_be_bytes());
    bytes.extend_from_slice(&key.keyspace.0.to_be_bytes());
    bytes.extend_from_slice(&key.key);
    bytes.into()
}

/// The client's key in an engine key; `None` for the node's own records.
#[must_use]
pub fn parse_data_key(bytes: &Bytes) -> Option<KeyRef> {
    if bytes.len() < DATA_PREFIX_BYTES || bytes[0] != DATA_KIND {
        return None;
    }
    let keyspace = bytes[11..DATA_PREFIX_BYTES].try_into().map(u32::from_be_bytes).ok()?;
    Some(KeyRef { keyspace: KeyspaceId(keyspace), key: bytes.slice(DATA_PREFIX_BYTES..) })
}

/// What one of so many coordinators lets a key grow to: a merge of what all of them accepted fits in a record and a message.
fn check_bounds(state: &VersionSet, replicas: usize) -> Result<()> {
    let bytes: usize = state.versions().map(|(_, version)| version.value.len()).sum();
    if state.versions().count() > SIBLINGS_MAX {
        return Err(Error::Full(
            "the key has too many siblings; read it and write with its context",
        ));
    }
    if state.runs() > issue_runs_max(replicas.max(1)) {
        return Err(Error::Full(
            "the key's clock is full: N of N replicas must answer a write at level quorum or all to make room",
        ));
    }
    if bytes > state_bytes_max(replicas) {
        return Err(Error::Full(
            "the key's siblings are too large; read it and write with its context",
        ));
    }
    Ok(())
}

fn store(key: &KeyRef, state: &VersionSet) -> Result<Change> {
    let (head, body) = encode_state(state);
    let body_bytes: usize = body.iter().map(Bytes::len).sum();
    // Never what could not be read back.
    if !state.fits() || head.len() > HEAD_BYTES_MAX || body_bytes > BODY_BYTES_MAX {
        return Err(Error::Full("the key's versions do not fit in one record"));
    }
    Ok(Change::Put { key: data_key(key), head, body, delta: 0 })
}

fn number(key: &'static [u8], number: u64) -> Change {
    let head = Bytes::copy_from_slice(&number.to_be_bytes());
    Change::Put { key: Bytes::from_static(key), head, body: SmallVec::new(), delta: 0 }
}

/// What the record of `CLOCK_KEY` says.
pub fn reservation(head: &Bytes) -> Result<Hlc> {
    own_number(head).map(Hlc)
}

fn own_number(head: &Bytes) -> Result<u64> {
    let bytes = head[..].try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| Error::Malformed("an own record is not a number"))
}
