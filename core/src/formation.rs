//! How the first layout comes to be, and how a node knows that it counts.
//!
//! Nodes that are to form a cluster of `expect` members wait until exactly that many, all expecting the same, hear
//! each other. Then the one with the smallest id writes layout 1 and offers it; each member endorses one
//! layout, durably, and never another. The layout is *live*, and serves requests, once all its members have endorsed it.
//! That a layout is live is remembered on disk, since later not all members need be up.
//!
//! Invariants: at most one layout is endorsed in the life of a data directory; an unreadable layout never leads to
//! a new one (<https://github.com/basho/riak_core/issues/166>): the node waits for its peers' copy.
//! A node with seeds never forms a layout alone.
//! Left out: layouts after the first; a node that is not in layout 1 is refused, with a message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::buggify;
use crate::config::NodeConfig;
use crate::engine::{Batch, Change, Engine};
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{Life, Lsn, NodeId};
use crate::layout::keyspace::Keyspace;
use crate::layout::live::{LayoutSet, LiveLayout};
use crate::layout::{Layout, LayoutRef, Quorums, Role};
use crate::member::membership::Membership;
use crate::sometimes;
use crate::step::Env;
use crate::wire::layout::{LayoutMessage, decode_layout, encode_layout};
use crate::wire::member::Introduction;
use crate::wire::message::{Envelope, Message};

/// How often a layout is offered to a member that has not endorsed it, in milliseconds.
const OFFER_MS: u64 = 500;

/// The engine key of the endorsed layout. All keys below 1 are the node's own (see `replica`).
const LAYOUT_KEY: &[u8] = b"\0layout";
/// The engine key that says that the endorsed layout is live.
const LIVE_KEY: &[u8] = b"\0layout-live";

/// A layout that this node has endorsed.
#[derive(Clone, Debug)]
struct Endorsed {
    of: LiveLayout,
    set: LayoutSet,
    /// The write that stores the endorsement; it counts once it is durable.
    stored: Lsn,
    live: bool,
    /// Members known to have endorsed this very layout.
    endorsers: BTreeSet<NodeId>,
}

/// This node's part in agreeing on the layout.
#[derive(Debug)]
pub struct Formation {
    me: NodeId,
    life: Life,
    partitions: u16,
    wanted: Quorums,
    has_seeds: bool,
    endorsed: Option<Endorsed>,
    /// What the set of live layouts is while there is none.
    none: LayoutSet,
    /// The stored layout could not be read: never form one, fetch it from peers.
    unreadable: bool,
    next_offer: Mono,
}

