//! A key's times agree with what overwrote what: a write's HLC is above that of everything its context covers, and an actor's
//! versions of a key have rising HLCs.
//!
//! Otherwise the newest value, which is the answer, would be one that was overwritten, or that its own coordinator wrote
//! before another. Asked of what was stored, with the contexts that clients sent. Left out: what a blind write overwrote, which
//! only its coordinator knows.

use rondo_core::version::hlc::Hlc;

use crate::oracle::Violation;
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "times";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    index.keys.iter().flat_map(of_key).collect()
}

fn of_key(of: &OfKey) -> Vec<Violation> {
    let mut wrong = Vec::new();
    // For each slot the dots with the highest HLC up to each, and whose it is.
    let highest: Vec<Vec<(u64, Hlc, u32)>> =
        (0..).zip(&of.dots).map(|(slot, _)| rising(of, slot, &mut wrong)).collect();
    for fact in of.facts.iter().filter(|fact| fact.dot.is_some() && fact.happened()) {
        for &(slot, run) in fact.sent.map_or(&[][..], |sent| of.clock(sent)) {
            let dots = &highest[slot as usize];
            let covered = dots[..dots.partition_point(|&(dot, ..)| dot <= run.to)].last();
            let covered = covered.filter(|&&(dot, ..)| dot >= run.from);
            if let Some(&(_, hlc, other)) =
                covered.filter(|&&(_, hlc, id)| hlc >= fact.hlc && id != fact.id)
            {
                let (key, id, own) = (of.key, fact.id, fact.hlc);
                let what = format!(
                    "k{key}: op {id} at {own} covers op {other} at {hlc}, which is not below"
                );
                wrong.push(Violation::safety(NAME, fact.seen, what));
            }
        }
    }
    wrong
}

/// The running maximum of an actor's HLCs; where one does not rise, that is wrong.
fn rising(of: &OfKey, slot: usize, wrong: &mut Vec<Violation>) -> Vec<(u64, Hlc, u32)> {
    let mut highest: Vec<(u64, Hlc, u32)> = Vec::new();
    for &(n, place) in &of.dots[slot] {
        let fact = &of.facts[place as usize];
        let (_, before, earlier) = highest.last().copied().unwrap_or_default();
        if before >= fact.hlc && !highest.is_empty() {
            let (key, id, hlc) = (of.key, fact.id, fact.hlc);
            let what = format!(
                "k{key}: op {id} at {hlc} has a later dot of the same actor than op {earlier} at {before}"
            );
            wrong.push(Violation::safety(NAME, fact.seen, what));
        }
        highest.push((n, before.max(fact.hlc), if before > fact.hlc { earlier } else { fact.id }));
    }
    highest
}

#[cfg(test)]
mod tests {
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
    fn rising_times_are_right_and_other_actors_and_keys_do_not_matter() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(7, 2);
        made.put(0, 5, Some(6)).sent(clock(7, 1)).dot(8, 1);
        made.put(1, 7, Some(8)).sent(clock(8, 5)).dot(7, 1);
        assert_eq!(told(made), Vec::<String>::new());
    }
}
