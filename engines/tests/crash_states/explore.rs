//! Every disk that a power loss can leave: each life, each disk operation, each subset of what no sync has
//! covered, and the same again inside the recovery that follows.
//!
//! A life is tried only from the first operation of its last step on: before that it is a shorter life, which
//! is tried for itself. A disk that has been held against the same expectation before is not tried again, so
//! lives that lead to the same bytes cost nothing.
//!
//! Bounds: up to `SUBSETS_OF_MAX` un-synced operations all subsets are tried; beyond it all prefixes, each
//! operation alone, and all but each one. Each write that crosses a sector is also torn at its first boundary,
//! and kept without its first sector, with the others kept or lost.

use std::collections::BTreeMap;

use rondo_core::env::Disk;
use rondo_engines::mem_disk::{CrashPoint, Fate, Fault, MemDisk, Op, SECTOR};
use xxhash_rust::xxh3::Xxh3;

use crate::oracle;
use crate::subject::Subject;
use crate::workload::{ALPHABET, BEGINNINGS, DIR, Expected, Life, Step};

/// Of so many un-synced operations all subsets are tried.
const SUBSETS_OF_MAX: usize = 6;

/// What has been tried.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) lives: u64,
    /// Disks after a power loss.
    pub(crate) states: u64,
    /// Those of them that differed, in their bytes or in what was expected of them.
    pub(crate) distinct: u64,
}

/// Tries lives and remembers what it has seen.
pub(crate) struct Explorer {
    subject: Subject,
    /// How often the power goes again inside a recovery.
    again: u32,
    /// Disk and expectation, with how often the power had gone inside a recovery.
    seen: BTreeMap<u128, u32>,
    pub(crate) tally: Tally,
}

/// All lives with at most `steps` steps after one of the beginnings.
pub(crate) fn lives(steps: usize) -> Vec<(&'static [Step], Vec<Step>)> {
    let mut all = Vec::new();
    let mut layer = vec![Vec::new()];
    for length in 0..=steps {
        if length > 0 {
            let longer = |life: &Vec<Step>| ALPHABET.map(|step| [&life[..], &[step]].concat());
            layer = layer.iter().flat_map(longer).collect();
        }
        all.extend(layer.clone());
    }
    let with = |beginning| all.iter().map(move |life| (beginning, life.clone()));
    BEGINNINGS.into_iter().flat_map(with).collect()
}

impl Explorer {
    pub(crate) fn new(subject: Subject, again: u32) -> Explorer {
        Explorer { subject, again, seen: BTreeMap::new(), tally: Tally::default() }
    }

    /// Tries one life.
    ///
    /// # Errors
    /// The story of a disk on which a sentence of the oracle does not hold.
    pub(crate) fn try_life(&mut self, beginning: &[Step], life: &[Step]) -> Result<(), String> {
        self.tally.lives += 1;
        let tell = |what: String| format!("beginning {beginning:?}, life {life:?}: {what}");
        let steps = [beginning, life].concat();
        // The opening of an empty directory belongs to the life without steps.
        let shorter = if life.is_empty() && beginning.is_empty() {
            0
        } else {
            let prefix = &steps[..steps.len() - usize::from(!life.is_empty())];
            run(self.subject, prefix, u64::MAX).map_err(tell)?.0.operations()
        };
        let end = run(self.subject, &steps, u64::MAX).map_err(tell)?.0.operations();
        for k in shorter..=end {
            let (disk, expected) = run(self.subject, &steps, k).map_err(tell)?;
            let told = |what| tell(format!("power lost before operation {k}: {what}"));
            self.lose_power(&disk, &expected, 0).map_err(told)?;
        }
        Ok(())
    }

    /// The power goes now: tries each disk that may be left.
    fn lose_power(
        &mut self,
        disk: &MemDisk,
        expected: &Expected,
        depth: u32,
    ) -> Result<(), String> {
        let mut points = Vec::new();
        disk.fork().crash(&mut |point| {
            points.push(point);
            Fate::Lost
        });
        for fates in all_fates(&points) {
            let disk = disk.fork();
            disk.crash(&mut |point| fates[point.index]);
            self.try_disk(&disk, expected, depth).map_err(|what| {
                let told = points
                    .iter()
                    .zip(&fates)
                    .map(|(point, fate)| format!("\n  {fate:?}: {:?} {}", point.op, point.path));
                format!("{}\n  {what}", told.collect::<String>())
            })?;
        }
        Ok(())
    }

