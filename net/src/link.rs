//! One open link as a pure machine: bytes in, messages out; a queue in, bytes out; and whether the
//! other side still lives.
//!
//! The rim moves bytes and tells the time; nothing here waits. A side that has nothing to say sends a
//! heartbeat, so silence means that the peer, its machine or the network is gone, long before a
//! request would have timed out. A peer that was silent only because *this* process slept is not
//! blamed: the rim reads what has arrived before it calls `on_time`.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use rondo_core::config::{LINK_BUFFER_BYTES, MESSAGE_BYTES_MAX};
use rondo_core::env::{Class, Mono};

use crate::frame::{Decoder, FrameError, Kind, encode};
use crate::handshake::goodbye;
use crate::queue::SendQueue;
use crate::refusal::{Refusal, RefusalCode};

/// The most slices in one vectored write.
pub const SLICES_MAX: usize = 64;
/// A write stops growing beyond this, in bytes: more than a socket takes at once.
pub const WRITE_BYTES: usize = 256 << 10;
/// Room for one read, in bytes.
pub const READ_BYTES: usize = 16 << 10;

const _: () = assert!(4 * READ_BYTES <= LINK_BUFFER_BYTES, "a decoder makes room for four reads");

/// The times of a link, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A side that has written nothing for this long sends a heartbeat.
    pub heartbeat_ms: u64,
    /// A side that has heard nothing for this long gives the link up: some heartbeats longer.
    pub silence_ms: u64,
}

/// Why a link ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The stream cannot be understood.
    Frame(FrameError),
    /// A frame of a version that was not agreed on.
    Version(u8),
    /// A frame that has no place on an open link.
    Unexpected(Kind),
    /// Nothing was heard for so many milliseconds.
    Silent(u64),
    /// The peer said goodbye.
    Goodbye(Refusal),
    /// The peer closed, or the connection broke: the operating system's words.
    Closed(String),
    /// The queue of replies grew beyond all sense.
    Absurd,
    /// We end it: the peer has another address now, has connected anew, or this node stops.
    Ours(&'static str),
}

/// An open link.
#[derive(Debug)]
pub struct Link {
    pace: Pace,
    version: u8,
    decoder: Decoder,
    writing: VecDeque<Bytes>,
    unwritten: usize,
    heard: Mono,
    wrote: Mono,
    /// When this side looked at the time last.
    looked: Mono,
}

impl Link {
    /// A link that has just been opened, with what the handshake has read too far.
    #[must_use]
    pub fn new(pace: Pace, version: u8, mut decoder: Decoder, now: Mono) -> Link {
        decoder.set_payload_max(MESSAGE_BYTES_MAX);
        let (writing, unwritten) = (VecDeque::new(), 0);
        Link { pace, version, decoder, writing, unwritten, heard: now, wrote: now, looked: now }
    }

