//! What became of the requests that clients named, so that another attempt never applies a write twice.
//!
//! An attempt after the first may issue a dot only when this very incarnation of the coordinator knows that no earlier
//! one did. Everything else is looked up in the replicas: found, it is driven to W; not found, it is `Indeterminate`.
//! "Look up, else write" would write twice whenever the first attempt is merely late
//! (<https://github.com/basho/riak_kv/issues/1754>).
//!
//! Invariants: kept for twice the longest deadline after the end; bounded, and full means `Overloaded`, never forgetful.

use std::collections::{BTreeMap, VecDeque};

use crate::config::{DEADLINE_MS_MAX, REMEMBERED_REQUESTS_MAX};
use crate::env::Mono;
use crate::id::{OpId, RequestId};
use crate::message::Reply;

/// What is known of a named request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It is in flight here.
    InFlight(OpId),
    /// It ended, and no dot was issued for it.
    NoneIssued,
    /// It ended well.
    Stored(Reply),
    /// A dot was issued; how far it got is unknown.
    Issued,
}

/// The named requests of this incarnation.
#[derive(Debug, Default)]
pub struct Attempts {
    /// With the time after which an ended request may be forgotten; none while it is in flight.
    known: BTreeMap<RequestId, (Attempt, Option<Mono>)>,
    /// Ended requests, the oldest first. One that ended twice is here twice; the later time counts.
    ended: VecDeque<(Mono, RequestId)>,
}

impl Attempts {
    /// What is known of a request.
    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<&Attempt> {
        self.known.get(&id).map(|(attempt, _)| attempt)
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ended.len().max(self.known.len()) < REMEMBERED_REQUESTS_MAX
    }

    /// A named request begins.
    pub fn begin(&mut self, id: RequestId, op: OpId) {
        self.known.insert(id, (Attempt::InFlight(op), None));
    }

    /// A named request ended.
    pub fn end(&mut self, id: RequestId, outcome: Attempt, now: Mono) {
        let until = now.plus_ms(2 * DEADLINE_MS_MAX);
        self.known.insert(id, (outcome, Some(until)));
        self.ended.push_back((until, id));
    }

    /// Forgets what is old enough.
    pub fn forget(&mut self, now: Mono) {
        while let Some(&(until, id)) = self.ended.front().filter(|(until, _)| *until <= now) {
            self.ended.pop_front();
            if self.known.get(&id).is_some_and(|(_, known)| *known == Some(until)) {
                self.known.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootEpoch;

    #[test]
    fn an_ended_request_is_kept_for_twice_the_longest_deadline_after_its_last_end() {
        let (id, op) = (RequestId(1), OpId { boot: BootEpoch(1), seq: 1 });
        let keep = 2 * DEADLINE_MS_MAX;
        let mut attempts = Attempts::default();
        attempts.begin(id, op);
        attempts.end(id, Attempt::NoneIssued, Mono(0));
        attempts.begin(id, op);
        attempts.forget(Mono(0).plus_ms(keep));
        assert_eq!(attempts.get(id), Some(&Attempt::InFlight(op)), "it has begun again");
        attempts.end(id, Attempt::Issued, Mono(0).plus_ms(keep));
        attempts.forget(Mono(0).plus_ms(2 * keep - 1));
        assert_eq!(attempts.get(id), Some(&Attempt::Issued));
        attempts.forget(Mono(0).plus_ms(2 * keep));
        assert_eq!(attempts.get(id), None);
    }
}
