//! A token says what its client was told: an acknowledged write's token covers what the client sent and the write's own dot, and
//! a token of another key opens for none but its own.
//!
//! A client that chains its writes by their tokens overwrites each with the next. A token without the own dot would leave them all
//! side by side, until the key is full. That a token covers nothing else is asked by `coverage`, and of what a read shows by
//! `siblings`.
//!
//! What counts is what the answered attempt sent. An attempt that comes with another context under the same id, to a node that
//! does not know the id, is answered from the replicas: they hold the write and its id, and no context. So it cannot be refused
//! there (`docs/internals/consistency.md` promises that of a coordinator that knows the id), and its token covers the write
//! and what that attempt sent; what an earlier attempt sent is known to nobody there. To know less makes a sibling at worst.

use crate::history::{Answer, End, Promise};
use crate::oracle::Violation;
use crate::oracle::fact::Kind;
use crate::oracle::index::{Index, OfKey};

const NAME: &str = "tokens";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = super::breaches(NAME, index, Promise::Tokens);
    wrong.extend(index.keys.iter().flat_map(|of| of_key(index, of)));
    wrong
}

fn of_key(index: &Index<'_>, of: &OfKey) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let writes = of.facts.iter().filter(|fact| fact.kind != Kind::Get);
    for fact in writes {
        let op = &index.history.ops[fact.id as usize];
        let own = op.attempts.iter().filter(|attempt| attempt.is_of_the_request());
        for attempt in own {
            let Some(End { stamp, answer: Answer::Stored { context, .. }, .. }) = &attempt.end
            else {
                continue;
            };
            let dot = index.dot(of.key, fact.id);
            let lacks = match &op.sent_by(attempt) {
                _ if dot.is_some_and(|dot| !context.clock.covers(dot)) => "its own dot",
                Some(sent) if !context.clock.dominates(&sent.clock) => "what it was sent with",
                _ => continue,
            };
            let (key, id) = (of.key, fact.id);
            let what = format!("k{key}: the token that op {id} was answered with lacks {lacks}");
            wrong.push(Violation::safety(NAME, *stamp, what));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use rondo_core::id::ActorId;
    use rondo_core::version::dvv::VersionVector;

    use crate::oracle::made::{self, Made, clock};
    use crate::scenario::Change;

    use super::*;

    fn told(made: Made) -> Vec<String> {
        check(&Index::of(&made.history())).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_token_without_the_own_dot_or_without_what_was_sent_is_found() {
        let mut made = Made::default();
        made.put(0, 1, Some(2)).dot(7, 2).knows(clock(7, 1));
        made.put(0, 3, Some(4)).sent(clock(8, 1)).dot(7, 3).knows(clock(7, 3));
        let expect = [
            "k0: the token that op 0 was answered with lacks its own dot",
            "k0: the token that op 1 was answered with lacks what it was sent with",
        ];
        assert_eq!(told(made), expect);
    }

    #[test]
    fn what_counts_is_what_the_answered_attempt_sent() {
        let with = |change| {
            let mut made = Made::default();
            made.put(0, 1, Some(2)).sent(clock(8, 1)).dot(7, 1).knows(clock(7, 1)).changed(change);
            told(made)
        };
        assert_eq!(with(Change::Context), Vec::<String>::new(), "it sent none");
        let lacks = ["k0: the token that op 0 was answered with lacks what it was sent with"];
        assert_eq!(with(Change::Deadline(5)), lacks);
    }

    #[test]
    fn a_token_with_both_is_right() {
        let mut made = Made::default();
        let both = VersionVector::new([(ActorId(7), 2), (ActorId(8), 1)]);
        made.put(0, 1, Some(2)).sent(clock(8, 1)).dot(7, 2).knows(both);
        made.put(0, 3, Some(4)).knows(VersionVector::default());
        assert_eq!(told(made), Vec::<String>::new(), "what was never stored has no dot");
    }

    #[test]
    fn a_breach_of_this_promise_is_told_and_one_of_another_is_not() {
        assert_eq!(made::told_of(Promise::Tokens, check), ["n2: it did"]);
        assert_eq!(made::told_of(Promise::Memory, check), Vec::<String>::new());
    }
}
