//! Shards that take units from each other: what the receiver has in the end, whatever becomes of its sources, of itself, and of the
//! keys meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::{Actors, NodeConfig, PAGE_KEYS_MAX};
use rondo_core::engine::{Batch, Change, Engine, Lookup};
use rondo_core::env::Mono;
use rondo_core::id::{ClientTag, GroupId, KeyspaceId, NodeId, Unit};
use rondo_core::layout::keyspace::{Keyspace, Level};
use rondo_core::layout::live::{LayoutSet, LiveLayout};
use rondo_core::layout::{Layout, Quorums, Role};
use rondo_core::member::lives::Lives;
use rondo_core::member::membership::Membership;
use rondo_core::member::view::View;
use rondo_core::replica::keys::data_key;
use rondo_core::request::operation::Asker;
use rondo_core::shard::Shard;
use rondo_core::version::dvv::VersionSet;
use rondo_core::wire::client::{Action, Reply, Request};
use rondo_core::wire::key::KeyRef;
use rondo_core::wire::layout::encode_layout;
use rondo_core::wire::message::Message;
use rondo_core::wire::state::decode_state;
use rondo_core::wire::transfer::{Listing, TransferMessage};

use crate::engine::SlowEngine;
use crate::gossip::gossip;
use crate::node_config::node_config;
use crate::request::request;

pub(crate) type World = crate::world::World<SlowEngine>;

/// One node: its shard, and what it is shown.
pub(crate) struct Peer {
    pub(crate) config: NodeConfig,
    pub(crate) shard: Shard,
    pub(crate) world: World,
    members: Membership,
    lives: Lives,
    pub(crate) is_gone: bool,
}

/// A few shards under one layout, of which each owns every key.
pub(crate) struct Trio {
    pub(crate) peers: Vec<Peer>,
    layouts: [LiveLayout; 1],
    set: LayoutSet,
    pub(crate) now: Mono,
    /// Who has told whom what, in words.
    pub(crate) said: Vec<String>,
}

/// The layout that these nodes own every key under, and its name.
fn live(ids: &[NodeId], partitions: u16) -> (LiveLayout, LayoutSet) {
    let role = |&node: &NodeId| Role {
        node,
        name: format!("n{}", node.0),
        weight: 1,
        zone: String::new(),
    };
    let wanted = Quorums { n: ids.len() as u8, r: 2, w: 2 };
    let roles = ids.iter().map(role).collect();
    let keyspaces = vec![Keyspace::default_keyspace()];
    let layout = Layout::first(partitions, wanted, roles, keyspaces);
    let reference = layout.reference(&encode_layout(&layout));
    (LiveLayout { layout: Arc::new(layout), reference }, LayoutSet::one(reference))
}

impl Trio {
    /// From now on these nodes own every key.
    fn belongs_to(&mut self, ids: &[NodeId]) {
        let (live, set) = live(ids, 1);
        (self.layouts, self.set) = ([live], set);
        (1..=self.peers.len()).for_each(|at| self.restart(at));
    }

    /// How many keys of clients a store has: with a value, and deleted ones.
    fn keys(&self, at: usize) -> (u64, u64) {
        let Peer { shard, world, .. } = &self.peers[at - 1];
        shard.keys(&world.engine.stats())
    }

    /// So many nodes of N = 3, R = W = 2, or N = R = W = 2.
    pub(crate) fn of(nodes: u128) -> Trio {
        Trio::with(nodes, 1, &node_config(), SlowEngine::default)
    }

    /// The same with so many partitions, such settings and stores.
    pub(crate) fn with(
        nodes: u128,
        partitions: u16,
        base: &NodeConfig,
        engine: impl Fn() -> SlowEngine,
    ) -> Trio {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let (live, set) = live(&ids, partitions);
        let configs: Vec<NodeConfig> = ids
            .iter()
            .map(|&id| NodeConfig {
                id,
                name: format!("n{}", id.0),
                dead_ms: 1 << 40,
                ..base.clone()
            })
            .collect();
        let peer = |config: &NodeConfig| {
            let random = config.id.0 as u64 * 1000;
            let mut world = World { random, engine: engine(), ..World::default() };
            let shard = Shard::load(config, &mut world.engine, Mono(0)).expect("an empty store");
            let mut lives = Lives::load(config, &mut world.engine).expect("an empty store");
            let mut members = Membership::new(config);
            for other in configs.iter().filter(|other| other.id != config.id) {
                let gossip = gossip(other, &ids);
                lives.meet(&gossip, &mut world.engine).expect("memory");
                members.on_gossip(
                    gossip,
                    || ids.iter().copied().collect::<BTreeSet<_>>(),
                    &mut world,
                );
            }
            members.look_at_links(&world);
            members.look_at_clock(&world);
            Peer { config: config.clone(), shard, world, members, lives, is_gone: false }
        };
        Trio {
            peers: configs.iter().map(peer).collect(),
            layouts: [live],
            set,
            now: Mono(0),
            said: Vec::new(),
        }
    }

