//! What is kept of keys that were purged: a row for each unit, written by purges alone, and what it decides about states that come late.
//!
//! A purge deletes the last that is known of a key when every owner holds exactly that. From then on nothing here tells that an
//! older state of the key is old. Three numbers of its unit do:
//!
//! - the *epoch*: each purge raises it, above every epoch that an owner had when it confirmed. So a state that was read at an owner
//!   before that has a lower one, wherever it is now: in a message, or in an operation that will write it back;
//! - the *floor*: the highest HLC that was ever purged. Whatever a purge has covered is not above it;
//! - the *counter*: the highest number of this node's own actor in a key that was purged. What is issued next is above it, or a write
//!   would have the name of one that is known to be gone (<https://github.com/basho/riak_kv/pull/1094>, a "doomstone").
//!
//! A state under a lower epoch, with nothing in it above the floor, is *late*: it is not merged, whether the key is here again or
//! not, because beside a key that was written anew it would be a sibling of a value that is long deleted. Who sent it reads again, and
//! sends that. An owner that has all of its unit takes up every epoch that it hears of: it was asked in the purge that made it, so
//! whatever it reads since is no older than what was purged.
//!
//! Invariants: neither number goes down; a row is in the batch of the delete that raised it; an epoch that was heard and not purged
//! under is not on disk, where a lower one is only more careful.
//! Left out: who decides what is purged, see `purge`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use super::keys::data_key;
use super::read::Trouble;
use super::{Replica, is_deleted, store};
use crate::engine::{Batch, Change, Compared, Engine, Lookup};
use crate::error::{Error, Result};
use crate::id::{ActorId, Epoch, GroupId, Lsn, PartitionId, Unit};
use crate::repair::merkle::{entry, entry_of};
use crate::step::Env;
use crate::version::dvv::{VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::wire::key::{Has, KeyRef};
use crate::wire::state::decode_head;

const PREFIX: &[u8] = b"\0purge/";
/// The first byte of a row.
const FORMAT: u8 = 1;
const ROW_BYTES: usize = 1 + 4 * 8;

/// What is kept of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// The highest epoch that was purged under here, or heard of.
    pub epoch: Epoch,
    /// The highest HLC that was purged.
    pub floor: Hlc,
    /// This node's own actor at the last purge.
    actor: ActorId,
    /// The highest number of that actor in a key that was purged.
    issued: u64,
    /// The write that stored it.
    lsn: Lsn,
}

/// The rows of all units.
#[derive(Debug, Default)]
pub struct Purged {
    rows: BTreeMap<Unit, Row>,
}

impl Purged {
    /// Takes over what an earlier life has stored under an engine key: of which unit, if the key is a row's.
    pub fn load(&mut self, key: &[u8], head: &Bytes, lsn: Lsn) -> Result<Option<Unit>> {
        let Some(unit) = key.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        let unit =
            read_unit(unit).ok_or(Error::Malformed("a purge row's key has a wrong length"))?;
        let row = parse(head.clone()).ok_or(Error::Malformed("a purge row is damaged"))?;
        self.rows.insert(unit, Row { lsn, ..row });
        Ok(Some(unit))
    }

    /// The row of a unit; of one that nothing was purged of, zeros.
    #[must_use]
    pub fn row(&self, unit: Unit) -> Row {
        self.rows.get(&unit).copied().unwrap_or_default()
    }

    /// The units that have a row.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.rows.keys().copied()
    }

    /// A unit is no more.
    pub fn forget(&mut self, unit: Unit) {
        self.rows.remove(&unit);
    }

    /// The highest number of an actor that was purged.
    #[must_use]
    pub fn issued(&self, unit: Unit, actor: ActorId) -> u64 {
        let row = self.row(unit);
        if row.actor == actor { row.issued } else { 0 }
    }

    /// Whether a state may be a part of what was purged since it was read.
    #[must_use]
    pub fn is_late(&self, unit: Unit, epoch: Epoch, state: &VersionSet) -> bool {
        let row = self.row(unit);
        epoch < row.epoch && state.highest_hlc() <= row.floor
    }

    /// An epoch was heard of, by an owner that has all of the unit. Whether it is new.
    pub fn hear(&mut self, unit: Unit, epoch: Epoch) -> bool {
        let is_new = epoch != Epoch::TAKEN && epoch > self.row(unit).epoch;
        if is_new {
            self.rows.entry(unit).or_default().epoch = epoch;
        }
        is_new
    }
}

impl Replica {
    /// What was purged, by unit.
    #[must_use]
    pub const fn purged(&self) -> &Purged {
        &self.purged
    }

    /// The same, to hear of epochs.
    pub const fn purged_mut(&mut self) -> &mut Purged {
        &mut self.purged
    }

