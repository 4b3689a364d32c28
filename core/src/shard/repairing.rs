//! What a shard does so that its copies and those of other owners become equal although nobody reads them.

use super::Shard;
use super::purging::Late;
use crate::buggify;
use crate::config::{
    NodeConfig, PAGE_BYTES_MAX, REPAIR_LEAVES_MAX, REPAIR_ROOTS_MAX, REPAIR_SCAN_KEYS_MAX,
    TREES_REPLAY_BYTES, TREES_STORED_MS,
};
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{NodeId, OpId, Unit};
use crate::layout::Layout;
use crate::layout::live::LayoutSet;
use crate::member::view::View;
use crate::purge::purger::Purger;
use crate::repair::exchange::Here;
use crate::repair::merkle::{FORMAT, LEAVES, Tree, leaf_of};
use crate::repair::rotten::Rotten;
use crate::repair::rounds::{Around, Rounds};
use crate::replica::Replica;
use crate::replica::keys::{data_key, parse_data_key, unit_range};
use crate::replica::listing::{Listed, list};
use crate::replica::trees::Growth;
use crate::sometimes;
use crate::step::Env;
use crate::transfer::units::Units;
use crate::wire::key::{Answer, KeyRef};
use crate::wire::message::Message;
use crate::wire::repair::{Compare, RepairMessage, Rooted, Told};
use crate::wire::transfer::Digested;

use bytes::Bytes;

/// Between two steps of growing trees, in milliseconds; and when a record cannot be read.
const GROW_MS: u64 = 2;
const STUCK_MS: u64 = 500;
/// Between two steps of storing trees, in milliseconds; and between two looks whether it is time for that.
const STORE_MS: u64 = 10;
const STORE_LOOK_MS: u64 = 1_000;
/// So long after the last tree is complete all are stored, in milliseconds: a start has other things to do first.
const STORE_SOON_MS: u64 = 60_000;
/// A tree that others call wrong is made anew at most so often, in milliseconds.
const REGROW_MS: u64 = 5_000;
/// The keys and heads that are read at once to find those of some leaves, in bytes.
const SCAN_BYTES_MAX: usize = 4 * PAGE_BYTES_MAX;

/// What makes copies good: those whose records cannot be read, those that differ, and those of which nothing is left.
#[derive(Debug)]
pub(super) struct Repairs {
    pub(super) rotten: Rotten,
    pub(super) rounds: Rounds,
    /// Keys that are to go for good, and what came late for some that have gone.
    pub(super) purger: Purger,
    pub(super) late: Late,
    /// Under which layouts the units were looked up whose trees there are.
    owned_under: LayoutSet,
    partial: usize,
    grow_at: Mono,
    /// When trees are stored, or it is looked at whether they are to be; and when they are, whatever was written.
    store_at: Mono,
    store_by: Option<Mono>,
    regrown_at: Option<Mono>,
    is_stopped: bool,
}

impl Repairs {
    /// Nothing is compared yet.
    pub(super) fn new(config: &NodeConfig) -> Repairs {
        Repairs {
            rotten: Rotten::new(config.id, config.life),
            rounds: Rounds::new(config),
            purger: Purger::new(config),
            late: Late::default(),
            owned_under: LayoutSet::default(),
            partial: 0,
            grow_at: Mono(0),
            store_at: Mono(0),
            store_by: None,
            regrown_at: None,
            is_stopped: false,
        }
    }

    /// Nothing more is compared.
    pub(super) const fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// What this node has, for those who compare.
struct Copies<'a> {
    replica: &'a mut Replica,
    units: &'a Units,
    layout: Option<&'a Layout>,
    engine: &'a mut dyn Engine,
    /// A record that could not be read, and its key where that is known.
    damaged: Option<(Option<KeyRef>, Error)>,
}

