//! A node is away while much is written, loses its directory, or has a bit of it flipped: by itself it becomes equal to the others.
//!
//! Judged by the hash trees of all nodes, and by reading every key at level `one` from every node. Of three nodes each has a copy of
//! everything, and answers from its own.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::clients;
use crate::cluster::Cluster;
use crate::faults;
use crate::views;

/// How long after its return a node may differ.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);
/// Clients that write and read at the same time.
const AT_ONCE: u64 = 8;
/// Who is struck.
const STRUCK: usize = 2;

/// Strikes in all three ways, with so many keys written each time. Answers what was wrong.
pub(crate) fn strike(cluster: &mut Cluster, keys: u64) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    write_all(cluster, 0..keys)?;

    cluster.kill(STRUCK)?;
    write_all(cluster, keys..2 * keys)?;
    cluster.run(STRUCK)?;
    wrong.extend(equal(cluster, "away during the writes", 2 * keys)?);

    cluster.kill(STRUCK)?;
    cluster.wipe(STRUCK)?;
    wrong.extend(faults::anew(cluster, STRUCK)?);
    wrong.extend(equal(cluster, "its directory was lost", 2 * keys)?);

    cluster.kill(STRUCK)?;
    let flipped = flip(&cluster.data(STRUCK), &value(7))?;
    println!("a bit of {} is flipped", flipped.display());
    cluster.run_anew(STRUCK)?;
    wrong.extend(equal(cluster, "a bit was flipped", 2 * keys)?);
    Ok(wrong)
}

/// Waits until all trees are equal, and reads all keys from each node; answers what is wrong.
fn equal(cluster: &mut Cluster, what: &str, keys: u64) -> io::Result<Option<String>> {
    let back = Instant::now();
    cluster.wait_ready(EQUAL_WITHIN)?;
    if let Some(differs) = views::become_equal(cluster, back, EQUAL_WITHIN)? {
        return Ok(Some(format!("{what}: {differs}")));
    }
    println!("{what}: equal {:.1?} after the start", back.elapsed());
    let wrong: u64 = (0..cluster.len()).map(|at| each(0..keys, |key| read(cluster, at, key))).sum();
    Ok((wrong > 0).then(|| format!("{what}: {wrong} reads at one did not tell what was written")))
}

/// Does this for every key, some at a time. Answers how often it went wrong.
fn each(keys: Range<u64>, does: impl Fn(u64) -> bool + Sync) -> u64 {
    let wrong = |first| keys.clone().filter(|key| key % AT_ONCE == first && !does(*key)).count();
    thread::scope(|scope| {
        let wrong = &wrong;
        let threads: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || wrong(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics") as u64).sum()
    })
}

fn value(key: u64) -> String {
    format!("value-{key:08}-of-a-node-that-was-away")
}

/// Writes all of these; each must be acknowledged.
fn write_all(cluster: &Cluster, keys: Range<u64>) -> io::Result<()> {
    match each(keys, |key| write(cluster, 0, key)) {
        0 => Ok(()),
        refused => Err(io::Error::other(format!("{refused} writes were not acknowledged"))),
    }
}

fn write(cluster: &Cluster, at: usize, key: u64) -> bool {
    let line = format!("PUT /v1/kv/default/k{key}");
    let put = || clients::ask(&cluster.addresses()[at], &line, "", value(key).as_bytes());
    // The value is the same each time, so that it may be written twice.
    (0..10).any(|_| matches!(put(), Ok((200 | 204, _))))
}

fn read(cluster: &Cluster, at: usize, key: u64) -> bool {
    let line = format!("GET /v1/kv/default/k{key}?consistency=one");
    let got = clients::ask(&cluster.addresses()[at], &line, "", b"");
    matches!(got, Ok((200, body)) if body == value(key).as_bytes())
}

/// Flips a bit in the first file below `dir` that holds `text`, in the midst of it.
fn flip(dir: &Path, text: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Ok(flipped) = flip(&path, text) {
                return Ok(flipped);
            }
            continue;
        }
        let mut bytes = fs::read(&path)?;
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            bytes[at + text.len() / 2] ^= 1;
            return fs::write(&path, bytes).map(|()| path);
        }
    }
    Err(io::Error::other(format!("{text} is in no file below {}", dir.display())))
}
