//! The log that is written ahead: appending, handing over, the change of files, the end.
//!
//! Its framing is that of `log`. A log file holds the writes of one memtable, or a part of them: when the memtable is full both
//! are ended together, so tables replace whole log files. Order at a change of files: the old file's last bytes are
//! written and its length is cut to its data, then the new file gets its header. The old file stays among the dirty
//! files, and the new name among the dirty names, until a sync has covered them.
//!
//! **A full disk** refuses writes and harms nothing: what a failed write left behind the last byte that was handed over is
//! written over by the next. Where no new file can be made the old one goes on, and its memtable with it.

use std::collections::BTreeMap;

use rondo_core::engine::{Batch, Change};
use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};
use smallvec::SmallVec;

use super::memory::Frozen;
use super::memtable::Stored;
use super::{LOOK_BYTES, Lsm, NO_FILE};
use crate::log::batch::{BATCH_BYTES_MAX, delta_of, parts_of, size_of_batch};
use crate::log::record::{self, DELETE, FILE_HEADER, FileHeader, Kind, LAST, MARK_LEN, Parts};
use crate::refusal::passes;

/// A file that cannot be changed for a new one ends here: its places have 32 bits.
const LOG_BYTES_MAX: u64 = 2 << 30;
/// So many frozen memtables may wait to be written.
const FROZEN_MAX: usize = 3;
/// So many tables may be on level 0.
const YOUNG_MAX: usize = 256;
pub(super) const NO_ROOM: Error =
    Error::Full("the disk is full, so nothing can be written; deletes may give space back");
const TOO_SLOW: Error = Error::Busy("the device is too slow for so many writes; try again later");

const _: () = assert!(LOG_BYTES_MAX + (BATCH_BYTES_MAX as u64) < u32::MAX as u64);

/// A log file.
pub(super) struct Log<F> {
    pub(super) file: F,
    pub(super) seed: u32,
    /// The last write before it.
    pub(super) base: u64,
    /// The last write in it; `base` when there is none.
    pub(super) last: u64,
    /// Where its data ends, the write buffer included.
    pub(super) end: u64,
    /// Whether something of it cannot be told once more.
    pub(super) damaged: bool,
}

/// The log that is written.
pub(super) struct Active {
    pub(super) number: u32,
    /// What is not yet written to the operating system; it starts at byte `flushed`.
    pub(super) buffer: Vec<u8>,
    pub(super) flushed: u64,
    pub(super) allocated: u64,
}

/// The whole log.
pub(super) struct Wal<F> {
    pub(super) active: Active,
    /// All its files, by their numbers, those included that are only kept to be told once more.
    pub(super) logs: BTreeMap<u32, Log<F>>,
}

impl<F> Log<F> {
    /// Whether it holds no write.
    pub(super) const fn is_empty(&self) -> bool {
        self.last == self.base
    }
}

