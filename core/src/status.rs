//! A read-only picture of a node, for people and machines that watch it. Serialized as it is: the names are stable.

use serde::Serialize;

use crate::budget::{Gauge, Memory};
use crate::engine::EngineStats;
use crate::id::NodeId;
use crate::layout::{Layout, LayoutRef, Quorums, Role};
use crate::quorum::{self, Reach};
use crate::wire::client::Reply;

/// A node as it sees itself and its cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// This node, 32 hex digits.
    pub node: String,
    /// Its label.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// How often its data directory has been opened.
    pub boot: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Whether it serves requests: R and W of the primaries of some keys are reached, and it may serve. Otherwise `waiting` says
    /// why not; which keys it can serve says `served`.
    pub ready: bool,
    /// What is missing before it is ready, for people.
    pub waiting: Vec<String>,
    /// Why it must not serve, whatever its peers do; one of `waiting`.
    pub barred: Option<String>,
    /// Whether `barred` is for good: this data directory does not count any more.
    pub denied: bool,
    /// What people should know of nodes that this one does not hear or count, a line each.
    pub notes: Vec<String>,
    /// What is wrong although the node serves, for people.
    pub troubles: Vec<String>,
    /// Keys whose records cannot be read here, as far as they have been met.
    pub damaged_keys: u64,
    /// The newest live layout.
    pub layout: Option<LayoutStatus>,
    /// How far this node is with what changes.
    pub change: ChangeStatus,
    /// What it takes from others, and what goes to them.
    pub transfers: TransferStatus,
    /// What it owes to other nodes.
    pub hints: HintStatus,
    /// How its copies are compared with those of other owners.
    pub repairs: RepairStatus,
    /// What was purged, and what was in the way.
    pub purges: PurgeStatus,
    /// Every node known, this one included, sorted by name.
    pub members: Vec<MemberStatus>,
    /// Which partitions can be served, of those of the live layout.
    pub served: Option<Served>,
    /// Clients' keys here that have a version which is no deletion.
    pub keys: u64,
    /// Clients' keys here of which all versions are deletions.
    pub deleted_keys: u64,
    /// The engine. It counts records, the node's own among them, and not keys.
    pub engine: EngineStats,
    /// What was done since start.
    pub counters: Counters,
    /// Requests in flight.
    pub in_flight: u64,
    /// What it holds in memory, by source.
    pub memory: MemoryStatus,
    /// How far this node's clock is ahead of the median of its peers', in milliseconds. Beyond the drift bound the
    /// node refuses writes at level `one`.
    pub clock_ahead_ms: i64,
}

/// How far a node is with changes of layouts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ChangeStatus {
    /// The versions of the layouts that are live, the oldest first; two while one takes the place of the other.
    pub live: Vec<u64>,
    /// A layout that this node has endorsed and that is not live yet.
    pub proposed: Option<u64>,
    /// Changes that are staged and in no live layout.
    pub staged: u64,
    /// Who is waited for and for what, for people, while two layouts are live.
    pub waits: Option<String>,
    /// The ids of those who are waited for, 32 hex digits each: two nodes may have one name.
    pub awaited: Vec<String>,
    /// Units (partitions of groups) that this node owns under the newest live layout.
    pub units: u64,
    /// Units of which it may lack something: they count in nothing yet.
    pub partial: u64,
    /// Names of the nodes of which an operator has given up what they alone may have, while a layout comes.
    pub given_up: Vec<String>,
}

impl ChangeStatus {
    /// Whether one layout is live, no other is proposed, and this node has all that it owns. What is staged may wait for ever for
    /// somebody to commit it.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.live.len() == 1 && self.proposed.is_none() && self.partial == 0
    }
}

/// The most units of a picture that are told one by one.
pub const TAKING_SHOWN_MAX: usize = 16;

/// What a node takes from others, and what of it goes to others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TransferStatus {
    /// Units that it takes now, or cannot take, at most `TAKING_SHOWN_MAX` of them.
    pub taking: Vec<TakingStatus>,
    /// Units that have become whole since it started.
    pub taken_units: u64,
    /// Keys whose states were merged since then.
    pub taken_keys: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// How many of them it takes a second now, about.
    pub bytes_per_s: u64,
    /// Units that have had fewer sources than they needed since it started, because an operator had accepted a loss.
    pub given_up_units: u64,
    /// Units that it does not own any more and may have something of.
    pub leaving_units: u64,
    /// Keys of such units that their owners have and that were deleted here, since it started.
    pub left_keys: u64,
    /// Keys of dropped keyspaces that were deleted here since then.
    pub dropped_keys: u64,
}

