//! Nothing is invented: every value and every version that is ever seen was written to that key, by an
//! operation that had been invoked, with exactly that content, and was not refused.

use rondo_core::id::RequestId;
use rondo_core::version::dvv::Version;
use rondo_core::version::hlc::Hlc;

use crate::history::{Answer, Fate, History, Op, Sighting, Stamp};
use crate::oracle::Violation;
use crate::scenario::Action;

const NAME: &str = "no-invention";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let answers = history.ops.iter().flat_map(|op| wrong_values(history, op));
    let sightings = history.sightings.iter().flat_map(|(&(key, _), all)| {
        all.iter().filter_map(move |sighting| wrong_sighting(history, key, sighting))
    });
    answers.chain(sightings).collect()
}

/// What is wrong with the values that a read answered.
fn wrong_values(history: &History, read: &Op) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for end in read.attempts.iter().filter_map(|attempt| attempt.end.as_ref()) {
        let Answer::Found { values, .. } = &end.answer else {
            continue;
        };
        for seen in values {
            let told = match seen.op.map(|id| (id, &history.ops[id])) {
                None => "a value that nobody wrote".to_owned(),
                Some((id, op)) => match fault(op, read.key, end.stamp) {
                    Some(fault) => format!("the value of op {id}, {fault}"),
                    None => continue,
                },
            };
            let what = format!("a read of k{} answered {told}", read.key);
            wrong.push(Violation::safety(NAME, end.stamp, what));
        }
    }
    wrong
}

fn wrong_sighting(history: &History, key: u32, sighting: &Sighting) -> Option<Violation> {
    let Sighting { stamp, place, .. } = sighting;
    let writer = history.ops.iter().position(|op| op.request == sighting.request);
    let told = match writer.map(|id| (id, &history.ops[id])) {
        None => "a version that no request wrote".to_owned(),
        Some((id, op)) => {
            let fault = if is_content_of(op, sighting) {
                fault(op, key, *stamp)?
            } else {
                "with another content".to_owned()
            };
            format!("a version of op {id}, {fault}")
        }
    };
    Some(Violation::safety(NAME, *stamp, format!("k{key}, {place}: {told}")))
}

/// Why `op` cannot be what was seen of `key` at `stamp`.
fn fault(op: &Op, key: u32, stamp: Stamp) -> Option<String> {
    if op.key != key {
        return Some(format!("which wrote k{}", op.key));
    }
    if op.called() > stamp {
        return Some("which had not been invoked".to_owned());
    }
    (op.fate() == Fate::Refused).then(|| "which was refused".to_owned())
}

fn is_content_of(op: &Op, sighting: &Sighting) -> bool {
    match op.action {
        Action::Get => false,
        Action::Delete { .. } => sighting.tombstone,
        Action::Put { .. } => {
            let none = bytes::Bytes::new();
            let version = Version::value(Hlc(0), RequestId(0), none, op.value.clone());
            !sighting.tombstone && sighting.digest == version.digest
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::history::Seen;
    use crate::oracle::made::Made;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&made.history()).into_iter().map(|violation| violation.what).collect()
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
        assert_eq!(check(&history), []);
        let Some(end) = &mut history.ops[1].attempts[0].end else { unreachable!("it ended") };
        if let Answer::Found { values, .. } = &mut end.answer {
            values.push(Seen { op: None, version: Hlc(3) });
        }
        for all in history.sightings.values_mut() {
            all[0].digest ^= 1;
        }
        let told: Vec<String> = check(&history).into_iter().map(|found| found.what).collect();
        assert_eq!(
            told,
            [
                "a read of k0 answered a value that nobody wrote",
                "k0, n0 to n1: a version of op 0, with another content",
            ]
        );
    }
}
