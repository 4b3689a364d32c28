//! Everything that nodes say to each other and store, as bytes.
//!
//! Checked: decoding any bytes never panics; what decodes is encoded and decoded to the same again; an
//! arbitrary message, datagram, record or layout comes back as it was; no changed datagram is believed.

#![no_main]

mod units;

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rondo_core::config::{DOT_MAX, NAME_BYTES_MAX, SWIM_DATAGRAM_BYTES_MAX, SWIM_INCARNATION_MAX};
use rondo_core::config::LAYOUTS_LIVE_MAX;
use rondo_core::env::{Address, Wall};
use rondo_core::id::{Epoch, 
    ActorId, BootEpoch, GroupId, KeyspaceId, LayoutVersion, Life, Lsn, NodeId, OpId,
    RequestId, SessionId,
};
use rondo_core::layout::keyspace::{Keyspace, Level, Policy};
use rondo_core::layout::live::{LayoutSet, Trackers};
use rondo_core::layout::{Layout, LayoutRef, Quorums, Role};
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Behind, Dot, Entry, Stamp, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::outline::Outline;
use rondo_core::version::runs::{Run, Runs};
use rondo_core::wire::client::{Action, By, Reply, Request, Sibling};
use rondo_core::wire::forward::{Fixed, ForwardAnswer, ForwardMessage};
use rondo_core::wire::frame::Generation;
use rondo_core::wire::key::{Answer, Ask, Blocked, KeyMessage, KeyRef, Question, Room};
use rondo_core::wire::layout::{LayoutMessage, decode_layout, encode_layout};
use rondo_core::wire::member::{
    Counted, Endorsement, Gossip, Introduction, Key, decode_gossip, encode_gossip,
};
use rondo_core::wire::message::{Envelope, Message, decode, encode};
use rondo_core::wire::state::{decode_state, encode_state};
use rondo_core::wire::swim::{
    Claim, Datagram, Exchange, Facts, Incarnation, Known, Rumour, Speaker, Standing, Word,
    decode_datagram, encode_datagram, is_datagram,
};

const SECRET: &[u8] = b"secret";

fuzz_target!(|data: &[u8]| {
    let Some((&what, data)) = data.split_first() else { return };
    let mut u = Unstructured::new(data);
    // An input that ends early makes no value, which is no finding.
    let _ = match what % 9 {
        0 => envelope(&mut u).map(|envelope| message_survives(&envelope)),
        1 => gossip(&mut u).and_then(|gossip| gossip_survives(&gossip, &mut u)),
        2 => state(&mut u).map(|state| state_survives(&state)),
        3 => layout(&mut u).map(|layout| layout_survives(&layout)),
        4 => any_message(&Bytes::copy_from_slice(data)),
        5 => any_gossip(&Bytes::copy_from_slice(data)),
        6 => any_state(data),
        7 => detector(&mut u).map(|datagram| detector_survives(&datagram)),
        _ => any_layout(&Bytes::copy_from_slice(data)),
    };
});

fn message_survives(envelope: &Envelope) {
    let encoded = encode(envelope, Generation::NEWEST).expect("the newest says all");
    assert_eq!(encoded.class, envelope.message.class());
    let bytes = Bytes::from(encoded.parts.concat());
    assert_eq!(decode(&bytes).as_ref().ok(), Some(envelope));
    // Neither less nor more is the same message.
    assert!(decode(&bytes.slice(..bytes.len() - 1)).is_err());
    assert!(decode(&Bytes::from([&bytes[..], &[0]].concat())).is_err());
    // A node of the generation before can read whatever it is sent.
    if let Some(first) = encode(envelope, Generation::First) {
        assert!(decode(&Bytes::from(first.parts.concat())).is_ok());
    }
}

fn gossip_survives(gossip: &Gossip, u: &mut Unstructured<'_>) -> Result<()> {
    let bytes = encode_gossip(gossip, &Key::new(SECRET));
    assert_eq!(decode_gossip(&bytes, &Key::new(SECRET)).as_ref().ok(), Some(gossip));
    assert!(decode_gossip(&bytes, &Key::new(b"other")).is_err());
    let mut changed = bytes.to_vec();
    let at = u.choose_index(changed.len())?;
    changed[at] ^= u.int_in_range(1..=255)?;
    assert!(decode_gossip(&Bytes::from(changed), &Key::new(SECRET)).is_err());
    Ok(())
}

