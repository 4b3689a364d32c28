//! One key that is purged, by the owner of its unit that comes first: the two phases, and what each owner has said.
//!
//! 1. *Confirm*: the state goes to every owner under every live layout. Each merges it, and says when exactly that is durable there,
//!    and when it owes the key to nobody and has all of the unit.
//! 2. *Purge*: when all have confirmed, and not before, each deletes it if it is still that, or takes the dead actors out of it. Who purges
//!    does so last, when all others have: as long as anybody has it, it is found again, and both phases with it.
//!
//! Age alone is never enough: an owner that missed the delete would bring the value back
//! (<https://github.com/scylladb/scylladb/issues/3560>), and who asks while another is away asks too early
//! (<https://github.com/basho/riak_kv/pull/226>).
//!
//! Invariants: phase 2 begins when every owner has confirmed under the very layouts of the run; its epoch is above all that they had. A
//! message of phase 2 may come at any later time: it names a state that all have had.

use std::collections::BTreeSet;

use crate::env::Mono;
use crate::id::{ActorId, Epoch, NodeId, Unit};
use crate::layout::live::LayoutSet;
use crate::version::dvv::VersionSet;
use crate::wire::key::{Answer, Blocked, KeyRef, Question};

/// So long an answer is waited for, in milliseconds.
const WAIT_MS: u64 = 1_000;
/// So often the second phase is told again whom it has not reached.
const REPEATS_MAX: u32 = 5;

/// What is purged of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// All of it.
    Key,
    /// What is known of actors that are not registered any more.
    Actors,
}

/// What comes of an answer, or of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing yet.
    Wait,
    /// This is asked of these.
    Ask(Vec<NodeId>, Question),
    /// It has ended: all owners have done it.
    Done,
    /// It has ended before anything was deleted.
    Blocked(Blocked),
    /// Some have deleted it, and others have not been reached: it will be found again.
    Unfinished,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// The state has not been read.
    Read,
    Confirm,
    Purge {
        question: Question,
        repeats: u32,
    },
}

/// Who is asked about a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Its owners under every live layout: all of them confirm, and delete.
    pub owners: Vec<NodeId>,
    /// Others who may hold something of it, and confirm that they do not.
    pub others: Vec<NodeId>,
}

/// A key on its way out.
#[derive(Debug)]
pub struct Run {
    /// The key.
    pub key: KeyRef,
    /// Its unit.
    pub unit: Unit,
    /// What is purged of it.
    pub aim: Aim,
    /// When it is looked at again.
    pub until: Mono,
    layouts: LayoutSet,
    me: NodeId,
    asked: Asked,
    state: VersionSet,
    phase: Phase,
    answered: BTreeSet<NodeId>,
    /// The highest epoch that an owner has.
    epoch: Epoch,
    /// The actors that owners issue with.
    registered: BTreeSet<ActorId>,
}

impl Asked {
    /// Who confirms.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owners.iter().chain(&self.others).copied()
    }
}

impl Run {
    /// A key whose state has not been read yet.
    #[must_use]
    pub fn new(
        (key, unit, aim): (KeyRef, Unit, Aim),
        (me, asked): (NodeId, Asked),
        layouts: LayoutSet,
        now: Mono,
    ) -> Run {
        Run {
            key,
            unit,
            aim,
            until: now.plus_ms(WAIT_MS),
            layouts,
            me,
            asked,
            state: VersionSet::default(),
            phase: Phase::Read,
            answered: BTreeSet::new(),
            epoch: Epoch::default(),
            registered: BTreeSet::new(),
        }
    }

    /// The layouts that it began under.
    #[must_use]
    pub const fn layouts(&self) -> &LayoutSet {
        &self.layouts
    }

    /// What the owners issue with, as far as they have said it.
    #[must_use]
    pub const fn registered(&self) -> &BTreeSet<ActorId> {
        &self.registered
    }

    /// The state has been read, durable, under this epoch.
    pub fn read(&mut self, state: VersionSet, epoch: Epoch, now: Mono) -> Next {
        if self.phase != Phase::Read {
            return Next::Wait;
        }
        (self.phase, self.state, self.until) =
            (Phase::Confirm, state.clone(), now.plus_ms(WAIT_MS));
        Next::Ask(self.asked.all().collect(), Question::Confirm { state, epoch })
    }

