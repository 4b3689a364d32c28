//! The active file: appending, handing over, sealing, closing.
//!
//! Order at a change of files: the old file's last bytes are written and its length is cut to its data,
//! then the new file gets its header and its name is made durable. The old file stays among the dirty
//! files until a sync has covered it; until then the new one may survive a power loss while the end of
//! the old one does not. That is no harm, since `recovery` takes writes only without a gap
//! (google/leveldb#193 is what happens otherwise).

use std::collections::BTreeSet;

use bytes::Bytes;
use rondo_core::config::{BODY_BYTES_MAX, ENGINE_KEY_BYTES_MAX, HEAD_BYTES_MAX};
use rondo_core::engine::{Batch, Change};
use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};
use smallvec::SmallVec;

use super::hint::Summary;
use super::keydir::Place;
use super::record::{self, DELETE, FILE_HEADER, FileHeader, HEADER, Kind, LAST, MARK_LEN, Parts};
use super::table::{Entry, Table};
use super::{Active, Bitcask, DataFile, Keys, TABLES_MAX, file_path, hint, make_dir};

/// The most bytes of one batch.
const BATCH_BYTES_MAX: usize = 64 << 20;

impl DataFile<()> {
    /// A file with no records yet.
    pub(super) fn empty<F>(file: F, kind: Kind, seed: u32) -> DataFile<F> {
        DataFile {
            file,
            kind,
            seed,
            end: FILE_HEADER as u64,
            live: 0,
            lsn_min: u64::MAX,
            lsn_max: 0,
            tombstones: 0,
            damaged: false,
            keys: Keys::Table(Table::default()),
        }
    }
}

/// Refuses what does not fit into the format. Nothing has changed then, and nothing is poisoned.
pub(super) fn check_limits(batch: &Batch) -> Result<()> {
    if batch.changes.len() > usize::from(u16::MAX) {
        return Err(Error::Malformed("a batch has at most 65535 changes"));
    }
    for change in &batch.changes {
        let (key, head, body) = parts_of(change);
        if key.len() > ENGINE_KEY_BYTES_MAX {
            return Err(Error::Malformed("the engine key is longer than ENGINE_KEY_BYTES_MAX"));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Error::Malformed("the head is longer than HEAD_BYTES_MAX"));
        }
        if body.iter().map(Bytes::len).sum::<usize>() > BODY_BYTES_MAX {
            return Err(Error::Malformed("the body is longer than BODY_BYTES_MAX"));
        }
    }
    if size_of_batch(batch) > BATCH_BYTES_MAX {
        return Err(Error::Malformed("a batch is at most 64 MiB"));
    }
    Ok(())
}

