//! A get on its coordinator, which may be any node.
//!
//! 1. *Ask*: R primaries (and as many as must hold the answer), one for the whole state and the others for its
//!    digest; when they are slow another one (`hedging`). What they tell is durable there.
//! 2. *Agree*: when as many as a write needs are known to hold the same state, it is the answer.
//! 3. *Merge*: when they differ, all are asked for the whole state; R of them are merged.
//! 4. *Write back*: the merged state goes to those that lack it. It is the answer when W are known to hold it
//!    durably. Without this a reader could see a new value and the next reader the old one. Others that have told something else
//!    are brought it by the way (`repairs`).
//!
//! What was read before something was purged may lack that, so a primary that has purged meanwhile refuses it (`replica::purged`): then
//! all is read anew.
//!
//! At level `one` the first state is the answer. The same rounds find what became of an earlier attempt of a
//! write: its dot carries the request's id, and what it wrote is what the request asks. Of another version under the same
//! id nothing follows: the id may have been used before.

use smallvec::SmallVec;

use crate::id::Epoch;
use crate::layout::keyspace::{Level, Policy};
use crate::quorum::{Members, Tally};
use crate::request::attempts::Written;
use crate::request::operation::{Facts, Next, counted, lacking};
use crate::request::put;
use crate::request::spread::Spread;
use crate::version::context::Context;
use crate::version::dvv::{Dot, Version, VersionSet};
use crate::version::hlc::Hlc;
use crate::wire::client::{Action, By, Reply, Sibling};
use crate::wire::key::Question;

/// A read that has begun anew so often waits, and asks again what it has asked.
const ANEW_MAX: u32 = 8;

/// What a primary told.
#[derive(Debug)]
struct Told {
    at: usize,
    digest: u64,
    /// The whole state, and the purge epoch that it was read under.
    state: Option<(VersionSet, Epoch)>,
}

/// How a get stands.
#[derive(Debug)]
pub struct ReadRound {
    asked: Members,
    told: SmallVec<[Told; 3]>,
    /// Who has told, a digest or a state, and who could not.
    tellers: Tally,
    /// Who has told a whole state.
    wholes: Tally,
    /// They differ: everybody is asked for the whole state.
    whole: bool,
    write_back: Option<Spread>,
    /// The highest purge epoch that anybody has told of.
    heard: Epoch,
    /// How often it began anew because something was purged meanwhile.
    anew: u32,
    aim: Aim,
    found: Option<Written>,
}

/// What a read is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// The key's state.
    State,
    /// The write of this request: this dot, where it is known, or any of the request's id and content.
    Write(Option<Written>),
}

impl ReadRound {
    /// A read that has asked nobody.
    #[must_use]
    pub fn new(aim: Aim, facts: &Facts) -> ReadRound {
        ReadRound {
            asked: Members::default(),
            told: SmallVec::new(),
            tellers: facts.needs.readers(),
            wholes: facts.needs.readers(),
            whole: false,
            write_back: None,
            heard: Epoch::default(),
            anew: 0,
            aim,
            found: None,
        }
    }

    /// What is known of the write that was searched, at the end of the search.
    #[must_use]
    pub fn written(&self) -> Option<Written> {
        match self.aim {
            Aim::Write(sought) => self.found.or(sought),
            Aim::State => None,
        }
    }

    /// Whether replicas differed and had to be made equal.
    #[must_use]
    pub const fn repaired(&self) -> bool {
        self.write_back.is_some()
    }

    /// The first questions: to those in `order` (positions, the best first), as many as are needed.
    pub fn begin(&mut self, facts: &Facts, order: &[usize]) -> Next {
        let mut answerers = facts.needs.answerers();
        let mut asks = Vec::new();
        for &at in order {
            if answerers.lacks(at) {
                answerers.yes(at);
                self.asked.add(at);
                asks.push((at, self.read(!asks.is_empty())));
            }
        }
        Next::Ask(asks)
    }

