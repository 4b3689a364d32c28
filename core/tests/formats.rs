//! Golden bytes: what this version writes is what the last one wrote. Whoever changes a line of the snapshot raises a version
//! in `wire`, or has written messages that the nodes beside it misread.

#[path = "fixtures/request.rs"]
mod plain;

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::env::{Address, Wall};
use rondo_core::id::{
    ActorId, BootEpoch, Epoch, GroupId, KeyspaceId, LayoutVersion, Life, Lsn, NodeId, OpId,
    PartitionId, RequestId, SessionId, Unit,
};
use rondo_core::layout::keyspace::{Keyspace, Level, Policy};
use rondo_core::layout::live::LayoutSet;
use rondo_core::layout::{Layout, LayoutParts, LayoutRef, Quorums, Role};
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Behind, Stamp, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::outline::Outline;
use rondo_core::wire::client::{Action, By, Reply, Request, Sibling};
use rondo_core::wire::forward::{Fixed, ForwardAnswer, ForwardMessage};
use rondo_core::wire::frame::Generation;
use rondo_core::wire::key::{Answer, Ask, Blocked, Has, KeyMessage, KeyRef, Question, Room};
use rondo_core::wire::layout::{LayoutMessage, decode_layout, encode_layout};
use rondo_core::wire::member::{
    Counted, Endorsement, Gossip, Introduction, Key, decode_gossip, encode_gossip,
};
use rondo_core::wire::message::{Envelope, Message, decode, encode};
use rondo_core::wire::repair::{Compare, RepairMessage, Rooted, Told};
use rondo_core::wire::state::{decode_state, encode_state};
use rondo_core::wire::swim::{
    Claim, Datagram, Exchange, Facts, Incarnation, Known, Rumour, Speaker, Standing, Word,
    decode_datagram, encode_datagram,
};
use rondo_core::wire::transfer::{Digested, Listing, TransferMessage};

const LIFE: Life = Life { boot: BootEpoch(3), session: SessionId(0x51) };
const OP: OpId = OpId { life: LIFE, seq: 300 };

fn state() -> VersionSet {
    let mut state = VersionSet::default();
    let value = Version::value(Hlc(0x1_0000), RequestId(7), "t".into(), "value".into());
    state.put(&VersionVector::default(), ActorId(9), value);
    state.put(
        &VersionVector::default(),
        ActorId(9),
        Version::tombstone(Hlc(0x2_0000), RequestId(8)),
    );
    state
}

fn context() -> Context {
    Context { clock: VersionVector::new([(ActorId(9), 2)]), highest: Hlc(0x2_0000) }
}

fn layout() -> Layout {
    let role = |node, zone: &str| Role {
        node: NodeId(node),
        name: format!("n{node}"),
        weight: 1,
        zone: zone.to_owned(),
    };
    let wanted = Quorums { n: 2, r: 1, w: 2 };
    let roles = vec![role(1, "a"), role(2, "b")];
    Layout::first(2, wanted, roles, vec![Keyspace::default_keyspace()])
}

fn request(action: Action) -> Request {
    let (level, deadline_ms) = (Some(Level::All), Some(1_000));
    Request { named: true, attempt: 2, level, deadline_ms, ..plain::request(action) }
}

fn sibling() -> Sibling {
    Sibling {
        version: Stamp { hlc: Hlc(0x1_0000), actor: ActorId(3), step: 0 },
        digest: 5,
        content_type: "t".into(),
        expires: None,
        value: "value".into(),
    }
}

fn replies() -> Vec<Reply> {
    let stamp = Stamp { hlc: Hlc(0x2_0000), actor: ActorId(3), step: 0 };
    vec![
        Reply::Stored { context: context(), version: stamp, by: By::Primaries },
        Reply::Found { siblings: vec![sibling()], context: context(), by: By::Primaries },
        Reply::NotFound { siblings: vec![sibling()], context: context(), by: By::Primaries },
        Reply::Indeterminate { acks: 1, needed: 2 },
        Reply::unavailable("why"),
        Reply::overloaded("why").lasting(),
        Reply::BadRequest { reason: "why".to_owned() },
    ]
}

