//! Faults: what can go wrong and when, as values that stand in a scenario, with all that has to be known of each.
//!
//! A family is a file. It holds for each of its faults the value (what a saved scenario says), what it does to the world
//! and how that ends, its names with what they mean, and how the generator draws it. `families!` below is the one list of them:
//! a fault that is added is written in its family's file and named there once. A fault strikes once, by its trigger; most last for a
//! while and are mended by their end or by the heal. Left out: what the world is made of; a fault reaches it
//! through `Stage` alone. How the shrinker makes a fault smaller follows from the names of its fields (`simpler`).

mod draw;

mod trigger;

pub mod links;

pub mod partitions;

pub mod power;

pub mod processes;

pub mod disks;

pub mod directories;

pub mod clocks;

pub mod membership;

mod stage;

mod simpler;

use std::fmt;

pub use draw::{Entry, Family, Room};
use serde::{Deserialize, Serialize};
pub use stage::Stage;
pub use trigger::{Said, Trigger};

use crate::rng::Rng;

/// How long after a request to stop a node must have stopped, in milliseconds.
pub const STOP_MS: u64 = 10_000;

/// Makes `Kind` and `FAMILIES` of the list of families and their faults, each with the field that says what it strikes.
macro_rules! families {
    ($($family:ident: $($kind:ident at $place:ident),+;)+) => {
        /// What goes wrong.
        #[derive(Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $($(
                #[doc = concat!("See `", stringify!($family), "::", stringify!($kind), "`.")]
                $kind($family::$kind),
            )+)+
        }

        impl Kind {
            /// What there is to know of it.
            #[must_use]
            pub fn trouble(&self) -> &dyn Trouble {
                match self {
                    $($(Kind::$kind(trouble) => trouble,)+)+
                }
            }

            /// What it strikes.
            #[must_use]
            pub fn places(&self) -> Vec<Place> {
                match self {
                    $($(Kind::$kind(trouble) => Struck::places(&trouble.$place),)+)+
                }
            }
        }

        $($(
            impl From<$family::$kind> for Kind {
                fn from(trouble: $family::$kind) -> Kind {
                    Kind::$kind(trouble)
                }
            }
        )+)+

        /// All families, in the order of the catalogue.
        pub const FAMILIES: &[Family] = &[$($family::FAMILY),+];
    };
}

families! {
    partitions: Cut at links;
    links: Links at links, Reset at links, HalfOpen at links;
    processes: Kill at node, CrashLoop at node, Restart at node, Pause at node, SlowCpu at node,
        Move at node;
    power: PowerLoss at nodes;
    disks: SlowDisk at node, StallDisk at node, DiskError at node;
    directories: Directory at node;
    clocks: Jump at node, Steps at node, Freeze at node, Drift at node;
    membership: Join at node, Replace at node, Reuse at node, Order at node;
}

/// What has to be known of a fault's value. Times are in milliseconds.
pub trait Trouble: fmt::Debug {
    /// What people call it when it strikes by this trigger: the name of one of its family's entries.
    fn name(&self, when: Trigger) -> &str;

    /// Breaks what it breaks; answers after how long `undo` is due, if ever.
    fn strike(&self, stage: &mut dyn Stage) -> Option<u64>;

    /// Mends what it has broken, or takes its next turn.
    fn undo(&self, _stage: &mut dyn Stage) {}

    /// Whether it keeps its bounds, and can strike by this trigger; else what is wrong.
    fn check(&self, _when: Trigger) -> Result<(), String> {
        Ok(())
    }

    /// For how long something is wrong where it has struck; `None`: for ever. `undone_after` is what `strike` has answered.
    fn wrong_for(&self, undone_after: Option<u64>) -> Option<u64> {
        Some(undone_after.unwrap_or(0))
    }

    /// The node that it starts at its end, where it does so after the heal too.
    fn brings_back(&self) -> Option<u32> {
        None
    }

    /// The node whose answers may be late because of it.
    fn delays(&self) -> Option<u32> {
        None
    }

    /// How long it needs to be what it is called: the heal must not cut that short.
    fn needs(&self) -> Option<u64> {
        None
    }

    /// What happens at the operation of a disk that its trigger names.
    fn at_operation(&self) -> AtOperation {
        AtOperation::Strikes
    }

