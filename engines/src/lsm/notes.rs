//! Notes in the directory, so that a later start can tell which logs the engine has removed from which are missing.
//!
//! A data directory lists the logs that an opening found, the one that it made included (`data_dir`). One of these leaves an
//! empty file `.gone` with its number behind. A log that is made later is in no list. It gets an empty file `.made` beside it
//! when something in it is durable, which goes before it does. Tables need no notes: the list of tables names them.

use std::io::ErrorKind;

use rondo_core::env::{Disk, Open};
use rondo_core::error::Result;

use super::Lsm;

impl<D: Disk> Lsm<D> {
    /// Notes that there is the log that is written, once its name is durable, which it is when something in it is.
    pub(super) fn note_log(&mut self) -> Result<()> {
        let number = self.wal.active.number;
        let is_due = self
            .wal
            .logs
            .get(&number)
            .is_some_and(|log| !log.is_empty() && log.base < self.syncing.durable);
        if number > self.names.noted_log && is_due {
            self.make_note(number, "made")?;
            self.names.noted_log = number;
            // Nothing may be written for long, and until the note is durable a power loss takes it.
            self.syncing.send_errand(Vec::new(), true);
        }
        Ok(())
    }

    /// Notes which logs will be removed. It may be tried again.
    pub(super) fn note_removals(&self, numbers: &[u32]) -> Result<()> {
        for &number in numbers {
            assert_ne!(number, self.wal.active.number, "the log that is written stays");
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
}
