//! What goes wrong, and when: at random times, and where a crash hurts most, right after an acknowledgement and
//! during a sync.

use std::ops::Range;

use crate::catalogue;
use crate::generator::{Mode, Rng};
use crate::scenario::{
    Cluster, Directory, DiskError, EngineName, Fate, Fault, Kind, Mischief, Said, Trigger,
};

type Name = &'static str;

/// What may become of unsynced writes, those that leave holes most of the time.
const FATES: [Fate; 6] =
    [Fate::Subset, Fate::Subset, Fate::Torn, Fate::TornPages, Fate::Prefix, Fate::LoseAll];

/// All faults of a run with so many operations.
pub(super) fn faults(
    rng: &mut Rng,
    mode: Mode,
    cluster: &Cluster,
    operations: u64,
    window_ms: Range<u64>,
) -> Vec<Fault> {
    let possible = possible(cluster);
    let count = match mode {
        Mode::Few => rng.below(5),
        Mode::Uniform => rng.between(5, 18),
        Mode::Swarm | Mode::Mutation => rng.log(1, 25),
    };
    let among = if mode == Mode::Swarm { swarm(rng, &possible) } else { possible };
    let place = Place { cluster, operations, window_ms };
    let mut faults: Vec<Fault> = Vec::new();
    if among.is_empty() {
        return faults;
    }
    for _ in 0..count {
        let name = rng.pick(&among);
        let mut fault = place.fault(rng, name);
        // Troubles seldom come alone: some follow another closely.
        if !faults.is_empty() && matches!(fault.when, Trigger::At { .. }) && rng.percent(20) {
            let before = rng.below(faults.len() as u64) as usize;
            fault.when = Trigger::After { fault: before, ms: rng.log(1, 500) };
        }
        let (what, last) = (fault.what.clone(), faults.len());
        faults.push(fault);
        match what {
            Kind::Restart { .. } if cluster.engine == EngineName::Bitcask && rng.percent(50) => {
                faults.push(outage_after(rng, cluster, last));
            }
            // While a disk is slow, most of what is written is not on it yet.
            Kind::SlowDisk { node, for_ms, .. } | Kind::StallDisk { node, for_ms }
                if cluster.engine == EngineName::Bitcask && rng.percent(40) =>
            {
                let when = Trigger::After { fault: last, ms: rng.log(1, for_ms.max(2)) };
                let (fate, down_ms) = (rng.pick(&FATES), rng.log(5, 2_000));
                faults.push(Fault {
                    when,
                    what: Kind::PowerLoss { nodes: vec![node], fate, down_ms },
                });
            }
            // What a disk error has left behind shows when the node starts again.
            Kind::DiskError { node, .. } if rng.percent(40) => {
                let when = Trigger::After { fault: last, ms: rng.log(5, 3_000) };
                faults.push(Fault { when, what: place.end(rng, node) });
            }
            _ => {}
        }
    }
    faults
}

/// A node is stopped in order, as for maintenance, and then its power is cut, and that of others perhaps.
fn outage_after(rng: &mut Rng, cluster: &Cluster, stop: usize) -> Fault {
    let what = Kind::PowerLoss {
        nodes: (0..cluster.nodes).collect(),
        fate: fate(rng),
        down_ms: rng.log(5, 2_000),
    };
    Fault { when: Trigger::After { fault: stop, ms: rng.log(1, 400) }, what }
}

/// One more fault.
pub(super) fn another(
    rng: &mut Rng,
    cluster: &Cluster,
    operations: u64,
    window_ms: Range<u64>,
) -> Option<Fault> {
    let among: Vec<Name> =
        possible(cluster).into_iter().filter(|name| *name != "long pause").collect();
    let place = Place { cluster, operations, window_ms };
    (!among.is_empty()).then(|| {
        let name = rng.pick(&among);
        place.fault(rng, name)
    })
}

/// The kinds that are drawn by dice of their own, so that they change nothing for the seeds that do not have them.
const APART: [Name; 12] = [
    "crash in maintenance",
    "stall in maintenance",
    "rot in maintenance",
    "many lives",
    "another address",
    "lasting rot",
    "lasting one-way",
    "no descriptors",
    "old copy",
    "wiped node",
    "cloned directory",
    "lost file",
];

/// In one scenario of five, one of the kinds that are drawn apart.
pub(super) fn apart(
    rng: &mut Rng,
    cluster: &Cluster,
    operations: u64,
    window_ms: Range<u64>,
) -> Option<Fault> {
    if !rng.percent(20) {
        return None;
    }
    let name = rng.pick(&APART);
    let place = Place { cluster, operations, window_ms };
    is_possible(name, cluster).then(|| place.fault(rng, name))
}

