//! A node: a member of its cluster, and the shard that keeps and serves its keys.
//!
//! `step` is the only way in: it says which of the two an input is for. Each changes its own state and hands effects to
//! the `Env`. What is true of the node as a whole is in `cluster`; everything about a key is in the `Shard`.
//!
//! Invariants: a message about a key is looked at only under the same layout (the fence); nothing that promises
//! durability is sent before the write it speaks of is durable; after an error `step` is not called again, except to
//! `abandon` what is in flight.

mod cluster;

mod meeting;

mod detection;

mod picture;

mod comparing;

mod admin;

use self::cluster::Cluster;
use self::detection::Detection;
use crate::config::{NodeConfig, STOP_MS_MAX};
use crate::engine::Engine;
use crate::env::{Address, Mono};
use crate::error::Result;
use crate::id::NodeId;
use crate::layout::live::Origin;
use crate::request::operation::Asker;
use crate::shard::Shard;
use crate::sometimes;
use crate::step::{Env, Input};
use crate::wire::message::{Envelope, Message};
use crate::wire::transfer::TransferMessage;

/// How long a node that stops still refuses what peers ask of it, before their goodbyes have reached everybody, in
/// milliseconds: what is only dropped would be waited for.
const GOODBYE_MS: u64 = 200;

/// One node.
#[derive(Debug)]
pub struct Node {
    cluster: Cluster,
    detection: Detection,
    shard: Shard,
    started: Mono,
    stop_by: Option<Mono>,
    /// Until when a node that stops stays to refuse.
    stays_until: Mono,
}

/// The machines that a step may change. Of the others nothing is asked again behind it.
#[derive(Clone, Copy)]
struct Touched {
    cluster: bool,
    detection: bool,
    shard: bool,
}

impl Touched {
    const ALL: Touched = Touched { cluster: true, detection: true, shard: true };

    const fn by(input: &Input) -> Touched {
        let (cluster, detection, shard) = match input {
            Input::Request(..) | Input::Synced(..) | Input::ReadDone(..) => (false, false, true),
            Input::Peer(_, Envelope { message: Message::Swim(_), .. }) => (true, true, false),
            Input::Peer(..) | Input::Gossip(_) => (true, false, true),
            Input::Foreign(..) | Input::Malformed => (true, false, false),
            Input::Swim(_) => (false, true, false),
            // A tick says itself what was due.
            Input::Tick => (false, false, true),
            Input::Stop => return Touched::ALL,
        };
        Touched { cluster, detection, shard }
    }
}

impl Node {
    /// A node on an open store. Reads its own records from `engine`.
    pub fn new(config: &NodeConfig, engine: &mut dyn Engine, now: Mono) -> Result<Node> {
        Ok(Node {
            cluster: Cluster::load(config, engine)?,
            detection: Detection::new(config, now),
            shard: Shard::load(config, engine, now)?,
            started: now,
            stop_by: None,
            stays_until: now,
        })
    }

    /// One input. `Err`: the disk failed, and the node must stop.
    pub fn step(&mut self, input: Input, env: &mut impl Env) -> Result<()> {
        self.cluster.members.look_at_clock(env);
        if matches!(input, Input::Tick) && !self.is_due(env.mono()) {
            // Whoever runs a node ticks it behind every batch of inputs, and mostly nothing is due then.
            self.cluster.members.look_at_links(env);
            return Ok(());
        }
        let mut touched = Touched::by(&input);
        let Node { cluster, detection, shard, .. } = self;
        match input {
            Input::Request(tag, request) => {
                shard.begin(Asker::Client(tag), request, cluster.view(), env)?;
            }
            Input::Peer(from, envelope) => self.on_envelope(from, envelope, env)?,
            Input::Gossip(gossip) => {
                if cluster.on_gossip(gossip, env)? {
                    shard.abandon(cluster.view(), env);
                }
                let now = env.mono();
                shard.trust(cluster.members.peers_wall(now), now);
            }
            Input::Foreign(from, gossip) => cluster.on_foreign(from, gossip, env),
            Input::Swim(datagram) => detection.on_datagram(datagram, cluster, env),
            Input::Malformed => cluster.unheard.malformed += 1,
            Input::Synced(id, result) => shard.on_synced(id, result, env)?,
            Input::ReadDone(id, result) => shard.on_read_done(id, result, cluster.view(), env)?,
            Input::Tick => touched = self.tick(env)?,
            Input::Stop => self.stop(env),
        }
        self.shard.settle(self.cluster.view(), env)?;
        if env.probed() {
            self.invariants_of(touched);
            env.engine().invariants();
        }
        Ok(())
    }

