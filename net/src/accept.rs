//! The task that takes in links which peers dial.
//!
//! Whoever connects has no claim on us before its proof: a bounded number of strangers, a bounded time, a
//! bounded number of bytes, and few words in the log. Each address has a share of the places, and some are kept for addresses
//! of known peers. When there are too many, the one that has been silent longest goes, or else the oldest of its address: a
//! peer speaks at once and is through in a moment, so that whoever only occupies places shuts nobody out.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use rondo_core::env::Mono;
use tokio::io::AsyncWrite;

use crate::connection::{Failure, run, shake_hands};
use crate::handshake::{HELLO_VERSION, Handshake, goodbye};
use crate::link::Link;
use crate::peer::{CallerEnds, Reading};
use crate::refusal::{Refusal, RefusalCode};
use crate::rim::Rim;
use crate::runtime::{Runtime, Task, wait_until, within};

/// Connections that may be in their handshake at once.
pub(crate) const STRANGERS_MAX: usize = 64;
/// Those of one address.
const SHARE_MAX: usize = 16;
/// Of all places, those that only addresses of known peers get.
const RESERVED: usize = 16;

const _: () = assert!(SHARE_MAX + RESERVED < STRANGERS_MAX);

/// How long after an error of `accept` the next attempt is made, in milliseconds: most mean that files ran out.
const PAUSE_MS: u64 = 100;
/// The same trouble from the same address is logged again after this, in milliseconds.
const REPEAT_MS: u64 = 60_000;

/// How far a connection has come.
const SILENT: u8 = 0;
/// It has sent a hello that makes sense.
const SPOKEN: u8 = 1;
/// Its handshake is over.
const SETTLED: u8 = 2;

/// A connection that was taken in. It ends when this is dropped.
struct Taken<T> {
    task: T,
    from: IpAddr,
    /// Whether a known peer lives at that address.
    known: bool,
    stage: Arc<AtomicU8>,
}

impl<T> Taken<T> {
    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Relaxed)
    }
}

/// Makes room for one more connection from an address. `false`: nobody may be turned out for it.
fn make_room<T>(links: &mut Vec<Taken<T>>, from: IpAddr, known: bool) -> bool {
    let waiting = |link: &&Taken<T>| link.stage() != SETTLED;
    let is_own = |link: &Taken<T>| link.stage() != SETTLED && link.from == from;
    if links.iter().filter(|link| is_own(link)).count() >= SHARE_MAX {
        let silent = links.iter().position(|link| is_own(link) && link.stage() == SILENT);
        let oldest = silent.or_else(|| links.iter().position(is_own));
        return oldest.map(|at| links.remove(at)).is_some();
    }
    let all = links.iter().filter(waiting).count();
    let strangers = links.iter().filter(waiting).filter(|link| !link.known).count();
    if all < STRANGERS_MAX && (known || strangers < STRANGERS_MAX - RESERVED) {
        return true;
    }
    // Of a peer's address nobody is turned out for a stranger.
    let may_go = |link: &Taken<T>| link.stage() != SETTLED && (known || !link.known);
    let silent = links.iter().position(|link| may_go(link) && link.stage() == SILENT);
    let stranger = || links.iter().position(|link| known && may_go(link) && !link.known);
    silent.or_else(stranger).map(|at| links.remove(at)).is_some()
}

/// Never ends by itself; all links it has taken in end with it.
pub(crate) async fn accept_all<G: Runtime>(rim: Arc<Rim<G>>, mut listener: G::Listener) {
    let log = Arc::new(Log::default());
    let mut links: Vec<Taken<G::Task>> = Vec::new();
    loop {
        match rim.runtime.accept(&mut listener).await {
            Ok((stream, from)) => {
                // So there are never more than were open at once, and one.
                links.retain(|link| !link.task.is_over());
                let ip = from.ip().to_canonical();
                let known = rim.is_home_of_a_peer(ip);
                if !make_room(&mut links, ip, known) {
                    turn_away(stream).await;
                    continue;
                }
                let (us, log) = (Arc::clone(&rim), Arc::clone(&log));
                let stage = Arc::new(AtomicU8::new(SILENT));
                let shown = Arc::clone(&stage);
                let task = async move { welcome(&us, &log, stream, ip, &shown).await };
                links.push(Taken { task: rim.runtime.spawn(task), from: ip, known, stage });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept links for now");
                wait_until(&rim.runtime, rim.runtime.now().plus_ms(PAUSE_MS)).await;
            }
        }
    }
}

/// As many bytes as the socket takes at once; a stranger is not waited for.
async fn turn_away(mut stream: impl AsyncWrite + Unpin) {
    let text = format!("{STRANGERS_MAX} connections are in their handshake already; try later");
    let bytes = goodbye(HELLO_VERSION, &Refusal::new(RefusalCode::Busy, text));
    let said =
        poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_write(context, &bytes))).await;
    if !matches!(said, Poll::Ready(Ok(_))) {
        tracing::debug!("a stranger was turned away without a word");
    }
}

