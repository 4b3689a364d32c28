//! Every state in which a power loss can leave an engine, for all short lives.
//!
//! What runs here is bounded; `examples/crash_states.rs` tries lives of three steps, and loses power again
//! inside each recovery.
//!
//! It was seen to fail when a new log file's name was not synced, when a compaction removed its inputs before the new
//! name of its output was synced, when it removed them youngest first, and when a checkpoint did not sync its
//! directory.

mod subject;

mod workload;

mod oracle;

mod explore;

use explore::{Explorer, Tally, lives};
use rondo_engines::kind::EngineKind;
use subject::Subject;

/// Tries all lives of at most so many steps; the power goes `again` times inside a recovery.
fn explore(kind: EngineKind, steps: usize, again: u32) -> Tally {
    let mut explorer = Explorer::new(Subject(kind), again);
    for (beginning, life) in lives(steps) {
        explorer.try_life(beginning, &life).unwrap_or_else(|story| panic!("{story}"));
    }
    explorer.tally
}

#[test]
fn a_power_loss_breaks_no_promise() {
    for kind in EngineKind::ALL {
        let tally = explore(kind, 2, 0);
        assert!(tally.distinct > if kind.keeps() { 2_000 } else { 0 }, "{kind}: {tally:?}");
    }
}

#[test]
fn nor_does_a_second_one_inside_the_recovery() {
    for kind in EngineKind::ALL {
        let tally = explore(kind, 1, 1);
        assert!(tally.distinct > if kind.keeps() { 1_200 } else { 0 }, "{kind}: {tally:?}");
    }
}
