//! How a shard becomes an owner of units, and what it says of those that it does not have all of.
//!
//! A unit that is new here issues with a new actor: what an earlier time of this node as its owner has issued may be anywhere.

use super::Shard;
use crate::change::trackers::ShardFacts;
use crate::engine::Engine;
use crate::error::Result;
use crate::id::{NodeId, Unit};
use crate::layout::Layout;
use crate::quorum;
use crate::transfer::units::Lacking;

impl Shard {
    /// A layout is to become live here: the units that this node owns under it, and did not own under the one before, are called
    /// partial; those that it owned before are behind, where reads under the new layout need not meet the writes before it. To be
    /// called before the layout's live mark is written. The first layout, which has none before it, finds no data anywhere: all of it
    /// is whole. After an error it is called again before anything else.
    pub fn adopt(
        &mut self,
        before: Option<&Layout>,
        after: &Layout,
        engine: &mut dyn Engine,
    ) -> Result<()> {
        let Some(before) = before else {
            return Ok(());
        };
        let owned = units_of(self.me, after);
        let lacking = owned.filter_map(|unit| {
            let counts = before.is_primary(self.me, unit);
            let (old, new) = (before.group(unit.group)?, after.group(unit.group)?);
            let is_lacking = !counts || !quorum::reads_meet(old.quorums, new.quorums);
            let mut lacking = is_lacking.then(|| lacking(unit, before, self.me, counts))??;
            if counts {
                // What only they held nobody can read any more, whoever waits for them.
                lacking.sources.retain(|source| !after.parts().gone.contains(source));
            }
            Some(lacking)
        });
        self.lack(&lacking.collect::<Vec<_>>(), engine)
    }

    /// This store cannot show that it has everything that it once had: all units that this node owns are called partial, to be taken
    /// from their other owners. To be called before it answers anybody.
    pub fn recover(&mut self, layout: &Layout, engine: &mut dyn Engine) -> Result<()> {
        let owned = units_of(self.me, layout);
        let lacking = owned.filter_map(|unit| lacking(unit, layout, self.me, false));
        self.lack(&lacking.collect::<Vec<_>>(), engine)
    }

    /// The owners under the layout before have dropped it, and may have nothing any more: what this node still lacks it takes from
    /// its other owners under this one, who have all of it.
    pub fn retake(&mut self, layout: &Layout, engine: &mut dyn Engine) -> Result<()> {
        let partial = self.transfers.units.partial().map(|(unit, _)| unit);
        let owned = partial.filter(|&unit| layout.is_primary(self.me, unit));
        let lacking: Vec<Lacking> =
            owned.filter_map(|unit| lacking(unit, layout, self.me, false)).collect();
        self.lack(&lacking, engine)
    }

    /// An operator has given up what these nodes alone have: nothing waits for that any more.
    pub fn give_up(
        &mut self,
        is_given_up: impl Fn(NodeId) -> bool,
        engine: &mut dyn Engine,
    ) -> Result<()> {
        self.transfers.given_up += self.transfers.units.give_up(is_given_up, engine)?;
        Ok(())
    }

    fn lack(&mut self, lacking: &[Lacking], engine: &mut dyn Engine) -> Result<()> {
        self.transfers.units.become_partial(lacking, engine)?;
        let partial = lacking.iter().filter(|one| !self.transfers.units.counts(one.unit));
        partial.for_each(|one| self.replica.renounce(one.unit));
        Ok(())
    }

    /// Whether this node has all of every unit that it owns.
    #[must_use]
    pub fn all_whole(&self) -> bool {
        self.transfers.units.all_whole()
    }

    /// How far its work is, for whoever decides when one layout has taken the place of another.
    #[must_use]
    pub fn facts(&self) -> ShardFacts {
        let (oldest_under, oldest_began) = self.coordinator.oldest();
        ShardFacts { oldest_under, oldest_began, is_whole: self.all_whole() }
    }
}

/// The units that a node owns, of groups that have a keyspace: in the others there is nothing to be taken.
fn units_of(me: NodeId, layout: &Layout) -> impl Iterator<Item = Unit> + '_ {
    let used = layout.used_groups();
    let is_one = move |unit: &Unit| used.contains(&unit.group) && layout.is_primary(me, *unit);
    layout.units().filter(is_one)
}

/// A unit that `me` is to take from its owners under a layout, and whether it counts meanwhile; `None` when the layout does not have
/// the unit's group, and so nobody has anything of it.
fn lacking(unit: Unit, layout: &Layout, me: NodeId, counts: bool) -> Option<Lacking> {
    let quorums = layout.group(unit.group)?.quorums;
    let sources = layout.primaries(unit).filter(|&node| node != me).collect();
    Some(Lacking { unit, sources, needed: quorum::others_to_make_good(quorums), counts })
}
