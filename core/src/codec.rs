//! Messages, datagrams, layouts and stored records as bytes, and back.
//!
//! ```text
//! message   version u8 | header length u32 LE | header | values
//! datagram  HMAC-SHA256 over the rest, cut to 16 bytes | version u8 | header
//! record    head: version u8 | header      body: values
//! layout    version u8 | header
//! ```
//! A header is written with bincode 2 (variable-length integers); the fields and their order are the
//! tables below. Values do not pass through bincode: they follow the header one after another, and
//! decoding slices them out of the received bytes without a copy.
//!
//! Invariants: decoding never panics, never allocates more than the input can pay for, and refuses
//! trailing bytes; a header with an unknown version byte is refused by name. This is the only file in which bincode is
//! named, so that another format touches one file.

use std::sync::Arc;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::BorrowReader;
use bincode::de::{BorrowDecode, BorrowDecoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use smallvec::SmallVec;

use crate::config::{MESSAGE_BYTES_MAX, REPLICAS_MAX, RUNS_MAX, SIBLINGS_MAX};
use crate::env::{Address, Outbound, Wall};
use crate::error::{Error, Result};
use crate::id::{
    ActorId, BootEpoch, KeyspaceId, LayoutVersion, Life, Lsn, NodeId, OpId, RequestId, SessionId,
};
use crate::layout::keyspace::{Keyspace, Level, Policy};
use crate::layout::{Layout, LayoutParts, LayoutRef, Quorums, Role};
use crate::message::{
    Action, Counted, Envelope, Gossip, Introduction, KeyRef, Message, Reply, Request, Sibling,
};
use crate::version::context::Context;
use crate::version::dvv::{Dot, Entry, Version, VersionSet, VersionVector};
use crate::version::hlc::Hlc;
use crate::version::outline::Outline;
use crate::version::runs::{Run, Runs};

const VERSION: u8 = 2;
const PREFIX_BYTES: usize = 5;
const MAC_BYTES: usize = 16;

type Format = Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>>;
const FORMAT: Format = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();

/// A message as bytes.
#[must_use]
pub fn encode(envelope: &Envelope) -> Outbound {
    let mut header = vec![VERSION, 0, 0, 0, 0];
    write(envelope, &mut header);
    let length = u32::try_from(header.len() - PREFIX_BYTES).expect("a header is below 4 GiB");
    header[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    let mut parts = SmallVec::new();
    parts.push(Bytes::from(header));
    each_value(&envelope.message, |value| parts.push(value.clone()));
    Outbound { class: envelope.message.class(), parts }
}

/// The message in `bytes`.
pub fn decode(bytes: &Bytes) -> Result<Envelope> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Error::Malformed("a message is shorter than its prefix"));
    };
    let [version, length @ ..] = *prefix;
    check_version("a message", version)?;
    let end = PREFIX_BYTES.saturating_add(u32::from_le_bytes(length) as usize);
    if end > bytes.len() {
        return Err(Error::Malformed("a message is shorter than its header"));
    }
    read(bytes.slice(PREFIX_BYTES..end), bytes.slice(end..))
}

/// A datagram as bytes, with a code that only the cluster's nodes can make.
#[must_use]
pub fn encode_gossip(gossip: &Gossip, secret: &[u8]) -> Bytes {
    let mut bytes = vec![0; MAC_BYTES];
    bytes.push(VERSION);
    write(gossip, &mut bytes);
    let code = keyed(secret, &bytes[MAC_BYTES..]).finalize().into_bytes();
    bytes[..MAC_BYTES].copy_from_slice(&code[..MAC_BYTES]);
    Bytes::from(bytes)
}

/// The datagram in `bytes`, when it was made with `secret`.
pub fn decode_gossip(bytes: &Bytes, secret: &[u8]) -> Result<Gossip> {
    if bytes.len() <= MAC_BYTES {
        return Err(Error::Malformed("a datagram is shorter than its code"));
    }
    let (code, rest) = bytes.split_at(MAC_BYTES);
    if keyed(secret, rest).verify_truncated_left(code).is_err() {
        return Err(Error::Malformed("a datagram was not made with this cluster's secret"));
    }
    decode_foreign_gossip(bytes)
}

