//! An acknowledged write is kept by as many primaries as its level says, durably, before its client is told.
//!
//! Who keeps what is seen at the stores: a node keeps a dot from the moment on at which a write that knew it, or its
//! successor, was called durable there. At `one` that is one primary, or the fallback that says so, at `quorum` W, at `all` all N. What
//! the client is told of a read rests on the same, and is asked by `freshness`.

use std::collections::{BTreeMap, BTreeSet};

use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::Dot;
use rondo_core::version::runs::Runs;

use crate::history::{History, Kept, Stamp};
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind};
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "acks";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    // Without a layout nobody knows W: the run was cut short.
    if index.history.layouts.is_empty() {
        return Vec::new();
    }
    let kept = by_key(index.history);
    let mut wrong = Vec::new();
    for (of, kept) in index.keys.iter().zip(&kept) {
        wrong.extend(never_stored(of));
        let keepers = Keepers::of(kept);
        let owners = owners(index, of.key);
        for (dot, fact) in acked(of) {
            let at = fact.acked();
            if let Some(node) = index.history.ops[fact.id as usize].fallback() {
                wrong.extend(by_a_fallback(of.key, fact, node, keepers.before(dot, at)));
                continue;
            }
            let keep = |(owners, quorums): &(BTreeSet<u32>, Quorums)| {
                let by = keepers.before(dot, at).filter(|node| owners.contains(node)).count();
                (by, needed(*quorums, fact.level))
            };
            // Under which layouts it was written nobody says.
            let kept: Vec<(usize, usize)> = owners.iter().map(keep).collect();
            let Some(&(by, needed)) = kept.last() else {
                continue;
            };
            if kept.iter().all(|(by, needed)| by < needed) {
                let (key, id, level) = (of.key, fact.id, fact.level);
                let what = format!(
                    "k{key}: op {id} was acknowledged at {level} when {by} of {needed} primaries kept it"
                );
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    wrong
}

/// What is wrong with a write that a fallback acknowledged: it is one for level `one`, and keeps it itself.
fn by_a_fallback(
    key: u32,
    fact: &Fact,
    node: u32,
    mut keepers: impl Iterator<Item = u32>,
) -> Option<Violation> {
    let what = if fact.level != Level::One {
        format!("was acknowledged at {} by n{node}, a fallback", fact.level)
    } else if !keepers.any(|keeper| keeper == node) {
        format!("was acknowledged by n{node}, a fallback, which did not keep it")
    } else {
        return None;
    };
    Some(Violation::safety(NAME, fact.acked(), format!("k{key}: op {} {what}", fact.id)))
}

/// Acknowledged writes of which no node ever stored a version, where stores were watched.
fn never_stored(of: &OfKey) -> impl Iterator<Item = Violation> {
    let acked =
        of.facts.iter().filter(|fact| fact.kind != Kind::Get && fact.acked() < Stamp::NEVER);
    acked.filter(|fact| of.is_watched && fact.dot.is_none()).map(|fact| {
        let what = format!("k{}: op {} was acknowledged and never stored", of.key, fact.id);
        Violation::safety(NAME, fact.acked(), what)
    })
}

fn acked(of: &OfKey) -> impl Iterator<Item = (Dot, &Fact)> {
    let acked = of.facts.iter().filter(|fact| fact.acked() < Stamp::NEVER);
    acked.filter_map(|fact| {
        let (slot, n) = fact.dot?;
        Some((Dot { actor: of.actor(slot), n }, fact))
    })
}

fn needed(quorums: Quorums, level: Level) -> usize {
    match level {
        Level::One => 1,
        Level::Quorum => usize::from(quorums.w),
        Level::All => usize::from(quorums.n),
    }
}

/// The nodes that are primaries of a key, in each layout that there was.
fn owners(index: &Index<'_>, key: u32) -> Vec<(BTreeSet<u32>, Quorums)> {
    let history = index.history;
    if let Some(reshaping) = &history.lives.reshaping {
        let seen = reshaping.seen.iter();
        return seen.map(|(_, of)| (reshaping.owners(of, key), of.quorums)).collect();
    }
    let owners = index.finals(key).iter().map(|last| last.node).collect();
    history.layouts.first().map(|of| (owners, of.quorums)).into_iter().collect()
}

pub(super) fn by_key(history: &History) -> Vec<Vec<&Kept>> {
    let mut keys = vec![Vec::new(); history.keys() as usize];
    for kept in &history.kept {
        if let Some(of) = keys.get_mut(kept.key as usize) {
            of.push(kept);
        }
    }
    keys
}

/// For each actor and node, when the node came to keep which of the actor's dots: ever more.
struct Keepers(BTreeMap<u64, BTreeMap<u32, Vec<(Runs, Stamp)>>>);

impl Keepers {
    fn of(kept: &[&Kept]) -> Keepers {
        let mut all: BTreeMap<u64, BTreeMap<u32, Vec<(Runs, Stamp)>>> = BTreeMap::new();
        for Kept { node, stamp, clock, .. } in kept {
            for (actor, runs) in clock.entries() {
                let of = all.entry(actor.0).or_default().entry(*node).or_default();
                let mut known = of.last().map_or_else(Runs::default, |(known, _)| known.clone());
                if known.join(runs) {
                    of.push((known, *stamp));
                }
            }
        }
        Keepers(all)
    }

    /// The nodes that kept the dot before a moment.
    fn before(&self, dot: Dot, at: Stamp) -> impl Iterator<Item = u32> {
        let nodes = self.0.get(&dot.actor.0).into_iter().flatten();
        nodes.filter_map(move |(&node, of)| {
            let first = of.partition_point(|(known, _)| !known.has(dot.n));
            of.get(first).filter(|(_, since)| *since < at).map(|_| node)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::{Made, clock, layout};

    use super::*;

    #[test]
    fn what_a_fallback_acknowledged_at_one_it_keeps_itself() {
        let told = |keeper: u32, is_at_one: bool| {
            let mut made = Made::default();
            let put = made.put(0, 1, Some(9)).dot(7, 2).by_a_fallback(4);
            let put = if is_at_one { put.at_one() } else { put };
            let _ = put.id();
            let mut history = made.history();
            history.layouts = vec![layout(0, 3)];
            let clock = clock(7, 2);
            history.kept.push(Kept { key: 0, node: keeper, stamp: Stamp(5), clock });
            let told = check(&Index::of(&history)).into_iter().map(|one| one.what);
            told.collect::<Vec<String>>()
        };
        assert_eq!(told(4, true), Vec::<String>::new());
        let lost = "k0: op 0 was acknowledged by n4, a fallback, which did not keep it";
        assert_eq!(told(1, true), [lost]);
        assert_eq!(told(4, false), ["k0: op 0 was acknowledged at quorum by n4, a fallback"]);
    }

    /// A write at `quorum` and one at `one`, of which so many primaries know in time, and others too late.
    fn told(in_time: u32) -> Vec<String> {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(9)).dot(7, 2).id();
        let other = made.put(0, 1, Some(9)).at_one().dot(8, 1).id();
        let mut history = made.history();
        for node in 0..3 {
            let state = Default::default();
            history.ends.read.push(crate::history::Final { key: 0, node, state });
            let stamp = Stamp(if node < in_time { 4 } else { 9 });
            history.kept.push(Kept { key: 0, node, stamp: Stamp(2), clock: clock(7, 1) });
            history.kept.push(Kept { key: 0, node, stamp, clock: clock(7, 3) });
            history.kept.push(Kept { key: 0, node, stamp, clock: clock(8, 1) });
        }
        history.kept.push(Kept { key: 0, node: 5, stamp: Stamp(3), clock: clock(7, 9) });
        history.layouts.push(layout(0, 3));
        assert_eq!((put, other), (0, 1));
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_write_that_too_few_primaries_kept_when_it_was_acknowledged_is_found() {
        let quorum = "k0: op 0 was acknowledged at quorum when 1 of 2 primaries kept it";
        assert_eq!(told(1), [quorum]);
        assert_eq!(told(0).len(), 2, "nobody at all");
    }

    #[test]
    fn a_write_that_was_acknowledged_and_never_stored_is_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(9)).dot(7, 1);
        made.put(0, 1, Some(9));
        made.put(0, 1, None);
        let history = made.history();
        let index = Index::of(&history);
        let told: Vec<String> = never_stored(&index.keys[0]).map(|found| found.what).collect();
        assert_eq!(told, ["k0: op 1 was acknowledged and never stored"]);
    }

    #[test]
    fn as_many_as_the_level_says_are_enough() {
        assert_eq!(told(2), Vec::<String>::new());
    }
}
