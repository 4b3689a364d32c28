//! The only door out: clock, network, disk and dice, as traits.
//!
//! The node runs over TCP and files, or in a simulated world, by what stands behind these traits.
//! Everything here is synchronous except `Clock::sleep_until`, which the host alone awaits; slow
//! disk work is started here and ends as an input (`DiskDone`).

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::id::{Life, NodeId, ReadId, SyncId};
use crate::probe::Probe;

/// Monotonic time of one node, in nanoseconds since some moment before it started. For timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mono(pub u64);

/// Wall time as the node believes it, in milliseconds since 1970. It jumps, drifts and lies; only
/// the hybrid logical clock may look at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Wall(pub u64);

impl Mono {
    /// `self` later by `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Whole milliseconds from `earlier` to `self`; 0 where `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Time, and waiting for it.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time now.
    fn mono(&self) -> Mono;
    /// Wall time now.
    fn wall(&self) -> Wall;
    /// Ends at `time` or later; at once when it has passed.
    fn sleep_until(&self, time: Mono) -> impl Future<Output = ()> + Send;
}

/// Where a node listens, as text that its network understands (`host:port` for TCP).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Address(pub String);

/// What may be dropped when a queue is full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Asks for something: dropped when the peer cannot keep up, and asked again by its owner.
    Request,
    /// Answers something: never dropped while the link lives; bounded by the requests outstanding.
    Reply,
}

/// One encoded message: pieces to be written one after another, so that values are not copied.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// What may happen to it when the queue is full.
    pub class: Class,
    /// The bytes, in order.
    pub parts: SmallVec<[Bytes; 2]>,
}

impl Outbound {
    /// The length of all parts together, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The oldest and the newest protocol between nodes that this program speaks: the generations of messages.
pub const PROTOCOL_OLDEST: u8 = 1;
/// See `PROTOCOL_OLDEST`.
pub const PROTOCOL_NEWEST: u8 = 2;

/// Messages to other nodes: at most once, in any order, perhaps never. What arrives goes into the
/// inbox of the host.
pub trait Network: Probe + Send + Sync + 'static {
    /// Sends over the open link to `to` what `encode` makes for the protocol that the link has agreed on, between
    /// `PROTOCOL_OLDEST` and `PROTOCOL_NEWEST`; `None` where it has no words for it. `false`: nothing left, because of that, or
    /// there is no open link, or its queue is full, and nobody will ever see it. `true` promises nothing: it may still be lost.
    fn send(&self, to: NodeId, encode: impl FnOnce(u8) -> Option<Outbound>) -> bool;
    /// Whether there is an open link to `node` and one from it, so that it can be asked and can answer. What a link
    /// does not know yet, such as a machine that has just lost its power, it cannot say.
    fn is_connected(&self, node: NodeId) -> bool;
    /// Sends one datagram. An address that does not resolve is a lost datagram.
    fn datagram(&self, to: &Address, bytes: Bytes);
    /// Says that `life` of `node`, which people call `name`, counts and is reached at `address`: links to it are made, and
    /// remade, there, and none with a life before it.
    fn route(&self, node: NodeId, life: Life, name: &str, address: &Address);
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// An existing file, for reading and writing. `NotFound` otherwise.
    Existing,
    /// A new, empty file. `AlreadyExists` otherwise. Its name is durable after `sync_dir`.
    New,
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What can still be written.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Files below one directory. Names are relative, parts separated by `/`. Reads and writes are
/// synchronous (a page-cache read costs less than a thread hop); only durability waits.
///
/// After a power loss, what was written since the last sync of a file may be there in any part;
/// a name that was made, renamed or removed since the last `sync_dir` of its directory may be there or
/// not; a length that was set since the last sync may be lost.
pub trait Disk: Probe + Send + Sync + 'static {
    /// An open file.
    type File: Clone + Send + Sync + 'static;

    /// Makes a directory, and those above it; no error when it is there.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &str, how: Open) -> io::Result<Self::File>;
    /// Renames a file over what has the name `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, sorted; empty when there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable, and waits. For start-up and the end.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Where a file lies, as a number that no other file has at the same time: its file system and its inode there. A
    /// copy lies elsewhere, and so does a file that was moved to another file system; a renamed one does not.
    fn place(&self, path: &str) -> io::Result<u128>;

    /// The file's length in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, file: &Self::File, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As `read_at`, but `None` instead of waiting for the device.
    fn try_read_at(
        &self,
        file: &Self::File,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>>;
    /// Writes all of `bufs`, one after another, at `offset`. On an error any part may be written.
    fn write_at(&self, file: &Self::File, bufs: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Cuts or extends the file with zeroes.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Reserves space up to `len` bytes; the file reads as zeroes there. Errors are only about space.
    fn allocate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Makes the file's data and length durable, and waits. For start-up and the end.
    fn sync_now(&self, file: &Self::File) -> io::Result<()>;
    /// How much room there is: a question to the operating system, not to the device.
    fn space(&self) -> io::Result<Space>;

    /// Starts making all `files` durable, one after another, and then the names in the directories `dirs`;
    /// ends as `DiskDone::Synced`. What is written or named after the start is not covered.
    fn start_sync(&self, id: SyncId, files: Vec<Self::File>, dirs: Vec<String>);
    /// Starts a read that would block; ends as `DiskDone::Read` with `len` bytes, or fewer at the end.
    fn start_read(&self, id: ReadId, file: &Self::File, offset: u64, len: usize);
}

/// The end of slow disk work.
#[derive(Debug)]
pub enum DiskDone {
    /// A sync ended. After an error nothing written since the last good sync can be trusted.
    Synced {
        /// The sync that was started.
        id: SyncId,
        /// How it ended.
        result: io::Result<()>,
    },
    /// A read ended.
    Read {
        /// The read that was started.
        id: ReadId,
        /// The bytes.
        result: io::Result<Bytes>,
    },
}

/// Where a disk reports the end of slow work: the host's inbox, or a queue in a test.
pub type OnDiskDone = Arc<dyn Fn(DiskDone) + Send + Sync>;
