//! The product's links on simulated streams: what a node's life gives to `rondo_net`, and what comes out of it.
//!
//! Everything from the handshake to the reconnect is the product's own code. What is ours is the runtime: streams that the
//! world owns (`streams`), the node's own wrong clock, and tasks that run within the node's one future (`executor`). What the links
//! deliver passes through one task that writes it down before the node gets it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll};

use bytes::Bytes;
use rondo_core::env::{Address, Class, Clock as _, Mono};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::{Arrival, Inbox, InboxReader};
use rondo_net::handshake::{Identity, PROTOCOL};
use rondo_net::link::Pace;
use rondo_net::links::{Links, Terms};
use rondo_net::runtime::{Alarm, Runtime, Task};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use xxhash_rust::xxh3::xxh3_64;

use crate::carry::executor::{Executor, Spawned};
use crate::carry::ledger;
use crate::carry::streams::{Name, Side};
use crate::device::clock::SkewedClock;
use crate::history::Carried;
use crate::rt;
use crate::watch::describe;
use crate::world::{Event, Shared, World};

/// How long connecting may take, in milliseconds: what the product takes.
const HANDSHAKE_MS: u64 = 1_500;
/// The port of all nodes.
const PORT: u16 = 7_000;

/// What one life of a node stands on.
#[derive(Clone)]
pub struct WireRuntime {
    shared: Shared,
    node: u32,
    clock: SkewedClock,
    executor: Executor,
}

/// Who a node is in one life.
pub struct Who {
    /// The node.
    pub node: u32,
    /// Its name among its peers.
    pub id: NodeId,
    /// Its life.
    pub life: Life,
    /// The cluster.
    pub cluster: String,
    /// What the cluster shares.
    pub secret: Vec<u8>,
    /// Random bytes, for nonces.
    pub seed: [u8; 32],
}

/// The links of one life.
pub struct Wire {
    /// The product's links.
    pub links: Links<WireRuntime>,
    _forward: Spawned,
}

impl Wire {
    /// Starts the links of a life. `world` is the one that `shared` holds. What arrives goes into `inbox`.
    pub fn start(
        shared: &Shared,
        world: &mut World,
        who: Who,
        executor: &Executor,
        inbox: Inbox,
    ) -> Wire {
        let node = who.node;
        world.carry.streams.listen(node);
        let clock = world.nodes[node as usize].clock.clone();
        let runtime =
            WireRuntime { shared: shared.clone(), node, clock, executor: executor.clone() };
        let cluster = &world.scenario.cluster;
        let terms = Terms {
            me: Identity {
                cluster: who.cluster,
                node: who.id,
                life: who.life,
                secret: Some(who.secret),
                protocol: PROTOCOL,
            },
            pace: Pace { heartbeat_ms: cluster.heartbeat_ms, silence_ms: cluster.dead_ms },
            handshake_ms: HANDSHAKE_MS,
        };
        let (arrived, reader) = Inbox::new(inbox.memory().clone());
        let links = Links::start(runtime, (), terms, arrived, who.seed);
        let forward = executor.spawn(forward(shared.clone(), node, reader, inbox));
        Wire { links, _forward: forward }
    }
}

/// A message is handed to the links.
pub fn handed_over(world: &mut World, link: (u32, u32), class: Class, bytes: &[u8]) {
    let hash = xxh3_64(bytes);
    world.carry.net.counts.sent += 1;
    world.carry.net.counts.bytes += bytes.len() as u64;
    let life = world.nodes[link.0 as usize].lives;
    world.carry.ledger.sent(link, life, ledger::Sent { hash, class, at: rt::now() });
    let carried = Carried { stamp: world.last(), link, life, hash, has_arrived: false };
    world.history.carried.push(carried);
}

/// Takes what the links deliver, writes it down, and gives it to the node.
async fn forward(shared: Shared, node: u32, mut reader: InboxReader, inbox: Inbox) {
    let mut batch = Vec::new();
    loop {
        poll_fn(|context| reader.poll_batch(context, &mut batch, usize::MAX)).await;
        for arrival in batch.drain(..) {
            if let Arrival::Peer(id, bytes) = arrival {
                let class = arrived(&mut shared.lock(), id, node, &bytes);
                inbox.peer(id, class, bytes);
            }
        }
    }
}

