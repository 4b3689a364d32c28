//! Starts of a data directory: the power goes, or the process ends, at each operation of two of them, on a disk with room
//! and on one without a free block. Each set of what no sync had covered is kept. The directory opens again, and knows all
//! its lives.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Lookup, Scale};
use rondo_core::env::{Disk as _, Open};
use rondo_core::error::Error;
use rondo_core::id::{BootEpoch, Life, NodeId, SessionId};
use rondo_engines::data_dir::{DataDir, DataDirError, NewIdentity};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::{Fate, Fault, MemDisk};
use rondo_engines::open::{Store, StoreError, Wanted, open_store};

/// So many bytes of a write that was cut off are there.
const CUT_BYTES: u64 = 100;
/// So many starts one after another end too early.
const CUT_STARTS: usize = 3;
/// Of so many un-synced operations all subsets are tried. A start leaves fewer.
const UNSYNCED_MAX: usize = 8;

fn open(disk: &MemDisk, session: u64) -> Result<DataDir<MemDisk>, DataDirError> {
    let (name, cluster) = ("n1".to_owned(), "c".to_owned());
    let new = NewIdentity { node: NodeId(1), store: 2, name, cluster };
    DataDir::open(Arc::new(disk.clone()), &new, SessionId(session), "bitcask", &["data"])
}

/// A disk, and the lives that somebody may have heard of.
type State = (MemDisk, Vec<Life>);

/// A directory that has been opened so often.
fn lived(starts: u64) -> State {
    let disk = MemDisk::new();
    let lives = (1..=starts).map(|session| open(&disk, session).expect("there is room").life);
    (disk.clone(), lives.collect())
}

fn bytes(disk: &MemDisk) -> u64 {
    let names = disk.list("").expect("no fault is set");
    names.iter().filter_map(|name| disk.content(name)).map(|bytes| bytes.len() as u64).sum()
}

/// Every disk that the end of the process, or a power loss, at some operation of a start may leave.
fn after_a_start_that_was_cut((disk, lives): &State, capacity: Option<u64>) -> Vec<State> {
    let mut all = Vec::new();
    for at in disk.operations().. {
        let mut is_cut = false;
        for fault in [Fault::PowerOff, Fault::Cut(CUT_BYTES, ErrorKind::Other)] {
            let (disk, mut lives) = (disk.fork(), lives.clone());
            disk.set_capacity(capacity);
            disk.set_fault_hook(move |number, _, _| (number == at).then_some(fault));
            let session = 100 + lives.len() as u64;
            lives.extend(open(&disk, session).ok().map(|dir| dir.life));
            is_cut |= disk.operations() > at;
            disk.clear_hooks();
            let left = after_a_power_loss(&disk).into_iter().chain([disk.fork()]);
            all.extend(left.map(|disk| (disk, lives.clone())));
        }
        if !is_cut {
            break;
        }
    }
    all
}

/// One of each kind.
fn distinct(mut all: Vec<State>) -> Vec<State> {
    let mut seen = BTreeSet::new();
    all.retain(|(disk, lives)| {
        let names = disk.list("").expect("no fault is set");
        let files =
            names.iter().map(|name| (name.clone(), disk.content(name), disk.place(name).ok()));
        seen.insert((files.collect::<Vec<_>>(), lives.len(), disk.unsynced_count()))
    });
    all
}

fn after_a_power_loss(disk: &MemDisk) -> Vec<MemDisk> {
    let count = disk.unsynced_count();
    assert!(count <= UNSYNCED_MAX, "{count} operations");
    let after = |kept: u32| {
        let left = disk.fork();
        left.crash(&mut |point| match kept >> point.index & 1 {
            1 => Fate::Kept,
            _ => Fate::Lost,
        });
        left
    };
    (0..1_u32 << count).map(after).collect()
}