/// How a node's copies are compared with those of other owners, and made equal. Counts are since its start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RepairStatus {
    /// Units whose hash trees are not complete yet: they are compared with nobody.
    pub growing_trees: u64,
    /// Where the trees come from.
    pub trees: TreesStatus,
    /// Units that this node compares now.
    pub exchanges: u64,
    /// Units that it knows to differ and that wait for their turn.
    pub waiting: u64,
    /// Rounds that it has ended, each with one other node.
    pub rounds: u64,
    /// Those in which something was left out or did not come to an end.
    pub failed_rounds: u64,
    /// Keys that it has found to differ.
    pub found_keys: u64,
    /// States that others had and that were merged here.
    pub taken_keys: u64,
    /// States that were brought to others.
    pub brought_keys: u64,
    /// Trees that did not say what was stored, and were made anew.
    pub wrong_trees: u64,
    /// Bytes that all this took, about.
    pub bytes: u64,
    /// Partitions that differed, or could not be compared, when this node looked last; at most `TAKING_SHOWN_MAX` of them.
    pub unequal: Vec<ComparedStatus>,
}

/// Where the hash trees of a node come from, and what was stored of them. Counts are since its start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TreesStatus {
    /// Trees that an earlier life had stored, and that were brought up to date from the log.
    pub loaded: u64,
    /// Stored trees that could not be, and were grown.
    pub refused: u64,
    /// Trees that were made of all heads of their unit.
    pub grown: u64,
    /// Trees that were stored, each time counted.
    pub stored: u64,
    /// Bytes that this took.
    pub stored_bytes: u64,
}

/// What was purged of what is deleted and has expired, and what was in the way. Counts are since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PurgeStatus {
    /// How long what is deleted or has expired is kept, in milliseconds; 0: for ever.
    pub grace_ms: u64,
    /// Keys that this node has purged, as the first of their owners: they are gone at all of them.
    pub purged_keys: u64,
    /// Keys from which it has taken what was known of actors that issue no more.
    pub compacted_keys: u64,
    /// How often something was in the way.
    pub blocked: u64,
    /// Keys that some owners have deleted and others have not been reached: they are found again.
    pub unfinished: u64,
    /// Keys that are being purged.
    pub in_flight: u64,
    /// States that were refused here because they may be a part of what was purged since they were read.
    pub late_states: u64,
    /// Keys here that this node does not own any more, and whose owners refuse them for that reason: they are kept, and shown to nobody.
    pub quarantined: u64,
    /// Partitions in which something waits to be purged, and what was in the way last; at most `TAKING_SHOWN_MAX` of them.
    pub waiting: Vec<WaitingStatus>,
}

/// A unit in which something waits to be purged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WaitingStatus {
    /// The group of keyspaces.
    pub group: u16,
    /// The partition.
    pub partition: u16,
    /// What was in the way last.
    pub why: &'static str,
}

/// What came last of comparing a unit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ComparedStatus {
    /// The group of keyspaces.
    pub group: u16,
    /// The partition.
    pub partition: u16,
    /// The other node.
    pub with: String,
    /// Milliseconds since then.
    pub ago_ms: u64,
    /// What came of it.
    pub outcome: &'static str,
}

/// The hash trees of a partition at one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MerkleStatus {
    /// The node's name.
    pub name: String,
    /// The partition.
    pub partition: u16,
    /// Which hashes they are made of: trees of different formats are not compared.
    pub format: u8,
    /// The tree of each group of which the node owns the partition.
    pub trees: Vec<TreeStatus>,
}

/// One hash tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TreeStatus {
    /// The group of keyspaces.
    pub group: u16,
    /// Whether it says what is stored, and the node has all of it.
    pub complete: bool,
    /// The hash of all, 16 hex digits; empty when it is not complete.
    pub root: String,
    /// The hashes of the nodes below the root.
    pub nodes: Vec<String>,
    /// What came last of comparing it.
    pub last: Option<ComparedStatus>,
}

