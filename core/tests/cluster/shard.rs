//! A shard alone: what it does of a request depends on its own store and on what it is shown of its node, and on nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::NodeConfig;
use rondo_core::engine::{Engine, MemoryEngine};
use rondo_core::env::Mono;
use rondo_core::id::{
    ActorId, BootEpoch, ClientTag, Epoch, KeyspaceId, LayoutVersion, Life, NodeId, OpId, RequestId,
    SessionId,
};
use rondo_core::layout::keyspace::{Keyspace, Level};
use rondo_core::layout::live::{LayoutSet, LiveLayout};
use rondo_core::layout::{Layout, LayoutParts, LayoutRef, Quorums, Role};
use rondo_core::member::lives::Lives;
use rondo_core::member::membership::Membership;
use rondo_core::member::view::View;
use rondo_core::request::operation::Asker;
use rondo_core::shard::Shard;
use rondo_core::version::dvv::{Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::outline::Outline;
use rondo_core::wire::client::{Action, Reply, Request};
use rondo_core::wire::forward::{Fixed, ForwardAnswer, ForwardMessage};
use rondo_core::wire::key::{Answer, Ask, KeyMessage, KeyRef, Question, Room};
use rondo_core::wire::layout::encode_layout;
use rondo_core::wire::member::Gossip;
use rondo_core::wire::message::Message;

use crate::engine::SlowEngine;
use crate::gossip::gossip;
use crate::node_config::node_config;
use crate::request::request;
use crate::world::World;

const PEER: NodeId = NodeId(2);

const PEERS_LIFE: Life = Life { boot: BootEpoch(1), session: SessionId(9) };

/// The peer introduces itself.
fn gossip_of_the_peer() -> Gossip {
    let peer = NodeConfig { id: PEER, life: PEERS_LIFE, ..node_config() };
    gossip(&peer, &[])
}

/// What a shard is shown.
struct Shown {
    layouts: [LiveLayout; 1],
    set: LayoutSet,
    members: Membership,
    lives: Lives,
}

impl Shown {
    /// A node that is a cluster alone.
    fn new() -> Shown {
        Shown::of([1])
    }

    /// A cluster of these nodes, all of which own every key.
    fn of<const N: usize>(nodes: [u128; N]) -> Shown {
        let role = |node| Role {
            node: NodeId(node),
            name: format!("n{node}"),
            weight: 1,
            zone: String::new(),
        };
        let n = u8::try_from(N).expect("a few");
        let wanted = Quorums { n, r: n, w: n };
        let roles = nodes.map(role).into();
        let layout = Layout::first(1, wanted, roles, vec![Keyspace::default_keyspace()]);
        let reference = layout.reference(&encode_layout(&layout));
        let mut engine = MemoryEngine::new();
        let mut lives = Lives::load(&node_config(), &mut engine).expect("an empty store");
        lives.meet(&gossip_of_the_peer(), &mut engine).expect("no disk fails");
        Shown {
            layouts: [LiveLayout { layout: Arc::new(layout), reference }],
            set: LayoutSet::one(reference),
            members: Membership::new(&node_config()),
            lives,
        }
    }

    /// The peer is heard, and hears this node.
    fn hear_the_peer(&mut self, world: &mut World) {
        let gossip = Gossip { hears: vec![NodeId(1)], ..gossip_of_the_peer() };
        self.members.on_gossip(gossip, || BTreeSet::from([NodeId(1), PEER]), world);
        self.members.look_at_links(world);
        self.members.look_at_clock(world);
    }

    fn set(&self) -> LayoutSet {
        self.set.clone()
    }

    fn view(&self) -> View<'_> {
        let newest = self.set.newest().unwrap_or_default().version;
        View {
            life: node_config().life,
            barred: None,
            layouts: &self.layouts,
            layout_set: &self.set,
            reads_at: newest,
            may_pull: true,
            members: &self.members,
            lives: &self.lives,
        }
    }
}

fn shard(world: &mut World<impl Engine>) -> Shard {
    Shard::load(&node_config(), &mut world.engine, Mono(0)).expect("an empty store")
}

