//! How messages, answers, datagrams and records are told in a transcript: the one place that knows what they are made of.

use bytes::Bytes;
use rondo_core::engine::{Batch, Change};
use rondo_core::id::NodeId;
use rondo_core::replica::keys::{parse_data_key, parse_hint_key};
use rondo_core::replica::tree_row::parse_row_key;
use rondo_core::version::dvv::{Entry, Version, VersionSet, VersionVector};
use rondo_core::version::runs::{Run, Runs};
use rondo_core::wire::client::{Action, By, Reply, Request};
use rondo_core::wire::forward::{ForwardAnswer, ForwardMessage};
use rondo_core::wire::key::{Answer, KeyMessage, Question, Room};
use rondo_core::wire::layout::LayoutMessage;
use rondo_core::wire::member::Gossip;
use rondo_core::wire::message::Message;
use rondo_core::wire::repair::{Compare, RepairMessage, Told};
use rondo_core::wire::state::decode_state;
use rondo_core::wire::swim::Exchange;
use rondo_core::wire::transfer::{Listing, TransferMessage};

/// What is said of longer texts than this is how long they are.
const TEXT_MAX: usize = 40;

pub(crate) fn text(bytes: &Bytes) -> String {
    match bytes.len() {
        0..=TEXT_MAX => String::from_utf8_lossy(bytes).into_owned(),
        len => format!("({len} bytes)"),
    }
}

/// A counter as its number, and gaps as the runs between them.
fn numbers(runs: &Runs) -> String {
    let run = |run: &Run| match *run {
        Run { from: 1, to } => format!("{to}"),
        Run { from, to } => format!("{from}-{to}"),
    };
    runs.list().iter().map(run).collect::<Vec<_>>().join(",")
}

/// A state as `actor:n[values]`.
pub(crate) fn state(state: &VersionSet) -> String {
    let entry = |entry: &Entry| {
        let value = |(_, v): &(u64, Version)| {
            if v.tombstone { "†".to_owned() } else { text(&v.value) }
        };
        let values: Vec<String> = entry.versions.iter().map(value).collect();
        format!("{:x}:{}[{}]", entry.actor.0, numbers(&entry.known), values.join(" "))
    };
    let entries: Vec<String> = state.entries().iter().map(entry).collect();
    format!("{{{}}}", entries.join(" "))
}

