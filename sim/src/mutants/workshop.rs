//! Where planted bugs are built and run: a copy of the last commit, a build of its own, seeds of its own.
//!
//! The copy is a clone that is checked out again for each bug. Git writes only the files that differ, and gives those the
//! present as their time of change: so little is built anew, and what the bug before had changed is. (An archive that
//! is unpacked again gives them their old times, and the build then keeps the bug before.)
//!
//! Seeds begin where nobody looks while a fault or an oracle is made. They are run in one process until the row tells
//! enough, or the time is up; a process that dies without a word has been caught at the seed it was at.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::results::key;
use super::{Mutant, Outcome, Row, Shrunk};

/// The first seed: far from those that are run by hand.
const FIRST_SEED: u64 = 1_000_000;

/// A quick build: what the release profile gains in speed costs more than these runs would save.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_INCREMENTAL", "1"),
];

/// How long a scenario is shrunk at most.
const SHRINK_TIME: &str = "15s";

/// How long a planted bug is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most seeds.
    pub seeds_max: u64,
    /// The most time, its build included. Half of it is for seeds, however long the build took.
    pub budget: Duration,
}

/// The copy and its build.
#[derive(Debug)]
pub struct Workshop {
    root: PathBuf,
    copy: PathBuf,
    target: PathBuf,
    commit: String,
}

impl Workshop {
    /// A workshop for the last commit of the repository at `root`, in its build directory.
    ///
    /// # Errors
    /// Git's.
    pub fn new(root: &Path) -> Result<Workshop, String> {
        let commit = git(root, &["rev-parse", "HEAD"])?;
        let base = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let base = if base.is_absolute() { base } else { root.join(base) }.join("mutants");
        Ok(Workshop {
            root: root.to_owned(),
            copy: base.join("copy"),
            target: base.join("build"),
            commit,
        })
    }

    /// The key of a bug's row: see `Results`.
    ///
    /// # Errors
    /// Git's.
    pub fn key(&self, mutant: &Mutant) -> Result<String, String> {
        self.key_of(mutant, &["src"])
    }

    /// The key of a bug's row among those of `test`: with the tests of its crates.
    ///
    /// # Errors
    /// Git's.
    pub fn key_of_tests(&self, mutant: &Mutant) -> Result<String, String> {
        self.key_of(mutant, &["src", "tests"])
    }

    fn key_of(&self, mutant: &Mutant, folders: &[&str]) -> Result<String, String> {
        let crates = mutant.crates();
        let paths = crates.iter().flat_map(|name| folders.iter().map(move |of| (name, of)));
        let trees: Result<Vec<String>, String> = paths
            .map(|(name, of)| git(&self.root, &["rev-parse", &format!("HEAD:{name}/{of}")]))
            .collect();
        Ok(key(&mutant.text, trees?.iter().map(String::as_str)))
    }

    /// Whether a patch fits the files as they are at the root, committed or not.
    #[must_use]
    pub fn applies(&self, mutant: &Mutant) -> bool {
        let patch = self.patch(mutant);
        git(&self.root, &["apply", "--check", "--recount", "-C1", &patch]).is_ok()
    }

    /// Builds a planted bug and runs seeds on it.
    ///
    /// # Errors
    /// Git's, and what keeps a process from being started. That a bug does not fit or build is a row.
    pub fn examine(&self, mutant: &Mutant, limits: Limits) -> Result<Row, String> {
        let started = Instant::now();
        let key = self.key(mutant)?;
        self.refresh()?;
        if git(&self.copy, &["apply", "--recount", "-C1", &self.patch(mutant)]).is_err() {
            return Ok(Row::new(key, Outcome::DoesNotApply));
        }
        if !self.build()? {
            return Ok(Row::new(key, Outcome::DoesNotBuild));
        }
        let left = limits.budget.saturating_sub(started.elapsed()).max(limits.budget / 2);
        let seeds = format!("{FIRST_SEED}..{}", FIRST_SEED + limits.seeds_max.max(1));
        let mut command = Command::new(self.target.join("release/rondo-sim"));
        let driver = mutant.driver.name();
        command.args(["run", "--json", "--driver", driver, "--seeds", &seeds]);
        command.current_dir(&self.copy);
        let mut run = Run::start(&mut command)?;
        let mut row = run.watch(Row::new(key, Outcome::Survived), limits.seeds_max, left);
        run.end();
        row.shrunk = row.first.and_then(|first| self.shrink(mutant, FIRST_SEED + first - 1));
        Ok(row)
    }

