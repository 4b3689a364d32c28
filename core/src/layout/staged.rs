//! What people, and nodes that join by themselves, want of the next layout: a map that all nodes of a cluster share, in which the
//! last writer of each subject wins.
//!
//! A wish stays for a while after it has come true, so that an older one of a node that was away cannot come back. When there are many the
//! oldest of those are forgotten, and the stamp of the last one is kept: the *floor*. What is not above the floor and not known was
//! forgotten, or is older than something that was. The floor is the stamp of a wish for nothing, about a keyspace without a name, so it is
//! stored and spread as any wish is.
//!
//! Invariants: merging is commutative and idempotent, and maps that are merged again and again become equal, because stamps of different
//! wishes differ by their author, and what one of two has forgotten the other forgets; of a subject no older wish ever takes the place
//! of a later one; the map is bounded. What is staged changes nothing by itself: a commit makes a layout of it (`next`).
//! Left out: a wish that no other node has heard while hundreds of later ones came true: it is forgotten, and nothing has come of it.

use std::collections::BTreeMap;

use crate::config::{KEYSPACES_MAX, NODES_MAX, REMOVED_MAX};
use crate::id::{LayoutVersion, NodeId};
use crate::layout::keyspace::{Level, Policy};
use crate::layout::{Quorums, Role};

/// The most wishes that are kept.
pub const WISHES_MAX: usize = NODES_MAX + REMOVED_MAX + 2 * KEYSPACES_MAX;

/// So many are kept although they have come true.
pub const WISHES_KEPT: usize = REMOVED_MAX / 2;

// Each node that loses its role does so by a wish of another subject. So what was wished of one is forgotten before it is forgotten that
// it had a role.
const _: () = assert!(WISHES_KEPT < REMOVED_MAX && WISHES_KEPT < WISHES_MAX);

/// What a wish is about; there is one for each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A node's part in the layout.
    Node(NodeId),
    /// A keyspace, by its name.
    Keyspace(String),
    /// Whether anybody waits for a node while the layouts change.
    Wait(NodeId),
}

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Nothing: an earlier wish is taken back.
    Nothing,
    /// The node has this role, perhaps in the place of another one, which loses its own.
    Role {
        /// The role.
        role: Role,
        /// The node whose place it takes.
        replaces: Option<NodeId>,
        /// Whether the node asks for it itself, and need not wait for anybody to commit it.
        by_itself: bool,
    },
    /// The node has no role.
    Removed,
    /// There is such a keyspace.
    Keyspace(Definition),
    /// There is no such keyspace.
    Dropped,
    /// Nobody waits for the node while this layout comes.
    Skipped(LayoutVersion),
    /// Nor for what it alone may have of the data: an operator has given that up.
    GivenUp(LayoutVersion),
}

/// How a keyspace is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Definition {
    /// Its n, R and W.
    pub quorums: Quorums,
    /// What happens to concurrent versions.
    pub policy: Policy,
    /// The level of requests that name none.
    pub level: Level,
    /// How long what is put stays when the request does not say, in milliseconds; 0 for ever.
    pub ttl_ms: u64,
    /// Whether others than primaries may take writes at level `one` when no primary is reached.
    pub sloppy: bool,
}

/// Which of two wishes about one subject counts: the later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct WishStamp {
    /// Above every stamp that its author had seen, and the time by its author's clock in milliseconds, if that is later.
    pub at: u64,
    /// The node that took it on.
    pub by: NodeId,
}

/// A wish with its stamp.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// Its stamp.
    pub stamp: WishStamp,
    /// What is wanted.
    pub wish: Wish,
}

/// All wishes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Staged {
    wishes: BTreeMap<Subject, Stamped>,
}

