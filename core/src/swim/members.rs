//! What is known of every other node, and which evidence counts.
//!
//! Of all that is said of a node the greatest claim counts (`Claim`), and of what it says of itself that of its highest incarnation.
//! A maximum does not ask what came first or how often, so nodes that have heard the same agree.
//!
//! Invariants: this node itself is never among them, nor anybody who was removed; a suspicion runs exactly for who is suspect; at most
//! `SWIM_MEMBERS_MAX` are known, and who takes part is never forgotten for a newcomer. A node that is dead or has left is
//! remembered for `SWIM_TOMBSTONE_MS`: were it forgotten sooner, a late rumour that it lives would be believed.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{SWIM_MEMBERS_MAX, SWIM_RESTART_MS_MAX, SWIM_TOMBSTONE_MS};
use crate::env::Mono;
use crate::id::NodeId;
use crate::swim::suspicion::Suspicion;
use crate::wire::swim::{Claim, Facts, Incarnation, Known, Rumour, Standing};

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it said of itself in its highest incarnation that was heard of so.
    pub facts: Facts,
    /// That incarnation.
    told: Incarnation,
    /// How it is.
    pub claim: Claim,
    /// Since when it is so.
    pub since: Mono,
    /// The suspicion that runs against it.
    pub suspicion: Option<Suspicion>,
}

/// What has become of a piece of evidence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// It was known, or is not to be believed.
    Nothing,
    /// One more confirms a suspicion.
    Confirmed,
    /// It changes how the node is; it was so before, if it was known.
    Changed(Option<Standing>),
}

/// All other nodes.
#[derive(Debug, Default)]
pub struct Members {
    members: BTreeMap<NodeId, Member>,
    /// Who never returns.
    removed: BTreeSet<NodeId>,
    /// Who is suspect or restarting: time will decide about them.
    undecided: BTreeSet<NodeId>,
    /// How many are neither dead nor have left.
    present: usize,
}

impl Standing {
    /// Whether the node is neither dead nor has left.
    #[must_use]
    pub const fn is_present(self) -> bool {
        matches!(self, Standing::Alive | Standing::Suspect | Standing::Restarting)
    }

    /// How the node is, in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Alive => "alive",
            Standing::Suspect => "suspect",
            Standing::Restarting => "restarting",
            Standing::Dead => "dead",
            Standing::Left => "left",
        }
    }

    /// Whether the node is to be probed.
    #[must_use]
    pub const fn is_probed(self) -> bool {
        matches!(self, Standing::Alive | Standing::Suspect)
    }
}

