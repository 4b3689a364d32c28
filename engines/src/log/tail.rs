//! The end of a log file after a crash: what was taken is made durable, and what was never promised is cut off.
//!
//! **Why what is read is written again.** After a failed sync the page cache shows writes that are not on the disk and
//! that no later sync covers. A process that ended then, and starts again with the cache still there, would take
//! them, call them durable and lose them. So of each log file every sound record behind the last one up to D is
//! written anew before the file is synced, from the bytes that were checked: what is read twice may differ.
//!
//! **The bytes that are cut off are read twice.** A read that failed without saying so would make the last writes look
//! as if they had never been finished. Such bytes are read again, and they must be the same.

use rondo_core::env::Disk;
use rondo_core::error::{Error, Result};

use super::follow::{Loaded, Remains};
use super::walk::Walk;

/// What is to be done with a log file whose records were read.
pub(crate) struct Tail {
    /// Where it ends.
    end: u64,
    /// Write these bytes again.
    again: Vec<(u64, Vec<u8>)>,
    /// Cut what was never promised, which is this.
    cut: Option<Remains>,
}

impl Tail {
    /// The end of a file that is `len` bytes long, as it was read. `end` is where its data ends.
    pub(crate) fn of(loaded: &mut Loaded, end: u64, len: u64) -> Tail {
        let mut again = std::mem::take(&mut loaded.uncertain);
        again.retain(|(at, _)| *at < loaded.end);
        let cut = (loaded.end < len).then_some(loaded.behind);
        Tail { end, again, cut }
    }

    /// Reads once more what is to be cut, and refuses when it is not the same.
    pub(crate) fn look_again<D: Disk>(
        &self,
        disk: &D,
        file: &D::File,
        seed: u32,
        path: impl FnOnce() -> String,
    ) -> Result<()> {
        let Some(cut) = self.cut else { return Ok(()) };
        let walk = Walk::new(disk, file, seed, self.end, disk.len(file)?);
        if Remains::of(walk)? == cut {
            return Ok(());
        }
        let what =
            "its end was read twice and was not the same; nothing was changed, so start again";
        Err(Error::corrupt(path(), self.end, what))
    }

    /// Makes durable what was taken of the file, and cuts off what was never promised.
    pub(crate) fn settle<D: Disk>(self, disk: &D, file: &D::File) -> Result<()> {
        let Tail { end, again, cut } = self;
        let is_kept = |(at, bytes): &(u64, Vec<u8>)| at + bytes.len() as u64 <= end;
        assert!(again.iter().all(is_kept), "nothing is written anew behind the cut");
        if cut.is_some() {
            disk.set_len(file, end)?;
        }
        for (at, bytes) in again {
            disk.write_at(file, &[&bytes], at)?;
        }
        // Also what only the operating system held: from here on all of it counts as durable.
        Ok(disk.sync_now(file)?)
    }
}
