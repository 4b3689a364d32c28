//! Background work in bounded steps: hints of sealed files, and merges that give space back.
//!
//! A merge takes a run of the oldest sealed files, oldest first, and copies what the keydir still
//! points to into new files, with the Lsns it had. An output is written under another name, synced
//! step by step, ended with a mark, hinted, renamed, and its name made durable; only then are the inputs
//! it replaces removed, oldest first, each removal made durable before the next.
//!
//! **Deletions stay deleted** (basho/bitcask#82). A tombstone is dropped only when no file that remains
//! holds a record older than it, except files that this merge wrote: what it copied was alive when
//! every input was sealed already, so no tombstone in an input speaks of it. Inputs are removed in the
//! order of their age, so a crash between two removals leaves a tombstone wherever it leaves something
//! for it to hide.
//!
//! **A record is dead only when what replaced it is durable.** Else a power loss could take the
//! replacement after the merge took the record: inputs are removed only when everything is
//! durable that had been written when they were copied. Until then the merge waits for a sync, and says so. (So the log file
//! that is the oldest then has a durable header, on which opening relies: `follow`.)
//!
//! A damaged input ends the merge: what was copied before stands, the file stays, and so does
//! everything younger until somebody repairs it (basho/bitcask 956cec0 removed such files). Where the writes around the
//! damage follow each other it held none, but a mark that a crash tore.
//!
//! A crash in the middle leaves a file `.merge`, which opening removes, or inputs whose records
//! are also in an output: equal Lsns, equal content.

use std::collections::VecDeque;

use bytes::Bytes;
use rondo_core::engine::Progress;
use rondo_core::env::{Disk, Open};
use rondo_core::error::Result;
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::follow::Sequence;
use super::keydir::Place;
use super::record::{
    self, DELETE, END, FILE_HEADER, FileHeader, HEADER, Header, Kind, LAST, MARK, Parts,
};
use super::table::Entry;
use super::walk::{Item, Walk};
use super::{Background, Bitcask, DataFile, GRAVES_MAX, Keys, hint};

/// More small files than this are merged even when nothing in them is dead.
const SMALL_FILES_MAX: usize = 32;

/// A merge under way.
pub(super) struct Merge<F> {
    /// Files to copy, oldest first; of the first one, from `offset` on.
    inputs: VecDeque<u32>,
    offset: u64,
    /// Which writes have been seen up to there, when it is a log file.
    sequence: Option<Sequence>,
    /// Copied files that are still there, oldest first.
    consumed: VecDeque<u32>,
    /// All files that this merge wrote.
    outputs: Vec<u32>,
    /// What was not copied is dead because of writes up to here.
    superseded_by: u64,
    phase: Phase<F>,
}

enum Phase<F> {
    /// Copying; into a file when something has been copied.
    Copy(Option<u32>),
    /// Writing the hint of a full output.
    Hint(u32, hint::Writer<F>),
    /// Removing what has been copied.
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
    input_ended: bool,
    offset: u64,
    sequence: Option<Sequence>,
}

impl<F> Merge<F> {
    /// What has to be durable before anything can be done.
    fn waits_for(&self, durable: u64) -> Option<Lsn> {
        let waits = matches!(self.phase, Phase::Remove) && self.superseded_by > durable;
        waits.then_some(Lsn(self.superseded_by))
    }

    /// Whether file `number` is not complete yet.
    pub(super) fn writes(&self, number: u32) -> bool {
        match &self.phase {
            Phase::Copy(output) => *output == Some(number),
            Phase::Hint(output, _) => *output == number,
            Phase::Remove => false,
        }
    }
}

