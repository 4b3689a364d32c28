//! Writing tables in bounded steps: out of a frozen memtable, and out of tables of two levels.
//!
//! **Deletions stay deleted.** A deletion is dropped only where no table below the level that it goes to covers its key: tables
//! above are newer, and what is on the level itself is merged with it.
//!
//! **With little room** a compaction ends with the first table that it has written: of its inputs those go that it has read to their
//! end, and the others begin behind the last key that it has passed (`Table::behind`). What is left of them is picked again.
//!
//! **Damage** goes with its key: of a record whose body cannot be read the head is kept, of one that is lost the key, and both
//! answer an error until they are written over. A block that nobody can name leaves its tables where they are.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::{buggify, sometimes};

use super::block::{Item, Kind};
use super::cache::Cache;
use super::levels::Pick;
use super::memtable::Memtable;
use super::table::{Run, Shelf, Table};
use super::writer::{EXTENSION, Writer};
use super::{Lsm, Tables};

/// A frozen memtable that is being written.
pub(super) struct Flush<F> {
    table: Arc<Memtable>,
    writer: Writer<F>,
    /// The last key that was written.
    after: Option<Box<[u8]>>,
}

/// Tables that are being merged.
pub(super) struct Compaction<F> {
    to: usize,
    /// Whether it takes several tables of level 0.
    is_wide: bool,
    inputs: Vec<u32>,
    /// The newest first.
    runs: Vec<Run<F>>,
    has_begun: bool,
    writer: Option<Writer<F>>,
    outputs: Vec<Arc<Table<F>>>,
    /// The last key that it passed, when it ends there.
    passed: Option<Box<[u8]>>,
}

impl<F: Clone> Compaction<F> {
    /// The tables that it has written, and the one that it is writing.
    fn written(&self) -> Vec<u32> {
        let outputs = self.outputs.iter().map(|table| table.meta.number);
        outputs.chain(self.writer.iter().map(Writer::number)).collect()
    }
}

impl<D: Disk> Lsm<D> {
    /// One step of writing the oldest frozen memtable; answers how many bytes it was.
    pub(super) fn step_flush(&mut self, budget: u64) -> Result<u64> {
        let mut flush = match self.work.flush.take() {
            Some(flush) => flush,
            None => {
                let Some(frozen) = self.memory.frozen.front() else { return Ok(0) };
                let table = Arc::clone(&frozen.table);
                Flush { table, writer: self.new_writer()?, after: None }
            }
        };
        let before = flush.writer.len();
        let mut entries = flush.table.after(flush.after.as_deref());
        let (mut last, mut is_done) = (None, false);
        while flush.writer.len() - before < budget.max(1) {
            let Some((key, stored)) = entries.next() else {
                is_done = true;
                break;
            };
            flush.writer.add(&stored.item(key));
            last = Some(key.clone());
        }
        flush.after = last.or(flush.after);
        let bytes = flush.writer.len() - before;
        let number = flush.writer.number();
        let file = flush.writer.file().clone();
        match flush.writer.write(&*self.disk) {
            Err(error) => return Err(self.discard(&[number], error.into())),
            Ok(written) => self.syncing.write_ahead(&file, written),
        }
        if !is_done {
            self.work.flush = Some(flush);
            return Ok(bytes);
        }
        match flush.writer.finish(&*self.disk) {
            Err(error) => return Err(self.discard(&[number], error.into())),
            Ok(table) => self.add_young(table),
        }
        Ok(bytes.max(1))
    }

    /// The oldest frozen memtable is a table now.
    pub(super) fn add_young(&mut self, table: Table<D::File>) {
        let Some(frozen) = self.memory.frozen.pop_front() else { return };
        sometimes!(self.disk, MemtableFlushed);
        assert!(self.tables.flushed <= frozen.last, "memtables are flushed in order");
        assert_eq!(table.meta.count, frozen.table.len() as u64, "all of it is in the table");
        self.tables.flushed = frozen.last;
        self.tables.flushed_log = frozen.log;
        self.tables.totals = frozen.totals;
        self.work.persist.unsynced.push(table.file.clone());
        self.tables.levels.add(0, table.into());
        self.tables_changed();
    }

