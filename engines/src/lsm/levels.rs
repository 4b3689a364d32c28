//! Which tables there are, level by level, and which of them are to be compacted next.
//!
//! Level 0 has what memtables were written into, the newest last; keys may be in several of its tables. On each level below, a
//! key is in one table at most. What is above is newer. Level 1 may have `Options::level_bytes`, and each one below
//! `LEVEL_RATIO` times as much as the one above it. Of a level that is too long the table goes down that meets the fewest bytes
//! there for its own; one that meets none is moved without being read.

use std::sync::Arc;

use super::options::Options;
use super::table::Table;

/// So many levels there are.
pub(super) const LEVELS: usize = 7;
/// A level has so many times the bytes of the one above it.
const LEVEL_RATIO: u64 = 10;

/// The tables of a store.
pub(super) struct Levels<F> {
    levels: Vec<Vec<Arc<Table<F>>>>,
}

/// What is to be compacted: tables of a level, and those of the level below that have keys between theirs.
pub(super) struct Pick<F> {
    /// The level that they come from; they go to the next, or stay on the last.
    pub(super) level: usize,
    pub(super) upper: Vec<Arc<Table<F>>>,
    pub(super) lower: Vec<Arc<Table<F>>>,
    pub(super) to: usize,
}

impl<F> Pick<F> {
    /// The files that it takes.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.upper.iter().chain(&self.lower).map(|table| table.meta.number).collect()
    }
}