    /// The machines that it needs beside those of the nodes.
    fn hosts(&self) -> u32 {
        0
    }

    /// Another fault that the generator lets follow this one, which stands at `at`.
    fn followed_by(&self, _rng: &mut Rng, _room: &Room, _at: usize) -> Option<Fault> {
        None
    }
}

/// What happens at the operation of a disk that a trigger names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtOperation {
    /// The fault strikes right after the turn that the operation is in.
    Strikes,
    /// The power goes at that very operation.
    PowerGoes,
    /// The disk of a node fails from there on, so often.
    Fails {
        /// The node.
        node: u32,
        /// How.
        how: disks::Failure,
        /// How often.
        times: u32,
    },
}

/// A node, or a link in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A node.
    Node(u32),
    /// From one node to another.
    Link(u32, u32),
}

/// A field that says what a fault strikes.
trait Struck {
    fn places(&self) -> Vec<Place>;
}

impl Struck for u32 {
    fn places(&self) -> Vec<Place> {
        vec![Place::Node(*self)]
    }
}

impl Struck for Vec<u32> {
    fn places(&self) -> Vec<Place> {
        self.iter().map(|&node| Place::Node(node)).collect()
    }
}

impl Struck for Vec<(u32, u32)> {
    fn places(&self) -> Vec<Place> {
        self.iter().map(|&(from, to)| Place::Link(from, to)).collect()
    }
}

/// Something that goes wrong, once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub when: Trigger,
    /// What.
    pub what: Kind,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble().fmt(f)
    }
}

impl Kind {
    /// The nodes that it strikes.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let nodes = |place| match place {
            Place::Node(node) => vec![node],
            Place::Link(from, to) => vec![from, to],
        };
        self.places().into_iter().flat_map(nodes).collect()
    }
}

impl Fault {
    /// Whether a clock is set by it, stands still or changes its rate.
    #[must_use]
    pub const fn is_of_a_clock(&self) -> bool {
        matches!(self.what, Kind::Jump(_) | Kind::Steps(_) | Kind::Freeze(_) | Kind::Drift(_))
    }

    /// A fault as an entry of the catalogue says.
    #[must_use]
    pub fn draw(rng: &mut Rng, room: &Room, entry: &Entry) -> Fault {
        let node = rng.node(room.nodes);
        let what = (entry.drawn_by().draw)(rng, room, entry.name, node);
        Fault { when: Trigger::draw(rng, room, entry, node), what }
    }

    /// The nodes that the fault speaks of.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let mut nodes = self.what.nodes();
        nodes.extend(self.when.nodes());
        nodes
    }

    /// Whether a process loses its memory: the entry of that name says it.
    #[must_use]
    pub fn ends_a_process(&self) -> bool {
        entries().any(|entry| entry.ends_a_process && entry.name == self.name())
    }

    /// What people call it; its family's entries say what each name means.
    #[must_use]
    pub fn name(&self) -> &str {
        self.what.trouble().name(self.when)
    }

    /// Whether the fault, which stands at `at` among `count`, can strike and ends.
    pub fn check(&self, at: usize, count: usize) -> Result<(), String> {
        if let Trigger::After { fault, .. } = self.when {
            // Only earlier ones, so that there is no circle.
            says(fault < at && fault < count, "a fault comes after one that stands behind it")?;
        }
        self.what.trouble().check(self.when)
    }
}

/// All entries, by family.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.entries)
}

fn says(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_entry_is_drawn_as_what_it_is_called_and_keeps_its_bounds() {
        let room = Room { nodes: 5, operations: 100, window_ms: 1_500..9_000, keeps_data: true };
        let mut kinds = BTreeSet::new();
        for entry in entries() {
            for seed in 0..50 {
                let made = Fault::draw(&mut Rng::new(seed, 0), &room, entry);
                assert_eq!(made.name(), entry.name);
                made.check(0, 1).expect("the family keeps its own bounds");
                assert_eq!(made.ends_a_process(), entry.ends_a_process, "one entry of that name");
                let saved = serde_json::to_value(&made).expect("plain fields");
                kinds.extend(saved["what"].as_object().expect("one kind").keys().cloned());
                assert_eq!(serde_json::from_value::<Fault>(saved).expect("it reads back"), made);
            }
        }
        assert_eq!(kinds.len(), 23, "each kind is drawn: {kinds:?}");
    }
}
