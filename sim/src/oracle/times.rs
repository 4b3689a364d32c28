//! A key's times agree with what overwrote what: a write's HLC is above that of everything its context covers, and an actor's
//! versions of a key have rising HLCs.
//!
//! Otherwise the newest value, which is the answer, would be one that was overwritten, or that its own coordinator wrote
//! before another. Asked of what was stored, with the contexts that clients sent. Left out: what a blind write overwrote, which
//! only its coordinator knows.
//!
//! Left out, too, between lives of an actor's node: versions that were not durable there when their life ended. The next life
//! does not hold them, so its writes are above them only where the node's clock is: `readings` asks that of all that was shown.
//! A time that a version of the key pushed above what the clock adopts says nothing of the clock, and comes again, or a lower one,
//! when the next life's query meets the same version and not the lost one. No harm: the lost one was never acknowledged by a quorum
//! that the query would have met (`order` asks that), so the two are concurrent, and their order is free.

use rondo_core::config::LIFE_DOTS;
use rondo_core::version::dvv::Dot;
use rondo_core::version::hlc::Hlc;

use crate::history::{History, Kept, Stamp};
use crate::oracle::Violation;
use crate::oracle::acks;
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "times";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let kept = acks::by_key(index.history);
    let keys = index.keys.iter().zip(&kept);
    keys.flat_map(|(of, kept)| of_key(of, &Lives { history: index.history, kept })).collect()
}

fn of_key(of: &OfKey, lives: &Lives<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    // For each slot its dots, each with its HLC and whose it is.
    let dots: Vec<Vec<High>> =
        (0..).zip(&of.dots).map(|(slot, _)| rising(of, slot, lives, &mut wrong)).collect();
    for fact in of.facts.iter().filter(|fact| fact.dot.is_some() && fact.happened()) {
        for &(slot, run) in fact.sent.map_or(&[][..], |sent| of.clock(sent)) {
            let covered = highest(&dots[slot as usize], run.from, run.to);
            if let Some(high) = covered.filter(|high| high.hlc >= fact.hlc && high.id != fact.id) {
                let (key, id, own, other, hlc) = (of.key, fact.id, fact.hlc, high.id, high.hlc);
                let what = format!(
                    "k{key}: op {id} at {own} covers op {other} at {hlc}, which is not below"
                );
                wrong.push(Violation::safety(NAME, fact.seen, what));
            }
        }
    }
    wrong
}

/// The dot with the highest HLC from one number to another. In each life the last one has it, or `rising` has found out.
fn highest(dots: &[High], from: u64, to: u64) -> Option<High> {
    let (mut best, mut to): (Option<High>, u64) = (None, to);
    while let Some(last) = dots[..dots.partition_point(|high| high.n <= to)].last() {
        if last.n < from {
            break;
        }
        best = best.into_iter().chain([*last]).max_by_key(|high| high.hlc);
        let Some(before) = (last.n / LIFE_DOTS * LIFE_DOTS).checked_sub(1) else {
            break;
        };
        to = before;
    }
    best
}

/// A dot with its HLC, and whose it is.
#[derive(Clone, Copy)]
struct High {
    n: u64,
    hlc: Hlc,
    id: u32,
}

/// The dots of an actor that were not lost with their life; where the HLCs do not rise, that is wrong.
fn rising(of: &OfKey, slot: usize, lives: &Lives<'_>, wrong: &mut Vec<Violation>) -> Vec<High> {
    let dots = &of.dots[slot];
    let last = dots.last().map_or(0, |&(n, _)| n / LIFE_DOTS);
    let mut told: Vec<High> = Vec::new();
    // Of those that a later life holds, and of those of the life at hand.
    let (mut lasting, mut here): (Option<High>, Option<High>) = (None, None);
    for &(n, place) in dots {
        let fact = &of.facts[place as usize];
        here = here.filter(|high| high.n / LIFE_DOTS == n / LIFE_DOTS);
        let before = lasting.into_iter().chain(here).max_by_key(|high| high.hlc);
        if let Some(before) = before.filter(|before| before.hlc >= fact.hlc) {
            let (key, id, hlc, earlier, was) = (of.key, fact.id, fact.hlc, before.id, before.hlc);
            let what = format!(
                "k{key}: op {id} at {hlc} has a later dot of the same actor than op {earlier} at {was}"
            );
            wrong.push(Violation::safety(NAME, fact.seen, what));
        }
        let own = High { n, hlc: fact.hlc, id: fact.id };
        let with = |high: Option<High>| match high.filter(|high| high.hlc > own.hlc) {
            Some(high) => High { n, ..high },
            None => own,
        };
        here = Some(with(here));
        let dot = Dot { actor: of.actor(slot as u32), n };
        let lasts = n / LIFE_DOTS == last || lives.kept(of, dot);
        if lasts {
            lasting = Some(with(lasting));
        }
        if lasts || lives.was_shown(of, dot) {
            told.push(own);
        }
    }
    told
}

