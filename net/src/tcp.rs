//! The network of a node: one TCP connection per peer and direction of dialling, and datagrams.
//!
//! What we send goes over the connection that we dialled; what we receive comes over those that peers
//! dialled. So each direction has one order, one queue and one owner, and two nodes that dial each other
//! at the same moment need no agreement on which connection wins.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rondo_core::config::{NAME_BYTES_MAX, NODES_MAX};
use rondo_core::env::{Address, Network, Outbound};
use rondo_core::id::{BootEpoch, NodeId};
use rondo_core::inbox::Inbox;
use rondo_core::probe::Probe;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, timeout};

use crate::accept::accept_all;
use crate::bind::bind;
use crate::connection::RimClock;
use crate::dial::keep_dialled;
use crate::handshake::{Identity, PROTOCOL};
use crate::link::Pace;
use crate::peer::Called;
use crate::rim::Rim;
use crate::status::{LinkState, LinkStatus};
use crate::udp::{Datagrams, receive_all};

/// How to start a network. The caller chooses every field.
#[derive(Clone)]
pub struct Options {
    /// Where to listen, for links and datagrams alike. Port 0: any that is free.
    pub listen: Address,
    /// When the port is taken, whether the next free one will do.
    pub next_free: bool,
    /// This node.
    pub node: NodeId,
    /// Its boot epoch.
    pub boot: BootEpoch,
    /// The cluster's name: 1 to `NAME_BYTES_MAX` bytes.
    pub cluster: String,
    /// What all nodes of the cluster share and nobody else knows. Without it whoever reaches the port
    /// and knows the cluster's name is a peer.
    pub secret: Option<Vec<u8>>,
    /// After how long without anything to say a link says that it lives, in milliseconds; 100 is usual.
    pub heartbeat_ms: u64,
    /// After how long without a sign of life a link is given up, in milliseconds: at least three
    /// heartbeats; 1,000 is usual.
    pub silence_ms: u64,
    /// How long connecting and the handshake may take, in milliseconds; 5,000 is usual.
    pub handshake_ms: u64,
}

/// How long the last words may take.
const STOP: Duration = Duration::from_millis(500);

/// The network. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct TcpNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    rim: Arc<Rim>,
    runtime: Handle,
    address: SocketAddr,
    datagrams: Datagrams,
    tasks: Vec<AbortHandle>,
    diallers: Mutex<Diallers>,
}

/// The tasks that keep peers dialled; they end with it.
#[derive(Default)]
struct Diallers {
    tasks: JoinSet<()>,
    by_node: BTreeMap<NodeId, AbortHandle>,
}

impl TcpNetwork {
    /// Binds and starts to listen. `seed` is 32 random bytes: nonces of handshakes come from it.
    ///
    /// # Errors
    /// When an option makes no sense, or the port cannot be bound: the error says which.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: Options, inbox: Inbox, seed: [u8; 32]) -> io::Result<TcpNetwork> {
        options.check()?;
        let bound = bind(&options.listen, options.next_free)?;
        let runtime = Handle::current();
        let clock = RimClock(Instant::now());
        let rim = Arc::new(Rim {
            me: Arc::new(Identity {
                cluster: options.cluster,
                node: options.node,
                boot: options.boot,
                secret: options.secret,
                protocol: PROTOCOL,
            }),
            pace: Pace { heartbeat_ms: options.heartbeat_ms, silence_ms: options.silence_ms },
            handshake: Duration::from_millis(options.handshake_ms),
            clock,
            inbox: inbox.clone(),
            dice: Mutex::new(ChaCha20Rng::from_seed(seed)),
            called: RwLock::new(BTreeMap::new()),
            callers: Mutex::new(BTreeMap::new()),
            stopping: AtomicBool::new(false),
        });
        let listener = TcpListener::from_std(bound.tcp)?;
        let incoming = UdpSocket::from_std(bound.udp.try_clone()?)?;
        let (datagrams, resolver) = Datagrams::new(Arc::new(bound.udp), clock);
        let tasks = vec![
            runtime.spawn(accept_all(Arc::clone(&rim), listener)).abort_handle(),
            runtime.spawn(receive_all(incoming, inbox)).abort_handle(),
            runtime.spawn(resolver.run()).abort_handle(),
        ];
        let diallers = Mutex::default();
        let address = bound.address;
        let shared = Shared { rim, runtime, address, datagrams, tasks, diallers };
        Ok(TcpNetwork { shared: Arc::new(shared) })
    }

    /// Where it listens, with the port that was found.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// All peers that have been routed, by node.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.shared.rim.links()
    }

    /// Writes what waits, says goodbye to all peers and ends all links: for a node that stops in order.
    /// A peer that does not read is waited for `STOP` at most.
    pub async fn stop(&self) {
        self.shared.rim.stop();
        let mut tasks = std::mem::take(&mut self.shared.diallers().tasks);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(STOP, ended).await.is_err() {
            tracing::warn!("some peers did not take the last words in time");
        }
    }
}

