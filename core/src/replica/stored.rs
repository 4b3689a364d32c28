//! Hash trees in the store, so that a start need not read all heads: each with the place in the log that it stands for, from which a
//! later life brings it up to date.
//!
//! The row of a tree (`tree_row`) is a write like any other, and its own place in the log is the place that the tree stands for: the
//! tree that it holds is that of all writes before it, and it changes no client's key itself. A start takes the rows that are there,
//! fixes the end of the log, adds what the log tells between a row and that end, and has the tree that it would have grown. Deltas are
//! added by XOR, so it is no matter that what is written meanwhile is added before what was written earlier.
//!
//! Invariants:
//! - *Each change counts once.* What this life writes changes the tree itself, from its first write on, also before the row has been
//!   read; of the log counts what lies above the row's write and not above the last write before this life.
//! - *A row stands for no write that can be lost.* After any crash an engine has a prefix of its writes; with a row it has all
//!   writes before that, and without them it has not the row. So a kill at any moment leaves an older row and more of the log behind it.
//! - *The log tells every change of a client's key since the row by how much the tree has changed*, whether this node owns the unit
//!   or not; so the row of a unit that was given away and got back by a later life would be right, too. Whoever cannot tell it, because
//!   the record could not be read, takes the row away in the same batch (`merge`, `erase`): no crash parts the two. A change that says
//!   nothing (delta 0) is believed by nobody: the tree is grown anew.
//! - *A tree that is being brought up to date is not complete*, and takes part in nothing. It is brought there in bounded steps.
//! - *Whatever does not fit is refused, and the tree grown*: a log that does not reach back, or cannot be read; a row that cannot be
//!   read, is of other hashes or partitions, or is not what its hash says; all rows of a store that has moved or cannot show that it has
//!   lost nothing. (A store that has lost something is not opened.) Rows of another build go before this one writes anything, for
//!   what it writes has other deltas.
//!
//! When trees are stored: all in one write at a clean end; all a minute after the last one has become complete, when one has changed, as
//! after a start that had something to read, and when `TREES_STORED_BYTES` were written since; and those that have changed every
//! `TREES_STORED_MS`. It is the bytes that count: they are what a start after a kill has to read, and what makes engines take the
//! log away, also from behind the row of a tree that never changes. A disk that is nearly full gets no rows.
//! Left out: a tree that is being grown is not stored. Whoever is killed before its end begins that unit anew.

use bytes::Bytes;

use super::tree_row::{self, TREES, is_of_this_build, parse_row_key, removal, row, row_key};
use super::trees::{Grown, Standing, Trees};
use crate::config::{
    RANGE_BYTES_MAX, RANGE_KEYS_MAX, TREES_A_STEP, TREES_AT_STOP_MAX, TREES_STORED_BYTES,
};
use crate::engine::{Batch, Change, Engine, LogPlace, Logged, Replay};
use crate::error::{Error, Result};
use crate::id::{Lsn, Unit};
use crate::repair::merkle::{Tree, leaf_of};
use crate::replica::keys::parse_unit_key;

impl Trees {
    /// Takes over the rows that earlier lives have stored, if the store is to be trusted. To be called before this life writes
    /// anything.
    pub fn load(engine: &mut dyn Engine, is_trusted: bool) -> Result<Trees> {
        let mut trees = Trees::default();
        // All that survived is durable now.
        trees.catch_up.end = engine.durable();
        let mut from = Bytes::from_static(TREES);
        loop {
            let page = match engine.scan_heads(&from, RANGE_KEYS_MAX, RANGE_BYTES_MAX) {
                Ok(page) => page,
                // What cannot be read is not loaded, and written over when its tree has been grown.
                Err(Error::Corrupt { .. } | Error::Disk(_)) if parse_row_key(&from).is_some() => {
                    from = [&from[..], &[0]].concat().into();
                    continue;
                }
                Err(Error::Corrupt { .. } | Error::Disk(_)) => break,
                Err(error) => return Err(error),
            };
            for (key, record) in page.records {
                let Some(unit) = parse_row_key(&key) else {
                    continue;
                };
                if is_trusted && is_of_this_build(&record.head) {
                    trees.trees.insert(unit, Grown::stored());
                    trees.catch_up.units.insert(unit);
                } else {
                    trees.keeping.dead.insert(unit);
                }
            }
            match page.next.filter(|next| next.starts_with(TREES)) {
                Some(next) => from = next,
                None => break,
            }
        }
        while trees.bury(engine)? {}
        Ok(trees)
    }

