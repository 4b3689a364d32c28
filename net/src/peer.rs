//! What is known of one peer: the link that we dial (`Called`), and the one it has dialled (`Caller`).
//!
//! Shared between the task of the link and everybody who sends. `send` takes one short lock, and wakes
//! the task only when it sleeps: a burst of messages costs one wake-up and one write.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rondo_core::budget::{Budget, Charge};
use rondo_core::config::LINK_BUFFER_BYTES;
use rondo_core::env::{Address, Class, Outbound};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;
use tokio::sync::Notify;

use crate::connection::Ends;
use crate::frame::HEADER_BYTES;
use crate::handshake::Peer;
use crate::link::{End, Link};
use crate::queue::{Pushed, QueueLimits, SendQueue};
use crate::refusal::{Refusal, RefusalCode};
use crate::status::{LinkState, LinkStatus};

/// Why a link to an earlier address ends.
const MOVED: &str = "the peer has another address now";
/// Why a link to an earlier life ends.
pub(crate) const ANEW: &str = "the peer has been started anew";

/// A peer that we dial.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) node: NodeId,
    /// A reason to dial now.
    pub(crate) news: Notify,
    outbox: Mutex<Outbox>,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Outbox {
    /// The protocol version while the link is open.
    open: Option<u8>,
    queue: SendQueue,
    /// What the queue holds, of what all queues may.
    charge: Charge,
    dropped: u64,
    end: Option<End>,
    sleeper: Sleeper,
}

#[derive(Debug)]
struct Record {
    /// For the log.
    name: String,
    address: Address,
    /// The life that counts.
    life: Life,
    state: LinkState,
    peer: Option<Peer>,
    trouble: Option<String>,
    refusal: Option<Refusal>,
    opened: u64,
}

/// A peer that has dialled us.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    ending: Mutex<(Option<End>, Sleeper)>,
    /// Messages that the inbox did not take.
    ignored: AtomicU64,
}

/// The task of a link, while it waits for something to do.
#[derive(Debug, Default)]
struct Sleeper(Option<Waker>);