    /// Runs the tests of the crates that a planted bug is in, and nothing else, until one fails. The row names that one in the place of
    /// an oracle.
    ///
    /// # Errors
    /// As `examine`.
    pub fn test(&self, mutant: &Mutant, time: Duration) -> Result<Row, String> {
        let key = self.key_of_tests(mutant)?;
        self.refresh()?;
        if git(&self.copy, &["apply", "--recount", "-C1", &self.patch(mutant)]).is_err() {
            return Ok(Row::new(key, Outcome::DoesNotApply));
        }
        let mut build = self.cargo_test(mutant, time);
        let built = build.arg("--no-run").stdout(Stdio::null()).status();
        if !built.map_err(|error| format!("cargo cannot be started: {error}"))?.success() {
            return Ok(Row::new(key, Outcome::DoesNotBuild));
        }
        let output = self.cargo_test(mutant, time).output();
        let output = output.map_err(|error| format!("cargo cannot be started: {error}"))?;
        let mut row = Row::new(key, Outcome::Survived);
        if !output.status.success() {
            row.outcome = Outcome::Caught;
            row.oracle = Some(first_failed(&String::from_utf8_lossy(&output.stdout)));
        }
        Ok(row)
    }

    /// `timeout` ends the tests too, which may hang, and not only the one that started them.
    fn cargo_test(&self, mutant: &Mutant, time: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.arg(time.as_secs().max(1).to_string()).args(["cargo", "test"]);
        for name in mutant.crates() {
            command.args(["-p", name]);
        }
        command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target);
        command.env("CARGO_PROFILE_TEST_DEBUG", "false").env("CARGO_INCREMENTAL", "1");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Shrinks a seed on which the bug that was built last shows; `None` when that fails, as when the process dies.
    fn shrink(&self, mutant: &Mutant, seed: u64) -> Option<Shrunk> {
        let mut command = Command::new(self.target.join("release/rondo-sim"));
        let driver = mutant.driver.name();
        command.args(["shrink", "--json", "--driver", driver, "--time", SHRINK_TIME]);
        command.arg(seed.to_string());
        let output = command.current_dir(&self.copy).stdin(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn patch(&self, mutant: &Mutant) -> String {
        let path = self.root.join("sim/mutants").join(format!("{}.patch", mutant.name));
        path.to_string_lossy().into_owned()
    }

    /// The copy is the last commit again.
    fn refresh(&self) -> Result<(), String> {
        if !self.copy.join(".git").exists() {
            let (from, to) = (self.root.to_string_lossy(), self.copy.to_string_lossy());
            git(&self.root, &["clone", "--quiet", "--shared", "--no-checkout", &from, &to])?;
        }
        git(&self.copy, &["checkout", "--quiet", "--force", "--detach", &self.commit])?;
        git(&self.copy, &["clean", "--quiet", "--force", "-d"]).map(drop)
    }

    fn build(&self) -> Result<bool, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--quiet", "-p", "sim"]).current_dir(&self.copy);
        cargo.env("CARGO_TARGET_DIR", &self.target).envs(PROFILE);
        cargo.stdin(Stdio::null()).stderr(Stdio::null());
        let status = cargo.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
        match status.code() {
            Some(code) => Ok(code == 0),
            None => Err("the build was interrupted".to_owned()),
        }
    }
}

/// The first failed test that the output of `cargo test` names. Scripts are many to a test: the first of them says more.
fn first_failed(output: &str) -> String {
    let script = |line: &str| {
        let (path, _) = line.split_once("/tests/scripts/")?.1.split_once(".txt: ")?;
        Some(path.to_owned())
    };
    let test =
        |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let first = output.lines().find_map(script).or_else(|| output.lines().find_map(test));
    first.unwrap_or_else(|| "the tests did not end".to_owned())
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {}", arguments.join(" "), error.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A process that runs seeds, and the lines it prints.
struct Run {
    child: Child,
    lines: Receiver<String>,
}

impl Run {
    fn start(command: &mut Command) -> Result<Run, String> {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            piped.spawn().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                lines.map_while(|line| sender.send(line).ok()).for_each(drop);
            });
        }
        Ok(Run { child, lines })
    }

    /// Counts what it prints until that is enough, it ends, or time is up.
    fn watch(&mut self, mut row: Row, seeds_max: u64, time: Duration) -> Row {
        let until = Instant::now() + time;
        while !row.is_enough(seeds_max) {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match told(&line) {
                    Told::Seed(fired) => row.count(fired.as_deref()),
                    Told::Other => {}
                },
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    row.count(Some("the process died"));
                    break;
                }
            }
        }
        row
    }

    /// Whatever it is still doing is of no use.
    fn end(mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a line says.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    /// A seed was run; the oracle that fired, if one did.
    Seed(Option<String>),
    /// Something else.
    Other,
}

