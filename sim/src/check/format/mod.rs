//! Histories that others recorded, in three forms of text. Each becomes events and the names they had.
//!
//! Input is foreign: no length in it is trusted, every error names its line, and nothing is guessed.

mod edn;

pub mod jepsen_edn;

pub mod jepsen_log;

pub mod kv_edn;

use std::collections::BTreeMap;
use std::fmt;

use crate::check::Evidence;
use crate::check::history::{Event, Moment, NEVER, Value, What};

/// A history as it was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// What is judged.
    pub events: Vec<Event>,
    /// The text of each value.
    pub values: Vec<String>,
    /// The text of each key.
    pub keys: Vec<String>,
    /// What the keys hold at first.
    pub initial: Value,
    sources: Vec<Source>,
}

/// Where an event was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Source {
    process: u64,
    line: usize,
}

/// Why a history cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong, and what is expected.
    pub what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

type Result<T> = std::result::Result<T, Malformed>;

impl Recorded {
    /// The operations of some evidence, one a line.
    #[must_use]
    pub fn spelt(&self, evidence: &Evidence) -> Vec<String> {
        evidence.operations.iter().map(|&at| self.operation(at)).collect()
    }

    fn operation(&self, at: u32) -> String {
        let (event, source) = (&self.events[at as usize], self.sources[at as usize]);
        let value = |value: Value| self.values[value.0 as usize].as_str();
        let what = match event.what {
            What::Read(seen) => format!("read {:?}", value(seen)),
            What::Write(to) => format!("wrote {:?}", value(to)),
            What::Cas { from, to } => format!("replaced {:?} by {:?}", value(from), value(to)),
            What::Refused(from) => format!("did not find {:?}", value(from)),
            What::Append(tail) => format!("appended {:?}", value(tail)),
        };
        let end = if event.is_unknown() { ", outcome unknown" } else { "" };
        let Source { process, line } = source;
        format!("op {at} (line {line}, process {process}) {what}{end}")
    }
}

/// Texts as small numbers.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, u32>,
    texts: Vec<String>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        number
    }
}

/// Puts calls and ends together. Moments count the lines of the recording, so order is all that they tell.
struct Recorder {
    keys: Names,
    values: Names,
    initial: Value,
    now: Moment,
    events: Vec<Event>,
    sources: Vec<Source>,
    /// What each process has not ended, with its key.
    open: BTreeMap<u64, Open>,
}

#[derive(Clone, Copy)]
struct Open {
    key: u32,
    asked: Asked,
    called: Moment,
    line: usize,
}

/// What a process asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Read,
    Write(Value),
    Cas { from: Value, to: Value },
    Append(Value),
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// A read answered this value.
    Saw(Value),
    /// It was done.
    Done,
    /// A compare-and-set found another value.
    Refused,
    /// It did not happen, or tells nothing.
    Nothing,
    /// It may take effect at any time.
    Unknown,
}

impl Recorder {
    fn new(initial: &str) -> Recorder {
        let (keys, mut values) = (Names::default(), Names::default());
        let initial = Value(values.number(initial));
        let (events, sources, open) = (Vec::new(), Vec::new(), BTreeMap::new());
        Recorder { keys, values, initial, now: 0, events, sources, open }
    }

    fn value(&mut self, text: &str) -> Value {
        Value(self.values.number(text))
    }

    fn call(&mut self, line: usize, process: u64, key: &str, asked: Asked) -> Result<()> {
        self.now += 1;
        let key = self.keys.number(key);
        let open = Open { key, asked, called: self.now, line };
        match self.open.insert(process, open) {
            None => Ok(()),
            Some(other) => Err(Malformed {
                line,
                what: format!(
                    "process {process} begins an operation before the one of line {} ended; a process does \
                     one thing at a time",
                    other.line
                ),
            }),
        }
    }

    /// What a process has not ended.
    fn pending(&self, line: usize, process: u64) -> Result<Open> {
        let what = || format!("process {process} ends an operation that it never began");
        self.open.get(&process).copied().ok_or_else(|| Malformed { line, what: what() })
    }

    fn end(&mut self, line: usize, process: u64, ended: Ended) -> Result<()> {
        let open = self.pending(line, process)?;
        self.open.remove(&process);
        self.now += 1;
        let what = match (open.asked, ended) {
            (_, Ended::Nothing) | (Asked::Read, Ended::Unknown) => return Ok(()),
            (Asked::Read, Ended::Saw(value)) => What::Read(value),
            (Asked::Cas { from, .. }, Ended::Refused) => What::Refused(from),
            (asked, Ended::Done | Ended::Unknown) => effect(asked).ok_or_else(|| Malformed {
                line,
                what: "a read ended without saying what it saw".to_owned(),
            })?,
            (asked, ended) => {
                let what = format!("{asked:?} cannot end as {ended:?}");
                return Err(Malformed { line, what });
            }
        };
        let moment = if ended == Ended::Unknown { NEVER } else { self.now };
        self.push(process, open, moment, what);
        Ok(())
    }

    fn push(&mut self, process: u64, open: Open, ended: Moment, what: What) {
        self.events.push(Event { called: open.called, ended, key: open.key, what });
        self.sources.push(Source { process, line: open.line });
    }

    /// What never ended may take effect at any time.
    fn finish(mut self) -> Recorded {
        for (process, open) in std::mem::take(&mut self.open) {
            if let Some(what) = effect(open.asked) {
                self.push(process, open, NEVER, what);
            }
        }
        Recorded {
            events: self.events,
            values: self.values.texts,
            keys: self.keys.texts,
            initial: self.initial,
            sources: self.sources,
        }
    }
}

/// What an operation does that writes.
const fn effect(asked: Asked) -> Option<What> {
    match asked {
        Asked::Read => None,
        Asked::Write(to) => Some(What::Write(to)),
        Asked::Cas { from, to } => Some(What::Cas { from, to }),
        Asked::Append(tail) => Some(What::Append(tail)),
    }
}
