//! Everything that enters a node comes through here: two bounded lanes and what must not be lost.
//!
//! The host alone takes from it; peers go before clients. Lanes are bounded in number and in bytes. A full client lane is
//! `Overloaded`. A link reads no more from a peer whose part of the lane is full (`poll_room`), so that the peer feels
//! it; what comes all the same is dropped when it is a request (its owner asks again), and never when it is a reply, whose
//! number is bounded by the requests outstanding. Ends of disk work are never dropped: their number is bounded
//! by what was started.
//! This file, `budget` and `host` are the only ones in this crate with a lock or a waker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::admin::{AdminReply, AdminRequest};
use crate::budget::{Charge, Memory, Shares};
use crate::config::{
    CLIENT_LANE_MAX, DATAGRAM_LANE_BYTES_MAX, LINK_BUFFER_BYTES, MESSAGE_BYTES_MAX, PEER_LANE_MAX,
};
use crate::env::{Address, Class, DiskDone};
use crate::id::NodeId;
use crate::status::Status;
use crate::wire::client::{Reply, Request};

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
    /// What an operator asks; without a call the node has stopped, or had no room.
    Admin(AdminRequest, Box<dyn FnOnce(AdminReply) + Send>),
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

/// A peer may have this part of what all peers may have waiting, so that one alone does not shut out the others.
const PEER_PART: usize = 4;

#[derive(Default)]
struct Lanes {
    disk: VecDeque<DiskDone>,
    peers: VecDeque<(Arrival, Charge)>,
    /// What waits of each peer that has something waiting, or waits for room.
    by_peer: BTreeMap<NodeId, Waiting>,
    /// Bytes of datagrams that wait.
    datagrams: usize,
    clients: VecDeque<Ask>,
    /// Bytes of requests of clients that wait.
    asked: usize,
    stop: bool,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Waiting {
    bytes: usize,
    /// The links of the peer that read no more until there is room.
    links: Vec<Waker>,
}

/// The way in, for everybody who has something for the node. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    lanes: Arc<Mutex<Lanes>>,
    memory: Memory,
}

/// The host's end.
pub struct InboxReader {
    lanes: Arc<Mutex<Lanes>>,
    memory: Memory,
}

impl Inbox {
    /// A new inbox and its only reader. `memory` has the budgets of this node's rim.
    #[must_use]
    pub fn new(memory: Memory) -> (Inbox, InboxReader) {
        let lanes = Arc::default();
        let reader = InboxReader { lanes: Arc::clone(&lanes), memory: memory.clone() };
        (Inbox { lanes, memory }, reader)
    }