/// A message has come out of the links; answers of which class it is.
fn arrived(world: &mut World, id: NodeId, to: u32, bytes: &Bytes) -> Class {
    let hash = xxh3_64(bytes);
    // A node and its clone have one id. What came from nobody who has ever had it is for the oracle to find.
    let hosts = world.ids.get(&id).cloned().unwrap_or_default();
    let found =
        hosts.iter().find_map(|&from| Some((from, world.carry.ledger.arrived((from, to), hash)?)));
    let from = found.map(|(from, _)| from).or(hosts.first().copied()).unwrap_or(u32::MAX);
    let (link, found) = ((from, to), found.map(|(_, sent)| sent));
    let (life, sent) = found.unzip();
    world.carry.net.counts.delivered += 1;
    if let Some(sent) = sent {
        world.trace_arrived(link, sent.at, bytes);
    }
    let stamp = world
        .note("message", to, bytes, || format!("from n{}: {}", link.0, describe::message(bytes)));
    let life = life.unwrap_or_default();
    world.history.carried.push(Carried { stamp, link, life, hash, has_arrived: true });
    sent.map_or(Class::Request, |sent| sent.class)
}

impl Runtime for WireRuntime {
    type Stream = WireStream;
    type Listener = ();
    type Alarm = WireAlarm;
    type Task = Spawned;

    fn now(&self) -> Mono {
        self.clock.mono()
    }

    fn alarm(&self, at: Mono) -> WireAlarm {
        let name = self.shared.lock().carry.alarms.name();
        WireAlarm { shared: self.shared.clone(), clock: self.clock.clone(), name, at }
    }

    async fn connect(&self, to: &Address) -> io::Result<WireStream> {
        let to = self.shared.lock().at(to).ok_or(io::ErrorKind::ConnectionRefused)?;
        let name = self.shared.lock().stream(|streams, luck| streams.dial(luck, self.node, to));
        let stream = WireStream { shared: self.shared.clone(), name, side: 0 };
        poll_fn(|context| self.shared.lock().carry.streams.poll_open(name, context.waker()))
            .await?;
        Ok(stream)
    }

    async fn accept(&self, (): &mut ()) -> io::Result<(WireStream, SocketAddr)> {
        let accept = |context: &mut Context<'_>| {
            self.shared.lock().carry.streams.poll_accept(self.node, context.waker())
        };
        let connected = poll_fn(accept).await;
        let stream = WireStream { shared: self.shared.clone(), name: connected.name, side: 1 };
        Ok((stream, SocketAddr::from(([10, 0, 0, connected.from as u8 + 1], PORT))))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Spawned {
        self.executor.spawn(task)
    }
}

impl Task for Spawned {
    fn is_over(&self) -> bool {
        self.has_ended()
    }
}

/// Rings by the clock of its node.
pub struct WireAlarm {
    shared: Shared,
    clock: SkewedClock,
    name: u64,
    at: Mono,
}

impl Future for WireAlarm {
    type Output = ();

    /// A clock that has slowed down meanwhile is waited for again.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut world = self.shared.lock();
        if self.clock.mono() >= self.at {
            world.carry.alarms.forget(self.name);
            return Poll::Ready(());
        }
        let (alarm, at) = (self.name, self.clock.global_of(self.at));
        if world.carry.alarms.set(alarm, at, context.waker().clone()) {
            world.agenda.push(at, Event::Ring { alarm, at });
        }
        Poll::Pending
    }
}

impl Alarm for WireAlarm {
    fn reset(&mut self, at: Mono) {
        self.at = at;
    }
}

impl Drop for WireAlarm {
    fn drop(&mut self) {
        if let Some(mut world) = self.shared.unless_held() {
            world.carry.alarms.forget(self.name);
        }
    }
}

/// One side of a connection.
pub struct WireStream {
    shared: Shared,
    name: Name,
    side: Side,
}

impl WireStream {
    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.lock()
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (at, room) = ((self.name, self.side), buffer.remaining());
        let mut world = self.world();
        let read = world.stream(|streams, luck| streams.read(luck, at, room, context.waker()));
        read.map_ok(|bytes| buffer.put_slice(&bytes))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let at = (self.name, self.side);
        let mut world = self.world();
        world.stream(|streams, luck| streams.write(luck, at, bytes, context.waker()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(context, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (name, side) = (self.name, self.side);
        self.world().stream(|streams, luck| streams.shut(luck, name, side));
        Poll::Ready(Ok(()))
    }
}

impl Drop for WireStream {
    /// Whoever kills the process closes its streams too.
    fn drop(&mut self) {
        let (name, side) = (self.name, self.side);
        if let Some(mut world) = self.shared.unless_held() {
            world.stream(|streams, luck| streams.close(luck, name, side));
        }
    }
}
