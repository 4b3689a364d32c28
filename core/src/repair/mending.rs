//! One key that differs between two nodes, made equal: the other's state is read, then the one here; what this node lacks is merged
//! here, and then the other is brought what it lacks.
//!
//! Invariants: what has become equal meanwhile is neither merged nor brought; a record that cannot be read ends it.

use crate::id::Epoch;
use crate::version::dvv::VersionSet;
use crate::wire::key::{Answer, KeyRef, Question};
use crate::wire::repair::Compare;
use crate::wire::state::weight;

/// What is to be sent next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Say {
    /// A question about trees, to the other.
    Compare(Compare),
    /// A question about a key, to the other.
    Ask(KeyRef, Question),
    /// A question about a key, to this node itself.
    AskHere(KeyRef, Question),
}

/// Why an exchange did not come to an end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The other does not answer.
    Silent,
    /// A record cannot be read, here or there.
    Unreadable,
    /// The other has other layouts, or does not have all of the unit, or one of the trees is not complete.
    NotCounted,
    /// Its trees are made of other hashes.
    OtherFormat,
    /// What was to be merged could not be stored.
    NotStored,
}

/// What comes of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// It was not the one that is waited for.
    Nothing,
    /// This is to be said next, under the same number.
    Say(Say),
    /// Both have the same now.
    Ended,
}

/// Numbers for questions, of which each is drawn once.
#[derive(Debug)]
pub struct Names {
    last: u64,
    bit: u64,
}

impl Names {
    /// Numbers with this bit.
    #[must_use]
    pub const fn with(bit: u64) -> Names {
        Names { last: 0, bit }
    }

    /// The next one.
    pub const fn draw(&mut self) -> u64 {
        self.last += 1;
        self.last | self.bit
    }
}

/// A key that is being made equal.
#[derive(Debug)]
pub struct Mending {
    /// The key.
    pub key: KeyRef,
    /// What its values have in bytes, about.
    pub bytes: u64,
    /// Something was merged here.
    pub has_taken: bool,
    /// Something was merged there.
    pub has_brought: bool,
    theirs: Option<(VersionSet, Epoch)>,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    ReadThere,
    ReadHere,
    MergeHere,
    MergeThere,
}

impl Mending {
    /// Nothing has been read yet; `Say::Ask` with a read comes first.
    #[must_use]
    pub const fn new(key: KeyRef, bytes: u64) -> Mending {
        let step = Step::ReadThere;
        Mending { key, bytes, has_taken: false, has_brought: false, theirs: None, step }
    }

    /// Whether it waits for an answer of this node itself.
    #[must_use]
    pub const fn waits_here(&self) -> bool {
        matches!(self.step, Step::ReadHere | Step::MergeHere)
    }

    /// The answer that it waits for.
    pub fn on_answer(&mut self, answer: Answer) -> Result<Told, Why> {
        let say = match (self.step, answer) {
            (Step::ReadThere, Answer::State { state, epoch }) => {
                self.bytes = self.bytes.max(weight(&state) as u64);
                self.theirs = Some((state, epoch));
                Some(self.read_here(epoch))
            }
            (Step::ReadHere, Answer::State { state, epoch }) => self.compare((&state, epoch)),
            (Step::MergeHere, Answer::MergeAck) => {
                self.has_taken = true;
                // What was merged may be less than what is here: it is read once more, to know what the other lacks.
                Some(self.read_here(Epoch::default()))
            }
            (Step::MergeThere, Answer::MergeAck) => {
                self.has_brought = true;
                None
            }
            (_, Answer::StaleLayout | Answer::NotCounted) => return Err(Why::NotCounted),
            // Who has not heard of a purge hears of it with the next read.
            (Step::MergeHere | Step::MergeThere, Answer::Failed | Answer::Outdated { .. }) => {
                return Err(Why::NotStored);
            }
            (_, Answer::Failed) => return Err(Why::Unreadable),
            (_, _) => return Ok(Told::Nothing),
        };
        Ok(say.map_or(Told::Ended, Told::Say))
    }

    /// Both states are known: what this node lacks is merged here, then what the other lacks is brought.
    fn compare(&mut self, (here, epoch): (&VersionSet, Epoch)) -> Option<Say> {
        let Some((theirs, read_under)) = &self.theirs else {
            return None;
        };
        self.bytes = self.bytes.max(weight(here) as u64);
        let mut both = here.clone();
        let is_new_here = both.merge(theirs);
        if is_new_here {
            let (state, epoch) = (theirs.clone(), *read_under);
            self.step = Step::MergeHere;
            return Some(Say::AskHere(self.key.clone(), Question::Merge { state, epoch }));
        }
        let mut there = theirs.clone();
        if !there.merge(here) {
            return None;
        }
        self.step = Step::MergeThere;
        // Nothing of theirs was new here: it is what was read here.
        Some(Say::Ask(self.key.clone(), Question::Merge { state: both, epoch }))
    }

    fn read_here(&mut self, heard: Epoch) -> Say {
        self.step = Step::ReadHere;
        Say::AskHere(self.key.clone(), Question::Read { digest_only: false, heard })
    }
}