/// The datagram in `bytes`, whoever made it: only to tell people of it.
pub fn decode_foreign_gossip(bytes: &Bytes) -> Result<Gossip> {
    let version = *bytes.get(MAC_BYTES).ok_or(Error::Malformed("a datagram ends in its code"))?;
    check_version("a datagram", version)?;
    read(bytes.slice(MAC_BYTES + 1..), Bytes::new())
}

/// A key's state as a record: its head, and its values in the pieces that make up the body.
#[must_use]
pub fn encode_state(state: &VersionSet) -> (Bytes, SmallVec<[Bytes; 2]>) {
    let mut head = vec![VERSION];
    write(state, &mut head);
    let values = state.versions().map(|(_, version)| version.value.clone());
    (Bytes::from(head), values.filter(|value| !value.is_empty()).collect())
}

/// The state in a record.
pub fn decode_state(head: &Bytes, body: &Bytes) -> Result<VersionSet> {
    check_version("a record", *head.first().ok_or(Error::Malformed("a record has no head"))?)?;
    read(head.slice(1..), body.clone())
}

/// A layout as bytes. Equal layouts have equal bytes.
#[must_use]
pub fn encode_layout(layout: &Layout) -> Bytes {
    let mut bytes = vec![VERSION];
    write(layout, &mut bytes);
    Bytes::from(bytes)
}

/// The layout in `bytes`, when it keeps the invariants of layouts.
pub fn decode_layout(bytes: &Bytes) -> Result<Layout> {
    check_version("a layout", *bytes.first().ok_or(Error::Malformed("a layout is empty"))?)?;
    read(bytes.slice(1..), Bytes::new())
}

fn check_version(what: &'static str, found: u8) -> Result<()> {
    if found == VERSION { Ok(()) } else { Err(Error::UnknownVersion { what, found }) }
}

fn keyed(secret: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.chain_update(bytes)
}

fn write<T: Wire>(thing: &T, bytes: &mut Vec<u8>) {
    bincode::encode_into_std_write(Whole(thing), bytes, FORMAT)
        .expect("a vector takes all bytes, and every length fits");
}

fn read<T: Wire>(header: Bytes, values: Bytes) -> Result<T> {
    let source = Source { header: header.clone(), values };
    let (Read(thing, left), used) =
        bincode::borrow_decode_from_slice_with_context(&header, FORMAT, source)
            .map_err(|_| Error::Malformed("a header does not have the form it should have"))?;
    if used != header.len() || left != 0 {
        return Err(Error::Malformed("there are bytes after the end"));
    }
    Ok(thing)
}

/// Calls `visit` with every value of a message that follows the header, in the order of the header.
fn each_value(message: &Message, mut visit: impl FnMut(&Bytes)) {
    let mut visit = |value: &Bytes| {
        if !value.is_empty() {
            visit(value);
        }
    };
    match message {
        Message::ReadReply { state, .. } | Message::Merge { state, .. } => {
            state.versions().for_each(|(_, version)| visit(&version.value));
        }
        Message::Forward { request, .. } => {
            if let Action::Put { value, .. } = &request.action {
                visit(value);
            }
        }
        Message::ForwardReply { reply, .. } | Message::ForwardRefused { reply, .. } => {
            if let Reply::Found { siblings, .. } | Reply::NotFound { siblings, .. } = reply {
                siblings.iter().for_each(|sibling| visit(&sibling.value));
            }
        }
        _ => {}
    }
}

/// What decoding slices from: the header itself, and the values that have not been taken yet.
struct Source {
    header: Bytes,
    values: Bytes,
}

struct Whole<'a, T>(&'a T);

impl<T: Wire> Encode for Whole<'_, T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.put(encoder)
    }
}

/// A thing, and how many bytes of values were left.
struct Read<T>(T, usize);

impl<'de, T: Wire> BorrowDecode<'de, Source> for Read<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let thing = T::take(decoder)?;
        Ok(Read(thing, decoder.context().values.len()))
    }
}

/// How one type is written and read. Our own trait, so that types of other crates can have it.
trait Wire: Sized {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError>;
    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError>;
}

/// A value that follows the header; the header has its length only.
struct Value(Bytes);

macro_rules! plain {
    ($($name:ty),* $(,)?) => {$(
        impl Wire for $name {
            fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.encode(encoder)
            }

            fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                BorrowDecode::borrow_decode(decoder)
            }
        }
    )*};
}

