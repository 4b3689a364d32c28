//! What a node opens: its data directory and the engine in it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rondo_core::engine::{Engine, MemoryEngine};
use rondo_core::env::Disk;
use rondo_core::error::Error;

use crate::bitcask::{Bitcask, Lost, Options};
use crate::data_dir::{DataDir, DataDirError, NewIdentity};

/// Where Bitcask's files lie in a data directory.
const BITCASK_DIR: &str = "bitcask";

/// Which engine keeps the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineKind {
    /// A log with an index in memory. The default of the product.
    Bitcask,
    /// Nothing survives the process. For tests and demonstrations.
    Memory,
}

/// An open data directory with its engine.
pub struct Store<D: Disk> {
    /// The directory. After `engine.close()` a node that lost nothing calls its `mark_clean`.
    pub dir: DataDir<D>,
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Whether everything is here that was when the last life ended: the directory was closed cleanly,
    /// the engine keeps data, and none of it is damaged. Only then may identities issued in that life
    /// be used on.
    pub clean: bool,
    /// Acknowledged data that is gone.
    pub lost: Vec<Lost>,
}

/// Why a store was not opened.
#[derive(Debug)]
pub enum StoreError {
    /// The data directory is not this node's, or cannot be read.
    DataDir(DataDirError),
    /// The engine did not open.
    Engine(Error),
}

/// Opens the directory at the root of `disk` and the engine in it; see `DataDir::open`.
///
/// # Errors
/// What `DataDir::open` and `Bitcask::open` answer.
pub fn open_store<D: Disk>(
    disk: Arc<D>,
    new: &NewIdentity,
    kind: EngineKind,
) -> Result<Store<D>, StoreError> {
    let dir = DataDir::open(Arc::clone(&disk), new, &[BITCASK_DIR]).map_err(StoreError::DataDir)?;
    let (engine, lost): (Box<dyn Engine>, Vec<Lost>) = match kind {
        EngineKind::Memory => (Box::new(MemoryEngine::new()), Vec::new()),
        EngineKind::Bitcask => {
            let options = Options { accept_losses: true, ..Options::new(dir.store() as u64) };
            let (engine, opened) =
                Bitcask::open(disk, BITCASK_DIR, options).map_err(StoreError::Engine)?;
            (Box::new(engine), opened.lost)
        }
    };
    let clean = dir.clean && kind != EngineKind::Memory && lost.is_empty();
    Ok(Store { dir, engine, clean, lost })
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "bitcask" => Ok(EngineKind::Bitcask),
            "memory" => Ok(EngineKind::Memory),
            "lsm" | "btree" => Err(Error::Malformed(
                "the engines lsm and btree are not built yet; use bitcask or memory",
            )),
            _ => Err(Error::Malformed("the engine is bitcask or memory")),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Bitcask => "bitcask",
            EngineKind::Memory => "memory",
        })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::DataDir(error) => error.fmt(f),
            StoreError::Engine(error) => write!(f, "the storage engine did not open: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rondo_core::engine::{Batch, Change, Lookup};
    use rondo_core::id::NodeId;

    use super::*;
    use crate::mem_disk::MemDisk;

    fn identity() -> NewIdentity {
        NewIdentity { node: NodeId(1), store: 2, name: "n1".into(), cluster: "c".into() }
    }

    fn put(store: &mut Store<MemDisk>) {
        let key = Bytes::from_static(b"k");
        let change = Change::Put { key: key.clone(), head: key, body: [].into_iter().collect() };
        store.engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    }

    #[test]
    fn only_a_store_that_was_closed_and_is_whole_is_clean() {
        let disk = Arc::new(MemDisk::new());
        let open = |kind| open_store(Arc::clone(&disk), &identity(), kind).unwrap();
        let mut store = open(EngineKind::Bitcask);
        assert!(!store.clean, "a new one has nothing to be used on");
        put(&mut store);
        store.engine.close().unwrap();
        store.dir.mark_clean().unwrap();
        disk.crash_lose_all();
        let mut store = open(EngineKind::Bitcask);
        assert!(store.clean && store.lost.is_empty());
        assert!(matches!(store.engine.get(b"k").unwrap(), Lookup::Hit(_)));
        store.engine.close().unwrap();
        store.dir.mark_clean().unwrap();
        let names = disk.list("bitcask").unwrap();
        for name in names.iter().filter(|name| name.ends_with(".data")) {
            let path = format!("bitcask/{name}");
            if disk.content(&path).unwrap().len() > 60 {
                disk.flip_bit(&path, 60, 3);
            }
        }
        for name in names.iter().filter(|name| name.ends_with(".hint")) {
            disk.remove(&format!("bitcask/{name}")).unwrap();
        }
        let store = open(EngineKind::Bitcask);
        assert!(store.dir.clean && !store.clean && !store.lost.is_empty(), "{:?}", store.lost);
    }

    #[test]
    fn a_store_in_memory_is_never_clean() {
        let disk = Arc::new(MemDisk::new());
        for _ in 0..2 {
            let mut store = open_store(Arc::clone(&disk), &identity(), EngineKind::Memory).unwrap();
            assert!(!store.clean);
            put(&mut store);
            store.engine.close().unwrap();
            store.dir.mark_clean().unwrap();
        }
    }

    #[test]
    fn engines_that_are_not_built_say_so() {
        let error = "lsm".parse::<EngineKind>().unwrap_err().to_string();
        assert!(error.contains("not built yet; use bitcask"), "{error}");
        assert!("rocks".parse::<EngineKind>().is_err());
        assert_eq!("bitcask".parse::<EngineKind>().unwrap().to_string(), "bitcask");
    }
}
