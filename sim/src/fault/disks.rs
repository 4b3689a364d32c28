//! Disks that are slow, stand still, fail, or hold other bytes than were written.

use serde::{Deserialize, Serialize};

use super::draw::{Aim, Entry, Family, Room, Usual};
use super::power::{self, Fate, PowerLoss};
use super::processes;
use super::trigger::Trigger;
use crate::fault::{AtOperation, Fault, Kind, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("slow disk", "every call of a node's disk takes longer, its syncs most"),
    entry("stalled disk", "no sync and no cold read of a node ends for a while"),
    failure("read error", "reads of a node's disk fail"),
    failure("write error", "writes to a node's disk fail"),
    failure("sync error", "a sync fails, and what it covered never becomes durable"),
    failure("rename error", "files cannot be renamed or removed"),
    failure("directory error", "directories cannot be read or synced, no file opened"),
    failure("full disk", "there is no room for any write, for a while"),
    failure("read-only disk", "nothing can be written or synced, for a while"),
    failure("short write", "a write stores a part of its bytes and fails"),
    failure("bit rot", "bits of files that were synced flip"),
    failure("misdirected write", "a block is written over another one, not where it belongs"),
    failure("misdirected read", "a read answers with bytes of another place"),
    entry("stall in maintenance", "no sync ends for a while once a compaction is under way")
        .at(Aim::Maintenance)
        .apart(1),
    failure("rot in maintenance", "bits flip while a compaction reads what they are in")
        .at(Aim::Maintenance)
        .apart(2),
    failure("lasting rot", "bits of data files flip, and other replicas have to repair them")
        .apart(5),
    failure("no descriptors", "no file can be opened or made, for a while").apart(7),
    // Not at a start by its operations: a node that has never stored where it lies does not start there, and says why.
    entry(
        "nearly full disk",
        "there is room for what is small and none for another file of records",
    )
    .ends()
    .aimed(50)
    .apart(12),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("disk", name, what)
}

const fn failure(name: &'static str, what: &'static str) -> Entry {
    entry(name, what).ends().at(Aim::Operations)
}

/// A node's syncs and cold reads take longer, and so does, by a part of that, each call of its disk on its own thread.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDisk {
    /// The node.
    pub node: u32,
    /// By how much, in milliseconds.
    pub by_ms: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A node's disk ends no sync and no cold read until this is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StallDisk {
    /// The node.
    pub node: u32,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A node's disk fails. A node that ends by it is started again until it stays.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskError {
    /// The node.
    pub node: u32,
    /// How.
    pub what: Failure,
    /// How often, from 1; a disk that is full, nearly full or read-only, or a lack of descriptors, refuses all that it refuses.
    pub times: u32,
    /// For how long at most, in milliseconds. Damage stays until somebody repairs it.
    pub for_ms: u64,
}

/// How a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Reads give errors.
    Read,
    /// Writes, and changes of a file's length, give errors.
    Write,
    /// Syncs give errors, and what they covered is never written.
    Sync,
    /// Names cannot be changed.
    Rename,
    /// Directories cannot be read, and no file opened or made.
    Directory,
    /// There is no room, until this is over.
    Full,
    /// Nothing can be written, until this is over.
    ReadOnly,
    /// Writes store a part and give errors.
    ShortWrite,
    /// Bits of files that were synced flip.
    Rot,
    /// A block of what a sync wrote lies in a wrong place, over another block.
    WriteAstray,
    /// A read answers with bytes of another place.
    ReadAstray,
    /// Bits of data files flip, and nobody repairs them as long as the node runs, not even at the heal.
    LastingRot,
    /// The process has no descriptor left: no file is opened or made, until this is over.
    NoDescriptors,
    /// There is no room for another file of records, nor to allocate one ahead; what is small fits, until this is over.
    NearlyFull,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 14] = [
        Failure::Read,
        Failure::Write,
        Failure::Sync,
        Failure::Rename,
        Failure::Directory,
        Failure::Full,
        Failure::ReadOnly,
        Failure::ShortWrite,
        Failure::Rot,
        Failure::WriteAstray,
        Failure::ReadAstray,
        Failure::LastingRot,
        Failure::NoDescriptors,
        Failure::NearlyFull,
    ];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Read => "read error",
            Failure::Write => "write error",
            Failure::Sync => "sync error",
            Failure::Rename => "rename error",
            Failure::Directory => "directory error",
            Failure::Full => "full disk",
            Failure::ReadOnly => "read-only disk",
            Failure::ShortWrite => "short write",
            Failure::Rot => "bit rot",
            Failure::WriteAstray => "misdirected write",
            Failure::ReadAstray => "misdirected read",
            Failure::LastingRot => "lasting rot",
            Failure::NoDescriptors => "no descriptors",
            Failure::NearlyFull => "nearly full disk",
        }
    }
}

