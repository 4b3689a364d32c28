//! What links deliver was sent over them, at most once, and in the order in which it was sent.
//!
//! What arrives from one life of a node at another node, over all links between them, is compared with what that life handed to
//! the network: it has to be a part of it, with gaps and nothing else. Two lives of a sender have no order between them: the link
//! of the earlier one stays until the receiver knows that the later one counts, and its bytes may still be on their way. A history
//! without links under it says nothing about this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::history::Carried;
use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "transport";

/// What one life of a node sends to another node.
#[derive(Default)]
struct Way {
    /// What may still arrive.
    ahead: VecDeque<u64>,
    /// What arrived, or was passed over by something that arrived.
    arrived: BTreeSet<u64>,
    passed: BTreeSet<u64>,
}

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut ways: BTreeMap<((u32, u32), u64), Way> = BTreeMap::new();
    let found = index.history.carried.iter().filter_map(|carried| {
        let way = ways.entry((carried.link, carried.life)).or_default();
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

    /// Lower case: sent; upper case: arrived. All by one life.
    fn told(text: &str) -> Vec<String> {
        of_lives(text, |_| 1)
    }

    fn of_lives(text: &str, life: impl Fn(char) -> u64) -> Vec<String> {
        let carried = |(at, letter): (usize, char)| Carried {
            stamp: Stamp(at as u64),
            link: (0, 1),
            life: life(letter),
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
    fn an_earlier_life_may_come_after_a_later_one_but_in_its_own_order() {
        let by_letter = |letter: char| if letter.to_ascii_lowercase() < 'm' { 1 } else { 2 };
        assert_eq!(of_lives("abxyXABY", by_letter), [""; 0]);
        let late = "a message from n0 to n1 arrived after something that was sent later";
        assert_eq!(of_lives("abxyXBAY", by_letter), [late]);
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
