//! What the commands of a script do with a store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opened};
use rondo_core::env::{Disk, DiskDone};
use rondo_core::id::SyncId;
use rondo_engines::mem_disk::{Fate, Fault, MemDisk, Op};
use rondo_engines::{bitcask, lsm};

use crate::dump;
use crate::format::Scene;

const DIR: &str = "data";
/// The salt of every store here: scripts print the same always.
const SALT: u64 = 2;

/// An engine, and what was found.
type Started = rondo_core::error::Result<(Box<dyn Engine>, Opened)>;

/// A disk, and the store that is open on it.
pub(crate) struct Store {
    disk: MemDisk,
    opens: fn(Arc<MemDisk>, &Chosen) -> Started,
    engine: Option<Box<dyn Engine>>,
    syncs: u64,
    calls: Arc<Mutex<String>>,
    /// So many calls more that change the disk, and the next fails.
    fails_after: Arc<Mutex<Option<(u64, Fault)>>>,
}

/// How a store is opened.
struct Chosen {
    file_bytes: u64,
    allocate_bytes: u64,
    accept_losses: bool,
}

pub(crate) fn bitcask() -> Store {
    Store::of(|disk, chosen| {
        let options = bitcask::Options {
            file_bytes_max: chosen.file_bytes,
            allocate_bytes: chosen.allocate_bytes,
            compact_dead_percent: 10,
            compact_dead_bytes_min: 1,
            accept_losses: chosen.accept_losses,
            ..bitcask::Options::new(SALT)
        };
        let (engine, opened) = bitcask::Bitcask::open(disk, DIR, options)?;
        Ok((Box::new(engine), opened))
    })
}

pub(crate) fn lsm() -> Store {
    Store::of(|disk, chosen| {
        let options = lsm::Options {
            memtable_bytes_max: chosen.file_bytes as usize,
            table_bytes_max: chosen.file_bytes,
            level_bytes: 4 * chosen.file_bytes,
            block_bytes: 128,
            young_tables: 2,
            allocate_bytes: chosen.allocate_bytes,
            replay_bytes: 0,
            accept_losses: chosen.accept_losses,
            ..lsm::Options::new(SALT)
        };
        let (engine, opened) = lsm::Lsm::open(disk, DIR, options)?;
        Ok((Box::new(engine), opened))
    })
}