impl Formation {
    /// Reads what was endorsed in an earlier life.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Formation> {
        let wanted = Quorums { n: config.replicas, r: config.read_quorum, w: config.write_quorum };
        let mut formation = Formation {
            me: config.id,
            life: config.life,
            partitions: config.partitions,
            wanted,
            has_seeds: !config.seeds.is_empty(),
            endorsed: None,
            none: LayoutSet::default(),
            unreadable: false,
            next_offer: Mono(0),
        };
        match stored(engine, LAYOUT_KEY)
            .and_then(|bytes| bytes.map(|bytes| decode_layout(&bytes)).transpose())
        {
            Ok(None) => {}
            Ok(Some(layout)) => {
                let live = !matches!(stored(engine, LIVE_KEY), Ok(None));
                formation.adopt(Arc::new(layout), engine.durable(), live);
            }
            Err(Error::Disk(error)) => return Err(Error::Disk(error)),
            // Nobody else has a copy: the next start may read it.
            Err(error) if !formation.has_seeds => return Err(error),
            Err(_) => formation.unreadable = true,
        }
        Ok(formation)
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        let Some(endorsed) = &self.endorsed else {
            return;
        };
        assert!(!self.unreadable, "an endorsed layout has been read");
        assert_eq!(
            endorsed.of.reference.version,
            endorsed.of.layout.version(),
            "a layout has its own name"
        );
        let members = self.members();
        assert!(endorsed.endorsers.is_subset(&members), "only members endorse");
    }

    /// The layouts that requests are served under, the newest last.
    #[must_use]
    pub fn live(&self) -> &[LiveLayout] {
        let endorsed = self.endorsed.as_ref().filter(|endorsed| endorsed.live);
        endorsed.map_or(&[], |endorsed| std::slice::from_ref(&endorsed.of))
    }

    /// Their names.
    #[must_use]
    pub fn live_set(&self) -> &LayoutSet {
        let endorsed = self.endorsed.as_ref().filter(|endorsed| endorsed.live);
        endorsed.map_or(&self.none, |endorsed| &endorsed.set)
    }

    /// The newest of them.
    #[must_use]
    pub fn newest(&self) -> Option<&Layout> {
        self.live().last().map(|live| &*live.layout)
    }

    /// The nodes of the endorsed layout; none while there is none.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let roles = self.endorsed.iter().flat_map(|endorsed| endorsed.of.layout.roles());
        roles.map(|role| role.node).collect()
    }

    /// The layout this node may say that it has endorsed: only once that is durable.
    #[must_use]
    pub fn endorsement(&self, durable: Lsn) -> LayoutRef {
        self.endorsed
            .as_ref()
            .filter(|endorsed| endorsed.stored <= durable)
            .map_or_else(LayoutRef::default, |endorsed| endorsed.of.reference)
    }

    /// The write that must become durable before anything goes on, if there is one.
    #[must_use]
    pub fn waits_for(&self, durable: Lsn) -> Option<Lsn> {
        self.endorsed.as_ref().map(|endorsed| endorsed.stored).filter(|&stored| stored > durable)
    }

    /// A coordinator acts under these layouts, so they are live: true when they are those that are endorsed here.
    pub fn on_asked_under(&mut self, layouts: &LayoutSet, engine: &mut dyn Engine) -> Result<bool> {
        let durable = engine.durable();
        let Some(endorsed) = &mut self.endorsed else {
            return Ok(false);
        };
        let same = *layouts == endorsed.set && endorsed.stored <= durable;
        if same && !endorsed.live {
            make_live(endorsed, engine)?;
        }
        Ok(same)
    }

    /// A peer offers its layout: endorse it, if this node is in it and has endorsed none.
    pub fn on_offer(&mut self, layout: Arc<Layout>, engine: &mut dyn Engine) -> Result<()> {
        if self.endorsed.is_some() || !layout.has(self.me) {
            return Ok(());
        }
        self.unreadable = false;
        self.endorse(layout, engine)
    }

    /// A peer asks for the layout.
    pub fn on_request(&self, from: NodeId, env: &mut impl Env) {
        if let Some(endorsed) = &self.endorsed {
            env.send(from, self.offer(endorsed));
        }
    }

    /// Forms, offers, and learns that the layout is live, by what the members say.
    pub fn tick(&mut self, members: &Membership, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        let may_form = self.endorsed.is_none() && self.may_form(members, now);
        if may_form && !buggify!(env, FormationPutOff) {
            sometimes!(env, LayoutFormed);
            let roles = roles(members, now);
            let keyspaces = vec![Keyspace::default_keyspace()];
            let layout = Layout::first(self.partitions, self.wanted, roles, keyspaces);
            self.endorse(Arc::new(layout), env.engine())?;
        }
        let durable = env.engine().durable();
        let Some(endorsed) = &mut self.endorsed else {
            return Ok(());
        };
        if endorsed.stored > durable {
            sometimes!(env, LayoutUnsyncedAtHeartbeat);
            return Ok(());
        }
        let same = |node: &NodeId| {
            members.peers().get(node).is_some_and(|peer| peer.layout == endorsed.of.reference)
        };
        let new: Vec<NodeId> = members.peers().keys().copied().filter(same).collect();
        let said_live = new.iter().any(|node| members.peers()[node].live);
        endorsed.endorsers.extend(new);
        endorsed.endorsers.insert(self.me);
        let all = endorsed.of.layout.roles().iter().all(|r| endorsed.endorsers.contains(&r.node));
        if !endorsed.live && (all || said_live) && !buggify!(env, LayoutLiveLate) {
            sometimes!(env, LayoutSaidToBeLive, !all);
            make_live(endorsed, env.engine())?;
        }
        if now >= self.next_offer {
            let pause_ms = if buggify!(env, LayoutOfferRepeated) { 0 } else { OFFER_MS };
            self.next_offer = now.plus_ms(pause_ms);
            self.offer_to_others(members, env);
        }
        Ok(())
    }

    /// Why no layout is live, for people. Empty when one is.
    #[must_use]
    pub fn waiting(&self, members: &Membership, now: Mono) -> Vec<String> {
        if self.newest().is_some() {
            return Vec::new();
        }
        if let Some(endorsed) = &self.endorsed {
            let missing = endorsed.of.layout.roles().iter();
            let missing = missing.filter(|role| !endorsed.endorsers.contains(&role.node));
            let names: Vec<&str> = missing.map(|role| role.name.as_str()).collect();
            return vec![format!("waiting for {} to endorse layout 1", names.join(", "))];
        }
        if self.unreadable {
            return vec!["the stored layout is unreadable; waiting for a peer's copy".to_owned()];
        }
        let mut why = same_names(members, now);
        if members.peers().values().any(|peer| peer.layout != LayoutRef::default()) {
            why.push(
                "the nodes that it hears have formed a cluster without this one, and joining a formed cluster is not built \
                 yet: start it where it was a member before, or stop it"
                    .to_owned(),
            );
            return why;
        }
        let expect = members.me().expect;
        for peer in members.peers().values().filter(|p| members.is_heard(p.introduction.node, now))
        {
            if peer.introduction.expect != expect {
                why.push(format!(
                    "{} expects {} nodes, this node {expect}: give all the same --bootstrap-expect",
                    peer.introduction.name, peer.introduction.expect
                ));
            }
        }
        let alive = members.heard(now);
        if self.has_seeds && expect == 1 {
            why.push(
                "a node with seeds never forms a cluster alone: set --bootstrap-expect to the number of \
                 nodes, or leave --seeds out"
                    .to_owned(),
            );
        } else if alive.len() < expect as usize {
            let here = if alive.len() == 1 { "is" } else { "are" };
            why.push(format!("waiting for {expect} nodes, {} {here} here", alive.len()));
        } else if alive.len() > expect as usize {
            why.push(format!("{expect} nodes expected, but {} are here", alive.len()));
        } else {
            why.push("waiting for all nodes to hear each other".to_owned());
        }
        why
    }

    fn may_form(&self, members: &Membership, now: Mono) -> bool {
        let expect = members.me().expect as usize;
        if self.unreadable {
            return false;
        }
        if expect == 1 {
            return !self.has_seeds;
        }
        if !same_names(members, now).is_empty() {
            return false;
        }
        let alive = members.heard(now);
        let agrees = |node: &NodeId| {
            *node == self.me
                || members.peers().get(node).is_some_and(|peer| {
                    peer.hears == alive
                        && peer.introduction.expect as usize == expect
                        && peer.layout == LayoutRef::default()
                })
        };
        alive.len() == expect && alive.first() == Some(&self.me) && alive.iter().all(agrees)
    }

    fn endorse(&mut self, layout: Arc<Layout>, engine: &mut dyn Engine) -> Result<()> {
        let bytes = encode_layout(&layout);
        match engine.write(&single(LAYOUT_KEY, bytes)) {
            // It is offered, or formed, again.
            Err(error) if error.wrote_nothing() => return Ok(()),
            stored => self.adopt(layout, stored?, false),
        }
        Ok(())
    }

    fn adopt(&mut self, layout: Arc<Layout>, stored: Lsn, live: bool) {
        let reference = layout.reference(&encode_layout(&layout));
        let endorsers = BTreeSet::new();
        let (of, set) = (LiveLayout { layout, reference }, LayoutSet::one(reference));
        self.endorsed = Some(Endorsed { of, set, stored, live, endorsers });
    }

    fn offer(&self, endorsed: &Endorsed) -> Envelope {
        let layout = Arc::clone(&endorsed.of.layout);
        let message = Message::Layout(LayoutMessage::Offer { layout });
        Envelope { life: self.life, durable: Lsn(0), message }
    }

    fn offer_to_others(&self, members: &Membership, env: &mut impl Env) {
        let Some(endorsed) = &self.endorsed else {
            return;
        };
        for role in endorsed.of.layout.roles() {
            let lacks = members.peers().get(&role.node);
            if lacks.is_some_and(|peer| peer.layout == LayoutRef::default()) {
                env.send(role.node, self.offer(endorsed));
            }
        }
    }
}

