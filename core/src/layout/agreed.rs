//! One version of the layout: what all nodes agree on before any of them serves a key.
//!
//! Invariants: roles are sorted by node; every partition has `quorums.n` distinct owners; the effective n, R and W
//! are stored here and never computed from who happens to be reachable
//! (<https://github.com/basho/riak_kv/issues/388>); two layouts with equal digests are equal.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{NODES_MAX, PARTITIONS_MAX, REPLICAS_MAX};
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

/// An immutable layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    version: LayoutVersion,
    partitions: u16,
    wanted: Quorums,
    quorums: Quorums,
    roles: Vec<Role>,
    keyspaces: Vec<Keyspace>,
    /// `partitions * n` indices into `roles`: the owners of partition 0, then of partition 1, and so on.
    owners: Vec<u16>,
}

/// The fields of a layout whose invariants nobody has checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutParts {
    /// The version.
    pub version: LayoutVersion,
    /// The number of partitions.
    pub partitions: u16,
    /// The n, R and W that were asked for.
    pub wanted: Quorums,
    /// The effective n, R and W.
    pub quorums: Quorums,
    /// The nodes.
    pub roles: Vec<Role>,
    /// The keyspaces.
    pub keyspaces: Vec<Keyspace>,
    /// `partitions * n` indices into `roles`.
    pub owners: Vec<u16>,
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
        let version = LayoutVersion(1);
        Layout { version, partitions, wanted, quorums, roles, keyspaces, owners }
    }

    /// A layout from outside; `None` unless it keeps the invariants.
    #[must_use]
    pub fn from_parts(parts: LayoutParts) -> Option<Layout> {
        let LayoutParts { version, partitions, wanted, quorums, roles, keyspaces, owners } = parts;
        let layout = Layout { version, partitions, wanted, quorums, roles, keyspaces, owners };
        layout.is_sound().then_some(layout)
    }

    /// Everything in this layout, to be encoded.
    #[must_use]
    pub fn to_parts(&self) -> LayoutParts {
        LayoutParts {
            version: self.version,
            partitions: self.partitions,
            wanted: self.wanted,
            quorums: self.quorums,
            roles: self.roles.clone(),
            keyspaces: self.keyspaces.clone(),
            owners: self.owners.clone(),
        }
    }

    fn is_sound(&self) -> bool {
        let Quorums { n, r, w } = self.quorums;
        n >= 1
            && (1..=n).contains(&r)
            && (1..=n).contains(&w)
            && usize::from(n) <= self.roles.len().min(REPLICAS_MAX)
            && self.roles.len() <= NODES_MAX
            && self.roles.windows(2).all(|pair| pair[0].node < pair[1].node)
            && self.partitions.is_power_of_two()
            && self.partitions <= PARTITIONS_MAX
            && self.has_sound_keyspaces()
            && self.has_sound_owners()
    }

    fn has_sound_keyspaces(&self) -> bool {
        let ids: BTreeSet<KeyspaceId> = self.keyspaces.iter().map(|one| one.id).collect();
        let names: BTreeSet<&str> = self.keyspaces.iter().map(|one| one.name.as_str()).collect();
        ids.len() == self.keyspaces.len() && names.len() == self.keyspaces.len()
    }

    fn has_sound_owners(&self) -> bool {
        let n = usize::from(self.quorums.n);
        self.owners.len() == usize::from(self.partitions) * n
            && self.owners.chunks(n).all(|owners| {
                owners.iter().all(|&at| usize::from(at) < self.roles.len())
                    && (1..n).all(|at| !owners[..at].contains(&owners[at]))
            })
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> LayoutVersion {
        self.version
    }

    /// The number of partitions.
    #[must_use]
    pub const fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The effective n, R and W.
    #[must_use]
    pub const fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The n, R and W that were asked for.
    #[must_use]
    pub const fn wanted(&self) -> Quorums {
        self.wanted
    }

    /// The nodes, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// The keyspaces.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// The keyspace of this name.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    /// The partition a token lies in.
    #[must_use]
    pub const fn partition(&self, token: Token) -> PartitionId {
        keyspace::partition(token, self.partitions)
    }

    /// The unit that a token of one of its keyspaces lies in. There is one group so far.
    #[must_use]
    pub const fn unit(&self, token: Token) -> Unit {
        Unit { group: GroupId(0), partition: self.partition(token) }
    }

    /// The owners of a partition: its primaries, in order of preference.
    pub fn primaries(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        let n = usize::from(self.quorums.n);
        let from = usize::from(partition.0) * n;
        self.owners[from..from + n].iter().map(|&at| self.roles[usize::from(at)].node)
    }

    /// Whether `node` is one of the owners of a partition.
    #[must_use]
    pub fn is_primary(&self, node: NodeId, partition: PartitionId) -> bool {
        self.primaries(partition).any(|primary| primary == node)
    }

    /// Whether `node` has a role.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.roles.binary_search_by_key(&node, |role| role.node).is_ok()
    }

    /// The name of this layout in messages. Hashes the whole layout: compute it once.
    #[must_use]
    pub fn reference(&self, encoded: &[u8]) -> LayoutRef {
        let hash = Sha256::digest(encoded);
        let digest = u128::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"));
        LayoutRef { version: self.version, digest }
    }
}
