//! The bytes that all clients together may make the node hold: bodies as they arrive, values that are read, answers.
//!
//! Every request has a claim, which grows with what is held for it and ends when all of it is gone: its answer was read,
//! or the node has dropped what an abandoned request had sent. Who asks for more than there is waits, the smallest request
//! first, so that a few large ones keep nobody else out; meanwhile silent clients are made to leave. When nothing becomes
//! free, the largest that waits gives up what it holds, and so none can wait for each other for ever. Bounding
//! connections instead does not help: see <https://github.com/valyala/fasthttp/issues/1057>.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use rondo_core::budget::{Budget, Charge};

use crate::http::limits::{MEMORY_PATIENCE, MEMORY_PATIENCE_MAX, SMALL_ANSWER_BYTES_MAX};
use crate::http::seats::{Seat, Seats};

/// How slowly the size that answers are expected to have forgets a large one: by this part with each answer.
const FORGETS: usize = 64;
/// The least that an answer is expected to have, in bytes.
const ANSWER_BYTES_MIN: usize = 4 << 10;

/// What there is.
#[derive(Debug)]
pub struct Claims {
    budget: Budget,
    seats: Arc<Seats>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    expected: usize,
    tickets: u64,
    releases: u64,
    waiting: BTreeMap<Place, Waker>,
}

/// Where a claim waits: how large it wants to be, and when its request began.
type Place = (usize, u64);

/// What one request holds. Given back when it is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    seat: Arc<Seat>,
    ticket: u64,
    charge: Mutex<Charge>,
}

impl Claims {
    /// Nobody in `seats` holds anything of `budget` yet.
    #[must_use]
    pub fn new(budget: Budget, seats: Arc<Seats>) -> Arc<Claims> {
        let state =
            State { expected: ANSWER_BYTES_MIN, tickets: 0, releases: 0, waiting: BTreeMap::new() };
        Arc::new(Claims { budget, seats, state: Mutex::new(state) })
    }

    /// The claim of a new request.
    #[must_use]
    pub fn open(self: &Arc<Claims>, seat: &Arc<Seat>) -> Claim {
        let mut state = self.state.lock().expect("no panic while locked");
        state.tickets += 1;
        Claim {
            claims: Arc::clone(self),
            seat: Arc::clone(seat),
            ticket: state.tickets,
            charge: Mutex::new(self.budget.nothing()),
        }
    }

    fn is_largest(&self, place: &Place) -> bool {
        let state = self.state.lock().expect("no panic while locked");
        state.waiting.keys().next_back() == Some(place)
    }

    fn has_given_back(&self) {
        let mut state = self.state.lock().expect("no panic while locked");
        state.releases += 1;
        state.wake_smallest();
    }
}

impl State {
    fn wake_smallest(&self) {
        if let Some(waker) = self.waiting.values().next() {
            waker.wake_by_ref();
        }
    }
}

