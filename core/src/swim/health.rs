//! How well is this node itself? Lifeguard's local health: a node that does not hear what it should hear may be the slow one, so
//! it waits longer before it suspects others.
//!
//! Invariant: the score is at most `SWIM_HEALTH_MAX`.

use crate::config::SWIM_HEALTH_MAX;

/// A score; 0 is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Health {
    score: u8,
}

impl Health {
    /// The score, 0 (well) to `SWIM_HEALTH_MAX`.
    #[must_use]
    pub const fn score(self) -> u8 {
        self.score
    }

    /// A probe was answered in time.
    pub const fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// So many things were not heard that a node that is well hears, or this node had to refute a rumour.
    pub fn worse(&mut self, by: usize) {
        let by = u8::try_from(by).unwrap_or(u8::MAX);
        self.score = self.score.saturating_add(by).min(SWIM_HEALTH_MAX);
    }

    /// A time of this many milliseconds, for a node of this health.
    #[must_use]
    pub fn stretched(self, ms: u64) -> u64 {
        ms.saturating_mul(u64::from(self.score) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_multiplied_by_the_score_and_one_and_the_score_is_bounded() {
        let mut health = Health::default();
        health.better();
        assert_eq!((health.score(), health.stretched(500)), (0, 500));
        health.worse(2);
        assert_eq!(health.stretched(500), 1_500);
        health.worse(usize::MAX);
        assert_eq!((health.score(), health.stretched(1_000)), (7, 8_000));
        health.better();
        assert_eq!(health.score(), 6);
    }
}
