//! A key's state as bytes: in messages, and as the record that an engine keeps.

use bytes::Bytes;

use crate::config::{REPLICAS_MAX, RUNS_MAX, SIBLINGS_MAX};
use crate::error::{Error, Result};
use crate::version::context::Context;
use crate::version::dvv::{Behind, Dot, Entry, Stamp, Version, VersionSet, VersionVector};
use crate::version::outline::Outline;
use crate::version::runs::{Run, Runs};
use crate::wire::frame::{
    Generation, Reader, Values, Wire, Writer, put_all, read_header, read_of, table, take_all,
};

/// The number of the first generation of records.
const FIRST: u8 = 2;

/// A key's state as a record: its head, and its values in the pieces that make up the body.
#[must_use]
pub fn encode_state(state: &VersionSet) -> (Bytes, Values) {
    encode_state_in(Generation::NEWEST, state)
}

/// A key's state as a record that a node of this generation has written: a store that is older than the program has such records.
#[must_use]
pub fn encode_state_in(generation: Generation, state: &VersionSet) -> (Bytes, Values) {
    let mut to = Writer::of(generation, &[generation.number(FIRST)]);
    state.put(&mut to);
    let (head, values) = to.finish();
    (Bytes::from(head), values)
}

/// The state in a record.
pub fn decode_state(head: &Bytes, body: &Bytes) -> Result<VersionSet> {
    let version = *head.first().ok_or(Error::Malformed("a record has no head"))?;
    read_of(Generation::of("a record", version, FIRST)?, head.slice(1..), body.clone())
}

/// The state in a record's head, with empty values, and how many bytes they have: to look at which versions there are, and never to
/// be stored, sent or shown. Its digest is that of the whole state.
pub(crate) fn decode_head(head: &Bytes) -> Result<(VersionSet, u64)> {
    let version = *head.first().ok_or(Error::Malformed("a record has no head"))?;
    read_header(Generation::of("a record", version, FIRST)?, head.slice(1..))
}

/// The bytes that a state keeps in memory, about.
#[must_use]
pub fn weight(state: &VersionSet) -> usize {
    let versions = state.versions().map(|(_, version)| {
        size_of_val(version) + version.value.len() + version.content_type.len()
    });
    size_of_val(state.entries()) + versions.sum::<usize>()
}

table!(struct Dot { actor, n });
table!(struct Behind { actor, step });

table!(struct Outline { known, held });
table!(struct Run { from, to });
table!(struct Context { clock, highest });

impl Wire for Version {
    fn put(&self, to: &mut Writer) {
        self.hlc.put(to);
        self.request.put(to);
        if to.generation() == Generation::First {
            self.tombstone.put(to);
            to.leave_out(self.expires.is_none() && self.behind.is_none());
        } else {
            self.flags().put(to);
            self.expires.iter().for_each(|expires| expires.put(to));
            self.behind.iter().for_each(|behind| behind.put(to));
        }
        self.content_type.put(to);
        self.digest.put(to);
        to.value(&self.value);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let hlc = Wire::take(from)?;
        let request = Wire::take(from)?;
        // In the first generation it says only whether it deletes.
        let flags = Version::read_flags(Wire::take(from)?);
        let flags = flags.filter(|(_, expires, behind)| {
            from.generation() > Generation::First || !(*expires || *behind)
        });
        let Some((tombstone, expires, behind)) = flags else {
            return Err(Error::Malformed("a version has unknown flags"));
        };
        let expires = if expires { Some(Wire::take(from)?) } else { None };
        let behind = if behind { Some(Wire::take(from)?) } else { None };
        let content_type = Wire::take(from)?;
        let digest = Wire::take(from)?;
        let value = from.value()?;
        Ok(Version { hlc, behind, request, tombstone, expires, content_type, value, digest })
    }
}

impl Wire for Stamp {
    fn put(&self, to: &mut Writer) {
        self.hlc.put(to);
        match to.generation() {
            Generation::First => to.leave_out(self.step == 0),
            Generation::Second => (self.actor, self.step).put(to),
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let hlc = Wire::take(from)?;
        // The first generation names a version by its time.
        let (actor, step) = match from.generation() {
            Generation::First => Default::default(),
            Generation::Second => Wire::take(from)?,
        };
        Ok(Stamp { hlc, actor, step })
    }
}

impl Wire for Entry {
    fn put(&self, to: &mut Writer) {
        self.actor.put(to);
        self.known.put(to);
        put_all(&self.versions, to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let actor = Wire::take(from)?;
        let known = Wire::take(from)?;
        // All coordinators may each have reached their bound.
        let versions = take_all(from, SIBLINGS_MAX * REPLICAS_MAX)?;
        Ok(Entry { actor, known, versions })
    }
}

impl Wire for VersionSet {
    fn put(&self, to: &mut Writer) {
        put_all(self.entries(), to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let entries = take_all(from, RUNS_MAX)?;
        VersionSet::from_entries(entries).ok_or(Error::Malformed("not a version set"))
    }
}

impl Wire for VersionVector {
    fn put(&self, to: &mut Writer) {
        put_all(self.entries(), to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        VersionVector::from_entries(take_all(from, RUNS_MAX)?)
            .ok_or(Error::Malformed("not a version vector"))
    }
}

impl Wire for Runs {
    fn put(&self, to: &mut Writer) {
        put_all(self.list(), to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Runs::from_list(take_all(from, RUNS_MAX)?).ok_or(Error::Malformed("not runs"))
    }
}
