//! The active file: appending, handing over, sealing, closing.
//!
//! Order at a change of files: the old file's last bytes are written and its length is cut to its data,
//! then the new file gets its header. The old file stays among the dirty files, and the new name among
//! the dirty names, until a sync has covered them; until then the new file may survive a power loss while
//! the end of the old one, or a file between them, does not. That is no harm, since `recovery` takes writes only
//! without a gap (google/leveldb#193 is what happens otherwise).
//!
//! **A full disk** refuses writes and harms nothing (basho/riak#282, etcd-io/etcd#4220 are what it did to others). What a
//! failed write left behind the last byte that was handed over is written over by the next; nothing points to it. What
//! is in the buffer stays there, and is durable when there is room again. Where no new file can be made,
//! for want of room or of a descriptor (redis/redis#246), the active one goes on up to `LOG_BYTES_MAX`.

use std::collections::BTreeSet;

use rondo_core::engine::{Batch, Change};
use rondo_core::env::{Disk, Open};
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};
use smallvec::SmallVec;

use super::keydir::Place;
use super::table::Table;
use super::{Active, Bitcask, DataFile, Keys, LOOK_BYTES, NO_FILE, TABLES_MAX};
use crate::log::batch::{BATCH_BYTES_MAX, delta_of, parts_of, size_of_batch};
use crate::log::follow::Entry;
use crate::log::record::{self, DELETE, FILE_HEADER, FileHeader, Kind, LAST, MARK_LEN, Parts};
use crate::refusal::passes;

/// A file that cannot be changed for a new one ends here: its places have 32 bits.
const LOG_BYTES_MAX: u64 = 2 << 30;
const NO_ROOM: Error =
    Error::Full("the disk is full, so nothing can be written; deletes may give space back");

const _: () = assert!(LOG_BYTES_MAX + (BATCH_BYTES_MAX as u64) < u32::MAX as u64);

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
            rotten: BTreeSet::new(),
            keys: Keys::Table(Table::default()),
        }
    }
}