impl<F> Levels<F> {
    pub(super) fn new() -> Levels<F> {
        Levels { levels: (0..LEVELS).map(|_| Vec::new()).collect() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Arc<Table<F>>)> {
        let levels = self.levels.iter().enumerate();
        levels.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    pub(super) fn level(&self, level: usize) -> &[Arc<Table<F>>] {
        &self.levels[level]
    }

    /// The tables that may hold a key, the newest first.
    pub(super) fn of_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Arc<Table<F>>> {
        let young = self.levels[0].iter().rev().filter(|table| table.covers(key));
        let old = self.levels[1..].iter().filter_map(|tables| {
            let at = tables.partition_point(|table| *table.meta.largest < *key);
            tables.get(at).filter(|table| table.covers(key))
        });
        young.chain(old)
    }

    /// Whether a table below `level` may hold `key`.
    pub(super) fn is_below(&self, level: usize, key: &[u8]) -> bool {
        self.levels[level + 1..].iter().any(|tables| {
            let at = tables.partition_point(|table| *table.meta.largest < *key);
            tables.get(at).is_some_and(|table| table.covers(key))
        })
    }

    pub(super) fn add(&mut self, level: usize, table: Arc<Table<F>>) {
        let tables = &mut self.levels[level];
        let at = match level {
            0 => tables.len(),
            _ => tables.partition_point(|other| other.meta.smallest < table.meta.smallest),
        };
        tables.insert(at, table);
    }

    /// Puts a table in the place of one with its number.
    pub(super) fn replace(&mut self, table: &Arc<Table<F>>) {
        for other in self.levels.iter_mut().flatten() {
            if other.meta.number == table.meta.number {
                *other = Arc::clone(table);
            }
        }
    }

    pub(super) fn remove(&mut self, numbers: &[u32]) {
        for tables in &mut self.levels {
            tables.retain(|table| !numbers.contains(&table.meta.number));
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.all().map(|(_, table)| table.meta.len).sum()
    }

    /// How many bytes are in the wrong place: on a level beyond what it may have.
    pub(super) fn debt(&self, options: &Options) -> u64 {
        let young = self.levels[0].len().saturating_sub(options.young_tables) as u64;
        let young = young * options.memtable_bytes_max as u64;
        let old = (1..LEVELS - 1).map(|l| self.len_of(l).saturating_sub(bytes_max(l, options)));
        young + old.sum::<u64>()
    }

    fn len_of(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|table| table.meta.len).sum()
    }

    /// What to compact next; `is_eager`: also when no level is too long, as long as that may give space back. `is_short`: with as little
    /// room as can be.
    pub(super) fn pick(
        &self,
        options: &Options,
        is_eager: bool,
        is_short: bool,
    ) -> Option<Pick<F>> {
        // What ended early goes on first: as long as it has not, tables take room of which a part counts no more.
        if let Some(pick) = self.pick_cut().filter(|_| is_short) {
            return Some(pick);
        }
        if self.levels[0].len() >= options.young_tables.max(1) {
            return Some(self.pick_young(is_short));
        }
        let percent = |level: usize| self.len_of(level) * 100 / bytes_max(level, options).max(1);
        let fullest = (1..LEVELS - 1).max_by_key(|level| (percent(*level), LEVELS - level));
        match fullest.filter(|level| percent(*level) > 100) {
            Some(level) => self.pick_old(level),
            None => self.pick_dead(is_eager, is_short),
        }
    }

    /// The first table of which a part counts no more: of level 0 it is the oldest.
    fn pick_cut(&self) -> Option<Pick<F>> {
        let (level, table) = self.all().find(|(_, table)| table.is_cut())?;
        let upper = if level == 0 { &self.levels[0][0] } else { table };
        Some(self.with_lower(level, vec![Arc::clone(upper)]))
    }

    /// All of level 0, because its tables may hold the same keys: so what is below is written once for all of them. A table that meets no
    /// other can be moved alone; with little room the oldest goes alone, too.
    fn pick_young(&self, is_short: bool) -> Pick<F> {
        let oldest = &self.levels[0][0];
        let (smallest, largest) = (&*oldest.meta.smallest, &*oldest.meta.largest);
        let is_alone = self.levels[0][1..].iter().all(|other| !other.overlaps(smallest, largest));
        let upper =
            if is_alone || is_short { vec![Arc::clone(oldest)] } else { self.levels[0].clone() };
        self.with_lower(0, upper)
    }

    /// The table that meets the fewest bytes below for its own.
    fn pick_old(&self, level: usize) -> Option<Pick<F>> {
        let cost = |table: &&Arc<Table<F>>| {
            let (smallest, largest) = (&*table.meta.smallest, &*table.meta.largest);
            let met = self.overlapping(level + 1, smallest, largest);
            let met: u64 = met.iter().map(|other| other.meta.len).sum();
            met.saturating_mul(1000) / table.meta.len.max(1)
        };
        let cheapest = self.levels[level].iter().min_by_key(cost)?;
        Some(self.with_lower(level, vec![Arc::clone(cheapest)]))
    }

    /// A table of which half are deletions, and when space is needed one with any.
    fn pick_dead(&self, is_eager: bool, is_short: bool) -> Option<Pick<F>> {
        let is_dead = |table: &Arc<Table<F>>| {
            let (tombstones, count) = (table.meta.tombstones, table.meta.count);
            tombstones > 0 && (is_eager || tombstones * 2 >= count)
        };
        if self.levels[0].iter().any(|table| is_eager || is_dead(table)) {
            return Some(self.pick_young(is_short));
        }
        let dead = (1..LEVELS).find_map(|level| {
            let table = self.levels[level].iter().find(|table| is_dead(table))?;
            Some(self.with_lower(level, vec![Arc::clone(table)]))
        });
        // What is in one level alone hides nothing.
        let is_above = |level: &usize| {
            let below = &self.levels[level + 1..];
            !self.levels[*level].is_empty() && below.iter().any(|tables| !tables.is_empty())
        };
        let hiding = || (1..LEVELS - 1).find(is_above).and_then(|level| self.pick_old(level));
        dead.or_else(|| if is_eager { hiding() } else { None })
    }

    fn with_lower(&self, level: usize, upper: Vec<Arc<Table<F>>>) -> Pick<F> {
        let to = (level + 1).min(LEVELS - 1);
        let smallest = upper.iter().map(|table| &*table.meta.smallest).min().unwrap_or_default();
        let largest = upper.iter().map(|table| &*table.meta.largest).max().unwrap_or_default();
        let lower = if to == level { Vec::new() } else { self.overlapping(to, smallest, largest) };
        Pick { level, upper, lower, to }
    }

    /// The tables of a level in order that have keys from `smallest` to `largest`.
    fn overlapping(&self, level: usize, smallest: &[u8], largest: &[u8]) -> Vec<Arc<Table<F>>> {
        let tables = self.levels[level].iter();
        tables.filter(|table| table.overlaps(smallest, largest)).cloned().collect()
    }

    /// Panics when a level is not in order.
    pub(super) fn invariants(&self) {
        for tables in &self.levels[1..] {
            let is_apart = |pair: &[Arc<Table<F>>]| pair[0].meta.largest < pair[1].meta.smallest;
            assert!(tables.windows(2).all(is_apart), "a key is in one table of a level");
        }
        let is_newer = |pair: &[Arc<Table<F>>]| pair[0].meta.lsn_max <= pair[1].meta.lsn_max;
        assert!(self.levels[0].windows(2).all(is_newer), "the newest table comes last");
    }
}

fn bytes_max(level: usize, options: &Options) -> u64 {
    options.level_bytes.saturating_mul(LEVEL_RATIO.saturating_pow(level as u32 - 1))
}
