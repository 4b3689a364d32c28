//! What waits for cold reads: questions of peers, and dots of this node's own that are to be issued.
//!
//! Whatever needs the same key waits for the same read. What waits is bounded in number and in bytes, for a question
//! brings a whole state along; what finds no room is dropped, and its owner asks again.
//!
//! Invariants: every read has somebody who waits for it; what is counted and charged is what waits.

use std::collections::BTreeMap;

use crate::budget::Gauge;
use crate::engine::ReadTicket;
use crate::id::{NodeId, OpId, ReadId, Unit};
use crate::wire::key::{Ask, KeyRef};

/// The most inputs that wait for cold reads; more are refused as failed, and asked again.
const PARKED_MAX: usize = 16 << 10;

/// Something that waits for a cold read.
#[derive(Debug)]
pub enum Parked {
    /// A question of a peer.
    Ask(NodeId, Ask),
    /// A dot to be issued.
    Issue(OpId),
    /// A state that is to be brought to the owners of its unit, by an operation of `transfer::leaving`.
    Leave(Unit, OpId),
    /// A state that is owed to another node, by an operation of `handoff::handing`.
    Hand(Unit, OpId),
    /// A key that is to be purged, by an operation of `purge`.
    Purge(Unit, OpId),
}

/// A cold read and what waits for it.
#[derive(Debug)]
pub struct ColdRead {
    /// The key that is read.
    pub key: KeyRef,
    /// What the engine gave for it.
    pub ticket: ReadTicket,
    /// What waits.
    pub parked: Vec<Parked>,
}

/// What became of something that was to be parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parking {
    /// There is no room: it is dropped.
    Full,
    /// It waits for a read that runs already.
    Shared,
    /// It waits for a read that has to be started under this name.
    Start(ReadId),
}

/// The cold reads that run.
#[derive(Debug)]
pub struct ColdReads {
    reads: BTreeMap<ReadId, ColdRead>,
    started: u64,
    parked: usize,
    bytes: Gauge,
}

impl ColdReads {
    /// None runs. `bytes_max`: what may wait.
    #[must_use]
    pub fn new(bytes_max: usize) -> ColdReads {
        let bytes = Gauge { max: bytes_max, ..Gauge::default() };
        ColdReads { reads: BTreeMap::new(), started: 0, parked: 0, bytes }
    }

    /// How many bytes wait.
    #[must_use]
    pub const fn gauge(&self) -> Gauge {
        self.bytes
    }

    /// Keeps something until the record of `key` has been read.
    pub fn park(&mut self, key: KeyRef, ticket: ReadTicket, parked: Parked) -> Parking {
        let weight = parked.weight();
        if self.parked >= PARKED_MAX || self.bytes.used + weight > self.bytes.max {
            return Parking::Full;
        }
        self.parked += 1;
        self.bytes.used += weight;
        self.bytes.peak = self.bytes.peak.max(self.bytes.used);
        if let Some(read) = self.reads.values_mut().find(|read| read.key == key) {
            read.parked.push(parked);
            return Parking::Shared;
        }
        self.started += 1;
        let id = ReadId(self.started);
        self.reads.insert(id, ColdRead { key, ticket, parked: vec![parked] });
        Parking::Start(id)
    }

    /// A read has ended: what waited for it.
    pub fn take(&mut self, id: ReadId) -> Option<ColdRead> {
        let read = self.reads.remove(&id)?;
        self.parked -= read.parked.len();
        self.bytes.used -= read.parked.iter().map(Parked::weight).sum::<usize>();
        Some(read)
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        let all = self.reads.values().flat_map(|read| &read.parked);
        assert_eq!(all.clone().count(), self.parked, "the count of parked inputs is right");
        let bytes: usize = all.map(Parked::weight).sum();
        assert_eq!(bytes, self.bytes.used, "and so are their bytes");
        assert!(self.reads.values().all(|read| !read.parked.is_empty()), "reads are wanted");
    }
}

impl Parked {
    /// The bytes that it keeps in memory, about.
    fn weight(&self) -> usize {
        size_of::<Parked>()
            + match self {
                Parked::Ask(_, ask) => ask.weight(),
                Parked::Issue(_) | Parked::Leave(..) | Parked::Hand(..) | Parked::Purge(..) => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::KeyspaceId;
    use crate::layout::live::LayoutSet;
    use crate::wire::key::Question;

    const TICKET: ReadTicket = ReadTicket { file: 1, offset: 0, len: 9 };

    fn key(n: u64) -> KeyRef {
        KeyRef::new(KeyspaceId(1), Bytes::from(vec![n as u8; 1 << 10]))
    }

    fn question(n: u64) -> Parked {
        let op = OpId { seq: n, ..OpId::default() };
        let layouts = LayoutSet::default();
        Parked::Ask(NodeId(1), Ask { op, layouts, key: key(n), question: Question::Query })
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_given_back_with_its_read() {
        let mut reads = ColdReads::new(20 << 10);
        let parked = (0..100).map(|n| reads.park(key(n), TICKET, question(n)));
        let kept = parked.filter(|&parking| parking != Parking::Full).count() as u64;
        assert!((10..20).contains(&kept), "{kept}");
        reads.invariants();
        assert!(reads.gauge().peak <= reads.gauge().max);
        assert!((1..=kept).all(|id| reads.take(ReadId(id)).is_some()));
        assert_eq!(reads.gauge().used, 0);
        reads.invariants();
    }

    #[test]
    fn one_key_is_read_once() {
        let mut reads = ColdReads::new(20 << 10);
        assert_eq!(reads.park(key(1), TICKET, question(1)), Parking::Start(ReadId(1)));
        assert_eq!(reads.park(key(1), TICKET, question(2)), Parking::Shared);
        assert_eq!(reads.park(key(2), TICKET, question(3)), Parking::Start(ReadId(2)));
        assert_eq!(reads.take(ReadId(1)).expect("it runs").parked.len(), 2);
        assert!(reads.take(ReadId(1)).is_none(), "it has ended");
    }
}
