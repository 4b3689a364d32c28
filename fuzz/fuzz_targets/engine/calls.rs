//! Each call of the engine, and what its answer has to be.

use std::io;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Lookup, Record};
use rondo_core::env::DiskDone;
use rondo_core::error::Error;
use rondo_core::id::{ReadId, SyncId};

use crate::input::{AnyChange, Step, key};
use crate::world::{Map, World, read_all};

impl World {
    pub(crate) fn step(&mut self, step: &Step) {
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
}
