//! The generator's dice: a seed and a purpose give one stream of numbers.
//!
//! What a run leaves to luck is drawn elsewhere (`draw`): these dice make scenarios, and no run ever throws them.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// The generator's dice: one stream for each purpose, so that one part may change without the others.
#[derive(Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The dice of a seed for one purpose.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Rng(rng)
    }

    /// 0 to `bound - 1`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// `low` to `high`, as often between 1 and 2 as between 100 and 200.
    pub fn log(&mut self, low: u64, high: u64) -> u64 {
        let unit = self.below(1 << 30) as f64 / (1u64 << 30) as f64;
        let (low, high) = ((low as f64).ln(), (high as f64).ln());
        (low + unit * (high - low)).exp().round() as u64
    }

    /// Happens so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these, each equally likely.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// One of so many nodes.
    pub fn node(&mut self, nodes: u32) -> u32 {
        self.below(u64::from(nodes)) as u32
    }
}
