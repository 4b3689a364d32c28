//! The failure detector at a node: what it hears is of lives that count, and what it says leaves as datagrams and over links.
//!
//! Heartbeats say whom this node can ask now; they steer requests. The failure detector says what has become of those who are
//! silent. People are shown both in one word (`state`). It draws from dice of its own, seeded by the node's life, so that
//! probing changes nothing that the node draws otherwise.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::cluster::Cluster;
use crate::change::rows::Rows;
use crate::config::{NodeConfig, SWIM_PROBE_MS};
use crate::env::{Address, Mono};
use crate::id::{LayoutVersion, Life, NodeId};
use crate::member::membership::Membership;
use crate::probe::Sight;
use crate::sometimes;
use crate::step::Env;
use crate::swim::machine::{Begin, Swim};
use crate::swim::outside::Outside;
use crate::wire::message::{Envelope, Message};
use crate::wire::swim::{Claim, Datagram, Exchange, Facts, Incarnation, Standing};

/// The failure detector of a node.
#[derive(Debug)]
pub(super) struct Detection {
    swim: Swim,
    life: Life,
    /// How often its dice were rolled.
    rolled: u64,
    /// When to look at whom it has not met, and at the layout.
    looks_at: Mono,
    /// The layout whose removed nodes it knows.
    removed_by: LayoutVersion,
}

/// What it sees of the world.
struct Around<'a, E: Env> {
    env: &'a mut E,
    life: Life,
    rolled: &'a mut u64,
}

impl<E: Env> Outside for Around<'_, E> {
    fn now(&self) -> Mono {
        self.env.mono()
    }

    fn random(&mut self) -> u64 {
        *self.rolled += 1;
        xxh3_64_with_seed(&self.rolled.to_le_bytes(), self.life.session.0)
    }

    fn datagram(&mut self, to: &Address, datagram: &Datagram) {
        self.env.swim(to, datagram);
    }

    fn exchange(&mut self, to: NodeId, exchange: Exchange) -> bool {
        let durable = self.env.engine().durable();
        let message = Message::Swim(exchange);
        self.env.send(to, Envelope { life: self.life, durable, message })
    }

    fn changed(&mut self, node: NodeId, claim: Claim) {
        if self.env.probed() {
            let Incarnation { boot, count } = claim.incarnation;
            let standing = claim.standing.word();
            self.env.sees(Sight { node, boot, count, standing });
        }
        sometimes!(self.env, PeerSuspected, claim.standing == Standing::Suspect);
        sometimes!(self.env, PeerConvicted, claim.standing == Standing::Dead);
    }
}

impl Detection {
    /// Knows nobody; it begins at the first tick.
    pub(super) fn new(config: &NodeConfig, now: Mono) -> Detection {
        let NodeConfig { id, life, name, cluster, peer_address, .. } = config;
        let begin = Begin {
            cluster: cluster.clone(),
            node: *id,
            boot: life.boot,
            facts: Facts {
                session: life.session,
                name: name.clone(),
                address: peer_address.clone(),
            },
            // Heartbeats go to seeds, and whoever answers is met here too.
            seeds: Vec::new(),
            luck: xxh3_64_with_seed(&id.0.to_le_bytes(), xxh3_64(&life.session.0.to_le_bytes())),
        };
        let removed_by = LayoutVersion(0);
        Detection { swim: Swim::new(begin, now), life: *life, rolled: 0, looks_at: now, removed_by }
    }

    /// What must hold between steps. Panics when it does not.
    pub(super) fn invariants(&self) {
        self.swim.invariants();
    }

    /// When `tick` has something to do.
    pub(super) fn next_deadline(&self, cluster: &Cluster) -> Mono {
        if cluster.lives.is_denied() { Mono(u64::MAX) } else { self.swim.next_deadline() }
    }

    /// Does what is due. A life that does not count says nothing.
    pub(super) fn tick(&mut self, cluster: &mut Cluster, env: &mut impl Env) {
        let now = env.mono();
        if now < self.next_deadline(cluster) {
            return;
        }
        self.act(env, |swim, around| swim.tick(around));
        if now >= self.looks_at {
            self.looks_at = now.plus_ms(SWIM_PROBE_MS);
            self.meet(&cluster.members, env);
            self.give_up(&cluster.rows);
            let standings = self.swim.members().iter();
            let standings = standings.map(|(node, member)| (node, member.claim.standing));
            cluster.members.note_standings(standings.collect());
        }
    }

