//! What the executor answers for is no leak: only what it does not answer for has to be found by a second process.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use rondo_sim::rt;

#[test]
fn hash_seeds_and_the_operating_system_s_clock_are_the_same_in_every_world() {
    let look = |seed| {
        let world =
            || rt::block_on(seed, async { (RandomState::new().hash_one(7), SystemTime::now()) });
        rt::on_fresh_thread("world".to_owned(), world).expect("no panic")
    };
    assert_eq!(look(7), look(7));
    assert_ne!(look(7).0, look(8).0, "another seed, another world");
}