    /// Where the rim appends what it reads: at least `READ_BYTES` of room. Then call `on_read`.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.decoder.buffer(READ_BYTES)
    }

    /// How many bytes the frame that is being read takes, as far as that is known.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.decoder.awaited().unwrap_or(READ_BYTES).max(READ_BYTES)
    }

    /// The rim reads nothing for now, because there is no room for it: the peer is not to blame for the silence.
    pub fn on_full(&mut self, now: Mono) {
        self.heard = now;
    }

    /// Something has arrived; take the messages out before reading on.
    pub fn on_read(&mut self, now: Mono) {
        self.heard = now;
    }

    /// The next message, `None` when more bytes are needed. An error ends the link.
    pub fn next_message(&mut self) -> Result<Option<(Class, Bytes)>, End> {
        while let Some(frame) = self.decoder.next_frame().map_err(End::Frame)? {
            if frame.version != self.version {
                return Err(End::Version(frame.version));
            }
            match frame.kind {
                Kind::Request => return Ok(Some((Class::Request, frame.payload))),
                Kind::Reply => return Ok(Some((Class::Reply, frame.payload))),
                Kind::Heartbeat => {}
                Kind::Goodbye => return Err(End::Goodbye(Refusal::decode(&frame.payload))),
                kind @ (Kind::Hello | Kind::Proof | Kind::Ready) => {
                    return Err(End::Unexpected(kind));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is room for more of the queue: what is being written is less than a full write.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.unwritten < WRITE_BYTES
    }

    /// Takes everything that waits.
    pub fn load(&mut self, queue: &mut SendQueue) {
        self.unwritten += queue.take(self.unwritten, &mut self.writing);
    }

    /// Fills `slices` with what is to be written next and returns how many there are; 0: nothing.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for (slot, piece) in slices.iter_mut().zip(&self.writing) {
            *slot = IoSlice::new(piece);
            (count, bytes) = (count + 1, bytes + piece.len());
            if bytes >= WRITE_BYTES {
                break;
            }
        }
        count
    }

    /// The first `count` bytes of the slices have been written.
    pub fn on_written(&mut self, mut count: usize, now: Mono) {
        self.wrote = now;
        self.unwritten -= count;
        while count > 0 {
            let front = self.writing.front_mut().expect("no more is written than there was");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.writing.pop_front();
        }
    }

    /// Says goodbye after everything that is already being written.
    pub fn say_goodbye(&mut self, refusal: &Refusal) {
        self.append(goodbye(self.version, refusal));
    }

    /// Looks at the time: gives a silent peer up, or puts a heartbeat into what is to be written.
    /// Returns when to look again, which is after a heartbeat at the latest: whatever it is late beyond that, this process has
    /// slept, and its machine, and the peer on it, may have.
    pub fn on_time(&mut self, now: Mono) -> Result<Mono, End> {
        let late_ms = now.ms_since(self.looked.plus_ms(self.pace.heartbeat_ms));
        self.looked = now;
        if late_ms > self.pace.heartbeat_ms {
            self.heard = self.heard.plus_ms(late_ms).min(now);
        }
        let dead = self.heard.plus_ms(self.pace.silence_ms);
        if now >= dead {
            return Err(End::Silent(now.ms_since(self.heard)));
        }
        let mut beat = self.wrote.plus_ms(self.pace.heartbeat_ms);
        if now >= beat {
            // A peer that does not take what is being written needs no heartbeat behind it.
            if self.unwritten == 0 {
                self.append(encode(Kind::Heartbeat, self.version, Bytes::new()));
            }
            beat = now.plus_ms(self.pace.heartbeat_ms);
        }
        Ok(dead.min(beat))
    }

    fn append(&mut self, frame: Bytes) {
        self.unwritten += frame.len();
        self.writing.push_back(frame);
    }
}