impl Members {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self, me: NodeId) {
        assert!(self.members.len() <= SWIM_MEMBERS_MAX, "those who are known are bounded");
        assert!(!self.members.contains_key(&me), "nobody keeps a record of itself");
        let mut present = 0;
        for (node, member) in &self.members {
            let standing = member.claim.standing;
            present += usize::from(standing.is_present());
            assert!(!self.removed.contains(node), "who was removed does not return");
            assert_eq!(member.suspicion.is_some(), standing == Standing::Suspect);
            let waits = matches!(standing, Standing::Suspect | Standing::Restarting);
            assert_eq!(waits, self.undecided.contains(node));
            assert!(member.told <= member.claim.incarnation, "what is heard of is kept");
        }
        assert!(self.undecided.iter().all(|node| self.members.contains_key(node)));
        assert_eq!(present, self.present);
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// How one of them is.
    #[must_use]
    pub fn standing(&self, node: NodeId) -> Option<Standing> {
        self.members.get(&node).map(|member| member.claim.standing)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(&node, member)| (node, member))
    }

    /// How many take part, with this node.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.present + 1
    }

    /// Whether a newcomer takes the place of somebody that is gone.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.members.len() >= SWIM_MEMBERS_MAX
    }

    /// Takes a rumour for what it is worth.
    pub fn admit(&mut self, rumour: &Rumour, now: Mono) -> Admitted {
        let (node, claim, nodes) = (rumour.node(), rumour.claim(), self.nodes());
        if self.removed.contains(&node) {
            return Admitted::Nothing;
        }
        let Some(member) = self.members.get_mut(&node) else {
            return match rumour {
                Rumour::Alive { facts, .. } => self.meet(node, claim, facts.clone(), now),
                // Nobody can do anything with it without knowing where the node is.
                Rumour::Suspect { .. }
                | Rumour::Restarting { .. }
                | Rumour::Dead { .. }
                | Rumour::Left { .. } => Admitted::Nothing,
            };
        };
        if let Rumour::Alive { incarnation, facts, .. } = rumour {
            let newer = (incarnation, facts) > (&member.told, &member.facts);
            if newer {
                (member.told, member.facts) = (*incarnation, facts.clone());
            }
        }
        if let (Rumour::Suspect { by, .. }, Some(suspicion)) = (rumour, &mut member.suspicion)
            && claim == member.claim
        {
            return if suspicion.confirm(*by) { Admitted::Confirmed } else { Admitted::Nothing };
        }
        if claim <= member.claim {
            return Admitted::Nothing;
        }
        let before = member.claim.standing;
        (member.claim, member.since) = (claim, now);
        member.suspicion = match rumour {
            Rumour::Suspect { by, .. } => Some(Suspicion::new(*by, nodes, now)),
            Rumour::Alive { .. }
            | Rumour::Restarting { .. }
            | Rumour::Dead { .. }
            | Rumour::Left { .. } => None,
        };
        self.count(node, Some(before), Some(claim.standing));
        Admitted::Changed(Some(before))
    }

    /// Takes over what another node knows of one that was never heard of here: how it is, and since when.
    pub fn adopt(&mut self, known: &Known, now: Mono) -> Admitted {
        let Known { node, claim, facts, age_ms } = known;
        let is_new = !self.members.contains_key(node) && !self.removed.contains(node);
        // What is forgotten where it began does not begin again elsewhere.
        if !is_new || *age_ms >= SWIM_TOMBSTONE_MS {
            return Admitted::Nothing;
        }
        self.meet(*node, *claim, facts.clone(), Mono(now.0.saturating_sub(age_ms * 1_000_000)))
    }

    fn meet(&mut self, node: NodeId, claim: Claim, facts: Facts, since: Mono) -> Admitted {
        if self.is_full() && !self.make_room() {
            return Admitted::Nothing;
        }
        let told = claim.incarnation;
        self.members.insert(node, Member { facts, told, claim, since, suspicion: None });
        self.count(node, None, Some(claim.standing));
        Admitted::Changed(None)
    }

    /// Forgets who has been gone for longest.
    fn make_room(&mut self) -> bool {
        let gone = self.members.iter().filter(|(_, member)| !member.claim.standing.is_present());
        let Some(node) = gone.min_by_key(|(_, member)| member.since).map(|(&node, _)| node) else {
            return false;
        };
        self.forget(node);
        true
    }

    fn count(&mut self, node: NodeId, before: Option<Standing>, after: Option<Standing>) {
        self.present -= usize::from(before.is_some_and(Standing::is_present));
        self.present += usize::from(after.is_some_and(Standing::is_present));
        if matches!(after, Some(Standing::Suspect | Standing::Restarting)) {
            self.undecided.insert(node);
        } else {
            self.undecided.remove(&node);
        }
    }

    fn forget(&mut self, node: NodeId) {
        if let Some(member) = self.members.remove(&node) {
            self.count(node, Some(member.claim.standing), None);
        }
    }

    /// These are never to be heard of, and nobody else. Answers who is forgotten for that.
    pub fn set_removed(&mut self, removed: BTreeSet<NodeId>) -> Vec<NodeId> {
        let known = removed.iter().copied().filter(|node| self.members.contains_key(node));
        let known: Vec<NodeId> = known.collect();
        known.iter().for_each(|&node| self.forget(node));
        self.removed = removed;
        known
    }

    /// Whether a node was removed.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// Who must be taken for dead now: their suspicion has ended, or they have been restarting for too long.
    #[must_use]
    pub fn overdue(&self, now: Mono) -> Vec<Rumour> {
        let overdue = |&node: &NodeId| {
            let member = self.members.get(&node)?;
            let ends = member
                .suspicion
                .as_ref()
                .map_or_else(|| member.since.plus_ms(SWIM_RESTART_MS_MAX), Suspicion::ends);
            let incarnation = member.claim.incarnation;
            (now >= ends).then_some(Rumour::Dead { node, incarnation })
        };
        self.undecided.iter().filter_map(overdue).collect()
    }

    /// Forgets who has been gone for long. Answers whom.
    pub fn forget_tombstones(&mut self, now: Mono) -> Vec<NodeId> {
        let is_old = |member: &Member| {
            let is_gone = !member.claim.standing.is_present();
            is_gone && now.ms_since(member.since) >= SWIM_TOMBSTONE_MS
        };
        let old = self.members.iter().filter(|(_, member)| is_old(member));
        let old: Vec<NodeId> = old.map(|(&node, _)| node).collect();
        old.iter().for_each(|&node| self.forget(node));
        old
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::env::Address;
    use crate::id::{BootEpoch, SessionId};

    const ME: NodeId = NodeId(0);
    const NODE: NodeId = NodeId(1);

    fn incarnation(boot: u64, count: u64) -> Incarnation {
        Incarnation { boot: BootEpoch(boot), count }
    }

    fn alive(node: NodeId, incarnation: Incarnation, name: &str) -> Rumour {
        let facts =
            Facts { session: SessionId(0), name: name.to_owned(), address: Address::default() };
        Rumour::Alive { node, incarnation, facts }
    }

    fn rumours() -> impl Strategy<Value = Rumour> {
        let incarnation = (1u64..3, 0u64..3).prop_map(|(boot, count)| incarnation(boot, count));
        incarnation.prop_flat_map(|incarnation| {
            let node = NODE;
            prop_oneof![
                prop_oneof![Just("a"), Just("b")].prop_map(move |name| alive(
                    node,
                    incarnation,
                    name
                )),
                (2u128..6).prop_map(move |by| Rumour::Suspect {
                    node,
                    incarnation,
                    by: NodeId(by)
                }),
                Just(Rumour::Restarting { node, incarnation }),
                Just(Rumour::Dead { node, incarnation }),
                Just(Rumour::Left { node, incarnation }),
            ]
        })
    }

    /// What is known of the node after all of this, at one moment, in a cluster of five.
    fn after(rumours: &[Rumour]) -> Member {
        let mut members = Members::default();
        for other in 2..6 {
            members.admit(&alive(NodeId(other), incarnation(1, 0), "c"), Mono(0));
        }
        members.admit(&alive(NODE, incarnation(1, 0), "a"), Mono(0));
        for rumour in rumours {
            let before = members.get(NODE).expect("it is known").claim;
            members.admit(rumour, Mono(0));
            let claim = members.get(NODE).expect("it is known").claim;
            assert_eq!(claim, before.max(rumour.claim()), "the greatest claim is kept");
        }
        members.invariants(ME);
        members.get(NODE).expect("it is known").clone()
    }

    /// The same, as far as it does not depend on which of many confirm a suspicion first.
    fn view(member: &Member) -> (Claim, Facts, Option<Mono>) {
        let ends = member.suspicion.as_ref().map(Suspicion::ends);
        (member.claim, member.facts.clone(), ends)
    }

    proptest! {
        #[test]
        fn evidence_counts_the_same_in_any_order_and_however_often(
            (first, second) in prop::collection::vec(rumours(), 0..12)
                .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            again in 0usize..12,
        ) {
            let told = view(&after(&first));
            prop_assert_eq!(&told, &view(&after(&second)), "any order");
            let repeated: Vec<Rumour> = first.iter().chain(first.iter().take(again)).cloned().collect();
            prop_assert_eq!(&told, &view(&after(&repeated)), "once is as good as twice");
            let highest = first.iter().map(|rumour| rumour.claim().incarnation).max();
            let highest = highest.unwrap_or_default().max(incarnation(1, 0));
            prop_assert_eq!(told.0.incarnation, highest, "of all that was admitted");
        }
    }

    #[test]
    fn who_is_unknown_is_met_by_its_own_word_alone() {
        let mut members = Members::default();
        let node = NODE;
        for rumour in [
            Rumour::Suspect { node, incarnation: incarnation(1, 0), by: NodeId(2) },
            Rumour::Dead { node, incarnation: incarnation(1, 0) },
            Rumour::Left { node, incarnation: incarnation(1, 0) },
        ] {
            assert_eq!(members.admit(&rumour, Mono(0)), Admitted::Nothing);
        }
        let met = members.admit(&alive(node, incarnation(1, 0), "a"), Mono(0));
        assert_eq!((met, members.nodes()), (Admitted::Changed(None), 2));
    }

    #[test]
    fn who_was_removed_never_returns() {
        let mut members = Members::default();
        members.admit(&alive(NODE, incarnation(1, 0), "a"), Mono(0));
        assert_eq!(members.set_removed([NODE, NodeId(9)].into()), [NODE]);
        let later = members.admit(&alive(NODE, incarnation(9, 9), "a"), Mono(0));
        assert_eq!((later, members.nodes()), (Admitted::Nothing, 1));
        let known = Known {
            node: NODE,
            claim: Claim { incarnation: incarnation(9, 9), standing: Standing::Alive },
            facts: Facts {
                session: SessionId(0),
                name: String::new(),
                address: Address::default(),
            },
            age_ms: 0,
        };
        assert_eq!(members.adopt(&known, Mono(0)), Admitted::Nothing);
        members.invariants(ME);
        members.set_removed(BTreeSet::new());
        assert_eq!(members.adopt(&known, Mono(0)), Admitted::Changed(None), "it was taken back");
    }

    #[test]
    fn the_dead_are_remembered_for_a_day_also_by_those_who_only_hear_of_it() {
        let mut members = Members::default();
        let node = NODE;
        members.admit(&alive(node, incarnation(1, 0), "a"), Mono(0));
        members.admit(&Rumour::Dead { node, incarnation: incarnation(1, 0) }, Mono(0));
        let late = Mono(0).plus_ms(SWIM_TOMBSTONE_MS - 1);
        assert_eq!(members.forget_tombstones(late), []);
        let back = members.admit(&alive(node, incarnation(1, 0), "a"), late);
        assert_eq!(back, Admitted::Nothing, "a late rumour is not believed");
        let member = members.get(node).expect("it is remembered").clone();
        let known =
            |age_ms| Known { node, claim: member.claim, facts: member.facts.clone(), age_ms };
        let mut others = Members::default();
        assert_eq!(others.adopt(&known(SWIM_TOMBSTONE_MS - 1), late), Admitted::Changed(None));
        for members in [&mut members, &mut others] {
            assert_eq!(members.forget_tombstones(late.plus_ms(1)), [node]);
            assert!(members.get(node).is_none());
        }
        assert_eq!(others.adopt(&known(SWIM_TOMBSTONE_MS), late), Admitted::Nothing);
    }

    #[test]
    fn a_full_table_forgets_who_has_been_gone_for_longest_and_nobody_who_takes_part() {
        let mut members = Members::default();
        let last = SWIM_MEMBERS_MAX as u128;
        for node in 1..=last {
            members.admit(&alive(NodeId(node), incarnation(1, 0), "a"), Mono(0));
        }
        let newcomer = |members: &mut Members, node| {
            members.admit(&alive(NodeId(node), incarnation(1, 0), "a"), Mono(9))
        };
        assert_eq!(newcomer(&mut members, last + 1), Admitted::Nothing);
        for (node, at) in [(7, Mono(2)), (5, Mono(1))] {
            let dead = Rumour::Dead { node: NodeId(node), incarnation: incarnation(1, 0) };
            members.admit(&dead, at);
        }
        assert_eq!(newcomer(&mut members, last + 1), Admitted::Changed(None));
        assert_eq!((members.get(NodeId(5)), members.get(NodeId(7)).is_some()), (None, true));
        members.invariants(ME);
    }
}