/// The outcome of a request, when everything that it waits for has ended.
fn outcome(shard: &mut Shard, action: Action, view: View<'_>, world: &mut World) -> Reply {
    let request = request(action);
    shard.begin(Asker::Client(ClientTag(1)), request, view, world).expect("no disk fails");
    shard.settle(view, world).expect("no disk fails");
    shard.start_sync(world).expect("no disk fails");
    shard.settle(view, world).expect("no disk fails");
    shard.invariants();
    world.replies.pop().expect("every request is answered")
}

fn put() -> Action {
    Action::Put { value: "v".into(), content_type: Bytes::new(), context: None, ttl_ms: None }
}

#[test]
fn two_shards_of_one_node_know_nothing_of_each_other() {
    let shown = Shown::new();
    let (mut first, mut second) = (World::default(), World::default());
    let (mut one, mut other) = (shard(&mut first), shard(&mut second));
    let stored = outcome(&mut one, put(), shown.view(), &mut first);
    assert!(matches!(stored, Reply::Stored { .. }), "{stored:?}");
    let found = outcome(&mut one, Action::Get, shown.view(), &mut first);
    assert!(matches!(found, Reply::Found { .. }), "{found:?}");
    let absent = outcome(&mut other, Action::Get, shown.view(), &mut second);
    assert!(matches!(absent, Reply::NotFound { .. }), "{absent:?}");
    assert!(first.sent.is_empty() && second.sent.is_empty(), "neither says anything to anybody");
}

#[test]
fn a_shard_goes_by_what_it_is_shown_in_each_call() {
    let shown = Shown::new();
    let mut world = World::default();
    let mut shard = shard(&mut world);
    let barred = View { barred: Some("this copy is an old one"), ..shown.view() };
    let reply = outcome(&mut shard, put(), barred, &mut world);
    assert_eq!(reply, Reply::unavailable("this copy is an old one").lasting());
    let reply = outcome(
        &mut shard,
        put(),
        View { layouts: &[], layout_set: &LayoutSet::default(), ..shown.view() },
        &mut world,
    );
    assert!(matches!(reply, Reply::Unavailable { passes: true, .. }), "{reply:?}");
    let reply = outcome(&mut shard, put(), shown.view(), &mut world);
    assert!(matches!(reply, Reply::Stored { .. }), "nothing of it stays: {reply:?}");
}

#[test]
fn a_write_goes_on_under_the_layouts_that_are_live_now() {
    let mut world = World::<MemoryEngine>::default();
    let mut shown = Shown::of([1, PEER.0]);
    shown.hear_the_peer(&mut world);
    let mut shard = shard(&mut world);
    let asker = Asker::Client(ClientTag(1));
    shard.begin(asker, request(put()), shown.view(), &mut world).expect("no disk fails");
    shard.settle(shown.view(), &mut world).expect("no disk fails");
    let asked = |world: &World<MemoryEngine>| {
        let asks = world.sent.iter().filter_map(|(to, envelope)| match &envelope.message {
            Message::Key(KeyMessage::Ask(ask)) => Some((*to, ask.clone())),
            _ => None,
        });
        asks.collect::<Vec<(NodeId, Ask)>>()
    };
    let op = asked(&world)[0].1.op;
    let tell = |answer| KeyMessage::Answer { op, layouts: shown.set(), answer };
    let (clock, highest) = (VersionVector::default(), Hlc(0));
    let answer = Answer::Query { clock, highest, room: Room(true) };
    shard.on_key(PEER, tell(answer), shown.view(), &mut world).expect("no disk fails");
    shard.settle(shown.view(), &mut world).expect("no disk fails");
    shard.start_sync(&mut world).expect("no disk fails");
    shard.settle(shown.view(), &mut world).expect("no disk fails");
    // The peer acts under the next layout alone.
    let later = Shown::of([1, PEER.0]);
    let parts = LayoutParts {
        version: LayoutVersion(2),
        previous: 1,
        founding: 1,
        ..later.layouts[0].layout.parts().clone()
    };
    let layout = Layout::from_parts(parts).expect("a sound layout");
    let reference = layout.reference(&encode_layout(&layout));
    let mut later = Shown {
        layouts: [LiveLayout { layout: Arc::new(layout), reference }],
        set: LayoutSet::one(reference),
        ..later
    };
    later.hear_the_peer(&mut world);
    world.sent.clear();
    shard.on_key(PEER, tell(Answer::StaleLayout), later.view(), &mut world).expect("no disk fails");
    world.now = Mono(0).plus_ms(node_config().resend_ms + 1);
    shard.tick_requests(later.view(), &mut world).expect("no disk fails");
    shard.settle(later.view(), &mut world).expect("no disk fails");
    let asks = asked(&world);
    assert!(asks.iter().all(|(to, ask)| *to == PEER && ask.layouts == later.set), "{asks:?}");
    let (op, layouts, answer) = (asks[0].1.op, later.set(), Answer::MergeAck);
    let told = KeyMessage::Answer { op, layouts, answer };
    shard.on_key(PEER, told, later.view(), &mut world).expect("no disk fails");
    assert!(matches!(world.replies.pop(), Some(Reply::Stored { .. })), "both of the two hold it");
}

