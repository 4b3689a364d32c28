//! From a seed to a scenario, and nothing else: the run draws nothing for operations and faults.
//!
//! Four ways to make one rotate with the seed. *Swarm*: a random subset of fault families at random rates (Groce et al.,
//! "Swarm Testing", 2012). *Few*: at most four faults, because most real failures need no more (Yuan et al., OSDI 2014).
//! *Uniform*: a little of everything. *Mutation*: a scenario that once showed a bug, changed here and there. Sizes and
//! rates are drawn on a logarithmic scale, so that both
//! milliseconds and seconds are common.

mod faults;

mod reshaped;

mod split;

mod fallback;

mod loads;

mod mutation;

mod purged;

mod workload;

use std::ops::Range;

use rondo_core::config::{GRACE_MS_MIN, HINT_BYTES_MAX};
use rondo_core::probe::Buggify;
use rondo_engines::kind::EngineKind;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fault::{Fault, Room};
use crate::rng::Rng;
use crate::scenario::{
    Away, Cluster, Disks, Links, MEMORY_MIB_USUAL, Outside, Scenario, Shape, Skew, VERSION,
};

/// How the faults of a scenario are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A random subset of families.
    Swarm,
    /// At most four faults.
    Few,
    /// A little of everything.
    Uniform,
    /// A scenario that once showed a bug, changed here and there.
    Mutation,
}

/// When operations may begin, in milliseconds: most clusters have formed by then.
const OPERATIONS_FROM_MS: u64 = 1_500;

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let modes = [Mode::Swarm, Mode::Few, Mode::Uniform, Mode::Mutation];
    match modes[(seed % 4) as usize] {
        Mode::Mutation => {
            let mut made = mutation::scenario(seed);
            made.outside = outside(&mut Rng::new(seed, 8), &made.cluster);
            if !made.cluster.later.is_empty() {
                reshaped::keep_to_promises(&mut made);
            }
            heal_by_themselves(seed, &mut made.cluster);
            made
        }
        mode => {
            let mut made = made(seed, mode, None);
            heal_by_themselves(seed, &mut made.cluster);
            loads::put_on(seed, &mut made);
            made
        }
    }
}

/// How nodes make their copies equal, purge, and write where no owner is.
fn heal_by_themselves(seed: u64, cluster: &mut Cluster) {
    cluster.repair_ms = repairs(&mut Rng::new(seed, 12));
    cluster.grace_ms = grace(&mut Rng::new(seed, 13));
    cluster.sloppy |= Rng::new(seed, 14).percent(50);
}

/// In three of four scenarios nodes compare their copies, often.
fn repairs(rng: &mut Rng) -> u64 {
    if rng.percent(25) { 0 } else { rng.log(1_000, 4_000) }
}

/// In two of five scenarios nodes purge what is deleted, soon.
fn grace(rng: &mut Rng) -> u64 {
    if rng.percent(60) { 0 } else { rng.log(GRACE_MS_MIN, 4_000) }
}

/// How large a scenario is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Nodes.
    pub nodes: u32,
    /// When it heals, in milliseconds.
    pub heal_at_ms: u64,
    /// Operations.
    pub operations: u64,
}

/// A scenario with a little of every fault and of a known size: to measure with, because seeds differ in size.
#[must_use]
pub fn sized(seed: u64, size: Size) -> Scenario {
    made(seed, Mode::Uniform, Some(size))
}

