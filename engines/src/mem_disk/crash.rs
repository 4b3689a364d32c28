//! What a power loss leaves: the caller decides the fate of each operation that no sync has covered.
//!
//! The operations are listed in the order they were made, over all files and names, so that a caller
//! can name a subset by indices. Afterwards what is durable is all there is, and a file or directory
//! whose way from the root was lost is lost with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{
    Asked, ChangedFile, Entry, FileChange, Inode, MemDisk, Op, PAGE, SECTOR, State, parent,
};

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
    /// The same for pages.
    Pages(u64),
}

/// Where an un-synced operation is listed.
enum Place {
    Name(usize),
    File(u64, usize),
}

impl MemDisk {
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
                    if matches!(fate, Fate::Kept | Fate::Sectors(_) | Fate::Pages(_)) {
                        state.names.changes[at].apply(&mut state.names.durable);
                    }
                }
                Place::File(inode, at) => {
                    let file = state.inodes.get_mut(&inode).expect("listed just now");
                    let Inode { changes, durable, spoilt, .. } = file;
                    changes[at].apply_with_fate(durable, fate);
                    for spoilt in spoilt.iter_mut().filter(|_| fate == Fate::Kept) {
                        spoilt.written_anew(&changes[at], true);
                    }
                }
            }
        }
        state.start_again_from_durable();
        assert!(state.unsynced().is_empty(), "what a crash leaves is durable");
    }

    /// Another disk with the same content, un-synced operations included. Nothing is open on it, and it has
    /// no hooks.
    #[must_use]
    pub fn fork(&self) -> MemDisk {
        let state = self.state();
        let copy = State {
            device: state.device,
            incarnation: state.incarnation + 1,
            power_off: false,
            asked: Asked { operations: state.asked.operations, ..Asked::default() },
            sequence: state.sequence,
            next_inode: state.next_inode,
            inodes: state.inodes.iter().map(|(&inode, file)| (inode, file.fork())).collect(),
            names: state.names.clone(),
            ..State::default()
        };
        MemDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Everything is as it was when `before` was forked; what is open gives errors from now on.
    pub fn set_back(&self, before: &MemDisk) {
        let before = before.fork();
        let mut from = before.state();
        let mut state = self.state();
        state.incarnation += 1;
        state.power_off = false;
        state.pending.clear();
        state.settled.clear();
        state.next_inode = state.next_inode.max(from.next_inode);
        state.sequence = state.sequence.max(from.sequence);
        state.inodes = std::mem::take(&mut from.inodes);
        state.names = std::mem::take(&mut from.names);
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
}

impl State {
    /// All operations that no sync has covered, in the order they were made.
    fn unsynced(&self) -> Vec<(String, Op, Place)> {
        let mut found = BTreeMap::new();
        for (at, change) in self.names.changes.iter().enumerate() {
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
        self.names.changes.clear();
        // A directory that was lost takes everything below it along.
        let names = std::mem::take(&mut self.names.durable);
        for (path, entry) in names {
            // Sorted order has a directory before what is in it.
            let above = parent(&path);
            if above.is_empty() || self.names.durable.get(above) == Some(&Entry::Dir) {
                self.names.durable.insert(path, entry);
            }
        }
        self.names.current = self.names.durable.clone();
        for file in self.inodes.values_mut() {
            file.changes.clear();
            file.current = file.durable.clone();
            file.spoilt.iter_mut().for_each(|spoilt| spoilt.lose_current());
        }
        for (path, entry) in self.names.current.clone() {
            if let Entry::File(inode) = entry {
                self.name_file(inode, &path);
            }
        }
        self.collect_garbage();
    }
}

impl Inode {
    fn fork(&self) -> Inode {
        let Inode { path, current, durable, changes, spoilt, open: _ } = self;
        Inode {
            path: path.clone(),
            current: current.clone(),
            durable: durable.clone(),
            changes: changes.clone(),
            spoilt: spoilt.clone(),
            open: Arc::default(),
        }
    }
}

impl FileChange {
    pub(super) fn apply_with_fate(&self, image: &mut Vec<u8>, fate: Fate) {
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

fn write_with_fate(image: &mut Vec<u8>, offset: u64, bytes: &[u8], fate: Fate) {
    let unit = if matches!(fate, Fate::Pages(_)) { PAGE } else { SECTOR };
    let first = offset / unit;
    let bytes = match fate {
        Fate::Torn(sectors) => {
            let end = first.saturating_add(sectors).saturating_mul(SECTOR);
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
        let block = at / unit;
        let next = ((block + 1) * unit).min(end);
        let kept = match fate {
            Fate::Sectors(mask) | Fate::Pages(mask) => mask >> ((block - first) % 64) & 1 == 1,
            _ => true,
        };
        if kept {
            let part = &bytes[(at - offset) as usize..(next - offset) as usize];
            image[at as usize..next as usize].copy_from_slice(part);
        }
        at = next;
    }
}