async fn welcome<G: Runtime>(
    rim: &Rim<G>,
    log: &Log,
    mut stream: G::Stream,
    from: IpAddr,
    stage: &AtomicU8,
) {
    let handshake = Handshake::accept(Arc::clone(&rim.me), rim.nonce());
    let on_spoken = || stage.store(SPOKEN, Ordering::Relaxed);
    let shaken = shake_hands(&mut stream, handshake, None, on_spoken, |peer| rim.admits(peer));
    let opened = within(&rim.runtime, rim.handshake_ms, shaken).await;
    stage.store(SETTLED, Ordering::Relaxed);
    let (peer, decoder) = match opened.unwrap_or(Err(Failure::Slow)) {
        Ok(opened) => opened,
        Err(failure) => return log.on_failure(rim.runtime.now(), from, &failure),
    };
    let node = rim.name(peer.node);
    let caller = match rim.on_call(peer.node, peer.life) {
        Ok(caller) => caller,
        Err(end) => return tracing::warn!(node, %from, why = %end, "link from a peer not taken"),
    };
    tracing::debug!(node, %from, boot = peer.life.boot.0, "the peer's link to us is open");
    let link = Link::new(rim.pace, peer.protocol, decoder, rim.runtime.now());
    let reading = Reading::new(peer.node, &rim.inbox);
    let mut ends = CallerEnds { caller: &caller, reading };
    let end = run(&rim.runtime, stream, link, &mut ends).await;
    rim.on_hang_up((peer.node, peer.life), &caller);
    tracing::debug!(node, %from, why = %end, "the peer's link to us ended");
}

/// Remembers the last trouble, so that a peer which tries on and on fills no log.
#[derive(Default)]
struct Log {
    last: Mutex<Option<(IpAddr, String, Mono)>>,
}

impl Log {
    fn on_failure(&self, now: Mono, from: IpAddr, failure: &Failure) {
        let why = failure.to_string();
        let hung_up =
            matches!(failure, Failure::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof);
        let mut last = self.last.lock().expect("no panic while locked");
        let known = last.as_ref().is_some_and(|(ip, text, when)| {
            *ip == from && *text == why && now.ms_since(*when) < REPEAT_MS
        });
        if known || hung_up {
            tracing::debug!(%from, why, "a connection did not become a link");
        } else {
            tracing::warn!(%from, why, "a connection did not become a link");
            *last = Some((from, why, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn stranger(number: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, number as u8])
    }

    fn take(links: &mut Vec<Taken<usize>>, task: usize, from: IpAddr, stage: u8) -> bool {
        let known = from == PEER;
        let taken = make_room(links, from, known);
        if taken {
            let stage = Arc::new(AtomicU8::new(stage));
            links.push(Taken { task, from, known, stage });
        }
        taken
    }

    fn of(links: &[Taken<usize>], from: IpAddr) -> Vec<usize> {
        links.iter().filter(|link| link.from == from).map(|link| link.task).collect()
    }

    #[test]
    fn one_address_has_a_share_and_turns_out_its_own_alone() {
        let mut links = Vec::new();
        assert!(take(&mut links, 0, PEER, SPOKEN));
        for task in 0..100 {
            assert!(take(&mut links, task, stranger(1), SPOKEN));
        }
        assert_eq!(of(&links, PEER), [0]);
        assert_eq!(of(&links, stranger(1)), (84..100).collect::<Vec<_>>());
        links.retain(|link| link.from == PEER);
        for task in 0..SHARE_MAX {
            take(&mut links, task, stranger(1), if task == 7 { SILENT } else { SPOKEN });
        }
        take(&mut links, 99, stranger(1), SPOKEN);
        assert!(!of(&links, stranger(1)).contains(&7), "the silent one goes first");
    }

    #[test]
    fn strangers_of_many_addresses_leave_places_to_known_peers() {
        let mut links = Vec::new();
        let taken = (0..200).filter(|&task| take(&mut links, task, stranger(task), SPOKEN));
        assert_eq!(taken.count(), STRANGERS_MAX - RESERVED);
        for task in 0..100 {
            assert!(take(&mut links, task, PEER, SPOKEN));
        }
        assert_eq!(of(&links, PEER).len(), SHARE_MAX);
        assert!(!take(&mut links, 0, stranger(250), SPOKEN), "nobody is turned out for it");
        links[3].stage.store(SILENT, Ordering::Relaxed);
        assert!(take(&mut links, 0, stranger(250), SPOKEN), "but one that says nothing");
    }

    #[test]
    fn links_that_are_open_take_no_place() {
        let mut links = Vec::new();
        for task in 0..500 {
            assert!(take(&mut links, task, stranger(1), SETTLED));
        }
        assert_eq!(links.len(), 500);
    }
}
