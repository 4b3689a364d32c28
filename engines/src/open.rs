//! What a node opens: its data directory and the engine in it. The product, the simulator and the tests open it here.
//!
//! Order: the directory says whose it is and what it lacks, before the engine touches its files; then the engine recovers,
//! and refuses when what it had acknowledged is gone; then the directory takes stock of what was found. Nothing is promised
//! before that.
//! Left out: the lock that keeps a second process away, which is the real disk's.

use std::fmt;
use std::sync::Arc;

use rondo_core::config::Actors;
use rondo_core::engine::{Engine, Lost, Opened, Opening, Scale};
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_core::id::SessionId;

use crate::data_dir::{DataDir, DataDirError, NewIdentity};
use crate::kind::EngineKind;

/// Where the engine keeps its files in a data directory.
pub const DATA_DIR: &str = "data";

/// So many losses are named.
const NAMED_MAX: usize = 4;

/// Who opens a store, and with which engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The engine.
    pub kind: EngineKind,
    /// How large its files are.
    pub scale: Scale,
    /// Whose the store is to be.
    pub new: NewIdentity,
    /// Whether somebody gave the node its name. Else a directory of a node of another name keeps that.
    pub is_named: bool,
    /// The session of this life.
    pub session: SessionId,
}

/// An open data directory with its engine.
pub struct Store<D: Disk> {
    /// The directory. After `engine.close()` a node that lost nothing calls its `mark_clean`.
    pub dir: DataDir<D>,
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// What was found.
    pub opened: Opened,
    /// What becomes of the actors of earlier lives. They go on as they are when everything is here that was when the last life
    /// ended: the directory was closed cleanly, and the engine keeps data.
    pub actors: Actors,
}

/// Why a store was not opened.
#[derive(Debug)]
pub enum StoreError {
    /// The data directory is not this node's, or cannot be read, or lacks something.
    DataDir(DataDirError),
    /// The engine did not open.
    Engine(Error),
    /// Acknowledged data is gone. The engine has changed nothing. It would answer "not found" for what it acknowledged, and
    /// other nodes would count that answer.
    Lost(Vec<Lost>),
}

/// Opens the data directory at the root of `disk`, and no engine.
///
/// # Errors
/// As `DataDir::open`.
pub fn open_dir<D: Disk>(disk: &Arc<D>, wanted: &Wanted) -> Result<DataDir<D>, DataDirError> {
    let (session, engine) = (wanted.session, wanted.kind.name());
    let open =
        |new: &NewIdentity| DataDir::open(Arc::clone(disk), new, session, engine, &[DATA_DIR]);
    match open(&wanted.new) {
        Err(DataDirError::OtherName { found, .. }) if !wanted.is_named => {
            open(&NewIdentity { name: found, ..wanted.new.clone() })
        }
        opened => opened,
    }
}

/// Opens the data directory at the root of `disk` and the engine in it, for the life `wanted.session`.
///
/// # Errors
/// See `StoreError`. What `DataDir::open`, `EngineKind::open` and `DataDir::take_stock` answer.
pub fn open_store<D: Disk>(disk: Arc<D>, wanted: &Wanted) -> Result<Store<D>, StoreError> {
    let mut dir = open_dir(&disk, wanted)?;
    let salt = dir.store() as u64;
    let held = dir.take_held();
    let how = Opening { salt, scale: wanted.scale, accept_losses: false, held };
    let (engine, mut opened) =
        wanted.kind.open(disk, DATA_DIR, &how).map_err(StoreError::Engine)?;
    if !opened.lost.is_empty() {
        return Err(StoreError::Lost(opened.lost));
    }
    let mut actors = Actors::Fresh;
    if opened.keeps {
        dir.take_stock(&opened)?;
        opened.clean = dir.clean;
        actors = dir.actors();
    }
    Ok(Store { dir, engine, opened, actors })
}

