//! Jepsen's operations as EDN, of a compare-and-set register:
//!
//! ```text
//! [{:process 0, :type :invoke, :f :cas, :value [3 1]}
//!  {:process 0, :type :ok, :f :cas, :value [3 1]}]
//! ```
//! Where every operation is called with a pair, as `:read [7 nil]`, `:write [7 3]` and `:cas [7 [3 1]]`, the first of it is a
//! key, as in `jepsen.independent`, and each key is a register of its own.
//!
//! `:fail` did not happen, `:info` is unknown, a read that answered `nil` tells nothing. What `:process` is no number
//! for, as `:nemesis`, is not the register's.

use crate::check::format::edn::{Form, Reader};
use crate::check::format::{Asked, Ended, Malformed, Recorded, Recorder, Result};

const KEY: &str = "register";

/// Reads operations; `initial` is EDN, too.
///
/// # Errors
/// When the text is no EDN or no history.
pub fn read(text: &str, initial: &str) -> Result<Recorded> {
    let initial = Reader::only(initial).map_err(|malformed| Malformed {
        line: 0,
        what: format!("the initial value {initial:?} is no EDN: {}", malformed.what),
    })?;
    let mut recorder = Recorder::new(&initial.spelt());
    let mut reader = Reader::new(text);
    let mut forms = Vec::new();
    while let Some((line, form)) = reader.map()? {
        if let Some(process) = process(line, &form)? {
            forms.push((line, process, form));
        }
    }
    let mut calls = forms.iter().filter(|(.., form)| is_call(form)).peekable();
    let has_keys = calls.peek().is_some() && calls.all(|(.., form)| has_key(form));
    for (line, process, form) in &forms {
        enter(&mut recorder, *line, *process, form, has_keys)?;
    }
    Ok(recorder.finish())
}

fn is_call(form: &Form) -> bool {
    matches!(form.get("type"), Some(Form::Keyword(kind)) if kind == "invoke")
}

/// Whether what an operation is called with is a key and something.
fn has_key(form: &Form) -> bool {
    let Some((_, value)) = form.get("value").and_then(pair) else {
        return false;
    };
    match form.get("f") {
        Some(Form::Keyword(name)) if name == "cas" => pair(value).is_some(),
        Some(Form::Keyword(name)) if name == "read" => *value == Form::Nil,
        _ => true,
    }
}

fn pair(form: &Form) -> Option<(&Form, &Form)> {
    match form {
        Form::Sequence(two) if two.len() == 2 => Some((&two[0], &two[1])),
        _ => None,
    }
}

/// The number of the process; `None` when it is none of the history's.
pub(super) fn process(line: usize, form: &Form) -> Result<Option<u64>> {
    match form.get("process") {
        Some(Form::Plain(text)) => text.parse().map(Some).map_err(|_| Malformed {
            line,
            what: format!("{text} is no process: processes are numbers from 0 on"),
        }),
        Some(Form::Keyword(_)) => Ok(None),
        _ => Err(Malformed { line, what: "an operation has no :process".to_owned() }),
    }
}

/// The keyword that an operation has under this name.
pub(super) fn keyword<'a>(line: usize, form: &'a Form, name: &str) -> Result<&'a str> {
    match form.get(name) {
        Some(Form::Keyword(keyword)) => Ok(keyword),
        _ => Err(Malformed { line, what: format!("an operation has no keyword as its :{name}") }),
    }
}

