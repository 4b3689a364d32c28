//! What enters one step of a node, and the effects a step may have.
//!
//! Machines take `&mut impl Env` and nothing else: no clock, no dice, no socket of their own.

use std::io;

use bytes::Bytes;

use crate::engine::Engine;
use crate::env::{Address, Mono, Wall};
use crate::id::{ClientTag, Life, NodeId, ReadId, SyncId};
use crate::probe::Probe;
use crate::wire::client::{Reply, Request};
use crate::wire::member::Gossip;
use crate::wire::message::Envelope;
use crate::wire::swim::Datagram;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A client asks; the answer goes to this tag.
    Request(ClientTag, Request),
    /// A peer says something.
    Peer(NodeId, Envelope),
    /// A peer makes itself known.
    Gossip(Gossip),
    /// The failure detector of a peer says something.
    Swim(Datagram),
    /// A datagram from this address can be read and was not made with this cluster's secret. What it says is anybody's word.
    Foreign(Address, Gossip),
    /// A message or datagram could not be read.
    Malformed,
    /// A sync ended.
    Synced(SyncId, io::Result<()>),
    /// A cold read ended.
    ReadDone(ReadId, io::Result<Bytes>),
    /// Time has passed.
    Tick,
    /// Take no more requests, end those in flight.
    Stop,
}

/// The effects of a step, and what it may ask the world.
pub trait Env: Probe {
    /// Monotonic time; the same for the whole step.
    fn mono(&self) -> Mono;
    /// Wall time; the same for the whole step.
    fn wall(&self) -> Wall;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// The storage engine.
    fn engine(&mut self) -> &mut dyn Engine;
    /// Sends a message to another node. `false`: it did not leave, and nobody will ever see it; `true`: it may
    /// arrive, or be lost.
    fn send(&mut self, to: NodeId, envelope: Envelope) -> bool;
    /// Whether the links to and from a node are open; the same for the whole step.
    fn is_connected(&self, node: NodeId) -> bool;
    /// Sends a datagram; it may be lost.
    fn datagram(&mut self, to: &Address, gossip: &Gossip);
    /// Sends the same datagram to each of these addresses; each may be lost.
    fn datagrams(&mut self, to: &[&Address], gossip: &Gossip) {
        to.iter().for_each(|to| self.datagram(to, gossip));
    }
    /// Sends a datagram of the failure detector; it may be lost.
    fn swim(&mut self, to: &Address, datagram: &Datagram);
    /// Says which life of a node counts, where it is reached, and what people call it.
    fn route(&mut self, node: NodeId, life: Life, name: &str, address: &Address);
    /// Answers a client. Exactly one answer for each `Input::Request`.
    fn reply(&mut self, client: ClientTag, reply: Reply);
}
