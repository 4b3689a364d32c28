//! What a data directory says about its node, besides the data: whose it is, how often it was opened, and whether
//! it was closed cleanly.
//!
//! | file | what |
//! |---|---|
//! | `identity` | `rondoid` format u8 (1), node u128, store u128, name (length u16, bytes), cluster (likewise), CRC-32 |
//! | `boot` | `rondobt` format u8 (1), epoch u64, CRC-32 |
//! | `clean` | `rondocl` format u8 (1), store u128, epoch u64, CRC-32 |
//!
//! Numbers are little-endian; a CRC-32 covers all bytes before it. Each file is written under another name, synced,
//! renamed, and its name synced, so it is there whole or not at all.
//!
//! Invariants: an identity is made only in an empty directory, never in place of one that cannot be read; the boot
//! epoch is higher in each life, durably, before anybody hears of it; the clean mark speaks of one store and one boot
//! epoch, and is durably gone before `open` returns, so nothing can be issued under it twice
//! (<https://github.com/basho/riak_kv/issues/679> is what an identity reused after a loss does).
//! Left out: the lock that keeps a second process away, which is the real disk's.

use std::fmt;
use std::io;
use std::sync::Arc;

use rondo_core::config::NAME_BYTES_MAX;
use rondo_core::env::{Disk, Open};
use rondo_core::id::{BootEpoch, NodeId};
use rondo_core::{buggify, sometimes};

/// The file that says whose a data directory is.
pub const IDENTITY: &str = "identity";
const BOOT: &str = "boot";
const CLEAN: &str = "clean";
const FORMAT: u8 = 1;
const FILE_BYTES_MAX: u64 = 4096;

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

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Debug)]
pub enum DataDirError {
    /// It belongs to a node of another name.
    OtherName {
        /// Its node's name.
        found: String,
        /// The name asked for.
        asked: String,
    },
    /// It belongs to a node of another cluster.
    OtherCluster {
        /// Its cluster's name.
        found: String,
        /// The name asked for.
        asked: String,
    },
    /// One of its files cannot be read.
    Unreadable {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A newer program wrote it.
    NewerFormat {
        /// The file.
        file: &'static str,
        /// Its format.
        format: u8,
    },
    /// There is data, but nothing says whose it is.
    Unclaimed,
    /// A name is empty or too long.
    BadName,
    /// The disk failed.
    Disk(io::Error),
}

/// An open data directory.
pub struct DataDir<D: Disk> {
    disk: Arc<D>,
    store: u128,
    /// The node it belongs to.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// How often it has been opened, this time included.
    pub boot: BootEpoch,
    /// Whether it was closed cleanly last time.
    pub clean: bool,
}

impl<D: Disk> DataDir<D> {
    /// Opens the directory at the root of `disk`, or makes it `new`'s when it is empty. Data is looked for in the
    /// directories `data`: if there is any, an identity is not made.
    pub fn open(disk: Arc<D>, new: &NewIdentity, data: &[&str]) -> Result<Self, DataDirError> {
        for name in [&new.name, &new.cluster] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(DataDirError::BadName);
            }
        }
        disk.create_dir("")?;
        let mut empty = true;
        for dir in data {
            empty &= disk.list(dir)?.is_empty();
        }
        let names = disk.list("")?;
        let has = |file: &str| names.iter().any(|name| name == file);
        let identity = match has(IDENTITY) {
            true => read_identity(&*disk)?,
            false if empty && !has(BOOT) => {
                write(&*disk, IDENTITY, identity_bytes(new))?;
                new.clone()
            }
            false => return Err(DataDirError::Unclaimed),
        };
        if identity.name != new.name {
            let (found, asked) = (identity.name, new.name.clone());
            return Err(DataDirError::OtherName { found, asked });
        }
        if identity.cluster != new.cluster {
            let (found, asked) = (identity.cluster, new.cluster.clone());
            return Err(DataDirError::OtherCluster { found, asked });
        }
        // The epoch's file is made right after the identity; without it nothing else can be there.
        let last = match has(BOOT) {
            true => read_boot(&*disk)?,
            false if empty => BootEpoch(0),
            false => return Err(DataDirError::Unreadable { file: BOOT, why: "it is missing" }),
        };
        let clean = has(CLEAN) && read_clean(&*disk)? == (identity.store, last);
        let clean = clean && !buggify!(disk, CleanMarkIgnored);
        sometimes!(disk, OpenedClean, clean);
        if has(CLEAN) {
            disk.remove(CLEAN)?;
            disk.sync_dir("")?;
        }
        let step = if buggify!(disk, BootEpochsSkipped) { 7 } else { 1 };
        let boot = BootEpoch(last.0 + step);
        write(&*disk, BOOT, sealed(b"rondobt", &[&boot.0.to_le_bytes()]))?;
        let NewIdentity { node, store, name, cluster } = identity;
        Ok(DataDir { disk, store, node, name, cluster, boot, clean })
    }

    /// A random number of the store, for whoever needs one that stays.
    #[must_use]
    pub fn store(&self) -> u128 {
        self.store
    }

    /// Says that the engine has been closed and nothing was lost. The last thing a node does.
    pub fn mark_clean(self) -> Result<(), DataDirError> {
        let parts: [&[u8]; 2] = [&self.store.to_le_bytes(), &self.boot.0.to_le_bytes()];
        Ok(write(&*self.disk, CLEAN, sealed(b"rondocl", &parts))?)
    }
}

