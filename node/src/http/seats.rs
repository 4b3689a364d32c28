//! Who is connected, and who of them keeps others waiting.
//!
//! Each connection has a seat. While the node waits for the client (for a request, the rest of one, or for its reading
//! the answer) the seat says from when on the client counts as silent; while the client waits for the node it never
//! does. A client that sends or reads at a fair pace is never silent, one that does so a byte at a time is. When
//! connections or memory run out, whoever has been silent longest is made to leave; see
//! <https://github.com/redis/redis/issues/246> and <https://github.com/hashicorp/consul/issues/7527> for what happens
//! where nobody is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use crate::http::limits::{PACE_BYTES_PER_MS, SILENCE_MS};

/// Nobody is silent so late.
const NEVER: u64 = u64::MAX;

/// All connections.
#[derive(Debug)]
pub struct Seats {
    start: Instant,
    numbers: AtomicU64,
    taken: Mutex<BTreeMap<u64, Arc<Seat>>>,
}

/// One connection.
#[derive(Debug)]
pub struct Seat {
    start: Instant,
    silent_from: AtomicU64,
    holds: AtomicUsize,
    leave: AtomicBool,
    told: Notify,
}

/// Keeps a seat until it is dropped.
#[derive(Debug)]
pub struct Taken {
    seats: Arc<Seats>,
    number: u64,
    /// The seat.
    pub seat: Arc<Seat>,
}

impl Seats {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Arc<Seats> {
        let taken = Mutex::new(BTreeMap::new());
        Arc::new(Seats { start: Instant::now(), numbers: AtomicU64::new(0), taken })
    }

    /// A seat for a new connection, whose client has a moment to say something.
    #[must_use]
    pub fn take(self: &Arc<Seats>) -> Taken {
        let seat = Arc::new(Seat {
            start: self.start,
            silent_from: AtomicU64::new(ms_since(self.start) + SILENCE_MS),
            holds: AtomicUsize::new(0),
            leave: AtomicBool::new(false),
            told: Notify::new(),
        });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.taken.lock().expect("no panic while locked").insert(number, Arc::clone(&seat));
        Taken { seats: Arc::clone(self), number, seat }
    }

    /// Makes the client that has been silent longest leave. `false`: nobody is silent.
    pub fn make_room(&self) -> bool {
        self.dismiss(|_| true)
    }

    /// The same among those that hold memory.
    pub fn make_memory(&self) -> bool {
        self.dismiss(|seat| seat.holds.load(Ordering::Relaxed) > 0)
    }

    fn dismiss(&self, among: impl Fn(&Seat) -> bool) -> bool {
        let taken = self.taken.lock().expect("no panic while locked");
        let now = ms_since(self.start);
        let silent = taken.values().filter(|seat| {
            !seat.leave.load(Ordering::Relaxed) && seat.silent_from() <= now && among(seat)
        });
        let Some(longest) = silent.min_by_key(|seat| seat.silent_from()) else {
            return false;
        };
        longest.leave.store(true, Ordering::Relaxed);
        longest.told.notify_one();
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.taken.lock().expect("no panic while locked").remove(&self.number);
    }
}

impl Seat {
    /// The client may say something or leave it: from now on it counts as silent.
    pub fn idles(&self) {
        self.silent_from.store(ms_since(self.start), Ordering::Relaxed);
    }

    /// The client is to send or read something.
    pub fn expects(&self) {
        self.silent_from.store(ms_since(self.start) + SILENCE_MS, Ordering::Relaxed);
    }

    /// It has sent or read so much.
    pub fn moved(&self, bytes: usize) {
        let earned = self.silent_from().saturating_add(bytes as u64 / PACE_BYTES_PER_MS);
        let most = ms_since(self.start) + 2 * SILENCE_MS;
        self.silent_from.store(earned.min(most), Ordering::Relaxed);
    }

    /// The client waits for the node.
    pub fn waits(&self) {
        self.silent_from.store(NEVER, Ordering::Relaxed);
    }

    /// Ends when the client is to leave.
    pub async fn told_to_leave(&self) {
        self.told.notified().await;
    }

    pub(crate) fn holds(&self, more: usize) {
        self.holds.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn holds_less(&self, less: usize) {
        self.holds.fetch_sub(less, Ordering::Relaxed);
    }

    fn silent_from(&self) -> u64 {
        self.silent_from.load(Ordering::Relaxed)
    }
}

fn ms_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_leaves_and_the_waiting_never_does() {
        let seats = Seats::new();
        let [working, first, second] = [seats.take(), seats.take(), seats.take()];
        assert!(!seats.make_room(), "all have a moment to say something");
        working.seat.waits();
        first.seat.silent_from.store(0, Ordering::Relaxed);
        second.seat.idles();
        assert!(!seats.make_memory(), "nobody holds any");
        second.seat.holds(1);
        assert!(seats.make_memory());
        assert!(second.seat.leave.load(Ordering::Relaxed), "it was not silent longest, but holds");
        assert!(seats.make_room());
        assert!(first.seat.leave.load(Ordering::Relaxed));
        assert!(!seats.make_room(), "both were told once, the third waits for the node");
    }

    #[test]
    fn a_fair_pace_earns_patience_and_a_byte_at_a_time_does_not() {
        let seats = Seats::new();
        let [fast, slow] = [seats.take(), seats.take()];
        let before = slow.seat.silent_from();
        for _ in 0..50 {
            slow.seat.moved(1);
        }
        assert_eq!(slow.seat.silent_from(), before);
        fast.seat.moved(64 * 500);
        assert!(fast.seat.silent_from() >= before + 500);
        fast.seat.moved(1 << 30);
        assert!(fast.seat.silent_from() <= ms_since(seats.start) + 2 * SILENCE_MS);
    }
}
