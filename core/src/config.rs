//! Every limit of the node, with the relations between them, and what differs from node to node.

use crate::env::Address;
use crate::id::{Life, NodeId};

/// The longest key a client may use, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// The most replicas of a key.
pub const REPLICAS_MAX: usize = 12;
/// How many groups of keyspaces there may be.
pub const GROUPS_MAX: usize = 16;
/// How many layouts may be live at a time: one more is committed when the older has been dropped.
pub const LAYOUTS_LIVE_MAX: usize = 2;
/// The most siblings that one coordinator lets a key have; a write that would make more is refused as `Overloaded`. Those of all
/// coordinators may come together.
pub const SIBLINGS_MAX: usize = 64;
/// The highest number of a dot: far above what any actor issues, so that counting on from a hostile one never overflows.
pub const DOT_MAX: u64 = 1 << 60;
/// The most runs in one key's clock, in a record, a message and a token: each actor has one, and one more for each gap.
pub const RUNS_MAX: usize = 108;
/// How many numbers of an actor belong to one life of its node: those of life `b` are below `(b + 1) * LIFE_DOTS`.
pub const LIFE_DOTS: u64 = 1 << 32;
/// From so many runs of its own actor on, a coordinator waits for all replicas to close the gaps between them.
pub const OWN_RUNS_USUAL: usize = 8;
/// The largest head of a record, in bytes.
pub const HEAD_BYTES_MAX: usize = 256 << 10;
/// What one of three coordinators or fewer lets the values of one key grow to, in bytes; `state_bytes_max` of more.
pub const STATE_BYTES_MAX: usize = 4 << 20;
/// The largest body of a record, in bytes: what all coordinators accepted may come together in one.
pub const BODY_BYTES_MAX: usize = 12 << 20;
/// What a version takes in a head at most, in bytes: number, HLC, request, flags, expiry, actor and step
/// of the version it stands behind, content type, digest, length.
pub const VERSION_HEAD_BYTES_MAX: usize =
    9 + 9 + 17 + 1 + 9 + (9 + 5) + (3 + CONTENT_TYPE_BYTES_MAX) + 9 + 5;
/// What a run with an actor of its own takes in a head at most, in bytes, with the numbers of runs and versions.
pub const RUN_HEAD_BYTES_MAX: usize = 9 + 3 + 2 * 9 + 3;

/// What each of n coordinators lets the values of one key grow to, in bytes: all of them together fit in a record and a message.
#[must_use]
pub const fn state_bytes_max(replicas: usize) -> usize {
    let share = BODY_BYTES_MAX / if replicas == 0 { 1 } else { replicas };
    if share < STATE_BYTES_MAX { share } else { STATE_BYTES_MAX }
}

