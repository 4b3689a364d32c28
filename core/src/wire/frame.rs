//! How the parts of a message are written and read: headers, and the values that follow them.
//!
//! A header is a sequence of fields in bincode 2 (integers of variable length). Which fields, and in which order, say
//! the tables (`table!`) beside the types. A value does not pass through bincode: the header has its length, and the
//! values follow the header one after another. Reading slices them out of the received bytes without a copy.
//!
//! Invariants: reading never panics, never allocates more than the input can pay for, and refuses what is left over; a
//! header with an unknown version is refused by name. This is the only file that names bincode, so that another format
//! touches one file.

use std::sync::Arc;

use bincode::config::{Configuration, LittleEndian, NoLimit, Varint};
use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{BODY_BYTES_MAX, PARTITIONS_MAX, REPLICAS_MAX};
use crate::env::{Address, PROTOCOL_NEWEST, PROTOCOL_OLDEST, Wall};
use crate::error::{Error, Result};
use crate::id::{
    ActorId, BootEpoch, GroupId, KeyspaceId, LayoutVersion, Life, Lsn, NodeId, OpId, PartitionId,
    RequestId, SessionId, Unit,
};
use crate::layout::live::LayoutSet;
use crate::version::hlc::Hlc;

type Format = Configuration<LittleEndian, Varint, NoLimit>;
// No limit: only numbers are written so, and no number is longer than 17 bytes.
const _: () = assert!(PROTOCOL_NEWEST == PROTOCOL_OLDEST + 1, "a generation for each protocol");
const FORMAT: Format = bincode::config::standard();

/// Numbers up to this one are a byte each in `FORMAT`. Numbers are most of a header, so all are read and the small ones written here and
/// not by bincode, which takes three times as long; the tests hold the two together.
const SMALL_MAX: u8 = 250;
const NO_NUMBER: Error = Error::Malformed("a header ends early, or a number is none");

/// The longest list of anything but versions and actors: the owners of a layout.
const LIST_MAX: usize = PARTITIONS_MAX as usize * REPLICAS_MAX;
/// A list has room for so many things before the first has been read, when it says that it has as many.
const LIST_BEGINS_MAX: usize = 16;

/// The values that follow a header, in its order.
pub type Values = SmallVec<[Bytes; 2]>;

/// Which fields there are. Messages, records and layouts each begin with a number of their own for it. The next one is written
/// only to a node that reads it, and to the disk; all are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Generation {
    /// A message is asked under one layout, which its envelope names; a version has neither expiry nor step.
    First,
    /// The fields of today.
    Second,
}

impl Generation {
    /// What is written where nobody has to read anything older.
    pub const NEWEST: Generation = Generation::Second;

    /// What a node reads that speaks this protocol.
    #[must_use]
    pub const fn of_protocol(protocol: u8) -> Generation {
        if protocol <= PROTOCOL_OLDEST { Generation::First } else { Generation::Second }
    }

    /// What a number stands for at the head of `what`, when it is one of these two.
    pub(super) fn of(what: &'static str, found: u8, first: u8) -> Result<Generation> {
        match found.checked_sub(first) {
            Some(0) => Ok(Generation::First),
            Some(1) => Ok(Generation::Second),
            _ => Err(Error::UnknownVersion { what, found }),
        }
    }

    /// The number at the head of what is written in this generation.
    pub(super) const fn number(self, first: u8) -> u8 {
        match self {
            Generation::First => first,
            Generation::Second => first + 1,
        }
    }
}

/// How one type is written and read.
pub(super) trait Wire: Sized {
    /// Writes it.
    fn put(&self, to: &mut Writer);
    /// Reads it. `Err(Malformed)`: the bytes are not what `put` makes.
    fn take(from: &mut Reader) -> Result<Self>;
}

/// A header that is being written, and the values that will follow it.
pub(super) struct Writer {
    generation: Generation,
    header: Vec<u8>,
    values: Values,
    /// Something has no place in this generation: what is written must not be sent.
    lost: bool,
}

impl Writer {
    /// A header that goes on after these bytes.
    pub(super) fn after(prefix: &[u8]) -> Writer {
        Writer::of(Generation::NEWEST, prefix)
    }

