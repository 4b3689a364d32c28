//! The hash trees of the units that this node owns, kept equal to what is stored.
//!
//! A tree that is not known is *grown*: a scan of heads in bounded steps adds the entries of all keys, in key order. A write meanwhile
//! changes the tree only when its key lies before the place that the scan has come to; the scan will find what lies behind it. Then the
//! tree is *complete*, and each write changes it by the delta of its key. A tree that an earlier life has stored is brought up to date
//! instead: see `stored`.
//!
//! Invariants: a complete tree is that of what is stored, at any moment between two steps; one that is not takes part in no
//! exchange. A record that cannot be read is not passed over (<https://github.com/basho/riak_kv/issues/1771>): the scan stands before
//! it until it is replaced, and a tree that had it is grown anew, because nobody knows which entry that was. The tree of a unit that
//! is given away is dropped; who gets the unit back begins anew
//! (<https://github.com/basho/riak_kv/issues/1759>).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::config::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::engine::{Engine, LogPlace};
use crate::error::{Error, Result};
use crate::id::{Lsn, Unit};
use crate::repair::merkle::{Tree, entry_of, leaf_of};
use crate::replica::keys::{parse_data_key, unit_range};
use crate::replica::listing::list;
use crate::wire::key::KeyRef;

/// How far a tree is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// All keys are in it.
    Complete,
    /// The keys before this place are in it; empty: none.
    Growing(Bytes),
    /// An earlier life has stored it. It has not been read; what was written in this life is in it.
    Stored,
    /// It has what was written up to this write, and in this life.
    Behind(Lsn),
}

/// The tree of one unit.
#[derive(Debug)]
pub(super) struct Grown {
    pub(super) tree: Tree,
    pub(super) standing: Standing,
    /// Whether the store has a row of it.
    pub(super) is_kept: bool,
    /// Whether it is another than in its row.
    pub(super) is_changed: bool,
}

/// What was done with trees since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Trees that earlier lives had stored, and that were brought up to date.
    pub loaded: u64,
    /// Stored trees that could not be, and were grown.
    pub refused: u64,
    /// Trees that were grown by a scan.
    pub grown: u64,
    /// Rows that were stored.
    pub stored: u64,
    /// What such rows took, in bytes.
    pub stored_bytes: u64,
    /// Changes that were taken from the log.
    pub replayed: u64,
}

/// How trees that earlier lives have stored are brought up to date.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// The last write before this life: whatever comes later changes the trees itself.
    pub(super) end: Lsn,
    /// Up to where the log has been told; `None`: not begun.
    pub(super) place: Option<LogPlace>,
    /// Those whose rows are to be read, the last one first.
    pub(super) unread: Vec<Unit>,
    /// All that are not up to date.
    pub(super) units: BTreeSet<Unit>,
}

/// How trees are stored.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Units whose rows are to go.
    pub(super) dead: BTreeSet<Unit>,
    /// Units whose trees are to be stored in this round, the last one first.
    pub(super) round: Vec<Unit>,
    /// What was written since the last round began, in bytes.
    pub(super) written: u64,
    /// Whether the next round stores all.
    pub(super) owes_all: bool,
}

/// All trees.
#[derive(Debug, Default)]
pub struct Trees {
    pub(super) trees: BTreeMap<Unit, Grown>,
    /// Those that are being grown.
    pub(super) growing: BTreeSet<Unit>,
    pub(super) catch_up: CatchUp,
    pub(super) keeping: Keeping,
    pub(super) partitions: u16,
    pub(super) counts: Counts,
    /// The one that was changed last: no other can have become wrong since the invariants were asked for.
    pub(super) changed: Option<Unit>,
}

