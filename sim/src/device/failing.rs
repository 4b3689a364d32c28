//! Disk errors at work: which operations of a node's disk fail or go astray, and what is damaged on it.
//!
//! What the product promises for each, and what the world does then:
//!
//! - *An operation fails* (read, write, sync, names, read-only, a write cut short): a read is answered as failed, by
//!   that replica, and never as "absent"; anything else ends the node at once. It has answered what was in flight with
//!   what it knew, and promised nothing that was not synced. A supervisor starts it again, again and again, until its
//!   disk works. A failed sync is never tried again on the same pages. Nothing acknowledged is lost, so no oracle excuses
//!   anything.
//! - *There is no room*, or none for another file of records: the node refuses writes and goes on, until there is.
//! - *There are no descriptors*: the files that are open go on; a start fails, and is tried again.
//! - *Bytes are not what was written* (a bit flipped, a block in a wrong place, a read of another block): the record's
//!   checksum says so. While the node runs that replica fails reads of the record; a start that meets the damage refuses.
//!   Then an operator does what the refusal asks for: puts back the bytes, and starts the node again. Rot that lasts nobody
//!   undoes before, not at the heal either: all must be served in spite of it, and the other replicas replace what is gone.
//!
//! An end counts as due to the disk only with proof, and none of it is in the words of an error: it carries the very
//! error that was injected here, or it is of a kind that damage leads to and speaks of a file that this life may have
//! misread. What no damage leads to (a file that is gone, another store) is explained by nothing.
//!
//! One thing no single log can notice: damage to what was synced last, when nothing written since names it as durable,
//! looks like a torn write. The world notices (`store`), and puts the disk back as if the operator had been quicker; a
//! start that takes away what an intact mark names is not excused.
//! Left out: damage that a start meets and nobody repairs, because the node refuses to start then.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rondo_core::error::Error;
use rondo_engines::data_dir::DataDirError;
use rondo_engines::mem_disk::{Damage, Fault, MemDisk, Op, is_injected};
use rondo_engines::open::DATA_DIR;

use crate::device::ending::Ending;
use crate::draw::{self, Draw, Stream};
use crate::fault::disks::Failure;

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
    /// Operations of this life that failed.
    failed: u64,
    /// The files of which this life may have read something else than what was written, until all is mended.
    misread: BTreeSet<String>,
    /// Whether there has been any in this life.
    was_misled: bool,
    /// Whether there is damage that is not to be repaired.
    is_rotten: bool,
}

/// What a node that ends by its disk needs before it is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing: an operation failed.
    Failure,
    /// Its data has to be repaired.
    Damage,
}

#[derive(Debug)]
struct Active {
    /// Its place among the scenario's faults.
    fault: usize,
    what: Failure,
    /// Operations that are spared before.
    spared: u64,
    /// How often it may still strike.
    left: u32,
}

impl Failing {
    /// Nothing is wrong with the disk of `node` yet.
    #[must_use]
    pub fn new(seed: u64, node: u32, disk: &MemDisk) -> Failing {
        let (errors, disk, misread) = (Vec::new(), disk.clone(), BTreeSet::new());
        let (draws, failed, was_misled, is_rotten) = (0, 0, false, false);
        let state =
            State { seed, node, draws, errors, disk, failed, misread, was_misled, is_rotten };
        Failing(Arc::new(Mutex::new(state)))
    }

    /// An error of the scenario begins, after so many operations; one that has begun goes on.
    pub fn begin(&self, fault: usize, what: Failure, times: u32, spared: u64) {
        let mut state = self.state();
        if state.errors.iter().any(|active| active.fault == fault) {
            return;
        }
        state.errors.push(Active { fault, what, spared, left: times });
        if matches!(what, Failure::Rot | Failure::LastingRot) {
            let lasts = what == Failure::LastingRot;
            state.was_misled = true;
            state.is_rotten |= lasts;
            let disk = state.disk.clone();
            let wanted = |path: &str| !lasts || path.ends_with(".data");
            for _ in 0..times {
                let damage = disk.rot_among(&wanted, &mut |n| state.draw(fault).below(n));
                state.misread.extend(damage.map(|damage| damage.path));
            }
        }
    }

    /// An error of the scenario ends. Damage stays.
    pub fn end(&self, fault: usize) {
        self.state().errors.retain(|active| active.fault != fault);
    }

    /// Whether damage may be there that nobody repairs as long as the node runs.
    #[must_use]
    pub fn is_rotten(&self) -> bool {
        self.state().is_rotten
    }

    /// Everything works, and all damage is undone, unless it is to `stay`.
    pub fn heal(&self, stay: bool) {
        if !stay {
            self.mend();
        }
        let mut state = self.state();
        state.errors.clear();
        state.misread.clear();
    }