fn possible(cluster: &Cluster) -> Vec<Name> {
    let names = catalogue::FAULTS.iter().map(|entry| entry.name);
    let names = names.filter(|name| !APART.contains(name));
    names.filter(|name| is_possible(name, cluster)).collect()
}

/// Some families, and of each some kinds.
fn swarm(rng: &mut Rng, possible: &[Name]) -> Vec<Name> {
    let mut families: Vec<Name> = catalogue::FAULTS.iter().map(|entry| entry.family).collect();
    families.dedup();
    families.retain(|_| rng.percent(55));
    let chosen = catalogue::FAULTS.iter().filter(|entry| families.contains(&entry.family));
    let chosen = chosen.filter(|entry| possible.contains(&entry.name));
    chosen.map(|entry| entry.name).filter(|_| rng.percent(45)).collect()
}

fn is_possible(name: Name, cluster: &Cluster) -> bool {
    let family = catalogue::FAULTS.iter().find(|entry| entry.name == name).map(|e| e.family);
    let nodes_min = match (name, family) {
        ("ring", _) => 4,
        ("bridge", _) => 3,
        ("old copy" | "wiped node" | "cloned directory", _) => 2,
        ("correlated power loss", _) | (_, Some("partition" | "link")) => 2,
        _ => 1,
    };
    let ends_a_process = family == Some("power")
        || ["kill", "crash loop", "many lives", "restart", "another address", "rot in maintenance"]
            .contains(&name)
        || family == Some("directory")
        || disk_error(name).is_some();
    cluster.nodes >= nodes_min && !(ends_a_process && cluster.engine == EngineName::Memory)
}

/// Where and when faults may strike.
struct Place<'a> {
    cluster: &'a Cluster,
    operations: u64,
    window_ms: Range<u64>,
}

