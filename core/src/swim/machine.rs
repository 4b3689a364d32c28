//! One node's failure detector: what it holds, when it acts, and what others may ask it.
//!
//! It acts at fixed ticks (`SWIM_GOSSIP_MS`) and at the ends of its waits. Whoever owns it hands in what arrives, calls `tick` at
//! `next_deadline`, and carries what it hands out (`Outside`).
//!
//! A node that was paused has not heard what others said meanwhile. When a tick comes much too late, the probe that runs is given
//! up and nobody is convicted for the time of one more.

use std::collections::{BTreeSet, VecDeque};

use crate::config::{
    SWIM_DEAD_PROBE_MS, SWIM_EXCHANGE_MS, SWIM_GOSSIP_MS, SWIM_PAUSE_MS_MAX, SWIM_PROBE_MS,
};
use crate::env::{Address, Mono};
use crate::id::{BootEpoch, NodeId};
use crate::swim::health::Health;
use crate::swim::members::{Admitted, Members};
use crate::swim::outside::Outside;
use crate::swim::relays::Relays;
use crate::swim::rounds::{Few, Rounds};
use crate::swim::rumours::Rumours;
use crate::wire::swim::{Claim, Facts, Incarnation, Rumour, Speaker, Standing, Word};

/// So many addresses of nodes to meet are kept.
pub const SEEDS_MAX: usize = 256;
/// So many nodes wait for an exchange.
const OWED_MAX: usize = 16;
/// A node that says goodbye tells so many at once; rumours tell the others.
const GOODBYES: usize = 16;

/// What a failure detector begins with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Only nodes of the same cluster listen.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Which life of it this is.
    pub boot: BootEpoch,
    /// What it says of itself.
    pub facts: Facts,
    /// Where to meet others.
    pub seeds: Vec<Address>,
    /// A random number: nodes that start together are not to act together.
    pub luck: u64,
}

/// When what is due.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) tick: Mono,
    pub(super) probe: Mono,
    pub(super) dead_probe: Mono,
    pub(super) exchange: Mono,
    /// Nobody is convicted before that, because this node was paused.
    pub(super) convicts_from: Mono,
}

/// The probe that runs.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) number: u64,
    pub(super) target: NodeId,
    /// What was known of it when the probe began.
    pub(super) incarnation: Incarnation,
    /// When to ask others to help; `None`: they have been asked, or there is an answer.
    pub(super) help_at: Option<Mono>,
    /// Who was asked to help and has not said anything.
    pub(super) silent: Few,
    pub(super) helpers: Few,
    pub(super) is_answered: bool,
}

/// Addresses to meet nodes at, in turn, and who is to be asked for all it knows.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    pub(super) seeds: Vec<Address>,
    pub(super) turn: usize,
    pub(super) owed: VecDeque<NodeId>,
}

/// The failure detector of one node.
#[derive(Debug)]
pub struct Swim {
    pub(super) cluster: String,
    pub(super) me: Speaker,
    pub(super) members: Members,
    pub(super) rumours: Rumours,
    pub(super) rounds: Rounds,
    pub(super) relays: Relays,
    pub(super) health: Health,
    pub(super) meeting: Meeting,
    pub(super) timers: Timers,
    pub(super) probe: Option<Probe>,
    /// The number of the last probe of this node, or that it has helped with.
    pub(super) probes: u64,
    /// A later life of this node than this one, of which others have heard.
    pub(super) outlived_by: Option<BootEpoch>,
}