impl<D: Disk> Lsm<D> {
    /// Appends a batch to the log and puts it into the memtable.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<Lsn> {
        if batch.changes.is_empty() {
            return Ok(Lsn(self.syncing.lsn));
        }
        if self.has_to_wait(batch) {
            return Err(NO_ROOM);
        }
        let size = size_of_batch(batch);
        let room = self.make_room(size);
        self.poison_on_error(room)?;
        let lsn = self.syncing.lsn + 1;
        let changes = batch.last_of_each_key();
        // All reads first: when one fails, nothing has happened.
        let found = changes.iter().map(|change| self.bytes_of(change.key()));
        let found = found.collect::<Result<SmallVec<[Option<u64>; 4]>>>()?;
        for (index, (change, old)) in changes.iter().zip(found).enumerate() {
            let last = if index + 1 == changes.len() { LAST } else { 0 };
            self.append_change(lsn, index as u16, last, change, old);
        }
        self.syncing.lsn = lsn;
        self.counts.writes += batch.changes.len() as u64;
        self.work_along(size as u64)?;
        Ok(Lsn(lsn))
    }

    /// `old`: how many bytes the record had that is replaced, when there was one.
    fn append_change(&mut self, lsn: u64, index: u16, last: u8, change: &Change, old: Option<u64>) {
        let (key, head, body) = parts_of(change);
        let is_delete = matches!(change, Change::Delete { .. });
        let flags = last | if is_delete { DELETE } else { 0 };
        let parts = Parts { lsn, index, flags, delta: delta_of(change), key, head, body };
        let log = self.wal.logs.get_mut(&self.wal.active.number).expect("the active log is a log");
        let len = record::encode(&mut self.wal.active.buffer, log.seed, log.end, &parts) as u64;
        (log.end, log.last) = (log.end + len, lsn);
        self.memory.log_bytes += len;
        let stored = if is_delete { Stored::delete(lsn) } else { Stored::put(lsn, head, body) };
        let new = (!is_delete).then(|| (key.len() + stored.len()) as u64);
        self.counts.totals.change(key, old, new);
        self.damage.forget(key);
        self.memory.active.insert(key, stored);
        sometimes!(self.disk, RecordOverwritten, old.is_some() && !is_delete);
        sometimes!(self.disk, RecordDeleted, old.is_some() && is_delete);
    }

    /// Sees to it that a batch of `size` bytes fits into the log and the memtable, and that a buffer that starts now says first
    /// what is durable.
    fn make_room(&mut self, size: usize) -> Result<()> {
        if self.wal.active.number == NO_FILE {
            self.start_late_log()?;
        }
        let is_full = self.memory.active.bytes() >= self.options.memtable_bytes_max
            || self.memory.log_bytes >= self.options.memtable_bytes_max as u64
            || self.wal.logs[&self.wal.active.number].end + size as u64 > LOG_BYTES_MAX
            || buggify!(self.disk, FileRotatedEarly);
        if is_full && !self.memory.active.is_empty() && !buggify!(self.disk, RotationPutOff) {
            self.freeze_or_go_on(size as u64)?;
        }
        let early = buggify!(self.disk, BufferWrittenEarly);
        let is_much = self.wal.active.buffer.len() + size > self.options.buffer_bytes_max;
        if is_much || early || self.room.is_full {
            self.write_buffer()?;
        }
        let again = self.syncing.durable > 0 && buggify!(self.disk, MarkRepeated);
        if self.wal.active.buffer.is_empty()
            && (self.syncing.durable > self.syncing.marked || again)
        {
            sometimes!(self.disk, MarkWritten);
            self.append_mark();
        }
        Ok(())
    }

    fn append_mark(&mut self) {
        let log = self.wal.logs.get_mut(&self.wal.active.number).expect("the active log is a log");
        assert!(self.syncing.durable > 0, "a mark names a write");
        let (buffer, at, durable) = (&mut self.wal.active.buffer, log.end, self.syncing.durable);
        log.end += record::encode_mark(buffer, log.seed, at, durable, 0) as u64;
        self.syncing.marked = durable;
    }

    /// Hands the buffer to the operating system in one write.
    pub(super) fn write_buffer(&mut self) -> Result<()> {
        let active = &mut self.wal.active;
        if active.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.wal.logs[&active.number].file;
        let end = active.flushed + active.buffer.len() as u64;
        let step = self.options.allocate_bytes;
        let skipped =
            self.room.is_full || self.room.is_low || buggify!(self.disk, AllocationSkipped);
        if step > 0 && end > active.allocated && !skipped {
            let ahead = end.next_multiple_of(step);
            match self.disk.allocate(file, ahead) {
                Ok(()) => active.allocated = ahead,
                // There may be room for what is written now.
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // A part of it may be in the file now: behind the end, where a cut takes it off.
        let written = self.disk.write_at(file, &[&active.buffer], active.flushed);
        active.allocated = active.allocated.max(end);
        self.syncing.note(active.number);
        self.room.is_full = matches!(&written, Err(error) if passes(error));
        sometimes!(self.disk, DiskFull, self.room.is_full);
        written.map_err(|error| if passes(&error) { NO_ROOM } else { error.into() })?;
        active.flushed = end;
        self.room.since_look += active.buffer.len() as u64;
        active.buffer.clear();
        self.syncing.handed_over = self.syncing.lsn;
        if self.room.since_look >= LOOK_BYTES || self.room.is_low {
            self.look_at_space();
        }
        Ok(())
    }

    /// Makes the first log when there was no room for it at the start. Nothing is retired before its header is durable.
    fn start_late_log(&mut self) -> Result<()> {
        let number = self.names.next_number;
        let (active, log) = self.start_log(number)?;
        self.names.next_number += 1;
        self.syncing.send_errand(vec![log.file.clone()], true);
        self.wal.active = active;
        self.wal.logs.insert(number, log);
        Ok(())
    }

    /// Freezes the memtable and begins the next log, or puts that off where it cannot be now.
    fn freeze_or_go_on(&mut self, size: u64) -> Result<()> {
        if self.memory.frozen.len() >= FROZEN_MAX || self.tables.levels.level(0).len() >= YOUNG_MAX
        {
            sometimes!(self.disk, TablesFull);
            return Err(TOO_SLOW);
        }
        match self.freeze() {
            Err(Error::Full(_))
                if self.wal.logs[&self.wal.active.number].end + size <= LOG_BYTES_MAX =>
            {
                sometimes!(self.disk, RotationHadToWait);
                Ok(())
            }
            result => result,
        }
    }

    /// Ends the memtable and its log, and begins the next ones. After `Full` they are what they were.
    pub(super) fn freeze(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.cut_active()?;
        let number = self.names.next_number;
        self.names.next_number += 1;
        let (active, log) = self.start_log(number)?;
        sometimes!(self.disk, FileSealed);
        assert!(
            self.wal.active.buffer.is_empty() && number > self.wal.active.number,
            "a file ends whole"
        );
        let table = std::mem::take(&mut self.memory.active);
        assert!(table.last <= self.syncing.lsn, "no memtable is ahead of the log");
        self.memory.frozen.push_back(Frozen {
            table: table.into(),
            last: self.syncing.lsn,
            log: self.wal.active.number,
            totals: self.counts.totals,
        });
        self.memory.log_bytes = 0;
        // The new file's header says what is durable.
        self.syncing.marked = self.syncing.marked.max(self.syncing.durable);
        self.wal.active = active;
        self.wal.logs.insert(number, log);
        self.syncing.note(number);
        self.syncing.names_dirty = true;
        Ok(())
    }

    /// Takes off what was allocated ahead of the end, and what a failed write left there.
    pub(super) fn cut_active(&mut self) -> Result<()> {
        let active = &mut self.wal.active;
        if active.allocated > active.flushed {
            let file = &self.wal.logs[&active.number].file;
            self.disk.set_len(file, active.flushed)?;
            active.allocated = active.flushed;
            self.syncing.note(active.number);
        }
        Ok(())
    }

    /// Makes a log file. After an error it is not there.
    pub(super) fn start_log(&self, number: u32) -> Result<(Active, Log<D::File>)> {
        let path = self.path(number, "data");
        let refused = |error: std::io::Error| if passes(&error) { NO_ROOM } else { error.into() };
        let file = self.disk.open(&path, Open::New).map_err(refused)?;
        let base = self.syncing.lsn;
        let header = FileHeader {
            kind: Kind::Log,
            number,
            salt: self.names.salt,
            base,
            durable: self.syncing.durable,
        };
        if let Err(error) = self.disk.write_at(&file, &[&header.encode()], 0) {
            self.disk.remove(&path)?;
            return Err(refused(error));
        }
        let end = FILE_HEADER as u64;
        let active = Active { number, buffer: Vec::new(), flushed: end, allocated: end };
        let seed = record::seed(self.names.salt, number);
        Ok((active, Log { file, seed, base, last: base, end, damaged: false }))
    }

    /// Everything is durable, and a mark says so: what is missing of the log then is a loss, and no torn tail.
    pub(super) fn close_log(&mut self) -> Result<()> {
        if self.wal.active.number == NO_FILE {
            return self.wait_for_device();
        }
        match self.make_durable() {
            Err(error) if error.is_refusal() => {
                // What the operating system has can be made durable.
                self.wait_for_device()?;
                return Err(error);
            }
            result => result?,
        }
        let is_marked = self.syncing.marked == self.syncing.durable;
        if !is_marked {
            self.append_mark();
            debug_assert!(self.wal.active.buffer.len() == MARK_LEN, "only the mark is left");
            match self.write_buffer() {
                // A store without its last mark is closed all the same.
                Err(error) if error.is_refusal() => self.wal.active.buffer.clear(),
                result => result?,
            }
        }
        self.cut_active()?;
        self.syncing.note(self.wal.active.number);
        self.wait_for_device()
    }
}
