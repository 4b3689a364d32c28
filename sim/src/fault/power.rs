//! Power losses, and what becomes of what no sync has covered.

use serde::{Deserialize, Serialize};

use super::draw::{Aim, Entry, Family, Room, Usual};
use super::trigger::Trigger;
use crate::fault::{AtOperation, Kind, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("power loss", "a node loses all that was not synced"),
    entry("power loss with a prefix", "what was not synced is kept up to some operation"),
    entry("power loss with a subset", "each unsynced operation is kept, lost or torn"),
    entry("torn sectors", "only some sectors of each unsynced write are kept"),
    entry("torn pages", "only some pages of 4 KiB of each unsynced write are kept"),
    entry("lost names", "files created, renamed or removed without a directory sync are not"),
    entry("lost growth", "files are as long as at their last sync"),
    entry("correlated power loss", "several nodes lose power at the same moment").nodes(2),
    entry("crash in recovery", "the power goes at the k-th disk operation of a start")
        .at(Aim::Recovery),
    entry(
        "crash in maintenance",
        "the power goes at the k-th disk operation of compactions, hints and removals",
    )
    .at(Aim::Maintenance)
    .apart(0),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("power", name, what).ends().aimed(70)
}

/// These nodes lose power together; they come back after a while.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerLoss {
    /// The nodes.
    pub nodes: Vec<u32>,
    /// What becomes of what was not synced.
    pub fate: Fate,
    /// For how long they are down, in milliseconds.
    pub down_ms: u64,
}

/// What becomes of the operations that no sync has covered when the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// All are lost.
    LoseAll,
    /// The first ones are kept, up to a random one, which may be torn.
    Prefix,
    /// Each is kept, lost or torn on its own.
    Subset,
    /// Of each write only some sectors are kept; all else is kept.
    Torn,
    /// The same with pages of 4 KiB.
    TornPages,
    /// Names that came or went are lost; what is in files is kept.
    LoseNames,
    /// Files are as long as when they were last synced; all else is kept.
    LoseGrowth,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Fate::LoseAll => "power loss",
            Fate::Prefix => "power loss with a prefix",
            Fate::Subset => "power loss with a subset",
            Fate::Torn => "torn sectors",
            Fate::TornPages => "torn pages",
            Fate::LoseNames => "lost names",
            Fate::LoseGrowth => "lost growth",
        }
    }
}

impl Trouble for PowerLoss {
    fn name(&self, when: Trigger) -> &str {
        match when {
            Trigger::OnBoot { .. } => "crash in recovery",
            Trigger::OnMaintenance { .. } => "crash in maintenance",
            _ if self.nodes.len() > 1 => "correlated power loss",
            _ => self.fate.name(),
        }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        self.nodes.iter().for_each(|&node| stage.lose_power(node, self.fate));
        Some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        self.nodes.iter().for_each(|&node| stage.start(node));
    }

    fn check(&self, when: Trigger) -> Result<(), String> {
        match when {
            Trigger::OnBoot { node, .. } | Trigger::OnMaintenance { node, .. } => says(
                self.nodes.contains(&node),
                "a power loss at a disk operation strikes that disk's node",
            ),
            _ => Ok(()),
        }
    }

    fn at_operation(&self) -> AtOperation {
        AtOperation::PowerGoes
    }
}

pub(super) fn draw(rng: &mut Rng, room: &Room, name: &str, node: u32) -> Kind {
    let Usual { down_ms, .. } = Usual::of_many(rng);
    let mut nodes = vec![node];
    let fate = match name {
        "power loss" => Fate::LoseAll,
        "power loss with a prefix" => Fate::Prefix,
        "power loss with a subset" => Fate::Subset,
        "torn sectors" => Fate::Torn,
        "torn pages" => Fate::TornPages,
        "lost names" => Fate::LoseNames,
        "lost growth" => Fate::LoseGrowth,
        "crash in maintenance" => {
            rng.pick(&[Fate::LoseNames, Fate::Subset, Fate::Subset, Fate::LoseAll])
        }
        "correlated power loss" => {
            nodes = several(rng, room.nodes);
            Fate::draw(rng)
        }
        _ => Fate::draw(rng),
    };
    PowerLoss { nodes, fate, down_ms }.into()
}

impl Fate {
    /// The usual ones.
    pub(super) fn draw(rng: &mut Rng) -> Fate {
        rng.pick(&[Fate::LoseAll, Fate::LoseAll, Fate::Prefix, Fate::Subset])
    }

    /// Those that leave holes most of the time.
    pub(super) fn draw_with_holes(rng: &mut Rng) -> Fate {
        rng.pick(&[
            Fate::Subset,
            Fate::Subset,
            Fate::Torn,
            Fate::TornPages,
            Fate::Prefix,
            Fate::LoseAll,
        ])
    }
}

/// All of the nodes, or some two or more.
fn several(rng: &mut Rng, nodes: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..nodes).collect();
    if rng.percent(60) {
        return all;
    }
    while all.len() > 2 && rng.percent(60) {
        all.remove(rng.below(all.len() as u64) as usize);
    }
    all
}