/// Nobody watches the real world.
impl Probe for TcpNetwork {}

impl Network for TcpNetwork {
    fn send(&self, to: NodeId, message: Outbound) {
        let called = self.shared.rim.called.read().expect("no panic while locked");
        if let Some(called) = called.get(&to) {
            called.send(&message);
        }
    }

    fn datagram(&self, to: &Address, bytes: Bytes) {
        self.shared.datagrams.send(to, bytes);
    }

    fn route(&self, node: NodeId, address: &Address) {
        if node != self.shared.rim.me.node {
            self.shared.route(node, address);
        }
    }
}

impl Shared {
    fn route(&self, node: NodeId, address: &Address) {
        if let Some(called) = self.rim.called(node) {
            if called.on_route(address) {
                tracing::info!(node = node.short(), at = address.0, "the peer has moved");
            }
            return;
        }
        // Held throughout, so that peers come and go one at a time.
        let mut diallers = self.diallers();
        if self.rim.stops() {
            return;
        }
        if diallers.by_node.len() >= NODES_MAX && !self.forget_one(&mut diallers) {
            tracing::error!(node = node.short(), "more peers than a cluster may have: no link");
            return;
        }
        let called = Arc::new(Called::new(node, address.clone()));
        self.peers().insert(node, Arc::clone(&called));
        let task = keep_dialled(Arc::clone(&self.rim), called);
        let task = diallers.tasks.spawn_on(task, &self.runtime);
        diallers.by_node.insert(node, task);
    }

    /// Forgets a peer without any link, for nodes that left are never taken out of the routes. Whether
    /// there was one.
    fn forget_one(&self, diallers: &mut Diallers) -> bool {
        let gone = |link: &LinkStatus| link.state == LinkState::Waiting && !link.hears;
        let Some(link) = self.rim.links().into_iter().find(gone) else {
            return false;
        };
        tracing::warn!(node = link.node.short(), "forgotten, to make room for another peer");
        self.peers().remove(&link.node);
        if let Some(task) = diallers.by_node.remove(&link.node) {
            task.abort();
        }
        true
    }

    fn diallers(&self) -> MutexGuard<'_, Diallers> {
        self.diallers.lock().expect("no panic while locked")
    }

    fn peers(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Arc<Called>>> {
        self.rim.called.write().expect("no panic while locked")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Options {
    fn check(&self) -> io::Result<()> {
        let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let name = self.cluster.len();
        if name == 0 || name > NAME_BYTES_MAX {
            return invalid(format!(
                "the cluster's name has {name} bytes; it needs 1 to {NAME_BYTES_MAX}"
            ));
        }
        if self.secret.as_ref().is_some_and(Vec::is_empty) {
            return invalid(
                "the cluster secret is empty; give it some bytes, or none at all".into(),
            );
        }
        if self.heartbeat_ms == 0 || self.silence_ms < 3 * self.heartbeat_ms {
            return invalid(format!(
                "silence after {} ms with a heartbeat each {} ms; it needs at least three heartbeats",
                self.silence_ms, self.heartbeat_ms
            ));
        }
        Ok(())
    }
}