/// The largest message between nodes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The largest datagram between nodes, in bytes; what does not fit is not gossiped.
pub const DATAGRAM_BYTES_MAX: usize = 32 << 10;
/// The longest engine key: kind, group, token, keyspace and the client's key, in bytes.
pub const ENGINE_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 32;
/// The most keys that one step of a range delete takes.
pub const RANGE_KEYS_MAX: usize = 1024;
/// What one step of a range delete reads of keys and heads, in bytes; one key and its head may go beyond it.
pub const RANGE_BYTES_MAX: usize = 1 << 20;
/// The most keys that one message lists of a unit that another node takes: their heads are read at once, in one step of the node.
pub const PAGE_KEYS_MAX: usize = 128;
/// What is read of keys and heads for one such message, in bytes; one key and its head may go beyond it.
pub const PAGE_BYTES_MAX: usize = 128 << 10;
/// Units that a node takes from others at a time.
pub const TRANSFERS_MAX: usize = 4;
/// Keys of one unit that are asked for, or are being stored, at a time.
pub const FETCH_KEYS_MAX: usize = 16;
/// The values of such keys together, in bytes; one key's may go beyond it.
pub const FETCH_BYTES_MAX: u64 = 4 << 20;
/// How far a source has been walked is stored again after so many bytes of values at the latest.
pub const WALK_STORED_BYTES: u64 = 4 << 20;
/// What a node takes from others of units that it does not have all of, in bytes per second, when nobody says.
pub const TRANSFER_BYTES_PER_S: u64 = 32 << 20;
/// The least that somebody may say: a change of the cluster comes to an end.
pub const TRANSFER_BYTES_PER_S_MIN: u64 = 64 << 10;
/// The most.
pub const TRANSFER_BYTES_PER_S_MAX: u64 = 1 << 40;
/// Writes that have ended and of which it is not known yet who lacks them; what more there are leaves no hints.
pub const OWED_MAX: usize = 16 << 10;
/// How long a primary may take to acknowledge a write after its end before that becomes a hint, in milliseconds.
pub const OWED_MS: u64 = 300;
/// Such writes of which one batch makes hints.
pub const HINTS_A_BATCH: usize = 64;
/// What the hints for one target may take in the store when nobody says otherwise, in bytes.
pub const HINT_BYTES_MAX: u64 = 64 << 20;
/// What a hint takes in the store beside its key, in bytes, about.
pub const HINT_BYTES: u64 = 64;
/// When the oldest hint for a target is older than this, in milliseconds, it gets no new ones: comparing all is cheaper then.
pub const HINT_AGE_MS_MAX: u64 = 3 * 3_600_000;
/// Hints that a start looks at in one step.
pub const HINTS_A_LOOK: usize = 512;
/// Hints that are being handed over at a time, and those of one target.
pub const HANDED_MAX: usize = 64;
/// As above, of one target.
pub const HANDED_A_TARGET_MAX: usize = 16;
/// Hints that cannot be read and are told apart; what more there are counts as stored.
pub const HINTS_UNREADABLE_MAX: usize = 4096;
/// Units whose roots two nodes compare with one message.
pub const REPAIR_ROOTS_MAX: usize = 512;
/// Leaves of one unit that two nodes make equal in one round; what is left comes with the next one.
pub const REPAIR_LEAVES_MAX: usize = 256;
/// Keys whose heads are read at once, in one step of a node, to find those of some leaves; the one who compares reads up to twice as
/// many. Few: clients wait for that step, and a head costs some microseconds. 512 at once took up to 14 ms.
pub const REPAIR_SCAN_KEYS_MAX: usize = 32;
/// Keys that are found to differ before they are made equal.
pub const REPAIR_KEYS_MAX: usize = 256;
/// Keys of one unit that are made equal at a time. Few: what many units have on their way comes at one node in one turn, which
/// keeps clients waiting.
pub const REPAIR_MENDED_MAX: usize = 2;
/// Units that a node compares with others at a time, by its own doing.
pub const REPAIRS_MAX: usize = 8;
/// How often two nodes compare their copies when nothing happens, in milliseconds, when nobody says.
pub const REPAIR_EVERY_MS: u64 = 600_000;
/// What a node lets comparing and making equal take, in bytes per second, when nobody says.
pub const REPAIR_BYTES_PER_S: u64 = 8 << 20;
/// When so much was written since the last time, a node stores all its hash trees once more, in bytes. A start after a kill reads about
/// so much of the log; and the LSM engine keeps more than that of it.
pub const TREES_STORED_BYTES: u64 = 48 << 20;
/// After so much time it stores those that have changed, in milliseconds.
pub const TREES_STORED_MS: u64 = 600_000;
/// Rows of hash trees that are stored, or read, in one step of a node; each has 8.3 KiB at most.
pub const TREES_A_STEP: usize = 4;
/// What one step looks at of the log to bring stored trees up to date, in bytes; one write may go beyond it.
pub const TREES_REPLAY_BYTES: u64 = 128 << 10;
/// Those that are stored at a clean end, in one write of some 8.5 MiB at most. Of what is more the next life reads the log.
pub const TREES_AT_STOP_MAX: usize = 1024;
/// Keys that a node purges at a time.
pub const PURGES_MAX: usize = 16;
/// Keys of units that a node does not own, and that their owners refuse, which are told apart; more are kept like those.
pub const QUARANTINED_MAX: usize = 4096;
/// How long what is deleted or has expired is kept when nobody says, in milliseconds.
pub const GRACE_MS: u64 = 24 * 3_600_000;
/// The least that somebody may say: clocks are apart by the drift bound each way, and requests are judged by the time they came.
pub const GRACE_MS_MIN: u64 = 2 * DRIFT_MS_MAX;
/// The last changes that the memory engine can tell once more; Bitcask has what it has on its disk.
pub const MEMORY_LOG_CHANGES_MAX: usize = 4096;
/// The longest causal context token, encoded, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 4 << 10;
/// The longest node name or keyspace name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// The most nodes in a cluster.
pub const NODES_MAX: usize = 256;
/// Nodes that have lost their role and are remembered in the layout, so that they get none again by mistake.
pub const REMOVED_MAX: usize = 1024;
/// The most keyspaces in a cluster.
pub const KEYSPACES_MAX: usize = 256;
/// Earlier lives of a node that its data directory remembers. A copy that went its own way is known by them, unless it was
/// started more often than this without anybody telling it.
pub const EARLIER_LIVES_MAX: usize = 16;
/// The most partitions in a cluster.
pub const PARTITIONS_MAX: u16 = 4096;
/// One read in so many may ask a replica more than it needs, because those it has asked are slow.
pub const READS_PER_HEDGE: u32 = 10;
/// So many hedges are saved up for when a replica falls silent: as long as it is not known to be gone, each read that asked it needs one.
pub const HEDGES_SAVED_MAX: u32 = 1_000;
/// States that reads have sent to replicas lately, and do not send again.
pub const REPAIRS_REMEMBERED_MAX: usize = 4_096;
/// Requests a node works on at once as their coordinator; more are `Overloaded`.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16 << 10;
/// Inputs of clients waiting for the node; more are `Overloaded`.
pub const CLIENT_LANE_MAX: usize = 8 << 10;
/// Requests of peers waiting for the node; more are dropped, and asked again by their owner.
pub const PEER_LANE_MAX: usize = 64 << 10;
/// What a node may hold in memory when nobody says otherwise, in bytes; its engine's index and caches are apart.
pub const MEMORY_BYTES_USUAL: usize = 512 << 20;
/// The least that a node can work with, in bytes: each source needs room for one of the largest messages.
pub const MEMORY_BYTES_MIN: usize = 160 << 20;
/// What one link reads ahead at most, in bytes: a fixed cost, outside of all budgets.
pub const LINK_BUFFER_BYTES: usize = 64 << 10;
/// Datagrams waiting for the node, in bytes: whoever reaches the port may send them, so they have little room.
pub const DATAGRAM_LANE_BYTES_MAX: usize = 4 << 20;
/// Client-named requests remembered for later attempts; a client that has as many as are free is `Overloaded`.
pub const REMEMBERED_REQUESTS_MAX: usize = 256 << 10;
/// What is remembered of one of them, in bytes.
pub const REMEMBERED_BYTES_MAX: usize = 128;
/// Attempts of one request that wait for its outcome together; more are told that they do not know it.
pub const ASKERS_MAX: usize = 64;
/// The longest deadline of a request, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 30_000;
/// How long requests may go on in a node that was told to stop, in milliseconds; then they end with what is known of them.
pub const STOP_MS_MAX: u64 = 1_000;
/// For so long after its start a node is not ready while any partition lacks a quorum among the nodes that it reaches, in
/// milliseconds: it is still meeting the others.
pub const MEETING_MS_MAX: u64 = 10_000;
/// A node whose sync has been running for longer than this is not ready, in milliseconds: every write on it waits for that sync.
pub const SLOW_SYNC_MS: u64 = 2_000;
/// A remote time further ahead than this is not adopted into a node's clock, in milliseconds.
pub const DRIFT_MS_MAX: u64 = 500;
/// The longest that a value may be told to stay, in milliseconds: a hundred years. A value that is told nothing stays for ever.
pub const TTL_MS_MAX: u64 = 100 * 366 * 24 * 3_600_000;
/// How far ahead the hybrid clock reserves readings, in milliseconds.
pub const HLC_RESERVE_MS: u64 = DRIFT_MS_MAX / 4;
/// How far a hybrid clock may be ahead of the peers' clocks without anything being wrong, in milliseconds: its own wall is trusted up to
/// the drift bound ahead of them, another's time is adopted up to the drift bound ahead of that, and a restart adds the reserve.
pub const HLC_AHEAD_MS_MAX: u64 = 2 * DRIFT_MS_MAX + HLC_RESERVE_MS;

