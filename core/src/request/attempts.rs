//! What became of the requests that clients named, so that another attempt never applies a write twice.
//!
//! An attempt after the first may issue a dot only when this very incarnation of the coordinator knows that no earlier
//! one did. Everything else is looked up in the replicas: found, it is driven to W; not found, it is `Indeterminate`.
//! "Look up, else write" would write twice whenever the first attempt is merely late
//! (<https://github.com/basho/riak_kv/issues/1754>). A first attempt of a request that has ended is a new write.
//!
//! Invariants: an id names one request as long as it is known (`Fingerprint`); a request is known for twice its own
//! deadline after its end; entries have one small size, whatever was written and answered. A source may have as many as
//! there is room left: alone half of all, k of them a (k + 1)th each, so that a newcomer always finds room (Choudhury and
//! Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{REMEMBERED_BYTES_MAX, REMEMBERED_REQUESTS_MAX};
use crate::env::Mono;
use crate::id::{OpId, RequestId};
use crate::request::fingerprint::Fingerprint;
use crate::version::dvv::{Dot, Stamp};
use crate::version::hlc::Hlc;

/// A dot that was issued for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// The dot.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
}

impl Written {
    /// The name of the version: a plain one, which stands where its own dot and time say.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { hlc: self.hlc, actor: self.dot.actor, step: 0 }
    }
}

/// What is known of a named request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It is in flight here.
    InFlight(OpId),
    /// It ended, and no dot was issued for it.
    NoneIssued,
    /// It ended well.
    Stored(Written),
    /// A dot was issued here, or may have been elsewhere (`None`); how far it got is unknown.
    Issued(Option<Written>),
}

/// What the table says of a request that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Earlier {
    /// Nothing of this request is known.
    Nothing,
    /// This of the same request.
    Same(Attempt),
    /// The id names another request.
    Another,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    attempt: Attempt,
    /// After this it may be forgotten; none while it is in flight.
    until: Option<Mono>,
    source: u64,
}

const _: () = assert!(size_of::<(RequestId, Entry)>() <= REMEMBERED_BYTES_MAX);

/// The named requests of this incarnation.
#[derive(Debug, Default)]
pub struct Attempts {
    known: BTreeMap<RequestId, Entry>,
    /// Those that have ended, by the time after which they may be forgotten.
    ended: BTreeSet<(Mono, RequestId)>,
    /// How many are known of each source.
    sources: BTreeMap<u64, usize>,
}

