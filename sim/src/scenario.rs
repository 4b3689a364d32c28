//! A scenario: everything that is tried in one run, as a value that is saved, replayed and edited.
//!
//! Operations and faults are spelt out, so an old failure replays after the generator has changed, and one
//! fault or operation can be taken out by hand. What is left to dice (delays, losses, fates) is keyed by
//! `seed` (see `draw`). Times are milliseconds or microseconds since the world began.
//! Left out: what a run must show; that is the oracles' business and the same for all.

mod fault;

pub use fault::{DiskError, Fate, Fault, Kind, Mischief, Said, Trigger};
use rondo_core::layout::keyspace::Level;
use rondo_core::probe::Buggify;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the format that this program reads and writes.
pub const VERSION: u32 = 1;
/// The most nodes a scenario may have.
pub const NODES_MAX: u32 = 7;
/// The most operations or faults a scenario may have.
pub const ITEMS_MAX: usize = 100_000;
/// The longest value of an operation, in bytes.
pub const VALUE_BYTES_MAX: u32 = 64 << 10;
/// The longest run, in milliseconds.
pub const HEAL_AT_MS_MAX: u64 = 600_000;

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

/// The nodes and their settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How many, 1 to 7.
    pub nodes: u32,
    /// Replicas of each key.
    pub replicas: u8,
    /// Replicas that answer a quorum read.
    pub read_quorum: u8,
    /// Replicas that hold a quorum write.
    pub write_quorum: u8,
    /// Partitions of the token space, a power of two.
    pub partitions: u16,
    /// What stores the records.
    pub engine: EngineName,
    /// Deadline of a request in milliseconds.
    pub deadline_ms: u64,
    /// When a coordinator asks the other replicas too, in milliseconds.
    pub hedge_ms: u64,
    /// When a question is asked again, in milliseconds.
    pub resend_ms: u64,
    /// Between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// When a silent peer is taken for dead, in milliseconds.
    pub dead_ms: u64,
}

/// What stores the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// Append-only segments with an index in memory.
    Bitcask,
    /// A map in memory: loses everything with its process, so such scenarios end no process.
    Memory,
}

/// Nodes that are gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// The nodes: so few that every quorum of every key is among the others.
    pub nodes: Vec<u32>,
    /// In which way.
    pub how: Away,
}

/// How a node is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// Its process has ended.
    Killed,
    /// Nobody reaches it and it reaches nobody.
    Isolated,
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

/// One operation of one client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// When, in microseconds.
    pub at_us: u64,
    /// Who. Contexts are remembered for each client and key.
    pub client: u32,
    /// The node that is asked.
    pub node: u32,
    /// The key's number.
    pub key: u32,
    /// The level.
    pub level: Level,
    /// What.
    pub action: Action,
    /// Whether the request is named; only then may another attempt follow.
    pub named: bool,
    /// What the client does when an attempt does not end well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<Retry>,
    /// How long its value is at least, in bytes; 0 leaves it at the usual length.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u32,
    /// After how many milliseconds the client vanishes: it learns no answer and never tries again. 0: it stays.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vanishes_ms: u32,
}

/// Another attempt with the same name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// After the attempt before it ended, in milliseconds.
    pub after_ms: u64,
    /// The node that is asked.
    pub node: u32,
}

/// What an operation does. Every value written is unique to its operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Reads.
    Get,
    /// Stores a value.
    Put {
        /// What it overwrites.
        over: Over,
    },
    /// Deletes.
    Delete {
        /// What it overwrites.
        over: Over,
    },
}

