//! A filter that says which keys a table cannot have: one line of the processor's cache for each question.
//!
//! The filter is blocks of 64 bytes. A key's hash chooses one block, and six bits in it. With ten bits for each key about one in
//! a hundred keys that are not there passes (a filter that is not blocked: one in 120). After Putze, Sanders and Singler, "Cache-,
//! hash- and space-efficient Bloom filters" (2007).

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A line of the processor's cache, in bytes.
const LINE: usize = 64;
const BITS_PER_KEY: usize = 10;
/// So many bits are set for a key.
const PROBES: u32 = 6;

/// What keys are looked for with: a hash of the key and the store's salt, so that nobody can choose keys that all pass.
pub(super) fn hash(key: &[u8], salt: u64) -> u64 {
    xxh3_64_with_seed(key, !salt)
}

/// Which keys a table may have.
#[derive(Clone)]
pub(super) struct Bloom {
    bytes: Vec<u8>,
}

impl Bloom {
    /// For the keys with these hashes.
    pub(super) fn of(hashes: &[u64]) -> Bloom {
        let lines = (hashes.len() * BITS_PER_KEY).div_ceil(8 * LINE).max(1);
        let mut bloom = Bloom { bytes: vec![0; lines * LINE] };
        for &hash in hashes {
            let at = bloom.line(hash);
            let line = &mut bloom.bytes[at..at + LINE];
            bits(hash).for_each(|bit| line[bit / 8] |= 1 << (bit % 8));
        }
        bloom
    }

    /// From what `bytes` gave; `None` when they cannot be.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Bloom> {
        (!bytes.is_empty() && bytes.len().is_multiple_of(LINE)).then_some(Bloom { bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `false`: no key with this hash is there.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let at = self.line(hash);
        let line = &self.bytes[at..at + LINE];
        bits(hash).all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
    }

    fn line(&self, hash: u64) -> usize {
        let lines = (self.bytes.len() / LINE) as u64;
        (((hash >> 32) * lines) >> 32) as usize * LINE
    }
}

/// The bits of a key in its line: nine bits of the hash for each.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..PROBES).map(move |probe| (mixed >> (9 * probe + 10)) as usize & (8 * LINE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(from: u64, count: u64) -> Vec<u64> {
        (from..from + count).map(|n| hash(&n.to_be_bytes(), 7)).collect()
    }

    #[test]
    fn what_was_put_in_passes_and_of_the_rest_one_in_a_hundred() {
        for count in [0, 1, 10, 5_000] {
            let there = hashes(0, count);
            let bloom = Bloom::of(&there);
            assert!(there.iter().all(|hash| bloom.may_have(*hash)), "{count}");
            let again = Bloom::from_bytes(bloom.bytes().to_vec()).expect("whole lines");
            let passes = hashes(1 << 40, 10_000).iter().filter(|h| again.may_have(**h)).count();
            assert!(passes < 200, "{passes} of 10,000 pass, with {count} keys");
        }
        assert!(Bloom::from_bytes(vec![0; 63]).is_none() && Bloom::from_bytes(vec![]).is_none());
    }
}
