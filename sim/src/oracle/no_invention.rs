//! Nothing is invented: every value and every version that is ever seen was written to that key, by an
//! operation that had been invoked, with exactly that content, and was not refused.

use crate::history::{Fate, History, Op, Sighting, Stamp};
use crate::oracle::Violation;
use crate::oracle::fact::{Fact, Kind, Told};
use crate::oracle::index::{Index, NOBODY, OfKey, digest};

const NAME: &str = "no-invention";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for of in &index.keys {
        for told in &of.told {
            for &shown in of.shown(told) {
                let writer = writer(index, of.key, shown);
                if !writer.is_some_and(|fact| fact.called <= told.at && fact.happened()) {
                    wrong.push(wrong_value(index.history, of, told, shown));
                }
            }
        }
    }
    let sightings = index.history.sightings.iter();
    let sightings = sightings.flat_map(|(&(key, _), all)| all.iter().map(move |one| (key, one)));
    for (&op, (key, sighting)) in index.writers.iter().zip(sightings) {
        let writer = writer(index, key, op);
        let is_right = |fact: &Fact| {
            fact.called <= sighting.stamp
                && fact.happened()
                && is_content_of(index.history, fact, sighting)
        };
        if !writer.is_some_and(is_right) {
            wrong.push(wrong_sighting(index, key, sighting, op));
        }
    }
    wrong
}

/// The fact of an operation, when it is one of this key and was invoked.
fn writer<'a>(index: &'a Index<'_>, key: u32, op: u32) -> Option<&'a Fact> {
    let of = index.keys.get(key as usize)?;
    index.place(of, op).map(|place| &of.facts[place as usize])
}

fn is_content_of(history: &History, fact: &Fact, sighting: &Sighting) -> bool {
    match fact.kind {
        Kind::Get => false,
        Kind::Delete => sighting.tombstone,
        Kind::Put => {
            !sighting.tombstone && sighting.digest == digest(&history.ops[fact.id as usize])
        }
    }
}

fn wrong_value(history: &History, of: &OfKey, told: &Told, shown: u32) -> Violation {
    let told_of = match history.ops.get(shown as usize) {
        None => "a value that nobody wrote".to_owned(),
        Some(op) => format!("the value of op {shown}, {}", fault(op, of.key, told.at)),
    };
    let what = format!("a read of k{} answered {told_of}", of.key);
    Violation::safety(NAME, told.at, what)
}

fn wrong_sighting(index: &Index<'_>, key: u32, sighting: &Sighting, op: u32) -> Violation {
    let Sighting { stamp, place, .. } = sighting;
    let told = if op == NOBODY {
        "a version that no write's request wrote".to_owned()
    } else {
        let is_content = |fact: &Fact| is_content_of(index.history, fact, sighting);
        let fault = match writer(index, key, op).is_none_or(is_content) {
            true => fault(&index.history.ops[op as usize], key, *stamp),
            false => "with another content".to_owned(),
        };
        format!("a version of op {op}, {fault}")
    };
    Violation::safety(NAME, *stamp, format!("k{key}, {place}: {told}"))
}

/// Why `op` cannot be what was seen of `key` at `stamp`.
fn fault(op: &Op, key: u32, stamp: Stamp) -> String {
    if op.key != key {
        return format!("which wrote k{}", op.key);
    }
    if op.called() > stamp {
        return "which had not been invoked".to_owned();
    }
    match op.fate() {
        Fate::Refused => "which was refused".to_owned(),
        _ => "which writes nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::version::hlc::Hlc;

    use crate::history::{Answer, Seen};
    use crate::oracle::made::Made;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&Index::of(&made.history())).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_value_must_come_from_an_operation_that_wrote_it() {
        let mut made = Made::default();
        let good = made.put(0, 1, Some(2)).dot(7, 1).id();
        let late = made.put(0, 9, Some(10)).id();
        let refused = made.put(0, 1, Some(2)).refused().id();
        let elsewhere = made.put(1, 1, Some(2)).id();
        made.get(0, 3, 4, &[good, late, refused, elsewhere]);
        assert_eq!(
            told(made),
            [
                "a read of k0 answered the value of op 1, which had not been invoked",
                "a read of k0 answered the value of op 2, which was refused",
                "a read of k0 answered the value of op 3, which wrote k1",
            ]
        );
    }

    #[test]
    fn a_foreign_value_and_a_changed_version_are_found() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).dot(7, 1).id();
        made.get(0, 3, 4, &[put]);
        let mut history = made.history();
        assert_eq!(check(&Index::of(&history)), []);
        let Some(end) = &mut history.ops[1].attempts[0].end else { unreachable!("it ended") };
        if let Answer::Found { values, .. } = &mut end.answer {
            values.push(Seen { op: None, version: Hlc(3) });
        }
        for all in history.sightings.values_mut() {
            all[0].digest ^= 1;
        }
        let told: Vec<String> =
            check(&Index::of(&history)).into_iter().map(|found| found.what).collect();
        assert_eq!(
            told,
            [
                "a read of k0 answered a value that nobody wrote",
                "k0, n0 to n1: a version of op 0, with another content",
            ]
        );
    }
}
