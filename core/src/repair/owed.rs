//! What a write owes when it ends: the state that it brought, to the primaries that have not acknowledged it.
//!
//! Every put ends here, whatever its outcome, once its dot is issued. Most of those primaries acknowledge it a moment later; which of
//! them never will is not known yet. Left out: keeping what is owed, and handing it over (hinted handoff): it is only counted, so
//! that people see how much reads will have to repair.

use smallvec::SmallVec;

use crate::id::{NodeId, Unit};
use crate::status::Counters;
use crate::version::dvv::VersionSet;
use crate::wire::key::KeyRef;

/// A write that has ended, and who has not said that it holds it.
#[derive(Clone, Debug)]
pub struct Owed<'a> {
    /// The key.
    pub key: &'a KeyRef,
    /// Its unit.
    pub unit: Unit,
    /// What each of them is to merge.
    pub state: &'a VersionSet,
    /// The primaries that have not acknowledged it, of all layouts it lived under.
    pub silent: SmallVec<[NodeId; 3]>,
}

/// Takes note of what is owed.
pub fn owe(owed: &Owed<'_>, counters: &mut Counters) {
    assert!(!owed.state.is_empty(), "a write has brought something");
    counters.owed_copies += owed.silent.len() as u64;
}
