//! A scenario: everything that is tried in one run, as a value that is saved, replayed and edited.
//!
//! Operations and faults are spelt out, so an old failure replays after the generator has changed, and one
//! fault or operation can be taken out by hand. What is left to dice (delays, losses, fates) is keyed by
//! `seed` (see `draw`). Times are milliseconds or microseconds since the world began.
//! Left out: what a run must show; that is the oracles' business and the same for all.

use rondo_core::config::MEMORY_BYTES_USUAL;
use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::probe::Buggify;
use rondo_engines::kind::EngineKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, Trigger};

/// The version of the format that this program reads and writes.
pub const VERSION: u32 = 1;
/// The most nodes a scenario may have.
pub const NODES_MAX: u32 = 7;
/// The most operations or faults a scenario may have.
pub const ITEMS_MAX: usize = 100_000;
/// The longest value of an operation, in bytes: what the product takes.
pub const VALUE_BYTES_MAX: u32 = rondo_core::config::VALUE_BYTES_MAX as u32;
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
    pub engine: EngineKind,
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
    /// What a node may hold in memory, in MiB.
    #[serde(default = "usual_memory", skip_serializing_if = "is_usual_memory")]
    pub memory_mib: u32,
    /// The failure domain of each node; none where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<u32>,
    /// The share of each node; equal ones where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
}

/// With fewer bytes in all operations together no budget is ever full.
const FILLS_BYTES: u64 = 8 << 20;
/// What a node may hold in memory where a scenario does not say it, in MiB.
pub const MEMORY_MIB_USUAL: u32 = (MEMORY_BYTES_USUAL >> 20) as u32;

const fn usual_memory() -> u32 {
    MEMORY_MIB_USUAL
}

const fn is_usual_memory(mib: &u32) -> bool {
    *mib == MEMORY_MIB_USUAL
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
    /// The operation before it whose request id it uses again, as if it were a new request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_id_as: Option<usize>,
    /// The number of its first attempt: above 1 the attempts before it were sent to nobody.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
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
    /// What is not as it was in the attempts before, though the request id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// What a client changes in an attempt, which it must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It names this key.
    Key(u32),
    /// It brings another value.
    Value,
    /// A put becomes a delete, a delete a put.
    Action,
    /// It asks for this level.
    Level(Level),
    /// It leaves its context out, or brings an empty one where it had none.
    Context,
    /// It has so many milliseconds: that alone is its right.
    Deadline(u64),
}

impl Change {
    /// Whether what would be written is another write.
    #[must_use]
    pub const fn is_another_write(self) -> bool {
        matches!(self, Change::Key(_) | Change::Value | Change::Action)
    }
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
    /// The context that the client's last write of the key was answered with; the empty one when there is none.
    Own,
    /// The client's last context of another key, which is refused; the empty one when there is none.
    Foreign,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_first(number: &u32) -> bool {
    *number == 1
}

const fn first() -> u32 {
    1
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
        says(bytes_ok, "a value is longer than 1 MiB")?;
        self.check_names()?;
        self.cluster.check()?;
        let count = self.faults.len();
        self.faults.iter().enumerate().try_for_each(|(at, fault)| fault.check(at, count))?;
        let site = |name: &String| Buggify::SITES.iter().any(|site| site.name == name);
        says(
            self.buggify.iter().all(site),
            "buggify names a site that this program does not have: take it out",
        )?;
        self.check_outside()?;
        let ends = self.faults.iter().any(|fault| fault.ends_a_process())
            || self.outside.as_ref().is_some_and(|outside| outside.how == Away::Killed);
        says(
            self.cluster.engine.keeps() || !ends,
            "the memory engine keeps nothing, so no fault may end a process",
        )
    }

    /// Whether requests are named as they may be.
    fn check_names(&self) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        for (at, op) in self.operations.iter().enumerate() {
            says(op.attempt >= 1, "attempts are numbered from 1")?;
            says(op.named || op.attempt == 1, "only a named request has a later attempt")?;
            if let Some(earlier) = op.same_id_as {
                let first = self.operations.get(earlier).filter(|_| earlier < at);
                let is_name =
                    first.is_some_and(|first| first.named && first.action.over().is_some());
                says(is_name, "an id is used again that no named write had before")?;
                says(
                    op.named && op.attempt == 1,
                    "who uses an id again makes a new request of it",
                )?;
                says(matches!(op.action, Action::Put { .. }), "only a put may use an id again")?;
            }
        }
        Ok(())
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

    /// Puts the operations in order of time; who uses an id again still stands behind whose it is, or uses its own.
    pub fn sort_operations(&mut self) {
        let mut order: Vec<usize> = (0..self.operations.len()).collect();
        order.sort_by_key(|&at| self.operations[at].at_us);
        let kept: Vec<Operation> = order.iter().map(|&at| self.operations[at].clone()).collect();
        let mut new_place = vec![None; order.len()];
        (0..).zip(&order).for_each(|(new, &old)| new_place[old] = Some(new));
        self.operations = kept;
        self.rename_operations(|old| new_place[old]);
    }

    /// Keeps the operations that `keeps` names by their place.
    pub fn retain_operations(&mut self, keeps: impl Fn(usize, &Operation) -> bool) {
        let all = std::mem::take(&mut self.operations);
        let mut new_place = vec![None; all.len()];
        for (old, operation) in all.into_iter().enumerate() {
            if keeps(old, &operation) {
                new_place[old] = Some(self.operations.len());
                self.operations.push(operation);
            }
        }
        self.rename_operations(|old| new_place[old]);
    }

    /// Operations have new places; what named one that is gone, or stands behind it now, names none.
    fn rename_operations(&mut self, new_place: impl Fn(usize) -> Option<usize>) {
        for (at, operation) in self.operations.iter_mut().enumerate() {
            let earlier = operation.same_id_as.and_then(&new_place);
            operation.same_id_as = earlier.filter(|&earlier| earlier < at);
        }
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

    /// Whether its values are so large that some budget of bytes may be full.
    #[must_use]
    pub fn may_fill_memory(&self) -> bool {
        let bytes: u64 = self.operations.iter().map(|op| u64::from(op.bytes)).sum();
        bytes >= FILLS_BYTES
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

impl Cluster {
    fn check(&self) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let each = |list: &[u32]| list.is_empty() || list.len() == self.nodes as usize;
        says(each(&self.zones), "there is one zone for each node, or none")?;
        says(each(&self.weights), "there is one weight for each node, or none")?;
        says(self.weights.iter().all(|weight| (1..=100).contains(weight)), "weights are 1 to 100")
    }

    /// N, R and W as the layout makes them.
    #[must_use]
    pub fn effective(&self) -> Quorums {
        let Cluster { nodes, replicas: n, read_quorum: r, write_quorum: w, .. } = *self;
        Quorums { n, r, w }.effective(nodes as usize)
    }

    /// How many nodes may be gone, whichever, so that every key has a quorum for reads and writes. None where quorums do not
    /// meet: nobody knows then whether those who are left have heard of the layout.
    #[must_use]
    pub fn spare(&self) -> u32 {
        let Cluster { nodes, replicas, read_quorum, write_quorum, .. } = *self;
        let meet = u32::from(read_quorum) + u32::from(write_quorum) > u32::from(replicas);
        match meet && nodes >= u32::from(replicas) {
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
