//! Datagrams on their way out: what they are for, and the rumours that fit beside it.
//!
//! A node that is not well in the eyes of this one hears of that first, whatever else there is to tell: only it can refute it
//! (Lifeguard's buddy system).

use crate::config::{SWIM_DATAGRAM_BYTES_MAX, SWIM_GOSSIP_NODES_MAX, SWIM_GOSSIP_TO_DEAD_MS};
use crate::env::Address;
use crate::id::NodeId;
use crate::swim::machine::Swim;
use crate::swim::outside::Outside;
use crate::wire::swim::{Datagram, Rumour, Standing, Word};

/// What the numbers of rumours and the like may still add to a frame, in bytes.
const SLACK_BYTES: usize = 8;

impl Swim {
    /// Sends a datagram to a node.
    pub(super) fn tell(
        &mut self,
        (to, address): (NodeId, &Address),
        word: Word,
        outside: &mut impl Outside,
    ) {
        let rumours = self.rumour_for(to).into_iter().collect();
        self.send(Some(to), address, self.frame(word, rumours), outside);
    }

    /// Sends a datagram to whoever is at an address.
    pub(super) fn tell_stranger(
        &mut self,
        address: &Address,
        word: Word,
        outside: &mut impl Outside,
    ) {
        self.send(None, address, self.frame(word, Vec::new()), outside);
    }

    /// Passes rumours on to a few, when there are any: a quiet cluster is silent.
    pub(super) fn gossip(&mut self, outside: &mut impl Outside) {
        if self.rumours.is_empty() {
            return;
        }
        let (members, now) = (&self.members, outside.now());
        let is_told = |node| {
            members.get(node).is_some_and(|member| match member.claim.standing {
                Standing::Alive | Standing::Suspect => true,
                // It may not be, and is to hear of it.
                Standing::Dead => now.ms_since(member.since) <= SWIM_GOSSIP_TO_DEAD_MS,
                Standing::Restarting | Standing::Left => false,
            })
        };
        for node in self.rounds.some(SWIM_GOSSIP_NODES_MAX, is_told, outside) {
            self.pass_rumours(node, outside);
        }
    }

    /// Passes rumours on to one node.
    pub(super) fn pass_rumours(&mut self, to: NodeId, outside: &mut impl Outside) {
        if let Some(member) = self.members.get(to) {
            let address = member.facts.address.clone();
            self.tell((to, &address), Word::Rumours, outside);
        }
    }

    fn frame(&self, word: Word, rumours: Vec<Rumour>) -> Datagram {
        Datagram { cluster: self.cluster.clone(), me: self.me.clone(), word, rumours }
    }

    fn send(
        &mut self,
        to: Option<NodeId>,
        address: &Address,
        mut datagram: Datagram,
        outside: &mut impl Outside,
    ) {
        let taken = datagram.encoded_len() + SLACK_BYTES;
        let room = SWIM_DATAGRAM_BYTES_MAX.saturating_sub(taken);
        datagram.rumours.extend(self.rumours.take(to, room, self.members.nodes()));
        outside.datagram(address, &datagram);
    }

    /// What a node must hear of itself, so that it can refute it.
    fn rumour_for(&self, node: NodeId) -> Option<Rumour> {
        let member = self.members.get(node)?;
        let (incarnation, by) = (member.claim.incarnation, self.me.node);
        match member.claim.standing {
            Standing::Alive => None,
            Standing::Suspect => Some(Rumour::Suspect { node, incarnation, by }),
            Standing::Restarting => Some(Rumour::Restarting { node, incarnation }),
            Standing::Dead => Some(Rumour::Dead { node, incarnation }),
            Standing::Left => Some(Rumour::Left { node, incarnation }),
        }
    }
}