impl Staged {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.wishes.len() <= WISHES_MAX, "wishes are bounded");
    }

    /// The wishes, by subject.
    pub fn wishes(&self) -> impl Iterator<Item = (&Subject, &Stamped)> {
        self.wishes.iter()
    }

    /// What is wanted of a subject.
    #[must_use]
    pub fn wish(&self, subject: &Subject) -> Option<&Wish> {
        self.wishes.get(subject).map(|stamped| &stamped.wish)
    }

    /// Takes a wish on at this node, whose clock shows `wall_ms`. `false`: there is no room for one more subject.
    pub fn stage(&mut self, subject: Subject, wish: Wish, by: NodeId, wall_ms: u64) -> bool {
        let seen = self.wishes.values().map(|stamped| stamped.stamp.at).max().unwrap_or(0);
        let stamp = WishStamp { at: wall_ms.max(seen.saturating_add(1)), by };
        self.learn(subject, Stamped { stamp, wish })
    }

    /// All that both know, but what one of them has forgotten.
    #[must_use]
    pub fn merged(&self, other: &Staged) -> Staged {
        let knows = |one: &Staged, subject: &Subject, stamped: &Stamped| {
            one.wishes.contains_key(subject) || stamped.stamp > one.floor()
        };
        let mut merged = Staged::default();
        for (of, by) in [(self, other), (other, self)] {
            for (subject, stamped) in of.wishes.iter().filter(|(s, w)| knows(by, s, w)) {
                merged.learn(subject.clone(), stamped.clone());
            }
        }
        merged
    }

    /// What is not above this and not known was forgotten.
    fn floor(&self) -> WishStamp {
        self.wishes.get(&floor()).map(|stamped| stamped.stamp).unwrap_or_default()
    }

    /// Forgets wishes that have come true, the oldest first, until no more than `kept` are left.
    pub fn forget(&mut self, kept: usize, is_over: impl Fn(&Subject, &Wish) -> bool) {
        let surplus = self.wishes.len().saturating_sub(kept);
        if surplus == 0 {
            return;
        }
        let is_over =
            |subject: &Subject, wish: &Wish| *subject != floor() && is_over(subject, wish);
        let over = self.wishes.iter().filter(|(subject, of)| is_over(subject, &of.wish));
        let mut over: Vec<(WishStamp, Subject)> =
            over.map(|(subject, of)| (of.stamp, subject.clone())).collect();
        over.sort();
        over.truncate(surplus);
        let Some(&(last, _)) = over.last() else {
            return;
        };
        over.iter().for_each(|(_, subject)| drop(self.wishes.remove(subject)));
        let stamp = last.max(self.floor());
        self.wishes.insert(floor(), Stamped { stamp, wish: Wish::Nothing });
    }

    /// Learns a wish that another node has taken on. Whether it is new here.
    pub fn learn(&mut self, subject: Subject, stamped: Stamped) -> bool {
        let has_room = self.wishes.len() < WISHES_MAX;
        match self.wishes.get_mut(&subject) {
            Some(known) if known.stamp >= stamped.stamp => false,
            Some(known) => {
                *known = stamped;
                true
            }
            None if has_room => self.wishes.insert(subject, stamped).is_none(),
            None => false,
        }
    }

    /// Only what nodes ask for themselves that are there now, and whom nobody waits for.
    #[must_use]
    pub fn by_themselves(&self, is_there: impl Fn(NodeId) -> bool) -> Staged {
        let is_so = |wish: &Wish| match wish {
            Wish::Role { role, by_itself, .. } => *by_itself && is_there(role.node),
            Wish::Skipped(_) | Wish::GivenUp(_) | Wish::Nothing => true,
            Wish::Removed | Wish::Keyspace(_) | Wish::Dropped => false,
        };
        let wishes = self.wishes.iter().filter(|(_, stamped)| is_so(&stamped.wish));
        Staged {
            wishes: wishes.map(|(subject, stamped)| (subject.clone(), stamped.clone())).collect(),
        }
    }

    /// All but the roles of these nodes.
    #[must_use]
    pub fn but_for(&self, nodes: impl Fn(NodeId) -> bool) -> Staged {
        let is_role_of_one = |subject: &Subject, wish: &Wish| match (subject, wish) {
            (Subject::Node(node), Wish::Role { .. }) => nodes(*node),
            _ => false,
        };
        let wishes = self.wishes.iter().filter(|(of, what)| !is_role_of_one(of, &what.wish));
        Staged { wishes: wishes.map(|(of, what)| (of.clone(), what.clone())).collect() }
    }

    /// Whether nobody waits for a node while this layout comes.
    #[must_use]
    pub fn skips(&self, node: NodeId, version: LayoutVersion) -> bool {
        match self.wish(&Subject::Wait(node)) {
            Some(Wish::Skipped(of) | Wish::GivenUp(of)) => *of == version,
            _ => false,
        }
    }

    /// The nodes of which it is given up what they alone may have, while this layout comes.
    pub fn given_up(&self, version: LayoutVersion) -> impl Iterator<Item = NodeId> {
        self.wishes.iter().filter_map(move |(subject, stamped)| match (subject, &stamped.wish) {
            (Subject::Wait(node), Wish::GivenUp(of)) if *of == version => Some(*node),
            _ => None,
        })
    }
}

