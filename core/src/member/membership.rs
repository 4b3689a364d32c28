//! Who is there? Every node tells every other that it lives, and whom it hears.
//!
//! A plain all-to-all heartbeat over datagrams, for clusters of some tens of nodes: it says whom this node can ask now. A node
//! that is silent for `dead_ms` is asked no more, is still told that we live, and is alive again with its next datagram;
//! so two halves of a healed partition meet (<https://issues.apache.org/jira/browse/GOSSIP-14>). What has become of who is
//! silent for longer the failure detectors say (`swim`), and whoever gives the place of one to another asks them: `is_dead`.
//!
//! To be *heard* is not to be *alive*. Whoever is asked must hear the question, and its answer must come back: so a
//! node is alive for routing when it is heard, says that it hears this node, and both links between the two are
//! open. A cut in one direction alone is noticed by both sides in that way, and an ended process at once, by its links.
//! A node that says goodbye is not alive until a later life of it is heard.
//!
//! Invariants: the introduction with the highest boot epoch is kept, so a restarted node's new address replaces
//! the old one, unless a life of the node is heard that `lives` counts; nobody else speaks about this node itself; nothing
//! here decides who owns data. A node that is in no layout and has been silent for `STRANGER_MS` is forgotten: nothing
//! depends on it, and were it spoken of again it would be met anew. So is the one that has been silent for longest when another one
//! comes and there is no room. Strangers never take the room of members of the layout.

use std::collections::{BTreeMap, BTreeSet};

use crate::buggify;
use crate::config::{NODES_MAX, NodeConfig};
use crate::env::{Address, Mono, Wall};
use crate::id::{BootEpoch, NodeId};
use crate::member::lives::Lives;
use crate::member::seeds::Seeds;
use crate::sometimes;
use crate::step::Env;
use crate::wire::member::{Counted, Endorsement, Gossip, Introduction};
use crate::wire::swim::Standing;

/// Introductions of others in one datagram; they take turns.
const OTHERS_MAX: usize = 16;
/// So many heartbeats a node waits for those of others before it takes itself for alone.
const BEATS_TO_MEET: u64 = 20;
/// After so long without a link nobody waits for the answer of who was asked over it, in milliseconds.
const LINK_LOST_MS: u64 = 300;
/// A node that has said something within so many milliseconds runs: what is passed on to it is not asked first whether it does.
const PROMPT_MS: u64 = 10;
/// After so long a node that was heard once, and that the failure detectors have never met, is taken for dead, in milliseconds: a
/// suspicion of few nodes takes no longer.
const SILENT_MS: u64 = 10_000;
/// After so long a node of which nobody has told anything is taken for dead, in milliseconds: longer than any suspicion of few nodes.
const UNMET_MS: u64 = 60_000;

/// A node that is in no layout is forgotten when nobody has heard it for this long, in milliseconds.
const STRANGER_MS: u64 = 60_000;
/// So many nodes that are in no layout are remembered.
pub const STRANGERS_MAX: usize = NODES_MAX / 4;

/// Another node, as far as it is known.
#[derive(Clone, Debug)]
pub struct Peer {
    /// How it introduces itself.
    pub introduction: Introduction,
    /// When it was heard of last; `None` when others have only spoken of it.
    pub heard: Option<Mono>,
    /// For so long this node has slept since, in milliseconds: nobody was heard meanwhile.
    slept_ms: u64,
    /// When a message of it came last, over a link.
    spoke: Option<Mono>,
    /// When somebody spoke of it first.
    pub met: Mono,
    /// Whom it hears.
    pub hears: Vec<NodeId>,
    /// Since when it has been heard without hearing this node.
    pub deaf_since: Option<Mono>,
    /// Since when its links have not been open; `None` when they were when this node looked last.
    pub unlinked_since: Option<Mono>,
    /// The life that has said goodbye.
    left: Option<BootEpoch>,
    /// The layout it has endorsed, and how far it is with it.
    pub endorsed: Endorsement,
    /// What its clock showed when it was heard last.
    pub wall: Wall,
    /// Whether it is one of those that answer at this node's seeds.
    pub answers: Answers,
}

