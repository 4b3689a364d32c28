//! `check`: judges a history that something else recorded.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use clap::ValueEnum;
use rondo_sim::check::format::{Recorded, jepsen_edn, jepsen_log, kv_edn};
use rondo_sim::check::{self, NEVER, STATES_MAX, Text, Verdict, What};
use rondo_sim::oracle::verdict;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the history is written down.
    #[arg(long, value_enum)]
    format: Format,
    /// What the history is one of; what its format records when absent.
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// What there is at first: nil for registers and the empty text for kv when absent.
    #[arg(long)]
    initial: Option<String>,
    /// The history.
    file: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The log lines of `jepsen.util`.
    JepsenLog,
    /// A vector of Jepsen's operations.
    JepsenEdn,
    /// Gets, puts and appends of texts, one map a line.
    KvEdn,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// Reads and writes.
    Register,
    /// Reads, writes and compare-and-set.
    CasRegister,
    /// Keys with texts: reads, writes and appends.
    Kv,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, String> {
        let recorded = self.recorded()?;
        if self.model() != Model::Kv {
            self.allow(self.model(), &recorded)?;
        }
        // What never ended constrains nothing: such a history would pass whatever the store did.
        if recorded.events.iter().all(|event| event.ended == NEVER) {
            let name = self.file.display();
            return Err(format!("{name} has no operation that ended well: nothing can be judged"));
        }
        let verdict = match self.model() {
            Model::Kv => {
                let model = Text::new(&recorded.values, recorded.initial);
                check::any(&model, &recorded.events, STATES_MAX)
            }
            Model::Register | Model::CasRegister => {
                check::registers(&recorded.events, recorded.initial, STATES_MAX)
            }
        };
        Ok(self.tell(&recorded, &verdict))
    }

    fn recorded(&self) -> Result<Recorded, String> {
        let name = self.file.display();
        let unreadable = |error| format!("{name} cannot be read: {error}");
        let file = File::open(&self.file).map_err(unreadable)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{name} is larger than {FILE_BYTES_MAX} bytes: check it in parts"));
        }
        let initial = |otherwise| self.initial.as_deref().unwrap_or(otherwise);
        let recorded = match self.format {
            Format::JepsenLog => jepsen_log::read(&text, initial("nil")),
            Format::JepsenEdn => jepsen_edn::read(&text, initial("nil")),
            Format::KvEdn => kv_edn::read(&text, initial("")),
        };
        let recorded = recorded.map_err(|malformed| format!("{name}: {malformed}"))?;
        if recorded.events.is_empty() {
            return Err(format!("{name} has no operations in it: is --format right?"));
        }
        Ok(recorded)
    }

    fn model(&self) -> Model {
        self.model.unwrap_or(match self.format {
            Format::JepsenLog | Format::JepsenEdn => Model::CasRegister,
            Format::KvEdn => Model::Kv,
        })
    }

    /// Refuses operations that the model does not have.
    fn allow(&self, model: Model, recorded: &Recorded) -> Result<(), String> {
        let is_foreign = |what: What| match what {
            What::Read(_) | What::Write(_) => false,
            What::Cas { .. } | What::Refused(_) => model == Model::Register,
            What::Append(_) => true,
        };
        match recorded.events.iter().any(|event| is_foreign(event.what)) {
            false => Ok(()),
            true => Err(format!(
                "{} has operations that a register does not: choose --model cas-register or kv",
                self.file.display()
            )),
        }
    }

    fn tell(&self, recorded: &Recorded, verdict: &Verdict) -> u8 {
        let (name, count) = (self.file.display(), recorded.events.len());
        match verdict {
            Verdict::Linearizable => {
                println!("{name}: linearizable, {count} operations");
                0
            }
            Verdict::Not(evidence) => {
                let key = &recorded.keys[evidence.key as usize];
                println!("{name}: not linearizable, {count} operations; {key}: {}", evidence.why);
                for line in recorded.spelt(evidence) {
                    println!("  {line}");
                }
                verdict::Verdict::Safety.exit_code()
            }
            Verdict::Undecided(keys) => {
                let keys: Vec<&str> =
                    keys.iter().map(|&key| recorded.keys[key as usize].as_str()).collect();
                println!("{name}: undecided, the search gave up on {}", keys.join(", "));
                verdict::Verdict::Undecided.exit_code()
            }
        }
    }
}
