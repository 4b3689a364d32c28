//! Reading a request's body: never more than is allowed, never for ever.
//!
//! A body that is too large is read to its end all the same, up to 16 MiB, because a simple client sends everything
//! before it reads the answer. One that announces more is not read, and its connection ends.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use rondo_core::config::VALUE_BYTES_MAX;

use crate::http::answer::Problem;

/// Up to here a body is read although it is too large, in bytes.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes JSON makes of one byte of a value: `\u0000`.
const ESCAPE_BYTES_MAX: usize = 6;
/// The longest JSON body, in bytes: a value of the longest kind, all of it escaped, and room for the rest.
pub const JSON_BODY_BYTES_MAX: usize = VALUE_BYTES_MAX * ESCAPE_BYTES_MAX + (64 << 10);

const _: () = assert!(JSON_BODY_BYTES_MAX < DRAIN_BYTES_MAX);

/// The problem of a value with `bytes` bytes, or with more than anybody counted.
#[must_use]
pub fn too_large(bytes: Option<usize>) -> Problem {
    let size = bytes.map_or("too many bytes".to_owned(), |bytes| format!("{bytes} bytes"));
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has {size}; a value has at most {VALUE_BYTES_MAX}"),
        "split the value over several keys",
    )
}

/// The whole body, when it has at most `most` bytes.
pub async fn read<B>(headers: &HeaderMap, body: B, most: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        let wait = headers.contains_key(EXPECT);
        if wait || announced.is_some_and(|length| length > DRAIN_BYTES_MAX) {
            return Err(Problem { close: true, ..too_large(announced) });
        }
    }
    match tokio::time::timeout(PATIENCE, collect(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Problem { close: false, status, .. }))
            if status == StatusCode::PAYLOAD_TOO_LARGE =>
        {
            Err(too_large(announced))
        }
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem {
            close: true,
            ..Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive within 30 s",
                "send it faster",
            )
        }),
    }
}

/// Reads, and goes on without keeping what is too much.
async fn collect<B>(mut body: B, most: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let problem =
                Problem::bad("the body ended before its announced length", "send it again");
            return Err(Problem { close: true, ..problem });
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > DRAIN_BYTES_MAX {
            return Err(Problem { close: true, ..too_large(None) });
        }
        if length > most {
            all.clear();
        } else if length == data.len() {
            // A small body comes in one piece, which is kept as it is.
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    if length > most {
        return Err(too_large(Some(length)));
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
