//! A dot names one write for ever, and a write has one dot.
//!
//! Two writes under one dot: a replica keeps whichever came first and loses the other for good. Two dots for one
//! write: a request that was tried again was applied twice, and may come back after it was overwritten.

use std::collections::BTreeMap;

use rondo_core::id::RequestId;
use rondo_core::version::dvv::Dot;

use crate::history::Sighting;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "dots-unique";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    // Of requests that no write made, and of writes of another key: each key by itself.
    let mut strange: BTreeMap<(u32, RequestId), Dot> = BTreeMap::new();
    let mut writers = index.writers.iter().copied();
    for (&(key, dot), all) in &index.history.sightings {
        for (at, sighting) in all.iter().enumerate() {
            let op = writers.next().expect("one for each sighting");
            if at > 0 {
                wrong.push(same_dot(index, key, dot, [&all[0], sighting]));
            }
            let known = match index.dot(key, op) {
                Some(dot) => dot,
                None => *strange.entry((key, sighting.request)).or_insert(dot),
            };
            if known != dot {
                let by = writer(index, key, sighting);
                let (one, two) = (spelt(dot.min(known)), spelt(dot.max(known)));
                let what = format!("k{key}: {by} has two dots, {one} and {two}");
                wrong.push(Violation::safety(NAME, sighting.stamp, what));
            }
        }
    }
    wrong
}

fn same_dot(index: &Index<'_>, key: u32, dot: Dot, [one, other]: [&Sighting; 2]) -> Violation {
    let told =
        |sighting: &Sighting| format!("{} ({})", writer(index, key, sighting), sighting.place);
    let what = format!("k{key} dot {}: {} and {}", spelt(dot), told(one), told(other));
    Violation::safety(NAME, other.stamp, what)
}

fn writer(index: &Index<'_>, key: u32, sighting: &Sighting) -> String {
    let Sighting { request, tombstone, digest, .. } = *sighting;
    match index.writer(key, request, (tombstone, digest)) {
        None => format!("request {}", sighting.request),
        Some(id) => format!("op {id}"),
    }
}

fn spelt(dot: Dot) -> String {
    format!("{}:{}", &dot.actor.to_string()[..4], dot.n)
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::Made;

    use super::*;

    #[test]
    fn one_dot_for_two_writes_and_two_dots_for_one_write_are_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(0, 3, Some(4)).dot(7, 1);
        made.put(0, 5, Some(6)).dot(7, 2).dot(8, 1);
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        assert_eq!(
            told,
            [
                "k0 dot 0000:1: op 0 (n0 to n1) and op 1 (n0 to n1)",
                "k0: op 2 has two dots, 0000:2 and 0000:1",
            ]
        );
    }

    #[test]
    fn the_same_dot_of_two_keys_is_fine() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 1);
        made.put(1, 3, Some(4)).dot(7, 1);
        assert_eq!(check(&Index::of(&made.history())), []);
    }
}