fn state_survives(state: &VersionSet) {
    let (head, body) = encode_state(state);
    let body = Bytes::from(body.concat());
    assert_eq!(decode_state(&head, &body).as_ref().ok(), Some(state));
}

fn layout_survives(layout: &Layout) {
    let bytes = encode_layout(layout);
    assert_eq!(decode_layout(&bytes).as_ref().ok(), Some(layout));
}

fn any_message(bytes: &Bytes) -> Result<()> {
    if let Ok(envelope) = decode(bytes) {
        message_survives(&envelope);
    }
    Ok(())
}

/// The code in front keeps strangers out; behind it must be safe ground too, for a peer may be mad.
fn any_gossip(bytes: &Bytes) -> Result<()> {
    assert!(decode_gossip(bytes, &Key::new(SECRET)).is_err(), "forged");
    Ok(())
}

fn any_state(data: &[u8]) -> Result<()> {
    let Some((&at, data)) = data.split_first() else { return Ok(()) };
    let (head, body) = data.split_at(usize::from(at).min(data.len()));
    let decoded = decode_state(&Bytes::copy_from_slice(head), &Bytes::copy_from_slice(body));
    if let Ok(state) = decoded {
        state_survives(&state);
    }
    Ok(())
}

fn any_layout(bytes: &Bytes) -> Result<()> {
    if let Ok(layout) = decode_layout(bytes) {
        layout_survives(&layout);
        for unit in layout.units() {
            let group = layout.group(unit.group).expect("a unit is of a group");
            assert_eq!(layout.primaries(unit).count(), usize::from(group.quorums.n));
        }
    }
    Ok(())
}

// Values, piece by piece.

fn bytes(u: &mut Unstructured<'_>) -> Result<Bytes> {
    Ok(Bytes::from(Vec::<u8>::arbitrary(u)?))
}

fn several<T>(
    u: &mut Unstructured<'_>,
    max: usize,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=max)?;
    (0..count).map(|_| one(u)).collect()
}

fn version(u: &mut Unstructured<'_>) -> Result<Version> {
    let (hlc, request) = (Hlc(u.arbitrary()?), RequestId(u.arbitrary()?));
    let mut version = match u.arbitrary()? {
        true => Version::tombstone(hlc, request),
        false => Version::value(hlc, request, bytes(u)?, bytes(u)?),
    };
    version.expires = u.arbitrary::<Option<u64>>()?.map(Hlc);
    if u.arbitrary()? {
        version.behind = Some(Behind { actor: ActorId(u.arbitrary()?), step: u.arbitrary()? });
    }
    Ok(version)
}

fn state(u: &mut Unstructured<'_>) -> Result<VersionSet> {
    let mut entries = several(u, 6, |u| {
        let versions = several(u, 3, version)?;
        let n = u.int_in_range(versions.len().max(1) as u64..=DOT_MAX)?;
        let mut known = Runs::up_to(if u.arbitrary()? { n } else { 0 });
        let held = (0..versions.len() as u64).map(|back| n - back).zip(versions);
        let versions: Vec<(u64, Version)> = held.collect();
        let from = versions.last().map_or(n, |(lowest, _)| *lowest);
        known.add(Run { from, to: n });
        Ok(Entry { actor: ActorId(u.arbitrary()?), known, versions })
    })?;
    entries.sort_by_key(|entry| entry.actor);
    entries.dedup_by_key(|entry| entry.actor);
    Ok(VersionSet::from_entries(entries.into()).expect("sorted and sound"))
}

fn clock(u: &mut Unstructured<'_>) -> Result<VersionVector> {
    let entries = several(u, 8, |u| Ok((ActorId(u.arbitrary()?), u.int_in_range(0..=DOT_MAX)?)))?;
    let mut clock = VersionVector::new(entries);
    for _ in 0..u.int_in_range(0..=8)? {
        clock.add(Dot { actor: ActorId(u.arbitrary()?), n: u.int_in_range(1..=DOT_MAX)? });
    }
    Ok(clock)
}

fn context(u: &mut Unstructured<'_>) -> Result<Context> {
    Ok(Context { clock: clock(u)?, highest: Hlc(u.arbitrary()?) })
}

fn maybe_context(u: &mut Unstructured<'_>) -> Result<Option<Context>> {
    u.arbitrary::<bool>()?.then(|| context(u)).transpose()
}

fn life(u: &mut Unstructured<'_>) -> Result<Life> {
    Ok(Life { boot: BootEpoch(u.arbitrary()?), session: SessionId(u.arbitrary()?) })
}

