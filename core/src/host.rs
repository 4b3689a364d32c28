//! The loop that runs a node: the only async code of this crate, over the traits of `env`.
//!
//! The order contract, which everything that promises durability rests on:
//! 1. Take a batch of inputs: ends of disk work, then peers, then clients.
//! 2. Step each. State changes and engine writes become visible to this node, and to peers only as `Merge`.
//! 3. Hand the sync (an fsync) to the disk; other inputs go on meanwhile.
//! 4. When it ends, release the replies and acknowledgements that depend on it.
//! 5. A failed fsync releases nothing: what is held becomes `Indeterminate`, and the node stops. It is never tried again.
//!
//! One wait for everything: the inbox or the node's next deadline, whichever is first. Timers are data in the node.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::budget::Memory;
use crate::buggify;
use crate::config::NodeConfig;
use crate::engine::Engine;
use crate::env::{Address, Class, Clock, DiskDone, Mono, Network, Wall};
use crate::error::Result;
use crate::id::{ClientTag, Life, Lsn, NodeId};
use crate::inbox::{Arrival, Ask, InboxReader, ReplySink};
use crate::node::Node;
use crate::probe::{Buggify, Probe, Sight, Sometimes};
use crate::sometimes;
use crate::step::{Env, Input};
use crate::wire::client::Reply;
use crate::wire::frame::Generation;
use crate::wire::member::{Gossip, Key};
use crate::wire::member::{decode_foreign_gossip, decode_gossip, encode_gossip};
use crate::wire::message;
use crate::wire::message::Envelope;
use crate::wire::swim::{Datagram, decode_datagram, encode_datagram, is_datagram};

/// How many inputs are stepped before the sync is started and time is looked at again.
const BATCH_MAX: usize = 1024;
/// How late an alarm may ring in the simulator, in milliseconds.
const LATE_MS: u64 = 20;

/// Everything a node runs on.
pub struct Parts<C: Clock, N: Network> {
    /// What differs from node to node.
    pub config: NodeConfig,
    /// The cluster's secret, or the cluster's name where there is none: the key of all codes.
    pub secret: Vec<u8>,
    /// The open store.
    pub engine: Box<dyn Engine>,
    /// Time.
    pub clock: C,
    /// The way to other nodes.
    pub network: N,
    /// Where all randomness of the node comes from.
    pub seed: [u8; 32],
    /// The way in.
    pub inbox: InboxReader,
}

/// How a node that was told to stop has ended: without a failure, its engine closed, and nothing lost that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everything is durable, up to this last write: the store may be marked as closed cleanly.
    Whole(Lsn),
    /// There was no room on the disk for the last writes, which nobody was promised. The store must not be marked: the next start
    /// is one as after a power loss.
    NoRoom,
}

/// Runs a node until its inbox is told to stop, and then until everything is durable, as far as there is room, and closed.
/// `Err`: the disk failed, and the node stopped at once, answering what was in flight with what it knew.
pub async fn run<C: Clock, N: Network>(parts: Parts<C, N>) -> Result<Ended> {
    let Parts { config, secret, mut engine, clock, network, seed, inbox } = parts;
    let node = Node::new(&config, engine.as_mut(), clock.mono())?;
    let world = World {
        engine,
        network,
        key: Key::new(&secret),
        memory: inbox.memory().clone(),
        rng: ChaCha12Rng::from_seed(seed),
        mono: clock.mono(),
        wall: clock.wall(),
        sinks: BTreeMap::new(),
        tags: 0,
    };
    Host { node, world, clock, inbox }.run().await
}

struct Host<C: Clock, N: Network> {
    node: Node,
    world: World<N>,
    clock: C,
    inbox: InboxReader,
}

