//! A context does not lie: what it covers was shown to the client, or overwritten by a write that may have known it.
//!
//! A context that covers a write which its reader never saw lets the reader's next write destroy it unseen. Lost
//! writes hide behind exactly this, which is why it is checked on its own, for reads and for the contexts that
//! writes hand out. Deletes are not shown, so only puts are looked for. A read that finds no value tells of those that
//! stand beside the delete, and covers no others.
//!
//! A write that was neither acknowledged nor ever shown, and that a kill of its coordinator may have lost, is covered by rights once
//! no replica knows of it: a run of numbers goes over it then to those of a later life.
//!
//! A value that may have expired is covered as a delete is.
//!
//! Contexts are taken in order of time, and puts leave a list once they may have been overwritten, so that what is still in it
//! below a context is either shown or wrong.

use std::collections::BTreeSet;

use rondo_core::config::LIFE_DOTS;

use crate::history::{Fate, Stamp};
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind};
use crate::oracle::index::{Index, OfKey};
use crate::oracle::overwritten;

const NAME: &str = "coverage";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    index.keys.iter().flat_map(hidden).collect()
}

/// The puts that contexts cover without having shown them.
fn hidden(of: &OfKey) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut puts = Puts::of(of);
    let ever_shown: BTreeSet<u32> =
        of.told.iter().flat_map(|told| of.shown(told)).copied().collect();
    for told in &of.told {
        puts.leave_before(told.at);
        let (own, shown) = (of.facts[told.place as usize].id, of.shown(told));
        for &(slot, run) in of.clock(told.clock) {
            let dots = &puts.dots[slot as usize];
            let mut at = puts.next(slot, dots.partition_point(|dot| dot.0 < run.from));
            while let Some(&(n, place)) =
                puts.dots[slot as usize].get(at).filter(|dot| dot.0 <= run.to)
            {
                let Fact { id: other, fate, expires, .. } = of.facts[place as usize];
                let may_be_expired = expires.is_some_and(|from| told.time >= from);
                let is_unheard_of = !matches!(fate, Fate::Acked(_)) && !ever_shown.contains(&other);
                let may_be_lost = is_unheard_of && n / LIFE_DOTS < run.to / LIFE_DOTS;
                if !may_be_lost && !may_be_expired && other != own && !shown.contains(&other) {
                    let key = of.key;
                    let what = format!(
                        "k{key}: the context that op {own} was given covers op {other}, which it was \
                         not shown and nobody had overwritten"
                    );
                    wrong.push(Violation::safety(NAME, told.at, what));
                }
                at = puts.next(slot, at + 1);
            }
        }
    }
    wrong
}

/// The puts that nobody may have overwritten yet, by dot.
struct Puts {
    /// For each slot the dots of all puts, sorted, and their places.
    dots: Vec<Vec<(u64, u32)>>,
    /// For each of them, one at or before the next that is still there.
    next: Vec<Vec<usize>>,
    /// When each leaves, the last one first, and where it stands.
    leave: Vec<(Stamp, u32, usize)>,
}

impl Puts {
    fn of(of: &OfKey) -> Puts {
        let is_put = |&&(_, place): &&(u64, u32)| of.facts[place as usize].kind == Kind::Put;
        let of_slot = |dots: &Vec<(u64, u32)>| dots.iter().filter(is_put).copied().collect();
        let dots: Vec<Vec<(u64, u32)>> = of.dots.iter().map(of_slot).collect();
        let gone = overwritten::may_be_gone(of);
        let mut leave = Vec::new();
        for (slot, dots) in (0..).zip(&dots) {
            for (at, &(_, place)) in dots.iter().enumerate() {
                leave.push((gone[place as usize].0, slot, at));
            }
        }
        leave.sort_unstable_by(|one, other| other.cmp(one));
        let next = dots.iter().map(|dots| (0..=dots.len()).collect()).collect();
        Puts { dots, next, leave }
    }

    /// Those leave that may have been overwritten before `at`.
    fn leave_before(&mut self, at: Stamp) {
        while let Some((_, slot, at)) = self.leave.pop_if(|(from, ..)| *from < at) {
            self.next[slot as usize][at] = at + 1;
        }
    }

    /// The first at or after `at` that is still there.
    fn next(&mut self, slot: u32, mut at: usize) -> usize {
        let next = &mut self.next[slot as usize];
        // Whoever walks by makes the way shorter for the next one.
        while at < next.len() && next[at] != at {
            let over = next[next[at]];
            next[at] = over;
            at = over;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::version::dvv::VersionVector;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_context_that_covers_a_hidden_sibling_is_found() {
        let mut made = Made::default();
        let one = made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1).id();
        let two = made.put(0, 3, Some(4)).sent(VersionVector::default()).dot(7, 2).id();
        made.get(0, 5, 6, &[two, one]).knows(clock(7, 2));
        made.get(0, 7, 8, &[two]).knows(clock(7, 2));
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("k0: the context that op 3 was given covers op 0"), "{told:?}");
    }

    #[test]
    fn what_a_kill_may_have_lost_need_not_be_shown_unless_it_was_acknowledged() {
        for ends in [None, Some(2)] {
            let mut made = Made::default();
            made.put(0, 1, ends).sent(VersionVector::default()).dot(7, 1);
            let later = 2 * LIFE_DOTS + 1;
            made.put(0, 3, Some(4))
                .sent(VersionVector::default())
                .dot(7, later)
                .knows(clock(7, later));
            assert_eq!(check(&Index::of(&made.history())).len(), usize::from(ends.is_some()));
        }
    }

    #[test]
    fn what_was_overwritten_need_not_be_shown() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1);
        let two = made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(7, 2).knows(clock(7, 2)).id();
        made.get(0, 5, 6, &[two]).knows(clock(7, 2));
        assert_eq!(check(&Index::of(&made.history())), []);
    }

    #[test]
    fn a_read_that_finds_nothing_covers_no_value_that_it_does_not_tell_of() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1);
        let delete = made.delete(0, 3, Some(4)).sent(VersionVector::default()).dot(8, 1).id();
        made.miss(0, 5, 6, Some(delete)).knows(clock(7, 1));
        assert_eq!(check(&Index::of(&made.history())).len(), 1);
    }

    #[test]
    fn a_write_that_is_told_more_than_it_knew_is_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1);
        made.put(0, 3, Some(4)).sent(VersionVector::default()).dot(7, 2).knows(clock(7, 2));
        assert_eq!(check(&Index::of(&made.history())).len(), 1);
    }
}
