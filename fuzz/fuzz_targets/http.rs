//! The head of an HTTP request, and a body in chunks: what any client may send.
//!
//! Checked: nothing panics; a head that is whole ends where it ends, whatever stands behind it, and no part of it is a head of its
//! own: two readings of one request are how requests are smuggled; a body in chunks has the same data, the same end and the same
//! fault however it is cut into pieces, and never more data than it has bytes.

#![no_main]

use arbitrary::Arbitrary;
use bytes::{Buf, BytesMut};
use libfuzzer_sys::fuzz_target;
use rondo_node::http::chunks::{Chunks, Next};
use rondo_node::http::head::{Framing, may_be_whole, parse};

#[derive(Arbitrary, Debug)]
struct Input {
    bytes: Vec<u8>,
    /// Where the bytes are cut, each from the end of the piece before.
    pieces: Vec<u8>,
}

fuzz_target!(|input: Input| {
    head(&input.bytes);
    let (whole, cut) = (read(&input.bytes, &[]), read(&input.bytes, &input.pieces));
    assert_eq!(whole, cut, "the pieces say something else");
});

fn head(bytes: &[u8]) {
    let Ok(Some((head, length))) = parse(bytes) else {
        return;
    };
    assert!(length <= bytes.len() && may_be_whole(&bytes[..length]));
    let Ok(Some((again, same))) = parse(&bytes[..length]) else {
        panic!("without what stands behind it it is no head");
    };
    assert_eq!((again.framing, same), (head.framing, length));
    assert_eq!((again.method, again.uri), (head.method, head.uri));
    for end in (0..length).rev().take(64) {
        assert!(!matches!(parse(&bytes[..end]), Ok(Some(_))), "a part of it is whole");
    }
    if head.framing == Framing::Chunked {
        read(&bytes[length..], &[]);
    }
}

/// The data of a body, whether it is over, and what is left behind it; `None` when it is refused.
fn read(bytes: &[u8], pieces: &[u8]) -> Option<(Vec<u8>, bool, Vec<u8>)> {
    let (mut chunks, mut input) = (Chunks::new(), BytesMut::new());
    let (mut rest, mut pieces) = (bytes, pieces.iter());
    let mut data = Vec::new();
    loop {
        match chunks.next(&mut input).ok()? {
            Next::Data(length) => {
                assert!(length > 0 && length <= input.len());
                data.extend_from_slice(&input[..length]);
                input.advance(length);
                chunks.taken(length);
                assert!(data.len() < bytes.len());
            }
            Next::More if rest.is_empty() => return Some((data, false, Vec::new())),
            Next::More => {
                let piece = pieces.next().map_or(rest.len(), |&piece| usize::from(piece).max(1));
                let (first, then) = rest.split_at(piece.min(rest.len()));
                input.extend_from_slice(first);
                rest = then;
            }
            Next::End => return Some((data, true, [&input[..], rest].concat())),
        }
    }
}
