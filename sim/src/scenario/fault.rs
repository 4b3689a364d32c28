//! Faults: what can go wrong and when, as values that stand in a scenario.
//!
//! A fault strikes once, by its trigger. Most last for a while and are mended by their end or by the heal. What each
//! does to the world is in `faults`; how people call each is in `catalogue`.

use serde::{Deserialize, Serialize};

use super::directory::Directory;

/// Something that goes wrong, once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub when: Trigger,
    /// What.
    pub what: Kind,
}

/// When a fault strikes. Random times miss windows of milliseconds; triggers hit them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// At a time.
    At {
        /// In milliseconds.
        ms: u64,
    },
    /// At once after the n-th acknowledged write of the run, from 1.
    OnAck {
        /// The number.
        n: u64,
    },
    /// While the n-th sync of a node is on its way, from 1.
    OnSyncPending {
        /// The node.
        node: u32,
        /// The number.
        n: u64,
    },
    /// While the n-th message of a kind between two nodes is on its way, from 1.
    OnMessage {
        /// The kind.
        kind: Said,
        /// Who sent it.
        from: u32,
        /// Who is to get it.
        to: u32,
        /// The number.
        n: u64,
    },
    /// Some time after another fault has struck.
    After {
        /// The other's place among the faults.
        fault: usize,
        /// How long after, in milliseconds.
        ms: u64,
    },
    /// In the n-th life of a node, from 1. A power loss or disk error comes after so many operations of its disk, which
    /// is in the midst of its recovery when they are few; other faults strike as the life begins.
    OnBoot {
        /// The node.
        node: u32,
        /// The number.
        n: u64,
        /// The disk's operations.
        ops: u64,
    },
    /// While a node merges, writes hints or removes files: at the k-th operation of its disk that is part of such work, over all
    /// its lives. A power loss comes at that very operation, other faults right after the turn that it is in.
    OnMaintenance {
        /// The node.
        node: u32,
        /// The disk's operations before.
        ops: u64,
    },
}

/// What a message says, as far as faults tell messages apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// A replica is asked for its highest version.
    Query,
    /// The answer.
    QueryReply,
    /// A replica is asked for a key, or for its digest.
    Read,
    /// The answer, whichever of the two.
    ReadReply,
    /// A replica is given a state.
    Merge,
    /// It has it.
    MergeAck,
    /// A coordinator hands a request on.
    Forward,
    /// The answer.
    ForwardReply,
    /// Layouts, and whatever says that something could not be done.
    Other,
    /// A datagram: heartbeats and membership.
    Datagram,
}

