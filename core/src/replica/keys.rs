//! The engine keys of a replica's records, and those of its records that are plain numbers.
//!
//! `0 | name` is a record of the node's own, `1 | group u16 | token u64 | keyspace u32 | key` a client's key (integers big endian),
//! so that a partition is one contiguous range. `0 | ~ | target u128 |` and what follows the 1 in a client's key is a hint: that
//! this key is owed to that node. Hints stand behind the other records of the node's own, all of one target together; behind them are
//! the rows of hash trees alone (`tree_row`).

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{ENGINE_KEY_BYTES_MAX, KEY_BYTES_MAX};
use crate::engine::Change;
use crate::error::{Error, Result};
use crate::id::{GroupId, KeyspaceId, NodeId, PartitionId, Token, Unit};
use crate::layout::keyspace::partition;
use crate::version::hlc::Hlc;
use crate::wire::key::KeyRef;

pub(super) const OWN_KIND: u8 = 0;
const DATA_KIND: u8 = 1;
/// Where the records of clients' keys begin.
pub const DATA_START: &[u8] = &[DATA_KIND];
const DATA_PREFIX_BYTES: usize = 1 + 2 + 8 + 4;
/// What the engine keys of hints begin with.
pub const HINTS: &[u8] = b"\0~";
const HINT_PREFIX_BYTES: usize = HINTS.len() + 16 + DATA_PREFIX_BYTES - 1;
const _: () = assert!(HINT_PREFIX_BYTES + KEY_BYTES_MAX <= ENGINE_KEY_BYTES_MAX);
/// The engine key of the time up to which the node has reserved readings for its hybrid clock; see `reservation`.
pub const CLOCK_KEY: &[u8] = b"\0clock";
/// How many keys show nothing because all their versions are deletions. In the batch of the write that changes it, so
/// that it is right after any crash; a write that changes it not costs nothing.
pub(super) const DELETED_KEY: &[u8] = b"\0deleted";

/// The engine key of a client's key, whose keyspace belongs to this group.
#[must_use]
pub fn data_key(group: GroupId, key: &KeyRef) -> Bytes {
    let Token(token) = key.token();
    let mut bytes = Vec::with_capacity(DATA_PREFIX_BYTES + key.key.len());
    bytes.push(DATA_KIND);
    bytes.extend_from_slice(&group.0.to_be_bytes());
    bytes.extend_from_slice(&token.to_be_bytes());
    bytes.extend_from_slice(&key.keyspace.0.to_be_bytes());
    bytes.extend_from_slice(&key.key);
    bytes.into()
}

/// The engine keys of a unit's records, when the token space is cut into so many partitions: from the first one up to the second,
/// which is not among them.
#[must_use]
pub fn unit_range(unit: Unit, partitions: u16) -> (Bytes, Bytes) {
    let start = |partition: u16| {
        let bits = partitions.trailing_zeros();
        let token = if bits == 0 { 0 } else { u64::from(partition) << (64 - bits) };
        [&[DATA_KIND][..], &unit.group.0.to_be_bytes(), &token.to_be_bytes()].concat()
    };
    let PartitionId(partition) = unit.partition;
    let end = match (partition + 1 < partitions, unit.group.0.checked_add(1)) {
        (true, _) => start(partition + 1),
        (false, Some(group)) => [&[DATA_KIND][..], &group.to_be_bytes()].concat(),
        (false, None) => vec![DATA_KIND + 1],
    };
    (start(partition).into(), end.into())
}

/// The client's key in an engine key; `None` for the node's own records.
#[must_use]
pub fn parse_data_key(bytes: &Bytes) -> Option<KeyRef> {
    if bytes.len() < DATA_PREFIX_BYTES || bytes[0] != DATA_KIND {
        return None;
    }
    let keyspace = bytes[11..DATA_PREFIX_BYTES].try_into().map(u32::from_be_bytes).ok()?;
    Some(KeyRef::new(KeyspaceId(keyspace), bytes.slice(DATA_PREFIX_BYTES..)))
}

/// The unit and the client's key in an engine key; `None` for the node's own records.
#[must_use]
pub fn parse_unit_key(bytes: &Bytes, partitions: u16) -> Option<(Unit, KeyRef)> {
    let (group, key) = (group_of(bytes)?, parse_data_key(bytes)?);
    Some((Unit { group, partition: partition(key.token(), partitions) }, key))
}

/// The group of a client's key, by its engine key; `None` for the node's own records.
#[must_use]
pub fn group_of(bytes: &Bytes) -> Option<GroupId> {
    let group = parse_data_key(bytes).and(bytes.get(1..3))?;
    Some(GroupId(u16::from_be_bytes(group.try_into().ok()?)))
}

/// The engine key of a hint: a key that is owed to a node.
#[must_use]
pub fn hint_key(target: NodeId, group: GroupId, key: &KeyRef) -> Bytes {
    let data = data_key(group, key);
    [HINTS, &target.0.to_be_bytes(), &data[1..]].concat().into()
}

