//! A hybrid logical clock: 48 bits of wall milliseconds, 16 bits of logical count.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014). Invariants: every reading is above all
//! readings before it; a remote time more than `DRIFT_MS_MAX` ahead of the wall is never adopted into the
//! clock, though the data that carries it is (drift limits adoption, never data:
//! <https://github.com/yugabyte/yugabyte-db/issues/10628>, and nobody crashes over a clock:
//! <https://github.com/yugabyte/yugabyte-db/issues/31160>); after a restart the clock starts above its durable mark.
//! Left out: deciding whether this node's own clock is the wrong one, which takes the peers' clocks.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{DRIFT_MS_MAX, HLC_RESERVE_MS};
use crate::env::Wall;

/// A point in hybrid time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first point of a wall millisecond.
    #[must_use]
    pub const fn at(wall: Wall) -> Hlc {
        Hlc(if wall.0 >> 48 == 0 { wall.0 << 16 } else { u64::MAX << 16 })
    }

    /// The wall part, in milliseconds since 1970.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        self.0 >> 16
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
    /// No reading above this may be promised to anybody before a higher mark is durable.
    durable_mark: Hlc,
}

impl HybridClock {
    /// A clock that starts above the mark found on disk (`Hlc(0)` in a new data directory).
    #[must_use]
    pub const fn new(durable_mark: Hlc) -> HybridClock {
        HybridClock { last: durable_mark, durable_mark }
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
        if remote.wall_ms() <= wall.0.saturating_add(DRIFT_MS_MAX) {
            self.last = self.last.max(remote);
        }
    }

    /// The last reading or adopted time.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// The mark that is known to be durable.
    #[must_use]
    pub const fn durable_mark(&self) -> Hlc {
        self.durable_mark
    }

    /// The mark to make durable together with a write stamped `now`, when the one on disk is too low.
    #[must_use]
    pub const fn reservation(&self, now: Hlc) -> Option<Hlc> {
        if now.0 <= self.durable_mark.0 {
            return None;
        }
        Some(Hlc(now.0.saturating_add(HLC_RESERVE_MS << 16)))
    }

    /// A reservation has reached the disk.
    pub fn reserved(&mut self, mark: Hlc) {
        self.durable_mark = self.durable_mark.max(mark);
    }
}
