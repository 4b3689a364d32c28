//! The hash trees of the units that this node owns, kept equal to what is stored.
//!
//! A tree that is not known is *grown*: a scan of heads in bounded steps adds the entries of all keys, in key order. A write meanwhile
//! changes the tree only when its key lies before the place that the scan has come to; the scan will find what lies behind it. Then the
//! tree is *complete*, and each write changes it by the delta of its key.
//!
//! Invariants: a complete tree is that of what is stored, at any moment between two steps; one that is not takes part in no
//! exchange. A record that cannot be read is not passed over (<https://github.com/basho/riak_kv/issues/1771>): the scan stands before
//! it until it is replaced, and a tree that had it is grown anew, because nobody knows which entry that was. The tree of a unit that
//! is given away is dropped; who gets the unit back begins anew
//! (<https://github.com/basho/riak_kv/issues/1759>).
//! Left out: checkpoints. Each start grows all trees; records carry their deltas, so that a log could be replayed instead.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::config::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id::Unit;
use crate::repair::merkle::{Tree, entry_of, leaf_of};
use crate::replica::keys::{parse_data_key, unit_range};
use crate::replica::listing::list;
use crate::wire::key::KeyRef;

/// The tree of one unit.
#[derive(Debug, Default)]
struct Grown {
    tree: Tree,
    /// Up to where the unit's keys are in the tree: those before this place; empty: none. `None`: all are.
    cursor: Option<Bytes>,
}

/// All trees.
#[derive(Debug, Default)]
pub struct Trees {
    trees: BTreeMap<Unit, Grown>,
    /// Those that are not complete.
    growing: BTreeSet<Unit>,
    /// Trees that were complete and had to be grown anew.
    regrown: u64,
    /// The one that was changed last: no other can have become wrong since the invariants were asked for.
    changed: Option<Unit>,
}

/// What came of one step of growing.
#[derive(Debug)]
pub enum Growth {
    /// The last one is complete.
    Done,
    /// There is more to do.
    More,
    /// The record of this key cannot be read, and its unit's tree waits until it is replaced.
    Unreadable(KeyRef, Error),
}

impl Trees {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.growing.len() <= self.trees.len(), "what grows is a tree that there is");
        let changed = self.changed.and_then(|unit| Some((unit, self.trees.get(&unit)?)));
        if let Some((unit, grown)) = changed {
            grown.tree.invariants();
            assert_eq!(grown.cursor.is_some(), self.growing.contains(&unit), "{unit:?} grows");
        }
    }

    /// From now on these units are owned here: the trees of others are dropped.
    pub fn own(&mut self, units: impl Iterator<Item = Unit>) {
        let mut before = std::mem::take(&mut self.trees);
        let mut grown = |unit| before.remove(&unit).unwrap_or_else(Grown::anew);
        self.trees = units.map(|unit| (unit, grown(unit))).collect();
        let growing = self.trees.iter().filter(|(_, grown)| grown.cursor.is_some());
        self.growing = growing.map(|(unit, _)| *unit).collect();
    }

    /// A key's record has been written: its entry has changed by so much.
    pub fn change(&mut self, unit: Unit, place: &[u8], key: &KeyRef, delta: u64) {
        if let Some(grown) = self.trees.get_mut(&unit)
            && grown.cursor.as_ref().is_none_or(|cursor| place < &cursor[..])
        {
            grown.tree.change(leaf_of(key), delta);
            self.changed = Some(unit);
        }
    }

    /// The tree of a unit, when it is complete.
    #[must_use]
    pub fn complete(&self, unit: Unit) -> Option<&Tree> {
        let grown = self.trees.get(&unit)?;
        grown.cursor.is_none().then_some(&grown.tree)
    }

    /// The tree of a unit does not say what is stored, or nobody can know whether it does.
    pub fn regrow(&mut self, unit: Unit) {
        if let Some(grown) = self.trees.get_mut(&unit) {
            self.regrown += u64::from(grown.cursor.is_none());
            *grown = Grown::anew();
            self.growing.insert(unit);
            self.changed = Some(unit);
        }
    }

    /// How many trees are not complete, and how many were grown anew since the start.
    #[must_use]
    pub fn growing(&self) -> (u64, u64) {
        (self.growing.len() as u64, self.regrown)
    }

    /// Whether one is not complete.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        !self.growing.is_empty()
    }

    /// One step of growing, of the first tree that can go on.
    pub fn grow(&mut self, partitions: u16, engine: &mut dyn Engine) -> Result<Growth> {
        let mut stuck = None;
        for &unit in &self.growing {
            let Some(grown) = self.trees.get_mut(&unit) else {
                continue;
            };
            let Some(cursor) = &grown.cursor else {
                continue;
            };
            self.changed = Some(unit);
            let (start, end) = unit_range(unit, partitions);
            let from = if cursor.is_empty() { &start } else { cursor };
            match list(from, &end, (PAGE_KEYS_MAX, PAGE_BYTES_MAX), engine) {
                Ok(part) => {
                    for one in part.keys {
                        grown.tree.change(leaf_of(&one.key), entry_of(&one.key, one.digest));
                    }
                    grown.cursor = part.next;
                    if grown.cursor.is_some() {
                        return Ok(Growth::More);
                    }
                    self.growing.remove(&unit);
                    return Ok(if self.growing.is_empty() { Growth::Done } else { Growth::More });
                }
                Err(error @ (Error::Corrupt { .. } | Error::Disk(_))) => {
                    let key = parse_data_key(from);
                    stuck = stuck.or_else(|| Some(Growth::Unreadable(key?, error)));
                }
                Err(error) if error.is_refusal() => return Ok(Growth::More),
                Err(error) => return Err(error),
            }
        }
        Ok(stuck.unwrap_or(Growth::More))
    }
}