    fn try_disk(&mut self, disk: &MemDisk, expected: &Expected, depth: u32) -> Result<(), String> {
        self.tally.states += 1;
        match self.seen.insert(fingerprint(disk, expected), depth) {
            None => {
                self.tally.distinct += 1;
                oracle::check(self.subject, disk, expected)?;
            }
            Some(before) if before <= depth => {
                self.seen.insert(fingerprint(disk, expected), before);
                return Ok(());
            }
            Some(_) => {}
        }
        if depth == self.again {
            return Ok(());
        }
        let mut k = disk.operations();
        loop {
            let disk = disk.fork();
            disk.set_fault_hook(move |number, _, _| (number == k).then_some(Fault::PowerOff));
            let ended = self.subject.open(&disk, DIR).is_ok();
            disk.clear_hooks();
            let told = |what| format!("power lost in recovery before operation {k}: {what}");
            self.lose_power(&disk, expected, depth + 1).map_err(told)?;
            if ended {
                return Ok(());
            }
            k += 1;
        }
    }
}

/// A life whose power goes before operation `k`, or after its end; with what must be found then.
fn run(subject: Subject, steps: &[Step], k: u64) -> Result<(MemDisk, Expected), String> {
    let disk = MemDisk::new();
    disk.set_fault_hook(move |number, _, _| (number == k).then_some(Fault::PowerOff));
    let gone = |disk: &MemDisk| disk.operations() > k;
    let mut life = match Life::start(subject, disk.clone()) {
        Ok(life) => life,
        Err(_) if gone(&disk) => return Ok((disk, Life::nothing())),
        Err(error) => return Err(format!("a disk without faults: {error}")),
    };
    for step in steps {
        match life.step(*step) {
            Err(_) if gone(&disk) => break,
            Err(error) => return Err(format!("{step:?} on a disk without faults: {error}")),
            Ok(()) => {}
        }
    }
    disk.clear_hooks();
    Ok((disk, life.expected()))
}

/// What may become of the un-synced operations `points`, within the bounds.
fn all_fates(points: &[CrashPoint]) -> Vec<Vec<Fate>> {
    let count = points.len();
    let fates = |kept: &dyn Fn(usize) -> bool| -> Vec<Fate> {
        (0..count).map(|at| if kept(at) { Fate::Kept } else { Fate::Lost }).collect()
    };
    let mut all = Vec::new();
    if count <= SUBSETS_OF_MAX {
        all.extend((0..1_u32 << count).map(|subset| fates(&|at| subset >> at & 1 == 1)));
    } else {
        all.extend((0..=count).map(|end| fates(&|at| at < end)));
        all.extend((0..count).map(|one| fates(&|at| at == one)));
        all.extend((0..count).map(|one| fates(&|at| at != one)));
    }
    for (torn, point) in points.iter().enumerate() {
        let Op::Write { offset, len } = point.op else { continue };
        if len == 0 || offset / SECTOR == (offset + len - 1) / SECTOR {
            continue;
        }
        for fate in [Fate::Torn(1), Fate::Sectors(!1)] {
            for end in [0, torn, count] {
                let mut fates = fates(&|at| at < end);
                fates[torn] = fate;
                all.push(fates);
            }
        }
    }
    all
}

/// A disk just after a power loss, and what is expected of it, as a number.
fn fingerprint(disk: &MemDisk, expected: &Expected) -> u128 {
    let mut hash = Xxh3::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for name in disk.list(&dir).expect("no fault is set") {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            let content = disk.content(&path);
            feed(&mut hash, path.as_bytes());
            match content {
                Some(content) => feed(&mut hash, &content),
                None => dirs.push(path),
            }
        }
    }
    for (place, state) in expected
        .states
        .iter()
        .map(|state| ("", state))
        .chain(expected.copies.iter().map(|(dir, content)| (dir.as_str(), content)))
    {
        feed(&mut hash, place.as_bytes());
        for (key, (head, body)) in state {
            [key, head, body].into_iter().for_each(|part| feed(&mut hash, part));
        }
    }
    hash.digest128()
}

/// With its length, so that pieces cannot run into each other.
fn feed(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
