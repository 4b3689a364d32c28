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
//! After a failed sync the pages it covered are clean and not durable: no later sync covers them
//! (<https://lwn.net/Articles/752063/>).
//!
//! A plain mutex guards the state because `Disk` takes `&self`; it is never held while anything
//! waits. Left out: space limits (use a fault hook), permissions, sparse files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rondo_core::env::{Disk, DiskDone, Open};
use rondo_core::id::{ReadId, SyncId};

/// What a device writes as a whole, in bytes: a torn write ends at a multiple of it.
pub const SECTOR: u64 = 512;

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
}

/// What happens to one operation, by decision of a fault hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails and has no effect. A failed sync also makes its writes unsyncable.
    Fail(io::ErrorKind),
    /// A write stores only its first so many bytes and fails; anything else just fails.
    Cut(u64, io::ErrorKind),
    /// Power is off: this and everything after it fails until `crash` is called.
    PowerOff,
}

/// An operation that no sync has covered when the power goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashPoint {
    /// Its place among all un-synced operations, in the order they were made.
    pub index: usize,
    /// The file's or name's path.
    pub path: String,
    /// What it did.
    pub op: Op,
}

/// What a crash does to one un-synced operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It had reached the device.
    Kept,
    /// It had not.
    Lost,
    /// Only the part of a write before its n-th sector boundary had; other operations are lost.
    Torn(u64),
    /// The length it implies had, and of its sectors the i-th when bit `i % 64` is set; the others
    /// read as before. Operations that are not writes are kept.
    Sectors(u64),
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
        until: u64,
    },
    Read {
        id: ReadId,
        file: MemFile,
        offset: u64,
        len: usize,
    },
}

type FaultHook = Box<dyn FnMut(u64, &str, &Op) -> Option<Fault> + Send>;
type ColdHook = Box<dyn FnMut(&str, u64, usize) -> bool + Send>;

#[derive(Default)]
struct State {
    incarnation: u64,
    power_off: bool,
    operations: u64,
    /// Numbers un-synced operations, over all files and names.
    sequence: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, Entry>,
    durable_names: BTreeMap<String, Entry>,
    name_changes: Vec<NameChange>,
    pending: Vec<Pending>,
    fault: Option<FaultHook>,
    cold: Option<ColdHook>,
}

#[derive(Default)]
struct Inode {
    path: String,
    current: Vec<u8>,
    durable: Vec<u8>,
    changes: VecDeque<FileChange>,
    open: Arc<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Dir,
    File(u64),
}

struct FileChange {
    sequence: u64,
    /// A sync that covered it failed: no later one will.
    doomed: bool,
    what: ChangedFile,
}

enum ChangedFile {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
    Allocate(u64),
}