impl From<DataDirError> for StoreError {
    fn from(error: DataDirError) -> Self {
        StoreError::DataDir(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::DataDir(error) => error.fmt(f),
            StoreError::Engine(error) => write!(f, "the storage engine did not open: {error}"),
            StoreError::Lost(lost) => {
                write!(f, "acknowledged data is damaged")?;
                let named = lost.iter().map(|lost| format!("{}: {}", lost.file, lost.what));
                named.take(NAMED_MAX).try_for_each(|what| write!(f, "; {what}"))
            }
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

    fn wanted(session: u64, kind: EngineKind) -> Wanted {
        let (new, session) = (identity(), SessionId(session));
        Wanted { kind, scale: Scale::Disk, new, is_named: true, session }
    }

    fn put(store: &mut Store<MemDisk>) {
        let key = Bytes::from_static(b"k");
        let change =
            Change::Put { key: key.clone(), head: key, body: [].into_iter().collect(), delta: 0 };
        store.engine.write(&Batch { changes: [change].into_iter().collect() }).unwrap();
    }

    #[test]
    fn only_a_store_that_was_closed_and_is_whole_is_clean() {
        let disk = Arc::new(MemDisk::new());
        let mut store = open(&disk).unwrap();
        assert!(!store.opened.clean);
        assert_eq!(store.actors, Actors::Fresh, "a new one has nothing to be used on");
        put(&mut store);
        store.engine.close().unwrap();
        let last = store.engine.durable();
        store.dir.mark_clean(last).unwrap();
        disk.crash_lose_all();
        let mut store = open(&disk).unwrap();
        assert!(store.actors == Actors::Continue && store.opened.clean);
        assert_eq!((store.opened.engine, store.opened.last), ("bitcask", last));
        assert!(matches!(store.engine.get(b"k").unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn a_store_that_has_lost_what_it_acknowledged_is_not_opened_and_nothing_is_changed() {
        let disk = lived(true);
        let names = disk.list(DATA_DIR).unwrap();
        let path = |name: &String| format!("{DATA_DIR}/{name}");
        names.iter().filter(|name| name.ends_with(".hint")).for_each(|name| {
            disk.remove(&path(name)).unwrap();
        });
        let long = |name: &&String| disk.content(&path(name)).unwrap().len() > 60;
        let mut data = names.iter().filter(|name| name.ends_with(".data"));
        let damaged = path(data.rfind(long).expect("each life has written"));
        disk.flip_bit(&damaged, 60, 3);
        let before = disk.content(&damaged);
        for _ in 0..2 {
            let error = open(&disk).err().expect("a write is gone");
            assert!(matches!(&error, StoreError::Lost(lost) if lost[0].file == damaged), "{error}");
            assert!(error.to_string().contains(&damaged), "{error}");
        }
        assert_eq!(disk.content(&damaged), before);
    }

    #[test]
    fn a_node_that_nobody_named_keeps_the_name_of_its_directory() {
        let disk = Arc::new(MemDisk::new());
        drop(open(&disk).unwrap());
        let renamed = |is_named| {
            let new = NewIdentity { name: "n2".into(), ..identity() };
            let wanted = Wanted { new, is_named, ..wanted(1, EngineKind::Bitcask) };
            open_store(Arc::new(disk.fork()), &wanted)
        };
        assert_eq!(renamed(false).unwrap().dir.name, "n1");
        assert!(matches!(
            renamed(true).err(),
            Some(StoreError::DataDir(DataDirError::OtherName { .. }))
        ));
    }

    #[test]
    fn a_directory_of_one_engine_is_not_opened_with_another() {
        for (first, second) in
            [(EngineKind::Bitcask, EngineKind::Memory), (EngineKind::Memory, EngineKind::Bitcask)]
        {
            let disk = Arc::new(MemDisk::new());
            drop(open_store(Arc::clone(&disk), &wanted(1, first)).unwrap());
            let error = open_store(Arc::clone(&disk), &wanted(1, second)).err().unwrap();
            let told = error.to_string();
            assert!(
                matches!(error, StoreError::DataDir(DataDirError::OtherEngine { .. })),
                "{told}"
            );
            assert!(told.contains(&format!("--engine {first}")), "{told}");
            assert!(open_store(disk, &wanted(1, first)).is_ok());
        }
    }

    fn open(disk: &Arc<MemDisk>) -> Result<Store<MemDisk>, StoreError> {
        open_store(Arc::clone(disk), &wanted(1, EngineKind::Bitcask))
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
        let names = disk.list(DATA_DIR).unwrap().into_iter();
        names
            .filter(|name| name.ends_with(".data"))
            .map(|name| format!("{DATA_DIR}/{name}"))
            .collect()
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
            |disk| drop(disk.open("data/0000000099.note", Open::New).unwrap()),
            |disk| disk.move_to(7),
            |disk| {
                let hint =
                    disk.list(DATA_DIR).unwrap().into_iter().find(|name| name.ends_with(".hint"));
                disk.remove(&format!("{DATA_DIR}/{}", hint.unwrap())).unwrap();
            },
        ];
        for change in changes {
            let disk = Arc::new(whole.fork());
            change(&disk);
            let mut store = open(&disk).unwrap();
            assert!(store.actors == Actors::Fresh && !store.opened.clean);
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
        let theirs = Wanted { new, ..wanted(1, EngineKind::Bitcask) };
        let mut store = open_store(Arc::clone(&other), &theirs).unwrap();
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
            let wanted = wanted(session, EngineKind::Bitcask);
            let store = open_store(Arc::clone(&disk), &wanted).unwrap();
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
            let wanted = wanted(1, EngineKind::Memory);
            let mut store = open_store(Arc::clone(&disk), &wanted).unwrap();
            assert!(!store.opened.keeps && !store.opened.clean);
            assert_eq!(store.actors, Actors::Fresh);
            put(&mut store);
            store.engine.close().unwrap();
            let last = store.engine.durable();
            store.dir.mark_clean(last).unwrap();
        }
    }
}
