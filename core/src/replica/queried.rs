//! States that a query has just read: the write that follows it a moment later needs no second read.
//!
//! Invariants: what is kept is what the engine holds, because every write of a key drops its state; each state is used once;
//! there are at most `STATES` of at most `STATE_BYTES_MAX` of values each.
//! Left out: keeping the states of keys that are often read or written. A read always asks the engine.

use xxhash_rust::xxh3::xxh3_64;

use crate::id::Lsn;
use crate::version::dvv::VersionSet;
use crate::wire::key::KeyRef;

/// How many are kept; more than the writes that one node usually has in flight.
const STATES: usize = 256;
/// Larger ones are read again, in bytes of values: what all of them hold is bounded by a mebibyte.
const STATE_BYTES_MAX: usize = 4096;

/// A state with the write that stored it.
type Kept = (VersionSet, Lsn);

/// The states, each in the one slot of its key's hash.
#[derive(Debug, Default)]
pub struct Queried {
    slots: Vec<Option<(KeyRef, Kept)>>,
}

impl Queried {
    /// Keeps a state that was read just now.
    pub fn keep(&mut self, key: &KeyRef, (state, lsn): Kept) {
        let bytes: usize = state.versions().map(|(_, version)| version.value.len()).sum();
        if bytes > STATE_BYTES_MAX {
            return;
        }
        self.slots.resize(STATES, None);
        self.slots[slot(key)] = Some((key.clone(), (state, lsn)));
    }

    /// The state of the key, if it is kept; it is kept no longer.
    pub fn take(&mut self, key: &KeyRef) -> Option<Kept> {
        let slot = self.slots.get_mut(slot(key))?;
        slot.take_if(|(of, _)| of == key).map(|(_, kept)| kept)
    }
}

fn slot(key: &KeyRef) -> usize {
    // Reduced first, so that no bit is lost where `usize` is smaller.
    (xxh3_64(&key.key) % STATES as u64) as usize
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::KeyspaceId;

    fn key(keyspace: u32, name: u32) -> KeyRef {
        KeyRef::new(KeyspaceId(keyspace), Bytes::copy_from_slice(&name.to_be_bytes()))
    }

    fn kept(lsn: u64) -> Kept {
        (VersionSet::default(), Lsn(lsn))
    }

    #[test]
    fn a_state_is_given_once_and_to_its_own_key_only() {
        let mut queried = Queried::default();
        assert_eq!(queried.take(&key(1, 1)), None);
        queried.keep(&key(1, 1), kept(7));
        assert_eq!(queried.take(&key(2, 1)), None, "the same name in another keyspace");
        assert_eq!(queried.take(&key(1, 1)), Some(kept(7)));
        assert_eq!(queried.take(&key(1, 1)), None);
    }

    #[test]
    fn the_latest_state_takes_a_slot_and_many_keys_need_no_more_room() {
        let mut queried = Queried::default();
        for n in 0..10_000 {
            queried.keep(&key(1, n), kept(u64::from(n)));
        }
        let found: Vec<_> = (0..10_000).filter_map(|n| queried.take(&key(1, n))).collect();
        assert!(found.len() <= STATES && found.contains(&kept(9_999)), "{}", found.len());
    }
}
