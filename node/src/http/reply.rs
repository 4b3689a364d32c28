//! How an answer leaves: head and body in one write when the body is whole, a piece after the other when it is not.
//!
//! The next piece is asked for when the last byte of the one before is the operating system's, so nothing gathers here. A
//! body that breaks off is never ended: the connection closes as it is, and is reset where only its end would tell the
//! client that the body is whole.

use std::fmt::Write as _;
use std::future::poll_fn;

use bytes::{BufMut as _, BytesMut};
use hyper::Method;

use crate::http::answer::Answer;
use crate::http::head::Head;
use crate::http::limits::PIECE_BYTES_MAX;
use crate::http::pieces::{Body, Framed, Pieces};
use crate::http::wire::Wire;
use crate::http::written::Writer;

/// What became of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The client has all of it, and the next request may come.
    Whole,
    /// The client has all of it, and the connection ends.
    Last,
    /// The client has gone, or reads nothing, or the body broke off: nothing more may be said.
    Broken,
}

/// Sends the answer to `request`. `ends`: the connection ends behind it.
pub async fn send(
    wire: &mut Wire,
    writer: &mut Writer,
    request: &Head,
    answer: Answer,
    ends: bool,
) -> Left {
    let framed = answer.body().framed(request.is_old);
    let ends = ends || framed == Framed::ToTheEnd;
    let head = writer.head(&answer, framed, request, ends);
    let has_left = match answer.into_body() {
        _ if request.method == Method::HEAD => wire.send(&head, b"").await.is_ok(),
        Body::Whole(bytes) => wire.send(&head, &bytes).await.is_ok(),
        Body::Pieces(pieces) => in_pieces(wire, head, pieces, framed).await,
    };
    match (has_left, ends) {
        (false, _) => Left::Broken,
        (true, true) => Left::Last,
        (true, false) => Left::Whole,
    }
}

