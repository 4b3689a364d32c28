//! A cluster that changes its shape while clients write: nodes that come, go and take the place of others.

use rondo_sim::fault::membership::{Beside, Join, Order, Replace, Reuse, Wanted};
use rondo_sim::fault::{Fault, Kind, Trigger};
use rondo_sim::generator::{self, Size};
use rondo_sim::run::{self, Outcome};
use rondo_sim::scenario::{Scenario, Skew};

const SIZE: Size = Size { nodes: 3, heal_at_ms: 12_000, operations: 200 };

/// A calm cluster of so many founders, and one more node for each of these names.
fn scenario(founders: u32, later: &[u32], faults: Vec<(u64, Kind)>) -> Scenario {
    let mut made = generator::sized(4, Size { nodes: founders, ..SIZE });
    made.cluster.nodes = founders + later.len() as u32;
    made.cluster.later = later.to_vec();
    (made.cluster.replicas, made.cluster.read_quorum, made.cluster.write_quorum) = (3, 2, 2);
    made.clocks = vec![Skew { offset_ms: 0, drift_ppm: 0 }; made.cluster.nodes as usize];
    (made.links.loss_ppm, made.links.tail_ppm, made.disks.cold_ppm) = (0, 0, 0);
    (made.outside, made.buggify) = (None, Vec::new());
    let fault = |(ms, what)| Fault { when: Trigger::At { ms }, what };
    made.faults = faults.into_iter().map(fault).collect();
    made.check().expect("it keeps the bounds");
    made
}

fn passes(scenario: &Scenario) -> Outcome {
    let outcome = run::run(scenario, false);
    assert_eq!(outcome.violations, []);
    outcome
}

/// The version of the layout at the end, and the nodes that own something in it.
fn at_the_end(outcome: &Outcome) -> (u64, Vec<u32>) {
    let last = &outcome.history.layouts[0];
    let mut owners: Vec<u32> = last.owners.iter().flatten().copied().flatten().collect();
    owners.sort_unstable();
    owners.dedup();
    (last.version, owners)
}

#[test]
fn a_node_that_comes_gets_its_part() {
    let outcome = passes(&scenario(3, &[3], vec![(4_000, Join { node: 3 }.into())]));
    assert_eq!(at_the_end(&outcome), (2, vec![0, 1, 2, 3]));
}

#[test]
fn one_that_writes_alone_and_two_that_come_are_three_full_copies() {
    let faults = vec![(5_000, Join { node: 1 }.into()), (8_000, Join { node: 2 }.into())];
    let outcome = passes(&scenario(1, &[1, 2], faults));
    assert_eq!(at_the_end(&outcome), (3, vec![0, 1, 2]));
}

#[test]
fn a_node_that_leaves_hands_its_part_to_the_others() {
    let what = Wanted::Leave { node: 1 };
    let order = Order { node: 0, what, beside: None, for_ms: 3_000 };
    let outcome = passes(&scenario(4, &[], vec![(4_000, order.into())]));
    assert_eq!(at_the_end(&outcome), (2, vec![0, 2, 3]));
}

#[test]
fn a_new_node_with_the_name_of_one_that_is_gone_takes_its_place() {
    let replace = Replace { node: 1, to: 3, down_ms: 500 };
    let outcome = passes(&scenario(3, &[1], vec![(4_000, replace.into())]));
    assert_eq!(at_the_end(&outcome), (2, vec![0, 2, 3]));
}

#[test]
fn a_name_that_is_in_use_gives_no_place_to_another() {
    let reuse = Reuse { node: 3, for_ms: 3_000 };
    let outcome = passes(&scenario(3, &[1], vec![(4_000, reuse.into())]));
    assert_eq!(at_the_end(&outcome), (1, vec![0, 1, 2]));
}

#[test]
fn of_two_changes_at_once_each_comes_in_the_end_or_is_refused() {
    let beside = Beside { node: 2, what: Wanted::Join { node: 3, weight: 3 } };
    let what = Wanted::Leave { node: 1 };
    let order = Order { node: 0, what, beside: Some(beside), for_ms: 9_000 };
    let outcome = passes(&scenario(4, &[], vec![(4_000, order.into())]));
    let (version, owners) = at_the_end(&outcome);
    assert!(version >= 2, "one of them at least: {version}");
    assert!(owners.len() >= 3, "{owners:?}");
}
