//! A scenario: everything that is tried in one run, as a value that is saved, replayed and edited.
//!
//! Operations and faults are spelt out, so an old failure replays after the generator has changed, and one
//! fault or operation can be taken out by hand. What is left to dice (delays, losses, fates) is keyed by
//! `seed` (see `draw`). Times are milliseconds or microseconds since the world began.
//! Left out: what a run must show; that is the oracles' business and the same for all.

mod cluster;

mod operation;

mod check;

mod edit;

pub mod catalogue;

pub use cluster::{Away, Cluster, MEMORY_MIB_USUAL, Outside};
pub use operation::{Action, Change, Operation, Over, Retry};
use rondo_core::config::HLC_AHEAD_MS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, Kind};

/// The version of the format that this program reads and writes.
pub const VERSION: u32 = 1;
/// The most nodes a scenario may have.
pub const NODES_MAX: u32 = 7;
/// How long a run goes on after the heal at most, about, in milliseconds.
const AFTER_HEAL_MS: u64 = 120_000;
/// The most operations or faults a scenario may have.
pub const ITEMS_MAX: usize = 100_000;
/// The longest value of an operation, in bytes: what the product takes.
pub const VALUE_BYTES_MAX: u32 = rondo_core::config::VALUE_BYTES_MAX as u32;
/// The longest run, in milliseconds.
pub const HEAL_AT_MS_MAX: u64 = 600_000;
/// With fewer bytes in all operations together no budget is ever full.
const FILLS_BYTES: u64 = 8 << 20;

/// One run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `VERSION`.
    pub version: u32,
    /// What this scenario shows, for people.
    pub story: String,
    /// Keys the dice that are left to the run.
    pub seed: u64,
    /// The nodes.
    pub cluster: Cluster,
    /// The network.
    pub links: Links,
    /// The disks.
    pub disks: Disks,
    /// The clocks, one for each node.
    pub clocks: Vec<Skew>,
    /// What clients do, in order of time.
    pub operations: Vec<Operation>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The sites in the product's code that may take their rare path, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buggify: Vec<String>,
    /// The nodes that are gone for a while when everything else is healed: the others have to go on without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// When everything is healed and the final checks begin.
    pub heal_at_ms: u64,
}

/// How messages travel until the heal; afterwards none is lost and the tail is cut.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// The shape of the delay above its minimum.
    pub shape: Shape,
    /// The least delay, in microseconds.
    pub delay_min_us: u64,
    /// The mean above the least delay, in microseconds.
    pub delay_mean_us: u64,
    /// How many messages in a million are lost.
    pub loss_ppm: u32,
    /// How many messages in a million arrive twice.
    pub duplicate_ppm: u32,
    /// How many messages in a million are late by up to `tail_ms`.
    pub tail_ppm: u32,
    /// How late a late message may be, in milliseconds.
    pub tail_ms: u64,
}

/// The shape of a delay. Each message draws its own, so messages overtake each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Every delay from 0 to twice the mean is equally likely.
    Uniform,
    /// Most are short and some are long.
    Exponential,
}

/// How the disks behave.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disks {
    /// The shortest sync, in microseconds.
    pub sync_min_us: u64,
    /// The longest sync, in microseconds.
    pub sync_max_us: u64,
    /// How many reads in a million must wait for the device.
    pub cold_ppm: u32,
    /// The size of the engine's files, in KiB, 2 to 1,024. Small ones are filled, sealed and merged in a short run.
    #[serde(default = "file_kib")]
    pub file_kib: u32,
}

/// What scenarios say that are older than the field.
const fn file_kib() -> u32 {
    32
}

/// How wrong a node's clock is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skew {
    /// How far the wall time is ahead, in milliseconds.
    pub offset_ms: i64,
    /// How much faster the clock runs, in millionths.
    pub drift_ppm: i32,
}

