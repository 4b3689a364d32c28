//! All nodes see the same soon after the last fault is healed, nobody is taken for dead who could have said that it lives, and nobody
//! is taken for anything but alive for long by a node with which it is well.
//!
//! A conviction spreads as a rumour, so of each incarnation of a node only the first is judged: whoever convicts it and it itself have
//! not both been well, with the links between them in both directions, for as long as a suspicion lasts at least and its
//! refutation takes. What one node rightly convicts behind a cut others believe, until the convicted speaks up: for that it has 10 s
//! (more where two rounds of probes take longer), as everybody has after the heal to see that another one lives.
//! Left out: nodes that do not run, those that have left the layout, and copies of directories.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Agreement, History, Place, Sight, Spell, Stamp};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;
use crate::oracle::well::before;
use crate::rt::Time;

const NAME: &str = "views";
/// For how long two nodes must have been well with their links before neither may convict the other, in milliseconds.
const CONVICTS_MS: u64 = 5_000;
/// After how long of that each takes the other one for alive, in milliseconds.
const SEES_MS: u64 = 10_000;
/// A rumour may miss somebody. Who was missed hears it with a probe at the latest: of the other node, or of its own, and each node has
/// its turn in two rounds, of one second for each other node.
const PROBE_MS: u64 = 1_000;

/// After how long of that each takes the other one for alive in a cluster of so many, in milliseconds; by that the heal is judged, too.
#[must_use]
pub const fn sees_ms(nodes: usize) -> u64 {
    let rounds_ms = (2 * nodes as u64 - 1) * PROBE_MS;
    if rounds_ms > SEES_MS { rounds_ms } else { SEES_MS }
}

/// What there was to judge in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Incarnations that were taken for dead by somebody first.
    pub convictions: usize,
    /// Those of them whose node ran.
    pub of_running: usize,
    /// How often a node took another one that ran for dead because somebody else did.
    pub echoes: usize,
    /// How often two nodes were well for so long that the one had to see that the other lives, and had not at first.
    pub seen_again: usize,
}

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let history = index.history;
    let mut wrong: Vec<Violation> = history.lives.agreement.iter().filter_map(differ).collect();
    let gone = history.lives.unburied.iter();
    wrong.extend(gone.map(|agreement| late(agreement, "say the same of who is gone")));
    let is_wrong = |sight: &&Sight| sight.runs && is_well(history, sight);
    wrong.extend(first(history).into_iter().filter(is_wrong).map(convicts));
    wrong.extend(spans(history).into_iter().filter_map(|span| span.late(history)));
    wrong
}

/// What there was to judge.
#[must_use]
pub fn judged(history: &History) -> Judged {
    let first = first(history);
    let is_of_running = |sight: &&Sight| sight.standing == "dead" && sight.runs;
    let all = history.lives.sights.iter().filter(is_of_running).count();
    let of_running = first.iter().filter(|sight| sight.runs).count();
    let is_again = |span: &Span<'_>| span.has_cause(history) && span.until.is_some();
    Judged {
        convictions: first.len(),
        of_running,
        echoes: all - of_running,
        seen_again: spans(history).into_iter().filter(is_again).count(),
    }
}

fn differ(agreement: &Agreement) -> Option<Violation> {
    if agreement.at.is_some() {
        return None;
    }
    Some(late(agreement, "see the same"))
}

fn late(agreement: &Agreement, what: &str) -> Violation {
    let Agreement { since, within_ms, differ, .. } = agreement;
    let (since, differ) = (since.text(), differ.join(", "));
    let what =
        format!("all was healed at {since}, and {within_ms} ms later not all {what}: {differ}");
    Violation { oracle: NAME, verdict: Verdict::Liveness, at: Stamp::NEVER, what }
}

fn convicts(sight: &Sight) -> Violation {
    let Sight { node, of, incarnation: (boot, count), at, stamp, .. } = *sight;
    let what = format!(
        "n{node} took n{of} for dead at {}, in its life {boot} after it had spoken up {count} times, although both had been well and \
         reached each other for {CONVICTS_MS} ms",
        at.text()
    );
    Violation { oracle: NAME, verdict: Verdict::Liveness, at: stamp, what }
}

/// The first conviction of each incarnation.
fn first(history: &History) -> Vec<&Sight> {
    let mut known = BTreeSet::new();
    let dead = history.lives.sights.iter().filter(|sight| sight.standing == "dead");
    dead.filter(|sight| known.insert((sight.of, sight.incarnation))).collect()
}

/// Whether nothing had been wrong with either of the two and the links between them.
fn is_well(history: &History, sight: &Sight) -> bool {
    let (at, since) = (sight.at, before(sight.at, CONVICTS_MS));
    let meanwhile = |spell: &&Spell| spell.from <= at && spell.until >= since;
    !has_left(history, sight) && !reasons(history, sight).any(|spell| meanwhile(&spell))
}

