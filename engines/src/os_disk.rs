//! The real disk: files below one directory, one thread that syncs and one that reads.
//!
//! This is the only file of the crate that touches the operating system. Reads and writes are made in
//! the caller's thread, since they go to the page cache; what has to wait for the device (`start_sync`,
//! `start_read`) is handed over, in order, and ends in the given `OnDiskDone`.
//!
//! A sync is an fsync of the data alone (`fdatasync`), which also writes a changed length. Names become durable by `sync_dir`.
//! Left out: direct I/O, io_uring, memory maps; several threads for cold reads.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rondo_core::env::{Disk, DiskDone, OnDiskDone, Open, Space};
use rondo_core::id::{ReadId, SyncId};
use rondo_core::probe::Probe;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

/// Syncs that may wait. An engine has one at a time, so only a mistake fills this.
const SYNCS_MAX: usize = 64;
/// Cold reads that may wait; more fail with `ResourceBusy`.
const READS_MAX: usize = 4096;
/// Directories that stay open. An engine has one.
const DIRS_MAX: usize = 8;
/// The most pieces that one system call writes (`IOV_MAX` of Linux).
const PIECES_MAX: usize = 1024;

/// Files below one directory of the operating system.
pub struct OsDisk {
    root: PathBuf,
    done: OnDiskDone,
    syncs: SyncSender<SyncJob>,
    reads: SyncSender<ReadJob>,
    /// Whether this file system cannot say that a read would block.
    always_read: AtomicBool,
    lock: Mutex<Option<File>>,
    /// Directories that were made durable once stay open: a sync must not fail because no descriptor is left.
    dirs: Mutex<BTreeMap<String, Arc<File>>>,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct OsFile(Arc<File>);

struct SyncJob {
    id: SyncId,
    files: Vec<OsFile>,
    dirs: Vec<io::Result<Arc<File>>>,
}

struct ReadJob {
    id: ReadId,
    file: OsFile,
    offset: u64,
    len: usize,
}

impl OsDisk {
    /// A disk whose root is the directory `root`, which is made when it is not there. Slow work ends
    /// in `done`, which is called from other threads.
    ///
    /// # Errors
    /// When the directory cannot be made or the threads cannot be started.
    pub fn open(root: &Path, done: OnDiskDone) -> io::Result<OsDisk> {
        std::fs::create_dir_all(root).map_err(|error| name_error("make", root, &error))?;
        let root =
            root.canonicalize().map_err(|error| name_error("find the path of", root, &error))?;
        if let Some(parent) = root.parent() {
            // The directory's own name must survive too. A parent that cannot be opened is the
            // operator's (a mount point, say), and durable already.
            if let Ok(dir) = File::open(parent) {
                dir.sync_all()?;
            }
        }
        let (syncs, sync_jobs) = sync_channel(SYNCS_MAX);
        let (reads, read_jobs) = sync_channel(READS_MAX);
        spawn("disk-sync", &done, sync_jobs, run_sync)?;
        spawn("disk-read", &done, read_jobs, run_read)?;
        let always_read = AtomicBool::new(false);
        let (lock, dirs) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
        Ok(OsDisk { root, done, syncs, reads, always_read, lock, dirs })
    }

    /// Makes this process the only one that uses the directory, until the disk is dropped or the
    /// process ends, however it ends.
    ///
    /// # Errors
    /// When another process holds the lock; the text says what to do.
    pub fn lock(&self) -> io::Result<()> {
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| name_error("open the lock file", &path, &error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            if errno != Errno::WOULDBLOCK {
                return name_error("lock", &path, &errno.into());
            }
            let text = format!(
                "the data directory {} is in use by another process; stop that one, or give this \
                 node a directory of its own with --data-dir",
                self.root.display()
            );
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        })?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory, kept open.
    fn dir(&self, dir: &str) -> io::Result<Arc<File>> {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = dirs.get(dir) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.path(dir)?)?);
        if dirs.len() < DIRS_MAX {
            dirs.insert(dir.to_owned(), Arc::clone(&file));
        }
        Ok(file)
    }

    /// The path of `name`, which must stay below the root.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() {
            return Ok(self.root.clone());
        }
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(['\\', '\0']);
        if name.split('/').any(bad) {
            let text = format!("`{name}` is no path below the data directory");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.root.join(name))
    }
}

/// Nobody watches the real world.
impl Probe for OsDisk {}