fn made(seed: u64, mode: Mode, size: Option<Size>) -> Scenario {
    let mut rng = Rng::new(seed, 1);
    let mut cluster = cluster(&mut rng);
    cluster.nodes = size.map_or(cluster.nodes, |size| size.nodes);
    let heal_at_ms = rng.log(5_000, 15_000);
    let heal_at_ms = size.map_or(heal_at_ms, |size| size.heal_at_ms);
    let links = links(&mut Rng::new(seed, 2));
    let disks = disks(&mut Rng::new(seed, 3));
    let clocks = clocks(&mut Rng::new(seed, 4), cluster.nodes);
    let window_ms = OPERATIONS_FROM_MS..heal_at_ms - 300;
    let mut rng = Rng::new(seed, 5);
    let count = rng.log(80, 280);
    let count = size.map_or(count, |size| size.operations);
    let operations = workload::operations(&mut rng, &cluster, &links, window_ms.clone(), count);
    let room = room(&cluster, operations.len(), window_ms);
    let mut faults = faults::faults(&mut Rng::new(seed, 6), mode, &room);
    faults.extend(faults::apart(&mut Rng::new(seed, 11), &room));
    // A long pause must have its time: the heal would end it.
    let needs_ms = |fault: &Fault| fault.what.trouble().needs();
    let longest_ms = faults.iter().filter_map(needs_ms).max().unwrap_or(0);
    let heal_at_ms = heal_at_ms + longest_ms;
    let buggify = buggify(&mut Rng::new(seed, 7));
    let outside = outside(&mut Rng::new(seed, 8), &cluster);
    let story = format!("made by the generator: {mode:?}").to_lowercase();
    let version = VERSION;
    Scenario {
        version,
        story,
        seed,
        cluster,
        links,
        disks,
        clocks,
        operations,
        faults,
        buggify,
        outside,
        heal_at_ms,
    }
}

/// In three of four scenarios a quarter of the sites is on. (Those of the corpus stay as they are.)
fn buggify(rng: &mut Rng) -> Vec<String> {
    if rng.percent(25) {
        return Vec::new();
    }
    // By name: a new site changes nothing for the others.
    let bits = rng.below(1 << 62);
    let is_on = |name: &str| xxh3_64_with_seed(name.as_bytes(), bits).is_multiple_of(4);
    let names = Buggify::SITES.iter().map(|site| site.name);
    names.filter(|name| is_on(name)).map(str::to_owned).collect()
}

/// In half of the scenarios some nodes stay away at the heal, as many as there may be most of the time.
fn outside(rng: &mut Rng, cluster: &Cluster) -> Option<Outside> {
    let spare = u64::from(cluster.spare());
    if spare == 0 || rng.percent(50) {
        return None;
    }
    let count = if rng.percent(80) { spare } else { rng.between(1, spare) };
    let mut nodes: Vec<u32> = (0..cluster.nodes).collect();
    while nodes.len() as u64 > count {
        nodes.remove(rng.below(nodes.len() as u64) as usize);
    }
    let is_killed = cluster.engine.keeps() && rng.percent(60);
    Some(Outside { nodes, how: if is_killed { Away::Killed } else { Away::Isolated } })
}

/// Where and when faults may strike in such a scenario.
fn room(cluster: &Cluster, operations: usize, window_ms: Range<u64>) -> Room {
    let keeps_data = cluster.engine.keeps();
    Room { nodes: cluster.nodes, operations: operations as u64, window_ms, keeps_data }
}

fn cluster(rng: &mut Rng) -> Cluster {
    let nodes = rng.pick(&[3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 2, 1, 7]);
    let (replicas, read_quorum, write_quorum) = match rng.below(12) {
        0 => (3, 1, 3),
        1 => (3, 3, 1),
        2 if nodes >= 5 => (5, 3, 3),
        3 => (2, 1, 2),
        _ => (3, 2, 2),
    };
    let heartbeat_ms = rng.log(100, 400);
    Cluster {
        nodes,
        replicas,
        read_quorum,
        write_quorum,
        partitions: rng.pick(&[8, 8, 16, 32]),
        engine: match rng.below(100) {
            0..60 => EngineKind::Bitcask,
            60..85 => EngineKind::Lsm,
            _ => EngineKind::Memory,
        },
        deadline_ms: rng.log(300, 2_500),
        hedge_ms: rng.log(5, 100),
        resend_ms: rng.log(20, 300),
        heartbeat_ms,
        dead_ms: heartbeat_ms * rng.between(3, 8),
        zones: Vec::new(),
        weights: Vec::new(),
        memory_mib: MEMORY_MIB_USUAL,
        repair_ms: 0,
        grace_ms: 0,
        sloppy: false,
        hint_bytes: HINT_BYTES_MAX,
        later: Vec::new(),
    }
}

