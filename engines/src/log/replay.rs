//! A part of a log told once more.
//!
//! A file has no index of Lsns. The way to a place that no earlier page has led to is read, within the bounds of the pages on it.
//! A mark that a crash has torn held no write; any other damage breaks the sequence, and is told.

use rondo_core::engine::{LogPlace, Logged, Replay};
use rondo_core::env::Disk;
use rondo_core::error::Result;
use rondo_core::id::Lsn;

use super::follow::Sequence;
use super::record::{DELETE, LAST, MARK};
use super::walk::{Item, Walk};

/// The log file in which the write behind a place lies.
pub(crate) struct Told<'a, F> {
    pub(crate) number: u32,
    pub(crate) file: &'a F,
    pub(crate) seed: u32,
    /// Where its data ends.
    pub(crate) end: u64,
    /// The last write in it.
    pub(crate) last: u64,
}

/// One page of a log behind a place; `newest` is the last write of all. `Err`: the write there is damaged.
pub(crate) fn page<D: Disk>(
    disk: &D,
    told: &Told<'_, D::File>,
    from: LogPlace,
    newest: u64,
    bytes_max: u64,
) -> Result<Result<Replay, u64>> {
    let (number, after) = (told.number, from.after.0);
    let start = if (from.near >> 32) as u32 == number { from.near & 0xFFFF_FFFF } else { 0 };
    let mut walk = Walk::new(disk, told.file, told.seed, start, told.end);
    let (begun, mut sequence) = (walk.offset(), Sequence::before(after + 1));
    let (mut changes, mut last) = (Vec::new(), after);
    loop {
        let at = walk.offset();
        let Some(item) = walk.next()? else { break };
        let Item::Record { header, bytes, .. } = item else { continue };
        if header.has(MARK) {
            continue;
        }
        if header.lsn > after {
            if !sequence.take(&header) {
                return Ok(Err(at));
            }
            let key = bytes::Bytes::copy_from_slice(header.key(bytes));
            let (is_delete, delta) = (header.has(DELETE), header.delta(bytes));
            changes.push(Logged { lsn: Lsn(header.lsn), key, is_delete, delta });
            last = header.lsn;
        }
        if header.has(LAST) && walk.offset() - begun >= bytes_max && last < newest {
            let near = u64::from(number) << 32 | walk.offset();
            let next = Some(LogPlace { after: Lsn(last), near });
            return Ok(Ok(Replay::Page { changes, next }));
        }
    }
    if !sequence.is_at(told.last) {
        return Ok(Err(walk.offset()));
    }
    let next = (last < newest).then_some(LogPlace::after(Lsn(last)));
    Ok(Ok(Replay::Page { changes, next }))
}
