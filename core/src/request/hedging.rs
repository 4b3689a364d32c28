//! When a read asks one more replica because those it has asked are slow, and how often it may.
//!
//! It waits for twice as long as all but the slowest of the latest reads took, so that what is usual here is waited for, and what is
//! unusual is not (Dean and Barroso, "The Tail at Scale", 2013). When all replicas are slow, so are the latest reads, and a
//! read waits longer: nobody who has too much to do is given more.
//!
//! Invariant: over any time there are no more hedges than one for each `READS_PER_HEDGE` reads, and `HEDGES_SAVED_MAX`. Whoever
//! may not hedge asks again when everybody does, and then asks all.

use crate::config::{HEDGES_SAVED_MAX, READS_PER_HEDGE};

/// So many reads are remembered.
const SAMPLES: usize = 128;
/// After so many more the percentile is worked out anew.
const REFRESHED_EVERY: usize = 16;
/// Those of them that were faster than one is that is waited for.
const PERCENTILE: usize = 95;

/// How long reads took lately, and how many hedges may be made.
#[derive(Clone, Debug)]
pub struct Hedging {
    /// A read waits at least so long, in milliseconds.
    least_ms: u64,
    /// How long the latest reads took, in milliseconds: a ring.
    took_ms: [u16; SAMPLES],
    /// How many reads have been seen.
    seen: usize,
    /// All but the slowest of them took at most so long.
    p95_ms: u64,
    /// Reads that have paid for a hedge to come.
    saved: u32,
}

impl Hedging {
    /// Nothing is known yet, and as many hedges may be made as ever.
    #[must_use]
    pub const fn new(least_ms: u64) -> Hedging {
        let saved = HEDGES_SAVED_MAX * READS_PER_HEDGE;
        Hedging { least_ms, took_ms: [0; SAMPLES], seen: 0, p95_ms: 0, saved }
    }

    /// How long a read waits before it asks another replica too, in milliseconds.
    #[must_use]
    pub fn after_ms(&self) -> u64 {
        self.least_ms.max(2 * self.p95_ms)
    }

    /// A read begins, and pays its part of a hedge.
    pub fn on_read(&mut self) {
        self.saved = (self.saved + 1).min(HEDGES_SAVED_MAX * READS_PER_HEDGE);
    }

    /// A read that other nodes took part in has been answered.
    pub fn on_answered(&mut self, after_ms: u64) {
        self.took_ms[self.seen % SAMPLES] = u16::try_from(after_ms).unwrap_or(u16::MAX);
        self.seen += 1;
        if self.seen.is_multiple_of(REFRESHED_EVERY) {
            let known = self.seen.min(SAMPLES);
            let mut took = self.took_ms;
            let (_, &mut p95, _) = took[..known].select_nth_unstable(known * PERCENTILE / 100);
            self.p95_ms = u64::from(p95);
        }
    }

    /// Takes a hedge; `false` when no more may be made now.
    pub const fn take(&mut self) -> bool {
        let may = self.saved >= READS_PER_HEDGE;
        if may {
            self.saved -= READS_PER_HEDGE;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prop_assert, proptest};

    use super::*;

    #[test]
    fn a_read_waits_twice_as_long_as_all_but_the_slowest_took() {
        let mut hedging = Hedging::new(5);
        assert_eq!(hedging.after_ms(), 5, "nothing is known");
        (0..128).for_each(|_| hedging.on_answered(1));
        assert_eq!(hedging.after_ms(), 5, "never sooner than the least");
        (0..6).for_each(|_| hedging.on_answered(400));
        (0..10).for_each(|_| hedging.on_answered(1));
        assert_eq!(hedging.after_ms(), 5, "six of 128 are the slowest");
        (0..16).for_each(|_| hedging.on_answered(40));
        assert_eq!(hedging.after_ms(), 80);
        (0..128).for_each(|_| hedging.on_answered(1 << 40));
        assert_eq!(hedging.after_ms(), 2 * u64::from(u16::MAX), "what is longer counts as that");
        (0..128).for_each(|_| hedging.on_answered(0));
        assert_eq!(hedging.after_ms(), 5, "what was long ago is forgotten");
    }

    #[test]
    fn hedges_are_a_part_of_the_reads() {
        let mut hedging = Hedging::new(5);
        assert_eq!((0..9_999).filter(|_| hedging.take()).count(), HEDGES_SAVED_MAX as usize);
        (1..READS_PER_HEDGE).for_each(|_| hedging.on_read());
        assert!(!hedging.take());
        hedging.on_read();
        assert!(hedging.take() && !hedging.take());
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_reads_have_paid_for(steps in vec(0..3_u8, 0..4_000)) {
            let (mut hedging, mut reads, mut hedges) = (Hedging::new(5), 0, 0);
            for step in steps {
                if step == 0 {
                    hedging.on_read();
                    reads += 1;
                } else {
                    hedges += u32::from(hedging.take());
                }
            }
            prop_assert!(hedges <= HEDGES_SAVED_MAX + reads / READS_PER_HEDGE);
        }
    }
}
