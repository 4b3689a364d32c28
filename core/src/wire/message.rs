//! A message between two nodes over their link, with what its sender says of itself.
//!
//! What asks something about a key says under which layouts (`Message::asked_under`): a replica that does not have them all
//! answers `StaleLayout` and does nothing. Each family of messages is an enum of its own, in a file of its own with
//! its codec. No match on a message has a wildcard arm, so that the compiler names every place that a new one must pass.

use bytes::Bytes;

use crate::env::{Class, Outbound};
use crate::error::{Error, Result};
use crate::id::{Life, Lsn, OpId};
use crate::layout::live::LayoutSet;
use crate::wire::forward::ForwardMessage;
use crate::wire::frame::{Generation, Reader, Wire, Writer, read_of, table};
use crate::wire::key::{Answer, Ask, KeyMessage, Question};
use crate::wire::layout::LayoutMessage;
use crate::wire::repair::RepairMessage;
use crate::wire::swim::Exchange;
use crate::wire::transfer::TransferMessage;

/// The number of the first generation of messages.
const FIRST: u8 = 3;
const PREFIX_BYTES: usize = 5;

/// A message with what its sender says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sender's life: one that does not count is not heard.
    pub life: Life,
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
    /// About a unit that one node takes from another.
    Transfer(TransferMessage),
    /// About the hash trees of units that two nodes compare.
    Repair(RepairMessage),
    /// What failure detectors know.
    Swim(Exchange),
}

impl Message {
    /// Whether a message answers another.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. })
            | Message::Transfer(TransferMessage::Answer { .. })
            | Message::Repair(RepairMessage::Answer { .. }) => Class::Reply,
            Message::Key(KeyMessage::Ask(_))
            | Message::Forward(ForwardMessage::Ask { .. })
            | Message::Transfer(TransferMessage::Ask { .. })
            | Message::Repair(RepairMessage::Ask { .. })
            | Message::Layout(_)
            | Message::Swim(_) => Class::Request,
        }
    }

    /// The layouts that a question about a key or a unit, or a request that is passed on, lives under; `None` of everything else.
    #[must_use]
    pub const fn asked_under(&self) -> Option<&LayoutSet> {
        match self {
            Message::Key(KeyMessage::Ask(Ask { layouts, .. }))
            | Message::Forward(ForwardMessage::Ask { layouts, .. })
            | Message::Transfer(TransferMessage::Ask { layouts, .. })
            | Message::Repair(RepairMessage::Ask { layouts, .. }) => Some(layouts),
            // An answer belongs to an operation of its receiver. Whoever speaks of a layout may have another one.
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. })
            | Message::Transfer(TransferMessage::Answer { .. })
            | Message::Repair(RepairMessage::Answer { .. })
            | Message::Layout(_)
            | Message::Swim(_) => None,
        }
    }

    /// The operation whose request it passes on to its receiver; `None` of everything else.
    #[must_use]
    pub const fn passes_on(&self) -> Option<OpId> {
        match self {
            Message::Forward(ForwardMessage::Ask { op, .. }) => Some(*op),
            Message::Forward(ForwardMessage::Answer { .. })
            | Message::Key(_)
            | Message::Transfer(_)
            | Message::Repair(_)
            | Message::Layout(_)
            | Message::Swim(_) => None,
        }
    }

    /// The layouts that it names: those of a question, or those that a replica has.
    const fn layouts(&self) -> Option<&LayoutSet> {
        match self {
            Message::Key(KeyMessage::Answer { layouts, .. }) => Some(layouts),
            Message::Key(KeyMessage::Ask(_))
            | Message::Forward(_)
            | Message::Layout(_)
            | Message::Transfer(_)
            | Message::Repair(_)
            | Message::Swim(_) => self.asked_under(),
        }
    }

    /// The bytes that it keeps in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let carried = match self {
            Message::Key(message) => message.weight(),
            Message::Forward(message) => message.weight(),
            Message::Transfer(message) => message.weight(),
            Message::Repair(message) => message.weight(),
            Message::Swim(exchange) => exchange.weight(),
            // Shared with whoever holds the layout.
            Message::Layout(_) => 0,
        };
        size_of::<Message>() + carried
    }
}

