//! The network of a node: links over TCP, datagrams over UDP, on one port number.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::config::NAME_BYTES_MAX;
use rondo_core::env::{Address, Network, Outbound};
use rondo_core::id::{Life, NodeId};
use rondo_core::inbox::Inbox;
use rondo_core::probe::Probe;
use tokio::net::{TcpListener, UdpSocket};

use crate::bind::bind;
use crate::handshake::{Identity, PROTOCOL};
use crate::link::Pace;
use crate::links::{Links, Terms};
use crate::runtime::Runtime;
use crate::sockets::{SocketTask, Sockets};
use crate::status::LinkStatus;
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
    /// Its life.
    pub life: Life,
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
    /// How long connecting and the handshake may take, in milliseconds; 1,500 is usual: one lost packet more than
    /// none, and the next attempt finds a peer that has moved or come back.
    pub handshake_ms: u64,
}

/// Whether a network could listen there now: the ports are bound and let go again.
///
/// # Errors
/// As `TcpNetwork::start` when it cannot listen.
pub fn can_listen(listen: &Address, next_free: bool) -> io::Result<()> {
    bind(listen, next_free).map(drop)
}

/// The network. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct TcpNetwork {
    links: Links<Sockets>,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    datagrams: Datagrams,
    /// They end with the network.
    _tasks: [SocketTask; 2],
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
        let sockets = Sockets::here();
        let listener = TcpListener::from_std(bound.tcp)?;
        let incoming = UdpSocket::from_std(bound.udp.try_clone()?)?;
        let (datagrams, resolver) = Datagrams::new(Arc::new(bound.udp), &sockets);
        let tasks =
            [sockets.spawn(receive_all(incoming, inbox.clone())), sockets.spawn(resolver.run())];
        let links = Links::start(sockets, listener, options.terms(), inbox, seed);
        let shared = Shared { address: bound.address, datagrams, _tasks: tasks };
        Ok(TcpNetwork { links, shared: Arc::new(shared) })
    }

    /// Where it listens, with the port that was found.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// All peers that have been routed, by node.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links.status()
    }

    /// Writes what waits, says goodbye to all peers and ends all links: for a node that stops in order.
    /// A peer that does not read is waited for half a second at most.
    pub async fn stop(&self) {
        self.links.stop().await;
    }
}

/// Nobody watches the real world.
impl Probe for TcpNetwork {}

impl Network for TcpNetwork {
    fn send(&self, to: NodeId, encode: impl FnOnce(u8) -> Option<Outbound>) -> bool {
        self.links.send(to, encode)
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.links.is_connected(node)
    }

    fn datagram(&self, to: &Address, bytes: Bytes) {
        self.shared.datagrams.send(to, bytes);
    }

    fn route(&self, node: NodeId, life: Life, name: &str, address: &Address) {
        self.links.route(node, life, name, address);
    }
}

impl Options {
    fn terms(self) -> Terms {
        Terms {
            me: Identity {
                cluster: self.cluster,
                node: self.node,
                life: self.life,
                secret: self.secret,
                protocol: PROTOCOL,
            },
            pace: Pace { heartbeat_ms: self.heartbeat_ms, silence_ms: self.silence_ms },
            handshake_ms: self.handshake_ms,
        }
    }

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