fn opens_again((disk, lives): &State, capacity: Option<u64>) {
    let (disk, names) = (disk.fork(), disk.list("").expect("no fault is set"));
    disk.set_capacity(capacity);
    let dir = open(&disk, 99).unwrap_or_else(|error| panic!("{error}; there are {names:?}"));
    let known: Vec<Life> = dir.earlier.iter().rev().copied().collect();
    let heard = lives.iter().filter(|life| known.contains(life)).count();
    assert_eq!(heard, lives.len(), "{known:?} lacks some of {lives:?}; there are {names:?}");
    assert!(known.iter().all(|life| life.boot < dir.life.boot), "{known:?} {:?}", dir.life);
}

/// A full disk takes nothing new, except in place of what was removed.
#[test]
fn an_end_at_any_operation_of_two_starts_leaves_the_old_life_or_the_new_one() {
    for starts in 0..4 {
        let first = lived(starts);
        for capacity in [None, Some(bytes(&first.0))] {
            if starts == 0 && capacity.is_some() {
                continue;
            }
            let mut states = vec![first.clone()];
            for _ in 0..CUT_STARTS {
                states.iter().for_each(|state| opens_again(state, capacity));
                let after =
                    states.iter().flat_map(|state| after_a_start_that_was_cut(state, capacity));
                states = distinct(after.collect());
            }
            states.iter().for_each(|state| opens_again(state, capacity));
        }
    }
}

#[test]
fn many_starts_without_a_free_block_count_all_their_lives() {
    let (disk, _) = lived(1);
    disk.set_capacity(Some(bytes(&disk)));
    for session in 2..40 {
        let dir = open(&disk, session).expect("it needs no room");
        assert_eq!((dir.life.boot.0, dir.life.session.0), (session, session));
        if session % 3 == 0 {
            disk.crash_lose_all();
        }
    }
}

/// Room for one more file of its kind is what such a start gives up; it has it again as soon as there is some.
#[test]
fn a_directory_without_a_spare_gets_one_when_there_is_room() {
    let (disk, _) = lived(2);
    disk.remove("boot.spare").expect("there is one");
    disk.set_capacity(Some(bytes(&disk)));
    let refused = open(&disk, 3).err().expect("the file cannot be written over");
    assert!(
        matches!(&refused, DataDirError::Disk(error) if error.kind() == ErrorKind::StorageFull)
    );
    disk.set_capacity(None);
    open(&disk, 3).expect("there is room");
    disk.set_capacity(Some(bytes(&disk)));
    open(&disk, 4).expect("it has a spare again");
}

/// A read that the disk misdirects into the spare must not find an older file of boots there.
#[test]
fn what_counts_no_more_cannot_be_read_as_a_file_of_boots() {
    let (disk, _) = lived(3);
    let spare = disk.content("boot.spare").expect("there is one");
    assert_eq!(spare.len(), disk.content("boot").expect("there is one").len());
    assert!(spare.iter().all(|&byte| byte == 0));
}

/// Nothing is in the directory but what its first start had made when it was cut off, and the file itself is gone.
#[test]
fn a_spare_without_a_file_of_boots_is_no_reason_not_to_start() {
    let (disk, _) = lived(1);
    disk.remove("boot").expect("there is one");
    open(&disk, 2).expect("nothing was promised yet");
    open(&disk, 3).expect("and once more");
}

/// A rename of which a power loss keeps both names makes the spare the very file that counts.
#[test]
fn a_spare_that_is_the_file_of_boots_itself_is_not_written_over() {
    let (disk, _) = lived(2);
    disk.remove("boot.spare").expect("there is one");
    disk.link("boot", "boot.spare").expect("it has a second name");
    let before = disk.operations();
    for at in before..before + 40 {
        let disk = disk.fork();
        disk.set_fault_hook(move |number, _, _| {
            (number == at).then_some(Fault::Cut(CUT_BYTES, ErrorKind::Other))
        });
        let _ = open(&disk, 3);
        disk.clear_hooks();
        let life = open(&disk, 4).expect("the file that counts is whole").life;
        assert!(life.boot > BootEpoch(2), "operation {at}");
    }
}

