//! A dot names one write for ever, and a write has one dot.
//!
//! Two writes under one dot: a replica keeps whichever came first and loses the other for good. Two dots for one
//! write: a request that was tried again was applied twice, and may come back after it was overwritten.

use std::collections::BTreeMap;

use rondo_core::id::RequestId;
use rondo_core::version::dvv::Dot;

use crate::history::{History, Sighting};
use crate::oracle::Violation;

const NAME: &str = "dots-unique";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut dots: BTreeMap<(u32, RequestId), (Dot, &Sighting)> = BTreeMap::new();
    for (&(key, dot), all) in &history.sightings {
        let first = &all[0];
        for other in &all[1..] {
            let what = format!(
                "k{key} dot {}: {} ({}) and {} ({})",
                spelt(dot),
                writer(history, first),
                first.place,
                writer(history, other),
                other.place
            );
            wrong.push(Violation::safety(NAME, other.stamp, what));
        }
        for sighting in all {
            let (known, before) = *dots.entry((key, sighting.request)).or_insert((dot, sighting));
            if known != dot {
                let (by, at) = (writer(history, sighting), before.stamp.max(sighting.stamp));
                let (one, two) = (spelt(known), spelt(dot));
                let what = format!("k{key}: {by} has two dots, {one} and {two}");
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    wrong
}

fn writer(history: &History, sighting: &Sighting) -> String {
    match history.ops.iter().position(|op| op.request == sighting.request) {
        Some(id) => format!("op {id}"),
        None => format!("request {}", sighting.request),
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
        let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
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
        assert_eq!(check(&made.history()), []);
    }
}
