//! What strikes the cluster: one fault at a time, drawn by luck, and healed before the next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::cluster::Cluster;
use crate::views;

/// How long a node may take until it has joined, left, or taken the place of what it was.
const CHANGED_WITHIN: Duration = Duration::from_secs(60);
/// How long the cluster rests between two faults.
const REST: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    Kill,
    KillAll,
    Stop,
    Pause,
    CutOneWay,
    Isolate,
    FullDisk,
    FullDiskAndKill,
    OldCopy,
    Split,
    SlowLink,
    Stutter,
    Wipe,
    OldCopyAnew,
    Join,
    Leave,
}

const FAULTS: [Fault; 16] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Stop,
    Fault::Pause,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::FullDisk,
    Fault::FullDiskAndKill,
    Fault::OldCopy,
    Fault::Split,
    Fault::SlowLink,
    Fault::Stutter,
    Fault::Wipe,
    Fault::OldCopyAnew,
    Fault::Join,
    Fault::Leave,
];

/// What became of the faults.
pub(crate) struct Struck {
    /// How often each struck, and how many nodes ended by themselves.
    pub(crate) told: String,
    /// What nodes did that they must not.
    pub(crate) breaches: Vec<String>,
    /// When the last one ended.
    pub(crate) last: Instant,
}

/// Strikes until `until`, and leaves the cluster healed.
pub(crate) fn strike(cluster: &mut Cluster, seed: u64, until: Instant) -> io::Result<Struck> {
    let mut luck = ChaCha12Rng::seed_from_u64(seed);
    let mut struck: BTreeMap<Fault, u32> = BTreeMap::new();
    let mut ended = 0;
    let mut breaches = Vec::new();
    let mut last = Instant::now();
    while Instant::now() < until {
        let fault = FAULTS[luck.next_u32() as usize % FAULTS.len()];
        let at = luck.next_u32() as usize % cluster.len();
        let lasts = Duration::from_millis(500 + u64::from(luck.next_u32() % 6_000));
        println!("{fault:?} at n{at} for {lasts:?}");
        *struck.entry(fault).or_default() += 1;
        breaches.extend(one(fault, cluster, at, lasts)?);
        last = Instant::now();
        ended += cluster.supervise()?;
        thread::sleep(REST);
    }
    let mut told = String::new();
    for (fault, count) in struck {
        let _ = write!(told, "{fault:?} {count}, ");
    }
    let told = format!("{told}{ended} nodes ended by themselves");
    Ok(Struck { told, breaches, last })
}

/// Strikes and heals; answers what a node did that it must not.
fn one(
    fault: Fault,
    cluster: &mut Cluster,
    at: usize,
    lasts: Duration,
) -> io::Result<Option<String>> {
    match fault {
        Fault::Kill => {
            cluster.kill(at)?;
            thread::sleep(lasts);
            cluster.run(at)?;
        }
        Fault::KillAll => {
            (0..cluster.len()).try_for_each(|at| cluster.kill(at))?;
            (0..cluster.len()).try_for_each(|at| cluster.run(at))?;
        }
        Fault::Stop => {
            cluster.stop(at)?;
            thread::sleep(lasts);
            cluster.run(at)?;
        }
        Fault::Pause => {
            cluster.signal(at, "-STOP")?;
            thread::sleep(lasts);
            cluster.signal(at, "-CONT")?;
        }
        Fault::Stutter => stutter(cluster, at, lasts)?,
        Fault::CutOneWay | Fault::Isolate | Fault::Split | Fault::SlowLink => {
            links(fault, cluster, at, lasts)?;
        }
        Fault::FullDisk => {
            cluster.hosts().fill(at)?;
            thread::sleep(lasts);
            cluster.hosts().empty(at)?;
        }
        Fault::FullDiskAndKill => {
            cluster.hosts().fill(at)?;
            thread::sleep(lasts);
            cluster.kill(at)?;
            cluster.run(at)?;
            thread::sleep(lasts);
            cluster.hosts().empty(at)?;
        }
        Fault::OldCopy => return old_copy(cluster, at, lasts),
        Fault::OldCopyAnew => {
            cluster.kill(at)?;
            cluster.copy(at)?;
            cluster.run(at)?;
            thread::sleep(lasts);
            cluster.kill(at)?;
            cluster.swap_with_copy(at)?;
            return anew(cluster, at);
        }
        Fault::Wipe => {
            cluster.kill(at)?;
            cluster.wipe(at)?;
            thread::sleep(lasts);
            return anew(cluster, at);
        }
        Fault::Join => {
            cluster.join()?;
            thread::sleep(lasts);
        }
        Fault::Leave => return cluster.leave(CHANGED_WITHIN),
    }
    Ok(None)
}

/// Strikes links, and mends them.
fn links(fault: Fault, cluster: &Cluster, at: usize, lasts: Duration) -> io::Result<()> {
    match fault {
        Fault::CutOneWay => cluster.hosts().cut(at, (at + 1) % cluster.len())?,
        Fault::Split => cluster.cut_off_a_minority()?,
        Fault::SlowLink => cluster.hosts().slow(at)?,
        _ => {
            for other in (0..cluster.len()).filter(|&other| other != at) {
                cluster.hosts().cut(at, other)?;
                cluster.hosts().cut(other, at)?;
            }
        }
    }
    thread::sleep(lasts);
    match fault {
        Fault::SlowLink => cluster.hosts().quicken(at),
        _ => cluster.hosts().mend(),
    }
}

/// A node runs half of the time: what is sent to it comes late, and it is never dead.
fn stutter(cluster: &Cluster, at: usize, lasts: Duration) -> io::Result<()> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        for signal in ["-STOP", "-CONT"] {
            cluster.signal(at, signal)?;
            thread::sleep(Duration::from_millis(40));
        }
    }
    Ok(())
}

/// A node that lacks what it had begins anew, takes its place again and all its data from the others. Only then may the next be lost.
pub(crate) fn anew(cluster: &mut Cluster, at: usize) -> io::Result<Option<String>> {
    cluster.run_anew(at)?;
    let end = Instant::now() + CHANGED_WITHIN;
    let name = format!("n{at}");
    while !(cluster.is_ready(at) && views::has_role(cluster, at, &name) == Some(true)) {
        cluster.supervise()?;
        if Instant::now() > end {
            let words = cluster.last_words(at);
            return Ok(Some(format!(
                "n{at} has begun anew and has not got its place back within {CHANGED_WITHIN:?}: {words}"
            )));
        }
        thread::sleep(Duration::from_millis(100));
    }
    cluster.forget_set_aside(at)?;
    Ok(None)
}

/// A copy of the directory is taken, the node goes on, and is then started from the copy. It must not serve. Then it gets its own
/// directory back.
fn old_copy(cluster: &mut Cluster, at: usize, lasts: Duration) -> io::Result<Option<String>> {
    cluster.kill(at)?;
    cluster.copy(at)?;
    // Two lives, so that the copy is older than what the peers know by more than the epoch it will take itself.
    for _ in 0..2 {
        cluster.run(at)?;
        let ready_by = Instant::now() + Duration::from_secs(20);
        while !cluster.is_ready(at) && Instant::now() < ready_by {
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(lasts / 2);
        cluster.kill(at)?;
    }
    cluster.swap_with_copy(at)?;
    cluster.run(at)?;
    thread::sleep(lasts);
    let serves = cluster.is_ready(at);
    cluster.kill(at)?;
    cluster.swap_with_copy(at)?;
    cluster.run(at)?;
    Ok(serves.then(|| format!("n{at} serves from an old copy of its directory")))
}
