//! What a storage engine promises, and how it is asked.
//!
//! An engine is synchronous and has no threads: a write is visible when `write` returns and durable
//! when a later `start_sync` has been answered by `synced`. Background work is a bounded step. A record is a
//! *head* (what versions a key has) and a *body* (their values), so that questions about versions need
//! not read values.
//!
//! **A range is deleted in steps**, each of them one batch of bounded size that deletes keys it has found there, and not by
//! one record that hides the whole range. Such a record would have to be asked at every read, by an index that has no
//! order, and kept by every compaction as long as something older is left; and what it hides would still have to be counted
//! down key by key. So a range delete is as safe as its batches: a crash leaves those that were done, and whoever wants the
//! range empty asks again from its start, which finds what is left. It is not atomic, and a reader may see a part of it.
//!
//! **A conditional delete compares heads**, byte for byte, as they are stored: nothing is decoded, and no digest may collide.
//! A head names all versions of its key, each with the length and the digest of its value, so equal heads mean equal records. Two
//! heads that say the same in other bytes are unequal; then nothing is deleted, which is the safe side.
//!
//! **A replay is whole or refused.** The log tells of each write which keys it changed, in order and without a gap, as far back as
//! the engine still has it; it does not tell what it wrote, which may be overwritten since. So what is kept up to date
//! beside the engine, and stored with the write that it includes, is brought up to date by the writes after that one, or else is
//! made anew by a scan. Each change carries eight bytes for that, which mean nothing to an engine.
//!
//! After a crash an engine holds a prefix of its writes, batch by batch, that contains everything that
//! was durable. It never serves a record that fails its checksum.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{RANGE_BYTES_MAX, RANGE_KEYS_MAX};
use crate::error::{Error, Result};
use crate::id::{Lsn, ReadId, SyncId};

/// What is stored under one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The write that stored it. When this is above `durable`, a power loss may take it away.
    pub lsn: Lsn,
    /// The versions.
    pub head: Bytes,
    /// The values; empty in the answer of `head`.
    pub body: Bytes,
}

/// A read that would have waited for the device. Opaque to everyone but the engine that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadTicket {
    /// The file, as the engine numbers them.
    pub file: u64,
    /// Where the record starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
}

/// The answer to a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Here it is.
    Hit(Record),
    /// There is no such key.
    Miss,
    /// It is on the device but not in memory: `start_read`, and come back.
    Cold(ReadTicket),
}

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Stores a record in place of whatever was there.
    Put {
        /// The key.
        key: Bytes,
        /// The head.
        head: Bytes,
        /// The body, in pieces that are stored one after another.
        body: SmallVec<[Bytes; 2]>,
        /// What a replay tells of this change, besides its key; 0 for nothing. Meant for how it moves a leaf of a hash tree.
        delta: u64,
    },
    /// Removes a key; no error when it is not there.
    Delete {
        /// The key.
        key: Bytes,
        /// As that of a put.
        delta: u64,
    },
}

impl Change {
    /// A put of which a replay tells the key alone.
    #[must_use]
    pub const fn put(key: Bytes, head: Bytes, body: SmallVec<[Bytes; 2]>) -> Change {
        Change::Put { key, head, body, delta: 0 }
    }

    /// A deletion of which a replay tells the key alone.
    #[must_use]
    pub const fn delete(key: Bytes) -> Change {
        Change::Delete { key, delta: 0 }
    }

    /// What a replay tells of it besides its key.
    #[must_use]
    pub const fn delta(&self) -> u64 {
        match self {
            Change::Put { delta, .. } | Change::Delete { delta, .. } => *delta,
        }
    }

    /// What its key, head and body take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let values = match self {
            Change::Put { head, body, .. } => {
                head.len() + body.iter().map(Bytes::len).sum::<usize>()
            }
            Change::Delete { .. } => 0,
        };
        (self.key().len() + values) as u64
    }

    /// The key that it changes.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Change::Put { key, .. } | Change::Delete { key, .. } => key,
        }
    }
}

/// Changes that are all there or all gone after a crash, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The changes.
    pub changes: SmallVec<[Change; 2]>,
}

impl Batch {
    /// The changes that matter, in order: of several of one key only the last, so that a key and an Lsn together name one
    /// change.
    #[must_use]
    pub fn last_of_each_key(&self) -> SmallVec<[&Change; 4]> {
        let mut changes: SmallVec<[&Change; 4]> = SmallVec::new();
        let mut seen = BTreeSet::new();
        for change in self.changes.iter().rev() {
            if self.changes.len() == 1 || seen.insert(change.key()) {
                changes.push(change);
            }
        }
        changes.reverse();
        changes
    }
}

