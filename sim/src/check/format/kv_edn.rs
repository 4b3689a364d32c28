//! Gets, puts and appends of texts by key, one EDN map each:
//!
//! ```text
//! {:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}
//! {:process 9, :type :ok, :f :append, :key "0", :value "x 9 0 y"}
//! ```
//! A get that is `:ok` tells the text it saw. `:fail` did not happen, `:info` is unknown.

use crate::check::format::edn::{Form, Reader};
use crate::check::format::jepsen_edn::{keyword, process};
use crate::check::format::{Asked, Ended, Malformed, Recorded, Recorder, Result};

/// Reads operations; every key holds `initial` at first.
///
/// # Errors
/// When the text is no EDN or no history.
pub fn read(text: &str, initial: &str) -> Result<Recorded> {
    let mut recorder = Recorder::new(initial);
    let mut reader = Reader::new(text);
    while let Some((line, form)) = reader.map()? {
        if let Some(process) = process(line, &form)? {
            enter(&mut recorder, line, process, &form)?;
        }
    }
    Ok(recorder.finish())
}

fn enter(recorder: &mut Recorder, line: usize, process: u64, form: &Form) -> Result<()> {
    let (kind, name) = (keyword(line, form, "type")?, keyword(line, form, "f")?);
    let wrong = |what: String| Malformed { line, what };
    let text = || match form.get("value") {
        Some(Form::Text(text)) => Ok(text.as_str()),
        _ => Err(wrong(format!("the :value of :{kind} :{name} is no text"))),
    };
    let key = form.get("key").map(Form::spelt);
    let key = key.ok_or_else(|| wrong("an operation has no :key".to_owned()))?;
    if kind == "invoke" {
        let asked = match name {
            "get" => Asked::Read,
            "put" => Asked::Write(recorder.value(text()?)),
            "append" => Asked::Append(recorder.value(text()?)),
            _ => {
                return Err(wrong(format!(":{name} is unknown; :get, :put and :append are known")));
            }
        };
        return recorder.call(line, process, &key, asked);
    }
    let open = recorder.pending(line, process)?;
    let is = match open.asked {
        Asked::Read => "get",
        Asked::Write(_) | Asked::Cas { .. } => "put",
        Asked::Append(_) => "append",
    };
    let began = &recorder.keys.texts[open.key as usize];
    if is != name || *began != key {
        let line = open.line;
        let what = format!(
            "process {process} ends :{name} of {key}, but line {line} began :{is} of {began}"
        );
        return Err(wrong(what));
    }
    let ended = match (kind, open.asked) {
        ("ok", Asked::Read) => Ended::Saw(recorder.value(text()?)),
        ("ok", _) => Ended::Done,
        ("fail", _) => Ended::Nothing,
        ("info", _) => Ended::Unknown,
        _ => {
            return Err(wrong(format!(
                ":{kind} is unknown; :invoke, :ok, :fail and :info are known"
            )));
        }
    };
    recorder.end(line, process, ended)
}

#[cfg(test)]
mod tests {
    use crate::check::history::{Event, NEVER, Value, What};

    use super::*;

    #[test]
    fn maps_become_events_by_key() {
        let text = "\
{:process 0, :type :invoke, :f :append, :key \"a\", :value \"x\"}
{:process 1, :type :invoke, :f :get, :key \"b\", :value nil}
{:process 1, :type :ok, :f :get, :key \"b\", :value \"\"}
{:process 0, :type :ok, :f :append, :key \"a\", :value \"x\"}
{:process 1, :type :invoke, :f :put, :key \"b\", :value \"y\"}
";
        let event = |called, ended, key, what| Event { called, ended, key, what };
        let recorded = read(text, "").expect("well formed");
        assert_eq!(
            recorded.events,
            [
                event(2, 3, 1, What::Read(Value(0))),
                event(1, 4, 0, What::Append(Value(1))),
                event(5, NEVER, 1, What::Write(Value(2))),
            ]
        );
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        let begun = "{:process 0 :type :invoke :f :get :key \"a\"}\n";
        let cases = [
            ("{:process 0 :type :invoke :f :get}", "line 1: an operation has no :key"),
            (
                "{:process 0 :type :invoke :f :put :key \"a\"}",
                "line 1: the :value of :invoke :put is no text",
            ),
            (
                "{:process 0 :type :invoke :f :cas :key \"a\"}",
                "line 1: :cas is unknown; :get, :put and :append are known",
            ),
            (
                &format!("{begun}{{:process 0 :type :ok :f :get :key \"b\" :value \"\"}}"),
                "line 2: process 0 ends :get of \"b\", but line 1 began :get of \"a\"",
            ),
            (
                &format!("{begun}{{:process 0 :type :ok :f :get :key \"a\" :value 3}}"),
                "line 2: the :value of :ok :get is no text",
            ),
            (
                &format!("{begun}{{:process 0 :type :so :f :get :key \"a\" :value 3}}"),
                "line 2: :so is unknown; :invoke, :ok, :fail and :info are known",
            ),
        ];
        for (text, expect) in cases {
            let told = read(text, "").map_err(|malformed| malformed.to_string());
            assert_eq!(told.err().as_deref(), Some(expect), "{text:?}");
        }
    }
}
