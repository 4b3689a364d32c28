//! Scenarios with as many operations and faults, but simpler ones: fewer nodes, no noise, shorter times.
//!
//! Settings are changed in the JSON form, by their names (`_ppm`, `_ms`), so that a fault or a setting that is added
//! later shrinks without a word here. Whatever does not read back as a scenario is no candidate.

use serde_json::{Map, Value};

use crate::scenario::{Fault, Scenario};

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

/// No retries, no names of requests: for all operations, then for each.
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
        once.operations[range].iter_mut().for_each(|op| op.retries.clear());
        simpler.extend([nameless, once]);
    }
    simpler.retain(|candidate| candidate != scenario);
    simpler
}

/// Each fault with half of a time, or without one item of a list.
pub(super) fn simpler_faults(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    for (at, fault) in scenario.faults.iter().enumerate() {
        let value = serde_json::to_value(fault).expect("a fault has only plain fields");
        let mut variants = Vec::new();
        smaller(&value["what"], &mut variants);
        for what in variants {
            let mut value = value.clone();
            value["what"] = what;
            if let Ok(fault) = serde_json::from_value(value) {
                let mut candidate = scenario.clone();
                candidate.faults[at] = fault;
                simpler.push(candidate);
            }
        }
    }
    simpler
}

/// The value with one of its times halved or with one item of one of its lists left out.
fn smaller(value: &Value, variants: &mut Vec<Value>) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, field) in fields {
        let mut put = |new: Value| {
            let mut fields = fields.clone();
            fields[name] = new;
            variants.push(Value::Object(fields));
        };
        match field {
            // Times below ten milliseconds are short already.
            Value::Number(number) if name.ends_with("_ms") => {
                let ms = number.as_i64().filter(|ms| ms.abs() >= 10);
                ms.into_iter().for_each(|ms| put((ms / 2).into()));
            }
            Value::Array(items) if items.len() > 1 => {
                for at in 0..items.len() {
                    let mut fewer = items.clone();
                    fewer.remove(at);
                    put(fewer.into());
                }
            }
            Value::Object(_) => {
                let mut inner = Vec::new();
                smaller(field, &mut inner);
                inner.into_iter().for_each(&mut put);
            }
            _ => {}
        }
    }
}

fn without_node(scenario: &Scenario, gone: u32) -> Option<Scenario> {
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
    let renamed = scenario.faults.iter().filter_map(|fault| fault_without(fault, gone, &new_name));
    less.faults = renamed.collect();
    Some(less)
}

/// The fault in a cluster without a node; `None` when nothing of it is left.
fn fault_without(fault: &Fault, gone: u32, new_name: &impl Fn(u32) -> u32) -> Option<Fault> {
    let value = serde_json::to_value(fault).expect("a fault has only plain fields");
    serde_json::from_value(value_without(&value, gone, new_name)?).ok()
}

/// A field named `node`, `from` or `to`, and the numbers in a list, are nodes.
fn value_without(value: &Value, gone: u32, new_name: &impl Fn(u32) -> u32) -> Option<Value> {
    let node = |value: &Value| {
        let node = value.as_u64().map(|node| node as u32);
        node.filter(|&node| node != gone).map(|node| new_name(node).into())
    };
    let fields = value.as_object()?.iter().map(|(name, field)| {
        let field = match field {
            Value::Number(_) if matches!(name.as_str(), "node" | "from" | "to") => node(field)?,
            Value::Array(items) => {
                let whole = |item: &Value| match item {
                    Value::Array(pair) => {
                        pair.iter().map(node).collect::<Option<Vec<_>>>().map(Value::Array)
                    }
                    item => node(item),
                };
                let left: Vec<Value> = items.iter().filter_map(whole).collect();
                if left.is_empty() && !items.is_empty() {
                    return None;
                }
                left.into()
            }
            Value::Object(_) => value_without(field, gone, new_name)?,
            other => other.clone(),
        };
        Some((name.clone(), field))
    });
    fields.collect::<Option<Map<String, Value>>>().map(Value::Object)
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
    use crate::generator;
    use crate::scenario::{Kind, Trigger};

    #[test]
    fn a_node_that_goes_takes_its_faults_along() {
        let mut scenario = generator::scenario(0);
        scenario.cluster.nodes = 3;
        scenario.clocks.truncate(3);
        scenario.operations.clear();
        let when = Trigger::At { ms: 5 };
        let cut = Kind::Cut { name: "split".into(), links: vec![(0, 1), (1, 2)], for_ms: 9 };
        let kill = Kind::Kill { node: 0, down_ms: 9 };
        let fault = |what: &Kind| Fault { when, what: what.clone() };
        scenario.faults = vec![fault(&cut), fault(&kill)];
        let less = without_node(&scenario, 0).expect("a cluster of two");
        let left = Kind::Cut { name: "split".into(), links: vec![(0, 1)], for_ms: 9 };
        assert_eq!(less.faults, [fault(&left)]);
        less.check().expect("it speaks of the nodes that are left");
    }

    #[test]
    fn every_time_of_a_fault_gets_shorter_and_every_list_too() {
        let mut scenario = generator::scenario(0);
        let what = Kind::Cut { name: "x".into(), links: vec![(0, 1), (1, 0)], for_ms: 100 };
        scenario.faults = vec![Fault { when: Trigger::At { ms: 5 }, what }];
        let simpler = simpler_faults(&scenario);
        let whats: Vec<&Kind> = simpler.iter().map(|it| &it.faults[0].what).collect();
        let cut = |links: &[(u32, u32)], for_ms| Kind::Cut {
            name: "x".into(),
            links: links.to_vec(),
            for_ms,
        };
        let wanted = [cut(&[(0, 1), (1, 0)], 50), cut(&[(1, 0)], 100), cut(&[(0, 1)], 100)];
        // In which order the fields are tried is for serde_json to say, whose maps a feature of another crate may reorder.
        assert_eq!(whats.len(), wanted.len());
        assert!(wanted.iter().all(|kind| whats.contains(&kind)), "{whats:?}");
    }
}