    pub(super) fn new_writer(&mut self) -> Result<Writer<D::File>> {
        let number = self.names.next_number;
        let (disk, salt, block) = (&*self.disk, self.names.salt, self.options.block_bytes);
        let writer = Writer::create(disk, &self.names.dir, number, salt, block)?;
        self.names.next_number += 1;
        Ok(writer)
    }

    /// What was written into these tables is of no use; answers the error, or another one.
    fn discard(&self, numbers: &[u32], error: Error) -> Error {
        self.remove_tables(numbers).err().unwrap_or(error)
    }

    fn remove_tables(&self, numbers: &[u32]) -> Result<()> {
        for number in numbers {
            self.disk.remove(&self.path(*number, EXTENSION))?;
        }
        Ok(())
    }

    /// Begins what was picked. A table that meets no other, and has nothing to be dropped, is moved at once.
    pub(super) fn start_compaction(&mut self, pick: Pick<D::File>) {
        let Pick { level, upper, lower, to } = pick;
        let is_moved = match &upper[..] {
            [table] => {
                let is_whole = !table.is_cut();
                lower.is_empty() && is_whole && table.meta.tombstones * 2 < table.meta.count
            }
            _ => false,
        };
        let inputs: Vec<u32> = upper.iter().chain(&lower).map(|table| table.meta.number).collect();
        if is_moved && level != to {
            sometimes!(self.disk, TableMoved);
            self.tables.levels.remove(&inputs);
            upper.into_iter().for_each(|table| self.tables.levels.add(to, table));
            self.tables_changed();
            return;
        }
        let mut runs: Vec<Run<D::File>> = match level {
            0 => upper.into_iter().rev().map(|table| Run::new(vec![table], false)).collect(),
            _ => vec![Run::new(upper, false)],
        };
        runs.push(Run::new(lower, false));
        let (has_begun, writer, outputs, passed) = (false, None, Vec::new(), None);
        let is_wide = runs.len() > 2;
        let compaction =
            Compaction { to, is_wide, inputs, runs, has_begun, writer, outputs, passed };
        self.work.compaction = Some(compaction);
    }

    /// One step of the compaction under way; answers how many bytes it read.
    pub(super) fn step_compaction(&mut self, budget: u64) -> Result<u64> {
        let Some(mut compaction) = self.work.compaction.take() else { return Ok(0) };
        if compaction.is_wide && self.has_little_room() {
            // None of its inputs would go before all are read.
            sometimes!(self.disk, CompactionGivenUp);
            let numbers = compaction.written();
            return self.remove_tables(&numbers).map(|()| 1);
        }
        match self.merge(&mut compaction, budget) {
            Ok((bytes, false)) => {
                self.work.compaction = Some(compaction);
                self.look_at_suspects();
                Ok(bytes)
            }
            Ok((bytes, true)) => {
                self.end_compaction(compaction);
                self.look_at_suspects();
                Ok(bytes.max(1))
            }
            Err(error) => {
                let numbers = compaction.written();
                if matches!(error, Error::Corrupt { .. }) {
                    // It would be met again.
                    self.work.stuck.extend(&compaction.inputs);
                }
                Err(self.discard(&numbers, error))
            }
        }
    }

    /// Merges about so many bytes; answers how many they were, and whether that is all.
    fn merge(&mut self, compaction: &mut Compaction<D::File>, budget: u64) -> Result<(u64, bool)> {
        // What is read for a compaction is not read again: the cache is not told.
        let disk = Arc::clone(&self.disk);
        let mut none = Cache::new(0);
        let mut shelf = Shelf { disk: &*disk, cache: &mut none };
        let read = |runs: &[Run<D::File>]| runs.iter().map(|run| run.read).sum::<u64>();
        let before = read(&compaction.runs);
        if !compaction.has_begun {
            for run in &mut compaction.runs {
                run.first(&mut shelf)?;
            }
            compaction.has_begun = true;
        }
        let mut passed = 0;
        loop {
            let bytes = (read(&compaction.runs) - before).max(passed);
            if bytes >= budget.max(1) {
                return Ok((bytes, false));
            }
            let Some(at) = newest(&compaction.runs) else {
                self.end_output(compaction)?;
                return Ok((bytes, true));
            };
            passed += 1 + compaction.runs[at].key().len() as u64;
            self.keep(compaction, at, &shelf)?;
            let key = pass(&mut compaction.runs, at, &mut shelf)?;
            let is_short = self.has_little_room() || buggify!(self.disk, CompactionCutShort);
            if is_short && !compaction.outputs.is_empty() && compaction.writer.is_none() {
                compaction.passed = Some(key);
                return Ok(((read(&compaction.runs) - before).max(passed), true));
            }
        }
    }