    /// Whom the first one takes from, in its order.
    fn sources(&self) -> (usize, usize) {
        let layout = self.layout();
        let others = layout.primaries(Unit::default()).filter(|node| node.0 > 1);
        let others: Vec<usize> = others.map(|node| node.0 as usize).collect();
        (others[0], others[1])
    }

    fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layouts[0].layout)
    }

    /// Something happens to one of them, and what it says is on its way then.
    pub(crate) fn step<T>(
        &mut self,
        at: usize,
        what: impl FnOnce(&mut Shard, View<'_>, &mut World) -> T,
    ) -> T {
        let Peer { config, shard, world, members, lives, .. } = &mut self.peers[at - 1];
        world.now = self.now;
        let view = View {
            life: config.life,
            barred: None,
            layouts: &self.layouts,
            layout_set: &self.set,
            reads_at: self.set.newest().unwrap_or_default().version,
            may_pull: true,
            members,
            lives,
        };
        let made = what(shard, view, world);
        shard.settle(view, world).expect("no disk fails");
        shard.start_sync(world).expect("no disk fails");
        if let Some((id, _)) = world.engine.syncing {
            shard.on_synced(id, Ok(()), world).expect("no disk fails");
        }
        for id in std::mem::take(&mut world.engine.reading) {
            shard.on_read_done(id, Ok(Bytes::new()), view, world).expect("no disk fails");
        }
        shard.settle(view, world).expect("no disk fails");
        shard.invariants();
        made
    }

    /// Delivers what is on its way, and what comes of it; what `is_lost` is not. At most `max` messages.
    pub(crate) fn deliver(&mut self, max: usize, is_lost: impl Fn(usize, usize, &Message) -> bool) {
        let mut mail = VecDeque::new();
        let mut delivered = 0;
        loop {
            for (at, peer) in self.peers.iter_mut().enumerate() {
                let sent = peer.world.sent.drain(..);
                mail.extend(sent.map(|(to, sent)| (at + 1, to.0 as usize, sent.message)));
            }
            let Some((from, to, message)) = mail.pop_front() else {
                return;
            };
            let is_gone = self.peers[from - 1].is_gone || self.peers[to - 1].is_gone;
            delivered += 1;
            if is_gone || delivered > max || is_lost(from, to, &message) {
                continue;
            }
            self.said.push(format!("n{from} → n{to} {}", crate::words::message(&message)));
            let from = NodeId(from as u128);
            self.step(to, |shard, view, world| match message {
                Message::Key(message) => shard.on_key(from, message, view, world),
                Message::Forward(message) => shard.on_forward(from, message, view, world),
                Message::Transfer(message) => shard.on_transfer(from, message, view, world),
                Message::Repair(message) => shard.on_repair(from, message, view, world),
                Message::Layout(_) | Message::Swim(_) => panic!("a shard speaks of keys alone"),
            })
            .expect("no disk fails");
        }
    }

    /// Time passes for everybody, in steps, with all that comes of it.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.now = self.now.plus_ms(50);
            for at in 1..=self.peers.len() {
                if !self.peers[at - 1].is_gone {
                    let tick = |shard: &mut Shard, view: View<'_>, world: &mut World| {
                        shard.tick_requests(view, world)?;
                        shard.maintain(view, world)
                    };
                    self.step(at, tick).expect("no disk fails");
                }
            }
            self.deliver(usize::MAX, |_, _, _| false);
        }
    }

    /// A client writes at one of them and reaches only those that are not cut off.
    pub(crate) fn write(
        &mut self,
        at: usize,
        key: &str,
        action: Action,
        level: Level,
        cut: &[usize],
    ) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let (level, deadline_ms) = (Some(level), Some(1_000));
        let request = Request { key, level, deadline_ms, ..request(action) };
        let client = Asker::Client(ClientTag(1));
        self.step(at, |shard, view, world| shard.begin(client, request, view, world))
            .expect("no disk fails");
        self.deliver(usize::MAX, |from, to, _| cut.contains(&from) || cut.contains(&to));
        let reply = self.peers[at - 1].world.replies.pop();
        assert!(matches!(reply, Some(Reply::Stored { .. })), "{reply:?}");
    }

    pub(crate) fn put(&mut self, at: usize, key: &str, value: &str, level: Level, cut: &[usize]) {
        let (value, content_type) = (Bytes::copy_from_slice(value.as_bytes()), Bytes::new());
        self.write(
            at,
            key,
            Action::Put { value, content_type, context: None, ttl_ms: None },
            level,
            cut,
        );
    }

    /// What a node has lost is to be taken from the others.
    pub(crate) fn recover(&mut self, at: usize) {
        let layout = self.layout();
        let recovers = |shard: &mut Shard, _: View<'_>, world: &mut World| {
            shard.recover(&layout, &mut world.engine)
        };
        self.step(at, recovers).expect("no disk fails");
    }

    /// The process of a node ends, and the next one finds what it has written.
    pub(crate) fn restart(&mut self, at: usize) {
        let Peer { config, shard, world, .. } = &mut self.peers[at - 1];
        world.engine = world.engine.copy();
        let config = NodeConfig { actors: Actors::Fresh, ..config.clone() };
        *shard = Shard::load(&config, &mut world.engine, self.now).expect("a sound store");
    }

    /// All of its store is lost.
    pub(crate) fn wipe(&mut self, at: usize) {
        let Peer { config, shard, world, .. } = &mut self.peers[at - 1];
        world.engine = SlowEngine::default();
        *shard = Shard::load(config, &mut world.engine, self.now).expect("an empty store");
    }

    pub(crate) fn is_whole(&self, at: usize) -> bool {
        self.peers[at - 1].shard.all_whole()
    }

    /// The state of a key in a store.
    pub(crate) fn state(&mut self, at: usize, key: &str) -> VersionSet {
        let key = KeyRef::new(KeyspaceId(1), Bytes::copy_from_slice(key.as_bytes()));
        match self.peers[at - 1].world.engine.get(&data_key(GroupId(0), &key)).expect("readable") {
            Lookup::Hit(found) => decode_state(&found.head, &found.body).expect("sound"),
            Lookup::Miss => VersionSet::default(),
            Lookup::Cold(_) => panic!("nothing is cold now"),
        }
    }

    pub(crate) fn values(&mut self, at: usize, key: &str) -> Vec<String> {
        let state = self.state(at, key);
        let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
        state.versions().map(|(_, version)| text(&version.value)).collect()
    }

    /// How many messages of one kind have been said since the last call.
    pub(crate) fn count(&mut self, what: &str) -> usize {
        self.said.drain(..).filter(|line| line.contains(what)).count()
    }
}