    /// One step of bringing trees up to date that earlier lives have stored.
    pub(super) fn catch_up(&mut self, bytes_max: u64, engine: &mut dyn Engine) -> Result<()> {
        for _ in 0..TREES_A_STEP {
            let Some(unit) = self.catch_up.unread.pop() else {
                return self.replay(bytes_max, engine);
            };
            self.read(unit, engine)?;
        }
        Ok(())
    }

    /// Reads the row of a unit.
    fn read(&mut self, unit: Unit, engine: &mut dyn Engine) -> Result<()> {
        let is_wanted = |grown: &&mut Grown| grown.standing == Standing::Stored;
        let Some(grown) = self.trees.get_mut(&unit).filter(is_wanted) else {
            return Ok(());
        };
        self.changed = Some(unit);
        let key = row_key(unit);
        let record = match engine.scan_from(&key, 1, 1) {
            Ok(page) => page.records.into_iter().next().filter(|(found, _)| *found == key),
            Err(error) if is_refused(&error) => None,
            Err(error) => return Err(error),
        };
        let end = self.catch_up.end;
        let leaves = record.filter(|(_, record)| record.lsn <= end).and_then(|(_, record)| {
            let leaves = tree_row::leaves(unit, self.partitions, record.head, &record.body);
            Some((record.lsn, leaves?))
        });
        match leaves {
            Some((lsn, leaves)) => {
                leaves.into_iter().for_each(|(leaf, sum)| grown.tree.change(leaf, sum));
                grown.standing = Standing::Behind(lsn);
            }
            None => self.refuse(unit),
        }
        Ok(())
    }

