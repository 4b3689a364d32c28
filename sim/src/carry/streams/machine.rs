//! The machine of a node, as far as connections go: whether it has power, and whether a process listens on it.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use super::{Luck, Name, Streams};

/// Connections that may wait to be taken in; one more is refused.
const BACKLOG_MAX: usize = 128;

/// One machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    powered: bool,
    listening: bool,
    backlog: VecDeque<Connected>,
    waker: Option<Waker>,
}

/// A connection that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    /// The connection.
    pub name: Name,
    /// Who dialled.
    pub from: u32,
}

impl Machine {
    pub(super) const fn is_powered(&self) -> bool {
        self.powered
    }

    /// A connection comes in. Whether anybody listens.
    pub(super) fn take_in(&mut self, name: Name, from: u32) -> bool {
        if !self.listening || self.backlog.len() >= BACKLOG_MAX {
            return false;
        }
        self.backlog.push_back(Connected { name, from });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }
}

impl Streams {
    /// A machine has power.
    pub fn power_on(&mut self, node: u32) {
        self.machines[node as usize].powered = true;
    }

    /// A process listens.
    pub fn listen(&mut self, node: u32) {
        self.machines[node as usize].listening = true;
    }

    /// The next connection that came in.
    pub fn poll_accept(&mut self, node: u32, waker: &Waker) -> Poll<Connected> {
        let machine = &mut self.machines[node as usize];
        match machine.backlog.pop_front() {
            Some(connected) => Poll::Ready(connected),
            None => {
                machine.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// A process ends: its system closes all that it held.
    pub fn on_exit(&mut self, luck: &mut Luck<'_>, node: u32) {
        let machine = &mut self.machines[node as usize];
        *machine = Machine { powered: machine.powered, ..Machine::default() };
        for (name, side) in self.held_by(node) {
            self.close(luck, name, side);
        }
    }

    /// A machine loses power: nobody is told anything, and what it had not got rid of is lost.
    pub fn on_power_loss(&mut self, node: u32) {
        self.machines[node as usize] = Machine::default();
        for (name, side) in self.held_by(node) {
            if let Some(connection) = self.connections.get_mut(&name) {
                connection.ends[side] = super::End::default();
                connection.lanes[side].lose_flying();
                connection.lanes[1 - side].lose_unread();
            }
            self.bury(name);
        }
    }

    fn held_by(&self, node: u32) -> Vec<(Name, super::Side)> {
        let sides = self.connections.iter().flat_map(|(&name, connection)| {
            let held = move |side: &super::Side| {
                connection.nodes[*side] == node && connection.ends[*side].open
            };
            (0..2).filter(held).map(move |side| (name, side))
        });
        sides.collect()
    }
}
