//! A compaction, step by step: what is alive in the oldest files is copied, and the files are removed.
//!
//! It takes a run of the oldest sealed files, oldest first, and copies what the keydir still
//! points to into new files, with the Lsns it had. An output is written under another name, ended with a mark, hinted,
//! made durable, renamed, and its name made durable; only then are the inputs it replaces noted as gone (`notes`) and
//! removed, oldest first, each removal made durable before the next.
//! Nothing of this waits for the device: the next sync is given an errand, and
//! the compaction goes on when it has been run (`sync`).
//!
//! **Deletions stay deleted** (basho/bitcask#82). A tombstone is dropped only when no file that remains
//! holds a record older than it, except files that this compaction wrote: what it copied was alive when
//! every input was sealed already, so no tombstone in an input speaks of it. Inputs are removed in the
//! order of their age, so a crash between two removals leaves a tombstone wherever it leaves something
//! for it to hide.
//!
//! **A record is dead only when what replaced it is durable.** Else a power loss could take the
//! replacement after the compaction took the record: inputs are removed only when everything is
//! durable that had been written when they were copied. Until then the compaction waits for a sync, and says so. (So the log file
//! that is the oldest then has a durable header, on which opening relies: `follow`.)
//!
//! **Damage** in an input hides nothing, because the hint knows what stood there. Dead records and marks that a crash tore are
//! passed over, and a tombstone is written anew. A record that is alive ends the compaction: what was copied before stands, the file
//! stays, and so does everything younger, until the key is written over or the bytes are put back (basho/bitcask 956cec0
//! removed such files).
//!
//! A crash in the middle leaves a file `.merge`, which opening removes, or inputs whose records
//! are also in an output: equal Lsns, equal content. Which files are taken, and when, is decided by `background`.

use std::collections::VecDeque;

use bytes::Bytes;
use rondo_core::env::{Disk, Open};
use rondo_core::error::Result;
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::keydir::Place;
use super::{Bitcask, DataFile, Keys, hint};
use crate::log::follow::Entry;
use crate::log::record::{
    self, DELETE, END, FILE_HEADER, FileHeader, Header, Kind, LAST, MARK, Parts,
};
use crate::log::walk::{Item, Walk};

/// Hints are read this many blocks at a time when damage is looked up.
const BLOCKS_AT_ONCE: usize = 16;

/// So many files are noted in one step: each costs a call or two of the disk.
const NOTES_MAX: usize = 8;

/// A compaction under way.
pub(super) struct Compaction<F> {
    /// Files to copy, oldest first; of the first one, from `offset` on.
    inputs: VecDeque<u32>,
    offset: u64,
    /// Copied files that are still there, oldest first.
    consumed: VecDeque<u32>,
    /// All files that this compaction wrote.
    outputs: Vec<u32>,
    /// Whether the output has to end before more is copied.
    is_full: bool,
    /// What was not copied is dead because of writes up to here.
    superseded_by: u64,
    phase: Phase<F>,
}

enum Phase<F> {
    /// Copying; into a file when something has been copied.
    Copy(Option<u32>),
    /// Writing the hint of a full output.
    Hint(u32, hint::Writer<F>),
    /// The output is durable and has its hint: it gets its name.
    Name(u32),
    /// Noting what has been made and what will be removed: what has been copied. So many are noted.
    Note(usize),
    /// Removing them.
    Remove,
}

/// What one step copies.
#[derive(Default)]
struct Copied {
    /// Fingerprint, old and new place, for the keydir.
    moves: Vec<(u32, Place, Place)>,
    entries: Vec<(Box<[u8]>, Entry)>,
    buffer: Vec<u8>,
    read: u64,
    damaged: bool,
    /// Records that are alive and cannot be read: where, and whose.
    rotten: Vec<(u32, Box<[u8]>)>,
    input_ended: bool,
    offset: u64,
}

impl<F> Compaction<F> {
    /// One that has done nothing yet, of these files, oldest first.
    pub(super) fn of(inputs: Vec<u32>) -> Compaction<F> {
        assert!(!inputs.is_empty(), "it has something to do");
        Compaction {
            inputs: inputs.into(),
            offset: 0,
            consumed: VecDeque::new(),
            outputs: Vec::new(),
            is_full: false,
            superseded_by: 0,
            phase: Phase::Copy(None),
        }
    }

