//! What a shard does about units that are taken from others, or by others.

use super::Shard;
use crate::buggify;
use crate::config::{NodeConfig, PAGE_KEYS_MAX};
use crate::engine::{Compared, Engine};
use crate::env::Mono;
use crate::error::Result;
use crate::held::Release;
use crate::id::{LayoutVersion, NodeId, OpId, Unit};
use crate::layout::live::{LayoutSet, LiveLayout, is_owner};
use crate::member::view::View;
use crate::parked::Parked;
use crate::replica::keys::parse_data_key;
use crate::replica::listing::Listed;
use crate::replica::read::Trouble;
use crate::sometimes;
use crate::step::Env;
use crate::transfer::dropped::Dropped;
use crate::transfer::leaving::{Leaving, Told};
use crate::transfer::receiver::{Around, Receiver};
use crate::transfer::source::Giving;
use crate::transfer::units::Units;
use crate::wire::key::{Answer, KeyRef};
use crate::wire::message::Message;
use crate::wire::transfer::{Listing, TransferMessage};

/// Units that move.
#[derive(Debug)]
pub(super) struct Transfers {
    pub(super) units: Units,
    pub(super) receiver: Receiver,
    pub(super) giving: Giving,
    pub(super) leaving: Leaving,
    pub(super) dropped: Dropped,
    /// Units that were taken from fewer sources than they needed, by an operator's word, since the start.
    pub(super) given_up: u64,
}

impl Transfers {
    /// As earlier lives have left them.
    pub(super) fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Transfers> {
        let (units, receiver) = (Units::load(engine)?, Receiver::new(config));
        let (giving, leaving) = (Giving::default(), Leaving::new(config));
        let dropped = Dropped::load(engine)?;
        Ok(Transfers { units, receiver, giving, leaving, dropped, given_up: 0 })
    }

    /// What must hold between steps. Panics when it does not.
    pub(super) fn invariants(&self) {
        self.units.invariants();
        self.receiver.invariants();
        self.leaving.invariants();
    }

    /// Whether an answer is to one of these machines.
    pub(super) fn asked(&self, op: OpId) -> bool {
        self.receiver.asked(op) || self.leaving.asked(op)
    }

    /// When something is to be done about them.
    pub(super) fn next_deadline(&self) -> Mono {
        let taking = (!self.units.all_whole()).then(|| self.receiver.next_deadline());
        let others = taking.into_iter().chain(self.dropped.next_deadline());
        others.fold(self.leaving.next_deadline(), Mono::min)
    }
}

impl Shard {
    /// The newest layout under which it has told others what it has: what is asked under older ones alone is refused.
    #[must_use]
    pub const fn floor(&self) -> LayoutVersion {
        self.transfers.giving.floor()
    }

    /// A peer asks what is here of a unit, or says what it has of one. It has passed the fence.
    pub fn on_transfer(
        &mut self,
        from: NodeId,
        message: TransferMessage,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        match message {
            TransferMessage::Ask { op, unit, from: place, .. } => {
                let keys_max = if buggify!(env, PageOfOne) { 1 } else { PAGE_KEYS_MAX };
                let oldest = self.facts().oldest_under;
                let Transfers { units, giving, .. } = &mut self.transfers;
                let bounds = (keys_max, env.engine());
                let row = self.replica.purged().row(unit);
                let what = (unit, &place, (row.epoch, row.floor));
                let told = giving.tell(self.me, what, (units, oldest), view, bounds);
                let (listing, damage) = told;
                if let (Some(error), Some(key)) = (damage, parse_data_key(&place)) {
                    self.note_rotten(&key, &error, env);
                }
                sometimes!(env, UnitListed, matches!(listing, Listing::Keys { .. }));
                let layouts = view.layout_set.clone();
                let answer = TransferMessage::Answer { op, layouts, listing };
                self.out.push_back((from, Message::Transfer(answer)));
                Ok(())
            }
            TransferMessage::Answer { op, layouts, listing } => {
                if let (Listing::Keys { purged, .. }, Some(unit)) =
                    (&listing, self.transfers.receiver.walks(from, op))
                {
                    self.replica.inherit(unit, *purged, env.engine())?;
                }
                let (receiver, mut around) = self.split_transfers(view);
                receiver.on_listing(from, (op, &layouts, listing), &mut around, env)
            }
        }
    }

