//! Frames: how messages are cut out of a stream of bytes. The same for every kind of link.
//!
//! ```text
//! 0   length   4   little endian: bytes from `kind` to the end of the payload
//! 4   crc32    4   little endian, IEEE: over the length, the kind, the version and the payload
//! 8   kind     1   one of `Kind`
//! 9   version  1   of the payload: the version both sides agreed on, 1 before they have
//! 10  check    2   the low half of the crc32 over the length, the kind and the version
//! 12  payload  ..
//! ```
//!
//! The length is checked against the decoder's limit before anything is buffered for it, and the limit
//! is small until the peer has proved who it is. Nor is a payload waited for before `check` has been looked at: a
//! length with a flipped bit would swallow megabytes, and a link that says little else than that it lives would
//! be deaf for days and never silent. An error is final: after it nothing in the stream can
//! be trusted, and the link ends. The checksums guard against broken machines, not against enemies.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What precedes the payload, in bytes.
pub const HEADER_BYTES: usize = 12;
/// What the length counts besides the payload: kind, version and check.
const COUNTED_BYTES: usize = 4;
/// The length and the checksum, which the length does not count.
const UNCOUNTED_BYTES: usize = HEADER_BYTES - COUNTED_BYTES;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Who speaks, and what it speaks: the first frame in both directions.
    Hello = 1,
    /// The dialler's proof of the cluster secret.
    Proof = 2,
    /// The acceptor's proof; the link is open.
    Ready = 3,
    /// A message that may be dropped (`Class::Request`).
    Request = 4,
    /// A message that may not (`Class::Reply`).
    Reply = 5,
    /// Nothing to say, but alive.
    Heartbeat = 6,
    /// The end of the link, with a `Refusal`.
    Goodbye = 7,
}

/// One frame. The payload shares the memory it was read into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// The version of the payload.
    pub version: u8,
    /// The payload.
    pub payload: Bytes,
}

/// Why a stream cannot be understood any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length is too small for what precedes a payload.
    TooShort(u32),
    /// The length is above the limit.
    TooLong {
        /// The payload's length.
        payload: usize,
        /// The longest payload allowed.
        limit: usize,
    },
    /// The other side speaks something else that is well known.
    Foreign(&'static str),
    /// A checksum is wrong.
    Checksum,
    /// No such kind.
    Kind(u8),
}

/// The first bytes of a frame whose payload is `parts`, one after another.
///
/// # Panics
/// When the payload is 4 GiB or longer: callers bound it far below.
#[must_use]
pub fn header(kind: Kind, version: u8, parts: &[Bytes]) -> [u8; HEADER_BYTES] {
    let payload: usize = parts.iter().map(Bytes::len).sum();
    let length = u32::try_from(payload + COUNTED_BYTES).expect("callers bound the payload");
    let length = length.to_le_bytes();
    let (mut crc, check) = begin(length, kind as u8, version);
    for part in parts {
        crc.update(part);
    }
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&length);
    out[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    out[8] = kind as u8;
    out[9] = version;
    out[10..].copy_from_slice(&check);
    out
}

/// The checksum of a frame before its payload, and the check of what it covers so far.
fn begin(length: [u8; 4], kind: u8, version: u8) -> (crc32fast::Hasher, [u8; 2]) {
    let [a, b, c, d] = length;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[a, b, c, d, kind, version]);
    let [low, high, ..] = crc.clone().finalize().to_le_bytes();
    (crc, [low, high])
}

/// A whole frame in one piece; for the small ones.
#[must_use]
pub fn encode(kind: Kind, version: u8, payload: Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    let payload = [payload];
    out.put_slice(&header(kind, version, &payload));
    out.put_slice(&payload[0]);
    out.freeze()
}

/// Cuts frames out of bytes that come in any pieces.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    payload_max: usize,
    broken: Option<FrameError>,
}

impl Decoder {
    /// A decoder that takes payloads up to `payload_max` bytes.
    #[must_use]
    pub fn new(payload_max: usize) -> Decoder {
        Decoder { buffer: BytesMut::new(), payload_max, broken: None }
    }