impl End {
    /// What to tell the peer before closing, where it can still understand us.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            End::Frame(_) | End::Version(_) | End::Unexpected(_) => {
                Some(Refusal::new(RefusalCode::Malformed, format!("received {self}")))
            }
            End::Ours(why) => Some(Refusal::new(RefusalCode::Stopping, *why)),
            End::Silent(_) | End::Goodbye(_) | End::Closed(_) | End::Absurd => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Frame(error) => write!(f, "{error}"),
            End::Version(version) => write!(f, "a frame of version {version}, not agreed on"),
            End::Unexpected(kind) => write!(f, "a {kind:?} frame on an open link"),
            End::Silent(ms) => write!(f, "silent for {ms} ms"),
            End::Goodbye(refusal) => write!(f, "the peer said: {refusal}"),
            End::Closed(why) => f.write_str(why),
            End::Absurd => write!(f, "the peer does not take the replies it asked for"),
            End::Ours(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::env::Outbound;
    use smallvec::smallvec;

    use super::*;
    use crate::queue::{Pushed, QueueLimits};

    const PACE: Pace = Pace { heartbeat_ms: 100, silence_ms: 1000 };
    const START: Mono = Mono(0);

    fn link() -> Link {
        Link::new(PACE, 1, Decoder::new(100), START)
    }

    fn at(ms: u64) -> Mono {
        START.plus_ms(ms)
    }

    /// Takes at most `max` bytes out of the link, as a socket would.
    fn write(link: &mut Link, max: usize, now: Mono) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = link.slices(&mut slices);
        let mut out = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
        out.truncate(max);
        if !out.is_empty() {
            link.on_written(out.len(), now);
        }
        out
    }

    fn read(link: &mut Link, bytes: &[u8], now: Mono) -> Result<Vec<(Class, Bytes)>, End> {
        link.read_buffer().extend_from_slice(bytes);
        link.on_read(now);
        let mut out = Vec::new();
        while let Some(message) = link.next_message()? {
            out.push(message);
        }
        Ok(out)
    }

    fn message(bytes: Bytes) -> Outbound {
        Outbound { class: Class::Request, parts: smallvec![bytes] }
    }

    #[test]
    fn an_idle_link_sends_heartbeats_and_a_busy_one_does_not() {
        let mut link = link();
        assert_eq!(link.on_time(at(99)), Ok(at(100)));
        assert!(write(&mut link, 99, at(99)).is_empty());
        assert_eq!(link.on_time(at(100)), Ok(at(200)));
        let beat = write(&mut link, 99, at(100));
        assert_eq!(beat, encode(Kind::Heartbeat, 1, Bytes::new()));

        let mut queue = SendQueue::new(QueueLimits::of(64 << 20));
        queue.push(1, &message(Bytes::from_static(b"busy")));
        link.load(&mut queue);
        write(&mut link, 99, at(150));
        assert_eq!(link.on_time(at(200)), Ok(at(250)));
        assert!(write(&mut link, 99, at(200)).is_empty());
    }

    #[test]
    fn a_silent_peer_is_given_up_and_any_byte_counts_as_life() {
        let mut link = link();
        assert_eq!(read(&mut link, &[1], at(900)), Ok(vec![]));
        for ms in (100..1900).step_by(100) {
            link.on_time(at(ms)).expect("heard less than a second ago");
        }
        link.on_time(at(1899)).expect("heard 999 ms ago");
        let end = link.on_time(at(1900)).expect_err("silent for a second");
        assert_eq!(end.to_string(), "silent for 1000 ms");
    }

    #[test]
    fn a_side_that_has_slept_blames_nobody_for_the_silence_meanwhile() {
        let mut link = link();
        (100..=500).step_by(100).for_each(|ms| drop(link.on_time(at(ms))));
        link.on_time(at(9_000)).expect("it was this side that slept for 8.5 s");
        for ms in (9_100..9_400).step_by(100) {
            link.on_time(at(ms)).expect("heard 500 ms before it slept");
        }
        let end = link.on_time(at(9_400)).expect_err("silent for a second of those it was awake");
        assert_eq!(end.to_string(), "silent for 1000 ms");
    }

    #[test]
    fn a_peer_that_takes_nothing_gets_no_pile_of_heartbeats() {
        let mut link = link();
        for ms in (100..900).step_by(100) {
            link.on_time(at(ms)).expect("not silent yet");
        }
        assert_eq!(write(&mut link, 1000, at(900)).len(), 12);
    }

    #[test]
    fn messages_pass_through_partial_writes_in_order() {
        let (mut sender, mut receiver) = (link(), link());
        let mut queue = SendQueue::new(QueueLimits::of(64 << 20));
        let sent = (0..200u32).map(|n| Bytes::from(vec![n as u8; n as usize * 40]));
        let mut got = Vec::new();
        for bytes in sent.clone() {
            assert_eq!(queue.push(1, &message(bytes)), Pushed::Queued);
        }
        sender.load(&mut queue);
        loop {
            let bytes = write(&mut sender, 777, START);
            if bytes.is_empty() {
                break;
            }
            got.extend(read(&mut receiver, &bytes, START).expect("good frames"));
        }
        assert!(got.iter().map(|(_, bytes)| bytes.clone()).eq(sent));
        assert_eq!((sender.unwritten, sender.writing.len()), (0, 0));
    }

    #[test]
    fn one_write_takes_many_messages_within_its_limits() {
        let mut link = link();
        let mut queue = SendQueue::new(QueueLimits::of(64 << 20));
        for _ in 0..100 {
            queue.push(1, &message(Bytes::from(vec![0; 10_000])));
        }
        link.load(&mut queue);
        assert!(!link.wants_more());
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = link.slices(&mut slices);
        let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        assert!((WRITE_BYTES..WRITE_BYTES + 20_000).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn what_has_no_place_on_an_open_link_ends_it_with_a_reason() {
        let end = |bytes: &[u8]| read(&mut link(), bytes, START).expect_err("ends");
        let frame = |kind, version| encode(kind, version, Bytes::new());
        let hello = end(&frame(Kind::Hello, 1));
        assert_eq!(hello, End::Unexpected(Kind::Hello));
        let refusal = hello.refusal().expect("the peer is told");
        assert_eq!(refusal.text, "received a Hello frame on an open link");
        assert_eq!(end(&frame(Kind::Reply, 2)), End::Version(2));
        assert_eq!(
            end(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            End::Frame(FrameError::Checksum)
        );
        let stop = Refusal::new(RefusalCode::Stopping, "node stops");
        assert_eq!(end(&goodbye(1, &stop)), End::Goodbye(stop));
    }

    #[test]
    fn a_goodbye_comes_after_what_was_said_before() {
        let (mut sender, mut receiver) = (link(), link());
        let mut queue = SendQueue::new(QueueLimits::of(64 << 20));
        queue.push(1, &message(Bytes::from_static(b"last words")));
        sender.load(&mut queue);
        sender.say_goodbye(&Refusal::new(RefusalCode::Stopping, "node stops"));
        receiver.read_buffer().extend_from_slice(&write(&mut sender, 9999, START));
        let words = receiver.next_message().expect("first the message").expect("there is one");
        assert_eq!(words.1, "last words");
        let end = receiver.next_message().expect_err("then the goodbye");
        assert_eq!(end.to_string(), "the peer said: node stops");
    }
}