    /// A header of some generation that goes on after these bytes.
    pub(super) fn of(generation: Generation, prefix: &[u8]) -> Writer {
        let mut header = Vec::with_capacity(128);
        header.extend_from_slice(prefix);
        Writer { generation, header, values: Values::new(), lost: false }
    }

    /// Which fields are written.
    pub(super) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Something that has no place in an older generation; whether it can be left out there.
    pub(super) const fn leave_out(&mut self, is_empty: bool) {
        self.lost |= !is_empty;
    }

    /// Whether everything had its place.
    pub(super) const fn is_whole(&self) -> bool {
        !self.lost
    }

    /// The header with its prefix, and the values.
    pub(super) fn finish(self) -> (Vec<u8>, Values) {
        (self.header, self.values)
    }

    #[inline]
    fn number<T: bincode::Encode + Copy>(&mut self, number: T)
    where
        u8: TryFrom<T>,
    {
        if let Ok(small @ ..=SMALL_MAX) = u8::try_from(number) {
            return self.byte(small);
        }
        bincode::encode_into_std_write(number, &mut self.header, FORMAT)
            .expect("a vector takes all bytes");
    }

    fn byte(&mut self, byte: u8) {
        self.header.push(byte);
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn text(&mut self, text: &[u8]) {
        self.length(text.len());
        self.header.extend_from_slice(text);
    }

    /// A value, which follows the header; the header has its length only.
    pub(super) fn value(&mut self, value: &Bytes) {
        self.length(value.len());
        if !value.is_empty() {
            self.values.push(value.clone());
        }
    }
}

/// What is left of a header that is being read, and of the values that follow it.
pub(super) struct Reader {
    generation: Generation,
    header: Bytes,
    /// How far the header has been read.
    at: usize,
    values: Bytes,
    /// The layouts that the envelope names for all that is in it, in the first generation.
    layouts: LayoutSet,
    /// The values are elsewhere, each is read as an empty one, and so many bytes they have so far.
    elsewhere: Option<u64>,
}

impl Reader {
    /// Which fields there are.
    pub(super) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Notes the layouts that an envelope of the first generation names.
    pub(super) fn set_layouts(&mut self, layouts: LayoutSet) {
        self.layouts = layouts;
    }

    /// The layouts of the envelope.
    pub(super) fn layouts(&self) -> LayoutSet {
        self.layouts.clone()
    }

    /// A number, as `FORMAT` writes it: a small one is a byte, and what is longer follows a byte that says how long it is.
    #[inline]
    fn number<T: TryFrom<u128>>(&mut self) -> Result<T> {
        let length = const { size_of::<T>() };
        let number = match self.byte()? {
            small @ ..=SMALL_MAX => u128::from(small),
            251 if length >= 2 => u128::from(u16::from_le_bytes(self.array()?)),
            252 if length >= 4 => u128::from(u32::from_le_bytes(self.array()?)),
            253 if length >= 8 => u128::from(u64::from_le_bytes(self.array()?)),
            254 if length >= 16 => u128::from_le_bytes(self.array()?),
            251..=255 => return Err(NO_NUMBER),
        };
        T::try_from(number).map_err(|_| NO_NUMBER)
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.header.get(self.at).ok_or(NO_NUMBER)?;
        self.at += 1;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = *self.left().first_chunk().ok_or(NO_NUMBER)?;
        self.at += N;
        Ok(bytes)
    }

    /// What has not been read of the header.
    fn left(&self) -> &[u8] {
        &self.header[self.at..]
    }

    /// A length that was written, at most `max`.
    fn length(&mut self, max: usize) -> Result<usize> {
        let length = usize::try_from(self.number::<u64>()?).unwrap_or(usize::MAX);
        if length > max {
            return Err(Error::Malformed(
                "something is longer than it may be, or than what is left",
            ));
        }
        Ok(length)
    }

    fn text(&mut self) -> Result<Bytes> {
        let length = self.text_length()?;
        let text = self.header.slice(self.at..self.at + length);
        self.at += length;
        Ok(text)
    }