    /// A primary told its whole state.
    pub fn on_state(&mut self, at: usize, told: (VersionSet, Epoch), facts: &Facts) -> Next {
        let (digest, state) = (told.0.digest(), told);
        self.heard = self.heard.max(state.1);
        self.tellers.yes(at);
        self.wholes.yes(at);
        match self.told.iter_mut().find(|told| told.at == at) {
            Some(told) => (told.digest, told.state) = (digest, Some(state)),
            None => self.told.push(Told { at, digest, state: Some(state) }),
        }
        self.advance(facts)
    }

    /// A primary told the digest of its state.
    pub fn on_digest(&mut self, at: usize, digest: u64, facts: &Facts) -> Next {
        if !self.tellers.has(at) {
            self.tellers.yes(at);
            self.told.push(Told { at, digest, state: None });
        }
        self.advance(facts)
    }

    /// A primary holds what was written back, durably.
    pub fn on_merge_ack(&mut self, at: usize, facts: &Facts) -> Next {
        let Some(write_back) = &mut self.write_back else {
            return Next::Wait;
        };
        write_back.on_ack(at);
        self.advance(facts)
    }

    /// A primary does not hold what was written back.
    pub fn on_lacks(&mut self, at: usize) -> Next {
        let write_back = self.write_back.as_mut();
        write_back.map_or(Next::Wait, |write_back| Next::Ask(write_back.on_lacks(at)))
    }

    /// A primary has purged something since what is written back was read: all is read anew, by those who have heard of that.
    pub fn on_outdated(&mut self, epoch: Epoch, facts: &Facts) -> Next {
        if self.write_back.is_none() || self.anew >= ANEW_MAX {
            return Next::Wait;
        }
        self.anew += 1;
        self.heard = self.heard.max(epoch);
        self.told.clear();
        (self.tellers, self.wholes) = (facts.needs.readers(), facts.needs.readers());
        (self.whole, self.write_back) = (true, None);
        Next::Ask(self.unanswered(facts))
    }

    /// A primary could not answer; another may.
    pub fn on_failed(&mut self, at: usize, facts: &Facts) -> Next {
        self.tellers.no(at);
        if self.write_back.is_none() && self.tellers.hopeless() {
            return Next::End(self.timed_out(facts));
        }
        // Only those nobody has asked: one that fails at once would be asked without end.
        let asks = self.others(facts);
        if asks.is_empty() { self.advance(facts) } else { Next::Ask(asks) }
    }

    /// A question has not left: whoever has not been asked yet is asked now, instead of after the hedge.
    pub fn on_not_sent(&mut self, at: usize, facts: &Facts) -> Next {
        if let Some(write_back) = &mut self.write_back {
            write_back.on_not_sent(at);
            return Next::Wait;
        }
        Next::Ask(self.others(facts))
    }

    /// Whether some primary has not been asked, and there is something to ask it: those that have been asked are slow.
    #[must_use]
    pub fn can_hedge(&self, facts: &Facts) -> bool {
        let all = facts.primaries.nodes().len();
        self.write_back.is_none() && self.asked.count() < all
    }

    /// What to ask of the primaries that have not been asked yet.
    pub fn others(&mut self, facts: &Facts) -> Vec<(usize, Question)> {
        let whole = self.whole || self.told.iter().all(|told| told.state.is_none());
        let fresh = (0..facts.primaries.nodes().len()).filter(|&at| self.asked.add(at));
        let fresh: Vec<usize> = fresh.collect();
        fresh.into_iter().map(|at| (at, self.read(!whole))).collect()
    }

    /// Whether other nodes than the primary at `me` took part.
    #[must_use]
    pub const fn asked_others(&self, me: Option<usize>) -> bool {
        match me {
            Some(me) => self.asked.count() > 1 || !self.asked.has(me),
            None => true,
        }
    }

