//! A write comes after what was there: its HLC is above that of every write of the key that had been acknowledged before it was
//! called, wherever its query round met one that held it.
//!
//! The newest value is the answer, so a write below an earlier one is acknowledged and never seen. A write at `quorum` asks R, one at
//! `all` asks all N: also where quorums do not meet, and above writes at `one`. Left out: writes at `one`, which ask nobody.

use rondo_core::layout::keyspace::Level;

use crate::history::Stamp;
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind};
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "order";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    index.keys.iter().flat_map(|of| below_what_it_met(index, of)).collect()
}

/// Writes that are not above one which had been acknowledged before, and which their query round met.
fn below_what_it_met(index: &Index<'_>, of: &OfKey) -> Vec<Violation> {
    let is_known = |fact: &&Fact| fact.kind != Kind::Get && fact.dot.is_some();
    let mut by_call: Vec<&Fact> = of.facts.iter().filter(is_known).collect();
    let mut by_end = by_call.clone();
    by_end.retain(|fact| fact.acked() < Stamp::NEVER);
    by_end.sort_by_key(|fact| fact.acked());
    by_call.sort_by_key(|fact| fact.called);
    let mut wrong = Vec::new();
    for asked in [Level::Quorum, Level::All] {
        let mut met = by_end.iter().filter(|fact| index.meets.asks(asked, fact.held)).peekable();
        let mut highest: Option<&Fact> = None;
        for fact in by_call.iter().filter(|fact| fact.level == asked) {
            while let Some(earlier) = met.next_if(|earlier| earlier.acked() < fact.called) {
                highest = highest.filter(|known| known.hlc >= earlier.hlc).or(Some(earlier));
            }
            if let Some(before) = highest.filter(|before| before.hlc >= fact.hlc) {
                let (key, id, own, other, hlc) = (of.key, fact.id, fact.hlc, before.id, before.hlc);
                let what = format!(
                    "k{key}: op {id} at {own} is not above op {other} at {hlc}, which had been \
                     acknowledged before it began"
                );
                wrong.push(Violation::safety(NAME, fact.seen, what));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::Made;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&Index::of(&made.history())).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_write_below_one_that_its_query_met_is_found() {
        let mut made = Made::default();
        made.put(0, 5, Some(6)).dot(7, 1);
        made.put(0, 1, Some(2)).dot(8, 1);
        let told = told(made);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("k0: op 0 at 1.0 is not above op 1 at 2.0"), "{told:?}");
    }

    #[test]
    fn what_was_not_acknowledged_yet_or_is_not_met_does_not_matter() {
        let mut made = Made::default();
        made.put(0, 5, Some(6)).dot(7, 1);
        made.put(0, 1, Some(9)).dot(8, 1);
        made.put(0, 1, Some(2)).at_one().dot(8, 2);
        made.put(1, 1, Some(2)).dot(8, 1);
        assert_eq!(told(made), Vec::<String>::new());
    }
}
