//! Keyed dice: every draw is a pure function of (seed, stream, from, to, k), k counting the draws of that key.
//!
//! There is no global stream on purpose: taking one message or fault out of a scenario leaves the luck of all
//! others as it was, which is what makes a failure shrink. Streams of different purpose share nothing.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

/// What a draw is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stream {
    /// How long a message takes.
    Delay = 1,
    /// Whether a message is lost.
    Loss = 2,
    /// Whether a message arrives twice.
    Duplicate = 3,
    /// How long a sync or a cold read takes.
    Disk = 4,
    /// What becomes of an unsynced operation at a power loss.
    Fate = 5,
    /// The random bits a node is started with.
    Boot = 6,
    /// Names of requests.
    Request = 7,
    /// Whether a read must wait for the device.
    Cold = 8,
    /// What a fault of links does to a message.
    Mischief = 9,
    /// Whether and where a datagram is corrupted.
    Corrupt = 10,
    /// Whether a site takes its rare path.
    Buggify = 11,
    /// Which bytes a disk error strikes.
    DiskError = 12,
    /// How streams are cut into pieces, and how much of one is read and written at once.
    Segment = 13,
}

/// One more than the highest number of a stream.
const STREAMS: usize = Stream::Segment as usize + 1;

/// All dice of one run.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    /// How often each key was drawn: by stream, and in it by both ends as one number.
    drawn: [BTreeMap<u64, u64>; STREAMS],
}

/// One draw: 64 random bits, to be used once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Draw(u64);

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Dice {
        Dice { seed, drawn: [const { BTreeMap::new() }; STREAMS] }
    }

    /// The next draw of a key.
    pub fn next(&mut self, stream: Stream, from: u32, to: u32) -> Draw {
        let ends = u64::from(from) << 32 | u64::from(to);
        let k = self.drawn[stream as usize].entry(ends).or_default();
        *k += 1;
        keyed(self.seed, stream, from, to, *k)
    }
}

/// The k-th draw of a key.
#[must_use]
pub fn keyed(seed: u64, stream: Stream, from: u32, to: u32, k: u64) -> Draw {
    let mut bytes = [0; 25];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] = stream as u8;
    bytes[9..13].copy_from_slice(&from.to_le_bytes());
    bytes[13..17].copy_from_slice(&to.to_le_bytes());
    bytes[17..].copy_from_slice(&k.to_le_bytes());
    Draw(xxh3_64(&bytes))
}

impl Draw {
    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Happens `ppm` times in a million.
    #[must_use]
    pub const fn happens(self, ppm: u32) -> bool {
        self.below(1_000_000) < ppm as u64
    }

    /// 0 to `bound - 1`; 0 when the bound is 0.
    #[must_use]
    pub const fn below(self, bound: u64) -> u64 {
        ((self.0 as u128 * bound as u128) >> 64) as u64
    }

    /// `low` to `high`, both included.
    #[must_use]
    pub const fn between(self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Exponentially distributed with this mean, cut at ten times the mean.
    #[must_use]
    pub fn exponential(self, mean: u64) -> u64 {
        let unit = ((self.0 >> 11) + 1) as f64 / (1u64 << 53) as f64;
        ((-unit.ln()).min(10.0) * mean as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_of_one_key_do_not_disturb_another() {
        let mut quiet = Dice::new(42);
        let mut busy = Dice::new(42);
        for _ in 0..100 {
            busy.next(Stream::Delay, 0, 1);
        }
        assert_eq!(quiet.next(Stream::Delay, 1, 0), busy.next(Stream::Delay, 1, 0));
        assert_ne!(quiet.next(Stream::Delay, 0, 1), busy.next(Stream::Delay, 0, 1));
        assert_ne!(
            Dice::new(43).next(Stream::Delay, 1, 0),
            Dice::new(42).next(Stream::Delay, 1, 0)
        );
    }

    #[test]
    fn draws_have_the_shape_they_promise() {
        let mut dice = Dice::new(1);
        let mut draw = || dice.next(Stream::Delay, 0, 0);
        let happened = (0..10_000).filter(|_| draw().happens(250_000)).count();
        assert!((2_300..2_700).contains(&happened), "{happened}");
        assert!((0..1_000).all(|_| (5..=9).contains(&draw().between(5, 9))));
        assert_eq!(draw().below(0), 0);
        let mean = (0..10_000).map(|_| draw().exponential(1_000)).sum::<u64>() / 10_000;
        assert!((950..1_050).contains(&mean), "{mean}");
    }
}
