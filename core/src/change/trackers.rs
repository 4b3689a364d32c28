//! How far the nodes are while one layout takes the place of another, and what this node may do by that.
//!
//! 1. Everybody alive acts under both (*ack*): units are taken from their owners from then on, because whoever gives one away
//!    refuses questions under the old layout alone from that moment.
//! 2. Everybody has the keys that it owns (*sync*): reads move to the owners of the new layout.
//! 3. Everybody reads there (*sync_ack*): the old layout is dropped, and who lost a unit may delete it.
//!
//! (The trackers of Garage, <https://garagehq.deuxfleurs.fr/blog/2023-12-preserving-read-after-write-consistency/>.)
//!
//! Invariants: what a node says of itself never goes back while the layouts stay; reads never go to a layout whose owners have not
//! all synced; nobody that is awaited is passed over because it is silent, but for step 1, which the refusals make safe.

use std::collections::BTreeSet;

use crate::env::Mono;
use crate::id::{LayoutVersion, NodeId};
use crate::layout::live::Trackers;
use crate::layout::staged::Staged;
use crate::member::membership::{Membership, Peer};

use super::rows::Rows;

/// One of the trackers.
type Of = fn(Trackers) -> LayoutVersion;

/// What a shard says of its work.
#[derive(Clone, Copy, Debug)]
pub struct ShardFacts {
    /// The oldest of the newest layouts that the operations in flight began under; `None`: none is in flight.
    pub oldest_under: Option<LayoutVersion>,
    /// When the oldest operation in flight began.
    pub oldest_began: Option<Mono>,
    /// Whether it has all the keys that it owns.
    pub is_whole: bool,
}

/// What is true of this node besides.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// What its shard says.
    pub facts: ShardFacts,
    /// Whether it is durable here that the newest layout is live: no later life of this node acts under the older one alone.
    pub is_noted: bool,
}

/// Where this node stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    mine: Trackers,
    /// Whether units may be taken from their owners.
    may_pull: bool,
    /// Since when reads go to the owners of the newest layout, and which that is.
    moved: Option<(LayoutVersion, Mono)>,
    /// Since when two layouts have been live.
    changes_since: Option<Mono>,
}

impl Progress {
    /// What this node tells of itself.
    #[must_use]
    pub const fn mine(&self) -> Trackers {
        self.mine
    }

    /// Whether units may be taken from their owners.
    #[must_use]
    pub const fn may_pull(&self) -> bool {
        self.may_pull
    }

    /// The layout whose owners reads go to.
    #[must_use]
    pub fn reads_at(&self, rows: &Rows) -> LayoutVersion {
        let versions = || rows.live().iter().map(|live| live.reference.version);
        let moved = self.moved.map(|(version, _)| version);
        versions()
            .find(|version| Some(*version) == moved)
            .or_else(|| versions().next())
            .unwrap_or_default()
    }

    /// Looks at what everybody says. Whether the older layout can be dropped.
    pub fn look(
        &mut self,
        (rows, staged): (&Rows, &Staged),
        Own { facts, is_noted }: Own,
        members: &Membership,
        now: Mono,
    ) -> bool {
        let Some(newest) = rows.live().last().map(|live| live.reference.version) else {
            return false;
        };
        if is_noted && facts.oldest_under.is_none_or(|oldest| oldest >= newest) {
            self.mine.ack = newest;
        }
        let Some(_) = rows.change() else {
            // Alone: it needs nobody.
            if facts.is_whole {
                self.mine.sync = newest;
            }
            self.mine.sync_ack = newest;
            (self.may_pull, self.moved, self.changes_since) = (true, None, None);
            return false;
        };
        self.changes_since.get_or_insert(now);
        // Whoever has dropped the older one knows that all that were awaited read under the newer: this node was not, or is late.
        let founding = rows.founding();
        let has_dropped =
            |peer: &Peer| peer.endorsed.founding == founding && peer.endorsed.oldest >= newest;
        if members.peers().values().any(has_dropped) {
            self.moved = Some((newest, now));
            return true;
        }
        let awaited = rows.awaited(staged);
        let all = |nodes: &BTreeSet<NodeId>, mine: Trackers, of: Of| {
            let said = |node: &NodeId| match *node == members.me().node {
                true => mine,
                // What a node says of another cluster's layouts is of no use here, although they have the same numbers.
                false => members
                    .peers()
                    .get(node)
                    .filter(|_| !members.is_of_another(*node, founding))
                    .map_or_else(Default::default, |peer| peer.endorsed.trackers),
            };
            nodes.iter().all(|node| of(said(node)) >= newest)
        };
        let heard = awaited.iter().copied().filter(|&node| members.is_heard(node, now)).collect();
        self.may_pull = all(&heard, self.mine, |said| said.ack);
        if self.may_pull && facts.is_whole && self.mine.ack >= newest {
            self.mine.sync = newest;
        }
        if self.moved.is_none_or(|(version, _)| version != newest)
            && all(&awaited, self.mine, |said| said.sync)
        {
            self.moved = Some((newest, now));
        }
        let reads_there = self.moved.is_some_and(|(version, since)| {
            version == newest && facts.oldest_began.is_none_or(|began| began >= since)
        });
        if reads_there {
            self.mine.sync_ack = newest;
        }
        all(&awaited, self.mine, |said| said.sync_ack)
    }

    /// For how long two layouts have been live, in milliseconds; 0 while one is.
    #[must_use]
    pub fn changes_for_ms(&self, now: Mono) -> u64 {
        self.changes_since.map_or(0, |since| now.ms_since(since))
    }

    /// Who is waited for, and for what: in words, for people.
    #[must_use]
    pub fn waits_for(
        &self,
        rows: &Rows,
        staged: &Staged,
        members: &Membership,
        name: impl Fn(NodeId) -> String,
    ) -> Option<String> {
        let (_, newer) = rows.change()?;
        let (what, nodes) = self.behind(rows, staged, members)?;
        let names: Vec<String> = nodes.into_iter().map(name).collect();
        let newest = newer.reference.version;
        Some(format!("layout {} waits for {} {what}", newest.0, names.join(", ")))
    }

    /// What is waited for, in words, and who has not done it.
    #[must_use]
    pub fn behind(
        &self,
        rows: &Rows,
        staged: &Staged,
        members: &Membership,
    ) -> Option<(&'static str, Vec<NodeId>)> {
        let (_, newer) = rows.change()?;
        let newest = newer.reference.version;
        let said = |node: NodeId| match node == members.me().node {
            true => self.mine,
            false => {
                members.peers().get(&node).map_or_else(Default::default, |p| p.endorsed.trackers)
            }
        };
        let steps: [(&str, Of); 3] = [
            ("to act under it", |said| said.ack),
            ("to have the keys that they own", |said| said.sync),
            ("to read under it", |said| said.sync_ack),
        ];
        steps.into_iter().find_map(|(what, of)| {
            let awaited = rows.awaited(staged).into_iter();
            let nodes: Vec<NodeId> = awaited.filter(|&node| of(said(node)) < newest).collect();
            (!nodes.is_empty()).then_some((what, nodes))
        })
    }
}
