//! How an LSM engine behaves: good values for a node, fitted to its disk, and small ones for short runs.

use rondo_core::engine::{Opening, Scale};
use rondo_core::env::{Disk, Space};

/// The smallest `memtable_bytes_max` that a small disk leads to, in bytes.
const MEMTABLE_BYTES_MIN: u64 = 1 << 20;

/// How an LSM engine behaves. Every field is chosen by the caller; `Options::new` has good values.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A memtable is frozen, and a log ended, when it takes this much memory, or its writes so much of the log, in bytes.
    pub memtable_bytes_max: usize,
    /// A compaction begins another table when one is this long, in bytes.
    pub table_bytes_max: u64,
    /// A block ends when it is this long, in bytes. A record is never split, so a block with one record may be longer.
    pub block_bytes: usize,
    /// Blocks that were read are kept in so much memory, in bytes.
    pub cache_bytes: usize,
    /// So many tables on level 0 are compacted into level 1.
    pub young_tables: usize,
    /// How long level 1 may be, in bytes; each level below is `LEVEL_RATIO` times as long.
    pub level_bytes: u64,
    /// The log is allocated ahead in steps of this, in bytes; 0 for not at all.
    pub allocate_bytes: u64,
    /// Written to the operating system at least whenever this much has gathered, in bytes.
    pub buffer_bytes_max: usize,
    /// So much of the log stays behind what has been written into tables, so that it can be told once more, in bytes.
    pub replay_bytes: u64,
    /// With less room than this on the disk the store calls itself nearly full, in bytes.
    pub low_water_bytes: u64,
    /// Whether to go on with what is left when acknowledged data is gone.
    pub accept_losses: bool,
    /// A random number of the store. It is used for new stores; older ones know theirs.
    pub salt: u64,
}

impl Options {
    /// Good values for a node, with the store's random number.
    #[must_use]
    pub fn new(salt: u64) -> Options {
        Options {
            memtable_bytes_max: 32 << 20,
            table_bytes_max: 32 << 20,
            block_bytes: 4096,
            cache_bytes: 64 << 20,
            young_tables: 4,
            level_bytes: 128 << 20,
            allocate_bytes: 8 << 20,
            buffer_bytes_max: 1 << 20,
            replay_bytes: 64 << 20,
            low_water_bytes: 0,
            accept_losses: false,
            salt,
        }
    }

    /// What somebody who opens any engine has chosen.
    pub(super) fn chosen<D: Disk>(how: &Opening, disk: &D) -> Options {
        let accept_losses = how.accept_losses;
        let usual = Options { accept_losses, ..Options::new(how.salt) };
        match how.scale {
            // A disk that does not say how large it is gets no limits.
            Scale::Disk => disk.space().map_or(usual, |space| usual.on(space)),
            Scale::Files(bytes) => Options {
                replay_bytes: bytes,
                allocate_bytes: bytes / 8,
                buffer_bytes_max: (bytes / 16) as usize,
                ..usual.tiny(bytes)
            },
            Scale::Eager(bytes) => Options {
                young_tables: 2,
                replay_bytes: 0,
                allocate_bytes: bytes / 2,
                buffer_bytes_max: (bytes / 5 * 2) as usize,
                memtable_bytes_max: (bytes / 2) as usize,
                level_bytes: bytes / 2,
                ..usual.tiny(bytes)
            },
        }
    }

    /// Memtables and tables of about so many bytes.
    fn tiny(self, bytes: u64) -> Options {
        Options {
            memtable_bytes_max: bytes as usize,
            table_bytes_max: bytes,
            block_bytes: (bytes / 8).clamp(64, 4096) as usize,
            cache_bytes: 4 * bytes as usize,
            level_bytes: 4 * bytes,
            ..self
        }
    }

    /// Fits them to a disk: a memtable is at most a sixty-fourth of it, and the room of six tables is kept free.
    #[must_use]
    pub fn on(self, space: Space) -> Options {
        let fitted = (space.total / 64).max(MEMTABLE_BYTES_MIN);
        let table_bytes_max = self.table_bytes_max.min(fitted);
        Options {
            memtable_bytes_max: self.memtable_bytes_max.min(fitted as usize),
            table_bytes_max,
            level_bytes: self.level_bytes.min(4 * fitted),
            allocate_bytes: self.allocate_bytes.min(fitted / 4),
            replay_bytes: self.replay_bytes.min(2 * fitted),
            low_water_bytes: 6 * table_bytes_max,
            ..self
        }
    }
}
