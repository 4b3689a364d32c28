//! An engine beside the memory engine, which is the model: after each step both say the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use rondo_core::engine::{Batch, Compared, Engine, LogPlace, Logged, Lookup, MemoryEngine, Replay};
use rondo_core::env::DiskDone;
use rondo_core::error::{Error, Result};
use rondo_core::id::{Lsn, SyncId};
use rondo_engines::kind::EngineKind;
use rondo_engines::mem_disk::MemDisk;

use crate::subject::{How, open};
use crate::workload::{KEYS, Step, change, key};

pub(crate) type Snapshot = BTreeMap<Bytes, (Bytes, Bytes)>;

pub(crate) fn snapshot(engine: &mut dyn Engine) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    let mut from = Bytes::new();
    loop {
        let page = engine.scan_from(&from, 3, 1 << 20)?;
        for (key, record) in page.records {
            found.insert(key, (record.head, record.body));
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(found),
        }
    }
}

/// All that is told of the log behind a place; `None` when it is gone.
pub(crate) fn replayed(
    engine: &mut dyn Engine,
    from: LogPlace,
    bytes: u64,
) -> Result<Option<Vec<Logged>>> {
    let (mut all, mut from) = (Vec::new(), Some(from));
    while let Some(at) = from {
        match engine.replay(at, bytes)? {
            Replay::Page { changes, next } => {
                assert!(next.is_none_or(|next| next.after >= at.after && next != at), "{next:?}");
                all.extend(changes);
                from = next;
            }
            Replay::Gone => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// An engine beside its model, and the model's state after each batch.
pub(crate) struct Pair {
    pub(crate) disk: MemDisk,
    pub(crate) how: How,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) model: MemoryEngine,
    pub(crate) history: Vec<Snapshot>,
    pub(crate) durable: usize,
    pub(crate) serial: u64,
    pub(crate) syncs: u64,
}

impl Pair {
    pub(crate) fn new(disk: MemDisk, how: How) -> Result<Pair> {
        let (engine, _) = open(&disk, how)?;
        // From here on no step but the last may wait for the device.
        disk.forbid_waiting(true);
        Ok(Pair {
            disk,
            how,
            engine,
            model: MemoryEngine::new(),
            history: vec![Snapshot::new()],
            durable: 0,
            serial: 0,
            syncs: 0,
        })
    }

    /// Lsns are the number of the batch, because both engines count from 1.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Write(changes) => {
                self.serial += 1;
                let serial = self.serial;
                let changes = changes.iter().map(|(n, len)| change(serial, *n, *len)).collect();
                let batch = Batch { changes };
                // What fails may have happened: the history has it either way.
                self.model.write(&batch)?;
                self.history.push(snapshot(&mut self.model)?);
                let lsn = self.engine.write(&batch)?;
                assert_eq!(lsn, Lsn(self.history.len() as u64 - 1), "Lsns are dense");
            }
            Step::Flush => self.engine.flush()?,
            Step::StartSync => {
                self.syncs += 1;
                match self.engine.start_sync(SyncId(self.syncs)) {
                    Err(Error::Busy(_)) => self.syncs -= 1,
                    other => drop(other?),
                }
            }
            Step::EndSync => self.end_sync()?,
            Step::Maintain(budget) => {
                self.engine.maintain(*budget)?;
                self.engine.invariants();
            }
            Step::Scan(from, limit) => {
                let from = key(*from);
                let page = self.engine.scan_from(&from, *limit, 300)?;
                assert_eq!(page, self.model.scan_from(&from, *limit, 300)?);
                let heads = self.engine.scan_heads(&from, *limit, 30)?;
                assert_eq!(heads, self.model.scan_heads(&from, *limit, 30)?);
                assert!(heads.records.iter().all(|(_, record)| record.body.is_empty()));
            }
            Step::DeleteRange(from, to, limit) => {
                let (from, to) = (key(*from), key(*to));
                let expected = self.model.delete_range(&from, &to, *limit)?;
                if expected.lsn.is_some() {
                    self.history.push(snapshot(&mut self.model)?);
                }
                assert_eq!(self.engine.delete_range(&from, &to, *limit)?, expected);
            }
            Step::Replay(back, bytes) => self.replay(*back, *bytes)?,
            Step::DeleteIfEqual(n, is_equal, with) => self.delete_if_equal(*n, *is_equal, *with)?,
            Step::Reopen => {
                self.disk.forbid_waiting(false);
                self.engine.close()?;
                self.durable = self.history.len() - 1;
                self.open()?;
                assert_eq!(self.engine.durable(), Lsn(self.durable as u64));
            }
            Step::Kill => {
                self.engine.flush()?;
                self.disk.kill();
                self.open()?;
            }
        }
        Ok(())
    }

    pub(crate) fn delete_if_equal(&mut self, n: u8, is_equal: bool, with: u8) -> Result<()> {
        self.serial += 1;
        let found = self.model.head(&key(n))?;
        let head = match found {
            Lookup::Hit(record) if is_equal => record.head,
            _ => Bytes::from_static(b"a head that nobody has"),
        };
        let with = Batch { changes: [change(self.serial, with, Some(9))].into_iter().collect() };
        let expected = self.model.delete_if_equal(&key(n), &head, self.serial, &with)?;
        if matches!(expected, Compared::Deleted(_)) {
            self.history.push(snapshot(&mut self.model)?);
        }
        assert_eq!(self.engine.delete_if_equal(&key(n), &head, self.serial, &with)?, expected);
        Ok(())
    }

    pub(crate) fn replay(&mut self, back: u64, bytes: u64) -> Result<()> {
        let from = LogPlace::after(Lsn((self.history.len() as u64 - 1).saturating_sub(back)));
        let expected = replayed(&mut self.model, from, u64::MAX)?.expect("it remembers so many");
        match replayed(&mut *self.engine, from, bytes)? {
            Some(found) => assert_eq!(found, expected),
            None => {
                let first = if matches!(self.how, How::Any(EngineKind::Lsm)) { 2 } else { 1 };
                let path = format!("store/000000000{first}.data");
                assert!(self.disk.content(&path).is_none(), "its first log is still there");
            }
        }
        Ok(())
    }

    pub(crate) fn end_sync(&mut self) -> Result<()> {
        for done in self.disk.run_pending() {
            let DiskDone::Synced { id, result } = done else { panic!("only syncs are started") };
            let durable = self.engine.synced(id, result)?;
            assert_eq!(durable, self.engine.durable());
            self.durable = self.durable.max(durable.0 as usize);
        }
        Ok(())
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.disk.kill();
        let (engine, opened) = open(&self.disk, self.how)?;
        self.engine = engine;
        if !opened.keeps {
            (self.model, self.history) = (MemoryEngine::new(), vec![Snapshot::new()]);
        }
        assert_eq!(opened.lost, [], "nothing is lost on a disk that loses nothing");
        assert_eq!(opened.last, Lsn(self.history.len() as u64 - 1));
        self.durable = self.history.len() - 1;
        self.disk.forbid_waiting(true);
        Ok(())
    }

    pub(crate) fn check(&mut self) {
        let expected = self.history.last().expect("there is a first state");
        assert_eq!(&snapshot(&mut *self.engine).unwrap(), expected);
        for n in 0..KEYS {
            let found = self.engine.get(&key(n)).unwrap();
            assert_eq!(found, self.model.get(&key(n)).unwrap(), "{:?}", key(n));
            match (found, self.engine.head(&key(n)).unwrap()) {
                (Lookup::Hit(all), Lookup::Hit(head)) => {
                    assert_eq!((all.lsn, all.head), (head.lsn, head.head));
                }
                (Lookup::Miss, Lookup::Miss) => {}
                other => panic!("{other:?}"),
            }
        }
        let stats = self.engine.stats();
        assert_eq!(stats.records, expected.len() as u64);
        let own = expected.iter().filter(|(key, _)| key.first() == Some(&0)).count();
        assert_eq!(stats.own_records, own as u64);
        assert!(stats.files == 0 || stats.live_bytes <= stats.disk_bytes, "{stats:?}");
    }
}

pub(crate) fn sync_all(disk: &MemDisk, engine: &mut dyn Engine) {
    engine.start_sync(SyncId(1)).unwrap();
    for done in disk.run_pending() {
        let DiskDone::Synced { id, result } = done else { panic!("only a sync was started") };
        engine.synced(id, result).unwrap();
    }
}

/// Maintains, with the syncs that this asks for, until nothing more is done.
pub(crate) fn maintain_all(disk: &MemDisk, engine: &mut dyn Engine) {
    for _ in 0..1000 {
        let progress = engine.maintain(1 << 20).unwrap();
        if progress.waits_for.is_some() {
            sync_all(disk, engine);
        } else if !progress.more {
            return;
        }
    }
    panic!("background work never ends");
}
