//! Each key is a linearizable register, for keys that were only ever written at `quorum` or `all`.
//!
//! Values are unique, so no search is needed (Gibbons and Korach, "Testing Shared Memories", 1997). A write and the reads
//! of its value form a cluster; f is the first end in it and s the last invocation. The history is linearizable iff no
//! read ends before its write is invoked, and no two clusters X and Y have f(X) < s(Y) and f(Y) < s(X): then each
//! would have to come before the other. The key's absence at the beginning is a write before everything.
//!
//! Absence is not a unique value, so a read that found nothing is given to the delete whose HLC it reports. Those
//! labels come from the system under test: a violation that rests on one counts only when the search, which needs no labels,
//! confirms it. Only reads at `quorum` and `all` count; a write whose outcome is unknown counts from its
//! invocation on if its value was ever read.

use std::collections::BTreeMap;

use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::hlc::Hlc;

use crate::history::{Fate, History, Op, Stamp};
use crate::oracle::Violation;
use crate::oracle::overwritten::{HIGHEST, LOWEST};
use crate::oracle::search::{self, Step, What};
use crate::scenario::Action;
use crate::verdict::Verdict;

const NAME: &str = "linearizable";
/// How many states a search may visit.
const STATES_MAX: usize = 100_000;

/// Who wrote what was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Writer {
    Beginning,
    Op(usize),
}

/// A write and the reads of it.
#[derive(Clone, Debug)]
struct Cluster {
    writer: Writer,
    invoked: Stamp,
    /// The first end of any of them, and whose it is.
    first_end: (Stamp, usize),
    /// The last invocation of any of them, and whose it is.
    last_call: (Stamp, usize),
}

/// The two clusters that each have to come before the other, or the one whose read came too early.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Contradiction {
    at: Stamp,
    what: String,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    (0..history.keys())
        .filter(|&key| history.is_strict(key))
        .filter_map(|key| violation(history, key))
        .collect()
}

fn violation(history: &History, key: u32) -> Option<Violation> {
    let labelled = clusters(history, key);
    let found = match &labelled {
        Some(clusters) => contradiction(clusters)?,
        None => Contradiction {
            at: Stamp::NEVER,
            what: "a read found nothing, and no delete is known to have written that".to_owned(),
        },
    };
    let rests_on_labels = reads(history, key).any(|(_, _, value)| value.is_none());
    let decided = match rests_on_labels {
        true => search::is_linearizable(&steps(history, key), STATES_MAX),
        false => Some(false),
    };
    let what = format!("k{key}: {}", found.what);
    match decided {
        Some(true) => None,
        Some(false) => Some(Violation::safety(NAME, found.at, what)),
        None => {
            let verdict = Verdict::Undecided;
            let what = format!("{what}; the search for another order gave up");
            Some(Violation { oracle: NAME, verdict, at: found.at, what })
        }
    }
}

/// The reads of a key that promise anything: id, operation, the id of the write whose value was answered.
fn reads(history: &History, key: u32) -> impl Iterator<Item = (usize, &Op, Option<usize>)> {
    history.of_key(key).filter(|(_, op)| op.level != Level::One).filter_map(|(id, op)| {
        let (_, values, _) = op.read()?;
        match values.first() {
            None => Some((id, op, None)),
            // A value that nobody wrote is another oracle's business.
            Some(seen) => Some((id, op, Some(seen.op?))),
        }
    })
}

fn ended(op: &Op) -> Stamp {
    match op.fate() {
        _ if !op.writes() => op.read().map_or(Stamp::NEVER, |(at, ..)| at),
        Fate::Acked(at) => at,
        Fate::Unknown | Fate::Refused => Stamp::NEVER,
    }
}

/// The clusters of a key; `None` when a read that found nothing cannot be given to a delete.
fn clusters(history: &History, key: u32) -> Option<Vec<Cluster>> {
    let mut clusters: BTreeMap<Writer, Cluster> = BTreeMap::new();
    for (id, op) in history.of_key(key) {
        if op.writes() && op.fate() != Fate::Refused {
            clusters.insert(Writer::Op(id), Cluster::of_write(id, op));
        }
    }
    let beginning = Cluster {
        writer: Writer::Beginning,
        invoked: Stamp(0),
        first_end: (Stamp(0), usize::MAX),
        last_call: (Stamp(0), usize::MAX),
    };
    clusters.insert(Writer::Beginning, beginning);
    for (id, op, value) in reads(history, key) {
        let (.., context) = op.read().expect("it answered");
        let writer = match value {
            Some(write) => Writer::Op(write),
            None if context.highest == Hlc(0) => Writer::Beginning,
            None => Writer::Op(deleter(history, key, context)?),
        };
        if let Some(cluster) = clusters.get_mut(&writer) {
            cluster.add_read(id, op);
        }
    }
    // A write that never ended and that nobody read may as well not have happened.
    Some(clusters.into_values().filter(|cluster| cluster.first_end.0 < Stamp::NEVER).collect())
}

/// The delete that a read which found nothing met: the version with the HLC that it reports. Where several have
/// that HLC, the one that its context covers, and of those the one that all nodes prefer.
fn deleter(history: &History, key: u32, context: &Context) -> Option<usize> {
    let range = (key, LOWEST)..=(key, HIGHEST);
    let all = history.sightings.range(range).flat_map(|(&(_, dot), all)| {
        all.iter().filter(|sighting| sighting.tombstone).map(move |sighting| (dot, sighting))
    });
    let met = all.filter(|(_, sighting)| sighting.hlc == context.highest);
    let (_, sighting) = met.max_by_key(|&(dot, _)| (context.clock.covers(dot), dot))?;
    history.ops.iter().position(|op| op.request == sighting.request)
}

