//! Every state in which a power loss can leave an engine, for all short lives.
//!
//! What runs here is bounded; `examples/crash_states.rs` tries lives of three steps, and loses power again
//! inside each recovery.
//!
//! It was seen to fail when a new log file's name was not synced, when a compaction removed its inputs before the new
//! name of its output was synced, when it removed them youngest first, and when a checkpoint did not sync its
//! directory.

mod workload;

mod oracle;

mod explore;

mod bitcask;

use explore::{Explorer, Tally, lives};

/// Tries all lives of at most so many steps; the power goes `again` times inside a recovery.
fn explore(steps: usize, again: u32) -> Tally {
    let mut explorer = Explorer::new(bitcask::BITCASK, again);
    for (beginning, life) in lives(steps) {
        explorer.try_life(beginning, &life).unwrap_or_else(|story| panic!("{story}"));
    }
    explorer.tally
}

#[test]
fn a_power_loss_breaks_no_promise() {
    let tally = explore(2, 0);
    assert!(tally.distinct > 2_000, "{tally:?}");
}

#[test]
fn nor_does_a_second_one_inside_the_recovery() {
    let tally = explore(1, 1);
    assert!(tally.distinct > 3_000, "{tally:?}");
}
