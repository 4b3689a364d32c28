//! A cluster that is reshaped keeps what it has acknowledged: one layout of each version, never an older one again, only owners that
//! store, and who becomes an owner holds what the others held.
//!
//! What was stored is looked at when the layouts have come to rest and before anybody reads, so that no read has mended it. A write
//! at `quorum` or `all` is then held by W owners of the newest layout, or where W has grown by so many that every R of them meet it;
//! one that was acknowledged before anything changed by every owner that came later, because those who come fetch what more than
//! N - W owners held. Left out: writes that only a node held which is gone for good (`given_up`).
//! Then nobody holds a key that it does not own: whoever lost it has handed it over and deleted it.

use std::collections::{BTreeMap, BTreeSet};

use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::{Dot, VersionSet, VersionVector};

use crate::history::{Final, LayoutView, Reshaping, Stamp};
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind};
use crate::oracle::index::{Index, OfKey};
use crate::oracle::layout::unsound;

const NAME: &str = "reshaping";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let Some(reshaping) = &index.history.lives.reshaping else {
        return Vec::new();
    };
    let mut wrong = layouts(reshaping);
    wrong.extend(strangers(index, reshaping));
    // What its owners refuse since they have purged something of it stays where it is.
    let left = reshaping.left.iter().filter(|(_, key)| index.purged(*key).next().is_none());
    let left = left.map(|(node, key)| {
        let what =
            format!("n{node} holds k{key}, which it does not own and says it has handed over");
        Violation::safety(NAME, Stamp::NEVER, what)
    });
    wrong.extend(left);
    // Only a run that came to its end says who held what.
    if !reshaping.held.is_empty() && !index.history.layouts.is_empty() {
        wrong.extend(index.keys.iter().flat_map(|of| lost(index, reshaping, of)));
    }
    wrong
}

/// Two layouts of one version, one that is unsound, and a node that goes back to an older one.
fn layouts(reshaping: &Reshaping) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut digests: BTreeMap<u64, &LayoutView> = BTreeMap::new();
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    for (stamp, of) in &reshaping.seen {
        let LayoutView { node, version, digest, .. } = of;
        let is_new = !digests.contains_key(version);
        let known = digests.entry(*version).or_insert(of);
        if known.digest != *digest {
            let (other, theirs) = (known.node, &known.digest);
            let what = format!("layout {version} is {theirs} at n{other} and {digest} at n{node}");
            wrong.push(Violation::safety(NAME, *stamp, what));
        }
        if is_new {
            let told = unsound(of).into_iter();
            wrong.extend(told.map(|what| Violation::safety(NAME, *stamp, what)));
        }
        let before = newest.insert(*node, *version).unwrap_or(0);
        if before > *version {
            let what = format!("n{node} has layout {version} after it had layout {before}");
            wrong.push(Violation::safety(NAME, *stamp, what));
        }
    }
    wrong
}

/// Whoever stored a key that it owned in no layout.
fn strangers(index: &Index<'_>, reshaping: &Reshaping) -> Vec<Violation> {
    if reshaping.partitions.is_empty() {
        return Vec::new();
    }
    let keys = 0..index.keys.len() as u32;
    let owned = |key| reshaping.seen.iter().flat_map(move |(_, of)| reshaping.owners(of, key));
    let owners: Vec<BTreeSet<u32>> = keys.map(|key| owned(key).collect()).collect();
    let is_strange = |(key, node): (u32, u32)| {
        owners.get(key as usize).is_some_and(|owners| !owners.contains(&node))
    };
    let strange = index.history.kept.iter().filter(|kept| is_strange((kept.key, kept.node)));
    let strange =
        strange.filter(|one| !index.history.may_be_a_fallback(one.key, one.node, one.stamp));
    let told = strange.map(|kept| {
        let what = format!("n{} stored k{}, which it never owned", kept.node, kept.key);
        Violation::safety(NAME, kept.stamp, what)
    });
    told.collect()
}

/// The acknowledged writes of a key that too few owners held.
fn lost(index: &Index<'_>, reshaping: &Reshaping, of: &OfKey) -> Vec<Violation> {
    let Some(newest) = index.history.layouts.first() else {
        return Vec::new();
    };
    let held: Vec<&Final> = reshaping.held.iter().filter(|held| held.key == of.key).collect();
    let first = reshaping.seen.first().map(|(_, first)| reshaping.owners(first, of.key));
    let first = first.unwrap_or_default();
    let came: Vec<&&Final> = held.iter().filter(|held| !first.contains(&held.node)).collect();
    let needed = needed(reshaping, newest);
    let mut wrong = Vec::new();
    let purged: Vec<VersionVector> = index.purged(of.key).map(VersionSet::clock).collect();
    // What was purged all owners had.
    let is_purged = |dot| purged.iter().any(|clock| clock.covers(dot));
    for (dot, fact) in acked(of).filter(|(dot, _)| !is_purged(*dot)) {
        let by = held.iter().filter(|held| has(held, dot)).count();
        let (key, id) = (of.key, fact.id);
        if by < needed {
            let what =
                format!("k{key}: op {id} was acknowledged and {by} of {needed} owners hold it");
            wrong.push(Violation::safety(NAME, fact.acked(), what));
        }
        let is_before = reshaping.began.is_some_and(|began| fact.acked() < began);
        let lacks = came.iter().find(|held| is_before && !has(held, dot));
        if let Some(Final { node, .. }) = lacks {
            let what =
                format!("k{key}: op {id} was acknowledged before n{node} came, which lacks it");
            wrong.push(Violation::safety(NAME, fact.acked(), what));
        }
    }
    wrong
}

