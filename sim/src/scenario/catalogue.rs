//! The catalogue of what can go wrong: one line a kind, and which kinds a scenario contains.
//!
//! Kinds that strike as a fault stand in their families (`fault`), from which the generator draws them. Besides those there are kinds that
//! hold for a whole run (losses, wrong clocks) and kinds of load, which are found by looking at the operations.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rondo_core::config::HINT_BYTES_MAX;

use crate::fault::{self, Entry, Fault};
use crate::scenario::{Action, Operation, Over, Scenario};

/// Whether a scenario contains a kind.
type IsThere = fn(&Scenario) -> bool;

/// Kinds that hold for a whole run, or are made of operations, with what shows that a scenario contains them.
const OTHERS: &[(Entry, IsThere)] = &[
    (Entry::new("link", "loss", "any message may be lost"), |made| made.links.loss_ppm > 0),
    (Entry::new("link", "duplicate", "any message may arrive twice"), |made| {
        made.links.duplicate_ppm > 0
    }),
    (Entry::new("link", "reorder", "messages overtake each other"), |made| {
        made.links.delay_mean_us > 0
    }),
    (Entry::new("link", "late tail", "a few messages are very late"), |made| {
        made.links.tail_ppm > 0
    }),
    (Entry::new("disk", "cold reads", "reads wait for the device"), |made| made.disks.cold_ppm > 0),
    (Entry::new("clock", "skew", "wall clocks are apart"), |made| {
        made.clocks.iter().any(|clock| clock.offset_ms != 0)
    }),
    (Entry::new("clock", "drift", "clocks run at different rates"), |made| {
        made.clocks.iter().any(|clock| clock.drift_ppm != 0)
    }),
    (Entry::new("load", "burst", "ten operations on one key within five milliseconds"), has_burst),
    (Entry::new("load", "hot key", "two thirds of all operations are on one key"), has_hot_key),
    (
        Entry::new(
            "load",
            "stale contexts",
            "a write says that it has seen only what was first there",
        ),
        |made| made.operations.iter().any(|op| op.action.over() == Some(Over::Stale)),
    ),
    (Entry::new("load", "blind puts", "a write does not say what it has seen"), |made| {
        made.operations.iter().any(|op| op.action.over() == Some(Over::Blind))
    }),
    (
        Entry::new(
            "load",
            "delete and recreate",
            "one client deletes a key and puts it anew, in turn",
        ),
        recreates,
    ),
    (Entry::new("load", "large values", "values of several KiB"), |made| {
        made.operations.iter().any(|op| op.bytes >= 2 << 10)
    }),
    (
        Entry::new("load", "client retries", "a client sends the same request again, elsewhere"),
        |made| made.operations.iter().any(|op| !op.retries.is_empty()),
    ),
    (
        Entry::new(
            "load",
            "impatient clients",
            "a client sends a request again before its first attempt has ended",
        ),
        |made| made.operations.iter().any(|op| op.retries.iter().any(|retry| retry.early)),
    ),
    (
        Entry::new("load", "zones and weights", "nodes in failure domains, with unequal shares"),
        |made| !(made.cluster.zones.is_empty() && made.cluster.weights.is_empty()),
    ),
    (Entry::new("load", "foreign tokens", "a client sends the token of another key"), |made| {
        made.operations.iter().any(|op| op.action.over() == Some(Over::Foreign))
    }),
    (
        Entry::new("load", "unusual quorums", "N up to 7, any R and W, more replicas than nodes"),
        |made| {
            let of = &made.cluster;
            u32::from(of.replicas) > of.nodes
                || of.replicas > 5
                || of.read_quorum + of.write_quorum <= of.replicas
        },
    ),
    (
        Entry::new(
            "load",
            "chains of tokens",
            "a client writes again with the token of its last write",
        ),
        |made| made.operations.iter().any(|op| op.action.over() == Some(Over::Own)),
    ),
    (Entry::new("load", "huge values", "values of 100 KiB to 1 MiB"), |made| {
        made.operations.iter().any(|op| op.bytes >= 100 << 10)
    }),
    (
        Entry::new(
            "load",
            "many siblings",
            "more writes that overwrite nothing than a key has room for",
        ),
        |made| {
            let blank = |op: &&Operation| op.action.over() == Some(Over::Nothing);
            (0..made.keys()).any(|key| of_key(made, key).filter(blank).count() > 55)
        },
    ),
    (
        Entry::new("load", "ids used again", "a put bears the request id of an earlier write"),
        |made| made.operations.iter().any(|op| op.same_id_as.is_some()),
    ),
    (
        Entry::new("load", "attempts that change", "a later attempt asks for something else"),
        |made| {
            made.operations.iter().any(|op| op.retries.iter().any(|retry| retry.change.is_some()))
        },
    ),
    (
        Entry::new(
            "load",
            "attempts without a first",
            "the first attempt that is sent is a later one",
        ),
        |made| made.operations.iter().any(|op| op.attempt > 1),
    ),
    (Entry::new("load", "expiry", "values that stay for some seconds only"), |made| {
        made.operations.iter().any(|op| op.action.ttl_ms().is_some())
    }),
    (Entry::new("load", "sloppy", "who reaches no primary takes writes at `one` on"), |made| {
        made.cluster.sloppy
    }),
    (Entry::new("load", "little room for hints", "what owners miss is noted by nobody"), |made| {
        made.cluster.hint_bytes < HINT_BYTES_MAX
    }),
    (Entry::new("load", "client vanishes", "a client is gone before it has its answer"), |made| {
        made.operations.iter().any(|op| op.vanishes_ms > 0)
    }),
];

