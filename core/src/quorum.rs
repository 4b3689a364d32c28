//! How many of a key's primaries are needed, and have there been so many? Every quorum is counted here: of a read, of a write, of
//! what can be served. From here is also the number that makes good for a lost copy, which `member/lives.rs`, `repair/rotten.rs` and
//! `transfer/units.rs` wait for, and what a majority of voters is.
//!
//! Answers are counted from replies, by distinct primaries, never from a view of who should be up
//! (<https://github.com/basho/riak_kv/issues/388>). A majority of the cluster means nothing for a key: what is promised, R and W
//! promise for its primaries.

use smallvec::SmallVec;

use crate::config::{LAYOUTS_LIVE_MAX, REPLICAS_MAX};
use crate::id::{LayoutVersion, NodeId, Unit};
use crate::layout::keyspace::Level;
use crate::layout::live::LiveLayout;
use crate::layout::{Group, Layout, Quorums};

const _: () = assert!(REPLICAS_MAX * LAYOUTS_LIVE_MAX <= 64, "the bits of a set of primaries");

/// A set of a key's primaries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Members(u64);

impl Members {
    /// Nobody.
    pub const NONE: Members = Members(0);

    /// Adds the primary at `at`; `false` when it was there.
    pub const fn add(&mut self, at: usize) -> bool {
        let new = self.0 & (1 << at) == 0;
        self.0 |= 1 << at;
        new
    }

    /// Takes the primary at `at` out.
    pub const fn remove(&mut self, at: usize) {
        self.0 &= !(1 << at);
    }

    /// Whether the primary at `at` is in the set.
    #[must_use]
    pub const fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }

    /// How many are in the set.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    const fn and(self, other: Members) -> Members {
        Members(self.0 & other.0)
    }

    const fn or(self, other: Members) -> Members {
        Members(self.0 | other.0)
    }

    const fn without(self, other: Members) -> Members {
        Members(self.0 & !other.0)
    }
}

/// A key's primaries, in order of preference: those of every layout that is live, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Primaries {
    nodes: SmallVec<[NodeId; 3]>,
    /// Who of them counts in which layout; the newest last.
    owners: SmallVec<[Owners; 1]>,
}

/// A key's owners under one layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owners {
    version: LayoutVersion,
    members: Members,
    quorums: Quorums,
}

impl Primaries {
    /// The owners of a unit under each of these layouts, of which the newest is last and its owners are preferred. A layout that
    /// does not have the unit's group needs nobody.
    #[must_use]
    pub fn under(live: &[LiveLayout], unit: Unit) -> Primaries {
        assert!(live.len() <= LAYOUTS_LIVE_MAX, "{} layouts are live", live.len());
        let mut primaries = Primaries::default();
        for LiveLayout { layout, .. } in live.iter().rev() {
            let mut members = Members::NONE;
            let Some(group) = layout.group(unit.group) else {
                continue;
            };
            for node in layout.primaries(unit) {
                let at = primaries.position(node).unwrap_or_else(|| {
                    primaries.nodes.push(node);
                    primaries.nodes.len() - 1
                });
                members.add(at);
            }
            let (version, quorums) = (layout.version(), group.quorums);
            primaries.owners.insert(0, Owners { version, members, quorums });
        }
        primaries
    }

    /// Where a node stands among the primaries; `None` when it is none.
    #[must_use]
    pub fn position(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|&primary| primary == node)
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.position(node).is_some()
    }

    /// The nodes, in order of preference.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// All of them, as a set.
    const fn all(count: usize) -> Members {
        Members(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }
}

/// How many of a key's primaries take part in what is asked at one level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Who must tell a reader: the owners of the one layout that reads go to.
    read: Quorum,
    /// Who must hold a write, in every layout that is live.
    write: SmallVec<[Quorum; 1]>,
}

/// So many of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Quorum {
    /// The layout that says so.
    version: LayoutVersion,
    members: Members,
    needed: usize,
}

impl Quorum {
    /// Of the owners under one layout, R or W, as `of` says.
    fn at(level: Level, owners: &Owners, of: impl Fn(Quorums) -> u8) -> Quorum {
        let Owners { version, members, quorums } = *owners;
        let needed = match level {
            Level::One => 1,
            Level::Quorum => usize::from(of(quorums)),
            Level::All => members.count(),
        };
        Quorum { version, members, needed }
    }
}

