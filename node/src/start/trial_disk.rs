//! A disk for trying what a start does with a data directory: it reads the real one, and whatever is written goes into
//! files without names beside it, which are gone when the disk is. So a full or a read-only file system says so, and
//! nothing in the directory is changed.
//!
//! It is for `DataDir::open` alone, which reads nothing that it has written, renamed or removed itself: no later read sees
//! it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rondo_core::env::{Disk, Open, Space};
use rondo_core::id::{ReadId, SyncId};
use rondo_core::probe::Probe;
use rondo_engines::os_disk::{OsDisk, OsFile};

/// The disk.
pub struct TrialDisk {
    /// The data directory; `None` before it is made.
    real: Option<OsDisk>,
    /// The directory in which files without names are made.
    beside: PathBuf,
}

/// An open file.
#[derive(Clone, Debug)]
pub enum TrialFile {
    /// One of the data directory, for reading.
    Real(OsFile),
    /// One without a name.
    Nameless(Arc<File>),
}

impl TrialDisk {
    /// A disk for the data directory `root`, which may still have to be made.
    ///
    /// # Errors
    /// When `root` is there and cannot be opened.
    pub fn over(root: &Path) -> io::Result<TrialDisk> {
        if root.is_dir() {
            let real = OsDisk::open(root, Arc::new(drop))?;
            return Ok(TrialDisk { real: Some(real), beside: root.to_owned() });
        }
        let above = root.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("."));
        Ok(TrialDisk { real: None, beside: above.to_owned() })
    }

    fn real(&self) -> io::Result<&OsDisk> {
        self.real.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What only a running engine asks for.
fn not_here<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nobody watches a trial.
impl Probe for TrialDisk {}

impl Disk for TrialDisk {
    type File = TrialFile;

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &str, how: Open) -> io::Result<TrialFile> {
        match how {
            Open::Existing => self.real()?.open(path, how).map(TrialFile::Real),
            Open::New => {
                tempfile::tempfile_in(&self.beside).map(|file| TrialFile::Nameless(Arc::new(file)))
            }
        }
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn link(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.real.as_ref().map_or(Ok(Vec::new()), |real| real.list(dir))
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn place(&self, path: &str) -> io::Result<u128> {
        // A file that would be there by now lies nowhere yet.
        match self.real().and_then(|real| real.place(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            place => place,
        }
    }

    fn len(&self, file: &TrialFile) -> io::Result<u64> {
        match file {
            TrialFile::Real(file) => self.real()?.len(file),
            TrialFile::Nameless(file) => Ok(file.metadata()?.len()),
        }
    }

    fn read_at(&self, file: &TrialFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match file {
            TrialFile::Real(file) => self.real()?.read_at(file, buf, offset),
            TrialFile::Nameless(_) => not_here(),
        }
    }

    fn try_read_at(&self, _: &TrialFile, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
        not_here()
    }

    fn write_at(&self, file: &TrialFile, bufs: &[&[u8]], offset: u64) -> io::Result<()> {
        match file {
            TrialFile::Real(_) => Ok(()),
            TrialFile::Nameless(file) => file.write_all_at(&bufs.concat(), offset),
        }
    }

    fn set_len(&self, _: &TrialFile, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, file: &TrialFile, len: u64) -> io::Result<()> {
        match file {
            TrialFile::Real(_) => Ok(()),
            TrialFile::Nameless(file) => file.set_len(len),
        }
    }

    fn sync_now(&self, file: &TrialFile) -> io::Result<()> {
        match file {
            TrialFile::Real(_) => Ok(()),
            TrialFile::Nameless(file) => file.sync_data(),
        }
    }

    fn space(&self) -> io::Result<Space> {
        self.real()?.space()
    }

    fn start_sync(&self, _: SyncId, _: Vec<TrialFile>, _: Vec<String>) {
        unreachable!("a data directory is opened without work in the background");
    }

    fn start_read(&self, _: ReadId, _: &TrialFile, _: u64, _: usize) {
        unreachable!("a data directory is opened without work in the background");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rondo_core::id::{NodeId, SessionId};
    use rondo_engines::data_dir::{DataDir, NewIdentity};

    use super::*;

    #[test]
    fn a_trial_of_a_directory_whose_start_was_cut_off_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (name, cluster) = ("n1".to_owned(), "c".to_owned());
        let new = NewIdentity { node: NodeId(1), store: 2, name, cluster };
        let real = OsDisk::open(dir.path(), Arc::new(drop)).expect("a directory");
        DataDir::open(Arc::new(real), &new, SessionId(1), "bitcask", &["data"])
            .expect("there is room");
        let path = |name: &str| dir.path().join(name);
        let files = || ["boot", "boot.old", "boot.spare"].map(|name| fs::read(path(name)).ok());
        for (from, to) in [("boot.spare", "boot.old"), ("boot.old", "boot.spare")] {
            fs::rename(path(from), path(to)).expect("it is there");
            let before = files();
            let trial = TrialDisk::over(dir.path()).expect("it is there");
            let opened = DataDir::open(Arc::new(trial), &new, SessionId(2), "bitcask", &["data"]);
            assert_eq!(opened.expect("it would start").life.boot.0, 2);
            assert_eq!(files(), before);
        }
    }
}
