//! The layout that follows another: a pure function of that one, of what is staged, and of who is dead.
//!
//! Invariants: nothing moves but what must (`placement`); a node that lost its role gets none again, and no id of a keyspace is
//! used twice; whoever takes the place of another one owns what that one owned. A group has the id of the keyspace that it was made
//! for, so no id of a group is used twice either; it leaves with the layout after the one that dropped its last keyspace, when nothing in
//! flight is about its keys any more.
//! Left out: another n, R or W for a keyspace that is there, which would have to copy its keys: it is refused.

use std::collections::BTreeSet;

use super::agreed::{Group, Layout, LayoutParts, LayoutRef, Quorums, Role};
use super::keyspace::{DEFAULT, Keyspace};
use super::placement;
use super::staged::{Definition, Staged, Subject, Wish};
use crate::config::{GROUPS_MAX, KEYSPACES_MAX, NODES_MAX, REMOVED_MAX, REPLICAS_MAX, TTL_MS_MAX};
use crate::id::{GroupId, KeyspaceId, LayoutVersion, NodeId, Unit};

/// A unit that a node gets or loses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Move {
    /// The unit.
    pub unit: Unit,
    /// Who gets it.
    pub to: NodeId,
}

impl Layout {
    /// The layout after this one, whose name is `reference`, with what is staged. `None`: nothing of it is new. `is_dead` says
    /// whom nobody could wait for. `Err`: why what is staged makes no layout, in words.
    pub fn after(
        &self,
        reference: LayoutRef,
        staged: &Staged,
        is_dead: impl Fn(NodeId) -> bool,
    ) -> Result<Option<Layout>, String> {
        let mut parts = self.parts().clone();
        let used = self.used_groups();
        // Before a new keyspace could come into one of them: what nodes lack of it they need not take.
        parts.groups.retain(|group| group.id == GroupId::FIRST || used.contains(&group.id));
        let mut places = Places { replaced: Vec::new() };
        for (subject, stamped) in staged.wishes() {
            match (subject, &stamped.wish) {
                (Subject::Node(node), Wish::Role { role, replaces, .. }) if role.node == *node => {
                    places.give(&mut parts, role, *replaces)?;
                }
                (Subject::Node(node), Wish::Removed) => take_away(&mut parts, *node),
                (Subject::Keyspace(name), Wish::Keyspace(definition)) => {
                    define(&mut parts, name, definition)?;
                }
                (Subject::Keyspace(name), Wish::Dropped) => drop_keyspace(&mut parts, name)?,
                _ => {}
            }
        }
        if parts.roles == self.roles() && parts.keyspaces == self.keyspaces() {
            return Ok(None);
        }
        if parts.roles.is_empty() {
            return Err("a cluster keeps at least one node".to_owned());
        }
        if parts.roles.len() > NODES_MAX {
            return Err(format!("a cluster has at most {NODES_MAX} nodes"));
        }
        parts.version = LayoutVersion(parts.version.0 + 1);
        parts.previous = reference.digest;
        parts.founding = self.founding(reference);
        let has_role = |node: &NodeId| parts.roles.iter().any(|role| role.node == *node);
        let lost = self.roles().iter().map(|role| role.node).filter(|node| !has_role(node));
        let is_replaced = |node: &NodeId| places.replaced.iter().any(|(old, _)| old == node);
        parts.gone = lost.filter(|node| is_dead(*node) || is_replaced(node)).collect();
        let skipped = |role: &&Role| staged.skips(role.node, parts.version);
        let skipped: Vec<NodeId> =
            parts.roles.iter().filter(skipped).map(|role| role.node).collect();
        parts.gone.extend(skipped);
        parts.removed.drain(..parts.removed.len().saturating_sub(REMOVED_MAX));
        for group in &mut parts.groups {
            let before = places.mapped(self, group, &parts.roles);
            group.quorums = group.wanted.effective(parts.roles.len());
            let (n, partitions) = (group.quorums.n, parts.partitions);
            group.owners = placement::assign(&parts.roles, n, partitions, before.as_deref());
        }
        Ok(Some(Layout::from_parts(parts).expect("what follows a sound layout is sound")))
    }

