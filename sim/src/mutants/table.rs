//! The table of planted bugs in the documentation: the hard ones, also those that survive and those nobody has run. What dies
//! within `EASY_SEEDS` seeds is named above it: such a bug shows that the simulator works, and not how far it sees.

use super::results::RATE_SEEDS;
use super::{Mutant, Outcome, Results, Row};

const BEGIN: &str = "<!-- planted bugs: rondo-sim mutants --table writes what follows -->";
const END: &str = "<!-- planted bugs: end -->";

/// A planted bug that fails one of the first so many seeds is easy.
const EASY_SEEDS: u64 = 5;

/// The summary, the names of the easy ones, and a row for each other planted bug. `tests` is what the tests alone said;
/// `is_current` says whether a row of `results` still speaks of the code as it is.
#[must_use]
pub fn render(
    mutants: &[Mutant],
    results: &Results,
    tests: &Results,
    is_current: impl Fn(&Mutant, &Row) -> bool,
) -> String {
    let rows: Vec<(&Mutant, Option<&Row>)> =
        mutants.iter().map(|mutant| (mutant, results.get(&mutant.name))).collect();
    let blind: Vec<_> = rows.iter().copied().filter(|(mutant, _)| mutant.is_blind()).collect();
    let mut text = format!("{} planted bugs. {}", rows.len(), summary(&rows));
    if !blind.is_empty() {
        text += &format!("\n\nOf them, blind: {}. {}", blind.len(), summary(&blind));
    }
    text += &noticed(mutants, tests);
    let is_old = |&&(mutant, row): &&(&Mutant, Option<&Row>)| {
        row.is_some_and(|row| !is_current(mutant, row))
    };
    match rows.iter().filter(is_old).count() {
        0 => {}
        old => text += &format!("\n\n{old} rows are of an earlier state of the crate they change."),
    }
    let is_easy =
        |row: Option<&Row>| row.and_then(|row| row.first).is_some_and(|first| first <= EASY_SEEDS);
    let easy = rows.iter().filter(|(_, row)| is_easy(*row));
    let easy: Vec<String> = easy.map(|(mutant, _)| format!("`{}`", mutant.name)).collect();
    if !easy.is_empty() {
        text += &format!("\n\n{} die within {EASY_SEEDS} seeds: {}.", easy.len(), easy.join(", "));
    }
    text += "\n\n| planted bug | outcome | oracle | seeds to the first failure | seeds that fail | shrunk to | `cargo test` |\n";
    text += "|---|---|---|---|---|---|---|\n";
    for (mutant, row) in rows.into_iter().filter(|(_, row)| !is_easy(*row)) {
        text += &line(mutant, row, tests.get(&mutant.name));
    }
    text
}

/// How many the tests alone notice, by crate.
fn noticed(mutants: &[Mutant], tests: &Results) -> String {
    let mut text = String::new();
    for name in ["core", "engines"] {
        let of = mutants.iter().filter(|mutant| mutant.crates() == [name]);
        let rows: Vec<&Row> = of.filter_map(|mutant| tests.get(&mutant.name)).collect();
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        let (caught, survived) = (count(Outcome::Caught), count(Outcome::Survived));
        let run = caught + survived;
        if run > 0 {
            let percent = percent(caught, run);
            text += &format!(
                "\n\n`cargo test -p {name}` alone notices {caught} of {run} in `{name}` ({percent} %)."
            );
        }
    }
    text
}

fn summary(rows: &[(&Mutant, Option<&Row>)]) -> String {
    let known = || rows.iter().filter_map(|(_, row)| *row);
    let count = |is: &dyn Fn(&Row) -> bool| known().filter(|row| is(row)).count();
    let caught = count(&|row| row.outcome == Outcome::Caught);
    let survived = count(&|row| row.outcome == Outcome::Survived);
    let unfit = count(&|row| row.seeds == 0 && row.first.is_none());
    let soon = count(&|row| row.first.is_some_and(|first| first <= RATE_SEEDS));
    let run = caught + survived;
    let mut text = format!("{run} were run: {caught} caught ({} %)", percent(caught, run));
    text += &format!(", {soon} of them within {RATE_SEEDS} seeds ({} %)", percent(soon, run));
    if let Some(median) = median(known().filter_map(|row| row.first)) {
        text += &format!(", the middle one after {median} seeds");
    }
    text += &format!("; {survived} survived.");
    let shrunk = || known().filter_map(|row| row.shrunk);
    if let (Some(faults), Some(operations), Some(ms)) = (
        median(shrunk().map(|it| it.faults)),
        median(shrunk().map(|it| it.operations)),
        median(shrunk().map(|it| it.ms)),
    ) {
        let (of, seconds) = (shrunk().count(), ms as f64 / 1e3);
        text += &format!(
            " The first failures of {of} were shrunk, in the median to {faults} faults and {operations} operations in \
             {seconds:.1} s."
        );
    }
    if unfit > 0 {
        text += &format!(" {unfit} do not fit the code any more.");
    }
    let not_yet = rows.len() - known().count();
    if not_yet > 0 {
        text += &format!(" {not_yet} have not been run yet.");
    }
    text
}

