//! The catalogue's entries, and what every family's dice have in common.
//!
//! An entry says by which name a fault is drawn, where it is possible and what it is aimed at. Numbers are drawn in the same order for
//! every fault, used or not, so that a family may learn a new one without changing the seeds of the others.

use std::ops::Range;

use crate::fault::{FAMILIES, Kind};
use crate::rng::Rng;

/// A family of faults.
#[derive(Debug)]
pub struct Family {
    /// What it can draw.
    pub entries: &'static [Entry],
    /// Draws a fault of this name that strikes a node, where it strikes one.
    pub draw: fn(&mut Rng, &Room, &str, u32) -> Kind,
}

/// One line of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is kin to.
    pub family: &'static str,
    /// Its name, as in reports.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// The fewest nodes with which it means something.
    pub nodes_min: u32,
    /// Whether it ends a process: no scenario has it whose engine keeps nothing.
    pub ends_a_process: bool,
    /// Its place among those that are drawn by dice of their own, so that they change nothing for the seeds without them.
    pub apart: Option<u8>,
    /// Whether it takes longer than a scenario that is made already has time for.
    pub is_long: bool,
    /// Whether it is drawn only with a load that makes room for it.
    pub by_load: bool,
    /// What it is aimed at.
    pub aim: Aim,
}

/// What a fault is aimed at by its trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// An acknowledgement, a sync or a message, so many times in a hundred; else any time.
    Work {
        /// How often.
        percent: u64,
    },
    /// An operation of the disk, in a start or later.
    Operations,
    /// An operation of the disk while its node starts.
    Recovery,
    /// An operation of the disk that is part of background work.
    Maintenance,
}

/// Where and when faults may strike.
#[derive(Clone, Debug)]
pub struct Room {
    /// The nodes.
    pub nodes: u32,
    /// The operations of all clients.
    pub operations: u64,
    /// When the operations are, in milliseconds.
    pub window_ms: Range<u64>,
    /// Whether a process that has ended finds its data again.
    pub keeps_data: bool,
}

impl Entry {
    /// A kind that any scenario may have, at any time.
    #[must_use]
    pub const fn new(family: &'static str, name: &'static str, what: &'static str) -> Entry {
        let aim = Aim::Work { percent: 0 };
        let (nodes_min, ends_a_process, apart, is_long) = (1, false, None, false);
        let by_load = false;
        Entry { family, name, what, nodes_min, ends_a_process, apart, is_long, by_load, aim }
    }

    pub(super) const fn nodes(self, nodes_min: u32) -> Entry {
        Entry { nodes_min, ..self }
    }

    pub(super) const fn ends(self) -> Entry {
        Entry { ends_a_process: true, ..self }
    }

    /// `place` counts from 0, without a gap over all families.
    pub(super) const fn apart(self, place: u8) -> Entry {
        Entry { apart: Some(place), ..self }
    }

    pub(super) const fn long(self) -> Entry {
        Entry { is_long: true, ..self }
    }

    pub(super) const fn by_load(self) -> Entry {
        Entry { by_load: true, ..self }
    }

    pub(super) const fn aimed(self, percent: u64) -> Entry {
        Entry { aim: Aim::Work { percent }, ..self }
    }

    pub(super) const fn at(self, aim: Aim) -> Entry {
        Entry { aim, ..self }
    }

    /// Whether there is a fault like this in such a scenario.
    #[must_use]
    pub const fn is_possible(&self, room: &Room) -> bool {
        room.nodes >= self.nodes_min && (room.keeps_data || !self.ends_a_process)
    }

    /// The family whose entry it is.
    pub(super) fn drawn_by(&self) -> &'static Family {
        let has_it = |family: &&Family| family.entries.iter().any(|entry| entry.name == self.name);
        FAMILIES.iter().find(has_it).expect("every entry stands in its family")
    }
}

/// Numbers as most faults need them.
pub(super) struct Usual {
    /// How long it lasts, in milliseconds.
    pub for_ms: u64,
    /// How long a node is down, in milliseconds.
    pub down_ms: u64,
    /// How far something is off, in milliseconds: a clock by more than a message.
    pub by_ms: u64,
    /// How many messages in a million.
    pub ppm: u32,
}

impl Usual {
    /// For what strikes one node.
    pub(super) fn of_a_node(rng: &mut Rng) -> Usual {
        let (for_ms, down_ms) = (rng.log(20, 3_000), rng.log(5, 2_000));
        Usual { for_ms, down_ms, by_ms: rng.log(10, 20_000), ppm: 0 }
    }

    /// For what strikes links, or several nodes.
    pub(super) fn of_many(rng: &mut Rng) -> Usual {
        // As many dice are thrown before as for a node: the seeds were made so.
        Usual::of_a_node(rng);
        let (for_ms, down_ms) = (rng.log(20, 3_000), rng.log(5, 2_000));
        let ppm = rng.log(50_000, 900_000) as u32;
        Usual { for_ms, down_ms, ppm, by_ms: rng.log(5, 1_000) }
    }
}

#[cfg(test)]
mod tests {
    use crate::fault;

    #[test]
    fn what_is_drawn_apart_has_one_place_each() {
        let mut places: Vec<u8> = fault::entries().filter_map(|entry| entry.apart).collect();
        places.sort_unstable();
        assert_eq!(places, (0..places.len() as u8).collect::<Vec<_>>());
    }
}