impl<D: Disk> Bitcask<D> {
    /// One step of whatever is to be done.
    pub(super) fn background_step(&mut self, budget: u64) -> Result<Progress> {
        let background = match self.background.take() {
            Some(background) => background,
            None => match self.plan()? {
                Some(background) => background,
                None => return Ok(Progress::default()),
            },
        };
        let (bytes, background) = match background {
            Background::Hint(number, mut writer) => {
                let bytes = self.step_hint(number, &mut writer, budget as usize)?;
                if bytes > 0 {
                    sometimes!(self.disk, HintWrittenInBackground);
                    (bytes, Some(Background::Hint(number, writer)))
                } else {
                    self.finish_hint(number, writer)?;
                    (hint::BLOCK as u64, None)
                }
            }
            Background::Merge(merge) => {
                let (bytes, merge) = self.step_merge(merge, budget)?;
                (bytes, merge.map(Background::Merge))
            }
        };
        self.background = background;
        let waits_for = match &self.background {
            Some(Background::Merge(merge)) => merge.waits_for(self.durable),
            _ => None,
        };
        sometimes!(self.disk, MergeWaitedForASync, waits_for.is_some());
        Ok(Progress { bytes, more: waits_for.is_none(), waits_for })
    }

    fn plan(&mut self) -> Result<Option<Background<D::File>>> {
        if let Some((number, writer)) = self.start_hint(false)? {
            return Ok(Some(Background::Hint(number, writer)));
        }
        let inputs = self.choose_inputs();
        let none = inputs.is_empty();
        let (consumed, outputs, phase) = (VecDeque::new(), Vec::new(), Phase::Copy(None));
        let merge = Merge {
            inputs: inputs.into(),
            offset: 0,
            sequence: None,
            consumed,
            outputs,
            superseded_by: 0,
            phase,
        };
        Ok((!none).then_some(Background::Merge(merge)))
    }

    /// The oldest sealed files, as far as it pays to copy them; none when there is too little to gain.
    fn choose_inputs(&self) -> Vec<u32> {
        let mut files: Vec<(u32, &DataFile<D::File>)> = self
            .files
            .iter()
            .filter(|&(&number, file)| file.is_sealed() && number != self.active.number)
            .map(|(&number, file)| (number, file))
            .collect();
        files.sort_by_key(|(number, file)| (file.lsn_min, *number));
        let sound = files.iter().take_while(|(_, file)| !file.damaged).count();
        files.truncate(sound);
        let dead: u64 = files.iter().map(|(_, file)| file.dead()).sum();
        let all: u64 = files.iter().map(|(_, file)| file.end).sum();
        let percent = self.options.merge_dead_percent;
        let small = |file: &DataFile<D::File>| file.end < self.options.file_bytes_max / 8;
        let small_files = files.iter().filter(|(_, file)| small(file)).count();
        let too_many = small_files > SMALL_FILES_MAX;
        let worth = dead > 0
            && dead >= self.options.merge_dead_bytes_min
            && dead.saturating_mul(100) >= percent.saturating_mul(all);
        let worth = worth || (dead > 0 && buggify!(self.disk, MergeForLittle));
        if !worth && !too_many {
            return Vec::new();
        }
        // The youngest files are left alone while little in them is dead.
        let idle = |file: &DataFile<D::File>| file.dead() * 200 < percent * file.end;
        while files.last().is_some_and(|(_, file)| idle(file) && !(too_many && small(file))) {
            files.pop();
        }
        if buggify!(self.disk, MergeOfOneFile) {
            files.truncate(1);
        }
        files.into_iter().map(|(number, _)| number).collect()
    }

    fn step_merge(
        &mut self,
        mut merge: Merge<D::File>,
        budget: u64,
    ) -> Result<(u64, Option<Merge<D::File>>)> {
        let bytes = match merge.phase {
            Phase::Copy(output) if merge.inputs.is_empty() => {
                merge.phase = self.end_output(output)?;
                0
            }
            Phase::Copy(output) => self.step_copy(&mut merge, output, budget)?,
            Phase::Hint(number, mut writer) => {
                let bytes = self.step_hint(number, &mut writer, budget as usize)?;
                if bytes > 0 {
                    merge.phase = Phase::Hint(number, writer);
                } else {
                    self.finish_hint(number, writer)?;
                    let (from, to) = (self.path(number, "merge"), self.path(number, "data"));
                    self.disk.rename(&from, &to)?;
                    self.disk.sync_dir(&self.dir)?;
                    merge.phase = Phase::Remove;
                }
                bytes
            }
            Phase::Remove if self.durable < merge.superseded_by => 0,
            Phase::Remove => {
                match merge.consumed.pop_front() {
                    Some(number) => self.remove_file(number)?,
                    None if merge.inputs.is_empty() => {
                        sometimes!(self.disk, MergeEnded);
                        return Ok((0, None));
                    }
                    None => merge.phase = Phase::Copy(None),
                }
                0
            }
        };
        Ok((bytes, Some(merge)))
    }

