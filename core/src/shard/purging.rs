//! What a shard does about keys that are purged: those that it purges itself, what it says to others who do, and states that come late.

use std::collections::BTreeSet;

use super::Shard;
use crate::buggify;
use crate::config::QUARANTINED_MAX;
use crate::error::Result;
use crate::id::{ActorId, Epoch, Lsn, NodeId, OpId, Unit};
use crate::layout::live::{LayoutSet, is_owner};
use crate::member::view::View;
use crate::parked::Parked;
use crate::purge::purger::{Around, Purger};
use crate::replica::read::Trouble;
use crate::sometimes;
use crate::status::{PurgeStatus, TAKING_SHOWN_MAX, WaitingStatus};
use crate::step::Env;
use crate::version::dvv::VersionSet;
use crate::wire::key::{Answer, Ask, Blocked, KeyMessage, KeyRef, Question};
use crate::wire::message::Message;

/// States that came late.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Those that were refused here.
    refused: u64,
    /// Keys of units that this node does not own, and that their owners have refused: nobody may know any more whether they were purged.
    quarantined: BTreeSet<KeyRef>,
    /// The layouts that those were found under.
    under: LayoutSet,
}

impl Shard {
    /// An owner has refused what is here of a key. An owner hears of the purge by that, and asks anew; what one has that is none stays.
    pub(super) fn refused(&mut self, key: KeyRef, unit: Unit, view: View<'_>, env: &impl Env) {
        if self.repairs.late.under != *view.layout_set {
            self.repairs.late.under = view.layout_set.clone();
            self.repairs.late.quarantined.clear();
        }
        let is_none = !is_owner(view.layouts, self.me, unit);
        if is_none && self.repairs.late.quarantined.len() < QUARANTINED_MAX {
            sometimes!(env, LateStateKept);
            self.repairs.late.quarantined.insert(key);
        }
    }

    /// What was purged, and what was in the way.
    #[must_use]
    pub fn purge_status(&self) -> PurgeStatus {
        let tally = self.repairs.purger.tally();
        let waiting = self.repairs.purger.blocked().iter().map(|(unit, why)| WaitingStatus {
            group: unit.group.0,
            partition: unit.partition.0,
            why: in_words(*why),
        });
        PurgeStatus {
            grace_ms: self.repairs.purger.grace_ms(),
            purged_keys: tally.keys,
            compacted_keys: tally.compacted,
            blocked: tally.blocked,
            unfinished: tally.unfinished,
            in_flight: self.repairs.purger.in_flight() as u64,
            late_states: self.repairs.late.refused,
            quarantined: self.repairs.late.quarantined.len() as u64,
            waiting: waiting.take(TAKING_SHOWN_MAX).collect(),
        }
    }

    /// An epoch was heard of. One that has all of a unit was asked in each of its purges: it takes it up.
    pub(super) fn hear_of(&mut self, unit: Unit, epoch: Epoch, view: View<'_>, env: &impl Env) {
        let may = is_owner(view.layouts, self.me, unit) && self.transfers.units.get(unit).is_none();
        let is_new = may && self.replica.purged_mut().hear(unit, epoch);
        sometimes!(env, EpochHeard, is_new);
    }

    /// Who reads tells the highest epoch that it has heard of, so that nobody is behind for long.
    pub(super) fn tell_epoch(&self, message: &mut Message, view: View<'_>) {
        let Message::Key(KeyMessage::Ask(Ask { key, question, .. })) = message else {
            return;
        };
        let Question::Read { heard, .. } = question else {
            return;
        };
        if let Some(unit) = view.newest().and_then(|layout| layout.unit(key.keyspace, key.token()))
        {
            *heard = (*heard).max(self.replica.purged().row(unit).epoch);
        }
    }

