//! Disk errors at work: which operations of a node's disk fail or go astray, and what is damaged on it.
//!
//! What the product promises for each, and what the world does then:
//!
//! - *An operation fails* (read, write, sync, names, read-only, a write cut short): a read is answered as failed, by
//!   that replica, and never as "absent"; anything else ends the node at once. It has answered what was in flight with
//!   what it knew, and promised nothing that was not synced. A supervisor starts it again, again and again, until its
//!   disk works. A failed sync is never tried again on the same pages. Nothing acknowledged is lost, so no oracle excuses
//!   anything.
//! - *There is no room*: the node refuses writes and goes on, until there is.
//! - *There are no descriptors*: the files that are open go on; a start fails, and is tried again.
//! - *Bytes are not what was written* (a bit flipped, a block in a wrong place, a read of another block): the record's
//!   checksum says so. While the node runs that replica fails reads of the record; a start that meets the damage refuses.
//!   Then an operator does what the refusal asks for: puts back the bytes, and starts the node again.
//!
//! An end counts as due to the disk only with proof: its error carries the words of the injected one, or it speaks of
//! unreadable data while damage is recorded here or a read went astray in the same life.
//!
//! One thing no single log can notice: damage to what was synced last, when nothing written since names it as durable,
//! looks like a torn write. The world notices (`node`), and puts the disk back as if the operator had been quicker.
//! Left out: damage that is never repaired, because a node cannot be replaced yet, and stores put back from an old copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rondo_engines::mem_disk::{Damage, Fault, INJECTED, MemDisk, Op};

use crate::draw::{self, Draw, Stream};
use crate::scenario::DiskError;

/// What is wrong with one disk. Clones are the same.
#[derive(Clone, Debug)]
pub struct Failing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seed: u64,
    node: u32,
    draws: u64,
    errors: Vec<Active>,
    /// The disk itself.
    disk: MemDisk,
    /// Reads of this life that went astray.
    astray: u64,
    /// Whether what this life may have read was not what was written.
    was_misled: bool,
}

#[derive(Debug)]
struct Active {
    /// Its place among the scenario's faults.
    fault: usize,
    what: DiskError,
    /// Operations that are spared before.
    spared: u64,
    /// How often it may still strike.
    left: u32,
}

/// What a node says of data that it cannot read.
const UNREADABLE: [&str; 4] = [
    "its data directory cannot be opened",
    "its store cannot be opened",
    "its store lost what was durable",
    "corrupt record",
];
/// What it says of its engine after an error that it did not pass on.
const POISONED: &str = "the engine stopped after a failed sync";

impl Failing {
    /// Nothing is wrong with the disk of `node` yet.
    #[must_use]
    pub fn new(seed: u64, node: u32, disk: &MemDisk) -> Failing {
        let (errors, disk, was_misled) = (Vec::new(), disk.clone(), false);
        let state = State { seed, node, draws: 0, errors, disk, astray: 0, was_misled };
        Failing(Arc::new(Mutex::new(state)))
    }

    /// An error of the scenario begins, after so many operations; one that has begun goes on.
    pub fn begin(&self, fault: usize, what: DiskError, times: u32, spared: u64) {
        let mut state = self.state();
        if state.errors.iter().any(|active| active.fault == fault) {
            return;
        }
        state.errors.push(Active { fault, what, spared, left: times });
        if what == DiskError::Rot {
            state.was_misled = true;
            let disk = state.disk.clone();
            for _ in 0..times {
                disk.rot(&mut |n| state.draw(fault).below(n));
            }
        }
    }

    /// An error of the scenario ends. Damage stays.
    pub fn end(&self, fault: usize) {
        self.state().errors.retain(|active| active.fault != fault);
    }

    /// Everything works, and all damage is undone.
    pub fn heal(&self) {
        self.mend();
        let mut state = self.state();
        state.errors.clear();
        state.astray = 0;
    }

    /// Puts back what is damaged. Reads that go astray have an end too.
    pub fn mend(&self) {
        let mut state = self.state();
        state.disk.mend();
        let astray = state.errors.iter_mut().filter(|active| active.what == DiskError::ReadAstray);
        astray.for_each(|active| active.left = 0);
    }

    /// A life of the node begins.
    pub fn new_life(&self) {
        let mut state = self.state();
        state.astray = 0;
        state.was_misled = state.disk.is_damaged();
    }

    /// Whether this life may have met damage, mended since or not.
    #[must_use]
    pub fn was_misled(&self) -> bool {
        self.state().was_misled
    }

    /// Whether what is read may not be what was written.
    #[must_use]
    pub fn may_mislead(&self) -> bool {
        let state = self.state();
        let astray = |active: &Active| active.what == DiskError::ReadAstray && active.left > 0;
        state.astray > 0 || state.errors.iter().any(astray) || state.disk.is_damaged()
    }

    /// Whether a node that ends with this error ends because of its disk; then whether its data has to be repaired.
    #[must_use]
    pub fn explains(&self, error: &str) -> Option<bool> {
        let state = self.state();
        let is_unreadable = UNREADABLE.iter().any(|text| error.contains(text));
        if is_unreadable && (state.astray > 0 || state.disk.is_damaged()) {
            return Some(true);
        }
        let is_injected = error.contains(INJECTED);
        let is_later = error.contains(POISONED) && !state.errors.is_empty();
        (is_injected || is_later).then_some(false)
    }

