//! Which write may have overwritten which: what the other oracles accept as the reason that a value is gone.
//!
//! A write with a context overwrites exactly what its context covers. A blind write overwrites what its coordinator
//! found, which nobody outside knows: it *may* be any write that was invoked before the blind one ended, and at `quorum` and
//! `all` it is *surely* every write that had been acknowledged at these levels before it began, because its query round met
//! it. So the answer is exact for keys that are written with contexts only, and generous for others.
//!
//! Where stores were watched, a write overwrites at the moment at which its version is first stored, and one that was never
//! stored overwrites nothing; elsewhere it may do so from its call to its end, or for ever when nobody knows how it ended.
//!
//! For each write the first moment is enough: it may be gone from the first moment at which one may have overwritten it,
//! and must be gone from the first end of one that surely has. Contexts are taken in order of that moment, and
//! what one of them covers is looked at once.

use std::collections::BTreeSet;

use rondo_core::layout::keyspace::Level;

use crate::history::Stamp;
use crate::oracle::fact::Fact;
use crate::oracle::index::{NOBODY, OfKey};
use crate::oracle::meets::Meets;

/// The first overwriting of a write: when, and the place of who did it.
pub(super) type First = (Stamp, u32);

/// For each operation of a key, by place, from when on it may be gone.
pub(super) fn may_be_gone(of: &OfKey) -> Vec<First> {
    let mut gone = vec![(Stamp::NEVER, NOBODY); of.facts.len()];
    let by_call = by_call(of);
    let moment = |&(_, place): &First| (span(of, place).0, place);
    let mut by_moment: Vec<First> = by_call.iter().map(moment).collect();
    by_moment.retain(|&(moment, _)| moment < Stamp::NEVER);
    by_moment.sort();
    covered(of, &by_moment, &mut gone);
    may_be_blind(of, &by_call, &by_moment, &mut gone);
    gone
}

/// For each operation of a key, by place, from when on it must be gone.
pub(super) fn must_be_gone(of: &OfKey, meets: Meets) -> Vec<First> {
    let mut gone = vec![(Stamp::NEVER, NOBODY); of.facts.len()];
    let mut by_end: Vec<First> = Vec::new();
    for (_, place) in by_call(of) {
        let fact = &of.facts[place as usize];
        if fact.acked() < Stamp::NEVER {
            by_end.push((fact.acked(), place));
        }
    }
    for asked in [Level::Quorum, Level::All] {
        surely_blind(of, &by_end, (meets, asked), &mut gone);
    }
    by_end.retain(|&(_, place)| of.facts[place as usize].level != Level::One);
    by_end.sort();
    covered(of, &by_end, &mut gone);
    gone
}

/// The writes that may have taken place, by call.
fn by_call(of: &OfKey) -> Vec<First> {
    let writes = (0..).zip(&of.facts).filter(|(_, fact)| fact.happened());
    let mut by_call: Vec<First> = writes.map(|(place, fact)| (fact.called, place)).collect();
    by_call.sort();
    by_call
}

/// Everything that the contexts of `writers` cover is gone from their moments on; the writers are in order.
fn covered(of: &OfKey, writers: &[First], gone: &mut [First]) {
    // What nobody has covered yet: each write is looked at once, except by those who wrote it themselves.
    let set = |dots: &Vec<(u64, u32)>| dots.iter().copied().collect();
    let mut left: Vec<BTreeSet<(u64, u32)>> = of.dots.iter().map(set).collect();
    for &(at, writer) in writers {
        let Some(sent) = of.facts[writer as usize].sent else {
            continue;
        };
        for &(slot, run) in of.clock(sent) {
            let left = &mut left[slot as usize];
            let covered = left.range((run.from, 0)..=(run.to, u32::MAX)).copied();
            // Nobody overwrites himself.
            let covered: Vec<_> = covered.filter(|&(_, place)| place != writer).collect();
            for dot in covered {
                left.remove(&dot);
                let place = dot.1 as usize;
                gone[place] = gone[place].min((at, writer));
            }
        }
    }
}

/// From when on a write may overwrite, and what is called from when on it can no longer overwrite.
fn span(of: &OfKey, place: u32) -> (Stamp, Stamp) {
    let fact = &of.facts[place as usize];
    if of.is_watched { (fact.seen, fact.seen) } else { (fact.called, fact.acked()) }
}

/// A blind write may have met whatever was called before it ended.
fn may_be_blind(of: &OfKey, by_call: &[First], by_moment: &[First], gone: &mut [First]) {
    let is_blind = |&&(_, place): &&First| of.facts[place as usize].sent.is_none();
    let blind: Vec<First> = by_moment.iter().filter(is_blind).copied().collect();
    let mut front = 0;
    for &(called, place) in by_call {
        // What had ended when this one was called had also ended when any later one was.
        let is_over = |&(_, blind): &First| span(of, blind).1 <= called;
        while blind.get(front).is_some_and(is_over) {
            front += 1;
        }
        let others = blind[front..].iter().filter(|&&(_, other)| other != place);
        if let Some(first) = others.copied().find(|other| !is_over(other)) {
            gone[place as usize] = gone[place as usize].min(first);
        }
    }
}

