//! The few operations that already contradict each other.
//!
//! First the history is cut at the earliest end at which no order is left. Then everything in it is weakened as far as
//! it goes, many operations at a time and then fewer: a read is left out, and a write may take effect at any time
//! after its call, or never. Whatever is weakened allows more orders, never fewer, so what is left is a contradiction
//! by itself. All of it has a fixed number of steps to spend; the evidence may then be larger than need be, never wrong.

use crate::check::Evidence;
use crate::check::history::{Event, Moment, NEVER};
use crate::check::model::Model;
use crate::check::search::Search;

/// How many steps making the evidence smaller may take.
const STEPS_MAX: u64 = 400_000;
/// How many steps one attempt may take.
const ATTEMPT_STEPS_MAX: u64 = 20_000;

/// The smallest contradiction that can be found among the operations `ids` of a key that is not linearizable.
#[must_use]
pub(super) fn smallest<M: Model>(model: &M, events: &[Event], key: u32, ids: &[u32]) -> Evidence {
    let mut kept = Kept { model, events, ids: ids.to_vec(), free: Vec::new(), steps: STEPS_MAX };
    let last = kept.cut();
    kept.weaken();
    let why = format!("no order of these agrees with what they saw, from the end of op {last} on");
    Evidence { key, operations: kept.ids, why }
}

/// What is left of the history.
struct Kept<'a, M: Model> {
    model: &'a M,
    events: &'a [Event],
    /// Operations that count in full.
    ids: Vec<u32>,
    /// Writes that may have taken effect at any time after their call, or never.
    free: Vec<u32>,
    steps: u64,
}

impl<M: Model> Kept<'_, M> {
    /// Cuts the history at the earliest end at which no order is left; whose end that is.
    fn cut(&mut self) -> u32 {
        let mut ends: Vec<(Moment, u32)> =
            self.ids.iter().map(|&at| (self.at(at).ended, at)).collect();
        ends.retain(|&(ended, _)| ended != NEVER);
        ends.sort_unstable();
        let (mut good, mut bad) = (0, ends.len());
        while good + 1 < bad {
            let middle = good + (bad - good) / 2;
            let (ids, free) = self.until(ends[middle - 1].0);
            match self.contradicts(&ids, &free) {
                true => bad = middle,
                false => good = middle,
            }
        }
        let (moment, last) = ends[bad - 1];
        (self.ids, self.free) = self.until(moment);
        last
    }

    /// What had ended by then, and what had been called.
    fn until(&self, moment: Moment) -> (Vec<u32>, Vec<u32>) {
        let called = self.ids.iter().copied().filter(|&at| self.at(at).called <= moment);
        called.partition(|&at| self.at(at).ended <= moment)
    }

    fn weaken(&mut self) {
        let mut many = self.ids.len() / 2;
        while many > 0 {
            let mut from = 0;
            while from < self.ids.len() {
                let to = (from + many).min(self.ids.len());
                let ids = [&self.ids[..from], &self.ids[to..]].concat();
                let free = [self.free.as_slice(), &self.ids[from..to]].concat();
                if self.contradicts(&ids, &free) {
                    (self.ids, self.free) = (ids, free);
                } else {
                    from = to;
                }
            }
            many /= 2;
        }
    }

    /// Whether these contradict each other; `false` also when that would take too long to say.
    fn contradicts(&mut self, ids: &[u32], free: &[u32]) -> bool {
        let known = ids.iter().map(|&at| self.events[at as usize]);
        let freed = free.iter().map(|&at| Event { ended: NEVER, ..self.events[at as usize] });
        let events: Vec<Event> = known.chain(freed).collect();
        let steps = self.steps.min(ATTEMPT_STEPS_MAX);
        let cost = events.len() as u64;
        self.steps = self.steps.saturating_sub(cost);
        let mut search = Search::new(self.model, &events);
        let mut spent = 0;
        while spent < steps {
            let turn = (steps - spent).min(1_000);
            spent += turn;
            if let Some(found) = search.run(turn) {
                self.steps = self.steps.saturating_sub(spent);
                return !found;
            }
        }
        self.steps = self.steps.saturating_sub(spent);
        false
    }

    fn at(&self, id: u32) -> &Event {
        &self.events[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use crate::check::history::{Value, What};
    use crate::check::model::Register;
    use crate::check::{Verdict, any};

    use super::*;

    #[test]
    fn one_stale_read_among_many_operations_is_told_with_its_reason() {
        let event = |at: u64, what| Event { called: 2 * at + 1, ended: 2 * at + 2, key: 0, what };
        let value = |at: u64| Value(at as u32 + 1);
        let round = |at: u64| match at % 2 {
            0 => event(at, What::Write(value(at / 2))),
            _ => event(at, What::Read(value(at / 2))),
        };
        let mut events: Vec<Event> = (0..200).map(round).collect();
        let register = Register { initial: Value(0) };
        assert_eq!(any(&register, &events, 100_000), Verdict::Linearizable);
        events[101].what = What::Read(value(48));
        let Verdict::Not(evidence) = any(&register, &events, 100_000) else {
            unreachable!("the read is stale");
        };
        assert!(evidence.operations.contains(&101), "{evidence:?}");
        assert!(evidence.operations.len() <= 6, "{evidence:?}");
    }
}