#[test]
fn a_write_that_ends_before_all_have_acknowledged_it_owes_the_others_a_copy() {
    for (mut shown, silent) in [(Shown::of([1]), 0), (Shown::of([1, PEER.0, 3]), 2)] {
        let mut world = World::<MemoryEngine>::default();
        let mut shard = shard(&mut world);
        let request = Request { level: Some(Level::One), ..request(put()) };
        if silent > 0 {
            shard
                .begin(Asker::Client(ClientTag(2)), request.clone(), shown.view(), &mut world)
                .expect("no disk fails");
            let refused = world.replies.pop();
            assert!(matches!(refused, Some(Reply::Unavailable { .. })), "its clock may be far off");
            shown.hear_the_peer(&mut world);
        }
        shard
            .begin(Asker::Client(ClientTag(1)), request, shown.view(), &mut world)
            .expect("no disk fails");
        shard.settle(shown.view(), &mut world).expect("no disk fails");
        assert_eq!(shard.counters().owed_copies, 0, "it has not ended");
        shard.start_sync(&mut world).expect("no disk fails");
        shard.settle(shown.view(), &mut world).expect("no disk fails");
        let told = world.replies.pop();
        assert!(matches!(told, Some(Reply::Stored { .. })), "{told:?}");
        assert_eq!(shard.counters().owed_copies, silent);
    }
}

#[test]
fn who_owns_a_key_under_no_layout_that_is_live_does_nothing_about_it_and_says_so() {
    let shown = Shown::of([2]);
    let mut world: World = World::default();
    let mut shard = shard(&mut world);
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let mut state = VersionSet::default();
    let version = Version::tombstone(Hlc(1), RequestId(7));
    state.put(&VersionVector::default(), ActorId(9), version);
    let outline = Outline::of(&state);
    let questions = [
        Question::Query,
        Question::Read { digest_only: false, heard: Epoch::default() },
        Question::Merge { state, epoch: Epoch::default() },
        Question::Holds { outline },
    ];
    for question in questions {
        let (op, layouts) = (OpId::default(), shown.set());
        let ask = Ask { op, layouts: layouts.clone(), key: key.clone(), question };
        shard.on_key(PEER, KeyMessage::Ask(ask), shown.view(), &mut world).expect("no disk fails");
        shard.settle(shown.view(), &mut world).expect("no disk fails");
        let (_, envelope) = world.sent.pop().expect("it answers");
        let answer = KeyMessage::Answer { op, layouts, answer: Answer::NotCounted };
        assert_eq!(envelope.message, Message::Key(answer));
    }
    assert_eq!(world.engine.stats().records, 0, "nothing is stored");
}

