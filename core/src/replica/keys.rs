//! The engine keys of a replica's records, and those of its records that are plain numbers.
//!
//! `0 | name` is a record of the node's own, `1 | group u16 | token u64 | keyspace u32 | key` a client's key (integers big endian),
//! so that a partition is one contiguous range.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::engine::Change;
use crate::error::{Error, Result};
use crate::id::{GroupId, KeyspaceId, PartitionId, Token, Unit};
use crate::version::hlc::Hlc;
use crate::wire::key::KeyRef;

pub(super) const OWN_KIND: u8 = 0;
const DATA_KIND: u8 = 1;
/// Where the records of clients' keys begin.
pub const DATA_START: &[u8] = &[DATA_KIND];
const DATA_PREFIX_BYTES: usize = 1 + 2 + 8 + 4;
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
    use crate::layout::keyspace::partition;

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