/// Names that go, then names that come: as one step, so that a rename is atomic.
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
        self.state().operations
    }

    /// Asks `hook(number, path, op)` before each operation. It must not use the disk.
    pub fn set_fault_hook(
        &self,
        hook: impl FnMut(u64, &str, &Op) -> Option<Fault> + Send + 'static,
    ) {
        self.state().fault = Some(Box::new(hook));
    }

    /// Asks `hook(path, offset, len)` whether a `try_read_at` would block. It must not use the disk.
    pub fn set_cold_hook(&self, hook: impl FnMut(&str, u64, usize) -> bool + Send + 'static) {
        self.state().cold = Some(Box::new(hook));
    }

    /// Removes both hooks.
    pub fn clear_hooks(&self) {
        let mut state = self.state();
        state.fault = None;
        state.cold = None;
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
        match pending.work {
            Work::Sync { id, files, until } => {
                let result = files.iter().try_for_each(|file| {
                    state.check(file.incarnation)?;
                    state.sync(file.inode, until)
                });
                DiskDone::Synced { id, result }
            }
            Work::Read { id, file, offset, len } => {
                let result = state.check(file.incarnation).and_then(|()| {
                    state.ask(file.inode, Op::Read)?;
                    let content = &state.inodes[&file.inode].current;
                    Ok(Bytes::copy_from_slice(slice_at(content, offset, len)))
                });
                DiskDone::Read { id, result }
            }
        }
    }

    /// Ends started work with an error. The writes of a failed sync are never synced.
    #[must_use]
    pub fn fail(&self, pending: Pending, error: io::ErrorKind) -> DiskDone {
        match pending.work {
            Work::Sync { id, files, until } => {
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

    /// The process ends and the operating system lives on: nothing is lost, but open files give
    /// errors and started work never ends.
    pub fn kill(&self) {
        let mut state = self.state();
        state.incarnation += 1;
        state.power_off = false;
        state.pending.clear();
        state.collect_garbage();
    }

    /// The power goes and comes back. `fate` decides over each un-synced operation, in the order they
    /// were made; then what is durable is all there is. Open files give errors from now on.
    pub fn crash(&self, fate: &mut dyn FnMut(CrashPoint) -> Fate) {
        let mut guard = self.state();
        let state = &mut *guard;
        for (index, (path, op, place)) in state.unsynced().into_iter().enumerate() {
            let fate = fate(CrashPoint { index, path, op });
            match place {
                Place::Name(at) => {
                    if matches!(fate, Fate::Kept | Fate::Sectors(_)) {
                        state.name_changes[at].apply(&mut state.durable_names);
                    }
                }
                Place::File(inode, at) => {
                    let file = state.inodes.get_mut(&inode).expect("listed just now");
                    file.changes[at].apply_with_fate(&mut file.durable, fate);
                }
            }
        }
        state.start_again_from_durable();
    }

    /// A crash that loses everything that was not synced.
    pub fn crash_lose_all(&self) {
        self.crash(&mut |_| Fate::Lost);
    }

    /// A crash just after everything has reached the device.
    pub fn crash_keep_all(&self) {
        self.crash(&mut |_| Fate::Kept);
    }

    /// A crash when the first `kept` un-synced operations have reached the device.
    pub fn crash_keep_prefix(&self, kept: usize) {
        self.crash(&mut |point| {
            if point.index < kept { Fate::Kept } else { Fate::Lost }
        });
    }

    /// A crash with dice: `below(n)` answers a number under n. Each operation is kept, lost, torn or
    /// scattered.
    pub fn crash_random(&self, below: &mut dyn FnMut(usize) -> usize) {
        self.crash(&mut |_| match below(8) {
            0..=2 => Fate::Kept,
            3..=5 => Fate::Lost,
            6 => Fate::Torn(below(8) as u64),
            _ => Fate::Sectors((0..8).fold(0, |mask, _| mask << 8 | below(256) as u64)),
        });
    }

    /// How many operations no sync has covered.
    #[must_use]
    pub fn unsynced_count(&self) -> usize {
        let state = self.state();
        state.name_changes.len() + state.inodes.values().map(|i| i.changes.len()).sum::<usize>()
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
        file.current[at] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a hook leaves the state whole: hooks run before any change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file behind an open handle, after the fault hook has agreed.
    fn change_file(&self, file: &MemFile, what: ChangedFile) -> io::Result<()> {
        let mut state = self.state();
        state.check(file.incarnation)?;
        let asked = state.ask_fault(file.inode, what.op());
        let (what, result) = match (asked, what) {
            (None, what) => (what, Ok(())),
            (Some(Fault::Cut(len, error)), ChangedFile::Write { offset, mut bytes }) => {
                bytes.truncate(len as usize);
                (ChangedFile::Write { offset, bytes }, Err(error.into()))
            }
            (Some(fault), _) => return Err(state.refuse(fault)),
        };
        let sequence = state.next_sequence();
        let change = FileChange { sequence, doomed: false, what };
        let inode = state.inodes.get_mut(&file.inode).expect("open files have content");
        change.apply(&mut inode.current);
        inode.changes.push_back(change);
        result
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemDisk")
            .field("names", &state.names.keys())
            .field("operations", &state.operations)
            .finish_non_exhaustive()
    }
}

impl Pending {
    /// The files a sync covers, or 1 for a read: for whoever gives the work a duration.
    #[must_use]
    pub fn files(&self) -> usize {
        match &self.work {
            Work::Sync { files, .. } => files.len(),
            Work::Read { .. } => 1,
        }
    }

    /// Whether it is a sync; else it is a read.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self.work, Work::Sync { .. })
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask_path(dir, Op::CreateDir)?;
        let mut path = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            match state.names.get(&path) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => state.change_name(Op::CreateDir, None, Some((path.clone(), Entry::Dir))),
            }
        }
        Ok(())
    }

    fn open(&self, path: &str, how: Open) -> io::Result<MemFile> {
        let mut state = self.state();
        let op = if how == Open::New { Op::Create } else { Op::Open };
        state.ask_path(path, op)?;
        let inode = match how {
            Open::Existing => state.file_named(path)?,
            Open::New => state.create(path)?,
        };
        let open = Arc::clone(&state.inodes[&inode].open);
        Ok(MemFile { inode, incarnation: state.incarnation, _open: open })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask_path(to, Op::Rename)?;
        let inode = state.file_named(from)?;
        state.check_parent(to)?;
        state.name_file(inode, to);
        let come = Some((to.to_owned(), Entry::File(inode)));
        state.change_name(Op::Rename, Some(from.to_owned()), come);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask_path(to, Op::Link)?;
        let inode = state.file_named(from)?;
        state.check_parent(to)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change_name(Op::Link, None, Some((to.to_owned(), Entry::File(inode))));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask_path(path, Op::Remove)?;
        state.file_named(path)?;
        state.change_name(Op::Remove, Some(path.to_owned()), None);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.ask_path(dir, Op::List)?;
        let inside = |path: &&String| parent(path) == dir;
        let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
        Ok(state.names.keys().filter(inside).map(name).collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask_path(dir, Op::SyncDir)?;
        if !dir.is_empty() && state.names.get(dir) != Some(&Entry::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = std::mem::take(&mut state.name_changes);
        for change in changes {
            if change.touches(dir) {
                change.apply(&mut state.durable_names);
            } else {
                state.name_changes.push(change);
            }
        }
        state.collect_garbage();
        Ok(())
    }

    fn len(&self, file: &MemFile) -> io::Result<u64> {
        let mut state = self.state();
        state.check(file.incarnation)?;
        state.ask(file.inode, Op::Len)?;
        Ok(state.inodes[&file.inode].current.len() as u64)
    }

    fn read_at(&self, file: &MemFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        state.check(file.incarnation)?;
        state.ask(file.inode, Op::Read)?;
        let found = slice_at(&state.inodes[&file.inode].current, offset, buf.len());
        buf[..found.len()].copy_from_slice(found);
        Ok(found.len())
    }

    fn try_read_at(
        &self,
        file: &MemFile,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.check(file.incarnation)?;
        let path = &state.inodes[&file.inode].path;
        if state.cold.as_mut().is_some_and(|cold| cold(path, offset, buf.len())) {
            return Ok(None);
        }
        drop(guard);
        self.read_at(file, buf, offset).map(Some)
    }

    fn write_at(&self, file: &MemFile, bufs: &[&[u8]], offset: u64) -> io::Result<()> {
        self.change_file(file, ChangedFile::Write { offset, bytes: bufs.concat() })
    }

    fn set_len(&self, file: &MemFile, len: u64) -> io::Result<()> {
        self.change_file(file, ChangedFile::SetLen(len))
    }

    fn allocate(&self, file: &MemFile, len: u64) -> io::Result<()> {
        self.change_file(file, ChangedFile::Allocate(len))
    }

    fn sync_now(&self, file: &MemFile) -> io::Result<()> {
        let mut state = self.state();
        state.check(file.incarnation)?;
        let until = state.sequence;
        state.sync(file.inode, until)
    }

    fn start_sync(&self, id: SyncId, files: Vec<MemFile>) {
        let mut state = self.state();
        let until = state.sequence;
        state.pending.push(Pending { work: Work::Sync { id, files, until } });
    }

    fn start_read(&self, id: ReadId, file: &MemFile, offset: u64, len: usize) {
        let work = Work::Read { id, file: file.clone(), offset, len };
        self.state().pending.push(Pending { work });
    }
}

/// Where an un-synced operation is listed.
enum Place {
    Name(usize),
    File(u64, usize),
}

impl State {
    fn check(&self, incarnation: u64) -> io::Result<()> {
        if incarnation == self.incarnation {
            return Ok(());
        }
        Err(io::Error::other("stale incarnation: the disk has crashed or restarted since"))
    }

    fn ask_fault_path(&mut self, path: &str, op: &Op) -> Option<Fault> {
        if self.power_off {
            return Some(Fault::PowerOff);
        }
        let number = self.operations;
        self.operations += 1;
        self.fault.as_mut().and_then(|hook| hook(number, path, op))
    }

    fn ask_fault(&mut self, inode: u64, op: Op) -> Option<Fault> {
        let path = std::mem::take(&mut self.inodes.get_mut(&inode)?.path);
        let fault = self.ask_fault_path(&path, &op);
        self.inodes.get_mut(&inode)?.path = path;
        fault
    }

    fn ask(&mut self, inode: u64, op: Op) -> io::Result<()> {
        self.ask_fault(inode, op).map_or(Ok(()), |fault| Err(self.refuse(fault)))
    }

    fn ask_path(&mut self, path: &str, op: Op) -> io::Result<()> {
        self.ask_fault_path(path, &op).map_or(Ok(()), |fault| Err(self.refuse(fault)))
    }

    fn refuse(&mut self, fault: Fault) -> io::Error {
        match fault {
            Fault::Fail(error) | Fault::Cut(_, error) => error.into(),
            Fault::PowerOff => {
                self.power_off = true;
                io::Error::other("the power is off")
            }
        }
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
        let mut kept = VecDeque::new();
        for change in file.changes.drain(..) {
            if change.sequence < until && !change.doomed {
                change.apply(&mut file.durable);
            } else {
                kept.push_back(change);
            }
        }
        file.changes = kept;
        Ok(())
    }

    fn doom(&mut self, inode: u64, until: u64) {
        let changes = self.inodes.get_mut(&inode).into_iter().flat_map(|file| &mut file.changes);
        for change in changes.filter(|change| change.sequence < until) {
            change.doomed = true;
        }
    }

    fn file_named(&self, path: &str) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_parent(&self, path: &str) -> io::Result<()> {
        match self.names.get(parent(path)) {
            Some(Entry::Dir) => Ok(()),
            _ if parent(path).is_empty() => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &str) -> io::Result<u64> {
        self.check_parent(path)?;
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode { path: path.to_owned(), ..Inode::default() });
        self.change_name(Op::Create, None, Some((path.to_owned(), Entry::File(inode))));
        Ok(inode)
    }

    fn name_file(&mut self, inode: u64, path: &str) {
        path.clone_into(&mut self.inodes.get_mut(&inode).expect("named files have content").path);
    }

    fn change_name(&mut self, op: Op, gone: Option<String>, come: Option<(String, Entry)>) {
        let change = NameChange { sequence: self.next_sequence(), op, gone, come };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    /// All operations that no sync has covered, in the order they were made.
    fn unsynced(&self) -> Vec<(String, Op, Place)> {
        let mut found = BTreeMap::new();
        for (at, change) in self.name_changes.iter().enumerate() {
            let path = change.path().to_owned();
            found.insert(change.sequence, (path, change.op.clone(), Place::Name(at)));
        }
        for (&inode, file) in &self.inodes {
            for (at, change) in file.changes.iter().enumerate() {
                let entry = (file.path.clone(), change.what.op(), Place::File(inode, at));
                found.insert(change.sequence, entry);
            }
        }
        found.into_values().collect()
    }

    fn start_again_from_durable(&mut self) {
        self.incarnation += 1;
        self.power_off = false;
        self.pending.clear();
        self.name_changes.clear();
        // A directory that was lost takes everything below it along.
        let names = std::mem::take(&mut self.durable_names);
        for (path, entry) in names {
            // Sorted order has a directory before what is in it.
            let above = parent(&path);
            if above.is_empty() || self.durable_names.get(above) == Some(&Entry::Dir) {
                self.durable_names.insert(path, entry);
            }
        }
        self.names = self.durable_names.clone();
        for file in self.inodes.values_mut() {
            file.changes.clear();
            file.current = file.durable.clone();
        }
        for (path, entry) in self.names.clone() {
            if let Entry::File(inode) = entry {
                self.name_file(inode, &path);
            }
        }
        self.collect_garbage();
    }

    /// Forgets the content of files that have no name, now or after a crash, and are not open.
    fn collect_garbage(&mut self) {
        let come = self.name_changes.iter().filter_map(|change| change.come.as_ref());
        let entries = self.names.values().chain(self.durable_names.values());
        let named: BTreeSet<u64> = entries
            .chain(come.map(|(_, entry)| entry))
            .filter_map(|entry| if let Entry::File(inode) = entry { Some(*inode) } else { None })
            .collect();
        let open = |file: &Inode| Arc::strong_count(&file.open) > 1;
        self.inodes.retain(|inode, file| named.contains(inode) || open(file));
    }
}

impl FileChange {
    fn apply(&self, image: &mut Vec<u8>) {
        self.apply_with_fate(image, Fate::Kept);
    }

    fn apply_with_fate(&self, image: &mut Vec<u8>, fate: Fate) {
        match (&self.what, fate) {
            (_, Fate::Lost) => {}
            (ChangedFile::Write { offset, bytes }, fate) => {
                write_with_fate(image, *offset, bytes, fate);
            }
            (_, Fate::Torn(_)) => {}
            (ChangedFile::SetLen(len), _) => image.resize(*len as usize, 0),
            (ChangedFile::Allocate(len), _) => image.resize(image.len().max(*len as usize), 0),
        }
    }
}

impl ChangedFile {
    fn op(&self) -> Op {
        match self {
            ChangedFile::Write { offset, bytes } => {
                Op::Write { offset: *offset, len: bytes.len() as u64 }
            }
            ChangedFile::SetLen(len) => Op::SetLen(*len),
            ChangedFile::Allocate(len) => Op::Allocate(*len),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        if let Some(path) = &self.gone {
            names.remove(path);
        }
        if let Some((path, entry)) = &self.come {
            names.insert(path.clone(), *entry);
        }
    }

    fn path(&self) -> &str {
        let come = self.come.as_ref().map(|(path, _)| path);
        come.or(self.gone.as_ref()).map_or("", String::as_str)
    }

    fn touches(&self, dir: &str) -> bool {
        let come = self.come.iter().map(|(path, _)| path);
        self.gone.iter().chain(come).any(|path| parent(path) == dir)
    }
}

fn write_with_fate(image: &mut Vec<u8>, offset: u64, bytes: &[u8], fate: Fate) {
    let first_sector = offset / SECTOR;
    let bytes = match fate {
        Fate::Torn(sectors) => {
            let end = first_sector.saturating_add(sectors).saturating_mul(SECTOR);
            &bytes[..bytes.len().min(end.saturating_sub(offset) as usize)]
        }
        _ => bytes,
    };
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len() as u64;
    image.resize(image.len().max(end as usize), 0);
    let mut at = offset;
    while at < end {
        let sector = at / SECTOR;
        let next = ((sector + 1) * SECTOR).min(end);
        let kept = match fate {
            Fate::Sectors(mask) => mask >> ((sector - first_sector) % 64) & 1 == 1,
            _ => true,
        };
        if kept {
            let part = &bytes[(at - offset) as usize..(next - offset) as usize];
            image[at as usize..next as usize].copy_from_slice(part);
        }
        at = next;
    }
}

fn slice_at(image: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = image.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
    &image[start..image.len().min(start.saturating_add(len))]
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