/// What a write says that it has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// No context: it overwrites whatever the coordinator finds.
    Blind,
    /// The empty context: it overwrites nothing.
    Nothing,
    /// The client's last context of the key; the empty one when there is none.
    Last,
    /// The client's first context of the key; the empty one when there is none.
    Stale,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
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

    /// Whether the scenario keeps its bounds and speaks of nodes that exist.
    pub fn check(&self) -> Result<(), String> {
        let Cluster { nodes, replicas, partitions, .. } = self.cluster;
        let known = |node: u32| node < nodes;
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        says(self.version == VERSION, "the scenario has another version than this program")?;
        says((1..=NODES_MAX).contains(&nodes), "a cluster has 1 to 7 nodes")?;
        says(replicas >= 1, "a key has at least one replica")?;
        says(partitions.is_power_of_two(), "partitions are a power of two")?;
        says(self.clocks.len() == nodes as usize, "there is one clock for each node")?;
        says(self.heal_at_ms <= HEAL_AT_MS_MAX, "heal_at_ms is too late")?;
        says(self.disks.sync_min_us <= self.disks.sync_max_us, "the shortest sync is the longest")?;
        says((2..=1_024).contains(&self.disks.file_kib), "the engine's files have 2 to 1,024 KiB")?;
        let in_order = self.operations.is_sorted_by_key(|op| op.at_us);
        says(in_order, "operations stand in order of time")?;
        says(self.operations.len().max(self.faults.len()) <= ITEMS_MAX, "there is too much to do")?;
        let drift_ok = |skew: &Skew| skew.drift_ppm.abs() <= 100_000;
        says(self.clocks.iter().all(drift_ok), "drift is at most 100,000 ppm")?;
        let nodes_ok =
            |op: &Operation| known(op.node) && op.retries.iter().all(|retry| known(retry.node));
        says(self.operations.iter().all(nodes_ok), "an operation asks a node that is not there")?;
        says(
            self.operations.iter().all(|op| op.named || op.retries.is_empty()),
            "only named requests are tried again",
        )?;
        says(
            self.faults.iter().all(|fault| fault.nodes().into_iter().all(known)),
            "a fault strikes a node that is not there",
        )?;
        let bytes_ok = self.operations.iter().all(|op| op.bytes <= VALUE_BYTES_MAX);
        says(bytes_ok, "a value is longer than 64 KiB")?;
        self.faults.iter().enumerate().try_for_each(|(at, fault)| fault.check(at, &self.faults))?;
        let site = |name: &String| Buggify::SITES.iter().any(|site| site.name == name);
        says(
            self.buggify.iter().all(site),
            "buggify names a site that this program does not have: take it out",
        )?;
        self.check_outside()?;
        let ends = self.faults.iter().any(|fault| fault.ends_a_process())
            || self.outside.as_ref().is_some_and(|outside| outside.how == Away::Killed);
        says(
            self.cluster.engine != EngineName::Memory || !ends,
            "the memory engine keeps nothing, so no fault may end a process",
        )
    }

    fn check_outside(&self) -> Result<(), String> {
        let Some(Outside { nodes, .. }) = &self.outside else {
            return Ok(());
        };
        let mut known = nodes.clone();
        known.sort_unstable();
        known.dedup();
        let is_known = known.len() == nodes.len() && nodes.iter().all(|&n| n < self.cluster.nodes);
        match (1..=self.cluster.spare()).contains(&(nodes.len() as u32)) && is_known {
            true => Ok(()),
            false => {
                Err("the nodes outside are some, are there, and leave every quorum".to_owned())
            }
        }
    }

    /// Takes a fault out, and with it those that were to follow it.
    pub fn remove_fault(&mut self, at: usize) {
        self.faults.remove(at);
        let mut orphans = Vec::new();
        for (index, fault) in self.faults.iter_mut().enumerate() {
            if let Trigger::After { fault: before, .. } = &mut fault.when {
                if *before == at {
                    orphans.push(index);
                } else if *before > at {
                    *before -= 1;
                }
            }
        }
        // A follower stands behind what it follows, so the last one is removed first and moves no other orphan.
        orphans.into_iter().rev().for_each(|orphan| self.remove_fault(orphan));
    }

    /// The number of clients.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.operations.iter().map(|op| op.client + 1).max().unwrap_or(0)
    }

    /// The number of keys.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.operations.iter().map(|op| op.key + 1).max().unwrap_or(0)
    }
}

impl Cluster {
    /// How many nodes may be gone, whichever, so that every key has a quorum for reads and writes.
    #[must_use]
    pub fn spare(&self) -> u32 {
        let Cluster { nodes, replicas, read_quorum, write_quorum, .. } = *self;
        match nodes >= u32::from(replicas) {
            true => u32::from(replicas.saturating_sub(read_quorum.max(write_quorum))),
            false => 0,
        }
    }
}

impl Action {
    /// What a write overwrites; `None` for a read.
    #[must_use]
    pub const fn over(self) -> Option<Over> {
        match self {
            Action::Get => None,
            Action::Put { over } | Action::Delete { over } => Some(over),
        }
    }
}
