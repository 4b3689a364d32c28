//! Datagrams: gossip between nodes that may not have met yet.
//!
//! Sending never waits: an address that is a number is sent to at once, a name is looked up by a task
//! with a bounded queue and remembered for a while. A name with several addresses, such as `localhost`, is sent to at all of
//! them: whoever has it may listen at one alone. What does not fit anywhere is lost, as datagrams
//! may be. Who wrote a datagram is established by what is in it, not here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rondo_core::config::DATAGRAM_BYTES_MAX;
use rondo_core::env::{Address, Mono};
use rondo_core::inbox::Inbox;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

use crate::runtime::Runtime;
use crate::sockets::Sockets;

/// Names remembered.
const NAMES_MAX: usize = 256;
/// How long a name's address is believed, in milliseconds.
const FRESH_MS: u64 = 30_000;
/// How long a name without an address is not asked for again, in milliseconds.
const MISSING_MS: u64 = 2_000;
/// Addresses of one name that are sent to.
const ADDRESSES_MAX: usize = 4;
/// Datagrams that wait for a name.
const WAITING_MAX: usize = 64;
/// How long one look-up may take.
const LOOK_UP: Duration = Duration::from_secs(2);
/// The pause after an error in receiving.
const PAUSE: Duration = Duration::from_millis(10);

/// The sending side.
pub(crate) struct Datagrams {
    socket: Arc<UdpSocket>,
    clock: Sockets,
    names: Arc<Mutex<Names>>,
    unresolved: mpsc::Sender<(Address, Bytes)>,
}

impl Datagrams {
    /// The sending side, and what its resolver task needs.
    pub(crate) fn new(socket: Arc<UdpSocket>, clock: &Sockets) -> (Datagrams, Resolver) {
        let (unresolved, waiting) = mpsc::channel(WAITING_MAX);
        let names = Arc::new(Mutex::new(Names::default()));
        let resolver = Resolver {
            socket: Arc::clone(&socket),
            clock: clock.clone(),
            names: Arc::clone(&names),
            waiting,
        };
        (Datagrams { socket, clock: clock.clone(), names, unresolved }, resolver)
    }

    /// Sends one datagram, or loses it.
    pub(crate) fn send(&self, to: &Address, bytes: Bytes) {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            tracing::error!(bytes = bytes.len(), "datagram above the limit dropped");
            return;
        }
        if let Ok(to) = to.0.parse() {
            send_to(&self.socket, to, &bytes);
            return;
        }
        let known = self.names.lock().expect("no panic while locked").find(&to.0, self.clock.now());
        match known {
            Known::Fresh(found) => found.iter().for_each(|&to| send_to(&self.socket, to, &bytes)),
            Known::Stale => {
                if self.unresolved.try_send((to.clone(), bytes)).is_err() {
                    tracing::debug!(to = to.0, "too many datagrams wait for names");
                }
            }
        }
    }
}

/// A full socket, an unreachable network: a lost datagram.
fn send_to(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
    let to = match (to, socket.local_addr()) {
        (SocketAddr::V4(v4), Ok(SocketAddr::V6(_))) => {
            SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
        }
        _ => to,
    };
    if let Err(error) = socket.send_to(bytes, to) {
        tracing::debug!(%to, %error, "datagram lost");
    }
}

/// The task that looks names up.
pub(crate) struct Resolver {
    socket: Arc<UdpSocket>,
    clock: Sockets,
    names: Arc<Mutex<Names>>,
    waiting: mpsc::Receiver<(Address, Bytes)>,
}

impl Resolver {
    /// Ends when the sending side is gone.
    pub(crate) async fn run(mut self) {
        while let Some((to, bytes)) = self.waiting.recv().await {
            let known = self.names().find(&to.0, self.clock.now());
            let found = match known {
                Known::Fresh(found) => found,
                Known::Stale => {
                    let found = self.look_up(&to.0).await;
                    self.names().learn(&to.0, found.clone(), self.clock.now());
                    found
                }
            };
            found.iter().for_each(|&to| send_to(&self.socket, to, &bytes));
        }
    }