/// How it is known who answers at the addresses of seeds, which may be names of hosts, or stand for several nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// It advertises the address of a seed, or it has heard this node, which had told only seeds that it lives.
    pub is_at_seed: bool,
    /// When it was told that at the address which it advertises.
    told: Option<Mono>,
}

impl Peer {
    const fn address(&self) -> &Address {
        &self.introduction.peer_address
    }
}

/// Everybody this node knows of.
#[derive(Debug)]
pub struct Membership {
    me: Introduction,
    cluster: String,
    seeds: Seeds,
    heartbeat_ms: u64,
    dead_ms: u64,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// What this node's clock showed when it was looked at last, and when that was.
    pub(super) looked: (Wall, Mono),
    next_beat: Mono,
    beats: u64,
    leaving: bool,
    /// What was told last of the layouts.
    said: Endorsement,
    /// How nodes are by the failure detector, as it was told last.
    standings: BTreeMap<NodeId, Standing>,
}

impl Membership {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.peers.len() < NODES_MAX + STRANGERS_MAX, "those who are known are bounded");
        for (&node, peer) in &self.peers {
            assert_ne!(node, self.me.node, "nobody speaks about this node but itself");
            assert_eq!(node, peer.introduction.node, "a peer is introduced by its own name");
            assert!(peer.deaf_since.is_none() || peer.heard.is_some(), "only who is heard is deaf");
        }
    }

    /// Knows nobody but itself and the seeds' addresses.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Membership {
        let me = Introduction {
            node: config.id,
            life: config.life,
            name: config.name.clone(),
            peer_address: config.peer_address.clone(),
            client_address: config.client_address.clone(),
            expect: u32::try_from(config.bootstrap_expect).unwrap_or(u32::MAX),
            weight: config.weight,
            zone: config.zone.clone(),
            joins: config.joins,
        };
        Membership {
            me,
            cluster: config.cluster.clone(),
            seeds: Seeds::new(config),
            heartbeat_ms: config.heartbeat_ms,
            dead_ms: config.dead_ms,
            peers: BTreeMap::new(),
            looked: (Wall(0), Mono(0)),
            next_beat: Mono(0),
            beats: 0,
            leaving: false,
            said: Endorsement::default(),
            standings: BTreeMap::new(),
        }
    }

    /// How this node introduces itself.
    #[must_use]
    pub const fn me(&self) -> &Introduction {
        &self.me
    }

    /// What people call a node; the beginning of its id, when it never introduced itself here.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        let known = self.peers.get(&node).map(|peer| &peer.introduction);
        let known = known.or_else(|| Some(&self.me).filter(|me| me.node == node));
        known.map_or_else(|| node.short(), |of| of.name.clone())
    }

    /// All other nodes, sorted by id.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<NodeId, Peer> {
        &self.peers
    }

    /// Whether a node can be asked and its answers come back, as far as is known. This node always is alive.
    #[must_use]
    pub fn is_alive(&self, node: NodeId, now: Mono) -> bool {
        self.state(node, now) == "alive"
    }

    /// How things stand with a node, in a word: `alive`, `left` (it said goodbye), `deaf` (heard, but it does not hear this
    /// node), `unlinked` (heard, but there is no link in one of the directions) or `dead`.
    #[must_use]
    pub fn state(&self, node: NodeId, now: Mono) -> &'static str {
        if node == self.me.node {
            return "alive";
        }
        let Some(peer) = self.peers.get(&node) else {
            return "dead";
        };
        let here = peer.hears.contains(&self.me.node);
        match peer.left {
            Some(_) => "left",
            None if !self.is_heard(node, now) => "dead",
            None if !here => "deaf",
            None if peer.unlinked_since.is_some() => "unlinked",
            None => "alive",
        }
    }

    /// Whether what was passed on to a node is lost, as far as is known: it is dead, has said goodbye, or has had no link, or
    /// not heard this node, for a while. A link that is replaced is gone for a moment, and an answer may come on the one in
    /// the other direction.
    #[must_use]
    pub fn is_lost(&self, node: NodeId, now: Mono) -> bool {
        let peer = self.peers.get(&node);
        let since = peer.and_then(|peer| peer.unlinked_since.or(peer.deaf_since));
        match self.state(node, now) {
            "dead" | "left" => true,
            _ => since.is_some_and(|since| since.plus_ms(LINK_LOST_MS) <= now),
        }
    }

    /// Whether a node has been heard lately. This node always is.
    #[must_use]
    pub fn is_heard(&self, node: NodeId, now: Mono) -> bool {
        node == self.me.node || self.peers.get(&node).is_some_and(|peer| self.hears(peer, now))
    }

    /// Whether another node has been heard lately.
    pub(super) fn hears(&self, peer: &Peer, now: Mono) -> bool {
        let silence_ms = |heard| now.ms_since(heard).saturating_sub(peer.slept_ms);
        peer.heard.is_some_and(|heard| silence_ms(heard) <= self.dead_ms)
    }

    /// Takes note of a message that came from a node over a link.
    pub fn note_message(&mut self, from: NodeId, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.spoke = Some(now);
        }
    }

    /// Whether a node runs at this moment, as far as can be known: it has said something within `PROMPT_MS`. One that stands
    /// still is heard for `dead_ms` more.
    #[must_use]
    pub fn is_prompt(&self, node: NodeId, now: Mono) -> bool {
        let last = self.peers.get(&node).and_then(|peer| peer.heard.max(peer.spoke));
        node == self.me.node || last.is_some_and(|last| now.ms_since(last) <= PROMPT_MS)
    }

    /// Whether a node serves a layout of another founding than this one: it is of another cluster, whatever people call both.
    /// `founding`: the digest of this cluster's first layout, 0 while none is known.
    #[must_use]
    pub fn is_of_another(&self, node: NodeId, founding: u128) -> bool {
        let theirs = self.peers.get(&node).map_or(0, |peer| peer.endorsed.founding);
        differ(theirs, founding)
    }

    /// Whether a node belongs to this cluster: it serves a layout of it, or has chosen it to be let in.
    #[must_use]
    pub fn belongs_to(&self, node: NodeId, founding: u128) -> bool {
        let theirs = self.peers.get(&node).map(|peer| peer.endorsed.founding);
        founding != 0 && theirs == Some(founding)
    }

    /// Whether a node is gone as far as anybody can tell, so that another one may have its place: it is silent, and the failure
    /// detectors have convicted it, or it has said itself that it stops. A pause, or a link that loses what it says, is no death.
    #[must_use]
    pub fn is_dead(&self, node: NodeId, now: Mono) -> bool {
        let is_gone = match self.standings.get(&node) {
            Some(Standing::Dead | Standing::Left | Standing::Restarting) => true,
            Some(Standing::Alive | Standing::Suspect) => false,
            // The failure detectors have not met it: it was gone too soon, or before this node began.
            None => match self.peers.get(&node).and_then(|peer| peer.heard) {
                Some(heard) => now.ms_since(heard) >= SILENT_MS,
                None => self.beats.saturating_mul(self.heartbeat_ms) >= UNMET_MS,
            },
        };
        is_gone && !self.is_heard(node, now)
    }

    /// Takes note of how nodes are by the failure detector.
    pub fn note_standings(&mut self, standings: BTreeMap<NodeId, Standing>) {
        self.standings = standings;
    }

    /// The nodes that are heard, this one included, sorted.
    #[must_use]
    pub fn heard(&self, now: Mono) -> Vec<NodeId> {
        let peers = self.peers.iter().filter(|(_, peer)| self.hears(peer, now));
        let mut heard: Vec<NodeId> = peers.map(|(&node, _)| node).collect();
        heard.push(self.me.node);
        heard.sort_unstable();
        heard
    }

    /// Looks at which links are open.
    pub fn look_at_links(&mut self, env: &impl Env) {
        for (&node, peer) in &mut self.peers {
            let since = peer.unlinked_since.or(Some(env.mono()));
            peer.unlinked_since = since.filter(|_| !env.is_connected(node));
        }
    }

    /// Says goodbye, now and with every heartbeat: nobody is to ask this node anything more. Whether somebody is there to
    /// hear it.
    pub fn leave(&mut self, endorsed: Endorsement, lives: &Lives, env: &mut impl Env) -> bool {
        self.leaving = true;
        self.next_beat = env.mono();
        self.tick(endorsed, lives, env);
        self.heard(env.mono()).len() > 1
    }

    /// Whether it has just started and has heard nobody yet: it cannot know how its clock stands to theirs.
    #[must_use]
    pub fn has_met_nobody_yet(&self, now: Mono) -> bool {
        self.beats < BEATS_TO_MEET && self.heard(now).len() <= 1
    }

    /// When `tick` has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Mono {
        self.next_beat
    }

    /// Tells everybody that this node lives, when it is time.
    pub fn tick(&mut self, endorsed: Endorsement, lives: &Lives, env: &mut impl Env) {
        let now = env.mono();
        if now < self.next_beat {
            return;
        }
        self.excuse(now);
        self.next_beat = now.plus_ms(self.heartbeat_ms);
        if buggify!(env, HeartbeatEarly) {
            self.next_beat = now.plus_ms(self.heartbeat_ms / 10 + 1);
        }
        // A cluster that has not formed yet would hardly ever form.
        if endorsed.live && buggify!(env, HeartbeatLate) {
            self.next_beat = now.plus_ms(self.heartbeat_ms * 10);
        }
        self.beats += 1;
        if buggify!(env, HeartbeatSkipped) {
            return;
        }
        self.said = endorsed;
        let nobody = buggify!(env, GossipOfNobody);
        let others = if nobody { Vec::new() } else { self.others() };
        let told = lives.told(env.engine().durable());
        let told = turn(&told, self.beats, OTHERS_MAX).copied().collect();
        let mut gossip = self.gossip(lives, told, env);
        let is_told = |peer: &&Peer| !self.keeps_from(peer, &endorsed);
        let told: Vec<&Peer> = self.peers.values().filter(is_told).collect();
        let told_nodes: Vec<NodeId> = told.iter().map(|peer| peer.introduction.node).collect();
        // Introductions would be most of a heartbeat, and nobody takes one on of a node that it hears: who hears all is sent none.
        let (hearing, lacking): (Vec<&Peer>, Vec<&Peer>) =
            told.into_iter().partition(|peer| self.hears_all(peer, &others, now));
        let hearing: Vec<&Address> = hearing.into_iter().map(Peer::address).collect();
        let mut lacking: Vec<&Address> = lacking.into_iter().map(Peer::address).collect();
        // A seed is an address, not a node: after a restart somebody else may live there.
        let is_new = |seed: &&Address| !hearing.contains(seed) && !lacking.contains(seed);
        let seeds: Vec<&Address> = self.seeds.addresses.iter().filter(is_new).collect();
        lacking.extend(seeds);
        if !hearing.is_empty() {
            env.datagrams(&hearing, &gossip);
        }
        if !lacking.is_empty() {
            gossip.others = others;
            env.datagrams(&lacking, &gossip);
        }
        for node in told_nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.answers.told = Some(now);
            }
        }
    }

    /// When this node comes to its heartbeat much too late its process, or its machine, stood still: what the others said meanwhile is
    /// still to be read, and if they stood still too they have said nothing.
    fn excuse(&mut self, now: Mono) {
        let late_ms = now.ms_since(self.next_beat);
        if self.beats > 0 && late_ms > 2 * self.heartbeat_ms {
            self.peers.values_mut().for_each(|peer| peer.slept_ms += late_ms);
        }
    }

    /// Whether people have named seeds other than this node itself.
    #[must_use]
    pub const fn has_seeds(&self) -> bool {
        self.seeds.given
    }

    /// Whether a peer is not told that this node lives. Before it knows which cluster is its own a node that has seeds tells only those,
    /// so that no other cluster lets it in, and whoever has heard it answers at a seed.
    fn keeps_from(&self, peer: &Peer, mine: &Endorsement) -> bool {
        let serves = peer.endorsed.founding != 0;
        self.seeds.given && mine.founding == 0 && serves && !peer.answers.is_at_seed
    }

    /// Whether a peer hears each of these nodes, as it has said lately. A life that may have ended says nothing of the next one.
    fn hears_all(&self, peer: &Peer, others: &[Introduction], now: Mono) -> bool {
        let goes_on = self.hears(peer, now) && peer.unlinked_since.is_none() && peer.left.is_none();
        goes_on && others.iter().all(|other| peer.hears.contains(&other.node))
    }

    /// Whether a datagram is for this node's cluster.
    #[must_use]
    pub fn is_for_us(&self, gossip: &Gossip) -> bool {
        gossip.cluster == self.cluster
    }

    /// Tells a node whose life does not count which one does.
    pub fn refuse(&self, refused: &Introduction, lives: &Lives, env: &mut impl Env) {
        let told = lives.counted(refused.node);
        let gossip = self.gossip(lives, told.into_iter().collect(), env);
        env.datagram(&refused.peer_address, &gossip);
    }

    /// Says who this node is to somebody that is not one of the cluster.
    pub fn answer(&self, to: &Address, lives: &Lives, env: &mut impl Env) {
        let gossip = self.gossip(lives, Vec::new(), env);
        env.datagram(to, &gossip);
    }

    /// What this node says of itself and of the lives that count, and nothing else.
    fn gossip(&self, lives: &Lives, told: Vec<Counted>, env: &mut impl Env) -> Gossip {
        Gossip {
            cluster: self.cluster.clone(),
            me: self.me.clone(),
            wall: env.wall(),
            endorsed: self.said,
            hears: self.heard(env.mono()),
            leaves: self.leaving,
            denied: lives.is_denied(),
            earlier: lives.earlier().to_vec(),
            began: lives.began(),
            durable: env.engine().durable(),
            lives: told,
            others: Vec::new(),
        }
    }

    /// Hears from a node whose life counts.
    /// `members` are those of all layouts; they are looked up for whom this node meets first.
    pub fn on_gossip(
        &mut self,
        gossip: Gossip,
        members: impl Fn() -> BTreeSet<NodeId>,
        env: &mut impl Env,
    ) {
        let Gossip { me: sender, wall, endorsed, hears, leaves, others, .. } = gossip;
        let (node, boot) = (sender.node, sender.life.boot);
        // Who may be of another cluster introduces nobody to a node that has not found its own.
        let is_foreign = self.seeds.given && self.said.founding == 0 && endorsed.founding != 0;
        let is_foreign = is_foreign && !self.peers.get(&node).is_some_and(|p| p.answers.is_at_seed);
        if !is_foreign && !differ(self.said.founding, endorsed.founding) {
            self.hear_of(others, &members, env);
        }
        self.meet(sender, &members, env);
        let at_seed = |address: &Address| self.seeds.addresses.contains(address);
        let at_seed = self.peers.get(&node).is_some_and(|peer| at_seed(peer.address()));
        let forgets_ms = 2 * self.dead_ms + self.heartbeat_ms;
        if let Some(peer) = self.peers.get_mut(&node) {
            let silent_ms = peer.heard.map(|heard| env.mono().ms_since(heard));
            sometimes!(env, PeerCameBack, silent_ms.is_some_and(|ms| ms > self.dead_ms));
            (peer.heard, peer.slept_ms) = (Some(env.mono()), 0);
            let deaf_since = peer.deaf_since.or(Some(env.mono()));
            peer.deaf_since = deaf_since.filter(|_| !hears.contains(&self.me.node));
            let told = peer.answers.told.map(|told| env.mono().ms_since(told));
            let hears_by_seed = peer.deaf_since.is_none() && told.is_none_or(|ms| ms > forgets_ms);
            peer.answers.is_at_seed |= at_seed || hears_by_seed;
            peer.hears = hears;
            peer.endorsed = endorsed;
            if leaves && peer.introduction.life.boot == boot {
                sometimes!(env, PeerLeft);
                peer.left = Some(boot);
            }
            peer.wall = wall;
        }
    }

    /// Hears from others of nodes.
    pub fn hear_of(
        &mut self,
        others: Vec<Introduction>,
        members: impl Fn() -> BTreeSet<NodeId>,
        env: &mut impl Env,
    ) {
        for introduction in others {
            // A node that is heard speaks for itself.
            if !self.is_heard(introduction.node, env.mono()) {
                self.meet(introduction, &members, env);
            }
        }
    }

    /// Forgets who is in no layout and has been silent for long.
    pub fn forget_strangers(&mut self, members: &BTreeSet<NodeId>, now: Mono) {
        self.peers.retain(|node, peer| {
            let silent_ms = now.ms_since(peer.heard.unwrap_or(peer.met));
            members.contains(node) || silent_ms <= STRANGER_MS
        });
    }

    /// Adds one more address to meet nodes at.
    pub fn add_seed(&mut self, seed: Address) {
        self.seeds.add(seed);
    }

    fn meet(
        &mut self,
        introduction: Introduction,
        members: impl Fn() -> BTreeSet<NodeId>,
        env: &mut impl Env,
    ) {
        let node = introduction.node;
        if node == self.me.node {
            return;
        }
        if buggify!(env, IntroductionIgnored) {
            return;
        }
        if !self.peers.contains_key(&node) && !self.make_room(node, &members(), env.mono()) {
            return;
        }
        match self.peers.get_mut(&node) {
            Some(peer) if peer.introduction.life.boot > introduction.life.boot => return,
            Some(peer) if peer.introduction == introduction => return,
            Some(peer) => {
                sometimes!(env, PeerRestarted);
                peer.left = None;
                peer.introduction = introduction.clone();
            }
            None => {
                let introduction = introduction.clone();
                let peer = Peer {
                    introduction,
                    heard: None,
                    slept_ms: 0,
                    spoke: None,
                    met: env.mono(),
                    hears: Vec::new(),
                    deaf_since: None,
                    unlinked_since: Some(env.mono()),
                    left: None,
                    endorsed: Endorsement::default(),
                    wall: Wall(0),
                    answers: Answers::default(),
                };
                self.peers.insert(node, peer);
            }
        }
        env.route(node, introduction.life, &introduction.name, &introduction.peer_address);
    }

    /// Makes room for one more node, where it needs that: of those in no layout, the one that has been silent for longest is forgotten.
    /// `false`: all of them are heard.
    fn make_room(&mut self, node: NodeId, members: &BTreeSet<NodeId>, now: Mono) -> bool {
        // Before there is a layout everybody may become a member.
        let max = if members.is_empty() { NODES_MAX } else { STRANGERS_MAX };
        let strangers = || self.peers.iter().filter(|(node, _)| !members.contains(node));
        if members.contains(&node) || strangers().count() < max {
            return true;
        }
        let silent = strangers().filter(|(_, peer)| !self.hears(peer, now));
        let since = |peer: &Peer| peer.heard.unwrap_or(peer.met);
        let longest = silent.min_by_key(|(_, peer)| since(peer)).map(|(&node, _)| node);
        longest.is_some_and(|longest| self.peers.remove(&longest).is_some())
    }

    fn others(&self) -> Vec<Introduction> {
        // A node of another cluster is introduced to nobody.
        let is_ours = |peer: &&Peer| !differ(peer.endorsed.founding, self.said.founding);
        let peers: Vec<&Peer> = self.peers.values().filter(is_ours).collect();
        turn(&peers, self.beats, OTHERS_MAX).map(|peer| peer.introduction.clone()).collect()
    }
}