/// The engine keys of the hints for a node of the keys of a unit: from the first one up to the second, which is not among them.
#[must_use]
pub fn hints_of_unit(target: NodeId, unit: Unit, partitions: u16) -> (Bytes, Bytes) {
    let (start, end) = unit_range(unit, partitions);
    let of = |data: &[u8]| Bytes::from([HINTS, &target.0.to_be_bytes(), data].concat());
    // Behind the last unit of all there is no other key of this target.
    let end = if end.len() > 1 { of(&end[1..]) } else { of(&[0xff; DATA_PREFIX_BYTES]) };
    (of(&start[1..]), end)
}

/// What a hint is about: the target, the group of the key's keyspace, and the key; `None` for anything else.
#[must_use]
pub fn parse_hint_key(bytes: &Bytes) -> Option<(NodeId, GroupId, KeyRef)> {
    let target = bytes.strip_prefix(HINTS)?.first_chunk::<16>()?;
    if bytes.len() < HINT_PREFIX_BYTES {
        return None;
    }
    let at = HINTS.len() + 16;
    let group = bytes[at..at + 2].try_into().map(u16::from_be_bytes).ok()?;
    let keyspace = bytes[at + 10..at + 14].try_into().map(u32::from_be_bytes).ok()?;
    // A copy: what keeps it for long does not keep a page of a scan.
    let key = Bytes::copy_from_slice(&bytes[HINT_PREFIX_BYTES..]);
    Some((
        NodeId(u128::from_be_bytes(*target)),
        GroupId(group),
        KeyRef::new(KeyspaceId(keyspace), key),
    ))
}

/// The engine keys of a target's hints: from the first one up to the second, which is not among them.
#[must_use]
pub fn hints_of(target: NodeId) -> (Bytes, Bytes) {
    let begin = |target: NodeId| Bytes::from([HINTS, &target.0.to_be_bytes()].concat());
    let end = match target.0.checked_add(1) {
        Some(next) => begin(NodeId(next)),
        None => Bytes::from_static(b"\0\x7f"),
    };
    (begin(target), end)
}

pub(super) fn number(key: &'static [u8], number: u64) -> Change {
    let head = Bytes::copy_from_slice(&number.to_be_bytes());
    Change::Put { key: Bytes::from_static(key), head, body: SmallVec::new(), delta: 0 }
}

/// What the record of `CLOCK_KEY` says.
pub fn reservation(head: &Bytes) -> Result<Hlc> {
    own_number(head).map(Hlc)
}

pub(super) fn own_number(head: &Bytes) -> Result<u64> {
    let bytes = head[..].try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| Error::Malformed("an own record is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_lies_in_the_range_of_the_unit_of_its_key_alone() {
        for partitions in [1, 2, 256] {
            for target in [0, 7, u128::MAX].map(NodeId) {
                for n in 0..64 {
                    let key = KeyRef::new(KeyspaceId(3), format!("key{n}").into());
                    let hint = hint_key(target, GroupId(9), &key);
                    let within = |group: u16, one: u16| {
                        let unit = Unit { group: GroupId(group), partition: PartitionId(one) };
                        let (start, end) = hints_of_unit(target, unit, partitions);
                        (start..end).contains(&hint)
                    };
                    let own = partition(key.token(), partitions).0;
                    let found = (0..partitions).filter(|&one| within(9, one));
                    assert_eq!(found.collect::<Vec<_>>(), [own], "of {partitions}");
                    assert!(!within(8, own) && !within(10, own));
                }
            }
        }
    }

    #[test]
    fn a_hint_says_what_is_owed_to_whom_and_lies_in_the_range_of_its_target_alone() {
        let targets = [0, 1, 7, u128::MAX - 1, u128::MAX].map(NodeId);
        for target in targets {
            for name in ["", "k", "a longer key"] {
                let key = KeyRef::new(KeyspaceId(3), name.into());
                let stored = hint_key(target, GroupId(9), &key);
                assert_eq!(parse_hint_key(&stored), Some((target, GroupId(9), key)));
                assert!(parse_hint_key(&stored.slice(..HINT_PREFIX_BYTES - 1)).is_none());
                let within = |of: &NodeId| {
                    let (from, to) = hints_of(*of);
                    from <= stored && stored < to
                };
                let found: Vec<NodeId> = targets.into_iter().filter(within).collect();
                assert_eq!(found, [target]);
            }
        }
        assert!(CLOCK_KEY < HINTS && DELETED_KEY < HINTS && &b"\0unit/"[..] < HINTS);
        assert!(parse_hint_key(&Bytes::from_static(CLOCK_KEY)).is_none());
    }

    #[test]
    fn a_key_lies_in_the_range_of_its_unit_and_in_no_other() {
        for partitions in [1, 2, 8, 256] {
            for group in [0, 1, u16::MAX].map(GroupId) {
                for n in 0..200_u32 {
                    let key = KeyRef::new(KeyspaceId(n % 3), Bytes::from(n.to_be_bytes().to_vec()));
                    let stored = data_key(group, &key);
                    let within = |at: u16| {
                        let unit = Unit { group, partition: PartitionId(at) };
                        let (from, to) = unit_range(unit, partitions);
                        from <= stored && stored < to
                    };
                    let found: Vec<u16> = (0..partitions).filter(|&at| within(at)).collect();
                    assert_eq!(found, [partition(key.token(), partitions).0]);
                }
            }
        }
    }
}
