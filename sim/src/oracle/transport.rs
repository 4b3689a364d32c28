//! What links deliver was sent over them, at most once, and in the order in which it was sent.
//!
//! What arrives on the way from one node to another, over all their links and lives, is compared with what was handed to the
//! network: it has to be a part of it, with gaps and nothing else. A history without links under it says nothing about this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::history::Carried;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "transport";

/// One way from a node to another.
#[derive(Default)]
struct Way {
    /// What may still arrive.
    ahead: VecDeque<u64>,
    /// What arrived, or was passed over by something that arrived.
    arrived: BTreeSet<u64>,
    passed: BTreeSet<u64>,
}

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut ways: BTreeMap<(u32, u32), Way> = BTreeMap::new();
    let found = index.history.carried.iter().filter_map(|carried| {
        let way = ways.entry(carried.link).or_default();
        match carried.has_arrived {
            true => way.arrive(carried),
            false => {
                way.ahead.push_back(carried.hash);
                None
            }
        }
    });
    found.collect()
}

impl Way {
    fn arrive(&mut self, carried: &Carried) -> Option<Violation> {
        let Carried { stamp, link: (from, to), hash, .. } = *carried;
        if let Some(at) = self.ahead.iter().position(|&sent| sent == hash) {
            self.passed.extend(self.ahead.drain(..at));
            self.ahead.pop_front();
            self.arrived.insert(hash);
            return None;
        }
        let what = if self.passed.contains(&hash) {
            "arrived after something that was sent later"
        } else if self.arrived.contains(&hash) {
            "arrived more often than it was sent"
        } else {
            "was never sent there"
        };
        let what = format!("a message from n{from} to n{to} {what}");
        Some(Violation::safety(NAME, stamp, what))
    }
}

#[cfg(test)]
mod tests {
    use crate::history::{History, Stamp};

    use super::*;

    /// Lower case: sent; upper case: arrived. All on one way.
    fn told(text: &str) -> Vec<String> {
        let carried = |(at, letter): (usize, char)| Carried {
            stamp: Stamp(at as u64),
            link: (0, 1),
            hash: u64::from(letter.to_ascii_lowercase()),
            has_arrived: letter.is_ascii_uppercase(),
        };
        let carried = text.chars().enumerate().map(carried).collect();
        let history = History { carried, ..History::default() };
        let found = check(&Index::of(&history));
        found.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn gaps_are_no_violation_nor_is_the_same_message_sent_twice() {
        assert_eq!(told("abcdACDeE"), [""; 0]);
        assert_eq!(told("aabAAB"), [""; 0]);
        assert_eq!(told("abaABA"), [""; 0]);
        assert_eq!(told(""), [""; 0]);
    }

    #[test]
    fn what_was_not_sent_comes_twice_or_overtakes_is_found() {
        assert_eq!(told("aAB"), ["a message from n0 to n1 was never sent there"]);
        assert_eq!(told("abAAB"), ["a message from n0 to n1 arrived more often than it was sent"]);
        let late = "a message from n0 to n1 arrived after something that was sent later";
        assert_eq!(told("abBA"), [late]);
        assert_eq!(told("Aa"), ["a message from n0 to n1 was never sent there"]);
    }
}