impl Swim {
    /// Knows nobody but itself. It begins at once.
    #[must_use]
    pub fn new(begin: Begin, now: Mono) -> Swim {
        let Begin { cluster, node, boot, facts, mut seeds, luck } = begin;
        let claim =
            Claim { incarnation: Incarnation { boot, count: 0 }, standing: Standing::Alive };
        seeds.truncate(SEEDS_MAX);
        let within = |luck: u64, ms: u64| now.plus_ms(luck % ms);
        let timers = Timers {
            tick: now,
            probe: within(luck >> 40, SWIM_PROBE_MS / 4),
            dead_probe: within(luck >> 20, SWIM_DEAD_PROBE_MS),
            exchange: within(luck, SWIM_EXCHANGE_MS),
            convicts_from: now,
        };
        Swim {
            cluster,
            me: Speaker { node, claim, facts },
            members: Members::default(),
            rumours: Rumours::default(),
            rounds: Rounds::default(),
            relays: Relays::default(),
            health: Health::default(),
            meeting: Meeting { seeds, ..Meeting::default() },
            timers,
            probe: None,
            probes: luck,
            outlived_by: None,
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        self.members.invariants(self.me.node);
        self.rumours.invariants();
        let mut order: Vec<NodeId> = self.rounds.iter().collect();
        order.sort_unstable();
        let members = self.members.iter();
        let present = members.filter(|(_, member)| member.claim.standing != Standing::Left);
        assert!(order.into_iter().eq(present.map(|(node, _)| node)), "each has its place, once");
        for (node, member) in self.members.iter() {
            if let Some(rumour) = self.rumours.about(node) {
                assert_eq!(rumour.claim(), member.claim, "what is passed on is what is known");
            }
        }
        if let Some(rumour) = self.rumours.about(self.me.node) {
            assert_eq!(rumour.claim(), self.me.claim, "and so of this node itself");
        }
        assert!(self.meeting.owed.len() <= OWED_MAX && self.meeting.seeds.len() <= SEEDS_MAX);
    }

    /// This node, as it tells others.
    #[must_use]
    pub const fn me(&self) -> &Speaker {
        &self.me
    }

    /// The other nodes.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// How well this node is itself.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// How a node is; `None`: it was never heard of, or is forgotten.
    #[must_use]
    pub fn standing(&self, node: NodeId) -> Option<Standing> {
        if node == self.me.node {
            return Some(self.me.claim.standing);
        }
        self.members.standing(node)
    }

    /// A later life of this node that others have heard of: this one is of an older copy of its directory.
    #[must_use]
    pub const fn outlived_by(&self) -> Option<BootEpoch> {
        self.outlived_by
    }

    /// Others that take part under the name of another one that does, sorted: a name belongs to one.
    #[must_use]
    pub fn namesakes(&self) -> Vec<NodeId> {
        let present = self.members.iter().filter(|(_, member)| member.claim.standing.is_present());
        let named = present.map(|(node, member)| (member.facts.name.as_str(), node));
        let mut named: Vec<(&str, NodeId)> =
            named.chain([(self.me.facts.name.as_str(), self.me.node)]).collect();
        named.sort_unstable();
        let twice = named.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
        let mut twice: Vec<NodeId> = twice.flatten().map(|&(_, node)| node).collect();
        twice.sort_unstable();
        twice.retain(|&node| node != self.me.node);
        twice
    }

    /// One more address to meet nodes at.
    pub fn add_seed(&mut self, seed: Address) {
        if !self.meeting.seeds.contains(&seed) && self.meeting.seeds.len() < SEEDS_MAX {
            self.meeting.seeds.push(seed);
        }
    }

    /// Speaks to whoever is at an address.
    pub fn meet(&mut self, address: &Address, outside: &mut impl Outside) {
        let ping = Word::Ping { probe: self.number(), target: None };
        self.tell_stranger(address, ping, outside);
    }

    /// These ids have been given up and are never to be heard of again; this node's own is never among them.
    pub fn set_removed(&mut self, mut removed: BTreeSet<NodeId>) {
        removed.remove(&self.me.node);
        for node in self.members.set_removed(removed) {
            self.unlist(node);
        }
    }

    /// Says goodbye: the node stops and comes back (`Restarting`), or does not in this life (`Left`). It probes nobody any more.
    pub fn leave(&mut self, how: Standing, outside: &mut impl Outside) {
        debug_assert!(matches!(how, Standing::Restarting | Standing::Left));
        self.me.claim.standing = how;
        self.probe = None;
        self.rumours.push(self.rumour_of_me());
        let members = &self.members;
        let is_present = |node| members.standing(node).is_some_and(Standing::is_present);
        for node in self.rounds.some(GOODBYES, is_present, outside) {
            self.pass_rumours(node, outside);
        }
    }

    /// Whether this node has said goodbye.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.me.claim.standing != Standing::Alive
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let Timers { tick, probe, .. } = self.timers;
        let help = self.probe.as_ref().and_then(|probe| probe.help_at);
        [help, self.relays.next_deadline()].into_iter().flatten().fold(tick.min(probe), Mono::min)
    }

