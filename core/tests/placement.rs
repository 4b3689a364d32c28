//! Placement: distinct owners, spread over zones, fair shares, little movement, and the same answer everywhere.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::test_runner::{Config, FileFailurePersistence};
use rondo_core::id::NodeId;
use rondo_core::layout::Role;
use rondo_core::layout::placement::assign;

fn role(id: u128, weight: u32, zone: &str) -> Role {
    Role { node: NodeId(id), name: format!("n{id}"), weight, zone: zone.to_owned() }
}

fn equal(nodes: u128) -> Vec<Role> {
    (1..=nodes).map(|id| role(id, 1, "")).collect()
}

/// `owners` under `before`, told in indices into `after`.
fn carried(before: &[Role], after: &[Role], owners: &[u16]) -> Vec<u16> {
    let at = |id| after.iter().position(|role| role.node == id).map_or(u16::MAX, |at| at as u16);
    owners.iter().map(|&owner| at(before[usize::from(owner)].node)).collect()
}

fn counts(nodes: usize, slots: impl Iterator<Item = u16>) -> Vec<usize> {
    let mut counts = vec![0; nodes];
    slots.filter(|&node| node != u16::MAX).for_each(|node| counts[usize::from(node)] += 1);
    counts
}

fn firsts(nodes: usize, n: u8, owners: &[u16]) -> Vec<usize> {
    counts(nodes, owners.chunks(usize::from(n)).map(|owners| owners[0]))
}

fn gap(counts: &[usize]) -> usize {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

/// The slots whose owner did not own that partition before.
fn moved(n_before: u8, before: &[u16], n: u8, after: &[u16]) -> usize {
    let before = before.chunks(usize::from(n_before));
    let pairs = before.zip(after.chunks(usize::from(n)));
    pairs.map(|(old, new)| new.iter().filter(|node| !old.contains(node)).count()).sum()
}

/// The fewest moves that give every node as many slots as it has in `after`, and keep the zones: a minimum cost flow
/// from partitions over zones to nodes, where a slot that does not stay costs 1.
fn fewest_moves(roles: &[Role], n_before: u8, before: &[u16], n: u8, after: &[u16]) -> usize {
    let zones: BTreeSet<&str> = roles.iter().map(|role| role.zone.as_str()).collect();
    let partitions = after.len() / usize::from(n);
    let (source, sink, mut flow) = (0, 1, Flow::default());
    let node = |at: usize| 2 + at;
    let in_zone = |partition, zone| 2 + roles.len() + partition * (zones.len() + 1) + zone;
    for (partition, old) in before.chunks(usize::from(n_before)).enumerate() {
        let whole = in_zone(partition, zones.len());
        let spare = usize::from(n).saturating_sub(zones.len());
        let enough = zones.len() >= usize::from(n);
        flow.edge(source, whole, if enough { usize::from(n) } else { spare }, 0);
        for (at, zone) in zones.iter().enumerate() {
            flow.edge(whole, in_zone(partition, at), if enough { 1 } else { spare }, 0);
            flow.edge(source, in_zone(partition, at), usize::from(!enough), 0);
            for to in (0..roles.len()).filter(|&to| roles[to].zone == *zone) {
                let cost = i64::from(!old.contains(&(to as u16)));
                flow.edge(in_zone(partition, at), node(to), 1, cost);
            }
        }
    }
    for (at, count) in counts(roles.len(), after.iter().copied()).into_iter().enumerate() {
        flow.edge(node(at), sink, count, 0);
    }
    let (sent, cost) = flow.cheapest(in_zone(partitions, 0), source, sink);
    assert_eq!(sent, after.len());
    cost as usize
}

/// Successive cheapest paths (Bellman and Ford with a queue). Edges come in pairs: 2k and its return 2k + 1.
#[derive(Default)]
struct Flow {
    edges: Vec<(usize, usize, usize, i64)>,
}

impl Flow {
    fn edge(&mut self, from: usize, to: usize, room: usize, cost: i64) {
        self.edges.push((from, to, room, cost));
        self.edges.push((to, from, 0, -cost));
    }

    fn cheapest(&mut self, vertices: usize, source: usize, sink: usize) -> (usize, i64) {
        let mut out = vec![Vec::new(); vertices];
        self.edges.iter().enumerate().for_each(|(at, edge)| out[edge.0].push(at));
        let (mut sent, mut total) = (0, 0);
        loop {
            let mut cost = vec![i64::MAX; vertices];
            let mut came = vec![usize::MAX; vertices];
            let mut queue = VecDeque::from([source]);
            cost[source] = 0;
            while let Some(from) = queue.pop_front() {
                for &at in &out[from] {
                    let (_, to, room, price) = self.edges[at];
                    if room > 0 && cost[from] + price < cost[to] {
                        cost[to] = cost[from] + price;
                        came[to] = at;
                        queue.push_back(to);
                    }
                }
            }
            if cost[sink] == i64::MAX {
                return (sent, total);
            }
            let mut at = sink;
            while at != source {
                self.edges[came[at]].2 -= 1;
                self.edges[came[at] ^ 1].2 += 1;
                at = self.edges[came[at]].0;
            }
            (sent, total) = (sent + 1, total + cost[sink]);
        }
    }
}

/// The fair shares as real numbers: in proportion to the weights within what nodes and zones can hold. Found by bisection
/// over a common scale, which is another way than the one under test.
fn fair(roles: &[Role], n: u8, partitions: u16) -> Vec<f64> {
    let most = f64::from(partitions);
    let slots = most * f64::from(n);
    let zones: BTreeSet<&str> = roles.iter().map(|role| role.zone.as_str()).collect();
    let enough = zones.len() >= usize::from(n);
    let shares = |zone: &str, scale: f64| -> Vec<f64> {
        let in_zone = |role: &Role| {
            if role.zone == zone { f64::from(role.weight) } else { 0.0 }
        };
        roles.iter().map(|role| (in_zone(role) * scale).min(most)).collect()
    };
    let of_zone = |zone: &str, total: f64| -> Vec<f64> {
        let (mut low, mut high) = (0.0, slots);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            let sum: f64 = shares(zone, middle).iter().sum();
            if sum < total { low = middle } else { high = middle }
        }
        shares(zone, high)
    };
    let bounded = |zone: &str, scale: f64| -> f64 {
        let sum: f64 = shares(zone, scale).iter().sum();
        if enough { sum.min(most) } else { sum.max(most) }
    };
    let (mut low, mut high) = (0.0, slots);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        let sum: f64 = zones.iter().map(|zone| bounded(zone, middle)).sum();
        if sum < slots { low = middle } else { high = middle }
    }
    let per_zone: Vec<Vec<f64>> =
        zones.iter().map(|zone| of_zone(zone, bounded(zone, high))).collect();
    (0..roles.len()).map(|node| per_zone.iter().map(|shares| shares[node]).sum()).collect()
}

