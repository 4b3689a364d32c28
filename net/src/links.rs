//! All links of one node: one connection per peer and direction of dialling.
//!
//! What we send goes over the connection that we dialled; what we receive comes over those that peers
//! dialled. So each direction has one order, one queue and one owner, and two nodes that dial each other
//! at the same moment need no formation on which connection wins.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rondo_core::config::NODES_MAX;
use rondo_core::env::{Address, Outbound};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;

use crate::accept::accept_all;
use crate::dial::keep_dialled;
use crate::handshake::Identity;
use crate::link::Pace;
use crate::peer::{Called, named};
use crate::rim::Rim;
use crate::runtime::{Runtime, within};
use crate::status::{LinkState, LinkStatus};

/// How long the last words may take, in milliseconds.
const STOP_MS: u64 = 500;

/// On what terms a node has links.
#[derive(Clone)]
pub struct Terms {
    /// Who we are.
    pub me: Identity,
    /// The times of an open link.
    pub pace: Pace,
    /// How long connecting and the handshake may take, in milliseconds.
    pub handshake_ms: u64,
}

/// The links. Clones share them; they end with the last of them.
pub struct Links<G: Runtime> {
    shared: Arc<Shared<G>>,
}

struct Shared<G: Runtime> {
    rim: Arc<Rim<G>>,
    /// The tasks that keep peers dialled, by peer.
    diallers: Mutex<BTreeMap<NodeId, G::Task>>,
    /// The links that peers have dialled end with it.
    _acceptor: G::Task,
}

impl<G: Runtime> Clone for Links<G> {
    fn clone(&self) -> Links<G> {
        Links { shared: Arc::clone(&self.shared) }
    }
}

impl<G: Runtime> Links<G> {
    /// Starts to take in links; peers are dialled once they are routed. `seed` is 32 random bytes: nonces of
    /// handshakes come from it.
    pub fn start(
        runtime: G,
        listener: G::Listener,
        terms: Terms,
        inbox: Inbox,
        seed: [u8; 32],
    ) -> Links<G> {
        let rim = Arc::new(Rim {
            runtime,
            me: Arc::new(terms.me),
            pace: terms.pace,
            handshake_ms: terms.handshake_ms,
            inbox,
            dice: Mutex::new(ChaCha20Rng::from_seed(seed)),
            called: RwLock::new(BTreeMap::new()),
            callers: Mutex::new(BTreeMap::new()),
            stopping: AtomicBool::new(false),
        });
        let acceptor = rim.runtime.spawn(accept_all(Arc::clone(&rim), listener));
        let shared = Shared { rim, diallers: Mutex::default(), _acceptor: acceptor };
        Links { shared: Arc::new(shared) }
    }

    /// Sends over the link to `to` what `encode` makes for its protocol. `false`: it did not leave, because there is none, no
    /// open link, or no room in its queue.
    pub fn send(&self, to: NodeId, encode: impl FnOnce(u8) -> Option<Outbound>) -> bool {
        let called = self.shared.rim.called.read().expect("no panic while locked");
        called.get(&to).is_some_and(|called| called.send(encode))
    }

    /// Whether the link to `node` is open, and the one from it.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.shared.rim.is_connected(node)
    }

    /// The protocol that the open link to `node` has agreed on; the newest while there is none.
    #[must_use]
    pub fn protocol(&self, node: NodeId) -> u8 {
        self.shared.rim.protocol(node)
    }

    /// Says that `life` of `node` counts and is reached at `address`: links to it are made, and remade, there, and none
    /// with a life before it. Logs call it `name`.
    pub fn route(&self, node: NodeId, life: Life, name: &str, address: &Address) {
        if node != self.shared.rim.me.node {
            self.shared.route(node, life, name, address);
            self.shared.rim.on_route(node, life);
        }
    }

    /// All peers that have been routed, by node.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        self.shared.rim.links()
    }

    /// Writes what waits, says goodbye to all peers and ends all links: for a node that stops in order.
    /// A peer that does not read is waited for `STOP_MS` at most.
    pub async fn stop(&self) {
        let rim = &self.shared.rim;
        rim.stop();
        let tasks = std::mem::take(&mut *self.shared.diallers());
        let ended = async {
            for task in tasks.into_values() {
                task.await;
            }
        };
        if within(&rim.runtime, STOP_MS, ended).await.is_none() {
            tracing::warn!("some peers did not take the last words in time");
        }
    }
}

impl<G: Runtime> Shared<G> {
    fn route(&self, node: NodeId, life: Life, name: &str, address: &Address) {
        if let Some(called) = self.rim.called(node) {
            if called.on_route(life, name, address) {
                tracing::info!(node = called.name(), at = address.0, "the peer has moved");
            }
            return;
        }
        // Held throughout, so that peers come and go one at a time.
        let mut diallers = self.diallers();
        if self.rim.stops() {
            return;
        }
        if diallers.len() >= NODES_MAX && !self.forget_one(&mut diallers) {
            tracing::error!(
                node = named(node, name),
                "more peers than a cluster may have: no link"
            );
            return;
        }
        let leaving = &self.rim.inbox.memory().leaving;
        let called = Arc::new(Called::new(node, life, name, address.clone(), leaving));
        self.peers().insert(node, Arc::clone(&called));
        let task = self.rim.runtime.spawn(keep_dialled(Arc::clone(&self.rim), called));
        diallers.insert(node, task);
    }

    /// Forgets a peer without any link, for nodes that left are never taken out of the routes. Whether
    /// there was one.
    fn forget_one(&self, diallers: &mut BTreeMap<NodeId, G::Task>) -> bool {
        let gone = |link: &LinkStatus| link.state == LinkState::Waiting && !link.hears;
        let Some(link) = self.rim.links().into_iter().find(gone) else {
            return false;
        };
        let name = self.rim.name(link.node);
        tracing::warn!(node = name, "forgotten, to make room for another peer");
        self.peers().remove(&link.node);
        diallers.remove(&link.node);
        true
    }

    fn diallers(&self) -> MutexGuard<'_, BTreeMap<NodeId, G::Task>> {
        self.diallers.lock().expect("no panic while locked")
    }

    fn peers(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Arc<Called>>> {
        self.rim.called.write().expect("no panic while locked")
    }
}
