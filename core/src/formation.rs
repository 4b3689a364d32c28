//! How the first layout of a cluster comes to be.
//!
//! Nodes that are to form a cluster of `expect` members wait until exactly that many, all expecting the same, hear each other. A node
//! that expects nobody but itself, or founds none at all (0), only joins, and is not counted. Then the one with the smallest id
//! writes layout 1 and endorses it; what becomes of it is `change`'s business.
//!
//! Invariants: nobody forms a layout who has endorsed one, or hears somebody who has one
//! (<https://github.com/basho/riak_core/issues/166>). A node with seeds never forms a layout alone. One without listens first: its
//! directory may have been emptied, and then the others of its cluster still tell its address that they live. Whoever hears of a live
//! layout in that way has found its seeds, and forms none in this life, however silent they become.
//! Left out: a cluster of which nobody runs while its first node is started on an empty directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::buggify;
use crate::change::rows::Rows;
use crate::change::staging::role;
use crate::config::NodeConfig;
use crate::env::{Address, Mono};
use crate::id::NodeId;
use crate::layout::keyspace::Keyspace;
use crate::layout::{Layout, LayoutRef, Quorums, Role};
use crate::member::choice::Choice;
use crate::member::membership::{Membership, Peer};
use crate::sometimes;
use crate::step::Env;
use crate::wire::member::{Endorsement, Introduction};

/// So many heartbeats a node listens before it forms a cluster alone: each of them may be lost.
const LISTENS_BEATS: u64 = 5;

/// What this node would form.
#[derive(Debug)]
pub struct Formation {
    me: NodeId,
    partitions: u16,
    wanted: Quorums,
    /// Whether the keyspace `default` is to be sloppy.
    sloppy: bool,
    has_seeds: bool,
    listens_ms: u64,
    /// Until when it listens before it forms a cluster alone; `None` before the first tick.
    listens_until: Option<Mono>,
    /// It would have formed a cluster alone, and has heard a node with a live layout.
    has_found: bool,
    /// Which cluster is this node's own, when it has no layout.
    choice: Choice,
}

impl Formation {
    /// By what people have set.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Formation {
        Formation {
            me: config.id,
            partitions: config.partitions,
            wanted: Quorums { n: config.replicas, r: config.read_quorum, w: config.write_quorum },
            sloppy: config.sloppy,
            has_seeds: !config.seeds.is_empty(),
            listens_ms: LISTENS_BEATS * config.heartbeat_ms,
            listens_until: None,
            has_found: false,
            choice: Choice::new(config.heartbeat_ms),
        }
    }

    /// The first layout, when it is time and this node is the one to write it.
    pub fn tick(
        &mut self,
        rows: &Rows,
        members: &mut Membership,
        env: &mut impl Env,
    ) -> Option<Arc<Layout>> {
        let now = env.mono();
        self.listen(rows, members, env);
        if rows.founding() == 0 {
            let endorsed = rows.proposed().map(|one| one.layout.founding(one.reference));
            self.choice.look(endorsed, members, env);
        }
        if !self.may_form(rows, members, now) || buggify!(env, FormationPutOff) {
            return None;
        }
        sometimes!(env, LayoutFormed);
        let default = Keyspace { sloppy: self.sloppy, ..Keyspace::default_keyspace() };
        let (roles, keyspaces) = (roles(members, now), vec![default]);
        Some(Arc::new(Layout::first(self.partitions, self.wanted, roles, keyspaces)))
    }

    /// The digest of the first layout of this node's cluster: of the one that it serves, or else has chosen. 0 while it knows none.
    #[must_use]
    pub fn founding(&self, rows: &Rows) -> u128 {
        match rows.founding() {
            0 => self.choice.founding(),
            founding => founding,
        }
    }

    /// Why no layout is live, for people. Empty when one is.
    #[must_use]
    pub fn waiting(&self, rows: &Rows, members: &Membership, now: Mono) -> Vec<String> {
        if rows.newest().is_some() {
            return Vec::new();
        }
        if let (Some(proposed), Some(endorsers)) = (rows.proposed(), rows.endorsers()) {
            let missing = proposed.layout.roles().iter();
            let missing = missing.filter(|role| !endorsers.contains(&role.node));
            let names: Vec<&str> = missing.map(|role| role.name.as_str()).collect();
            return vec![format!("waiting for {} to endorse layout 1", names.join(", "))];
        }
        let mut why = same_names(members, now);
        if let Some(waits) = self.choice.waiting(members, now) {
            why.push(waits);
            return why;
        }
        let has_layout = |peer: &Endorsement| peer.layout != LayoutRef::default();
        if members.peers().values().any(|peer| has_layout(&peer.endorsed)) {
            why.push("the layout of the cluster that it hears has not come yet".to_owned());
            return why;
        }
        let expect = members.me().expect;
        if expect == 0 {
            why.push("this node has begun anew and founds no cluster: it waits for a node of its own that has a layout".to_owned());
            return why;
        }
        for peer in members.peers().values().filter(|p| members.is_heard(p.introduction.node, now))
        {
            if ![0, expect].contains(&peer.introduction.expect) {
                why.push(format!(
                    "{} expects {} nodes, this node {expect}: give all the same --bootstrap-expect",
                    peer.introduction.name, peer.introduction.expect
                ));
            }
        }
        let alive = founders(members, now);
        if self.has_found {
            why.push(
                "it has heard a cluster that knows its address and is silent now: it founds none beside it".to_owned(),
            );
        } else if expect == 1 && !self.has_seeds {
            why.push(
                "listening whether a cluster knows its address, before it founds one".to_owned(),
            );
        } else if self.has_seeds && expect == 1 {
            why.push(
                "a node with seeds never forms a cluster alone: set --bootstrap-expect to the number of \
                 nodes, or leave --seeds out"
                    .to_owned(),
            );
        } else if alive.len() < expect as usize {
            let here = if alive.len() == 1 { "is" } else { "are" };
            why.push(format!("waiting for {expect} nodes, {} {here} here", alive.len()));
        } else if alive.len() > expect as usize {
            why.push(format!("{expect} nodes expected, but {} are here", alive.len()));
        } else {
            why.push("waiting for all nodes to hear each other".to_owned());
        }
        why
    }

    /// A node that would form a cluster alone meets those who know its address, and stays with them.
    fn listen(&mut self, rows: &Rows, members: &mut Membership, env: &mut impl Env) {
        let now = env.mono();
        self.listens_until.get_or_insert(now.plus_ms(self.listens_ms));
        if !rows.is_empty() || self.has_seeds || members.me().expect != 1 {
            return;
        }
        let serves =
            |peer: &&Peer| peer.endorsed.live && members.is_heard(peer.introduction.node, now);
        let found = members.peers().values().filter(serves);
        let found: Vec<Address> =
            found.map(|peer| peer.introduction.peer_address.clone()).collect();
        sometimes!(env, ClusterFound, !found.is_empty());
        self.has_found |= !found.is_empty();
        found.into_iter().for_each(|address| members.add_seed(address));
    }

    fn may_form(&self, rows: &Rows, members: &Membership, now: Mono) -> bool {
        let expect = members.me().expect as usize;
        if !rows.is_empty() || hears_a_member(members, now) {
            return false;
        }
        if expect == 1 {
            let has_listened = self.listens_until.is_some_and(|until| now >= until);
            return !self.has_seeds && !self.has_found && has_listened;
        }
        if !same_names(members, now).is_empty() {
            return false;
        }
        let alive = founders(members, now);
        let hears = |hears: &[NodeId]| {
            let some = hears.iter().filter(|node| !only_joins(node, members));
            some.eq(&alive)
        };
        let agrees = |node: &NodeId| {
            *node == self.me
                || members.peers().get(node).is_some_and(|peer| {
                    hears(&peer.hears)
                        && peer.introduction.expect as usize == expect
                        && peer.endorsed.layout == LayoutRef::default()
                })
        };
        alive.len() == expect && alive.first() == Some(&self.me) && alive.iter().all(agrees)
    }
}

