//! What must hold of a disk that has lost power: five sentences, each tried on a copy of it.
//!
//! 1. The store opens, calls nothing lost, and holds a state that was expected: a prefix of the writes
//!    with everything that was synced.
//! 2. What was found is durable: another power loss right after the opening changes nothing.
//! 3. It takes writes again, and those that are synced survive, although Lsns are given again, everything
//!    that can be made anew is gone, and something was cut off before.
//! 4. Background work changes nothing, and neither does a power loss after it.
//! 5. A checkpoint that had returned is a store with the content of its moment.

use bytes::Bytes;
use rondo_core::engine::{Batch, Engine, Lookup};
use rondo_core::error::Error;
use rondo_core::id::SyncId;
use rondo_engines::mem_disk::MemDisk;

use crate::subject::Subject;
use crate::workload::{Content, DIR, Expected, after, delete, maintain, put};

/// Holds a disk that has just lost power against the five sentences.
pub(crate) fn check(subject: Subject, disk: &MemDisk, expected: &Expected) -> Result<(), String> {
    let disk = disk.fork();
    let (_, found) = open(subject, &disk, DIR)?;
    if !expected.states.contains(&found) {
        return Err(format!("found {}, expected {}", brief(&found), all(&expected.states)));
    }
    disk.crash_lose_all();
    let (mut engine, again) = open(subject, &disk, DIR)?;
    same("after a second power loss", &found, &again)?;

    let last = engine.durable();
    let mut written = found;
    for changes in [vec![put("a", 900, 0)], vec![put("c", 901, 0), delete("b")]] {
        let lsn = engine.write(&Batch { changes: changes[..].into() }).map_err(failed("write"))?;
        if lsn <= last {
            return Err(format!("{lsn:?} was given to a write after {last:?} was durable"));
        }
        written = after(&written, &changes);
    }
    engine.start_sync(SyncId(1_000_000)).map_err(failed("start_sync"))?;
    for done in disk.run_pending() {
        if let rondo_core::env::DiskDone::Synced { id, result } = done {
            engine.synced(id, result).map_err(failed("synced"))?;
        }
    }
    disk.crash_lose_all();
    subject.forget(&disk);
    if !subject.keeps() {
        written.clear();
    }
    let (mut engine, now) = open(subject, &disk, DIR)?;
    same("after writes that were synced", &written, &now)?;

    maintain(&mut *engine).map_err(failed("maintain"))?;
    same("after background work", &written, &read(&mut *engine)?)?;
    disk.crash_lose_all();
    let (_, now) = open(subject, &disk, DIR)?;
    same("after background work and a power loss", &written, &now)?;

    for (dir, content) in &expected.copies {
        let (_, copy) = open(subject, &disk, dir)?;
        same("in a checkpoint", content, &copy)?;
    }
    Ok(())
}

fn open(subject: Subject, disk: &MemDisk, dir: &str) -> Result<(Box<dyn Engine>, Content), String> {
    let (mut engine, lost) = subject.open(disk, dir).map_err(failed("open"))?;
    if !lost.is_empty() {
        return Err(format!("called lost although it was never damaged: {lost:?}"));
    }
    let content = read(&mut *engine)?;
    Ok((engine, content))
}

/// Everything in an engine, by scan, by `get` and by `head`, which must agree.
fn read(engine: &mut dyn Engine) -> Result<Content, String> {
    let page = engine.scan_from(b"", 10, 1 << 20).map_err(failed("scan"))?;
    let records = page.records.into_iter().map(|(key, r)| (key, (r.head, r.body)));
    let content: Content = records.collect();
    for key in ["a", "b", "c"] {
        let scanned = content.get(key.as_bytes());
        let got = engine.get(key.as_bytes()).map_err(failed("get"))?;
        let head = engine.head(key.as_bytes()).map_err(failed("head"))?;
        let agree = match (scanned, &got, &head) {
            (Some((head, body)), Lookup::Hit(got), Lookup::Hit(part)) => {
                *head == got.head && *body == got.body && *head == part.head
            }
            (None, Lookup::Miss, Lookup::Miss) => true,
            _ => false,
        };
        if !agree {
            return Err(format!(
                "a scan, a get and a head of {key:?} differ: {scanned:?}, {got:?}"
            ));
        }
    }
    Ok(content)
}

fn same(when: &str, expected: &Content, found: &Content) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{when}: found {}, expected {}", brief(found), brief(expected)))
}

fn failed(what: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{what} failed: {error}")
}

fn all(states: &[Content]) -> String {
    states.iter().map(brief).collect::<Vec<_>>().join(" or ")
}

/// Keys with their heads, which name the writes.
fn brief(content: &Content) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let entry =
        |(key, (head, _)): (&Bytes, &(Bytes, Bytes))| format!("{}={}", text(key), text(head));
    format!("{{{}}}", content.iter().map(entry).collect::<Vec<_>>().join(" "))
}
