//! A disk in memory that can lose power: the ground that engines are tested and simulated on.
//!
//! It is deterministic: no clock, no dice, no threads. Every decision is asked of the caller. Work
//! that takes time (`start_sync`, `start_read`) is only queued; whoever owns the time takes it with
//! `take_pending` and ends it with `complete`, and a test simply calls `run_pending`.
//!
//! For each file there are two images: what is durable and what is read now, and between them the
//! list of operations that no sync has covered. Names have the same. A crash asks for the fate of
//! each such operation on its own, so write-back in any order, torn writes, lost lengths and lost
//! names are all reachable. A name and the content behind it are independent, as POSIX has it: a
//! synced file whose name was never synced is gone.
//!
//! After a failed sync the pages it covered are clean and not durable: no later sync covers them, unless they
//! are written anew (<https://lwn.net/Articles/752063/>).
//!
//! A plain mutex guards the state because `Disk` takes `&self`; it is never held while anything
//! waits. It may be told to forbid waiting: then whoever waits for a sync panics. Left out: permissions, sparse files.

mod faults;

mod damage;

mod crash;

mod files;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rondo_core::env::DiskDone;
use rondo_core::id::{ReadId, SyncId};
use rondo_core::probe::Watch;

pub use self::crash::{CrashPoint, Fate};
pub use self::damage::Damage;
use self::damage::Spoilt;
use self::damage::slice_at;
use self::faults::{ColdHook, FaultHook};
pub use self::faults::{Fault, INJECTED, is_injected};

/// What a device writes as a whole, in bytes: a torn write ends at a multiple of it.
pub const SECTOR: u64 = 512;
/// What the page cache writes as a whole, in bytes.
pub const PAGE: u64 = 4_096;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a `MemDisk`. It gives errors after a crash or restart of its disk.
#[derive(Clone, Debug)]
pub struct MemFile {
    inode: u64,
    incarnation: u64,
    /// Keeps the content of a removed file while somebody has it open.
    _open: Arc<()>,
}

/// What an operation does. `path` is the name that the file had last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A directory gets a name.
    CreateDir,
    /// A file is opened that exists.
    Open,
    /// A file gets its first name.
    Create,
    /// A file gets another name.
    Link,
    /// A file changes its name to this one.
    Rename,
    /// A name is removed.
    Remove,
    /// A directory is read.
    List,
    /// The names in a directory are made durable.
    SyncDir,
    /// The length of a file is asked for.
    Len,
    /// Bytes are read.
    Read,
    /// So many bytes are written here.
    Write {
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// The length is set.
    SetLen(u64),
    /// Space up to this length is reserved.
    Allocate(u64),
    /// A file is made durable (asked when it takes effect, not when it is started).
    Sync,
    /// The room is asked for: a fault is the answer that there is none.
    Space,
}

/// Started work that has not ended.
#[derive(Clone, Debug)]
pub struct Pending {
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    /// `until` is the number of the first operation that is not covered.
    Sync {
        id: SyncId,
        files: Vec<MemFile>,
        dirs: Vec<String>,
        until: u64,
    },
    Read {
        id: ReadId,
        file: MemFile,
        offset: u64,
        len: usize,
    },
}

/// What whoever called a disk has asked of it on its own thread, by what each may cost where a device is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calls {
    /// Waits for the device itself: syncs of files and of directories that were not handed over.
    pub waits: u64,
    /// Names that were looked up, made, changed or removed, and lengths that were set.
    pub names: u64,
    /// Reads and writes.
    pub data: u64,
}

#[derive(Default)]
struct State {
    asked: Asked,
    /// Which device it is: a part of where its files lie.
    device: u64,
    incarnation: u64,
    power_off: bool,
    /// Numbers un-synced operations, over all files and names.
    sequence: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    pending: Vec<Pending>,
    /// What the last sync made durable: inode, offset, length.
    settled: Vec<(u64, u64, u64)>,
    /// How many bytes all files together may have.
    capacity: Option<u64>,
    hooks: Hooks,
}