fn name(n: usize) -> String {
    format!("key{n:03}")
}

/// Three nodes with several pages of keys, of which the first has lost everything.
fn with_a_wiped_node(keys: usize) -> Trio {
    let mut trio = Trio::of(3);
    for n in 0..keys {
        trio.put(1 + n % 3, &name(n), &format!("v{n}"), Level::Quorum, &[]);
    }
    trio.wipe(1);
    trio.recover(1);
    trio.said.clear();
    trio
}

#[test]
fn a_node_that_lost_everything_has_all_of_it_again_and_counts_then() {
    let keys = 2 * PAGE_KEYS_MAX + 7;
    let mut trio = with_a_wiped_node(keys);
    trio.deliver(usize::MAX, |_, _, _| false);
    assert!(!trio.is_whole(1));
    trio.pass(2_000);
    assert!(trio.is_whole(1));
    for n in 0..keys {
        assert_eq!(trio.values(1, &name(n)), [format!("v{n}")]);
        assert_eq!(trio.state(1, &name(n)), trio.state(2, &name(n)));
    }
    let said = std::mem::take(&mut trio.said);
    let count = |what: &str| said.iter().filter(|line| line.starts_with(what)).count();
    let (first, second) = trio.sources();
    let reads = |from: usize| count(&format!("n1 → n{from} Read"));
    assert_eq!((reads(first), reads(second)), (keys, 0), "the second source has nothing new");
    assert_eq!((count("n2 → n1 Listing"), count("n3 → n1 Listing")), (3, 3), "three pages each");
    trio.restart(1);
    assert!(trio.is_whole(1), "it is durable that it is");
}