/// Everything an assignment promises, whatever came before it.
fn check(roles: &[Role], n: u8, partitions: u16, owners: &[u16]) -> Result<(), String> {
    let zones: BTreeSet<&str> = roles.iter().map(|role| role.zone.as_str()).collect();
    let zone = |node: &u16| roles[usize::from(*node)].zone.as_str();
    if owners.len() != usize::from(partitions) * usize::from(n) {
        return Err(format!("{} slots", owners.len()));
    }
    for (partition, owners) in owners.chunks(usize::from(n)).enumerate() {
        let distinct: BTreeSet<u16> = owners.iter().copied().collect();
        let spread: BTreeSet<&str> = owners.iter().map(zone).collect();
        if distinct.len() < owners.len() || spread.len() < zones.len().min(usize::from(n)) {
            return Err(format!("partition {partition}: {owners:?} in zones {spread:?}"));
        }
    }
    let held = counts(roles.len(), owners.iter().copied());
    let first = firsts(roles.len(), n, owners);
    for (node, fair) in fair(roles, n, partitions).into_iter().enumerate() {
        if (held[node] as f64 - fair).abs() >= 1.0 + 1e-6 {
            return Err(format!("node {node} has {} slots, its fair share is {fair}", held[node]));
        }
        let part = held[node] / usize::from(n)..=held[node].div_ceil(usize::from(n));
        if !part.contains(&first[node]) {
            return Err(format!("node {node} is first {} times, not {part:?}", first[node]));
        }
    }
    Ok(())
}