/// A place in the log, between two writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPlace {
    /// The last write before it.
    pub after: Lsn,
    /// Where the engine looks first; opaque to everyone else, and good for one life of the engine.
    pub near: u64,
}

impl LogPlace {
    /// The place behind a write.
    #[must_use]
    pub const fn after(after: Lsn) -> LogPlace {
        LogPlace { after, near: 0 }
    }
}

/// A change, as the log tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logged {
    /// The write it belongs to.
    pub lsn: Lsn,
    /// The key.
    pub key: Bytes,
    /// Whether it was a deletion.
    pub is_delete: bool,
    /// The delta that it was written with.
    pub delta: u64,
}

/// A part of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replay {
    /// The changes of whole writes, in order and without a gap from the place that was asked for; of several of one key in
    /// one write, the last.
    Page {
        /// The changes. There may be none although there is more.
        changes: Vec<Logged>,
        /// Where the next part begins; `None` at the end of the log.
        next: Option<LogPlace>,
    },
    /// The log does not reach back so far, or never came so far.
    Gone,
}

/// One page of a scan in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Keys with their records (head and body).
    pub records: Vec<(Bytes, Record)>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Bytes>,
}

/// What one step of a range delete did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Erased {
    /// So many keys were there, and are gone.
    pub keys: usize,
    /// The write that took them; `None` when there were none.
    pub lsn: Option<Lsn>,
    /// Where the next step begins; `None` when nothing is left in the range.
    pub next: Option<Bytes>,
}

/// What a conditional delete did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// The heads were equal. The key is gone, and the changes that go with it are made, by this write.
    Deleted(Lsn),
    /// The key has another head, or no record. Nothing has changed.
    Differs,
    /// The head is not in memory. Nothing has changed: `start_read`, and ask again.
    Cold(ReadTicket),
}

/// What `maintain` achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes read and written by this step.
    pub bytes: u64,
    /// Whether there is more to do now.
    pub more: bool,
    /// What has to be durable before there is more to do. Where nobody writes, no other sync would come.
    pub waits_for: Option<Lsn>,
}

/// Numbers about an engine, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct EngineStats {
    /// The engine's name.
    pub name: &'static str,
    /// Records present, those of the node's own included.
    pub records: u64,
    /// How many of them have a key that starts with a zero byte: the node's own, not its clients'.
    pub own_records: u64,
    /// Deletions still remembered.
    pub tombstones: u64,
    /// Bytes of records that can be read.
    pub live_bytes: u64,
    /// Bytes of records that have been overwritten or deleted.
    pub dead_bytes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Records that are alive and cannot be read, as far as they have been met.
    pub damaged: u64,
    /// Bytes of memory used for the index.
    pub index_bytes: u64,
    /// Reads since start.
    pub reads: u64,
    /// Writes (changes) since start.
    pub writes: u64,
    /// Syncs since start.
    pub syncs: u64,
}

