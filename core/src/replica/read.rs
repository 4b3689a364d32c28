//! Reading the local copy: warm, cold in two parts, and for the write that follows at once.
//!
//! Invariants: an unreadable record is an error, never "absent"; what a cold read brought is shown to nobody once the key has been
//! written since its ticket was given.

use super::Replica;
use super::keys::data_key;
use crate::engine::{Engine, Lookup, ReadTicket};
use crate::error::Error;
use crate::id::{Lsn, Unit};
use crate::version::dvv::{VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::wire::key::KeyRef;
use crate::wire::state::decode_state;

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

impl Replica {
    /// A key's state here, durable or not.
    pub fn read(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        engine: &mut dyn Engine,
    ) -> Result<Loaded, Trouble> {
        match self.look(key, &data_key(unit.group, key), engine)? {
            Lookup::Hit(record) => {
                // Bytes that pass their checksum and are malformed are damage like any other.
                let state = decode_state(&record.head, &record.body).map_err(|error| {
                    let what = format!("its versions are malformed: {error}");
                    Error::corrupt("the key's record".to_owned(), 0, what)
                })?;
                Ok(Loaded { state, lsn: record.lsn })
            }
            Lookup::Miss => Ok(Loaded::default()),
            Lookup::Cold(ticket) => Err(Trouble::Cold(ticket)),
        }
    }

    /// A key's record here.
    pub(super) fn look(
        &mut self,
        key: &KeyRef,
        place: &[u8],
        engine: &mut dyn Engine,
    ) -> Result<Lookup, Trouble> {
        let found = match &self.warm {
            Some((warm, found)) if warm == key => found.clone(),
            _ => engine.get(place)?,
        };
        if let Lookup::Cold(ticket) = found {
            // From here on, not from the start of the read: a write may come in between.
            self.awaited.entry(key.clone()).or_insert(ticket);
        }
        Ok(found)
    }

    /// What a write must know of a key before it is issued: the dots here and the highest HLC. The write is expected soon.
    pub fn query(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        engine: &mut dyn Engine,
    ) -> Result<(VersionVector, Hlc), Trouble> {
        let Loaded { state, lsn } = self.read(key, unit, engine)?;
        // What was purged was written before: a clock behind that would hide the write behind a delete that somebody still has.
        let floor = if state.is_empty() { self.purged.row(unit).floor } else { Hlc(0) };
        let told = (state.clock(), state.highest_hlc().max(floor));
        self.queried.keep(key, (state, lsn));
        Ok(told)
    }

    pub(super) fn read_to_write(
        &mut self,
        key: &KeyRef,
        unit: Unit,
        engine: &mut dyn Engine,
    ) -> Result<Loaded, Trouble> {
        match self.queried.take(key) {
            Some((state, lsn)) => Ok(Loaded { state, lsn }),
            None => self.read(key, unit, engine),
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
}