    /// When `Input::Tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let detection = self.detection.next_deadline(&self.cluster);
        self.cluster.members.next_deadline().min(self.shard.next_deadline()).min(detection)
    }

    /// Whether a tick has something to do now.
    fn is_due(&self, now: Mono) -> bool {
        now >= self.next_deadline() || self.shard.is_behind(self.cluster.rows.live())
    }

    /// Whether the node was asked to stop and has nothing more to wait for.
    #[must_use]
    pub fn stopped(&self, now: Mono) -> bool {
        let idle = self.shard.is_idle() && now >= self.stays_until;
        self.stop_by.is_some_and(|by| idle || now >= by)
    }

    /// Answers whatever is in flight with what is known of it, because the node stops now.
    pub fn abandon(&mut self, env: &mut impl Env) {
        self.shard.abandon(self.cluster.view(), env);
    }

    /// The last thing before the store is closed. `Err`: it must not be marked as closed cleanly.
    pub fn settle_store(&mut self, engine: &mut dyn Engine) -> Result<()> {
        self.shard.settle_store(engine)
    }

    /// One more address to meet nodes at.
    pub fn add_seed(&mut self, seed: Address) {
        self.cluster.members.add_seed(seed);
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        self.invariants_of(Touched::ALL);
    }

    fn invariants_of(&self, touched: Touched) {
        if touched.cluster {
            self.cluster.invariants();
        }
        if touched.detection {
            self.detection.invariants();
        }
        if touched.shard {
            self.shard.invariants();
        }
    }

    fn on_envelope(&mut self, from: NodeId, envelope: Envelope, env: &mut impl Env) -> Result<()> {
        let Envelope { life, durable, message } = envelope;
        let Node { cluster, detection, shard, .. } = self;
        if !cluster.hears(from, (life, durable), env) {
            return Ok(());
        }
        if let Some(op) = message.passes_on()
            && !shard.takes_on(from, op, env)
        {
            return Ok(());
        }
        cluster.members.note_message(from, env.mono());
        cluster.learn_from(&message, env.engine().durable());
        take_up_layouts(cluster, shard, env)?;
        if let Some(why) = cluster.fence(&message, env) {
            cluster.turn_away(from, &message, why, env);
            return Ok(());
        }
        match message {
            Message::Key(message) => shard.on_key(from, message, cluster.view(), env),
            Message::Forward(message) => shard.on_forward(from, message, cluster.view(), env),
            Message::Transfer(message) => {
                match &message {
                    TransferMessage::Ask { .. } => {
                        cluster.give_away(shard.facts().oldest_under);
                    }
                    TransferMessage::Answer { .. } => {}
                }
                shard.on_transfer(from, message, cluster.view(), env)
            }
            Message::Repair(message) => shard.on_repair(from, message, cluster.view(), env),
            Message::Layout(message) => {
                cluster.on_layout(from, message, env)?;
                take_up_layouts(cluster, shard, env)
            }
            Message::Swim(exchange) => {
                detection.on_exchange(from, exchange, env);
                Ok(())
            }
        }
    }

    /// Does what is due. What that may have changed.
    fn tick(&mut self, env: &mut impl Env) -> Result<Touched> {
        let Node { cluster, detection, shard, .. } = self;
        let now = env.mono();
        let detects = now >= detection.next_deadline(cluster);
        let beats = now >= cluster.members.next_deadline();
        cluster.members.look_at_links(env);
        detection.tick(cluster, env);
        shard.tick_requests(cluster.view(), env)?;
        if beats {
            shard.trust(cluster.members.peers_wall(now), now);
            let dropped = cluster.tick_layouts(shard.facts(), env)?;
            if let Some(newest) = cluster.rows.newest().filter(|_| dropped) {
                shard.retake(newest, env.engine())?;
            }
            take_up_layouts(cluster, shard, env)?;
            let given_up = cluster.given_up(now);
            if !given_up.is_empty() {
                shard.give_up(|node| given_up.contains(&node), env.engine())?;
            }
            cluster.tick(env)?;
            cluster.waits_for(env.engine().durable()).for_each(|lsn| shard.wait_for(lsn));
        }
        shard.maintain(cluster.view(), env)?;
        shard.settle(cluster.view(), env)?;
        shard.start_sync(env)?;
        Ok(Touched { cluster: detects || beats, detection: detects, shard: true })
    }

    fn stop(&mut self, env: &mut impl Env) {
        let now = env.mono();
        self.shard.stop(env);
        self.stop_by = Some(now.plus_ms(STOP_MS_MAX));
        let members = self.cluster.rows.members();
        self.detection.leave(members.is_empty() || members.contains(&self.cluster.me), env);
        if self.cluster.leave(env) {
            self.stays_until = now.plus_ms(GOODBYE_MS);
        }
    }
}

/// Serves under the layouts that are known to be live now. What is missing here of the units that they bring is noted first.
fn take_up_layouts(cluster: &mut Cluster, shard: &mut Shard, env: &mut impl Env) -> Result<()> {
    while let Some((origin, live)) = cluster.rows.to_make_live() {
        match origin {
            Origin::Founding => shard.adopt(None, &live.layout, env.engine())?,
            Origin::After(before) => shard.adopt(Some(before), &live.layout, env.engine())?,
            Origin::Unknown => shard.recover(&live.layout, env.engine())?,
        }
        if !cluster.rows.make_live(env.engine())? {
            break;
        }
        sometimes!(env, LayoutTakenUp);
    }
    Ok(())
}
