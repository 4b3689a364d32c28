//! Reading a request's body: never more than is allowed, never for ever, and charged as it arrives.
//!
//! A body that is too large is read to its end all the same, up to 16 MiB, because a simple client sends everything
//! before it reads the answer. One that announces more is not read, and its connection ends. What a client announces
//! costs nothing: memory is taken when the bytes come, at most twice as much as there are, and charged before.

use bytes::{Buf as _, Bytes};
use hyper::StatusCode;
use rondo_core::config::VALUE_BYTES_MAX;
use tokio::time::Instant;

use crate::http::answer::Problem;
use crate::http::chunks::{Chunks, Next};
use crate::http::claims::Claim;
use crate::http::head::Framing;
use crate::http::limits::{BODY_PATIENCE, DRAIN_BYTES_MAX, READ_BYTES};
use crate::http::wire::{Ended, Wire, after};

/// Why there is no body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoBody {
    /// The client hung up.
    Gone,
    /// The client is to be told.
    Refused(Problem),
}

impl From<Problem> for NoBody {
    fn from(problem: Problem) -> NoBody {
        NoBody::Refused(problem)
    }
}

impl From<Ended> for NoBody {
    fn from(ended: Ended) -> NoBody {
        match ended {
            Ended::Gone => NoBody::Gone,
            Ended::Late => NoBody::Refused(too_slow()),
        }
    }
}

/// The problem of a value with `bytes` bytes, or with more than anybody counted.
#[must_use]
pub fn too_large(bytes: Option<u64>) -> Problem {
    let size = bytes.map_or("too many bytes".to_owned(), |bytes| format!("{bytes} bytes"));
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has {size}; a value has at most {VALUE_BYTES_MAX}"),
        "split the value over several keys",
    )
}

/// The problem of a body that came too slowly.
#[must_use]
pub fn too_slow() -> Problem {
    let problem = Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "the body did not arrive in time; nothing was done",
        "send it faster",
    );
    Problem { close: true, ..problem }
}

/// The whole body, when it has at most `most` bytes.
pub async fn read(
    wire: &mut Wire,
    framing: Framing,
    most: usize,
    claim: &Claim,
) -> Result<Bytes, NoBody> {
    wire.seat().expects();
    let mut reader = Reader { wire, claim, most, until: after(BODY_PATIENCE), body: Vec::new() };
    match framing {
        Framing::Length(0) => Ok(Bytes::new()),
        Framing::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= most => reader.whole(length).await,
            Ok(length) if length <= DRAIN_BYTES_MAX => {
                reader.drain(length).await?;
                Err(too_large(Some(length as u64)).into())
            }
            _ => Err(Problem { close: true, ..too_large(Some(length)) }.into()),
        },
        Framing::Chunked => reader.chunks().await,
    }
}

struct Reader<'a> {
    wire: &'a mut Wire,
    claim: &'a Claim,
    most: usize,
    until: Instant,
    body: Vec<u8>,
}

impl Reader<'_> {
    async fn whole(mut self, length: usize) -> Result<Bytes, NoBody> {
        let there = length.min(self.wire.input.len());
        self.grow(there, length).await?;
        self.body.extend_from_slice(&self.wire.input[..there]);
        self.wire.input.advance(there);
        while self.body.len() < length {
            self.grow(1, length).await?;
            let room = self.body.capacity().min(length) - self.body.len();
            self.wire.fill_body(&mut self.body, room, self.until).await?;
        }
        Ok(self.body.into())
    }

    async fn chunks(mut self) -> Result<Bytes, NoBody> {
        let mut chunks = Chunks::new();
        let mut length = 0usize;
        loop {
            match chunks.next(&mut self.wire.input)? {
                Next::More => self.wire.fill(self.until).await?,
                Next::Data(bytes) => {
                    length += bytes;
                    if length > DRAIN_BYTES_MAX {
                        return Err(Problem { close: true, ..too_large(None) }.into());
                    }
                    if length > self.most {
                        self.body = Vec::new();
                    } else {
                        self.grow(bytes, self.most).await?;
                        self.body.extend_from_slice(&self.wire.input[..bytes]);
                    }
                    self.wire.input.advance(bytes);
                    chunks.taken(bytes);
                }
                Next::End if length > self.most => {
                    return Err(too_large(Some(length as u64)).into());
                }
                Next::End => return Ok(self.body.into()),
            }
        }
    }

    /// Reads so many bytes and keeps none.
    async fn drain(&mut self, length: usize) -> Result<(), NoBody> {
        let mut left = length;
        loop {
            let there = left.min(self.wire.input.len());
            self.wire.input.advance(there);
            left -= there;
            if left == 0 {
                return Ok(());
            }
            self.wire.fill(self.until).await?;
        }
    }

    /// Makes room for `more` bytes at least, in a body of at most `whole`, and charges it first.
    async fn grow(&mut self, more: usize, whole: usize) -> Result<(), NoBody> {
        let (length, capacity) = (self.body.len(), self.body.capacity());
        if length + more <= capacity {
            return Ok(());
        }
        let wanted = (2 * capacity).max(length + more).max(READ_BYTES).min(whole);
        self.wire.seat().waits();
        if !self.claim.grow(wanted - capacity).await {
            return Err(no_memory().into());
        }
        self.wire.seat().expects();
        self.body.reserve_exact(wanted - length);
        Ok(())
    }
}

/// Everybody together holds too much.
#[must_use]
pub fn no_memory() -> Problem {
    let problem = Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "bodies and answers of all clients fill the memory for them; nothing was done",
        "try again later, with fewer requests at once",
    );
    Problem { close: true, ..problem }
}