#[test]
fn a_source_that_dies_half_way_does_not_count_and_goes_on_where_it_was_when_it_is_back() {
    let mut trio = with_a_wiped_node(3 * PAGE_KEYS_MAX);
    trio.now = trio.now.plus_ms(50);
    trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
    // Two pages, and a part of the third one.
    trio.deliver(5 * PAGE_KEYS_MAX, |_, _, _| false);
    let (first, second) = trio.sources();
    trio.peers[first - 1].is_gone = true;
    trio.pass(20_000);
    assert!(!trio.is_whole(1), "one source of two is not enough");
    let listings = trio.count(&format!("n{second} → n1 Listing"));
    assert!(listings >= 3, "the other one was walked meanwhile");
    trio.peers[first - 1].is_gone = false;
    trio.pass(20_000);
    assert!(trio.is_whole(1));
    assert_eq!(trio.count(&format!("n1 → n{first} List")), 1, "the last page alone");
}

#[test]
fn a_receiver_that_restarts_half_way_is_partial_still_and_becomes_whole() {
    let mut trio = with_a_wiped_node(2 * PAGE_KEYS_MAX);
    trio.now = trio.now.plus_ms(50);
    trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
    trio.deliver(PAGE_KEYS_MAX, |_, _, _| false);
    trio.restart(1);
    assert!(!trio.is_whole(1));
    trio.pass(5_000);
    assert!(trio.is_whole(1));
    for n in 0..2 * PAGE_KEYS_MAX {
        assert_eq!(trio.values(1, &name(n)), [format!("v{n}")]);
    }
}

#[test]
fn a_page_that_was_being_taken_when_the_receiver_restarted_is_asked_for_again() {
    let mut trio = Trio::of(3);
    for n in 0..2 * PAGE_KEYS_MAX {
        trio.put(1, &name(n), &format!("v{n}"), Level::Quorum, &[3]);
    }
    trio.wipe(1);
    trio.recover(1);
    trio.said.clear();
    // The one that has nothing is walked to its end, and of the other one a page is on its way.
    for max in [usize::MAX, PAGE_KEYS_MAX] {
        trio.now = trio.now.plus_ms(50);
        trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
        trio.deliver(max, |_, _, _| false);
    }
    let said = std::mem::take(&mut trio.said);
    let count = |what: &str| said.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("n3 → n1 Listing"), count("n2 → n1 Listing")), (1, 1));
    assert!((1..PAGE_KEYS_MAX).contains(&count("n2 → n1 ReadReply")));
    trio.restart(1);
    trio.pass(5_000);
    assert!(trio.is_whole(1));
    for n in 0..2 * PAGE_KEYS_MAX {
        assert_eq!(trio.values(1, &name(n)), [format!("v{n}")], "{n}");
    }
}

#[test]
fn what_is_written_during_a_transfer_is_neither_lost_nor_undone() {
    let mut trio = with_a_wiped_node(40);
    trio.now = trio.now.plus_ms(50);
    trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
    // The page is there, and none of its states.
    trio.deliver(2, |_, _, _| false);
    trio.put(2, &name(3), "new", Level::Quorum, &[]);
    trio.write(3, &name(4), Action::Delete { context: None }, Level::Quorum, &[]);
    trio.pass(5_000);
    assert!(trio.is_whole(1));
    assert_eq!(trio.values(1, &name(3)), ["new"]);
    assert!(trio.state(1, &name(4)).versions().all(|(_, version)| version.tombstone));
    assert_eq!(trio.state(1, &name(3)), trio.state(2, &name(3)));
}

#[test]
fn a_tombstone_travels_and_so_does_what_one_source_alone_has() {
    let mut trio = Trio::of(3);
    trio.put(2, "dead", "v", Level::Quorum, &[]);
    trio.write(2, "dead", Action::Delete { context: None }, Level::Quorum, &[1]);
    trio.put(3, "alone", "w", Level::One, &[1, 2]);
    // Before it could note to whom it owes that.
    trio.restart(3);
    trio.wipe(1);
    trio.recover(1);
    trio.pass(3_000);
    assert!(trio.is_whole(1));
    let dead = trio.state(1, "dead");
    assert!(dead.versions().count() == 1 && dead.versions().all(|(_, one)| one.tombstone));
    assert_eq!(trio.values(1, "alone"), ["w"]);
    assert!(trio.values(2, "alone").is_empty(), "nobody else has it");
}

