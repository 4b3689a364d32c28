//! What a fault may do to the world, and ask of it.
//!
//! A fault knows nothing of how nodes, links and disks are simulated. What it asks for may find nothing to break: a node that is down
//! already, a link that is cut already. Nothing here breaks for ever: the heal mends whatever is still broken.

use rondo_engines::mem_disk::MemDisk;

use super::directories::{Replacement, Step};
use super::disks::Failure;
use super::links::Mischief;
use super::membership::Wanted;
use super::power::Fate;

/// The world, for the fault whose turn it is. Times are in milliseconds.
pub trait Stage {
    /// Its `undo` is due again after this time.
    fn come_again(&mut self, after_ms: u64);
    /// Counts a turn of the fault; answers how many it has had.
    fn turn(&mut self) -> u32;
    /// Whether everything is healed, so that nothing may be broken any more.
    fn is_healed(&self) -> bool;

    /// These links carry nothing.
    fn cut(&mut self, links: &[(u32, u32)]);
    /// They are whole again.
    fn mend(&mut self, links: &[(u32, u32)]);
    /// These links behave badly for so long.
    fn spoil(&mut self, links: &[(u32, u32)], how: Mischief, for_ms: u64);
    /// What the fault has spoilt behaves well again.
    fn calm(&mut self);
    /// What is on its way is lost, with the connections that it travels on; who was dialled may learn it too.
    fn break_connections(&mut self, links: &[(u32, u32)], both_learn_it: bool);

    /// Whether a node's process lives.
    fn is_up(&self, node: u32) -> bool;
    /// Kills a node's process, if it lives.
    fn kill(&mut self, node: u32);
    /// Asks a node to stop; whether it ran and had not been asked.
    fn stop(&mut self, node: u32) -> bool;
    /// Whether a node was asked to stop and has not ended.
    fn is_stopping(&self, node: u32) -> bool;
    /// Whether it has had its time for that, which ends the run.
    fn is_stuck(&mut self, node: u32) -> bool;
    /// Starts a node that is down, as the last thing of this turn.
    fn start(&mut self, node: u32);
    /// A node does not run for so long; whether it lives.
    fn pause(&mut self, node: u32, for_ms: u64) -> bool;
    /// A node goes on, unless it has to pause longer.
    fn resume(&mut self, node: u32);
    /// Between two turns of a node are so many microseconds at least.
    fn slow_cpu(&mut self, node: u32, by_us: u64);
    /// A node that is down has another address from now on.
    fn give_address(&mut self, node: u32);

    /// A node that comes later is there from now on, and starts as the last thing of this turn; not when it has been there.
    fn come(&mut self, node: u32);
    /// A node ends, and never starts again.
    fn go_for_good(&mut self, node: u32);
    /// An operator asks a node for a change.
    fn order(&mut self, node: u32, what: Wanted);
    /// Whether a node has said of a change that this fault has asked for that it is on its way.
    fn is_done(&self, what: Wanted) -> bool;
    /// The node that stands so many places behind this one, counted round.
    fn next_to(&self, node: u32, places: u32) -> u32;

    /// A node's power goes.
    fn lose_power(&mut self, node: u32, fate: Fate);
    /// All that a node's disk does takes longer by this.
    fn slow_disk(&mut self, node: u32, by_ms: u64);
    /// A node's disk ends nothing for so long.
    fn stall_disk(&mut self, node: u32, for_ms: u64);
    /// A node's disk fails, so often.
    fn fail_disk(&mut self, node: u32, how: Failure, times: u32);
    /// It fails no more by this fault. Damage stays.
    fn fail_disk_no_more(&mut self, node: u32);

    /// A node's wall clock jumps.
    fn set_clock(&mut self, node: u32, by_ms: i64);
    /// A node's wall clock stands still, or goes on.
    fn freeze_clock(&mut self, node: u32, is_frozen: bool);
    /// A node's clocks are faster by so many millionths; `None`: as at the start.
    fn bend_clock(&mut self, node: u32, ppm: Option<i32>);

    /// Remembers how far a fault of a directory has come.
    fn keep(&mut self, step: Step);
    /// How far it has come; forgotten by that.
    fn kept(&mut self) -> Option<Step>;
    /// Whether a node runs, on its newest directory, and nobody has asked it to stop.
    fn runs_on_its_newest(&self, node: u32) -> bool;
    /// A copy of a node's whole disk.
    fn copy(&mut self, node: u32) -> MemDisk;
    /// Every node that lives is asked what it has heard of the others; the answers take a moment.
    fn ask_around(&mut self);
    /// Another directory comes into the place of a node's newest one; whether that may be.
    fn put_in(&mut self, node: u32, what: Replacement, disk: &MemDisk) -> bool;
    /// A node ends, and its newest directory is in its place again.
    fn put_back(&mut self, node: u32);
    /// A node that is down loses a file; or it answers the disk, less the end of its log, that the node is to start on.
    fn lose_file(&mut self, node: u32, what: Replacement) -> Option<MemDisk>;
    /// A copy of a node's directory is put on a machine of its own; answers which, when that may be.
    fn clone_beside(&mut self, node: u32, copy: &MemDisk) -> Option<u32>;
    /// The clone ends.
    fn end_clone(&mut self);
}