fn told(line: &str) -> Told {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    if value.get("seed").is_none() {
        return Told::Other;
    }
    let fired = match value.get("verdict").and_then(Value::as_str) {
        // A check that gave up has found nothing.
        Some("pass" | "undecided") => None,
        _ => Some(value.get("oracle").and_then(Value::as_str).unwrap_or("none").to_owned()),
    };
    Told::Seed(fired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_whether_a_seed_failed_and_why() {
        let seed = |oracle: Option<&str>| Told::Seed(oracle.map(str::to_owned));
        assert_eq!(told(r#"{"seed":1,"verdict":"pass","oracle":null}"#), seed(None));
        assert_eq!(told(r#"{"seed":1,"verdict":"undecided","oracle":"x"}"#), seed(None));
        let failed = r#"{"seed":1,"verdict":"safety","oracle":"coverage"}"#;
        assert_eq!(told(failed), seed(Some("coverage")));
        assert_eq!(told(r#"{"seeds":200,"failed":3}"#), Told::Other);
        assert_eq!(told("what is this"), Told::Other);
    }

    #[test]
    fn the_first_failed_script_or_test_is_named() {
        let output = "test a ... ok\ntest b::c ... FAILED\ntest d ... FAILED\n";
        assert_eq!(first_failed(output), "b::c");
        let output =
            format!("{output}\n/r/core/tests/scripts/fence/a-read.txt: line 3: expect x\n");
        assert_eq!(first_failed(&output), "fence/a-read");
        assert_eq!(first_failed("test a ... ok\n"), "the tests did not end");
    }

    /// What is seen of a script that stands for the simulator.
    fn watched(script: &str, time: Duration) -> Row {
        let mut run = Run::start(Command::new("sh").args(["-c", script])).expect("sh is there");
        let row = run.watch(Row::new(String::new(), Outcome::Survived), 10, time);
        run.end();
        row
    }

    const PASS: &str = r#"echo '{"seed":1,"verdict":"pass"}'"#;

    #[test]
    fn a_process_that_dies_is_caught_at_the_seed_it_was_at() {
        let row = watched(&format!("{PASS}\nexit 134\n"), Duration::from_secs(60));
        assert_eq!((row.outcome, row.first), (Outcome::Caught, Some(2)));
        assert_eq!(row.oracle.as_deref(), Some("the process died"));
    }

    #[test]
    fn a_process_that_hangs_is_left_when_time_is_up() {
        let row = watched(&format!("{PASS}\nexec sleep 600\n"), Duration::from_millis(300));
        assert_eq!((row.outcome, row.seeds), (Outcome::Survived, 1));
    }
}
