//! The task that keeps one peer dialled: connect, shake hands, run the link, wait, again.

use std::sync::Arc;

use rondo_core::env::Address;

use crate::connection::{Failure, run, shake_hands};
use crate::frame::Decoder;
use crate::handshake::{Handshake, Peer};
use crate::link::{End, Link};
use crate::peer::{Called, CalledEnds, Reading};
use crate::reconnect::Backoff;
use crate::rim::{Rim, STOPS};
use crate::runtime::{Runtime, wait_until, within};

/// Ends when the node stops, after its last words.
pub(crate) async fn keep_dialled<G: Runtime>(rim: Arc<Rim<G>>, called: Arc<Called>) {
    let mut backoff = Backoff::default();
    while !rim.stops() {
        let address = called.on_dial();
        let dialled = dial(&rim, &called, &address);
        let opened = within(&rim.runtime, rim.handshake_ms, dialled).await;
        let opened = opened.unwrap_or(Err(Failure::Slow));
        let hopeless = match opened {
            Ok((stream, peer, decoder)) => {
                backoff.on_open(rim.runtime.now());
                let end = converse(&rim, &called, &address, stream, &peer, decoder).await;
                on_end(&called, &address, &end)
            }
            Err(failure) => on_failure(&called, &address, &failure),
        };
        let next = backoff.on_failure(rim.runtime.now(), hopeless, rim.random());
        tokio::select! {
            biased;
            () = called.news.notified() => backoff.on_news(),
            () = wait_until(&rim.runtime, next) => {}
        }
    }
}

/// The name is resolved anew at each attempt: peers move.
async fn dial<G: Runtime>(
    rim: &Rim<G>,
    called: &Called,
    address: &Address,
) -> Result<(G::Stream, Peer, Decoder), Failure> {
    let mut stream = rim.runtime.connect(address).await.map_err(Failure::Io)?;
    let (handshake, first) = Handshake::dial(Arc::clone(&rim.me), called.node, rim.nonce());
    let (peer, decoder) =
        shake_hands(&mut stream, handshake, Some(first), || (), |peer| called.admits(peer.life))
            .await?;
    Ok((stream, peer, decoder))
}

async fn converse<G: Runtime>(
    rim: &Rim<G>,
    called: &Called,
    address: &Address,
    stream: G::Stream,
    peer: &Peer,
    decoder: Decoder,
) -> End {
    match called.on_open(address, peer) {
        Err(end) => end,
        Ok(_) if rim.stops() => End::Ours(STOPS),
        Ok(earlier) => {
            let (node, boot, protocol) = (called.name(), peer.life.boot.0, peer.protocol);
            tracing::info!(node, at = address.0, boot, protocol, earlier, "link open");
            let link = Link::new(rim.pace, peer.protocol, decoder, rim.runtime.now());
            let reading = Reading::new(called.node, &rim.inbox);
            run(&rim.runtime, stream, link, &mut CalledEnds { called, reading }).await
        }
    }
}

/// Whether only people can help.
fn on_end(called: &Called, address: &Address, end: &End) -> bool {
    let why = end.to_string();
    let refusal = match end {
        End::Goodbye(refusal) => Some(refusal),
        _ => None,
    };
    called.on_trouble(&why, refusal);
    tracing::warn!(node = called.name(), at = address.0, why, "link ended");
    refusal.is_some_and(|refusal| refusal.code.needs_people())
}

/// Whether only people can help.
fn on_failure(called: &Called, address: &Address, failure: &Failure) -> bool {
    let why = failure.to_string();
    let refusal = failure.refusal();
    let node = called.name();
    if called.on_trouble(&why, refusal) {
        tracing::warn!(node, at = address.0, why, "no link to the peer; trying on");
    } else {
        tracing::debug!(node, at = address.0, why, "still no link to the peer");
    }
    refusal.is_some_and(|refusal| refusal.code.needs_people())
}
