//! How a Bitcask behaves: good values for a node, fitted to its disk, and small ones for short runs.

use rondo_core::engine::{Opening, Scale};
use rondo_core::env::{Disk, Space};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The smallest `file_bytes_max` that a small disk leads to, in bytes.
const FILE_BYTES_MIN: u64 = 4 << 20;

/// How a Bitcask behaves. Every field is chosen by the caller; `Options::new` has good values.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A file is sealed before it grows beyond this, in bytes; at most 2 GiB. A batch is never split,
    /// so a file with one batch may be longer.
    pub file_bytes_max: u64,
    /// A file is sealed when the keys in it take this much memory, in bytes.
    pub index_bytes_max: usize,
    /// The active file is allocated ahead in steps of this, in bytes, so that a sync need not write
    /// the file's length; 0 for not at all.
    pub allocate_bytes: u64,
    /// Written to the operating system at least whenever this much has gathered, in bytes.
    pub buffer_bytes_max: usize,
    /// A compaction starts when dead records take more than this part of the sealed files, in percent ...
    pub compact_dead_percent: u64,
    /// ... and more than this, in bytes.
    pub compact_dead_bytes_min: u64,
    /// With less room than this on the disk the store calls itself nearly full, in bytes: what is left is for deletes and compactions. A
    /// compaction needs the room of one file.
    pub low_water_bytes: u64,
    /// Whether to go on with what is left when acknowledged data is gone. Else nothing on the disk is touched
    /// then, so that somebody may still repair it, and the engine is of no use.
    pub accept_losses: bool,
    /// A random number of the store. It is used for new stores; older ones know theirs.
    pub salt: u64,
    /// Hashes a key, with the salt. Any function will do; a bad one is slow.
    pub fingerprint: fn(&[u8], u64) -> u32,
}

impl Options {
    /// Good values for a node, with the store's random number.
    #[must_use]
    pub fn new(salt: u64) -> Options {
        Options {
            file_bytes_max: 256 << 20,
            index_bytes_max: 32 << 20,
            allocate_bytes: 8 << 20,
            buffer_bytes_max: 1 << 20,
            compact_dead_percent: 35,
            compact_dead_bytes_min: 16 << 20,
            low_water_bytes: 0,
            accept_losses: false,
            salt,
            fingerprint: |key, salt| xxh3_64_with_seed(key, salt) as u32,
        }
    }
}

impl Options {
    /// What somebody who opens any engine has chosen.
    pub(super) fn chosen<D: Disk>(how: &Opening, disk: &D) -> Options {
        let accept_losses = how.accept_losses;
        let usual = Options { accept_losses, ..Options::new(how.salt) };
        match how.scale {
            // A disk that does not say how large it is gets no limits.
            Scale::Disk => disk.space().map_or(usual, |space| usual.on(space)),
            Scale::Files(bytes) => Options {
                file_bytes_max: bytes,
                allocate_bytes: bytes / 8,
                buffer_bytes_max: (bytes / 16) as usize,
                compact_dead_bytes_min: bytes / 2,
                ..usual
            },
            Scale::Eager(bytes) => Options {
                file_bytes_max: bytes,
                allocate_bytes: bytes / 2,
                buffer_bytes_max: (bytes / 5 * 2) as usize,
                compact_dead_percent: 10,
                compact_dead_bytes_min: 0,
                ..usual
            },
        }
    }

    /// Fits them to a disk: its files are at most a sixteenth of it, and the room of two files is kept free.
    #[must_use]
    pub fn on(self, space: Space) -> Options {
        let file_bytes_max = self.file_bytes_max.min((space.total / 16).max(FILE_BYTES_MIN));
        let allocate_bytes = self.allocate_bytes.min(file_bytes_max / 8);
        let compact_dead_bytes_min = self.compact_dead_bytes_min.min(file_bytes_max / 4);
        let low_water_bytes = 2 * file_bytes_max;
        Options { file_bytes_max, allocate_bytes, compact_dead_bytes_min, low_water_bytes, ..self }
    }
}
