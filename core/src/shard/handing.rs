//! What a shard does about what its writes owe: hints are stored, handed over and deleted.

use super::Shard;
use crate::buggify;
use crate::config::{HINTS_A_BATCH, NodeConfig};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::Result;
use crate::handoff::handing::{Around, Handing};
use crate::handoff::hints::Hints;
use crate::held::Release;
use crate::id::{Life, NodeId, OpId, Unit};
use crate::layout::live::LayoutSet;
use crate::member::view::View;
use crate::parked::Parked;
use crate::repair::owed::{Debts, Owed};
use crate::replica::keys::hint_key;
use crate::replica::read::Trouble;
use crate::sometimes;
use crate::step::Env;
use crate::wire::key::{Answer, KeyRef};

/// What is owed to whom.
#[derive(Debug)]
pub(super) struct Handoff {
    life: Life,
    pub(super) debts: Debts,
    pub(super) hints: Hints,
    pub(super) handing: Handing,
}

impl Handoff {
    /// Nothing is known of what earlier lives have left.
    pub(super) fn new(config: &NodeConfig, bytes_max: usize) -> Handoff {
        let (debts, hints) = (Debts::new(bytes_max), Hints::new(config));
        Handoff { life: config.life, debts, hints, handing: Handing::new(config) }
    }

    /// What must hold between steps. Panics when it does not.
    pub(super) fn invariants(&self) {
        self.debts.invariants();
        self.hints.invariants();
        self.handing.invariants();
    }

    /// When something is to be done about it.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let timers = [self.debts.next_deadline(), self.handing.next_deadline(&self.hints)];
        timers.into_iter().flatten().min()
    }

    /// Whether a key is owed to anybody.
    pub(super) fn has(&self, unit: Unit, key: &KeyRef, engine: &mut dyn Engine) -> bool {
        self.debts.has(key) || self.hints.has(unit, key, engine)
    }
}

impl Shard {
    /// Stores what has become due, and hands over what can be.
    pub(super) fn tick_hints(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        if self.handoff.next_deadline().is_none_or(|due| due > now) {
            return Ok(());
        }
        let Handoff { debts, hints, .. } = &mut self.handoff;
        if hints.is_counting() {
            hints.count(env.engine())?;
            sometimes!(env, HintsFound, !hints.targets().is_empty());
            sometimes!(env, HintUnreadable, hints.unreadable() > 0);
        }
        let (units, copies) = debts.take_refused();
        hints.refuse(units, copies);
        let due = debts.take_due(now, HINTS_A_BATCH);
        if buggify!(env, HintStoreFull) {
            let copies = due.iter().map(|owed| owed.silent.len() as u64).sum();
            hints.refuse(due.iter().map(|owed| owed.unit), copies);
        } else {
            self.store_hints(&due, env)?;
        }
        let Handoff { hints, handing, .. } = &mut self.handoff;
        let units = &self.transfers.units;
        let before = hints.totals();
        let mut around = Around { view, units, hints, engine: env.engine() };
        if let Some(lsn) = handing.tick(&mut around, now)? {
            self.held.until(lsn, Release::Nothing);
        }
        for unit in handing.take_settled() {
            self.transfers.leaving.look_at(unit, now);
        }
        let after = hints.totals();
        sometimes!(env, HintDelivered, after.delivered > before.delivered);
        sometimes!(env, HintMoved, after.moved > before.moved);
        sometimes!(env, HintGivenUp, after.given_up > before.given_up);
        while let Some((op, key, unit)) = self.handoff.handing.start(view, now) {
            self.hand_over(unit, &key, op, env)?;
        }
        Ok(())
    }

    fn store_hints(&mut self, due: &[Owed], env: &mut impl Env) -> Result<()> {
        let Handoff { hints, handing, .. } = &mut self.handoff;
        let before = hints.totals();
        let stored = hints.store(due, self.replica.latest_ms(), env.engine())?;
        let after = hints.totals();
        sometimes!(env, HintRefused, after.refused > before.refused);
        let Some(lsn) = stored else {
            return Ok(());
        };
        sometimes!(env, HintStored, after.written > before.written);
        sometimes!(env, HintMerged, after.merged > before.merged);
        for owed in due {
            for &target in &owed.silent {
                let hint = hint_key(target, owed.unit.group, &owed.key);
                let is_renewed = handing.renew(&hint);
                sometimes!(env, HintRenewed, is_renewed);
            }
        }
        self.held.until(lsn, Release::Nothing);
        Ok(())
    }

    /// What is owed and not noted yet becomes hints, because this node ends.
    pub(super) fn settle_hints(&mut self, engine: &mut dyn Engine) -> Result<()> {
        let Handoff { debts, hints, .. } = &mut self.handoff;
        loop {
            let due = debts.take_all(HINTS_A_BATCH);
            if due.is_empty() {
                return Ok(());
            }
            hints.store(&due, self.replica.latest_ms(), engine)?;
        }
    }

    /// Reads what is owed, and asks its target whether it holds that.
    pub(super) fn hand_over(
        &mut self,
        unit: Unit,
        key: &KeyRef,
        op: OpId,
        env: &mut impl Env,
    ) -> Result<()> {
        let now = env.mono();
        let handing = &mut self.handoff.handing;
        match self.replica.read(key, unit, env.engine()) {
            // Its dot, and the clock's reservation that came with it, may be seen when they are durable.
            Ok(loaded) if loaded.lsn > env.engine().durable() => {
                handing.give_back(op, now);
                Ok(())
            }
            Ok(loaded) => {
                let epoch = self.replica.purged().row(unit).epoch;
                handing.read(op, (loaded.state, epoch), now, &mut self.out);
                Ok(())
            }
            Err(Trouble::Cold(ticket)) => {
                self.park(key.clone(), ticket, Parked::Hand(unit, op), env)
            }
            Err(Trouble::Failed(error)) => {
                handing.give_back(op, now);
                self.note_rotten(key, &error, env);
                Ok(())
            }
            Err(Trouble::Fatal(error)) => Err(error),
        }
    }

    /// Whether something was owed for a write that has ended, and is not any more, because this primary holds it.
    pub(super) fn settles(&mut self, from: NodeId, op: OpId) -> bool {
        op.life == self.handoff.life && self.handoff.debts.settle(op.seq, from)
    }

    /// A target of a hint has answered.
    pub(super) fn on_handed(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        view: View<'_>,
        env: &mut impl Env,
    ) {
        if let (Answer::Outdated { unit, .. }, Some(key)) = (&answer, self.handoff.handing.key(op))
        {
            self.refused(key, *unit, view, env);
        }
        sometimes!(env, HintLacked, matches!(answer, Answer::Lacks));
        let now = env.mono();
        let at = (self.replica.time(env), now);
        self.handoff.handing.on_answer(from, (op, layouts, answer), at, &mut self.out);
    }
}
