//! Which sealed file gets its hint next, and how: in one go at the start and at the end, in steps between (`background`).
//!
//! A hint is written only of durable data, under another name, made durable, and renamed. Where there is no room for one the file
//! goes without: opening reads the file itself then.

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::sometimes;

use super::hint::{self, Summary};
use super::{Background, Bitcask, Keys};
use crate::refusal::passes;

impl<D: Disk> Bitcask<D> {
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
            marked: self.syncing.durable,
            kind: Some(file.kind),
        }
    }

    /// Writes the hints of all files that have none, as far as there is room, and waits for them. For the start and the end.
    pub(super) fn write_hints(&mut self) -> Result<()> {
        loop {
            match self.write_hint_at_once() {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Error::Disk(error)) if passes(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the hint of the oldest durable file that has none; answers the bytes written.
    fn write_hint_at_once(&mut self) -> Result<u64> {
        let Some((number, mut writer)) = self.start_hint(true)? else {
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
        self.disk.sync_now(writer.file())?;
        self.name_hint(number, &writer)?;
        Ok(bytes)
    }

    /// Starts the hint of the oldest durable file that has none; `with_active` when the active file
    /// is not written any more.
    pub(super) fn start_hint(
        &mut self,
        with_active: bool,
    ) -> Result<Option<(u32, hint::Writer<D::File>)>> {
        let busy = match &self.background {
            Some(Background::Hint(number, _)) => Some(*number),
            _ => None,
        };
        let compacting = |number: u32| match &self.background {
            Some(Background::Compaction(compaction)) => compaction.writes(number),
            _ => false,
        };
        let has_next = self.files.get(&self.active.number).is_some_and(|active| !active.is_empty());
        let wanted = self.files.iter().find(|&(&number, file)| {
            let written = number == self.active.number && !with_active;
            // A hint says what is durable. It shall say so of the next file too, which could not be missed otherwise.
            let waits = !with_active && number >= self.names.listed_below && has_next;
            let until = file.lsn_max + u64::from(waits);
            !file.is_sealed() && !written && until <= self.syncing.durable && !compacting(number)
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

    /// Writes about `budget` bytes of a hint; answers the bytes written, 0 when all of it has been. It may be tried again.
    pub(super) fn step_hint(
        &self,
        number: u32,
        writer: &mut hint::Writer<D::File>,
        budget: usize,
    ) -> Result<u64> {
        match &self.files[&number].keys {
            Keys::Table(table) if !writer.is_ended() => {
                let bytes = writer.step(&*self.disk, table, budget)? as u64;
                if bytes == 0 {
                    writer.end(&*self.disk, self.summary(number))?;
                    return Ok(hint::BLOCK as u64);
                }
                Ok(bytes)
            }
            _ => Ok(0),
        }
    }

    /// Gives a hint that is durable its name.
    pub(super) fn name_hint(&mut self, number: u32, writer: &hint::Writer<D::File>) -> Result<()> {
        self.disk.rename(&self.path(number, "hint-new"), &self.path(number, "hint"))?;
        let file = self.files.get_mut(&number).expect("hinted just now");
        file.keys = Keys::Hint(writer.hint());
        Ok(())
    }
}
