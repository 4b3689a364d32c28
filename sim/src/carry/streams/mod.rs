//! Simulated connections, as a machine: who is connected to whom, and what each side reads and may write.
//!
//! A connection is two lanes of bytes (`lane`). Bytes arrive in order and once, late as the network says; what a cut link or a
//! machine without power does not take is sent again and again, longer and longer apart. A side that is closed
//! answers bytes with a reset, and a reset is never sent again: if it is lost, the other side goes on waiting. So a process that
//! ends is noticed at once, and a machine that goes is noticed by nothing but silence.
//! Left out: acknowledgements (room to write comes back as soon as the other side has read) and the time a connection takes to
//! give up by itself, which is longer than any run.

mod lane;
mod machine;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::task::{Poll, Waker};

pub use machine::Connected;
use machine::Machine;
use rondo_net::frame::{Decoder, Frame, Kind};
use rondo_net::refusal::Refusal;

use crate::carry::net::Net;
use crate::draw::{Dice, Stream};
use crate::rt::Time;
use lane::{Lane, Segment};

/// Names a connection.
pub type Name = u64;
/// A side of a connection: 0 has dialled, 1 was dialled.
pub type Side = usize;

/// All connections between the nodes.
#[derive(Debug)]
pub struct Streams {
    connections: BTreeMap<Name, Connection>,
    named: Name,
    machines: Vec<Machine>,
}

/// What is due at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// What a side has sent arrives at the other.
    Segment(Name, Side),
    /// A reset arrives at a side.
    Reset(Name, Side),
}

/// What the machine needs of the world, and what it wants done.
pub struct Luck<'a> {
    /// The time.
    pub now: Time,
    /// All luck.
    pub dice: &'a mut Dice,
    /// The links.
    pub net: &'a mut Net,
    /// What becomes due.
    pub due: Vec<(Time, Due)>,
    /// What has happened, and to which node.
    pub told: Vec<(u32, Told)>,
}

/// What a node could see of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants say what their fields are")]
pub enum Told {
    /// A connection came in.
    Dialled { connection: Name, from: u32 },
    /// A connection that it dialled is there.
    Open { connection: Name, to: u32 },
    /// Bytes arrived.
    Bytes { connection: Name, from: u32, bytes: Vec<u8> },
    /// The other side will send nothing more.
    End { connection: Name, from: u32 },
    /// The connection broke, or was refused.
    Reset { connection: Name, from: u32 },
}

#[derive(Debug)]
struct Connection {
    nodes: [u32; 2],
    ends: [End; 2],
    /// What flows away from each side.
    lanes: [Lane; 2],
    /// The network has forgotten it: nothing arrives any more, and nobody is told.
    severed: bool,
}