/// The longest address of a node, in bytes: a host name of 253, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// The largest datagram of the failure detector, in bytes: it fits in one Ethernet frame, so that losing a fragment loses no more.
pub const SWIM_DATAGRAM_BYTES_MAX: usize = 1400;
/// What a datagram of the failure detector takes at most without rumours, in bytes: its code and number, the cluster's name, who
/// speaks, and what it asks.
pub const SWIM_FRAME_BYTES_MAX: usize =
    16 + 1 + (3 + NAME_BYTES_MAX) + SWIM_FACTS_BYTES_MAX + (1 + 9 + 17 + 3 + ADDRESS_BYTES_MAX) + 3;
/// What one rumour takes at most, in bytes: its kind, and who a node is in which incarnation.
pub const SWIM_RUMOUR_BYTES_MAX: usize = 1 + SWIM_FACTS_BYTES_MAX;
/// What node, incarnation, standing, session, name and address take at most, in bytes.
const SWIM_FACTS_BYTES_MAX: usize =
    17 + 2 * 9 + 1 + 9 + (3 + NAME_BYTES_MAX) + (3 + ADDRESS_BYTES_MAX);
/// The most nodes that a failure detector knows, those that are gone included.
pub const SWIM_MEMBERS_MAX: usize = 2048;
/// How often a node probes another one, in milliseconds.
pub const SWIM_PROBE_MS: u64 = 1_000;
/// How long the answer to a probe may take before others are asked to help, in milliseconds.
pub const SWIM_TIMEOUT_MS: u64 = 500;
/// After how long a helper that has no answer says so, in milliseconds: while who asked still waits for it.
pub const SWIM_NACK_MS: u64 = SWIM_TIMEOUT_MS * 4 / 5;
/// How many others are asked to help with a probe.
pub const SWIM_HELPERS_MAX: usize = 3;
/// Probes of others that a node helps with at once.
pub const SWIM_RELAYS_MAX: usize = 256;
/// How often rumours are passed on, in milliseconds.
pub const SWIM_GOSSIP_MS: u64 = 200;
/// To how many nodes rumours are passed on each time.
pub const SWIM_GOSSIP_NODES_MAX: usize = 3;
/// A rumour is passed on this many times the decimal digits of the number of nodes.
pub const SWIM_RETRANSMIT: u32 = 4;
/// A node that is dead is told rumours for so long, in milliseconds, so that it can refute them.
pub const SWIM_GOSSIP_TO_DEAD_MS: u64 = 30_000;
/// How often two nodes compare all they know, in milliseconds.
pub const SWIM_EXCHANGE_MS: u64 = 30_000;
/// The shortest time of a suspicion, in probes, times the logarithm of the number of nodes.
pub const SWIM_SUSPICION_PROBES: u64 = 4;
/// The longest time of a suspicion, in shortest ones.
pub const SWIM_SUSPICION_STRETCH: u64 = 6;
/// So many confirmations by others make a suspicion as short as it gets.
pub const SWIM_CONFIRMATIONS_MAX: usize = 2;
/// The worst that a node thinks of its own health; 0 is well.
pub const SWIM_HEALTH_MAX: u8 = 7;
/// How often a node that is dead is probed, in milliseconds, so that healed halves meet.
pub const SWIM_DEAD_PROBE_MS: u64 = 5_000;
/// How long a node may be restarting before it is taken for dead, in milliseconds.
pub const SWIM_RESTART_MS_MAX: u64 = 60_000;
/// How long it is remembered that a node is dead or has left, in milliseconds.
pub const SWIM_TOMBSTONE_MS: u64 = 24 * 3_600_000;
/// A node that wakes up this much later than it wanted was paused, in milliseconds, and what it has not heard proves nothing.
pub const SWIM_PAUSE_MS_MAX: u64 = 2 * SWIM_GOSSIP_MS;
/// The highest count of an incarnation: far above what any node refutes, so that counting on from a hostile one never overflows.
pub const SWIM_INCARNATION_MAX: u64 = 1 << 60;