/// A unit that a node takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TakingStatus {
    /// The group of keyspaces.
    pub group: u16,
    /// The partition.
    pub partition: u16,
    /// The name of the node that it is taken from now; `None`: it waits for its turn.
    pub from: Option<String>,
    /// Nodes that all of it has been taken from.
    pub done: usize,
    /// Nodes that all of it must be taken from.
    pub needed: usize,
    /// Why it does not go on, if it does not.
    pub trouble: Option<&'static str>,
}

/// The most targets of hints that are told one by one.
pub const HINT_TARGETS_SHOWN_MAX: usize = 64;

/// What a node owes to others: writes that they have not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct HintStatus {
    /// To whom, at most `HINT_TARGETS_SHOWN_MAX` of them.
    pub targets: Vec<HintTarget>,
    /// Hints in the store, for all of them.
    pub stored: u64,
    /// What they take there, in bytes, about.
    pub bytes: u64,
    /// Hints that cannot be read; they are kept.
    pub unreadable: u64,
    /// Whether those of earlier lives are still being counted; nothing is handed over before that.
    pub counting: bool,
    /// Writes that have ended a moment ago, of which it is not known yet who lacks them.
    pub owed: u64,
    /// Hints that are being handed over.
    pub in_flight: u64,
    /// Units of which somebody may lack something that no hint tells of.
    pub behind: u64,
    /// What became of them since it started.
    pub counters: HintCounters,
}

/// The hints for one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HintTarget {
    /// 32 hex digits.
    pub node: String,
    /// Its label.
    pub name: String,
    /// How things stand with it, as in `members`.
    pub state: &'static str,
    /// How many hints there are for it.
    pub hints: u64,
    /// What they take, in bytes, about.
    pub bytes: u64,
    /// None is older than this, in milliseconds.
    pub oldest_ms: u64,
}

/// What became of hints since the start. Those found and written are stored, unreadable, delivered, moved or given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct HintCounters {
    /// Those that the start has found.
    pub found: u64,
    /// Those that were written.
    pub written: u64,
    /// Writes of keys that were owed to the same target already.
    pub merged: u64,
    /// Copies that left no hint, because there is no room for one.
    pub refused: u64,
    /// Those whose targets hold durably what they lacked.
    pub delivered: u64,
    /// Those whose targets own their keys no more, and that have become hints for those who do.
    pub moved: u64,
    /// Those of keyspaces that are gone, and of keys that are.
    pub given_up: u64,
}

/// The newest live layout.
#[derive(Clone, Debug, Serialize)]
pub struct LayoutStatus {
    /// Its version.
    pub version: u64,
    /// Its digest, 32 hex digits.
    pub digest: String,
    /// Partitions of the token space.
    pub partitions: u16,
    /// Effective n, R and W of the first group.
    pub quorums: Quorums,
    /// What was asked for.
    pub wanted: Quorums,
    /// The nodes in it, sorted.
    pub roles: Vec<Role>,
    /// For each partition the owners, as indices into `roles`.
    pub owners: Vec<Vec<u16>>,
    /// The keyspaces' names.
    pub keyspaces: Vec<String>,
}

impl LayoutStatus {
    /// The picture of a layout.
    #[must_use]
    pub fn new(layout: &Layout, reference: LayoutRef) -> LayoutStatus {
        let group = &layout.groups()[0];
        let owners = group.owners.chunks(usize::from(group.quorums.n));
        LayoutStatus {
            version: reference.version.0,
            digest: format!("{:032x}", reference.digest),
            partitions: layout.partitions(),
            quorums: group.quorums,
            wanted: group.wanted,
            owners: owners.map(<[u16]>::to_vec).collect(),
            roles: layout.roles().to_vec(),
            keyspaces: layout.keyspaces().iter().map(|keyspace| keyspace.name.clone()).collect(),
        }
    }
}

/// Bytes held in memory, each source against its own budget; see `budget`. The engine's index and caches are apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MemoryStatus {
    /// The ceiling of the node.
    pub max: usize,
    /// Bodies and answers of clients.
    pub clients: Gauge,
    /// Messages of peers that the node has not taken yet.
    pub arriving: Gauge,
    /// Messages to peers that are not written yet.
    pub leaving: Gauge,
    /// Answers that wait for the disk.
    pub held: Gauge,
    /// Questions that wait for a cold read.
    pub parked: Gauge,
    /// What the requests in flight work with.
    pub in_flight: Gauge,
    /// Which writes are owed to whom.
    pub owed: Gauge,
}

