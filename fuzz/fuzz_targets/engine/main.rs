//! Any engine on a disk that fails, loses power and rots, against a model: one sorted map per write. What keeps nothing begins
//! empty each time.
//!
//! Checked: while all is well every read and scan says what the model says, also for cold reads and
//! checkpoints; after a crash the store holds a prefix of its writes that contains all that was durable (all
//! that was flushed, when only the process died), and reports no loss; after damage every record served is
//! one that was written for its key; and nothing panics.

#![no_main]

mod input;

mod world;

mod calls;

use libfuzzer_sys::fuzz_target;

use crate::input::Input;
use crate::world::World;

const STEPS_MAX: usize = 60;

fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for step in input.steps.iter().take(STEPS_MAX) {
        world.step(step);
    }
    world.die(None);
    world.open();
});