impl Cluster {
    fn of_write(id: usize, op: &Op) -> Cluster {
        let (called, ended) = (op.called(), ended(op));
        let (first_end, last_call) = ((ended, id), (called, id));
        Cluster { writer: Writer::Op(id), invoked: called, first_end, last_call }
    }

    fn add_read(&mut self, id: usize, op: &Op) {
        self.first_end = self.first_end.min((ended(op), id));
        self.last_call = self.last_call.max((op.called(), id));
    }

    fn spelt(&self) -> String {
        match self.writer {
            Writer::Beginning => "the key's absence at the beginning".to_owned(),
            Writer::Op(id) => format!("op {id}'s write"),
        }
    }
}

/// Why the clusters cannot be put in order; in O(n log n).
fn contradiction(clusters: &[Cluster]) -> Option<Contradiction> {
    if let Some(early) = clusters.iter().find(|cluster| cluster.first_end.0 < cluster.invoked) {
        let (at, reader) = early.first_end;
        let what = format!("op {reader} read {} before it was invoked", early.spelt());
        return Some(Contradiction { at, what });
    }
    let is_forward = |cluster: &&Cluster| cluster.first_end.0 < cluster.last_call.0;
    let mut forward: Vec<&Cluster> = clusters.iter().filter(is_forward).collect();
    forward.sort_by_key(|cluster| cluster.first_end);
    if let Some(pair) = forward.windows(2).find(|pair| pair[1].first_end.0 < pair[0].last_call.0) {
        return Some(both_before(pair[0], pair[1]));
    }
    clusters.iter().filter(|cluster| !is_forward(cluster)).find_map(|backward| {
        let at = forward.partition_point(|other| other.first_end.0 < backward.last_call.0);
        let around = forward[..at].last()?;
        (backward.first_end.0 < around.last_call.0).then(|| both_before(around, backward))
    })
}

fn both_before(one: &Cluster, other: &Cluster) -> Contradiction {
    let before = |a: &Cluster, b: &Cluster| {
        let (first, last) = (spelt_op(a.first_end.1), spelt_op(b.last_call.1));
        format!(
            "{} comes before {}, because {first} ended before {last} began",
            a.spelt(),
            b.spelt()
        )
    };
    let what = format!("{}; and {}", before(one, other), before(other, one));
    Contradiction { at: one.last_call.0.max(other.last_call.0), what }
}

fn spelt_op(id: usize) -> String {
    if id == usize::MAX { "the beginning".to_owned() } else { format!("op {id}") }
}

/// The key's history for the search.
fn steps(history: &History, key: u32) -> Vec<Step> {
    let writes = history.of_key(key).filter(|(_, op)| op.writes() && op.fate() != Fate::Refused);
    let writes = writes.map(|(id, op)| {
        let value = matches!(op.action, Action::Put { .. }).then_some(id);
        Step { called: op.called(), ended: ended(op), what: What::Write(value) }
    });
    let reads = reads(history, key).map(|(_, op, value)| Step {
        called: op.called(),
        ended: ended(op),
        what: What::Read(value),
    });
    writes.chain(reads).collect()
}

#[cfg(test)]
mod tests {
    use crate::draw::{Dice, Draw, Stream};
    use crate::oracle::made::Made;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&made.history()).into_iter().map(|violation| violation.what).collect()
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
                "k0: op 0's write comes before op 1's write, because op 0 ended before op 2 began; and \
              op 1's write comes before op 0's write, because op 2 ended before op 3 began"
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
    /// of them, some answer anything.
    fn random(seed: u64) -> History {
        let mut dice = Dice::new(seed);
        let mut draw = || -> Draw { dice.next(Stream::Delay, 0, 0) };
        let count = draw().between(3, 9);
        let mut plan: Vec<(u64, u64, u64, bool)> = (0..count)
            .map(|_| {
                let (a, b, c) = (draw().below(60), draw().below(12), draw().below(12));
                (3 * a, 3 * (a + b), 3 * (a + b + c), draw().happens(450_000))
            })
            .collect();
        plan.sort_by_key(|&(_, moment, ..)| moment);
        let (mut made, mut last, mut writes) = (Made::default(), None, Vec::new());
        for (called, _, ended, writes_now) in plan {
            let called = called + 1;
            if writes_now || writes.is_empty() {
                let ended = (!draw().happens(200_000)).then_some(ended + 2);
                let id = made.put(0, called, ended).id();
                last = Some(id);
                writes.push(id);
            } else if draw().happens(100_000) {
                made.miss(0, called, ended + 2, None);
            } else {
                let any = writes[draw().below(writes.len() as u64) as usize];
                let value = if draw().happens(250_000) { any } else { last.expect("written") };
                made.get(0, called, ended + 2, &[value]);
            }
        }
        made.history()
    }

    #[test]
    fn clusters_and_search_agree_on_random_histories() {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..20_000 {
            let history = random(seed);
            let by_clusters = contradiction(&clusters(&history, 0).expect("no deletes")).is_none();
            let by_search = search::is_linearizable(&steps(&history, 0), 1_000_000);
            assert_eq!(Some(by_clusters), by_search, "seed {seed}: {:#?}", history.ops);
            *if by_clusters { &mut good } else { &mut bad } += 1;
        }
        assert!(good > 4_000 && bad > 4_000, "{good} good and {bad} bad histories");
    }
}