#[test]
fn a_request_for_a_keyspace_that_was_made_anew_under_its_name_is_not_done() {
    for (keyspace, is_done) in [(KeyspaceId(1), true), (KeyspaceId(2), false)] {
        let shown = Shown::new();
        let mut world: World = World::default();
        let mut shard = shard(&mut world);
        let op = OpId { life: PEERS_LIFE, seq: 5 };
        let fixed = Fixed { keyspace, at: Hlc(7) };
        let ask = ForwardMessage::Ask { op, layouts: shown.set(), fixed, request: request(put()) };
        shard.on_forward(PEER, ask, shown.view(), &mut world).expect("no disk fails");
        shard.settle(shown.view(), &mut world).expect("no disk fails");
        let refused = world.sent.pop().map(|(_, envelope)| envelope.message);
        let is_refused = matches!(
            refused,
            Some(Message::Forward(ForwardMessage::Answer {
                answer: ForwardAnswer::Refused { .. },
                ..
            }))
        );
        assert_eq!((world.engine.stats().records > 0, is_refused), (is_done, !is_done));
    }
}

#[test]
fn a_question_that_waited_for_the_device_is_fenced_again_when_its_read_ends() {
    let shown = Shown::new();
    let another = LayoutSet::one(LayoutRef { version: LayoutVersion(2), digest: 7 });
    let state = Answer::State { state: Default::default(), epoch: Epoch::default() };
    // The layout that it was asked under is live still, or has been dropped since.
    for (now, expected) in [(shown.set(), state), (another, Answer::StaleLayout)] {
        let mut world = World::<SlowEngine>::default();
        let mut shard = shard(&mut world);
        world.engine.cold = true;
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        let (op, layouts) = (OpId { life: PEERS_LIFE, seq: 5 }, shown.set());
        let ask = Ask {
            op,
            layouts,
            key,
            question: Question::Read { digest_only: false, heard: Epoch::default() },
        };
        shard.on_key(PEER, KeyMessage::Ask(ask), shown.view(), &mut world).expect("no disk fails");
        let id = world.engine.reading.pop().expect("it waits for the device");
        let view = View { layout_set: &now, ..shown.view() };
        shard.on_read_done(id, Ok(Bytes::new()), view, &mut world).expect("no disk fails");
        shard.settle(view, &mut world).expect("no disk fails");
        let (_, envelope) = world.sent.pop().expect("it answers");
        let answer = KeyMessage::Answer { op, layouts: now, answer: expected };
        assert_eq!(envelope.message, Message::Key(answer));
    }
}

#[test]
fn an_answer_leaves_in_the_life_and_under_the_layout_that_the_shard_is_shown() {
    let shown = Shown::new();
    let mut world: World = World::default();
    let mut shard = shard(&mut world);
    let op = OpId { seq: 5, ..OpId::default() };
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let layouts = shown.set();
    let ask = Ask {
        op,
        layouts,
        key,
        question: Question::Read { digest_only: false, heard: Epoch::default() },
    };
    shard.on_key(PEER, KeyMessage::Ask(ask), shown.view(), &mut world).expect("no disk fails");
    shard.settle(shown.view(), &mut world).expect("no disk fails");
    let (to, envelope) = world.sent.pop().expect("it answers");
    assert_eq!((to, envelope.life), (PEER, node_config().life));
    let (layouts, answer) =
        (shown.set(), Answer::State { state: Default::default(), epoch: Epoch::default() });
    assert_eq!(envelope.message, Message::Key(KeyMessage::Answer { op, layouts, answer }));
}

/// A shard whose node has lost something: it owns every key with the peer.
fn recovering(shown: &Shown, world: &mut World) -> Shard {
    let mut shard = shard(world);
    shard.recover(&shown.layouts[0].layout, &mut world.engine).expect("no disk fails");
    shard
}

#[test]
fn who_does_not_have_all_of_a_unit_takes_what_is_merged_and_tells_nobody_what_it_has() {
    let shown = Shown::of([1, 2]);
    let mut world: World = World::default();
    let mut shard = recovering(&shown, &mut world);
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let mut state = VersionSet::default();
    state.put(&VersionVector::default(), ActorId(9), Version::tombstone(Hlc(1), RequestId(7)));
    let outline = Outline::of(&state);
    let cases = [
        (Question::Merge { state, epoch: Epoch::default() }, Answer::MergeAck),
        (Question::Holds { outline }, Answer::MergeAck),
        (Question::Query, Answer::NotCounted),
        (Question::Read { digest_only: false, heard: Epoch::default() }, Answer::NotCounted),
        (Question::Read { digest_only: true, heard: Epoch::default() }, Answer::NotCounted),
    ];
    for (question, answer) in cases {
        let (op, layouts) = (OpId::default(), shown.set());
        let ask = Ask { op, layouts: layouts.clone(), key: key.clone(), question };
        shard.on_key(PEER, KeyMessage::Ask(ask), shown.view(), &mut world).expect("no disk fails");
        shard.settle(shown.view(), &mut world).expect("no disk fails");
        let (_, envelope) = world.sent.pop().expect("it answers");
        assert_eq!(envelope.message, Message::Key(KeyMessage::Answer { op, layouts, answer }));
    }
    assert!(!shard.all_whole());
}