/// What was wrong with either of two nodes, or with a link between them.
fn reasons<'a>(history: &'a History, sight: &Sight) -> impl Iterator<Item = &'a Spell> {
    let Sight { node, of, .. } = *sight;
    let places = [Place::Node(node), Place::Node(of), Place::Link(node, of), Place::Link(of, node)];
    let spells = history.lives.spells.iter();
    spells.filter(move |spell| spell.from < spell.until && places.contains(&spell.place))
}

/// Whether either of two nodes had left the layout.
fn has_left(history: &History, sight: &Sight) -> bool {
    let left = history.lives.reshaping.as_ref().map(|it| it.left(sight.stamp)).unwrap_or_default();
    left.contains(&sight.node) || left.contains(&sight.of)
}

/// For some time a node takes another one for something else than alive.
struct Span<'a> {
    sight: &'a Sight,
    /// Until it takes it for alive; `None`: to the end of what is known.
    until: Option<Time>,
    /// When whatever is judged has to be over.
    ends: Time,
    /// How many nodes there were.
    nodes: usize,
}

/// All such spans up to the heal.
fn spans(history: &History) -> Vec<Span<'_>> {
    let Some(healed) = history.lives.agreement.as_ref().map(|agreement| agreement.since) else {
        return Vec::new();
    };
    let nodes =
        history.lives.sights.iter().map(|sight| sight.node).collect::<BTreeSet<u32>>().len();
    let mut open: BTreeMap<(u32, u32), &Sight> = BTreeMap::new();
    let mut spans = Vec::new();
    for sight in &history.lives.sights {
        let pair = (sight.node, sight.of);
        if sight.standing != "alive" {
            open.entry(pair).or_insert(sight);
        } else if let Some(begun) = open.remove(&pair) {
            spans.push(Span {
                sight: begun,
                until: Some(sight.at),
                ends: sight.at.min(healed),
                nodes,
            });
        }
    }
    spans.extend(open.into_values().map(|sight| Span { sight, until: None, ends: healed, nodes }));
    spans
}