impl Scenario {
    /// Reads a scenario; the error says what to do about it.
    pub fn from_json(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario =
            serde_json::from_str(text).map_err(|error| format!("not a scenario: {error}"))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as JSON, one line for each operation and fault, so that one can be taken out by hand.
    #[must_use]
    pub fn to_json(&self) -> String {
        let fields = serde_json::to_value(self).expect("a scenario has only plain fields");
        let fields = fields.as_object().expect("a scenario is an object");
        let line = |(name, value): (&String, &Value)| match value.as_array() {
            Some(items) if !items.is_empty() => {
                let items: Vec<String> = items.iter().map(|item| format!("    {item}")).collect();
                format!("  \"{name}\": [\n{}\n  ]", items.join(",\n"))
            }
            _ => format!("  \"{name}\": {value}"),
        };
        let lines: Vec<String> = fields.iter().map(line).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }

    /// The machines: one for each node, and one more where a directory is cloned.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        let more = self.faults.iter().map(|fault| fault.what.trouble().hosts());
        self.cluster.nodes + more.max().unwrap_or(0)
    }

    /// How wrong the clock of a machine is at the start; that of a machine without a node is right.
    #[must_use]
    pub fn skew(&self, host: u32) -> Skew {
        let skew = self.clocks.get(host as usize).cloned();
        skew.unwrap_or(Skew { offset_ms: 0, drift_ppm: 0 })
    }

    /// By how much the hybrid clock of any node may be off from the time of the run, in milliseconds; `None` where a clock is set, stands
    /// still or changes its rate meanwhile.
    #[must_use]
    pub fn clocks_apart_ms(&self) -> Option<u64> {
        if self.faults.iter().any(Fault::is_of_a_clock) {
            return None;
        }
        let off = |clock: &Skew| {
            let drifts =
                u64::from(clock.drift_ppm.unsigned_abs()) * (self.heal_at_ms + AFTER_HEAL_MS);
            clock.offset_ms.unsigned_abs() + drifts / 1_000_000
        };
        // A hybrid clock follows those of others within its bound.
        Some(self.clocks.iter().map(off).max().unwrap_or(0) + HLC_AHEAD_MS_MAX)
    }

    /// Whether its values are so large that some budget of bytes may be full.
    #[must_use]
    pub fn may_fill_memory(&self) -> bool {
        let bytes: u64 = self.operations.iter().map(|op| u64::from(op.bytes)).sum();
        bytes >= FILLS_BYTES
    }

    /// Whether the cluster has other nodes at the end than at the beginning, or other shares.
    #[must_use]
    pub fn is_reshaped(&self) -> bool {
        let asks = |fault: &Fault| matches!(fault.what, Kind::Order(_));
        !self.cluster.later.is_empty() || self.faults.iter().any(asks)
    }

    /// The number of clients.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.operations.iter().map(|op| op.client + 1).max().unwrap_or(0)
    }

    /// Whether links lose nothing by their own luck, nothing is very late, and no site takes a rare path on purpose.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.links.loss_ppm == 0 && self.links.tail_ppm == 0 && self.buggify.is_empty()
    }

    /// The deadline of requests in milliseconds, where the cluster changes its shape, nothing is late by luck, and a deadline leaves time
    /// for four heartbeats, in which nodes hear of a layout.
    #[must_use]
    pub fn reshaped_deadline_ms(&self) -> Option<u64> {
        let deadline_ms = self.cluster.deadline_ms;
        let leaves_time = deadline_ms >= 4 * self.cluster.heartbeat_ms;
        (self.is_plain() && self.is_reshaped() && leaves_time).then_some(deadline_ms)
    }

    /// The number of keys.
    #[must_use]
    pub fn keys(&self) -> u32 {
        let changed = |retry: &Retry| match retry.change {
            Some(Change::Key(key)) => key,
            _ => 0,
        };
        let keys = |op: &Operation| op.retries.iter().map(changed).fold(op.key, u32::max);
        self.operations.iter().map(|op| keys(op) + 1).max().unwrap_or(0)
    }
}
