//! Probes that this node helps others with.
//!
//! Who is asked to help pings the target under a number of its own and passes the answer on. Without an answer it says so (a
//! *nack*) while whoever asked still waits: who hears neither has a reason to doubt itself (Lifeguard).
//! Invariant: at most `SWIM_RELAYS_MAX` at a time; who asks beyond that gets no help, and no nack.

use std::collections::BTreeMap;

use crate::config::{SWIM_NACK_MS, SWIM_RELAYS_MAX, SWIM_TIMEOUT_MS};
use crate::env::{Address, Mono};
use crate::id::NodeId;

/// Who is to hear of an answer, and by which number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Who asked.
    pub node: NodeId,
    /// Where it is.
    pub address: Address,
    /// Its number of the probe.
    pub probe: u64,
}

#[derive(Debug)]
struct Relay {
    asker: Asker,
    target: NodeId,
    /// When to say that there is no answer; `None`: that has been said.
    nack_at: Option<Mono>,
    ends_at: Mono,
}

/// All of them, by this node's numbers.
#[derive(Debug, Default)]
pub struct Relays {
    relays: BTreeMap<u64, Relay>,
}

impl Relays {
    /// Helps one more. `false`: too many already.
    pub fn begin(&mut self, number: u64, target: NodeId, asker: Asker, now: Mono) -> bool {
        if self.relays.len() >= SWIM_RELAYS_MAX {
            return false;
        }
        let nack_at = Some(now.plus_ms(SWIM_NACK_MS));
        // Afterwards nobody waits for it.
        let ends_at = now.plus_ms(SWIM_NACK_MS + SWIM_TIMEOUT_MS);
        self.relays.insert(number, Relay { asker, target, nack_at, ends_at });
        true
    }

    /// A node answers: who is to hear of that.
    pub fn answered(&mut self, number: u64, by: NodeId) -> Option<Asker> {
        self.relays.get(&number).filter(|relay| relay.target == by)?;
        self.relays.remove(&number).map(|relay| relay.asker)
    }

    /// Who is to hear now that there is no answer yet.
    pub fn nacks(&mut self, now: Mono) -> Vec<Asker> {
        self.relays.retain(|_, relay| now < relay.ends_at);
        let due = |relay: &mut Relay| relay.nack_at.take_if(|at| now >= *at).is_some();
        let due = self.relays.values_mut().filter_map(|relay| due(relay).then_some(&relay.asker));
        due.cloned().collect()
    }

    /// When `nacks` has something to say.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.relays.values().filter_map(|relay| relay.nack_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(probe: u64) -> Asker {
        Asker { node: NodeId(1), address: Address("n1".to_owned()), probe }
    }

    #[test]
    fn an_answer_is_passed_on_once_and_only_the_targets_own() {
        let mut relays = Relays::default();
        assert!(relays.begin(70, NodeId(3), asker(7), Mono(0)));
        assert_eq!(relays.answered(70, NodeId(4)), None, "another node has the number by chance");
        assert_eq!(relays.answered(71, NodeId(3)), None);
        assert_eq!(relays.answered(70, NodeId(3)), Some(asker(7)));
        assert_eq!(relays.answered(70, NodeId(3)), None);
        assert_eq!(relays.nacks(Mono(0).plus_ms(10_000)), [], "it was answered");
    }

    #[test]
    fn without_an_answer_that_is_said_once_and_a_late_answer_is_still_passed_on() {
        let mut relays = Relays::default();
        relays.begin(70, NodeId(3), asker(7), Mono(0));
        let due = Mono(0).plus_ms(SWIM_NACK_MS);
        assert_eq!((relays.next_deadline(), relays.nacks(Mono(due.0 - 1))), (Some(due), vec![]));
        assert_eq!(relays.nacks(due), [asker(7)]);
        assert_eq!((relays.next_deadline(), relays.nacks(due)), (None, vec![]));
        assert_eq!(relays.answered(70, NodeId(3)), Some(asker(7)));
    }

    #[test]
    fn they_are_bounded_and_end() {
        let mut relays = Relays::default();
        for number in 0..=SWIM_RELAYS_MAX as u64 {
            let begun = relays.begin(number, NodeId(3), asker(number), Mono(0));
            assert_eq!(begun, number < SWIM_RELAYS_MAX as u64);
        }
        let later = Mono(0).plus_ms(SWIM_NACK_MS + SWIM_TIMEOUT_MS);
        assert_eq!(relays.nacks(later), [], "nobody waits for these any more");
        assert!(relays.begin(1, NodeId(3), asker(1), later));
    }
}
