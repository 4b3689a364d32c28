//! The disks' luck: how long syncs and cold reads take, and what a power loss leaves of what was not synced.
//!
//! The disk itself, with its page cache and its list of unsynced operations, is `MemDisk`; nothing here
//! touches bytes. Errors and damage are in `failing`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rondo_engines::mem_disk::{Calls, CrashPoint, Fate, Fault, MemDisk, Op};

use crate::device::failing::Failing;
use crate::draw::{Dice, Draw, Stream};
use crate::fault::power;
use crate::rt::Time;
use crate::scenario::Disks;

/// When work that is started now ends. `extra_ms` is what a slow disk adds.
pub fn done_at(disks: &Disks, dice: &mut Dice, node: u32, now: Time, extra_ms: u64) -> Time {
    let draw = dice.next(Stream::Disk, node, 0);
    now.plus_us(draw.between(disks.sync_min_us, disks.sync_max_us)).plus_ms(extra_ms)
}

/// A call that changes or looks up a name takes this part of what a slow disk adds to a sync.
const NAME_PART: u64 = 50;
/// A read or a write takes this part: most end in the page cache.
const DATA_PART: u64 = 500;

/// For how long the calls of one turn keep a node's own thread, in microseconds. `extra_ms` is what a slow disk adds to a sync.
#[must_use]
pub const fn held_up_us(disks: &Disks, calls: &Calls, extra_ms: u64) -> u64 {
    let extra_us = extra_ms * 1_000;
    calls.waits * (disks.sync_max_us + extra_us)
        + calls.names * extra_us / NAME_PART
        + calls.data * extra_us / DATA_PART
}

/// What one file takes that is filled in part: two steps of allocation, a cut to its data, the next one's name.
const NAMES_A_FILE: u64 = 4;
/// Two writes, the next one's header, and a look at what was there.
const DATA_A_FILE: u64 = 4;

/// For how long a turn may be kept, in microseconds, for what it writes itself to files as small as these. The product's are
/// thousands of times larger, so there as many bytes change no file. Two files in a row hold more than one may.
#[must_use]
pub const fn filling_us(disks: &Disks, written_bytes: u64, extra_ms: u64) -> u64 {
    let files = 2 * written_bytes / ((disks.file_kib as u64) << 10);
    let calls = Calls { waits: 0, names: files * NAMES_A_FILE, data: files * DATA_A_FILE };
    held_up_us(disks, &calls, extra_ms)
}

/// Lets a share of the reads on `disk` wait for the device.
pub fn set_cold(disk: &MemDisk, disks: &Disks, seed: u64, node: u32) {
    let (ppm, mut k) = (disks.cold_ppm, 0);
    if ppm == 0 {
        return;
    }
    disk.set_cold_hook(move |_, _, _| {
        k += 1;
        crate::draw::keyed(seed, Stream::Cold, node, 0, k).happens(ppm)
    });
}

/// What lets the power of a disk go at one of its operations. Clones are the same fuse.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Arc<Mutex<Burns>>);

#[derive(Debug, Default)]
struct Burns {
    /// The fault that lit it, and operations until it blows.
    left: Option<(usize, u64)>,
    /// The fault whose fuse has blown.
    blown: Option<usize>,
    /// Faults that wait for an operation of background work.
    windows: Vec<Window>,
    /// Whether background work is being done.
    is_inside: bool,
    /// Faults whose operation has come.
    due: Vec<usize>,
}

/// A fault that waits for an operation of background work.
#[derive(Debug)]
struct Window {
    fault: usize,
    /// Operations of background work before it.
    left: u64,
    /// Whether the power goes at that operation; else the fault strikes later.
    is_power: bool,
}

impl Fuse {
    /// The fuse of a disk; with what else is wrong with the disk it becomes the disk's fault hook.
    #[must_use]
    pub fn of(disk: &MemDisk, failing: &Failing) -> Fuse {
        let fuse = Fuse::default();
        let (hook, failing) = (fuse.clone(), failing.clone());
        disk.set_fault_hook(move |_, path, op| {
            if hook.burn() { Some(Fault::PowerOff) } else { failing.asked(path, op) }
        });
        fuse
    }

    /// The power goes after so many more operations, by this fault; a fuse that was lit before is out.
    pub fn light(&self, fault: usize, operations: u64) {
        let mut burns = self.burns();
        (burns.left, burns.blown) = (Some((fault, operations)), None);
    }

    /// A fault waits for an operation of background work, in this life or a later one.
    pub fn wait(&self, fault: usize, operations: u64, is_power: bool) {
        self.burns().windows.push(Window { fault, left: operations, is_power });
    }

    /// No fault waits any more.
    pub fn wait_no_more(&self) {
        let mut burns = self.burns();
        burns.windows.clear();
        burns.due.clear();
    }

    /// Background work begins or ends.
    pub fn is_inside(&self, is_inside: bool) {
        self.burns().is_inside = is_inside;
    }

