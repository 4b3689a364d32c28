//! How a shard meets rotten records: who is told, who waits, and what takes their place.

use super::Shard;
use crate::error::{Error, Result};
use crate::id::{NodeId, OpId};
use crate::member::view::View;
use crate::parked::Parked;
use crate::replica::keys::parse_data_key;
use crate::replica::read::Trouble;
use crate::sometimes;
use crate::step::Env;
use crate::wire::key::{Answer, KeyRef};

impl Shard {
    /// A read of a key failed: when its record is rotten, it is replaced.
    pub(super) fn note_rotten(&mut self, key: &KeyRef, error: &Error, env: &impl Env) {
        if matches!(error, Error::Corrupt { .. } | Error::Disk(_)) {
            sometimes!(env, RottenRecordFound);
            self.repairs.rotten.found(key, env.mono());
            self.maintenance.wake(env.mono());
        }
    }

    /// Dots that cannot be issued before a rotten record has been replaced.
    pub(super) fn put_off_dots(&mut self, view: View<'_>, env: &mut impl Env) {
        for (key, op) in std::mem::take(&mut self.begun.put_off.unreadable) {
            self.maintenance.wake(env.mono());
            if !self.repairs.rotten.wait(&key, op, env.mono()) {
                let (coordinator, mut around) = self.split(view);
                coordinator.refuse_issue(op, &mut around, env);
            }
        }
    }

    /// The record could not be read: an error, never "absent".
    pub(super) fn refuse(
        &mut self,
        key: &KeyRef,
        parked: Vec<Parked>,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        for parked in parked {
            match parked {
                Parked::Ask(from, ask) => self.tell(from, ask.op, Answer::Failed, view),
                Parked::Issue(op) => self.begun.put_off.unreadable.push((key.clone(), op)),
                // It stays here, and is looked at again.
                Parked::Leave(..) => {}
                Parked::Hand(_, op) => self.handoff.handing.give_back(op, env.mono()),
                Parked::Purge(_, op) => self.repairs.purger.give_up(op, env.mono()),
            }
        }
        self.put_off_dots(view, env);
        Ok(())
    }

    /// Asks the other primaries for what cannot be read here, and this node whether it can be read again.
    pub(super) fn tick_rotten(&mut self, view: View<'_>, env: &mut impl Env) {
        let now = env.mono();
        for key in env.engine().take_damaged() {
            if let Some(key) = parse_data_key(&key) {
                self.repairs.rotten.found(&key, now);
            }
        }
        self.repairs.rotten.tick(now, (view.layouts, view.layout_set), &mut self.out);
    }

    /// A primary has answered a question of `tick_rotten`; this node itself, when the record can be read again.
    pub(super) fn on_rotten_answer(
        &mut self,
        from: NodeId,
        op: OpId,
        answer: &Answer,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let state = match answer {
            Answer::State { .. } | Answer::Digest { .. } if from == self.me => {
                let waited = self.repairs.rotten.readable(op);
                return self.resume_dots(waited, view, env);
            }
            Answer::State { state, .. } => state,
            // Nothing that could take a record's place: the next round asks again.
            Answer::Digest { .. }
            | Answer::Query { .. }
            | Answer::MergeAck
            | Answer::Lacks
            | Answer::Failed
            | Answer::StaleLayout
            | Answer::NotCounted
            | Answer::Outdated { .. }
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. } => return Ok(()),
        };
        let Some(found) = self.repairs.rotten.on_state(from, op, state, view.layouts) else {
            return Ok(());
        };
        match self.replica.replace(&found.key, found.unit, &found.state, env) {
            Ok(()) => sometimes!(env, RottenRecordReplaced),
            // The next round tries again.
            Err(Trouble::Failed(_) | Trouble::Cold(_)) => return Ok(()),
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        let waited = self.repairs.rotten.replaced(&found.key);
        self.resume_dots(waited, view, env)
    }

    fn resume_dots(&mut self, waited: Vec<OpId>, view: View<'_>, env: &mut impl Env) -> Result<()> {
        for op in waited {
            let (coordinator, mut around) = self.split(view);
            coordinator.resume(op, &mut around, env)?;
        }
        Ok(())
    }
}