impl<D: Disk> Bitcask<D> {
    /// Appends a batch to the buffer and points the keydir to it.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<Lsn> {
        if batch.changes.is_empty() {
            return Ok(Lsn(self.lsn));
        }
        self.make_room(size_of_batch(batch))?;
        let lsn = self.lsn + 1;
        let changes = last_of_each_key(batch);
        for (index, change) in changes.iter().enumerate() {
            let last = if index + 1 == changes.len() { LAST } else { 0 };
            self.append_change(lsn, index as u16, last, change)?;
        }
        self.lsn = lsn;
        self.writes += batch.changes.len() as u64;
        Ok(Lsn(lsn))
    }

    fn append_change(&mut self, lsn: u64, index: u16, last: u8, change: &Change) -> Result<()> {
        let (key, head, body) = parts_of(change);
        let fingerprint = self.fingerprint(key);
        let old = self.find_place(fingerprint, key)?;
        let deleted = matches!(change, Change::Delete { .. });
        let flags = last | if deleted { DELETE } else { 0 };
        let number = self.active.number;
        let active = self.files.get_mut(&number).expect("the active file is a file");
        let parts = Parts { lsn, index, flags, key, head, body };
        let (buffer, offset) = (&mut self.active.buffer, active.end as u32);
        let len = record::encode(buffer, active.seed, active.end, &parts) as u32;
        active.end += u64::from(len);
        active.note_lsn(lsn);
        if let Keys::Table(table) = &mut active.keys {
            table.insert(key, Entry { lsn, offset, len, deleted });
            active.tombstones = table.tombstones();
        }
        let place = Place { file: number, offset, len };
        let own = u64::from(key.first() == Some(&0));
        match (old, deleted) {
            (Some(old), false) => {
                self.keydir.replace(fingerprint, old, place);
            }
            (Some(old), true) => {
                self.keydir.remove(fingerprint, old);
                self.own_records -= own;
            }
            (None, false) => {
                self.keydir.insert(fingerprint, place);
                self.own_records += own;
            }
            (None, true) => {}
        }
        sometimes!(self.disk, RecordOverwritten, old.is_some() && !deleted);
        sometimes!(self.disk, RecordDeleted, old.is_some() && deleted);
        if let Some(old) = old {
            self.add_live(old.file, -i64::from(old.len));
        }
        if !deleted {
            self.add_live(number, i64::from(len));
        }
        Ok(())
    }

    pub(super) fn add_live(&mut self, number: u32, bytes: i64) {
        if let Some(file) = self.files.get_mut(&number) {
            file.live = file.live.saturating_add_signed(bytes);
        }
    }

    /// Sees to it that a batch of `size` bytes fits into the active file and the buffer, and that a
    /// buffer that starts now says first what is durable.
    fn make_room(&mut self, size: usize) -> Result<()> {
        let active = &self.files[&self.active.number];
        let table_full = match &active.keys {
            Keys::Table(table) => table.bytes() >= self.options.index_bytes_max,
            Keys::Hint(_) => true,
        };
        let file_full = active.end + (size + MARK_LEN) as u64 > self.options.file_bytes_max;
        sometimes!(self.disk, FileSealed, file_full);
        let full = table_full || file_full || buggify!(self.disk, FileRotatedEarly);
        if full && !active.is_empty() {
            self.rotate()?;
        }
        let early = buggify!(self.disk, BufferWrittenEarly);
        if self.active.buffer.len() + size > self.options.buffer_bytes_max || early {
            self.write_buffer()?;
        }
        let again = self.durable > 0 && buggify!(self.disk, MarkRepeated);
        if self.active.buffer.is_empty() && (self.durable > self.marked || again) {
            sometimes!(self.disk, MarkWritten);
            self.append_mark();
        }
        Ok(())
    }

    fn append_mark(&mut self) {
        let active = self.files.get_mut(&self.active.number).expect("the active file is a file");
        let (buffer, seed, at) = (&mut self.active.buffer, active.seed, active.end);
        active.end += record::encode_mark(buffer, seed, at, self.durable, 0) as u64;
        self.marked = self.durable;
    }

    /// Hands the buffer to the operating system in one write.
    pub(super) fn write_buffer(&mut self) -> Result<()> {
        let active = &mut self.active;
        if active.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.files[&active.number].file;
        let end = active.flushed + active.buffer.len() as u64;
        let step = self.options.allocate_bytes;
        let skipped = buggify!(self.disk, AllocationSkipped);
        if step > 0 && end > active.allocated && !skipped {
            active.allocated = end.next_multiple_of(step);
            self.disk.allocate(file, active.allocated)?;
        }
        self.disk.write_at(file, &[&active.buffer], active.flushed)?;
        active.flushed = end;
        active.buffer.clear();
        note(&mut self.dirty, active.number);
        Ok(())
    }

    /// Seals the active file and starts the next.
    pub(super) fn rotate(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.cut_active()?;
        let tables = self.files.values().filter(|file| !file.is_sealed()).count();
        sometimes!(self.disk, TablesFull, tables >= TABLES_MAX);
        if tables >= TABLES_MAX || buggify!(self.disk, HintsWrittenAtRotation) {
            // Nobody calls `maintain`, or writes come faster: what would be a step waits here.
            self.make_durable()?;
            self.write_hint_at_once(true)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let (active, file) = start_log(self, number)?;
        self.files.insert(number, file);
        self.active = active;
        self.marked = self.marked.max(self.durable);
        note(&mut self.dirty, number);
        Ok(())
    }

    /// Cuts what was allocated ahead and not used.
    fn cut_active(&mut self) -> Result<()> {
        let active = &mut self.active;
        if active.allocated > active.flushed {
            self.disk.set_len(&self.files[&active.number].file, active.flushed)?;
            active.allocated = active.flushed;
            note(&mut self.dirty, active.number);
        }
        Ok(())
    }

    /// Makes everything written durable, and waits for it.
    pub(super) fn make_durable(&mut self) -> Result<()> {
        self.write_buffer()?;
        // What a sync under way covers is not durable yet either.
        let under_way = self.sync.iter().flat_map(|sync| &sync.files);
        let mut numbers: Vec<u32> = under_way.chain(&self.dirty).copied().collect();
        numbers.dedup();
        for number in numbers {
            // A file that a merge removed meanwhile was durable elsewhere before.
            if let Some(file) = self.files.get(&number) {
                self.disk.sync_now(&file.file)?;
            }
        }
        self.dirty.clear();
        self.durable = self.lsn;
        Ok(())
    }

    /// Makes everything durable, says so in the log, and leaves a hint for the last file.
    pub(super) fn close_log(&mut self) -> Result<()> {
        self.make_durable()?;
        if self.durable > self.marked {
            self.append_mark();
        }
        self.write_buffer()?;
        self.cut_active()?;
        self.make_durable()?;
        if buggify!(self.disk, HintSkippedAtClose) {
            return Ok(self.disk.sync_dir(&self.dir)?);
        }
        while self.write_hint_at_once(true)? > 0 {}
        Ok(self.disk.sync_dir(&self.dir)?)
    }

    /// Copies everything into another directory: links to what does not change, and bytes of the
    /// active file. Everything is durable and in files.
    pub(super) fn copy_to(&self, dir: &str) -> Result<()> {
        let disk = &*self.disk;
        make_dir(disk, dir)?;
        for (&number, file) in &self.files {
            if matches!(self.background, Some(super::Background::Merge(ref merge)) if merge.writes(number))
            {
                continue;
            }
            let path = file_path(dir, number, "data");
            if number == self.active.number {
                copy_bytes(disk, &file.file, &path, file.end)?;
            } else {
                disk.link(&self.path(number, "data"), &path)?;
            }
            if file.is_sealed() {
                disk.link(&self.path(number, "hint"), &file_path(dir, number, "hint"))?;
            }
        }
        Ok(disk.sync_dir(dir)?)
    }

    pub(super) fn summary(&self, number: u32) -> Summary {
        let file = &self.files[&number];
        let entries = match &file.keys {
            Keys::Table(table) => table.len(),
            Keys::Hint(hint) => hint.summary.entries,
        };
        Summary {
            end: file.end,
            lsn_min: file.lsn_min,
            lsn_max: file.lsn_max,
            entries,
            tombstones: file.tombstones,
            damaged: file.damaged,
            marked: self.durable,
        }
    }

    /// Writes the hint of the oldest durable file that has none; answers the bytes written.
    pub(super) fn write_hint_at_once(&mut self, with_active: bool) -> Result<u64> {
        let Some((number, mut writer)) = self.start_hint(with_active)? else {
            return Ok(0);
        };
        let mut bytes = 0;
        loop {
            let step = self.step_hint(number, &mut writer, usize::MAX)?;
            bytes += step;
            if step == 0 {
                break;
            }
        }
        self.finish_hint(number, writer)?;
        Ok(bytes + hint::BLOCK as u64)
    }

    /// Starts the hint of the oldest durable file that has none; `with_active` when the active file
    /// is not written any more.
    pub(super) fn start_hint(
        &mut self,
        with_active: bool,
    ) -> Result<Option<(u32, hint::Writer<D::File>)>> {
        let busy = match &self.background {
            Some(super::Background::Hint(number, _)) => Some(*number),
            _ => None,
        };
        let merging = |number: u32| match &self.background {
            Some(super::Background::Merge(merge)) => merge.writes(number),
            _ => false,
        };
        let wanted = self.files.iter().find(|&(&number, file)| {
            let written = number == self.active.number && !with_active;
            !file.is_sealed() && !written && file.lsn_max <= self.durable && !merging(number)
        });
        let Some((&number, file)) = wanted else {
            return Ok(None);
        };
        let seed = file.seed;
        if busy == Some(number) {
            sometimes!(self.disk, HintBegunAgain);
            // A hint that is half written is begun again.
            self.background = None;
        }
        let writer = hint::Writer::create(&*self.disk, &self.path(number, "hint-new"), seed)?;
        Ok(Some((number, writer)))
    }

    pub(super) fn step_hint(
        &self,
        number: u32,
        writer: &mut hint::Writer<D::File>,
        budget: usize,
    ) -> Result<u64> {
        match &self.files[&number].keys {
            Keys::Table(table) => Ok(writer.step(&*self.disk, table, budget)? as u64),
            Keys::Hint(_) => Ok(0),
        }
    }

    pub(super) fn finish_hint(&mut self, number: u32, writer: hint::Writer<D::File>) -> Result<()> {
        let (from, to) = (self.path(number, "hint-new"), self.path(number, "hint"));
        let hint = writer.finish(&*self.disk, &from, &to, self.summary(number))?;
        self.files.get_mut(&number).expect("hinted just now").keys = Keys::Hint(hint);
        Ok(())
    }
}