/// What has been asked of it.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// All operations so far.
    operations: u64,
    /// Those since somebody took them.
    calls: Calls,
}

/// The names of files and directories.
#[derive(Clone, Default)]
struct Names {
    /// As they are read now.
    current: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    /// What no sync has covered.
    changes: Vec<NameChange>,
}

/// Who is asked, and who only looks on.
#[derive(Default)]
struct Hooks {
    fault: Option<FaultHook>,
    cold: Option<ColdHook>,
    watch: Option<Arc<dyn Watch>>,
    /// Whoever waits for a sync panics.
    forbids_waiting: bool,
}

#[derive(Default)]
struct Inode {
    path: String,
    current: Vec<u8>,
    durable: Vec<u8>,
    changes: VecDeque<FileChange>,
    spoilt: Vec<Spoilt>,
    open: Arc<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Dir,
    File(u64),
}

#[derive(Clone)]
struct FileChange {
    sequence: u64,
    /// A sync that covered it failed: no later one will.
    doomed: bool,
    what: ChangedFile,
}

#[derive(Clone)]
enum ChangedFile {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
    Allocate(u64),
}

/// Names that go, then names that come: as one step, so that a rename is atomic.
#[derive(Clone)]
struct NameChange {
    sequence: u64,
    op: Op,
    gone: Option<String>,
    come: Option<(String, Entry)>,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations so far, reads included: the k-th is number k - 1 for the fault hook.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().asked.operations
    }

    /// Takes what was asked on the caller's thread since this was called last. Work that was handed over is no part of it.
    #[must_use]
    pub fn take_calls(&self) -> Calls {
        std::mem::take(&mut self.state().asked.calls)
    }

    /// Takes the work that was started, in order. Each piece must go to `complete` or `fail`.
    #[must_use]
    pub fn take_pending(&self) -> Vec<Pending> {
        std::mem::take(&mut self.state().pending)
    }

    /// Ends started work now: a sync makes durable what was written when it was started.
    #[must_use]
    pub fn complete(&self, pending: Pending) -> DiskDone {
        let mut state = self.state();
        let calls = state.asked.calls;
        let done = match pending.work {
            Work::Sync { id, files, dirs, until } => {
                state.settled.clear();
                let synced = files.iter().try_for_each(|file| {
                    state.check(file.incarnation)?;
                    state.sync(file.inode, until)
                });
                let mut dirs = dirs.iter();
                let result =
                    synced.and_then(|()| dirs.try_for_each(|dir| state.sync_dir(dir, until)));
                DiskDone::Synced { id, result }
            }
            Work::Read { id, file, offset, len } => {
                let mut bytes = vec![0; len];
                let result = state.check(file.incarnation).and_then(|()| {
                    let found = state.read(file.inode, &mut bytes, offset)?;
                    bytes.truncate(found);
                    Ok(Bytes::from(bytes))
                });
                DiskDone::Read { id, result }
            }
        };
        state.asked.calls = calls;
        done
    }

    /// Ends started work with an error. The writes of a failed sync are never synced.
    #[must_use]
    pub fn fail(&self, pending: Pending, error: io::ErrorKind) -> DiskDone {
        match pending.work {
            Work::Sync { id, files, until, .. } => {
                let mut state = self.state();
                for file in files {
                    if state.check(file.incarnation).is_ok() {
                        state.doom(file.inode, until);
                    }
                }
                DiskDone::Synced { id, result: Err(error.into()) }
            }
            Work::Read { id, .. } => DiskDone::Read { id, result: Err(error.into()) },
        }
    }

    /// Ends all started work, in order.
    #[must_use]
    pub fn run_pending(&self) -> Vec<DiskDone> {
        self.take_pending().into_iter().map(|pending| self.complete(pending)).collect()
    }

    /// What is on the disk lies on another device from now on, as after a move.
    pub fn move_to(&self, device: u64) {
        self.state().device = device;
    }

    /// How many operations no sync has covered.
    #[must_use]
    pub fn unsynced_count(&self) -> usize {
        let state = self.state();
        state.names.changes.len() + state.inodes.values().map(|i| i.changes.len()).sum::<usize>()
    }

    /// The whole content of a file as it is read now; `None` when there is no such file.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.file_named(path).ok().map(|inode| state.inodes[&inode].current.clone())
    }

    /// Flips one bit of a file at rest, durable and as it is read now. The bit must exist.
    pub fn flip_bit(&self, path: &str, byte: u64, bit: u8) {
        let mut state = self.state();
        let inode = state.file_named(path).expect("the caller names a file that exists");
        let file = state.inodes.get_mut(&inode).expect("named files have content");
        let at = byte as usize;
        assert!(bit < 8 && at < file.current.len(), "the bit exists");
        file.current[at] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a hook leaves the state whole: hooks run before any change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemDisk")
            .field("names", &state.names.current.keys())
            .field("operations", &state.asked.operations)
            .finish_non_exhaustive()
    }
}