    /// The faults whose operation has come.
    #[must_use]
    pub fn take_due(&self) -> Vec<usize> {
        std::mem::take(&mut self.burns().due)
    }

    /// Puts it out; answers whose it was when it had blown.
    pub fn put_out(&self) -> Option<usize> {
        let mut burns = self.burns();
        burns.left = None;
        burns.is_inside = false;
        burns.blown.take()
    }

    /// Whether the power has gone, and nobody has put it out yet.
    #[must_use]
    pub fn has_blown(&self) -> bool {
        self.burns().blown.is_some()
    }

    fn burn(&self) -> bool {
        let mut burns = self.burns();
        match &mut burns.left {
            Some((fault, 0)) => burns.blown = Some(*fault),
            Some((_, left)) => *left -= 1,
            None => {}
        }
        if burns.is_inside {
            burns.pass();
        }
        burns.blown.is_some()
    }

    fn burns(&self) -> MutexGuard<'_, Burns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Burns {
    /// An operation of background work comes.
    fn pass(&mut self) {
        for window in &mut self.windows {
            match (window.left, window.is_power) {
                (0, true) => self.blown = self.blown.or(Some(window.fault)),
                (0, false) => self.due.push(window.fault),
                _ => window.left -= 1,
            }
        }
        let (blown, due) = (self.blown, &self.due);
        let is_over = |window: &Window| Some(window.fault) == blown || due.contains(&window.fault);
        self.windows.retain(|window| !is_over(window));
    }
}

/// The power of one disk goes; answers how many unsynced operations were lost or torn.
pub fn lose_power(disk: &MemDisk, fate: power::Fate, dice: &mut Dice, node: u32) -> u64 {
    let mut grown = BTreeSet::new();
    let kept = dice.next(Stream::Fate, node, 0).below(disk.unsynced_count() as u64 + 1);
    let mut lost = 0;
    disk.crash(&mut |point| {
        let fate = match fate {
            power::Fate::LoseAll => Fate::Lost,
            power::Fate::Prefix if (point.index as u64) < kept => Fate::Kept,
            power::Fate::Prefix if point.index as u64 == kept => {
                torn(&point, dice.next(Stream::Fate, node, 1))
            }
            power::Fate::Prefix => Fate::Lost,
            power::Fate::Torn => match point.op {
                Op::Write { .. } => Fate::Sectors(dice.next(Stream::Fate, node, 1).bits()),
                _ => Fate::Kept,
            },
            power::Fate::TornPages => match point.op {
                Op::Write { .. } => Fate::Pages(dice.next(Stream::Fate, node, 1).bits()),
                _ => Fate::Kept,
            },
            power::Fate::LoseNames if is_name(&point.op) => Fate::Lost,
            power::Fate::LoseGrowth => without_growth(&mut grown, &point),
            power::Fate::LoseNames => Fate::Kept,
            power::Fate::Subset => match dice.next(Stream::Fate, node, 2).below(4) {
                0 => torn(&point, dice.next(Stream::Fate, node, 1)),
                1 => Fate::Sectors(dice.next(Stream::Fate, node, 1).bits()),
                2 => Fate::Kept,
                _ => Fate::Lost,
            },
        };
        lost += u64::from(fate != Fate::Kept);
        fate
    });
    lost
}

const fn is_name(op: &Op) -> bool {
    matches!(op, Op::CreateDir | Op::Create | Op::Link | Op::Rename | Op::Remove)
}

/// Loses new lengths, and what was written to a file after it had grown. `grown` are the files that have.
fn without_growth(grown: &mut BTreeSet<String>, point: &CrashPoint) -> Fate {
    match point.op {
        Op::SetLen(_) | Op::Allocate(_) => {
            grown.insert(point.path.clone());
            Fate::Lost
        }
        Op::Write { .. } if grown.contains(&point.path) => Fate::Lost,
        _ => Fate::Kept,
    }
}

