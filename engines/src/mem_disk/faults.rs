//! What goes wrong with one operation while the power is on, by decision of whoever set a hook.
//!
//! Each operation has a number and asks before it has any effect. A failed sync dooms what it covered:
//! those pages count as clean and no later sync makes them durable. Left out: who decides, and why.

use std::fmt;
use std::io;
use std::sync::Arc;

use rondo_core::probe::Watch;

use super::{ChangedFile, MemDisk, Op, State};

/// What happens to one operation, by decision of a fault hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails and has no effect. A failed sync also makes its writes unsyncable.
    Fail(io::ErrorKind),
    /// A write stores only its first so many bytes and fails; anything else just fails.
    Cut(u64, io::ErrorKind),
    /// A read answers with the bytes of another place, which the number chooses; anything else just fails.
    Elsewhere(u64),
    /// Power is off: this and everything after it fails until `crash` is called.
    PowerOff,
}

/// What the error of an operation that a hook let fail says.
pub const INJECTED: &str = "the simulated disk failed here";

/// What such an error carries, so that it can be told from any other.
#[derive(Debug)]
pub(super) struct Injected;

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INJECTED)
    }
}

impl std::error::Error for Injected {}

/// Whether an error is of an operation that a hook let fail, and not one that merely says so.
#[must_use]
pub fn is_injected(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Injected>())
}

pub(super) type FaultHook = Box<dyn FnMut(u64, &str, &Op) -> Option<Fault> + Send>;
pub(super) type ColdHook = Box<dyn FnMut(&str, u64, usize) -> bool + Send>;

impl MemDisk {
    /// Asks `hook(number, path, op)` before each operation. It must not use the disk.
    pub fn set_fault_hook(
        &self,
        hook: impl FnMut(u64, &str, &Op) -> Option<Fault> + Send + 'static,
    ) {
        self.state().hooks.fault = Some(Box::new(hook));
    }

    /// Asks `hook(path, offset, len)` whether a `try_read_at` would block. It must not use the disk.
    pub fn set_cold_hook(&self, hook: impl FnMut(&str, u64, usize) -> bool + Send + 'static) {
        self.state().hooks.cold = Some(Box::new(hook));
    }

    /// Lets `watch` decide and count at the sites of whatever runs on this disk. It must not use the disk.
    pub fn set_watch(&self, watch: Arc<dyn Watch>) {
        self.state().hooks.watch = Some(watch);
    }

    /// Whether it panics when somebody waits for a sync: for programs whose thread must never wait for a device.
    pub fn forbid_waiting(&self, is_forbidden: bool) {
        self.state().hooks.forbids_waiting = is_forbidden;
    }

    /// All files together have at most so many bytes from now on; what would make them more fails.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Removes both hooks.
    pub fn clear_hooks(&self) {
        let mut state = self.state();
        state.hooks.fault = None;
        state.hooks.cold = None;
    }
}

impl State {
    pub(super) fn ask_fault_path(&mut self, path: &str, op: &Op) -> Option<Fault> {
        if self.power_off {
            return Some(Fault::PowerOff);
        }
        match op {
            Op::Sync | Op::SyncDir => self.asked.calls.waits += 1,
            Op::Read | Op::Write { .. } | Op::Len | Op::Space => self.asked.calls.data += 1,
            _ => self.asked.calls.names += 1,
        }
        let number = self.asked.operations;
        self.asked.operations += 1;
        self.hooks.fault.as_mut().and_then(|hook| hook(number, path, op))
    }

    pub(super) fn ask_fault(&mut self, inode: u64, op: Op) -> Option<Fault> {
        let path = std::mem::take(&mut self.inodes.get_mut(&inode)?.path);
        let fault = self.ask_fault_path(&path, &op);
        self.inodes.get_mut(&inode)?.path = path;
        fault
    }

    pub(super) fn ask(&mut self, inode: u64, op: Op) -> io::Result<()> {
        self.ask_fault(inode, op).map_or(Ok(()), |fault| Err(self.refuse(fault)))
    }

    pub(super) fn ask_path(&mut self, path: &str, op: Op) -> io::Result<()> {
        self.ask_fault_path(path, &op).map_or(Ok(()), |fault| Err(self.refuse(fault)))
    }

    pub(super) fn refuse(&mut self, fault: Fault) -> io::Error {
        match fault {
            Fault::Fail(error) | Fault::Cut(_, error) => io::Error::new(error, Injected),
            Fault::Elsewhere(_) => io::Error::other(Injected),
            Fault::PowerOff => {
                self.power_off = true;
                io::Error::other("the power is off")
            }
        }
    }

    pub(super) fn doom(&mut self, inode: u64, until: u64) {
        let changes = self.inodes.get_mut(&inode).into_iter().flat_map(|file| &mut file.changes);
        for change in changes.filter(|change| change.sequence < until) {
            change.doomed = true;
        }
    }
}

impl ChangedFile {
    pub(super) fn op(&self) -> Op {
        match self {
            ChangedFile::Write { offset, bytes } => {
                Op::Write { offset: *offset, len: bytes.len() as u64 }
            }
            ChangedFile::SetLen(len) => Op::SetLen(*len),
            ChangedFile::Allocate(len) => Op::Allocate(*len),
        }
    }
}