fn op(u: &mut Unstructured<'_>) -> Result<OpId> {
    Ok(OpId { life: life(u)?, seq: u.arbitrary()? })
}

fn key(u: &mut Unstructured<'_>) -> Result<KeyRef> {
    Ok(KeyRef::new(KeyspaceId(u.arbitrary()?), bytes(u)?))
}

fn level(u: &mut Unstructured<'_>) -> Result<Level> {
    Ok(*u.choose(&[Level::One, Level::Quorum, Level::All])?)
}

fn request(u: &mut Unstructured<'_>) -> Result<Request> {
    let action = match u.int_in_range(0..=2)? {
        0 => Action::Put {
            value: bytes(u)?,
            content_type: bytes(u)?,
            context: maybe_context(u)?,
            ttl_ms: u.arbitrary()?,
        },
        1 => Action::Delete { context: maybe_context(u)? },
        _ => Action::Get,
    };
    Ok(Request {
        id: RequestId(u.arbitrary()?),
        named: u.arbitrary()?,
        attempt: u.arbitrary()?,
        source: u.arbitrary()?,
        keyspace: Arc::from(u.arbitrary::<&str>()?),
        key: bytes(u)?,
        level: u.arbitrary::<bool>()?.then(|| level(u)).transpose()?,
        deadline_ms: u.arbitrary()?,
        action,
    })
}

fn stamp(u: &mut Unstructured<'_>) -> Result<Stamp> {
    let (hlc, actor) = (Hlc(u.arbitrary()?), ActorId(u.arbitrary()?));
    Ok(Stamp { hlc, actor, step: u.arbitrary()? })
}

fn layouts(u: &mut Unstructured<'_>) -> Result<LayoutSet> {
    let mut references = several(u, LAYOUTS_LIVE_MAX, layout_ref)?;
    references.sort();
    references.dedup_by_key(|reference| reference.version);
    Ok(LayoutSet::from_references(&references).expect("sorted, one of each version"))
}

fn reply(u: &mut Unstructured<'_>) -> Result<Reply> {
    let sibling = |u: &mut Unstructured<'_>| {
        Ok(Sibling {
            version: stamp(u)?,
            digest: u.arbitrary()?,
            content_type: bytes(u)?,
            expires: u.arbitrary::<Option<u64>>()?.map(Hlc),
            value: bytes(u)?,
        })
    };
    Ok(match u.int_in_range(0..=6)? {
        0 => Reply::Stored { context: context(u)?, version: stamp(u)?, by: By::Primaries },
        1 => Reply::Found { siblings: several(u, 4, sibling)?, context: context(u)?, by: By::Primaries },
        2 => Reply::NotFound { siblings: several(u, 4, sibling)?, context: context(u)?, by: By::Primaries },
        3 => Reply::Indeterminate { acks: u.arbitrary()?, needed: u.arbitrary()? },
        4 => Reply::Unavailable { reason: u.arbitrary()?, passes: u.arbitrary()? },
        5 => Reply::Overloaded { reason: u.arbitrary()?, passes: u.arbitrary()? },
        _ => Reply::BadRequest { reason: u.arbitrary()? },
    })
}

fn key_message(u: &mut Unstructured<'_>) -> Result<KeyMessage> {
    if u.arbitrary()? {
        let question = match u.int_in_range(0..=5)? {
            0 => Question::Query,
            1 => Question::Read { digest_only: u.arbitrary()?, heard: Epoch(u.arbitrary()?) },
            2 => Question::Merge { state: state(u)?, epoch: Epoch(u.arbitrary()?) },
            3 => Question::Confirm { state: state(u)?, epoch: Epoch(u.arbitrary()?) },
            4 => Question::Purge {
                digest: u.arbitrary()?,
                epoch: Epoch(u.arbitrary()?),
                gone: vec![ActorId(u.arbitrary()?)],
            },
            _ => Question::Holds { outline: Outline::of(&state(u)?) },
        };
        return Ok(KeyMessage::Ask(Ask {
            op: op(u)?,
            layouts: layouts(u)?,
            key: key(u)?,
            question,
        }));
    }
    let answer = match u.int_in_range(0..=9)? {
        0 => {
            let (clock, highest, room) = (clock(u)?, Hlc(u.arbitrary()?), Room(u.arbitrary()?));
            Answer::Query { clock, highest, room }
        }
        1 => Answer::State { state: state(u)?, epoch: Epoch(u.arbitrary()?) },
        2 => Answer::Digest { digest: u.arbitrary()? },
        3 => Answer::MergeAck,
        4 => Answer::Lacks,
        5 => Answer::Failed,
        6 => Answer::StaleLayout,
        7 => Answer::Confirmed { epoch: Epoch(u.arbitrary()?), actor: None },
        8 => Answer::NotConfirmed { why: Blocked::Owed },
        _ => Answer::NotCounted,
    };
    Ok(KeyMessage::Answer { op: op(u)?, layouts: layouts(u)?, answer })
}

