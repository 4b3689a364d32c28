//! What a node shows of its clocks rises over all its lives: its boot epoch, the times of the dots it issues, and the numbers of each
//! actor's dots.
//!
//! A dot that nobody but its issuer stored may be lost with it, so only dots that another node stored count as shown. A dot whose
//! time was pushed up by its own key, because a version of the key is of the same millisecond and below, says nothing of the node's
//! clock: it may be above what the node's clock adopts, and dots of other keys may stay below it.

use std::collections::BTreeMap;

use rondo_core::version::dvv::Dot;

use crate::history::{Boot, Sighting, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "readings";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = epochs(&index.history.lives.boots);
    let mut issued: BTreeMap<u32, Vec<Issued<'_>>> = BTreeMap::new();
    for (&(key, dot), all) in &index.history.sightings {
        for seen in all {
            issued.entry(seen.issuer).or_default().push(Issued { key, dot, seen });
        }
    }
    let pushed = Pushed::of(index);
    for (node, mut issued) in issued {
        issued.sort_by_key(|one| (one.seen.stamp, one.dot));
        wrong.extend(times(node, &issued, &pushed));
        wrong.extend(numbers(node, &issued));
    }
    wrong
}

/// A dot as its issuer stored it.
struct Issued<'a> {
    key: u32,
    dot: Dot,
    seen: &'a Sighting,
}

impl Issued<'_> {
    fn is_shown(&self) -> bool {
        self.seen.shown < Stamp::NEVER
    }
}

/// The boot epochs of each node rise.
fn epochs(boots: &[Boot]) -> Vec<Violation> {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for &Boot { node, stamp, epoch } in boots {
        if let Some(before) = last.insert(node, epoch).filter(|&before| before >= epoch) {
            let what = format!("n{node} boots with epoch {epoch}, after {before}");
            wrong.push(Violation::safety(NAME, stamp, what));
        }
    }
    wrong
}

/// The times of a node's dots rise.
fn times(node: u32, issued: &[Issued<'_>], pushed: &Pushed) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut highest: Option<&Issued<'_>> = None;
    for one in issued {
        let hlc = one.seen.hlc;
        if let Some(before) = highest.filter(|before| before.seen.hlc >= hlc) {
            let (earlier, was, key) = (before.key, before.seen.hlc, one.key);
            let what = format!(
                "n{node} issues a dot of k{key} at {hlc}, after one of k{earlier} at {was} that it has shown"
            );
            wrong.push(Violation::safety(NAME, one.seen.stamp, what));
        } else if one.is_shown() && !pushed.has(one) {
            highest = Some(one);
        }
    }
    wrong
}

/// The numbers of an actor's dots of a key rise above those that were shown.
fn numbers(node: u32, issued: &[Issued<'_>]) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut shown: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for one in issued {
        let of = (one.key, one.dot.actor.0);
        if let Some(&before) = shown.get(&of).filter(|&&before| before >= one.dot.n) {
            let (n, key) = (one.dot.n, one.key);
            let what = format!(
                "n{node} issues dot {n} of k{key}, after it has shown dot {before} of the same actor"
            );
            wrong.push(Violation::safety(NAME, one.seen.stamp, what));
        } else if one.is_shown() {
            shown.insert(of, one.dot.n);
        }
    }
    wrong
}

/// The times of each key's versions, sorted.
struct Pushed(BTreeMap<u32, Vec<u64>>);

impl Pushed {
    fn of(index: &Index<'_>) -> Pushed {
        let mut times: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (&(key, _), all) in &index.history.sightings {
            times.entry(key).or_default().extend(all.iter().map(|seen| seen.hlc.0));
        }
        // So does what was purged, of any key: it is the floor of its unit.
        let purged = index.history.lives.purged.iter().map(|of| of.state.highest_hlc().0);
        let purged: Vec<u64> = purged.collect();
        times.values_mut().for_each(|times| times.extend(&purged));
        times.values_mut().for_each(|times| times.sort_unstable());
        Pushed(times)
    }

    /// Whether an earlier version of the key may have pushed this dot's time up.
    fn has(&self, one: &Issued<'_>) -> bool {
        let times = self.0.get(&one.key).map_or(&[][..], Vec::as_slice);
        let below = times[..times.partition_point(|&time| time < one.seen.hlc.0)].last();
        below.is_some_and(|&time| time >> 16 == one.seen.hlc.wall_ms())
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::version::hlc::Hlc;

    use crate::history::{History, Lives};
    use crate::oracle::made::Made;

    use super::*;

    /// Two dots of node 0, on two keys, with these times and numbers; the first was stored elsewhere or not.
    fn history(times: [u64; 2], numbers: [u64; 2], is_shown: bool) -> History {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, numbers[0]);
        made.put(u32::from(numbers[1] == 1), 3, Some(4)).dot(7, numbers[1]);
        let mut history = made.history();
        let mut all: Vec<&mut Sighting> = history.sightings.values_mut().flatten().collect();
        all.sort_by_key(|seen| seen.stamp);
        for (seen, time) in all.iter_mut().zip(times) {
            seen.hlc = Hlc(time);
        }
        all[0].shown = if is_shown { Stamp(2) } else { Stamp::NEVER };
        history
    }

    fn told(history: &History) -> Vec<String> {
        check(&Index::of(history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_time_below_one_that_was_shown_is_found() {
        let told = told(&history([9 << 16, 8 << 16], [1, 1], true));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("n0 issues a dot of k1 at 8.0, after one of k0 at 9.0"),
            "{told:?}"
        );
    }

    #[test]
    fn what_nobody_saw_and_what_its_own_key_pushed_up_is_no_measure() {
        assert_eq!(told(&history([9 << 16, 8 << 16], [1, 1], false)), Vec::<String>::new());
        let mut pushed = history([9 << 16 | 1, 8 << 16], [1, 1], true);
        let below = pushed.sightings.values().next().expect("one")[0].clone();
        let dot = Dot { actor: rondo_core::id::ActorId(9), n: 1 };
        let below = Sighting { hlc: Hlc(9 << 16), issuer: 1, ..below };
        pushed.sightings.insert((0, dot), vec![below]);
        assert_eq!(told(&pushed), Vec::<String>::new());
        assert_eq!(told(&history([8 << 16, 9 << 16], [1, 1], true)), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_falls_below_one_that_was_shown_is_found() {
        let found = told(&history([8 << 16, 9 << 16], [5, 3], true));
        assert_eq!(found, ["n0 issues dot 3 of k0, after it has shown dot 5 of the same actor"]);
        assert_eq!(told(&history([8 << 16, 9 << 16], [5, 3], false)), Vec::<String>::new());
    }

    #[test]
    fn a_boot_epoch_that_does_not_rise_is_found() {
        let boot = |node, stamp, epoch| Boot { node, stamp: Stamp(stamp), epoch };
        let boots = vec![boot(0, 1, 1), boot(1, 2, 1), boot(0, 3, 2), boot(0, 4, 2)];
        let found =
            told(&History { lives: Lives { boots, ..Lives::default() }, ..History::default() });
        assert_eq!(found, ["n0 boots with epoch 2, after 2"]);
    }
}
