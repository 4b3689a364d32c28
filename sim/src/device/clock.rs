//! A node's clocks: each drifts, and the wall clock is off, jumps and stands still.
//!
//! Since the drift last changed, local = base + global * (1 + ppm / 1,000,000), both for monotonic and for wall time. A
//! jump or a freeze touches the wall clock alone, because a monotonic clock never jumps and timers hang on it. Timers
//! sleep until the first global moment at which the local clock has reached them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rondo_core::env::{Clock, Mono, Wall};

use crate::rt::{self, Time};
use crate::scenario::Skew;

/// What all wall clocks show when the world begins, but for their skew: in milliseconds since 1970.
const WALL_BASE_MS: i64 = 1_750_000_000_000;

/// The wrong clock of one node; clones are the same clock.
#[derive(Clone, Debug)]
pub struct SkewedClock {
    /// The monotonic clock when the world begins, in nanoseconds: it means nothing.
    boot_ns: u64,
    /// The drift when nothing is wrong.
    usual_ppm: i64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    drift_ppm: i64,
    /// When the drift last changed, and what the clock had counted by then, in nanoseconds.
    since: Time,
    counted: u64,
    offset_ms: i64,
    /// What a wall clock that stands still shows.
    frozen: Option<Wall>,
    /// The highest wall time that the node was ever shown.
    highest_shown: Wall,
}

impl SkewedClock {
    /// A clock with this skew whose monotonic time starts at `boot_ns`.
    #[must_use]
    pub fn new(skew: &Skew, boot_ns: u64) -> SkewedClock {
        let usual_ppm = i64::from(skew.drift_ppm);
        let state = State {
            drift_ppm: usual_ppm,
            since: Time::default(),
            counted: 0,
            offset_ms: skew.offset_ms,
            frozen: None,
            highest_shown: Wall(0),
        };
        SkewedClock { boot_ns, usual_ppm, state: Arc::new(Mutex::new(state)) }
    }

    /// The same clock after a reboot: monotonic time starts elsewhere.
    #[must_use]
    pub fn rebooted(&self, boot_ns: u64) -> SkewedClock {
        SkewedClock { boot_ns, ..self.clone() }
    }

    /// The wall clock jumps.
    pub fn jump(&self, by_ms: i64) {
        let mut state = self.state();
        state.offset_ms += by_ms;
        if let Some(wall) = &mut state.frozen {
            wall.0 = wall.0.saturating_add_signed(by_ms);
        }
    }

    /// From now on the clocks run at another rate; at the usual one for `None`.
    pub fn drift(&self, now: Time, ppm: Option<i32>) {
        let mut state = self.state();
        state.counted = state.local(now);
        state.since = now;
        state.drift_ppm = ppm.map_or(self.usual_ppm, i64::from);
    }

    /// The wall clock stands still from now on.
    pub fn freeze(&self, now: Time) {
        let mut state = self.state();
        state.frozen = Some(state.wall_at(now));
    }

    /// A wall clock that stood still goes on from where it stood.
    pub fn thaw(&self, now: Time) {
        let mut state = self.state();
        if let Some(stood) = state.frozen.take() {
            let runs = state.wall_at(now);
            state.offset_ms -= runs.0 as i64 - stood.0 as i64;
        }
    }

    /// Monotonic time at a global moment.
    #[must_use]
    pub fn mono_at(&self, global: Time) -> Mono {
        Mono(self.boot_ns + self.state().local(global))
    }

    /// Wall time at a global moment.
    #[must_use]
    pub fn wall_at(&self, global: Time) -> Wall {
        self.state().wall_at(global)
    }

    /// The highest wall time that the node was ever shown.
    #[must_use]
    pub fn highest_shown(&self) -> Wall {
        self.state().highest_shown
    }

    /// How far the wall clock is ahead at a global moment, in milliseconds; negative when it is behind.
    #[must_use]
    pub fn ahead_ms(&self, global: Time) -> i64 {
        self.wall_at(global).0.cast_signed() - WALL_BASE_MS - global.ms().cast_signed()
    }

    /// The first global moment at which the monotonic clock shows `mono` or more.
    #[must_use]
    pub fn global_of(&self, mono: Mono) -> Time {
        let state = self.state();
        let local = mono.0.saturating_sub(self.boot_ns).saturating_sub(state.counted);
        let global = (u128::from(local) * 1_000_000).div_ceil(state.rate());
        let global = u64::try_from(global).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        Time(state.since.0 + global)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the clock has counted at a global moment, in nanoseconds.
    fn local(&self, global: Time) -> u64 {
        let elapsed = global.0.saturating_sub(self.since.0);
        self.counted + (u128::from(elapsed) * self.rate() / 1_000_000) as u64
    }

    fn wall_at(&self, global: Time) -> Wall {
        let elapsed = (self.local(global) / 1_000_000) as i64;
        let wall = WALL_BASE_MS + self.offset_ms + elapsed;
        self.frozen.unwrap_or(Wall(u64::try_from(wall).unwrap_or(0)))
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
        let mut state = self.state();
        let wall = state.wall_at(rt::now());
        state.highest_shown = state.highest_shown.max(wall);
        wall
    }

    async fn sleep_until(&self, time: Mono) {
        rt::sleep_until(self.global_of(time)).await;
        // The clock may have slowed down meanwhile.
        while self.mono() < time {
            rt::sleep_until(self.global_of(time)).await;
        }
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
    fn another_drift_counts_from_its_beginning_and_timers_follow_it() {
        let clock = SkewedClock::new(&Skew { offset_ms: 0, drift_ppm: 100 }, 7);
        let (start, end) = (Time::at_ms(1_000), Time::at_ms(3_000));
        let before = clock.mono_at(start);
        clock.drift(start, Some(50_000));
        assert_eq!(clock.mono_at(start), before, "no jump");
        assert_eq!(clock.mono_at(end).0 - before.0, 2_100_000_000);
        let timer = Mono(before.0 + 1_050_000_000);
        assert_eq!(clock.global_of(timer), Time::at_ms(2_000));
        clock.drift(end, None);
        let later = Time::at_ms(4_000);
        assert_eq!(clock.mono_at(later).0 - clock.mono_at(end).0, 1_000_100_000);
    }

    #[test]
    fn a_frozen_wall_clock_stands_and_then_lags_while_timers_go_on() {
        let clock = SkewedClock::new(&Skew { offset_ms: 0, drift_ppm: 0 }, 0);
        clock.freeze(Time::at_ms(1_000));
        let stood = clock.wall_at(Time::at_ms(3_000));
        assert_eq!(stood.0 as i64, WALL_BASE_MS + 1_000);
        assert_eq!(clock.mono_at(Time::at_ms(3_000)), Mono(3_000_000_000));
        clock.thaw(Time::at_ms(3_000));
        assert_eq!(clock.wall_at(Time::at_ms(3_500)), Wall(stood.0 + 500));
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
