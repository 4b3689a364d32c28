//! What must hold of failure detectors, whatever the luck: how soon they detect, that they convict nobody wrongly, that views
//! meet again, and that traffic does not grow with the cluster.

use rondo_core::config::SWIM_DATAGRAM_BYTES_MAX;
use rondo_core::wire::swim::Standing;

use crate::world::{Event, World};

const FIVE: usize = 5;

/// How long it takes until all others know in some way that a killed node does not answer, in milliseconds.
fn detected_ms(seed: u64, is_known: impl Fn(Option<Standing>) -> bool) -> u64 {
    let mut world = World::joined(FIVE, seed, 10_000 + seed * 137 % 1_000);
    assert!(world.agrees(), "seed {seed}");
    world.kill(4);
    let killed = world.now;
    while !(0..4).all(|at| is_known(world.view(at, 4))) {
        world.pass(10);
        assert!(world.now.ms_since(killed) < 60_000, "seed {seed}: never");
    }
    world.now.ms_since(killed)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn a_killed_node_of_five_is_suspect_to_all_within_three_seconds_and_dead_within_nine() {
    let all =
        |known: fn(Option<Standing>) -> bool| (0..101).map(move |seed| detected_ms(seed, known));
    let suspected: Vec<u64> = all(|standing| standing != Some(Standing::Alive)).collect();
    let dead: Vec<u64> = all(|standing| standing == Some(Standing::Dead)).collect();
    let worst = |values: &[u64]| values.iter().copied().max().unwrap_or_default();
    println!(
        "suspected: median {} ms, worst {} ms; dead: median {} ms, worst {} ms",
        median(suspected.clone()),
        worst(&suspected),
        median(dead.clone()),
        worst(&dead)
    );
    assert!(median(suspected) <= 3_000);
    assert!(median(dead) <= 9_000);
}

#[test]
fn nobody_is_convicted_wrongly_in_an_hour_in_which_one_datagram_of_twenty_is_lost() {
    let mut world = World::joined(FIVE, 7, 10_000);
    (world.lost_permille, world.delay_ms) = (50, (1, 50));
    world.pass(3_600_000);
    let changes = world.events.iter().filter_map(|(_, event)| match event {
        Event::Changed { claim, .. } => Some(claim.standing),
        Event::Sent { .. } | Event::Exchanged { .. } => None,
    });
    let suspected = changes.clone().filter(|&standing| standing == Standing::Suspect).count();
    println!("{suspected} suspicions in an hour");
    assert_eq!(changes.filter(|&standing| standing == Standing::Dead).count(), 0);
    assert!(suspected > 0, "suspicions come, and are refuted");
    world.lost_permille = 0;
    world.pass(30_000);
    assert!(world.agrees());
}

#[test]
fn views_agree_within_ten_seconds_after_a_split_that_was_longer_than_any_suspicion() {
    for seed in 0..40 {
        let mut world = World::joined(FIVE, seed, 10_000);
        let (one, other) = ([0, 1, 2, 3, 4].split_at(1 + seed as usize % 4).0.to_vec(), seed);
        let rest: Vec<usize> = (0..FIVE).filter(|at| !one.contains(at)).collect();
        world.split(&one, &rest);
        world.pass(60_000 + other * 1_000);
        for &at in &one {
            assert!(rest.iter().all(|&of| world.view(at, of) == Some(Standing::Dead)));
        }
        world.cut.clear();
        let healed = world.now;
        while !world.agrees() {
            world.pass(50);
            assert!(world.now.ms_since(healed) <= 10_000, "seed {seed}");
        }
    }
}

#[test]
fn a_paused_node_convicts_nobody_and_is_taken_back() {
    for seed in 0..20 {
        let mut world = World::joined(FIVE, seed, 10_000);
        // It suspects somebody when it is paused.
        world.split(&[2], &[0, 1, 3, 4]);
        world.pass(4_000);
        assert!([0, 1, 3, 4].iter().any(|&of| world.view(2, of) == Some(Standing::Suspect)));
        world.places[2].is_paused = true;
        world.cut.clear();
        world.pass(40_000);
        assert!([0, 1, 3, 4].iter().all(|&at| world.view(at, 2) == Some(Standing::Dead)));
        world.events.clear();
        world.resume(2);
        world.pass(10_000);
        let is_convicted = |event: &Event| match event {
            Event::Changed { at, claim, .. } => *at == 2 && claim.standing == Standing::Dead,
            Event::Sent { .. } | Event::Exchanged { .. } => false,
        };
        assert!(!world.events.iter().any(|(_, event)| is_convicted(event)), "seed {seed}");
        assert!(world.agrees(), "seed {seed}");
    }
}

/// Datagrams and bytes of one node in a second, when nothing happens.
fn quiet(nodes: usize, span_ms: u64) -> (f64, f64) {
    let mut world = World::new(nodes, 1);
    world.checks = nodes <= 10;
    (0..nodes).for_each(|at| world.start(at));
    let begun = world.now;
    while !world.agrees() {
        world.pass(1_000);
        assert!(world.now.ms_since(begun) <= 30_000, "{nodes} nodes have not met");
    }
    world.pass(15_000);
    assert!(world.agrees() && world.traffic.longest <= SWIM_DATAGRAM_BYTES_MAX);
    world.traffic = Default::default();
    world.pass(span_ms);
    let each = |count: u64| count as f64 * 1_000.0 / (span_ms * nodes as u64) as f64;
    (each(world.traffic.datagrams), each(world.traffic.bytes))
}

#[test]
fn what_a_node_sends_does_not_grow_with_the_cluster() {
    let all = [(10, 20_000), (100, 10_000), (300, 10_000)];
    let measured = all.map(|(nodes, span_ms)| quiet(nodes, span_ms));
    for ((nodes, _), (datagrams, bytes)) in all.iter().zip(measured) {
        println!("{nodes} nodes: {datagrams:.2} datagrams and {bytes:.0} bytes a second");
        assert!((1.9..2.6).contains(&datagrams), "a probe and an answer");
        assert!(bytes < 250.0);
    }
}
