//! Read repair: what reads bring to replicas that lack what they have read.
//!
//! What a read must bring before it may answer, to as many as a write needs, is never held back here. What it brings to others that
//! have told something else is a favour: it has a pace, and what is over that is left to the comparing of copies.
//!
//! Invariants: one state of one key is sent to one replica once in `SENT_LATELY_MS`, however many reads find that it lacks it; what a
//! replica says it lacks, or what has not left, counts as not sent. At rest nothing is brought, for replicas that agree lack nothing.
//! Left out: reads at level `one`, which ask one replica and so find no difference (Cassandra took its chance of a repair
//! out of them: <https://issues.apache.org/jira/browse/CASSANDRA-13910>).

use std::collections::{BTreeMap, VecDeque};

use crate::config::REPAIRS_REMEMBERED_MAX;
use crate::env::Mono;
use crate::id::{NodeId, Token};
use crate::pace::Pace;
use crate::request::answers::Surroundings;
use crate::request::get::ReadRound;
use crate::request::operation::Facts;
use crate::sometimes;
use crate::step::Env;
use crate::version::outline::Outline;
use crate::wire::key::Question;
use crate::wire::state::weight;

/// For so long a state that was sent is taken to arrive, in milliseconds.
const SENT_LATELY_MS: u64 = 1_000;

/// A key, by its token, at a node.
type Place = (Token, NodeId);

/// What reads have brought lately.
#[derive(Debug)]
pub struct Repairs {
    pace: Pace,
    /// The digest of the state that was sent there, and when.
    sent: BTreeMap<Place, (u64, Mono)>,
    /// The same, the oldest first. What was sent there again since, or does not count, is passed over.
    order: VecDeque<(Mono, Place)>,
}

impl Repairs {
    /// Nothing was brought. What is a favour may take so many bytes per second.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Repairs {
        Repairs { pace: Pace::new(bytes_per_s), sent: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Of what a read would send to primaries, what another read has just sent there becomes the question whether it has come.
    pub fn spare(&mut self, facts: &Facts, asks: &mut [(usize, Question)], env: &impl Env) {
        for (at, question) in asks {
            let Question::Merge { state, .. } = question else {
                continue;
            };
            let place = (facts.key.token(), facts.primaries.nodes()[*at]);
            if !self.send(place, (state.digest(), weight(state)), env.mono()) {
                sometimes!(env, CopySentAlready);
                *question = Question::Holds { outline: Outline::of(state) };
            }
        }
    }

    /// Brings what an ended read has read to those that have told something else.
    pub fn bring(
        &mut self,
        round: &ReadRound,
        facts: &Facts,
        around: &mut Surroundings<'_>,
        env: &impl Env,
    ) {
        let Some(((state, epoch), lacking)) = round.lacking() else {
            return;
        };
        let now = env.mono();
        for at in lacking {
            let to = facts.primaries.nodes()[at];
            if self.pace.must_wait(now) {
                sometimes!(env, CopyPutOff);
                around.counters.copies_put_off += 1;
            } else if self.send((facts.key.token(), to), (state.digest(), weight(state)), now) {
                sometimes!(env, CopyBrought);
                around.counters.copies_brought += 1;
                let question = Question::Merge { state: state.clone(), epoch };
                around.out.push_back((to, facts.ask(question)));
            }
        }
    }

    /// A state of this digest and weight is to be sent; `false` when it was, lately.
    fn send(&mut self, place: Place, (digest, bytes): (u64, usize), now: Mono) -> bool {
        self.forget_old(now);
        if self.sent.get(&place).is_some_and(|&(sent, _)| sent == digest) {
            return false;
        }
        self.sent.insert(place, (digest, now));
        self.order.push_back((now, place));
        self.pace.charge(bytes as u64, now);
        true
    }

    /// What was sent there has not come.
    pub fn not_come(&mut self, place: Place) {
        self.sent.remove(&place);
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.order.len() <= REPAIRS_REMEMBERED_MAX, "{} are remembered", self.order.len());
        assert!(self.sent.len() <= self.order.len(), "what was sent is forgotten in its turn");
    }

    fn forget_old(&mut self, now: Mono) {
        while let Some(&(at, place)) = self.order.front() {
            let is_full = self.order.len() >= REPAIRS_REMEMBERED_MAX;
            if !is_full && now < at.plus_ms(SENT_LATELY_MS) {
                break;
            }
            self.order.pop_front();
            if self.sent.get(&place).is_some_and(|&(_, sent_at)| sent_at == at) {
                self.sent.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Place = (Token(7), NodeId(2));

    fn repairs() -> Repairs {
        Repairs::new(crate::config::TRANSFER_BYTES_PER_S_MIN)
    }

    #[test]
    fn a_state_is_sent_once_to_each_replica_until_it_has_not_come() {
        let (mut repairs, at) = (repairs(), |ms| Mono(0).plus_ms(ms));
        assert!(repairs.send(THERE, (1, 100), at(0)));
        assert!(!repairs.send(THERE, (1, 100), at(999)), "again");
        assert!(repairs.send((Token(7), NodeId(3)), (1, 100), at(999)), "another replica");
        assert!(repairs.send((Token(8), NodeId(2)), (1, 100), at(999)), "another key");
        assert!(repairs.send(THERE, (2, 100), at(999)), "another state");
        assert!(!repairs.send(THERE, (2, 100), at(1_500)));
        repairs.not_come(THERE);
        assert!(repairs.send(THERE, (2, 100), at(1_500)), "it has not come");
        assert!(repairs.send(THERE, (2, 100), at(2_500)), "after a while");
        repairs.invariants();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repairs = repairs();
        for token in 0..2 * REPAIRS_REMEMBERED_MAX as u64 {
            assert!(repairs.send((Token(token), NodeId(2)), (1, 0), Mono(0)));
            repairs.invariants();
        }
        assert!(repairs.send((Token(0), NodeId(2)), (1, 0), Mono(0)), "the oldest is forgotten");
    }

    #[test]
    fn favours_wait_for_their_pace() {
        let mut repairs = repairs();
        let must_wait = |repairs: &Repairs, ms| repairs.pace.must_wait(Mono(0).plus_ms(ms));
        assert!(!must_wait(&repairs, 0));
        assert!(repairs.send(THERE, (1, 64 << 20), Mono(0)));
        assert!(must_wait(&repairs, 0) && must_wait(&repairs, 10_000));
        assert!(!must_wait(&repairs, 1 << 40));
    }
}
