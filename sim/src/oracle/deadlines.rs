//! Every operation is answered by its deadline, with some slack, as long as its node lives and is not paused.

use crate::history::{Attempt, Op};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;

const NAME: &str = "deadlines";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    if !index.history.troubles.is_empty() {
        // The run was cut short: nobody knows what would have been answered.
        return Vec::new();
    }
    let ops = index.history.ops.iter().enumerate();
    ops.flat_map(|(id, op)| op.attempts.iter().filter_map(move |attempt| late(id, op, attempt)))
        .collect()
}

fn late(id: usize, op: &Op, attempt: &Attempt) -> Option<Violation> {
    let due = attempt.due?;
    let told = match &attempt.end {
        None => "was never answered".to_owned(),
        Some(end) if end.at > due => format!("was answered at {}", end.at.text()),
        Some(_) => return None,
    };
    let (key, node, called, due) = (op.key, attempt.node, attempt.called_at.text(), due.text());
    let what = format!("k{key}: op {id}, sent to n{node} at {called} and due at {due}, {told}");
    Some(Violation { oracle: NAME, verdict: Verdict::Liveness, at: attempt.called, what })
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::Made;

    use super::*;

    #[test]
    fn late_and_missing_answers_are_found_unless_the_node_died() {
        let mut made = Made::default();
        made.put(0, 1, Some(900));
        made.put(0, 1, Some(1_002));
        made.put(0, 1, None);
        let mut history = made.history();
        let told: Vec<String> = check(&Index::of(&history)).into_iter().map(|v| v.what).collect();
        assert_eq!(
            told,
            [
                "k0: op 1, sent to n0 at 1.000ms and due at 1001.000ms, was answered at 1002.000ms",
                "k0: op 2, sent to n0 at 1.000ms and due at 1001.000ms, was never answered",
            ]
        );
        for op in &mut history.ops {
            op.attempts[0].due = None;
        }
        assert_eq!(check(&Index::of(&history)), []);
    }
}
