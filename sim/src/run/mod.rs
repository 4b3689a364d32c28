//! One run: a scenario in, a verdict with its evidence out. The same scenario gives the same hash, always.

pub mod heal;

pub mod orders;

pub mod strike;

pub mod drive;

pub mod inquiry;

pub mod survivors;

pub mod unread;

pub mod rest;

pub mod trees;

pub mod finale;

pub mod campaign;

use std::collections::BTreeMap;

use crate::carry::driver::Driver;
use crate::carry::net::Counts;
use crate::history::History;
use crate::node;
use crate::oracle::verdict::Verdict;
use crate::oracle::{self, Violation};
use crate::rt::{self, Time};
use crate::run::drive::pump;
use crate::scenario::Scenario;
use crate::watch::probes::Coverage;
use crate::watch::trace::Line;
use crate::world::Shared;

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The evidence, the gravest first; empty when it passed.
    pub violations: Vec<Violation>,
    /// A hash of every event in order.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How long the world lived, in virtual time.
    pub lived: Time,
    /// How long the healed cluster took until all was checked, in milliseconds of virtual time.
    pub finale_ms: u64,
    /// What happened to messages.
    pub counts: Counts,
    /// Faults that struck, by family.
    pub struck: BTreeMap<String, u64>,
    /// What happened on disks.
    pub disks: DiskCounts,
    /// What the sites in the product's code did.
    pub coverage: Coverage,
    /// What clients saw.
    pub history: History,
    /// One line for each event, when it was asked for.
    pub transcript: Vec<Line>,
}

/// What happened on all disks of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskCounts {
    /// Unsynced disk operations that power losses took.
    pub writes_lost: u64,
    /// Syncs.
    pub syncs: u64,
}

/// Runs a scenario on the usual driver.
#[must_use]
pub fn run(scenario: &Scenario, with_transcript: bool) -> Outcome {
    run_on(Driver::default(), scenario, with_transcript)
}

/// Runs a scenario on a fresh thread. A panic of the simulator itself is told as a crash.
#[must_use]
pub fn run_on(driver: Driver, scenario: &Scenario, with_transcript: bool) -> Outcome {
    let name = format!("seed {}", scenario.seed);
    let (mut outcome, panics) = rt::on_fresh_thread(name, || {
        let shared = Shared::new(scenario.clone(), driver, with_transcript);
        let outcome = rt::block_on(scenario.seed, live(&shared));
        shared.empty();
        outcome
    })
    .map_or_else(|text| (None, vec![text]), |outcome| (Some(outcome), Vec::new()));
    let mut outcome = outcome.take().unwrap_or_else(Outcome::empty);
    outcome.violations = oracle::check(&outcome.history);
    outcome.violations.extend(panics.into_iter().map(Violation::of_the_simulator));
    outcome.violations.sort_by_key(|violation| (violation.verdict, violation.at));
    outcome.verdict = oracle::worst(&outcome.violations);
    outcome
}

async fn live(shared: &Shared) -> Outcome {
    let (founders, heal_at_ms) = {
        let world = shared.lock();
        (world.there().collect::<Vec<u32>>(), world.scenario.heal_at_ms)
    };
    founders.into_iter().for_each(|node| node::start(shared, node));
    pump(shared, Time::at_ms(heal_at_ms), |_| false).await;
    let healed = rt::now();
    if !shared.lock().is_over() {
        finale::finish(shared).await;
    }
    let mut world = shared.lock();
    // A record that was replaced by what the others hold may have been the only one of a write at `one`.
    let coverage = world.probes.coverage();
    let replaced =
        coverage.met().any(|(site, times)| site.name == "rotten-record-replaced" && times > 0);
    world.history.lives.has_rotted |= replaced;
    let (events, hash) = world.hash();
    Outcome {
        hash,
        events,
        lived: rt::now(),
        finale_ms: rt::now().ms() - healed.ms(),
        counts: world.carry.net.counts,
        struck: std::mem::take(&mut world.faults.struck),
        disks: DiskCounts {
            writes_lost: world.faults.writes_lost,
            syncs: world.nodes.iter().map(|node| node.device.syncs).sum(),
        },
        coverage,
        history: std::mem::take(&mut world.history),
        transcript: world.take_transcript(),
        ..Outcome::empty()
    }
}

impl Outcome {
    fn empty() -> Outcome {
        Outcome {
            verdict: Verdict::Pass,
            violations: Vec::new(),
            hash: 0,
            events: 0,
            lived: Time::default(),
            finale_ms: 0,
            counts: Counts::default(),
            struck: BTreeMap::new(),
            disks: DiskCounts::default(),
            coverage: Coverage::default(),
            history: History::default(),
            transcript: Vec::new(),
        }
    }
}