    /// Takes a part of the log; when it has been told to its end, all trees that were behind are complete.
    fn replay(&mut self, bytes_max: u64, engine: &mut dyn Engine) -> Result<()> {
        let end = self.catch_up.end;
        let behind = |trees: &Trees| {
            let units = trees.catch_up.units.iter();
            let all = units.filter_map(|unit| Some((*unit, trees.trees.get(unit)?.behind()?)));
            all.collect::<Vec<(Unit, Lsn)>>()
        };
        let from = match self.catch_up.place {
            Some(place) => place,
            None => LogPlace::after(behind(self).iter().map(|one| one.1).min().unwrap_or(end)),
        };
        let told = match from.after < end {
            true => engine.replay(from, bytes_max),
            false => Ok(Replay::Page { changes: Vec::new(), next: None }),
        };
        self.catch_up.place = None;
        match told {
            Ok(Replay::Page { changes, next }) => {
                changes.into_iter().for_each(|change| self.take(&change));
                self.catch_up.place = next.filter(|next| next.after < end);
                if self.catch_up.place.is_none() {
                    behind(self).into_iter().for_each(|(unit, _)| self.is_up_to_date(unit));
                }
            }
            Ok(Replay::Gone) => {
                // The others begin where their rows are, which lies behind it.
                let lost = behind(self).into_iter().filter(|(_, lsn)| *lsn <= from.after);
                lost.for_each(|(unit, _)| self.refuse(unit));
            }
            Err(error) if is_refused(&error) => {
                let lost = behind(self).into_iter().filter(|(_, lsn)| *lsn <= from.after);
                lost.for_each(|(unit, _)| self.refuse(unit));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A change that the log tells.
    fn take(&mut self, change: &Logged) {
        let Some((unit, key)) = parse_unit_key(&change.key, self.partitions) else {
            return;
        };
        let Some(grown) = self.trees.get_mut(&unit) else {
            return;
        };
        if change.lsn > self.catch_up.end || grown.behind().is_none_or(|lsn| change.lsn <= lsn) {
            return;
        }
        self.counts.replayed += 1;
        if change.delta == 0 {
            self.refuse(unit);
            return;
        }
        grown.tree.change(leaf_of(&key), change.delta);
        grown.is_changed = true;
        self.changed = Some(unit);
    }

    fn is_up_to_date(&mut self, unit: Unit) {
        if let Some(grown) = self.trees.get_mut(&unit) {
            grown.standing = Standing::Complete;
            self.catch_up.units.remove(&unit);
            self.counts.loaded += 1;
            self.changed = Some(unit);
        }
    }

    /// The row of a unit is of no use. It stays until another takes its place.
    fn refuse(&mut self, unit: Unit) {
        self.counts.refused += 1;
        self.lose(unit);
        if let Some(grown) = self.trees.get_mut(&unit) {
            grown.is_kept = true;
        }
    }

    /// So many bytes have been written.
    pub const fn wrote(&mut self, bytes: u64) {
        self.keeping.written = self.keeping.written.saturating_add(bytes);
    }

    /// The next round is to store all trees, as one does after many writes.
    pub const fn owe_all(&mut self) {
        self.keeping.owes_all = true;
    }

    /// Whether so much was written that trees are to be stored.
    #[must_use]
    pub const fn is_much_written(&self) -> bool {
        self.keeping.written >= TREES_STORED_BYTES
    }

    /// Whether a round of storing goes on.
    #[must_use]
    pub fn is_storing(&self) -> bool {
        !self.keeping.round.is_empty()
    }

    /// Begins a round, if a tree has changed: those that have are to be stored, or all, so that no row is left with more of the log
    /// behind it than was written since the last such round.
    pub fn begin_to_store(&mut self) {
        let all = self.is_much_written() || std::mem::take(&mut self.keeping.owes_all);
        if all {
            self.keeping.written = 0;
        }
        let complete = || {
            let is_complete = |grown: &Grown| grown.standing == Standing::Complete;
            self.trees.iter().filter(move |(_, grown)| is_complete(grown))
        };
        let all = all && complete().any(|(_, grown)| grown.is_changed);
        let meant = complete().filter(|(_, grown)| all || grown.is_changed);
        self.keeping.round = meant.map(|(unit, _)| *unit).collect();
    }

    /// No round now: a start has the older rows, and more to read.
    pub fn put_off_storing(&mut self) {
        self.keeping.written = 0;
        self.keeping.round.clear();
    }

    /// One step: rows that are to go, and some of a round. Where the disk takes nothing, the round ends.
    pub fn store_some(&mut self, engine: &mut dyn Engine) -> Result<()> {
        self.bury(engine)?;
        let mut units = Vec::new();
        while units.len() < TREES_A_STEP {
            let Some(unit) = self.keeping.round.pop() else { break };
            units.push(unit);
        }
        self.store(&units, engine)
    }

    /// The last thing before the store is closed: all, in one write, so that the next start has nothing to read of the log.
    pub fn store_all(&mut self, engine: &mut dyn Engine) -> Result<()> {
        while self.bury(engine)? {}
        if engine.is_nearly_full() {
            return Ok(());
        }
        let all: Vec<Unit> = self.trees.keys().copied().take(TREES_AT_STOP_MAX).collect();
        self.store(&all, engine)
    }

    fn store(&mut self, units: &[Unit], engine: &mut dyn Engine) -> Result<()> {
        let mut batch = Batch::default();
        for &unit in units {
            batch.changes.extend(self.complete(unit).map(|tree| row(unit, self.partitions, tree)));
        }
        if batch.changes.is_empty() {
            return Ok(());
        }
        match engine.write(&batch) {
            Err(error) if error.wrote_nothing() => {
                self.keeping.round.clear();
                return Ok(());
            }
            written => drop(written?),
        }
        self.counts.stored += batch.changes.len() as u64;
        self.counts.stored_bytes += batch.changes.iter().map(Change::bytes).sum::<u64>();
        for unit in units {
            if let Some(grown) = self.trees.get_mut(unit)
                && grown.standing == Standing::Complete
            {
                (grown.is_kept, grown.is_changed) = (true, false);
                self.keeping.dead.remove(unit);
            }
        }
        Ok(())
    }

    /// Takes rows away that are of no use. Whether there were any, and the disk took it.
    fn bury(&mut self, engine: &mut dyn Engine) -> Result<bool> {
        let dead: Vec<Unit> = self.keeping.dead.iter().take(RANGE_KEYS_MAX).copied().collect();
        if dead.is_empty() {
            return Ok(false);
        }
        let changes = dead.iter().map(|&unit| removal(unit)).collect();
        match engine.write(&Batch { changes }) {
            Err(error) if error.wrote_nothing() => return Ok(false),
            written => drop(written?),
        }
        dead.iter().for_each(|unit| _ = self.keeping.dead.remove(unit));
        Ok(true)
    }
}

impl Grown {
    fn stored() -> Grown {
        Grown {
            tree: Tree::default(),
            standing: Standing::Stored,
            is_kept: true,
            is_changed: false,
        }
    }

    /// Up to which write it has the log, when it is behind.
    const fn behind(&self) -> Option<Lsn> {
        match self.standing {
            Standing::Behind(lsn) => Some(lsn),
            Standing::Complete | Standing::Growing(_) | Standing::Stored => None,
        }
    }
}

/// Whether an error means that the row, or the log, is of no use, and nothing worse.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Disk(_)) || error.is_refusal()
}
