//! A hash tree over the keys of one unit: equal trees, equal copies; unequal ones tell in which 1,024th of the keys to look.
//!
//! Each key is an entry: a hash of its name and of the digest of its state. The digest is that of the *logical* state: dots, times,
//! digests of values, deletions. No raw bytes go into it and no present time, so two replicas that store one state differently have
//! one tree. A leaf is the XOR of its entries, a node the XOR of what is below it; so a write changes a tree by `old ^ new`, whatever
//! else is in it and in whatever order, and a deletion is an entry like any other.
//!
//! Which leaf a key belongs to says a second hash. The token would not do: the keys of a unit have its first bits in common.
//!
//! Invariants: a tree is the XOR of the entries of its keys, in any order; the empty state is no entry. Nobody is kept from making
//! two entries equal who may choose 2^32 values; what that hides is found by reads.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hash::Gathered;
use crate::version::dvv::VersionSet;
use crate::wire::key::KeyRef;

/// Which hashes these are. Trees of different formats are not compared.
pub const FORMAT: u8 = 1;
/// The children of a node.
pub const WIDTH: usize = 32;
/// The leaves of a tree: a root, `WIDTH` nodes, and so many below each.
pub const LEAVES: usize = WIDTH * WIDTH;

/// What keeps the hash that chooses a leaf apart from the one that is summed up in it.
const LEAF_SEED: u64 = 0x6c65_6166_0000_0000 | FORMAT as u64;
const ENTRY_SEED: u64 = 0x656e_7472_7900_0000 | FORMAT as u64;

const _: () = assert!(WIDTH == u32::BITS as usize, "a set of nodes is a number of 32 bits");
const _: () = assert!(LEAVES.is_power_of_two() && LEAVES <= u16::MAX as usize);

/// The leaf of a key.
#[must_use]
pub fn leaf_of(key: &KeyRef) -> u16 {
    (hash(LEAF_SEED, key, 0) >> (u64::BITS - LEAVES.trailing_zeros())) as u16
}

/// What a key in this state adds to its leaf.
#[must_use]
pub fn entry(key: &KeyRef, state: &VersionSet) -> u64 {
    if state.is_empty() { 0 } else { entry_of(key, state.digest()) }
}

/// What a key whose state has this digest adds to its leaf; it is not the empty state.
#[must_use]
pub fn entry_of(key: &KeyRef, digest: u64) -> u64 {
    hash(ENTRY_SEED, key, digest)
}

fn hash(seed: u64, key: &KeyRef, digest: u64) -> u64 {
    let mut bytes = Gathered::new();
    bytes.push(key.keyspace.0.to_le_bytes());
    bytes.push(digest.to_le_bytes());
    bytes.extend(&key.key);
    xxh3_64_with_seed(bytes.bytes(), seed)
}

/// One tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    leaves: Box<[u64]>,
    /// The sum of all leaves. The nodes between are summed up when they are asked for: every write changes a tree, and few compare it.
    root: u64,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { leaves: vec![0; LEAVES].into(), root: 0 }
    }
}

impl Tree {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert_eq!(self.root, sum(&self.leaves), "the root is the sum of all");
    }

    /// The entry of a key in this leaf has changed: `old ^ new`.
    pub fn change(&mut self, leaf: u16, delta: u64) {
        let leaf = usize::from(leaf) % LEAVES;
        self.leaves[leaf] ^= delta;
        self.root ^= delta;
    }

    /// The sum of all entries.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// The nodes below the root.
    #[must_use]
    pub fn inner(&self) -> [u64; WIDTH] {
        std::array::from_fn(|node| sum(&self.leaves[node * WIDTH..][..WIDTH]))
    }

    /// All leaves.
    #[must_use]
    pub fn leaves(&self) -> &[u64] {
        &self.leaves
    }

    /// The leaves below those nodes whose bits are set, in order.
    pub fn below(&self, inner: u32) -> impl Iterator<Item = (u16, u64)> {
        leaves_below(inner).map(|leaf| (leaf, self.leaves[usize::from(leaf)]))
    }
}

fn sum(hashes: &[u64]) -> u64 {
    hashes.iter().fold(0, |sum, hash| sum ^ hash)
}