impl Attempts {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.known.len() <= REMEMBERED_REQUESTS_MAX, "the table has its bound");
        assert_eq!(self.sources.values().sum::<usize>(), self.known.len(), "each has a source");
        let ended = self.known.values().filter(|entry| entry.until.is_some()).count();
        assert_eq!(ended, self.ended.len(), "what has ended will be forgotten");
    }

    /// What is known of a request.
    #[must_use]
    pub fn earlier(&self, id: RequestId, fingerprint: Fingerprint) -> Earlier {
        match self.known.get(&id) {
            None => Earlier::Nothing,
            Some(entry) if entry.fingerprint != fingerprint => Earlier::Another,
            Some(entry) => Earlier::Same(entry.attempt),
        }
    }

    /// Whether a source may name one more request, or this one is known.
    #[must_use]
    pub fn has_room(&self, id: RequestId, source: u64) -> bool {
        let its = self.sources.get(&source).copied().unwrap_or(0);
        self.known.contains_key(&id) || its + self.known.len() < REMEMBERED_REQUESTS_MAX
    }

    /// A named request begins.
    pub fn begin(&mut self, id: RequestId, fingerprint: Fingerprint, op: OpId, source: u64) {
        self.forget_one(id);
        *self.sources.entry(source).or_default() += 1;
        let attempt = Attempt::InFlight(op);
        self.known.insert(id, Entry { fingerprint, attempt, until: None, source });
    }

    /// A named request ended; it is to be known until then.
    pub fn end(&mut self, id: RequestId, outcome: Attempt, until: Mono) {
        if let Some(entry) = self.known.get_mut(&id) {
            if let Some(before) = entry.until.replace(until) {
                self.ended.remove(&(before, id));
            }
            entry.attempt = outcome;
            self.ended.insert((until, id));
        }
    }

    /// Forgets what is known of an ended request: a new write of the same name was not begun here, and may be elsewhere.
    pub fn renounce(&mut self, id: RequestId) {
        if self.known.get(&id).is_some_and(|entry| entry.until.is_some()) {
            self.forget_one(id);
        }
    }

    /// Forgets what is old enough.
    pub fn forget(&mut self, now: Mono) {
        while let Some(&(_, id)) = self.ended.first().filter(|(until, _)| *until <= now) {
            self.forget_one(id);
        }
    }

    fn forget_one(&mut self, id: RequestId) {
        let Some(entry) = self.known.remove(&id) else {
            return;
        };
        if let Some(until) = entry.until {
            self.ended.remove(&(until, id));
        }
        if let Some(count) = self.sources.get_mut(&entry.source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&entry.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy;
    use proptest::{prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::id::{ActorId, BootEpoch, Life, SessionId};
    use crate::layout::keyspace::Level;
    use crate::request_fixture::request;
    use crate::wire::client::{Action, Request};

    const OP: OpId = OpId { life: Life { boot: BootEpoch(1), session: SessionId(1) }, seq: 1 };

    /// Of one of several requests.
    fn print(of: u8) -> Fingerprint {
        let request = Request { key: vec![b'k', of].into(), ..request(Action::Get) };
        Fingerprint::of(&request, Level::Quorum)
    }

    #[test]
    fn an_ended_request_is_kept_until_the_time_of_its_last_end() {
        let (id, one) = (RequestId(1), print(1));
        let mut attempts = Attempts::default();
        attempts.begin(id, one, OP, 0);
        attempts.end(id, Attempt::NoneIssued, Mono(100));
        attempts.begin(id, one, OP, 0);
        attempts.forget(Mono(100));
        let flying = Earlier::Same(Attempt::InFlight(OP));
        assert_eq!(attempts.earlier(id, one), flying, "it has begun again");
        attempts.end(id, Attempt::Issued(None), Mono(200));
        attempts.forget(Mono(199));
        assert_eq!(attempts.earlier(id, one), Earlier::Same(Attempt::Issued(None)));
        assert_eq!(attempts.earlier(id, print(2)), Earlier::Another);
        attempts.forget(Mono(200));
        assert_eq!(attempts.earlier(id, print(2)), Earlier::Nothing);
    }

    #[test]
    fn one_source_gets_half_of_the_room_and_a_newcomer_always_finds_some() {
        let mut attempts = Attempts::default();
        let mut ids = 0;
        let mut fill = |attempts: &mut Attempts, source| {
            let before = ids;
            while attempts.has_room(RequestId(ids), source) {
                attempts.begin(RequestId(ids), print(0), OP, source);
                ids += 1;
            }
            ids - before
        };
        let max = REMEMBERED_REQUESTS_MAX as u128;
        assert_eq!(fill(&mut attempts, 1), max / 2);
        assert_eq!(fill(&mut attempts, 2), max / 4, "beside one that took all it could");
        assert!(attempts.has_room(RequestId(0), 1), "one that is known needs no room");
        assert!(fill(&mut attempts, 3) > 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin { id: u128, of: u8, source: u64 },
        End { id: u128, outcome: Attempt, after: u64 },
        Renounce { id: u128 },
        Pass { time: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = 0u128..6;
        let written = Written { dot: Dot { actor: ActorId(1), n: 1 }, hlc: Hlc(1) };
        let outcomes = vec![Attempt::NoneIssued, Attempt::Issued(None), Attempt::Stored(written)];
        let outcome = proptest::sample::select(outcomes);
        prop_oneof![
            3 => (id.clone(), 0u8..3, 0u64..3)
                .prop_map(|(id, of, source)| Step::Begin { id, of, source }),
            3 => (id.clone(), outcome, 0u64..9)
                .prop_map(|(id, outcome, after)| Step::End { id, outcome, after }),
            1 => id.prop_map(|id| Step::Renounce { id }),
            2 => (0u64..6).prop_map(|time| Step::Pass { time }),
        ]
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn it_knows_the_last_that_was_said_of_a_request_until_its_time(
            steps in proptest::collection::vec(step(), 0..80)
        ) {
            let mut attempts = Attempts::default();
            let mut model: Vec<(u128, u8, u64, Attempt, Option<Mono>)> = Vec::new();
            let mut now = Mono(0);
            for step in steps {
                match step {
                    Step::Begin { id, of, source } => {
                        attempts.begin(RequestId(id), print(of), OP, source);
                        model.retain(|known| known.0 != id);
                        model.push((id, of, source, Attempt::InFlight(OP), None));
                    }
                    Step::End { id, outcome, after } => {
                        let until = Mono(now.0 + after);
                        attempts.end(RequestId(id), outcome, until);
                        for known in model.iter_mut().filter(|known| known.0 == id) {
                            (known.3, known.4) = (outcome, Some(until));
                        }
                    }
                    Step::Renounce { id } => {
                        attempts.renounce(RequestId(id));
                        model.retain(|known| known.0 != id || known.4.is_none());
                    }
                    Step::Pass { time } => {
                        now = Mono(now.0 + time);
                        attempts.forget(now);
                        model.retain(|known| known.4.is_none_or(|until| until > now));
                    }
                }
                for id in 0..6 {
                    let known = model.iter().find(|known| known.0 == id);
                    for of in 0..3 {
                        let expected = match known {
                            None => Earlier::Nothing,
                            Some(known) if known.1 == of => Earlier::Same(known.3),
                            Some(_) => Earlier::Another,
                        };
                        prop_assert_eq!(attempts.earlier(RequestId(id), print(of)), expected);
                    }
                }
                for source in 0..3 {
                    let count = model.iter().filter(|known| known.2 == source).count();
                    prop_assert_eq!(attempts.sources.get(&source).copied().unwrap_or(0), count);
                }
                let ended = model.iter().filter(|known| known.4.is_some()).count();
                prop_assert_eq!(attempts.ended.len(), ended);
            }
        }
    }
}
