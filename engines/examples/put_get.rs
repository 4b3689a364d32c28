//! Puts, gets, scans and opens of many small records on the real disk, for our own numbers:
//! `cargo run --release -p engines --example put_get -- --engine lsm`.
//!
//! Background work runs beside the writes, as a node lets it: a step of a megabyte after some writes, with the syncs it asks for. The
//! last lines say what the disk took and the most memory that the process had.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures time")]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use rondo_core::engine::{Batch, Change, Engine, Lookup, Opening, Progress, Scale};
use rondo_core::env::DiskDone;
use rondo_core::id::SyncId;
use rondo_engines::kind::EngineKind;
use rondo_engines::os_disk::OsDisk;

/// So many writes between two steps of background work, and so many times that when there was none.
const WRITES_PER_STEP: u64 = 256;
const REST: u64 = 32;

/// Measures an engine.
#[derive(Parser)]
struct Options {
    /// The engine.
    #[arg(long, default_value_t = EngineKind::Bitcask)]
    engine: EngineKind,
    /// How many keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Where, instead of a temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// An engine with what a node does for it.
struct Node {
    engine: Box<dyn Engine>,
    done: Receiver<DiskDone>,
    syncs: u64,
    is_syncing: bool,
    writes: u64,
    next_step: u64,
    slowest_us: u128,
    refused: u64,
}

fn main() {
    let options = Options::parse();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = options.dir.unwrap_or(temporary.path().to_owned());
    let (tell, done): (Sender<DiskDone>, _) = channel();
    let tell = Mutex::new(tell);
    let tell = Arc::new(move |what| drop(tell.lock().expect("whole").send(what)));
    let disk = Arc::new(OsDisk::open(&root, tell).expect("a directory"));
    let (keys, bytes) = (options.keys, options.bytes);
    let engine = open(&disk, options.engine);
    let kind = options.engine;
    let (syncs, is_syncing, writes, next_step) = (0, false, 0, WRITES_PER_STEP);
    let (slowest_us, refused) = (0, 0);
    let mut node = Node { engine, done, syncs, is_syncing, writes, next_step, slowest_us, refused };

    let user = keys * (16 + bytes as u64);
    let written = written_bytes();
    timed("put, new keys in random order", keys, || node.put(keys, bytes, scatter(keys)));
    node.settle();
    println!("{:34} {:.2}", "write amplification", amplification(written, user));
    let written = written_bytes();
    timed("put, overwriting", keys, || node.put(keys, bytes, scatter_again(keys)));
    println!("{:34} {} us", "slowest step of background work", node.slowest_us);
    println!("{:34} {}", "writes that had to wait", node.refused);
    timed("scan, 50 rows, before settling", keys / 5, || node.scans(keys, keys / 250));
    timed("background work until none is left", keys, || node.settle());
    println!("{:34} {:.2}", "write amplification", amplification(written, user));
    for _ in 0..2 {
        timed("get, present", keys, || node.get(keys, scatter(keys), true));
    }
    timed("get, absent", keys, || node.get(keys, |n| n + keys, false));
    timed("scan, 50 rows", keys / 5, || node.scans(keys, keys / 250));
    timed("scan of all, pages of 100", keys, || node.scan_all());
    let stats = node.engine.stats();
    println!("{:34} {:.2}", "bytes on disk for a live one", stats.disk_bytes as f64 / user as f64);
    println!("{:34} {:.1}", "index bytes for a key", stats.index_bytes as f64 / keys as f64);
    timed("put, handed over one by one", keys / 4, || node.put_each(keys / 4, bytes));
    node.engine = EngineKind::Memory.open_in_memory(&how()).expect("it keeps nothing").0;
    node.engine = timed("open after a kill", keys, || open(&disk, kind));
    node.engine.close().expect("it closes");
    node.engine = timed("open after closing", keys, || open(&disk, kind));
    timed("get, present, just opened", keys, || node.get(keys, scatter(keys), true));
    println!("{:34} {} MiB", "most memory of the process", peak_mib());
}

fn how() -> Opening {
    Opening { salt: 7, scale: Scale::Disk, accept_losses: false, held: Vec::new() }
}

fn open(disk: &Arc<OsDisk>, kind: EngineKind) -> Box<dyn Engine> {
    kind.open(Arc::clone(disk), "store", &how()).expect("it opens").0
}

/// Visits each number below `keys` once, in an order that jumps about.
fn scatter(keys: u64) -> impl Fn(u64) -> u64 {
    move |n| (n * 611_953 + 17) % keys
}

/// As `scatter`, in another order.
fn scatter_again(keys: u64) -> impl Fn(u64) -> u64 {
    move |n| (n * 777_923 + 5) % keys
}

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"k0000000........";
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// A value that does not compress, and says whose it is.
fn value(n: u64, bytes: usize) -> Bytes {
    let mut state = n | 1;
    let mut next = || {
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

impl Node {
    fn write(&mut self, n: u64, value: Bytes) {
        let key = Bytes::copy_from_slice(&key(n));
        let body = [value].into_iter().collect();
        let change = Change::Put { key, head: Bytes::new(), body, delta: 0 };
        let batch = Batch { changes: [change].into_iter().collect() };
        while let Err(error) = self.engine.write(&batch) {
            // It has to wait for background work, or for the device.
            assert!(error.is_refusal(), "{error}");
            self.refused += 1;
            self.step();
            if self.is_syncing {
                let done = self.done.recv().expect("the disk lives");
                self.take(done);
            }
        }
        self.writes += 1;
        if self.writes >= self.next_step {
            let progress = self.step();
            let pause = if progress.more { WRITES_PER_STEP } else { REST * WRITES_PER_STEP };
            self.next_step = self.writes + pause;
        }
    }

    /// Takes what the device has done, and lets the engine work.
    fn step(&mut self) -> Progress {
        while let Ok(done) = self.done.try_recv() {
            self.take(done);
        }
        self.engine.flush().expect("it flushes");
        let start = Instant::now();
        let progress = self.engine.maintain(1 << 20).expect("it works");
        self.slowest_us = self.slowest_us.max(start.elapsed().as_micros());
        if progress.waits_for.is_some() && !self.is_syncing {
            self.start_sync();
        }
        progress
    }

    fn start_sync(&mut self) {
        self.syncs += 1;
        self.is_syncing = self.engine.start_sync(SyncId(self.syncs)).expect("it starts").is_some();
    }

    fn take(&mut self, done: DiskDone) {
        if let DiskDone::Synced { id, result } = done {
            self.is_syncing = false;
            self.engine.synced(id, result).expect("it is durable");
        }
    }

    fn settle(&mut self) {
        loop {
            let progress = self.step();
            if self.is_syncing {
                let done = self.done.recv().expect("the disk lives");
                self.take(done);
            } else if !progress.more && progress.waits_for.is_none() {
                return;
            }
        }
    }

    fn put(&mut self, keys: u64, bytes: usize, order: impl Fn(u64) -> u64) {
        let value = value(7, bytes + 4096);
        for n in 0..keys {
            let at = (n % 4096) as usize;
            self.write(order(n), value.slice(at..at + bytes));
        }
        self.engine.flush().expect("it flushes");
    }

    fn put_each(&mut self, keys: u64, bytes: usize) {
        let value = value(9, bytes);
        for n in 0..keys {
            self.write(scatter(keys)(n), value.clone());
            self.engine.flush().expect("it flushes");
        }
    }

    fn get(&mut self, keys: u64, order: impl Fn(u64) -> u64, present: bool) {
        let (mut cold, mut hits) = (0, 0);
        for n in 0..keys {
            match self.engine.get(&key(order(n))).expect("it reads") {
                Lookup::Hit(_) => hits += 1,
                Lookup::Cold(_) => cold += 1,
                Lookup::Miss => {}
            }
        }
        assert_eq!(hits + cold, if present { keys } else { 0 });
    }

    /// So many pages of fifty, each from somewhere.
    fn scans(&mut self, keys: u64, count: u64) {
        for n in 0..count {
            let page = self.engine.scan_from(&key(scatter(keys)(n)), 50, 1 << 20);
            assert!(!page.expect("it scans").records.is_empty());
        }
    }

    fn scan_all(&mut self) {
        let mut from = Bytes::new();
        while let Some(next) = self.engine.scan_from(&from, 100, 1 << 20).expect("it scans").next {
            from = next;
        }
    }
}

fn timed<T>(what: &str, count: u64, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    let took = start.elapsed();
    let rate = count as f64 / took.as_secs_f64() / 1e3;
    println!("{what:34} {:9.1} ms {rate:9.0} k/s", took.as_secs_f64() * 1e3);
    result
}

fn amplification(before: u64, user: u64) -> f64 {
    (written_bytes() - before) as f64 / user as f64
}

/// What this process has handed to the operating system, in bytes.
fn written_bytes() -> u64 {
    field("/proc/self/io", "wchar:")
}

fn peak_mib() -> u64 {
    field("/proc/self/status", "VmHWM:") / 1024
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
