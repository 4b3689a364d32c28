//! How a shard answers a coordinator, perhaps its own: from the local copy, at once, when a write is durable, or after a cold
//! read.

use super::Shard;
use crate::buggify;
use crate::error::Result;
use crate::handoff::handing::is_handed_over;
use crate::id::{Lsn, NodeId, OpId, Unit};
use crate::layout::live::is_owner;
use crate::member::view::View;
use crate::parked::Parked;
use crate::quorum::Primaries;
use crate::replica::read::Trouble;
use crate::sometimes;
use crate::step::Env;
use crate::transfer::leaving::is_parted_with;
use crate::version::dvv::VersionSet;
use crate::wire::key::{Answer, Ask, KeyMessage, KeyRef, Question, Room};
use crate::wire::message::Message;

impl Shard {
    /// Serves a coordinator's question about a key from the local copy.
    pub(super) fn serve(
        &mut self,
        from: NodeId,
        ask: Ask,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let op = ask.op;
        if buggify!(env, QuestionRefused) {
            self.tell(from, op, Answer::Failed, view);
            return Ok(());
        }
        match self.consult(from, &ask, view, env) {
            Ok((answer, None)) => self.tell(from, op, answer, view),
            Ok((answer, Some(lsn))) => {
                if !self.held.answer(lsn, from, (op, view.layout_set.clone()), answer) {
                    sometimes!(env, NoRoomToHold);
                    self.tell(from, op, Answer::Failed, view);
                }
            }
            Err(Trouble::Cold(ticket)) => {
                sometimes!(env, ColdQuestion);
                let key = ask.key.clone();
                self.park(key, ticket, Parked::Ask(from, ask), env)?;
            }
            Err(Trouble::Failed(error)) => {
                self.note_rotten(&ask.key, &error, env);
                self.tell(from, op, Answer::Failed, view);
            }
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        Ok(())
    }

    /// The answer of the local copy, and the write that must be durable before it may leave.
    fn consult(
        &mut self,
        from: NodeId,
        Ask { op, key, question, .. }: &Ask,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<(Answer, Option<Lsn>), Trouble> {
        let found = view.newest().and_then(|layout| layout.unit(key.keyspace, key.token()));
        let Some(unit) = found.filter(|&unit| is_owner(view.layouts, self.me, unit)) else {
            let partitions = view.newest().map_or(1, |layout| layout.partitions());
            return match (question, found) {
                (Question::Confirm { state, .. }, Some(unit)) => {
                    self.confirm_elsewhere((key, unit), state, partitions, env)
                }
                _ => Ok((Answer::NotCounted, None)),
            };
        };
        if buggify!(env, NotCountedSaid) {
            return Ok((Answer::NotCounted, None));
        }
        if question.tells() && !self.transfers.units.counts(unit) {
            sometimes!(env, PartialAsked);
            return Ok((Answer::NotCounted, None));
        }
        let (answer, lsn, is_read) = match question {
            Question::Query => {
                let (clock, highest) = self.replica.query(key, unit, env.engine())?;
                let room = Room(!env.engine().is_nearly_full());
                return Ok((Answer::Query { clock, highest, room }, None));
            }
            Question::Read { digest_only, heard } => {
                self.hear_of(unit, *heard, view, env);
                let epoch = self.replica.purged().row(unit).epoch;
                let loaded = self.replica.read(key, unit, env.engine())?;
                let answer = if *digest_only && !buggify!(env, StateInsteadOfDigest) {
                    Answer::Digest { digest: loaded.state.digest() }
                } else {
                    Answer::State { state: loaded.state, epoch }
                };
                (answer, loaded.lsn, true)
            }
            Question::Merge { state, epoch } => {
                if let Some(outdated) = self.outdated((key, unit), (state, *epoch), view, env) {
                    return Ok((outdated, None));
                }
                if is_of_a_fallback(from, *op, (key, unit), view)
                    && !self.has_room_for((key, unit), state, view, env)?
                {
                    return Ok((Answer::Failed, None));
                }
                (Answer::MergeAck, self.replica.merge(key, unit, state, env)?, false)
            }
            Question::Holds { outline } => {
                let loaded = self.replica.read(key, unit, env.engine())?;
                let holds = outline.is_within(&loaded.state);
                sometimes!(env, RepeatedMergeLacked, !holds);
                if !holds {
                    return Ok((Answer::Lacks, None));
                }
                (Answer::MergeAck, loaded.lsn, false)
            }
            Question::Confirm { state, epoch } => {
                match self.confirm((key, unit), (state, *epoch), view, env)? {
                    (answer, Some(lsn)) => (answer, lsn, false),
                    (answer, None) => return Ok((answer, None)),
                }
            }
            Question::Purge { digest, epoch, gone } => {
                let which = (*digest, *epoch);
                match self.purge_here((key, unit), which, gone, env)? {
                    Some(lsn) => (Answer::MergeAck, lsn, false),
                    None => return Ok((Answer::Lacks, None)),
                }
            }
        };
        let durable = env.engine().durable();
        sometimes!(env, ReadNotDurableYet, is_read && lsn > durable);
        Ok((answer, (lsn > durable).then_some(lsn)))
    }

    /// Whether what a fallback hands over leaves the key as small as what this owner would write itself. What all owners took so fits
    /// together in one record; and that is not so of what any number of fallbacks took.
    fn has_room_for(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        state: &VersionSet,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<bool, Trouble> {
        let owners = Primaries::under(view.layouts, unit).nodes().len();
        let (fits, is_crowded) = self.replica.fits((key, unit), state, owners, env.engine())?;
        sometimes!(env, HandoverHadNoRoom, !fits);
        if is_crowded {
            // Each time that a fallback takes a key on it has an actor of its own for it, which has gone with its record.
            self.repairs.purger.compact(key, unit, env.mono());
        }
        Ok(fits)
    }

    /// Answers a question.
    pub(super) fn tell(&mut self, to: NodeId, op: OpId, answer: Answer, view: View<'_>) {
        let layouts = view.layout_set.clone();
        self.out.push_back((to, Message::Key(KeyMessage::Answer { op, layouts, answer })));
    }
}

/// Whether a question hands something over that a node may have taken on as a fallback.
fn is_of_a_fallback(from: NodeId, op: OpId, (key, unit): (&KeyRef, Unit), view: View<'_>) -> bool {
    (is_handed_over(op) || is_parted_with(op))
        && !is_owner(view.layouts, from, unit)
        && view.newest().is_some_and(|layout| layout.is_sloppy(key.keyspace))
}
