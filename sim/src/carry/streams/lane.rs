//! One direction of a connection: segments on their way, in order, and bytes that wait to be read.

use std::collections::VecDeque;

use crate::draw::Draw;
use crate::rt::Time;

/// How long something that did not arrive waits before it is sent again, in milliseconds; then twice that, and so on.
const RESEND_MS: u64 = 200;
/// The same for the first segment, as systems do it.
const REDIAL_MS: u64 = 1_000;
/// The longest of these waits, in milliseconds.
const RESEND_MS_MAX: u64 = 60_000;
/// The least room that a lane has, in bytes, and how often that doubles at most.
const ROOM_BYTES: usize = 2 << 10;
const DOUBLINGS: u64 = 8;
/// How often in a million a read or a write takes only a part of what it could.
const PART_PPM: u32 = 60_000;
/// How often in a million what is written goes in pieces.
const PIECES_PPM: u32 = 60_000;

/// What travels.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Segment {
    /// May I?
    Open,
    /// You may.
    Opened,
    /// Bytes.
    Bytes(Vec<u8>),
    /// No more bytes.
    End,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    flying: VecDeque<(Time, Segment)>,
    flying_bytes: usize,
    waiting: VecDeque<u8>,
    room: usize,
    /// Whether an arrival is due.
    scheduled: bool,
    /// How often in a row what is first did not arrive.
    tries: u32,
    last: Time,
    shut: bool,
    ended: bool,
}

impl Lane {
    pub(super) fn new(draw: Draw) -> Lane {
        Lane {
            flying: VecDeque::new(),
            flying_bytes: 0,
            waiting: VecDeque::new(),
            room: ROOM_BYTES << draw.below(DOUBLINGS),
            scheduled: false,
            tries: 0,
            last: Time::default(),
            shut: false,
            ended: false,
        }
    }

    /// Sends a segment that arrives at `at`, but after all that were sent before. Answers when to look, when nobody does yet.
    pub(super) fn push(&mut self, at: Time, segment: Segment) -> Option<Time> {
        self.last = self.last.max(at);
        if let Segment::Bytes(bytes) = &segment {
            self.flying_bytes += bytes.len();
        }
        self.flying.push_back((self.last, segment));
        (!std::mem::replace(&mut self.scheduled, true)).then_some(self.last)
    }

    /// What has arrived by now, and when to look again.
    pub(super) fn take_due(&mut self, now: Time) -> (Vec<Segment>, Option<Time>) {
        let mut due = Vec::new();
        self.tries = 0;
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            let (_, segment) = self.flying.pop_front().expect("it is there");
            if let Segment::Bytes(bytes) = &segment {
                self.flying_bytes -= bytes.len();
            }
            due.push(segment);
        }
        let next = self.flying.front().map(|(at, _)| *at);
        self.scheduled = next.is_some();
        (due, next)
    }

    /// What is due does not arrive: when to look again.
    pub(super) fn retry_at(&mut self, now: Time) -> Option<Time> {
        let Some((at, first)) = self.flying.front() else {
            self.scheduled = false;
            return None;
        };
        if *at > now {
            return Some(*at);
        }
        let wait_ms = if *first == Segment::Open { REDIAL_MS } else { RESEND_MS };
        let wait_ms = (wait_ms << self.tries.min(10)).min(RESEND_MS_MAX);
        self.tries += 1;
        Some(now.plus_ms(wait_ms))
    }

    /// Bytes wait to be read.
    pub(super) fn arrived(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// Nothing comes after this.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing more may be written.
    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Nothing more may be written. Whether that is new.
    pub(super) fn shut(&mut self) -> bool {
        !std::mem::replace(&mut self.shut, true)
    }

    /// Up to `room` of the bytes that wait, when there are any.
    pub(super) fn read(&mut self, draw: Draw, room: usize) -> Option<Vec<u8>> {
        let most = room.min(self.waiting.len());
        (most > 0).then(|| self.waiting.drain(..part(draw, most)).collect())
    }

    /// How many of `count` bytes may be written now.
    pub(super) fn room_for(&self, draw: Draw, count: usize) -> usize {
        let room = self.room.saturating_sub(self.flying_bytes + self.waiting.len());
        part(draw, count.min(room))
    }

    /// What is sent from now on arrives at `until` or later.
    pub(super) fn hold(&mut self, until: Time) {
        self.last = self.last.max(until);
    }

    /// What is on its way arrives by `latest`.
    pub(super) fn hurry(&mut self, latest: Time) {
        self.last = self.last.min(latest);
        self.flying.iter_mut().for_each(|(at, _)| *at = latest.min(*at));
        self.tries = 0;
    }

    /// What is on its way is lost.
    pub(super) fn lose_flying(&mut self) {
        self.flying.clear();
        self.flying_bytes = 0;
    }

    /// What waits to be read is lost.
    pub(super) fn lose_unread(&mut self) {
        self.waiting.clear();
    }
}

/// Now and then less than all.
fn part(draw: Draw, all: usize) -> usize {
    if all > 1 && draw.happens(PART_PPM) {
        // The draw has been used up, but its low bits have not decided that.
        1 + (draw.bits() % 1_021) as usize * (all - 1) / 1_021
    } else {
        all
    }
}

/// Bytes as they travel: now and then in up to four pieces.
pub(super) fn pieces<'a>(draw: &mut impl FnMut() -> Draw, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    if draw().happens(PIECES_PPM) {
        for _ in 0..3 {
            let (piece, more) = rest.split_at(draw().below(rest.len() as u64) as usize);
            pieces.push(piece);
            rest = more;
        }
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}
