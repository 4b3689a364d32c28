//! One version of the layout: what all nodes agree on before any of them serves a key.
//!
//! Keyspaces of equal N belong to one group, which has its own quorums and owners.
//!
//! Invariants: roles are sorted by node and groups by id; every partition of a group has `quorums.n` distinct owners; the group of
//! every keyspace is there; the effective n, R and W are stored here and never computed from who happens to be reachable
//! (<https://github.com/basho/riak_kv/issues/388>); two layouts with equal digests are equal.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{GROUPS_MAX, NODES_MAX, PARTITIONS_MAX, REMOVED_MAX, REPLICAS_MAX};
use crate::id::{GroupId, KeyspaceId, LayoutVersion, NodeId, PartitionId, Token, Unit};
use crate::layout::keyspace::{self, Keyspace};
use crate::layout::placement;

/// One node's part in a layout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Role {
    /// The node.
    pub node: NodeId,
    /// Its label.
    pub name: String,
    /// Its share of the data, relative to the others'; at least 1.
    pub weight: u32,
    /// Its failure domain.
    pub zone: String,
}

/// How many replicas a key has and how many must take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Quorums {
    /// Replicas of each key.
    pub n: u8,
    /// Replicas that must answer a read or a query round.
    pub r: u8,
    /// Replicas that must hold a write.
    pub w: u8,
}

impl Quorums {
    /// What is possible with `nodes` nodes of what was wanted. With N nodes or more that is all of it: who asks for
    /// W holders gets no fewer. With fewer nodes n = `nodes`, R' = min(R, majority), and W' likewise, but raised where it
    /// must be so that R' + W' > n still holds when R + W > N did.
    #[must_use]
    pub fn effective(self, nodes: usize) -> Quorums {
        let n = usize::from(self.n).min(nodes).clamp(1, REPLICAS_MAX) as u8;
        if n == self.n {
            return Quorums { n, r: self.r.clamp(1, n), w: self.w.clamp(1, n) };
        }
        let majority = n / 2 + 1;
        let r = self.r.min(majority).max(1);
        let strict = u16::from(self.r) + u16::from(self.w) > u16::from(self.n);
        let at_least = if strict { n + 1 - r } else { 1 };
        Quorums { n, r, w: self.w.min(majority).max(at_least).min(n) }
    }
}

/// Names a layout in messages: a version, and which of the proposals for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct LayoutRef {
    /// The version.
    pub version: LayoutVersion,
    /// The first 16 bytes of the SHA-256 of its canonical encoding.
    pub digest: u128,
}

/// The quorums of a group, and who owns its keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// The n, R and W that were asked for.
    pub wanted: Quorums,
    /// The effective n, R and W.
    pub quorums: Quorums,
    /// `partitions * n` indices into the roles: the owners of partition 0, then of partition 1, and so on.
    pub owners: Vec<u16>,
}

impl Group {
    /// The owners of one partition, as indices into the roles.
    #[must_use]
    pub fn owners_of(&self, partition: PartitionId) -> &[u16] {
        let n = usize::from(self.quorums.n);
        let from = usize::from(partition.0) * n;
        &self.owners[from..from + n]
    }

    fn is_sound(&self, partitions: u16, roles: usize) -> bool {
        let Quorums { n, r, w } = self.quorums;
        let size = usize::from(n);
        n >= 1
            && (1..=n).contains(&r)
            && (1..=n).contains(&w)
            && size <= roles.min(REPLICAS_MAX)
            && self.owners.len() == usize::from(partitions) * size
            && self.owners.chunks(size).all(|owners| {
                owners.iter().all(|&at| usize::from(at) < roles)
                    && (1..size).all(|at| !owners[..at].contains(&owners[at]))
            })
    }
}

/// An immutable layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout(LayoutParts);