    /// Before each operation of the disk: what happens to it.
    pub fn asked(&self, op: &Op) -> Option<Fault> {
        let mut state = self.state();
        let mut struck = None;
        for active in &mut state.errors {
            if active.spared > 0 {
                active.spared -= 1;
            } else if struck.is_none() && active.left > 0 && touches(active.what, op) {
                active.left -= u32::from(!lasts(active.what));
                struck = Some((active.fault, active.what));
            }
        }
        let (fault, what) = struck?;
        let is_astray = what == DiskError::ReadAstray;
        state.astray += u64::from(is_astray);
        state.was_misled |= is_astray;
        let draw = state.draw(fault);
        Some(match (what, op) {
            (DiskError::Full, _) => Fault::Fail(std::io::ErrorKind::StorageFull),
            (DiskError::ReadOnly, _) => Fault::Fail(std::io::ErrorKind::ReadOnlyFilesystem),
            (DiskError::ShortWrite, Op::Write { len, .. }) => {
                Fault::Cut(draw.below(*len), std::io::ErrorKind::Other)
            }
            (DiskError::ReadAstray, _) => Fault::Elsewhere(draw.bits()),
            _ => Fault::Fail(std::io::ErrorKind::Other),
        })
    }

    /// A sync of the node's log has ended well: one of its blocks may lie in a wrong place. Answers where.
    pub fn synced(&self) -> Option<String> {
        let mut state = self.state();
        let is_due = |active: &&mut Active| {
            active.what == DiskError::WriteAstray && active.left > 0 && active.spared == 0
        };
        let active = state.errors.iter_mut().find(is_due)?;
        active.left -= 1;
        let fault = active.fault;
        let disk = state.disk.clone();
        let damages = disk.misdirect(&mut |n| state.draw(fault).below(n));
        state.was_misled |= !damages.is_empty();
        let place = |damage: &Damage| format!("{} at {}", damage.path, damage.offset);
        let told = damages.iter().map(place).collect::<Vec<_>>().join(" and ");
        (!told.is_empty()).then_some(told)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&mut self, fault: usize) -> Draw {
        self.draws += 1;
        draw::keyed(self.seed, Stream::DiskError, self.node, fault as u32, self.draws)
    }
}

/// Whether it goes on until its time is over, however often it strikes.
const fn lasts(what: DiskError) -> bool {
    matches!(what, DiskError::Full | DiskError::ReadOnly | DiskError::NoDescriptors)
}

/// Whether an error is one of this operation.
const fn touches(what: DiskError, op: &Op) -> bool {
    match what {
        DiskError::Read | DiskError::ReadAstray => matches!(op, Op::Read),
        DiskError::Write => matches!(op, Op::Write { .. } | Op::SetLen(_) | Op::Allocate(_)),
        DiskError::ShortWrite => matches!(op, Op::Write { .. }),
        DiskError::Sync => matches!(op, Op::Sync),
        DiskError::Rename => matches!(op, Op::Rename | Op::Link | Op::Remove),
        DiskError::Directory => {
            matches!(op, Op::Create | Op::CreateDir | Op::Open | Op::List | Op::SyncDir)
        }
        // As on a file system that never writes in place.
        DiskError::Full => {
            matches!(op, Op::Write { .. } | Op::Allocate(_) | Op::Create | Op::CreateDir | Op::Link)
        }
        DiskError::ReadOnly => !matches!(op, Op::Read | Op::Open | Op::List | Op::Len),
        DiskError::NoDescriptors => matches!(op, Op::Create | Op::Open),
        DiskError::Rot | DiskError::WriteAstray => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    const WRITE: Op = Op::Write { offset: 0, len: 100 };

    #[test]
    fn an_error_strikes_its_own_operations_so_often_and_a_full_disk_all() {
        let failing = Failing::new(1, 0, &MemDisk::new());
        failing.begin(0, DiskError::Write, 2, 1);
        failing.begin(0, DiskError::Write, 2, 0);
        let asked = |op: &Op| failing.asked(op).is_some();
        let told = [asked(&WRITE), asked(&Op::Read), asked(&WRITE), asked(&WRITE), asked(&WRITE)];
        assert_eq!(told, [false, false, true, true, false]);
        failing.begin(1, DiskError::Full, 1, 0);
        assert_eq!(failing.asked(&WRITE), Some(Fault::Fail(ErrorKind::StorageFull)));
        assert_eq!(failing.asked(&WRITE), Some(Fault::Fail(ErrorKind::StorageFull)));
        assert_eq!(failing.asked(&Op::Sync), None);
        failing.end(1);
        assert!(!asked(&WRITE));
    }

    #[test]
    fn an_end_is_explained_only_by_what_was_done_to_the_disk() {
        let failing = Failing::new(1, 0, &MemDisk::new());
        let lost = "its store lost what was durable: write 3";
        assert_eq!(failing.explains(lost), None);
        assert_eq!(failing.explains("ended: disk: no"), None);
        assert_eq!(failing.explains(&format!("ended: disk: {INJECTED}")), Some(false));
        failing.begin(0, DiskError::ReadAstray, 1, 0);
        assert_eq!(failing.explains(lost), None, "it has not struck yet");
        assert!(failing.asked(&Op::Read).is_some() && failing.explains(lost) == Some(true));
        failing.new_life();
        assert_eq!(failing.explains(lost), None);
    }
}
