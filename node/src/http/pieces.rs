//! The body of an answer: all of it at once, or in pieces that are made while the client reads.
//!
//! A piece is asked for when the one before has left, so a client that reads slowly makes the source wait. What a source makes
//! the node hold is known before anything is sent, and the request's claim counts it.
//! So that a client can tell a whole body from one that broke off:
//!
//! | request | length | how the body ends | when it breaks off |
//! |---|---|---|---|
//! | any | known | after so many bytes | the connection closes before |
//! | HTTP/1.1 | unknown | with a last chunk | the connection closes without one |
//! | HTTP/1.0 | unknown | with the connection | the connection is reset |
//!
//! Left out: trailers, compression.

use std::task::{Context, Poll};

use bytes::Bytes;

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// In pieces.
    Pieces(Pieces),
}

/// A body in pieces.
pub struct Pieces {
    /// Where they come from.
    pub source: Box<dyn Source>,
    /// How long all of them are together, in bytes, when that is known.
    pub length: Option<u64>,
}

/// Where the pieces of a body come from.
pub trait Source: Send {
    /// The next piece, of at most `PIECE_BYTES_MAX`; `None` behind the last. It is not asked again before the piece has left,
    /// and not after an error, with which the body breaks off.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>>;

    /// What it makes the node hold at most until its end, the piece that leaves included, in bytes.
    fn holds(&self) -> usize;
}

/// Why a body breaks off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken(pub String);

/// How a client is told where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framed {
    /// After so many bytes.
    Length(u64),
    /// With a last chunk.
    Chunked,
    /// With the connection.
    ToTheEnd,
}

impl Body {
    /// What it makes the node hold, in bytes.
    #[must_use]
    pub fn holds(&self) -> usize {
        match self {
            Body::Whole(bytes) => bytes.len(),
            Body::Pieces(pieces) => pieces.source.holds(),
        }
    }

    /// How its end is told to a client, to one that speaks HTTP/1.0 when it `is_old`.
    #[must_use]
    pub fn framed(&self, is_old: bool) -> Framed {
        match self {
            Body::Whole(bytes) => Framed::Length(bytes.len() as u64),
            Body::Pieces(Pieces { length: Some(length), .. }) => Framed::Length(*length),
            Body::Pieces(_) if is_old => Framed::ToTheEnd,
            Body::Pieces(_) => Framed::Chunked,
        }
    }
}
