//! Recorded histories of other stores are judged as they are known to be, through the command, as a user would.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn histories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

fn check(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo-sim"));
    command.arg("check").args(arguments).arg(file).output().expect("the command runs")
}

#[test]
fn every_recorded_history_is_judged_as_it_is_known_to_be() {
    let text = fs::read_to_string(histories().join("expected.json")).expect("it is there");
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).expect("it is JSON");
    assert!(expected.len() > 40, "{} histories", expected.len());
    for (name, expected) in expected {
        let is_kv = name.starts_with("kv/");
        let format = if is_kv { "kv-edn" } else { "jepsen-log" };
        let output = check(&["--format", format], &histories().join(&name));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = if expected["linearizable"] == true { 0 } else { 10 };
        assert_eq!(output.status.code(), Some(code), "{name}: {told}");
        let operations = told.lines().count() - 1;
        assert_eq!(operations > 0, code == 10, "{name}: evidence is told with every no: {told}");
    }
}

/// Checks a text; the exit code, and what was said.
fn check_text(arguments: &[&str], text: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), text).expect("it can be written");
    let output = check(arguments, file.path());
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).replace(&file.path().display().to_string(), "FILE");
    (output.status.code(), said)
}

const STALE: &str = "\
[{:process 0 :type :invoke :f :write :value 1} {:process 0 :type :ok :f :write :value 1}
 {:process 1 :type :invoke :f :read :value nil} {:process 1 :type :ok :f :read :value 0}]";

#[test]
fn a_violation_is_told_with_the_operations_that_contradict_each_other() {
    let (code, said) = check_text(&["--format", "jepsen-edn", "--initial", "0"], STALE);
    assert_eq!(code, Some(10));
    assert_eq!(
        said,
        "FILE: not linearizable, 2 operations; register: the beginning ended before op 0 was called, so \
         what the beginning wrote or saw comes first; but op 0 ended before op 1 was called, so it comes \
         last\n  op 0 (line 1, process 0) wrote \"1\"\n  op 1 (line 2, process 1) read \"0\"\n"
    );
    let concurrent =
        STALE.replace("] ", "]").replacen("{:process 1 :type :invoke :f :read :value nil}", "", 1);
    let concurrent =
        concurrent.replacen('[', "[{:process 1 :type :invoke :f :read :value nil} ", 1);
    let (code, _) = check_text(&["--format", "jepsen-edn", "--initial", "0"], &concurrent);
    assert_eq!(code, Some(0));
}

#[test]
fn bad_input_is_an_error_that_says_what_to_do() {
    let cases: [(&[&str], &str, &str); 4] = [
        (
            &["--format", "jepsen-edn"],
            "[{:process 0",
            "rondo-sim: FILE: line 1: the text ends where a value is expected\n",
        ),
        (
            &["--format", "jepsen-log"],
            STALE,
            "rondo-sim: FILE has no operations in it: is --format right?\n",
        ),
        (
            &["--format", "jepsen-edn", "--initial", "["],
            STALE,
            "rondo-sim: FILE: line 0: the initial value \"[\" is no EDN: the text ends where a value is \
             expected\n",
        ),
        (
            &["--format", "kv-edn", "--model", "register"],
            "{:process 0 :type :invoke :f :append :key 1 :value \"\"}",
            "rondo-sim: FILE has operations that a register does not: choose --model cas-register or kv\n",
        ),
    ];
    for (arguments, text, expect) in cases {
        assert_eq!(check_text(arguments, text), (Some(2), expect.to_owned()));
    }
    let unknown =
        "[{:process 0 :type :invoke :f :write :value 1} {:process 0 :type :info :f :write :value 1}
 {:process 1 :type :invoke :f :write :value 2} {:process 1 :type :fail :f :write :value 2}]";
    let (code, said) = check_text(&["--format", "jepsen-edn"], unknown);
    assert_eq!(code, Some(2), "a history that no store could violate is no pass: {said}");
    assert!(said.contains("no operation that ended well"), "{said}");
    let output = check(&["--format", "kv-edn"], Path::new("no such file"));
    assert_eq!(output.status.code(), Some(2));
}