/// The leaves below those nodes whose bits are set, in order.
pub fn leaves_below(inner: u32) -> impl Iterator<Item = u16> {
    let is_meant = move |leaf: &u16| inner & (1 << (usize::from(*leaf) / WIDTH)) != 0;
    (0..LEAVES as u16).filter(is_meant)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::id::{ActorId, KeyspaceId, RequestId};
    use crate::layout::keyspace::partition;
    use crate::version::dvv::{Version, VersionVector};
    use crate::version::hlc::Hlc;

    fn key(n: u32) -> KeyRef {
        KeyRef::new(KeyspaceId(1 + n % 2), Bytes::from(n.to_string()))
    }

    fn state(n: u8) -> VersionSet {
        let mut state = VersionSet::default();
        for n in 0..n {
            let value = Bytes::from(vec![n; 3]);
            let version = match n % 3 {
                0 => Version::tombstone(Hlc(9), RequestId(1)),
                _ => Version::value(Hlc(9), RequestId(1), Bytes::new(), value),
            };
            state.put(&VersionVector::default(), ActorId(u64::from(n)), version);
        }
        state
    }

    /// A tree made of what is there.
    fn built<'a>(all: impl Iterator<Item = (&'a u32, &'a u8)>) -> Tree {
        let mut tree = Tree::default();
        for (&n, &of) in all {
            tree.change(leaf_of(&key(n)), entry(&key(n), &state(of)));
        }
        tree.invariants();
        for (inner, leaves) in tree.inner().iter().zip(tree.leaves.chunks(WIDTH)) {
            assert_eq!(*inner, sum(leaves), "a node is the sum of its leaves");
        }
        tree
    }

    proptest! {
        /// Whatever was written in whatever order: deltas lead to the tree that is built of what is there in the end, and the
        /// order does not matter.
        #[test]
        fn deltas_lead_to_the_tree_of_what_is_there_in_any_order(
            writes in vec((0u32..40, 0u8..5), 0..120)
        ) {
            let (mut tree, mut there) = (Tree::default(), BTreeMap::new());
            for (n, of) in writes {
                let was = there.insert(n, of).unwrap_or(0);
                let delta = entry(&key(n), &state(was)) ^ entry(&key(n), &state(of));
                tree.change(leaf_of(&key(n)), delta);
            }
            prop_assert_eq!(&tree, &built(there.iter()));
            prop_assert_eq!(&tree, &built(there.iter().rev()));
        }

        /// Trees that differ in one key differ in its leaf, in the node above it and in the root, and nowhere else.
        #[test]
        fn one_key_that_differs_shows_in_one_leaf(n in 0u32..1000, one in 0u8..4, other in 0u8..4) {
            let base: BTreeMap<u32, u8> = (0..1000).map(|n| (n, (n % 4) as u8)).collect();
            let with = |of: u8| {
                let mut all = base.clone();
                all.insert(n, of);
                built(all.iter())
            };
            let (one, other, leaf) = (with(one), with(other), leaf_of(&key(n)));
            let unequal = (0..LEAVES as u16).filter(|&at| {
                one.leaves()[usize::from(at)] != other.leaves()[usize::from(at)]
            });
            let unequal: Vec<u16> = unequal.collect();
            prop_assert_eq!(one == other, unequal.is_empty());
            prop_assert_eq!(one.root() == other.root(), unequal.is_empty());
            prop_assert!(unequal.is_empty() || unequal == [leaf]);
            let inner = (0..WIDTH).filter(|&at| one.inner()[at] != other.inner()[at]);
            let above = unequal.iter().map(|leaf| usize::from(*leaf) / WIDTH);
            prop_assert_eq!(inner.collect::<Vec<_>>(), above.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_deletion_is_an_entry_and_what_was_never_written_is_none() {
        let (none, deleted) = (state(0), state(1));
        assert_eq!(entry(&key(1), &none), 0);
        assert_ne!(entry(&key(1), &deleted), 0);
        assert_ne!(entry(&key(1), &deleted), entry(&key(3), &deleted), "a key's name counts");
    }

    /// Else the keys of a unit, whose tokens begin alike, would share a few leaves.
    #[test]
    fn the_keys_of_one_partition_lie_in_all_leaves() {
        let mut keys = vec![0_u32; LEAVES];
        let here = (0..200_000).map(key).filter(|key| partition(key.token(), 16).0 == 3);
        here.for_each(|key| keys[usize::from(leaf_of(&key))] += 1);
        let (least, most) = (keys.iter().min(), keys.iter().max());
        assert!(least > Some(&0) && most < Some(&40), "{least:?} to {most:?} of about 12");
    }

    /// Trees are compared between nodes of different builds.
    #[test]
    fn the_hashes_of_a_format_never_change() {
        let told = (leaf_of(&key(7)), entry_of(&key(7), 5));
        assert_eq!(told, (285, 6_561_833_133_503_796_538), "another hash is another format");
    }
}
