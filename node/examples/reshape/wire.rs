//! A connection that stays open, and the plainest requests over it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a client waits for an answer; more than the deadline of a request.
const PATIENCE: Duration = Duration::from_secs(8);
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// A connection to one node.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: &str) -> io::Result<Connection> {
        let address: SocketAddr =
            address.parse().map_err(|error| io::Error::other(format!("{address}: {error}")))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, read: Vec::new() })
    }

    /// Asks, and answers status and body, which is of a known length or in chunks.
    pub(crate) fn ask(&mut self, line: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nHost: reshape\r\nContent-Length: {length}\r\n\r\n");
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        let end = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        self.read.drain(..end);
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        if let Some(length) = length {
            let length = length.trim().parse().map_err(io::Error::other)?;
            return Ok((status, self.take(length)?));
        }
        let mut all = Vec::new();
        while head.contains("transfer-encoding: chunked") {
            let end = self.until(b"\r\n")?;
            let line = String::from_utf8_lossy(&self.take(end)?).trim().to_owned();
            let length = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
            let chunk = self.take(length + 2)?;
            if length == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..length]);
        }
        Ok((status, all))
    }

    /// Reads until this stands in what was read; answers where it ends.
    fn until(&mut self, mark: &[u8]) -> io::Result<usize> {
        loop {
            let found = self.read.windows(mark.len()).position(|bytes| bytes == mark);
            if let Some(at) = found {
                return Ok(at + mark.len());
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.more()?;
        }
        Ok(self.read.drain(..length).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            // Whoever asks for more asks again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Asks over a connection of its own.
pub(crate) fn ask(address: &str, line: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    Connection::open(address)?.ask(line, body)
}
