//! Many seeds on several threads, told in the order of the seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::carry::driver::Driver;
use crate::generator;
use crate::run::{self, Outcome};
use crate::scenario::Scenario;

/// Runs the seeds `from..to` on a driver and `jobs` threads and gives each outcome to `told`, in the order of the seeds.
/// `told` answers whether to go on.
pub fn run_seeds(
    (from, to): (u64, u64),
    driver: Driver,
    jobs: usize,
    told: impl FnMut(&Scenario, Outcome) -> bool + Send,
) {
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let line = Mutex::new(Line { next: from, done: BTreeMap::new(), told });
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let scenario = generator::scenario(seed);
                    let outcome = run::run_on(driver, &scenario, false);
                    let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
                    if !line.add(seed, scenario, outcome) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Outcomes that wait for those of earlier seeds.
struct Line<T> {
    next: u64,
    done: BTreeMap<u64, (Scenario, Outcome)>,
    told: T,
}

impl<T: FnMut(&Scenario, Outcome) -> bool> Line<T> {
    fn add(&mut self, seed: u64, scenario: Scenario, outcome: Outcome) -> bool {
        self.done.insert(seed, (scenario, outcome));
        while let Some((scenario, outcome)) = self.done.remove(&self.next) {
            self.next += 1;
            if !(self.told)(&scenario, outcome) {
                self.next = u64::MAX;
                return false;
            }
        }
        self.next != u64::MAX
    }
}