    /// Puts back what is damaged. Reads that go astray have an end too.
    pub fn mend(&self) {
        let mut state = self.state();
        state.disk.mend();
        state.is_rotten = false;
        let astray = state.errors.iter_mut().filter(|active| active.what == Failure::ReadAstray);
        astray.for_each(|active| active.left = 0);
    }

    /// A life of the node begins.
    pub fn new_life(&self) {
        let mut state = self.state();
        state.failed = 0;
        state.misread = state.disk.damaged_files().into_iter().collect();
        state.was_misled = !state.misread.is_empty();
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
        let astray = |active: &Active| active.what == Failure::ReadAstray && active.left > 0;
        !state.misread.is_empty() || state.errors.iter().any(astray) || state.disk.is_damaged()
    }

    /// Whether a node that ends so ends because of its disk.
    #[must_use]
    pub fn explains(&self, ending: &Ending) -> Option<Due> {
        let state = self.state();
        let failure = |is_it: bool| is_it.then_some(Due::Failure);
        let damage = |is_it: bool| is_it.then_some(Due::Damage);
        match ending {
            Ending::Directory(DataDirError::Disk(error))
            | Ending::Unmarked(DataDirError::Disk(error))
            | Ending::Engine(Error::Disk(error))
            | Ending::Ran(Error::Disk(error)) => failure(is_injected(error)),
            Ending::Ran(Error::Poisoned) => failure(state.failed > 0),
            Ending::Directory(
                DataDirError::Unreadable { file, .. } | DataDirError::NewerFormat { file, .. },
            ) => damage(state.may_have_misread(|path| path == *file)),
            Ending::Engine(Error::Corrupt(record)) | Ending::Ran(Error::Corrupt(record)) => {
                damage(state.may_have_misread(|path| path == record.file))
            }
            // What is missing in one file may be told of another, and by the directory's own count of writes.
            Ending::Lost(_) | Ending::Directory(DataDirError::WentBack { .. }) => {
                damage(state.may_have_misread(|path| path.contains('/')))
            }
            Ending::Directory(_)
            | Ending::Engine(_)
            | Ending::Wrong(_)
            | Ending::NoPower
            | Ending::Ran(_)
            | Ending::Unmarked(_) => None,
        }
    }

    /// Before each operation of the disk, on a file or name: what happens to it.
    pub fn asked(&self, path: &str, op: &Op) -> Option<Fault> {
        let mut state = self.state();
        let mut struck = None;
        for active in &mut state.errors {
            if active.spared > 0 {
                active.spared -= 1;
            } else if struck.is_none() && active.left > 0 && touches(active.what, path, op) {
                active.left -= u32::from(!lasts(active.what));
                struck = Some((active.fault, active.what));
            }
        }
        let (fault, what) = struck?;
        if what == Failure::ReadAstray {
            state.misread.insert(path.to_owned());
            state.was_misled = true;
        } else {
            state.failed += 1;
        }
        let draw = state.draw(fault);
        Some(match (what, op) {
            (Failure::Full | Failure::NearlyFull, _) => {
                Fault::Fail(std::io::ErrorKind::StorageFull)
            }
            (Failure::ReadOnly, _) => Fault::Fail(std::io::ErrorKind::ReadOnlyFilesystem),
            (Failure::ShortWrite, Op::Write { len, .. }) => {
                Fault::Cut(draw.below(*len), std::io::ErrorKind::Other)
            }
            (Failure::ReadAstray, _) => Fault::Elsewhere(draw.bits()),
            _ => Fault::Fail(std::io::ErrorKind::Other),
        })
    }

