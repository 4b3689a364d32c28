//! Sets aside what a node cannot trust any more, so that the node begins anew beside it.
//!
//! A store that has lost what it acknowledged, or that is an older copy, must not answer as if it had everything. Its node may
//! begin anew instead: as another node, of the same name, that takes everything from its peers before it counts. What there was is
//! not deleted, for nobody here can know that nothing in it is the last of its kind: it moves to `set-aside/`, where somebody may look
//! at it, and delete it.
//!
//! Invariants: there is one such directory at most, so a machine that damages its data again and again stops by itself and fills no
//! disk; the file `identity` moves last, durably after all others, so a start that finds a move which was cut off goes on with it
//! before it looks at anything else. Whoever has begun anew forms no cluster: see `has_begun_anew`.
//! Left out: whether the node's peers can give it everything. They decide that, as for any node that takes another's place.

use std::io;

use rondo_core::env::{Disk, Open};

use super::spare::{OLD, SPARE};
use super::stock::{CLEAN, HELD};
use super::{BOOT, FILE_BYTES_MAX, IDENTITY_FILE};

/// Where the files of a node go that has begun anew.
pub const ASIDE_DIR: &str = "set-aside";
/// What the store has beside its data and its identity, whole or as it was being written.
const MARKS: [&str; 5] = [BOOT.name, SPARE, OLD, CLEAN.name, HELD.name];

/// Moves everything of a store aside, as far as that has not been done. `data`: the directories with its files. `false`: nothing was
/// done, because something was set aside before and is still there.
///
/// # Errors
/// The disk's. A part may have moved then; the next start goes on.
pub fn set_aside<D: Disk>(disk: &D, data: &[&str]) -> io::Result<bool> {
    if has(disk, ASIDE_DIR, IDENTITY_FILE)? {
        return Ok(false);
    }
    for dir in data {
        disk.create_dir(&aside(dir))?;
    }
    disk.sync_dir(ASIDE_DIR)?;
    disk.sync_dir("")?;
    for dir in data {
        for name in disk.list(dir)? {
            let path = format!("{dir}/{name}");
            disk.rename(&path, &aside(&path))?;
        }
        disk.sync_dir(&aside(dir))?;
        disk.create_dir(dir)?;
        disk.sync_dir(dir)?;
    }
    let is_mark = |name: &String| MARKS.contains(&name.strip_suffix(".new").unwrap_or(name));
    for name in disk.list("")?.into_iter().filter(is_mark) {
        disk.rename(&name, &aside(&name))?;
    }
    disk.sync_dir(ASIDE_DIR)?;
    disk.sync_dir("")?;
    disk.rename(IDENTITY_FILE, &aside(IDENTITY_FILE))?;
    disk.sync_dir(ASIDE_DIR)?;
    disk.sync_dir("")?;
    Ok(true)
}

/// Goes on with a move that was cut off, if there is one. To be called, where `ASIDE_DIR` is there, before anything is read of a
/// directory.
///
/// # Errors
/// The disk's.
pub(super) fn finish<D: Disk>(disk: &D, data: &[&str]) -> io::Result<()> {
    if !has(disk, "", IDENTITY_FILE)? {
        return Ok(());
    }
    if !has(disk, ASIDE_DIR, IDENTITY_FILE)? {
        return set_aside(disk, data).map(drop);
    }
    // A power loss may have kept both names of the file that moved last.
    if content(disk, IDENTITY_FILE)? == content(disk, &aside(IDENTITY_FILE))? {
        disk.remove(IDENTITY_FILE)?;
        disk.sync_dir("")?;
    }
    Ok(())
}

/// Whether the node of this directory has begun anew: its cluster is there already, and has what was set aside. If all nodes of a
/// cluster begin anew at once they must not form an empty one.
///
/// # Errors
/// The disk's.
pub fn has_begun_anew<D: Disk>(disk: &D) -> io::Result<bool> {
    has(disk, "", ASIDE_DIR)
}

fn aside(path: &str) -> String {
    format!("{ASIDE_DIR}/{path}")
}

fn has<D: Disk>(disk: &D, dir: &str, name: &str) -> io::Result<bool> {
    Ok(disk.list(dir)?.iter().any(|known| known == name))
}