macro_rules! table {
    (number $($name:ident),*) => {$(
        impl Wire for $name {
            fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.encode(encoder)
            }

            fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok($name(Wire::take(decoder)?))
            }
        }
    )*};
    (struct $name:ident { $($field:ident),* }) => {
        impl Wire for $name {
            fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $(self.$field.put(encoder)?;)*
                Ok(())
            }

            fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                $(let $field = Wire::take(decoder)?;)*
                Ok($name { $($field),* })
            }
        }
    };
    (enum $name:ident { $($tag:literal $variant:ident $({ $($field:ident),* })?),* $(,)? }) => {
        impl Wire for $name {
            fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                match self {
                    $($name::$variant $({ $($field),* })? => {
                        ($tag as u8).encode(encoder)?;
                        $($($field.put(encoder)?;)*)?
                        Ok(())
                    })*
                }
            }

            fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                match u8::take(decoder)? {
                    $($tag => {
                        $($(let $field = Wire::take(decoder)?;)*)?
                        Ok($name::$variant $({ $($field),* })?)
                    })*
                    _ => Err(DecodeError::Other("unknown tag")),
                }
            }
        }
    };
}

plain!(bool, u8, u16, u32, u64, u128, String, Arc<str>);
table!(number ActorId, BootEpoch, KeyspaceId, LayoutVersion, Lsn, NodeId, RequestId, SessionId, Hlc, Wall, Address);
table!(struct Life { boot, session });
table!(struct OpId { life, seq });
table!(struct KeyRef { keyspace, key });
table!(struct LayoutRef { version, digest });
table!(struct Quorums { n, r, w });
table!(struct Role { node, name, weight, zone });
table!(struct Keyspace { id, name, policy, level });
table!(struct LayoutParts { version, partitions, wanted, quorums, roles, keyspaces, owners });
table!(struct Dot { actor, n });
table!(struct Outline { known, held });
table!(struct Run { from, to });
table!(struct Context { clock, highest });
table!(struct Envelope { life, layout, durable, message });
table!(struct Gossip {
    cluster, me, wall, layout, live, hears, leaves, denied, earlier, began, durable, lives, others
});
table!(struct Counted { node, life, durable });
table!(struct Introduction {
    node, life, name, peer_address, client_address, expect, weight, zone
});
table!(struct Request { id, named, attempt, source, keyspace, key, level, deadline_ms, action });
table!(enum Level { 1 One, 2 Quorum, 3 All });
table!(enum Policy { 1 Newest, 2 Siblings });
table!(enum Message {
    1 Query { op, key },
    2 QueryReply { op, clock, highest },
    3 Read { op, key, digest_only },
    4 ReadReply { op, state },
    5 DigestReply { op, digest },
    6 Merge { op, key, state },
    7 MergeAck { op },
    8 Failed { op },
    9 StaleLayout { op },
    10 Forward { op, request },
    11 ForwardReply { op, reply },
    12 LayoutOffer { layout },
    13 LayoutRequest,
    14 ForwardRefused { op, reply },
    15 Holds { op, key, outline },
    16 Lacks { op },
});
table!(enum Reply {
    1 Stored { context, version },
    2 Found { siblings, context },
    3 NotFound { siblings, context },
    4 Indeterminate { acks, needed },
    5 Unavailable { reason, passes },
    6 Overloaded { reason, passes },
    7 BadRequest { reason },
});

impl Wire for Action {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Action::Put { value, content_type, context } => {
                1u8.put(encoder)?;
                value.len().encode(encoder)?;
                content_type.put(encoder)?;
                context.put(encoder)
            }
            Action::Delete { context } => {
                2u8.put(encoder)?;
                context.put(encoder)
            }
            Action::Get => 3u8.put(encoder),
        }
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        match u8::take(decoder)? {
            1 => {
                let Value(value) = Value::take(decoder)?;
                let content_type = Wire::take(decoder)?;
                Ok(Action::Put { value, content_type, context: Wire::take(decoder)? })
            }
            2 => Ok(Action::Delete { context: Wire::take(decoder)? }),
            3 => Ok(Action::Get),
            _ => Err(DecodeError::Other("unknown tag")),
        }
    }
}

impl Wire for Sibling {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.version.put(encoder)?;
        self.digest.put(encoder)?;
        self.content_type.put(encoder)?;
        self.value.len().encode(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let version = Wire::take(decoder)?;
        let digest = Wire::take(decoder)?;
        let content_type = Wire::take(decoder)?;
        let Value(value) = Value::take(decoder)?;
        Ok(Sibling { version, digest, content_type, value })
    }
}

