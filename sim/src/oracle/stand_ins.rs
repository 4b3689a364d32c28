//! A process that runs on a copy of a node's data directory which is not its newest serves nobody: it answers no request with a
//! success, and issues no dot.
//!
//! That nothing counts which it tells its peers is seen by others: `acks`, `freshness` and `linearizable`. Left out: a node
//! that starts with an empty directory. It is another node, which no layout knows, and may pass requests on.

use crate::history::{Answer, Op, STAND_INS, StoodIn};
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "stand-ins";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let ops = index.history.ops.iter().enumerate();
    let mut wrong: Vec<Violation> =
        ops.flat_map(|(id, op)| served(&index.history.lives.stood_in, id, op)).collect();
    for (&(key, dot), all) in &index.history.sightings {
        let issued = all.iter().filter(|seen| seen.issuer >= STAND_INS);
        wrong.extend(issued.map(|seen| {
            let node = seen.issuer - STAND_INS;
            let what = format!("k{key}: a copy of n{node} issues dot {} of {}", dot.n, dot.actor);
            Violation::safety(NAME, seen.stamp, what)
        }));
    }
    wrong
}

/// Answers of copies that are no refusals.
fn served(stood_in: &[StoodIn], id: usize, op: &Op) -> Vec<Violation> {
    let is_success = |answer: &Answer| {
        matches!(answer, Answer::Stored { .. } | Answer::Found { .. } | Answer::NotFound { .. })
    };
    let by_copy = |node, stamp| {
        stood_in.iter().any(|was| was.node == node && (was.from..was.until).contains(&stamp))
    };
    let ends = op.attempts.iter().filter_map(|attempt| Some((attempt.node, attempt.end.as_ref()?)));
    ends.filter(|(node, end)| is_success(&end.answer) && by_copy(*node, end.stamp))
        .map(|(node, end)| {
            let what = format!("k{}: op {id} was served by n{node}, a copy", op.key);
            Violation::safety(NAME, end.stamp, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Stamp};
    use crate::oracle::made::Made;

    use super::*;

    fn told(change: impl Fn(&mut History)) -> Vec<String> {
        let mut made = Made::default();
        made.put(0, 1, Some(9)).dot(7, 2);
        let mut history = made.history();
        change(&mut history);
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn what_a_copy_serves_is_found_and_what_the_node_itself_served_is_not() {
        let copy = |from, until| {
            move |history: &mut History| {
                let node = history.ops[0].attempts[0].node;
                history.lives.stood_in =
                    vec![StoodIn { node, from: Stamp(from), until: Stamp(until) }];
            }
        };
        assert_eq!(told(copy(2, 50)), ["k0: op 0 was served by n0, a copy"]);
        assert_eq!(told(copy(20, 50)), Vec::<String>::new());
    }

    #[test]
    fn a_dot_of_a_copy_is_found() {
        let found = told(|history| {
            let mut all = history.sightings.values_mut().flatten();
            all.next().expect("one").issuer = STAND_INS + 2;
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("k0: a copy of n2 issues dot 2 of "), "{found:?}");
    }
}
