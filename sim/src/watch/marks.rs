//! What sound bytes on a disk say by themselves: which writes are there, and up to which one a mark or a file's header
//! calls them durable.
//!
//! A second reader of Bitcask's log, written from its format (`engines/src/log/record.rs`) and sharing no code with
//! it: a start is judged by it, so it must not err where the start errs. Every place of a data file is tried, whatever
//! stands before it; the checksums say which file and place a record was written for, so nothing else is taken for one.
//! A mark is written of what is durable already, and what is durable once is durable for ever. So whatever damage there
//! is elsewhere, no start may end below the highest one, or take away a sound record up to it.
//! Left out: hints, which only say again what data files say.

use std::collections::BTreeSet;

use rondo_core::config::{BODY_BYTES_MAX, ENGINE_KEY_BYTES_MAX, HEAD_BYTES_MAX};
use rondo_core::env::Disk;
use rondo_engines::mem_disk::MemDisk;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const FILE_HEADER: usize = 44;
const RECORD_HEADER: usize = 28;
const FLAG_MARK: u8 = 4;
const FLAG_DELTA: u8 = 16;

/// What a disk says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// Everything up to this write is called durable; 0 when nothing is.
    pub named: u64,
    /// Sound records: the write, and the place in its batch.
    pub sound: BTreeSet<(u64, u16)>,
}

impl Marks {
    /// Reads the data files in a directory. The disk must have no hooks: a fork of one has none.
    #[must_use]
    pub fn on(disk: &MemDisk, dir: &str) -> Marks {
        let files: Vec<(u32, Vec<u8>)> = disk
            .list(dir)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| {
                let number = name.strip_suffix(".data")?.parse().ok()?;
                Some((number, disk.content(&format!("{dir}/{name}"))?))
            })
            .collect();
        let headers = files.iter().filter_map(|(_, bytes)| header(bytes));
        let mut marks = Marks::default();
        let mut salts = BTreeSet::new();
        for (durable, salt) in headers {
            marks.named = marks.named.max(durable);
            salts.insert(salt);
        }
        for (number, bytes) in &files {
            for &salt in &salts {
                let seed = xxh3_64_with_seed(&number.to_le_bytes(), salt) as u32;
                marks.read(bytes, seed);
            }
        }
        marks
    }

    /// What is wrong with a disk that says `after`, after a start whose last write is `last`, where it could be opened.
    #[must_use]
    pub fn broken_by(&self, after: &Marks, last: Option<u64>) -> Option<String> {
        let named = self.named;
        if let Some(last) = last.filter(|&last| last < named) {
            return Some(format!(
                "its store ends with write {last}, and an intact mark names {named}"
            ));
        }
        let promised = self.sound.range(..=(named, u16::MAX));
        let (lsn, index) = promised.into_iter().find(|record| !after.sound.contains(record))?;
        Some(format!(
            "a start took away record {index} of write {lsn}, which was sound, and an intact mark names {named}"
        ))
    }

    fn read(&mut self, bytes: &[u8], seed: u32) {
        let mut at = FILE_HEADER;
        while at + RECORD_HEADER <= bytes.len() {
            let Some(record) = Record::at(bytes, at, seed) else {
                at += 1;
                continue;
            };
            if record.is_mark {
                self.named = self.named.max(u64_at(bytes, at + RECORD_HEADER));
            } else {
                self.sound.insert((record.lsn, record.index));
            }
            at += record.len;
        }
    }
}

/// What a sound file header names as durable, and the store's salt.
fn header(bytes: &[u8]) -> Option<(u64, u64)> {
    let is_sound = bytes.len() >= FILE_HEADER
        && bytes.starts_with(b"rondobc")
        && crc32fast::hash(&bytes[..40]) == u32_at(bytes, 40);
    is_sound.then(|| (u64_at(bytes, 32), u64_at(bytes, 16)))
}

struct Record {
    lsn: u64,
    index: u16,
    is_mark: bool,
    len: usize,
}