fn median(numbers: impl Iterator<Item = u64>) -> Option<u64> {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

fn percent(part: usize, whole: usize) -> usize {
    (part * 100 + whole / 2).checked_div(whole).unwrap_or(0)
}

fn line(mutant: &Mutant, row: Option<&Row>, test: Option<&Row>) -> String {
    let test = test.map_or("", |row| match row.outcome {
        Outcome::Caught => "notices",
        Outcome::Survived => "does not",
        Outcome::DoesNotApply | Outcome::DoesNotBuild => "",
    });
    let Some(row) = row else {
        return format!("| `{}` | not run yet | | | | | {test} |\n", mutant.name);
    };
    let oracle = row.oracle.as_deref().unwrap_or_default();
    let first = row.first.map(|first| first.to_string()).unwrap_or_default();
    let fails = match (row.outcome, row.seeds) {
        (_, 0) => String::new(),
        (Outcome::Survived, seeds) => format!("0 of {seeds}"),
        (_, seeds) => format!("{} of {}", row.failed, seeds.min(RATE_SEEDS)),
    };
    let outcome = row.outcome.words();
    let shrunk = row.shrunk.map(|it| format!("{} + {}", it.faults, it.operations));
    let shrunk = shrunk.unwrap_or_default();
    format!(
        "| `{}` | {outcome} | {oracle} | {first} | {fails} | {shrunk} | {test} |\n",
        mutant.name
    )
}

/// `document` with `table` between its marks.
///
/// # Errors
/// The marks are missing.
pub fn insert(document: &str, table: &str) -> Result<String, String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        rest.split_once(END).map(|(_, after)| format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
    });
    parts.ok_or_else(|| format!("put {BEGIN:?} and {END:?} where the table shall stand"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::Shrunk;

    fn mutant(name: &str) -> Mutant {
        let text = "a\nreal: b\ndiffers: c\n\ndiff --git a/core/a b/core/a\n+++ b/core/a\n";
        Mutant::parse(name, text).expect("it has its prose")
    }

    #[test]
    fn the_table_tells_what_was_caught_what_survived_and_what_was_not_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut results = Results::load(&directory.path().join("r.json")).expect("empty");
        let row = Row::new("k".to_owned(), Outcome::Survived);
        let caught = |first, failed| Row {
            outcome: Outcome::Caught,
            oracle: Some("coverage".to_owned()),
            first: Some(first),
            seeds: first.max(200),
            failed,
            shrunk: Some(Shrunk { faults: 2, operations: first, ms: 1_500 }),
            ..row.clone()
        };
        let gone = Row { outcome: Outcome::DoesNotApply, key: "old".to_owned(), ..row.clone() };
        for (name, row) in [
            ("blind-a", caught(3, 40)),
            ("b", caught(700, 0)),
            ("c", Row { seeds: 5_000, ..row.clone() }),
            ("d", gone),
        ] {
            results.keep(name, row, |_| true).expect("written");
        }
        let mutants = ["b", "blind-a", "c", "d", "e"].map(mutant);
        let mut tests = Results::load(&directory.path().join("t.json")).expect("empty");
        for (name, outcome) in [("b", Outcome::Caught), ("c", Outcome::Survived)] {
            tests.keep(name, Row::new("k".to_owned(), outcome), |_| true).expect("written");
        }
        let table = render(&mutants, &results, &tests, |_, row| row.key == "k");
        insta::assert_snapshot!(table, @r"
        5 planted bugs. 3 were run: 2 caught (67 %), 1 of them within 200 seeds (33 %), the middle one after 700 seeds; 1 survived. The first failures of 2 were shrunk, in the median to 2 faults and 700 operations in 1.5 s. 1 do not fit the code any more. 1 have not been run yet.

        Of them, blind: 1. 1 were run: 1 caught (100 %), 1 of them within 200 seeds (100 %), the middle one after 3 seeds; 0 survived. The first failures of 1 were shrunk, in the median to 2 faults and 3 operations in 1.5 s.

        `cargo test -p core` alone notices 1 of 2 in `core` (50 %).

        1 rows are of an earlier state of the crate they change.

        1 die within 5 seeds: `blind-a`.

        | planted bug | outcome | oracle | seeds to the first failure | seeds that fail | shrunk to | `cargo test` |
        |---|---|---|---|---|---|---|
        | `b` | caught | coverage | 700 | 0 of 200 | 2 + 700 | notices |
        | `c` | survived |  |  | 0 of 5000 |  | does not |
        | `d` | does not apply |  |  |  |  |  |
        | `e` | not run yet | | | | |  |
        ");
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_marks() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = insert(&document, "new\n").expect("the marks are there");
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(insert(&new, "new\n"), Ok(new.clone()), "twice is once");
        assert!(insert("no marks", "new").is_err());
    }
}
