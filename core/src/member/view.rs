//! What a shard sees of its node: read-only, and the same for the whole of one call.
//!
//! A shard decides nothing about the cluster, and the cluster's machines know nothing of shards. So a node may have several
//! shards, and none of them has a way to another.

use crate::id::{LayoutVersion, Life};
use crate::layout::Layout;
use crate::layout::live::{LayoutSet, LiveLayout};
use crate::member::lives::Lives;
use crate::member::membership::Membership;

/// What is true of the whole node.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The life of this node.
    pub life: Life,
    /// Why this node must not serve, if it must not.
    pub barred: Option<&'a str>,
    /// The layouts that are live, the newest last; none before the first is.
    pub layouts: &'a [LiveLayout],
    /// Their names.
    pub layout_set: &'a LayoutSet,
    /// The one whose owners reads go to.
    pub reads_at: LayoutVersion,
    /// Whether units may be taken from their owners.
    pub may_pull: bool,
    /// Who seems to be up.
    pub members: &'a Membership,
    /// Which life of each node counts.
    pub lives: &'a Lives,
}

impl<'a> View<'a> {
    /// The newest layout that is live.
    #[must_use]
    pub fn newest(&self) -> Option<&'a Layout> {
        self.layouts.last().map(|live| &*live.layout)
    }
}
