//! Nobody who reads at `quorum` or `all` falls behind: the answer knows all that was known when the read began.
//!
//! Whatever context an acknowledged write or an answered read at `quorum` or `all` has handed out is held by W replicas, so
//! every later read of the key at these levels meets one of them and its context covers it. Reading your own writes and
//! reading ever newer states, for one client and for all of them together, are special cases of this.
//! Left out: level `one`, which promises nothing of the kind; its staleness is a number in the report.

use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::Clock;

use crate::history::{History, Op, Stamp};
use crate::oracle::Violation;

const NAME: &str = "freshness";

pub(super) fn check(history: &History) -> Vec<Violation> {
    (0..history.keys()).flat_map(|key| of_key(history, key)).collect()
}

/// Something that happened to a key at a strict level, in order of time.
enum Moment<'a> {
    /// A context was handed out.
    Known(&'a Clock),
    /// The read of this operation began; it ended later with this clock.
    Began { id: usize, ended: Stamp, clock: &'a Clock },
}

fn of_key(history: &History, key: u32) -> Vec<Violation> {
    let mut moments = Vec::new();
    for (id, op) in history.of_key(key).filter(|(_, op)| op.level != Level::One) {
        moments.extend(op.contexts().map(|(at, context)| (at, Moment::Known(&context.clock))));
        moments.extend(began(id, op));
    }
    moments.sort_by_key(|&(at, _)| at);
    let (mut known, mut wrong) = (Clock::default(), Vec::new());
    for (_, moment) in moments {
        match moment {
            Moment::Known(clock) => known.join(clock),
            Moment::Began { id, ended, clock } if !clock.dominates(&known) => {
                wrong.push(Violation::safety(NAME, ended, behind(key, id, clock, &known)));
            }
            Moment::Began { .. } => {}
        }
    }
    wrong
}

fn began(id: usize, op: &Op) -> Option<(Stamp, Moment<'_>)> {
    let (ended, _, context) = op.read()?;
    // Of several attempts the last one was answered, and it began last.
    let attempt = op.attempts.iter().rfind(|attempt| attempt.called < ended)?;
    Some((attempt.called, Moment::Began { id, ended, clock: &context.clock }))
}

fn behind(key: u32, id: usize, clock: &Clock, known: &Clock) -> String {
    let missing = known.entries().iter().find(|&&(actor, n)| clock.get(actor) < n);
    let &(actor, n) = missing.expect("it does not dominate");
    let has = clock.get(actor);
    format!(
        "k{key}: the read op {id} knows {has} dots of {actor}, but {n} were known before it began"
    )
}

#[cfg(test)]
mod tests {
    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_read_that_knows_less_than_an_earlier_answer_is_found() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).knows(clock(7, 2)).id();
        made.get(0, 3, 4, &[put]).knows(clock(7, 1));
        let told: Vec<String> = check(&made.history()).into_iter().map(|v| v.what).collect();
        let expect =
            "k0: the read op 1 knows 1 dots of 0000000000000007, but 2 were known before it began";
        assert_eq!(told, [expect]);
    }

    #[test]
    fn what_was_not_known_yet_and_what_level_one_says_is_no_measure() {
        let mut made = Made::default();
        let put = made.put(0, 1, Some(2)).knows(clock(7, 1)).id();
        made.get(0, 3, 9, &[put]).knows(clock(7, 1));
        made.put(0, 4, Some(5)).knows(clock(7, 2));
        made.put(0, 4, Some(5)).at_one().knows(clock(8, 1));
        made.get(0, 10, 11, &[put]).at_one().knows(Clock::default());
        made.get(0, 10, 11, &[put]).knows(clock(7, 2));
        made.get(1, 10, 11, &[]).knows(Clock::default());
        assert_eq!(check(&made.history()), []);
    }
}
