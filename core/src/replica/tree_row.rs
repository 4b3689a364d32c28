//! The row in which a hash tree is stored, as bytes.
//!
//! | where | what |
//! |---|---|
//! | key | `0 \| 7f`, group u16, partition u16: behind all other records of the node's own, so that who reads those does not meet it |
//! | head | format of the row u8 (1), format of the hashes u8, number of partitions u16, hash u64 of the unit and the body |
//! | body | which leaves are not 0, as 1,024 bits, the lowest of each byte first; then those leaves, u64 each |
//!
//! Numbers are big-endian. Which place in the log the tree stands for is not in it: that is the write which has stored the row.
//! What does not fit is not a tree, whatever its engine says of its checksum.

use bytes::{Buf, BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::Change;
use crate::id::{GroupId, PartitionId, Unit};
use crate::repair::merkle::{self, LEAVES, Tree};

/// What the engine keys of such rows begin with.
pub const TREES: &[u8] = b"\0\x7f";
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 1 + 2 + 8;
const BITS_BYTES: usize = LEAVES / 8;

/// The engine key of a unit's row.
#[must_use]
pub fn row_key(unit: Unit) -> Bytes {
    let Unit { group, partition } = unit;
    [TREES, &group.0.to_be_bytes(), &partition.0.to_be_bytes()].concat().into()
}

/// The unit whose row has this engine key.
#[must_use]
pub fn parse_row_key(key: &[u8]) -> Option<Unit> {
    let [a, b, c, d]: [u8; 4] = key.strip_prefix(TREES)?.try_into().ok()?;
    let group = GroupId(u16::from_be_bytes([a, b]));
    Some(Unit { group, partition: PartitionId(u16::from_be_bytes([c, d])) })
}

/// What takes the row of a unit away.
#[must_use]
pub fn removal(unit: Unit) -> Change {
    Change::delete(row_key(unit))
}

/// What stores the tree of a unit, when the token space is cut into so many partitions.
#[must_use]
pub fn row(unit: Unit, partitions: u16, tree: &Tree) -> Change {
    let (mut bits, mut leaves) = (vec![0; BITS_BYTES], Vec::new());
    for (at, &leaf) in tree.leaves().iter().enumerate().filter(|(_, leaf)| **leaf != 0) {
        bits[at / 8] |= 1 << (at % 8);
        leaves.put_u64(leaf);
    }
    bits.extend(leaves);
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.put_u8(FORMAT);
    head.put_u8(merkle::FORMAT);
    head.put_u16(partitions);
    head.put_u64(hash(unit, &bits));
    Change::put(row_key(unit), head.into(), [Bytes::from(bits)].into_iter().collect())
}

/// Whether a row with this head may be read here: its bytes and its hashes are those of this build.
#[must_use]
pub fn is_of_this_build(head: &[u8]) -> bool {
    head.len() == HEAD_BYTES && head.starts_with(&[FORMAT, merkle::FORMAT])
}

/// The leaves in the row of a unit that are not 0, each with its place; `None` when it is not such a row.
#[must_use]
pub fn leaves(
    unit: Unit,
    partitions: u16,
    mut head: Bytes,
    body: &[u8],
) -> Option<Vec<(u16, u64)>> {
    if !is_of_this_build(&head) {
        return None;
    }
    head.advance(2);
    let (bits, mut numbers) = body.split_at_checked(BITS_BYTES)?;
    if head.get_u16() != partitions || head.get_u64() != hash(unit, body) {
        return None;
    }
    let mut leaves = Vec::new();
    for leaf in (0..LEAVES).filter(|leaf| bits[leaf / 8] & (1 << (leaf % 8)) != 0) {
        leaves.push((leaf as u16, numbers.try_get_u64().ok()?));
    }
    numbers.is_empty().then_some(leaves)
}

fn hash(unit: Unit, body: &[u8]) -> u64 {
    let seed = u64::from(unit.group.0) << 16 | u64::from(unit.partition.0);
    xxh3_64_with_seed(body, seed)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const UNIT: Unit = Unit { group: GroupId(3), partition: PartitionId(300) };

    fn tree(leaves: &[(u16, u64)]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|&(leaf, delta)| tree.change(leaf, delta));
        tree
    }

    fn parts(change: Change) -> (Bytes, Bytes, Vec<u8>) {
        let Change::Put { key, head, body, delta: 0 } = change else { panic!("a put") };
        (key, head, body.concat())
    }

    proptest! {
        #[test]
        fn a_tree_is_read_as_it_was_stored(all in vec((0u16..1024, 0u64..5), 0..600)) {
            let tree = tree(&all);
            let (key, head, body) = parts(row(UNIT, 512, &tree));
            prop_assert_eq!(parse_row_key(&key), Some(UNIT));
            let leaves = leaves(UNIT, 512, head, &body).expect("a row");
            prop_assert_eq!(self::tree(&leaves), tree);
        }

        #[test]
        fn what_was_changed_is_no_row(
            all in vec((0u16..1024, 1u64..), 0..40), at in 0usize.., bit in 0u8..8
        ) {
            let (_, head, mut body) = parts(row(UNIT, 512, &tree(&all)));
            let at = at % (head.len() + body.len());
            let mut rotten = head.to_vec();
            match rotten.get_mut(at) {
                Some(byte) => *byte ^= 1 << bit,
                None => body[at - head.len()] ^= 1 << bit,
            }
            prop_assert!(leaves(UNIT, 512, rotten.into(), &body).is_none(), "byte {}", at);
        }
    }

    #[test]
    fn what_was_cut_or_is_of_something_else_is_no_row() {
        let (key, head, body) = parts(row(UNIT, 512, &tree(&[(0, 1), (1023, 2)])));
        let is_row = |unit, partitions, head: &Bytes, body: &[u8]| {
            leaves(unit, partitions, head.clone(), body).is_some()
        };
        assert!(is_row(UNIT, 512, &head, &body));
        assert!((0..body.len()).all(|len| !is_row(UNIT, 512, &head, &body[..len])));
        assert!((0..head.len()).all(|len| !is_row(UNIT, 512, &head.slice(..len), &body)));
        assert!(!is_row(UNIT, 256, &head, &body), "of other partitions");
        assert!(!is_row(Unit::default(), 512, &head, &body), "of another unit");
        let newer = [&[FORMAT, merkle::FORMAT + 1], &head[2..]].concat();
        assert!(!is_row(UNIT, 512, &newer.into(), &body), "of other hashes");
        assert!((0..key.len()).all(|len| parse_row_key(&key[..len]).is_none()));
        assert!(parse_row_key(b"\0~").is_none() && parse_row_key(b"\x01\x7f1234").is_none());
    }
}
