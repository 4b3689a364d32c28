//! A node's clocks: each drifts, and the wall clock is off and jumps.
//!
//! local = boot + global * (1 + ppm / 1,000,000), both for monotonic and for wall time; a jump moves the wall
//! clock alone, because a monotonic clock never jumps. Timers sleep until the first global moment at which the
//! local clock has reached them. Left out: a drift that changes, a clock that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rondo_core::env::{Clock, Mono, Wall};

use crate::rt::{self, Time};
use crate::scenario::Skew;

/// What all wall clocks show when the world begins, but for their skew: in milliseconds since 1970.
const WALL_BASE_MS: i64 = 1_750_000_000_000;

/// The wrong clock of one node; clones are the same clock.
#[derive(Clone, Debug)]
pub struct SkewedClock {
    drift_ppm: i64,
    /// The monotonic clock when the world begins, in nanoseconds: it means nothing.
    boot_ns: u64,
    offset_ms: Arc<AtomicI64>,
}

impl SkewedClock {
    /// A clock with this skew whose monotonic time starts at `boot_ns`.
    #[must_use]
    pub fn new(skew: &Skew, boot_ns: u64) -> SkewedClock {
        let offset_ms = Arc::new(AtomicI64::new(skew.offset_ms));
        SkewedClock { drift_ppm: i64::from(skew.drift_ppm), boot_ns, offset_ms }
    }

    /// The same clock after a reboot: monotonic time starts elsewhere.
    #[must_use]
    pub fn rebooted(&self, boot_ns: u64) -> SkewedClock {
        SkewedClock { boot_ns, ..self.clone() }
    }

    /// The wall clock jumps.
    pub fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Monotonic time at a global moment.
    #[must_use]
    pub fn mono_at(&self, global: Time) -> Mono {
        Mono(self.boot_ns + self.local(global))
    }

    /// Wall time at a global moment.
    #[must_use]
    pub fn wall_at(&self, global: Time) -> Wall {
        let elapsed = (self.local(global) / 1_000_000) as i64;
        let wall = WALL_BASE_MS + self.offset_ms.load(Ordering::Relaxed) + elapsed;
        Wall(u64::try_from(wall).unwrap_or(0))
    }

    /// The first global moment at which the monotonic clock shows `mono` or more.
    #[must_use]
    pub fn global_of(&self, mono: Mono) -> Time {
        let local = u128::from(mono.0.saturating_sub(self.boot_ns));
        let global = (local * 1_000_000).div_ceil(self.rate());
        Time(u64::try_from(global).unwrap_or(u64::MAX / 4).min(u64::MAX / 4))
    }

    fn local(&self, global: Time) -> u64 {
        (u128::from(global.0) * self.rate() / 1_000_000) as u64
    }

    fn rate(&self) -> u128 {
        (1_000_000 + self.drift_ppm) as u128
    }
}

impl Clock for SkewedClock {
    fn mono(&self) -> Mono {
        self.mono_at(rt::now())
    }

    fn wall(&self) -> Wall {
        self.wall_at(rt::now())
    }

    fn sleep_until(&self, time: Mono) -> impl Future<Output = ()> + Send {
        rt::sleep_until(self.global_of(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_ends_at_the_first_moment_that_is_not_too_early() {
        for drift_ppm in [-50_000, -137, 0, 200, 50_000] {
            let clock = SkewedClock::new(&Skew { offset_ms: 0, drift_ppm }, 1_234);
            for ns in [0, 1, 999, 1_000_003, 77_777_777_777] {
                let timer = Mono(1_234 + ns);
                let end = clock.global_of(timer);
                assert!(clock.mono_at(end) >= timer, "{drift_ppm} ppm, {ns} ns: too early");
                let before = Time(end.0.saturating_sub(1));
                assert!(end.0 == 0 || clock.mono_at(before) < timer, "{drift_ppm} ppm: too late");
            }
        }
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let clock = SkewedClock::new(&Skew { offset_ms: -300, drift_ppm: 100 }, 0);
        let at = Time::at_ms(10_000);
        let (mono, wall) = (clock.mono_at(at), clock.wall_at(at));
        assert_eq!(wall.0 as i64, WALL_BASE_MS - 300 + 10_001, "10 s and 1 ms of drift");
        clock.jump(-5_000);
        assert_eq!((clock.mono_at(at), clock.wall_at(at)), (mono, Wall(wall.0 - 5_000)));
    }
}