impl Trouble for SlowDisk {
    fn name(&self, _: Trigger) -> &str {
        "slow disk"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.slow_disk(self.node, self.by_ms);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.slow_disk(self.node, 0);
    }

    fn delays(&self) -> Option<u32> {
        Some(self.node)
    }

    fn followed_by(&self, rng: &mut Rng, room: &Room, at: usize) -> Option<Fault> {
        outage_meanwhile(rng, room, at, (self.node, self.for_ms))
    }
}

impl Trouble for StallDisk {
    fn name(&self, when: Trigger) -> &str {
        if when.is_in_maintenance() { "stall in maintenance" } else { "stalled disk" }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.stall_disk(self.node, self.for_ms);
        None
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        Some(self.for_ms)
    }

    fn followed_by(&self, rng: &mut Rng, room: &Room, at: usize) -> Option<Fault> {
        outage_meanwhile(rng, room, at, (self.node, self.for_ms))
    }
}

/// While a disk is slow, most of what is written is not on it yet.
fn outage_meanwhile(
    rng: &mut Rng,
    room: &Room,
    at: usize,
    (node, for_ms): (u32, u64),
) -> Option<Fault> {
    if !room.keeps_data || !rng.percent(40) {
        return None;
    }
    let when = Trigger::After { fault: at, ms: rng.log(1, for_ms.max(2)) };
    let (fate, down_ms) = (Fate::draw_with_holes(rng), rng.log(5, 2_000));
    Some(Fault { when, what: PowerLoss { nodes: vec![node], fate, down_ms }.into() })
}

impl Trouble for DiskError {
    fn name(&self, when: Trigger) -> &str {
        match self.what {
            Failure::Rot if when.is_in_maintenance() => "rot in maintenance",
            what => what.name(),
        }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.fail_disk(self.node, self.what, self.times);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.fail_disk_no_more(self.node);
    }

    fn check(&self, _: Trigger) -> Result<(), String> {
        says((1..=1_000).contains(&self.times), "a disk error strikes 1 to 1,000 times")
    }

    /// Whoever met an error of its disk is not counted again.
    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        None
    }

    fn at_operation(&self) -> AtOperation {
        AtOperation::Fails { node: self.node, how: self.what, times: self.times }
    }

    /// What a disk error has left behind shows when the node starts again.
    fn followed_by(&self, rng: &mut Rng, room: &Room, at: usize) -> Option<Fault> {
        if !rng.percent(40) {
            return None;
        }
        let when = Trigger::After { fault: at, ms: rng.log(5, 3_000) };
        let name =
            rng.pick(&["power loss", "power loss", "power loss with a subset", "kill", "restart"]);
        let what = match name {
            "kill" | "restart" => processes::draw(rng, room, name, self.node),
            name => power::draw(rng, room, name, self.node),
        };
        Some(Fault { when, what })
    }
}

fn draw(rng: &mut Rng, _: &Room, name: &str, node: u32) -> Kind {
    if let Some(what) = Failure::ALL.into_iter().find(|what| what.name() == name) {
        // Rot comes in patches: one bit is seldom where anybody reads.
        let times_max = match what {
            Failure::Rot => 40,
            Failure::LastingRot => 200,
            _ => 3,
        };
        let (times, for_ms) = (rng.log(1, times_max) as u32, rng.log(20, 3_000));
        return DiskError { node, what, times, for_ms }.into();
    }
    let Usual { for_ms, .. } = Usual::of_a_node(rng);
    match name {
        "slow disk" => SlowDisk { node, by_ms: rng.log(5, 400), for_ms }.into(),
        "rot in maintenance" => {
            let (what, times) = (Failure::Rot, rng.log(1, 40) as u32);
            DiskError { node, what, times, for_ms }.into()
        }
        _ => StallDisk { node, for_ms }.into(),
    }
}