/// A blind write at this level has met whatever had been acknowledged before it was called, at levels that it meets.
/// `writers`, by call, with their ends.
fn surely_blind(of: &OfKey, writers: &[First], (meets, asked): (Meets, Level), gone: &mut [First]) {
    let mut blind: Vec<(Stamp, First)> = Vec::new();
    for &(end, place) in writers {
        let Fact { called, sent, level, .. } = of.facts[place as usize];
        if sent.is_none() && level == asked {
            blind.push((called, (end, place)));
        }
    }
    for at in (1..blind.len()).rev() {
        blind[at - 1].1 = blind[at - 1].1.min(blind[at].1);
    }
    let is_met = |place: u32| meets.asks(asked, of.facts[place as usize].held);
    for &(end, place) in writers.iter().filter(|&&(_, place)| is_met(place)) {
        let after = blind.partition_point(|&(called, _)| called <= end);
        if let Some(&(_, first)) = blind.get(after) {
            gone[place as usize] = gone[place as usize].min(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::draw::{Dice, Draw, Stream};
    use crate::history::{Fate, History, Op};
    use crate::oracle::index::Index;
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_context_overwrites_what_it_covers_and_a_blind_write_what_it_may_have_met() {
        let mut made = Made::default();
        let early = made.put(0, 1, Some(2)).dot(7, 1).id();
        let late = made.put(0, 10, Some(12)).dot(7, 2).id();
        let narrow = made.put(0, 13, Some(14)).sent(clock(7, 1)).dot(8, 1).id();
        let history = made.history();
        let index = Index::of(&history);
        let of = &index.keys[0];
        let (may, sure) = (may_be_gone(of), must_be_gone(of, index.meets));
        let blind = (Stamp(10), late as u32);
        assert_eq!(may[early], blind, "the blind write came before the narrow one");
        assert_eq!(sure[early], (Stamp(12), late as u32));
        let never = (Stamp::NEVER, NOBODY);
        assert_eq!((may[late], may[narrow]), (never, never));
    }

    #[test]
    fn a_write_that_was_refused_overwrites_nothing_and_an_unknown_one_may_overwrite_anything() {
        for (ended, expect) in [(Some(6), Stamp::NEVER), (None, Stamp(5))] {
            let mut made = Made::default();
            let first = made.put(0, 1, Some(2)).id();
            let second = made.put(0, 5, ended);
            if ended.is_some() {
                second.refused();
            }
            let history = made.history();
            assert_eq!(may_be_gone(&Index::of(&history).keys[0])[first].0, expect);
        }
    }

    #[test]
    fn where_stores_are_watched_a_write_that_was_never_stored_overwrites_nothing() {
        let mut made = Made::default();
        let first = made.put(0, 1, Some(2)).dot(7, 1).id();
        made.put(0, 3, None);
        let late = made.put(0, 4, Some(9)).dot(7, 2).id();
        let history = made.history();
        let index = Index::of(&history);
        let may = may_be_gone(&index.keys[0]);
        assert_eq!((may[first], may[late]), ((Stamp(4), late as u32), (Stamp::NEVER, NOBODY)));
    }

    /// Writes with and without contexts that make no sense together.
    fn random(seed: u64) -> History {
        let mut dice = Dice::new(seed);
        let mut draw = || -> Draw { dice.next(Stream::Delay, 0, 0) };
        let (mut made, is_watched) = (Made::default(), draw().happens(700_000));
        for n in 1..=draw().between(2, 9) {
            let called = draw().between(1, 30);
            let ended = (!draw().happens(200_000)).then_some(called + draw().between(1, 9));
            let (actor, has_dot) = (draw().below(3), is_watched && draw().happens(900_000));
            let covers = draw().happens(600_000).then(|| clock(draw().below(3), draw().below(10)));
            let mut put = made.put(0, called, ended);
            put = if has_dot { put.dot(actor, n) } else { put };
            put = if draw().happens(200_000) { put.at_one() } else { put };
            if let Some(covers) = covers {
                put.sent(covers);
            }
        }
        made.history()
    }

    /// The definition, word by word.
    fn slowly(history: &History, op: usize, is_sure: bool) -> Stamp {
        let dot = |op: &Op| {
            let mut all = history.sightings.iter();
            all.find(|(_, seen)| seen.iter().any(|s| s.request == op.request)).map(|(of, _)| of.1)
        };
        let old = &history.ops[op];
        let seen = |op: &Op| {
            let all = history.sightings.values().flatten().filter(|s| s.request == op.request);
            all.map(|sighting| sighting.stamp).min().unwrap_or(Stamp::NEVER)
        };
        let is_watched = !history.sightings.is_empty();
        let acked = |op: &Op| match op.fate() {
            Fate::Acked(at) => at,
            _ => Stamp::NEVER,
        };
        let covers = |other: &&Op| match (&other.sent, is_sure) {
            (Some(sent), _) => dot(old).is_some_and(|dot| sent.clock.covers(dot)),
            (None, false) if is_watched => seen(other) < Stamp::NEVER && old.called() < seen(other),
            (None, false) => old.called() < acked(other),
            (None, true) => old.level != Level::One && acked(old) < other.called(),
        };
        let others = history.ops.iter().filter(|other| other.request != old.request);
        let others = others.filter(|other| !is_sure || other.level != Level::One);
        let moment = |other: &Op| match is_sure {
            true => acked(other),
            false if is_watched => seen(other),
            false => other.called(),
        };
        others.filter(covers).map(moment).min().unwrap_or(Stamp::NEVER)
    }

    #[test]
    fn the_first_overwriting_is_found_as_if_every_pair_were_looked_at() {
        let mut gone = 0;
        for seed in 0..5_000 {
            let history = random(seed);
            let index = Index::of(&history);
            let of = &index.keys[0];
            let (may, sure) = (may_be_gone(of), must_be_gone(of, index.meets));
            for op in 0..history.ops.len() {
                let expect = (slowly(&history, op, false), slowly(&history, op, true));
                assert_eq!((may[op].0, sure[op].0), expect, "seed {seed} op {op}");
                gone += usize::from(expect.1 < Stamp::NEVER);
            }
        }
        assert!(gone > 2_000, "{gone}");
    }
}
