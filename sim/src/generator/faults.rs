//! What goes wrong, and when: at random times, and where a crash hurts most, right after an acknowledgement and
//! during a sync.

use std::ops::Range;

use crate::generator::{Mode, Rng};
use crate::scenario::{Cluster, EngineName, Fate, Fault, Kind, Trigger};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Isolate,
    Split,
    Bridge,
    OneWay,
    PowerLoss,
    CorrelatedPowerLoss,
    Kill,
    Restart,
    Pause,
    Jump,
    SlowDisk,
}

const FAMILIES: [Family; 11] = [
    Family::Isolate,
    Family::Split,
    Family::Bridge,
    Family::OneWay,
    Family::PowerLoss,
    Family::CorrelatedPowerLoss,
    Family::Kill,
    Family::Restart,
    Family::Pause,
    Family::Jump,
    Family::SlowDisk,
];

/// The families' names, sorted.
#[cfg(test)]
pub(super) const FAMILIES_SORTED: [&str; 11] = [
    "bridge",
    "clock jump",
    "correlated power loss",
    "isolate",
    "kill",
    "one-way",
    "pause",
    "power loss",
    "restart",
    "slow disk",
    "split",
];

/// All faults of a run with so many operations.
pub(super) fn faults(
    rng: &mut Rng,
    mode: Mode,
    cluster: &Cluster,
    operations: u64,
    window_ms: Range<u64>,
) -> Vec<Fault> {
    let possible: Vec<Family> =
        FAMILIES.into_iter().filter(|family| family.is_possible(cluster)).collect();
    let chosen: Vec<Family> = match mode {
        Mode::Few => (0..rng.below(5)).map(|_| rng.pick(&possible)).collect(),
        Mode::Uniform => {
            let count = |rng: &mut Rng| rng.below(3);
            possible.iter().flat_map(|&family| vec![family; count(rng) as usize]).collect()
        }
        Mode::Swarm => {
            let swarm: Vec<Family> = possible.iter().copied().filter(|_| rng.percent(35)).collect();
            let count = if swarm.is_empty() { 0 } else { rng.log(1, 25) };
            (0..count).map(|_| rng.pick(&swarm)).collect()
        }
    };
    let place = Place { cluster, operations, window_ms };
    chosen.into_iter().map(|family| place.fault(rng, family)).collect()
}

impl Family {
    fn is_possible(self, cluster: &Cluster) -> bool {
        let ends_a_process = matches!(
            self,
            Family::PowerLoss | Family::CorrelatedPowerLoss | Family::Kill | Family::Restart
        );
        let nodes_min = match self {
            Family::Bridge => 3,
            Family::Isolate | Family::Split | Family::OneWay | Family::CorrelatedPowerLoss => 2,
            _ => 1,
        };
        cluster.nodes >= nodes_min && !(ends_a_process && cluster.engine == EngineName::Memory)
    }
}

/// Where and when faults may strike.
struct Place<'a> {
    cluster: &'a Cluster,
    operations: u64,
    window_ms: Range<u64>,
}

impl Place<'_> {
    fn fault(&self, rng: &mut Rng, family: Family) -> Fault {
        let nodes = self.cluster.nodes;
        let for_ms = rng.log(20, 3_000);
        let down_ms = rng.log(5, 2_000);
        let node = rng.node(nodes);
        let what = match family {
            Family::Isolate | Family::Split | Family::Bridge | Family::OneWay => {
                let (name, links) = cut(rng, family, nodes);
                Kind::Cut { name: name.to_owned(), links, for_ms }
            }
            Family::PowerLoss => Kind::PowerLoss { nodes: vec![node], fate: fate(rng), down_ms },
            Family::CorrelatedPowerLoss => {
                Kind::PowerLoss { nodes: several(rng, nodes), fate: fate(rng), down_ms }
            }
            Family::Kill => Kind::Kill { node, down_ms },
            Family::Restart => Kind::Restart { node, down_ms },
            Family::Pause => Kind::Pause { node, for_ms },
            Family::Jump => Kind::Jump { node, by_ms: jump(rng) },
            Family::SlowDisk => Kind::SlowDisk { node, by_ms: rng.log(5, 400), for_ms },
        };
        Fault { when: self.trigger(rng, family, node), what }
    }

    fn trigger(&self, rng: &mut Rng, family: Family, node: u32) -> Trigger {
        let at = Trigger::At { ms: rng.between(self.window_ms.start / 3, self.window_ms.end) };
        let share = match family {
            Family::PowerLoss | Family::CorrelatedPowerLoss => 70,
            Family::Kill => 50,
            Family::Pause | Family::Isolate => 20,
            _ => 0,
        };
        if !rng.percent(share) {
            return at;
        }
        if rng.percent(60) {
            // About half the operations are writes.
            return Trigger::OnAck { n: rng.between(1, (self.operations / 3).max(1)) };
        }
        Trigger::OnSyncPending { node, n: rng.log(2, self.operations.max(3)) }
    }
}

fn fate(rng: &mut Rng) -> Fate {
    rng.pick(&[Fate::LoseAll, Fate::LoseAll, Fate::Prefix, Fate::Subset])
}

fn jump(rng: &mut Rng) -> i64 {
    let by_ms = rng.log(10, 20_000) as i64;
    if rng.percent(50) { by_ms } else { -by_ms }
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
fn cut(rng: &mut Rng, family: Family, nodes: u32) -> (&'static str, Vec<(u32, u32)>) {
    let mut order: Vec<u32> = (0..nodes).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let both_ways = |left: &[u32], right: &[u32]| {
        let pairs = left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
        pairs.collect()
    };
    match family {
        Family::Isolate => ("isolate", both_ways(&order[..1], &order[1..])),
        Family::Bridge => {
            // The last node reaches both sides, which do not reach each other.
            let sides = &order[..order.len() - 1];
            let (left, right) = sides.split_at(sides.len() / 2);
            ("bridge", both_ways(left, right))
        }
        Family::OneWay => {
            let (left, right) = order.split_at(rng.between(1, u64::from(nodes) - 1) as usize);
            let pairs = left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b)));
            ("one-way", pairs.collect())
        }
        _ => {
            let (left, right) = order.split_at(order.len() / 2);
            ("split", both_ways(left, right))
        }
    }
}
