//! What a shard says of itself for the picture of its node.

use std::collections::BTreeSet;

use super::Shard;
use super::handing::Handoff;
use super::transferring::Transfers;
use crate::config::SLOW_SYNC_MS;
use crate::engine::{Engine, EngineStats};
use crate::env::Mono;
use crate::id::{NodeId, PartitionId, Unit};
use crate::layout::Layout;
use crate::member::view::View;
use crate::repair::exchange::End;
use crate::repair::mending::Why;
use crate::status::{
    ComparedStatus, Counters, HINT_TARGETS_SHOWN_MAX, HintStatus, HintTarget, MemoryStatus,
    RepairStatus, TAKING_SHOWN_MAX, TakingStatus, TransferStatus, TreeStatus, TreesStatus,
};
use crate::transfer::patience::Trouble;

impl Shard {
    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.coordinator.len() as u64
    }

    /// What it holds in memory.
    #[must_use]
    pub fn memory(&self) -> MemoryStatus {
        MemoryStatus {
            held: self.held.gauge(),
            parked: self.cold_reads.gauge(),
            in_flight: self.coordinator.gauge(),
            owed: self.handoff.debts.gauge(),
            ..MemoryStatus::default()
        }
    }

    /// Why it cannot serve now, for people: its device does not end a sync, or takes very long for it.
    #[must_use]
    pub fn stalls(&self, now: Mono) -> Option<String> {
        let ms = self.held.syncing_for_ms(now).filter(|&ms| ms > SLOW_SYNC_MS)?;
        let seconds = ms / 1_000;
        Some(format!("a sync has been running for {seconds} s: the device is slow or hangs"))
    }

    /// Clients' keys here: those that have a value, and those that are deleted.
    #[must_use]
    pub fn keys(&self, stats: &EngineStats) -> (u64, u64) {
        self.replica.keys(stats)
    }

    /// Units of which it may lack something.
    #[must_use]
    pub fn partial_units(&self) -> u64 {
        self.transfers.units.partial().count() as u64
    }

    /// How many units cannot become whole without nodes that are not heard, and which these are.
    #[must_use]
    pub fn out_of_reach(&self, is_heard: impl Fn(NodeId) -> bool) -> (u64, BTreeSet<NodeId>) {
        let (mut units, mut nodes) = (0, BTreeSet::new());
        for (_, partial) in self.transfers.units.partial() {
            let silent = partial.undone().map(|source| source.node).filter(|&node| !is_heard(node));
            let silent: Vec<NodeId> = silent.collect();
            if partial.sources.len() - silent.len() < partial.needed {
                units += 1;
                nodes.extend(silent);
            }
        }
        (units, nodes)
    }

    /// What is taken from others, and what goes to them.
    #[must_use]
    pub fn transfers(&self, view: View<'_>, now: Mono) -> TransferStatus {
        let name = |node| view.members.name(node);
        let Transfers { units, receiver, leaving, dropped, given_up, .. } = &self.transfers;
        let taking = units.partial().map(|(unit, partial)| {
            let (from, trouble) = receiver.stands(unit);
            TakingStatus {
                group: unit.group.0,
                partition: unit.partition.0,
                from: from.map(&name),
                done: partial.done(),
                needed: partial.needed,
                trouble: trouble.map(in_words),
            }
        });
        let moves = |one: &TakingStatus| one.from.is_some() || one.trouble.is_some();
        let (taken, left) = (receiver.taken(), leaving.progress());
        TransferStatus {
            taking: taking.filter(moves).take(TAKING_SHOWN_MAX).collect(),
            taken_units: taken.units,
            taken_keys: taken.keys,
            taken_bytes: taken.bytes,
            bytes_per_s: receiver.bytes_per_s(now),
            given_up_units: *given_up,
            // Under a layout that it has not looked at there may be something.
            leaving_units: left.units.max(u64::from(leaving.is_behind(view.layouts))),
            left_keys: left.keys,
            dropped_keys: dropped.keys(),
        }
    }

    /// What it owes to other nodes.
    #[must_use]
    pub fn hints(&self, view: View<'_>, now: Mono) -> HintStatus {
        let Handoff { debts, hints, handing, .. } = &self.handoff;
        let stored = hints.targets();
        let now_ms = view.members.own_ms(now).max(self.replica.latest_ms());
        let targets = stored.iter().take(HINT_TARGETS_SHOWN_MAX).map(|(&node, of)| HintTarget {
            node: node.to_string(),
            name: view.members.name(node),
            state: view.members.state(node, now),
            hints: of.hints,
            bytes: of.bytes,
            oldest_ms: now_ms.saturating_sub(of.oldest_ms),
        });
        HintStatus {
            targets: targets.collect(),
            stored: stored.values().map(|of| of.hints).sum(),
            bytes: stored.values().map(|of| of.bytes).sum(),
            unreadable: hints.unreadable(),
            counting: hints.is_counting(),
            owed: debts.len() as u64,
            in_flight: handing.in_flight() as u64,
            behind: hints.behind().len() as u64,
            counters: hints.totals(),
        }
    }

    /// How copies are compared with those of other owners.
    #[must_use]
    pub fn repair_status(&self, view: View<'_>, now: Mono) -> RepairStatus {
        let rounds = &self.repairs.rounds;
        let (tally, (exchanges, waiting)) = (rounds.tally(), rounds.in_flight());
        let (trees, counts) = (self.replica.trees(), self.replica.trees().counts());
        let unequal = rounds.unequal().filter_map(|unit| self.compared(unit, view, now));
        RepairStatus {
            growing_trees: trees.incomplete(),
            trees: TreesStatus {
                loaded: counts.loaded,
                refused: counts.refused,
                grown: counts.grown,
                stored: counts.stored,
                stored_bytes: counts.stored_bytes,
            },
            exchanges,
            waiting,
            rounds: tally.rounds,
            failed_rounds: tally.failed_rounds,
            found_keys: tally.done.found,
            taken_keys: tally.done.taken,
            brought_keys: tally.done.brought,
            wrong_trees: tally.wrong_trees,
            bytes: tally.bytes,
            unequal: unequal.take(TAKING_SHOWN_MAX).collect(),
        }
    }

    fn compared(&self, unit: Unit, view: View<'_>, now: Mono) -> Option<ComparedStatus> {
        let (at, with, end) = self.repairs.rounds.last(unit)?;
        Some(ComparedStatus {
            group: unit.group.0,
            partition: unit.partition.0,
            with: view.members.name(with),
            ago_ms: now.ms_since(at),
            outcome: ended(end),
        })
    }

    /// The hash trees of a partition.
    #[must_use]
    pub fn trees_of(&self, partition: PartitionId, view: View<'_>, now: Mono) -> Vec<TreeStatus> {
        let units = view.newest().into_iter().flat_map(Layout::units);
        let of = units.filter(|&unit| {
            let is_owned = view.newest().is_some_and(|layout| layout.is_primary(self.me, unit));
            unit.partition == partition && is_owned
        });
        let tree = |unit: Unit| {
            let counts = self.transfers.units.counts(unit);
            let tree = self.replica.trees().complete(unit).filter(|_| counts);
            let hex = |hash: u64| format!("{hash:016x}");
            TreeStatus {
                group: unit.group.0,
                complete: tree.is_some(),
                root: tree.map(|tree| hex(tree.root())).unwrap_or_default(),
                nodes: tree.into_iter().flat_map(|tree| tree.inner().map(hex)).collect(),
                last: self.compared(unit, view, now),
            }
        };
        of.map(tree).collect()
    }

    /// Whether all its trees are complete, and nothing is being compared.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        let rounds = &self.repairs.rounds;
        let trees = self.replica.trees();
        !trees.is_growing()
            && rounds.in_flight() == (0, 0)
            && rounds.last(Unit::default()).is_some()
    }

    /// An operator wants copies to be compared now.
    pub fn compare_soon(&mut self, now: Mono) {
        self.repairs.rounds.begin_soon(now);
    }

    /// Keys whose records cannot be read, as far as they have been met.
    #[must_use]
    pub fn damaged_keys(&self) -> u64 {
        self.repairs.rotten.len() as u64
    }

    /// The counters, with those of the replica.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            actors_replaced: self.replica.actors_replaced(),
            records_healed: self.repairs.rotten.healed(),
            ..self.counters
        }
    }

    /// What is wrong although the node serves, for people.
    #[must_use]
    pub fn troubles(&self, engine: &dyn Engine) -> Vec<String> {
        let mut troubles = Vec::new();
        if engine.is_nearly_full() {
            troubles.push(
                "the disk is nearly full: values are refused; deletes go on while they find room, and reads go on"
                    .to_owned(),
            );
        }
        match self.repairs.rotten.len() {
            0 => {}
            1 => troubles.push("1 record cannot be read, and is being replaced".to_owned()),
            n => troubles.push(format!("{n} records cannot be read, and are being replaced")),
        }
        match self.handoff.hints.unreadable() {
            0 => {}
            1 => troubles.push("1 hint cannot be read, and is kept".to_owned()),
            n => troubles.push(format!("{n} hints cannot be read, and are kept")),
        }
        if self.repairs.rotten.lack_copies() {
            troubles.push(
                "of some records that cannot be read too few good copies answer on other nodes"
                    .to_owned(),
            );
        }
        troubles
    }
}

/// How comparing a unit ended.
const fn ended(end: End) -> &'static str {
    match end {
        End::Equal => "equal",
        End::More => "more than one comparison looks at: the next one goes on",
        End::Regrow => "the copies are equal, and the trees are made anew",
        End::Failed(Why::Silent) => "the other did not answer",
        End::Failed(Why::Unreadable) => "a record cannot be read",
        End::Failed(Why::NotCounted) => {
            "one of the two has other layouts, or not all of the partition, or its tree is not complete"
        }
        End::Failed(Why::OtherFormat) => "the other makes its trees of other hashes",
        End::Failed(Why::NotStored) => "what was brought could not be stored",
    }
}

/// Why a transfer does not go on.
const fn in_words(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Silent => "it does not answer",
        Trouble::NotYet => "it still has requests in flight under the older layout",
        Trouble::Unreadable => "it cannot read a record",
        Trouble::Refused => "it has other layouts, or not all of the partition itself",
        Trouble::NotStored => "there is no room here to store what it has",
    }
}
