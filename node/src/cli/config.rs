//! `rondo config`: what a node would start with, and where each value came from.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::table::{table, text};
use crate::cli::{Output, print, settings};
use crate::failure::Result;
use crate::settings::Settings;
use crate::settings::flags::Flags;
use crate::settings::sources::Texts;

/// The settings of a node.
#[derive(Subcommand, Debug)]
pub enum Config {
    /// Print every setting
    Show(Show),
    /// Say whether a node would start with these settings
    Check(Flags),
}

/// `rondo config show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Also print where each value came from
    #[arg(long)]
    origin: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

/// Runs it.
pub fn run(command: Config) -> Result<()> {
    match command {
        Config::Show(command) => {
            let texts = settings(&command.flags)?;
            for warning in &texts.warnings {
                eprintln!("warning: {warning}");
            }
            match command.output {
                Output::Table => print(&show(&texts, command.origin)),
                Output::Json => print(&show_json(&texts, command.origin).to_string()),
            }
        }
        Config::Check(flags) => {
            let checked = Settings::check(&settings(&flags)?)?;
            for warning in &checked.warnings {
                eprintln!("warning: {warning}");
            }
            print("OK")
        }
    }
}

fn show(texts: &Texts, origin: bool) -> String {
    let mut rows =
        table(if origin { &["SETTING", "VALUE", "ORIGIN"] } else { &["SETTING", "VALUE"] });
    for (name, value) in texts.all() {
        let (value, from) = match value {
            Some((value, from)) => (value.as_str(), from.to_string()),
            None => ("-", "-".to_owned()),
        };
        let value = if value.is_empty() { "-" } else { value };
        if origin {
            rows.add_row([name, value, &from]);
        } else {
            rows.add_row([name, value]);
        }
    }
    text(&rows)
}

fn show_json(texts: &Texts, origin: bool) -> Value {
    let all = texts.all().map(|(name, value)| {
        let shown = match value {
            Some((value, from)) if origin => json!({ "value": value, "origin": from.to_string() }),
            Some((value, _)) => json!(value),
            None => Value::Null,
        };
        (name.to_owned(), shown)
    });
    Value::Object(all.collect::<Map<_, _>>())
}
