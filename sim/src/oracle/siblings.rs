//! Siblings are concurrent: no value stands beside one that was written to replace it.
//!
//! Of two values in one answer, or in one replica's final state, neither write's context covers the other's dot. And the
//! context of an answer covers every value that it shows: otherwise a client that writes back what it read would
//! leave the old value beside the new one for ever (the "sibling explosion" of Riak's first vnode clocks).

use crate::history::{History, Op};
use crate::oracle::Violation;
use crate::oracle::overwritten::Writes;

const NAME: &str = "siblings";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for key in 0..history.keys() {
        let writes = Writes::of(history, key);
        for (id, op) in history.of_key(key) {
            wrong.extend(in_answer(history, &writes, id, op));
        }
    }
    wrong
}

fn in_answer(history: &History, writes: &Writes<'_>, id: usize, op: &Op) -> Vec<Violation> {
    let Some((at, values, context)) = op.read() else {
        return Vec::new();
    };
    let shown: Vec<usize> = values.iter().filter_map(|value| value.op).collect();
    let mut wrong = Vec::new();
    for &old in &shown {
        let Some(dot) = writes.dot(&history.ops[old]) else {
            continue;
        };
        if !context.clock.covers(dot) {
            let what =
                format!("k{}: op {id} shows op {old}, which its context does not cover", op.key);
            wrong.push(Violation::safety(NAME, at, what));
        }
        for &new in shown.iter().filter(|&&new| new != old) {
            let sent = history.ops[new].sent.as_ref();
            if sent.is_some_and(|sent| sent.clock.covers(dot)) {
                let key = op.key;
                let what =
                    format!("k{key}: op {id} shows op {old} beside op {new}, which replaced it");
                wrong.push(Violation::safety(NAME, at, what));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use rondo_core::version::dvv::Clock;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_value_beside_its_successor_and_one_outside_the_context_are_found() {
        let mut made = Made::default();
        let old = made.put(0, 1, Some(2)).dot(7, 1).id();
        let new = made.put(0, 3, Some(4)).sent(clock(7, 1)).dot(8, 1).id();
        made.get(0, 5, 6, &[new, old]).knows(Clock::new([(7, 1), (8, 1)].map(actor)));
        made.get(0, 7, 8, &[new]).knows(clock(7, 1));
        let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
        let expect = [
            "k0: op 2 shows op 0 beside op 1, which replaced it",
            "k0: op 3 shows op 1, which its context does not cover",
        ];
        assert_eq!(told, expect);
    }

    #[test]
    fn concurrent_values_may_stand_side_by_side() {
        let mut made = Made::default();
        let one = made.put(0, 1, Some(2)).sent(Clock::default()).dot(7, 1).id();
        let other = made.put(0, 1, Some(2)).sent(Clock::default()).dot(8, 1).id();
        made.get(0, 5, 6, &[one, other]).knows(Clock::new([(7, 1), (8, 1)].map(actor)));
        assert_eq!(check(&made.history()), []);
    }

    fn actor((actor, n): (u64, u64)) -> (rondo_core::id::ActorId, u64) {
        (rondo_core::id::ActorId(actor), n)
    }
}
