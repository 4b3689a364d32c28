//! Messages and states as one line of text, for transcripts.

use bytes::Bytes;
use rondo_core::id::{Life, OpId};
use rondo_core::version::dvv::VersionSet;
use rondo_core::wire::forward::{ForwardAnswer, ForwardMessage};
use rondo_core::wire::key::{Answer, Ask, KeyMessage, Question};
use rondo_core::wire::layout::LayoutMessage;
use rondo_core::wire::message::{self, Message};
use rondo_core::wire::repair::{Compare, RepairMessage, Told};
use rondo_core::wire::swim::Exchange;
use rondo_core::wire::transfer::{Listing, TransferMessage};

use crate::fault::Said;

/// What a message says.
#[must_use]
pub fn message(bytes: &Bytes) -> String {
    let Ok(envelope) = message::decode(bytes) else {
        return "unreadable".to_owned();
    };
    match envelope.message {
        Message::Key(KeyMessage::Ask(ask)) => format!("{} {}", id(ask.op), asked(&ask)),
        Message::Key(KeyMessage::Answer { op, answer, .. }) => {
            let answer = match answer {
                Answer::Query { highest, .. } => format!("highest {highest}"),
                Answer::State { state, .. } => format!("state {}", self::state(&state)),
                Answer::Digest { digest } => format!("digest {digest:016x}"),
                Answer::MergeAck => "merged".to_owned(),
                Answer::Lacks => "lacks".to_owned(),
                Answer::Failed => "failed".to_owned(),
                Answer::StaleLayout => "stale layout".to_owned(),
                Answer::NotCounted => "not counted".to_owned(),
                Answer::Outdated { .. } => "outdated".to_owned(),
                Answer::Confirmed { .. } => "confirmed".to_owned(),
                Answer::NotConfirmed { why } => format!("not confirmed: {why:?}"),
            };
            format!("{} {answer}", id(op))
        }
        Message::Forward(ForwardMessage::Ask { op, .. }) => format!("{} forward", id(op)),
        Message::Forward(ForwardMessage::Answer { op, answer }) => {
            let answer = match answer {
                ForwardAnswer::Done { .. } => "forwarded",
                ForwardAnswer::Refused { .. } => "not taken on",
                ForwardAnswer::Failed => "failed",
                ForwardAnswer::StaleLayout => "stale layout",
            };
            format!("{} {answer}", id(op))
        }
        Message::Transfer(TransferMessage::Ask { op, unit, .. }) => {
            format!("{} list {}/{}", id(op), unit.group.0, unit.partition.0)
        }
        Message::Transfer(TransferMessage::Answer { op, listing, .. }) => {
            format!("{} {}", id(op), listed(&listing))
        }
        Message::Repair(RepairMessage::Ask { op, question, .. }) => {
            format!("{} {}", id(op), compared(&question))
        }
        Message::Repair(RepairMessage::Answer { op, told, .. }) => {
            format!("{} {}", id(op), compared_told(&told))
        }
        Message::Layout(LayoutMessage::Offer { .. }) => "layout offer".to_owned(),
        Message::Layout(LayoutMessage::Request) => "layout request".to_owned(),
        Message::Swim(Exchange::Digest { .. }) => "digest of members".to_owned(),
        Message::Swim(Exchange::All { known, .. }) => format!("all {} members", known.len()),
        Message::Layout(LayoutMessage::Live { layout }) => {
            format!("layout {} is live", layout.version().0)
        }
        Message::Layout(LayoutMessage::Staged { .. }) => "what is staged".to_owned(),
    }
}

fn asked(ask: &Ask) -> String {
    let key = String::from_utf8_lossy(&ask.key.key);
    match &ask.question {
        Question::Query => format!("query {key}"),
        Question::Read { digest_only: true, .. } => format!("digest of {key}"),
        Question::Read { digest_only: false, .. } => format!("read {key}"),
        Question::Merge { state, .. } => format!("merge {key} {}", self::state(state)),
        Question::Holds { .. } => format!("holds {key}"),
        Question::Confirm { state, .. } => format!("confirm {key} {}", self::state(state)),
        Question::Purge { .. } => format!("purge {key}"),
    }
}

