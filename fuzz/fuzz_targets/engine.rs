//! Any engine on a disk that fails, loses power and rots, against a model: one sorted map per write. What keeps nothing begins
//! empty each time.
//!
//! Checked: while all is well every read and scan says what the model says, also for cold reads and
//! checkpoints; after a crash the store holds a prefix of its writes that contains all that was durable (all
//! that was flushed, when only the process died), and reports no loss; after damage every record served is
//! one that was written for its key; and nothing panics.

#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opened, Opening, Record, Scale};
use rondo_core::env::{Disk, DiskDone};
use rondo_core::error::Error;
use rondo_core::id::{ReadId, SyncId};
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::{Fate, Fault, MemDisk};

const STEPS_MAX: usize = 60;
const DIR: &str = "store";

#[derive(Arbitrary, Debug)]
struct Input {
    /// One of all engines, or else a Bitcask as the numbers below say.
    any: Option<u8>,
    file_bytes: u16,
    index_bytes: u16,
    allocate_bytes: u16,
    buffer_bytes: u16,
    collide: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Write(AnyChange, Vec<AnyChange>),
    Flush,
    StartSync,
    EndSync {
        fails: bool,
    },
    Get {
        key: u8,
        cold: bool,
    },
    Scan {
        from: u8,
        limit: u8,
    },
    Maintain {
        budget: u16,
    },
    Checkpoint,
    Close,
    Kill,
    Crash {
        fates: Vec<AnyFate>,
        rot: Vec<Rot>,
    },
    /// The operation after so many others fails; with `power`, the power goes with it.
    Fault {
        after: u8,
        cut: Option<u8>,
        power: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct AnyChange {
    key: u8,
    /// Deletes when absent.
    lens: Option<(u8, u16)>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum AnyFate {
    Kept,
    Lost,
    Torn(u8),
    Sectors(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Rot {
    file: u8,
    byte: u32,
    bit: u8,
}

type Map = BTreeMap<Bytes, Record>;

/// Which engine is opened, and how.
#[derive(Clone, Copy)]
enum How {
    Any(EngineKind),
    Bitcask(Options),
}

impl How {
    fn open(self, disk: &MemDisk, dir: &str) -> Result<(Box<dyn Engine>, Opened), Error> {
        let disk = Arc::new(disk.clone());
        match self {
            How::Any(kind) => {
                let scale = Scale::Eager(900);
                kind.open(disk, dir, &Opening { salt: 7, scale, accept_losses: true, held: Vec::new() })
            }
            How::Bitcask(options) => {
                let (engine, opened) = Bitcask::open(disk, dir, options)?;
                Ok((Box::new(engine), opened))
            }
        }
    }

    fn keeps(self) -> bool {
        match self {
            How::Any(kind) => kind.keeps(),
            How::Bitcask(_) => true,
        }
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for step in input.steps.iter().take(STEPS_MAX) {
        world.step(step);
    }
    world.die(None);
    world.open();
});

struct World {
    disk: MemDisk,
    how: How,
    engine: Option<Box<dyn Engine>>,
    /// What the store holds after each write: `after[lsn]`.
    after: Vec<Map>,
    /// All records ever written, by key; only kept for what damage may bring back.
    ever: BTreeMap<Bytes, Vec<Record>>,
    /// The last write that the operating system has.
    flushed: u64,
    durable: u64,
    rotten: bool,
    /// A sync failed: pages that can be read may never become durable, so only a power loss is honest.
    unsynced: bool,
    ids: u64,
}

impl World {
    fn new(input: &Input) -> World {
        let mut options = Options::new(7);
        options.file_bytes_max = 200 + u64::from(input.file_bytes % 4096);
        options.index_bytes_max = 64 + usize::from(input.index_bytes % 2048);
        options.allocate_bytes = u64::from(input.allocate_bytes % 1024);
        options.buffer_bytes_max = usize::from(input.buffer_bytes % 1024);
        options.compact_dead_bytes_min = 64;
        options.accept_losses = true;
        if input.collide {
            options.fingerprint = |key, _| key.first().map_or(0, |first| u32::from(first % 3));
        }
        let all = EngineKind::ALL;
        let any = input.any.map(|number| How::Any(all[usize::from(number) % all.len()]));
        let mut world = World {
            disk: MemDisk::new(),
            how: any.unwrap_or(How::Bitcask(options)),
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

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(first, more) => self.write(first, more),
            Step::Flush => {
                let result = self.engine().flush();
                self.unless_failed(result, |world, ()| world.flushed = world.lsn());
            }
            Step::StartSync => self.start_sync(),
            Step::EndSync { fails } => self.end_sync(*fails),
            Step::Get { key, cold } => self.get(*key, *cold),
            Step::Scan { from, limit } => self.scan(*from, usize::from(*limit % 8) + 1),
            Step::Maintain { budget } => {
                let result = self.engine().maintain(u64::from(*budget));
                self.unless_failed(result, |_, _| ());
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Close => {
                let result = self.engine().close();
                self.unless_failed(result, |world, ()| {
                    (world.flushed, world.durable) = (world.lsn(), world.lsn());
                    world.die(None);
                    world.open();
                });
            }
            Step::Kill => {
                self.die(None);
                self.open();
            }
            Step::Crash { fates, rot } => {
                self.die(Some(fates));
                rot.iter().for_each(|rot| self.rot(*rot));
                self.open();
            }
            Step::Fault { after, cut, power } => self.fault(*after, *cut, *power),
        }
    }

    fn engine(&mut self) -> &mut dyn Engine {
        &mut **self.engine.as_mut().expect("it is opened again whenever it ends")
    }

    /// A record that the disk does not give back is as good as a rotten one.
    fn may_misread(&self) -> bool {
        self.rotten || self.unsynced
    }

    fn lsn(&self) -> u64 {
        self.after.len() as u64 - 1
    }

    fn now(&self) -> &Map {
        self.after.last().expect("never empty")
    }

    /// Goes on with a result; after an error the store is opened again, after a refusal it goes on as it was.
    fn unless_failed<T>(&mut self, result: Result<T, Error>, then: impl FnOnce(&mut World, T)) {
        match result {
            Ok(value) => then(self, value),
            Err(error) if error.is_refusal() => {}
            Err(error) => self.failed(&error),
        }
    }

    /// An engine may only fail with its disk, or on rotten data.
    fn failed(&mut self, error: &Error) {
        match error {
            Error::Disk(_) | Error::Poisoned => {}
            Error::Corrupt { .. } => assert!(self.may_misread(), "corrupt without damage: {error}"),
            _ => panic!("unexpected: {error}"),
        }
        self.die(self.unsynced.then_some(&[]));
        self.open();
    }

    fn write(&mut self, first: &AnyChange, more: &[AnyChange]) {
        let lsn = rondo_core::id::Lsn(self.lsn() + 1);
        let (mut batch, mut map, mut written) = (Batch::default(), self.now().clone(), Vec::new());
        for (at, change) in std::iter::once(first).chain(more.iter().take(3)).enumerate() {
            let key = key(change.key);
            match change.lens {
                None => {
                    map.remove(&key);
                    batch.changes.push(Change::Delete { key, delta: 0 });
                }
                Some((head, body)) => {
                    let fill = (lsn.0 as u8).wrapping_mul(31).wrapping_add(at as u8);
                    let head = Bytes::from(vec![fill; usize::from(head % 32)]);
                    let body = Bytes::from(vec![!fill; usize::from(body % 700)]);
                    let half = body.len() / 2;
                    let pieces = [body.slice(..half), body.slice(half..)];
                    let record = Record { lsn, head: head.clone(), body };
                    map.insert(key.clone(), record.clone());
                    written.push((key.clone(), record));
                    batch.changes.push(Change::Put {
                        key,
                        head,
                        body: pieces.into_iter().collect(),
                        delta: 0,
                    });
                }
            }
        }
        let result = self.engine().write(&batch);
        if result.as_ref().is_err_and(Error::is_refusal) {
            return;
        }
        // A write that failed may be there after all.
        self.after.push(map);
        for (key, record) in written {
            self.ever.entry(key).or_default().push(record);
        }
        self.unless_failed(result, |_, written| assert_eq!(written, lsn, "Lsns are dense"));
    }

    fn start_sync(&mut self) {
        self.ids += 1;
        let id = SyncId(self.ids);
        match self.engine().start_sync(id) {
            Ok(started) => {
                let covered = started.unwrap_or_else(|| self.engine().durable()).0;
                // A disk that is full keeps the rest waiting.
                assert!(covered == self.lsn() || self.unsynced && covered < self.lsn());
                self.flushed = self.flushed.max(covered);
            }
            Err(error) if error.is_refusal() => {}
            Err(error) => self.failed(&error),
        }
    }

    fn end_sync(&mut self, fails: bool) {
        for pending in self.disk.take_pending() {
            let done = if fails {
                self.unsynced = true;
                self.disk.fail(pending, io::ErrorKind::Other)
            } else {
                self.disk.complete(pending)
            };
            let DiskDone::Synced { id, result } = done else { continue };
            self.unsynced |= result.is_err();
            let result = self.engine().synced(id, result);
            self.unless_failed(result, |world, durable| {
                assert!(durable.0 >= world.durable && durable.0 <= world.lsn());
                world.durable = durable.0;
            });
        }
    }

    fn get(&mut self, wanted: u8, cold: bool) {
        if cold {
            self.disk.set_cold_hook(|_, _, _| true);
        }
        let key = key(wanted);
        let got = self.engine().get(&key).and_then(|found| self.warm(found));
        let head = self.engine().head(&key).and_then(|found| self.warm(found));
        if cold {
            self.disk.set_cold_hook(|_, _, _| false);
        }
        let expected = self.now().get(&key).cloned();
        match (got, head) {
            (Ok(got), Ok(head)) => {
                assert_eq!(got, expected, "get");
                assert_eq!(head.map(|r| r.head), expected.map(|r| r.head), "head");
            }
            // A record that rots is an error for as long as it is there, and others are not.
            (Err(Error::Corrupt { .. }), _) | (_, Err(Error::Corrupt { .. })) => {
                assert!(self.may_misread(), "corrupt without damage");
            }
            (Err(error), _) | (_, Err(error)) => self.failed(&error),
        }
    }

    fn warm(&mut self, found: Lookup) -> Result<Option<Record>, Error> {
        match found {
            Lookup::Hit(record) => Ok(Some(record)),
            Lookup::Miss => Ok(None),
            Lookup::Cold(ticket) => {
                self.ids += 1;
                let waiting = self.disk.take_pending();
                let id = ReadId(self.ids);
                self.engine().start_read(id, ticket)?;
                let mut bytes = None;
                for pending in self.disk.take_pending() {
                    if let DiskDone::Read { result, .. } = self.disk.complete(pending) {
                        bytes = Some(result.map_err(Error::Disk)?);
                    }
                }
                // A sync that was under way is over too.
                for pending in waiting {
                    if let DiskDone::Synced { id, result } = self.disk.complete(pending) {
                        self.unsynced |= result.is_err();
                        self.durable = self.engine().synced(id, result)?.0;
                    }
                }
                let bytes = bytes.expect("the read was started");
                let found = self.engine().finish_read(ticket, bytes)?;
                assert!(!matches!(found, Lookup::Cold(_)), "a cold read ends");
                self.warm(found)
            }
        }
    }

    fn scan(&mut self, from: u8, limit: usize) {
        let from = key(from);
        let result = read_all(self.engine(), &from, limit);
        let expected: Vec<_> =
            self.now().range(from..).map(|(key, record)| (key.clone(), record.clone())).collect();
        match result {
            Ok(found) => assert_eq!(found, expected, "scan"),
            Err(Error::Corrupt { .. }) => assert!(self.may_misread(), "corrupt without damage"),
            Err(error) => self.failed(&error),
        }
    }

    fn checkpoint(&mut self) {
        if !self.how.keeps() {
            return;
        }
        self.ids += 1;
        let dir = format!("copy{}", self.ids);
        match self.engine().checkpoint(&dir) {
            Ok(lsn) => {
                assert_eq!(lsn.0, self.lsn());
                (self.flushed, self.durable) = (lsn.0, lsn.0);
                let opened = self.how.open(&self.disk, &dir);
                match opened.and_then(|(mut copy, _)| read_all(&mut *copy, b"", 5)) {
                    Ok(found) if !self.rotten => {
                        assert_eq!(found.into_iter().collect::<Map>(), *self.now(), "copy");
                    }
                    Ok(_) => {}
                    Err(Error::Corrupt { .. }) => assert!(self.may_misread()),
                    Err(Error::Disk(_)) => {}
                    Err(error) => panic!("unexpected: {error}"),
                }
            }
            Err(Error::Corrupt { .. }) => assert!(self.may_misread(), "corrupt without damage"),
            Err(error) if error.is_refusal() => {}
            Err(error) => self.failed(&error),
        }
    }

    fn fault(&mut self, after: u8, cut: Option<u8>, power: bool) {
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
    fn die(&mut self, fates: Option<&[AnyFate]>) {
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

    fn rot(&mut self, rot: Rot) {
        let Ok(files) = self.disk.list(DIR) else { return };
        let Some(file) = files.get(usize::from(rot.file) % files.len().max(1)) else { return };
        let path = format!("{DIR}/{file}");
        let len = self.disk.content(&path).map_or(0, |content| content.len() as u64);
        if len > 0 {
            self.disk.flip_bit(&path, u64::from(rot.byte) % len, rot.bit % 8);
            self.rotten = true;
        }
    }

    fn open(&mut self) {
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

    fn recovered(&mut self, found: Map, opened: &Opened) {
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
    fn start_anew(&mut self) {
        self.engine = None;
        self.disk = MemDisk::new();
        self.after = vec![Map::new()];
        self.ever.clear();
        (self.flushed, self.durable) = (0, 0);
        (self.rotten, self.unsynced) = (false, false);
        self.open();
    }
}

fn key(number: u8) -> Bytes {
    let number = number % 24;
    Bytes::from(vec![number; 1 + usize::from(number % 5)])
}

fn read_all(
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