impl MemoryStatus {
    /// Adds what the rim holds.
    pub fn at_the_rim(&mut self, memory: &Memory) {
        self.max = memory.max;
        self.clients = memory.clients.gauge();
        self.arriving = memory.arriving.gauge();
        self.leaving = memory.leaving.gauge();
    }
}

/// How many partitions can be served with the nodes that are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Served {
    /// All partitions, of each group of keyspaces.
    pub partitions: u64,
    /// Those with enough primaries for a read and a write at `quorum`.
    pub quorum: u64,
    /// Those of which every primary is reached.
    pub whole: u64,
}

impl Served {
    /// Counts the partitions of `layout`, when `reached` says which nodes are.
    #[must_use]
    pub fn new(layout: &Layout, reached: impl Fn(NodeId) -> bool) -> Served {
        let mut served = Served { partitions: 0, quorum: 0, whole: 0 };
        for reach in layout.units().map(|unit| quorum::reach(layout, unit, &reached)) {
            served.partitions += 1;
            served.quorum += u64::from(reach != Reach::TooFew);
            served.whole += u64::from(reach == Reach::Whole);
        }
        served
    }

    /// Those with too few.
    #[must_use]
    pub const fn lacking(&self) -> u64 {
        self.partitions - self.quorum
    }
}

/// A node as another sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MemberStatus {
    /// 32 hex digits.
    pub node: String,
    /// Its label.
    pub name: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// `alive`, `left`, `deaf`, `unlinked` or `dead`: see `Membership::state`. Only who is `alive` is asked anything.
    pub state: &'static str,
    /// Milliseconds since it was heard; `None` when others have only spoken of it.
    pub last_heard_ms: Option<u64>,
    /// The last of its writes that it has told to be durable: a later life that begins with less is refused. `None` for this
    /// node, and when no life of it counts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<u64>,
    /// Whether it is this node.
    pub me: bool,
    /// Whether it has a role in the newest live layout.
    pub in_layout: bool,
    /// `member`; `joining` or `leaving` while another layout takes the place of the one before; `outside` when it has no role, and
    /// passes requests on.
    pub role: &'static str,
}

/// What was done since start. Latencies are sums, in microseconds, over the requests that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Reads coordinated here.
    pub gets: u64,
    /// Writes coordinated here, deletes included.
    pub puts: u64,
    /// Requests passed on to a primary.
    pub forwards: u64,
    /// Requests that ended `Unavailable`.
    pub unavailable: u64,
    /// Writes that ended `Indeterminate`.
    pub indeterminate: u64,
    /// Requests that ended `Overloaded`.
    pub overloaded: u64,
    /// Reads that found replicas differing, and made them equal.
    pub read_repairs: u64,
    /// States that ended reads have brought to replicas which had told another one.
    pub copies_brought: u64,
    /// Those that were not brought because so much was brought already: comparing copies finds them.
    pub copies_put_off: u64,
    /// Reads that asked another replica because those they had asked were slow.
    pub hedges: u64,
    /// Reads that did not, because too many have.
    pub hedges_withheld: u64,
    /// Messages refused because of their layout.
    pub stale_layouts: u64,
    /// Messages and datagrams of lives that do not count: of old copies, and of second processes of one identity.
    pub lives_refused: u64,
    /// Messages and datagrams that could not be read.
    pub malformed: u64,
    /// Writes whose actor was replaced because a peer knew dots that this node had lost.
    pub actors_replaced: u64,
    /// Records that could not be read and were replaced by what other nodes hold.
    pub records_healed: u64,
    /// Copies of writes that their primaries had not acknowledged when the writes ended: they came later, or are missing.
    pub owed_copies: u64,
    /// Writes that this node has taken on for primaries of which it reached none.
    pub fallbacks: u64,
    /// Sum of the latencies of reads.
    pub get_us: u64,
    /// Sum of the latencies of writes.
    pub put_us: u64,
}

impl Counters {
    /// Counts an outcome.
    pub const fn count(&mut self, reply: &Reply) {
        match reply {
            Reply::Unavailable { .. } => self.unavailable += 1,
            Reply::Indeterminate { .. } => self.indeterminate += 1,
            Reply::Overloaded { .. } => self.overloaded += 1,
            Reply::Stored { .. }
            | Reply::Found { .. }
            | Reply::NotFound { .. }
            | Reply::BadRequest { .. } => {}
        }
    }
}
