//! What a shard does about units that are taken from others, or by others.

use super::Shard;
use crate::buggify;
use crate::config::{NodeConfig, PAGE_KEYS_MAX};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::Result;
use crate::id::{LayoutVersion, NodeId};
use crate::member::view::View;
use crate::replica::keys::parse_data_key;
use crate::sometimes;
use crate::step::Env;
use crate::transfer::receiver::{Around, Receiver};
use crate::transfer::source::Giving;
use crate::transfer::units::Units;
use crate::wire::key::KeyMessage;
use crate::wire::message::Message;
use crate::wire::transfer::{Listing, TransferMessage};

/// Units that move.
#[derive(Debug)]
pub(super) struct Transfers {
    pub(super) units: Units,
    pub(super) receiver: Receiver,
    pub(super) giving: Giving,
}

impl Transfers {
    /// As earlier lives have left them.
    pub(super) fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Transfers> {
        let (units, receiver) = (Units::load(engine)?, Receiver::new(config));
        Ok(Transfers { units, receiver, giving: Giving::default() })
    }

    /// What must hold between steps. Panics when it does not.
    pub(super) fn invariants(&self) {
        self.units.invariants();
        self.receiver.invariants();
    }

    /// When something is to be done about them.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        (!self.units.all_whole()).then(|| self.receiver.next_deadline())
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
                let oldest = self.oldest_in_flight();
                let Transfers { units, giving, .. } = &mut self.transfers;
                let bounds = (keys_max, env.engine());
                let told = giving.tell(self.me, (unit, &place), (units, oldest), view, bounds);
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
                let (receiver, mut around) = self.split_transfers(view);
                receiver.on_listing(from, (op, &layouts, listing), &mut around, env)
            }
        }
    }

    /// A source has told a state that was asked for, or this node has merged one.
    pub(super) fn on_taken(
        &mut self,
        from: NodeId,
        message: KeyMessage,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let KeyMessage::Answer { op, layouts, answer } = message else {
            return Ok(());
        };
        let (receiver, mut around) = self.split_transfers(view);
        receiver.on_answer(from, (op, &layouts, answer), &mut around, env)
    }

    /// Takes units that are partial from those who have them.
    pub(super) fn tick_transfers(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        if self.transfers.next_deadline().is_none_or(|deadline| deadline > env.mono()) {
            return Ok(());
        }
        let (receiver, mut around) = self.split_transfers(view);
        receiver.tick(&mut around, env)
    }

    fn split_transfers<'a>(&'a mut self, view: View<'a>) -> (&'a mut Receiver, Around<'a>) {
        let Transfers { units, receiver, .. } = &mut self.transfers;
        (receiver, Around { view, may_pull: true, units, out: &mut self.out })
    }
}
