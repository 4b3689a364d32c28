//! The simulator's side of the sites in the product's code: who fires, and how often each was reached.
//!
//! Which sites are on stands in the scenario. Whether one that is on fires is keyed by its name, the node and how often it was
//! asked there, so that taking one out of a scenario leaves the luck of the others as it was. None fires after the
//! heal; what is reached is counted to the end. Sites are known by name: their numbers change with the table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rondo_core::probe::{Buggify, Site, Sometimes, Watch};
use xxhash_rust::xxh3::xxh3_64;

use crate::draw::{self, Stream};
use crate::scenario::Scenario;

/// How often each site fired or was reached, by its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    fired: Vec<u64>,
    met: Vec<u64>,
}

/// All sites of one world.
pub struct Probes(Arc<Shared>);

struct Shared {
    seed: u64,
    /// The key of each site's luck, where it is on.
    on: Vec<Option<u32>>,
    healed: AtomicBool,
    counts: Mutex<Counts>,
}

/// How often each site was asked at one node, over all its lives.
type Asked = Arc<[AtomicU64]>;

#[derive(Default)]
struct Counts {
    asked: BTreeMap<u32, Asked>,
    coverage: Coverage,
}

/// One node's eyes.
struct Watcher {
    shared: Arc<Shared>,
    node: u32,
    asked: Asked,
}

impl Probes {
    /// The sites of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Probes {
        let is_on = |site: &Site| scenario.buggify.iter().any(|name| name == site.name);
        let key = |site: &Site| is_on(site).then(|| xxh3_64(site.name.as_bytes()) as u32);
        Probes(Arc::new(Shared {
            seed: scenario.seed,
            on: Buggify::SITES.iter().map(key).collect(),
            healed: AtomicBool::new(false),
            counts: Mutex::default(),
        }))
    }

    /// What decides and counts for one node.
    #[must_use]
    pub fn of(&self, node: u32) -> Arc<dyn Watch> {
        let none = || Buggify::SITES.iter().map(|_| AtomicU64::new(0)).collect();
        let asked = Arc::clone(self.0.counts().asked.entry(node).or_insert_with(none));
        Arc::new(Watcher { shared: Arc::clone(&self.0), node, asked })
    }

    /// From now on nothing fires.
    pub fn heal(&self) {
        self.0.healed.store(true, Ordering::Relaxed);
    }

    /// What was reached so far.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.0.counts().coverage.clone()
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Watcher {
    fn fires(&self, site: Buggify) -> bool {
        // Nearly all sites are off, and sites are asked in every step.
        self.shared.on[site as usize].is_some_and(|key| self.draws(site, key))
    }

    fn met(&self, site: Sometimes) {
        self.shared.counts().coverage.met[site as usize] += 1;
    }
}

impl Watcher {
    /// Whether a site that is on fires this time.
    #[inline(never)]
    fn draws(&self, site: Buggify, key: u32) -> bool {
        let Shared { seed, healed, .. } = &*self.shared;
        if healed.load(Ordering::Relaxed) {
            return false;
        }
        let at = site as usize;
        let k = self.asked[at].fetch_add(1, Ordering::Relaxed) + 1;
        let Site { percent, .. } = Buggify::SITES[at];
        let draw = draw::keyed(*seed, Stream::Buggify, self.node, key, k);
        let fires = draw.happens(u32::from(percent) * 10_000);
        if fires {
            self.shared.counts().coverage.fired[at] += 1;
        }
        fires
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Coverage { fired: vec![0; Buggify::SITES.len()], met: vec![0; Sometimes::SITES.len()] }
    }
}