impl Sleeper {
    fn fall_asleep(&mut self, context: &Context<'_>) {
        if !self.0.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.0 = Some(context.waker().clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

/// A node for people: its name, and its id where names are not enough.
pub(crate) fn named(node: NodeId, name: &str) -> String {
    if name.is_empty() { node.short() } else { format!("{name} ({})", node.short()) }
}

impl Outbox {
    /// Gives back what the queue does not hold any more.
    fn settle(&mut self) {
        self.charge.shrink_to(self.queue.bytes());
    }
}

/// What the frame that is being read of a peer takes of the room for messages, before it is complete.
pub(crate) struct Reading<'a> {
    peer: NodeId,
    inbox: &'a Inbox,
    charge: Charge,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(peer: NodeId, inbox: &'a Inbox) -> Reading<'a> {
        Reading { peer, inbox, charge: inbox.memory().arriving.nothing() }
    }

    fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        if bytes <= self.charge.bytes() {
            return Poll::Ready(());
        }
        let room = self.inbox.poll_room(self.peer, bytes, context);
        if room.is_ready() && bytes > LINK_BUFFER_BYTES {
            self.charge = self.inbox.memory().arriving.force(bytes);
        }
        room
    }

    /// The frame is complete: the inbox charges for it itself.
    fn deliver(&mut self, class: Class, bytes: Bytes) -> bool {
        self.charge.shrink_to(0);
        self.inbox.peer(self.peer, class, bytes)
    }
}

impl Called {
    /// Nothing is known but its name, its address and the life that counts. `leaving`: what all queues of this node may
    /// hold.
    pub(crate) fn new(
        node: NodeId,
        life: Life,
        name: &str,
        address: Address,
        leaving: &Budget,
    ) -> Called {
        Called {
            node,
            news: Notify::new(),
            outbox: Mutex::new(Outbox {
                open: None,
                queue: SendQueue::new(QueueLimits::of(leaving.gauge().max)),
                charge: leaving.nothing(),
                dropped: 0,
                end: None,
                sleeper: Sleeper::default(),
            }),
            record: Mutex::new(Record {
                name: named(node, name),
                address,
                life,
                state: LinkState::Dialling,
                peer: None,
                trouble: None,
                refusal: None,
                opened: 0,
            }),
        }
    }

    /// What the log calls it.
    pub(crate) fn name(&self) -> String {
        self.record().name.clone()
    }

    /// The peer's address, when it is a number.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let address = self.record().address.0.parse::<SocketAddr>();
        address.ok().map(|address| address.ip().to_canonical())
    }

    /// Whether messages can leave.
    pub(crate) fn is_open(&self) -> bool {
        self.outbox().open.is_some()
    }

    /// The protocol of the open link.
    pub(crate) fn protocol(&self) -> Option<u8> {
        self.outbox().open
    }

    /// Queues a message for the open link. `false`: dropped, because there is none, or its queue is full.
    pub(crate) fn send(&self, encode: impl FnOnce(u8) -> Option<Outbound>) -> bool {
        let mut outbox = self.outbox();
        let Some(version) = outbox.open else {
            outbox.dropped += 1;
            return false;
        };
        let Some(message) = encode(version) else {
            return false;
        };
        if !outbox.charge.grow(HEADER_BYTES + message.len()) {
            outbox.dropped += 1;
            return false;
        }
        let pushed = outbox.queue.push(version, &message);
        outbox.settle();
        match pushed {
            Pushed::Queued => {
                outbox.sleeper.wake();
                return true;
            }
            Pushed::Dropped => {}
            Pushed::TooLong => {
                let (node, bytes) = (self.name(), message.len());
                tracing::error!(node, bytes, "message above the limit dropped: nobody can send it");
            }
            Pushed::Absurd => {
                outbox.end = Some(End::Absurd);
                outbox.sleeper.wake();
            }
        }
        outbox.dropped += 1;
        false
    }

    /// The life of the peer that counts.
    pub(crate) fn life(&self) -> Life {
        self.record().life
    }

    /// Whether a link with this life may be. A later one may: its datagrams, which say whether it counts, may still be on
    /// their way. An earlier one, and another process of the same start, runs on a copy of the peer's data directory.
    pub(crate) fn admits(&self, life: Life) -> Result<(), Refusal> {
        let record = self.record();
        let (boot, counts) = (life.boot.0, record.life.boot.0);
        let why = match () {
            () if life == record.life || boot > counts => return Ok(()),
            () if boot == counts => format!("start {boot} of it is another process"),
            () => format!("it is start {boot}, and start {counts} was seen"),
        };
        let text = format!(
            "this process of {} does not count: {why}; its data directory is an older copy, or one of two copies",
            record.name
        );
        Err(Refusal::new(RefusalCode::NotCounted, text))
    }

    /// This life of the peer counts and lives at `address` from now on. Whether the address is new.
    pub(crate) fn on_route(&self, life: Life, name: &str, address: &Address) -> bool {
        let (moved, anew) = {
            let mut record = self.record();
            let moved = record.address != *address;
            let anew = record.peer.as_ref().is_some_and(|peer| peer.life != life);
            record.name = named(self.node, name);
            record.life = life;
            record.address.clone_from(address);
            (moved, anew)
        };
        if moved || anew {
            self.end(End::Ours(if moved { MOVED } else { ANEW }));
            self.news.notify_one();
        }
        moved
    }

    /// Ends the link if it is open.
    pub(crate) fn end(&self, why: End) {
        let mut outbox = self.outbox();
        if outbox.open.is_some() {
            outbox.end = Some(why);
            outbox.sleeper.wake();
        }
    }

    /// Where to dial now.
    pub(crate) fn on_dial(&self) -> Address {
        let mut record = self.record();
        record.state = LinkState::Dialling;
        record.address.clone()
    }

    /// The link to `address` is open, unless the peer has moved meanwhile. Returns how often it has been
    /// opened before.
    pub(crate) fn on_open(&self, address: &Address, peer: &Peer) -> Result<u64, End> {
        let mut record = self.record();
        if record.address != *address {
            return Err(End::Ours(MOVED));
        }
        record.state = LinkState::Open;
        record.peer = Some(peer.clone());
        (record.trouble, record.refusal) = (None, None);
        record.opened += 1;
        let mut outbox = self.outbox();
        outbox.open = Some(peer.protocol);
        outbox.end = None;
        Ok(record.opened - 1)
    }

    /// There is no link: it ended, or did not open. Whether this is new trouble, for the log.
    pub(crate) fn on_trouble(&self, trouble: &str, refusal: Option<&Refusal>) -> bool {
        {
            let mut outbox = self.outbox();
            outbox.open = None;
            outbox.queue.clear();
            outbox.settle();
        }
        let mut record = self.record();
        record.state = LinkState::Waiting;
        record.refusal = refusal.cloned();
        let new = record.trouble.as_deref() != Some(trouble);
        record.trouble = Some(trouble.to_owned());
        new
    }

    pub(crate) fn status(&self, caller: Option<&Caller>) -> LinkStatus {
        let record = self.record();
        let outbox = self.outbox();
        LinkStatus {
            node: self.node,
            address: record.address.clone(),
            state: record.state,
            life: record.peer.as_ref().map(|peer| peer.life),
            protocol: record.peer.as_ref().map(|peer| peer.protocol),
            hears: caller.is_some(),
            ignored: caller.map_or(0, |caller| caller.ignored.load(Ordering::Relaxed)),
            trouble: record.trouble.clone(),
            refusal: record.refusal.clone(),
            queue_bytes: outbox.queue.bytes(),
            dropped: outbox.dropped,
            reconnects: record.opened.saturating_sub(1),
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("no panic while locked")
    }

    /// To be locked before the outbox, where both are needed.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no panic while locked")
    }
}

impl Caller {
    /// Ends the link.
    pub(crate) fn end(&self, why: End) {
        let mut ending = self.ending.lock().expect("no panic while locked");
        ending.0 = Some(why);
        ending.1.wake();
    }
}

/// The ends of the link to a called peer.
pub(crate) struct CalledEnds<'a> {
    pub(crate) called: &'a Called,
    pub(crate) reading: Reading<'a>,
}

