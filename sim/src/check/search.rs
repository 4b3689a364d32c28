//! Is one key's history linearizable? By search, for any model and any values.
//!
//! After Wing and Gong (1993), with Lowe's list and memory of visited states (2017). Calls and ends stand in one
//! linked list in order of time; an operation may come next when its call stands before the first end that is left.
//! What is taken leaves the list, so the candidates are always its first calls. On top of that:
//!
//! - The set of taken operations is known by a 128-bit number, the exclusive or of one random number per operation
//!   (Zobrist), together with the state. Two different sets share a number with probability m^2 / 2^128 for m states.
//! - An operation that changes nothing and may come next is taken at once and never given back: whatever order comes
//!   later stays possible.
//! - An unknown write whose value nobody saw is left out, unless a refused compare-and-set may have met it; of unknown
//!   operations that do the same, the one called first is tried first; one that would change nothing is not tried.
//! - A text that begins nothing that was read is given up where a read has to come before the next write.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::check::history::{Event, Value, What};
use crate::check::model::{Model, mixed};

/// A search that may be interrupted.
pub struct Search<'a, M: Model> {
    model: &'a M,
    ops: Vec<Op>,
    list: Vec<Node>,
    /// How many operations that ended are not taken.
    left: usize,
    state: M::State,
    taken: u128,
    /// Where in the list the next candidate is looked for.
    at: usize,
    stack: Vec<Taken<M::State>>,
    visited: HashSet<u128, BuildHasherDefault<Mixed>>,
    /// The states from which something that was read can be reached without a write.
    reaching: Option<BTreeSet<u128>>,
}

struct Op {
    what: What,
    /// The node of its end; `HEAD` when it never ended.
    end: usize,
    /// Whether it is in the order found so far.
    is_taken: bool,
    /// An unknown operation that does the same and was called before.
    twin: Option<usize>,
    number: u128,
}

/// A call or an end in the list.
#[derive(Clone, Copy)]
struct Node {
    op: usize,
    is_end: bool,
    previous: usize,
    next: usize,
}

struct Taken<S> {
    node: usize,
    before: S,
    /// It was no choice: to give it back alone would be pointless.
    is_forced: bool,
}

/// The node before the first and after the last.
const HEAD: usize = 0;