const _: () = assert!(
    SWIM_FRAME_BYTES_MAX + SWIM_RUMOUR_BYTES_MAX <= SWIM_DATAGRAM_BYTES_MAX,
    "a datagram has room for one rumour, whatever it is about"
);
const _: () = assert!(SWIM_TIMEOUT_MS + SWIM_NACK_MS < SWIM_PROBE_MS, "helpers answer in time");
const _: () = assert!(SWIM_DATAGRAM_BYTES_MAX <= DATAGRAM_BYTES_MAX);
const _: () = assert!(NODES_MAX < SWIM_MEMBERS_MAX);
const _: () = assert!(
    BODY_BYTES_MAX + HEAD_BYTES_MAX + KEY_BYTES_MAX + CONTEXT_BYTES_MAX + 4096 < MESSAGE_BYTES_MAX,
    "a message brings whatever a record holds, and an answer shows it"
);
const _: () = assert!(2 * REPAIR_SCAN_KEYS_MAX <= REPAIR_KEYS_MAX, "what a page lists can differ");
const _: () = assert!(LIFE_DOTS < DOT_MAX);
const _: () = assert!(OWN_RUNS_USUAL < issue_runs_max(3), "gaps are closed before a key is full");
const _: () = assert!(issue_runs_max(REPLICAS_MAX) >= 1);
const _: () = assert!(STATE_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(
    VALUE_BYTES_MAX <= state_bytes_max(REPLICAS_MAX),
    "each of the most coordinators takes a value of any size"
);
const _: () = assert!(
    16 + SIBLINGS_MAX * REPLICAS_MAX * VERSION_HEAD_BYTES_MAX + RUNS_MAX * RUN_HEAD_BYTES_MAX
        <= HEAD_BYTES_MAX,
    "the siblings of all coordinators fit in one head"
);
const _: () = assert!(
    PAGE_KEYS_MAX * (ENGINE_KEY_BYTES_MAX + 32) < MESSAGE_BYTES_MAX / 16,
    "a page of the longest keys is a small message"
);
const _: () = assert!(
    FETCH_BYTES_MAX as usize * TRANSFERS_MAX + BODY_BYTES_MAX <= MEMORY_BYTES_MIN / 4,
    "what is on its way into a node leaves room for its other work"
);
const _: () = assert!(REPLICAS_MAX <= NODES_MAX);
const _: () = assert!(DATAGRAM_BYTES_MAX < 65_507, "the largest UDP payload over IPv4");
const _: () = assert!(MEMORY_BYTES_MIN <= MEMORY_BYTES_USUAL);
const _: () = assert!(2 * NODES_MAX * LINK_BUFFER_BYTES <= MEMORY_BYTES_USUAL / 16);
const _: () = assert!(DATAGRAM_LANE_BYTES_MAX >= 64 * DATAGRAM_BYTES_MAX);
const _: () = assert!(PARTITIONS_MAX.is_power_of_two());
const _: () = assert!(REQUESTS_IN_FLIGHT_MAX >= CLIENT_LANE_MAX);
const _: () = assert!(REMEMBERED_REQUESTS_MAX >= 4 * REQUESTS_IN_FLIGHT_MAX, "all in flight fit");
const _: () = assert!(REMEMBERED_REQUESTS_MAX * REMEMBERED_BYTES_MAX <= 32 << 20);
const _: () = assert!(HLC_RESERVE_MS > 0 && HLC_RESERVE_MS < DRIFT_MS_MAX);

/// How many runs a coordinator lets the clock of a key with so many replicas grow to: what all of them accepted at once may
/// come together, and fits in a record, a message and a token.
#[must_use]
pub const fn issue_runs_max(replicas: usize) -> usize {
    RUNS_MAX / replicas
}

/// What becomes of the actors that earlier lives have drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actors {
    /// They go on: the store was closed cleanly, and is exactly what it was then, where it was then.
    Continue,
    /// They go on above every number that an earlier life may have issued: the store was not closed, but lies where it lay
    /// and has lost nothing that was durable.
    Jump,
    /// They are given up: the store has moved, lost something, or cannot show that it has not.
    Fresh,
}