/// What of a key was durable when a life ended.
struct Lives<'a> {
    history: &'a History,
    /// Of this key, in order of time.
    kept: &'a [&'a Kept],
}

impl Lives<'_> {
    /// Whether another node than its issuer stored a dot.
    fn was_shown(&self, of: &OfKey, dot: Dot) -> bool {
        let all = self.history.sightings.get(&(of.key, dot));
        all.is_some_and(|all| all.iter().any(|seen| seen.shown < Stamp::NEVER))
    }

    /// Whether a dot was durable at the node that issued it before the life that did was over.
    fn kept(&self, of: &OfKey, dot: Dot) -> bool {
        let Some(seen) = self.history.sightings.get(&(of.key, dot)).and_then(|all| all.first())
        else {
            return true;
        };
        let is_next = |stamp: Stamp| stamp > seen.stamp;
        let boots = self.history.lives.boots.iter().filter(|boot| boot.node == seen.issuer);
        let Some(over) = boots.map(|boot| boot.stamp).find(|&stamp| is_next(stamp)) else {
            return true;
        };
        let since = self.kept.partition_point(|kept| kept.stamp < seen.stamp);
        let life = self.kept[since..].iter().take_while(|kept| kept.stamp < over);
        life.filter(|kept| kept.node == seen.issuer).any(|kept| kept.clock.covers(dot))
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::id::ActorId;
    use rondo_core::version::dvv::VersionVector;
    use rondo_core::version::runs::{Run, Runs};

    use crate::history::Boot;
    use crate::oracle::made::{Made, clock};

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&Index::of(&made.history())).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_write_that_is_not_above_what_it_covers_is_found() {
        let mut made = Made::default();
        let early = made.put(0, 1, Some(2)).sent(clock(7, 1)).dot(8, 1).id();
        let late = made.put(0, 3, Some(4)).dot(7, 1).id();
        let told = told(made);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with(&format!("k0: op {early} at ")), "{told:?}");
        assert!(told[0].contains(&format!("covers op {late} at")), "{told:?}");
    }

    #[test]
    fn an_actor_whose_times_fall_is_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 2);
        made.put(0, 3, Some(4)).dot(7, 1);
        let told = told(made);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("has a later dot of the same actor than op 1"), "{told:?}");
    }

    #[test]
    fn over_lives_times_rise_above_what_the_next_life_holds() {
        let over = |is_kept: bool| {
            let mut made = Made::default();
            made.put(0, 1, Some(2)).dot(7, 2 * LIFE_DOTS + 1);
            made.put(0, 4, Some(5)).dot(7, LIFE_DOTS + 1);
            let mut history = made.history();
            history.lives.boots.push(Boot { node: 0, stamp: Stamp(6), epoch: 2 });
            if is_kept {
                let kept = clock(7, LIFE_DOTS + 1);
                history.kept.push(Kept { key: 0, node: 0, stamp: Stamp(5), clock: kept });
            }
            check(&Index::of(&history)).len()
        };
        assert_eq!((over(true), over(false)), (1, 0), "what was lost is below nothing");
    }

    #[test]
    fn a_context_covers_only_the_dots_of_its_runs() {
        let next = LIFE_DOTS + 1;
        for (from, is_wrong) in [(next, false), (1, true)] {
            let mut made = Made::default();
            made.put(0, 1, Some(2)).dot(7, next);
            let all =
                Runs::from_list([Run { from, to: next }].into_iter().collect()).expect("sound");
            let sent = VersionVector::from_entries(vec![(ActorId(7), all)]).expect("sound");
            made.put(0, 3, Some(4)).sent(sent).dot(8, 1);
            let late = made.put(0, 5, Some(6)).dot(7, 1).id();
            let told = told(made);
            let covers = |what: &String| what.contains(&format!("covers op {late} at"));
            assert_eq!(told.iter().any(covers), is_wrong, "{told:?}");
        }
    }

    #[test]
    fn rising_times_are_right_and_other_actors_and_keys_do_not_matter() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(7, 2);
        made.put(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1);
        made.put(1, 7, Some(8)).sent(clock(8, 5)).dot(7, 1);
        assert_eq!(told(made), Vec::<String>::new());
    }
}