impl Span<'_> {
    /// Whether something was wrong with the two when it began, or before.
    fn has_cause(&self, history: &History) -> bool {
        let at = self.sight.at;
        reasons(history, self.sight).any(|spell| spell.from <= at)
    }

    /// The moment from which on the two were well for so long that the span should have ended.
    fn late(&self, history: &History) -> Option<Violation> {
        let Sight { node, of, standing, stamp, at, .. } = *self.sight;
        let gone = [node, of].iter().filter_map(|one| history.lives.gone.get(one)).min();
        let over = reasons(history, self.sight).find(|spell| spell.until == Time(u64::MAX));
        let for_ever = over.map_or(Time(u64::MAX), |spell| spell.from);
        let ends = gone.map_or(self.ends, |&gone| self.ends.min(gone)).min(for_ever);
        let mut reasons: Vec<&Spell> = reasons(history, self.sight).collect();
        reasons.sort_by_key(|spell| spell.from);
        let mut well_from = at;
        for spell in reasons {
            if spell.until == Time(u64::MAX) || spell.from > well_from.plus_ms(sees_ms(self.nodes))
            {
                break;
            }
            well_from = well_from.max(spell.until);
        }
        let sees_ms = sees_ms(self.nodes);
        let has_left = || {
            let left = |it: &crate::history::Reshaping| it.left(Stamp::NEVER);
            let left = history.lives.reshaping.as_ref().map(left).unwrap_or_default();
            left.contains(&node) || left.contains(&of)
        };
        if well_from.plus_ms(sees_ms) >= ends || has_left() {
            return None;
        }
        let (at, well) = (at.text(), well_from.text());
        let what = format!(
            "n{node} took n{of} for {standing} at {at}, and did not see that it lives within {sees_ms} ms from {well} on, although both \
             were well then and reached each other"
        );
        Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: stamp, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes that see each other from the beginning; all was healed at 60 s, and all saw the same then.
    fn history(change: impl FnOnce(&mut History)) -> History {
        let mut history = History::default();
        let pairs = (0..3).flat_map(|node| (0..3).map(move |of| (node, of)));
        let met = pairs.filter(|(node, of)| node != of);
        history.lives.sights = met.map(|(node, of)| sight(node, of, "alive", 1_000)).collect();
        let since = Time::at_ms(60_000);
        let at = Some(Time::at_ms(61_000));
        history.lives.agreement =
            Some(Agreement { since, at, within_ms: 10_000, differ: Vec::new() });
        change(&mut history);
        history.lives.sights.sort_by_key(|sight| sight.at);
        history
    }

    fn sight(node: u32, of: u32, standing: &'static str, ms: u64) -> Sight {
        let (at, stamp) = (Time::at_ms(ms), Stamp(ms));
        Sight { node, of, incarnation: (1, 0), standing, at, stamp, runs: true }
    }

    fn cut(history: &mut History, (from, to): (u32, u32), (since, until): (u64, u64)) {
        let (from, until, place) = (Time::at_ms(since), Time::at_ms(until), Place::Link(from, to));
        history.lives.spells.push(Spell { place, from, until });
    }

    fn told(change: impl FnOnce(&mut History)) -> Vec<String> {
        let history = history(change);
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn who_was_well_and_is_convicted_by_one_who_was_is_found() {
        let alive = |history: &mut History| history.lives.sights.push(sight(0, 1, "alive", 21_000));
        let wrong = told(|history| {
            history.lives.sights.push(sight(0, 1, "dead", 20_000));
            alive(history);
        });
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("n0 took n1 for dead at 20000.000ms"), "{wrong:?}");
        for (link, until, found) in
            [((1, 0), 15_500, 0), ((0, 1), 15_500, 0), ((0, 1), 14_500, 1), ((1, 2), 19_000, 1)]
        {
            let wrong = told(|history| {
                history.lives.sights.push(sight(0, 1, "dead", 20_000));
                alive(history);
                cut(history, link, (9_000, until));
            });
            assert_eq!(wrong.len(), found, "{link:?} until {until}: {wrong:?}");
        }
    }

    #[test]
    fn what_one_rightly_says_others_may_believe_and_who_does_not_run_is_dead() {
        let believed = |history: &mut History| {
            cut(history, (0, 1), (9_000, 25_000));
            history.lives.sights.push(sight(0, 1, "dead", 20_000));
            history.lives.sights.push(sight(2, 1, "dead", 20_200));
            history.lives.sights.push(sight(2, 1, "alive", 20_400));
            history.lives.sights.push(sight(0, 1, "alive", 26_000));
        };
        assert_eq!(told(believed), Vec::<String>::new());
        let Judged { convictions, of_running, echoes, seen_again } = judged(&history(believed));
        assert_eq!((convictions, of_running, echoes, seen_again), (1, 1, 1, 1));
        let gone = |history: &mut History| {
            let dead = [0, 2].map(|node| Sight { runs: false, ..sight(node, 1, "dead", 20_000) });
            history.lives.sights.extend(dead);
            history.lives.gone.insert(1, Time::at_ms(12_000));
        };
        assert_eq!(told(gone), Vec::<String>::new());
        assert_eq!(judged(&history(gone)).of_running, 0);
    }

    #[test]
    fn who_is_not_seen_again_for_long_after_a_cut_is_found() {
        let after = |ms: u64| {
            told(|history| {
                cut(history, (1, 0), (9_000, 25_000));
                history.lives.sights.push(sight(0, 1, "suspect", 20_000));
                history.lives.sights.push(sight(0, 1, "alive", ms));
            })
        };
        assert_eq!(after(34_900), Vec::<String>::new());
        let late = after(35_100);
        assert!(late[0].contains("within 10000 ms from 25000.000ms on"), "{late:?}");
        let never = told(|history| {
            cut(history, (1, 0), (9_000, 25_000));
            history.lives.sights.push(sight(0, 1, "dead", 20_000));
        });
        assert_eq!(never.len(), 1, "{never:?}");
        let for_ever = told(|history| {
            let place = Place::Node(1);
            let (from, until) = (Time::at_ms(19_000), Time(u64::MAX));
            history.lives.spells.push(Spell { place, from, until });
            history.lives.sights.push(sight(0, 1, "dead", 20_000));
        });
        assert_eq!(for_ever, Vec::<String>::new());
    }

    #[test]
    fn who_does_not_see_the_same_after_the_heal_is_told() {
        let apart = told(|history| {
            let agreement = history.lives.agreement.as_mut().expect("it was asked");
            (agreement.at, agreement.differ) = (None, vec!["n0 takes n1 for dead".to_owned()]);
        });
        let what = "all was healed at 60000.000ms, and 10000 ms later not all see the same: n0 takes n1 for dead";
        assert_eq!(apart, [what]);
        assert_eq!(told(|history| history.lives.agreement = None), Vec::<String>::new());
        let gone = told(|history| {
            let (since, differ) = (Time::at_ms(60_000), vec!["n2 is dead to some".to_owned()]);
            history.lives.unburied = Some(Agreement { since, at: None, within_ms: 30_000, differ });
        });
        assert!(
            gone[0].ends_with(
                "30000 ms later not all say the same of who is gone: n2 is dead to some"
            ),
            "{gone:?}"
        );
    }
}
