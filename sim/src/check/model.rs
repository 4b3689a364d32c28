//! What one key may do, one operation after another: a register, with compare-and-set, or a text that grows.
//!
//! A text is known by two polynomial hashes, so that appending is a multiplication and a state has no length: two
//! texts count as equal when 122 bits agree, which is as safe as the search's memory of where it has been.

use std::collections::BTreeSet;

use crate::check::history::{Event, Value, What};

/// What a key holds between operations, and what an operation makes of it.
pub trait Model {
    /// What a key holds.
    type State: Copy + Eq;

    /// What it holds at first.
    fn initial(&self) -> Self::State;

    /// What it holds after `what`; `None` when `what` cannot come next.
    fn step(&self, state: Self::State, what: What) -> Option<Self::State>;

    /// The state as a well mixed number.
    fn digest(&self, state: Self::State) -> u128;

    /// The digests of all states from which what these operations read can still be reached without a write that replaces
    /// what is there; `None` when that is not worth knowing.
    fn reaching(&self, _events: &[Event]) -> Option<BTreeSet<u128>> {
        None
    }
}

/// A register with compare-and-set. Without any, it is a register.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// What it holds at first.
    pub initial: Value,
}

impl Model for Register {
    type State = Value;

    fn initial(&self) -> Value {
        self.initial
    }

    fn step(&self, state: Value, what: What) -> Option<Value> {
        match what {
            What::Read(seen) => (seen == state).then_some(state),
            What::Write(to) => Some(to),
            What::Cas { from, to } => (from == state).then_some(to),
            What::Refused(from) => (from != state).then_some(state),
            What::Append(_) => None,
        }
    }

    fn digest(&self, state: Value) -> u128 {
        mixed(u128::from(state.0))
    }
}

/// A text that is read, replaced and appended to.
#[derive(Clone, Debug)]
pub struct Text {
    initial: Rope,
    values: Vec<Rope>,
    texts: Vec<String>,
}

/// A text by its hashes, and what a text before it is multiplied with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rope {
    hash: [u64; 2],
    shift: [u64; 2],
}

const PRIME: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x0b3f_5a8d_91c7_2e64, 0x1d27_c9e3_4f60_b815];

impl Text {
    /// Over these values; `initial` is one of them.
    #[must_use]
    pub fn new(values: &[String], initial: Value) -> Text {
        let texts = values.to_vec();
        let values: Vec<Rope> = values.iter().map(|text| Rope::of(text)).collect();
        Text { initial: values[initial.0 as usize], values, texts }
    }

    fn rope(&self, value: Value) -> Rope {
        self.values[value.0 as usize]
    }
}

impl Rope {
    fn of(text: &str) -> Rope {
        text.bytes().fold(Rope::EMPTY, Rope::with)
    }

    const EMPTY: Rope = Rope { hash: [0; 2], shift: [1; 2] };

    fn with(self, byte: u8) -> Rope {
        self.followed_by(Rope { hash: [u64::from(byte) + 1; 2], shift: BASES })
    }

    fn followed_by(self, tail: Rope) -> Rope {
        let hash = |at: usize| (times(self.hash[at], tail.shift[at]) + tail.hash[at]) % PRIME;
        let shift = |at: usize| times(self.shift[at], tail.shift[at]);
        Rope { hash: [hash(0), hash(1)], shift: [shift(0), shift(1)] }
    }
}

fn times(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

impl Model for Text {
    type State = Rope;

    fn initial(&self) -> Rope {
        self.initial
    }

    fn step(&self, state: Rope, what: What) -> Option<Rope> {
        match what {
            What::Read(seen) => (self.rope(seen).hash == state.hash).then_some(state),
            What::Write(to) => Some(self.rope(to)),
            What::Cas { from, to } => (self.rope(from).hash == state.hash).then_some(self.rope(to)),
            What::Refused(from) => (self.rope(from).hash != state.hash).then_some(state),
            What::Append(tail) => Some(state.followed_by(self.rope(tail))),
        }
    }

    fn digest(&self, state: Rope) -> u128 {
        mixed(u128::from(state.hash[0]) << 64 | u128::from(state.hash[1]))
    }

    /// A text that begins no text that was read is never read, however it grows.
    fn reaching(&self, events: &[Event]) -> Option<BTreeSet<u128>> {
        let mut reaching = BTreeSet::from([self.digest(Rope::EMPTY)]);
        for event in events {
            if let What::Read(seen) = event.what {
                let mut rope = Rope::EMPTY;
                for byte in self.texts[seen.0 as usize].bytes() {
                    rope = rope.with(byte);
                    reaching.insert(self.digest(rope));
                }
            }
        }
        Some(reaching)
    }
}

/// A number whose every bit depends on every bit of `seed` (two rounds of SplitMix64 over the halves).
#[must_use]
pub fn mixed(seed: u128) -> u128 {
    let (high, low) = ((seed >> 64) as u64, seed as u64);
    let first = split_mix(low ^ split_mix(high ^ 0x9e37_79b9_7f4a_7c15));
    let second = split_mix(first ^ high.rotate_left(32) ^ 0xd1b5_4a32_d192_ed03);
    u128::from(first) << 64 | u128::from(second)
}

fn split_mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_reads_what_was_written_and_compares_before_it_sets() {
        let (nil, one, two) = (Value(0), Value(1), Value(2));
        let register = Register { initial: nil };
        assert_eq!(register.step(nil, What::Read(one)), None);
        assert_eq!(register.step(nil, What::Write(one)), Some(one));
        assert_eq!(register.step(one, What::Cas { from: one, to: two }), Some(two));
        assert_eq!(register.step(two, What::Cas { from: one, to: two }), None);
        assert_eq!(register.step(two, What::Refused(one)), Some(two));
        assert_eq!(register.step(one, What::Refused(one)), None);
    }

    #[test]
    fn texts_are_equal_however_they_were_put_together() {
        let values: Vec<String> = ["", "a", "b", "ab", "ba"].map(str::to_owned).into();
        let model = Text::new(&values, Value(0));
        let a = model.step(model.initial(), What::Append(Value(1))).expect("always possible");
        let ab = model.step(a, What::Append(Value(2))).expect("always possible");
        assert_eq!(model.step(ab, What::Read(Value(3))), Some(ab));
        assert_eq!(model.step(ab, What::Read(Value(4))), None);
        assert_eq!(model.step(a, What::Write(Value(3))), Some(ab));
    }
}