    /// The addresses that our socket can send to.
    async fn look_up(&self, name: &str) -> Vec<SocketAddr> {
        let ours = self.socket.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |at| at.ip());
        match timeout(LOOK_UP, tokio::net::lookup_host(name)).await {
            Ok(Ok(found)) => {
                found.filter(|at| at.is_ipv4() || ours.is_ipv6()).take(ADDRESSES_MAX).collect()
            }
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "name not found");
                Vec::new()
            }
            Err(_) => {
                tracing::debug!(name, "no answer about the name");
                Vec::new()
            }
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().expect("no panic while locked")
    }
}

/// What is known of names; bounded.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, (Vec<SocketAddr>, Mono)>,
}

#[derive(PartialEq, Eq, Debug)]
enum Known {
    /// Good enough to use; empty: there was no address a moment ago.
    Fresh(Vec<SocketAddr>),
    /// To be looked up.
    Stale,
}

impl Names {
    fn find(&self, name: &str, now: Mono) -> Known {
        match self.known.get(name) {
            Some((found, until)) if now < *until => Known::Fresh(found.clone()),
            _ => Known::Stale,
        }
    }

    fn learn(&mut self, name: &str, found: Vec<SocketAddr>, now: Mono) {
        if self.known.len() >= NAMES_MAX && !self.known.contains_key(name) {
            let oldest = self.known.iter().min_by_key(|(_, (_, until))| *until);
            let oldest = oldest.map(|(name, _)| name.clone()).expect("it is full");
            self.known.remove(&oldest);
        }
        let until = now.plus_ms(if found.is_empty() { MISSING_MS } else { FRESH_MS });
        self.known.insert(name.to_owned(), (found, until));
    }
}

/// The task that receives. Never ends by itself.
pub(crate) async fn receive_all(socket: tokio::net::UdpSocket, inbox: Inbox) {
    // One byte more than allowed tells a datagram that is too long from one that just fits.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) if len <= DATAGRAM_BYTES_MAX => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                inbox.datagram(Address(from.to_string()), Bytes::copy_from_slice(&buffer[..len]));
            }
            Ok((_, from)) => tracing::debug!(%from, "datagram above the limit dropped"),
            Err(error) => {
                tracing::debug!(%error, "cannot receive datagrams for now");
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(0);

    fn port(port: u16) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], port))]
    }

    #[test]
    fn names_are_believed_for_a_while_and_failures_for_a_moment() {
        let mut names = Names::default();
        assert_eq!(names.find("a:1", START), Known::Stale);
        names.learn("a:1", port(1), START);
        names.learn("b:1", Vec::new(), START);
        assert_eq!(names.find("a:1", START.plus_ms(FRESH_MS - 1)), Known::Fresh(port(1)));
        assert_eq!(names.find("a:1", START.plus_ms(FRESH_MS)), Known::Stale);
        assert_eq!(names.find("b:1", START.plus_ms(MISSING_MS - 1)), Known::Fresh(Vec::new()));
        assert_eq!(names.find("b:1", START.plus_ms(MISSING_MS)), Known::Stale);
    }

    /// `localhost` is `::1` and `127.0.0.1`, and a node listens at one of them alone.
    #[tokio::test]
    async fn a_name_with_several_addresses_is_sent_to_at_all_of_them() {
        let local = || UdpSocket::bind("127.0.0.1:0").expect("some port is free");
        let (first, second) = (local(), local());
        let clock = Sockets::here();
        let (datagrams, _resolver) = Datagrams::new(Arc::new(local()), &clock);
        let found = [&first, &second].map(|socket| socket.local_addr().expect("bound"));
        let mut names = datagrams.names.lock().expect("no panic while locked");
        names.learn("twice:1", found.to_vec(), clock.now());
        drop(names);
        datagrams.send(&Address("twice:1".to_owned()), Bytes::from_static(b"hello"));
        for socket in [first, second] {
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            let mut buffer = [0; 8];
            let read = socket.recv(&mut buffer).expect("it arrives");
            assert_eq!(&buffer[..read], b"hello");
        }
    }

    #[test]
    fn the_oldest_name_makes_room() {
        let mut names = Names::default();
        for n in 0..=NAMES_MAX {
            names.learn(&format!("n{n}:1"), port(1), START.plus_ms(n as u64));
        }
        assert_eq!(names.known.len(), NAMES_MAX);
        assert_eq!(names.find("n0:1", START), Known::Stale);
        assert_ne!(names.find("n1:1", START), Known::Stale);
    }
}