impl Pending {
    /// The files and directories a sync covers, or 1 for a read: for whoever gives the work a duration.
    #[must_use]
    pub fn files(&self) -> usize {
        match &self.work {
            Work::Sync { files, dirs, .. } => files.len() + dirs.len(),
            Work::Read { .. } => 1,
        }
    }

    /// Whether it is a sync; else it is a read.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self.work, Work::Sync { .. })
    }
}

impl State {
    fn check(&self, incarnation: u64) -> io::Result<()> {
        if incarnation == self.incarnation {
            return Ok(());
        }
        Err(io::Error::other("stale incarnation: the disk has crashed or restarted since"))
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn sync(&mut self, inode: u64, until: u64) -> io::Result<()> {
        if let Some(fault) = self.ask_fault(inode, Op::Sync) {
            if fault != Fault::PowerOff {
                self.doom(inode, until);
            }
            return Err(self.refuse(fault));
        }
        let file = self.inodes.get_mut(&inode).expect("files being synced have content");
        let mut kept: VecDeque<FileChange> = VecDeque::new();
        for change in file.changes.drain(..) {
            if change.sequence < until && !change.doomed {
                change.apply(&mut file.durable);
                for spoilt in &mut file.spoilt {
                    spoilt.written_anew(&change, true);
                }
                if let ChangedFile::Write { offset, bytes } = &change.what {
                    self.settled.push((inode, *offset, bytes.len() as u64));
                }
                // What was doomed below it cannot come to the device any more.
                kept.retain(|other| !(other.doomed && change.replaces(other)));
            } else {
                kept.push_back(change);
            }
        }
        file.changes = kept;
        Ok(())
    }

    /// Reads what a file holds, or what a misled device takes for it.
    fn read(&mut self, inode: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let fault = self.ask_fault(inode, Op::Read);
        if let Some(fault) = fault.filter(|fault| !matches!(fault, Fault::Elsewhere(_))) {
            return Err(self.refuse(fault));
        }
        let found = slice_at(&self.inodes[&inode].current, offset, buf.len());
        let count = found.len();
        buf[..count].copy_from_slice(found);
        if let Some(Fault::Elsewhere(bits)) = fault {
            self.mislead(inode, &mut buf[..count], offset, bits);
        }
        Ok(count)
    }

    fn file_named(&self, path: &str) -> io::Result<u64> {
        match self.names.current.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Forgets the content of files that have no name, now or after a crash, and are not open.
    fn collect_garbage(&mut self) {
        let come = self.names.changes.iter().filter_map(|change| change.come.as_ref());
        let entries = self.names.current.values().chain(self.names.durable.values());
        let named: BTreeSet<u64> = entries
            .chain(come.map(|(_, entry)| entry))
            .filter_map(|entry| if let Entry::File(inode) = entry { Some(*inode) } else { None })
            .collect();
        let open = |file: &Inode| Arc::strong_count(&file.open) > 1;
        self.inodes.retain(|inode, file| named.contains(inode) || open(file));
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