impl Record {
    fn at(bytes: &[u8], at: usize, seed: u32) -> Option<Record> {
        let lsn = u64_at(bytes, at + 8);
        let body = u32_at(bytes, at + 16) as usize;
        let lengths = u32_at(bytes, at + 20);
        let (head, flags) = ((lengths & 0xFF_FFFF) as usize, (lengths >> 24) as u8);
        let key = usize::from(u16::from_le_bytes([bytes[at + 24], bytes[at + 25]]));
        let is_mark = flags & FLAG_MARK != 0;
        let delta = if flags & FLAG_DELTA == 0 { 0 } else { 8 };
        let body_at = at + RECORD_HEADER + delta + key + head;
        let is_possible = lsn > 0
            && flags < 32
            && body <= BODY_BYTES_MAX
            && head <= HEAD_BYTES_MAX
            && key <= ENGINE_KEY_BYTES_MAX
            && (!is_mark || head == 8 && delta == 0)
            && body_at + body <= bytes.len();
        if !is_possible {
            return None;
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(seed ^ at as u32);
        hasher.update(&bytes[at + 4..body_at]);
        let is_sound = hasher.finalize() == u32_at(bytes, at)
            && crc32fast::hash(&bytes[body_at..body_at + body]) == u32_at(bytes, at + 4);
        let index = u16::from_le_bytes([bytes[at + 26], bytes[at + 27]]);
        is_sound.then_some(Record { lsn, index, is_mark, len: body_at + body - at })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rondo_core::engine::{Batch, Change, Engine};
    use rondo_core::env::Open;
    use rondo_core::id::SyncId;
    use rondo_engines::bitcask::{Bitcask, Options};

    use super::*;

    /// Writes 1 to 3, each synced before the next, so that the mark before the third names the second.
    fn written() -> MemDisk {
        let disk = MemDisk::new();
        let options = Options { allocate_bytes: 4_096, ..Options::new(7) };
        let (mut engine, _) = Bitcask::open(Arc::new(disk.clone()), "data", options).expect("new");
        for n in 1..=3 {
            let key = Bytes::from(format!("k{n}"));
            let body = [Bytes::from(vec![b'v'; 100])].into_iter().collect();
            let change = Change::Put { key: key.clone(), head: key, body, delta: 0 };
            engine.write(&Batch { changes: [change].into_iter().collect() }).expect("written");
            assert!(engine.start_sync(SyncId(n)).expect("started").is_some());
            for done in disk.run_pending() {
                if let rondo_core::env::DiskDone::Synced { id, result } = done {
                    engine.synced(id, result).expect("synced");
                }
            }
        }
        disk
    }

    fn data_file(disk: &MemDisk) -> String {
        let names = disk.list("data").expect("there");
        let last = names.iter().rfind(|name| name.ends_with(".data")).expect("a data file");
        format!("data/{last}")
    }

    #[test]
    fn the_writes_of_a_log_and_what_its_marks_name_are_found() {
        let marks = Marks::on(&written(), "data");
        assert_eq!(marks.sound, [(1, 0), (2, 0), (3, 0)].into_iter().collect());
        assert_eq!(marks.named, 2);
    }

    #[test]
    fn damage_hides_one_record_and_none_behind_it() {
        let disk = written();
        disk.flip_bit(&data_file(&disk), 44 + 36 + 40, 1);
        let marks = Marks::on(&disk, "data");
        assert_eq!(marks.sound, [(2, 0), (3, 0)].into_iter().collect());
        assert_eq!(marks.named, 2);
    }

    #[test]
    fn a_start_that_ends_below_a_mark_or_takes_a_sound_record_away_is_told() {
        let disk = written();
        let before = Marks::on(&disk, "data");
        assert_eq!(before.broken_by(&before, Some(2)), None, "the third was never promised");
        assert!(before.broken_by(&before, Some(1)).expect("too short").contains("names 2"));
        let file = disk.open(&data_file(&disk), Open::Existing).expect("there");
        disk.set_len(&file, 44 + 36 + 20).expect("cut");
        let told = before.broken_by(&Marks::on(&disk, "data"), None).expect("it is gone");
        assert!(told.contains("record 0 of write 1"), "{told}");
    }
}