impl Disk for OsDisk {
    type File = OsFile;

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(dir)?)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<OsFile> {
        let path = self.path(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = match how {
            Open::Existing => options.open(path),
            Open::New => options.create_new(true).open(path),
        };
        let file = file.map_err(|error| match Errno::from_io_error(&error) {
            // It passes: connections end, and their descriptors come back.
            Some(Errno::MFILE | Errno::NFILE) => {
                let text = format!("no file descriptor is left: {error}");
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            _ => error,
        })?;
        Ok(OsFile(Arc::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from)?, self.path(to)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(dir)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no text is not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.dir(dir)?.sync_all()
    }

    fn place(&self, path: &str) -> io::Result<u128> {
        let found = std::fs::metadata(self.path(path)?)?;
        Ok(u128::from(found.dev()) << 64 | u128::from(found.ino()))
    }

    fn len(&self, file: &OsFile) -> io::Result<u64> {
        Ok(file.0.metadata()?.len())
    }

    fn read_at(&self, file: &OsFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_fully(&file.0, buf, offset)
    }

    fn try_read_at(&self, file: &OsFile, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.always_read.load(Ordering::Relaxed) {
            return self.read_at(file, buf, offset).map(Some);
        }
        let mut read = 0;
        while read < buf.len() {
            let mut pieces = [IoSliceMut::new(&mut buf[read..])];
            let at = offset + read as u64;
            match rustix::io::preadv2(&*file.0, &mut pieces, at, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                // What is left may be the end of the file, or wait for the device: ask again.
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.always_read.store(true, Ordering::Relaxed);
                    return self.read_at(file, buf, offset).map(Some);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Some(read))
    }

    fn write_at(&self, file: &OsFile, bufs: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for bufs in bufs.chunks(PIECES_MAX) {
            let mut pieces: Vec<IoSlice<'_>> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
            let mut pieces = &mut pieces[..];
            // Empty pieces at the front would make a write of nothing look like a full device.
            IoSlice::advance_slices(&mut pieces, 0);
            while !pieces.is_empty() {
                match rustix::io::pwritev(&*file.0, pieces, at) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        at += written as u64;
                        IoSlice::advance_slices(&mut pieces, written);
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, file: &OsFile, len: u64) -> io::Result<()> {
        file.0.set_len(len)
    }

    fn allocate(&self, file: &OsFile, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&*file.0, FallocateFlags::empty(), 0, len) {
                // A file system without it grows the file as it is written.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn sync_now(&self, file: &OsFile) -> io::Result<()> {
        file.0.sync_data()
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn start_sync(&self, id: SyncId, files: Vec<OsFile>, dirs: Vec<String>) {
        let dirs = dirs.iter().map(|dir| self.dir(dir)).collect();
        if self.syncs.send(SyncJob { id, files, dirs }).is_err() {
            (self.done)(DiskDone::Synced { id, result: Err(gone()) });
        }
    }

    fn start_read(&self, id: ReadId, file: &OsFile, offset: u64, len: usize) {
        let error = match self.reads.try_send(ReadJob { id, file: file.clone(), offset, len }) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => {
                io::Error::new(io::ErrorKind::ResourceBusy, "too many reads wait for the disk")
            }
            Err(TrySendError::Disconnected(_)) => gone(),
        };
        (self.done)(DiskDone::Read { id, result: Err(error) });
    }
}

/// Starts a thread that runs jobs in order until the disk is dropped.
fn spawn<J: Send + 'static>(
    name: &str,
    done: &OnDiskDone,
    jobs: Receiver<J>,
    run: fn(J) -> DiskDone,
) -> io::Result<()> {
    let done = Arc::clone(done);
    let body = move || jobs.into_iter().for_each(|job| done(run(job)));
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn run_sync(job: SyncJob) -> DiskDone {
    // In order, and not beyond an error: a later file is never durable because of this sync alone.
    let files = job.files.iter().try_for_each(|file| file.0.sync_data());
    let result = files.and_then(|()| job.dirs.into_iter().try_for_each(|dir| dir?.sync_all()));
    DiskDone::Synced { id: job.id, result }
}

fn run_read(job: ReadJob) -> DiskDone {
    let mut bytes = vec![0; job.len];
    let result = read_fully(&job.file.0, &mut bytes, job.offset).map(|read| {
        bytes.truncate(read);
        Bytes::from(bytes)
    });
    DiskDone::Read { id: job.id, result }
}

/// Reads until `buf` is full or the file ends.
fn read_fully(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buf.len() {
        match rustix::io::pread(file, &mut buf[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(read)
}

fn gone() -> io::Error {
    io::Error::other("the disk's thread has ended")
}

fn name_error(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}
