//! Merging what a peer knows into the local copy, and putting what others hold in the place of an unreadable record.
//!
//! Invariants: a merge issues no dot; what several coordinators accepted must come together, so only a record's own bounds refuse it.

use smallvec::SmallVec;

use super::keys::data_key;
use super::read::{Loaded, Trouble};
use super::tree_row::removal;
use super::{NEARLY_FULL, Replica, is_deleted, store};
use crate::engine::Change;
use crate::id::{Lsn, Unit};
use crate::repair::merkle::entry;
use crate::sometimes;
use crate::step::Env;
use crate::version::dvv::VersionSet;
use crate::wire::key::KeyRef;

impl Replica {
    /// Merges what a peer knows. Answers the write after which all of it is here.
    pub fn merge(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        incoming: &VersionSet,
        env: &mut impl Env,
    ) -> Result<Lsn, Trouble> {
        let Loaded { mut state, lsn } = self.read_to_write(key, unit, env.engine())?;
        let outrun = self.actors.get(unit).is_some_and(|own| {
            let purged = self.purged.issued(unit, own.actor);
            incoming.highest(own.actor) > own.issued(&state, purged)
        });
        let (was_deleted, was) = (is_deleted(&state), entry(key, &state));
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
            changes.extend(self.actors.give_up(unit));
        }
        // What several coordinators accepted must come together: only a record's own bounds count here.
        let is_refused = env.engine().is_nearly_full() && has_values(incoming);
        sometimes!(env, MergeRefusedForRoom, is_refused);
        let stored = if is_refused { Err(NEARLY_FULL) } else { store(key, unit, was, &state) };
        match stored {
            Ok(change) => changes.push(change),
            Err(error) if outrun => {
                self.write((unit, key), changes, env)?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        let deleted = self.count_deleted(was_deleted, &state, &mut changes);
        let lsn = self.write((unit, key), changes, env)?;
        self.deleted = deleted;
        Ok(lsn)
    }

    /// Puts what other replicas hold in the place of a record that cannot be read. Dots that only this replica knew are gone
    /// with it, so the partition gets a new actor.
    pub fn replace(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        state: &VersionSet,
        env: &mut impl Env,
    ) -> Result<(), Trouble> {
        match self.read(key, unit, env.engine()) {
            // Somebody has put the bytes back.
            Ok(_) => return self.merge(key, unit, state, env).map(drop),
            Err(Trouble::Fatal(error)) => return Err(Trouble::Fatal(error)),
            Err(Trouble::Failed(_) | Trouble::Cold(_)) => {}
        }
        let mut changes = SmallVec::new();
        if let Some(change) = self.actors.give_up(unit) {
            self.actors_replaced += 1;
            changes.push(change);
        }
        changes.push(match state.is_empty() {
            true => Change::Delete { key: data_key(unit.group, key), delta: 0 },
            false => store(key, unit, 0, state)?,
        });
        changes.push(removal(unit));
        self.write((unit, key), changes, env)?;
        // What it was before nobody can read.
        self.trees.lose(unit);
        Ok(())
    }
}

fn has_values(state: &VersionSet) -> bool {
    state.versions().any(|(_, version)| !version.value.is_empty())
}