fn messages() -> Vec<Message> {
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let questions = [
        Question::Query,
        Question::Read { digest_only: true, heard: Epoch::default() },
        Question::Merge { state: state(), epoch: Epoch::default() },
        Question::Holds { outline: Outline::of(&state()) },
    ];
    let under = || LayoutSet::one(LayoutRef { version: LayoutVersion(1), digest: 7 });
    let asks = questions.map(|question| {
        let (layouts, key) = (under(), key.clone());
        Ask { op: OP, layouts, key, question }
    });
    let answers = [
        Answer::Query { clock: context().clock, highest: Hlc(0x2_0000), room: Room(true) },
        Answer::State { state: state(), epoch: Epoch::default() },
        Answer::Digest { digest: 5 },
        Answer::MergeAck,
        Answer::Lacks,
        Answer::Failed,
        Answer::StaleLayout,
        Answer::NotCounted,
    ];
    let answers = answers.map(|answer| KeyMessage::Answer { op: OP, layouts: under(), answer });
    let actions = [
        Action::Put {
            value: "value".into(),
            content_type: "t".into(),
            context: Some(context()),
            ttl_ms: None,
        },
        Action::Delete { context: None },
        Action::Get,
    ];
    let forwards = actions.map(|action| {
        let (layouts, request) = (under(), request(action));
        let fixed = Fixed { keyspace: KeyspaceId(1), at: Hlc(0x3_0000) };
        ForwardMessage::Ask { op: OP, layouts, fixed, request }
    });
    let mut made: Vec<ForwardAnswer> =
        replies().into_iter().map(|reply| ForwardAnswer::Done { reply }).collect();
    made.push(ForwardAnswer::Refused { reply: Reply::unavailable("why") });
    made.extend([ForwardAnswer::Failed, ForwardAnswer::StaleLayout]);
    let made = made.into_iter().map(|answer| ForwardMessage::Answer { op: OP, answer });
    let layouts = [LayoutMessage::Offer { layout: Arc::new(layout()) }, LayoutMessage::Request];
    let mut all: Vec<Message> = asks.map(KeyMessage::Ask).map(Message::Key).into();
    all.extend(answers.map(Message::Key));
    all.extend(forwards.map(Message::Forward));
    all.extend(made.map(Message::Forward));
    all.extend(layouts.map(Message::Layout));
    all
}

/// What the generation before has no words for.
fn new_messages() -> Vec<Message> {
    let layouts = LayoutSet::one(LayoutRef { version: LayoutVersion(2), digest: 7 });
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let unit = Unit { group: GroupId(1), partition: PartitionId(2) };
    let keys = vec![Digested { key, digest: 5, bytes: 6 }];
    let listings = [
        Listing::Keys { keys, next: Some("n".into()), purged: (Epoch(3), Hlc(5)) },
        Listing::Keys { keys: Vec::new(), next: None, purged: Default::default() },
        Listing::NotYet,
        Listing::Unreadable,
        Listing::StaleLayout,
        Listing::NotCounted,
        Listing::Failed,
    ];
    let ask = TransferMessage::Ask { op: OP, layouts: layouts.clone(), unit, from: "f".into() };
    let answers = listings.map(|listing| {
        let layouts = layouts.clone();
        TransferMessage::Answer { op: OP, layouts, listing }
    });
    let transfers = [ask].into_iter().chain(answers).map(Message::Transfer);
    let put = Action::Put {
        value: "value".into(),
        content_type: "t".into(),
        context: None,
        ttl_ms: Some(60_000),
    };
    let fixed = Fixed { keyspace: KeyspaceId(1), at: Hlc(0x3_0000) };
    let put =
        ForwardMessage::Ask { op: OP, layouts: layouts.clone(), fixed, request: request(put) };
    let sibling = Sibling { expires: Some(Hlc(0x4_0000)), ..sibling() };
    let found = Reply::Found { siblings: vec![sibling], context: context(), by: By::Primaries };
    let found = ForwardMessage::Answer { op: OP, answer: ForwardAnswer::Done { reply: found } };
    let expiring = [put, found].map(Message::Forward);
    let known = Known {
        node: NodeId(3),
        claim: Claim {
            incarnation: Incarnation { boot: BootEpoch(2), count: 1 },
            standing: Standing::Dead,
        },
        facts: Facts {
            session: SessionId(9),
            name: "n3".to_owned(),
            address: Address("n3:1".to_owned()),
        },
        age_ms: 5,
    };
    let exchanges =
        [Exchange::Digest { digest: 7 }, Exchange::All { known: vec![known], answer: true }];
    let all = transfers.chain(exchanges.map(Message::Swim)).chain(expiring);
    all.chain(comparisons().into_iter().map(Message::Repair)).collect()
}

