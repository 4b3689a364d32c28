//! What a batch is in a log: its bounds, its length, and the parts of its records.

use bytes::Bytes;
use rondo_core::config::{BODY_BYTES_MAX, ENGINE_KEY_BYTES_MAX, HEAD_BYTES_MAX};
use rondo_core::engine::{Batch, Change};
use rondo_core::error::{Error, Result};

use super::record::{DELTA_LEN, HEADER};

/// The most bytes of one batch.
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 20;

/// Refuses what does not fit into the format. Nothing has changed then, and nothing is poisoned.
pub(crate) fn check_limits(batch: &Batch) -> Result<()> {
    if batch.changes.len() > usize::from(u16::MAX) {
        return Err(Error::Malformed("a batch has at most 65535 changes"));
    }
    for change in &batch.changes {
        let (key, head, body) = parts_of(change);
        if key.len() > ENGINE_KEY_BYTES_MAX {
            return Err(Error::Malformed("the engine key is longer than ENGINE_KEY_BYTES_MAX"));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Error::Malformed("the head is longer than HEAD_BYTES_MAX"));
        }
        if body.iter().map(Bytes::len).sum::<usize>() > BODY_BYTES_MAX {
            return Err(Error::Malformed("the body is longer than BODY_BYTES_MAX"));
        }
    }
    if size_of_batch(batch) > BATCH_BYTES_MAX {
        return Err(Error::Malformed("a batch is at most 64 MiB"));
    }
    Ok(())
}

/// How many bytes the records of a batch take.
pub(crate) fn size_of_batch(batch: &Batch) -> usize {
    let size = |change: &Change| {
        let (key, head, body) = parts_of(change);
        let fixed = HEADER + if delta_of(change) == 0 { 0 } else { DELTA_LEN };
        fixed + key.len() + head.len() + body.iter().map(Bytes::len).sum::<usize>()
    };
    batch.changes.iter().map(size).sum()
}

/// Key, head and body.
pub(crate) fn parts_of(change: &Change) -> (&[u8], &[u8], &[Bytes]) {
    match change {
        Change::Put { key, head, body, .. } => (key, head, body),
        Change::Delete { key, .. } => (key, &[], &[]),
    }
}

/// What a replay tells of a change.
pub(crate) fn delta_of(change: &Change) -> u64 {
    let (Change::Put { delta, .. } | Change::Delete { delta, .. }) = *change;
    delta
}
