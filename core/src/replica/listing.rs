//! Which keys of a range are here, and in which state: a bounded part of it, told by heads alone.
//!
//! A place in a range is an engine key of it. The order of places is that of tokens, and the same at every node.
//!
//! Invariants: no value is read; a record that cannot be read ends a part before it, and is an error at its beginning, never left
//! out: who lists a range would take it for absent.

use bytes::Bytes;

use super::is_deleted;
use super::keys::parse_data_key;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::version::hlc::Hlc;
use crate::version::outline::Outline;
use crate::wire::key::KeyRef;
use crate::wire::state::decode_head;

/// A key and what is here of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The key.
    pub key: KeyRef,
    /// The head of its record, as it is stored.
    pub head: Bytes,
    /// Its state without values.
    pub outline: Outline,
    /// The digest of its state.
    pub digest: u64,
    /// Whether all its versions are deletions.
    pub is_deleted: bool,
    /// The highest HLC of its versions.
    pub highest: Hlc,
    /// `VersionSet::dead_since`.
    pub dead_since: Option<Hlc>,
    /// How many bytes its values have together.
    pub bytes: u64,
}

/// A part of a range.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// The keys, in order.
    pub keys: Vec<Listed>,
    /// Where the next part begins; `None` at the end of the range.
    pub next: Option<Bytes>,
}

/// The keys from a place on up to another one: at most `keys_max`, and about `bytes_max` bytes of keys and heads. `Corrupt`: the
/// record at `from` cannot be read.
pub fn list(
    from: &[u8],
    to: &[u8],
    (keys_max, bytes_max): (usize, usize),
    engine: &mut dyn Engine,
) -> Result<Part> {
    let page = engine.scan_heads(from, keys_max, bytes_max)?;
    let mut part = Part { keys: Vec::new(), next: page.next.filter(|next| next[..] < *to) };
    for (place, record) in page.records {
        if place[..] >= *to {
            part.next = None;
            break;
        }
        // The node's own records stand before those of clients, and nothing behind them.
        let Some(key) = parse_data_key(&place) else {
            return Err(damage("its key is no client's"));
        };
        match decode_head(&record.head) {
            Ok((state, bytes)) => part.keys.push(Listed {
                key,
                digest: state.digest(),
                is_deleted: is_deleted(&state),
                highest: state.highest_hlc(),
                dead_since: state.dead_since(),
                outline: Outline::of(&state),
                head: record.head,
                bytes,
            }),
            Err(error) if part.keys.is_empty() => return Err(damage(&error.to_string())),
            Err(_) => {
                part.next = Some(place);
                break;
            }
        }
    }
    Ok(part)
}

fn damage(what: &str) -> Error {
    let what = format!("its versions are malformed: {what}");
    Error::corrupt("the key's record".to_owned(), 0, what)
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::engine::{Batch, Change, MemoryEngine};
    use crate::id::{ActorId, GroupId, KeyspaceId, RequestId, Unit};
    use crate::replica::keys::{data_key, unit_range};
    use crate::version::dvv::{Version, VersionSet, VersionVector};
    use crate::version::hlc::Hlc;
    use crate::wire::state::encode_state;

    fn state(n: u32) -> VersionSet {
        let mut state = VersionSet::default();
        let value = Bytes::from(vec![b'v'; n as usize]);
        let version = match n % 5 {
            0 => Version::tombstone(Hlc(9), RequestId(1)),
            _ => Version::value(Hlc(9), RequestId(1), Bytes::new(), value),
        };
        state.put(&VersionVector::default(), ActorId(7), version);
        state
    }

    fn key(n: u32) -> KeyRef {
        KeyRef::new(KeyspaceId(1), Bytes::from(n.to_string()))
    }

    fn store(key: Bytes, head: Bytes, body: SmallVec<[Bytes; 2]>, engine: &mut MemoryEngine) {
        let changes = [Change::put(key, head, body)].into_iter().collect();
        engine.write(&Batch { changes }).expect("memory");
    }

    fn filled() -> MemoryEngine {
        let mut engine = MemoryEngine::new();
        for n in 0..40 {
            let (head, body) = encode_state(&state(n));
            store(data_key(GroupId(0), &key(n)), head, body, &mut engine);
        }
        engine
    }

    #[test]
    fn the_parts_of_all_units_are_all_keys_with_the_digests_of_their_states() {
        let mut engine = filled();
        let mut found = Vec::new();
        for partition in 0..4 {
            let unit = Unit { partition: crate::id::PartitionId(partition), ..Unit::default() };
            let (mut from, to) = unit_range(unit, 4);
            loop {
                let part = list(&from, &to, (3, 1 << 20), &mut engine).expect("sound records");
                assert!(part.keys.len() <= 3);
                found.extend(part.keys);
                match part.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
        }
        assert_eq!(found.len(), 40, "each key once");
        for listed in found {
            let n: u32 = String::from_utf8_lossy(&listed.key.key).parse().expect("a number");
            let state = state(n);
            assert_eq!((listed.digest, &listed.outline), (state.digest(), &Outline::of(&state)));
            assert_eq!(listed.is_deleted, n.is_multiple_of(5));
            assert_eq!(listed.bytes, if n.is_multiple_of(5) { 0 } else { u64::from(n) });
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_ends_a_part_and_begins_none() {
        let mut engine = filled();
        let (from, to) = unit_range(Unit::default(), 1);
        let all = list(&from, &to, (100, 1 << 20), &mut engine).expect("sound records");
        let rotten = data_key(GroupId(0), &all.keys[5].key);
        store(rotten.clone(), Bytes::from_static(&[3, 9, 9]), SmallVec::new(), &mut engine);
        let part = list(&from, &to, (100, 1 << 20), &mut engine).expect("those before it");
        assert_eq!((&part.keys[..], part.next), (&all.keys[..5], Some(rotten.clone())));
        let refused = list(&rotten, &to, (100, 1 << 20), &mut engine);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    }
}