/// What goes wrong.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// These directed links carry nothing.
    Cut {
        /// What people call this cut: isolate, split, bridge, one-way, lasting one-way, ring, random links.
        name: String,
        /// (from, to).
        links: Vec<(u32, u32)>,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// These directed links behave badly.
    Links {
        /// (from, to).
        links: Vec<(u32, u32)>,
        /// How.
        how: Mischief,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// What is on its way on these directed links is lost; what follows travels.
    Reset {
        /// (from, to).
        links: Vec<(u32, u32)>,
    },
    /// Connections that were dialled on these directed links break, and only who dialled learns it; what is on its way is lost.
    HalfOpen {
        /// (from, to).
        links: Vec<(u32, u32)>,
    },
    /// These nodes lose power together; they come back after a while.
    PowerLoss {
        /// The nodes.
        nodes: Vec<u32>,
        /// What becomes of what was not synced.
        fate: Fate,
        /// For how long they are down, in milliseconds.
        down_ms: u64,
    },
    /// A process is killed; its files are as it left them.
    Kill {
        /// The node.
        node: u32,
        /// For how long it is down, in milliseconds.
        down_ms: u64,
    },
    /// A process is killed, started, and killed again.
    CrashLoop {
        /// The node.
        node: u32,
        /// How often it is killed.
        times: u32,
        /// How long it runs between, in milliseconds.
        up_ms: u64,
        /// How long it is down each time, in milliseconds.
        down_ms: u64,
    },
    /// A process is asked to stop, and started again.
    Restart {
        /// The node.
        node: u32,
        /// How long it is down at least, in milliseconds.
        down_ms: u64,
    },
    /// A process does not run; its clock goes on and its messages queue up.
    Pause {
        /// The node.
        node: u32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A process gets a turn only so often.
    SlowCpu {
        /// The node.
        node: u32,
        /// Between two of its turns at least, in microseconds.
        by_us: u64,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A node's wall clock jumps.
    Jump {
        /// The node.
        node: u32,
        /// How far; backward when negative; in milliseconds.
        by_ms: i64,
    },
    /// A node's wall clock is set by small steps.
    Steps {
        /// The node.
        node: u32,
        /// How far each time; backward when negative; in milliseconds.
        by_ms: i64,
        /// How often.
        times: u32,
        /// Between two steps, in milliseconds.
        every_ms: u64,
    },
    /// A node's wall clock stands still, and then goes on from there.
    Freeze {
        /// The node.
        node: u32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A node's clocks run at another rate.
    Drift {
        /// The node.
        node: u32,
        /// How much faster than true time, in millionths.
        ppm: i32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A node's syncs and cold reads take longer, and so does, by a part of that, each call of its disk on its own thread.
    SlowDisk {
        /// The node.
        node: u32,
        /// By how much, in milliseconds.
        by_ms: u64,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A node's disk ends no sync and no cold read until this is over.
    StallDisk {
        /// The node.
        node: u32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A node's disk fails. A node that ends by it is started again until it stays.
    DiskError {
        /// The node.
        node: u32,
        /// How.
        what: DiskError,
        /// How often, from 1; a disk that is full or read-only, or a lack of descriptors, refuses everything.
        times: u32,
        /// For how long at most, in milliseconds. Damage stays until somebody repairs it.
        for_ms: u64,
    },
    /// A process ends, and is started at another address, where it stays. Who has its name finds it there, but nobody is told.
    Move {
        /// The node.
        node: u32,
        /// Whether it is asked to stop; else it is killed.
        orderly: bool,
        /// How long it is down at least, in milliseconds.
        down_ms: u64,
    },
    /// A node is started on something that is not its newest data directory.
    Directory {
        /// The node.
        node: u32,
        /// On what.
        what: Directory,
        /// After how long its newest directory is put back, in milliseconds.
        for_ms: u64,
    },
}

/// How a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskError {
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
}

/// How links behave badly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mischief {
    /// They are cut and whole by turns, cut first.
    Flap {
        /// How long each turn is, in milliseconds.
        every_ms: u64,
    },
    /// They lose messages.
    Lose {
        /// How many in a million.
        ppm: u32,
    },
    /// Messages arrive twice.
    Double {
        /// How many in a million.
        ppm: u32,
    },
    /// All messages are late.
    Slow {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// Some messages are late and the others are not.
    Bimodal {
        /// How many in a million.
        ppm: u32,
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// Messages are held, and all arrive at once when this is over.
    Clog,
    /// Messages of one kind are held, and all arrive at once when this is over.
    Hold {
        /// The kind.
        kind: Said,
    },
    /// One bit of a datagram is flipped, and of a piece of a stream where there are streams. (Elsewhere messages travel as if on
    /// connections with checksums.)
    Corrupt {
        /// How many in a million.
        ppm: u32,
    },
    /// Connections are broken and none is taken; datagrams pass.
    Refuse,
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

impl Kind {
    /// The nodes that it strikes.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        match self {
            Kind::Cut { links, .. }
            | Kind::Links { links, .. }
            | Kind::Reset { links }
            | Kind::HalfOpen { links } => links.iter().flat_map(|&(from, to)| [from, to]).collect(),
            Kind::PowerLoss { nodes, .. } => nodes.clone(),
            Kind::Kill { node, .. }
            | Kind::CrashLoop { node, .. }
            | Kind::Restart { node, .. }
            | Kind::Pause { node, .. }
            | Kind::SlowCpu { node, .. }
            | Kind::Jump { node, .. }
            | Kind::Steps { node, .. }
            | Kind::Freeze { node, .. }
            | Kind::Drift { node, .. }
            | Kind::SlowDisk { node, .. }
            | Kind::StallDisk { node, .. }
            | Kind::DiskError { node, .. }
            | Kind::Move { node, .. }
            | Kind::Directory { node, .. } => vec![*node],
        }
    }
}

impl Fault {
    /// The nodes that the fault speaks of.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let mut nodes = self.what.nodes();
        match self.when {
            Trigger::OnSyncPending { node, .. }
            | Trigger::OnBoot { node, .. }
            | Trigger::OnMaintenance { node, .. } => nodes.push(node),
            Trigger::OnMessage { from, to, .. } => nodes.extend([from, to]),
            Trigger::At { .. } | Trigger::OnAck { .. } | Trigger::After { .. } => {}
        }
        nodes
    }

    /// Whether a process loses its memory.
    #[must_use]
    pub const fn ends_a_process(&self) -> bool {
        matches!(
            self.what,
            Kind::PowerLoss { .. }
                | Kind::Kill { .. }
                | Kind::CrashLoop { .. }
                | Kind::Restart { .. }
                | Kind::DiskError { .. }
                | Kind::Directory { .. }
                | Kind::Move { .. }
        )
    }

    const fn is_in_maintenance(&self) -> bool {
        matches!(self.when, Trigger::OnMaintenance { .. })
    }

    /// What people call it; `catalogue` says what each name means.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.what {
            Kind::Cut { name, .. } => name,
            Kind::Links { how, .. } => how.name(),
            Kind::Reset { .. } => "reset",
            Kind::HalfOpen { .. } => "half-open",
            Kind::PowerLoss { .. } if matches!(self.when, Trigger::OnBoot { .. }) => {
                "crash in recovery"
            }
            Kind::PowerLoss { .. } if self.is_in_maintenance() => "crash in maintenance",
            Kind::StallDisk { .. } if self.is_in_maintenance() => "stall in maintenance",
            Kind::DiskError { what: DiskError::Rot, .. } if self.is_in_maintenance() => {
                "rot in maintenance"
            }
            Kind::PowerLoss { nodes, .. } if nodes.len() > 1 => "correlated power loss",
            Kind::PowerLoss { fate, .. } => fate.name(),
            Kind::Kill { .. } => "kill",
            Kind::CrashLoop { times, .. } if *times >= MANY_LIVES => "many lives",
            Kind::CrashLoop { .. } => "crash loop",
            Kind::Restart { .. } => "restart",
            Kind::Move { .. } => "another address",
            Kind::Pause { for_ms, .. } if *for_ms >= LONG_PAUSE_MS => "long pause",
            Kind::Pause { .. } => "pause",
            Kind::SlowCpu { .. } => "slow cpu",
            Kind::Jump { by_ms, .. } if *by_ms < 0 => "backward jump",
            Kind::Jump { .. } => "forward jump",
            Kind::Steps { .. } => "clock steps",
            Kind::Freeze { .. } => "clock freeze",
            Kind::Drift { .. } => "drift change",
            Kind::SlowDisk { .. } => "slow disk",
            Kind::StallDisk { .. } => "stalled disk",
            Kind::DiskError { what, .. } => what.name(),
            Kind::Directory { what, .. } => what.name(),
        }
    }

    /// Whether the fault, which stands at `at` among `all`, can strike and ends.
    pub(super) fn check(&self, at: usize, all: &[Fault]) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        if let Trigger::After { fault, .. } = self.when {
            // Only earlier ones, so that there is no circle.
            says(fault < at && fault < all.len(), "a fault comes after one that stands behind it")?;
        }
        if let (
            Kind::PowerLoss { nodes, .. },
            Trigger::OnBoot { node, .. } | Trigger::OnMaintenance { node, .. },
        ) = (&self.what, self.when)
        {
            says(
                nodes.contains(&node),
                "a power loss at a disk operation strikes that disk's node",
            )?;
        }
        match self.what {
            Kind::Drift { ppm, .. } => says(ppm.abs() <= 100_000, "drift is at most 100,000 ppm"),
            Kind::Links { how: Mischief::Flap { every_ms }, .. } => {
                says(every_ms > 0, "a flapping link needs turns of at least 1 ms")
            }
            Kind::DiskError { times, .. } => {
                says((1..=1_000).contains(&times), "a disk error strikes 1 to 1,000 times")
            }
            Kind::SlowCpu { by_us, .. } => {
                says(by_us <= 200_000, "a slow cpu waits at most 200,000 us")
            }
            _ => Ok(()),
        }
    }
}

/// From when on a crash loop makes many lives.
const MANY_LIVES: u32 = 30;
/// From when on a pause is a long one, in milliseconds: longer than it takes to be held for dead.
const LONG_PAUSE_MS: u64 = 10_000;

impl DiskError {
    /// All of them.
    pub const ALL: [DiskError; 13] = [
        DiskError::Read,
        DiskError::Write,
        DiskError::Sync,
        DiskError::Rename,
        DiskError::Directory,
        DiskError::Full,
        DiskError::ReadOnly,
        DiskError::ShortWrite,
        DiskError::Rot,
        DiskError::WriteAstray,
        DiskError::ReadAstray,
        DiskError::LastingRot,
        DiskError::NoDescriptors,
    ];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DiskError::Read => "read error",
            DiskError::Write => "write error",
            DiskError::Sync => "sync error",
            DiskError::Rename => "rename error",
            DiskError::Directory => "directory error",
            DiskError::Full => "full disk",
            DiskError::ReadOnly => "read-only disk",
            DiskError::ShortWrite => "short write",
            DiskError::Rot => "bit rot",
            DiskError::WriteAstray => "misdirected write",
            DiskError::ReadAstray => "misdirected read",
            DiskError::LastingRot => "lasting rot",
            DiskError::NoDescriptors => "no descriptors",
        }
    }
}

impl Mischief {
    const fn name(self) -> &'static str {
        match self {
            Mischief::Flap { .. } => "flapping",
            Mischief::Lose { .. } => "loss burst",
            Mischief::Double { .. } => "duplicate burst",
            Mischief::Slow { .. } => "slow link",
            Mischief::Bimodal { .. } => "bimodal delay",
            Mischief::Clog => "clog",
            Mischief::Hold { .. } => "held messages",
            Mischief::Corrupt { .. } => "corruption",
            Mischief::Refuse => "refused connections",
        }
    }
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