#[test]
fn who_does_not_have_all_of_a_unit_coordinates_no_write_of_it_and_answers_no_read_alone() {
    let mut shown = Shown::of([1, 2]);
    let ask = |action, shard: &mut Shard, shown: &Shown, world: &mut World| {
        let request = Request { level: Some(Level::One), ..request(action) };
        let begun = shard.begin(Asker::Client(ClientTag(1)), request, shown.view(), world);
        begun.expect("no disk fails");
        shard.settle(shown.view(), world).expect("no disk fails");
        shard.invariants();
        world.replies.pop()
    };
    let mut world: World = World::default();
    let mut shard = recovering(&shown, &mut world);
    let Some(Reply::Unavailable { reason, .. }) = ask(put(), &mut shard, &shown, &mut world) else {
        panic!("nobody can take it on");
    };
    assert!(reason.contains("still taking") && reason.contains("nothing was sent"), "{reason}");
    shown.hear_the_peer(&mut world);
    assert_eq!(ask(put(), &mut shard, &shown, &mut world), None);
    let (to, envelope) = world.sent.pop().expect("it passes the write on");
    let passed_on = matches!(envelope.message, Message::Forward(ForwardMessage::Ask { .. }));
    assert!(to == PEER && passed_on, "{envelope:?}");
    assert_eq!(ask(Action::Get, &mut shard, &shown, &mut world), None);
    let (to, envelope) = world.sent.pop().expect("it asks the other one");
    let Message::Key(KeyMessage::Ask(Ask { question, .. })) = envelope.message else {
        panic!("{envelope:?}")
    };
    assert_eq!(
        (to, question),
        (PEER, Question::Read { digest_only: false, heard: Epoch::default() })
    );
    // The peer passes on what it does not have all of either.
    let op = OpId { life: PEERS_LIFE, seq: 5 };
    let (fixed, request) = (Fixed::default(), request(put()));
    let ask = ForwardMessage::Ask { op, layouts: shown.set(), fixed, request };
    shard.on_forward(PEER, ask, shown.view(), &mut world).expect("no disk fails");
    shard.settle(shown.view(), &mut world).expect("no disk fails");
    let (_, envelope) = world.sent.pop().expect("it answers");
    let Message::Forward(ForwardMessage::Answer { answer, .. }) = envelope.message else {
        panic!("{envelope:?}")
    };
    assert!(matches!(answer, ForwardAnswer::Refused { .. }), "{answer:?}");
}

#[test]
fn a_unit_that_is_new_here_is_partial_before_its_layout_is_live_and_one_that_was_here_is_whole() {
    let (before, after) = (Shown::of([1, 2]), Shown::of([2, 3]));
    let [before, after] = [&before, &after].map(|shown| &*shown.layouts[0].layout);
    let mut world: World = World::default();
    let mut shard = shard(&mut world);
    shard.adopt(None, before, &mut world.engine).expect("no disk fails");
    shard.adopt(Some(before), before, &mut world.engine).expect("no disk fails");
    shard.adopt(Some(before), after, &mut world.engine).expect("no disk fails");
    assert!(shard.all_whole(), "the first, the same, and one that it owns nothing of");
    shard.adopt(Some(after), before, &mut world.engine).expect("no disk fails");
    assert!(!shard.all_whole());
    let shard = Shard::load(&node_config(), &mut world.engine, Mono(0)).expect("a sound store");
    assert!(!shard.all_whole(), "the next life knows it");
}
