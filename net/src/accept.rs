//! The task that takes in links which peers dial.
//!
//! Whoever connects has no claim on us before its proof: a bounded number of strangers, a bounded time, a
//! bounded number of bytes, and few words in the log.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use rondo_core::env::Mono;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use crate::connection::{Failure, run, shake_hands};
use crate::handshake::{HELLO_VERSION, Handshake, goodbye};
use crate::link::Link;
use crate::peer::CallerEnds;
use crate::refusal::{Refusal, RefusalCode};
use crate::rim::Rim;

/// Connections that may be in their handshake at once.
pub(crate) const STRANGERS_MAX: usize = 64;
/// How long after an error of `accept` the next attempt is made: most mean that files ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// The same trouble from the same address is logged again after this, in milliseconds.
const REPEAT_MS: u64 = 60_000;

/// Never ends by itself; all links it has taken in end with it.
pub(crate) async fn accept_all(rim: Arc<Rim>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let log = Arc::new(Log::default());
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => match Arc::clone(&strangers).try_acquire_owned() {
                    Ok(permit) => {
                        let (rim, log) = (Arc::clone(&rim), Arc::clone(&log));
                        links.spawn(async move { welcome(&rim, &log, stream, from, permit).await });
                    }
                    Err(_) => turn_away(&stream),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept links for now");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// As many bytes as the socket takes at once; a stranger is not waited for.
fn turn_away(stream: &TcpStream) {
    let text = format!("{STRANGERS_MAX} connections are in their handshake already; try later");
    let refusal = Refusal::new(RefusalCode::Busy, text);
    if let Err(error) = stream.try_write(&goodbye(HELLO_VERSION, &refusal)) {
        tracing::debug!(%error, "a stranger was turned away without a word");
    }
}

async fn welcome(
    rim: &Rim,
    log: &Log,
    mut stream: TcpStream,
    from: SocketAddr,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let handshake = Handshake::accept(Arc::clone(&rim.me), rim.nonce());
    let opened = match stream.set_nodelay(true) {
        Ok(()) => timeout(rim.handshake, shake_hands(&mut stream, handshake, None)).await,
        Err(error) => Ok(Err(Failure::Io(error))),
    };
    drop(permit);
    let (peer, decoder) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(failure)) => return log.on_failure(rim.clock.mono(), from.ip(), &failure),
        Err(_) => return log.on_failure(rim.clock.mono(), from.ip(), &Failure::Slow),
    };
    let node = peer.node.short();
    let caller = match rim.on_call(peer.node, peer.boot) {
        Ok(caller) => caller,
        Err(end) => return tracing::warn!(node, %from, why = %end, "link from a peer not taken"),
    };
    tracing::debug!(node, %from, boot = peer.boot.0, "the peer's link to us is open");
    let link = Link::new(rim.pace, peer.protocol, decoder, rim.clock.mono());
    let mut ends = CallerEnds { node: peer.node, caller: &caller, inbox: &rim.inbox };
    let end = run(stream, link, rim.clock, &mut ends).await;
    rim.on_hang_up(peer.node, &caller);
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