    /// A source has told a state that was asked for, this node has merged one, or an owner says whether it holds one.
    pub(super) fn on_taken(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, LayoutSet, Answer),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        if self.transfers.receiver.asked(op) {
            let (receiver, mut around) = self.split_transfers(view);
            return receiver.on_answer(from, (op, &layouts, answer), &mut around, env);
        }
        let time = self.replica.time(env);
        match self.transfers.leaving.on_answer(from, (op, &layouts, answer), time) {
            Told::Nothing => Ok(()),
            Told::Lacked(unit, key) => self.bring(unit, &key, op, env),
            Told::Refused(unit, key) => {
                self.refused(key, unit, view, env);
                Ok(())
            }
            Told::Held(unit, listed) => {
                let is_owned = is_owner(view.layouts, self.me, unit);
                // What is owed to anybody is handed over first.
                let is_owed = self.handoff.has(unit, &listed.key, env.engine());
                let is_gone = !is_owned && !is_owed && self.erase(unit, &listed, env)?;
                self.transfers.leaving.erased(is_gone, env.mono());
                Ok(())
            }
        }
    }

    /// Brings a state of a unit that leaves this node to the owners that lack it.
    pub(super) fn bring(
        &mut self,
        unit: Unit,
        key: &KeyRef,
        op: OpId,
        env: &mut impl Env,
    ) -> Result<()> {
        match self.replica.read(key, unit, env.engine()) {
            // What a fallback has just written may be seen when it is durable. It is looked at anew.
            Ok(loaded) if loaded.lsn > env.engine().durable() => {
                self.held.until(loaded.lsn, Release::Nothing);
                Ok(())
            }
            Ok(loaded) => {
                sometimes!(env, LeavingStateBrought);
                let epoch = self.replica.purged().row(unit).epoch;
                self.transfers.leaving.bring(op, (&loaded.state, epoch), &mut self.out);
                Ok(())
            }
            Err(Trouble::Cold(ticket)) => {
                self.park(key.clone(), ticket, Parked::Leave(unit, op), env)
            }
            Err(Trouble::Failed(_)) => Ok(()),
            Err(Trouble::Fatal(error)) => Err(error),
        }
    }

    fn erase(&mut self, unit: Unit, listed: &Listed, env: &mut impl Env) -> Result<bool> {
        match self.replica.erase(unit, listed, env) {
            Ok(compared) => {
                let is_gone = matches!(compared, Compared::Deleted(_));
                sometimes!(env, LeavingKeyErased, is_gone);
                Ok(is_gone)
            }
            Err(Trouble::Fatal(error)) => Err(error),
            Err(Trouble::Cold(_) | Trouble::Failed(_)) => Ok(false),
        }
    }

    /// Whether it has not looked yet, under the one layout that is live, at what is left here of units that it does not own.
    pub fn is_behind(&self, layouts: &[LiveLayout]) -> bool {
        self.transfers.leaving.is_behind(layouts)
    }

    /// Takes units that are partial from those who have them, and hands over what is left of those that this node does not own.
    pub(super) fn tick_transfers(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        self.tick_dropped(view, env)?;
        if self.transfers.next_deadline() > env.mono() && !self.is_behind(view.layouts) {
            return Ok(());
        }
        let (receiver, mut around) = self.split_transfers(view);
        receiver.tick(&mut around, env)?;
        let now = env.mono();
        self.transfers.leaving.tick(view, now, env.engine(), &mut self.out)
    }

    /// Deletes some of what is left of dropped keyspaces, and the actors of groups that are no more.
    fn tick_dropped(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        let (now, oldest) = (env.mono(), self.facts().oldest_under);
        if let Some(layout) = self.transfers.dropped.groups_of(view, oldest) {
            let is_there = |unit: Unit| layout.group(unit.group).is_some();
            if self.replica.erase_actors(is_there, env.engine())? {
                self.transfers.dropped.groups_looked_at(layout);
            }
        }
        let Some(found) = self.transfers.dropped.tick(view, oldest, now, env.engine())? else {
            return Ok(());
        };
        if !self.replica.erase_all(&found.keys, env.engine())? {
            return Ok(());
        }
        found.keys.iter().for_each(|one| self.repairs.rotten.forget(&one.key));
        self.transfers.dropped.gone(found, env.engine())
    }

    fn split_transfers<'a>(&'a mut self, view: View<'a>) -> (&'a mut Receiver, Around<'a>) {
        let Transfers { units, receiver, .. } = &mut self.transfers;
        (receiver, Around { view, may_pull: view.may_pull, units, out: &mut self.out })
    }
}