impl<D: Disk> Bitcask<D> {
    /// Appends a batch to the buffer and points the keydir to it.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<Lsn> {
        if batch.changes.is_empty() {
            return Ok(Lsn(self.syncing.lsn));
        }
        if self.has_to_wait(batch) {
            return Err(NO_ROOM);
        }
        let room = self.make_room(size_of_batch(batch));
        self.poison_on_error(room)?;
        let lsn = self.syncing.lsn + 1;
        let changes = batch.last_of_each_key();
        // All reads first: when one fails, nothing has happened.
        let place =
            |change: &&Change| self.find_place(self.fingerprint(change.key()), change.key());
        let places = changes.iter().map(place).collect::<Result<SmallVec<[_; 4]>>>()?;
        for (index, (change, old)) in changes.iter().zip(places).enumerate() {
            let last = if index + 1 == changes.len() { LAST } else { 0 };
            self.append_change(lsn, index as u16, last, change, old);
        }
        let written = self.active.flushed + self.active.buffer.len() as u64;
        assert_eq!(
            self.files[&self.active.number].end, written,
            "the buffer ends where the file does"
        );
        self.syncing.lsn = lsn;
        self.counts.writes += batch.changes.len() as u64;
        Ok(Lsn(lsn))
    }

    fn append_change(
        &mut self,
        lsn: u64,
        index: u16,
        last: u8,
        change: &Change,
        old: Option<Place>,
    ) {
        let (key, head, body) = parts_of(change);
        let fingerprint = self.fingerprint(key);
        let deleted = matches!(change, Change::Delete { .. });
        let flags = last | if deleted { DELETE } else { 0 };
        let number = self.active.number;
        let active = self.files.get_mut(&number).expect("the active file is a file");
        let delta = delta_of(change);
        let parts = Parts { lsn, index, flags, delta, key, head, body };
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
                self.counts.own_records -= own;
            }
            (None, false) => {
                self.keydir.insert(fingerprint, place);
                self.counts.own_records += own;
            }
            (None, true) => {}
        }
        sometimes!(self.disk, RecordOverwritten, old.is_some() && !deleted);
        sometimes!(self.disk, RecordDeleted, old.is_some() && deleted);
        if let Some(old) = old {
            self.add_live(old.file, -i64::from(old.len));
            if let Some(file) = self.files.get_mut(&old.file) {
                file.rotten.remove(&old.offset);
            }
        }
        if !deleted {
            self.add_live(number, i64::from(len));
        }
    }

    pub(super) fn add_live(&mut self, number: u32, bytes: i64) {
        if let Some(file) = self.files.get_mut(&number) {
            file.live = file.live.saturating_add_signed(bytes);
        }
    }

    /// Sees to it that a batch of `size` bytes fits into the active file and the buffer, and that a
    /// buffer that starts now says first what is durable.
    fn make_room(&mut self, size: usize) -> Result<()> {
        if self.active.number == NO_FILE {
            self.start_late_log()?;
        }
        let active = &self.files[&self.active.number];
        let table_full = match &active.keys {
            Keys::Table(table) => table.bytes() >= self.options.index_bytes_max,
            Keys::Hint(_) => true,
        };
        let file_full = active.end + (size + MARK_LEN) as u64 > self.options.file_bytes_max;
        sometimes!(self.disk, FileSealed, file_full);
        let full = table_full || file_full || buggify!(self.disk, FileRotatedEarly);
        if full && !active.is_empty() && !buggify!(self.disk, RotationPutOff) {
            self.rotate_or_go_on(size as u64)?;
        }
        let early = buggify!(self.disk, BufferWrittenEarly);
        if self.active.buffer.len() + size > self.options.buffer_bytes_max
            || early
            || self.room.is_full
        {
            self.write_buffer()?;
        }
        let again = self.syncing.durable > 0 && buggify!(self.disk, MarkRepeated);
        if self.active.buffer.is_empty() && (self.syncing.durable > self.syncing.marked || again) {
            sometimes!(self.disk, MarkWritten);
            self.append_mark();
        }
        Ok(())
    }

    fn append_mark(&mut self) {
        let active = self.files.get_mut(&self.active.number).expect("the active file is a file");
        let (buffer, seed, at) = (&mut self.active.buffer, active.seed, active.end);
        assert!(self.syncing.durable > 0, "a mark names a write");
        active.end += record::encode_mark(buffer, seed, at, self.syncing.durable, 0) as u64;
        self.syncing.marked = self.syncing.durable;
    }

    /// Hands the buffer to the operating system in one write.
    pub(super) fn write_buffer(&mut self) -> Result<()> {
        let active = &mut self.active;
        if active.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.files[&active.number].file;
        let end = active.flushed + active.buffer.len() as u64;
        assert!(active.allocated >= active.flushed, "what is written has its room");
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

    /// Makes the first active file when there was no room for it at the start. No file is compacted away before its header is durable.
    fn start_late_log(&mut self) -> Result<()> {
        let number = self.names.next_number;
        let (active, file) = start_log(self, number)?;
        self.names.next_number += 1;
        self.syncing.send_errand(vec![file.file.clone()], true);
        self.active = active;
        self.files.insert(number, file);
        Ok(())
    }

    /// Changes the active file for a new one, or puts that off where it cannot be now.
    fn rotate_or_go_on(&mut self, size: u64) -> Result<()> {
        let bytes = |file: &DataFile<D::File>| match &file.keys {
            Keys::Table(table) => table.bytes(),
            Keys::Hint(_) => 0,
        };
        let tables: usize = self.files.values().map(bytes).sum();
        sometimes!(self.disk, TablesFull, tables >= TABLES_MAX * self.options.index_bytes_max);
        if tables >= TABLES_MAX * self.options.index_bytes_max {
            return Err(Error::Busy("the device is too slow for so many writes; try again later"));
        }
        match self.rotate() {
            Err(Error::Full(_)) if self.files[&self.active.number].end + size <= LOG_BYTES_MAX => {
                sometimes!(self.disk, RotationHadToWait);
                Ok(())
            }
            result => result,
        }
    }

    /// Seals the active file and starts the next. After `Full` the active file is what it was.
    pub(super) fn rotate(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.cut_active()?;
        let number = self.names.next_number;
        self.names.next_number += 1;
        assert!(self.active.buffer.is_empty() && number > self.active.number, "a file ends whole");
        let (active, file) = start_log(self, number)?;
        self.files.insert(number, file);
        self.active = active;
        self.syncing.marked = self.syncing.marked.max(self.syncing.durable);
        self.syncing.note(number);
        self.syncing.names_dirty = true;
        Ok(())
    }

    /// Cuts what was allocated ahead and not used.
    fn cut_active(&mut self) -> Result<()> {
        let active = &mut self.active;
        if active.allocated > active.flushed {
            self.disk.set_len(&self.files[&active.number].file, active.flushed)?;
            active.allocated = active.flushed;
            self.syncing.note(active.number);
        }
        Ok(())
    }

    /// Makes everything durable, says so in the log, and leaves a hint for the last file. `Full`: there was no room for the last
    /// writes or for what is said of them. Everything else is durable, and the end of the file is left as after a power loss.
    pub(super) fn close_log(&mut self) -> Result<()> {
        let closed = self.close_whole();
        if matches!(&closed, Err(error) if error.is_refusal()) {
            sometimes!(self.disk, ClosedOnAFullDisk);
            self.wait_for_device()?;
        }
        closed
    }

    fn close_whole(&mut self) -> Result<()> {
        self.make_durable()?;
        if self.syncing.durable > self.syncing.marked {
            self.append_mark();
        }
        self.write_buffer()?;
        self.cut_active()?;
        self.make_durable()?;
        if buggify!(self.disk, HintSkippedAtClose) {
            return Ok(self.disk.sync_dir(&self.names.dir)?);
        }
        self.write_hints()?;
        Ok(self.disk.sync_dir(&self.names.dir)?)
    }
}

/// Makes a log file. After an error it is not there.
pub(super) fn start_log<D: Disk>(
    bitcask: &Bitcask<D>,
    number: u32,
) -> Result<(Active, DataFile<D::File>)> {
    let disk = &*bitcask.disk;
    let path = bitcask.path(number, "data");
    let refused = |error: std::io::Error| if passes(&error) { NO_ROOM } else { error.into() };
    let file = disk.open(&path, Open::New).map_err(refused)?;
    let header = FileHeader {
        kind: Kind::Log,
        number,
        salt: bitcask.names.salt,
        base: bitcask.syncing.lsn,
        durable: bitcask.syncing.durable,
    };
    if let Err(error) = disk.write_at(&file, &[&header.encode()], 0) {
        disk.remove(&path)?;
        return Err(refused(error));
    }
    let flushed = FILE_HEADER as u64;
    let active = Active { number, buffer: Vec::new(), flushed, allocated: flushed };
    let seed = record::seed(bitcask.names.salt, number);
    Ok((active, DataFile::empty(file, Kind::Log, seed)))
}
