//! One node with its machine: its process, its disk, what its data directory holds, and its clock.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rondo_core::engine::Engine as _;
use rondo_core::env::Address;
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;
use rondo_core::status::Status;
use rondo_core::version::dvv::VersionVector;
use rondo_engines::mem_disk::MemDisk;

use crate::device::clock::SkewedClock;
use crate::device::disk::{self, Fuse};
use crate::device::failing::Failing;
use crate::draw::{self, Stream};
use crate::rt::{self, Process, Time};
use crate::scenario::Scenario;
use crate::watch::shadow::Shadow;
use crate::watch::tap::Tap;
use crate::world::stand_in::{Lack, StandIn};

/// Whether a node is one of the cluster's, as far as those who run it can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// It comes later.
    Later,
    /// It is there, whether its process runs or not.
    There,
    /// It is gone for good.
    Gone,
}

/// One node and its machine.
pub struct Node {
    /// Whether it is there.
    pub part: Part,
    /// Its process.
    pub process: Running,
    /// Its disk.
    pub device: Device,
    /// Its data directory.
    pub data: Data,
    /// Its clock.
    pub clock: SkewedClock,
    /// Lives so far.
    pub lives: u64,
    /// How often it has got another address.
    moves: u32,
    /// Where it is.
    pub address: Address,
}

/// A node's process; most of it belongs to one life.
#[derive(Default)]
pub struct Running {
    /// The process itself, once it was started.
    pub handle: Option<Process>,
    /// Counts its lives; what belongs to an earlier one is ignored.
    pub epoch: u32,
    /// Its way in, while it lives.
    pub inbox: Option<Inbox>,
    /// What it last said of itself in this life.
    pub status: Option<Status>,
    /// The last durable write that it has heard of each other, as it said in this life.
    pub heard: BTreeMap<NodeId, u64>,
    /// The nodes it knows how to reach: at which address, and which machine was given that.
    pub routes: BTreeMap<NodeId, (u32, Address)>,
    /// Whether it is in its first turn, in which its store is opened.
    pub starting: bool,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// By when it has to have stopped.
    pub stop_by: Time,
    /// Until when it is paused.
    pub paused_until: Time,
    /// Between two of its turns at least, in microseconds.
    pub turn_us: u64,
    /// Since when it has been down, when it is.
    pub down_since: Time,
}

/// A node's disk and its luck.
pub struct Device {
    /// The disk.
    pub disk: MemDisk,
    /// The power loss that waits for an operation of it.
    pub fuse: Fuse,
    /// What is wrong with it.
    pub failing: Failing,
    /// Syncs started so far, over all lives.
    pub syncs: u64,
    /// What it adds to every wait, in milliseconds.
    pub slow_ms: u64,
    /// Until when it ends nothing.
    pub stalled_until: Time,
    /// Bytes that the node has given its engine in this turn.
    pub written_bytes: u64,
}

/// What is known of a node's data directory.
#[derive(Default)]
pub struct Data {
    /// The engine, while the node lives.
    pub tap: Option<Tap>,
    /// What the engine has to hold.
    pub shadow: Shadow,
    /// The last write that the engine has called durable, over all lives.
    pub durable: u64,
    /// Who the node is; known after its first start.
    pub id: Option<NodeId>,
    /// The last life of its newest directory.
    pub life: Option<Life>,
    /// What is known of its newest directory while something else is in its place.
    pub stand_in: Option<StandIn>,
    /// The node whose directory was copied to this machine, which is no node's own.
    pub clone_of: Option<u32>,
    /// What has been taken from the disk.
    pub lacks: Option<Lack>,
    /// The lives of others that counted when the store was opened last, as the store has them.
    pub lives_found: Option<Bytes>,
    /// What it knew of a key when it wrote the last hint that a node lacks it.
    pub owed: BTreeMap<(NodeId, u32), VersionVector>,
    /// The lives of others that it has answered, by their nodes.
    pub has_answered: BTreeSet<(u32, Life)>,
}

impl Node {
    /// A machine on which nothing has been started.
    #[must_use]
    pub fn new(scenario: &Scenario, node: u32) -> Node {
        let disk = MemDisk::new();
        disk::set_cold(&disk, &scenario.disks, scenario.seed, node);
        let failing = Failing::new(scenario.seed, node, &disk);
        let fuse = Fuse::of(&disk, &failing);
        let boot_ns = draw::keyed(scenario.seed, Stream::Boot, node, 0, 0).below(1 << 40);
        let is_later = (scenario.cluster.founders()..scenario.cluster.nodes).contains(&node);
        Node {
            part: if is_later { Part::Later } else { Part::There },
            process: Running::default(),
            device: Device {
                disk,
                fuse,
                failing,
                syncs: 0,
                slow_ms: 0,
                stalled_until: Time::default(),
                written_bytes: 0,
            },
            data: Data::default(),
            clock: SkewedClock::new(&scenario.skew(node), boot_ns),
            lives: 0,
            moves: 0,
            address: Address(format!("n{node}")),
        }
    }

    /// It is at another address from now on.
    pub fn move_on(&mut self, node: u32) {
        self.moves += 1;
        self.address = Address(format!("n{node}.{}", self.moves));
    }

    /// Whether its process lives.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.process.inbox.is_some()
    }

    /// Forgets all that a process holds; what it started belongs to an earlier life from now on.
    pub fn died(&mut self) {
        let Running { handle, epoch, stop_by, turn_us, .. } = self.process;
        let (epoch, down_since) = (epoch + 1, rt::now());
        self.process =
            Running { handle, epoch, stop_by, turn_us, down_since, ..Running::default() };
        let durable = self.data.tap.take().map_or(0, |tap| tap.durable().0);
        self.data.durable = self.data.durable.max(durable);
        self.device.written_bytes = 0;
        self.device.fuse.put_out();
    }
}
