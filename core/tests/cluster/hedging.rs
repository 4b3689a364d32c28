//! When reads ask one replica more, and how many of them may.

use rondo_core::config::{HEDGES_SAVED_MAX, READS_PER_HEDGE};

use crate::stage::{Stage, get, put};

/// Three nodes with a value, and the answers of n2 and n3 do not come to n1.
fn silent() -> Stage {
    let mut stage = Stage::formed(3);
    stage.stored(1, put("x"));
    stage.settle();
    stage.cut = vec![(2, 1), (3, 1)];
    stage.transcript();
    stage
}

/// How many reads node 1 has hedged, and how many it was not let.
fn hedges(stage: &Stage) -> (u64, u64) {
    let counters = stage.status(1).counters;
    (counters.hedges, counters.hedges_withheld)
}

#[test]
fn where_reads_take_long_one_waits_longer_before_it_asks_another() {
    let mut stage = silent();
    stage.cut.clear();
    for _ in 0..16 {
        stage.ask(1, get());
        stage.tick(30);
        stage.settle();
        assert!(stage.told().contains("Found x"));
    }
    let (before, _) = hedges(&stage);
    assert_eq!(before, 16, "30 ms are long as long as nothing is known");
    stage.cut = vec![(2, 1), (3, 1)];
    stage.ask(1, get());
    stage.tick(59);
    assert_eq!(hedges(&stage).0, before, "they usually take 30 ms");
    stage.tick(1);
    assert_eq!(hedges(&stage).0, before + 1, "and this one twice as long");
}

#[test]
fn when_nobody_answers_one_read_in_ten_asks_another() {
    let mut stage = silent();
    let saved = u64::from(HEDGES_SAVED_MAX);
    for _ in 0..saved + 200 {
        stage.ask(1, get());
    }
    stage.tick(10);
    let spent = saved + 200;
    assert_eq!(hedges(&stage), (saved, spent - saved), "what was saved is spent");
    for _ in 0..10 * READS_PER_HEDGE {
        stage.ask(1, get());
    }
    stage.tick(10);
    assert_eq!(hedges(&stage).0, saved + 10, "one in ten pays for one");
    stage.cut.clear();
    stage.pass(200);
    let told = stage.transcript();
    assert_eq!(told.matches("Found x").count() as u64, spent + 100, "all ask again, and are told");
}