    /// What is here of a key whose state was refused, as far as that can be told at once.
    pub fn has(
        &self,
        (key, unit): (&KeyRef, Unit),
        refused: &VersionSet,
        engine: &mut dyn Engine,
    ) -> Has {
        let clock = match engine.head(&data_key(unit.group, key)) {
            Ok(Lookup::Miss) => return Has::Nothing,
            Ok(Lookup::Hit(record)) => decode_head(&record.head).map(|(state, _)| state.clock()),
            Ok(Lookup::Cold(_)) | Err(_) => return Has::Less,
        };
        let knows_all = |clock: VersionVector| refused.versions().all(|(dot, _)| clock.covers(dot));
        if clock.is_ok_and(knows_all) { Has::All } else { Has::Less }
    }

    /// A source of a unit that is not whole here says how far it has purged.
    pub fn inherit(
        &mut self,
        unit: Unit,
        (epoch, floor): (Epoch, Hlc),
        engine: &mut dyn Engine,
    ) -> Result<()> {
        let before = self.purged.row(unit);
        let row = Row { epoch: epoch.max(before.epoch), floor: floor.max(before.floor), ..before };
        if row == before {
            return Ok(());
        }
        match engine.write(&Batch { changes: [change(unit, &row)].into_iter().collect() }) {
            // It is told again with the next keys, and more careful than nothing it is now.
            Err(error) if error.wrote_nothing() => {}
            written => drop(written?),
        }
        self.purged.rows.insert(unit, row);
        Ok(())
    }

    /// From now on whatever is issued here of a unit is above this time, in every life. The write that says so.
    pub fn stay_above(
        &mut self,
        unit: Unit,
        floor: Hlc,
        engine: &mut dyn Engine,
    ) -> Result<Lsn, Trouble> {
        let before = self.purged.row(unit);
        if before.floor >= floor {
            return Ok(before.lsn);
        }
        let row = Row { floor, ..before };
        let written = engine.write(&Batch { changes: [change(unit, &row)].into_iter().collect() });
        let lsn = written.map_err(|error| match error.wrote_nothing() {
            true => Trouble::Failed(error),
            false => Trouble::Fatal(error),
        })?;
        self.purged.rows.insert(unit, Row { lsn, ..row });
        Ok(lsn)
    }

    /// Deletes a key whose state has this digest, or takes from it what it knows of some actors, with the unit's row in the same batch.
    /// The write after which that is done; `None`: something else is here.
    pub fn purge(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        (digest, epoch): (u64, Epoch),
        gone: &[ActorId],
        env: &mut impl Env,
    ) -> Result<Option<Lsn>, Trouble> {
        let place = data_key(unit.group, key);
        let record = match self.look(key, &place, env.engine())? {
            Lookup::Hit(record) => record,
            Lookup::Miss => return Ok(Some(self.purged.row(unit).lsn)),
            Lookup::Cold(ticket) => return Err(Trouble::Cold(ticket)),
        };
        let (state, _) = decode_head(&record.head)?;
        if state.digest() != digest {
            return Ok(None);
        }
        let row = self.row_after(unit, &state, epoch);
        let lsn = match gone {
            [] => self.purge_key((key, unit), (&place, &record.head), (&state, row), env)?,
            gone => {
                // Its values, too: what stays is written anew.
                let mut state = self.read(key, unit, env.engine())?.state;
                state.forget(gone);
                let put = store(key, unit, entry_of(key, digest), &state)?;
                let changes = [change(unit, &row), put].into_iter().collect();
                Some(self.write((unit, key), changes, env)?)
            }
        };
        if let Some(lsn) = lsn {
            self.purged.rows.insert(unit, Row { lsn, ..row });
        }
        Ok(lsn)
    }

    /// The row of a unit once a key of it has been purged in this state.
    fn row_after(&self, unit: Unit, state: &VersionSet, epoch: Epoch) -> Row {
        let before = self.purged.row(unit);
        let actor = self.actors.get(unit).map_or(before.actor, |own| own.actor);
        Row {
            epoch: before.epoch.max(epoch),
            floor: before.floor.max(state.highest_hlc()),
            actor,
            issued: self.purged.issued(unit, actor).max(state.highest(actor)),
            lsn: before.lsn,
        }
    }

