//! What is judged: operations on keys, each with the moment it was called and the moment it ended.
//!
//! Compact and without text: values and keys are numbers, so a million operations are 32 MB. Moments only order
//! things; they start at 1. An operation comes before another when it ended before the other was called;
//! equal moments order nothing.

/// A moment. Zero is before everything.
pub(super) type Moment = u64;

/// The end of what never ended: it may take effect at any time after its call, or never.
pub const NEVER: Moment = u64::MAX;

/// A value, or the absence of one. Equal numbers are equal values; small numbers make small tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub u32);

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it was called.
    pub called: Moment,
    /// When it ended, or `NEVER`.
    pub ended: Moment,
    /// The key.
    pub key: u32,
    /// What it did.
    pub what: What,
}

/// What an operation did, as far as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It answered this value.
    Read(Value),
    /// It wrote this value.
    Write(Value),
    /// It found `from` and wrote `to`.
    Cas {
        /// What it found.
        from: Value,
        /// What it wrote.
        to: Value,
    },
    /// It did not find this value, and wrote nothing.
    Refused(Value),
    /// It wrote this value behind what was there.
    Append(Value),
}

impl What {
    /// Whether it can never change anything.
    #[must_use]
    pub fn is_effectless(self) -> bool {
        match self {
            What::Read(_) | What::Refused(_) => true,
            What::Cas { from, to } => from == to,
            What::Write(_) | What::Append(_) => false,
        }
    }

    /// What is there after it, when it alone decides that.
    #[must_use]
    pub const fn leaves(self) -> Option<Value> {
        match self {
            What::Write(to) | What::Cas { to, .. } => Some(to),
            What::Read(_) | What::Refused(_) | What::Append(_) => None,
        }
    }
}

impl Event {
    /// Whether nobody knows if it took effect.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.ended == NEVER
    }
}

/// The events' indices, key by key, in their order.
#[must_use]
pub(super) fn by_key(events: &[Event]) -> Vec<Vec<u32>> {
    let keys = events.iter().map(|event| event.key as usize + 1).max().unwrap_or(0);
    let mut counts = vec![0; keys];
    for event in events {
        counts[event.key as usize] += 1;
    }
    let mut split: Vec<Vec<u32>> = counts.into_iter().map(Vec::with_capacity).collect();
    for (at, event) in (0..).zip(events) {
        split[event.key as usize].push(at);
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_operations_are_thirty_two_megabytes() {
        assert!(size_of::<Event>() <= 32);
    }

    #[test]
    fn events_are_split_by_key_in_order() {
        let event = |key| Event { called: 1, ended: 2, key, what: What::Read(Value(0)) };
        assert_eq!(by_key(&[event(2), event(0), event(2)]), [vec![1], vec![], vec![0, 2]]);
    }
}