fn links(rng: &mut Rng) -> Links {
    Links {
        shape: rng.pick(&[Shape::Uniform, Shape::Exponential, Shape::Exponential]),
        delay_min_us: rng.log(20, 500),
        delay_mean_us: rng.log(200, 12_000),
        loss_ppm: if rng.percent(50) { rng.log(1_000, 60_000) as u32 } else { 0 },
        duplicate_ppm: if rng.percent(40) { rng.log(1_000, 40_000) as u32 } else { 0 },
        tail_ppm: if rng.percent(50) { rng.log(1_000, 50_000) as u32 } else { 0 },
        tail_ms: rng.log(20, 1_000),
    }
}

fn disks(rng: &mut Rng) -> Disks {
    // On a slow device much is written before anything is durable.
    let sync_min_us = if rng.percent(20) { rng.log(2_000, 50_000) } else { rng.log(30, 1_000) };
    let sync_max_us = sync_min_us + rng.log(100, 30_000);
    let cold_ppm = if rng.percent(35) { rng.log(10_000, 400_000) as u32 } else { 0 };
    let file_kib = if rng.percent(50) { rng.log(2, 32) as u32 } else { 32 };
    Disks { sync_min_us, sync_max_us, cold_ppm, file_kib }
}

fn clocks(rng: &mut Rng, nodes: u32) -> Vec<Skew> {
    let apart_ms = match rng.below(8) {
        0 | 1 => 0,
        2 => 10_000,
        3 => 3_000,
        4 => 20,
        _ => 200,
    };
    let drift_ppm = rng.pick(&[0, 50, 200, 200, 5_000]);
    (0..nodes)
        .map(|_| Skew {
            offset_ms: rng.between(0, 2 * apart_ms) as i64 - apart_ms as i64,
            drift_ppm: rng.between(0, 2 * drift_ppm) as i32 - drift_ppm as i32,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_scenario_that_survives_being_saved() {
        for seed in 0..200 {
            let made = scenario(seed);
            made.check().expect("the generator keeps the bounds");
            let read = Scenario::from_json(&made.to_json()).expect("it reads what it wrote");
            assert_eq!(read, made);
            assert_eq!(scenario(seed), made);
        }
    }

    #[test]
    fn sites_are_on_in_most_scenarios_and_each_in_some() {
        let all: Vec<Scenario> = (0..400).map(scenario).collect();
        let quiet = all.iter().filter(|scenario| scenario.buggify.is_empty()).count();
        assert!((140..220).contains(&quiet), "{quiet}");
        for site in Buggify::SITES {
            let has = |scenario: &&Scenario| scenario.buggify.iter().any(|name| name == site.name);
            let on = all.iter().filter(has).count();
            assert!((30..90).contains(&on), "{} in {on} of 400", site.name);
        }
    }

    #[test]
    fn every_kind_of_trigger_occurs() {
        let all: Vec<Scenario> = (0..600).map(scenario).collect();
        let faults = all.iter().flat_map(|scenario| &scenario.faults);
        let triggers: BTreeSet<String> = faults
            .map(|fault| format!("{:?}", fault.when))
            .filter_map(|when| when.split(' ').next().map(str::to_owned))
            .collect();
        assert_eq!(
            triggers.into_iter().collect::<Vec<_>>(),
            ["After", "At", "OnAck", "OnBoot", "OnMaintenance", "OnMessage", "OnSyncPending"]
        );
        assert!(all.iter().any(|scenario| scenario.faults.is_empty()), "some have no fault");
    }
}