/// What kind of message it is.
#[must_use]
pub fn said(bytes: &Bytes) -> Said {
    let Ok(envelope) = message::decode(bytes) else {
        return Said::Other;
    };
    match envelope.message {
        Message::Key(KeyMessage::Ask(ask)) => match ask.question {
            Question::Query => Said::Query,
            Question::Read { .. } => Said::Read,
            Question::Merge { .. } => Said::Merge,
            Question::Holds { .. } | Question::Confirm { .. } | Question::Purge { .. } => {
                Said::Other
            }
        },
        Message::Key(KeyMessage::Answer { answer, .. }) => match answer {
            Answer::Query { .. } => Said::QueryReply,
            Answer::State { .. } | Answer::Digest { .. } => Said::ReadReply,
            Answer::MergeAck => Said::MergeAck,
            Answer::Lacks
            | Answer::Failed
            | Answer::StaleLayout
            | Answer::NotCounted
            | Answer::Outdated { .. }
            | Answer::Confirmed { .. }
            | Answer::NotConfirmed { .. } => Said::Other,
        },
        Message::Forward(ForwardMessage::Ask { .. }) => Said::Forward,
        Message::Forward(ForwardMessage::Answer { answer, .. }) => match answer {
            ForwardAnswer::Done { .. } | ForwardAnswer::Refused { .. } => Said::ForwardReply,
            ForwardAnswer::Failed | ForwardAnswer::StaleLayout => Said::Other,
        },
        Message::Layout(_) | Message::Transfer(_) | Message::Repair(_) | Message::Swim(_) => {
            Said::Other
        }
    }
}

/// The life that a message answers, of the one that asked.
#[must_use]
pub fn answered(bytes: &Bytes) -> Option<Life> {
    match message::decode(bytes).ok()?.message {
        Message::Key(KeyMessage::Answer { op, .. })
        | Message::Forward(ForwardMessage::Answer { op, .. })
        | Message::Transfer(TransferMessage::Answer { op, .. })
        | Message::Repair(RepairMessage::Answer { op, .. }) => Some(op.life),
        Message::Key(KeyMessage::Ask(_))
        | Message::Forward(ForwardMessage::Ask { .. })
        | Message::Transfer(TransferMessage::Ask { .. })
        | Message::Repair(RepairMessage::Ask { .. })
        | Message::Layout(_)
        | Message::Swim(_) => None,
    }
}

/// What is asked of another's trees.
fn compared(question: &Compare) -> String {
    match question {
        Compare::Roots { units } => format!("roots of {}", units.len()),
        Compare::Inner { unit } => format!("tree of {}", unit.partition.0),
        Compare::Leaves { unit, .. } => format!("leaves of {}", unit.partition.0),
        Compare::Keys { unit, leaves, .. } => {
            format!("keys of {} leaves of {}", leaves.len(), unit.partition.0)
        }
        Compare::Regrow { unit } => format!("wrong tree of {}", unit.partition.0),
        Compare::Begin => "please compare".to_owned(),
    }
}

/// What it says of them.
fn compared_told(told: &Told) -> String {
    match told {
        Told::Roots { roots } => format!("{} roots", roots.len()),
        Told::Hashes { hashes } => format!("{} hashes", hashes.len()),
        Told::Keys { keys, .. } => format!("{} keys", keys.len()),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// What a source says of a unit.
fn listed(listing: &Listing) -> String {
    match listing {
        Listing::Keys { keys, next, .. } => {
            let more = if next.is_some() { " and more" } else { "" };
            format!("lists {} keys{more}", keys.len())
        }
        Listing::NotYet => "lists nothing yet".to_owned(),
        Listing::Unreadable => "cannot read what it is to list".to_owned(),
        Listing::StaleLayout => "has another layout".to_owned(),
        Listing::NotCounted => "does not have all of it".to_owned(),
        Listing::Failed => "failed".to_owned(),
    }
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