/// Sends a head and the pieces behind it; answers whether all has left.
async fn in_pieces(wire: &mut Wire, head: BytesMut, pieces: Pieces, framed: Framed) -> bool {
    let mut source = pieces.source;
    let mut left = pieces.length.unwrap_or(u64::MAX);
    // What is due before the next piece.
    let mut before = head;
    wire.resets(framed == Framed::ToTheEnd);
    loop {
        wire.seat().waits();
        let piece = match poll_fn(|context| source.poll_next(context)).await {
            None => break,
            Some(Ok(piece)) => piece,
            Some(Err(broken)) => {
                tracing::debug!(why = broken.0, "an answer breaks off");
                return false;
            }
        };
        assert!(piece.len() <= PIECE_BYTES_MAX, "a piece is bounded");
        if piece.is_empty() {
            // As a chunk it would be the last one.
            continue;
        }
        let Some(rest) = left.checked_sub(piece.len() as u64) else { return false };
        left = rest;
        if framed == Framed::Chunked {
            write!(before, "{:x}\r\n", piece.len()).expect("it grows");
        }
        if wire.send(&before, &piece).await.is_err() {
            return false;
        }
        before.clear();
        if framed == Framed::Chunked {
            before.put_slice(b"\r\n");
        }
        // A client that reads as fast as pieces are made must not keep the node from everything else.
        tokio::task::consume_budget().await;
    }
    match framed {
        Framed::Length(_) if left > 0 => return false,
        Framed::Chunked => before.put_slice(b"0\r\n\r\n"),
        Framed::Length(_) | Framed::ToTheEnd => {}
    }
    let has_left = wire.send(&before, b"").await.is_ok();
    wire.resets(!has_left);
    has_left
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{ErrorKind, Read as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use bytes::Bytes;

    use super::*;
    use crate::http::answer::{self, TEXT};
    use crate::http::head;
    use crate::http::pieces::{Broken, Source};
    use crate::http::seats::Seats;

    const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
    const NEW: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    /// Pieces that are there, and then perhaps an error.
    struct List(VecDeque<Result<Bytes, Broken>>);

    impl Source for List {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
            Poll::Ready(self.0.pop_front())
        }

        fn holds(&self) -> usize {
            0
        }
    }

    fn list(pieces: &[&'static str], breaks: bool, length: Option<u64>) -> Pieces {
        let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let end = breaks.then(|| Err(Broken("no more".to_owned())));
        Pieces { source: Box::new(List(pieces.chain(end).collect())), length }
    }

    fn connected() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, _) = listener.accept().expect("it has connected");
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::TcpStream::from_std(stream).expect("a runtime");
        (Wire::new(stream, Seats::new().take()), client)
    }

    /// All that a client reads of an answer, without its date, and whether the connection was reset.
    async fn told(request: &str, pieces: Pieces) -> (Left, String, bool) {
        let (mut wire, mut client) = connected();
        let (request, _) = head::parse(request.as_bytes()).expect("sound").expect("whole");
        let answer = answer::in_pieces(TEXT, pieces);
        let ends = !request.keeps_alive;
        let left = send(&mut wire, &mut Writer::default(), &request, answer, ends).await;
        drop(wire);
        let mut bytes = Vec::new();
        let end = client.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
        let is_reset = end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        (left, lines.collect(), is_reset)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n";

    #[tokio::test]
    async fn a_body_in_pieces_is_told_to_be_whole_in_the_way_that_its_client_knows() {
        let pieces = |length| list(&["one", "", "sixteen and more"], false, length);
        let chunks = "3\r\none\r\n10\r\nsixteen and more\r\n0\r\n\r\n";
        let told_all = [
            (NEW, None, Left::Whole, format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunks}")),
            (
                NEW,
                Some(19),
                Left::Whole,
                format!("{HEAD}content-length: 19\r\n\r\nonesixteen and more"),
            ),
            (OLD, None, Left::Last, format!("{HEAD}connection: close\r\n\r\nonesixteen and more")),
            (
                OLD,
                Some(19),
                Left::Last,
                format!("{HEAD}content-length: 19\r\nconnection: close\r\n\r\nonesixteen and more"),
            ),
        ];
        for (request, length, left, text) in told_all {
            assert_eq!(
                told(request, pieces(length)).await,
                (left, text, false),
                "{request} {length:?}"
            );
        }
        let kept = OLD.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(told(&kept, pieces(Some(19))).await.0, Left::Whole);
        let (left, text, _) = told(&kept, pieces(None)).await;
        assert!(
            left == Left::Last && text.contains("connection: close"),
            "only its end tells: {text}"
        );
        let nothing = format!("{HEAD}transfer-encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(told(NEW, list(&[], false, None)).await, (Left::Whole, nothing, false));
        assert_eq!(told(NEW, list(&[], false, Some(0))).await.0, Left::Whole);
    }

    #[tokio::test]
    async fn a_head_alone_says_how_the_body_would_be_told() {
        let of = |request: &str| request.replace("GET", "HEAD");
        let pieces = |length| list(&["never made"], true, length);
        let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
        assert_eq!(told(&of(NEW), pieces(None)).await, (Left::Whole, chunked, false));
        let known = format!("{HEAD}content-length: 10\r\n\r\n");
        assert_eq!(told(&of(NEW), pieces(Some(10))).await, (Left::Whole, known, false));
        let old = format!("{HEAD}connection: close\r\n\r\n");
        assert_eq!(told(&of(OLD), pieces(None)).await, (Left::Last, old, false));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
        let broken = || list(&["one"], true, None);
        let cut = format!("{HEAD}transfer-encoding: chunked\r\n\r\n3\r\none");
        assert_eq!(told(NEW, broken()).await, (Left::Broken, cut, false));
        let (left, _, is_reset) = told(OLD, broken()).await;
        assert_eq!((left, is_reset), (Left::Broken, true), "nothing else would tell it");
        let short = format!("{HEAD}content-length: 9\r\n\r\none");
        assert_eq!(
            told(NEW, list(&["one"], true, Some(9))).await,
            (Left::Broken, short.clone(), false)
        );
        assert_eq!(
            told(NEW, list(&["one"], false, Some(9))).await,
            (Left::Broken, short.clone(), false)
        );
        let long = list(&["one", "much more"], false, Some(9));
        assert_eq!(
            told(NEW, long).await,
            (Left::Broken, short, false),
            "nothing beyond its length"
        );
    }

    /// More than all buffers between two sockets hold, made when it is asked for.
    struct Endless(Arc<AtomicUsize>);

    const ENDLESS_PIECES: usize = 1 << 14;

    impl Source for Endless {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
            let made = self.0.fetch_add(1, Ordering::Relaxed);
            let piece = Bytes::from_static(&[b'x'; PIECE_BYTES_MAX]);
            Poll::Ready((made < ENDLESS_PIECES).then_some(Ok(piece)))
        }

        fn holds(&self) -> usize {
            PIECE_BYTES_MAX
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_the_source_wait() {
        let (mut wire, client) = connected();
        let (request, _) = head::parse(NEW.as_bytes()).expect("sound").expect("whole");
        let made = Arc::new(AtomicUsize::new(0));
        let source = Box::new(Endless(Arc::clone(&made)));
        let answer = answer::in_pieces(TEXT, Pieces { source, length: None });
        let mut writer = Writer::default();
        let hangs_up = async {
            while made.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let (left, ()) =
            tokio::join!(send(&mut wire, &mut writer, &request, answer, false), hangs_up);
        assert_eq!(left, Left::Broken);
        let made = made.load(Ordering::Relaxed);
        assert!(made < ENDLESS_PIECES / 2, "{made} pieces for a client that has read none");
    }
}