/// What is said of keys that are purged.
fn purges() -> Vec<KeyMessage> {
    let layouts = LayoutSet::one(LayoutRef { version: LayoutVersion(2), digest: 7 });
    let unit = Unit { group: GroupId(1), partition: PartitionId(2) };
    let epoch = Epoch(0x1_0000);
    let questions = [
        Question::Read { digest_only: false, heard: epoch },
        Question::Merge { state: state(), epoch },
        Question::Confirm { state: state(), epoch },
        Question::Purge { digest: 9, epoch, gone: vec![ActorId(4)] },
    ];
    let answers = [
        Answer::State { state: state(), epoch },
        Answer::Outdated { unit, epoch, has: Has::Nothing },
        Answer::Confirmed { epoch, actor: Some(ActorId(4)) },
        Answer::NotConfirmed { why: Blocked::Owed },
    ];
    let of = layouts.clone();
    let asks = questions.map(|question| {
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        KeyMessage::Ask(Ask { op: OP, layouts: of.clone(), key, question })
    });
    let answers = answers.map(|answer| {
        let layouts = layouts.clone();
        KeyMessage::Answer { op: OP, layouts, answer }
    });
    asks.into_iter().chain(answers).collect()
}

/// What is said of hash trees.
fn comparisons() -> Vec<RepairMessage> {
    let layouts = LayoutSet::one(LayoutRef { version: LayoutVersion(2), digest: 7 });
    let unit = Unit { group: GroupId(1), partition: PartitionId(2) };
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let questions = [
        Compare::Roots { units: vec![unit] },
        Compare::Inner { unit },
        Compare::Leaves { unit, inner: 0x8000_0001 },
        Compare::Keys { unit, leaves: vec![0, 1023], from: "f".into() },
        Compare::Regrow { unit },
        Compare::Begin,
    ];
    let told = [
        Told::Roots { roots: vec![Rooted { unit, root: 9 }] },
        Told::Hashes { hashes: vec![0, u64::MAX] },
        Told::Keys { keys: vec![Digested { key, digest: 5, bytes: 6 }], next: Some("n".into()) },
        Told::Keys { keys: Vec::new(), next: None },
        Told::Done,
        Told::Unreadable,
        Told::StaleLayout,
        Told::NotCounted,
        Told::OtherFormat,
        Told::Failed,
    ];
    let (of, format) = (layouts.clone(), 1);
    let asks = questions.map(|question| {
        let layouts = of.clone();
        RepairMessage::Ask { op: OP, layouts, format, question }
    });
    let answers = told.map(|told| {
        let layouts = layouts.clone();
        RepairMessage::Answer { op: OP, layouts, format, told }
    });
    asks.into_iter().chain(answers).collect()
}

fn swim() -> Datagram {
    let (node, boot) = (NodeId(3), BootEpoch(2));
    let facts = |name: &str| Facts {
        session: SessionId(9),
        name: name.into(),
        address: Address(name.into()),
    };
    let incarnation = Incarnation { boot, count: 1 };
    let claim = Claim { incarnation, standing: Standing::Alive };
    Datagram {
        cluster: "c".to_owned(),
        me: Speaker { node: NodeId(1), claim, facts: facts("n1") },
        word: Word::Ping { probe: 300, target: Some(NodeId(2)) },
        rumours: vec![
            Rumour::Alive { node, incarnation, facts: facts("n3") },
            Rumour::Suspect { node, incarnation, by: NodeId(2) },
            Rumour::Restarting { node, incarnation },
            Rumour::Dead { node, incarnation },
            Rumour::Left { node, incarnation },
        ],
    }
}