impl<C: Clock, N: Network> Host<C, N> {
    async fn run(mut self) -> Result<Ended> {
        let clock = &self.clock;
        let mut batch = Vec::new();
        let mut alarm_time = self.node.next_deadline();
        let mut alarm = Box::pin(clock.sleep_until(alarm_time));
        let mut rang = false;
        loop {
            let due = self.node.next_deadline();
            let deadline = if buggify!(self.world, AlarmEarly) { Mono(0) } else { due };
            // An alarm that rings early is harmless; setting it again for every input is not.
            if rang || deadline < alarm_time {
                let late_ms = if buggify!(self.world, AlarmLate) { LATE_MS } else { 0 };
                let deadline = deadline.plus_ms(late_ms);
                alarm_time = deadline;
                alarm = Box::pin(clock.sleep_until(deadline));
            }
            let limit = if buggify!(self.world, InboxBatchOfOne) { 1 } else { BATCH_MAX };
            let inbox = &mut self.inbox;
            let arrived = |context: &mut Context<'_>| {
                arrivals(inbox, alarm.as_mut(), &mut batch, limit, context)
            };
            rang = poll_fn(arrived).await;
            self.world.look_at(clock);
            let early = rang && self.world.mono < due;
            sometimes!(self.world, AlarmRangWithNothingDue, early);
            sometimes!(self.world, BatchEndedFull, batch.len() == limit);
            let outcome = batch
                .drain(..)
                .try_for_each(|arrival| take(arrival, &mut self.node, &mut self.world))
                .and_then(|()| {
                    if buggify!(self.world, TickSkipped) {
                        return Ok(());
                    }
                    self.node.step(Input::Tick, &mut self.world)
                });
            if let Err(error) = outcome {
                self.node.abandon(&mut self.world);
                return Err(error);
            }
            if self.node.stopped(self.world.mono) {
                self.node.abandon(&mut self.world);
                let engine = self.world.engine.as_mut();
                return close(self.node.settle_store(engine), engine);
            }
        }
    }
}

/// Closes the engine, after the node has settled it. A full disk is no reason to fail: what it has no room for was never
/// promised (<https://github.com/basho/riak/issues/282>).
fn close(settled: Result<()>, engine: &mut dyn Engine) -> Result<Ended> {
    let is_settled = has_room(settled)?;
    let is_closed = has_room(engine.close())?;
    let whole = Ended::Whole(engine.durable());
    Ok(if is_settled && is_closed { whole } else { Ended::NoRoom })
}