/// Whether two foundings are known, and are not of one cluster.
const fn differ(one: u128, other: u128) -> bool {
    one != 0 && other != 0 && one != other
}

/// Up to `max` of them; with each beat others have their turn.
fn turn<T>(all: &[T], beat: u64, max: usize) -> impl Iterator<Item = &T> {
    let start = if all.len() > max { beat as usize * max % all.len() } else { 0 };
    all.iter().cycle().skip(start).take(all.len().min(max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::id::Life;
    use crate::node_config::node_config;

    use crate::world::World;

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    fn config(id: NodeId) -> NodeConfig {
        NodeConfig {
            id,
            name: id.short(),
            life: life(3),
            peer_address: Address(id.short()),
            bootstrap_expect: 2,
            ..node_config()
        }
    }

    fn life(boot: u64) -> Life {
        Life { boot: BootEpoch(boot), ..Life::default() }
    }

    fn no_lives() -> Lives {
        Lives::load(&config(ME), &mut MemoryEngine::new()).expect("an empty store")
    }

    /// What the peer says in its life `boot`.
    fn gossip(boot: u64, hears: &[NodeId], leaves: bool) -> Gossip {
        let peer = NodeConfig { life: life(boot), ..config(PEER) };
        Gossip { leaves, ..crate::gossip::gossip(&peer, hears) }
    }

    fn start() -> (Membership, World) {
        (Membership::new(&config(ME)), World::default())
    }

    /// The state of the peer after it has said this.
    fn after(members: &mut Membership, world: &mut World, gossip: Gossip) -> &'static str {
        assert!(members.is_for_us(&gossip));
        members.on_gossip(gossip, BTreeSet::new, world);
        members.look_at_links(world);
        members.state(PEER, world.now)
    }

    #[test]
    fn a_peer_is_alive_when_both_directions_work_and_the_links_are_open() {
        let (mut members, mut world) = start();
        assert_eq!(members.state(PEER, world.now), "dead");
        assert_eq!(after(&mut members, &mut world, gossip(3, &[PEER], false)), "deaf");
        assert!(members.is_heard(PEER, world.now), "it counts for forming a cluster");
        assert_eq!(after(&mut members, &mut world, gossip(3, &[ME, PEER], false)), "alive");
        world.unlinked = true;
        assert_eq!(after(&mut members, &mut world, gossip(3, &[ME, PEER], false)), "unlinked");
        world.unlinked = false;
        members.look_at_links(&world);
        assert!(members.is_alive(PEER, world.now));
        assert!(!members.is_alive(PEER, world.now.plus_ms(1_001)), "silent");
    }

    #[test]
    fn only_who_is_silent_and_was_convicted_is_dead() {
        use Standing::{Alive, Dead, Left, Restarting, Suspect};
        let (mut members, mut world) = start();
        after(&mut members, &mut world, gossip(3, &[ME, PEER], false));
        let later = world.now.plus_ms(1_001);
        let standings = [Alive, Suspect, Restarting, Dead, Left].map(Some);
        for standing in standings.into_iter().chain([None]) {
            members.note_standings(standing.map(|standing| (PEER, standing)).into_iter().collect());
            assert!(!members.is_dead(PEER, world.now), "it is heard: {standing:?}");
            let is_gone = matches!(standing, Some(Dead | Left | Restarting));
            assert_eq!(members.is_dead(PEER, later), is_gone, "{standing:?}");
        }
        assert!(!members.is_dead(ME, later), "this node itself never is");
        let last = world.now;
        assert!(!members.is_dead(PEER, last.plus_ms(SILENT_MS - 1)), "nobody has told of it");
        assert!(members.is_dead(PEER, last.plus_ms(SILENT_MS)), "but it is silent for long");
        assert!(!members.is_dead(NodeId(77), later), "and of this one not even a word was heard");
        members.beats = UNMET_MS / members.heartbeat_ms;
        assert!(members.is_dead(NodeId(77), later), "for a minute");
    }

    #[test]
    fn a_goodbye_counts_at_once_and_until_a_later_life() {
        let (mut members, mut world) = start();
        let hears = [ME, PEER];
        assert_eq!(after(&mut members, &mut world, gossip(3, &hears, false)), "alive");
        assert_eq!(after(&mut members, &mut world, gossip(3, &hears, true)), "left");
        let late = gossip(3, &hears, false);
        assert_eq!(after(&mut members, &mut world, late), "left", "an older datagram comes late");
        let older = gossip(2, &hears, true);
        assert_eq!(after(&mut members, &mut world, gossip(4, &hears, false)), "alive");
        assert_eq!(after(&mut members, &mut world, older), "alive", "an earlier life's goodbye");
    }

    /// To how many nodes the next heartbeat introduces others, and to how many it does not.
    fn beat(members: &mut Membership, world: &mut World) -> (usize, usize) {
        world.now = world.now.plus_ms(100);
        world.said.clear();
        members.look_at_links(world);
        members.tick(Endorsement::default(), &no_lives(), world);
        let told = world.said.iter().filter(|gossip| !gossip.others.is_empty()).count();
        (told, world.said.len() - told)
    }

    #[test]
    fn others_are_introduced_to_whoever_does_not_hear_them_or_may_have_begun_anew() {
        let (mut members, mut world) = start();
        let third = NodeId(3);
        let of_third = crate::gossip::gossip(&config(third), &[ME, PEER, third]);
        after(&mut members, &mut world, of_third);
        after(&mut members, &mut world, gossip(3, &[ME, PEER], false));
        assert_eq!(beat(&mut members, &mut world), (1, 1), "the peer lacks the third");
        after(&mut members, &mut world, gossip(3, &[ME, PEER, third], false));
        assert_eq!(beat(&mut members, &mut world), (0, 2), "everybody hears everybody");
        world.unlinked = true;
        assert_eq!(beat(&mut members, &mut world), (2, 0), "they may have begun anew");
        world.unlinked = false;
        after(&mut members, &mut world, gossip(3, &[ME, PEER, third], true));
        assert_eq!(beat(&mut members, &mut world), (1, 1), "it comes back and knows nobody");
        world.now = world.now.plus_ms(900);
        after(&mut members, &mut world, crate::gossip::gossip(&config(third), &[ME, third]));
        assert_eq!(beat(&mut members, &mut world), (2, 0), "one is silent, so the other lacks it");
        members.add_seed(Address("elsewhere".to_owned()));
        assert_eq!(beat(&mut members, &mut world).0, 3, "and whoever is there");
    }

    #[test]
    fn when_there_is_no_room_the_stranger_that_was_silent_for_longest_is_forgotten() {
        let (mut members, mut world) = start();
        let layout = || [ME, PEER].into_iter().collect();
        let hear = |members: &mut Membership, world: &mut World, node| {
            let gossip = crate::gossip::gossip(&config(node), &[node]);
            members.on_gossip(gossip, layout, world);
            members.peers().contains_key(&node)
        };
        assert!(hear(&mut members, &mut world, PEER));
        let strangers: Vec<NodeId> =
            (0..STRANGERS_MAX as u128).map(|at| NodeId(1_000 - at)).collect();
        for &node in &strangers {
            world.now = world.now.plus_ms(1);
            assert!(hear(&mut members, &mut world, node));
        }
        let (late, later) = (NodeId(5), NodeId(6));
        assert!(!hear(&mut members, &mut world, late), "those that are there all are heard");
        world.now = world.now.plus_ms(members.dead_ms);
        assert!(hear(&mut members, &mut world, strangers[0]), "it has not gone");
        assert!(hear(&mut members, &mut world, late) && hear(&mut members, &mut world, later));
        let gone: Vec<NodeId> =
            strangers.iter().copied().filter(|node| !members.peers().contains_key(node)).collect();
        assert_eq!(gone, strangers[1..3], "those that were silent for longest");
        assert!(members.peers().contains_key(&PEER), "a member stays, however long it is silent");
        let stay = members.peers().len();
        members.forget_strangers(&layout(), world.now.plus_ms(STRANGER_MS));
        assert_eq!(members.peers().len(), stay - (STRANGERS_MAX - 3), "only those heard now stay");
        members.forget_strangers(&layout(), world.now.plus_ms(STRANGER_MS + 1));
        assert_eq!(members.peers().keys().collect::<Vec<_>>(), [&PEER]);
    }

    #[test]
    fn a_node_that_leaves_says_so_at_once_and_with_every_heartbeat() {
        let (mut members, mut world) = start();
        assert!(!members.leave(Endorsement::default(), &no_lives(), &mut world), "nobody is there");
        after(&mut members, &mut world, gossip(3, &[ME, PEER], false));
        assert!(members.leave(Endorsement::default(), &no_lives(), &mut world));
        world.now = world.now.plus_ms(100);
        members.tick(Endorsement::default(), &no_lives(), &mut world);
        assert_eq!(world.said.len(), 2);
        assert!(world.said.iter().all(|gossip| gossip.leaves));
    }
}