#[test]
fn every_small_cluster_is_balanced_and_distinct() {
    for nodes in 1..=20 {
        let roles = equal(nodes as u128);
        for n in 1..=5.min(nodes as u8) {
            for partitions in [8, 16, 64, 256] {
                let owners = assign(&roles, n, partitions, None);
                check(&roles, n, partitions, &owners).unwrap();
                assert!(gap(&counts(nodes, owners.iter().copied())) <= 1);
                assert!(gap(&firsts(nodes, n, &owners)) <= 1);
            }
        }
    }
}

/// Walking a ring of partitions with `partition mod nodes` puts one node twice into the last lists whenever the
/// number of nodes does not divide the number of partitions. Here every count of nodes is tried.
#[test]
fn preference_lists_near_the_end_hold_distinct_nodes() {
    for nodes in 3..=40 {
        let owners = assign(&equal(nodes), 3, 64, None);
        for owners in owners.chunks(3) {
            assert_eq!(BTreeSet::from_iter(owners).len(), 3, "{nodes} nodes: {owners:?}");
        }
    }
}

#[test]
fn a_joining_node_takes_its_share_and_nothing_else_moves() {
    let mut roles = equal(3);
    let mut owners = assign(&roles, 3, 256, None);
    for nodes in 4..=20u128 {
        let before = roles.clone();
        roles = equal(nodes);
        let old = carried(&before, &roles, &owners);
        owners = assign(&roles, 3, 256, Some(&old));
        check(&roles, 3, 256, &owners).unwrap();
        assert_eq!(moved(3, &old, 3, &owners), 768 / nodes as usize, "{nodes} nodes");
    }
}

#[test]
fn a_leaving_node_gives_its_share_and_nothing_else_moves() {
    let mut roles = equal(12);
    let mut owners = assign(&roles, 3, 256, None);
    for gone in [3, 0, 7, 4, 1, 2, 0, 1] {
        let before = roles.clone();
        let held = counts(roles.len(), owners.iter().copied())[gone];
        roles.remove(gone);
        let old = carried(&before, &roles, &owners);
        owners = assign(&roles, 3, 256, Some(&old));
        check(&roles, 3, 256, &owners).unwrap();
        assert_eq!(moved(3, &old, 3, &owners), held, "{} nodes stay", roles.len());
    }
}

#[test]
fn nothing_moves_when_nothing_changes() {
    let roles =
        [role(1, 3, "a"), role(2, 1, "a"), role(3, 2, "b"), role(4, 2, "c"), role(5, 9, "c")];
    let owners = assign(&roles, 3, 128, None);
    assert_eq!(assign(&roles, 3, 128, Some(&owners)), owners);
}

#[test]
fn a_small_zone_holds_every_partition_when_it_must() {
    let roles = [role(1, 1, "a"), role(2, 1, "b"), role(3, 1, "b"), role(4, 1, "b")];
    let owners = assign(&roles, 2, 64, None);
    check(&roles, 2, 64, &owners).unwrap();
    assert_eq!(counts(4, owners.into_iter()), [64, 22, 21, 21]);
}

#[test]
fn a_heavy_node_holds_no_partition_twice() {
    let roles = [role(1, 1_000_000, ""), role(2, 1, ""), role(3, 1, ""), role(4, u32::MAX, "")];
    let owners = assign(&roles, 3, 64, None);
    check(&roles, 3, 64, &owners).unwrap();
    assert_eq!(counts(4, owners.into_iter()), [64, 32, 32, 64]);
}

#[test]
fn a_weight_of_nothing_counts_as_one() {
    let none = [role(1, 0, ""), role(2, 0, ""), role(3, 1, "")];
    assert_eq!(assign(&none, 2, 64, None), assign(&equal(3), 2, 64, None));
}

#[test]
fn partners_are_mixed_so_that_many_share_the_load_of_a_dead_node() {
    let owners = assign(&equal(12), 3, 256, None);
    let lists = owners.chunks(3).filter(|owners| owners.contains(&0));
    let partners: Vec<usize> = counts(12, lists.flatten().copied().filter(|&node| node != 0));
    assert!(partners[1..].iter().all(|&shared| (3..=24).contains(&shared)), "{partners:?}");
}

