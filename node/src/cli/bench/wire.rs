//! The least HTTP/1.1 that measures a server instead of its client: one buffer out, one buffer in.
//!
//! It understands answers with a `Content-Length` and those without a body (204, 304), which is what rondo sends.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    /// Connects to `host:port`.
    pub async fn open(server: &str) -> io::Result<Wire> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, input: BytesMut::with_capacity(4 << 10) })
    }

    /// Sends a whole request, reads a whole answer, and says its status.
    pub async fn round(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(head) = parse_head(&self.input)? {
                break head;
            }
            if self.input.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            self.fill().await?;
        };
        let mut rest = head.bytes + head.body;
        while rest > 0 {
            if self.input.is_empty() {
                self.fill().await?;
            }
            let taken = rest.min(self.input.len());
            self.input.advance(taken);
            rest -= taken;
        }
        Ok(head.status)
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(4 << 10);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq, Debug)]
struct Head {
    status: u16,
    bytes: usize,
    body: usize,
}

/// The head, when all of it is there.
fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&input[..end]).map_err(|_| invalid("the answer is not HTTP"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| invalid("the answer is not HTTP/1.1"))?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())
    });
    let body = match length {
        Some(Some(length)) => length,
        None if matches!(status, 204 | 304) => 0,
        _ => return Err(invalid("the answer has no Content-Length")),
    };
    Ok(Some(Head { status, bytes: end + 4, body }))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nETag: 1\r\ncontent-length: 5\r\n\r\nhello";
        for end in 0..whole.len() - 5 {
            assert_eq!(parse_head(&whole[..end]).expect("sound so far"), None);
        }
        let head = parse_head(whole).expect("sound").expect("whole");
        assert_eq!(head, Head { status: 200, bytes: whole.len() - 5, body: 5 });
        let empty = parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").expect("sound").expect("whole");
        assert_eq!((empty.status, empty.body), (204, 0));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "a body of unknown length");
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 2\xff0 OK\r\n\r\n").is_err());
    }
}
