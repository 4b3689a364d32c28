//! A hybrid logical clock: 48 bits of wall milliseconds, 16 bits of logical count.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014). Invariants: every reading is above all
//! readings before it; a remote time more than `DRIFT_MS_MAX` ahead of the wall is never adopted into the
//! clock, though the data that carries it is (drift limits adoption, never data:
//! <https://github.com/yugabyte/yugabyte-db/issues/10628>, and nobody crashes over a clock:
//! <https://github.com/yugabyte/yugabyte-db/issues/31160>); after a restart the clock starts above what it had reserved.
//! Left out: deciding whether this node's own clock is the wrong one, which takes the peers' clocks; the walls that come in here
//! are bounded by theirs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{DRIFT_MS_MAX, HLC_RESERVE_MS};
use crate::env::Wall;

/// A point in hybrid time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first point of a wall millisecond. A wall beyond 48 bits, which is the year 10889, is a broken one
    /// and counts as 0: the clock then goes on by counting.
    #[must_use]
    pub const fn at(wall: Wall) -> Hlc {
        Hlc(if wall.0 >> 48 == 0 { wall.0 << 16 } else { 0 })
    }

    /// The wall part, in milliseconds since 1970.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// So many milliseconds later, or the last point there is.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Hlc {
        Hlc(self.0.saturating_add(ms.saturating_mul(1 << 16)))
    }

    /// The next point.
    #[must_use]
    pub const fn next(self) -> Hlc {
        Hlc(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.0 & 0xffff)
    }
}

/// One node's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HybridClock {
    last: Hlc,
    /// No reading above this may be promised to anybody before more is reserved, durably.
    reserved_to: Hlc,
}

impl HybridClock {
    /// A clock that starts above the reservation found on disk (`Hlc(0)` in a new data directory).
    #[must_use]
    pub const fn new(reserved_to: Hlc) -> HybridClock {
        HybridClock { last: reserved_to, reserved_to }
    }

    /// A new reading: at the wall time or just above the last reading.
    pub fn tick(&mut self, wall: Wall) -> Hlc {
        self.last = self.last.next().max(Hlc::at(wall));
        self.last
    }

    /// A reading above `seen` and above the clock. `seen` is adopted only within the drift bound, so that
    /// one clock far ahead moves the keys it touched, not the clocks of the cluster.
    pub fn tick_above(&mut self, seen: Hlc, wall: Wall) -> Hlc {
        self.observe(seen, wall);
        self.tick(wall).max(seen.next())
    }

    /// Learns of a remote reading; ignores it when it is beyond the drift bound.
    pub fn observe(&mut self, remote: Hlc, wall: Wall) {
        if remote.wall_ms() <= Hlc::at(wall).wall_ms() + DRIFT_MS_MAX {
            self.last = self.last.max(remote);
        }
    }

    /// The last reading or adopted time.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// Up to where readings are reserved durably.
    #[must_use]
    pub const fn reserved_to(&self) -> Hlc {
        self.reserved_to
    }

    /// The reservation to make durable together with a write stamped `now`, when the one on disk is too low.
    #[must_use]
    pub const fn reservation(&self, now: Hlc) -> Option<Hlc> {
        if now.0 <= self.reserved_to.0 {
            return None;
        }
        Some(Hlc(now.0.saturating_add(HLC_RESERVE_MS << 16)))
    }

