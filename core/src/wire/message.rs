//! A message between two nodes over their link, with what its sender says of itself.
//!
//! A message about a key carries the coordinator's layout (`Envelope::layout`): a replica that does not have that very
//! layout answers `StaleLayout` and does nothing. Each family of messages is an enum of its own, in a file of its own with
//! its codec. No match on a message has a wildcard arm, so that the compiler names every place that a new one must pass.

use bytes::Bytes;

use crate::env::{Class, Outbound};
use crate::error::{Error, Result};
use crate::id::{Life, Lsn};
use crate::layout::LayoutRef;
use crate::wire::forward::ForwardMessage;
use crate::wire::frame::{Wire, Writer, check_version, read, table};
use crate::wire::key::KeyMessage;
use crate::wire::layout::LayoutMessage;

/// The version of messages.
const VERSION: u8 = 3;
const PREFIX_BYTES: usize = 5;

/// A message with what its sender says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sender's life: one that does not count is not heard.
    pub life: Life,
    /// The layout the sender acts under; `LayoutRef::default()` while it has none.
    pub layout: LayoutRef,
    /// Up to where the sender's store has everything durably; `Lsn(0)` says nothing.
    pub durable: Lsn,
    /// The message.
    pub message: Message,
}

/// What nodes say to each other over links: a family for each protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// About a key.
    Key(KeyMessage),
    /// About a client's request that is passed on.
    Forward(ForwardMessage),
    /// About the layout.
    Layout(LayoutMessage),
}

impl Message {
    /// Whether a message answers another.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. }) => Class::Reply,
            Message::Key(KeyMessage::Ask(_))
            | Message::Forward(ForwardMessage::Ask { .. })
            | Message::Layout(LayoutMessage::Offer { .. } | LayoutMessage::Request) => {
                Class::Request
            }
        }
    }

    /// The bytes that it keeps in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let carried = match self {
            Message::Key(message) => message.weight(),
            Message::Forward(message) => message.weight(),
            // Shared with whoever holds the layout.
            Message::Layout(LayoutMessage::Offer { .. } | LayoutMessage::Request) => 0,
        };
        size_of::<Message>() + carried
    }
}

/// A message as bytes.
#[must_use]
pub fn encode(envelope: &Envelope) -> Outbound {
    let mut to = Writer::after(&[VERSION, 0, 0, 0, 0]);
    envelope.put(&mut to);
    let (mut header, values) = to.finish();
    let length = u32::try_from(header.len() - PREFIX_BYTES).expect("a header is below 4 GiB");
    header[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    let parts = [Bytes::from(header)].into_iter().chain(values).collect();
    Outbound { class: envelope.message.class(), parts }
}

/// The message in `bytes`.
pub fn decode(bytes: &Bytes) -> Result<Envelope> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Error::Malformed("a message is shorter than its prefix"));
    };
    let [version, length @ ..] = *prefix;
    check_version("a message", version, VERSION)?;
    let end = PREFIX_BYTES.saturating_add(u32::from_le_bytes(length) as usize);
    if end > bytes.len() {
        return Err(Error::Malformed("a message is shorter than its header"));
    }
    read(bytes.slice(PREFIX_BYTES..end), bytes.slice(end..))
}

table!(struct Envelope { life, layout, durable, message });
table!(enum Message { 1 Key(message), 2 Forward(message), 3 Layout(message) });