/// What differs from node to node. Every field is chosen by the caller: there are no defaults here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// This node's identity, from its data directory.
    pub id: NodeId,
    /// The label people gave it.
    pub name: String,
    /// How often its data directory has been opened, this time included, and by which session.
    pub life: Life,
    /// The lives that its data directory has been through before, the latest first.
    pub earlier: Vec<Life>,
    /// Where its data directory lies: another number than last time when it is a copy or was moved.
    pub place: u128,
    /// What becomes of the actors of earlier lives.
    pub actors: Actors,
    /// Only nodes of the same cluster name talk to each other.
    pub cluster: String,
    /// Where peers reach this node.
    pub peer_address: Address,
    /// Where clients reach this node; only shown to people.
    pub client_address: Address,
    /// Addresses of nodes to meet. Empty: form a layout alone.
    pub seeds: Vec<Address>,
    /// Whether it gets a role in the layout of the cluster that it meets by itself.
    pub joins: bool,
    /// How many nodes form the first layout; 0: this one forms none, and only joins.
    pub bootstrap_expect: usize,
    /// Fixed partitions of the token space in a layout formed by this node: a power of two.
    pub partitions: u16,
    /// Replicas of each key, in a layout formed by this node.
    pub replicas: u8,
    /// Replicas that must answer a `quorum` read.
    pub read_quorum: u8,
    /// Replicas that must hold a `quorum` write.
    pub write_quorum: u8,
    /// Whether the keyspace `default` is sloppy, when this node writes the first layout.
    pub sloppy: bool,
    /// This node's share of the data, relative to the others'.
    pub weight: u32,
    /// The failure domain this node is in; replicas are spread over zones where there are several.
    pub zone: String,
    /// How long a request may take when it does not say, in milliseconds.
    pub deadline_ms: u64,
    /// How long a read waits at least before it asks another replica too, in milliseconds.
    pub hedge_ms: u64,
    /// How often a question without an answer is asked again, in milliseconds.
    pub resend_ms: u64,
    /// How often a node tells its peers that it lives, in milliseconds.
    pub heartbeat_ms: u64,
    /// A peer not heard of for this long is taken for dead, in milliseconds.
    pub dead_ms: u64,
    /// What the node may hold in memory, in bytes, its engine's index and caches apart: at least
    /// `MEMORY_BYTES_MIN`. See `budget`.
    pub memory_bytes_max: usize,
    /// What it takes from others of units that it does not have all of, in bytes per second: `TRANSFER_BYTES_PER_S_MIN` to
    /// `TRANSFER_BYTES_PER_S_MAX`.
    pub transfer_bytes_per_s: u64,
    /// What its hints for one target may take in the store, in bytes; 0: it stores none.
    pub hint_bytes_max: u64,
    /// How often it compares its copies with those of another owner when nothing happens, in milliseconds; 0: it
    /// only answers those who compare.
    pub repair_every_ms: u64,
    /// What comparing copies and making them equal may take, in bytes per second, and what reads may bring beyond their
    /// duty; bounded as transfers are.
    pub repair_bytes_per_s: u64,
    /// How long what is deleted or has expired is kept before it is purged, in milliseconds; 0: for ever.
    pub grace_ms: u64,
}
