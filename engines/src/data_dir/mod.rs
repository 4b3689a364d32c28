//! What a data directory says about its node, besides the data: whose it is, which engine writes it, how often it was opened,
//! what lay in it, and whether it was closed cleanly.
//!
//! | file | what |
//! |---|---|
//! | `identity` | `rondoid` format u8 (1), node u128, store u128, name (length u16, bytes), cluster (likewise), CRC-32 |
//! | `boot` | `rondobt` format u8 (3), epoch u64, session u64, engine (likewise), of 16 earlier lives epoch and session, zeros, CRC-32 |
//! | `held` | `rondost` format u8 (2), store u128, epoch u64, place u128, write u64, files, CRC-32 |
//! | `clean` | likewise; there only after a clean close |
//!
//! Of each of the files there is its path (length u16, bytes) and its length u64. Numbers are little-endian; a CRC-32
//! covers all bytes before it. Each file is written under another name, synced, renamed, and its name synced, so it is
//! there whole or not at all. `boot` has a spare file beside it, over which it is written (`spare`): so a start needs no
//! room. Where there is none for `held`, the one that is there stays good, and the engine's notes with it; a file that
//! was begun meanwhile may be in neither, and is not missed then.
//!
//! Invariants: an identity is made only in an empty directory, never in place of one that cannot be read; the boot
//! epoch is higher in each life, durably, before anybody hears of it; the clean mark speaks of one store and one boot
//! epoch, of the files that were there, and of the place where they lay, and is durably gone before `open` returns, so
//! nothing can be issued under it twice (<https://github.com/basho/riak_kv/issues/679> is what an identity reused after a
//! loss does); a store that lacks files, or writes that were durable, is refused and not taken for an empty one
//! (<https://github.com/redpanda-data/redpanda/issues/9766>, <https://github.com/etcd-io/etcd/issues/10254>).
//! A node may begin anew in a directory whose data cannot be trusted: `aside`.
//! Left out: the lock that keeps a second process away, which is the real disk's. Whether a copy that is whole is the newest
//! one its peers know.

mod error;

mod sealed;

mod spare;

mod stock;

mod aside;

use std::io;
use std::sync::Arc;

use rondo_core::config::{Actors, EARLIER_LIVES_MAX, NAME_BYTES_MAX};
use rondo_core::engine::Opened;
use rondo_core::env::Disk;
use rondo_core::id::{BootEpoch, Life, Lsn, NodeId, SessionId};
use rondo_core::{buggify, sometimes};

use crate::refusal::{lacks_room, passes};

pub use self::aside::{ASIDE_DIR, has_begun_anew, set_aside};
pub use self::error::{DataDirError, Missing};
use self::sealed::{Kind, put_name, take, take_name};
use self::stock::{CLEAN, Files, GONE, HELD, MADE, Stock, files_in};

/// The file that says whose a data directory is.
pub const IDENTITY_FILE: &str = IDENTITY.name;

const FILE_BYTES_MAX: u64 = 4096;
const IDENTITY: Kind =
    Kind { name: "identity", magic: b"rondoid", format: 1, bytes_max: FILE_BYTES_MAX };
/// Format 1 has no sessions; format 2 does not name the engine, and ends behind the earliest life.
const BOOT: Kind = Kind { name: "boot", magic: b"rondobt", format: 3, bytes_max: FILE_BYTES_MAX };
/// The lives that it names, the one that is counted included.
const LIVES_MAX: usize = EARLIER_LIVES_MAX + 1;
/// The longest name of an engine, in bytes.
const ENGINE_BYTES_MAX: usize = 30;

/// Who a new directory is to belong to. The random numbers are drawn by the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewIdentity {
    /// The node's identity.
    pub node: NodeId,
    /// The store's.
    pub store: u128,
    /// The node's name; at most `NAME_BYTES_MAX` bytes.
    pub name: String,
    /// The cluster's name; at most `NAME_BYTES_MAX` bytes.
    pub cluster: String,
}

