//! Who is there? Every node tells every other that it lives, and whom it hears.
//!
//! A plain all-to-all heartbeat over datagrams: fit for clusters of some tens of nodes. It stands where a
//! SWIM failure detector (Das, Gupta, Motivala, DSN 2002) belongs, behind the same questions: `is_alive`, `introductions`,
//! `members`. A node that is silent for `dead_ms` counts as dead, is still told that we live, and is alive again with its
//! next datagram; so two halves of a healed partition meet (<https://issues.apache.org/jira/browse/GOSSIP-14>).
//!
//! Invariants: the introduction with the highest boot epoch is kept, so a restarted node's new address replaces
//! the old one; nobody else speaks about this node itself; nothing here decides who owns data.
//! Left out: forgetting members, which must not come back by gossip, and so needs tombstones.

use std::collections::BTreeMap;

use crate::buggify;
use crate::config::{NODES_MAX, NodeConfig};
use crate::env::{Address, Mono};
use crate::id::NodeId;
use crate::layout::LayoutRef;
use crate::message::{Gossip, Introduction};
use crate::sometimes;
use crate::step::Env;

/// Introductions of others in one datagram; they take turns.
const OTHERS_MAX: usize = 16;

/// Another node, as far as it is known.
#[derive(Clone, Debug)]
pub struct Peer {
    /// How it introduces itself.
    pub introduction: Introduction,
    /// When it was heard of last; `None` when others have only spoken of it.
    pub heard: Option<Mono>,
    /// Whom it hears.
    pub hears: Vec<NodeId>,
    /// The layout it has endorsed.
    pub layout: LayoutRef,
    /// Whether it knows that layout to be live.
    pub live: bool,
    /// How far its clock was ahead of this node's when it was heard last, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// Everybody this node knows of.
#[derive(Debug)]
pub struct Membership {
    me: Introduction,
    cluster: String,
    seeds: Vec<Address>,
    heartbeat_ms: u64,
    dead_ms: u64,
    peers: BTreeMap<NodeId, Peer>,
    next_beat: Mono,
    beats: u64,
}

impl Membership {
    /// Knows nobody but itself and the seeds' addresses.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Membership {
        let me = Introduction {
            node: config.id,
            boot: config.boot,
            name: config.name.clone(),
            peer_address: config.peer_address.clone(),
            client_address: config.client_address.clone(),
            expect: u32::try_from(config.bootstrap_expect).unwrap_or(u32::MAX),
            weight: config.weight,
            zone: config.zone.clone(),
        };
        Membership {
            me,
            cluster: config.cluster.clone(),
            seeds: config.seeds.clone(),
            heartbeat_ms: config.heartbeat_ms,
            dead_ms: config.dead_ms,
            peers: BTreeMap::new(),
            next_beat: Mono(0),
            beats: 0,
        }
    }

    /// How this node introduces itself.
    #[must_use]
    pub const fn me(&self) -> &Introduction {
        &self.me
    }