impl Ends for CalledEnds<'_> {
    fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        self.reading.poll_room(bytes, context)
    }

    /// Peers answer on links of their own, but nothing forbids a message here.
    fn deliver(&mut self, class: Class, bytes: Bytes) {
        self.reading.deliver(class, bytes);
    }

    fn load(&mut self, link: &mut Link, context: &mut Context<'_>) -> Result<(), End> {
        let mut outbox = self.called.outbox();
        if link.wants_more() {
            link.load(&mut outbox.queue);
            outbox.settle();
        }
        outbox.sleeper.fall_asleep(context);
        outbox.end.take().map_or(Ok(()), Err)
    }
}

/// The ends of the link from a caller.
pub(crate) struct CallerEnds<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) reading: Reading<'a>,
}

impl Ends for CallerEnds<'_> {
    fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        self.reading.poll_room(bytes, context)
    }

    fn deliver(&mut self, class: Class, bytes: Bytes) {
        if !self.reading.deliver(class, bytes) {
            self.caller.ignored.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn load(&mut self, _: &mut Link, context: &mut Context<'_>) -> Result<(), End> {
        let mut ending = self.caller.ending.lock().expect("no panic while locked");
        ending.1.fall_asleep(context);
        ending.0.take().map_or(Ok(()), Err)
    }
}
