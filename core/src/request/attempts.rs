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
    known: BTreeMap<RequestId, Attempt>,
    /// Ended requests, by when they may be forgotten.
    ended: VecDeque<(Mono, RequestId)>,
}

impl Attempts {
    /// What is known of a request.
    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<&Attempt> {
        self.known.get(&id)
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.known.len() < REMEMBERED_REQUESTS_MAX
    }

    /// A named request begins.
    pub fn begin(&mut self, id: RequestId, op: OpId) {
        self.known.insert(id, Attempt::InFlight(op));
    }

    /// A named request ended.
    pub fn end(&mut self, id: RequestId, outcome: Attempt, now: Mono) {
        self.known.insert(id, outcome);
        self.ended.push_back((now.plus_ms(2 * DEADLINE_MS_MAX), id));
    }

    /// Forgets what is old enough.
    pub fn forget(&mut self, now: Mono) {
        while let Some(&(until, id)) = self.ended.front() {
            if until > now {
                break;
            }
            self.ended.pop_front();
            // It may have begun again meanwhile, and then ends again.
            let begun_again = matches!(self.known.get(&id), Some(Attempt::InFlight(_)))
                || self.ended.iter().any(|&(_, later)| later == id);
            if !begun_again {
                self.known.remove(&id);
            }
        }
    }
}
