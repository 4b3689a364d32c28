//! Each key is a linearizable register, for keys that were only ever written at `quorum` or `all`, where quorums meet.
//!
//! The judge is `check`: values are unique, so its zones need no search. Only reads at `quorum` and `all` count; a write
//! whose outcome is unknown counts from its invocation on if its value was ever read.
//!
//! Absence is not a unique value, so a read that found nothing is given to the delete whose HLC it reports. Those
//! labels come from the system under test: a violation that rests on one counts only when it is one without labels too,
//! where all deletes write the same absence, which may take the checker's search.

use crate::check::{self, Conflict, Event, NEVER, Value, What, Zones};
use crate::history::Stamp;
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind, Told};
use crate::oracle::index::{Index, NOBODY, OfKey};
use crate::oracle::verdict::Verdict;

const NAME: &str = "linearizable";
/// How many states the search for one key may remember.
const STATES_MAX: usize = 100_000;
/// What a key is before anybody wrote it.
const ABSENT: Value = Value(0);

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut judge = Judge::default();
    let meets = index.meets.is_strict();
    // Of a write that was lost with a node, as an operator has accepted, no order is right.
    let is_whole = |of: &&OfKey| of.is_strict() && of.given_up.is_empty();
    let strict = index.keys.iter().filter(|of| meets && is_whole(of));
    strict.filter_map(|of| judge.violation(index, of)).collect()
}

/// What is kept from key to key.
#[derive(Default)]
struct Judge {
    zones: Zones,
    events: Vec<Event>,
    /// The operations that the events are of.
    ids: Vec<u32>,
    order: Vec<u32>,
}

impl Judge {
    fn violation(&mut self, index: &Index<'_>, of: &OfKey) -> Option<Violation> {
        let (at, why) = match self.collect(index, of, true) {
            true => {
                let judged = self.zones.judge(&self.events, &self.order, ABSENT);
                let conflict = judged.expect("every version is written once").err()?;
                self.spelt(&conflict)
            }
            false => {
                let what = "a read found nothing, and no delete is known to have written that";
                (Stamp::NEVER, what.to_owned())
            }
        };
        let rests_on_labels = of.strict_reads().any(|(_, told)| of.answer(told).is_none());
        let decided = match rests_on_labels {
            true => self.without_labels(index, of),
            false => Some(false),
        };
        let what = format!("k{}: {why}", of.key);
        match decided {
            Some(true) => None,
            Some(false) => Some(Violation::safety(NAME, at, what)),
            None => {
                let verdict = Verdict::Undecided;
                let what = format!("{what}; the search for another order gave up");
                Some(Violation { oracle: NAME, verdict, at, what })
            }
        }
    }

    /// Whether it is linearizable when nobody knows which delete a read met; `None` when that takes too long.
    fn without_labels(&mut self, index: &Index<'_>, of: &OfKey) -> Option<bool> {
        self.collect(index, of, false);
        match check::registers(&self.events, ABSENT, STATES_MAX) {
            check::Verdict::Linearizable => Some(true),
            check::Verdict::Not(_) => Some(false),
            check::Verdict::Undecided(_) => None,
        }
    }

    /// Collects what a key's operations did. `false` when a read that found nothing cannot be given to a delete.
    fn collect(&mut self, index: &Index<'_>, of: &OfKey, with_labels: bool) -> bool {
        self.events.clear();
        self.ids.clear();
        for (place, fact) in (0..).zip(&of.facts).filter(|(_, fact)| fact.happened()) {
            let to = match fact.kind {
                Kind::Delete if !with_labels => ABSENT,
                _ => version(place),
            };
            self.add(fact, fact.acked(), What::Write(to));
        }
        for (fact, told) in of.strict_reads() {
            let writer = match of.answer(told) {
                // A value that nobody wrote is another oracle's business.
                Some(shown) => index.place(of, shown).map(|place| (place, Kind::Put)),
                None if told.highest.0 == 0 || !with_labels => Some((NOBODY, Kind::Put)),
                None => match deleter(of, told) {
                    Some(id) => index.place(of, id).map(|place| (place, Kind::Delete)),
                    None => return false,
                },
            };
            let seen = match writer {
                Some((NOBODY, _)) => ABSENT,
                Some((place, kind)) if is_written(&of.facts[place as usize], kind) => {
                    version(place)
                }
                _ => continue,
            };
            self.add(fact, told.at, What::Read(seen));
        }
        self.order.extend(self.order.len() as u32..self.events.len() as u32);
        self.order.truncate(self.events.len());
        true
    }

    fn add(&mut self, fact: &Fact, ended: Stamp, what: What) {
        let ended = if ended == Stamp::NEVER { NEVER } else { ended.0 };
        self.events.push(Event { called: fact.called.0, ended, key: 0, what });
        self.ids.push(fact.id);
    }

    /// When a conflict showed, and in words.
    fn spelt(&self, conflict: &Conflict) -> (Stamp, String) {
        let calls = conflict.operations().into_iter().map(|at| self.events[at as usize].called);
        let at = calls.max().map_or(Stamp::NEVER, Stamp);
        (at, conflict.renamed(|at| self.ids[at as usize]).to_string())
    }
}

/// The version that the write at this place wrote.
const fn version(place: u32) -> Value {
    Value(place + 1)
}

fn is_written(fact: &Fact, kind: Kind) -> bool {
    fact.happened() && fact.kind == kind
}

