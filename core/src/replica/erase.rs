//! Deleting from the local copy what this node does not own any more, and what is of a dropped keyspace: the record and not a version of
//! it, so nobody else hears of it.
//!
//! Invariants: a record of a keyspace that is there is deleted only as it was when somebody made sure that its owners have it; the unit's
//! actor issues nothing after that; the count of deleted keys is right after any crash, as in every write.

use std::collections::BTreeSet;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Replica;
use super::actors::OwnActors;
use super::keys::{DELETED_KEY, data_key, number};
use super::listing::Listed;
use super::purged::removal;
use super::read::Trouble;
use super::tree_row;
use crate::config::RANGE_KEYS_MAX;
use crate::engine::{Batch, Change, Compared, Engine};
use crate::error::Error;
use crate::id::Unit;
use crate::repair::merkle::entry_of;
use crate::step::Env;
use crate::version::dvv::VersionSet;
use crate::wire::key::KeyRef;

/// A key that nobody can ask for any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Its engine key.
    pub place: Bytes,
    /// The client's key.
    pub key: KeyRef,
    /// The unit that it lies in.
    pub unit: Unit,
    /// Whether all its versions are deletions, as far as it can be read.
    pub is_deleted: bool,
    /// What it adds to its unit's hash tree; `None`: nobody can read that.
    pub entry: Option<u64>,
}

impl Replica {
    /// Deletes a record, if it is still what was listed.
    pub fn erase(
        &mut self,
        unit: Unit,
        listed: &Listed,
        env: &mut impl Env,
    ) -> Result<Compared, Trouble> {
        let mut changes = SmallVec::new();
        let nothing = VersionSet::default();
        let deleted = self.count_deleted(listed.is_deleted, &nothing, &mut changes);
        let (place, with) = (data_key(unit.group, &listed.key), Batch { changes });
        let delta = entry_of(&listed.key, listed.digest);
        let compared = env.engine().delete_if_equal(&place, &listed.head, delta, &with);
        let compared = compared.map_err(|error| match error {
            Error::Full(_) | Error::Busy(_) | Error::Corrupt { .. } => Trouble::Failed(error),
            error => Trouble::Fatal(error),
        })?;
        if let Compared::Deleted(_) = compared {
            self.deleted = deleted;
            self.trees.change(unit, &place, &listed.key, delta);
            // What its numbers were is gone with the record: whatever is issued here later has another actor.
            self.renounce(unit);
            self.awaited.remove(&listed.key);
            self.queried.take(&listed.key);
        }
        Ok(compared)
    }

    /// Deletes keys, whatever they have, and the count of deleted ones with them. `false`: the disk took nothing. For keys that nobody
    /// can ask for any more.
    pub fn erase_all(&mut self, keys: &[Gone], engine: &mut dyn Engine) -> Result<bool, Error> {
        let deletions = keys.iter().filter(|one| one.is_deleted).count() as u64;
        let deleted = self.deleted.saturating_sub(deletions);
        let delete = |one: &Gone| {
            let (key, delta) = (one.place.clone(), one.entry.unwrap_or_default());
            Change::Delete { key, delta }
        };
        let mut changes: SmallVec<[Change; 2]> = keys.iter().map(delete).collect();
        let unknown = keys.iter().filter(|one| one.entry.is_none());
        let unknown: BTreeSet<Unit> = unknown.map(|one| one.unit).collect();
        changes.extend(unknown.iter().map(|&unit| tree_row::removal(unit)));
        if deleted != self.deleted {
            changes.push(number(DELETED_KEY, deleted));
        }
        if changes.is_empty() {
            return Ok(true);
        }
        match engine.write(&Batch { changes }) {
            Err(error) if error.wrote_nothing() => return Ok(false),
            written => drop(written?),
        }
        self.deleted = deleted;
        for Gone { place, key, unit, entry, .. } in keys {
            match *entry {
                Some(entry) => self.trees.change(*unit, place, key, entry),
                None => self.trees.lose(*unit),
            }
            self.awaited.remove(key);
            self.queried.take(key);
        }
        Ok(true)
    }

    /// Deletes the actors of units that are not there any more, some of them. Whether all of them are gone.
    pub fn erase_actors(
        &mut self,
        is_there: impl Fn(Unit) -> bool,
        engine: &mut dyn Engine,
    ) -> Result<bool, Error> {
        let units = self.actors.units().chain(self.purged.units());
        let gone = units.filter(|&unit| !is_there(unit));
        let gone: Vec<Unit> = gone.take(RANGE_KEYS_MAX).collect();
        if gone.is_empty() {
            return Ok(true);
        }
        let rows = |&unit: &Unit| [OwnActors::removal(unit), removal(unit)];
        let changes = gone.iter().flat_map(rows).collect();
        match engine.write(&Batch { changes }) {
            Err(error) if error.wrote_nothing() => return Ok(false),
            written => drop(written?),
        }
        for unit in gone {
            self.actors.give_up(unit);
            self.purged.forget(unit);
        }
        Ok(false)
    }
}
