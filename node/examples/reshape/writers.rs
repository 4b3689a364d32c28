//! Clients that write without a pause, and what all of them have seen together.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::wire::Connection;

/// After so many writes a writer goes on through another node.
const MOVES_AFTER: u64 = 64;

/// What was seen in one step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) writes: u64,
    pub(crate) failed: u64,
    /// The longest time between two successes of any writers.
    pub(crate) longest: Duration,
}

struct State {
    addresses: Vec<String>,
    step: Seen,
    total: Seen,
    last: Instant,
    is_over: bool,
}

/// What all writers share.
pub(crate) struct Load {
    state: Mutex<State>,
    value_bytes: usize,
}

impl Load {
    /// Nodes to write to, and the length of values.
    pub(crate) fn new(addresses: Vec<String>, value_bytes: usize) -> Load {
        let (step, total, last) = (Seen::default(), Seen::default(), Instant::now());
        let state = State { addresses, step, total, last, is_over: false };
        Load { state: Mutex::new(state), value_bytes }
    }

    /// Other nodes are written to from now on.
    pub(crate) fn reach(&self, addresses: Vec<String>) {
        self.lock().addresses = addresses;
    }

    pub(crate) fn begin_step(&self) {
        let mut state = self.lock();
        (state.step, state.last) = (Seen::default(), Instant::now());
    }

    pub(crate) fn end_step(&self) -> Seen {
        let mut state = self.lock();
        state.step.longest = state.step.longest.max(state.last.elapsed());
        state.step
    }

    /// The writers end.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
    }

    /// All writes acknowledged, and all requests that failed.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let total = self.lock().total;
        (total.writes, total.failed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    fn count(&self, is_done: bool) {
        let mut state = self.lock();
        if !is_done {
            state.step.failed += 1;
            state.total.failed += 1;
            return;
        }
        state.step.writes += 1;
        state.total.writes += 1;
        state.step.longest = state.step.longest.max(state.last.elapsed());
        state.last = Instant::now();
    }

    /// Where the next writes of a writer go; `None`: nowhere, it is over.
    fn address(&self, turn: u64) -> Option<String> {
        let state = self.lock();
        (!state.is_over).then(|| state.addresses[turn as usize % state.addresses.len()].clone())
    }
}

/// The value of a key, which says whose it is.
pub(crate) fn value(key: &str, bytes: usize) -> Vec<u8> {
    key.bytes().chain(std::iter::repeat(b'.')).take(bytes.max(key.len())).collect()
}

/// One client.
pub(crate) struct Writer {
    load: Arc<Load>,
    number: u64,
    written: u64,
    /// How often it has gone on through another node.
    moved: u64,
    connection: Option<(String, Connection)>,
    /// Keys whose writes were acknowledged.
    pub(crate) acknowledged: Vec<String>,
}

impl Writer {
    pub(crate) fn new(load: &Arc<Load>, number: u64) -> Writer {
        let acknowledged = Vec::new();
        let load = Arc::clone(load);
        Writer { load, number, written: 0, moved: 0, connection: None, acknowledged }
    }

    /// Writes until it is over; answers what was acknowledged.
    pub(crate) fn run(mut self) -> Vec<String> {
        while self.write() {}
        self.acknowledged
    }

    /// Writes one key. `false`: it is over.
    pub(crate) fn write(&mut self) -> bool {
        let Some(address) = self.load.address(self.number.wrapping_add(self.moved)) else {
            return false;
        };
        self.written += 1;
        self.moved += u64::from(self.written.is_multiple_of(MOVES_AFTER));
        let key = format!("w{:x}-{}", self.number, self.written);
        let value = value(&key, self.load.value_bytes);
        let began = Instant::now();
        let open = self.connection.take().filter(|(to, _)| *to == address);
        let connection =
            open.map(|(_, open)| Ok(open)).unwrap_or_else(|| Connection::open(&address));
        let line = format!("PUT /v1/kv/default/{key}");
        let answer = connection.and_then(|mut connection| {
            let answer = connection.ask(&line, &value)?;
            Ok((answer, connection))
        });
        let is_done = matches!(&answer, Ok(((200 | 204, _), _)));
        match answer {
            Ok(((_, body), connection)) => {
                if !is_done {
                    let (body, took) = (String::from_utf8_lossy(&body), began.elapsed());
                    println!("  {key} through {address} after {took:.1?}: {body}");
                }
                self.connection = Some((address, connection));
            }
            Err(error) => {
                println!("  {key} through {address} after {:.1?}: {error}", began.elapsed());
                self.moved += 1;
            }
        }
        if is_done {
            self.acknowledged.push(key);
        }
        self.load.count(is_done);
        true
    }
}