    /// A text for people, which is copied at once: it is short, and a share in the message would keep all of that.
    fn string(&mut self) -> Result<String> {
        let length = self.text_length()?;
        let text = std::str::from_utf8(&self.left()[..length])
            .map_err(|_| Error::Malformed("a text is not UTF-8"))?
            .to_owned();
        self.at += length;
        Ok(text)
    }

    fn text_length(&mut self) -> Result<usize> {
        let length = self.length(usize::MAX)?;
        if length > self.left().len() {
            return Err(Error::Malformed("a text is longer than what is left of its header"));
        }
        Ok(length)
    }

    fn has_ended(&self) -> Result<()> {
        if self.left().is_empty() && self.values.is_empty() {
            return Ok(());
        }
        Err(Error::Malformed("there are bytes after the end"))
    }

    /// The next value behind the header.
    pub(super) fn value(&mut self) -> Result<Bytes> {
        if let Some(before) = self.elsewhere {
            self.elsewhere = Some(before + self.length(BODY_BYTES_MAX)? as u64);
            return Ok(Bytes::new());
        }
        let length = self.length(self.values.len())?;
        Ok(self.values.split_to(length))
    }
}

/// Reads one thing that makes up the whole header, and all values.
pub(super) fn read<T: Wire>(header: Bytes, values: Bytes) -> Result<T> {
    read_of(Generation::NEWEST, header, values)
}

/// As `read`, of what was written in some generation.
pub(super) fn read_of<T: Wire>(generation: Generation, header: Bytes, values: Bytes) -> Result<T> {
    let layouts = LayoutSet::default();
    let mut from = Reader { generation, header, at: 0, values, layouts, elsewhere: None };
    let thing = T::take(&mut from)?;
    from.has_ended()?;
    Ok(thing)
}

/// As `read_of`, of a header whose values are not at hand: each is read as an empty one. Also how many bytes they have.
pub(super) fn read_header<T: Wire>(generation: Generation, header: Bytes) -> Result<(T, u64)> {
    let (values, layouts) = (Bytes::new(), LayoutSet::default());
    let mut from = Reader { generation, header, at: 0, values, layouts, elsewhere: Some(0) };
    let thing = T::take(&mut from)?;
    from.has_ended()?;
    Ok((thing, from.elsewhere.unwrap_or_default()))
}

/// Refuses bytes of another version by name.
pub(super) const fn check_version(what: &'static str, found: u8, known: u8) -> Result<()> {
    if found == known { Ok(()) } else { Err(Error::UnknownVersion { what, found }) }
}

/// Writes a list, with its length first.
pub(super) fn put_all<T: Wire>(things: &[T], to: &mut Writer) {
    to.length(things.len());
    things.iter().for_each(|thing| thing.put(to));
}

/// A list that is being read.
pub(super) trait List {
    /// What it is a list of.
    type Thing: Wire;
    /// An empty one, with room for so many things.
    fn of(room: usize) -> Self;
    /// Adds the next one.
    fn add(&mut self, thing: Self::Thing);
}

impl<T: Wire> List for Vec<T> {
    type Thing = T;

    fn of(room: usize) -> Self {
        Vec::with_capacity(room)
    }

    fn add(&mut self, thing: T) {
        self.push(thing);
    }
}

impl<T: Wire> List for SmallVec<[T; 1]> {
    type Thing = T;

    fn of(room: usize) -> Self {
        SmallVec::with_capacity(room)
    }