    /// Writes the entry at which the run `at` stands, unless nothing needs it.
    fn keep(
        &mut self,
        compaction: &mut Compaction<D::File>,
        at: usize,
        shelf: &Shelf<'_, D>,
    ) -> Result<()> {
        let run = &compaction.runs[at];
        let Some(entry) = run.entry() else { return Ok(()) };
        let key = run.key();
        if entry.kind == Kind::Delete && !self.tables.levels.is_below(compaction.to, key) {
            sometimes!(self.disk, TombstoneDropped);
            return Ok(());
        }
        let (mut kind, mut body) = (entry.kind, Bytes::new());
        if kind == Kind::Put {
            match run.body(shelf) {
                Ok(found) => body = found,
                Err(Error::Corrupt { .. }) => kind = Kind::Bodiless,
                Err(error) => return Err(error),
            }
        }
        if matches!(kind, Kind::Bodiless | Kind::Lost) {
            self.damage.suspect(key);
        }
        let (head, lsn) = (run.head(), entry.lsn);
        let mut writer = match compaction.writer.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        writer.add(&Item { key, lsn, kind, head: &head, body: &body });
        let is_full = writer.len() >= self.options.table_bytes_max;
        let file = writer.file().clone();
        let writer = compaction.writer.insert(writer);
        let written = writer.write(&*self.disk)?;
        self.syncing.write_ahead(&file, written);
        if is_full { self.end_output(compaction) } else { Ok(()) }
    }

    /// Ends the table that is written.
    fn end_output(&self, compaction: &mut Compaction<D::File>) -> Result<()> {
        let Some(writer) = compaction.writer.take() else { return Ok(()) };
        let number = writer.number();
        match writer.finish(&*self.disk) {
            Ok(table) => compaction.outputs.push(table.into()),
            Err(error) => return Err(self.discard(&[number], error.into())),
        }
        Ok(())
    }

    /// The tables of a compaction take the place of its inputs.
    fn end_compaction(&mut self, compaction: Compaction<D::File>) {
        let Compaction { to, mut inputs, outputs, passed, .. } = compaction;
        sometimes!(self.disk, TablesCompacted);
        let Tables { levels, cache, .. } = &mut self.tables;
        if let Some(key) = passed {
            let is_left = |table: &Table<D::File>| *table.meta.largest > *key;
            let left = levels.all().filter(|(_, table)| inputs.contains(&table.meta.number));
            let left = left.filter(|(_, table)| is_left(table)).map(|(_, table)| table);
            let left: Vec<_> = left.map(|table| Arc::new(table.behind(&key))).collect();
            sometimes!(self.disk, CompactionEndedEarly, !left.is_empty());
            inputs.retain(|number| left.iter().all(|table| table.meta.number != *number));
            left.iter().for_each(|table| levels.replace(table));
        }
        levels.remove(&inputs);
        inputs.iter().for_each(|number| cache.forget(*number));
        for table in outputs {
            self.work.persist.unsynced.push(table.file.clone());
            levels.add(to, table);
        }
        self.work.persist.obsolete.extend(inputs);
        self.tables_changed();
    }
}

/// The run with the lowest key, of equal ones the newest.
fn newest<F: Clone>(runs: &[Run<F>]) -> Option<usize> {
    let mut lowest: Option<usize> = None;
    for (at, run) in runs.iter().enumerate() {
        let is_lower = |other: usize| run.key() < runs[other].key();
        if run.entry().is_some() && lowest.is_none_or(is_lower) {
            lowest = Some(at);
        }
    }
    lowest
}

/// Goes behind the key of the run `at`, in all of them; answers the key.
fn pass<D: Disk>(
    runs: &mut [Run<D::File>],
    at: usize,
    shelf: &mut Shelf<'_, D>,
) -> Result<Box<[u8]>> {
    let key: Box<[u8]> = runs[at].key().into();
    for run in &mut runs[at..] {
        if run.entry().is_some() && *run.key() == *key {
            run.advance(shelf)?;
        }
    }
    Ok(key)
}