/// Whether somebody is heard who has endorsed a layout, also one that is not counted among the founders.
fn hears_a_member(members: &Membership, now: Mono) -> bool {
    let is_member = |peer: &Peer| peer.endorsed.layout != LayoutRef::default();
    members.peers().iter().any(|(&node, peer)| is_member(peer) && members.is_heard(node, now))
}

/// Whether a node has no part in founding a cluster of several nodes, and waits to join it: that is what one does that expects nobody.
fn only_joins(node: &NodeId, members: &Membership) -> bool {
    let peer = members.peers().get(node);
    members.me().expect > 1 && peer.is_some_and(|peer| peer.introduction.expect <= 1)
}

/// Who may found the cluster, of those who are heard.
fn founders(members: &Membership, now: Mono) -> Vec<NodeId> {
    let mut heard = members.heard(now);
    heard.retain(|node| !only_joins(node, members));
    heard
}

/// Names that two nodes have, in words. People could not tell them apart, and neither could their tools.
fn same_names(members: &Membership, now: Mono) -> Vec<String> {
    let alive = members.heard(now);
    let peers = members.peers().values().map(|peer| &peer.introduction);
    let mut by_name: BTreeMap<&str, Vec<&Introduction>> = BTreeMap::new();
    for introduction in peers.chain([members.me()]).filter(|of| alive.contains(&of.node)) {
        by_name.entry(&introduction.name).or_default().push(introduction);
    }
    let twice = by_name.into_iter().filter(|(_, all)| all.len() > 1);
    let said = twice.map(|(name, all)| {
        let at: Vec<&str> = all.iter().map(|of| of.peer_address.0.as_str()).collect();
        let at = at.join(" and ");
        format!("nodes at {at} have one name, {name}: give one of them another --node-id and an empty --data-dir")
    });
    said.collect()
}

fn roles(members: &Membership, now: Mono) -> Vec<Role> {
    let alive = founders(members, now);
    let peers = members.peers().values().map(|peer| &peer.introduction);
    let all = peers.chain([members.me()]).filter(|of| alive.contains(&of.node));
    all.map(role).collect()
}