#[test]
fn a_source_that_cannot_read_a_record_does_not_make_a_unit_whole_before_it_can() {
    let mut trio = with_a_wiped_node(30);
    let (first, second) = trio.sources();
    trio.peers[first - 1].world.engine.rotten = true;
    trio.peers[second - 1].is_gone = true;
    trio.pass(20_000);
    assert!(!trio.is_whole(1));
    assert!(trio.count(&format!("n{first} → n1 Failed")) > 0, "never taken for absent");
    trio.peers[first - 1].world.engine.rotten = false;
    trio.peers[second - 1].is_gone = false;
    trio.pass(20_000);
    assert!(trio.is_whole(1));
}

#[test]
fn a_source_that_cannot_read_what_it_has_is_not_walked_past_it() {
    let mut trio = with_a_wiped_node(30);
    let (first, second) = trio.sources();
    for at in [first, second] {
        trio.peers[at - 1].world.engine.heads_rotten = true;
    }
    trio.pass(20_000);
    assert!(!trio.is_whole(1));
    assert!(trio.count("n1 Listing Unreadable") > 0, "never taken for the end");
    for at in [first, second] {
        trio.peers[at - 1].world.engine.heads_rotten = false;
    }
    trio.pass(20_000);
    assert!(trio.is_whole(1));
    assert_eq!(trio.values(1, &name(7)), ["v7"]);
}

