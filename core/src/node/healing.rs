//! How a node meets rotten records: who is told, who waits, and what takes their place.

use super::Node;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id::{NodeId, OpId};
use crate::parked::Parked;
use crate::replica::{self, Trouble};
use crate::sometimes;
use crate::status::Counters;
use crate::step::Env;
use crate::wire::key::{Answer, KeyRef};

/// Hands over what has been written. A full disk takes it later.
pub(super) fn flush(engine: &mut dyn Engine) -> Result<()> {
    match engine.flush() {
        Err(error) if !error.is_refusal() => Err(error),
        _ => Ok(()),
    }
}

impl Node {
    /// A read of a key failed: when its record is rotten, it is replaced.
    pub(super) fn note_rotten(&mut self, key: &KeyRef, error: &Error, env: &impl Env) {
        if matches!(error, Error::Corrupt { .. } | Error::Disk(_)) {
            sometimes!(env, RottenRecordFound);
            self.rotten.found(key, env.mono());
        }
    }

    /// Dots that cannot be issued before a rotten record has been replaced.
    pub(super) fn put_off_dots(&mut self, env: &mut impl Env) {
        for (key, op) in std::mem::take(&mut self.unreadable) {
            if !self.rotten.wait(&key, op, env.mono()) {
                let (coordinator, mut around) = self.split();
                coordinator.refuse_issue(op, &mut around, env);
            }
        }
    }

    /// The record could not be read: an error, never "absent".
    pub(super) fn refuse(
        &mut self,
        key: &KeyRef,
        parked: Vec<Parked>,
        env: &mut impl Env,
    ) -> Result<()> {
        for parked in parked {
            match parked {
                Parked::Ask(from, ask) => self.tell(from, ask.op, Answer::Failed),
                Parked::Issue(op) => self.unreadable.push((key.clone(), op)),
            }
        }
        self.put_off_dots(env);
        Ok(())
    }

    /// The counters, with those of the replica.
    pub(super) fn counters_now(&self) -> Counters {
        Counters {
            actors_replaced: self.replica.actors_replaced(),
            records_healed: self.rotten.healed(),
            ..self.counters
        }
    }

    /// What is wrong although the node serves, for people.
    pub(super) fn troubles(&self, engine: &dyn Engine) -> Vec<String> {
        let mut troubles = Vec::new();
        if engine.is_nearly_full() {
            troubles.push(
                "the disk is nearly full: values are refused, deletes and reads go on".to_owned(),
            );
        }
        match self.rotten.len() {
            0 => {}
            1 => troubles.push("1 record cannot be read, and is being replaced".to_owned()),
            n => troubles.push(format!("{n} records cannot be read, and are being replaced")),
        }
        if self.rotten.lack_copies() {
            troubles.push(
                "of some records that cannot be read too few good copies answer on other nodes"
                    .to_owned(),
            );
        }
        troubles
    }

    /// Asks the other primaries for what cannot be read here, and this node whether it can be read again.
    pub(super) fn tick_rotten(&mut self, env: &mut impl Env) {
        let now = env.mono();
        for key in env.engine().take_damaged() {
            if let Some(key) = replica::parse_data_key(&key) {
                self.rotten.found(&key, now);
            }
        }
        if let Some((layout, _)) = self.formation.live() {
            self.rotten.tick(now, layout, &mut self.out);
        }
    }

    /// A primary has answered a question of `tick_rotten`; this node itself, when the record can be read again.
    pub(super) fn on_rotten_answer(
        &mut self,
        from: NodeId,
        op: OpId,
        answer: &Answer,
        env: &mut impl Env,
    ) -> Result<()> {
        let state = match answer {
            Answer::State { .. } | Answer::Digest { .. } if from == self.me => {
                let waited = self.rotten.readable(op);
                return self.resume_dots(waited, env);
            }
            Answer::State { state } => state,
            // Nothing that could take a record's place: the next round asks again.
            Answer::Digest { .. }
            | Answer::Query { .. }
            | Answer::MergeAck
            | Answer::Lacks
            | Answer::Failed
            | Answer::StaleLayout => return Ok(()),
        };
        let Some((layout, _)) = self.formation.live() else {
            return Ok(());
        };
        let Some(found) = self.rotten.on_state(from, op, state, layout) else {
            return Ok(());
        };
        match self.replica.replace(&found.key, found.partition, &found.state, env) {
            Ok(()) => sometimes!(env, RottenRecordReplaced),
            // The next round tries again.
            Err(Trouble::Failed(_) | Trouble::Cold(_)) => return Ok(()),
            Err(Trouble::Fatal(error)) => return Err(error),
        }
        let waited = self.rotten.replaced(&found.key);
        self.resume_dots(waited, env)
    }

    fn resume_dots(&mut self, waited: Vec<OpId>, env: &mut impl Env) -> Result<()> {
        for op in waited {
            let (coordinator, mut around) = self.split();
            coordinator.resume(op, &mut around, env)?;
        }
        Ok(())
    }
}
