//! What waits to be written to one peer: frames, bounded in bytes and number.
//!
//! Small pieces are copied together while they are queued, so that one write carries many messages: a
//! message in a batch costs a hundredth of a message alone. Large pieces keep their own memory.
//! A full queue drops requests, whose owners ask again. Replies, whose number is bounded by the requests outstanding, are
//! dropped only when all queues of the node together are full; one queue of replies beyond all sense breaks its
//! link instead.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use rondo_core::config::MESSAGE_BYTES_MAX;
use rondo_core::env::{Class, Outbound};

use crate::frame::{Kind, header};

/// Pieces up to this size are copied: cheaper than a slice of their own in a vectored write.
const COPY_BYTES_MAX: usize = 2 << 10;
/// How much is copied together into one piece.
const CHUNK_BYTES: usize = 64 << 10;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Requests are dropped when more bytes than this would wait or be in the middle of a write.
    pub bytes_max: usize,
    /// Requests are dropped when this many frames wait.
    pub frames_max: usize,
    /// The link is given up when more bytes than this would wait.
    pub absurd_bytes: usize,
}

impl QueueLimits {
    /// The limits of one queue where all queues together may hold `leaving` bytes: requests of one may take half
    /// of that; when one takes all but a quarter, it is absurd.
    #[must_use]
    pub const fn of(leaving: usize) -> QueueLimits {
        QueueLimits { bytes_max: leaving / 2, frames_max: 64 << 10, absurd_bytes: leaving / 4 * 3 }
    }
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It is dropped: the queue is full.
    Dropped,
    /// It is dropped: no message may be that long.
    TooLong,
    /// It is dropped, and the link is to be closed: the peer does not take what it asked for.
    Absurd,
}

/// The queue.
#[derive(Debug)]
pub struct SendQueue {
    limits: QueueLimits,
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
    frames: usize,
    unwritten: usize,
}

