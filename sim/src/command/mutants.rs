//! `mutants`: builds each planted bug and looks how soon it is caught; writes the table of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rondo_sim::mutants::{self, HANDFUL, Limits, Mutant, Outcome, Results, Row, Workshop};

use super::duration;

/// How long the tests of a planted bug may take: much longer than they do, for one that hangs.
const TEST_TIME: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those whose name fits; `*` stands for any text.
    #[arg(long, default_value = "*")]
    only: String,
    /// The most seeds for each.
    #[arg(long, default_value_t = 5_000)]
    seeds_max: u64,
    /// The most time for each, its build included: `90s` or `10m`.
    #[arg(long, default_value = "90s", value_parser = duration)]
    budget: Duration,
    /// Run five of them, keep nothing, and end with 1 unless all are caught.
    #[arg(long, conflicts_with = "only")]
    handful: bool,
    /// Only look whether every patch has its prose and fits the code; end with 1 when one does not.
    #[arg(long, conflicts_with_all = ["table", "handful"])]
    check: bool,
    /// Run no seeds: look whether the tests of `core` and `engines` notice the bugs that are in these.
    #[arg(long, conflicts_with_all = ["table", "handful", "check"])]
    tests: bool,
    /// Run nothing: write the table of what is known into docs/internals/simulation.md.
    #[arg(long, conflicts_with = "handful")]
    table: bool,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let root = root()?;
        let workshop = Workshop::new(&root)?;
        let all = mutants::all(&root.join("sim/mutants"))?;
        if self.check {
            return Ok(check(&workshop, &all));
        }
        let mut results = Results::load(&root.join("sim/mutants/results.json"))?;
        if self.table {
            return write_table(&root, &workshop, &all, &results).map(|()| 0);
        }
        if self.tests {
            return self.tests(&root, &workshop, &all).map(|()| 0);
        }
        if self.handful {
            return self.handful(&workshop, &all);
        }
        for mutant in all.iter().filter(|mutant| mutants::fits(&self.only, &mutant.name)) {
            if is_current(&workshop, mutant, results.get(&mutant.name)) {
                continue;
            }
            let row = workshop.examine(mutant, self.limits())?;
            tell(mutant, &row);
            results.keep(&mutant.name, row, |name| all.iter().any(|one| one.name == name))?;
        }
        Ok(0)
    }

    fn handful(&self, workshop: &Workshop, all: &[Mutant]) -> Result<u8, String> {
        let mut code = 0;
        for mutant in all.iter().filter(|mutant| HANDFUL.contains(&mutant.name.as_str())) {
            let row = workshop.examine(mutant, self.limits())?;
            tell(mutant, &row);
            if row.outcome != Outcome::Caught {
                code = 1;
            }
        }
        Ok(code)
    }

    /// Rows are kept beside the others, in a file of their own.
    fn tests(&self, root: &Path, workshop: &Workshop, all: &[Mutant]) -> Result<(), String> {
        let mut results = Results::load(&tests_file(root))?;
        let wanted = all.iter().filter(|mutant| mutants::fits(&self.only, &mutant.name));
        for mutant in wanted.filter(|mutant| mutant.is_tested()) {
            let key = workshop.key_of_tests(mutant)?;
            if results.get(&mutant.name).is_some_and(|row| row.key == key) {
                continue;
            }
            let row = workshop.test(mutant, TEST_TIME)?;
            let by = row.oracle.as_deref().unwrap_or_default();
            println!("{}: {} {by}", mutant.name, row.outcome.words());
            let is_known = |name: &str| all.iter().any(|one| one.name == name);
            results.keep(&mutant.name, row, is_known)?;
        }
        Ok(())
    }

    const fn limits(&self) -> Limits {
        Limits { seeds_max: self.seeds_max, budget: self.budget }
    }
}

fn tests_file(root: &Path) -> PathBuf {
    root.join("sim/mutants/tests.json")
}

fn check(workshop: &Workshop, all: &[Mutant]) -> u8 {
    let unfit: Vec<&Mutant> = all.iter().filter(|mutant| !workshop.applies(mutant)).collect();
    for mutant in &unfit {
        println!("sim/mutants/{}.patch does not fit the code: make it anew", mutant.name);
    }
    println!("{} planted bugs, {} do not apply", all.len(), unfit.len());
    u8::from(!unfit.is_empty())
}

fn write_table(
    root: &Path,
    workshop: &Workshop,
    all: &[Mutant],
    results: &Results,
) -> Result<(), String> {
    let file = root.join("docs/internals/simulation.md");
    let failed = |what: &str, error| format!("{} cannot be {what}: {error}", file.display());
    let document = fs::read_to_string(&file).map_err(|error| failed("read", error))?;
    let current = |mutant: &Mutant, row: &Row| is_current(workshop, mutant, Some(row));
    let tests = Results::load(&tests_file(root))?;
    let table = mutants::render(all, results, &tests, current);
    let document = mutants::insert(&document, &table)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    fs::write(&file, document).map_err(|error| failed("written", error))
}

fn is_current(workshop: &Workshop, mutant: &Mutant, row: Option<&Row>) -> bool {
    row.is_some_and(|row| workshop.key(mutant).is_ok_and(|key| key == row.key))
}

fn tell(mutant: &Mutant, row: &Row) {
    let (name, outcome) = (&mutant.name, row.outcome.words());
    match (&row.oracle, row.first) {
        (Some(oracle), Some(first)) => {
            let seeds = row.seeds.min(mutants::RATE_SEEDS);
            println!(
                "{name}: {outcome} by {oracle} at seed {first}, {} of {seeds} fail",
                row.failed
            );
        }
        _ => println!("{name}: {outcome} ({} seeds)", row.seeds),
    }
}

/// The repository: planted bugs are about its last commit.
fn root() -> Result<PathBuf, String> {
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let root = here.ancestors().find(|directory| directory.join("sim/mutants").is_dir());
    root.map(Path::to_owned).ok_or("run it inside a clone of the repository".to_owned())
}