    fn add(&mut self, thing: T) {
        self.push(thing);
    }
}

/// Reads a list of at most `max` things, which grows only as fast as the input pays for it.
pub(super) fn take_all<L: List>(from: &mut Reader, max: usize) -> Result<L> {
    let length = from.length(max)?;
    let mut list = L::of(length.min(LIST_BEGINS_MAX));
    for _ in 0..length {
        list.add(Wire::take(from)?);
    }
    Ok(list)
}

macro_rules! plain {
    ($($name:ty),* $(,)?) => {$(
        impl Wire for $name {
            fn put(&self, to: &mut Writer) {
                to.number(*self);
            }

            fn take(from: &mut Reader) -> Result<Self> {
                from.number()
            }
        }
    )*};
}

/// The fields of a type in the order of its bytes: of a number in a newtype, a struct, or an enum with its tags.
macro_rules! table {
    (number $($name:ident),*) => {$(
        impl $crate::wire::frame::Wire for $name {
            fn put(&self, to: &mut $crate::wire::frame::Writer) {
                $crate::wire::frame::Wire::put(&self.0, to);
            }

            fn take(from: &mut $crate::wire::frame::Reader) -> $crate::error::Result<Self> {
                Ok($name($crate::wire::frame::Wire::take(from)?))
            }
        }
    )*};
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::frame::Wire for $name {
            fn put(&self, to: &mut $crate::wire::frame::Writer) {
                $($crate::wire::frame::Wire::put(&self.$field, to);)*
            }

            fn take(from: &mut $crate::wire::frame::Reader) -> $crate::error::Result<Self> {
                $(let $field = $crate::wire::frame::Wire::take(from)?;)*
                Ok($name { $($field),* })
            }
        }
    };
    (enum $name:ident {
        $($tag:literal $variant:ident $(($one:ident))? $({ $($field:ident),* })?),* $(,)?
    }) => {
        impl $crate::wire::frame::Wire for $name {
            fn put(&self, to: &mut $crate::wire::frame::Writer) {
                match self {
                    $($name::$variant $(($one))? $({ $($field),* })? => {
                        $crate::wire::frame::Wire::put(&($tag as u8), to);
                        $($crate::wire::frame::Wire::put($one, to);)?
                        $($($crate::wire::frame::Wire::put($field, to);)*)?
                    })*
                }
            }

            fn take(from: &mut $crate::wire::frame::Reader) -> $crate::error::Result<Self> {
                match <u8 as $crate::wire::frame::Wire>::take(from)? {
                    $($tag => {
                        $(let $one = $crate::wire::frame::Wire::take(from)?;)?
                        $($(let $field = $crate::wire::frame::Wire::take(from)?;)*)?
                        Ok($name::$variant $(($one))? $({ $($field),* })?)
                    })*
                    _ => Err($crate::error::Error::Malformed(concat!(
                        "an unknown kind of ",
                        stringify!($name)
                    ))),
                }
            }
        }
    };
}

pub(super) use table;

plain!(u16, u32, u64, u128);
table!(number ActorId, BootEpoch, GroupId, KeyspaceId, LayoutVersion, Lsn, NodeId, PartitionId, RequestId, SessionId);
table!(number Hlc, Wall, Address);
table!(struct Life { boot, session });
table!(struct OpId { life, seq });
table!(struct Unit { group, partition });

impl Wire for u8 {
    fn put(&self, to: &mut Writer) {
        to.byte(*self);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        from.byte()
    }
}

impl Wire for bool {
    fn put(&self, to: &mut Writer) {
        to.byte(u8::from(*self));
    }

    fn take(from: &mut Reader) -> Result<Self> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Malformed("something is neither true nor false")),
        }
    }
}

/// Short bytes such as keys stand in the header itself.
impl Wire for Bytes {
    fn put(&self, to: &mut Writer) {
        to.text(self);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        from.text()
    }
}