    /// Whether a wish has come true in this layout, or never will.
    #[must_use]
    pub fn grants(&self, subject: &Subject, wish: &Wish) -> bool {
        match (subject, wish) {
            (Subject::Node(node), Wish::Role { role, .. }) => {
                self.parts().removed.contains(node) || self.roles().contains(role)
            }
            (Subject::Node(node), Wish::Removed) => !self.has(*node),
            (Subject::Keyspace(name), Wish::Keyspace(wanted)) => {
                self.keyspace(name).is_some_and(|keyspace| {
                    let group = self.group(keyspace.group);
                    group.map(|group| group.wanted) == Some(wanted.quorums)
                        && (keyspace.policy, keyspace.level, keyspace.ttl_ms, keyspace.sloppy)
                            == (wanted.policy, wanted.level, wanted.ttl_ms, wanted.sloppy)
                })
            }
            (Subject::Keyspace(name), Wish::Dropped) => self.keyspace(name).is_none(),
            _ => true,
        }
    }

    /// Whether nothing comes of a wish any more, now that this is the newest live layout.
    #[must_use]
    pub fn is_past(&self, subject: &Subject, wish: &Wish) -> bool {
        match wish {
            Wish::Skipped(version) | Wish::GivenUp(version) => *version < self.version(),
            _ => self.grants(subject, wish),
        }
    }

    /// Which units nodes own here that they did not own in `before`, sorted.
    #[must_use]
    pub fn moves_since(&self, before: &Layout) -> Vec<Move> {
        let gets = |unit| self.primaries(unit).filter(move |&to| !before.is_primary(to, unit));
        self.units().flat_map(|unit| gets(unit).map(move |to| Move { unit, to })).collect()
    }
}

/// Who takes whose place.
struct Places {
    /// The old node and the new one.
    replaced: Vec<(NodeId, NodeId)>,
}

impl Places {
    fn give(
        &mut self,
        parts: &mut LayoutParts,
        role: &Role,
        replaces: Option<NodeId>,
    ) -> Result<(), String> {
        // It lost its role after this was wished for.
        if parts.removed.contains(&role.node) {
            return Ok(());
        }
        let is_in = |parts: &LayoutParts, node| parts.roles.iter().any(|role| role.node == node);
        if let Some(old) = replaces.filter(|old| is_in(parts, *old)) {
            if is_in(parts, role.node) {
                return Err(format!(
                    "{} is in the layout already, and takes nobody's place: let the other one leave",
                    role.name
                ));
            }
            self.replaced.push((old, role.node));
            take_away(parts, old);
        }
        let twice = |other: &&Role| other.name == role.name && other.node != role.node;
        if let Some(other) = parts.roles.iter().find(twice) {
            return Err(format!(
                "two nodes have the name {}: {} is in the layout, and {} would join; remove the one, or give the other another name",
                role.name, other.node, role.node
            ));
        }
        let role = Role { weight: role.weight.max(1), ..role.clone() };
        match parts.roles.binary_search_by_key(&role.node, |role| role.node) {
            Ok(at) => parts.roles[at] = role,
            Err(at) => parts.roles.insert(at, role),
        }
        Ok(())
    }

    /// The owners of a group in `before`, as indices into `roles`, which a new node has in the place of the one that it replaces.
    fn mapped(&self, before: &Layout, group: &Group, roles: &[Role]) -> Option<Vec<u16>> {
        let old = before.group(group.id)?;
        let now = |node: NodeId| {
            let replaced = self.replaced.iter().find(|(old, _)| *old == node);
            let node = replaced.map_or(node, |(_, new)| *new);
            let at = roles.binary_search_by_key(&node, |role| role.node);
            at.map_or(u16::MAX, |at| at as u16)
        };
        let places: Vec<u16> = before.roles().iter().map(|role| now(role.node)).collect();
        Some(old.owners.iter().map(|&at| places[usize::from(at)]).collect())
    }
}

fn take_away(parts: &mut LayoutParts, node: NodeId) {
    let before = parts.roles.len();
    parts.roles.retain(|role| role.node != node);
    if parts.roles.len() < before {
        parts.removed.push(node);
    }
}