/// The delete that a read which found nothing met: the version with the HLC that it reports. Where several have
/// that HLC, the one that its context covers, and of those the one that all nodes prefer.
fn deleter(of: &OfKey, told: &Told) -> Option<u32> {
    let from = of.deletes.partition_point(|&(hlc, ..)| hlc < told.highest);
    let met = of.deletes[from..].iter().take_while(|&&(hlc, ..)| hlc == told.highest);
    let preferred = |(slot, n): (u32, u64)| (of.covers(told.clock, (slot, n)), of.actor(slot), n);
    met.max_by_key(|&&(_, dot, _)| preferred(dot)).map(|&(.., id)| id)
}

#[cfg(test)]
mod tests {
    use crate::check::{Register, Search};
    use crate::draw::{Dice, Draw, Stream};
    use crate::history::History;
    use crate::oracle::made::Made;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&Index::of(&made.history())).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_reader_after_a_reader_must_not_see_an_older_value() {
        let mut made = Made::default();
        let old = made.put(0, 1, Some(2)).id();
        let new = made.put(0, 3, None).id();
        made.get(0, 4, 5, &[new]);
        made.get(0, 6, 7, &[old]);
        assert_eq!(
            told(made),
            [
                "k0: op 0 ended before op 2 was called, so what op 0 wrote or saw comes first; but op 2 \
              ended before op 3 was called, so it comes last"
            ]
        );
    }

    #[test]
    fn what_has_been_written_may_not_be_absent_again() {
        let mut made = Made::default();
        made.put(0, 1, Some(2));
        made.miss(0, 3, 4, None);
        assert_eq!(told(made).len(), 1);
    }

    #[test]
    fn a_deleted_value_may_not_come_back() {
        for (read_at, expect) in [(2, 0), (7, 1)] {
            let mut made = Made::default();
            let put = made.put(0, 1, Some(2)).dot(7, 1).id();
            let delete = made.delete(0, 3, Some(4)).dot(7, 2).id();
            made.miss(0, 5, 6, Some(delete));
            made.get(0, read_at, 8, &[put]);
            assert_eq!(told(made).len(), expect, "a read from {read_at} on");
        }
    }

    #[test]
    fn a_wrong_label_alone_is_no_violation() {
        let mut made = Made::default();
        made.delete(0, 1, Some(2)).dot(7, 1);
        let other = made.delete(0, 3, Some(4)).dot(7, 2).id();
        made.miss(0, 1, 2, Some(other));
        assert_eq!(told(made), Vec::<String>::new());
    }

    #[test]
    fn keys_with_a_write_at_one_promise_nothing() {
        let mut made = Made::default();
        let old = made.put(0, 1, Some(2)).at_one().id();
        made.put(0, 3, Some(4));
        made.get(0, 5, 6, &[old]);
        assert_eq!(told(made), Vec::<String>::new());
    }

    /// A small random history: most reads answer what a register would have answered at a moment inside
    /// of them, some answer anything. Most of those that found nothing say by whom it was deleted.
    fn random(seed: u64) -> History {
        let mut dice = Dice::new(seed);
        let mut draw = || -> Draw { dice.next(Stream::Delay, 0, 0) };
        let count = draw().between(5, 12);
        let mut plan: Vec<(u64, u64, u64, bool)> = (0..count)
            .map(|_| {
                let (a, b, c) = (draw().below(100), draw().below(12), draw().below(12));
                (3 * a, 3 * (a + b), 3 * (a + b + c), draw().happens(450_000))
            })
            .collect();
        plan.sort_by_key(|&(_, moment, ..)| moment);
        // Who wrote what is there, and whether it deleted.
        let (mut made, mut last, mut writes) = (Made::default(), None, Vec::new());
        for (called, _, ended, writes_now) in plan {
            let called = called + 1;
            if writes_now {
                let ended = (!draw().happens(200_000)).then_some(ended + 2);
                let (deletes, n) = (draw().happens(300_000), writes.len() as u64 + 1);
                let put = match deletes {
                    true => made.delete(0, called, ended),
                    false => made.put(0, called, ended),
                };
                let id = put.dot(7, n).id();
                last = Some((id, deletes));
                writes.push((id, deletes));
                continue;
            }
            let lies = !writes.is_empty() && draw().happens(400_000);
            let any = lies.then(|| writes[draw().below(writes.len() as u64) as usize]);
            match any.or(last) {
                Some((id, false)) => made.get(0, called, ended + 2, &[id]),
                Some((id, true)) => made.miss(0, called, ended + 2, Some(id)),
                None => made.miss(0, called, ended + 2, None),
            };
        }
        made.history()
    }

    #[test]
    fn the_verdict_is_that_of_a_search_which_knows_no_labels() {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..20_000 {
            let history = random(seed);
            let index = Index::of(&history);
            let mut judge = Judge::default();
            let found = index.keys.first().and_then(|of| judge.violation(&index, of));
            let searched = index.keys.first().and_then(|of| {
                judge.collect(&index, of, false);
                Search::new(&Register { initial: ABSENT }, &judge.events).run(1_000_000)
            });
            assert_eq!(Some(found.is_none()), searched, "seed {seed}: {:#?}", history.ops);
            *if found.is_none() { &mut good } else { &mut bad } += 1;
        }
        assert!(good > 4_000 && bad > 4_000, "{good} good and {bad} bad histories");
    }
}