/// What came of one step towards complete trees.
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
        let incomplete = self.growing.len() + self.catch_up.units.len();
        assert!(incomplete <= self.trees.len(), "what is not complete is a tree that there is");
        let changed = self.changed.and_then(|unit| Some((unit, self.trees.get(&unit)?)));
        if let Some((unit, grown)) = changed {
            grown.tree.invariants();
            let is = (self.growing.contains(&unit), self.catch_up.units.contains(&unit));
            let should = match grown.standing {
                Standing::Complete => (false, false),
                Standing::Growing(_) => (true, false),
                Standing::Stored | Standing::Behind(_) => (false, true),
            };
            assert_eq!(is, should, "{unit:?} is {:?}", grown.standing);
        }
    }

    /// From now on these units are owned here: the trees of others are dropped, and their rows with them.
    pub fn own(&mut self, units: impl Iterator<Item = Unit>, partitions: u16) {
        self.partitions = partitions;
        let mut before = std::mem::take(&mut self.trees);
        let mut grown = |unit| before.remove(&unit).unwrap_or_else(Grown::anew);
        self.trees = units.map(|unit| (unit, grown(unit))).collect();
        let kept = before.into_iter().filter(|(_, grown)| grown.is_kept);
        self.keeping.dead.extend(kept.map(|(unit, _)| unit));
        let of = |wanted: fn(&Standing) -> bool| {
            let found = self.trees.iter().filter(move |(_, grown)| wanted(&grown.standing));
            found.map(|(unit, _)| *unit)
        };
        self.growing = of(|standing| matches!(standing, Standing::Growing(_))).collect();
        self.catch_up.unread = of(|standing| *standing == Standing::Stored).collect();
        let behind = of(|standing| matches!(standing, Standing::Stored | Standing::Behind(_)));
        self.catch_up.units = behind.collect();
    }

    /// A key's record has been written: its entry has changed by so much.
    pub fn change(&mut self, unit: Unit, place: &[u8], key: &KeyRef, delta: u64) {
        if let Some(grown) = self.trees.get_mut(&unit) {
            if matches!(&grown.standing, Standing::Growing(cursor) if place >= &cursor[..]) {
                return;
            }
            grown.tree.change(leaf_of(key), delta);
            grown.is_changed |= delta != 0;
            self.changed = Some(unit);
        }
    }

    /// The tree of a unit, when it is complete.
    #[must_use]
    pub fn complete(&self, unit: Unit) -> Option<&Tree> {
        let grown = self.trees.get(&unit)?;
        (grown.standing == Standing::Complete).then_some(&grown.tree)
    }

    /// The tree of a unit does not say what is stored, or nobody can know whether it does; nor does its row.
    pub fn regrow(&mut self, unit: Unit) {
        if self.trees.get(&unit).is_some_and(|grown| grown.is_kept) {
            self.keeping.dead.insert(unit);
        }
        self.lose(unit);
    }

    /// A write that nobody knows the delta of has changed the tree of a unit, and has taken its row with it.
    pub fn lose(&mut self, unit: Unit) {
        if let Some(grown) = self.trees.get_mut(&unit) {
            *grown = Grown::anew();
            self.catch_up.units.remove(&unit);
            self.growing.insert(unit);
            self.changed = Some(unit);
        }
    }

    /// How many trees are not complete.
    #[must_use]
    pub fn incomplete(&self) -> u64 {
        (self.growing.len() + self.catch_up.units.len()) as u64
    }

    /// Whether what was written since they were stored is still read from the log.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        !self.catch_up.units.is_empty()
    }

    /// Whether one is not complete.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.incomplete() > 0
    }

    /// What was done since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// One step towards complete trees: those that were stored first. About `bytes_max` bytes of the log are looked at.
    pub fn grow(&mut self, bytes_max: u64, engine: &mut dyn Engine) -> Result<Growth> {
        if self.catch_up.units.is_empty() {
            return self.scan(engine);
        }
        self.catch_up(bytes_max, engine)?;
        Ok(if self.is_growing() { Growth::More } else { Growth::Done })
    }

    /// One step of growing, of the first tree that can go on.
    fn scan(&mut self, engine: &mut dyn Engine) -> Result<Growth> {
        let mut stuck = None;
        for &unit in &self.growing {
            let Some(grown) = self.trees.get_mut(&unit) else {
                continue;
            };
            let Standing::Growing(cursor) = &grown.standing else {
                continue;
            };
            self.changed = Some(unit);
            let (start, end) = unit_range(unit, self.partitions);
            let from = if cursor.is_empty() { &start } else { cursor };
            match list(from, &end, (PAGE_KEYS_MAX, PAGE_BYTES_MAX), engine) {
                Ok(part) => {
                    for one in part.keys {
                        grown.tree.change(leaf_of(&one.key), entry_of(&one.key, one.digest));
                    }
                    if let Some(next) = part.next {
                        grown.standing = Standing::Growing(next);
                        return Ok(Growth::More);
                    }
                    (grown.standing, grown.is_changed) = (Standing::Complete, true);
                    self.counts.grown += 1;
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
        let standing = Standing::Growing(Bytes::new());
        Grown { tree: Tree::default(), standing, is_kept: false, is_changed: true }
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
    const LOG: u64 = 1 << 20;

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
            trees.grow(LOG, engine).expect("memory");
        }
    }

    fn grown(engine: &mut MemoryEngine) -> Trees {
        let mut trees = Trees::default();
        trees.own(units(), PARTITIONS);
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
                    trees.own(units(), PARTITIONS);
                }
                let was = there.insert(n, of).unwrap_or(0);
                write(n, (was, of), &mut engine, &mut trees);
                for _ in 0..steps {
                    trees.grow(LOG, &mut engine).expect("memory");
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
            trees.own(units(), PARTITIONS);
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
        trees.own(units(), PARTITIONS);
        let mut last = Growth::More;
        for _ in 0..100 {
            last = trees.grow(LOG, &mut engine).expect("memory");
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
        trees.own(units(), PARTITIONS);
        finish(&mut trees, &mut engine);
        trees.own(units().skip(1), PARTITIONS);
        (0..30).for_each(|n| write(n, (0, 1), &mut engine, &mut trees));
        trees.own(units(), PARTITIONS);
        assert_eq!(trees.complete(unit(0)), None, "what it was is no matter");
        let fresh = grown(&mut engine);
        assert!((1..PARTITIONS).all(|at| trees.complete(unit(at)) == fresh.complete(unit(at))));
    }
}