/// A storage engine. Keys are at most `ENGINE_KEY_BYTES_MAX` bytes and are ordered bytewise in scans.
///
/// After an error of `flush`, `synced` or `maintain`, and one of `write` that speaks of the disk, the engine is poisoned: every
/// later call that could change or promise anything answers `Error::Poisoned`. A refusal (`Full`: no room, or no descriptor;
/// `Busy`: too much waits for the device) poisons nothing: what was written before is kept, and the same call may work later. It
/// never retries a failed sync: the pages are gone although they can still be read (<https://lwn.net/Articles/752063/>).
pub trait Engine: Send {
    /// What must hold between calls. Panics when it does not. The simulator and tests ask it after every step.
    fn invariants(&self) {}
    /// The head of a key's record; the body may be left empty. `delete_if_equal` asks for it.
    fn head(&mut self, key: &[u8]) -> Result<Lookup>;
    /// A key's record.
    fn get(&mut self, key: &[u8]) -> Result<Lookup>;
    /// Hands a cold read to the disk. It ends as `DiskDone::Read`, whose bytes go to `finish_read`.
    fn start_read(&mut self, id: ReadId, ticket: ReadTicket) -> Result<()>;
    /// Checks and parses what a cold read brought. The record may be older than the newest write.
    fn finish_read(&mut self, ticket: ReadTicket, bytes: Bytes) -> Result<Lookup>;
    /// Applies all changes of `batch`: visible at once, durable after a sync. `Lsn`s increase. After `Full`, `Busy`,
    /// `Corrupt` and `Malformed` nothing has changed.
    fn write(&mut self, batch: &Batch) -> Result<Lsn>;
    /// Hands everything written to the operating system, so that it survives the end of this process.
    fn flush(&mut self) -> Result<()>;
    /// Starts making all writes so far durable, and what background work waits for. `None` when nothing more can be made
    /// durable now: because all is, or because a full disk has not taken the rest yet. One sync at a time: `Busy` while one is
    /// under way.
    fn start_sync(&mut self, id: SyncId) -> Result<Option<Lsn>>;
    /// The end of the sync that was started; answers what is durable now.
    fn synced(&mut self, id: SyncId, result: io::Result<()>) -> Result<Lsn>;
    /// Everything up to here survives a power loss.
    fn durable(&self) -> Lsn;
    /// Whether so little room is left that it must be kept for deletes and background work.
    fn is_nearly_full(&self) -> bool {
        false
    }
    /// Records with keys at or after `from`, in order, at most `limit` of them and at most about
    /// `bytes_max` bytes. Writes between two pages may or may not be seen.
    fn scan_from(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page>;
    /// As `scan_from`, with heads alone: bodies are empty, need not be read, and count for nothing in `bytes_max`. When the
    /// record of `from` itself cannot be read, both answer `Corrupt`; whoever wants to go on asks from that key with a zero
    /// byte appended. Another one ends the page before it.
    fn scan_heads(&mut self, from: &[u8], limit: usize, bytes_max: usize) -> Result<Page>;
    /// One step of deleting all keys from `from` on up to `to`, `to` not included: at most `limit` keys, and never more than
    /// `RANGE_KEYS_MAX`, in one batch. Records that cannot be read are deleted too. Keys written between two steps, before where
    /// the next begins, stay. After an error nothing has changed, except as `write` says.
    fn delete_range(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Erased> {
        if from >= to {
            return Ok(Erased { keys: 0, lsn: None, next: None });
        }
        let limit = limit.clamp(1, RANGE_KEYS_MAX);
        let (keys, next) = match self.scan_heads(from, limit, RANGE_BYTES_MAX) {
            Ok(page) => {
                let keys = page.records.into_iter().map(|(key, _)| key);
                let inside = |key: &Bytes| key[..] < *to;
                (keys.take_while(inside).collect(), page.next.filter(inside))
            }
            Err(error @ Error::Corrupt { .. }) => match self.head(from) {
                Err(Error::Corrupt { .. }) | Ok(Lookup::Cold(_)) => {
                    let next = Bytes::from([from, &[0]].concat());
                    (vec![Bytes::copy_from_slice(from)], Some(next).filter(|next| next[..] < *to))
                }
                // Something else of the engine's is damaged.
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let changes: SmallVec<[Change; 2]> = keys.into_iter().map(Change::delete).collect();
        let keys = changes.len();
        let lsn = if keys > 0 { Some(self.write(&Batch { changes })?) } else { None };
        Ok(Erased { keys, lsn, next })
    }
    /// Deletes `key` with `delta`, after the changes `with` and in one batch with them, if its head is `head`, byte for byte. The newest
    /// write counts, durable or not. Nothing comes between the comparison and the write.
    fn delete_if_equal(
        &mut self,
        key: &Bytes,
        head: &[u8],
        delta: u64,
        with: &Batch,
    ) -> Result<Compared> {
        match self.head(key)? {
            Lookup::Hit(found) if found.head == head => {
                let mut batch = with.clone();
                batch.changes.push(Change::Delete { key: key.clone(), delta });
                self.write(&batch).map(Compared::Deleted)
            }
            Lookup::Hit(_) | Lookup::Miss => Ok(Compared::Differs),
            Lookup::Cold(ticket) => Ok(Compared::Cold(ticket)),
        }
    }
    /// What was written behind a place in the log, visible and not only what is durable: about `bytes_max` bytes of the log
    /// are looked at, and never less than one write. `Corrupt`: a part that should be there cannot be read.
    fn replay(&mut self, from: LogPlace, bytes_max: u64) -> Result<Replay>;
    /// One bounded step of background work, at most about `budget` bytes.
    fn maintain(&mut self, budget: u64) -> Result<Progress>;
    /// Keys whose records were found to be damaged by the start or by background work, each told once. What a read finds, it answers.
    fn take_damaged(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
    /// Writes a consistent copy of everything into the directory `dir` of the same disk.
    fn checkpoint(&mut self, dir: &str) -> Result<Lsn>;
    /// Numbers for people.
    fn stats(&self) -> EngineStats;
    /// Makes everything durable, waiting for it. `Full`: there was no room for all, but it is closed, and everything up to
    /// `durable` will be there. Only `stats` and `durable` may be called after it.
    fn close(&mut self) -> Result<()>;
}
