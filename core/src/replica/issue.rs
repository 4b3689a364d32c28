//! Issuing a version: one dot, above everything that the query round and the local copy know.
//!
//! Invariants: a dot is issued once; its HLC is above every HLC known of the key; the key, the actor and the clock's reservation
//! that it needs are one batch; a refused write leaves the actor and the clock's reservation as they were.

use smallvec::SmallVec;

use super::actors::{Heard, Own};
use super::keys::{CLOCK_KEY, number};
use super::purged::Row;
use super::read::{Loaded, Trouble};
use super::{NEARLY_FULL, Replica, is_deleted, store};
use crate::buggify;
use crate::config::{SIBLINGS_MAX, issue_runs_max, state_bytes_max};
use crate::engine::{Change, Engine};
use crate::error::{Error, Result};
use crate::id::{ActorId, Epoch, Lsn, Unit};
use crate::repair::merkle::entry;
use crate::sometimes;
use crate::step::Env;
use crate::version::dvv::{Dot, Version, VersionSet, VersionVector};
use crate::version::hlc::{Hlc, HybridClock};
use crate::wire::key::KeyRef;

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
    /// The unit's purge epoch when it was issued.
    pub epoch: Epoch,
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

/// What is written: the version, once its time is known, and what else is in its batch.
#[derive(Debug)]
pub struct Event<F> {
    /// The version of this time.
    pub version: F,
    /// Changes beside the key, which are there when it is.
    pub with: SmallVec<[Change; 2]>,
}

impl Replica {
    /// Whether a write of the key should wait until all its primaries have answered: this node's own actor has so many
    /// gaps that they must be closed.
    #[must_use]
    pub fn wants_all(&self, unit: Unit, heard: &Heard) -> bool {
        !heard.is_all() && self.actors.get(unit).is_some_and(|own| own.wants_closing(heard))
    }

    /// Issues a dot for a write of a key that this node is a primary of: see `issue_with`.
    pub fn issue(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        covers: Covers,
        heard: &Heard,
        version: impl FnOnce(Hlc) -> Version,
        env: &mut impl Env,
    ) -> Result<Issued, Trouble> {
        let event = Event { version, with: SmallVec::new() };
        self.issue_with(key, unit, covers, heard, event, env)
    }

    /// Issues a dot for a write of a key that this node is a primary, or a fallback, of. Its HLC is above the highest that anybody told of
    /// and above everything here. When all primaries have answered, the gaps in what is known of this node's own earlier lives
    /// are closed: see `replica::actors`.
    pub fn issue_with(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        covers: Covers,
        heard: &Heard,
        Event { version, with }: Event<impl FnOnce(Hlc) -> Version>,
        env: &mut impl Env,
    ) -> Result<Issued, Trouble> {
        let Loaded { mut state, .. } = self.read_to_write(key, unit, env.engine())?;
        let mut known = match covers {
            Covers::Only(context) => context,
            Covers::AndLocal(mut context) => {
                context.join(&state.clock());
                context
            }
        };
        let (own, fresh) = self.own_actor(unit, &known, heard, &state, env);
        let actor = own.actor;
        if heard.is_all() {
            let nowhere = own.nowhere(&known, &heard.clock, &state);
            sometimes!(env, GapsClosed, !nowhere.is_empty());
            known.learn(actor, &nowhere);
        }
        let row = self.pass_over(unit, own, &state, &mut known, env);
        let wall = self.wall(env);
        let (was_deleted, was) = (is_deleted(&state), entry(key, &state));
        let highest = heard.highest.max(state.highest_hlc()).max(row.floor);
        let hlc = self.clock.tick_above(highest, wall);
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
        sometimes!(env, ActorBorn, self.actors.get(unit).is_none());

        let reservation = self.clock.reservation(self.clock.last());
        let again = reservation.is_none() && buggify!(env, ReservationRepeated);
        // Never a lower one than one that is on its way to the disk.
        let reservation = if again {
            HybridClock::new(Hlc(0)).reservation(self.clock.last())
        } else {
            reservation
        };
        let mut changes = SmallVec::new();
        changes.push(store(key, unit, was, &state)?);
        if fresh {
            changes.push(self.actors.record(unit, own));
        }
        if let Some(reservation) = reservation {
            changes.push(number(CLOCK_KEY, reservation.0));
        }
        let deleted = self.count_deleted(was_deleted, &state, &mut changes);
        changes.extend(with);
        let lsn = self.write((unit, key), changes, env)?;
        self.deleted = deleted;
        self.actors.set(unit, own);
        let known = state.known_to_writer(&known, dot);
        Ok(Issued { dot, hlc, state, known, epoch: row.epoch, lsn, reservation })
    }