impl Needs {
    /// Of a key with these primaries, of which reads ask the owners under `reads_at`, the newest layout whose owners are known to
    /// have all their keys; under the newest of all, where that one does not have the key's group. At level `one` one primary
    /// of any layout is enough for a write.
    #[must_use]
    pub fn at(level: Level, primaries: &Primaries, reads_at: LayoutVersion) -> Needs {
        let at = primaries.owners.iter().find(|owners| owners.version == reads_at);
        let at = at.or(primaries.owners.last()).expect("a key is asked for under a live layout");
        let read = Quorum::at(level, at, |quorums| quorums.r);
        let write = match level {
            Level::One => {
                let members = Primaries::all(primaries.nodes.len());
                [Quorum { members, ..read }].into_iter().collect()
            }
            Level::Quorum | Level::All => {
                let each = primaries.owners.iter();
                each.map(|owners| Quorum::at(level, owners, |quorums| quorums.w)).collect()
            }
        };
        Needs { read, write }
    }

    /// How many must hold a write, where most are needed.
    #[must_use]
    pub fn to_write(&self) -> usize {
        self.write.iter().map(|quorum| quorum.needed).max().unwrap_or(0)
    }

    /// Nobody has told yet: as many must as a read needs.
    #[must_use]
    pub fn readers(&self) -> Tally {
        Tally::of([self.read])
    }

    /// Nobody holds it yet: as many must as a write needs.
    #[must_use]
    pub fn holders(&self) -> Tally {
        Tally::of(self.write.iter().copied())
    }

    /// Who must be there for a read: those that tell, and those that hold what it answers.
    #[must_use]
    pub fn answerers(&self) -> Tally {
        Tally::of(self.write.iter().copied().chain([self.read]))
    }
}

/// What can be done with the keys of one unit at level `quorum`, with the nodes that are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Too few of the primaries are reached for a read, or for a write.
    TooFew,
    /// R and W of them are reached.
    Quorum,
    /// All of them are.
    Whole,
}

/// How much of a unit is reached.
#[must_use]
pub fn reach(layout: &Layout, unit: Unit, is_up: impl Fn(NodeId) -> bool) -> Reach {
    let Some(&Group { quorums: Quorums { n, r, w }, .. }) = layout.group(unit.group) else {
        return Reach::TooFew;
    };
    let up = layout.primaries(unit).filter(|&node| is_up(node)).count();
    match up {
        up if up == usize::from(n) => Reach::Whole,
        up if up >= usize::from(r.max(w)) => Reach::Quorum,
        _ => Reach::TooFew,
    }
}

/// How many other primaries hold, together, every write at `quorum` that one primary was counted for: such a write is on W - 1
/// of the N - 1 others. Where W is 1 all of them do not suffice.
#[must_use]
pub fn others_to_make_good(quorums: Quorums) -> usize {
    usize::from(quorums.n).saturating_sub(usize::from(quorums.w)) + 1
}

/// Whether what was acknowledged at `quorum` survives the loss of one primary, whichever: where W is 1 it need not.
#[must_use]
pub fn others_make_good(quorums: Quorums) -> bool {
    others_to_make_good(quorums) < usize::from(quorums.n)
}

/// Whether reads under a layout meet the writes under the one before at owners of both: each such write is lacked by N - W of the old
/// owners at most, and whoever has become an owner has taken it. Where quorums do not meet anyway nothing is to be kept.
#[must_use]
pub fn reads_meet(before: Quorums, after: Quorums) -> bool {
    let lacking = before.n.saturating_sub(before.w);
    before.r <= lacking || after.r > lacking
}

/// Whether so many of `out_of` nodes are a majority: of those who endorse a layout, and of those whom a change of it needs.
#[must_use]
pub const fn is_majority(votes: usize, out_of: usize) -> bool {
    2 * votes > out_of
}

/// Answers to one question that was put to a key's primaries. An answer counts once in each layout that its sender owns the key
/// under, and it is enough when it is enough in every one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    quorums: SmallVec<[Quorum; 1]>,
    yes: Members,
    no: Members,
}

/// How the answers stand where they are furthest from enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// How many have said yes.
    pub yes: usize,
    /// How many must.
    pub needed: usize,
    /// How many there are.
    pub out_of: usize,
    /// Under which layout, when several are live.
    pub under: Option<LayoutVersion>,
}