fn gossip() -> Gossip {
    let me = Introduction {
        node: NodeId(1),
        life: LIFE,
        name: "n1".to_owned(),
        peer_address: Address("h:1".to_owned()),
        client_address: Address("h:2".to_owned()),
        expect: 3,
        weight: 1,
        zone: "z".to_owned(),
        joins: true,
    };
    Gossip {
        cluster: "c".to_owned(),
        me: me.clone(),
        wall: Wall(1_000),
        endorsed: Endorsement { live: true, ..Endorsement::default() },
        hears: vec![NodeId(1)],
        leaves: false,
        denied: false,
        earlier: vec![LIFE],
        began: Lsn(4),
        durable: Lsn(5),
        lives: vec![Counted { node: NodeId(2), life: LIFE, durable: Lsn(6) }],
        others: vec![me],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

#[test]
fn every_message_has_its_bytes_and_is_read_from_them() {
    let mut golden = String::new();
    let purges = purges().into_iter().map(Message::Key);
    for message in messages().into_iter().chain(new_messages()).chain(purges) {
        let envelope = Envelope { life: LIFE, durable: Lsn(4), message };
        let outbound = encode(&envelope, Generation::NEWEST).expect("the newest says all");
        let bytes = Bytes::from(outbound.parts.concat());
        assert_eq!(decode(&bytes).expect("it was just written"), envelope);
        writeln!(golden, "{}", hex(&bytes)).expect("a string takes all");
    }
    insta::assert_snapshot!(golden);
}

/// What a node of the generation before is told instead: it knows one layout for a whole message, and neither who has written a
/// version that is named nor what the first node of a request has fixed.
fn as_first(message: Message) -> Message {
    let name = |stamp: &mut Stamp| *stamp = Stamp { hlc: stamp.hlc, ..Stamp::default() };
    match message {
        Message::Key(KeyMessage::Answer { op, layouts, answer: Answer::NotCounted }) => {
            Message::Key(KeyMessage::Answer { op, layouts, answer: Answer::Failed })
        }
        Message::Forward(ForwardMessage::Ask { op, layouts, request, .. }) => {
            let fixed = Fixed::default();
            Message::Forward(ForwardMessage::Ask { op, layouts, fixed, request })
        }
        Message::Forward(ForwardMessage::Answer { op, mut answer }) => {
            if let ForwardAnswer::Done { reply } | ForwardAnswer::Refused { reply } = &mut answer {
                match reply {
                    Reply::Stored { version, .. } => name(version),
                    Reply::Found { siblings, .. } | Reply::NotFound { siblings, .. } => {
                        siblings.iter_mut().for_each(|sibling| name(&mut sibling.version));
                    }
                    Reply::Indeterminate { .. }
                    | Reply::Unavailable { .. }
                    | Reply::Overloaded { .. }
                    | Reply::BadRequest { .. } => {}
                }
            }
            Message::Forward(ForwardMessage::Answer { op, answer })
        }
        message => message,
    }
}

#[test]
fn a_node_of_the_generation_before_is_told_what_it_can_read_and_is_understood() {
    let mut golden = String::new();
    for message in messages() {
        let envelope = Envelope { life: LIFE, durable: Lsn(4), message };
        let outbound = encode(&envelope, Generation::First).expect("nothing new is in it");
        let bytes = Bytes::from(outbound.parts.concat());
        let expected = Envelope { message: as_first(envelope.message.clone()), ..envelope };
        assert_eq!(decode(&bytes).expect("it was just written"), expected);
        writeln!(golden, "{}", hex(&bytes)).expect("a string takes all");
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn what_the_generation_before_has_no_place_for_is_not_sent_to_it() {
    let key = KeyRef::new(KeyspaceId(1), "k".into());
    let ask = |layouts, version: Version| {
        let mut state = VersionSet::default();
        state.put(&VersionVector::default(), ActorId(1), version);
        let question = Question::Merge { state, epoch: Epoch::default() };
        let ask = Ask { op: OP, layouts, key: key.clone(), question };
        Message::Key(KeyMessage::Ask(ask))
    };
    let one = LayoutSet::one(LayoutRef { version: LayoutVersion(1), digest: 7 });
    let two = [1, 2].map(|version| LayoutRef { version: LayoutVersion(version), digest: 7 });
    let two = LayoutSet::from_references(&two).expect("two versions");
    let plain = || Version::tombstone(Hlc(1), RequestId(2));
    let expires = Version { expires: Some(Hlc(9)), ..plain() };
    let behind = Version { behind: Some(Behind { actor: ActorId(4), step: 1 }), ..plain() };
    let cases = [
        (ask(one.clone(), plain()), true),
        (ask(two, plain()), false),
        (ask(one.clone(), expires), false),
        (ask(one, behind), false),
    ];
    for (message, is_sent) in cases {
        let envelope = Envelope { life: LIFE, durable: Lsn(4), message };
        assert_eq!(encode(&envelope, Generation::First).is_some(), is_sent, "{envelope:?}");
        let newest = encode(&envelope, Generation::NEWEST).expect("the newest says all");
        let bytes = Bytes::from(newest.parts.concat());
        assert_eq!(decode(&bytes).expect("it was just written"), envelope);
    }
    for message in new_messages() {
        let envelope = Envelope { life: LIFE, durable: Lsn(4), message };
        assert!(encode(&envelope, Generation::First).is_none(), "{envelope:?}");
    }
    for message in purges() {
        let is_asked = matches!(&message, KeyMessage::Ask(ask)
            if matches!(ask.question, Question::Confirm { .. } | Question::Purge { .. }));
        let message = Message::Key(message);
        let envelope = Envelope { life: LIFE, durable: Lsn(4), message };
        let is_sent = encode(&envelope, Generation::First).is_some();
        assert_eq!(is_sent, !is_asked, "nobody of it is asked to purge: {envelope:?}");
    }
}

#[test]
fn a_record_of_the_generation_before_is_read_and_flags_that_mean_nothing_are_refused() {
    // The state of `records_layouts_and_datagrams_have_their_bytes_and_are_read_from_them`, as it was written before.
    let (head, body) = encode_state(&state());
    let mut earlier = head.to_vec();
    assert_eq!(earlier[0], 3);
    earlier[0] = 2;
    let body = Bytes::from(body.concat());
    let read = decode_state(&Bytes::from(earlier), &body).expect("plain versions have one form");
    assert_eq!(read, state());

    let mut set = VersionSet::default();
    set.put(&VersionVector::default(), ActorId(1), Version::tombstone(Hlc(1), RequestId(2)));
    let (head, _) = encode_state(&set);
    let flags = head.iter().rposition(|&byte| byte == 1).expect("the flag of a tombstone");
    let mut unknown = head.to_vec();
    unknown[flags] = 1 << 3;
    assert!(decode_state(&Bytes::from(unknown), &Bytes::new()).is_err());
}

/// Whether it is sloppy stands in its policy: a layout without sloppy keyspaces keeps its bytes, and so its name.
#[test]
fn a_sloppy_keyspace_is_read_as_one_and_changes_one_byte() {
    let of = |policy, sloppy| {
        let keyspace = Keyspace { policy, sloppy, ttl_ms: 5, ..Keyspace::default_keyspace() };
        let parts = LayoutParts { keyspaces: vec![keyspace], ..layout().parts().clone() };
        Layout::from_parts(parts).expect("a sound layout")
    };
    for policy in [Policy::Newest, Policy::Siblings] {
        let [strict, sloppy] = [false, true].map(|sloppy| of(policy, sloppy));
        let [strict_bytes, sloppy_bytes] = [&strict, &sloppy].map(encode_layout);
        assert_eq!(decode_layout(&strict_bytes).expect("it was just written"), strict);
        assert_eq!(decode_layout(&sloppy_bytes).expect("it was just written"), sloppy);
        assert_eq!(strict_bytes.len(), sloppy_bytes.len());
        let differ = strict_bytes.iter().zip(&sloppy_bytes).filter(|(a, b)| a != b);
        assert_eq!(differ.map(|(a, b)| b - a).collect::<Vec<u8>>(), [2]);
    }
}

#[test]
fn records_layouts_and_datagrams_have_their_bytes_and_are_read_from_them() {
    let (head, body) = encode_state(&state());
    let body = Bytes::from(body.concat());
    assert_eq!(decode_state(&head, &body).expect("it was just written"), state());
    let layout_bytes = encode_layout(&layout());
    assert_eq!(decode_layout(&layout_bytes).expect("it was just written"), layout());
    let datagram = encode_gossip(&gossip(), &Key::new(b"secret"));
    assert_eq!(
        decode_gossip(&datagram, &Key::new(b"secret")).expect("it was just written"),
        gossip()
    );
    let detector = encode_datagram(&swim(), &Key::new(b"secret")).expect("it is short");
    assert_eq!(
        decode_datagram(&detector, &Key::new(b"secret")).expect("it was just written"),
        swim()
    );
    let golden = [
        ("record head", &head),
        ("record body", &body),
        ("layout", &layout_bytes),
        ("datagram", &datagram),
        ("datagram of a failure detector", &detector),
    ];
    let golden = golden.map(|(what, bytes)| format!("{what}: {}", hex(bytes)));
    insta::assert_snapshot!(golden.join("\n"));
}
