//! How fast nodes take from each other what no client has asked for: no faster than a bound, so that
//! clients have the rest of the disks and links.
//!
//! Invariants: over any second or more no more is taken than the rate and what may be ahead; a value that is larger
//! than what may be ahead is taken, and paid for afterwards.

use crate::config::{TRANSFER_BYTES_PER_S_MAX, TRANSFER_BYTES_PER_S_MIN};
use crate::env::Mono;

/// So far ahead of the rate may be taken at once, in milliseconds.
const AHEAD_MS: u64 = 50;
/// Over so long the rate is measured that people are shown, in milliseconds.
const MEASURED_MS: u64 = 1_000;

/// What has been taken, against what may be.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_per_s: u64,
    used_until: Mono,
    /// Since when `bytes` were taken, and how many.
    since: Mono,
    bytes: u64,
    /// The rate before that, in bytes per second.
    measured: u64,
}

impl Pace {
    /// Nothing has been taken. So much may be in a second; what is out of bounds counts as the nearest bound.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Pace {
        Pace {
            bytes_per_s: bytes_per_s.clamp(TRANSFER_BYTES_PER_S_MIN, TRANSFER_BYTES_PER_S_MAX),
            used_until: Mono(0),
            since: Mono(0),
            bytes: 0,
            measured: 0,
        }
    }

    /// By then the bound has caught up with what was taken.
    #[must_use]
    pub const fn used_until(&self) -> Mono {
        self.used_until
    }

    /// Whether nothing more may be taken now.
    #[must_use]
    pub fn must_wait(&self, now: Mono) -> bool {
        self.used_until > now.plus_ms(AHEAD_MS)
    }

    /// So much was taken.
    pub fn charge(&mut self, bytes: u64, now: Mono) {
        let ns = bytes.saturating_mul(1_000_000_000) / self.bytes_per_s;
        self.used_until = Mono(self.used_until.max(now).0.saturating_add(ns));
        let ms = now.ms_since(self.since);
        if ms >= MEASURED_MS {
            self.measured = self.bytes.saturating_mul(1_000) / ms;
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes += bytes;
    }

    /// How many bytes a second are taken now, about.
    #[must_use]
    pub fn bytes_per_s(&self, now: Mono) -> u64 {
        match now.ms_since(self.since) {
            ms if ms < MEASURED_MS => self.measured,
            ms => self.bytes.saturating_mul(1_000) / ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TRANSFER_BYTES_PER_S;

    #[test]
    fn no_more_is_taken_than_the_bound_over_a_second_and_the_rate_is_told() {
        for most in [2 << 20, TRANSFER_BYTES_PER_S, 512 << 20] {
            follows(most);
        }
    }

    fn follows(most_per_s: u64) {
        let (mut pace, mut now, mut taken) = (Pace::new(most_per_s), Mono(0), 0);
        let bytes = most_per_s >> 5;
        while now < Mono(0).plus_ms(3_000) {
            if !pace.must_wait(now) {
                pace.charge(bytes, now);
                taken += bytes;
            }
            now = now.plus_ms(1);
        }
        let most = 3 * most_per_s + 4 * bytes;
        assert!((2 * most_per_s..=most).contains(&taken), "{taken}");
        let rate = pace.bytes_per_s(now);
        assert!(rate.abs_diff(most_per_s) < most_per_s / 4, "{rate}");
        assert_eq!(pace.bytes_per_s(now.plus_ms(1 << 40)), 0, "long ago");
    }
}