    /// All other nodes, sorted by id.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<NodeId, Peer> {
        &self.peers
    }

    /// Whether a node seems to be up. This node always is.
    #[must_use]
    pub fn is_alive(&self, node: NodeId, now: Mono) -> bool {
        node == self.me.node
            || self
                .peers
                .get(&node)
                .and_then(|peer| peer.heard)
                .is_some_and(|heard| now.ms_since(heard) <= self.dead_ms)
    }

    /// The nodes that seem to be up, this one included, sorted.
    #[must_use]
    pub fn alive(&self, now: Mono) -> Vec<NodeId> {
        let mut alive: Vec<NodeId> =
            self.peers.keys().copied().filter(|&node| self.is_alive(node, now)).collect();
        alive.push(self.me.node);
        alive.sort_unstable();
        alive
    }

    /// How far this node's clock is ahead of the median of those it hears, in milliseconds; 0 when it hears
    /// nobody. Of two middle ones the nearer counts, so that one wrong clock among two peers convicts nobody.
    #[must_use]
    pub fn clock_ahead_ms(&self, now: Mono) -> i64 {
        let heard = self.peers.iter().filter(|&(&node, _)| self.is_alive(node, now));
        let mut ahead: Vec<i64> =
            heard.map(|(_, peer)| peer.clock_ahead_ms.saturating_neg()).collect();
        ahead.sort_unstable();
        let middle = ahead.get(ahead.len() / 2);
        let other = ahead.get(ahead.len().saturating_sub(1) / 2);
        middle
            .into_iter()
            .chain(other)
            .copied()
            .min_by_key(|ahead| ahead.unsigned_abs())
            .unwrap_or(0)
    }

    /// When `tick` has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Mono {
        self.next_beat
    }

    /// Tells everybody that this node lives, when it is time.
    pub fn tick(&mut self, layout: LayoutRef, live: bool, env: &mut impl Env) {
        let now = env.mono();
        if now < self.next_beat {
            return;
        }
        self.next_beat = now.plus_ms(self.heartbeat_ms);
        if buggify!(env, HeartbeatEarly) {
            self.next_beat = now.plus_ms(self.heartbeat_ms / 10 + 1);
        }
        // A cluster that has not formed yet would hardly ever form.
        if live && buggify!(env, HeartbeatLate) {
            self.next_beat = now.plus_ms(self.heartbeat_ms * 10);
        }
        self.beats += 1;
        if buggify!(env, HeartbeatSkipped) {
            return;
        }
        let gossip = Gossip {
            cluster: self.cluster.clone(),
            me: self.me.clone(),
            wall: env.wall(),
            layout,
            live,
            hears: self.alive(now),
            others: if buggify!(env, GossipOfNobody) { Vec::new() } else { self.others() },
        };
        for peer in self.peers.values() {
            env.datagram(&peer.introduction.peer_address, &gossip);
        }
        // A seed is an address, not a node: after a restart somebody else may live there.
        let known = |seed: &&Address| {
            !self.peers.values().any(|peer| peer.introduction.peer_address == **seed)
        };
        for seed in self.seeds.iter().filter(known) {
            env.datagram(seed, &gossip);
        }
    }

    /// Hears from a node. Says `false` when the datagram is not for this node's cluster.
    pub fn on_gossip(&mut self, gossip: Gossip, env: &mut impl Env) -> bool {
        if gossip.cluster != self.cluster {
            return false;
        }
        let Gossip { me: sender, wall, layout, live, hears, others, .. } = gossip;
        let node = sender.node;
        for introduction in others.into_iter().chain([sender]) {
            self.meet(introduction, env);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            let silent_ms = peer.heard.map(|heard| env.mono().ms_since(heard));
            sometimes!(env, PeerCameBack, silent_ms.is_some_and(|ms| ms > self.dead_ms));
            peer.heard = Some(env.mono());
            peer.hears = hears;
            peer.layout = layout;
            peer.live = live;
            peer.clock_ahead_ms = wall.0.cast_signed().wrapping_sub(env.wall().0.cast_signed());
        }
        true
    }

    /// Adds one more address to meet nodes at.
    pub fn add_seed(&mut self, seed: Address) {
        if !self.seeds.contains(&seed) && self.seeds.len() < NODES_MAX {
            self.seeds.push(seed);
        }
    }

    fn meet(&mut self, introduction: Introduction, env: &mut impl Env) {
        let node = introduction.node;
        if node == self.me.node {
            return;
        }
        if buggify!(env, IntroductionIgnored) {
            return;
        }
        let full = self.peers.len() >= NODES_MAX;
        match self.peers.get_mut(&node) {
            Some(peer) if peer.introduction.boot >= introduction.boot => return,
            Some(peer) => {
                sometimes!(env, PeerRestarted);
                peer.introduction = introduction.clone();
            }
            None if full => return,
            None => {
                let layout = LayoutRef::default();
                let introduction = introduction.clone();
                let peer = Peer {
                    introduction,
                    heard: None,
                    hears: Vec::new(),
                    layout,
                    live: false,
                    clock_ahead_ms: 0,
                };
                self.peers.insert(node, peer);
            }
        }
        env.route(node, &introduction.peer_address);
    }

    fn others(&self) -> Vec<Introduction> {
        let count = self.peers.len();
        let start = if count > OTHERS_MAX { self.beats as usize * OTHERS_MAX % count } else { 0 };
        let peers = self.peers.values().cycle().skip(start);
        peers.take(count.min(OTHERS_MAX)).map(|peer| peer.introduction.clone()).collect()
    }
}