impl Tally {
    fn of(quorums: impl IntoIterator<Item = Quorum>) -> Tally {
        let quorums: SmallVec<[Quorum; 1]> = quorums.into_iter().collect();
        let possible = |quorum: &Quorum| (1..=quorum.members.count()).contains(&quorum.needed);
        assert!(quorums.iter().all(possible), "a quorum is between one and all: {quorums:?}");
        Tally { quorums, yes: Members::NONE, no: Members::NONE }
    }

    /// The primary at `at` did it. Counts once, however often it says so.
    pub const fn yes(&mut self, at: usize) {
        self.yes.add(at);
    }

    /// The primary at `at` could not do it. A later yes still counts.
    pub const fn no(&mut self, at: usize) {
        self.no.add(at);
    }

    /// Whether the primary at `at` has said yes.
    #[must_use]
    pub const fn has(&self, at: usize) -> bool {
        self.yes.has(at)
    }

    /// Whether the primary at `at` has said no, and not yes.
    #[must_use]
    pub const fn has_refused(&self, at: usize) -> bool {
        self.no.has(at) && !self.yes.has(at)
    }

    /// Whether a yes of the primary at `at` is one of those that are still missing.
    #[must_use]
    pub fn lacks(&self, at: usize) -> bool {
        !self.yes.has(at) && self.unmet().any(|quorum| quorum.members.has(at))
    }

