//! Background work: what is due next, and one bounded step of it. Hints of sealed files come first, then compactions.
//!
//! Nothing of it waits for the device: a step that has written enough asks for a sync with an errand, and nothing more is done
//! until one that was started after it has ended (`sync`). A step that finds no room, or no descriptor, is tried again later; what
//! is under way is then as it was before the step. When the disk is nearly full and there is nothing to compact, the file that is
//! written is ended (`room`).

use rondo_core::engine::Progress;
use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};
use rondo_core::id::Lsn;
use rondo_core::{buggify, sometimes};

use super::compaction::Compaction;
use super::{Background, Bitcask, DataFile, hint};
use crate::refusal::passes;

/// More small files than this are compacted even when nothing in them is dead.
const SMALL_FILES_MAX: usize = 32;

impl<D: Disk> Bitcask<D> {
    /// One step of whatever is to be done.
    pub(super) fn background_step(&mut self, budget: u64) -> Result<Progress> {
        if !self.syncing.has_errand() {
            match self.note_log() {
                Err(Error::Disk(error)) if passes(&error) => {}
                noted => noted?,
            }
        }
        if self.syncing.has_errand() {
            // It is covered by a sync that starts now, whatever is durable already.
            return Ok(self.waiting());
        }
        let step = match self.background.take() {
            Some(background) => self.go_on(background, budget),
            None => match self.plan() {
                Ok(None) if self.has_little_room() => return self.end_log_for_room(),
                Ok(None) => return Ok(Progress::default()),
                Ok(Some(background)) => self.go_on(background, budget),
                Err(error) => Err(error),
            },
        };
        let bytes = match step {
            Ok(bytes) => bytes,
            Err(Error::Disk(error)) if passes(&error) => {
                sometimes!(self.disk, BackgroundHadToWait);
                return Ok(Progress::default());
            }
            Err(error) => return Err(error),
        };
        let waits_for = match &self.background {
            _ if self.syncing.has_errand() => Some(Lsn(self.syncing.durable)),
            Some(Background::Compaction(compaction)) => compaction.waits_for(self.syncing.durable),
            _ => None,
        };
        sometimes!(self.disk, CompactionWaitedForASync, waits_for.is_some());
        Ok(Progress { bytes, more: waits_for.is_none(), waits_for })
    }

    pub(super) fn waiting(&self) -> Progress {
        Progress { waits_for: Some(Lsn(self.syncing.durable)), ..Progress::default() }
    }

    /// One step of what is under way. After an error that passes it is as it was.
    fn go_on(&mut self, mut background: Background<D::File>, budget: u64) -> Result<u64> {
        let step = match &mut background {
            Background::Hint(number, writer) => self.go_on_hint(*number, writer, budget),
            Background::Compaction(compaction) => self.step_compaction(compaction, budget),
        };
        match step {
            Ok(Some(bytes)) => {
                self.background = Some(background);
                Ok(bytes)
            }
            Ok(None) => Ok(0),
            Err(error) => {
                // Without room a hint is begun again after compactions; what it has of it is given back.
                match &background {
                    Background::Hint(number, _) if matches!(&error, Error::Disk(error) if passes(error)) =>
                    {
                        self.room.hints_wait = true;
                        self.disk.remove(&self.path(*number, "hint-new"))?;
                    }
                    _ => self.background = Some(background),
                }
                Err(error)
            }
        }
    }

    /// Writes the hint of a log file, and gives it its name once it is durable; then `None`.
    fn go_on_hint(
        &mut self,
        number: u32,
        writer: &mut hint::Writer<D::File>,
        budget: u64,
    ) -> Result<Option<u64>> {
        if writer.is_ended() {
            self.name_hint(number, writer)?;
            return Ok(None);
        }
        sometimes!(self.disk, HintWrittenInBackground);
        let bytes = self.step_hint(number, writer, budget as usize)?;
        self.syncing.write_ahead(writer.file(), bytes);
        if writer.is_ended() {
            self.syncing.send_errand(vec![writer.file().clone()], false);
        }
        Ok(Some(bytes))
    }

    fn plan(&mut self) -> Result<Option<Background<D::File>>> {
        let hint = match std::mem::take(&mut self.room.hints_wait) {
            true => None,
            false => match self.start_hint(false) {
                Err(Error::Disk(error)) if passes(&error) => None,
                other => other?,
            },
        };
        if let Some((number, writer)) = hint {
            return Ok(Some(Background::Hint(number, writer)));
        }
        let inputs = self.choose_inputs();
        let is_any = !inputs.is_empty();
        Ok(is_any.then(|| Background::Compaction(Compaction::of(inputs))))
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
        let is_sound = |file: &DataFile<D::File>| !file.damaged && file.rotten.is_empty();
        let sound = files.iter().take_while(|(_, file)| is_sound(file)).count();
        files.truncate(sound);
        let wholly_dead = match self.has_little_room() {
            true => self.wholly_dead(&files),
            false => Vec::new(),
        };
        if !wholly_dead.is_empty() {
            return wholly_dead;
        }
        let dead: u64 = files.iter().map(|(_, file)| file.dead()).sum();
        let all: u64 = files.iter().map(|(_, file)| file.end).sum();
        let percent = self.options.compact_dead_percent;
        let small = |file: &DataFile<D::File>| file.end < self.options.file_bytes_max / 8;
        let small_files = files.iter().filter(|(_, file)| small(file)).count();
        let too_many = small_files > SMALL_FILES_MAX;
        // While deletes have to wait, any part is. All files together leave no tombstone that would be compacted again.
        let is_much =
            self.room.is_reserved || dead.saturating_mul(100) >= percent.saturating_mul(all);
        let worth = dead > 0 && dead >= self.options.compact_dead_bytes_min && is_much;
        let worth = worth || (dead > 0 && buggify!(self.disk, CompactionForLittle));
        if !worth && !too_many {
            return Vec::new();
        }
        // The youngest files are left alone while little in them is dead.
        let idle = |file: &DataFile<D::File>| file.dead() * 200 < percent * file.end;
        let is_left = |file: &DataFile<D::File>| idle(file) && !(too_many && small(file));
        while !self.room.is_reserved && files.last().is_some_and(|(_, file)| is_left(file)) {
            files.pop();
        }
        if buggify!(self.disk, CompactionOfOneFile) {
            files.truncate(1);
        }
        files.into_iter().map(|(number, _)| number).collect()
    }
}
