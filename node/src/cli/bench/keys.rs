//! Which key comes next: uniform, or a few keys most of the time.

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_core::RngCore;

/// How keys are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Distribution {
    /// All keys alike.
    #[default]
    Uniform,
    /// A few keys most of the time, as in real traffic.
    Zipfian,
}

/// The skew of YCSB's workloads.
const THETA: f64 = 0.99;

/// Chooses keys `0..count`.
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    zipf: Option<Zipf>,
}

/// After Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994).
#[derive(Clone, Debug)]
struct Zipf {
    zeta: f64,
    alpha: f64,
    eta: f64,
    second: f64,
}

impl Keys {
    /// `count` keys, at least one.
    #[must_use]
    pub fn new(count: u64, distribution: Distribution) -> Keys {
        assert!(count > 0, "there is a key to choose");
        let zipf = (distribution == Distribution::Zipfian).then(|| {
            let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum();
            let second = 1.0 + 0.5f64.powf(THETA);
            let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - second / zeta);
            Zipf { zeta, alpha: 1.0 / (1.0 - THETA), eta, second }
        });
        Keys { count, zipf }
    }

    /// The next key.
    pub fn next(&self, dice: &mut ChaCha8Rng) -> u64 {
        let Some(zipf) = &self.zipf else {
            // The high half of a product is uniform up to one part in 2^64 / count.
            return ((u128::from(dice.next_u64()) * u128::from(self.count)) >> 64) as u64;
        };
        let unit = fraction(dice);
        let scaled = unit * zipf.zeta;
        let rank = if scaled < 1.0 || self.count == 1 {
            0
        } else if scaled < zipf.second {
            1
        } else {
            (self.count as f64 * (zipf.eta * unit - zipf.eta + 1.0).powf(zipf.alpha)) as u64
        };
        // Popular keys must not be neighbours.
        scatter(rank.min(self.count - 1)) % self.count
    }
}

/// A number in 0..1.
pub fn fraction(dice: &mut ChaCha8Rng) -> f64 {
    (dice.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The 64-bit FNV-1a hash of a rank.
fn scatter(rank: u64) -> u64 {
    rank.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    fn counts(distribution: Distribution) -> Vec<u32> {
        let keys = Keys::new(100, distribution);
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0; 100];
        for _ in 0..100_000 {
            counts[usize::try_from(keys.next(&mut dice)).expect("small")] += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_come_alike_and_zipfian_ones_do_not() {
        let uniform = counts(Distribution::Uniform);
        assert!(uniform.iter().all(|count| (800..1_200).contains(count)), "{uniform:?}");
        let zipfian = counts(Distribution::Zipfian);
        let most = *zipfian.iter().max().expect("there are keys");
        assert!(most > 15_000, "the most popular of 100 keys takes a fifth: {most}");
    }

    #[test]
    fn one_key_is_always_that_key() {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        for distribution in [Distribution::Uniform, Distribution::Zipfian] {
            let keys = Keys::new(1, distribution);
            assert!((0..1_000).all(|_| keys.next(&mut dice) == 0));
        }
    }
}