fn content<D: Disk>(disk: &D, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Existing)?;
    let mut bytes = vec![0; disk.len(&file)?.min(FILE_BYTES_MAX) as usize];
    let got = disk.read_at(&file, &mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use rondo_core::id::{NodeId, SessionId};

    use super::*;
    use crate::data_dir::{DataDir, NewIdentity};
    use crate::mem_disk::{Fate, Fault, MemDisk};

    const DATA: [&str; 2] = ["data/1.data", "data/2.data"];

    fn open(disk: &MemDisk, node: u128) -> DataDir<MemDisk> {
        let (name, cluster) = ("n1".to_owned(), "c".to_owned());
        let new = NewIdentity { node: NodeId(node), store: node, name, cluster };
        let disk = Arc::new(disk.clone());
        DataDir::open(disk, &new, SessionId(node as u64), "bitcask", &["data"]).expect("it opens")
    }

    /// A directory of node 1 with two lives and two files of data.
    fn lived() -> MemDisk {
        let disk = MemDisk::new();
        open(&disk, 1);
        open(&disk, 1);
        disk.create_dir("data").unwrap();
        for path in DATA {
            let file = disk.open(path, Open::New).unwrap();
            disk.write_at(&file, &[path.as_bytes()], 0).unwrap();
            disk.sync_now(&file).unwrap();
        }
        disk.sync_dir("data").unwrap();
        disk.sync_dir("").unwrap();
        disk
    }

    fn is_aside(disk: &MemDisk, again: &DataDir<MemDisk>) {
        assert_eq!((again.node, again.life.boot.0), (NodeId(2), 1), "it has begun anew");
        assert!(has_begun_anew(disk).unwrap());
        for path in DATA {
            assert_eq!(disk.content(&aside(path)).as_deref(), Some(path.as_bytes()));
            assert_eq!(disk.content(path), None);
        }
        let kept: BTreeSet<String> = disk.list(ASIDE_DIR).unwrap().into_iter().collect();
        assert!(["identity", "boot", "data"].iter().all(|name| kept.contains(*name)), "{kept:?}");
    }

    #[test]
    fn a_store_that_is_set_aside_keeps_every_byte_and_its_node_begins_anew() {
        let disk = lived();
        assert!(!has_begun_anew(&disk).unwrap());
        assert!(set_aside(&disk, &["data"]).unwrap());
        is_aside(&disk, &open(&disk, 2));
        assert!(!set_aside(&disk, &["data"]).unwrap(), "one at a time");
        assert_eq!(open(&disk, 3).node, NodeId(2), "and the second time nothing was changed");
    }

    #[test]
    fn an_identity_that_a_power_loss_left_under_both_names_is_not_used_again() {
        let disk = lived();
        set_aside(&disk, &["data"]).unwrap();
        disk.link(&aside(IDENTITY_FILE), IDENTITY_FILE).unwrap();
        is_aside(&disk, &open(&disk, 2));
    }

    #[test]
    fn a_move_that_a_power_loss_cuts_off_anywhere_is_finished_by_the_next_start() {
        let whole = lived();
        let mut states = 0;
        for operations in 0.. {
            let cut = whole.fork();
            let first = cut.operations();
            cut.set_fault_hook(move |at, _, _| {
                (at >= first + operations).then_some(Fault::PowerOff)
            });
            let is_done = set_aside(&cut, &["data"]).is_ok();
            // Of what was not synced any set of names may be there.
            for kept in 0..1_u32 << cut.unsynced_count() {
                let disk = cut.fork();
                disk.crash(&mut |point| match kept >> point.index & 1 {
                    1 => Fate::Kept,
                    _ => Fate::Lost,
                });
                states += 1;
                let again = open(&disk, 2);
                match again.node {
                    // Not begun yet, as far as the device knows: nothing is missing.
                    NodeId(1) => {
                        assert!(!is_done && !has_begun_anew(&disk).unwrap());
                        assert!(DATA.iter().all(|path| disk.content(path).is_some()));
                    }
                    _ => is_aside(&disk, &again),
                }
            }
            if is_done {
                break;
            }
        }
        assert!(states > 25, "{states}");
    }
}