/// Names that two nodes have, in words. People could not tell them apart, and neither could their tools.
fn same_names(members: &Membership, now: Mono) -> Vec<String> {
    let alive = members.heard(now);
    let peers = members.peers().values().map(|peer| &peer.introduction);
    let mut by_name: BTreeMap<&str, Vec<&Introduction>> = BTreeMap::new();
    for introduction in peers.chain([members.me()]).filter(|of| alive.contains(&of.node)) {
        by_name.entry(&introduction.name).or_default().push(introduction);
    }
    let twice = by_name.into_iter().filter(|(_, all)| all.len() > 1);
    let said = twice.map(|(name, all)| {
        let at: Vec<&str> = all.iter().map(|of| of.peer_address.0.as_str()).collect();
        let at = at.join(" and ");
        format!("nodes at {at} have one name, {name}: give one of them another --node-id and an empty --data-dir")
    });
    said.collect()
}

fn roles(members: &Membership, now: Mono) -> Vec<Role> {
    let alive = members.heard(now);
    let peers = members.peers().values().map(|peer| &peer.introduction);
    peers
        .chain([members.me()])
        .filter(|introduction| alive.contains(&introduction.node))
        .map(|introduction| Role {
            node: introduction.node,
            name: introduction.name.clone(),
            weight: introduction.weight.max(1),
            zone: introduction.zone.clone(),
        })
        .collect()
}

fn make_live(endorsed: &mut Endorsed, engine: &mut dyn Engine) -> Result<()> {
    match engine.write(&single(LIVE_KEY, Bytes::from_static(b"1"))) {
        // Looked at again with the next heartbeat.
        Err(error) if error.wrote_nothing() => Ok(()),
        written => {
            endorsed.live = written.is_ok();
            written.map(drop)
        }
    }
}

fn single(key: &'static [u8], head: Bytes) -> Batch {
    let change = Change::Put {
        key: Bytes::from_static(key),
        head,
        body: smallvec::SmallVec::new(),
        delta: 0,
    };
    Batch { changes: [change].into_iter().collect() }
}

fn stored(engine: &mut dyn Engine, key: &[u8]) -> Result<Option<Bytes>> {
    // A scan waits for the device where `get` would answer `Cold`.
    let page = engine.scan_from(key, 1, usize::MAX)?;
    let record = page.records.into_iter().find(|(found, _)| found == key);
    Ok(record.map(|(_, record)| record.head))
}
