//! The listener: connections in, a bounded number of them, and a way to end them all.
//!
//! A connection is one task on the thread that also runs the node; a request is no task of its own. At the limit, which
//! the system's file descriptors set, whoever has been silent longest leaves for the next; where nobody is silent, the
//! next is refused in words or told how the node is, on one of a few spare places. When the node stops, no connection is
//! accepted any more, idle ones end at once and others after the request they are in, or when `DRAIN` is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::claims::Claims;
use crate::http::connection::{self, Around, stopped};
use crate::http::front::Front;
use crate::http::limits::SPARE_CONNECTIONS_MAX;
use crate::http::seats::Seats;
use crate::http::wire::Wire;

/// How long requests that are under way may go on when the node stops.
pub const DRAIN: Duration = Duration::from_secs(3);
/// How long to wait when the system has no file descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often to say so.
const ACCEPT_WORDS: Duration = Duration::from_secs(10);

/// Accepts and serves at most `limit` connections until `stop` says true, and then until every open request has been
/// answered or cut off.
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
    limit: usize,
) {
    let seats = Seats::new();
    let claims = Claims::new(front.memory(), Arc::clone(&seats));
    let around = Around { front, claims, stop: stop.clone() };
    let mut connections = JoinSet::new();
    let mut said: Option<Instant> = None;
    loop {
        let room = connections.len() < limit + SPARE_CONNECTIONS_MAX;
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => {
                    let fits = connections.len() < limit || seats.make_room();
                    let wire = Wire::new(stream, seats.take());
                    if fits {
                        connections.spawn(connection::serve(wire, around.clone()));
                    } else {
                        connections.spawn(connection::crowded(wire, around.clone()));
                    }
                }
                Err(error) => {
                    if said.is_none_or(|at| at.elapsed() > ACCEPT_WORDS) {
                        tracing::warn!(%error, "cannot accept a connection; a silent one is closed instead");
                        said = Some(Instant::now());
                    }
                    seats.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests that did not end in time are cut off"
        );
        connections.shutdown().await;
    }
}