impl Place<'_> {
    fn fault(&self, rng: &mut Rng, name: Name) -> Fault {
        let node = rng.node(self.cluster.nodes);
        let what = disk_error(name).map(|what| {
            // Rot comes in patches: one bit is seldom where anybody reads.
            let times_max = match what {
                DiskError::Rot => 40,
                DiskError::LastingRot => 200,
                _ => 3,
            };
            let (times, for_ms) = (rng.log(1, times_max) as u32, rng.log(20, 3_000));
            Kind::DiskError { node, what, times, for_ms }
        });
        let what = what.or_else(|| self.process_or_clock(rng, name, node));
        let what = what.unwrap_or_else(|| self.network_or_power(rng, name, node));
        Fault { when: self.trigger(rng, name, node), what }
    }

    /// Something that ends a node and lets it start again.
    fn end(&self, rng: &mut Rng, node: u32) -> Kind {
        let name =
            rng.pick(&["power loss", "power loss", "power loss with a subset", "kill", "restart"]);
        let what = self.process_or_clock(rng, name, node);
        what.unwrap_or_else(|| self.network_or_power(rng, name, node))
    }

    fn process_or_clock(&self, rng: &mut Rng, name: Name, node: u32) -> Option<Kind> {
        let for_ms = rng.log(20, 3_000);
        let down_ms = rng.log(5, 2_000);
        let by_ms = rng.log(10, 20_000) as i64;
        Some(match name {
            "kill" => Kind::Kill { node, down_ms },
            "crash loop" => {
                let (times, up_ms) = (rng.between(2, 5) as u32, rng.log(2, 600));
                Kind::CrashLoop { node, times, up_ms, down_ms: rng.log(5, 300) }
            }
            "many lives" => {
                let (times, up_ms) = (rng.between(30, 80) as u32, rng.log(20, 200));
                Kind::CrashLoop { node, times, up_ms, down_ms: rng.log(5, 50) }
            }
            "another address" => Kind::Move { node, orderly: rng.percent(50), down_ms },
            "restart" => Kind::Restart { node, down_ms },
            "pause" => Kind::Pause { node, for_ms },
            "long pause" => Kind::Pause { node, for_ms: rng.between(10_000, 30_000) },
            "slow cpu" => Kind::SlowCpu { node, by_us: rng.log(300, 40_000), for_ms },
            "slow disk" => Kind::SlowDisk { node, by_ms: rng.log(5, 400), for_ms },
            "rot in maintenance" => {
                let (what, times) = (DiskError::Rot, rng.log(1, 40) as u32);
                Kind::DiskError { node, what, times, for_ms }
            }
            "stalled disk" | "stall in maintenance" => Kind::StallDisk { node, for_ms },
            "forward jump" => Kind::Jump { node, by_ms },
            "backward jump" => Kind::Jump { node, by_ms: -by_ms },
            "clock steps" => {
                let (times, every_ms) = (rng.between(2, 8) as u32, rng.log(10, 600));
                let by_ms = rng.log(1, 200) as i64;
                let by_ms = if rng.percent(50) { by_ms } else { -by_ms };
                Kind::Steps { node, by_ms, times, every_ms }
            }
            "old copy" | "wiped node" | "cloned directory" | "lost file" => {
                Kind::Directory { node, what: directory(rng, name), for_ms: rng.log(300, 6_000) }
            }
            "clock freeze" => Kind::Freeze { node, for_ms },
            "drift change" => {
                let ppm = rng.log(100, 50_000) as i32;
                Kind::Drift { node, ppm: if rng.percent(50) { ppm } else { -ppm }, for_ms }
            }
            _ => return None,
        })
    }

    fn network_or_power(&self, rng: &mut Rng, name: Name, node: u32) -> Kind {
        let nodes = self.cluster.nodes;
        let for_ms = rng.log(20, 3_000);
        let down_ms = rng.log(5, 2_000);
        let alone = |fate| Kind::PowerLoss { nodes: vec![node], fate, down_ms };
        let ppm = rng.log(50_000, 900_000) as u32;
        let by_ms = rng.log(5, 1_000);
        let how = match name {
            "power loss" => return alone(Fate::LoseAll),
            "power loss with a prefix" => return alone(Fate::Prefix),
            "power loss with a subset" => return alone(Fate::Subset),
            "torn sectors" => return alone(Fate::Torn),
            "torn pages" => return alone(Fate::TornPages),
            "lost names" => return alone(Fate::LoseNames),
            "lost growth" => return alone(Fate::LoseGrowth),
            "crash in recovery" => return alone(fate(rng)),
            "crash in maintenance" => {
                let fate = rng.pick(&[Fate::LoseNames, Fate::Subset, Fate::Subset, Fate::LoseAll]);
                return alone(fate);
            }
            "correlated power loss" => {
                return Kind::PowerLoss { nodes: several(rng, nodes), fate: fate(rng), down_ms };
            }
            "reset" => return Kind::Reset { links: some_links(rng, nodes) },
            "half-open" => return Kind::HalfOpen { links: some_links(rng, nodes) },
            "flapping" => Mischief::Flap { every_ms: rng.log(2, 400) },
            "loss burst" => Mischief::Lose { ppm },
            "duplicate burst" => Mischief::Double { ppm },
            "slow link" => Mischief::Slow { by_ms },
            "bimodal delay" => Mischief::Bimodal { ppm, by_ms },
            "clog" => Mischief::Clog,
            "held messages" => Mischief::Hold { kind: said(rng) },
            "refused connections" => Mischief::Refuse,
            "corruption" => Mischief::Corrupt { ppm },
            "lasting one-way" => {
                let (links, for_ms) = (cut(rng, "one-way", nodes), rng.between(5_000, 20_000));
                return Kind::Cut { name: name.to_owned(), links, for_ms };
            }
            _ => return Kind::Cut { name: name.to_owned(), links: cut(rng, name, nodes), for_ms },
        };
        Kind::Links { links: some_links(rng, nodes), how, for_ms }
    }

    fn trigger(&self, rng: &mut Rng, name: Name, node: u32) -> Trigger {
        let at = Trigger::At { ms: rng.between(self.window_ms.start / 3, self.window_ms.end) };
        let family = catalogue::FAULTS.iter().find(|entry| entry.name == name).map(|e| e.family);
        let share = match (name, family) {
            ("crash in recovery", _) => {
                // A start takes some tens of operations; a later one is in the midst of the node's work.
                let ops_max = if rng.percent(30) { 2_000 } else { 120 };
                let (n, ops) = (rng.between(1, 3), rng.log(1, ops_max));
                return Trigger::OnBoot { node, n, ops };
            }
            ("crash in maintenance" | "stall in maintenance" | "rot in maintenance", _) => {
                return Trigger::OnMaintenance { node, ops: rng.log(1, 400) };
            }
            // Recovery reads and writes most.
            _ if disk_error(name).is_some() && rng.percent(25) => {
                let (n, ops) = (rng.between(1, 3), rng.log(1, 120));
                return Trigger::OnBoot { node, n, ops };
            }
            _ if disk_error(name).is_some() => 50,
            (_, Some("power")) => 70,
            ("kill" | "crash loop", _) => 50,
            ("pause" | "isolate" | "reset" | "clog", _) => 35,
            _ => 0,
        };
        if !rng.percent(share) {
            return at;
        }
        match rng.below(10) {
            // About half the operations are writes.
            0..5 => Trigger::OnAck { n: rng.between(1, (self.operations / 3).max(1)) },
            5..8 => Trigger::OnSyncPending { node, n: rng.log(2, self.operations.max(3)) },
            _ if self.cluster.nodes < 2 => at,
            _ => {
                let other = (node + 1 + rng.node(self.cluster.nodes - 1)) % self.cluster.nodes;
                let (from, to) = if rng.percent(50) { (node, other) } else { (other, node) };
                let n = rng.log(1, (self.operations / 4).max(2));
                Trigger::OnMessage { kind: said(rng), from, to, n }
            }
        }
    }
}

