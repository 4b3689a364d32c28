//! What each call changes: `Disk` over the two images of files and names.
//!
//! A change is applied to what is read now and kept in a list until a sync applies it to what is
//! durable. Names that go and come in one step stay one step, so that a rename is atomic.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rondo_core::env::{Disk, Open, Space};
use rondo_core::id::{ReadId, SyncId};
use rondo_core::probe::{Buggify, Probe, Sometimes};

use super::crash::Fate;
use super::damage::meet;
use super::faults::{Fault, Injected};
use super::{
    ChangedFile, Entry, FileChange, Inode, MemDisk, MemFile, NameChange, Op, Pending, State, Work,
    parent,
};

impl Probe for MemDisk {
    const PROBED: bool = true;

    fn fires(&self, site: Buggify) -> bool {
        self.state().hooks.watch.as_ref().is_some_and(|watch| watch.fires(site))
    }

    fn met(&self, site: Sometimes) {
        if let Some(watch) = &self.state().hooks.watch {
            watch.met(site);
        }
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        if dir.is_empty() || state.names.current.get(dir) == Some(&Entry::Dir) {
            return Ok(());
        }
        state.ask_path(dir, Op::CreateDir)?;
        let mut path = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            match state.names.current.get(&path) {
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
        if state.names.current.contains_key(to) {
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
        Ok(state.names.current.keys().filter(inside).map(name).collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.wait_for_the_device();
        let until = state.sequence;
        state.sync_dir(dir, until)
    }

    fn place(&self, path: &str) -> io::Result<u128> {
        let mut state = self.state();
        state.ask_path(path, Op::Len)?;
        let inode = state.file_named(path)?;
        Ok(u128::from(state.device) << 64 | u128::from(inode))
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
        state.read(file.inode, buf, offset)
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
        if state.hooks.cold.as_mut().is_some_and(|cold| cold(path, offset, buf.len())) {
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
        state.wait_for_the_device();
        let until = state.sequence;
        state.sync(file.inode, until)
    }

    fn space(&self) -> io::Result<Space> {
        let mut state = self.state();
        // A file that was removed takes room until it has been closed.
        state.collect_garbage();
        let total = state.capacity.unwrap_or(u64::MAX);
        let is_full = state.ask_fault_path("", &Op::Space).is_some();
        let free = if is_full { 0 } else { total.saturating_sub(state.used()) };
        Ok(Space { free, total })
    }

    fn start_sync(&self, id: SyncId, files: Vec<MemFile>, dirs: Vec<String>) {
        let mut state = self.state();
        let until = state.sequence;
        state.pending.push(Pending { work: Work::Sync { id, files, dirs, until } });
    }

    fn start_read(&self, id: ReadId, file: &MemFile, offset: u64, len: usize) {
        let work = Work::Read { id, file: file.clone(), offset, len };
        self.state().pending.push(Pending { work });
    }
}

impl MemDisk {
    /// The file behind an open handle, after the fault hook has agreed.
    fn change_file(&self, file: &MemFile, what: ChangedFile) -> io::Result<()> {
        let mut state = self.state();
        state.check(file.incarnation)?;
        let asked = state.ask_fault(file.inode, what.op());
        let asked = asked.or_else(|| state.overflow(file.inode, &what));
        let (what, result) = match (asked, what) {
            (None, what) => (what, Ok(())),
            (Some(Fault::Cut(len, error)), ChangedFile::Write { offset, mut bytes }) => {
                bytes.truncate(len as usize);
                (ChangedFile::Write { offset, bytes }, Err(io::Error::new(error, Injected)))
            }
            (Some(fault), _) => return Err(state.refuse(fault)),
        };
        let sequence = state.next_sequence();
        let change = FileChange { sequence, doomed: false, what };
        let inode = state.inodes.get_mut(&file.inode).expect("open files have content");
        change.apply(&mut inode.current);
        for spoilt in &mut inode.spoilt {
            spoilt.written_anew(&change, false);
        }
        inode.changes.push_back(change);
        result
    }
}

impl State {
    fn wait_for_the_device(&self) {
        assert!(!self.hooks.forbids_waiting, "nobody may wait for the device here");
    }

    /// Makes durable what was named in a directory before operation `until`.
    pub(super) fn sync_dir(&mut self, dir: &str, until: u64) -> io::Result<()> {
        self.ask_path(dir, Op::SyncDir)?;
        if !dir.is_empty() && self.names.current.get(dir) != Some(&Entry::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = std::mem::take(&mut self.names.changes);
        for change in changes {
            if change.touches(dir) && change.sequence < until {
                change.apply(&mut self.names.durable);
            } else {
                self.names.changes.push(change);
            }
        }
        self.collect_garbage();
        Ok(())
    }

    /// The bytes of all files, open ones without a name included.
    fn used(&self) -> u64 {
        self.inodes.values().map(|file| file.current.len() as u64).sum()
    }

    /// What happens to a change for which there is no room: a write stores what fits.
    fn overflow(&self, inode: u64, what: &ChangedFile) -> Option<Fault> {
        let free = self.capacity?.saturating_sub(self.used());
        let len = self.inodes[&inode].current.len() as u64;
        let end = match what {
            ChangedFile::Write { offset, bytes } => offset + bytes.len() as u64,
            ChangedFile::SetLen(len) | ChangedFile::Allocate(len) => *len,
        };
        if end.saturating_sub(len) <= free {
            return None;
        }
        let full = io::ErrorKind::StorageFull;
        Some(match what {
            ChangedFile::Write { offset, .. } => {
                Fault::Cut((len + free).saturating_sub(*offset), full)
            }
            _ => Fault::Fail(full),
        })
    }

    pub(super) fn name_file(&mut self, inode: u64, path: &str) {
        path.clone_into(&mut self.inodes.get_mut(&inode).expect("named files have content").path);
    }

    fn check_parent(&self, path: &str) -> io::Result<()> {
        match self.names.current.get(parent(path)) {
            Some(Entry::Dir) => Ok(()),
            _ if parent(path).is_empty() => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &str) -> io::Result<u64> {
        self.check_parent(path)?;
        if self.names.current.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode { path: path.to_owned(), ..Inode::default() });
        self.change_name(Op::Create, None, Some((path.to_owned(), Entry::File(inode))));
        Ok(inode)
    }

    fn change_name(&mut self, op: Op, gone: Option<String>, come: Option<(String, Entry)>) {
        let change = NameChange { sequence: self.next_sequence(), op, gone, come };
        change.apply(&mut self.names.current);
        self.names.changes.push(change);
    }
}

impl FileChange {
    pub(super) fn apply(&self, image: &mut Vec<u8>) {
        self.apply_with_fate(image, Fate::Kept);
    }

    /// Whether nothing of an earlier change can show once this one is durable, as far as it lies below it.
    pub(super) fn replaces(&self, earlier: &FileChange) -> bool {
        match &self.what {
            ChangedFile::Write { .. } => {
                let range = self.range();
                earlier.range().is_some_and(|other| range.is_some_and(|range| meet(range, other)))
            }
            ChangedFile::SetLen(len) => {
                earlier.range().is_none_or(|(offset, bytes)| offset + bytes > *len)
            }
            ChangedFile::Allocate(_) => false,
        }
    }

    pub(super) const fn is_allocation(&self) -> bool {
        matches!(self.what, ChangedFile::Allocate(_))
    }

    /// What a write covers: offset and length.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        match &self.what {
            ChangedFile::Write { offset, bytes } => Some((*offset, bytes.len() as u64)),
            _ => None,
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        if let Some(path) = &self.gone {
            names.remove(path);
        }
        if let Some((path, entry)) = &self.come {
            names.insert(path.clone(), *entry);
        }
    }

    pub(super) fn path(&self) -> &str {
        let come = self.come.as_ref().map(|(path, _)| path);
        come.or(self.gone.as_ref()).map_or("", String::as_str)
    }

    fn touches(&self, dir: &str) -> bool {
        let come = self.come.iter().map(|(path, _)| path);
        self.gone.iter().chain(come).any(|path| parent(path) == dir)
    }
}
