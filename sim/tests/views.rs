//! What nodes take each other for while a part of the cluster is apart for long: that there is something to judge.

use rondo_sim::fault::Fault;
use rondo_sim::fault::partitions::LONG_SPLIT;
use rondo_sim::generator;
use rondo_sim::oracle::views::{self, Judged};
use rondo_sim::run;
use rondo_sim::scenario::Scenario;

/// So many scenarios with a long split are run.
const RUNS: usize = 12;

#[test]
fn in_runs_with_long_splits_nodes_are_convicted_and_seen_again() {
    let is_split = |fault: &Fault| fault.name() == LONG_SPLIT;
    let has_split = |made: &Scenario| made.faults.iter().any(is_split);
    let made: Vec<Scenario> = (0..).map(generator::scenario).filter(has_split).take(RUNS).collect();
    let changes = made.iter().filter(|made| made.is_reshaped()).count();
    assert!((3..RUNS).contains(&changes), "{changes} of them change their shape");
    let (mut all, mut agreed) = (Judged::default(), 0);
    for scenario in &made {
        let outcome = run::run(scenario, false);
        assert_eq!(outcome.violations, [], "seed {}", scenario.seed);
        let judged = views::judged(&outcome.history);
        all.convictions += judged.convictions;
        all.of_running += judged.of_running;
        all.echoes += judged.echoes;
        all.seen_again += judged.seen_again;
        agreed += usize::from(outcome.history.lives.agreement.is_some());
    }
    assert_eq!(agreed, RUNS, "all of them come to the question");
    assert!(all.of_running >= RUNS && all.echoes > RUNS && all.seen_again > 2 * RUNS, "{all:?}");
}
