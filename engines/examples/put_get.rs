//! Puts, gets and opens of a million small records on the real disk, for our own numbers:
//! `cargo run --release -p engines --example put_get [keys] [value bytes] [directory]`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine, Lookup};
use rondo_engines::bitcask::{Bitcask, Options};
use rondo_engines::os_disk::OsDisk;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number =
        |default: u64| args.next().map_or(default, |arg| arg.parse().expect("a number"));
    let keys = number(1_000_000);
    let bytes = number(100) as usize;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = args.next().map_or(temporary.path().to_owned(), PathBuf::from);
    let disk = Arc::new(OsDisk::open(&root, Arc::new(|_| {})).expect("a directory"));
    let open = || Bitcask::open(Arc::clone(&disk), "store", Options::new(7)).expect("it opens").0;

    let mut engine = open();
    timed("put, new keys", keys, || put(&mut engine, keys, bytes, |n| n));
    timed("put, overwriting in random order", keys, || {
        put(&mut engine, keys, bytes, scatter(keys))
    });
    timed("get, present", keys, || get(&mut engine, keys, scatter(keys), true));
    timed("get, absent", keys, || get(&mut engine, keys, |n| n + keys, false));
    let mut slowest = 0_u128;
    let mut steps = 0;
    timed("merge", keys, || {
        loop {
            engine.flush().expect("it flushes");
            let start = Instant::now();
            let progress = engine.maintain(1 << 20).expect("it compacts");
            slowest = slowest.max(start.elapsed().as_micros());
            steps += 1;
            if !progress.more {
                break;
            }
        }
    });
    println!("{steps} steps of maintenance, the slowest took {slowest} us");
    timed("scan, pages of 100", keys, || scan(&mut engine));
    println!("{:#?}", engine.stats());
    drop(engine);
    let mut engine = timed("open after a kill", keys, open);
    engine.close().expect("it closes");
    drop(engine);
    let mut engine = timed("open after closing", keys, open);
    timed("get, present", keys, || get(&mut engine, keys, scatter(keys), true));
    println!("index: {:.1} B/key", engine.stats().index_bytes as f64 / keys as f64);
}

/// Visits each number below `keys` once, in an order that jumps about.
fn scatter(keys: u64) -> impl Fn(u64) -> u64 {
    move |n| (n * 611_953 + 17) % keys
}

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"k0000000........";
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn put(engine: &mut dyn Engine, keys: u64, bytes: usize, order: impl Fn(u64) -> u64) {
    let value = Bytes::from(vec![0xA5; bytes]);
    for n in 0..keys {
        let key = Bytes::copy_from_slice(&key(order(n)));
        let body = [value.clone()].into_iter().collect();
        let change = Change::Put { key, head: Bytes::new(), body, delta: 0 };
        engine.write(&Batch { changes: [change].into_iter().collect() }).expect("it writes");
    }
    engine.flush().expect("it flushes");
}

fn get(engine: &mut dyn Engine, keys: u64, order: impl Fn(u64) -> u64, present: bool) {
    let (mut cold, mut hits) = (0, 0);
    for n in 0..keys {
        match engine.get(&key(order(n))).expect("it reads") {
            Lookup::Hit(_) => hits += 1,
            Lookup::Cold(_) => cold += 1,
            Lookup::Miss => {}
        }
    }
    assert_eq!(hits + cold, if present { keys } else { 0 });
    if cold > 0 {
        println!("{cold} of {keys} reads would have waited for the device");
    }
}

fn scan(engine: &mut dyn Engine) {
    let mut from = Bytes::new();
    while let Some(next) = engine.scan_from(&from, 100, 1 << 20).expect("it scans").next {
        from = next;
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