fn directory(rng: &mut Rng, name: Name) -> Directory {
    let orderly = rng.percent(50);
    match name {
        "old copy" => {
            let age_ms = rng.log(500, 4_000);
            Directory::OldCopy { orderly, age_ms, in_place: false, live: rng.percent(50) }
        }
        "wiped node" => Directory::Wiped { orderly },
        "cloned directory" => {
            let returns = rng.percent(50);
            let age_ms = rng.log(500, 4_000);
            Directory::Cloned { orderly, age_ms, returns, live: rng.percent(50) }
        }
        _ => {
            let (file, cut) = (rng.below(64) as u32, rng.percent(30));
            Directory::LostFile { file, cut, newest: false }
        }
    }
}

fn disk_error(name: Name) -> Option<DiskError> {
    DiskError::ALL.into_iter().find(|what| what.name() == name)
}

fn said(rng: &mut Rng) -> Said {
    rng.pick(&[
        Said::Query,
        Said::QueryReply,
        Said::Read,
        Said::ReadReply,
        Said::Merge,
        Said::Merge,
        Said::MergeAck,
        Said::Forward,
        Said::ForwardReply,
        Said::Datagram,
    ])
}

/// All links, those of one node, or any.
fn some_links(rng: &mut Rng, nodes: u32) -> Vec<(u32, u32)> {
    let mut links: Vec<(u32, u32)> =
        (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    let node = rng.node(nodes);
    match rng.below(4) {
        0 => {}
        1 => links.retain(|&(from, to)| from == node || to == node),
        2 => links.retain(|&(from, _)| from == node),
        _ => {
            let kept = rng.below(links.len() as u64) as usize;
            let mut at = 0;
            links.retain(|_| {
                at += 1;
                at == kept + 1 || rng.percent(30)
            });
        }
    }
    links
}

fn fate(rng: &mut Rng) -> Fate {
    rng.pick(&[Fate::LoseAll, Fate::LoseAll, Fate::Prefix, Fate::Subset])
}

/// All of the nodes, or some two or more.
fn several(rng: &mut Rng, nodes: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..nodes).collect();
    if rng.percent(60) {
        return all;
    }
    while all.len() > 2 && rng.percent(60) {
        all.remove(rng.below(all.len() as u64) as usize);
    }
    all
}

/// The directed links of a cut.
fn cut(rng: &mut Rng, name: Name, nodes: u32) -> Vec<(u32, u32)> {
    let mut order: Vec<u32> = (0..nodes).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let both_ways = |left: &[u32], right: &[u32]| {
        let pairs = left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
        pairs.collect()
    };
    match name {
        "isolate" => both_ways(&order[..1], &order[1..]),
        "bridge" => {
            // The last node reaches both sides, which do not reach each other.
            let sides = &order[..order.len() - 1];
            let (left, right) = sides.split_at(sides.len() / 2);
            both_ways(left, right)
        }
        "one-way" => {
            let (left, right) = order.split_at(rng.between(1, u64::from(nodes) - 1) as usize);
            left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b))).collect()
        }
        "ring" => {
            let apart = |a: usize, b: usize| (a + order.len() - b) % order.len();
            let far = |a, b| a != b && apart(a, b) != 1 && apart(b, a) != 1;
            let places = (0..order.len()).flat_map(|a| (0..order.len()).map(move |b| (a, b)));
            places.filter(|&(a, b)| far(a, b)).map(|(a, b)| (order[a], order[b])).collect()
        }
        "random links" => some_links(rng, nodes),
        _ => {
            let (left, right) = order.split_at(order.len() / 2);
            both_ways(left, right)
        }
    }
}