    /// Gives up the ids that the newest live layout names as removed.
    fn give_up(&mut self, rows: &Rows) {
        let Some(layout) = rows.newest().filter(|layout| layout.version() != self.removed_by)
        else {
            return;
        };
        self.removed_by = layout.version();
        self.swim.set_removed(layout.parts().removed.iter().copied().collect());
    }

    /// Speaks to those who are heard and were never met here.
    fn meet(&mut self, members: &Membership, env: &mut impl Env) {
        let now = env.mono();
        for (&node, peer) in members.peers() {
            if self.swim.standing(node).is_none() && members.is_heard(node, now) {
                let address = &peer.introduction.peer_address;
                self.act(env, |swim, around| swim.meet(address, around));
            }
        }
    }

    /// A datagram arrives. It is looked at when its sender's life counts.
    pub(super) fn on_datagram(
        &mut self,
        datagram: Datagram,
        cluster: &Cluster,
        env: &mut impl Env,
    ) {
        let (node, boot) = (datagram.me.node, datagram.me.claim.incarnation.boot);
        let life = Life { boot, session: datagram.me.facts.session };
        let durable = env.engine().durable();
        if cluster.lives.is_denied() || !cluster.lives.counts(node, life, durable) {
            return;
        }
        self.act(env, |swim, around| swim.on_datagram(datagram, around));
    }

    /// A part of an exchange arrives, of a life that counts.
    pub(super) fn on_exchange(&mut self, from: NodeId, exchange: Exchange, env: &mut impl Env) {
        self.act(env, |swim, around| swim.on_exchange(from, exchange, around));
    }

    /// Says goodbye: the node stops, and comes back if it has a place in the cluster.
    pub(super) fn leave(&mut self, comes_back: bool, env: &mut impl Env) {
        let how = if comes_back { Standing::Restarting } else { Standing::Left };
        self.act(env, |swim, around| swim.leave(how, around));
    }

    /// How things stand with a node, in a word: `alive`, `deaf` and `unlinked` as for `Membership::state`, and of who is not
    /// heard now `suspect`, `restarting`, `dead` or `left`.
    pub(super) fn state(&self, node: NodeId, members: &Membership, now: Mono) -> &'static str {
        word(members.state(node, now), self.swim.standing(node))
    }

    fn act<E: Env>(&mut self, env: &mut E, act: impl FnOnce(&mut Swim, &mut Around<'_, E>)) {
        let before = self.swim.me().claim.incarnation;
        let mut around = Around { env, life: self.life, rolled: &mut self.rolled };
        act(&mut self.swim, &mut around);
        sometimes!(env, SuspicionRefuted, self.swim.me().claim.incarnation > before);
    }
}

/// What is heard of a node now, and what the failure detector says of it, in a word.
fn word(heard: &'static str, standing: Option<Standing>) -> &'static str {
    match (heard, standing) {
        // It is silent, and nobody has convicted it yet; or it was never met by the failure detector.
        ("dead", Some(Standing::Alive | Standing::Suspect)) => "suspect",
        ("dead", None) | ("dead" | "left", Some(Standing::Dead)) => "dead",
        ("left", Some(Standing::Alive | Standing::Suspect)) => "restarting",
        ("dead" | "left", Some(Standing::Restarting)) => "restarting",
        ("dead" | "left", Some(Standing::Left)) => "left",
        // What is heard now says more than what was heard before.
        (heard, _) => heard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_heard_is_shown_as_it_is_heard_and_who_is_silent_as_the_failure_detector_says() {
        use Standing::{Alive, Dead, Left, Restarting, Suspect};
        for heard in ["alive", "deaf", "unlinked"] {
            for standing in [None, Some(Alive), Some(Suspect), Some(Dead), Some(Left)] {
                assert_eq!(word(heard, standing), heard);
            }
        }
        for (heard, standing, shown) in [
            ("dead", None, "dead"),
            ("dead", Some(Alive), "suspect"),
            ("dead", Some(Suspect), "suspect"),
            ("dead", Some(Restarting), "restarting"),
            ("dead", Some(Dead), "dead"),
            ("dead", Some(Left), "left"),
            ("left", None, "left"),
            ("left", Some(Alive), "restarting"),
            ("left", Some(Restarting), "restarting"),
            ("left", Some(Dead), "dead"),
            ("left", Some(Left), "left"),
        ] {
            assert_eq!(word(heard, standing), shown, "{heard} {standing:?}");
        }
    }
}