/// The same roles give the same assignment in every process and every release: nodes compare digests.
#[test]
fn the_assignment_is_pinned() {
    let roles = [role(1, 1, "a"), role(2, 1, "a"), role(3, 2, "b"), role(4, 1, "c")];
    let owners = assign(&roles, 2, 8, None);
    let lists: Vec<&[u16]> = owners.chunks(2).collect();
    insta::assert_snapshot!(format!("{lists:?}"), @"[[0, 2], [1, 3], [2, 0], [3, 2], [2, 1], [0, 2], [3, 1], [2, 0]]");
}

#[test]
fn the_largest_cluster_is_assigned_and_changed() {
    let roles = equal(256);
    let owners = assign(&roles, 5, 4096, None);
    check(&roles, 5, 4096, &owners).unwrap();
    let fewer: Vec<Role> = roles[..255].to_vec();
    let old = carried(&roles, &fewer, &owners);
    let owners = assign(&fewer, 5, 4096, Some(&old));
    check(&fewer, 5, 4096, &owners).unwrap();
    assert_eq!(moved(5, &old, 5, &owners), 80);
}

fn cluster() -> impl Strategy<Value = Vec<Role>> {
    let weight = prop_oneof![3 => Just(1u32), 2 => 1u32..=8, 1 => 1u32..=1000];
    let roles = (1usize..=20, 1u8..=6).prop_flat_map(move |(nodes, zones)| {
        prop::collection::vec((weight.clone(), 0..zones), nodes)
    });
    roles.prop_map(|roles| {
        let named = |(at, (weight, zone)): (usize, (u32, u8))| {
            role(at as u128 * 7 + 1, weight, &format!("z{zone}"))
        };
        roles.into_iter().enumerate().map(named).collect()
    })
}

/// Cheapest chains reach the optimum except where two chains could have shared a step; in 100,000 changes none did.
const SLACK: usize = 2;

/// Cases that failed once are kept here, and are run first.
const FAILURES: FileFailurePersistence =
    FileFailurePersistence::Direct("tests/placement.regressions");

proptest! {
    #![proptest_config(Config { failure_persistence: Some(Box::new(FAILURES)), ..Config::default() })]

    #[test]
    fn any_cluster_keeps_the_promises(roles in cluster(), n in 1u8..=5, bits in 3u32..=8) {
        let n = n.min(roles.len() as u8);
        let owners = assign(&roles, n, 1 << bits, None);
        prop_assert_eq!(check(&roles, n, 1 << bits, &owners), Ok(()));
    }

    /// Nodes come and go, weights and n change: the promises hold after every step, and little more moves
    /// than must.
    #[test]
    fn a_cluster_that_changes_keeps_the_promises_and_moves_little(
        first in cluster(),
        steps in prop::collection::vec((any::<u8>(), 1u32..=8, any::<u16>(), 1u8..=5), 1..6),
        bits in 3u32..=5,
    ) {
        let partitions = 1u16 << bits;
        let (mut roles, mut n) = (first, 3u8);
        n = n.min(roles.len() as u8);
        let mut owners = assign(&roles, n, partitions, None);
        for (kind, weight, at, wanted) in steps {
            let (before, n_before) = (roles.clone(), n);
            let at = usize::from(at) % roles.len();
            match kind % 8 {
                0..=2 => {
                    let zone = before[at].zone.clone();
                    let id = before.last().map_or(0, |role| role.node.0) + 1;
                    roles.push(role(id, weight, &zone));
                }
                3..=5 if roles.len() > 1 => {
                    roles.remove(at);
                }
                6 => n = wanted,
                _ => roles[at].weight = weight,
            }
            n = n.min(roles.len() as u8);
            let old = carried(&before, &roles, &owners);
            owners = assign(&roles, n, partitions, Some(&old));
            prop_assert_eq!(check(&roles, n, partitions, &owners), Ok(()));
            let moved = moved(n_before, &old, n, &owners);
            let fewest = fewest_moves(&roles, n_before, &old, n, &owners);
            prop_assert!(moved <= fewest + SLACK, "{moved} moves where {fewest} are enough");
        }
    }
}
