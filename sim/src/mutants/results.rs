//! What came of each planted bug, kept from run to run.
//!
//! A row stands as long as its key does: a hash of the patch and of the sources of the crates that it changes. The file is written after
//! each row, so a run that was cut short goes on where it stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How a planted bug ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A seed failed.
    Caught,
    /// No seed failed.
    Survived,
    /// The patch fits the code no more.
    DoesNotApply,
    /// The patched code is refused by the compiler.
    DoesNotBuild,
}

impl Outcome {
    /// A few words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Outcome::Caught => "caught",
            Outcome::Survived => "survived",
            Outcome::DoesNotApply => "does not apply",
            Outcome::DoesNotBuild => "does not build",
        }
    }
}

/// What is known of one planted bug.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it was found out about: see `key`.
    pub key: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The oracle that fired first in the first seed that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<String>,
    /// How many seeds were run up to the first that failed, it included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many of the first `RATE_SEEDS` of them failed.
    pub failed: u64,
    /// What became of the first scenario that failed when it was shrunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<Shrunk>,
}

/// The size of a scenario that was shrunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shrunk {
    /// Its faults.
    pub faults: u64,
    /// Its operations.
    pub operations: u64,
    /// How long that took, in milliseconds.
    pub ms: u64,
}

/// So many seeds tell how often a planted bug is caught.
pub const RATE_SEEDS: u64 = 200;

impl Row {
    /// A row of a bug that has not been run.
    #[must_use]
    pub const fn new(key: String, outcome: Outcome) -> Row {
        Row { key, outcome, oracle: None, first: None, seeds: 0, failed: 0, shrunk: None }
    }

    /// One more seed was run; `Some` names the oracle that fired.
    pub fn count(&mut self, fired: Option<&str>) {
        self.seeds += 1;
        let Some(oracle) = fired else {
            return;
        };
        if self.first.is_none() {
            self.outcome = Outcome::Caught;
            self.first = Some(self.seeds);
            self.oracle = Some(oracle.to_owned());
        }
        self.failed += u64::from(self.seeds <= RATE_SEEDS);
    }

    /// Whether more seeds would tell no more: it is caught and its rate is known, or `seeds_max` have passed.
    #[must_use]
    pub fn is_enough(&self, seeds_max: u64) -> bool {
        let wanted = if self.first.is_some() { RATE_SEEDS.min(seeds_max) } else { seeds_max };
        self.seeds >= wanted
    }
}

/// The key of a row: of the patch, and of what its crates hold.
#[must_use]
pub(super) fn key<'a>(patch: &str, crates: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!("{:016x}", xxh3_64(patch.as_bytes()));
    for contents in crates {
        text.push_str(contents);
    }
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// The rows of a file.
#[derive(Debug)]
pub struct Results {
    file: PathBuf,
    rows: BTreeMap<String, Row>,
}

impl Results {
    /// The rows in `file`; none when it is not there.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn load(file: &Path) -> Result<Results, String> {
        let rows = match fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                format!("{}: {error}; remove it to run all planted bugs again", file.display())
            })?,
        };
        Ok(Results { file: file.to_owned(), rows })
    }

    /// What is known of a planted bug.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }

    /// Keeps a row, also in the file; rows of bugs that are not `known` any more are dropped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(
        &mut self,
        name: &str,
        row: Row,
        known: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        self.rows.insert(name.to_owned(), row);
        self.rows.retain(|name, _| known(name));
        let text = serde_json::to_string_pretty(&self.rows).map_err(|error| error.to_string())?;
        fs::write(&self.file, text + "\n")
            .map_err(|error| format!("{} cannot be written: {error}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_with_the_patch_and_with_the_crates_and_with_nothing_else() {
        let one = key("patch", ["core 1", "engines 1"]);
        assert_eq!(one, key("patch", ["core 1", "engines 1"]));
        assert_ne!(one, key("patch.", ["core 1", "engines 1"]));
        assert_ne!(one, key("patch", ["core 1", "engines 2"]));
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn the_first_failure_is_kept_and_the_rate_is_of_the_first_seeds() {
        let mut row = Row::new(String::new(), Outcome::Survived);
        for seed in 1..=300 {
            let fired = ["nodes", "coverage"][usize::from(seed > 10)];
            row.count((seed % 10 == 0).then_some(fired));
            assert_eq!(row.is_enough(5_000), seed >= 200, "seed {seed}");
        }
        assert_eq!((row.outcome, row.first, row.failed), (Outcome::Caught, Some(10), 20));
        assert_eq!(row.oracle.as_deref(), Some("nodes"));
    }

    #[test]
    fn a_survivor_is_run_to_the_end() {
        let mut row = Row::new(String::new(), Outcome::Survived);
        (0..4_999).for_each(|_| row.count(None));
        assert!(!row.is_enough(5_000));
        row.count(None);
        assert!(row.is_enough(5_000) && row.outcome == Outcome::Survived);
    }

    #[test]
    fn rows_outlive_the_process_and_bugs_that_are_gone_do_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("results.json");
        let mut results = Results::load(&file).expect("nothing is nothing");
        let mut row = Row::new(key("a", []), Outcome::Survived);
        row.count(Some("nodes"));
        results.keep("old", row.clone(), |_| true).expect("written");
        results.keep("new", row.clone(), |name| name == "new").expect("written");
        let again = Results::load(&file).expect("it reads what it wrote");
        assert_eq!((again.get("new"), again.get("old")), (Some(&row), None));
        fs::write(&file, "[]").expect("written");
        assert!(Results::load(&file).expect_err("no rows").contains("remove it"));
    }
}
