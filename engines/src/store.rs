//! What a node opens: its data directory and the engine in it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rondo_core::config::Actors;
use rondo_core::engine::{Engine, MemoryEngine};
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_core::id::SessionId;

use crate::bitcask::{Bitcask, Lost, Options};
use crate::data_dir::{DataDir, DataDirError, NewIdentity, OpenedEngine};

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
    /// What becomes of the actors of earlier lives. They go on as they are when everything is here that was when the last life
    /// ended: the directory was closed cleanly, the engine keeps data, and none of it is damaged.
    pub actors: Actors,
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

/// Opens the directory at the root of `disk` and the engine in it, for the life `session`; see `DataDir::open`.
///
/// # Errors
/// What `DataDir::open`, `Bitcask::open` and `DataDir::take_stock` answer.
pub fn open_store<D: Disk>(
    disk: Arc<D>,
    new: &NewIdentity,
    session: SessionId,
    kind: EngineKind,
) -> Result<Store<D>, StoreError> {
    let mut dir = DataDir::open(Arc::clone(&disk), new, session, &[BITCASK_DIR])
        .map_err(StoreError::DataDir)?;
    let (engine, lost): (Box<dyn Engine>, Vec<Lost>) = match kind {
        EngineKind::Memory => (Box::new(MemoryEngine::new()), Vec::new()),
        EngineKind::Bitcask => {
            let options = Options { accept_losses: true, ..Options::new(dir.store() as u64) };
            let (engine, opened) =
                Bitcask::open(disk, BITCASK_DIR, options).map_err(StoreError::Engine)?;
            if opened.lost.is_empty() {
                dir.take_stock(&OpenedEngine::of(&engine, opened.last))
                    .map_err(StoreError::DataDir)?;
            }
            (Box::new(engine), opened.lost)
        }
    };
    let is_whole = kind != EngineKind::Memory && lost.is_empty();
    let actors = if is_whole { dir.actors() } else { Actors::Fresh };
    Ok(Store { dir, engine, actors, lost })
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
    use rondo_core::config::EARLIER_LIVES_MAX;
    use rondo_core::engine::{Batch, Change, Lookup};
    use rondo_core::env::Open;
    use rondo_core::id::{BootEpoch, Life, NodeId};

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
        let session = SessionId(1);
        let open = |kind| open_store(Arc::clone(&disk), &identity(), session, kind).unwrap();
        let mut store = open(EngineKind::Bitcask);
        assert_eq!(store.actors, Actors::Fresh, "a new one has nothing to be used on");
        put(&mut store);
        store.engine.close().unwrap();
        let last = store.engine.durable();
        store.dir.mark_clean(last).unwrap();
        disk.crash_lose_all();
        let mut store = open(EngineKind::Bitcask);
        assert!(store.actors == Actors::Continue && store.lost.is_empty());
        assert!(matches!(store.engine.get(b"k").unwrap(), Lookup::Hit(_)));
        store.engine.close().unwrap();
        let last = store.engine.durable();
        store.dir.mark_clean(last).unwrap();
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
        assert!(store.actors == Actors::Fresh && !store.lost.is_empty(), "{:?}", store.lost);
    }

    fn open(disk: &Arc<MemDisk>) -> Result<Store<MemDisk>, StoreError> {
        open_store(Arc::clone(disk), &identity(), SessionId(1), EngineKind::Bitcask)
    }

    /// Several lives, each with a write; the last one ends as it is said.
    fn lived(is_closed: bool) -> Arc<MemDisk> {
        let disk = Arc::new(MemDisk::new());
        for life in 0..4 {
            let mut store = open(&disk).unwrap();
            put(&mut store);
            if life < 3 || is_closed {
                store.engine.close().unwrap();
                let last = store.engine.durable();
                store.dir.mark_clean(last).unwrap();
            }
        }
        disk.crash_lose_all();
        disk
    }

    fn data_files(disk: &MemDisk) -> Vec<String> {
        let names = disk.list("bitcask").unwrap().into_iter();
        names.filter(|name| name.ends_with(".data")).map(|name| format!("bitcask/{name}")).collect()
    }

    fn cut(disk: &MemDisk, path: &str) {
        let file = disk.open(path, Open::Existing).unwrap();
        let len = disk.len(&file).unwrap();
        disk.set_len(&file, len - 1).unwrap();
        disk.sync_now(&file).unwrap();
    }

    #[test]
    fn a_file_that_is_gone_or_short_under_a_clean_mark_is_named_and_may_be_put_back() {
        let whole = lived(true);
        for path in data_files(&whole) {
            for is_cut in [false, true] {
                let disk = Arc::new(whole.fork());
                let change = if is_cut {
                    cut
                } else {
                    |disk: &MemDisk, path: &str| disk.remove(path).unwrap()
                };
                change(&disk, &path);
                let error = open(&disk).err().expect("a store that lacks data does not open");
                assert!(matches!(error, StoreError::DataDir(DataDirError::Lost(_))), "{error}");
                assert!(error.to_string().contains(&path), "{error}");
                assert!(!error.to_string().contains("backup"), "{error}");
                disk.set_back(&whole);
                assert!(
                    open(&disk).unwrap().actors == Actors::Continue,
                    "nothing was changed by the refusal"
                );
            }
        }
    }

    #[test]
    fn a_store_that_was_killed_misses_the_files_of_its_last_opening() {
        let whole = lived(false);
        let files = data_files(&whole);
        assert!(files.len() >= 3, "{files:?}");
        let lacks = |gone: &[String]| {
            let disk = Arc::new(whole.fork());
            gone.iter().for_each(|path| disk.remove(path).unwrap());
            open(&disk).err().map(|error| error.to_string())
        };
        assert_eq!(lacks(&[]), None);
        for file in &files {
            let error = lacks(std::slice::from_ref(file)).expect("the oldest and the newest too");
            assert!(error.contains(file), "{error}");
        }
        assert!(lacks(&files).is_some(), "an empty directory is no store");
        let disk = Arc::new(whole.fork());
        cut(&disk, &files[0]);
        assert!(open(&disk).err().unwrap().to_string().contains(&files[0]));
    }

    #[test]
    fn a_store_with_something_more_or_at_another_place_is_whole_and_not_clean() {
        let whole = lived(true);
        let changes: [fn(&MemDisk); 3] = [
            |disk| drop(disk.open("bitcask/0000000099.note", Open::New).unwrap()),
            |disk| disk.move_to(7),
            |disk| {
                let hint =
                    disk.list("bitcask").unwrap().into_iter().find(|name| name.ends_with(".hint"));
                disk.remove(&format!("bitcask/{}", hint.unwrap())).unwrap();
            },
        ];
        for change in changes {
            let disk = Arc::new(whole.fork());
            change(&disk);
            let mut store = open(&disk).unwrap();
            assert!(store.actors == Actors::Fresh && store.lost.is_empty());
            assert!(matches!(store.engine.get(b"k").unwrap(), Lookup::Hit(_)));
        }
        let before = open(&Arc::new(whole.fork())).unwrap().dir.place;
        whole.move_to(7);
        assert_ne!(open(&whole).unwrap().dir.place, before);
    }

    #[test]
    fn actors_jump_after_a_kill_in_the_same_place_only() {
        let killed = lived(false);
        let actors = |disk: &MemDisk| open(&Arc::new(disk.fork())).unwrap().actors;
        assert_eq!(actors(&killed), Actors::Jump);
        let copied = killed.fork();
        copied.move_to(7);
        assert_eq!(actors(&copied), Actors::Fresh, "the other copy may issue too");
        let closed = lived(true);
        assert_eq!(actors(&closed), Actors::Continue);
        let mark = closed.content("clean").unwrap();
        drop(open(&closed).unwrap());
        let file = closed.open("clean", Open::New).unwrap();
        closed.write_at(&file, &[&mark], 0).unwrap();
        assert_eq!(actors(&closed), Actors::Fresh, "somebody has put files back");
    }

    #[test]
    fn the_engine_of_another_node_is_not_taken() {
        let (mine, other) = (Arc::new(MemDisk::new()), Arc::new(MemDisk::new()));
        drop(open(&mine).unwrap());
        let new = NewIdentity { store: 77, ..identity() };
        let kind = EngineKind::Bitcask;
        let mut store = open_store(Arc::clone(&other), &new, SessionId(1), kind).unwrap();
        put(&mut store);
        store.engine.close().unwrap();
        data_files(&mine).iter().for_each(|path| mine.remove(path).unwrap());
        for path in data_files(&other) {
            let file = mine.open(&path, Open::New).unwrap();
            mine.write_at(&file, &[&other.content(&path).unwrap()], 0).unwrap();
        }
        let error = open(&mine).err().expect("these are not its files");
        assert!(matches!(error, StoreError::DataDir(DataDirError::OtherStore)), "{error}");
    }

    #[test]
    fn earlier_lives_are_remembered_up_to_a_bound() {
        let disk = Arc::new(MemDisk::new());
        for session in 1..30 {
            let kind = EngineKind::Bitcask;
            let store =
                open_store(Arc::clone(&disk), &identity(), SessionId(session), kind).unwrap();
            let life = |boot| Life { boot: BootEpoch(boot), session: SessionId(boot) };
            let earlier = (1..session).rev().take(EARLIER_LIVES_MAX).map(life);
            assert_eq!(store.dir.earlier, earlier.collect::<Vec<_>>());
            assert_eq!(store.dir.life, life(session));
        }
    }

    #[test]
    fn a_store_in_memory_is_never_clean() {
        let disk = Arc::new(MemDisk::new());
        for _ in 0..2 {
            let session = SessionId(1);
            let mut store =
                open_store(Arc::clone(&disk), &identity(), session, EngineKind::Memory).unwrap();
            assert_eq!(store.actors, Actors::Fresh);
            put(&mut store);
            store.engine.close().unwrap();
            let last = store.engine.durable();
            store.dir.mark_clean(last).unwrap();
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
