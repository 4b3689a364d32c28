//! The layouts under which requests are served now, and the name of a set of them in messages.
//!
//! While a layout takes the place of another, both are live: a write needs its quorum in each of them. So whatever is asked
//! about a key says under which layouts, and whatever is answered says which the replica has
//! (<https://github.com/scylladb/scylladb/issues/5251> is what becomes of answers that do not).

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Layout, LayoutRef};
use crate::config::LAYOUTS_LIVE_MAX;
use crate::id::{LayoutVersion, NodeId, Unit};

/// A layout under which requests are served, and its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveLayout {
    /// The layout.
    pub layout: Arc<Layout>,
    /// Its name in messages.
    pub reference: LayoutRef,
}

/// How far a node is with the layout that it says it has endorsed: each is the newest version of which it is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trackers {
    /// It is durable there, and none of the node's operations in flight began under an older one alone.
    pub ack: LayoutVersion,
    /// The node has all the keys that it owns under it.
    pub sync: LayoutVersion,
    /// The node knows that all nodes have synced to it, and its operations read from its owners.
    pub sync_ack: LayoutVersion,
}

/// What a node knows of the layout before one that has become live.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// There is none: it is the cluster's first, and nothing was ever written.
    Founding,
    /// This one.
    After(&'a Layout),
    /// Nothing: the node has missed some, or had none.
    Unknown,
}

/// The names of some layouts, by version; at most `LAYOUTS_LIVE_MAX`, one of each version.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LayoutSet(SmallVec<[LayoutRef; 1]>);

impl Clone for LayoutSet {
    fn clone(&self) -> LayoutSet {
        // Every message about a key has one: it is copied as bytes, which a derived `clone` does not do.
        LayoutSet(SmallVec::from_slice(&self.0))
    }
}

impl LayoutSet {
    /// Of one layout; of none, when it is the default, which names no layout.
    #[must_use]
    pub fn one(reference: LayoutRef) -> LayoutSet {
        let named = Some(reference).filter(|reference| *reference != LayoutRef::default());
        LayoutSet(named.into_iter().collect())
    }

    /// A set from outside; `None` unless it is sorted by version, has one layout of each, and no more than may be live.
    #[must_use]
    pub fn from_references(references: &[LayoutRef]) -> Option<LayoutSet> {
        let sorted = references.windows(2).all(|pair| pair[0].version < pair[1].version);
        (sorted && references.len() <= LAYOUTS_LIVE_MAX).then(|| LayoutSet(references.into()))
    }

    /// The names, by version.
    #[must_use]
    pub fn references(&self) -> &[LayoutRef] {
        &self.0
    }

    /// The newest; `None` when there is none.
    #[must_use]
    pub fn newest(&self) -> Option<LayoutRef> {
        self.0.last().copied()
    }

    /// Whether a node that acts under these may answer what was asked under `asked`: it has the newest of those. An older one it
    /// may have dropped since: then all nodes have what they own under the newer one, and it counts for what it owns itself.
    #[must_use]
    pub fn answers_for(&self, asked: &LayoutSet) -> bool {
        asked.newest().is_none_or(|newest| self.0.contains(&newest))
    }
}

/// Whether a node is an owner of a unit, under one of these layouts.
#[must_use]
pub fn is_owner(live: &[LiveLayout], node: NodeId, unit: Unit) -> bool {
    live.iter().any(|LiveLayout { layout, .. }| layout.is_primary(node, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(version: u64, digest: u128) -> LayoutRef {
        LayoutRef { version: LayoutVersion(version), digest }
    }

    #[test]
    fn a_set_has_each_version_once_and_no_more_than_may_be_live() {
        let set = |references: &[LayoutRef]| LayoutSet::from_references(references);
        assert!(set(&[named(1, 5), named(2, 5)]).is_some());
        assert!(set(&[named(2, 5), named(1, 5)]).is_none(), "not sorted");
        assert!(set(&[named(1, 5), named(1, 6)]).is_none(), "one version, two digests");
        let many: Vec<LayoutRef> = (0..=LAYOUTS_LIVE_MAX as u64).map(|v| named(v, 1)).collect();
        assert!(set(&many).is_none());
        assert!(set(&[named(1, 1), named(2, 1), named(3, 1)]).is_none(), "a node has two rows");
        assert_eq!(LayoutSet::one(LayoutRef::default()), LayoutSet::default());
    }

    #[test]
    fn another_digest_of_a_version_is_another_layout() {
        let both = LayoutSet([named(1, 5), named(2, 7)][..].into());
        assert!(both.answers_for(&LayoutSet::one(named(2, 7))));
        assert!(both.answers_for(&LayoutSet::default()), "what needs no layout");
        assert!(!both.answers_for(&LayoutSet::one(named(2, 8))));
        assert!(LayoutSet::one(named(2, 7)).answers_for(&both), "the older one may be dropped");
        assert!(
            !LayoutSet::one(named(1, 5)).answers_for(&both),
            "the newer one may not be missing"
        );
        assert_eq!(both.newest(), Some(named(2, 7)));
    }
}