    /// Copies about `budget` bytes.
    fn step_copy(
        &mut self,
        merge: &mut Merge<D::File>,
        output: Option<u32>,
        budget: u64,
    ) -> Result<u64> {
        let input = merge.inputs[0];
        let number = match output {
            Some(number) => number,
            None => self.next_number,
        };
        let copied = self.copy(merge, input, number, budget)?;
        let mut output = output;
        if !copied.buffer.is_empty() {
            if output.is_none() {
                self.start_output(number)?;
                merge.outputs.push(number);
                output = Some(number);
            }
            self.add_to_output(number, &copied)?;
        }
        let bytes = copied.read + copied.buffer.len() as u64;
        (merge.offset, merge.sequence) = (copied.offset, copied.sequence);
        merge.superseded_by = self.lsn;
        merge.phase = Phase::Copy(output);
        if copied.damaged {
            self.files.get_mut(&input).expect("an input is a file").damaged = true;
            merge.inputs.clear();
        } else if copied.input_ended {
            merge.inputs.pop_front();
            merge.consumed.push_back(input);
            merge.offset = 0;
        }
        let full = output.is_some_and(|number| self.is_full(number));
        if full || (output.is_some() && buggify!(self.disk, MergeOutputFull)) {
            merge.phase = self.end_output(output)?;
        }
        Ok(bytes)
    }

    /// Reads one input from `merge.offset` on and encodes what is alive for file `number`.
    fn copy(&self, merge: &Merge<D::File>, input: u32, number: u32, budget: u64) -> Result<Copied> {
        let from = &self.files[&input];
        let start = self.files.get(&number).map_or(FILE_HEADER as u64, |file| file.end);
        let seed = record::seed(self.salt, number);
        let starts = || (from.kind == Kind::Log).then(|| Sequence::before(from.lsn_min));
        let sequence = if merge.offset == 0 { starts() } else { merge.sequence };
        let mut copied = Copied { offset: merge.offset, sequence, ..Copied::default() };
        let mut hole = false;
        let mut walk = Walk::new(&*self.disk, &from.file, from.seed, merge.offset, from.end);
        // A step that reads little also ends, so that a file full of dead records is no long step.
        while copied.buffer.len() as u64 + (copied.offset - merge.offset) < budget.max(1) {
            match walk.next()? {
                // A sealed file ends with its last record: zeroes before that were a record.
                None => {
                    let ended = copied.sequence.is_none_or(|seen| seen.is_at(from.lsn_max));
                    copied.damaged = walk.ended_in_zeroes() || (hole && !ended);
                    copied.input_ended = !copied.damaged;
                }
                // Whether it held anything is known when the next write is seen.
                Some(Item::Damage { .. }) => {
                    hole = true;
                    copied.damaged = copied.sequence.is_none();
                }
                Some(Item::Record { offset, header, bytes }) => {
                    if !header.has(MARK) {
                        let follows =
                            copied.sequence.as_mut().is_none_or(|seen| seen.take(&header));
                        copied.damaged = hole && !follows;
                        hole = false;
                    }
                    let (old_offset, len) = (offset as u32, bytes.len() as u32);
                    let old = Place { file: input, offset: old_offset, len };
                    let key = &bytes[HEADER..HEADER + header.key_len];
                    if !copied.damaged && self.is_kept(merge, old, &header, key) {
                        let (fingerprint, deleted) = (self.fingerprint(key), header.has(DELETE));
                        let at = start + copied.buffer.len() as u64;
                        let offset = at as u32;
                        let head = &bytes[HEADER + header.key_len..header.body_at()];
                        let body = [Bytes::copy_from_slice(&bytes[header.body_at()..])];
                        let flags = LAST | header.flags & DELETE;
                        let lsn = header.lsn;
                        let parts = Parts { lsn, index: 0, flags, key, head, body: &body };
                        record::encode(&mut copied.buffer, seed, at, &parts);
                        copied.entries.push((key.into(), Entry { lsn, offset, len, deleted }));
                        if !deleted {
                            let new = Place { file: number, offset, len };
                            copied.moves.push((fingerprint, old, new));
                        }
                    }
                }
            }
            if copied.input_ended || copied.damaged {
                break;
            }
            if !hole {
                copied.offset = walk.offset();
            }
        }
        copied.read = walk.bytes_read();
        Ok(copied)
    }