/// All kinds, by family.
#[must_use]
pub fn all() -> Vec<Entry> {
    let mut all: Vec<Entry> = fault::entries().copied().collect();
    all.extend(OTHERS.iter().map(|(entry, _)| *entry));
    // The sort is stable: within a family the table's order stays.
    all.sort_by_key(|entry| entry.family);
    all
}

/// The kinds that a scenario contains.
#[must_use]
pub fn kinds(scenario: &Scenario) -> BTreeSet<&str> {
    let others = OTHERS.iter().filter(|(_, is_there)| is_there(scenario));
    let faults = scenario.faults.iter().map(Fault::name);
    faults.chain(others.map(|(entry, _)| entry.name)).collect()
}

/// The catalogue as text, one line a kind.
#[must_use]
pub fn text() -> String {
    let mut text = String::new();
    for Entry { family, name, what, .. } in all() {
        let _ = writeln!(text, "{family:<10} {name:<24} {what}");
    }
    let _ = writeln!(text, "{} kinds", all().len());
    text
}

fn has_burst(made: &Scenario) -> bool {
    (0..made.keys()).any(|key| {
        let times: Vec<u64> = of_key(made, key).map(|op| op.at_us).collect();
        times.windows(10).any(|ten| ten[9] - ten[0] <= 5_000)
    })
}

fn has_hot_key(made: &Scenario) -> bool {
    (0..made.keys()).any(|key| of_key(made, key).count() * 3 >= made.operations.len() * 2)
        && made.keys() > 1
}

fn recreates(made: &Scenario) -> bool {
    made.operations.iter().any(|op| {
        let mut next =
            of_key(made, op.key).filter(|next| next.client == op.client && next.at_us > op.at_us);
        matches!(op.action, Action::Delete { .. })
            && next.next().is_some_and(|next| matches!(next.action, Action::Put { .. }))
    })
}

fn of_key(made: &Scenario, key: u32) -> impl Iterator<Item = &Operation> {
    made.operations.iter().filter(move |op| op.key == key)
}

#[cfg(test)]
mod tests {
    use crate::generator;

    use super::*;

    #[test]
    fn every_kind_is_generated_and_every_generated_kind_is_listed() {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for seed in 0..1_000 {
            seen.extend(kinds(&generator::scenario(seed)).into_iter().map(str::to_owned));
        }
        let names: BTreeSet<&str> = all().iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), all().len(), "a name stands twice");
        let listed: BTreeSet<String> =
            all().into_iter().map(|entry| entry.name.to_owned()).collect();
        assert_eq!(seen, listed);
        assert!(fault::entries().count() >= 35);
    }
}