    /// The budgets of this node's rim, for whoever keeps bytes.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Something a front end asks. When the client lane is full the answer is `Overloaded`, when the node
    /// has stopped it is `Unavailable`: both at once, from here. Above attempt 1 it is `Indeterminate`.
    pub fn ask(&self, ask: Ask) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        let refusal = if lanes.closed {
            Reply::unavailable("the node has stopped")
        } else if lanes.clients.len() >= CLIENT_LANE_MAX {
            Reply::overloaded("too many requests wait for this node")
        } else if lanes.asked + ask.weight() > Shares::of(self.memory.max).clients {
            Reply::overloaded("too many bytes of requests wait for this node")
        } else {
            lanes.asked += ask.weight();
            lanes.clients.push_back(ask);
            lanes.wake();
            return;
        };
        drop(lanes);
        if let Ask::Request(request, sink) = ask {
            sink.reply(request.refused(refusal));
        }
    }

    /// A message of a peer. `false`: dropped, because the lane is full or the node has stopped.
    pub fn peer(&self, from: NodeId, class: Class, bytes: Bytes) -> bool {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        let charge = match class {
            _ if lanes.closed => return false,
            Class::Reply => self.memory.arriving.force(bytes.len()),
            Class::Request => {
                let waits = lanes.waiting(from) + bytes.len();
                if lanes.peers.len() >= PEER_LANE_MAX || waits > self.peer_bytes_max() {
                    return false;
                }
                match self.memory.arriving.take(bytes.len()) {
                    Some(charge) => charge,
                    // A little of each peer passes at any time: whoever is slow alone shuts nobody out.
                    None if waits <= LINK_BUFFER_BYTES => self.memory.arriving.force(bytes.len()),
                    None => return false,
                }
            }
        };
        lanes.by_peer.entry(from).or_default().bytes += bytes.len();
        lanes.peers.push_back((Arrival::Peer(from, bytes), charge));
        lanes.wake();
        true
    }

    /// Ready when a link may read a frame of `bytes` of this peer. Otherwise the peer has as much waiting
    /// as it may, or all of them together have; the task is woken when there is room.
    pub fn poll_room(&self, from: NodeId, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        let waits = lanes.waiting(from) + bytes;
        if waits <= LINK_BUFFER_BYTES {
            return Poll::Ready(());
        }
        if waits <= self.peer_bytes_max() {
            return self.memory.arriving.poll_room(bytes, context);
        }
        let links = &mut lanes.by_peer.entry(from).or_default().links;
        if !links.iter().any(|link| link.will_wake(context.waker())) {
            links.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// A datagram. `false`: dropped.
    pub fn datagram(&self, from: Address, bytes: Bytes) -> bool {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        let full = lanes.datagrams + bytes.len() > DATAGRAM_LANE_BYTES_MAX;
        if lanes.closed || full || lanes.peers.len() >= PEER_LANE_MAX {
            return false;
        }
        lanes.datagrams += bytes.len();
        let charge = self.memory.arriving.force(bytes.len());
        lanes.peers.push_back((Arrival::Datagram(from, bytes), charge));
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
        lanes.peers.push_back((Arrival::Seed(address), self.memory.arriving.nothing()));
        lanes.wake();
    }

    /// Asks the node to stop: it makes everything durable and ends.
    pub fn stop(&self) {
        let mut lanes = self.lanes.lock().expect("no panic while locked");
        lanes.stop = true;
        lanes.wake();
    }

    /// Enough for one of the largest messages, whoever else waits.
    fn peer_bytes_max(&self) -> usize {
        (Shares::of(self.memory.max).arriving / PEER_PART)
            .max(MESSAGE_BYTES_MAX + LINK_BUFFER_BYTES)
    }
}

impl Ask {
    /// The bytes that it keeps, about.
    fn weight(&self) -> usize {
        match self {
            Ask::Request(request, _) => request.weight(),
            Ask::Status(_) => 0,
            Ask::Admin(request, _) => request.weight(),
        }
    }
}

impl Lanes {
    fn waiting(&self, peer: NodeId) -> usize {
        self.by_peer.get(&peer).map_or(0, |waiting| waiting.bytes)
    }

    /// The node has taken something of a peer: whoever waits for room may read on.
    fn taken(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Datagram(_, bytes) => self.datagrams -= bytes.len(),
            Arrival::Peer(from, bytes) => {
                let waiting = self.by_peer.get_mut(from).expect("what waits is counted");
                waiting.bytes -= bytes.len();
                waiting.links.drain(..).for_each(Waker::wake);
                if waiting.bytes == 0 {
                    self.by_peer.remove(from);
                }
            }
            _ => {}
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl InboxReader {
    /// The budgets of this node's rim.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

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
        for _ in 0..room {
            let (arrival, _given_back) = lanes.peers.pop_front().expect("there are so many");
            lanes.taken(&arrival);
            batch.push(arrival);
        }
        let room = limit.saturating_sub(batch.len()).min(lanes.clients.len());
        for _ in 0..room {
            let ask = lanes.clients.pop_front().expect("there are so many");
            lanes.asked -= ask.weight();
            batch.push(Arrival::Client(ask));
        }
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
        let waiting = std::mem::take(&mut lanes.by_peer).into_values();
        waiting.flat_map(|waiting| waiting.links).for_each(Waker::wake);
        // A sink may call back into the inbox when it is dropped.
        drop(lanes);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MEMORY_BYTES_MIN;

    const PEER: NodeId = NodeId(1);

    fn inbox() -> (Inbox, InboxReader) {
        Inbox::new(Memory::new(MEMORY_BYTES_MIN))
    }

    fn message() -> Bytes {
        Bytes::from(vec![0; 1 << 20])
    }

    fn take_all(reader: &mut InboxReader) -> Vec<Arrival> {
        let mut batch = Vec::new();
        let taken = reader.poll_batch(&mut Context::from_waker(Waker::noop()), &mut batch, 4096);
        assert!(taken.is_ready());
        batch
    }

    #[test]
    fn one_peer_cannot_fill_the_lane_and_others_pass() {
        let (inbox, mut reader) = inbox();
        let taken = (0..1000).filter(|_| inbox.peer(PEER, Class::Request, message())).count();
        assert_eq!(taken << 20, MESSAGE_BYTES_MAX, "one of the largest, and no byte more");
        assert!(inbox.peer(NodeId(2), Class::Request, message()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(inbox.poll_room(PEER, 1 << 20, &mut context).is_pending());
        assert!(inbox.poll_room(NodeId(2), 1 << 20, &mut context).is_ready());
        assert_eq!(take_all(&mut reader).len(), taken + 1);
        assert!(inbox.poll_room(PEER, 1 << 20, &mut context).is_ready());
        assert_eq!(inbox.memory().arriving.gauge().used, 0);
    }

    #[test]
    fn all_peers_together_stay_below_their_budget_and_a_little_of_each_passes() {
        let (inbox, mut reader) = inbox();
        let arriving = inbox.memory().arriving.clone();
        for peer in 0..200 {
            let taken = (0..100).filter(|_| inbox.peer(NodeId(peer), Class::Request, message()));
            assert!(taken.count() <= 16);
        }
        let gauge = arriving.gauge();
        assert!(gauge.peak <= gauge.max && gauge.max < 100 << 20, "{gauge:?}");
        assert!(inbox.peer(NodeId(300), Class::Request, Bytes::from_static(b"small")));
        assert!(!inbox.peer(NodeId(300), Class::Request, message()));
        assert!(inbox.peer(NodeId(300), Class::Reply, message()), "a reply is never dropped");
        take_all(&mut reader);
        assert_eq!(arriving.gauge().used, 0);
    }

    #[test]
    fn datagrams_of_strangers_take_little() {
        let (inbox, _reader) = inbox();
        let from = Address("10.0.0.9:1".to_owned());
        let datagram = Bytes::from(vec![0; 32 << 10]);
        let taken = (0..9999).filter(|_| inbox.datagram(from.clone(), datagram.clone())).count();
        assert_eq!(taken * datagram.len(), DATAGRAM_LANE_BYTES_MAX);
        assert!(inbox.peer(PEER, Class::Request, message()), "peers go on");
    }
}