impl Wire for String {
    fn put(&self, to: &mut Writer) {
        to.text(self.as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self> {
        from.string()
    }
}

impl Wire for Arc<str> {
    fn put(&self, to: &mut Writer) {
        to.text(self.as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self> {
        String::take(from).map(Arc::from)
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, to: &mut Writer) {
        (**self).put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        T::take(from).map(Arc::new)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, to: &mut Writer) {
        self.0.put(to);
        self.1.put(to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, to: &mut Writer) {
        self.is_some().put(to);
        self.iter().for_each(|thing| thing.put(to));
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Ok(if bool::take(from)? { Some(T::take(from)?) } else { None })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, to: &mut Writer) {
        put_all(self, to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        take_all(from, LIST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T: Wire>(thing: &T) -> (Bytes, Bytes) {
        let mut to = Writer::after(&[]);
        thing.put(&mut to);
        let (header, values) = to.finish();
        (Bytes::from(header), Bytes::from(values.concat()))
    }

    #[test]
    fn numbers_texts_and_lists_have_these_bytes() {
        let bytes = |header: &[u8]| (Bytes::copy_from_slice(header), Bytes::new());
        assert_eq!(written(&250u64), bytes(&[250]));
        assert_eq!(written(&251u64), bytes(&[251, 251, 0]), "a mark, then two bytes");
        assert_eq!(written(&0x01_0000u64), bytes(&[252, 0, 0, 1, 0]));
        assert_eq!(written(&"ab".to_owned()), bytes(&[2, b'a', b'b']));
        assert_eq!(written(&vec![Some(true), None]), bytes(&[2, 1, 1, 0]));
    }

    /// What a reader of a number makes of these bytes, and what bincode does: the number, and how many bytes are left.
    fn both<T: bincode::Decode<()> + TryFrom<u128>>(bytes: &[u8]) -> [Option<(T, usize)>; 2] {
        let (header, values) = (Bytes::copy_from_slice(bytes), Bytes::new());
        let (generation, layouts) = (Generation::NEWEST, LayoutSet::default());
        let mut from = Reader { generation, header, at: 0, values, layouts, elsewhere: None };
        let ours = from.number().ok().map(|number| (number, from.left().len()));
        let theirs = bincode::decode_from_slice(bytes, FORMAT).ok();
        [ours, theirs.map(|(number, used)| (number, bytes.len() - used))]
    }

    #[test]
    fn numbers_are_read_as_bincode_reads_them() {
        let mut bytes = [0; 18];
        for first in 0..=255 {
            for (at, byte) in (1..).zip(&mut bytes[1..]) {
                *byte = first ^ at;
            }
            bytes[0] = first;
            for length in 0..=bytes.len() {
                let bytes = &bytes[..length];
                let [ours, theirs] = both::<u16>(bytes);
                assert_eq!(ours, theirs, "{bytes:?}");
                let [ours, theirs] = both::<u32>(bytes);
                assert_eq!(ours, theirs, "{bytes:?}");
                let [ours, theirs] = both::<u64>(bytes);
                assert_eq!(ours, theirs, "{bytes:?}");
                let [ours, theirs] = both::<u128>(bytes);
                assert_eq!(ours, theirs, "{bytes:?}");
            }
        }
        assert!(read::<bool>(Bytes::from_static(&[2]), Bytes::new()).is_err(), "neither");
    }

    #[test]
    fn numbers_are_written_as_bincode_writes_them() {
        let theirs = |number: u128| bincode::encode_to_vec(number, FORMAT).expect("a vector");
        let powers = (0..128).map(|bits| 1 << bits);
        for number in powers.flat_map(|power: u128| [power - 1, power, power + 1]).chain(0..600) {
            let (header, _) = written(&number);
            assert_eq!(header[..], theirs(number)[..], "{number}");
            let (header, _) = written(&(number as u64));
            assert_eq!(header[..], theirs(number as u64 as u128)[..], "{number}");
        }
        for byte in 0..=255u8 {
            let theirs = bincode::encode_to_vec(byte, FORMAT).expect("a vector");
            assert_eq!(written(&byte).0[..], theirs[..]);
        }
    }

    #[test]
    fn a_length_beyond_what_is_left_is_refused_before_anything_is_allocated() {
        let huge = Bytes::from_static(&[253, 255, 255, 255, 255, 255, 255, 255, 127]);
        assert!(read::<Bytes>(huge.clone(), Bytes::new()).is_err());
        assert!(read::<String>(huge.clone(), Bytes::new()).is_err());
        assert!(read::<Vec<u8>>(huge, Bytes::new()).is_err());
        assert!(read::<Vec<u64>>(Bytes::from_static(&[200, 1]), Bytes::new()).is_err());
        assert!(read::<u8>(Bytes::from_static(&[1, 2]), Bytes::new()).is_err(), "left over");
        assert!(read::<u8>(Bytes::from_static(&[1]), Bytes::from_static(b"v")).is_err());
    }
}
