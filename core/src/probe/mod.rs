//! Probes: places where the simulator may make something legal but rare happen, and states that it must reach.
//!
//! `buggify!(door, Site)` is true when the simulator wants the rare path taken here; `sometimes!(door, Site, condition)` tells
//! it that a rare state was reached. A door is what a machine has anyway: its `Env`, its `Network`, its `Disk`. All of them are
//! `Probe`s, and `PROBED` is a constant of their type: where it is false, which is everywhere outside the simulator, both
//! macros are removed by the compiler, the condition included.
//!
//! Invariants: a site never breaks a promise, it only takes a path that the world could have forced; each site of the table
//! stands in the code exactly once (tested in `sim`); no name of a site is in the shipped program (tested in `node`).
//! Why a table in one file and no list that the linker collects: collected entries are kept in every program that links
//! this crate, names and all, and the attributes that place them are unsafe code, which this crate forbids.

mod sites;

pub use self::sites::{Buggify, Sometimes};
use crate::id::{BootEpoch, NodeId};

/// What a site of the table says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    /// Its name, in scenarios and reports.
    pub name: &'static str,
    /// How often it fires when it is on, in percent; 0 for a `sometimes`, which is only counted.
    pub percent: u8,
    /// Which path it takes, or which state it proves.
    pub why: &'static str,
}

/// What the failure detector of a node makes of another one, from some moment on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// The other node.
    pub node: NodeId,
    /// The life of it that this is about.
    pub boot: BootEpoch,
    /// How often it had spoken up in that life.
    pub count: u64,
    /// What it is taken for, in a word.
    pub standing: &'static str,
}

/// Whoever decides and counts: the simulator.
pub trait Watch: Send + Sync {
    /// Whether the rare path is taken at this site, this time.
    fn fires(&self, site: Buggify) -> bool;
    /// A rare state was reached.
    fn met(&self, site: Sometimes);
}

/// A door that may be watched. The defaults are those of the real world: nobody watches.
pub trait Probe {
    /// Whether this type of door is ever watched.
    const PROBED: bool = false;

    /// See `Watch::fires`; asked only where `PROBED`.
    fn fires(&self, _: Buggify) -> bool {
        false
    }

    /// See `Watch::met`; told only where `PROBED`.
    fn met(&self, _: Sometimes) {}

    /// What a failure detector makes of a node is something else from now on; told only where `PROBED`.
    fn sees(&self, _: Sight) {}

    /// `PROBED`, for macros, which know the door and not its type.
    #[inline(always)]
    fn probed(&self) -> bool {
        Self::PROBED
    }
}

/// Whether to take the rare path here. `door` is evaluated twice.
#[macro_export]
macro_rules! buggify {
    ($door:expr, $site:ident) => {
        $door.probed() && $door.fires($crate::probe::Buggify::$site)
    };
}

/// Tells that a rare state was reached, when the condition holds. `door` is evaluated twice.
#[macro_export]
macro_rules! sometimes {
    ($door:expr, $site:ident) => {
        $crate::sometimes!($door, $site, true)
    };
    ($door:expr, $site:ident, $condition:expr) => {
        if $door.probed() && $condition {
            $door.met($crate::probe::Sometimes::$site);
        }
    };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;

    struct Unwatched;

    impl Probe for Unwatched {}

    #[derive(Default)]
    struct Watched(Cell<u32>);

    impl Probe for Watched {
        const PROBED: bool = true;

        fn fires(&self, site: Buggify) -> bool {
            site == Buggify::InboxBatchOfOne
        }

        fn met(&self, _: Sometimes) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_door_that_nobody_watches_takes_no_rare_path_and_looks_at_no_condition() {
        assert!(!buggify!(Unwatched, InboxBatchOfOne));
        sometimes!(Unwatched, BatchEndedFull, panic!("it was looked at"));
    }

    #[test]
    fn a_watched_door_decides_and_counts() {
        let door = Watched::default();
        assert!(buggify!(door, InboxBatchOfOne) && !buggify!(door, MessageDropped));
        sometimes!(door, BatchEndedFull, door.0.get() > 0);
        assert_eq!(door.0.get(), 0);
        sometimes!(door, BatchEndedFull);
        assert_eq!(door.0.get(), 1);
    }

    #[test]
    fn names_are_unique_and_unmistakable() {
        let sites = || Buggify::SITES.iter().chain(Sometimes::SITES);
        let names: BTreeSet<&str> = sites().map(|site| site.name).collect();
        assert_eq!(names.len(), sites().count());
        assert!(sites().all(|site| site.name.matches('-').count() >= 1), "{names:?}");
        assert!(Buggify::SITES.iter().all(|site| (1..=100).contains(&site.percent)));
    }
}