impl Copies<'_> {
    /// The keys of some leaves between two places, and where they end if that is before the second.
    fn list(
        &mut self,
        unit: Unit,
        leaves: &[u16],
        (from, to): (&Bytes, Option<&Bytes>),
        keys_max: usize,
    ) -> Result<Option<(Vec<Digested>, Option<Bytes>)>> {
        let Some(layout) = self.layout else {
            return Ok(None);
        };
        let (start, end) = unit_range(unit, layout.partitions());
        let from = if from.is_empty() { &start } else { from };
        let to = to.map_or(&end, |to| to.min(&end));
        if from < &start || from > &end {
            return Ok(None);
        }
        let part = match list(from, to, (keys_max, SCAN_BYTES_MAX), self.engine) {
            Ok(part) => part,
            Err(error @ (Error::Corrupt { .. } | Error::Disk(_))) => {
                self.damaged = Some((parse_data_key(from), error));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let meant = part.keys.into_iter().filter(|one| leaves.contains(&leaf_of(&one.key)));
        let digested =
            |one: Listed| Digested { key: one.key, digest: one.digest, bytes: one.bytes };
        Ok(Some((meant.map(digested).collect(), part.next)))
    }
}

impl Here for Copies<'_> {
    fn tree(&self, unit: Unit) -> Option<&Tree> {
        self.replica.trees().complete(unit).filter(|_| self.units.counts(unit))
    }

    fn keys(
        &mut self,
        unit: Unit,
        leaves: &[u16],
        within: (&Bytes, Option<&Bytes>),
    ) -> Result<Option<(Vec<Digested>, Option<Bytes>)>> {
        self.list(unit, leaves, within, 2 * REPAIR_SCAN_KEYS_MAX)
    }

    fn regrow(&mut self, unit: Unit) {
        self.replica.trees_mut().regrow(unit);
    }

    fn is_within(&self, unit: Unit, key: &KeyRef, end: Option<&Bytes>) -> bool {
        let of = self.layout.and_then(|layout| layout.unit(key.keyspace, key.token()));
        of == Some(unit) && end.is_none_or(|end| data_key(unit.group, key) < *end)
    }
}

impl Shard {
    /// When something is to be done about comparing.
    pub(super) fn repairs_deadline(&self) -> Mono {
        if self.repairs.is_stopped {
            // What is never done is never due: else the node would turn without end until it has stopped.
            return Mono(u64::MAX);
        }
        let trees = self.replica.trees();
        let growing = trees.is_growing().then_some(self.repairs.grow_at);
        let at = [self.storing_deadline(), self.repairs.rounds.next_deadline()];
        at.into_iter().chain(growing).fold(Mono(u64::MAX), Mono::min)
    }

    /// Grows trees, and compares copies with those of others.
    pub(super) fn tick_repairs(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        if self.repairs.is_stopped {
            return Ok(());
        }
        let (now, are_other) = (env.mono(), self.repairs.owned_under != *view.layout_set);
        if !are_other && self.repairs_deadline() > now {
            return Ok(());
        }
        if let Some(layout) = view.newest().filter(|_| are_other) {
            self.repairs.owned_under = view.layout_set.clone();
            let me = self.me;
            self.replica.trees_mut().own(
                layout.units().filter(|&unit| layout.is_primary(me, unit)),
                layout.partitions(),
            );
        }
        let partial = self.transfers.units.partial().count();
        if partial < std::mem::replace(&mut self.repairs.partial, partial) {
            // What others have written here meanwhile they may lack themselves.
            self.repairs.rounds.begin_by_itself(now);
        }
        self.grow_trees(view, env)?;
        self.store_trees(env)?;
        let is_due = self.repairs.rounds.next_deadline() <= now;
        let dice = if is_due { env.random() } else { 0 };
        self.with_rounds(view, dice, env, |rounds, around| rounds.tick(around))
    }

