//! Where the newest record of each key lies: a hash table of fingerprints, 16 bytes for each slot.
//!
//! Keys are not in memory. A slot has 32 bits of the key's hash and the record's place; whoever looks
//! a key up compares it with the key in the record. Different keys with one fingerprint have a slot
//! each, so a writer that finds its fingerprint must know whether the slot is its own key's before it
//! replaces it. No fingerprint is special: an empty slot is one of length 0, which no record has
//! (<https://github.com/martinsumner/leveled/issues/361> took hash 0 for an empty slot).
//!
//! The table is 256 shards by the first byte of the fingerprint, so that growing one is short. A shard
//! grows by a quarter at 4/5 full: 20 to 25 bytes for each key. In a shard slots are probed
//! linearly from a home that grows with the fingerprint, and removal shifts back what follows.
//!
//! The cost of 32 bits: at n keys a lookup of an absent key reads a record in vain with
//! probability n / 2^32, and n keys have about n^2 / 2^33 pairs that need a second read.

const SHARDS: usize = 256;
const CAPACITY_MIN: usize = 8;

/// Where a record is: file number, first byte, length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    fingerprint: u32,
    place: Place,
}

const EMPTY: Slot = Slot { fingerprint: 0, place: Place { file: 0, offset: 0, len: 0 } };
const _: () = assert!(size_of::<Slot>() == 16);

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    used: usize,
}

/// Fingerprints and places.
pub(super) struct Keydir {
    shards: Vec<Shard>,
    len: u64,
}

impl Keydir {
    pub(super) fn new() -> Self {
        let mut shards = Vec::new();
        shards.resize_with(SHARDS, Shard::default);
        Keydir { shards, len: 0 }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The memory of all slots, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let slots: usize = self.shards.iter().map(|shard| shard.slots.capacity()).sum();
        (slots * size_of::<Slot>()) as u64
    }

    /// The places of all keys with this fingerprint.
    pub(super) fn find(&self, fingerprint: u32) -> impl Iterator<Item = Place> + '_ {
        self.shards[shard_of(fingerprint)].matches(fingerprint).map(|(_, place)| place)
    }

    /// Adds a key that has no slot.
    pub(super) fn insert(&mut self, fingerprint: u32, place: Place) {
        assert!(place.len > 0, "length 0 is an empty slot");
        let shard = &mut self.shards[shard_of(fingerprint)];
        if (shard.used + 1) * 5 > shard.slots.len() * 4 {
            shard.grow();
        }
        shard.insert(Slot { fingerprint, place });
        self.len += 1;
    }

    /// Moves the slot that has `old` to `new`; `false` when there is none.
    pub(super) fn replace(&mut self, fingerprint: u32, old: Place, new: Place) -> bool {
        let shard = &mut self.shards[shard_of(fingerprint)];
        let found = shard.matches(fingerprint).find(|&(_, place)| place == old);
        if let Some((at, _)) = found {
            shard.slots[at].place = new;
        }
        found.is_some()
    }

    /// Removes the slot that has `place`; `false` when there is none.
    pub(super) fn remove(&mut self, fingerprint: u32, place: Place) -> bool {
        let shard = &mut self.shards[shard_of(fingerprint)];
        let found = shard.matches(fingerprint).find(|&(_, other)| other == place);
        if let Some((at, _)) = found {
            shard.remove(at);
            self.len -= 1;
        }
        found.is_some()
    }
}

impl Shard {
    fn matches(&self, fingerprint: u32) -> impl Iterator<Item = (usize, Place)> + '_ {
        let cap = self.slots.len();
        let start = if cap == 0 { 0 } else { home(fingerprint, cap) };
        let order = (start..cap).chain(0..start);
        order
            .map(|at| (at, self.slots[at]))
            .take_while(|(_, slot)| slot.place.len > 0)
            .filter(move |(_, slot)| slot.fingerprint == fingerprint)
            .map(|(at, slot)| (at, slot.place))
    }

    fn insert(&mut self, slot: Slot) {
        let cap = self.slots.len();
        let mut at = home(slot.fingerprint, cap);
        while self.slots[at].place.len > 0 {
            at = next(at, cap);
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn remove(&mut self, at: usize) {
        let cap = self.slots.len();
        let mut hole = at;
        let mut probe = next(at, cap);
        while self.slots[probe].place.len > 0 {
            let home = home(self.slots[probe].fingerprint, cap);
            // Slots move back into the hole unless their home lies behind it.
            if distance(home, probe, cap) >= distance(hole, probe, cap) {
                self.slots[hole] = self.slots[probe];
                hole = probe;
            }
            probe = next(probe, cap);
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
    }

    fn grow(&mut self) {
        let cap = CAPACITY_MIN.max(self.slots.len() + self.slots.len() / 4);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; cap]);
        self.used = 0;
        for slot in old.into_iter().filter(|slot| slot.place.len > 0) {
            self.insert(slot);
        }
    }
}

fn shard_of(fingerprint: u32) -> usize {
    (fingerprint >> 24) as usize
}

fn home(fingerprint: u32, cap: usize) -> usize {
    ((u64::from(fingerprint & 0xFF_FFFF) * cap as u64) >> 24) as usize
}

fn next(at: usize, cap: usize) -> usize {
    if at + 1 == cap { 0 } else { at + 1 }
}

fn distance(from: usize, to: usize, cap: usize) -> usize {
    if to >= from { to - from } else { to + cap - from }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Keydir, Place};

    fn place(n: u32) -> Place {
        Place { file: 1, offset: n, len: 1 }
    }

    proptest! {
        /// Few fingerprints at the edges of few shards: collisions, wrapping and shifting all happen.
        #[test]
        fn it_is_a_multimap(ops in proptest::collection::vec((any::<bool>(), 0_u32..6, 0_u32..40), 0..400)) {
            let prints = [0, 1, 0xFF_FFFF, 0xFF_FFFE, 0x80_0000, u32::MAX];
            let mut keydir = Keydir::new();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for (put, print, n) in ops {
                let print = prints[(print + n) as usize % prints.len()];
                if put && !model.contains_key(&n) {
                    keydir.insert(print, place(n));
                    model.insert(n, print);
                } else if let Some(print) = model.remove(&n) {
                    assert!(keydir.remove(print, place(n)));
                    assert!(!keydir.remove(print, place(n)));
                }
                for print in prints {
                    let mut found: Vec<u32> = keydir.find(print).map(|p| p.offset).collect();
                    found.sort_unstable();
                    let expected: Vec<u32> =
                        model.iter().filter(|(_, p)| **p == print).map(|(n, _)| *n).collect();
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(keydir.len(), model.len() as u64);
            }
        }
    }

    #[test]
    fn a_key_costs_at_most_26_bytes() {
        let mut keydir = Keydir::new();
        for n in 1..=300_000_u32 {
            keydir.insert(n.wrapping_mul(0x9E37_79B1), place(n));
        }
        let per_key = keydir.bytes() as f64 / 300_000.0;
        assert!(per_key <= 26.0, "{per_key}");
        assert!(keydir.replace(7_u32.wrapping_mul(0x9E37_79B1), place(7), place(8)));
        assert!(!keydir.replace(7_u32.wrapping_mul(0x9E37_79B1), place(7), place(8)));
    }
}
