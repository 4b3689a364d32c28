//! Scripts: text files in which commands and what came of them stand interleaved.
//!
//! A line that begins with `#` is a comment, the first of them says what the script shows; one that begins with `> ` is a
//! command; the lines below a command are all that it printed. A script passes when each command prints just that. With
//! `INSTA_UPDATE=always` the files are written anew, for a person to read the difference.
//!
//! Two commands belong to every script and print nothing: `expect TEXT` and `never TEXT` look for a text in what the command
//! before them printed. They hold when files are written anew too: what a script is about cannot be lost by that.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What commands are given to.
pub(crate) trait Scene {
    /// Does what a command says and answers what came of it. `Err`: the script is wrong.
    fn run(&mut self, command: &str) -> Result<String, String>;
    /// What must be true at the end of every script.
    fn end(&mut self) -> Result<(), String>;
}

/// The scripts of a folder, in order.
#[expect(clippy::disallowed_methods, reason = "scripts are files")]
pub(crate) fn scripts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    paths.sort();
    paths
}

/// Runs all scripts of a folder, each on a scene of its own, and says which of them do not hold.
#[expect(clippy::disallowed_methods, reason = "scripts are files")]
pub(crate) fn check<S: Scene>(folder: &Path, scene: impl Fn() -> S) {
    let is_update = std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always");
    let paths = scripts(folder);
    assert!(!paths.is_empty(), "there are no scripts in {folder:?}");
    let mut report = String::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("it was listed");
        let mut faults = Vec::new();
        let now = catch_unwind(AssertUnwindSafe(|| play(&text, &mut scene(), &mut faults)));
        let now = now.unwrap_or_else(|_| {
            faults.push("the machine panicked: see above".to_owned());
            text.clone()
        });
        if now != text && is_update {
            fs::write(&path, &now).expect("a script can be written");
        } else if now != text {
            faults.push(difference(&text, &now));
        }
        for fault in faults {
            writeln!(report, "{}: {fault}", path.display()).expect("a string takes all");
        }
    }
    assert!(report.is_empty(), "\n{report}\nwith INSTA_UPDATE=always scripts are written anew");
}

/// The text of a script as it should be, by what its commands print now; what is wrong with it goes to `faults`.
fn play(text: &str, scene: &mut impl Scene, faults: &mut Vec<String>) -> String {
    let (mut now, mut printed, mut checks) = (String::new(), String::new(), 0);
    if !text.starts_with("# ") {
        faults.push("begin with a comment that says what it shows".to_owned());
    }
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        if line.is_empty() || line.starts_with('#') {
            writeln!(now, "{line}").expect("a string takes all");
            continue;
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        writeln!(now, "{line}").expect("a string takes all");
        match command.split_once(' ') {
            Some((check @ ("expect" | "never"), wanted)) => {
                checks += 1;
                if printed.contains(wanted) != (check == "expect") {
                    faults
                        .push(format!("line {at}: {check} {wanted:?}, but it printed\n{printed}"));
                }
            }
            _ => match scene.run(command) {
                Ok(output) => printed = output,
                Err(error) => {
                    faults.push(format!("line {at}: {command}: {error}"));
                    printed = format!("error: {error}\n");
                }
            },
        }
        if !command.starts_with("expect ") && !command.starts_with("never ") {
            now += &printed;
        }
    }
    if checks == 0 {
        faults.push("it checks nothing: say with `expect` or `never` what it is about".to_owned());
    }
    faults.extend(scene.end().err());
    now
}

/// Where two texts differ, with the lines around.
fn difference(was: &str, is: &str) -> String {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let same = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
    let left = was.len().min(is.len()) - same;
    let tail = was.iter().rev().zip(is.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    let mut told = format!("it prints something else from line {} on\n", same + 1);
    let before = &was[same.saturating_sub(3)..same];
    let lines = before.iter().map(|line| (' ', line));
    let lines = lines.chain(was[same..was.len() - tail].iter().map(|line| ('-', line)));
    let lines = lines.chain(is[same..is.len() - tail].iter().map(|line| ('+', line)));
    for (sign, line) in lines {
        writeln!(told, "{sign} {line}").expect("a string takes all");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Scene for Echo {
        fn run(&mut self, command: &str) -> Result<String, String> {
            match command {
                "unknown" => Err("no such command".to_owned()),
                command => Ok(format!("{command}!\n")),
            }
        }
        fn end(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    fn played(text: &str) -> (String, Vec<String>) {
        let mut faults = Vec::new();
        (play(text, &mut Echo, &mut faults), faults)
    }

    #[test]
    fn what_commands_print_stands_below_them() {
        let (now, faults) = played("# A.\n> a\nold\n\n# B.\n> b\n> expect b!\n> never a\n");
        assert_eq!(now, "# A.\n> a\na!\n\n# B.\n> b\nb!\n> expect b!\n> never a\n");
        assert_eq!(faults, [""; 0]);
        assert_eq!(played(&now).0, now, "twice is once");
    }

    #[test]
    fn what_a_script_is_about_is_checked_whatever_it_prints() {
        for text in [
            "# A.\n> a\n> expect b\n",
            "# A.\n> a\n> never a!\n",
            "# A.\n> a\n",
            "> a\n> expect a\n",
        ] {
            assert_eq!(played(text).1.len(), 1, "{text}");
        }
        assert_eq!(played("# A.\n> unknown\n> expect error: no such\n").1.len(), 1);
    }

    #[test]
    fn a_difference_is_told_with_the_lines_before_it() {
        let told = difference("a\nb\nc\nd\ne\n", "a\nb\nc\nX\nY\ne\n");
        assert_eq!(told, "it prints something else from line 4 on\n  a\n  b\n  c\n- d\n+ X\n+ Y\n");
    }
}