    fn grow_trees(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        if !self.replica.trees().is_growing() || self.repairs.grow_at > now {
            return Ok(());
        }
        if view.newest().is_none() {
            self.repairs.grow_at = now.plus_ms(STUCK_MS);
            return Ok(());
        }
        let before = self.replica.trees().counts();
        let log_bytes = if buggify!(env, TreeReplayOfOne) { 1 } else { TREES_REPLAY_BYTES };
        let grown = self.replica.trees_mut().grow(log_bytes, env.engine())?;
        let after = self.replica.trees().counts();
        sometimes!(env, TreeLoaded, after.loaded > before.loaded);
        sometimes!(env, TreeReplayed, after.replayed > before.replayed);
        sometimes!(env, TreeRefused, after.refused > before.refused);
        self.repairs.grow_at = now.plus_ms(match &grown {
            Growth::Done | Growth::More => GROW_MS,
            Growth::Unreadable(..) => STUCK_MS,
        });
        match grown {
            Growth::More => {}
            Growth::Done => {
                self.repairs.rounds.begin_by_itself(now);
                // The next start is not to read all that once more.
                self.replica.trees_mut().owe_all();
                let soon = now.plus_ms(STORE_SOON_MS);
                self.repairs.store_by = Some(self.repairs.store_by.unwrap_or(soon).min(soon));
            }
            Growth::Unreadable(key, error) => {
                sometimes!(env, TreeMetDamage);
                self.note_rotten(&key, &error, env);
            }
        }
        Ok(())
    }

    fn storing_deadline(&self) -> Mono {
        let is_at_once = self.replica.trees().is_much_written();
        if is_at_once { Mono(0) } else { self.repairs.store_at }
    }

    /// Stores trees, a few at a time, when it is time for that.
    fn store_trees(&mut self, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        if self.storing_deadline() > now {
            return Ok(());
        }
        let trees = self.replica.trees_mut();
        let by = *self.repairs.store_by.get_or_insert(now.plus_ms(TREES_STORED_MS));
        if env.engine().is_nearly_full() {
            trees.put_off_storing();
        } else if trees.is_much_written() || by <= now || buggify!(env, TreesStoredEarly) {
            self.repairs.store_by = Some(now.plus_ms(TREES_STORED_MS));
            trees.begin_to_store();
        }
        let before = trees.counts().stored;
        trees.store_some(env.engine())?;
        sometimes!(env, TreesStored, trees.counts().stored > before);
        let pause = if trees.is_storing() { STORE_MS } else { STORE_LOOK_MS };
        self.repairs.store_at = now.plus_ms(pause);
        Ok(())
    }

    /// A peer compares its copies with those here, or says what it has. It has passed the fence.
    pub fn on_repair(
        &mut self,
        from: NodeId,
        message: RepairMessage,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        match message {
            RepairMessage::Ask { op, format, question, .. } => {
                let told = match format == FORMAT {
                    true => self.compare(from, question, view, env)?,
                    false => Told::OtherFormat,
                };
                let (layouts, format) = (view.layout_set.clone(), FORMAT);
                let answer = RepairMessage::Answer { op, layouts, format, told };
                self.out.push_back((from, Message::Repair(answer)));
                Ok(())
            }
            RepairMessage::Answer { op, layouts, format, told } => {
                let answer = (op, &layouts, format);
                self.with_rounds(view, 0, env, |rounds, around| {
                    rounds.on_told(from, answer, told, around)
                })
            }
        }
    }