/// The subject of the wish whose stamp is the floor.
const fn floor() -> Subject {
    Subject::Keyspace(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(state: &mut u64, sides: u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) % sides
    }

    #[test]
    fn what_was_forgotten_does_not_come_back_from_a_node_that_was_away() {
        let subject = || Subject::Keyspace("k".to_owned());
        let mut away = Staged::default();
        away.learn(subject(), removed(5, 1));
        let mut here = away.clone();
        assert!(here.stage(subject(), Wish::Dropped, NodeId(2), 0));
        here.forget(0, |_, _| true);
        assert_eq!((here.wish(&subject()), here.wishes().count()), (None, 1), "the floor");
        assert_eq!(here.merged(&away), here, "it is below the floor");
        assert_eq!(away.merged(&here), here, "and forgotten there too");
        assert!(here.stage(subject(), Wish::Removed, NodeId(2), 0), "a new one is above it");
        assert_eq!(here.merged(&away), here);
    }

    /// Three nodes stage, forget and hear of each other as luck has it: of a subject nobody ever has an older wish again, and in the end
    /// all have the same.
    #[test]
    fn whoever_forgets_what_and_when_no_older_wish_counts_again_and_all_agree() {
        for seed in 0..300 {
            let mut state = seed;
            let mut nodes = vec![Staged::default(); 3];
            let mut latest: BTreeMap<Subject, WishStamp> = BTreeMap::new();
            for turn in 0..120 {
                let at = dice(&mut state, 3) as usize;
                match dice(&mut state, 4) {
                    0 => {
                        let from = nodes[dice(&mut state, 3) as usize].clone();
                        nodes[at] = nodes[at].merged(&from);
                    }
                    1 => nodes[at].forget(3, |subject, _| *subject > Subject::Node(NodeId(1))),
                    _ => {
                        let subject = Subject::Node(NodeId(u128::from(dice(&mut state, 6))));
                        let by = NodeId(at as u128);
                        assert!(nodes[at].stage(subject.clone(), Wish::Removed, by, turn));
                        let stamp = nodes[at].wishes[&subject].stamp;
                        let last = latest.entry(subject).or_default();
                        *last = stamp.max(*last);
                    }
                }
            }
            for _ in 0..3 {
                for (to, from) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                    nodes[to] = nodes[to].merged(&nodes[from].clone());
                }
            }
            assert_eq!(nodes[0], nodes[1], "seed {seed}");
            assert_eq!(nodes[1], nodes[2], "seed {seed}");
            for (subject, stamped) in nodes[0].wishes().filter(|(of, _)| **of != floor()) {
                assert_eq!(stamped.stamp, latest[subject], "seed {seed}: an older one");
            }
        }
    }

    #[test]
    fn those_that_have_come_true_make_room_and_those_that_have_not_stay() {
        let mut staged = Staged::default();
        let open = Subject::Node(NodeId(0));
        for node in 0..3 * WISHES_MAX as u128 {
            staged.forget(WISHES_KEPT, |subject, _| *subject != open);
            assert!(staged.stage(Subject::Node(NodeId(node)), Wish::Removed, NodeId(1), 0));
        }
        assert_eq!(staged.wish(&open), Some(&Wish::Removed));
        assert_eq!(staged.wishes().count(), WISHES_KEPT + 1);
        staged.invariants();
    }

    fn removed(at: u64, by: u128) -> Stamped {
        Stamped { stamp: WishStamp { at, by: NodeId(by) }, wish: Wish::Removed }
    }

    #[test]
    fn the_last_writer_of_a_subject_wins_in_any_order() {
        let subject = Subject::Node(NodeId(1));
        let taken_back = Stamped { wish: Wish::Nothing, ..removed(5, 2) };
        let both = [removed(5, 1), taken_back.clone()];
        for order in [[0, 1], [1, 0]] {
            let mut staged = Staged::default();
            for at in order {
                staged.learn(subject.clone(), both[at].clone());
            }
            assert_eq!(
                staged.wish(&subject),
                Some(&Wish::Nothing),
                "the greater author, of one moment"
            );
            assert!(
                !staged.learn(subject.clone(), both[0].clone()),
                "an older one does not come back"
            );
        }
    }

    #[test]
    fn a_wish_of_this_node_is_above_all_that_it_has_seen_whatever_its_clock_shows() {
        let mut staged = Staged::default();
        staged.learn(Subject::Node(NodeId(1)), removed(1_000, 9));
        assert!(staged.stage(Subject::Node(NodeId(1)), Wish::Nothing, NodeId(2), 7));
        assert_eq!(staged.wish(&Subject::Node(NodeId(1))), Some(&Wish::Nothing));
    }

    #[test]
    fn who_has_asked_and_is_gone_since_gets_no_role_by_itself() {
        let mut staged = Staged::default();
        for (node, by_itself) in [(1, true), (2, true), (3, false)] {
            let (node, name) = (NodeId(node), node.to_string());
            let role = Role { node, name, weight: 1, zone: String::new() };
            let wish = Wish::Role { role, replaces: None, by_itself };
            staged.stage(Subject::Node(node), wish, NodeId(9), 0);
        }
        let of = staged.by_themselves(|node| node == NodeId(2) || node == NodeId(3));
        let subjects: Vec<&Subject> = of.wishes().map(|(subject, _)| subject).collect();
        assert_eq!(subjects, [&Subject::Node(NodeId(2))]);
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut staged = Staged::default();
        for node in 0..WISHES_MAX as u128 {
            assert!(staged.learn(Subject::Node(NodeId(node)), removed(1, 1)));
        }
        assert!(!staged.learn(Subject::Node(NodeId(u128::MAX)), removed(1, 1)));
        staged.invariants();
    }
}