fn clock(clock: &VersionVector) -> String {
    let entries = clock.entries().iter();
    let entries = entries.map(|(actor, runs)| format!("{:x}:{}", actor.0, numbers(runs)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}

pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Key(KeyMessage::Ask(ask)) => match &ask.question {
            Question::Query => "Query".to_owned(),
            Question::Read { digest_only: true, .. } => "Read digest".to_owned(),
            Question::Read { digest_only: false, .. } => "Read".to_owned(),
            Question::Merge { state: told, .. } => format!("Merge {}", state(told)),
            Question::Holds { .. } => "Holds".to_owned(),
            Question::Confirm { state: told, .. } => format!("Confirm {}", state(told)),
            Question::Purge { gone, .. } if gone.is_empty() => "Purge".to_owned(),
            Question::Purge { gone, .. } => format!("Purge {} actors", gone.len()),
        },
        Message::Key(KeyMessage::Answer { answer, .. }) => match answer {
            Answer::Query { clock: known, room: Room(true), .. } => {
                format!("QueryReply {}", clock(known))
            }
            Answer::Query { clock: known, room: Room(false), .. } => {
                format!("QueryReply {} no room", clock(known))
            }
            Answer::State { state: told, .. } => format!("ReadReply {}", state(told)),
            Answer::Digest { .. } => "DigestReply".to_owned(),
            Answer::MergeAck => "MergeAck".to_owned(),
            Answer::Lacks => "Lacks".to_owned(),
            Answer::Failed => "Failed".to_owned(),
            Answer::StaleLayout => "StaleLayout".to_owned(),
            Answer::NotCounted => "NotCounted".to_owned(),
            Answer::Outdated { .. } => "Outdated".to_owned(),
            Answer::Confirmed { .. } => "Confirmed".to_owned(),
            Answer::NotConfirmed { why } => format!("NotConfirmed {why:?}"),
        },
        Message::Forward(ForwardMessage::Ask { request, .. }) => {
            format!("Forward {}", self::request(request))
        }
        Message::Forward(ForwardMessage::Answer { answer, .. }) => match answer {
            ForwardAnswer::Done { reply } => format!("ForwardReply {}", outcome(reply)),
            ForwardAnswer::Refused { reply } => format!("ForwardRefused {}", outcome(reply)),
            ForwardAnswer::Failed => "Failed".to_owned(),
            ForwardAnswer::StaleLayout => "StaleLayout".to_owned(),
        },
        Message::Transfer(TransferMessage::Ask { unit, from, .. }) => {
            let place = parse_data_key(from).map(|key| format!(" from {}", text(&key.key)));
            format!("List {}{}", unit.partition.0, place.unwrap_or_default())
        }
        Message::Transfer(TransferMessage::Answer { listing, .. }) => match listing {
            Listing::Keys { keys, next, .. } => {
                let keys: Vec<String> = keys.iter().map(|one| text(&one.key.key)).collect();
                let more = if next.is_some() { " and more" } else { "" };
                format!("Listing [{}]{more}", keys.join(" "))
            }
            other => format!("Listing {other:?}"),
        },
        Message::Repair(message) => repair(message),
        Message::Layout(LayoutMessage::Offer { .. }) => "LayoutOffer".to_owned(),
        Message::Layout(LayoutMessage::Request) => "LayoutRequest".to_owned(),
        Message::Swim(Exchange::Digest { .. }) => "digest of members".to_owned(),
        Message::Swim(Exchange::All { .. }) => "all members".to_owned(),
        Message::Layout(LayoutMessage::Live { layout }) => {
            format!("LayoutLive {}", layout.version().0)
        }
        Message::Layout(LayoutMessage::Staged { .. }) => "Staged".to_owned(),
    }
}

/// What nodes say that compare their copies.
fn repair(message: &RepairMessage) -> String {
    match message {
        RepairMessage::Ask { question, .. } => match question {
            Compare::Roots { units } => format!("Roots of {}", units.len()),
            Compare::Inner { .. } => "Inner".to_owned(),
            Compare::Leaves { inner, .. } => format!("Leaves below {}", inner.count_ones()),
            Compare::Keys { leaves, from, .. } => {
                let place = parse_data_key(from).map(|key| format!(" from {}", text(&key.key)));
                format!("Keys of {} leaves{}", leaves.len(), place.unwrap_or_default())
            }
            Compare::Regrow { .. } => "Regrow".to_owned(),
            Compare::Begin => "Begin".to_owned(),
        },
        RepairMessage::Answer { told, .. } => match told {
            Told::Roots { roots } => format!("Roots {}", roots.len()),
            Told::Hashes { hashes } => {
                format!(
                    "Hashes {}, {} not 0",
                    hashes.len(),
                    hashes.iter().filter(|h| **h != 0).count()
                )
            }
            Told::Keys { keys, next } => {
                let keys: Vec<String> = keys.iter().map(|one| text(&one.key.key)).collect();
                let more = if next.is_some() { " and more" } else { "" };
                format!("Keys [{}]{more}", keys.join(" "))
            }
            other => format!("{other:?}"),
        },
    }
}

/// What a client asks, as it says it.
pub(crate) fn request(request: &Request) -> String {
    let how = |is_blind: bool| if is_blind { "blind" } else { "with context" };
    let key = text(&request.key);
    match &request.action {
        Action::Put { value, context, ttl_ms, .. } => {
            let stays = ttl_ms.map(|ms| format!(" for {ms} ms")).unwrap_or_default();
            format!("put {} {} {key}{stays}", text(value), how(context.is_none()))
        }
        Action::Delete { context } => format!("delete {} {key}", how(context.is_none())),
        Action::Get => format!("get {key}"),
    }
}

