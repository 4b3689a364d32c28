//! Which cluster a node without a layout belongs to, when clusters of one name have met.
//!
//! A cluster is known by the digest of its first layout, its founding. A node that was given seeds belongs to the cluster of those that
//! answer there; one without to the only one that it hears. It listens for some heartbeats first, because others than its own may
//! know its address. Before it has chosen it takes up no layout, learns nothing that is staged, and tells nobody of an unknown
//! cluster that it lives; from then on it says which one it has chosen, and no other lets it in.
//!
//! Invariants: a process chooses once, and of several none; who has endorsed the first layout of a cluster belongs to that one.

use std::collections::BTreeMap;

use super::membership::{Membership, Peer};
use crate::env::Mono;
use crate::sometimes;
use crate::step::Env;

/// So many heartbeats a node listens before it chooses: each of them may be lost.
const LISTENS_BEATS: u64 = 5;

/// The choice of a node that has no layout.
#[derive(Debug)]
pub struct Choice {
    listens_ms: u64,
    /// `None` before the first look.
    listens_until: Option<Mono>,
    chosen: Option<u128>,
}

impl Choice {
    /// Nothing is chosen. `heartbeat_ms`: how often nodes say that they live.
    #[must_use]
    pub const fn new(heartbeat_ms: u64) -> Choice {
        Choice { listens_ms: LISTENS_BEATS * heartbeat_ms, listens_until: None, chosen: None }
    }

    /// The founding of the cluster that was chosen; 0 before that.
    #[must_use]
    pub fn founding(&self) -> u128 {
        self.chosen.unwrap_or(0)
    }

    /// Chooses, when this node has listened and there is one to choose. `endorsed`: the digest of a first layout that it has endorsed.
    pub fn look(&mut self, endorsed: Option<u128>, members: &Membership, env: &mut impl Env) {
        let now = env.mono();
        let until = *self.listens_until.get_or_insert(now.plus_ms(self.listens_ms));
        let clusters = clusters(members, now);
        if let Some(one) = endorsed.filter(|one| clusters.contains_key(one)) {
            self.chosen = Some(one);
        }
        if self.chosen.is_some() || now < until {
            return;
        }
        let mut may = clusters.iter().filter(|(_, peers)| is_ours(members, peers));
        if let (Some((&one, _)), None) = (may.next(), may.next()) {
            sometimes!(env, ClusterChosen, clusters.len() > 1);
            self.chosen = Some(one);
        }
    }

    /// Why there is no layout here although others have one, for people. `None`: no others have one.
    #[must_use]
    pub fn waiting(&self, members: &Membership, now: Mono) -> Option<String> {
        let clusters = clusters(members, now);
        if clusters.is_empty() || self.chosen.is_some() {
            return None;
        }
        let one = |peers: &Vec<&Peer>| {
            let of = &peers[0].introduction;
            format!("{} at {}", of.name, of.peer_address.0)
        };
        let ours = clusters.values().filter(|peers| is_ours(members, peers)).count();
        let those = || clusters.values().map(one).collect::<Vec<_>>().join(" and of ");
        Some(if ours == 1 {
            "the layout of the cluster that it hears has not come yet".to_owned()
        } else if clusters.len() > 1 {
            format!(
                "two clusters of one name have met, that of {}, and this node cannot tell which is its own: it joins none; start it \
                 with --seeds of its own cluster alone, and give one of the two another --cluster-name",
                those()
            )
        } else {
            format!(
                "it hears the cluster of {}, and none of its --seeds answers as one of it: start one of the seeds, or give that \
                 address as --seeds if that cluster is its own",
                those()
            )
        })
    }
}

/// Who is heard and serves a layout, by its founding.
fn clusters(members: &Membership, now: Mono) -> BTreeMap<u128, Vec<&Peer>> {
    let mut clusters: BTreeMap<u128, Vec<&Peer>> = BTreeMap::new();
    for (&node, peer) in members.peers() {
        if peer.endorsed.oldest.0 > 0 && members.is_heard(node, now) {
            clusters.entry(peer.endorsed.founding).or_default().push(peer);
        }
    }
    clusters
}

/// Whether a cluster may be this node's own.
fn is_ours(members: &Membership, peers: &[&Peer]) -> bool {
    !members.has_seeds() || peers.iter().any(|peer| peer.answers.is_at_seed)
}
