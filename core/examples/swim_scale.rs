//! What failure detection costs and how soon it works in clusters of different sizes, on an event loop without a simulator.
//!
//! `cargo run --release -p core --example swim_scale`, or with numbers of nodes behind `--`. It prints, for each: how long nodes that
//! start together with one seed take to meet; what a node sends in a second when nothing happens; and, when one is killed, after how
//! long all others suspect it, and hold it for dead.

#[expect(dead_code, reason = "scripts and laws use more of it")]
#[path = "../tests/swim/world.rs"]
mod world;

use rondo_core::wire::swim::Standing;
use world::{Traffic, World};

const MINUTE_MS: u64 = 60_000;

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![10, 100, 1_000] } else { given };
    println!("nodes  met s  datagrams/s  bytes/s  longest  exchanges/min  suspected s  dead s");
    for nodes in sizes {
        println!("{}", measured(nodes));
    }
}

fn measured(nodes: usize) -> String {
    let mut world = World::new(nodes, 1);
    world.checks = false;
    (0..nodes).for_each(|at| world.start(at));
    let met_ms = until(&mut world, World::agrees);
    let longest = world.traffic.longest;
    // Rumours end.
    world.pass(MINUTE_MS);
    world.traffic = Traffic::default();
    world.pass(MINUTE_MS);
    let Traffic { datagrams, bytes, exchanges, .. } = world.traffic;
    let each = |count: u64, ms: u64| count as f64 * ms as f64 / (MINUTE_MS * nodes as u64) as f64;
    let last = nodes - 1;
    world.kill(last);
    let all = |world: &World, is_known: fn(Standing) -> bool| {
        (0..last).all(|at| world.view(at, last).is_none_or(is_known))
    };
    let suspected_ms = until(&mut world, |world| all(world, |is| is != Standing::Alive));
    let dead_ms = suspected_ms + until(&mut world, |world| all(world, |is| is == Standing::Dead));
    format!(
        "{nodes:>5}  {:>5.1}  {:>11.2}  {:>7.0}  {longest:>7}  {:>13.2}  {:>11.1}  {:>6.1}",
        met_ms as f64 / 1_000.0,
        each(datagrams, 1_000),
        each(bytes, 1_000),
        each(exchanges, MINUTE_MS),
        suspected_ms as f64 / 1_000.0,
        dead_ms as f64 / 1_000.0,
    )
}

/// How long it takes until this is so, in milliseconds.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) -> u64 {
    let begun = world.now;
    while !is_so(world) {
        world.pass(100);
        assert!(world.now.ms_since(begun) < 10 * MINUTE_MS, "it does not come to that");
    }
    world.now.ms_since(begun)
}