    /// Allows payloads up to `payload_max` bytes from now on.
    pub fn set_payload_max(&mut self, payload_max: usize) {
        self.payload_max = payload_max;
    }

    /// Takes bytes. The decoder holds what has no frame yet, so ask for frames between two calls.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a reader appends bytes itself, with room for at least `room` more.
    pub fn buffer(&mut self, room: usize) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < room {
            // A little more than asked for, so that the next call does not move bytes again; all of a long frame at once,
            // for a buffer that grows step by step ends up twice as large.
            let rest = self.awaited().map_or(0, |bytes| bytes.saturating_sub(self.buffer.len()));
            self.buffer.reserve(rest.max(room * 4));
        }
        &mut self.buffer
    }

    /// Bytes held that are no frame yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The length of the frame that has begun, in bytes; `None` before its length is known. Above the limit it is
    /// no length: `next_frame` answers the error.
    #[must_use]
    pub fn awaited(&self) -> Option<usize> {
        let length = u32::from_le_bytes(*self.buffer.first_chunk()?) as usize;
        let longest = self.payload_max + HEADER_BYTES;
        length.checked_add(UNCOUNTED_BYTES).filter(|&bytes| bytes <= longest)
    }

    /// The next frame, `None` when more bytes are needed. After an error, always that error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.cut().inspect_err(|error| self.broken = Some(*error))
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&first) = self.buffer.first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(first);
        let counted = length as usize;
        if counted < COUNTED_BYTES {
            return Err(FrameError::TooShort(length));
        }
        if counted - COUNTED_BYTES > self.payload_max {
            if let Some(language) = foreign(first) {
                return Err(FrameError::Foreign(language));
            }
            let payload = counted - COUNTED_BYTES;
            return Err(FrameError::TooLong { payload, limit: self.payload_max });
        }
        let Some(&[.., kind, version, low, high]) = self.buffer.first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let (mut crc, check) = begin(first, kind, version);
        if check != [low, high] {
            return Err(FrameError::Checksum);
        }
        if self.buffer.len() < UNCOUNTED_BYTES + counted {
            return Ok(None);
        }
        let frame = &self.buffer[..UNCOUNTED_BYTES + counted];
        crc.update(&frame[HEADER_BYTES..]);
        if frame[4..8] != crc.finalize().to_le_bytes() {
            return Err(FrameError::Checksum);
        }
        let kind = Kind::from_number(kind).ok_or(FrameError::Kind(kind))?;
        let mut payload = self.buffer.split_to(UNCOUNTED_BYTES + counted).freeze();
        payload.advance(HEADER_BYTES);
        Ok(Some(Frame { kind, version, payload }))
    }
}

