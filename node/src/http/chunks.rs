//! A body in chunks: `5\r\nhello\r\n0\r\n\r\n`, after RFC 9112, 7.1.
//!
//! Extensions and trailers are read within a bound and mean nothing. A line must end with CRLF: where it may end with LF
//! alone, two readers find two ends.

use bytes::{Buf, BytesMut};
use hyper::StatusCode;
use rondo_core::config::VALUE_BYTES_MAX;

use crate::http::answer::Problem;
use crate::http::limits::{CHUNK_LINE_BYTES_MAX, DRAIN_BYTES_MAX, TRAILER_BYTES_MAX};

/// Where in the body the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Size,
    Data(u64),
    DataEnd,
    Trailer(usize),
    End,
}

/// Finds the data in a body.
#[derive(Clone, Debug)]
pub struct Chunks(Place);

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// So many bytes at the front of the input are data; at least one.
    Data(usize),
    /// More must come first.
    More,
    /// The body is over.
    End,
}

impl Chunks {
    /// At the beginning of a body.
    #[must_use]
    pub const fn new() -> Chunks {
        Chunks(Place::Size)
    }

    /// Takes what is no data off `input`, and says what stands there then.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Next, Problem> {
        loop {
            match self.0 {
                Place::Data(left) if input.is_empty() => {
                    debug_assert!(left > 0, "a chunk of no bytes is the last");
                    return Ok(Next::More);
                }
                Place::Data(left) => {
                    let there = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    return Ok(Next::Data(there));
                }
                Place::End => return Ok(Next::End),
                Place::Size | Place::DataEnd | Place::Trailer(_) => {
                    if !self.line(input)? {
                        return Ok(Next::More);
                    }
                }
            }
        }
    }

    /// So many bytes of data were taken off the input.
    pub fn taken(&mut self, bytes: usize) {
        if let Place::Data(left) = &mut self.0 {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.0 = Place::DataEnd;
            }
        }
    }

    /// Reads a line that is no data. `false`: its end has not come yet.
    fn line(&mut self, input: &mut BytesMut) -> Result<bool, Problem> {
        let most = match self.0 {
            Place::Trailer(read) => TRAILER_BYTES_MAX.saturating_sub(read),
            _ => CHUNK_LINE_BYTES_MAX,
        };
        let Some(length) = input.iter().take(most).position(|&byte| byte == b'\n') else {
            return if input.len() < most { Ok(false) } else { Err(broken("has a long line")) };
        };
        let line = input[..length].strip_suffix(b"\r").ok_or_else(|| broken("has a bare LF"))?;
        self.0 = match self.0 {
            Place::Size => match size(line)? {
                0 => Place::Trailer(0),
                size if size > DRAIN_BYTES_MAX as u64 => return Err(too_large(size)),
                size => Place::Data(size),
            },
            Place::DataEnd if line.is_empty() => Place::Size,
            Place::Trailer(_) if line.is_empty() => Place::End,
            Place::Trailer(read) => Place::Trailer(read + length + 1),
            _ => return Err(broken("has a chunk that is longer than it says")),
        };
        input.advance(length + 1);
        Ok(true)
    }
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks::new()
    }
}

fn size(line: &[u8]) -> Result<u64, Problem> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| sound);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| broken("has a chunk whose size is no number"))
}

/// A chunk that would not be read to its end is not waited for.
fn too_large(bytes: u64) -> Problem {
    let problem = Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has a chunk of {bytes} bytes; a value has at most {VALUE_BYTES_MAX}"),
        "split the value over several keys",
    );
    Problem { close: true, ..problem }
}

fn broken(what: &str) -> Problem {
    let problem = Problem::bad(format!("the chunked body {what}"), "send it with a Content-Length");
    Problem { close: true, ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, and what is left behind the body.
    type Read = (Vec<u8>, Vec<u8>);

    /// The data, given in pieces of `step` bytes
    fn read(sent: &[u8], step: usize) -> Result<Option<Read>, Problem> {
        let mut chunks = Chunks::new();
        let (mut input, mut data) = (BytesMut::new(), Vec::new());
        let mut pieces = sent.chunks(step);
        loop {
            match chunks.next(&mut input)? {
                Next::Data(bytes) => {
                    data.extend_from_slice(&input.split_to(bytes));
                    chunks.taken(bytes);
                }
                Next::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return Ok(None),
                },
                Next::End => {
                    let rest = input.iter().chain(pieces.flatten()).copied();
                    return Ok(Some((data, rest.collect())));
                }
            }
        }
    }

    #[test]
    fn the_data_is_the_same_however_it_is_cut() {
        let sent = b"5;note=x\r\nhello\r\n00A \r\n0123456789\r\n0\r\nX: y\r\n\r\nGET /";
        for step in 1..=sent.len() {
            let (data, rest) = read(sent, step).expect("sound").expect("whole");
            assert_eq!(data, b"hello0123456789", "{step}");
            assert_eq!(rest, b"GET /", "{step}");
        }
        for end in 0..sent.len() - 5 {
            assert_eq!(read(&sent[..end], 3).expect("sound so far"), None);
        }
    }

    #[test]
    fn what_two_readers_may_read_in_two_ways_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; CHUNK_LINE_BYTES_MAX]].concat();
        let endless =
            [b"0\r\n".as_slice(), &b"X: y\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1)].concat();
        for sent in [
            b"\r\n".as_slice(),
            b"x\r\n",
            b"-1\r\n",
            b"0x5\r\n",
            b"5\nhello\r\n",
            b"1\r\nhello\r\n",
            b"11111111111111111\r\n",
            b" 5\r\nhello",
            &long,
            &endless,
        ] {
            assert_eq!(read(sent, 7).expect_err("refused").status, 400, "{sent:?}");
        }
    }

    #[test]
    fn a_chunk_that_announces_too_much_is_not_waited_for() {
        let largest = format!("{DRAIN_BYTES_MAX:x}\r\n");
        assert_eq!(read(largest.as_bytes(), 7).expect("may come"), None);
        for size in ["1000001", "fffffffffffffff0", "ffffffffffffffff"] {
            let sent = format!("{size}\r\n");
            let refused = read(sent.as_bytes(), 7).expect_err("refused");
            assert!(refused.status == 413 && refused.close, "{refused:?}");
        }
    }
}