    /// What has to be durable before anything can be done.
    pub(super) fn waits_for(&self, durable: u64) -> Option<Lsn> {
        let waits = matches!(self.phase, Phase::Note(_)) && self.superseded_by > durable;
        waits.then_some(Lsn(self.superseded_by))
    }

    /// The last file that it has begun.
    pub(super) fn output(&self) -> Option<u32> {
        self.outputs.last().copied()
    }

    /// Whether file `number` is not complete yet.
    pub(super) fn writes(&self, number: u32) -> bool {
        match &self.phase {
            Phase::Copy(output) => *output == Some(number),
            Phase::Hint(output, _) | Phase::Name(output) => *output == number,
            Phase::Note(_) | Phase::Remove => false,
        }
    }
}

impl<D: Disk> Bitcask<D> {
    /// One step of a compaction; `None` when it has ended.
    pub(super) fn step_compaction(
        &mut self,
        compaction: &mut Compaction<D::File>,
        budget: u64,
    ) -> Result<Option<u64>> {
        let durable = self.syncing.durable;
        match &mut compaction.phase {
            Phase::Copy(output) if compaction.inputs.is_empty() || compaction.is_full => {
                let output = *output;
                self.end_output(compaction, output)?;
            }
            Phase::Copy(output) => {
                let output = *output;
                return self.step_copy(compaction, output, budget).map(Some);
            }
            Phase::Hint(number, writer) if writer.is_ended() => {
                let number = *number;
                self.name_hint(number, writer)?;
                compaction.phase = Phase::Name(number);
            }
            Phase::Hint(number, writer) => {
                let bytes = self.step_hint(*number, writer, budget as usize)?;
                self.syncing.write_ahead(writer.file(), bytes);
                if writer.is_ended() {
                    let data = self.files[number].file.clone();
                    self.syncing.send_errand(vec![data, writer.file().clone()], false);
                }
                return Ok(Some(bytes));
            }
            Phase::Name(number) => {
                self.disk.rename(&self.path(*number, "merge"), &self.path(*number, "data"))?;
                self.syncing.send_errand(Vec::new(), true);
                compaction.phase = Phase::Note(0);
            }
            Phase::Note(_) if durable < compaction.superseded_by => {}
            Phase::Note(noted) => {
                let (from, until, made) = (*noted, *noted + NOTES_MAX, compaction.outputs.len());
                self.note_made(&compaction.outputs[from.min(made)..until.min(made)])?;
                let (from, to) = (from.saturating_sub(made), until.saturating_sub(made));
                self.note_removals(compaction.consumed.iter().copied().take(to).skip(from))?;
                if until < made + compaction.consumed.len() {
                    compaction.phase = Phase::Note(until);
                } else {
                    self.syncing.send_errand(Vec::new(), true);
                    compaction.phase = Phase::Remove;
                }
            }
            Phase::Remove => match compaction.consumed.pop_front() {
                Some(number) => self.remove_file(number)?,
                None if compaction.inputs.is_empty() => {
                    sometimes!(self.disk, CompactionEnded);
                    return Ok(None);
                }
                None => compaction.phase = Phase::Copy(None),
            },
        }
        Ok(Some(0))
    }

    /// Copies about `budget` bytes.
    fn step_copy(
        &mut self,
        compaction: &mut Compaction<D::File>,
        output: Option<u32>,
        budget: u64,
    ) -> Result<u64> {
        let input = compaction.inputs[0];
        let number = match output {
            Some(number) => number,
            None => self.names.next_number,
        };
        let copied = self.copy(compaction, input, number, budget)?;
        let mut output = output;
        if !copied.buffer.is_empty() {
            if output.is_none() {
                self.start_output(number)?;
                compaction.outputs.push(number);
                compaction.phase = Phase::Copy(Some(number));
                output = Some(number);
            }
            self.add_to_output(number, &copied)?;
        }
        let bytes = copied.read + copied.buffer.len() as u64;
        compaction.offset = copied.offset;
        compaction.superseded_by = self.syncing.lsn;
        compaction.phase = Phase::Copy(output);
        if copied.damaged {
            let file = self.files.get_mut(&input).expect("an input is a file");
            file.damaged |= copied.rotten.is_empty();
            for (offset, key) in &copied.rotten {
                file.note_rotten(*offset, key, &mut self.leftovers.untold);
            }
            compaction.inputs.clear();
        } else if copied.input_ended {
            compaction.inputs.pop_front();
            compaction.consumed.push_back(input);
            compaction.offset = 0;
        }
        let full = output.is_some_and(|number| self.is_full(number));
        if full || (output.is_some() && buggify!(self.disk, CompactionOutputFull)) {
            compaction.is_full = true;
        }
        Ok(bytes)
    }

