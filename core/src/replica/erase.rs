//! Deleting from the local copy what this node does not own any more: the record and not a version of it, so nobody else hears of it.
//!
//! Invariants: a record is deleted only as it was when somebody made sure that its owners have it; the unit's actor issues nothing
//! after that; the count of deleted keys is
//! right after any crash, as in every write.

use smallvec::SmallVec;

use super::Replica;
use super::keys::data_key;
use super::listing::Listed;
use super::read::Trouble;
use crate::engine::{Batch, Compared};
use crate::error::Error;
use crate::id::Unit;
use crate::repair::merkle::entry_of;
use crate::step::Env;
use crate::version::dvv::VersionSet;

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
}