    /// How many have said yes.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.yes.count()
    }

    /// How many have said yes and how many must, under the layout that is furthest from it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let several = self.quorums.windows(2).any(|pair| pair[0].version != pair[1].version);
        let stands = self.quorums.iter().map(|quorum| Standing {
            yes: self.yes.and(quorum.members).count(),
            needed: quorum.needed,
            out_of: quorum.members.count(),
            under: several.then_some(quorum.version),
        });
        let missing = |standing: &Standing| standing.needed.saturating_sub(standing.yes);
        stands.max_by_key(missing).expect("a tally has a quorum")
    }

    /// Whether enough have said yes, under every layout.
    #[must_use]
    pub fn met(&self) -> bool {
        self.unmet().next().is_none()
    }

    /// Whether each has said either.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let said = self.yes.or(self.no);
        self.quorums.iter().all(|quorum| quorum.members.without(said).count() == 0)
    }

    /// Whether so many could not that the rest is too few, under one of the layouts.
    #[must_use]
    pub fn hopeless(&self) -> bool {
        let refused = self.no.without(self.yes);
        self.unmet().any(|quorum| quorum.members.without(refused).count() < quorum.needed)
    }

    fn unmet(&self) -> impl Iterator<Item = &Quorum> {
        let yes = self.yes;
        self.quorums.iter().filter(move |quorum| yes.and(quorum.members).count() < quorum.needed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layout::keyspace::Keyspace;
    use crate::layout::{LayoutParts, LayoutRef, Role};

    fn role(node: u128) -> Role {
        Role { node: NodeId(node), name: node.to_string(), weight: 1, zone: String::new() }
    }

    /// A layout of one partition with these owners.
    fn live(version: u64, wanted: Quorums, nodes: impl IntoIterator<Item = u128>) -> LiveLayout {
        let roles = nodes.into_iter().map(role).collect();
        let first = Layout::first(1, wanted, roles, vec![Keyspace::default_keyspace()]);
        let version = LayoutVersion(version);
        let (previous, founding) = (u128::from(version.0 > 1), u128::from(version.0 > 1));
        let parts = LayoutParts { version, previous, founding, ..first.parts().clone() };
        let layout = Arc::new(Layout::from_parts(parts).expect("a sound layout"));
        LiveLayout { layout, reference: LayoutRef { version, digest: 1 } }
    }

    fn needs(level: Level, quorums: Quorums) -> Needs {
        let layout = live(1, quorums, 1..=u128::from(quorums.n));
        Needs::at(level, &Primaries::under(&[layout], Unit::default()), LayoutVersion(1))
    }

    const USUAL: Quorums = Quorums { n: 3, r: 2, w: 2 };

    #[test]
    fn an_answer_counts_once_and_w_of_n_is_enough() {
        let mut tally = needs(Level::Quorum, USUAL).holders();
        tally.yes(1);
        tally.yes(1);
        assert!(!tally.met(), "one primary, twice, is one primary");
        assert!(tally.lacks(0) && !tally.lacks(1));
        tally.yes(2);
        assert!(tally.met() && !tally.lacks(0), "W acks are enough, not W + 1");
    }

    #[test]
    fn refusals_end_the_question_when_the_rest_is_too_few() {
        let mut tally = needs(Level::Quorum, USUAL).holders();
        tally.no(0);
        assert!(!tally.hopeless());
        tally.no(1);
        assert!(tally.hopeless());
        tally.yes(1);
        assert!(!tally.hopeless(), "a primary that recovered counts");
    }

    #[test]
    fn a_level_says_how_many_of_the_primaries_take_part() {
        let quorums = Quorums { n: 3, r: 1, w: 3 };
        let counts = |level| {
            let needs = needs(level, quorums);
            let needed = |tally: Tally| tally.standing().needed;
            (needed(needs.readers()), needs.to_write(), needed(needs.answerers()))
        };
        assert_eq!(counts(Level::One), (1, 1, 1));
        assert_eq!(counts(Level::Quorum), (1, 3, 3), "what a read answers is held by W");
        assert_eq!(counts(Level::All), (3, 3, 3));
        assert_eq!(others_to_make_good(quorums), 1, "each other one has every write");
        assert_eq!(others_to_make_good(USUAL), 2);
        assert!(reads_meet(USUAL, Quorums { n: 2, r: 2, w: 2 }));
        assert!(
            !reads_meet(Quorums { n: 5, r: 4, w: 2 }, Quorums { n: 4, r: 3, w: 2 }),
            "3 lack it"
        );
        assert!(others_make_good(USUAL) && others_make_good(quorums));
        assert!(!others_make_good(Quorums { n: 3, r: 3, w: 1 }), "the one that has it may be gone");
    }

    /// Nodes 1, 2, 3 own the key, and 3, 4, 5 will.
    #[test]
    fn while_two_layouts_are_live_a_write_needs_w_in_each_and_a_node_of_both_counts_in_both() {
        let layouts = [live(1, USUAL, 1..=3), live(2, USUAL, 3..=5)];
        let primaries = Primaries::under(&layouts, Unit::default());
        assert_eq!(primaries.nodes().len(), 5, "each node once");
        let at = |node| primaries.position(NodeId(node)).expect("an owner");
        let needs = Needs::at(Level::Quorum, &primaries, LayoutVersion(2));
        let mut holders = needs.holders();
        [1, 2].iter().for_each(|&node| holders.yes(at(node)));
        assert!(!holders.met(), "W of the old owners are no quorum of the new ones");
        let Standing { yes, needed, under, .. } = holders.standing();
        assert_eq!((yes, needed, under), (0, 2, Some(LayoutVersion(2))));
        holders.yes(at(3));
        assert!(!holders.met() && holders.lacks(at(4)) && !holders.is_settled());
        holders.yes(at(5));
        assert!(holders.met(), "1, 2 and 3 of the old, 3 and 5 of the new");
        let mut readers = needs.readers();
        [1, 2].iter().for_each(|&node| readers.yes(at(node)));
        assert!(!readers.met(), "reads go to one layout's owners");
        let mut refused = needs.holders();
        [4, 5].iter().for_each(|&node| refused.no(at(node)));
        assert!(refused.hopeless(), "two of the new owners cannot");
        let mut one = Needs::at(Level::One, &primaries, LayoutVersion(2)).holders();
        one.yes(at(2));
        assert!(one.met(), "one primary of any layout");
    }

    #[test]
    fn what_is_reached_is_counted_by_r_and_w_of_a_partition() {
        let layout = |wanted| {
            let roles = (1..=3).map(role).collect();
            Layout::first(1, wanted, roles, vec![Keyspace::default_keyspace()])
        };
        let reached =
            |layout: &Layout, up: u128| reach(layout, Unit::default(), |node| node.0 <= up);
        let usual = layout(Quorums { n: 3, r: 2, w: 2 });
        let all = [Reach::TooFew, Reach::TooFew, Reach::Quorum, Reach::Whole];
        assert_eq!([0, 1, 2, 3].map(|up| reached(&usual, up)), all);
        let strict = layout(Quorums { n: 3, r: 1, w: 3 });
        assert_eq!(reached(&strict, 2), Reach::TooFew, "a majority is up, and nothing is served");
    }
}