impl Grown {
    fn anew() -> Grown {
        Grown { tree: Tree::default(), cursor: Some(Bytes::new()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use smallvec::SmallVec;

    use super::*;
    use crate::engine::{Batch, Change, MemoryEngine};
    use crate::id::{ActorId, GroupId, KeyspaceId, PartitionId, RequestId};
    use crate::layout::keyspace::partition;
    use crate::repair::merkle::entry;
    use crate::replica::keys::data_key;
    use crate::version::dvv::{Version, VersionSet, VersionVector};
    use crate::version::hlc::Hlc;
    use crate::wire::state::encode_state;

    const PARTITIONS: u16 = 4;

    fn key(n: u8) -> KeyRef {
        KeyRef::new(KeyspaceId(1), Bytes::from(n.to_string()))
    }

    fn unit(partition: u16) -> Unit {
        Unit { group: GroupId(0), partition: PartitionId(partition) }
    }

    fn units() -> impl Iterator<Item = Unit> {
        (0..PARTITIONS).map(unit)
    }

    fn state(n: u8) -> VersionSet {
        let mut state = VersionSet::default();
        let version = Version::value(Hlc(9), RequestId(1), Bytes::new(), Bytes::from(vec![n]));
        if n > 0 {
            state.put(&VersionVector::default(), ActorId(u64::from(n)), version);
        }
        state
    }

    /// Writes a key, and tells the trees; the empty state deletes its record.
    fn write(n: u8, (was, of): (u8, u8), engine: &mut MemoryEngine, trees: &mut Trees) {
        let (unit, key) = (unit(partition(key(n).token(), PARTITIONS).0), key(n));
        let place = data_key(unit.group, &key);
        let delta = entry(&key, &state(was)) ^ entry(&key, &state(of));
        let (head, body) = encode_state(&state(of));
        let change = match of {
            0 => Change::Delete { key: place.clone(), delta },
            _ => Change::Put { key: place.clone(), head, body, delta },
        };
        engine.write(&Batch { changes: [change].into_iter().collect() }).expect("memory");
        trees.change(unit, &place, &key, delta);
    }

    fn finish(trees: &mut Trees, engine: &mut MemoryEngine) {
        while trees.is_growing() {
            trees.grow(PARTITIONS, engine).expect("memory");
        }
    }

    fn grown(engine: &mut MemoryEngine) -> Trees {
        let mut trees = Trees::default();
        trees.own(units());
        finish(&mut trees, engine);
        trees
    }

    proptest! {
        /// Writes before, during and after a scan, in any order: the tree is the one that a scan of what is stored makes.
        #[test]
        fn a_complete_tree_is_that_of_what_is_stored(
            steps in vec((0u8..30, 0u8..4, 0usize..3), 0..150)
        ) {
            let (mut engine, mut trees) = (MemoryEngine::new(), Trees::default());
            let mut there = BTreeMap::new();
            for (at, (n, of, steps)) in steps.into_iter().enumerate() {
                if at == 10 {
                    trees.own(units());
                }
                let was = there.insert(n, of).unwrap_or(0);
                write(n, (was, of), &mut engine, &mut trees);
                for _ in 0..steps {
                    trees.grow(PARTITIONS, &mut engine).expect("memory");
                }
                if n == 7 && of == 1 {
                    trees.regrow(unit(partition(key(3).token(), PARTITIONS).0));
                }
                trees.invariants();
                let fresh = grown(&mut engine);
                for unit in units() {
                    let complete = trees.complete(unit);
                    prop_assert!(complete.is_none() || complete == fresh.complete(unit));
                }
            }
            trees.own(units());
            finish(&mut trees, &mut engine);
            let fresh = grown(&mut engine);
            for unit in units() {
                prop_assert_eq!(trees.complete(unit), fresh.complete(unit));
                prop_assert!(trees.complete(unit).is_some());
            }
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_its_tree_from_being_complete_and_no_other() {
        let (mut engine, mut trees) = (MemoryEngine::new(), Trees::default());
        for n in 0..30 {
            write(n, (0, 1), &mut engine, &mut trees);
        }
        let (rotten, of) = (key(3), unit(partition(key(3).token(), PARTITIONS).0));
        let place = data_key(of.group, &rotten);
        let broken = Change::put(place, Bytes::from_static(&[3, 9, 9]), SmallVec::new());
        engine.write(&Batch { changes: [broken].into_iter().collect() }).expect("memory");
        trees.own(units());
        let mut last = Growth::More;
        for _ in 0..100 {
            last = trees.grow(PARTITIONS, &mut engine).expect("memory");
        }
        assert!(matches!(last, Growth::Unreadable(key, _) if key == rotten));
        let missing: Vec<Unit> = units().filter(|&unit| trees.complete(unit).is_none()).collect();
        assert_eq!(missing, [of], "a tree without the record would call it absent");
        write(3, (0, 2), &mut engine, &mut trees);
        finish(&mut trees, &mut engine);
        let fresh = grown(&mut engine);
        assert_eq!(trees.complete(of), fresh.complete(of));
    }

    #[test]
    fn who_gives_a_unit_away_and_gets_it_back_begins_anew() {
        let (mut engine, mut trees) = (MemoryEngine::new(), Trees::default());
        trees.own(units());
        finish(&mut trees, &mut engine);
        trees.own(units().skip(1));
        (0..30).for_each(|n| write(n, (0, 1), &mut engine, &mut trees));
        trees.own(units());
        assert_eq!(trees.complete(unit(0)), None, "what it was is no matter");
        let fresh = grown(&mut engine);
        assert!((1..PARTITIONS).all(|at| trees.complete(unit(at)) == fresh.complete(unit(at))));
    }
}
