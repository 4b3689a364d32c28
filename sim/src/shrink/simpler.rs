//! Scenarios with as many operations and faults, but simpler ones: fewer nodes, no noise, shorter times.
//!
//! Settings are changed in the JSON form, by their names (`_ppm`), so that a setting that is added later shrinks without a word
//! here; how a fault gets smaller stands with the faults. Whatever does not read back as a scenario is no candidate.

use serde_json::{Map, Value};

use crate::scenario::Scenario;

/// What a scenario cannot be without, or what is shrunk elsewhere.
const KEPT: [&str; 9] =
    ["version", "story", "seed", "cluster", "links", "disks", "clocks", "operations", "faults"];
/// Between the last operation and the heal, in milliseconds, the shortest first.
const AFTER_MS: [u64; 4] = [20, 200, 1_000, 3_000];

/// One node less, each in turn, the last first. What named it names another; what struck only it is gone.
pub(super) fn fewer_nodes(scenario: &Scenario) -> Vec<Scenario> {
    let nodes = scenario.cluster.nodes;
    (0..nodes).rev().filter(|_| nodes > 1).filter_map(|gone| without_node(scenario, gone)).collect()
}

/// The heal sooner after the last operation.
pub(super) fn ends_early(scenario: &Scenario) -> Vec<Scenario> {
    let last_ms = scenario.operations.iter().map(|op| op.at_us / 1_000 + 1).max().unwrap_or(0);
    let ends = AFTER_MS.map(|after_ms| last_ms + after_ms);
    let sooner = ends.into_iter().filter(|&at| at < scenario.heal_at_ms);
    sooner.map(|heal_at_ms| Scenario { heal_at_ms, ..scenario.clone() }).collect()
}

/// No chance of anything, even syncs, right clocks, and nothing that a scenario can be without.
pub(super) fn less_noise(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    let whole = fields(scenario);
    for name in whole.keys().filter(|name| !KEPT.contains(&name.as_str())) {
        let mut fields = whole.clone();
        fields.remove(name);
        simpler.extend(read(fields));
    }
    for section in ["links", "disks"] {
        let chances = whole.get(section).and_then(Value::as_object).into_iter().flatten();
        let chances = chances.filter(|(name, value)| name.ends_with("_ppm") && **value != 0);
        for (name, _) in chances {
            let mut fields = whole.clone();
            fields[section][name] = 0.into();
            simpler.extend(read(fields));
        }
    }
    let mut even = scenario.clone();
    even.disks.sync_max_us = even.disks.sync_min_us;
    simpler.push(even);
    simpler.extend(right_clocks(scenario));
    simpler.retain(|candidate| candidate != scenario);
    simpler
}

/// All clocks right, then each.
fn right_clocks(scenario: &Scenario) -> Vec<Scenario> {
    let right = |which: &dyn Fn(usize) -> bool| {
        let mut simpler = scenario.clone();
        let clocks = simpler.clocks.iter_mut().enumerate().filter(|(at, _)| which(*at));
        clocks.for_each(|(_, clock)| (clock.offset_ms, clock.drift_ppm) = (0, 0));
        simpler
    };
    let each = (0..scenario.clocks.len()).map(|node| right(&|at| at == node));
    std::iter::once(right(&|_| true)).chain(each).collect()
}

/// No retries, no names of requests, values that stay: for all operations, then for each.
pub(super) fn simpler_operations(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    let all = 0..scenario.operations.len();
    for range in std::iter::once(all.clone()).chain(all.map(|at| at..at + 1)) {
        let mut nameless = scenario.clone();
        for op in &mut nameless.operations[range.clone()] {
            op.retries.clear();
            (op.named, op.same_id_as, op.attempt) = (false, None, 1);
        }
        let mut once = scenario.clone();
        once.operations[range.clone()].iter_mut().for_each(|op| op.retries.clear());
        let mut stays = scenario.clone();
        stays.operations[range].iter_mut().for_each(|op| op.action = op.action.staying(0));
        simpler.extend([nameless, once, stays]);
    }
    simpler.retain(|candidate| candidate != scenario);
    simpler
}

/// Each fault in turn, made smaller.
pub(super) fn simpler_faults(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    for (at, fault) in scenario.faults.iter().enumerate() {
        for fault in fault.simpler() {
            let mut candidate = scenario.clone();
            candidate.faults[at] = fault;
            simpler.push(candidate);
        }
    }
    simpler
}

fn without_node(scenario: &Scenario, gone: u32) -> Option<Scenario> {
    // Who comes later stands in the last places.
    if !scenario.cluster.later.is_empty() {
        return None;
    }
    let mut less = scenario.clone();
    less.cluster.nodes -= 1;
    less.clocks.remove(gone as usize);
    for list in [&mut less.cluster.zones, &mut less.cluster.weights] {
        if !list.is_empty() {
            list.remove(gone as usize);
        }
    }
    let new_name = |node: u32| match node {
        _ if node == gone => gone % (scenario.cluster.nodes - 1),
        _ => node - u32::from(node > gone),
    };
    for op in &mut less.operations {
        op.node = new_name(op.node);
        op.retries.iter_mut().for_each(|retry| retry.node = new_name(retry.node));
    }
    // A smaller cluster may have none to spare.
    less.outside = scenario.outside.clone().and_then(|mut outside| {
        outside.nodes.retain(|&node| node != gone);
        outside.nodes.iter_mut().for_each(|node| *node = new_name(*node));
        let count = outside.nodes.len() as u32;
        (1..=less.cluster.spare()).contains(&count).then_some(outside)
    });
    let renamed = scenario.faults.iter().filter_map(|fault| fault.without_node(gone, &new_name));
    less.faults = renamed.collect();
    Some(less)
}

fn fields(scenario: &Scenario) -> Map<String, Value> {
    match serde_json::to_value(scenario) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn read(fields: Map<String, Value>) -> Option<Scenario> {
    serde_json::from_value(Value::Object(fields)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::partitions::Cut;
    use crate::fault::processes::Kill;
    use crate::fault::{Fault, Kind, Trigger};
    use crate::generator;

    #[test]
    fn a_node_that_goes_takes_its_faults_along() {
        let mut scenario = generator::scenario(0);
        scenario.cluster.nodes = 3;
        scenario.clocks.truncate(3);
        scenario.operations.clear();
        let when = Trigger::At { ms: 5 };
        let cut: Kind = Cut { name: "split".into(), links: vec![(0, 1), (1, 2)], for_ms: 9 }.into();
        let kill: Kind = Kill { node: 0, down_ms: 9 }.into();
        let fault = |what: &Kind| Fault { when, what: what.clone() };
        scenario.faults = vec![fault(&cut), fault(&kill)];
        let less = without_node(&scenario, 0).expect("a cluster of two");
        let left: Kind = Cut { name: "split".into(), links: vec![(0, 1)], for_ms: 9 }.into();
        assert_eq!(less.faults, [fault(&left)]);
        less.check().expect("it speaks of the nodes that are left");
    }
}