/// Makes a log file whose name is durable.
pub(super) fn start_log<D: Disk>(
    bitcask: &Bitcask<D>,
    number: u32,
) -> Result<(Active, DataFile<D::File>)> {
    let disk = &*bitcask.disk;
    let file = disk.open(&bitcask.path(number, "data"), Open::New)?;
    let header = FileHeader {
        kind: Kind::Log,
        number,
        salt: bitcask.salt,
        base: bitcask.lsn,
        durable: bitcask.durable,
    };
    let allocated = bitcask.options.allocate_bytes;
    if allocated > 0 {
        disk.allocate(&file, allocated)?;
    }
    disk.write_at(&file, &[&header.encode()], 0)?;
    disk.sync_dir(&bitcask.dir)?;
    let flushed = FILE_HEADER as u64;
    let active = Active { number, buffer: Vec::new(), flushed, allocated };
    let seed = record::seed(bitcask.salt, number);
    Ok((active, DataFile::empty(file, Kind::Log, seed)))
}

/// Adds a file to the dirty ones, once.
pub(super) fn note(dirty: &mut Vec<u32>, number: u32) {
    if !dirty.contains(&number) {
        dirty.push(number);
    }
}

/// The changes that matter, in order: of several of one key only the last, so that a key and an Lsn
/// together name one record.
fn last_of_each_key(batch: &Batch) -> SmallVec<[&Change; 4]> {
    let mut changes: SmallVec<[&Change; 4]> = SmallVec::new();
    let mut seen = BTreeSet::new();
    for change in batch.changes.iter().rev() {
        if batch.changes.len() == 1 || seen.insert(parts_of(change).0) {
            changes.push(change);
        }
    }
    changes.reverse();
    changes
}

fn size_of_batch(batch: &Batch) -> usize {
    let size = |change: &Change| {
        let (key, head, body) = parts_of(change);
        HEADER + key.len() + head.len() + body.iter().map(Bytes::len).sum::<usize>()
    };
    batch.changes.iter().map(size).sum()
}

fn parts_of(change: &Change) -> (&[u8], &[u8], &[Bytes]) {
    match change {
        Change::Put { key, head, body } => (key, head, body),
        Change::Delete { key } => (key, &[], &[]),
    }
}

fn copy_bytes<D: Disk>(disk: &D, from: &D::File, to: &str, len: u64) -> Result<()> {
    let copy = disk.open(to, Open::New)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let wanted = buf.len().min((len - at) as usize);
        let read = disk.read_at(from, &mut buf[..wanted], at)?;
        if read < wanted {
            return Err(Error::Disk(std::io::ErrorKind::UnexpectedEof.into()));
        }
        disk.write_at(&copy, &[&buf[..read]], at)?;
        at += read as u64;
    }
    Ok(disk.sync_now(&copy)?)
}
