//! Two nodes compare all they know, over a link: seldom, and at once when they have just met. Rumours may miss somebody, and halves
//! of a cluster that were apart have long stopped telling theirs.
//!
//! A digest goes first, so that nodes which know the same exchange a few bytes, however many they are. *Dead* is taken as
//! *suspect*: whoever lives can still refute it, here and where it came from. Who is dead and was never heard of is remembered so.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::SWIM_EXCHANGE_MS;
use crate::id::NodeId;
use crate::swim::machine::Swim;
use crate::swim::members::Admitted;
use crate::swim::outside::Outside;
use crate::wire::swim::{Claim, Exchange, Known, Rumour, Speaker, Standing};

impl Swim {
    /// Begins an exchange with somebody that is to be asked for all it knows, or at times with anybody; and forgets who has been
    /// gone for long.
    pub(super) fn tick_exchanges(&mut self, outside: &mut impl Outside) {
        let now = outside.now();
        if let Some(node) = self.meeting.owed.pop_front()
            && !self.begin_exchange(node, outside)
            && self.members.standing(node).is_some_and(Standing::is_probed)
        {
            // The link may come.
            self.owe(node);
        }
        if now < self.timers.exchange {
            return;
        }
        self.timers.exchange = now.plus_ms(SWIM_EXCHANGE_MS);
        for node in self.members.forget_tombstones(now) {
            self.unlist(node);
        }
        let members = &self.members;
        let is_alive = |node| members.standing(node) == Some(Standing::Alive);
        if let Some(&node) = self.rounds.some(1, is_alive, outside).first() {
            self.begin_exchange(node, outside);
        }
    }

    fn begin_exchange(&self, with: NodeId, outside: &mut impl Outside) -> bool {
        outside.exchange(with, Exchange::Digest { digest: self.digest() })
    }

    /// A part of an exchange arrives.
    pub fn on_exchange(&mut self, from: NodeId, exchange: Exchange, outside: &mut impl Outside) {
        if from == self.me.node || self.members.is_removed(from) {
            return;
        }
        match exchange {
            Exchange::Digest { digest } if digest == self.digest() => {}
            Exchange::Digest { .. } => self.tell_all(from, true, outside),
            Exchange::All { known, answer } => {
                for known in known {
                    self.learn(from, known, outside);
                }
                if answer {
                    self.tell_all(from, false, outside);
                }
            }
        }
    }

    fn tell_all(&self, to: NodeId, answer: bool, outside: &mut impl Outside) {
        let now = outside.now();
        let Speaker { node, claim, facts } = self.me.clone();
        let mut known = vec![Known { node, claim, facts, age_ms: 0 }];
        known.extend(self.members.iter().map(|(node, member)| Known {
            node,
            claim: member.claim,
            facts: member.facts.clone(),
            age_ms: now.ms_since(member.since),
        }));
        // When it cannot leave, another exchange will come.
        _ = outside.exchange(to, Exchange::All { known, answer });
    }

    /// What another node knows of one.
    fn learn(&mut self, by: NodeId, known: Known, outside: &mut impl Outside) {
        let Known { node, claim: Claim { incarnation, standing }, .. } = known;
        if matches!(standing, Standing::Alive | Standing::Suspect) {
            let facts = known.facts.clone();
            self.on_rumour(Rumour::Alive { node, incarnation, facts }, outside);
        } else if node != self.me.node
            && let Admitted::Changed(before) = self.members.adopt(&known, outside.now())
        {
            self.list(node, before, outside);
        }
        let rumour = match standing {
            Standing::Alive => return,
            Standing::Suspect | Standing::Dead => Rumour::Suspect { node, incarnation, by },
            Standing::Restarting => Rumour::Restarting { node, incarnation },
            Standing::Left => Rumour::Left { node, incarnation },
        };
        self.on_rumour(rumour, outside);
    }

    /// Equal for those who know the same of the same nodes.
    fn digest(&self) -> u64 {
        let of = |node: NodeId, claim: Claim| {
            let Claim { incarnation, standing } = claim;
            let mut bytes = [0; 33];
            bytes[..16].copy_from_slice(&node.0.to_be_bytes());
            bytes[16..24].copy_from_slice(&incarnation.boot.0.to_be_bytes());
            bytes[24..32].copy_from_slice(&incarnation.count.to_be_bytes());
            bytes[32] = standing as u8;
            xxh3_64(&bytes)
        };
        let all = self.members.iter().map(|(node, member)| of(node, member.claim));
        all.fold(of(self.me.node, self.me.claim), u64::wrapping_add)
    }
}
