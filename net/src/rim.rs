//! What all links of one node share: who we are, the pace, the dice, the inbox, and who is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use rondo_core::config::NODES_MAX;
use rondo_core::id::{BootEpoch, NodeId};
use rondo_core::inbox::Inbox;

use crate::handshake::{Identity, Nonce};
use crate::link::{End, Pace};
use crate::peer::{Called, Caller, named};
use crate::status::LinkStatus;

/// Why all links end at last.
pub(crate) const STOPS: &str = "the node stops";

/// Shared by all tasks of one network.
pub(crate) struct Rim<G> {
    pub(crate) ground: G,
    pub(crate) me: Arc<Identity>,
    pub(crate) pace: Pace,
    pub(crate) handshake_ms: u64,
    pub(crate) inbox: Inbox,
    pub(crate) dice: Mutex<ChaCha20Rng>,
    pub(crate) called: RwLock<BTreeMap<NodeId, Arc<Called>>>,
    pub(crate) callers: Mutex<BTreeMap<NodeId, Arc<Caller>>>,
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

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        let called = self.called.read().expect("no panic while locked");
        called.get(&node).is_some_and(|called| called.is_open())
            && self.callers.lock().expect("no panic while locked").contains_key(&node)
    }

    /// A peer has dialled us. Its earlier link, if any, ends: one link per peer and direction, so that
    /// messages do not overtake each other.
    pub(crate) fn on_call(&self, node: NodeId, boot: BootEpoch) -> Result<Arc<Caller>, End> {
        if self.stops() {
            return Err(End::Ours(STOPS));
        }
        let caller = Arc::new(Caller::default());
        let earlier = {
            let mut callers = self.callers.lock().expect("no panic while locked");
            if callers.len() >= NODES_MAX && !callers.contains_key(&node) {
                return Err(End::Ours("there are more peers than a cluster may have"));
            }
            callers.insert(node, Arc::clone(&caller))
        };
        if let Some(earlier) = earlier {
            earlier.end(End::Ours("the peer has dialled again"));
        }
        if let Some(called) = self.called(node) {
            called.on_call(boot);
        }
        Ok(caller)
    }

    /// The link from a peer has ended.
    pub(crate) fn on_hang_up(&self, node: NodeId, caller: &Arc<Caller>) {
        let mut callers = self.callers.lock().expect("no panic while locked");
        if callers.get(&node).is_some_and(|now| Arc::ptr_eq(now, caller)) {
            callers.remove(&node);
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
        let caller = |called: &Called| callers.get(&called.node).map(Arc::as_ref);
        called.values().map(|called| called.status(caller(called))).collect()
    }
}
