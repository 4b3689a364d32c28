//! Everything that enters a node comes through here: two bounded lanes and what must not be lost.
//!
//! The host alone takes from it; peers go before clients. A full client lane is `Overloaded`, a full peer lane drops
//! requests (their owner asks again) but never replies, whose number is bounded by the requests outstanding. Ends
//! of disk work are never dropped: their number is bounded by what was started.
//! This file and `host` are the only ones in this crate with a lock or a waker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::config::{CLIENT_LANE_MAX, PEER_LANE_MAX};
use crate::env::{Address, Class, DiskDone};
use crate::id::NodeId;
use crate::message::{Reply, Request};
use crate::status::Status;

/// What a front end gives with a request, to be called once with the outcome. When the node stops
/// before that, the sink is dropped without a call: the outcome is unknown.
pub trait ReplySink: Send {
    /// The outcome.
    fn reply(self: Box<Self>, reply: Reply);
}

impl<F: FnOnce(Reply) + Send> ReplySink for F {
    fn reply(self: Box<Self>, reply: Reply) {
        self(reply);
    }
}

/// What a front end asks of a node.
pub enum Ask {
    /// A request about a key.
    Request(Request, Box<dyn ReplySink>),
    /// A picture of the node.
    Status(Box<dyn FnOnce(Status) + Send>),
}

/// One thing that arrived.
pub enum Arrival {
    /// A message of a peer, not decoded yet. The link has established who it is from.
    Peer(NodeId, Bytes),
    /// A datagram, not decoded yet. It comes from the address that it says it comes from.
    Datagram(Address, Bytes),
    /// The end of disk work.
    Disk(DiskDone),
    /// Something a front end asks.
    Client(Ask),
    /// One more address to meet nodes at.
    Seed(Address),
    /// The node is to stop.
    Stop,
}

#[derive(Default)]
struct Lanes {
    disk: VecDeque<DiskDone>,
    peers: VecDeque<Arrival>,
    clients: VecDeque<Ask>,
    stop: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// The way in, for everybody who has something for the node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inbox {
    lanes: Arc<Mutex<Lanes>>,
}

/// The host's end.
pub struct InboxReader {
    lanes: Arc<Mutex<Lanes>>,
}

impl Inbox {
    /// A new inbox and its only reader.
    #[must_use]
    pub fn new() -> (Inbox, InboxReader) {
        let inbox = Inbox::default();
        let reader = InboxReader { lanes: Arc::clone(&inbox.lanes) };
        (inbox, reader)
    }

    /// Something a front end asks. When the client lane is full the answer is `Overloaded`, when the node
    /// has stopped it is `Unavailable`: both at once, from here.
    pub fn ask(&self, ask: Ask) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        let refusal = if lanes.closed {
            Reply::Unavailable { reason: "the node has stopped".to_owned() }
        } else if lanes.clients.len() >= CLIENT_LANE_MAX {
            Reply::Overloaded { reason: "too many requests wait for this node".to_owned() }
        } else {
            lanes.clients.push_back(ask);
            lanes.wake();
            return;
        };
        drop(lanes);
        if let Ask::Request(_, sink) = ask {
            sink.reply(refusal);
        }
    }

    /// A message of a peer. `false`: dropped, because the lane is full or the node has stopped.
    pub fn peer(&self, from: NodeId, class: Class, bytes: Bytes) -> bool {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        if lanes.closed || (class == Class::Request && lanes.peers.len() >= PEER_LANE_MAX) {
            return false;
        }
        lanes.peers.push_back(Arrival::Peer(from, bytes));
        lanes.wake();
        true
    }

    /// A datagram. `false`: dropped.
    pub fn datagram(&self, from: Address, bytes: Bytes) -> bool {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        if lanes.closed || lanes.peers.len() >= PEER_LANE_MAX {
            return false;
        }
        lanes.peers.push_back(Arrival::Datagram(from, bytes));
        lanes.wake();
        true
    }

    /// The end of disk work.
    pub fn disk(&self, done: DiskDone) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        lanes.disk.push_back(done);
        lanes.wake();
    }

    /// One more address to meet nodes at.
    pub fn seed(&self, address: Address) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        lanes.peers.push_back(Arrival::Seed(address));
        lanes.wake();
    }

    /// Asks the node to stop: it makes everything durable and ends.
    pub fn stop(&self) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        lanes.stop = true;
        lanes.wake();
    }
}

impl Lanes {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl InboxReader {
    /// Moves up to `limit` arrivals into `batch`, ends of disk work first, then peers, then clients.
    /// Pending when there is nothing.
    pub fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        batch: &mut Vec<Arrival>,
        limit: usize,
    ) -> Poll<()> {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        batch.extend(lanes.disk.drain(..).map(Arrival::Disk));
        let room = limit.saturating_sub(batch.len()).min(lanes.peers.len());
        batch.extend(lanes.peers.drain(..room));
        let room = limit.saturating_sub(batch.len()).min(lanes.clients.len());
        batch.extend(lanes.clients.drain(..room).map(Arrival::Client));
        if lanes.stop {
            lanes.stop = false;
            batch.push(Arrival::Stop);
        }
        if batch.is_empty() {
            lanes.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        lanes.closed = true;
        let dropped = (std::mem::take(&mut lanes.clients), std::mem::take(&mut lanes.peers));
        // A sink may call back into the inbox when it is dropped.
        drop(lanes);
        drop(dropped);
    }
}
