//! An engine on its disk, beside what it was told: how its lives begin and end, and what each finds of the one before.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use rondo_core::engine::{Engine, Opened, Record};
use rondo_core::env::Disk;
use rondo_core::error::Error;
use rondo_engines::mem_disk::{Fate, Fault, MemDisk};

use crate::input::{AnyFate, How, Input, Rot};

const DIR: &str = "store";

pub(crate) type Map = BTreeMap<Bytes, Record>;

pub(crate) struct World {
    pub(crate) disk: MemDisk,
    pub(crate) how: How,
    pub(crate) engine: Option<Box<dyn Engine>>,
    /// What the store holds after each write: `after[lsn]`.
    pub(crate) after: Vec<Map>,
    /// All records ever written, by key; only kept for what damage may bring back.
    pub(crate) ever: BTreeMap<Bytes, Vec<Record>>,
    /// The last write that the operating system has.
    pub(crate) flushed: u64,
    pub(crate) durable: u64,
    pub(crate) rotten: bool,
    /// A sync failed: pages that can be read may never become durable, so only a power loss is honest.
    pub(crate) unsynced: bool,
    pub(crate) ids: u64,
}

impl World {
    pub(crate) fn new(input: &Input) -> World {
        let mut world = World {
            disk: MemDisk::new(),
            how: input.how(),
            engine: None,
            after: vec![Map::new()],
            ever: BTreeMap::new(),
            flushed: 0,
            durable: 0,
            rotten: false,
            unsynced: false,
            ids: 0,
        };
        world.open();
        world
    }

    pub(crate) fn engine(&mut self) -> &mut dyn Engine {
        &mut **self.engine.as_mut().expect("it is opened again whenever it ends")
    }

    /// A record that the disk does not give back is as good as a rotten one.
    pub(crate) fn may_misread(&self) -> bool {
        self.rotten || self.unsynced
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.after.len() as u64 - 1
    }

    pub(crate) fn now(&self) -> &Map {
        self.after.last().expect("never empty")
    }

    /// Goes on with a result; after an error the store is opened again, after a refusal it goes on as it was.
    pub(crate) fn unless_failed<T>(
        &mut self,
        result: Result<T, Error>,
        then: impl FnOnce(&mut World, T),
    ) {
        match result {
            Ok(value) => then(self, value),
            Err(error) if error.is_refusal() => {}
            Err(error) => self.failed(&error),
        }
    }

    /// An engine may only fail with its disk, or on rotten data.
    pub(crate) fn failed(&mut self, error: &Error) {
        match error {
            Error::Disk(_) | Error::Poisoned => {}
            Error::Corrupt { .. } => assert!(self.may_misread(), "corrupt without damage: {error}"),
            _ => panic!("unexpected: {error}"),
        }
        self.die(self.unsynced.then_some(&[]));
        self.open();
    }

    pub(crate) fn fault(&mut self, after: u8, cut: Option<u8>, power: bool) {
        let at = self.disk.operations() + u64::from(after);
        self.disk.set_fault_hook(move |number, _, _| {
            (number == at).then_some(match (power, cut) {
                (true, _) => Fault::PowerOff,
                (false, Some(len)) => Fault::Cut(u64::from(len), io::ErrorKind::StorageFull),
                (false, None) => Fault::Fail(io::ErrorKind::Other),
            })
        });
        // Whether a failed operation was a sync is not told; a power loss is honest for all.
        self.unsynced = true;
    }

    /// The process ends; with fates, the power goes too.
    pub(crate) fn die(&mut self, fates: Option<&[AnyFate]>) {
        self.engine = None;
        self.disk.clear_hooks();
        if fates.is_none() && !self.unsynced {
            self.disk.kill();
            self.durable = self.durable.max(self.flushed);
            return;
        }
        let mut fates = fates.unwrap_or_default().iter().cycle();
        self.disk.crash(&mut |_| match fates.next() {
            Some(AnyFate::Kept) => Fate::Kept,
            Some(AnyFate::Lost) | None => Fate::Lost,
            Some(AnyFate::Torn(sectors)) => Fate::Torn(u64::from(*sectors % 4)),
            Some(AnyFate::Sectors(mask)) => Fate::Sectors(*mask),
        });
        self.unsynced = false;
    }

    pub(crate) fn rot(&mut self, rot: Rot) {
        let Ok(files) = self.disk.list(DIR) else { return };
        let Some(file) = files.get(usize::from(rot.file) % files.len().max(1)) else { return };
        let path = format!("{DIR}/{file}");
        let len = self.disk.content(&path).map_or(0, |content| content.len() as u64);
        if len > 0 {
            self.disk.flip_bit(&path, u64::from(rot.byte) % len, rot.bit % 8);
            self.rotten = true;
        }
    }

    pub(crate) fn open(&mut self) {
        let opened = self.how.open(&self.disk, DIR);
        let (engine, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // A flipped bit in a version byte looks like a newer program's file.
                let version = matches!(error, Error::UnknownVersion { .. });
                assert!(self.rotten && version, "cannot be opened: {error}");
                return self.start_anew();
            }
        };
        self.engine = Some(engine);
        match read_all(self.engine(), b"", 7) {
            Ok(found) => self.recovered(found.into_iter().collect(), &opened),
            Err(error) => {
                assert!(self.rotten, "cannot be read: {error}");
                self.start_anew();
            }
        }
    }

    pub(crate) fn recovered(&mut self, found: Map, opened: &Opened) {
        let last = opened.last.0;
        if !opened.keeps {
            self.after = vec![Map::new()];
            (self.flushed, self.durable) = (0, 0);
        }
        if self.rotten {
            for (key, record) in &found {
                let ever = self.ever.get(key).is_some_and(|records| records.contains(record));
                assert!(ever, "nobody wrote this: {key:?} {record:?}");
            }
            // Whatever is there now is what later reads are held to.
            self.after.resize(last as usize + 1, found.clone());
            *self.after.last_mut().expect("never empty") = found;
        } else {
            assert_eq!(opened.lost, [], "lost without damage");
            assert!(last >= self.durable, "durable {}, recovered {last}", self.durable);
            assert!(last <= self.lsn(), "written {}, recovered {last}", self.lsn());
            assert_eq!(found, self.after[last as usize], "not the prefix up to {last}");
            self.after.truncate(last as usize + 1);
        }
        (self.flushed, self.durable) = (last, last);
    }

    /// Damage has made this store useless: take a new disk.
    pub(crate) fn start_anew(&mut self) {
        self.engine = None;
        self.disk = MemDisk::new();
        self.after = vec![Map::new()];
        self.ever.clear();
        (self.flushed, self.durable) = (0, 0);
        (self.rotten, self.unsynced) = (false, false);
        self.open();
    }
}

pub(crate) fn read_all(
    engine: &mut dyn Engine,
    from: &[u8],
    limit: usize,
) -> Result<Vec<(Bytes, Record)>, Error> {
    let mut found = Vec::new();
    let mut next = Some(Bytes::copy_from_slice(from));
    while let Some(from) = next {
        let page = engine.scan_from(&from, limit, 1000)?;
        assert!(page.records.len() <= limit);
        assert!(page.records.iter().all(|(key, _)| *key >= from));
        found.extend(page.records);
        assert!(page.next.as_ref().is_none_or(|next| *next > from), "a scan goes on");
        next = page.next;
    }
    Ok(found)
}