/// The fields of a layout, whose invariants nobody may have checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutParts {
    /// The version.
    pub version: LayoutVersion,
    /// The number of partitions.
    pub partitions: u16,
    /// The nodes.
    pub roles: Vec<Role>,
    /// The keyspaces.
    pub keyspaces: Vec<Keyspace>,
    /// The groups of keyspaces.
    pub groups: Vec<Group>,
    /// The digest of the layout before it; 0 in the first.
    pub previous: u128,
    /// The digest of the cluster's first layout: the name of the cluster, whatever people call it; 0 in the first itself.
    pub founding: u128,
    /// Nodes that nobody waits for when this layout takes the place of the one before: replaced, or dead when it was made.
    pub gone: Vec<NodeId>,
    /// Nodes that had a role once and lost it: they get none again. The latest `REMOVED_MAX`.
    pub removed: Vec<NodeId>,
    /// The highest id that a keyspace has had: ids are not used again.
    pub last_keyspace: KeyspaceId,
}

impl LayoutParts {
    /// Of a layout 1 with a single group, that follows none.
    #[must_use]
    pub fn alone(
        partitions: u16,
        roles: Vec<Role>,
        keyspaces: Vec<Keyspace>,
        group: Group,
    ) -> LayoutParts {
        LayoutParts {
            version: LayoutVersion(1),
            partitions,
            last_keyspace: keyspace::highest_id(&keyspaces),
            roles,
            keyspaces,
            groups: vec![group],
            previous: 0,
            founding: 0,
            gone: Vec::new(),
            removed: Vec::new(),
        }
    }
}

impl Layout {
    /// The first layout of a cluster: its roles, in any order, one for each node; the quorums wanted; and keyspaces,
    /// each with an id and a name of its own.
    #[must_use]
    pub fn first(
        partitions: u16,
        wanted: Quorums,
        mut roles: Vec<Role>,
        keyspaces: Vec<Keyspace>,
    ) -> Layout {
        assert!(partitions.is_power_of_two(), "partitions are cut by the token's top bits");
        assert!(!roles.is_empty(), "a layout has a node");
        roles.sort_by_key(|role| role.node);
        let quorums = wanted.effective(roles.len());
        let owners = placement::assign(&roles, quorums.n, partitions, None);
        let group = Group { id: GroupId::FIRST, wanted, quorums, owners };
        Layout(LayoutParts::alone(partitions, roles, keyspaces, group))
    }

    /// A layout from outside; `None` unless it keeps the invariants.
    #[must_use]
    pub fn from_parts(parts: LayoutParts) -> Option<Layout> {
        let layout = Layout(parts);
        layout.is_sound().then_some(layout)
    }

    /// Everything in this layout.
    #[must_use]
    pub const fn parts(&self) -> &LayoutParts {
        &self.0
    }

    fn is_sound(&self) -> bool {
        let LayoutParts { partitions, roles, groups, .. } = &self.0;
        roles.len() <= NODES_MAX
            && roles.windows(2).all(|pair| pair[0].node < pair[1].node)
            && partitions.is_power_of_two()
            && *partitions <= PARTITIONS_MAX
            && (1..=GROUPS_MAX).contains(&groups.len())
            && groups.windows(2).all(|pair| pair[0].id < pair[1].id)
            && groups.iter().all(|group| group.is_sound(*partitions, roles.len()))
            && self.has_sound_keyspaces()
            && self.has_sound_past()
    }

    fn has_sound_past(&self) -> bool {
        let LayoutParts { version, previous, founding, gone, removed, roles, .. } = &self.0;
        let is_first = version.0 == 1;
        (1..u64::MAX).contains(&version.0)
            && (*previous == 0) == is_first
            && (*founding == 0) == is_first
            && gone.len() <= NODES_MAX
            && removed.len() <= REMOVED_MAX
            && removed.iter().all(|node| roles.iter().all(|role| role.node != *node))
    }

