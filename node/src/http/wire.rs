//! The socket of one connection: reads and writes with an end in time, and tells its seat who waits for whom.

use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::http::limits::{ANSWER_PATIENCE, DRAIN_BYTES_MAX, LAST_WORDS_PATIENCE, READ_BYTES};
use crate::http::seats::Taken;

/// Why nothing more comes or goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The client hung up.
    Gone,
    /// The client took too long.
    Late,
}

/// A socket and what was read from it and not used yet.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    source: u64,
    taken: Taken,
    /// What was read and not used yet.
    pub input: BytesMut,
}

impl Wire {
    /// A connection that was accepted.
    #[must_use]
    pub fn new(stream: TcpStream, taken: Taken) -> Wire {
        // Without it an answer may wait 40 ms for the client's acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let source = stream.peer_addr().map_or(0, |address| source(address.ip()));
        Wire { stream, source, taken, input: BytesMut::new() }
    }

    /// Who is connected, as a number: the client's address.
    #[must_use]
    pub const fn source(&self) -> u64 {
        self.source
    }

    /// The connection's seat.
    #[must_use]
    pub fn seat(&self) -> &std::sync::Arc<crate::http::seats::Seat> {
        &self.taken.seat
    }

    /// Reads something more into `input`, waiting for it until `until`.
    pub async fn fill(&mut self, until: Instant) -> Result<(), Ended> {
        let Wire { stream, input, .. } = self;
        let read = arrives(until, |context| {
            let is_ready = stream.poll_read_ready(context).is_ready();
            let mut read = Poll::Pending;
            if is_ready {
                input.reserve(READ_BYTES);
                read = pin!(stream.read_buf(input)).poll(context);
            }
            if read.is_pending() && input.is_empty() {
                // A connection that waits holds no buffer: thousands may.
                *input = BytesMut::new();
            }
            read
        });
        let read = read.await?;
        self.has_read(read)
    }

    /// Reads at most `most` bytes to the end of `body`, waiting for some until `until`.
    pub async fn fill_body(
        &mut self,
        body: &mut Vec<u8>,
        most: usize,
        until: Instant,
    ) -> Result<(), Ended> {
        let stream = &mut self.stream;
        let read = arrives(until, |context| {
            let mut room = (&mut *body).limit(most);
            pin!(stream.read_buf(&mut room)).poll(context)
        });
        let read = read.await?;
        self.has_read(read)
    }

    fn has_read(&self, read: io::Result<usize>) -> Result<(), Ended> {
        match read {
            Ok(0) | Err(_) => Err(Ended::Gone),
            Ok(bytes) => {
                self.taken.seat.moved(bytes);
                Ok(())
            }
        }
    }

    /// Writes all of it. A client that reads nothing for `ANSWER_PATIENCE` is late.
    pub async fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), Ended> {
        let (mut head, mut body) = (head, body);
        let mut waits = false;
        while !(head.is_empty() && body.is_empty()) {
            match self.stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Err(Ended::Gone),
                Ok(bytes) => {
                    let from_head = bytes.min(head.len());
                    head = &head[from_head..];
                    body = &body[bytes - from_head..];
                    if waits {
                        self.taken.seat.moved(bytes);
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Ended::Gone),
            }
            if !waits {
                self.taken.seat.expects();
                waits = true;
            }
            let until = Instant::now() + ANSWER_PATIENCE;
            match timeout_at(until, self.stream.writable()).await {
                Ok(ready) => ready.map_err(|_| Ended::Gone)?,
                Err(_) => return Err(Ended::Late),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes at once: last words to a client that is cut off.
    pub fn send_now(&self, words: &[u8]) {
        // Nobody is left to tell when it does not fit.
        let _ = self.stream.try_write(words);
    }

    /// Whether the connection is reset when it closes from now on, so that the client does not take what it has for all.
    pub fn resets(&self, is_reset: bool) {
        let linger = is_reset.then_some(Duration::ZERO);
        if let Err(error) = rustix::net::sockopt::set_socket_linger(&self.stream, linger) {
            tracing::debug!(%error, "cannot set SO_LINGER");
        }
    }

    /// Ends the connection so that the last answer arrives. Closing a socket with unread input resets it, and a reset
    /// takes from the client what it has not read: so what it goes on sending is read for a while and dropped.
    pub async fn hang_up(mut self) {
        if rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        self.taken.seat.idles();
        let until = Instant::now() + LAST_WORDS_PATIENCE;
        let mut dropped = self.input.len();
        while dropped < DRAIN_BYTES_MAX {
            self.input.clear();
            if self.fill(until).await.is_err() {
                return;
            }
            dropped += self.input.len();
        }
    }
}

/// What `poll_read` reads, unless it comes later than `until`. It is not asked again before the socket says that there is
/// more: after a read that left room in the buffer, tokio waits for the next readiness instead of trying in vain.
async fn arrives(
    until: Instant,
    poll_read: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>,
) -> Result<io::Result<usize>, Ended> {
    timeout_at(until, poll_fn(poll_read)).await.map_err(|_| Ended::Late)
}

/// The moment `patience` from now.
#[must_use]
pub fn after(patience: Duration) -> Instant {
    Instant::now() + patience
}

/// One number for each client: its address, of version 6 only the network, in which it can have as many as it likes.
fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_address_and_of_version_6_its_network() {
        let of = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"), "the same over both kinds of socket");
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