fn enter(
    recorder: &mut Recorder,
    line: usize,
    process: u64,
    form: &Form,
    has_keys: bool,
) -> Result<()> {
    let (kind, name) = (keyword(line, form, "type")?, keyword(line, form, "f")?);
    let whole = form.get("value").unwrap_or(&Form::Nil);
    let (key, value) = match pair(whole).filter(|_| has_keys) {
        Some((key, value)) => (key.spelt(), value),
        None => (KEY.to_owned(), whole),
    };
    if kind == "invoke" {
        let asked = asked(recorder, line, name, value)?;
        return recorder.call(line, process, &key, asked);
    }
    let open = recorder.pending(line, process)?;
    let is = match open.asked {
        Asked::Read => "read",
        Asked::Cas { .. } => "cas",
        Asked::Write(_) | Asked::Append(_) => "write",
    };
    if is != name {
        let what = format!("process {process} ends :{name}, but line {} began :{is}", open.line);
        return Err(Malformed { line, what });
    }
    let ended = match (kind, open.asked) {
        ("ok", Asked::Read) if *value == Form::Nil => Ended::Nothing,
        ("ok", Asked::Read) => Ended::Saw(recorder.value(&value.spelt())),
        ("ok", _) => Ended::Done,
        ("fail", _) => Ended::Nothing,
        ("info", _) => Ended::Unknown,
        _ => {
            let what = format!(":{kind} is unknown; :invoke, :ok, :fail and :info are known");
            return Err(Malformed { line, what });
        }
    };
    recorder.end(line, process, ended)
}