fn forward_message(u: &mut Unstructured<'_>) -> Result<ForwardMessage> {
    if u.arbitrary()? {
        let fixed = Fixed { keyspace: KeyspaceId(u.arbitrary()?), at: Hlc(u.arbitrary()?) };
        let (op, layouts, request) = (op(u)?, layouts(u)?, request(u)?);
        return Ok(ForwardMessage::Ask { op, layouts, fixed, request });
    }
    let answer = match u.int_in_range(0..=3)? {
        0 => ForwardAnswer::Done { reply: reply(u)? },
        1 => ForwardAnswer::Refused { reply: reply(u)? },
        2 => ForwardAnswer::Failed,
        _ => ForwardAnswer::StaleLayout,
    };
    Ok(ForwardMessage::Answer { op: op(u)?, answer })
}

fn envelope(u: &mut Unstructured<'_>) -> Result<Envelope> {
    let message = match u.int_in_range(0..=5)? {
        0 => Message::Key(key_message(u)?),
        1 => Message::Forward(forward_message(u)?),
        2 => Message::Transfer(units::transfer_message(u)?),
        3 => Message::Swim(exchange(u)?),
        4 => Message::Repair(units::repair_message(u)?),
        _ => Message::Layout(match u.arbitrary()? {
            true => LayoutMessage::Offer { layout: Arc::new(layout(u)?) },
            false => LayoutMessage::Request,
        }),
    };
    Ok(Envelope { life: life(u)?, durable: Lsn(u.arbitrary()?), message })
}

fn incarnation(u: &mut Unstructured<'_>) -> Result<Incarnation> {
    let count = u.int_in_range(0..=SWIM_INCARNATION_MAX)?;
    Ok(Incarnation { boot: BootEpoch(u.arbitrary()?), count })
}

fn claim(u: &mut Unstructured<'_>) -> Result<Claim> {
    let standings = [
        Standing::Alive,
        Standing::Suspect,
        Standing::Restarting,
        Standing::Dead,
        Standing::Left,
    ];
    Ok(Claim { incarnation: incarnation(u)?, standing: *u.choose(&standings)? })
}

fn facts(u: &mut Unstructured<'_>) -> Result<Facts> {
    let text = |u: &mut Unstructured<'_>| {
        let text = u.arbitrary::<String>()?;
        Ok(if text.len() <= NAME_BYTES_MAX { text } else { String::new() })
    };
    let (session, name) = (SessionId(u.arbitrary()?), text(u)?);
    Ok(Facts { session, name, address: Address(text(u)?) })
}

fn exchange(u: &mut Unstructured<'_>) -> Result<Exchange> {
    if u.arbitrary()? {
        return Ok(Exchange::Digest { digest: u.arbitrary()? });
    }
    let known = several(u, 8, |u| {
        let (node, claim, facts) = (NodeId(u.arbitrary()?), claim(u)?, facts(u)?);
        Ok(Known { node, claim, facts, age_ms: u.arbitrary()? })
    })?;
    Ok(Exchange::All { known, answer: u.arbitrary()? })
}

fn rumour(u: &mut Unstructured<'_>) -> Result<Rumour> {
    let (node, incarnation) = (NodeId(u.arbitrary()?), incarnation(u)?);
    Ok(match u.int_in_range(0..=4)? {
        0 => Rumour::Alive { node, incarnation, facts: facts(u)? },
        1 => Rumour::Suspect { node, incarnation, by: NodeId(u.arbitrary()?) },
        2 => Rumour::Restarting { node, incarnation },
        3 => Rumour::Dead { node, incarnation },
        _ => Rumour::Left { node, incarnation },
    })
}