/// How many owners hold what was acknowledged, under whichever layout it was: W of the newest; or, where another had a smaller W, no
/// fewer than that, nor than reads need to meet it.
fn needed(reshaping: &Reshaping, newest: &LayoutView) -> usize {
    let Quorums { n, r, w } = newest.quorums;
    let least = reshaping.seen.iter().map(|(_, seen)| seen.quorums.w).min().unwrap_or(w);
    let meets = if r + w > n { n + 1 - r } else { 1 };
    usize::from(w.min(least.max(meets)))
}

fn has(held: &Final, dot: Dot) -> bool {
    let clock = held.state.clock();
    clock.entries().iter().any(|(actor, runs)| *actor == dot.actor && runs.has(dot.n))
}

/// The writes at `quorum` and `all` that were acknowledged.
fn acked(of: &OfKey) -> impl Iterator<Item = (Dot, &Fact)> {
    let acked = of.facts.iter().filter(|fact| {
        fact.kind != Kind::Get && fact.level != Level::One && fact.acked() < Stamp::NEVER
    });
    acked.filter_map(|fact| {
        let (slot, n) = fact.dot?;
        Some((Dot { actor: of.actor(slot), n }, fact))
    })
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Kept};
    use crate::oracle::made::{Made, clock, layout};

    use super::*;

    /// Three nodes, and then a fourth in the place of the first, which holds a write of before, or not. Another write came later.
    fn history(holders: &[u32]) -> History {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(9)).dot(7, 1).id();
        let later = made.put(0, 30, Some(39)).dot(7, 2).id();
        for node in 1..4 {
            match holders.contains(&node) {
                true => made.ends(0, node, &[(later, 7, 2)]),
                false => made.ends(0, node, &[]),
            }
        }
        assert_eq!((put, later), (0, 1));
        let mut history = made.history();
        let seen = |node, version: u64, first: u32| {
            let owners = vec![(first..first + 3).map(Some).collect()];
            let digest = version.to_string();
            LayoutView { version, digest, owners, ..layout(node, 4) }
        };
        history.layouts = (0..4).map(|node| seen(node, 2, 1)).collect();
        let firsts = (0..3).map(|node| (Stamp(1), seen(node, 1, 0)));
        let seconds = (0..4).map(|node| (Stamp(25), seen(node, 2, 1)));
        history.lives.reshaping = Some(Reshaping {
            began: Some(Stamp(20)),
            seen: firsts.chain(seconds).collect(),
            partitions: vec![0],
            held: std::mem::take(&mut history.ends.read),
            ..Reshaping::default()
        });
        history
    }

    fn told(holders: &[u32], change: impl FnOnce(&mut History, &mut Reshaping)) -> Vec<String> {
        let mut history = history(holders);
        let mut reshaping = history.lives.reshaping.take().expect("it is reshaped");
        change(&mut history, &mut reshaping);
        history.lives.reshaping = Some(reshaping);
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn who_comes_and_lacks_what_was_there_before_is_found() {
        let lacks = ["k0: op 0 was acknowledged before n3 came, which lacks it"];
        assert_eq!(told(&[1, 2], |_, _| {}), lacks);
        assert_eq!(told(&[1, 3], |_, _| {}), Vec::<String>::new(), "two of three are a quorum");
    }

    #[test]
    fn a_write_that_too_few_of_the_newest_owners_hold_is_found() {
        let few = told(&[3], |_, _| {});
        assert_eq!(few[0], "k0: op 0 was acknowledged and 1 of 2 owners hold it");
        assert_eq!(few.len(), 2, "both writes: {few:?}");
    }

    #[test]
    fn where_w_has_grown_so_many_hold_a_write_that_every_read_meets_it() {
        let grown = |r| {
            move |history: &mut History, it: &mut Reshaping| {
                history.layouts[0].quorums = Quorums { n: 3, r, w: 3 };
                it.held.retain(|held| held.node != 1);
            }
        };
        assert_eq!(told(&[1, 2, 3], grown(2)), Vec::<String>::new(), "two of them, and R is 2");
        let few = told(&[1, 2, 3], grown(1));
        assert!(few[0].ends_with("2 of 3 owners hold it"), "{few:?}");
    }

    #[test]
    fn what_stays_with_a_node_that_does_not_own_it_is_found() {
        let stays = told(&[1, 2, 3], |_, it| it.left.push((0, 0)));
        assert_eq!(stays, ["n0 holds k0, which it does not own and says it has handed over"]);
    }

    #[test]
    fn two_layouts_of_one_version_and_a_way_back_are_found() {
        let two = told(&[1, 2, 3], |_, it| it.seen[5].1.digest = "other".to_owned());
        assert_eq!(two, ["layout 2 is 2 at n0 and other at n2"]);
        let back = told(&[1, 2, 3], |_, it| {
            let old = it.seen[0].clone();
            it.seen.push(old);
        });
        assert_eq!(back, ["n0 has layout 1 after it had layout 2"]);
        let twice = told(&[1, 2, 3], |_, it| it.seen[3].1.owners[0][0] = Some(2));
        assert_eq!(twice.len(), 1, "{twice:?}");
    }

    #[test]
    fn who_stores_what_it_never_owned_is_found() {
        let kept = |node| Kept { key: 0, node, stamp: Stamp(30), clock: clock(7, 1) };
        let strange = told(&[1, 2, 3], |history, _| history.kept = vec![kept(0), kept(4)]);
        assert_eq!(strange, ["n4 stored k0, which it never owned"]);
    }
}
