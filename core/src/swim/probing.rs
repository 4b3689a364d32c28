//! Probing others: one at a time, first directly, then through helpers; and helping others with theirs.

use crate::config::{SWIM_DEAD_PROBE_MS, SWIM_HELPERS_MAX, SWIM_PROBE_MS, SWIM_TIMEOUT_MS};
use crate::env::Address;
use crate::id::NodeId;
use crate::swim::machine::{Probe, Swim};
use crate::swim::outside::Outside;
use crate::swim::relays::Asker;
use crate::swim::rounds::Few;
use crate::wire::swim::{Rumour, Standing, Word};

impl Swim {
    /// Goes on with the probe that runs, and begins the next one when it is time.
    pub(super) fn tick_probe(&mut self, outside: &mut impl Outside) {
        let now = outside.now();
        if self.probe.as_mut().is_some_and(|probe| probe.help_at.take_if(|at| now >= *at).is_some())
        {
            self.ask_for_help(outside);
        }
        if now < self.timers.probe {
            return;
        }
        self.end_probe(outside);
        self.timers.probe = now.plus_ms(self.health.stretched(SWIM_PROBE_MS));
        if self.is_leaving() {
            return;
        }
        self.begin_probe(outside);
        self.probe_seed(outside);
        if now >= self.timers.dead_probe {
            self.timers.dead_probe = now.plus_ms(SWIM_DEAD_PROBE_MS);
            self.probe_dead(outside);
        }
    }

    fn begin_probe(&mut self, outside: &mut impl Outside) {
        let members = &self.members;
        let is_probed = |node| members.standing(node).is_some_and(Standing::is_probed);
        let Some(target) = self.rounds.next(is_probed, outside) else { return };
        let Some(member) = self.members.get(target) else { return };
        let (address, incarnation) = (member.facts.address.clone(), member.claim.incarnation);
        let number = self.number();
        let help_at = Some(outside.now().plus_ms(self.health.stretched(SWIM_TIMEOUT_MS)));
        self.probe = Some(Probe {
            number,
            target,
            incarnation,
            help_at,
            silent: Few::new(),
            helpers: Few::new(),
            is_answered: false,
        });
        let ping = Word::Ping { probe: number, target: Some(target) };
        self.tell((target, &address), ping, outside);
    }

    /// The target has not answered directly: others may reach it where this node does not.
    fn ask_for_help(&mut self, outside: &mut impl Outside) {
        let Some(Probe { number, target, .. }) = self.probe else { return };
        let members = &self.members;
        let may_help = |node| node != target && members.standing(node) == Some(Standing::Alive);
        let helpers = self.rounds.some(SWIM_HELPERS_MAX, may_help, outside);
        let Some(address) = self.address(target) else { return };
        for &helper in &helpers {
            let Some(at) = self.address(helper) else { continue };
            let word = Word::Help { probe: number, target, address: address.clone() };
            self.tell((helper, &at), word, outside);
        }
        if let Some(probe) = &mut self.probe {
            (probe.silent, probe.helpers) = (helpers.clone(), helpers);
        }
    }

    /// The time of the probe is up.
    fn end_probe(&mut self, outside: &mut impl Outside) {
        let Some(probe) = self.probe.take() else { return };
        if probe.is_answered {
            return;
        }
        // Helpers that live say so, whether they reach the target or not. Without any there is only this node's own word.
        let missed = if probe.helpers.is_empty() { 1 } else { probe.silent.len() };
        self.health.worse(missed);
        let (node, incarnation, by) = (probe.target, probe.incarnation, self.me.node);
        self.hear_of(Rumour::Suspect { node, incarnation, by }, outside);
    }

    /// An answer to a probe, of the target itself or passed on by a helper; or to one that this node helps with.
    pub(super) fn on_ack(&mut self, from: NodeId, number: u64, outside: &mut impl Outside) {
        if let Some(asker) = self.relays.answered(number, from) {
            let word = Word::Ack { probe: asker.probe };
            self.tell((asker.node, &asker.address), word, outside);
            return;
        }
        let Some(probe) = &mut self.probe else { return };
        let is_of_it =
            probe.number == number && (from == probe.target || probe.helpers.contains(&from));
        if is_of_it && !probe.is_answered {
            (probe.is_answered, probe.help_at) = (true, None);
            self.health.better();
        }
    }

    /// A helper lives, and has no answer.
    pub(super) fn on_nack(&mut self, from: NodeId, number: u64) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number) {
            probe.silent.retain(|helper| *helper != from);
        }
    }

    /// Somebody asks for help with a probe.
    pub(super) fn help(
        &mut self,
        asker: Asker,
        (target, address): (NodeId, &Address),
        outside: &mut impl Outside,
    ) {
        let number = self.number();
        if target != self.me.node && self.relays.begin(number, target, asker, outside.now()) {
            let ping = Word::Ping { probe: number, target: Some(target) };
            self.tell((target, address), ping, outside);
        }
    }

    /// Tells those who wait that there is no answer yet.
    pub(super) fn tick_relays(&mut self, outside: &mut impl Outside) {
        for asker in self.relays.nacks(outside.now()) {
            let word = Word::Nack { probe: asker.probe };
            self.tell((asker.node, &asker.address), word, outside);
        }
    }

    /// Speaks to one address in turn at which nobody is known to live.
    fn probe_seed(&mut self, outside: &mut impl Outside) {
        let Some(count) = std::num::NonZeroUsize::new(self.meeting.seeds.len()) else { return };
        let is_known = |seed: &Address| {
            let mut present = self.members.iter().filter(|(_, of)| of.claim.standing.is_probed());
            *seed == self.me.facts.address || present.any(|(_, of)| of.facts.address == *seed)
        };
        let turns = (0..count.get()).map(|step| (self.meeting.turn + step) % count);
        let unknown = turns.map(|turn| (turn, &self.meeting.seeds[turn]));
        let found =
            unknown.filter(|(_, seed)| !is_known(seed)).map(|(turn, seed)| (turn, seed.clone()));
        if let Some((turn, seed)) = { found }.next() {
            self.meeting.turn = turn + 1;
            self.meet(&seed, outside);
        }
    }

    /// Speaks to one that is dead or restarting: halves of a cluster that were apart for long would never meet otherwise
    /// (<https://issues.apache.org/jira/browse/GOSSIP-14>). No answer means nothing new.
    fn probe_dead(&mut self, outside: &mut impl Outside) {
        let is_away = |standing| matches!(standing, Standing::Dead | Standing::Restarting);
        let away = self.members.iter().filter(|(_, member)| is_away(member.claim.standing));
        let away: Vec<NodeId> = away.map(|(node, _)| node).collect();
        let Some(&target) = away.get(outside.below(away.len())) else { return };
        let Some(address) = self.address(target) else { return };
        let ping = Word::Ping { probe: self.number(), target: Some(target) };
        self.tell((target, &address), ping, outside);
    }

    fn address(&self, node: NodeId) -> Option<Address> {
        self.members.get(node).map(|member| member.facts.address.clone())
    }

    pub(super) fn number(&mut self) -> u64 {
        self.probes = self.probes.wrapping_add(1);
        self.probes
    }
}
