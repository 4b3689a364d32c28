//! All nodes have the same layout, each partition has N distinct owners that exist, in as many failure domains as there are or as it has
//! owners, and only owners store a key, and in a sloppy cluster who was asked by a client to write it at `one`.
//!
//! Asked at the end, when every node is ready; what was stored is asked of the whole run. Also what the layout makes of
//! the wanted N, R and W: never fewer copies than nodes allow, and quorums that meet where they were meant to.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{LayoutView, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "layout";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let layouts = &index.history.layouts;
    let violation = |at, what| Violation::safety(NAME, at, what);
    let mut wrong = Vec::new();
    // A node may come while the last questions are asked: what two have at one time may be two versions then.
    let changes = index.history.lives.reshaping.is_some();
    for pair in layouts.windows(2).filter(|pair| !changes || pair[0].version == pair[1].version) {
        if (pair[0].version, &pair[0].digest) != (pair[1].version, &pair[1].digest) {
            let told =
                |of: &LayoutView| format!("n{} has layout {} {}", of.node, of.version, of.digest);
            wrong.push(violation(Stamp::NEVER, format!("{}, {}", told(&pair[0]), told(&pair[1]))));
        }
    }
    wrong.extend(layouts.iter().flat_map(unsound).map(|what| violation(Stamp::NEVER, what)));
    if changes {
        // Who owned a key, and when, is for `reshaping`.
        return wrong;
    }
    let mut owners: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for last in &index.history.ends.read {
        owners.entry(last.key).or_default().insert(last.node);
    }
    for kept in &index.history.kept {
        let is_strange = owners.get(&kept.key).is_some_and(|of| !of.contains(&kept.node));
        if is_strange && !index.history.may_be_a_fallback(kept.key, kept.node, kept.stamp) {
            let what = format!("n{} stored k{}, which it does not own", kept.node, kept.key);
            wrong.push(violation(kept.stamp, what));
        }
    }
    wrong
}

/// What is wrong with one layout.
pub(super) fn unsound(of: &LayoutView) -> Vec<String> {
    let mut wrong = Vec::new();
    let nodes = of.members;
    let (n, r, w) = (usize::from(of.quorums.n), of.quorums.r, of.quorums.w);
    let (wanted_n, meets) = (usize::from(of.wanted.n), of.wanted.r + of.wanted.w > of.wanted.n);
    if n != wanted_n.min(nodes) || (meets && usize::from(r + w) <= n) {
        let node = of.node;
        wrong.push(format!("n{node}: {nodes} nodes and N={wanted_n} became N={n} R={r} W={w}"));
    }
    for (partition, owners) in of.owners.iter().enumerate() {
        let distinct: BTreeSet<u32> = owners.iter().flatten().copied().collect();
        if distinct.len() != n || owners.len() != n {
            let node = of.node;
            wrong.push(format!(
                "n{node}: the owners of partition {partition} are {owners:?}, N={n}"
            ));
        }
        let zones: BTreeSet<&String> =
            distinct.iter().filter_map(|owner| of.zones.get(owner)).collect();
        let all: BTreeSet<&String> = of.zones.values().collect();
        if zones.len() < n.min(all.len()) {
            let (node, zones) = (of.node, zones.len());
            wrong.push(format!(
                "n{node}: the owners of partition {partition}, {owners:?}, are in {zones} of {} zones",
                all.len()
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use crate::history::{Final, History, Kept};
    use crate::oracle::made::{Made, layout};

    use super::*;

    fn told(change: impl Fn(&mut History)) -> Vec<String> {
        let layouts = (0..3).map(|node| layout(node, 3)).collect();
        let state = Default::default();
        let finals = vec![Final { key: 0, node: 1, state }];
        let kept = Kept { key: 0, node: 1, stamp: Stamp(3), clock: Default::default() };
        let mut history = History {
            layouts,
            ends: crate::history::Ends { read: finals, ..Default::default() },
            kept: vec![kept],
            ..History::default()
        };
        change(&mut history);
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn layouts_that_differ_and_owners_that_are_not_n_distinct_nodes_are_found() {
        let differs = told(|history| history.layouts[2].digest = "other".to_owned());
        assert_eq!(differs, ["n1 has layout 1 same, n2 has layout 1 other"]);
        let twice =
            told(|history| history.layouts[0].owners[1][0] = history.layouts[0].owners[1][1]);
        assert_eq!(twice.len(), 1, "{twice:?}");
        let nobody = told(|history| history.layouts[0].owners[1][0] = None);
        assert_eq!(nobody, ["n0: the owners of partition 1 are [None, Some(1), Some(2)], N=3"]);
        let beside = told(|history| {
            let of = &mut history.layouts[0];
            of.zones =
                [(0, "a"), (1, "a"), (2, "b"), (3, "c")].map(|(n, z)| (n, z.to_owned())).into();
        });
        assert_eq!(beside.len(), 2, "two of three zones, in each partition: {beside:?}");
        let fewer = told(|history| history.layouts[1].quorums.n = 2);
        assert!(fewer[0].contains("became N=2"), "{fewer:?}");
        let apart = told(|history| history.layouts[1].quorums.w = 1);
        assert!(apart[0].ends_with("became N=3 R=2 W=1"), "{apart:?}");
    }

    #[test]
    fn a_key_that_a_stranger_stored_is_found() {
        let stranger = told(|history| history.kept[0].node = 2);
        assert_eq!(stranger, ["n2 stored k0, which it does not own"]);
    }

    #[test]
    fn who_was_asked_for_a_key_in_a_sloppy_cluster_is_no_stranger_to_it() {
        let of = |sloppy, asked: u32, key| {
            told(|history| {
                let mut made = Made::default();
                made.put(key, 1, Some(4)).at_one().by_a_fallback(asked);
                history.ops = made.history().ops;
                (history.kept[0].node, history.terms.sloppy) = (2, sloppy);
            })
        };
        assert_eq!(of(true, 2, 0), Vec::<String>::new());
        for told in [of(false, 2, 0), of(true, 1, 0), of(true, 2, 1)] {
            assert_eq!(told, ["n2 stored k0, which it does not own"]);
        }
    }

    #[test]
    fn the_same_sound_layout_everywhere_is_right() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
        assert_eq!(told(|history| history.layouts.clear()), Vec::<String>::new());
    }
}
