//! What all links of one node share: who we are, the pace, the dice, the inbox, and who is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use rondo_core::config::NODES_MAX;
use rondo_core::env::PROTOCOL_NEWEST;
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;

use crate::handshake::{Identity, Nonce, Peer};
use crate::link::{End, Pace};
use crate::peer::{ANEW, Called, Caller, named};
use crate::refusal::Refusal;
use crate::status::LinkStatus;

/// Links that peers may have to this node: one for each, and one for the next life of each.
const CALLERS_MAX: usize = 2 * NODES_MAX;
/// Why all links end at last.
pub(crate) const STOPS: &str = "the node stops";

/// Shared by all tasks of one network.
pub(crate) struct Rim<G> {
    pub(crate) runtime: G,
    pub(crate) me: Arc<Identity>,
    pub(crate) pace: Pace,
    pub(crate) handshake_ms: u64,
    pub(crate) inbox: Inbox,
    pub(crate) dice: Mutex<ChaCha20Rng>,
    pub(crate) called: RwLock<BTreeMap<NodeId, Arc<Called>>>,
    pub(crate) callers: Mutex<BTreeMap<(NodeId, Life), Arc<Caller>>>,
    pub(crate) stopping: AtomicBool,
}

impl<G> Rim<G> {
    pub(crate) fn nonce(&self) -> Nonce {
        let mut nonce = Nonce::default();
        self.dice.lock().expect("no panic while locked").fill_bytes(&mut nonce);
        nonce
    }

    pub(crate) fn random(&self) -> u64 {
        self.dice.lock().expect("no panic while locked").next_u64()
    }

    pub(crate) fn called(&self, node: NodeId) -> Option<Arc<Called>> {
        self.called.read().expect("no panic while locked").get(&node).cloned()
    }

    /// What the log calls `node`, which nobody may have routed yet.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.called(node).map_or_else(|| named(node, ""), |called| called.name())
    }

    /// Whether a peer is dialled at this address of the network.
    pub(crate) fn is_home_of_a_peer(&self, ip: IpAddr) -> bool {
        let called = self.called.read().expect("no panic while locked");
        called.values().any(|called| called.ip() == Some(ip))
    }

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        let called = self.called.read().expect("no panic while locked");
        called.get(&node).is_some_and(|called| {
            let callers = self.callers.lock().expect("no panic while locked");
            called.is_open() && callers.contains_key(&(node, called.life()))
        })
    }

    /// What a link to `node` speaks; the newest protocol while there is none.
    pub(crate) fn protocol(&self, node: NodeId) -> u8 {
        let agreed = self.called(node).and_then(|called| called.protocol());
        agreed.unwrap_or(PROTOCOL_NEWEST)
    }

    /// Whether a link with this life of a peer may be: nobody knows better before it has been routed.
    pub(crate) fn admits(&self, peer: &Peer) -> Result<(), Refusal> {
        self.called(peer.node).map_or(Ok(()), |called| called.admits(peer.life))
    }

    /// A peer has dialled us. An earlier link of the same life ends: one link per life and direction, so that messages
    /// do not overtake each other. One of the life that counts goes on beside that of a later one, which may be a copy's.
    pub(crate) fn on_call(&self, node: NodeId, life: Life) -> Result<Arc<Caller>, End> {
        if self.stops() {
            return Err(End::Ours(STOPS));
        }
        let called = self.called(node);
        let counts = called.as_ref().map(|called| called.life());
        let caller = Arc::new(Caller::default());
        let mut callers = self.callers.lock().expect("no panic while locked");
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&(node, life)) {
            return Err(End::Ours("there are more peers than a cluster may have"));
        }
        end_all(&mut callers, node, |other| other != life && Some(other) != counts);
        if let Some(earlier) = callers.insert((node, life), Arc::clone(&caller)) {
            earlier.end(End::Ours("the peer has dialled again"));
        }
        drop(callers);
        if let Some(called) = called {
            called.news.notify_one();
        }
        Ok(caller)
    }

    /// This life of a peer counts: links of those before it, and of others of the same start, end.
    pub(crate) fn on_route(&self, node: NodeId, life: Life) {
        let mut callers = self.callers.lock().expect("no panic while locked");
        end_all(&mut callers, node, |other| other != life && other.boot <= life.boot);
    }

    /// The link from a peer has ended.
    pub(crate) fn on_hang_up(&self, peer: (NodeId, Life), caller: &Arc<Caller>) {
        let mut callers = self.callers.lock().expect("no panic while locked");
        if callers.get(&peer).is_some_and(|now| Arc::ptr_eq(now, caller)) {
            callers.remove(&peer);
        }
    }

    /// Whether the node stops.
    pub(crate) fn stops(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Ends all links; none is opened after this.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for caller in self.callers.lock().expect("no panic while locked").values() {
            caller.end(End::Ours(STOPS));
        }
        for called in self.called.read().expect("no panic while locked").values() {
            called.end(End::Ours(STOPS));
            called.news.notify_one();
        }
    }

    pub(crate) fn links(&self) -> Vec<LinkStatus> {
        let called = self.called.read().expect("no panic while locked");
        let callers = self.callers.lock().expect("no panic while locked");
        let caller = |called: &Called| callers.get(&(called.node, called.life())).map(Arc::as_ref);
        called.values().map(|called| called.status(caller(called))).collect()
    }
}

/// Ends the links of those lives of a node.
fn end_all(
    callers: &mut BTreeMap<(NodeId, Life), Arc<Caller>>,
    node: NodeId,
    is_over: impl Fn(Life) -> bool,
) {
    let over = callers.extract_if(.., |(of, life), _| *of == node && is_over(*life));
    over.for_each(|(_, caller)| caller.end(End::Ours(ANEW)));
}