impl<'a, M: Model> Search<'a, M> {
    /// A search for an order of these operations, all of one key.
    #[must_use]
    pub fn new(model: &'a M, events: &[Event]) -> Search<'a, M> {
        let events = relevant(events);
        let mut twins: BTreeMap<(u32, u32, u32), usize> = BTreeMap::new();
        let mut ops = Vec::with_capacity(events.len());
        for (at, event) in events.iter().enumerate() {
            let twin = match event.is_unknown() {
                true => twins.insert(kind(event.what), at),
                false => None,
            };
            let number = mixed(at as u128 | 1 << 100);
            ops.push(Op { what: event.what, end: HEAD, is_taken: false, twin, number });
        }
        let list = linked(&events, &mut ops);
        let left = events.iter().filter(|event| !event.is_unknown()).count();
        let (state, at) = (model.initial(), list[HEAD].next);
        let (stack, visited) = (Vec::new(), HashSet::default());
        let reaching = model.reaching(&events);
        Search { model, ops, list, left, state, taken: 0, at, stack, visited, reaching }
    }

    /// Goes on for at most `steps`: whether there is an order; `None` when that is not known yet.
    pub fn run(&mut self, steps: u64) -> Option<bool> {
        for _ in 0..steps {
            if self.left == 0 {
                return Some(true);
            }
            let is_stuck = self.at == HEAD || self.list[self.at].is_end;
            if is_stuck && !self.give_back() {
                return Some(false);
            }
            if !is_stuck {
                self.consider(self.at);
            }
        }
        None
    }

    /// How many states it remembers.
    #[must_use]
    pub fn states(&self) -> usize {
        self.visited.len()
    }

    /// Takes the operation called at `node`, or moves on to the next candidate.
    fn consider(&mut self, node: usize) {
        let op = &self.ops[self.list[node].op];
        let is_unknown = op.end == HEAD;
        let is_behind = op.twin.is_some_and(|twin| !self.ops[twin].is_taken);
        let after = if is_behind { None } else { self.model.step(self.state, op.what) };
        let after = after.filter(|after| !(is_unknown && *after == self.state));
        let after = after.filter(|after| !self.is_dead(*after));
        let is_forced = op.what.is_effectless();
        let taken = self.taken ^ op.number;
        match after {
            Some(after) if is_forced || self.visited.insert(taken ^ self.model.digest(after)) => {
                self.stack.push(Taken { node, before: self.state, is_forced });
                (self.state, self.taken) = (after, taken);
                self.take(node);
                self.at = self.list[HEAD].next;
            }
            _ => self.at = self.list[node].next,
        }
    }

    /// Whether a read that is left must come before any write that is left, but cannot.
    fn is_dead(&self, state: M::State) -> bool {
        let is_reaching = |all: &BTreeSet<u128>| all.contains(&self.model.digest(state));
        if self.reaching.as_ref().is_none_or(is_reaching) {
            return false;
        }
        let mut at = self.list[HEAD].next;
        while at != HEAD {
            let node = self.list[at];
            match self.ops[node.op].what {
                What::Read(_) if node.is_end => return true,
                What::Write(_) | What::Cas { .. } if at != self.at => return false,
                _ => at = node.next,
            }
        }
        false
    }

    /// Gives the last choice back, and everything after it; whether there was one.
    fn give_back(&mut self) -> bool {
        while let Some(Taken { node, before, is_forced }) = self.stack.pop() {
            self.put_back(node);
            self.taken ^= self.ops[self.list[node].op].number;
            self.state = before;
            if !is_forced {
                self.at = self.list[node].next;
                return true;
            }
        }
        false
    }

    fn take(&mut self, node: usize) {
        let op = self.list[node].op;
        self.ops[op].is_taken = true;
        let end = self.ops[op].end;
        self.unlink(node);
        if end != HEAD {
            self.unlink(end);
            self.left -= 1;
        }
    }

    fn put_back(&mut self, node: usize) {
        let op = self.list[node].op;
        self.ops[op].is_taken = false;
        let end = self.ops[op].end;
        if end != HEAD {
            self.relink(end);
            self.left += 1;
        }
        self.relink(node);
    }

    fn unlink(&mut self, node: usize) {
        let Node { previous, next, .. } = self.list[node];
        self.list[previous].next = next;
        self.list[next].previous = previous;
    }

    fn relink(&mut self, node: usize) {
        let Node { previous, next, .. } = self.list[node];
        self.list[previous].next = node;
        self.list[next].previous = node;
    }
}

/// The calls and ends in order; at one moment calls come first, because equal moments order nothing.
fn linked(events: &[Event], ops: &mut [Op]) -> Vec<Node> {
    let mut moments = Vec::with_capacity(2 * events.len());
    for (op, event) in events.iter().enumerate() {
        moments.push((event.called, false, op));
        if !event.is_unknown() {
            moments.push((event.ended, true, op));
        }
    }
    moments.sort_unstable();
    let last = moments.len();
    let mut list = vec![Node { op: 0, is_end: true, previous: last, next: usize::from(last > 0) }];
    for (at, (_, is_end, op)) in (1..).zip(moments) {
        if is_end {
            ops[op].end = at;
        }
        list.push(Node {
            op,
            is_end,
            previous: at - 1,
            next: if at == last { HEAD } else { at + 1 },
        });
    }
    list
}

/// What may matter, by call: without unknown operations that change nothing or that nobody can have seen.
fn relevant(events: &[Event]) -> Vec<Event> {
    let hides = |event: &Event| matches!(event.what, What::Append(_) | What::Refused(_));
    let is_needed = match events.iter().any(hides) {
        true => BTreeSet::new(),
        false => observed(events),
    };
    let keeps_all = events.iter().any(hides);
    let is_relevant = |event: &&Event| {
        let is_seen = || event.what.leaves().is_some_and(|value| is_needed.contains(&value));
        let may_matter = || !event.what.is_effectless() && (keeps_all || is_seen());
        !event.is_unknown() || may_matter()
    };
    let mut kept: Vec<Event> = events.iter().filter(is_relevant).copied().collect();
    kept.sort_by_key(|event| event.called);
    kept
}

/// The values that somebody saw, be it an unknown compare-and-set whose own value somebody saw.
fn observed(events: &[Event]) -> BTreeSet<Value> {
    let known = events.iter().filter(|event| !event.is_unknown());
    let mut open: Vec<Value> = known
        .filter_map(|event| match event.what {
            What::Read(value) | What::Cas { from: value, .. } => Some(value),
            _ => None,
        })
        .collect();
    let mut sources: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.is_unknown()) {
        if let What::Cas { from, to } = event.what {
            sources.entry(to).or_default().push(from);
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(value) = open.pop() {
        if seen.insert(value) {
            open.extend(sources.get(&value).into_iter().flatten());
        }
    }
    seen
}

/// Operations with the same kind do the same.
const fn kind(what: What) -> (u32, u32, u32) {
    match what {
        What::Read(value) => (0, value.0, 0),
        What::Write(value) => (1, value.0, 0),
        What::Cas { from, to } => (2, from.0, to.0),
        What::Refused(value) => (3, value.0, 0),
        What::Append(value) => (4, value.0, 0),
    }
}

/// A hasher of 128-bit numbers that are mixed already; it has no randomness of its own.
#[derive(Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

#[cfg(test)]
mod tests {
    use crate::check::history::{Moment, NEVER};
    use crate::check::model::Register;

    use super::*;

    const REGISTER: Register = Register { initial: Value(0) };

    fn event(called: Moment, ended: Moment, what: What) -> Event {
        Event { called, ended, key: 0, what }
    }

    fn found(events: &[Event]) -> Option<bool> {
        Search::new(&REGISTER, events).run(10_000)
    }

    #[test]
    fn nothing_is_linearizable() {
        assert_eq!(found(&[]), Some(true));
    }

    #[test]
    fn a_stale_read_is_found_and_a_concurrent_one_is_not() {
        let write = |called, ended, value| event(called, ended, What::Write(Value(value)));
        let read = event(5, 6, What::Read(Value(1)));
        assert_eq!(found(&[write(1, 2, 1), write(3, 4, 2), read]), Some(false));
        let concurrent = [write(1, 2, 1), write(3, 9, 2), read];
        assert_eq!(found(&concurrent), Some(true));
        let mut search = Search::new(&REGISTER, &concurrent);
        assert_eq!(search.run(1), None, "one step is not enough");
        assert_eq!(search.run(100), Some(true), "it goes on where it was");
    }

    #[test]
    fn what_never_ended_may_take_place_or_not() {
        let (one, two) = (Value(1), Value(2));
        let write = event(1, 2, What::Write(one));
        let unknown = event(3, NEVER, What::Cas { from: one, to: two });
        for seen in [one, two] {
            assert_eq!(found(&[write, unknown, event(5, 6, What::Read(seen))]), Some(true));
        }
        let back = [event(5, 6, What::Read(two)), event(7, 8, What::Read(one))];
        assert_eq!(found(&[write, unknown, back[0], back[1]]), Some(false));
    }

    #[test]
    fn an_unseen_unknown_write_explains_a_refusal() {
        let unknown = event(3, NEVER, What::Write(Value(2)));
        let refused = event(5, 6, What::Refused(Value(0)));
        assert_eq!(found(&[refused]), Some(false));
        assert_eq!(found(&[unknown, refused]), Some(true));
    }

    #[test]
    fn each_unknown_write_takes_place_once_at_most() {
        let unknown = |called| event(called, NEVER, What::Write(Value(1)));
        let read = |called, value| event(called, called + 1, What::Read(Value(value)));
        let write = event(20, 21, What::Write(Value(2)));
        let again = [unknown(1), read(10, 1), write, read(30, 2), read(40, 1)];
        assert_eq!(found(&again), Some(false));
        assert_eq!(found(&[again.as_slice(), &[unknown(2)]].concat()), Some(true));
    }
}