fn define(parts: &mut LayoutParts, name: &str, wanted: &Definition) -> Result<(), String> {
    let Quorums { n, r, w } = wanted.quorums;
    if !(1..=REPLICAS_MAX).contains(&usize::from(n))
        || !(1..=n).contains(&r)
        || !(1..=n).contains(&w)
    {
        return Err(format!(
            "keyspace {name}: n={n}, R={r}, W={w} is not possible: n is 1 to {REPLICAS_MAX}, R and W are 1 to n"
        ));
    }
    if wanted.ttl_ms > TTL_MS_MAX {
        let days = TTL_MS_MAX / (24 * 3_600_000);
        return Err(format!("keyspace {name}: a value stays at most {days} days, or for ever"));
    }
    if let Some(at) = parts.keyspaces.iter().position(|keyspace| keyspace.name == name) {
        let group = parts.keyspaces[at].group;
        let has = parts.groups.iter().find(|one| one.id == group).map(|one| one.wanted);
        if has != Some(wanted.quorums) {
            return Err(format!(
                "keyspace {name} keeps its n, R and W: make another one with those that you want, and copy"
            ));
        }
        let keyspace = &mut parts.keyspaces[at];
        if keyspace.sloppy != wanted.sloppy {
            // Who is not asked before a key is purged must never have taken a write of it.
            let is = if keyspace.sloppy { "is sloppy and stays it" } else { "is not sloppy" };
            return Err(format!(
                "keyspace {name} {is}: that is fixed when a keyspace is made; make another one, and copy"
            ));
        }
        (keyspace.policy, keyspace.level) = (wanted.policy, wanted.level);
        keyspace.ttl_ms = wanted.ttl_ms;
        return Ok(());
    }
    if parts.keyspaces.len() >= KEYSPACES_MAX {
        return Err(format!("a cluster has at most {KEYSPACES_MAX} keyspaces: drop one first"));
    }
    let id = KeyspaceId(parts.last_keyspace.0.checked_add(1).ok_or("no id of a keyspace is left")?);
    let same = parts.groups.iter().find(|group| group.wanted == wanted.quorums);
    let group = match same {
        Some(group) => group.id,
        None if parts.groups.len() >= GROUPS_MAX => {
            return Err(format!(
                "a cluster has at most {GROUPS_MAX} different n, R and W: use those of another keyspace"
            ));
        }
        None => {
            let id = u16::try_from(id.0).map(GroupId);
            let id =
                id.map_err(|_| "no id of a group is left: use the n, R and W of another keyspace")?;
            let quorums = wanted.quorums;
            parts.groups.push(Group { id, wanted: quorums, quorums, owners: Vec::new() });
            id
        }
    };
    parts.last_keyspace = id;
    let Definition { policy, level, ttl_ms, sloppy, .. } = *wanted;
    let name = name.to_owned();
    parts.keyspaces.push(Keyspace { id, name, group, policy, level, ttl_ms, sloppy });
    Ok(())
}

fn drop_keyspace(parts: &mut LayoutParts, name: &str) -> Result<(), String> {
    if name == DEFAULT {
        return Err(format!("the keyspace {DEFAULT} stays"));
    }
    parts.keyspaces.retain(|keyspace| keyspace.name != name);
    Ok(())
}