fn asked(recorder: &mut Recorder, line: usize, name: &str, value: &Form) -> Result<Asked> {
    match (name, value) {
        ("read", _) => Ok(Asked::Read),
        ("write", value) => Ok(Asked::Write(recorder.value(&value.spelt()))),
        ("cas", Form::Sequence(pair)) if pair.len() == 2 => {
            let [from, to] = [&pair[0], &pair[1]].map(|form| recorder.value(&form.spelt()));
            Ok(Asked::Cas { from, to })
        }
        ("cas", value) => {
            let what = format!("{} is not [from to], which :cas needs", value.spelt());
            Err(Malformed { line, what })
        }
        _ => {
            let what = format!(":{name} is unknown; :read, :write and :cas are known");
            Err(Malformed { line, what })
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{STATES_MAX, Verdict, registers};

    use super::*;

    /// Whether the history in which these follow each other is linearizable.
    fn is_linearizable(ops: &[&str], initial: &str) -> bool {
        let text = format!("[{}]", ops.join("\n "));
        let recorded = read(&text, initial).expect("well formed");
        match registers(&recorded.events, recorded.initial, STATES_MAX) {
            Verdict::Linearizable => true,
            Verdict::Not(_) => false,
            Verdict::Undecided(_) => unreachable!("small histories are decided"),
        }
    }

    const WRITE: [&str; 2] = [
        "{:process 0, :type :invoke, :f :write, :value 3}",
        "{:process 0, :type :ok, :f :write, :value 3}",
    ];
    const CAS: &str = "{:process 1, :type :invoke, :f :cas, :value [3 1]}";
    const READ: &str = "{:process 2, :type :invoke, :f :read, :value nil}";

    #[test]
    fn a_compare_and_set_that_was_done_was_possible() {
        let done = "{:process 1, :type :ok, :f :cas, :value [3 1]}";
        assert!(is_linearizable(&[WRITE[0], WRITE[1], CAS, done], "nil"));
        assert!(!is_linearizable(&[CAS, done, WRITE[0], WRITE[1]], "nil"));
        assert!(is_linearizable(&[CAS, done, WRITE[0], WRITE[1]], "3"), "it was there at first");
    }

    #[test]
    fn pairs_are_keys_when_all_calls_have_them() {
        let write = |key, value| {
            let of =
                |kind| format!("{{:process 0, :type :{kind}, :f :write, :value [{key} {value}]}}");
            [of("invoke"), of("ok")]
        };
        let read = |key, value| {
            [
                format!("{{:process 1, :type :invoke, :f :read, :value [{key} nil]}}"),
                format!("{{:process 1, :type :ok, :f :read, :value [{key} {value}]}}"),
            ]
        };
        let cas = [
            "{:process 2, :type :invoke, :f :cas, :value [7 [3 4]]}".to_owned(),
            "{:process 2, :type :ok, :f :cas, :value [7 [3 4]]}".to_owned(),
        ];
        let of = |parts: &[[String; 2]]| -> bool {
            let ops: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
            is_linearizable(&ops, "nil")
        };
        assert!(of(&[write(7, 3), write(8, 5), read(7, 3), cas.clone(), read(7, 4), read(8, 5)]));
        assert!(!of(&[write(7, 3), write(8, 5), cas, read(7, 3)]), "key 7 holds 4");
        assert!(!of(&[write(7, 3), write(8, 5), read(8, 3)]), "that is what key 7 holds");
        let text = [write(7, 3), read(7, 3), write(8, 5)].concat().join(" ");
        assert_eq!(read_text(&text).events.iter().map(|event| event.key).max(), Some(1));
    }

    fn read_text(text: &str) -> Recorded {
        super::read(text, "nil").expect("well formed")
    }

    #[test]
    fn a_read_of_nil_tells_nothing() {
        let nil = "{:process 2, :type :ok, :f :read, :value nil}";
        assert!(is_linearizable(&[WRITE[0], WRITE[1], READ, nil], "0"));
    }

    #[test]
    fn what_failed_did_not_happen() {
        let fail = "{:process 1, :type :fail, :f :cas, :value [3 1]}";
        let saw = |value| format!("{{:process 2, :type :ok, :f :read, :value {value}}}");
        assert!(is_linearizable(&[WRITE[0], WRITE[1], CAS, fail, READ, &saw(3)], "nil"));
        assert!(!is_linearizable(&[WRITE[0], WRITE[1], CAS, fail, READ, &saw(1)], "nil"));
    }

    #[test]
    fn what_is_unknown_may_have_happened_and_other_speakers_do_not_count() {
        let info = "{:process 1, :type :info, :f :cas, :value [3 1], :error :timeout, :index 7}";
        let nemesis = "#jepsen.history.Op{:process :nemesis, :type :info, :f :start, :value nil}";
        let saw = |value| format!("{{:process 2, :type :ok, :f :read, :value {value}}}");
        for value in [1, 3] {
            let ops = [WRITE[0], WRITE[1], CAS, nemesis, info, READ, &saw(value)];
            assert!(is_linearizable(&ops, "nil"));
        }
        let back = [WRITE[0], WRITE[1], CAS, info, READ, &saw(1), READ, &saw(3)];
        assert!(!is_linearizable(&back, "nil"));
    }

    #[test]
    fn maps_may_stand_without_a_vector() {
        let recorded = read(&WRITE.join("\n"), "nil").expect("well formed");
        assert_eq!(recorded.events.len(), 1);
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        let cases = [
            ("\n3", "line 2: 3 is no operation: a map is, as {:type :ok ...}"),
            ("[{}", "line 1: an operation has no :process"),
            ("{:process x}", "line 1: x is no process: processes are numbers from 0 on"),
            ("{:process 0 :type 3}", "line 1: an operation has no keyword as its :type"),
            (
                "{:process 0 :type :invoke :f :pop}",
                "line 1: :pop is unknown; :read, :write and :cas are known",
            ),
            (
                "{:process 0 :type :invoke :f :cas :value 3}",
                "line 1: 3 is not [from to], which :cas needs",
            ),
            (
                "{:process 0 :type :ok :f :read}",
                "line 1: process 0 ends an operation that it never began",
            ),
            (
                "{:process 0 :type :invoke :f :read}\n{:process 0 :type :ok :f :write}",
                "line 2: process 0 ends :write, but line 1 began :read",
            ),
            (
                "{:process 0 :type :invoke :f :read}\n{:process 0 :type :no :f :read}",
                "line 2: :no is unknown; :invoke, :ok, :fail and :info are known",
            ),
            ("[\n", "line 2: the history's bracket is never closed"),
            ("[] 3", "line 1: nothing may follow the history's closing bracket"),
        ];
        for (text, expect) in cases {
            let told = read(text, "nil").map_err(|malformed| malformed.to_string());
            assert_eq!(told.err().as_deref(), Some(expect), "{text:?}");
        }
        let told = read("[]", "[").map_err(|malformed| malformed.what);
        let expect = "the initial value \"[\" is no EDN: the text ends where a value is expected";
        assert_eq!(told.err().as_deref(), Some(expect));
    }
}