impl Scene for Store {
    fn run(&mut self, command: &str) -> Result<String, String> {
        self.listen();
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let told = match name {
            "open" => self.open(&words)?,
            "put" | "delete" | "batch" => self.write(command)?,
            "get" | "scan" => self.read(name, &words)?,
            "sync" | "start-sync" | "end-sync" | "fail-sync" => self.sync(name)?,
            "flush" => said(self.engine()?.flush().map(|()| String::new())),
            "maintain" => self.maintain()?,
            "close" => {
                let closed = self.engine()?.close().map(|()| "closed\n".to_owned());
                self.engine = None;
                said(closed)
            }
            "kill" | "crash" => self.lose(name, &words)?,
            "fail-after" => {
                let calls = number(words.first().copied().unwrap_or_default())?;
                let fault = match words.get(1) {
                    Some(&"full") => Fault::Fail(io::ErrorKind::StorageFull),
                    Some(&"power") => Fault::PowerOff,
                    _ => Fault::Fail(io::ErrorKind::Other),
                };
                *self.fails_after.lock().unwrap() = Some((calls, fault));
                String::new()
            }
            "flip" | "remove" | "cut" => self.damage(name, &words)?,
            "dump" => self.dump(),
            _ => return Err("there is no such command".to_owned()),
        };
        self.tell(&told);
        Ok(std::mem::take(&mut *self.calls.lock().unwrap()))
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn said(result: rondo_core::error::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error: {error}\n"))
}

/// A file by its number, as scripts name it: `1.data`.
fn path(name: &str) -> String {
    let (number, extension) = name.split_once('.').unwrap_or((name, "data"));
    format!("{DIR}/{number:0>10}.{extension}")
}

/// What `path` makes long, short again.
fn short(path: &str) -> String {
    match path {
        "" => "the root".to_owned(),
        DIR => "the directory".to_owned(),
        path => path.rsplit('/').next().unwrap_or(path).trim_start_matches('0').to_owned(),
    }
}

fn call(path: &str, op: &Op) -> Option<String> {
    let file = short(path);
    Some(match op {
        Op::CreateDir => format!("makes {file}"),
        Op::Create => format!("creates {file}"),
        Op::Link => format!("links {file}"),
        Op::Rename => format!("renames to {file}"),
        Op::Remove => format!("removes {file}"),
        Op::SyncDir => format!("syncs {file}"),
        Op::Write { offset, len } => format!("writes {file}, {len} bytes at {offset}"),
        Op::SetLen(len) => format!("cuts {file} to {len} bytes"),
        Op::Allocate(len) => format!("allocates {file} up to {len}"),
        Op::Sync => format!("syncs {file}"),
        Op::Open | Op::List | Op::Len | Op::Read | Op::Space => return None,
    })
}

impl Store {
    fn of(opens: fn(Arc<MemDisk>, &Chosen) -> Started) -> Store {
        let (disk, calls, fails_after) = (MemDisk::new(), Arc::default(), Arc::default());
        Store { disk, opens, engine: None, syncs: 0, calls, fails_after }
    }

    /// Tells of every call that changes the disk.
    fn listen(&mut self) {
        let (calls, fails_after) = (Arc::clone(&self.calls), Arc::clone(&self.fails_after));
        self.disk.set_fault_hook(move |_, path, op| {
            let told = call(path, op)?;
            let mut fails_after = fails_after.lock().unwrap();
            let fault = match &mut *fails_after {
                Some((0, fault)) => Some(*fault),
                Some((calls, _)) => {
                    *calls -= 1;
                    None
                }
                None => None,
            };
            let how = if fault.is_some() { ": fails" } else { "" };
            writeln!(calls.lock().unwrap(), "  {told}{how}").unwrap();
            if fault.is_some_and(|fault| fault != Fault::PowerOff) {
                *fails_after = None;
            }
            fault
        });
    }

    fn tell(&self, lines: &str) {
        self.calls.lock().unwrap().push_str(lines);
    }

    fn engine(&mut self) -> Result<&mut Box<dyn Engine>, String> {
        self.engine.as_mut().ok_or("the store is not open".to_owned())
    }

    /// `open [file=400] [accept]`: files of so many bytes; losses are accepted.
    fn open(&mut self, words: &[&str]) -> Result<String, String> {
        let mut chosen = Chosen { file_bytes: 400, allocate_bytes: 0, accept_losses: false };
        for word in words {
            match word.split_once('=') {
                Some(("file", bytes)) => chosen.file_bytes = number(bytes)?,
                Some(("ahead", bytes)) => chosen.allocate_bytes = number(bytes)?,
                None if *word == "accept" => chosen.accept_losses = true,
                _ => return Err(format!("open knows no {word}")),
            }
        }
        match (self.opens)(Arc::new(self.disk.clone()), &chosen) {
            Ok((engine, Opened { lost, torn_bytes, last, .. })) => {
                let mut told = format!("opened: the last write is {}", last.0);
                if torn_bytes > 0 {
                    write!(told, ", {torn_bytes} bytes were torn").unwrap();
                }
                told.push('\n');
                for lost in &lost {
                    let (file, offset, what) = (short(&lost.file), lost.offset, &lost.what);
                    writeln!(told, "lost: {file} at {offset}: {what}").unwrap();
                }
                self.engine = Some(engine);
                Ok(told)
            }
            Err(error) => Ok(format!("error: {error}\n")),
        }
    }

    /// `put k v [bytes]`, `delete k`, `batch put a 1, delete b`.
    fn write(&mut self, command: &str) -> Result<String, String> {
        let mut batch = Batch::default();
        for change in command.trim_start_matches("batch ").split(", ") {
            let words: Vec<&str> = change.split_whitespace().collect();
            let owned = |word: &str| Bytes::copy_from_slice(word.as_bytes());
            batch.changes.push(match words[..] {
                ["put", key, value] => {
                    let body = [owned(value)].into_iter().collect();
                    Change::Put { key: owned(key), head: Bytes::new(), body, delta: 0 }
                }
                ["put", key, value, times] => {
                    let body = [value.repeat(number(times)?).into()].into_iter().collect();
                    Change::Put { key: owned(key), head: Bytes::new(), body, delta: 0 }
                }
                ["delete", key] => Change::Delete { key: owned(key), delta: 0 },
                _ => return Err(format!("{change} is no change")),
            });
        }
        Ok(said(self.engine()?.write(&batch).map(|lsn| format!("write {}\n", lsn.0))))
    }

    fn read(&mut self, name: &str, words: &[&str]) -> Result<String, String> {
        let engine = self.engine()?;
        if name == "scan" {
            let page = engine.scan_from(&[], 1_000, usize::MAX).map(|page| {
                let line = |(key, record): &(Bytes, rondo_core::engine::Record)| {
                    format!("{} = {}\n", dump::text(key), dump::text(&record.body))
                };
                page.records.iter().map(line).collect::<String>()
            });
            return Ok(said(page));
        }
        let key = words.first().ok_or("get what?")?;
        Ok(said(engine.get(key.as_bytes()).map(|found| match found {
            Lookup::Hit(record) => format!("{key} = {}\n", dump::text(&record.body)),
            Lookup::Miss => format!("{key} is not there\n"),
            Lookup::Cold(_) => format!("{key} is cold\n"),
        })))
    }

    /// `start-sync` and `end-sync` are the two halves of `sync`.
    fn sync(&mut self, name: &str) -> Result<String, String> {
        let mut told = String::new();
        if matches!(name, "sync" | "start-sync") {
            self.syncs += 1;
            let id = SyncId(self.syncs);
            match self.engine()?.start_sync(id) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok("there is nothing to sync\n".to_owned()),
                Err(error) => return Ok(format!("error: {error}\n")),
            }
        }
        if name == "start-sync" {
            return Ok(told);
        }
        let work = self.disk.take_pending();
        if work.is_empty() {
            return Err("no sync runs".to_owned());
        }
        for pending in work {
            let done = match name {
                "fail-sync" => self.disk.fail(pending, io::ErrorKind::Other),
                _ => self.disk.complete(pending),
            };
            let DiskDone::Synced { id, result } = done else {
                return Err("only syncs are started".to_owned());
            };
            let durable = self.engine()?.synced(id, result);
            told += &said(durable.map(|durable| format!("durable {}\n", durable.0)));
        }
        Ok(told)
    }

    /// Background work, with the syncs it waits for, until there is none.
    fn maintain(&mut self) -> Result<String, String> {
        for _ in 0..100 {
            match self.engine()?.maintain(1 << 20) {
                Ok(progress) if progress.waits_for.is_some() => {
                    let told = self.sync("sync")?;
                    self.tell(&told);
                }
                Ok(progress) if progress.more => {}
                Ok(_) => return Ok(String::new()),
                Err(error) => return Ok(format!("error: {error}\n")),
            }
        }
        Err("background work does not end".to_owned())
    }

    /// `kill`: the process ends. `crash [keep N] [torn] [but N]`: the power goes. Of the calls that no sync has covered the first
    /// N reach the device, or all but the N-th (`keep all`, `but 2`), and of the first that does not a sector when it is torn.
    fn lose(&mut self, name: &str, words: &[&str]) -> Result<String, String> {
        self.engine = None;
        *self.fails_after.lock().unwrap() = None;
        if name == "kill" {
            self.disk.kill();
            return Ok(String::new());
        }
        let after = |word: &str| words.iter().position(|at| *at == word).map(|at| words[at + 1]);
        let kept = match after("keep") {
            Some("all") => usize::MAX,
            Some(count) => number(count)?,
            None => 0,
        };
        let but = after("but").map(number::<usize>).transpose()?;
        let is_torn = words.contains(&"torn");
        let mut told = String::new();
        self.disk.crash(&mut |point| {
            let fate = match point.index {
                at if Some(at + 1) == but => Fate::Lost,
                at if at < kept => Fate::Kept,
                at if at == kept && is_torn => Fate::Torn(1),
                _ => Fate::Lost,
            };
            let how = match fate {
                Fate::Kept => "kept",
                Fate::Lost => "lost",
                _ => "torn",
            };
            let what = call(&point.path, &point.op).unwrap_or_default();
            writeln!(told, "{how}: {what}").unwrap();
            fate
        });
        Ok(told)
    }

    /// `flip 1.data 80`: a bit of this byte; `remove 1.data`; `cut 1.data 100`: to so many bytes.
    fn damage(&mut self, name: &str, words: &[&str]) -> Result<String, String> {
        let path = path(words.first().ok_or("which file?")?);
        let disk = &self.disk;
        match name {
            "flip" => disk.flip_bit(&path, number(words.get(1).ok_or("which byte?")?)?, 0),
            "remove" => disk.remove(&path).map_err(|error| error.to_string())?,
            _ => {
                let len = number(words.get(1).ok_or("how long?")?)?;
                let open = disk.open(&path, rondo_core::env::Open::Existing);
                let file = open.map_err(|error| error.to_string())?;
                disk.set_len(&file, len).map_err(|error| error.to_string())?;
            }
        }
        Ok(String::new())
    }

    /// Every file, data files record by record.
    fn dump(&mut self) -> String {
        let mut names = self.disk.list(DIR).unwrap_or_default();
        names.sort();
        let mut files = BTreeMap::new();
        for name in names {
            let bytes = self.disk.content(&format!("{DIR}/{name}")).unwrap_or_default();
            files.insert(name, bytes);
        }
        let mut told = String::new();
        for (name, bytes) in files {
            writeln!(told, "{}, {} bytes", short(&name), bytes.len()).unwrap();
            if name.ends_with(".data") {
                told += &dump::data_file(&bytes);
            }
            if name.ends_with(".list") {
                told += &dump::list(&bytes);
            }
        }
        told
    }
}
