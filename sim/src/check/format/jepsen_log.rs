//! Jepsen's log of a compare-and-set register:
//!
//! ```text
//! INFO  jepsen.util - 3 :invoke :cas [3 0]
//! INFO  jepsen.util - 3 :ok :cas [3 0]
//! ```
//! `:ok` of a read tells what it saw, `nil` being absence. `:fail` of a compare-and-set is its finding another value; other
//! operations that failed did not happen. `:info` is unknown. Lines of other speakers are not the history's.

use crate::check::format::{Asked, Ended, Malformed, Recorded, Recorder, Result};

const SPEAKER: &str = "jepsen.util - ";
const KEY: &str = "register";

/// Reads a log.
///
/// # Errors
/// When a line of the history is malformed.
pub fn read(text: &str, initial: &str) -> Result<Recorded> {
    let mut recorder = Recorder::new(initial);
    for (line, text) in (1..).zip(text.lines()) {
        let Some((_, entry)) = text.split_once(SPEAKER) else {
            continue;
        };
        let mut fields = entry.split_whitespace();
        let Some(process) = fields.next().and_then(|field| field.parse().ok()) else {
            continue;
        };
        let (Some(kind), Some(name)) = (fields.next(), fields.next()) else {
            let what =
                "after the process, :invoke, :ok, :fail or :info and an operation are expected";
            return Err(Malformed { line, what: what.to_owned() });
        };
        let argument = fields.collect::<Vec<_>>().join(" ");
        enter(&mut recorder, line, process, [kind, name, &argument])?;
    }
    Ok(recorder.finish())
}

fn enter(
    recorder: &mut Recorder,
    line: usize,
    process: u64,
    [kind, name, argument]: [&str; 3],
) -> Result<()> {
    if kind == ":invoke" {
        let asked = asked(recorder, line, name, argument)?;
        return recorder.call(line, process, KEY, asked);
    }
    let open = recorder.pending(line, process)?;
    let is = match open.asked {
        Asked::Read => ":read",
        Asked::Write(_) => ":write",
        Asked::Cas { .. } => ":cas",
        Asked::Append(_) => ":append",
    };
    if is != name {
        let what = format!("process {process} ends {name}, but line {} began {is}", open.line);
        return Err(Malformed { line, what });
    }
    let ended = match (kind, open.asked) {
        (":ok", Asked::Read) if argument.is_empty() => {
            let what = "a read that is :ok tells what it saw".to_owned();
            return Err(Malformed { line, what });
        }
        (":ok", Asked::Read) => Ended::Saw(recorder.value(argument)),
        (":ok", _) => Ended::Done,
        (":fail", Asked::Cas { .. }) if argument != ":timed-out" => Ended::Refused,
        (":fail", Asked::Read) => Ended::Nothing,
        (":fail", _) if argument == ":timed-out" => Ended::Unknown,
        (":fail", _) => Ended::Nothing,
        (":info", _) => Ended::Unknown,
        _ => {
            let what = format!("{kind} is unknown; :invoke, :ok, :fail and :info are known");
            return Err(Malformed { line, what });
        }
    };
    recorder.end(line, process, ended)
}

fn asked(recorder: &mut Recorder, line: usize, name: &str, argument: &str) -> Result<Asked> {
    let wrong = |what: String| Malformed { line, what };
    match name {
        ":read" => Ok(Asked::Read),
        ":write" if !argument.is_empty() => Ok(Asked::Write(recorder.value(argument))),
        ":write" => Err(wrong(":write needs a value".to_owned())),
        ":cas" => {
            let pair = argument.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let pair = pair.map(|pair| pair.split_whitespace().collect::<Vec<_>>());
            let Some(&[from, to]) = pair.as_deref() else {
                return Err(wrong(format!("{argument:?} is not [from to], which :cas needs")));
            };
            Ok(Asked::Cas { from: recorder.value(from), to: recorder.value(to) })
        }
        _ => Err(wrong(format!("{name} is unknown; :read, :write and :cas are known"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::check::history::{Event, NEVER, Value, What};

    use super::*;

    #[test]
    fn a_log_becomes_events() {
        let log = "\
INFO  jepsen.core - Everything set up
INFO  jepsen.util - 0	:invoke	:write	4
INFO  jepsen.util - 1	:invoke	:cas	[4 5]
INFO  jepsen.util - 0	:info	:write	:timed-out
INFO  jepsen.util - 1	:fail	:cas	[4 5]
INFO  jepsen.util - 2	:invoke	:read	nil
INFO  jepsen.util - 2	:ok	:read	nil
INFO  jepsen.util - 3	:invoke	:read	nil
INFO  jepsen.util - 3	:fail	:read	:timed-out
INFO  jepsen.util - 4	:invoke	:cas	[4 nil]
";
        let recorded = read(log, "nil").expect("well formed");
        let [nil, four] = [Value(0), Value(1)];
        let event = |called, ended, what| Event { called, ended, key: 0, what };
        assert_eq!(
            recorded.events,
            [
                event(1, NEVER, What::Write(four)),
                event(2, 4, What::Refused(four)),
                event(5, 6, What::Read(nil)),
                event(9, NEVER, What::Cas { from: four, to: nil }),
            ]
        );
        assert_eq!(recorded.values, ["nil", "4", "5"]);
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        let cases = [
            ("0 :ok :read 3", "line 1: process 0 ends an operation that it never began"),
            ("0 :invoke :cas 3", "line 1: \"3\" is not [from to], which :cas needs"),
            ("0 :invoke :write", "line 1: :write needs a value"),
            ("0 :invoke :pop 3", "line 1: :pop is unknown; :read, :write and :cas are known"),
            (
                "0 :invoke",
                "line 1: after the process, :invoke, :ok, :fail or :info and an operation are expected",
            ),
        ];
        for (entry, expect) in cases {
            let told = read(&format!("INFO  {SPEAKER}{entry}\n"), "nil").map_err(|e| e.to_string());
            assert_eq!(told.err().as_deref(), Some(expect));
        }
        let begun = format!("INFO  {SPEAKER}0 :invoke :read nil\nINFO  {SPEAKER}");
        let cases = [
            (
                "0 :invoke :read nil",
                "line 2: process 0 begins an operation before the one of line 1 ended; a process does \
                 one thing at a time",
            ),
            ("0 :ok :write 3", "line 2: process 0 ends :write, but line 1 began :read"),
            ("0 :ok :read", "line 2: a read that is :ok tells what it saw"),
            (
                "0 :maybe :read 3",
                "line 2: :maybe is unknown; :invoke, :ok, :fail and :info are known",
            ),
        ];
        for (entry, expect) in cases {
            let told = read(&format!("{begun}{entry}\n"), "nil").map_err(|e| e.to_string());
            assert_eq!(told.err().as_deref(), Some(expect));
        }
    }
}
