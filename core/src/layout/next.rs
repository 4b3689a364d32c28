//! The layout that follows another: a pure function of that one, of what is staged, and of who is dead.
//!
//! Invariants: nothing moves but what must (`placement`); a node that lost its role gets none again, and no id of a keyspace is
//! used twice; whoever takes the place of another one owns what that one owned.
//! Left out: another n, R or W for a keyspace that is there, which would have to copy its keys: it is refused.

use std::collections::BTreeSet;

use super::agreed::{Group, Layout, LayoutParts, LayoutRef, Quorums, Role};
use super::keyspace::{DEFAULT, Keyspace};
use super::placement;
use super::staged::{Definition, Staged, Subject, Wish};
use crate::config::{GROUPS_MAX, KEYSPACES_MAX, NODES_MAX, REMOVED_MAX, REPLICAS_MAX};
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
                        && (keyspace.policy, keyspace.level) == (wanted.policy, wanted.level)
                })
            }
            (Subject::Keyspace(name), Wish::Dropped) => self.keyspace(name).is_none(),
            _ => true,
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
        if let Some(old) = replaces.filter(|old| parts.roles.iter().any(|role| role.node == *old)) {
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
        return Err(format!("keyspace {name}: n={n}, R={r}, W={w} is not possible"));
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
        (keyspace.policy, keyspace.level) = (wanted.policy, wanted.level);
        return Ok(());
    }
    if parts.keyspaces.len() >= KEYSPACES_MAX {
        return Err(format!("a cluster has at most {KEYSPACES_MAX} keyspaces: drop one first"));
    }
    let same = parts.groups.iter().find(|group| group.wanted == wanted.quorums);
    let group = match same {
        Some(group) => group.id,
        None if parts.groups.len() >= GROUPS_MAX => {
            return Err(format!(
                "a cluster has at most {GROUPS_MAX} different n, R and W: use those of another keyspace"
            ));
        }
        None => {
            let id = GroupId(parts.groups.last().map_or(0, |last| last.id.0 + 1));
            let quorums = wanted.quorums;
            parts.groups.push(Group { id, wanted: quorums, quorums, owners: Vec::new() });
            id
        }
    };
    let id = KeyspaceId(parts.last_keyspace.0.checked_add(1).ok_or("no id of a keyspace is left")?);
    parts.last_keyspace = id;
    let (policy, level) = (wanted.policy, wanted.level);
    parts.keyspaces.push(Keyspace { id, name: name.to_owned(), group, policy, level });
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
