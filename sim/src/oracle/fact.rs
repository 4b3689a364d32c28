//! What oracles ask of one operation, and of one context that was handed out.

use rondo_core::layout::keyspace::Level;
use rondo_core::version::hlc::Hlc;

use crate::history::{Fate, Op, Stamp};
use crate::rt::Time;

/// A part of a list of the key's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) len: u32,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) level: Level,
    /// The level whose replicas held it when it was acknowledged; `None` when it was a fallback alone that did.
    pub(super) held: Option<Level>,
    pub(super) called: Stamp,
    /// How it ended; of a read, that it `Acked` what it answered.
    pub(super) fate: Fate,
    /// The slot and the number of its version's dot, when that was ever seen.
    pub(super) dot: Option<(u32, u64)>,
    /// When its version was first stored, where stores were watched.
    pub(super) seen: Stamp,
    /// Its version's HLC, when that was ever seen.
    pub(super) hlc: Hlc,
    /// The clock that it sent, when it sent one.
    pub(super) sent: Option<Span>,
    /// From when on its value may have expired; `None` where it stays.
    pub(super) expires: Option<Time>,
    /// Where in `told` a read's answer is, or `NOBODY`.
    pub(super) read: u32,
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Get,
    Put,
    Delete,
}

/// A context that was handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: Stamp,
    /// The same, in time.
    pub(super) time: Time,
    /// When the attempt was called whose answer it is, as far as that can be known.
    pub(super) began: Stamp,
    pub(super) place: u32,
    pub(super) clock: Span,
    pub(super) highest: Hlc,
    /// The operations whose values were shown with it.
    pub(super) shown: Span,
    /// Whether it is the answer of a read.
    pub(super) is_read: bool,
    /// Whether it found nothing where a value may have expired: it says nothing of the order of writes.
    pub(super) may_be_expired: bool,
    /// Whether the first of the values is the answer. Otherwise there is none, and they stand beside a delete.
    pub(super) is_found: bool,
}

impl Fact {
    /// Whether it is a write that may have taken place.
    pub(super) fn happened(&self) -> bool {
        self.kind != Kind::Get && self.fate != Fate::Refused
    }

    /// Whether what it wrote is seen by nobody, now or in the end: a deletion, or a value that expires.
    pub(super) fn shows_nothing(&self) -> bool {
        self.kind == Kind::Delete || self.expires.is_some()
    }

    /// When it was acknowledged; `Stamp::NEVER` when it was not.
    pub(super) const fn acked(&self) -> Stamp {
        match self.fate {
            Fate::Acked(at) => at,
            Fate::Refused | Fate::Unknown => Stamp::NEVER,
        }
    }
}

/// From when on what an operation stores may have expired, by some node's clock; `None` where it stays.
pub(super) fn expires_from(op: &Op, clocks_apart_ms: Option<u64>) -> Option<Time> {
    let called = op.attempts.first()?.called_at;
    let right = called.plus_ms(u64::from(op.action.ttl_ms()?));
    let early = |ms: u64| Time(right.0.saturating_sub(Time::at_ms(2 * ms).0));
    Some(clocks_apart_ms.map_or(called, early))
}