fn detector(u: &mut Unstructured<'_>) -> Result<Datagram> {
    let (node, probe) = (NodeId(u.arbitrary()?), u.arbitrary()?);
    let word = match u.int_in_range(0..=5)? {
        0 => Word::Ping { probe, target: None },
        1 => Word::Ping { probe, target: Some(node) },
        2 => Word::Help { probe, target: node, address: facts(u)?.address },
        3 => Word::Ack { probe },
        4 => Word::Nack { probe },
        _ => Word::Rumours,
    };
    let me = Speaker { node, claim: claim(u)?, facts: facts(u)? };
    Ok(Datagram { cluster: u.arbitrary()?, me, word, rumours: several(u, 8, rumour)? })
}

/// What is longer than it may be is not written; everything else is read back.
fn detector_survives(datagram: &Datagram) {
    if let Some(bytes) = encode_datagram(datagram, &Key::new(SECRET)) {
        assert!(bytes.len() <= SWIM_DATAGRAM_BYTES_MAX && is_datagram(&bytes));
        assert_eq!(decode_datagram(&bytes, &Key::new(SECRET)).as_ref().ok(), Some(datagram));
        assert!(decode_datagram(&bytes, &Key::new(b"other")).is_err());
    }
}

fn layout_ref(u: &mut Unstructured<'_>) -> Result<LayoutRef> {
    Ok(LayoutRef { version: LayoutVersion(u.arbitrary()?), digest: u.arbitrary()? })
}

fn layout(u: &mut Unstructured<'_>) -> Result<Layout> {
    let role = |u: &mut Unstructured<'_>| {
        Ok(Role {
            node: NodeId(u.arbitrary()?),
            name: u.arbitrary()?,
            weight: u.int_in_range(1..=1000)?,
            zone: u.arbitrary()?,
        })
    };
    let mut roles = several(u, 5, role)?;
    roles.push(role(u)?);
    roles.sort_by_key(|role| role.node);
    roles.dedup_by_key(|role| role.node);
    let keyspace = |u: &mut Unstructured<'_>| {
        Ok(Keyspace {
            id: KeyspaceId(u.arbitrary()?),
            name: u.arbitrary()?,
            group: GroupId::FIRST,
            policy: *u.choose(&[Policy::Newest, Policy::Siblings])?,
            level: level(u)?,
            ttl_ms: u.arbitrary()?,
            sloppy: u.arbitrary()?,
        })
    };
    let mut keyspaces = several(u, 3, keyspace)?;
    // No two of one layout share an id or a name.
    keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
    keyspaces.dedup_by(|a, b| a.name == b.name);
    keyspaces.sort_by_key(|keyspace| keyspace.id);
    keyspaces.dedup_by_key(|keyspace| keyspace.id);
    let mut quorum = || u.int_in_range(1..=5);
    let wanted = Quorums { n: quorum()?, r: quorum()?, w: quorum()? };
    Ok(Layout::first(1 << u.int_in_range(0..=6)?, wanted, roles, keyspaces))
}

fn introduction(u: &mut Unstructured<'_>) -> Result<Introduction> {
    Ok(Introduction {
        node: NodeId(u.arbitrary()?),
        life: life(u)?,
        name: u.arbitrary()?,
        peer_address: Address(u.arbitrary()?),
        client_address: Address(u.arbitrary()?),
        expect: u.arbitrary()?,
        weight: u.arbitrary()?,
        zone: u.arbitrary()?,
        joins: u.arbitrary()?,
    })
}

fn counted(u: &mut Unstructured<'_>) -> Result<Counted> {
    Ok(Counted { node: NodeId(u.arbitrary()?), life: life(u)?, durable: Lsn(u.arbitrary()?) })
}

fn gossip(u: &mut Unstructured<'_>) -> Result<Gossip> {
    Ok(Gossip {
        cluster: u.arbitrary()?,
        me: introduction(u)?,
        wall: Wall(u.arbitrary()?),
        endorsed: Endorsement {
            layout: layout_ref(u)?,
            live: u.arbitrary()?,
            oldest: LayoutVersion(u.arbitrary()?),
            founding: u.arbitrary()?,
            trackers: Trackers {
                ack: LayoutVersion(u.arbitrary()?),
                sync: LayoutVersion(u.arbitrary()?),
                sync_ack: LayoutVersion(u.arbitrary()?),
            },
        },
        hears: several(u, 5, |u| Ok(NodeId(u.arbitrary()?)))?,
        leaves: u.arbitrary()?,
        denied: u.arbitrary()?,
        earlier: several(u, 5, life)?,
        began: Lsn(u.arbitrary()?),
        durable: Lsn(u.arbitrary()?),
        lives: several(u, 5, counted)?,
        others: several(u, 3, introduction)?,
    })
}