fn identity_bytes(identity: &NewIdentity) -> Vec<u8> {
    let length = |name: &str| u16::try_from(name.len()).expect("checked by open").to_le_bytes();
    let NewIdentity { node, store, name, cluster } = identity;
    sealed(
        b"rondoid",
        &[
            &node.0.to_le_bytes(),
            &store.to_le_bytes(),
            &length(name),
            name.as_bytes(),
            &length(cluster),
            cluster.as_bytes(),
        ],
    )
}

fn read_identity<D: Disk>(disk: &D) -> Result<NewIdentity, DataDirError> {
    let bytes = read(disk, IDENTITY, b"rondoid")?;
    let mut rest = &bytes[..];
    let mut parse = || {
        let node = NodeId(u128::from_le_bytes(take(&mut rest)?));
        let store = u128::from_le_bytes(take(&mut rest)?);
        let name = take_name(&mut rest)?;
        let cluster = take_name(&mut rest)?;
        rest.is_empty().then_some(NewIdentity { node, store, name, cluster })
    };
    parse().ok_or(DataDirError::Unreadable { file: IDENTITY, why: "it has a wrong length" })
}

fn read_boot<D: Disk>(disk: &D) -> Result<BootEpoch, DataDirError> {
    let bytes = read(disk, BOOT, b"rondobt")?;
    let epoch = bytes[..].try_into().map(u64::from_le_bytes);
    epoch
        .map(BootEpoch)
        .map_err(|_| DataDirError::Unreadable { file: BOOT, why: "it has a wrong length" })
}

/// The store and epoch that a clean mark speaks of. One that cannot be read speaks of none.
fn read_clean<D: Disk>(disk: &D) -> Result<(u128, BootEpoch), DataDirError> {
    let bytes = match read(disk, CLEAN, b"rondocl") {
        Err(DataDirError::Unreadable { .. }) => return Ok((0, BootEpoch(0))),
        other => other?,
    };
    let mut rest = &bytes[..];
    let store = take(&mut rest).map_or(0, u128::from_le_bytes);
    Ok((store, BootEpoch(take(&mut rest).map_or(0, u64::from_le_bytes))))
}

/// Magic, format, contents and checksum.
fn sealed(magic: &[u8; 7], parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [&magic[..], &[FORMAT]].concat();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The contents of one of the files above.
fn read<D: Disk>(disk: &D, file: &'static str, magic: &[u8; 7]) -> Result<Vec<u8>, DataDirError> {
    let unreadable = |why| DataDirError::Unreadable { file, why };
    let handle = disk.open(file, Open::Existing)?;
    let length = disk.len(&handle)?;
    if length > FILE_BYTES_MAX {
        return Err(unreadable("it is too long"));
    }
    let mut bytes = vec![0; length as usize];
    let got = disk.read_at(&handle, &mut bytes, 0)?;
    bytes.truncate(got);
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(unreadable("it is too short"));
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(unreadable("its checksum is wrong"));
    }
    match body.strip_prefix(magic) {
        Some([FORMAT, contents @ ..]) => Ok(contents.to_vec()),
        Some(&[format, ..]) => Err(DataDirError::NewerFormat { file, format }),
        _ => Err(unreadable("it is no file of this kind")),
    }
}

