//! The actors that this node issues dots with, over all its lives.
//!
//! An actor belongs to one unit of one node and lives as long as its store. A life that was not ended cleanly may have issued
//! numbers that are lost; so the next one goes on above its `base`, boot * 2^32, which no earlier life has reached: boots
//! are durable before a node speaks, and rise. A new actor for each life instead would make every key's clock longer
//! with every unclean end, for ever (<https://github.com/basho/riak_kv/issues/1865>).
//!
//! What is known of an actor has gaps then. Below `base` a number that none of *all* N primaries knows, each asked by this very
//! life, is nowhere, and its owner closes the gap: it calls the number known and gone. This loses nothing that was
//! acknowledged or shown:
//! - Whatever was acknowledged or shown is durable at a primary, which tells it.
//! - A number that no primary knew when it answered can come to one later only from somebody who had it. The first such message
//!   comes from a life of the owner before this one. A replica drops those once it has counted this life,
//!   which it does before it answers it: see `member::lives` and `Node::on_read_done`.
//! - This life's own numbers are above `base`.
//!
//! Invariants: a number is issued by one life only; one that some peer knows above what this node may have issued so far means
//! that another copy of the store issues too, or that this one has lost data of this life: the actor is given up.
//! Left out: a store that went back at the very place where it lay, when its peers do not know: see `member::lives`.

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{Actors, DOT_MAX, LIFE_DOTS, NodeConfig, OWN_RUNS_USUAL, issue_runs_max};
use crate::engine::Change;
use crate::error::{Error, Result};
use crate::id::{ActorId, GroupId, PartitionId, Unit};
use crate::version::dvv::{VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::version::runs::{Run, Runs};

const PREFIX: &[u8] = b"\0actor/";

/// What a query round has brought.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// All that anybody who answered knows.
    pub clock: VersionVector,
    /// The highest HLC that anybody told of.
    pub highest: Hlc,
    /// How many of the key's primaries have answered this very life.
    pub answered: usize,
    /// How many primaries the key has.
    pub replicas: usize,
}

impl Heard {
    /// Whether nobody is left to ask.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.replicas > 0 && self.answered == self.replicas
    }
}

/// An actor of this node's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// Its name.
    pub actor: ActorId,
    /// Numbers up to this one may have been issued by a life that lost them; the next is above.
    pub base: u64,
}

/// The actors, by unit.
#[derive(Debug)]
pub struct OwnActors {
    actors: BTreeMap<Unit, Own>,
    fate: Actors,
    boot: u64,
    place: u128,
}

impl Own {
    /// The highest number that may have been issued, as far as this node can know. `purged`: the highest in a key that was purged,
    /// which this one may have been when nothing of the actor is here.
    #[must_use]
    pub fn issued(&self, state: &VersionSet, purged: u64) -> u64 {
        let highest = state.highest(self.actor);
        let purged = if highest == 0 { purged } else { 0 };
        highest.max(self.base).max(purged)
    }

    /// The numbers below the next one that nobody has of this key: they were purged, or are those of other keys that were. This life
    /// alone has issued them, so that nothing of them is anywhere else.
    #[must_use]
    pub fn passed_over(&self, state: &VersionSet, purged: u64) -> Runs {
        let mut passed = Runs::default();
        passed.add(Run { from: state.highest(self.actor).max(self.base) + 1, to: purged });
        passed
    }

    /// The numbers up to `base` that nobody knows of those who were heard. They are nowhere only if that is everybody.
    #[must_use]
    pub fn nowhere(
        &self,
        known: &VersionVector,
        heard: &VersionVector,
        state: &VersionSet,
    ) -> Runs {
        let mut somewhere = Runs::default();
        for runs in [known.of(self.actor), heard.of(self.actor)].into_iter().flatten() {
            somewhere.join(runs);
        }
        if let Some(entry) = state.entry(self.actor) {
            somewhere.join(&entry.known);
        }
        somewhere.lacks_up_to(self.base)
    }

    /// Whether there are so many gaps that it is worth waiting to close them.
    #[must_use]
    pub fn wants_closing(&self, heard: &Heard) -> bool {
        let runs = heard.clock.of(self.actor).map_or(0, |runs| runs.list().len());
        let full = issue_runs_max(heard.replicas.max(1));
        self.base > 0 && (runs > OWN_RUNS_USUAL || runs > 1 && 2 * heard.clock.runs() >= full)
    }
}

impl OwnActors {
    /// None yet.
    #[must_use]
    pub const fn new(config: &NodeConfig) -> OwnActors {
        OwnActors {
            actors: BTreeMap::new(),
            fate: config.actors,
            boot: config.life.boot.0,
            place: config.place,
        }
    }