/// What begins like this, where it is well known. Read as a length, all of it is far above any limit.
fn foreign(first: [u8; 4]) -> Option<&'static str> {
    match &first {
        b"GET " | b"PUT " | b"POST" | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"PRI " => {
            Some("HTTP")
        }
        [0x16, 3, ..] => Some("TLS"),
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Hello,
            2 => Kind::Proof,
            3 => Kind::Ready,
            4 => Kind::Request,
            5 => Kind::Reply,
            6 => Kind::Heartbeat,
            7 => Kind::Goodbye,
            _ => return None,
        })
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooShort(length) => {
                write!(f, "a frame of length {length}: not a rondo peer")
            }
            FrameError::TooLong { payload, limit } => {
                write!(f, "a frame of {payload} bytes, above the limit of {limit}")
            }
            FrameError::Foreign(language) => {
                write!(f, "{language}: this port is for rondo's peers alone")
            }
            FrameError::Checksum => write!(f, "a frame with a wrong checksum"),
            FrameError::Kind(kind) => write!(f, "a frame of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const LIMIT: usize = 600;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (1u8..=7, any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(kind, version, payload)| Frame {
                kind: Kind::from_number(kind).expect("1 to 7 are kinds"),
                version,
                payload: payload.into(),
            },
        );
        prop::collection::vec(frame, 1..8)
    }

    fn stream(frames: &[Frame]) -> Vec<u8> {
        let encoded = |frame: &Frame| encode(frame.kind, frame.version, frame.payload.clone());
        frames.iter().flat_map(encoded).collect()
    }

    /// All frames in `stream`, cut into pieces of these sizes, and how it ended.
    fn decode(stream: &[u8], sizes: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = Decoder::new(LIMIT);
        let mut out = Vec::new();
        let mut rest = stream;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((*sizes.next().expect("a cycle")).min(rest.len()));
            rest = more;
            decoder.push(piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.next_frame(), Err(error), "an error is final");
                        return (out, Some(error));
                    }
                }
            }
        }
        (out, None)
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_split(
            frames in frames(),
            sizes in prop::collection::vec(1usize..400, 1..20),
        ) {
            prop_assert_eq!(decode(&stream(&frames), &sizes), (frames, None));
        }

        /// No byte behind the changed frame is needed to see it.
        #[test]
        fn one_changed_byte_is_an_error_and_never_another_frame(
            frames in frames(),
            at in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let mut bytes = stream(&frames);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let (got, error) = decode(&bytes, &[97]);
            prop_assert!(error.is_some());
            prop_assert!(frames.starts_with(&got), "{got:?} is no prefix");
            prop_assert!(got.len() < frames.len());
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            decode(&bytes, &[13, 700]);
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_first_four_bytes() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&(LIMIT as u32 + 5).to_le_bytes());
        let error = FrameError::TooLong { payload: LIMIT + 1, limit: LIMIT };
        assert_eq!(decoder.next_frame(), Err(error));
        assert_eq!(error.to_string(), "a frame of 601 bytes, above the limit of 600");

        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
        assert!(decoder.buffer.capacity() < 1024, "nothing is reserved for it");
    }

    #[test]
    fn well_known_openings_are_named_instead_of_read_as_a_length() {
        let http = decode(b"GET /live HTTP/1.1\r\n\r\n", &[99]).1.expect("not a frame");
        assert_eq!(http.to_string(), "HTTP: this port is for rondo's peers alone");
        assert_eq!(decode(&[0x16, 3, 1, 2], &[4]).1, Some(FrameError::Foreign("TLS")));
        assert!(matches!(decode(b"zzzz", &[4]).1, Some(FrameError::TooLong { .. })));
    }

    #[test]
    fn the_limit_itself_passes_and_grows_after_the_handshake() {
        let full = encode(Kind::Reply, 1, vec![7; LIMIT].into());
        assert_eq!(decode(&full, &[50]).0.len(), 1);
        let mut decoder = Decoder::new(10);
        decoder.set_payload_max(LIMIT);
        decoder.push(&full);
        assert!(decoder.next_frame().expect("within the new limit").is_some());
        assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn errors_of_the_header_are_told_apart() {
        assert_eq!(decode(&[1, 0, 0, 0], &[4]).1, Some(FrameError::TooShort(1)));
        let mut unknown = encode(Kind::Reply, 1, Bytes::new()).to_vec();
        unknown[8] = 99;
        assert_eq!(decode(&unknown, &[99]).1, Some(FrameError::Checksum));
        let crc = crc32fast::hash(&[4, 0, 0, 0, 99, 1]).to_le_bytes();
        unknown[4..8].copy_from_slice(&crc);
        unknown[10..].copy_from_slice(&crc[..2]);
        assert_eq!(decode(&unknown, &[99]).1, Some(FrameError::Kind(99)));
    }

    #[test]
    fn the_bytes_of_a_frame_never_change() {
        let frame = encode(Kind::Reply, 1, Bytes::from_static(b"abc"));
        let hex = frame.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        insta::assert_snapshot!(hex, @"07 00 00 00 a2 09 51 38 05 01 c8 55 61 62 63");
    }
}