/// Whether it was done, and not refused for want of room.
fn has_room(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_refusal() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ready with a batch, or when the alarm rings: then `true`.
fn arrivals(
    inbox: &mut InboxReader,
    alarm: Pin<&mut impl Future<Output = ()>>,
    batch: &mut Vec<Arrival>,
    limit: usize,
    context: &mut Context<'_>,
) -> Poll<bool> {
    match inbox.poll_batch(context, batch, limit) {
        Poll::Ready(()) => Poll::Ready(false),
        Poll::Pending => alarm.poll(context).map(|()| true),
    }
}

/// Turns an arrival into a step.
fn take<N: Network>(arrival: Arrival, node: &mut Node, world: &mut World<N>) -> Result<()> {
    let input = match arrival {
        Arrival::Peer(..) if buggify!(world, MessageMalformed) => Input::Malformed,
        Arrival::Peer(from, bytes) => {
            message::decode(&bytes).map_or(Input::Malformed, |envelope| Input::Peer(from, envelope))
        }
        Arrival::Datagram(..) if buggify!(world, GossipMalformed) => Input::Malformed,
        Arrival::Datagram(_, bytes) if is_datagram(&bytes) => {
            decode_datagram(&bytes, &world.key).map_or(Input::Malformed, Input::Swim)
        }
        Arrival::Datagram(from, bytes) => match decode_gossip(&bytes, &world.key) {
            Ok(gossip) => Input::Gossip(gossip),
            Err(_) => decode_foreign_gossip(&bytes)
                .map_or(Input::Malformed, |gossip| Input::Foreign(from, gossip)),
        },
        Arrival::Disk(DiskDone::Synced { id, result }) => Input::Synced(id, result),
        Arrival::Disk(DiskDone::Read { id, result }) => Input::ReadDone(id, result),
        Arrival::Client(Ask::Request(request, sink)) if buggify!(world, ClientLaneFull) => {
            let refusal = Reply::overloaded("too many requests wait");
            sink.reply(request.refused(refusal));
            return Ok(());
        }
        Arrival::Client(Ask::Request(request, sink)) => {
            world.tags += 1;
            world.sinks.insert(world.tags, sink);
            Input::Request(ClientTag(world.tags), request)
        }
        Arrival::Client(Ask::Status(sink)) => {
            let mut status = node.status(world.mono, world.engine.as_ref());
            status.memory.at_the_rim(&world.memory);
            sink(status);
            return Ok(());
        }
        Arrival::Client(Ask::Admin(request, sink)) => {
            sink(node.admin(request, world)?);
            return Ok(());
        }
        Arrival::Seed(address) => {
            node.add_seed(address);
            return Ok(());
        }
        Arrival::Stop => Input::Stop,
    };
    node.step(input, world)
}

/// What a node's steps act on.
struct World<N: Network> {
    engine: Box<dyn Engine>,
    network: N,
    key: Key,
    memory: Memory,
    rng: ChaCha12Rng,
    mono: Mono,
    wall: Wall,
    sinks: BTreeMap<u64, Box<dyn ReplySink>>,
    tags: u64,
}

impl<N: Network> World<N> {
    fn look_at(&mut self, clock: &impl Clock) {
        self.mono = clock.mono();
        self.wall = clock.wall();
    }

    /// Sends a datagram.
    fn carry(&self, to: &Address, bytes: &Bytes) {
        if buggify!(self, DatagramDropped) {
            return;
        }
        if buggify!(self, DatagramSentTwice) {
            self.network.datagram(to, bytes.clone());
        }
        self.network.datagram(to, bytes.clone());
    }
}

impl<N: Network> Probe for World<N> {
    const PROBED: bool = N::PROBED;

    fn fires(&self, site: Buggify) -> bool {
        self.network.fires(site)
    }

    fn met(&self, site: Sometimes) {
        self.network.met(site);
    }

    fn sees(&self, sight: Sight) {
        self.network.sees(sight);
    }
}

impl<N: Network> Env for World<N> {
    fn mono(&self) -> Mono {
        self.mono
    }

    fn wall(&self) -> Wall {
        self.wall
    }

    fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn engine(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    fn send(&mut self, to: NodeId, envelope: Envelope) -> bool {
        if buggify!(self, MessageDropped) {
            return true;
        }
        let encode = |protocol| message::encode(&envelope, Generation::of_protocol(protocol));
        // Only of what may arrive twice: a request that is passed on must not outlive its connection.
        if envelope.message.class() == Class::Reply && buggify!(self, ReplySentTwice) {
            self.network.send(to, encode);
        }
        self.network.send(to, encode)
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.network.is_connected(node)
    }

    fn datagram(&mut self, to: &Address, gossip: &Gossip) {
        self.datagrams(&[to], gossip);
    }

    fn datagrams(&mut self, to: &[&Address], gossip: &Gossip) {
        // The code that proves the cluster's secret costs more than all else: it is made once for all of them.
        let bytes = encode_gossip(gossip, &self.key);
        to.iter().for_each(|to| self.carry(to, &bytes));
    }

    fn swim(&mut self, to: &Address, datagram: &Datagram) {
        if let Some(bytes) = encode_datagram(datagram, &self.key) {
            self.carry(to, &bytes);
        }
    }

    fn route(&mut self, node: NodeId, life: Life, name: &str, address: &Address) {
        self.network.route(node, life, name, address);
    }

    fn reply(&mut self, client: ClientTag, reply: Reply) {
        if let Some(sink) = self.sinks.remove(&client.0) {
            sink.reply(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::engine::MemoryEngine;
    use crate::error::Error;

    #[test]
    fn a_store_that_could_not_be_settled_for_want_of_room_is_closed_and_not_called_whole() {
        let ended = |settled| close(settled, &mut MemoryEngine::new());
        assert_eq!(ended(Ok(())).unwrap(), Ended::Whole(Lsn(0)));
        assert_eq!(ended(Err(Error::Full("no room"))).unwrap(), Ended::NoRoom);
        let failed = Error::Disk(io::Error::other("no"));
        assert!(
            matches!(ended(Err(failed)), Err(Error::Disk(_))),
            "the next start looks at the store"
        );
    }
}