    /// The state that was read, with the purge epoch that it was read under, and which primaries have told another one and were not
    /// brought it.
    #[must_use]
    pub fn lacking(&self) -> Option<((&VersionSet, Epoch), Vec<usize>)> {
        let told =
            || self.whole_states().next().map(|(state, epoch, digest)| ((state, epoch), digest));
        let (read, digest) = match &self.write_back {
            Some(spread) => ((spread.state(), spread.epoch()), spread.state().digest()),
            None => told()?,
        };
        let has = |told: &Told| {
            let sent = |spread: &Spread| spread.holders().has(told.at) || spread.was_sent(told.at);
            told.digest == digest || self.write_back.as_ref().is_some_and(sent)
        };
        let lacking = self.told.iter().filter(|told| !has(told)).map(|told| told.at);
        Some((read, lacking.collect()))
    }

    /// What to ask again of all who have not told what is wanted now.
    pub fn unanswered(&mut self, facts: &Facts) -> Vec<(usize, Question)> {
        if let Some(write_back) = &mut self.write_back {
            return write_back.unanswered(facts);
        }
        let all = 0..facts.primaries.nodes().len();
        let no_state = self.told.iter().all(|told| told.state.is_none());
        let lacks = |at: &usize| {
            let told = self.told.iter().find(|told| told.at == *at);
            told.is_none_or(|told| (self.whole || no_state) && told.state.is_none())
        };
        let asks: Vec<(usize, Question)> =
            all.filter(lacks).map(|at| (at, self.read(!(self.whole || no_state)))).collect();
        for &(at, _) in &asks {
            self.asked.add(at);
        }
        asks
    }

    /// The outcome when time is up. Reading changes nothing, so nothing is indeterminate, except for the write
    /// that is searched.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        match self.aim {
            // A search that found no dot proves nothing: the earlier attempt may still arrive.
            Aim::Write(_) => facts.unknown(),
            Aim::State => match &self.write_back {
                None => facts.too_few(&self.tellers),
                Some(spread) => {
                    let standing = spread.holders().standing();
                    Reply::unavailable(format!(
                        "the key's replicas differ, and {} are known to hold what they know together; {}",
                        counted(standing),
                        lacking(standing)
                    ))
                }
            },
        }
    }

    /// Who holds, as far as it has been told, the state of this digest.
    fn holders(&self, digest: u64, facts: &Facts) -> Tally {
        let mut holders = facts.needs.holders();
        for told in self.told.iter().filter(|told| told.digest == digest) {
            holders.yes(told.at);
        }
        holders
    }

    /// The states that were told as a whole, each with the epoch it was read under and its digest.
    fn whole_states(&self) -> impl Iterator<Item = (&VersionSet, Epoch, u64)> {
        self.told.iter().filter_map(|told| {
            let (state, epoch) = told.state.as_ref()?;
            Some((state, *epoch, told.digest))
        })
    }

    /// Goes on as far as what was told allows.
    fn advance(&mut self, facts: &Facts) -> Next {
        if let Some(write_back) = &self.write_back {
            if !write_back.holders().met() {
                return Next::Wait;
            }
            let (reply, found) = self.answer(write_back.state(), facts);
            self.found = found;
            return Next::End(reply);
        }
        if !self.tellers.met() {
            return Next::Wait;
        }
        let Some((first, read_under, digest)) = self.whole_states().next() else {
            return Next::Wait;
        };
        if facts.level == Level::One && self.aim == Aim::State {
            return Next::End(self.answer(first, facts).0);
        }
        if self.told.iter().all(|told| told.digest == digest) {
            let mut holders = self.holders(digest, facts);
            if holders.met() {
                let (reply, found) = self.answer(first, facts);
                self.found = found;
                return Next::End(reply);
            }
            // Those who tell nothing may hold it all the same, as owners do who do not have all of their unit yet: they are brought it.
            for at in (0..facts.primaries.nodes().len()).filter(|&at| self.tellers.has_refused(at))
            {
                holders.no(at);
            }
            if !holders.hopeless() {
                return Next::Wait;
            }
            let read = (first.clone(), read_under);
            return self.write_back(read, facts);
        }
        if !self.wholes.met() {
            if self.whole {
                return Next::Wait;
            }
            self.whole = true;
            return Next::Ask(self.unanswered(facts));
        }
        // What the least of them has purged the others may have purged since.
        let (mut merged, mut least) = (VersionSet::default(), self.heard);
        for (state, epoch, _) in self.whole_states() {
            merged.merge(state);
            least = least.min(epoch);
        }
        self.write_back((merged, least), facts)
    }

    fn write_back(&mut self, (merged, epoch): (VersionSet, Epoch), facts: &Facts) -> Next {
        if !merged.fits() {
            // What coordinators accept fits together; more than that comes of copies that lost what they had accepted.
            let why = "the key's replicas hold more together than one record can; overwrite it";
            return Next::End(Reply::unavailable(why).lasting());
        }
        let holders = self.holders(merged.digest(), facts);
        self.write_back = Some(Spread::new(merged, epoch, holders));
        match self.advance(facts) {
            Next::Wait => Next::Ask(self.unanswered(facts)),
            next => next,
        }
    }

    const fn read(&self, digest_only: bool) -> Question {
        Question::Read { digest_only, heard: self.heard }
    }

    /// The answer, and the write that was searched, if it was found.
    fn answer(&self, state: &VersionSet, facts: &Facts) -> (Reply, Option<Written>) {
        match self.aim {
            Aim::State => (answer(state, facts), None),
            Aim::Write(sought) => outcome(state, sought, facts),
        }
    }
}