fn torn(point: &CrashPoint, draw: Draw) -> Fate {
    match point.op {
        Op::Write { len, .. } => Fate::Torn(draw.below(len / rondo_engines::mem_disk::SECTOR + 2)),
        _ => Fate::Lost,
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::env::{Disk, Open};

    use super::*;

    /// Ten one-byte appends, of which the first five are synced.
    fn half_synced() -> MemDisk {
        let disk = MemDisk::new();
        let file = disk.open("log", Open::New).expect("a new file");
        for at in 0..10 {
            disk.write_at(&file, &[&[b'a' + at]], u64::from(at)).expect("written");
            if at == 4 {
                disk.sync_now(&file).expect("synced");
                disk.sync_dir("").expect("synced");
            }
        }
        disk
    }

    #[test]
    fn what_was_synced_survives_every_fate_and_a_prefix_is_a_prefix() {
        for seed in 0..200 {
            for fate in [power::Fate::LoseAll, power::Fate::Prefix, power::Fate::Subset] {
                let disk = half_synced();
                let lost = lose_power(&disk, fate, &mut Dice::new(seed), 0);
                let left = disk.content("log").expect("the name was synced");
                assert!(left.starts_with(b"abcde"), "{fate:?} {left:?}");
                match fate {
                    power::Fate::LoseAll => assert_eq!((left.len(), lost), (5, 5)),
                    power::Fate::Prefix => assert!(b"abcdefghij".starts_with(&left)),
                    _ => assert!(left.len() <= 10),
                }
            }
        }
    }

    #[test]
    fn names_growth_and_sectors_are_lost_on_their_own() {
        let fate = |fate| {
            let disk = half_synced();
            let file = disk.open("log", Open::Existing).expect("there");
            disk.allocate(&file, 4_096).expect("allocated");
            disk.write_at(&file, &[&[b'x'; 2_048]], 10).expect("written");
            disk.open("new", Open::New).expect("a new file");
            lose_power(&disk, fate, &mut Dice::new(1), 0);
            (disk.content("log").expect("the name was synced"), disk.content("new").is_some())
        };
        let (log, new) = fate(power::Fate::LoseNames);
        assert!(log.len() == 4_096 && log[2_057] == b'x' && !new);
        let (log, new) = fate(power::Fate::LoseGrowth);
        assert!(log == b"abcdefghij" && new, "{log:?}");
        let (log, _) = fate(power::Fate::Torn);
        let kept = log.iter().filter(|&&byte| byte == b'x').count();
        assert!((1..2_048).contains(&kept), "{kept}");
    }

    #[test]
    fn a_fuse_blows_once_after_so_many_operations() {
        let disk = MemDisk::new();
        let fuse = Fuse::of(&disk, &Failing::new(1, 0, &disk));
        fuse.light(7, 2);
        let works = || disk.list("").is_ok();
        assert_eq!([works(), works(), works(), works()], [true, true, false, false]);
        assert_eq!(fuse.put_out(), Some(7));
        disk.crash_lose_all();
        assert!(works() && fuse.put_out().is_none(), "the power is back");
    }

    #[test]
    fn each_call_on_the_own_thread_has_its_price_and_what_was_handed_over_has_none() {
        let disk = half_synced();
        let calls = disk.take_calls();
        assert_eq!((calls.waits, calls.names, calls.data), (2, 1, 10));
        let disks = Disks { sync_min_us: 1, sync_max_us: 7, cold_ppm: 0, file_kib: 1 };
        assert_eq!(held_up_us(&disks, &calls, 0), 14, "a sync takes its time on a fast disk too");
        assert_eq!(held_up_us(&disks, &calls, 100), 14 + 200_000 + 2_000 + 2_000);
        let file = disk.open("log", Open::Existing).expect("there");
        disk.start_sync(rondo_core::id::SyncId(1), vec![file], vec![String::new()]);
        assert_eq!(disk.run_pending().len(), 1);
        assert_eq!(disk.take_calls(), Calls { names: 1, ..Calls::default() });
    }

    #[test]
    fn only_what_a_turn_writes_itself_may_change_files_and_only_as_many_as_it_fills() {
        let disks = Disks { sync_min_us: 1, sync_max_us: 7, cold_ppm: 0, file_kib: 2 };
        let filling = |bytes| filling_us(&disks, bytes, 100);
        assert_eq!(
            [filling(0), filling(1_023)],
            [0, 0],
            "a turn that writes little may change none"
        );
        let file = Calls { waits: 0, names: NAMES_A_FILE, data: DATA_A_FILE };
        assert_eq!(filling(1_024), held_up_us(&disks, &file, 100));
        assert_eq!(filling(10_240), 10 * filling(1_024));
        let as_large = Disks { file_kib: 1_024, ..disks };
        assert_eq!(filling_us(&as_large, 10_240, 100), 0, "in a large file that is nothing");
    }

    #[test]
    fn faults_wait_for_operations_of_background_work_over_all_lives() {
        let disk = MemDisk::new();
        let fuse = Fuse::of(&disk, &Failing::new(1, 0, &disk));
        fuse.wait(3, 1, false);
        fuse.wait(4, 2, true);
        let works = || disk.list("").is_ok();
        assert!(works() && works() && works() && works(), "nothing of that was background work");
        fuse.is_inside(true);
        assert!(works() && fuse.take_due().is_empty() && works());
        assert_eq!(fuse.take_due(), [3]);
        assert!(fuse.put_out().is_none(), "a life ends");
        assert!(works(), "background work has ended with it");
        fuse.is_inside(true);
        assert!(!works());
        assert_eq!(fuse.put_out(), Some(4));
        disk.crash_lose_all();
        fuse.is_inside(true);
        assert!(works() && fuse.take_due().is_empty(), "each strikes once");
    }

    #[test]
    fn fates_differ_from_seed_to_seed() {
        let lengths: std::collections::BTreeSet<usize> = (0..50)
            .map(|seed| {
                let disk = half_synced();
                lose_power(&disk, power::Fate::Prefix, &mut Dice::new(seed), 0);
                disk.content("log").expect("the name was synced").len()
            })
            .collect();
        assert!(lengths.len() >= 5, "{lengths:?}");
    }
}