    /// Reads one input from `compaction.offset` on and encodes what is alive for file `number`.
    fn copy(
        &self,
        compaction: &Compaction<D::File>,
        input: u32,
        number: u32,
        budget: u64,
    ) -> Result<Copied> {
        let from = &self.files[&input];
        let start = self.files.get(&number).map_or(FILE_HEADER as u64, |file| file.end);
        let mut copied = Copied { offset: compaction.offset, ..Copied::default() };
        let mut walk = Walk::new(&*self.disk, &from.file, from.seed, compaction.offset, from.end);
        // A step that reads little also ends, so that a file full of dead records is no long step.
        while copied.buffer.len() as u64 + (copied.offset - compaction.offset) < budget.max(1) {
            let at = walk.offset();
            match walk.next()? {
                None => {
                    // A sealed file ends with its last record: zeroes before that were a record.
                    if walk.ended_in_zeroes() {
                        self.pass_damage(
                            compaction,
                            input,
                            at..from.end,
                            (number, start),
                            &mut copied,
                        );
                    }
                    copied.input_ended = !copied.damaged;
                }
                Some(Item::Damage { from, .. } | Item::Rotten { offset: from, .. }) => {
                    let hole = from..walk.offset();
                    self.pass_damage(compaction, input, hole, (number, start), &mut copied);
                }
                Some(Item::Record { offset, header, bytes }) => {
                    let (offset, len) = (offset as u32, bytes.len() as u32);
                    let old = Place { file: input, offset, len };
                    let key = header.key(bytes);
                    if self.is_kept(compaction, old, &header, key) {
                        let head = &bytes[header.key_at() + header.key_len..header.body_at()];
                        let body = [Bytes::copy_from_slice(&bytes[header.body_at()..])];
                        let flags = LAST | header.flags & DELETE;
                        let lsn = header.lsn;
                        // Deltas are told by logs alone.
                        let delta = 0;
                        let parts = Parts { lsn, index: 0, flags, delta, key, head, body: &body };
                        self.keep(&parts, old, (number, start), &mut copied);
                    }
                }
            }
            if copied.input_ended || copied.damaged {
                break;
            }
            copied.offset = walk.offset();
        }
        copied.read = walk.bytes_read();
        Ok(copied)
    }

    /// Adds a record to what is copied into an output, given with where the copy starts.
    fn keep(&self, parts: &Parts<'_>, old: Place, to: (u32, u64), copied: &mut Copied) {
        let (number, start) = to;
        let (key, lsn, deleted) = (parts.key, parts.lsn, parts.flags & DELETE != 0);
        let at = start + copied.buffer.len() as u64;
        let seed = record::seed(self.names.salt, number);
        let len = record::encode(&mut copied.buffer, seed, at, parts) as u32;
        let offset = at as u32;
        copied.entries.push((key.into(), Entry { lsn, offset, len, deleted }));
        if !deleted {
            let new = Place { file: number, offset, len };
            copied.moves.push((self.fingerprint(key), old, new));
        }
    }

    /// Asks the hint what stood where the input is damaged: deletions are kept, and what is alive ends the compaction.
    fn pass_damage(
        &self,
        compaction: &Compaction<D::File>,
        input: u32,
        hole: std::ops::Range<u64>,
        to: (u32, u64),
        copied: &mut Copied,
    ) {
        let Keys::Hint(hint) = &self.files[&input].keys else {
            copied.damaged = true;
            return;
        };
        let mut cursor = hint.start(BLOCKS_AT_ONCE);
        loop {
            if cursor.advance(&*self.disk, hint).is_err() {
                copied.damaged = true;
                return;
            }
            let Some((key, entry)) = cursor.current() else {
                break;
            };
            if !hole.contains(&u64::from(entry.offset)) {
                continue;
            }
            let old = Place { file: input, offset: entry.offset, len: entry.len };
            let is_alive = || self.keydir.find(self.fingerprint(key)).any(|place| place == old);
            if entry.deleted && self.is_tombstone_needed(compaction, input, entry.lsn) {
                let (lsn, flags) = (entry.lsn, LAST | DELETE);
                let parts = Parts { lsn, index: 0, flags, delta: 0, key, head: &[], body: &[] };
                self.keep(&parts, old, to, copied);
            } else if !entry.deleted && is_alive() {
                copied.damaged = true;
                copied.rotten.push((entry.offset, key.into()));
            }
        }
        sometimes!(self.disk, CompactionPassedDamage, !copied.damaged);
    }