    /// What is here of what another owner asks for.
    fn compare(
        &mut self,
        from: NodeId,
        question: Compare,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<Told> {
        let now = env.mono();
        let (copies, _) = self.copies(view, env);
        let is_shared = |unit: Unit| {
            let both =
                |layout: &Layout| layout.is_primary(from, unit) && copies.tree(unit).is_some();
            copies.layout.is_some_and(both)
        };
        let told = match question {
            Compare::Begin => {
                self.repairs.rounds.on_begin(from, now);
                return Ok(Told::Done);
            }
            Compare::Roots { units } if units.len() <= REPAIR_ROOTS_MAX => {
                let roots = units.into_iter().filter(|&unit| is_shared(unit));
                let root = |unit| copies.tree(unit).map(|tree| Rooted { unit, root: tree.root() });
                Told::Roots { roots: roots.filter_map(root).collect() }
            }
            Compare::Inner { unit }
            | Compare::Leaves { unit, .. }
            | Compare::Keys { unit, .. }
            | Compare::Regrow { unit }
                if !is_shared(unit) =>
            {
                Told::NotCounted
            }
            Compare::Inner { unit } => {
                let tree = copies.tree(unit);
                Told::Hashes {
                    hashes: tree.map(|tree| Vec::from(tree.inner())).unwrap_or_default(),
                }
            }
            Compare::Leaves { unit, inner } => {
                let leaves = copies.tree(unit).map(|tree| tree.below(inner).map(|(_, hash)| hash));
                Told::Hashes { hashes: leaves.into_iter().flatten().collect() }
            }
            Compare::Keys { unit, leaves, from } => {
                return self.list_keys((unit, &leaves, &from), view, env);
            }
            Compare::Regrow { unit } => {
                let last = self.repairs.regrown_at;
                if last.is_none_or(|last| last.plus_ms(REGROW_MS) <= now) {
                    self.repairs.regrown_at = Some(now);
                    self.replica.trees_mut().regrow(unit);
                }
                return Ok(Told::Done);
            }
            Compare::Roots { .. } => Told::Failed,
        };
        Ok(told)
    }

    fn list_keys(
        &mut self,
        (unit, leaves, from): (Unit, &[u16], &Bytes),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<Told> {
        let is_sound = leaves.len() <= REPAIR_LEAVES_MAX
            && leaves.iter().all(|leaf| usize::from(*leaf) < LEAVES);
        if !is_sound {
            return Ok(Told::Failed);
        }
        let keys_max = if buggify!(env, RepairPageOfOne) { 1 } else { REPAIR_SCAN_KEYS_MAX };
        let (mut copies, _) = self.copies(view, env);
        let found = copies.list(unit, leaves, (from, None), keys_max)?;
        let damaged = copies.damaged;
        if let Some((key, error)) = damaged {
            key.into_iter().for_each(|key| self.note_rotten(&key, &error, env));
            return Ok(Told::Unreadable);
        }
        Ok(found.map_or(Told::Failed, |(keys, next)| Told::Keys { keys, next }))
    }

    /// An answer about a key that is being made equal.
    pub(super) fn on_repaired(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, LayoutSet, Answer),
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        self.with_rounds(view, 0, env, |rounds, around| {
            rounds.on_answer(from, (op, &layouts, answer), around);
            Ok(())
        })
    }

    fn copies<'a>(
        &'a mut self,
        view: View<'a>,
        env: &'a mut impl Env,
    ) -> (Copies<'a>, &'a mut Rounds) {
        let Shard { replica, transfers, repairs, .. } = self;
        let (units, layout) = (&transfers.units, view.newest());
        let copies = Copies { replica, units, layout, engine: env.engine(), damaged: None };
        (copies, &mut repairs.rounds)
    }

    fn with_rounds(
        &mut self,
        view: View<'_>,
        dice: u64,
        env: &mut impl Env,
        what: impl FnOnce(&mut Rounds, &mut Around<'_, Copies<'_>>) -> Result<()>,
    ) -> Result<()> {
        let (now, before) = (env.mono(), self.repairs.rounds.tally());
        let mut out = std::mem::take(&mut self.out);
        let (here, rounds) = self.copies(view, env);
        let mut around = Around { view, here, out: &mut out, now, dice };
        let outcome = what(rounds, &mut around);
        let damaged = around.here.damaged;
        self.out = out;
        if let Some((key, error)) = damaged {
            key.into_iter().for_each(|key| self.note_rotten(&key, &error, env));
        }
        let after = self.repairs.rounds.tally();
        sometimes!(env, RepairTook, after.done.taken > before.done.taken);
        sometimes!(env, RepairBrought, after.done.brought > before.done.brought);
        sometimes!(env, RepairFailed, after.failed_rounds > before.failed_rounds);
        sometimes!(env, RepairMetAWrongTree, after.wrong_trees > before.wrong_trees);
        outcome
    }
}