/// How a node of the first generation is told a message of today.
enum Said {
    AsItIs,
    As(Message),
    Never,
}

impl Message {
    /// Nobody of the first generation takes or gives units or compares them, or compares what failure detectors know, or purges.
    fn in_the_first_generation(&self) -> Said {
        match self {
            Message::Key(KeyMessage::Ask(ask)) => match ask.question {
                Question::Query
                | Question::Read { .. }
                | Question::Merge { .. }
                | Question::Holds { .. } => Said::AsItIs,
                Question::Confirm { .. } | Question::Purge { .. } => Said::Never,
            },
            Message::Forward(_) | Message::Layout(_) => Said::AsItIs,
            Message::Key(KeyMessage::Answer { op, layouts, answer }) => match answer {
                // It knows no such answer: it was not done.
                Answer::NotCounted
                | Answer::Outdated { .. }
                | Answer::Confirmed { .. }
                | Answer::NotConfirmed { .. } => {
                    let (op, layouts, answer) = (*op, layouts.clone(), Answer::Failed);
                    Said::As(Message::Key(KeyMessage::Answer { op, layouts, answer }))
                }
                Answer::Query { .. }
                | Answer::State { .. }
                | Answer::Digest { .. }
                | Answer::MergeAck
                | Answer::Lacks
                | Answer::Failed
                | Answer::StaleLayout => Said::AsItIs,
            },
            Message::Transfer(_) | Message::Repair(_) | Message::Swim(_) => Said::Never,
        }
    }
}

/// A message as bytes, for a node that reads messages of this generation. `None`: it cannot be said in them, and must not be
/// sent.
#[must_use]
pub fn encode(envelope: &Envelope, generation: Generation) -> Option<Outbound> {
    let mut to = Writer::of(generation, &[generation.number(FIRST), 0, 0, 0, 0]);
    match generation {
        Generation::First => match envelope.message.in_the_first_generation() {
            Said::Never => return None,
            Said::AsItIs => envelope.put(&mut to),
            Said::As(message) => Envelope { message, ..*envelope }.put(&mut to),
        },
        Generation::Second => envelope.put(&mut to),
    }
    if !to.is_whole() {
        return None;
    }
    let (mut header, values) = to.finish();
    let length = u32::try_from(header.len() - PREFIX_BYTES).expect("a header is below 4 GiB");
    header[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    let parts = [Bytes::from(header)].into_iter().chain(values).collect();
    Some(Outbound { class: envelope.message.class(), parts })
}

/// The message in `bytes`.
pub fn decode(bytes: &Bytes) -> Result<Envelope> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Error::Malformed("a message is shorter than its prefix"));
    };
    let [version, length @ ..] = *prefix;
    let generation = Generation::of("a message", version, FIRST)?;
    let end = PREFIX_BYTES.saturating_add(u32::from_le_bytes(length) as usize);
    if end > bytes.len() {
        return Err(Error::Malformed("a message is shorter than its header"));
    }
    read_of(generation, bytes.slice(PREFIX_BYTES..end), bytes.slice(end..))
}

impl Wire for Envelope {
    fn put(&self, to: &mut Writer) {
        self.life.put(to);
        if to.generation() == Generation::First {
            self.message.layouts().and_then(LayoutSet::newest).unwrap_or_default().put(to);
        }
        self.durable.put(to);
        self.message.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let life = Wire::take(from)?;
        if from.generation() == Generation::First {
            let layouts = LayoutSet::one(Wire::take(from)?);
            from.set_layouts(layouts);
        }
        let durable = Wire::take(from)?;
        let message = Wire::take(from)?;
        Ok(Envelope { life, durable, message })
    }
}

table!(enum Message {
    1 Key(message), 2 Forward(message), 3 Layout(message), 4 Transfer(message), 5 Swim(message),
    6 Repair(message),
});
