//! A node's way out: what it sends goes to the simulated network, or into the product's links.
//!
//! A port belongs to one life of its node. What a life sends that is over goes nowhere.

use std::sync::Arc;

use bytes::Bytes;
use rondo_core::env::{Address, Class, Network, Outbound, PROTOCOL_NEWEST};
use rondo_core::id::{Life, NodeId};
use rondo_core::probe::{Buggify, Probe, Sight, Sometimes, Watch};
use rondo_net::links::Links;

use crate::carry::net::Sent;
use crate::fault::{Said, Trigger};
use crate::node::wire::{self, WireRuntime};
use crate::rt;
use crate::watch::describe;
use crate::world::{Event, Shared, World};
use crate::world::{views, witness};

/// One life's way out.
pub struct Port {
    /// The world.
    pub shared: Shared,
    /// Whose it is.
    pub node: u32,
    /// The life that it belongs to.
    pub epoch: u32,
    /// Who decides about rare paths.
    pub watch: Arc<dyn Watch>,
    /// The product's links, where these carry the messages.
    pub links: Option<Links<WireRuntime>>,
}

impl Probe for Port {
    const PROBED: bool = true;

    fn fires(&self, site: Buggify) -> bool {
        self.watch.fires(site)
    }

    fn met(&self, site: Sometimes) {
        self.watch.met(site);
    }

    fn sees(&self, sight: Sight) {
        let mut world = self.shared.lock();
        if self.lives(&world) {
            views::sees(&mut world, self.node, sight);
        }
    }
}

impl Port {
    /// Hands bytes to the network, and whatever arrives to the agenda.
    ///
    /// Copies are made on one connection, which does not outlive its receiver's process: so both are for the life that
    /// the receiver has now. A single message may wait for the next connection.
    fn carry(
        &self,
        world: &mut World,
        to: u32,
        said: impl Fn() -> Said,
        bytes: usize,
        event: impl Fn(Option<u32>) -> Event,
    ) {
        let link = (self.node, to);
        let said = (world.carry.listens || world.carry.net.listens()).then(said);
        let arrivals =
            world.carry.net.send(&mut world.dice, Sent { at: rt::now(), link, bytes, said });
        world.trace_sent(link, &arrivals, || event(None));
        let life = (arrivals.len() > 1).then_some(world.nodes[to as usize].process.epoch);
        for at in arrivals {
            world.agenda.push(at, event(life));
        }
        count(world, link, said);
    }

    /// Hands a message to the product's links.
    fn hand_over(&self, world: &mut World, to: u32, class: Class, bytes: &Bytes) {
        let link = (self.node, to);
        wire::handed_over(world, link, class, bytes);
        let said =
            (world.carry.listens || world.carry.net.listens()).then(|| describe::said(bytes));
        if let Some(until) = said.and_then(|said| world.carry.net.holds(link, said)) {
            world.carry.streams.hold(link, until);
        }
        count(world, link, said);
    }

    /// A datagram as it arrives: with a flipped bit where a fault says so.
    fn corrupted(&self, world: &mut World, to: u32, bytes: Bytes) -> Bytes {
        let link = (self.node, to);
        let Some(bit) = world.carry.net.corrupts(&mut world.dice, link, bytes.len()) else {
            return bytes;
        };
        let mut bytes = bytes.to_vec();
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    }

    /// The way to a node, when nobody else listens at its address.
    fn route_to(&self, world: &World, peer: NodeId) -> Option<u32> {
        let routes = &world.nodes[self.node as usize].process.routes;
        let (to, address) = routes.get(&peer)?;
        let machine = &world.nodes[*to as usize];
        let is_there = || machine.address == *address && machine.data.id == Some(peer);
        // Links dial there, and find out.
        (self.links.is_some() || is_there()).then_some(*to)
    }

    /// Whether the life that this port belongs to goes on.
    fn lives(&self, world: &World) -> bool {
        world.nodes[self.node as usize].process.epoch == self.epoch
    }
}

/// Counts a message of a kind, where some fault waits for one.
fn count(world: &mut World, (from, to): (u32, u32), said: Option<Said>) {
    if let Some(kind) = said.filter(|_| world.carry.listens) {
        let n = world.carry.messages.entry((kind, from, to)).or_default();
        *n += 1;
        let is_it = Trigger::OnMessage { kind, from, to, n: *n };
        world.trigger(|when| when == is_it);
    }
}

impl Network for Port {
    fn send(&self, peer: NodeId, encode: impl FnOnce(u8) -> Option<Outbound>) -> bool {
        let to = {
            let world = self.shared.lock();
            self.route_to(&world, peer).filter(|_| self.lives(&world))
        };
        let Some(to) = to else {
            return false;
        };
        let protocol = self.links.as_ref().map_or(PROTOCOL_NEWEST, |links| links.protocol(peer));
        let Some(message) = encode(protocol) else {
            return false;
        };
        let bytes = Bytes::from(message.parts.concat());
        let mut world = self.shared.lock();
        witness::answers(&mut world, (self.node, to), &bytes);
        if let Some(links) = &self.links {
            self.hand_over(&mut world, to, message.class, &bytes);
            drop(world);
            return links.send(peer, |_| Some(message));
        }
        if world.carry.net.refuses((self.node, to)) {
            world.carry.net.counts.cut += 1;
            return false;
        }
        let class = message.class;
        let from = self.node;
        let said = || describe::said(&bytes);
        self.carry(&mut world, to, said, bytes.len(), |life| {
            let bytes = bytes.clone();
            Event::Deliver { from, to, life, class, bytes }
        });
        true
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        if let Some(links) = &self.links {
            return links.is_connected(peer);
        }
        let world = self.shared.lock();
        let to = self.route_to(&world, peer);
        let refused = |to| {
            world.carry.net.refuses((self.node, to)) || world.carry.net.refuses((to, self.node))
        };
        to.is_some_and(|to| !refused(to))
    }

    fn datagram(&self, to: &Address, bytes: Bytes) {
        let mut world = self.shared.lock();
        let Some(to) = world.at(to).filter(|_| self.lives(&world)) else {
            return;
        };
        let from = self.node;
        let bytes = self.corrupted(&mut world, to, bytes);
        let event = |_| Event::Datagram { from, to, bytes: bytes.clone() };
        self.carry(&mut world, to, || Said::Datagram, bytes.len(), event);
    }

    fn route(&self, node: NodeId, life: Life, name: &str, address: &Address) {
        if let Some(to) = World::once_at(address) {
            let routes = &mut self.shared.lock().nodes[self.node as usize].process.routes;
            routes.insert(node, (to, address.clone()));
            if let Some(links) = &self.links {
                links.route(node, life, name, address);
            }
        }
    }
}
