//! One connection: a request, its answer, the next request.
//!
//! An answer leaves as soon as it exists, whatever else the client has sent by then, and the next request is not begun
//! before its last byte has left: a client that does not read makes the node hold one answer, not thousands. Whatever
//! cannot be read as a request is refused in words, and then the connection ends.

use std::sync::Arc;

use bytes::Buf as _;
use hyper::{Method, StatusCode};
use tokio::sync::watch;

use crate::http::answer::{Answer, Problem};
use crate::http::body::{self, NoBody};
use crate::http::claims::Claims;
use crate::http::front::Front;
use crate::http::head::{self, Framing, Head};
use crate::http::limits::{CROWDED_PATIENCE, HEAD_PATIENCE, IDLE_PATIENCE};
use crate::http::reply::{self, Left};
use crate::http::router;
use crate::http::visit::Visit;
use crate::http::wire::{Ended, Wire, after};
use crate::http::written::Writer;

/// What a connection needs besides its socket.
#[derive(Clone, Debug)]
pub struct Around {
    /// The front end.
    pub front: Arc<Front>,
    /// What clients make the node hold.
    pub claims: Arc<Claims>,
    /// Says true when the node is about to stop.
    pub stop: watch::Receiver<bool>,
}

/// Where a connection is, for its last words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Head,
    Body,
    Answer,
}

/// Serves a connection to its end.
pub async fn serve(wire: Wire, mut around: Around) {
    let mut wire = wire;
    let seat = Arc::clone(wire.seat());
    let mut place = Place::Head;
    let mut writer = Writer::default();
    tokio::select! {
        biased;
        () = seat.told_to_leave() => {}
        end = converse(&mut wire, &mut writer, &mut place, &mut around) => {
            if end == End::Refused {
                wire.hang_up().await;
            }
            return;
        }
    }
    if place == Place::Body {
        wire.send_now(&writer.refusal(&body::too_slow()));
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// With the client's or the node's consent.
    Closed,
    /// With an answer that the client may not have read, since it may still be sending.
    Refused,
}

async fn converse(
    wire: &mut Wire,
    writer: &mut Writer,
    place: &mut Place,
    around: &mut Around,
) -> End {
    loop {
        *place = Place::Head;
        let head = match next_head(wire, &mut around.stop).await {
            Ok(Some(head)) => head,
            Ok(None) => return End::Closed,
            Err(problem) => {
                let bytes = writer.refusal(&problem);
                return if wire.send(&bytes, b"").await.is_ok() {
                    End::Refused
                } else {
                    End::Closed
                };
            }
        };
        let claim = Arc::new(around.claims.open(wire.seat()));
        let visit = Visit { front: &around.front, claim: &claim, source: wire.source() };
        *place = Place::Body;
        let Some(answer) = answer(wire, writer, place, &head, visit).await else {
            return End::Closed;
        };
        let Answered { answer, ends: is_refused } = answer;
        let ends = !head.keeps_alive || is_refused || around.front.is_stopping();
        match reply::send(wire, writer, &head, answer, ends).await {
            Left::Whole => {}
            Left::Last if is_refused => return End::Refused,
            Left::Last | Left::Broken => return End::Closed,
        }
        // A client that sends faster than the node answers must not keep it from everything else.
        tokio::task::consume_budget().await;
    }
}

/// The next request's head. `None`: the connection ends here, and nobody is owed an answer.
async fn next_head(
    wire: &mut Wire,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Head>, Problem> {
    wire.seat().idles();
    let idle_until = after(IDLE_PATIENCE);
    let mut until = None;
    let mut tried = 0;
    loop {
        // Empty lines before a request are nothing (RFC 9112, 2.2), and no beginning of one.
        let blank = wire.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        wire.input.advance(blank);
        let length = wire.input.len();
        if length > 0 && (tried == 0 || length >= 2 * tried || head::may_be_whole(&wire.input)) {
            tried = length;
            if let Some((head, bytes)) = head::parse(&wire.input)? {
                wire.input.advance(bytes);
                return Ok(Some(head));
            }
        }
        if length > 0 && until.is_none() {
            wire.seat().expects();
            until = Some(after(HEAD_PATIENCE));
        }
        let read = tokio::select! {
            biased;
            read = wire.fill(until.unwrap_or(idle_until)) => read,
            () = stopped(stop) => return Ok(None),
        };
        match read {
            Ok(()) => {}
            Err(Ended::Late) if until.is_some() => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("the head did not arrive within {} s", HEAD_PATIENCE.as_secs()),
                    "send it faster",
                ));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Ends when `stop` says true, or when nobody can say it any more.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|&stop| stop).await);
}

/// An answer, and whether the connection ends with it.
struct Answered {
    answer: Answer,
    ends: bool,
}

impl From<Problem> for Answered {
    fn from(problem: Problem) -> Answered {
        Answered { answer: problem.answer(), ends: problem.close }
    }
}

/// Reads the body and answers. `None`: the client has gone.
async fn answer(
    wire: &mut Wire,
    writer: &Writer,
    place: &mut Place,
    head: &Head,
    visit: Visit<'_>,
) -> Option<Answered> {
    let has_body = head.framing != Framing::Length(0);
    if has_body && head.asks_first {
        // Nothing was sent yet: what is refused anyhow needs no body, and nobody knows whether one comes all the same.
        if let Err(problem) = router::check(head) {
            return Some(Problem { close: true, ..problem }.into());
        }
        if wire.input.is_empty() {
            wire.send(writer.go_on(), b"").await.ok()?;
        }
    }
    let most = router::most(head);
    let body = match body::read(wire, head.framing, most, visit.claim).await {
        Ok(body) => body,
        Err(NoBody::Gone) => return None,
        Err(NoBody::Refused(problem)) => return Some(problem.into()),
    };
    *place = Place::Answer;
    wire.seat().waits();
    let answer = router::handle(visit, head, body).await;
    let reads = head.method == Method::GET;
    if !visit.claim.is_now(answer.body().holds()) && reads {
        return Some(body::no_memory().into());
    }
    Some(Answered { answer, ends: false })
}

/// Serves a connection beyond the limit: how the node is, or a refusal, and the end.
pub async fn crowded(mut wire: Wire, around: Around) {
    let mut writer = Writer::default();
    let mut stop = around.stop.clone();
    let head = tokio::time::timeout(CROWDED_PATIENCE, next_head(&mut wire, &mut stop)).await;
    let words = match head {
        Ok(Ok(Some(head))) if router::tells_how_the_node_is(&head) => {
            let claim = Arc::new(around.claims.open(wire.seat()));
            let visit = Visit { front: &around.front, claim: &claim, source: wire.source() };
            let answer = router::handle(visit, &head, bytes::Bytes::new()).await;
            writer.last(&answer).unwrap_or_else(|| writer.refusal(&too_many()))
        }
        Ok(Ok(Some(_))) | Err(_) => writer.refusal(&too_many()),
        Ok(Err(problem)) => writer.refusal(&problem),
        Ok(Ok(None)) => return,
    };
    wire.send_now(&words);
    wire.hang_up().await;
}

fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many connections are open on this node; nothing was done",
        "close some, share them between requests, or ask another node",
    )
}