impl Claim {
    /// Claims `bytes` more, as soon as there is room. `false`: there is none.
    pub async fn grow(&self, bytes: usize) -> bool {
        if self.try_grow(bytes) {
            return true;
        }
        let mut waiting = Waiting { claim: self, bytes, place: self.place(bytes) };
        for _ in 0..MEMORY_PATIENCE_MAX {
            self.claims.seats.make_memory();
            let before = self.releases();
            tokio::select! {
                () = poll_fn(|context| waiting.poll(context)) => return true,
                () = tokio::time::sleep(MEMORY_PATIENCE) => {
                    if self.releases() == before && self.claims.is_largest(&waiting.place) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// Claims what the next answer is expected to have.
    pub async fn expect_answer(&self) -> bool {
        let expected = self.claims.state.lock().expect("no panic while locked").expected;
        self.grow(expected).await
    }

    /// The value that was read has so many bytes. `false`: there is no room for them, and they must not be kept.
    #[must_use]
    pub fn is_answered(&self, bytes: usize) -> bool {
        let mut state = self.claims.state.lock().expect("no panic while locked");
        let forgotten = state.expected - state.expected / FORGETS;
        state.expected = forgotten.max(bytes).max(ANSWER_BYTES_MIN);
        drop(state);
        self.is_now(bytes)
    }

    /// Holds `bytes` now, instead of what it held. `false`: they are more, and there is no room.
    #[must_use]
    pub fn is_now(&self, bytes: usize) -> bool {
        let before = self.charge().bytes();
        if bytes <= before {
            self.shrink_to(bytes);
            return true;
        }
        let grown = self.take(bytes - before);
        if !grown {
            self.claims.seats.make_memory();
        }
        // How the node is can be told at all times.
        grown || bytes <= SMALL_ANSWER_BYTES_MAX
    }

    fn try_grow(&self, bytes: usize) -> bool {
        let state = self.claims.state.lock().expect("no panic while locked");
        // Nobody overtakes a smaller request that waits.
        let place = self.place(bytes);
        let first = state.waiting.keys().next().is_none_or(|smallest| place <= *smallest);
        drop(state);
        first && self.take(bytes)
    }

    fn take(&self, bytes: usize) -> bool {
        let grown = self.charge().grow(bytes);
        if grown {
            self.seat.holds(bytes);
        }
        grown
    }

    fn shrink_to(&self, bytes: usize) {
        let before = self.charge().bytes();
        if bytes < before {
            self.charge().shrink_to(bytes);
            self.seat.holds_less(before - bytes);
            self.claims.has_given_back();
        }
    }

    fn charge(&self) -> MutexGuard<'_, Charge> {
        self.charge.lock().expect("no panic while locked")
    }

    fn releases(&self) -> u64 {
        self.claims.state.lock().expect("no panic while locked").releases
    }

    fn place(&self, bytes: usize) -> Place {
        (self.charge().bytes() + bytes, self.ticket)
    }
}

/// A place in the line, left when it is dropped.
struct Waiting<'a> {
    claim: &'a Claim,
    bytes: usize,
    place: Place,
}

impl Waiting<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.claim.try_grow(self.bytes) {
            return Poll::Ready(());
        }
        let mut state = self.claim.claims.state.lock().expect("no panic while locked");
        state.waiting.insert(self.place, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.claim.claims.state.lock().expect("no panic while locked");
        if state.waiting.remove(&self.place).is_some() {
            state.wake_smallest();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(most: usize) -> (Arc<Claims>, Budget, Arc<Seat>) {
        let seats = Seats::new();
        let seat = Arc::clone(&seats.take().seat);
        let budget = Budget::new(most);
        (Claims::new(budget.clone(), seats), budget, seat)
    }

    #[tokio::test]
    async fn the_smallest_is_served_first_and_the_largest_gives_up() {
        let (claims, budget, seat) = claims(100);
        let [large, small, other] = [(); 3].map(|()| claims.open(&seat));
        assert!(large.grow(60).await && other.grow(40).await);
        let (grown, served) = tokio::join!(
            async {
                let grown = large.grow(10).await;
                drop(large);
                grown
            },
            small.grow(30)
        );
        assert_eq!((grown, served), (false, true), "nothing else becomes free");
        assert_eq!(budget.gauge().used, 70);
        let (first, second) = (claims.open(&seat), claims.open(&seat));
        let (second_grown, (), first_grown) =
            tokio::join!(second.grow(50), async { drop(other) }, first.grow(20));
        assert!(second_grown && first_grown, "room came back for both");
        drop((small, first, second));
        assert_eq!(budget.gauge().used, 0);
    }

    #[tokio::test]
    async fn an_answer_is_held_only_when_there_is_room() {
        let (claims, _, seat) = claims(300 << 10);
        let [first, second] = [(); 2].map(|()| claims.open(&seat));
        assert!(first.expect_answer().await && second.expect_answer().await);
        assert!(first.is_answered(290 << 10));
        assert!(!second.is_answered(70 << 10));
        assert!(second.is_now(10 << 10), "what is small is always held");
        assert!(!second.expect_answer().await, "answers were large");
        assert!(first.is_now(0) && second.expect_answer().await);
    }
}
