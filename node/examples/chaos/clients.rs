//! Clients that write unique values and read them back, one request after another, through any node.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::history::{History, Outcome};

/// Keys that everybody writes.
const HOT_KEYS: u64 = 12;
/// How long a client waits for an answer; more than the deadline of a request.
const PATIENCE: Duration = Duration::from_secs(8);
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(4);

/// One client.
pub(crate) struct Client {
    addresses: Vec<String>,
    luck: ChaCha12Rng,
}

impl Client {
    /// A client of the nodes at these addresses.
    pub(crate) fn new(addresses: Vec<String>, seed: u64) -> Client {
        Client { addresses, luck: ChaCha12Rng::seed_from_u64(seed) }
    }

    /// Asks until it is over.
    pub(crate) fn run(mut self, history: &History, over: &AtomicBool) -> io::Result<()> {
        while !over.load(Ordering::Relaxed) {
            let key = match self.luck.next_u32() % 16 {
                0 => history.new_key(HOT_KEYS),
                _ => u64::from(self.luck.next_u32()) % HOT_KEYS,
            };
            let write = key >= HOT_KEYS || self.luck.next_u32().is_multiple_of(2);
            let address = self.luck.next_u32() as usize % self.addresses.len();
            match write {
                true => self.write(history, address, key)?,
                false => read(history, &self.addresses[address], key, "quorum")?,
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Writes a value of its own; what is undecided is tried again under its name through the next node.
    fn write(&mut self, history: &History, address: usize, key: u64) -> io::Result<()> {
        let call = history.call_write(key)?;
        let id = format!("{:016x}{:016x}", self.luck.next_u64(), call.value);
        let value = call.value.to_string();
        let mut outcome = Outcome::Refused;
        for attempt in 1..=3 {
            let at = &self.addresses[(address + attempt - 1) % self.addresses.len()];
            let names = format!("X-Rondo-Request-Id: {id}\r\nX-Rondo-Attempt: {attempt}\r\n");
            let line = format!("PUT /v1/kv/default/k{key}");
            outcome = match ask(at, &line, &names, value.as_bytes()) {
                Ok((200 | 204, _)) => Outcome::Done,
                Ok((400 | 413 | 429 | 503, _)) if outcome == Outcome::Refused => Outcome::Refused,
                Err(Lost::NotSent) if outcome == Outcome::Refused => Outcome::Refused,
                _ => Outcome::Unknown,
            };
            if outcome != Outcome::Unknown {
                break;
            }
        }
        history.end_write(call, outcome)
    }
}

/// Reads a key and writes down what was seen.
pub(crate) fn read(history: &History, address: &str, key: u64, level: &str) -> io::Result<()> {
    let call = history.call_read(key)?;
    let line = format!("GET /v1/kv/default/k{key}?consistency={level}");
    let saw = match ask(address, &line, "", b"") {
        Ok((200, body)) => Some(String::from_utf8_lossy(&body).into_owned()),
        Ok((404, _)) => Some("0".to_owned()),
        _ => None,
    };
    history.end_read(call, saw)
}

/// Why there is no answer.
pub(crate) enum Lost {
    /// There was no connection.
    NotSent,
    /// Something was sent.
    Sent,
}

/// Asks over a connection of its own; answers status and body.
pub(crate) fn ask(
    address: &str,
    line: &str,
    headers: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), Lost> {
    let address: SocketAddr = address.parse().map_err(|_| Lost::NotSent)?;
    let mut stream =
        TcpStream::connect_timeout(&address, CONNECT_WITHIN).map_err(|_| Lost::NotSent)?;
    exchange(&mut stream, line, headers, body).map_err(|_| Lost::Sent)
}

fn exchange(
    stream: &mut TcpStream,
    line: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = all.split_off(end + 4);
    if length.is_some_and(|length| length != body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
}