    /// Whether a record is alive, or a deletion that still hides something.
    fn is_kept(&self, merge: &Merge<D::File>, old: Place, header: &Header, key: &[u8]) -> bool {
        let deleted = header.has(DELETE);
        let keep = if header.has(MARK) {
            false
        } else if deleted {
            self.is_tombstone_needed(merge, old.file, header.lsn)
        } else {
            self.keydir.find(self.fingerprint(key)).any(|place| place == old)
        };
        sometimes!(self.disk, MergeFoundADeadRecord, !keep && !deleted);
        sometimes!(self.disk, MergeDroppedATombstone, !keep && deleted);
        keep
    }

    /// Whether a file that remains may hold something that this tombstone hides.
    fn is_tombstone_needed(&self, merge: &Merge<D::File>, input: u32, lsn: u64) -> bool {
        self.files.iter().any(|(number, file)| {
            *number != input
                && !merge.consumed.contains(number)
                && !merge.outputs.contains(number)
                && file.lsn_min < lsn
        })
    }

    fn start_output(&mut self, number: u32) -> Result<()> {
        self.next_number += 1;
        let path = self.path(number, "merge");
        let file = self.disk.open(&path, Open::New)?;
        let (kind, salt, durable) = (Kind::Merged, self.salt, self.durable);
        let header = FileHeader { kind, number, salt, base: 0, durable };
        self.disk.write_at(&file, &[&header.encode()], 0)?;
        let seed = record::seed(salt, number);
        self.files.insert(number, DataFile::empty(file, kind, seed));
        Ok(())
    }

    /// Writes what was copied, makes it durable, and points the keydir to it.
    fn add_to_output(&mut self, number: u32, copied: &Copied) -> Result<()> {
        let file = self.files.get_mut(&number).expect("an output is a file");
        self.disk.write_at(&file.file, &[&copied.buffer], file.end)?;
        self.disk.sync_now(&file.file)?;
        file.end += copied.buffer.len() as u64;
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
    fn end_output(&mut self, output: Option<u32>) -> Result<Phase<D::File>> {
        let Some(number) = output else {
            return Ok(Phase::Remove);
        };
        let file = self.files.get_mut(&number).expect("an output is a file");
        let mut buffer = Vec::new();
        record::encode_mark(&mut buffer, file.seed, file.end, self.durable, END);
        self.disk.write_at(&file.file, &[&buffer], file.end)?;
        self.disk.sync_now(&file.file)?;
        file.end += buffer.len() as u64;
        let seed = file.seed;
        let path = self.path(number, "hint-new");
        Ok(Phase::Hint(number, hint::Writer::create(&*self.disk, &path, seed)?))
    }

    /// Removes a file that is copied; durable before the next is removed.
    fn remove_file(&mut self, number: u32) -> Result<()> {
        self.disk.remove(&self.path(number, "data"))?;
        self.disk.remove(&self.path(number, "hint"))?;
        self.disk.sync_dir(&self.dir)?;
        if let Some(file) = self.files.remove(&number) {
            self.graves.push_back((number, file.file));
        }
        if self.graves.len() > GRAVES_MAX {
            self.graves.pop_front();
        }
        Ok(())
    }
}