    /// Does what is due.
    pub fn tick(&mut self, outside: &mut impl Outside) {
        let now = outside.now();
        self.notice_pause(now);
        self.tick_relays(outside);
        self.tick_probe(outside);
        if now < self.timers.tick {
            return;
        }
        self.timers.tick = now.plus_ms(SWIM_GOSSIP_MS);
        self.convict(outside);
        self.tick_exchanges(outside);
        self.gossip(outside);
    }

    /// Whether this node itself was paused: what it has not heard proves nothing then.
    fn notice_pause(&mut self, now: Mono) {
        if now.ms_since(self.timers.tick) > SWIM_PAUSE_MS_MAX {
            self.health.worse(1);
            self.probe = None;
            self.timers.probe = now;
            self.timers.convicts_from = now.plus_ms(self.health.stretched(SWIM_PROBE_MS));
        }
    }

    /// Takes those for dead whose time is up.
    fn convict(&mut self, outside: &mut impl Outside) {
        if self.is_leaving() || outside.now() < self.timers.convicts_from {
            return;
        }
        for rumour in self.members.overdue(outside.now()) {
            self.hear_of(rumour, outside);
        }
    }

    /// Takes a piece of evidence about another node for what it is worth, and passes it on when it is news.
    pub(super) fn hear_of(&mut self, rumour: Rumour, outside: &mut impl Outside) -> Admitted {
        let node = rumour.node();
        let admitted = self.members.admit(&rumour, outside.now());
        match admitted {
            Admitted::Nothing => {}
            Admitted::Confirmed => self.rumours.push(rumour),
            Admitted::Changed(before) => {
                self.list(node, before, outside);
                self.rumours.push(rumour);
            }
        }
        admitted
    }

    /// Gives a node that is known to be otherwise than before its place among those to probe and to tell.
    pub(super) fn list(
        &mut self,
        node: NodeId,
        before: Option<Standing>,
        outside: &mut impl Outside,
    ) {
        let Some(claim) = self.members.get(node).map(|member| member.claim) else { return };
        let (was, is) = (
            before.is_some_and(|before| before != Standing::Left),
            claim.standing != Standing::Left,
        );
        match (was, is) {
            (false, true) => {
                if self.members.is_full() {
                    // Somebody may have been forgotten to make room.
                    let members = &self.members;
                    self.rounds.retain(|node| members.get(node).is_some());
                }
                self.rounds.add(node, outside);
            }
            (true, false) => self.rounds.remove(node),
            (true, true) | (false, false) => {}
        }
        outside.changed(node, claim);
    }

    /// Somebody is no member any more.
    pub(super) fn unlist(&mut self, node: NodeId) {
        self.rounds.remove(node);
        self.rumours.forget(node);
        self.meeting.owed.retain(|&owed| owed != node);
        self.probe.take_if(|probe| probe.target == node);
    }

    /// A node is to be asked for all it knows.
    pub(super) fn owe(&mut self, node: NodeId) {
        if self.meeting.owed.len() < OWED_MAX && !self.meeting.owed.contains(&node) {
            self.meeting.owed.push_back(node);
        }
    }

    /// What this node says of itself.
    pub(super) fn rumour_of_me(&self) -> Rumour {
        let Speaker { node, claim, facts } = &self.me;
        let (node, incarnation) = (*node, claim.incarnation);
        match claim.standing {
            Standing::Restarting => Rumour::Restarting { node, incarnation },
            Standing::Left => Rumour::Left { node, incarnation },
            Standing::Alive | Standing::Suspect | Standing::Dead => {
                Rumour::Alive { node, incarnation, facts: facts.clone() }
            }
        }
    }
}