impl Wire for Version {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.hlc.put(encoder)?;
        self.request.put(encoder)?;
        self.tombstone.put(encoder)?;
        self.content_type.put(encoder)?;
        self.digest.put(encoder)?;
        self.value.len().encode(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let hlc = Wire::take(decoder)?;
        let request = Wire::take(decoder)?;
        let tombstone = Wire::take(decoder)?;
        let content_type = Wire::take(decoder)?;
        let digest = Wire::take(decoder)?;
        let Value(value) = Value::take(decoder)?;
        Ok(Version { hlc, request, tombstone, content_type, value, digest })
    }
}

impl Wire for Entry {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.actor.put(encoder)?;
        self.known.put(encoder)?;
        put_all(&self.versions, encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let actor = Wire::take(decoder)?;
        let known = Wire::take(decoder)?;
        // All coordinators may each have reached their bound.
        let versions = take_all(decoder, SIBLINGS_MAX * REPLICAS_MAX)?;
        Ok(Entry { actor, known, versions })
    }
}

impl Wire for VersionSet {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        put_all(self.entries(), encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        VersionSet::from_entries(take_all(decoder, RUNS_MAX)?)
            .ok_or(DecodeError::Other("not a version set"))
    }
}

impl Wire for VersionVector {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        put_all(self.entries(), encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let entries: SmallVec<[(ActorId, Runs); 4]> = take_all(decoder, RUNS_MAX)?;
        VersionVector::from_entries(entries.into_vec()).ok_or(DecodeError::Other("not a clock"))
    }
}

impl Wire for Runs {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        put_all(self.list(), encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Runs::from_list(take_all(decoder, RUNS_MAX)?).ok_or(DecodeError::Other("not runs"))
    }
}

impl Wire for Layout {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.to_parts().put(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Layout::from_parts(Wire::take(decoder)?).ok_or(DecodeError::Other("not a sound layout"))
    }
}

impl Value {
    /// Reads a length from the header and takes that many bytes of the values.
    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Value, DecodeError> {
        let length: usize = BorrowDecode::borrow_decode(decoder)?;
        let values = &mut decoder.context().values;
        if length > values.len() {
            return Err(DecodeError::Other("a value is longer than what is left"));
        }
        Ok(Value(values.split_to(length)))
    }
}

/// Short bytes such as keys stand in the header itself.
impl Wire for Bytes {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self[..].encode(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let length: usize = BorrowDecode::borrow_decode(decoder)?;
        decoder.claim_bytes_read(length)?;
        let bytes = decoder.borrow_reader().take_bytes(length)?;
        Ok(decoder.context().header.slice_ref(bytes))
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (**self).put(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Ok(Arc::new(T::take(decoder)?))
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.put(encoder)?;
        self.1.put(encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Ok((A::take(decoder)?, B::take(decoder)?))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.is_some().put(encoder)?;
        self.as_ref().map_or(Ok(()), |thing| thing.put(encoder))
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Ok(if bool::take(decoder)? { Some(T::take(decoder)?) } else { None })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        put_all(self, encoder)
    }

    fn take<'de, D: BorrowDecoder<'de, Context = Source>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let things: SmallVec<[T; 1]> = take_all(decoder, LIST_MAX)?;
        Ok(things.into_vec())
    }
}

/// The longest list of anything but versions and actors: the owners of a layout.
const LIST_MAX: usize = 4096 * 8;

fn put_all<T: Wire, E: Encoder>(things: &[T], encoder: &mut E) -> Result<(), EncodeError> {
    things.len().encode(encoder)?;
    things.iter().try_for_each(|thing| thing.put(encoder))
}

/// Reads a list that grows only as fast as the input pays for it.
fn take_all<'de, A, D>(decoder: &mut D, max: usize) -> Result<SmallVec<A>, DecodeError>
where
    A: smallvec::Array,
    A::Item: Wire,
    D: BorrowDecoder<'de, Context = Source>,
{
    let length: usize = BorrowDecode::borrow_decode(decoder)?;
    if length > max {
        return Err(DecodeError::Other("a list is too long"));
    }
    let mut things = SmallVec::new();
    for _ in 0..length {
        things.push(A::Item::take(decoder)?);
    }
    Ok(things)
}