    fn has_sound_keyspaces(&self) -> bool {
        let keyspaces = &self.0.keyspaces;
        let ids: BTreeSet<KeyspaceId> = keyspaces.iter().map(|one| one.id).collect();
        let names: BTreeSet<&str> = keyspaces.iter().map(|one| one.name.as_str()).collect();
        ids.len() == keyspaces.len()
            && ids.iter().all(|id| *id <= self.0.last_keyspace)
            && names.len() == keyspaces.len()
            && keyspaces.iter().all(|one| self.group(one.group).is_some())
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> LayoutVersion {
        self.0.version
    }

    /// The number of partitions.
    #[must_use]
    pub const fn partitions(&self) -> u16 {
        self.0.partitions
    }

    /// The groups, sorted by id; at least one.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.0.groups
    }

    /// The group of this id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.0.groups.iter().find(|group| group.id == id)
    }

    /// The nodes, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.0.roles
    }

    /// The keyspaces.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.0.keyspaces
    }

    /// The keyspace of this name.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<&Keyspace> {
        self.0.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    /// Whether a keyspace of this id is there, and a node that is no primary may take its writes at level `one`.
    #[must_use]
    pub fn is_sloppy(&self, keyspace: KeyspaceId) -> bool {
        self.keyspaces().iter().any(|one| one.id == keyspace && one.sloppy)
    }

    /// Whether a keyspace of this id was there and is no more: ids are not used again.
    #[must_use]
    pub fn has_dropped(&self, keyspace: KeyspaceId) -> bool {
        let is_it = |one: &Keyspace| one.id == keyspace;
        keyspace <= self.0.last_keyspace && !self.0.keyspaces.iter().any(is_it)
    }

    /// The groups that have a keyspace. The others are empty, and stay so.
    #[must_use]
    pub fn used_groups(&self) -> BTreeSet<GroupId> {
        self.0.keyspaces.iter().map(|one| one.group).collect()
    }

    /// The partition a token lies in.
    #[must_use]
    pub const fn partition(&self, token: Token) -> PartitionId {
        keyspace::partition(token, self.0.partitions)
    }

    /// The unit that a key of this token lies in; `None` when there is no such keyspace.
    #[must_use]
    pub fn unit(&self, keyspace: KeyspaceId, token: Token) -> Option<Unit> {
        let found = self.0.keyspaces.iter().find(|one| one.id == keyspace)?;
        Some(Unit { group: found.group, partition: self.partition(token) })
    }

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        let partitions = || (0..self.0.partitions).map(PartitionId);
        self.0.groups.iter().flat_map(move |group| {
            partitions().map(|partition| Unit { group: group.id, partition })
        })
    }

    /// The owners of a unit: its primaries, in order of preference; none when its group is not in this layout.
    pub fn primaries(&self, unit: Unit) -> impl Iterator<Item = NodeId> + '_ {
        let group = self.group(unit.group);
        let owners = group.map_or(&[][..], |group| group.owners_of(unit.partition));
        owners.iter().map(|&at| self.0.roles[usize::from(at)].node)
    }

    /// Whether `node` is one of the owners of a unit.
    #[must_use]
    pub fn is_primary(&self, node: NodeId, unit: Unit) -> bool {
        self.primaries(unit).any(|primary| primary == node)
    }

    /// Whether `node` has a role.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.0.roles.binary_search_by_key(&node, |role| role.node).is_ok()
    }

    /// The name of the cluster whose layout this is: the digest of its first layout. `reference`: this one's own name.
    #[must_use]
    pub const fn founding(&self, reference: LayoutRef) -> u128 {
        if self.0.version.0 == 1 { reference.digest } else { self.0.founding }
    }

    /// The name of this layout in messages. Hashes the whole layout: compute it once.
    #[must_use]
    pub fn reference(&self, encoded: &[u8]) -> LayoutRef {
        let hash = Sha256::digest(encoded);
        let digest = u128::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"));
        LayoutRef { version: self.0.version, digest }
    }
}