pub(crate) fn outcome(reply: &Reply) -> String {
    let by = match reply {
        Reply::Stored { by: By::Fallback, .. }
        | Reply::Found { by: By::Fallback, .. }
        | Reply::NotFound { by: By::Fallback, .. } => " (by a fallback)",
        _ => "",
    };
    format!("{}{by}", class(reply))
}

fn class(reply: &Reply) -> String {
    match reply {
        Reply::Stored { context, .. } => format!("Stored, knows {}", clock(&context.clock)),
        Reply::Found { siblings, context, .. } => {
            let values: Vec<String> = siblings.iter().map(|s| text(&s.value)).collect();
            format!("Found {}, knows {}", values.join(" | "), clock(&context.clock))
        }
        Reply::NotFound { siblings, context, .. } if siblings.is_empty() => {
            format!("NotFound, knows {}", clock(&context.clock))
        }
        Reply::NotFound { siblings, context, .. } => {
            let values: Vec<String> = siblings.iter().map(|s| text(&s.value)).collect();
            format!("NotFound beside {}, knows {}", values.join(" | "), clock(&context.clock))
        }
        Reply::Indeterminate { acks, needed } => format!("Indeterminate {acks} of {needed}"),
        Reply::Unavailable { reason, passes: true } => format!("Unavailable: {reason}"),
        Reply::Unavailable { reason, passes: false } => format!("Unavailable for good: {reason}"),
        Reply::Overloaded { reason, passes: true } => format!("Overloaded: {reason}"),
        Reply::Overloaded { reason, passes: false } => format!("Overloaded for good: {reason}"),
        Reply::BadRequest { reason } => format!("BadRequest: {reason}"),
    }
}

/// A datagram, without what is different in each: times, and how much is durable.
pub(crate) fn gossip(gossip: &Gossip) -> String {
    let hears: Vec<String> = gossip.hears.iter().map(node).collect();
    let mut said = format!("hears {}", hears.join(" "));
    if gossip.me.life.boot.0 > 1 {
        said = format!("boot {}, {said}", gossip.me.life.boot.0);
    }
    match (gossip.endorsed.layout.version.0, gossip.endorsed.live) {
        (0, _) => {}
        (version, false) => said += &format!(", has endorsed layout {version}"),
        (version, true) => said += &format!(", layout {version} is live"),
    }
    if gossip.leaves {
        said += ", says goodbye";
    }
    if gossip.denied {
        said += ", counts no more";
    }
    said
}

pub(crate) fn node(node: &NodeId) -> String {
    format!("n{}", node.0)
}

/// What a batch stores: clients' keys with their states, and the node's own records by name.
pub(crate) fn batch(batch: &Batch) -> String {
    let change = |change: &Change| match change {
        Change::Put { key, head, body, .. } => match parse_data_key(key) {
            Some(of) => format!("{} {}", text(&of.key), record(head, &body.concat().into())),
            None => own(key),
        },
        Change::Delete { key, .. } => match parse_data_key(key) {
            Some(of) => format!("nothing of {}", text(&of.key)),
            None => format!("no {}", own(key)),
        },
    };
    batch.changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn own(key: &Bytes) -> String {
    if let Some((target, _, of)) = parse_hint_key(key) {
        return format!("hint {} for {}", text(&of.key), node(&target));
    }
    if let Some(unit) = parse_row_key(key) {
        return format!("tree {}", unit.partition.0);
    }
    let name = key.iter().skip(1).take_while(|byte| byte.is_ascii_alphabetic());
    name.map(|&byte| char::from(byte)).collect()
}

/// A stored state.
pub(crate) fn record(head: &Bytes, body: &Bytes) -> String {
    decode_state(head, body).map_or_else(|error| error.to_string(), |read| state(&read))
}