/// The nodes that wait for each other while one layout takes the place of another.
#[must_use]
pub fn awaited(before: &Layout, after: &Layout, staged: &Staged) -> BTreeSet<NodeId> {
    let roles = before.roles().iter().chain(after.roles()).map(|role| role.node);
    let skips =
        |node: &NodeId| after.parts().gone.contains(node) || staged.skips(*node, after.version());
    roles.filter(|node| !skips(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::keyspace::{Level, Policy};

    const USUAL: Quorums = Quorums { n: 3, r: 2, w: 2 };
    const NAMED: LayoutRef = LayoutRef { version: LayoutVersion(1), digest: 7 };

    fn role(node: u128) -> Role {
        Role { node: NodeId(node), name: format!("n{node}"), weight: 1, zone: String::new() }
    }

    fn first(nodes: u128) -> Layout {
        let roles = (1..=nodes).map(role).collect();
        Layout::first(64, USUAL, roles, vec![Keyspace::default_keyspace()])
    }

    fn staged(wishes: impl IntoIterator<Item = (Subject, Wish)>) -> Staged {
        let mut staged = Staged::default();
        for (subject, wish) in wishes {
            staged.stage(subject, wish, NodeId(1), 0);
        }
        staged
    }

    fn joins(node: u128, replaces: Option<u128>) -> (Subject, Wish) {
        let (role, replaces) = (role(node), replaces.map(NodeId));
        (Subject::Node(NodeId(node)), Wish::Role { role, replaces, by_itself: false })
    }

    fn leaves(node: u128) -> (Subject, Wish) {
        (Subject::Node(NodeId(node)), Wish::Removed)
    }

    fn after(layout: &Layout, wishes: impl IntoIterator<Item = (Subject, Wish)>) -> Layout {
        let next = layout.after(NAMED, &staged(wishes), |_| false);
        next.expect("it makes a layout").expect("it is another one")
    }

    #[test]
    fn a_layout_names_the_one_before_it_and_the_first_of_all() {
        let second = after(&first(3), [joins(4, None)]);
        let LayoutParts { version, previous, founding, .. } = second.parts();
        assert_eq!((version.0, *previous, *founding), (2, 7, 7));
        let named = LayoutRef { version: LayoutVersion(2), digest: 8 };
        let third = second.after(named, &staged([leaves(4)]), |_| false);
        let third = third.expect("it makes a layout").expect("it is another one");
        assert_eq!((third.parts().previous, third.parts().founding), (8, 7));
    }

    #[test]
    fn who_takes_the_place_of_another_owns_what_that_one_owned_and_nothing_else_moves() {
        let before = first(5);
        let next = after(&before, [joins(9, Some(2))]);
        for unit in before.units() {
            let now = |node: NodeId| if node == NodeId(2) { NodeId(9) } else { node };
            let owners: BTreeSet<NodeId> = before.primaries(unit).map(now).collect();
            assert_eq!(owners, next.primaries(unit).collect(), "{unit:?}");
        }
        assert!(next.moves_since(&before).iter().all(|one| one.to == NodeId(9)));
        assert_eq!(next.parts().gone, [NodeId(2)], "nobody waits for it");
    }

    #[test]
    fn who_lost_its_role_gets_none_again_and_the_dead_are_not_waited_for() {
        let before = first(4);
        let removed = before.after(NAMED, &staged([leaves(4)]), |node| node == NodeId(4));
        let next = removed.expect("it makes a layout").expect("it is another one");
        assert_eq!((next.parts().gone.as_slice(), next.has(NodeId(4))), (&[NodeId(4)][..], false));
        let again = next.after(NAMED, &staged([joins(4, None)]), |_| false);
        assert_eq!(again.expect("a wish that is passed over"), None);
        let waits = awaited(&before, &next, &Staged::default());
        assert_eq!(waits, [1, 2, 3].map(NodeId).into());
    }

    #[test]
    fn one_that_joins_moves_its_share_and_fewer_nodes_have_fewer_copies() {
        let before = first(3);
        let next = after(&before, [joins(4, None)]);
        let moves = next.moves_since(&before);
        assert!(moves.iter().all(|one| one.to == NodeId(4)), "{moves:?}");
        assert_eq!(moves.len(), 64 * 3 / 4, "its share of the slots, and no more");
        let two = after(&after(&before, [leaves(1)]), [joins(5, None)]);
        assert_eq!(two.groups()[0].quorums.n, 3, "as many as were wanted come back");
    }

    #[test]
    fn what_makes_no_layout_is_told_and_what_changes_nothing_makes_none() {
        let layout = first(2);
        let made = |wishes: Vec<(Subject, Wish)>| layout.after(NAMED, &staged(wishes), |_| false);
        assert_eq!(made(vec![joins(1, None)]), Ok(None));
        assert!(made(vec![leaves(1), leaves(2)]).is_err_and(|why| why.contains("at least one")));
        let twin = Role { name: "n1".to_owned(), ..role(9) };
        let wish = Wish::Role { role: twin, replaces: None, by_itself: true };
        let why = made(vec![(Subject::Node(NodeId(9)), wish)]).expect_err("two of one name");
        assert!(why.contains("two nodes have the name n1"), "{why}");
        for old in [1, 2] {
            let why = made(vec![joins(2, Some(old))]).expect_err("a member takes nobody's place");
            assert!(why.contains("in the layout already"), "{why}");
        }
    }

    #[test]
    fn a_group_leaves_after_its_last_keyspace_and_there_may_be_any_number_in_a_clusters_life() {
        let make = |name: &str, (n, r): (u8, u8)| {
            let quorums = Quorums { n, r, w: n };
            let definition = Definition {
                quorums,
                policy: Policy::Newest,
                level: Level::Quorum,
                ttl_ms: 0,
                sloppy: false,
            };
            (Subject::Keyspace(name.to_owned()), Wish::Keyspace(definition))
        };
        let drops = |name: &str| (Subject::Keyspace(name.to_owned()), Wish::Dropped);
        let mut layout = first(3);
        let mut ids = BTreeSet::from([GroupId::FIRST]);
        let all = (1..=REPLICAS_MAX as u8).flat_map(|n| (1..=n).map(move |r| (n, r)));
        for quorums in all {
            layout = after(&layout, [make("a", quorums)]);
            let group = layout.keyspace("a").map(|keyspace| keyspace.group).expect("it was made");
            assert!(ids.insert(group), "no id is used again");
            assert_eq!(layout.groups().len(), 2, "the one before has left");
            layout = after(&layout, [drops("a")]);
            assert!(layout.group(group).is_some(), "what is in flight may be about its keys");
        }
        assert_eq!(after(&layout, [joins(4, None)]).groups().len(), 1);
        assert_eq!(layout.after(NAMED, &staged([]), |_| false), Ok(None), "alone it makes none");
        let many: Vec<String> = (1..GROUPS_MAX).map(|n| format!("k{n}")).collect();
        let of = |n: usize| (REPLICAS_MAX as u8 - (n / 12) as u8, 1 + (n % 12).min(9) as u8);
        let full = many.iter().enumerate().map(|(n, name)| make(name, of(n)));
        let full = after(&layout, full);
        let open: BTreeSet<GroupId> = full.used_groups();
        assert_eq!(full.groups().len(), open.len(), "none is idle: {open:?}");
    }

    #[test]
    fn an_id_of_a_keyspace_is_used_once_and_its_group_has_owners_of_its_own() {
        let make = |n| {
            let quorums = Quorums { n, r: 1, w: 1 };
            let definition = Definition {
                quorums,
                policy: Policy::Siblings,
                level: Level::One,
                ttl_ms: 60_000,
                sloppy: false,
            };
            (Subject::Keyspace("k".to_owned()), Wish::Keyspace(definition))
        };
        let drops = (Subject::Keyspace("k".to_owned()), Wish::Dropped);
        let made = after(&first(3), [make(1)]);
        let keyspace = made.keyspace("k").expect("it was made");
        assert_eq!((keyspace.id, keyspace.group), (KeyspaceId(2), GroupId(2)));
        assert_eq!(made.group(GroupId(2)).map(|group| group.owners.len()), Some(64));
        let gone = after(&made, [drops]);
        assert!(gone.keyspace("k").is_none() && gone.has_dropped(KeyspaceId(2)));
        assert!(!gone.has_dropped(KeyspaceId(1)) && !gone.has_dropped(KeyspaceId(3)));
        let again = after(&gone, [make(1)]);
        let made = again.keyspace("k").map(|keyspace| (keyspace.id, keyspace.group));
        assert_eq!(made, Some((KeyspaceId(3), GroupId(3))), "of the same n, R and W");
        let other = again.after(NAMED, &staged([make(2)]), |_| false);
        assert!(other.is_err_and(|why| why.contains("keeps its n, R and W")));
        let default = (Subject::Keyspace(DEFAULT.to_owned()), Wish::Dropped);
        assert!(again.after(NAMED, &staged([default]), |_| false).is_err());
    }
}