    /// A reservation has reached the disk.
    pub fn reserved(&mut self, reservation: Hlc) {
        self.reserved_to = self.reserved_to.max(reservation);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{Hlc, HybridClock};
    use crate::config::{DRIFT_MS_MAX, HLC_RESERVE_MS};
    use crate::env::Wall;

    const NOON: Wall = Wall(1_800_000_000_000);

    fn after(ms: u64) -> Wall {
        Wall(NOON.0 + ms)
    }

    #[test]
    fn a_reading_is_the_wall_time_when_that_has_moved() {
        let mut clock = HybridClock::new(Hlc(0));
        assert_eq!(clock.tick(NOON), Hlc::at(NOON));
        assert_eq!(clock.tick(after(3)), Hlc::at(after(3)));
        assert_eq!(Hlc::at(NOON).wall_ms(), NOON.0);
        assert_eq!(Hlc::at(NOON).next().to_string(), "1800000000000.1");
    }

    #[test]
    fn a_wall_that_jumps_back_or_stands_still_is_counted_on() {
        let mut clock = HybridClock::new(Hlc(0));
        let noon = clock.tick(NOON);
        assert_eq!(clock.tick(NOON), noon.next());
        assert_eq!(clock.tick(Wall(0)), noon.next().next());
        assert_eq!(clock.tick(after(1)), Hlc::at(after(1)));
    }

    #[test]
    fn more_readings_in_a_millisecond_than_the_count_holds_run_into_the_next() {
        let mut clock = HybridClock::new(Hlc(0));
        let last = (0..=0x1_0000).map(|_| clock.tick(NOON)).last();
        assert_eq!(last, Some(Hlc::at(after(1))));
    }

    #[test]
    fn a_remote_time_is_adopted_up_to_the_drift_bound_and_not_beyond() {
        let mut clock = HybridClock::new(Hlc(0));
        clock.tick(NOON);
        clock.observe(Hlc::at(after(DRIFT_MS_MAX + 1)), NOON);
        assert_eq!(clock.last(), Hlc::at(NOON));
        clock.observe(Hlc::at(after(DRIFT_MS_MAX)), NOON);
        assert_eq!(clock.last(), Hlc::at(after(DRIFT_MS_MAX)));
    }

    #[test]
    fn a_key_far_ahead_gets_a_higher_dot_and_the_clock_stays() {
        let mut clock = HybridClock::new(Hlc(0));
        let ahead = Hlc::at(after(1_000_000));
        assert_eq!(clock.tick_above(ahead, NOON), ahead.next());
        assert_eq!(clock.last(), Hlc::at(NOON));
    }

    #[test]
    fn a_restarted_clock_starts_above_everything_it_had_reserved() {
        let mut clock = HybridClock::new(Hlc(0));
        let first = clock.tick(NOON);
        let reservation = clock.reservation(first).expect("nothing is reserved yet");
        assert_eq!(reservation.wall_ms(), NOON.0 + HLC_RESERVE_MS);
        clock.reserved(reservation);
        let promised = clock.tick(after(HLC_RESERVE_MS));
        assert_eq!(clock.reservation(promised), None);
        let mut again = HybridClock::new(clock.reserved_to());
        assert!(again.tick(Wall(0)) > promised, "even when the wall has jumped back");
    }

    #[test]
    fn a_reservation_never_sinks() {
        let mut clock = HybridClock::new(Hlc(9));
        clock.reserved(Hlc(5));
        assert_eq!(clock.reserved_to(), Hlc(9));
    }

    #[test]
    fn a_wall_beyond_48_bits_is_not_believed() {
        let mut clock = HybridClock::new(Hlc(0));
        let noon = clock.tick(NOON);
        assert_eq!(clock.tick(Wall(1 << 48)), noon.next());
        clock.observe(Hlc(u64::MAX), Wall(u64::MAX));
        assert_eq!(clock.tick(Wall(u64::MAX)), noon.next().next());
        let latest = Wall((1 << 48) - 1);
        assert_eq!(clock.tick(latest).wall_ms(), latest.0);
    }

    proptest! {
        /// Whatever the wall does and peers say: readings rise, a dot is above what was seen for its key, and the
        /// clock is never further ahead than its own past, the wall's highest reading and the drift allow.
        #[test]
        fn readings_rise_and_drift_is_bounded(
            steps in prop::collection::vec(
                (
                    prop_oneof![0u64..5_000, any::<u64>()],
                    prop_oneof![0u64..5_000, any::<u64>()],
                    any::<bool>(),
                ),
                1..60,
            ),
        ) {
            let mut clock = HybridClock::new(Hlc::at(NOON));
            let (mut highest, mut bound) = (clock.last(), NOON.0);
            for (wall, seen, counts) in steps {
                let (wall, seen) = (Wall(NOON.0.wrapping_add(wall)), Hlc(seen.wrapping_mul(1 << 16)));
                if counts {
                    let dot = clock.tick_above(seen, wall);
                    prop_assert!(dot > seen);
                    prop_assert!(dot >= clock.last());
                } else {
                    clock.observe(seen, wall);
                    prop_assert_eq!(clock.last().max(highest), clock.last());
                    clock.tick(wall);
                }
                prop_assert!(clock.last() > highest);
                highest = clock.last();
                bound = bound.max(Hlc::at(wall).wall_ms());
                prop_assert!(highest.wall_ms() <= bound + DRIFT_MS_MAX);
            }
        }
    }
}