    /// An owner has answered. `clock` is above every epoch of purges that were before.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (layouts, answer): (&LayoutSet, Answer),
        clock: Epoch,
        now: Mono,
    ) -> Next {
        if !self.asked.all().any(|node| node == from) {
            return Next::Wait;
        }
        match (&self.phase, answer) {
            // An owner that has one layout more has owners beside it that nobody has asked.
            (Phase::Confirm, Answer::Confirmed { .. }) if *layouts != self.layouts => {
                Next::Blocked(Blocked::OtherLayouts)
            }
            (Phase::Confirm, Answer::Confirmed { epoch, actor }) => {
                self.answered.insert(from);
                self.epoch = self.epoch.max(epoch);
                self.registered.extend(actor);
                match self.answered.len() == self.asked.all().count() {
                    true => self.purge(clock, now),
                    false => Next::Wait,
                }
            }
            (Phase::Confirm, Answer::NotConfirmed { why }) => Next::Blocked(why),
            (Phase::Confirm, Answer::Outdated { .. }) => Next::Blocked(Blocked::Differs),
            (Phase::Confirm, Answer::StaleLayout) => Next::Blocked(Blocked::OtherLayouts),
            (Phase::Confirm, Answer::NotCounted) => Next::Blocked(Blocked::Partial),
            (Phase::Confirm, Answer::Failed) => Next::Blocked(Blocked::Failed),
            // Somebody writes the key anew: what is new stays.
            (Phase::Purge { question, .. }, Answer::MergeAck | Answer::Lacks)
                if self.asked.owners.contains(&from) =>
            {
                let is_first = self.answered.insert(from);
                match self.asked.owners.len() - self.answered.len() {
                    0 => Next::Done,
                    1 if is_first => self.ask_myself(question.clone()),
                    _ => Next::Wait,
                }
            }
            (_, _) => Next::Wait,
        }
    }

    /// All have confirmed.
    fn purge(&mut self, clock: Epoch, now: Mono) -> Next {
        let epoch = Epoch(self.epoch.0.saturating_add(1)).max(clock);
        let gone: Vec<ActorId> = match self.aim {
            Aim::Key => Vec::new(),
            Aim::Actors => self.state.without_versions(&self.registered).collect(),
        };
        if self.aim == Aim::Actors && gone.is_empty() {
            return Next::Done;
        }
        let question = Question::Purge { digest: self.state.digest(), epoch, gone };
        self.answered.clear();
        self.phase = Phase::Purge { question: question.clone(), repeats: 0 };
        self.until = now.plus_ms(WAIT_MS);
        match self.silent() {
            others if others.is_empty() => self.ask_myself(question),
            others => Next::Ask(others, question),
        }
    }

    fn ask_myself(&self, question: Question) -> Next {
        Next::Ask(vec![self.me], question)
    }

    /// The other owners that have not answered.
    fn silent(&self) -> Vec<NodeId> {
        let is_silent = |owner: &&NodeId| **owner != self.me && !self.answered.contains(owner);
        self.asked.owners.iter().filter(is_silent).copied().collect()
    }

    /// It has waited long enough.
    pub fn late(&mut self, now: Mono) -> Next {
        self.until = now.plus_ms(WAIT_MS);
        match &mut self.phase {
            Phase::Read => Next::Blocked(Blocked::Failed),
            Phase::Confirm => Next::Blocked(Blocked::Absent),
            Phase::Purge { repeats, .. } if *repeats >= REPEATS_MAX => Next::Unfinished,
            Phase::Purge { question, repeats } => {
                *repeats += 1;
                let question = question.clone();
                match self.silent() {
                    others if others.is_empty() => self.ask_myself(question),
                    others => Next::Ask(others, question),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyspaceId, RequestId};
    use crate::layout::LayoutRef;
    use crate::version::dvv::Version;
    use crate::version::hlc::Hlc;

    fn layouts(version: u64) -> LayoutSet {
        LayoutSet::one(LayoutRef { version: crate::id::LayoutVersion(version), digest: 1 })
    }

    fn run(aim: Aim) -> Run {
        with_others(aim, Vec::new())
    }

    fn with_others(aim: Aim, others: Vec<NodeId>) -> Run {
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        let owners = [1, 2, 3].map(NodeId).to_vec();
        let asked = (NodeId(1), Asked { owners, others });
        let mut run = Run::new((key, Unit::default(), aim), asked, layouts(1), Mono(0));
        let mut state = VersionSet::default();
        for actor in 1..=5 {
            let version = Version::tombstone(Hlc(actor), RequestId(1));
            let known = state.clock();
            state.put(&known, ActorId(actor), version);
        }
        let next = run.read(state.clone(), Epoch(3), Mono(0));
        let asked = Question::Confirm { state, epoch: Epoch(3) };
        let all = run.asked.all().collect();
        assert_eq!(next, Next::Ask(all, asked));
        run
    }

    fn confirm(run: &mut Run, node: u128, epoch: u64) -> Next {
        let actor = Some(ActorId(node as u64));
        let answer = Answer::Confirmed { epoch: Epoch(epoch), actor };
        run.on_answer(NodeId(node), (&layouts(1), answer), Epoch(0), Mono(0))
    }

    #[test]
    fn nothing_is_deleted_before_every_owner_has_confirmed_and_its_epoch_is_above_theirs() {
        let mut run = run(Aim::Key);
        assert_eq!(confirm(&mut run, 1, 3), Next::Wait);
        assert_eq!(confirm(&mut run, 2, 7), Next::Wait);
        assert_eq!(confirm(&mut run, 2, 9), Next::Wait, "twice is once");
        assert_eq!(confirm(&mut run, 9, 3), Next::Wait, "no owner");
        let Next::Ask(owners, Question::Purge { epoch, gone, .. }) = confirm(&mut run, 3, 1) else {
            panic!("all have confirmed");
        };
        assert_eq!((owners, epoch, gone), ([2, 3].map(NodeId).into(), Epoch(10), Vec::new()));
        let done = |run: &mut Run, node, answer| {
            run.on_answer(NodeId(node), (&layouts(1), answer), Epoch(0), Mono(0))
        };
        let Next::Ask(again, _) = run.late(Mono(9)) else { panic!("who is silent is told again") };
        assert_eq!(again, [2, 3].map(NodeId));
        assert_eq!(done(&mut run, 2, Answer::Lacks), Next::Wait, "written anew there");
        let Next::Ask(last, _) = done(&mut run, 3, Answer::MergeAck) else { panic!("one is left") };
        assert_eq!(last, [NodeId(1)]);
        assert_eq!(done(&mut run, 3, Answer::MergeAck), Next::Wait, "twice is once");
        assert_eq!(done(&mut run, 1, Answer::MergeAck), Next::Done);
    }

    #[test]
    fn who_may_hold_something_confirms_and_only_owners_delete() {
        let mut run = with_others(Aim::Key, vec![NodeId(5)]);
        for owner in 1..=3 {
            assert_eq!(confirm(&mut run, owner, 3), Next::Wait);
        }
        let Next::Ask(owners, _) = confirm(&mut run, 5, 0) else { panic!("all have confirmed") };
        assert_eq!(owners, [2, 3].map(NodeId));
        let mut done =
            |node| run.on_answer(NodeId(node), (&layouts(1), Answer::MergeAck), Epoch(0), Mono(0));
        assert_eq!((done(2), done(5)), (Next::Wait, Next::Wait), "it was not asked");
        assert!(matches!(done(3), Next::Ask(last, _) if last == [NodeId(1)]));
    }

    #[test]
    fn one_that_does_not_confirm_is_enough_and_so_is_one_with_another_layout() {
        let why = Answer::NotConfirmed { why: Blocked::Owed };
        let other = Answer::Confirmed { epoch: Epoch(0), actor: None };
        for (under, answer, blocked) in [
            (1, why, Blocked::Owed),
            (2, other, Blocked::OtherLayouts),
            (1, Answer::StaleLayout, Blocked::OtherLayouts),
            (1, Answer::NotCounted, Blocked::Partial),
            (1, Answer::Failed, Blocked::Failed),
        ] {
            let mut run = run(Aim::Key);
            assert_eq!(confirm(&mut run, 1, 3), Next::Wait);
            let next = run.on_answer(NodeId(2), (&layouts(under), answer), Epoch(0), Mono(0));
            assert_eq!(next, Next::Blocked(blocked));
        }
        assert_eq!(run(Aim::Key).late(Mono(9)), Next::Blocked(Blocked::Absent));
    }

    #[test]
    fn an_actor_is_dead_when_no_owner_issues_with_it_and_nothing_of_it_is_there() {
        let mut run = run(Aim::Actors);
        confirm(&mut run, 1, 0);
        confirm(&mut run, 2, 0);
        let Next::Ask(_, Question::Purge { gone, .. }) = confirm(&mut run, 3, 0) else {
            panic!("all have confirmed");
        };
        assert_eq!(gone, [ActorId(4)], "the tombstone is of the fifth");
    }
}
