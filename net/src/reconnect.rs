//! When to dial again: exponential backoff with jitter, pure.
//!
//! News about the peer beats patience: a new address, or a connection from the peer itself, is a
//! reason to dial at once (Garage learned this the hard way: a peer in backoff was not tried at its new
//! address, <https://git.deuxfleurs.fr/Deuxfleurs/garage/commit/66fe8930>).

use rondo_core::env::Mono;

/// The first delay, in milliseconds.
const FIRST_MS: u64 = 20;
/// The longest delay, in milliseconds.
const LONGEST_MS: u64 = 2_000;
/// A link that lived this long, in milliseconds, clears the memory of failures before it.
const STEADY_MS: u64 = 1_000;

const _: () = assert!(FIRST_MS < LONGEST_MS);

/// The dialling of one peer.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    up_since: Option<Mono>,
}

impl Backoff {
    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// There is news about the peer: dial now, and be as eager as at the start.
    pub fn on_news(&mut self) {
        self.failures = 0;
    }

    /// The link is open.
    pub fn on_open(&mut self, now: Mono) {
        self.up_since = Some(now);
    }

    /// Dialling failed, or the link ended: when to dial next. Half of the delay is fixed, the other half
    /// is drawn, so that nodes which lost the same peer do not come back in step. `hopeless`: only people
    /// can help, as after a refusal, so the delay is the longest at once.
    pub fn on_failure(&mut self, now: Mono, hopeless: bool, random: u64) -> Mono {
        let steady = self.up_since.take().is_some_and(|since| now.ms_since(since) >= STEADY_MS);
        if steady {
            self.failures = 0;
        }
        let doubled = FIRST_MS << self.failures.min(16);
        let delay = if hopeless { LONGEST_MS } else { doubled.min(LONGEST_MS) };
        self.failures = self.failures.saturating_add(1);
        now.plus_ms(delay / 2 + random % (delay / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const START: Mono = Mono(7_000_000);

    fn delay(backoff: &mut Backoff, now: Mono, hopeless: bool, random: u64) -> u64 {
        backoff.on_failure(now, hopeless, random).ms_since(now)
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays = [(); 10].map(|()| delay(&mut backoff, START, false, 0));
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
    }

    #[test]
    fn news_and_a_steady_link_make_it_eager_again_and_a_short_one_does_not() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            delay(&mut backoff, START, false, 0);
        }
        backoff.on_open(START);
        assert_eq!(delay(&mut backoff, START.plus_ms(999), false, 0), 1000);
        backoff.on_open(START);
        assert_eq!(delay(&mut backoff, START.plus_ms(1000), false, 0), 10);
        for _ in 0..9 {
            delay(&mut backoff, START, false, 0);
        }
        backoff.on_news();
        assert_eq!(delay(&mut backoff, START, false, 0), 10);
    }

    #[test]
    fn a_refusal_waits_longest_at_once() {
        assert_eq!(delay(&mut Backoff::default(), START, true, 0), 1000);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_half_of_the_delay(failures in 0u32..70, random in any::<u64>()) {
            let mut backoff = Backoff { failures, up_since: None };
            let fixed = delay(&mut backoff.clone(), START, false, 0);
            let drawn = delay(&mut backoff, START, false, random);
            prop_assert!((fixed..=2 * fixed).contains(&drawn));
        }
    }
}