    fn purge_key(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        (place, head): (&Bytes, &Bytes),
        (state, row): (&VersionSet, Row),
        env: &mut impl Env,
    ) -> Result<Option<Lsn>, Trouble> {
        let mut changes: SmallVec<[Change; 2]> = SmallVec::new();
        let deleted = self.count_deleted(is_deleted(state), &VersionSet::default(), &mut changes);
        changes.push(change(unit, &row));
        let (with, delta) = (Batch { changes }, entry(key, state));
        let compared = env.engine().delete_if_equal(place, head, delta, &with);
        let compared = compared.map_err(|error| match error {
            Error::Full(_) | Error::Busy(_) | Error::Corrupt { .. } => Trouble::Failed(error),
            error => Trouble::Fatal(error),
        })?;
        match compared {
            Compared::Deleted(lsn) => {
                self.deleted = deleted;
                self.trees.change(unit, place, key, delta);
                self.awaited.remove(key);
                self.queried.take(key);
                self.warm = None;
                Ok(Some(lsn))
            }
            Compared::Differs => Ok(None),
            Compared::Cold(ticket) => Err(Trouble::Cold(ticket)),
        }
    }
}

fn row_key(unit: Unit) -> Bytes {
    let Unit { group, partition } = unit;
    [PREFIX, &group.0.to_be_bytes(), &partition.0.to_be_bytes()].concat().into()
}

/// What takes the row of a unit away, when its group is no more.
#[must_use]
pub fn removal(unit: Unit) -> Change {
    Change::delete(row_key(unit))
}

fn change(unit: Unit, row: &Row) -> Change {
    let mut head = Vec::with_capacity(ROW_BYTES);
    head.put_u8(FORMAT);
    head.put_u64(row.epoch.0);
    head.put_u64(row.floor.0);
    head.put_u64(row.actor.0);
    head.put_u64(row.issued);
    Change::put(row_key(unit), head.into(), SmallVec::new())
}

fn read_unit(bytes: &[u8]) -> Option<Unit> {
    let [a, b, c, d] = *bytes.first_chunk::<4>().filter(|_| bytes.len() == 4)?;
    let group = GroupId(u16::from_be_bytes([a, b]));
    Some(Unit { group, partition: PartitionId(u16::from_be_bytes([c, d])) })
}

fn parse(mut head: Bytes) -> Option<Row> {
    if head.len() != ROW_BYTES || head.get_u8() != FORMAT {
        return None;
    }
    let (epoch, floor) = (Epoch(head.get_u64()), Hlc(head.get_u64()));
    let (actor, issued) = (ActorId(head.get_u64()), head.get_u64());
    Some(Row { epoch, floor, actor, issued, lsn: Lsn(0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RequestId;
    use crate::version::dvv::Version;

    fn state(ms: u64) -> VersionSet {
        let mut state = VersionSet::default();
        let version = Version::tombstone(Hlc(ms << 16), RequestId(1));
        state.put(&VersionVector::default(), ActorId(7), version);
        state
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_nothing_else_is_one() {
        let unit = Unit { group: GroupId(3), partition: PartitionId(300) };
        let row = Row { epoch: Epoch(9), floor: Hlc(8), actor: ActorId(7), issued: 6, lsn: Lsn(0) };
        let Change::Put { key, head, .. } = change(unit, &row) else { panic!("a put") };
        let mut purged = Purged::default();
        assert_eq!(purged.load(&key, &head, Lsn(5)).expect("a row"), Some(unit));
        assert_eq!(purged.row(unit), Row { lsn: Lsn(5), ..row });
        assert_eq!((purged.issued(unit, ActorId(7)), purged.issued(unit, ActorId(8))), (6, 0));
        assert_eq!(purged.load(b"\0actor/xxxx", &head, Lsn(5)).expect("no row"), None);
        for len in 0..head.len() {
            assert!(purged.load(&key, &head.slice(..len), Lsn(5)).is_err(), "cut to {len}");
        }
        assert!(purged.load(&key[..key.len() - 1], &head, Lsn(5)).is_err());
    }

    #[test]
    fn late_is_what_was_read_under_a_lower_epoch_and_is_not_above_the_floor() {
        let unit = Unit::default();
        let mut purged = Purged::default();
        assert!(!purged.is_late(unit, Epoch(0), &state(1)), "nothing was purged");
        purged.rows.insert(unit, Row { epoch: Epoch(4), floor: Hlc(50 << 16), ..Row::default() });
        for (epoch, ms, is_late) in
            [(3, 49, true), (3, 50, true), (3, 51, false), (4, 49, false), (5, 1, false)]
        {
            let found = purged.is_late(unit, Epoch(epoch), &state(ms));
            assert_eq!(found, is_late, "epoch {epoch}, {ms} ms");
        }
        assert!(purged.is_late(unit, Epoch(3), &VersionSet::default()), "nothing is above it");
        assert!(!purged.is_late(unit, Epoch::TAKEN, &state(1)));
        assert!(purged.hear(unit, Epoch(5)) && !purged.hear(unit, Epoch(4)));
        assert!(!purged.hear(unit, Epoch::TAKEN));
        assert_eq!(purged.row(unit).epoch, Epoch(5));
    }
}
