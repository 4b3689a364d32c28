//! Messages and states as one line of text, for transcripts.

use bytes::Bytes;
use rondo_core::codec;
use rondo_core::id::OpId;
use rondo_core::message::Message;
use rondo_core::version::dvv::VersionSet;

use crate::scenario::Said;

/// What a message says.
#[must_use]
pub fn message(bytes: &Bytes) -> String {
    let Ok(envelope) = codec::decode(bytes) else {
        return "unreadable".to_owned();
    };
    let key = |key: &rondo_core::message::KeyRef| String::from_utf8_lossy(&key.key).into_owned();
    match envelope.message {
        Message::Query { op, key: of } => format!("{} query {}", id(op), key(&of)),
        Message::QueryReply { op, highest, .. } => format!("{} highest {highest}", id(op)),
        Message::Read { op, key: of, digest_only } => {
            let what = if digest_only { "digest of" } else { "read" };
            format!("{} {what} {}", id(op), key(&of))
        }
        Message::ReadReply { op, state } => format!("{} state {}", id(op), self::state(&state)),
        Message::DigestReply { op, digest } => format!("{} digest {digest:016x}", id(op)),
        Message::Merge { op, key: of, state } => {
            format!("{} merge {} {}", id(op), key(&of), self::state(&state))
        }
        Message::MergeAck { op } => format!("{} merged", id(op)),
        Message::Holds { op, key: of, .. } => format!("{} holds {}", id(op), key(&of)),
        Message::Lacks { op } => format!("{} lacks", id(op)),
        Message::Failed { op } => format!("{} failed", id(op)),
        Message::StaleLayout { op } => format!("{} stale layout", id(op)),
        Message::Forward { op, .. } => format!("{} forward", id(op)),
        Message::ForwardReply { op, .. } => format!("{} forwarded", id(op)),
        Message::ForwardRefused { op, .. } => format!("{} not taken on", id(op)),
        Message::LayoutOffer { .. } => "layout offer".to_owned(),
        Message::LayoutRequest => "layout request".to_owned(),
    }
}

/// What kind of message it is.
#[must_use]
pub fn said(bytes: &Bytes) -> Said {
    codec::decode(bytes).map_or(Said::Other, |envelope| match envelope.message {
        Message::Query { .. } => Said::Query,
        Message::QueryReply { .. } => Said::QueryReply,
        Message::Read { .. } => Said::Read,
        Message::ReadReply { .. } | Message::DigestReply { .. } => Said::ReadReply,
        Message::Merge { .. } => Said::Merge,
        Message::MergeAck { .. } => Said::MergeAck,
        Message::Forward { .. } => Said::Forward,
        Message::ForwardReply { .. } | Message::ForwardRefused { .. } => Said::ForwardReply,
        _ => Said::Other,
    })
}

/// What a key's state holds: for each actor the dots that are known, then its versions.
#[must_use]
pub fn state(state: &VersionSet) -> String {
    let entries = state.entries().iter().map(|entry| {
        let versions: Vec<String> = entry
            .versions
            .iter()
            .map(|(n, version)| {
                let text = String::from_utf8_lossy(&version.value);
                let name = text.split('.').next().unwrap_or_default().to_owned();
                let name = if version.tombstone { "x".to_owned() } else { name };
                format!("{n}={name}@{}", version.hlc)
            })
            .collect();
        let actor = &entry.actor.to_string()[..4];
        let known: Vec<String> =
            entry.known.list().iter().map(|run| format!("{}-{}", run.from, run.to)).collect();
        format!("{actor}:{}[{}]", known.join(","), versions.join(" "))
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}

fn id(op: OpId) -> String {
    format!("#{}.{}", op.life.boot.0, op.seq)
}