    /// A sync of the node's log has ended well: one of its blocks may lie in a wrong place. Answers where.
    pub fn synced(&self) -> Option<String> {
        let mut state = self.state();
        let is_due = |active: &&mut Active| {
            active.what == Failure::WriteAstray && active.left > 0 && active.spared == 0
        };
        let active = state.errors.iter_mut().find(is_due)?;
        active.left -= 1;
        let fault = active.fault;
        let disk = state.disk.clone();
        let damages = disk.misdirect(&mut |n| state.draw(fault).below(n));
        state.was_misled |= !damages.is_empty();
        state.misread.extend(damages.iter().map(|damage| damage.path.clone()));
        let place = |damage: &Damage| format!("{} at {}", damage.path, damage.offset);
        let told = damages.iter().map(place).collect::<Vec<_>>().join(" and ");
        (!told.is_empty()).then_some(told)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_have_misread(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let damaged = self.disk.damaged_files();
        self.misread.iter().chain(&damaged).any(|path| is_it(path))
    }

    fn draw(&mut self, fault: usize) -> Draw {
        self.draws += 1;
        draw::keyed(self.seed, Stream::DiskError, self.node, fault as u32, self.draws)
    }
}

/// Whether it goes on until its time is over, however often it strikes.
const fn lasts(what: Failure) -> bool {
    matches!(what, Failure::Full | Failure::NearlyFull | Failure::ReadOnly | Failure::NoDescriptors)
}

/// Whether an error is one of this operation on this file or name.
fn touches(what: Failure, path: &str, op: &Op) -> bool {
    match what {
        Failure::Read | Failure::ReadAstray => matches!(op, Op::Read),
        Failure::Write => matches!(op, Op::Write { .. } | Op::SetLen(_) | Op::Allocate(_)),
        Failure::ShortWrite => matches!(op, Op::Write { .. }),
        Failure::Sync => matches!(op, Op::Sync),
        Failure::Rename => matches!(op, Op::Rename | Op::Link | Op::Remove),
        Failure::Directory => {
            matches!(op, Op::Create | Op::CreateDir | Op::Open | Op::List | Op::SyncDir)
        }
        // As on a file system that never writes in place.
        Failure::Full => {
            matches!(op, Op::Write { .. } | Op::Allocate(_) | Op::Create | Op::CreateDir | Op::Link)
        }
        Failure::NearlyFull => {
            path.starts_with(DATA_DIR) && matches!(op, Op::Create | Op::Allocate(_))
        }
        Failure::ReadOnly => !matches!(op, Op::Read | Op::Open | Op::List | Op::Len),
        Failure::NoDescriptors => matches!(op, Op::Create | Op::Open),
        Failure::Rot | Failure::LastingRot | Failure::WriteAstray => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use rondo_core::env::Disk as _;
    use rondo_engines::mem_disk::INJECTED;

    use super::*;

    const WRITE: Op = Op::Write { offset: 0, len: 100 };

    #[test]
    fn an_error_strikes_its_own_operations_so_often_and_a_full_disk_all() {
        let failing = Failing::new(1, 0, &MemDisk::new());
        failing.begin(0, Failure::Write, 2, 1);
        failing.begin(0, Failure::Write, 2, 0);
        let asked = |op: &Op| failing.asked("log", op).is_some();
        let told = [asked(&WRITE), asked(&Op::Read), asked(&WRITE), asked(&WRITE), asked(&WRITE)];
        assert_eq!(told, [false, false, true, true, false]);
        failing.begin(1, Failure::Full, 1, 0);
        let full = Some(Fault::Fail(ErrorKind::StorageFull));
        assert_eq!([failing.asked("log", &WRITE), failing.asked("log", &WRITE)], [full, full]);
        assert_eq!(failing.asked("log", &Op::Sync), None);
        failing.end(1);
        assert!(!asked(&WRITE));
    }

    #[test]
    fn an_end_is_explained_only_by_what_was_done_to_the_disk() {
        let disk = MemDisk::new();
        let failing = Failing::new(1, 0, &disk);
        let gone = |file: &str| {
            Ending::Ran(Error::corrupt(file.to_owned(), 9, "the checksum does not fit"))
        };
        let says_so = Ending::Ran(Error::Disk(io::Error::other(INJECTED)));
        assert_eq!(failing.explains(&says_so), None, "words are no proof");
        assert_eq!(failing.explains(&Ending::Ran(Error::Poisoned)), None);
        assert_eq!(failing.explains(&gone("data/1.data")), None);
        failing.begin(0, Failure::ReadAstray, 1, 0);
        assert_eq!(failing.explains(&gone("data/1.data")), None, "it has not struck yet");
        assert!(failing.asked("data/1.data", &Op::Read).is_some());
        assert_eq!(failing.explains(&gone("data/1.data")), Some(Due::Damage));
        assert_eq!(failing.explains(&gone("data/2.data")), None, "another file");
        let lost = |missing| Ending::Directory(DataDirError::Lost(missing));
        assert_eq!(failing.explains(&lost(Vec::new())), None, "no damage makes a file shorter");
        failing.new_life();
        assert_eq!(failing.explains(&gone("data/1.data")), None);
    }

    #[test]
    fn an_error_that_was_made_here_is_known_by_itself() {
        let disk = MemDisk::new();
        let failing = Failing::new(1, 0, &disk);
        let hook = failing.clone();
        disk.set_fault_hook(move |_, path, op| hook.asked(path, op));
        failing.begin(0, Failure::Directory, 1, 0);
        let error = disk.list("").expect_err("it fails once");
        assert_eq!(failing.explains(&Ending::Ran(Error::Disk(error))), Some(Due::Failure));
        assert_eq!(failing.explains(&Ending::Ran(Error::Poisoned)), Some(Due::Failure));
    }
}