/// An open data directory.
pub struct DataDir<D: Disk> {
    disk: Arc<D>,
    store: u128,
    dirs: Vec<String>,
    /// The node it belongs to.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// How often it has been opened, this time included, and the session that has opened it.
    pub life: Life,
    /// The lives before this one, the latest first; the latest `EARLIER_LIVES_MAX`.
    pub earlier: Vec<Life>,
    /// Where it lies: another number than last time when it is a copy or was moved.
    pub place: u128,
    /// Whether it was closed cleanly last time, and is now exactly what it was then, where it was then.
    pub clean: bool,
    /// Whether it was not closed, and lies where it lay in the last life that took stock of it.
    stayed: bool,
    /// What was there in an earlier life.
    before: Before,
}

/// What an earlier life has written down of what there was.
struct Before {
    /// A write that was durable.
    durable: Lsn,
    /// The files, with their lengths.
    files: Vec<(String, u64)>,
}

impl<D: Disk> DataDir<D> {
    /// Opens the directory at the root of `disk` for the life `session` and the engine of this name, or makes it `new`'s when it
    /// is empty. Data is looked for in the directories `data`: if there is any, an identity is not made.
    ///
    /// # Errors
    /// See `DataDirError`; nothing was changed then.
    pub fn open(
        disk: Arc<D>,
        new: &NewIdentity,
        session: SessionId,
        engine: &str,
        data: &[&str],
    ) -> Result<Self, DataDirError> {
        for name in [&new.name, &new.cluster] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(DataDirError::BadName);
            }
        }
        disk.create_dir("")?;
        // What a process that was killed has named is durable before anything is built on it.
        disk.sync_dir("")?;
        let mut files = files_in(&*disk, data)?;
        let mut names = disk.list("")?;
        if names.iter().any(|name| name == ASIDE_DIR) {
            aside::finish(&*disk, data)?;
            (files, names) = (files_in(&*disk, data)?, disk.list("")?);
        }
        let has = |kind: &Kind| names.iter().any(|name| name == kind.name);
        let identity = match has(&IDENTITY) {
            true => read_identity(&*disk)?,
            false if files.is_empty() && !has(&BOOT) => {
                sealed::write(&*disk, &IDENTITY, &[&identity_bytes(new)?])?;
                new.clone()
            }
            false => return Err(DataDirError::Unclaimed),
        };
        is_whom(&identity, new)?;
        // The epoch's file is made right after the identity; without it nothing else can be there.
        let (lives, written_by) = match has(&BOOT) {
            true => read_boot(&*disk)?,
            false if files.is_empty() => (Vec::new(), None),
            false => {
                return Err(DataDirError::Unreadable { file: BOOT.name, why: "it is missing" });
            }
        };
        if let Some(found) = written_by.filter(|found| found != engine) {
            return Err(DataDirError::OtherEngine { found, asked: engine.to_owned() });
        }
        let last = lives.first().map_or(BootEpoch(0), |life| life.boot);
        let place = disk.place(IDENTITY.name)?;
        let known = Known::read(&*disk, &has, (identity.store, last))?;
        known.check(&files)?;
        let clean = known.is_exact(&files, place) && !buggify!(disk, CleanMarkIgnored);
        let stayed = known.stayed(&has, &files, place);
        sometimes!(disk, OpenedClean, clean);
        known.spend(&*disk, &has)?;
        let step = if buggify!(disk, BootEpochsSkipped) { 7 } else { 1 };
        let life = Life { boot: BootEpoch(last.0 + step), session };
        let earlier: Vec<Life> = lives.into_iter().take(EARLIER_LIVES_MAX).collect();
        spare::write(&*disk, &BOOT, &[&boot_bytes(engine, life, &earlier)?])?;
        let NewIdentity { node, store, name, cluster } = identity;
        let dirs = data.iter().map(|dir| (*dir).to_owned()).collect();
        let before = Before { durable: known.durable(), files: known.into_files() };
        Ok(DataDir {
            disk,
            store,
            dirs,
            node,
            name,
            cluster,
            life,
            earlier,
            place,
            clean,
            stayed,
            before,
        })
    }

    /// A random number of the store, for whoever needs one that stays.
    #[must_use]
    pub fn store(&self) -> u128 {
        self.store
    }

    /// The files that an earlier life has listed, by their paths, with their lengths in bytes. Those that its engine has
    /// removed since are among them.
    #[must_use]
    pub fn take_held(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.before.files)
    }

    /// What becomes of the actors of earlier lives when the engine has lost nothing.
    #[must_use]
    pub const fn actors(&self) -> Actors {
        match (self.clean, self.stayed) {
            (true, _) => Actors::Continue,
            (false, true) => Actors::Jump,
            (false, false) => Actors::Fresh,
        }
    }

    /// The engine is open: is it this store's, and does it hold what was durable? Then what it holds is written down,
    /// so that a later start knows, as far as there is room. To be called before anything is promised.
    ///
    /// # Errors
    /// `OtherStore` and `WentBack`, and the disk's.
    pub fn take_stock(&mut self, engine: &Opened) -> Result<(), DataDirError> {
        if engine.salt != self.store as u64 {
            return Err(DataDirError::OtherStore);
        }
        let durable = self.before.durable;
        if engine.last < durable {
            return Err(DataDirError::WentBack { last: engine.last, durable });
        }
        let now = self.files()?;
        let length = |name: &String| (name.clone(), now.get(name).copied().unwrap_or(0));
        let files = engine.files.iter().map(length).collect();
        match self.stock(engine.last, files).write(&*self.disk, &HELD) {
            Err(error) if lacks_room(&error) => {
                sometimes!(self.disk, StockHadToWait);
                Ok(())
            }
            written => {
                written?;
                Ok(self.remove_notes(&now)?)
            }
        }
    }

    /// The engine's notes speak of the list before. As long as a file that is gone has one that says so, it may have the other.
    fn remove_notes(&self, now: &Files) -> io::Result<()> {
        for kind in [MADE, GONE] {
            let mut notes = now.keys().filter(|name| name.ends_with(kind)).peekable();
            if notes.peek().is_none() {
                continue;
            }
            notes.try_for_each(|name| self.disk.remove(name))?;
            self.dirs.iter().try_for_each(|dir| self.disk.sync_dir(dir))?;
        }
        Ok(())
    }

    /// Sets everything aside, so that the next start begins anew; see `set_aside`. To be called when the engine is not used any more.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_aside(self) -> Result<bool, DataDirError> {
        let dirs: Vec<&str> = self.dirs.iter().map(String::as_str).collect();
        Ok(set_aside(&*self.disk, &dirs)?)
    }

    /// Says that the engine has been closed, that nothing was lost, and that `last` is its last write. The last thing a
    /// node does. `false`: the disk has no room for the mark, or the process no descriptor, so the next start is one as after
    /// a power loss.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark_clean(self, last: Lsn) -> Result<bool, DataDirError> {
        let marked = self.files().and_then(|files| {
            let files = files.into_iter().collect();
            self.stock(last, files).write(&*self.disk, &CLEAN)
        });
        match marked {
            Ok(()) => Ok(true),
            Err(error) if passes(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn files(&self) -> io::Result<Files> {
        let dirs: Vec<&str> = self.dirs.iter().map(String::as_str).collect();
        files_in(&*self.disk, &dirs)
    }

    fn stock(&self, last: Lsn, files: Vec<(String, u64)>) -> Stock {
        let (store, boot, place) = (self.store, self.life.boot, self.place);
        Stock { store, boot, place, last, files }
    }
}

/// What an earlier life has written down of the directory.
struct Known {
    /// Of the last life, when it closed everything.
    clean: Option<Stock>,
    /// Of an earlier moment.
    held: Option<Stock>,
}

impl Known {
    /// A mark of another store or of an earlier life says nothing: it was copied or has come back.
    fn read<D: Disk>(
        disk: &D,
        has: &impl Fn(&Kind) -> bool,
        (store, last): (u128, BootEpoch),
    ) -> Result<Known, DataDirError> {
        let read = |kind: &Kind| if has(kind) { Stock::read(disk, kind) } else { Ok(None) };
        let clean = read(&CLEAN)?.filter(|stock| (stock.store, stock.boot) == (store, last));
        let held = read(&HELD)?.filter(|stock| stock.store == store && stock.boot <= last);
        Ok(Known { clean, held })
    }

    fn check(&self, files: &Files) -> Result<(), DataDirError> {
        let mut missing = match (&self.clean, &self.held) {
            (Some(clean), _) => clean.missing_at_once(files),
            (None, Some(held)) => held.missing_meanwhile(files),
            (None, None) => Vec::new(),
        };
        let is_new = |file: &Missing| missing.iter().all(|known| known.file != file.file);
        let noted: Vec<Missing> = stock::noted_and_gone(files).filter(is_new).collect();
        missing.extend(noted);
        if missing.is_empty() { Ok(()) } else { Err(DataDirError::Lost(missing)) }
    }

    fn is_exact(&self, files: &Files, place: u128) -> bool {
        self.clean.as_ref().is_some_and(|clean| clean.place == place && clean.is_all(files))
    }

    /// Whether it lies where its last stock was taken, and nothing has been put back or changed since it was closed.
    fn stayed(&self, has: &impl Fn(&Kind) -> bool, files: &Files, place: u128) -> bool {
        match (&self.clean, &self.held) {
            (Some(_), _) => self.is_exact(files, place),
            (None, Some(held)) => held.place == place && !has(&CLEAN),
            (None, None) => false,
        }
    }

    fn durable(&self) -> Lsn {
        self.clean.iter().chain(&self.held).map(|stock| stock.last).max().unwrap_or_default()
    }

    /// What the latest stock lists.
    fn into_files(self) -> Vec<(String, u64)> {
        self.clean.or(self.held).map(|stock| stock.files).unwrap_or_default()
    }

    /// The clean mark is good for one life. What it says of the files stays true, and stays.
    fn spend<D: Disk>(&self, disk: &D, has: &impl Fn(&Kind) -> bool) -> io::Result<()> {
        match &self.clean {
            Some(_) => disk.rename(CLEAN.name, HELD.name)?,
            None if has(&CLEAN) => disk.remove(CLEAN.name)?,
            None => return Ok(()),
        }
        disk.sync_dir("")
    }
}

/// A directory belongs to one node of one cluster.
fn is_whom(found: &NewIdentity, asked: &NewIdentity) -> Result<(), DataDirError> {
    if found.name != asked.name {
        let (found, asked) = (found.name.clone(), asked.name.clone());
        return Err(DataDirError::OtherName { found, asked });
    }
    if found.cluster != asked.cluster {
        let (found, asked) = (found.cluster.clone(), asked.cluster.clone());
        return Err(DataDirError::OtherCluster { found, asked });
    }
    Ok(())
}

fn identity_bytes(identity: &NewIdentity) -> io::Result<Vec<u8>> {
    let NewIdentity { node, store, name, cluster } = identity;
    let mut bytes = [node.0.to_le_bytes(), store.to_le_bytes()].concat();
    put_name(&mut bytes, name)?;
    put_name(&mut bytes, cluster)?;
    Ok(bytes)
}

fn read_identity<D: Disk>(disk: &D) -> Result<NewIdentity, DataDirError> {
    let (_, bytes) = sealed::read(disk, &IDENTITY)?;
    let mut rest = &bytes[..];
    let mut parse = || {
        let node = NodeId(u128::from_le_bytes(take(&mut rest)?));
        let store = u128::from_le_bytes(take(&mut rest)?);
        let name = take_name(&mut rest)?;
        let cluster = take_name(&mut rest)?;
        rest.is_empty().then_some(NewIdentity { node, store, name, cluster })
    };
    let why = "it has a wrong length";
    parse().ok_or(DataDirError::Unreadable { file: IDENTITY.name, why })
}

fn boot_bytes(engine: &str, life: Life, earlier: &[Life]) -> io::Result<Vec<u8>> {
    assert!(engine.len() <= ENGINE_BYTES_MAX && earlier.len() < LIVES_MAX, "they have their room");
    let numbers = |life: &Life| [life.boot.0.to_le_bytes(), life.session.0.to_le_bytes()].concat();
    let mut bytes = numbers(&life);
    put_name(&mut bytes, engine)?;
    bytes.extend(earlier.iter().flat_map(numbers));
    // Always the same length: what is written over it has its room.
    bytes.resize(2 + ENGINE_BYTES_MAX + LIVES_MAX * 16, 0);
    Ok(bytes)
}

/// The lives so far, the latest first, never none; and the engine of the latest, where the file names it.
fn read_boot<D: Disk>(disk: &D) -> Result<(Vec<Life>, Option<String>), DataDirError> {
    let (format, bytes) = sealed::read(disk, &BOOT)?;
    let mut rest = &bytes[..];
    let (mut lives, mut engine) = (Vec::new(), None);
    let mut parse = || {
        while !rest.is_empty() {
            // Behind the earliest life of format 3 are zeroes.
            if format > 2 && !lives.is_empty() && rest.iter().all(|byte| *byte == 0) {
                break;
            }
            let boot = BootEpoch(u64::from_le_bytes(take(&mut rest)?));
            if format == 1 {
                // Nobody can show to have lived it.
                lives.push(Life { boot, session: SessionId(0) });
                return rest.is_empty().then_some(());
            }
            let session = SessionId(u64::from_le_bytes(take(&mut rest)?));
            if format > 2 && lives.is_empty() {
                engine = Some(take_name(&mut rest)?);
            }
            lives.push(Life { boot, session });
        }
        (!lives.is_empty()).then_some(())
    };
    let why = "it has a wrong length";
    parse().ok_or(DataDirError::Unreadable { file: BOOT.name, why })?;
    Ok((lives, engine))
}

#[cfg(test)]
mod tests {
    use rondo_core::env::Open;

    use super::*;
    use crate::mem_disk::{Fault, MemDisk};

    fn new(node: u128) -> NewIdentity {
        let (name, cluster) = ("n1".to_owned(), "c".to_owned());
        NewIdentity { node: NodeId(node), store: node + 1, name, cluster }
    }

    fn open(disk: &MemDisk, node: u128) -> Result<DataDir<MemDisk>, DataDirError> {
        DataDir::open(Arc::new(disk.clone()), &new(node), SessionId(9), "bitcask", &["data"])
    }

    #[test]
    fn a_directory_keeps_its_first_identity_and_counts_its_lives() {
        let disk = MemDisk::new();
        let first = open(&disk, 1).unwrap();
        assert_eq!((first.node, first.life.boot, first.clean), (NodeId(1), BootEpoch(1), false));
        let second = open(&disk, 2).unwrap();
        assert_eq!((second.node, second.life.boot, second.clean), (NodeId(1), BootEpoch(2), false));
    }

    #[test]
    fn a_clean_mark_is_good_for_one_life() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean(Lsn(0)).unwrap();
        assert!(open(&disk, 1).unwrap().clean);
        assert!(!open(&disk, 1).unwrap().clean, "it was not closed again");
    }

    #[test]
    fn where_there_is_no_room_for_the_clean_mark_the_next_start_is_an_unclean_one() {
        let disk = MemDisk::new();
        let directory = open(&disk, 1).unwrap();
        disk.set_capacity(Some(0));
        assert!(!directory.mark_clean(Lsn(0)).unwrap());
        disk.set_capacity(None);
        let again = open(&disk, 1).unwrap();
        assert!(!again.clean);
        assert!(again.mark_clean(Lsn(0)).unwrap() && open(&disk, 1).unwrap().clean);
    }

    #[test]
    fn the_mark_of_an_earlier_life_says_nothing() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean(Lsn(0)).unwrap();
        let mark = disk.content(CLEAN.name).unwrap();
        open(&disk, 1).unwrap();
        let file = disk.open(CLEAN.name, Open::New).unwrap();
        disk.write_at(&file, &[&mark], 0).unwrap();
        assert!(!open(&disk, 1).unwrap().clean, "a copied or resurrected mark names another epoch");
    }

    #[test]
    fn another_nodes_directory_is_refused_and_left_alone() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean(Lsn(0)).unwrap();
        let other = NewIdentity { name: "n2".to_owned(), ..new(1) };
        let refused =
            DataDir::open(Arc::new(disk.clone()), &other, SessionId(9), "bitcask", &["data"])
                .err()
                .unwrap();
        insta::assert_snapshot!(refused, @r#"the data directory belongs to node "n1", not "n2"; start it with --node-id n1 or give another --data-dir"#);
        let other = NewIdentity { cluster: "d".to_owned(), ..new(1) };
        let refused =
            DataDir::open(Arc::new(disk.clone()), &other, SessionId(9), "bitcask", &["data"])
                .err()
                .unwrap();
        insta::assert_snapshot!(refused, @r#"the data directory belongs to cluster "c", not "d"; start it with --cluster-name c or give another --data-dir"#);
        assert!(open(&disk, 1).unwrap().clean, "the clean mark is still there");
    }

    /// A file of an older format, as it was written then.
    fn put_older_boot(disk: &MemDisk, format: u8, numbers: &[u64]) {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        sealed::write(disk, &Kind { format, ..BOOT }, &[&numbers]).unwrap();
    }

    #[test]
    fn another_engine_is_refused_and_nothing_is_changed() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean(Lsn(0)).unwrap();
        let with = |engine: &str| {
            DataDir::open(Arc::new(disk.clone()), &new(1), SessionId(9), engine, &["data"])
        };
        let before = disk.content(BOOT.name);
        let refused = with("memory").err().unwrap();
        insta::assert_snapshot!(refused, @r#"the data directory was written by the engine bitcask, not memory; start it with --engine bitcask or give another --data-dir"#);
        assert_eq!(disk.content(BOOT.name), before);
        assert!(with("bitcask").unwrap().clean, "the clean mark is still there");
        // Older formats do not say which engine it was. The first that opens the directory is named from then on.
        for (format, numbers) in [(1, &[5][..]), (2, &[5, 77, 4, 76])] {
            put_older_boot(&disk, format, numbers);
            let boot = with("memory").unwrap().life.boot;
            assert_eq!(boot, BootEpoch(6), "format {format}");
            assert!(matches!(with("bitcask"), Err(DataDirError::OtherEngine { .. })));
        }
    }

    #[test]
    fn what_cannot_be_read_is_never_made_anew() {
        let files = [IDENTITY.name, BOOT.name];
        for file in files {
            let disk = MemDisk::new();
            open(&disk, 1).unwrap();
            disk.flip_bit(file, 9, 3);
            assert!(matches!(open(&disk, 2), Err(DataDirError::Unreadable { .. })), "{file}");
        }
        let disk = MemDisk::new();
        open(&disk, 1).unwrap();
        disk.create_dir("data").unwrap();
        disk.open("data/1", Open::New).unwrap();
        disk.remove(IDENTITY.name).unwrap();
        assert!(matches!(open(&disk, 2), Err(DataDirError::Unclaimed)));
    }

    #[test]
    fn a_newer_format_is_named() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap();
        let mut bytes = disk.content(IDENTITY.name).unwrap();
        bytes.truncate(bytes.len() - 4);
        bytes[7] = 9;
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let file = disk.open(IDENTITY.name, Open::Existing).unwrap();
        disk.write_at(&file, &[&bytes], 0).unwrap();
        assert!(matches!(open(&disk, 1), Err(DataDirError::NewerFormat { format: 9, .. })));
    }

    /// A power loss at every disk operation of three lives, with every unsynced operation lost or kept:
    /// the directory opens again, as the node that anybody has heard of, with a higher epoch.
    #[test]
    fn a_crash_at_any_operation_keeps_identity_and_epoch() {
        for lives in 0..3 {
            for at in 0.. {
                let mut cut_somewhere = false;
                for keep in [false, true] {
                    let disk = MemDisk::new();
                    let mut told = None;
                    for life in 0..lives {
                        let dir = open(&disk, 10 + life).unwrap();
                        told = Some((dir.node, dir.life.boot));
                        dir.mark_clean(Lsn(0)).unwrap();
                    }
                    let start = disk.operations();
                    disk.set_fault_hook(move |number, _, _| {
                        (number == start + at).then_some(Fault::PowerOff)
                    });
                    let cut = open(&disk, 20).is_err();
                    disk.clear_hooks();
                    if keep {
                        disk.crash_keep_all();
                    } else {
                        disk.crash_lose_all();
                    }
                    cut_somewhere |= cut;
                    let after = open(&disk, 30).unwrap();
                    if let Some((node, boot)) = told {
                        assert_eq!(after.node, node, "crash at {at}");
                        assert!(after.life.boot > boot, "crash at {at}");
                    }
                    if !cut {
                        assert!(!after.clean, "the life that was not closed is not clean");
                    }
                }
                if !cut_somewhere {
                    break;
                }
            }
        }
    }
}