/// Writes a file so that it is there whole or not at all, name and all.
fn write<D: Disk>(disk: &D, file: &'static str, bytes: Vec<u8>) -> io::Result<()> {
    let new = format!("{file}.new");
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let handle = disk.open(&new, Open::New)?;
    disk.write_at(&handle, &[&bytes], 0)?;
    disk.sync_now(&handle)?;
    disk.rename(&new, file)?;
    disk.sync_dir("")
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_name(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (name, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(name.to_vec()).ok()
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::OtherName { found, asked } => write!(
                f,
                "the data directory belongs to node {found:?}, not {asked:?}; start it with --node-id {found} or \
                 give another --data-dir"
            ),
            DataDirError::OtherCluster { found, asked } => write!(
                f,
                "the data directory belongs to cluster {found:?}, not {asked:?}; start it with --cluster-name {found} \
                 or give another --data-dir"
            ),
            DataDirError::Unreadable { file, why } => write!(
                f,
                "the file {file:?} of the data directory cannot be read: {why}; restore it from a backup, or start \
                 with an empty --data-dir as a new node"
            ),
            DataDirError::NewerFormat { file, format } => write!(
                f,
                "the file {file:?} of the data directory has format {format}, which a newer version of rondo wrote; \
                 use that version"
            ),
            DataDirError::Unclaimed => write!(
                f,
                "the data directory holds data but no identity; restore the file \"identity\" from a backup, or give \
                 another --data-dir"
            ),
            DataDirError::BadName => {
                write!(f, "the node's and the cluster's name have 1 to {NAME_BYTES_MAX} bytes")
            }
            DataDirError::Disk(error) => write!(f, "the data directory cannot be used: {error}"),
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DataDirError::Disk(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for DataDirError {
    fn from(error: io::Error) -> Self {
        DataDirError::Disk(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_disk::{Fault, MemDisk};

    fn new(node: u128) -> NewIdentity {
        let (name, cluster) = ("n1".to_owned(), "c".to_owned());
        NewIdentity { node: NodeId(node), store: node + 1, name, cluster }
    }

    fn open(disk: &MemDisk, node: u128) -> Result<DataDir<MemDisk>, DataDirError> {
        DataDir::open(Arc::new(disk.clone()), &new(node), &["data"])
    }

    #[test]
    fn a_directory_keeps_its_first_identity_and_counts_its_lives() {
        let disk = MemDisk::new();
        let first = open(&disk, 1).unwrap();
        assert_eq!((first.node, first.boot, first.clean), (NodeId(1), BootEpoch(1), false));
        let second = open(&disk, 2).unwrap();
        assert_eq!((second.node, second.boot, second.clean), (NodeId(1), BootEpoch(2), false));
    }

    #[test]
    fn a_clean_mark_is_good_for_one_life() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean().unwrap();
        assert!(open(&disk, 1).unwrap().clean);
        assert!(!open(&disk, 1).unwrap().clean, "it was not closed again");
    }

    #[test]
    fn the_mark_of_an_earlier_life_says_nothing() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean().unwrap();
        let mark = disk.content(CLEAN).unwrap();
        open(&disk, 1).unwrap();
        let file = disk.open(CLEAN, Open::New).unwrap();
        disk.write_at(&file, &[&mark], 0).unwrap();
        assert!(!open(&disk, 1).unwrap().clean, "a copied or resurrected mark names another epoch");
    }

    #[test]
    fn another_nodes_directory_is_refused_and_left_alone() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap().mark_clean().unwrap();
        let other = NewIdentity { name: "n2".to_owned(), ..new(1) };
        let refused = DataDir::open(Arc::new(disk.clone()), &other, &["data"]).err().unwrap();
        insta::assert_snapshot!(refused, @r#"the data directory belongs to node "n1", not "n2"; start it with --node-id n1 or give another --data-dir"#);
        let other = NewIdentity { cluster: "d".to_owned(), ..new(1) };
        let refused = DataDir::open(Arc::new(disk.clone()), &other, &["data"]).err().unwrap();
        insta::assert_snapshot!(refused, @r#"the data directory belongs to cluster "c", not "d"; start it with --cluster-name c or give another --data-dir"#);
        assert!(open(&disk, 1).unwrap().clean, "the clean mark is still there");
    }

    #[test]
    fn what_cannot_be_read_is_never_made_anew() {
        let files = [IDENTITY, BOOT];
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
        disk.remove(IDENTITY).unwrap();
        assert!(matches!(open(&disk, 2), Err(DataDirError::Unclaimed)));
    }

    #[test]
    fn a_newer_format_is_named() {
        let disk = MemDisk::new();
        open(&disk, 1).unwrap();
        let mut bytes = disk.content(IDENTITY).unwrap();
        bytes.truncate(bytes.len() - 4);
        bytes[7] = 9;
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let file = disk.open(IDENTITY, Open::Existing).unwrap();
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
                        told = Some((dir.node, dir.boot));
                        dir.mark_clean().unwrap();
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
                        assert!(after.boot > boot, "crash at {at}");
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
