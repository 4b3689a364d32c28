//! Every limit of the HTTP front, and how they fit together.

use std::time::Duration;

use rondo_core::budget::Shares;
use rondo_core::config::{CONTEXT_BYTES_MAX, KEY_BYTES_MAX, MEMORY_BYTES_MIN, VALUE_BYTES_MAX};

/// Open connections, however many file descriptors there are.
pub const CONNECTIONS_MAX: usize = 8 << 10;
/// Connections beyond the limit that are taken all the same, to be refused in words or told how the node is.
pub const SPARE_CONNECTIONS_MAX: usize = 8;
/// File descriptors that no connection of a client takes: half of all, but not more than these and not fewer than those.
pub const RESERVED_DESCRIPTORS_MAX: usize = 4 << 10;
/// See above.
pub const RESERVED_DESCRIPTORS_MIN: usize = 32;

/// The longest target of a request: a key all of whose bytes are written as `%xx`, and a query.
pub const TARGET_BYTES_MAX: usize = 16 << 10;
/// The longest head of a request.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// The most header lines.
pub const HEADERS_MAX: usize = 100;
/// The longest line before a chunk of a body, extensions included.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// The longest trailer of a body, which nobody reads.
pub const TRAILER_BYTES_MAX: usize = 8 << 10;
/// What is read from a socket at once, and the least that a growing body grows by.
pub const READ_BYTES: usize = 8 << 10;

/// The most bytes JSON makes of one byte of a value: `\u0000`.
const ESCAPE_BYTES_MAX: usize = 6;
/// The longest JSON body: a value of the longest kind, all of it escaped, and room for the rest.
pub const JSON_BODY_BYTES_MAX: usize = VALUE_BYTES_MAX * ESCAPE_BYTES_MAX + (64 << 10);
/// The longest body of what an operator asks.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;
/// Up to here a body is read to its end although it is too large.
pub const DRAIN_BYTES_MAX: usize = 16 << 20;
/// An answer of so many bytes is sent even when nothing is left for answers.
pub const SMALL_ANSWER_BYTES_MAX: usize = 64 << 10;

/// The longest piece of an answer that leaves in pieces, in bytes.
pub const PIECE_BYTES_MAX: usize = 64 << 10;

/// How long a connection may idle between requests.
pub const IDLE_PATIENCE: Duration = Duration::from_secs(120);
/// How long the head of a request may take from its first byte.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a body may take.
pub const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may read nothing of its answer.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that was refused may go on sending before the connection is cut.
pub const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection beyond the limit may take to say what it wants.
pub const CROWDED_PATIENCE: Duration = Duration::from_secs(1);

/// For how long a client may be silent before it can be made to leave for others.
pub const SILENCE_MS: u64 = 1_000;
/// The pace, in bytes a millisecond, below which a client counts as silent.
pub const PACE_BYTES_PER_MS: u64 = 64;
/// How long the largest request that waits for memory goes on waiting while nothing becomes free.
pub const MEMORY_PATIENCE: Duration = Duration::from_millis(100);
/// How often any request does so.
pub const MEMORY_PATIENCE_MAX: usize = 50;

const _: () = assert!(3 * KEY_BYTES_MAX + 1024 < TARGET_BYTES_MAX);
const _: () = assert!(TARGET_BYTES_MAX + 2 * CONTEXT_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(JSON_BODY_BYTES_MAX < DRAIN_BYTES_MAX);
const _: () =
    assert!(4 * JSON_BODY_BYTES_MAX < Shares::of(MEMORY_BYTES_MIN).clients, "some fit at once");
const _: () = assert!(SMALL_ANSWER_BYTES_MAX < VALUE_BYTES_MAX);
const _: () = assert!(
    PIECE_BYTES_MAX as u64 >= PACE_BYTES_PER_MS * SILENCE_MS,
    "a client that takes a piece before it counts as silent reads at a fair pace"
);
const _: () = assert!(SPARE_CONNECTIONS_MAX < RESERVED_DESCRIPTORS_MIN);