    /// Takes over what an earlier life has stored under an engine key; nothing when the key is no actor's. Answers what must
    /// change on disk.
    pub fn load(&mut self, key: &[u8], head: &[u8]) -> Result<SmallVec<[Change; 2]>> {
        let Some(unit) = key.strip_prefix(PREFIX) else {
            return Ok(SmallVec::new());
        };
        let unit = read_unit(unit).ok_or(Error::Malformed("an actor's key has a wrong length"))?;
        let (own, place) = parse(head).ok_or(Error::Malformed("an actor's record is damaged"))?;
        let base = self.boot.saturating_mul(LIFE_DOTS);
        let now = match self.fate {
            Actors::Continue => Some(own),
            // The directory does not know when the actor was drawn: a copy that was not closed since may still have it.
            Actors::Jump if place == Some(self.place) && base < DOT_MAX => {
                Some(Own { base, ..own })
            }
            Actors::Jump | Actors::Fresh => None,
        };
        self.actors.extend(now.map(|now| (unit, now)));
        // Older stores have it under another key.
        let stays = now.is_some() && record_key(unit) == key;
        let gone = Change::Delete { key: Bytes::copy_from_slice(key), delta: 0 };
        let kept = now.filter(|&now| now != own || !stays).map(|now| self.record(unit, now));
        Ok(Some(gone).filter(|_| !stays).into_iter().chain(kept).collect())
    }

    /// The actor of a unit.
    #[must_use]
    pub fn get(&self, unit: Unit) -> Option<Own> {
        self.actors.get(&unit).copied()
    }

    /// The actor to go on with; `None` when there is none, when somebody knows more of its dots than it may have issued, and
    /// when it has counted to the end of this life's numbers.
    #[must_use]
    pub fn to_issue(
        &self,
        unit: Unit,
        known: &VersionVector,
        heard: &VersionVector,
        (state, purged): (&VersionSet, u64),
    ) -> Option<Own> {
        let own = self.get(unit)?;
        let issued = own.issued(state, purged);
        let told = known.highest(own.actor).max(heard.highest(own.actor));
        let end = self.boot.saturating_add(1).saturating_mul(LIFE_DOTS).min(DOT_MAX);
        (told <= issued && issued + 1 < end).then_some(own)
    }

    /// The actor of a unit from now on, once `record` is written.
    pub fn set(&mut self, unit: Unit, own: Own) {
        self.actors.insert(unit, own);
    }

    /// The unit's actor issues no more.
    pub fn give_up(&mut self, unit: Unit) -> Option<Change> {
        self.actors.remove(&unit)?;
        Some(OwnActors::removal(unit))
    }

    /// What takes the record of a unit's actor away.
    #[must_use]
    pub fn removal(unit: Unit) -> Change {
        Change::Delete { key: record_key(unit), delta: 0 }
    }

    /// The units that have an actor.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.actors.keys().copied()
    }

    /// The record of an actor.
    #[must_use]
    pub fn record(&self, unit: Unit, own: Own) -> Change {
        let Own { actor, base } = own;
        let numbers = [actor.0.to_be_bytes(), base.to_be_bytes()].concat();
        let head = [&numbers[..], &self.place.to_be_bytes()].concat();
        Change::Put {
            key: record_key(unit),
            head: Bytes::from(head),
            body: SmallVec::new(),
            delta: 0,
        }
    }
}

fn record_key(unit: Unit) -> Bytes {
    let Unit { group, partition } = unit;
    [PREFIX, &group.0.to_be_bytes(), &partition.0.to_be_bytes()].concat().into()
}

/// The unit in an actor's key. In older stores it is the partition alone, in the one group that there was.
fn read_unit(bytes: &[u8]) -> Option<Unit> {
    let (group, partition) = match bytes.len() {
        2 => ([0; 2], bytes.first_chunk::<2>()?),
        4 => (*bytes.first_chunk::<2>()?, bytes.last_chunk::<2>()?),
        _ => return None,
    };
    let group = GroupId(u16::from_be_bytes(group));
    Some(Unit { group, partition: PartitionId(u16::from_be_bytes(*partition)) })
}

/// An actor and the place where its store lay. Older records have neither base nor place.
fn parse(head: &[u8]) -> Option<(Own, Option<u128>)> {
    let (actor, rest) = head.split_first_chunk::<8>()?;
    let actor = ActorId(u64::from_be_bytes(*actor));
    if rest.is_empty() {
        return Some((Own { actor, base: 0 }, None));
    }
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let base = Some(u64::from_be_bytes(*base)).filter(|&base| base < DOT_MAX)?;
    let place = u128::from_be_bytes(rest.try_into().ok()?);
    Some((Own { actor, base }, Some(place)))
}
