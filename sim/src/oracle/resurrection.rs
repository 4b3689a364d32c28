//! What was overwritten or deleted stays so: no later read at `quorum` or `all` shows it, and no replica ends with it.
//!
//! A write at `quorum` or `all` that was acknowledged has overwritten, for certain, what its context covers; without a context,
//! every write that had been acknowledged at these levels before it began, because its query round met it. What comes
//! back afterwards has risen from a replica that missed the news (Cassandra's zombie rows, CASSANDRA-1316).

use rondo_core::layout::keyspace::Level;

use crate::history::{Fate, History, Op, Stamp};
use crate::oracle::Violation;
use crate::oracle::overwritten::Writes;

const NAME: &str = "resurrection";

pub(super) fn check(history: &History) -> Vec<Violation> {
    (0..history.keys()).flat_map(|key| of_key(history, key)).collect()
}

fn of_key(history: &History, key: u32) -> Vec<Violation> {
    let writes = Writes::of(history, key);
    let mut wrong = Vec::new();
    for (id, op) in history.of_key(key).filter(|(_, op)| op.level != Level::One) {
        let Some((at, values, _)) = op.read() else {
            continue;
        };
        for old in values.iter().filter_map(|value| value.op) {
            if let Some(by) = overwritten_before(&writes, &history.ops[old], op.called()) {
                let what =
                    format!("k{key}: op {id} shows op {old}, which op {by} had overwritten before");
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    for last in history.finals.iter().filter(|last| last.key == key) {
        for (_, version) in last.state.versions() {
            let old = writes.all().find(|(_, op)| op.request == version.request);
            let Some((old, op)) = old else {
                continue;
            };
            if let Some(by) = overwritten_before(&writes, op, Stamp::NEVER) {
                let node = last.node;
                let what =
                    format!("k{key}: n{node} ends with op {old}, which op {by} had overwritten");
                wrong.push(Violation::safety(NAME, Stamp::NEVER, what));
            }
        }
    }
    wrong
}

/// The write that was acknowledged before `until` and had overwritten `op` for certain.
fn overwritten_before(writes: &Writes<'_>, op: &Op, until: Stamp) -> Option<usize> {
    let strict = writes.all().filter(|(_, other)| other.level != Level::One);
    let mut others = strict.filter(|(_, other)| other.request != op.request);
    let done = |other: &Op| matches!(other.fate(), Fate::Acked(at) if at < until);
    others.find(|(_, other)| done(other) && surely_covers(writes, other, op)).map(|(id, _)| id)
}

fn surely_covers(writes: &Writes<'_>, other: &Op, op: &Op) -> bool {
    match &other.sent {
        Some(context) => writes.dot(op).is_some_and(|dot| context.clock.covers(dot)),
        // Later attempts look for what the first one did, and the first one's query round is what counts.
        None => {
            op.level != Level::One && matches!(op.fate(), Fate::Acked(at) if at < other.called())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_value_that_comes_back_after_its_delete_is_found() {
        for blind in [true, false] {
            let mut made = Made::default();
            let put = made.put(0, 1, Some(2)).dot(7, 1).id();
            let delete = made.delete(0, 3, Some(4)).dot(8, 1);
            let delete = if blind { delete } else { delete.sent(clock(7, 1)) }.id();
            made.get(0, 5, 6, &[put]);
            made.ends(0, 2, &[(put, 7, 1), (delete, 8, 1)]);
            let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
            let expect = [
                "k0: op 2 shows op 0, which op 1 had overwritten before",
                "k0: n2 ends with op 0, which op 1 had overwritten",
            ];
            assert_eq!(told, expect, "blind: {blind}");
        }
    }

    #[test]
    fn what_ran_beside_the_delete_or_is_not_covered_by_it_may_stay() {
        let mut made = Made::default();
        let beside = made.put(0, 1, Some(4)).dot(7, 1).id();
        made.delete(0, 3, Some(5)).dot(8, 1);
        made.delete(0, 6, Some(7)).sent(clock(9, 1)).dot(8, 2);
        made.get(0, 8, 9, &[beside]);
        made.ends(0, 0, &[(beside, 7, 1)]);
        let unknown = made.put(1, 1, Some(2)).dot(7, 3).id();
        made.delete(1, 3, None).dot(8, 1);
        made.get(1, 5, 6, &[unknown]);
        assert_eq!(check(&made.history()), []);
    }
}