    /// What is said of a state that may be a part of what was purged since it was read; `None`: it is merged.
    pub(super) fn outdated(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        (state, epoch): (&VersionSet, Epoch),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Option<Answer> {
        self.hear_of(unit, epoch, view, env);
        let is_late = self.replica.purged().is_late(unit, epoch, state);
        sometimes!(env, LateStateRefused, is_late);
        self.repairs.late.refused += u64::from(is_late);
        let epoch = self.replica.purged().row(unit).epoch;
        is_late.then(|| {
            let has = self.replica.has((key, unit), state, env.engine());
            Answer::Outdated { unit, epoch, has }
        })
    }

    /// Whether this is what is here of a key, once it is merged, and nothing is in the way of purging it. The write that must be durable
    /// before that is said.
    pub(super) fn confirm(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        told: (&VersionSet, Epoch),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<(Answer, Option<Lsn>), Trouble> {
        let blocked = |why| Ok((Answer::NotConfirmed { why }, None));
        if buggify!(env, PurgeNotConfirmed) {
            return blocked(Blocked::Failed);
        }
        // Also one that is behind: what it still takes may be older than what it confirms.
        if self.transfers.units.get(unit).is_some() {
            return blocked(Blocked::Partial);
        }
        if self.handoff.has(unit, key, env.engine()) {
            return blocked(Blocked::Owed);
        }
        if let Some(outdated) = self.outdated((key, unit), told, view, env) {
            return Ok((outdated, None));
        }
        let lsn = self.replica.merge(key, unit, told.0, env)?;
        let here = self.replica.read(key, unit, env.engine())?;
        if here.state.digest() != told.0.digest() {
            return blocked(Blocked::Differs);
        }
        sometimes!(env, PurgeConfirmed);
        let (epoch, actor) = (self.replica.purged().row(unit).epoch, self.replica.actor(unit));
        Ok((Answer::Confirmed { epoch, actor }, Some(lsn.max(here.lsn))))
    }

    /// Whether this node, which does not own the key, has nothing of it, and owes nothing of its whole unit: as a fallback it may have
    /// taken a write that no owner has heard of, and as an owner of before have kept one; and the owners take what is older than
    /// the purge of another key for a part of that. What it takes on from now on is above what is purged. The write that must be durable
    /// before that is said.
    pub(super) fn confirm_elsewhere(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        state: &VersionSet,
        partitions: u16,
        env: &mut impl Env,
    ) -> Result<(Answer, Option<Lsn>), Trouble> {
        let is_owed = self.handoff.has(unit, key, env.engine())
            || self.handoff.hints.has_any(unit, partitions, env.engine());
        if is_owed || !self.replica.read(key, unit, env.engine())?.state.is_empty() {
            sometimes!(env, FallbackBlockedAPurge);
            return Ok((Answer::NotConfirmed { why: Blocked::Owed }, None));
        }
        let lsn = self.replica.stay_above(unit, state.highest_hlc(), env.engine())?;
        sometimes!(env, FallbackConfirmed);
        let (epoch, actor) = (self.replica.purged().row(unit).epoch, self.replica.actor(unit));
        let is_waited_for = lsn > env.engine().durable();
        Ok((Answer::Confirmed { epoch, actor }, is_waited_for.then_some(lsn)))
    }

    /// Deletes what all owners have confirmed, if it is what is here. `None`: something else is.
    pub(super) fn purge_here(
        &mut self,
        (key, unit): (&KeyRef, Unit),
        which: (u64, Epoch),
        gone: &[ActorId],
        env: &mut impl Env,
    ) -> Result<Option<Lsn>, Trouble> {
        let purged = self.replica.purge((key, unit), which, gone, env)?;
        sometimes!(env, KeyPurged, purged.is_some() && gone.is_empty());
        sometimes!(env, ActorsPurged, purged.is_some() && !gone.is_empty());
        sometimes!(env, PurgeOvertaken, purged.is_none());
        Ok(purged)
    }

    /// Looks for what can be purged, and purges it.
    pub(super) fn tick_purges(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        if self.repairs.purger.next_deadline() > env.mono() {
            return Ok(());
        }
        let before = self.repairs.purger.tally();
        let (purger, mut around) = self.purges(view, env);
        purger.tick(&mut around)?;
        meet_blocked(self.repairs.purger.tally().blocked > before.blocked, env);
        while let Some((op, key, unit)) = self.repairs.purger.start(view, env.mono()) {
            self.read_to_purge(unit, &key, op, view, env)?;
        }
        Ok(())
    }

    /// Reads what is to be purged.
    pub(super) fn read_to_purge(
        &mut self,
        unit: Unit,
        key: &KeyRef,
        op: OpId,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let epoch = self.replica.purged().row(unit).epoch;
        match self.replica.read(key, unit, env.engine()) {
            Ok(loaded) if loaded.lsn > env.engine().durable() => {
                self.repairs.purger.give_up(op, env.mono())
            }
            Ok(loaded) => {
                let (purger, mut around) = self.purges(view, env);
                purger.read(op, (loaded.state, epoch), &mut around);
            }
            Err(Trouble::Cold(ticket)) => {
                self.park(key.clone(), ticket, Parked::Purge(unit, op), env)?;
            }
            Err(Trouble::Failed(error)) => {
                self.repairs.purger.give_up(op, env.mono());
                self.note_rotten(key, &error, env);
            }
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        Ok(())
    }

    /// An owner has answered about a key that is being purged.
    pub(super) fn on_purged(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, LayoutSet, Answer),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let sent = self.out.len();
        let before = self.repairs.purger.tally();
        let (purger, mut around) = self.purges(view, env);
        purger.on_answer(from, (op, &layouts, answer), &mut around);
        meet_blocked(self.repairs.purger.tally().blocked > before.blocked, env);
        let begins = self.out.len() > sent + 1;
        if begins && buggify!(env, PurgeStopsMidway) {
            self.out.truncate(sent + 1);
            self.repairs.purger.give_up(op, env.mono());
        }
        Ok(())
    }

    fn purges<'a>(
        &'a mut self,
        view: View<'a>,
        env: &'a mut impl Env,
    ) -> (&'a mut Purger, Around<'a>) {
        let (time, clock, now) = (self.replica.time(env), self.replica.latest(), env.mono());
        let (units, engine, out) = (&self.transfers.units, env.engine(), &mut self.out);
        (&mut self.repairs.purger, Around { view, units, engine, out, time, clock, now })
    }
}

/// Tells the simulator that something was in the way of a purge.
fn meet_blocked(is_blocked: bool, env: &impl Env) {
    sometimes!(env, PurgeBlocked, is_blocked);
}

/// What is in the way of a purge.
const fn in_words(why: Blocked) -> &'static str {
    match why {
        Blocked::Differs => "an owner has something else of a key",
        Blocked::Owed => "an owner owes a key to somebody who was away",
        Blocked::Partial => "an owner does not have all of the partition yet",
        Blocked::Absent => "an owner is away, or does not answer",
        Blocked::OtherLayouts => "an owner has other layouts",
        Blocked::Failed => "an owner cannot read or store a record",
    }
}