impl SendQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> SendQueue {
        SendQueue {
            limits,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            bytes: 0,
            frames: 0,
            unwritten: 0,
        }
    }

    /// Puts a message at the end, as a frame of this protocol version. One that finds nothing before it is always
    /// taken.
    pub fn push(&mut self, version: u8, message: &Outbound) -> Pushed {
        let len = message.len();
        if len > MESSAGE_BYTES_MAX {
            return Pushed::TooLong;
        }
        let before = self.bytes();
        let total = before + len;
        if before > 0 && total > self.limits.absurd_bytes {
            return Pushed::Absurd;
        }
        let kind = match message.class {
            Class::Request => Kind::Request,
            Class::Reply => Kind::Reply,
        };
        let full = before > 0 && total > self.limits.bytes_max;
        let full = full || self.frames >= self.limits.frames_max;
        if full && message.class == Class::Request {
            return Pushed::Dropped;
        }
        self.copy(&header(kind, version, &message.parts));
        for part in &message.parts {
            if part.len() <= COPY_BYTES_MAX {
                self.copy(part);
            } else {
                self.seal();
                self.bytes += part.len();
                self.pieces.push_back(part.clone());
            }
        }
        self.frames += 1;
        Pushed::Queued
    }

    /// Moves everything to the end of `writing`, which holds `unwritten` bytes of earlier calls.
    pub fn take(&mut self, unwritten: usize, writing: &mut VecDeque<Bytes>) -> usize {
        self.seal();
        if writing.is_empty() {
            std::mem::swap(writing, &mut self.pieces);
        } else {
            writing.append(&mut self.pieces);
        }
        let taken = std::mem::take(&mut self.bytes);
        self.frames = 0;
        self.unwritten = unwritten + taken;
        taken
    }

    /// Forgets everything: the link is gone.
    pub fn clear(&mut self) {
        *self = SendQueue::new(self.limits);
    }

    /// Bytes that wait or are in the middle of a write.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.unwritten
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > CHUNK_BYTES {
            self.seal();
        }
        self.tail.put_slice(bytes);
        self.bytes += bytes.len();
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

    use super::*;
    use crate::frame::Decoder;

    const USUAL: QueueLimits = QueueLimits::of(64 << 20);
    const LIMITS: QueueLimits = QueueLimits { bytes_max: 1000, frames_max: 20, absurd_bytes: 4000 };

    fn message(class: Class, parts: &[usize]) -> Outbound {
        let part = |&len: &usize| Bytes::from(vec![len as u8; len]);
        Outbound { class, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn a_full_queue_drops_requests_keeps_replies_and_breaks_when_absurd() {
        let mut queue = SendQueue::new(LIMITS);
        assert_eq!(queue.push(1, &message(Class::Request, &[900])), Pushed::Queued);
        assert_eq!(queue.push(1, &message(Class::Request, &[200])), Pushed::Dropped);
        assert_eq!(queue.push(1, &message(Class::Request, &[10])), Pushed::Queued);
        assert_eq!(queue.push(1, &message(Class::Reply, &[2500])), Pushed::Queued);
        assert_eq!(queue.push(1, &message(Class::Reply, &[500])), Pushed::Queued);
        assert_eq!(queue.push(1, &message(Class::Reply, &[500])), Pushed::Absurd);
        queue.clear();
        assert_eq!(queue.bytes(), 0);
        assert_eq!(queue.push(1, &message(Class::Request, &[900])), Pushed::Queued);
    }

    #[test]
    fn requests_are_bounded_in_number_too() {
        let mut queue = SendQueue::new(LIMITS);
        for _ in 0..LIMITS.frames_max {
            assert_eq!(queue.push(1, &message(Class::Request, &[1])), Pushed::Queued);
        }
        assert_eq!(queue.push(1, &message(Class::Request, &[1])), Pushed::Dropped);
        assert_eq!(queue.push(1, &message(Class::Reply, &[1])), Pushed::Queued);
    }

    #[test]
    fn bytes_in_the_middle_of_a_write_count_until_they_are_written() {
        let mut queue = SendQueue::new(LIMITS);
        queue.push(1, &message(Class::Request, &[900]));
        let mut writing = VecDeque::new();
        let taken = queue.take(0, &mut writing);
        assert_eq!((taken, queue.bytes()), (912, 912));
        assert_eq!(queue.push(1, &message(Class::Request, &[200])), Pushed::Dropped);
        queue.take(100, &mut writing);
        assert_eq!(queue.push(1, &message(Class::Request, &[200])), Pushed::Queued);
    }

    #[test]
    fn a_message_above_the_limit_of_messages_is_never_queued() {
        let mut queue = SendQueue::new(USUAL);
        let longest = message(Class::Reply, &[1, MESSAGE_BYTES_MAX - 1]);
        assert_eq!(queue.push(1, &longest), Pushed::Queued);
        let longer = message(Class::Reply, &[2, MESSAGE_BYTES_MAX - 1]);
        assert_eq!(queue.push(1, &longer), Pushed::TooLong);
    }

    #[test]
    fn small_messages_become_one_piece_and_large_parts_are_not_copied() {
        let mut queue = SendQueue::new(USUAL);
        for _ in 0..64 {
            queue.push(1, &message(Class::Request, &[20, 80]));
        }
        let mut writing = VecDeque::new();
        queue.take(0, &mut writing);
        assert_eq!(writing.iter().map(Bytes::len).collect::<Vec<_>>(), [64 * 112]);

        let large = message(Class::Reply, &[20, 4000]);
        queue.push(1, &large);
        writing.clear();
        queue.take(0, &mut writing);
        assert_eq!(writing.iter().map(Bytes::len).collect::<Vec<_>>(), [32, 4000]);
        assert_eq!(writing[1].as_ptr(), large.parts[1].as_ptr(), "the same memory");
    }

    fn messages() -> impl Strategy<Value = Vec<(bool, Vec<usize>)>> {
        let lens = prop::collection::vec((0usize..6000).prop_map(|n| n * n / 6000), 0..3);
        prop::collection::vec((any::<bool>(), lens), 0..100)
    }

    proptest! {
        #[test]
        fn what_is_taken_decodes_to_what_was_pushed(messages in messages(), take_every in 1usize..9) {
            let mut queue = SendQueue::new(USUAL);
            let (mut writing, mut expected, mut taken) = (VecDeque::new(), Vec::new(), 0);
            for (index, (reply, lens)) in messages.iter().enumerate() {
                let class = if *reply { Class::Reply } else { Class::Request };
                let message = message(class, lens);
                expected.push((*reply, message.parts.concat()));
                queue.push(3, &message);
                if index % take_every == 0 {
                    taken += queue.take(taken, &mut writing);
                }
            }
            taken += queue.take(taken, &mut writing);
            prop_assert_eq!(taken, writing.iter().map(Bytes::len).sum::<usize>());
            prop_assert_eq!(queue.bytes(), taken);
            let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
            writing.iter().for_each(|piece| decoder.push(piece));
            let mut got = Vec::new();
            while let Some(frame) = decoder.next_frame().expect("good frames") {
                prop_assert_eq!(frame.version, 3);
                got.push((frame.kind == Kind::Reply, frame.payload.to_vec()));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
