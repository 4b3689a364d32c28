//! What a failure detector makes of what it hears: of others, of itself, and from whom.
//!
//! Only a node itself can say that it lives. So of others the greatest claim counts, whoever brings it; and what is said of
//! this node itself it refutes with an incarnation above, unless it is leaving.

use crate::config::SWIM_INCARNATION_MAX;
use crate::swim::machine::Swim;
use crate::swim::members::Admitted;
use crate::swim::outside::Outside;
use crate::swim::relays::Asker;
use crate::wire::swim::{Datagram, Facts, Rumour, Speaker, Standing, Word};

impl Swim {
    /// A datagram arrives. One of another cluster, or of a node that was removed, is not looked at.
    pub fn on_datagram(&mut self, datagram: Datagram, outside: &mut impl Outside) {
        let Datagram { cluster, me: speaker, word, rumours } = datagram;
        let is_heard = cluster == self.cluster
            && speaker.node != self.me.node
            && !self.members.is_removed(speaker.node);
        if !is_heard || matches!(speaker.claim.standing, Standing::Suspect | Standing::Dead) {
            return;
        }
        self.hear(&speaker, outside);
        for rumour in rumours {
            self.on_rumour(rumour, outside);
        }
        self.on_word(&speaker, word, outside);
    }

    /// Who speaks makes itself known. Whoever was taken for dead, or is the first to be met, is asked for all it knows.
    fn hear(&mut self, speaker: &Speaker, outside: &mut impl Outside) {
        let Speaker { node, claim, facts } = speaker;
        let (node, incarnation) = (*node, claim.incarnation);
        let is_first = self.members.nodes() == 1;
        let rumour = match claim.standing {
            Standing::Restarting => Rumour::Restarting { node, incarnation },
            Standing::Left => Rumour::Left { node, incarnation },
            Standing::Alive | Standing::Suspect | Standing::Dead => {
                Rumour::Alive { node, incarnation, facts: facts.clone() }
            }
        };
        if let Admitted::Changed(before) = self.hear_of(rumour, outside) {
            let is_back = before.is_some_and(|before| !before.is_probed());
            if claim.standing == Standing::Alive && (is_first || is_back) {
                self.owe(node);
            }
        }
    }

    /// Somebody passes something on.
    pub(super) fn on_rumour(&mut self, rumour: Rumour, outside: &mut impl Outside) {
        if rumour.node() == self.me.node {
            self.on_rumour_of_me(&rumour);
        } else {
            self.hear_of(rumour, outside);
        }
    }

    /// What is said of this node itself. Who says that it is suspect, dead or gone, or that it is somebody else, hears a higher
    /// incarnation. A life after this one is not refuted: this node is an older copy then, and whether it counts others decide.
    fn on_rumour_of_me(&mut self, rumour: &Rumour) {
        let (mine, theirs) = (self.me.claim.incarnation, rumour.claim().incarnation);
        if theirs.boot > mine.boot {
            self.outlived_by = self.outlived_by.max(Some(theirs.boot));
            return;
        }
        let is_other = |facts: &Facts| theirs > mine || *facts != self.me.facts;
        let is_wrong = match rumour {
            Rumour::Alive { facts, .. } => is_other(facts),
            Rumour::Suspect { .. }
            | Rumour::Restarting { .. }
            | Rumour::Dead { .. }
            | Rumour::Left { .. } => true,
        };
        if theirs < mine || !is_wrong || self.is_leaving() {
            return;
        }
        self.me.claim.incarnation.count = (theirs.count + 1).min(SWIM_INCARNATION_MAX);
        if !matches!(rumour, Rumour::Alive { .. }) {
            // Who is suspected may be slow.
            self.health.worse(1);
        }
        self.rumours.push(self.rumour_of_me());
    }

    fn on_word(&mut self, speaker: &Speaker, word: Word, outside: &mut impl Outside) {
        let from = (speaker.node, &speaker.facts.address);
        match word {
            // Who was meant for another node is no proof that it lives.
            Word::Ping { target: Some(target), .. } if target != self.me.node => {}
            Word::Ping { probe, .. } => self.tell(from, Word::Ack { probe }, outside),
            Word::Help { probe, target, address } => {
                let (node, asker) = (speaker.node, speaker.facts.address.clone());
                let asker = Asker { node, address: asker, probe };
                self.help(asker, (target, &address), outside);
            }
            Word::Ack { probe } => self.on_ack(speaker.node, probe, outside),
            Word::Nack { probe } => self.on_nack(speaker.node, probe),
            Word::Rumours => {}
        }
    }
}
