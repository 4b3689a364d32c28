//! What a source tells of a unit: its next keys with the digests of their states, in one bounded step.
//!
//! Invariants: whoever does not have all of a unit is no source of it; a key whose record cannot be read is not left out, it ends what
//! is told. A source tells nothing while an operation of its own goes on that began under an older layout: that one may still write
//! here what owners under the newest do not hear of. What others ask under an older layout alone is refused from then on, see
//! `Giving::floor`; so each write that is acknowledged under that alone is at a source before it tells what it has.

use bytes::Bytes;

use crate::config::{ENGINE_KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::engine::Engine;
use crate::error::Error;
use crate::id::{Epoch, LayoutVersion, NodeId, Unit};
use crate::layout::live::is_owner;
use crate::member::view::View;
use crate::replica::keys::unit_range;
use crate::replica::listing::list;
use crate::transfer::units::Units;
use crate::version::hlc::Hlc;
use crate::wire::transfer::{Digested, Listing};

/// What this node has given of its units.
#[derive(Debug, Default)]
pub struct Giving {
    floor: LayoutVersion,
    keys: u64,
}

impl Giving {
    /// The newest layout under which it has told anybody what it has: a question that is not asked under this one, or a newer one, is
    /// refused.
    #[must_use]
    pub const fn floor(&self) -> LayoutVersion {
        self.floor
    }

    /// How many keys it has listed for others.
    #[must_use]
    pub const fn keys(&self) -> u64 {
        self.keys
    }

    /// What this node, `me`, tells of a unit, from a place on, and how far it has purged there. `oldest`: the oldest of the newest layouts
    /// that its operations in flight began under. The error of a record that could not be read goes with it.
    pub fn tell(
        &mut self,
        me: NodeId,
        (unit, from, purged): (Unit, &Bytes, (Epoch, Hlc)),
        (units, oldest): (&Units, Option<LayoutVersion>),
        view: View<'_>,
        (keys_max, engine): (usize, &mut dyn Engine),
    ) -> (Listing, Option<Error>) {
        let Some(newest) = view.newest() else {
            return (Listing::StaleLayout, None);
        };
        if !is_owner(view.layouts, me, unit) || !units.counts(unit) {
            return (Listing::NotCounted, None);
        }
        if oldest.is_some_and(|oldest| oldest < newest.version()) {
            return (Listing::NotYet, None);
        }
        let (start, end) = unit_range(unit, newest.partitions());
        let from = if from.is_empty() { &start } else { from };
        let is_within = start <= from && from < &end && from.len() <= ENGINE_KEY_BYTES_MAX + 1;
        if !is_within {
            return (Listing::Failed, None);
        }
        // Also when nothing can be told: whoever asked may have been told before.
        self.floor = self.floor.max(newest.version());
        let bounds = (keys_max.min(PAGE_KEYS_MAX), PAGE_BYTES_MAX);
        match list(from, &end, bounds, engine) {
            Ok(part) => {
                self.keys += part.keys.len() as u64;
                let keys = part.keys.into_iter();
                let keys =
                    keys.map(|one| Digested { key: one.key, digest: one.digest, bytes: one.bytes });
                (Listing::Keys { keys: keys.collect(), next: part.next, purged }, None)
            }
            Err(error @ (Error::Corrupt { .. } | Error::Disk(_))) => {
                (Listing::Unreadable, Some(error))
            }
            Err(_) => (Listing::Failed, None),
        }
    }
}
