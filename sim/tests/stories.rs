//! Runs that are kept: reports of a few seeds as they must read, and every scenario that once showed a bug.

use std::fs;
use std::path::Path;

use rondo_sim::carry::driver::Driver;
use rondo_sim::generator;
use rondo_sim::oracle::verdict::Verdict;
use rondo_sim::report;
use rondo_sim::run;
use rondo_sim::scenario::Scenario;

fn report_of(seed: u64) -> String {
    let scenario = generator::scenario(seed);
    report::text(&scenario, &run::run(&scenario, false))
}

#[test]
fn the_report_of_a_quiet_run() {
    insta::assert_snapshot!(report_of(8));
}

#[test]
fn the_report_of_a_run_with_power_losses_on_bitcask() {
    insta::assert_snapshot!(report_of(16));
}

#[test]
fn the_report_of_a_run_with_cuts_in_memory() {
    insta::assert_snapshot!(report_of(102));
}

#[test]
fn the_report_of_a_run_with_stale_reads_on_bitcask() {
    insta::assert_snapshot!(report_of(161));
}

#[test]
fn every_scenario_that_once_showed_a_bug_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> =
        fs::read_dir(directory).expect("the corpus").flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let scenario = Scenario::from_json(&text).expect("a scenario");
        assert!(!scenario.story.is_empty(), "{} tells no story", file.display());
        for driver in [Driver::Sim, Driver::Wire] {
            let outcome = run::run_on(driver, &scenario, false);
            let (file, driver) = (file.display(), driver.name());
            assert_eq!(outcome.verdict, Verdict::Pass, "{file} {driver}: {:?}", outcome.violations);
        }
    }
}