/// What format 2 wrote: as many lives as there were.
#[test]
fn a_file_of_boots_of_an_earlier_version_is_read_and_gets_a_spare() {
    let (disk, _) = lived(1);
    disk.remove("boot.spare").expect("there is one");
    disk.remove("boot").expect("there is one");
    let mut old = b"rondobt\x02".to_vec();
    for number in [8, 108, 7, 107_u64] {
        old.extend_from_slice(&number.to_le_bytes());
    }
    old.extend_from_slice(&crc32fast::hash(&old).to_le_bytes());
    let file = disk.open("boot", Open::New).expect("there is none");
    disk.write_at(&file, &[&old], 0).expect("there is room");
    let dir = open(&disk, 109).expect("it is read");
    let life = |boot| Life { boot: BootEpoch(boot), session: SessionId(boot + 100) };
    assert_eq!((dir.life, &dir.earlier[..]), (life(9), &[life(8), life(7)][..]));
    disk.set_capacity(Some(0));
    let dir = open(&disk, 110).expect("it needs no room");
    assert_eq!((dir.life, &dir.earlier[..]), (life(10), &[life(9), life(8), life(7)][..]));
}

fn store(disk: &MemDisk, session: u64) -> Result<Store<MemDisk>, StoreError> {
    let new =
        NewIdentity { node: NodeId(1), store: 2, name: "n1".to_owned(), cluster: "c".to_owned() };
    let (kind, scale) = (EngineKind::Bitcask, Scale::Disk);
    let wanted = Wanted { kind, scale, new, is_named: true, session: SessionId(session) };
    open_store(Arc::new(disk.clone()), &wanted)
}

fn write(store: &mut Store<MemDisk>, change: Change) -> Result<(), Error> {
    let changes = [change].into_iter().collect();
    store.engine.write(&Batch { changes }).map(drop)
}

fn put(key: &str) -> Change {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Change::Put { head: key.clone(), key, body: [].into_iter().collect(), delta: 0 }
}

/// Several lives with a write each, the last of them killed. After that nothing can be made or grow.
fn full() -> MemDisk {
    let disk = MemDisk::new();
    for session in 1..4 {
        let mut store = store(&disk, session).expect("there is room");
        write(&mut store, put(&format!("key {session}"))).expect("there is room");
        store.engine.close().expect("there is room");
        if session < 3 {
            let last = store.engine.durable();
            assert!(store.dir.mark_clean(last).expect("there is room"));
        }
    }
    disk.kill();
    disk.set_capacity(Some(0));
    disk
}

#[test]
fn a_store_without_a_free_block_is_opened_and_read_and_written_again_when_there_is_room() {
    let disk = full();
    for session in 4..7 {
        let mut store = store(&disk, session).expect("it needs no room");
        assert_eq!(store.dir.life.boot.0, session);
        for key in ["key 1", "key 2", "key 3"] {
            assert!(matches!(store.engine.get(key.as_bytes()).unwrap(), Lookup::Hit(_)), "{key}");
        }
        store.engine.maintain(1 << 20).expect("background work waits for room");
        let refused = write(&mut store, put("new")).expect_err("there is no room");
        assert!(matches!(refused, Error::Full(_)), "{refused}");
        drop(store);
        disk.kill();
    }
    let mut store = store(&disk, 7).expect("it needs no room");
    disk.set_capacity(None);
    store.engine.maintain(1 << 20).expect("there is room");
    write(&mut store, put("new")).expect("there is room");
    store.engine.close().expect("there is room");
    let last = store.engine.durable();
    assert!(store.dir.mark_clean(last).expect("there is room"));
    assert!(self::store(&disk, 8).expect("there is room").opened.clean);
}

/// Such an opening could not list its files. What was listed before is missed all the same.
#[test]
fn a_file_that_is_gone_after_an_opening_without_room_is_named() {
    let disk = full();
    drop(store(&disk, 4).expect("it needs no room"));
    disk.kill();
    disk.set_capacity(None);
    let names = disk.list("data").expect("no fault is set");
    let data =
        names.iter().filter(|name| name.ends_with(".data")).map(|name| format!("data/{name}"));
    for path in data {
        let disk = disk.fork();
        disk.remove(&path).expect("it was listed");
        let error = store(&disk, 5).err().expect("a write is gone").to_string();
        assert!(error.contains(&path), "{path}: {error}");
    }
}