impl Coverage {
    /// Adds what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        let add = |sums: &mut Vec<u64>, counts: &[u64]| {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        add(&mut self.fired, &other.fired);
        add(&mut self.met, &other.met);
    }

    /// Each `buggify` site, and how often it fired.
    pub fn fired(&self) -> impl Iterator<Item = (&'static Site, u64)> {
        Buggify::SITES.iter().zip(self.fired.iter().copied())
    }

    /// Each `sometimes` site, and how often it was reached.
    pub fn met(&self) -> impl Iterator<Item = (&'static Site, u64)> {
        Sometimes::SITES.iter().zip(self.met.iter().copied())
    }

    /// How many sites of each kind were reached, of how many.
    #[must_use]
    pub fn summary(&self) -> String {
        let reached = |counts: &[u64]| counts.iter().filter(|&&count| count > 0).count();
        format!(
            "coverage {}/{} sometimes, {}/{} buggify",
            reached(&self.met),
            self.met.len(),
            reached(&self.fired),
            self.fired.len()
        )
    }

    /// The names of all sites that were never reached.
    #[must_use]
    pub fn never(&self) -> Vec<&'static str> {
        let all = self.met().chain(self.fired());
        all.filter(|&(_, count)| count == 0).map(|(site, _)| site.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::generator;

    fn with(names: &[&str]) -> Probes {
        let mut scenario = generator::scenario(1);
        scenario.buggify = names.iter().map(|&name| name.to_owned()).collect();
        scenario.check().expect("the sites are there");
        Probes::new(&scenario)
    }

    fn fired(probes: &Probes, node: u32, site: Buggify) -> Vec<bool> {
        let watch = probes.of(node);
        (0..1_000).map(|_| watch.fires(site)).collect()
    }

    #[test]
    fn a_site_that_is_on_fires_as_often_as_its_table_says_and_the_others_never() {
        let probes = with(&["inbox-batch-of-one"]);
        let count = |fired: &[bool]| fired.iter().filter(|&&fired| fired).count();
        let one = fired(&probes, 0, Buggify::InboxBatchOfOne);
        assert!((200..300).contains(&count(&one)), "{}", count(&one));
        assert_eq!(count(&fired(&probes, 0, Buggify::TickSkipped)), 0);
        assert_ne!(fired(&probes, 1, Buggify::InboxBatchOfOne), one, "nodes have their own luck");
        let both = with(&["tick-skipped", "inbox-batch-of-one"]);
        fired(&both, 0, Buggify::TickSkipped);
        assert_eq!(fired(&both, 0, Buggify::InboxBatchOfOne), one, "sites have their own luck");
    }

    #[test]
    fn nothing_fires_after_the_heal_and_everything_is_counted() {
        let probes = with(&["tick-skipped"]);
        let before = fired(&probes, 0, Buggify::TickSkipped).iter().filter(|&&is| is).count();
        probes.heal();
        assert!(fired(&probes, 0, Buggify::TickSkipped).iter().all(|&is| !is));
        probes.of(0).met(Sometimes::BatchEndedFull);
        let mut coverage = probes.coverage();
        coverage.add(&probes.coverage());
        let of = |name| coverage.fired().chain(coverage.met()).find(|(site, _)| site.name == name);
        assert_eq!(of("tick-skipped").map(|(_, count)| count), Some(2 * before as u64));
        assert_eq!(of("batch-ended-full").map(|(_, count)| count), Some(2));
        assert_eq!(coverage.never().len(), Buggify::SITES.len() + Sometimes::SITES.len() - 2);
        assert!(coverage.summary().starts_with("coverage 1/"), "{}", coverage.summary());
    }

    #[test]
    fn a_scenario_with_an_unknown_site_is_refused() {
        let mut scenario = generator::scenario(1);
        scenario.buggify = vec!["no-such-site".to_owned()];
        let error = scenario.check().expect_err("there is no such site");
        assert!(error.contains("take it out"), "{error}");
    }

    #[test]
    fn every_site_of_the_table_stands_in_the_code_and_in_each_engine_once() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let core = ["core/src", "engines/src/data_dir", "engines/src/log", "engines/src/mem_disk"];
        // What two engines do has one name in both.
        let parts =
            [&core[..], &["engines/src/bitcask"], &["engines/src/lsm"]].map(|directories| {
                let mut code = String::new();
                directories.iter().for_each(|directory| read_all(&top.join(directory), &mut code));
                code.split_whitespace().collect::<String>()
            });
        for (kind, sites) in [("buggify", Buggify::SITES), ("sometimes", Sometimes::SITES)] {
            for site in sites {
                let name: String = site.name.split('-').map(capital).collect();
                let counts = parts.each_ref().map(|code| calls(code, kind, &name));
                let is_sound = counts.iter().all(|&count| count <= 1) && counts.contains(&1);
                assert!(
                    is_sound,
                    "{kind}!({name}) stands in the parts of the code {counts:?} times"
                );
            }
        }
    }

    /// How often a site of this kind and name is called.
    fn calls(code: &str, kind: &str, name: &str) -> usize {
        let is_here = |call: &&str| {
            call.split_once(',').is_some_and(|(_, rest)| {
                rest.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', ')']))
            })
        };
        code.split(&format!("{kind}!(")).skip(1).filter(is_here).count()
    }

    fn capital(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }

    /// All code below a directory, but that of the probes themselves.
    fn read_all(directory: &Path, code: &mut String) {
        let entries = fs::read_dir(directory).expect("the sources are there");
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| !path.ends_with("probe")) {
            if path.is_dir() {
                read_all(path, code);
            } else {
                *code += &fs::read_to_string(path).expect("a source is text");
            }
        }
    }
}
