//! How many bytes a node may hold at once, and which source may hold how many of them.
//!
//! A bound on the number of things is no bound on memory: 64 Ki messages are a megabyte or a terabyte. So whatever
//! keeps bytes on behalf of somebody else charges them to the budget of its source *before* it takes them, and where
//! there is no room it waits, refuses or drops (<https://github.com/valyala/fasthttp/issues/1057>). All budgets together are
//! below the ceiling of the node; what is left of it is for what costs the same at any load: buffers of connections, tables
//! of members and timers. The engine's index and caches are apart.
//!
//! Machines count with plain numbers against `Shares`. `Budget` is for the rim, where several tasks share one: it
//! has a lock, and wakes who waits for room. A charge is given back when it is dropped.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use serde::Serialize;

use crate::config::{BODY_BYTES_MAX, MEMORY_BYTES_MIN, MESSAGE_BYTES_MAX};

/// What each source may hold, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Bodies that come in and answers that go out, over all connections of clients.
    pub clients: usize,
    /// Messages of peers, from the first byte of a long one until the node has taken it.
    pub arriving: usize,
    /// Messages to peers that are not written yet.
    pub leaving: usize,
    /// Answers that wait for the disk.
    pub held: usize,
    /// Questions that wait for a cold read.
    pub parked: usize,
    /// What the requests in flight are working with: their values, and states that replicas told.
    pub in_flight: usize,
    /// Which writes are owed to whom, while nobody knows yet who lacks them.
    pub owed: usize,
}

impl Shares {
    /// The shares of a node that may hold `memory_bytes_max` in all; counted as `MEMORY_BYTES_MIN` when it is less.
    #[must_use]
    pub const fn of(memory_bytes_max: usize) -> Shares {
        let whole =
            if memory_bytes_max < MEMORY_BYTES_MIN { MEMORY_BYTES_MIN } else { memory_bytes_max };
        Shares {
            clients: whole / 4,
            arriving: whole / 8,
            leaving: whole / 8,
            held: whole / 8,
            parked: whole / 16,
            in_flight: whole / 8,
            owed: whole / 64,
        }
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> usize {
        let passing = self.clients + self.arriving + self.leaving;
        passing + self.held + self.parked + self.in_flight + self.owed
    }
}

const LEAST: Shares = Shares::of(MEMORY_BYTES_MIN);
const _: () = assert!(LEAST.sum() <= MEMORY_BYTES_MIN / 64 * 53, "the rest is for fixed costs");
const _: () = assert!(LEAST.arriving > MESSAGE_BYTES_MAX && LEAST.leaving > MESSAGE_BYTES_MAX);
const _: () = assert!(LEAST.held >= BODY_BYTES_MAX && LEAST.in_flight >= BODY_BYTES_MAX);

/// The budgets of the rim of one node. Clones are the same budgets.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The ceiling of the node, in bytes.
    pub max: usize,
    /// As in `Shares`.
    pub clients: Budget,
    /// As in `Shares`.
    pub arriving: Budget,
    /// As in `Shares`.
    pub leaving: Budget,
}

impl Memory {
    /// Nothing is charged yet.
    #[must_use]
    pub fn new(memory_bytes_max: usize) -> Memory {
        let shares = Shares::of(memory_bytes_max);
        Memory {
            max: memory_bytes_max.max(MEMORY_BYTES_MIN),
            clients: Budget::new(shares.clients),
            arriving: Budget::new(shares.arriving),
            leaving: Budget::new(shares.leaving),
        }
    }
}

/// How full a budget is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Gauge {
    /// Charged now.
    pub used: usize,
    /// The most that was ever charged at once.
    pub peak: usize,
    /// The bound.
    pub max: usize,
}

/// A bound on bytes that several tasks share. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    peak: usize,
    waiting: Vec<Waker>,
}

impl Budget {
    /// An empty budget of so many bytes.
    #[must_use]
    pub fn new(max: usize) -> Budget {
        Budget { max, state: Arc::default() }
    }

    /// Charges `bytes`, when there is room for them.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Charge> {
        let mut charge = self.nothing();
        charge.grow(bytes).then_some(charge)
    }

    /// Charges `bytes` whether there is room or not: for the little that can neither wait nor be refused.
    pub fn force(&self, bytes: usize) -> Charge {
        self.state().add(bytes);
        Charge { budget: self.clone(), bytes }
    }

    /// A charge of nothing, to grow.
    pub fn nothing(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0 }
    }

    /// Ready when there is room for `bytes` more, or when nobody else holds anything: so that what is larger than the
    /// whole budget waits no longer than it must. Takes nothing.
    pub fn poll_room(&self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.used == 0 || state.used.saturating_add(bytes) <= self.max {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// How full it is.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let state = self.state();
        Gauge { used: state.used, peak: state.peak, max: self.max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}

impl State {
    fn add(&mut self, bytes: usize) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
    }
}

/// Bytes charged to a budget, given back when dropped.
#[derive(Debug)]
#[must_use = "dropped, it is given back"]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// What is charged, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges so many bytes more, when there is room for them; otherwise `false`, and nothing changes.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let mut state = self.budget.state();
        if state.used.saturating_add(bytes) > self.budget.max {
            return false;
        }
        state.add(bytes);
        self.bytes += bytes;
        true
    }

    /// Gives back so much that `bytes` are left; nothing when less is charged.
    pub fn shrink_to(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        if back == 0 {
            return;
        }
        self.bytes -= back;
        let mut state = self.budget.state();
        state.used -= back;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_budget_is_never_exceeded_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.take(60).expect("there is room");
        assert!(budget.take(41).is_none());
        assert!(first.grow(40) && !first.grow(1));
        assert_eq!(budget.gauge(), Gauge { used: 100, peak: 100, max: 100 });
        first.shrink_to(30);
        let second = budget.take(70).expect("room came back");
        drop((first, second));
        assert_eq!(budget.gauge(), Gauge { used: 0, peak: 100, max: 100 });
        assert!(budget.take(usize::MAX).is_none());
    }

    #[test]
    fn what_is_forced_counts_although_there_was_no_room() {
        let budget = Budget::new(10);
        let forced = budget.force(25);
        assert!(budget.take(0).is_none());
        drop(forced);
        assert!(budget.take(10).is_some());
    }

    #[test]
    fn who_waits_is_woken_once_when_room_comes_back() {
        let budget = Budget::new(10);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        assert!(budget.poll_room(1000, &mut context).is_ready(), "nobody else holds anything");
        let charge = budget.take(8).expect("there is room");
        assert!(budget.poll_room(2, &mut context).is_ready());
        assert!(budget.poll_room(3, &mut context).is_pending());
        assert!(budget.poll_room(3, &mut context).is_pending());
        drop(charge);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(budget.poll_room(3, &mut context).is_ready());
    }

    #[test]
    fn shares_leave_room_for_fixed_costs() {
        for max in [0, MEMORY_BYTES_MIN, 512 << 20, 7 << 30] {
            let whole = max.max(MEMORY_BYTES_MIN);
            assert!(Shares::of(max).sum() <= whole / 64 * 53 + 7);
        }
    }
}
