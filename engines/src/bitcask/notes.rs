//! Notes in the directory, so that a later start can tell what the engine has removed from what is missing.
//!
//! A data directory lists the files that an opening found, the one that it made included (`data_dir`). One of these leaves an
//! empty file `.gone` with its number behind. A file that is made later is in no list. It gets an empty file `.made` beside it,
//! which goes before it does. So what has to be there is each file that is listed or has its `.made`, unless it has its `.gone`.
//!
//! A `.made` is made when the name of its file is durable. A `.gone` is made, and a `.made` is removed, when nothing in the file is
//! needed any more; and that is durable before the file is removed. When the directory has listed anew what is there, the
//! notes say nothing more, and the directory removes them. So there are never more of them than files.
//!
//! Left out: the note of a log that was ended before background work came to it. It is in the middle of the log, which misses it.

use std::io::ErrorKind;

use rondo_core::env::{Disk, Open};
use rondo_core::error::Result;

use super::{Bitcask, DataFile, GRAVES_MAX};

impl<D: Disk> Bitcask<D> {
    /// Notes that there are these files, whose names are durable. It may be tried again.
    pub(super) fn note_made(&self, numbers: &[u32]) -> Result<()> {
        numbers.iter().try_for_each(|number| self.make_note(*number, "made"))
    }

    /// Notes that there is the file that is written, once its name is durable, which it is when something in it is.
    pub(super) fn note_log(&mut self) -> Result<()> {
        let number = self.active.number;
        let is_due = |file: &DataFile<D::File>| file.lsn_min <= self.syncing.durable;
        if number > self.names.noted_log && self.files.get(&number).is_some_and(is_due) {
            self.note_made(&[number])?;
            self.names.noted_log = number;
            // Nothing may be written for long, and until the note is durable a power loss takes it.
            self.syncing.send_errand(Vec::new(), true);
        }
        Ok(())
    }

    /// Notes which files will be removed. It may be tried again.
    pub(super) fn note_removals(&self, numbers: impl Iterator<Item = u32>) -> Result<()> {
        for number in numbers {
            assert_ne!(number, self.active.number, "the file that is written stays");
            if number < self.names.listed_below {
                self.make_note(number, "gone")?;
            }
            match self.disk.remove(&self.path(number, "made")) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn make_note(&self, number: u32, what: &str) -> Result<()> {
        match self.disk.open(&self.path(number, what), Open::New) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a file that is copied and noted; the next is removed when this is durable.
    pub(super) fn remove_file(&mut self, number: u32) -> Result<()> {
        let is_unused = self.files.get(&number).is_some_and(|file| file.live == 0);
        assert!(is_unused, "nothing alive is removed");
        self.disk.remove(&self.path(number, "data"))?;
        self.disk.remove(&self.path(number, "hint"))?;
        self.syncing.send_errand(Vec::new(), true);
        if let Some(file) = self.files.remove(&number) {
            self.leftovers.graves.push_back((number, file.file));
        }
        let most = if self.has_little_room() { 1 } else { GRAVES_MAX };
        while self.leftovers.graves.len() > most {
            self.leftovers.graves.pop_front();
        }
        Ok(())
    }

    /// Removes files in which nothing survived: what was never promised must not be met again. Such a file becomes its own note.
    pub(super) fn remove_empty(&mut self, numbers: &[u32]) -> Result<()> {
        for number in numbers {
            self.files.remove(number);
            self.disk.rename(&self.path(*number, "data"), &self.path(*number, "gone"))?;
            match self.disk.remove(&self.path(*number, "hint")) {
                // There was no room for one.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        if !numbers.is_empty() {
            self.disk.sync_dir(&self.names.dir)?;
        }
        Ok(())
    }
}