    /// What is issued is above every number that was purged; those between are known, and gone. The unit's row.
    fn pass_over(
        &self,
        unit: Unit,
        own: Own,
        state: &VersionSet,
        known: &mut VersionVector,
        env: &mut impl Env,
    ) -> Row {
        let passed = own.passed_over(state, self.purged.issued(unit, own.actor));
        sometimes!(env, DotAbovePurged, !passed.is_empty());
        known.learn(own.actor, &passed);
        self.purged.row(unit)
    }

    /// The actor to issue with, and whether it is new. The one there stays until the new one is stored in its place: the write
    /// may be refused.
    fn own_actor(
        &mut self,
        unit: Unit,
        known: &VersionVector,
        heard: &Heard,
        state: &VersionSet,
        env: &mut impl Env,
    ) -> (Own, bool) {
        let purged = self.actors.get(unit).map_or(0, |own| self.purged.issued(unit, own.actor));
        let own = self.actors.to_issue(unit, known, &heard.clock, (state, purged));
        // A store replaces an actor a few times in its life, and nothing takes the old ones out of a clock: not until it is full.
        let runs = state.runs().max(heard.clock.runs());
        let is_rare = 2 * runs < issue_runs_max(heard.replicas.max(1));
        if let Some(own) = own.filter(|_| !(is_rare && buggify!(env, ActorReplaced))) {
            return (own, false);
        }
        self.actors_replaced += u64::from(self.actors.get(unit).is_some());
        (Own { actor: ActorId(env.random()), base: 0 }, true)
    }

    /// Whether a key with what is handed over is as small as one of so many owners lets it grow to, or no larger than without it; and
    /// whether its clock is half full.
    pub fn fits(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        state: &VersionSet,
        owners: usize,
        engine: &mut dyn Engine,
    ) -> Result<(bool, bool), Trouble> {
        let before = self.read(key, unit, engine)?.state;
        let mut merged = before.clone();
        let runs_max = issue_runs_max(owners.max(1));
        // A delete comes also where others have filled their shares.
        let is_no_larger = |merged: &VersionSet| {
            merged.versions().count() <= before.versions().count()
                && value_bytes(merged) <= value_bytes(&before)
                && merged.runs() <= runs_max
        };
        let fits =
            !merged.merge(state) || is_no_larger(&merged) || check_bounds(&merged, owners).is_ok();
        Ok((fits, 2 * merged.runs() > runs_max))
    }
}

const CLOCK_FULL: &str = "the key's clock is full; room is made as soon as all of its replicas answer: read it again in some seconds, and \
                          write at level quorum or all";

/// Whether a write was refused because its key has met too many actors and gaps.
#[must_use]
pub fn is_clock_full(error: &Error) -> bool {
    matches!(error, Error::Full(what) if *what == CLOCK_FULL)
}

fn value_bytes(state: &VersionSet) -> usize {
    state.versions().map(|(_, version)| version.value.len()).sum()
}

/// What one of so many coordinators lets a key grow to: a merge of what all of them accepted fits in a record and a message.
fn check_bounds(state: &VersionSet, replicas: usize) -> Result<()> {
    let bytes = value_bytes(state);
    if state.versions().count() > SIBLINGS_MAX {
        return Err(Error::Full(
            "the key has too many siblings; read it and write with its context",
        ));
    }
    if state.runs() > issue_runs_max(replicas.max(1)) {
        return Err(Error::Full(CLOCK_FULL));
    }
    if bytes > state_bytes_max(replicas) {
        return Err(Error::Full(
            "the key's siblings are too large; read it and write with its context",
        ));
    }
    Ok(())
}
