//! Bringing a state to as many replicas as must hold it: the write round of a put, and the write-back of a read.
//!
//! The state, with its values, goes to each replica once. Whoever is silent then is asked whether it holds it, by an
//! outline; only one that says it lacks it is sent the state again. So a stall, in which everybody is silent, is not made
//! worse by what is repeated (the metastable failures of Bronson, Aghayev, Charapko, Zhu, HotOS 2021).

use crate::id::Epoch;
use crate::quorum::{Members, Tally};
use crate::request::operation::Facts;
use crate::version::dvv::VersionSet;
use crate::version::outline::Outline;
use crate::wire::key::Question;

/// A state on its way.
#[derive(Debug)]
pub struct Spread {
    state: VersionSet,
    /// The purge epoch that it was read under.
    epoch: Epoch,
    holders: Tally,
    /// Whom it has been sent to, and has left for.
    sent: Members,
}

impl Spread {
    /// A state that nobody has been sent, and who is known to hold it.
    #[must_use]
    pub const fn new(state: VersionSet, epoch: Epoch, holders: Tally) -> Spread {
        Spread { state, epoch, holders, sent: Members::NONE }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &VersionSet {
        &self.state
    }

    /// The purge epoch that it was read under.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who is known to hold it, durably.
    #[must_use]
    pub const fn holders(&self) -> &Tally {
        &self.holders
    }

    /// The primary at `at` holds it, durably.
    pub const fn on_ack(&mut self, at: usize) {
        self.holders.yes(at);
    }

    /// The primary at `at` says that it does not hold it: it is sent the state again.
    pub fn on_lacks(&mut self, at: usize) -> Vec<(usize, Question)> {
        if self.holders.has(at) {
            return Vec::new();
        }
        vec![self.bring(at)]
    }

    /// Whether the state has been sent to the primary at `at`, and has left.
    #[must_use]
    pub const fn was_sent(&self, at: usize) -> bool {
        self.sent.has(at)
    }

    /// What was sent to the primary at `at` has not left.
    pub const fn on_not_sent(&mut self, at: usize) {
        self.sent.remove(at);
    }

    /// The `count` replicas have other places now, those that are still there, and other ones must hold the state too.
    pub fn move_on(&mut self, count: usize, now: impl Fn(usize) -> Option<usize>, holders: Tally) {
        let before = std::mem::replace(&mut self.holders, holders);
        let sent = std::mem::replace(&mut self.sent, Members::NONE);
        for (at, place) in (0..count).filter_map(|at| Some((at, now(at)?))) {
            if before.has(at) {
                self.holders.yes(place);
            }
            if sent.has(at) {
                self.sent.add(place);
            }
        }
    }

    /// The state, to the primary at `at`.
    pub fn bring(&mut self, at: usize) -> (usize, Question) {
        self.sent.add(at);
        (at, Question::Merge { state: self.state.clone(), epoch: self.epoch })
    }

    /// What to send to those who are silent: the state to those whom it has not left for, else the question.
    pub fn unanswered(&mut self, facts: &Facts) -> Vec<(usize, Question)> {
        let outline = Outline::of(&self.state);
        let silent: Vec<usize> =
            (0..facts.primaries.nodes().len()).filter(|&at| !self.holders.has(at)).collect();
        let ask = |at: usize| {
            if !self.sent.has(at) {
                return self.bring(at);
            }
            (at, Question::Holds { outline: outline.clone() })
        };
        silent.into_iter().map(ask).collect()
    }
}
