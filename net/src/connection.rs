//! The rim of one link: moves bytes between a stream and the pure machines, and tells them the time.
//!
//! One task serves one connection in both directions: it is woken by arriving bytes, by room to write,
//! by something to send and by the clock, and then does all there is to do. No decision is taken here
//! that `handshake` or `link` could take. Generic over the runtime, so that it runs on TCP, TLS or a pipe.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::frame::{Decoder, FrameError};
use crate::handshake::{HANDSHAKE_BYTES_MAX, HELLO_VERSION, Handshake, Peer, Step, goodbye};
use crate::link::{End, Link, SLICES_MAX};
use crate::refusal::{Refusal, RefusalCode};
use crate::runtime::{Alarm, Runtime};
use bytes::Bytes;
use rondo_core::env::Class;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads in a row before others get their turn.
const READS_MAX: usize = 16;

/// Why a link did not open.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke.
    Io(io::Error),
    /// The handshake took too long.
    Slow,
    /// The other side speaks something else.
    Frame(FrameError),
    /// We refused.
    Refuse(Refusal),
    /// The other side refused.
    Refused(Refusal),
}

impl Failure {
    /// The refusal, by either side.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Failure::Refuse(refusal) | Failure::Refused(refusal) => Some(refusal),
            Failure::Io(_) | Failure::Slow | Failure::Frame(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "nobody listens there")
            }
            Failure::Io(error) => write!(f, "{error}"),
            Failure::Slow => write!(f, "no answer in time"),
            Failure::Frame(error) => write!(f, "received {error}"),
            Failure::Refuse(refusal) => write!(f, "refused here: {refusal}"),
            Failure::Refused(refusal) => write!(f, "refused there: {refusal}"),
        }
    }
}

/// Goes through the handshake, after sending `first`. On success returns who is there, and the decoder
/// with whatever has arrived behind the handshake. `on_spoken` is called when the other side has said something that
/// makes sense. Whoever has proved to be a node of the cluster is still refused when `admit` does so.
pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut handshake: Handshake,
    first: Option<Bytes>,
    on_spoken: impl Fn(),
    admit: impl Fn(&Peer) -> Result<(), Refusal>,
) -> Result<(Peer, Decoder), Failure> {
    if let Some(first) = first {
        stream.write_all(&first).await.map_err(Failure::Io)?;
    }
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    loop {
        let frame = match decoder.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                let buffer = decoder.buffer(HANDSHAKE_BYTES_MAX);
                if stream.read_buf(buffer).await.map_err(Failure::Io)? == 0 {
                    let why = "the peer closed the connection during the handshake";
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                    return Err(Failure::Io(error));
                }
                continue;
            }
            Err(error) => {
                let refusal = Refusal::new(RefusalCode::Malformed, format!("received {error}"));
                // The stream is lost in any case.
                let _ = stream.write_all(&goodbye(HELLO_VERSION, &refusal)).await;
                return Err(Failure::Frame(error));
            }
        };
        match handshake.on_frame(&frame) {
            Step::Send(bytes) => {
                on_spoken();
                stream.write_all(&bytes).await.map_err(Failure::Io)?;
            }
            Step::Open(last, peer) => {
                if let Err(refusal) = admit(&peer) {
                    return Err(refuse(stream, &goodbye(HELLO_VERSION, &refusal), refusal).await);
                }
                if let Some(last) = last {
                    stream.write_all(&last).await.map_err(Failure::Io)?;
                }
                return Ok((peer, decoder));
            }
            Step::Refuse(bytes, refusal) => return Err(refuse(stream, &bytes, refusal).await),
            Step::Refused(refusal) => return Err(Failure::Refused(refusal)),
        }
    }
}

/// Says the last words.
async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, words: &Bytes, why: Refusal) -> Failure {
    // Whether the peer still hears it changes nothing for us.
    let _ = stream.write_all(words).await;
    let _ = stream.shutdown().await;
    Failure::Refuse(why)
}

/// What an open link gives to and takes from the rest of the program.
pub(crate) trait Ends {
    /// Ready when there is room for a frame of `bytes`; otherwise the peer is not read from until there is.
    fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()>;
    /// A message has arrived.
    fn deliver(&mut self, class: Class, bytes: Bytes);
    /// Loads the link, when it wants more, with everything that waits to be sent, and keeps the waker for
    /// what comes later. An error ends the link.
    fn load(&mut self, link: &mut Link, context: &mut Context<'_>) -> Result<(), End>;
}

/// Runs an open link until it ends, and then says goodbye where that makes sense.
pub(crate) async fn run<G: Runtime>(
    runtime: &G,
    mut stream: G::Stream,
    link: Link,
    ends: &mut impl Ends,
) -> End {
    let alarm = runtime.alarm(runtime.now());
    let mut open = Open { runtime, stream: &mut stream, link, alarm };
    let end = poll_fn(|context| open.poll(context, ends)).await;
    if let Some(refusal) = end.refusal() {
        open.link.say_goodbye(&refusal);
        // As much as the socket takes at once: a peer that does not read is not waited for.
        poll_fn(|context| {
            let _ = open.poll_write_out(context);
            Poll::Ready(())
        })
        .await;
    }
    end
}

struct Open<'a, G: Runtime> {
    runtime: &'a G,
    stream: &'a mut G::Stream,
    link: Link,
    alarm: G::Alarm,
}

impl<G: Runtime> Open<'_, G> {
    fn poll(&mut self, context: &mut Context<'_>, ends: &mut impl Ends) -> Poll<End> {
        match self.step(context, ends) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Reads first: silence is judged only after everything that has arrived has been heard.
    fn step(&mut self, context: &mut Context<'_>, ends: &mut impl Ends) -> Result<(), End> {
        self.read(context, ends)?;
        loop {
            while Pin::new(&mut self.alarm).poll(context).is_ready() {
                let next = self.link.on_time(self.runtime.now())?;
                self.alarm.reset(next);
            }
            let roomy = self.link.wants_more();
            ends.load(&mut self.link, context)?;
            if self.poll_write_out(context)?.is_pending() || roomy {
                return Ok(());
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>, ends: &mut impl Ends) -> Result<(), End> {
        for _ in 0..READS_MAX {
            if ends.poll_room(self.link.awaited(), context).is_pending() {
                self.link.on_full(self.runtime.now());
                return Ok(());
            }
            let read = {
                let reading = self.stream.read_buf(self.link.read_buffer());
                pin!(reading).poll(context)
            };
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    return Err(End::Closed("the peer closed the connection".into()));
                }
                Poll::Ready(Ok(_)) => self.link.on_read(self.runtime.now()),
                Poll::Ready(Err(error)) => return Err(End::Closed(error.to_string())),
            }
            while let Some((class, bytes)) = self.link.next_message()? {
                ends.deliver(class, bytes);
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Writes what the link has; `Ready` when nothing is left.
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        let mut written = None;
        loop {
            if let Some(count) = written {
                self.link.on_written(count, self.runtime.now());
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.link.slices(&mut slices);
            if count == 0 {
                return Ok(Poll::Ready(()));
            }
            match Pin::new(&mut *self.stream).poll_write_vectored(context, &slices[..count]) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => {
                    return Err(End::Closed("the connection takes no more".into()));
                }
                Poll::Ready(Ok(count)) => written = Some(count),
                Poll::Ready(Err(error)) => return Err(End::Closed(error.to_string())),
            }
        }
    }
}