/// One side, as its process and its system know it.
#[derive(Debug, Default)]
struct End {
    /// Whether the process holds it, or will be given it.
    open: bool,
    connected: bool,
    error: Option<io::ErrorKind>,
    /// A reset is on its way to it.
    resetting: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Streams {
    /// No connection between so many nodes, which are all off.
    #[must_use]
    pub fn new(nodes: u32) -> Streams {
        let machines = (0..nodes).map(|_| Machine::default()).collect();
        Streams { connections: BTreeMap::new(), named: 0, machines }
    }

    /// Starts to connect.
    pub fn dial(&mut self, luck: &mut Luck<'_>, from: u32, to: u32) -> Name {
        self.named += 1;
        let mut draw = || luck.dice.next(Stream::Segment, from, to);
        let lanes = [Lane::new(draw()), Lane::new(draw())];
        let ends = [End { open: true, ..End::default() }, End::default()];
        let connection = Connection { nodes: [from, to], ends, lanes, severed: false };
        self.connections.insert(self.named, connection);
        self.push(luck, self.named, 0, Segment::Open);
        self.named
    }

    /// Whether a connection is there.
    pub fn poll_open(&mut self, name: Name, waker: &Waker) -> Poll<io::Result<()>> {
        let Some(connection) = self.connections.get_mut(&name) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = &mut connection.ends[0];
        match end.error {
            Some(error) => Poll::Ready(Err(error.into())),
            None if end.connected => Poll::Ready(Ok(())),
            None => {
                end.reader = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Reads what has arrived at a side, or a part of it; nothing when the other side has ended.
    pub fn read(
        &mut self,
        luck: &mut Luck<'_>,
        (name, side): (Name, Side),
        room: usize,
        waker: &Waker,
    ) -> Poll<io::Result<Vec<u8>>> {
        let Some(connection) = self.connections.get_mut(&name) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (from, to) = (connection.nodes[1 - side], connection.nodes[side]);
        let lane = &mut connection.lanes[1 - side];
        if let Some(bytes) = lane.read(luck.dice.next(Stream::Segment, from, to), room) {
            if let Some(writer) = connection.ends[1 - side].writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(bytes));
        }
        let end = &mut connection.ends[side];
        match end.error {
            Some(error) => Poll::Ready(Err(error.into())),
            None if lane.has_ended() => Poll::Ready(Ok(Vec::new())),
            None => {
                end.reader = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Writes as many bytes as there is room for, or fewer.
    pub fn write(
        &mut self,
        luck: &mut Luck<'_>,
        (name, side): (Name, Side),
        bytes: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&name) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let link = (connection.nodes[side], connection.nodes[1 - side]);
        let (lane, end) = (&mut connection.lanes[side], &mut connection.ends[side]);
        if let Some(error) = end.error {
            return Poll::Ready(Err(error.into()));
        }
        if lane.is_shut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut draw = || luck.dice.next(Stream::Segment, link.0, link.1);
        let count = lane.room_for(draw(), bytes.len());
        if count == 0 && !bytes.is_empty() {
            end.writer = Some(waker.clone());
            return Poll::Pending;
        }
        for piece in lane::pieces(&mut draw, &bytes[..count]) {
            let mut piece = piece.to_vec();
            if let Some(bit) = luck.net.corrupts(luck.dice, link, piece.len()) {
                piece[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            self.push(luck, name, side, Segment::Bytes(piece));
        }
        Poll::Ready(Ok(count))
    }

    /// A side will write nothing more.
    pub fn shut(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let lane = self.connections.get_mut(&name).map(|connection| &mut connection.lanes[side]);
        if lane.is_some_and(Lane::shut) {
            self.push(luck, name, side, Segment::End);
        }
    }

    /// A process lets go of its side. What it has not read is lost, and then the other side is told so by a reset.
    pub fn close(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let end = &mut connection.ends[side];
        if !std::mem::take(&mut end.open) {
            return;
        }
        end.reader = None;
        end.writer = None;
        let (is_broken, is_half) = (end.error.is_some(), !end.connected);
        let has_unread = connection.lanes[1 - side].has_unread();
        if is_broken {
            connection.lanes[side].lose_flying();
        } else if is_half || has_unread {
            connection.lanes[side].lose_flying();
            self.reset_later(luck, name, 1 - side);
        } else {
            self.shut(luck, name, side);
        }
        self.bury(name);
    }

    /// Something is due.
    pub fn happen(&mut self, luck: &mut Luck<'_>, due: Due) {
        match due {
            Due::Segment(name, side) => self.arrive(luck, name, side),
            Due::Reset(name, side) => self.on_reset(luck, name, side),
        }
    }

    /// Breaks all connections that were dialled on these links: both sides learn it at once.
    pub fn reset(&mut self, luck: &mut Luck<'_>, links: &[(u32, u32)]) {
        for name in self.dialled_on(links) {
            self.fail(luck, name, 0);
            self.fail(luck, name, 1);
        }
    }

    /// Breaks all connections that were dialled on these links, and only who dialled learns it.
    pub fn halve(&mut self, luck: &mut Luck<'_>, links: &[(u32, u32)]) {
        for name in self.dialled_on(links) {
            if let Some(connection) = self.connections.get_mut(&name) {
                connection.severed = true;
            }
            self.fail(luck, name, 0);
        }
    }

    /// What is sent from now on over the connections that were dialled on a link arrives at `until` or later.
    pub fn hold(&mut self, (from, to): (u32, u32), until: Time) {
        for name in self.dialled_on(&[(from, to)]) {
            if let Some(connection) = self.connections.get_mut(&name) {
                connection.lanes[0].hold(until);
            }
        }
    }

    /// Everything that is on its way arrives by `latest`, as far as nothing else is in the way.
    pub fn hurry(&mut self, latest: Time) {
        for connection in self.connections.values_mut() {
            connection.lanes.iter_mut().for_each(|lane| lane.hurry(latest));
        }
    }

    fn dialled_on(&self, links: &[(u32, u32)]) -> Vec<Name> {
        let all = self.connections.iter();
        let there = all.filter(|(_, one)| links.contains(&(one.nodes[0], one.nodes[1])));
        there.map(|(&name, _)| name).collect()
    }

    /// Puts a segment on its way.
    fn push(&mut self, luck: &mut Luck<'_>, name: Name, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let link = (connection.nodes[side], connection.nodes[1 - side]);
        let at = luck.net.segment(luck.dice, luck.now, link);
        if let Some(at) = connection.lanes[side].push(at, segment) {
            luck.due.push((at, Due::Segment(name, side)));
        }
    }

    /// The first segments of a lane arrive, unless the link or the machine at its end is not there.
    fn arrive(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let Some(connection) = self.connections.get_mut(&name).filter(|one| !one.severed) else {
            return;
        };
        let (from, to) = (connection.nodes[side], connection.nodes[1 - side]);
        let is_there =
            self.machines[to as usize].is_powered() && !luck.net.is_cut(luck.now, from, to);
        let lane = &mut connection.lanes[side];
        let (segments, next) =
            if is_there { lane.take_due(luck.now) } else { (Vec::new(), lane.retry_at(luck.now)) };
        if let Some(next) = next {
            luck.due.push((next, Due::Segment(name, side)));
        }
        for segment in segments {
            self.on_segment(luck, name, side, segment);
        }
        self.bury(name);
    }

    fn on_segment(&mut self, luck: &mut Luck<'_>, name: Name, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let (from, to) = (connection.nodes[side], connection.nodes[1 - side]);
        let end = &mut connection.ends[1 - side];
        match segment {
            Segment::Open => {
                let refused = luck.net.refuses((from, to));
                if refused || !self.machines[to as usize].take_in(name, from) {
                    return self.reset_later(luck, name, side);
                }
                *end = End { open: true, connected: true, ..End::default() };
                luck.told.push((to, Told::Dialled { connection: name, from }));
                self.push(luck, name, 1 - side, Segment::Opened);
            }
            _ if !end.open || end.error.is_some() => self.reset_later(luck, name, side),
            Segment::Opened => {
                end.connected = true;
                end.wake();
                luck.told.push((to, Told::Open { connection: name, to: from }));
            }
            Segment::Bytes(bytes) => {
                connection.lanes[side].arrived(&bytes);
                end.wake();
                luck.told.push((to, Told::Bytes { connection: name, from, bytes }));
            }
            Segment::End => {
                connection.lanes[side].end();
                end.wake();
                luck.told.push((to, Told::End { connection: name, from }));
            }
        }
    }

    fn reset_later(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let end = &mut connection.ends[side];
        if end.open && !std::mem::replace(&mut end.resetting, true) {
            let link = (connection.nodes[1 - side], connection.nodes[side]);
            let at = luck.net.segment(luck.dice, luck.now, link);
            luck.due.push((at, Due::Reset(name, side)));
        }
    }

    fn on_reset(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        connection.ends[side].resetting = false;
        let (from, to) = (connection.nodes[1 - side], connection.nodes[side]);
        let is_there = self.machines[to as usize].is_powered();
        if is_there && !connection.severed && !luck.net.is_cut(luck.now, from, to) {
            self.fail(luck, name, side);
        }
    }

    /// A side learns that its connection is no more.
    fn fail(&mut self, luck: &mut Luck<'_>, name: Name, side: Side) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let (from, to) = (connection.nodes[1 - side], connection.nodes[side]);
        let end = &mut connection.ends[side];
        if !end.open || end.error.is_some() {
            return;
        }
        end.error = Some(match end.connected {
            true => io::ErrorKind::ConnectionReset,
            false => io::ErrorKind::ConnectionRefused,
        });
        connection.lanes[side].lose_flying();
        // Systems differ in whether what has arrived is still given to the reader.
        if luck.dice.next(Stream::Segment, from, to).happens(500_000) {
            connection.lanes[1 - side].lose_unread();
        }
        end.wake();
        luck.told.push((to, Told::Reset { connection: name, from }));
    }

    /// Forgets a connection that nobody holds.
    fn bury(&mut self, name: Name) {
        let is_held = |one: &Connection| one.ends.iter().any(|end| end.open);
        if self.connections.get(&name).is_some_and(|connection| !is_held(connection)) {
            self.connections.remove(&name);
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Dialled { connection, from } => write!(f, "c{connection} from n{from}"),
            Told::Open { connection, to } => write!(f, "c{connection} to n{to} is there"),
            Told::Bytes { connection, from, bytes } => {
                write!(f, "c{connection} {} from n{from}", spelt(bytes))
            }
            Told::End { connection, from } => write!(f, "c{connection} ended by n{from}"),
            Told::Reset { connection, from } => write!(f, "c{connection} with n{from} is broken"),
        }
    }
}

/// Bytes for people: frames by their kind where they come whole and sound.
fn spelt(bytes: &[u8]) -> String {
    let mut decoder = Decoder::new(bytes.len());
    decoder.push(bytes);
    let mut told = Vec::new();
    while let Ok(Some(Frame { kind, payload, .. })) = decoder.next_frame() {
        let mut name = format!("{kind:?}").to_lowercase();
        if kind == Kind::Goodbye {
            name = format!("{name} ({})", Refusal::decode(&payload));
        }
        told.push(name);
    }
    if decoder.buffered() > 0 {
        told.push(format!("{} bytes", decoder.buffered()));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests;
