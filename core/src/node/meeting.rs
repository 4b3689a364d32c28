//! What becomes of a datagram: whoever sends it is heard when its life counts, and is told when it does not; and what peers
//! say of this node's own life decides whether it serves.

use super::cluster::Cluster;
use crate::env::Address;
use crate::error::Result;
use crate::member::lives::Judgement;
use crate::member::notes::Note;
use crate::sometimes;
use crate::step::Env;
use crate::wire::member::{Counted, Gossip, Introduction};

impl Cluster {
    /// A node makes itself known: it is heard when its life counts, and told when it does not. `true`: it has told that this
    /// node's own life does not count any more.
    pub(super) fn on_gossip(&mut self, gossip: Gossip, env: &mut impl Env) -> Result<bool> {
        let now = env.mono();
        let Introduction { node, life, .. } = gossip.me;
        if !self.members.is_for_us(&gossip) {
            self.on_foreign(gossip.me.peer_address.clone(), gossip, env);
            return Ok(false);
        }
        if node == self.me {
            if life != self.life {
                // Neither believes the other; but each meets those who know which of them counts.
                let address = gossip.me.peer_address;
                self.members.add_seed(address.clone());
                self.members.hear_of(gossip.others, || self.rows.members(), env);
                self.notes.take(Note::Twin { address, boot: life.boot }, now);
            }
            return Ok(false);
        }
        let judgement = self.lives.meet(&gossip, env.engine())?;
        if !matches!(judgement, Judgement::Same | Judgement::Later) {
            sometimes!(env, LifeRefused);
            let known = self.lives.known(node).unwrap_or_default();
            self.unheard.lives_refused += 1;
            if self.lives.is_insisted(node) {
                let name = gossip.me.name.clone();
                self.notes.take(Note::Refused { name, life, known, judgement }, now);
            }
            self.members.refuse(&gossip.me, &self.lives, env);
            return Ok(false);
        }
        let of_me = gossip.lives.iter().find(|counted| counted.node == self.me);
        let is_denied = match of_me {
            Some(Counted { life, durable, .. }) => {
                self.lives.hear_of_me((node, &gossip.me.name), (*life, *durable), env.engine())?
            }
            None => false,
        };
        sometimes!(env, LifeDenied, is_denied);
        self.members.on_gossip(gossip, || self.rows.members(), env);
        self.look_at_myself(env)?;
        Ok(is_denied)
    }

    /// A node that is not of this cluster sends datagrams: both sides are to know why they do not meet, also the one that
    /// nobody else talks to. Never more than one answer in a while, so that nobody is flooded by this node's hand.
    pub(super) fn on_foreign(&mut self, from: Address, gossip: Gossip, env: &mut impl Env) {
        self.unheard.malformed += 1;
        let now = env.mono();
        if self.notes.take_foreign(&from, &gossip, now) {
            self.members.answer(&from, &self.lives, env);
        }
    }

    /// Whether this node may serve, by what it has been told.
    pub(super) fn look_at_myself(&mut self, env: &mut impl Env) -> Result<()> {
        let layout = self.rows.newest();
        self.lives.settle(layout, env.engine())?;
        self.barred = self.lives.bars(layout);
        Ok(())
    }
}