/// What a read is told of a key in this state.
pub fn answer(state: &VersionSet, facts: &Facts) -> Reply {
    let context = Context { clock: state.clock(), highest: state.highest_hlc() };
    let is_there = |version: &Version| version.is_there_at(facts.at);
    let mut values: Vec<_> = state.versions().filter(|(_, version)| is_there(version)).collect();
    let stamp = |(dot, version): &(Dot, &Version)| (version.stamp(dot.actor), dot.n);
    values.sort_by_key(|value| std::cmp::Reverse(stamp(value)));
    let siblings: Vec<Sibling> =
        values.iter().map(|&(dot, version)| sibling(dot, version)).collect();
    let deleted = state.winner().is_none_or(|(_, winner)| !is_there(winner));
    // The context covers all of them, so all of them are told, also those beside a delete that has won.
    if siblings.is_empty() || (deleted && facts.policy == Policy::Newest) {
        return Reply::NotFound { siblings, context, by: By::Primaries };
    }
    Reply::Found { siblings, context, by: By::Primaries }
}

fn sibling(dot: Dot, version: &Version) -> Sibling {
    Sibling {
        version: version.stamp(dot.actor),
        digest: version.digest,
        content_type: version.content_type.clone(),
        expires: version.expires,
        value: version.value.clone(),
    }
}

/// What became of the write of the request. Its writer has seen nothing else that is here: it is told what it
/// knew when it wrote, and its own dot.
fn outcome(state: &VersionSet, sought: Option<Written>, facts: &Facts) -> (Reply, Option<Written>) {
    let id = facts.request.id;
    let wrote = put::version(facts, Hlc(0));
    let same = |version: &Version| {
        version.request == id
            && version.tombstone == wrote.tombstone
            && version.digest == wrote.digest
    };
    let found = match sought {
        // Overwritten or not, it is here: who knows a dot knows it and all that came of it.
        Some(written) => Some(written).filter(|written| state.clock().covers(written.dot)),
        None => state
            .versions()
            .filter(|(_, version)| same(version))
            .map(|(dot, version)| Written { dot, hlc: version.hlc })
            .max_by_key(|written| (written.hlc, written.dot)),
    };
    let Some(written) = found else {
        return (facts.unknown(), None);
    };
    let sent = match &facts.request.action {
        Action::Put { context, .. } | Action::Delete { context } => context.clone(),
        Action::Get => None,
    };
    let sent = sent.unwrap_or_default();
    let clock = state.known_to_writer(&sent.clock, written.dot);
    let context = Context { clock, highest: sent.highest.max(written.hlc) };
    (Reply::Stored { context, version: written.stamp(), by: By::Primaries }, found)
}
