//! Planted bugs: is the simulator any good at finding what is known to be wrong?
//!
//! Each is a patch in `sim/mutants/` whose first lines are prose: a line that tells its story, `real:` with the bug of
//! another store that it comes from, and `differs:` with the run in which behaviour differs, so that none is
//! equivalent by oversight; a fourth, `driver:`, names the driver when it is not the usual one.
//! `workshop` applies each to a copy of the last commit, builds it and runs seeds that no bug
//! was tuned on; `results` keeps what came of it, and `table` tells it.
//!
//! Patches are applied with one line of context (`git apply --recount -C1`), so that a line which others add nearby does
//! not end them. Those called `blind-*` were written before any of them was run, and are not changed afterwards.
//!
//! Left out: making bugs by a program. Most of those are equivalent or die in the first seed, and say little.

mod results;

mod table;

mod workshop;

use std::fs;
use std::path::Path;

use crate::carry::driver::Driver;

pub use results::{Outcome, RATE_SEEDS, Results, Row, Shrunk};
pub use table::{insert, render};
pub use workshop::{Limits, Workshop};

/// The planted bugs that every change is tried on: each is caught by another oracle or lies in another part.
pub const HANDFUL: [&str; 5] = [
    "ack-before-sync",
    "actor-reuse-after-crash",
    "forward-timeout-refused",
    "knows-pretends",
    "merge-drops-sibling",
];

/// A planted bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// The name of its file, without the ending.
    pub name: String,
    /// What is wrong, in a sentence or two.
    pub story: String,
    /// The bug of a real store that it comes from.
    pub real: String,
    /// The run in which it shows.
    pub differs: String,
    /// What carries messages while it is looked for.
    pub driver: Driver,
    /// The patch, prose and all.
    pub text: String,
}

impl Mutant {
    /// The planted bug in the text of a patch.
    ///
    /// # Errors
    /// Which line of prose is missing.
    pub fn parse(name: &str, text: &str) -> Result<Mutant, String> {
        let head = text.split("diff --git ").next().unwrap_or_default();
        let mut lines = head.lines();
        let field = |line: Option<&str>, prefix: &str| {
            let rest = line.and_then(|line| line.strip_prefix(prefix)).map(str::trim);
            rest.filter(|rest| !rest.is_empty()).map(str::to_owned).ok_or(format!(
                "{name}.patch: write a line of story, then `real: ...`, then `differs: ...`, then the diff; \
                 {prefix:?} is missing"
            ))
        };
        let story = field(lines.next(), "")?;
        let real = field(lines.next(), "real:")?;
        let differs = field(lines.next(), "differs:")?;
        let driver = lines.next().and_then(|line| line.strip_prefix("driver:")).map(str::trim);
        let driver = driver.map_or(Ok(Driver::default()), str::parse)?;
        let (name, text) = (name.to_owned(), text.to_owned());
        let mutant = Mutant { name, story, real, differs, driver, text };
        match mutant.crates().is_empty() {
            true => Err(format!("{}.patch changes no file", mutant.name)),
            false => Ok(mutant),
        }
    }

    /// The top directories of the files that it changes, each once.
    #[must_use]
    pub fn crates(&self) -> Vec<&str> {
        let changed = self.text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let mut crates: Vec<&str> =
            changed.filter_map(|path| path.split_once('/')).map(|(top, _)| top).collect();
        crates.sort_unstable();
        crates.dedup();
        crates
    }

    /// Whether the tests of its crates alone are expected to notice it: it is in what has no network and no client.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        self.crates().iter().all(|name| ["core", "engines"].contains(name))
    }

    /// Whether it was written before any of its kind was run.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.name.starts_with("blind-")
    }
}

/// All planted bugs of a directory, by name.
///
/// # Errors
/// A file that cannot be read, or whose prose is incomplete.
pub fn all(directory: &Path) -> Result<Vec<Mutant>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
    let mut mutants = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        mutants.push(Mutant::parse(&name, &text)?);
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    match mutants.is_empty() {
        true => Err(format!("there are no planted bugs in {}", directory.display())),
        false => Ok(mutants),
    }
}

/// Whether `name` fits `glob`, in which `*` stands for any text.
#[must_use]
pub fn fits(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "It lies.\nreal: Riak KV riak_kv#679\ndiffers: always\n\ndiff --git a/core/src/a.rs \
                         b/core/src/a.rs\n--- a/core/src/a.rs\n+++ b/core/src/a.rs\n@@ -1 +1 @@\n-a\n+b\n";

    #[test]
    fn the_prose_of_a_patch_is_read() {
        let mutant = Mutant::parse("blind-lie", PATCH).expect("it has all lines");
        assert_eq!(
            (mutant.story.as_str(), mutant.real.as_str()),
            ("It lies.", "Riak KV riak_kv#679")
        );
        assert_eq!((mutant.differs.as_str(), mutant.crates()), ("always", vec!["core"]));
        assert!(mutant.is_blind());
        assert_eq!(mutant.driver, Driver::Sim);
        let wire = PATCH.replace("always\n", "always\ndriver: wire\n");
        assert_eq!(Mutant::parse("lie", &wire).map(|mutant| mutant.driver), Ok(Driver::Wire));
        assert!(Mutant::parse("lie", &wire.replace("wire", "wires")).is_err());
    }

    #[test]
    fn prose_that_is_missing_is_named() {
        for line in ["real: Riak KV riak_kv#679", "differs: always"] {
            let text = PATCH.replace(line, "");
            let field = line.split_once(' ').map_or("", |(field, _)| field);
            let error = Mutant::parse("lie", &text).expect_err("a line is missing");
            assert!(error.contains(field) && error.contains("lie.patch"), "{error}");
        }
        let error = Mutant::parse("lie", "a\nreal: b\ndiffers: c\n").expect_err("no diff");
        assert_eq!(error, "lie.patch changes no file");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (glob, name, yes) in [
            ("*", "anything", true),
            ("blind-*", "blind-lie", true),
            ("blind-*", "a-blind-lie", false),
            ("*sync*", "own-ack-by-any-sync", true),
            ("*sync*file", "sync-skips-rotated-file", true),
            ("lie", "lies", false),
        ] {
            assert_eq!(fits(glob, name), yes, "{glob} {name}");
        }
    }

    #[test]
    fn the_planted_bugs_of_this_repository_can_be_read_and_hold_the_handful() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        let all = all(&directory).expect("they have their prose");
        assert!(all.iter().filter(|mutant| mutant.is_blind()).count() >= 10);
        for name in HANDFUL {
            assert!(all.iter().any(|mutant| mutant.name == name), "{name}");
        }
        assert!(super::all(&directory.join("none")).is_err());
    }
}