#[test]
fn cold_records_are_taken_too_at_both_ends() {
    let mut trio = with_a_wiped_node(20);
    trio.peers[0].world.engine.cold_gets = 5;
    trio.peers[1].world.engine.cold_gets = 15;
    trio.pass(5_000);
    assert!(trio.is_whole(1));
    trio.peers[0].world.engine.cold_gets = 0;
    let lost: BTreeMap<usize, Vec<String>> = (0..20)
        .map(|n| (n, trio.values(1, &name(n))))
        .filter(|(n, values)| *values != [format!("v{n}")])
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn who_has_only_a_part_of_a_unit_tells_nothing_of_it() {
    let mut trio = with_a_wiped_node(10);
    trio.recover(2);
    trio.pass(3_000);
    assert!(!trio.is_whole(1) && !trio.is_whole(2), "each lacks the other");
    assert!(trio.count("Listing NotCounted") > 0);
}

#[test]
fn a_full_disk_takes_no_unit_and_goes_on_when_it_has_room() {
    let mut trio = with_a_wiped_node(10);
    trio.peers[0].world.engine.room = crate::engine::Room::Little;
    trio.pass(10_000);
    assert!(!trio.is_whole(1), "values find no room");
    trio.peers[0].world.engine.room = crate::engine::Room::Enough;
    trio.pass(20_000);
    assert!(trio.is_whole(1));
    assert_eq!(trio.values(1, &name(9)), ["v9"]);
}

#[test]
fn a_listing_that_leads_nowhere_is_no_walk() {
    let mut trio = with_a_wiped_node(1);
    trio.now = trio.now.plus_ms(50);
    trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
    let (_, asked) = trio.peers[0].world.sent.pop().expect("it asks");
    let Message::Transfer(TransferMessage::Ask { op, layouts, .. }) = asked.message else {
        panic!("{asked:?}")
    };
    let listing =
        Listing::Keys { keys: Vec::new(), next: Some(Bytes::new()), purged: Default::default() };
    let answer = TransferMessage::Answer { op, layouts, listing };
    trio.step(1, |shard, view, world| shard.on_transfer(NodeId(2), answer, view, world))
        .expect("no disk fails");
    assert!(trio.peers[0].world.sent.is_empty(), "it would ask for the same for ever");
    trio.pass(10_000);
    assert!(trio.is_whole(1));
}

/// The first of three nodes owns nothing any more, and has many keys and one that is nowhere else.
fn with_a_leaver() -> Trio {
    let mut trio = Trio::of(3);
    for n in 0..100 {
        trio.put(1 + n % 3, &name(n), "v", Level::Quorum, &[]);
    }
    trio.write(2, &name(5), Action::Delete { context: None }, Level::Quorum, &[]);
    trio.put(1, "alone", "w", Level::One, &[2, 3]);
    assert_eq!(trio.keys(1), (100, 1));
    trio.belongs_to(&[NodeId(2), NodeId(3)]);
    trio.said.clear();
    trio
}

#[test]
fn who_owns_a_unit_no_more_hands_over_what_it_has_alone_and_deletes_all_of_it() {
    let mut trio = with_a_leaver();
    trio.pass(10_000);
    assert_eq!(trio.keys(1), (0, 0));
    assert_eq!(
        trio.peers[0].world.engine.stats().records,
        trio.peers[0].world.engine.stats().own_records
    );
    for at in [2, 3] {
        assert_eq!(trio.values(at, "alone"), ["w"]);
        assert_eq!(trio.keys(at), (100, 1));
    }
    assert_eq!(trio.count("n1 → n2 Merge"), 1, "what they hold is not sent");
    trio.pass(10_000);
    assert_eq!(trio.count("n1 →"), 0, "nothing is left to do");
}

#[test]
fn nothing_is_deleted_that_too_few_owners_hold() {
    let mut trio = with_a_leaver();
    trio.peers[2].is_gone = true;
    trio.pass(60_000);
    assert_eq!(trio.keys(1), (100, 1), "W is 2, and one is away");
    trio.peers[2].is_gone = false;
    trio.pass(60_000);
    assert_eq!(trio.keys(1), (0, 0));
    assert_eq!(trio.values(3, "alone"), ["w"]);
}

#[test]
fn a_key_that_has_changed_since_its_owners_were_asked_is_not_deleted() {
    let mut trio = with_a_leaver();
    let tick = |trio: &mut Trio| {
        trio.now = trio.now.plus_ms(50);
        trio.step(1, |shard, view, world| shard.tick_requests(view, world)).expect("no disk fails");
    };
    tick(&mut trio);
    // They have been asked about as many keys as leave at a time.
    let asked = trio.peers[0].world.sent.len() / 2;
    let key = KeyRef::new(KeyspaceId(1), name(1).into());
    let place = data_key(GroupId(0), &key);
    let first = data_key(GroupId(0), &KeyRef::new(KeyspaceId(1), "alone".into()));
    let Lookup::Hit(other) = trio.peers[0].world.engine.get(&first).expect("memory") else {
        panic!("it is there")
    };
    let body = [other.body].into_iter().collect();
    let changes = [Change::put(place, other.head, body)].into_iter().collect();
    trio.peers[0].world.engine.write(&Batch { changes }).expect("memory");
    trio.deliver(usize::MAX, |_, _, _| false);
    let (left, deleted) = trio.keys(1);
    assert!((101 - asked as u64..101).contains(&(left + deleted)), "{left} {deleted} {asked}");
    trio.pass(10_000);
    assert_eq!(trio.keys(1), (0, 0));
    assert!(trio.values(2, &name(1)).contains(&"w".to_owned()), "the owners have what came of it");
}

#[test]
fn what_leaves_is_read_from_the_device_too() {
    let mut trio = with_a_leaver();
    trio.peers[0].world.engine.cold_gets = 3;
    trio.pass(10_000);
    assert_eq!(trio.keys(1), (0, 0));
    assert_eq!(trio.values(3, "alone"), ["w"]);
}

#[test]
fn the_picture_says_what_is_on_its_way_and_why_it_does_not_go_on() {
    let mut trio = with_a_wiped_node(40);
    let (first, second) = trio.sources();
    let picture = |trio: &mut Trio| {
        let now = trio.now;
        trio.step(1, |shard, view, _| shard.transfers(view, now))
    };
    trio.peers[first - 1].world.engine.rotten = true;
    trio.peers[second - 1].is_gone = true;
    trio.pass(100);
    let before = picture(&mut trio);
    assert_eq!((before.taking[0].done, before.taking[0].needed), (0, 2));
    assert_eq!(before.taking[0].from, Some(format!("n{first}")));
    assert!(before.taking[0].trouble.is_some_and(|why| why.contains("cannot read")), "{before:?}");
    trio.peers[first - 1].world.engine.rotten = false;
    trio.peers[second - 1].is_gone = false;
    trio.pass(20_000);
    let after = picture(&mut trio);
    assert_eq!((after.taking.len(), after.taken_units, after.taken_keys), (0, 1, 40));
    assert!(after.taken_bytes > 0 && before.bytes_per_s == 0);
    let mut trio = with_a_leaver();
    trio.pass(100);
    assert_eq!(picture(&mut trio).leaving_units, 1);
    trio.pass(10_000);
    assert_eq!((picture(&mut trio).leaving_units, picture(&mut trio).left_keys), (0, 101));
}