    /// Whether a record is alive, or a deletion that still hides something.
    fn is_kept(
        &self,
        compaction: &Compaction<D::File>,
        old: Place,
        header: &Header,
        key: &[u8],
    ) -> bool {
        let deleted = header.has(DELETE);
        let keep = if header.has(MARK) {
            false
        } else if deleted {
            self.is_tombstone_needed(compaction, old.file, header.lsn)
        } else {
            self.keydir.find(self.fingerprint(key)).any(|place| place == old)
        };
        sometimes!(self.disk, CompactionFoundADeadRecord, !keep && !deleted);
        sometimes!(self.disk, CompactionDroppedATombstone, !keep && deleted);
        keep
    }

    /// Whether a file that remains may hold something that this tombstone hides.
    fn is_tombstone_needed(&self, compaction: &Compaction<D::File>, input: u32, lsn: u64) -> bool {
        self.files.iter().any(|(number, file)| {
            *number != input
                && !compaction.consumed.contains(number)
                && !compaction.outputs.contains(number)
                && file.lsn_min < lsn
        })
    }

    fn start_output(&mut self, number: u32) -> Result<()> {
        assert!(!self.files.contains_key(&number), "an output is a new file");
        let path = self.path(number, "merge");
        let file = self.disk.open(&path, Open::New)?;
        let (kind, salt, durable) = (Kind::Compacted, self.names.salt, self.syncing.durable);
        let header = FileHeader { kind, number, salt, base: 0, durable };
        if let Err(error) = self.disk.write_at(&file, &[&header.encode()], 0) {
            self.disk.remove(&path)?;
            return Err(error.into());
        }
        self.names.next_number += 1;
        let seed = record::seed(salt, number);
        self.files.insert(number, DataFile::empty(file, kind, seed));
        Ok(())
    }

    /// Writes what was copied, and points the keydir to it.
    fn add_to_output(&mut self, number: u32, copied: &Copied) -> Result<()> {
        assert!(copied.moves.len() <= copied.entries.len(), "what is moved was copied");
        let file = self.files.get_mut(&number).expect("an output is a file");
        assert_eq!(file.kind, Kind::Compacted, "logs hold writes alone");
        self.disk.write_at(&file.file, &[&copied.buffer], file.end)?;
        file.end += copied.buffer.len() as u64;
        let handle = file.file.clone();
        for (key, entry) in &copied.entries {
            file.note_lsn(entry.lsn);
            if let Keys::Table(table) = &mut file.keys {
                table.insert(key, *entry);
                file.tombstones = table.tombstones();
            }
        }
        for &(fingerprint, old, new) in &copied.moves {
            if self.keydir.replace(fingerprint, old, new) {
                self.add_live(old.file, -i64::from(old.len));
                self.add_live(new.file, i64::from(new.len));
            }
        }
        self.syncing.write_ahead(&handle, copied.buffer.len() as u64);
        Ok(())
    }

    fn is_full(&self, number: u32) -> bool {
        let file = &self.files[&number];
        let table_full = match &file.keys {
            Keys::Table(table) => table.bytes() >= self.options.index_bytes_max,
            Keys::Hint(_) => true,
        };
        table_full || file.end >= self.options.file_bytes_max
    }

    /// Ends an output with a mark and starts its hint.
    fn end_output(
        &mut self,
        compaction: &mut Compaction<D::File>,
        output: Option<u32>,
    ) -> Result<()> {
        let Some(number) = output else {
            compaction.phase = Phase::Note(0);
            return Ok(());
        };
        // First what may fail.
        let path = self.path(number, "hint-new");
        let writer = hint::Writer::create(&*self.disk, &path, self.files[&number].seed)?;
        let file = self.files.get_mut(&number).expect("an output is a file");
        let mut buffer = Vec::new();
        record::encode_mark(&mut buffer, file.seed, file.end, self.syncing.durable, END);
        self.disk.write_at(&file.file, &[&buffer], file.end)?;
        file.end += buffer.len() as u64;
        compaction.is_full = false;
        compaction.phase = Phase::Hint(number, writer);
        Ok(())
    }
}
